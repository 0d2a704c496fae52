//! The sockets and the loops that carry media, one a core.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use sluice_media::Publisher;
use tokio::sync::mpsc;

use crate::Settings;
use crate::agreed::{Agreed, IceCredentials};
use crate::egress::{EgressStats, Feed, Quality};
use crate::ingest::IngestStats;
use crate::peer::{Certificate, Message};

/// Tells one session from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

/// What a session carries.
pub enum Carries {
    /// A publisher's media into the hub.
    In(Box<Publisher>),
    /// Streams to a viewer, by feed.
    Out(Vec<Arc<Feed>>),
    /// Data channels only.
    Nothing,
}

/// A session to be opened.
pub struct Opening {
    /// Our ICE credentials; [`Rtc::credentials`] makes them.
    pub ice: IceCredentials,
    /// What was agreed on; `None` while our offer waits for its answer (see [`Session::agree`]).
    pub agreed: Option<Agreed>,
    /// What it carries.
    pub carries: Carries,
    /// The label of the data channel that we open, if we do.
    pub opens: Option<String>,
}

/// What a session tells. Bounded: a reader that does not read loses statistics, never the end.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    /// Media flows.
    Connected,
    /// A message came over a data channel.
    Message {
        /// On which channel.
        channel: u16,
        /// The channel's label.
        label: String,
        /// The message.
        message: Message,
    },
    /// A data channel can be written.
    Open {
        /// Which.
        channel: u16,
        /// Its label.
        label: String,
    },
    /// Another rendition is sent (index of the feed, height).
    Rendition(usize, u32),
    /// A stream that it plays has ended (index of the feed).
    StreamEnded(usize),
    /// Statistics, once a second.
    Stats(Stats),
    /// It is over; nothing follows. Says why.
    Closed(Closed),
}

/// Statistics of a session.
#[derive(Clone, Debug)]
pub enum Stats {
    /// Of a publisher.
    In(IngestStats),
    /// Of a viewer.
    Out(EgressStats),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The other side said goodbye.
    ByPeer,
    /// Nothing came any more: ICE consent ran out, or it never connected.
    Silent(String),
    /// The publisher was told to stop.
    Stopped(sluice_media::StopReason),
    /// [`Session::close`], or it was dropped.
    ByUs,
}

/// WebRTC of this node. Cloning is cheap.
#[derive(Clone)]
pub struct Rtc;

/// A session; dropping it closes it, a publisher's as a broken connection.
pub struct Session;

impl Rtc {
    /// Opens the sockets and starts the loops.
    ///
    /// # Errors
    /// An address cannot be opened.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let _ = settings;
        Ok(Rtc)
    }

    /// The settings it runs with.
    pub fn settings(&self) -> &Settings {
        panic!("by transport")
    }

    /// Our certificate.
    pub fn certificate(&self) -> Arc<Certificate> {
        panic!("by transport")
    }

    /// Fresh credentials; the user fragment is unused so far.
    pub fn credentials(&self) -> IceCredentials {
        panic!("by transport")
    }

    /// Host candidates: UDP, TCP.
    pub fn candidates(&self) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        (Vec::new(), Vec::new())
    }

    /// Opens a session. It lives in the loop that gets its first STUN request, and ends when none comes within 30 s.
    ///
    /// # Errors
    /// There are as many sessions as there may be.
    pub fn open(&self, opening: Opening) -> Result<(Session, mpsc::Receiver<SessionEvent>), TooMany> {
        let _ = opening;
        Err(TooMany)
    }

    /// Sessions now: publishers, viewers.
    pub fn sessions(&self) -> (usize, usize) {
        (0, 0)
    }

    /// Bytes received and sent since the start.
    pub fn traffic(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Closes all sessions and the sockets.
    pub async fn shutdown(&self) {}
}

/// There are as many sessions as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node has as many WebRTC sessions as it may have (rtc_max_sessions): try another node")]
pub struct TooMany;

impl Session {
    /// Which it is.
    pub fn id(&self) -> SessionId {
        SessionId(0)
    }

    /// The answer to our offer has come, or a later offer/answer changed something; `feeds` replace those that it plays;
    /// `restart` are our new ICE credentials after an ICE restart.
    pub fn agree(&self, agreed: Agreed, feeds: Option<Vec<Arc<Feed>>>, restart: Option<IceCredentials>) {
        let _ = (agreed, feeds, restart);
    }

    /// Sends a message over a data channel.
    pub fn send(&self, channel: u16, message: Message) {
        let _ = (channel, message);
    }

    /// Chooses the rendition of a feed.
    pub fn set_quality(&self, feed: usize, quality: Quality) {
        let _ = (feed, quality);
    }

    /// Sends a section or does not.
    pub fn enable(&self, mid: &str, enabled: bool) {
        let _ = (mid, enabled);
    }

    /// Asks the publisher for a keyframe.
    pub fn want_keyframe(&self) {}

    /// Ends it with a goodbye; a publisher's stream ends with it.
    pub fn close(self) {}
}
