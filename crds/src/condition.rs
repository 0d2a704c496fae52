//! Conditions: their types, and how one is changed without touching what did not change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The types of conditions that Sluice sets.
pub mod kind {
    /// Does what the spec asks for.
    pub const READY: &str = "Ready";
    /// On the way to what the spec asks for.
    pub const PROGRESSING: &str = "Progressing";
    /// Something is wrong that does not go away by waiting.
    pub const DEGRADED: &str = "Degraded";
    /// Left alone, because the spec says so.
    pub const PAUSED: &str = "Paused";
    /// The nodes reach the database.
    pub const DATABASE_READY: &str = "DatabaseReady";
    /// Routes, load balancers and certificates are in place. `Ready` does not wait for it.
    pub const EXPOSURE_READY: &str = "ExposureReady";
    /// The declared apps are as the spec says.
    pub const APPS_READY: &str = "AppsReady";
    /// Pods of the pool are being emptied.
    pub const DRAINING: &str = "Draining";
    /// There are more or fewer pods than the autoscaler asks for, or it may not change their number.
    pub const SCALING_LIMITED: &str = "ScalingLimited";
    /// What the number of pods follows is known.
    pub const METRICS_AVAILABLE: &str = "MetricsAvailable";
}

/// A condition as decided; `observed_generation` and the transition time are added by [`set`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Its type, one of [`kind`].
    pub kind: &'static str,
    /// `Some(true)` is `True`, `None` is `Unknown`.
    pub status: Option<bool>,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// A sentence that names the object and, where there is one, the way out.
    pub message: String,
}

/// Sets a condition. The transition time changes with the status only, so equal decisions leave an equal list.
pub fn set(conditions: &mut Vec<Condition>, decided: Decided, generation: Option<i64>, now: &Time) {
    let status = match decided.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let mut message = decided.message;
    // The schema's limit.
    if message.chars().count() > 1024 {
        message = message.chars().take(1020).collect::<String>() + " …";
    }
    let old = conditions.iter().position(|condition| condition.type_ == decided.kind);
    let since = old
        .and_then(|index| conditions.get(index))
        .filter(|condition| condition.status == status)
        .map_or_else(|| now.clone(), |condition| condition.last_transition_time.clone());
    let new = Condition {
        type_: decided.kind.into(),
        status: status.into(),
        reason: decided.reason.into(),
        message,
        observed_generation: generation,
        last_transition_time: since,
    };
    match old.and_then(|index| conditions.get_mut(index)) {
        Some(place) => *place = new,
        None => conditions.push(new),
    }
}

/// Whether a condition of this type is there and `True`.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}
