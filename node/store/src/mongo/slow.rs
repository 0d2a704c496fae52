//! Says that the database is slow, but not with every call.

use std::time::{Duration, Instant};

/// Between two warnings.
const PAUSE: Duration = Duration::from_secs(10);

/// What to warn of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slow {
    /// How many calls were slow since the last warning.
    pub(super) calls: u64,
    /// The longest of them.
    pub(super) longest: Duration,
}

#[derive(Debug)]
pub(super) struct Watch {
    limit: Duration,
    warned: Option<Instant>,
    since: Slow,
}

impl Watch {
    pub(super) fn new(limit: Duration) -> Self {
        Watch { limit, warned: None, since: Slow { calls: 0, longest: Duration::ZERO } }
    }

    /// A call took that long; gives what is to be said, if anything.
    pub(super) fn took(&mut self, took: Duration, now: Instant) -> Option<Slow> {
        if took <= self.limit {
            return None;
        }
        self.since.calls += 1;
        self.since.longest = self.since.longest.max(took);
        if self.warned.is_some_and(|at| now.saturating_duration_since(at) < PAUSE) {
            return None;
        }
        self.warned = Some(now);
        Some(std::mem::replace(&mut self.since, Slow { calls: 0, longest: Duration::ZERO }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warns_once_in_ten_seconds_with_a_count() {
        let (ms, start) = (Duration::from_millis, Instant::now());
        let mut watch = Watch::new(ms(100));
        assert_eq!(watch.took(ms(100), start), None);
        assert_eq!(watch.took(ms(101), start), Some(Slow { calls: 1, longest: ms(101) }));
        assert_eq!(watch.took(ms(300), start + ms(10)), None);
        assert_eq!(watch.took(ms(200), start + ms(9_999)), None);
        assert_eq!(watch.took(ms(150), start + ms(10_000)), Some(Slow { calls: 3, longest: ms(300) }));
    }
}
