//! The machines of the cluster (Kubernetes calls them nodes): one watch, which the operator can do without.
//!
//! Of each only what tells whether pods can stay there is kept. Where the operator may not read machines, nothing is known of any of
//! them, and everything else goes on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::{Config, Error, Event, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;

use super::cache::Cache;
use super::watch::{Failures, Slim, Source, applied, listed};
use super::{CacheEvent, Stores, Triggers};

/// A machine that left is remembered for so long: until then a pod that is younger may wait for one that is new.
const DEPARTED: Duration = Duration::from_secs(60);

/// How often it is tried again to read machines, when that is forbidden.
const FORBIDDEN: Duration = Duration::from_secs(60);

/// So many refusals in a row, [`SOON`] apart, are none: an API server that has just started refuses what is granted, until it has read the
/// roles.
const EARLY: u32 = 5;

/// After an early refusal.
const SOON: Duration = Duration::from_secs(2);

/// What is known of all machines; cheap to clone.
#[derive(Clone, Default)]
pub struct Machines(Arc<Inner>);

struct Inner {
    nodes: Cache<Node>,
    /// Those that were there, and left lately.
    departed: Mutex<HashMap<String, Instant>>,
    forbidden: watch::Sender<bool>,
}

impl Default for Inner {
    fn default() -> Inner {
        Inner { nodes: Cache::new(), departed: Mutex::default(), forbidden: watch::Sender::new(false) }
    }
}

/// One machine, as far as it is known.
#[derive(Clone, Debug)]
pub enum Machine {
    /// The operator may not read machines, or has not read them yet.
    Unknown,
    /// There is none of this name; whether there was one a moment ago.
    Absent {
        /// It was seen, and left.
        departed: bool,
    },
    /// It is there.
    There(Arc<Node>),
}

impl Machines {
    /// The machine of this name.
    pub fn get(&self, name: &str) -> Machine {
        if !self.known() {
            return Machine::Unknown;
        }
        match self.0.nodes.get("", name) {
            Some(node) => Machine::There(node),
            None => {
                let departed = self.departed(|all| all.get(name).is_some_and(|at| at.elapsed() < DEPARTED));
                Machine::Absent { departed }
            }
        }
    }

    /// All of them, in no order; none where they are not known.
    pub fn all(&self) -> Vec<Arc<Node>> {
        if self.known() { self.0.nodes.all() } else { Vec::new() }
    }

    /// Whether they are read.
    pub fn known(&self) -> bool {
        self.0.nodes.is_ready() && !*self.0.forbidden.borrow()
    }

    /// Waits until all were read once, or it is known that they may not be.
    pub async fn ready(&self) {
        let mut forbidden = self.0.forbidden.subscribe();
        tokio::select! {
            () = self.0.nodes.ready() => {}
            // The sender lives here: it cannot be gone.
            _ = forbidden.wait_for(|forbidden| *forbidden) => {}
        }
    }

    fn departed<T>(&self, f: impl FnOnce(&mut HashMap<String, Instant>) -> T) -> T {
        f(&mut self.0.departed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn changed(&self, stores: &Stores, triggers: &Triggers, event: &CacheEvent<'_, Node>) {
        let name = match event {
            // What else a machine says of itself, every few seconds or minutes, is nobody's turn.
            CacheEvent::Applied(node, Some(before))
                if before.spec == node.spec && before.status == node.status =>
            {
                return;
            }
            CacheEvent::Applied(node, _) => {
                let name = node.name_any();
                self.departed(|all| all.remove(&name));
                name
            }
            CacheEvent::Deleted(node) => {
                let name = node.name_any();
                self.departed(|all| {
                    all.retain(|_, at| at.elapsed() < DEPARTED);
                    all.insert(name.clone(), Instant::now());
                });
                name
            }
        };
        // While they are read for the first time nobody acts yet.
        if self.known() {
            triggers.machine_changed(stores, &name);
        }
    }

    pub(super) fn source(&self, metrics: &crate::metrics::Metrics) -> Source<Node> {
        Source { kind: "Node".into(), part: self.0.nodes.part(), metrics: metrics.clone() }
    }
}

impl Slim for Node {
    /// A machine tells a lot of itself (images, volumes, addresses), and there may be thousands.
    fn slim(&mut self) {
        let ObjectMeta { name, uid, resource_version, .. } = std::mem::take(&mut self.metadata);
        self.metadata = ObjectMeta { name, uid, resource_version, ..ObjectMeta::default() };
        let NodeSpec { unschedulable, taints, .. } = self.spec.take().unwrap_or_default();
        self.spec = Some(NodeSpec { unschedulable, taints, ..NodeSpec::default() });
        let mut conditions = self.status.take().and_then(|status| status.conditions).unwrap_or_default();
        conditions.retain(|condition| condition.type_ == "Ready");
        for condition in &mut conditions {
            // These change with every heartbeat.
            (condition.last_heartbeat_time, condition.message) = (None, None);
        }
        self.status = Some(NodeStatus { conditions: Some(conditions), ..NodeStatus::default() });
    }
}

/// Watches machines. Without the right to it says so once, and tries again now and then.
pub(super) async fn follow(
    client: kube::Client,
    mut source: Source<Node>,
    machines: Machines,
    stores: Stores,
    triggers: Triggers,
) {
    let api: Api<Node> = Api::all(client);
    let changed = |event: CacheEvent<'_, Node>| machines.changed(&stores, &triggers, &event);
    let mut stream = Box::pin(watcher(api.clone(), Config::default()));
    let mut failures = Failures::default();
    let mut refusals = 0;
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(mut node) | Event::InitApply(mut node)) => {
                failures.over();
                refusals = 0;
                node.slim();
                applied(&source.part, node, &changed);
            }
            Ok(Event::Delete(mut node)) => {
                node.slim();
                source.part.delete(&node.metadata);
                changed(CacheEvent::Deleted(&node));
            }
            Ok(Event::Init) => source.part.begin(),
            Ok(Event::InitDone) => {
                listed(&mut source, &changed);
                source.metrics.machines_known.set(1);
                if machines.0.forbidden.send_replace(false) {
                    tracing::info!(
                        "Kubernetes nodes may be read now: machines that are emptied or lost are noticed"
                    );
                    stores.trigger_all(&triggers);
                }
            }
            Err(error) if is_forbidden(&error) && refusals < EARLY => {
                refusals += 1;
                tokio::time::sleep(SOON).await;
            }
            Err(error) if is_forbidden(&error) => {
                source.metrics.machines_known.set(0);
                if !machines.0.forbidden.send_replace(true) {
                    tracing::warn!(
                        "may not list and watch Kubernetes nodes: machines that are cordoned, drained or lost are not noticed until \
                         the operator's account has these rights (Helm: rbac.machines=true)"
                    );
                    stores.trigger_all(&triggers);
                }
                tokio::time::sleep(FORBIDDEN).await;
                stream = Box::pin(watcher(api.clone(), Config::default()));
            }
            Err(error) => {
                if failures.wait(&source.kind, &error, &source.metrics).await {
                    stream = Box::pin(watcher(api.clone(), Config::default()));
                }
            }
        }
    }
}

fn is_forbidden(error: &Error) -> bool {
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 403,
        Error::WatchError(status) => status.code == 403,
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    impl Machines {
        /// Machines without a watch.
        pub(crate) fn of(nodes: impl IntoIterator<Item = Node>) -> Machines {
            let (departed, forbidden) = (Mutex::default(), watch::Sender::new(false));
            Machines(Arc::new(Inner { nodes: Cache::of(nodes), departed, forbidden }))
        }
    }

    fn node(more: serde_json::Value) -> Node {
        let mut node = json!({
            "metadata": { "name": "m1", "uid": "u", "resourceVersion": "7", "labels": { "a": "b" } },
            "spec": { "podCIDR": "10.0.0.0/24" },
            "status": {
                "images": [{ "names": ["i"] }],
                "conditions": [
                    { "type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z" },
                    { "type": "DiskPressure", "status": "False", "lastHeartbeatTime": "2026-01-01T00:00:00Z" }
                ]
            }
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            node["spec"][key] = value.clone();
        }
        serde_json::from_value(node).expect("a node")
    }

    #[test]
    fn what_is_kept_changes_with_what_counts_only() {
        let (mut before, mut later) = (node(json!({})), node(json!({})));
        later.metadata.resource_version = Some("8".into());
        let conditions = later.status.as_mut().and_then(|status| status.conditions.as_mut());
        for condition in conditions.expect("it has some") {
            condition.last_heartbeat_time = None;
        }
        before.slim();
        later.slim();
        assert_eq!((&before.spec, &before.status), (&later.spec, &later.status));
        assert_eq!(before.metadata.labels, None);
        let mut cordoned = node(json!({ "unschedulable": true }));
        cordoned.slim();
        assert_ne!(before.spec, cordoned.spec);
    }

    #[test]
    fn one_that_leaves_is_told_from_one_that_is_not_known_yet() {
        let machines = Machines::of([node(json!({}))]);
        let (stores, triggers) = (Stores::default(), Triggers::new());
        assert!(matches!(machines.get("m1"), Machine::There(_)));
        assert!(matches!(machines.get("m2"), Machine::Absent { departed: false }));
        let m2 = Node {
            metadata: ObjectMeta { name: Some("m2".into()), ..Default::default() },
            ..node(json!({}))
        };
        machines.changed(&stores, &triggers, &CacheEvent::Deleted(&m2));
        assert!(matches!(machines.get("m2"), Machine::Absent { departed: true }));
        machines.changed(&stores, &triggers, &CacheEvent::Applied(&m2, None));
        assert!(matches!(machines.get("m2"), Machine::Absent { departed: false }));
        machines.0.forbidden.send_replace(true);
        assert!(matches!(machines.get("m1"), Machine::Unknown));
        assert!(machines.all().is_empty());
    }

    #[tokio::test]
    async fn without_rights_nothing_waits_for_machines() {
        let machines = Machines::default();
        let _part = machines.0.nodes.part();
        assert!(!machines.known());
        machines.0.forbidden.send_replace(true);
        machines.ready().await;
        assert!(!machines.known());
    }
}
