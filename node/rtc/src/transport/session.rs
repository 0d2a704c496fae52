//! One session: its connection, its media, and who is told of it. Driven by the loop that has it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::bell::Bell;
use super::counters::count;
use super::demux::Addresses;
use super::events::Events;
use super::link::Link;
use super::mailbox::{Command, Ending, Letters, Mailbox};
use super::media::Media;
use super::net::{Net, Route};
use super::registry::{Counted, PENDING};
use super::{Closed, Place, SessionEvent, SessionId};
use crate::agreed::{Agreed, IceCredentials};
use crate::egress::{EgressEvent, FeedId};
use crate::peer::{Certificate, Config, Output, Path};

/// Statistics are told that often.
const STATS: Duration = Duration::from_secs(1);
/// Remote addresses of a session, and its connections over TCP: the oldest make room for new ones.
const ADDRESSES: usize = 8;
/// Data channels whose labels are remembered.
const LABELS: usize = 64;
/// What a data channel takes in one message, as long as the other side has not said: RFC 8841, 6.1.
const MESSAGE: usize = 64 * 1024;
/// Datagrams that a connection says goodbye with at most.
const GOODBYE: usize = 32;

/// What all sessions of a loop share.
pub(super) struct Context {
    pub(super) certificate: Arc<Certificate>,
    /// The largest datagram that is sent, in bytes.
    pub(super) mtu: usize,
    /// The node's runtime: what is started for a stream goes on there when this loop ends.
    pub(super) handle: Handle,
    pub(super) bell: Arc<Bell>,
}

/// A session that waits for its first binding request.
pub(super) struct Waiting {
    pub(super) id: SessionId,
    pub(super) place: Option<Place>,
    pub(super) ice: IceCredentials,
    pub(super) agreed: Option<Agreed>,
    pub(super) media: Media,
    pub(super) opens: Option<String>,
    pub(super) events: Events,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) counted: Option<Counted>,
    /// Ends the task that waits for the stream's wishes, when it is dropped.
    pub(super) attended: oneshot::Sender<()>,
    #[cfg(test)]
    pub(super) fake: Option<super::fake::FakePeer>,
}

impl Waiting {
    /// Our user fragment.
    pub(super) fn ufrag(&self) -> &str {
        &self.ice.ufrag
    }

    /// Ends it before it began.
    pub(super) fn end(self, ending: Ending, handle: &Handle) {
        let (closed, finish) = over(ending);
        self.give_up(closed, finish, handle);
    }

    /// Ends it because nobody came.
    pub(super) fn expire(self, handle: &Handle) {
        let why = format!(
            "no connectivity check came within {} s: is the UDP port open, and are the candidates right \
             (SLUICE_RTC_CANDIDATES)?",
            PENDING.as_secs()
        );
        self.give_up(Closed::Silent(why), false, handle);
    }

    fn give_up(self, closed: Closed, finish: bool, handle: &Handle) {
        let _inside = handle.enter();
        self.media.end(finish);
        drop(self.counted);
        self.events.closed(closed);
    }
}

/// Why it is over when it is us who end it, and whether a publisher's stream ends with it.
fn over(ending: Ending) -> (Closed, bool) {
    match ending {
        Ending::Close => (Closed::ByUs, true),
        Ending::Abandon => (Closed::ByUs, false),
        Ending::Stop(reason) => (Closed::Stopped(reason), true),
    }
}

/// A session is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) closed: Closed,
    /// A publisher's stream ends, too; otherwise it waits for the publisher to come back.
    pub(super) finish: bool,
}

/// A session that a loop drives.
pub(super) struct Driven {
    id: SessionId,
    ufrags: Vec<String>,
    /// Whether we call the other side, by a socket of its own.
    calls: bool,
    link: Link,
    media: Media,
    events: Events,
    mailbox: Arc<Mailbox>,
    route: Option<Route>,
    connected: bool,
    /// Held until it is connected.
    place: Option<Place>,
    addresses: Vec<SocketAddr>,
    /// Where the last datagram came from.
    from: Option<SocketAddr>,
    connections: Vec<SocketAddr>,
    labels: Vec<(u16, String)>,
    next_stats: Option<Instant>,
    /// Feeds that wake it.
    pub(super) feeds: Vec<FeedId>,
    counted: Option<Counted>,
    _attended: oneshot::Sender<()>,
}

impl Driven {
    /// A loop has taken it; what was told to it meanwhile waits in its mailbox.
    pub(super) fn new(waiting: Waiting, context: &Context, now: Instant) -> Self {
        let config = Config {
            ice: waiting.ice.clone(),
            certificate: context.certificate.clone(),
            remote: waiting.agreed.as_ref().map(|agreed| agreed.remote.clone()),
            data: waiting.agreed.as_ref().map_or(Some(MESSAGE), |agreed| agreed.data),
            opens: waiting.opens,
            mtu: context.mtu,
        };
        waiting.mailbox.settle(context.bell.clone());
        #[cfg(test)]
        let link = waiting.fake.map_or_else(|| Link::new(config, now), Link::Fake);
        #[cfg(not(test))]
        let link = Link::new(config, now);
        let mut driven = Driven {
            id: waiting.id,
            ufrags: vec![waiting.ice.ufrag],
            calls: false,
            link,
            media: waiting.media,
            events: waiting.events,
            mailbox: waiting.mailbox,
            route: None,
            connected: false,
            place: waiting.place,
            addresses: Vec::new(),
            from: None,
            connections: Vec::new(),
            labels: Vec::new(),
            next_stats: None,
            feeds: Vec::new(),
            counted: waiting.counted,
            _attended: waiting.attended,
        };
        if let Some(agreed) = &waiting.agreed {
            let _inside = context.handle.enter();
            driven.media.agree(agreed, None, seed(), now);
        }
        driven
    }

    /// Calls the other side over these paths.
    pub(super) fn dial(&mut self, paths: &[Path], now: Instant) {
        self.calls = true;
        self.link.dial(paths, seed(), now);
    }

    /// Whether a binding request to that user fragment is for this session.
    pub(super) fn answers_to(&self, ufrag: &str) -> bool {
        self.ufrags.iter().any(|ours| ours == ufrag)
    }

    /// The media, for whoever has to know its feeds.
    pub(super) fn media(&self) -> &Media {
        &self.media
    }

    /// A datagram came. [`settle`](Self::settle) is to be called after the last one.
    pub(super) fn receive(&mut self, path: Path, datagram: BytesMut, now: Instant) {
        self.from = (!path.tcp).then_some(path.remote);
        self.link.receive(path, datagram, now);
    }

    /// A connection over TCP is its own. The one that has to go for it, if any.
    pub(super) fn connection(&mut self, remote: SocketAddr) -> Option<SocketAddr> {
        self.connections.retain(|known| *known != remote);
        self.connections.push(remote);
        let used = self.route;
        crowded_out(&mut self.connections, |remote| used == Some(Route::Tcp(*remote)))
    }

    /// Does what it was told. True when its feeds may be others now.
    pub(super) fn commands(&mut self, context: &Context, now: Instant) -> Result<bool, Over> {
        let Letters { commands, keyframe, ending } = self.mailbox.take();
        if let Some(ending) = ending {
            let (closed, finish) = over(ending);
            return Err(Over { closed, finish });
        }
        if keyframe {
            self.media.want_keyframe(now);
        }
        let mut changed = false;
        for command in commands {
            match command {
                Command::Agree { agreed, feeds, restart } => {
                    self.ufrags.extend(restart.iter().map(|ice| ice.ufrag.clone()));
                    let obsolete = self.ufrags.len().saturating_sub(2);
                    self.ufrags.drain(..obsolete);
                    self.link.set_data(agreed.data);
                    self.link.set_remote(agreed.remote.clone(), restart, now);
                    let _inside = context.handle.enter();
                    self.media.agree(&agreed, feeds, seed(), now);
                    changed = true;
                }
                // The peer says no when too much waits; data channels of AMS are told nothing either.
                Command::Send { channel, message } => drop(self.link.send(channel, &message, now)),
                Command::Quality { feed, quality } => self.media.set_quality(feed, quality, now),
                Command::Enable { mid, enabled } => self.media.enable(&mid, enabled),
            }
        }
        Ok(changed)
    }

    /// What is due by time.
    pub(super) fn tick(&mut self, now: Instant, wall: SystemTime) {
        if self.link.timeout().is_some_and(|at| at <= now) {
            self.link.handle_timeout(now);
        }
        if self.media.timeout().is_some_and(|at| at <= now) {
            self.media.handle_timeout(now, wall);
        }
        if self.next_stats.is_some_and(|at| at <= now) {
            self.next_stats = Some(now + STATS);
            if self.mailbox.measured.load(Relaxed)
                && let Some(stats) = self.media.stats(now)
            {
                self.events.stats(stats);
            }
        }
    }

    /// When [`tick`](Self::tick) wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.link.timeout(), self.media.timeout(), self.next_stats].into_iter().flatten().min()
    }

    /// After any input: takes what the connection has to say, and sends what is due.
    pub(super) fn settle(
        &mut self,
        net: &mut Net,
        addresses: &mut Addresses,
        now: Instant,
        wall: SystemTime,
    ) -> Option<Over> {
        let from = self.from.take();
        while let Some(output) = self.link.poll(now) {
            if matches!(output, Output::Rtp(_) | Output::Rtcp(_) | Output::Message { .. })
                && let Some(from) = from
            {
                addresses.heard(&from, self.id, now);
            }
            match output {
                Output::Send { path, datagram } => {
                    self.answers(&path, addresses, net, now);
                    net.send(self.id, &path, &datagram);
                }
                Output::Connected => {
                    self.connected = true;
                    self.place = None;
                    self.next_stats = Some(now + STATS);
                    self.tell(SessionEvent::Connected, net);
                }
                Output::Selected(path) => {
                    self.answers(&path, addresses, net, now);
                    self.route = Some(net.route(self.id, &path));
                }
                Output::Rtp(packet) => self.media.rtp(packet, now, wall),
                Output::Rtcp(compound) => self.media.rtcp(&compound, now),
                Output::Open { channel, label } => {
                    self.labels.retain(|(known, _)| *known != channel);
                    if self.labels.len() < LABELS {
                        self.labels.push((channel, label.clone()));
                    }
                    self.tell(SessionEvent::Open { channel, label }, net);
                }
                Output::Message { channel, message } => {
                    let label = self.labels.iter().find(|(known, _)| *known == channel);
                    let label = label.map(|(_, label)| label.clone()).unwrap_or_default();
                    self.tell(SessionEvent::Message { channel, label, message }, net);
                }
                Output::Closed(why) => return Some(self.lost(why)),
            }
        }
        self.send(net, now);
        None
    }

    /// Sends the media or feedback that is due.
    pub(super) fn send(&mut self, net: &mut Net, now: Instant) {
        let (true, Some(route)) = (self.connected, self.route) else { return };
        let mut runs = net.runs(&mut self.link, route);
        self.media.send(now, &mut runs);
        runs.finish();
        while let Some(event) = self.media.event() {
            match event {
                EgressEvent::Rendition { feed, height } => {
                    self.tell(SessionEvent::Rendition(feed, height), net)
                }
                EgressEvent::Ended { feed } => self.tell(SessionEvent::StreamEnded(feed), net),
                EgressEvent::WantKeyframe { feed } => {
                    if let Some(feed) = self.media.feeds().get(feed) {
                        feed.stream().aside().want_keyframe();
                    }
                }
            }
        }
    }

    /// Ends it: says goodbye where it is us who end it, and leaves nothing behind in the loop.
    pub(super) fn end(
        mut self,
        over: Over,
        net: &mut Net,
        addresses: &mut Addresses,
        handle: &Handle,
        now: Instant,
    ) {
        if matches!(over.closed, Closed::ByUs | Closed::Stopped(_)) {
            self.link.close(now);
            let mut left = GOODBYE;
            while let (Some(output), 1..) = (self.link.poll(now), left) {
                left -= 1;
                if let Output::Send { path, datagram } = output {
                    net.send(self.id, &path, &datagram);
                }
            }
        }
        if !self.connected {
            count(&net.tally.failed, 1);
        }
        for address in &self.addresses {
            addresses.release(address, self.id);
        }
        for remote in &self.connections {
            if net.connections.get(remote).is_some_and(|connection| connection.session == self.id) {
                net.connections.remove(remote);
            }
        }
        tracing::debug!(session = self.id.0, why = ?over.closed, "WebRTC session ended");
        let _inside = handle.enter();
        self.media.end(over.finish);
        // Whoever hears of the end finds it done.
        drop(self.counted);
        self.events.closed(over.closed);
    }

    /// The connection ended by itself. Whether a goodbye ends a stream is a matter of signalling.
    fn lost(&self, why: String) -> Over {
        match self.link.said_goodbye() {
            true => Over { closed: Closed::ByPeer, finish: self.mailbox.ends_by_goodbye.load(Relaxed) },
            false => Over { closed: Closed::Silent(why), finish: false },
        }
    }

    /// The peer answers on that path: packets from there are this session's from now on, unless they are another's still.
    fn answers(&mut self, path: &Path, addresses: &mut Addresses, net: &Net, now: Instant) {
        // What comes to a socket of its own is its own anyway.
        if path.tcp || self.calls {
            return;
        }
        if !self.addresses.contains(&path.remote) {
            self.addresses.push(path.remote);
            let used = self.route;
            let goes = |remote: &SocketAddr| {
                matches!(used, Some(Route::Udp { target, .. })
                if super::socket::canonical(target.remote) == *remote)
            };
            if let Some(gone) = crowded_out(&mut self.addresses, goes) {
                addresses.release(&gone, self.id);
            }
        }
        addresses.claim(path.remote, self.id, now);
        // Before the answer, to which the next datagram may be the reply.
        net.tell(addresses);
    }

    fn tell(&self, event: SessionEvent, net: &Net) {
        if !self.events.tell(event) {
            count(&net.tally.events_lost, 1);
        }
    }
}

/// Takes the oldest address that is not in use out of a list that is too long.
fn crowded_out(list: &mut Vec<SocketAddr>, used: impl Fn(&SocketAddr) -> bool) -> Option<SocketAddr> {
    if list.len() <= ADDRESSES {
        return None;
    }
    let oldest = list.iter().position(|address| !used(address)).unwrap_or(0);
    Some(list.remove(oldest))
}

/// Initial numbers of RTP are not to be guessed.
fn seed() -> u64 {
    rand::random()
}
