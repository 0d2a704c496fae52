//! What an ingest asks before it publishes and an egress before it plays. The protocols know only these
//! traits; the node implements them over the hub, the store and the settings of the app.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::stats::ViewerGuard;
use crate::{Publisher, Stream, StreamKey};

/// A wish to publish or to play, as a protocol understood it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The app and the stream id.
    pub key: StreamKey,
    /// Query parameters (`?token=…`), decoded, in their order.
    pub query: Vec<(String, String)>,
    /// The client's address.
    pub peer: SocketAddr,
    /// What the client says it is (RTMP `flashVer`, HTTP `User-Agent`); empty when it does not say.
    pub user_agent: String,
    /// Which protocol asks.
    pub protocol: Protocol,
}

/// The protocols that publish and play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RTMP and RTMPS.
    Rtmp,
    /// HLS and LL-HLS.
    Hls,
    /// WebRTC, by WHIP, WHEP or AMS's WebSocket.
    WebRtc,
}

impl Protocol {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Rtmp => "rtmp",
            Protocol::Hls => "hls",
            Protocol::WebRtc => "webrtc",
        }
    }
}

/// Why a request to publish or to play is refused. The text goes to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No such app.
    #[error("there is no app named {0}: publish to an existing one, such as LiveApp")]
    UnknownApp(String),
    /// The stream id has characters that AMS's ids do not allow, or is empty or too long.
    #[error("{0:?} is not a stream id: use letters, digits, '-', '_' and '.', at most 255")]
    InvalidId(String),
    /// Somebody else is publishing this id.
    #[error("{0} is being published already: stop the other publisher or choose another id")]
    InUse(StreamKey),
    /// Nobody publishes it.
    #[error("{0} is not being published")]
    NotLive(StreamKey),
    /// The app allows only streams that were created over REST.
    #[error("{0} is not a created stream, and this app allows only those (acceptOnlyStreamsInDataStore)")]
    NotCreated(StreamKey),
    /// The publisher's address is not among those that the app allows.
    #[error("{0} may not publish to this app: add it to the app's allowedPublisherCIDR")]
    NotAllowed(std::net::IpAddr),
    /// The app does not serve this protocol.
    #[error("{0} is switched off for this app")]
    Disabled(&'static str),
    /// The node is an edge; the text says where to publish.
    #[error("this node is an edge, which takes no publishers: publish to {0}")]
    Edge(String),
    /// The node is an origin that serves no viewers; the text says where to play.
    #[error("this node is an origin that serves no viewers: play from {0}")]
    NoViewers(String),
    /// The node takes nothing new because it is being taken out of service.
    #[error("this node is being drained and takes nothing new: try another node")]
    Draining,
    /// The node takes nothing new because it is stopping.
    #[error("this node is stopping: try again, or another node")]
    Stopping,
    /// The node or the app has as many as it may have.
    #[error("limit reached: {0}")]
    Limit(String),
    /// Something needed for the decision failed.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    /// A word for metrics, from a fixed list: see [`REASONS`](Self::REASONS).
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::UnknownApp(_) => "unknown_app",
            Refusal::InvalidId(_) => "invalid_id",
            Refusal::InUse(_) => "in_use",
            Refusal::NotLive(_) => "not_live",
            Refusal::NotCreated(_) => "not_created",
            Refusal::NotAllowed(_) => "not_allowed",
            Refusal::Disabled(_) => "disabled",
            Refusal::Edge(_) => "edge",
            Refusal::NoViewers(_) => "no_viewers",
            Refusal::Draining => "draining",
            Refusal::Stopping => "stopping",
            Refusal::Limit(_) => "limit",
            Refusal::Unavailable(_) => "unavailable",
        }
    }

    /// All reasons.
    pub const REASONS: [&'static str; 13] = [
        "unknown_app",
        "invalid_id",
        "in_use",
        "not_live",
        "not_created",
        "not_allowed",
        "disabled",
        "edge",
        "no_viewers",
        "draining",
        "stopping",
        "limit",
        "unavailable",
    ];
}

/// A stream that a viewer may play. Dropping it ends the viewer's session in the counts.
#[derive(Debug)]
pub struct Play {
    /// The stream.
    pub stream: Arc<Stream>,
    /// Counts the viewer for as long as it lives.
    pub viewer: ViewerGuard,
}

/// Decides who may publish, and gives them a stream to write to.
#[async_trait]
pub trait Ingress: Send + Sync + 'static {
    /// Lets a publisher in.
    ///
    /// # Errors
    /// The reason for which it is refused.
    async fn publish(&self, request: Request) -> Result<Publisher, Refusal>;
}

/// Decides who may play, and gives them the stream to read from.
#[async_trait]
pub trait Egress: Send + Sync + 'static {
    /// Lets a viewer in and counts it.
    ///
    /// # Errors
    /// The reason for which it is refused.
    async fn play(&self, request: Request) -> Result<Play, Refusal>;
}
