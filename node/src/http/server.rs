//! Accepts connections and serves HTTP/1.1 and HTTP/2 on them.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::activity::{Activity, Timeouts, Verdict};
use super::body::Outgoing;
use super::dispatch::{Handler, Peer};
use super::io::Watched;
use super::registry::{Bounds, Registry, Traffic};
use crate::config::Config;

/// What a client gets when there is no place for it.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// How much may lie unsent in the kernel for one connection. It bounds memory, and lets a slow client be told from a
/// stuck one: without it, the kernel takes nothing new until a third of some megabytes is gone.
const UNSENT: u32 = 512 << 10;

/// How often an HTTP/2 connection is asked whether the client is still there.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// Bounds and times of connections.
#[derive(Clone, Debug)]
pub struct Limits {
    bounds: Bounds,
    timeouts: Timeouts,
    header_size: usize,
    http2_requests: u32,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            bounds: Bounds {
                all: config.http_max_connections as usize,
                per_client: config.http_max_connections_per_ip as usize,
                trusted: config.trusted_proxies.clone(),
            },
            timeouts: Timeouts {
                header: config.http_header_timeout,
                idle: config.http_idle_timeout,
                write: config.http_write_timeout,
            },
            header_size: usize::try_from(config.http_max_header_size).unwrap_or(usize::MAX),
            http2_requests: config.http2_max_requests,
        }
    }
}

/// An HTTP server on any number of sockets. Clones are the same server.
pub struct Server<H> {
    shared: Arc<Shared<H>>,
}

impl<H> Clone for Server<H> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<H> {
    handler: H,
    limits: Limits,
    registry: Arc<Registry>,
    stopping: watch::Sender<bool>,
    /// Ends what is left when the time for a graceful stop is over.
    abort: watch::Sender<bool>,
}

impl<H: Handler> Server<H> {
    /// A server that answers with `handler`.
    pub fn new(limits: Limits, handler: H) -> Self {
        let registry = Arc::new(Registry::new(limits.bounds.clone()));
        let (stopping, abort) = (watch::Sender::new(false), watch::Sender::new(false));
        Self { shared: Arc::new(Shared { handler, limits, registry, stopping, abort }) }
    }

    /// Serves the connections of a socket (as [`listen::tcp`](crate::listen::tcp) opens it), with TLS when it is
    /// given, until [`shutdown`](Self::shutdown). Needs a tokio runtime.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub fn serve(&self, listener: std::net::TcpListener, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
        // The sockets of connections inherit these. A host that has not one of them serves without it.
        let socket = socket2::SockRef::from(&listener);
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
        let listener = TcpListener::from_std(listener)?;
        let tls = tls.map(TlsAcceptor::from);
        tokio::spawn(accept(self.shared.clone(), listener, tls));
        Ok(())
    }

    /// What went through it.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.shared.registry.traffic()
    }

    /// Tells the clients of all HTTP/2 connections to use another one from now on (GOAWAY); what they have asked for, or
    /// ask for before they have read it, is answered. For those of HTTP/1.1 there is no such word between answers: they
    /// are told with the next one, while the handler [lets go](Handler::lets_go).
    pub fn let_go(&self) {
        self.shared.registry.close_http2();
    }

    /// Stops accepting, lets requests finish within `timeout`, then closes what is left. True when all finished.
    /// Connections that were upgraded (WebSockets) are left to those who speak on them.
    pub async fn shutdown(&self, timeout: Duration) -> bool {
        let Shared { registry, stopping, abort, .. } = &*self.shared;
        stopping.send_replace(true);
        registry.close_all();
        let finished = tokio::time::timeout(timeout, registry.empty()).await.is_ok();
        if !finished {
            abort.send_replace(true);
            registry.close_all();
            // Each task ends at its next turn.
            let _ = tokio::time::timeout(Duration::from_secs(1), registry.empty()).await;
        }
        finished
    }
}

async fn accept<H: Handler>(shared: Arc<Shared<H>>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut stopping = shared.stopping.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        match accepted {
            Ok((stream, addr)) => admit(&shared, stream, addr, tls.as_ref()),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of files or memory: waiting is all that can help.
                tracing::warn!(%error, "cannot accept connections; raise the limit of open files if this goes on");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn admit<H: Handler>(
    shared: &Arc<Shared<H>>,
    stream: TcpStream,
    addr: SocketAddr,
    tls: Option<&TlsAcceptor>,
) {
    let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let activity = Arc::new(Activity::new(Instant::now()));
    let Some(place) = shared.registry.enter(addr.ip(), &activity) else {
        if tls.is_none() {
            let _ = stream.try_write(BUSY);
        }
        return;
    };
    let io = Watched::new(stream, activity.clone(), place);
    let connection = Connection { shared: shared.clone(), activity, addr };
    match tls {
        None => {
            tokio::spawn(connection.http1(io, false));
        }
        Some(tls) => {
            let tls = tls.clone();
            tokio::spawn(async move {
                let time = connection.shared.limits.timeouts.header;
                if let Ok(Ok(stream)) = tokio::time::timeout(time, tls.accept(io)).await {
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
                    if is_http2 {
                        connection.http2(stream).await
                    } else {
                        connection.http1(stream, true).await
                    }
                }
            });
        }
    }
}

/// One connection that was let in.
struct Connection<H> {
    shared: Arc<Shared<H>>,
    activity: Arc<Activity>,
    addr: SocketAddr,
}

impl<H: Handler> Connection<H> {
    async fn http1<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: I, tls: bool) {
        let Self { shared, activity, addr } = self;
        let peer = Peer { addr, tls };
        let service = {
            let (shared, activity) = (shared.clone(), activity.clone());
            service_fn(move |request: http::Request<Incoming>| {
                let shared = shared.clone();
                let activity = activity.clone();
                let request_guard = UnderWay::new(activity.clone());
                async move {
                    let response = shared.handler.handle(request, peer).await;
                    drop(request_guard);
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        shared.registry.upgraded(&activity);
                    }
                    Ok::<_, Infallible>(response.map(Outgoing::http1))
                }
            })
        };
        let connection = pin!(
            http1::Builder::new()
                .header_read_timeout(None)
                .max_buf_size(shared.limits.header_size)
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades()
        );
        drive(connection, &shared, &activity, addr).await;
    }

    async fn http2<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: I) {
        let Self { shared, activity, addr } = self;
        activity.is_http2();
        let peer = Peer { addr, tls: true };
        let service = {
            let (shared, activity) = (shared.clone(), activity.clone());
            service_fn(move |request: http::Request<Incoming>| {
                let shared = shared.clone();
                let activity = activity.clone();
                let request_guard = UnderWay::new(activity.clone());
                async move {
                    let response = shared.handler.handle(request, peer).await;
                    let response = response.map(|body| Outgoing::http2(body, activity.clone()));
                    drop(request_guard);
                    if shared.handler.lets_go() {
                        // What was asked for until the client has read this is answered, too.
                        activity.close();
                    }
                    Ok::<_, Infallible>(response)
                }
            })
        };
        let header_size = u32::try_from(shared.limits.header_size).unwrap_or(u32::MAX);
        let connection = pin!(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(shared.limits.http2_requests)
                .max_header_list_size(header_size)
                .max_send_buf_size(256 << 10)
                .keep_alive_interval(HTTP2_PING)
                .keep_alive_timeout(shared.limits.timeouts.write)
                .serve_connection(TokioIo::new(io), service)
        );
        drive(connection, &shared, &activity, addr).await;
    }
}

/// A request that is being answered.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn new(activity: Arc<Activity>) -> Self {
        activity.request_started();
        Self(activity)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.request_ended(Instant::now());
    }
}

/// A connection of hyper that can be asked to finish.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn finish(self: Pin<&mut Self>);
}

impl<I, S> Graceful for http1::UpgradeableConnection<I, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = Outgoing>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Graceful for http2::Connection<I, S, TokioExecutor>
where
    S: hyper::service::HttpService<Incoming, ResBody = Outgoing>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Runs a connection to its end, or to the end of one of its times.
async fn drive<H>(
    mut connection: Pin<&mut impl Graceful>,
    shared: &Shared<H>,
    activity: &Activity,
    addr: SocketAddr,
) {
    let timeouts = &shared.limits.timeouts;
    let mut look = pin!(tokio::time::sleep(timeouts.header.min(timeouts.write) / 2));
    let mut asked = false;
    poll_fn(|cx| {
        activity.register(cx.waker());
        if activity.is_closing() {
            if *shared.abort.borrow() || activity.is_fresh() {
                return Poll::Ready(());
            }
            if !asked {
                asked = true;
                connection.as_mut().finish();
            }
        }
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            if let Err(error) = result {
                tracing::debug!(peer = %addr, %error, "connection ended");
            }
            return Poll::Ready(());
        }
        while look.as_mut().poll(cx).is_ready() {
            match activity.verdict(Instant::now(), timeouts) {
                Verdict::Close(reason) => {
                    tracing::debug!(peer = %addr, reason, "connection closed");
                    return Poll::Ready(());
                }
                Verdict::Wait(time) => look.as_mut().reset(tokio::time::Instant::now() + time),
            }
        }
        Poll::Pending
    })
    .await;
}
