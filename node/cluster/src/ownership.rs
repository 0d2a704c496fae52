//! Who may write a stream: epochs, the numbers to go on from, second publishers, leases. Pure: no sockets, no
//! clock, no store; the node does what the steps ask for and brings the answers.
//!
//! - [`epoch`]: the numbers that make every turn of a stream's owner unique and put them in order.
//! - [`numbers`]: where a new owner goes on in the stream's sequence numbers and on its timeline.
//! - [`publisher`]: whether a second publisher takes a stream over.
//! - [`claiming`]: the way of a stream to a new owner, step by step.
//! - [`liveness`]: whether a node that is only heard of by a counter is alive.

pub mod claiming;
pub mod epoch;
pub mod liveness;
pub mod numbers;
pub mod publisher;

pub use claiming::{Answer, Claiming, Lease, Rules, Step, Stored, TailAnswer, View, Why};
pub use epoch::{granted_after, is_local, local_after, signed};
pub use liveness::{Liveness, Status};
pub use numbers::{Numbers, Segmented, Tail};
pub use publisher::{Identity, PublisherState, Verdict, second_publisher};
