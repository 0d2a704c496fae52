//! What is counted of a stream while it is live: cheap to write, true to read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::session::Protocol;

/// The seconds over which a [`Meter`] averages.
const WINDOW: u64 = 4;
const BUCKETS: usize = 8;

/// Adds amounts up by the second and tells the rate over the last whole seconds.
#[derive(Debug, Default)]
pub struct Meter {
    // (second + 1) << 40 | amount, so that one atomic holds both; amounts saturate at 2^40 - 1.
    buckets: [AtomicU64; BUCKETS],
    first: AtomicU64,
}

impl Meter {
    /// Counts `amount` in the given second of the stream's own clock. One writer at a time.
    pub fn add(&self, second: u64, amount: u64) {
        const MASK: u64 = (1 << 40) - 1;
        let _ = self.first.compare_exchange(0, second + 1, Relaxed, Relaxed);
        let bucket = &self.buckets[second as usize % BUCKETS];
        let old = bucket.load(Relaxed);
        let sum = if old >> 40 == second + 1 { (old & MASK) + amount } else { amount };
        bucket.store((second + 1) << 40 | sum.min(MASK), Relaxed);
    }

    /// The average per second over the whole seconds before `second`.
    pub fn per_second(&self, second: u64) -> f64 {
        const MASK: u64 = (1 << 40) - 1;
        let first = self.first.load(Relaxed);
        if first == 0 {
            return 0.0;
        }
        let begin = second.saturating_sub(WINDOW).max(first - 1);
        if begin >= second {
            // Less than a second old: what there is so far.
            return (self.buckets[second as usize % BUCKETS].load(Relaxed) & MASK) as f64;
        }
        let sum: u64 = (begin..second)
            .map(|s| self.buckets[s as usize % BUCKETS].load(Relaxed))
            .zip(begin..second)
            .filter(|(b, s)| b >> 40 == s + 1)
            .map(|(b, _)| b & MASK)
            .sum();
        sum as f64 / (second - begin) as f64
    }
}

/// Counters of one stream.
#[derive(Debug, Default)]
pub struct StreamStats {
    /// Media bytes received from the publisher, since the stream started.
    pub bytes_in: AtomicU64,
    /// Frames received.
    pub frames_in: AtomicU64,
    /// Frames that could not be used: before the first keyframe, or of a format that is not carried.
    pub frames_dropped: AtomicU64,
    /// Groups that readers left out because they were too slow.
    pub groups_skipped: AtomicU64,
    /// Media bytes by second.
    pub bytes: Meter,
    /// Milliseconds of media by second: 1000 when the publisher sends in real time.
    pub media_ms: Meter,
    /// Video frames by second.
    pub frame_rate: Meter,
    viewers: [AtomicU64; Protocol::COUNT],
}

impl StreamStats {
    /// Viewers now, by protocol.
    pub fn viewers(&self, protocol: Protocol) -> u64 {
        self.viewers[protocol as usize].load(Relaxed)
    }

    /// Viewers now, by any protocol.
    pub fn all_viewers(&self) -> u64 {
        self.viewers.iter().map(|v| v.load(Relaxed)).sum()
    }
}

/// Counts one viewer for as long as it lives.
#[derive(Debug)]
pub struct ViewerGuard {
    stats: Arc<StreamStats>,
    protocol: Protocol,
}

impl ViewerGuard {
    /// Counts a viewer in.
    pub fn new(stats: Arc<StreamStats>, protocol: Protocol) -> Self {
        stats.viewers[protocol as usize].fetch_add(1, Relaxed);
        ViewerGuard { stats, protocol }
    }
}

impl Drop for ViewerGuard {
    fn drop(&mut self) {
        self.stats.viewers[self.protocol as usize].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_tells_the_rate_of_whole_seconds() {
        let m = Meter::default();
        assert_eq!(m.per_second(0), 0.0);
        m.add(0, 100);
        assert_eq!(m.per_second(0), 100.0, "the first second counts as it comes");
        for s in 1..20 {
            m.add(s, 100);
            m.add(s, 100);
        }
        assert_eq!(m.per_second(19), 200.0);
        assert_eq!(m.per_second(21), 150.0, "seconds of silence count");
        assert_eq!(m.per_second(100), 0.0);
    }

    #[test]
    fn viewers_come_and_go() {
        let stats = Arc::new(StreamStats::default());
        let a = ViewerGuard::new(stats.clone(), Protocol::Rtmp);
        let b = ViewerGuard::new(stats.clone(), Protocol::Hls);
        assert_eq!((stats.viewers(Protocol::Rtmp), stats.all_viewers()), (1, 2));
        drop(a);
        drop(b);
        assert_eq!(stats.all_viewers(), 0);
    }
}
