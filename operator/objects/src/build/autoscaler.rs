//! What scales a pool by its load.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules,
    HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricIdentifier,
    MetricSpec, MetricTarget, ObjectMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sluice_crds::names::{self, metric};
use sluice_crds::pool::Role;

use super::meta;
use crate::Pool;
use crate::autoscaling::Scaling;

/// It writes the pool's `spec.replicas`, through the scale subresource. Without autoscaling there is none.
///
/// `tolerance`: the API server knows that field (Kubernetes 1.35 and later); others refuse it.
pub(crate) fn autoscaler(pool: &Pool, tolerance: bool) -> Option<HorizontalPodAutoscaler> {
    let scaling = pool.scaling()?;
    let mut metrics: Vec<MetricSpec> = [
        scaling.streams_per_pod().map(|target| of_pool(pool, metric::STREAMS, target)),
        scaling.viewers_per_pod().map(|target| of_pool(pool, metric::VIEWERS, target)),
        scaling.cpu_percent().map(cpu),
    ]
    .into_iter()
    .flatten()
    .collect();
    metrics.extend_from_slice(scaling.metrics());
    Some(HorizontalPodAutoscaler {
        metadata: meta::of_pool(pool, pool.name().to_owned()),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: reference(pool),
            min_replicas: Some(i32::try_from(scaling.min()).unwrap_or(i32::MAX)),
            max_replicas: i32::try_from(scaling.max()).unwrap_or(i32::MAX),
            metrics: Some(metrics),
            behavior: Some(behavior(pool.role(), scaling, tolerance)),
        }),
        status: None,
    })
}

fn reference(pool: &Pool) -> CrossVersionObjectReference {
    let owner = pool.owner();
    CrossVersionObjectReference {
        api_version: Some(owner.api_version.clone()),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
    }
}

/// A metric of the whole pool, which the operator serves: all sessions, whatever pod has them, divided by the pods there are.
fn of_pool(pool: &Pool, name: &str, per_pod: u32) -> MetricSpec {
    MetricSpec {
        type_: "Object".into(),
        object: Some(ObjectMetricSource {
            described_object: reference(pool),
            metric: MetricIdentifier { name: name.into(), selector: None },
            target: MetricTarget {
                type_: "AverageValue".into(),
                average_value: Some(Quantity(per_pod.to_string())),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

/// CPU of the node's container alone: with that of the pod, a sidecar without a request would be an error.
fn cpu(percent: i32) -> MetricSpec {
    MetricSpec {
        type_: "ContainerResource".into(),
        container_resource: Some(ContainerResourceMetricSource {
            container: names::CONTAINER.into(),
            name: "cpu".into(),
            target: MetricTarget {
                type_: "Utilization".into(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

/// What the spec says, and where it says nothing, pods that come at once and go slowly.
fn behavior(role: Role, scaling: &Scaling, tolerance: bool) -> HorizontalPodAutoscalerBehavior {
    let given = scaling.behavior();
    let mut up = over(given.and_then(|given| given.scale_up.as_ref()), scale_up());
    let mut down = scale_down(role, given.and_then(|given| given.scale_down.as_ref()));
    if scaling.scale_in_paused() {
        down.select_policy = Some("Disabled".into());
    }
    if !tolerance {
        (up.tolerance, down.tolerance) = (None, None);
    }
    HorizontalPodAutoscalerBehavior { scale_up: Some(up), scale_down: Some(down) }
}

/// A crowd comes within seconds: twice the pods, or four more, every half minute, without waiting.
fn scale_up() -> HPAScalingRules {
    HPAScalingRules {
        policies: Some(vec![policy("Percent", 100, 30), policy("Pods", 4, 30)]),
        select_policy: Some("Max".into()),
        stabilization_window_seconds: Some(0),
        tolerance: Some(Quantity("50m".into())),
    }
}

/// A pod that goes has to be drained: origins, whose publishers stay for long, go more slowly than edges.
pub(crate) fn scale_down(role: Role, given: Option<&HPAScalingRules>) -> HPAScalingRules {
    let (policies, select, window) = match role {
        Role::Origin => (vec![policy("Pods", 1, 120)], "Min", 900),
        Role::Edge => (vec![policy("Pods", 1, 60), policy("Percent", 10, 60)], "Max", 600),
    };
    let usual = HPAScalingRules {
        policies: Some(policies),
        select_policy: Some(select.into()),
        stabilization_window_seconds: Some(window),
        tolerance: Some(Quantity("200m".into())),
    };
    over(given, usual)
}

fn policy(type_: &str, value: i32, period_seconds: i32) -> HPAScalingPolicy {
    HPAScalingPolicy { type_: type_.into(), value, period_seconds }
}

/// Field by field: what is given, else what is usual.
fn over(given: Option<&HPAScalingRules>, usual: HPAScalingRules) -> HPAScalingRules {
    let given = given.cloned().unwrap_or_default();
    HPAScalingRules {
        policies: given.policies.filter(|policies| !policies.is_empty()).or(usual.policies),
        select_policy: given.select_policy.or(usual.select_policy),
        stabilization_window_seconds: given
            .stabilization_window_seconds
            .or(usual.stabilization_window_seconds),
        tolerance: given.tolerance.or(usual.tolerance),
    }
}
