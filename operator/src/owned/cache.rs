//! The objects of one kind, by namespace and name.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use tokio::sync::watch;

/// Objects of one kind; cheap to clone. Several watches may fill it, each a part of its own (a namespace).
pub struct Cache<K>(Arc<Shared<K>>);

struct Shared<K> {
    tables: RwLock<Tables<K>>,
    /// How many parts there are, and how many of them were filled once.
    filled: watch::Sender<(usize, usize)>,
}

struct Tables<K> {
    namespaces: HashMap<Arc<str>, HashMap<Arc<str>, Entry<K>>>,
}

struct Entry<K> {
    part: usize,
    /// The round of its part in which it was seen last.
    round: u64,
    /// The last that could be read.
    object: Option<Arc<K>>,
    /// Why it cannot be read now.
    malformed: Option<String>,
}

/// What happened to an object.
#[derive(Debug)]
pub enum CacheEvent<'a, K> {
    /// It is there; with what was known of it before.
    Applied(&'a K, Option<&'a K>),
    /// It is gone.
    Deleted(&'a K),
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Cache(self.0.clone())
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Cache::new()
    }
}

impl<K> Cache<K> {
    /// An empty one, without parts; it is ready once it has parts and all were filled.
    pub fn new() -> Self {
        let tables = RwLock::new(Tables { namespaces: HashMap::new() });
        Cache(Arc::new(Shared { tables, filled: watch::Sender::new((0, 0)) }))
    }

    /// The object of this name, as it was read last.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read(|tables| tables.namespaces.get(namespace)?.get(name)?.object.clone())
    }

    /// Why the object of this name cannot be read, when it is there and cannot be. [`get`](Self::get) gives the last state
    /// that could be.
    pub fn malformed(&self, namespace: &str, name: &str) -> Option<String> {
        self.read(|tables| tables.namespaces.get(namespace)?.get(name)?.malformed.clone())
    }

    /// The objects of a namespace that fit, in no order.
    pub fn filter(&self, namespace: &str, fits: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.read(|tables| {
            let objects = tables.namespaces.get(namespace).into_iter().flat_map(HashMap::values);
            objects.filter_map(|entry| entry.object.as_ref()).filter(|object| fits(object)).cloned().collect()
        })
    }

    /// All objects, in no order.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read(|tables| {
            let entries = tables.namespaces.values().flat_map(HashMap::values);
            entries.filter_map(|entry| entry.object.clone()).collect()
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read(|tables| tables.namespaces.values().map(HashMap::len).sum())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until every part was filled once.
    pub async fn ready(&self) {
        let mut filled = self.0.filled.subscribe();
        // The sender lives in this cache: it cannot be gone.
        let _ = filled.wait_for(|(parts, filled)| *parts > 0 && filled == parts).await;
    }

    /// Whether every part was filled once.
    pub fn is_ready(&self) -> bool {
        let (parts, filled) = *self.0.filled.borrow();
        parts > 0 && filled == parts
    }

    /// A part for one watch.
    pub(super) fn part(&self) -> Part<K> {
        let mut part = 0;
        self.0.filled.send_modify(|(parts, _)| {
            part = *parts;
            *parts += 1;
        });
        Part { cache: self.clone(), part, round: 0, filled: false }
    }

    fn read<T>(&self, f: impl FnOnce(&Tables<K>) -> T) -> T {
        f(&self.0.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut Tables<K>) -> T) -> T {
        f(&mut self.0.tables.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Resource> Cache<K> {
    /// The objects of a namespace whose controller is the object with this uid.
    pub fn controlled_by(&self, namespace: &str, uid: &str) -> Vec<Arc<K>> {
        self.filter(namespace, |object| controller_uid(object.meta()) == Some(uid))
    }
}

/// The uid of an object's controller.
pub(crate) fn controller_uid(meta: &ObjectMeta) -> Option<&str> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// What one watch fills.
pub(super) struct Part<K> {
    cache: Cache<K>,
    part: usize,
    round: u64,
    filled: bool,
}

impl<K: Resource> Part<K> {
    /// It is there. Gives what was known before.
    pub(super) fn apply(&self, object: Arc<K>) -> Option<Arc<K>> {
        let kept = object.clone();
        let (namespace, name) = key(object.meta());
        self.put(namespace, name, |entry| {
            entry.malformed = None;
            entry.object.replace(kept)
        })
    }

    /// It is there, and cannot be read: what was known of it stays. Whether the reason is another than before.
    pub(super) fn malformed(&self, meta: &ObjectMeta, reason: String) -> bool {
        let (namespace, name) = key(meta);
        self.put(namespace, name, |entry| {
            let news = entry.malformed.as_deref() != Some(&reason);
            entry.malformed = Some(reason);
            news
        })
    }

    /// It is gone. Gives what was known.
    pub(super) fn delete(&self, meta: &ObjectMeta) -> Option<Arc<K>> {
        let (namespace, name) = key(meta);
        self.cache.write(|tables| {
            let objects = tables.namespaces.get_mut(namespace)?;
            let entry = objects.remove(name);
            if objects.is_empty() {
                tables.namespaces.remove(namespace);
            }
            entry?.object
        })
    }

    /// All are listed from now on.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    /// All were listed. Gives those that were not among them: they are gone.
    pub(super) fn complete(&mut self) -> Vec<Arc<K>> {
        let (part, round) = (self.part, self.round);
        let mut gone = Vec::new();
        self.cache.write(|tables| {
            tables.namespaces.retain(|_, objects| {
                objects.retain(|_, entry| {
                    let stays = entry.part != part || entry.round == round;
                    if !stays {
                        gone.extend(entry.object.take());
                    }
                    stays
                });
                !objects.is_empty()
            });
        });
        if !std::mem::replace(&mut self.filled, true) {
            self.cache.0.filled.send_modify(|(_, filled)| *filled += 1);
        }
        gone
    }

    /// How many objects of the whole cache cannot be read.
    pub(super) fn count_malformed(&self) -> usize {
        self.cache.read(|tables| {
            let entries = tables.namespaces.values().flat_map(HashMap::values);
            entries.filter(|entry| entry.malformed.is_some()).count()
        })
    }

    fn put<T>(&self, namespace: &str, name: &str, f: impl FnOnce(&mut Entry<K>) -> T) -> T {
        let (part, round) = (self.part, self.round);
        self.cache.write(|tables| {
            let objects = match tables.namespaces.get_mut(namespace) {
                Some(objects) => objects,
                None => tables.namespaces.entry(namespace.into()).or_default(),
            };
            let entry = match objects.get_mut(name) {
                Some(entry) => entry,
                None => {
                    let fresh = Entry { part, round, object: None, malformed: None };
                    objects.entry(name.into()).or_insert(fresh)
                }
            };
            (entry.part, entry.round) = (part, round);
            f(entry)
        })
    }
}

fn key(meta: &ObjectMeta) -> (&str, &str) {
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    impl<K: Resource> Cache<K> {
        /// A filled cache without a watch.
        pub(crate) fn of(objects: impl IntoIterator<Item = K>) -> Cache<K> {
            let cache = Cache::new();
            let mut part = cache.part();
            for object in objects {
                part.apply(Arc::new(object));
            }
            part.complete();
            cache
        }
    }

    fn config_map(namespace: &str, name: &str) -> ConfigMap {
        let metadata =
            ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..Default::default() };
        ConfigMap { metadata, ..Default::default() }
    }

    #[tokio::test]
    async fn parts_are_replaced_each_for_itself() {
        let cache = Cache::new();
        let (mut a, mut b) = (cache.part(), cache.part());
        assert!(!cache.is_ready());
        for (part, namespace) in [(&mut a, "a"), (&mut b, "b")] {
            part.begin();
            part.apply(Arc::new(config_map(namespace, "one")));
            part.apply(Arc::new(config_map(namespace, "two")));
            assert!(part.complete().is_empty());
        }
        assert!(cache.is_ready());
        cache.ready().await;
        assert_eq!(cache.len(), 4);

        a.begin();
        assert!(a.apply(Arc::new(config_map("a", "two"))).is_some());
        // Until the list is complete, what was known is still there.
        assert!(cache.get("a", "one").is_some());
        let gone = a.complete();
        assert_eq!(gone.iter().filter_map(|gone| gone.metadata.name.as_deref()).collect::<Vec<_>>(), ["one"]);
        assert_eq!((cache.filter("a", |_| true).len(), cache.filter("b", |_| true).len()), (1, 2));
        assert!(b.delete(&config_map("b", "one").metadata).is_some());
        assert!(b.delete(&config_map("b", "one").metadata).is_none());
    }

    #[test]
    fn what_becomes_malformed_keeps_its_last_state() {
        let cache = Cache::new();
        let part = cache.part();
        part.apply(Arc::new(config_map("a", "one")));
        assert!(part.malformed(&config_map("a", "one").metadata, "no list".into()));
        assert!(!part.malformed(&config_map("a", "one").metadata, "no list".into()));
        assert_eq!(cache.malformed("a", "one").as_deref(), Some("no list"));
        assert!(cache.get("a", "one").is_some());
        assert!(part.malformed(&config_map("a", "new").metadata, "no list".into()));
        assert!(cache.get("a", "new").is_none());
        assert_eq!(part.count_malformed(), 2);
        part.apply(Arc::new(config_map("a", "one")));
        assert_eq!(cache.malformed("a", "one"), None);
    }
}
