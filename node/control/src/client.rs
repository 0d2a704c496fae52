//! Asks one node, over one connection that is kept.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_identity::{IdentityError, NodeId, OperatorTls, WrongNode};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::paths;
use crate::watched::{Said, Watched};
use crate::{Apps, AppsResult, ControlError, Drain, LiveSettings, Report, SettingsResult};

/// A connection, its handshake included, may take this long.
pub const CONNECT: Duration = Duration::from_secs(2);

/// A question may take this long in all; a long poll this much longer than its wait.
pub const REQUEST: Duration = Duration::from_secs(10);

/// An answer has at most as many bytes.
pub const BODY_BYTES: usize = 1 << 20;

/// A silent node is asked this often whether it is still there, while it is asked something ...
const PING: Duration = Duration::from_secs(5);
/// ... and has this long to say so.
const PONG: Duration = Duration::from_secs(5);

/// Characters of what a node says that is no message of ours.
const QUOTED: usize = 300;

type Sender = SendRequest<Full<Bytes>>;

/// A kept connection, and what TLS said when it broke.
#[derive(Clone)]
struct Kept {
    sender: Sender,
    said: Said,
}

/// Asks one node; cheap to clone. Its connection is opened with the first question, shared by all that are asked at
/// once, and opened anew after it broke.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    node: NodeId,
    addr: String,
    tls: Arc<ClientConfig>,
    kept: Mutex<Option<Kept>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("node", &self.0.node)
            .field("addr", &self.0.addr)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// For the node `node` whose cluster port is at `addr` (`host:port`, an IPv6 host in brackets). Opens nothing yet.
    ///
    /// # Errors
    /// The operator's certificate cannot be used.
    pub fn new(tls: &OperatorTls, node: NodeId, addr: impl Into<String>) -> Result<Client, IdentityError> {
        let tls = tls.client(&node)?;
        Ok(Client(Arc::new(Inner { node, addr: addr.into(), tls, kept: Mutex::default() })))
    }

    /// The node that it asks.
    pub fn node(&self) -> &NodeId {
        &self.0.node
    }

    /// Where it asks.
    pub fn addr(&self) -> &str {
        &self.0.addr
    }

    /// How the node is. With `known`, the revision of the last report, it answers once its revision is another one, or
    /// after `wait` (at most [`LONGEST_WAIT_MS`](paths::LONGEST_WAIT_MS)) with the same; without, at once.
    ///
    /// # Errors
    /// It was not answered.
    pub async fn report(&self, known: Option<u64>, wait: Duration) -> Result<Report, ControlError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).min(paths::LONGEST_WAIT_MS);
        let (path, within) = match known {
            Some(known) => {
                let query = format!("{}={known}&{}={wait_ms}", paths::KNOWN, paths::WAIT_MS);
                (format!("{}?{query}", paths::REPORT), REQUEST + Duration::from_millis(wait_ms))
            }
            None => (paths::REPORT.to_owned(), REQUEST),
        };
        let answer = self.ask(Method::GET, &path, Bytes::new(), within).await?;
        let report = Report::parse(&answer).map_err(|e| self.bad(e.to_string()))?;
        if report.node != self.0.node.as_str() {
            return Err(self.bad(format!("it reports as node {:?}", report.node)));
        }
        Ok(report)
    }

    /// Orders the node to let no new sessions in.
    ///
    /// # Errors
    /// It was not answered, or the node refuses.
    pub async fn drain(&self, order: &Drain) -> Result<(), ControlError> {
        self.send(Method::POST, paths::DRAIN, order).await.map(drop)
    }

    /// Takes that back. A node that is not draining is fine; one that is stopping refuses.
    ///
    /// # Errors
    /// It was not answered, or the node refuses.
    pub async fn undrain(&self) -> Result<(), ControlError> {
        self.ask(Method::DELETE, paths::DRAIN, Bytes::new(), REQUEST).await.map(drop)
    }

    /// Makes the cluster's apps what they should be; this node does it for all. What failed is in the result.
    ///
    /// # Errors
    /// It was not answered; then some of it may have been done, and doing it again is fine.
    pub async fn apply_apps(&self, apps: &Apps) -> Result<AppsResult, ControlError> {
        let answer = self.send(Method::PUT, paths::APPS, apps).await?;
        self.read(&answer)
    }

    /// Sets the node's live settings, this node's alone. What it refuses is in the result, and then it takes none.
    ///
    /// # Errors
    /// It was not answered.
    pub async fn apply_settings(&self, settings: &LiveSettings) -> Result<SettingsResult, ControlError> {
        let answer = self.send(Method::PUT, paths::SETTINGS, settings).await?;
        self.read(&answer)
    }

    async fn send(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Bytes, ControlError> {
        let body =
            serde_json::to_vec(body).map_err(|e| self.bad(format!("the question cannot be written: {e}")))?;
        self.ask(method, path, body.into(), REQUEST).await
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ControlError> {
        serde_json::from_slice(body).map_err(|e| self.bad(e.to_string()))
    }

    fn bad(&self, reason: String) -> ControlError {
        ControlError::BadAnswer { node: self.0.node.clone(), reason }
    }

    fn timeout(&self, doing: &'static str, within: Duration) -> ControlError {
        let Inner { node, addr, .. } = &*self.0;
        ControlError::Timeout { node: node.clone(), addr: addr.clone(), doing, within }
    }

    /// An error of the connection before there was one.
    fn broken(&self, doing: &'static str, error: &(dyn StdError + 'static)) -> ControlError {
        let Inner { node, addr, .. } = &*self.0;
        match find_tls(error) {
            Some(tls) => self.not_accepted(tls),
            None => ControlError::Unreachable {
                node: node.clone(),
                addr: addr.clone(),
                doing,
                reason: innermost(error),
            },
        }
    }

    /// An error of a connection that was there.
    fn lost(&self, doing: &'static str, said: &Said, error: &(dyn StdError + 'static)) -> ControlError {
        match said.get() {
            Some(tls) => self.not_accepted(tls),
            None => self.broken(doing, error),
        }
    }

    /// A certificate that one side refuses is not the same as nobody being there.
    fn not_accepted(&self, tls: &rustls::Error) -> ControlError {
        let (node, addr) = (self.0.node.clone(), self.0.addr.clone());
        match WrongNode::of(tls) {
            Some(wrong) => ControlError::NotThisNode { node, found: wrong.found.clone(), addr },
            None => ControlError::Refused { node, addr, reason: tls.to_string() },
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, ControlError> {
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = http::Uri::builder()
            .scheme("https")
            .authority(self.0.addr.as_str())
            .path_and_query(path)
            .build()
            .map_err(|error| self.broken("name it in a request", &error))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match tokio::time::timeout(within, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                // Whoever asks next finds out with a connection of its own; questions under way keep this one.
                if let Ok(mut kept) = self.0.kept.try_lock() {
                    *kept = None;
                }
                Err(self.timeout("request", within))
            }
        }
    }

    async fn exchange(&self, mut request: http::Request<Full<Bytes>>) -> Result<Bytes, ControlError> {
        let mut fresh = false;
        loop {
            let Kept { mut sender, said } = {
                let mut kept = self.0.kept.lock().await;
                match kept.as_ref() {
                    Some(kept) if !kept.sender.is_closed() => kept.clone(),
                    _ => {
                        fresh = true;
                        let opened = self.open().await?;
                        kept.insert(opened).clone()
                    }
                }
            };
            let lost = match sender.ready().await {
                Ok(()) => match sender.try_send_request(request).await {
                    Ok(answer) => return self.answer(answer, &said).await,
                    Err(mut error) => match error.take_message() {
                        Some(unsent) => {
                            request = unsent;
                            error.into_error()
                        }
                        None => return Err(self.lost("request", &said, &error.into_error())),
                    },
                },
                Err(error) => error,
            };
            // It was not sent. A kept connection may have been dead already: once more, with a new one.
            if fresh {
                return Err(self.lost("request", &said, &lost));
            }
            *self.0.kept.lock().await = None;
        }
    }

    async fn answer(
        &self,
        answer: http::Response<hyper::body::Incoming>,
        said: &Said,
    ) -> Result<Bytes, ControlError> {
        let (parts, body) = answer.into_parts();
        let body = match Limited::new(body, BODY_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                return Err(match error.downcast::<hyper::Error>() {
                    Ok(error) => self.lost("read the answer", said, &error),
                    Err(_) => self.bad(format!("it is longer than {BODY_BYTES} bytes")),
                });
            }
        };
        if parts.status.is_success() {
            return Ok(body);
        }
        Err(self.denied(parts.status, &body))
    }

    fn denied(&self, status: StatusCode, body: &[u8]) -> ControlError {
        let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let message = json.as_ref().and_then(|json| json.get("message")?.as_str().map(str::to_owned));
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
        let message = message.chars().take(QUOTED).collect();
        ControlError::Denied { node: self.0.node.clone(), status: status.as_u16(), message }
    }

    async fn open(&self) -> Result<Kept, ControlError> {
        match tokio::time::timeout(CONNECT, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(self.timeout("connect", CONNECT)),
        }
    }

    async fn connect(&self) -> Result<Kept, ControlError> {
        let stream = TcpStream::connect(&self.0.addr).await.map_err(|e| self.broken("connect", &e))?;
        stream.set_nodelay(true).map_err(|e| self.broken("connect", &e))?;
        let any = ServerName::try_from("node.cluster").expect("a name");
        let stream = TlsConnector::from(self.0.tls.clone())
            .connect(any, stream)
            .await
            .map_err(|e| self.broken("handshake", &e))?;
        let said = Said::default();
        let stream = Watched { inner: stream, said: said.clone() };
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PONG);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|e| self.lost("handshake", &said, &e))?;
        let (node, addr) = (self.0.node.clone(), self.0.addr.clone());
        // Ends when the connection breaks, or the client is gone.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%node, %addr, %error, "connection to a node broke");
            }
        });
        Ok(Kept { sender, said })
    }
}

/// The TLS error within another.
fn find_tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // An I/O error says what its inner error says, and passes that one over in its chain.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(tls);
        }
        next = error.source();
    }
    None
}

/// What was wrong in the end: hyper's own sentence says only that something was.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
