//! From a pod as Kubernetes has it, and what its node says, to what the planner needs.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use sluice_control::{DrainOrder, Report};
use sluice_crds::names;

use super::explain;
use crate::machines::Standing;
use sluice_plan::{Drain, Heard, Ordered, Reason, Seen};

/// The pod as seen; `None` when it is none of the pool's (its name has no slot).
///
/// `report` is what the node said last, when that is fresh; `standing` is how its machine stands.
pub fn observe(
    pool: &str,
    pod: &Pod,
    report: Option<&Report>,
    standing: Standing,
    now: Timestamp,
) -> Option<Seen> {
    // Who is lost is not heard, however fresh the last word is.
    let report = report.filter(|_| standing.lost.is_none());
    let name = pod.name_any();
    let slot = names::slot(pool, &name)?;
    let created = pod.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let label = |key: &str| pod.labels().get(key).map(String::as_str);
    Some(Seen {
        slot,
        revision: label(names::REVISION).unwrap_or_default().to_owned(),
        created,
        terminating: pod.metadata.deletion_timestamp.is_some(),
        failed: matches!(phase(pod), "Failed" | "Succeeded"),
        // A kubelet that was restarted says for a moment that nothing has started; who answers has.
        started: report.is_some() || started(pod),
        ready: condition(pod, "Ready").is_some_and(|(status, ..)| status == "True"),
        turned: turned(pod).unwrap_or(created),
        crashing: explain::crashing_until(pod).is_some_and(|until| now < until),
        machine: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        leaving: standing.leaving,
        lost: standing.lost,
        accepting: label(names::ACCEPTING) == Some("true"),
        busy: label(names::BUSY) == Some("true"),
        marked: label(names::STATE) == Some("draining"),
        drain: drain(pod),
        unlisted: None,
        requested: requested(pod),
        heard: report.map(heard),
        name,
    })
}

fn heard(report: &Report) -> Heard {
    Heard {
        accepting: report.accepting,
        draining: report.draining.as_ref().filter(|draining| draining.by == DrainOrder::Operator).map(
            |draining| Ordered {
                words: draining.reason.clone(),
                left: draining.deadline_s.map(Duration::from_secs),
            },
        ),
        publishers: report.published(),
        viewers: report.viewers,
        by_others: report.draining.as_ref().is_some_and(|draining| draining.by != DrainOrder::Operator),
    }
}

/// The pod's phase.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// A condition of the pod: its status, reason and message.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == kind)?;
    let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
    Some((&condition.status, text(&condition.reason), text(&condition.message)))
}

/// When the pod became ready last, or ceased to be.
fn turned(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// The status of the node's container.
pub fn node_container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == names::CONTAINER)
}

/// Whether the node's process has been up in this life of its container: before, it has no sessions.
pub fn started(pod: &Pod) -> bool {
    node_container(pod).is_some_and(|status| {
        status.started == Some(true)
            || status.ready
            || condition(pod, "Ready").is_some_and(|(status, ..)| status == "True")
    })
}

/// Whether this life of the node's process has said something, so long ago as that may be: a kubelet that was restarted says for a moment that
/// nothing has started.
pub fn has_spoken(pod: &Pod, said: Timestamp) -> bool {
    let state = node_container(pod).and_then(|status| status.state.as_ref());
    let begun = state.and_then(|state| state.running.as_ref()?.started_at.as_ref());
    begun.is_some_and(|begun| begun.0 <= said)
}

/// Whether the node runs and has neither answered the operator nor failed to: so it is for a moment after the operator's start.
pub fn is_unheard(pod: &Pod, heard: Option<&crate::nodes::Seen>) -> bool {
    let silent = heard.is_none_or(|heard| heard.report.is_none() && heard.failure.is_none());
    silent && started(pod) && pod.metadata.deletion_timestamp.is_none()
}

fn drain(pod: &Pod) -> Option<Drain> {
    let annotation = |key: &str| pod.annotations().get(key);
    let since: Timestamp = annotation(names::DRAINING_SINCE)?.parse().ok()?;
    // Without a readable one it has the longest that a spec may give.
    let longest = since.checked_add(Duration::from_secs(48 * 3600)).unwrap_or(Timestamp::MAX);
    let deadline = annotation(names::DRAIN_DEADLINE).and_then(|text| text.parse().ok()).unwrap_or(longest);
    let reason = annotation(names::DRAIN_REASON).map_or(Reason::ScaleIn, |text| Reason::parse(text));
    Some(Drain { since, deadline, reason })
}

/// The annotation by which a person asks for a drain: `30m`, or anything else for the pool's own time.
pub fn requested(pod: &Pod) -> Option<Option<Duration>> {
    let text = pod.annotations().get(names::DRAIN)?;
    let time = text.trim().parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    Some(time.filter(|time| *time <= Duration::from_secs(48 * 3600)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluice_plan::Lost;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).expect("a pod")
    }

    fn at_rest(pool: &str, pod: &Pod, report: Option<&Report>) -> Option<Seen> {
        observe(pool, pod, report, Standing::default(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_running_pod_is_seen_as_it_is() {
        let pod = pod(json!({
            "metadata": {
                "name": "edge-3", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": { "sluice.dev/accepting": "true", "sluice.dev/busy": "true", "sluice.dev/revision": "abc", "sluice.dev/state": "active" }
            },
            "status": {
                "phase": "Running",
                "conditions": [{ "type": "Ready", "status": "True" }],
                "containerStatuses": [{ "name": "node", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "started": true }]
            }
        }));
        let report = Report { accepting: true, publishers: 1, owned: 2, viewers: 7, ..Report::default() };
        let seen = at_rest("edge", &pod, Some(&report)).expect("one of the pool");
        assert_eq!((seen.slot, seen.revision.as_str()), (3, "abc"));
        assert!(
            seen.ready
                && seen.started
                && seen.accepting
                && seen.busy
                && !seen.marked
                && !seen.terminating
                && !seen.failed
        );
        let said = Heard { accepting: true, publishers: 2, viewers: 7, ..Heard::default() };
        assert_eq!(seen.heard, Some(said));
        assert_eq!(at_rest("other", &pod, None), None);
    }

    #[test]
    fn since_when_it_is_ready_or_not_is_seen() {
        let made = json!({ "name": "edge-0", "creationTimestamp": "2026-01-01T00:00:00Z" });
        let new = pod(json!({ "metadata": made }));
        let missed = pod(json!({ "metadata": made, "status": { "conditions": [
            { "type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T05:00:00Z" }
        ] } }));
        let turned = |pod: &Pod| at_rest("edge", pod, None).expect("one of the pool").turned.to_string();
        assert_eq!(turned(&new), "2026-01-01T00:00:00Z");
        assert_eq!(turned(&missed), "2026-01-01T05:00:00Z");
    }

    #[test]
    fn whose_order_a_node_drains_by_is_seen() {
        for (by, others) in
            [(DrainOrder::Operator, false), (DrainOrder::Rest, true), (DrainOrder::Signal, true)]
        {
            let draining = Some(sluice_control::Draining { by, ..Default::default() });
            let heard = heard(&Report { draining, ..Report::default() });
            assert_eq!((heard.by_others, heard.draining.is_some()), (others, !others), "{by:?}");
        }
    }

    #[test]
    fn a_crashed_node_has_no_sessions() {
        let pod = pod(json!({
            "metadata": { "name": "edge-0" },
            "status": {
                "phase": "Running", "conditions": [{ "type": "Ready", "status": "False" }],
                "containerStatuses": [{ "name": "node", "image": "i", "imageID": "", "ready": false, "restartCount": 4, "started": false }]
            }
        }));
        assert!(!at_rest("edge", &pod, None).expect("one of the pool").started);
    }

    #[test]
    fn a_process_that_has_spoken_has_started_whatever_a_new_kubelet_says() {
        let of = |state: serde_json::Value| {
            pod(json!({
                "metadata": { "name": "edge-0" },
                "status": { "containerStatuses": [{ "name": "node", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                    "started": false, "state": state }] }
            }))
        };
        let said: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let running = |since: &str| of(json!({ "running": { "startedAt": since } }));
        assert!(
            has_spoken(&running("2026-01-01T00:00:00Z"), said) && !started(&running("2026-01-01T00:00:00Z"))
        );
        assert!(!has_spoken(&running("2026-01-01T00:01:01Z"), said), "that was the process before");
        assert!(!has_spoken(&of(json!({ "waiting": { "reason": "CrashLoopBackOff" } })), said));
    }

    #[test]
    fn a_lost_pod_is_not_heard() {
        let pod = pod(json!({
            "metadata": { "name": "edge-0" }, "spec": { "nodeName": "m1", "containers": [] },
            "status": { "containerStatuses": [{ "name": "node", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "started": true }] }
        }));
        let report = Report { accepting: true, ..Report::default() };
        let standing = Standing { leaving: false, lost: Some(Lost::Silent), again: None };
        let seen =
            observe("edge", &pod, Some(&report), standing, Timestamp::UNIX_EPOCH).expect("one of the pool");
        assert_eq!((seen.machine.as_deref(), seen.lost, seen.heard), (Some("m1"), Some(Lost::Silent), None));
        assert!(seen.started && !seen.leaving);
        let leaving = Standing { leaving: true, ..Standing::default() };
        let seen =
            observe("edge", &pod, Some(&report), leaving, Timestamp::UNIX_EPOCH).expect("one of the pool");
        assert!(seen.leaving && seen.lost.is_none() && seen.heard.is_some());
    }

    #[test]
    fn drains_are_read_from_annotations() {
        let with = |annotations: serde_json::Value| {
            at_rest("e", &pod(json!({ "metadata": { "name": "e-0", "annotations": annotations } })), None)
                .expect("one of the pool")
        };
        let marked = with(json!({
            "sluice.dev/draining-since": "2026-01-01T00:00:00Z", "sluice.dev/drain-deadline": "2026-01-01T01:00:00Z",
            "sluice.dev/drain-reason": "Rollout"
        }));
        assert_eq!(marked.drain.map(|drain| drain.reason), Some(Reason::Rollout));
        assert_eq!(
            with(json!({ "sluice.dev/drain": "30m" })).requested,
            Some(Some(Duration::from_secs(1800)))
        );
        for odd in ["", "true", "-3h", "9999999h", "soon"] {
            assert_eq!(with(json!({ "sluice.dev/drain": odd })).requested, Some(None), "{odd}");
        }
        assert_eq!(with(json!({ "sluice.dev/draining-since": "yesterday" })).drain, None);
    }
}
