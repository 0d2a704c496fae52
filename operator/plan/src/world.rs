//! A cluster for tests that does what the planner says: machines, pods with sessions, and an operator that sees only what is reported.
//! What must hold whatever happens is asserted where it would be broken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sluice_crds::pool::DrainPolicy;

use crate::fixtures::at;
use crate::plan::{Drain, Heard, Lost, Ordered, Plan, Reason, Seen, Step, Why, Wish, plan};

/// After so many seconds without a sign a machine counts as silent.
const SILENT: i64 = 6;

/// What a node said is believed for so many seconds.
const FRESH: i64 = 10;

/// How pods of a revision are.
pub(crate) fn kind(revision: &str) -> Kind {
    match revision {
        "crashes" => Kind::Crashes,
        "closed" => Kind::Closed,
        "unready" => Kind::Unready,
        "fails" => Kind::Fails,
        _ => Kind::Well,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Well,
    /// Its process ends again and again.
    Crashes,
    /// It runs and takes no sessions.
    Closed,
    /// It never becomes ready.
    Unready,
    /// Its pod fails for good.
    Fails,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Up {
    Yes,
    /// Cut off since then: what runs there goes on.
    No(i64),
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cordoned: bool,
    pub(crate) up: Up,
}

#[derive(Clone, Debug)]
pub(crate) struct Sim {
    /// Labels, annotations and what the kubelet said last.
    seen: Seen,
    machine: Option<usize>,
    bound: i64,
    /// Since when no Service lists it, whether it is drained or not.
    unlisted: Option<i64>,
    /// What it drains by, and when that ends.
    told: Option<(String, i64)>,
    publishers: u32,
    viewers: u32,
    /// Its last report, and when that was.
    report: Option<(i64, Heard)>,
    /// Its reports are missing until then.
    mute: i64,
    gone: Option<i64>,
}

impl Sim {
    fn running(&self) -> bool {
        self.seen.started && !self.seen.failed && !self.seen.terminating
    }
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) now: i64,
    pub(crate) wish: Wish,
    pub(crate) machines: Vec<Machine>,
    pods: BTreeMap<String, Sim>,
    /// When which revision failed.
    failures: Vec<(i64, String)>,
    /// Services list who they listed before until then: who keeps their lists is away.
    pub(crate) stale: i64,
    /// What was done to which pod since the cluster was last left to itself.
    pub(crate) done: Vec<(i64, Step)>,
    /// Pods by name that were made, and those that were taken back, since then.
    made: BTreeSet<String>,
    back: BTreeSet<String>,
    calm: bool,
}

impl World {
    pub(crate) fn new(wish: Wish, machines: usize) -> World {
        World {
            now: 0,
            wish,
            machines: vec![Machine { cordoned: false, up: Up::Yes }; machines],
            pods: BTreeMap::new(),
            failures: Vec::new(),
            stale: 0,
            done: Vec::new(),
            made: BTreeSet::new(),
            back: BTreeSet::new(),
            calm: false,
        }
    }

    /// From now on nothing changes but by the planner.
    pub(crate) fn calm(&mut self) {
        self.calm = true;
        self.done.clear();
    }

    /// What the operator sees.
    pub(crate) fn view(&self) -> Vec<Seen> {
        self.pods.values().map(|sim| self.seen(sim)).collect()
    }

    fn seen(&self, sim: &Sim) -> Seen {
        let mut seen = sim.seen.clone();
        let machine = sim.machine.map(|machine| &self.machines[machine]);
        seen.machine = sim.machine.map(|machine| format!("m-{machine}"));
        seen.leaving = machine.is_some_and(|machine| machine.cordoned);
        seen.lost = match machine.map(|machine| machine.up) {
            Some(Up::Gone) => Some(Lost::Gone),
            Some(Up::No(since)) if self.now - since >= SILENT => Some(Lost::Silent),
            _ => None,
        };
        // Kubernetes itself is slower to say so.
        seen.ready &=
            !matches!(machine.map(|machine| machine.up), Some(Up::No(since)) if self.now - since >= 40);
        let fresh = sim.report.as_ref().filter(|(at, _)| self.now - at < FRESH);
        seen.heard = fresh.map(|(_, heard)| heard.clone());
        seen.started |= seen.heard.is_some();
        seen.unlisted = sim.unlisted.filter(|_| seen.drain.is_some()).map(at);
        seen
    }

    fn pod(&mut self, name: &str) -> &mut Sim {
        self.pods.get_mut(name).expect("the planner knows its pods")
    }

    fn nth(&mut self, nth: usize) -> Option<&mut Sim> {
        let count = self.pods.len();
        (count > 0).then(|| self.pods.values_mut().nth(nth % count)).flatten()
    }

    /// A person asks for a drain, or for none any more.
    pub(crate) fn request(&mut self, nth: usize, asked: Option<Option<Duration>>) {
        if let Some(sim) = self.nth(nth) {
            sim.seen.requested = asked;
        }
    }

    /// Reports of a pod are missing.
    pub(crate) fn mute(&mut self, nth: usize, seconds: i64) {
        let until = self.now + seconds;
        if let Some(sim) = self.nth(nth) {
            sim.mute = until;
        }
    }

    /// A session comes, to a pod that new ones are sent to, or late to one that has not heard yet that it is to take none.
    pub(crate) fn arrive(&mut self, publisher: bool, nth: usize, late: bool) {
        let machines = &self.machines;
        let mut open: Vec<&mut Sim> = self
            .pods
            .values_mut()
            .filter(|sim| {
                let up = sim.machine.is_some_and(|machine| machines[machine].up == Up::Yes);
                up && sim.running() && sim.seen.ready && sim.told.is_none() && (late || sim.seen.accepting)
            })
            .filter(|sim| kind(&sim.seen.revision) == Kind::Well)
            .collect();
        let count = open.len();
        if count > 0 {
            let sim = open.swap_remove(nth % count);
            if publisher {
                sim.publishers += 1;
            } else {
                sim.viewers += 1;
            }
        }
    }

    /// Of each pod so many sessions go.
    pub(crate) fn depart(&mut self, sessions: u32) {
        for sim in self.pods.values_mut() {
            sim.publishers = sim.publishers.saturating_sub(sessions);
            sim.viewers = sim.viewers.saturating_sub(sessions);
        }
    }

    /// A round of the operator.
    pub(crate) fn round(&mut self, unheard: bool) -> Plan {
        let wish = self.told_wish(unheard);
        let before = self.view();
        let steps = plan(&wish, &before, at(self.now));
        self.is_allowed(&wish, &before, &steps);
        let had = open(&before);
        for step in &steps.steps {
            self.apply(&wish, step);
        }
        let after = self.view();
        let (has, least) = (open(&after), wish.least().min(had));
        assert!(has >= least, "{has} of {had} take sessions, {least} must: {steps:?}\n{}", brief(&before));
        // What failed tells nothing more once it has gone, and what is drained at once has gone: the next round may do more.
        let failed = |step: &Step| matches!(step, Step::Delete { why: Why::Failed, .. });
        if wish.policy == DrainPolicy::Immediate || steps.steps.iter().any(failed) {
            return steps;
        }
        let again = plan(&self.told_wish(unheard), &after, at(self.now));
        let orders = |step: &&Step| !matches!(step, Step::TellDrain { .. } | Step::TellUndrain { .. });
        let more: Vec<&Step> = again.steps.iter().filter(orders).collect();
        assert!(more.is_empty(), "a second round does more: {more:?}\nafter {steps:?}\n{}", brief(&before));
        // A pod that was just made or taken back may be one that is not trusted yet.
        let made = |step: &Step| matches!(step, Step::Create { .. } | Step::Undrain { .. });
        let made = steps.steps.iter().any(made);
        assert!(made || again.halted == steps.halted, "{steps:?}\n{}", brief(&before));
        steps
    }

    /// The wish as the operator has it.
    pub(crate) fn told_wish(&self, unheard: bool) -> Wish {
        let lately = self.failures.iter().filter(|(at, _)| self.now - at < 600);
        let failed_updated = lately.clone().filter(|(_, revision)| *revision == self.wish.revision).count();
        Wish { failed_lately: lately.count(), failed_updated, unheard, ..self.wish.clone() }
    }

    /// What no plan may do.
    fn is_allowed(&self, wish: &Wish, before: &[Seen], plan: &Plan) {
        let seen = |name: &str| before.iter().find(|pod| pod.name == name).expect("a pod that is there");
        let mut creates = false;
        for step in &plan.steps {
            match step {
                Step::Drain { pod, drain } => {
                    let chosen = drain.reason != Reason::Requested;
                    assert!(!(wish.unheard && chosen), "{pod} is chosen on missing data");
                    assert!(!(wish.scale_in_paused && drain.reason == Reason::ScaleIn), "{pod} is too many");
                    let silent = seen(pod).lost.is_some() && !wish.stopped;
                    assert!(!(silent && chosen), "{pod} is silent and drained");
                    let old = seen(pod).revision != wish.revision;
                    assert!(
                        !(plan.halted && drain.reason == Reason::Rollout && old),
                        "{pod} is kept in a halt"
                    );
                }
                Step::Undrain { pod } => {
                    let pod = seen(pod);
                    assert!(pod.requested.is_none(), "{} is asked for", pod.name);
                    let withdrawn = pod.drain.is_some_and(|drain| drain.reason == Reason::Requested);
                    let bad = pod.leaving || pod.lost.is_some() || pod.revision != wish.revision;
                    assert!(withdrawn || !bad, "{} must go", pod.name);
                }
                Step::Create { .. } => creates = true,
                _ => {}
            }
        }
        let back = |pod: &&Seen| {
            let mine = pod
                .drain
                .is_some_and(|drain| drain.reason != Reason::Requested && at(self.now) < drain.deadline);
            let closed = pod.heard.as_ref().is_none_or(|heard| !heard.accepting && heard.draining.is_none());
            let sound = !closed && pod.ready && !pod.terminating && !pod.failed && !pod.crashing;
            mine && sound
                && pod.requested.is_none()
                && !pod.leaving
                && pod.lost.is_none()
                && pod.revision == wish.revision
        };
        if creates && !wish.scale_in_paused {
            let taken = |pod: &Seen| plan.steps.contains(&Step::Undrain { pod: pod.name.clone() });
            let left: Vec<&Seen> = before.iter().filter(back).filter(|pod| !taken(pod)).collect();
            assert!(left.is_empty(), "pods are made before these are taken back: {left:?}\n{plan:?}");
        }
    }

    fn apply(&mut self, wish: &Wish, step: &Step) {
        self.done.push((self.now, step.clone()));
        let (now, calm) = (self.now, self.calm);
        match step {
            Step::Create { slot } => self.create(wish, *slot),
            Step::Drain { pod, drain } => {
                assert!(!self.back.contains(pod), "{pod} was just taken back and is drained again");
                assert!(!self.made.contains(pod), "{pod} was just made and is drained");
                let seen = &mut self.pod(pod).seen;
                (seen.drain, seen.accepting, seen.marked) = (Some(*drain), false, true);
            }
            Step::Undrain { pod } => {
                if calm {
                    self.back.insert(pod.clone());
                }
                let seen = &mut self.pod(pod).seen;
                (seen.drain, seen.marked) = (None, false);
            }
            Step::Label { pod, accepting, busy } => {
                let seen = &mut self.pod(pod).seen;
                (seen.accepting, seen.busy) = (*accepting, *busy);
            }
            Step::TellDrain { pod, left, words, anew } => {
                let sim = &self.pods[pod];
                let sent = sim.unlisted.is_none_or(|since| now - since < 5);
                let long = sim.seen.drain.is_some_and(|drain| at(now - 60) >= drain.since);
                assert!(!sent || long, "{pod} is to refuse who is still sent there: {sim:#?}");
                if self.reached(pod) {
                    let end = now + i64::try_from(left.as_secs()).expect("a short time");
                    let sim = self.pod(pod);
                    // An order can only shorten the one before.
                    let before = sim.told.as_ref().filter(|_| !anew).map_or(end, |(_, end)| *end);
                    sim.told = Some((words.clone(), end.min(before)));
                }
            }
            Step::TellUndrain { pod } => {
                if self.reached(pod) {
                    self.pod(pod).told = None;
                }
            }
            Step::Delete { pod, why } => self.delete(wish, pod, *why),
        }
    }

    fn reached(&self, pod: &str) -> bool {
        let sim = &self.pods[pod];
        sim.mute <= self.now && sim.machine.is_some_and(|machine| self.machines[machine].up == Up::Yes)
    }

    fn create(&mut self, wish: &Wish, slot: u32) {
        let name = format!("p-{slot}");
        let seen = Seen {
            name: name.clone(),
            slot,
            revision: wish.revision.clone(),
            created: at(self.now),
            terminating: false,
            failed: false,
            started: false,
            ready: false,
            turned: at(self.now),
            crashing: false,
            machine: None,
            leaving: false,
            lost: None,
            accepting: false,
            busy: true,
            marked: false,
            drain: None,
            unlisted: None,
            requested: None,
            heard: None,
        };
        let sim = Sim {
            seen,
            machine: None,
            bound: 0,
            unlisted: Some(self.now),
            told: None,
            publishers: 0,
            viewers: 0,
            report: None,
            mute: 0,
            gone: None,
        };
        if self.calm {
            self.made.insert(name.clone());
        }
        let before = self.pods.insert(name, sim);
        assert!(before.is_none(), "slot {slot} is taken");
    }

    fn delete(&mut self, wish: &Wish, pod: &str, why: Why) {
        let now = self.now;
        let machine = self.pods[pod].machine.map(|machine| self.machines[machine].up);
        assert!(why == Why::Failed || !self.made.contains(pod), "{pod} was just made and goes ({why:?})");
        let sim = self.pod(pod);
        let left = match wish.policy {
            DrainPolicy::Wait => sim.publishers + sim.viewers,
            DrainPolicy::WaitForPublishers | DrainPolicy::Immediate => sim.publishers,
        };
        let over = sim.seen.drain.is_some_and(|drain: Drain| at(now) >= drain.deadline);
        let lost = machine == Some(Up::Gone);
        assert_eq!(lost, why == Why::Lost, "{pod} goes ({why:?})");
        assert!(!sim.running() || left == 0 || over || lost, "{pod} is cut ({why:?}): {sim:#?}");
        if why == Why::NeverStarted {
            assert!(!sim.seen.started, "{pod} has started");
        }
        if lost {
            self.pods.remove(pod);
            return;
        }
        sim.seen.terminating = true;
        sim.gone = Some(now + 2);
        (sim.publishers, sim.viewers) = (0, 0);
        let revision = sim.seen.revision.clone();
        self.made.remove(pod);
        if why == Why::Failed {
            self.failures.push((now, revision));
        }
    }

    /// A second passes.
    pub(crate) fn tick(&mut self) {
        self.now += 1;
        let (now, machines) = (self.now, &self.machines);
        let up = |machine: Option<usize>| machine.map(|machine| machines[machine].up);
        // A kubelet that is cut off ends nothing; what was on a machine that is gone, Kubernetes forgets.
        self.pods.retain(|_, sim| match up(sim.machine) {
            Some(Up::Gone) => !sim.seen.terminating,
            Some(Up::No(_)) => true,
            Some(Up::Yes) | None => sim.gone.is_none_or(|gone| now < gone),
        });
        let mut load: Vec<usize> = vec![0; machines.len()];
        for machine in self.pods.values().filter_map(|sim| sim.machine) {
            load[machine] += 1;
        }
        // Kubernetes lists whom the label allows, a moment later.
        if self.stale <= now {
            for sim in self.pods.values_mut() {
                sim.unlisted = (!sim.seen.accepting).then(|| sim.unlisted.unwrap_or(now));
            }
        }
        for sim in self.pods.values_mut().filter(|sim| !sim.seen.terminating) {
            if sim.machine.is_none() {
                let free = machines.iter().enumerate();
                let free = free.filter(|(_, machine)| machine.up == Up::Yes && !machine.cordoned);
                sim.machine = free.map(|(machine, _)| machine).min_by_key(|machine| load[*machine]);
                sim.bound = now;
                if let Some(machine) = sim.machine {
                    load[machine] += 1;
                }
            }
            match up(sim.machine) {
                Some(Up::Yes) => live(sim, now),
                Some(Up::Gone) => (sim.publishers, sim.viewers) = (0, 0),
                Some(Up::No(_)) | None => {}
            }
        }
    }
}

/// A second of a pod on a machine that is up.
fn live(sim: &mut Sim, now: i64) {
    let age = now - sim.bound;
    let kind = kind(&sim.seen.revision);
    match kind {
        Kind::Crashes => {
            sim.seen.crashing = age >= 8;
            return;
        }
        Kind::Fails => {
            sim.seen.failed = age >= 4;
            return;
        }
        Kind::Well | Kind::Closed | Kind::Unready => {}
    }
    if age < 3 + i64::from(sim.seen.slot % 3) {
        return;
    }
    sim.seen.started = true;
    let ready = kind != Kind::Unready;
    if sim.seen.ready != ready {
        (sim.seen.ready, sim.seen.turned) = (ready, at(now));
    }
    if now >= sim.mute {
        let draining = sim.told.as_ref().map(|(words, end)| Ordered {
            words: words.clone(),
            left: Some(Duration::from_secs(u64::try_from(end - now).unwrap_or(0))),
        });
        let accepting = sim.told.is_none() && kind == Kind::Well;
        let (publishers, viewers) = (sim.publishers, sim.viewers);
        let heard = Heard { accepting, draining, publishers, viewers, by_others: false };
        sim.report = Some((now, heard));
    }
}

/// Pods that new sessions are sent to and let in by, as far as is known, without those that a person takes away.
pub(crate) fn open(pods: &[Seen]) -> usize {
    let open = |pod: &&Seen| {
        let stays = pod.drain.is_none() && pod.requested.is_none() && !pod.terminating && pod.lost.is_none();
        stays && pod.ready && pod.accepting && pod.heard.as_ref().is_none_or(|heard| heard.accepting)
    };
    pods.iter().filter(open).count()
}

/// The pods, a line each.
pub(crate) fn brief(pods: &[Seen]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for pod in pods {
        let flags = [
            (pod.terminating, "terminating"),
            (pod.failed, "failed"),
            (pod.started, "started"),
            (pod.ready, "ready"),
            (pod.crashing, "crashing"),
            (pod.leaving, "leaving"),
            (pod.accepting, "accepting"),
            (pod.busy, "busy"),
        ];
        let flags: Vec<&str> = flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect();
        let (name, revision, created) = (&pod.name, &pod.revision, pod.created);
        let _ = writeln!(
            text,
            "{name} {revision} {created} {} lost={:?} drain={:?} requested={:?} heard={:?}",
            flags.join(","),
            pod.lost,
            pod.drain,
            pod.requested,
            pod.heard,
        );
    }
    text
}
