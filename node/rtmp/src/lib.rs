//! RTMP in and out: publishing and playing over RTMP and RTMPS, enhanced RTMP included.
//!
//! From the wire up, all of it without I/O:
//! - [`handshake`]: the first 3073 bytes each way;
//! - [`chunk`]: messages cut into chunks, and back;
//! - [`amf0`], [`message`], [`flv`]: what messages hold: values, commands and control, audio and video;
//! - [`path`]: what stream a client means;
//! - [`session`]: the state machines of a server and of a client.
//!
//! On top of that:
//! - [`ingest`]: from audio and video messages to a stream of the hub;
//! - `egress`: from a stream of the hub to messages, written once for all its players;
//! - [`server`]: sockets, limits, timeouts and the end.

pub mod amf0;
pub mod chunk;
mod connection;
mod egress;
mod error;
pub mod flv;
pub mod handshake;
pub mod ingest;
mod limits;
pub mod message;
pub mod path;
pub mod server;
pub mod session;

pub use error::Error;
pub use server::{Server, Settings};
