//! Which of the kinds are served that are not in every cluster.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList};
use kube::Client;
use kube::api::ApiResource;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::client::REQUEST;
use crate::health::Beat;

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(60);
/// The loop shows that it lives at least this often.
const ALIVE: Duration = Duration::from_secs(10);

const GATEWAY: &str = "gateway.networking.k8s.io";
const MONITORING: &str = "monitoring.coreos.com";
const CERTIFICATES: &str = "cert-manager.io";

/// The kinds that are served, each in the version that fits best; none where it is not served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// `HTTPRoute` of the Gateway API.
    pub http_route: Option<ApiResource>,
    /// `TCPRoute` of the Gateway API.
    pub tcp_route: Option<ApiResource>,
    /// `UDPRoute` of the Gateway API.
    pub udp_route: Option<ApiResource>,
    /// `TLSRoute` of the Gateway API.
    pub tls_route: Option<ApiResource>,
    /// `Gateway` of the Gateway API: read, never made.
    pub gateway: Option<ApiResource>,
    /// `ServiceMonitor` of the Prometheus operator.
    pub service_monitor: Option<ApiResource>,
    /// `PrometheusRule` of the Prometheus operator.
    pub prometheus_rule: Option<ApiResource>,
    /// `Certificate` of cert-manager.
    pub certificate: Option<ApiResource>,
}

impl Served {
    /// Those whose objects the operator makes.
    pub fn owned_kinds(&self) -> impl Iterator<Item = &ApiResource> {
        let Served {
            http_route,
            tcp_route,
            udp_route,
            tls_route,
            gateway: _,
            service_monitor,
            prometheus_rule,
            certificate,
        } = self;
        [http_route, tcp_route, udp_route, tls_route, service_monitor, prometheus_rule, certificate]
            .into_iter()
            .flatten()
    }

    fn place(&mut self, group: &str, kind: &str) -> Option<&mut Option<ApiResource>> {
        Some(match (group, kind) {
            (GATEWAY, "HTTPRoute") => &mut self.http_route,
            (GATEWAY, "TCPRoute") => &mut self.tcp_route,
            (GATEWAY, "UDPRoute") => &mut self.udp_route,
            (GATEWAY, "TLSRoute") => &mut self.tls_route,
            (GATEWAY, "Gateway") => &mut self.gateway,
            (MONITORING, "ServiceMonitor") => &mut self.service_monitor,
            (MONITORING, "PrometheusRule") => &mut self.prometheus_rule,
            (CERTIFICATES, "Certificate") => &mut self.certificate,
            _ => return None,
        })
    }

    /// Takes in what one version of a group serves. Versions come best first: what is there already stays.
    fn take(&mut self, group: &str, version: &str, resources: &APIResourceList) {
        for resource in &resources.resources {
            if resource.name.contains('/') {
                continue;
            }
            if let Some(place) = self.place(group, &resource.kind) {
                place.get_or_insert_with(|| ApiResource {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    api_version: format!("{group}/{version}"),
                    kind: resource.kind.clone(),
                    plural: resource.name.clone(),
                });
            }
        }
    }
}

/// The versions to look at, best first: what is stable before what is not, newer before older.
fn versions(groups: &APIGroupList) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = groups
        .groups
        .iter()
        .filter(|group| [GATEWAY, MONITORING, CERTIFICATES].contains(&group.name.as_str()))
        .flat_map(|group| group.versions.iter().map(|version| (group.name.clone(), version.version.clone())))
        .collect();
    found.sort_by_cached_key(|(group, version)| {
        (group.clone(), std::cmp::Reverse(kube::core::Version::parse(version).priority()))
    });
    found
}

/// Looks once.
///
/// # Errors
/// The list of groups, or a group that is in it, cannot be read.
pub async fn look(client: &Client) -> Result<Served, kube::Error> {
    // Only groups that custom resources serve are asked further, so an aggregated API that is down is in nobody's way.
    let groups = client.list_api_groups().await?;
    let mut served = Served::default();
    for (group, version) in versions(&groups) {
        let resources = client.list_api_group_resources(&format!("{group}/{version}")).await?;
        served.take(&group, &version, &resources);
    }
    Ok(served)
}

/// Looks every minute, for as long as somebody listens.
pub async fn follow(client: Client, served: watch::Sender<Arc<Served>>, beat: Beat) {
    while !served.is_closed() {
        match timeout(REQUEST, look(&client)).await {
            Ok(Ok(now)) => {
                served.send_if_modified(|before| {
                    let changed = **before != now;
                    if changed {
                        *before = Arc::new(now);
                    }
                    changed
                });
            }
            // What was served a minute ago is a better guess than nothing.
            Ok(Err(error)) => tracing::warn!(%error, "cannot see which kinds are served"),
            Err(_) => tracing::warn!("no answer within {REQUEST:?} to which kinds are served"),
        }
        for _ in 0..INTERVAL.as_secs() / ALIVE.as_secs() {
            beat.touch();
            sleep(ALIVE).await;
        }
    }
}
