//! Publish and play over WebRTC, however it is signalled: asks whether it may be, finds the stream, agrees on codecs, opens
//! the session.

mod call;
#[cfg(test)]
mod tests;
mod watched;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sluice_media::session::{Egress, Ingress, Refusal, Request};
use sluice_media::{AudioCodec, Stream, VideoCodec};
use tokio::sync::mpsc;

pub use self::call::Call;
use self::watched::{Watched, numbered, outgoing};
use crate::agreed::{Agreed, IceCredentials};
use crate::client::Http;
use crate::egress::{Feed, Feeds};
use crate::sdp::{self, Local, Offered, Outgoing, SdpError, Takes, fragment};
use crate::transport::{Carries, Opening, Place, TooMany};
use crate::{Rtc, Session, SessionEvent};

/// The most streams that one session plays: each takes a section for video and one for sound, and a description has 64.
pub const MOST_STREAMS: usize = 31;

/// The most layers of simulcast that a publisher may send.
const MOST_LAYERS: usize = 4;

/// The longest that one of several streams may take until it can be offered: the others wait for it.
const SLOWEST: Duration = Duration::from_secs(3);

/// What is taken from publishers. H.264 plays everywhere and goes into every container.
const VIDEO: [VideoCodec; 5] =
    [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Vp9, VideoCodec::Vp8, VideoCodec::Av1];

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
    /// Answers later offers. To be kept for as long as the session: it counts a viewer.
    pub negotiation: Negotiation,
}

/// What later offers of the same session are answered from.
pub struct Negotiation {
    rtc: Rtc,
    local: Local,
    agreed: Agreed,
    side: Side,
}

enum Side {
    Publisher(Takes),
    Player { tracks: Vec<Outgoing>, numbers: Vec<usize>, _watched: Arc<Watched> },
}

impl Negotiation {
    /// Answers another offer of the session; one with other ICE credentials restarts ICE.
    ///
    /// # Errors
    /// It cannot be used; the session stays as it was.
    pub fn offer_again(&mut self, session: &Session, offer: &str) -> Result<String, SdpError> {
        let mut local = Local { version: self.local.version + 1, ..self.local.clone() };
        let (mut sdp, agreed) = self.answer(offer, &local)?;
        let restarts = agreed.remote.ice != self.agreed.remote.ice;
        if restarts {
            local.ice = self.rtc.credentials();
            (sdp, _) = self.answer(offer, &local)?;
        }
        session.agree(agreed.clone(), None, restarts.then(|| local.ice.clone()));
        (self.local, self.agreed) = (local, agreed);
        Ok(sdp)
    }

    fn answer(&self, offer: &str, local: &Local) -> Result<(String, Agreed), SdpError> {
        match &self.side {
            Side::Publisher(takes) => {
                let answered = sdp::answer_publisher(offer, local, takes)?;
                Ok((answered.sdp, answered.agreed))
            }
            Side::Player { tracks, numbers, .. } => {
                let answered = sdp::answer_player(offer, local, tracks)?;
                Ok((answered.sdp, numbered(answered.agreed, numbers)))
            }
        }
    }

    /// The other side's ICE credentials.
    pub fn remote_ice(&self) -> &IceCredentials {
        &self.agreed.remote.ice
    }

    /// Restarts ICE: `theirs` are the other side's new credentials. Gives our new ones, as a fragment of a description
    /// (RFC 8840).
    pub fn restart(&mut self, session: &Session, theirs: IceCredentials) -> String {
        self.local.ice = self.rtc.credentials();
        self.agreed.remote.ice = theirs;
        session.agree(self.agreed.clone(), None, Some(self.local.ice.clone()));
        let received = self.agreed.receiving.iter().map(|s| (s.video, s.mid.as_str()));
        let sent = self.agreed.sending.iter().map(|s| (s.video, s.mid.as_str()));
        let (video, mid) = received.chain(sent).next().unwrap_or((false, "0"));
        fragment::restart(&self.local, video, mid)
    }
}

/// Streams that can be offered to a viewer, each of which it counts for as long as this lives.
#[derive(Clone, Default)]
pub struct Gathered(Vec<Arc<Watched>>);

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
    /// The streams that it plays, by feed. After another offer those that it will play once that is answered.
    pub streams: Vec<Arc<Stream>>,
    local: Local,
    offered: Offered,
    numbers: Vec<usize>,
    watched: Vec<Arc<Watched>>,
    // What the session plays until the answer to a later offer has come.
    before: Option<Vec<Arc<Watched>>>,
}

impl Offering {
    /// The answer has come.
    ///
    /// # Errors
    /// It cannot be used; the session stays as it was.
    pub fn accept(&mut self, answer: &str) -> Result<(), Refused> {
        let agreed = numbered(self.offered.accept(answer)?, &self.numbers);
        let feeds = self.before.take().map(|_| feeds(&self.watched));
        self.session.agree(agreed, feeds, None);
        Ok(())
    }

    /// What is offered now.
    pub fn played(&self) -> Gathered {
        Gathered(self.watched.clone())
    }

    /// Makes another offer to the same viewer: these streams from now on.
    pub fn offer_again(&mut self, gathered: Gathered) {
        let Gathered(watched) = gathered;
        let (tracks, numbers) = outgoing(&watched);
        let offered = sdp::offer_player(&self.local, &tracks, Some(&self.offered));
        self.sdp = offered.sdp.clone();
        self.mids = offered.mids();
        self.streams = streams(&watched);
        (self.offered, self.numbers) = (offered, numbers);
        let played = std::mem::replace(&mut self.watched, watched);
        self.before.get_or_insert(played);
    }
}

fn feeds(watched: &[Arc<Watched>]) -> Vec<Arc<Feed>> {
    watched.iter().map(|w| w.feed.clone()).collect()
}

fn streams(watched: &[Arc<Watched>]) -> Vec<Arc<Stream>> {
    watched.iter().map(|w| w.stream.clone()).collect()
}

/// Publishing and playing.
pub struct Service {
    rtc: Rtc,
    ingress: Arc<dyn Ingress>,
    egress: Arc<dyn Egress>,
    feeds: Feeds,
    http: Arc<Http>,
}

impl Service {
    /// Over these sockets, asking these.
    pub fn new(rtc: Rtc, ingress: Arc<dyn Ingress>, egress: Arc<dyn Egress>) -> Arc<Self> {
        let feeds = Feeds::new(rtc.settings().mtu, rtc.runtimes());
        Arc::new(Service { rtc, ingress, egress, feeds, http: Arc::default() })
    }

    /// The sockets.
    pub fn rtc(&self) -> &Rtc {
        &self.rtc
    }

    /// Lets one publish who made an offer. The offer is judged first: one that cannot be answered claims no stream.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn publish(&self, request: Request, offer: &str) -> Result<Opened, Refused> {
        let takes = Takes { video: VIDEO.to_vec(), audio: vec![AudioCodec::Opus], layers: MOST_LAYERS };
        let local = self.local();
        let answered = sdp::answer_publisher(offer, &local, &takes)?;
        let place = self.rtc.place(request.peer.ip())?;
        let mut publisher = self.ingress.publish(request).await?;
        publisher.expect_video(answered.agreed.receiving.iter().any(|section| section.video));
        let stream = publisher.stream().clone();
        let carries = Carries::In(Box::new(publisher));
        self.open(place, answered, carries, vec![stream], local, Side::Publisher(takes))
    }

    /// Lets one play who made an offer (WHEP).
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn play(&self, request: Request, offer: &str) -> Result<Opened, Refused> {
        sdp::check_player(offer)?;
        let client = request.peer.ip();
        self.room(client)?;
        let name = request.key.id.to_string();
        let watched = [Arc::new(self.watch(request, name).await?)];
        let local = self.local();
        let (tracks, numbers) = outgoing(&watched);
        let mut answered = sdp::answer_player(offer, &local, &tracks)?;
        answered.agreed = numbered(answered.agreed, &numbers);
        let (carries, streams) = (Carries::Out(feeds(&watched)), streams(&watched));
        let [watched] = watched;
        let side = Side::Player { tracks, numbers, _watched: watched };
        self.open(self.rtc.place(client)?, answered, carries, streams, local, side)
    }

    /// Makes an offer to one who plays (AMS): one stream, or several at once, each with the name of its track. Of several,
    /// those that may not be played are left out.
    ///
    /// # Errors
    /// [`Refused`]; of several streams, when none of them may be played.
    pub async fn offer(&self, requests: Vec<(Request, String)>) -> Result<Offering, Refused> {
        let client = requests.first().map(|(request, _)| request.peer.ip());
        let client = client.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        self.room(client)?;
        let watched = self.watch_all(requests, &[]).await?;
        let place = self.rtc.place(client)?;
        let local = self.local();
        let (tracks, numbers) = outgoing(&watched);
        let offered = sdp::offer_player(&local, &tracks, None);
        let (session, events) = self.rtc.open(Opening {
            place: Some(place),
            ice: local.ice.clone(),
            agreed: None,
            carries: Carries::Out(feeds(&watched)),
            opens: Some(label(&watched)),
        })?;
        Ok(Offering {
            sdp: offered.sdp.clone(),
            mids: offered.mids(),
            session,
            events,
            streams: streams(&watched),
            local,
            offered,
            numbers,
            watched,
            before: None,
        })
    }

    /// Gathers streams for another offer to the same viewer, which takes some seconds at most. `played` is what it
    /// [plays](Offering::played) now: those of them that stay go on without a break.
    ///
    /// # Errors
    /// [`Refused`], as [`offer`](Self::offer).
    pub async fn gather(
        &self,
        requests: Vec<(Request, String)>,
        played: Gathered,
    ) -> Result<Gathered, Refused> {
        Ok(Gathered(self.watch_all(requests, &played.0).await?))
    }

    fn open(
        &self,
        place: Place,
        answered: sdp::Answered,
        carries: Carries,
        streams: Vec<Arc<Stream>>,
        local: Local,
        side: Side,
    ) -> Result<Opened, Refused> {
        let sdp::Answered { sdp, agreed } = answered;
        let (session, events) = self.rtc.open(Opening {
            place: Some(place),
            ice: local.ice.clone(),
            agreed: Some(agreed.clone()),
            carries,
            opens: None,
        })?;
        let negotiation = Negotiation { rtc: self.rtc.clone(), local, agreed, side };
        Ok(Opened { sdp, session, events, streams, negotiation })
    }

    /// What we bring to a new session.
    fn local(&self) -> Local {
        let (udp, tcp) = self.rtc.candidates();
        Local {
            ice: self.rtc.credentials(),
            fingerprint: self.rtc.certificate().fingerprint(),
            udp,
            tcp,
            seed: rand::random(),
            version: 0,
            calls: false,
        }
    }

    /// Refuses before a stream is fetched for a session that would find no place now. The place itself is not held meanwhile:
    /// many who wait for the same stream are no crowd of clients that do not connect.
    fn room(&self, client: IpAddr) -> Result<(), TooMany> {
        self.rtc.place(client).map(drop)
    }

    async fn watch(&self, request: Request, name: String) -> Result<Watched, Refusal> {
        let key = request.key.clone();
        let play = self.egress.play(request).await?;
        let watched = Watched::new(play, name, &self.feeds).await;
        // It is listed as soon as its publisher is answered; there is something to offer only when media has come.
        if watched.is_empty() { Err(Refusal::NotLive(key)) } else { Ok(watched) }
    }

    /// Watches streams, those among `known` on as they are, in the order of the requests.
    async fn watch_all(
        &self,
        requests: Vec<(Request, String)>,
        known: &[Arc<Watched>],
    ) -> Result<Vec<Arc<Watched>>, Refusal> {
        if requests.len() > MOST_STREAMS {
            return Err(Refusal::Limit(format!("one session plays at most {MOST_STREAMS} streams")));
        }
        let several = requests.len() > 1;
        let all = requests.into_iter().map(|(request, name)| async move {
            let same =
                |w: &&Arc<Watched>| w.name == name && *w.stream.key() == request.key && !w.stream.is_ended();
            match known.iter().find(same) {
                Some(watched) => Ok(watched.clone()),
                None if several => {
                    let late = Refusal::NotLive(request.key.clone());
                    let watched = tokio::time::timeout(SLOWEST, self.watch(request, name)).await;
                    watched.unwrap_or(Err(late)).map(Arc::new)
                }
                None => self.watch(request, name).await.map(Arc::new),
            }
        });
        let mut watched = Vec::new();
        let mut refused = None;
        for one in join_all(all).await {
            match one {
                Ok(one) => watched.push(one),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        match refused {
            Some(refusal) if watched.is_empty() => Err(refusal),
            _ => Ok(watched),
        }
    }
}

/// The label of the data channel that we open: AMS names it after the stream.
fn label(watched: &[Arc<Watched>]) -> String {
    watched.first().map_or_else(String::new, |w| w.name.clone())
}
