//! `sluice-node drain`: tells a running node to take no new sessions, or to take them again.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::{Loaded, Secret};
use crate::exit::{Exit, Failure};

/// How long it may take to reach the node.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long the whole call may take: the node may have to tell another one.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// An answer is a sentence.
const MAX_ANSWER: usize = 64 << 10;

/// What `drain` is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Take new sessions again.
    pub undrain: bool,
    /// Where a node answers; the node of this configuration when left out.
    pub url: Option<String>,
    /// The node that is meant; the one of this configuration when left out.
    pub node: Option<String>,
}

/// The call to make.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    method: Method,
    /// Host and port to connect to.
    place: String,
    /// For the Host header.
    host: String,
    path: String,
    token: Option<Secret>,
}

/// Makes the call; the text is what the node answered.
///
/// # Errors
/// The node cannot be reached, or refuses.
pub(super) fn run(order: &Order, loaded: &Loaded) -> Result<String, Failure> {
    let call = call(order, loaded)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::io("start the command", &e))?;
    let said = runtime.block_on(send(call))?;
    let now = if order.undrain { "takes new sessions again" } else { "takes no new sessions" };
    Ok(if said.is_empty() { format!("the node {now}\n") } else { format!("{said}\n") })
}

fn call(order: &Order, loaded: &Loaded) -> Result<Call, Failure> {
    let usage = |text: String| Failure::new(Exit::Usage, text);
    let config = &loaded.config;
    let node = order.node.clone().unwrap_or_else(|| config.id());
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if node.is_empty() || !node.chars().all(is_name) {
        return Err(usage(format!("{node:?} is no name of a node: letters, digits, `-`, `_` and `.`")));
    }
    let url = match &order.url {
        Some(url) => url.clone(),
        None => format!("http://{}", local(config.http_addr.addrs())),
    };
    let expected =
        || usage(format!("--url {url}: expected http://HOST:PORT, the address of a node's HTTP port"));
    let uri: Uri = url.parse().map_err(|_| expected())?;
    let authority = uri.authority().filter(|a| !a.as_str().contains('@')).ok_or_else(expected)?;
    if uri.scheme_str() != Some("http") {
        return Err(usage(format!(
            "--url {url}: only http:// is spoken here; call a node on its own machine"
        )));
    }
    let prefix = uri.path().trim_end_matches('/');
    Ok(Call {
        method: if order.undrain { Method::DELETE } else { Method::POST },
        place: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
        host: authority.to_string(),
        path: format!("{prefix}/rest/v2/cluster/node/{node}/drain"),
        token: config.admin_token.clone(),
    })
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

async fn send(call: Call) -> Result<String, Failure> {
    let place = call.place.clone();
    let unreachable = |why: String| {
        Failure::new(Exit::Failure, format!("cannot reach the node at {place}: {why}; is it running there?"))
    };
    let socket = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(&call.place))
        .await
        .map_err(|_| unreachable("no answer within 3 s".into()))?
        .map_err(|e| unreachable(e.to_string()))?;
    let (status, body) = tokio::time::timeout(ANSWER_WITHIN, exchange(socket, call))
        .await
        .map_err(|_| unreachable("no answer within 15 s".into()))?
        .map_err(|e| unreachable(e.to_string()))?;
    answer(status, &body)
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(socket: TcpStream, call: Call) -> Result<(StatusCode, Bytes), AnyError> {
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
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}

/// The message of an answer (`{"success":…, "message":…}`), which may be empty.
fn answer(status: StatusCode, body: &[u8]) -> Result<String, Failure> {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|json| json.get("message")?.as_str()).unwrap_or("").to_owned();
    let refused = |text: String| Err(Failure::new(Exit::Failure, text));
    let and_message = if message.is_empty() { String::new() } else { format!(": {message}") };
    match (status, json.as_ref().and_then(|json| json.get("success")?.as_bool())) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => refused(format!(
            "the node refuses{and_message}; run this on its own machine, or give its admin token (SLUICE_ADMIN_TOKEN_FILE)"
        )),
        (status, Some(true)) if status.is_success() => Ok(message),
        (status, Some(false)) if status.is_success() => refused(format!("the node refuses{and_message}")),
        (status, _) => refused(format!("the node answers {status}{and_message}; is it a sluice-node?")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::config::{self, Sources};

    fn loaded(flags: &[(&str, &str)]) -> Loaded {
        let flags = flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        config::load(&Sources { flags, ..Sources::default() }).unwrap()
    }

    #[test]
    fn the_call_goes_to_the_node_of_the_configuration() {
        let loaded =
            loaded(&[("node_id", "o-1"), ("http_addr", "[::]:8080"), ("admin_token", "0123456789abcdef")]);
        let own = call(&Order::default(), &loaded).unwrap();
        assert_eq!((own.method, own.place.as_str()), (Method::POST, "[::1]:8080"));
        assert_eq!((own.path.as_str(), own.host.as_str()), ("/rest/v2/cluster/node/o-1/drain", "[::1]:8080"));
        assert_eq!(own.token, Some(Secret::new("0123456789abcdef".into())));
        let url = Some("http://lb.example/media/".into());
        let other = call(&Order { undrain: true, url, node: Some("e-2".into()) }, &loaded).unwrap();
        assert_eq!((other.method, other.place.as_str()), (Method::DELETE, "lb.example:80"));
        assert_eq!(other.path, "/media/rest/v2/cluster/node/e-2/drain");
        for (url, node) in [
            ("https://h", "n"),
            ("h:5080", "n"),
            ("http://u:p@h", "n"),
            ("http://h", "a/b"),
            ("http://h", ""),
        ] {
            let order = Order { undrain: false, url: Some(url.into()), node: Some(node.into()) };
            assert_eq!(call(&order, &loaded).unwrap_err().exit, Exit::Usage, "{url} {node}");
        }
    }

    #[test]
    fn answers_become_sentences() {
        let of = |status: u16, body: &str| {
            answer(StatusCode::from_u16(status).unwrap(), body.as_bytes()).map_err(|f| f.message)
        };
        assert_eq!(of(200, r#"{"success":true,"message":"draining"}"#), Ok("draining".into()));
        assert_eq!(of(200, r#"{"success":true}"#), Ok(String::new()));
        let refused = of(200, r#"{"success":false,"message":"no such node"}"#);
        assert_eq!(refused, Err("the node refuses: no such node".into()));
        assert!(of(403, "").unwrap_err().contains("admin token"));
        assert!(of(404, "<html>").unwrap_err().contains("404"));
        assert!(of(200, "[]").unwrap_err().contains("is it a sluice-node?"));
    }

    /// A server that answers one request, and says what it was asked.
    fn server(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).unwrap();
                asked.extend(byte);
            }
            socket.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (address, thread)
    }

    #[test]
    fn it_speaks_http() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n{\"success\":true,\"message\":\"\"}";
        let (address, thread) = server(answer);
        let loaded = loaded(&[
            ("node_id", "o-1"),
            ("http_addr", &address.to_string()),
            ("admin_token", "0123456789abcdef"),
        ]);
        assert_eq!(run(&Order::default(), &loaded).unwrap(), "the node takes no new sessions\n");
        let asked = thread.join().unwrap();
        assert!(asked.starts_with("POST /rest/v2/cluster/node/o-1/drain HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: Bearer 0123456789abcdef\r\n"), "{asked}");
        assert!(asked.contains(&format!("host: {address}\r\n")), "{asked}");
    }

    #[test]
    fn a_node_that_is_not_there_or_no_node_is_said() {
        let (address, thread) = server("220 mail ready\r\n");
        let flags = |address: SocketAddr| loaded(&[("http_addr", &address.to_string())]);
        assert!(run(&Order::default(), &flags(address)).unwrap_err().message.contains("cannot reach"));
        thread.join().unwrap();
        // Nobody listens there any more.
        let error = run(&Order::default(), &flags(address)).unwrap_err().message;
        assert!(error.contains("cannot reach the node at") && error.contains("is it running"), "{error}");
    }
}
