//! Autoscalers: what is usual, what a spec says over it, and what is passed through.

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscalerSpec, MetricSpec};
use serde_json::{Value, json};

use super::{edges, merge, origins};
use crate::{Pool, pool_objects};

fn autoscaled(more: Value) -> Value {
    let mut spec = json!({ "autoscaling": { "min": 2, "max": 9, "viewersPerPod": 100 } });
    merge(&mut spec, json!({ "autoscaling": more }));
    spec
}

fn spec(pool: &Pool, tolerance: bool) -> HorizontalPodAutoscalerSpec {
    let autoscaler = pool_objects(pool, &[], tolerance).autoscaler.expect("autoscaling is asked for");
    autoscaler.spec.expect("a spec")
}

fn behavior(pool: &Pool, tolerance: bool) -> Value {
    serde_json::to_value(spec(pool, tolerance).behavior).expect("JSON")
}

#[test]
fn without_autoscaling_there_is_none() {
    assert_eq!(pool_objects(&edges(json!({})), &[], true).autoscaler, None);
}

#[test]
fn it_scales_the_pool_on_what_the_spec_names() {
    let pool = origins(json!({
        "resources": { "requests": { "cpu": "1" } },
        "autoscaling": { "min": 2, "max": 9, "viewersPerPod": 100, "streamsPerPod": 5, "cpuPercent": 60,
            "metrics": [{ "type": "External", "external": { "metric": { "name": "queue" }, "target": { "type": "AverageValue", "averageValue": 5 } } }] }
    }));
    let spec = spec(&pool, true);
    let target = &spec.scale_target_ref;
    assert_eq!(
        (target.api_version.as_deref(), target.kind.as_str(), target.name.as_str()),
        (Some("sluice.dev/v1alpha1"), "OriginPool", "demo-origin")
    );
    assert_eq!((spec.min_replicas, spec.max_replicas), (Some(2), 9));
    let metrics: Vec<Value> = spec
        .metrics
        .iter()
        .flatten()
        .map(|metric: &MetricSpec| serde_json::to_value(metric).expect("JSON"))
        .collect();
    let object = |name: &str, value: &str| {
        json!({ "type": "Object", "object": {
            "describedObject": { "apiVersion": "sluice.dev/v1alpha1", "kind": "OriginPool", "name": "demo-origin" },
            "metric": { "name": name }, "target": { "type": "AverageValue", "averageValue": value } } })
    };
    assert_eq!(metrics[0], object("streams", "5"));
    assert_eq!(metrics[1], object("viewers", "100"));
    assert_eq!(
        metrics[2]["containerResource"],
        json!({ "container": "node", "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 60 } })
    );
    assert_eq!(metrics[3]["external"]["target"]["averageValue"], "5");
    assert_eq!(metrics.len(), 4);
}

#[test]
fn pods_come_at_once_and_go_slowly() {
    let up = json!({ "stabilizationWindowSeconds": 0, "selectPolicy": "Max", "tolerance": "50m",
        "policies": [{ "type": "Percent", "value": 100, "periodSeconds": 30 }, { "type": "Pods", "value": 4, "periodSeconds": 30 }] });
    let down_of_origins = json!({ "stabilizationWindowSeconds": 900, "selectPolicy": "Min", "tolerance": "200m",
        "policies": [{ "type": "Pods", "value": 1, "periodSeconds": 120 }] });
    let down_of_edges = json!({ "stabilizationWindowSeconds": 600, "selectPolicy": "Max", "tolerance": "200m",
        "policies": [{ "type": "Pods", "value": 1, "periodSeconds": 60 }, { "type": "Percent", "value": 10, "periodSeconds": 60 }] });
    let spec = autoscaled(json!({}));
    assert_eq!(
        behavior(&origins(spec.clone()), true),
        json!({ "scaleUp": up, "scaleDown": down_of_origins })
    );
    assert_eq!(behavior(&edges(spec), true), json!({ "scaleUp": up, "scaleDown": down_of_edges }));
}

#[test]
fn each_field_can_be_set_alone() {
    let usual = behavior(&edges(autoscaled(json!({}))), true);
    for (direction, field, value) in [
        ("scaleDown", "stabilizationWindowSeconds", json!(0)),
        ("scaleDown", "selectPolicy", json!("Min")),
        ("scaleDown", "policies", json!([{ "type": "Pods", "value": 7, "periodSeconds": 15 }])),
        ("scaleDown", "tolerance", json!("100m")),
        ("scaleUp", "stabilizationWindowSeconds", json!(30)),
        ("scaleUp", "selectPolicy", json!("Disabled")),
        ("scaleUp", "policies", json!([{ "type": "Percent", "value": 50, "periodSeconds": 60 }])),
        ("scaleUp", "tolerance", json!("0")),
    ] {
        let pool = edges(autoscaled(json!({ "behavior": { direction: { field: value } } })));
        let mut expected = usual.clone();
        expected[direction][field] = value;
        assert_eq!(behavior(&pool, true), expected);
    }
}

#[test]
fn a_paused_scale_in_is_the_autoscalers_too_whatever_the_spec_says() {
    let pool = edges(autoscaled(
        json!({ "scaleIn": "Paused", "behavior": { "scaleDown": { "selectPolicy": "Max" } } }),
    ));
    assert_eq!(behavior(&pool, true)["scaleDown"]["selectPolicy"], "Disabled");
    assert_eq!(behavior(&pool, true)["scaleUp"]["selectPolicy"], "Max");
    let scaling = pool.scaling().expect("autoscaling is asked for");
    assert!(scaling.scale_in_paused());
}

#[test]
fn an_older_api_server_is_told_no_tolerance() {
    let pool = edges(autoscaled(json!({ "behavior": { "scaleUp": { "tolerance": "100m" } } })));
    let behavior = behavior(&pool, false);
    for direction in ["scaleUp", "scaleDown"] {
        assert_eq!(behavior[direction].get("tolerance"), None);
    }
}

#[test]
fn floors_follow_the_window_of_the_autoscaler() {
    let more =
        json!({ "minSpareSlots": 50, "behavior": { "scaleDown": { "stabilizationWindowSeconds": 60 } } });
    let mut spec = autoscaled(more);
    merge(&mut spec, json!({ "capacity": { "viewers": 200 } }));
    let pool = edges(spec);
    let floors = pool.scaling().expect("autoscaling is asked for").floors();
    assert_eq!((floors.window.as_secs(), floors.max), (60, 9));
    let spare = floors.spare.expect("it is asked for");
    assert_eq!((spare.slots, spare.capacity), (50, 200));
}

#[test]
fn autoscaling_replaces_no_pod() {
    assert_eq!(
        crate::revision(&edges(autoscaled(json!({}))), crate::TEMPLATE),
        crate::revision(&edges(json!({})), crate::TEMPLATE)
    );
}
