//! From a stream of the hub to its RTMP players.
//!
//! A [`feed`] per stream turns each frame once into the bytes of an RTMP message; each [`player`] only moves
//! those bytes from the feed's ring to its socket.

pub(crate) mod feed;
mod metadata;
pub(crate) mod player;
