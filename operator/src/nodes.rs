//! What the nodes say of themselves: one task for each pod, which asks its node by a long poll and keeps the last answer.
//!
//! A node at rest costs its connection and one small request each [`interval`](crate::settings::Settings::node_report_interval);
//! what changes is known at once. A report is never older than the interval while its node answers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sluice_control::{Apps, AppsResult, Client, ControlError, Drain, LiveSettings, Report, SettingsResult};
use sluice_crds::names;
use sluice_identity::{IdentityError, NodeId, OperatorAuthority, OperatorTls};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

mod change;
#[cfg(test)]
mod tests;

pub use change::Urgency;

use crate::backoff::Backoff;
use crate::metrics::Metrics;
use crate::owned::PoolRef;

/// How many connections are opened at once.
const DIALS: usize = 128;

/// A node that says nothing for this much longer than it was asked to is asked anew.
const SLACK: Duration = Duration::from_secs(3);

/// A node to follow.
#[derive(Clone, Debug)]
pub struct Target {
    /// The pod's uid.
    pub uid: String,
    /// The pod's name: the node's id.
    pub name: String,
    /// `host:port` of its cluster port; an IPv6 host in brackets.
    pub addr: String,
    /// What the nodes of its cluster are known by.
    pub credentials: Credentials,
    /// The pool whose turn it is when the node changes.
    pub pool: PoolRef,
}

/// What the nodes of a cluster are known by; cheap to clone.
#[derive(Clone, Debug)]
pub struct Credentials {
    tls: OperatorTls,
    /// Of what they were made from: other ones make other connections.
    hash: Arc<str>,
}

impl Credentials {
    /// `source` is what `tls` was made from (the cluster key, or the CA's PEM; and the operator's CA).
    pub fn new(tls: OperatorTls, source: &[u8]) -> Credentials {
        Credentials { tls, hash: sluice_crds::generate::hash(source).into() }
    }

    /// For the cluster that has this key.
    ///
    /// # Errors
    /// The key is of no use.
    pub fn of_cluster(authority: &OperatorAuthority, key: &[u8]) -> Result<Credentials, IdentityError> {
        let tls = OperatorTls::from_key(authority, key)?;
        Ok(Credentials::new(tls, &[key, authority.certificate_pem().as_bytes()].concat()))
    }

    /// Of what they were made from.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// A node, as it was seen last.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its last report; none when it never gave one.
    pub report: Option<Arc<Report>>,
    /// When that came; when it is followed since, as long as it gave none.
    pub at: Instant,
    /// It does not answer now.
    pub failure: Option<Failure>,
}

/// Why a node does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Since when.
    pub since: Instant,
    /// How often in a row.
    pub times: u32,
    /// A word: see [`ControlError::kind`].
    pub kind: &'static str,
    /// A sentence.
    pub sentence: String,
}

/// Why a node could not be told something.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The pod is not followed (any more).
    #[error("the pod with uid {0} is not known: it is gone, or has no address yet")]
    Unknown(String),
    /// The node did not take it.
    #[error(transparent)]
    Control(#[from] ControlError),
}

type Changed = Box<dyn Fn(&PoolRef, Urgency) + Send + Sync>;

/// Every node that is followed; cheap to clone.
#[derive(Clone)]
pub struct Nodes(Arc<Inner>);

struct Inner {
    tracked: Mutex<HashMap<String, Tracked>>,
    dials: Semaphore,
    interval: Duration,
    changed: Changed,
    metrics: Metrics,
}

struct Tracked {
    addr: String,
    credentials: Arc<str>,
    pool: PoolRef,
    client: Client,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::AbortHandle,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nodes(…)")
    }
}

impl Nodes {
    /// Nobody yet. `changed` is called when a node of the pool changed: it must not wait.
    pub fn new(
        interval: Duration,
        metrics: &Metrics,
        changed: impl Fn(&PoolRef, Urgency) + Send + Sync + 'static,
    ) -> Nodes {
        Nodes(Arc::new(Inner {
            tracked: Mutex::default(),
            dials: Semaphore::new(DIALS),
            interval,
            changed: Box::new(changed),
            metrics: metrics.clone(),
        }))
    }

    /// Follows this node from now on; nothing happens when it is followed already. With another address or other credentials
    /// it is asked anew, and its last report stays.
    ///
    /// # Errors
    /// The operator's certificate is of no use.
    pub fn track(&self, target: Target) -> Result<(), IdentityError> {
        let Target { uid, name, addr, credentials, pool } = target;
        let mut tracked = self.lock();
        let before = tracked.get(&uid);
        if before.is_some_and(|t| t.addr == addr && t.credentials == credentials.hash && t.pool == pool) {
            return Ok(());
        }
        let client = Client::new(&credentials.tls, NodeId::new(name), addr.as_str())?;
        let seen = match before {
            Some(before) => before.seen.clone(),
            None => Arc::new(Mutex::new(Seen { report: None, at: Instant::now(), failure: None })),
        };
        let follow = Follow {
            nodes: Arc::downgrade(&self.0),
            client: client.clone(),
            pool: pool.clone(),
            seen: seen.clone(),
        };
        let task = tokio::spawn(follow.run()).abort_handle();
        tracked.insert(uid, Tracked { addr, credentials: credentials.hash, pool, client, seen, task });
        self.count(&tracked);
        Ok(())
    }

    /// Follows the nodes of these pods, those of a pool that have an address, and no others of it.
    pub fn follow(&self, pool: &PoolRef, credentials: &Credentials, pods: &[Arc<Pod>]) {
        let mut uids = HashSet::new();
        for pod in pods {
            let (Some(uid), Some(ip)) = (
                pod.metadata.uid.as_deref(),
                pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()),
            ) else {
                continue;
            };
            uids.insert(uid);
            let addr = if ip.contains(':') {
                format!("[{ip}]:{}", names::port::CLUSTER)
            } else {
                format!("{ip}:{}", names::port::CLUSTER)
            };
            let target = Target {
                uid: uid.to_owned(),
                name: pod.name_any(),
                addr,
                credentials: credentials.clone(),
                pool: pool.clone(),
            };
            if let Err(error) = self.track(target) {
                tracing::error!(%pool, pod = %pod.name_any(), %error, "the node cannot be asked how it is");
            }
        }
        self.retain(pool, &uids);
    }

    /// Forgets the nodes of this pool but for these.
    pub fn retain(&self, pool: &PoolRef, uids: &HashSet<&str>) {
        let mut tracked = self.lock();
        tracked.retain(|uid, node| node.pool != *pool || uids.contains(uid.as_str()));
        self.count(&tracked);
    }

    /// The node of this pod as it was seen last; `None` when it is not followed.
    pub fn get(&self, uid: &str) -> Option<Seen> {
        let seen = self.lock().get(uid)?.seen.clone();
        let seen = lock(&seen).clone();
        Some(seen)
    }

    /// How many are followed.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is followed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Orders the node to let no new sessions in.
    ///
    /// # Errors
    /// It is not followed, does not answer, or refuses.
    pub async fn drain(&self, uid: &str, order: &Drain) -> Result<(), NodeError> {
        Ok(self.client(uid)?.drain(order).await?)
    }

    /// Takes that back.
    ///
    /// # Errors
    /// It is not followed, does not answer, or refuses.
    pub async fn undrain(&self, uid: &str) -> Result<(), NodeError> {
        Ok(self.client(uid)?.undrain().await?)
    }

    /// Has this node make the cluster's apps what they should be.
    ///
    /// # Errors
    /// It is not followed, or does not answer. What failed of the apps is in the result.
    pub async fn apply_apps(&self, uid: &str, apps: &Apps) -> Result<AppsResult, NodeError> {
        Ok(self.client(uid)?.apply_apps(apps).await?)
    }

    /// Sets the node's live settings.
    ///
    /// # Errors
    /// It is not followed, or does not answer. What it refuses is in the result.
    pub async fn apply_settings(
        &self,
        uid: &str,
        settings: &LiveSettings,
    ) -> Result<SettingsResult, NodeError> {
        Ok(self.client(uid)?.apply_settings(settings).await?)
    }

    fn client(&self, uid: &str) -> Result<Client, NodeError> {
        let client = self.lock().get(uid).map(|node| node.client.clone());
        client.ok_or_else(|| NodeError::Unknown(uid.to_owned()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Tracked>> {
        lock(&self.0.tracked)
    }

    fn count(&self, tracked: &HashMap<String, Tracked>) {
        self.0.metrics.nodes.set(i64::try_from(tracked.len()).unwrap_or(i64::MAX));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks one node again and again.
struct Follow {
    nodes: std::sync::Weak<Inner>,
    client: Client,
    pool: PoolRef,
    seen: Arc<Mutex<Seen>>,
}

impl Follow {
    async fn run(self) {
        let mut unreachable = Unreachable::default();
        let mut known = None;
        while let Some(nodes) = self.nodes.upgrade() {
            let interval = nodes.interval;
            let begun = Instant::now();
            let answer = match known {
                Some(_) => {
                    // Nothing is held while the node thinks.
                    drop(nodes);
                    timeout(interval + SLACK, self.client.report(known, interval)).await
                }
                None => {
                    // The first question opens a connection and is answered at once: so many at a time.
                    let _dial = nodes.dials.acquire().await;
                    timeout(interval + SLACK, self.client.report(None, Duration::ZERO)).await
                }
            };
            let answer = answer.unwrap_or_else(|_| {
                Err(ControlError::Timeout {
                    node: self.client.node().clone(),
                    addr: self.client.addr().to_owned(),
                    doing: "report",
                    within: interval + SLACK,
                })
            });
            let Some(nodes) = self.nodes.upgrade() else { return };
            match answer {
                Ok(report) => {
                    unreachable.set(None);
                    // A node that does not wait must not make us spin: changes come no faster than this.
                    let again_at = begun + Duration::from_millis(100);
                    known = Some(report.revision);
                    self.learn(&nodes, report);
                    drop(nodes);
                    tokio::time::sleep_until(again_at).await;
                }
                Err(error) => {
                    unreachable.set(Some(&nodes.metrics));
                    known = None;
                    let times = self.fail(&nodes, &error);
                    drop(nodes);
                    sleep(Backoff::NODE.draw(times)).await;
                }
            }
        }
    }

    fn learn(&self, nodes: &Inner, report: Report) {
        let urgency = {
            let mut seen = lock(&self.seen);
            let urgency = change::between(seen.report.as_deref(), &report, seen.failure.is_some());
            *seen = Seen { report: Some(Arc::new(report)), at: Instant::now(), failure: None };
            urgency
        };
        if let Some(urgency) = urgency {
            (nodes.changed)(&self.pool, urgency);
        }
    }

    /// How often in a row it has failed now.
    fn fail(&self, nodes: &Inner, error: &ControlError) -> u32 {
        let (times, first, other) = {
            let mut seen = lock(&self.seen);
            let before = seen.failure.take();
            let other = before.as_ref().is_none_or(|before| before.kind != error.kind());
            let (since, times) =
                before.map_or((Instant::now(), 1), |before| (before.since, before.times.saturating_add(1)));
            seen.failure = Some(Failure { since, times, kind: error.kind(), sentence: error.to_string() });
            (times, times == 1, other)
        };
        tracing::debug!(pool = %self.pool, %error, times, "a node does not say how it is");
        // One that failed is asked again at once: it may only have lost its connection.
        if (other && !first) || times == 2 {
            (nodes.changed)(&self.pool, Urgency::Now);
        }
        times
    }
}

/// Counts this node among the unreachable ones, until it is dropped.
#[derive(Default)]
struct Unreachable(Option<Metrics>);

impl Unreachable {
    fn set(&mut self, unreachable: Option<&Metrics>) {
        match (self.0.take(), unreachable) {
            (None, Some(metrics)) => {
                metrics.nodes_unreachable.inc();
                self.0 = Some(metrics.clone());
            }
            (Some(metrics), None) => metrics.nodes_unreachable.dec(),
            (before, _) => self.0 = before,
        }
    }
}

impl Drop for Unreachable {
    fn drop(&mut self) {
        self.set(None);
    }
}
