//! The shapes of answers. One JSON error, and it is AMS's `Result`.

use std::io::Write as _;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use sluice_store::StoreError;

/// AMS's `Result`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) success: bool,
    pub(crate) message: String,
    pub(crate) data_id: String,
    pub(crate) error_id: i32,
}

impl Outcome {
    pub(crate) fn yes(message: impl Into<String>) -> Self {
        Outcome { success: true, message: message.into(), ..Default::default() }
    }

    pub(crate) fn no(message: impl Into<String>) -> Self {
        Outcome { message: message.into(), ..Default::default() }
    }
}

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self)
    }
}

/// `{"number":n}`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Number {
    pub(crate) number: u64,
}

impl IntoResponse for Number {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self)
    }
}

/// A value as JSON.
pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], Bytes::from(body)).into_response(),
        Err(e) => {
            tracing::error!(error = %e, "an answer cannot be written as JSON");
            (StatusCode::INTERNAL_SERVER_ERROR, "an answer cannot be written as JSON").into_response()
        }
    }
}

/// A request that gets no answer of its own shape.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) StatusCode, pub(crate) String);

impl Failed {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Failed(StatusCode::BAD_REQUEST, message.into())
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Failed(StatusCode::INTERNAL_SERVER_ERROR, message.into())
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Failed(StatusCode::NOT_FOUND, message.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        json(self.0, &Outcome::no(self.1))
    }
}

impl From<StoreError> for Failed {
    fn from(e: StoreError) -> Self {
        tracing::warn!(error = %e, "a request failed because of the store");
        Failed(StatusCode::SERVICE_UNAVAILABLE, e.to_string())
    }
}

/// Answers below this are not worth compressing. AMS's value.
const GZIP_FROM: usize = 2048;

/// An answer of this size or more is not touched; none of ours is nearly as long.
const LONGEST: usize = 8 << 20;

/// Gives errors of the framework our shape, sets the common headers, compresses longer JSON.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let gzip = accepts_gzip(request.headers());
    let mut response = next.run(request).await;
    if is_frameworks_error(&response) {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = to_bytes(response.into_body(), 4096).await.unwrap_or_default();
        let text = if text.is_empty() {
            status.canonical_reason().unwrap_or("the request cannot be answered").into()
        } else {
            String::from_utf8_lossy(&text)
        };
        response = json(status, &Outcome::no(text));
        if let Some(allow) = headers.get(header::ALLOW) {
            response.headers_mut().insert(header::ALLOW, allow.clone());
        }
    }
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let is_json = headers.get(header::CONTENT_TYPE).is_some_and(|t| t == "application/json");
    if is_json && gzip { compress(response).await } else { response }
}

/// A client error that did not come from a handler of ours: no body, or plain text of the extractors. Filters
/// answer 403 in plain text, as AMS does, and an unknown broadcast is an empty 404.
fn is_frameworks_error(response: &Response) -> bool {
    matches!(
        response.status(),
        StatusCode::BAD_REQUEST
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::INTERNAL_SERVER_ERROR
    ) && response.headers().get(header::CONTENT_TYPE).is_none_or(|t| t != "application/json")
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).any(|v| {
        v.split(',').any(|c| {
            let mut parts = c.split(';').map(str::trim);
            let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            let refused = parts.any(|p| {
                p.strip_prefix("q=").is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0))
            });
            is_gzip && !refused
        })
    })
}

async fn compress(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(plain) = to_bytes(body, LONGEST).await else {
        return Failed(StatusCode::INTERNAL_SERVER_ERROR, "the answer is too long".into()).into_response();
    };
    parts.headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if plain.len() < GZIP_FROM {
        return Response::from_parts(parts, Body::from(plain));
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    // Writing to memory cannot fail; should it, the plain answer does as well.
    match encoder.write_all(&plain).and_then(|()| encoder.finish()) {
        Ok(packed) => {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(packed.len()));
            Response::from_parts(parts, Body::from(packed))
        }
        Err(_) => Response::from_parts(parts, Body::from(plain)),
    }
}
