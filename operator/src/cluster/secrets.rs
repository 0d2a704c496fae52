//! Secrets that the operator makes once: the cluster key and the admin token. What is lost is restored, never made anew under running pods.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt};
use sluice_crds::generate::hash;
use sluice_crds::{MediaCluster, names};
use sluice_objects::SecretRef;
use sluice_objects::paths::CLUSTER_KEY;

use crate::pool::status::Problem;

/// A generated secret has so many random bytes, written in hexadecimal.
const BYTES: usize = 32;

/// What became of a Secret.
#[derive(Debug)]
pub enum Found {
    /// It is there.
    Value {
        /// What is in it.
        value: Vec<u8>,
        /// It was missing, and is as it was again.
        restored: bool,
    },
    /// It is not, for this reason.
    Missing(Problem),
}

/// The values that were seen, by the uid of the cluster and the name of the Secret: from here, deleted ones are restored.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<(String, String), Vec<u8>>>);

impl Memory {
    /// Keeps a value.
    pub fn keep(&self, cluster: &str, secret: &str, value: &[u8]) {
        self.with(|all| drop(all.insert((cluster.to_owned(), secret.to_owned()), value.to_owned())));
    }

    fn recall(&self, cluster: &str, secret: &str) -> Option<Vec<u8>> {
        self.with(|all| all.get(&(cluster.to_owned(), secret.to_owned())).cloned())
    }

    /// The value of this cluster with this hash.
    pub fn recall_hash(&self, cluster: &str, wanted: &str) -> Option<Vec<u8>> {
        self.with(|all| {
            all.iter()
                .find(|((of, _), value)| of == cluster && hash(value) == wanted)
                .map(|(_, value)| value.clone())
        })
    }

    /// Forgets the clusters that are no more.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.with(|all| all.retain(|(cluster, _), _| exists(cluster)));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<(String, String), Vec<u8>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What to do when a generated Secret is not there.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Restore(Vec<u8>),
    Make,
    Lost,
}

/// `recorded`: the hash of what it was, when losing it matters; `running`: whether a pod may still use it.
fn decide(recorded: Option<&str>, remembered: Option<Vec<u8>>, running: bool) -> Decision {
    match (recorded, remembered) {
        (Some(recorded), Some(value)) if hash(&value) == recorded => Decision::Restore(value),
        (Some(_), _) if running => Decision::Lost,
        (None, Some(value)) => Decision::Restore(value),
        _ => Decision::Make,
    }
}

/// Reads or makes a generated Secret. `recorded` is the hash of what it was, `running` whether a pod may still use that, `cached` what
/// the cache has of it.
///
/// # Errors
/// What the API server said, when it could not be asked.
#[expect(clippy::too_many_arguments, reason = "two calls, each of its own kind")]
pub async fn generated(
    client: &Client,
    memory: &Memory,
    cluster: &MediaCluster,
    wanted: &SecretRef,
    recorded: Option<&str>,
    running: bool,
    immutable: bool,
    cached: Option<&Secret>,
) -> Result<Found, kube::Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let uid = cluster.uid().unwrap_or_default();
    if let Some(secret) = cached {
        return Ok(take(memory, cluster, wanted, secret, recorded, false));
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    // The cache has only what carries the operator's label, and may be behind.
    if let Some(secret) = secrets.get_opt(&wanted.name).await? {
        return Ok(take(memory, cluster, wanted, &secret, recorded, false));
    }
    let value = match decide(recorded, memory.recall(&uid, &wanted.name), running) {
        Decision::Lost => return Ok(Found::Missing(lost(cluster, wanted))),
        Decision::Make => fresh().into_bytes(),
        Decision::Restore(value) => {
            return create(&secrets, memory, cluster, wanted, value, immutable, recorded, true).await;
        }
    };
    create(&secrets, memory, cluster, wanted, value, immutable, None, false).await
}

#[expect(clippy::too_many_arguments, reason = "one call, each of its own kind")]
async fn create(
    secrets: &Api<Secret>,
    memory: &Memory,
    cluster: &MediaCluster,
    wanted: &SecretRef,
    value: Vec<u8>,
    immutable: bool,
    recorded: Option<&str>,
    restored: bool,
) -> Result<Found, kube::Error> {
    let secret = build(cluster, wanted, value, immutable);
    let params = PostParams { field_manager: Some(names::MANAGER_CLUSTER.into()), ..PostParams::default() };
    match secrets.create(&params, &secret).await {
        Ok(secret) => Ok(take(memory, cluster, wanted, &secret, recorded, restored)),
        // Somebody was quicker: what is there counts.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let secret = secrets.get(&wanted.name).await?;
            Ok(take(memory, cluster, wanted, &secret, recorded, false))
        }
        Err(error) => Err(error),
    }
}

fn take(
    memory: &Memory,
    cluster: &MediaCluster,
    wanted: &SecretRef,
    secret: &Secret,
    recorded: Option<&str>,
    restored: bool,
) -> Found {
    let uid = cluster.uid().unwrap_or_default();
    let ours = secret.owner_references().iter().any(|owner| owner.uid == uid);
    // One that a person put back is as good when it is the same.
    let same = value_of(secret, wanted).is_ok_and(|value| recorded == Some(&hash(&value)));
    if !ours && !same {
        return Found::Missing(Problem {
            reason: "SecretTaken",
            message: format!(
                "the Secret {} belongs to something else: delete it, rename the cluster {}, or name it in spec.security",
                wanted.name,
                cluster.name_any()
            ),
            stuck: true,
        });
    }
    match value_of(secret, wanted) {
        Ok(value) => {
            memory.keep(&uid, &wanted.name, &value);
            Found::Value { value, restored }
        }
        Err(problem) => Found::Missing(problem),
    }
}

/// A value of a Secret that the spec names, as it was read; `field` is where it is named.
pub fn given(secret: Option<&Secret>, namespace: &str, wanted: &SecretRef, field: &str) -> Found {
    let Some(secret) = secret else {
        return Found::Missing(Problem {
            reason: "SecretMissing",
            message: format!(
                "{field}: there is no Secret {} in namespace {namespace}: make it, with the key {}",
                wanted.name, wanted.key
            ),
            stuck: true,
        });
    };
    match value_of(secret, wanted) {
        Ok(value) => Found::Value { value, restored: false },
        Err(problem) => {
            Found::Missing(Problem { message: format!("{field}: {}", problem.message), ..problem })
        }
    }
}

/// The key of a Secret that the spec names is another one than the running pods have.
pub fn changed(wanted: &SecretRef) -> Problem {
    Problem {
        reason: "ClusterKeyChanged",
        message: format!(
            "spec.security.clusterKey: the key {} of the Secret {} is another one than the running pods have, and new pods could not talk \
             to them. Put the old one back; or set spec.stopped to true until no pod is left: then the new one counts",
            wanted.key, wanted.name
        ),
        stuck: true,
    }
}

fn value_of(secret: &Secret, wanted: &SecretRef) -> Result<Vec<u8>, Problem> {
    let value = secret
        .data
        .as_ref()
        .and_then(|data| data.get(&wanted.key))
        .map(|value| value.0.trim_ascii().to_vec());
    value.filter(|value| !value.is_empty()).ok_or_else(|| Problem {
        reason: "SecretMissing",
        message: format!("the Secret {} has no value under the key {}: add it", wanted.name, wanted.key),
        stuck: true,
    })
}

fn lost(cluster: &MediaCluster, wanted: &SecretRef) -> Problem {
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), &wanted.name);
    Problem {
        reason: "ClusterKeyLost",
        message: format!(
            "the Secret {name} with the cluster key was deleted while the operator was away; a new key would cut the running pods apart. \
             Put it back from a backup or from a running pod (kubectl -n {namespace} exec POD -- cat {CLUSTER_KEY}), as key `{}`; or set spec.stopped to true until no pod is left: \
             then a new one is made",
            wanted.key
        ),
        stuck: true,
    }
}

fn fresh() -> String {
    rand::random::<[u8; BYTES]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn build(cluster: &MediaCluster, wanted: &SecretRef, value: Vec<u8>, immutable: bool) -> Secret {
    use names::standard;
    let name = cluster.name_any();
    Secret {
        metadata: ObjectMeta {
            name: Some(wanted.name.clone()),
            namespace: cluster.namespace(),
            labels: Some(BTreeMap::from([
                (standard::NAME.into(), standard::NODE.into()),
                (standard::INSTANCE.into(), name.clone()),
                (standard::MANAGED_BY.into(), standard::OPERATOR.into()),
                (names::CLUSTER.into(), name),
            ])),
            owner_references: cluster.controller_owner_ref(&()).map(|owner| {
                vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
                    block_owner_deletion: None,
                    ..owner
                }]
            }),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(wanted.key.clone(), ByteString(value))])),
        immutable: immutable.then_some(true),
        type_: Some("Opaque".into()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_never_made_under_running_pods() {
        let (old, recorded) = (b"old key".to_vec(), hash(b"old key"));
        let recorded = Some(recorded.as_str());
        assert_eq!(decide(None, None, false), Decision::Make);
        assert_eq!(decide(None, None, true), Decision::Make);
        assert_eq!(decide(recorded, Some(old.clone()), true), Decision::Restore(old.clone()));
        assert_eq!(decide(recorded, Some(old.clone()), false), Decision::Restore(old.clone()));
        assert_eq!(decide(recorded, None, true), Decision::Lost);
        assert_eq!(decide(recorded, Some(b"another".to_vec()), true), Decision::Lost);
        assert_eq!(decide(recorded, None, false), Decision::Make);
        assert_eq!(decide(None, Some(old.clone()), true), Decision::Restore(old));
    }

    #[test]
    fn fresh_values_are_long_and_differ() {
        let (one, two) = (fresh(), fresh());
        assert!(one.len() == 2 * BYTES && one != two && one.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn the_key_that_nodes_share_cannot_be_changed_in_place() {
        let cluster = MediaCluster::new("c", sluice_crds::MediaClusterSpec::default());
        let wanted = SecretRef { name: "c-cluster-key".into(), key: "key".into(), generated: true };
        let secret = build(&cluster, &wanted, b"x".to_vec(), true);
        assert_eq!(secret.immutable, Some(true));
        assert_eq!(value_of(&secret, &wanted).expect("a value"), b"x");
    }
}
