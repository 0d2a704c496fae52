//! Why a pod is not ready, in words: what Kubernetes knows of it, put into one sentence.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::observe::{condition, node_container, phase};

/// What keeps the pod, or `None` when it runs and is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One word for conditions: `Unschedulable`, `ImagePull`, `Crashing`, `Starting`, `NotReady`, `Failed`, `ConfigMissing`.
    pub reason: &'static str,
    /// A sentence, without the pod's name.
    pub message: String,
    /// It does not go away by waiting.
    pub stuck: bool,
}

/// What keeps the pod from being ready.
pub fn trouble(pod: &Pod) -> Option<Trouble> {
    let of = |reason, message: String, stuck| Some(Trouble { reason, message: bounded(message), stuck });
    if matches!(phase(pod), "Failed" | "Succeeded") {
        let status = pod.status.as_ref();
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        let reason = text(status.and_then(|status| status.reason.as_ref()));
        let message = text(status.and_then(|status| status.message.as_ref()));
        return of("Failed", format!("it has ended ({reason}): {message}").replace(" ()", ""), true);
    }
    if let Some(("False", reason, message)) = condition(pod, "PodScheduled") {
        return of("Unschedulable", format!("no machine takes it ({reason}): {message}"), true);
    }
    let init = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_ref());
    for status in init.into_iter().flatten() {
        if let Some(trouble) = waiting(status) {
            return Some(trouble);
        }
    }
    if let Some(status) = node_container(pod) {
        if let Some(trouble) = waiting(status) {
            return Some(trouble);
        }
        if status.started == Some(false) && status.state.as_ref().is_some_and(|state| state.running.is_some())
        {
            let crash =
                last_words(status).map_or_else(String::new, |words| format!("; it ended before: {words}"));
            return of("Starting", format!("the node is starting{crash}"), status.restart_count > 2);
        }
    }
    match condition(pod, "Ready") {
        Some(("True", ..)) => None,
        Some((_, "ReadinessGatesNotReady", message)) => of("NotReady", message.to_owned(), false),
        _ if phase(pod) == "Pending" => of("Starting", "it is being started".into(), false),
        _ => of("NotReady", "the node does not answer its readiness probe".into(), false),
    }
}

fn waiting(status: &ContainerStatus) -> Option<Trouble> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let why = waiting.reason.as_deref().unwrap_or_default();
    let said = waiting.message.as_deref().unwrap_or_default();
    let of = |reason, message: String, stuck| Some(Trouble { reason, message: bounded(message), stuck });
    match why {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            of("ImagePull", format!("its image {} cannot be had ({why}): {said}", status.image), true)
        }
        "CrashLoopBackOff" => {
            let words = last_words(status).unwrap_or_else(|| said.to_owned());
            of("Crashing", format!("container {} ends again and again: {words}", status.name), true)
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            of("ConfigMissing", format!("container {} cannot be made ({why}): {said}", status.name), true)
        }
        "ContainerCreating" | "PodInitializing" | "" => {
            of("Starting", "its containers are being made: volumes are mounted, images pulled".into(), false)
        }
        _ => of("Starting", format!("container {} waits ({why}): {said}", status.name), false),
    }
}

/// What the container wrote last before it ended.
fn last_words(status: &ContainerStatus) -> Option<String> {
    let states = [status.state.as_ref(), status.last_state.as_ref()];
    let ended = states.into_iter().flatten().find_map(|state| state.terminated.as_ref())?;
    let said = ended.message.as_deref().unwrap_or_default().trim();
    let last = said.lines().next_back().unwrap_or_default();
    // A user knows the pool, not the file that is made of it.
    let from =
        if last.contains("node.toml") { " (that file is made of the pool: see spec.config)" } else { "" };
    Some(format!("exit code {}{}{last}{from}", ended.exit_code, if last.is_empty() { "" } else { ", " }))
}

/// A container that has ended is watched for so long.
const LATELY: SignedDuration = SignedDuration::from_mins(10);

/// Until when the node's process is one that ends again and again, or cannot be had; `None` when it is not. It is after its image could
/// not be got, or after two short lives of it, for some time.
pub fn crashing_until(pod: &Pod) -> Option<Timestamp> {
    let init = pod.status.as_ref().and_then(|status| status.init_container_statuses.as_ref());
    let waits = |status: &ContainerStatus| {
        waiting(status).is_some_and(|trouble| matches!(trouble.reason, "ImagePull" | "Crashing"))
    };
    let node = node_container(pod);
    if init.into_iter().flatten().chain(node).any(waits) {
        return Some(Timestamp::MAX);
    }
    let node = node.filter(|status| status.restart_count >= 2)?;
    let states = [node.state.as_ref(), node.last_state.as_ref()];
    let ended = states.into_iter().flatten().find_map(|state| state.terminated.as_ref())?;
    let (began, end) = (ended.started_at.as_ref()?.0, ended.finished_at.as_ref()?.0);
    (end.duration_since(began) < LATELY).then(|| end.saturating_add(LATELY).unwrap_or(Timestamp::MAX))
}

/// Status has room for a sentence, not for a log.
fn bounded(message: String) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > 600 { line.chars().take(600).collect::<String>() + " …" } else { line }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(status: Value) -> Option<Trouble> {
        trouble(
            &serde_json::from_value(json!({ "metadata": { "name": "p-0" }, "status": status }))
                .expect("a pod"),
        )
    }

    fn container(state: Value, last: Value) -> Value {
        json!([{ "name": "node", "image": "x:1", "imageID": "", "ready": false, "restartCount": 3, "started": false, "state": state, "lastState": last }])
    }

    #[test]
    fn each_trouble_has_its_sentence() {
        let cases = [
            (
                json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu." }] }),
                "Unschedulable",
                "Insufficient nvidia.com/gpu",
                true,
            ),
            (
                json!({ "phase": "Pending", "containerStatuses": container(json!({ "waiting": { "reason": "ImagePullBackOff", "message": "not found" } }), json!({})) }),
                "ImagePull",
                "its image x:1 cannot be had",
                true,
            ),
            (
                json!({ "phase": "Running", "containerStatuses": container(json!({ "waiting": { "reason": "CrashLoopBackOff" } }), json!({ "terminated": { "exitCode": 78, "message": "one\nerror: `hls_list_size` must be 3 or more" } })) }),
                "Crashing",
                "exit code 78, error: `hls_list_size` must be 3 or more",
                true,
            ),
            (
                json!({ "phase": "Pending", "containerStatuses": container(json!({ "waiting": { "reason": "CreateContainerConfigError", "message": "secret \"x\" not found" } }), json!({})) }),
                "ConfigMissing",
                "secret \"x\" not found",
                true,
            ),
            (
                json!({ "phase": "Pending", "containerStatuses": container(json!({ "waiting": { "reason": "ContainerCreating" } }), json!({})) }),
                "Starting",
                "containers are being made",
                false,
            ),
            (
                json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "False" }] }),
                "NotReady",
                "readiness probe",
                false,
            ),
            (
                json!({ "phase": "Failed", "reason": "Evicted", "message": "out of disk" }),
                "Failed",
                "(Evicted): out of disk",
                true,
            ),
        ];
        for (status, reason, says, stuck) in cases {
            let trouble = of(status).expect(reason);
            assert_eq!((trouble.reason, trouble.stuck), (reason, stuck));
            assert!(trouble.message.contains(says), "{}", trouble.message);
        }
        assert_eq!(
            of(json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] })),
            None
        );
    }

    #[test]
    fn two_short_lives_make_a_node_that_crashes() {
        let until = |restarts: i32, state: Value, last: Value| {
            let mut containers = container(state, last);
            containers[0]["restartCount"] = restarts.into();
            let pod = json!({ "metadata": { "name": "p-0" }, "status": { "phase": "Running", "containerStatuses": containers } });
            crashing_until(&serde_json::from_value(pod).expect("a pod"))
        };
        let ended = |began: &str, end: &str| json!({ "terminated": { "exitCode": 1, "startedAt": began, "finishedAt": end } });
        let short = ended("2026-01-01T10:00:00Z", "2026-01-01T10:05:00Z");
        let long = ended("2026-01-01T09:00:00Z", "2026-01-01T10:05:00Z");
        let runs = json!({ "running": {} });
        let lately = "2026-01-01T10:15:00Z".parse().ok();
        assert_eq!(until(2, runs.clone(), short.clone()), lately);
        assert_eq!(until(1, runs.clone(), short.clone()), None, "once is no habit");
        assert_eq!(until(2, runs.clone(), long), None, "it had run for an hour");
        assert_eq!(until(0, runs, json!({})), None);
        for reason in ["CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull"] {
            let waits = json!({ "waiting": { "reason": reason } });
            assert_eq!(until(1, waits, short.clone()), Some(Timestamp::MAX), "{reason}");
        }
        let made = json!({ "waiting": { "reason": "ContainerCreating" } });
        assert_eq!(until(0, made, json!({})), None);
    }
}
