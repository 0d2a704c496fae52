//! What to do with the pods of a pool: pure, from what is wanted, what is seen, and the time.
//!
//! The rules, in the order in which they are applied:
//! 1. what has failed, or is gone with its machine, goes; what a person wants drained is drained;
//! 2. too few: draining pods are taken back first, the fullest first;
//! 3. on a machine that is to be emptied: drained as soon as enough others take sessions, and replaced before;
//! 4. of another revision: new ones first (`maxSurge`), then as many old ones are drained as availability allows; when the new ones are
//!    not well, no more;
//! 5. too many: pods are drained in the order of [`victims`](crate::victims), as far as enough others take sessions;
//! 6. a draining pod goes when it is empty, or at its deadline, and never before;
//! 7. still too few: pods are made in the lowest free slots.
//!
//! A pod whose machine is silent counts for nothing until it is heard again: it is replaced, and left alone.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use sluice_crds::pool::DrainPolicy;

use crate::leave::leave;
use crate::out::Out;
use crate::rollout::Rollout;
use crate::sides::Sides;

/// How long a pod that no Service lists any more for new sessions keeps accepting, so that every proxy has heard of it.
pub const SETTLE: Duration = Duration::from_secs(5);

/// After so long in its drain a pod is told to refuse though a Service lists it still: who keeps the lists may be away.
pub const LISTED: Duration = Duration::from_secs(60);

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
    /// How long a new pod may take until it accepts, or accepts again, before its rollout halts.
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
    /// How many of those were of the wanted revision.
    pub failed_updated: usize,
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
    /// It drains by somebody else's order: a person's over REST, or a signal.
    pub by_others: bool,
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
    /// When that changed last; when it was made, before that.
    pub turned: Timestamp,
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
    /// While it is drained: since when no Service lists it for new sessions; `None` when one does.
    pub unlisted: Option<Timestamp>,
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

/// One pod of a pool that leaves everything as it is by default.
impl Default for Wish {
    fn default() -> Wish {
        Wish {
            replicas: 1,
            min: 0,
            max: 1000,
            floor: 0,
            scale_in_paused: false,
            progress_deadline: Duration::from_secs(600),
            revision: String::new(),
            max_surge: 1,
            max_unavailable: 0,
            rollout_paused: false,
            deadline: Duration::from_secs(3600),
            policy: DrainPolicy::default(),
            stopped: false,
            taken: BTreeSet::new(),
            failed_lately: 0,
            failed_updated: 0,
            unheard: false,
        }
    }
}

impl Wish {
    /// How many pods are to take new sessions: what is written, within limits and floors.
    pub fn target(&self) -> usize {
        let wanted = self.replicas.max(self.floor).clamp(self.min, self.max.max(self.min));
        if self.stopped { 0 } else { wanted as usize }
    }

    /// How many must take new sessions while pods are replaced.
    pub(crate) fn least(&self) -> usize {
        self.target().saturating_sub(self.max_unavailable as usize)
    }
}

impl Seen {
    /// What its node says, unless that is from before its machine fell silent.
    pub(crate) fn told(&self) -> Option<&Heard> {
        self.heard.as_ref().filter(|_| self.lost.is_none())
    }

    /// Whether it takes new sessions, once its label is what its node says.
    pub(crate) fn accepts(&self) -> bool {
        self.ready && self.told().map_or(self.accepting, |heard| heard.accepting)
    }

    /// Whether its node has yet to hear that it is to take sessions again.
    pub(crate) fn returning(&self) -> bool {
        self.ready && self.told().is_some_and(|heard| heard.draining.is_some())
    }

    /// Whether its node takes no sessions though nothing is wrong and we did not ask for it: a person drains it over REST.
    pub(crate) fn closed(&self) -> bool {
        self.ready && self.told().is_some_and(|heard| !heard.accepting && heard.draining.is_none())
    }

    /// What is lost when it goes now: publishers weigh more than any number of viewers. A node that is not heard may have any.
    pub(crate) fn sessions(&self) -> (u32, u32) {
        match self.told() {
            Some(heard) => (heard.publishers, heard.viewers),
            None if self.started => (u32::MAX, u32::MAX),
            None => (0, 0),
        }
    }
}

/// What to do with the pods of a pool now.
pub fn plan(wish: &Wish, pods: &[Seen], now: Timestamp) -> Plan {
    let mut out = Out::new(wish, now);
    let mut sides = Sides::of(pods, &mut out);
    let rollout = Rollout::of(&sides, &mut out);
    sides.take_back(rollout, &out);
    sides.draining.retain(|(pod, drain)| out.waits(pod, drain));

    let before = sides.staying();
    let go = if wish.unheard { Vec::new() } else { leave(wish, rollout, &sides, pods) };
    sides.active.retain(|pod| go.iter().all(|(other, _)| other.name != pod.name));
    sides.silent.retain(|pod| go.iter().all(|(other, _)| other.name != pod.name));
    // Who takes sessions is labelled before others are drained.
    for pod in &sides.active {
        out.keep(pod);
    }
    for pod in &sides.silent {
        out.leave_alone(pod);
    }
    for (pod, reason) in go {
        if pod.started {
            let drain = out.drain(pod, reason, wish.deadline);
            if out.waits(pod, &drain) {
                sides.draining.push((pod, drain));
            }
        } else {
            out.delete(pod, Why::NeverStarted);
        }
    }

    let taken: BTreeSet<u32> = pods.iter().map(|pod| pod.slot).chain(wish.taken.iter().copied()).collect();
    let missing = rollout.missing(wish, &sides, before);
    for slot in (0..).filter(|slot| !taken.contains(slot)).take(missing) {
        out.plan.steps.push(Step::Create { slot });
    }
    let old = sides.active.iter().any(|pod| pod.revision != wish.revision);
    out.plan.halted = rollout == Rollout::Halted && old;
    out.plan
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
