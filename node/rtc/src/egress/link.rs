//! The link to one viewer: which packets left when, what came of them, and what it is believed to carry.

use std::time::{Duration, Instant};

use super::estimate::{Estimate, Told};
use super::rtcp::arrivals;

/// Packets that are remembered until the viewer tells of them.
const REMEMBERED: usize = 2048;
/// How long a probe sends, in microseconds, and how long its feedback may take.
const PROBE: i64 = 300_000;
const PROBE_ANSWER: i64 = 1_000_000;
/// A probe has to get through with this share of its rate.
const PROBE_PASSED: f64 = 0.85;
/// The round trip while none is known.
const RTT: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// Microseconds since the link began, modulo 2^32.
    at: u32,
    /// 0 when the viewer has told of it.
    size: u16,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probed {
    /// The link carries what was tried.
    Passed,
    /// It does not.
    Failed,
}

#[derive(Debug)]
struct Probe {
    /// Bits a second.
    rate: f64,
    began: i64,
    /// Bytes sent since, of any kind.
    sent: u64,
    /// Arrivals of packets that left while it went: the first and the last, and bytes behind the first.
    arrived: Option<(i64, i64, u64)>,
    answered: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    origin: Instant,
    history: Vec<Sent>,
    next: u16,
    /// How many numbers of the history are in use.
    used: usize,
    told: Vec<Told>,
    /// What the viewer's last feedback referred to, see [`arrivals`].
    reference: i64,
    pub(crate) estimate: Estimate,
    rtt: Option<Duration>,
    reported_rtt: bool,
    probe: Option<Probe>,
    probed: Option<Probed>,
    sent_lately: bool,
}

impl Link {
    pub(crate) fn new(start: f64, first: u16, now: Instant) -> Self {
        Link {
            origin: now,
            history: Vec::new(),
            next: first,
            used: 0,
            told: Vec::new(),
            reference: 0,
            estimate: Estimate::new(start, now),
            rtt: None,
            reported_rtt: false,
            probe: None,
            probed: None,
            sent_lately: false,
        }
    }

    /// Microseconds since the link began.
    pub(crate) fn micros(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.origin).as_micros()).unwrap_or(i64::MAX)
    }

    /// The round trip, be it a guess.
    pub(crate) fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(RTT)
    }

    /// The round trip, once it is known.
    pub(crate) fn known_rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// A report told the round trip.
    pub(crate) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(if self.reported_rtt { (self.rtt() * 7 + rtt) / 8 } else { rtt });
        self.reported_rtt = true;
    }

    /// A packet of that size leaves now; gives its number in the session.
    pub(crate) fn sent(&mut self, micros: i64, size: usize) -> u16 {
        if self.history.is_empty() {
            self.history = vec![Sent::default(); REMEMBERED];
        }
        let seq = self.next;
        self.next = seq.wrapping_add(1);
        self.used = (self.used + 1).min(REMEMBERED);
        let size = size.min(usize::from(u16::MAX)) as u16;
        self.history[usize::from(seq) % REMEMBERED] = Sent { at: micros as u32, size };
        self.sent_lately = true;
        if let Some(probe) = &mut self.probe {
            probe.sent += u64::from(size);
        }
        seq
    }

    /// Transport-wide feedback came.
    pub(crate) fn arrivals(&mut self, body: &[u8], now: Instant) {
        let micros = self.micros(now);
        let Link { history, told, reference, next, used, .. } = self;
        told.clear();
        // Those that did not arrive count only where a later one did: the others may be on their way.
        let mut arrived = 0;
        arrivals(body, REMEMBERED, reference, |seq, at| {
            let age = usize::from(next.wrapping_sub(seq));
            if age == 0 || age > *used {
                return;
            }
            let Some(sent) = history.get_mut(usize::from(seq) % REMEMBERED) else { return };
            if sent.size == 0 {
                return;
            }
            let departure = micros - i64::from((micros as u32).wrapping_sub(sent.at));
            told.push(Told { sent: departure, arrived: at, size: u32::from(sent.size) });
            if at.is_some() {
                sent.size = 0;
                arrived = told.len();
            }
        });
        told.truncate(arrived);
        if let Some(newest) = told.last()
            && !self.reported_rtt
        {
            let rtt = Duration::from_micros(u64::try_from(micros - newest.sent).unwrap_or(0));
            self.rtt = Some(self.rtt.map_or(rtt, |known| known.min(rtt)));
        }
        let rtt = self.rtt();
        self.estimate.feedback(&self.told, rtt, now);
        self.answer();
        self.conclude(micros);
    }

    /// Tries whether the link carries this many bits a second.
    pub(crate) fn start_probe(&mut self, rate: f64, now: Instant) {
        if self.probe.is_none() {
            self.probed = None;
            let began = self.micros(now);
            self.probe = Some(Probe { rate, began, sent: 0, arrived: None, answered: false });
        }
    }

    /// Bytes that a probe still wants to be sent by now; nothing while none sends.
    pub(crate) fn padding(&self, micros: i64) -> Option<usize> {
        let probe = self.probe.as_ref()?;
        let elapsed = micros - probe.began;
        if elapsed > PROBE {
            return None;
        }
        let due = probe.rate / 8.0 * elapsed as f64 / 1e6 - probe.sent as f64;
        Some(due.max(0.0) as usize)
    }

    /// What the last probe found, once.
    pub(crate) fn probed(&mut self) -> Option<Probed> {
        self.probed.take()
    }

    /// Time goes by.
    pub(crate) fn tick(&mut self, now: Instant) {
        if std::mem::take(&mut self.sent_lately) {
            self.estimate.tick(now);
        }
        self.conclude(self.micros(now));
    }

    fn answer(&mut self) {
        let Some(probe) = &mut self.probe else { return };
        for packet in &self.told {
            if packet.sent > probe.began + PROBE {
                probe.answered = true;
            } else if let (true, Some(at)) = (packet.sent >= probe.began, packet.arrived) {
                probe.arrived = Some(match probe.arrived {
                    None => (at, at, 0),
                    Some((first, last, bytes)) => (first, last.max(at), bytes + u64::from(packet.size)),
                });
            }
        }
    }

    fn conclude(&mut self, micros: i64) {
        let Some(probe) = &self.probe else { return };
        let began = self.origin + Duration::from_micros(u64::try_from(probe.began).unwrap_or(0));
        let congested = self.estimate.congested().is_some_and(|at| at > began);
        if !congested && !probe.answered && micros - probe.began < PROBE + PROBE_ANSWER {
            return;
        }
        let rate = probe.arrived.filter(|(first, last, _)| last - first > PROBE / 2);
        let rate = rate.map_or(0.0, |(first, last, bytes)| bytes as f64 * 8e6 / (last - first) as f64);
        let passed = !congested && rate >= PROBE_PASSED * probe.rate;
        tracing::trace!(tried = probe.rate, arrived = rate, congested, passed, "a viewer's link was tried");
        if passed {
            self.estimate.carries(probe.rate);
            self.probed = Some(Probed::Passed);
        } else {
            self.probed = Some(Probed::Failed);
        }
        self.probe = None;
    }
}
