//! A client's HTTP/1.1 connection that stays open.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::Error;
use crate::target::{HttpUrl, resolve};

/// Time for a whole request; a playlist that blocks answers within three target durations.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest body that is kept or counted.
const MAX_BODY: usize = 64 << 20;
const MAX_REDIRECTS: usize = 3;

/// The server that connections go to.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) url: HttpUrl,
    address: SocketAddr,
    host: HeaderValue,
}

impl Server {
    pub(crate) fn parse(text: &str, allow_remote: bool) -> Result<Self, Error> {
        let url = HttpUrl::parse(text)?;
        let address = resolve(&url.host, url.port, allow_remote)?;
        let host = HeaderValue::from_str(&url.authority);
        let host = host.map_err(|_| Error::Url(text.to_owned(), "its host has odd characters"))?;
        Ok(Server { url, address, host })
    }
}

impl Server {
    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// How connections ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The server said so in an answer (`Connection: close`).
    pub(crate) told: u64,
    /// It was closed between two requests.
    pub(crate) idle: u64,
    /// A request or its answer was under way.
    pub(crate) broken: u64,
}

/// A connection, made when it is first needed and again when the server closed it.
#[derive(Debug)]
pub(crate) struct Connection {
    server: Server,
    sender: Option<SendRequest<Empty<Bytes>>>,
    patience: Duration,
    ends: Ends,
}

impl Connection {
    pub(crate) fn new(server: Server) -> Self {
        Connection { server, sender: None, patience: PATIENCE, ends: Ends::default() }
    }

    /// The same, with another time for a whole request.
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Connection { patience, ..self }
    }

    /// How connections ended since the last call.
    pub(crate) fn take_ends(&mut self) -> Ends {
        std::mem::take(&mut self.ends)
    }

    /// Gets `path` into `body`, which is emptied first, and follows redirects: the path that answered.
    pub(crate) async fn get(&mut self, path: &str, body: &mut Vec<u8>) -> Result<String, Error> {
        let mut path = path.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            body.clear();
            let keep = |chunk: &[u8]| body.extend_from_slice(chunk);
            let (status, location) = self.in_time(&path, keep).await?;
            match location {
                Some(location) if status.is_redirection() => {
                    path = self.server.url.join(&path, &location)?;
                }
                _ if status.is_success() => return Ok(path),
                _ => return Err(Error::Status(status, path)),
            }
        }
        Err(Error::Status(StatusCode::LOOP_DETECTED, path))
    }

    /// Gets `path` and only counts its bytes.
    pub(crate) async fn count(&mut self, path: &str) -> Result<usize, Error> {
        let mut length = 0;
        let (status, _) = self.in_time(path, |chunk| length += chunk.len()).await?;
        if status.is_success() { Ok(length) } else { Err(Error::Status(status, path.to_owned())) }
    }

    async fn in_time(
        &mut self,
        path: &str,
        chunk: impl FnMut(&[u8]),
    ) -> Result<(StatusCode, Option<String>), Error> {
        let patience = self.patience;
        let Ok(answer) = timeout(patience, self.exchange(path, chunk)).await else {
            // Its answer may still come, and is not that of the next request.
            self.sender = None;
            return Err(Error::Timeout("answer a request", patience));
        };
        answer
    }

    async fn exchange(
        &mut self,
        path: &str,
        mut chunk: impl FnMut(&[u8]),
    ) -> Result<(StatusCode, Option<String>), Error> {
        let uri: Uri = path.parse().map_err(|_| Error::Path(path.to_owned()))?;
        let mut response = self.send(&uri).await?;
        let announced = response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let mut length = 0;
        if announced.is_some_and(|length: usize| length > MAX_BODY) {
            self.sender = None;
            return Err(Error::TooLong(path.to_owned(), MAX_BODY));
        }
        while let Some(frame) = response.body_mut().frame().await {
            if frame.is_err() {
                self.ends.broken += 1;
                self.sender = None;
            }
            let Ok(data) = frame?.into_data() else { continue };
            length += data.len();
            if length > MAX_BODY {
                self.sender = None;
                return Err(Error::TooLong(path.to_owned(), MAX_BODY));
            }
            chunk(&data);
        }
        if response.headers().get(CONNECTION).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"close")) {
            self.ends.told += 1;
            self.sender = None;
        }
        let location = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
        Ok((response.status(), location.map(str::to_owned)))
    }

    async fn send(&mut self, uri: &Uri) -> Result<Response<Incoming>, Error> {
        if let Some(mut sender) = self.sender.take() {
            if sender.ready().await.is_ok() {
                match sender.send_request(request(&self.server, uri)).await {
                    Ok(response) => {
                        self.sender = Some(sender);
                        return Ok(response);
                    }
                    // The server closed a connection that had been idle: that is its right.
                    Err(error) if error.is_canceled() || error.is_closed() => self.ends.idle += 1,
                    Err(error) => {
                        self.ends.broken += 1;
                        if !error.is_incomplete_message() {
                            return Err(error.into());
                        }
                    }
                }
            } else {
                self.ends.idle += 1;
            }
        }
        let mut sender = connect(self.server.address).await?;
        let response = sender.send_request(request(&self.server, uri)).await;
        self.ends.broken += u64::from(response.is_err());
        self.sender = Some(sender).filter(|_| response.is_ok());
        Ok(response?)
    }
}

fn request(server: &Server, uri: &Uri) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.clone();
    let headers = request.headers_mut();
    headers.insert(HOST, server.host.clone());
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("sluice-load/", env!("CARGO_PKG_VERSION"))));
    request
}

async fn connect<B>(address: SocketAddr) -> Result<SendRequest<B>, Error>
where
    B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static,
{
    let failed = |e| Error::Connect(address.to_string(), e);
    let socket = timeout(PATIENCE, TcpStream::connect(address)).await;
    let socket = socket.map_err(|_| Error::Timeout("take the connection", PATIENCE))?.map_err(failed)?;
    socket.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // It ends when the sender is dropped or the server closes; whoever waits for an answer learns why.
    tokio::spawn(connection);
    Ok(sender)
}

/// The longest body of an answer to [`post`], in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// What a [`post`] was answered with.
#[derive(Debug)]
pub(crate) struct Posted {
    /// The path of what was made.
    pub(crate) location: Option<String>,
    pub(crate) body: String,
}

/// Posts a body to the server's path, over a connection of its own.
pub(crate) async fn post(server: &Server, kind: &'static str, body: String) -> Result<Posted, Error> {
    let path = &server.url.path;
    let (head, text) = once(server, Method::POST, path, kind, body).await?;
    if head.status != StatusCode::CREATED {
        return Err(Error::Refused(
            "POST",
            head.status,
            path.clone(),
            text.trim().chars().take(200).collect(),
        ));
    }
    let location = head.headers.get(LOCATION).and_then(|v| v.to_str().ok());
    let location = location.map(|location| server.url.join(path, location)).transpose()?;
    Ok(Posted { location, body: text })
}

/// Deletes a path of the server.
pub(crate) async fn delete(server: &Server, path: &str) -> Result<(), Error> {
    let (head, text) = once(server, Method::DELETE, path, "text/plain", String::new()).await?;
    let refused = |text: String| Error::Refused("DELETE", head.status, path.to_owned(), text);
    if head.status.is_success() { Ok(()) } else { Err(refused(text.trim().chars().take(200).collect())) }
}

async fn once(
    server: &Server,
    method: Method,
    path: &str,
    kind: &'static str,
    body: String,
) -> Result<(hyper::http::response::Parts, String), Error> {
    let uri: Uri = path.parse().map_err(|_| Error::Path(path.to_owned()))?;
    let exchange = async {
        let mut sender = connect(server.address).await?;
        let mut request = request(server, &uri).map(|_| Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|_| Error::TooLong(path.to_owned(), MAX_ANSWER))?.to_bytes();
        Ok((head, String::from_utf8_lossy(&body).into_owned()))
    };
    timeout(PATIENCE, exchange).await.map_err(|_| Error::Timeout("answer a request", PATIENCE))?
}
