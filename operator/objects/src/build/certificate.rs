//! A certificate by cert-manager.

use kube::core::DynamicObject;
use serde_json::json;
use sluice_crds::cluster::{Issuer, IssuerKind};

use super::{meta, routes::Served};
use crate::Cluster;

pub(crate) fn certificate(
    cluster: &Cluster,
    served: &Served,
    missing: &mut Vec<String>,
) -> Option<DynamicObject> {
    let certificate = cluster.certificate()?;
    let (Issuer { name, kind }, dns_names) = certificate.issued.as_ref()?;
    if !served.certificate {
        missing.push("Certificate (cert-manager.io)".into());
        return None;
    }
    let kind = match kind {
        IssuerKind::Issuer => "Issuer",
        IssuerKind::ClusterIssuer => "ClusterIssuer",
    };
    Some(meta::dynamic(
        "cert-manager.io/v1",
        "Certificate",
        meta::of_cluster(cluster, format!("{}-tls", cluster.name())),
        json!({
            "secretName": certificate.secret,
            "dnsNames": dns_names,
            "issuerRef": { "group": "cert-manager.io", "kind": kind, "name": name },
            "privateKey": { "algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always" },
            "usages": ["digital signature", "server auth"],
        }),
    ))
}
