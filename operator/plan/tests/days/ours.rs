//! A pool of ours: the planner and the floors as they are, an autoscaler on its sessions, nodes that drain when they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use sluice_crds::autoscaling;
use sluice_crds::pool::{DrainPolicy, Role};
use sluice_plan::{Floors, Heard, History, Load, Ordered, Schedule, Seen, Spare, Step, Wish, plan};

use crate::hpa::{self, Behavior, Hpa, Policy, Rules, Tolerances};
use crate::load::{BEFORE, Wanted};
use crate::world::World;
use crate::{Pool, Scale};

/// How often nodes report, and the operator looks, seconds.
const REPORT: i64 = 5;
const LOOK: i64 = 2;
/// How long an ended process is still there.
const GONE: i64 = 2;

struct Node {
    pod: usize,
    seen: Seen,
    told: Option<String>,
    gone_at: Option<i64>,
}

pub(crate) struct Ours {
    pub(crate) world: World,
    pub(crate) hpa: Hpa,
    pub(crate) wish: Wish,
    /// Drains begun, drains taken back, pods made.
    pub(crate) moves: [usize; 3],
    target: i64,
    floors: Floors,
    history: History,
    nodes: BTreeMap<u32, Node>,
    /// All sessions, as reported.
    usage: i64,
}

/// What the operator writes into an autoscaler when its pool says nothing else.
pub(crate) fn behavior(role: Role) -> Behavior {
    let up = Rules { window: 0, policies: vec![Policy::Percent(100, 30), Policy::Pods(4, 30)], least: false };
    let down = match role {
        Role::Origin => Rules { window: 900, policies: vec![Policy::Pods(1, 120)], least: true },
        Role::Edge => {
            Rules { window: 600, policies: vec![Policy::Pods(1, 60), Policy::Percent(10, 60)], least: false }
        }
    };
    Behavior { up, down }
}

const TOLERANCES: Tolerances = Tolerances { down: 0.2, up: 0.05 };

/// 2027-01-16.
const MIDNIGHT: i64 = 1_800_057_600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(MIDNIGHT - BEFORE + second).expect("a time")
}

impl Ours {
    pub(crate) fn new(pool: Pool, scale: Scale, wanted: &[Wanted]) -> Ours {
        let behavior = behavior(pool.role);
        let window = Duration::from_secs(behavior.down.window.unsigned_abs());
        let spare = scale.spare.map(|slots| Spare { slots, capacity: pool.capacity });
        let wish = Wish {
            replicas: pool.min,
            min: pool.min,
            max: pool.max,
            floor: 0,
            scale_in_paused: false,
            progress_deadline: Duration::from_secs(600),
            revision: "one".into(),
            max_surge: 1,
            max_unavailable: 0,
            rollout_paused: false,
            // Longer than the longest session.
            deadline: Duration::from_secs(12 * 3600),
            policy: DrainPolicy::Wait,
            stopped: false,
            taken: BTreeSet::new(),
            failed_lately: 0,
            failed_updated: 0,
            unheard: false,
        };
        Ours {
            world: World::new(wanted, pool.capacity as usize),
            hpa: Hpa::new(pool.min.into(), pool.max.into(), TOLERANCES, Some(behavior)),
            wish,
            moves: [0; 3],
            target: i64::from(pool.capacity * scale.percent / 100),
            floors: Floors {
                max: pool.max,
                spare,
                window,
                schedules: scale.evening.map(evening).into_iter().collect(),
            },
            history: History::default(),
            nodes: BTreeMap::new(),
            usage: 0,
        }
    }

    /// A second passes.
    pub(crate) fn tick(&mut self) {
        self.world.tick();
        let now = self.world.now;
        let gone: Vec<u32> =
            self.nodes.iter().filter(|(_, node)| node.gone_at == Some(now)).map(|(slot, _)| *slot).collect();
        for slot in gone {
            if let Some(node) = self.nodes.remove(&slot) {
                self.world.end(node.pod);
            }
        }
        if now % REPORT == 0 {
            self.usage =
                self.nodes.values().map(|node| self.world.pods[node.pod].sessions.len() as i64).sum();
        }
        if now % LOOK == 0 {
            self.look();
        }
        if now % hpa::SYNC == 0 {
            let metric =
                hpa::object_average(self.usage, self.target, self.status_replicas(), self.hpa.tolerances);
            let written = self.hpa.sync(now, self.wish.replicas.into(), Some(metric));
            self.wish.replicas = u32::try_from(written).expect("pods");
        }
    }

    /// Pods that accept, never more than were asked for.
    fn status_replicas(&self) -> i64 {
        let accepting = self.accepting() as i64;
        accepting.min(i64::from(self.wish.replicas.clamp(self.wish.min, self.wish.max)))
    }

    pub(crate) fn accepting(&self) -> usize {
        let accepts = |node: &&Node| node.seen.ready && node.seen.accepting && node.seen.drain.is_none();
        self.nodes.values().filter(accepts).count()
    }

    /// All there are, also those that drain.
    pub(crate) fn pods(&self) -> usize {
        self.nodes.len()
    }

    /// What the operator does.
    fn look(&mut self) {
        let now = self.world.now;
        for node in self.nodes.values_mut() {
            let seen = &mut node.seen;
            if self.world.pods[node.pod].ready.is_none() || seen.terminating {
                continue;
            }
            (seen.started, seen.ready) = (true, true);
            let (publishers, viewers) = self.world.on(node.pod);
            let draining = node.told.clone().map(|words| Ordered { words, left: None });
            let accepting = node.told.is_none();
            seen.heard = Some(Heard { accepting, draining, publishers, viewers, by_others: false });
        }
        let sessions = u32::try_from(self.usage).expect("sessions");
        let running = self.accepting().min(self.wish.target()) as u32;
        let load = Load { sessions: Some(sessions), running };
        self.wish.floor = self.floors.at(at(now), load, &mut self.history).pods;
        let seen: Vec<Seen> = self.nodes.values().map(|node| node.seen.clone()).collect();
        for step in plan(&self.wish, &seen, at(now)).steps {
            self.apply(step);
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Create { slot } => {
                self.moves[2] += 1;
                let pod = self.world.make();
                let seen = starting(slot, &self.wish.revision, at(self.world.now));
                self.nodes.insert(slot, Node { pod, seen, told: None, gone_at: None });
            }
            Step::Drain { pod, drain } => {
                self.moves[0] += 1;
                let (node, world) = self.node(&pod);
                (node.seen.drain, node.seen.accepting, node.seen.marked) = (Some(drain), false, true);
                world.pods[node.pod].open = false;
            }
            Step::Undrain { pod } => {
                self.moves[1] += 1;
                let (node, _) = self.node(&pod);
                (node.seen.drain, node.seen.marked) = (None, false);
            }
            Step::Label { pod, accepting, busy } => {
                let (node, world) = self.node(&pod);
                (node.seen.accepting, node.seen.busy) = (accepting, busy);
                world.pods[node.pod].open = accepting;
            }
            Step::TellDrain { pod, words, .. } => {
                let (node, world) = self.node(&pod);
                node.told = Some(words);
                world.leave(node.pod);
            }
            Step::TellUndrain { pod } => {
                let (node, world) = self.node(&pod);
                node.told = None;
                world.pods[node.pod].leaving = false;
            }
            Step::Delete { pod, .. } => {
                let gone_at = self.world.now + GONE;
                let (node, world) = self.node(&pod);
                node.seen.terminating = true;
                node.gone_at = Some(gone_at);
                world.pods[node.pod].open = false;
            }
        }
    }

    fn node(&mut self, name: &str) -> (&mut Node, &mut World) {
        let node = self.nodes.values_mut().find(|node| node.seen.name == name);
        (node.expect("the planner knows its pods"), &mut self.world)
    }
}

/// More pods when the evening's crowd comes.
fn evening(min: u32) -> Schedule {
    let min = i32::try_from(min).expect("pods");
    let written = autoscaling::Schedule {
        start: "55 19 * * *".into(),
        end: "10 20 * * *".into(),
        time_zone: None,
        min,
    };
    Schedule::parse(&written).expect("it can be read")
}

fn starting(slot: u32, revision: &str, created: Timestamp) -> Seen {
    Seen {
        name: format!("p-{slot}"),
        slot,
        revision: revision.into(),
        created,
        terminating: false,
        failed: false,
        started: false,
        ready: false,
        turned: created,
        crashing: false,
        machine: None,
        leaving: false,
        lost: None,
        accepting: false,
        busy: false,
        marked: false,
        drain: None,
        unlisted: None,
        requested: None,
        heard: None,
    }
}
