//! The only writer of the operator's objects: server-side apply that asks the API server nothing when all is as it should be.
//!
//! An object is written when its hash annotation is not that of what is wanted (which also finds what is no longer wanted), or
//! when something of what is wanted is not there any more. What the API server makes of it (defaults, other spellings) is
//! remembered, so that a spelling we don't know is written once and not for ever.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy,
};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_crds::names::{self, MANAGER_STATUS, standard};
use tokio::time::timeout;

mod compare;
mod error;
mod memory;
#[cfg(test)]
mod tests;

pub use compare::hash;
pub use error::ApplyError;

use crate::client::REQUEST;
use crate::metrics::Metrics;
use crate::owned::Cache;
use error::Doing;
use memory::{Key, Memory};

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was as it should be: nothing was asked of the API server.
    Unchanged,
    /// It was not there.
    Created,
    /// It was another.
    Changed,
    /// It cannot be changed and was deleted, to be made anew.
    Replaced,
    /// It is on its way out (deleted, or still that of an owner of the same name before): it is made once it is gone, which
    /// comes as a change.
    Leaving,
}

impl Done {
    /// Whether something was written.
    pub fn wrote(&self) -> bool {
        matches!(self, Done::Created | Done::Changed | Done::Replaced)
    }
}

/// Writes objects; cheap to clone.
#[derive(Clone)]
pub struct Applier(Arc<Inner>);

struct Inner {
    client: Client,
    metrics: Metrics,
    memory: Memory,
}

impl fmt::Debug for Applier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Applier(…)")
    }
}

/// A kind that lies in namespaces.
pub trait Kind:
    Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + fmt::Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

impl Applier {
    /// Writes through this client, which must not repeat requests by itself.
    pub fn new(client: Client, metrics: &Metrics) -> Applier {
        Applier(Arc::new(Inner { client, metrics: metrics.clone(), memory: Memory::default() }))
    }

    /// The client that it writes through.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Makes an object what it should be. `desired` has its name, namespace, labels and owner; `live` is where it is looked up.
    ///
    /// # Errors
    /// The object is somebody else's, or the API server refuses or does not answer.
    pub async fn apply<K: Kind>(
        &self,
        manager: &str,
        desired: &K,
        live: &Cache<K>,
    ) -> Result<Done, ApplyError> {
        let resource = ApiResource::erase::<K>(&());
        let name = desired.name_any();
        let namespace = desired.namespace().unwrap_or_default();
        let doing = Doing::new("apply", &resource, &namespace, &name);
        let live = live.get(&namespace, &name).map(|live| doing.value(&*live)).transpose()?;
        let desired = doing.value(desired)?;
        self.apply_value(manager, &resource, doing, desired, live).await
    }

    /// The same for a kind that is known by discovery. `live` is none while that kind is not watched yet.
    ///
    /// # Errors
    /// The object is somebody else's, or the API server refuses or does not answer.
    pub async fn apply_dynamic(
        &self,
        manager: &str,
        resource: &ApiResource,
        desired: &DynamicObject,
        live: Option<&Cache<DynamicObject>>,
    ) -> Result<Done, ApplyError> {
        let name = desired.name_any();
        let namespace = desired.namespace().unwrap_or_default();
        let doing = Doing::new("apply", resource, &namespace, &name);
        let live = live.and_then(|live| live.get(&namespace, &name));
        let live = live.map(|live| doing.value(&*live)).transpose()?;
        let mut desired = doing.value(desired)?;
        desired["apiVersion"] = resource.api_version.clone().into();
        desired["kind"] = resource.kind.clone().into();
        self.apply_value(manager, resource, doing, desired, live).await
    }

    async fn apply_value(
        &self,
        manager: &str,
        resource: &ApiResource,
        doing: Doing,
        mut desired: Value,
        live: Option<Value>,
    ) -> Result<Done, ApplyError> {
        compare::normalise(&mut desired);
        let hash = compare::hash(&desired);
        desired["metadata"]["annotations"][names::HASH] = hash.clone().into();
        let key = Key::of(resource, &doing.namespace, &doing.name);
        let api: Api<DynamicObject> = Api::namespaced_with(self.0.client.clone(), &doing.namespace, resource);

        // What is not selected by our label is not in the cache: look before taking over what is somebody else's.
        let live = match live {
            Some(live) => Some(live),
            None => {
                let found = self.within(&doing, api.get_opt(&doing.name)).await?;
                found.map(|found| doing.value(&found)).transpose()?
            }
        };
        if let Some(live) = &live {
            if live["metadata"]["deletionTimestamp"].is_string() {
                return Ok(Done::Leaving);
            }
            match claim(&desired, live) {
                Claim::Ours => {}
                Claim::Previous => return Ok(Done::Leaving),
                Claim::Foreign(owner) => return Err(ApplyError::NotOurs { what: doing.to_string(), owner }),
            }
            match self.0.memory.difference(&key, &hash, &desired, live) {
                None => return Ok(Done::Unchanged),
                Some(place) => {
                    tracing::info!(object = %doing, %place, "is not as it should be, and is applied")
                }
            }
        }
        let was_there = live.is_some();
        let params = PatchParams::apply(manager).force();
        match self.within(&doing, api.patch(&doing.name, &params, &Patch::Apply(&desired))).await {
            Ok(written) => {
                self.wrote(resource, "apply");
                self.0.memory.wrote(key, &hash, &desired, &doing.value(&written)?);
                Ok(if was_there { Done::Changed } else { Done::Created })
            }
            Err(error) if error.is_immutable() && replaceable(resource) && was_there => {
                let uid = live.as_ref().and_then(|live| live["metadata"]["uid"].as_str()).map(str::to_owned);
                tracing::warn!(object = %doing, %error, "cannot be changed: it is deleted and made anew");
                self.delete_by(&api, resource, &doing.namespace, &doing.name, uid, None).await?;
                let made =
                    self.within(&doing, api.patch(&doing.name, &params, &Patch::Apply(&desired))).await;
                match made {
                    Ok(written) => {
                        self.wrote(resource, "apply");
                        self.0.memory.wrote(key, &hash, &desired, &doing.value(&written)?);
                        Ok(Done::Replaced)
                    }
                    // A finalizer (of a load balancer) holds it: its end comes as a change.
                    Err(error) if error.is_immutable() => Ok(Done::Leaving),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the status of one of our own kinds when it is another. `object` is as the cache has it.
    ///
    /// # Errors
    /// The API server refuses or does not answer. An object that is gone is fine.
    pub async fn apply_status<K: Kind, S: Serialize>(
        &self,
        object: &K,
        before: Option<&S>,
        status: &S,
    ) -> Result<Done, ApplyError> {
        let resource = ApiResource::erase::<K>(&());
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let doing = Doing::new("write the status of", &resource, &namespace, &name);
        let wanted = doing.value(status)?;
        let before = before.map(|before| doing.value(before)).transpose()?.unwrap_or(Value::Null);
        let key = Key::of_status(&resource, &namespace, &name);
        let hash = compare::hash(&wanted);
        let version = object.resource_version();
        if compare::same(&wanted, &before) || self.0.memory.is_newer(&key, &hash, version.as_deref()) {
            return Ok(Done::Unchanged);
        }
        let api: Api<DynamicObject> = Api::namespaced_with(self.0.client.clone(), &namespace, &resource);
        let patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            // With the uid: an object that was deleted and made anew meanwhile has a status of its own.
            "metadata": { "name": name, "namespace": namespace, "uid": object.uid() },
            "status": wanted,
        });
        let params = PatchParams::apply(MANAGER_STATUS).force();
        match self.within(&doing, api.patch_status(&name, &params, &Patch::Apply(&patch))).await {
            Ok(written) => {
                self.wrote(&resource, "status");
                self.0.memory.wrote_version(key, &hash, written.resource_version());
                Ok(Done::Changed)
            }
            Err(error) if error.is_gone() => Ok(Done::Leaving),
            Err(error) => Err(error),
        }
    }

    /// Creates an object that must not be there yet (a pod, a generated Secret). With the hash annotation, so that a later
    /// [`apply`](Self::apply) of the same finds it as it should be. Gives what was made; `None` when one of that name is there.
    ///
    /// # Errors
    /// The API server refuses or does not answer.
    pub async fn create<K: Kind>(&self, manager: &str, desired: &K) -> Result<Option<K>, ApplyError> {
        let resource = ApiResource::erase::<K>(&());
        let (namespace, name) = (desired.namespace().unwrap_or_default(), desired.name_any());
        let doing = Doing::new("create", &resource, &namespace, &name);
        let mut value = doing.value(desired)?;
        compare::normalise(&mut value);
        let hash = compare::hash(&value);
        let mut object = desired.clone();
        object.annotations_mut().insert(names::HASH.into(), hash);
        let params = PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() };
        let api: Api<K> = Api::namespaced(self.0.client.clone(), &namespace);
        match self.within(&doing, api.create(&params, &object)).await {
            Ok(made) => {
                self.wrote(&resource, "create");
                Ok(Some(made))
            }
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets labels and annotations (`None` takes one away) of an object that is there, when they are others. `live` is as the
    /// cache has it. Gives the object as it is after a write; `None` when nothing was written. An object that is gone, or another of
    /// the same name, is left alone.
    ///
    /// # Errors
    /// The API server refuses or does not answer.
    pub async fn mark<K: Kind>(
        &self,
        manager: &str,
        live: &K,
        labels: &[(&str, Option<String>)],
        annotations: &[(&str, Option<String>)],
    ) -> Result<Option<K>, ApplyError> {
        let labels = compare::marks(live.labels(), labels);
        let annotations = compare::marks(live.annotations(), annotations);
        if labels.is_empty() && annotations.is_empty() {
            return Ok(None);
        }
        let resource = ApiResource::erase::<K>(&());
        let (namespace, name) = (live.namespace().unwrap_or_default(), live.name_any());
        let doing = Doing::new("mark", &resource, &namespace, &name);
        let patch =
            json!({ "metadata": { "uid": live.uid(), "labels": labels, "annotations": annotations } });
        let key = Key::of_marks(&resource, &namespace, &name);
        let hash = compare::hash(&patch);
        if self.0.memory.is_newer(&key, &hash, live.resource_version().as_deref()) {
            return Ok(None);
        }
        let api: Api<K> = Api::namespaced(self.0.client.clone(), &namespace);
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        match self.within(&doing, api.patch(&name, &params, &Patch::Merge(&patch))).await {
            Ok(written) => {
                self.wrote(&resource, "mark");
                self.0.memory.wrote_version(key, &hash, written.resource_version());
                Ok(Some(written))
            }
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes this very object, in so many seconds (`None`: in its own time); one that is gone, or another of the same name,
    /// is fine. What it owns goes after it.
    ///
    /// # Errors
    /// The API server refuses or does not answer.
    pub async fn delete<K: Kind>(&self, object: &K, grace_s: Option<u32>) -> Result<(), ApplyError> {
        let resource = ApiResource::erase::<K>(&());
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<DynamicObject> = Api::namespaced_with(self.0.client.clone(), &namespace, &resource);
        self.delete_by(&api, &resource, &namespace, &name, object.uid(), grace_s).await
    }

    /// Deletes those objects of a namespace that the owner controls, that fit, and whose names are not to be kept. Gives how
    /// many.
    ///
    /// # Errors
    /// The API server refuses or does not answer; the rest is left for the next time.
    pub async fn delete_orphans<K: Kind>(
        &self,
        cache: &Cache<K>,
        namespace: &str,
        owner_uid: &str,
        keep: &HashSet<String>,
        fits: impl Fn(&K) -> bool,
    ) -> Result<usize, ApplyError> {
        let mut deleted = 0;
        for object in cache.controlled_by(namespace, owner_uid) {
            if is_orphan(object.meta(), keep) && fits(&object) {
                self.delete(&*object, None).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// The same for a kind that is known by discovery.
    ///
    /// # Errors
    /// The API server refuses or does not answer; the rest is left for the next time.
    pub async fn delete_orphans_dynamic(
        &self,
        resource: &ApiResource,
        cache: &Cache<DynamicObject>,
        namespace: &str,
        owner_uid: &str,
        keep: &HashSet<String>,
    ) -> Result<usize, ApplyError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.0.client.clone(), namespace, resource);
        let mut deleted = 0;
        for object in cache.controlled_by(namespace, owner_uid) {
            if is_orphan(object.meta(), keep) {
                self.delete_by(&api, resource, namespace, &object.name_any(), object.uid(), None).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    async fn delete_by(
        &self,
        api: &Api<DynamicObject>,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        uid: Option<String>,
        grace_s: Option<u32>,
    ) -> Result<(), ApplyError> {
        let doing = Doing::new("delete", resource, namespace, name);
        let params = DeleteParams {
            grace_period_seconds: grace_s,
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::default()
        };
        match self.within(&doing, api.delete(name, &params)).await {
            Ok(_) => {
                tracing::info!(object = %doing, "deleted");
                self.wrote(resource, "delete");
            }
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
        self.0.memory.forget(&Key::of(resource, namespace, name));
        Ok(())
    }

    async fn within<T>(
        &self,
        doing: &Doing,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ApplyError> {
        match timeout(REQUEST, request).await {
            Ok(answer) => answer.map_err(|source| doing.failed(source)),
            Err(_) => Err(doing.timed_out()),
        }
    }

    fn wrote(&self, resource: &ApiResource, verb: &str) {
        self.0.metrics.writes.with_label_values(&[resource.kind.as_str(), verb]).inc();
    }
}

/// Kinds that nobody misses for the moment between deletion and creation. Not among them: claims and Secrets, whose content
/// would be lost, and pods, which are drained first.
fn replaceable(resource: &ApiResource) -> bool {
    matches!(
        resource.kind.as_str(),
        "Service" | "ConfigMap" | "PodDisruptionBudget" | "NetworkPolicy" | "Ingress" | "ServiceAccount"
    )
}

fn is_orphan(meta: &ObjectMeta, keep: &HashSet<String>) -> bool {
    meta.deletion_timestamp.is_none() && meta.name.as_ref().is_some_and(|name| !keep.contains(name))
}

/// Whose an object is.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    Ours,
    /// It is that of an owner of the same kind and name that was deleted, and goes after it.
    Previous,
    /// It is somebody else's; who, in words.
    Foreign(String),
}

fn claim(desired: &Value, live: &Value) -> Claim {
    let controller = |object: &Value| -> Option<(String, String, String)> {
        let owners = object["metadata"]["ownerReferences"].as_array()?;
        let owner = owners.iter().find(|owner| owner["controller"] == Value::Bool(true))?;
        let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
        Some((text("uid"), text("kind"), text("name")))
    };
    let (wanted, found) = (controller(desired), controller(live));
    if let (Some((uid, kind, name)), wanted) = (&found, &wanted) {
        match wanted {
            Some((wanted_uid, ..)) if wanted_uid == uid => return Claim::Ours,
            Some((_, wanted_kind, wanted_name)) if wanted_kind == kind && wanted_name == name => {
                return Claim::Previous;
            }
            _ => return Claim::Foreign(format!("{kind} {name} controls it")),
        }
    }
    match live["metadata"]["labels"][standard::MANAGED_BY].as_str() {
        Some(standard::OPERATOR) => Claim::Ours,
        Some(other) => Claim::Foreign(format!("{other} manages it (label {})", standard::MANAGED_BY)),
        None => Claim::Foreign(format!("it has no label {}={}", standard::MANAGED_BY, standard::OPERATOR)),
    }
}
