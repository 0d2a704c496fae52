//! One exchange with a WHIP or WHEP server.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use url::Url;

use super::{CallError, Endpoint};
use crate::sdp::LONGEST;

/// The longest that one request may take: name, connection, handshake, answer.
const WITHIN: Duration = Duration::from_secs(10);
/// The longest that the end of a session may take: it is good manners, and the other side would notice without.
const FAREWELL: Duration = Duration::from_secs(3);
/// Redirects that are followed.
const REDIRECTS: usize = 3;
/// Characters of what a server says that are passed on.
const QUOTED: usize = 200;
const SDP: &str = "application/sdp";

/// Asks servers. Cheap to make; the certificate authorities are read when the first `https` is asked.
#[derive(Debug, Default)]
pub struct Http {
    tls: OnceCell<Arc<ClientConfig>>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// Its session description.
    pub sdp: String,
    /// The session there; none where it did not say.
    pub resource: Option<Resource>,
    /// The address that answered.
    pub peer: SocketAddr,
    /// Host and port, for people.
    pub host: String,
}

/// The session at the server.
#[derive(Debug)]
pub struct Resource(Endpoint);

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

impl Http {
    /// Makes an offer, and follows where the server leads (307, 308).
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn offer(&self, endpoint: &Endpoint, offer: &str) -> Result<Answer, CallError> {
        let mut endpoint = endpoint.clone();
        for _ in 0..=REDIRECTS {
            let host = authority(endpoint.url());
            let (response, peer) =
                self.ask(&endpoint, Method::POST, Bytes::from(offer.to_owned()), WITHIN).await?;
            let (head, body) = response.into_parts();
            match head.status {
                StatusCode::CREATED => {
                    return answer(&endpoint, &head.headers, &body, peer, host);
                }
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                    endpoint = endpoint.at(location(endpoint.url(), &head.headers)
                        .map_err(|why| CallError::Redirect { host, why })?);
                }
                status => return Err(CallError::Status { host, status, text: first_line(&body) }),
            }
        }
        Err(CallError::Redirect {
            host: authority(endpoint.url()),
            why: format!("it did so more than {REDIRECTS} times"),
        })
    }

    /// Ends a session at its server, as far as that can be reached.
    ///
    /// # Errors
    /// [`CallError`]; there is nothing more to be done.
    pub async fn end(&self, resource: Resource) -> Result<(), CallError> {
        let (response, _) = self.ask(&resource.0, Method::DELETE, Bytes::new(), FAREWELL).await?;
        // That it is over already is as good.
        match response.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            status => Err(CallError::Status {
                host: authority(resource.0.url()),
                status,
                text: first_line(response.body()),
            }),
        }
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        method: Method,
        body: Bytes,
        within: Duration,
    ) -> Result<(Response<Bytes>, SocketAddr), CallError> {
        let host = authority(endpoint.url());
        let exchange = Box::pin(self.exchange(endpoint, method, body, &host));
        match tokio::time::timeout(within, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Slow { host, within }),
        }
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        method: Method,
        body: Bytes,
        host: &str,
    ) -> Result<(Response<Bytes>, SocketAddr), CallError> {
        let request = request(endpoint, method, body)
            .map_err(|why| CallError::NotHttp { host: host.to_owned(), why })?;
        let (stream, peer) = self.connect(endpoint.url(), host).await?;
        let not_http = |why: String| CallError::NotHttp { host: host.to_owned(), why };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| not_http(error.to_string()))?;
        let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
        let response = sender.send_request(request).await.map_err(|error| not_http(error.to_string()))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST).collect().await;
        drop(driver);
        let body = body.map_err(|error| not_http(error.to_string()))?.to_bytes();
        Ok((Response::from_parts(head, body), peer))
    }

    async fn connect(&self, url: &Url, host: &str) -> Result<(Pin<Box<dyn Stream>>, SocketAddr), CallError> {
        let failed = |source| CallError::Connect { host: host.to_owned(), source };
        let other = |why: &str| failed(io::Error::other(why.to_owned()));
        let port = url.port_or_known_default().ok_or_else(|| other("it has no port"))?;
        let stream = match url.host() {
            Some(url::Host::Domain(name)) => TcpStream::connect((name, port)).await,
            Some(url::Host::Ipv4(ip)) => TcpStream::connect((ip, port)).await,
            Some(url::Host::Ipv6(ip)) => TcpStream::connect((ip, port)).await,
            None => return Err(other("it has no host")),
        };
        let stream = stream.map_err(failed)?;
        let peer = stream.peer_addr().map_err(failed)?;
        if url.scheme() != "https" {
            return Ok((Box::pin(stream), peer));
        }
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|error| other(&error.to_string()))?;
        let tls = self.tls.get_or_try_init(authorities).await?.clone();
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(failed)?;
        Ok((Box::pin(stream), peer))
    }
}

/// The machine's certificate authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name.
async fn authorities() -> Result<Arc<ClientConfig>, CallError> {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let loaded = loaded.map_err(|_| CallError::Authorities)?;
    for error in &loaded.errors {
        tracing::warn!(%error, "certificate authorities of this machine cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(loaded.certs);
    if added == 0 {
        return Err(CallError::Authorities);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|_| CallError::Authorities)?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Ends the task of a connection when its exchange is over or given up.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn request(endpoint: &Endpoint, method: Method, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
    let url = endpoint.url();
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let has_body = !body.is_empty();
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority(url))
        .header(header::USER_AGENT, concat!("Sluice/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, SDP)
        .header(header::CONNECTION, "close");
    if has_body {
        request = request.header(header::CONTENT_TYPE, SDP);
    }
    if let Some(token) = endpoint.token() {
        let mut value =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(Full::new(body)).map_err(|error| error.to_string())
}

fn answer(
    endpoint: &Endpoint,
    headers: &HeaderMap,
    body: &Bytes,
    peer: SocketAddr,
    host: String,
) -> Result<Answer, CallError> {
    let resource = location(endpoint.url(), headers).ok().map(|url| Resource(endpoint.at(url)));
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_sdp = kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(SDP);
    if !is_sdp {
        let kind: String = kind.chars().take(40).collect();
        return Err(CallError::Answer { host, why: format!("its type is {kind:?} and not {SDP}") });
    }
    match String::from_utf8(body.to_vec()) {
        Ok(sdp) => Ok(Answer { sdp, resource, peer, host }),
        Err(_) => Err(CallError::Answer { host, why: "it is not UTF-8".into() }),
    }
}

/// The URL in `Location`, which may be relative.
fn location(base: &Url, headers: &HeaderMap) -> Result<Url, String> {
    let to = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let to = to.ok_or("it does not say where (Location)")?;
    let url = base.join(to).map_err(|error| format!("its Location cannot be read: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("its Location is neither http nor https, but {other}")),
    }
}

/// Host and port as they stand in a URL.
fn authority(url: &Url) -> String {
    url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()
}

/// What a server says in an error, as one short line.
fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * QUOTED)]);
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(QUOTED).collect()
}
