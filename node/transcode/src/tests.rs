use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use sluice_media::aside::Need;
use sluice_media::{
    AudioCodec, AudioConfig, Event, Frame, Hub, Origin, Publisher, Reader, Start, StreamKey, StreamSettings,
    Timestamp, TrackConfig,
};

use crate::decode::Decoding;
use crate::encode::{self, Encoding};
use crate::{AudioBridge, BridgeError, Bridges, RATE};

const PITCH: f64 = 440.0;

/// A tone from `silent` seconds on, coded; the first sample is at `start`.
fn tone(codec: AudioCodec, channels: u8, start: Timestamp, seconds: f64, silent: f64) -> Vec<Frame> {
    let mut encoding = Encoding::new(codec, channels).expect("this FFmpeg has it");
    let samples = encoding.samples();
    let mut out = Vec::new();
    for i in 0..(seconds * f64::from(RATE)) as usize / samples {
        let sample = |k: usize| {
            let t = (i * samples + k) as f64 / f64::from(RATE);
            if t < silent { 0.0 } else { (0.5 * ((t - silent) * PITCH * TAU).sin()) as f32 }
        };
        let plane: Vec<f32> = (0..samples).map(sample).collect();
        let at = start.to_ticks(RATE) + (i * samples) as i64;
        encoding.push(at, &vec![plane; usize::from(channels)], &mut out).expect("encodes");
    }
    out
}

/// The first channel, and the time of its first sample.
fn hear(config: &AudioConfig, frames: &[Frame]) -> (Vec<f32>, Timestamp) {
    let mut decoding = Decoding::new(config, config.channels).expect("this FFmpeg has it");
    let mut all = Vec::new();
    for frame in frames {
        decoding.push(&frame.payload, |planes| all.extend_from_slice(planes[0]));
    }
    assert_eq!(decoding.errors, 0);
    (all, frames[0].pts)
}

fn through(bridge: &mut AudioBridge, frames: &[Frame]) -> Vec<Frame> {
    frames.iter().flat_map(|f| bridge.push(f).expect("bridges")).collect()
}

/// Where it gets loud, in seconds after the first sample.
fn onset(samples: &[f32]) -> f64 {
    let at = samples.windows(24).position(|w| w.iter().any(|s| s.abs() > 0.1)).expect("it gets loud");
    at as f64 / f64::from(RATE)
}

fn pitch(samples: &[f32]) -> f64 {
    let crossings = samples.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count();
    crossings as f64 * f64::from(RATE) / samples.len() as f64
}

fn steady(frames: &[Frame], samples: i64) -> bool {
    frames.windows(2).all(|w| w[1].pts.to_ticks(RATE) - w[0].pts.to_ticks(RATE) == samples)
}

#[test]
fn a_tone_goes_to_opus_and_back_in_time() {
    for channels in [1, 2] {
        let start = Timestamp::from_millis(7_000);
        let aac = encode::config(AudioCodec::Aac, channels).expect("made");
        let source = tone(AudioCodec::Aac, channels, start, 4.0, 1.0);
        let mut there = AudioBridge::new(&aac, AudioCodec::Opus).expect("opens");
        let opus = through(&mut there, &source);
        let mut back = AudioBridge::new(there.config(), AudioCodec::Aac).expect("opens");
        let again = through(&mut back, &opus);
        assert_eq!(back.config(), &aac);
        assert_eq!((there.errors(), back.errors()), (0, 0));
        assert!(steady(&opus, 960) && steady(&again, 1024));
        for (config, frames) in [(&aac, &source), (there.config(), &opus), (&aac, &again)] {
            let (samples, first) = hear(config, frames);
            let lasts = samples.len() as f64 / f64::from(RATE);
            assert!((3.85..4.1).contains(&lasts), "{lasts} s of {}", config.codec_string);
            let at = first.as_secs_f64() + onset(&samples);
            assert!((at - 8.0).abs() < 0.005, "{}: the tone begins at {at}", config.codec_string);
            let heard = pitch(&samples[samples.len() / 2..samples.len() - 4800]);
            assert!((heard - PITCH).abs() < 3.0, "{heard} Hz");
            assert_eq!(config.channels, channels);
        }
    }
}

#[test]
fn a_gap_of_the_source_is_one_of_the_copy() {
    let opus = encode::config(AudioCodec::Opus, 2).expect("made");
    let mut source = tone(AudioCodec::Opus, 2, Timestamp::ZERO, 1.0, 0.0);
    let later = tone(AudioCodec::Opus, 2, Timestamp::from_millis(5_000), 1.0, 0.2);
    source.extend(later);
    let mut bridge = AudioBridge::new(&opus, AudioCodec::Aac).expect("opens");
    let made = through(&mut bridge, &source);
    let far: Vec<_> = made.windows(2).filter(|w| w[1].pts - w[0].pts > 100_000).collect();
    assert_eq!(far.len(), 1, "one break");
    assert!(made.windows(2).all(|w| w[1].pts > w[0].pts));
    let second: Vec<Frame> =
        made.iter().filter(|f| f.pts >= Timestamp::from_millis(4_950)).cloned().collect();
    let (samples, first) = hear(bridge.config(), &second);
    // What is decoded behind the gap still has the tone from before it for a moment.
    let skip = 4800;
    let at = first.as_secs_f64() + 0.1 + onset(&samples[skip..]);
    assert!((at - 5.2).abs() < 0.005, "{at}");
}

#[test]
fn mp3_and_other_rates_come_out_at_48_khz() {
    // The same frames, by a record that says 44.1 kHz, are lower and longer.
    let slower = AudioConfig::aac(Bytes::from_static(&[0x12, 0x10])).expect("44.1 kHz");
    let frames = tone(AudioCodec::Aac, 2, Timestamp::ZERO, 2.0, 0.0);
    let slow: Vec<Frame> = frames
        .iter()
        .enumerate()
        .map(|(i, f)| {
            // As RTMP says them.
            let t = Timestamp::from_millis(Timestamp::from_ticks(i as i64 * 1024, 44_100).as_millis());
            Frame { dts: t, pts: t, ..f.clone() }
        })
        .collect();
    let mut bridge = AudioBridge::new(&slower, AudioCodec::Opus).expect("opens");
    let made = through(&mut bridge, &slow);
    assert!(steady(&made, 960));
    let (samples, _) = hear(bridge.config(), &made);
    let heard = pitch(&samples[samples.len() / 2..]);
    assert!((heard - PITCH * 441.0 / 480.0).abs() < 3.0, "{heard} Hz");
    // MP3 is decoded, and never made.
    let mp3 = AudioConfig::mp3(&[0xff, 0xfb, 0x90, 0x64]).expect("a header");
    assert!(AudioBridge::new(&mp3, AudioCodec::Opus).is_ok());
    assert!(matches!(AudioBridge::new(&slower, AudioCodec::Mp3), Err(BridgeError::Unsupported { .. })));
}

#[test]
fn what_is_not_bridged_is_said() {
    // AAC-LD has no place in ADTS.
    let ld = AudioConfig::aac(Bytes::from_static(&[0xb9, 0x90])).expect("LD");
    let error = AudioBridge::new(&ld, AudioCodec::Opus).expect_err("is not bridged");
    assert!(error.to_string().contains("publish AAC-LC"), "{error}");
    let mut six = vec![0, 6, 0, 0, 0, 0, 0xbb, 0x80, 0, 0, 1, 4, 2];
    six.extend(0..6);
    let six = AudioConfig::opus(six.into()).expect("5.1");
    assert!(matches!(AudioBridge::new(&six, AudioCodec::Aac), Err(BridgeError::Unsupported { .. })));
    let missing = BridgeError::NoEncoder { codec: AudioCodec::Opus, encoder: "libopus" };
    assert!(missing.to_string().contains("--enable-libopus"));
}

#[test]
fn damaged_frames_are_counted_and_the_rest_is_heard() {
    let aac = encode::config(AudioCodec::Aac, 2).expect("made");
    let mut source = tone(AudioCodec::Aac, 2, Timestamp::ZERO, 2.0, 0.0);
    for i in [10, 11, 40] {
        source[i].payload = Bytes::from_static(&[0xff; 300]);
    }
    source[50].payload = Bytes::new();
    let mut bridge = AudioBridge::new(&aac, AudioCodec::Opus).expect("opens");
    let made = through(&mut bridge, &source);
    assert!(bridge.errors() >= 1, "{bridge:?}");
    assert!(made.len() > 90 && steady(&made, 960), "{} frames", made.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn garbage_is_no_danger(
        frames in prop::collection::vec((any::<i32>(), prop::collection::vec(any::<u8>(), 0..600)), 1..30),
        codec in prop::sample::select(vec![AudioCodec::Aac, AudioCodec::Opus, AudioCodec::Mp3]),
    ) {
        let (config, to) = match codec {
            AudioCodec::Mp3 => (AudioConfig::mp3(&[0xff, 0xfb, 0x90, 0x64]).expect("a header"), AudioCodec::Aac),
            AudioCodec::Aac => (encode::config(codec, 2).expect("made"), AudioCodec::Opus),
            AudioCodec::Opus => (encode::config(codec, 1).expect("made"), AudioCodec::Aac),
        };
        let mut bridge = AudioBridge::new(&config, to).expect("opens");
        let mut last = None;
        for (at, payload) in frames {
            let t = Timestamp(i64::from(at));
            let frame = Frame { dts: t, pts: t, keyframe: true, payload: payload.into() };
            for made in bridge.push(&frame).expect("goes on") {
                prop_assert!(last.is_none_or(|l| made.dts > l));
                last = Some(made.dts);
            }
        }
    }
}

fn publish(hub: &Arc<Hub>, config: AudioConfig) -> Publisher {
    let key = StreamKey::new("live", "a");
    let mut publisher = hub.publish(key, Origin::default(), StreamSettings::default()).expect("new");
    publisher.expect_video(false);
    publisher.add_track(TrackConfig::Audio(config)).expect("room");
    publisher
}

fn send(publisher: &mut Publisher, frames: &[Frame]) {
    frames.iter().for_each(|f| publisher.write(0, f.clone()).expect("live"));
    publisher.flush();
}

/// Frames of a track, until `enough` of them came.
async fn frames_of(reader: &mut Reader, track: u8, enough: usize) -> Vec<Frame> {
    let mut all = Vec::new();
    let reading = async {
        while all.len() < enough {
            match reader.next().await {
                Event::Frame { track: t, frame } if t == track => all.push(frame),
                Event::End => panic!("the stream is over"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("they come");
    all
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}: never");
}

#[tokio::test]
async fn a_stream_is_bridged_for_as_long_as_somebody_needs_it() {
    let hub = Hub::new(Duration::from_secs(10));
    let bridges = Bridges::holding(hub.clone(), Duration::from_millis(50));
    let running = tokio::spawn(bridges.clone().run());
    let mut publisher = publish(&hub, encode::config(AudioCodec::Opus, 2).expect("made"));
    let stream = publisher.stream().clone();
    let source = tone(AudioCodec::Opus, 2, Timestamp::ZERO, 6.0, 0.0);
    let (first, rest) = source.split_at(150);
    send(&mut publisher, first);
    let mut reader = stream.subscribe(Start::Newest, Duration::from_secs(30));
    // What is there already is nobody's need.
    let same = Need::new(stream.clone(), AudioCodec::Opus);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((stream.tracks().len(), bridges.counts().started), (1, 0));
    let needs = [Need::new(stream.clone(), AudioCodec::Aac), Need::new(stream.clone(), AudioCodec::Aac)];
    let made = frames_of(&mut reader, 1, 40).await;
    assert!(steady(&made, 1024));
    assert_eq!(bridges.counts().running, 1, "one for all");
    // Stamps are those of the source.
    let tracks = stream.tracks();
    let newest = |i: usize| tracks[i].ring.newest(|_| true).expect("a group").head.stamp.place();
    assert_eq!(newest(0), newest(1));
    drop(needs);
    until("it stops", || bridges.counts().running == 0).await;
    // Needed again, the same track goes on.
    send(&mut publisher, rest);
    let _again = Need::new(stream.clone(), AudioCodec::Aac);
    // From the newest group on, which begins 300 ms before the end.
    frames_of(&mut reader, 1, 10).await;
    assert_eq!((stream.tracks().len(), bridges.counts().started), (2, 2));
    drop(same);
    publisher.finish();
    until("it ends with the stream", || bridges.counts().running == 0).await;
    assert_eq!(bridges.counts().failed, 0);
    running.abort();
}

#[tokio::test]
async fn a_publisher_that_changes_its_codec_is_followed() {
    let hub = Hub::new(Duration::from_secs(10));
    let bridges = Bridges::holding(hub.clone(), Duration::from_secs(1));
    let running = tokio::spawn(bridges.clone().run());
    let mut publisher = publish(&hub, encode::config(AudioCodec::Aac, 2).expect("made"));
    let stream = publisher.stream().clone();
    let _need = Need::new(stream.clone(), AudioCodec::Opus);
    send(&mut publisher, &tone(AudioCodec::Aac, 2, Timestamp::ZERO, 1.0, 0.0));
    until("the bridge is there", || stream.tracks().len() == 2).await;
    let mut reader = stream.subscribe(Start::Newest, Duration::from_secs(30));
    send(&mut publisher, &tone(AudioCodec::Aac, 2, Timestamp::from_millis(1000), 1.0, 0.0));
    frames_of(&mut reader, 1, 20).await;
    publisher.set_config(0, TrackConfig::Audio(encode::config(AudioCodec::Aac, 1).expect("made")));
    send(&mut publisher, &tone(AudioCodec::Aac, 1, Timestamp::from_millis(2000), 1.0, 0.0));
    until("it is mono, too", || matches!(&*stream.configs()[1], TrackConfig::Audio(a) if a.channels == 1))
        .await;
    frames_of(&mut reader, 1, 20).await;
    assert_eq!((bridges.counts().failed, stream.tracks().len()), (0, 2));
    running.abort();
}
