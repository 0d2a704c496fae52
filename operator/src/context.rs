//! What both controllers have at hand.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use sluice_crds::pool::Role;
use sluice_identity::OperatorAuthority;
use sluice_objects::{Cluster, Site};
use sluice_plan::History;
use tokio::sync::watch;

use crate::apply::{Applier, ApplyError};
use crate::cluster::secrets::Memory;
use crate::discovery::Served;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::metrics_api;
use crate::nodes::{Credentials, Nodes};
use crate::owned::{ClusterRef, PoolRef, Stores, Triggers};
use crate::pool::overlay::Overlay;
use crate::pool::status::Problem;
use crate::queue::Failure;
use crate::settings::Settings;

/// Counts are written into a status at most so often.
pub const COUNTS: Duration = Duration::from_secs(5);

/// Everything that a controller works with.
pub struct Context {
    /// The only writer.
    pub applier: Applier,
    /// What is in Kubernetes.
    pub stores: Stores,
    /// Whose turn it is.
    pub triggers: Triggers,
    /// Says things to people.
    pub events: Events,
    /// Counts.
    pub metrics: Metrics,
    /// The nodes, and what they say.
    pub nodes: Nodes,
    /// How the operator was started.
    pub settings: Settings,
    /// Which optional kinds there are.
    pub served: watch::Receiver<Arc<Served>>,
    /// Whether the operator serves metrics to autoscalers.
    pub metrics_api: watch::Receiver<metrics_api::State>,
    /// By which nodes know the operator.
    pub authority: OperatorAuthority,
    /// Generated Secrets that were seen.
    pub secrets: Memory,
    /// Pods as our own writes left them.
    pub overlay: Overlay,
    /// Clusters as their controller left them, for the pools.
    pub prepared: Shelf<ClusterRef, Prepared>,
    /// When counts were written last, by uid.
    pub counted: Shelf<String, Instant>,
    /// What spare slots asked for lately, by the uid of the pool.
    pub floors: Shelf<String, History>,
    /// How many pods were wanted when that was told last, by the uid of the pool.
    pub targets: Shelf<String, i32>,
    /// How many pods are drained, by the uid of their pool.
    pub draining: Shelf<String, i64>,
    /// Since when drained pods are in no list of a Service, by the uids of their pool and of the pod.
    pub unlisted: Shelf<String, HashMap<String, Timestamp>>,
    /// By what pools are reached, by uid.
    pub reached: Shelf<String, String>,
    /// Pods that failed, by the uid of their pool.
    pub failures: Failures,
    /// Settings that nodes refused, by the uid of the pod: of which hash, by which run of the node, and why.
    pub refused: Shelf<String, (String, u32, String)>,
    /// Slots whose names were taken when pods were to be made, until one could be made.
    pub taken: Shelf<PoolRef, BTreeSet<u32>>,
    /// Secrets of users as they were read last.
    pub read: Shelf<(String, String), (Instant, Option<Secret>)>,
}

impl Context {
    /// Where the operator is.
    pub fn site(&self) -> Site {
        Site {
            operator_namespace: self.settings.pod_namespace.clone(),
            operator_ca_pem: self.authority.certificate_pem().to_owned(),
            cluster_domain: self.settings.cluster_domain.clone(),
        }
    }

    /// Forgets what belongs to clusters and pools that are no more.
    pub fn forget_gone(&self) {
        let Stores { clusters, origins, edges, .. } = &self.stores;
        let mut there: HashSet<String> = clusters.all().iter().filter_map(|cluster| cluster.uid()).collect();
        self.secrets.retain(|uid| there.contains(uid));
        there.extend(origins.all().iter().filter_map(|pool| pool.uid()));
        there.extend(edges.all().iter().filter_map(|pool| pool.uid()));
        self.counted.retain(|uid| there.contains(uid));
        self.reached.retain(|uid| there.contains(uid));
        self.draining.retain(|uid| there.contains(uid));
        self.unlisted.retain(|uid| there.contains(uid));
        self.floors.retain(|uid| there.contains(uid));
        self.targets.retain(|uid| there.contains(uid));
        self.count_drains();
        self.failures.0.retain(|uid| there.contains(uid));
        let pods = self.stores.pods.all().iter().filter_map(|pod| pod.uid()).collect::<HashSet<String>>();
        self.refused.retain(|uid| pods.contains(uid));
        self.taken.retain(|key| match key.role {
            Role::Origin => origins.get(&key.namespace, &key.name).is_some(),
            Role::Edge => edges.get(&key.namespace, &key.name).is_some(),
        });
        self.read.with(|all| all.retain(|_, (at, _)| at.elapsed() < HOUR));
    }

    /// Tells the metrics how many pods are drained.
    pub fn count_drains(&self) {
        self.metrics.drains.set(self.draining.with(|all| all.values().sum()));
    }

    /// Whether a status is to be written now: `None` when it is, else after which time. A status that differs in counts alone is
    /// written at most every [`COUNTS`].
    pub fn hold_counts(&self, uid: &str, only_counts: bool) -> Option<Duration> {
        if !only_counts {
            return None;
        }
        let since = self.counted.get(&uid.to_owned())?.elapsed();
        COUNTS.checked_sub(since).filter(|left| !left.is_zero())
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// Pods that failed lately.
#[derive(Default)]
pub struct Failures(Shelf<String, Vec<(Instant, String)>>);

impl Failures {
    /// Failures are remembered for so long.
    const LATELY: Duration = Duration::from_secs(600);

    /// More than make a difference are not kept.
    const MOST: usize = 32;

    /// One more in this pool, of this revision.
    pub fn add(&self, pool: &str, revision: &str) {
        self.0.with(|all| {
            let times = all.entry(pool.to_owned()).or_default();
            times.retain(|(at, _)| at.elapsed() < Self::LATELY);
            if times.len() >= Self::MOST {
                times.remove(0);
            }
            times.push((Instant::now(), revision.to_owned()));
        });
    }

    /// How many there were lately, and how many of those were of this revision.
    pub fn lately(&self, pool: &str, revision: &str) -> (usize, usize) {
        let mut times = self.0.get(&pool.to_owned()).unwrap_or_default();
        times.retain(|(at, _)| at.elapsed() < Self::LATELY);
        (times.len(), times.iter().filter(|(_, of)| of == revision).count())
    }
}

/// A cluster as its pools see it.
#[derive(Clone)]
pub enum Prepared {
    /// Its pods can be made.
    Ready(Arc<Ready>),
    /// They cannot, and why. What runs goes on.
    Not(Problem),
}

/// What a pool needs of its cluster.
pub struct Ready {
    /// The cluster, checked.
    pub cluster: Cluster,
    /// What its nodes are known by.
    pub credentials: Credentials,
    /// SHA-256 of what those were made from.
    pub trust: String,
    /// No pods may be made yet, and why: those that run are kept and heard.
    pub hold: Option<Problem>,
}

/// A few things by key, for all tasks.
pub struct Shelf<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Shelf(Mutex::default())
    }
}

impl<K: Eq + std::hash::Hash, V: Clone> Shelf<K, V> {
    /// What is there.
    pub fn get(&self, key: &K) -> Option<V> {
        self.with(|all| all.get(key).cloned())
    }

    /// Puts it there.
    pub fn put(&self, key: K, value: V) {
        self.with(|all| drop(all.insert(key, value)));
    }

    /// Takes it away.
    pub fn remove(&self, key: &K) {
        self.with(|all| drop(all.remove(key)));
    }

    /// Puts it there, and says whether something else was there (or nothing).
    pub fn changed(&self, key: &K, value: V) -> bool
    where
        K: Clone,
        V: PartialEq,
    {
        self.with(|all| {
            let other = all.get(key) != Some(&value);
            all.insert(key.clone(), value);
            other
        })
    }

    /// Keeps what fits.
    pub fn retain(&self, fits: impl Fn(&K) -> bool) {
        self.with(|all| all.retain(|key, _| fits(key)));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<K, V>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why an object was not brought to its spec.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not take something.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The API server did not answer a question.
    #[error("cannot read {what}: {source}")]
    Read {
        /// What was asked.
        what: &'static str,
        /// What it said.
        source: kube::Error,
    },
}

impl Failure for Error {
    fn reason(&self) -> &'static str {
        match self {
            Error::Apply(error) => error.reason(),
            Error::Read { .. } => "read",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_known_by_pool_and_revision() {
        let failures = Failures::default();
        (0..40).for_each(|_| failures.add("a", "old"));
        failures.add("a", "new");
        failures.add("b", "new");
        // The newest are those that are kept.
        failures.add("a", "new");
        assert_eq!(failures.lately("a", "new"), (Failures::MOST, 2));
        assert_eq!(failures.lately("a", "old"), (Failures::MOST, Failures::MOST - 2));
        assert_eq!((failures.lately("b", "old"), failures.lately("c", "new")), ((1, 0), (0, 0)));
    }
}
