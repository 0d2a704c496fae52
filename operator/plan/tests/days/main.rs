//! Days of load in simulation: the planner, its floors and an autoscaler on sessions, beside an autoscaler on CPU and a Deployment.

mod hpa;
mod load;
mod ours;
mod peer;
mod world;

use sluice_crds::pool::Role;

use crate::load::{Day, END, Kind, Wanted, days};
use crate::ours::Ours;
use crate::peer::{GRACE, Peer};
use crate::world::Tally;

/// A pool, and what one of its pods takes.
#[derive(Clone, Copy)]
struct Pool {
    role: Role,
    capacity: u32,
    min: u32,
    max: u32,
    /// Pods that the crowd of the evening needs.
    evening: u32,
}

const EDGES: Pool = Pool { role: Role::Edge, capacity: 100, min: 2, max: 60, evening: 32 };
const ORIGINS: Pool = Pool { role: Role::Origin, capacity: 20, min: 2, max: 30, evening: 6 };

/// How a pool is scaled.
#[derive(Clone, Copy, Default)]
struct Scale {
    /// How full pods are to be, percent.
    percent: u32,
    /// `minSpareSlots`.
    spare: Option<u32>,
    /// Pods there are at least from 19:55 to 20:10, by a schedule.
    evening: Option<u32>,
}

/// What scales a pool.
#[derive(Clone, Copy)]
enum Way {
    /// An autoscaler on CPU and a Deployment whose pods have so many seconds of grace.
    Cpu { percent: u32, grace: i64 },
    /// An autoscaler on sessions, the planner and its floors. A schedule has pods for the evening's crowd.
    Sessions { percent: u32, scheduled: bool },
}

/// What it is compared with.
const PEER: Way = Way::Cpu { percent: 60, grace: GRACE };
/// The same, nearer to what a pod takes.
const FULLER: Way = Way::Cpu { percent: 80, grace: GRACE };
/// The same, with pods that are let wait for their last session.
const PATIENT: Way = Way::Cpu { percent: 60, grace: 12 * 3600 };
const PATIENT_FULLER: Way = Way::Cpu { percent: 80, grace: 12 * 3600 };
const SAME_TARGET: Way = Way::Sessions { percent: 60, scheduled: false };
const OURS: Way = Way::Sessions { percent: 80, scheduled: false };
const ANNOUNCED: Way = Way::Sessions { percent: 80, scheduled: true };
const WAYS: [Way; 7] = [PEER, FULLER, PATIENT, PATIENT_FULLER, SAME_TARGET, OURS, ANNOUNCED];

impl Way {
    fn name(self) -> String {
        match self {
            Way::Cpu { percent, grace: GRACE } => format!("CPU {percent} %, Deployment"),
            Way::Cpu { percent, grace } => {
                format!("CPU {percent} %, Deployment, {} h of grace", grace / 3600)
            }
            Way::Sessions { percent, scheduled: false } => format!("Sluice, sessions {percent} %"),
            Way::Sessions { percent, scheduled: true } => {
                format!("Sluice, sessions {percent} %, 20:00 scheduled")
            }
        }
    }

    fn run(self, pool: Pool, wanted: &[Wanted]) -> Tally {
        match self {
            Way::Cpu { percent, grace } => {
                let mut peer = Peer::new(pool, percent, wanted, grace);
                (0..END).for_each(|_| peer.tick());
                peer.world.tally
            }
            Way::Sessions { percent, scheduled } => {
                let evening = scheduled.then_some(pool.evening);
                let mut ours = Ours::new(pool, Scale { percent, evening, spare: None }, wanted);
                (0..END).for_each(|_| ours.tick());
                ours.world.tally
            }
        }
    }
}

/// A day of one way, edges and origins.
struct Result {
    edges: Tally,
    origins: Tally,
}

impl Result {
    fn sum(&self, pick: impl Fn(&Tally) -> i64) -> i64 {
        pick(&self.edges) + pick(&self.origins)
    }

    fn hours(&self) -> i64 {
        self.sum(|tally| tally.pods)
    }

    fn shortfall(&self) -> i64 {
        self.sum(|tally| tally.shortfall)
    }

    fn row(&self, day: &str, way: Way) -> String {
        let hours = |seconds: i64| format!("{:.1}", seconds as f64 / 3600.0);
        let longest = self.edges.longest.max(self.origins.longest);
        let numbers =
            [self.sum(|tally| tally.cut), self.shortfall(), longest, self.sum(|tally| tally.refused)];
        let pods = [hours(self.edges.pods), hours(self.origins.pods), hours(self.hours())];
        let cells: Vec<String> = pods.into_iter().chain(numbers.map(|number| number.to_string())).collect();
        format!("| {day} | {} | {} |", way.name(), cells.join(" | "))
    }
}

fn day(day: &Day) -> [Result; WAYS.len()] {
    WAYS.map(|way| Result { edges: way.run(EDGES, &day.viewers), origins: way.run(ORIGINS, &day.publishers) })
}

/// `make days` prints the table. What it says of each day:
/// - nobody is cut, where the Deployment cuts;
/// - with sessions, which are known exactly, pods may be fuller than CPU is commonly let be: that needs fewer pods, and is short of no more;
/// - at the same target pods that are waited for cost what they cost a Deployment that waits, within a tenth.
#[test]
fn days_need_fewer_pods_and_cut_nobody() {
    let days = days();
    let results: Vec<[Result; WAYS.len()]> = std::thread::scope(|scope| {
        let running: Vec<_> = days.iter().map(|one| scope.spawn(|| day(one))).collect();
        running.into_iter().map(|day| day.join().expect("a day")).collect()
    });
    println!(
        "| day | scaled by | pod-hours of edges | of origins | both | cut | shortfall, session-seconds | longest, s | refused once |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
    for (day, ways) in days.iter().zip(&results) {
        for (way, result) in WAYS.iter().zip(ways) {
            println!("{}", result.row(day.name, *way));
        }
    }
    for (day, [peer, fuller, patient, patient_fuller, same_target, ours, announced]) in
        days.iter().zip(&results)
    {
        let name = day.name;
        for cutting in [peer, fuller] {
            assert!(cutting.edges.cut > 0 && cutting.origins.cut > 0, "{name}: a load that harms nobody");
        }
        for kept in [same_target, ours, announced] {
            assert_eq!(kept.sum(|tally| tally.cut), 0, "{name}: cut");
        }
        assert!(same_target.shortfall() <= peer.shortfall(), "{name}: short at the same target");
        for (one, waits) in [(same_target, patient), (ours, patient_fuller)] {
            assert!(one.hours() * 10 <= waits.hours() * 11, "{name}: more than waiting costs");
            assert!(one.shortfall() <= waits.shortfall(), "{name}: shorter than one that waits");
        }
        for one in [ours, announced] {
            assert!(one.hours() <= peer.hours(), "{name}: more pods than by CPU");
        }
        assert!(announced.shortfall() <= peer.shortfall(), "{name}: shorter than by CPU");
    }
}

/// So many that never end.
fn constant(kind: Kind, count: usize) -> Vec<Wanted> {
    (0..count).map(|id| Wanted { from: id as i64 % 300, until: i64::MAX, kind }).collect()
}

/// What is asked for and done, after which nothing is left to do.
fn settled(ours: &Ours) -> (u32, usize, usize, [usize; 3]) {
    (ours.wish.replicas, ours.wish.target(), ours.accepting(), ours.moves)
}

#[test]
fn constant_load_comes_to_rest() {
    const HOUR: usize = 3600;
    for (pool, kind) in [(EDGES, Kind::Moves), (ORIGINS, Kind::Publisher)] {
        let target = pool.capacity as usize * 6 / 10;
        for count in
            [0, target, 4 * target, 4 * target + target / 4, 4 * target - target / 3, 10 * target + 1]
        {
            for (written, spare) in
                [(2, None), (20, None), (1000, Some(2 * pool.capacity)), (5, Some(pool.capacity / 2))]
            {
                let what = format!(
                    "{} with {count} sessions from {written} pods, spare {spare:?}",
                    pool.role.as_str()
                );
                let scale = Scale { percent: 60, spare, evening: None };
                let mut ours = Ours::new(Pool { max: 24, ..pool }, scale, &constant(kind, count));
                ours.wish.replicas = written;
                (0..2 * HOUR).for_each(|_| ours.tick());
                let rest = settled(&ours);
                for _ in 0..2 * HOUR {
                    ours.tick();
                    assert_eq!(settled(&ours), rest, "{what}: {} s", ours.world.now);
                }
                let needed = count.div_ceil(pool.capacity as usize);
                assert!(ours.accepting() >= needed, "{what}: {} pods", ours.accepting());
                assert!(
                    ours.accepting() <= 2 * count.div_ceil(target).max(3),
                    "{what}: {} pods",
                    ours.accepting()
                );
            }
        }
    }
}

#[test]
fn a_rollout_raises_nothing() {
    for (count, spare) in [(0, None), (240, None), (285, None), (301, None), (430, Some(200))] {
        let scale = Scale { percent: 60, spare, evening: None };
        let mut ours = Ours::new(EDGES, scale, &constant(Kind::Moves, count));
        (0..7200).for_each(|_| ours.tick());
        let (replicas, target, accepting, _) = settled(&ours);
        for revision in ["two", "three", "four"] {
            ours.wish.revision = revision.into();
            for _ in 0..1800 {
                ours.tick();
                assert_eq!((ours.wish.replicas, ours.wish.target()), (replicas, target), "{count} viewers");
                assert!(ours.accepting() >= accepting, "{count} viewers: {} pods accept", ours.accepting());
            }
            assert_eq!(ours.pods(), target, "{count} viewers: the rollout is over");
            assert_eq!(ours.world.tally.cut, 0);
        }
    }
}
