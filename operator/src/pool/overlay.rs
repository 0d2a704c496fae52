//! What was just written, until the cache has it: a plan is never made from a pod as it was before our own last change of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// A cache is behind by so much at most; what it does not have then was changed by others.
const BEHIND: Duration = Duration::from_secs(30);

/// Pods as our own writes left them, by uid; one for each controller.
#[derive(Default)]
pub struct Overlay(Mutex<HashMap<String, (Pod, Instant)>>);

impl Overlay {
    /// Notes what a write answered.
    pub fn wrote(&self, pod: Pod) {
        let Some(uid) = pod.uid() else { return };
        self.with(|pods| drop(pods.insert(uid, (pod, Instant::now()))));
    }

    /// The pods of a pool as they are after our writes: those of the cache, newer ones of ours in their place, and those that the
    /// cache does not have yet. And whether the cache is behind, so that it is worth to look again soon.
    pub fn over(&self, pool_uid: &str, cached: Vec<Arc<Pod>>) -> (Vec<Arc<Pod>>, bool) {
        self.with(|ours| {
            ours.retain(|_, (_, at)| at.elapsed() < BEHIND);
            let mut all: Vec<Arc<Pod>> = Vec::with_capacity(cached.len());
            let mut behind = false;
            for pod in cached {
                let uid = pod.uid().unwrap_or_default();
                match ours.get(&uid) {
                    Some((newer, _)) if version(newer) > version(&pod) => {
                        // What is being deleted says so itself when it is gone.
                        behind |= newer.metadata.deletion_timestamp.is_none();
                        all.push(Arc::new(newer.clone()));
                    }
                    Some(_) => {
                        ours.remove(&uid);
                        all.push(pod);
                    }
                    None => all.push(pod),
                }
            }
            let known: Vec<String> = all.iter().filter_map(|pod| pod.uid()).collect();
            for (uid, (pod, _)) in ours.iter() {
                // What we deleted and the cache no longer has is gone.
                let fresh = pod.metadata.deletion_timestamp.is_none();
                let of_pool = pod.owner_references().iter().any(|owner| owner.uid == pool_uid);
                if fresh && of_pool && !known.contains(uid) {
                    behind = true;
                    all.push(Arc::new(pod.clone()));
                }
            }
            (all, behind)
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<String, (Pod, Instant)>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Resource versions of one kind can be compared as numbers (Kubernetes documents it since 1.35; etcd's revisions always were).
fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, version: u64, more: serde_json::Value) -> Pod {
        let mut meta = json!({ "name": uid, "uid": uid, "resourceVersion": version.to_string(),
            "ownerReferences": [{ "apiVersion": "v1", "kind": "K", "name": "pool", "uid": "pool" }] });
        if let (Some(meta), Some(more)) = (meta.as_object_mut(), more.as_object()) {
            meta.extend(more.clone());
        }
        serde_json::from_value(json!({ "metadata": meta })).expect("a pod")
    }

    fn versions(pods: &[Arc<Pod>]) -> Vec<(String, u64)> {
        pods.iter().map(|pod| (pod.uid().unwrap_or_default(), version(pod))).collect()
    }

    #[test]
    fn the_newer_of_both_counts() {
        let overlay = Overlay::default();
        overlay.wrote(pod("a", 5, json!({})));
        overlay.wrote(pod("new", 6, json!({})));
        let cached = |version| vec![Arc::new(pod("a", version, json!({})))];
        assert_eq!(versions(&overlay.over("pool", cached(4)).0), [("a".into(), 5), ("new".into(), 6)]);
        assert_eq!(versions(&overlay.over("other", cached(4)).0), [("a".into(), 5)]);
        assert_eq!(versions(&overlay.over("pool", cached(7)).0)[0], ("a".into(), 7));
        let both = vec![cached(7).remove(0), Arc::new(pod("new", 8, json!({})))];
        assert!(overlay.over("pool", both.clone()).0.len() == 2 && !overlay.over("pool", both).1);
    }

    #[test]
    fn what_we_deleted_does_not_come_back() {
        let overlay = Overlay::default();
        overlay.wrote(pod("a", 5, json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" })));
        assert!(overlay.over("pool", Vec::new()).0.is_empty());
        let cached = vec![Arc::new(pod("a", 4, json!({})))];
        assert!(overlay.over("pool", cached).0[0].metadata.deletion_timestamp.is_some());
    }
}
