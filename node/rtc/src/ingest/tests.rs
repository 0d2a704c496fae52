//! Packets in, frames of the hub out.

mod kit;
mod layers;
mod loss;
mod sync;

use std::time::Duration;

use sluice_media::{TrackConfig, VideoCodec};

use crate::agreed::Receiving;
use kit::{Rig, audio_section, video_section};

#[test]
fn what_is_published_is_what_readers_read() {
    let mut rig = Rig::new(&[video_section(), audio_section()]);
    for i in 0..100 {
        rig.video(1, i, i == 0);
        rig.audio(2, i);
        rig.pass(Duration::from_millis(40));
    }
    assert_eq!(rig.stream().tracks().len(), 2);
    let configs = rig.stream().configs();
    assert!(
        matches!(&*configs[0], TrackConfig::Video(v) if v.codec == VideoCodec::Vp8 && (v.width, v.height) == (640, 360))
    );
    assert!(matches!(&*configs[1], TrackConfig::Audio(a) if a.channels == 2 && a.codec_string == "opus"));
    let read = rig.read();
    assert_eq!(read.numbers(0), (0..100).collect::<Vec<_>>());
    assert_eq!(read.numbers(1), (0..100).collect::<Vec<_>>());
    assert_eq!(read.steps(0), [40_000], "at 25 fps");
    let stats = rig.stats();
    assert_eq!((stats.lost, stats.nacks, stats.recovered), (0, 0, 0));
    assert!(stats.video_bitrate > 100_000 && stats.audio_bitrate > 500, "{stats:?}");
    rig.ingest.finish();
    assert!(rig.stream.is_ended());
}

#[tokio::test]
async fn dropping_it_is_a_broken_connection() {
    let mut rig = Rig::new(&[video_section()]);
    rig.video(1, 0, true);
    drop(rig.ingest);
    assert!(!rig.stream.is_ended() && rig.stream.is_interrupted());
}

#[tokio::test]
async fn it_is_told_to_stop() {
    let rig = Rig::new(&[video_section()]);
    let stop = rig.ingest.stop_requested();
    rig.hub.stop(rig.stream.key(), sluice_media::StopReason::Deleted);
    assert_eq!(stop.await, sluice_media::StopReason::Deleted);
}

#[test]
fn keyframes_are_asked_for_as_often_as_segments_should_begin() {
    let mut rig = Rig::new(&[video_section()]);
    let mut asked = Vec::new();
    let mut key = true;
    for i in 0..250 {
        rig.video(1, i, key);
        key = rig.pass(Duration::from_millis(40)).plis.contains(&1);
        if key {
            asked.push(i);
        }
    }
    assert_eq!(asked, [47, 95, 143, 191, 239], "each 1.9 s after the last one came");
}

#[test]
fn a_wish_is_repeated_until_the_keyframe_comes() {
    let mut rig = Rig::new(&[video_section()]);
    rig.video(1, 0, true);
    rig.ingest.want_keyframe(rig.now);
    let mut asked = 0;
    for i in 1..39 {
        rig.video(1, i, false);
        asked += rig.pass(Duration::from_millis(40)).plis.len();
    }
    assert_eq!(asked, 4, "at once, and each 500 ms");
    rig.video(1, 39, true);
    for i in 40..60 {
        rig.video(1, i, false);
        assert!(rig.pass(Duration::from_millis(40)).plis.is_empty());
    }
}

#[test]
fn another_size_is_another_configuration() {
    let mut rig = Rig::new(&[video_section()]);
    rig.video(1, 0, true);
    rig.pass(Duration::from_millis(40));
    rig.video_sized(1, 1, true, 320);
    rig.pass(Duration::from_millis(40));
    let groups = rig.read().groups(0);
    let widths: Vec<u32> = groups.iter().map(|g| g.width).collect();
    assert_eq!(widths, [640, 320]);
    assert_eq!(groups[1].discontinuity, 1);
}

#[test]
fn sources_without_any_name_are_limited() {
    let mut section = video_section();
    section.ssrcs.clear();
    let mut rig = Rig::new(&[section.clone(), audio_section()]);
    // The payload type tells where it belongs. A newer source takes the place of the one before.
    for ssrc in 100..1000 {
        rig.video(ssrc, 0, true);
    }
    rig.pass(Duration::from_millis(10));
    assert_eq!(rig.stream().tracks().len(), 1);
    section.extensions.mid = Some(4);
    section.payloads[0].pt = 50;
    rig.ingest.renegotiate(&[section]);
    rig.video(5000, 0, true);
    rig.audio(2, 0);
    assert_eq!(rig.stream().tracks().len(), 1, "neither has a section");
}

#[test]
fn a_source_that_says_goodbye_is_forgotten() {
    let mut rig = Rig::new(&[video_section()]);
    rig.video(1, 0, true);
    rig.ingest.rtcp(&kit::bye(1), rig.now);
    rig.pass(Duration::from_millis(10));
    rig.video(9, 70, true);
    rig.pass(Duration::from_millis(10));
    assert_eq!(rig.read().numbers(0), [0, 70], "another one of the section goes on");
}

#[test]
fn a_source_that_is_not_heard_yet_is_asked_for_nothing() {
    let mut rig = Rig::new(&[video_section()]);
    rig.video(1, 0, true);
    rig.pass(Duration::from_millis(40));
    rig.ingest.renegotiate(&[Receiving { ssrcs: vec![(7, None)], ..video_section() }]);
    assert!(rig.pass(Duration::from_secs(5)).plis.is_empty());
    rig.video(7, 1, false);
    assert!(rig.pass(Duration::from_millis(40)).plis.contains(&7), "nobody can begin with its first frame");
}
