//! The format in which the frames of a stream go from node to node, without any I/O.
//!
//! One connection carries one stream. The asker sends [`Open`]; the source answers [`Accepted`] or [`Refused`](Message::Refused),
//! then tracks, groups and frames. A message is its kind (one byte), the length of what follows (a varint), and that.
//! `docs/cluster-protocol.md` has every field.
//!
//! - [`Encoder`] writes messages into a [`Batch`], which keeps payloads as they are and is written with vectored writes.
//! - [`Decoder`] takes bytes as they come. A payload is copied once, into memory of its own, so that no small frame
//!   keeps a large buffer alive; a large one is read from the socket right where it stays.
//!
//! Both keep what was told last (configurations, times, the count of frames), so that frames cost a few bytes each.
//! Everything is bounded by [`limits`]; a peer that goes beyond gets an error that says what.

mod batch;
mod config;
mod decode;
mod encode;
mod error;
mod fields;
pub mod limits;
mod message;
#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use decode::Decoder;
pub use encode::Encoder;
pub use error::WireError;
pub use message::{Accepted, EndReason, Held, Message, OLDEST, Open, Refusal, VERSION};
