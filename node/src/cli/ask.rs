//! A call to the HTTP port of a running node, for commands that ask it something.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::{Config, Secret};
use crate::exit::{Exit, Failure};

/// How long it may take to reach the node.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long the whole call may take: the node may have to ask another one.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// The call to make.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Host and port to connect to.
    pub(super) place: String,
    /// For the Host header.
    pub(super) host: String,
    pub(super) path: String,
    pub(super) token: Option<Secret>,
}

/// Where the node of this configuration answers, seen from its own machine.
pub(super) fn address(config: &Config) -> SocketAddr {
    local(config.http_addr.addrs())
}

/// A node that lets nobody in from here; `message` is what it says, which may be nothing.
pub(super) fn refused(message: &str) -> Failure {
    let and_message = if message.is_empty() { String::new() } else { format!(": {message}") };
    Failure::new(
        Exit::Failure,
        format!(
            "the node refuses{and_message}; run this on its own machine, or give its admin token (SLUICE_ADMIN_TOKEN_FILE)"
        ),
    )
}

/// The address under which this machine reaches a server that listens there.
fn local(listens: &[SocketAddr]) -> SocketAddr {
    let place = |addr: &SocketAddr| {
        let ip = match addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
            ip => ip,
        };
        SocketAddr::new(ip, addr.port())
    };
    // Management from the machine itself needs no token.
    let places: Vec<SocketAddr> = listens.iter().map(place).collect();
    let loopback = places.iter().find(|addr| addr.ip().is_loopback());
    loopback.or(places.first()).copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 5080)))
}

/// Makes the call, of which the answer has at most `most` bytes.
///
/// # Errors
/// The node cannot be reached, or gives no answer.
pub(super) fn send(call: Call, most: usize) -> Result<(StatusCode, Bytes), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::io("start the command", &e))?;
    runtime.block_on(ask(call, most))
}

async fn ask(call: Call, most: usize) -> Result<(StatusCode, Bytes), Failure> {
    let place = call.place.clone();
    let unreachable = |why: String| {
        Failure::new(Exit::Failure, format!("cannot reach the node at {place}: {why}; is it running there?"))
    };
    let socket = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(&call.place))
        .await
        .map_err(|_| unreachable("no answer within 3 s".into()))?
        .map_err(|e| unreachable(e.to_string()))?;
    tokio::time::timeout(ANSWER_WITHIN, exchange(socket, call, most))
        .await
        .map_err(|_| unreachable("no answer within 15 s".into()))?
        .map_err(|e| unreachable(e.to_string()))
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(socket: TcpStream, call: Call, most: usize) -> Result<(StatusCode, Bytes), AnyError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .header(header::HOST, call.host)
        .header(header::ACCEPT, "application/json");
    if let Some(token) = call.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let response = sender.send_request(request.body(Full::new(Bytes::new()))?).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), most).collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}
