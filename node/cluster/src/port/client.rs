//! Connections and requests to other nodes.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::requests::{PING, PONG};
use super::{Alpn, Outgoing, PortError, socket};
use crate::identity::ClusterTls;

/// Name lookup, connection and handshake take no longer in all.
pub const DIAL: Duration = Duration::from_secs(2);

/// An answer has at most as many bytes.
pub const ANSWER_BYTES: usize = 64 << 20;

/// As many connections for requests are kept at once.
const KEPT: usize = 1024;

/// What has come is read in pieces of this size.
const READ: usize = 32 << 10;

/// As much of an answer that is no success goes into an error.
const QUOTED: usize = 300;

type Sender = http2::SendRequest<Full<Bytes>>;

/// Opens connections to other nodes; cheap to clone. Clones share their connections for requests.
#[derive(Clone)]
pub struct Client {
    tls: ClusterTls,
    /// By address. The inner lock is held while a connection is opened, so that all askers wait for the one.
    kept: Arc<Mutex<HashMap<String, Arc<Slot>>>>,
}

type Slot = tokio::sync::Mutex<Option<Sender>>;

impl Client {
    /// With the identity of this node.
    pub fn new(tls: &ClusterTls) -> Self {
        Client { tls: tls.clone(), kept: Arc::default() }
    }

    /// A connection for `alpn` to the cluster port at `addr` (`host:port`): name lookup, connection and handshake within
    /// [`DIAL`]. [`peer_node`](crate::identity::peer_node) tells who is at its other end. That the other side does not accept
    /// this one may show only when something is read.
    pub async fn dial(&self, addr: &str, alpn: Alpn) -> Result<Outgoing, PortError> {
        match tokio::time::timeout(DIAL, self.connect(addr, alpn)).await {
            Ok(connected) => connected,
            Err(_) => Err(PortError::Timeout { addr: addr.to_owned(), doing: "connect", within: DIAL }),
        }
    }

    async fn connect(&self, addr: &str, alpn: Alpn) -> Result<Outgoing, PortError> {
        let unreachable =
            |doing| move |source| PortError::Unreachable { addr: addr.to_owned(), doing, source };
        // Tries each address that the name has.
        let stream = TcpStream::connect(addr).await.map_err(unreachable("connect"))?;
        socket::tune(&stream).map_err(unreachable("connect"))?;
        let any = ServerName::try_from("node.cluster").expect("a name");
        match TlsConnector::from(self.tls.client(alpn))
            .connect(any, BufReader::with_capacity(READ, stream))
            .await
        {
            Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(alpn.as_bytes()) => Ok(stream),
            Ok(_) => Err(PortError::Refused {
                addr: addr.to_owned(),
                reason: format!("it does not speak {}", String::from_utf8_lossy(alpn.as_bytes())),
            }),
            Err(error) => {
                Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(tls) => PortError::Refused { addr: addr.to_owned(), reason: tls.to_string() },
                    None => unreachable("handshake")(error),
                })
            }
        }
    }

    /// Asks the node at `addr` (`host:port`), within `within` in all. Requests to one address share a connection. Any status is
    /// an answer; it has at most [`ANSWER_BYTES`]. The request's URI needs only a path and query.
    ///
    /// When the error is [unreachable](PortError::is_unreachable), the node may still have acted on the request.
    pub async fn request(
        &self,
        addr: &str,
        request: http::Request<Bytes>,
        within: Duration,
    ) -> Result<http::Response<Bytes>, PortError> {
        let request = absolute(addr, request)?;
        let slot = self.slot(addr);
        match tokio::time::timeout(within, self.exchange(addr, &slot, request)).await {
            Ok(answer) => answer,
            Err(_) => {
                // Whoever asks next finds out with a connection of its own; requests under way keep this one.
                if let Ok(mut kept) = slot.try_lock() {
                    *kept = None;
                }
                Err(PortError::Timeout { addr: addr.to_owned(), doing: "request", within })
            }
        }
    }

    /// As [`request`](Client::request), but anything but a success is [`PortError::Status`].
    pub async fn ask(
        &self,
        addr: &str,
        request: http::Request<Bytes>,
        within: Duration,
    ) -> Result<http::Response<Bytes>, PortError> {
        let answer = self.request(addr, request, within).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let text = String::from_utf8_lossy(answer.body());
        Err(PortError::Status {
            addr: addr.to_owned(),
            status: answer.status(),
            text: text.trim().chars().take(QUOTED).collect(),
        })
    }

    /// The next request to `addr` opens a connection: for one that must not find out only by its time limit that the
    /// kept one is dead, as after a network was away.
    pub fn forget(&self, addr: &str) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(addr);
    }

    fn slot(&self, addr: &str) -> Arc<Slot> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = kept.get(addr) {
            return slot.clone();
        }
        if kept.len() >= KEPT {
            // Those in use stay: their askers have a reference, too.
            kept.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        kept.entry(addr.to_owned()).or_default().clone()
    }

    async fn exchange(
        &self,
        addr: &str,
        slot: &Slot,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Bytes>, PortError> {
        let mut request = request;
        let mut fresh = false;
        loop {
            let mut sender = {
                let mut kept = slot.lock().await;
                match kept.as_ref() {
                    Some(sender) if !sender.is_closed() => sender.clone(),
                    _ => {
                        fresh = true;
                        let sender = self.open(addr).await?;
                        kept.insert(sender).clone()
                    }
                }
            };
            let lost = match sender.ready().await {
                Ok(()) => match sender.try_send_request(request).await {
                    Ok(answer) => return read(addr, answer).await,
                    Err(mut error) => match error.take_message() {
                        Some(unsent) => {
                            request = unsent;
                            error.into_error()
                        }
                        None => return Err(broken(addr, error.into_error())),
                    },
                },
                Err(error) => error,
            };
            // It was not sent. A kept connection may have been dead already: once more, with a new one.
            if fresh {
                return Err(broken(addr, lost));
            }
            *slot.lock().await = None;
        }
    }

    async fn open(&self, addr: &str) -> Result<Sender, PortError> {
        let stream = self.dial(addr, Alpn::Requests).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| broken(addr, error))?;
        let addr = addr.to_owned();
        // Ends when the connection breaks, or all senders are gone.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%addr, %error, "connection for requests broke");
            }
        });
        Ok(sender)
    }
}

async fn read(
    addr: &str,
    answer: http::Response<hyper::body::Incoming>,
) -> Result<http::Response<Bytes>, PortError> {
    let (parts, body) = answer.into_parts();
    match Limited::new(body, ANSWER_BYTES).collect().await {
        Ok(body) => Ok(http::Response::from_parts(parts, body.to_bytes())),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(broken(addr, *error)),
            Err(error) => Err(PortError::Answer { addr: addr.to_owned(), reason: error.to_string() }),
        },
    }
}

fn broken(addr: &str, error: hyper::Error) -> PortError {
    PortError::Unreachable { addr: addr.to_owned(), doing: "request", source: io::Error::other(error) }
}

/// HTTP/2 wants scheme and authority.
fn absolute(addr: &str, request: http::Request<Bytes>) -> Result<http::Request<Full<Bytes>>, PortError> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = http::Uri::builder().scheme("https").authority(addr).path_and_query(path).build().map_err(
        |error| PortError::Unreachable {
            addr: addr.to_owned(),
            doing: "name it in a request",
            source: io::Error::new(io::ErrorKind::InvalidInput, error),
        },
    )?;
    parts.version = http::Version::HTTP_2;
    Ok(http::Request::from_parts(parts, Full::new(body)))
}
