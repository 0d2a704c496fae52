//! Serves streams of the hub to other nodes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use sluice_media::{Hub, Interest, Origin, Stream, StreamKey};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::MAX_HOPS;
use super::beside::{Messages, Needed};
use super::feed::{Feed, Progress};
use super::session::{RelayError, read_some};
use crate::member::NodeId;
use crate::port::{Accept, Incoming};
use crate::wire::{Accepted, Decoder, Encoder, EndReason, Message, OLDEST, Open, Refusal};

/// Bytes that the kernel holds unsent, at most: what waits there, live frames cannot overtake.
const UNSENT: u32 = 128 << 10;
/// Sound waits this long at most to go out together with a picture: a frame at 25 a second, as for RTMP's players.
const SOUND_WAITS: Duration = Duration::from_millis(40);
/// How often the way of the frames is looked at, and whether there was silence.
const TICK: Duration = Duration::from_millis(500);

/// What a node says of a stream that it hands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The epoch of what it has.
    pub epoch: u64,
    /// The nodes that the frames come through before they reach this one: the owner first; empty where this one is it.
    pub path: Vec<NodeId>,
    /// What packagers need to know, for the asker's node; at most 64 KiB.
    pub hls: Bytes,
}

/// Says what may be handed on.
pub trait Offer: Send + Sync {
    /// What there is to say of a stream; `None` when this node does not have it, or has lost its own source of it.
    fn describe(&self, key: &StreamKey) -> Option<Offered>;
}

/// How streams are served.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Connections at once; further askers are refused.
    pub connections: usize,
    /// The asker says what it wants within this.
    pub question: Duration,
    /// A write that makes no progress for this long ends the connection.
    pub write: Duration,
    /// Without anything to say for this long, a ping is sent.
    pub ping: Duration,
    /// An asker that falls behind by more goes on at the newest group.
    pub max_lag: Duration,
}

impl Default for Serve {
    fn default() -> Self {
        Serve {
            connections: 8192,
            question: Duration::from_secs(5),
            write: Duration::from_secs(5),
            ping: Duration::from_secs(1),
            max_lag: Duration::from_secs(8),
        }
    }
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServeCounts {
    /// Connections now.
    pub connections: u64,
    /// Connections that a stream was sent on.
    pub accepted: u64,
    /// Connections that were refused a stream.
    pub refused: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Groups that were left out because askers were too slow.
    pub groups_skipped: u64,
}

/// One connection that a stream is sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedView {
    /// The stream.
    pub key: StreamKey,
    /// Who asked for it.
    pub node: NodeId,
    /// Bytes sent.
    pub bytes: u64,
    /// Groups that were left out because it was too slow.
    pub groups_skipped: u64,
    /// Since when.
    pub since: SystemTime,
}

/// Takes the relay's connections of the cluster port.
pub struct RelayServer {
    hub: Arc<Hub>,
    me: NodeId,
    offer: Arc<dyn Offer>,
    settings: Serve,
    counters: Counters,
    served: Mutex<HashMap<u64, Arc<Served>>>,
    stopping: watch::Sender<bool>,
}

#[derive(Default)]
struct Counters {
    next: AtomicU64,
    open: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
    skipped: AtomicU64,
}

struct Served {
    key: StreamKey,
    node: NodeId,
    bytes: AtomicU64,
    skipped: AtomicU64,
    since: SystemTime,
}

impl RelayServer {
    /// Serves what is in `hub` and what `offer` has something to say of, as the node `me`.
    pub fn new(hub: Arc<Hub>, me: NodeId, offer: Arc<dyn Offer>, settings: Serve) -> Arc<Self> {
        Arc::new(RelayServer {
            hub,
            me,
            offer,
            settings,
            counters: Counters::default(),
            served: Mutex::default(),
            stopping: watch::Sender::new(false),
        })
    }

    /// Tells all askers to look elsewhere, and refuses new ones.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Totals.
    pub fn counts(&self) -> ServeCounts {
        let c = &self.counters;
        ServeCounts {
            connections: c.open.load(Relaxed),
            accepted: c.accepted.load(Relaxed),
            refused: c.refused.load(Relaxed),
            bytes: c.bytes.load(Relaxed),
            groups_skipped: c.skipped.load(Relaxed),
        }
    }

    /// The connections that streams are sent on, in no order.
    pub fn list(&self) -> Vec<ServedView> {
        let view = |s: &Arc<Served>| ServedView {
            key: s.key.clone(),
            node: s.node.clone(),
            bytes: s.bytes.load(Relaxed),
            groups_skipped: s.skipped.load(Relaxed),
            since: s.since,
        };
        self.served().values().map(view).collect()
    }

    fn served(&self) -> MutexGuard<'_, HashMap<u64, Arc<Served>>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one connection of the node `peer` to its end.
    ///
    /// # Errors
    /// When it broke, or the peer did not keep to the format.
    pub async fn serve<S: AsyncRead + AsyncWrite + Send>(
        &self,
        peer: NodeId,
        io: S,
    ) -> Result<(), RelayError> {
        let counted = Counted::new(&self.counters.open);
        let (mut read, write) = tokio::io::split(io);
        let mut out = Out { write, encoder: Encoder::new(), limit: self.settings.write };
        let mut decoder = Decoder::new();
        let question = timeout(self.settings.question, question(&mut read, &mut decoder)).await;
        let open = match question {
            Err(_) => return Err(RelayError::Silent { for_: self.settings.question }),
            Ok(Err(error)) => {
                self.refuse(&mut out, Refusal::Malformed, error.to_string()).await?;
                return Err(error);
            }
            Ok(Ok(open)) => open,
        };
        let (stream, offered) = match self.consider(&open, &peer, counted.others) {
            Ok(found) => found,
            Err(refusal) => {
                debug!(stream = %open.key, %peer, %refusal, "a relay is refused");
                return self.refuse(&mut out, refusal, refusal.to_string()).await;
            }
        };
        let served = Arc::new(Served {
            key: open.key.clone(),
            node: peer,
            bytes: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            since: SystemTime::now(),
        });
        self.counters.accepted.fetch_add(1, Relaxed);
        let id = self.counters.next.fetch_add(1, Relaxed);
        self.served().insert(id, served.clone());
        let _listed = Listed { server: self, id };
        // Whoever fetches the stream for this node sees that it is wanted.
        let interest = Interest::new(stream);
        let mut asker = Asker {
            beside: (open.version > OLDEST).then(|| Messages::new(interest.stream().clone())),
            needed: Needed::default(),
            stream: interest.stream(),
        };
        asker.listen(&mut decoder)?;
        self.feed(&open, offered, asker, &served, &mut read, &mut decoder, &mut out).await
    }

    fn consider(&self, open: &Open, peer: &NodeId, others: u64) -> Result<(Arc<Stream>, Offered), Refusal> {
        if open.node != *peer {
            return Err(Refusal::Malformed);
        }
        if *self.stopping.borrow() {
            return Err(Refusal::Stopping);
        }
        if others >= self.settings.connections as u64 {
            return Err(Refusal::Busy);
        }
        let stream = self.hub.get(&open.key).ok_or(Refusal::NotFound)?;
        let offered = self.offer.describe(&open.key).ok_or(Refusal::NotFound)?;
        self.check_path(&offered.path, peer)?;
        Ok((stream, offered))
    }

    fn check_path(&self, path: &[NodeId], asker: &NodeId) -> Result<(), Refusal> {
        if path.contains(asker) || *asker == self.me {
            return Err(Refusal::Loop);
        }
        if path.len() + 1 > MAX_HOPS {
            return Err(Refusal::TooFar);
        }
        Ok(())
    }

    /// The way of the frames up to and with this node.
    fn path(&self, offered: &Offered) -> Vec<NodeId> {
        offered.path.iter().cloned().chain([self.me.clone()]).collect()
    }

    async fn refuse<W: AsyncWrite + Unpin>(
        &self,
        out: &mut Out<W>,
        refusal: Refusal,
        text: String,
    ) -> Result<(), RelayError> {
        self.counters.refused.fetch_add(1, Relaxed);
        out.encoder.encode(Message::Refused { refusal, text })?;
        out.send().await?;
        out.close().await;
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one connection")]
    async fn feed<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &self,
        open: &Open,
        mut offered: Offered,
        mut asker: Asker<'_>,
        served: &Served,
        read: &mut R,
        decoder: &mut Decoder,
        out: &mut Out<W>,
    ) -> Result<(), RelayError> {
        let (key, stream) = (&open.key, asker.stream);
        let mut feed = Feed::new(stream.clone(), open, self.settings.max_lag);
        out.encoder.encode(Message::Accepted(self.accepted(stream, &offered, &mut feed)))?;
        let relayed = stream.is_relayed();
        let (mut changes, mut stopping) = (self.hub.watch(), self.stopping.subscribe());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut spoke = Instant::now();
        // Until when what was written may wait for a picture.
        let mut held: Option<Instant> = None;
        let mut urgent = true;
        loop {
            // Taken before looking, so that nothing is missed in between.
            let changed = stream.changed().notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let progress = feed.fill(&mut out.encoder)?;
            if progress == Progress::Ended {
                let reason = if stream.is_relayed() { EndReason::Gone } else { EndReason::Ended };
                return self.end(out, served, &feed, reason).await;
            }
            // Behind the frames that are there, and before those that are only older.
            if let Some(beside) = &mut asker.beside {
                urgent |= beside.fill(Instant::now(), &mut out.encoder)?;
            }
            let can_wait = feed.can_wait() && progress == Progress::Done && !urgent;
            urgent = false;
            if !out.encoder.batch().is_empty() {
                let now = Instant::now();
                if can_wait && held.is_none_or(|until| now < until) {
                    held = held.or(Some(now + SOUND_WAITS));
                } else {
                    self.send(out, served, &feed).await?;
                    (spoke, held) = (now, None);
                }
            }
            if progress == Progress::More {
                continue;
            }
            tokio::select! {
                () = &mut changed => continue,
                () = until(held), if held.is_some() => continue,
                () = something(asker.beside.as_mut()) => continue,
                said = read_some(read, decoder) => {
                    if said.map_err(RelayError::Io)? == 0 {
                        return Ok(());
                    }
                    asker.listen(decoder)?;
                    continue;
                }
                _ = changes.changed() => {}
                _ = stopping.changed() => {}
                _ = tick.tick() => {}
            }
            if *stopping.borrow() {
                return self.end(out, served, &feed, EndReason::Stopping).await;
            }
            // Its own publisher has left it to another node: better fetched from there.
            if !relayed && stream.is_relayed() {
                return self.end(out, served, &feed, EndReason::Moved).await;
            }
            if let Some(now) = self.offer.describe(key).filter(|now| now.path != offered.path) {
                if self.check_path(&now.path, &served.node).is_err() {
                    return self.end(out, served, &feed, EndReason::Moved).await;
                }
                offered = now;
                out.encoder.encode(Message::Path(self.path(&offered)))?;
                urgent = true;
            } else if spoke.elapsed() + TICK / 2 >= self.settings.ping {
                out.encoder.encode(Message::Ping)?;
                urgent = true;
            }
        }
    }

    fn accepted(&self, stream: &Stream, offered: &Offered, feed: &mut Feed) -> Accepted {
        let newest = stream.newest_stamp().map_or(0, |s| s.epoch);
        let segmentation = stream.segmentation();
        if segmentation.is_some() {
            feed.knows_segmentation();
        }
        let epoch = stream.origin().epoch.max(newest).max(offered.epoch);
        Accepted {
            origin: Origin { epoch, segmentation, ..stream.origin() },
            settings: *stream.settings(),
            started: stream.started(),
            hls: offered.hls.clone(),
            path: self.path(offered),
        }
    }

    async fn send<W: AsyncWrite + Unpin>(
        &self,
        out: &mut Out<W>,
        served: &Served,
        feed: &Feed,
    ) -> Result<(), RelayError> {
        let sent = out.send().await?;
        self.counters.bytes.fetch_add(sent, Relaxed);
        served.bytes.fetch_add(sent, Relaxed);
        let before = served.skipped.swap(feed.skipped(), Relaxed);
        self.counters.skipped.fetch_add(feed.skipped() - before, Relaxed);
        Ok(())
    }

    async fn end<W: AsyncWrite + Unpin>(
        &self,
        out: &mut Out<W>,
        served: &Served,
        feed: &Feed,
        reason: EndReason,
    ) -> Result<(), RelayError> {
        out.encoder.encode(Message::End(reason))?;
        self.send(out, served, feed).await?;
        out.close().await;
        Ok(())
    }
}

#[async_trait]
impl Accept for RelayServer {
    async fn accept(&self, peer: NodeId, addr: SocketAddr, stream: Incoming) {
        let socket = socket2::SockRef::from(stream.get_ref().0);
        if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT) {
            debug!(%error, "a relay's socket keeps its own limit for unsent bytes");
        }
        if let Err(error) = self.serve(peer.clone(), stream).await {
            debug!(%peer, %addr, %error, "a relay to another node broke");
        }
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

/// Waits for the asker's first message.
async fn question<R: AsyncRead + Unpin>(read: &mut R, decoder: &mut Decoder) -> Result<Open, RelayError> {
    loop {
        match decoder.message()? {
            Some(Message::Open(open)) => return Ok(open),
            Some(_) => return Err(RelayError::OutOfTurn),
            None => {}
        }
        if read_some(read, decoder).await.map_err(RelayError::Io)? == 0 {
            return Err(RelayError::Closed);
        }
    }
}

/// Waits for a message that goes to the asker.
async fn something(beside: Option<&mut Messages>) {
    match beside {
        Some(messages) => messages.ready().await,
        None => std::future::pending().await,
    }
}

/// What an asker says after it was answered.
struct Asker<'a> {
    stream: &'a Arc<Stream>,
    /// Not for one that knows of frames only.
    beside: Option<Messages>,
    needed: Needed,
}

impl Asker<'_> {
    /// Takes all that is there.
    fn listen(&mut self, decoder: &mut Decoder) -> Result<(), RelayError> {
        while let Some(message) = decoder.message()? {
            match (message, &self.beside) {
                (Message::Ping, _) => {}
                (Message::Needs { aac, opus }, Some(_)) => self.needed.set(self.stream, aac, opus),
                (Message::WantKeyframe, Some(_)) => self.stream.aside().want_keyframe(),
                (Message::Said { from, text, payload }, Some(beside)) => beside.take(from, text, payload),
                _ => return Err(RelayError::OutOfTurn),
            }
        }
        Ok(())
    }
}

/// The sending half of a connection.
struct Out<W> {
    write: W,
    encoder: Encoder,
    limit: Duration,
}

impl<W: AsyncWrite + Unpin> Out<W> {
    /// Sends everything that was encoded; gives how many bytes that were.
    async fn send(&mut self) -> Result<u64, RelayError> {
        let batch = self.encoder.batch();
        let bytes = batch.len() as u64;
        let stuck = |_| RelayError::Stuck { for_: self.limit };
        while batch.has_remaining() {
            let n = timeout(self.limit, self.write.write_buf(batch)).await.map_err(stuck)?;
            if n.map_err(RelayError::Io)? == 0 {
                return Err(RelayError::Closed);
            }
        }
        timeout(self.limit, self.write.flush()).await.map_err(stuck)?.map_err(RelayError::Io)?;
        Ok(bytes)
    }

    /// Says goodbye; who does not listen to that is left.
    async fn close(&mut self) {
        let _ = timeout(self.limit, self.write.shutdown()).await;
    }
}

/// Counts a connection for as long as it lives.
struct Counted<'a> {
    open: &'a AtomicU64,
    others: u64,
}

impl<'a> Counted<'a> {
    fn new(open: &'a AtomicU64) -> Self {
        Counted { open, others: open.fetch_add(1, Relaxed) }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Relaxed);
    }
}

/// Takes a connection off the list when it is over.
struct Listed<'a> {
    server: &'a RelayServer,
    id: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.server.served().remove(&self.id);
    }
}
