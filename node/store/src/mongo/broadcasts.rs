//! Broadcasts, stored and live: a document each in `broadcast` of the app's database. Every write of live state
//! names the epoch that it may not go behind.

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;

use super::documents::{OURS, from_broadcast, from_update, integer, long, to_broadcast, unsigned};
use super::failure::{OpResult, is_duplicate};
use super::{BROADCAST, Db, ownership};
use crate::{
    BeginLive, Broadcast, BroadcastUpdate, Ended, LIST_LIMIT, ListQuery, LiveUpdate, Order, Recovered,
    STALE_AFTER_MS, SortBy, Status, StoreError,
};

/// Statements of one command; the server takes 100,000 of them and 48 MB.
const BATCH: usize = 500;

fn live() -> Document {
    doc! { "$in": [Status::Broadcasting.as_str(), Status::Preparing.as_str()] }
}

/// Matches epochs up to this one, and records without any.
fn up_to(epoch: u64) -> Document {
    doc! { "$not": { "$gt": long(epoch) } }
}

fn is_live(document: &Document) -> bool {
    let status = document.get_str("status").unwrap_or_default();
    [Status::Broadcasting, Status::Preparing].iter().any(|s| status == s.as_str())
}

fn epoch_of(document: &Document) -> u64 {
    document.get_document(OURS).map_or(0, |ours| unsigned(ours, "epoch"))
}

pub(super) async fn create(db: &Db, app: &str, b: &Broadcast) -> OpResult<()> {
    let database = db.database_for(app).await?;
    match database.collection(BROADCAST).insert_one(from_broadcast(b, None, 0)?).await {
        Ok(_) => {
            db.stored_in(&database);
            Ok(())
        }
        Err(e) if is_duplicate(&e) => {
            Err(StoreError::Exists(format!("broadcast {app}/{}", b.stream_id)).into())
        }
        Err(e) => Err(e.into()),
    }
}

pub(super) async fn get(db: &Db, app: &str, id: &str) -> OpResult<Option<Broadcast>> {
    let Some(broadcasts) = db.broadcasts_of(app).await? else { return Ok(None) };
    broadcasts.find_one(doc! { "streamId": id }).await?.map(to_broadcast).transpose()
}

pub(super) async fn get_many(db: &Db, app: &str, ids: &[String]) -> OpResult<Vec<Broadcast>> {
    let Some(broadcasts) = db.broadcasts_of(app).await? else { return Ok(Vec::new()) };
    let found = broadcasts.find(doc! { "streamId": { "$in": ids } }).await?;
    db.all(found).await?.into_iter().map(to_broadcast).collect()
}

pub(super) async fn update(
    db: &Db,
    app: &str,
    id: &str,
    update: BroadcastUpdate,
) -> OpResult<Option<Broadcast>> {
    let Some(broadcasts) = db.broadcasts_of(app).await? else { return Ok(None) };
    let set = doc! { "$set": from_update(id, &update)? };
    let filter = doc! { "streamId": id };
    let changed = broadcasts.find_one_and_update(filter, set).return_document(ReturnDocument::After).await?;
    changed.map(to_broadcast).transpose()
}

pub(super) async fn delete(db: &Db, app: &str, ids: &[String]) -> OpResult<Vec<String>> {
    let mut gone = Vec::new();
    let Some(broadcasts) = db.broadcasts_of(app).await? else { return Ok(gone) };
    for id in ids {
        if broadcasts.delete_one(doc! { "streamId": id }).await?.deleted_count > 0 {
            gone.push(id.clone());
        }
    }
    Ok(gone)
}

fn conditions(kind: Option<&str>, search: Option<&str>) -> Document {
    let mut filter = Document::new();
    if let Some(kind) = kind.filter(|k| !k.is_empty()) {
        filter.insert("type", kind);
    }
    if let Some(search) = search.filter(|s| !s.is_empty()) {
        filter.insert("sluice.search", doc! { "$regex": literally(&search.to_lowercase()) });
    }
    filter
}

/// A regular expression that matches exactly this text.
fn literally(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c == '\0' {
            // A pattern ends at a zero, and no id or name has one that can be looked for.
            pattern.push_str("\\x00");
            continue;
        }
        if !c.is_alphanumeric() && c.is_ascii() {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

pub(super) async fn list(db: &Db, app: &str, query: &ListQuery) -> OpResult<Vec<Broadcast>> {
    let (Some(broadcasts), size @ 1..) = (db.broadcasts_of(app).await?, query.size.min(LIST_LIMIT)) else {
        return Ok(Vec::new());
    };
    let direction = match query.order {
        Order::Ascending => 1,
        Order::Descending => -1,
    };
    let sort = match query.sort_by {
        None => doc! { "sluice.order": direction },
        Some(SortBy::Name) => doc! { "sluice.name": direction, "sluice.order": 1 },
        Some(SortBy::Date) => doc! { "date": direction, "sluice.order": direction },
        Some(SortBy::Status) => doc! { "status": direction, "sluice.order": 1 },
    };
    let found = broadcasts
        .find(conditions(query.kind.as_deref(), query.search.as_deref()))
        .sort(sort)
        .skip(u64::try_from(query.offset).unwrap_or(u64::MAX).min(i64::MAX as u64))
        .limit(i64::try_from(size).unwrap_or(i64::MAX))
        .max_time(db.patience())
        .await?;
    db.all(found).await?.into_iter().map(to_broadcast).collect()
}

pub(super) async fn count(db: &Db, app: &str, search: Option<&str>) -> OpResult<u64> {
    let Some(broadcasts) = db.broadcasts_of(app).await? else { return Ok(0) };
    Ok(broadcasts.count_documents(conditions(None, search)).max_time(db.patience()).await?)
}

pub(super) async fn count_live(db: &Db, app: &str, now: i64) -> OpResult<u64> {
    let Some(broadcasts) = db.broadcasts_of(app).await? else { return Ok(0) };
    let since = now.saturating_sub(STALE_AFTER_MS);
    let filter = doc! { "status": Status::Broadcasting.as_str(), "updateTime": { "$gte": since } };
    Ok(broadcasts.count_documents(filter).max_time(db.patience()).await?)
}

/// With rates and viewers set to nothing where it says nothing of them.
fn cleared(update: BroadcastUpdate) -> BroadcastUpdate {
    BroadcastUpdate {
        speed: update.speed.or(Some(0.0)),
        bitrate: update.bitrate.or(Some(0)),
        encoder_queue_size: update.encoder_queue_size.or(Some(0)),
        pending_packet_size: update.pending_packet_size.or(Some(0)),
        hls_viewer_count: update.hls_viewer_count.or(Some(0)),
        dash_viewer_count: update.dash_viewer_count.or(Some(0)),
        webrtc_viewer_count: update.webrtc_viewer_count.or(Some(0)),
        rtmp_viewer_count: update.rtmp_viewer_count.or(Some(0)),
        ..update
    }
}

pub(super) async fn begin_live(db: &Db, app: &str, begin: BeginLive) -> OpResult<Broadcast> {
    let BeginLive { stream_id: id, node, epoch, now, known } = begin;
    let database = db.database_for(app).await?;
    let broadcasts = database.collection::<Document>(BROADCAST);
    // Ends with the call's time limit at the latest: it goes round again only when somebody else made, deleted
    // or took over the record meanwhile.
    loop {
        let found = broadcasts.find_one(doc! { "streamId": &id }).await?;
        let current = found.as_ref().map_or(0, epoch_of);
        if current > epoch {
            return Err(StoreError::Fenced { stream: format!("{app}/{id}"), epoch, current }.into());
        }
        let is_new = found.is_none();
        let mut b = match found {
            Some(document) => to_broadcast(document)?,
            None => Broadcast { stream_id: id.clone(), zombi: true, date: now, ..Broadcast::default() },
        };
        let set = BroadcastUpdate {
            stream_id: None,
            rtmp_url: known.rtmp_url.clone().filter(|_| b.rtmp_url.is_none()),
            status: Some(Status::Broadcasting),
            start_time: known.start_time.or(Some(now)),
            absolute_start_time_ms: known.absolute_start_time_ms.or(Some(now)),
            update_time: Some(now),
            duration: known.duration.or(Some(0)),
            received_bytes: known.received_bytes.or(Some(0)),
            ..cleared(known.clone())
        };
        b.apply(set.clone());
        if is_new {
            match broadcasts.insert_one(from_broadcast(&b, Some(&node), epoch)?).await {
                Ok(_) => {
                    db.stored_in(&database);
                    return Ok(b);
                }
                Err(e) if is_duplicate(&e) => continue,
                Err(e) => return Err(e.into()),
            }
        }
        let mut set = from_update(&id, &set)?;
        set.extend(doc! { "sluice.node": &node, "sluice.epoch": long(epoch) });
        let filter = doc! { "streamId": &id, "sluice.epoch": up_to(epoch) };
        if broadcasts.update_one(filter, doc! { "$set": set }).await?.matched_count == 1 {
            return Ok(b);
        }
    }
}

/// Gives the places of those that were left alone.
pub(super) async fn update_live(db: &Db, updates: Vec<LiveUpdate>) -> OpResult<Vec<usize>> {
    let mut by_app = std::collections::BTreeMap::<String, Vec<(usize, LiveUpdate)>>::new();
    for (place, update) in updates.into_iter().enumerate() {
        by_app.entry(update.app.clone()).or_default().push((place, update));
    }
    let mut left = Vec::new();
    for (app, updates) in by_app {
        let Some(database) = db.database_of(&app).await? else {
            left.extend(updates.iter().map(|(place, _)| *place));
            continue;
        };
        for batch in updates.chunks(BATCH) {
            let mut statements = Vec::with_capacity(batch.len());
            for (_, u) in batch {
                let filter =
                    doc! { "streamId": &u.stream_id, "status": live(), "sluice.epoch": up_to(u.epoch) };
                statements.push((filter, doc! { "$set": from_update(&u.stream_id, &u.update)? }));
            }
            if update_many(&database, BROADCAST, statements, true).await? < batch.len() as u64 {
                left.extend(left_alone(db, &database, batch).await?);
            }
        }
    }
    left.sort_unstable();
    Ok(left)
}

/// Which of them a write cannot have changed.
async fn left_alone(db: &Db, database: &Database, batch: &[(usize, LiveUpdate)]) -> OpResult<Vec<usize>> {
    let ids: Vec<&str> = batch.iter().map(|(_, u)| u.stream_id.as_str()).collect();
    let fields = doc! { "streamId": 1, "status": 1, "sluice.epoch": 1 };
    let broadcasts = database.collection::<Document>(BROADCAST);
    let found =
        db.all(broadcasts.find(doc! { "streamId": { "$in": ids } }).projection(fields).await?).await?;
    let epochs: std::collections::HashMap<&str, u64> = found
        .iter()
        .filter(|d| is_live(d))
        .filter_map(|d| Some((d.get_str("streamId").ok()?, epoch_of(d))))
        .collect();
    let written = |u: &LiveUpdate| epochs.get(u.stream_id.as_str()).is_some_and(|epoch| *epoch <= u.epoch);
    Ok(batch.iter().filter(|(_, u)| !written(u)).map(|(place, _)| *place).collect())
}

/// Many updates in one command; gives how many matched. `passing` states need not outlive the server.
///
/// The driver's own bulk write needs a server of version 8.
async fn update_many(
    database: &Database,
    collection: &str,
    statements: Vec<(Document, Document)>,
    passing: bool,
) -> OpResult<u64> {
    let statements: Vec<Document> =
        statements.into_iter().map(|(filter, update)| doc! { "q": filter, "u": update }).collect();
    write_many(database, doc! { "update": collection, "updates": statements }, passing).await
}

async fn write_many(database: &Database, mut command: Document, passing: bool) -> OpResult<u64> {
    command.insert("ordered", false);
    let concern = if passing {
        doc! { "w": 1 }
    } else {
        doc! { "w": "majority", "j": true }
    };
    command.insert("writeConcern", concern);
    let reply = database.run_command(command).await?;
    let failed = reply.get_array("writeErrors").ok().and_then(|all| all.first()).and_then(Bson::as_document);
    let failed = failed.or_else(|| reply.get_document("writeConcernError").ok());
    if let Some(error) = failed {
        let detail = error.get_str("errmsg").unwrap_or("no reason given").to_owned();
        return Err(StoreError::Engine { what: "write several records", detail }.into());
    }
    Ok(integer(&reply, "n").and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
}

fn finished(last: BroadcastUpdate, id: &str, now: i64) -> OpResult<Document> {
    let last = BroadcastUpdate {
        speed: None,
        bitrate: None,
        encoder_queue_size: None,
        pending_packet_size: None,
        hls_viewer_count: None,
        dash_viewer_count: None,
        webrtc_viewer_count: None,
        rtmp_viewer_count: None,
        zombi: None,
        status: Some(Status::Finished),
        update_time: Some(now),
        ..last
    };
    let mut set = from_update(id, &cleared(last))?;
    set.insert("sluice.node", Bson::Null);
    Ok(doc! { "$set": set })
}

pub(super) async fn end_live(
    db: &Db,
    app: &str,
    id: &str,
    epoch: u64,
    now: i64,
    last: BroadcastUpdate,
) -> OpResult<Ended> {
    let mut ended = Ended::Untouched;
    if let Some(broadcasts) = db.broadcasts_of(app).await? {
        let filter = doc! { "streamId": id, "status": live(), "sluice.epoch": up_to(epoch) };
        let mut zombie = filter.clone();
        zombie.insert("zombi", true);
        if broadcasts.delete_one(zombie).await?.deleted_count == 1 {
            ended = Ended::Deleted;
        } else if broadcasts.update_one(filter, finished(last, id, now)?).await?.matched_count == 1 {
            ended = Ended::Finished;
        }
    }
    ownership::release(db, app, id, epoch).await?;
    Ok(ended)
}

/// Ends what `node` left live, each only while it is as it was found.
pub(super) async fn recover(db: &Db, node: &str, now: i64) -> OpResult<Recovered> {
    let mut recovered = Recovered::default();
    for database in db.databases().await? {
        let broadcasts = database.collection::<Document>(BROADCAST);
        let filter = doc! { "sluice.node": node, "status": live(), "virtual": { "$ne": true } };
        let fields = doc! { "streamId": 1, "zombi": 1, "sluice.epoch": 1 };
        let found = db.all(broadcasts.find(filter).projection(fields).await?).await?;
        let (mut deletes, mut updates) = (Vec::new(), Vec::new());
        for d in &found {
            let Ok(id) = d.get_str("streamId") else { continue };
            let epoch = long(epoch_of(d));
            let same = doc! { "streamId": id, "status": live(), "sluice.node": node, "sluice.epoch": epoch };
            if d.get_bool("zombi").unwrap_or(false) {
                deletes.push(doc! { "q": same, "limit": 1 });
            } else {
                updates.push((same, finished(BroadcastUpdate::default(), id, now)?));
            }
        }
        for batch in deletes.chunks(BATCH) {
            let command = doc! { "delete": BROADCAST, "deletes": batch };
            recovered.deleted += write_many(&database, command, false).await?;
        }
        for batch in updates.chunks(BATCH) {
            recovered.finished += update_many(&database, BROADCAST, batch.to_vec(), false).await?;
        }
    }
    let held = ownership::held_by(db, node).await?;
    let owners = db.cluster().await?;
    for batch in held.chunks(BATCH) {
        let release = |filter: &Document| (filter.clone(), doc! { "$set": { "held": false } });
        update_many(&owners, super::OWNERS, batch.iter().map(release).collect(), false).await?;
    }
    Ok(recovered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_no_pattern() {
        assert_eq!(literally("a.*[ü]_1\0"), "a\\.\\*\\[ü\\]\\_1\\x00");
    }

    #[test]
    fn what_was_known_is_not_cleared() {
        let known = BroadcastUpdate { bitrate: Some(5), ..BroadcastUpdate::default() };
        let set = cleared(known);
        assert_eq!((set.bitrate, set.speed, set.rtmp_viewer_count), (Some(5), Some(0.0), Some(0)));
    }
}
