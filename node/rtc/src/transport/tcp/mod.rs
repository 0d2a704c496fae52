//! ICE over TCP (RFC 6544, passive candidates): connections that carry datagrams in frames (RFC 4571).

mod connection;
pub mod frames;
mod listener;

pub(super) use connection::{Arrived, Connection};
pub(super) use listener::{Accepted, bind, serve, strangers};
