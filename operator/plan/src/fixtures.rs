//! Pods and wishes for tests.

use std::time::Duration;

use jiff::Timestamp;

use crate::plan::{Drain, Heard, Ordered, Plan, Reason, Seen, Step, Wish, words};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

pub(crate) fn wish(replicas: u32) -> Wish {
    Wish { replicas, revision: "new".into(), deadline: Duration::from_secs(600), ..Wish::default() }
}

pub(crate) fn pod(slot: u32, publishers: u32, viewers: u32) -> Seen {
    Seen {
        name: format!("p-{slot}"),
        slot,
        revision: "new".into(),
        created: at(-100),
        terminating: false,
        failed: false,
        started: true,
        ready: true,
        turned: at(-100),
        crashing: false,
        machine: None,
        leaving: false,
        lost: None,
        accepting: true,
        busy: true,
        marked: false,
        drain: None,
        unlisted: None,
        requested: None,
        heard: Some(Heard { accepting: true, draining: None, publishers, viewers, by_others: false }),
    }
}

pub(crate) fn draining(mut pod: Seen, since: i64, reason: Reason) -> Seen {
    pod.drain = Some(Drain { since: at(since), deadline: at(since + 600), reason });
    pod.unlisted = Some(at(since));
    pod.accepting = false;
    pod.marked = true;
    if let (Some(heard), Some(drain)) = (&mut pod.heard, &pod.drain) {
        heard.accepting = false;
        heard.draining = (since <= -5).then(|| Ordered { words: words(drain), left: None });
    }
    pod
}

pub(crate) fn names(plan: &Plan, pick: impl Fn(&Step) -> Option<&String>) -> Vec<&str> {
    plan.steps.iter().filter_map(|step| pick(step).map(String::as_str)).collect()
}

pub(crate) fn drained(plan: &Plan) -> Vec<&str> {
    names(plan, |step| if let Step::Drain { pod, .. } = step { Some(pod) } else { None })
}

pub(crate) fn deleted(plan: &Plan) -> Vec<&str> {
    names(plan, |step| if let Step::Delete { pod, .. } = step { Some(pod) } else { None })
}

pub(crate) fn created(plan: &Plan) -> Vec<u32> {
    plan.steps
        .iter()
        .filter_map(|step| if let Step::Create { slot } = step { Some(*slot) } else { None })
        .collect()
}

pub(crate) fn undrained(plan: &Plan) -> Vec<&str> {
    names(plan, |step| if let Step::Undrain { pod } = step { Some(pod) } else { None })
}
