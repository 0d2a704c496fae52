//! FFmpeg in process: sound bridged between AAC and Opus, so that everybody hears what anybody publishes.
//!
//! - [`AudioBridge`]: one track from one codec to another, frame by frame. Pure.
//! - [`Bridges`]: adds the missing codec to each live stream of this node for as long as somebody
//!   [needs](sluice_media::aside::Need) it.
//!
//! FFmpeg's libraries are linked as the system has them; which codecs they have is asked at run time.

mod bridge;
mod decode;
mod encode;
mod error;
mod pile;
mod pool;
mod service;
#[cfg(test)]
mod tests;

pub use bridge::AudioBridge;
pub use error::BridgeError;
pub use service::{BridgeCounts, Bridges};

/// Samples per second of everything that is made.
const RATE: u32 = 48_000;
