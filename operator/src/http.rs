//! `/healthz`, `/readyz` and `/metrics`, for the kubelet and Prometheus.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::health::Health;
use crate::metrics::{self, Metrics};

/// So many connections at once; more wait.
const CONNECTIONS: usize = 64;
/// A connection must send its request in this time ...
const HEADERS: Duration = Duration::from_secs(5);
/// ... and is closed after this time in any case.
const LONGEST: Duration = Duration::from_secs(60);

/// The port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} for health and metrics: {source}. Is SLUICE_OPERATOR_HTTP_ADDR free?")]
pub struct HttpError {
    /// Where.
    pub addr: SocketAddr,
    /// Why not.
    pub source: std::io::Error,
}

/// Opens the port.
///
/// # Errors
/// It cannot be opened.
pub async fn listen(addr: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(addr).await.map_err(|source| HttpError { addr, source })
}

/// Answers, for ever.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for health and metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (health, metrics) = (health.clone(), metrics.clone());
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(request.method(), request.uri().path(), &health, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(16 << 10);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            // How a probe's connection ends is nobody's concern.
            let _ = timeout(LONGEST, connection).await;
        });
    }
}

fn answer(method: &Method, path: &str, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    };
    if ![Method::GET, Method::HEAD].contains(method) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    match path {
        "/healthz" => match health.dead().as_slice() {
            [] => text(StatusCode::OK, "ok\n".into()),
            dead => {
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("no sign of life: {}\n", dead.join(", ")))
            }
        },
        "/readyz" if health.is_ready() => text(StatusCode::OK, "ok\n".into()),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "objects are still being read\n".into()),
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics.text());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(addr: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.expect("it listens");
        stream
            .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    #[tokio::test]
    async fn probes_and_metrics() {
        let (health, metrics) = (Health::new(), Metrics::new());
        let listener = listen("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, health.clone(), metrics.clone()));
        assert!(get(addr, "GET /readyz").await.starts_with("HTTP/1.1 503"));
        health.set_ready();
        assert!(get(addr, "GET /readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(addr, "GET /healthz").await.starts_with("HTTP/1.1 200"));
        metrics.leader.set(1);
        assert!(get(addr, "GET /metrics").await.contains("\nsluice_operator_leader 1\n"));
        assert!(get(addr, "GET /secret").await.starts_with("HTTP/1.1 404"));
        assert!(get(addr, "POST /metrics").await.starts_with("HTTP/1.1 405"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_loop_is_unhealthy_by_name() {
        let health = Health::new();
        health.watch("pools");
        tokio::time::advance(crate::health::DEAD_AFTER * 2).await;
        let response = answer(&Method::GET, "/healthz", &health, &Metrics::new());
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
