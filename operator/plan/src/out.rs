//! The steps of a plan, and what one pod needs once it is known whether it stays or is drained.

use std::time::Duration;

use jiff::Timestamp;
use sluice_crds::pool::DrainPolicy;

use crate::plan::{Drain, LISTED, Ordered, Plan, Reason, SETTLE, Seen, Step, Why, Wish, failed_for, words};

/// A pod that a Service lists still is looked at this often: not every change of those lists is its pool's turn.
const LOOK: Duration = Duration::from_secs(1);

/// So much later.
pub(crate) fn later(from: Timestamp, by: Duration) -> Timestamp {
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// The plan as it grows.
pub(crate) struct Out<'a> {
    /// What was found so far.
    pub(crate) plan: Plan,
    /// What is wanted.
    pub(crate) wish: &'a Wish,
    /// The time.
    pub(crate) now: Timestamp,
}

impl<'a> Out<'a> {
    /// With nothing in it.
    pub(crate) fn new(wish: &'a Wish, now: Timestamp) -> Out<'a> {
        Out { plan: Plan::default(), wish, now }
    }

    fn again(&mut self, after: Duration) {
        let after = after.max(Duration::from_millis(200));
        self.plan.again = Some(self.plan.again.map_or(after, |other| other.min(after)));
    }

    /// Look again at that time, when it is still to come.
    pub(crate) fn again_at(&mut self, then: Timestamp) {
        if self.now < then {
            self.again(until(self.now, then));
        }
    }

    /// Whether it goes now.
    pub(crate) fn failed(&mut self, pod: &Seen) -> bool {
        let old = later(pod.created, failed_for(self.wish.failed_lately));
        if self.now >= old {
            self.delete(pod, Why::Failed);
            return true;
        }
        self.again(until(self.now, old));
        false
    }

    /// Whether the drain is at its end: by the node's own clock when that is known, so that a step of ours cuts nobody.
    pub(crate) fn over(&self, pod: &Seen, drain: &Drain) -> bool {
        let ordered = pod.told().and_then(|heard| heard.draining.as_ref());
        let ordered = ordered.filter(|ordered| ordered.words == words(drain));
        match ordered.and_then(|ordered| ordered.left) {
            Some(left) => left < Duration::from_secs(1),
            None => self.now >= drain.deadline,
        }
    }

    /// Delete it.
    pub(crate) fn delete(&mut self, pod: &Seen, why: Why) {
        self.plan.steps.push(Step::Delete { pod: pod.name.clone(), why });
    }

    /// Begin to drain it.
    pub(crate) fn drain(&mut self, pod: &Seen, reason: Reason, time: Duration) -> Drain {
        let time = if self.wish.policy == DrainPolicy::Immediate && reason != Reason::Requested {
            Duration::ZERO
        } else {
            time
        };
        let drain = Drain { since: self.now, deadline: later(self.now, time), reason };
        self.plan.steps.push(Step::Drain { pod: pod.name.clone(), drain });
        drain
    }

    fn undrain(&mut self, pod: &Seen) {
        if pod.drain.is_some() {
            self.plan.steps.push(Step::Undrain { pod: pod.name.clone() });
        }
    }

    /// It takes sessions, or is to.
    pub(crate) fn keep(&mut self, pod: &Seen) {
        self.undrain(pod);
        match pod.told() {
            Some(heard) => {
                let (accepting, returning) = (pod.accepts(), heard.draining.is_some());
                let busy = accepting || returning || heard.publishers > 0 || heard.viewers > 0 || !pod.ready;
                // It is protected before it is told that it may take sessions.
                self.label(pod, accepting, busy);
                if returning {
                    self.plan.steps.push(Step::TellUndrain { pod: pod.name.clone() });
                    self.again(Duration::from_secs(1));
                }
            }
            // Whoever is not heard keeps what it has: Kubernetes takes it out of its Services when it is not ready.
            None => self.label(pod, pod.accepting, true),
        }
    }

    /// Its machine is silent: nobody is sent there, and nothing waits for it.
    pub(crate) fn leave_alone(&mut self, pod: &Seen) {
        self.undrain(pod);
        self.label(pod, false, false);
    }

    fn label(&mut self, pod: &Seen, accepting: bool, busy: bool) {
        if (pod.accepting, pod.busy) != (accepting, busy) {
            self.plan.steps.push(Step::Label { pod: pod.name.clone(), accepting, busy });
        }
    }

    /// When to look again at a pod that new sessions may still be sent to; `None` when none are.
    fn settles(&self, pod: &Seen, drain: &Drain) -> Option<Duration> {
        let anyway = later(drain.since, LISTED);
        let then = match pod.unlisted {
            Some(since) => later(since.max(drain.since), SETTLE).min(anyway),
            None => later(self.now, LOOK).min(anyway),
        };
        (self.now < anyway && self.now < then).then(|| until(self.now, then))
    }

    /// It is drained: whether it is waited for, or goes now.
    pub(crate) fn waits(&mut self, pod: &Seen, drain: &Drain) -> bool {
        if !pod.started && pod.lost.is_none() {
            self.delete(pod, Why::NeverStarted);
            return false;
        }
        if self.over(pod, drain) {
            let why = match pod.told() {
                Some(heard) if heard.publishers == 0 && heard.viewers == 0 => Why::Empty,
                heard => Why::Deadline {
                    publishers: heard.map(|heard| heard.publishers),
                    viewers: heard.map(|heard| heard.viewers),
                },
            };
            self.delete(pod, why);
            return false;
        }
        self.again(until(self.now, drain.deadline).max(Duration::from_secs(1)));
        let order = words(drain);
        let ordered = |draining: &Ordered| draining.words == order;
        let refuses = pod.told().is_some_and(|heard| heard.draining.as_ref().is_some_and(ordered));
        // Who was told already, by the operator that ran before, has settled.
        if !refuses && let Some(after) = self.settles(pod, drain) {
            self.again(after);
            return true;
        }
        let Some(heard) = pod.told() else {
            // It may have sessions: it has until its deadline. When its machine is silent, nothing else waits for it.
            self.label(pod, false, pod.lost.is_none());
            return true;
        };
        if !refuses {
            let left = until(self.now, drain.deadline);
            let anew = heard.draining.is_some();
            self.plan.steps.push(Step::TellDrain { pod: pod.name.clone(), left, words: order, anew });
            self.again(Duration::from_secs(1));
            return true;
        }
        let waits = match self.wish.policy {
            DrainPolicy::Wait => heard.publishers > 0 || heard.viewers > 0,
            DrainPolicy::WaitForPublishers | DrainPolicy::Immediate => heard.publishers > 0,
        };
        self.label(pod, false, waits);
        if !waits {
            self.delete(pod, Why::Empty);
        }
        waits
    }
}
