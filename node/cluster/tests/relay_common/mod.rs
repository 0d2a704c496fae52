//! Nodes in one process: hubs, relays, and connections between them that can be cut.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "shared by several tests, none of which needs all of it"
)]

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use sluice_cluster::member::NodeId;
use sluice_cluster::relay::{
    CarriedState, Connection, Dial, DialError, Follow, Offer, Offered, RelayServer, Relays, Serve, Source,
    Sources,
};
use sluice_media::ring::{Cursor, Peek};
use sluice_media::segmentation::Wish;
use sluice_media::{
    AudioConfig, Frame, Hub, Origin, Publisher, Stream, StreamKey, StreamSettings, Timestamp, TrackConfig,
    VideoConfig,
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::watch;

/// Breaks after so many bytes were read.
pub struct Cut {
    inner: DuplexStream,
    left: u64,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut bytes = [0; 4096];
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.remaining()).min(bytes.len());
        let mut part = ReadBuf::new(&mut bytes[..most]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        self.left -= part.filled().len() as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The network.
#[derive(Default)]
pub struct Net {
    servers: Mutex<HashMap<String, Arc<RelayServer>>>,
    connections: Mutex<Vec<(String, tokio::task::AbortHandle)>>,
    pub dials: AtomicU64,
    /// After how many bytes the next connections break, the last first.
    pub cuts: Mutex<Vec<u64>>,
}

impl Net {
    /// As if the process was killed: connections break, new ones are refused.
    pub fn kill(&self, node: &str) {
        self.servers.lock().expect("nobody panicked").remove(node);
        self.break_connections(node);
    }

    pub fn break_connections(&self, node: &str) {
        self.connections.lock().expect("nobody panicked").retain(|(name, task)| {
            if name == node {
                task.abort();
            }
            name != node
        });
    }

    pub fn dials(&self) -> u64 {
        self.dials.load(SeqCst)
    }
}

struct Wire {
    net: Arc<Net>,
    me: NodeId,
}

#[async_trait]
impl Dial for Wire {
    async fn dial(&self, addr: &str) -> Result<Box<dyn Connection>, DialError> {
        self.net.dials.fetch_add(1, SeqCst);
        let server = self.net.servers.lock().expect("nobody panicked").get(addr).cloned();
        let server = server.ok_or("nobody listens there")?;
        let (here, there) = tokio::io::duplex(64 << 10);
        let me = self.me.clone();
        let task = tokio::spawn(async move {
            let _ = server.serve(me, there).await;
        });
        self.net.connections.lock().expect("nobody panicked").push((addr.to_owned(), task.abort_handle()));
        let left = self.net.cuts.lock().expect("nobody panicked").pop().unwrap_or(u64::MAX);
        Ok(Box::new(Cut { inner: here, left }))
    }
}

/// What a node knows of who has what.
pub struct Known {
    pub sources: Mutex<HashMap<StreamKey, Vec<Source>>>,
    pub highest: Mutex<HashMap<StreamKey, u64>>,
    pub carrying: Mutex<Vec<(StreamKey, Option<CarriedState>)>>,
    changed: watch::Sender<u64>,
}

impl Known {
    pub fn new() -> Arc<Self> {
        Arc::new(Known {
            sources: Mutex::default(),
            highest: Mutex::default(),
            carrying: Mutex::default(),
            changed: watch::Sender::new(0),
        })
    }

    /// Nodes are reached under their names.
    pub fn set(&self, key: &StreamKey, sources: &[(&str, u64)]) {
        let source = |(node, epoch): &(&str, u64)| Source {
            node: NodeId::new(*node),
            addr: (*node).into(),
            epoch: *epoch,
        };
        self.sources
            .lock()
            .expect("nobody panicked")
            .insert(key.clone(), sources.iter().map(source).collect());
        self.changed.send_modify(|n| *n += 1);
    }

    pub fn set_at(&self, key: &StreamKey, node: &str, addr: String, epoch: u64) {
        let source = Source { node: NodeId::new(node), addr, epoch };
        self.sources.lock().expect("nobody panicked").insert(key.clone(), vec![source]);
        self.changed.send_modify(|n| *n += 1);
    }

    pub fn set_highest(&self, key: &StreamKey, epoch: u64) {
        self.highest.lock().expect("nobody panicked").insert(key.clone(), epoch);
        self.changed.send_modify(|n| *n += 1);
    }

    pub fn carried(&self) -> Option<CarriedState> {
        self.carrying.lock().expect("nobody panicked").last().and_then(|(_, state)| state.clone())
    }
}

impl Sources for Known {
    fn sources(&self, key: &StreamKey) -> Vec<Source> {
        self.sources.lock().expect("nobody panicked").get(key).cloned().unwrap_or_default()
    }
    fn highest_epoch(&self, key: &StreamKey) -> u64 {
        let told = self.sources(key).iter().map(|s| s.epoch).max().unwrap_or(0);
        told.max(self.highest.lock().expect("nobody panicked").get(key).copied().unwrap_or(0))
    }
    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
    fn carrying(&self, key: &StreamKey, state: Option<CarriedState>) {
        self.carrying.lock().expect("nobody panicked").push((key.clone(), state));
    }
}

/// What a node says of its streams: those it fetches as the relays say, all others are its own.
struct Says {
    hub: Arc<Hub>,
    relays: Arc<Relays>,
}

impl Offer for Says {
    fn describe(&self, key: &StreamKey) -> Option<Offered> {
        let stream = self.hub.get(key)?;
        if stream.is_relayed() {
            return self.relays.offered(key);
        }
        let hls = Bytes::from_static(b"{\"window\":7}");
        Some(Offered { epoch: stream.origin().epoch, path: Vec::new(), hls })
    }
}

pub struct Node {
    pub id: NodeId,
    pub hub: Arc<Hub>,
    pub relays: Arc<Relays>,
    pub server: Arc<RelayServer>,
    pub known: Arc<Known>,
}

impl Node {
    pub fn new(net: &Arc<Net>, name: &str) -> Node {
        Node::with(net, name, Follow::default(), Serve::default())
    }

    pub fn with(net: &Arc<Net>, name: &str, follow: Follow, serve: Serve) -> Node {
        let id = NodeId::new(name);
        let dial = Arc::new(Wire { net: net.clone(), me: id.clone() });
        let node = Node::dialling(name, dial, follow, serve);
        net.servers.lock().expect("nobody panicked").insert(name.into(), node.server.clone());
        node
    }

    pub fn dialling(name: &str, dial: Arc<dyn Dial>, follow: Follow, serve: Serve) -> Node {
        let id = NodeId::new(name);
        let hub = Hub::new(Duration::from_secs(10));
        let known = Known::new();
        let relays = Relays::new(hub.clone(), dial, known.clone(), id.clone(), follow);
        let offer = Arc::new(Says { hub: hub.clone(), relays: relays.clone() });
        let server = RelayServer::new(hub.clone(), id.clone(), offer, serve);
        Node { id, hub, relays, server, known }
    }
}

pub fn key() -> StreamKey {
    StreamKey::new("LiveApp", "cam1")
}

pub const SETTINGS: StreamSettings = StreamSettings {
    wish: Wish { segment: Duration::from_secs(1), part: Duration::from_millis(200) },
    retain: Duration::from_secs(30),
    retain_bytes: 64 << 20,
};

pub fn origin(epoch: u64) -> Origin {
    Origin { epoch, media_sequence: 10 * epoch, discontinuity_sequence: epoch, ..Origin::default() }
}

/// Publishes 25 pictures and 50 pieces of sound a second, on a clock of its own.
pub struct Camera {
    pub publisher: Publisher,
    next: i64,
    clock: (std::time::Instant, SystemTime),
    size: usize,
}

impl Camera {
    pub fn new(hub: &Arc<Hub>, epoch: u64) -> Camera {
        Camera::of(hub.publish(key(), origin(epoch), SETTINGS).expect("is free"))
    }

    pub fn of(mut publisher: Publisher) -> Camera {
        let avcc = Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0]);
        publisher.add_track(TrackConfig::Video(VideoConfig::h264(avcc).expect("avcC")));
        publisher.add_track(TrackConfig::Audio(
            AudioConfig::aac(Bytes::from_static(&[0x12, 0x10])).expect("an ASC"),
        ));
        publisher.set_metadata(vec![("encoder".into(), sluice_media::MetaValue::Text("a camera".into()))]);
        let clock = (std::time::Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        Camera { publisher, next: 0, clock, size: 900 }
    }

    pub fn with_pictures_of(mut self, size: usize) -> Camera {
        self.size = size;
        self
    }

    pub fn stream(&self) -> &Arc<Stream> {
        self.publisher.stream()
    }

    /// Films for so many 20 ms.
    pub fn film(&mut self, steps: u64) {
        for _ in 0..steps {
            let t = self.next * 20;
            self.next += 1;
            let at = Duration::from_millis(t as u64);
            let (now, wall) = (self.clock.0 + at, self.clock.1 + at + Duration::from_micros(333));
            if t % 40 == 0 {
                let keyframe = t % 1000 == 0;
                let size = self.size * if keyframe { 6 } else { 1 } + (t % 97) as usize;
                let frame = Frame {
                    dts: Timestamp::from_millis(t),
                    pts: Timestamp::from_millis(t + 80),
                    keyframe,
                    payload: payload(t, size),
                };
                self.publisher.write_at(0, frame, now, wall).expect("is live");
            }
            let (dts, pts) = (Timestamp::from_millis(t), Timestamp::from_millis(t));
            let frame = Frame { dts, pts, keyframe: true, payload: payload(t + 7, 100 + (t % 31) as usize) };
            self.publisher.write_at(1, frame, now, wall).expect("is live");
        }
        self.publisher.flush();
    }
}

fn payload(seed: i64, size: usize) -> Bytes {
    (0..size).map(|i| (seed as usize * 31 + i) as u8).collect::<Vec<u8>>().into()
}

/// Everything that is kept of a stream, as text: a line for each group and each frame, track by track.
pub fn dump(stream: &Stream) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for track in stream.tracks() {
        let mut lines = Vec::new();
        let mut cursor = Cursor::oldest(&track.ring, Duration::MAX);
        loop {
            match cursor.peek(&track.ring) {
                Peek::Group(g) => lines.push(format!("G {:?}", g.head)),
                Peek::Item(a) => {
                    let f = &a.frame;
                    let mut hasher = DefaultHasher::new();
                    f.payload.hash(&mut hasher);
                    let payload = (f.payload.len(), hasher.finish());
                    lines.push(format!("F {} {} {} {payload:?}", f.dts.0, f.pts.0, f.keyframe));
                }
                _ => break,
            }
            cursor.advance();
        }
        all.push(lines);
    }
    all
}

/// Tracks and times of all frames kept from the time `from` on, in the order of arrival.
pub fn arrivals(stream: &Stream, from: i64) -> Vec<(u8, Timestamp)> {
    let mut all = Vec::new();
    for track in stream.tracks() {
        let mut cursor = Cursor::oldest(&track.ring, Duration::MAX);
        loop {
            match cursor.peek(&track.ring) {
                Peek::Group(_) => {}
                Peek::Item(a) => all.push((a.order, track.id, a.frame.dts)),
                _ => break,
            }
            cursor.advance();
        }
    }
    all.sort_unstable();
    all.into_iter().map(|(_, track, dts)| (track, dts)).filter(|(_, t)| t.0 >= from).collect()
}

/// Waits until something is so, a minute of the runtime's clock at most.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(60);
    while tokio::time::Instant::now() < limit {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it did not come to this: {what}");
}
