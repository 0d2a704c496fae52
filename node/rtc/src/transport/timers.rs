//! When which session wants to be looked at: one entry each.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::SessionId;

/// A session that wants to be called again at once waits this long, so that the loop gets around.
const SOONEST: Duration = Duration::from_millis(1);

/// One time for each session.
#[derive(Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, SessionId)>,
    of: HashMap<SessionId, Instant>,
}

impl Timers {
    /// That session wants to be called at `at`. One that is to be called earlier is called then, and asked again: most
    /// times only move away, and following them would cost more than a call for nothing.
    pub(super) fn set(&mut self, id: SessionId, at: Instant, now: Instant) {
        let at = at.max(now + SOONEST);
        let before = self.of.get(&id).copied();
        if before.is_some_and(|before| before <= at) {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, id));
        }
        self.by_time.insert((at, id));
        self.of.insert(id, at);
    }

    /// That session is over.
    pub(super) fn remove(&mut self, id: SessionId) {
        if let Some(at) = self.of.remove(&id) {
            self.by_time.remove(&(at, id));
        }
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out one that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<SessionId> {
        let &(at, id) = self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.by_time.remove(&(at, id));
        self.of.remove(&id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn each_session_is_due_once_and_in_order() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.set(SessionId(1), now + ms(20), now);
        timers.set(SessionId(2), now + ms(10), now);
        timers.set(SessionId(1), now + ms(5), now);
        timers.set(SessionId(1), now + ms(30), now);
        assert_eq!(timers.next(), Some(now + ms(5)));
        assert_eq!(timers.due(now + ms(4)), None);
        assert_eq!(timers.due(now + ms(40)), Some(SessionId(1)));
        assert_eq!(timers.due(now + ms(40)), Some(SessionId(2)));
        assert_eq!(timers.due(now + ms(40)), None);
    }

    #[test]
    fn one_that_is_always_due_does_not_stop_the_loop() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.set(SessionId(1), now - ms(1), now);
        assert_eq!(timers.due(now), None);
        assert_eq!(timers.due(now + ms(1)), Some(SessionId(1)));
    }

    #[test]
    fn a_session_that_is_over_is_not_due() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.set(SessionId(1), now, now);
        timers.remove(SessionId(1));
        assert_eq!((timers.next(), timers.due(now + ms(9))), (None, None));
    }

    #[test]
    fn moving_a_time_often_keeps_one_entry() {
        let now = Instant::now();
        let mut timers = Timers::default();
        for i in 0..1000 {
            timers.set(SessionId(1), now + ms(2000 - i), now);
        }
        assert_eq!((timers.by_time.len(), timers.of.len()), (1, 1));
    }
}
