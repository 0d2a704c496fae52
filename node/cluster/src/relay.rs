//! Streams from node to node.
