//! The operator at the cluster port of a node: who gets in, where to, and what its client says of what goes wrong.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Json;
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use sluice_cluster::identity::{Alpn, ClusterTls, NodeId, OperatorAuthority, OperatorTls};
use sluice_cluster::port::{
    Accept, Client as NodeClient, ClusterPort, Handlers, Incoming, Limits, PortError,
};
use sluice_control::{Client, ControlError, Drain, Report, paths};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

const KEY: &[u8] = b"a key for tests, long enough";
const SOON: Duration = Duration::from_secs(5);

/// Tells the test that somebody was let in.
struct Told(mpsc::UnboundedSender<String>);

#[async_trait]
impl Accept for Told {
    async fn accept(&self, peer: NodeId, _addr: SocketAddr, _stream: Incoming) {
        let _ = self.0.send(peer.to_string());
    }
}

struct Node {
    tls: ClusterTls,
    addr: String,
    told: mpsc::UnboundedReceiver<String>,
    _port: ClusterPort,
}

fn of_operator() -> axum::Router {
    let report = || async { Json(Report { node: "origin-0".into(), revision: 7, ..Report::default() }) };
    let busy = || async { (StatusCode::CONFLICT, r#"{"message":"this node is stopping"}"#) };
    axum::Router::new()
        .route(paths::REPORT, get(report))
        .route(paths::DRAIN, axum::routing::post(busy))
        .route(paths::APPS, axum::routing::put(|| async { "x".repeat(2 << 20) }))
        .route(paths::SETTINGS, axum::routing::put(|| async { "[" }))
}

fn node(authority: Option<&OperatorAuthority>) -> Node {
    let tls = ClusterTls::from_key(KEY, &NodeId::new("origin-0")).unwrap();
    if let Some(authority) = authority {
        tls.trust_operator(Some(authority.certificate_pem().as_bytes())).unwrap();
    }
    let (tell, told) = mpsc::unbounded_channel();
    let handlers = Handlers {
        relay: Arc::new(Told(tell.clone())),
        mesh: Arc::new(Told(tell)),
        requests: axum::Router::new().route("/v1/tail", get(|| async { "of nodes" })),
        operator: of_operator(),
        limits: Limits::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = ClusterPort::serve(vec![listener], &tls, handlers).unwrap();
    let addr = port.addresses()[0].to_string();
    Node { tls, addr, told, _port: port }
}

fn client(authority: &OperatorAuthority, key: &[u8], node: &str, addr: &str) -> Client {
    let tls = OperatorTls::from_key(authority, key).unwrap();
    Client::new(&tls, NodeId::new(node), addr).unwrap()
}

async fn report(client: &Client) -> Result<Report, ControlError> {
    client.report(None, Duration::ZERO).await
}

/// An operator that asks for what its client never asks for.
async fn ask_as_operator(authority: &OperatorAuthority, addr: &str, path: &str) -> StatusCode {
    let tls = OperatorTls::from_key(authority, KEY).unwrap().client(&NodeId::new("origin-0")).unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    let stream = TlsConnector::from(tls).connect("any".try_into().unwrap(), stream).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("https://node{path}");
    let request = http::Request::get(uri).body(http_body_util::Full::new(Bytes::new())).unwrap();
    sender.send_request(request).await.unwrap().status()
}

#[tokio::test]
async fn each_reaches_its_own_routes_and_no_others() {
    let authority = OperatorAuthority::generate().unwrap();
    let mut here = node(Some(&authority));

    // The operator reaches what is for it ...
    assert_eq!(report(&client(&authority, KEY, "origin-0", &here.addr)).await.unwrap().revision, 7);
    assert_eq!(ask_as_operator(&authority, &here.addr, paths::REPORT).await, StatusCode::OK);
    // ... and nothing that is for nodes: no route, no relay, no mesh.
    assert_eq!(ask_as_operator(&authority, &here.addr, "/v1/tail").await, StatusCode::NOT_FOUND);
    for alpn in [Alpn::Relay, Alpn::Mesh] {
        let tls = OperatorTls::from_key(&authority, KEY).unwrap().client(&NodeId::new("origin-0")).unwrap();
        let mut tls = (*tls).clone();
        tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let stream = TcpStream::connect(&here.addr).await.unwrap();
        let connector = TlsConnector::from(Arc::new(tls));
        let mut stream = connector.connect("any".try_into().unwrap(), stream).await.unwrap();
        let mut end = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut end);
        let _ = tokio::time::timeout(SOON, read).await.expect("closed");
        assert!(end.is_empty() && here.told.try_recv().is_err());
    }

    // A node reaches what is for nodes ...
    let other = NodeClient::new(&ClusterTls::from_key(KEY, &NodeId::new("sluice-operator")).unwrap());
    let ask = |path: &str| http::Request::get(path).body(Bytes::new()).unwrap();
    assert_eq!(other.ask(&here.addr, ask("/v1/tail"), SOON).await.unwrap().body(), "of nodes");
    other.dial(&here.addr, Alpn::Mesh).await.unwrap();
    assert_eq!(here.told.recv().await.unwrap(), "sluice-operator");
    // ... and nothing that is for the operator.
    for path in [paths::REPORT, paths::DRAIN, paths::APPS, paths::SETTINGS] {
        let error = other.ask(&here.addr, ask(path), SOON).await.unwrap_err();
        assert!(matches!(error, PortError::Status { status: StatusCode::NOT_FOUND, .. }), "{path}: {error}");
    }
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let authority = OperatorAuthority::generate().unwrap();
    let here = node(Some(&authority));
    let kind = |error: ControlError| {
        println!("{error}");
        error.kind()
    };

    let stranger = OperatorAuthority::generate().unwrap();
    let refused = report(&client(&stranger, KEY, "origin-0", &here.addr)).await.unwrap_err();
    assert_eq!(kind(refused), "refused", "its CA is not the one that the node knows");
    let refused = report(&client(&authority, b"the key of another cluster", "origin-0", &here.addr)).await;
    assert_eq!(kind(refused.unwrap_err()), "refused", "a node of another cluster");
    let other = report(&client(&authority, KEY, "origin-1", &here.addr)).await.unwrap_err();
    assert!(
        matches!(&other, ControlError::NotThisNode { found, .. } if found.as_str() == "origin-0"),
        "{other}"
    );

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let asking = client(&authority, KEY, "origin-0", &addr);
    let began = Instant::now();
    let error = report(&asking).await.unwrap_err();
    assert!(error.is_unreachable() && began.elapsed() < SOON, "{error}");
    drop(silent);
    assert_eq!(kind(report(&asking).await.unwrap_err()), "unreachable");

    let asking = client(&authority, KEY, "origin-0", &here.addr);
    let denied = asking.drain(&Drain::default()).await.unwrap_err();
    assert!(
        matches!(&denied, ControlError::Denied { status: 409, message, .. } if message == "this node is stopping"),
        "{denied}"
    );
    assert_eq!(kind(asking.apply_apps(&Default::default()).await.unwrap_err()), "bad_answer", "too long");
    assert_eq!(kind(asking.apply_settings(&Default::default()).await.unwrap_err()), "bad_answer");
    assert_eq!(report(&asking).await.unwrap().node, "origin-0", "the connection is none the worse");
}

#[tokio::test]
async fn an_authority_that_is_replaced_ends_what_it_opened() {
    let (first, second) = (OperatorAuthority::generate().unwrap(), OperatorAuthority::generate().unwrap());
    let here = node(Some(&first));
    let (old, new) =
        (client(&first, KEY, "origin-0", &here.addr), client(&second, KEY, "origin-0", &here.addr));
    report(&old).await.unwrap();
    assert!(matches!(report(&new).await, Err(ControlError::Refused { .. })));
    here.tls.trust_operator(Some(second.certificate_pem().as_bytes())).unwrap();
    // The first question finds its connection closed, the next one is refused for what it shows.
    assert!(report(&old).await.is_err());
    assert!(matches!(report(&old).await, Err(ControlError::Refused { .. })));
    report(&new).await.unwrap();
}

#[tokio::test]
async fn a_node_without_the_operators_ca_knows_no_operator() {
    let authority = OperatorAuthority::generate().unwrap();
    let here = node(None);
    let error = report(&client(&authority, KEY, "origin-0", &here.addr)).await.unwrap_err();
    assert!(matches!(error, ControlError::Refused { .. }), "{error}");
}
