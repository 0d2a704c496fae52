//! Frames of the hub to RTP packets, made once for all viewers, and what differs per viewer.
//!
//! - [`packetize`]: a frame to payloads. [`writer`] fills the lanes ([`lane`]) of a [`Feed`] with them, once for all viewers.
//! - [`section`]: where one viewer is in a lane. [`stream`]: its RTP numbers, and what it can be sent again.
//! - [`link`]: what came of each packet. [`estimate`], [`trend`]: what the link carries. [`choose`]: which rendition that is.
//!
//! Only [`Feeds`] needs a runtime. An [`Egress`] has no clock, socket or task: time is an argument, packets go to a [`Sink`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::agreed::Sending;
use crate::random::mix;

mod choose;
mod estimate;
mod feed;
mod header;
mod lane;
mod link;
mod packetize;
mod rtcp;
mod section;
mod stream;
mod trend;
mod writer;

use choose::{Choice, Decision, Seen};
pub use feed::{Feed, FeedId, FeedTrack, Feeds, Wake};
use link::{Link, Probed};
use rtcp::Feedback;
use section::Section;
use stream::{Output, Totals};

/// What a link is believed to carry before anything is known of it, in bits a second.
const START: f64 = 1_500_000.0;
/// Packets leave at this many times what the link carries, so that a keyframe does not fill its queue.
const PACE: f64 = 2.5;
/// A link that carries more than the stream needs gets a frame within this.
const FRAME_TIME: f64 = 0.12;
/// So much may leave at once: an ordinary frame. In seconds at the pace; and in bytes.
const BURST: f64 = 0.04;
const BURST_BYTES: (f64, f64) = (9_600.0, 60_000.0);
/// Packets that wait leave this often.
const SLOT: Duration = Duration::from_millis(8);
/// How often renditions are thought over.
const DECIDE: Duration = Duration::from_millis(100);
/// How often a sender report goes out.
const REPORT: Duration = Duration::from_secs(1);
/// Packets that a viewer may ask for again before they are sent.
const WAITING: usize = 512;
/// They may take this share of what the link carries, of so many bits a second at least, and so many bytes at once.
const AGAIN: f64 = 0.35;
const AGAIN_OF: f64 = 400_000.0;
const AGAIN_BYTES: f64 = 48_000.0;
/// Events that wait to be taken.
const EVENTS: usize = 32;
/// SSRCs whose numbers are remembered: SRTP protects no more in a session.
const NUMBERED: usize = 1024;

/// Where packets go: protects them and sends those that follow each other in one call.
pub trait Sink {
    /// An RTP packet.
    fn rtp(&mut self, header: &[u8], payload: &[u8]);
    /// An RTCP compound packet.
    fn rtcp(&mut self, compound: &[u8]);
}

/// Which rendition a viewer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// What its link carries.
    Auto,
    /// This height, or the one nearest to it, whatever its link carries.
    Height(u32),
}

/// What a viewer's link is like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EgressStats {
    /// What the link is believed to carry, in bits a second.
    pub estimate: u64,
    /// What is sent: video, in bits a second.
    pub video_bitrate: u64,
    /// What is sent: audio, in bits a second.
    pub audio_bitrate: u64,
    /// Packets sent.
    pub packets: u64,
    /// Bytes sent, headers included.
    pub bytes: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Share of packets that are lost, 0 to 1, as the viewer reports.
    pub loss: f64,
    /// Round trip, in milliseconds; 0 while unknown.
    pub rtt_ms: f64,
    /// The height of the rendition that is sent; 0 without video.
    pub height: u32,
    /// Whether only keyframes are sent, because the link carries no more.
    pub thinned: bool,
}

/// What a viewer's session tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressEvent {
    /// Another rendition is sent: AMS's `resolutionChangeInfo`.
    Rendition {
        /// Index of the feed in the session.
        feed: usize,
        /// Its height in pixels.
        height: u32,
    },
    /// The viewer lacks a keyframe and the cache has none that is new enough: ask the publisher.
    WantKeyframe {
        /// Index of the feed in the session.
        feed: usize,
    },
    /// The stream is over.
    Ended {
        /// Index of the feed in the session.
        feed: usize,
    },
}

/// One viewer: what it gets of one feed or of several (a main track with subtracks).
pub struct Egress {
    feeds: Vec<Arc<Feed>>,
    ended: Vec<bool>,
    sections: Vec<Section>,
    /// For each SSRC that had a section, the sequence number that is next: a number that came twice would give SRTP's key
    /// away.
    numbers: HashMap<u32, u16>,
    link: Link,
    cname: String,
    seed: u64,
    events: VecDeque<EgressEvent>,
    /// Packets that were asked for again: section, sequence number.
    again: VecDeque<(usize, u16)>,
    again_allowance: f64,
    /// Bytes that may leave now.
    allowance: f64,
    pace: f64,
    paced: Instant,
    decided: Option<Instant>,
    timeout: Option<Instant>,
    scratch: Vec<u8>,
    totals: Totals,
    /// Totals and time at the start of the last whole second, and the rates over it: video, audio.
    measured: (Instant, Totals),
    rates: (u64, u64),
}

impl Egress {
    /// `sections[i].track` counts the tracks of all feeds: for each feed in turn its video, if it has any, then its audio, if
    /// it has any. `seed` is for initial numbers.
    pub fn new(feeds: Vec<Arc<Feed>>, sections: &[Sending], seed: u64, now: Instant) -> Self {
        let mut egress = Egress {
            ended: Vec::new(),
            feeds: Vec::new(),
            sections: Vec::new(),
            numbers: HashMap::new(),
            link: Link::new(START, seed as u16, now),
            cname: format!("{:016x}", mix(seed)),
            seed,
            events: VecDeque::new(),
            again: VecDeque::new(),
            again_allowance: AGAIN_BYTES,
            allowance: BURST_BYTES.0,
            pace: PACE * START / 8.0,
            paced: now,
            decided: None,
            timeout: None,
            scratch: Vec::new(),
            totals: Totals::default(),
            measured: (now, Totals::default()),
            rates: (0, 0),
        };
        egress.renegotiate(feeds, sections, now);
        egress
    }

    /// Feeds or sections changed by a new agreement; those that stay go on where they are.
    pub fn renegotiate(&mut self, feeds: Vec<Arc<Feed>>, sections: &[Sending], now: Instant) {
        let owners = owners(&feeds, sections);
        let mut before = std::mem::take(&mut self.sections);
        let old_feeds = std::mem::replace(&mut self.feeds, feeds);
        self.again.clear();
        for (ssrc, next) in before.iter().flat_map(|s| s.rtp.numbers(&s.sending)) {
            if self.numbers.len() < NUMBERED || self.numbers.contains_key(&ssrc) {
                self.numbers.insert(ssrc, next);
            }
        }
        for (sending, feed) in sections.iter().zip(owners) {
            let Some(owner) = self.feeds.get(feed) else { continue };
            let same = before.iter().position(|s| {
                s.sending == Sending { track: s.sending.track, ..sending.clone() }
                    && old_feeds.get(s.feed).is_some_and(|old| Arc::ptr_eq(old, owner))
            });
            self.sections.push(match same {
                Some(i) => before.swap_remove(i).moved(feed, sending.track),
                None => {
                    self.seed = mix(self.seed);
                    let mut section = Section::new(sending, feed, self.seed, now);
                    section.rtp.go_on(sending, |ssrc| self.numbers.get(&ssrc).copied());
                    section
                }
            });
        }
        self.ended = vec![false; self.feeds.len()];
        self.decided = None;
    }

    /// The feeds that it reads.
    pub fn feeds(&self) -> &[Arc<Feed>] {
        &self.feeds
    }

    /// Sends what is due: called when a feed woke, when the timeout is due, and after RTCP.
    pub fn send(&mut self, now: Instant, sink: &mut dyn Sink) {
        let micros = self.link.micros(now);
        for section in &mut self.sections {
            section.look(&self.feeds[section.feed]);
        }
        self.decide(now);
        self.refill(now);
        let mut out = Output {
            link: &mut self.link,
            sink: &mut *sink,
            scratch: &mut self.scratch,
            micros,
            allowance: &mut self.allowance,
            totals: &mut self.totals,
        };
        // Sound first: it is never held up by pictures.
        for section in self.sections.iter_mut().filter(|s| !s.sending.video) {
            section.advance(&mut out, now);
        }
        while self.again_allowance > 0.0
            && let Some((section, seq)) = self.again.pop_front()
        {
            if let Some(s) = self.sections.get_mut(section) {
                self.again_allowance -= s.rtp.resend(seq, &s.lanes, &mut out) as f64;
            }
        }
        let mut waiting = 0;
        for section in self.sections.iter_mut().filter(|s| s.sending.video) {
            let (switched, left) = section.advance(&mut out, now);
            waiting += left;
            if let Some(height) = switched {
                push(&mut self.events, EgressEvent::Rendition { feed: section.feed, height });
            }
        }
        let padding = out.link.padding(micros);
        if let (Some(bytes), Some(s)) =
            (padding, self.sections.iter_mut().find(|s| s.sending.video && s.enabled))
        {
            s.rtp.pad(bytes, &s.lanes, &mut out);
        }
        self.pace = self.pace_for(waiting);
        self.timeout = (waiting > 0 || padding.is_some() || !self.again.is_empty()).then(|| now + SLOT);
        self.report(now, micros, sink);
        self.wishes(now);
    }

    /// When [`send`](Self::send) wants to be called, besides.
    pub fn timeout(&self) -> Option<Instant> {
        self.timeout
    }

    /// RTCP of the viewer came: reports, NACK, PLI, FIR, REMB, transport-wide feedback.
    pub fn rtcp(&mut self, compound: &[u8], now: Instant) {
        let micros = self.link.micros(now);
        let Egress { link, sections, again, .. } = self;
        let find = |sections: &[Section], ssrc| {
            sections.iter().position(|s| s.rtp.ssrc() == ssrc || s.sending.rtx_ssrc == Some(ssrc))
        };
        rtcp::read(compound, |feedback| match feedback {
            Feedback::Report(block) => {
                let Some(s) = sections.iter_mut().find(|s| s.rtp.ssrc() == block.ssrc) else { return };
                if let Some(rtt) = s.rtp.reported(&block, &s.sending, micros) {
                    link.set_rtt(rtt);
                }
                if s.sending.video {
                    link.estimate.report(f64::from(block.lost) / 256.0, link.rtt(), now);
                }
            }
            Feedback::Nack { ssrc, items } => {
                let Some(section) = find(sections, ssrc) else { return };
                let room = WAITING.saturating_sub(again.len());
                again.extend(rtcp::lost(items, room).map(|seq| (section, seq)));
            }
            Feedback::Keyframe { ssrc } => {
                if let Some(i) = find(sections, ssrc) {
                    sections[i].keyframe_wanted(link.rtt(), now);
                }
            }
            Feedback::Remb(bits) => link.estimate.remb(bits, now),
            Feedback::Arrivals(body) => link.arrivals(body, now),
        });
        if !self.again.is_empty() {
            self.timeout = Some(now);
        }
    }

    /// What happened.
    pub fn event(&mut self) -> Option<EgressEvent> {
        self.events.pop_front()
    }

    /// Chooses the rendition of a feed.
    pub fn set_quality(&mut self, feed: usize, quality: Quality, now: Instant) {
        for section in self.sections.iter_mut().filter(|s| s.sending.video && s.feed == feed) {
            section.forced = match quality {
                Quality::Auto => None,
                Quality::Height(height) => Some(height),
            };
        }
        self.decided = None;
        self.decide(now);
    }

    /// Sends a section or does not (AMS's enableTrack, toggleVideo, toggleAudio).
    pub fn enable(&mut self, mid: &str, enabled: bool) {
        for section in self.sections.iter_mut().filter(|s| s.sending.mid == mid) {
            section.enable(enabled);
        }
    }

    /// What its link is like.
    pub fn stats(&self, now: Instant) -> EgressStats {
        let stale = now.saturating_duration_since(self.measured.0) > Duration::from_secs(3);
        let rates = if stale { (0, 0) } else { self.rates };
        let video = self.sections.iter().find(|s| s.sending.video);
        EgressStats {
            estimate: self.link.estimate.bits() as u64,
            video_bitrate: rates.0,
            audio_bitrate: rates.1,
            packets: self.totals.packets,
            bytes: self.totals.bytes,
            retransmitted: self.totals.retransmitted,
            loss: self.sections.iter().map(|s| s.rtp.loss()).fold(0.0, f64::max),
            rtt_ms: self.link.known_rtt().map_or(0.0, |rtt| rtt.as_secs_f64() * 1000.0),
            height: video.and_then(|s| s.lane()).map_or(0, |lane| lane.height()),
            thinned: video.is_some_and(|s| s.thinned),
        }
    }

    /// Thinks over which renditions are sent.
    fn decide(&mut self, now: Instant) {
        if self.decided.is_some_and(|at| now.saturating_duration_since(at) < DECIDE) {
            return;
        }
        self.decided = Some(now);
        self.link.tick(now);
        self.measure(now);
        let probed = self.link.probed();
        let videos = self.sections.iter().filter(|s| s.sending.video && s.enabled).count().max(1) as f64;
        let audio = self.rates.1 as f64;
        let estimate = (self.link.estimate.bits() - audio).max(0.0) / videos;
        let congested = self.link.estimate.congested();
        for section in self.sections.iter_mut().filter(|s| !s.sending.video) {
            section.follow_sound(&self.feeds[section.feed]);
        }
        let mut probe = None;
        for section in self.sections.iter_mut().filter(|s| s.sending.video && s.enabled) {
            let alive = section.alive();
            let rungs = section.rungs(&alive);
            if rungs.is_empty() {
                continue;
            }
            let forced = section.forced_rung(&alive);
            let choice = section.choice.get_or_insert_with(|| Choice::new(&rungs, estimate, now));
            choice.leave_gone(&rungs, &alive, estimate, now);
            if probed == Some(Probed::Failed) {
                choice.failed(now);
            }
            let Decision { rung, thinned, probe: wanted } =
                choice.decide(&rungs, Seen { estimate, congested }, forced, now);
            probe = probe.or(wanted.map(|bits| bits * videos + audio));
            if section.choose(rung, now) {
                tracing::debug!(stream = %self.feeds[section.feed].stream().key(), ?rungs, rung, estimate, "a viewer is to get another rendition");
            }
            // What is sent until the other rendition comes may be far too much as well.
            let needs = section.lane().map_or(0, |lane| lane.bitrate()) as f64;
            let squeezed = congested.is_some() && section.thinned_until(estimate, needs);
            let thin = thinned || squeezed;
            if section.thinned && !thin {
                section.wish = true;
            }
            section.thinned = thin;
        }
        if let Some(rate) = probe {
            self.link.start_probe(rate, now);
        }
    }

    fn measure(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.measured.0);
        if elapsed >= Duration::from_secs(1) {
            let rate = |now: u64, then: u64| ((now - then) as f64 * 8.0 / elapsed.as_secs_f64()) as u64;
            let then = self.measured.1;
            self.rates = (rate(self.totals.video, then.video), rate(self.totals.audio, then.audio));
            self.measured = (now, self.totals);
        }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.paced).as_secs_f64();
        self.paced = now;
        let most = (self.pace * BURST).clamp(BURST_BYTES.0, BURST_BYTES.1);
        self.allowance = (self.allowance + self.pace * elapsed).min(most);
        let again = AGAIN * self.link.estimate.bits().max(AGAIN_OF) / 8.0;
        self.again_allowance = (self.again_allowance + again * elapsed).min(AGAIN_BYTES);
    }

    /// Bytes a second, while so many bytes of frames that have begun wait.
    fn pace_for(&self, waiting: usize) -> f64 {
        let estimate = self.link.estimate.bits() / 8.0;
        let lanes = self.sections.iter().filter(|s| s.sending.video && s.enabled).filter_map(|s| s.lane());
        let needs = lanes.map(|lane| lane.bitrate()).sum::<u64>() as f64 / 8.0;
        let unknown = self.link.estimate.congested().is_none();
        let pace = if unknown { (PACE * estimate).max(PACE * needs) } else { PACE * estimate };
        if unknown || estimate > needs { pace.max(waiting as f64 / FRAME_TIME) } else { pace }
    }

    /// Sender reports that are due, and goodbyes of streams that are over.
    fn report(&mut self, now: Instant, micros: i64, sink: &mut dyn Sink) {
        for s in self.sections.iter_mut().filter(|s| now >= s.next_report) {
            let wall = self.feeds[s.feed].wall();
            if let Some(report) = s.rtp.report(wall, micros) {
                s.next_report = now + REPORT;
                self.scratch.clear();
                rtcp::write_report(&report, &self.cname, &mut self.scratch);
                sink.rtcp(&self.scratch);
            }
        }
        for (feed, ended) in self.ended.iter_mut().enumerate() {
            if *ended {
                continue;
            }
            let mut mine = self.sections.iter_mut().filter(|s| s.feed == feed);
            let over = if self.feeds[feed].is_ended() {
                mine.all(|s| !s.enabled || s.is_through())
            } else {
                mine.any(Section::is_gone)
            };
            if !over {
                continue;
            }
            *ended = true;
            for s in self.sections.iter().filter(|s| s.feed == feed) {
                // A goodbye is a compound packet with a report before it.
                self.scratch.clear();
                self.scratch.extend([0x80, 201, 0, 1]);
                self.scratch.extend(s.rtp.ssrc().to_be_bytes());
                rtcp::write_goodbye(s.rtp.ssrc(), &mut self.scratch);
                sink.rtcp(&self.scratch);
            }
            push(&mut self.events, EgressEvent::Ended { feed });
        }
    }

    /// Keyframes that are lacking, asked for not too often.
    fn wishes(&mut self, now: Instant) {
        for section in self.sections.iter_mut().filter(|s| s.wish) {
            section.wish = false;
            if self.feeds[section.feed].may_wish(now) {
                push(&mut self.events, EgressEvent::WantKeyframe { feed: section.feed });
            }
        }
    }
}

fn push(events: &mut VecDeque<EgressEvent>, event: EgressEvent) {
    if events.len() == EVENTS {
        events.pop_front();
    }
    events.push_back(event);
}

/// The feed of each section: tracks are numbered `2 * feed`, and one more for its sound.
fn owners(feeds: &[Arc<Feed>], sections: &[Sending]) -> Vec<usize> {
    sections.iter().map(|s| (s.track / 2).min(feeds.len().saturating_sub(1))).collect()
}

#[cfg(test)]
mod tests;
