//! The life of one connection: handshake, commands, then publishing or playing, within time and space limits.

use std::mem;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BytesMut;
use sluice_media::session::{Play, Protocol, Refusal, Request};
use sluice_media::{StopReason, StreamKey};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use crate::chunk::Limits;
use crate::egress::player::{Player, Wake};
use crate::ingest::Ingest;
use crate::path::Target;
use crate::server::{Ending, Shared};
use crate::session::{self, Event};
use crate::{Error, flv, limits};

/// One client.
pub(crate) struct Connection<S> {
    stream: S,
    peer: SocketAddr,
    shared: Arc<Shared>,
    session: session::Server,
    input: BytesMut,
    /// The size of the next read buffer: grows with what the client sends at a time.
    block: usize,
    ending: watch::Receiver<Option<Ending>>,
}

/// How a publish or play went, when nothing broke.
#[derive(PartialEq, Eq)]
enum Outcome {
    /// The client may go on with something else.
    Next,
    /// We have said our last words.
    Close,
    /// A publisher that was asked to reconnect has left: its stream waits for it.
    Moving,
}

/// How a publisher is let go when the server ends.
#[derive(Clone, Copy)]
struct Leave {
    /// At this time at the latest.
    by: Instant,
    /// With the next keyframe.
    at_keyframe: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S, peer: SocketAddr, shared: Arc<Shared>) -> Self {
        let session = session::Server::new(rand::random(), Limits::default());
        let ending = shared.ending.subscribe();
        let (input, block) = (BytesMut::new(), limits::FIRST_READ_BLOCK);
        Connection { stream, peer, shared, session, input, block, ending }
    }

    /// Serves the client until it leaves, breaks the rules or has to go.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        timeout(self.shared.settings.handshake_timeout, self.handshake())
            .await
            .map_err(|_| Error::Timeout("the handshake"))??;
        while self.serve().await? == Outcome::Next {}
        self.part().await;
        Ok(())
    }

    async fn handshake(&mut self) -> Result<(), Error> {
        while !self.session.is_open() {
            self.receive().await?;
            // Commands may come along with the end of the handshake, but none is answered before it.
            if !self.session.is_open() {
                self.session.advance_handshake(&mut self.input)?;
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Waits for the client to say what it wants, and does it.
    async fn serve(&mut self) -> Result<Outcome, Error> {
        let deadline = Instant::now() + limits::DECIDE_TIME;
        loop {
            let event = match self.session.input(&mut self.input) {
                Ok(event) => event,
                Err(error) => {
                    // What was answered so far may tell the client why.
                    let _ = self.flush().await;
                    return Err(error);
                }
            };
            match event {
                Some(Event::Connect { app }) => {
                    if !self.connect(&app).await? {
                        return Ok(Outcome::Close);
                    }
                }
                Some(Event::Publish(target)) => return Box::pin(self.publish(target)).await,
                Some(Event::Play(target)) => return Box::pin(self.play(target)).await,
                Some(_) => {}
                None => {
                    self.flush().await?;
                    let idle = self.shared.settings.idle_timeout;
                    let by = deadline.min(Instant::now() + idle);
                    let ending = self.ending.clone();
                    tokio::select! {
                        biased;
                        received = self.receive() => received?,
                        () = sleep_until(by) => return Err(Error::Timeout("a publish or play command")),
                        _ = begin(ending) => return Ok(Outcome::Close),
                    }
                }
            }
        }
    }

    async fn connect(&mut self, app: &str) -> Result<bool, Error> {
        let known = self.shared.settings.knows_app.as_ref().is_none_or(|knows| knows(app));
        if known {
            self.session.accept_connect();
        } else {
            let reason = Refusal::UnknownApp(app.to_owned());
            info!(peer = %self.peer, %app, "RTMP connect refused: {reason}");
            self.session.reject_connect(&reason.to_string());
        }
        self.flush().await?;
        Ok(known)
    }

    fn request(&self, target: Target) -> Request {
        Request {
            key: StreamKey::new(target.app, target.stream),
            query: target.query,
            peer: self.peer,
            user_agent: self.session.user_agent().to_owned(),
            protocol: Protocol::Rtmp,
        }
    }

    async fn publish(&mut self, target: Target) -> Result<Outcome, Error> {
        let request = self.request(target);
        let key = request.key.clone();
        let publisher = match admit(self.shared.ingress.publish(request)).await {
            Ok(publisher) => publisher,
            Err(reason) => {
                debug!(stream = %key, peer = %self.peer, "RTMP publish refused: {reason}");
                self.session.reject_publish("NetStream.Publish.BadName", &reason.to_string());
                return Ok(Outcome::Close);
            }
        };
        debug!(stream = %key, peer = %self.peer, client = self.session.user_agent(), "RTMP publish started");
        let mut ingest = Ingest::new(publisher);
        self.session.accept_publish();
        self.flush().await?;
        let result = self.take_in(&mut ingest).await;
        match result {
            // Dropping the ingest leaves the stream waiting for its publisher.
            Ok(Outcome::Moving) => {
                info!(stream = %key, peer = %self.peer, "RTMP publisher left, as it was asked to");
                Ok(Outcome::Close)
            }
            Ok(outcome) => {
                ingest.finish();
                info!(stream = %key, peer = %self.peer, "RTMP publish ended");
                Ok(outcome)
            }
            Err(error @ (Error::Codec(_) | Error::Config(_) | Error::Multitrack)) => {
                info!(stream = %key, peer = %self.peer, "RTMP publish refused: {error}");
                self.session.reject_publish("NetStream.Publish.Failed", &error.to_string());
                ingest.finish();
                Ok(Outcome::Close)
            }
            Err(error) => {
                info!(stream = %key, peer = %self.peer, "RTMP publisher lost: {error}");
                Err(error)
            }
        }
    }

    /// Moves what the publisher sends into its stream.
    async fn take_in(&mut self, ingest: &mut Ingest) -> Result<Outcome, Error> {
        let mut stop = pin!(ingest.publisher().stop_requested());
        let mut leave: Option<Leave> = None;
        let idle = self.shared.settings.idle_timeout;
        let mut heard = Instant::now();
        let mut look = heard + limits::TICK;
        let mut outcome = None;
        loop {
            let at_keyframe = leave.is_some_and(|leave| leave.at_keyframe);
            let mut complete = false;
            while let Some(event) = self.session.input(&mut self.input)? {
                match event {
                    Event::Video { payload, .. } if at_keyframe && flv::begins_anew(&payload) => {
                        complete = true;
                        break;
                    }
                    Event::Video { timestamp, payload } => ingest.video(timestamp, payload)?,
                    Event::Audio { timestamp, payload } => ingest.audio(timestamp, payload)?,
                    Event::Metadata(properties) => ingest.metadata(properties),
                    Event::Unpublish => {
                        let moving = ingest.publisher().stream().is_moving();
                        outcome = Some(if moving { Outcome::Moving } else { Outcome::Next });
                        break;
                    }
                    _ => {}
                }
            }
            ingest.flush();
            self.flush().await?;
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            if complete {
                self.session.end(&StopReason::Stopping.to_string());
                return Ok(Outcome::Close);
            }
            let ending = self.ending.clone();
            let over = leave.map_or(look, |leave| leave.by);
            let reason = tokio::select! {
                biased;
                reason = &mut stop => reason,
                ending = begin(ending), if leave.is_none() => {
                    leave = Some(self.let_leave(ingest, ending));
                    continue;
                }
                () = sleep_until(over), if leave.is_some() => StopReason::Stopping,
                received = self.receive() => {
                    received?;
                    heard = Instant::now();
                    continue;
                }
                () = sleep_until(look) => {
                    let now = Instant::now();
                    look = now + limits::TICK;
                    if now - heard >= idle {
                        return Err(Error::Timeout("the publisher's next byte"));
                    }
                    // A client that has nothing to send is asked for a sign of life.
                    if now - heard >= idle / 2 {
                        self.session.ping(self.shared.millis());
                    }
                    continue;
                }
            };
            self.session.end(&reason.to_string());
            return Ok(Outcome::Close);
        }
    }

    /// Says to a publisher that the server ends, if it can be said, and how long it may stay.
    fn let_leave(&mut self, ingest: &Ingest, ending: Ending) -> Leave {
        let asked = self.session.ask_to_reconnect(&StopReason::Stopping.to_string());
        if let (true, Some(by)) = (asked, ending.moved) {
            ingest.publisher().stream().set_moving();
            return Leave { by, at_keyframe: false };
        }
        // Sound can end anywhere.
        let by = if ingest.has_video() { ending.keyframe } else { Instant::now() };
        Leave { by, at_keyframe: true }
    }

    async fn play(&mut self, target: Target) -> Result<Outcome, Error> {
        let request = self.request(target);
        let key = request.key.clone();
        let play = match admit(self.shared.egress.play(request)).await {
            Ok(play) => play,
            Err(reason) => {
                let code = match reason {
                    Refusal::NotLive(_) | Refusal::InvalidId(_) | Refusal::UnknownApp(_) => {
                        "NetStream.Play.StreamNotFound"
                    }
                    _ => "NetStream.Play.Failed",
                };
                debug!(stream = %key, peer = %self.peer, "RTMP play refused: {reason}");
                self.session.reject_play(code, &reason.to_string());
                return Ok(Outcome::Close);
            }
        };
        debug!(stream = %key, peer = %self.peer, "RTMP play started");
        self.session.accept_play();
        if self.input.is_empty() {
            // A player has hardly anything more to say.
            self.input = BytesMut::new();
        }
        let Play { stream, viewer } = play;
        let mut player = Player::new(self.shared.feeds.join(&stream));
        let result = self.give_out(&mut player).await;
        self.shared.stats.bytes_out.fetch_add(player.sent, Relaxed);
        drop(viewer);
        debug!(stream = %key, peer = %self.peer, bytes = player.sent, "RTMP play ended");
        result
    }

    /// Moves the stream to the player.
    async fn give_out(&mut self, player: &mut Player) -> Result<Outcome, Error> {
        let mut silent = Duration::ZERO;
        let mut counted = 0;
        let mut leave_by: Option<Instant> = None;
        loop {
            if leave_by.is_none()
                && let Some(ending) = *self.ending.borrow()
            {
                self.session.ask_to_reconnect(&StopReason::Stopping.to_string());
                player.end_with_group();
                leave_by = Some(ending.keyframe);
            }
            if !self.session.output().is_empty() {
                player.answer(mem::take(self.session.output()).freeze());
            }
            let late = async {
                match leave_by {
                    Some(by) => sleep_until(by).await,
                    None => std::future::pending().await,
                }
            };
            let wake = tokio::select! {
                biased;
                wake = player.pump(&mut self.stream, &mut self.input) => wake?,
                () = late => {
                    timeout(limits::WRITE_TIME, player.drain(&mut self.stream))
                        .await
                        .map_err(|_| Error::Timeout("the player's last bytes"))??;
                    self.session.end(&StopReason::Stopping.to_string());
                    return Ok(Outcome::Close);
                }
            };
            match wake {
                Wake::Received => {
                    while let Some(event) = self.session.input(&mut self.input)? {
                        match event {
                            Event::Pause(paused) => player.pause(paused),
                            Event::ReceiveAudio(wanted) => player.receive_audio(wanted),
                            Event::ReceiveVideo(wanted) => player.receive_video(wanted),
                            Event::Stop => {
                                // The rest of what is queued must go out before other messages.
                                timeout(limits::WRITE_TIME, player.drain(&mut self.stream))
                                    .await
                                    .map_err(|_| Error::Timeout("the player's last bytes"))??;
                                return Ok(Outcome::Next);
                            }
                            _ => {}
                        }
                    }
                    if player.queued() > 0 && self.session.output().len() > limits::UNREAD_ANSWERS {
                        return Err(Error::Deaf);
                    }
                }
                Wake::Closed => return Err(closed()),
                Wake::Tick { alive } => {
                    self.shared.stats.bytes_out.fetch_add(player.sent - counted, Relaxed);
                    counted = player.sent;
                    silent = if alive { Duration::ZERO } else { silent + limits::TICK };
                    if silent >= self.shared.settings.idle_timeout {
                        return Err(Error::Timeout("the player's next read"));
                    }
                }
                Wake::End if leave_by.is_some() => {
                    self.session.end(&StopReason::Stopping.to_string());
                    return Ok(Outcome::Close);
                }
                Wake::End => {
                    self.session.end("the stream is over");
                    return Ok(Outcome::Next);
                }
                Wake::News => {}
            }
        }
    }

    /// Reads once; the end of the connection is an error.
    async fn receive(&mut self) -> Result<(), Error> {
        // Payloads share their block, so a block is used until little is left of it.
        if self.input.capacity() - self.input.len() < self.block / 4 {
            self.input.reserve(self.block);
        }
        let room = self.input.capacity() - self.input.len();
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(closed()),
            n => {
                if n == room {
                    self.block = (2 * self.block).min(limits::LARGEST_READ_BLOCK);
                }
                self.shared.stats.bytes_in.fetch_add(n as u64, Relaxed);
                Ok(())
            }
        }
    }

    /// Sends the answers that are owed.
    async fn flush(&mut self) -> Result<(), Error> {
        let output = self.session.output();
        if output.is_empty() {
            return Ok(());
        }
        // Taken as a whole: what is sent seldom keeps no memory.
        let mut output = mem::take(output);
        let write = async {
            self.stream.write_all_buf(&mut output).await?;
            self.stream.flush().await
        };
        timeout(limits::WRITE_TIME, write).await.map_err(|_| Error::Timeout("reading our answer"))??;
        Ok(())
    }

    /// Says the last words and lets the client hear them: closing with unread bytes would reset the
    /// connection, and the client would lose the reason.
    async fn part(&mut self) {
        if self.flush().await.is_err() || self.stream.shutdown().await.is_err() {
            return;
        }
        let drain = async {
            loop {
                self.input.clear();
                if self.receive().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(limits::LINGER_TIME, drain).await;
    }
}

/// Waits until the server ends.
async fn begin(mut ending: watch::Receiver<Option<Ending>>) -> Ending {
    loop {
        if let Some(ending) = *ending.borrow_and_update() {
            return ending;
        }
        if ending.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn closed() -> Error {
    Error::Io(std::io::ErrorKind::UnexpectedEof.into())
}

/// Waits for a decision, but not forever.
async fn admit<T>(decision: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    timeout(limits::ADMISSION_TIME, decision)
        .await
        .unwrap_or_else(|_| Err(Refusal::Unavailable("the decision took too long: try again".to_owned())))
}
