//! Requests about a stream that another node owns: that node answers them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode, Uri, header};
use sluice_media::StreamKey;

use crate::cluster::{ClusterView, ForwardError, Forwarded};
use crate::reply::{Failed, Outcome};
use crate::state::ApiState;

/// A list waits this long for the other nodes, and goes on without those that have not answered.
pub(crate) const LISTS_WAIT: Duration = Duration::from_secs(2);

impl ApiState {
    /// The other node that owns a stream, if one does.
    pub(crate) fn owner_elsewhere(&self, key: &StreamKey) -> Option<(Arc<dyn ClusterView>, String)> {
        let cluster = self.cluster.as_ref()?;
        // Not what the hub has: that may be what is left of a stream that has just moved.
        let owner = cluster.stream(&key.app, &key.id)?.owner?;
        (owner != self.settings.node_id).then(|| (cluster.clone(), owner))
    }
}

/// Lets the owner of the stream `/{app}/…/{id}` answer, where that is another node. When it cannot be asked, this node
/// answers from the store what can be answered so, and says what is the matter for the rest.
pub(crate) async fn to_owner(
    State(state): State<Arc<ApiState>>,
    Path((app, id)): Path<(String, String)>,
    request: Request,
    next: Next,
) -> Response {
    if is_forwarded(&request) {
        return next.run(request).await;
    }
    let Some((cluster, owner)) = state.owner_elsewhere(&StreamKey::new(app, id.as_str())) else {
        return next.run(request).await;
    };
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, crate::router::LONGEST_BODY).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or it broke off").into_response();
    };
    let mut onward = http::Request::new(body.clone());
    *onward.method_mut() = parts.method.clone();
    *onward.uri_mut() = path_of(&parts.uri);
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
        onward.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    match cluster.forward(&owner, onward).await {
        Ok(answer) => pass_on(answer),
        Err(why) => {
            tracing::warn!(stream = %id, %owner, error = %why, "the owner of a stream did not answer");
            if matches!(parts.method, Method::GET | Method::HEAD | Method::PUT) {
                // The record is in the store: it can be read and changed without its owner.
                return next.run(Request::from_parts(parts, Body::from(body))).await;
            }
            Outcome::no(format!(
                "stream {id} is live on another node: {why}. Try again: when that node is gone, the stream is \
                 free within seconds"
            ))
            .into_response()
        }
    }
}

/// Whether it came over the cluster port.
pub(crate) fn is_forwarded(request: &Request) -> bool {
    request.extensions().get::<Forwarded>().is_some()
}

/// A request without a body, for another node.
pub(crate) fn ask(method: Method, path: &str) -> Result<http::Request<Bytes>, ForwardError> {
    http::Request::builder()
        .method(method)
        .uri(path)
        .body(Bytes::new())
        .map_err(|e| ForwardError::Unreachable { node: path.to_owned(), why: e.to_string() })
}

/// Another node's answer as this node's: its status, and what it says.
pub(crate) fn pass_on(answer: http::Response<Bytes>) -> Response {
    let (parts, body) = answer.into_parts();
    let mut response = (parts.status, body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}

/// Whether another node answered with a `Result` that says yes.
pub(crate) fn says_yes(answer: &http::Response<Bytes>) -> bool {
    serde_json::from_slice::<serde_json::Value>(answer.body())
        .is_ok_and(|v| v.get("success").and_then(serde_json::Value::as_bool) == Some(true))
}

/// Sends a request on as it is, and lets the caller see the answer.
pub(crate) async fn send_on(
    cluster: &dyn ClusterView,
    node: &str,
    method: Method,
    uri: &Uri,
    body: Bytes,
) -> Result<Response, Failed> {
    let mut onward = http::Request::new(body);
    *onward.method_mut() = method;
    *onward.uri_mut() = path_of(uri);
    match cluster.forward(node, onward).await {
        Ok(answer) => Ok(pass_on(answer)),
        Err(why) => Ok(Outcome::no(why.to_string()).into_response()),
    }
}

/// The path and the query alone.
fn path_of(uri: &Uri) -> Uri {
    uri.path_and_query().map_or_else(Uri::default, |path| Uri::from(path.clone()))
}
