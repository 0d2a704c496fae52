//! The apps and their settings as this node knows them: read from the store, asked on every publish and play.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sluice_store::{App, AppSettings, Result, Store};

/// All apps by name. Reading takes no store call.
#[derive(Debug)]
pub struct Apps {
    store: Arc<dyn Store>,
    apps: RwLock<HashMap<String, Arc<App>>>,
}

impl Apps {
    /// Makes the apps that are missing, with `defaults`, and reads all.
    ///
    /// # Errors
    /// What the store says.
    pub async fn load(store: Arc<dyn Store>, names: &[String], defaults: &AppSettings) -> Result<Arc<Self>> {
        for name in names {
            store.create_app(name, defaults.clone()).await?;
        }
        let apps = Arc::new(Apps { store, apps: RwLock::default() });
        apps.refresh().await?;
        Ok(apps)
    }

    /// Reads all apps again, after a change.
    ///
    /// # Errors
    /// What the store says; the apps stay as they were then.
    pub async fn refresh(&self) -> Result<()> {
        let apps = self.store.apps().await?;
        let apps = apps.into_iter().map(|a| (a.name.clone(), Arc::new(a))).collect();
        *self.apps.write().unwrap_or_else(PoisonError::into_inner) = apps;
        Ok(())
    }

    /// One app.
    pub fn get(&self, name: &str) -> Option<Arc<App>> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
