//! A stream that another node owns, mirrored: what readers see here is what they see there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluice_media::stream::StopReason;
use sluice_media::{
    AudioCodec, AudioConfig, Event, Frame, Hub, Mirror, Origin, PublishError, Publisher, Reader, Stamp,
    Start, Stream, StreamKey, StreamSettings, Timestamp, TrackConfig, VideoCodec, VideoConfig,
};

const NO_LAG: Duration = Duration::MAX;

fn tracks() -> [TrackConfig; 2] {
    let video = VideoConfig {
        codec: VideoCodec::H264,
        record: Bytes::from_static(b"avcC"),
        width: 640,
        height: 360,
        codec_string: "avc1.42c01f".into(),
    };
    let audio = AudioConfig {
        codec: AudioCodec::Aac,
        record: Bytes::from_static(b"asc"),
        sample_rate: 48_000,
        channels: 2,
        codec_string: "mp4a.40.2".into(),
    };
    [TrackConfig::Video(video), TrackConfig::Audio(audio)]
}

fn key() -> StreamKey {
    StreamKey::new("LiveApp", "cam1")
}

fn hub() -> Arc<Hub> {
    Hub::new(Duration::from_secs(10))
}

fn publish(hub: &Arc<Hub>, origin: Origin) -> Publisher {
    let mut p = hub.publish(key(), origin, StreamSettings::default()).expect("nobody publishes it");
    assert_eq!(tracks().map(|t| p.add_track(t)), [Some(0), Some(1)]);
    p
}

fn origin(epoch: u64) -> Origin {
    Origin { epoch, media_sequence: 50, ..Origin::default() }
}

/// 25 fps with a keyframe each second, and audio frames of 20 ms. Every payload is its own.
fn send(p: &mut Publisher, from_ms: i64, to_ms: i64) {
    for ms in (from_ms..to_ms).step_by(20) {
        let t = Timestamp::from_millis(ms);
        let frame = |keyframe, text: String| Frame { dts: t, pts: t, keyframe, payload: text.into() };
        if ms % 40 == 0 {
            p.write(0, frame(ms % 1000 == 0, format!("v{ms}"))).expect("live");
        }
        p.write(1, frame(true, format!("a{ms}"))).expect("live");
    }
    p.flush();
}

#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Group(u8, Stamp, bool),
    Frame(u8, Frame),
    End,
}

fn drain(r: &mut Reader) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(e) = r.try_next() {
        seen.push(match e {
            Event::Group { track, group } => {
                Seen::Group(track, (*group.head.stamp).clone(), group.head.independent)
            }
            Event::Frame { track, frame } => Seen::Frame(track, frame),
            Event::Skipped { groups } => panic!("skipped {groups}"),
            Event::End => {
                seen.push(Seen::End);
                break;
            }
        });
    }
    seen
}

fn all(stream: &Arc<Stream>) -> Vec<Seen> {
    drain(&mut stream.subscribe(Start::Oldest, NO_LAG))
}

/// Hands everything on that `reader` sees, as a relay does.
fn carry(reader: &mut Reader, mirror: &mut Mirror) {
    let mut at = std::collections::HashMap::new();
    while let Some(event) = reader.try_next() {
        match event {
            Event::Group { track, group } => {
                mirror.begin(track, group.head.clone());
                at.insert(track, (group, 0));
            }
            Event::Frame { track, .. } => {
                let (group, index) = at.get_mut(&track).expect("a group came first");
                mirror.push(track, group.get(*index).expect("it was seen").clone());
                *index += 1;
            }
            Event::Skipped { .. } | Event::End => {}
        }
    }
    mirror.flush();
}

fn mirror(hub: &Arc<Hub>) -> Mirror {
    let mut m = hub.mirror(key(), origin(1), StreamSettings::default()).expect("nobody writes it");
    m.resumed();
    assert_eq!(tracks().map(|t| m.add_track(t)), [Some(0), Some(1)]);
    m
}

#[tokio::test]
async fn a_mirror_has_what_the_owner_has() {
    let (there, here) = (hub(), hub());
    let mut p = publish(&there, origin(1));
    let mut m = mirror(&here);
    let mut reader = p.stream().subscribe(Start::Oldest, NO_LAG);
    for s in 0..5 {
        send(&mut p, s * 1000, s * 1000 + 1000);
        carry(&mut reader, &mut m);
    }
    assert!(m.stream().is_relayed() && !p.stream().is_relayed());
    let (owned, mirrored) = (all(p.stream()), all(m.stream()));
    assert!(owned.len() > 300);
    assert_eq!(owned, mirrored);
    let positions = m.positions();
    assert_eq!(positions.len(), 2);
    assert!(positions[0].video && !positions[1].video && positions[0].frames == 25);
    m.finish();
    assert!(here.get(&key()).is_none());
}

#[tokio::test]
async fn older_groups_come_later_and_stand_before() {
    let (there, here) = (hub(), hub());
    let mut p = publish(&there, origin(1));
    send(&mut p, 0, 6000);
    let mut m = mirror(&here);
    let mut newest = p.stream().subscribe(Start::Newest, NO_LAG);
    carry(&mut newest, &mut m);
    let early = all(m.stream());
    assert!(matches!(&early[0], Seen::Group(0, stamp, true) if stamp.group == 5));
    for track in p.stream().tracks() {
        // Newest first: what does not fit before the oldest is refused.
        for number in (0..6).rev() {
            let group = track.ring.oldest(|h| h.stamp.group == number).expect("it is kept");
            let frames = (0..group.len()).filter_map(|i| group.get(i).cloned()).collect();
            assert_eq!(m.backfill(track.id, group.head.clone(), frames), number < 5);
        }
    }
    let waited = tokio::time::timeout(Duration::from_millis(20), m.stream().wait_backfilled(NO_LAG)).await;
    assert!(waited.is_err(), "packagers wait for the older part");
    m.backfilled();
    m.stream().wait_backfilled(NO_LAG).await;
    send(&mut p, 6000, 7000);
    carry(&mut newest, &mut m);
    assert_eq!(all(p.stream()), all(m.stream()));
}

#[tokio::test]
async fn a_lower_epoch_is_fenced_and_a_higher_one_goes_on() {
    let here = hub();
    let (old, new) = (hub(), hub());
    let mut a = publish(&old, origin(1));
    send(&mut a, 0, 3000);
    let mut m = mirror(&here);
    let mut from_a = a.stream().subscribe(Start::Oldest, NO_LAG);
    carry(&mut from_a, &mut m);
    let mut viewer = m.stream().subscribe(Start::Oldest, NO_LAG);
    let first = drain(&mut viewer).len();

    let after = Origin { epoch: 2, media_sequence: 60, timeline: Timestamp::from_millis(4000), ..origin(2) };
    let mut b = publish(&new, after);
    send(&mut b, 0, 2000);
    m.resumed();
    assert_eq!(tracks().map(|t| m.add_track(t)), [Some(0), Some(1)]);
    carry(&mut b.stream().subscribe(Start::Oldest, NO_LAG), &mut m);
    let second = drain(&mut viewer);
    assert_eq!(second, all(b.stream()), "the viewer goes on with what the new owner has");
    assert!(matches!(&second[0], Seen::Group(_, s, _) if s.epoch == 2 && s.media_sequence == 60));

    // The old owner does not know yet.
    send(&mut a, 3000, 5000);
    m.resumed();
    assert_eq!(tracks().map(|t| m.add_track(t)), [Some(0), Some(1)]);
    carry(&mut from_a, &mut m);
    assert_eq!(drain(&mut viewer), []);
    assert_eq!(all(m.stream()).len(), first + second.len());
    assert_eq!(m.epoch(), 2);
}

#[tokio::test]
async fn a_publisher_goes_on_with_a_mirrored_stream_and_a_mirror_with_a_published_one() {
    let (there, here) = (hub(), hub());
    let mut a = publish(&there, origin(1));
    send(&mut a, 0, 2000);
    let mut m = mirror(&here);
    carry(&mut a.stream().subscribe(Start::Oldest, NO_LAG), &mut m);
    let stream = m.stream().clone();
    let mut viewer = stream.subscribe(Start::Oldest, NO_LAG);
    drain(&mut viewer);
    assert_eq!(here.succeed(&key(), origin(2)).unwrap_err(), PublishError::InUse);
    let asked = m.stop_requested();
    stream.displace();
    assert_eq!(asked.await, StopReason::TakenOver);
    drop(m);

    let after = Origin { epoch: 2, media_sequence: 53, timeline: Timestamp::from_millis(2020), ..origin(2) };
    let mut b = here.succeed(&key(), after).expect("the mirror has left");
    assert!(!stream.is_relayed() && Arc::ptr_eq(b.stream(), &stream));
    assert_eq!(tracks().map(|t| b.add_track(t)), [Some(0), Some(1)]);
    send(&mut b, 70_000, 71_500);
    let seen = drain(&mut viewer);
    let Seen::Group(0, stamp, true) = &seen[0] else { panic!("{:?}", seen[0]) };
    assert_eq!((stamp.epoch, stamp.media_sequence), (2, 53));
    assert_eq!(stamp.start, Timestamp::from_millis(2020), "the timeline goes on");
    assert_eq!(stream.tracks().len(), 2, "no new tracks");

    // And back: the publisher moved to the other node.
    let asked = b.stop_requested();
    stream.displace_to("there");
    assert_eq!(asked.await, StopReason::Moved { to: "there".into() });
    b.finish();
    assert!(!stream.is_ended(), "those who watch stay");
    let m = mirror(&here);
    assert!(Arc::ptr_eq(m.stream(), &stream) && stream.is_relayed());
    assert_eq!(stream.readers(), 1);
    drop(viewer);
    assert_eq!(stream.readers(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_takes_up_ends() {
    let here = hub();
    let m = mirror(&here);
    let stream = m.stream().clone();
    drop(m);
    assert!(!stream.is_ended());
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(stream.is_ended() && here.is_empty());
}
