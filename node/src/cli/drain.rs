//! `sluice-node drain`: tells a running node to take no new sessions, or to take them again.

use http::{Method, StatusCode, Uri};

use super::ask::{Call, address, refused, send};
use crate::config::Loaded;
use crate::exit::{Exit, Failure};

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

/// Makes the call; the text is what the node answered.
///
/// # Errors
/// The node cannot be reached, or refuses.
pub(super) fn run(order: &Order, loaded: &Loaded) -> Result<String, Failure> {
    let (status, body) = send(call(order, loaded)?, MAX_ANSWER)?;
    let said = answer(status, &body)?;
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
        None => format!("http://{}", address(config)),
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

/// The message of an answer (`{"success":…, "message":…}`), which may be empty.
fn answer(status: StatusCode, body: &[u8]) -> Result<String, Failure> {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|json| json.get("message")?.as_str()).unwrap_or("").to_owned();
    let failed = |text: String| Err(Failure::new(Exit::Failure, text));
    let and_message = if message.is_empty() { String::new() } else { format!(": {message}") };
    match (status, json.as_ref().and_then(|json| json.get("success")?.as_bool())) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Err(refused(&message)),
        (status, Some(true)) if status.is_success() => Ok(message),
        (status, Some(false)) if status.is_success() => failed(format!("the node refuses{and_message}")),
        (status, _) => failed(format!("the node answers {status}{and_message}; is it a sluice-node?")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::SocketAddr;

    use super::*;
    use crate::config::{self, Secret, Sources};

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
