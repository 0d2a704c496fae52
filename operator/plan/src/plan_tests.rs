//! The planner against tables, and against a simulated cluster.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

fn wish(replicas: u32) -> Wish {
    Wish {
        replicas,
        min: 0,
        max: 1000,
        floor: 0,
        scale_in_paused: false,
        progress_deadline: Duration::from_secs(600),
        revision: "new".into(),
        max_surge: 1,
        max_unavailable: 0,
        rollout_paused: false,
        deadline: Duration::from_secs(600),
        policy: DrainPolicy::Wait,
        stopped: false,
        taken: Default::default(),
        failed_lately: 0,
        unheard: false,
    }
}

fn pod(slot: u32, publishers: u32, viewers: u32) -> Seen {
    Seen {
        name: format!("p-{slot}"),
        slot,
        revision: "new".into(),
        created: at(-100),
        terminating: false,
        failed: false,
        started: true,
        ready: true,
        crashing: false,
        machine: None,
        leaving: false,
        lost: None,
        accepting: true,
        busy: true,
        marked: false,
        drain: None,
        requested: None,
        heard: Some(Heard { accepting: true, draining: None, publishers, viewers }),
    }
}

fn draining(mut pod: Seen, since: i64, reason: Reason) -> Seen {
    pod.drain = Some(Drain { since: at(since), deadline: at(since + 600), reason });
    pod.accepting = false;
    pod.marked = true;
    if let (Some(heard), Some(drain)) = (&mut pod.heard, &pod.drain) {
        heard.accepting = false;
        heard.draining = (since <= -5).then(|| Ordered { words: words(drain), left: None });
    }
    pod
}

fn names(plan: &Plan, pick: impl Fn(&Step) -> Option<&String>) -> Vec<&str> {
    plan.steps.iter().filter_map(|step| pick(step).map(String::as_str)).collect()
}

fn drained(plan: &Plan) -> Vec<&str> {
    names(plan, |step| if let Step::Drain { pod, .. } = step { Some(pod) } else { None })
}

fn deleted(plan: &Plan) -> Vec<&str> {
    names(plan, |step| if let Step::Delete { pod, .. } = step { Some(pod) } else { None })
}

fn created(plan: &Plan) -> Vec<u32> {
    plan.steps
        .iter()
        .filter_map(|step| if let Step::Create { slot } = step { Some(*slot) } else { None })
        .collect()
}

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

/// A cluster that does what the planner says, with sessions that come and go.
struct World {
    pods: BTreeMap<String, Sim>,
    now: i64,
}

struct Sim {
    seen: Seen,
    told: Option<String>,
    up_at: i64,
    gone_at: Option<i64>,
}

impl World {
    fn view(&self) -> Vec<Seen> {
        self.pods.values().map(|sim| sim.seen.clone()).collect()
    }

    fn apply(&mut self, wish: &Wish, plan: &Plan) {
        for step in &plan.steps {
            match step {
                Step::Create { slot } => {
                    let name = format!("p-{slot}");
                    assert!(!self.pods.contains_key(&name), "slot {slot} is taken");
                    let mut seen = pod(*slot, 0, 0);
                    (seen.started, seen.ready, seen.accepting, seen.heard) = (false, false, false, None);
                    seen.revision.clone_from(&wish.revision);
                    seen.created = at(self.now);
                    let up_at = self.now + 3 + i64::from(*slot % 3);
                    self.pods.insert(name, Sim { seen, told: None, up_at, gone_at: None });
                }
                Step::Drain { pod, drain } => {
                    let seen = &mut self.sim(pod).seen;
                    (seen.drain, seen.accepting, seen.marked) = (Some(*drain), false, true);
                }
                Step::Undrain { pod } => {
                    let seen = &mut self.sim(pod).seen;
                    (seen.drain, seen.marked) = (None, false);
                }
                Step::Label { pod, accepting, busy } => {
                    let seen = &mut self.sim(pod).seen;
                    (seen.accepting, seen.busy) = (*accepting, *busy);
                }
                Step::TellDrain { pod, words, .. } => self.sim(pod).told = Some(words.clone()),
                Step::TellUndrain { pod } => self.sim(pod).told = None,
                Step::Delete { pod, .. } => {
                    let now = self.now;
                    let sim = self.sim(pod);
                    let heard = sim.seen.heard.clone().unwrap_or_default();
                    let over = sim.seen.drain.is_some_and(|drain| at(now) >= drain.deadline);
                    let left = match wish.policy {
                        DrainPolicy::Wait => heard.publishers + heard.viewers,
                        DrainPolicy::WaitForPublishers | DrainPolicy::Immediate => heard.publishers,
                    };
                    assert!(left == 0 || over, "{pod} is cut: {sim:?}", sim = sim.seen);
                    sim.seen.terminating = true;
                    sim.gone_at = Some(now + 2);
                }
            }
        }
    }

    fn sim(&mut self, pod: &str) -> &mut Sim {
        self.pods.get_mut(pod).expect("the planner knows its pods")
    }

    /// A second passes; `arrive` sessions look for a pod, of each pod `leave` go.
    fn tick(&mut self, arrive: &[(bool, usize)], leave: u32) {
        self.now += 1;
        let now = self.now;
        self.pods.retain(|_, sim| sim.gone_at.is_none_or(|gone| gone > now));
        for sim in self.pods.values_mut() {
            if now >= sim.up_at {
                (sim.seen.started, sim.seen.ready) = (true, true);
                let old = sim.seen.heard.clone().unwrap_or_default();
                sim.seen.heard = Some(Heard {
                    accepting: sim.told.is_none(),
                    draining: sim.told.clone().map(|words| Ordered { words, left: None }),
                    publishers: old.publishers.saturating_sub(leave),
                    viewers: old.viewers.saturating_sub(leave),
                });
            }
        }
        for (publisher, pick) in arrive {
            let mut open: Vec<&mut Sim> = self
                .pods
                .values_mut()
                .filter(|sim| sim.seen.ready && sim.seen.accepting && !sim.seen.terminating)
                .collect();
            let count = open.len();
            if let Some(heard) =
                (count > 0).then(|| open.swap_remove(pick % count)).and_then(|sim| sim.seen.heard.as_mut())
            {
                if *publisher {
                    heard.publishers += 1;
                } else {
                    heard.viewers += 1;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever is asked for: nobody is cut before the deadline (asserted in the world), capacity stays, and it ends where it should.
    #[test]
    fn a_cluster_converges_and_cuts_nobody(
        changes in prop::collection::vec((0u32..6, 0usize..3, any::<bool>()), 1..6),
        surge in 0u32..3, unavailable in 0u32..2,
        sessions in prop::collection::vec((any::<bool>(), 0usize..8), 0..40),
        policy in prop::sample::select(vec![DrainPolicy::Wait, DrainPolicy::WaitForPublishers]),
    ) {
        prop_assume!(surge + unavailable > 0);
        let mut world = World { pods: BTreeMap::new(), now: 0 };
        let mut sessions = sessions.into_iter();
        let mut last = wish(1);
        for (replicas, revision, stopped) in changes {
            let wish = Wish {
                revision: ["a", "b", "c"][revision].into(), max_surge: surge, max_unavailable: unavailable,
                policy: DrainPolicy::Wait, stopped: stopped && replicas == 0, ..wish(replicas)
            };
            for _ in 0..12 {
                let before = world.view();
                let steps = plan(&wish, &before, at(world.now));
                prop_assert_eq!(&steps, &plan(&wish, &before, at(world.now)), "the same from the same");
                let open = |pods: &[Seen]| pods.iter().filter(|pod| pod.available() && pod.drain.is_none() && !pod.terminating).count();
                let had = open(&before);
                world.apply(&wish, &steps);
                let has = open(&world.view());
                let least = (wish.target().saturating_sub(unavailable as usize)).min(had);
                prop_assert!(has >= least, "{has} of {had} accept, {least} must: {steps:?}");
                let arriving: Vec<_> = sessions.by_ref().take(1).collect();
                world.tick(&arriving, 0);
            }
            last = wish;
        }
        // Sessions end; the wish stays.
        last.policy = policy;
        for _ in 0..200 {
            let steps = plan(&last, &world.view(), at(world.now));
            world.apply(&last, &steps);
            world.tick(&[], 1);
        }
        let view = world.view();
        prop_assert_eq!(view.len(), last.target(), "{:?}", view);
        prop_assert!(view.iter().all(|pod| pod.revision == last.revision && pod.accepting && pod.drain.is_none()), "{:?}", view);
        let rest = plan(&last, &view, at(world.now));
        prop_assert!(rest.steps.is_empty() && rest.again.is_none(), "{:?}", rest);
    }
}
