//! The format of the relay.
