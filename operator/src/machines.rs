//! How a pod's machine stands, as far as the pod is concerned: pure, from the machine, what is heard of the pod's node, and the time.
//!
//! A machine's own state alone takes nobody's sessions: a kubelet that is restarted, or cut off from the API server, cuts nobody as
//! long as the media node on it answers the operator.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use kube::ResourceExt;
use sluice_plan::Lost;

use crate::nodes::Seen as Heard;
use crate::owned::{Machine, Machines, UNTOLD};

/// A media node that has not been heard for so long is taken for silent: after this time nodes themselves give up each other's
/// streams.
pub const SILENT: Duration = Duration::from_secs(6);

/// A pod whose machine is not known is as old as this before it is taken for one without a machine: the machine may be new.
const NEW: Duration = Duration::from_secs(60);

/// What an administrator sets on a machine that is off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What Kubernetes sets on a machine that is cordoned, some time after `spec.unschedulable`.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// What Kubernetes sets on a machine that does not answer.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Machines that a pod is kept away from, by name, at most.
const AVOIDED: usize = 100;

/// How a pod's machine stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// It is to be emptied.
    pub leaving: bool,
    /// It is lost.
    pub lost: Option<Lost>,
    /// After this time it may stand otherwise, though nothing changes.
    pub again: Option<Duration>,
}

/// How the pod's machine stands. `heard` is what its node says, `None` when it cannot be asked (it has no address yet).
pub fn standing(
    machines: &Machines,
    pod: &Pod,
    heard: Option<&Heard>,
    drain_taints: &[String],
    now: Timestamp,
) -> Standing {
    let Some(name) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) else {
        return Standing::default();
    };
    let age = pod.creation_timestamp().and_then(|time| Duration::try_from(now.duration_since(time.0)).ok());
    let age = age.unwrap_or_default();
    let unheard = match heard {
        // A long poll that is under way is no silence.
        Some(heard) if heard.report.is_some() && heard.failure.is_none() => Duration::ZERO,
        Some(heard) => heard.at.elapsed(),
        None => age,
    };
    judge(&machines.get(name), age, unheard, drain_taints)
}

fn judge(machine: &Machine, age: Duration, unheard: Duration, drain_taints: &[String]) -> Standing {
    let silent_for = |lost| match SILENT.checked_sub(unheard) {
        None | Some(Duration::ZERO) => (Some(lost), None),
        Some(left) => (None, Some(left)),
    };
    match machine {
        Machine::Unknown => Standing::default(),
        Machine::Untold => Standing { again: Some(UNTOLD), ..Standing::default() },
        Machine::Absent { departed: false } if age < NEW => {
            Standing { again: Some(NEW - age), ..Standing::default() }
        }
        // While its node is heard it runs, whatever became of the object: it is replaced, and drained as long as it is let.
        Machine::Absent { .. } => {
            let (lost, again) = silent_for(Lost::Gone);
            Standing { leaving: true, lost, again }
        }
        Machine::There(node) => {
            let off = has_taint(node, OUT_OF_SERVICE);
            let leaving = off || is_leaving(node, drain_taints);
            let (lost, again) = match (off, answers(node)) {
                (true, _) => silent_for(Lost::Gone),
                (false, false) => silent_for(Lost::Silent),
                (false, true) => (None, None),
            };
            Standing { leaving, lost, again }
        }
    }
}

/// Whether the machine is to be emptied.
fn is_leaving(node: &Node, drain_taints: &[String]) -> bool {
    let cordoned = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    drain_taints.iter().any(|key| has_taint(node, key) || (cordoned && key == UNSCHEDULABLE))
}

/// Whether Kubernetes hears the machine.
fn answers(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    ready.is_some_and(|ready| ready.status == "True") && !has_taint(node, UNREACHABLE)
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten())
}

fn has_taint(node: &Node, key: &str) -> bool {
    taints(node).any(|taint| taint.key == key)
}

/// Keeps a new pod away from machines that are to be emptied or are silent, where its tolerations would let it go there: it would be
/// replaced again, and again. Without such tolerations the scheduler sees to it.
pub fn keep_away(pod: &mut Pod, machines: &Machines, drain_taints: &[String]) {
    let Some(spec) = &mut pod.spec else { return };
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    // What tolerates nothing needs no look at the machines.
    if tolerations.is_empty() {
        return;
    }
    let mut names: Vec<String> = machines
        .all()
        .iter()
        .filter(|node| is_leaving(node, drain_taints) || has_taint(node, OUT_OF_SERVICE) || !answers(node))
        .filter(|node| taints(node).all(|taint| tolerates(tolerations, taint)))
        .map(|node| node.name_any())
        .collect();
    if names.is_empty() {
        return;
    }
    names.sort();
    names.truncate(AVOIDED);
    // A list of one name is all that a requirement on a field may have: each machine is one of its own.
    let away: Vec<NodeSelectorRequirement> = names
        .into_iter()
        .map(|name| NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "NotIn".into(),
            values: Some(vec![name]),
        })
        .collect();
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    let terms = &mut affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_default()
        .node_selector_terms;
    if terms.is_empty() {
        terms.push(NodeSelectorTerm::default());
        terms[0].match_fields = Some(away);
        return;
    }
    // Terms are alternatives, so each gets it; an empty one matches nothing and stays so.
    for term in terms {
        let empty = term.match_expressions.as_ref().is_none_or(Vec::is_empty)
            && term.match_fields.as_ref().is_none_or(Vec::is_empty);
        if !empty {
            term.match_fields.get_or_insert_default().extend(away.iter().cloned());
        }
    }
}

/// Whether a pod with these may be scheduled where this taint is.
fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    taint.effect == "PreferNoSchedule"
        || tolerations.iter().any(|one| {
            let exists = one.operator.as_deref() == Some("Exists");
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let key = text(&one.key);
            let effect = text(&one.effect);
            (effect.is_empty() || effect == taint.effect)
                && (if key.is_empty() { exists } else { key == taint.key })
                && (exists || text(&one.value) == text(&taint.value))
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn taints() -> Vec<String> {
        crate::settings::DRAIN_TAINTS.map(str::to_owned).to_vec()
    }

    fn node(name: &str, ready: &str, spec: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": name }, "spec": spec,
            "status": { "conditions": [{ "type": "Ready", "status": ready }] }
        }))
        .expect("a node")
    }

    fn there(ready: &str, spec: Value) -> Machine {
        Machine::There(Arc::new(node("m", ready, spec)))
    }

    fn tainted(key: &str) -> Value {
        json!({ "taints": [{ "key": key, "effect": "NoSchedule" }] })
    }

    const OLD: Duration = Duration::from_secs(3600);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Of an old pod.
    fn of(machine: &Machine, unheard: u64) -> (bool, Option<Lost>, Option<Duration>) {
        let Standing { leaving, lost, again } = judge(machine, OLD, s(unheard), &taints());
        (leaving, lost, again)
    }

    #[test]
    fn a_cordon_or_a_known_taint_empties_a_machine() {
        assert_eq!(of(&there("True", json!({})), 0), (false, None, None));
        assert_eq!(of(&there("True", json!({ "unschedulable": true })), 0), (true, None, None));
        for key in crate::settings::DRAIN_TAINTS {
            assert_eq!(of(&there("True", tainted(key)), 0), (true, None, None), "{key}");
        }
        // Not decided yet, and often taken back; and what has nothing to do with it.
        for key in ["DeletionCandidateOfClusterAutoscaler", "nvidia.com/gpu"] {
            assert_eq!(of(&there("True", tainted(key)), 0), (false, None, None), "{key}");
        }
    }

    #[test]
    fn who_takes_cordons_off_the_list_keeps_pods_on_cordoned_machines() {
        let only = ["example.org/maintenance".to_owned()];
        let judged = |spec| judge(&there("True", spec), OLD, s(0), &only).leaving;
        assert!(!judged(json!({ "unschedulable": true })) && !judged(tainted("karpenter.sh/disrupted")));
        assert!(judged(tainted("example.org/maintenance")));
    }

    #[test]
    fn a_machine_is_silent_when_nobody_hears_it() {
        for ready in ["False", "Unknown"] {
            let machine = there(ready, json!({}));
            assert_eq!(of(&machine, 0), (false, None, Some(s(6))), "a kubelet that is restarted cuts nobody");
            assert_eq!(of(&machine, 5), (false, None, Some(s(1))));
            assert_eq!(of(&machine, 6), (false, Some(Lost::Silent), None));
        }
        assert_eq!(of(&there("True", json!({})), 3600), (false, None, None), "the pod's own trouble");
        assert_eq!(of(&there("True", tainted(UNREACHABLE)), 9).1, Some(Lost::Silent));
    }

    #[test]
    fn a_machine_is_gone_when_kubernetes_has_it_no_more_and_its_node_is_silent() {
        let known = Machine::Absent { departed: true };
        assert_eq!(of(&known, 9), (true, Some(Lost::Gone), None));
        assert_eq!(
            of(&known, 2),
            (true, None, Some(s(4))),
            "its node is heard: it is drained, not thrown away"
        );
        let off = there("Unknown", tainted(OUT_OF_SERVICE));
        assert_eq!(of(&off, 9), (true, Some(Lost::Gone), None));
        assert_eq!(of(&off, 0), (true, None, Some(s(6))));
    }

    #[test]
    fn a_machine_that_is_new_is_waited_for() {
        let unknown = Machine::Absent { departed: false };
        let judged = |age| judge(&unknown, s(age), s(age), &taints());
        assert_eq!(judged(20), Standing { again: Some(s(40)), ..Standing::default() });
        assert_eq!(judged(60).lost, Some(Lost::Gone));
        assert_eq!(judge(&Machine::Unknown, OLD, OLD, &taints()), Standing::default());
        let untold = judge(&Machine::Untold, OLD, OLD, &taints());
        assert_eq!(
            untold,
            Standing { again: Some(s(10)), ..Standing::default() },
            "perhaps the watch is late"
        );
    }

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p-0", "creationTimestamp": "2026-01-01T00:00:00Z" }, "spec": spec
        }))
        .expect("a pod")
    }

    #[test]
    fn a_pod_without_an_address_is_unheard_since_it_was_made() {
        let machines = Machines::of([node("m", "Unknown", json!({}))]);
        let at = |second: i64| {
            let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
            let now = now.checked_add(jiff::SignedDuration::from_secs(second)).expect("a time");
            standing(&machines, &pod(json!({ "nodeName": "m", "containers": [] })), None, &taints(), now).lost
        };
        assert_eq!((at(2), at(7)), (None, Some(Lost::Silent)));
        let nowhere = pod(json!({ "containers": [] }));
        let now = Timestamp::now();
        assert_eq!(standing(&machines, &nowhere, None, &taints(), now), Standing::default(), "not scheduled");
    }

    fn avoids(mut pod: Pod, machines: &Machines) -> Value {
        keep_away(&mut pod, machines, &taints());
        let path = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
        let spec = serde_json::to_value(pod.spec).expect("a spec");
        spec.pointer(path).cloned().unwrap_or_default()
    }

    #[test]
    fn a_pod_that_tolerates_everything_does_not_go_back_where_it_was_taken_from() {
        let machines = Machines::of([
            node("fine", "True", json!({})),
            node(
                "cordoned",
                "True",
                json!({ "unschedulable": true, "taints": [{ "key": UNSCHEDULABLE, "effect": "NoSchedule" }] }),
            ),
            node("dead", "Unknown", json!({ "taints": [{ "key": UNREACHABLE, "effect": "NoSchedule" }] })),
        ]);
        let away = |name: &str| json!({ "key": "metadata.name", "operator": "NotIn", "values": [name] });
        let all = json!([{ "operator": "Exists" }]);
        assert_eq!(
            avoids(pod(json!({ "containers": [], "tolerations": all })), &machines),
            json!([{ "matchFields": [away("cordoned"), away("dead")] }])
        );
        let cordons = json!([{ "key": UNSCHEDULABLE, "operator": "Exists", "effect": "NoSchedule" }]);
        let zone = json!([{ "key": "zone", "operator": "In", "values": ["a"] }]);
        let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": zone }, {}
        ] } } });
        assert_eq!(
            avoids(pod(json!({ "containers": [], "tolerations": cordons, "affinity": affinity })), &machines),
            json!([{ "matchExpressions": zone, "matchFields": [away("cordoned")] }, {}])
        );
        let gpu = json!([{ "key": "nvidia.com/gpu", "operator": "Exists" }]);
        assert_eq!(avoids(pod(json!({ "containers": [], "tolerations": gpu })), &machines), Value::Null);
        assert_eq!(avoids(pod(json!({ "containers": [] })), &machines), Value::Null);
    }
}
