//! Which pods are to go, and why: for their machines, for their revision, or because there are too many.

use std::cmp::Reverse;

use crate::plan::{Reason, Seen, Wish};
use crate::rollout::Rollout;
use crate::sides::Sides;
use crate::victims::victims;

/// The pods that go now: never so many that too few take sessions.
pub(crate) fn leave<'a>(
    wish: &Wish,
    rollout: Rollout,
    sides: &Sides<'a>,
    all: &'a [Seen],
) -> Vec<(&'a Seen, Reason)> {
    if wish.stopped {
        return sides.active.iter().chain(&sides.silent).map(|pod| (*pod, Reason::Stopped)).collect();
    }
    let (leaving, staying): (Vec<&Seen>, Vec<&Seen>) =
        sides.active.iter().copied().partition(|pod| pod.leaving);
    let mut leave = Leave { wish, all, accepting: accepting(&sides.active), go: Vec::new() };
    leave.machines(&leaving);
    match rollout {
        Rollout::Running => leave.outdated(&staying, sides.replacing()),
        Rollout::Halted => leave.surplus(&without_surge(wish, staying.clone())),
        Rollout::None => {}
    }
    // With the last old pod a rollout is over: what is still too many goes.
    let rest: Vec<&Seen> = staying.into_iter().filter(|pod| leave.keeps(pod)).collect();
    if rollout == Rollout::None || rest.iter().all(|pod| pod.revision == wish.revision) {
        leave.surplus(&rest);
    }
    leave.go
}

fn accepting(pods: &[&Seen]) -> usize {
    pods.iter().filter(|pod| pod.accepts()).count()
}

/// While a rollout is halted, new pods in the places of the surge are not too many: gone, they would only be made again. Those that are
/// not well stay first, and one of them in any case: for what it tells.
fn without_surge<'a>(wish: &Wish, mut pods: Vec<&'a Seen>) -> Vec<&'a Seen> {
    pods.sort_by_key(|pod| {
        (pod.revision != wish.revision, Reverse(pod.crashing), pod.accepts(), pod.created, pod.slot)
    });
    let updated = pods.iter().filter(|pod| pod.revision == wish.revision).count();
    pods.split_off(updated.min(wish.max_surge.max(1) as usize))
}

struct Leave<'a, 'w> {
    wish: &'w Wish,
    all: &'a [Seen],
    /// Pods that take sessions when those in `go` have gone.
    accepting: usize,
    go: Vec<(&'a Seen, Reason)>,
}

impl<'a> Leave<'a, '_> {
    fn go(&mut self, pod: &'a Seen, reason: Reason) {
        self.accepting -= usize::from(pod.accepts());
        self.go.push((pod, reason));
    }

    fn keeps(&self, pod: &Seen) -> bool {
        self.go.iter().all(|(other, _)| other.name != pod.name)
    }

    /// Pods on machines that are to be emptied: each as soon as enough others take sessions.
    fn machines(&mut self, leaving: &[&'a Seen]) {
        for pod in victims(leaving, self.all, &self.wish.revision) {
            let others = self.accepting - usize::from(pod.accepts());
            if !pod.started || others >= self.wish.least() {
                self.go(pod, Reason::Machine);
            }
        }
    }

    /// Old pods: those that never ran at once; those that take no sessions cost nobody anything; the others as availability allows.
    fn outdated(&mut self, staying: &[&'a Seen], replacing: usize) {
        let wish = self.wish;
        let (target, surge) = (wish.target(), wish.max_surge as usize);
        let outdated: Vec<&Seen> =
            staying.iter().copied().filter(|pod| pod.revision != wish.revision).collect();
        let (started, idle): (Vec<&Seen>, Vec<&Seen>) = outdated.into_iter().partition(|pod| pod.started);
        let surplus = (staying.len() - idle.len()).saturating_sub(target);
        for pod in idle {
            self.go(pod, Reason::Rollout);
        }
        let mut at_once = (surge + wish.max_unavailable as usize).saturating_sub(replacing);
        if !wish.scale_in_paused {
            at_once = at_once.max(surplus);
        }
        // Who is not heard comes last, and who takes no sessions first.
        let free = |pod: &Seen| !pod.accepts() && !pod.returning();
        let mut order = victims(&started, self.all, &wish.revision);
        order.sort_by_key(|pod| (pod.told().is_none(), !free(pod)));
        for pod in order {
            let others = self.accepting - usize::from(pod.accepts());
            if at_once > 0 && (free(pod) || others >= wish.least()) {
                self.go(pod, Reason::Rollout);
                at_once -= 1;
            }
        }
    }

    /// Pods that are too many. When the one whose turn it is has to stay, because too few others take sessions for now, it is waited
    /// for them: nobody with more sessions goes in its place but who was closed by somebody else.
    fn surplus(&mut self, staying: &[&'a Seen]) {
        let target = self.wish.target();
        let mut surplus = if self.wish.scale_in_paused { 0 } else { staying.len().saturating_sub(target) };
        let mut waits = false;
        for pod in victims(staying, self.all, &self.wish.revision) {
            let others = self.accepting - usize::from(pod.accepts());
            let may = if pod.accepts() { others >= target } else { !waits || pod.closed() };
            if surplus > 0 && may {
                self.go(pod, Reason::ScaleIn);
                surplus -= 1;
            }
            waits |= !may;
        }
    }
}

#[cfg(test)]
#[path = "leave_tests.rs"]
mod tests;
