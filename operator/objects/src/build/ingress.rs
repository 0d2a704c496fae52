//! HTTP and WebSocket by an Ingress.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};
use sluice_crds::cluster::IngressExposure;
use sluice_crds::names;

use super::meta;
use crate::Cluster;

/// Plain `networking.k8s.io/v1`: what a controller needs beyond it comes from the spec's annotations.
pub(crate) fn ingress(cluster: &Cluster) -> Option<Ingress> {
    let IngressExposure { class_name, host, publish_host, tls, annotations } =
        cluster.exposure().ingress.as_ref()?;
    let mut metadata = meta::of_cluster(cluster, cluster.name().to_owned());
    metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
    let publish = names::publish_service(cluster.name());
    // Paths cannot tell what a WebSocket wants: that takes a host of its own.
    let mut paths: Vec<_> =
        whip_paths(cluster).into_iter().map(|prefix| path(&prefix, publish.clone())).collect();
    paths.push(path("/", names::watch_service(cluster.name())));
    let mut rules = vec![rule(host, paths)];
    rules.extend(publish_host.as_ref().map(|host| rule(host, vec![path("/", publish)])));
    let hosts: Vec<String> = std::iter::once(host).chain(publish_host).cloned().collect();
    let certificate = cluster.certificate().filter(|_| *tls);
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: class_name.clone(),
            rules: Some(rules),
            tls: certificate
                .map(|one| vec![IngressTLS { hosts: Some(hosts), secret_name: Some(one.secret.clone()) }]),
            default_backend: None,
        }),
        status: None,
    })
}

/// Where WHIP publishers of the spec's apps come in. Other apps have no path of their own: their names are not known here.
pub(crate) fn whip_paths(cluster: &Cluster) -> Vec<String> {
    cluster.apps().iter().map(|app| format!("/{}/whip", app.name)).collect()
}

fn rule(host: &str, paths: Vec<HTTPIngressPath>) -> IngressRule {
    IngressRule { host: Some(host.to_owned()), http: Some(HTTPIngressRuleValue { paths }) }
}

fn path(prefix: &str, service: String) -> HTTPIngressPath {
    HTTPIngressPath {
        path: Some(prefix.to_owned()),
        path_type: "Prefix".into(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: service,
                port: Some(ServiceBackendPort { name: Some("http".into()), number: None }),
            }),
            resource: None,
        },
    }
}
