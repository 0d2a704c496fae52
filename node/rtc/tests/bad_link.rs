//! A stream over a bad link, from hub to hub: what egress sends, ingest receives, and each hears the other's feedback. The
//! link loses, delays and shakes by a seed, both ways; time is virtual.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use sluice_media::{
    AudioCodec, AudioConfig, Event, Frame, Hub, Origin, Publisher, Reader, Start, Stream, StreamKey,
    StreamSettings, Timestamp, TrackConfig, TrackId, VideoCodec, VideoConfig,
};
use sluice_rtc::agreed::{Codec, Extensions, Payload, Receiving, Sending};
use sluice_rtc::egress::{Egress, EgressEvent, Feeds, Sink};
use sluice_rtc::ingest::{Ingest, IngestStats};
use sluice_rtc::rtp::Packet;

const SSRC: u32 = 1;
const RTX_SSRC: u32 = 2;
const SOUND_SSRC: u32 = 3;
/// Time goes on by this much.
const STEP: u64 = 2;
const PICTURE: u64 = 40;
const SOUND: u64 = 20;

fn format(pt: u8, rtx: Option<u8>, codec: Codec, clock: u32) -> Payload {
    Payload { pt, rtx, codec, clock, fmtp: String::new() }
}

fn agreed() -> (Vec<Sending>, Vec<Receiving>) {
    let extensions = Extensions { mid: Some(1), transport_cc: Some(3), ..Extensions::default() };
    let video = format(96, Some(97), Codec::Video(VideoCodec::Vp8), 90_000);
    let sound = format(111, None, Codec::Audio(AudioCodec::Opus), 48_000);
    let sections = [(video, SSRC, Some(RTX_SSRC)), (sound, SOUND_SSRC, None)];
    let all = sections.into_iter().enumerate().map(|(track, (payload, ssrc, rtx_ssrc))| {
        let (mid, video) = (track.to_string(), track == 0);
        let receiving = Receiving {
            mid: mid.clone(),
            video,
            payloads: vec![payload.clone()],
            extensions,
            ssrcs: vec![(ssrc, rtx_ssrc)],
            rids: Vec::new(),
        };
        (Sending { mid, video, track, payload, extensions, ssrc, rtx_ssrc }, receiving)
    });
    all.unzip()
}

/// What is published: 25 pictures a second of about 1 Mbit/s, a keyframe when asked for and every ten seconds, and sound.
struct Source {
    publisher: Publisher,
    video: TrackId,
    sound: TrackId,
    pictures: u64,
    sounds: u64,
    asked: bool,
}

impl Source {
    fn new(hub: &std::sync::Arc<Hub>) -> Self {
        let key = StreamKey::new("live", "source");
        let mut publisher = hub.publish(key, Origin::default(), StreamSettings::default()).unwrap();
        let video = publisher.add_track(TrackConfig::Video(VideoConfig {
            codec: VideoCodec::Vp8,
            record: Bytes::new(),
            width: 640,
            height: 360,
            codec_string: "vp08.00.30.08".into(),
        }));
        let sound = publisher.add_track(TrackConfig::Audio(AudioConfig {
            codec: AudioCodec::Opus,
            record: Bytes::new(),
            sample_rate: 48_000,
            channels: 2,
            codec_string: "opus".into(),
        }));
        let (video, sound) = (video.unwrap(), sound.unwrap());
        Source { publisher, video, sound, pictures: 0, sounds: 0, asked: false }
    }

    /// Publishes what is due at this time; whether there was anything.
    fn publish(&mut self, ms: u64, now: Instant, wall: SystemTime) -> bool {
        let mut fresh = false;
        while self.pictures * PICTURE <= ms {
            let keyframe = self.pictures.is_multiple_of(250) || std::mem::take(&mut self.asked);
            let size = if keyframe { 15_000 } else { 4_500 };
            let head: &[u8] =
                if keyframe { &[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 2, 0x68, 1] } else { &[0x11, 0, 0] };
            let frame = frame(head, self.pictures, PICTURE, keyframe, size);
            self.publisher.write_at(self.video, frame, now, wall).unwrap();
            (self.pictures, fresh) = (self.pictures + 1, true);
        }
        while self.sounds * SOUND <= ms {
            let frame = frame(&[0xfc], self.sounds, SOUND, true, 80);
            self.publisher.write_at(self.sound, frame, now, wall).unwrap();
            (self.sounds, fresh) = (self.sounds + 1, true);
        }
        self.publisher.flush();
        fresh
    }
}

/// A frame that ends with its number.
fn frame(head: &[u8], number: u64, every: u64, keyframe: bool, size: usize) -> Frame {
    let mut payload = head.to_vec();
    payload.resize(size - 8, 0x5a);
    payload.extend(number.to_be_bytes());
    let time = Timestamp::from_millis((number * every) as i64);
    Frame { dts: time, pts: time, keyframe, payload: payload.into() }
}

/// One direction of the link. Times in microseconds.
struct Way {
    now: u64,
    luck: u64,
    loss: f64,
    delay: u64,
    jitter: u64,
    flying: BTreeMap<(u64, u64), (bool, Bytes)>,
    sent: u64,
    lost: u64,
}

impl Way {
    fn new(seed: u64, loss: f64) -> Self {
        Way {
            now: 0,
            luck: seed,
            loss,
            delay: 50_000,
            jitter: 10_000,
            flying: BTreeMap::new(),
            sent: 0,
            lost: 0,
        }
    }

    /// 0 to 1 (xorshift).
    fn draw(&mut self) -> f64 {
        self.luck ^= self.luck << 13;
        self.luck ^= self.luck >> 7;
        self.luck ^= self.luck << 17;
        (self.luck >> 11) as f64 / (1u64 << 53) as f64
    }

    fn carry(&mut self, rtcp: bool, datagram: Bytes) {
        self.sent += 1;
        let (fate, shake) = (self.draw(), self.draw());
        if fate < self.loss {
            self.lost += 1;
            return;
        }
        let at = self.now + self.delay - self.jitter + (shake * 2.0 * self.jitter as f64) as u64;
        self.flying.insert((at, self.sent), (rtcp, datagram));
    }

    fn arrived(&mut self) -> Option<(bool, Bytes)> {
        let first = self.flying.first_entry()?;
        (first.key().0 <= self.now).then(|| first.remove())
    }
}

impl Sink for Way {
    fn rtp(&mut self, header: &[u8], payload: &[u8]) {
        self.carry(false, [header, payload].concat().into());
    }

    fn rtcp(&mut self, compound: &[u8]) {
        self.carry(true, Bytes::copy_from_slice(compound));
    }
}

struct World {
    source: Source,
    egress: Egress,
    down: Way,
    up: Way,
    ingest: Ingest,
    reader: Reader,
    start: Instant,
    ms: u64,
    /// By kind (sound or not): when a frame came out, in ms, and its number.
    came: [Vec<(u64, u64)>; 2],
    wishes: usize,
}

impl World {
    async fn new(seed: u64, loss: f64) -> Self {
        let hub = Hub::new(Duration::ZERO);
        let mut source = Source::new(&hub);
        let start = Instant::now();
        source.publish(0, start, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let feed = Feeds::default().join(source.publisher.stream());
        assert_eq!(feed.tracks().await.len(), 2);
        let (sending, receiving) = agreed();
        let key = StreamKey::new("live", "received");
        let publisher = hub.publish(key, Origin::default(), StreamSettings::default()).unwrap();
        let stream: std::sync::Arc<Stream> = publisher.stream().clone();
        World {
            source,
            egress: Egress::new(vec![feed], &sending, seed, start),
            down: Way::new(seed, loss),
            up: Way::new(seed ^ 0x5555, loss),
            ingest: Ingest::new(publisher, &receiving, start),
            reader: stream.subscribe(Start::Oldest, Duration::from_secs(60)),
            start,
            ms: 0,
            came: Default::default(),
            wishes: 0,
        }
    }

    async fn run(&mut self, ms: u64) {
        let end = self.ms + ms;
        while self.ms < end {
            self.ms += STEP;
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let now = self.start + Duration::from_millis(self.ms);
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + self.ms);
        (self.down.now, self.up.now) = (self.ms * 1000, self.ms * 1000);
        let woken = self.source.publish(self.ms, now, wall);
        if woken {
            // The feed's task makes packets of it.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        while let Some((_, compound)) = self.up.arrived() {
            self.egress.rtcp(&compound, now);
        }
        if woken || self.egress.timeout().is_some_and(|at| at <= now) {
            self.egress.send(now, &mut self.down);
        }
        while let Some(event) = self.egress.event() {
            if matches!(event, EgressEvent::WantKeyframe { .. }) {
                (self.source.asked, self.wishes) = (true, self.wishes + 1);
            }
        }
        while let Some((rtcp, datagram)) = self.down.arrived() {
            match rtcp {
                true => self.ingest.rtcp(&datagram, now),
                false => self.ingest.rtp(Packet::parse(datagram).unwrap(), now, wall),
            }
        }
        if self.ingest.timeout().is_some_and(|at| at <= now) {
            self.ingest.handle_timeout(now, wall);
        }
        while let Some(compound) = self.ingest.feedback(now) {
            self.up.carry(true, compound.into());
        }
        while let Some(event) = self.reader.try_next() {
            if let Event::Frame { track, frame } = event {
                let number = frame.payload.last_chunk().map(|n| u64::from_be_bytes(*n)).unwrap();
                let sound = !self.reader.stream().configs()[usize::from(track)].is_video();
                self.came[usize::from(sound)].push((self.ms, number));
            }
        }
    }

    fn stats(&self) -> IngestStats {
        self.ingest.stats(self.start + Duration::from_millis(self.ms))
    }

    fn numbers(&self, kind: usize) -> Vec<u64> {
        self.came[kind].iter().map(|(_, n)| *n).collect()
    }

    /// The longest time without a picture, in ms.
    fn freeze(&self) -> u64 {
        self.came[0].windows(2).map(|w| w[1].0 - w[0].0).max().unwrap_or(u64::MAX)
    }
}

#[tokio::test]
async fn five_percent_loss_both_ways_costs_no_picture() {
    let mut recovered = 0;
    for seed in [7, 77, 777] {
        let mut world = World::new(seed, 0.05).await;
        world.run(20_000).await;
        assert!(world.down.lost * 25 > world.down.sent, "a link as bad as wanted");
        let pictures = world.numbers(0);
        let first = pictures[0];
        let whole: Vec<u64> = (first..first + pictures.len() as u64).collect();
        assert_eq!(pictures, whole, "seed {seed}: none missing, none twice, in order");
        let late = world.came[0].iter().map(|(at, n)| at - n * PICTURE).max().unwrap();
        assert!(late <= 500, "seed {seed}: a picture came {late} ms late");
        assert!(world.freeze() <= 450, "seed {seed}: {} ms without a picture", world.freeze());
        let sounds = world.numbers(1);
        assert!(sounds.is_sorted_by(|a, b| a < b));
        assert!(sounds.len() as f64 > 0.9 * world.source.sounds as f64, "{} sounds", sounds.len());
        let stats = world.stats();
        assert!(stats.nacks >= stats.recovered);
        recovered += stats.recovered;
    }
    assert!(recovered > 200, "{recovered} packets by retransmission");
}

#[tokio::test]
async fn after_an_outage_a_new_keyframe_is_asked_for_and_comes() {
    let mut world = World::new(9, 0.0).await;
    world.run(3000).await;
    let before = (world.came[0].len(), world.wishes);
    (world.down.loss, world.up.loss) = (1.0, 1.0);
    world.run(1000).await;
    (world.down.loss, world.up.loss) = (0.0, 0.0);
    world.run(9000).await;
    assert!(world.wishes > before.1, "the publisher was asked");
    let (at, number) = world.came[0][before.0..].iter().find(|(at, _)| *at > 4000).copied().unwrap();
    assert!(at < 5000, "it goes on at {at} ms, with picture {number}");
    let late = world.came[0].last().map(|(at, n)| at - n * PICTURE).unwrap();
    assert!(late < 300, "and is live again: {late} ms");
    assert!(world.numbers(0).is_sorted_by(|a, b| a < b));
}
