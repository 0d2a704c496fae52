//! Settings that a node takes while it runs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The keys of the settings that take effect without a restart, in the order of the alphabet. All others need one. The
/// node declares it for each setting (`node/src/config/settings.rs`); a test there holds this list to that.
pub const LIVE_SETTINGS: &[&str] = &[
    "drain_deadline",
    "drain_waits_for",
    "log",
    "max_streams",
    "max_viewers",
    "rtc_candidates",
    "shutdown_timeout",
    "stop_delay",
];

/// Values for settings that are live. It is the whole of them: a live setting that is not in it goes back to what the
/// node was started with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveSettings {
    /// Stands for the rest; comes back in [`Report::settings_hash`](crate::Report::settings_hash) once all of it was taken.
    pub hash: String,
    /// Values by key, as in the configuration file: texts, numbers, truth values.
    pub settings: Map<String, Value>,
}

/// What became of them. When one is refused, none is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingsResult {
    /// Those whose value is another now.
    pub changed: Vec<String>,
    /// Those that cannot be taken.
    pub refused: Vec<RefusedSetting>,
}

/// A setting that was not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RefusedSetting {
    /// Its key.
    pub key: String,
    /// Why not, for people.
    pub reason: String,
}
