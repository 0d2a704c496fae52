//! The configuration of a running node: what it was started with, and the settings that were changed since. Only those
//! that are declared live may be.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use tokio::sync::watch;

use super::settings::{Config, SETTINGS};
use super::sources::{find, json_text};
use super::{Loaded, together};

/// A value that a running node does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The key, as given.
    pub key: String,
    /// Why not, for people.
    pub reason: String,
}

/// The configuration as it is now.
pub struct LiveConfig {
    started: Loaded,
    now: watch::Sender<Arc<Config>>,
    /// Texts of the settings that are not as the node was started.
    changed: Mutex<BTreeMap<&'static str, String>>,
}

/// Without values: some are secrets.
impl fmt::Debug for LiveConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("LiveConfig").field("changed", &changed.keys()).finish_non_exhaustive()
    }
}

impl LiveConfig {
    /// As the node is started.
    #[must_use]
    pub fn new(started: Loaded) -> Arc<Self> {
        let now = watch::Sender::new(Arc::new(started.config.clone()));
        Arc::new(LiveConfig { started, now, changed: Mutex::default() })
    }

    /// The file that a secret was read from at the start.
    #[must_use]
    pub fn secret_file(&self, key: &str) -> Option<&Path> {
        self.started.secret_file(key)
    }

    /// As it is at this moment.
    #[must_use]
    pub fn get(&self) -> Arc<Config> {
        self.now.borrow().clone()
    }

    /// To follow changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Config>> {
        self.now.subscribe()
    }

    /// Takes these values, and those of the start for the live settings that are not among them. Gives the keys of
    /// those that are others now.
    ///
    /// # Errors
    /// What is wrong with them; then nothing has changed.
    pub fn apply(&self, values: &Map<String, Value>) -> Result<Vec<&'static str>, Vec<Refused>> {
        let mut wanted = BTreeMap::new();
        let mut refused = Vec::new();
        for (key, value) in values {
            match text(key, value) {
                Ok((key, text)) => {
                    wanted.insert(key, text);
                }
                Err(reason) => refused.push(Refused { key: key.clone(), reason }),
            }
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let at_start = |key: &str| self.started.text(key);
        wanted.retain(|key, text| text != at_start(key));
        let config =
            Config::from_text(|key| wanted.get(key).map_or_else(|| at_start(key).to_owned(), Clone::clone));
        let whole = |reason: String| vec![Refused { key: String::new(), reason }];
        let config =
            config.ok_or_else(|| whole("the settings could not be read; please report this".into()))?;
        together::check(&config).map_err(|errors| whole(errors.to_string()))?;
        let text = |all: &BTreeMap<&str, String>, key| {
            all.get(key).map_or_else(|| at_start(key).to_owned(), Clone::clone)
        };
        let differ: Vec<&'static str> = SETTINGS
            .iter()
            .filter(|s| s.live && text(&changed, s.key) != text(&wanted, s.key))
            .map(|s| s.key)
            .collect();
        *changed = wanted;
        if !differ.is_empty() {
            self.now.send_replace(Arc::new(config));
        }
        Ok(differ)
    }
}

/// The setting and the text of a value for it.
fn text(key: &str, value: &Value) -> Result<(&'static str, String), String> {
    let Some((setting, false)) = find(key) else {
        return Err("there is no such setting".into());
    };
    if !setting.live {
        return Err("it takes effect only at the next start".into());
    }
    json_text(value, (setting.shape)())
        .filter(|text| (setting.accepts)(text))
        .map(|text| (setting.key, text))
        .ok_or_else(|| format!("expected {}", (setting.expected)()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::config::{Sources, load};

    fn started(flags: &[(&str, &str)]) -> Arc<LiveConfig> {
        let flags = flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        LiveConfig::new(load(&Sources { flags, ..Sources::default() }).unwrap())
    }

    fn apply(config: &LiveConfig, values: Value) -> Result<Vec<&'static str>, Vec<Refused>> {
        config.apply(values.as_object().unwrap())
    }

    #[test]
    fn the_operator_knows_which_settings_are_live() {
        let mut live: Vec<&str> = SETTINGS.iter().filter(|s| s.live).map(|s| s.key).collect();
        live.sort_unstable();
        assert_eq!(live, sluice_control::LIVE_SETTINGS);
        assert!(SETTINGS.iter().all(|s| !(s.live && s.secret)), "values of live settings are shown");
    }

    #[test]
    fn what_is_given_holds_and_what_is_not_goes_back() {
        let config = started(&[("max_streams", "10")]);
        let mut watch = config.watch();
        let values = json!({ "max_streams": 20, "drain_deadline": "1h", "log": "debug" });
        assert_eq!(apply(&config, values.clone()), Ok(vec!["max_streams", "drain_deadline", "log"]));
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        let now = config.get();
        assert_eq!((now.max_streams, now.drain_deadline), (20, Duration::from_secs(3600)));
        assert_eq!(apply(&config, values), Ok(vec![]), "the same twice");
        assert!(!watch.has_changed().unwrap());

        assert_eq!(apply(&config, json!({ "log": "debug" })), Ok(vec!["max_streams", "drain_deadline"]));
        assert_eq!((config.get().max_streams, config.get().drain_deadline), (10, Duration::ZERO));
        assert_eq!(apply(&config, json!({})), Ok(vec!["log"]));
    }

    #[test]
    fn one_that_is_wrong_refuses_all() {
        let config = started(&[]);
        let refused =
            apply(&config, json!({ "max_streams": 0, "max_viewers": 5, "http_addr": "0.0.0.0:1", "x": 1 }));
        let refused = refused.unwrap_err();
        let reasons: Vec<(&str, &str)> =
            refused.iter().map(|r| (r.key.as_str(), r.reason.as_str())).collect();
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        assert!(reasons[0].0 == "max_streams" && reasons[0].1.starts_with("expected "), "{reasons:?}");
        assert_eq!(reasons[1], ("http_addr", "it takes effect only at the next start"));
        assert_eq!(reasons[2], ("x", "there is no such setting"));
        assert_eq!(config.get().max_viewers, None);
    }
}
