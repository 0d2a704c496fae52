//! Packaging of live streams for HTTP players: CMAF (fragmented MP4) as HLS and LL-HLS, and MPEG-TS segments.
//!
//! - [`Service`]: the answers to `/{app}/streams/…`. A packager per stream starts with its first request.
//! - [`fmp4`], [`ts`]: the containers, as pure functions of frames.
//! - [`validate`]: a reader of media playlists that checks them against the specification, for tests.
//!
//! What is built is built once and shared by all viewers as [`bytes::Bytes`]. Segment numbers, part boundaries
//! and bytes follow from the stamps and times of the stream alone, so any node answers for any other.

mod cut;
mod datetime;
pub mod fmp4;
mod grid;
mod muxed;
mod packager;
mod playlist;
#[cfg(test)]
mod properties;
mod rendition;
mod respond;
mod route;
mod segmenter;
mod service;
mod sessions;
mod settings;
mod silence;
mod sound;
pub mod ts;
pub mod validate;
mod window;

pub use route::stream_of;
pub use service::{Elsewhere, Service, Settings};
pub use settings::{EVENT_BYTES, HlsSettings, PlaylistType, SegmentType};
