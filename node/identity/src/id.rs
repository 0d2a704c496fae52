//! The names of nodes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A node id has at most as many bytes.
pub const NODE_ID_BYTES: usize = 255;

/// The name of a node, unique in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub Arc<str>);

impl NodeId {
    /// From its text.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        NodeId(id.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether this can be the id of a node: 1 to [`NODE_ID_BYTES`] bytes, nothing that garbles a log.
pub fn valid_node_id(id: &str) -> bool {
    (1..=NODE_ID_BYTES).contains(&id.len()) && !id.chars().any(char::is_control)
}
