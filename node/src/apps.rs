//! The apps and their settings as this node knows them: read from the store, asked on every publish and play.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sluice_store::{App, AppSettings, Result, Store};

/// A store that could not be read is asked again after this.
const RETRY: Duration = Duration::from_secs(2);

/// An app that is not there any more has to be missing for this long before its streams are stopped.
const DOUBT: Duration = Duration::from_secs(2);

type Known = HashMap<String, Arc<App>>;

/// All apps by name. Reading takes no store call.
#[derive(Debug)]
pub struct Apps {
    store: Arc<dyn Store>,
    apps: RwLock<Known>,
    /// They are those of the store, not only those of the configuration.
    read: AtomicBool,
    names: Vec<String>,
    defaults: AppSettings,
}

impl Apps {
    /// Makes the apps of the configuration, with `defaults`, when the store has none, and reads all. A store that is away does not keep a node
    /// from starting: until it is back, there are the apps of the configuration.
    ///
    /// # Errors
    /// What the store says, but for being away.
    pub async fn load(store: Arc<dyn Store>, names: &[String], defaults: &AppSettings) -> Result<Arc<Self>> {
        let apps = Arc::new(Apps {
            store,
            apps: RwLock::default(),
            read: AtomicBool::new(false),
            names: names.to_vec(),
            defaults: defaults.clone(),
        });
        match apps.begin().await {
            Err(error) if error.is_away() => {
                tracing::warn!(%error, "starting with the apps of the configuration alone");
                let app = |name: &String| {
                    let app = App { name: name.clone(), settings: defaults.clone(), version: 0 };
                    (name.clone(), Arc::new(app))
                };
                *apps.write() = names.iter().map(app).collect();
            }
            other => other?,
        }
        Ok(apps)
    }

    /// The names of all.
    pub fn names(&self) -> Vec<String> {
        self.known().keys().cloned().collect()
    }

    async fn begin(&self) -> Result<()> {
        // Only at the first start: what was deleted since stays so.
        if self.store.apps().await?.is_empty() {
            for name in &self.names {
                self.store.create_app(name, self.defaults.clone()).await?;
            }
        }
        self.read_all().await.map(drop)
    }

    /// Reads all apps again, after a change; gives the names of those that are gone.
    ///
    /// # Errors
    /// What the store says; the apps stay as they were then.
    pub async fn refresh(&self) -> Result<Vec<String>> {
        if !self.read.load(Ordering::Acquire) {
            return self.begin().await.map(|()| Vec::new());
        }
        self.read_all().await
    }

    async fn read_all(&self) -> Result<Vec<String>> {
        let mut apps = self.store.apps().await?;
        let before = self.known();
        if apps.is_empty() && !before.is_empty() {
            // Nobody deletes all apps: the store came back without what it knew.
            tracing::warn!("the store has no apps any more: it is given those that this node knows");
            for app in before.values() {
                self.store.create_app(&app.name, app.settings.clone()).await?;
            }
            apps = self.store.apps().await?;
        }
        let apps: Known = apps.into_iter().map(|a| (a.name.clone(), Arc::new(a))).collect();
        let mut gone: Vec<String> = before.into_keys().filter(|name| !apps.contains_key(name)).collect();
        *self.write() = apps;
        self.read.store(true, Ordering::Release);
        if !gone.is_empty() {
            // Another node may be giving an empty store its apps back, one by one: no stream ends for that.
            tokio::time::sleep(DOUBT).await;
            let apps = self.store.apps().await?;
            gone.retain(|name| !apps.iter().any(|a| a.name == *name));
            *self.write() = apps.into_iter().map(|a| (a.name.clone(), Arc::new(a))).collect();
        }
        Ok(gone)
    }

    /// Reads them again whenever the store says that they may have changed, by whomever; `gone` is told of those
    /// that were deleted. Runs until it is cancelled.
    pub async fn follow(self: Arc<Self>, gone: impl Fn(&str)) {
        let mut changes = self.store.changes();
        let mut again = !self.read.load(Ordering::Acquire);
        loop {
            if again {
                tokio::time::sleep(RETRY).await;
            } else if changes.changed().await.is_err() {
                return;
            }
            changes.mark_unchanged();
            again = match self.refresh().await {
                Ok(names) => {
                    names.iter().for_each(|name| gone(name));
                    false
                }
                Err(error) => {
                    tracing::warn!(%error, "the apps cannot be read: they stay as they are");
                    true
                }
            };
        }
    }

    /// One app.
    pub fn get(&self, name: &str) -> Option<Arc<App>> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn known(&self) -> Known {
        self.apps.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.apps.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use sluice_store::Sqlite;

    use super::*;

    fn open() -> (tempfile::TempDir, Arc<dyn Store>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(dir.path()).unwrap());
        (dir, store)
    }

    #[tokio::test]
    async fn changes_by_others_arrive() {
        let (_dir, store) = open();
        let names = ["LiveApp".to_owned()];
        let apps = Apps::load(store.clone(), &names, &AppSettings::default()).await.unwrap();
        let gone = Arc::new(Mutex::new(Vec::new()));
        let told = gone.clone();
        let task = tokio::spawn(apps.clone().follow(move |name| told.lock().unwrap().push(name.to_owned())));
        tokio::task::yield_now().await;
        store.create_app("other", AppSettings::default()).await.unwrap();
        let again = Apps::load(store.clone(), &["never".to_owned()], &AppSettings::default()).await.unwrap();
        assert!(again.get("never").is_none(), "apps of the configuration are made once");
        let arrived = async {
            while apps.get("other").is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            store.delete_app("other", true).await.unwrap();
            while gone.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), arrived).await.expect("in time");
        assert_eq!(*gone.lock().unwrap(), ["other"]);
        task.abort();
    }

    #[tokio::test]
    async fn a_store_that_lost_everything_gets_the_apps_back() {
        let (_dir, store) = open();
        let names = ["LiveApp".to_owned()];
        let settings = AppSettings { hls_time: "4".into(), ..AppSettings::default() };
        let apps = Apps::load(store.clone(), &names, &settings).await.unwrap();
        store.delete_app("LiveApp", true).await.unwrap();
        assert_eq!(apps.refresh().await.unwrap(), Vec::<String>::new());
        assert_eq!(store.app("LiveApp").await.unwrap().unwrap().settings.hls_time, "4");
    }
}
