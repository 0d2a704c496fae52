//! The pods of a pool by what becomes of them, before anything is decided that has a choice.

use std::cmp::Reverse;

use crate::out::{Out, later};
use crate::plan::{Drain, Lost, Reason, Seen, Step, Why};
use crate::rollout::Rollout;

/// The pods that are there, without those that are being deleted.
pub(crate) struct Sides<'a> {
    /// They take sessions, or are to.
    pub(crate) active: Vec<&'a Seen>,
    /// They are drained; those for which it begins now as well.
    pub(crate) draining: Vec<(&'a Seen, Drain)>,
    /// Their machine is silent: they count for nothing and are left alone.
    pub(crate) silent: Vec<&'a Seen>,
    /// They have failed and go only later.
    pub(crate) holding: Vec<&'a Seen>,
    /// They have failed and go now.
    pub(crate) failed: Vec<&'a Seen>,
}

impl<'a> Sides<'a> {
    /// Sorts them. What has failed or is gone goes, and what people ask for is done.
    pub(crate) fn of(pods: &'a [Seen], out: &mut Out<'_>) -> Sides<'a> {
        let mut sides = Sides {
            active: Vec::new(),
            draining: Vec::new(),
            silent: Vec::new(),
            holding: Vec::new(),
            failed: Vec::new(),
        };
        for pod in pods.iter().filter(|pod| !pod.terminating) {
            if pod.lost == Some(Lost::Gone) {
                out.delete(pod, Why::Lost);
            } else if pod.failed {
                let side = if out.failed(pod) { &mut sides.failed } else { &mut sides.holding };
                side.push(pod);
            } else if let Some(drain) = drain(pod, out) {
                sides.draining.push((pod, drain));
            } else if pod.lost.is_some() {
                sides.silent.push(pod);
            } else {
                sides.active.push(pod);
            }
        }
        sides
    }

    /// Takes draining pods back when there are too few, or too few of the wanted revision: the fullest first. Not those that are
    /// not heard, for they would count and yet take nobody; that a person wants drained, whose machine is to be emptied or silent, that
    /// are broken or closed, or at their end.
    pub(crate) fn take_back(&mut self, rollout: Rollout, out: &Out<'_>) {
        let wish = out.wish;
        let there = self.active.iter().filter(|pod| !pod.leaving);
        let there = match rollout {
            Rollout::Running => there.filter(|pod| pod.revision == wish.revision).count(),
            Rollout::None | Rollout::Halted => there.count(),
        };
        let mut back: Vec<&Seen> = self
            .draining
            .iter()
            .filter(|(pod, drain)| {
                pod.revision == wish.revision
                    && drain.reason != Reason::Requested
                    && pod.drain.is_some()
                    && !pod.leaving
                    && pod.told().is_some()
                    && pod.ready
                    && !pod.crashing
                    && !pod.closed()
                    && !out.over(pod, drain)
            })
            .map(|(pod, _)| *pod)
            .collect();
        back.sort_by_key(|pod| (Reverse(pod.sessions()), pod.slot));
        back.truncate(wish.target().saturating_sub(there));
        self.draining.retain(|(pod, _)| back.iter().all(|other| other.name != pod.name));
        self.active.extend(back);
    }

    /// How many active pods are on machines that stay.
    pub(crate) fn staying(&self) -> usize {
        self.active.iter().filter(|pod| !pod.leaving).count()
    }

    /// How many pods are drained because they are of an older revision, on machines that are heard.
    pub(crate) fn replacing(&self) -> usize {
        let replaced = |(pod, drain): &&(&Seen, Drain)| drain.reason == Reason::Rollout && pod.lost.is_none();
        self.draining.iter().filter(replaced).count()
    }
}

/// The drain that a pod is in, and what a person asks for: that begins one, counts for one that is under way, and ends with the request.
fn drain(pod: &Seen, out: &mut Out<'_>) -> Option<Drain> {
    match (pod.drain, pod.requested) {
        (None, None) => None,
        (None, Some(time)) => Some(out.drain(pod, Reason::Requested, time.unwrap_or(out.wish.deadline))),
        (Some(drain), None) => (drain.reason != Reason::Requested).then_some(drain),
        (Some(before), Some(asked)) => {
            let deadline = asked.map_or(before.deadline, |time| later(before.since, time));
            let drain = Drain { since: before.since, deadline, reason: Reason::Requested };
            if drain != before {
                out.plan.steps.push(Step::Drain { pod: pod.name.clone(), drain });
            }
            Some(drain)
        }
    }
}
