//! How long to wait before the next attempt.

use std::time::Duration;

/// At once, then longer and longer, with a chance in it, so that many who lost the same node do not come back together.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Default for Backoff {
    /// For another node of the cluster: from 50 ms to 1 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(1))
    }
}

impl Backoff {
    /// The first wait that is one, doubled with each attempt until the longest.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Backoff { first, longest, attempts: 0 }
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// `chance` is from 0 to 1.
    pub fn next(&mut self, chance: f64) -> Duration {
        let attempt = self.attempts;
        self.attempts = attempt.saturating_add(1);
        match attempt.checked_sub(1) {
            None => Duration::ZERO,
            Some(n) => {
                let whole = (self.first * 2u32.saturating_pow(n.min(10))).min(self.longest);
                whole / 2 + whole.mul_f64(chance.clamp(0.0, 1.0) / 2.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_and_then_ever_later() {
        let mut b = Backoff::default();
        assert_eq!(b.next(0.5), Duration::ZERO);
        assert_eq!(b.next(0.0), Duration::from_millis(25));
        assert_eq!(b.next(1.0), Duration::from_millis(100));
        let last = (0..100).map(|_| b.next(1.0)).last();
        assert_eq!(last, Some(Duration::from_secs(1)));
        b.reset();
        assert_eq!(b.next(1.0), Duration::ZERO);
    }
}
