//! One timeline for all sources of a publisher: lip sync (RFC 3550, 6.4.1).
//!
//! Before a source's first sender report its packets are placed by their arrival, the promptest first. Sender reports
//! then tell how the sources stand to each other; the first source that has one stays where it is, the others slide
//! into place, slowly enough that nobody sees it.

use crate::ingest::rtcp::SenderReport;

/// Arrival and reports that differ by more do not speak of the same clock; in microseconds.
const ANOTHER_CLOCK: i64 = 5_000_000;
/// What is further off than this is corrected at once.
const AT_ONCE: i64 = 1_000_000;
/// A source slides by this part of the time that passes.
const SLIDE: i64 = 16;
/// Packets by whose arrival a source is placed.
const PACKETS: u32 = 64;

/// What relates the sources of one publisher to each other.
#[derive(Debug, Default)]
pub(super) struct Wall {
    /// From the sender's wall clock to the timeline, in microseconds.
    offset: Option<i64>,
}

/// The clock of one source.
#[derive(Debug)]
pub(super) struct Clock {
    rate: i64,
    /// Reports are taken to be as exact as this, in microseconds.
    exact: i64,
    last: Option<i64>,
    offset: i64,
    target: i64,
    packets: u32,
    synced: bool,
    early: Option<SenderReport>,
    placed: Option<i64>,
}

impl Clock {
    /// Of a source with an RTP clock of `rate` hertz.
    pub(super) fn new(rate: u32, video: bool) -> Self {
        Clock {
            rate: i64::from(rate.max(1)),
            exact: if video { 4_000 } else { 10_000 },
            last: None,
            offset: 0,
            target: 0,
            packets: 0,
            synced: false,
            early: None,
            placed: None,
        }
    }

    /// A packet with that timestamp came at `now`, in microseconds of the timeline.
    pub(super) fn arrived(&mut self, timestamp: u32, now: i64, wall: &mut Wall) {
        let first = self.last.is_none();
        let ticks = self.unwrap(timestamp);
        // Later packets that bring older times do not turn the clock back.
        self.last = Some(self.last.map_or(ticks, |last| last.max(ticks)));
        let by_arrival = now - self.micros(ticks);
        if first {
            (self.offset, self.target) = (by_arrival, by_arrival);
        } else if (by_arrival - self.target).abs() > ANOTHER_CLOCK {
            self.last = Some(ticks);
            (self.target, self.synced, self.packets) = (by_arrival, false, 0);
        } else if !self.synced && self.packets < PACKETS {
            self.target = self.target.min(by_arrival);
        }
        self.packets = self.packets.saturating_add(1);
        if let Some(report) = self.early.take() {
            self.report(report, wall);
        }
    }

    /// The sender says how its clocks stand.
    pub(super) fn report(&mut self, report: SenderReport, wall: &mut Wall) {
        if report.ntp == 0 {
            return;
        }
        if self.last.is_none() {
            self.early = Some(report);
            return;
        }
        let ntp = ((u128::from(report.ntp) * 1_000_000) >> 32) as i64;
        let at = self.micros(self.unwrap(report.rtp));
        let Some(offset) = wall.offset else {
            wall.offset = Some(at + self.target - ntp);
            self.synced = true;
            return;
        };
        let target = ntp + offset - at;
        let off = (target - self.target).abs();
        if off > ANOTHER_CLOCK {
            return;
        }
        if !self.synced || off > self.exact {
            self.target = target;
        }
        self.synced = true;
    }

    /// Where a frame with that timestamp goes, in microseconds of the timeline. Frames in order.
    pub(super) fn place(&mut self, timestamp: u32) -> i64 {
        let at = self.micros(self.unwrap(timestamp));
        let off = self.target - self.offset;
        match self.placed {
            Some(before) if off.abs() <= AT_ONCE => {
                let most = (at - before).clamp(0, 1_000_000) / SLIDE;
                self.offset += off.clamp(-most, most);
            }
            _ => self.offset = self.target,
        }
        self.placed = Some(at);
        at + self.offset
    }

    /// Ticks beyond the wraps of 32 bits: whatever is nearest to the newest.
    fn unwrap(&self, timestamp: u32) -> i64 {
        match self.last {
            None => i64::from(timestamp),
            Some(last) => last + i64::from(timestamp.wrapping_sub(last as u32) as i32),
        }
    }

    fn micros(&self, ticks: i64) -> i64 {
        (i128::from(ticks) * 1_000_000 / i128::from(self.rate)) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ntp(micros: u64) -> u64 {
        ((u128::from(micros) << 32) / 1_000_000) as u64 + (1 << 60)
    }

    fn report(at: u64, rtp: u32) -> SenderReport {
        SenderReport { ssrc: 1, ntp: ntp(at), rtp }
    }

    #[test]
    fn sources_slide_together_after_their_reports() {
        let mut wall = Wall::default();
        let (mut video, mut audio) = (Clock::new(90_000, true), Clock::new(48_000, false));
        // Video takes 150 ms longer on its way than audio does. Both begin near the end of their range.
        let (v0, a0) = (0u32.wrapping_sub(9_000), 0u32.wrapping_sub(48_000));
        let (mut last_v, mut last_a) = (i64::MIN, i64::MIN);
        for i in 0..500u32 {
            let sent = i64::from(i) * 20_000;
            let (v, a) = (v0.wrapping_add(i * 1800), a0.wrapping_add(i * 960));
            video.arrived(v, sent + 200_000, &mut wall);
            audio.arrived(a, sent + 50_000, &mut wall);
            let (at_v, at_a) = (video.place(v), audio.place(a));
            assert!(at_v > last_v && at_a > last_a && (i == 0 || at_a - last_a < 22_000), "{i}");
            (last_v, last_a) = (at_v, at_a);
            match i {
                10 => assert_eq!(at_v - at_a, 150_000, "by arrival"),
                50 => video.report(report(1_000_000, v), &mut wall),
                100 => audio.report(report(2_000_000, a), &mut wall),
                _ => {}
            }
        }
        assert!((last_v - last_a).abs() < 100, "{last_v} {last_a}");
        assert_eq!(last_v, 499 * 20_000 + 200_000, "the first that had a report stays");
    }

    #[test]
    fn a_report_before_the_first_packet_counts() {
        let mut wall = Wall::default();
        let (mut video, mut audio) = (Clock::new(90_000, true), Clock::new(48_000, false));
        video.arrived(0, 0, &mut wall);
        video.report(report(0, 0), &mut wall);
        audio.report(report(0, 1000), &mut wall);
        audio.arrived(1000, 80_000, &mut wall);
        assert_eq!(audio.place(1000), video.place(0));
    }

    #[test]
    fn a_report_of_another_clock_is_passed_over() {
        let mut wall = Wall::default();
        let (mut video, mut audio) = (Clock::new(90_000, true), Clock::new(48_000, false));
        video.arrived(0, 0, &mut wall);
        audio.arrived(0, 0, &mut wall);
        video.report(report(0, 0), &mut wall);
        audio.report(report(3_600_000_000, 0), &mut wall);
        audio.report(SenderReport { ssrc: 1, ntp: 0, rtp: 0 }, &mut wall);
        assert_eq!(audio.place(0), 0);
    }

    #[test]
    fn a_jump_of_the_timestamps_is_placed_by_arrival() {
        let mut wall = Wall::default();
        let mut video = Clock::new(90_000, true);
        video.arrived(0, 0, &mut wall);
        assert_eq!(video.place(0), 0);
        video.arrived(2_000_000_000, 40_000, &mut wall);
        assert_eq!(video.place(2_000_000_000), 40_000);
        video.arrived(5, 80_000, &mut wall);
        assert_eq!(video.place(5), 80_000);
    }
}
