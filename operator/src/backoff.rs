//! How long to wait before trying again.

use std::time::Duration;

/// A wait that doubles with each failure, up to a limit, and is spread so that many do not try at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub max: Duration,
}

impl Backoff {
    /// For objects that cannot be brought to their spec.
    pub const OBJECT: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(300) };
    /// For watches: an API server that was restarted is back in seconds.
    pub const WATCH: Backoff = Backoff { first: Duration::from_millis(250), max: Duration::from_secs(20) };
    /// For nodes that do not answer.
    pub const NODE: Backoff = Backoff { first: Duration::from_millis(250), max: Duration::from_secs(10) };

    /// The wait after so many failures in a row (at least one); `spread` is random, of `0.0..1.0`, and takes up to a quarter off.
    pub fn after(&self, failures: u32, spread: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let wait = self.first.saturating_mul(1 << doublings).min(self.max);
        wait.mul_f64(1.0 - spread.clamp(0.0, 1.0) / 4.0)
    }

    /// The same with this thread's randomness.
    pub fn draw(&self, failures: u32) -> Duration {
        self.after(failures, rand::random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit() {
        let backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(300) };
        for (failures, ms) in
            [(0, 500), (1, 500), (2, 1000), (3, 2000), (10, 256_000), (11, 300_000), (u32::MAX, 300_000)]
        {
            assert_eq!(backoff.after(failures, 0.0), Duration::from_millis(ms), "{failures}");
        }
    }

    #[test]
    fn spreads_over_a_quarter() {
        let backoff = Backoff::OBJECT;
        assert_eq!(backoff.after(1, 1.0), Duration::from_millis(375));
        for _ in 0..100 {
            let wait = backoff.draw(3);
            assert!(wait >= Duration::from_millis(1500) && wait <= Duration::from_millis(2000), "{wait:?}");
        }
    }
}
