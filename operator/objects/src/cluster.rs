//! A cluster as it is built from: its spec, checked.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use sluice_crds::MediaCluster;
use sluice_crds::cluster::{
    App, ClusterExposure, DatabaseMode, Image, IngressExposure, Issuer, Monitoring, ParentRef, Security,
    Switch, Tls,
};
use sluice_crds::common::SecretKey;
use sluice_crds::names;

use crate::build::meta;
use crate::check;
use crate::invalid::{Invalid, Problems};

/// What a cluster keeps for good, from its status or decided now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// The version of the nodes where the spec names none.
    pub version: String,
    /// What stands before the names of the cluster's databases where the spec says nothing.
    pub name_prefix: String,
}

/// Where the operator runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Its namespace.
    pub operator_namespace: String,
    /// The certificate of its authority, PEM.
    pub operator_ca_pem: String,
    /// The domain of names inside the Kubernetes cluster: `cluster.local`.
    pub cluster_domain: String,
}

/// A key of a Secret of the cluster's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// The name of the Secret.
    pub name: String,
    /// The key in it.
    pub key: String,
    /// Whether the operator makes it, because the spec names none.
    pub generated: bool,
}

impl SecretRef {
    /// Where the key is that the nodes of a cluster share; what its spec says is not checked.
    pub fn cluster_key(cluster: &MediaCluster) -> SecretRef {
        let made = names::cluster_key_secret(cluster.metadata.name.as_deref().unwrap_or_default());
        SecretRef::new(cluster.spec.security.cluster_key.as_ref(), &made, "key")
    }

    /// The one that is given, or else the one that is made.
    fn new(given: Option<&SecretKey>, made: &str, default_key: &str) -> SecretRef {
        let Some(given) = given else {
            return SecretRef { name: made.into(), key: default_key.into(), generated: true };
        };
        let key = given.key.clone().unwrap_or_else(|| default_key.into());
        SecretRef { name: given.name.clone(), key, generated: false }
    }
}

/// The certificate for HTTPS and RTMPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The Secret of type `kubernetes.io/tls` that it is in.
    pub secret: String,
    /// Who makes it, and for which names; none when it is there already.
    pub issued: Option<(Issuer, Vec<String>)>,
}

/// A cluster as it is built from: everything in it was checked.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: String,
    namespace: String,
    owner: OwnerReference,
    version: String,
    name_prefix: String,
    image: Image,
    database: SecretRef,
    cluster_key: SecretRef,
    admin_token: SecretRef,
    certificate: Option<Certificate>,
    network_policy: bool,
    exposure: ClusterExposure,
    monitoring: Monitoring,
    apps: Vec<App>,
}

impl Cluster {
    /// Checks a cluster's spec.
    ///
    /// # Errors
    /// Everything that is wrong with it, by field.
    pub fn new(resource: &MediaCluster, pinned: &Pinned) -> Result<Cluster, Vec<Invalid>> {
        let mut problems = Problems::default();
        let (name, namespace) = identity(&mut problems, resource);
        let spec = &resource.spec;
        image(&mut problems, &spec.image);
        let version = spec.version.clone().unwrap_or_else(|| pinned.version.clone());
        problems.unless(check::tag(&version), "spec.version", "is no tag of an image");
        let external = spec.database.external.clone().unwrap_or_default();
        match (spec.database.mode, &spec.database.external) {
            (DatabaseMode::Managed, _) => problems.say(
                "spec.database.mode",
                "Managed is not in this version: run MongoDB yourself and use External",
            ),
            (DatabaseMode::External, None) => problems.say(
                "spec.database.external",
                "is needed with mode External: name the Secret that has the URI",
            ),
            (DatabaseMode::External, Some(_)) => {}
        }
        let name_prefix = external.name_prefix.clone().unwrap_or_else(|| pinned.name_prefix.clone());
        problems.unless(
            (1..=names::NAME_PREFIX_BYTES).contains(&name_prefix.len())
                && name_prefix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
            "spec.database.external.namePrefix",
            "has 1 to 24 letters, digits, '-' and '_'",
        );
        let database = match &spec.database.external {
            Some(external) => {
                let given = SecretRef::new(Some(&external.secret), "", "uri");
                checked(&mut problems, "spec.database.external.secret", given)
            }
            None => SecretRef { name: String::new(), key: "uri".into(), generated: false },
        };
        let Security { cluster_key: _, admin_token, tls: their_tls, network_policy } = &spec.security;
        let cluster_key =
            checked(&mut problems, "spec.security.clusterKey", SecretRef::cluster_key(resource));
        let made = names::admin_token_secret(&name);
        let admin_token = SecretRef::new(admin_token.as_ref(), &made, "token");
        let admin_token = checked(&mut problems, "spec.security.adminToken", admin_token);
        let certificate = their_tls.as_ref().map(|tls| certificate(&mut problems, tls, &name));
        exposure(&mut problems, &spec.exposure, certificate.is_some());
        monitoring(&mut problems, &spec.monitoring);
        apps(&mut problems, &spec.apps);
        problems.none()?;
        Ok(Cluster {
            owner: meta::owner(resource, MediaCluster::kind(&()).as_ref()),
            name,
            namespace,
            version,
            name_prefix,
            image: spec.image.clone(),
            database,
            cluster_key,
            admin_token,
            certificate,
            network_policy: *network_policy == Switch::Enabled,
            exposure: spec.exposure.clone(),
            monitoring: spec.monitoring.clone(),
            apps: spec.apps.clone(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The version of its nodes, where a pool has none of its own.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What stands before the names of its databases.
    pub fn name_prefix(&self) -> &str {
        &self.name_prefix
    }

    /// The URI of its database.
    pub fn database(&self) -> &SecretRef {
        &self.database
    }

    /// The key that its nodes share.
    pub fn cluster_key(&self) -> &SecretRef {
        &self.cluster_key
    }

    /// The token for management requests.
    pub fn admin_token(&self) -> &SecretRef {
        &self.admin_token
    }

    /// The certificate for HTTPS and RTMPS.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// The reference by which its objects are its own.
    pub fn owner(&self) -> &OwnerReference {
        &self.owner
    }

    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    pub(crate) fn network_policy(&self) -> bool {
        self.network_policy
    }

    pub(crate) fn exposure(&self) -> &ClusterExposure {
        &self.exposure
    }

    pub(crate) fn monitoring(&self) -> &Monitoring {
        &self.monitoring
    }

    /// The apps of its spec.
    pub fn apps(&self) -> &[App] {
        &self.apps
    }
}

/// Name and namespace, as all kinds need them.
pub(crate) fn identity<K: Resource>(problems: &mut Problems, resource: &K) -> (String, String) {
    let meta = resource.meta();
    let name = meta.name.clone().unwrap_or_default();
    problems.unless(
        name.len() <= 40 && check::label(&name) && name.starts_with(|c: char| c.is_ascii_lowercase()),
        "metadata.name",
        "must be at most 40 lower-case letters, digits and '-', and begin with a letter: Services are named after it",
    );
    let namespace = meta.namespace.clone().unwrap_or_default();
    problems.unless(check::label(&namespace), "metadata.namespace", "is needed");
    problems.unless(
        meta.uid.as_ref().is_some_and(|uid| !uid.is_empty()),
        "metadata.uid",
        "is needed: only what the API server has stored can own objects",
    );
    (name, namespace)
}

fn image(problems: &mut Problems, image: &Image) {
    let Image { repository, pull_policy: _, pull_secrets } = image;
    let characters =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_' | b':' | b'/');
    problems.unless(
        (1..=255).contains(&repository.len())
            && repository.bytes().all(characters)
            && repository.starts_with(|c: char| c.is_ascii_alphanumeric())
            && repository.ends_with(|c: char| c.is_ascii_alphanumeric()),
        "spec.image.repository",
        "is no name of an image: registry and name, in lower case, without a tag",
    );
    problems.unless(
        repository.rfind(':').is_none_or(|colon| repository.rfind('/').is_some_and(|slash| colon < slash)),
        "spec.image.repository",
        "is without a tag: put the tag into spec.version",
    );
    for (index, secret) in pull_secrets.iter().enumerate() {
        let field = format!("spec.image.pullSecrets[{index}].name");
        problems.unless(check::subdomain(&secret.name), &field, "is no name of a Secret");
    }
}

fn checked(problems: &mut Problems, field: &str, secret: SecretRef) -> SecretRef {
    if !secret.generated {
        problems.unless(check::subdomain(&secret.name), &format!("{field}.name"), "is no name of a Secret");
        problems.unless(check::data_key(&secret.key), &format!("{field}.key"), "is no key of a Secret");
    }
    secret
}

fn certificate(problems: &mut Problems, tls: &Tls, cluster: &str) -> Certificate {
    const FIELD: &str = "spec.security.tls";
    let Tls { secret_name, issuer, dns_names } = tls;
    for (index, name) in dns_names.iter().enumerate() {
        let field = format!("{FIELD}.dnsNames[{index}]");
        problems.unless(check::host(name), &field, "is no host name: lower case, `*.` in front allowed");
    }
    match (secret_name, issuer) {
        (Some(secret), None) => {
            let field = format!("{FIELD}.secretName");
            problems.unless(check::subdomain(secret), &field, "is no name of a Secret");
            Certificate { secret: secret.clone(), issued: None }
        }
        (None, Some(issuer)) => {
            problems.unless(
                check::subdomain(&issuer.name),
                &format!("{FIELD}.issuer.name"),
                "is no name of an issuer",
            );
            problems.unless(
                !dns_names.is_empty(),
                &format!("{FIELD}.dnsNames"),
                "is needed with issuer: the names that the certificate is for",
            );
            Certificate {
                secret: format!("{cluster}-tls"),
                issued: Some((issuer.clone(), dns_names.clone())),
            }
        }
        (Some(_), Some(_)) | (None, None) => {
            problems.say(FIELD, "needs exactly one of secretName and issuer");
            Certificate { secret: String::new(), issued: None }
        }
    }
}

fn exposure(problems: &mut Problems, exposure: &ClusterExposure, has_certificate: bool) {
    let ClusterExposure { ingress, gateway } = exposure;
    if let Some(ingress) = ingress {
        const FIELD: &str = "spec.exposure.ingress";
        let IngressExposure { class_name, host, publish_host, tls, annotations } = ingress;
        if let Some(class) = class_name {
            let field = format!("{FIELD}.className");
            problems.unless(check::subdomain(class), &field, "is no name of an IngressClass");
        }
        let no_host = "is no host name: lower case, `*.` in front allowed";
        problems.unless(check::host(host), &format!("{FIELD}.host"), no_host);
        if let Some(publish) = publish_host {
            let field = format!("{FIELD}.publishHost");
            problems.unless(check::host(publish), &field, no_host);
            problems.unless(
                publish != host,
                &field,
                "must differ from host: leave it out to have one host for both",
            );
        }
        problems.unless(
            !*tls || has_certificate,
            &format!("{FIELD}.tls"),
            "needs a certificate: set security.tls, or leave it out",
        );
        check::keys(problems, &format!("{FIELD}.annotations"), annotations);
    }
    let Some(gateway) = gateway else { return };
    const FIELD: &str = "spec.exposure.gateway";
    for (list, hosts) in [("hostnames", &gateway.hostnames), ("publishHostnames", &gateway.publish_hostnames)]
    {
        for (index, name) in hosts.iter().enumerate() {
            let field = format!("{FIELD}.{list}[{index}]");
            problems.unless(check::host(name), &field, "is no host name: lower case, `*.` in front allowed");
        }
    }
    for (list, parents) in
        [("http", &gateway.http), ("rtmp", &gateway.rtmp), ("rtmps", &gateway.rtmps), ("srt", &gateway.srt)]
    {
        for (index, ParentRef { name, namespace, section_name, port: _ }) in parents.iter().enumerate() {
            let field = format!("{FIELD}.{list}[{index}]");
            problems.unless(check::subdomain(name), &format!("{field}.name"), "is no name of a Gateway");
            if let Some(namespace) = namespace {
                let field = format!("{field}.namespace");
                problems.unless(check::label(namespace), &field, "is no name of a namespace");
            }
            if let Some(section) = section_name {
                let field = format!("{field}.sectionName");
                problems.unless(check::subdomain(section), &field, "is no name of a listener");
            }
        }
    }
    problems.unless(
        gateway.rtmps.is_empty() || (has_certificate && !gateway.publish_hostnames.is_empty()),
        &format!("{FIELD}.rtmps"),
        "needs security.tls and exposure.gateway.publishHostnames: the nodes end TLS, and the route is chosen by host name",
    );
}

fn monitoring(problems: &mut Problems, monitoring: &Monitoring) {
    let Monitoring { service_monitor: _, prometheus_rule: _, interval, labels } = monitoring;
    problems.unless(
        check::duration(interval).is_some() && !interval.ends_with('h'),
        "spec.monitoring.interval",
        "is a time such as 30s or 1m",
    );
    check::labels(problems, "spec.monitoring.labels", labels);
    for key in
        labels.keys().filter(|key| key.starts_with("sluice.dev/") || key.starts_with("app.kubernetes.io/"))
    {
        let problem = "labels may not begin with sluice.dev/ or app.kubernetes.io/: the operator sets those";
        problems.say(format!("spec.monitoring.labels[{key}]"), problem);
    }
}

fn apps(problems: &mut Problems, apps: &[App]) {
    let mut seen = BTreeSet::new();
    for (index, App { name, settings: _, deletion_policy: _ }) in apps.iter().enumerate() {
        let field = format!("spec.apps[{index}].name");
        problems.unless(
            (1..=64).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
            &field,
            "has 1 to 64 letters, digits, '-' and '_': it is the first part of URLs",
        );
        problems.unless(name != "rest", &field, "may not be `rest`: the REST API is there");
        problems.unless(seen.insert(name), &field, "is there twice: keep one of them");
    }
}
