//! What signalling needs to know of the node and, in a cluster, of the others: which streams there are, and which belong
//! together.
//!
//! Membership has one owner of truth: the record of a live stream. A publisher's request carries `mainTrack`,
//! `streamName`, `metaData` and `role` in its query; whoever lets it in records them with the stream, and the record
//! ends with it. A room is no more than the live streams with the same main track.

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::watch;

/// A live stream that belongs to a main track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subtrack {
    /// Its stream id.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// What its publisher says of it.
    pub meta_data: String,
    /// The publisher's role.
    pub role: String,
}

/// A rendition of a live stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendition {
    /// Picture width in pixels.
    pub width: u32,
    /// Picture height in pixels.
    pub height: u32,
    /// Bits a second of video.
    pub video_bitrate: u64,
    /// Bits a second of audio.
    pub audio_bitrate: u64,
    /// The codec's name, such as `H264`.
    pub codec: String,
}

/// Who gets what players send over their data channels (`dataChannelPlayerDistribution`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// The publisher and all other players.
    #[default]
    All,
    /// The publisher.
    Publisher,
    /// Nobody.
    None,
}

/// What of an app's settings matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppSettings {
    /// Who gets what players send.
    pub distribution: Distribution,
}

/// What is known of streams, on this node and on the others.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The settings of an app; `None` when there is no such app.
    fn app(&self, app: &str) -> Option<AppSettings>;

    /// A stream's record as REST shows it, live or not.
    async fn broadcast(&self, app: &str, id: &str) -> Option<Value>;

    /// The live streams that belong to a main track, on any node, in the order in which they began; `None` when nothing is
    /// known of such a main track: it is no more than a stream, or not even that.
    async fn subtracks(&self, app: &str, main: &str) -> Option<Vec<Subtrack>>;

    /// Changes whenever [`subtracks`](Self::subtracks) of some main track of the app may answer otherwise.
    fn changes(&self, app: &str) -> watch::Receiver<u64>;

    /// The renditions of a stream; `None` when it is not live.
    async fn renditions(&self, app: &str, id: &str) -> Option<Vec<Rendition>>;

    /// Viewers of a stream by WebRTC, on all nodes; `None` when it is not live.
    async fn viewers(&self, app: &str, id: &str) -> Option<u64>;

    /// Viewers of a stream that said who they are, as REST shows them.
    async fn subscribers(&self, app: &str, id: &str, offset: usize, size: usize) -> Vec<Value>;

    /// Ends a live stream of this node whose publisher has left without a word of the end, and has now said it. One that
    /// has a publisher goes on.
    fn end_if_left(&self, app: &str, id: &str);

    /// Records what the publisher of a live stream says of it now.
    ///
    /// # Errors
    /// A sentence for the client.
    async fn set_meta_data(&self, app: &str, id: &str, meta_data: &str) -> Result<(), String>;
}
