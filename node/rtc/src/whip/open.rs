//! What HTTP asks of the media: [`Service`] behind a trait, so that conversations can be tested without sockets.

use std::sync::Arc;

use async_trait::async_trait;
use sluice_media::Stream;
use sluice_media::session::Request;
use tokio::sync::mpsc;

use crate::agreed::IceCredentials;
use crate::peer::Message;
use crate::service::{Negotiation, Opened, Refused, Service};
use crate::{IceServer, Session, SessionEvent};

/// Whether one publishes or plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Publisher,
    Player,
}

impl Role {
    /// The part of the path.
    pub(super) fn word(self) -> &'static str {
        match self {
            Role::Publisher => "whip",
            Role::Player => "whep",
        }
    }
}

/// A session that has been opened.
pub(super) struct Running {
    pub(super) answer: String,
    /// The stream that it publishes, or plays.
    pub(super) streams: Vec<Arc<Stream>>,
    pub(super) events: mpsc::Receiver<SessionEvent>,
    pub(super) link: Box<dyn Link>,
}

/// A session, as far as it is told something. Dropping it closes it, a publisher's as a broken connection.
pub(super) trait Link: Send {
    /// Which it is, among those of this node.
    fn id(&self) -> u64;
    /// Sends a message over a data channel.
    fn send(&self, channel: u16, message: Message);
    /// The other side's ICE credentials.
    fn remote_ice(&self) -> IceCredentials;
    /// Restarts ICE; gives our side of it as a fragment.
    fn restart(&mut self, theirs: IceCredentials) -> String;
    /// Ends it with a goodbye; a publisher's stream ends with it.
    fn close(self: Box<Self>);
}

/// Opens sessions.
#[async_trait]
pub(super) trait Media: Send + Sync + 'static {
    async fn open(&self, role: Role, request: Request, offer: &str) -> Result<Running, Refused>;
    fn ice_servers(&self) -> &[IceServer];
}

#[async_trait]
impl Media for Service {
    async fn open(&self, role: Role, request: Request, offer: &str) -> Result<Running, Refused> {
        let opened = match role {
            Role::Publisher => {
                let opened = self.publish(request, offer).await?;
                opened.session.end_by_goodbye();
                opened
            }
            Role::Player => self.play(request, offer).await?,
        };
        let Opened { sdp, session, events, negotiation, streams } = opened;
        Ok(Running { answer: sdp, streams, events, link: Box::new(Linked { session, negotiation }) })
    }

    fn ice_servers(&self) -> &[IceServer] {
        &self.rtc().settings().ice_servers
    }
}

struct Linked {
    session: Session,
    negotiation: Negotiation,
}

impl Link for Linked {
    fn id(&self) -> u64 {
        self.session.id().0
    }

    fn send(&self, channel: u16, message: Message) {
        self.session.send(channel, message);
    }

    fn remote_ice(&self) -> IceCredentials {
        self.negotiation.remote_ice().clone()
    }

    fn restart(&mut self, theirs: IceCredentials) -> String {
        self.negotiation.restart(&self.session, theirs)
    }

    fn close(self: Box<Self>) {
        self.session.close();
    }
}

/// Opens sessions, whichever way.
pub(super) type Opens = Arc<dyn Media>;
