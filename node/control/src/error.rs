//! What can go wrong on the way to a node.

use std::time::Duration;

use sluice_identity::NodeId;

/// A question to a node was not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody answers there, or the connection broke before the answer was there.
    #[error("node {node} cannot be reached at {addr} ({doing}): {reason}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// `host:port` of its cluster port.
        addr: String,
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// There was no answer in time.
    #[error("node {node} at {addr} did not answer within {within:?} ({doing})")]
    Timeout {
        /// The node.
        node: NodeId,
        /// `host:port` of its cluster port.
        addr: String,
        /// What was attempted.
        doing: &'static str,
        /// The limit.
        within: Duration,
    },
    /// The two do not accept each other's certificates.
    #[error(
        "node {node} at {addr} and the operator do not accept each other: {reason}. Does the pod have this cluster's key, \
         and the operator's present CA (operator_ca)?"
    )]
    Refused {
        /// The node.
        node: NodeId,
        /// `host:port` of its cluster port.
        addr: String,
        /// What either side said.
        reason: String,
    },
    /// Another node of the cluster answers there.
    #[error("at {addr} node {found} answers, not {node}: its address was given to another pod")]
    NotThisNode {
        /// The node that was asked for.
        node: NodeId,
        /// The node that answers.
        found: NodeId,
        /// `host:port` of the cluster port.
        addr: String,
    },
    /// The node understood the question and says no.
    #[error("node {node} refuses ({status}): {message}")]
    Denied {
        /// The node.
        node: NodeId,
        /// The HTTP status.
        status: u16,
        /// Its sentence.
        message: String,
    },
    /// The answer is not one: too long, or not what was asked for.
    #[error("node {node} gave an answer that is of no use: {reason}. Does its release fit the operator's?")]
    BadAnswer {
        /// The node.
        node: NodeId,
        /// What is wrong with it.
        reason: String,
    },
}

impl ControlError {
    /// Whether the node could not be asked at all, or vanished before it answered.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, ControlError::Unreachable { .. } | ControlError::Timeout { .. })
    }

    /// A word for metrics: `unreachable`, `timeout`, `refused`, `not_this_node`, `denied` or `bad_answer`.
    pub fn kind(&self) -> &'static str {
        match self {
            ControlError::Unreachable { .. } => "unreachable",
            ControlError::Timeout { .. } => "timeout",
            ControlError::Refused { .. } => "refused",
            ControlError::NotThisNode { .. } => "not_this_node",
            ControlError::Denied { .. } => "denied",
            ControlError::BadAnswer { .. } => "bad_answer",
        }
    }
}
