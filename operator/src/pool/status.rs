//! What a pool's status says: pure, from the spec, the pods and what their nodes say.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sluice_control::Report;
use sluice_crds::condition::{self, Decided, kind};
use sluice_crds::pool::{PodStatus, PoolStatus};

use super::autoscale::{Scaling, asked};
use super::explain::{Trouble, trouble};
use super::waiting::{self, counted};
use sluice_plan::{Lost, Seen, Wish};

/// Pods that a status lists.
const LISTED: usize = 100;

/// A pod with all that is known of it.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// As Kubernetes has it.
    pub pod: &'a Pod,
    /// As the planner sees it.
    pub seen: Seen,
    /// What its node said last, fresh or not.
    pub report: Option<&'a Report>,
    /// Why its node is not heard.
    pub failure: Option<String>,
    /// After this time it may be seen otherwise, though nothing changes.
    pub again: Option<std::time::Duration>,
}

/// Something that keeps the pool from being as its spec says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One word.
    pub reason: &'static str,
    /// A sentence that names the object or field, with the way out.
    pub message: String,
    /// It needs somebody to do something.
    pub stuck: bool,
}

/// What a status is made from.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// What is wanted; `None` when the spec is of no use or the cluster is not there.
    pub wish: Option<&'a Wish>,
    /// The version of the nodes that is wanted.
    pub version: Option<&'a str>,
    /// Selects the pods that are not draining.
    pub selector: String,
    /// The pods, in the order of their slots.
    pub pods: Vec<View<'a>>,
    /// What is in the way.
    pub problems: Vec<Problem>,
    /// What the exposure waits for; `None` when none is asked for.
    pub exposure: Option<Result<String, String>>,
    /// How it follows its load; `None` when the number of its pods is fixed.
    pub scaling: Option<Scaling<'a>>,
    /// The rollout is halted, because new pods are not well.
    pub halted: bool,
    /// The cluster is paused.
    pub paused: bool,
    /// The pod template's generation, and what of the spec it was decided for.
    pub template: Option<(i64, String)>,
}

/// The reason of `Progressing` when a rollout is halted.
pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// The reason of `Degraded` when a rollout is halted.
pub const ROLLOUT_HALTED: &str = "RolloutHalted";

/// The status, following the one before.
pub fn status(facts: &Facts<'_>, before: Option<&PoolStatus>, now: Timestamp) -> PoolStatus {
    let mut status = PoolStatus {
        observed_generation: facts.generation,
        conditions: before.map(|status| status.conditions.clone()).unwrap_or_default(),
        selector: Some(facts.selector.clone()),
        version: facts
            .version
            .map(str::to_owned)
            .or_else(|| before.and_then(|status| status.version.clone())),
        revision: facts
            .wish
            .map(|wish| wish.revision.clone())
            .or_else(|| before.and_then(|status| status.revision.clone())),
        template_generation: before.and_then(|status| status.template_generation),
        template_spec: before.and_then(|status| status.template_spec.clone()),
        ..PoolStatus::default()
    };
    if let Some((generation, spec)) = &facts.template {
        status.template_generation = Some(*generation);
        status.template_spec = Some(spec.clone());
    }
    // As long as it is not known what is wanted, it is what was.
    let earlier = before.map_or(0, |before| before.desired_replicas);
    let target = facts.wish.map_or(earlier, |wish| i32::try_from(wish.target()).unwrap_or(i32::MAX));

    let mut waits: Vec<(u8, String)> = Vec::new();
    let mut troubles: Vec<(String, Trouble)> = Vec::new();
    let mut drains: Vec<String> = Vec::new();
    // Pods of the newest revision that do not accept, in words.
    let mut unwell: Vec<String> = Vec::new();
    let mut active = 0;
    let mut outdated = 0;
    for view in &facts.pods {
        let seen = &view.seen;
        // What a lost one had is somewhere else by now, or nowhere.
        let report = view.report.filter(|_| seen.lost.is_none());
        let count = |pick: fn(&Report) -> u32| report.map_or(0, |report| i64::from(pick(report)));
        status.streams += count(|report| report.streams);
        status.publishers += count(|report| report.publishers);
        status.viewers += count(|report| report.viewers);
        if seen.terminating {
            continue;
        }
        if let (None, Some(lost)) = (seen.drain, lost(view)) {
            waits.push((3, format!("{}: {lost}", seen.name)));
            continue;
        }
        if seen.drain.is_some() {
            status.draining += 1;
            drains.push(format!("{}: {}", seen.name, draining(view)));
            continue;
        }
        if seen.failed {
            troubles.extend(trouble(view.pod).map(|trouble| (seen.name.clone(), trouble)));
            continue;
        }
        active += 1;
        let current = facts.wish.is_none_or(|wish| wish.revision == seen.revision);
        if current {
            status.updated_replicas += 1;
        } else {
            outdated += 1;
        }
        if seen.ready && seen.accepting {
            status.ready_replicas += 1;
        } else if let Some(trouble) = trouble(view.pod) {
            let wait = format!("{}: {}", seen.name, trouble.message);
            unwell.extend(current.then(|| wait.clone()));
            waits.push((u8::from(!trouble.stuck), wait));
            if trouble.stuck {
                troubles.push((seen.name.clone(), trouble));
            }
        } else {
            let why = view.failure.clone().unwrap_or_else(|| match view.report {
                Some(report) if report.draining.is_some() => {
                    "it is being drained over REST: undrain it there".into()
                }
                Some(report) if !report.problems.is_empty() => report.problems.join("; "),
                Some(_) => "the node does not accept sessions yet".into(),
                None => "its node has not answered the operator yet".into(),
            });
            let wait = format!("{}: {why}", seen.name);
            unwell.extend(current.then(|| wait.clone()));
            waits.push((2, wait));
        }
    }
    status.desired_replicas = target;
    // Within its tolerance an autoscaler writes this number to the spec: what comes on top of that (a floor, a surge) would stay.
    let asked = facts.wish.map_or(target, |wish| i32::try_from(asked(wish)).unwrap_or(i32::MAX));
    status.replicas = active.min(target).min(asked);
    status.metrics = facts.scaling.as_ref().and_then(Scaling::metrics);
    status.waiting_for = facts.wish.and_then(|wish| waiting::waiting_for(&facts.pods, wish.policy, now));
    waits.sort();
    status.pods = listed(&facts.pods);

    let transition = Time(now);
    let mut set =
        |decided: Decided| condition::set(&mut status.conditions, decided, facts.generation, &transition);
    let stopped = facts.wish.is_some_and(|wish| wish.stopped);
    let enough = facts.wish.is_some() && status.ready_replicas >= target;
    let first = facts.problems.first().map(|problem| problem.message.clone());
    let waiting = first.or_else(|| waits.first().map(|(_, wait)| wait.clone()));
    let missing = target - status.ready_replicas;

    set(Decided {
        kind: kind::READY,
        status: Some(enough),
        reason: match (enough, stopped, target) {
            (true, true, _) => "Stopped",
            (true, false, 0) => "ScaledToZero",
            (true, ..) => "AllAccepting",
            (false, ..) => facts.problems.first().map_or("PodsNotReady", |problem| problem.reason),
        },
        message: if enough {
            format!("{} of {target} pods take new sessions", status.ready_replicas)
        } else {
            let making = if facts.paused {
                "none is made while spec.paused of the MediaCluster is true"
            } else {
                "pods are being made"
            };
            let why = waiting.clone().unwrap_or_else(|| making.into());
            if facts.wish.is_none() { why } else { format!("{missing} of {target} pods are missing; {why}") }
        },
    });
    let surplus = active > target && !facts.wish.is_some_and(|wish| wish.scale_in_paused);
    let progressing = !facts.paused && facts.wish.is_some() && (!enough || outdated > 0 || surplus);
    let rollout_paused = facts.wish.is_some_and(|wish| wish.rollout_paused) && outdated > 0;
    set(Decided {
        kind: kind::PROGRESSING,
        status: Some(progressing && !(rollout_paused && enough) && !facts.halted),
        reason: match (progressing, outdated) {
            _ if facts.halted => PROGRESS_DEADLINE_EXCEEDED,
            (true, 1..) if rollout_paused => "RolloutPaused",
            (true, 1..) => "Rollout",
            (true, _) if surplus => "ScaleIn",
            (true, _) => "Starting",
            (false, _) => "Done",
        },
        message: match (progressing, outdated) {
            _ if facts.halted => halted(&unwell),
            (true, 1..) => format!("{outdated} of {active} pods are of an older revision"),
            (true, _) => waiting.clone().unwrap_or_else(|| "pods are being made or drained".into()),
            (false, _) => "the pods are as the spec says".into(),
        },
    });
    let stuck = facts.problems.iter().find(|problem| problem.stuck);
    let degraded = match (stuck, troubles.first()) {
        (Some(problem), _) => Some((problem.reason, problem.message.clone())),
        (None, _) if facts.halted => Some((ROLLOUT_HALTED, halted(&unwell))),
        (None, Some((pod, trouble))) => Some((trouble.reason, format!("{pod}: {}", trouble.message))),
        (None, None) => None,
    };
    set(decided_degraded(degraded.as_ref()));
    set(Decided {
        kind: kind::DRAINING,
        status: Some(status.draining > 0),
        reason: if status.draining > 0 { "Waiting" } else { "None" },
        message: if drains.is_empty() { "no pod is being drained".into() } else { drains.join("; ") },
    });
    set(Decided {
        kind: kind::PAUSED,
        status: Some(facts.paused),
        reason: if facts.paused { "ClusterPaused" } else { "Running" },
        message: if facts.paused {
            "the cluster is paused: nothing is changed until spec.paused of the MediaCluster is false".into()
        } else {
            "changes are applied".into()
        },
    });
    let (exposed, reason, message) = match &facts.exposure {
        None => (true, "NotAskedFor", "no exposure is asked for".to_owned()),
        Some(Ok(message)) => (true, "Exposed", message.clone()),
        Some(Err(message)) => (false, "Waiting", message.clone()),
    };
    set(Decided { kind: kind::EXPOSURE_READY, status: Some(exposed), reason, message });
    if let (Some(scaling), Some(wish)) = (&facts.scaling, facts.wish) {
        set(scaling.limited(wish));
        set(scaling.metrics_available());
    }
    if facts.wish.is_some() && facts.scaling.is_none() {
        let of_scaling = [kind::SCALING_LIMITED, kind::METRICS_AVAILABLE];
        status.conditions.retain(|condition| !of_scaling.contains(&condition.type_.as_str()));
    }

    let phase = if facts.paused {
        "Paused"
    } else if degraded.is_some() {
        "Degraded"
    } else if stopped && facts.pods.is_empty() {
        "Stopped"
    } else if progressing {
        if facts.pods.iter().any(|view| view.seen.started) { "Progressing" } else { "Pending" }
    } else if facts.wish.is_none() {
        "Pending"
    } else {
        "Ready"
    };
    status.phase = Some(phase.into());
    status.message = degraded
        .map(|(_, message)| message)
        .or_else(|| (!enough).then(|| waiting.unwrap_or_else(|| "pods are being made".into())))
        .or_else(|| (!drains.is_empty()).then(|| drains.join("; ")))
        .map(
            |message| {
                if message.chars().count() > 1000 { message.chars().take(1000).collect() } else { message }
            },
        );
    status
}

/// The condition Degraded, of pools and clusters: `None` when nothing is wrong.
pub(crate) fn decided_degraded(wrong: Option<&(&'static str, String)>) -> Decided {
    Decided {
        kind: kind::DEGRADED,
        status: Some(wrong.is_some()),
        reason: wrong.map_or("AsExpected", |(reason, _)| reason),
        message: wrong.map_or_else(|| "nothing is wrong".into(), |(_, message)| message.clone()),
    }
}

/// Why a rollout is halted, and what ends that.
fn halted(unwell: &[String]) -> String {
    let why = unwell.first().map_or("new pods do not accept sessions", String::as_str);
    format!("no further pod is replaced until the new ones are well or the spec changes; {why}")
}

/// What a draining pod waits for, and until when.
fn draining(view: &View<'_>) -> String {
    let Some(drain) = view.seen.drain else { return String::new() };
    let until = drain.deadline.round(jiff::Unit::Second).unwrap_or(drain.deadline);
    format!("{}, until {until} at the latest ({})", left(view), drain.reason.as_str())
}

/// What a pod waits for that somebody deletes, and until when.
fn terminating(view: &View<'_>) -> String {
    let Some(until) = ends(view) else { return left(view) };
    format!("it was deleted and ends by itself: {}, until {until} at the latest", left(view))
}

/// When a pod that is deleted is killed.
fn ends(view: &View<'_>) -> Option<Timestamp> {
    view.pod.metadata.deletion_timestamp.as_ref().map(|time| time.0)
}

/// Why a pod counts no more, when its machine is lost.
fn lost(view: &View<'_>) -> Option<String> {
    let machine = view.seen.machine.as_deref().unwrap_or_default();
    view.seen.lost.map(|lost| match lost {
        Lost::Gone => format!("its machine {machine} is gone: it is removed and replaced"),
        Lost::Silent => format!(
            "neither Kubernetes nor the operator hears its machine {machine}: it is replaced; when it is heard again, it counts again"
        ),
    })
}

/// Who is left on the pod's node.
fn left(view: &View<'_>) -> String {
    match (&view.seen.heard, &view.failure) {
        (Some(heard), _) => {
            format!(
                "{} and {} left",
                counted(heard.publishers, "publisher"),
                counted(heard.viewers, "viewer")
            )
        }
        (None, Some(failure)) => format!("its node is not heard ({failure})"),
        (None, None) => "its node has not answered yet".into(),
    }
}

/// The pods, those first that are not as they should be.
fn listed(pods: &[View<'_>]) -> Vec<PodStatus> {
    let mut all: Vec<(bool, PodStatus)> = pods
        .iter()
        .map(|view| {
            let status = pod(view);
            (status.state == "Ready", status)
        })
        .collect();
    all.sort_by_key(|(fine, _)| *fine);
    let mut listed: Vec<PodStatus> = all.into_iter().map(|(_, status)| status).take(LISTED).collect();
    listed.sort_by_key(|status| {
        pods.iter().find(|view| view.seen.name == status.name).map(|view| view.seen.slot)
    });
    listed
}

fn pod(view: &View<'_>) -> PodStatus {
    let seen = &view.seen;
    let wrong = trouble(view.pod);
    let (state, message) = if seen.terminating {
        ("Terminating", Some(terminating(view)))
    } else if let (None, Some(lost)) = (seen.drain, lost(view)) {
        ("Unreachable", Some(lost))
    } else if seen.drain.is_some() {
        ("Draining", Some(draining(view)))
    } else if seen.failed {
        ("Failed", wrong.map(|trouble| trouble.message))
    } else if let Some(trouble) = wrong {
        (if trouble.stuck { "Pending" } else { "Starting" }, Some(trouble.message))
    } else if let (Some(failure), None) = (&view.failure, &seen.heard) {
        ("Unreachable", Some(failure.clone()))
    } else if seen.ready && seen.accepting {
        ("Ready", view.report.map(|report| report.problems.join("; ")).filter(|text| !text.is_empty()))
    } else {
        ("Starting", Some("the node does not accept sessions yet".into()))
    };
    PodStatus {
        name: seen.name.clone(),
        state: state.into(),
        node: view.pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        revision: Some(seen.revision.clone()).filter(|revision| !revision.is_empty()),
        streams: view.report.map_or(0, |report| i64::from(report.streams)),
        viewers: view.report.map_or(0, |report| i64::from(report.viewers)),
        deadline: if seen.terminating { ends(view) } else { seen.drain.map(|drain| drain.deadline) }
            .map(|deadline| deadline.round(jiff::Unit::Second).unwrap_or(deadline).to_string()),
        message: message.map(|text| text.chars().take(1000).collect()),
    }
}

/// The status without what only counts sessions: a difference in the rest is told at once, counts at most every few seconds.
pub fn without_counts(status: &PoolStatus) -> PoolStatus {
    let mut shape = PoolStatus {
        streams: 0,
        publishers: 0,
        viewers: 0,
        metrics: None,
        waiting_for: None,
        ..status.clone()
    };
    let draining = shape.draining > 0;
    for condition in &mut shape.conditions {
        if [kind::DRAINING, kind::SCALING_LIMITED, kind::METRICS_AVAILABLE].contains(&&*condition.type_) {
            condition.message.clear();
        }
    }
    if draining && shape.phase.as_deref() != Some("Degraded") {
        shape.message = None;
    }
    for pod in &mut shape.pods {
        (pod.streams, pod.viewers) = (0, 0);
        if ["Draining", "Terminating", "Ready"].contains(&pod.state.as_str()) {
            pod.message = None;
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluice_crds::pool::DrainPolicy;
    use std::time::Duration;

    use super::super::observe::observe;
    use super::*;
    use crate::machines::Standing;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("a time")
    }

    fn wish(replicas: u32) -> Wish {
        Wish { replicas, revision: "r1".into(), deadline: Duration::from_secs(60), ..Wish::default() }
    }

    fn pod(slot: u32, ready: bool, more: serde_json::Value) -> Pod {
        let mut pod = json!({
            "metadata": { "name": format!("p-{slot}"), "annotations": {}, "labels": {
                "sluice.dev/accepting": ready.to_string(), "sluice.dev/busy": "true", "sluice.dev/revision": "r1"
            } },
            "status": {
                "phase": "Running", "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
                "containerStatuses": [{ "name": "node", "image": "i", "imageID": "", "ready": ready, "restartCount": 0, "started": true,
                    "state": { "running": {} } }]
            }
        });
        merge(&mut pod, more);
        serde_json::from_value(pod).expect("a pod")
    }

    fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
        match (into, from) {
            (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key).or_insert(serde_json::Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    fn view<'a>(pod: &'a Pod, report: Option<&'a Report>) -> View<'a> {
        View {
            pod,
            seen: observe("p", pod, report, Standing::default(), at(0)).expect("one of the pool"),
            report,
            failure: None,
            again: None,
        }
    }

    fn facts<'a>(wish: &'a Wish, pods: Vec<View<'a>>) -> Facts<'a> {
        Facts {
            generation: Some(3),
            wish: Some(wish),
            version: Some("1"),
            selector: "a=b".into(),
            pods,
            problems: Vec::new(),
            exposure: None,
            scaling: None,
            halted: false,
            paused: false,
            template: None,
        }
    }

    fn says<'a>(status: &'a PoolStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
        let condition =
            status.conditions.iter().find(|condition| condition.type_ == kind).expect("it is there");
        (&condition.status, &condition.reason, &condition.message)
    }

    #[test]
    fn all_is_well() {
        let report = Report { accepting: true, streams: 2, viewers: 5, ..Report::default() };
        let (wish, pod) = (wish(1), pod(0, true, json!({})));
        let status = status(&facts(&wish, vec![view(&pod, Some(&report))]), None, at(0));
        assert_eq!(status.phase.as_deref(), Some("Ready"));
        assert_eq!((status.replicas, status.ready_replicas, status.streams, status.viewers), (1, 1, 2, 5));
        assert_eq!(says(&status, "Ready"), ("True", "AllAccepting", "1 of 1 pods take new sessions"));
        assert_eq!(says(&status, "Degraded").0, "False");
        assert_eq!(status.message, None);
        // The same again: nothing differs, not even a time.
        assert_eq!(
            super::status(&facts(&wish, vec![view(&pod, Some(&report))]), Some(&status), at(99)),
            status
        );
    }

    #[test]
    fn it_names_the_pod_and_the_reason() {
        let stuck = pod(
            1,
            false,
            json!({ "status": { "phase": "Pending", "containerStatuses": [], "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu." }] } }),
        );
        let report = Report { accepting: true, ..Report::default() };
        let (wish, fine) = (wish(2), pod(0, true, json!({})));
        let status = status(&facts(&wish, vec![view(&fine, Some(&report)), view(&stuck, None)]), None, at(0));
        assert_eq!(status.phase.as_deref(), Some("Degraded"));
        for kind in ["Ready", "Degraded"] {
            let (_, _, message) = says(&status, kind);
            assert!(message.contains("p-1") && message.contains("Insufficient nvidia.com/gpu"), "{message}");
        }
        assert_eq!(says(&status, "Degraded").1, "Unschedulable");
        assert_eq!(
            status.pods.iter().map(|pod| pod.state.as_str()).collect::<Vec<_>>(),
            ["Ready", "Pending"]
        );
    }

    #[test]
    fn a_drain_says_what_is_left_and_until_when_and_counts_alone_are_told_apart() {
        let draining = pod(
            1,
            false,
            json!({ "metadata": { "annotations": {
            "sluice.dev/draining-since": at(0).to_string(), "sluice.dev/drain-deadline": at(60).to_string(), "sluice.dev/drain-reason": "ScaleIn"
        } }, "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }),
        );
        let fine = pod(0, true, json!({}));
        let (one, two) = (
            Report { accepting: true, ..Report::default() },
            Report { publishers: 1, viewers: 4, ..Report::default() },
        );
        let wish = wish(1);
        let before =
            status(&facts(&wish, vec![view(&fine, Some(&one)), view(&draining, Some(&two))]), None, at(10));
        assert_eq!((before.draining, before.replicas, before.viewers), (1, 1, 4));
        assert_eq!(before.phase.as_deref(), Some("Ready"));
        let (state, _, message) = says(&before, "Draining");
        assert_eq!(
            (state, message),
            (
                "True",
                "p-1: 1 publisher and 4 viewers left, until 2023-11-14T22:14:20Z at the latest (ScaleIn)"
            )
        );
        let three = Report { viewers: 3, ..two.clone() };
        let after = status(
            &facts(&wish, vec![view(&fine, Some(&one)), view(&draining, Some(&three))]),
            Some(&before),
            at(11),
        );
        assert_ne!(before, after);
        assert_eq!(without_counts(&before), without_counts(&after));
    }

    #[test]
    fn a_pod_that_somebody_deletes_says_what_it_waits_for() {
        let report = Report { publishers: 1, ..Report::default() };
        let deleted = pod(0, true, json!({ "metadata": { "deletionTimestamp": at(90).to_string() } }));
        let wish = wish(1);
        let status = status(&facts(&wish, vec![view(&deleted, Some(&report))]), None, at(0));
        let pod = &status.pods[0];
        assert_eq!(pod.state, "Terminating");
        assert_eq!(pod.deadline.as_deref(), Some("2023-11-14T22:14:50Z"));
        let message = "it was deleted and ends by itself: 1 publisher and 0 viewers left, until 2023-11-14T22:14:50Z at the latest";
        assert_eq!(pod.message.as_deref(), Some(message));
        assert_eq!((status.replicas, status.ready_replicas), (0, 0));
    }

    #[test]
    fn a_pod_on_a_lost_machine_counts_no_more() {
        let report = Report { accepting: true, streams: 3, ..Report::default() };
        let (wish, there) =
            (wish(1), pod(0, true, json!({ "spec": { "nodeName": "m1", "containers": [] } })));
        let mut lost = view(&there, Some(&report));
        for (how, says_) in [
            (Lost::Silent, "neither Kubernetes nor the operator hears its machine m1"),
            (Lost::Gone, "its machine m1 is gone"),
        ] {
            lost.seen.lost = Some(how);
            let status = status(&facts(&wish, vec![lost.clone()]), None, at(0));
            assert_eq!((status.replicas, status.ready_replicas, status.streams), (0, 0, 0));
            let (ready, _, message) = says(&status, "Ready");
            assert!(ready == "False" && message.contains("p-0") && message.contains(says_), "{message}");
            assert_eq!(status.pods[0].state, "Unreachable");
        }
    }

    #[test]
    fn surge_is_never_counted_as_replicas() {
        let pods = [pod(0, true, json!({})), pod(1, true, json!({}))];
        let report = Report { accepting: true, ..Report::default() };
        let wish = wish(1);
        let status =
            status(&facts(&wish, pods.iter().map(|pod| view(pod, Some(&report))).collect()), None, at(0));
        assert_eq!((status.replicas, status.ready_replicas), (1, 2));
    }

    #[test]
    fn a_floor_is_never_counted_as_replicas() {
        let pods = [pod(0, true, json!({})), pod(1, true, json!({})), pod(2, true, json!({}))];
        let report = Report { accepting: true, ..Report::default() };
        let views = || pods.iter().map(|pod| view(pod, Some(&report))).collect::<Vec<_>>();
        // Two by the autoscaler, three by a schedule: an autoscaler that found three within its tolerance would write three.
        let floored = Wish { min: 1, max: 9, floor: 3, ..wish(2) };
        let told = status(&facts(&floored, views()), None, at(0));
        assert_eq!((told.desired_replicas, told.replicas, told.ready_replicas), (3, 2, 3));
        // What is written is kept within the limits.
        let over = Wish { min: 1, max: 3, ..wish(900) };
        let told = status(&facts(&over, views()), None, at(0));
        assert_eq!((told.desired_replicas, told.replicas), (3, 3));
        let under = Wish { min: 3, max: 9, ..wish(0) };
        let told = status(&facts(&under, views()), None, at(0));
        assert_eq!((told.desired_replicas, told.replicas), (3, 3));
    }

    #[test]
    fn a_paused_scale_in_is_no_progress() {
        let pods = [pod(0, true, json!({})), pod(1, true, json!({}))];
        let report = Report { accepting: true, ..Report::default() };
        let views = || pods.iter().map(|pod| view(pod, Some(&report))).collect::<Vec<_>>();
        let going = status(&facts(&wish(1), views()), None, at(0));
        assert_eq!(says(&going, "Progressing").1, "ScaleIn");
        let paused = Wish { scale_in_paused: true, ..wish(1) };
        let kept = status(&facts(&paused, views()), None, at(0));
        assert_eq!((says(&kept, "Progressing").0, kept.phase.as_deref()), ("False", Some("Ready")));
    }

    #[test]
    fn a_halted_rollout_says_which_pod_is_not_well() {
        let old = pod(0, true, json!({ "metadata": { "labels": { "sluice.dev/revision": "r0" } } }));
        let new = pod(1, false, json!({}));
        let report = Report { accepting: true, ..Report::default() };
        let wish = wish(1);
        let mut facts = facts(&wish, vec![view(&old, Some(&report)), view(&new, None)]);
        facts.halted = true;
        let status = status(&facts, None, at(0));
        let (state, reason, message) = says(&status, "Progressing");
        assert_eq!((state, reason), ("False", "ProgressDeadlineExceeded"));
        assert!(message.contains("p-1"), "{message}");
        assert_eq!(says(&status, "Degraded").1, "RolloutHalted");
        assert_eq!(status.phase.as_deref(), Some("Degraded"));
        facts.halted = false;
        let after = super::status(&facts, Some(&status), at(1));
        assert_eq!(says(&after, "Progressing").1, "Rollout");
        let notes = |before, after: &PoolStatus| -> Vec<&'static str> {
            super::super::news::news(before, after).iter().map(|note| note.reason).collect()
        };
        assert_eq!(notes(Some(&after), &status), ["RolloutHalted"]);
        assert_eq!(notes(Some(&status), &after), ["RolloutResumed", "Recovered"]);
    }

    #[test]
    fn what_drains_wait_for_is_told_in_short() {
        let draining = |slot: u32, until: i64| {
            pod(
                slot,
                true,
                json!({ "metadata": { "annotations": {
                "sluice.dev/draining-since": at(0).to_string(), "sluice.dev/drain-deadline": at(until).to_string()
            } } }),
            )
        };
        let pods = [draining(0, 60), draining(1, 60), draining(2, 60 + 48 * 3600), draining(3, 60)];
        let reports = [
            Report { viewers: 14, ..Report::default() },
            Report { publishers: 1, ..Report::default() },
            Report { publishers: 2, viewers: 1, ..Report::default() },
            Report::default(),
        ];
        let told = |which: &[usize], policy| {
            let wish = Wish { policy, ..wish(1) };
            let views = which
                .iter()
                .filter_map(|at| Some(view(pods.get(*at)?, reports.get(*at))))
                .collect::<Vec<_>>();
            status(&facts(&wish, views), None, at(1)).waiting_for
        };
        let wait = DrainPolicy::Wait;
        assert_eq!(told(&[3], wait), None);
        assert_eq!(told(&[0], wait).as_deref(), Some("p-0: 14 viewers until 22:14:20Z"));
        assert_eq!(told(&[0], DrainPolicy::WaitForPublishers), None);
        assert_eq!(told(&[0, 1, 3], wait).as_deref(), Some("p-1: 1 publisher until 22:14:20Z and 1 more"));
        assert_eq!(
            told(&[2], wait).as_deref(),
            Some("p-2: 2 publishers and 1 viewer until 2023-11-16T22:14:20Z")
        );
        let unheard = status(&facts(&wish(1), vec![view(&pods[0], None)]), None, at(1)).waiting_for;
        assert_eq!(unheard.as_deref(), Some("p-0: a node that is not heard until 22:14:20Z"));
    }

    #[test]
    fn a_pool_without_its_cluster_says_so() {
        let mut facts = facts(&WISH, Vec::new());
        static WISH: std::sync::LazyLock<Wish> = std::sync::LazyLock::new(|| wish(1));
        facts.wish = None;
        facts.problems.push(Problem {
            reason: "ClusterMissing",
            message: "spec.clusterRef.name: there is no MediaCluster \"x\"".into(),
            stuck: false,
        });
        let status = status(&facts, None, at(0));
        assert_eq!(status.phase.as_deref(), Some("Pending"));
        let before = PoolStatus { desired_replicas: 4, ..PoolStatus::default() };
        let kept = super::status(&facts, Some(&before), at(0));
        assert_eq!((kept.desired_replicas, kept.phase), (4, status.phase.clone()));
        assert_eq!(
            says(&status, "Ready"),
            ("False", "ClusterMissing", "spec.clusterRef.name: there is no MediaCluster \"x\"")
        );
    }
}
