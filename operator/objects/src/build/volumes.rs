//! Volumes of a pod. Configuration, secrets, certificate and trust are one projected volume, which the kubelet updates in place and
//! all at once.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource,
    ProjectedVolumeSource, SecretProjection, Volume, VolumeMount, VolumeProjection,
};
use sluice_crds::names;

use super::{claim, config};
use crate::{Pool, SecretRef};

pub(crate) const CONFIG: &str = "config";
pub(crate) const DATA: &str = "data";
pub(crate) const TMP: &str = "tmp";

/// The names of the operator's volumes.
pub(crate) const OURS: [&str; 3] = [CONFIG, DATA, TMP];

pub(crate) const CONFIG_PATH: &str = "/etc/sluice";
pub(crate) const DATA_PATH: &str = "/var/lib/sluice";
pub(crate) const TMP_PATH: &str = "/tmp";

pub(crate) const CLUSTER_KEY: &str = "secrets/cluster-key";
pub(crate) const ADMIN_TOKEN: &str = "secrets/admin-token";
pub(crate) const DATABASE_URI: &str = "secrets/database-uri";
pub(crate) const TLS: &str = "tls";
pub(crate) const TRUST: &str = "trust";
/// The key of the trust ConfigMap, and the name of the file.
pub(crate) const OPERATOR_CA: &str = "operator-ca.crt";

/// The node reads secrets as its group; nobody else does.
const MODE: i32 = 0o440;

/// Where something of the projected volume is.
pub(crate) fn path(inside: &str) -> String {
    format!("{CONFIG_PATH}/{inside}")
}

pub(crate) fn volumes(pool: &Pool, pod: &str) -> Vec<Volume> {
    let data = match pool.storage() {
        Some(_) => Volume {
            name: DATA.into(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim::name(pod),
                read_only: None,
            }),
            ..Volume::default()
        },
        None => empty(DATA),
    };
    let mut all = vec![configuration(pool), data, empty(TMP)];
    all.extend(pool.template().volumes.iter().cloned());
    all
}

/// Where the node container has them.
pub(crate) fn mounts(pool: &Pool) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut all =
        vec![mount(CONFIG, CONFIG_PATH, true), mount(DATA, DATA_PATH, false), mount(TMP, TMP_PATH, false)];
    all.extend(pool.template().mounts.iter().cloned());
    all
}

fn empty(name: &str) -> Volume {
    Volume { name: name.into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

fn configuration(pool: &Pool) -> Volume {
    let cluster = pool.cluster();
    let secret = |secret: &SecretRef, path: &str| from_secret(&secret.name, vec![item(&secret.key, path)]);
    let mut sources = vec![
        from_config_map(names::config_map(pool.name()), vec![item(config::FILE, config::FILE)]),
        from_config_map(
            names::trust_config_map(cluster.name()),
            vec![item(OPERATOR_CA, &format!("{TRUST}/{OPERATOR_CA}"))],
        ),
        secret(cluster.cluster_key(), CLUSTER_KEY),
        secret(cluster.admin_token(), ADMIN_TOKEN),
        secret(cluster.database(), DATABASE_URI),
    ];
    if let Some(certificate) = cluster.certificate() {
        let items = ["tls.crt", "tls.key"].map(|key| item(key, &format!("{TLS}/{key}"))).to_vec();
        sources.push(from_secret(&certificate.secret, items));
    }
    Volume {
        name: CONFIG.into(),
        projected: Some(ProjectedVolumeSource { default_mode: Some(MODE), sources: Some(sources) }),
        ..Volume::default()
    }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.into(), path: path.into(), mode: None }
}

fn from_secret(name: &str, items: Vec<KeyToPath>) -> VolumeProjection {
    let secret = SecretProjection { name: name.into(), items: Some(items), optional: None };
    VolumeProjection { secret: Some(secret), ..VolumeProjection::default() }
}

fn from_config_map(name: String, items: Vec<KeyToPath>) -> VolumeProjection {
    let config_map = ConfigMapProjection { name, items: Some(items), optional: None };
    VolumeProjection { config_map: Some(config_map), ..VolumeProjection::default() }
}
