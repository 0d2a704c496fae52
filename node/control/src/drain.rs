//! Taking a node out of service.

use serde::{Deserialize, Serialize};

/// The order to let no new sessions in. A second order while the first is in force may only shorten it: the earlier
/// deadline counts, and the newer reason is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drain {
    /// Why, for people: shown in the report.
    pub reason: String,
    /// In how many seconds whoever is left may be cut; none: when everybody has gone. The node does not cut anybody
    /// before it is stopped (SIGTERM); then it stops at this time at the latest.
    pub deadline_s: Option<u64>,
    /// For how many seconds it still lets in whom the balancers in front of it have sent. `accepting` in its report is
    /// false at once.
    pub accept_for_s: u64,
}

/// How far the draining of a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Draining {
    /// For how many seconds it has been draining.
    pub since_s: u64,
    /// Seconds left until whoever is left may be cut; 0 when that time has come, none when there is no deadline.
    pub deadline_s: Option<u64>,
    /// Who ordered it.
    pub by: DrainOrder,
    /// Why, for people.
    pub reason: String,
    /// Streams that it waits for: published to it, or waiting for their publisher to return.
    pub waiting_publishers: u32,
    /// Viewers that it waits for.
    pub waiting_viewers: u32,
}

/// Who ordered a node to drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainOrder {
    /// The operator.
    #[default]
    Operator,
    /// Somebody over REST.
    Rest,
    /// SIGTERM: its process ends after it, and it cannot be taken back.
    Signal,
}
