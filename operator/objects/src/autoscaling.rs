//! Autoscaling as a pool is built from it: checked.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior, MetricSpec};
use serde_json::Value;
use sluice_crds::autoscaling::{self, Autoscaling, ScaleIn};
use sluice_crds::pool::{Capacity, PoolSpec, Resources, Role};
use sluice_plan::{Floors, Schedule, Spare};

use crate::build::autoscaler;
use crate::check;
use crate::check::raw::read;
use crate::invalid::Problems;

const FIELD: &str = "spec.autoscaling";

/// How a pool follows its load: everything in it was checked.
#[derive(Clone, Debug)]
pub struct Scaling {
    spec: Autoscaling,
    metrics: Vec<MetricSpec>,
    floors: Floors,
}

impl Scaling {
    /// Pods there are at least, whatever is written.
    pub fn min(&self) -> u32 {
        u32::try_from(self.spec.min).unwrap_or_default()
    }

    /// Pods there are at most, whatever is written.
    pub fn max(&self) -> u32 {
        u32::try_from(self.spec.max).unwrap_or_default()
    }

    /// No pod goes because there are too many.
    pub fn scale_in_paused(&self) -> bool {
        self.spec.scale_in == ScaleIn::Paused
    }

    /// Live streams a pod is to have on average.
    pub fn streams_per_pod(&self) -> Option<u32> {
        self.spec.streams_per_pod
    }

    /// Viewers a pod is to have on average.
    pub fn viewers_per_pod(&self) -> Option<u32> {
        self.spec.viewers_per_pod
    }

    /// CPU that pods are to use on average, percent of what they request.
    pub fn cpu_percent(&self) -> Option<i32> {
        self.spec.cpu_percent
    }

    /// What spare slots and schedules ask for.
    pub fn floors(&self) -> &Floors {
        &self.floors
    }

    pub(crate) fn metrics(&self) -> &[MetricSpec] {
        &self.metrics
    }

    pub(crate) fn behavior(&self) -> Option<&HorizontalPodAutoscalerBehavior> {
        self.spec.behavior.as_ref()
    }

    /// Checks what a pool's spec says of autoscaling; `None` when it says nothing.
    pub(crate) fn read(problems: &mut Problems, spec: &PoolSpec, role: Role) -> Option<Scaling> {
        let given = spec.autoscaling.as_ref()?;
        let Autoscaling {
            min,
            max,
            streams_per_pod,
            viewers_per_pod,
            cpu_percent,
            metrics,
            behavior,
            min_spare_slots,
            schedules,
            scale_in: _,
        } = given;
        for (name, pods) in [("min", min), ("max", max)] {
            problems.unless((1..=1000).contains(pods), &format!("{FIELD}.{name}"), "is from 1 to 1000");
        }
        problems.unless(min <= max, &format!("{FIELD}.min"), "may not be more than autoscaling.max");
        problems.unless(
            streams_per_pod.is_some()
                || viewers_per_pod.is_some()
                || cpu_percent.is_some()
                || !metrics.is_empty(),
            FIELD,
            "needs a target: streamsPerPod, viewersPerPod, cpuPercent or metrics",
        );
        for (name, target) in [
            ("streamsPerPod", streams_per_pod),
            ("viewersPerPod", viewers_per_pod),
            ("minSpareSlots", min_spare_slots),
        ] {
            let good = target.is_none_or(|target| (1..=1_000_000).contains(&target));
            problems.unless(good, &format!("{FIELD}.{name}"), "is from 1 to 1000000");
        }
        problems.unless(
            role == Role::Origin || streams_per_pod.is_none(),
            &format!("{FIELD}.streamsPerPod"),
            "is for origins: every edge that is added carries the same streams. Use viewersPerPod",
        );
        if let Some(percent) = cpu_percent {
            let field = format!("{FIELD}.cpuPercent");
            problems.unless((1..=1000).contains(percent), &field, "is from 1 to 1000");
            problems.unless(
                requests_cpu(&spec.resources),
                &field,
                "needs spec.resources.requests.cpu: set it",
            );
        }
        if let Some(behavior) = behavior {
            rules(problems, "scaleUp", behavior.scale_up.as_ref());
            rules(problems, "scaleDown", behavior.scale_down.as_ref());
        }
        let down = behavior.as_ref().and_then(|behavior| behavior.scale_down.as_ref());
        let window = autoscaler::scale_down(role, down).stabilization_window_seconds.unwrap_or_default();
        let floors = Floors {
            max: u32::try_from(*max).unwrap_or_default(),
            spare: spare(problems, *min_spare_slots, &spec.capacity, role),
            window: Duration::from_secs(u64::try_from(window).unwrap_or_default()),
            schedules: read_schedules(problems, schedules),
        };
        let metrics = metrics.iter().map(targets_as_text).collect::<Vec<_>>();
        Some(Scaling { spec: given.clone(), metrics: read_metrics(problems, &metrics), floors })
    }
}

/// A limit without a request is its own request.
fn requests_cpu(resources: &Resources) -> bool {
    let amount = resources.requests.get("cpu").or_else(|| resources.limits.get("cpu"));
    amount.and_then(|amount| check::quantity(&amount.0)).is_some_and(|amount| amount > 0.0)
}

fn spare(problems: &mut Problems, slots: Option<u32>, capacity: &Capacity, role: Role) -> Option<Spare> {
    let slots = slots?;
    let (name, capacity) = match role {
        Role::Origin => ("streams", capacity.streams),
        Role::Edge => ("viewers", capacity.viewers),
    };
    let Some(capacity) = capacity.filter(|capacity| *capacity > 0) else {
        let problem = format!("needs spec.capacity.{name}: say how much one pod takes");
        problems.say(format!("{FIELD}.minSpareSlots"), problem);
        return None;
    };
    Some(Spare { slots, capacity })
}

fn rules(problems: &mut Problems, direction: &str, rules: Option<&HPAScalingRules>) {
    let Some(HPAScalingRules { policies, select_policy, stabilization_window_seconds, tolerance }) = rules
    else {
        return;
    };
    let field = format!("{FIELD}.behavior.{direction}");
    problems.unless(
        stabilization_window_seconds.is_none_or(|seconds| (0..=3600).contains(&seconds)),
        &format!("{field}.stabilizationWindowSeconds"),
        "is from 0 to 3600",
    );
    problems.unless(
        select_policy.as_deref().is_none_or(|policy| ["Max", "Min", "Disabled"].contains(&policy)),
        &format!("{field}.selectPolicy"),
        "is Max, Min or Disabled",
    );
    problems.unless(
        tolerance
            .as_ref()
            .is_none_or(|tolerance| check::quantity(&tolerance.0).is_some_and(|size| size >= 0.0)),
        &format!("{field}.tolerance"),
        "is a part of 1 that is not negative, such as 0.1",
    );
    for (index, policy) in policies.iter().flatten().enumerate() {
        let field = format!("{field}.policies[{index}]");
        let known = ["Pods", "Percent"].contains(&&*policy.type_);
        problems.unless(known, &format!("{field}.type"), "is Pods or Percent");
        problems.unless(policy.value > 0, &format!("{field}.value"), "is more than 0");
        problems.unless(
            (1..=1800).contains(&policy.period_seconds),
            &format!("{field}.periodSeconds"),
            "is from 1 to 1800",
        );
    }
}

fn read_schedules(problems: &mut Problems, given: &[autoscaling::Schedule]) -> Vec<Schedule> {
    problems.unless(given.len() <= 32, &format!("{FIELD}.schedules"), "are at most 32");
    let mut schedules = Vec::with_capacity(given.len());
    for (index, schedule) in given.iter().enumerate() {
        let field = format!("{FIELD}.schedules[{index}]");
        problems.unless((1..=1000).contains(&schedule.min), &format!("{field}.min"), "is from 1 to 1000");
        match Schedule::parse(schedule) {
            Ok(schedule) => schedules.push(schedule),
            Err(wrong) => problems.say(format!("{field}.{}", wrong.field()), wrong.to_string()),
        }
    }
    schedules
}

fn read_metrics(problems: &mut Problems, given: &[Value]) -> Vec<MetricSpec> {
    let metrics: Vec<MetricSpec> = read(problems, &format!("{FIELD}.metrics"), given);
    for (index, metric) in metrics.iter().enumerate() {
        let MetricSpec { container_resource, external, object, pods, resource, type_ } = metric;
        let named = match type_.as_str() {
            "ContainerResource" => container_resource.is_some(),
            "External" => external.is_some(),
            "Object" => object.is_some(),
            "Pods" => pods.is_some(),
            "Resource" => resource.is_some(),
            _ => {
                let problem = "is ContainerResource, External, Object, Pods or Resource";
                problems.say(format!("{FIELD}.metrics[{index}].type"), problem);
                continue;
            }
        };
        let mut first = type_.chars();
        let source: String = first.next().map(|c| c.to_ascii_lowercase()).into_iter().chain(first).collect();
        problems.unless(
            named,
            &format!("{FIELD}.metrics[{index}].{source}"),
            "is missing: the type says that it is there",
        );
    }
    metrics
}

/// YAML's bare numbers, where Kubernetes takes a quantity: `averageValue: 5`.
fn targets_as_text(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| {
                let value = match (name.as_str(), value) {
                    ("value" | "averageValue", Value::Number(number)) => Value::String(number.to_string()),
                    (_, other) => targets_as_text(other),
                };
                (name.clone(), value)
            });
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}
