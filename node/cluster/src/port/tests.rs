use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::*;
use crate::identity::ClusterTls;

const KEY: &[u8] = b"a key for tests, long enough";
const SECOND: Duration = Duration::from_secs(1);

fn tls(id: &str) -> ClusterTls {
    ClusterTls::from_key(KEY, &NodeId::new(id)).unwrap()
}

/// Says hello to who connects, and tells the test who it was.
struct Greeter(&'static [u8], mpsc::UnboundedSender<String>);

#[async_trait]
impl Accept for Greeter {
    async fn accept(&self, peer: NodeId, _addr: SocketAddr, mut stream: Incoming) {
        let _ = stream.write_all(self.0).await;
        let _ = stream.flush().await;
        let _ = self.1.send(peer.to_string());
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
}

fn router() -> Router {
    let connections = Arc::new(Mutex::new(HashSet::new()));
    Router::new()
        .route("/who", get(|peer: axum::Extension<NodeId>| async move { peer.to_string() }))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_secs(30)).await;
            }),
        )
        .route(
            "/connections",
            get(move |ConnectInfo(addr): ConnectInfo<SocketAddr>| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let mut seen = connections.lock().unwrap();
                seen.insert(addr);
                seen.len().to_string()
            }),
        )
}

struct Node {
    port: ClusterPort,
    addr: String,
    greeted: mpsc::UnboundedReceiver<String>,
}

fn node_at(id: &str, listener: std::net::TcpListener, limits: Limits) -> Node {
    let (tell, greeted) = mpsc::unbounded_channel();
    let handlers = Handlers {
        relay: Arc::new(Greeter(b"relay", tell.clone())),
        mesh: Arc::new(Greeter(b"mesh", tell)),
        requests: router(),
        operator: axum::Router::new(),
        limits,
    };
    let port = ClusterPort::serve(vec![listener], &tls(id), handlers).unwrap();
    let addr = port.addresses()[0].to_string();
    Node { port, addr, greeted }
}

fn node(id: &str, limits: Limits) -> Node {
    node_at(id, std::net::TcpListener::bind("127.0.0.1:0").unwrap(), limits)
}

fn request(path: &str) -> http::Request<Bytes> {
    http::Request::get(path).body(Bytes::new()).unwrap()
}

fn text(answer: &http::Response<Bytes>) -> &str {
    std::str::from_utf8(answer.body()).unwrap()
}

#[tokio::test]
async fn alpn_tells_who_serves() {
    let mut node = node("b", Limits::default());
    let client = Client::new(&tls("a"));
    for (alpn, word) in [(Alpn::Relay, "relay"), (Alpn::Mesh, "mesh")] {
        let mut stream = client.dial(&node.addr, alpn).await.unwrap();
        assert_eq!(crate::identity::peer_node(stream.get_ref().1), Some(NodeId::new("b")));
        let mut read = vec![0; word.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(read, word.as_bytes());
        assert_eq!(node.greeted.recv().await.unwrap(), "a");
    }
}

#[tokio::test]
async fn requests_know_who_asks_and_share_a_connection() {
    let node = node("b", Limits::default());
    let client = Client::new(&tls("a"));
    assert_eq!(text(&client.request(&node.addr, request("/who"), 10 * SECOND).await.unwrap()), "a");
    let all = (0..100).map(|_| {
        let (client, addr) = (client.clone(), node.addr.clone());
        tokio::spawn(
            async move { client.request(&addr, request("/connections"), 10 * SECOND).await.unwrap() },
        )
    });
    for answer in all.collect::<Vec<_>>() {
        assert_eq!(text(&answer.await.unwrap()), "1");
    }
}

#[tokio::test]
async fn bodies_come_back_whole_and_are_bounded() {
    let node = node("b", Limits { body: 3 << 20, ..Limits::default() });
    let client = Client::new(&tls("a"));
    let post = |size: usize| http::Request::post("/echo").body(Bytes::from(vec![7; size])).unwrap();
    let answer = client.request(&node.addr, post(3 << 20), 10 * SECOND).await.unwrap();
    assert!(answer.body().len() == 3 << 20 && answer.body().iter().all(|byte| *byte == 7));
    let answer = client.request(&node.addr, post((3 << 20) + 1), 10 * SECOND).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let error = client.ask(&node.addr, request("/nowhere"), 10 * SECOND).await.unwrap_err();
    assert!(matches!(&error, PortError::Status { status: StatusCode::NOT_FOUND, .. }), "{error}");
    assert!(!error.is_unreachable());
}

#[tokio::test]
async fn a_node_that_was_restarted_is_asked_again_at_once() {
    let node = node("b", Limits::default());
    let client = Client::new(&tls("a"));
    client.request(&node.addr, request("/who"), 10 * SECOND).await.unwrap();
    let addr = node.addr.clone();
    drop(node);
    let gone = loop {
        // Until the listener is closed, too.
        match client.request(&addr, request("/who"), 10 * SECOND).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => break error,
        }
    };
    assert!(gone.is_unreachable(), "{gone}");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&addr.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(16).unwrap();
    let _node = node_at("c", socket.into(), Limits::default());
    assert_eq!(text(&client.request(&addr, request("/who"), 10 * SECOND).await.unwrap()), "a");
}

#[tokio::test]
async fn limits_of_time_hold_and_do_not_spoil_the_next_request() {
    let node = node("b", Limits::default());
    let client = Client::new(&tls("a"));
    let began = Instant::now();
    let error = client.request(&node.addr, request("/slow"), Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, PortError::Timeout { .. }) && began.elapsed() < 5 * SECOND);
    assert_eq!(text(&client.request(&node.addr, request("/who"), 10 * SECOND).await.unwrap()), "a");

    // Somebody who listens and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let began = Instant::now();
    let error = client.request(&addr, request("/who"), Duration::from_millis(200)).await.unwrap_err();
    assert!(error.is_unreachable() && began.elapsed() < 5 * SECOND, "{error}");
    assert!(client.dial(&addr, Alpn::Relay).await.unwrap_err().is_unreachable());
    drop(silent);
    assert!(client.dial(&addr, Alpn::Relay).await.unwrap_err().is_unreachable());
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let mut node = node("b", Limits::default());
    let stranger = ClusterTls::from_key(b"the key of another cluster", &NodeId::new("a")).unwrap();
    let error = Client::new(&stranger).dial(&node.addr, Alpn::Mesh).await.unwrap_err();
    assert!(matches!(error, PortError::Refused { .. }), "{error}");
    assert!(node.greeted.try_recv().is_err());
}

#[tokio::test]
async fn without_tls_there_is_nothing_but_an_alert() {
    let node = node("b", Limits::default());
    for words in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[3; 1537]]
    {
        let mut stream = TcpStream::connect(&node.addr).await.unwrap();
        stream.write_all(words).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an answer as good as an end.
        let _ = tokio::time::timeout(5 * SECOND, stream.read_to_end(&mut answer)).await.expect("it ends");
        assert!(answer.is_empty() || (answer[0] == 21 && answer.len() == 7), "{answer:?}");
    }
}

#[tokio::test]
async fn slow_handshakes_are_cut_and_leave_room_for_others() {
    let limits = Limits { handshake: 2 * SECOND, handshakes_per_address: 8, ..Limits::default() };
    let node = node("b", limits);
    let mut idle = Vec::new();
    for _ in 0..32 {
        idle.push(TcpStream::connect(&node.addr).await.unwrap());
    }
    // All places of this address are taken; another address of this machine still comes in.
    let client = Client::new(&tls("a"));
    assert!(client.dial(&node.addr, Alpn::Mesh).await.is_err());
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let stream = socket.connect(node.addr.parse().unwrap()).await.unwrap();
    let any = rustls::pki_types::ServerName::try_from("any").unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls("a").client(Alpn::Mesh));
    connector.connect(any, stream).await.unwrap();
    // The idle ones are closed, and their places are free.
    for mut stream in idle {
        let mut end = Vec::new();
        let _ = tokio::time::timeout(10 * SECOND, stream.read_to_end(&mut end)).await.expect("closed");
    }
    client.dial(&node.addr, Alpn::Mesh).await.unwrap();
}

#[tokio::test]
async fn closing_ends_what_is_open() {
    let mut node = node("b", Limits::default());
    let mut stream = Client::new(&tls("a")).dial(&node.addr, Alpn::Mesh).await.unwrap();
    node.greeted.recv().await.unwrap();
    node.port.close();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(5 * SECOND, stream.read_to_end(&mut rest)).await.expect("it ends");
    assert!(TcpStream::connect(&node.addr).await.is_err());
}
