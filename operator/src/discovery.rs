//! Which of the kinds are served that are not in every cluster.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList};
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::Client;
use kube::api::ApiResource;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::client::{REQUEST, sentence};
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
    /// `ServiceMonitor` of the Prometheus operator.
    pub service_monitor: Option<ApiResource>,
    /// `PrometheusRule` of the Prometheus operator.
    pub prometheus_rule: Option<ApiResource>,
    /// `Certificate` of cert-manager.
    pub certificate: Option<ApiResource>,
    /// A HorizontalPodAutoscaler has a `tolerance`: an older API server refuses the field, or drops it.
    pub tolerance: bool,
}

/// The first minor version of Kubernetes 1 whose API server takes the tolerance of a HorizontalPodAutoscaler without being told to.
const TOLERANCE: u32 = 35;

impl Served {
    /// Those whose objects the operator makes.
    pub fn owned_kinds(&self) -> impl Iterator<Item = &ApiResource> {
        let Served {
            http_route,
            tcp_route,
            udp_route,
            tls_route,
            service_monitor,
            prometheus_rule,
            certificate,
            tolerance: _,
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

/// Whether an API server of this version knows the tolerance. Some write `35+`.
fn knows_tolerance(version: &Info) -> bool {
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok();
    number(&version.major).zip(number(&version.minor)).is_some_and(|version| version >= (1, TOLERANCE))
}

/// Looks once.
///
/// # Errors
/// The version, the list of groups, or a group that is in it, cannot be read.
pub async fn look(client: &Client) -> Result<Served, kube::Error> {
    let version = client.apiserver_version().await?;
    // Only groups that custom resources serve are asked further, so an aggregated API that is down is in nobody's way.
    let groups = client.list_api_groups().await?;
    let mut served = Served { tolerance: knows_tolerance(&version), ..Served::default() };
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
            Ok(Err(error)) => tracing::warn!(error = sentence(&error), "cannot see which kinds are served"),
            Err(_) => tracing::warn!("no answer within {REQUEST:?} to which kinds are served"),
        }
        for _ in 0..INTERVAL.as_secs() / ALIVE.as_secs() {
            beat.touch();
            sleep(ALIVE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    fn groups(groups: &[(&str, &[&str])]) -> Value {
        let version = |group: &str, version: &str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
        let group = |(name, versions): &(&str, &[&str])| {
            let all: Vec<_> = versions.iter().map(|v| version(name, v)).collect();
            json!({"name": name, "versions": all, "preferredVersion": all.first()})
        };
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups.iter().map(group).collect::<Vec<_>>()})
    }

    fn kinds(group_version: &str, kinds: &[(&str, &str)]) -> Value {
        let resource = |(plural, kind): &(&str, &str)| json!({"name": plural, "singularName": "", "kind": kind, "namespaced": true, "verbs": ["get"]});
        json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": kinds.iter().map(resource).collect::<Vec<_>>()})
    }

    fn version(minor: &str) -> (&'static str, Value) {
        let text = "";
        (
            "/version",
            json!({"major": "1", "minor": minor, "gitVersion": text, "gitCommit": text, "gitTreeState": text,
            "buildDate": text, "goVersion": text, "compiler": text, "platform": text}),
        )
    }

    /// Answers these paths, all others with 503, as an aggregated API that is down does.
    fn client(answers: Vec<(&'static str, Value)>) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            let found = answers
                .iter()
                .find(|(path, _)| *path == request.uri().path())
                .map(|(_, value)| value.clone());
            async move {
                let status = if found.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                let mut response =
                    Response::new(Body::from(serde_json::to_vec(&found.unwrap_or_default()).expect("json")));
                *response.status_mut() = status;
                Ok::<_, std::io::Error>(response)
            }
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn each_kind_in_its_best_version() {
        let client = client(vec![
            version("34"),
            (
                "/apis",
                groups(&[
                    ("gateway.networking.k8s.io", &["v1alpha2", "v1beta1", "v1"]),
                    ("monitoring.coreos.com", &["v1", "v1alpha1"]),
                    // Aggregated, and down: nobody asks it.
                    ("metrics.k8s.io", &["v1beta1"]),
                ]),
            ),
            (
                "/apis/gateway.networking.k8s.io/v1",
                kinds(
                    "gateway.networking.k8s.io/v1",
                    &[
                        ("httproutes", "HTTPRoute"),
                        ("httproutes/status", "HTTPRoute"),
                        ("gateways", "Gateway"),
                    ],
                ),
            ),
            ("/apis/gateway.networking.k8s.io/v1beta1", kinds("x", &[("httproutes", "HTTPRoute")])),
            (
                "/apis/gateway.networking.k8s.io/v1alpha2",
                kinds("x", &[("tcproutes", "TCPRoute"), ("httproutes", "HTTPRoute"), ("other", "Other")]),
            ),
            ("/apis/monitoring.coreos.com/v1", kinds("x", &[("servicemonitors", "ServiceMonitor")])),
            ("/apis/monitoring.coreos.com/v1alpha1", kinds("x", &[])),
        ]);
        let served = look(&client).await.expect("an answer");
        let version =
            |resource: &Option<ApiResource>| resource.as_ref().map(|resource| resource.version.clone());
        assert_eq!(version(&served.http_route).as_deref(), Some("v1"));
        assert_eq!(version(&served.tcp_route).as_deref(), Some("v1alpha2"));
        assert_eq!(served.http_route.as_ref().map(|resource| resource.plural.as_str()), Some("httproutes"));
        assert_eq!(
            (served.udp_route.clone(), served.prometheus_rule.clone(), served.certificate.clone()),
            (None, None, None)
        );
        assert!(served.service_monitor.is_some());
        let owned: Vec<_> = served.owned_kinds().map(|resource| resource.kind.as_str()).collect();
        assert_eq!(owned, ["HTTPRoute", "TCPRoute", "ServiceMonitor"]);
    }

    #[tokio::test]
    async fn a_cluster_without_any_of_it() {
        for (minor, tolerance) in [("32", false), ("34", false), ("35", true), ("36+", true), ("", false)] {
            let client = client(vec![version(minor), ("/apis", groups(&[("apps", &["v1"])]))]);
            let served = look(&client).await.expect("an answer");
            assert_eq!(served, Served { tolerance, ..Served::default() }, "{minor}");
        }
        assert!(look(&client(vec![])).await.is_err());
        assert!(look(&client(vec![version("35")])).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_stays_when_nobody_answers() {
        let known = Served {
            certificate: Some(ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
                CERTIFICATES,
                "v1",
                "Certificate",
            ))),
            ..Served::default()
        };
        let (sender, receiver) = watch::channel(Arc::new(known.clone()));
        let beat = Beat::new("discovery");
        let following = tokio::spawn(follow(client(vec![]), sender, beat));
        sleep(INTERVAL * 3).await;
        assert_eq!(**receiver.borrow(), known);
        assert!(!following.is_finished());
        drop(receiver);
        sleep(INTERVAL * 2).await;
        assert!(following.is_finished(), "ends when nobody listens");
    }
}
