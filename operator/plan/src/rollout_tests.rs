//! Halted rollouts, against tables.

use std::time::Duration;

use crate::fixtures::*;
use crate::plan::{Heard, Plan, Reason, Seen, Wish, plan};

fn old(slot: u32) -> Seen {
    Seen { revision: "old".into(), ..pod(slot, 1, 1) }
}

fn starting(slot: u32) -> Seen {
    Seen {
        started: false,
        ready: false,
        accepting: false,
        heard: None,
        created: at(0),
        turned: at(0),
        ..pod(slot, 0, 0)
    }
}

fn crashing(slot: u32) -> Seen {
    Seen { crashing: true, ..starting(slot) }
}

fn quiet(plan: &Plan) -> bool {
    created(plan).is_empty() && drained(plan).is_empty() && deleted(plan).is_empty()
}

#[test]
fn a_crashing_new_pod_halts_the_rollout_until_it_is_well() {
    let wide = Wish { max_surge: 2, ..wish(2) };
    let plan1 = plan(&wide, &[old(0), old(1), crashing(2)], at(1));
    assert!(plan1.halted && quiet(&plan1), "{plan1:?}");
    // Though another one is well.
    let plan2 = plan(&wide, &[old(0), old(1), crashing(2), pod(3, 0, 0)], at(1));
    assert!(plan2.halted && quiet(&plan2), "{plan2:?}");
    let plan3 = plan(&wide, &[old(0), old(1), pod(2, 0, 0), pod(3, 0, 0)], at(1));
    assert!(!plan3.halted);
    assert_eq!(drained(&plan3), ["p-1", "p-0"]);
}

#[test]
fn a_new_pod_has_until_the_progress_deadline() {
    let pods = [old(0), starting(1)];
    let before = plan(&wish(1), &pods, at(599));
    assert_eq!((before.halted, before.again), (false, Some(Duration::from_secs(1))));
    let over = plan(&wish(1), &pods, at(600));
    assert!(over.halted && quiet(&over) && over.again.is_none(), "{over:?}");
    // One that is only told to take sessions again is well.
    let mut back = pod(1, 0, 0);
    back.accepting = false;
    back.heard = draining(pod(1, 0, 0), -30, Reason::ScaleIn).heard;
    assert!(!plan(&wish(1), &[old(0), back], at(9000)).halted);
}

#[test]
fn new_pods_that_fail_halt_the_rollout() {
    let failed = Seen { failed: true, created: at(0), ..pod(2, 0, 0) };
    let plan1 = plan(&Wish { max_surge: 2, ..wish(2) }, &[old(0), old(1), failed], at(1));
    assert!(plan1.halted && quiet(&plan1), "{plan1:?}");
    // It is tried again in the same place.
    let due = Seen { failed: true, created: at(-60), ..pod(2, 0, 0) };
    let plan2 = plan(&wish(2), &[old(0), old(1), due], at(1));
    assert_eq!((plan2.halted, deleted(&plan2), created(&plan2)), (true, vec!["p-2"], vec![3]));
    let again = Wish { failed_lately: 1, failed_updated: 1, max_surge: 2, ..wish(2) };
    assert!(plan(&again, &[old(0), old(1), starting(2)], at(1)).halted);
    assert!(!plan(&again, &[old(0), old(1), pod(2, 0, 0)], at(1)).halted);
    // An old one that failed says nothing of the new ones.
    let other = Seen { failed: true, created: at(0), ..old(2) };
    assert!(!plan(&wish(2), &[old(0), old(1), other], at(1)).halted);
    let evicted = Wish { failed_lately: 1, ..wish(2) };
    assert!(!plan(&evicted, &[old(0), old(1), starting(2)], at(1)).halted);
}

/// A probe that is missed, or a person who closes it, says nothing of what a pod is made from.
#[test]
fn a_new_pod_that_was_well_has_the_deadline_anew() {
    let hour = Seen { created: at(-3600), turned: at(-3500), ..pod(1, 1, 1) };
    let missed = Seen { ready: false, turned: at(0), ..hour.clone() };
    let soon = plan(&wish(2), &[old(0), missed.clone()], at(1));
    assert_eq!((soon.halted, soon.again), (false, Some(Duration::from_secs(599))));
    assert!(plan(&wish(2), &[old(0), missed], at(600)).halted);
    let refuses = Some(Heard { publishers: 1, ..Heard::default() });
    assert!(plan(&wish(2), &[old(0), Seen { heard: refuses, ..hour.clone() }], at(1)).halted);
    let closed = Some(Heard { publishers: 1, by_others: true, ..Heard::default() });
    assert!(!plan(&wish(2), &[old(0), Seen { heard: closed, ..hour }], at(1)).halted);
}

#[test]
fn what_is_missing_while_halted_is_made_new() {
    let plan1 = plan(&wish(2), &[old(0), crashing(1)], at(1));
    assert!(plan1.halted && quiet(&plan1), "{plan1:?}");
    let plan2 = plan(&wish(3), &[old(0), crashing(1)], at(1));
    assert_eq!((plan2.halted, created(&plan2)), (true, vec![2]));
}

/// Fewer are wanted: old ones go for that, and new ones only beyond the surge, or they would be made again.
#[test]
fn scale_in_goes_on_while_halted() {
    let fewer = plan(&wish(1), &[old(0), old(1), crashing(2)], at(1));
    assert!(fewer.halted);
    assert_eq!((drained(&fewer), deleted(&fewer).len()), (vec!["p-1"], 0));
    let many = plan(&wish(1), &[old(0), crashing(1), crashing(2), crashing(3)], at(1));
    assert_eq!((drained(&many).len(), deleted(&many)), (0, vec!["p-3", "p-2"]));
}

#[test]
fn a_halted_rollout_takes_no_drained_pod_back_that_is_not_missed() {
    let drains = draining(pod(3, 1, 0), -30, Reason::ScaleIn);
    let plan = plan(&wish(2), &[old(0), old(1), crashing(2), drains], at(1));
    assert!(undrained(&plan).is_empty() && quiet(&plan), "{plan:?}");
}

#[test]
fn other_pods_that_are_wanted_end_the_halt() {
    let next = Wish { revision: "newer".into(), ..wish(2) };
    let plan = plan(&next, &[old(0), old(1), crashing(2)], at(1));
    assert!(!plan.halted);
    assert_eq!((deleted(&plan), created(&plan)), (vec!["p-2"], vec![3]));
}

#[test]
fn nothing_halts_without_a_rollout() {
    for wish in [
        wish(2),
        Wish { rollout_paused: true, revision: "newer".into(), ..wish(2) },
        Wish { stopped: true, revision: "newer".into(), ..wish(2) },
    ] {
        assert!(!plan(&wish, &[pod(0, 1, 1), crashing(1)], at(9000)).halted, "{wish:?}");
    }
}
