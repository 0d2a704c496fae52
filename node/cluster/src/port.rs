//! The cluster port.
