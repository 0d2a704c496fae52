//! What counts as a change of the report. Pure.

use sluice_cluster::member::BootId;
use sluice_control::Capacity;

use crate::drain::Drains;

/// What the operator is woken for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Facts {
    pub(super) ready: bool,
    pub(super) accepting: bool,
    /// Without how much of it is over: the deadline does not move.
    pub(super) drains: Drains,
    pub(super) publishers: u32,
    pub(super) streams: u32,
    pub(super) owned: u32,
    pub(super) viewers: u32,
    pub(super) capacity: Capacity,
    pub(super) store_away: bool,
    pub(super) members: u32,
    pub(super) apps_hash: Option<String>,
    pub(super) settings_hash: Option<String>,
    pub(super) problems: Vec<String>,
}

/// Numbers the changes.
#[derive(Debug)]
pub(super) struct Revisions {
    last: Option<Facts>,
    number: u64,
}

impl Revisions {
    /// Those of one run of the process are never those of another.
    pub(super) fn new(boot: BootId) -> Self {
        Revisions { last: None, number: u64::from(boot.0) << 32 }
    }

    /// The number of these facts: the same while they are.
    pub(super) fn of(&mut self, facts: &Facts) -> u64 {
        if self.last.as_ref() != Some(facts) {
            self.last = Some(facts.clone());
            self.number += 1;
        }
        self.number
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use sluice_control::DrainOrder;

    use super::*;
    use crate::drain::Order;

    fn facts() -> Facts {
        Facts {
            ready: true,
            accepting: true,
            drains: Drains::default(),
            publishers: 0,
            streams: 0,
            owned: 0,
            viewers: 0,
            capacity: Capacity::default(),
            store_away: false,
            members: 1,
            apps_hash: None,
            settings_hash: None,
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_change_has_a_number_of_its_own() {
        let mut revisions = Revisions::new(BootId(7));
        let first = revisions.of(&facts());
        assert_eq!(revisions.of(&facts()), first);
        let second = revisions.of(&Facts { viewers: 1, ..facts() });
        assert_ne!(second, first);
        assert_ne!(revisions.of(&facts()), first, "back to what it was is a change, too");
        assert_ne!(Revisions::new(BootId(8)).of(&facts()), first);
    }

    #[test]
    fn time_passing_while_it_drains_is_no_change() {
        let mut revisions = Revisions::new(BootId(7));
        let mut drains = Drains::default();
        let deadline = Some(Duration::from_secs(60));
        let order = Order {
            by: DrainOrder::Operator,
            reason: String::new(),
            deadline,
            accept_for: Duration::from_secs(1),
        };
        drains.order(order, Instant::now());
        let draining = Facts { accepting: false, drains, ..facts() };
        let number = revisions.of(&draining);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(revisions.of(&draining.clone()), number);
    }
}
