//! What it is compared with: a Deployment, and an autoscaler on CPU with the controller's defaults.
//!
//! CPU is what sessions need and nothing else, and no pod needs more for its start: in favour of it. A pod that is removed is out of its
//! Service at once; viewers who can move do so within its 30 s of grace; what is left then is cut.

use crate::Pool;
use crate::hpa::{self, CpuPod, Hpa, Sample, Tolerances};
use crate::load::{Random, Wanted};
use crate::world::World;

/// How often the metrics server asks for CPU, seconds.
const SCRAPE: i64 = 15;
/// `terminationGracePeriodSeconds` when nobody sets it.
pub(crate) const GRACE: i64 = 30;
/// How long an ended process is still there.
const GONE: i64 = 2;
/// What a pod asks for, and needs when it is full.
const REQUEST: i64 = 1000;

struct Running {
    pod: usize,
    uid: u64,
    /// CPU since the last scrape, milliseconds.
    used: i64,
    scrapes: u32,
    sample: Option<(i64, i64)>,
    /// Since when it is being deleted.
    deleted: Option<i64>,
}

pub(crate) struct Peer {
    pub(crate) world: World,
    hpa: Hpa,
    replicas: i64,
    percent: i64,
    capacity: i64,
    grace: i64,
    pods: Vec<Running>,
}

impl Peer {
    pub(crate) fn new(pool: Pool, percent: u32, wanted: &[Wanted], grace: i64) -> Peer {
        let tolerances = Tolerances { down: 0.1, up: 0.1 };
        Peer {
            world: World::new(wanted, pool.capacity as usize),
            hpa: Hpa::new(pool.min.into(), pool.max.into(), tolerances, None),
            replicas: pool.min.into(),
            percent: percent.into(),
            capacity: pool.capacity.into(),
            grace,
            pods: Vec::new(),
        }
    }

    /// A second passes.
    pub(crate) fn tick(&mut self) {
        self.world.tick();
        self.end();
        self.measure();
        self.replicate();
        if self.world.now % hpa::SYNC == 0 {
            self.scale();
        }
    }

    fn end(&mut self) {
        let (now, grace, world) = (self.world.now, self.grace, &mut self.world);
        self.pods.retain(|running| {
            let empty = world.pods[running.pod].sessions.is_empty();
            let over = running.deleted.is_some_and(|at| now >= at + if empty { GONE } else { grace });
            if over {
                world.end(running.pod);
            }
            !over
        });
    }

    fn measure(&mut self) {
        let now = self.world.now;
        for running in &mut self.pods {
            let pod = &self.world.pods[running.pod];
            running.used += pod.sessions.len() as i64 * REQUEST / self.capacity;
            // Offset from the autoscaler's look, as it is with two processes.
            if now % SCRAPE == 8 && pod.ready.is_some() {
                // A rate takes two.
                running.scrapes += 1;
                if running.scrapes > 1 {
                    running.sample = Some((now, running.used / SCRAPE));
                }
                running.used = 0;
            }
        }
    }

    /// The Deployment's ReplicaSet.
    fn replicate(&mut self) {
        let active = self.pods.iter().filter(|running| running.deleted.is_none()).count() as i64;
        for _ in active..self.replicas {
            let pod = self.world.make();
            self.world.pods[pod].open = true;
            let uid = Random(pod as u64).next();
            self.pods.push(Running { pod, uid, used: 0, scrapes: 0, sample: None, deleted: None });
        }
        for _ in self.replicas..active {
            let (now, world) = (self.world.now, &mut self.world);
            // Not ready first, then the youngest by powers of two, then by uid (`ActivePodsWithRanks`).
            let victim = self
                .pods
                .iter_mut()
                .filter(|running| running.deleted.is_none())
                .min_by_key(|running| {
                    let age = world.pods[running.pod].ready.map(|ready| (now - ready).max(1).ilog2());
                    (age.is_some(), age, running.uid)
                })
                .expect("there are more than wanted");
            victim.deleted = Some(now);
            world.pods[victim.pod].open = false;
            world.leave(victim.pod);
        }
    }

    fn scale(&mut self) {
        let pods: Vec<CpuPod> = self
            .pods
            .iter()
            .filter(|running| running.deleted.is_none())
            .map(|running| {
                let pod = &self.world.pods[running.pod];
                let sample = running.sample.map(|(at, milli)| Sample { at, window: SCRAPE, milli });
                CpuPod { started: pod.made, ready: pod.ready, sample }
            })
            .collect();
        let now = self.world.now;
        let metric = hpa::cpu(&pods, REQUEST, self.percent, self.replicas, now, self.hpa.tolerances);
        self.replicas = self.hpa.sync(now, self.replicas, metric);
    }
}
