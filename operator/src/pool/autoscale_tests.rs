use serde_json::{Value, json};
use sluice_crds::{EdgePool, MediaCluster};
use sluice_objects::{Cluster, Pinned, Pool};
use sluice_plan::{Drain, Heard, Reason, Spare};

use super::*;

fn pool(autoscaling: Value) -> Pool {
    let meta = |name: &str| json!({ "name": name, "namespace": "media", "uid": format!("uid-of-{name}") });
    let cluster: MediaCluster = serde_json::from_value(json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "MediaCluster", "metadata": meta("demo"),
        "spec": { "database": { "external": { "secret": { "name": "db" } } } }
    }))
    .expect("a cluster");
    let pinned = Pinned { version: "1".into(), name_prefix: "a-".into() };
    let cluster = Cluster::new(&cluster, &pinned).expect("right");
    let pool: EdgePool = serde_json::from_value(json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "EdgePool", "metadata": meta("demo-edge"),
        "spec": { "clusterRef": { "name": "demo" }, "capacity": { "viewers": 200 },
                  "resources": { "requests": { "cpu": "1" } }, "autoscaling": autoscaling }
    }))
    .expect("a pool");
    Pool::new(&pool, &cluster).expect("right")
}

fn viewers() -> Pool {
    pool(json!({ "min": 2, "max": 4, "viewersPerPod": 100, "cpuPercent": 60 }))
}

fn autoscaler(pool: &Pool, status: Value) -> HorizontalPodAutoscaler {
    let objects = sluice_objects::pool_objects(pool, &[], true);
    let mut made = objects.autoscaler.expect("autoscaling is asked for");
    made.status = serde_json::from_value(status).expect("a status");
    made
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": message })
}

/// An autoscaler that knows its metrics; `limited` is the reason of its `ScalingLimited`.
fn knows(pool: &Pool, limited: &str) -> HorizontalPodAutoscaler {
    let object = json!({ "kind": "EdgePool", "name": "demo-edge" });
    let yes = if limited == "DesiredWithinRange" { "False" } else { "True" };
    let status = json!({ "desiredReplicas": 2,
        "conditions": [condition("AbleToScale", "True", "ReadyForNewScale", ""), condition("ScalingActive", "True", "ValidMetricFound", ""),
                       condition("ScalingLimited", yes, limited, "")],
        "currentMetrics": [
            { "type": "Object", "object": { "metric": { "name": "viewers" }, "describedObject": object, "current": { "averageValue": "166667m", "value": "500" } } },
            { "type": "ContainerResource", "containerResource": { "name": "cpu", "container": "node", "current": { "averageUtilization": 34, "averageValue": "340m" } } },
        ] });
    autoscaler(pool, status)
}

fn nothing() -> Floor {
    Floor { pods: 0, because: None, again: None }
}

fn scaling<'a>(pool: &'a Pool, autoscaler: Option<&'a HorizontalPodAutoscaler>, api: State) -> Scaling<'a> {
    Scaling { spec: pool.scaling().expect("autoscaling is asked for"), autoscaler, floor: nothing(), api }
}

fn wish(replicas: u32) -> Wish {
    Wish { replicas, min: 2, max: 4, revision: "r".into(), ..Wish::default() }
}

#[test]
fn what_is_followed_is_told_with_value_and_target() {
    let pool = viewers();
    let known = knows(&pool, "DesiredWithinRange");
    let told = scaling(&pool, Some(&known), State::Serving);
    assert_eq!(told.metrics().as_deref(), Some("viewers 166.7/100, cpu 34%/60%"));
    assert_eq!(told.metrics_available().status, Some(true));
    let fresh = autoscaler(&pool, json!({ "desiredReplicas": 0 }));
    let told = scaling(&pool, Some(&fresh), State::Serving);
    assert_eq!(told.metrics().as_deref(), Some("viewers unknown/100, cpu unknown/60%"));
    assert_eq!(told.metrics_available().reason, "Waiting");
    assert_eq!(scaling(&pool, None, State::Serving).metrics(), None);
}

#[test]
fn metrics_that_are_passed_through_are_told_too() {
    let target = |kind: &str, amount: Value| {
        let mut target = json!({ "type": kind });
        target.as_object_mut().expect("fields").extend(amount.as_object().expect("fields").clone());
        target
    };
    let metrics = json!([
        { "type": "External", "external": { "metric": { "name": "queue" }, "target": target("Value", json!({ "value": "5" })) } },
        { "type": "Pods", "pods": { "metric": { "name": "egress" }, "target": target("AverageValue", json!({ "averageValue": "1Gi" })) } },
        { "type": "Resource", "resource": { "name": "memory", "target": target("Utilization", json!({ "averageUtilization": 70 })) } },
    ]);
    let pool = pool(json!({ "min": 1, "max": 4, "metrics": metrics }));
    let current = json!([
        { "type": "External", "external": { "metric": { "name": "queue" }, "current": { "value": "1500m" } } },
        { "type": "Pods", "pods": { "metric": { "name": "egress" }, "current": { "averageValue": "2Gi" } } },
        { "type": "Resource", "resource": { "name": "memory", "current": { "averageUtilization": 20, "averageValue": "1Gi" } } },
    ]);
    let made = autoscaler(&pool, json!({ "desiredReplicas": 1, "currentMetrics": current }));
    let told = scaling(&pool, Some(&made), State::Off);
    assert_eq!(told.metrics().as_deref(), Some("queue 1.5/5, egress 2Gi/1Gi, memory 20%/70%"));
}

#[test]
fn what_is_not_known_says_the_way_out() {
    let pool = viewers();
    let failed = |reason: &str| {
        let active = condition("ScalingActive", "False", reason, "no answer");
        autoscaler(&pool, json!({ "desiredReplicas": 2, "conditions": [active] }))
    };
    let object = failed("FailedGetObjectMetric");
    for (api, reason, says) in [
        (
            State::Off,
            "MetricsApiOff",
            "viewersPerPod needs the metrics API: install the operator with metricsApi.enabled=true",
        ),
        (
            State::Broken("the APIService is another's".into()),
            "MetricsApiBroken",
            "the APIService is another's",
        ),
        (State::Serving, "MetricsUnknown", "no answer"),
    ] {
        let told = scaling(&pool, Some(&object), api);
        let available = told.metrics_available();
        assert_eq!(
            (available.status, available.reason, available.message.as_str()),
            (Some(false), reason, says)
        );
        let limited = told.limited(&wish(3));
        assert_eq!((limited.status, limited.reason), (Some(true), "MetricsUnknown"));
        assert_eq!(limited.message, format!("3 pods are kept: {says}"));
    }
    let cpu = failed("FailedGetContainerResourceMetric");
    let message = scaling(&pool, Some(&cpu), State::Off).metrics_available().message;
    assert_eq!(message, "cpuPercent needs a metrics server (metrics.k8s.io): no answer");
    let off = failed("ScalingDisabled");
    assert_eq!(scaling(&pool, Some(&off), State::Off).metrics_available().status, None);
    let refused = condition("AbleToScale", "False", "FailedGetScale", "no such scale");
    let refused = autoscaler(&pool, json!({ "desiredReplicas": 2, "conditions": [refused] }));
    let told = scaling(&pool, Some(&refused), State::Off).metrics_available();
    assert_eq!((told.status, told.reason), (Some(false), "ScaleRefused"));
}

#[test]
fn one_of_two_that_is_not_known_is_named() {
    let pool = viewers();
    let mut half = knows(&pool, "DesiredWithinRange");
    let status = half.status.as_mut().expect("a status");
    status.current_metrics.as_mut().expect("metrics").pop();
    let told = scaling(&pool, Some(&half), State::Serving).metrics_available();
    assert_eq!((told.status, told.reason), (Some(true), "KnownInPart"));
    assert!(told.message.ends_with("viewers 166.7/100, cpu unknown/60%"), "{}", told.message);
}

#[test]
fn limits_are_told_with_their_numbers() {
    let pool = viewers();
    let says = |limited: &str, floor: Floor, wish: &Wish| {
        let made = knows(&pool, limited);
        let mut told = scaling(&pool, Some(&made), State::Serving);
        told.floor = floor;
        let told = told.limited(wish);
        (told.status, told.reason, told.message)
    };
    let within = "DesiredWithinRange";
    let spare = |sessions| Because::SpareSlots { sessions, spare: Spare { slots: 50, capacity: 200 } };
    let floor = |pods, because| Floor { pods, because: Some(because), again: None };
    let floored = |pods| Wish { floor: pods, ..wish(2) };
    assert_eq!(
        says(within, nothing(), &wish(3)),
        (Some(false), "Free", "there are as many pods as the load asks for".into())
    );
    assert_eq!(
        says(within, nothing(), &wish(900)),
        (Some(true), "AtMaximum", "900 pods are asked for, autoscaling.max is 4".into())
    );
    assert_eq!(
        says("TooManyReplicas", nothing(), &wish(4)),
        (
            Some(true),
            "AtMaximum",
            "the load asks for more pods than autoscaling.max = 4 (viewers 166.7/100, cpu 34%/60%)".into()
        )
    );
    assert_eq!(
        says(within, floor(4, spare(900)), &floored(4)),
        (Some(true), "AtMaximum", "minSpareSlots asks for 5 pods, autoscaling.max is 4".into())
    );
    assert_eq!(
        says(within, floor(3, spare(400)), &floored(3)),
        (
            Some(true),
            "SpareSlots",
            "3 pods instead of 2: 400 sessions and room for 50 more, 200 a pod".into()
        )
    );
    assert_eq!(
        says(within, floor(3, Because::Schedule { index: 0, until: None }), &floored(3)).1,
        "Schedule"
    );
    assert_eq!(says(within, floor(3, Because::Unheard), &floored(3)).1, "MetricsUnknown");
    // A floor that asks for no more than the load does limits nothing.
    assert_eq!(says(within, floor(2, spare(300)), &wish(3)).1, "Free");
    assert_eq!(says("TooFewReplicas", nothing(), &wish(2)).1, "AtMinimum");
    assert_eq!(says(within, nothing(), &wish(1)).1, "AtMinimum");
    assert_eq!(says(within, nothing(), &Wish { scale_in_paused: true, ..wish(3) }).1, "ScaleInPaused");
    assert_eq!(says(within, nothing(), &Wish { stopped: true, ..wish(3) }).1, "Stopped");
    let (status, reason, message) = says(within, nothing(), &wish(0));
    assert_eq!((status, reason), (Some(true), "ReplicasZero"));
    assert!(message.contains("2 pods are kept"), "{message}");
}

#[test]
fn every_decision_says_what_it_was_decided_by() {
    let pool = viewers();
    let made = knows(&pool, "DesiredWithinRange");
    let told = scaling(&pool, Some(&made), State::Serving);
    let after = |pods| PoolStatus { desired_replicas: pods, viewers: 380, ..PoolStatus::default() };
    let says = |before, pods, wish: &Wish, scaling: Option<&Scaling<'_>>| {
        decision(before, &after(pods), wish, scaling).map(|note| (note.reason, note.message))
    };
    assert_eq!(
        says(2, 4, &wish(4), Some(&told)),
        Some(("ScaledOut", "2 to 4 pods: viewers 380, 100 a pod; viewers 166.7/100, cpu 34%/60%".into()))
    );
    assert_eq!(says(4, 4, &wish(4), Some(&told)), None);
    assert_eq!(says(4, 2, &wish(2), None), Some(("ScaledIn", "4 to 2 pods: spec.replicas says so".into())));
    assert_eq!(
        says(2, 4, &wish(900), Some(&told)),
        Some(("ScaledOut", "2 to 4 pods: 900 are asked for, autoscaling.max is 4".into()))
    );
    let floor = Floor { pods: 3, because: Some(Because::Schedule { index: 1, until: None }), again: None };
    let told = Scaling { floor, ..told };
    assert_eq!(
        says(2, 3, &Wish { floor: 3, ..wish(2) }, Some(&told)),
        Some(("ScaledOut", "2 to 3 pods: autoscaling.schedules[1]".into()))
    );
    assert_eq!(
        says(3, 0, &Wish { stopped: true, ..wish(2) }, Some(&told)),
        Some(("ScaledIn", "3 to 0 pods: the MediaCluster is stopped".into()))
    );
}

fn seen(slot: u32, viewers: Option<u32>) -> Seen {
    Seen {
        name: format!("p-{slot}"),
        slot,
        revision: "r".into(),
        created: jiff::Timestamp::UNIX_EPOCH,
        terminating: false,
        failed: false,
        started: true,
        ready: true,
        turned: jiff::Timestamp::UNIX_EPOCH,
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
        heard: viewers.map(|viewers| Heard { accepting: true, publishers: 1, viewers, ..Heard::default() }),
    }
}

#[test]
fn all_sessions_count_and_only_pods_that_take_new_ones() {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let drain = Some(Drain { since: now, deadline: now, reason: Reason::ScaleIn });
    let draining = Seen { drain, accepting: false, ..seen(1, Some(20)) };
    let leaving = Seen { terminating: true, ready: false, ..seen(2, Some(3)) };
    let pods = [seen(0, Some(100)), draining, leaving];
    assert_eq!(load(Role::Edge, &pods, Some(5), false), Load { sessions: Some(123), running: 1 });
    assert_eq!(load(Role::Origin, &pods, Some(5), false).sessions, Some(3));
    // A surge is none of those that were wanted.
    let surge = [seen(0, Some(1)), seen(1, Some(1))];
    assert_eq!(load(Role::Edge, &surge, Some(1), false).running, 1);
    assert_eq!(load(Role::Edge, &surge, None, false).running, 0);
}

#[test]
fn sessions_of_who_is_not_heard_are_not_taken_for_none() {
    let pods = [seen(0, Some(100)), seen(1, None)];
    assert_eq!(load(Role::Edge, &pods, Some(2), false).sessions, None);
    assert_eq!(load(Role::Edge, &[seen(0, Some(100))], Some(2), true).sessions, None);
    // One that Kubernetes does not find ready either, has not started, or whose machine is lost.
    for gone in [
        Seen { ready: false, ..seen(1, None) },
        Seen { started: false, ..seen(1, None) },
        Seen { lost: Some(sluice_plan::Lost::Silent), ..seen(1, None) },
    ] {
        assert_eq!(load(Role::Edge, &[seen(0, Some(100)), gone], Some(2), false).sessions, Some(100));
    }
}

/// A schedule ends while the metrics API is off: `spec.replicas` is what it was before anybody came, and says nothing.
#[test]
fn no_floor_falls_while_the_load_is_not_known() {
    let pool = viewers();
    let max = pool.scaling().expect("autoscaling is asked for").max();
    let active = condition("ScalingActive", "False", "FailedGetObjectMetric", "no answer");
    let able = condition("AbleToScale", "True", "SucceededGetScale", "");
    let blind = autoscaler(&pool, json!({ "desiredReplicas": 0, "conditions": [able, active] }));
    for api in [State::Off, State::Serving] {
        let told = scaling(&pool, Some(&blind), api);
        let kept = told.held(Some(3));
        assert_eq!((kept.pods, kept.because), (3, Some(Because::Unmeasured)));
        // Never beyond the maximum, and what is asked for anyway stays as it is.
        assert_eq!(told.held(Some(99)).pods, max);
        assert_eq!((told.held(None), told.held(Some(0))), (nothing(), nothing()));
        let floor =
            Floor { pods: 3, because: Some(Because::Schedule { index: 0, until: None }), again: None };
        assert_eq!(Scaling { floor, ..told.clone() }.held(Some(3)), floor);
        // It is told as it is.
        let limited = Scaling { floor: kept, ..told }.limited(&Wish { floor: 3, ..wish(1) });
        assert!(
            limited.reason == "MetricsUnknown" && limited.message.starts_with("3 pods are kept"),
            "{limited:?}"
        );
    }
    // When it is known, or nobody has looked yet, the floor counts.
    let known = knows(&pool, "DesiredWithinRange");
    assert_eq!(scaling(&pool, Some(&known), State::Serving).held(Some(3)), nothing());
    assert_eq!(scaling(&pool, None, State::Serving).held(Some(3)), nothing());
}

#[test]
fn a_status_of_an_older_operator_tells_no_number() {
    let status = |desired_replicas, updated_replicas, ready_replicas| PoolStatus {
        desired_replicas,
        updated_replicas,
        ready_replicas,
        ..PoolStatus::default()
    };
    assert_eq!([told(&status(0, 3, 3)), told(&status(0, 0, 2)), told(&status(0, 2, 0))], [None; 3]);
    assert_eq!([told(&status(0, 0, 0)), told(&status(3, 1, 1))], [Some(0), Some(3)]);
}
