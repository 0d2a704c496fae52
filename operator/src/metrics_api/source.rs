//! Answers questions from the caches and from what nodes said.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kube::ResourceExt;
use serde_json::Value;
use sluice_crds::names;
use sluice_crds::pool::{PoolKind, Role};
use sluice_custom_metrics::{
    Ask, Item, Kind, Objects, Question, Refusal, Selector, Unclear, list, nothing_to_describe, resources,
};

use super::values::{Aged, Pod, Pool};
use crate::nodes::Nodes;
use crate::owned::{Cache, Stores};
use crate::pool::observe;

/// Where answers come from; cheap to clone.
#[derive(Clone)]
pub(super) struct Source {
    pub stores: Stores,
    pub nodes: Nodes,
}

impl Source {
    /// Answers a request for this path with this query.
    pub(super) fn answer(&self, path: &str, query: Option<&str>, now: Timestamp) -> Result<Value, Refusal> {
        let ask = Ask::parse(path, query).map_err(|unclear| match unclear {
            Unclear::Selector(why) => Refusal::BadRequest(why.to_string()),
            Unclear::NotFound(why) => Refusal::NotFound(why),
        })?;
        match ask {
            Ask::Resources(version) => Ok(resources(version)),
            Ask::OpenApi2 => Ok(nothing_to_describe(false)),
            Ask::OpenApi3 => Ok(nothing_to_describe(true)),
            Ask::Value(question) => {
                let items = match question.kind {
                    Kind::OriginPool => self.pools(&question, &self.stores.origins, now),
                    Kind::EdgePool => self.pools(&question, &self.stores.edges, now),
                    Kind::Pod => self.pods(&question, now),
                }?;
                Ok(list(question.version, question.metric, &items))
            }
        }
    }

    fn pools<K: PoolKind>(
        &self,
        question: &Question,
        all: &Cache<K>,
        now: Timestamp,
    ) -> Result<Vec<Item>, Refusal> {
        filled(all.is_ready() && self.stores.pods.is_ready())?;
        let worth = |pool: &K| described(pool).value(question.metric, &self.pods_of(pool, now));
        let namespace = &question.namespace;
        match &question.objects {
            Objects::One(name) => {
                let pool = all.get(namespace, name).ok_or_else(|| missing(question, name))?;
                Ok(vec![item(question, name, worth(&pool)?, now)])
            }
            Objects::All(selector) => {
                let mut pools = all.filter(namespace, |pool| fits(selector, pool.meta()));
                pools.sort_by_key(|pool| pool.meta().name.clone());
                // Of several, those that are known.
                Ok(pools
                    .iter()
                    .filter_map(|pool| {
                        Some(item(question, pool.meta().name.as_deref()?, worth(pool).ok()?, now))
                    })
                    .collect())
            }
        }
    }

    fn pods(&self, question: &Question, now: Timestamp) -> Result<Vec<Item>, Refusal> {
        let Stores { pods, origins, edges, .. } = &self.stores;
        filled(pods.is_ready() && origins.is_ready() && edges.is_ready())?;
        let namespace = &question.namespace;
        let worth = |pod: &v1::Pod| {
            let pool = self.pool_of(pod).ok_or_else(|| missing(question, &pod.name_any()))?;
            pool.value_of(question.metric, &self.pod(pod, now))
        };
        match &question.objects {
            Objects::One(name) => {
                let pod = pods.get(namespace, name).ok_or_else(|| missing(question, name))?;
                Ok(vec![item(question, name, worth(&pod)?, now)])
            }
            Objects::All(selector) => {
                let mut pods = pods.filter(namespace, |pod| fits(selector, &pod.metadata));
                pods.sort_by_key(|pod| pod.name_any());
                Ok(pods
                    .iter()
                    .filter_map(|pod| Some(item(question, &pod.name_any(), worth(pod).ok()?, now)))
                    .collect())
            }
        }
    }

    fn pods_of<K: PoolKind>(&self, pool: &K, now: Timestamp) -> Vec<Pod> {
        let meta = pool.meta();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let pods = self.stores.pods.controlled_by(namespace, meta.uid.as_deref().unwrap_or_default());
        pods.iter().map(|pod| self.pod(pod, now)).collect()
    }

    /// The pool that a pod belongs to.
    fn pool_of(&self, pod: &v1::Pod) -> Option<Pool> {
        let namespace = pod.namespace()?;
        let label = |key: &str| pod.labels().get(key).map(String::as_str);
        let name = label(names::POOL)?;
        if label(names::ROLE) == Some(Role::Edge.as_str()) {
            self.stores.edges.get(&namespace, name).map(|pool| described(&*pool))
        } else {
            self.stores.origins.get(&namespace, name).map(|pool| described(&*pool))
        }
    }

    fn pod(&self, pod: &v1::Pod, now: Timestamp) -> Pod {
        let seen = pod.uid().and_then(|uid| self.nodes.get(&uid));
        let silent = match &seen {
            Some(seen) => seen.at.elapsed(),
            None => unfollowed(pod, now),
        };
        Pod {
            name: pod.name_any(),
            ready: observe::condition(pod, "Ready").is_some_and(|(status, ..)| status == "True"),
            started: observe::started(pod),
            over: matches!(observe::phase(pod), "Failed" | "Succeeded"),
            report: seen.and_then(|seen| seen.report),
            silent,
        }
    }
}

/// For how long a pod that nobody asks (it has no address, or its cluster's key is not known) has been as it is.
fn unfollowed(pod: &v1::Pod, now: Timestamp) -> Duration {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let changed = conditions
        .filter(|one| one.type_ == "Ready")
        .filter_map(|one| one.last_transition_time.as_ref())
        .next();
    let since = changed.or(pod.metadata.creation_timestamp.as_ref()).map_or(now, |time| time.0);
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

fn described<K: PoolKind>(pool: &K) -> Pool {
    let meta = pool.meta();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Pool {
        title: format!("{} {}/{}", K::KIND, text(&meta.namespace), text(&meta.name)),
        role: K::ROLE,
        capacity: pool.pool().capacity.clone(),
    }
}

fn fits(selector: &Selector, meta: &kube::api::ObjectMeta) -> bool {
    selector.fits(|key| meta.labels.as_ref()?.get(key).map(String::as_str))
}

fn item(question: &Question, name: &str, (value, age): Aged, now: Timestamp) -> Item {
    Item {
        kind: question.kind,
        namespace: question.namespace.clone(),
        name: name.to_owned(),
        at: now.checked_sub(age).unwrap_or(now),
        value,
    }
}

fn missing(question: &Question, name: &str) -> Refusal {
    Refusal::NotFound(format!(
        "there is no {} {}/{name} that this operator looks after",
        question.kind.name(),
        question.namespace
    ))
}

fn filled(ready: bool) -> Result<(), Refusal> {
    ready
        .then_some(())
        .ok_or_else(|| Refusal::Unknown("objects are still being read: ask again in a moment".into()))
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source(…)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluice_crds::{EdgePool, OriginPool};

    use super::*;
    use crate::metrics::Metrics;

    fn source() -> Source {
        let pool: OriginPool = serde_json::from_value(json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "OriginPool",
            "metadata": { "name": "o", "namespace": "media", "uid": "pool-uid", "labels": { "tier": "gold" } },
            "spec": { "clusterRef": { "name": "c" }, "capacity": { "streams": 10 } },
        }))
        .expect("a pool");
        let pod = |name: &str, owner: &str, status: Value| -> v1::Pod {
            serde_json::from_value(json!({
                "metadata": {
                    "name": name, "namespace": "media", "uid": name,
                    "labels": { "sluice.dev/pool": "o", "sluice.dev/role": "origin" },
                    "ownerReferences": [{ "apiVersion": "v1", "kind": "K", "name": "n", "uid": owner, "controller": true }],
                },
                "status": status,
            }))
            .expect("a pod")
        };
        let running = json!({
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
        });
        let stores = Stores {
            origins: Cache::of([pool]),
            edges: Cache::of(Vec::<EdgePool>::new()),
            pods: Cache::of([
                pod("o-0", "other-uid", running),
                pod("o-1", "pool-uid", json!({ "phase": "Pending" })),
            ]),
            ..Stores::default()
        };
        Source { stores, nodes: Nodes::new(Duration::from_secs(2), &Metrics::new(), |_, _| {}) }
    }

    fn ask(source: &Source, path: &str, query: Option<&str>) -> Result<Value, Refusal> {
        let path = format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{path}");
        source.answer(&path, query, "2026-01-01T00:00:40Z".parse().expect("a time"))
    }

    #[tokio::test]
    async fn pools_are_found_by_name_and_by_labels() {
        let source = source();
        let one = ask(&source, "media/originpools.sluice.dev/o/streams", None).expect("a value");
        assert_eq!(
            (&one["items"][0]["value"], one["items"].as_array().map(Vec::len)),
            (&json!("0"), Some(1))
        );
        let of = |selector| {
            ask(&source, "media/originpools.sluice.dev/*/streams", Some(selector)).expect("a list")
        };
        assert_eq!(of("labelSelector=tier%3Dgold")["items"].as_array().map(Vec::len), Some(1));
        assert_eq!(of("labelSelector=tier%3Dtin")["items"].as_array().map(Vec::len), Some(0));
        for path in [
            "media/edgepools.sluice.dev/o/streams",
            "other/originpools.sluice.dev/o/streams",
            "media/pods/x/streams",
        ] {
            assert!(matches!(ask(&source, path, None), Err(Refusal::NotFound(_))), "{path}");
        }
        let wrong = ask(&source, "media/pods/*/streams", Some("labelSelector=a>1"));
        assert!(matches!(wrong, Err(Refusal::BadRequest(_))), "{wrong:?}");
    }

    #[tokio::test]
    async fn a_ready_pod_that_nobody_hears_is_unknown_with_its_age() {
        let source = source();
        let said = ask(&source, "media/pods/o-0/streams", None);
        let Err(Refusal::Unknown(said)) = said else { panic!("{said:?}") };
        assert!(said.contains("o-0") && said.contains("40 s"), "{said}");
        // It is another pool's: this one's value does not depend on it.
        assert!(ask(&source, "media/originpools.sluice.dev/o/streams", None).is_ok());
        let none = ask(&source, "media/pods/*/streams", None).expect("a list");
        assert_eq!(none["items"], json!([]));
    }

    #[tokio::test]
    async fn nothing_is_told_before_the_caches_are_filled() {
        let empty = Source { stores: Stores::default(), ..source() };
        let said = ask(&empty, "media/originpools.sluice.dev/o/streams", None);
        assert!(matches!(said, Err(Refusal::Unknown(_))), "{said:?}");
    }

    #[test]
    fn metrics_are_called_as_everywhere() {
        use names::metric::{CAPACITY_USED, EGRESS, ENCODER_LOAD, STREAMS, VIEWERS};
        assert_eq!(sluice_custom_metrics::METRICS, [STREAMS, VIEWERS, EGRESS, ENCODER_LOAD, CAPACITY_USED]);
        let kinds = [Kind::OriginPool.name(), Kind::EdgePool.name()];
        assert_eq!(kinds, [OriginPool::KIND, EdgePool::KIND]);
    }
}
