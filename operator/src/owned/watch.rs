//! One watch of one kind, kept for as long as the operator runs.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{Config, Error, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::CacheEvent;
use super::cache::Part;
use crate::backoff::Backoff;
use crate::client::sentence;
use crate::events::{Events, Note};
use crate::metrics::Metrics;

/// The api of a kind in one namespace, or in all.
pub(super) fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Drops what nobody looks at, before an object is kept.
pub(super) trait Slim {
    fn slim(&mut self) {}
}

impl Slim for Pod {}
impl Slim for Service {}
impl Slim for ConfigMap {}
impl Slim for Secret {}
impl Slim for PersistentVolumeClaim {}
impl Slim for HorizontalPodAutoscaler {}
impl Slim for NetworkPolicy {}
impl Slim for Ingress {}
impl Slim for ServiceAccount {}
impl Slim for kube::api::DynamicObject {}

impl Slim for EndpointSlice {
    fn slim(&mut self) {
        self.ports = None;
        for endpoint in &mut self.endpoints {
            let (conditions, target_ref) = (endpoint.conditions.take(), endpoint.target_ref.take());
            *endpoint = Endpoint { conditions, target_ref, ..Endpoint::default() };
        }
    }
}

impl Slim for PodDisruptionBudget {
    fn slim(&mut self) {
        self.status = None;
    }
}

/// What a watch fills, and where it counts.
pub(super) struct Source<K> {
    pub(super) kind: String,
    pub(super) part: Part<K>,
    pub(super) metrics: Metrics,
}

/// Watches objects that the operator owns.
pub(super) async fn owned<K>(
    api: Api<K>,
    config: Config,
    mut source: Source<K>,
    changed: impl Fn(CacheEvent<'_, K>) + Send + Sync,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Slim + Send + Sync + 'static,
{
    let mut stream = Box::pin(watcher(api.clone(), config.clone()));
    let mut failures = Failures::default();
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(mut object) | Event::InitApply(mut object)) => {
                failures.over();
                object.meta_mut().managed_fields = None;
                object.slim();
                applied(&source.part, object, &changed);
            }
            Ok(Event::Delete(object)) => {
                source.part.delete(object.meta());
                changed(CacheEvent::Deleted(&object));
            }
            Ok(Event::Init) => source.part.begin(),
            Ok(Event::InitDone) => listed(&mut source, &changed),
            Err(error) => {
                if failures.wait(&source.kind, &error, &source.metrics).await {
                    stream = Box::pin(watcher(api.clone(), config.clone()));
                }
            }
        }
    }
}

/// Watches objects that people write: one that cannot be read does not hold up the others.
pub(super) async fn custom<K>(
    api: Api<DeserializeGuard<K>>,
    mut source: Source<K>,
    events: Events,
    changed: impl Fn(CacheEvent<'_, K>) + Send + Sync,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut stream = Box::pin(watcher(api.clone(), Config::default()));
    let mut failures = Failures::default();
    while let Some(event) = stream.next().await {
        let counts = !matches!(event, Ok(Event::InitApply(_)));
        match event {
            Ok(Event::Apply(guarded) | Event::InitApply(guarded)) => {
                failures.over();
                match guarded.0 {
                    Ok(mut object) => {
                        object.meta_mut().managed_fields = None;
                        applied(&source.part, object, &changed);
                    }
                    Err(invalid) => {
                        let (namespace, name) = (&invalid.metadata.namespace, &invalid.metadata.name);
                        if source.part.malformed(&invalid.metadata, invalid.error.clone()) {
                            tracing::error!(kind = %source.kind, namespace, name, error = %invalid.error, "an object cannot be read, and is left as it is");
                            let note = Note::warning(
                                "Malformed",
                                format!(
                                    "cannot be read and is left as it is: {}. Were the CustomResourceDefinitions upgraded with the operator?",
                                    invalid.error
                                ),
                            );
                            events.about_meta::<K>(&invalid.metadata, note);
                        }
                    }
                }
            }
            Ok(Event::Delete(guarded)) => {
                let known = source.part.delete(guarded.meta());
                if let Some(object) = known {
                    changed(CacheEvent::Deleted(&object));
                }
            }
            Ok(Event::Init) => source.part.begin(),
            Ok(Event::InitDone) => listed(&mut source, &changed),
            Err(error) => {
                if failures.wait(&source.kind, &error, &source.metrics).await {
                    stream = Box::pin(watcher(api.clone(), Config::default()));
                }
            }
        }
        if !counts {
            continue;
        }
        let malformed = i64::try_from(source.part.count_malformed()).unwrap_or(i64::MAX);
        source.metrics.malformed.with_label_values(&[&source.kind]).set(malformed);
    }
}

pub(super) fn applied<K: Resource>(part: &Part<K>, object: K, changed: &impl Fn(CacheEvent<'_, K>)) {
    let object = Arc::new(object);
    let before = part.apply(object.clone());
    // After a watch broke everything is listed again: what is as it was is no change.
    let version = &object.meta().resource_version;
    if version.is_some() && before.as_ref().is_some_and(|before| before.meta().resource_version == *version) {
        return;
    }
    changed(CacheEvent::Applied(&object, before.as_deref()));
}

pub(super) fn listed<K: Resource>(source: &mut Source<K>, changed: &impl Fn(CacheEvent<'_, K>)) {
    for gone in source.part.complete() {
        changed(CacheEvent::Deleted(&gone));
    }
    tracing::debug!(kind = %source.kind, "listed");
}

/// What went wrong, for people.
fn words(error: &Error) -> String {
    match error {
        Error::InitialListFailed(error) => format!("list: {}", sentence(error)),
        Error::WatchStartFailed(error) | Error::WatchFailed(error) => format!("watch: {}", sentence(error)),
        Error::WatchError(status) => format!("watch: {}", status.message),
        Error::NoResourceVersion => error.to_string(),
    }
}

/// Tries of one watch in a row that failed. The stream tries again when it is asked for the next event.
#[derive(Default)]
pub(super) struct Failures {
    count: u32,
    last: Option<Instant>,
}

/// After so many failures in a row (a minute or two) all is listed anew.
const RELIST_AFTER: u32 = 10;

/// A failure after so long without one is the first again, even if nothing was heard meanwhile.
const LONG_AGO: Duration = Duration::from_secs(60);

impl Failures {
    pub(super) fn over(&mut self) {
        self.count = 0;
    }

    /// Whether to list anew instead of going on where the watch was.
    pub(super) async fn wait(&mut self, kind: &str, error: &Error, metrics: &Metrics) -> bool {
        if self.last.is_some_and(|last| last.elapsed() > LONG_AGO) {
            self.over();
        }
        self.count = self.count.saturating_add(1);
        metrics.watch_failures.with_label_values(&[kind]).inc();
        let wait = Backoff::WATCH.draw(self.count);
        // A watch that ends now and then is a matter of course.
        match self.count {
            1 => tracing::debug!(kind, error = words(error), "a watch broke and is opened anew"),
            _ => {
                tracing::warn!(
                    kind,
                    error = words(error),
                    failures = self.count,
                    retry_in_ms = wait.as_millis(),
                    "cannot watch"
                );
            }
        }
        tokio::time::sleep(wait).await;
        self.last = Some(Instant::now());
        // The library goes on at the same version for ever; a server that was restored from a backup never had it.
        let expired =
            matches!(error, Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410);
        expired || self.count.is_multiple_of(RELIST_AFTER)
    }
}
