//! What a metric is worth, from what nodes said and when. Pure.
//!
//! A number that is not known is never given as if it were: an autoscaler that is told nothing keeps what there is, one that is
//! told 0 removes pods.

use std::sync::Arc;
use std::time::Duration;

use sluice_control::Report;
use sluice_crds::names::metric;
use sluice_crds::pool::{Capacity, Role};
use sluice_custom_metrics::{Quantity, Refusal};

/// What a node said is believed for so long.
const FRESH: Duration = Duration::from_secs(30);

/// A pod that is neither heard nor Ready has no sessions any more after so long.
const GONE: Duration = Duration::from_secs(60);

/// A pod of a pool.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    /// Its name.
    pub name: String,
    /// Kubernetes says that it is Ready.
    pub ready: bool,
    /// Kubernetes says that its node's process was up.
    pub started: bool,
    /// All its processes have ended, for good.
    pub over: bool,
    /// What its node said last.
    pub report: Option<Arc<Report>>,
    /// How long ago that was, or for how long it has been asked in vain.
    pub silent: Duration,
}

/// What is known of a pod's sessions.
enum Known<'a> {
    /// What its node says.
    Said(&'a Report),
    /// It has none.
    Nothing,
    /// It may have some: a sentence that says why that is not known.
    Unknown(String),
}

impl Pod {
    fn known(&self) -> Known<'_> {
        if self.over {
            return Known::Nothing;
        }
        match &self.report {
            Some(report) if self.silent <= FRESH => return Known::Said(report),
            None if !self.started && !self.ready => return Known::Nothing,
            _ => {}
        }
        if !self.ready && self.silent >= GONE {
            return Known::Nothing;
        }
        let state = if self.ready { "Ready" } else { "not Ready" };
        Known::Unknown(format!(
            "pod {} is {state} and has not told the operator how it is for {} s",
            self.name,
            self.silent.as_secs()
        ))
    }
}

/// A pool, as far as its metrics depend on it.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// Its kind and name, for people.
    pub title: String,
    /// What its pods are for.
    pub role: Role,
    /// How much one pod takes.
    pub capacity: Capacity,
}

/// A value, and how old the oldest part of it is.
pub(super) type Aged = (Quantity, Duration);

impl Pool {
    /// What a metric of the whole pool is worth: of all its pods, whether they take new sessions or not.
    pub(super) fn value(&self, metric: &str, pods: &[Pod]) -> Result<Aged, Refusal> {
        self.has(metric)?;
        let mut sum = Quantity::default();
        let (mut oldest, mut said, mut counted) = (Duration::ZERO, false, false);
        for pod in pods {
            match pod.known() {
                Known::Nothing => {}
                Known::Unknown(why) => {
                    return Err(Refusal::Unknown(format!("{metric} of {} is not known: {why}", self.title)));
                }
                Known::Said(report) => {
                    said = true;
                    oldest = oldest.max(pod.silent);
                    if let Some(value) = self.of(metric, report) {
                        counted = true;
                        sum = sum + value;
                    }
                }
            }
        }
        if said && !counted {
            return Err(Refusal::NotFound(format!(
                "no pod of {} has {metric}: its nodes do not transcode",
                self.title
            )));
        }
        Ok((sum, oldest))
    }

    /// What a metric of one of its pods is worth.
    pub(super) fn value_of(&self, metric: &str, pod: &Pod) -> Result<Aged, Refusal> {
        self.has(metric)?;
        let none =
            || Refusal::NotFound(format!("pod {} has no {metric}: its node does not transcode", pod.name));
        match pod.known() {
            Known::Said(report) => self.of(metric, report).map(|value| (value, pod.silent)).ok_or_else(none),
            Known::Nothing => Err(Refusal::Unknown(format!("pod {} does not run", pod.name))),
            Known::Unknown(why) => Err(Refusal::Unknown(why)),
        }
    }

    /// Whether such a pool can have this metric.
    fn has(&self, metric: &str) -> Result<(), Refusal> {
        if metric == metric::CAPACITY_USED && self.limits() == (None, None) {
            let field = match self.role {
                Role::Origin => "spec.capacity.streams (or viewers)",
                Role::Edge => "spec.capacity.viewers",
            };
            return Err(Refusal::NotFound(format!(
                "{} has no {metric}: set {field}, how much one pod takes",
                self.title
            )));
        }
        Ok(())
    }

    /// Streams and viewers that one pod takes. Nobody publishes to an edge.
    fn limits(&self) -> (Option<u32>, Option<u32>) {
        (self.capacity.streams.filter(|_| self.role == Role::Origin), self.capacity.viewers)
    }

    /// `None` where this node has no such thing.
    fn of(&self, metric: &str, report: &Report) -> Option<Quantity> {
        let streams = match self.role {
            Role::Origin => report.published(),
            Role::Edge => report.streams,
        };
        Some(match metric {
            metric::STREAMS => Quantity::whole(streams.into()),
            metric::VIEWERS => Quantity::whole(report.viewers.into()),
            metric::EGRESS => Quantity::whole(report.load.egress_bits_s),
            metric::ENCODER_LOAD => {
                let tenths = (f64::from(report.load.encoder_percent?) * 10.0).round().max(0.0);
                // A report's percentages are between 0 and 100.
                Quantity::thousandths(tenths as u64)
            }
            metric::CAPACITY_USED => {
                let (of_streams, of_viewers) = self.limits();
                let used = |count: u32, limit: Option<u32>| {
                    limit.map_or(Quantity::default(), |limit| Quantity::fraction(count.into(), limit.into()))
                };
                used(streams, of_streams).max(used(report.viewers, of_viewers))
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use sluice_control::Load;

    use super::*;

    fn pool(role: Role, streams: Option<u32>, viewers: Option<u32>) -> Pool {
        Pool { title: "OriginPool media/o".into(), role, capacity: Capacity { streams, viewers } }
    }

    fn heard(name: &str, silent: u64, report: Report) -> Pod {
        Pod {
            name: name.into(),
            ready: true,
            started: true,
            over: false,
            report: Some(Arc::new(report)),
            silent: Duration::from_secs(silent),
        }
    }

    fn report(owned: u32, viewers: u32) -> Report {
        Report {
            publishers: owned,
            owned,
            streams: owned + 100,
            viewers,
            load: Load { egress_bits_s: 1_000_000, ..Load::default() },
            ..Report::default()
        }
    }

    fn worth(pool: &Pool, metric: &str, pods: &[Pod]) -> Result<String, Refusal> {
        pool.value(metric, pods).map(|(value, _)| value.to_string())
    }

    #[test]
    fn all_sessions_count_as_the_role_counts_them() {
        let pods = [heard("o-0", 1, report(3, 10)), heard("o-1", 4, report(2, 0))];
        let origins = pool(Role::Origin, Some(10), Some(100));
        assert_eq!(worth(&origins, metric::STREAMS, &pods), Ok("5".into()));
        assert_eq!(worth(&origins, metric::VIEWERS, &pods), Ok("10".into()));
        assert_eq!(worth(&origins, metric::EGRESS, &pods), Ok("2000000".into()));
        // 3/10 against 10/100, and 2/10.
        assert_eq!(worth(&origins, metric::CAPACITY_USED, &pods), Ok("500m".into()));
        let edges = pool(Role::Edge, Some(10), Some(20));
        assert_eq!(worth(&edges, metric::STREAMS, &pods), Ok("205".into()));
        assert_eq!(worth(&edges, metric::CAPACITY_USED, &pods), Ok("500m".into()));
        assert_eq!(origins.value(metric::STREAMS, &pods).map(|(_, age)| age), Ok(Duration::from_secs(4)));
        assert_eq!(worth(&origins, metric::STREAMS, &[]), Ok("0".into()));
    }

    #[test]
    fn what_a_pool_cannot_have_is_not_zero() {
        let pods = [heard("o-0", 1, report(3, 10))];
        let said = |result: Result<String, Refusal>| match result {
            Err(Refusal::NotFound(why)) => why,
            other => panic!("{other:?}"),
        };
        let bare = pool(Role::Edge, Some(10), None);
        assert!(said(worth(&bare, metric::CAPACITY_USED, &[])).contains("spec.capacity.viewers"));
        assert!(said(worth(&bare, metric::ENCODER_LOAD, &pods)).contains("do not transcode"));
        let busy = |percent| {
            let mut report = report(1, 0);
            report.load.encoder_percent = Some(percent);
            report
        };
        let both = [heard("o-0", 1, busy(62.5)), heard("o-1", 1, busy(50.0)), heard("o-2", 1, report(0, 0))];
        assert_eq!(worth(&bare, metric::ENCODER_LOAD, &both), Ok("1125m".into()));
        assert!(matches!(bare.value_of(metric::ENCODER_LOAD, &both[2]), Err(Refusal::NotFound(_))));
        assert_eq!(
            bare.value_of(metric::ENCODER_LOAD, &both[1]).map(|(value, _)| value.to_string()),
            Ok("500m".into())
        );
    }

    #[test]
    fn what_is_stale_is_unknown_and_never_less() {
        let origins = pool(Role::Origin, None, None);
        let fresh = heard("o-0", 30, report(3, 0));
        let stale = heard("o-1", 31, report(4, 0));
        let said = match origins.value(metric::STREAMS, &[fresh.clone(), stale.clone()]) {
            Err(Refusal::Unknown(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(
            said.contains("o-1") && said.contains("31 s") && said.contains("OriginPool media/o"),
            "{said}"
        );

        // However long a Ready pod is silent.
        let ever = Pod { silent: Duration::from_secs(3600), ..stale.clone() };
        assert!(matches!(origins.value(metric::STREAMS, &[ever]), Err(Refusal::Unknown(_))));
        // One that is not Ready is waited for.
        let failing = Pod { ready: false, silent: Duration::from_secs(59), ..stale.clone() };
        assert!(matches!(
            origins.value(metric::STREAMS, std::slice::from_ref(&failing)),
            Err(Refusal::Unknown(_))
        ));
        let gone = Pod { silent: Duration::from_secs(60), ..failing.clone() };
        assert_eq!(worth(&origins, metric::STREAMS, &[fresh.clone(), gone.clone()]), Ok("3".into()));
        assert!(matches!(origins.value_of(metric::STREAMS, &gone), Err(Refusal::Unknown(_))));
        // A node that answers is believed, whatever the kubelet says.
        let answers = Pod { ready: false, started: false, ..fresh.clone() };
        assert_eq!(worth(&origins, metric::STREAMS, &[answers]), Ok("3".into()));
    }

    #[test]
    fn pods_that_cannot_have_sessions_do_not_hide_the_others() {
        let origins = pool(Role::Origin, None, None);
        let fresh = heard("o-0", 0, report(3, 0));
        let pending = Pod { ready: false, started: false, report: None, ..heard("o-1", 5, report(9, 0)) };
        let failed = Pod { over: true, ready: false, ..heard("o-2", 5, report(9, 0)) };
        assert_eq!(
            worth(&origins, metric::STREAMS, &[fresh.clone(), pending.clone(), failed]),
            Ok("3".into())
        );
        // One that runs and was not heard yet may have some: right after the operator's start.
        let unheard = Pod { ready: true, started: true, ..pending.clone() };
        assert!(matches!(origins.value(metric::STREAMS, &[fresh, unheard]), Err(Refusal::Unknown(_))));
        // A kubelet that was restarted says for a moment that nothing has started: who was heard has.
        let forgotten = Pod { ready: false, started: false, ..heard("o-3", 31, report(1, 0)) };
        assert!(matches!(origins.value(metric::STREAMS, &[forgotten]), Err(Refusal::Unknown(_))));
    }
}
