//! What was written, and what the API server made of it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::api::ApiResource;
use serde_json::Value;
use tokio::time::Instant;

use super::compare::{self, Place};

/// An object, or a part of it that is written for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    part: Part,
    group: String,
    kind: String,
    namespace: String,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Object,
    Status,
    Marks,
}

impl Key {
    pub(super) fn of(resource: &ApiResource, namespace: &str, name: &str) -> Key {
        Key::new(Part::Object, resource, namespace, name)
    }

    pub(super) fn of_status(resource: &ApiResource, namespace: &str, name: &str) -> Key {
        Key::new(Part::Status, resource, namespace, name)
    }

    pub(super) fn of_marks(resource: &ApiResource, namespace: &str, name: &str) -> Key {
        Key::new(Part::Marks, resource, namespace, name)
    }

    fn new(part: Part, resource: &ApiResource, namespace: &str, name: &str) -> Key {
        let (group, kind) = (resource.group.clone(), resource.kind.clone());
        Key { part, group, kind, namespace: namespace.into(), name: name.into() }
    }
}

/// So many things are remembered at most: a hundred for each of 500 clusters.
const MOST: usize = 50_000;
/// When there are more, those that were not used for so long are forgotten.
const RECENT: Duration = Duration::from_secs(600);

/// A cache is behind for so long at most.
const BEHIND: Duration = Duration::from_secs(30);

/// What was written last to each object.
#[derive(Default)]
pub(super) struct Memory(Mutex<HashMap<Key, Written>>);

struct Written {
    at: Instant,
    /// When it was written, or last compared.
    used: Instant,
    /// Of what was wanted.
    hash: String,
    /// The resource version that it has since.
    version: Option<u64>,
    /// When that is not what was wanted: hash of what stands at its places.
    instead: Option<String>,
}

impl Written {
    /// Whether the cache has not seen it yet. It has after a while, whatever the versions say: an API server that was restored
    /// from a backup counts again from where it was.
    fn is_ahead_of(&self, cached: Option<u64>) -> bool {
        let older = self.version.zip(cached).is_some_and(|(written, cached)| cached < written);
        older && self.at.elapsed() < BEHIND
    }
}

impl Memory {
    /// Where the object is not as it should be; `None` when it is.
    pub(super) fn difference(&self, key: &Key, hash: &str, desired: &Value, live: &Value) -> Option<Place> {
        let place = compare::difference(desired, live)?;
        let memory = self.lock();
        let Some(written) = memory.get(key).filter(|written| written.hash == hash) else {
            return Some(place);
        };
        // The cache has not seen the write yet.
        if written.is_ahead_of(version(live)) {
            return None;
        }
        // Another spelling of the same.
        let as_left = written
            .instead
            .as_ref()
            .is_some_and(|instead| compare::hash(&compare::projection(desired, live)) == *instead);
        (!as_left).then_some(place)
    }

    pub(super) fn wrote(&self, key: Key, hash: &str, desired: &Value, answer: &Value) {
        let place = compare::difference(desired, answer);
        if let Some(place) = &place {
            tracing::debug!(?key, %place, "the API server spells it differently");
        }
        let instead = place.map(|_| compare::hash(&compare::projection(desired, answer)));
        self.put(key, hash, version(answer), instead);
    }

    pub(super) fn wrote_version(&self, key: Key, hash: &str, version: Option<String>) {
        let version = version.and_then(|version| version.parse().ok());
        self.put(key, hash, version, None);
    }

    fn put(&self, key: Key, hash: &str, version: Option<u64>, instead: Option<String>) {
        let now = Instant::now();
        let mut memory = self.lock();
        // Objects go without a word when their owner goes. What is forgotten here costs one write at most.
        if memory.len() >= MOST {
            memory.retain(|_, written| now.duration_since(written.used) < RECENT);
        }
        if memory.len() >= MOST {
            memory.clear();
        }
        memory.insert(key, Written { at: now, used: now, hash: hash.to_owned(), version, instead });
    }

    /// Whether this very thing was written, and the cache (at this version) has not seen it yet.
    pub(super) fn is_newer(&self, key: &Key, hash: &str, cached: Option<&str>) -> bool {
        let cached: Option<u64> = cached.and_then(|cached| cached.parse().ok());
        let memory = self.lock();
        let written = memory.get(key).filter(|written| written.hash == hash);
        written.is_some_and(|written| written.is_ahead_of(cached))
    }

    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Written>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Versions of one kind can be compared as numbers (Kubernetes' own, since 1.35; in fact, always).
fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_forgets_what_was_not_used_for_long_before_it_grows() {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&());
        let key = |n: usize| Key::of(&resource, "media", &n.to_string());
        let memory = Memory::default();
        for n in 0..MOST {
            memory.wrote_version(key(n), "h", Some("7".into()));
        }
        tokio::time::advance(RECENT).await;
        memory.wrote_version(key(MOST), "h", Some("7".into()));
        assert_eq!(memory.lock().len(), 1);
        assert!(memory.is_newer(&key(MOST), "h", Some("6")));
        assert!(!memory.is_newer(&key(MOST), "h", Some("7")));
        tokio::time::advance(BEHIND).await;
        assert!(!memory.is_newer(&key(MOST), "h", Some("6")), "restored from a backup");
        for n in 0..2 * MOST {
            memory.wrote_version(key(n), "h", Some("7".into()));
            assert!(memory.lock().len() <= MOST);
        }
    }
}
