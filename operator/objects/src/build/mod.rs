//! One file for each kind of object.

pub(crate) mod apps;
pub(crate) mod autoscaler;
mod budget;
pub(crate) mod candidates;
mod certificate;
pub(crate) mod claim;
pub(crate) mod config;
pub(crate) mod endpoints;
mod exposure;
pub(crate) mod generation;
pub(crate) mod gpu;
mod ingress;
pub(crate) mod meta;
mod monitoring;
mod placement;
pub(crate) mod pod;
mod policy;
pub(crate) mod revision;
pub(crate) mod routes;
mod service;
pub(crate) mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DynamicObject;
use sluice_crds::names;

use crate::{Cluster, Pool, Site};
use routes::Served;

/// What a pool owns beside its pods and volumes. Take it apart without `..`, so that a new kind cannot be forgotten.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolObjects {
    /// `<pool>`: where new sessions go.
    pub new_sessions: Service,
    /// `<pool>-headless`: every pod of it, ready or not.
    pub headless: Service,
    /// `<pool>-media`: UDP, all of its pods, draining ones too.
    pub media: Service,
    /// `<pool>-rtmp`, `<pool>-srt`, and `<pod>-webrtc` for each pod: how it is reached from outside.
    pub exposures: Vec<Service>,
    /// `<pool>-config`: what its nodes are started with.
    pub config: ConfigMap,
    /// `<pool>`: no eviction of a pod that accepts or holds sessions.
    pub budget: PodDisruptionBudget,
    /// `<pool>`: writes its `spec.replicas` by the load; none without autoscaling.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
}

/// What a cluster owns beside its Secrets. Take it apart without `..`, so that a new kind cannot be forgotten.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterObjects {
    /// `<cluster>-watch`: where viewers go.
    pub watch: Service,
    /// `<cluster>-publish`: where publishers go.
    pub publish: Service,
    /// `<cluster>-publish-media`: all origins by UDP, draining ones too; for the UDPRoute.
    pub publish_media: Option<Service>,
    /// `<cluster>-node`: what pods run as; it has no rights. Pods are refused until it is there.
    pub service_account: ServiceAccount,
    /// `<cluster>-trust`: the authority of the operator. Pods do not start until it is there.
    pub trust: ConfigMap,
    /// `<cluster>-nodes`: closes the cluster port to others.
    pub policies: Vec<NetworkPolicy>,
    /// `<cluster>`.
    pub ingress: Option<Ingress>,
    /// Routes of the Gateway API, in the versions that are served.
    pub routes: Vec<DynamicObject>,
    /// `<cluster>-tls`, for cert-manager.
    pub certificate: Option<DynamicObject>,
    /// `<cluster>`, for Prometheus' operator.
    pub service_monitor: Option<DynamicObject>,
    /// `<cluster>`, for Prometheus' operator.
    pub prometheus_rule: Option<DynamicObject>,
    /// Kinds that the spec wants and that are not served here, in words: `TCPRoute (gateway.networking.k8s.io)`.
    pub missing: Vec<String>,
}

/// What a pool owns beside its pods and volumes. `pods` are the names of those that are there or are made now; `tolerance`: the API
/// server knows the tolerance of a HorizontalPodAutoscaler.
pub fn pool_objects(pool: &Pool, pods: &[String], tolerance: bool) -> PoolObjects {
    PoolObjects {
        new_sessions: service::new_sessions(pool),
        headless: service::headless(pool),
        media: service::media(pool),
        exposures: exposure::exposures(pool, pods),
        config: ConfigMap {
            metadata: meta::of_pool(pool, names::config_map(pool.name())),
            data: Some(config::files(pool)),
            ..ConfigMap::default()
        },
        budget: budget::budget(pool),
        autoscaler: autoscaler::autoscaler(pool, tolerance),
    }
}

/// What a cluster owns beside its Secrets. `has_edges`: there is an edge pool; else viewers go to the origins.
pub fn cluster_objects(cluster: &Cluster, site: &Site, served: &Served, has_edges: bool) -> ClusterObjects {
    let mut missing = Vec::new();
    ClusterObjects {
        watch: service::watch(cluster, has_edges),
        publish: service::publish(cluster),
        publish_media: service::publish_media(cluster),
        service_account: ServiceAccount {
            metadata: meta::of_cluster(cluster, names::service_account(cluster.name())),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        trust: ConfigMap {
            metadata: meta::of_cluster(cluster, names::trust_config_map(cluster.name())),
            data: Some(BTreeMap::from([(volumes::OPERATOR_CA.to_owned(), site.operator_ca_pem.clone())])),
            ..ConfigMap::default()
        },
        policies: policy::policies(cluster, site),
        ingress: ingress::ingress(cluster),
        routes: routes::routes(cluster, served, &mut missing),
        certificate: certificate::certificate(cluster, served, &mut missing),
        service_monitor: monitoring::service_monitor(cluster, served),
        prometheus_rule: monitoring::prometheus_rule(cluster, served),
        missing,
    }
}
