//! What Prometheus learns of the operator. One [`Metrics`] for the process, cheap to clone.

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TEXT_FORMAT, TextEncoder,
};

mod pools;

pub use pools::{More, Pools};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = TEXT_FORMAT;

/// Seconds; a reconcile without writes takes a fraction of a millisecond, one against a slow API server a minute.
const BUCKETS: [f64; 12] = [0.0005, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 20.0, 60.0];

/// All metrics of the operator.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// How long an object was worked on, by `kind` of object.
    pub reconcile_seconds: HistogramVec,
    /// Times that an object could not be brought to its spec, by `kind` and `reason`.
    pub reconcile_failures: IntCounterVec,
    /// Objects that wait to be worked on or to be tried again, by `kind`.
    pub queued: IntGaugeVec,
    /// 1 while this operator holds the lease.
    pub leader: IntGauge,
    /// Requests that change something, by `kind` of object and `verb`; the lease is not among them.
    pub writes: IntCounterVec,
    /// Watches that broke, by `kind`.
    pub watch_failures: IntCounterVec,
    /// Objects that could not be read because they are not what their kind says, by `kind`.
    pub malformed: IntGaugeVec,
    /// Nodes that are asked how they are.
    pub nodes: IntGauge,
    /// Nodes of those that do not answer.
    pub nodes_unreachable: IntGauge,
    /// 1 while machines (Kubernetes nodes) are known, 0 without the right to read them.
    pub machines_known: IntGauge,
    /// Pods that are being emptied.
    pub drains: IntGauge,
    /// Sessions that were still there when their pod was removed: a number that should stay 0.
    pub sessions_cut: IntCounter,
    /// Requests for metrics of autoscalers, by `outcome`.
    pub metrics_api_requests: IntCounterVec,
    /// When the certificate of the metrics API ends, in seconds since 1970; 0 without one.
    pub metrics_api_certificate_expires: IntGauge,
    /// 1 while autoscalers get no metrics though they should.
    pub metrics_api_broken: IntGauge,
    /// Events that were not sent because too many waited.
    pub events_dropped: IntCounter,
    /// What is counted of each pool.
    pub pools: Pools,
}

impl Metrics {
    /// A set of its own, all zero.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let name = |name: &str, help: &str| Opts::new(format!("sluice_operator_{name}"), help);
        let histogram = |metric: &str, help: &str, labels: &[&str]| {
            let opts = HistogramOpts::from(name(metric, help)).buckets(BUCKETS.to_vec());
            register(&registry, HistogramVec::new(opts, labels))
        };
        let counters = |metric: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(name(metric, help), labels))
        };
        let gauges = |metric: &str, help: &str, labels: &[&str]| {
            register(&registry, IntGaugeVec::new(name(metric, help), labels))
        };
        let counter =
            |metric: &str, help: &str| register(&registry, IntCounter::with_opts(name(metric, help)));
        let gauge = |metric: &str, help: &str| register(&registry, IntGauge::with_opts(name(metric, help)));

        let build = gauges("build_info", "Always 1; the release is in the label", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Metrics {
            reconcile_seconds: histogram("reconcile_seconds", "How long an object was worked on", &["kind"]),
            reconcile_failures: counters(
                "reconcile_failures_total",
                "Times that an object could not be brought to its spec",
                &["kind", "reason"],
            ),
            queued: gauges(
                "queued_objects",
                "Objects that wait to be worked on or to be tried again",
                &["kind"],
            ),
            leader: gauge("leader", "1 while this operator holds the lease"),
            writes: counters(
                "writes_total",
                "Requests that change an object, the lease aside",
                &["kind", "verb"],
            ),
            watch_failures: counters(
                "watch_failures_total",
                "Watches that broke and were opened anew",
                &["kind"],
            ),
            malformed: gauges("malformed_objects", "Objects that are not what their kind says", &["kind"]),
            nodes: gauge("nodes", "Media nodes that are asked how they are"),
            nodes_unreachable: gauge("nodes_unreachable", "Media nodes that do not answer"),
            machines_known: gauge(
                "machines_known",
                "1 while Kubernetes nodes are watched, 0 without the right to",
            ),
            drains: gauge("draining_pods", "Pods that are being emptied"),
            sessions_cut: counter(
                "sessions_cut_total",
                "Sessions that were there when their pod was removed",
            ),
            metrics_api_requests: counters(
                "metrics_api_requests_total",
                "Requests for metrics of autoscalers",
                &["outcome"],
            ),
            metrics_api_certificate_expires: gauge(
                "metrics_api_certificate_expires_seconds",
                "When the certificate of the metrics API ends, seconds since 1970; 0 without one",
            ),
            metrics_api_broken: gauge(
                "metrics_api_broken",
                "1 while autoscalers get no metrics from the operator though they should",
            ),
            events_dropped: counter(
                "events_dropped_total",
                "Kubernetes events that were not sent: too many waited",
            ),
            pools: Pools::new(&registry),
            registry,
        }
    }

    /// All of them, in Prometheus' text format.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// Names and labels are constants above, so what is made of them is right or never was: a test makes all of them.
fn register<T: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<T>) -> T {
    let metric = made.expect("name and labels are valid");
    registry.register(Box::new(metric.clone())).expect("each name is registered once");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_what_was_counted() {
        let metrics = Metrics::new();
        metrics.writes.with_label_values(&["Service", "apply"]).inc();
        metrics.reconcile_seconds.with_label_values(&["MediaCluster"]).observe(0.003);
        metrics.leader.set(1);
        let text = metrics.text();
        for line in [
            "sluice_operator_writes_total{kind=\"Service\",verb=\"apply\"} 1",
            "sluice_operator_reconcile_seconds_bucket{kind=\"MediaCluster\",le=\"0.005\"} 1",
            "sluice_operator_leader 1",
            "sluice_operator_sessions_cut_total 0",
            concat!("sluice_operator_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
