//! Broadcasts that are live on other nodes, where the nodes share no database: records are spread among them, but what
//! changes all the time while a stream is live is with its owner alone, and so are streams that came with a publisher.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use http::Method;
use serde_json::Value;
use sluice_media::StreamKey;
use sluice_store::{Broadcast, LIST_LIMIT, ListQuery, Order, SortBy, Status, StoreError};
use tokio::task::JoinSet;

use crate::cluster::{ClusterView, ForwardError};
use crate::forward::{LISTS_WAIT, ask};
use crate::state::ApiState;

/// A question to another node names ids up to this many bytes.
const IDS_PER_QUESTION: usize = 3500;

/// Whether this node's store lacks what others are told.
fn is_apart(state: &ApiState) -> Option<&Arc<dyn ClusterView>> {
    state.cluster.as_ref().filter(|c| c.health().mode != "mongodb")
}

/// What can be said of a stream without its record.
pub(crate) fn without_record(id: &str) -> Broadcast {
    Broadcast { stream_id: id.to_owned(), zombi: true, status: Status::Broadcasting, ..Default::default() }
}

/// The streams of an app that are live on other nodes and have no record here, by id.
pub(crate) async fn missing(
    state: &ApiState,
    app: &str,
    search: Option<&str>,
) -> Result<Vec<String>, StoreError> {
    let Some(cluster) = is_apart(state) else { return Ok(Vec::new()) };
    let search = search.map(str::to_lowercase).unwrap_or_default();
    let mut ids: Vec<String> = cluster
        .streams()
        .into_iter()
        .filter(|p| p.app == app && state.is_elsewhere(p) && p.id.to_lowercase().contains(&search))
        .map(|p| p.id)
        .collect();
    if !ids.is_empty() {
        let here = state.store.broadcasts(app, &ids).await?;
        let here: HashSet<String> = here.into_iter().map(|b| b.stream_id).collect();
        ids.retain(|id| !here.contains(id));
        ids.sort();
    }
    Ok(ids)
}

/// A page of an app's broadcasts, those without a record here after the others; a page that has all of them is in order.
pub(crate) async fn page(
    state: &ApiState,
    app: &str,
    query: ListQuery,
) -> Result<Vec<Broadcast>, StoreError> {
    let mut found = state.store.list_broadcasts(app, query.clone()).await?;
    if query.kind.as_deref().is_some_and(|kind| kind != "liveStream") {
        return Ok(found);
    }
    let missing = missing(state, app, query.search.as_deref()).await?;
    let room = query.size.min(LIST_LIMIT).saturating_sub(found.len());
    if missing.is_empty() || room == 0 {
        return Ok(found);
    }
    let stored = stored(state, app, &query).await?;
    let from = query.offset.saturating_sub(stored);
    found.extend(missing.iter().skip(from).take(room).map(|id| without_record(id)));
    if let Some(by) = query.sort_by {
        let is_less = |a: &Broadcast, b: &Broadcast| match by {
            SortBy::Name => a.name.cmp(&b.name),
            SortBy::Date => a.date.cmp(&b.date),
            SortBy::Status => a.status.as_str().cmp(b.status.as_str()),
        };
        found.sort_by(|a, b| match query.order {
            Order::Ascending => is_less(a, b),
            Order::Descending => is_less(b, a),
        });
    }
    Ok(found)
}

/// How many records here a query finds on all its pages.
async fn stored(state: &ApiState, app: &str, query: &ListQuery) -> Result<usize, StoreError> {
    if query.kind.is_none() {
        let n = state.store.count_broadcasts(app, query.search.as_deref()).await?;
        return Ok(usize::try_from(n).unwrap_or(usize::MAX));
    }
    let mut all = ListQuery { offset: 0, size: LIST_LIMIT, ..query.clone() };
    loop {
        let n = state.store.list_broadcasts(app, all.clone()).await?.len();
        all.offset += n;
        if n < LIST_LIMIT {
            return Ok(all.offset);
        }
    }
}

/// What their owners say of those of the broadcasts that are live on other nodes, by id. All owners are asked at once;
/// one that does not answer is left out.
pub(crate) async fn as_owners_say(
    state: &ApiState,
    app: &str,
    broadcasts: &[Broadcast],
) -> HashMap<String, Value> {
    let Some(cluster) = is_apart(state) else { return HashMap::new() };
    let mut questions: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for b in broadcasts {
        let Some((_, owner)) = state.owner_elsewhere(&StreamKey::new(app, b.stream_id.as_str())) else {
            continue;
        };
        let parts = questions.entry(owner).or_default();
        let fits = |part: &&mut Vec<String>| {
            part.iter().map(|id| id.len() + 1).sum::<usize>() + b.stream_id.len() < IDS_PER_QUESTION
        };
        match parts.last_mut().filter(fits) {
            Some(part) => part.push(b.stream_id.clone()),
            None => parts.push(vec![b.stream_id.clone()]),
        }
    }
    let mut asked = JoinSet::new();
    for (owner, ids) in
        questions.into_iter().flat_map(|(o, parts)| parts.into_iter().map(move |p| (o.clone(), p)))
    {
        let cluster = cluster.clone();
        let path = format!("/{app}/rest/v2/broadcasts/list/0/{LIST_LIMIT}?ids={}", ids.join(","));
        asked.spawn(async move {
            let answer = tokio::time::timeout(LISTS_WAIT, cluster.forward(&owner, ask(Method::GET, &path)?));
            let late = |_| ForwardError::Unreachable { node: owner.clone(), why: "it takes too long".into() };
            let answer = answer.await.map_err(late)??;
            let told: Vec<Value> = serde_json::from_slice(answer.body())
                .map_err(|e| ForwardError::Unreachable { node: owner.clone(), why: e.to_string() })?;
            Ok::<_, ForwardError>((ids, told))
        });
    }
    let mut all = HashMap::new();
    for answer in asked.join_all().await {
        match answer {
            Ok((ids, told)) => all.extend(told.into_iter().filter_map(|b| {
                let id = b.get("streamId")?.as_str()?.to_owned();
                ids.contains(&id).then_some((id, b))
            })),
            Err(error) => tracing::debug!(%error, "a node did not tell of its live streams"),
        }
    }
    all
}
