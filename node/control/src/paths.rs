//! The paths on a node's cluster port that are for the operator alone.

/// Under this all of them are.
pub const OPERATOR: &str = "/v1/operator";

/// `GET`: a [`Report`](crate::Report); [`KNOWN`] and [`WAIT_MS`] in the query make it a long poll.
pub const REPORT: &str = "/v1/operator/report";

/// `POST` with a [`Drain`](crate::Drain), `DELETE` takes it back.
pub const DRAIN: &str = "/v1/operator/drain";

/// `PUT` with [`Apps`](crate::Apps); the answer is an [`AppsResult`](crate::AppsResult).
pub const APPS: &str = "/v1/operator/apps";

/// `PUT` with [`LiveSettings`](crate::LiveSettings); the answer is a [`SettingsResult`](crate::SettingsResult).
pub const SETTINGS: &str = "/v1/operator/settings";

/// The revision that the operator has already, in the query of [`REPORT`].
pub const KNOWN: &str = "known";

/// How long the node may wait for another revision, in milliseconds, in the query of [`REPORT`].
pub const WAIT_MS: &str = "wait_ms";

/// A node waits no longer than this for another revision, in milliseconds.
pub const LONGEST_WAIT_MS: u64 = 60_000;
