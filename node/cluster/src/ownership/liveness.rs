//! Clocks are not compared between machines: a node is alive while its counter is seen to grow, by the observer's own
//! monotonic clock.

use std::time::{Duration, Instant};

/// What the observer thinks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Heard of lately.
    Alive,
    /// Its lease is lost: others may take its streams.
    Lost,
    /// It is shown as dead.
    Dead,
}

/// A counter that another node raises, and when it was last seen to grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Liveness {
    counter: Option<u64>,
    grew: Option<Instant>,
    since: Option<Instant>,
}

impl Liveness {
    /// Nothing is known yet.
    pub fn new(now: Instant) -> Self {
        Liveness { counter: None, grew: None, since: Some(now) }
    }

    /// The counter was read; says whether that is a sign of life. The first reading is none: what it tells may be
    /// what a dead node left behind.
    pub fn read(&mut self, counter: u64, now: Instant) -> bool {
        let grew = self.counter.is_some_and(|known| counter > known);
        if self.counter.is_none_or(|known| counter > known) {
            self.counter = Some(counter);
        }
        if grew {
            self.sign(now);
        }
        grew
    }

    /// There was another sign of life, such as a message from it.
    pub fn sign(&mut self, now: Instant) {
        self.grew = Some(now);
    }

    /// The observer itself stood still for a while: nothing could be heard in that time.
    pub fn excuse(&mut self, pause: Duration) {
        for at in [&mut self.grew, &mut self.since].into_iter().flatten() {
            *at += pause;
        }
    }

    /// How long ago the last sign of life was; none when there was none.
    pub fn heard_ago(&self, now: Instant) -> Option<Duration> {
        self.grew.map(|at| now.saturating_duration_since(at))
    }

    /// How long there has been no sign of life: since the last one, or since it was first looked at.
    pub fn silent_for(&self, now: Instant) -> Duration {
        self.grew.or(self.since).map_or(Duration::MAX, |at| now.saturating_duration_since(at))
    }

    /// What to think of it; a node that never gave a sign is dead, even before its lease is.
    pub fn status(&self, now: Instant, lost: Duration, dead: Duration) -> Status {
        match self.heard_ago(now) {
            None => Status::Dead,
            Some(ago) if ago >= dead => Status::Dead,
            Some(ago) if ago >= lost => Status::Lost,
            Some(_) => Status::Alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Duration = Duration::from_secs(6);
    const DEAD: Duration = Duration::from_secs(20);

    #[test]
    fn only_a_growing_counter_is_life() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut node = Liveness::new(start);
        assert!(!node.read(7, at(0)));
        assert_eq!(node.status(at(0), LOST, DEAD), Status::Dead);
        assert!(!node.read(7, at(2)));
        assert_eq!(node.silent_for(at(2)), Duration::from_secs(2));
        assert!(node.read(8, at(4)));
        // A database may answer with something older.
        assert!(!node.read(7, at(5)));
        assert!(!node.read(8, at(6)));
        assert_eq!(node.status(at(9), LOST, DEAD), Status::Alive);
        assert_eq!(node.status(at(10), LOST, DEAD), Status::Lost);
        assert_eq!(node.status(at(24), LOST, DEAD), Status::Dead);
        node.sign(at(30));
        assert_eq!(node.status(at(31), LOST, DEAD), Status::Alive);
        assert_eq!(node.heard_ago(at(31)), Some(Duration::from_secs(1)));
        node.excuse(Duration::from_secs(60));
        assert_eq!(node.status(at(95), LOST, DEAD), Status::Alive);
    }
}
