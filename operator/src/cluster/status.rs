//! What a cluster's status says: pure, from its spec, its pools and what their nodes say.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sluice_control::{Report, StoreState};
use sluice_crds::cluster::{AppStatus, Endpoints, MediaClusterStatus, PoolSummary};
use sluice_crds::condition::{self, Decided, kind};
use sluice_crds::pool::{PoolStatus, Role};

use crate::pool::status::{Problem, decided_degraded};

/// A pool of the cluster.
#[derive(Clone, Debug)]
pub struct PoolFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its pods are for.
    pub role: Role,
    /// Pods that its spec wants.
    pub replicas: i32,
    /// Its status, when it has one of its newest spec.
    pub status: Option<&'a PoolStatus>,
    /// What its nodes said last.
    pub reports: Vec<&'a Report>,
}

/// What a status is made from.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// Pinned: the version of the nodes.
    pub version: Option<String>,
    /// Pinned: what stands before the names of the databases.
    pub name_prefix: Option<String>,
    /// SHA-256 of the generated cluster key.
    pub cluster_key_hash: Option<String>,
    /// The pools.
    pub pools: Vec<PoolFacts<'a>>,
    /// What is in the way.
    pub problems: Vec<Problem>,
    /// What is wrong with the database's Secret.
    pub database: Option<Problem>,
    /// What the routes wait for; empty when they are there. `None` when none are asked for.
    pub exposure: Option<Vec<String>>,
    /// Where it is reached.
    pub endpoints: Endpoints,
    /// Its apps.
    pub apps: Vec<AppStatus>,
    /// Left alone.
    pub paused: bool,
    /// No pods are wanted.
    pub stopped: bool,
}

/// The status, following the one before.
pub fn status(facts: Facts<'_>, before: Option<&MediaClusterStatus>, now: Timestamp) -> MediaClusterStatus {
    let mut pools: Vec<PoolSummary> = facts.pools.iter().map(|pool| summary(pool, facts.stopped)).collect();
    pools.sort_by(|a, b| (&a.role, &a.name).cmp(&(&b.role, &b.name)));
    // As many as the schema lists; the sums count all.
    let (ready, desired) =
        pools.iter().fold((0, 0), |(ready, desired), pool| (ready + pool.ready, desired + pool.desired));
    let reports = || facts.pools.iter().flat_map(|pool| pool.reports.iter());
    let mut status = MediaClusterStatus {
        observed_generation: facts.generation,
        phase: None,
        conditions: before.map(|status| status.conditions.clone()).unwrap_or_default(),
        version: facts.version.clone(),
        name_prefix: facts.name_prefix.clone(),
        cluster_key_hash: facts.cluster_key_hash.clone(),
        nodes: Some(format!("{ready}/{desired}")),
        streams: reports().map(|report| i64::from(report.owned)).sum(),
        viewers: reports().map(|report| i64::from(report.viewers)).sum(),
        pools: Vec::new(),
        endpoints: facts.endpoints.clone(),
        apps: facts.apps.clone(),
    };
    let sick = |pool: &PoolFacts<'_>, kind| {
        pool.status.is_some_and(|status| condition::is_true(&status.conditions, kind))
    };
    let says = |pool: &PoolFacts<'_>, kind: &str| {
        let found =
            pool.status.and_then(|status| status.conditions.iter().find(|condition| condition.type_ == kind));
        found
            .map_or_else(|| "it has not been looked at yet".to_owned(), |condition| condition.message.clone())
    };
    let waiting: Vec<String> = facts
        .pools
        .iter()
        .filter(|pool| !sick(pool, kind::READY))
        .map(|pool| format!("{}: {}", pool.name, says(pool, kind::READY)))
        .collect();
    let degraded_pool = facts
        .pools
        .iter()
        .find(|pool| sick(pool, kind::DEGRADED))
        .map(|pool| format!("{}: {}", pool.name, says(pool, kind::DEGRADED)));

    let transition = Time(now);
    let mut set =
        |decided: Decided| condition::set(&mut status.conditions, decided, facts.generation, &transition);

    let problem = facts.problems.first();
    let no_origin = !facts.pools.iter().any(|pool| pool.role == Role::Origin);
    let (ready_now, reason, message) = if let Some(problem) = problem {
        (false, problem.reason, problem.message.clone())
    } else if facts.stopped {
        let left: i64 =
            facts.pools.iter().map(|pool| pool.status.map_or(0, |status| i64::from(status.draining))).sum();
        (
            true,
            "Stopped",
            if left == 0 {
                "no pod runs, as spec.stopped says".to_owned()
            } else {
                format!("{left} pods are being drained")
            },
        )
    } else if no_origin {
        (
            false,
            "NoOrigins",
            "there is no OriginPool with this clusterRef: publishers have nowhere to go".into(),
        )
    } else if waiting.is_empty() {
        (true, "AllPoolsReady", format!("{ready} of {desired} nodes take new sessions"))
    } else {
        (false, "PoolsNotReady", waiting.join("; "))
    };
    set(Decided { kind: kind::READY, status: Some(ready_now), reason, message: message.clone() });
    let moving: Vec<&str> =
        facts.pools.iter().filter(|pool| sick(pool, kind::PROGRESSING)).map(|pool| pool.name).collect();
    set(Decided {
        kind: kind::PROGRESSING,
        status: Some(!moving.is_empty() && !facts.paused),
        reason: if moving.is_empty() || facts.paused { "Done" } else { "PoolsProgressing" },
        message: if moving.is_empty() || facts.paused {
            "nothing is under way".into()
        } else {
            format!("under way: {}", moving.join(", "))
        },
    });
    let stuck = facts.problems.iter().chain(&facts.database).find(|problem| problem.stuck);
    let failed: Vec<&AppStatus> = facts.apps.iter().filter(|app| app.state == "Failed").collect();
    let degraded = match (stuck, degraded_pool) {
        (Some(problem), _) => Some((problem.reason, problem.message.clone())),
        (None, Some(message)) => Some(("PoolDegraded", message)),
        (None, None) => failed.first().map(|app| ("AppFailed", app_failure(app))),
    };
    set(decided_degraded(degraded.as_ref()));
    set(Decided {
        kind: kind::PAUSED,
        status: Some(facts.paused),
        reason: if facts.paused { "SpecPaused" } else { "Running" },
        message: if facts.paused {
            "nothing is changed until spec.paused is false".into()
        } else {
            "changes are applied".into()
        },
    });
    let (database, reason, message) = database(&facts);
    set(Decided { kind: kind::DATABASE_READY, status: database, reason, message });
    let (exposed, reason, message) = match facts.exposure.as_deref() {
        None => {
            (true, "NotAskedFor", "no exposure is asked for: the cluster is reached from inside".to_owned())
        }
        Some([]) => (true, "Exposed", "every route is in place".into()),
        Some(waits) => (false, "Waiting", waits.join("; ")),
    };
    set(Decided { kind: kind::EXPOSURE_READY, status: Some(exposed), reason, message });
    let open: Vec<&str> =
        facts.apps.iter().filter(|app| app.state != "Applied").map(|app| app.name.as_str()).collect();
    set(Decided {
        kind: kind::APPS_READY,
        status: Some(open.is_empty()),
        reason: match (failed.is_empty(), open.is_empty()) {
            (false, _) => "Failed",
            (true, false) => "Waiting",
            (true, true) => "Applied",
        },
        message: match failed.first() {
            Some(app) => app_failure(app),
            None if open.is_empty() => "the apps are as the spec says".into(),
            None => format!("waiting for a node to apply: {}", open.join(", ")),
        },
    });
    status.phase = Some(
        if facts.paused {
            "Paused"
        } else if degraded.is_some() {
            "Degraded"
        } else if facts.stopped {
            "Stopped"
        } else if ready_now && moving.is_empty() {
            "Ready"
        } else if ready == 0 {
            "Pending"
        } else {
            "Progressing"
        }
        .into(),
    );
    pools.truncate(256);
    status.pools = pools;
    status
}

fn app_failure(app: &AppStatus) -> String {
    format!("app {}: {}", app.name, app.message.as_deref().unwrap_or("the node did not say why"))
}

fn summary(pool: &PoolFacts<'_>, stopped: bool) -> PoolSummary {
    PoolSummary {
        name: pool.name.to_owned(),
        role: pool.role.as_str().to_owned(),
        desired: if stopped { 0 } else { pool.replicas },
        ready: pool.status.map_or(0, |status| status.ready_replicas),
        draining: pool.status.map_or(0, |status| status.draining),
        streams: pool.reports.iter().map(|report| i64::from(report.streams)).sum(),
        viewers: pool.reports.iter().map(|report| i64::from(report.viewers)).sum(),
    }
}

fn database(facts: &Facts<'_>) -> (Option<bool>, &'static str, String) {
    if let Some(problem) = &facts.database {
        return (Some(false), problem.reason, problem.message.clone());
    }
    let mut away: Vec<&str> = Vec::new();
    let mut heard = 0;
    for report in facts.pools.iter().flat_map(|pool| &pool.reports) {
        heard += 1;
        if let StoreState::Away { .. } = report.store {
            away.push(&report.node);
        }
    }
    away.sort_unstable();
    let more = away.len().saturating_sub(3);
    let named = away.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    let named = if more > 0 { format!("{named} and {more} more") } else { named };
    match (heard, away.is_empty()) {
        (0, _) => (None, "NotAsked", "no node has said yet whether it reaches the database".into()),
        (_, true) => (Some(true), "Reachable", "every node reaches the database".into()),
        (_, false) => (
            Some(false),
            "Away",
            format!(
                "the database does not answer {named}: what is live goes on; see that it runs, and that the URI in its Secret is right (pods read it when they start: after a change, annotate the pools with sluice.dev/restarted-at)"
            ),
        ),
    }
}

/// The status without what only counts sessions: a difference in the rest is told at once, counts at most every few seconds.
pub fn without_counts(status: &MediaClusterStatus) -> MediaClusterStatus {
    let mut shape = MediaClusterStatus { streams: 0, viewers: 0, ..status.clone() };
    for pool in &mut shape.pools {
        (pool.streams, pool.viewers) = (0, 0);
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("a time")
    }

    fn pool_status(ready: bool, message: &str) -> PoolStatus {
        let mut status = PoolStatus { ready_replicas: i32::from(ready), ..PoolStatus::default() };
        condition::set(
            &mut status.conditions,
            Decided { kind: kind::READY, status: Some(ready), reason: "X", message: message.into() },
            Some(1),
            &Time(at(0)),
        );
        status
    }

    fn facts<'a>(origin: &'a PoolStatus, edge: &'a PoolStatus, reports: &'a [Report]) -> Facts<'a> {
        let of = |name, role, status, reports| PoolFacts {
            name,
            role,
            replicas: 1,
            status: Some(status),
            reports,
        };
        Facts {
            pools: vec![
                of("d-edge", Role::Edge, edge, reports.iter().skip(1).collect()),
                of("d-origin", Role::Origin, origin, reports.iter().take(1).collect()),
            ],
            ..Facts::default()
        }
    }

    fn says<'a>(status: &'a MediaClusterStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
        let condition =
            status.conditions.iter().find(|condition| condition.type_ == kind).expect("it is there");
        (&condition.status, &condition.reason, &condition.message)
    }

    #[test]
    fn streams_are_counted_once_and_viewers_everywhere() {
        let ready = pool_status(true, "fine");
        let reports = [
            Report { streams: 2, owned: 2, viewers: 1, store: StoreState::Reachable, ..Report::default() },
            Report { streams: 2, viewers: 9, store: StoreState::Reachable, ..Report::default() },
        ];
        let status = status(facts(&ready, &ready, &reports), None, at(0));
        assert_eq!((status.streams, status.viewers, status.nodes.as_deref()), (2, 10, Some("2/2")));
        assert_eq!(status.phase.as_deref(), Some("Ready"));
        assert_eq!(says(&status, "DatabaseReady").0, "True");
        assert_eq!(
            status.pools.iter().map(|pool| (pool.role.as_str(), pool.streams)).collect::<Vec<_>>(),
            [("edge", 2), ("origin", 2)]
        );
        assert_eq!(super::status(facts(&ready, &ready, &reports), Some(&status), at(50)), status);
    }

    #[test]
    fn a_database_that_is_away_is_named_and_takes_nothing_else_down() {
        let ready = pool_status(true, "fine");
        let reports = [
            Report { node: "d-origin-0".into(), store: StoreState::Away { since_s: 9 }, ..Report::default() },
            Report::default(),
        ];
        let status = status(facts(&ready, &ready, &reports), None, at(0));
        let (state, reason, message) = says(&status, "DatabaseReady");
        assert_eq!((state, reason), ("False", "Away"));
        assert!(message.contains("d-origin-0"), "{message}");
        assert_eq!(says(&status, "Ready").0, "True");
    }

    #[test]
    fn it_names_the_pool_that_it_waits_for() {
        let (ready, not) = (
            pool_status(true, "fine"),
            pool_status(false, "1 of 1 pods are missing; d-edge-0: no machine takes it"),
        );
        let status = status(facts(&ready, &not, &[]), None, at(0));
        assert_eq!(
            says(&status, "Ready").2,
            "d-edge: 1 of 1 pods are missing; d-edge-0: no machine takes it"
        );
        assert_eq!(status.phase.as_deref(), Some("Progressing"));
    }

    #[test]
    fn a_cluster_without_origins_says_so() {
        let status = status(Facts::default(), None, at(0));
        assert_eq!(says(&status, "Ready").1, "NoOrigins");
    }
}
