//! Apps that somebody declares: made what they should be, where they are not so already.

use serde_json::{Map, Value};
use sluice_store::{AppSettings, StoreError, valid_app_name};

use crate::state::ApiState;

/// How often a change is tried again when others change the same app at the same moment.
const TRIES: u32 = 5;

/// What became of a declared app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// It was not there.
    Created,
    /// Some of its settings were others.
    Updated,
    /// It was so already.
    Unchanged,
}

impl ApiState {
    /// Makes sure that there is an app with these settings, by AMS's names; those that are not given stay as they are, or
    /// are the defaults of a new app.
    ///
    /// # Errors
    /// Why not, for people: a name or a value that cannot be, or a store that does not take it.
    pub async fn declare_app(&self, name: &str, settings: &Map<String, Value>) -> Result<Declared, String> {
        if !valid_app_name(name) {
            return Err("the name of an app consists of letters, digits, '_' and '-'".into());
        }
        let body = serde_json::to_vec(settings).map_err(|e| e.to_string())?;
        for _ in 0..TRIES {
            let found = self.store.app(name).await.map_err(|e| e.to_string())?;
            let Some(app) = found else {
                let mut new = self.settings.app_defaults.clone();
                new.merge_json(&body).map_err(|e| e.to_string())?;
                if self.store.create_app(name, new).await.map_err(|e| e.to_string())? {
                    self.node.apps_changed().await;
                    return Ok(Declared::Created);
                }
                // Somebody else has made it meanwhile, perhaps otherwise.
                continue;
            };
            let mut new = app.settings.clone();
            new.merge_json(&body).map_err(|e| e.to_string())?;
            if new == app.settings {
                return Ok(Declared::Unchanged);
            }
            match self.store.set_app_settings(name, new, app.version).await {
                Ok(_) => {
                    self.node.apps_changed().await;
                    return Ok(Declared::Updated);
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("others keep changing these settings: try again".into())
    }

    /// Whether settings are as declared.
    pub fn is_as_declared(settings: &AppSettings, declared: &Map<String, Value>) -> bool {
        let mut wanted = settings.clone();
        serde_json::to_vec(declared).is_ok_and(|body| wanted.merge_json(&body).is_ok()) && wanted == *settings
    }

    /// Makes sure that there is no such app, with all that is stored of it; its live streams end on every node. `false`
    /// when there was none.
    ///
    /// # Errors
    /// What the store says, for people.
    pub async fn remove_app(&self, name: &str) -> Result<bool, String> {
        if !self.store.delete_app(name, true).await.map_err(|e| e.to_string())? {
            return Ok(false);
        }
        self.app_is_gone(name).await;
        self.tell_that_app_is_gone(name).await;
        Ok(true)
    }
}
