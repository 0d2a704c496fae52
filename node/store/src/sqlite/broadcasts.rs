//! Broadcasts, stored and live.

use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::failure::OpResult;
use super::ownership;
use super::records::{parse, to_text};
use crate::{
    BeginLive, Broadcast, BroadcastUpdate, Ended, LIST_LIMIT, ListQuery, LiveUpdate, Order, Recovered,
    STALE_AFTER_MS, SortBy, Status, StoreError,
};

/// A broadcast and who has it.
struct Row {
    broadcast: Broadcast,
    epoch: u64,
}

fn find(c: &Connection, app: &str, id: &str) -> OpResult<Option<Row>> {
    let found: Option<(String, u64)> = c
        .prepare_cached("SELECT doc, epoch FROM broadcasts WHERE app = ?1 AND id = ?2")?
        .query_row([app, id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    found.map(|(doc, epoch)| Ok(Row { broadcast: parse("broadcast", id, &doc)?, epoch })).transpose()
}

fn insert(c: &Connection, app: &str, b: &Broadcast, owner: Option<&str>, epoch: u64) -> OpResult<bool> {
    let made = c
        .prepare_cached(
            "INSERT INTO broadcasts (app, id, doc, name, kind, status, date, update_time, search, owner, epoch)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            app,
            b.stream_id,
            to_text("broadcast", b)?,
            b.name.as_deref().unwrap_or_default(),
            b.kind,
            b.status.as_str(),
            b.date,
            b.update_time,
            search_text(b),
            owner,
            epoch
        ])?;
    Ok(made == 1)
}

/// Writes the record; `owner` and `epoch` stay as they are.
fn save(c: &Connection, app: &str, b: &Broadcast) -> OpResult<()> {
    c.prepare_cached(
        "UPDATE broadcasts SET doc = ?3, name = ?4, kind = ?5, status = ?6, date = ?7, update_time = ?8, search = ?9
         WHERE app = ?1 AND id = ?2",
    )?
    .execute(params![
        app,
        b.stream_id,
        to_text("broadcast", b)?,
        b.name.as_deref().unwrap_or_default(),
        b.kind,
        b.status.as_str(),
        b.date,
        b.update_time,
        search_text(b)
    ])?;
    Ok(())
}

fn own(c: &Connection, app: &str, id: &str, owner: Option<&str>, epoch: u64) -> OpResult<()> {
    c.prepare_cached("UPDATE broadcasts SET owner = ?3, epoch = ?4 WHERE app = ?1 AND id = ?2")?
        .execute(params![app, id, owner, epoch])?;
    Ok(())
}

fn remove(c: &Connection, app: &str, id: &str) -> OpResult<bool> {
    Ok(c.prepare_cached("DELETE FROM broadcasts WHERE app = ?1 AND id = ?2")?.execute([app, id])? == 1)
}

/// What a search looks at, in lower case. The line break keeps a match from spanning id and name.
fn search_text(b: &Broadcast) -> String {
    format!("{}\n{}", b.stream_id, b.name.as_deref().unwrap_or_default()).to_lowercase()
}

pub(super) fn create(c: &Connection, app: &str, b: &Broadcast) -> OpResult<()> {
    if insert(c, app, b, None, 0)? {
        Ok(())
    } else {
        Err(StoreError::Exists(format!("broadcast {app}/{}", b.stream_id)).into())
    }
}

pub(super) fn get(c: &Connection, app: &str, id: &str) -> OpResult<Option<Broadcast>> {
    Ok(find(c, app, id)?.map(|row| row.broadcast))
}

pub(super) fn get_many(c: &Connection, app: &str, ids: &[String]) -> OpResult<Vec<Broadcast>> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(get(c, app, id)?);
    }
    Ok(found)
}

pub(super) fn update(
    c: &Connection,
    app: &str,
    id: &str,
    update: BroadcastUpdate,
) -> OpResult<Option<Broadcast>> {
    let Some(Row { mut broadcast, .. }) = find(c, app, id)? else { return Ok(None) };
    broadcast.apply(BroadcastUpdate { stream_id: None, ..update });
    save(c, app, &broadcast)?;
    Ok(Some(broadcast))
}

pub(super) fn delete(c: &Connection, app: &str, ids: &[String]) -> OpResult<Vec<String>> {
    let mut gone = Vec::new();
    for id in ids {
        if remove(c, app, id)? {
            gone.push(id.clone());
        }
    }
    Ok(gone)
}

/// Stores it in place of what there is; `owner` and `epoch` stay.
pub(super) fn put(c: &Connection, app: &str, b: &Broadcast) -> OpResult<()> {
    if insert(c, app, b, None, 0)? { Ok(()) } else { save(c, app, b) }
}

/// Broadcasts of all apps by app and id, those after `after`.
pub(super) fn after(c: &Connection, after: (&str, &str), limit: usize) -> OpResult<Vec<(String, Broadcast)>> {
    let mut statement = c.prepare_cached(
        "SELECT app, id, doc FROM broadcasts WHERE (app, id) > (?1, ?2) ORDER BY app, id LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<(String, String, String)> = statement
        .query_map(params![after.0, after.1, limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    rows.into_iter().map(|(app, id, doc)| Ok((app, parse("broadcast", &id, &doc)?))).collect()
}

/// The conditions of a list or count call, and their values after the app's.
fn conditions(kind: Option<&str>, search: Option<&str>) -> (String, Vec<String>) {
    let (mut sql, mut values) = (String::from("app = ?1"), Vec::new());
    if let Some(kind) = kind.filter(|k| !k.is_empty()) {
        values.push(kind.to_owned());
        sql += &format!(" AND kind = ?{}", values.len() + 1);
    }
    if let Some(search) = search.filter(|s| !s.is_empty()) {
        values.push(search.to_lowercase());
        sql += &format!(" AND instr(search, ?{}) > 0", values.len() + 1);
    }
    (sql, values)
}

fn bind<'a>(app: &'a str, values: &'a [String]) -> Vec<&'a str> {
    std::iter::once(app).chain(values.iter().map(String::as_str)).collect()
}

pub(super) fn list(c: &Connection, app: &str, query: &ListQuery) -> OpResult<Vec<Broadcast>> {
    let (condition, values) = conditions(query.kind.as_deref(), query.search.as_deref());
    let direction = match query.order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    };
    let order = match query.sort_by {
        None => format!("seq {direction}"),
        Some(SortBy::Name) => format!("name COLLATE NOCASE {direction}, seq"),
        Some(SortBy::Date) => format!("date {direction}, seq {direction}"),
        Some(SortBy::Status) => format!("status {direction}, seq"),
    };
    let sql = format!(
        "SELECT id, doc FROM broadcasts WHERE {condition} ORDER BY {order} LIMIT {} OFFSET {}",
        query.size.min(LIST_LIMIT),
        i64::try_from(query.offset).unwrap_or(i64::MAX)
    );
    let mut statement = c.prepare_cached(&sql)?;
    let rows: Vec<(String, String)> = statement
        .query_map(rusqlite::params_from_iter(bind(app, &values)), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    rows.into_iter().map(|(id, doc)| parse("broadcast", &id, &doc)).collect()
}

pub(super) fn count(c: &Connection, app: &str, search: Option<&str>) -> OpResult<u64> {
    let (condition, values) = conditions(None, search);
    let sql = format!("SELECT count(*) FROM broadcasts WHERE {condition}");
    Ok(c.prepare_cached(&sql)?.query_row(rusqlite::params_from_iter(bind(app, &values)), |row| row.get(0))?)
}

pub(super) fn count_live(c: &Connection, app: &str, now: i64) -> OpResult<u64> {
    let since = now.saturating_sub(STALE_AFTER_MS);
    // The first condition on the status is the index's.
    let values: [&dyn ToSql; 2] = [&app, &since];
    Ok(c.prepare_cached(
        "SELECT count(*) FROM broadcasts
         WHERE app = ?1 AND status IN ('broadcasting', 'preparing') AND status = 'broadcasting' AND update_time >= ?2",
    )?
    .query_row(&values[..], |row| row.get(0))?)
}

fn fence(app: &str, id: &str, epoch: u64, current: u64) -> OpResult<()> {
    if current > epoch {
        return Err(StoreError::Fenced { stream: format!("{app}/{id}"), epoch, current }.into());
    }
    Ok(())
}

pub(super) fn begin_live(c: &Connection, app: &str, begin: BeginLive) -> OpResult<Broadcast> {
    let BeginLive { stream_id: id, node, epoch, now, known } = begin;
    let found = find(c, app, &id)?;
    let is_new = found.is_none();
    let mut b = match found {
        Some(row) => {
            fence(app, &id, epoch, row.epoch)?;
            row.broadcast
        }
        None => Broadcast { stream_id: id.clone(), zombi: true, date: now, ..Broadcast::default() },
    };
    b.clear_live();
    b.duration = 0;
    b.received_bytes = 0;
    b.start_time = now;
    b.absolute_start_time_ms = now;
    let rtmp_url = b.rtmp_url.take();
    b.apply(BroadcastUpdate { stream_id: None, ..known });
    b.rtmp_url = rtmp_url.or(b.rtmp_url);
    b.status = Status::Broadcasting;
    b.update_time = now;
    if is_new {
        insert(c, app, &b, Some(&node), epoch)?;
    } else {
        save(c, app, &b)?;
        own(c, app, &id, Some(&node), epoch)?;
    }
    Ok(b)
}

/// Gives the places of those that were left alone.
pub(super) fn update_live(c: &Connection, updates: Vec<LiveUpdate>) -> OpResult<Vec<usize>> {
    let mut left = Vec::new();
    for (place, LiveUpdate { app, stream_id, epoch, update }) in updates.into_iter().enumerate() {
        match find(c, &app, &stream_id)? {
            Some(Row { mut broadcast, epoch: current }) if current <= epoch && broadcast.status.is_live() => {
                broadcast.apply(BroadcastUpdate { stream_id: None, ..update });
                save(c, &app, &broadcast)?;
            }
            _ => left.push(place),
        }
    }
    Ok(left)
}

pub(super) fn end_live(
    c: &Connection,
    app: &str,
    id: &str,
    epoch: u64,
    now: i64,
    last: BroadcastUpdate,
) -> OpResult<Ended> {
    ownership::release(c, app, id, epoch)?;
    let Some(Row { mut broadcast, epoch: current }) = find(c, app, id)? else { return Ok(Ended::Untouched) };
    if current > epoch || !broadcast.status.is_live() {
        return Ok(Ended::Untouched);
    }
    broadcast.apply(BroadcastUpdate { stream_id: None, status: None, ..last });
    finish(c, app, broadcast, now)
}

fn finish(c: &Connection, app: &str, mut b: Broadcast, now: i64) -> OpResult<Ended> {
    if b.zombi {
        remove(c, app, &b.stream_id)?;
        return Ok(Ended::Deleted);
    }
    b.clear_live();
    b.status = Status::Finished;
    b.update_time = now;
    save(c, app, &b)?;
    c.prepare_cached("UPDATE broadcasts SET owner = NULL WHERE app = ?1 AND id = ?2")?
        .execute([app, &b.stream_id])?;
    Ok(Ended::Finished)
}

/// Ends what `node` left live; without a node, what anybody did.
pub(super) fn recover(c: &Connection, node: Option<&str>, now: i64) -> OpResult<Recovered> {
    let mut statement = c.prepare_cached(
        "SELECT app, id, doc FROM broadcasts
         WHERE status IN ('broadcasting', 'preparing') AND (?1 IS NULL OR owner = ?1)",
    )?;
    let left: Vec<(String, String, String)> = statement
        .query_map([node], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let mut recovered = Recovered::default();
    for (app, id, doc) in left {
        let broadcast: Broadcast = parse("broadcast", &id, &doc)?;
        if broadcast.is_virtual {
            continue;
        }
        match finish(c, &app, broadcast, now)? {
            Ended::Deleted => recovered.deleted += 1,
            Ended::Finished => recovered.finished += 1,
            Ended::Untouched => {}
        }
    }
    ownership::release_all(c, node)?;
    Ok(recovered)
}
