//! The apps that should exist.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// [`Apps`] names at most as many apps, those to delete included.
pub const MAX_APPS: usize = 1000;

/// The apps that should exist. Applying it twice does nothing the second time: an app that is missing is created; of its
/// settings only those given are set, and only where they differ; one to delete that is not there is fine.
///
/// One node is told; the others learn of it as they do of a change over REST.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Apps {
    /// Stands for the rest; comes back in [`Report::apps_hash`](crate::Report::apps_hash) once all of it was applied.
    pub hash: String,
    /// Those that should be there.
    pub apps: Vec<App>,
    /// Those that should not; their live streams end.
    pub delete: Vec<String>,
}

/// An app that should be there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct App {
    /// Its name.
    pub name: String,
    /// The settings that are given for it, under AMS's names (`hlsTime`, `acceptOnlyStreamsInDataStore`).
    pub settings: Map<String, Value>,
}

/// What became of each, in the order of the request, those to delete last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppsResult {
    /// One for each.
    pub apps: Vec<AppResult>,
}

impl AppsResult {
    /// Whether every app is as it should be now.
    pub fn is_complete(&self) -> bool {
        self.apps.iter().all(|app| !matches!(app.outcome, AppOutcome::Failed(_)))
    }
}

/// What became of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppResult {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: AppOutcome,
}

/// What became of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppOutcome {
    /// It was not there.
    Created,
    /// Some of its settings were others.
    Updated,
    /// It was as it should be, or not there to be deleted.
    Unchanged,
    /// It was there.
    Deleted,
    /// Why it is not as it should be, for people.
    Failed(String),
}
