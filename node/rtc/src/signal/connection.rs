//! One client: takes its commands, keeps its sessions, asks the node for what it wants to know. Knows no socket.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_media::StreamKey;
use sluice_media::session::{Protocol, Request};
use tokio::sync::oneshot::error::TryRecvError;

use super::message::{Command, Invalid, Play, Publish, parse};
use super::outlet::Outlet;
use super::p2p::Peer;
use super::reply::{self, Refusing};
use super::session::{self, Context, Handle, Leaving, Order};
use super::{Place, Shared, ask, play};
use crate::egress::Quality;

mod inform;

/// Messages at once, and a second in the long run.
const BURST: f64 = 200.0;
const RATE: f64 = 50.0;
/// Sessions, joined rooms and meetings of one connection, each.
const MOST: usize = 64;

/// Who is connected.
#[derive(Clone, Debug)]
pub struct Client {
    /// The app in the path.
    pub app: Arc<str>,
    /// Its address.
    pub peer: SocketAddr,
    /// Its `User-Agent`; may be empty.
    pub user_agent: String,
}

/// It says more than anybody has to say. The connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {RATE} messages a second")]
pub struct TooFast;

/// One client's connection. Dropping it is losing the WebSocket: its sessions go on for 3 s.
pub struct Connection {
    shared: Arc<Shared>,
    client: Client,
    outlet: Outlet,
    place: Place,
    publishing: HashMap<String, Publishing>,
    playing: HashMap<String, Handle>,
    /// Publishers that were told to stop, by stream, as long as that takes.
    leaving: HashMap<String, Leaving>,
    /// The room that was joined with an id.
    rooms: HashMap<String, String>,
    meetings: Vec<StreamKey>,
    knows_unknown: bool,
    allowed: f64,
    counted: Option<Instant>,
}

/// A stream that a client publishes.
enum Publishing {
    /// Its offer has not come yet.
    Asked(Publish),
    /// It has, and the room that the stream belongs to.
    Begun(Handle, String),
}

impl Publishing {
    fn is_alive(&self) -> bool {
        match self {
            Publishing::Asked(_) => true,
            Publishing::Begun(handle, _) => handle.is_alive(),
        }
    }
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, client: Client, outlet: Outlet, place: Place) -> Self {
        Connection {
            shared,
            client,
            outlet,
            place,
            publishing: HashMap::new(),
            playing: HashMap::new(),
            leaving: HashMap::new(),
            rooms: HashMap::new(),
            meetings: Vec::new(),
            knows_unknown: false,
            allowed: BURST,
            counted: None,
        }
    }

    /// Takes a message of the client. What it is told waits in its [`Inbox`](super::Inbox).
    ///
    /// # Errors
    /// The client does not behave, and the connection has to end.
    pub async fn handle(&mut self, text: &str, now: Instant) -> Result<(), TooFast> {
        self.count(now)?;
        match parse(text) {
            Ok((command, stream)) => {
                // Some commands ask for several things, one after the other.
                if let Err(refusing) = ask(self.obey(command)).await.and_then(|obeyed| obeyed) {
                    self.outlet.say(reply::error(&stream, &refusing));
                }
            }
            // Said once: newer clients have commands that do not matter to them either.
            Err((Invalid::Unknown(_), _)) if std::mem::replace(&mut self.knows_unknown, true) => {}
            Err((invalid, stream)) => {
                self.knows_unknown |= matches!(invalid, Invalid::Unknown(_));
                self.outlet.say(reply::error(&stream, &Refusing::from(&invalid)));
            }
        }
        Ok(())
    }

    fn count(&mut self, now: Instant) -> Result<(), TooFast> {
        let passed = self.counted.map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        self.counted = Some(now);
        self.allowed = (self.allowed + passed.as_secs_f64() * RATE).min(BURST);
        if self.allowed < 1.0 {
            return Err(TooFast);
        }
        self.allowed -= 1.0;
        Ok(())
    }

    async fn obey(&mut self, command: Command) -> Result<(), Refusing> {
        match command {
            Command::Ping => self.say(reply::pong()),
            Command::IceServers => self.say(reply::ice_servers(&self.shared.ice_servers)),
            Command::Push(command) => self.say(reply::notification(
                command,
                json!({
                    "success": false,
                    "information": "push notifications are not configured on this server: send them from your own",
                }),
            )),
            Command::Publish(publish) => self.publish(publish)?,
            Command::Play(play) => self.play(play)?,
            Command::Stop(stream) => self.stop(&stream),
            Command::Description { stream, offer, sdp } => self.description(&stream, offer, sdp)?,
            Command::Candidate { stream, label, mid, candidate } => {
                self.candidate(&stream, label, &mid, &candidate);
            }
            Command::Quality { stream, height, track } => {
                let quality = height.map_or(Quality::Auto, Quality::Height);
                self.order(&stream, Order::Quality(track, quality))?;
            }
            Command::Enable { stream, track, media, enabled } => {
                self.order(&stream, Order::Enable(track, media, enabled))?;
            }
            Command::Window { stream, offset, size } => self.order(&stream, Order::Window(offset, size))?,
            Command::Assignments(stream) => self.order(&stream, Order::Assignments)?,
            Command::Join { stream, multi_peer, only_plays } => self.join(&stream, multi_peer, only_plays)?,
            Command::Leave(stream) => self.leave(&stream),
            Command::PeerMessage { stream, definition, data } => {
                let text = json!({
                    "command": "peerMessageCommand", "streamId": stream, "definition": definition, "data": data,
                });
                self.relay(&stream, &text.to_string())?;
            }
            Command::JoinRoom { room, stream } => self.join_room(room, stream).await?,
            Command::LeaveRoom { room, stream } => self.leave_room(&room, &stream),
            Command::RoomInfo { room, stream } => {
                let others = self.others(&room, &stream).await?;
                self.answer(reply::room_information(&room, &stream, &others))?;
            }
            Command::MetaData { stream, meta_data } => self.set_meta_data(&stream, &meta_data).await?,
            Command::DebugInfo(stream) => self.debug_info(&stream),
            Command::StreamInfo(_)
            | Command::Tracks(_)
            | Command::Broadcast(_)
            | Command::Subtracks { .. }
            | Command::SubtrackCount { .. }
            | Command::SubscriberCount(_)
            | Command::Subscribers { .. } => self.inform(command).await?,
        }
        Ok(())
    }

    fn publish(&mut self, mut publish: Publish) -> Result<(), Refusing> {
        let stream = publish.stream.clone();
        if let Some(Publishing::Begun(handle, _)) = self.publishing.get(&stream)
            && handle.is_alive()
        {
            let information = format!("this connection publishes {stream} already: stop that first");
            return Err(Refusing::new("already_publishing", information));
        }
        self.publishing.retain(|_, publishing| publishing.is_alive());
        within(self.publishing.len(), "streams that are published")?;
        if publish.main_track.is_empty()
            && let Some(room) = self.rooms.get(&stream)
        {
            publish.main_track.clone_from(room);
        }
        self.say(reply::start(&stream, &publish.subscriber));
        self.publishing.insert(stream, Publishing::Asked(publish));
        Ok(())
    }

    fn play(&mut self, play: Play) -> Result<(), Refusing> {
        let stream = play.stream.clone();
        if self.playing.get(&stream).is_some_and(Handle::is_alive) {
            let information = format!("this connection plays {stream} already: stop that first");
            return Err(Refusing::new("already_playing", information));
        }
        self.playing.retain(|_, handle| handle.is_alive());
        within(self.playing.len(), "streams that are played")?;
        let context = self.context(&stream, &play.subscriber);
        let request = self.request(&stream, play.query.clone());
        let (handle, orders) = session::handle();
        tokio::spawn(play::play(context, play, request, orders));
        self.playing.insert(stream, handle);
        Ok(())
    }

    fn description(&mut self, stream: &str, offer: bool, sdp: String) -> Result<(), Refusing> {
        if offer {
            match self.publishing.remove(stream) {
                Some(Publishing::Asked(publish)) => {
                    self.begin(publish, sdp);
                    return Ok(());
                }
                Some(begun) => {
                    let ordered = match &begun {
                        Publishing::Begun(handle, _) if handle.is_alive() => {
                            Some(place_order(handle, stream, Order::Offer(sdp.clone())))
                        }
                        _ => None,
                    };
                    self.publishing.insert(stream.to_owned(), begun);
                    if let Some(ordered) = ordered {
                        return ordered;
                    }
                }
                None => {}
            }
        } else if self.playing.get(stream).is_some_and(Handle::is_alive) {
            return self.order(stream, Order::Answer(sdp));
        }
        self.relay(stream, &reply::description(stream, offer, &sdp, None, ""))
    }

    fn begin(&mut self, publish: Publish, offer: String) {
        let Publish { stream, main_track, subscriber, mut query } = publish;
        if !main_track.is_empty() {
            query.push(("mainTrack".to_owned(), main_track.clone()));
        }
        let context = self.context(&stream, &subscriber);
        let request = self.request(&stream, query);
        let (handle, orders) = session::handle();
        let leaving = self.leaving.remove(&stream);
        tokio::spawn(session::publish(context, request, main_track.clone(), offer, leaving, orders));
        self.publishing.insert(stream, Publishing::Begun(handle, main_track));
    }

    fn stop(&mut self, stream: &str) {
        if let Some(Publishing::Begun(handle, _)) = self.publishing.remove(stream) {
            if handle.is_alive() {
                self.leaving.retain(|_, leaving| matches!(leaving.try_recv(), Err(TryRecvError::Empty)));
                self.leaving.insert(stream.to_owned(), handle.stop());
            } else {
                // Its goodbye was faster than its word.
                self.shared.directory.end_if_left(&self.client.app, stream);
            }
        }
        if let Some(handle) = self.playing.remove(stream) {
            handle.stop();
        }
    }

    fn order(&self, stream: &str, order: Order) -> Result<(), Refusing> {
        let Some(handle) = self.playing.get(stream).filter(|handle| handle.is_alive()) else {
            return Err(unconnected(stream));
        };
        place_order(handle, stream, order)
    }

    /// Between peers. This server has one address and answers where it is asked from, so it needs none of them itself.
    fn candidate(&self, stream: &str, label: u64, mid: &str, candidate: &str) {
        let text = reply::candidate(stream, label, mid, candidate, "");
        self.shared.meetings.relay(&self.key(stream), self.place.id(), &text);
    }

    fn join(&mut self, stream: &str, multi: bool, only_plays: bool) -> Result<(), Refusing> {
        let key = self.key(stream);
        let meetings = &self.shared.meetings;
        self.meetings.retain(|key| meetings.has(key, self.place.id()));
        within(self.meetings.len(), "peers")?;
        let peer = Peer { connection: self.place.id(), outlet: self.outlet.clone(), multi, only_plays };
        let fresh = || format!("{:.200}-{}", stream, self.shared.fresh_id());
        if meetings.join(&key, peer, fresh)? && !self.meetings.contains(&key) {
            self.meetings.push(key);
        }
        Ok(())
    }

    fn leave(&mut self, stream: &str) {
        let key = self.key(stream);
        self.shared.meetings.leave(&key, self.place.id());
        self.meetings.retain(|other| *other != key);
        self.say(reply::notification("leaved", json!({"streamId": stream})));
    }

    fn relay(&self, stream: &str, text: &str) -> Result<(), Refusing> {
        let passed = self.shared.meetings.relay(&self.key(stream), self.place.id(), text);
        if passed { Ok(()) } else { Err(unconnected(stream)) }
    }

    async fn join_room(&mut self, room: String, stream: String) -> Result<(), Refusing> {
        let stream = if stream.is_empty() { self.shared.fresh_id() } else { stream };
        if !self.rooms.contains_key(&stream) {
            within(self.rooms.len(), "rooms")?;
        }
        let others = self.others(&room, &stream).await?;
        self.answer(reply::joined_room(&room, &stream, &others, play::MOST))?;
        self.rooms.insert(stream, room);
        Ok(())
    }

    fn leave_room(&mut self, room: &str, stream: &str) {
        self.rooms.retain(|id, joined| joined != room || (!stream.is_empty() && id != stream));
        let of_room = |(_, publishing): &(&String, &Publishing)| match publishing {
            Publishing::Asked(publish) => publish.main_track == room,
            Publishing::Begun(_, main_track) => main_track == room,
        };
        let published: Vec<String> =
            self.publishing.iter().filter(of_room).map(|(id, _)| id.clone()).collect();
        for id in published.iter().filter(|id| stream.is_empty() || *id == stream) {
            self.stop(id);
        }
        self.stop(room);
        let fields = json!({"streamId": stream, "ATTR_ROOM_NAME": room, "room": room});
        self.say(reply::notification("leavedFromRoom", fields));
    }

    async fn set_meta_data(&self, stream: &str, meta_data: &str) -> Result<(), Refusing> {
        let is_own =
            matches!(self.publishing.get(stream), Some(Publishing::Begun(handle, _)) if handle.is_alive());
        if !is_own {
            let information =
                format!("only who publishes {stream} may change its metaData, over the same connection");
            return Err(Refusing::new("unauthorized_access", information));
        }
        let set = ask(self.shared.directory.set_meta_data(&self.client.app, stream, meta_data)).await?;
        set.map_err(|sentence| Refusing::new("data_store_not_available", sentence))
    }

    fn say(&self, text: String) {
        self.outlet.say(text);
    }

    fn key(&self, stream: &str) -> StreamKey {
        StreamKey::new(self.client.app.clone(), stream)
    }

    fn context(&self, stream: &str, subscriber: &str) -> Context {
        Context {
            shared: self.shared.clone(),
            outlet: self.outlet.clone(),
            app: self.client.app.clone(),
            stream: stream.to_owned(),
            subscriber: subscriber.to_owned(),
        }
    }

    fn request(&self, stream: &str, query: Vec<(String, String)>) -> Request {
        Request {
            key: self.key(stream),
            query,
            peer: self.client.peer,
            user_agent: self.client.user_agent.clone(),
            protocol: Protocol::WebRtc,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for key in &self.meetings {
            self.shared.meetings.leave(key, self.place.id());
        }
    }
}

fn place_order(handle: &Handle, stream: &str, order: Order) -> Result<(), Refusing> {
    if handle.order(order) {
        return Ok(());
    }
    let information = format!("{stream} has too many orders waiting: try again later");
    Err(Refusing::new("highResourceUsage", information))
}

fn unconnected(stream: &str) -> Refusing {
    let information =
        format!("this connection neither publishes nor plays {stream}, nor does a peer wait there");
    Refusing::new("no_peer_associated_before", information)
}

fn within(number: usize, what: &str) -> Result<(), Refusing> {
    if number < MOST {
        return Ok(());
    }
    let information = format!("one connection may have {MOST} {what}: open another WebSocket for more");
    Err(Refusing::new("highResourceUsage", information))
}
