//! A publisher's RTP packets to frames in the hub.
//!
//! - [`binding`]: which source (SSRC) belongs to which section and simulcast layer.
//! - [`buffer`]: a source's packets in order, without gaps, as whole frames. [`depacketize`]: payloads to the hub's form.
//! - [`clock`]: RTP timestamps of all sources on one timeline. [`tracks`]: frames to the tracks of the stream.
//! - [`reception`], [`arrivals`], [`bandwidth`], [`rtcp`]: what the sender is told.
//!
//! The layers of a simulcast become the video tracks of the stream. All are asked for a keyframe as often as the stream
//! should be cut into segments: browsers send one only when they are asked. The orientation of a picture (CVO) is not
//! carried on: what a phone sends in portrait format says so only in that extension.

use std::time::{Duration, Instant, SystemTime};

use sluice_media::{Publisher, stream::StopReason};

use crate::agreed::Receiving;
use crate::rtp::Packet;

mod arrivals;
mod bandwidth;
mod binding;
mod buffer;
mod clock;
pub mod depacketize;
mod reception;
pub mod rtcp;
mod source;
mod tracks;

use arrivals::Arrivals;
use bandwidth::Bandwidth;
use binding::{Bindings, Bound};
use buffer::Slot;
use clock::Wall;
use rtcp::{Compound, Said};
use source::Source;
use tracks::{Taken, Tracks};

/// Between two receiver reports.
const REPORTS: Duration = Duration::from_millis(500);
/// A round trip, before one was measured.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// Feedback is packed up to this size, so that it fits a datagram whatever comes last.
const FEEDBACK: usize = 600;
/// Packets that are asked for at once.
const REQUESTS: usize = 64;
/// A keyframe is asked for a little before it is due: it takes its time.
const EARLIER: Duration = Duration::from_millis(100);
/// And not more often than this, however short segments are wished for.
const KEYFRAMES: Duration = Duration::from_secs(1);

/// What is known of what comes in, for `bitrateMeasurement` and the pages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IngestStats {
    /// Bits a second of video, all layers.
    pub video_bitrate: u64,
    /// Bits a second of audio.
    pub audio_bitrate: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that were asked for again.
    pub nacks: u64,
    /// Packets that came by retransmission.
    pub recovered: u64,
    /// Interarrival jitter of the video, in milliseconds.
    pub jitter_ms: f64,
}

/// One publisher's media.
pub struct Ingest {
    started: Instant,
    bindings: Bindings,
    /// By layer.
    sources: Vec<Source>,
    tracks: Tracks,
    wall: Wall,
    arrivals: Arrivals,
    bandwidth: Bandwidth,
    rtt: Duration,
    /// How often keyframes are asked for.
    keyframes: Duration,
    next_report: Option<Instant>,
}

impl Ingest {
    /// Writes to `publisher` what comes for `sections`.
    pub fn new(publisher: Publisher, sections: &[Receiving], now: Instant) -> Self {
        let keyframes = publisher.stream().settings().wish.segment.max(KEYFRAMES) - EARLIER;
        let mut ingest = Ingest {
            started: now,
            bindings: Bindings::default(),
            sources: Vec::new(),
            tracks: Tracks::new(publisher),
            wall: Wall::default(),
            arrivals: Arrivals::default(),
            bandwidth: Bandwidth::default(),
            rtt: ROUND_TRIP,
            keyframes,
            next_report: None,
        };
        ingest.renegotiate(sections);
        ingest
    }

    /// The sections changed by a new offer: SSRCs, rids, formats.
    pub fn renegotiate(&mut self, sections: &[Receiving]) {
        let before: Vec<_> = self.bindings.layers.iter().map(|l| l.ssrc).collect();
        self.bindings.set_sections(sections);
        for (layer, known) in self.bindings.layers.iter().enumerate() {
            match self.sources.get_mut(layer) {
                Some(source) if before.get(layer) != Some(&known.ssrc) => {
                    source.reset();
                    self.tracks.lost(layer);
                }
                Some(_) => {}
                None => {
                    let Some(section) = self.bindings.section(layer) else { continue };
                    // Without a format for retransmissions browsers do not send audio again.
                    let repairs = section.video || section.payloads.iter().any(|p| p.rtx.is_some());
                    self.sources.push(Source::new(section.video, repairs, binding::clock_rate(section)));
                }
            }
        }
        let layers = self.bindings.layers.iter().enumerate();
        let video = layers.filter(|(i, l)| l.section.is_some() && self.sources[*i].is_video()).count();
        self.tracks.expect(video);
    }

    /// A packet came.
    pub fn rtp(&mut self, packet: Packet, now: Instant, wall: SystemTime) {
        self.next_report.get_or_insert(now + REPORTS);
        let number = self.bindings.transport_cc().and_then(|id| packet.extension(id));
        if let Some(&[high, low]) = number {
            let micros = self.age(now).as_micros() as i64;
            self.arrivals.packet(u16::from_be_bytes([high, low]), micros, now);
        }
        let known = self.bindings.known(packet.ssrc);
        let Some(bound) = self.bindings.find(&packet) else { return };
        if known.is_none() && !bound.rtx {
            // The layer has another sender than before.
            self.sources[bound.layer].reset();
            self.tracks.lost(bound.layer);
        }
        self.put(packet, bound, now);
        self.drain(bound.layer, now, wall);
        self.tracks.flush();
    }

    fn put(&mut self, packet: Packet, bound: Bound, now: Instant) {
        let format = self.bindings.payload(bound.layer, packet.pt);
        let section = self.bindings.section(bound.layer);
        let fitting = format.filter(|(p, _)| section.is_some_and(|s| binding::fits(s, p)));
        let codec = fitting.map(|(p, _)| p.codec);
        // Browsers fill up with empty retransmissions; and what has another format would be no packet of the other source.
        let again = fitting.is_some_and(|(_, rtx)| rtx);
        if bound.rtx && !again {
            return;
        }
        let Packet { marker, timestamp, seq, payload, .. } = packet;
        let (seq, payload) = match (again, payload.first_chunk()) {
            (false, _) => (seq, payload),
            (true, Some(original)) => (u16::from_be_bytes(*original), payload.slice(2..)),
            (true, None) => return,
        };
        let at = (now, self.age(now));
        let slot = Slot { marker, timestamp, codec, payload };
        let took = self.sources[bound.layer].packet(seq, slot, again, at, &mut self.wall);
        if let Some(took) = took.filter(|_| again) {
            self.rtt = (self.rtt * 7 + took) / 8;
        }
    }

    /// Writes the frames that are whole.
    fn drain(&mut self, layer: usize, now: Instant, wall: SystemTime) {
        while let Some(next) = self.sources[layer].pop(now, self.rtt) {
            match next {
                Err(source::Lost) => {
                    if self.sources[layer].is_video() {
                        self.tracks.lost(layer);
                    }
                }
                Ok(whole) => match self.tracks.frame(layer, whole, now, wall) {
                    Taken::Yes { keyframe: true } => self.sources[layer].keyframe_came(now),
                    Taken::NeedsKeyframe => self.sources[layer].want_keyframe(now),
                    Taken::Yes { .. } | Taken::Nothing => {}
                },
            }
        }
    }

    /// RTCP of the other side came: sender reports and goodbyes matter here.
    pub fn rtcp(&mut self, compound: &[u8], now: Instant) {
        for said in rtcp::read(compound) {
            let ssrc = match said {
                Said::Report(report) => report.ssrc,
                Said::Bye(ssrc) => ssrc,
            };
            let Some(bound) = self.bindings.known(ssrc) else { continue };
            match said {
                Said::Report(report) if !bound.rtx => {
                    self.sources[bound.layer].report(report, now, &mut self.wall);
                }
                Said::Report(_) => {}
                Said::Bye(_) => {
                    self.bindings.unbind(ssrc);
                    if !bound.rtx {
                        self.sources[bound.layer].reset();
                        self.tracks.lost(bound.layer);
                    }
                }
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) and, after it, [`feedback`](Self::feedback) want to be called.
    pub fn timeout(&self) -> Option<Instant> {
        let own = [self.next_report, self.arrivals.next(), self.tracks.deadline()];
        let of_sources = self.live().flat_map(|(_, s, _)| {
            [s.deadline(self.rtt), s.next_request(), s.keyframe_due(), s.next_keyframe(self.keyframes)]
        });
        own.into_iter().chain(of_sources).flatten().min()
    }

    /// Layers that have a source.
    fn live(&self) -> impl Iterator<Item = (usize, &Source, u32)> {
        let layers = self.sources.iter().zip(&self.bindings.layers).enumerate();
        layers.filter_map(|(i, (source, layer))| Some((i, source, layer.ssrc?)))
    }

    /// Its time has come: frames that waited for packets, feedback that is due.
    pub fn handle_timeout(&mut self, now: Instant, wall: SystemTime) {
        for layer in 0..self.sources.len() {
            if self.sources[layer].deadline(self.rtt).is_some_and(|at| at <= now) {
                self.drain(layer, now, wall);
            }
        }
        // All together, so that the layers begin their groups together.
        if self.live().any(|(_, source, _)| source.next_keyframe(self.keyframes).is_some_and(|at| at <= now))
        {
            self.want_keyframe(now);
        }
        self.tracks.handle_timeout(now, wall);
        self.tracks.flush();
    }

    /// An RTCP compound packet to send, if one is due. Ask again until there is none.
    pub fn feedback(&mut self, now: Instant) -> Option<Vec<u8>> {
        let ssrcs: Vec<(usize, u32)> = self.live().map(|(i, _, ssrc)| (i, ssrc)).collect();
        let mut blocks = Vec::new();
        let mut remb = None;
        if self.next_report.is_some_and(|at| at <= now) {
            self.next_report = Some(now + REPORTS);
            let block = |(i, ssrc): &(usize, u32)| self.sources[*i].block(*ssrc, now);
            blocks = ssrcs.iter().filter_map(block).collect();
            if self.bindings.transport_cc().is_none() {
                let video = |ssrc| ssrcs.iter().any(|(i, s)| *s == ssrc && self.sources[*i].is_video());
                let loss = blocks.iter().filter(|b| video(b.ssrc)).map(|b| b.fraction).max();
                remb = loss.map(|loss| self.bandwidth.update(loss, self.stats(now).video_bitrate));
            }
        }
        let mut out = Compound::new(&blocks);
        if let Some(bitrate) = remb {
            let all: Vec<u32> = ssrcs.iter().map(|(_, ssrc)| *ssrc).collect();
            out.remb(bitrate, &all);
        }
        for &(layer, ssrc) in &ssrcs {
            if self.sources[layer].take_keyframe_wish(now) {
                out.pli(ssrc);
            }
            if out.size() < FEEDBACK {
                let requests = self.sources[layer].requests(now, self.rtt, REQUESTS);
                if !requests.is_empty() {
                    out.nack(ssrc, &requests);
                }
            }
        }
        if out.size() < FEEDBACK
            && let Some(body) = self.arrivals.report(now)
        {
            out.transport(ssrcs.first().map_or(0, |(_, ssrc)| *ssrc), &body);
        }
        out.finish()
    }

    /// A keyframe is wanted (a viewer asked, or a reader began).
    pub fn want_keyframe(&mut self, now: Instant) {
        self.sources.iter_mut().for_each(|s| s.want_keyframe(now));
    }

    /// Waits until somebody wants this publisher to stop.
    pub fn stop_requested(&self) -> std::pin::Pin<Box<dyn Future<Output = StopReason> + Send>> {
        Box::pin(self.tracks.publisher().stop_requested())
    }

    /// What came.
    pub fn stats(&self, now: Instant) -> IngestStats {
        let mut all = IngestStats::default();
        for source in &self.sources {
            let (bits, [lost, nacks, recovered], jitter) = source.stats(self.age(now));
            if source.is_video() {
                all.video_bitrate += bits as u64;
                all.jitter_ms = all.jitter_ms.max(jitter);
            } else {
                all.audio_bitrate += bits as u64;
            }
            all.lost += lost;
            all.nacks += nacks;
            all.recovered += recovered;
        }
        all
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// The publisher is done: the stream ends. Dropping it instead is a broken connection.
    pub fn finish(self) {
        self.tracks.finish(SystemTime::now());
    }
}

#[cfg(test)]
mod tests;
