//! What other nodes ask of this one, over the cluster port.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{StatusCode, header};
use sluice_store::StoreError;

use super::Replica;
use super::exchange::{Ask, BODY_LIMIT, BadBody, PULL, PUSH, read_ask, read_push, to_body};

/// `POST /v1/replica/push` and `POST /v1/replica/pull`; see [`exchange`](super::exchange).
pub fn routes(replica: Arc<Replica>) -> Router {
    Router::new()
        .route(PUSH, post(push))
        .route(PULL, post(pull))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(replica)
}

async fn push(State(replica): State<Arc<Replica>>, body: Bytes) -> Response {
    let told = match read_push(&body) {
        Ok(told) => told,
        Err(bad) => return refused(&bad),
    };
    answer(replica.pushed(told).await)
}

async fn pull(State(replica): State<Arc<Replica>>, body: Bytes) -> Response {
    match read_ask(&body) {
        Ok(Ask::Parts { hashes }) => answer(Ok(replica.parts(&hashes))),
        Ok(Ask::Records { parts, after, until, have }) => {
            answer(replica.page(&parts, after.as_deref(), until.as_deref(), &have).await)
        }
        Err(bad) => refused(&bad),
    }
}

fn answer<T: serde::Serialize>(result: Result<T, StoreError>) -> Response {
    match result {
        Ok(message) => ([(header::CONTENT_TYPE, "application/json")], to_body(&message)).into_response(),
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, e.to_string()).into_response(),
    }
}

fn refused(bad: &BadBody) -> Response {
    let status = match bad {
        BadBody::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        BadBody::Unreadable(_) => StatusCode::BAD_REQUEST,
    };
    (status, bad.to_string()).into_response()
}
