//! A node on its way out of service: who ordered it, until when, and whom it still lets in. Pure: time is an argument.
//!
//! Orders come from the operator, over REST and by signal. A later one may only shorten what the earlier ones allow; all
//! but a signal can be taken back.

use std::time::{Duration, Instant};

use sluice_api::DrainState;
use sluice_control::{DrainOrder, Draining};

/// Characters of a reason that are kept.
const REASON: usize = 300;

/// An order to let no new sessions in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Who gives it.
    pub by: DrainOrder,
    /// Why, for people.
    pub reason: String,
    /// After this time whoever is left may be cut; never without it.
    pub deadline: Option<Duration>,
    /// For this long sessions are still let in.
    pub accept_for: Duration,
}

/// Whether and how a node drains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drains(Option<State>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    by: DrainOrder,
    reason: String,
    since: Instant,
    ends: Option<Instant>,
    refuses: Instant,
}

/// What a signal has begun cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node is stopping, which cannot be taken back")]
pub struct Stopping;

impl Drains {
    /// Takes an order.
    pub fn order(&mut self, order: Order, now: Instant) {
        let ends = order.deadline.and_then(|deadline| now.checked_add(deadline));
        let refuses = now + order.accept_for;
        let reason: String = order.reason.chars().filter(|c| !c.is_control()).take(REASON).collect();
        let state = match self.0.take() {
            None => State { by: order.by, reason, since: now, ends, refuses },
            Some(before) => {
                let stopping = before.by == DrainOrder::Signal;
                State {
                    by: if stopping { before.by } else { order.by },
                    reason: if reason.is_empty() { before.reason } else { reason },
                    since: before.since,
                    ends: match (before.ends, ends) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    },
                    refuses: before.refuses.min(refuses),
                }
            }
        };
        self.0 = Some(state);
    }

    /// Takes all orders back; `false` when there was none.
    ///
    /// # Errors
    /// The node is stopping.
    pub fn take_back(&mut self) -> Result<bool, Stopping> {
        if self.is_stopping() {
            return Err(Stopping);
        }
        Ok(self.0.take().is_some())
    }

    /// Whether it drains, though sessions may still be let in for a moment.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether its process ends after it.
    pub fn is_stopping(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.by == DrainOrder::Signal)
    }

    /// Whether new sessions are turned away.
    pub fn refuses(&self, now: Instant) -> bool {
        self.0.as_ref().is_some_and(|state| now >= state.refuses)
    }

    /// From when on new sessions are turned away, which may be over.
    pub fn refuses_from(&self) -> Option<Instant> {
        self.0.as_ref().map(|state| state.refuses)
    }

    /// Whether a node that stops has nothing more to wait for: everybody who might still have come has, and nobody is left
    /// or the deadline is over.
    pub fn is_over(&self, now: Instant, sessions: usize) -> bool {
        self.0.as_ref().is_some_and(|state| {
            let late = state.ends.is_some_and(|ends| now >= ends);
            late || (now >= state.refuses && sessions == 0)
        })
    }

    /// What is told of it, with those who are still there.
    pub fn told(&self, now: Instant, publishers: u32, viewers: u32) -> Option<Draining> {
        let state = self.0.as_ref()?;
        Some(Draining {
            since_s: now.saturating_duration_since(state.since).as_secs(),
            deadline_s: state.ends.map(|ends| up(ends.saturating_duration_since(now))),
            by: state.by,
            reason: state.reason.clone(),
            waiting_publishers: publishers,
            waiting_viewers: viewers,
        })
    }

    /// What REST is told of it, with those who are still there.
    pub fn shown(&self, now: Instant, owned: usize, viewers: u64) -> Option<DrainState> {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let told = self.told(now, small(owned as u64), small(viewers))?;
        Some(DrainState {
            by: match told.by {
                DrainOrder::Operator => "operator",
                DrainOrder::Rest => "rest",
                DrainOrder::Signal => "signal",
            },
            reason: told.reason,
            since: told.since_s,
            refuses_in: self.refuses_from().map_or(0, |from| up(from.saturating_duration_since(now))),
            deadline_in: told.deadline_s,
            waiting_publishers: told.waiting_publishers,
            waiting_viewers: told.waiting_viewers,
        })
    }

    /// The part of it that does not change by time passing.
    pub fn fixed(&self) -> Option<(DrainOrder, &str, Option<Instant>)> {
        self.0.as_ref().map(|state| (state.by, state.reason.as_str(), state.ends))
    }
}

/// Seconds, rounded up: 0 is only said when the time has come.
fn up(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(by: DrainOrder, deadline: Option<u64>, accept_for: u64) -> Order {
        Order {
            by,
            reason: format!("{by:?}"),
            deadline: deadline.map(Duration::from_secs),
            accept_for: Duration::from_secs(accept_for),
        }
    }

    fn at(start: Instant, secs: u64) -> Instant {
        start + Duration::from_secs(secs)
    }

    #[test]
    fn an_order_is_told_and_taken_back() {
        let (mut drains, t0) = (Drains::default(), Instant::now());
        assert_eq!(drains.told(t0, 1, 1), None);
        assert_eq!(drains.take_back(), Ok(false));
        drains.order(order(DrainOrder::Operator, Some(60), 5), t0);
        assert!(drains.is_on() && !drains.refuses(at(t0, 4)) && drains.refuses(at(t0, 5)));
        let told = drains.told(at(t0, 10), 2, 3).unwrap();
        assert_eq!((told.since_s, told.deadline_s), (10, Some(50)));
        assert_eq!((told.by, told.reason.as_str()), (DrainOrder::Operator, "Operator"));
        assert_eq!((told.waiting_publishers, told.waiting_viewers), (2, 3));
        let shown = drains.shown(t0 + Duration::from_millis(2500), 2, 3).unwrap();
        assert_eq!((shown.by, shown.refuses_in, shown.deadline_in), ("operator", 3, Some(58)));
        assert_eq!(drains.shown(at(t0, 5), 2, 3).unwrap().refuses_in, 0);
        assert_eq!(drains.take_back(), Ok(true));
        assert_eq!(drains, Drains::default());
    }

    #[test]
    fn a_second_order_only_shortens() {
        let (mut drains, t0) = (Drains::default(), Instant::now());
        drains.order(order(DrainOrder::Rest, None, 60), t0);
        drains.order(order(DrainOrder::Operator, Some(100), 90), at(t0, 10));
        drains.order(order(DrainOrder::Operator, Some(500), 0), at(t0, 20));
        let told = drains.told(at(t0, 20), 0, 0).unwrap();
        assert_eq!((told.since_s, told.deadline_s, told.by), (20, Some(90), DrainOrder::Operator));
        assert!(drains.refuses(at(t0, 20)));
    }

    #[test]
    fn a_signal_cannot_be_taken_back_but_can_be_shortened() {
        let (mut drains, t0) = (Drains::default(), Instant::now());
        drains.order(order(DrainOrder::Operator, Some(3600), 0), t0);
        drains.order(order(DrainOrder::Signal, Some(600), 5), at(t0, 10));
        assert_eq!(drains.take_back(), Err(Stopping));
        assert!(!drains.is_over(at(t0, 10), 1) && drains.is_over(at(t0, 10), 0));
        assert!(drains.is_over(at(t0, 610), 1));
        drains.order(order(DrainOrder::Operator, Some(0), 0), at(t0, 20));
        assert!(drains.is_stopping() && drains.is_over(at(t0, 20), 9));
    }

    #[test]
    fn who_is_still_sent_is_waited_for() {
        let (mut drains, t0) = (Drains::default(), Instant::now());
        drains.order(order(DrainOrder::Signal, Some(60), 5), t0);
        assert!(!drains.is_over(at(t0, 4), 0), "somebody may be on the way");
        assert!(drains.is_over(at(t0, 5), 0) && !drains.is_over(at(t0, 5), 1));
    }

    #[test]
    fn the_deadline_is_over_only_when_it_is() {
        let (mut drains, t0) = (Drains::default(), Instant::now());
        drains.order(order(DrainOrder::Operator, Some(1), 0), t0);
        let left = |now| drains.told(now, 0, 0).unwrap().deadline_s;
        assert_eq!(left(t0 + Duration::from_millis(999)), Some(1));
        assert_eq!(left(at(t0, 1)), Some(0));
    }

    proptest! {
        /// Whatever is ordered in whatever sequence, the end never moves away and refusing never stops.
        #[test]
        fn orders_never_lengthen(
            orders in proptest::collection::vec((0u8..3, proptest::option::of(0u64..100), 0u64..20), 1..12)
        ) {
            let t0 = Instant::now();
            let (mut drains, mut ends, mut refused) = (Drains::default(), None, false);
            for (i, (by, deadline, accept_for)) in orders.into_iter().enumerate() {
                let by = [DrainOrder::Operator, DrainOrder::Rest, DrainOrder::Signal][usize::from(by)];
                let now = at(t0, i as u64);
                drains.order(order(by, deadline, accept_for), now);
                let (_, _, new) = drains.fixed().unwrap();
                let is_no_later = match (ends, new) {
                    (Some(before), Some(now)) => now <= before,
                    (Some(_), None) => false,
                    (None, _) => true,
                };
                prop_assert!(is_no_later);
                prop_assert!(!refused || drains.refuses(now));
                (ends, refused) = (new, drains.refuses(now));
            }
        }
    }
}
