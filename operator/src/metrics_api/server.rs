//! The port: TLS, one answer for each request, bounds for those who do not behave.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use sluice_custom_metrics::Refusal;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::front::{AnyHolder, Front};
use super::source::Source;
use super::strangers::{Place, Strangers};
use crate::metrics::Metrics;

/// So many connections of the API server at once; more wait.
const CONNECTIONS: usize = 256;
/// A request's head comes in this time, and so long a connection may rest.
const HEADERS: Duration = Duration::from_secs(60);
/// A connection must be one of TLS in this time, and who is nobody then is gone after it once more.
pub(super) const STRANGE: Duration = Duration::from_secs(5);
/// What is longer than this is no request for a metric, bytes.
const HEAD: usize = 32 << 10;

/// The certificate that is shown now; none until there is one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl Shown {
    /// Shows this one from now on.
    pub(super) fn set(&self, certificate: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(certificate);
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a server is made of; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub shown: Shown,
    pub front: Front,
    pub source: Source,
    pub metrics: Metrics,
    /// Those who are not known yet ...
    pub strangers: Strangers,
    /// ... and how long each step may take them.
    pub strange: Duration,
}

impl Server {
    /// Answers, for ever.
    pub(super) async fn serve(self, listener: TcpListener) -> Result<(), rustls::Error> {
        let acceptor = TlsAcceptor::from(Arc::new(self.tls()?));
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for the metrics API");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Before the next one is accepted, so that there are never more.
            let place = self.strangers.enter(from.ip());
            tokio::spawn(self.clone().connection(acceptor.clone(), stream, place, places.clone()));
        }
    }

    fn tls(&self) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(Arc::new(AnyHolder))
            .with_cert_resolver(Arc::new(self.shown.clone()));
        // Everybody shows a certificate each time.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    async fn connection(
        self,
        acceptor: TlsAcceptor,
        stream: TcpStream,
        mut place: Place,
        places: Arc<Semaphore>,
    ) {
        let accepted = tokio::select! {
            accepted = timeout(self.strange, acceptor.accept(stream)) => accepted,
            () = place.lost() => return,
        };
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return tracing::debug!(%error, "a connection to the metrics API is not one of TLS");
            }
            Err(_) => return,
        };
        let chain: Arc<[CertificateDer<'static>]> =
            stream.get_ref().1.peer_certificates().unwrap_or_default().into();
        let known = self.front.admits(&chain, UnixTime::now()).is_ok();
        let strange = self.strange;
        let service = service_fn(move |request: Request<Incoming>| {
            let response = self.respond(&chain, &request);
            async move { Ok::<_, Infallible>(response) }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(if known { HEADERS } else { strange })
            .max_buf_size(HEAD);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        // How it ends is nobody's concern.
        if known {
            drop(place);
            let Ok(_place) = places.acquire_owned().await else { return };
            let _ = connection.await;
        } else {
            tokio::select! {
                _ = timeout(strange, connection) => {}
                () = place.lost() => {}
            }
        }
    }

    /// Nothing here waits, and a body is not looked at.
    fn respond<B>(&self, chain: &[CertificateDer<'_>], request: &Request<B>) -> Response<Full<Bytes>> {
        let user =
            request.headers().get("x-remote-user").and_then(|user| user.to_str().ok()).unwrap_or_default();
        let result = self.answer(chain, request);
        let word = result.as_ref().map_or_else(Refusal::word, |_| "answered");
        self.metrics.metrics_api_requests.with_label_values(&[word]).inc();
        tracing::debug!(user, path = request.uri().path(), outcome = word, "asked for metrics");
        let (code, body) = match &result {
            Ok(body) => (StatusCode::OK, body.to_string()),
            Err(refusal) => (
                StatusCode::from_u16(refusal.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                refusal.status().to_string(),
            ),
        };
        let head = request.method() == Method::HEAD;
        let mut response = Response::new(Full::from(if head { String::new() } else { body }));
        *response.status_mut() = code;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if code == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn answer<B>(&self, chain: &[CertificateDer<'_>], request: &Request<B>) -> Result<Value, Refusal> {
        self.front.admits(chain, UnixTime::now()).map_err(Refusal::Unauthorized)?;
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return Err(Refusal::MethodNotAllowed("metrics are read, with GET".into()));
        }
        self.source.answer(request.uri().path(), request.uri().query(), Timestamp::now())
    }
}

/// The port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} for the metrics API: {source}. Is SLUICE_OPERATOR_METRICS_ADDR free?")]
pub struct ListenError {
    /// Where.
    pub addr: SocketAddr,
    /// Why not.
    pub source: std::io::Error,
}

/// Opens the port.
///
/// # Errors
/// It cannot be opened.
pub(super) async fn listen(addr: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(addr).await.map_err(|source| ListenError { addr, source })
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::super::strangers::PLACES;
    use super::*;
    use crate::metrics_api::certificate::Authority;
    use crate::metrics_api::front::tests::Proxy;
    use crate::nodes::Nodes;
    use crate::owned::Stores;

    const NAME: &str = "sluice-operator-metrics-api.sluice-system.svc";

    struct Running {
        addr: SocketAddr,
        authority: Authority,
        metrics: Metrics,
        shown: Shown,
        strangers: Strangers,
    }

    async fn running(front: Front) -> Running {
        running_with(front, STRANGE).await
    }

    async fn running_with(front: Front, strange: Duration) -> Running {
        let metrics = Metrics::new();
        let authority = Authority::generate(Timestamp::now(), None).expect("a CA");
        let shown = Shown::default();
        shown.set(authority.issue(&[NAME.to_owned()], Timestamp::now()).expect("a certificate").shown);
        let nodes = Nodes::new(Duration::from_secs(2), &metrics, |_, _| {});
        let source = Source { stores: Stores::default(), nodes };
        let listener = listen("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let strangers = Strangers::default();
        let server = Server {
            shown: shown.clone(),
            front,
            source,
            metrics: metrics.clone(),
            strangers: strangers.clone(),
            strange,
        };
        tokio::spawn(server.serve(listener));
        Running { addr, authority, metrics, shown, strangers }
    }

    /// A connection as the API server opens it.
    async fn connect(
        server: &Running,
        ca: &Authority,
        client: Option<(CertificateDer<'static>, KeyPair)>,
    ) -> Result<TlsStream<TcpStream>, std::io::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.certificate.as_bytes()).expect("PEM")).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match client {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
                builder.with_client_auth_cert(vec![certificate], key).expect("a pair")
            }
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(server.addr).await?;
        let name = ServerName::try_from(NAME).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// One request as the API server sends it, or nothing when there is no connection.
    async fn get(
        server: &Running,
        ca: &Authority,
        client: Option<(CertificateDer<'static>, KeyPair)>,
        request: &str,
    ) -> Result<String, std::io::Error> {
        let mut stream = connect(server, ca, client).await?;
        let head =
            format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Remote-User: hpa\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut text = Vec::new();
        // The end of a connection need not be said.
        let _ = stream.read_to_end(&mut text).await;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    const LIST: &str = "GET /apis/custom.metrics.k8s.io/v1beta2";

    #[tokio::test]
    async fn only_the_front_proxy_is_answered() {
        let (proxy, stranger) = (Proxy::new(), Proxy::new());
        let server = running(Front::of(&proxy, r#"["front-proxy-client"]"#)).await;
        let ours = || Some(proxy.client("front-proxy-client"));
        let text = get(&server, &server.authority, ours(), LIST).await.expect("an answer");
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("edgepools.sluice.dev/viewers"), "{text}");
        assert!(text.contains("content-type: application/json"), "{text}");
        for nobody in [None, Some(stranger.client("front-proxy-client")), Some(proxy.client("kubelet"))] {
            let text = get(&server, &server.authority, nobody, LIST).await.expect("an answer");
            assert!(text.starts_with("HTTP/1.1 401") && text.contains("\"kind\":\"Status\""), "{text}");
            assert!(!text.contains("viewers"), "{text}");
        }
        for (request, code) in
            [("POST /apis/custom.metrics.k8s.io/v1beta2", 405), ("GET /apis", 404), ("GET /openapi/v3", 200)]
        {
            let text = get(&server, &server.authority, ours(), request).await.expect("an answer");
            assert!(text.starts_with(&format!("HTTP/1.1 {code}")), "{request}: {text}");
        }
        let count = |word| server.metrics.metrics_api_requests.with_label_values(&[word]).get();
        assert_eq!(
            (count("answered"), count("unauthorized"), count("bad_method"), count("not_found")),
            (2, 3, 1, 1)
        );
    }

    #[tokio::test]
    async fn a_new_certificate_is_shown_without_a_restart() {
        let proxy = Proxy::new();
        let server = running(Front::of(&proxy, "[]")).await;
        let next = Authority::generate(Timestamp::now(), Some(&server.authority)).expect("a CA");
        assert!(get(&server, &next, Some(proxy.client("x")), LIST).await.is_err());
        server.shown.set(next.issue(&[NAME.to_owned()], Timestamp::now()).expect("a certificate").shown);
        let text = get(&server, &next, Some(proxy.client("x")), LIST).await.expect("an answer");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(get(&server, &server.authority, Some(proxy.client("x")), LIST).await.is_err());
    }

    #[tokio::test]
    async fn those_who_say_nothing_keep_nobody_out() {
        let proxy = Proxy::new();
        // Without a limit in time: what is held is held.
        let server = running_with(Front::of(&proxy, "[]"), Duration::from_secs(24 * 3600)).await;
        let mut silent = Vec::new();
        for n in 0..CONNECTIONS + 20 {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            let last = u8::try_from(1 + n % 20).expect("few");
            socket.bind((std::net::Ipv4Addr::new(127, 0, 0, last), 0).into()).expect("an address");
            silent.push(socket.connect(server.addr).await.expect("it listens"));
        }
        for _ in 0..3 {
            let asked = get(&server, &server.authority, Some(proxy.client("x")), LIST);
            let text = timeout(Duration::from_secs(60), asked).await.expect("a place").expect("an answer");
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        }
        // Who was first was pushed out.
        let first = timeout(Duration::from_secs(60), silent[0].read(&mut [0])).await.expect("an end");
        assert!(!matches!(first, Ok(1..)), "{first:?}");
        let held = server.strangers.count();
        assert!((1..=PLACES).contains(&held), "{held} are held");
    }

    #[tokio::test]
    async fn who_is_known_is_no_stranger_any_more() {
        let proxy = Proxy::new();
        let server = running_with(Front::of(&proxy, "[]"), Duration::from_secs(24 * 3600)).await;
        let mut known = connect(&server, &server.authority, Some(proxy.client("x"))).await.expect("TLS");
        known.write_all(b"GET /apis HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        assert!(known.read(&mut [0; 64]).await.expect("an answer") > 0);
        assert_eq!(server.strangers.count(), 0, "it stays open, at a place of its own");
        for _ in 0..CONNECTIONS {
            TcpStream::connect(server.addr).await.expect("it listens");
        }
        let text = get(&server, &server.authority, None, LIST).await.expect("an answer");
        assert!(text.starts_with("HTTP/1.1 401"), "{text}");
        let last = b"GET /apis HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        known.write_all(last).await.expect("it is still there");
        let mut rest = Vec::new();
        let _ = known.read_to_end(&mut rest).await;
        assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 404"), "{rest:?}");
    }

    #[tokio::test]
    async fn what_is_no_request_ends_its_connection() {
        let server = running(Front::default()).await;
        let mut stream = TcpStream::connect(server.addr).await.expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
        let proxy = Proxy::new();
        let server = running(Front::of(&proxy, "[]")).await;
        let long = format!("GET /{}", "x".repeat(HEAD * 2));
        let text = get(&server, &server.authority, Some(proxy.client("x")), &long).await.unwrap_or_default();
        assert!(!text.starts_with("HTTP/1.1 200"), "{text}");
    }
}
