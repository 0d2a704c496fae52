//! Whatever a publisher's frames look like, playlists made from them keep the rules: publisher, hub, segmenter,
//! window and rendering together, judged by [`validate`](crate::validate).

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use proptest::prelude::*;
use sluice_media::{
    AudioCodec, AudioConfig, Event, Frame, Hub, Origin, Reader, Start, StreamKey, StreamSettings, Timestamp,
    TrackConfig, TrackId, VideoCodec, VideoConfig,
};

use crate::playlist::{self, Media};
use crate::segmenter::{Output, Segmenter};
use crate::settings::PlaylistType;
use crate::validate::{Ask, Checker};
use crate::window::Window;

fn video(width: u32) -> TrackConfig {
    TrackConfig::Video(VideoConfig {
        codec: VideoCodec::Vp8,
        record: Bytes::new(),
        width,
        height: 180,
        codec_string: "vp08.00.41.08".into(),
    })
}

fn audio() -> TrackConfig {
    TrackConfig::Audio(AudioConfig {
        codec: AudioCodec::Aac,
        record: Bytes::from_static(&[0x11, 0x90]),
        sample_rate: 48_000,
        channels: 2,
        codec_string: "mp4a.40.2".into(),
    })
}

/// One rendition, followed as a packager does it.
struct Follower {
    track: TrackId,
    reader: Reader,
    made: Option<(Segmenter, Window, Checker, u64)>,
    bytes: Segments,
}

/// Segments by number.
type Segments = Vec<(u64, Bytes)>;

impl Follower {
    fn new(track: TrackId, reader: Reader) -> Self {
        Follower { track, reader, made: None, bytes: Vec::new() }
    }

    fn follow(&mut self, ended: bool) {
        let Some(s) = self.reader.stream().segmentation() else { return };
        let (segmenter, window, checker, changes) = self.made.get_or_insert_with(|| {
            let window = Window::new(15, PlaylistType::Sliding, s.target_duration);
            (Segmenter::new(s, true), window, Checker::new(Duration::ZERO), 0)
        });
        let mut out = Vec::new();
        while let Some(event) = self.reader.try_next() {
            match event {
                Event::Group { track, group } if track == self.track => segmenter.group(&group.head),
                Event::Frame { track, frame } if track == self.track => segmenter.frame(frame, &mut out),
                Event::Skipped { .. } => panic!("a reader that keeps up is never behind"),
                Event::End => break,
                _ => {}
            }
        }
        if ended {
            segmenter.finish(&mut out);
        }
        if out.is_empty() && !ended {
            return;
        }
        let closes = out.iter().any(|o| matches!(o, Output::Close));
        out.drain(..).for_each(|o| window.apply(o));
        if ended {
            window.end();
        }
        if closes {
            self.bytes.extend(window.listed().last().map(|s| (s.media_sequence, s.bytes.clone())));
        }
        *changes += 1;
        let skip = *changes % 3 == 0 && *changes > 3;
        let media = Media {
            window,
            name: "v0",
            folder: "",
            extension: "m4s",
            target: s.target_duration,
            parts: Some(s.part_target),
            reports: &[],
        };
        let text = playlist::media(&media, skip);
        checker.observe(Ask { skip, ..Ask::default() }, Duration::ZERO, &text);
    }

    fn broken(&self) -> Vec<String> {
        self.made.as_ref().map_or(Vec::new(), |m| m.2.broken().to_vec())
    }
}

struct Source {
    /// Frames per second, exact.
    fps: f64,
    /// Seconds from keyframe to keyframe.
    gops: Vec<f64>,
    /// Of a frame's duration.
    jitter: f64,
    reorder: bool,
    seconds: f64,
    breaks: Option<f64>,
}

/// Publishes such a source; returns what the checkers of video and audio found, and the segments of a packager
/// that joined early and of one that joined late.
fn run(source: &Source, mut random: impl FnMut() -> f64) -> (Vec<String>, Segments, Segments) {
    let hub = Hub::new(Duration::from_secs(10));
    let origin = Origin { epoch: 1, media_sequence: 5, discontinuity_sequence: 2, ..Origin::default() };
    let mut publisher =
        hub.publish(StreamKey::new("a", "s"), origin, StreamSettings::default()).expect("new");
    publisher.expect_video(true);
    let (v, a) =
        (publisher.add_track(video(320)).expect("room"), publisher.add_track(audio()).expect("room"));
    let stream = publisher.stream().clone();
    let follower = |track| Follower::new(track, stream.subscribe(Start::Oldest, Duration::from_secs(60)));
    let mut early = [follower(v), follower(a)];
    let mut late: Option<Follower> = None;
    let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let (mut next_audio, mut next_key, mut gop) = (0.0, 0.0, 0);
    let mut shift = 0.0;
    for i in 0..(source.seconds * source.fps) as u64 {
        let exact = i as f64 / source.fps;
        if source.breaks.is_some_and(|b| exact >= b && shift == 0.0) {
            shift = 100.0; // the source's clock jumps
        }
        let time = ((exact + shift + random() * source.jitter / source.fps) * 1000.0).round().max(0.0) as i64;
        let keyframe = exact + 1e-9 >= next_key;
        if keyframe {
            next_key = exact + source.gops[gop % source.gops.len()];
            gop += 1;
        }
        let at = Duration::from_secs_f64(exact);
        while next_audio <= exact {
            let t = Timestamp::from_millis(((next_audio + shift) * 1000.0).round() as i64);
            let frame = Frame { dts: t, pts: t, keyframe: true, payload: Bytes::from_static(b"tone") };
            publisher.write_at(a, frame, now + at, wall + at).expect("live");
            next_audio += 1024.0 / 48_000.0;
        }
        let dts = Timestamp::from_millis(time);
        let later = if source.reorder && i % 3 == 1 { (2000.0 / source.fps) as i64 } else { 0 };
        let pts = Timestamp::from_millis(time + later);
        let frame = Frame { dts, pts, keyframe, payload: Bytes::from(i.to_string()) };
        publisher.write_at(v, frame, now + at, wall + at).expect("live");
        early.iter_mut().chain(&mut late).for_each(|f| f.follow(false));
        if late.is_none() && exact > source.seconds * 0.7 {
            late = Some(follower(v));
        }
    }
    publisher.finish();
    early.iter_mut().chain(&mut late).for_each(|f| f.follow(true));
    let mut broken = early[0].broken();
    broken.extend(early[1].broken().into_iter().map(|b| format!("audio: {b}")));
    if early[0].made.is_none() && source.seconds > 14.0 {
        broken.push("nothing was packaged".into());
    }
    let [video, _] = early;
    (broken, video.bytes, late.map_or(Vec::new(), |l| l.bytes))
}

fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 30) - 1.0
    }
}

fn in_a_runtime<T>(f: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    f()
}

#[test]
fn usual_sources_keep_every_rule() {
    for (fps, gop) in [
        (30.0, 1.0),
        (30.0, 2.0),
        (25.0, 0.48),
        (60.0, 2.0),
        (30.0, 8.0),
        (30.0, 250.0 / 30.0),
        (30000.0 / 1001.0, 2.002),
        (24.0, 1.5),
        (50.0, 4.0),
        (15.0, 3.0),
        (10.0, 2.0),
    ] {
        let source =
            Source { fps, gops: vec![gop], jitter: 0.0, reorder: false, seconds: 60.0, breaks: None };
        let (broken, early, late) = in_a_runtime(|| run(&source, noise(1)));
        assert!(broken.is_empty(), "{fps} fps, GOP {gop}: {:#?}", &broken[..broken.len().min(10)]);
        let same = late.iter().filter(|l| early.contains(l)).count();
        assert!(
            same > 0 && same >= late.len() - 1,
            "{fps} fps, GOP {gop}: a late packager builds other segments"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn rough_sources_keep_the_rules_that_can_be_kept(
        fps in 5.0f64..120.0,
        gops in prop::collection::vec(0.5f64..12.0, 1..4),
        jitter in 0.0f64..0.4,
        reorder: bool,
        breaks in prop::option::of(5.0f64..20.0),
        seed: u64,
    ) {
        let source = Source { fps, gops, jitter, reorder, seconds: 30.0, breaks };
        let (mut broken, early, late) = in_a_runtime(|| run(&source, noise(seed)));
        // Parts are made of whole frames: where these come unevenly, no cut fits the fixed part target.
        broken.retain(|b| !b.contains("part target of"));
        prop_assert!(broken.is_empty(), "{:#?}", &broken[..broken.len().min(10)]);
        // The late one has no segments that are older than the hub's window, and the same ones after that.
        for l in &late {
            if let Some(e) = early.iter().find(|e| e.0 == l.0) {
                prop_assert_eq!(&e.1, &l.1, "segment {}", l.0);
            }
        }
    }
}

#[test]
fn a_change_of_resolution_is_a_new_map_behind_a_discontinuity() {
    in_a_runtime(|| {
        let hub = Hub::new(Duration::from_secs(10));
        let key = StreamKey::new("a", "s");
        let mut publisher = hub.publish(key, Origin::default(), StreamSettings::default()).expect("new");
        let v = publisher.add_track(video(320)).expect("room");
        let reader = publisher.stream().subscribe(Start::Oldest, Duration::from_secs(60));
        let mut f = Follower::new(v, reader);
        let (now, wall) = (Instant::now(), SystemTime::now());
        for i in 0..300i64 {
            if i == 140 {
                publisher.set_config(v, video(640));
            }
            let t = Timestamp::from_millis(i * 40);
            let frame = Frame {
                dts: t,
                pts: t,
                keyframe: i % 25 == 0 || i == 140,
                payload: Bytes::from_static(b"x"),
            };
            let at = Duration::from_millis(i as u64 * 40);
            publisher.write_at(v, frame, now + at, wall + at).expect("live");
            f.follow(false);
        }
        assert_eq!(f.broken(), Vec::<String>::new());
        let (_, window, ..) = f.made.as_ref().expect("packaged");
        let maps: Vec<u32> = window.listed().filter_map(|s| s.init.as_ref().map(|i| i.name)).collect();
        let changes = maps.windows(2).filter(|w| w[0] != w[1]).count();
        let breaks: Vec<u64> = window.listed().map(|s| s.discontinuity_sequence).collect();
        assert_eq!((changes, breaks.first(), breaks.last()), (1, Some(&0), Some(&1)));
    });
}
