//! AMS's signalling: what a client says, line by line, to a node whose media only pretends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Value, json};
use sluice_media::session::{Refusal, Request};
use sluice_media::{Hub, Origin, Publisher, Stream, StreamKey, StreamSettings};
use sluice_rtc::SessionEvent;
use sluice_rtc::egress::Quality;
use sluice_rtc::peer::Message;
use sluice_rtc::service::{Gathered, Refused};
use sluice_rtc::signal::{
    Again, AppSettings, Client, Directory, Limits, Link, Media, Rendition, Running, Signalling, Subtrack,
    message,
};
use tokio::sync::{mpsc, watch};

/// Parts of commands.
pub(crate) const WORDS: &[&[u8]] = &[
    b"{\"command\":\"publish\",\"streamId\":\"a\",\"mainTrack\":\"room\"}\n",
    b"{\"command\":\"takeConfiguration\",\"streamId\":\"a\",\"type\":\"offer\",\"sdp\":\"v=0\"}\n",
    b"{\"command\":\"play\",\"streamId\":\"room\",\"trackList\":[\"!a\"]}\n",
    b"{\"command\":\"takeConfiguration\",\"streamId\":\"room\",\"type\":\"answer\",\"sdp\":\"v=0\"}\n",
    b"{\"command\":\"stop\",\"streamId\":\"a\"}\n",
    b"{\"command\":\"join\",\"streamId\":\"a\",\"multiPeer\":true}\n",
    b"{\"command\":\"joinRoom\",\"room\":\"room\"}\n",
    b"{\"command\":\"forceStreamQuality\",\"streamId\":\"room\",\"streamHeight\":\"auto\"}\n",
    b"\"getSubtracks\"",
    b"\"offset\":18446744073709551615",
];

/// More lines than this are not looked at: a client that says so much is let go.
const LINES: usize = 150;

/// Every line is answered in JSON or not at all, ids are ids, and when the client has gone no session stays.
pub(crate) fn conversation(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O").block_on(converse(&text));
}

async fn converse(text: &str) {
    let node = Arc::new(Node {
        hub: Hub::new(Duration::ZERO),
        open: AtomicUsize::new(0),
        changes: watch::Sender::new(0),
    });
    let media = Arc::new(Pretending(node.clone()));
    let signalling = Signalling::new(media.clone(), media, Vec::new(), Limits::default(), 1);
    let client = Client { app: "live".into(), peer: ([192, 0, 2, 1], 1).into(), user_agent: String::new() };
    let Ok((mut connection, mut inbox)) = signalling.connect(client) else { panic!("the only one") };
    let began = Instant::now();
    for (n, line) in text.lines().take(LINES).enumerate() {
        let (Ok((_, stream)) | Err((_, stream))) = message::parse(line);
        assert!(stream.is_empty() || message::valid_id(&stream), "{stream:?}");
        let now = began + Duration::from_secs(n as u64);
        assert!(connection.handle(line, now).await.is_ok(), "one message a second is not too much");
        tokio::time::sleep(Duration::from_millis(300)).await;
        while let Some(said) = inbox.try_next() {
            let said: Value = serde_json::from_str(&said).expect("answers are JSON");
            assert!(said["command"].is_string(), "{said}");
        }
    }
    drop(connection);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(
        (node.open.load(Ordering::Relaxed), signalling.connections()),
        (0, 0),
        "sessions that nobody has"
    );
}

struct Node {
    hub: Arc<Hub>,
    open: AtomicUsize,
    changes: watch::Sender<u64>,
}

struct Pretending(Arc<Node>);

impl Pretending {
    fn running(&self, publisher: Option<Publisher>, streams: Vec<Arc<Stream>>, again: Again) -> Running {
        let (tell, events) = mpsc::channel(4);
        let told = [SessionEvent::Connected, SessionEvent::Rendition(7, 480)];
        told.into_iter().for_each(|event| tell.try_send(event).expect("there is room"));
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.0.changes.send_modify(|n| *n += 1);
        let link = Box::new(Pretended { node: self.0.clone(), publisher, gathers: Vec::new(), _tell: tell });
        Running { sdp: again.sdp, mids: again.mids, streams, events, link }
    }
}

impl Node {
    fn offer(&self, requests: &[(Request, String)]) -> Result<Again, Refused> {
        let stream = |(request, _): &(Request, String)| {
            let stream = self.hub.get(&request.key).filter(|stream| !stream.is_ended());
            stream.ok_or_else(|| Refused::from(Refusal::NotLive(request.key.clone())))
        };
        let streams = requests.iter().map(stream).collect::<Result<_, _>>()?;
        let mids =
            requests.iter().enumerate().map(|(n, (_, name))| (n.to_string(), format!("ARDAMSv{name}")));
        Ok(Again { sdp: "v=0".into(), mids: mids.collect(), streams })
    }
}

#[async_trait]
impl Media for Pretending {
    async fn publish(&self, request: Request, offer: &str) -> Result<Running, Refused> {
        let key = request.key;
        let publisher = self.0.hub.publish(key.clone(), Origin::default(), StreamSettings::default());
        let publisher = publisher.map_err(|_| Refusal::InUse(key))?;
        let streams = vec![publisher.stream().clone()];
        let again = Again { sdp: offer.to_owned(), mids: Vec::new(), streams: Vec::new() };
        Ok(self.running(Some(publisher), streams, again))
    }

    async fn offer(&self, requests: Vec<(Request, String)>) -> Result<Running, Refused> {
        let again = self.0.offer(&requests)?;
        let streams = again.streams.clone();
        Ok(self.running(None, streams, again))
    }
}

struct Pretended {
    node: Arc<Node>,
    publisher: Option<Publisher>,
    /// What is to be offered next.
    gathers: Vec<(Request, String)>,
    _tell: mpsc::Sender<SessionEvent>,
}

impl Link for Pretended {
    fn id(&self) -> u64 {
        1
    }

    fn send(&mut self, _channel: u16, _message: Message) {}

    fn set_quality(&mut self, _feed: usize, _quality: Quality) {}

    fn enable(&mut self, _mid: &str, _enabled: bool) {}

    fn close(mut self: Box<Self>) {
        if let Some(publisher) = self.publisher.take() {
            publisher.finish();
        }
    }

    fn answer(&mut self, offer: &str) -> Result<String, Refused> {
        Ok(offer.to_owned())
    }

    fn accept(&mut self, _answer: &str) -> Result<(), Refused> {
        Ok(())
    }

    fn gather(
        &mut self,
        requests: Vec<(Request, String)>,
    ) -> Pin<Box<dyn Future<Output = Result<Gathered, Refused>> + Send + 'static>> {
        self.gathers = requests;
        Box::pin(async { Ok(Gathered::default()) })
    }

    fn again(&mut self, _gathered: Gathered) -> Result<Again, Refused> {
        self.node.offer(&self.gathers)
    }
}

impl Drop for Pretended {
    fn drop(&mut self) {
        self.node.open.fetch_sub(1, Ordering::Relaxed);
        self.node.changes.send_modify(|n| *n += 1);
    }
}

/// All streams belong to the main track `room`.
#[async_trait]
impl Directory for Pretending {
    fn app(&self, _app: &str) -> Option<AppSettings> {
        Some(AppSettings::default())
    }

    async fn broadcast(&self, _app: &str, id: &str) -> Option<Value> {
        Some(json!({"streamId": id}))
    }

    async fn subtracks(&self, _app: &str, main: &str) -> Option<Vec<Subtrack>> {
        let live = self.0.hub.streams().into_iter().filter(|stream| !stream.is_ended());
        let subtrack =
            |stream: Arc<Stream>| Subtrack { id: stream.key().id.to_string(), ..Subtrack::default() };
        (main == "room").then(|| live.map(subtrack).collect())
    }

    fn changes(&self, _app: &str) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    async fn renditions(&self, app: &str, id: &str) -> Option<Vec<Rendition>> {
        let stream = self.0.hub.get(&StreamKey::new(app, id)).filter(|stream| !stream.is_ended());
        stream.map(|_| vec![Rendition::default()])
    }

    async fn viewers(&self, _app: &str, _id: &str) -> Option<u64> {
        None
    }

    async fn subscribers(&self, _app: &str, _id: &str, _offset: usize, size: usize) -> Vec<Value> {
        vec![Value::Null; size.min(3)]
    }

    fn end_if_left(&self, _app: &str, _id: &str) {}

    async fn set_meta_data(&self, _app: &str, _id: &str, _meta_data: &str) -> Result<(), String> {
        Err("not here".into())
    }
}
