//! What can go wrong on the way to another node.

use std::io;
use std::time::Duration;

/// A connection or request to another node failed.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Nobody answers there, or the connection broke before the answer was there.
    #[error(
        "node at {addr} cannot be reached ({doing}): {source}. Is it running, and does a firewall let the cluster port through?"
    )]
    Unreachable {
        /// `host:port`.
        addr: String,
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// There was no answer in time.
    #[error("node at {addr} did not answer within {within:?} ({doing})")]
    Timeout {
        /// `host:port`.
        addr: String,
        /// What was attempted.
        doing: &'static str,
        /// The limit.
        within: Duration,
    },
    /// Somebody answers, but the two do not accept each other.
    #[error(
        "node at {addr} and this one do not accept each other: {reason}. Do both have the same cluster key (or certificates of one CA)?"
    )]
    Refused {
        /// `host:port`.
        addr: String,
        /// Why.
        reason: String,
    },
    /// The answer to a request was not a success.
    #[error("node at {addr} answered {status}: {text}")]
    Status {
        /// `host:port`.
        addr: String,
        /// The status.
        status: http::StatusCode,
        /// The beginning of the answer.
        text: String,
    },
    /// The answer is not one: too large, or not HTTP.
    #[error("node at {addr} gave an answer that is of no use: {reason}. Do both run the same release?")]
    Answer {
        /// `host:port`.
        addr: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl PortError {
    /// Whether the node could not be asked at all, or vanished before it answered.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, PortError::Unreachable { .. } | PortError::Timeout { .. })
    }
}
