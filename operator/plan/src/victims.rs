//! Who goes first when there are too many.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::plan::Seen;

/// The candidates, first who is missed least:
/// 1. those whose process ends again and again with nobody on it, those without a machine, those that have not started;
/// 2. the empty ones, and of these first who takes no sessions;
/// 3. of an older revision;
/// 4. with the fewest publishers, then viewers;
/// 5. on the machine with the fewest sessions, then pods, of the pool: so machines become empty;
/// 6. the youngest; the highest slot.
///
/// Whoever is not heard may have any sessions, and comes after all others. That a pod takes no sessions for the moment makes it no
/// victim when it has some: so is one that was just taken back.
pub(crate) fn victims<'a>(candidates: &[&'a Seen], all: &'a [Seen], revision: &str) -> Vec<&'a Seen> {
    let mut machines: HashMap<&str, Load> = HashMap::new();
    for pod in all.iter().filter(|pod| !pod.terminating) {
        if let Some(machine) = &pod.machine {
            machines.entry(machine).or_default().add(pod);
        }
    }
    let mut order = candidates.to_vec();
    order.sort_by_cached_key(|pod| {
        let unknown = pod.started && pod.told().is_none();
        let empty = pod.sessions() == (0, 0);
        let broken = pod.crashing && !pod.ready && (empty || unknown);
        let alone = || {
            let mut load = Load::default();
            load.add(pod);
            load
        };
        let load = pod.machine.as_deref().and_then(|name| machines.get(name)).copied().unwrap_or_else(alone);
        (
            (!broken, pod.started || pod.machine.is_some(), pod.started),
            (!empty, empty && pod.accepts()),
            unknown,
            pod.revision == revision,
            pod.sessions(),
            load,
            (Reverse(pod.created), Reverse(pod.slot)),
        )
    });
    order
}

/// What of the pool is on a machine.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    publishers: u64,
    viewers: u64,
    pods: u64,
}

impl Load {
    fn add(&mut self, pod: &Seen) {
        let (publishers, viewers) = pod.sessions();
        self.publishers += u64::from(publishers);
        self.viewers += u64::from(viewers);
        self.pods += 1;
    }
}
