//! One session of a client, from its answer or offer to its end: what the media tells becomes messages, and what the client
//! orders reaches the media. Each runs in a task of its own, which outlives the WebSocket for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use sluice_media::session::Request;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::Shared;
use super::data::Bridge;
use super::kept::{Identity, KEPT};
use super::media::Running;
use super::message::Media;
use super::outlet::Outlet;
use super::play::{Change, Found, Tracks};
use super::reply::{self, Refusing};
use crate::SessionEvent;
use crate::egress::Quality;
use crate::peer::Message;
use crate::service::Gathered;
use crate::transport::{Closed, Stats};

/// Orders that wait for one session.
const ORDERS: usize = 64;
/// Statistics come once a second; the client is told of every third.
const MEASURED: u32 = 3;
/// How long the streams of another offer may take to be gathered.
const OFFER: Duration = Duration::from_secs(10);

/// How long the end of a session may take.
const ENDING: Duration = Duration::from_secs(1);

/// What a client orders of a session.
#[derive(Debug)]
pub(super) enum Order {
    /// Its answer to our offer.
    Answer(String),
    /// Another offer of a publisher.
    Offer(String),
    /// Another rendition, of one track or (empty) of all.
    Quality(String, Quality),
    /// A track (empty: all), what of it, and whether it is sent.
    Enable(String, Media, bool),
    /// Pictures of so many tracks from there on.
    Window(usize, usize),
    /// The list of tracks, over the data channel.
    Assignments,
}

/// How a connection reaches one of its sessions. Dropping it is losing the WebSocket.
pub(super) struct Handle {
    orders: mpsc::Sender<Order>,
    stopped: Arc<AtomicBool>,
    over: Leaving,
}

/// A session that was told to end: ready, with an error, when it has.
pub(super) type Leaving = oneshot::Receiver<()>;

/// The other end of a [`Handle`].
pub(super) struct Orders {
    orders: mpsc::Receiver<Order>,
    stopped: Arc<AtomicBool>,
    // Dropped with the rest, which tells that the session is over.
    _over: oneshot::Sender<()>,
}

pub(super) fn handle() -> (Handle, Orders) {
    let (sender, orders) = mpsc::channel(ORDERS);
    let stopped = Arc::new(AtomicBool::new(false));
    let (tells_over, over) = oneshot::channel();
    (Handle { orders: sender, stopped: stopped.clone(), over }, Orders { orders, stopped, _over: tells_over })
}

impl Handle {
    /// Whether the session is still there.
    pub(super) fn is_alive(&self) -> bool {
        !self.orders.is_closed()
    }

    /// Orders something; false when the session is over, or has too much to do.
    pub(super) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }

    /// Ends the session. What comes back tells when it has.
    pub(super) fn stop(self) -> Leaving {
        self.stopped.store(true, Ordering::Release);
        self.over
    }
}

impl Orders {
    /// The next order; `None` when there is none to come: see [`is_stopped`](Self::is_stopped).
    pub(super) async fn next(&mut self) -> Option<Order> {
        self.orders.recv().await
    }

    /// Whether the client wanted the end, rather than losing its WebSocket.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until the connection is gone or wants the end; orders before it are forgotten.
    pub(super) async fn over(&mut self) {
        while self.orders.recv().await.is_some() {}
    }
}

/// Whose session it is, and what it belongs to.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) outlet: Outlet,
    pub(super) app: Arc<str>,
    pub(super) stream: String,
    pub(super) subscriber: String,
}

impl Context {
    pub(super) fn error(&self, refusing: &Refusing) {
        self.outlet.say(reply::error(&self.stream, refusing));
    }

    fn tell(&self, definition: &str) {
        self.outlet.say(reply::of_stream(definition, &self.stream, &self.subscriber));
    }
}

/// A publisher, from its offer on. `room` is its main track, or empty; `leaving` is an earlier session of the same stream
/// and connection.
pub(super) async fn publish(
    ctx: Context,
    request: Request,
    room: String,
    offer: String,
    leaving: Option<Leaving>,
    mut orders: Orders,
) {
    let (key, who) = (request.key.clone(), Identity::of(&request));
    if let Some(leaving) = leaving {
        let _ = timeout(ENDING, leaving).await;
    }
    if ctx.shared.kept.make_room(&key, &who).await {
        tracing::debug!(stream = %key, "its publisher came again");
    }
    let opened = tokio::select! {
        opened = ctx.shared.media.publish(request, &offer) => opened,
        () = orders.over() => return,
    };
    let running = match opened {
        Ok(running) => running,
        Err(refused) => return ctx.error(&Refusing::of(&refused, true)),
    };
    ctx.outlet.say(reply::description(&ctx.stream, false, &running.sdp, None, &ctx.subscriber));
    for candidate in reply::candidates(&ctx.stream, &running.sdp, &ctx.subscriber) {
        ctx.outlet.say(candidate);
    }
    Live::new(ctx, running, Role::Publisher { room, who }).run(orders).await;
}

/// What a session does.
pub(super) enum Role {
    /// It publishes.
    Publisher { room: String, who: Identity },
    /// It plays these tracks.
    Player(Box<Tracks>),
}

/// A session that is open.
pub(super) struct Live {
    ctx: Context,
    running: Running,
    bridge: Bridge,
    role: Role,
    connected: bool,
    measured: u32,
    /// Another offer that is being prepared, beside all else.
    refreshing: Option<BoxFuture<'static, Refreshed>>,
}

/// How far another offer is.
enum Refreshed {
    /// What is to be played is known.
    Found(Result<Found, Refusing>),
    /// So are the streams, unless they could not be had.
    Gathered(Change, Option<Gathered>),
}

/// Why a session ends.
enum End {
    /// The client wanted it, or there is nothing left to play.
    Wanted,
    /// It has ended by itself.
    Over(Closed),
    /// Its WebSocket is lost for too long.
    Lost,
    /// Its publisher came again, and waits until this is dropped.
    MakesRoom(Option<oneshot::Sender<()>>),
}

impl Live {
    pub(super) fn new(ctx: Context, running: Running, role: Role) -> Self {
        let distribution = ctx.shared.directory.app(&ctx.app).unwrap_or_default().distribution;
        let sender = match role {
            Role::Publisher { .. } => sluice_media::aside::Sender::Publisher,
            Role::Player(_) => sluice_media::aside::Sender::Player,
        };
        let bridge = Bridge::new(sender, running.link.id(), &running.streams, distribution);
        Live { ctx, running, bridge, role, connected: false, measured: 0, refreshing: None }
    }

    pub(super) async fn run(mut self, mut orders: Orders) {
        let end = self.until_end(&mut orders).await;
        let publishes = matches!(self.role, Role::Publisher { .. });
        let finished = if publishes { "publish_finished" } else { "play_finished" };
        let Running { link, events, .. } = self.running;
        match end {
            End::Wanted => {
                link.close();
                if publishes {
                    // The client's goodbye may have come first, which alone would leave the stream to whoever comes back.
                    closed(events).await;
                    self.ctx.shared.directory.end_if_left(&self.ctx.app, &self.ctx.stream);
                }
            }
            End::Lost => drop(link),
            End::MakesRoom(made) => {
                drop(link);
                closed(events).await;
                drop(made);
            }
            End::Over(Closed::ByPeer) if publishes && orders.is_stopped() => {
                self.ctx.shared.directory.end_if_left(&self.ctx.app, &self.ctx.stream);
            }
            End::Over(Closed::Silent(why)) if !self.connected => {
                self.ctx.error(&Refusing::new("publishTimeoutError", why));
            }
            End::Over(Closed::Silent(why)) => {
                self.ctx.error(&Refusing::new("noPacketReceivedForTimeoutDuration", why));
            }
            End::Over(Closed::ByPeer | Closed::ByUs | Closed::Stopped(_)) => {}
        }
        self.ctx.tell(finished);
    }

    async fn until_end(&mut self, orders: &mut Orders) -> End {
        let mut lost: Option<Instant> = None;
        let mut room_is_wanted: Option<oneshot::Receiver<oneshot::Sender<()>>> = None;
        loop {
            tokio::select! {
                event = self.running.events.recv() => {
                    let Some(event) = event else { return End::Over(Closed::ByUs) };
                    if let Some(end) = self.event(event) {
                        return end;
                    }
                }
                message = self.bridge.next() => {
                    if let Some(channel) = self.bridge.channel() {
                        self.running.link.send(channel, message);
                    }
                }
                order = orders.next(), if lost.is_none() => match order {
                    Some(order) => self.order(order),
                    None if orders.is_stopped() => return End::Wanted,
                    None => {
                        lost = Some(Instant::now() + KEPT);
                        self.may_move();
                        if let Role::Publisher { who, .. } = &self.role {
                            let key = sluice_media::StreamKey::new(self.ctx.app.clone(), self.ctx.stream.as_str());
                            room_is_wanted = Some(self.ctx.shared.kept.keep(key, who.clone()));
                        }
                    }
                },
                made = wanted(&mut room_is_wanted) => return End::MakesRoom(made),
                () = at(lost) => return End::Lost,
                // Without a WebSocket nothing can be offered.
                () = changed(&mut self.role), if lost.is_none() && self.refreshing.is_none() => self.look(),
                refreshed = refreshed(&mut self.refreshing), if lost.is_none() => self.refresh(refreshed),
            }
        }
    }

    /// A publisher that was sent elsewhere is on its way.
    fn may_move(&self) {
        if matches!(self.role, Role::Publisher { .. }) && self.ctx.shared.stopping.load(Ordering::Acquire) {
            self.running.streams.iter().for_each(|stream| stream.set_moving());
        }
    }

    fn event(&mut self, event: SessionEvent) -> Option<End> {
        match event {
            SessionEvent::Connected => self.started(),
            SessionEvent::Open { .. } | SessionEvent::Message { .. } => self.bridge.take(&event),
            SessionEvent::Rendition(feed, height) => {
                let mut fields = json!({"streamId": self.ctx.stream, "streamHeight": height});
                if let Role::Player(tracks) = &self.role
                    && let Some(track) = tracks.name(feed)
                {
                    fields["trackId"] = json!(track);
                }
                self.ctx.outlet.say(reply::notification("resolutionChangeInfo", fields));
            }
            SessionEvent::StreamEnded(feed) => {
                if let Role::Player(tracks) = &mut self.role
                    && tracks.ended(feed)
                {
                    return Some(End::Wanted);
                }
            }
            SessionEvent::Stats(stats) => self.measure(&stats),
            SessionEvent::Closed(closed) => return Some(End::Over(closed)),
        }
        None
    }

    fn started(&mut self) {
        if std::mem::replace(&mut self.connected, true) {
            return;
        }
        match &self.role {
            Role::Player(_) => self.ctx.tell("play_started"),
            Role::Publisher { room, .. } if room.is_empty() => self.ctx.tell("publish_started"),
            Role::Publisher { room, .. } => {
                let Context { stream, subscriber, .. } = &self.ctx;
                let fields = json!({
                    "streamId": stream, "subscriberId": subscriber, "room": room, "ATTR_ROOM_NAME": room,
                });
                self.ctx.outlet.say(reply::notification("publish_started", fields));
            }
        }
    }

    fn measure(&mut self, stats: &Stats) {
        self.measured += 1;
        if !self.measured.is_multiple_of(MEASURED) {
            return;
        }
        let (target, video, audio) = match stats {
            Stats::In(stats) => {
                (stats.video_bitrate + stats.audio_bitrate, stats.video_bitrate, stats.audio_bitrate)
            }
            Stats::Out(stats) => (stats.estimate, stats.video_bitrate, stats.audio_bitrate),
        };
        self.ctx.outlet.say(reply::bitrate(&self.ctx.stream, target, video, audio));
    }

    fn order(&mut self, order: Order) {
        let Live { ctx, running, role, bridge, .. } = self;
        let Role::Player(tracks) = role else {
            if let Order::Offer(offer) = order {
                answer_again(ctx, running, &offer);
            }
            return;
        };
        let is_all = |track: &str| track.is_empty() || (track == ctx.stream && !tracks.has(track));
        match order {
            Order::Answer(sdp) => {
                match running.link.accept(&sdp) {
                    Ok(()) => tracks.accepted(running),
                    Err(refused) => ctx.error(&Refusing::of(&refused, false)),
                }
                tracks.answered();
            }
            // A player is offered something, and offers nothing.
            Order::Offer(_) => {}
            Order::Quality(track, quality) => {
                for (feed, name) in tracks.names().iter().enumerate() {
                    if is_all(&track) || *name == track {
                        running.link.set_quality(feed, quality);
                    }
                }
            }
            Order::Enable(track, media, enabled) => {
                let is_all = is_all(&track);
                for (mid, of) in running.mids.clone() {
                    let (video, name) = split(&of);
                    let meant = media == Media::All || (media == Media::Video) == video;
                    if meant && (is_all || name == track) {
                        tracks.enable(running, &mid, enabled);
                    }
                }
            }
            Order::Window(offset, size) => {
                let videos = running.mids.clone().into_iter().filter(|(_, of)| split(of).0);
                for (n, (mid, _)) in videos.enumerate() {
                    tracks.enable(running, &mid, n >= offset && n - offset < size);
                }
            }
            Order::Assignments => {
                let videos = running.mids.iter().map(|(_, of)| split(of)).filter(|(video, _)| *video);
                let list =
                    videos.map(|(_, name)| json!({"videoLabel": name, "trackId": name, "reserved": false}));
                let text = json!({
                    "eventType": "VIDEO_TRACK_ASSIGNMENT_LIST",
                    "streamId": ctx.stream,
                    "payload": list.collect::<Vec<_>>(),
                });
                if let Some(channel) = bridge.channel() {
                    let message = Message { text: true, payload: text.to_string().into() };
                    running.link.send(channel, message);
                }
            }
        }
    }

    /// Other streams may belong to the main track now.
    fn look(&mut self) {
        let Role::Player(tracks) = &mut self.role else { return };
        let search = tracks.search(&self.ctx);
        self.refreshing = Some(Box::pin(async move { Refreshed::Found(search.await) }));
    }

    /// Goes on with another offer: the streams of the main track are found, then gathered, then offered; those that are gone are
    /// offered no more.
    fn refresh(&mut self, refreshed: Refreshed) {
        let Live { ctx, running, role: Role::Player(tracks), bridge, refreshing, .. } = self else { return };
        let (mut change, gathered) = match refreshed {
            Refreshed::Found(Ok(found)) => {
                let Some(change) = tracks.change(found) else { return };
                let gather = timeout(OFFER, running.link.gather(tracks.requests(&change.names)));
                *refreshing = Some(Box::pin(async move {
                    Refreshed::Gathered(change, gather.await.ok().and_then(Result::ok))
                }));
                return;
            }
            Refreshed::Found(Err(_)) => return tracks.look_later(),
            Refreshed::Gathered(change, gathered) => (change, gathered),
        };
        // One may have ended just now. Looking again tells.
        let Some(Ok(again)) = gathered.map(|gathered| running.link.again(gathered)) else {
            return tracks.look_later();
        };
        tracks.keep_offered(&mut change, &again.streams);
        bridge.set_streams(&again.streams);
        (running.sdp, running.mids, running.streams) = (again.sdp, again.mids, again.streams);
        if change.added.is_empty() && change.removed.is_empty() {
            return;
        }
        for (definition, ids) in [("subtrackAdded", &change.added), ("subtrackRemoved", &change.removed)] {
            for id in ids {
                let fields = json!({"streamId": ctx.stream, "trackId": id});
                ctx.outlet.say(reply::notification(definition, fields));
            }
        }
        tracks.offer(ctx, running, change);
    }
}

/// Answers another offer of a publisher: it restarts ICE, or sends something else.
fn answer_again(ctx: &Context, running: &mut Running, offer: &str) {
    match running.link.answer(offer) {
        Ok(sdp) => {
            ctx.outlet.say(reply::description(&ctx.stream, false, &sdp, None, &ctx.subscriber));
            running.sdp = sdp;
        }
        Err(refused) => ctx.error(&Refusing::of(&refused, true)),
    }
}

/// Waits until a session whose end was ordered has ended.
async fn closed(mut events: mpsc::Receiver<SessionEvent>) {
    let ends = async { while !matches!(events.recv().await, None | Some(SessionEvent::Closed(_))) {} };
    let _ = timeout(ENDING, ends).await;
}

/// Whether a track such as `ARDAMSvcam1` is video, and its name without that.
fn split(track: &str) -> (bool, &str) {
    match track.strip_prefix("ARDAMSv") {
        Some(name) => (true, name),
        None => (false, track.strip_prefix("ARDAMSa").unwrap_or(track)),
    }
}

pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn wanted(room: &mut Option<oneshot::Receiver<oneshot::Sender<()>>>) -> Option<oneshot::Sender<()>> {
    match room {
        Some(wanted) => wanted.await.ok(),
        None => std::future::pending().await,
    }
}

/// What the present step of another offer comes to.
async fn refreshed(refreshing: &mut Option<BoxFuture<'static, Refreshed>>) -> Refreshed {
    match refreshing {
        Some(step) => {
            let refreshed = step.await;
            *refreshing = None;
            refreshed
        }
        None => std::future::pending().await,
    }
}

async fn changed(role: &mut Role) {
    match role {
        Role::Player(tracks) => tracks.changed().await,
        Role::Publisher { .. } => std::future::pending().await,
    }
}
