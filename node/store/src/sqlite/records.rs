//! Apps, settings, nodes and values.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failure::OpResult;
use crate::{App, AppSettings, NodeRecord, StoreError};

pub(super) fn parse<T: serde::de::DeserializeOwned>(what: &str, name: &str, text: &str) -> OpResult<T> {
    serde_json::from_str(text)
        .map_err(|e| StoreError::Unreadable { what: format!("{what} {name}"), detail: e.to_string() }.into())
}

pub(super) fn to_text<T: serde::Serialize>(what: &str, record: &T) -> OpResult<String> {
    serde_json::to_string(record)
        .map_err(|e| StoreError::Unreadable { what: what.to_owned(), detail: e.to_string() }.into())
}

/// Name, settings, version.
type AppRow = (String, String, u64);

fn app_row(row: &Row<'_>) -> rusqlite::Result<AppRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn to_app((name, settings, version): AppRow) -> OpResult<App> {
    let settings = parse("settings of app", &name, &settings)?;
    Ok(App { name, settings, version })
}

pub(super) fn apps(c: &Connection) -> OpResult<Vec<App>> {
    let mut statement = c.prepare_cached("SELECT name, settings, version FROM apps ORDER BY name")?;
    let rows: Vec<AppRow> = statement.query_map([], app_row)?.collect::<Result<_, _>>()?;
    rows.into_iter().map(to_app).collect()
}

pub(super) fn app(c: &Connection, name: &str) -> OpResult<Option<App>> {
    c.prepare_cached("SELECT name, settings, version FROM apps WHERE name = ?1")?
        .query_row([name], app_row)
        .optional()?
        .map(to_app)
        .transpose()
}

pub(super) fn create_app(c: &Connection, name: &str, settings: &AppSettings) -> OpResult<bool> {
    let settings = to_text("settings", settings)?;
    let made = c
        .prepare_cached(
            "INSERT INTO apps (name, settings, version) VALUES (?1, ?2, 1) ON CONFLICT DO NOTHING",
        )?
        .execute(params![name, settings])?;
    Ok(made == 1)
}

pub(super) fn set_settings(
    c: &Connection,
    name: &str,
    settings: &AppSettings,
    expected: u64,
) -> OpResult<u64> {
    let found: Option<u64> = c
        .prepare_cached("SELECT version FROM apps WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    let found = found.ok_or_else(|| StoreError::NotFound(format!("app {name}")))?;
    if found != expected {
        return Err(StoreError::Conflict { what: format!("settings of app {name}"), expected, found }.into());
    }
    c.prepare_cached("UPDATE apps SET settings = ?2, version = ?3 WHERE name = ?1")?.execute(params![
        name,
        to_text("settings", settings)?,
        found + 1
    ])?;
    Ok(found + 1)
}

pub(super) fn delete_app(c: &Connection, name: &str, delete_data: bool) -> OpResult<bool> {
    if delete_data {
        c.prepare_cached("DELETE FROM broadcasts WHERE app = ?1")?.execute([name])?;
    }
    Ok(c.prepare_cached("DELETE FROM apps WHERE name = ?1")?.execute([name])? == 1)
}

pub(super) fn put_node(c: &Connection, node: &NodeRecord) -> OpResult<()> {
    c.prepare_cached("INSERT INTO nodes (id, doc) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET doc = ?2")?
        .execute([&node.id, &to_text("node", node)?])?;
    Ok(())
}

pub(super) fn nodes(c: &Connection) -> OpResult<Vec<NodeRecord>> {
    let mut statement = c.prepare_cached("SELECT id, doc FROM nodes ORDER BY id")?;
    let rows: Vec<(String, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    rows.into_iter().map(|(id, doc)| parse("node", &id, &doc)).collect()
}

pub(super) fn delete_node(c: &Connection, id: &str) -> OpResult<bool> {
    Ok(c.prepare_cached("DELETE FROM nodes WHERE id = ?1")?.execute([id])? == 1)
}

pub(super) fn value(c: &Connection, key: &str) -> OpResult<Option<String>> {
    Ok(c.prepare_cached("SELECT value FROM node_values WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?)
}

pub(super) fn set_value(c: &Connection, key: &str, value: &str) -> OpResult<()> {
    c.prepare_cached("INSERT INTO node_values VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2")?
        .execute([key, value])?;
    Ok(())
}
