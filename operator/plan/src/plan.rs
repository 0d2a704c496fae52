//! What to do with the pods of a pool: pure, from what is wanted, what is seen, and the time.
//!
//! The rules, in the order in which they are applied:
//! 1. what has failed goes; what a person wants drained is drained;
//! 2. too few: draining pods are taken back first, then pods are made in the lowest free slots;
//! 3. of another revision: new ones first (`maxSurge`), then as many old ones are drained as availability allows;
//! 4. too many: pods are drained in the order of [`victims`];
//! 5. a draining pod goes when it is empty, or at its deadline, and never before.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use sluice_crds::pool::DrainPolicy;

/// How long a pod that is taken out of its Service keeps accepting, so that every proxy has heard of it.
pub const SETTLE: Duration = Duration::from_secs(5);

/// How long a pod that failed keeps its place, counted from when it was made, after so many that failed lately: a pod that always fails
/// is not made anew without end.
pub fn failed_for(lately: usize) -> Duration {
    Duration::from_secs(10 << lately.min(5)).min(Duration::from_secs(300))
}

/// What is wanted of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Pods that take new sessions, as it is written in the spec, by a person or an autoscaler: any number.
    pub replicas: u32,
    /// Never fewer, whatever is written: 0 without autoscaling.
    pub min: u32,
    /// Never more, whatever is written: 1000 without autoscaling.
    pub max: u32,
    /// What spare slots and schedules ask for: 0 when for nothing.
    pub floor: u32,
    /// No pod goes because there are too many.
    pub scale_in_paused: bool,
    /// How long a new pod may take until it accepts, before its rollout halts.
    pub progress_deadline: Duration,
    /// What they are made from.
    pub revision: String,
    /// Pods beyond `replicas` while pods are replaced.
    pub max_surge: u32,
    /// Pods below `replicas` while pods are replaced.
    pub max_unavailable: u32,
    /// No pod is replaced for now.
    pub rollout_paused: bool,
    /// How long a drain may take.
    pub deadline: Duration,
    /// What it waits for.
    pub policy: DrainPolicy,
    /// No pods are wanted, because the cluster is stopped.
    pub stopped: bool,
    /// Slots whose names are taken by pods that are not the pool's (those of a pool of this name before it, while they drain).
    pub taken: BTreeSet<u32>,
    /// How many pods of the pool failed lately.
    pub failed_lately: usize,
    /// Not every node was heard since the operator started: who has how many sessions is not known, and nobody is chosen to go.
    pub unheard: bool,
}

/// Why a pod is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// There are more pods than wanted.
    ScaleIn,
    /// It is of an older revision.
    Rollout,
    /// Its machine is to be emptied (a cordon, or a taint that says so).
    Machine,
    /// The cluster is stopped.
    Stopped,
    /// A person asked for it, by annotation.
    Requested,
}

impl Reason {
    /// As the annotation spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::ScaleIn => "ScaleIn",
            Reason::Rollout => "Rollout",
            Reason::Machine => "Machine",
            Reason::Stopped => "Stopped",
            Reason::Requested => "Requested",
        }
    }

    /// From the annotation; what it does not know is a scale-in.
    pub fn parse(text: &str) -> Reason {
        [Reason::Rollout, Reason::Machine, Reason::Stopped, Reason::Requested]
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .unwrap_or(Reason::ScaleIn)
    }
}

/// A drain that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Since when.
    pub since: Timestamp,
    /// When the pod goes whatever is left.
    pub deadline: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// What a node says of itself; only what is fresh.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Heard {
    /// It wants new sessions.
    pub accepting: bool,
    /// It is draining by our order.
    pub draining: Option<Ordered>,
    /// Publishers and streams whose publisher may return.
    pub publishers: u32,
    /// Viewers.
    pub viewers: u32,
}

/// The order that a node drains by.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ordered {
    /// The words of the order: see [`words`].
    pub words: String,
    /// How long it has, by its own clock, which no step of ours moves.
    pub left: Option<Duration>,
}

/// The words of the order to drain a pod; others are another order.
pub fn words(drain: &Drain) -> String {
    let until = drain.deadline.round(jiff::Unit::Second).unwrap_or(drain.deadline);
    format!("the operator drains it ({}) until {until}", drain.reason.as_str())
}

/// How a pod's machine is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Kubernetes has it no more, or an administrator says that it is off (`node.kubernetes.io/out-of-service`): the pod does not run.
    Gone,
    /// Neither Kubernetes nor the operator hears it: the pod may still run, and have sessions.
    Silent,
}

/// A pod as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its slot.
    pub slot: u32,
    /// What it was made from.
    pub revision: String,
    /// When it was made.
    pub created: Timestamp,
    /// It is being deleted.
    pub terminating: bool,
    /// It will not run again.
    pub failed: bool,
    /// Its node process has been up: it may have sessions.
    pub started: bool,
    /// Kubernetes counts it as ready.
    pub ready: bool,
    /// Its node's process ends again and again, or its image cannot be had.
    pub crashing: bool,
    /// The machine that it runs on.
    pub machine: Option<String>,
    /// That machine is to be emptied.
    pub leaving: bool,
    /// That machine is gone, or has not been heard for long.
    pub lost: Option<Lost>,
    /// The label by which new sessions find it.
    pub accepting: bool,
    /// The label that protects it from eviction.
    pub busy: bool,
    /// The label that says `draining`.
    pub marked: bool,
    /// The drain that its annotations tell of.
    pub drain: Option<Drain>,
    /// The drain that a person asks for; the time, when one is given.
    pub requested: Option<Option<Duration>>,
    /// What its node says; `None` when it has not been heard lately.
    pub heard: Option<Heard>,
}

/// One step. They are independent of each other, and done in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Mark the pod as draining and take it out of its Service.
    Drain {
        /// Which pod.
        pod: String,
        /// What is written on it.
        drain: Drain,
    },
    /// Take a drain back.
    Undrain {
        /// Which pod.
        pod: String,
    },
    /// Set labels to what is true.
    Label {
        /// Which pod.
        pod: String,
        /// Takes new sessions.
        accepting: bool,
        /// Is protected.
        busy: bool,
    },
    /// Tell the node to refuse new sessions and to end at the deadline.
    TellDrain {
        /// Which pod.
        pod: String,
        /// How long it has.
        left: Duration,
        /// What it is told, and says again in its reports.
        words: String,
        /// It drains by another order, which is taken back first: an order can only shorten the one before.
        anew: bool,
    },
    /// Tell the node to take sessions again.
    TellUndrain {
        /// Which pod.
        pod: String,
    },
    /// Delete the pod.
    Delete {
        /// Which pod.
        pod: String,
        /// Why.
        why: Why,
    },
    /// Make a pod.
    Create {
        /// In which slot.
        slot: u32,
    },
}

/// Why a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It failed for good.
    Failed,
    /// Its machine is gone.
    Lost,
    /// It never ran, and is not wanted.
    NeverStarted,
    /// It is empty.
    Empty,
    /// Its drain has ended with so many publishers and viewers left.
    Deadline {
        /// Publishers; `None` when the node is not heard.
        publishers: Option<u32>,
        /// Viewers.
        viewers: Option<u32>,
    },
}

/// The steps, and when to look again though nothing changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do now.
    pub steps: Vec<Step>,
    /// The rollout is halted, because new pods are not well.
    pub halted: bool,
    /// Look again after so long.
    pub again: Option<Duration>,
}

impl Wish {
    /// How many pods are to take new sessions: what is written, within limits and floors.
    pub fn target(&self) -> usize {
        let wanted = self.replicas.max(self.floor).clamp(self.min, self.max.max(self.min));
        if self.stopped { 0 } else { wanted as usize }
    }
}

impl Seen {
    fn available(&self) -> bool {
        self.ready && self.accepting
    }

    /// What is lost when it goes now: publishers weigh more than any number of viewers. A node that is not heard may have any.
    fn sessions(&self) -> (u32, u32) {
        match &self.heard {
            Some(heard) => (heard.publishers, heard.viewers),
            None if self.started => (u32::MAX, u32::MAX),
            None => (0, 0),
        }
    }
}

/// What to do with the pods of a pool now.
pub fn plan(wish: &Wish, pods: &[Seen], now: Timestamp) -> Plan {
    let mut out = Out { plan: Plan::default(), wish, now };
    let target = wish.target();

    let mut active: Vec<&Seen> = Vec::new();
    let mut draining: Vec<(&Seen, Drain)> = Vec::new();
    // Failed pods that are not replaced yet.
    let mut holding = 0;
    for pod in pods.iter().filter(|pod| !pod.terminating) {
        if pod.failed {
            holding += usize::from(!out.failed(pod));
        } else if let Some(drain) = pod.drain {
            draining.push((pod, drain));
        } else if let Some(time) = pod.requested {
            draining.push((pod, out.drain(pod, Reason::Requested, time.unwrap_or(wish.deadline))));
        } else {
            active.push(pod);
        }
    }

    // A drain that a person asks for no more is taken back; what a person asks for now counts for a drain that is under way.
    draining.retain(|(pod, drain)| {
        if drain.reason == Reason::Requested && pod.requested.is_none() {
            out.undrain(pod);
            active.push(pod);
            return false;
        }
        true
    });
    for (pod, drain) in &mut draining {
        if let (Some(asked), Some(before)) = (pod.requested, pod.drain) {
            drain.reason = Reason::Requested;
            drain.deadline = asked.map_or(before.deadline, |time| later(before.since, time));
            if *drain != before {
                out.plan.steps.push(Step::Drain { pod: pod.name.clone(), drain: *drain });
            }
        }
    }

    // Too few, or too few of the wanted revision: take back what is not empty yet, the fullest first.
    let current = active.iter().filter(|pod| pod.revision == wish.revision).count();
    let wanted = if wish.rollout_paused {
        target.saturating_sub(active.len())
    } else {
        target.saturating_sub(current)
    };
    if wanted > 0 {
        let mut back: Vec<(&Seen, Drain)> = draining
            .iter()
            .filter(|(pod, drain)| {
                pod.revision == wish.revision
                    && drain.reason != Reason::Requested
                    && pod.drain.is_some()
                    && !out.over(pod, drain)
            })
            .copied()
            .collect();
        back.sort_by_key(|(pod, _)| (Reverse(pod.sessions()), pod.slot));
        back.truncate(wanted);
        for (pod, _) in back {
            out.undrain(pod);
            active.push(pod);
            draining.retain(|(other, _)| other.name != pod.name);
        }
    }

    let (updated, outdated): (Vec<&Seen>, Vec<&Seen>) =
        active.iter().copied().partition(|pod| pod.revision == wish.revision || wish.rollout_paused);
    let available = active.iter().filter(|pod| pod.available()).count();
    let replacing = draining.iter().filter(|(_, drain)| drain.reason == Reason::Rollout).count();

    // New pods: what is missing, and while there are old ones, the surge.
    let mut create = target.saturating_sub(active.len() + holding);
    if !outdated.is_empty() {
        let room = (target + wish.max_surge as usize).saturating_sub(active.len() + replacing + holding);
        create = create.max(room.min(target.saturating_sub(updated.len())));
    }

    // Old or surplus pods: what never ran goes at once, the others are drained.
    let leave: Vec<(&Seen, Reason)> = if wish.unheard {
        Vec::new()
    } else if outdated.is_empty() || wish.stopped {
        let surplus = active.len().saturating_sub(target);
        let reason = if wish.stopped { Reason::Stopped } else { Reason::ScaleIn };
        victims(&active, &wish.revision).into_iter().take(surplus).map(|pod| (pod, reason)).collect()
    } else {
        let idle: Vec<&Seen> = outdated.iter().copied().filter(|pod| !pod.started).collect();
        let may_miss = available.saturating_sub(target.saturating_sub(wish.max_unavailable as usize));
        let surplus = active.len().saturating_sub(target);
        let at_once =
            (wish.max_surge as usize + wish.max_unavailable as usize).saturating_sub(replacing).max(surplus);
        let old: Vec<&Seen> = outdated.iter().copied().filter(|pod| pod.started).collect();
        // One that is not available costs nobody anything.
        let (broken, whole): (Vec<&Seen>, Vec<&Seen>) = old.into_iter().partition(|pod| !pod.available());
        let broken = broken.into_iter().take(at_once);
        let room = at_once.saturating_sub(broken.len());
        idle.into_iter()
            .chain(broken)
            .chain(victims(&whole, &wish.revision).into_iter().take(may_miss.min(room)))
            .map(|pod| (pod, Reason::Rollout))
            .collect()
    };
    for (pod, reason) in leave {
        if pod.started {
            let drain = out.drain(pod, reason, wish.deadline);
            draining.push((pod, drain));
        } else {
            out.delete(pod, Why::NeverStarted);
        }
        active.retain(|other| other.name != pod.name);
    }

    for pod in &active {
        out.keep(pod);
    }
    for (pod, drain) in &draining {
        out.wait_or_go(pod, drain);
    }

    let taken: BTreeSet<u32> = pods.iter().map(|pod| pod.slot).chain(wish.taken.iter().copied()).collect();
    for slot in (0..).filter(|slot| !taken.contains(slot)).take(create) {
        out.plan.steps.push(Step::Create { slot });
    }
    out.plan
}

/// Who goes first: not started; empty, and of those not available; of an older revision; with the fewest publishers, then viewers; the
/// youngest; the highest slot.
fn victims<'a>(pods: &[&'a Seen], revision: &str) -> Vec<&'a Seen> {
    let mut order = pods.to_vec();
    order.sort_by_key(|pod| {
        let empty = pod.sessions() == (0, 0);
        (
            pod.started,
            !empty,
            // One that was just taken back has sessions and is not available yet: that makes it no victim.
            empty && pod.available(),
            pod.revision == revision,
            pod.sessions(),
            Reverse(pod.created),
            Reverse(pod.slot),
        )
    });
    order
}

fn later(from: Timestamp, by: Duration) -> Timestamp {
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}

struct Out<'a> {
    plan: Plan,
    wish: &'a Wish,
    now: Timestamp,
}

impl Out<'_> {
    fn again(&mut self, after: Duration) {
        let after = after.max(Duration::from_millis(200));
        self.plan.again = Some(self.plan.again.map_or(after, |other| other.min(after)));
    }

    /// Whether it goes now.
    fn failed(&mut self, pod: &Seen) -> bool {
        let old = later(pod.created, failed_for(self.wish.failed_lately));
        if self.now >= old {
            self.delete(pod, Why::Failed);
            return true;
        }
        self.again(until(self.now, old));
        false
    }

    /// Whether the drain is at its end: by the node's own clock when that is known, so that a step of ours cuts nobody.
    fn over(&self, pod: &Seen, drain: &Drain) -> bool {
        let ordered = pod
            .heard
            .as_ref()
            .and_then(|heard| heard.draining.as_ref())
            .filter(|ordered| ordered.words == words(drain));
        match ordered.and_then(|ordered| ordered.left) {
            Some(left) => left < Duration::from_secs(1),
            None => self.now >= drain.deadline,
        }
    }

    fn delete(&mut self, pod: &Seen, why: Why) {
        self.plan.steps.push(Step::Delete { pod: pod.name.clone(), why });
    }

    fn drain(&mut self, pod: &Seen, reason: Reason, time: Duration) -> Drain {
        let time = if self.wish.policy == DrainPolicy::Immediate && reason != Reason::Requested {
            Duration::ZERO
        } else {
            time
        };
        let drain = Drain { since: self.now, deadline: later(self.now, time), reason };
        self.plan.steps.push(Step::Drain { pod: pod.name.clone(), drain });
        drain
    }

    fn undrain(&mut self, pod: &Seen) {
        self.plan.steps.push(Step::Undrain { pod: pod.name.clone() });
    }

    fn keep(&mut self, pod: &Seen) {
        match &pod.heard {
            Some(heard) => {
                if heard.draining.is_some() {
                    self.plan.steps.push(Step::TellUndrain { pod: pod.name.clone() });
                    self.again(Duration::from_secs(1));
                }
                let accepting = heard.accepting && pod.ready;
                let busy = accepting || heard.publishers > 0 || heard.viewers > 0 || !pod.ready;
                self.label(pod, accepting, busy);
            }
            // Whoever is not heard keeps what it has: Kubernetes takes it out of its Services when it is not ready.
            None => self.label(pod, pod.accepting, true),
        }
    }

    fn label(&mut self, pod: &Seen, accepting: bool, busy: bool) {
        if (pod.accepting, pod.busy) != (accepting, busy) {
            self.plan.steps.push(Step::Label { pod: pod.name.clone(), accepting, busy });
        }
    }

    fn wait_or_go(&mut self, pod: &Seen, drain: &Drain) {
        if !pod.started {
            self.delete(pod, Why::NeverStarted);
            return;
        }
        if self.over(pod, drain) {
            let why = match &pod.heard {
                Some(heard) if heard.publishers == 0 && heard.viewers == 0 => Why::Empty,
                heard => Why::Deadline {
                    publishers: heard.as_ref().map(|heard| heard.publishers),
                    viewers: heard.as_ref().map(|heard| heard.viewers),
                },
            };
            self.delete(pod, why);
            return;
        }
        self.again(until(self.now, drain.deadline).max(Duration::from_secs(1)));
        let settled = later(drain.since, SETTLE);
        if self.now < settled {
            self.again(until(self.now, settled));
            return;
        }
        let Some(heard) = &pod.heard else {
            // It may have sessions: it has until its deadline.
            self.label(pod, false, true);
            return;
        };
        let order = words(drain);
        if heard.draining.as_ref().is_none_or(|ordered| ordered.words != order) {
            let left = until(self.now, drain.deadline);
            let anew = heard.draining.is_some();
            self.plan.steps.push(Step::TellDrain { pod: pod.name.clone(), left, words: order, anew });
            self.again(Duration::from_secs(1));
            return;
        }
        let waits = match self.wish.policy {
            DrainPolicy::Wait => heard.publishers > 0 || heard.viewers > 0,
            DrainPolicy::WaitForPublishers | DrainPolicy::Immediate => heard.publishers > 0,
        };
        self.label(pod, false, waits);
        if !waits {
            self.delete(pod, Why::Empty);
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
