//! What is in Kubernetes, as far as the operator knows: caches that watches keep, and whose turn a change makes it.
//!
//! One watch for each kind (and namespace, when those are named). Objects that the operator owns are selected by their
//! `app.kubernetes.io/managed-by` label, so that nothing else is read or kept.

mod cache;
mod dynamic;
mod machines;
mod refs;
#[cfg(test)]
mod tests;
mod triggers;
mod watch;

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use sluice_crds::names::standard;
use sluice_crds::{EdgePool, MediaCluster, OriginPool};
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

pub use cache::{Cache, CacheEvent};
pub use dynamic::Dynamic;
pub use machines::{Machine, Machines, UNTOLD};
pub use refs::{ClusterRef, PoolRef};
pub use triggers::Triggers;

use crate::discovery::Served;
use crate::events::Events;
use crate::metrics::Metrics;
use watch::Source;

/// What selects the operator's own objects.
pub fn selector() -> String {
    format!("{}={}", standard::MANAGED_BY, standard::OPERATOR)
}

/// Every cache of the operator; cheap to clone.
#[derive(Clone, Default)]
pub struct Stores {
    /// All clusters.
    pub clusters: Cache<MediaCluster>,
    /// All pools of origins.
    pub origins: Cache<OriginPool>,
    /// All pools of edges.
    pub edges: Cache<EdgePool>,
    /// Pods of all pools.
    pub pods: Cache<Pod>,
    /// Owned Services.
    pub services: Cache<Service>,
    /// Which pods the owned Services lead to: Kubernetes gives its lists the labels of their Service.
    pub slices: Cache<EndpointSlice>,
    /// Owned ConfigMaps.
    pub config_maps: Cache<ConfigMap>,
    /// Owned Secrets, with what is in them: those that were generated are restored from here. Others' are not here.
    pub secrets: Cache<Secret>,
    /// Owned volume claims.
    pub claims: Cache<PersistentVolumeClaim>,
    /// Owned disruption budgets, without their status.
    pub budgets: Cache<PodDisruptionBudget>,
    /// Owned autoscalers, with their status: what they see is told in that of their pool.
    pub autoscalers: Cache<HorizontalPodAutoscaler>,
    /// Owned network policies.
    pub policies: Cache<NetworkPolicy>,
    /// Owned Ingresses.
    pub ingresses: Cache<Ingress>,
    /// Owned service accounts.
    pub accounts: Cache<ServiceAccount>,
    /// The machines that pods run on.
    pub machines: Machines,
    /// Owned objects of kinds that are not in every cluster.
    pub dynamic: Dynamic,
}

impl Stores {
    /// Waits until every cache was filled once. Kinds that are found later are filled later.
    pub async fn ready(&self) {
        let Stores {
            clusters,
            origins,
            edges,
            pods,
            services,
            slices,
            config_maps,
            secrets,
            claims,
            budgets,
            autoscalers,
            policies,
            ingresses,
            accounts,
            machines,
            dynamic: _,
        } = self;
        tokio::join!(clusters.ready(), origins.ready(), edges.ready(), pods.ready(), services.ready());
        tokio::join!(
            slices.ready(),
            config_maps.ready(),
            secrets.ready(),
            claims.ready(),
            budgets.ready(),
            autoscalers.ready()
        );
        tokio::join!(policies.ready(), ingresses.ready(), accounts.ready(), machines.ready());
    }

    /// Every key that there is: for the first round, and when something changed that concerns all.
    pub fn trigger_all(&self, triggers: &Triggers) {
        triggers.all(self);
    }
}

/// Watches everything, and fills `stores`, until it is dropped. Never ends by itself: what breaks is opened anew.
///
/// `served` says which of the kinds exist that are not in every cluster.
pub struct Watches {
    tasks: JoinSet<()>,
}

impl Watches {
    /// Starts all watches, in these namespaces (`None`: in all).
    pub fn start(
        client: &Client,
        namespaces: &[Option<String>],
        stores: &Stores,
        triggers: &Triggers,
        served: signal::Receiver<Arc<Served>>,
        events: &Events,
        metrics: &Metrics,
    ) -> Watches {
        let mut start = Starter { client, namespaces, triggers, metrics, tasks: JoinSet::new() };
        let Stores {
            clusters,
            origins,
            edges,
            pods,
            services,
            slices,
            config_maps,
            secrets,
            claims,
            budgets,
            autoscalers,
            policies,
            ingresses,
            accounts,
            machines,
            dynamic,
        } = stores.clone();
        start.own(pods);
        start.own(services);
        start.own(slices);
        start.own(config_maps);
        start.own(secrets);
        start.own(claims);
        start.own(budgets);
        start.own(autoscalers);
        start.own(policies);
        start.own(ingresses);
        start.own(accounts);
        start.custom(clusters, events, {
            let (stores, triggers) = (stores.clone(), triggers.clone());
            move |event| triggers.cluster_changed(&stores, event)
        });
        start.custom(origins, events, {
            let triggers = triggers.clone();
            move |event| triggers.pool_changed(event)
        });
        start.custom(edges, events, {
            let triggers = triggers.clone();
            move |event| triggers.pool_changed(event)
        });
        let Starter { mut tasks, .. } = start;
        let source = machines.source(metrics);
        tasks.spawn(machines::ask(client.clone(), machines.clone(), stores.clone(), triggers.clone()));
        tasks.spawn(machines::follow(client.clone(), source, machines, stores.clone(), triggers.clone()));
        tasks.spawn(dynamic::follow(
            client.clone(),
            namespaces.to_vec(),
            dynamic,
            stores.clone(),
            triggers.clone(),
            served,
            metrics.clone(),
        ));
        Watches { tasks }
    }

    /// Ends with a sentence when a watch ended, which only a defect can make happen.
    pub async fn failed(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Err(error)) => format!("a watch ended: {error}"),
            _ => "a watch ended without an error".to_owned(),
        }
    }
}

struct Starter<'a> {
    client: &'a Client,
    namespaces: &'a [Option<String>],
    triggers: &'a Triggers,
    metrics: &'a Metrics,
    tasks: JoinSet<()>,
}

impl Starter<'_> {
    fn own<K>(&mut self, cache: Cache<K>)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + watch::Slim
            + Send
            + Sync
            + 'static,
    {
        for namespace in self.namespaces {
            let api: Api<K> = watch::api(self.client, namespace.as_deref());
            let source =
                Source { kind: K::kind(&()).into_owned(), part: cache.part(), metrics: self.metrics.clone() };
            let triggers = self.triggers.clone();
            let config = Config::default().labels(&selector());
            self.tasks.spawn(watch::owned(api, config, source, move |event| triggers.owned_changed(event)));
        }
    }

    fn custom<K>(
        &mut self,
        cache: Cache<K>,
        events: &Events,
        changed: impl Fn(CacheEvent<'_, K>) + Clone + Send + Sync + 'static,
    ) where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        for namespace in self.namespaces {
            let api = watch::api(self.client, namespace.as_deref());
            let source =
                Source { kind: K::kind(&()).into_owned(), part: cache.part(), metrics: self.metrics.clone() };
            self.tasks.spawn(watch::custom(api, source, events.clone(), changed.clone()));
        }
    }
}
