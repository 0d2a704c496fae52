//! Calls: where this node is the client, of a WHEP server that it pulls a stream from, or of a WHIP server that it pushes one to.
//! What comes of them is as any other publisher or viewer.

use std::net::SocketAddr;
use std::sync::Arc;

use sluice_media::session::{Ingress, Protocol, Request};
use sluice_media::{AudioCodec, Stream, StreamKey};
use tokio::sync::mpsc;

use super::watched::{Watched, numbered, outgoing};
use super::{Refused, Service, VIDEO, feeds};
use crate::agreed::Agreed;
use crate::client::{Answer, CallError, Endpoint, Http, Resource};
use crate::sdp::{self, Local, SdpError, Takes};
use crate::transport::{CallSocket, Carries, Opening};
use crate::{Session, SessionEvent};

/// A call that was answered.
pub struct Call {
    session: Session,
    events: mpsc::Receiver<SessionEvent>,
    stream: Arc<Stream>,
    there: There,
    _watched: Option<Arc<Watched>>,
}

/// The session at the server.
struct There {
    http: Arc<Http>,
    resource: Option<Resource>,
    host: String,
}

impl There {
    /// Ends it there. The other side would notice without; so that it cannot be reached is no matter.
    async fn end(self) {
        let Some(resource) = self.resource else { return };
        if let Err(error) = self.http.end(resource).await {
            tracing::debug!(host = self.host, %error, "a session could not be ended at its server");
        }
    }
}

impl Call {
    /// The stream that it brings, or sends.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// What happens next; `None` when nothing more will, which [`SessionEvent::Closed`] says before.
    pub async fn event(&mut self) -> Option<SessionEvent> {
        self.events.recv().await
    }

    /// Ends it with a goodbye, here and there. A stream that it brings ends when it is to `finish`; else it waits for somebody who
    /// goes on with it.
    pub async fn end(self, finish: bool) {
        if finish {
            self.session.close();
        } else {
            drop(self.session);
        }
        self.there.end().await;
    }
}

impl Service {
    /// Pulls a stream from a WHEP server: it is published here under `key`, if `ingress` lets it, which is asked once the server has
    /// answered.
    ///
    /// # Errors
    /// [`CallError`]; nothing is left behind.
    pub async fn pull(
        &self,
        from: &Endpoint,
        key: StreamKey,
        ingress: &dyn Ingress,
    ) -> Result<Call, CallError> {
        self.rtc.room().map_err(Refused::from)?;
        let (socket, local) = self.caller()?;
        let takes = Takes { video: VIDEO.to_vec(), audio: vec![AudioCodec::Opus], layers: 0 };
        let asked = sdp::offer_source(&local, &takes);
        let (answer, there) = self.ask(from, &asked.sdp).await?;
        let opened = async {
            let agreed = asked.accept(&answer.sdp);
            let (agreed, candidates) = reached(agreed, &answer, &socket)?;
            let request = Request {
                key,
                query: Vec::new(),
                peer: answer.peer,
                user_agent: String::new(),
                protocol: Protocol::WebRtc,
            };
            let mut publisher = ingress.publish(request).await.map_err(Refused::from)?;
            publisher.expect_video(agreed.receiving.iter().any(|section| section.video));
            let stream = publisher.stream().clone();
            let opening = opening(&local, agreed, Carries::In(Box::new(publisher)));
            let (session, events) = self.rtc.call(opening, socket, candidates).map_err(Refused::from)?;
            Ok((session, events, stream))
        };
        match opened.await {
            Ok((session, events, stream)) => Ok(Call { session, events, stream, there, _watched: None }),
            Err(error) => {
                there.end().await;
                Err(error)
            }
        }
    }

    /// Pushes a stream to a WHIP server. Nobody is counted as its viewer.
    ///
    /// # Errors
    /// [`CallError`]; nothing is left behind.
    pub async fn push(&self, stream: &Arc<Stream>, to: &Endpoint) -> Result<Call, CallError> {
        self.rtc.room().map_err(Refused::from)?;
        let (socket, local) = self.caller()?;
        let name = stream.key().id.to_string();
        let watched = Arc::new(Watched::uncounted(stream.clone(), name, &self.feeds).await);
        if watched.is_empty() {
            return Err(CallError::NothingToSend);
        }
        let all = [watched.clone()];
        let (tracks, numbers) = outgoing(&all);
        let offered = sdp::offer_target(&local, &tracks);
        let (answer, there) = self.ask(to, &offered.sdp).await?;
        let opened = async {
            let agreed = offered.accept(&answer.sdp).and_then(|agreed| match agreed.sending.is_empty() {
                true => Err(SdpError::NoCodec("the server takes none of the stream's tracks".into())),
                false => Ok(numbered(agreed, &numbers)),
            });
            let (agreed, candidates) = reached(agreed, &answer, &socket)?;
            let opening = opening(&local, agreed, Carries::Out(feeds(&all)));
            Ok(self.rtc.call(opening, socket, candidates).map_err(Refused::from)?)
        };
        match opened.await {
            Ok((session, events)) => {
                Ok(Call { session, events, stream: stream.clone(), there, _watched: Some(watched) })
            }
            Err(error) => {
                there.end().await;
                Err(error)
            }
        }
    }

    /// What we bring to a call.
    fn caller(&self) -> Result<(CallSocket, Local), CallError> {
        let socket = self.rtc.call_socket().map_err(CallError::Socket)?;
        let udp = socket.candidates().to_vec();
        let local = Local { udp, tcp: Vec::new(), calls: true, ..self.local() };
        Ok((socket, local))
    }

    async fn ask(&self, endpoint: &Endpoint, offer: &str) -> Result<(Answer, There), CallError> {
        let mut answer = self.http.offer(endpoint, offer).await?;
        let there =
            There { http: self.http.clone(), resource: answer.resource.take(), host: answer.host.clone() };
        Ok((answer, there))
    }
}

/// What was agreed on, and where the other side is.
fn reached(
    agreed: Result<Agreed, SdpError>,
    answer: &Answer,
    socket: &CallSocket,
) -> Result<(Agreed, Vec<SocketAddr>), CallError> {
    let both = agreed.and_then(|agreed| Ok((agreed, sdp::candidates(&answer.sdp)?)));
    let (agreed, mut candidates) =
        both.map_err(|source| CallError::Sdp { host: answer.host.clone(), source })?;
    candidates.retain(|candidate| socket.reaches(candidate));
    if candidates.is_empty() {
        let why = "it names no address over UDP that this node can send to (a=candidate)";
        return Err(CallError::Answer { host: answer.host.clone(), why: why.into() });
    }
    Ok((agreed, candidates))
}

fn opening(local: &Local, agreed: Agreed, carries: Carries) -> Opening {
    // Who is called takes no client's place.
    Opening { place: None, ice: local.ice.clone(), agreed: Some(agreed), carries, opens: None }
}
