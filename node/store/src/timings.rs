use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long the store's calls took, waiting included. Cheap to record, read when somebody asks.
#[derive(Debug, Default)]
pub struct Timings {
    buckets: [AtomicU64; Timings::BOUNDS.len() + 1],
    nanos: AtomicU64,
    failed: AtomicU64,
}

/// A copy of the [`Timings`] at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimingsSnapshot {
    /// For each of [`Timings::BOUNDS`] the number of calls that took at most that long (cumulative).
    pub cumulative: Vec<u64>,
    /// All calls.
    pub count: u64,
    /// Their times added up.
    pub sum: Duration,
    /// Those that failed because the store did (not those whose answer was "no").
    pub failed: u64,
}

impl Timings {
    /// Upper bounds of the buckets, in seconds.
    pub const BOUNDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

    /// Adds one call.
    pub fn record(&self, took: Duration, failed: bool) {
        let secs = took.as_secs_f64();
        let i = Self::BOUNDS.iter().position(|b| secs <= *b).unwrap_or(Self::BOUNDS.len());
        self.buckets[i].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        if failed {
            self.failed.fetch_add(1, Relaxed);
        }
    }

    /// The numbers by now.
    pub fn snapshot(&self) -> TimingsSnapshot {
        let mut count = 0;
        let mut cumulative: Vec<u64> = Vec::with_capacity(Self::BOUNDS.len() + 1);
        for b in &self.buckets {
            count += b.load(Relaxed);
            cumulative.push(count);
        }
        cumulative.pop();
        TimingsSnapshot {
            cumulative,
            count,
            sum: Duration::from_nanos(self.nanos.load(Relaxed)),
            failed: self.failed.load(Relaxed),
        }
    }
}

impl TimingsSnapshot {
    /// The mean time of a call in milliseconds, 0 when there was none.
    pub fn mean_millis(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum.as_secs_f64() * 1000.0 / self.count as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let t = Timings::default();
        t.record(Duration::from_micros(500), false);
        t.record(Duration::from_millis(3), false);
        t.record(Duration::from_secs(60), true);
        let s = t.snapshot();
        assert_eq!(s.cumulative, [1, 1, 1, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!((s.count, s.failed), (3, 1));
        assert!(s.mean_millis() > 20_000.0);
    }
}
