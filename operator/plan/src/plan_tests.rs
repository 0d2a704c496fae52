//! The planner against tables: drains, requests, labels, failures.

use super::*;
use crate::fixtures::*;

#[test]
fn pods_are_made_in_the_lowest_free_slots() {
    let plan = plan(&wish(4), &[pod(1, 0, 0), pod(3, 0, 0)], at(0));
    assert_eq!(created(&plan), [0, 2]);
}

#[test]
fn a_slot_is_taken_until_its_pod_is_gone() {
    let mut going = pod(0, 0, 0);
    going.terminating = true;
    assert_eq!(created(&plan(&wish(1), &[going], at(0))), [1]);
}

#[test]
fn the_emptiest_pod_is_drained_and_publishers_weigh_more_than_viewers() {
    let plan = plan(&wish(2), &[pod(0, 1, 0), pod(1, 0, 900), pod(2, 0, 5)], at(0));
    assert_eq!(drained(&plan), ["p-2"]);
    assert!(deleted(&plan).is_empty());
}

#[test]
fn one_that_was_just_taken_back_stays_and_the_empty_one_goes() {
    let back = Seen { accepting: false, ..pod(0, 1, 0) };
    assert_eq!(drained(&plan(&wish(1), &[back, pod(1, 0, 0)], at(0))), ["p-1"]);
}

#[test]
fn names_of_others_are_passed_over() {
    let taken = Wish { taken: BTreeSet::from([0, 2]), ..wish(2) };
    assert_eq!(created(&plan(&taken, &[], at(0))), [1, 3]);
}

#[test]
fn what_never_ran_goes_first_and_at_once() {
    let mut starting = pod(0, 0, 0);
    (starting.started, starting.ready, starting.accepting, starting.heard) = (false, false, false, None);
    let plan = plan(&wish(1), &[starting, pod(1, 0, 0)], at(0));
    assert_eq!(deleted(&plan), ["p-0"]);
    assert!(drained(&plan).is_empty());
}

#[test]
fn a_spike_takes_a_draining_pod_back_before_it_makes_one() {
    let pods = [pod(0, 5, 5), draining(pod(1, 3, 0), -30, Reason::ScaleIn)];
    let spike = plan(&wish(2), &pods, at(0));
    assert!(spike.steps.contains(&Step::Undrain { pod: "p-1".into() }), "{spike:?}");
    assert!(created(&spike).is_empty());
    let more = plan(&wish(3), &pods, at(0));
    assert!(more.steps.contains(&Step::Undrain { pod: "p-1".into() }));
    assert_eq!(created(&more), [2]);
}

#[test]
fn a_draining_pod_is_told_after_a_while_and_goes_when_empty() {
    let fresh = draining(pod(1, 0, 0), -2, Reason::ScaleIn);
    let first = plan(&wish(1), &[pod(0, 1, 1), fresh], at(0));
    assert!(first.steps.is_empty(), "{first:?}");
    assert_eq!(first.again, Some(Duration::from_secs(3)));

    let mut untold = draining(pod(1, 0, 0), -6, Reason::ScaleIn);
    untold.heard = Some(Heard { accepting: true, ..Heard::default() });
    let second = plan(&wish(1), &[pod(0, 1, 1), untold], at(0));
    assert!(matches!(&second.steps[..], [Step::TellDrain { pod, .. }] if pod == "p-1"), "{second:?}");

    let empty = draining(pod(1, 0, 0), -20, Reason::ScaleIn);
    let third = plan(&wish(1), &[pod(0, 1, 1), empty], at(0));
    assert_eq!(deleted(&third), ["p-1"]);
}

/// Taken out of the Services first, and told to refuse once they have shown that for a while.
#[test]
fn a_node_refuses_only_when_no_service_lists_it() {
    let fresh = |since, unlisted: Option<i64>| {
        let heard = Some(Heard { accepting: true, ..Heard::default() });
        Seen { heard, unlisted: unlisted.map(at), ..draining(pod(1, 0, 0), since, Reason::ScaleIn) }
    };
    let look = |since, unlisted| {
        let plan = plan(&wish(1), &[pod(0, 1, 1), fresh(since, unlisted)], at(0));
        (plan.steps.iter().any(|step| matches!(step, Step::TellDrain { .. })), plan.again)
    };
    let soon = |seconds| (false, Some(Duration::from_secs(seconds)));
    assert_eq!(look(-30, None), soon(1), "it is listed");
    assert_eq!(look(-30, Some(-2)), soon(3), "every proxy is to hear of it");
    assert!(look(-30, Some(-5)).0);
    assert_eq!(look(-2, Some(-100)), soon(3), "it counts from the drain at the earliest");
    assert_eq!(look(-59, None), soon(1));
    assert_eq!(look(-58, Some(0)), soon(2));
    assert!(look(-60, None).0, "who keeps the lists is away");
    assert!(look(-60, Some(-1)).0);
    // An operator that has just begun knows of no list, and the node was told by the one before.
    let told = Seen { unlisted: None, ..draining(pod(1, 0, 0), -30, Reason::ScaleIn) };
    assert_eq!(deleted(&plan(&wish(1), &[pod(0, 1, 1), told], at(0))), ["p-1"]);
}

#[test]
fn a_live_publisher_keeps_its_pod_until_the_deadline() {
    let busy = draining(pod(1, 1, 0), -20, Reason::ScaleIn);
    let pods = [pod(0, 0, 0), busy];
    let waiting = plan(&wish(1), &pods, at(0));
    assert!(deleted(&waiting).is_empty());
    assert_eq!(waiting.again, Some(Duration::from_secs(580)));
    let over = plan(&wish(1), &pods, at(580));
    assert!(over.steps.contains(&Step::Delete {
        pod: "p-1".into(),
        why: Why::Deadline { publishers: Some(1), viewers: Some(0) }
    }));
}

#[test]
fn a_node_that_is_not_heard_has_until_its_deadline() {
    let mut silent = draining(pod(1, 0, 0), -20, Reason::ScaleIn);
    silent.heard = None;
    assert!(deleted(&plan(&wish(1), &[pod(0, 0, 0), silent], at(0))).is_empty());
}

#[test]
fn a_rollout_makes_the_new_pod_before_it_drains_an_old_one() {
    let old = |slot| Seen { revision: "old".into(), ..pod(slot, 1, 10) };
    let start = plan(&wish(2), &[old(0), old(1)], at(0));
    assert_eq!(created(&start), [2]);
    assert!(drained(&start).is_empty());

    let mut new = pod(2, 0, 0);
    (new.ready, new.accepting) = (false, false);
    let starting = plan(&wish(2), &[old(0), old(1), new.clone()], at(0));
    assert!(created(&starting).is_empty() && drained(&starting).is_empty());

    (new.ready, new.accepting) = (true, true);
    let ready = plan(&wish(2), &[old(0), old(1), new.clone()], at(0));
    assert_eq!(drained(&ready), ["p-1"]);
    // One at a time: while it drains, no other one begins.
    let pods = [old(0), draining(old(1), -30, Reason::Rollout), new];
    let waiting = plan(&wish(2), &pods, at(0));
    assert!(created(&waiting).is_empty() && drained(&waiting).is_empty(), "{waiting:?}");
    let paused = Wish { rollout_paused: true, ..wish(2) };
    assert!(created(&plan(&paused, &[old(0), old(1)], at(0))).is_empty());
}

#[test]
fn broken_old_pods_do_not_hold_a_rollout_up() {
    let mut crashing = Seen { revision: "old".into(), ..pod(0, 0, 0) };
    (crashing.started, crashing.ready, crashing.accepting, crashing.heard) = (false, false, false, None);
    let plan = plan(&wish(1), &[crashing], at(0));
    assert_eq!(deleted(&plan), ["p-0"]);
    assert_eq!(created(&plan), [1]);
}

#[test]
fn a_person_drains_a_pod_and_takes_it_back() {
    let mut asked = pod(0, 1, 1);
    asked.requested = Some(Some(Duration::from_secs(30)));
    let first = plan(&wish(1), &[asked.clone()], at(0));
    assert!(
        matches!(&first.steps[..], [Step::Drain { drain, .. }, Step::Create { slot: 1 }]
        if drain.reason == Reason::Requested && drain.deadline == at(30)),
        "{first:?}"
    );
    let mut marked = draining(asked, -10, Reason::Requested);
    marked.requested = None;
    let second = plan(&wish(1), &[marked], at(0));
    assert!(second.steps.contains(&Step::Undrain { pod: "p-0".into() }), "{second:?}");
    assert!(created(&second).is_empty());
}

#[test]
fn stopping_drains_all() {
    let stopped = Wish { stopped: true, ..wish(3) };
    let old = Seen { revision: "old".into(), ..pod(2, 0, 1) };
    assert_eq!(drained(&plan(&stopped, &[pod(0, 1, 0), pod(1, 0, 0), old], at(0))).len(), 3);
}

#[test]
fn labels_follow_what_the_node_says() {
    let mut new = pod(0, 0, 0);
    new.accepting = false;
    assert!(plan(&wish(1), &[new.clone()], at(0)).steps.contains(&Step::Label {
        pod: "p-0".into(),
        accepting: true,
        busy: true
    }));
    new.heard = None;
    assert!(plan(&wish(1), &[new], at(0)).steps.is_empty());
}

#[test]
fn a_step_of_our_clock_ends_no_drain() {
    let mut busy = draining(pod(1, 1, 0), -20, Reason::ScaleIn);
    let left = |busy: &mut Seen, left| {
        let ordered = busy.heard.as_mut().and_then(|heard| heard.draining.as_mut()).expect("it drains");
        ordered.left = Some(Duration::from_secs(left));
    };
    left(&mut busy, 500);
    assert!(deleted(&plan(&wish(1), &[pod(0, 0, 0), busy.clone()], at(90_000))).is_empty());
    left(&mut busy, 0);
    assert_eq!(deleted(&plan(&wish(1), &[pod(0, 0, 0), busy], at(0))), ["p-1"]);
}

#[test]
fn a_person_may_give_a_running_drain_more_time() {
    let mut asked = draining(pod(1, 1, 0), -20, Reason::ScaleIn);
    asked.requested = Some(Some(Duration::from_secs(8 * 3600)));
    let first = plan(&wish(1), &[pod(0, 0, 0), asked.clone()], at(0));
    let new = Drain { since: at(-20), deadline: at(8 * 3600 - 20), reason: Reason::Requested };
    assert!(first.steps.contains(&Step::Drain { pod: "p-1".into(), drain: new }), "{first:?}");
    asked.drain = Some(new);
    let second = plan(&wish(1), &[pod(0, 0, 0), asked], at(0));
    assert!(
        second.steps.iter().any(
            |step| matches!(step, Step::TellDrain { anew: true, left, .. } if left.as_secs() == 8 * 3600 - 20)
        ),
        "{second:?}"
    );
}

#[test]
fn a_rollout_that_is_taken_back_takes_its_pods_back() {
    let wrong = Seen { revision: "wrong".into(), ..pod(2, 0, 0) };
    let pods = [pod(0, 1, 1), draining(pod(1, 1, 1), -30, Reason::Rollout), wrong];
    let plan = plan(&wish(2), &pods, at(0));
    assert!(plan.steps.contains(&Step::Undrain { pod: "p-1".into() }), "{plan:?}");
    assert!(created(&plan).is_empty());
}

#[test]
fn a_pod_that_always_fails_is_made_anew_more_and_more_rarely() {
    let failed = |age: i64| Seen { failed: true, created: at(-age), ..pod(0, 0, 0) };
    let young = plan(&wish(1), &[failed(3)], at(0));
    assert!(young.steps.is_empty() && young.again == Some(Duration::from_secs(7)), "{young:?}");
    let old = plan(&wish(1), &[failed(11)], at(0));
    assert_eq!((deleted(&old).as_slice(), created(&old).as_slice()), (&["p-0"][..], &[1][..]));
    let often = Wish { failed_lately: 3, ..wish(1) };
    assert!(plan(&often, &[failed(60)], at(0)).steps.is_empty());
    assert_eq!(deleted(&plan(&often, &[failed(81)], at(0))), ["p-0"]);
}

#[test]
fn nobody_is_chosen_before_all_were_heard() {
    let unheard = Wish { unheard: true, ..wish(1) };
    assert!(plan(&unheard, &[pod(0, 0, 0), pod(1, 0, 0)], at(0)).steps.is_empty());
}

#[test]
fn a_pod_is_protected_before_it_is_told_to_take_sessions() {
    let back = Seen { drain: None, busy: false, ..draining(pod(0, 0, 0), -30, Reason::ScaleIn) };
    let steps = plan(&wish(1), &[back], at(0)).steps;
    let label = Step::Label { pod: "p-0".into(), accepting: false, busy: true };
    assert_eq!(steps, [label, Step::TellUndrain { pod: "p-0".into() }]);
}
