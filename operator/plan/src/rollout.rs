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
        let mut halted = sides.holding.iter().any(|pod| pod.revision == wish.revision);
        for pod in updated {
            halted |= pod.crashing;
            if pod.accepts() || pod.returning() {
                continue;
            }
            let end = later(pod.created, wish.progress_deadline);
            halted |= wish.failed_lately > 0 || out.now >= end;
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
        if self != Rollout::Running {
            return missing;
        }
        let updated = sides.active.iter().filter(|pod| !pod.leaving && pod.revision == wish.revision).count();
        if wish.scale_in_paused && before > target + surge {
            // More pods than wanted, and none may go for that: one is made for each that goes as an old one.
            return before.saturating_sub(staying).max(missing);
        }
        if updated == staying {
            return missing;
        }
        let room = (target + surge).saturating_sub(there + sides.replacing());
        missing.max(room.min(target.saturating_sub(updated)))
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
