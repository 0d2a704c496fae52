//! Apps, settings, nodes and values.

use mongodb::bson::{Document, doc};

use super::Db;
use super::connect::passing;
use super::documents::{OURS, from_node, from_settings, integer, to_app, to_node, unsigned};
use super::failure::{OpResult, is_duplicate};
use super::watch::Seen;
use crate::{App, AppSettings, NodeRecord, StoreError};

/// AMS marks an app that is being deleted before it is gone.
fn present() -> Document {
    doc! { "appStatus": { "$ne": "deleted" } }
}

fn named(name: &str) -> Document {
    let mut filter = present();
    filter.insert("appName", name);
    filter
}

pub(super) async fn apps(db: &Db) -> OpResult<Vec<App>> {
    let apps = db.apps().await?;
    let found = db.all(apps.find(present()).sort(doc! { "appName": 1 }).await?).await?;
    found.into_iter().map(to_app).collect()
}

/// What tells one state of all apps from another.
pub(super) async fn state(db: &Db) -> OpResult<Seen> {
    let apps = db.apps().await?;
    let fields = doc! { "appName": 1, "updateTime": 1, "sluice.version": 1 };
    let found = db.all(apps.find(present()).projection(fields).await?).await?;
    let mut seen: Seen = found
        .into_iter()
        .map(|d| {
            let version = d.get_document(OURS).map_or(0, |ours| unsigned(ours, "version"));
            let name = d.get_str("appName").unwrap_or_default().to_owned();
            (name, version, integer(&d, "updateTime").unwrap_or(0))
        })
        .collect();
    seen.sort();
    Ok(seen)
}

pub(super) async fn app(db: &Db, name: &str) -> OpResult<Option<App>> {
    db.apps().await?.find_one(named(name)).await?.map(to_app).transpose()
}

pub(super) async fn create_app(db: &Db, name: &str, settings: &AppSettings) -> OpResult<bool> {
    let apps = db.apps().await?;
    if apps.find_one(doc! { "appName": name }).await?.is_some() {
        return Ok(false);
    }
    // The first of several apps whose names differ by case has the database that AMS would give it.
    db.database_for(name).await?;
    let mut document = from_settings(name, settings, 1, crate::mongo::unix_ms())?;
    document.insert("_id", name);
    match apps.insert_one(document).await {
        Ok(_) => Ok(true),
        Err(e) if is_duplicate(&e) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

pub(super) async fn set_settings(
    db: &Db,
    name: &str,
    settings: &AppSettings,
    expected: u64,
) -> OpResult<u64> {
    let apps = db.apps().await?;
    let next = expected.saturating_add(1);
    let mut filter = named(name);
    // A document that AMS wrote has no version.
    let version =
        if expected == 0 { mongodb::bson::Bson::Null } else { super::documents::long(expected).into() };
    filter.insert("sluice.version", version);
    let document = from_settings(name, settings, next, crate::mongo::unix_ms())?;
    if apps.replace_one(filter, document).await?.matched_count == 1 {
        return Ok(next);
    }
    match app(db, name).await? {
        None => Err(StoreError::NotFound(format!("app {name}")).into()),
        Some(App { version: found, .. }) => {
            Err(StoreError::Conflict { what: format!("settings of app {name}"), expected, found }.into())
        }
    }
}

pub(super) async fn delete_app(db: &Db, name: &str, delete_data: bool) -> OpResult<bool> {
    if delete_data && let Some(database) = db.database_of(name).await? {
        database.drop().await?;
        // Its indexes are made again when it is used again.
        db.forget();
    }
    Ok(db.apps().await?.delete_many(doc! { "appName": name }).await?.deleted_count > 0)
}

pub(super) async fn put_node(db: &Db, node: NodeRecord) -> OpResult<()> {
    let filter = doc! { "_id": &node.id };
    let nodes = db.nodes().await?;
    nodes.replace_one(filter, from_node(node)).upsert(true).write_concern(passing()).await?;
    Ok(())
}

pub(super) async fn nodes(db: &Db) -> OpResult<Vec<NodeRecord>> {
    let nodes = db.nodes().await?;
    let found = db.all(nodes.find(doc! {}).sort(doc! { "_id": 1 }).await?).await?;
    Ok(found.into_iter().filter_map(to_node).collect())
}

pub(super) async fn delete_node(db: &Db, id: &str) -> OpResult<bool> {
    Ok(db.nodes().await?.delete_one(doc! { "_id": id }).await?.deleted_count == 1)
}

pub(super) async fn value(db: &Db, key: &str) -> OpResult<Option<String>> {
    let found = db.values().await?.find_one(doc! { "_id": key }).await?;
    Ok(found.and_then(|d| d.get_str("value").ok().map(str::to_owned)))
}

pub(super) async fn set_value(db: &Db, key: &str, value: &str) -> OpResult<()> {
    let set = doc! { "$set": { "value": value } };
    db.values().await?.update_one(doc! { "_id": key }, set).upsert(true).await?;
    Ok(())
}
