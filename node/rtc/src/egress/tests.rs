//! One viewer on a link that is made up: seeded loss, delay, a queue before a narrow place; all of it in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use sluice_media::{
    AudioCodec, AudioConfig, Frame, Hub, Origin, Publisher, Stamp, StreamKey, StreamSettings, Timestamp,
    TrackConfig, VideoCodec, VideoConfig,
};

use super::feed::Shared;
use super::packetize::largest_payload;
use super::writer::Writer;
use super::*;
use crate::agreed::{Codec, Extensions, Payload};
use crate::rtp::Packet;

const VIDEO: u32 = 0x1111;
const RTX: u32 = 0x2222;
const AUDIO: u32 = 0x3333;
const SOUND: u8 = 15;

/// A rendition that is published: its height and bits a second.
#[derive(Clone, Copy)]
struct Rendition(u32, u64);

/// A stream that is published in virtual time: 25 pictures a second, and sound each 20 ms.
struct Source {
    _publisher: Publisher,
    writer: Writer,
    shared: Arc<Shared>,
    feed: Arc<Feed>,
    renditions: Vec<Rendition>,
    /// A track that is not sent for a while.
    paused: Option<u8>,
    gop: u64,
    /// Whether it makes keyframes when it is asked to.
    obeys: bool,
    asked: bool,
    picture: u64,
    keyframe: u64,
    sound: u64,
    sound_track: u8,
}

fn picture_config(height: u32) -> Arc<TrackConfig> {
    Arc::new(TrackConfig::Video(VideoConfig {
        codec: VideoCodec::Vp8,
        record: Bytes::new(),
        width: height * 16 / 9,
        height,
        codec_string: "vp08.00.30.08".into(),
    }))
}

fn sound_config() -> Arc<TrackConfig> {
    Arc::new(TrackConfig::Audio(AudioConfig {
        codec: AudioCodec::Opus,
        record: Bytes::new(),
        sample_rate: 48_000,
        channels: 2,
        codec_string: "opus".into(),
    }))
}

fn stamp(start: Timestamp) -> Stamp {
    Stamp {
        epoch: 1,
        group: 0,
        media_sequence: 0,
        discontinuity_sequence: 0,
        segment_start: start,
        start,
        wall_clock: SystemTime::UNIX_EPOCH
            + Duration::from_secs(1_700_000_000)
            + start.since(Timestamp::ZERO),
    }
}

impl Source {
    fn new(renditions: &[Rendition], gop: u64) -> Self {
        let hub = Hub::new(Duration::ZERO);
        let publisher =
            hub.publish(StreamKey::new("live", "a"), Origin::default(), StreamSettings::default()).unwrap();
        let stream = publisher.stream().clone();
        let shared = Shared::new(stream.key().clone());
        let writer = Writer::new(shared.clone(), largest_payload(1200));
        let feed = Feed::over(stream, shared.clone(), None);
        Source {
            _publisher: publisher,
            writer,
            shared,
            feed,
            renditions: renditions.to_vec(),
            paused: None,
            gop,
            obeys: false,
            asked: false,
            picture: 0,
            keyframe: 0,
            sound: 0,
            sound_track: SOUND,
        }
    }

    /// Publishes what is due by then.
    fn publish(&mut self, ms: u64) -> bool {
        let before = self.picture + self.sound;
        while self.picture * 40 <= ms {
            let time = Timestamp::from_millis(self.picture as i64 * 40);
            let key = self.picture == 0
                || self.picture - self.keyframe >= self.gop
                || (self.obeys && std::mem::take(&mut self.asked));
            if key {
                self.keyframe = self.picture;
            }
            for (track, r) in self.renditions.clone().into_iter().enumerate() {
                let track = track as u8;
                if self.paused == Some(track) {
                    continue;
                }
                if key {
                    self.writer.group(track, &picture_config(r.0), &stamp(time), true);
                }
                let size = (r.1 / 8 / 25) as usize * if key { 3 } else { 1 };
                self.writer.frame(track, &frame(time, time, key, track, self.picture, size));
            }
            self.picture += 1;
        }
        while self.sound * 20 <= ms {
            let time = Timestamp::from_millis(self.sound as i64 * 20);
            if self.sound.is_multiple_of(50) {
                self.writer.group(self.sound_track, &sound_config(), &stamp(time), true);
            }
            self.writer.frame(self.sound_track, &frame(time, time, true, SOUND, self.sound, 80));
            self.sound += 1;
        }
        self.picture + self.sound > before
    }
}

fn frame(dts: Timestamp, pts: Timestamp, keyframe: bool, track: u8, number: u64, size: usize) -> Frame {
    let mut payload = vec![track, u8::from(keyframe)];
    payload.extend((number as u32).to_be_bytes());
    payload.resize(size.max(8), 0x5a);
    Frame { dts, pts, keyframe, payload: payload.into() }
}

/// A link, and the browser behind it.
struct Net {
    now: u64,
    seed: u64,
    loss: f64,
    delay: u64,
    /// Bits a second, and the bytes that wait before it at most.
    narrow: Option<u64>,
    queue: u64,
    free_at: u64,
    flying: VecDeque<(u64, Bytes)>,
    compounds: Vec<Bytes>,
    sent: u64,
    seqs: Vec<u16>,
    repairs: Vec<u16>,
}

impl Net {
    fn new() -> Self {
        Net {
            now: 0,
            seed: 1,
            loss: 0.0,
            delay: 20_000,
            narrow: None,
            queue: 60_000,
            free_at: 0,
            flying: VecDeque::new(),
            compounds: Vec::new(),
            sent: 0,
            seqs: Vec::new(),
            repairs: Vec::new(),
        }
    }
}

impl Sink for Net {
    fn rtp(&mut self, header: &[u8], payload: &[u8]) {
        let datagram: Bytes = [header, payload].concat().into();
        assert!(datagram.len() + 16 <= 1200);
        self.sent += datagram.len() as u64;
        let packet = Packet::parse(datagram.clone()).unwrap();
        if packet.ssrc == VIDEO {
            self.seqs.push(packet.seq);
        } else if packet.ssrc == RTX {
            self.repairs.push(packet.seq);
        }
        self.seed = mix(self.seed);
        if ((self.seed >> 11) as f64 / (1u64 << 53) as f64) < self.loss {
            return;
        }
        let mut at = self.now;
        if let Some(rate) = self.narrow {
            let waiting = self.free_at.saturating_sub(self.now) * rate / 8_000_000;
            if waiting > self.queue {
                return;
            }
            self.free_at = self.free_at.max(self.now) + datagram.len() as u64 * 8_000_000 / rate;
            at = self.free_at;
        }
        self.flying.push_back((at + self.delay, datagram));
    }

    fn rtcp(&mut self, compound: &[u8]) {
        self.compounds.push(Bytes::copy_from_slice(compound));
    }
}

/// What the browser has got.
#[derive(Default)]
struct Browser {
    arrivals: BTreeMap<u16, u64>,
    next_arrival: Option<u16>,
    packets: BTreeMap<i64, Packet>,
    highest: Option<i64>,
    delivered: i64,
    asked: BTreeMap<i64, u64>,
    /// Arrival in ms, RTP timestamp, payload: track, keyframe, number.
    pictures: Vec<(u64, u32, u8, bool, u32)>,
    /// Number and timestamp.
    sounds: BTreeMap<u32, u32>,
    again: u64,
}

struct World {
    source: Source,
    net: Net,
    browser: Browser,
    egress: Egress,
    start: Instant,
    ms: u64,
    nacks: bool,
    events: Vec<(u64, EgressEvent)>,
}

fn sections(rtx: bool) -> Vec<Sending> {
    let extensions =
        Extensions { mid: Some(1), transport_cc: Some(3), abs_send_time: Some(2), ..Default::default() };
    let section = |mid: &str, video: bool, track, codec, pt, clock, ssrc| Sending {
        mid: mid.into(),
        video,
        track,
        payload: Payload { pt, rtx: (video && rtx).then_some(97), codec, clock, fmtp: String::new() },
        extensions,
        ssrc,
        rtx_ssrc: (video && rtx).then_some(RTX),
    };
    vec![
        section("0", true, 0, Codec::Video(VideoCodec::Vp8), 96, 90_000, VIDEO),
        section("1", false, 1, Codec::Audio(AudioCodec::Opus), 111, 48_000, AUDIO),
    ]
}

impl World {
    /// `before` is how long the stream has been live when the viewer comes, in milliseconds.
    fn new(mut source: Source, before: u64, rtx: bool) -> Self {
        source.publish(before);
        let start = Instant::now();
        let seed = 0x1234_fff0_fff8_fffe;
        let egress = Egress::new(vec![source.feed.clone()], &sections(rtx), seed, start);
        World {
            source,
            net: Net::new(),
            browser: Browser::default(),
            egress,
            start,
            ms: before,
            nacks: true,
            events: Vec::new(),
        }
        .shifted(before)
    }

    fn shifted(mut self, before: u64) -> Self {
        self.start -= Duration::from_millis(before);
        self.net.now = before * 1000;
        self
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms)
    }

    fn run(&mut self, ms: u64) {
        let end = self.ms + ms;
        while self.ms < end {
            self.ms += 2;
            self.net.now = self.ms * 1000;
            let woken = self.source.publish(self.ms);
            if woken || self.egress.timeout().is_some_and(|at| at <= self.now()) {
                self.egress.send(self.now(), &mut self.net);
            }
            while self.net.flying.front().is_some_and(|(at, _)| *at <= self.net.now) {
                if let Some((at, datagram)) = self.net.flying.pop_front() {
                    self.browser.receive(Packet::parse(datagram).unwrap(), at);
                }
            }
            if self.ms.is_multiple_of(50) {
                let feedback = self.browser.feedback(self.net.now, self.nacks);
                self.egress.rtcp(&feedback, self.now());
                self.egress.send(self.now(), &mut self.net);
            }
            while let Some(event) = self.egress.event() {
                self.source.asked |= matches!(event, EgressEvent::WantKeyframe { .. });
                self.events.push((self.ms, event));
            }
        }
    }

    fn numbers(&self) -> Vec<u32> {
        self.browser.pictures.iter().map(|p| p.4).collect()
    }

    /// The rendition of the picture that came last.
    fn track(&self) -> u8 {
        self.browser.pictures.last().unwrap().2
    }
}

impl Browser {
    fn receive(&mut self, packet: Packet, at: u64) {
        let seq = u16::from_be_bytes(packet.extension(3).unwrap().try_into().unwrap());
        self.arrivals.insert(seq, at);
        self.next_arrival.get_or_insert(seq);
        match packet.ssrc {
            AUDIO => {
                let number = u32::from_be_bytes(packet.payload[2..6].try_into().unwrap());
                self.sounds.insert(number, packet.timestamp);
            }
            RTX => {
                self.again += 1;
                let original = u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
                let payload = packet.payload.slice(2..);
                self.media(packet.with(96, original, VIDEO, payload), at);
            }
            _ => self.media(packet, at),
        }
    }

    fn media(&mut self, packet: Packet, at: u64) {
        let highest = *self.highest.get_or_insert_with(|| {
            self.delivered = i64::from(packet.seq);
            i64::from(packet.seq) - 1
        });
        let seq = highest + i64::from(packet.seq.wrapping_sub(highest as u16) as i16);
        self.highest = Some(highest.max(seq));
        if seq >= self.delivered {
            self.packets.insert(seq, packet);
        }
        // Whole frames, in order.
        loop {
            let whole: Vec<i64> = {
                let mut seqs = Vec::new();
                for (i, (seq, p)) in self.packets.iter().enumerate() {
                    if *seq != self.delivered + i as i64 {
                        break;
                    }
                    seqs.push(*seq);
                    if p.marker {
                        break;
                    }
                }
                seqs
            };
            let Some(last) = whole.last().filter(|s| self.packets[s].marker) else { return };
            self.delivered = last + 1;
            let first = &self.packets[&whole[0]];
            assert_eq!(first.payload[0], 0x10, "a frame begins");
            let number = u32::from_be_bytes(first.payload[3..7].try_into().unwrap());
            self.pictures.push((at / 1000, first.timestamp, first.payload[1], first.payload[2] == 1, number));
            for seq in whole {
                self.packets.remove(&seq);
            }
        }
    }

    fn feedback(&mut self, now: u64, nacks: bool) -> Vec<u8> {
        let mut out = vec![0x80, 201, 0, 1, 0, 0, 0, 9];
        if let (Some(base), Some(&last)) = (
            self.next_arrival,
            self.arrivals.keys().max_by_key(|s| s.wrapping_sub(self.next_arrival.unwrap())),
        ) {
            let count = last.wrapping_sub(base).wrapping_add(1);
            let reference = self.arrivals.values().min().unwrap() / 64_000;
            let (mut time, mut symbols, mut deltas) = (reference * 64_000, Vec::new(), Vec::new());
            for seq in (0..count).map(|i| base.wrapping_add(i)) {
                match self.arrivals.get(&seq) {
                    Some(at) => {
                        let delta = (*at as i64 - time as i64) / 250;
                        time = (time as i64 + delta * 250) as u64;
                        symbols.push(2u16);
                        deltas.extend((delta as i16).to_be_bytes());
                    }
                    None => symbols.push(0),
                }
            }
            let mut body = vec![0, 0, 0, 9, 0, 0, 0, 9];
            body.extend(base.to_be_bytes());
            body.extend(count.to_be_bytes());
            body.extend(&(reference as u32).to_be_bytes()[1..]);
            body.push(0);
            for chunk in symbols.chunks(7) {
                let bits = chunk.iter().enumerate().fold(0xc000u16, |b, (i, s)| b | s << (12 - 2 * i));
                body.extend(bits.to_be_bytes());
            }
            body.extend(deltas);
            body.resize(body.len().next_multiple_of(4), 0);
            out.extend([0x8f, 205]);
            out.extend((body.len() as u16 / 4).to_be_bytes());
            out.extend(body);
            self.next_arrival = Some(last.wrapping_add(1));
            self.arrivals.clear();
        }
        let missing = (self.delivered..self.highest.unwrap_or(0)).filter(|s| !self.packets.contains_key(s));
        let due: Vec<i64> = missing
            .filter(|s| nacks && self.asked.get(s).is_none_or(|at| now - at > 80_000))
            .take(50)
            .collect();
        if !due.is_empty() {
            out.extend([0x81, 205, 0, 2 + due.len() as u8, 0, 0, 0, 9]);
            out.extend(VIDEO.to_be_bytes());
            for seq in due {
                self.asked.insert(seq, now);
                out.extend((seq as u16).to_be_bytes());
                out.extend([0, 0]);
            }
        }
        out
    }
}

const ONE: &[Rendition] = &[Rendition(720, 1_200_000)];
const LADDER: &[Rendition] = &[Rendition(720, 1_800_000), Rendition(360, 700_000), Rendition(180, 250_000)];

#[test]
fn a_viewer_joins_at_the_keyframe_and_gets_everything_from_there() {
    let mut w = World::new(Source::new(ONE, 50), 3000, true);
    w.run(5000);
    let numbers = w.numbers();
    assert_eq!(numbers[0], 50, "the newest keyframe");
    assert!(numbers.windows(2).all(|n| n[1] == n[0] + 1));
    assert!(*numbers.last().unwrap() >= 197);
    assert!(w.net.seqs.windows(2).all(|s| s[1] == s[0].wrapping_add(1)), "numbers go on, wrapped too");
    let first = *w.browser.sounds.keys().next().unwrap();
    assert!((144..=151).contains(&first), "old sound is left out: {first}");
    let lag = w.browser.pictures.last().unwrap();
    assert!(lag.0 - u64::from(lag.4) * 40 < 120, "caught up");
    for p in w.browser.pictures.windows(2) {
        assert_eq!(p[1].1.wrapping_sub(p[0].1), 3600);
    }
}

#[test]
fn sound_and_picture_are_reported_on_one_clock() {
    let mut w = World::new(Source::new(ONE, 50), 1000, true);
    w.run(3000);
    let at = |i: usize, b: &Bytes| u32::from_be_bytes(b[i..i + 4].try_into().unwrap());
    let mut seen = BTreeMap::new();
    for c in w.net.compounds.iter().filter(|c| c[1] == 200) {
        let ntp = f64::from(at(8, c)) + f64::from(at(12, c)) / 4_294_967_296.0;
        seen.entry(at(4, c)).or_insert_with(Vec::new).push((ntp, at(16, c)));
    }
    let picture = w.browser.pictures[10];
    let sound = w.browser.sounds.iter().next().unwrap();
    let frames = [
        (VIDEO, 90_000.0, f64::from(picture.4) * 0.040, picture.1),
        (AUDIO, 48_000.0, f64::from(*sound.0) * 0.020, *sound.1),
    ];
    for (ssrc, clock, shown, timestamp) in frames {
        assert!(seen[&ssrc].len() >= 3);
        for (ntp, reported) in &seen[&ssrc] {
            let since = f64::from(reported.wrapping_sub(timestamp) as i32) / clock;
            assert!((ntp - since - shown - 1_700_000_000.0 - 2_208_988_800.0).abs() < 0.001);
        }
    }
}

#[test]
fn nothing_is_missed_on_a_lossy_link() {
    let mut w = World::new(Source::new(ONE, 50), 0, true);
    w.net.loss = 0.05;
    w.net.delay = 50_000;
    w.run(20_000);
    let numbers = w.numbers();
    assert_eq!(numbers[0], 0);
    assert!(numbers.windows(2).all(|n| n[1] == n[0] + 1), "each picture, in order");
    assert!(*numbers.last().unwrap() > 490);
    let gaps = w.browser.pictures.windows(2).map(|p| p[1].0 - p[0].0).max();
    assert!(gaps < Some(500), "{gaps:?}");
    let stats = w.egress.stats(w.now());
    assert!(stats.retransmitted > 50 && !stats.thinned);
    assert!(w.browser.again > 0);
    assert!(w.browser.sounds.len() > 900);
}

#[test]
fn without_retransmissions_no_number_is_sent_twice() {
    let mut w = World::new(Source::new(ONE, 50), 0, false);
    w.net.loss = 0.05;
    w.run(5000);
    assert!(!w.browser.asked.is_empty(), "the viewer asked");
    assert_eq!(w.egress.stats(w.now()).retransmitted, 0);
    assert!(w.net.seqs.windows(2).all(|s| s[1] == s[0].wrapping_add(1)));
}

#[test]
fn a_narrow_link_gets_a_lower_rendition_within_three_seconds_and_the_higher_one_later() {
    let mut w = World::new(Source::new(LADDER, 50), 2000, true);
    w.run(10_000);
    assert_eq!(w.track(), 0, "estimate {}", w.egress.stats(w.now()).estimate);
    w.net.narrow = Some(500_000);
    let cut = w.ms;
    w.run(3000);
    let down =
        w.events.iter().find(|(ms, e)| *ms > cut && matches!(e, EgressEvent::Rendition { height: 180, .. }));
    assert!(down.is_some(), "{:?}", w.events);
    w.run(6000);
    assert_eq!(w.track(), 2);
    let late = w.browser.pictures.last().unwrap();
    assert!(late.0 - u64::from(late.4) * 40 < 400, "no queue is left: {late:?}");
    w.net.narrow = None;
    w.run(40_000);
    assert_eq!(w.track(), 0, "estimate {}", w.egress.stats(w.now()).estimate);
    let stamps: Vec<u32> = w.browser.pictures.iter().map(|p| p.1).collect();
    assert!(stamps.windows(2).all(|s| (s[1].wrapping_sub(s[0]) as i32) > 0), "time goes forward");
    assert!(w.net.seqs.windows(2).all(|s| s[1] == s[0].wrapping_add(1)));
}

#[test]
fn without_a_lower_rendition_a_narrow_link_gets_keyframes_and_all_the_sound() {
    let mut w = World::new(Source::new(ONE, 50), 0, true);
    w.run(5000);
    w.net.narrow = Some(400_000);
    w.run(4000);
    assert!(w.egress.stats(w.now()).thinned, "estimate {}", w.egress.stats(w.now()).estimate);
    let (sounds, pictures) = (w.browser.sounds.len(), w.browser.pictures.len());
    w.run(4000);
    assert!(w.browser.pictures[pictures..].iter().all(|p| p.3), "keyframes only");
    assert!(w.browser.sounds.len() >= sounds + 190, "sound goes on: {}", w.browser.sounds.len() - sounds);
    w.net.narrow = None;
    w.run(40_000);
    assert!(!w.egress.stats(w.now()).thinned, "estimate {}", w.egress.stats(w.now()).estimate);
    let last: Vec<u32> = w.numbers().into_iter().rev().take(50).collect();
    assert!(last.windows(2).all(|n| n[0] == n[1] + 1), "whole again");
}

#[test]
fn a_good_link_is_climbed_and_stays() {
    let mut w = World::new(Source::new(LADDER, 50), 2000, true);
    w.run(30_000);
    let switches = w.events.iter().filter(|(_, e)| matches!(e, EgressEvent::Rendition { .. })).count();
    assert!(w.track() == 0 && switches <= 2, "{:?}", w.events);
}

#[test]
fn the_viewer_chooses() {
    let mut w = World::new(Source::new(LADDER, 50), 2000, true);
    w.egress.set_quality(0, Quality::Height(200), w.now());
    w.run(4000);
    assert_eq!(w.track(), 2);
    assert_eq!(w.egress.stats(w.now()).height, 180);
    w.egress.set_quality(0, Quality::Auto, w.now());
    w.run(30_000);
    assert_eq!(w.track(), 0);
}

#[test]
fn a_rendition_that_pauses_is_left_and_comes_back() {
    for forced in [false, true] {
        let mut w = World::new(Source::new(LADDER, 50), 2000, true);
        if forced {
            w.egress.set_quality(0, Quality::Height(720), w.now());
        }
        w.run(10_000);
        assert_eq!(w.track(), 0);
        w.source.paused = Some(0);
        w.run(5000);
        let last = w.browser.pictures.last().unwrap();
        assert!(last.2 > 0 && w.ms - last.0 < 200, "the picture goes on: {last:?}");
        w.source.paused = None;
        w.run(15_000);
        assert_eq!(w.track(), 0, "forced: {forced}");
    }
}

#[test]
fn sections_stop_and_go_on_with_a_keyframe() {
    let mut w = World::new(Source::new(ONE, 50), 0, true);
    w.run(2500);
    w.egress.enable("0", false);
    w.run(200);
    let (pictures, sounds) = (w.browser.pictures.len(), w.browser.sounds.len());
    w.run(1000);
    assert_eq!(w.browser.pictures.len(), pictures);
    assert!(w.browser.sounds.len() > sounds + 40);
    w.source.obeys = true;
    w.egress.enable("0", true);
    w.run(500);
    assert!(w.browser.pictures[pictures].3, "a new keyframe, asked for");
    assert!(w.browser.pictures[pictures].4 > 90);
    w.egress.enable("1", false);
    w.run(100);
    let sounds = w.browser.sounds.len();
    w.run(1000);
    assert_eq!(w.browser.sounds.len(), sounds);
}

#[test]
fn a_keyframe_is_asked_for_when_the_cache_has_none_that_is_newer() {
    let mut w = World::new(Source::new(ONE, 500), 0, true);
    w.run(2000);
    let pli = [0x81, 206, 0, 2, 0, 0, 0, 9, 0, 0, 0x11, 0x11];
    for _ in 0..5 {
        w.egress.rtcp(&pli, w.now());
        w.egress.send(w.now(), &mut w.net);
    }
    w.run(10);
    let wishes = w.events.iter().filter(|(_, e)| *e == EgressEvent::WantKeyframe { feed: 0 }).count();
    assert_eq!(wishes, 1, "for all that ask at once");
}

#[test]
fn one_viewer_does_not_hold_up_another() {
    let source = Source::new(ONE, 50);
    let start = Instant::now();
    let mut other = Egress::new(vec![source.feed.clone()], &sections(true), 7, start);
    let mut net = Net::new();
    let mut w = World::new(source, 0, true);
    w.net.narrow = Some(200_000);
    for _ in 0..1000 {
        w.run(10);
        net.now = w.net.now;
        other.send(start + Duration::from_millis(w.ms), &mut net);
    }
    let frames = net.flying.iter().filter(|(_, d)| d.len() > 100 && d[1] & 0x80 != 0).count();
    assert!(frames >= 249, "{frames}");
}

#[test]
fn the_end_is_told_once_with_a_goodbye() {
    let mut w = World::new(Source::new(ONE, 50), 0, true);
    w.run(1000);
    w.source.shared.end();
    w.run(200);
    w.egress.send(w.now(), &mut w.net);
    let ends = w.events.iter().filter(|(_, e)| *e == EgressEvent::Ended { feed: 0 }).count();
    assert_eq!(ends, 1);
    let byes = w.net.compounds.iter().filter(|c| c.len() == 16 && c[9] == 203).count();
    assert_eq!(byes, 2);
}

#[test]
fn a_track_with_another_codec_ends_for_its_viewers_and_is_there_for_new_ones() {
    let mut w = World::new(Source::new(ONE, 50), 0, true);
    w.run(1000);
    let TrackConfig::Video(config) = (*picture_config(720)).clone() else { panic!("a picture") };
    let vp9 = TrackConfig::Video(VideoConfig { codec: VideoCodec::Vp9, ..config });
    let at = Timestamp::from_millis(1040);
    w.source.writer.group(0, &Arc::new(vp9), &stamp(at), true);
    w.source.writer.frame(0, &frame(at, at, true, 0, 26, 1000));
    w.source.renditions.clear();
    w.run(500);
    let ends = w.events.iter().filter(|(_, e)| *e == EgressEvent::Ended { feed: 0 }).count();
    assert_eq!(ends, 1);
    assert_eq!(w.numbers().last(), Some(&25), "nothing of the other codec");
    let lanes = w.source.feed.video(None);
    assert_eq!(lanes.len(), 1);
    assert_eq!(lanes[0].codec, Codec::Video(VideoCodec::Vp9));
    assert!(lanes[0].keyframe().is_some_and(|g| g.len() == 1));
}

#[test]
fn sound_goes_on_with_another_track() {
    let mut w = World::new(Source::new(ONE, 50), 0, true);
    w.run(1000);
    // The publisher's own Opus stops; the one that is bridged comes under another number.
    w.source.sound_track = SOUND + 1;
    w.run(3000);
    let numbers: Vec<u32> = w.browser.sounds.keys().copied().collect();
    assert!(w.browser.sounds.len() > 130, "{numbers:?}");
    assert!(*numbers.last().unwrap() > 190);
}

#[test]
fn b_frames_are_left_out_and_counted() {
    let mut source = Source::new(&[], 50);
    let at = Timestamp::from_millis;
    source.writer.group(0, &picture_config(720), &stamp(at(0)), true);
    for (number, pts) in [(0, 40), (1, 160), (2, 80), (3, 120), (4, 280), (5, 200)] {
        let f = frame(at(number * 40), at(pts), number == 0, 0, number as u64, 100);
        source.writer.frame(0, &f);
    }
    assert_eq!(source.feed.dropped(), 3);
    let lane = source.feed.video(None)[0].clone();
    let group = lane.keyframe().unwrap();
    let shown: Vec<i64> = (0..group.len()).map(|i| group.get(i).unwrap().pts.as_millis()).collect();
    assert_eq!(shown, [40, 160, 280]);
}

#[test]
fn a_stream_without_keyframes_does_not_pile_up() {
    let mut source = Source::new(ONE, u64::MAX);
    source.publish(1000);
    for second in 1..120 {
        source.publish(second * 1000);
        let time = Timestamp::from_millis(second as i64 * 1000);
        source.writer.group(0, &picture_config(720), &stamp(time), false);
    }
    let lane = source.feed.video(None)[0].clone();
    assert!(lane.ring.bytes() < 30 * 150_000, "{}", lane.ring.bytes());
    // A viewer who comes now waits for a keyframe, and asks for it.
    let mut w = World::new(source, 119_000, true);
    w.source.obeys = true;
    w.run(500);
    assert!(w.browser.pictures.first().is_some_and(|p| p.3));
}

#[test]
fn renegotiation_keeps_what_stays() {
    let mut w = World::new(Source::new(ONE, 50), 0, true);
    w.run(2200);
    let feed = w.source.feed.clone();
    w.egress.renegotiate(vec![feed.clone()], &sections(true)[1..], w.now());
    w.run(500);
    let sounds = w.browser.sounds.len();
    assert!(sounds > 130);
    w.egress.renegotiate(vec![feed], &sections(true), w.now());
    let pictures = w.browser.pictures.len();
    w.run(100);
    assert!(w.browser.sounds.len() >= sounds + 4);
    assert_eq!(w.egress.feeds().len(), 1);
    assert!(w.browser.pictures.len() >= pictures);
}

#[test]
fn a_track_that_comes_back_goes_on_with_its_numbers() {
    let mut w = World::new(Source::new(ONE, 50), 0, true);
    w.net.loss = 0.05;
    let feed = w.source.feed.clone();
    let (mut sent, mut again) = (0, 0);
    for _ in 0..3 {
        w.run(3000);
        assert!(w.net.seqs.len() > sent + 100 && w.net.repairs.len() > again, "{sent} {again}");
        (sent, again) = (w.net.seqs.len(), w.net.repairs.len());
        w.egress.renegotiate(vec![feed.clone()], &sections(true)[1..], w.now());
        w.run(500);
        // Once without retransmissions: their numbers are not forgotten.
        w.egress.renegotiate(vec![feed.clone()], &sections(false), w.now());
        w.egress.renegotiate(vec![feed.clone()], &sections(true), w.now());
    }
    for seqs in [&w.net.seqs, &w.net.repairs] {
        assert!(seqs.windows(2).all(|s| s[1] == s[0].wrapping_add(1)), "{seqs:?}");
    }
}

#[test]
fn any_feedback_is_survived() {
    let mut w = World::new(Source::new(ONE, 50), 0, true);
    w.run(500);
    let mut seed = 3;
    for i in 0..5000u64 {
        let mut bytes: Vec<u8> = (0..4 + i as usize % 60)
            .map(|_| {
                seed = mix(seed);
                seed as u8
            })
            .collect();
        (bytes[0], bytes[1]) = (0x80 | seed as u8 & 31, 200 + (seed >> 8) as u8 % 7);
        (bytes[2], bytes[3]) = (0, (bytes.len() / 4).saturating_sub(1) as u8);
        if let Some(ssrc) = bytes.get_mut(8..12) {
            ssrc.copy_from_slice(&VIDEO.to_be_bytes());
        }
        w.egress.rtcp(&bytes, w.now());
    }
    let before = w.net.sent;
    w.egress.send(w.now(), &mut w.net);
    assert!(w.net.sent - before < 200_000, "what is asked for is bounded");
    w.run(1000);
    assert!(w.browser.sounds.len() > 40);
}

#[test]
fn what_was_seen_to_work_is_kept_where_packets_get_lost_and_the_link_is_narrow() {
    for (queue, loss) in [(15_000, 0.0), (250_000, 0.0), (60_000, 0.03)] {
        let mut w = World::new(Source::new(LADDER, 50), 2000, true);
        (w.net.queue, w.net.loss, w.net.delay) = (queue, loss, 50_000);
        w.run(12_000);
        w.net.narrow = Some(500_000);
        w.run(3000);
        assert_eq!(w.egress.stats(w.now()).height, 180, "queue {queue}, loss {loss}");
        w.run(5000);
        let stats = w.egress.stats(w.now());
        assert!((150_000..700_000).contains(&stats.estimate), "{stats:?}");
    }
}

struct Count(AtomicUsize);
impl Wake for Count {
    fn wake(&self, _: FeedId) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_feed_follows_its_stream() {
    let hub = Hub::new(Duration::ZERO);
    let mut publisher =
        hub.publish(StreamKey::new("live", "a"), Origin::default(), StreamSettings::default()).unwrap();
    publisher.expect_video(true);
    let stream = publisher.stream().clone();
    let feeds = Feeds::default();
    let feed = feeds.join(&stream);
    assert!(Arc::ptr_eq(&feed, &feeds.join(&stream)) && stream.aside().needs(AudioCodec::Opus));
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let wake: Arc<dyn Wake> = count.clone();
    feed.watch(&wake);
    feed.watch(&wake);
    let video = publisher.add_track((*picture_config(720)).clone()).unwrap();
    let audio = publisher.add_track((*sound_config()).clone()).unwrap();
    for i in 0..3 {
        let at = Timestamp::from_millis(i * 40);
        publisher.write(video, frame(at, at, i == 0, 0, i as u64, 3000)).unwrap();
        publisher.write(audio, frame(at, at, true, SOUND, i as u64, 80)).unwrap();
    }
    publisher.flush();
    let tracks = feed.tracks().await;
    assert_eq!(tracks.len(), 2);
    assert_eq!((tracks[0].height, tracks[1].codec), (720, Codec::Audio(AudioCodec::Opus)));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!((1..=2).contains(&count.0.load(Ordering::Relaxed)));
    publisher.finish();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(feed.is_ended());
    drop(feed);
    assert!(!stream.aside().needs(AudioCodec::Opus));
}
