use std::sync::Arc;
use std::time::Duration;

use sluice_media::{Event, Hub, Origin, Start, Stream, StreamKey, StreamSettings};

use super::*;

const AVCC_2_BYTES: &[u8] = b"\x17\0\0\0\0\x01\x42\xc0\x1f\xfd\xe0\0";
const AAC: &[u8] = b"\xaf\0\x11\x90";

fn ingest() -> (Ingest, Arc<Stream>) {
    let hub = Hub::new(Duration::from_secs(10));
    let key = StreamKey::new("LiveApp", "cam");
    let publisher = hub.publish(key, Origin::default(), StreamSettings::default()).unwrap();
    let stream = publisher.stream().clone();
    (Ingest::new(publisher), stream)
}

fn bytes(data: &[u8]) -> Bytes {
    Bytes::copy_from_slice(data)
}

/// Frames by the codec string of their track.
fn frames(stream: &Arc<Stream>) -> Vec<(String, Frame)> {
    let mut reader = stream.subscribe(Start::Oldest, Duration::from_secs(3600));
    let (mut names, mut frames) = (std::collections::HashMap::new(), Vec::new());
    while let Some(event) = reader.try_next() {
        match event {
            Event::Group { track, group } => {
                names.insert(track, group.head.config.codec_string().to_owned());
            }
            Event::Frame { track, frame } => frames.push((names[&track].clone(), frame)),
            Event::Skipped { .. } | Event::End => break,
        }
    }
    frames
}

#[tokio::test]
async fn classic_messages_become_frames() {
    let (mut ingest, stream) = ingest();
    ingest.metadata(vec![("width".into(), 640.0.into()), ("nested".into(), Value::Object(vec![]))]);
    assert_eq!(stream.metadata().len(), 1);
    ingest.video(0, bytes(AVCC_2_BYTES)).unwrap();
    ingest.audio(0, bytes(AAC)).unwrap();
    // Two NAL units behind lengths of two bytes, shown 80 ms after they are decoded.
    ingest.video(1000, bytes(b"\x17\x01\0\0\x50\0\x02\x09\xf0\0\x03\x65ab")).unwrap();
    ingest.audio(1010, bytes(b"\xaf\x01sound")).unwrap();
    ingest.video(1040, bytes(b"\x27\x01\0\0\0\0\x03\x41cd")).unwrap();
    ingest.flush();
    let got = frames(&stream);
    assert_eq!(got.len(), 3);
    let (name, key) = &got[0];
    assert_eq!(name, "avc1.42c01f");
    assert_eq!(&key.payload[..], b"\0\0\0\x02\x09\xf0\0\0\0\x03\x65ab");
    assert!(key.keyframe && !got[2].1.keyframe);
    assert_eq!(key.pts - key.dts, 80_000);
    assert_eq!((got[1].0.as_str(), &got[1].1.payload[..]), ("mp4a.40.2", &b"sound"[..]));
    assert_eq!(got[1].1.dts - key.dts, 10_000);
    assert_eq!(got[2].1.dts - key.dts, 40_000);
}

#[tokio::test]
async fn the_clock_wraps_for_both_tracks_at_once() {
    let (mut ingest, stream) = ingest();
    ingest.video(0, bytes(AVCC_2_BYTES)).unwrap();
    ingest.audio(0, bytes(AAC)).unwrap();
    let start = u32::MAX - 99;
    for i in 0..10u32 {
        let first = if i == 0 { 0x17 } else { 0x27 };
        ingest.video(start.wrapping_add(i * 40), bytes(&[first, 1, 0, 0, 0, 0, 2, 0x65, 1])).unwrap();
        // The audio is ahead, so it wraps first.
        ingest.audio(start.wrapping_add(i * 40 + 15), bytes(b"\xaf\x01x")).unwrap();
    }
    let got = frames(&stream);
    let origin = got[0].1.dts;
    let times: Vec<_> = got.iter().map(|(_, f)| (f.dts - origin) / 1000).collect();
    let want: Vec<i64> = (0..10).flat_map(|i| [i * 40, i * 40 + 15]).collect();
    assert_eq!(times, want);
}

#[tokio::test]
async fn enhanced_messages_become_frames() {
    let (mut ingest, stream) = ingest();
    let mut hvcc = b"\x90hvc1".to_vec();
    hvcc.extend_from_slice(&[
        1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, 0,
    ]);
    ingest.video(0, hvcc.into()).unwrap();
    let head = b"\x90OpusOpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
    ingest.audio(0, bytes(head)).unwrap();
    ingest.video(0, bytes(b"\x91hvc1\0\0\x28\0\0\0\x03\x26\x01x")).unwrap();
    ingest.audio(20, bytes(b"\x91Opus\xfcsound")).unwrap();
    ingest.video(40, bytes(b"\xa3hvc1\0\0\0\x03\x02\x01x")).unwrap();
    let got = frames(&stream);
    assert_eq!(got.iter().map(|(n, _)| &n[..4]).collect::<Vec<_>>(), ["hvc1", "opus", "hvc1"]);
    assert_eq!(got[0].1.pts - got[0].1.dts, 40_000);
    assert_eq!(&got[1].1.payload[..], b"\xfcsound");
}

#[tokio::test]
async fn hevc_by_its_old_codec_id() {
    let (mut ingest, stream) = ingest();
    let mut hvcc = b"\x1c\0\0\0\0".to_vec();
    hvcc.extend_from_slice(&[
        1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, 0,
    ]);
    ingest.video(0, hvcc.into()).unwrap();
    ingest.video(0, bytes(b"\x1c\x01\0\0\0\0\0\0\x03\x26\x01x")).unwrap();
    assert_eq!(frames(&stream).len(), 1);
}

#[tokio::test]
async fn vp8_and_mp3_tell_what_they_are_in_their_frames() {
    let (mut ingest, stream) = ingest();
    // 322 x 182.
    let key = b"\x91vp08\x10\0\0\x9d\x01\x2a\x42\x01\xb6\0rest";
    ingest.video(0, bytes(b"\xa1vp08\x11\0\0before")).unwrap();
    ingest.video(40, bytes(key)).unwrap();
    ingest.audio(40, bytes(b"\x2f\xff\xfb\x90\x44frame")).unwrap();
    ingest.audio(66, bytes(b"\x2f\xff\xfb\x92\x44padded")).unwrap();
    let configs = stream.configs();
    assert!(matches!(&*configs[0], TrackConfig::Video(v) if (v.width, v.height) == (322, 182)));
    assert!(matches!(&*configs[1], TrackConfig::Audio(a) if a.sample_rate == 44_100));
    assert_eq!(stream.stats().frames_dropped.load(Relaxed), 1, "the picture before the keyframe");
    let before = stream.tracks()[1].config();
    // A bit rate and a padding bit that change are no change of the configuration; a sampling rate is.
    assert!(Arc::ptr_eq(&before, &stream.tracks()[1].config()));
    ingest.audio(92, bytes(b"\x2f\xff\xfb\x94\x44other")).unwrap();
    assert!(matches!(&*stream.tracks()[1].config(), TrackConfig::Audio(a) if a.sample_rate == 48_000));
}

#[tokio::test]
async fn a_configuration_again_is_no_change_and_another_is() {
    let (mut ingest, stream) = ingest();
    ingest.video(0, bytes(AVCC_2_BYTES)).unwrap();
    ingest.video(0, bytes(b"\x17\x01\0\0\0\0\x02\x65a")).unwrap();
    let before = stream.tracks()[0].config();
    ingest.video(20, bytes(AVCC_2_BYTES)).unwrap();
    assert!(Arc::ptr_eq(&before, &stream.tracks()[0].config()));
    // Another profile, and lengths of four bytes from now on.
    ingest.video(40, bytes(b"\x17\0\0\0\0\x01\x64\0\x28\xff\xe0\0")).unwrap();
    ingest.video(40, bytes(b"\x17\x01\0\0\0\0\0\0\x02\x65b")).unwrap();
    let got = frames(&stream);
    assert_eq!(got.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["avc1.42c01f", "avc1.640028"]);
    assert_eq!(stream.tracks().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_used() {
    let (mut ingest, stream) = ingest();
    assert!(matches!(ingest.video(0, bytes(b"\x22h263")), Err(Error::Codec(_))));
    assert!(matches!(ingest.audio(0, bytes(b"\xb2speex")), Err(Error::Codec(_))));
    assert!(matches!(ingest.video(0, bytes(b"\x17\0\0\0\0\x07bad")), Err(Error::Config(_))));
    // Before the sequence header, and with lengths that do not fit: left out, not fatal.
    ingest.video(0, bytes(b"\x17\x01\0\0\0\0\0\0\x01\x65")).unwrap();
    ingest.video(0, bytes(AVCC_2_BYTES)).unwrap();
    ingest.video(0, bytes(b"\x17\x01\0\0\0\xff\xff\x65")).unwrap();
    assert_eq!(stream.stats().frames_dropped.load(Relaxed), 2);
    ingest.finish();
    assert!(stream.is_ended());
}
