//! What an administrator may set on the operator: flags, each with an environment variable `SLUICE_OPERATOR_…`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

/// Taints by which a machine says that it is to be emptied: a cordon (`kubectl cordon`, and whatever uses it), cluster-autoscaler,
/// Karpenter, the same in older releases, and a cloud that has shut the machine down. Not among them is
/// `DeletionCandidateOfClusterAutoscaler`: it is a thought, and often taken back.
pub const DRAIN_TAINTS: [&str; 5] = [
    "node.kubernetes.io/unschedulable",
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "node.cloudprovider.kubernetes.io/shutdown",
];

/// Settings of `sluice-operator run`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Namespaces to look after, separated by commas; all of them when it is empty.
    #[arg(long, env = "SLUICE_OPERATOR_WATCH_NAMESPACES", value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,

    /// This pod's name: who holds the lease.
    #[arg(long, env = "POD_NAME", default_value = "sluice-operator")]
    pub pod_name: String,

    /// This pod's namespace: where the lease and the operator's own Secret are.
    #[arg(long, env = "POD_NAMESPACE", default_value = "sluice-system", value_parser = namespace)]
    pub pod_namespace: String,

    /// The Lease by which one of several operators is elected.
    #[arg(long, env = "SLUICE_OPERATOR_LEASE", default_value = "sluice-operator")]
    pub lease: String,

    /// Who does not renew the lease for this long has lost it.
    #[arg(long, env = "SLUICE_OPERATOR_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    pub lease_duration: Duration,

    /// The holder gives up when it could not renew the lease for this long; less than the lease's duration.
    #[arg(long, env = "SLUICE_OPERATOR_RENEW_DEADLINE", default_value = "10s", value_parser = duration)]
    pub renew_deadline: Duration,

    /// How often the lease is renewed, or looked at by those who wait for it.
    #[arg(long, env = "SLUICE_OPERATOR_RETRY_PERIOD", default_value = "2s", value_parser = duration)]
    pub retry_period: Duration,

    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "SLUICE_OPERATOR_HTTP_ADDR", default_value = "0.0.0.0:8080")]
    pub http_addr: SocketAddr,

    /// Whether metrics are served to autoscalers (`custom.metrics.k8s.io`). Needs its APIServices: the chart's `metricsApi.enabled`.
    #[arg(long, env = "SLUICE_OPERATOR_METRICS_API", default_value_t = false, action = ArgAction::Set)]
    pub metrics_api: bool,

    /// Where they are served, over TLS.
    #[arg(long, env = "SLUICE_OPERATOR_METRICS_ADDR", default_value = "0.0.0.0:8443")]
    pub metrics_addr: SocketAddr,

    /// The Service, in the operator's namespace, by which the API server reaches that.
    #[arg(long, env = "SLUICE_OPERATOR_METRICS_SERVICE", default_value = "sluice-operator-metrics-api")]
    pub metrics_service: String,

    /// Which log lines are written: a level, or levels by module.
    #[arg(long, env = "SLUICE_OPERATOR_LOG", default_value = "info")]
    pub log: String,

    /// How log lines are written.
    #[arg(long, env = "SLUICE_OPERATOR_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,

    /// How many objects of a kind are worked on at once.
    #[arg(long, env = "SLUICE_OPERATOR_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// The DNS domain of the Kubernetes cluster.
    #[arg(long, env = "SLUICE_OPERATOR_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,

    /// The version of nodes whose cluster names none.
    #[arg(long, env = "SLUICE_OPERATOR_NODE_VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    pub node_version: String,

    /// The longest that a node may take to say that nothing changed; reports are as old as this at most while it answers.
    #[arg(long, env = "SLUICE_OPERATOR_NODE_REPORT_INTERVAL", default_value = "2s", value_parser = duration)]
    pub node_report_interval: Duration,

    /// Keys of taints, separated by commas: pods on a machine that has one of them are replaced and drained. Without
    /// node.kubernetes.io/unschedulable a cordon has no such effect.
    #[arg(long, env = "SLUICE_OPERATOR_DRAIN_TAINTS", value_delimiter = ',', default_values = DRAIN_TAINTS, value_parser = taint)]
    pub drain_taints: Vec<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings that contradict each other.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// The times of the lease leave no room for a failed attempt.
    #[error(
        "the times of the lease do not fit together: retry period {retry:?} < renew deadline {deadline:?} < lease duration {duration:?} is needed"
    )]
    Lease {
        /// How often it is renewed.
        retry: Duration,
        /// When its holder gives up.
        deadline: Duration,
        /// When others may take it.
        duration: Duration,
    },
}

impl Settings {
    /// Says whether the settings fit together.
    ///
    /// # Errors
    /// They do not; the error says which.
    pub fn check(&self) -> Result<(), SettingsError> {
        let (retry, deadline, duration) = (self.retry_period, self.renew_deadline, self.lease_duration);
        if retry < deadline && deadline < duration {
            Ok(())
        } else {
            Err(SettingsError::Lease { retry, deadline, duration })
        }
    }

    /// The namespaces to watch, each once; `None` stands for all.
    pub fn namespaces(&self) -> Vec<Option<String>> {
        let mut named: Vec<_> =
            self.watch_namespaces.iter().filter(|name| !name.is_empty()).cloned().collect();
        named.sort();
        named.dedup();
        if named.is_empty() { vec![None] } else { named.into_iter().map(Some).collect() }
    }
}

fn namespace(text: &str) -> Result<String, String> {
    let text = text.trim();
    let good = text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if good { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name of a namespace")) }
}

/// The key of a taint; what is empty stands for none.
fn taint(text: &str) -> Result<String, String> {
    let text = text.trim();
    let name = text.rsplit('/').next().unwrap_or_default();
    let good = text.len() <= 253 + 1 + 63
        && text.matches('/').count() <= 1
        && name.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no key of a taint: write it without value and effect"))
    }
}

/// A time such as `500ms`, `15s` or `2m`; at least 100 ms, at most an hour.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write a number with ms, s or m, such as 15s (100ms to 60m)");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let ms = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    ms.filter(|ms| (100..=3_600_000).contains(ms)).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(args: &[&str]) -> Result<Settings, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"test").chain(args)).map(|cli| cli.settings)
    }

    #[test]
    fn defaults_fit_together() {
        let settings = parse(&[]).expect("defaults");
        assert_eq!(settings.check(), Ok(()));
        assert_eq!(settings.namespaces(), [None]);
        assert_eq!(settings.node_version, env!("CARGO_PKG_VERSION"));
        assert_eq!(settings.lease_duration, Duration::from_secs(15));
        assert!(!settings.metrics_api && parse(&["--metrics-api", "true"]).expect("on").metrics_api);
    }

    #[test]
    fn namespaces_are_a_list_without_doubles() {
        let settings = parse(&["--watch-namespaces", "media,  b,media"]).expect("a list");
        assert_eq!(settings.namespaces(), [Some("b".to_owned()), Some("media".to_owned())]);
        assert_eq!(parse(&["--watch-namespaces", ""]).expect("none").namespaces(), [None]);
        assert!(parse(&["--watch-namespaces", "Media"]).is_err());
    }

    #[test]
    fn taints_are_keys() {
        assert_eq!(parse(&[]).expect("defaults").drain_taints, DRAIN_TAINTS);
        let settings = parse(&["--drain-taints", "example.org/off, cordoned"]).expect("a list");
        assert_eq!(settings.drain_taints, ["example.org/off", "cordoned"]);
        assert_eq!(parse(&["--drain-taints", ""]).expect("none").drain_taints, [""], "which no taint has");
        for wrong in ["a=b", "a:NoSchedule", "a/b/c"] {
            assert!(parse(&["--drain-taints", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_bounded_and_compared() {
        for wrong in ["", "15", "s", "0s", "99ms", "61m", "99999999999999999999s", "1h", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        let settings = parse(&["--renew-deadline", "15s"]).expect("each for itself is fine");
        assert!(matches!(settings.check(), Err(SettingsError::Lease { .. })));
    }
}
