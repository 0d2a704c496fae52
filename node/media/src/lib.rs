//! The stream model that every ingest writes and every egress reads: codecs, tracks, groups, frames, and the hub.
//!
//! - [`Timestamp`], [`timeline`]: media time, and what turns a publisher's wrapping or jumping clock into it.
//! - [`codec`]: codec configuration records, parsed once at the edge of the system.
//! - [`Frame`], [`Group`]: one access unit; the frames from one random access point to the next.
//! - [`stream`]: one live stream: one writer, any number of readers, each with a position of its own.
//!   It may have several video tracks: renditions of one picture, the best first. [`Publisher`] says how they keep
//!   together; who needs one picture takes [`Stream::picture`].
//! - [`segmentation`]: when a segment begins, decided once by the owner of a stream and stamped on its groups.
//! - [`Mirror`]: writes a stream that another node owns, as that one wrote it.
//! - [`Hub`]: all live streams of this process by app and id.
//! - [`aside`]: messages, and what viewers need of the publisher.
//! - [`session`]: what an ingest asks before it publishes and an egress before it plays.
//!
//! There is no network, no disk and no container format in here.

pub mod aside;
pub mod bits;
pub mod codec;
mod frame;
mod hub;
mod interest;
mod mirror;
mod publisher;
mod reader;
pub mod ring;
pub mod segmentation;
pub mod session;
pub mod stats;
pub mod stream;
mod time;
pub mod timeline;

pub use codec::{AudioCodec, AudioConfig, CodecError, TrackConfig, VideoCodec, VideoConfig};
pub use frame::{Arrived, Frame, Group, GroupHead, Stamp, TrackId};
pub use hub::{Hub, Origin, PublishError, StreamKey};
pub use interest::Interest;
pub use mirror::{Mirror, Position};
pub use publisher::{Ended, Publisher};
pub use reader::{Event, Reader, Start};
pub use segmentation::Segmentation;
pub use stream::{MetaValue, StopReason, Stream, StreamSettings, Track};
pub use time::Timestamp;
