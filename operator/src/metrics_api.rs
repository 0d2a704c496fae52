//! Metrics for autoscalers (`custom.metrics.k8s.io`).

/// Whether the operator serves metrics to autoscalers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was not asked to.
    Off,
    /// It does.
    Serving,
    /// It cannot: a sentence that says why, and the way out.
    Broken(String),
}
