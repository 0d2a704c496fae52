//! The way in: opens the sockets, starts the loops, opens sessions.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::Rng;
use sluice_media::Publisher;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::counters::{Counters, Tally, count};
use super::events::Events;
use super::mailbox::{Command, Ending, Mailbox};
use super::media::Media;
use super::registry::Found;
use super::registry::Registry;
use super::session::{Context, Waiting};
use super::shard::{Call, Door, INBOX, Inbound, Shard};
use super::sockets::Sockets;
use super::{CallSocket, Carries, Opening, Place, SessionEvent, SessionId, TooMany, candidates, socket, tcp};
use crate::Settings;
use crate::agreed::{Agreed, IceCredentials};
use crate::crowd::Crowd;
use crate::egress::{Feed, Quality};
use crate::peer::{Certificate, Message};

/// Sessions that got no binding request are looked for that often.
const SWEEP: Duration = Duration::from_secs(1);
/// Characters of a user fragment: 8 of 62 are 47 bits (RFC 8445, 5.3 wants 24 at least).
const UFRAG: usize = 8;
/// Characters of a password: 24 of 62 are 142 bits (RFC 8445, 5.3 wants 128 at least).
const PWD: usize = 24;

/// WebRTC of this node. Cloning is cheap; when the last clone is gone, all sessions end.
#[derive(Clone)]
pub struct Rtc {
    owner: Arc<Owner>,
}

/// What [`Rtc`] and its sessions share.
struct Shared {
    settings: Settings,
    certificate: Arc<Certificate>,
    /// Those that are told, if they do not follow from what is listened on: UDP, TCP.
    candidates: RwLock<(Vec<SocketAddr>, Vec<SocketAddr>)>,
    /// What is listened on, with the real port.
    listen: Vec<SocketAddr>,
    registry: Arc<Registry>,
    doors: Arc<[Door]>,
    connecting: Arc<Crowd>,
    /// What is counted outside the loops.
    tally: Tally,
    ids: AtomicU64,
    handle: Handle,
}

struct Owner {
    shared: Arc<Shared>,
    /// Of the loops.
    runtimes: Vec<Handle>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    tasks: Vec<AbortHandle>,
}

impl Owner {
    fn end(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        for waiting in self.shared.registry.close() {
            waiting.end(Ending::Abandon, &self.shared.handle);
        }
        self.shared.doors.iter().for_each(|door| door.bell.end());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.end();
    }
}

impl Rtc {
    /// Opens the sockets and starts the loops. Must be called inside the node's runtime: what sessions leave behind, such as
    /// a stream that waits for its publisher, lives there.
    ///
    /// # Errors
    /// An address cannot be opened, a thread not started, or the certificate not made.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let shards = match settings.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let certificate = Arc::new(Certificate::generate().map_err(io::Error::other)?);
        let sockets = Sockets::open(&settings, shards)?;
        let handle = Handle::current();
        let registry = Arc::new(Registry::default());
        let (doors, inboxes): (Vec<Door>, Vec<_>) = (0..shards)
            .map(|_| {
                let (inbox, taking) = mpsc::channel(INBOX);
                (Door { inbox, bell: Arc::default(), tally: Arc::default() }, taking)
            })
            .unzip();
        let doors: Arc<[Door]> = doors.into();
        let shared = Arc::new(Shared {
            candidates: RwLock::new((settings.candidates.clone(), settings.tcp_candidates.clone())),
            listen: sockets.listen,
            certificate,
            registry,
            doors,
            connecting: Crowd::new(usize::MAX, settings.max_connecting, settings.exempt.clone()),
            tally: Tally::default(),
            ids: AtomicU64::new(1),
            handle,
            settings,
        });
        let mut owner = Owner {
            shared: shared.clone(),
            runtimes: Vec::new(),
            threads: Mutex::default(),
            tasks: Vec::new(),
        };
        for (index, (inbox, udp)) in inboxes.into_iter().zip(sockets.udp).enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            owner.runtimes.push(runtime.handle().clone());
            let thread = shared.clone().start_shard(index, runtime, inbox, udp)?;
            owner.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        let strangers = tcp::strangers();
        for listener in sockets.tcp {
            let (taking, refusing) = (shared.clone(), shared.clone());
            let next = Arc::new(AtomicUsize::new(0));
            let take = move |ufrag: &str, accepted| taking.take_connection(ufrag, accepted, &next);
            let refused = move || count(&refusing.tally.tcp_refused, 1);
            owner
                .tasks
                .push(tokio::spawn(tcp::serve(listener, strangers.clone(), take, refused)).abort_handle());
        }
        owner.tasks.push(tokio::spawn(sweep(shared.clone())).abort_handle());
        tracing::info!(listen = ?shared.listen, shards, tcp = shared.settings.tcp, "WebRTC is served");
        Ok(Rtc { owner: Arc::new(owner) })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// The settings it runs with.
    pub fn settings(&self) -> &Settings {
        &self.shared().settings
    }

    /// What is listened on, with the real port.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.shared().listen
    }

    /// The runtimes of the loops, for tasks that work for their sessions and never take long.
    pub(crate) fn runtimes(&self) -> Vec<Handle> {
        self.owner.runtimes.clone()
    }

    /// Our certificate: made at the start, and the same for all sessions.
    pub fn certificate(&self) -> Arc<Certificate> {
        self.shared().certificate.clone()
    }

    /// Fresh credentials; the user fragment is unused so far.
    pub fn credentials(&self) -> IceCredentials {
        loop {
            let ufrag = letters(UFRAG);
            if !self.shared().registry.knows(&ufrag) {
                return IceCredentials { ufrag, pwd: letters(PWD) };
            }
        }
    }

    /// Host candidates: UDP, TCP.
    pub fn candidates(&self) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let shared = self.shared();
        let (udp, tcp) = shared.candidates.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (udp, tcp) = match udp.is_empty() && tcp.is_empty() {
            true => {
                let own = candidates::host(&shared.listen, &candidates::machine());
                (own.clone(), own)
            }
            false => (udp, tcp),
        };
        (udp, if shared.settings.tcp { tcp } else { Vec::new() })
    }

    /// Sessions that are opened from now on are given these host candidates; none: the addresses of this machine.
    pub fn set_candidates(&self, udp: Vec<SocketAddr>, tcp: Vec<SocketAddr>) {
        *self.shared().candidates.write().unwrap_or_else(PoisonError::into_inner) = (udp, tcp);
    }

    /// Whether another session could be opened now.
    ///
    /// # Errors
    /// There are as many sessions as there may be.
    pub fn room(&self) -> Result<(), TooMany> {
        let (publishers, viewers) = self.sessions();
        match publishers + viewers < self.shared().settings.max_sessions {
            true => Ok(()),
            false => Err(TooMany::OfNode),
        }
    }

    /// A place for a session of the client at that address, as HTTP knows it.
    ///
    /// # Errors
    /// There are as many sessions as there may be.
    pub fn place(&self, client: IpAddr) -> Result<Place, TooMany> {
        let shared = self.shared();
        self.room()?;
        match shared.connecting.admit(client) {
            Some(member) => Ok(Place { _member: member }),
            None => {
                count(&shared.tally.crowded, 1);
                Err(TooMany::OfClient)
            }
        }
    }

    /// Opens a session. It lives in the loop that gets its first STUN request, and ends when none comes within 30 s.
    ///
    /// # Errors
    /// There are as many sessions as there may be.
    pub fn open(&self, opening: Opening) -> Result<(Session, mpsc::Receiver<SessionEvent>), TooMany> {
        let Opening { place, ice, agreed, carries, opens } = opening;
        let publisher = match &carries {
            Carries::In(publisher) => Some(Wishes::of(publisher)),
            Carries::Out(_) | Carries::Nothing => None,
        };
        let counted = match &carries {
            Carries::In(_) => Some(true),
            Carries::Out(_) => Some(false),
            Carries::Nothing => None,
        };
        self.add(
            |rest| Waiting { place, ice, agreed, media: Media::Waiting(carries), opens, ..rest },
            counted,
            publisher,
        )
    }

    /// A socket for a session with somebody whom we call.
    ///
    /// # Errors
    /// The machine has no port left, or not the address any more that is listened on.
    pub fn call_socket(&self) -> io::Result<CallSocket> {
        let listen = &self.shared().listen;
        let any =
            |v6: bool| listen.iter().map(SocketAddr::ip).find(|ip| ip.is_unspecified() && ip.is_ipv6() == v6);
        let ip = any(true).or_else(|| any(false)).or_else(|| listen.first().map(SocketAddr::ip));
        let socket = socket::caller(ip.ok_or_else(|| io::Error::other("WebRTC listens nowhere"))?)?;
        let candidates = candidates::host(&[socket.local_addr()?], &candidates::machine());
        Ok(CallSocket { socket, candidates })
    }

    /// Opens a session that calls the other side, which is at one of these addresses (host candidates over UDP, the preferred
    /// first). What is agreed on is known.
    ///
    /// # Errors
    /// There are as many sessions as there may be, or the loops are too busy to take another.
    pub fn call(
        &self,
        opening: Opening,
        socket: CallSocket,
        candidates: Vec<SocketAddr>,
    ) -> Result<(Session, mpsc::Receiver<SessionEvent>), TooMany> {
        let shared = self.shared();
        let ufrag = opening.ice.ufrag.clone();
        let (session, events) = self.open(opening)?;
        let shard = (session.id.0 as usize) % shared.doors.len();
        if let Found::Adopted(waiting) = shared.registry.find(&ufrag, shard) {
            let call = Box::new(Call { waiting, socket: socket.socket, candidates });
            if let Err(
                mpsc::error::TrySendError::Full(Inbound::Call(call))
                | mpsc::error::TrySendError::Closed(Inbound::Call(call)),
            ) = shared.doors[shard].inbox.try_send(Inbound::Call(call))
            {
                shared.registry.remove(session.id);
                call.waiting.end(Ending::Abandon, &shared.handle);
                return Err(TooMany::OfNode);
            }
        }
        Ok((session, events))
    }

    /// Opens a session whose peer and media are stand-ins.
    #[cfg(test)]
    fn open_fake(&self, ice: IceCredentials) -> Result<(Session, mpsc::Receiver<SessionEvent>), TooMany> {
        use super::fake::{FakeMedia, FakePeer};
        let (media, fake) = (Media::Fake(FakeMedia::default()), Some(FakePeer::default()));
        self.add(|rest| Waiting { ice, media, fake, ..rest }, Some(false), None)
    }

    fn add(
        &self,
        fill: impl FnOnce(Waiting) -> Waiting,
        publisher: Option<bool>,
        wishes: Option<Wishes>,
    ) -> Result<(Session, mpsc::Receiver<SessionEvent>), TooMany> {
        let shared = self.shared();
        let id = SessionId(shared.ids.fetch_add(1, Relaxed));
        let (events, receiver) = Events::new().ok_or(TooMany::OfNode)?;
        let mailbox = Arc::new(Mailbox::new(id));
        let (attended, over) = oneshot::channel();
        let waiting = fill(Waiting {
            id,
            place: None,
            ice: IceCredentials { ufrag: String::new(), pwd: String::new() },
            agreed: None,
            media: Media::Nothing,
            opens: None,
            events,
            mailbox: mailbox.clone(),
            counted: publisher.map(|publisher| shared.registry.counted(publisher)),
            attended,
            #[cfg(test)]
            fake: None,
        });
        let refused = shared.registry.add(Box::new(waiting), shared.settings.max_sessions, Instant::now());
        if let Err(waiting) = refused {
            // A publisher's stream waits for it to come back: it may only have been a moment too early.
            waiting.end(Ending::Abandon, &shared.handle);
            return Err(TooMany::OfNode);
        }
        count(&shared.tally.opened, 1);
        if let Some(wishes) = wishes {
            shared.handle.spawn(attend(shared.clone(), mailbox.clone(), wishes, over));
        }
        Ok((Session { id, shared: shared.clone(), mailbox }, receiver))
    }

    /// Sessions now: publishers, viewers.
    pub fn sessions(&self) -> (usize, usize) {
        self.shared().registry.counts()
    }

    /// Bytes received and sent since the start.
    pub fn traffic(&self) -> (u64, u64) {
        let Counters { bytes_in, bytes_out, .. } = self.counters();
        (bytes_in, bytes_out)
    }

    /// What it has done since the start.
    pub fn counters(&self) -> Counters {
        let shared = self.shared();
        let mut sum = Counters::default();
        sum.add(&shared.tally);
        shared.doors.iter().for_each(|door| sum.add(&door.tally));
        sum
    }

    /// Closes all sessions and the sockets.
    pub async fn shutdown(&self) {
        self.owner.end();
        let threads = std::mem::take(&mut *self.owner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
        });
        match ended.await {
            Ok(0) => {}
            failed => tracing::error!(?failed, "WebRTC loops ended before they were told to"),
        }
    }
}

impl Shared {
    fn start_shard(
        self: Arc<Self>,
        index: usize,
        runtime: Runtime,
        inbox: mpsc::Receiver<Inbound>,
        udp: Vec<std::net::UdpSocket>,
    ) -> io::Result<JoinHandle<()>> {
        let context = Context {
            certificate: self.certificate.clone(),
            mtu: self.settings.mtu,
            handle: self.handle.clone(),
            bell: self.doors[index].bell.clone(),
        };
        let shard = {
            let _inside = runtime.enter();
            Shard::new(index, self.registry.clone(), self.doors.clone(), context, udp, inbox)?
        };
        std::thread::Builder::new().name(format!("rtc-{index}")).spawn(move || {
            // Without its loop a share of all packets would go nowhere, and unnoticed: who started the process is to see it.
            if catch_unwind(AssertUnwindSafe(|| runtime.block_on(shard.run()))).is_err() {
                std::process::abort();
            }
        })
    }

    /// Gives a connection to the loop of its session: to any where that waits still. False when it is nobody's.
    fn take_connection(&self, ufrag: &str, accepted: tcp::Accepted, next: &AtomicUsize) -> bool {
        let Some(shard) = self.registry.shard_of(ufrag) else { return false };
        let shard = shard.unwrap_or_else(|| next.fetch_add(1, Relaxed) % self.doors.len());
        self.doors[shard].inbox.try_send(Inbound::Connection(Box::new(accepted))).is_ok()
    }

    /// Ends a session, wherever it is.
    fn end(&self, mailbox: &Mailbox, ending: Ending) {
        if mailbox.end(ending.clone()) {
            return;
        }
        // It waits for its first binding request still, or a loop is just taking it and looks into the mailbox then.
        if let Some(waiting) = self.registry.take_pending(mailbox.id()) {
            waiting.end(ending, &self.handle);
        }
    }
}

/// Gives up sessions that got no binding request.
async fn sweep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for waiting in shared.registry.expired(Instant::now()) {
            count(&shared.tally.failed, 1);
            waiting.expire(&shared.handle);
        }
    }
}

/// What a stream wants of its publisher.
struct Wishes {
    stop: std::pin::Pin<Box<dyn Future<Output = sluice_media::StopReason> + Send>>,
    keyframes: tokio::sync::watch::Receiver<u64>,
}

impl Wishes {
    fn of(publisher: &Publisher) -> Self {
        Wishes {
            stop: Box::pin(publisher.stop_requested()),
            keyframes: publisher.stream().aside().keyframe_wishes(),
        }
    }
}

/// Tells a publisher's session what its stream wants, until the session is over.
async fn attend(shared: Arc<Shared>, mailbox: Arc<Mailbox>, wishes: Wishes, mut over: oneshot::Receiver<()>) {
    let Wishes { mut stop, mut keyframes } = wishes;
    loop {
        tokio::select! {
            _ = &mut over => return,
            reason = &mut stop => return shared.end(&mailbox, Ending::Stop(reason)),
            changed = keyframes.changed() => match changed {
                Ok(()) => mailbox.want_keyframe(),
                Err(_) => return,
            },
        }
    }
}

fn letters(n: usize) -> String {
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(n).map(char::from).collect()
}

/// A session; dropping it closes it, a publisher's as a broken connection.
pub struct Session {
    id: SessionId,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
}

impl Session {
    /// Which it is.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The answer to our offer has come, or a later offer/answer changed something; `feeds` replace those that it plays;
    /// `restart` are our new ICE credentials after an ICE restart.
    pub fn agree(&self, agreed: Agreed, feeds: Option<Vec<Arc<Feed>>>, restart: Option<IceCredentials>) {
        if let Some(ice) = &restart {
            self.shared.registry.rename(self.id, &ice.ufrag);
        }
        self.command(Command::Agree { agreed: Box::new(agreed), feeds, restart });
    }

    /// Sends a message over a data channel. It is lost when the session has too much waiting.
    pub fn send(&self, channel: u16, message: Message) {
        self.command(Command::Send { channel, message });
    }

    /// Chooses the rendition of a feed.
    pub fn set_quality(&self, feed: usize, quality: Quality) {
        self.command(Command::Quality { feed, quality });
    }

    /// Sends a section or does not.
    pub fn enable(&self, mid: &str, enabled: bool) {
        self.command(Command::Enable { mid: mid.to_owned(), enabled });
    }

    /// Asks the publisher for a keyframe.
    pub fn want_keyframe(&self) {
        self.mailbox.want_keyframe();
    }

    /// From now on the goodbye of one who publishes ends its stream, as WHIP's clients mean it: many say it before their DELETE.
    /// Otherwise the stream waits for its publisher: AMS's clients say goodbye before they come back.
    pub fn end_by_goodbye(&self) {
        self.mailbox.ends_by_goodbye.store(true, Relaxed);
    }

    /// From now on its statistics are told each second: for who reads them.
    pub fn measure(&self) {
        self.mailbox.measured.store(true, Relaxed);
    }

    /// Ends it with a goodbye; a publisher's stream ends with it.
    pub fn close(self) {
        // Dropping it afterwards changes nothing: the first ending counts.
        self.shared.end(&self.mailbox, Ending::Close);
    }

    fn command(&self, command: Command) {
        if !self.mailbox.command(command) {
            count(&self.shared.tally.dropped, 1);
            tracing::debug!(
                session = self.id.0,
                "a WebRTC session has too many commands waiting: one is dropped"
            );
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.end(&self.mailbox, Ending::Abandon);
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod whole;
