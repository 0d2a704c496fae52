//! The machines of the cluster (Kubernetes calls them nodes): one watch, which the operator can do without.
//!
//! Of each only what tells whether pods can stay there is kept. Where the operator may not read machines, nothing is known of any of
//! them, and everything else goes on.
//!
//! A watch can lag behind: that a machine is not among those which it told of is no word of its absence. So the API server is asked for
//! each such machine that a pod is on, and only a machine that was seen to leave, or that it says it does not have, is absent.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::runtime::watcher::{Config, Error, Event, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::cache::Cache;
use super::watch::{Failures, Slim, Source, applied, listed};
use super::{CacheEvent, Stores, Triggers};
use crate::client::{REQUEST, sentence};

/// A machine that left is known as such for so long: until then a pod that is younger may wait for one that is new.
const DEPARTED: Duration = Duration::from_secs(60);

/// A machine that is there, though the watch has not told of it, is asked for again after this time.
pub const UNTOLD: Duration = Duration::from_secs(10);

/// What the API server said of a machine that nobody looks for any more is forgotten after this time.
const FORGOTTEN: Duration = Duration::from_secs(600);

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
    untold: Mutex<Untold>,
    /// There is something to ask.
    asked: Notify,
    access: watch::Sender<Access>,
}

impl Default for Inner {
    fn default() -> Inner {
        Inner {
            nodes: Cache::new(),
            untold: Mutex::default(),
            asked: Notify::new(),
            access: watch::Sender::new(Access::Given),
        }
    }
}

/// Whether machines may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// As far as is known.
    Given,
    /// Not at the moment, which may be an API server that has just started.
    Refused,
    /// No.
    Forbidden,
}

/// What is known of machines that are not among those which the watch told of.
#[derive(Debug, Default)]
struct Untold {
    answers: HashMap<String, Answer>,
    /// Of these more is to be asked.
    questions: HashSet<String>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    missing: bool,
    at: Instant,
    /// When it was seen to leave.
    left: Option<Instant>,
}

/// One machine, as far as it is known.
#[derive(Clone, Debug)]
pub enum Machine {
    /// The operator may not read machines, or has not read them yet.
    Unknown,
    /// The watch has not told of it. It may be there all the same: the API server is asked.
    Untold,
    /// There is none of this name, as was seen or said; whether there was one a moment ago.
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
            None => self.untold(name),
        }
    }

    /// What is known of one that the watch has not told of. An answer that is not new counts until there is another one.
    fn untold(&self, name: &str) -> Machine {
        let mut untold = self.lock();
        let answer = untold.answers.get(name).copied();
        let counts = |answer: &Answer| answer.at.elapsed() < if answer.missing { DEPARTED } else { UNTOLD };
        if !answer.as_ref().is_some_and(counts) && untold.questions.insert(name.to_owned()) {
            self.0.asked.notify_one();
        }
        match answer {
            Some(Answer { missing: true, left, .. }) => {
                Machine::Absent { departed: left.is_some_and(|at| at.elapsed() < DEPARTED) }
            }
            _ => Machine::Untold,
        }
    }

    /// All of them, in no order; none where they are not known.
    pub fn all(&self) -> Vec<Arc<Node>> {
        if self.known() { self.0.nodes.all() } else { Vec::new() }
    }

    /// Whether they are read.
    pub fn known(&self) -> bool {
        self.0.nodes.is_ready() && *self.0.access.borrow() != Access::Forbidden
    }

    /// Waits until all were read once, or that was refused: whether for good or for a moment, nothing else waits for it.
    pub async fn ready(&self) {
        let mut access = self.0.access.subscribe();
        tokio::select! {
            () = self.0.nodes.ready() => {}
            // The sender lives here: it cannot be gone.
            _ = access.wait_for(|access| *access != Access::Given) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Untold> {
        self.0.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API server has it, or not.
    fn answered(&self, name: &str, missing: bool) {
        let mut untold = self.lock();
        // Otherwise the watch was faster.
        if untold.questions.remove(name) {
            let left = untold.answers.get(name).filter(|_| missing).and_then(|answer| answer.left);
            untold.answers.retain(|_, answer| answer.at.elapsed() < FORGOTTEN);
            untold.answers.insert(name.to_owned(), Answer { missing, at: Instant::now(), left });
        }
    }

    /// The watch told of it.
    fn told(&self, name: &str, left: bool) {
        let mut untold = self.lock();
        untold.questions.remove(name);
        untold.answers.remove(name);
        if left {
            let now = Instant::now();
            untold.answers.retain(|_, answer| answer.at.elapsed() < FORGOTTEN);
            untold.answers.insert(name.to_owned(), Answer { missing: true, at: now, left: Some(now) });
        }
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
                self.told(&name, false);
                name
            }
            CacheEvent::Deleted(node) => {
                let name = node.name_any();
                self.told(&name, true);
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
    /// A machine tells a lot of itself (images, volumes), and there may be thousands.
    fn slim(&mut self) {
        let ObjectMeta { name, uid, resource_version, .. } = std::mem::take(&mut self.metadata);
        self.metadata = ObjectMeta { name, uid, resource_version, ..ObjectMeta::default() };
        let NodeSpec { unschedulable, taints, .. } = self.spec.take().unwrap_or_default();
        self.spec = Some(NodeSpec { unschedulable, taints, ..NodeSpec::default() });
        let NodeStatus { conditions, addresses, .. } = self.status.take().unwrap_or_default();
        let mut conditions = conditions.unwrap_or_default();
        conditions.retain(|condition| condition.type_ == "Ready");
        for condition in &mut conditions {
            // These change with every heartbeat.
            (condition.last_heartbeat_time, condition.message) = (None, None);
        }
        self.status = Some(NodeStatus { conditions: Some(conditions), addresses, ..NodeStatus::default() });
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
                let before = machines.0.access.send_replace(Access::Given);
                if before == Access::Forbidden {
                    tracing::info!(
                        "Kubernetes nodes may be read now: machines that are emptied or lost are noticed"
                    );
                }
                // The work has begun without them.
                if before != Access::Given {
                    stores.trigger_all(&triggers);
                }
            }
            Err(error) if is_forbidden(&error) && refusals < EARLY => {
                refusals += 1;
                machines.0.access.send_if_modified(|access| {
                    let given = *access == Access::Given;
                    if given {
                        *access = Access::Refused;
                    }
                    given
                });
                tokio::time::sleep(SOON).await;
            }
            Err(error) if is_forbidden(&error) => {
                source.metrics.machines_known.set(0);
                if machines.0.access.send_replace(Access::Forbidden) != Access::Forbidden {
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

/// Asks the API server for machines that pods are on and the watch has not told of. What it does not answer is asked again.
pub(super) async fn ask(client: kube::Client, machines: Machines, stores: Stores, triggers: Triggers) {
    let api: Api<Node> = Api::all(client);
    loop {
        machines.0.asked.notified().await;
        loop {
            let Some(name) = machines.lock().questions.iter().next().cloned() else { break };
            // By the right that the watch has, too; and never from a cache that may be as old.
            let one = ListParams::default().fields(&format!("metadata.name={name}"));
            let why = match timeout(REQUEST, api.list_metadata(&one)).await {
                Ok(Ok(list)) => {
                    let missing = !list.items.iter().any(|node| node.name_any() == name);
                    machines.answered(&name, missing);
                    triggers.machine_changed(&stores, &name);
                    continue;
                }
                Ok(Err(error)) => sentence(&error),
                Err(_) => format!("no answer within {REQUEST:?}"),
            };
            tracing::debug!(machine = name, why, "cannot ask whether a machine is there");
            if !machines.known() {
                // Asked again by who looks for it, when machines may be read.
                machines.lock().questions.clear();
                break;
            }
            tokio::time::sleep(SOON).await;
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
            Machines(Arc::new(Inner { nodes: Cache::of(nodes), ..Inner::default() }))
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
        assert!(matches!(machines.get("m2"), Machine::Untold));
        machines.answered("m2", true);
        assert!(matches!(machines.get("m2"), Machine::Absent { departed: false }));
        let m2 = Node {
            metadata: ObjectMeta { name: Some("m2".into()), ..Default::default() },
            ..node(json!({}))
        };
        machines.changed(&stores, &triggers, &CacheEvent::Deleted(&m2));
        assert!(matches!(machines.get("m2"), Machine::Absent { departed: true }));
        machines.changed(&stores, &triggers, &CacheEvent::Applied(&m2, None));
        assert!(matches!(machines.get("m2"), Machine::Untold), "it was there just now");
        machines.answered("m2", false);
        assert!(matches!(machines.get("m2"), Machine::Untold), "only the watch is late");
        machines.0.access.send_replace(Access::Forbidden);
        assert!(matches!(machines.get("m1"), Machine::Unknown));
        assert!(machines.all().is_empty());
    }

    #[tokio::test]
    async fn without_rights_nothing_waits_for_machines() {
        let machines = Machines::default();
        let _part = machines.0.nodes.part();
        assert!(!machines.known());
        machines.0.access.send_replace(Access::Refused);
        machines.ready().await;
        assert!(!machines.known());
    }

    #[test]
    fn an_answer_that_comes_after_the_watch_counts_no_more() {
        let machines = Machines::of([]);
        let (stores, triggers) = (Stores::default(), Triggers::new());
        assert!(matches!(machines.get("m1"), Machine::Untold));
        machines.changed(&stores, &triggers, &CacheEvent::Deleted(&node(json!({}))));
        machines.answered("m1", false);
        assert!(matches!(machines.get("m1"), Machine::Absent { departed: true }));
    }
}
