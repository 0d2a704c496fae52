//! What holds for the planner whatever happens to a cluster. Most of it is asserted in the [`world`](crate::world).

use std::time::Duration;

use proptest::prelude::*;
use sluice_crds::pool::DrainPolicy;

use crate::fixtures::wish;
use crate::plan::{Step, Wish};
use crate::world::{Kind, Up, World, brief, kind, open};

/// Drains of the simulated pools take so long at most.
const DEADLINE: u64 = 40;

/// Machines of the simulated clusters.
const MACHINES: usize = 4;

#[derive(Clone, Debug)]
enum Event {
    Replicas(u32),
    Bounds(u32, u32),
    Floor(u32),
    Revision(&'static str),
    RolloutPaused(bool),
    ScaleInPaused(bool),
    Stopped(bool),
    Policy(DrainPolicy),
    Cordon(usize, bool),
    CutOff(usize),
    Lose(usize),
    Return(usize),
    Mute(usize, i64),
    Stale(i64),
    Away(i64),
    Request(usize, Option<u64>),
    Withdraw(usize),
    Arrive(Vec<(bool, usize, bool)>),
    Depart(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let revision = prop::sample::select(vec!["a", "a", "b", "c", "crashes", "closed", "unready", "fails"]);
    let policy = prop::sample::select(vec![
        DrainPolicy::Wait,
        DrainPolicy::Wait,
        DrainPolicy::WaitForPublishers,
        DrainPolicy::Immediate,
    ]);
    prop_oneof![
        6 => (0u32..8).prop_map(Event::Replicas),
        1 => any::<u32>().prop_map(Event::Replicas),
        1 => (0u32..4, 0u32..9).prop_map(|(min, max)| Event::Bounds(min, max)),
        1 => (0u32..6).prop_map(Event::Floor),
        4 => revision.prop_map(Event::Revision),
        1 => any::<bool>().prop_map(Event::RolloutPaused),
        1 => any::<bool>().prop_map(Event::ScaleInPaused),
        1 => any::<bool>().prop_map(Event::Stopped),
        1 => policy.prop_map(Event::Policy),
        3 => (0..MACHINES, any::<bool>()).prop_map(|(machine, cordoned)| Event::Cordon(machine, cordoned)),
        2 => (0..MACHINES).prop_map(Event::CutOff),
        1 => (0..MACHINES).prop_map(Event::Lose),
        2 => (0..MACHINES).prop_map(Event::Return),
        2 => (any::<usize>(), 1i64..30).prop_map(|(pod, seconds)| Event::Mute(pod, seconds)),
        1 => (1i64..30).prop_map(Event::Stale),
        1 => (1i64..30).prop_map(Event::Away),
        1 => (any::<usize>(), prop::option::of(0u64..60)).prop_map(|(pod, time)| Event::Request(pod, time)),
        1 => any::<usize>().prop_map(Event::Withdraw),
        5 => prop::collection::vec((any::<bool>(), any::<usize>(), any::<bool>()), 1..12).prop_map(Event::Arrive),
        2 => (1u32..4).prop_map(Event::Depart),
    ]
}

/// `maxSurge` and `maxUnavailable`: never both 0.
fn limits() -> impl Strategy<Value = (u32, u32)> {
    prop::sample::select(vec![(1, 0), (0, 1), (2, 0), (0, 2), (1, 1), (2, 1)])
}

fn happen(world: &mut World, event: Event) {
    let wish = &mut world.wish;
    match event {
        Event::Replicas(replicas) => wish.replicas = replicas,
        Event::Bounds(min, max) => (wish.min, wish.max) = (min, max),
        Event::Floor(floor) => wish.floor = floor,
        Event::Revision(revision) => wish.revision = revision.into(),
        Event::RolloutPaused(paused) => wish.rollout_paused = paused,
        Event::ScaleInPaused(paused) => wish.scale_in_paused = paused,
        Event::Stopped(stopped) => wish.stopped = stopped,
        Event::Policy(policy) => wish.policy = policy,
        Event::Cordon(machine, cordoned) => world.machines[machine].cordoned = cordoned,
        Event::CutOff(machine) => {
            if world.machines[machine].up == Up::Yes {
                world.machines[machine].up = Up::No(world.now);
            }
        }
        Event::Lose(machine) => world.machines[machine].up = Up::Gone,
        Event::Return(machine) => world.machines[machine].up = Up::Yes,
        Event::Mute(pod, seconds) => world.mute(pod, seconds),
        Event::Stale(seconds) => world.stale = world.now + seconds,
        Event::Away(seconds) => {
            (0..seconds).for_each(|_| world.tick());
            // Back, it knows of no node until that has answered.
            world.round(true);
        }
        Event::Request(pod, time) => world.request(pod, Some(time.map(Duration::from_secs))),
        Event::Withdraw(pod) => world.request(pod, None),
        Event::Arrive(sessions) => {
            sessions.into_iter().for_each(|(publisher, pod, late)| world.arrive(publisher, pod, late));
        }
        Event::Depart(sessions) => world.depart(sessions),
    }
}

fn run(world: &mut World, events: Vec<(Event, u8)>) {
    for (event, seconds) in events {
        happen(world, event);
        for _ in 0..seconds {
            world.round(false);
            world.tick();
        }
    }
}

fn begin(surge: u32, unavailable: u32) -> World {
    let wish = Wish {
        revision: "a".into(),
        max: 8,
        max_surge: surge,
        max_unavailable: unavailable,
        deadline: Duration::from_secs(DEADLINE),
        progress_deadline: Duration::from_secs(30),
        ..wish(2)
    };
    World::new(wish, MACHINES)
}

/// Whether the steps change which pods there are, or which of them take sessions.
fn moves(step: &Step) -> bool {
    matches!(step, Step::Drain { .. } | Step::Undrain { .. } | Step::Delete { .. } | Step::Create { .. })
}

proptest! {

    /// Left to itself with its sessions and its machines as they are, it comes to rest: no pod that was taken back is drained, none that
    /// was made goes (asserted in the world), and in the end nothing moves.
    #[test]
    fn a_cluster_comes_to_rest(
        events in prop::collection::vec((event(), 0u8..12), 1..14), (surge, unavailable) in limits(),
    ) {
        let mut world = begin(surge, unavailable);
        run(&mut world, events);
        // What is missing comes in, and what changes without the planner has changed.
        for _ in 0..30 {
            world.round(false);
            world.tick();
        }
        world.calm();
        for _ in 0..8 * (DEADLINE + 40) {
            world.round(false);
            world.tick();
        }
        let fails = kind(&world.wish.revision) == Kind::Fails;
        let late: Vec<_> = world.done.iter().filter(|(at, step)| *at > world.now - 60 && moves(step)).collect();
        prop_assert!(fails || late.is_empty(), "{:?}\n{:?}\n{}", late, world.wish, brief(&world.view()));
        let view = world.view();
        let wish = world.told_wish(false);
        let free = world.machines.iter().any(|machine| machine.up == Up::Yes && !machine.cordoned);
        let heard: Vec<_> = view.iter().filter(|pod| pod.lost.is_none() && pod.requested.is_none()).collect();
        if free && kind(&wish.revision) == Kind::Well && !wish.rollout_paused {
            let count = heard.len();
            let enough = if wish.scale_in_paused { count >= wish.target() } else { count == wish.target() };
            prop_assert!(enough, "{} of {}: {}", count, wish.target(), brief(&view));
            for pod in heard {
                let well = pod.accepting && pod.busy && pod.drain.is_none() && !pod.leaving;
                prop_assert!(well && pod.revision == wish.revision, "{:?}\n{:?}", pod, wish);
            }
        }
    }

    /// A rollout to what does not work, at any moment: what works is kept, and is replaced once another revision is wanted.
    #[test]
    fn a_broken_rollout_keeps_what_works(
        bad in prop::sample::select(vec!["crashes", "closed", "unready", "fails"]),
        replicas in 1u32..6, (surge, unavailable) in limits(), seconds in 0u8..20,
        sessions in prop::collection::vec((any::<bool>(), any::<usize>(), any::<bool>()), 0..12),
    ) {
        let mut world = begin(surge, unavailable);
        run(&mut world, vec![(Event::Replicas(replicas), 15), (Event::Arrive(sessions), 1)]);
        prop_assert_eq!(open(&world.view()), replicas as usize);
        run(&mut world, vec![(Event::Revision("b"), seconds), (Event::Revision(bad), 200)]);
        let plan = world.round(false);
        let count = open(&world.view());
        prop_assert!(count >= (replicas - unavailable.min(replicas)) as usize, "{}: {}", count, brief(&world.view()));
        prop_assert!(count == 0 || plan.halted || bad == "fails", "{:?} {}", plan, brief(&world.view()));
        run(&mut world, vec![(Event::Revision("c"), 200), (Event::Depart(100), 100)]);
        let view = world.view();
        prop_assert!(view.len() == replicas as usize && view.iter().all(|pod| pod.accepting && pod.revision == "c"), "{}", brief(&view));
    }
}
