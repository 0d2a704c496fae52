//! A node without sockets: media that only remembers what it was told, and a directory of what is published there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sluice_media::session::{Refusal, Request};
use sluice_media::{Hub, Origin, Publisher, StopReason, Stream, StreamKey, StreamSettings};
use tokio::sync::{mpsc, watch};

use crate::SessionEvent;
use crate::egress::Quality;
use crate::peer::Message;
use crate::sdp::SdpError;
use crate::service::{Gathered, Refused};
use crate::signal::*;
use crate::transport::Closed;

pub(super) const SDP: &str =
    "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 5004 typ host\r\n";

pub(super) struct Node {
    pub(super) hub: Arc<Hub>,
    pub(super) app: AppSettings,
    /// What sessions were told, each as a word or two.
    log: Mutex<Vec<String>>,
    sessions: Mutex<HashMap<u64, mpsc::Sender<SessionEvent>>>,
    ids: AtomicU64,
    rooms: Mutex<HashMap<String, Vec<Subtrack>>>,
    changes: watch::Sender<u64>,
    /// A stream that is published, but may not be played.
    pub(super) refused: Mutex<String>,
    pub(super) requests: Mutex<Vec<Request>>,
    publishers: Mutex<HashMap<u64, Publisher>>,
    /// Whether streams can be gathered for another offer: otherwise that takes until they can.
    pub(super) gathered: watch::Sender<bool>,
}

impl Node {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Node {
            hub: Hub::new(Duration::from_secs(10)),
            app: AppSettings::default(),
            log: Mutex::default(),
            sessions: Mutex::default(),
            ids: AtomicU64::new(1),
            rooms: Mutex::default(),
            changes: watch::Sender::new(0),
            refused: Mutex::default(),
            requests: Mutex::default(),
            publishers: Mutex::default(),
            gathered: watch::Sender::new(true),
        })
    }

    pub(super) fn signalling(self: &Arc<Self>) -> Signalling {
        self.signalling_with(Limits::default())
    }

    pub(super) fn signalling_with(self: &Arc<Self>, limits: Limits) -> Signalling {
        let servers = vec![crate::IceServer { url: "stun:s:3478".into(), username: None, credential: None }];
        Signalling::new(Arc::new(FakeMedia(self.clone())), Arc::new(Known(self.clone())), servers, limits, 7)
    }

    /// The newest session is told this.
    pub(super) async fn tell(&self, event: SessionEvent) {
        self.tell_session(self.newest(), event).await;
    }

    pub(super) async fn tell_session(&self, id: u64, event: SessionEvent) {
        let session = self.sessions.lock().unwrap()[&id].clone();
        session.send(event).await.unwrap();
    }

    pub(super) fn newest(&self) -> u64 {
        self.ids.load(Ordering::Relaxed) - 1
    }

    /// What happened so far, and forgets it.
    pub(super) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Streams of a main track whose publishers say a lot.
    pub(super) fn fill_room(&self, main: &str, streams: usize, meta_data: &str) -> Vec<Publisher> {
        let publish = |n| {
            let id = format!("{main}-{n:03}");
            let subtrack = Subtrack { id: id.clone(), meta_data: meta_data.into(), ..Subtrack::default() };
            self.rooms.lock().unwrap().entry(main.into()).or_default().push(subtrack);
            let key = StreamKey::new("live", id);
            self.hub.publish(key, Origin::default(), StreamSettings::default()).unwrap()
        };
        (0..streams).map(publish).collect()
    }

    pub(super) fn make_room(&self, main: &str) {
        self.rooms.lock().unwrap().entry(main.into()).or_default();
    }

    /// The session of that number says goodbye, and its stream waits for whoever comes back.
    pub(super) async fn says_goodbye(&self, id: u64) {
        let publisher = self.publishers.lock().unwrap().remove(&id);
        drop(publisher);
        self.tell_session(id, SessionEvent::Closed(Closed::ByPeer)).await;
    }

    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }

    fn opened(&self) -> (u64, mpsc::Receiver<SessionEvent>) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::channel(16);
        self.sessions.lock().unwrap().insert(id, sender);
        (id, events)
    }

    fn enters(&self, request: &Request) -> bool {
        let get = |name: &str| request.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let Some(main) = get("mainTrack") else { return false };
        let subtrack = Subtrack {
            id: request.key.id.to_string(),
            name: get("streamName").unwrap_or_default(),
            meta_data: get("metaData").unwrap_or_default(),
            role: get("role").unwrap_or_default(),
        };
        let mut rooms = self.rooms.lock().unwrap();
        let room = rooms.entry(main).or_default();
        room.retain(|other| other.id != subtrack.id);
        room.push(subtrack);
        true
    }

    fn leaves(&self, id: &str) {
        self.rooms.lock().unwrap().values_mut().for_each(|room| room.retain(|other| other.id != id));
        self.changes.send_modify(|n| *n += 1);
    }

    fn play(&self, requests: &[(Request, String)]) -> Result<Again, Refused> {
        let stream = |(request, _): &(Request, String)| {
            self.requests.lock().unwrap().push(request.clone());
            self.hub
                .get(&request.key)
                .filter(|stream| !stream.is_ended())
                .ok_or_else(|| Refused::from(Refusal::NotLive(request.key.clone())))
        };
        let refused = self.refused.lock().unwrap().clone();
        let requests: Vec<_> = requests.iter().filter(|(_, name)| *name != refused).collect();
        let streams = requests.iter().copied().map(stream).collect::<Result<Vec<Arc<Stream>>, Refused>>()?;
        let mids = requests.iter().enumerate().flat_map(|(n, (_, name))| {
            ["v", "a"].map(|kind| (format!("{kind}{n}"), format!("ARDAMS{kind}{name}")))
        });
        Ok(Again { sdp: SDP.into(), mids: mids.collect(), streams })
    }
}

struct FakeMedia(Arc<Node>);

#[async_trait]
impl Media for FakeMedia {
    async fn publish(&self, request: Request, offer: &str) -> Result<Running, Refused> {
        let node = &self.0;
        if offer.contains("bad") {
            return Err(SdpError::Unusable("no a=fingerprint".into()).into());
        }
        let key = request.key.clone();
        let publisher = match node.hub.publish(key.clone(), Origin::default(), StreamSettings::default()) {
            Ok(publisher) => publisher,
            Err(_) if node.hub.get(&key).is_some_and(|stream| stream.is_interrupted()) => {
                node.note(format!("resumes {}", key.id));
                node.hub.resume(&key).map_err(|_| Refusal::InUse(key.clone()))?
            }
            Err(_) => return Err(Refusal::InUse(key).into()),
        };
        if node.enters(&request) {
            node.changes.send_modify(|n| *n += 1);
        }
        node.requests.lock().unwrap().push(request);
        let streams = vec![publisher.stream().clone()];
        let (id, events) = node.opened();
        node.publishers.lock().unwrap().insert(id, publisher);
        let link = FakeLink { node: node.clone(), id, gathers: Vec::new() };
        Ok(Running { sdp: SDP.into(), mids: Vec::new(), streams, events, link: Box::new(link) })
    }

    async fn offer(&self, requests: Vec<(Request, String)>) -> Result<Running, Refused> {
        let Again { sdp, mids, streams } = self.0.play(&requests)?;
        let (id, events) = self.0.opened();
        let link = FakeLink { node: self.0.clone(), id, gathers: Vec::new() };
        Ok(Running { sdp, mids, streams, events, link: Box::new(link) })
    }
}

struct FakeLink {
    node: Arc<Node>,
    id: u64,
    /// What is to be offered next.
    gathers: Vec<(Request, String)>,
}

impl Link for FakeLink {
    fn id(&self) -> u64 {
        self.id
    }

    fn send(&mut self, channel: u16, message: Message) {
        self.node.note(format!("{} sends {channel} {}", self.id, String::from_utf8_lossy(&message.payload)));
    }

    fn set_quality(&mut self, feed: usize, quality: Quality) {
        self.node.note(format!("quality {feed} {quality:?}"));
    }

    fn enable(&mut self, mid: &str, enabled: bool) {
        self.node.note(format!("enable {mid} {enabled}"));
    }

    fn close(self: Box<Self>) {
        self.node.note(format!("close {}", self.id));
        let publisher = self.node.publishers.lock().unwrap().remove(&self.id);
        if let Some(publisher) = publisher {
            self.node.leaves(&publisher.stream().key().id);
            publisher.finish();
        }
    }

    fn answer(&mut self, offer: &str) -> Result<String, Refused> {
        self.node.note(format!("answers {offer}"));
        if offer.contains("bad") {
            return Err(SdpError::Unusable("no a=fingerprint".into()).into());
        }
        Ok(SDP.to_owned())
    }

    fn accept(&mut self, answer: &str) -> Result<(), Refused> {
        self.node.note(format!("accept {answer}"));
        if answer.contains("bad") {
            return Err(SdpError::Unusable("no a=fingerprint".into()).into());
        }
        Ok(())
    }

    fn gather(&mut self, requests: Vec<(Request, String)>) -> BoxFuture<'static, Result<Gathered, Refused>> {
        self.gathers = requests;
        let mut gathered = self.node.gathered.subscribe();
        Box::pin(async move {
            let _ = gathered.wait_for(|gathered| *gathered).await;
            Ok(Gathered::default())
        })
    }

    fn again(&mut self, _gathered: Gathered) -> Result<Again, Refused> {
        let names: Vec<&str> = self.gathers.iter().map(|(_, name)| name.as_str()).collect();
        self.node.note(format!("again {}", names.join(",")));
        self.node.play(&self.gathers)
    }
}

impl Drop for FakeLink {
    fn drop(&mut self) {
        if self.node.publishers.lock().unwrap().remove(&self.id).is_some() {
            self.node.note(format!("breaks {}", self.id));
        }
        self.node.sessions.lock().unwrap().remove(&self.id);
    }
}

struct Known(Arc<Node>);

impl Known {
    fn stream(&self, app: &str, id: &str) -> Option<Arc<Stream>> {
        self.0.hub.get(&StreamKey::new(app, id)).filter(|stream| !stream.is_ended())
    }
}

#[async_trait]
impl Directory for Known {
    fn app(&self, app: &str) -> Option<AppSettings> {
        (app == "live").then_some(self.0.app)
    }

    async fn broadcast(&self, app: &str, id: &str) -> Option<Value> {
        self.stream(app, id)?;
        let rooms = self.0.rooms.lock().unwrap();
        let meta_data = rooms.values().flatten().find(|subtrack| subtrack.id == id).map(|s| &s.meta_data);
        Some(json!({"streamId": id, "status": "broadcasting", "metaData": meta_data}))
    }

    async fn subtracks(&self, _app: &str, main: &str) -> Option<Vec<Subtrack>> {
        self.0.rooms.lock().unwrap().get(main).cloned()
    }

    fn changes(&self, _app: &str) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    async fn renditions(&self, app: &str, id: &str) -> Option<Vec<Rendition>> {
        let one = Rendition { width: 1280, height: 720, codec: "H264".into(), ..Rendition::default() };
        self.stream(app, id).map(|_| vec![one])
    }

    async fn viewers(&self, app: &str, id: &str) -> Option<u64> {
        self.stream(app, id).map(|_| 3)
    }

    async fn subscribers(&self, _app: &str, id: &str, offset: usize, size: usize) -> Vec<Value> {
        (offset..offset.saturating_add(size).min(60))
            .map(|n| json!({"streamId": id, "subscriberId": n}))
            .collect()
    }

    fn end_if_left(&self, app: &str, id: &str) {
        if self.stream(app, id).is_some_and(|stream| stream.is_interrupted()) {
            self.0.note(format!("ends {id}"));
            self.0.hub.stop(&StreamKey::new(app, id), StopReason::Requested);
        }
    }

    async fn set_meta_data(&self, _app: &str, id: &str, meta_data: &str) -> Result<(), String> {
        self.0.note(format!("meta data {id} {meta_data}"));
        Ok(())
    }
}

/// A client without a socket.
pub(super) struct Talk {
    pub(super) connection: Connection,
    pub(super) inbox: Inbox,
}

impl Talk {
    pub(super) fn new(signalling: &Signalling) -> Self {
        Self::from(signalling, [192, 0, 2, 1])
    }

    pub(super) fn from(signalling: &Signalling, ip: [u8; 4]) -> Self {
        let client = Client { app: "live".into(), peer: (ip, 4000).into(), user_agent: "browser".into() };
        let Ok((connection, inbox)) = signalling.connect(client) else { panic!("full") };
        Talk { connection, inbox }
    }

    pub(super) async fn say(&mut self, command: Value) {
        self.connection.handle(&command.to_string(), Instant::now()).await.unwrap();
    }

    /// The next thing that is heard.
    pub(super) async fn hear(&mut self) -> Value {
        let text = tokio::time::timeout(Duration::from_secs(30), self.inbox.next()).await;
        serde_json::from_str(&text.expect("something is said").expect("the connection goes on")).unwrap()
    }

    /// The next thing that is heard, of which only this matters.
    pub(super) async fn hears(&mut self, field: &str) -> String {
        let said = self.hear().await;
        said[field].as_str().map_or_else(|| said.to_string(), str::to_owned)
    }

    /// Nothing is said for a while.
    pub(super) async fn hears_nothing(&mut self) {
        let said = tokio::time::timeout(Duration::from_secs(1), self.inbox.next()).await;
        assert!(said.is_err(), "{said:?}");
    }

    /// Publishes as the adaptor does, up to its answer and candidate.
    pub(super) async fn publishes(&mut self, stream: &str, main_track: &str) {
        self.say(json!({
            "command": "publish", "streamId": stream, "token": null, "subscriberId": "", "subscriberCode": "",
            "streamName": "", "mainTrack": main_track, "video": true, "audio": true, "metaData": "", "role": "",
        }))
        .await;
        assert_eq!(self.hears("command").await, "start");
        self.say(json!({"command": "takeConfiguration", "streamId": stream, "type": "offer", "sdp": "v=0"}))
            .await;
        let answer = self.hear().await;
        assert_eq!(
            (answer["type"].as_str(), answer["sdp"].as_str()),
            (Some("answer"), Some(SDP)),
            "{answer}"
        );
        assert_eq!(self.hears("command").await, "takeCandidate");
    }

    /// Plays as the adaptor does, up to its own answer; our offer.
    pub(super) async fn plays(&mut self, stream: &str) -> Value {
        self.say(json!({
            "command": "play", "streamId": stream, "token": "", "room": "", "trackList": [], "subscriberId": "",
            "subscriberCode": "", "viewerInfo": "", "role": "", "userPublishId": "",
        }))
        .await;
        self.answers(stream).await
    }

    /// Answers our next offer.
    pub(super) async fn answers(&mut self, stream: &str) -> Value {
        let offer = self.hear().await;
        assert_eq!(offer["type"], "offer", "{offer}");
        assert_eq!(self.hears("command").await, "takeCandidate");
        self.say(
            json!({"command": "takeConfiguration", "streamId": stream, "type": "answer", "sdp": "fine"}),
        )
        .await;
        offer
    }
}
