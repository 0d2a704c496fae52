//! What is told of how a pool follows its load: pure, from its spec, its autoscaler as Kubernetes has it, and what it asks for.

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, MetricSpec, MetricStatus, MetricTarget,
    MetricValueStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sluice_crds::condition::{Decided, kind};
use sluice_crds::pool::{PoolStatus, Role};
use sluice_plan::{Because, Floor, Load, Seen, Wish};

use crate::events::Note;
use crate::metrics_api::State;

/// The schema's limit of `status.metrics`, in characters.
const METRICS: usize = 256;

/// What is known of how a pool follows its load.
#[derive(Clone, Debug)]
pub struct Scaling<'a> {
    /// What its spec says.
    pub spec: &'a sluice_objects::Scaling,
    /// Its autoscaler, when it is there.
    pub autoscaler: Option<&'a HorizontalPodAutoscaler>,
    /// What spare slots and schedules ask for.
    pub floor: Floor,
    /// Whether the operator serves metrics.
    pub api: State,
}

/// What a pool carries, for its floor: all its sessions, those on pods that drain too, or a drain would look like room.
///
/// `desired` is how many pods were wanted the last time; `unheard`: the operator has not heard all nodes since it started.
pub fn load(role: Role, pods: &[Seen], desired: Option<i32>, unheard: bool) -> Load {
    let mut sessions = (!unheard).then_some(0u32);
    let mut running = 0u32;
    for pod in pods.iter().filter(|pod| !pod.failed && pod.lost.is_none()) {
        match &pod.heard {
            Some(heard) => {
                let more = match role {
                    Role::Origin => heard.publishers,
                    Role::Edge => heard.viewers,
                };
                sessions = sessions.map(|sessions| sessions.saturating_add(more));
            }
            // It serves, and what it serves is not known.
            None if pod.started && pod.ready && !pod.terminating => sessions = None,
            None => {}
        }
        running += u32::from(!pod.terminating && pod.drain.is_none() && pod.ready && pod.accepting);
    }
    let desired = desired.map_or(0, |desired| desired.max(0).unsigned_abs());
    Load { sessions, running: running.min(desired) }
}

impl Scaling<'_> {
    /// `status.metrics`: each metric that is followed, with its value and target for a pod: `viewers 212/100, cpu 34%/60%`.
    pub fn metrics(&self) -> Option<String> {
        let autoscaler = self.autoscaler?;
        let none = Vec::new();
        let current =
            autoscaler.status.as_ref().and_then(|status| status.current_metrics.as_ref()).unwrap_or(&none);
        let followed = autoscaler.spec.as_ref().and_then(|spec| spec.metrics.as_ref())?;
        let texts: Vec<String> = followed.iter().filter_map(|metric| followed_by(metric, current)).collect();
        let text = texts.join(", ");
        let text = if text.chars().count() > METRICS {
            text.chars().take(METRICS - 2).collect::<String>() + " …"
        } else {
            text
        };
        (!text.is_empty()).then_some(text)
    }

    /// The floor. While the autoscaler does not know what it follows, it is not lower than what was wanted before (`desired`): a schedule
    /// that ends, or spare slots, say nothing of the load, and nobody else would ask for the pods that it needs.
    pub fn held(&self, desired: Option<i32>) -> Floor {
        let before = desired.map_or(0, |desired| desired.max(0).unsigned_abs()).min(self.spec.max());
        match self.known() {
            (Some(false), ..) if before > self.floor.pods => {
                Floor { pods: before, because: Some(Because::Unmeasured), ..self.floor }
            }
            _ => self.floor,
        }
    }

    /// Whether what is followed is known.
    pub fn metrics_available(&self) -> Decided {
        let (status, reason, message) = self.known();
        Decided { kind: kind::METRICS_AVAILABLE, status, reason, message }
    }

    fn known(&self) -> (Option<bool>, &'static str, String) {
        let Some(active) = self.says("ScalingActive") else {
            return match self.says("AbleToScale").filter(|able| able.status == "False") {
                Some(able) => (Some(false), "ScaleRefused", cannot_scale(able)),
                None => {
                    let message = "Kubernetes has not looked at the HorizontalPodAutoscaler yet";
                    (None, "Waiting", message.into())
                }
            };
        };
        let said = active.message.clone().unwrap_or_default();
        match (active.status.as_str(), active.reason.as_deref().unwrap_or_default()) {
            ("True", _) => match self.metrics().filter(|text| text.contains(UNKNOWN)) {
                Some(text) => {
                    let message = format!("some are not known, and no pod goes until they are: {text}");
                    (Some(true), "KnownInPart", message)
                }
                None => {
                    let message = "the HorizontalPodAutoscaler has the values that it follows";
                    (Some(true), "Known", message.into())
                }
            },
            (_, "ScalingDisabled") => {
                let message =
                    "the HorizontalPodAutoscaler is off while spec.replicas is 0: write another number";
                (None, "ScalingDisabled", message.into())
            }
            (_, "FailedGetObjectMetric") if self.follows_the_operator() => match &self.api {
                State::Off => {
                    let name =
                        if self.spec.streams_per_pod().is_some() { "streamsPerPod" } else { "viewersPerPod" };
                    let message = format!(
                        "{name} needs the metrics API: install the operator with metricsApi.enabled=true"
                    );
                    (Some(false), "MetricsApiOff", message)
                }
                State::Broken(why) => (Some(false), "MetricsApiBroken", why.clone()),
                State::Serving => (Some(false), "MetricsUnknown", said),
            },
            (_, "FailedGetContainerResourceMetric") if self.spec.cpu_percent().is_some() => {
                let message = format!("cpuPercent needs a metrics server (metrics.k8s.io): {said}");
                (Some(false), "MetricsUnknown", message)
            }
            _ => (Some(false), "MetricsUnknown", said),
        }
    }

    fn follows_the_operator(&self) -> bool {
        self.spec.streams_per_pod().is_some() || self.spec.viewers_per_pod().is_some()
    }

    /// Why there are more or fewer pods than the load asks for.
    pub fn limited(&self, wish: &Wish) -> Decided {
        let (reason, message) = match self.limit(wish) {
            Some((reason, message)) => (reason, message),
            None => ("Free", "there are as many pods as the load asks for".into()),
        };
        Decided { kind: kind::SCALING_LIMITED, status: Some(reason != "Free"), reason, message }
    }

    fn limit(&self, wish: &Wish) -> Option<(&'static str, String)> {
        let (min, max, target) = (wish.min, wish.max, wish.target());
        if wish.stopped {
            let message = "the MediaCluster is stopped: there are no pods, whatever the load is";
            return Some(("Stopped", message.into()));
        }
        if wish.replicas == 0 {
            let message = format!(
                "spec.replicas is 0, so the HorizontalPodAutoscaler is off: {target} pods are kept; write another number to turn it on"
            );
            return Some(("ReplicasZero", message));
        }
        if let (Some(false), _, why) = self.known() {
            return Some(("MetricsUnknown", format!("{target} pods are kept: {why}")));
        }
        let limited = self.says("ScalingLimited").filter(|limited| limited.status == "True");
        let limited = limited.and_then(|limited| limited.reason.as_deref()).unwrap_or_default();
        let followed = self.metrics().map_or_else(String::new, |metrics| format!(" ({metrics})"));
        if wish.replicas > max {
            let message = format!("{} pods are asked for, autoscaling.max is {max}", wish.replicas);
            return Some(("AtMaximum", message));
        }
        if limited == "TooManyReplicas" && wish.replicas == max {
            let message = format!("the load asks for more pods than autoscaling.max = {max}{followed}");
            return Some(("AtMaximum", message));
        }
        if let Some(Because::SpareSlots { sessions, spare }) = self.floor.because
            && spare.pods(sessions) > max
        {
            let message =
                format!("minSpareSlots asks for {} pods, autoscaling.max is {max}", spare.pods(sessions));
            return Some(("AtMaximum", message));
        }
        if let Some((reason, why)) = self.floored(wish) {
            return Some((reason, format!("{target} pods instead of {}: {why}", asked(wish))));
        }
        if wish.scale_in_paused {
            let message = "autoscaling.scaleIn is Paused: no pod goes because there are too many";
            return Some(("ScaleInPaused", message.into()));
        }
        if wish.replicas < min || (limited == "TooFewReplicas" && wish.replicas == min) {
            let message = format!("the load asks for fewer pods than autoscaling.min = {min}{followed}");
            return Some(("AtMinimum", message));
        }
        None
    }

    /// What asks for more pods than are written in the spec.
    fn floored(&self, wish: &Wish) -> Option<(&'static str, String)> {
        let because = self.floor.because.filter(|_| self.floor.pods > asked(wish))?;
        let reason = match because {
            Because::SpareSlots { .. } | Because::Lately { .. } => "SpareSlots",
            Because::Schedule { .. } => "Schedule",
            Because::Unheard | Because::Unmeasured => "MetricsUnknown",
        };
        Some((reason, because.to_string()))
    }

    fn says(&self, kind: &str) -> Option<&HorizontalPodAutoscalerCondition> {
        let conditions = self.autoscaler?.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == kind)
    }
}

/// What is written in the spec, within the limits.
pub fn asked(wish: &Wish) -> u32 {
    wish.replicas.clamp(wish.min, wish.max.max(wish.min))
}

fn cannot_scale(able: &HorizontalPodAutoscalerCondition) -> String {
    format!(
        "the HorizontalPodAutoscaler cannot scale the pool: {}",
        able.message.as_deref().unwrap_or_default()
    )
}

/// How many pods were wanted, as a status tells it; `None` when it is of an operator that did not tell yet: it says 0, with pods there.
pub fn told(status: &PoolStatus) -> Option<i32> {
    let silent = status.desired_replicas == 0 && (status.updated_replicas > 0 || status.ready_replicas > 0);
    (!silent).then_some(status.desired_replicas)
}

/// The event for another number of pods, with what it was decided by.
pub fn decision(before: i32, after: &PoolStatus, wish: &Wish, scaling: Option<&Scaling<'_>>) -> Option<Note> {
    let now = after.desired_replicas;
    let reason = match now.cmp(&before) {
        std::cmp::Ordering::Greater => "ScaledOut",
        std::cmp::Ordering::Less => "ScaledIn",
        std::cmp::Ordering::Equal => return None,
    };
    Some(Note::normal(reason, format!("{before} to {now} pods: {}", why(after, wish, scaling))))
}

fn why(after: &PoolStatus, wish: &Wish, scaling: Option<&Scaling<'_>>) -> String {
    if wish.stopped {
        return "the MediaCluster is stopped".into();
    }
    let Some(scaling) = scaling else { return "spec.replicas says so".into() };
    if let Some((_, why)) = scaling.floored(wish) {
        return why;
    }
    if wish.replicas > wish.max {
        return format!("{} are asked for, autoscaling.max is {}", wish.replicas, wish.max);
    }
    if wish.replicas < wish.min {
        return format!("{} are asked for, autoscaling.min is {}", wish.replicas, wish.min);
    }
    let mut numbers = Vec::new();
    if let Some(target) = scaling.spec.streams_per_pod() {
        numbers.push(format!("streams {}, {target} a pod", after.streams));
    }
    if let Some(target) = scaling.spec.viewers_per_pod() {
        numbers.push(format!("viewers {}, {target} a pod", after.viewers));
    }
    let rest = scaling.spec.cpu_percent().is_some() || numbers.is_empty();
    numbers.extend(scaling.metrics().filter(|_| rest));
    if numbers.is_empty() { "spec.replicas says so".into() } else { numbers.join("; ") }
}

/// What stands for a value that is not there.
const UNKNOWN: &str = "unknown";

fn followed_by(metric: &MetricSpec, current: &[MetricStatus]) -> Option<String> {
    let MetricSpec { container_resource, external, object, pods, resource, type_: _ } = metric;
    let (name, target, value) = if let Some(object) = object {
        let value = current
            .iter()
            .filter_map(|status| status.object.as_ref())
            .find(|status| {
                status.metric == object.metric && status.described_object.name == object.described_object.name
            })
            .map(|status| &status.current);
        (&object.metric.name, &object.target, value)
    } else if let Some(source) = container_resource {
        let value = current
            .iter()
            .filter_map(|status| status.container_resource.as_ref())
            .find(|status| status.name == source.name && status.container == source.container)
            .map(|status| &status.current);
        (&source.name, &source.target, value)
    } else if let Some(source) = resource {
        let value = current
            .iter()
            .filter_map(|status| status.resource.as_ref())
            .find(|status| status.name == source.name)
            .map(|status| &status.current);
        (&source.name, &source.target, value)
    } else if let Some(source) = pods {
        let value = current
            .iter()
            .filter_map(|status| status.pods.as_ref())
            .find(|status| status.metric == source.metric)
            .map(|status| &status.current);
        (&source.metric.name, &source.target, value)
    } else if let Some(source) = external {
        let value = current
            .iter()
            .filter_map(|status| status.external.as_ref())
            .find(|status| status.metric == source.metric)
            .map(|status| &status.current);
        (&source.metric.name, &source.target, value)
    } else {
        return None;
    };
    Some(format!("{name} {}", against(target, value)))
}

fn against(target: &MetricTarget, value: Option<&MetricValueStatus>) -> String {
    let amount = |quantity: &Option<Quantity>| quantity.as_ref().map(plain);
    let percent = |value: Option<i32>| value.map(|value| format!("{value}%"));
    let (now, target) = if target.average_utilization.is_some() {
        (value.and_then(|value| percent(value.average_utilization)), percent(target.average_utilization))
    } else if target.average_value.is_some() {
        (value.and_then(|value| amount(&value.average_value)), amount(&target.average_value))
    } else {
        (value.and_then(|value| amount(&value.value)), amount(&target.value))
    };
    format!("{}/{}", now.unwrap_or_else(|| UNKNOWN.into()), target.unwrap_or_else(|| UNKNOWN.into()))
}

/// A quantity for people: `166667m` is 166.7.
fn plain(quantity: &Quantity) -> String {
    let thousandths = quantity.0.strip_suffix('m').and_then(|digits| digits.parse::<i64>().ok());
    match thousandths {
        Some(thousandths) => {
            let tenths = (thousandths + 50) / 100;
            match tenths % 10 {
                0 => format!("{}", tenths / 10),
                tenth => format!("{}.{tenth}", tenths / 10),
            }
        }
        None => quantity.0.clone(),
    }
}

#[cfg(test)]
#[path = "autoscale_tests.rs"]
mod tests;
