//! What a receiver report says of a source (RFC 3550, 6.4.1 and A.3, A.8).

use std::time::Instant;

use super::rtcp::{Reception, SenderReport};

#[derive(Debug, Default)]
pub(super) struct Statistics {
    first: Option<i64>,
    highest: i64,
    received: i64,
    before: (i64, i64),
    jitter: f64,
    transit: Option<(u32, f64)>,
    report: Option<(u64, Instant)>,
}

impl Statistics {
    /// A packet came, not by retransmission; `ticks` is its arrival on the RTP clock.
    pub(super) fn packet(&mut self, seq: u16, timestamp: u32, ticks: f64) {
        self.received += 1;
        if self.first.is_none() {
            self.first = Some(i64::from(seq));
            self.highest = i64::from(seq);
        }
        let step = i64::from(seq.wrapping_sub(self.highest as u16) as i16);
        if step < 0 {
            return;
        }
        self.highest += step;
        // The packets of a frame are sent after each other: only the first tells the time.
        if let Some((before, at)) = self.transit
            && before != timestamp
        {
            let sent = f64::from(timestamp.wrapping_sub(before) as i32);
            let d = (ticks - at - sent).abs();
            // A jump of the clock is no jitter.
            if d < 10.0 * 90_000.0 {
                self.jitter += (d - self.jitter) / 16.0;
            }
        }
        if self.transit.is_none_or(|(before, _)| before != timestamp) {
            self.transit = Some((timestamp, ticks));
        }
    }

    pub(super) fn sender_report(&mut self, report: SenderReport, now: Instant) {
        self.report = Some((report.ntp, now));
    }

    /// Interarrival jitter, in ticks.
    pub(super) fn jitter(&self) -> f64 {
        self.jitter
    }

    /// The report block; the loss counts from the last call.
    pub(super) fn block(&mut self, ssrc: u32, now: Instant) -> Option<Reception> {
        let expected = self.highest - self.first? + 1;
        let (expected_before, received_before) =
            std::mem::replace(&mut self.before, (expected, self.received));
        let (new, came) = (expected - expected_before, self.received - received_before);
        let fraction = if new > 0 && came < new { ((new - came) << 8) / new } else { 0 };
        Some(Reception {
            ssrc,
            fraction: fraction.min(255) as u8,
            lost: (expected - self.received).clamp(-(1 << 23), (1 << 23) - 1) as i32,
            highest: self.highest as u32,
            jitter: self.jitter as u32,
            last_report: self.report.map_or(0, |(ntp, _)| (ntp >> 16) as u32),
            since_report: self
                .report
                .map_or(0, |(_, at)| (now.saturating_duration_since(at).as_secs_f64() * 65536.0) as u32),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_what_is_missing_over_a_wrap() {
        let now = Instant::now();
        let mut s = Statistics::default();
        assert_eq!(s.block(7, now), None);
        for i in (0..100u16).filter(|i| i % 4 != 1) {
            s.packet(65_500u16.wrapping_add(i), 0, 0.0);
        }
        s.sender_report(SenderReport { ssrc: 7, ntp: 0x1122_3344_5566_7788, rtp: 0 }, now);
        let block = s.block(7, now + Duration::from_secs(2)).unwrap();
        assert_eq!((block.lost, block.fraction, block.highest), (25, 64, 65_599));
        assert_eq!((block.last_report, block.since_report), (0x3344_5566, 2 << 16));
        assert_eq!(s.block(7, now).unwrap().fraction, 0, "nothing since");
    }

    #[test]
    fn jitter_is_what_arrivals_vary_by() {
        let mut s = Statistics::default();
        for i in 0..1000u32 {
            let late = if i % 2 == 0 { 0.0 } else { 900.0 };
            s.packet(i as u16, i * 3000, f64::from(i) * 3000.0 + late);
            s.packet(i as u16, i * 3000, f64::from(i) * 3000.0 + 5000.0);
        }
        assert!((s.jitter() - 900.0).abs() < 1.0, "{}", s.jitter());
    }
}
