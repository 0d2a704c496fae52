//! Where the node is the client: sources that it pulls, endpoints that it pushes streams to.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use bytes::Bytes;
use rand::Rng;
use rand::distr::Alphanumeric;
use serde::Deserialize;
use sluice_media::StreamKey;
use sluice_store::{Broadcast, BroadcastUpdate, Endpoint, Status};

use crate::reply::{Failed, Outcome};
use crate::state::ApiState;

/// The endpoints that a stream may have.
const MOST_ENDPOINTS: usize = 32;

/// What the API asks of those who pull and push.
pub trait Calls: Send + Sync + 'static {
    /// Whether the source at a URL can be pulled.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn check_source(&self, url: &str) -> Result<(), String>;

    /// Whether streams can be pushed to a URL.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn check_endpoint(&self, url: &str) -> Result<(), String>;

    /// Records changed: what is to be pulled and pushed is looked at now.
    fn look_again(&self);

    /// What the push of a stream of this node to one of its endpoints is doing; none when there is none.
    fn push_status(&self, key: &StreamKey, endpoint: &str) -> Option<Status>;
}

fn unknown(id: &str) -> Outcome {
    Outcome::no(format!("Broadcast with streamId: {id} does not exist"))
}

/// Whether a broadcast is a source that can be started.
///
/// # Errors
/// A sentence that says why not.
pub(crate) fn can_start(state: &ApiState, broadcast: &Broadcast) -> Result<(), String> {
    match broadcast.kind.as_str() {
        "streamSource" => {
            state.node.calls().check_source(broadcast.stream_url.as_deref().unwrap_or_default())
        }
        other => {
            Err(format!("only broadcasts of the type streamSource can be started, and this one's is {other}"))
        }
    }
}

/// `POST /{app}/rest/v2/broadcasts/{id}/start`: from now on the source is pulled, until it is stopped or deleted.
pub(crate) async fn start(
    State(state): State<Arc<ApiState>>,
    Path((app, id)): Path<(String, String)>,
) -> Result<Outcome, Failed> {
    let Some(broadcast) = state.store.broadcast(&app, &id).await? else { return Ok(unknown(&id)) };
    if let Err(why) = can_start(&state, &broadcast) {
        return Ok(Outcome::no(why));
    }
    if broadcast.source_started == Some(true) {
        return Ok(Outcome::no(format!("Broadcast with streamId: {id} is started already")));
    }
    let started = BroadcastUpdate { source_started: Some(true), ..Default::default() };
    if state.store.update_broadcast(&app, &id, started).await?.is_none() {
        return Ok(unknown(&id));
    }
    state.node.calls().look_again();
    Ok(Outcome::yes("the source is being pulled"))
}

/// A source is not to be pulled any more; false when it was not to be anyway.
pub(crate) async fn stop(state: &ApiState, app: &str, id: &str) -> Result<bool, Failed> {
    let Some(broadcast) = state.store.broadcast(app, id).await? else { return Ok(false) };
    if broadcast.source_started != Some(true) {
        return Ok(false);
    }
    // One that could not be pulled has no stream whose end would say so.
    let status = matches!(broadcast.status, Status::Failed | Status::Error).then_some(Status::Finished);
    let stopped = BroadcastUpdate { source_started: Some(false), status, ..Default::default() };
    state.store.update_broadcast(app, id, stopped).await?;
    state.node.calls().look_again();
    Ok(true)
}

/// What an endpoint is made from: AMS's names, the older one too.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NewEndpoint {
    #[serde(alias = "rtmpUrl")]
    endpoint_url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EndpointQuery {
    endpoint_service_id: Option<String>,
    resolution_height: Option<String>,
}

impl EndpointQuery {
    /// # Errors
    /// One rendition alone is asked for.
    fn check(&self) -> Result<(), Outcome> {
        match self.resolution_height.as_deref().map(str::trim) {
            None | Some("" | "0") => Ok(()),
            Some(_) => Err(Outcome::no("one rendition alone cannot be pushed: leave resolutionHeight out")),
        }
    }
}

/// `POST /{app}/rest/v2/broadcasts/{id}/endpoint`: the stream is pushed there whenever it is live.
pub(crate) async fn add_endpoint(
    State(state): State<Arc<ApiState>>,
    Path((app, id)): Path<(String, String)>,
    Query(query): Query<EndpointQuery>,
    body: Bytes,
) -> Result<Outcome, Failed> {
    let new: NewEndpoint = serde_json::from_slice(&body)
        .map_err(|e| Failed::bad(format!("the endpoint cannot be read: {e}")))?;
    let url = new.endpoint_url.unwrap_or_default();
    let url = url.trim();
    if let Err(why) = query.check() {
        return Ok(why);
    }
    if let Err(why) = state.node.calls().check_endpoint(url) {
        return Ok(Outcome::no(why));
    }
    let _one_by_one = state.endpoints.lock().await;
    let Some(broadcast) = state.store.broadcast(&app, &id).await? else { return Ok(unknown(&id)) };
    let mut list = broadcast.end_point_list.unwrap_or_default();
    if list.iter().any(|endpoint| endpoint.endpoint_url.as_deref() == Some(url)) {
        return Ok(Outcome::no("the stream has this endpoint already"));
    }
    if list.len() >= MOST_ENDPOINTS {
        return Ok(Outcome::no(format!("a stream has at most {MOST_ENDPOINTS} endpoints")));
    }
    let endpoint_service_id = new_endpoint_id();
    list.push(Endpoint {
        status: Some(Status::Created),
        endpoint_url: Some(url.to_owned()),
        endpoint_service_id: Some(endpoint_service_id.clone()),
        ..Endpoint::default()
    });
    set_endpoints(&state, &app, &id, list).await?;
    Ok(Outcome { data_id: endpoint_service_id, ..Outcome::yes("") })
}

/// `DELETE /{app}/rest/v2/broadcasts/{id}/endpoint?endpointServiceId=`
pub(crate) async fn remove_endpoint(
    State(state): State<Arc<ApiState>>,
    Path((app, id)): Path<(String, String)>,
    Query(query): Query<EndpointQuery>,
) -> Result<Outcome, Failed> {
    if let Err(why) = query.check() {
        return Ok(why);
    }
    let _one_by_one = state.endpoints.lock().await;
    let Some(broadcast) = state.store.broadcast(&app, &id).await? else { return Ok(unknown(&id)) };
    let mut list = broadcast.end_point_list.unwrap_or_default();
    let before = list.len();
    list.retain(|endpoint| endpoint.endpoint_service_id != query.endpoint_service_id);
    if query.endpoint_service_id.is_none() || list.len() == before {
        return Ok(Outcome::no("the stream has no endpoint with this endpointServiceId"));
    }
    set_endpoints(&state, &app, &id, list).await?;
    Ok(Outcome::yes(""))
}

async fn set_endpoints(state: &ApiState, app: &str, id: &str, list: Vec<Endpoint>) -> Result<(), Failed> {
    let update = BroadcastUpdate { end_point_list: Some(list), ..Default::default() };
    state.store.update_broadcast(app, id, update).await?;
    state.node.calls().look_again();
    Ok(())
}

/// As AMS: `custom` and six letters and digits.
fn new_endpoint_id() -> String {
    let random = rand::rng().sample_iter(Alphanumeric).take(6).map(char::from);
    "custom".chars().chain(random).collect()
}

/// Where a stream is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LiveAt {
    Here,
    Elsewhere,
    Nowhere,
}

/// Fills in what the pushes of a stream are doing: what is stored is how they were created.
pub(crate) fn show_endpoints(state: &ApiState, key: &StreamKey, broadcast: &mut Broadcast, live: LiveAt) {
    let was_live = broadcast.status == Status::Finished;
    for endpoint in broadcast.end_point_list.iter_mut().flatten() {
        let id = endpoint.endpoint_service_id.as_deref().unwrap_or_default();
        endpoint.status = match live {
            LiveAt::Here => Some(state.node.calls().push_status(key, id).unwrap_or(Status::Created)),
            // Its owner knows.
            LiveAt::Elsewhere => None,
            LiveAt::Nowhere if was_live => Some(Status::Finished),
            LiveAt::Nowhere => Some(Status::Created),
        };
    }
}
