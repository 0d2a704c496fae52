//! What other nodes may ask over the cluster port: to let a stream go, how far one was, a media file, or anything of
//! the REST interface.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, Json, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use sluice_api::cluster::Forwarded;
use sluice_cluster::directory::Directory;
use sluice_cluster::member::NodeId;
use sluice_cluster::ownership::{Identity, Segmented, Tail, TailAnswer};
use sluice_media::{Stream, StreamKey};
use tower::ServiceExt;

use super::settle::Settler;
use crate::streams::{Streams, numbers};

/// The body of `POST /v1/yield`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct YieldRequest {
    pub(super) app: String,
    pub(super) id: String,
    pub(super) publisher: Identity,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "tail")]
pub(super) enum YieldAnswer {
    /// The publisher here was told to leave.
    Yielded(TailAnswer),
    /// It is sending, and stays.
    Kept,
    /// The stream is not owned here.
    NotThere(TailAnswer),
}

/// The body of `POST /v1/tail`; its answer is a [`TailAnswer`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TailRequest {
    pub(super) app: String,
    pub(super) id: String,
}

/// The body of `POST /v1/know`: an epoch of a stream that the other node has not heard of.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KnowRequest {
    pub(super) app: String,
    pub(super) id: String,
    pub(super) epoch: u64,
}

/// What the answers are made from.
pub(super) struct Answers {
    pub(super) streams: Arc<Streams>,
    pub(super) directory: Arc<Directory>,
    pub(super) hls: Arc<sluice_package::Service>,
    pub(super) settler: Settler,
}

/// Everything that may be asked; `api` is the REST interface, `replica` what goes with it.
pub(super) fn router(answers: Answers, api: axum::Router, replica: Option<axum::Router>) -> axum::Router {
    let own = axum::Router::new()
        .route("/v1/yield", routing::post(let_go))
        .route("/v1/tail", routing::post(tail))
        .route("/v1/know", routing::post(know))
        .route("/v1/media/{*path}", routing::get(media))
        .with_state(Arc::new(answers));
    let forwarded = axum::Router::new().route("/v1/api/{*path}", routing::any(forwarded)).with_state(api);
    own.merge(forwarded).merge(replica.unwrap_or_default())
}

async fn let_go(
    State(answers): State<Arc<Answers>>,
    Extension(by): Extension<NodeId>,
    Json(request): Json<YieldRequest>,
) -> Json<YieldAnswer> {
    let key = StreamKey::new(request.app, request.id);
    let live = answers.streams.get(&key).filter(|l| !l.stream.is_ended());
    let Some(live) = live else {
        return Json(YieldAnswer::NotThere(answers.tail(&key)));
    };
    if !live.gives_way(&request.publisher).await {
        return Json(YieldAnswer::Kept);
    }
    answers.streams.lose(&key, live.epoch, by.as_str());
    answers.settler.left(&live.stream).await;
    let mut answer = answers.tail(&key);
    if !live.stream.is_interrupted() && !live.stream.is_ended() {
        // It may still write: its numbers are not final.
        answer.tail = None;
    }
    Json(YieldAnswer::Yielded(answer))
}

impl Answers {
    fn tail(&self, key: &StreamKey) -> TailAnswer {
        let stream = self.streams.hub().get(key);
        TailAnswer { known: self.directory.highest_epoch(key), tail: stream.and_then(|s| stream_tail(&s)) }
    }
}

/// How far a stream is, on this node.
pub(super) fn stream_tail(stream: &Stream) -> Option<Tail> {
    let stamp = stream.newest_stamp()?;
    let used = numbers(stream)?;
    Some(Tail {
        epoch: stamp.epoch,
        media_sequence: used.media_sequence,
        discontinuity_sequence: used.discontinuity_sequence,
        timeline: used.timeline,
        segmented: stream.segmentation().map(|s| Segmented {
            target_ms: s.target_duration.as_millis() as u64,
            part_ms: s.part_target.as_millis() as u64,
        }),
    })
}

async fn tail(State(answers): State<Arc<Answers>>, Json(request): Json<TailRequest>) -> Json<TailAnswer> {
    Json(answers.tail(&StreamKey::new(request.app, request.id)))
}

async fn know(State(answers): State<Arc<Answers>>, Json(request): Json<KnowRequest>) -> StatusCode {
    answers.directory.know_epoch(&StreamKey::new(request.app, request.id), request.epoch);
    StatusCode::NO_CONTENT
}

/// `/v1/media/{app}/streams/…`: a file that this node has, for one that lacks it.
async fn media(State(answers): State<Arc<Answers>>, Path(path): Path<String>) -> Response {
    let path = format!("/{path}");
    let found = async {
        let key = sluice_package::stream_of(&path)?;
        let stream = answers.streams.hub().get(&key)?;
        answers.hls.own_file(stream, &path).await
    };
    match found.await {
        Some(bytes) => bytes.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `/v1/api/…`: a REST call that another node passes on. Mutual TLS has vouched for it.
async fn forwarded(State(api): State<axum::Router>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let Ok(uri) = path.strip_prefix("/v1/api").unwrap_or(path).parse::<Uri>() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    parts.uri = uri;
    // What the router in front has noted, such as its own path parameters, is not meant for the one behind it.
    parts.extensions = http::Extensions::new();
    parts.extensions.insert(Forwarded);
    // The REST interface looks for a peer; this one is a node, whose address says nothing.
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    parts.extensions.insert(ConnectInfo(local));
    match api.oneshot(Request::from_parts(parts, Body::new(body))).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A request with a body as JSON. `path` is one of those above.
pub(super) fn post(path: &'static str, body: &impl Serialize) -> http::Request<Bytes> {
    let mut request = http::Request::new(serde_json::to_vec(body).map(Bytes::from).unwrap_or_default());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = Uri::from_static(path);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}
