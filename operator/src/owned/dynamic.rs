//! Owned objects of kinds that are not in every cluster: routes, monitors, certificates.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

use super::watch::Source;
use super::{Cache, Stores, Triggers, selector, watch};
use crate::discovery::Served;
use crate::metrics::Metrics;

/// Caches of the kinds that are served, by group and kind; cheap to clone.
#[derive(Clone, Default)]
pub struct Dynamic(Arc<RwLock<HashMap<String, Cache<DynamicObject>>>>);

impl Dynamic {
    /// The objects of a kind; none while the kind is not served, or not yet watched.
    pub fn of(&self, resource: &ApiResource) -> Option<Cache<DynamicObject>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key(resource)).cloned()
    }

    fn set(&self, key: String, cache: Option<Cache<DynamicObject>>) {
        let mut caches = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match cache {
            Some(cache) => drop(caches.insert(key, cache)),
            None => drop(caches.remove(&key)),
        }
    }
}

/// With the version: when another one is served, the watch is of that one.
fn key(resource: &ApiResource) -> String {
    format!("{}/{}", resource.api_version, resource.kind)
}

/// Watches whatever is served, for ever; when that changes, it is every object's turn.
pub(super) async fn follow(
    client: Client,
    namespaces: Vec<Option<String>>,
    dynamic: Dynamic,
    stores: Stores,
    triggers: Triggers,
    mut served: signal::Receiver<Arc<Served>>,
    metrics: Metrics,
) {
    let mut running: HashMap<String, JoinSet<()>> = HashMap::new();
    loop {
        let now = served.borrow_and_update().clone();
        let resources: HashMap<String, &ApiResource> =
            now.owned_kinds().map(|resource| (key(resource), resource)).collect();
        let mut changed = false;
        running.retain(|key, _| {
            let stays = resources.contains_key(key);
            if !stays {
                dynamic.set(key.clone(), None);
                changed = true;
            }
            stays
        });
        let fresh: Vec<_> = resources.into_iter().filter(|(key, _)| !running.contains_key(key)).collect();
        for (key, resource) in fresh {
            let cache = Cache::new();
            let mut tasks = JoinSet::new();
            for namespace in &namespaces {
                let api: Api<DynamicObject> = match namespace {
                    Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
                    None => Api::all_with(client.clone(), resource),
                };
                let source =
                    Source { kind: resource.kind.clone(), part: cache.part(), metrics: metrics.clone() };
                let triggers = triggers.clone();
                let config = Config::default().labels(&selector());
                tasks.spawn(watch::owned(api, config, source, move |event| triggers.owned_changed(event)));
            }
            tracing::info!(kind = %key, "this kind is served: objects of it are kept from now on");
            dynamic.set(key.clone(), Some(cache));
            running.insert(key, tasks);
            changed = true;
        }
        if changed {
            triggers.all(&stores);
        }
        if served.changed().await.is_err() {
            // Discovery ended; what is watched goes on.
            std::future::pending::<()>().await;
        }
    }
}
