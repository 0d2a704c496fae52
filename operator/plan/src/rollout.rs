//! Whether pods are replaced by those of the wanted revision, and how many are to be made.

use crate::out::{Out, later};
use crate::plan::{Seen, Wish};
use crate::sides::Sides;

/// What a rollout does for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rollout {
    /// Nothing: all are of the wanted revision, or it is paused, or the cluster is stopped.
    None,
    /// It replaces pods.
    Running,
    /// New pods are not well: the old ones are kept. It goes on by itself when the new ones are well, or others are wanted.
    Halted,
}

impl Rollout {
    /// Looks at the new pods.
    pub(crate) fn of(sides: &Sides<'_>, out: &mut Out<'_>) -> Rollout {
        let wish = out.wish;
        let (updated, outdated): (Vec<&Seen>, Vec<&Seen>) =
            sides.active.iter().copied().partition(|pod| pod.revision == wish.revision);
        if outdated.is_empty() || wish.rollout_paused || wish.stopped {
            return Rollout::None;
        }
        let mut failed = sides.failed.iter().chain(&sides.holding);
        let mut halted = failed.any(|pod| pod.revision == wish.revision);
        // What is on a machine that is to be emptied goes, and says nothing.
        for pod in updated.into_iter().filter(|pod| !pod.leaving) {
            halted |= pod.crashing;
            if pod.accepts() || pod.returning() || pod.told().is_some_and(|heard| heard.by_others) {
                continue;
            }
            // One that was well before has as long to be well again.
            let end = later(pod.created.max(pod.turned), wish.progress_deadline);
            halted |= wish.failed_updated > 0 || out.now >= end;
            out.again_at(end);
        }
        if halted { Rollout::Halted } else { Rollout::Running }
    }

    /// How many pods are to be made: what is missing, and while there are old ones, the surge. Before the round's drains, so many pods
    /// were on machines that stay.
    pub(crate) fn missing(self, wish: &Wish, sides: &Sides<'_>, before: usize) -> usize {
        let (target, surge) = (wish.target(), wish.max_surge as usize);
        let staying = sides.staying();
        let there = staying + sides.holding.len();
        let missing = target.saturating_sub(there);
        let room = (target + surge).saturating_sub(there + sides.replacing());
        let updated = |pod: &&&Seen| pod.revision == wish.revision;
        match self {
            Rollout::None => missing,
            // One that failed in a place of the surge is tried again.
            Rollout::Halted => missing.max(room.min(sides.failed.iter().filter(updated).count())),
            // More pods than wanted, and none may go for that: one is made for each that goes as an old one.
            Rollout::Running if wish.scale_in_paused && before > target + surge => {
                missing.max(before.saturating_sub(staying))
            }
            Rollout::Running => {
                let updated = sides.active.iter().filter(|pod| !pod.leaving).filter(updated).count();
                let surge = if updated == staying { 0 } else { target.saturating_sub(updated) };
                missing.max(room.min(surge))
            }
        }
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
