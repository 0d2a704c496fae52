//! What comes in for one layer: packets in, frames out, and what is to be told its sender.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_media::Timestamp;
use sluice_media::stats::Meter;

use super::buffer::{Buffer, Popped, Put, Slot};
use super::clock::{Clock, Wall};
use super::depacketize::assemble;
use super::reception::Statistics;
use super::rtcp::{Reception, SenderReport};
use crate::agreed::Codec;

/// The longest that video waits for a packet that is missing: senders repeat one once a round trip, and three tries of a long
/// way are to be had.
const PATIENCE: Duration = Duration::from_millis(450);
/// The shortest.
const SHORT_PATIENCE: Duration = Duration::from_millis(100);
/// Where packets are not sent again, they can only be late.
const LATE: Duration = Duration::from_millis(60);
/// Between two requests for a keyframe.
const KEYFRAME_AGAIN: Duration = Duration::from_millis(500);
/// A source that sent nothing for this long is paused: it is asked for nothing until it sends again. Browsers answer a wish
/// for one layer with keyframes of all.
const SILENT: Duration = Duration::from_secs(1);

/// A frame that came whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Whole {
    pub(super) codec: Codec,
    /// On the timeline of the publisher; decoding never comes after presentation.
    pub(super) dts: Timestamp,
    pub(super) pts: Timestamp,
    pub(super) payload: Bytes,
}

/// One layer's packets.
#[derive(Debug)]
pub(super) struct Source {
    video: bool,
    /// Whether packets are asked for again.
    repairs: bool,
    rate: u32,
    buffer: Buffer,
    statistics: Statistics,
    clock: Clock,
    meter: Meter,
    order: Order,
    nacks: u64,
    recovered: u64,
    /// What earlier sources of this layer lost.
    lost_before: u64,
    /// When the last packet came that was no retransmission.
    heard: Option<Instant>,
    keyframe: Wish,
}

/// A keyframe that is wanted.
#[derive(Debug, Default)]
struct Wish {
    /// Since when.
    wanted: Option<Instant>,
    asked: Option<Instant>,
    came: Option<Instant>,
}

impl Source {
    pub(super) fn new(video: bool, repairs: bool, rate: u32) -> Self {
        Source {
            video,
            repairs,
            rate,
            buffer: Buffer::new(!video),
            statistics: Statistics::default(),
            clock: Clock::new(rate, video),
            meter: Meter::default(),
            order: Order::default(),
            nacks: 0,
            recovered: 0,
            lost_before: 0,
            heard: None,
            keyframe: Wish::default(),
        }
    }

    /// Another source sends this layer from now on.
    pub(super) fn reset(&mut self) {
        self.lost_before += self.buffer.lost();
        self.buffer = Buffer::new(!self.video);
        self.statistics = Statistics::default();
        self.clock = Clock::new(self.rate, self.video);
        self.heard = None;
        // Who has not been heard is not asked for a keyframe: its first frame wants one.
        (self.keyframe.wanted, self.keyframe.came) = (None, None);
    }

    pub(super) fn is_video(&self) -> bool {
        self.video
    }

    /// How long a gap is waited for.
    fn patience(&self, rtt: Duration) -> Duration {
        if self.repairs { (rtt * 4).clamp(SHORT_PATIENCE, PATIENCE) } else { LATE }
    }

    /// Takes a packet; `again` when it is a retransmission. Gives the round trip that a repair took.
    pub(super) fn packet(
        &mut self,
        seq: u16,
        slot: Slot,
        again: bool,
        at: (Instant, Duration),
        wall: &mut Wall,
    ) -> Option<Duration> {
        let (now, age) = at;
        self.meter.add(age.as_secs(), slot.payload.len() as u64);
        let (timestamp, carries) = (slot.timestamp, slot.carries());
        if !again {
            self.statistics.packet(seq, timestamp, age.as_secs_f64() * f64::from(self.rate));
            if carries {
                self.clock.arrived(timestamp, age.as_micros() as i64, wall);
            }
            self.heard = Some(now);
        }
        match self.buffer.put(seq, slot, now) {
            Put::New { asked } => {
                self.recovered += u64::from(again);
                asked.map(|asked| now.saturating_duration_since(asked))
            }
            Put::Useless => None,
        }
    }

    pub(super) fn report(&mut self, report: SenderReport, now: Instant, wall: &mut Wall) {
        self.statistics.sender_report(report, now);
        self.clock.report(report, wall);
    }

    /// The next frame that is whole; [`None`] when there is none by now. What was lost makes a keyframe wanted.
    pub(super) fn pop(&mut self, now: Instant, rtt: Duration) -> Option<Result<Whole, Lost>> {
        let popped = self.buffer.pop(now, self.patience(rtt));
        let discarded = self.buffer.take_discarded();
        let lost = match popped {
            None if discarded => Lost,
            None => return None,
            Some(Popped::Gap) => Lost,
            Some(Popped::Frame { codec, timestamp, payloads }) => match assemble(codec, &payloads) {
                Ok(payload) => {
                    let pts = self.clock.place(timestamp);
                    let dts = self.order.decoding_time(pts);
                    let (dts, pts) = (Timestamp(dts), Timestamp(pts));
                    return Some(Ok(Whole { codec, dts, pts, payload }));
                }
                Err(broken) => {
                    tracing::debug!("{broken}");
                    Lost
                }
            },
        };
        self.want_keyframe(now);
        Some(Err(lost))
    }

    /// A keyframe is wanted.
    pub(super) fn want_keyframe(&mut self, now: Instant) {
        if self.video && self.heard.is_some() {
            self.keyframe.wanted.get_or_insert(now);
        }
    }

    /// A keyframe came.
    pub(super) fn keyframe_came(&mut self, now: Instant) {
        (self.keyframe.wanted, self.keyframe.came) = (None, Some(now));
    }

    /// When the next keyframe is to be wished for if they should come this often, unless one is wanted already or the source is
    /// silent by then.
    pub(super) fn next_keyframe(&self, every: Duration) -> Option<Instant> {
        let last = self.keyframe.came.filter(|_| self.video && self.keyframe.wanted.is_none())?;
        Some(last + every).filter(|at| self.is_heard(*at))
    }

    /// When the sender is to be asked for a keyframe, unless it is silent by then.
    pub(super) fn keyframe_due(&self) -> Option<Instant> {
        let since = self.keyframe.wanted?;
        let due = self.keyframe.asked.map_or(since, |asked| since.max(asked + KEYFRAME_AGAIN));
        Some(due).filter(|at| self.is_heard(*at))
    }

    fn is_heard(&self, at: Instant) -> bool {
        self.heard.is_some_and(|heard| at <= heard + SILENT)
    }

    /// Whether to ask for a keyframe now; it is taken to be done.
    pub(super) fn take_keyframe_wish(&mut self, now: Instant) -> bool {
        let due = self.keyframe_due().is_some_and(|at| at <= now);
        if due {
            self.keyframe.asked = Some(now);
        }
        due
    }

    /// When frames can be given out that wait for a missing packet.
    pub(super) fn deadline(&self, rtt: Duration) -> Option<Instant> {
        self.buffer.deadline(self.patience(rtt))
    }

    /// When packets are to be asked for.
    pub(super) fn next_request(&self) -> Option<Instant> {
        self.repairs.then(|| self.buffer.next_request()).flatten()
    }

    /// The packets to ask for now.
    pub(super) fn requests(&mut self, now: Instant, rtt: Duration, most: usize) -> Vec<u16> {
        if !self.repairs {
            return Vec::new();
        }
        let requests = self.buffer.requests(now, rtt, most);
        self.nacks += requests.len() as u64;
        requests
    }

    pub(super) fn block(&mut self, ssrc: u32, now: Instant) -> Option<Reception> {
        self.statistics.block(ssrc, now)
    }

    /// Bits a second, packets lost, asked for, recovered, and the jitter in milliseconds.
    pub(super) fn stats(&self, age: Duration) -> (f64, [u64; 3], f64) {
        let bits = self.meter.per_second(age.as_secs()) * 8.0;
        let counts = [self.lost_before + self.buffer.lost(), self.nacks, self.recovered];
        (bits, counts, self.statistics.jitter() * 1000.0 / f64::from(self.rate))
    }
}

/// Packets are missing, or do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// RTP tells when a frame is shown; with B-frames it is decoded earlier.
#[derive(Debug, Default)]
struct Order {
    last: Option<i64>,
    newest: i64,
    /// How far presentation may lie behind decoding.
    delay: i64,
}

/// No stream reorders by more, in microseconds; what goes back further is a jump of the clock.
const MOST_REORDERING: i64 = 1_000_000;

impl Order {
    fn decoding_time(&mut self, pts: i64) -> i64 {
        let Some(last) = self.last else {
            (self.last, self.newest) = (Some(pts), pts);
            return pts;
        };
        let back = self.newest - pts;
        if back > MOST_REORDERING {
            (self.last, self.newest, self.delay) = (Some(pts), pts, 0);
            return pts;
        }
        self.delay = self.delay.max(back + if back > 0 { 1000 } else { 0 });
        self.newest = self.newest.max(pts);
        let dts = (pts - self.delay).max(last + 1);
        self.last = Some(dts);
        dts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_b_frames_decoding_is_presentation() {
        let mut order = Order::default();
        assert!((0..100).all(|i| order.decoding_time(i * 40_000) == i * 40_000));
    }

    #[test]
    fn b_frames_are_decoded_before_they_are_shown() {
        let mut order = Order::default();
        let mut last = -1;
        // Two B-frames between references, in the order of decoding.
        for (i, n) in (0..30).flat_map(|g| [3 * g + 3, 3 * g + 1, 3 * g + 2]).enumerate() {
            let pts = n * 40_000;
            let dts = order.decoding_time(pts);
            assert!(dts > last && (i < 3 || dts <= pts), "{i}: {dts} {pts}");
            last = dts;
        }
        assert_eq!(order.decoding_time(0), 0, "a jump");
    }
}
