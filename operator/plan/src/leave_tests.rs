//! Who goes, and for whom it is waited: against tables.

use std::time::Duration;

use super::*;
use crate::fixtures::*;
use crate::plan::{Heard, Lost, Plan, Step, Why, plan};

fn on(machine: &str, pod: Seen) -> Seen {
    Seen { machine: Some(machine.into()), ..pod }
}

fn leaving(pod: Seen) -> Seen {
    Seen { leaving: true, ..on("leaving", pod) }
}

fn starting(slot: u32) -> Seen {
    Seen { started: false, ready: false, accepting: false, heard: None, ..pod(slot, 0, 0) }
}

fn silent(pod: Seen) -> Seen {
    Seen { lost: Some(Lost::Silent), heard: None, ..on("silent", pod) }
}

fn reason(plan: &Plan) -> Vec<Reason> {
    plan.steps
        .iter()
        .filter_map(|step| if let Step::Drain { drain, .. } = step { Some(drain.reason) } else { None })
        .collect()
}

#[test]
fn any_number_may_be_written() {
    let within = |replicas, min, max, floor| Wish { min, max, floor, ..wish(replicas) }.target();
    assert_eq!(within(u32::MAX, 0, 1000, 0), 1000);
    assert_eq!(within(0, 2, 10, 0), 2);
    assert_eq!(within(0, 0, 10, 0), 0);
    assert_eq!(within(3, 2, 10, 7), 7);
    assert_eq!(within(3, 2, 10, u32::MAX), 10);
    assert_eq!(within(1, 5, 3, 0), 5, "a maximum below the minimum is none");
    assert_eq!(Wish { stopped: true, ..wish(9) }.target(), 0);
    let most = plan(&Wish { max: 4, ..wish(u32::MAX) }, &[], at(0));
    assert_eq!(created(&most), [0, 1, 2, 3]);
}

/// Each pod is a better victim than all that follow it, whatever speaks against it further down the order.
#[test]
fn victims_come_in_their_order() {
    let old = |pod| Seen { revision: "old".into(), ..pod };
    let unheard = |pod: Seen| Seen { heard: None, ..pod };
    let order = [
        Seen { crashing: true, ready: false, heard: None, created: at(-900), ..pod(0, 0, 0) },
        Seen { machine: None, created: at(-800), ..starting(1) },
        on("b", Seen { created: at(-700), ..starting(2) }),
        on("b", Seen { accepting: false, heard: Some(Heard::default()), created: at(-600), ..pod(3, 0, 0) }),
        on("b", Seen { created: at(-550), ..pod(4, 0, 0) }),
        old(on("b", Seen { created: at(-500), ..pod(5, 9, 9) })),
        on("b", Seen { created: at(-400), ..pod(6, 0, 7) }),
        on("c", Seen { created: at(-300), ..pod(7, 0, 8) }),
        on("b", Seen { created: at(-10), ..pod(8, 0, 8) }),
        on("b", Seen { created: at(-20), ..pod(10, 0, 8) }),
        on("b", Seen { created: at(-20), ..pod(9, 0, 8) }),
        on(
            "d",
            Seen {
                created: at(-5),
                heard: Some(Heard { publishers: 1, ..Heard::default() }),
                ..pod(11, 1, 0)
            },
        ),
        old(unheard(on("d", Seen { created: at(-4), ..pod(12, 0, 0) }))),
    ];
    let mut shuffled: Vec<Seen> = order.to_vec();
    shuffled.reverse();
    shuffled.swap(2, 7);
    let candidates: Vec<&Seen> = shuffled.iter().collect();
    let slots: Vec<u32> = victims(&candidates, &shuffled, "new").iter().map(|pod| pod.slot).collect();
    assert_eq!(slots, order.iter().map(|pod| pod.slot).collect::<Vec<_>>());
}

#[test]
fn among_equals_the_machine_with_the_least_is_emptied() {
    let pods = [
        on("full", pod(0, 0, 5)),
        on("full", pod(1, 0, 50)),
        on("half", pod(2, 0, 5)),
        on("half", draining(pod(3, 0, 10), -30, Reason::ScaleIn)),
    ];
    assert_eq!(drained(&plan(&wish(2), &pods, at(0))), ["p-2"]);
    // As many sessions on both: the one with fewer pods.
    let pods = [on("two", pod(0, 0, 5)), on("two", pod(1, 0, 0)), on("one", pod(2, 0, 5)), pod(3, 0, 9)];
    assert_eq!(drained(&plan(&wish(2), &pods, at(0))), ["p-1", "p-2"]);
}

#[test]
fn scale_in_may_be_paused() {
    let paused = Wish { scale_in_paused: true, ..wish(1) };
    let pods = [pod(0, 0, 0), pod(1, 0, 0), starting(2)];
    assert!(plan(&paused, &pods, at(0)).steps.is_empty());
    // Requests, machines and the end of drains go on.
    let asked = Seen { requested: Some(None), ..pod(0, 0, 0) };
    let ended = draining(pod(3, 0, 0), -30, Reason::ScaleIn);
    let plan = plan(&paused, &[asked, leaving(pod(1, 0, 0)), pod(2, 0, 0), ended], at(0));
    assert_eq!(drained(&plan), ["p-0", "p-1"]);
    assert_eq!(deleted(&plan), ["p-3"]);
}

/// A rollout keeps as many as there are, each old pod for a new one, and no surge stays behind.
#[test]
fn a_rollout_is_no_scale_in_while_that_is_paused() {
    let paused = Wish { scale_in_paused: true, ..wish(1) };
    let old = |slot| Seen { revision: "old".into(), ..pod(slot, 0, 1) };
    let plan1 = plan(&paused, &[old(0), old(1), old(2), old(3)], at(0));
    assert_eq!((drained(&plan1).len(), created(&plan1)), (1, vec![4]));
    let pods = [old(0), old(1), old(2), draining(old(3), -1, Reason::Rollout), starting(4)];
    let plan2 = plan(&paused, &pods, at(0));
    assert!(plan2.steps.is_empty(), "{plan2:?}");
    // With no more than the surge beyond what is wanted, it is a rollout as any other.
    let plan3 = plan(&paused, &[old(0), pod(1, 0, 0)], at(0));
    assert_eq!((drained(&plan3), created(&plan3)), (vec!["p-0"], vec![]));
}

#[test]
fn too_many_wait_until_enough_take_sessions() {
    // Just taken back: its node has yet to hear of it.
    let mut back = pod(0, 5, 0);
    (back.accepting, back.heard) =
        (false, Some(Heard { publishers: 5, draining: Some(Default::default()), ..Heard::default() }));
    let waiting = plan(&wish(1), &[back.clone(), pod(1, 0, 0)], at(0));
    assert!(drained(&waiting).is_empty(), "{waiting:?}");
    assert!(waiting.again.is_some());
    // One that a person has closed will take none: it is it that goes.
    back.heard = Some(Heard { publishers: 5, ..Heard::default() });
    assert_eq!(drained(&plan(&wish(1), &[back, pod(1, 0, 0)], at(0))), ["p-0"]);
}

#[test]
fn a_machine_is_emptied_once_its_pods_are_replaced() {
    let here = || leaving(pod(0, 3, 3));
    let first = plan(&wish(1), &[here()], at(0));
    assert_eq!((created(&first), drained(&first).len()), (vec![1], 0));
    // Nowhere to go: it keeps taking sessions.
    let pending = plan(&wish(1), &[here(), starting(1)], at(5000));
    assert!(pending.steps.is_empty(), "{pending:?}");
    let ready = plan(&wish(1), &[here(), pod(1, 0, 0)], at(0));
    assert_eq!((drained(&ready), reason(&ready)), (vec!["p-0"], vec![Reason::Machine]));
    // Its machine is to stay after all: there is one too many.
    let stays = plan(&wish(1), &[on("m", pod(0, 3, 3)), starting(1)], at(0));
    assert_eq!((deleted(&stays), drained(&stays).len()), (vec!["p-1"], 0));
}

#[test]
fn all_pods_of_a_machine_are_replaced_at_once_and_drained_one_for_one() {
    let here = |slot| leaving(pod(slot, 0, slot));
    let first = plan(&wish(3), &[here(0), here(1), pod(2, 0, 0)], at(0));
    assert_eq!((created(&first), drained(&first).len()), (vec![3, 4], 0));
    let one = plan(&wish(3), &[here(0), here(1), pod(2, 0, 0), pod(3, 0, 0), starting(4)], at(0));
    assert_eq!(drained(&one), ["p-0"]);
    let may_miss = Wish { max_unavailable: 1, ..wish(3) };
    assert_eq!(drained(&plan(&may_miss, &[here(0), here(1), pod(2, 0, 0)], at(0))), ["p-0"]);
}

#[test]
fn what_never_ran_on_a_machine_that_is_emptied_goes_at_once() {
    let plan = plan(&wish(1), &[leaving(starting(0))], at(0));
    assert_eq!((deleted(&plan), created(&plan)), (vec!["p-0"], vec![1]));
    assert!(plan.steps.contains(&Step::Delete { pod: "p-0".into(), why: Why::NeverStarted }));
}

#[test]
fn a_rollout_and_a_machine_that_is_emptied_go_together() {
    let old = |slot| Seen { revision: "old".into(), ..pod(slot, 1, 0) };
    let first = plan(&wish(2), &[leaving(old(0)), old(1)], at(0));
    // One for the machine, one for the surge.
    assert_eq!((created(&first), drained(&first).len()), (vec![2, 3], 0));
    let one = plan(&wish(2), &[leaving(old(0)), old(1), pod(2, 0, 0), starting(3)], at(0));
    assert_eq!((drained(&one), reason(&one)), (vec!["p-0"], vec![Reason::Machine]));
    let both = plan(&wish(2), &[leaving(old(0)), old(1), pod(2, 0, 0), pod(3, 0, 0)], at(0));
    assert_eq!((drained(&both), reason(&both)), (vec!["p-0", "p-1"], vec![Reason::Machine, Reason::Rollout]));
}

#[test]
fn what_leaves_is_taken_back_only_when_its_machine_stays() {
    let pods = |leaving| {
        let gone = Seen { leaving, ..draining(pod(1, 3, 0), -30, Reason::Machine) };
        [pod(0, 0, 0), gone]
    };
    let stays = plan(&wish(2), &pods(false), at(0));
    assert_eq!((undrained(&stays), created(&stays).len()), (vec!["p-1"], 0));
    let leaves = plan(&wish(2), &pods(true), at(0));
    assert_eq!((undrained(&leaves).len(), created(&leaves)), (0, vec![2]));
}

#[test]
fn the_fullest_is_taken_back_and_never_one_that_must_go() {
    let drains = |pod| draining(pod, -30, Reason::ScaleIn);
    let full = [drains(pod(0, 0, 1)), drains(pod(1, 1, 0)), drains(pod(2, 0, 99))];
    assert_eq!(undrained(&plan(&wish(2), &full, at(0))), ["p-1", "p-2"]);
    // One that is not heard takes nobody: another is made in its place.
    let unheard = Seen { heard: None, ..drains(pod(0, 0, 0)) };
    let instead = plan(&wish(2), &[unheard, drains(pod(1, 0, 0))], at(0));
    assert_eq!((undrained(&instead), created(&instead)), (vec!["p-1"], vec![2]));
    let must = [
        Seen { requested: Some(None), ..draining(pod(0, 1, 0), -30, Reason::Requested) },
        Seen { revision: "old".into(), ..draining(pod(1, 1, 0), -30, Reason::Rollout) },
        silent(drains(pod(2, 1, 0))),
        leaving(drains(pod(3, 1, 0))),
        Seen { crashing: true, ..drains(pod(4, 1, 0)) },
        Seen { ready: false, ..drains(pod(5, 1, 0)) },
    ];
    let plan = plan(&wish(6), &must, at(0));
    assert_eq!((undrained(&plan).len(), created(&plan).len()), (0, 6), "{plan:?}");
}

/// A request that is withdrawn from a pod that must go anyway becomes the drain that it must have.
#[test]
fn a_withdrawn_request_is_not_taken_back_from_a_machine_that_is_emptied() {
    let asked = leaving(draining(pod(0, 1, 0), -30, Reason::Requested));
    let plan = plan(&wish(1), &[asked, pod(1, 0, 0)], at(0));
    assert_eq!((undrained(&plan).len(), reason(&plan)), (0, vec![Reason::Machine]));
}

#[test]
fn a_pod_that_is_gone_with_its_machine_is_replaced_at_once() {
    let gone = |pod| Seen { lost: Some(Lost::Gone), ..pod };
    let pods = [gone(pod(0, 5, 5)), gone(draining(pod(1, 1, 0), -30, Reason::ScaleIn)), gone(starting(2))];
    let plan = plan(&Wish { unheard: true, scale_in_paused: true, ..wish(1) }, &pods, at(0));
    assert_eq!((deleted(&plan), created(&plan)), (vec!["p-0", "p-1", "p-2"], vec![3]));
    assert!(plan.steps.contains(&Step::Delete { pod: "p-0".into(), why: Why::Lost }));
}

#[test]
fn a_silent_pod_is_replaced_and_left_alone() {
    let first = plan(&wish(1), &[silent(pod(0, 5, 5))], at(0));
    let alone = Step::Label { pod: "p-0".into(), accepting: false, busy: false };
    assert_eq!(first.steps, [alone, Step::Create { slot: 1 }]);
    let then = Seen { accepting: false, busy: false, ..silent(pod(0, 5, 5)) };
    assert!(plan(&wish(1), &[then, pod(1, 0, 0)], at(0)).steps.is_empty());
    // Heard again, it is one of two, and the emptier one goes.
    let back = Seen { accepting: false, busy: false, ..on("silent", pod(0, 5, 5)) };
    let heard = plan(&wish(1), &[back, pod(1, 0, 0)], at(0));
    assert_eq!(drained(&heard), ["p-1"]);
    assert!(heard.steps.contains(&Step::Label { pod: "p-0".into(), accepting: true, busy: true }));
}

#[test]
fn a_silent_pod_keeps_its_drain_and_its_deadline() {
    // What it said before it fell silent counts no more.
    let mut drains = silent(draining(pod(0, 1, 0), -30, Reason::Rollout));
    drains.heard = draining(pod(0, 0, 0), -30, Reason::Rollout).heard;
    let waiting = plan(&wish(1), &[pod(1, 0, 0), drains.clone()], at(0));
    let alone = Step::Label { pod: "p-0".into(), accepting: false, busy: false };
    assert_eq!((waiting.steps, waiting.again), (vec![alone], Some(Duration::from_secs(570))));
    let over = plan(&wish(1), &[pod(1, 0, 0), drains.clone()], at(570));
    let why = Why::Deadline { publishers: None, viewers: None };
    assert_eq!(over.steps, [Step::Delete { pod: "p-0".into(), why }]);
    // A rollout does not wait for it.
    let old = |slot| Seen { revision: "old".into(), ..pod(slot, 0, 0) };
    let plan = plan(&wish(1), &[old(1), pod(2, 0, 0), Seen { busy: false, ..drains }], at(0));
    assert_eq!(drained(&plan), ["p-1"]);
}

#[test]
fn a_silent_pod_may_be_drained_by_a_person_and_ends_with_its_cluster() {
    let asked = Seen { requested: Some(None), ..silent(pod(0, 1, 0)) };
    assert_eq!(reason(&plan(&wish(0), &[asked], at(0))), [Reason::Requested]);
    let stopped = Wish { stopped: true, ..wish(1) };
    assert_eq!(reason(&plan(&stopped, &[silent(pod(0, 1, 0))], at(0))), [Reason::Stopped]);
}

#[test]
fn nothing_is_chosen_on_missing_data() {
    let unheard = Wish { unheard: true, ..wish(1) };
    let old = Seen { revision: "old".into(), ..pod(2, 0, 0) };
    let pods = [pod(0, 0, 0), starting(1), old, leaving(pod(3, 0, 0)), leaving(starting(4))];
    assert!(plan(&unheard, &pods, at(0)).steps.is_empty());
}
