//! The hub as ingests and egresses use it: what is written is what every reader reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use proptest::prelude::*;
use sluice_media::stream::StopReason;
use sluice_media::{
    AudioCodec, AudioConfig, Event, Frame, Hub, Origin, PublishError, Publisher, Stamp, Start, StreamKey,
    StreamSettings, Timestamp, TrackConfig, VideoCodec, VideoConfig,
};

const NO_LAG: Duration = Duration::MAX;

fn video(width: u32) -> TrackConfig {
    TrackConfig::Video(VideoConfig {
        codec: VideoCodec::H264,
        record: Bytes::from_static(b"avcC"),
        width,
        height: 360,
        codec_string: "avc1.42c01f".into(),
    })
}

fn audio(sample_rate: u32) -> TrackConfig {
    TrackConfig::Audio(AudioConfig {
        codec: AudioCodec::Aac,
        record: Bytes::from_static(b"asc"),
        sample_rate,
        channels: 2,
        codec_string: "mp4a.40.2".into(),
    })
}

fn frame(ms: i64, keyframe: bool) -> Frame {
    let t = Timestamp::from_millis(ms);
    Frame { dts: t, pts: t, keyframe, payload: Bytes::from(vec![0; 100]) }
}

fn key() -> StreamKey {
    StreamKey::new("LiveApp", "cam1")
}

fn publish(hub: &Arc<Hub>) -> Publisher {
    hub.publish(
        key(),
        Origin { epoch: 1, media_sequence: 50, discontinuity_sequence: 0, ..Origin::default() },
        StreamSettings::default(),
    )
    .expect("nobody publishes it")
}

/// 25 fps with a keyframe each second, and audio frames of 20 ms, interleaved by time.
fn send(p: &mut Publisher, from_ms: i64, to_ms: i64) {
    for ms in (from_ms..to_ms).step_by(20) {
        if ms % 40 == 0 {
            p.write(0, frame(ms, ms % 1000 == 0)).expect("live");
        }
        p.write(1, frame(ms, true)).expect("live");
    }
    p.flush();
}

#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Group(u8, Arc<Stamp>, bool, Arc<TrackConfig>),
    Frame(u8, Frame),
    Skipped(u64),
    End,
}

fn drain(r: &mut sluice_media::Reader) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(e) = r.try_next() {
        seen.push(match e {
            Event::Group { track, group } => Seen::Group(
                track,
                group.head.stamp.clone(),
                group.head.independent,
                group.head.config.clone(),
            ),
            Event::Frame { track, frame } => Seen::Frame(track, frame),
            Event::Skipped { groups } => Seen::Skipped(groups),
            Event::End => {
                seen.push(Seen::End);
                break;
            }
        });
    }
    seen
}

fn times(seen: &[Seen], of: u8) -> Vec<i64> {
    seen.iter()
        .filter_map(|s| match s {
            Seen::Frame(t, f) if *t == of => Some(f.dts.as_millis()),
            _ => None,
        })
        .collect()
}

fn stamps(seen: &[Seen], of: u8) -> Vec<Arc<Stamp>> {
    seen.iter()
        .filter_map(|s| match s {
            Seen::Group(t, stamp, ..) if *t == of => Some(stamp.clone()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn readers_see_all_tracks_in_the_order_of_arrival() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(640));
    p.add_track(audio(48000));
    let mut early = p.stream().subscribe(Start::Newest, NO_LAG);
    send(&mut p, 0, 2500);
    let stream = p.stream().clone();
    let seen = drain(&mut early);
    assert_eq!(times(&seen, 0), (0..2500).step_by(40).collect::<Vec<_>>());
    assert_eq!(times(&seen, 1), (0..2500).step_by(20).collect::<Vec<_>>());
    let order: Vec<i64> =
        seen.iter().filter_map(|s| if let Seen::Frame(_, f) = s { Some(f.dts.0) } else { None }).collect();
    assert!(order.is_sorted());
    let mut late = stream.subscribe(Start::Newest, NO_LAG);
    let seen = drain(&mut late);
    assert_eq!(times(&seen, 0).first(), Some(&2000));
    assert_eq!(times(&seen, 1).first(), Some(&2000), "audio groups begin where video's do");
    let (v, a) = (stamps(&seen, 0), stamps(&seen, 1));
    assert_eq!(v, a);
    assert_eq!((v[0].group, v[0].media_sequence, v[0].starts_segment()), (2, 51, true));
    let mut oldest = stream.subscribe(Start::Oldest, NO_LAG);
    assert_eq!(times(&drain(&mut oldest), 1).first(), Some(&0));
    p.finish();
    assert_eq!(drain(&mut early), [Seen::End]);
    assert!(stream.is_ended());
    assert!(hub.get(&key()).is_none());
}

#[tokio::test]
async fn the_source_clock_may_start_anywhere_and_wrap() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(640));
    let mut unwrap = sluice_media::timeline::Unwrap::bits32_ms();
    for i in 0..100u32 {
        let t = unwrap.unwrap(u64::from(0xffff_f000u32.wrapping_add(i * 40)));
        p.write(0, Frame { dts: t, pts: t, keyframe: i % 25 == 0, payload: Bytes::new() }).expect("live");
    }
    let mut r = p.stream().subscribe(Start::Oldest, NO_LAG);
    assert_eq!(times(&drain(&mut r), 0), (0..4000).step_by(40).collect::<Vec<_>>());
}

#[tokio::test]
async fn frames_before_the_first_keyframe_are_dropped_and_counted() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(640));
    p.add_track(audio(48000));
    for ms in (0..400).step_by(40) {
        p.write(0, frame(ms, false)).expect("live");
        p.write(1, frame(ms, true)).expect("live");
    }
    send(&mut p, 1000, 2000);
    let mut r = p.stream().subscribe(Start::Oldest, NO_LAG);
    let seen = drain(&mut r);
    assert_eq!((times(&seen, 0).len(), times(&seen, 1).len()), (25, 50));
    assert_eq!(p.stream().stats().frames_dropped.load(Ordering::Relaxed), 20);
}

#[tokio::test]
async fn audio_alone_is_a_stream() {
    let hub = Hub::new(Duration::from_secs(10));
    for announced in [None, Some(false)] {
        let mut p = publish(&hub);
        p.add_track(audio(48000));
        if let Some(v) = announced {
            p.expect_video(v)
        }
        for ms in (0..5000).step_by(20) {
            p.write(0, frame(ms, true)).expect("live");
        }
        let mut r = p.stream().subscribe(Start::Oldest, NO_LAG);
        let seen = drain(&mut r);
        assert_eq!(times(&seen, 0).len(), 250, "nothing is lost while it waits whether video comes");
        assert_eq!(stamps(&seen, 0).iter().map(|s| s.media_sequence).collect::<Vec<_>>(), [50, 51, 52]);
        assert_eq!(p.stream().segmentation().map(|s| s.target_duration.as_secs()), Some(2));
        p.finish();
    }
}

#[tokio::test]
async fn video_that_comes_late_or_goes_silent_holds_nothing_up() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(audio(48000));
    for ms in (0..3000).step_by(20) {
        p.write(0, frame(ms, true)).expect("live");
    }
    p.add_track(video(640));
    for ms in (3000..5000).step_by(20) {
        if ms % 40 == 0 {
            p.write(1, frame(ms, ms % 1000 == 0)).expect("live");
        }
        p.write(0, frame(ms, true)).expect("live");
    }
    for ms in (5000..15_000).step_by(20) {
        p.write(0, frame(ms, true)).expect("live");
    }
    p.write(1, frame(15_000, false)).expect("live");
    let mut r = p.stream().subscribe(Start::Oldest, NO_LAG);
    let seen = drain(&mut r);
    assert_eq!(times(&seen, 0).len(), 750);
    assert_eq!(times(&seen, 1).len(), 51);
    let a = stamps(&seen, 0);
    let starts: Vec<i64> = a.iter().filter(|s| s.starts_segment()).map(|s| s.start.as_millis()).collect();
    assert!(starts.windows(2).all(|w| w[1] - w[0] <= 2600), "{starts:?}");
    assert_eq!(a.last().map(|s| s.discontinuity_sequence), Some(1), "a track more is a discontinuity");
    let Some(Seen::Group(_, _, independent, _)) = seen.iter().rev().find(|s| matches!(s, Seen::Group(1, ..)))
    else {
        panic!("no group of video")
    };
    assert!(!independent, "the frame after the silence is none to begin with");
}

#[tokio::test]
async fn a_change_of_resolution_is_a_discontinuity_with_the_new_configuration() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(640));
    p.add_track(audio(48000));
    send(&mut p, 0, 1000);
    p.set_config(0, video(640));
    send(&mut p, 1000, 2000);
    p.set_config(0, video(1280));
    send(&mut p, 2000, 3000);
    p.set_config(1, audio(44100));
    send(&mut p, 3020, 4000);
    let mut r = p.stream().subscribe(Start::Oldest, NO_LAG);
    let seen = drain(&mut r);
    let discontinuities: Vec<(u8, i64, u64)> = seen
        .iter()
        .filter_map(|s| match s {
            Seen::Group(t, s, ..) => Some((*t, s.start.as_millis(), s.discontinuity_sequence)),
            _ => None,
        })
        .collect();
    for (t, at, d) in discontinuities {
        assert_eq!(
            d,
            match at {
                ..2000 => 0,
                2000..3000 => 1,
                _ => 2,
            },
            "track {t} at {at}"
        );
    }
    for s in &seen {
        match s {
            Seen::Group(0, s, _, c) => assert_eq!(**c == video(1280), s.start.as_millis() >= 2000),
            Seen::Group(1, s, _, c) => assert_eq!(**c == audio(44100), s.start.as_millis() >= 3000),
            _ => {}
        }
    }
    assert_eq!(times(&seen, 1).len(), 199, "no audio frame is lost over the change");
}

#[tokio::test(start_paused = true)]
async fn a_broken_publisher_may_come_back_in_time() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(640));
    p.add_track(audio(48000));
    send(&mut p, 0, 1500);
    let stream = p.stream().clone();
    let mut r = stream.subscribe(Start::Oldest, NO_LAG);
    drop(p);
    assert!(stream.is_interrupted() && !stream.is_ended());
    assert_eq!(
        hub.publish(key(), Origin::default(), StreamSettings::default()).err(),
        Some(PublishError::InUse)
    );
    tokio::time::sleep(Duration::from_secs(9)).await;
    let mut p = hub.resume(&key()).expect("it waits");
    assert_eq!(hub.resume(&key()).err(), Some(PublishError::InUse));
    p.add_track(audio(48000));
    p.add_track(video(640));
    for ms in (70_000..71_000).step_by(20) {
        if ms % 40 == 0 {
            p.write(1, frame(ms, ms % 1000 == 0)).expect("live");
        }
        p.write(0, frame(ms, true)).expect("live");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!stream.is_ended(), "the earlier timer is void");
    let seen = drain(&mut r);
    assert!(times(&seen, 0).is_sorted() && times(&seen, 1).is_sorted());
    assert_eq!((times(&seen, 0).len(), times(&seen, 1).len()), (38 + 25, 75 + 50));
    let last = stamps(&seen, 0).pop().expect("some");
    assert_eq!((last.media_sequence, last.discontinuity_sequence), (51, 1));
    drop(p);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(stream.is_ended());
    assert!(hub.is_empty());
    assert_eq!(drain(&mut r), [Seen::End]);
}

#[tokio::test]
async fn a_publisher_can_be_stopped() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(640));
    assert!(hub.stop(&key(), StopReason::Requested));
    assert_eq!(p.stop_requested().await, StopReason::Requested);
    p.finish();
    assert!(!hub.stop(&key(), StopReason::Requested));
    let p = publish(&hub);
    let stream = p.stream().clone();
    drop(p);
    assert!(hub.stop(&key(), StopReason::Requested), "one without publisher ends at once");
    stream.ended().await;
    assert!(hub.is_empty());
}

#[tokio::test]
async fn what_waits_for_a_picture_is_bounded_in_bytes() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(640));
    p.add_track(audio(48000));
    let payload = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..400 {
        let f = Frame { payload: Bytes::from(payload.to_vec()), ..frame(1, true) };
        p.write(1, f).expect("live");
    }
    // A group is split at 32 MiB, and the newest two are kept.
    assert!(p.stream().bytes() <= 100 << 20, "{}", p.stream().bytes());
}

#[tokio::test]
async fn a_stop_holds_when_the_connection_breaks_first() {
    let hub = Hub::new(Duration::from_secs(10));
    let p = publish(&hub);
    let stream = p.stream().clone();
    assert!(hub.stop(&key(), StopReason::Deleted));
    drop(p);
    assert!(stream.is_ended() && hub.is_empty(), "it does not wait for the publisher to come back");
}

#[tokio::test]
async fn a_silent_publisher_gives_way() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(640));
    p.write(0, frame(0, true)).expect("live");
    let stream = p.stream().clone();
    assert!(stream.silent_for() < Duration::from_secs(1));
    stream.displace();
    assert_eq!(p.stop_requested().await, StopReason::TakenOver);
    assert_eq!(hub.resume(&key()).err(), Some(PublishError::InUse), "until it has left");
    p.finish();
    let mut p = hub.resume(&key()).expect("it has left");
    p.add_track(video(640));
    p.write(0, frame(0, true)).expect("the stream goes on");
    let told = tokio::time::timeout(Duration::from_millis(20), p.stop_requested()).await;
    assert!(told.is_err(), "nobody wants the new one to leave");
    p.finish();
    assert!(stream.is_ended());
}

#[tokio::test]
async fn a_slow_reader_skips_and_a_fast_one_misses_nothing() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(640));
    p.add_track(audio(48000));
    send(&mut p, 0, 100);
    let mut slow = p.stream().subscribe(Start::Newest, Duration::from_secs(5));
    let mut fast = p.stream().subscribe(Start::Newest, Duration::from_secs(5));
    assert!(matches!(slow.try_next(), Some(Event::Group { .. })));
    let mut all = 0;
    for s in 0..60 {
        send(&mut p, 1000 * s + 100, 1000 * s + 1100);
        all += times(&drain(&mut fast), 0).len();
    }
    assert_eq!(all, 25 * 60 + 3);
    let seen = drain(&mut slow);
    assert!(matches!(seen.first(), Some(Seen::Frame(..) | Seen::Skipped(_))));
    assert!(seen.contains(&Seen::Skipped(59)));
    assert_eq!(p.stream().stats().groups_skipped.load(Ordering::Relaxed), 59);
    assert!(times(&seen, 0).iter().all(|t| *t >= 60_000 || *t == 0), "{:?}", times(&seen, 0));
    assert!(p.stream().bytes() < 40 * 75 * 100, "what is kept is bounded by time");
}

/// Two renditions at 25 fps. The small one's frames come first, as they do over a network.
fn send_renditions(p: &mut Publisher, from_ms: i64, to_ms: i64, key: impl Fn(u8, i64) -> bool) {
    for ms in (from_ms..to_ms).step_by(40) {
        p.write(1, frame(ms, key(1, ms))).expect("live");
        p.write(0, frame(ms, key(0, ms))).expect("live");
    }
    p.flush();
}

#[tokio::test]
async fn renditions_begin_their_groups_together() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(1280));
    p.add_track(video(640));
    let mut all = p.stream().subscribe(Start::Oldest, NO_LAG);
    p.write(0, frame(0, true)).expect("live");
    // The small one has a keyframe more, which is a frame like any.
    send_renditions(&mut p, 40, 6000, |track, ms| {
        ms % 1000 == 0 || (track == 1 && (ms == 40 || ms % 1000 == 400))
    });
    let seen = drain(&mut all);
    let (large, small) = (stamps(&seen, 0), stamps(&seen, 1));
    assert_eq!(large.len(), 6);
    assert_eq!(small, large, "group by group");
    assert_eq!(times(&seen, 1), (40..6000).step_by(40).collect::<Vec<_>>(), "nothing is left out");
    let mut late = p.stream().subscribe(Start::Newest, NO_LAG);
    let seen = drain(&mut late);
    assert_eq!((times(&seen, 0)[0], times(&seen, 1)[0]), (5000, 5000));
    let stats = p.stream().stats();
    assert_eq!(stats.frame_rate.per_second(p.stream().second()), 150.0, "pictures count once");
}

#[tokio::test]
async fn a_rendition_begins_at_its_own_keyframe_and_comes_and_goes() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(1280));
    let mut all = p.stream().subscribe(Start::Oldest, NO_LAG);
    for ms in (0..1000).step_by(40) {
        p.write(0, frame(ms, ms == 0)).expect("live");
    }
    p.add_track(video(640));
    send_renditions(&mut p, 1000, 6000, |track, ms| {
        ms % 1000 == if track == 0 { 0 } else { 200 } && (track == 0 || ms < 4000)
    });
    let seen = drain(&mut all);
    let (large, small) = (stamps(&seen, 0), stamps(&seen, 1));
    assert_eq!(
        (large.len(), large.last().expect("some").discontinuity_sequence),
        (6, 0),
        "nothing is broken off"
    );
    assert_eq!(small, large[1..4], "each group that it has a keyframe for");
    assert_eq!(times(&seen, 1)[0], 1200);
    assert_eq!(times(&seen, 1).last(), Some(&5960), "without a keyframe its group goes on");
    // Another size begins a group at once, in the same segment, and breaks nothing off.
    p.set_config(1, video(320));
    send_renditions(
        &mut p,
        6000,
        7000,
        |track, ms| if track == 0 { ms == 6000 } else { ms == 6200 || ms == 6600 },
    );
    p.set_config(1, video(480));
    send_renditions(&mut p, 7000, 7400, |track, ms| track == 1 && ms == 7040);
    let seen = drain(&mut all);
    let widths: Vec<u32> = seen
        .iter()
        .filter_map(|s| match s {
            Seen::Group(1, _, independent, config) => {
                assert!(independent);
                let TrackConfig::Video(v) = &**config else { panic!("video") };
                Some(v.width)
            }
            _ => None,
        })
        .collect();
    assert_eq!(widths, [320, 480]);
    assert!(times(&seen, 1).contains(&7040) && !times(&seen, 1).contains(&7000));
    assert!(stamps(&seen, 0).iter().all(|s| s.discontinuity_sequence == 0));
}

#[tokio::test]
async fn a_rendition_stands_in_for_a_silent_reference() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(1280));
    p.add_track(video(640));
    let mut all = p.stream().subscribe(Start::Oldest, NO_LAG);
    p.write(0, frame(0, true)).expect("live");
    p.write(1, frame(0, true)).expect("live");
    send_renditions(&mut p, 40, 1000, |_, _| false);
    for ms in (1000..10_000).step_by(40) {
        p.write(1, frame(ms, ms % 1000 == 0)).expect("live");
    }
    let seen = drain(&mut all);
    let starts: Vec<i64> = stamps(&seen, 1).iter().map(|s| s.start.as_millis()).collect();
    assert_eq!(starts, [0, 3000, 4000, 5000, 6000, 7000, 8000, 9000]);
    assert_eq!(times(&seen, 1).len(), 250);
    let breaks = |seen: &[Seen], track| -> Vec<u64> {
        stamps(seen, track).iter().map(|s| s.discontinuity_sequence).collect()
    };
    assert_eq!(breaks(&seen, 1), [0, 1, 1, 1, 1, 1, 1, 1], "it leads behind a discontinuity");
    let leading = |p: &Publisher, track: usize| {
        p.stream().tracks()[track].ring.newest(|_| true).map(|group| group.head.leads)
    };
    assert_eq!((leading(&p, 0), leading(&p, 1)), (Some(true), Some(true)), "each when it was its turn");
    // It comes back, and leads again when it has gone on for some time.
    send_renditions(&mut p, 10_000, 18_000, |_, ms| ms % 1000 == 0);
    let seen = drain(&mut all);
    assert_eq!(breaks(&seen, 0), [1, 1, 1, 1, 1, 2, 2, 2]);
    assert_eq!(stamps(&seen, 1), stamps(&seen, 0), "group by group, and none too short");
    assert_eq!((leading(&p, 0), leading(&p, 1)), (Some(true), Some(false)));
}

#[tokio::test]
async fn a_better_rendition_that_comes_a_little_later_breaks_nothing_off() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(1280));
    p.add_track(video(640));
    let leads = |p: &Publisher, track: usize| {
        p.stream().tracks()[track].ring.newest(|_| true).map(|group| group.head.leads)
    };
    let mut all = p.stream().subscribe(Start::Oldest, NO_LAG);
    for ms in (0..1000).step_by(40) {
        p.write(1, frame(ms, ms == 0)).expect("live");
    }
    assert_eq!(leads(&p, 1), Some(false), "the larger one is awaited");
    send_renditions(&mut p, 1000, 3000, |_, ms| ms % 1000 == 0);
    assert_eq!((leads(&p, 0), leads(&p, 1)), (Some(true), Some(false)));
    let seen = drain(&mut all);
    assert!(stamps(&seen, 0).iter().chain(&stamps(&seen, 1)).all(|s| s.discontinuity_sequence == 0));

    // The next publisher has one only: there is nothing to wait for.
    drop(p);
    let mut p = hub.resume(&key()).expect("it waits");
    p.add_track(video(320));
    for ms in (0..1000).step_by(40) {
        p.write(0, frame(ms, ms == 0)).expect("live");
    }
    assert_eq!(leads(&p, 0), Some(true));
    drop(p);
    // One that does not come is waited for as long as that is of use.
    let mut p = hub.resume(&key()).expect("it waits");
    p.add_track(video(1280));
    p.add_track(video(640));
    for ms in (0..5000).step_by(40) {
        p.write(1, frame(ms, ms % 1000 == 0)).expect("live");
    }
    assert_eq!(leads(&p, 1), Some(true));
}

#[tokio::test]
async fn a_keyframe_is_wished_for_when_the_leader_is_silent() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(1280));
    p.add_track(video(640));
    let wishes = p.stream().aside().keyframe_wishes();
    let before = *wishes.borrow();
    send_renditions(&mut p, 0, 1000, |_, ms| ms == 0);
    for ms in (1000..2400).step_by(40) {
        p.write(1, frame(ms, false)).expect("live");
    }
    assert_eq!(*wishes.borrow(), before);
    for ms in (2400..4000).step_by(40) {
        p.write(1, frame(ms, false)).expect("live");
    }
    assert_eq!(*wishes.borrow() - before, 2, "once a second");
}

#[tokio::test]
async fn pictures_that_seldom_change_are_not_led_by_turns() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(1280));
    p.add_track(video(640));
    let mut all = p.stream().subscribe(Start::Oldest, NO_LAG);
    for ms in (0..60_000).step_by(3000) {
        p.write(1, frame(ms, true)).expect("live");
        p.write(0, frame(ms, true)).expect("live");
    }
    let seen = drain(&mut all);
    assert!(stamps(&seen, 0).iter().chain(&stamps(&seen, 1)).all(|s| s.discontinuity_sequence == 0));
}

#[tokio::test]
async fn a_rendition_that_was_silent_for_long_begins_with_the_newest_group() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(1280));
    p.add_track(video(640));
    let mut all = p.stream().subscribe(Start::Oldest, NO_LAG);
    for ms in (0..200_000).step_by(500) {
        p.write(0, frame(ms, ms % 1000 == 0)).expect("live");
        p.flush();
        drain(&mut all);
    }
    send_renditions(&mut p, 200_000, 201_000, |_, ms| ms % 1000 == 0);
    let seen = drain(&mut all);
    assert_eq!(stamps(&seen, 1), stamps(&seen, 0));
    assert_eq!(times(&seen, 1), (200_000..201_000).step_by(40).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_waits_for_the_reference_does_not_wait_long() {
    let hub = Hub::new(Duration::from_secs(10));
    let mut p = publish(&hub);
    p.add_track(video(1280));
    p.add_track(video(640));
    p.add_track(audio(48_000));
    let mut all = p.stream().subscribe(Start::Oldest, NO_LAG);
    p.write(0, frame(0, true)).expect("live");
    p.write(1, frame(0, true)).expect("live");
    p.write(1, frame(40, true)).expect("live");
    p.write(1, frame(80, false)).expect("live");
    assert_eq!(times(&drain(&mut all), 1), [0]);
    p.write(2, frame(200, true)).expect("live");
    assert_eq!(times(&drain(&mut all), 1), [40], "one after the other");
    p.write(2, frame(240, true)).expect("live");
    assert_eq!(times(&drain(&mut all), 1), [80]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever is written, in whatever rhythm it is read: no reader sees anything twice, out of order, or a
    /// frame before its group; a reader from the start that keeps up sees everything that was taken.
    #[test]
    fn readers_agree(
        writes in prop::collection::vec((0usize..3, 0i64..120, prop::bool::weighted(0.1), prop::bool::weighted(0.02)), 1..800),
        reads in prop::collection::vec(any::<bool>(), 800),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let hub = Hub::new(Duration::from_secs(10));
            let mut p = publish(&hub);
            p.add_track(video(640));
            p.add_track(audio(48000));
            p.add_track(video(320));
            let mut often = p.stream().subscribe(Start::Oldest, NO_LAG);
            let mut seen = Vec::new();
            let mut t = [0i64; 3];
            let now = Instant::now();
            for (i, (track, step, keyframe, change)) in writes.into_iter().enumerate() {
                t[track] += step;
                if change {
                    let width = 640 + i as u32;
                    if track == 1 { p.set_config(1, audio(width)) } else { p.set_config(track as u8, video(width)) }
                }
                p.write_at(track as u8, frame(t[track], keyframe || track == 1), now, SystemTime::UNIX_EPOCH).expect("live");
                if reads[i] {
                    seen.extend(drain(&mut often));
                }
            }
            let stream = p.stream().clone();
            let mut last = stream.subscribe(Start::Oldest, NO_LAG);
            let frames = stream.stats().frames_in.load(Ordering::Relaxed);
            let dropped = stream.stats().frames_dropped.load(Ordering::Relaxed);
            p.finish();
            seen.extend(drain(&mut often));
            let at_once = drain(&mut last);
            assert_eq!(seen.last(), Some(&Seen::End));
            assert_eq!(at_once.last(), Some(&Seen::End));
            let count = |s: &[Seen]| s.iter().filter(|s| matches!(s, Seen::Frame(..))).count();
            assert!(count(&at_once) <= count(&seen));
            assert!(at_once.iter().all(|s| seen.contains(s)));
            assert!(count(&seen) as u64 + dropped <= frames);
            let mut group: [Option<Arc<Stamp>>; 3] = [None, None, None];
            let mut time = [Timestamp(i64::MIN); 3];
            for s in &seen {
                match s {
                    Seen::Group(t, stamp, ..) => {
                        if let Some(before) = &group[usize::from(*t)] {
                            assert!(stamp.group > before.group && stamp.media_sequence >= before.media_sequence);
                            assert!(stamp.start >= before.start && stamp.segment_start <= stamp.start);
                        }
                        group[usize::from(*t)] = Some(stamp.clone());
                    }
                    Seen::Frame(t, f) => {
                        assert!(group[usize::from(*t)].is_some());
                        assert!(f.dts > time[usize::from(*t)]);
                        time[usize::from(*t)] = f.dts;
                    }
                    Seen::Skipped(_) => panic!("nobody is slow here"),
                    Seen::End => {}
                }
            }
        });
    }
}
