//! What a viewer's link carries (Google congestion control, draft-ietf-rmcat-gcc-02): from when packets arrive, and from loss.
//!
//! Growth is held to what was seen to arrive, so that a link which is not used to the full is not believed to be wide; to find
//! out, [`Link`](super::link::Link) probes.

use std::time::{Duration, Instant};

use super::trend::{Trend, Usage};

/// Estimates are held within these, in bits a second.
const FLOOR: f64 = 60_000.0;
const CEILING: f64 = 200_000_000.0;
/// After congestion the estimate falls to this much of what arrives.
const DECREASE: f64 = 0.85;
/// Growth in a second.
const GROWTH: f64 = 1.08;
/// Growth ends at this much above what arrives.
const HEADROOM: f64 = 1.5;
/// Loss below the first lets the estimate grow, above the second makes it fall.
const LITTLE_LOSS: f64 = 0.02;
const MUCH_LOSS: f64 = 0.10;
/// Over how much time what arrives and what is lost are measured.
const WINDOW: i64 = 500_000;
/// Packets without word of them for this long: the link is worse than believed.
const SILENCE: Duration = Duration::from_millis(1500);

/// A packet that the viewer told of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// When it left, in microseconds.
    pub(crate) sent: i64,
    /// When it arrived, in microseconds of the viewer's clock; nothing if it did not.
    pub(crate) arrived: Option<i64>,
    /// Bytes.
    pub(crate) size: u32,
}

/// The estimate.
#[derive(Debug)]
pub(crate) struct Estimate {
    bits: f64,
    trend: Trend,
    arrived: Arrived,
    loss: f64,
    /// Where the link was at its limit last.
    limit: Option<f64>,
    grown: Instant,
    fell: Option<Instant>,
    congested: Option<Instant>,
    heard: Option<Instant>,
    remb: Option<u64>,
}

impl Estimate {
    pub(crate) fn new(start: f64, now: Instant) -> Self {
        Estimate {
            bits: start.clamp(FLOOR, CEILING),
            trend: Trend::default(),
            arrived: Arrived::default(),
            loss: 0.0,
            limit: None,
            grown: now,
            fell: None,
            congested: None,
            heard: None,
            remb: None,
        }
    }

    /// In bits a second.
    pub(crate) fn bits(&self) -> f64 {
        self.remb.map_or(self.bits, |remb| self.bits.min(remb as f64)).max(FLOOR)
    }

    /// When the link was last seen to be too narrow.
    pub(crate) fn congested(&self) -> Option<Instant> {
        self.congested
    }

    /// The link was seen to carry this much.
    pub(crate) fn carries(&mut self, bits: f64) {
        self.bits = self.bits.max(bits.min(CEILING));
    }

    /// Feedback came. `told` is in the order of sending.
    pub(crate) fn feedback(&mut self, told: &[Told], rtt: Duration, now: Instant) {
        if told.is_empty() {
            return;
        }
        self.heard = Some(now);
        let mut usage = self.trend.usage();
        for packet in told {
            if let Some(arrived) = packet.arrived {
                self.arrived.add(arrived, packet.size);
                usage = self.trend.add(packet.sent, arrived);
            }
        }
        let lost = told.iter().filter(|t| t.arrived.is_none()).count();
        self.lost(lost as f64 / told.len() as f64, told.len());
        let delivered = self.arrived.bits_per_second();
        let settled = self.fell.is_none_or(|at| now.saturating_duration_since(at) > rtt + SETTLE);
        if usage == Usage::Normal && self.loss < MUCH_LOSS && settled {
            // What has arrived the link can carry.
            self.bits = self.bits.max(0.95 * delivered.unwrap_or(0.0)).min(CEILING);
        }
        match usage {
            Usage::Over if settled => {
                let to = DECREASE * delivered.unwrap_or(self.bits);
                self.limit = delivered;
                self.fall(to, "packets take longer and longer", now);
            }
            Usage::Normal if self.loss < LITTLE_LOSS && settled => self.grow(delivered, rtt, now),
            _ => self.grown = now,
        }
        if self.loss > MUCH_LOSS && lost > 0 && settled {
            let less = self.bits * (1.0 - 0.5 * self.loss);
            // Where much is lost, what arrives is what the link carries; and it carries no less.
            let most = delivered.filter(|_| self.loss > 2.0 * MUCH_LOSS).map_or(less, |d| d.min(less));
            self.fall(most.max(DECREASE * delivered.unwrap_or(0.0)), "packets are lost", now);
        }
    }

    /// A receiver report came: all that is known where there is no transport-wide feedback.
    pub(crate) fn report(&mut self, lost: f64, rtt: Duration, now: Instant) {
        if self.heard.is_some() {
            return;
        }
        self.loss = 0.5 * self.loss + 0.5 * lost;
        if self.loss > MUCH_LOSS {
            self.fall(self.bits * (1.0 - 0.5 * self.loss), "packets are lost", now);
        } else if self.loss < LITTLE_LOSS {
            self.grow(None, rtt, now);
        }
    }

    /// The viewer's own estimate.
    pub(crate) fn remb(&mut self, bits: u64, now: Instant) {
        self.remb = (self.heard.is_none() && bits > 0).then_some(bits);
        if self.remb.is_some_and(|remb| (remb as f64) < self.bits) {
            self.congested.get_or_insert(now);
        }
    }

    /// Packets are being sent; without word from the viewer for too long the estimate falls.
    pub(crate) fn tick(&mut self, now: Instant) {
        if let Some(heard) = self.heard
            && now.saturating_duration_since(heard) > SILENCE
        {
            self.heard = Some(now);
            self.fall(self.bits * 0.5, "the viewer is not heard", now);
        }
    }

    fn fall(&mut self, to: f64, why: &'static str, now: Instant) {
        let before = self.bits;
        self.bits = self.bits.min(to).max(FLOOR);
        tracing::trace!(before, after = self.bits, loss = self.loss, why, "a viewer's link carries less");
        self.fell = Some(now);
        self.congested = Some(now);
        self.grown = now;
    }

    fn grow(&mut self, delivered: Option<f64>, rtt: Duration, now: Instant) {
        let dt = now.saturating_duration_since(self.grown).as_secs_f64().min(1.0);
        self.grown = now;
        let near = self.limit.is_some_and(|limit| (0.8 * limit..1.1 * limit).contains(&self.bits));
        let grown = if near {
            // A packet a round trip.
            self.bits + dt * 9600.0 / (rtt.as_secs_f64() + 0.1)
        } else {
            self.bits * GROWTH.powf(dt)
        };
        let most = delivered.map_or(grown, |d| HEADROOM * d + 10_000.0);
        self.bits = grown.min(most.max(self.bits)).min(CEILING);
    }

    /// An average over so many packets that a link which loses 5 % by chance hardly ever seems to lose 10 %.
    fn lost(&mut self, share: f64, packets: usize) {
        let weight = (packets as f64 / 180.0).min(0.35);
        self.loss += weight * (share - self.loss);
    }
}

/// After a fall the next one waits for this long, and a round trip.
const SETTLE: Duration = Duration::from_millis(150);

/// What arrives, over the last half second of the viewer's clock, in steps of 25 ms.
#[derive(Debug, Default)]
struct Arrived {
    steps: [u32; STEPS],
    newest: Option<i64>,
    first: i64,
}

const STEPS: usize = 20;
const STEP: i64 = WINDOW / STEPS as i64;

impl Arrived {
    fn add(&mut self, at: i64, size: u32) {
        let step = at.div_euclid(STEP);
        let newest = *self.newest.get_or_insert_with(|| {
            self.first = step;
            step
        });
        if step > newest {
            let gone = usize::try_from(step - newest).unwrap_or(STEPS).min(STEPS);
            for i in 1..=gone {
                self.steps[(newest + i as i64).rem_euclid(STEPS as i64) as usize] = 0;
            }
            if step - newest >= STEPS as i64 {
                self.steps = [0; STEPS];
            }
            self.newest = Some(step);
        } else if newest - step >= STEPS as i64 {
            return;
        }
        self.steps[step.rem_euclid(STEPS as i64) as usize] += size;
    }

    /// The newest step is not over yet and does not count.
    fn bits_per_second(&self) -> Option<f64> {
        let newest = self.newest?;
        let covered = (newest - self.first).min(STEPS as i64 - 1);
        if covered < 8 {
            return None;
        }
        let current = self.steps[newest.rem_euclid(STEPS as i64) as usize];
        let bytes: u64 = self.steps.iter().map(|b| u64::from(*b)).sum::<u64>() - u64::from(current);
        Some(bytes as f64 * 8.0 / (covered * STEP) as f64 * 1e6)
    }
}
