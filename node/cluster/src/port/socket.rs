//! Options of the sockets between nodes.
