//! The apps that should exist.

use serde_json::{Map, Value};
use sluice_control::{App, Apps};
use sluice_crds::generate::short_hash;

use crate::Cluster;

/// The apps of the spec, and those to be deleted. Of `delete`, an app that the spec has (again) stays, and names that no app can have
/// are left out.
pub fn apps(cluster: &Cluster, delete: &[String]) -> Apps {
    let apps: Vec<App> = cluster
        .apps()
        .iter()
        .map(|app| {
            let settings: Map<String, Value> =
                app.settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            App { name: app.name.clone(), settings }
        })
        .collect();
    let mut delete: Vec<String> = delete
        .iter()
        .filter(|name| !name.is_empty() && apps.iter().all(|app| app.name != **name))
        .cloned()
        .collect();
    delete.sort_unstable();
    delete.dedup();
    let mut all = Apps { hash: String::new(), apps, delete };
    all.hash = short_hash(serde_json::to_string(&all).unwrap_or_default().as_bytes());
    all
}
