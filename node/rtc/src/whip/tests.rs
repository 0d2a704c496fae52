//! Conversations over HTTP, with media that is only said to be there.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::body::Body;
use sluice_media::session::Refusal;
use sluice_media::{Hub, Origin, Publisher, StreamSettings};
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::open::{Link, Media, Running};
use super::*;
use crate::agreed::IceCredentials;
use crate::peer::Message;
use crate::sdp;
use crate::service::Refused;
use crate::transport::Closed;
use crate::{IceServer, SessionEvent};

/// Media that answers "answer" and remembers who asked.
struct Fake {
    asked: Mutex<Vec<(Role, session::Request)>>,
    events: Mutex<Vec<mpsc::Sender<SessionEvent>>>,
    closed: Arc<AtomicUsize>,
    sent: Sent,
    /// Both publishers and players have this stream.
    publisher: Publisher,
    servers: Vec<IceServer>,
}

/// What was sent over data channels: session, channel, text.
type Sent = Arc<Mutex<Vec<(u64, u16, String)>>>;

struct FakeLink {
    id: u64,
    sent: Sent,
    ice: IceCredentials,
    closed: Arc<AtomicUsize>,
}

impl Link for FakeLink {
    fn id(&self) -> u64 {
        self.id
    }
    fn send(&self, channel: u16, message: Message) {
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        self.sent.lock().unwrap().push((self.id, channel, text));
    }
    fn remote_ice(&self) -> IceCredentials {
        self.ice.clone()
    }
    fn restart(&mut self, theirs: IceCredentials) -> String {
        self.ice = theirs;
        "a=ice-ufrag:fresh\r\n".to_owned()
    }
    fn close(self: Box<Self>) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Media for Fake {
    async fn open(&self, role: Role, request: session::Request, offer: &str) -> Result<Running, Refused> {
        sdp::answer_publisher(offer, &sdp::tests::local(), &sdp::tests::takes())?;
        match &*request.key.id {
            "busy" => return Err(Refusal::InUse(request.key).into()),
            "gone" => return Err(Refusal::NotLive(request.key).into()),
            "draining" => return Err(Refusal::Draining.into()),
            _ => {}
        }
        self.asked.lock().unwrap().push((role, request));
        let (sender, events) = mpsc::channel(4);
        let id = {
            let mut events = self.events.lock().unwrap();
            events.push(sender);
            events.len() as u64
        };
        let ice = IceCredentials { ufrag: "uFrG".into(), pwd: "0123456789abcdefghijkl".into() };
        Ok(Running {
            answer: "answer".into(),
            streams: vec![self.publisher.stream().clone()],
            events,
            link: Box::new(FakeLink { id, sent: self.sent.clone(), ice, closed: self.closed.clone() }),
        })
    }

    fn ice_servers(&self) -> &[IceServer] {
        &self.servers
    }
}

struct Kit {
    router: Router,
    fake: Arc<Fake>,
    sessions: Arc<Sessions>,
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

impl Kit {
    fn new() -> Self {
        let key = StreamKey::new("live", "cam1");
        let publisher = Hub::new(Duration::ZERO)
            .publish(key, Origin::default(), StreamSettings::default())
            .unwrap_or_else(|why| panic!("{why}"));
        let fake = Arc::new(Fake {
            asked: Mutex::default(),
            events: Mutex::default(),
            closed: Arc::default(),
            sent: Sent::default(),
            publisher,
            servers: vec![IceServer {
                url: "stun:stun.example.net".into(),
                username: None,
                credential: None,
            }],
        });
        let sessions = Sessions::new();
        let client: ClientAddress = Arc::new(|headers, peer| {
            let named = headers.get("x-forwarded-for").and_then(|v| v.to_str().ok());
            named.and_then(|v| v.parse().ok()).map_or(peer, |ip| SocketAddr::new(ip, 0))
        });
        let router = over(Door {
            opens: fake.clone(),
            sessions: sessions.clone(),
            client,
            distributions: Arc::new(|_| Distribution::Publisher),
        });
        Kit { router, fake, sessions }
    }

    async fn send(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body.into()).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 9], 4000))));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.into()).unwrap(),
        }
    }

    async fn open(&self, uri: &str) -> Reply {
        self.send("POST", uri, &[("content-type", SDP)], sdp::tests::offer()).await
    }

    async fn settled(&self, count: usize) {
        for _ in 0..1000 {
            if self.sessions.len() == count {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{} sessions instead of {count}", self.sessions.len());
    }
}

#[tokio::test]
async fn a_publisher_comes_and_goes() {
    let kit = Kit::new();
    let headers = [
        ("content-type", "Application/SDP; charset=utf-8"),
        ("authorization", "Bearer secret"),
        ("user-agent", "OBS"),
        ("x-forwarded-for", "198.51.100.7"),
    ];
    let uri = "/LiveApp/whip/cam1?mainTrack=room&streamName=Front%20door";
    let created = kit.send("POST", uri, &headers, sdp::tests::offer()).await;
    assert_eq!((created.status, created.body.as_str()), (201, "answer"), "{}", created.body);
    assert_eq!(created.header("content-type"), SDP);
    assert_eq!(created.header("accept-patch"), FRAGMENT);
    assert_eq!(created.header("link"), "<stun:stun.example.net>; rel=\"ice-server\"");
    assert_eq!(created.header("access-control-allow-origin"), "*");
    assert!(created.header("access-control-expose-headers").contains("location"));
    let location = created.header("location").to_owned();
    let id = location.strip_prefix("/LiveApp/whip/cam1/").unwrap();
    assert_eq!(created.header("etag"), format!("\"{id}\""));
    assert_eq!(id.len(), 32);
    {
        let asked = kit.fake.asked.lock().unwrap();
        let (role, request) = &asked[0];
        assert_eq!(
            (*role, request.protocol, request.user_agent.as_str()),
            (Role::Publisher, Protocol::WebRtc, "OBS")
        );
        assert_eq!(request.peer.ip().to_string(), "198.51.100.7");
        let query: Vec<_> = request.query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(query, [("token", "secret"), ("mainTrack", "room"), ("streamName", "Front door")]);
    }
    for elsewhere in ["/LiveApp/whep/cam1", "/LiveApp/whip/cam2", "/Other/whip/cam1"] {
        assert_eq!(kit.send("DELETE", &format!("{elsewhere}/{id}"), &[], "").await.status, 404);
    }
    let gone = kit.send("DELETE", &location, &[], "").await;
    assert_eq!((gone.status, kit.fake.closed.load(Ordering::SeqCst), kit.sessions.len()), (200, 1, 0));
    assert_eq!(kit.send("DELETE", &location, &[], "").await.status, 404);
}

#[tokio::test]
async fn candidates_trickle_and_ice_restarts() {
    let kit = Kit::new();
    let created = kit.open("/LiveApp/whep/cam1").await;
    let (location, etag) = (created.header("location").to_owned(), created.header("etag").to_owned());
    let same = "a=ice-ufrag:uFrG\r\na=ice-pwd:0123456789abcdefghijkl\r\n\
                a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\na=end-of-candidates\r\n";
    let other = same.replace("uFrG", "other");
    let patch = async |tag: Option<&str>, kind: &str, text: &str| {
        let mut headers = vec![("content-type", kind)];
        headers.extend(tag.map(|tag| ("if-match", tag)));
        kit.send("PATCH", &location, &headers, text.to_owned()).await
    };
    assert_eq!(patch(Some(&etag), FRAGMENT, same).await.status, 204);
    assert_eq!(patch(Some("*"), FRAGMENT, "a=end-of-candidates\r\n").await.status, 204);
    assert_eq!(patch(None, FRAGMENT, same).await.status, 428);
    assert_eq!(patch(Some("\"old\""), FRAGMENT, same).await.status, 412);
    assert_eq!(patch(Some(&etag), FRAGMENT, "nonsense").await.status, 400);
    assert_eq!(patch(Some(&etag), SDP, same).await.status, 415);
    let restarted = patch(Some("*"), FRAGMENT, &other).await;
    assert_eq!((restarted.status, restarted.header("content-type")), (200, FRAGMENT));
    assert_eq!(restarted.body, "a=ice-ufrag:fresh\r\n");
    assert_ne!(restarted.header("etag"), etag);
    assert_eq!(patch(Some(&etag), FRAGMENT, &other).await.status, 412, "of the ICE session before");
    assert_eq!(patch(Some(restarted.header("etag")), FRAGMENT, &other).await.status, 204);
    assert_eq!(kit.send("PATCH", "/LiveApp/whep/cam1/x", &[("if-match", "*")], "").await.status, 404);
}

#[tokio::test]
async fn what_is_not_right_is_refused_with_a_sentence() {
    let kit = Kit::new();
    let sdp_type = [("content-type", SDP)];
    for (uri, headers, body, status) in [
        ("/LiveApp/whip/a", &[][..], sdp::tests::offer(), 415),
        ("/LiveApp/whip/a", &[("content-type", "application/json")][..], "{}".to_owned(), 415),
        ("/LiveApp/whip/a", &sdp_type[..], "hello".to_owned(), 400),
        ("/LiveApp/whip/a", &sdp_type[..], "x".repeat(LONGEST + 1), 413),
        (
            "/LiveApp/whip/a",
            &sdp_type[..],
            sdp::tests::offer().replace("/90000", "/1").replace("opus", "x"),
            406,
        ),
        ("/LiveApp/whip/busy", &sdp_type[..], sdp::tests::offer(), 409),
        ("/LiveApp/whep/gone", &sdp_type[..], sdp::tests::offer(), 404),
        ("/LiveApp/whep/draining", &sdp_type[..], sdp::tests::offer(), 503),
    ] {
        let reply = kit.send("POST", uri, headers, body).await;
        assert_eq!(reply.status, status, "{}", reply.body);
        assert!(
            reply.header("content-type").starts_with("text/plain") && reply.body.len() > 20,
            "{}",
            reply.body
        );
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        assert_eq!(reply.header("retry-after").is_empty(), status != 503);
    }
    let bytes = kit.send("POST", "/LiveApp/whip/a", &sdp_type, vec![0xff, 0xfe]).await;
    assert_eq!(bytes.status, 400);
    assert!(kit.sessions.is_empty());
}

#[tokio::test]
async fn other_methods_and_options() {
    let kit = Kit::new();
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH"] {
        let reply = kit.send(method, "/LiveApp/whip/a", &[], "").await;
        assert_eq!((reply.status, reply.header("allow")), (405, ENDPOINT), "{method}");
    }
    for method in ["GET", "HEAD", "PUT", "POST"] {
        let reply = kit.send(method, "/LiveApp/whip/a/b", &[], "").await;
        assert_eq!((reply.status, reply.header("allow")), (405, RESOURCE), "{method}");
    }
    let endpoint = kit.send("OPTIONS", "/LiveApp/whip/a", &[], "").await;
    assert_eq!((endpoint.status, endpoint.header("accept-post")), (204, SDP));
    assert!(endpoint.header("link").contains("stun:"));
    assert!(endpoint.header("access-control-allow-headers").contains("authorization"));
    let resource = kit.send("OPTIONS", "/LiveApp/whep/a/b", &[], "").await;
    assert_eq!((resource.status, resource.header("accept-patch")), (204, FRAGMENT));
    assert!(resource.header("access-control-allow-methods").contains("PATCH"));
}

#[tokio::test]
async fn sessions_leave_the_list_when_they_are_over() {
    let kit = Kit::new();
    for id in ["a", "b", "c", "d"] {
        assert_eq!(kit.open(&format!("/LiveApp/whep/{id}")).await.status, 201);
    }
    let events = std::mem::take(&mut *kit.fake.events.lock().unwrap());
    events[0].send(SessionEvent::Connected).await.unwrap();
    events[0].send(SessionEvent::Closed(Closed::Silent("nothing came".into()))).await.unwrap();
    kit.settled(3).await;
    assert_eq!(kit.fake.closed.load(Ordering::SeqCst), 0, "a broken connection is not a goodbye");
    events[1].send(SessionEvent::StreamEnded(0)).await.unwrap();
    kit.settled(2).await;
    assert_eq!(kit.fake.closed.load(Ordering::SeqCst), 1, "a player whose stream has ended is let go");
    let mut events = events.into_iter().skip(2);
    drop(events.next());
    kit.settled(1).await;
    assert_eq!((kit.sessions.close_all("the node is stopping", false), kit.sessions.len()), (1, 0));
    assert_eq!(kit.fake.closed.load(Ordering::SeqCst), 2);
    assert_eq!(kit.sessions.close_all("again", false), 0);
}

#[tokio::test]
async fn data_channels_are_bridged() {
    let kit = Kit::new();
    for path in ["whip", "whep", "whep"] {
        assert_eq!(kit.open(&format!("/LiveApp/{path}/cam1")).await.status, 201);
    }
    let events = kit.fake.events.lock().unwrap().clone();
    for (n, events) in (1..).zip(&events) {
        events.send(SessionEvent::Open { channel: n, label: "cam1".into() }).await.unwrap();
    }
    // Everything here runs on one thread and waits for no time.
    let all_have_run = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    all_have_run().await;
    let says = async |n: usize, text: &'static str| {
        let message = Message { text: true, payload: text.into() };
        let event = SessionEvent::Message { channel: 1, label: "cam1".into(), message };
        events[n].send(event).await.unwrap();
        all_have_run().await;
        let mut sent = std::mem::take(&mut *kit.fake.sent.lock().unwrap());
        sent.sort();
        sent
    };
    let both = [(2, 2, "hello".to_owned()), (3, 3, "hello".to_owned())];
    assert_eq!(says(0, "hello").await, both);
    assert_eq!(says(1, "hi").await, [(1, 1, "hi".to_owned())], "as the app has it");
}
