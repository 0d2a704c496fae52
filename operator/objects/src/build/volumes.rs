//! Volumes of a pod. Configuration, secrets, certificate and trust are one projected volume, which the kubelet updates in place and
//! all at once.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource,
    ProjectedVolumeSource, SecretProjection, Volume, VolumeMount, VolumeProjection,
};
use sluice_crds::names;

use super::{claim, generation};
use crate::{Pool, SecretRef, paths};

pub(crate) const CONFIG: &str = "config";
pub(crate) const DATA: &str = "data";
pub(crate) const TMP: &str = "tmp";

/// The names of the operator's volumes.
pub(crate) const OURS: [&str; 3] = [CONFIG, DATA, TMP];

/// The key of the trust ConfigMap.
pub(crate) const OPERATOR_CA: &str = "operator-ca.crt";

/// The node reads secrets as its group; nobody else does.
const MODE: i32 = 0o440;

pub(crate) fn volumes(pool: &Pool, pod: &str, generation: i64) -> Vec<Volume> {
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
    let mut all = vec![configuration(pool, generation), data, empty(TMP)];
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
    let mut all = vec![
        mount(CONFIG, paths::GIVEN, true),
        mount(DATA, paths::DATA, false),
        mount(TMP, paths::TMP, false),
    ];
    all.extend(pool.template().mounts.iter().cloned());
    all
}

fn empty(name: &str) -> Volume {
    Volume { name: name.into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

fn configuration(pool: &Pool, generation: i64) -> Volume {
    let cluster = pool.cluster();
    let secret = |secret: &SecretRef, path: &str| from_secret(&secret.name, vec![item(&secret.key, path)]);
    let mut sources = vec![
        from_config_map(
            names::config_map(pool.name()),
            vec![item(generation::of(generation).file, paths::CONFIG)],
        ),
        from_config_map(names::trust_config_map(cluster.name()), vec![item(OPERATOR_CA, paths::OPERATOR_CA)]),
        secret(cluster.cluster_key(), paths::CLUSTER_KEY),
        secret(cluster.admin_token(), paths::ADMIN_TOKEN),
        secret(cluster.database(), paths::DATABASE_URI),
    ];
    if let Some(certificate) = cluster.certificate() {
        let items = vec![item("tls.crt", paths::TLS_CERTIFICATE), item("tls.key", paths::TLS_KEY)];
        sources.push(from_secret(&certificate.secret, items));
    }
    Volume {
        name: CONFIG.into(),
        projected: Some(ProjectedVolumeSource { default_mode: Some(MODE), sources: Some(sources) }),
        ..Volume::default()
    }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.into(), path: paths::inside(path).into(), mode: None }
}

fn from_secret(name: &str, items: Vec<KeyToPath>) -> VolumeProjection {
    let secret = SecretProjection { name: name.into(), items: Some(items), optional: None };
    VolumeProjection { secret: Some(secret), ..VolumeProjection::default() }
}

fn from_config_map(name: String, items: Vec<KeyToPath>) -> VolumeProjection {
    let config_map = ConfigMapProjection { name, items: Some(items), optional: None };
    VolumeProjection { config_map: Some(config_map), ..VolumeProjection::default() }
}
