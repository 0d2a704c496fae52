//! What is counted of each pool: its pods, its sessions, what limits it. A pool that goes takes its numbers along.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use sluice_crds::condition::{is_true, kind};
use sluice_crds::pool::PoolStatus;

use super::register;
use crate::owned::PoolRef;

/// Of which pool; each metric has these labels.
const POOL: [&str; 3] = ["namespace", "pool", "role"];

/// The numbers of all pools.
#[derive(Clone, Debug)]
pub struct Pools {
    /// Pods, by `state`.
    pods: IntGaugeVec,
    /// Sessions, by `kind`.
    sessions: IntGaugeVec,
    /// Sessions that a pod is to have, by `kind`.
    per_pod: IntGaugeVec,
    /// When the drain began that lasts longest.
    oldest: IntGaugeVec,
    /// 1 while something else than the load decides, by `reason`.
    limited: IntGaugeVec,
    /// 1 while the metrics that are followed are not known.
    unknown: IntGaugeVec,
    /// 1 while its rollout is halted.
    halted: IntGaugeVec,
    /// Decisions for another number of pods, by `direction`.
    decisions: IntCounterVec,
}

/// Why the number of pods is not what the load asks for: the reasons of `ScalingLimited`.
const REASONS: [&str; 8] = [
    "AtMaximum",
    "AtMinimum",
    "SpareSlots",
    "Schedule",
    "ScaleInPaused",
    "Stopped",
    "ReplicasZero",
    "MetricsUnknown",
];
const STATES: [&str; 3] = ["desired", "accepting", "draining"];
const KINDS: [&str; 3] = ["streams", "publishers", "viewers"];
const DIRECTIONS: [&str; 2] = ["out", "in"];

/// What the status of a pool does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct More {
    /// When the drain began that lasts longest, in seconds of Unix time.
    pub oldest_drain: Option<i64>,
    /// Its rollout is halted.
    pub halted: bool,
    /// Streams that a pod is to have.
    pub streams_per_pod: Option<u32>,
    /// Viewers that a pod is to have.
    pub viewers_per_pod: Option<u32>,
}

impl Pools {
    pub(super) fn new(registry: &Registry) -> Pools {
        let name = |name: &str, help: &str| Opts::new(format!("sluice_operator_{name}"), help);
        let labels = |more: &[&'static str]| POOL.iter().chain(more).copied().collect::<Vec<_>>();
        let gauges = |metric: &str, help: &str, more: &[&'static str]| {
            register(registry, IntGaugeVec::new(name(metric, help), &labels(more)))
        };
        let counters = |metric: &str, help: &str, more: &[&'static str]| {
            register(registry, IntCounterVec::new(name(metric, help), &labels(more)))
        };
        Pools {
            pods: gauges(
                "pool_pods",
                "Pods of a pool: wanted, taking new sessions, being emptied",
                &["state"],
            ),
            sessions: gauges("pool_sessions", "Sessions on the pods of a pool, draining ones too", &["kind"]),
            per_pod: gauges(
                "pool_target_per_pod",
                "Sessions that a pod of the pool is to have on average",
                &["kind"],
            ),
            oldest: gauges(
                "drain_oldest_timestamp_seconds",
                "When the drain of a pool began that lasts longest; absent when none does",
                &[],
            ),
            limited: gauges(
                "scaling_limited",
                "1 while something else than the load decides how many pods there are",
                &["reason"],
            ),
            unknown: gauges(
                "scaling_metrics_unknown",
                "1 while what the number of pods follows is not known",
                &[],
            ),
            halted: gauges(
                "rollout_halted",
                "1 while a rollout is halted because new pods are not well",
                &[],
            ),
            decisions: counters(
                "scale_decisions_total",
                "Times that another number of pods was wanted",
                &["direction"],
            ),
        }
    }

    /// How a pool is now.
    pub fn tell(&self, pool: &PoolRef, status: &PoolStatus, more: More) {
        let role = pool.role.as_str();
        let own = [&*pool.namespace, &*pool.name, role];
        let with = |label: &'static str| [own[0], own[1], own[2], label];
        let counts = [status.desired_replicas, status.ready_replicas, status.draining];
        for (state, count) in STATES.into_iter().zip(counts) {
            self.pods.with_label_values(&with(state)).set(i64::from(count));
        }
        for (kind, count) in KINDS.into_iter().zip([status.streams, status.publishers, status.viewers]) {
            self.sessions.with_label_values(&with(kind)).set(count);
        }
        for (kind, target) in [("streams", more.streams_per_pod), ("viewers", more.viewers_per_pod)] {
            put(&self.per_pod, &with(kind), target.map(i64::from));
        }
        put(&self.oldest, &own, more.oldest_drain);
        let limited = status.conditions.iter().find(|condition| condition.type_ == kind::SCALING_LIMITED);
        let reason =
            limited.filter(|limited| limited.status == "True").map(|limited| limited.reason.as_str());
        for known in REASONS {
            put(&self.limited, &with(known), (reason == Some(known)).then_some(1));
        }
        let scaled = status.conditions.iter().any(|condition| condition.type_ == kind::METRICS_AVAILABLE);
        let known = is_true(&status.conditions, kind::METRICS_AVAILABLE);
        put(&self.unknown, &own, scaled.then_some(i64::from(!known)));
        put(&self.halted, &own, Some(i64::from(more.halted)));
    }

    /// Another number of pods is wanted.
    pub fn decided(&self, pool: &PoolRef, out: bool) {
        let [more, fewer] = DIRECTIONS;
        let direction = if out { more } else { fewer };
        self.decisions.with_label_values(&[&pool.namespace, &pool.name, pool.role.as_str(), direction]).inc();
    }

    /// A pool is no more.
    pub fn gone(&self, pool: &PoolRef) {
        let own = [&*pool.namespace, &*pool.name, pool.role.as_str()];
        for vec in [&self.oldest, &self.unknown, &self.halted] {
            put(vec, &own, None);
        }
        for (vec, labels) in [
            (&self.pods, &STATES[..]),
            (&self.sessions, &KINDS[..]),
            (&self.per_pod, &KINDS[..]),
            (&self.limited, &REASONS[..]),
        ] {
            for label in labels {
                put(vec, &[own[0], own[1], own[2], *label], None);
            }
        }
        for direction in DIRECTIONS {
            // One that was never counted is not there.
            let _ = self.decisions.remove_label_values(&[own[0], own[1], own[2], direction]);
        }
    }
}

/// Sets it, or takes it away.
fn put(gauges: &IntGaugeVec, labels: &[&str], value: Option<i64>) {
    match value {
        Some(value) => gauges.with_label_values(labels).set(value),
        // One that was never set is not there.
        None => drop(gauges.remove_label_values(labels)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use sluice_crds::condition::{Decided, set};
    use sluice_crds::pool::Role;

    use super::super::Metrics;
    use super::*;

    fn status(limited: &'static str) -> PoolStatus {
        let mut status = PoolStatus {
            desired_replicas: 4,
            ready_replicas: 3,
            draining: 1,
            viewers: 380,
            ..PoolStatus::default()
        };
        for (kind, yes, reason) in
            [(kind::SCALING_LIMITED, limited != "Free", limited), (kind::METRICS_AVAILABLE, true, "Known")]
        {
            let decided = Decided { kind, status: Some(yes), reason, message: String::new() };
            set(&mut status.conditions, decided, None, &Time(jiff::Timestamp::UNIX_EPOCH));
        }
        status
    }

    #[test]
    fn a_pool_has_numbers_as_long_as_it_is_there() {
        let metrics = Metrics::new();
        let pool = PoolRef::new(Role::Edge, "media", "demo-edge");
        let more = More { oldest_drain: Some(17), viewers_per_pod: Some(100), ..More::default() };
        metrics.pools.tell(&pool, &status("AtMaximum"), more);
        metrics.pools.decided(&pool, true);
        let text = metrics.text();
        let of = "namespace=\"media\",pool=\"demo-edge\"";
        for line in [
            format!("sluice_operator_pool_pods{{{of},role=\"edge\",state=\"accepting\"}} 3"),
            format!("sluice_operator_pool_sessions{{kind=\"viewers\",{of},role=\"edge\"}} 380"),
            format!("sluice_operator_pool_target_per_pod{{kind=\"viewers\",{of},role=\"edge\"}} 100"),
            format!("sluice_operator_drain_oldest_timestamp_seconds{{{of},role=\"edge\"}} 17"),
            format!("sluice_operator_scaling_limited{{{of},reason=\"AtMaximum\",role=\"edge\"}} 1"),
            format!("sluice_operator_scaling_metrics_unknown{{{of},role=\"edge\"}} 0"),
            format!("sluice_operator_scale_decisions_total{{direction=\"out\",{of},role=\"edge\"}} 1"),
        ] {
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        metrics.pools.tell(&pool, &status("Free"), More::default());
        let text = metrics.text();
        for gone in ["scaling_limited{", "drain_oldest_timestamp_seconds{", "pool_target_per_pod{"] {
            assert!(!text.contains(gone), "{gone} is in\n{text}");
        }
        metrics.pools.gone(&pool);
        assert!(!metrics.text().contains("demo-edge"), "{}", metrics.text());
    }
}
