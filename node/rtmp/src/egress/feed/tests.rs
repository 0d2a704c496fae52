use std::time::Duration;

use sluice_media::ring::{Cursor, Peek};
use sluice_media::{Hub, Origin, Publisher, StreamSettings};

use super::*;
use crate::chunk::{Limits, Message, Reader as ChunkReader};
use crate::flv::{Audio, Video, parse_audio, parse_video};
use crate::ingest::Ingest;

fn publisher() -> (Publisher, Arc<Stream>) {
    let hub = Hub::new(Duration::from_secs(10));
    let key = StreamKey::new("LiveApp", "cam");
    let publisher = hub.publish(key, Origin::default(), StreamSettings::default()).unwrap();
    let stream = publisher.stream().clone();
    (publisher, stream)
}

fn config(profile: u8) -> Bytes {
    Bytes::copy_from_slice(&[0x17, 0, 0, 0, 0, 1, profile, 0, 0x1f, 0xff, 0xe0, 0])
}

fn picture(key: bool, fill: u8) -> Bytes {
    Bytes::copy_from_slice(&[if key { 0x17 } else { 0x27 }, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, fill])
}

fn aac() -> Bytes {
    Bytes::from_static(b"\xaf\0\x11\x90")
}

fn sound() -> Bytes {
    Bytes::from_static(b"\xaf\x01sound")
}

fn messages(reader: &mut ChunkReader, bytes: &Bytes) -> Vec<Message> {
    let mut input = BytesMut::from(&bytes[..]);
    let messages = std::iter::from_fn(|| reader.read(&mut input).unwrap()).collect();
    assert!(input.is_empty(), "whole messages");
    messages
}

/// What a player that stays for all of it is sent, in short.
async fn played(feed: &Feed) -> Vec<String> {
    tokio::time::sleep(Duration::from_millis(150)).await;
    let mut cursor = Cursor::newest(&feed.ring, Duration::from_secs(5));
    let mut reader = ChunkReader::new(Limits::default());
    let mut set_size = BytesMut::new();
    crate::message::Writer::default().set_chunk_size(&mut set_size, OUR_CHUNK_SIZE);
    assert_eq!(reader.read(&mut set_size).unwrap(), None);
    let (mut first, mut lines) = (true, Vec::new());
    loop {
        let bytes = match cursor.peek(&feed.ring) {
            Peek::Group(g) => {
                if first || g.head.changed {
                    g.head.prologue.clone()
                } else {
                    Bytes::new()
                }
            }
            Peek::Item(batch) => batch.bytes.clone(),
            _ => return lines,
        };
        first = false;
        cursor.advance();
        for m in messages(&mut reader, &bytes) {
            assert_eq!(m.stream_id, STREAM_ID);
            lines.push(match m.type_id {
                kind::VIDEO => match parse_video(m.payload).unwrap() {
                    Video::Config { record, .. } => format!("{} video config {}", m.timestamp, record[1]),
                    Video::Frame { keyframe: true, payload, .. } => {
                        format!("{} key {}", m.timestamp, payload[5])
                    }
                    Video::Frame { payload, .. } => format!("{} picture {}", m.timestamp, payload[5]),
                    other => panic!("{other:?}"),
                },
                kind::AUDIO => match parse_audio(m.payload).unwrap() {
                    Audio::Config { .. } => format!("{} audio config", m.timestamp),
                    _ => format!("{} sound", m.timestamp),
                },
                _ => format!("{} metadata", m.timestamp),
            });
        }
    }
}

#[tokio::test]
async fn newcomers_get_headers_with_the_time_of_their_first_frame() {
    let (publisher, stream) = publisher();
    let mut ingest = Ingest::new(publisher);
    ingest.video(0, config(66)).unwrap();
    ingest.audio(0, aac()).unwrap();
    for (i, key) in [(0, true), (1, false), (2, true), (3, false)] {
        ingest.video(500 + i * 40, picture(key, i as u8)).unwrap();
        ingest.audio(510 + i * 40, sound()).unwrap();
    }
    ingest.flush();
    let feeds = Feeds::default();
    let feed = feeds.join(&stream);
    assert!(Arc::ptr_eq(&feed, &feeds.join(&stream)), "one feed for all players");
    let want = [
        "0 metadata",
        "80 video config 66",
        "80 audio config",
        "80 key 2",
        "90 sound",
        "120 picture 3",
        "130 sound",
    ];
    assert_eq!(played(&feed).await, want);
}

#[tokio::test]
async fn a_new_configuration_goes_to_those_who_are_there() {
    let (publisher, stream) = publisher();
    let mut ingest = Ingest::new(publisher);
    ingest.video(0, config(66)).unwrap();
    ingest.video(0, picture(true, 0)).unwrap();
    ingest.flush();
    let feed = Feeds::default().join(&stream);
    assert_eq!(played(&feed).await, ["0 metadata", "0 video config 66", "0 key 0"]);
    let mut cursor = Cursor::newest(&feed.ring, Duration::from_secs(5));
    cursor.advance();
    cursor.advance();
    assert!(matches!(cursor.peek(&feed.ring), Peek::Nothing));
    ingest.video(40, config(100)).unwrap();
    ingest.video(40, picture(true, 1)).unwrap();
    ingest.video(80, picture(false, 2)).unwrap();
    ingest.video(120, picture(true, 3)).unwrap();
    ingest.flush();
    tokio::time::sleep(Duration::from_millis(150)).await;
    let mut changed = Vec::new();
    loop {
        match cursor.peek(&feed.ring) {
            Peek::Group(g) => changed.push(g.head.changed),
            Peek::Item(_) => {}
            _ => break,
        }
        cursor.advance();
    }
    assert_eq!(changed, [true, false], "once");
    assert_eq!(played(&feed).await, ["0 metadata", "120 video config 100", "120 key 3"]);
}

#[tokio::test]
async fn of_several_renditions_the_first_is_played() {
    let (mut publisher, stream) = publisher();
    let config = |profile: u8| {
        let record = Bytes::copy_from_slice(&[1, profile, 0, 0x1f, 0xff, 0xe0, 0]);
        sluice_media::TrackConfig::Video(sluice_media::VideoConfig::h264(record).unwrap())
    };
    publisher.add_track(config(100));
    publisher.add_track(config(66));
    let frame = |ms: i64, fill: u8| {
        let t = Timestamp::from_millis(ms);
        let payload = Bytes::copy_from_slice(&[0, 0, 0, 2, 0x65, fill]);
        sluice_media::Frame { dts: t, pts: t, keyframe: fill < 9, payload }
    };
    // The small one comes first, and goes on when the other has gone.
    for (track, ms, fill) in [(1, 0, 1), (0, 0, 0), (1, 40, 10), (0, 40, 9), (1, 2000, 1), (1, 2040, 10)] {
        publisher.write(track, frame(ms, fill)).unwrap();
    }
    publisher.flush();
    let feed = Feeds::default().join(&stream);
    assert_eq!(played(&feed).await, ["0 metadata", "0 video config 100", "0 key 0", "40 picture 9"]);
}

#[tokio::test]
async fn sound_alone_makes_groups_too_and_the_end_is_told() {
    let (publisher, stream) = publisher();
    let mut ingest = Ingest::new(publisher);
    ingest.metadata(vec![("audiocodecid".into(), 10.0.into())]);
    ingest.audio(0, aac()).unwrap();
    for i in 0..300 {
        ingest.audio(i * 21, sound()).unwrap();
    }
    ingest.flush();
    let feed = Feeds::default().join(&stream);
    let lines = played(&feed).await;
    assert!(lines[0].ends_with("metadata") && lines[1].ends_with("audio config"), "{lines:?}");
    assert!(lines[2..].iter().all(|l| l.ends_with("sound")), "{lines:?}");
    ingest.finish();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(feed.ring.is_ended());
}

#[tokio::test]
async fn a_feed_ends_with_its_last_player() {
    let (publisher, stream) = publisher();
    let mut ingest = Ingest::new(publisher);
    ingest.video(0, config(66)).unwrap();
    ingest.video(0, picture(true, 0)).unwrap();
    let feeds = Feeds::default();
    let first = feeds.join(&stream);
    let ring = Arc::downgrade(&first.ring);
    drop(first);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(ring.upgrade().is_none(), "its task and its memory are gone");
    let _next = feeds.join(&stream);
}

#[tokio::test]
async fn one_kind_alone_can_be_had() {
    let (publisher, stream) = publisher();
    let mut ingest = Ingest::new(publisher);
    ingest.video(0, config(66)).unwrap();
    ingest.audio(0, aac()).unwrap();
    ingest.video(0, picture(true, 0)).unwrap();
    ingest.audio(10, sound()).unwrap();
    ingest.video(40, picture(false, 1)).unwrap();
    ingest.flush();
    let feed = Feeds::default().join(&stream);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let group = feed.ring.newest(|_| true).unwrap();
    assert_eq!(group.len(), 1, "what comes together is one batch");
    let batch = group.get(0).unwrap();
    let lengths = |audio, video| batch.only(audio, video).map(|b| b.len()).collect::<Vec<_>>();
    assert_eq!(lengths(true, true).iter().sum::<usize>(), batch.bytes.len());
    let kinds = |audio, video| {
        let mut reader = ChunkReader::new(Limits::default());
        let all: Vec<_> = batch.only(audio, video).flat_map(|b| messages(&mut reader, &b)).collect();
        all.iter().map(|m| m.type_id).collect::<Vec<_>>()
    };
    assert_eq!(kinds(true, false), [kind::AUDIO]);
    assert_eq!(kinds(false, true), [kind::VIDEO, kind::VIDEO]);
    assert_eq!(kinds(true, true), [kind::VIDEO, kind::AUDIO, kind::VIDEO]);
}
