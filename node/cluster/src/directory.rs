//! What is known of all members and streams, from what the nodes tell over the mesh and from the counters that membership
//! reads. [`Core`] is pure, with time as an argument; [`Directory`] puts it behind a lock, tells when it changes, and is
//! what the mesh writes to and reads from.
//!
//! - Of several owners of a stream the one with the highest epoch is its owner; the others are shadowed, and those that are
//!   told lose it ([`Event::Displaced`], [`Event::Behind`]).
//! - The highest epoch of each stream is remembered after it has gone: it is the fence for readers.
//! - A node whose link broke is not reachable, and keeps its streams until there was no sign of it for as long as a lease
//!   lasts. Then it is lost: its streams are gone from here, and [`Event::Lost`] is given out for the store to settle them.
//! - A new run of a node ends all that its run before had. What an earlier run still says is not listened to.

mod core;
mod input;
mod mesh;
mod output;
mod past;
mod shared;
mod streams;

pub use self::core::{Core, Event, Fenced, Times};
pub use self::output::{Carrier, Located, MOST_HOPS, MemberView, Source, StreamView, Whereabouts};
pub use self::shared::Directory;

#[cfg(test)]
mod tests;
