//! The server over real sockets, with short times.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::ConnectInfo;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::routing::{get, post};
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::{self, Config, Sources};

const SEGMENT: usize = 12 << 20;

struct Playback;

impl Streams for Playback {
    async fn handle(&self, head: &Parts, peer: SocketAddr) -> Response<Bytes> {
        assert!(peer.ip().is_loopback());
        match head.uri.path() {
            "/live/streams/big.m4s" => Response::new(Bytes::from(vec![7; SEGMENT])),
            "/live/streams/held.m3u8" => {
                tokio::time::sleep(Duration::from_millis(600)).await;
                Response::new(Bytes::from_static(b"held"))
            }
            "/live/streams/forever.m3u8" => std::future::pending().await,
            _ => Response::new(Bytes::from_static(b"playlist")),
        }
    }
}

fn router() -> axum::Router {
    axum::Router::new()
        .route("/whoami", get(async |ConnectInfo(addr): ConnectInfo<SocketAddr>| addr.ip().to_string()))
        .route(
            "/host",
            get(async |headers: http::HeaderMap| {
                headers["host"].to_str().map(str::to_owned).unwrap_or_default()
            }),
        )
        .route("/slow", post(async || std::future::pending::<()>().await))
        .route("/echo", get(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo)))
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

fn config(settings: &[(&str, &str)]) -> Config {
    let flags = settings.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    config::load(&Sources { flags, ..Sources::default() }).unwrap().config
}

fn server(settings: &[(&str, &str)]) -> Server<Dispatch<Playback>> {
    let config = config(settings);
    let dispatch = Dispatch::new(Playback, router(), config.http_request_timeout);
    Server::new(Limits::from(&config), dispatch)
}

fn serve(server: &Server<Dispatch<Playback>>, tls: Option<Arc<rustls::ServerConfig>>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    server.serve(listener, tls).unwrap();
    addr
}

async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let mut buf = [0; 4096];
    loop {
        let n = stream.read(&mut buf).await.unwrap();
        text.extend_from_slice(&buf[..n]);
        let so_far = String::from_utf8_lossy(&text);
        let complete = so_far.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            request.starts_with("HEAD") || body.len() >= length.parse::<usize>().unwrap()
        });
        if n == 0 || complete {
            return so_far.into_owned();
        }
    }
}

fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// Reads until the server closes; how long that took.
async fn closed_after(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    let mut sink = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut sink))
        .await
        .expect("closed in time");
    start.elapsed()
}

#[tokio::test]
async fn playback_and_the_rest_share_a_connection() {
    let server = server(&[]);
    let mut stream = TcpStream::connect(serve(&server, None)).await.unwrap();
    assert!(exchange(&mut stream, &get_request("/live/streams/a.m3u8")).await.ends_with("\r\n\r\nplaylist"));
    assert!(exchange(&mut stream, &get_request("/whoami")).await.ends_with("\r\n\r\n127.0.0.1"));
    let head = exchange(&mut stream, "HEAD /live/streams/a.m3u8 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(head.contains("content-length: 8\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(exchange(&mut stream, &get_request("/nothing")).await.starts_with("HTTP/1.1 404"));
    let traffic = server.traffic();
    assert_eq!((traffic.open, traffic.accepted), (1, 1));
    assert!(traffic.bytes_in > 100 && traffic.bytes_out > 300);
}

#[tokio::test]
async fn a_header_that_is_too_large_is_refused() {
    let server = server(&[("http_max_header_size", "8KiB")]);
    let addr = serve(&server, None);
    for header in [format!("x: {}\r\n", "y".repeat(9000)), "x: y\r\n".repeat(101)] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let answer = exchange(&mut stream, &format!("GET / HTTP/1.1\r\nHost: h\r\n{header}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn slow_and_silent_clients_are_closed() {
    let server = server(&[("http_header_timeout", "1s"), ("http_idle_timeout", "2s")]);
    let addr = serve(&server, None);
    let mut silent = TcpStream::connect(addr).await.unwrap();
    let mut dripping = TcpStream::connect(addr).await.unwrap();
    dripping.write_all(b"GET / HT").await.unwrap();
    let mut idle = TcpStream::connect(addr).await.unwrap();
    assert!(exchange(&mut idle, &get_request("/whoami")).await.starts_with("HTTP/1.1 200"));
    let (a, b, c) =
        tokio::join!(closed_after(&mut silent), closed_after(&mut dripping), closed_after(&mut idle));
    for (time, limit) in [(a, 1), (b, 1), (c, 2)] {
        assert!(
            time > Duration::from_millis(limit * 1000 - 200) && time < Duration::from_secs(limit + 4),
            "{time:?}"
        );
    }
    assert_eq!(server.traffic().open, 0);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed_and_one_that_is_slow_is_not() {
    let server = server(&[("http_write_timeout", "1s")]);
    let addr = serve(&server, None);
    let connect = async || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let mut stream = socket.connect(addr).await.unwrap();
        stream.write_all(get_request("/live/streams/big.m4s").as_bytes()).await.unwrap();
        stream
    };
    let _stuck = connect().await;
    let mut slow = connect().await;
    let slow = tokio::spawn(async move {
        let mut got = 0;
        let mut buf = vec![0; 64 << 10];
        while got < SEGMENT {
            tokio::time::sleep(Duration::from_millis(20)).await;
            match slow.read(&mut buf).await {
                Ok(0) | Err(_) => break,
                Ok(n) => got += n,
            }
        }
        got
    });
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!((server.traffic().open, slow.is_finished()), (1, false), "only the stuck one is gone");
    assert!(slow.await.unwrap() >= SEGMENT);
}

#[tokio::test]
async fn one_client_cannot_take_all_places() {
    let server = server(&[("http_max_connections_per_ip", "2")]);
    let addr = serve(&server, None);
    let mut first = TcpStream::connect(addr).await.unwrap();
    let mut second = TcpStream::connect(addr).await.unwrap();
    for stream in [&mut first, &mut second] {
        assert!(exchange(stream, &get_request("/whoami")).await.starts_with("HTTP/1.1 200"));
    }
    let mut third = TcpStream::connect(addr).await.unwrap();
    let mut answer = String::new();
    let _ = third.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    drop(first);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut fourth = TcpStream::connect(addr).await.unwrap();
    assert!(exchange(&mut fourth, &get_request("/whoami")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_rest_request_has_its_time_and_playback_has_not() {
    let server = server(&[("http_request_timeout", "1s")]);
    let addr = serve(&server, None);
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let slow = "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    let answer = exchange(&mut stream, slow).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("took too long"), "{answer}");
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_no_more() {
    let server = server(&[]);
    let addr = serve(&server, None);
    let mut held = TcpStream::connect(addr).await.unwrap();
    held.write_all(get_request("/live/streams/held.m3u8").as_bytes()).await.unwrap();
    let mut idle = TcpStream::connect(addr).await.unwrap();
    assert!(exchange(&mut idle, &get_request("/whoami")).await.starts_with("HTTP/1.1 200"));
    let silent = TcpStream::connect(addr).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;

    let stop = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(Duration::from_secs(5)).await }
    });
    assert!(closed_after(&mut idle).await < Duration::from_millis(300));
    let mut answer = String::new();
    held.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("held") && answer.contains("connection: close"), "{answer}");
    assert!(stop.await.unwrap());
    assert!(TcpStream::connect(addr).await.is_err(), "nothing is accepted any more");
    drop(silent);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let server = server(&[]);
    let addr = serve(&server, None);
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(get_request("/live/streams/forever.m3u8").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!server.shutdown(Duration::from_millis(200)).await);
    assert_eq!(server.traffic().open, 0);
}

/// A WebSocket that is open.
async fn websocket(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = "GET /echo HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = exchange(&mut stream, request).await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("connection: upgrade\r\n"), "{answer}");
    stream
}

/// Says "hi", masked with zeros, and hears it.
async fn echoes(stream: &mut TcpStream) -> bool {
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
    let mut heard = [0; 4];
    let within = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut heard)).await;
    within.is_ok_and(|read| read.is_ok()) && heard == [0x81, 2, b'h', b'i']
}

#[tokio::test]
async fn a_websocket_outlives_the_times_of_requests_and_a_stop() {
    let config =
        config(&[("http_idle_timeout", "1s"), ("http_header_timeout", "1s"), ("http_request_timeout", "1s")]);
    let dispatch =
        Dispatch::new(Playback, router(), config.http_request_timeout).with_lets_go(Box::new(|| true));
    let server = Server::new(Limits::from(&config), dispatch);
    let addr = serve(&server, None);
    let mut socket = websocket(addr).await;
    assert!(echoes(&mut socket).await);
    let read = server.traffic().bytes_in;
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert!(echoes(&mut socket).await, "nothing was said for a while");
    assert!(server.traffic().open == 1 && server.traffic().bytes_in > read, "it counts");

    let began = Instant::now();
    assert!(server.shutdown(Duration::from_secs(5)).await);
    assert!(began.elapsed() < Duration::from_secs(1), "nobody waits for it");
    assert!(echoes(&mut socket).await, "nor is it cut");
    drop(socket);
    while server.traffic().open > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A certificate on disk, and a client that trusts it and speaks `alpn`.
fn tls(alpn: &[&[u8]]) -> (Arc<rustls::ServerConfig>, rustls::ClientConfig) {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let (cert_pem, key_pem) = tls::tests::self_signed();
    std::fs::write(&cert, &cert_pem).unwrap();
    std::fs::write(&key, key_pem).unwrap();
    let identity = tls::Identity::load(&cert, &key).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let der = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(
        cert_pem.as_bytes(),
    );
    roots.add(der.unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    (identity.https().unwrap(), client)
}

type OverTls = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect_tls(addr: SocketAddr, client: &rustls::ClientConfig) -> OverTls {
    let tcp = TcpStream::connect(addr).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(client.clone())).connect(name, tcp).await.unwrap()
}

type SendHttp2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

/// An HTTP/2 connection, and the task that ends when it does.
async fn http2(
    addr: SocketAddr,
    client: &rustls::ClientConfig,
) -> (SendHttp2, tokio::task::JoinHandle<hyper::Result<()>>) {
    let stream = connect_tls(addr, client).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (send, tokio::spawn(connection))
}

async fn fetch(send: &mut SendHttp2, path: &str) -> Bytes {
    let request = Request::get(format!("https://localhost{path}")).body(Empty::<Bytes>::new()).unwrap();
    let response = send.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn https_speaks_http2_and_http1() {
    let (identity, mut client) = tls(&[b"h2"]);
    let server = server(&[]);
    let addr = serve(&server, Some(identity));
    let (mut send, _connection) = http2(addr, &client).await;
    assert_eq!(fetch(&mut send, "/live/streams/big.m4s").await.len(), SEGMENT);
    assert_eq!(fetch(&mut send, "/host").await, "localhost");

    client.alpn_protocols.clear();
    let stream = connect_tls(addr, &client).await;
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request =
        Request::get("/live/streams/a.m3u8").header("host", "h").body(Empty::<Bytes>::new()).unwrap();
    let body = send.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "playlist");
    assert!(server.shutdown(Duration::from_secs(2)).await);
}

#[tokio::test]
async fn a_node_that_lets_go_answers_and_sends_clients_elsewhere() {
    let letting_go = Arc::new(AtomicBool::new(false));
    let config = config(&[]);
    let of = letting_go.clone();
    let dispatch = Dispatch::new(Playback, router(), config.http_request_timeout)
        .with_lets_go(Box::new(move || of.load(Ordering::Relaxed)));
    let server = Server::new(Limits::from(&config), dispatch);
    let (identity, client) = tls(&[b"h2"]);
    let (plain, secure) = (serve(&server, None), serve(&server, Some(identity)));

    let mut http1 = TcpStream::connect(plain).await.unwrap();
    assert!(!exchange(&mut http1, &get_request("/live/streams/a.m3u8")).await.contains("connection: close"));
    let (mut idle, idle_ended) = http2(secure, &client).await;
    assert_eq!(fetch(&mut idle, "/live/streams/a.m3u8").await, "playlist");
    let (mut held, held_ended) = http2(secure, &client).await;
    assert_eq!(fetch(&mut held, "/live/streams/a.m3u8").await, "playlist");
    let answer = tokio::spawn(async move { fetch(&mut held, "/live/streams/held.m3u8").await });
    tokio::time::sleep(Duration::from_millis(100)).await;

    letting_go.store(true, Ordering::Relaxed);
    server.let_go();
    let within = Duration::from_secs(10);
    assert!(tokio::time::timeout(within, idle_ended).await.expect("an idle one is closed").is_ok());
    assert_eq!(answer.await.unwrap(), "held", "a request that is held is answered");
    assert!(tokio::time::timeout(within, held_ended).await.expect("and closed then").is_ok());
    // HTTP/1.1 has no word between answers: this one stays open, so that no request meets a closing socket.
    assert!(exchange(&mut http1, &get_request("/live/streams/a.m3u8")).await.contains("connection: close"));
    closed_after(&mut http1).await;
    // Who comes back here all the same is served, one answer at a time.
    let (mut again, ended) = http2(secure, &client).await;
    assert_eq!(fetch(&mut again, "/live/streams/a.m3u8").await, "playlist");
    assert!(tokio::time::timeout(within, ended).await.expect("closed after its answer").is_ok());

    letting_go.store(false, Ordering::Relaxed);
    let (mut back, back_ended) = http2(secure, &client).await;
    for _ in 0..3 {
        assert_eq!(fetch(&mut back, "/live/streams/a.m3u8").await, "playlist");
    }
    let mut http1 = TcpStream::connect(plain).await.unwrap();
    assert!(!exchange(&mut http1, &get_request("/live/streams/a.m3u8")).await.contains("connection: close"));
    assert!(!back_ended.is_finished());
}

#[tokio::test]
async fn garbage_is_answered_or_closed() {
    let server = server(&[]);
    let addr = serve(&server, None);
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET  HTTP/9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(closed_after(&mut stream).await < Duration::from_secs(2));
    }
}
