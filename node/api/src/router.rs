//! Which path is answered by what.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use http::StatusCode;

use crate::reply::{Failed, Outcome, finish};
use crate::state::ApiState;
use crate::{
    apps, auth, broadcasts, calls, data, drain, forward, health, live, metrics, nodes, pages, system,
};

/// The longest body of a request, in bytes.
pub(crate) const LONGEST_BODY: usize = 1 << 20;

/// The longest that a request may take, reading it included.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Everything that this crate serves. Paths below `/{app}/streams/` are for others and answer 404 here.
pub fn router(state: Arc<ApiState>) -> Router {
    let refuse_method =
        || async { (StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method").into_response() };
    let endpoint = || post(calls::add_endpoint).delete(calls::remove_endpoint);
    let of_one_stream = Router::new()
        .route(
            "/{app}/rest/v2/broadcasts/{id}",
            get(broadcasts::get).put(broadcasts::update).delete(broadcasts::delete),
        )
        .route("/{app}/rest/v2/broadcasts/{id}/start", post(calls::start))
        .route("/{app}/rest/v2/broadcasts/{id}/stop", post(broadcasts::stop))
        .route("/{app}/rest/v2/broadcasts/{id}/endpoint", endpoint())
        .route("/{app}/rest/v2/broadcasts/{id}/rtmp-endpoint", endpoint())
        .route("/{app}/rest/v2/broadcasts/{id}/data", post(data::send))
        .route("/{app}/rest/v2/broadcasts/{id}/stream-info", get(data::renditions))
        .layer(from_fn_with_state(state.clone(), forward::to_owner));
    let app = Router::new()
        .route("/{app}/rest/v2/version", get(apps::version))
        .route("/{app}/rest/v2/broadcasts", delete(broadcasts::delete_many))
        .route("/{app}/rest/v2/broadcasts/", delete(broadcasts::delete_many))
        .route("/{app}/rest/v2/broadcasts/create", post(broadcasts::create))
        .route("/{app}/rest/v2/broadcasts/count", get(broadcasts::count))
        .route("/{app}/rest/v2/broadcasts/count/{search}", get(broadcasts::count_search))
        .route("/{app}/rest/v2/broadcasts/active-live-stream-count", get(broadcasts::count_live))
        .route("/{app}/rest/v2/broadcasts/total-broadcast-statistics", get(broadcasts::total_statistics))
        .route("/{app}/rest/v2/broadcasts/list/{offset}/{size}", get(broadcasts::list))
        .route("/{app}/rest/v2/cluster/nodes", get(nodes::list))
        .merge(of_one_stream)
        .route("/{app}/rest/v2/broadcasts/{id}/broadcast-statistics", get(broadcasts::statistics))
        .method_not_allowed_fallback(refuse_method)
        .layer(from_fn_with_state(state.clone(), auth::app));
    let management = Router::new()
        .route("/rest/v2/applications", get(apps::list))
        .route("/rest/v2/applications/{app}", post(apps::create).delete(apps::delete))
        .route("/rest/v2/applications/settings/{app}", get(apps::settings).post(apps::change_settings))
        .route("/rest/v2/applications-info", get(apps::infos))
        .route("/rest/v2/live-streams", get(live::list))
        .route("/rest/v2/system-resources", get(system::resources))
        .route("/rest/v2/cluster-mode-status", get(nodes::mode))
        .route("/rest/v2/cluster/node-count", get(nodes::count))
        .route("/rest/v2/cluster/nodes/{offset}/{size}", get(nodes::page))
        .route("/rest/v2/cluster/node/{id}", delete(nodes::remove))
        .route(
            "/rest/v2/cluster/node/{id}/drain",
            get(drain::show).post(drain::begin).delete(drain::take_back),
        )
        .route("/rest/v2/cluster/streams", get(nodes::streams))
        .route("/rest/cluster/node-count", get(nodes::count))
        .route("/rest/cluster/nodes/{offset}/{size}", get(nodes::page))
        .route("/rest/cluster/deleteNode/{id}", get(nodes::remove_by_get))
        .route("/metrics", get(metrics::metrics))
        .method_not_allowed_fallback(refuse_method)
        .layer(from_fn_with_state(state.clone(), auth::management));
    let open = Router::new()
        .route("/rest/v2/liveness", get(health::liveness))
        .route("/rest/v2/version", get(apps::version))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/acceptz", get(health::accepting))
        .method_not_allowed_fallback(refuse_method);
    Router::new()
        .merge(app)
        .merge(management)
        .merge(open)
        .fallback(page)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(from_fn(in_time))
        .layer(from_fn(finish))
        .with_state(state)
}

/// A page of the dashboard, or 404.
async fn page(request: Request) -> Response {
    match pages::respond(request.method(), request.uri().path(), request.headers()) {
        Some(response) => response.map(Body::from),
        None => Failed::not_found(format!("there is nothing at {}", request.uri().path())).into_response(),
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(TIME_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => crate::reply::json(
            StatusCode::REQUEST_TIMEOUT,
            &Outcome::no(format!("the request took longer than {} s", TIME_LIMIT.as_secs())),
        ),
    }
}
