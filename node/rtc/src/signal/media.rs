//! What signalling asks of the media: [`Service`] behind a trait, so that conversations can be tested without sockets.

use std::future::ready;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sluice_media::Stream;
use sluice_media::session::Request;
use tokio::sync::mpsc;

use crate::SessionEvent;
use crate::egress::Quality;
use crate::peer::Message;
use crate::sdp::SdpError;
use crate::service::{Gathered, Negotiation, Offering, Opened, Refused, Service};
use crate::transport::Session;

/// A session that has been opened.
pub struct Running {
    /// Our answer, or our offer.
    pub sdp: String,
    /// For each mid of an offer the name of its track, such as `ARDAMSvcam1`.
    pub mids: Vec<(String, String)>,
    /// The stream that it publishes, or those that it plays, by feed.
    pub streams: Vec<Arc<Stream>>,
    /// What it tells.
    pub events: mpsc::Receiver<SessionEvent>,
    /// What can be told to it. Dropping it closes the session, a publisher's as a broken connection.
    pub link: Box<dyn Link>,
}

/// What a further offer changed.
pub struct Again {
    /// The offer.
    pub sdp: String,
    /// As [`Running::mids`].
    pub mids: Vec<(String, String)>,
    /// As [`Running::streams`].
    pub streams: Vec<Arc<Stream>>,
}

/// A session, as far as it is told something.
pub trait Link: Send {
    /// Which it is, among those of this node.
    fn id(&self) -> u64;
    /// Sends a message over a data channel.
    fn send(&mut self, channel: u16, message: Message);
    /// Chooses the rendition of a feed.
    fn set_quality(&mut self, feed: usize, quality: Quality);
    /// Sends a media section or does not.
    fn enable(&mut self, mid: &str, enabled: bool);
    /// Ends it with a goodbye; a publisher's stream ends with it.
    fn close(self: Box<Self>);
    /// Answers another offer of a publisher.
    ///
    /// # Errors
    /// It cannot be used; the session stays as it was.
    fn answer(&mut self, offer: &str) -> Result<String, Refused>;
    /// Takes the answer to the newest offer.
    ///
    /// # Errors
    /// It cannot be used; the session stays as it was.
    fn accept(&mut self, answer: &str) -> Result<(), Refused>;
    /// Gathers other streams for the same viewer: the session goes on meanwhile.
    ///
    /// # Errors
    /// [`Refused`].
    fn gather(&mut self, requests: Vec<(Request, String)>) -> BoxFuture<'static, Result<Gathered, Refused>>;
    /// Offers what was gathered.
    ///
    /// # Errors
    /// [`Refused`]; it goes on as it was.
    fn again(&mut self, gathered: Gathered) -> Result<Again, Refused>;
}

/// Opens sessions.
#[async_trait]
pub trait Media: Send + Sync + 'static {
    /// Lets one publish who made an offer.
    ///
    /// # Errors
    /// [`Refused`].
    async fn publish(&self, request: Request, offer: &str) -> Result<Running, Refused>;

    /// Makes an offer to one who plays: streams, each with the name of its track.
    ///
    /// # Errors
    /// [`Refused`].
    async fn offer(&self, requests: Vec<(Request, String)>) -> Result<Running, Refused>;
}

#[async_trait]
impl Media for Arc<Service> {
    async fn publish(&self, request: Request, offer: &str) -> Result<Running, Refused> {
        let Opened { sdp, session, events, streams, negotiation } =
            Service::publish(self, request, offer).await?;
        session.measure();
        let link = Box::new(Publishing { session, negotiation });
        Ok(Running { sdp, mids: Vec::new(), streams, events, link })
    }

    async fn offer(&self, requests: Vec<(Request, String)>) -> Result<Running, Refused> {
        let mut offering = Service::offer(self, requests).await?;
        offering.session.measure();
        let events = std::mem::replace(&mut offering.events, mpsc::channel(1).1);
        let Again { sdp, mids, streams } = of(&offering);
        let link = Box::new(Playing { offering, service: self.clone() });
        Ok(Running { sdp, mids, streams, events, link })
    }
}

fn of(offering: &Offering) -> Again {
    Again { sdp: offering.sdp.clone(), mids: offering.mids.clone(), streams: offering.streams.clone() }
}

struct Publishing {
    session: Session,
    negotiation: Negotiation,
}

impl Link for Publishing {
    fn id(&self) -> u64 {
        self.session.id().0
    }

    fn send(&mut self, channel: u16, message: Message) {
        self.session.send(channel, message);
    }

    fn set_quality(&mut self, feed: usize, quality: Quality) {
        self.session.set_quality(feed, quality);
    }

    fn enable(&mut self, mid: &str, enabled: bool) {
        self.session.enable(mid, enabled);
    }

    fn close(self: Box<Self>) {
        self.session.close();
    }

    fn answer(&mut self, offer: &str) -> Result<String, Refused> {
        Ok(self.negotiation.offer_again(&self.session, offer)?)
    }

    fn accept(&mut self, _answer: &str) -> Result<(), Refused> {
        Err(unasked())
    }

    fn gather(&mut self, _requests: Vec<(Request, String)>) -> BoxFuture<'static, Result<Gathered, Refused>> {
        Box::pin(ready(Err(unasked())))
    }

    fn again(&mut self, _gathered: Gathered) -> Result<Again, Refused> {
        Err(unasked())
    }
}

fn unasked() -> Refused {
    Refused::Sdp(SdpError::Unusable("a publisher makes the offer, and is answered".into()))
}

struct Playing {
    offering: Offering,
    service: Arc<Service>,
}

impl Link for Playing {
    fn id(&self) -> u64 {
        self.offering.session.id().0
    }

    fn send(&mut self, channel: u16, message: Message) {
        self.offering.session.send(channel, message);
    }

    fn set_quality(&mut self, feed: usize, quality: Quality) {
        self.offering.session.set_quality(feed, quality);
    }

    fn enable(&mut self, mid: &str, enabled: bool) {
        self.offering.session.enable(mid, enabled);
    }

    fn close(self: Box<Self>) {
        self.offering.session.close();
    }

    fn answer(&mut self, _offer: &str) -> Result<String, Refused> {
        let why = "a player is made an offer, and answers it";
        Err(Refused::Sdp(SdpError::Unusable(why.into())))
    }

    fn accept(&mut self, answer: &str) -> Result<(), Refused> {
        self.offering.accept(answer)
    }

    fn gather(&mut self, requests: Vec<(Request, String)>) -> BoxFuture<'static, Result<Gathered, Refused>> {
        let (service, played) = (self.service.clone(), self.offering.played());
        Box::pin(async move { service.gather(requests, played).await })
    }

    fn again(&mut self, gathered: Gathered) -> Result<Again, Refused> {
        self.offering.offer_again(gathered);
        Ok(of(&self.offering))
    }
}
