//! The store from inside one transaction: for nodes that have no database in common and tell each other what changes. Such a
//! node changes a record together with its note about it (what version it is, who knows of it), or neither.

use std::cell::Cell;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, params};

use super::failure::{Failure, OpResult};
use super::{Sqlite, broadcasts, records};
use crate::{App, AppSettings, Broadcast, BroadcastUpdate, Ended, Result};

/// What a node has noted about a shared record. The text is the node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The text.
    pub text: String,
    /// When this node learned that the record was deleted, ms. Such notes can be [forgotten](Transaction::forget).
    pub deleted_at: Option<i64>,
}

/// The store within a transaction. What is done with it is stored together, when the function that was given it succeeds.
pub struct Transaction<'c> {
    c: &'c Connection,
    what: &'static str,
    file: PathBuf,
    apps_changed: Cell<bool>,
}

impl Sqlite {
    /// Runs `f` in one transaction. It runs on the store's thread, where everybody else waits for it.
    ///
    /// # Errors
    /// What `f` gives back, after which nothing of it is stored; and as every call.
    pub async fn transact<T, F>(&self, what: &'static str, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    {
        let file = self.file.clone();
        let (done, apps_changed) = self
            .write(what, move |c| {
                let inside = Transaction { c, what, file, apps_changed: Cell::new(false) };
                let done = f(&inside).map_err(Failure::from)?;
                Ok((done, inside.apps_changed.get()))
            })
            .await?;
        if apps_changed {
            self.changes.send_modify(|n| *n += 1);
        }
        Ok(done)
    }
}

impl Transaction<'_> {
    fn done<T>(&self, result: OpResult<T>) -> Result<T> {
        result.map_err(|failure| match failure {
            Failure::Answer(e) => *e,
            Failure::Engine(e) => e.into_error(self.what, &self.file),
        })
    }

    fn apps_done<T>(&self, result: OpResult<T>) -> Result<T> {
        self.apps_changed.set(true);
        self.done(result)
    }

    /// As [`Store::apps`](crate::Store::apps).
    ///
    /// # Errors
    /// As there.
    pub fn apps(&self) -> Result<Vec<App>> {
        self.done(records::apps(self.c))
    }

    /// As [`Store::app`](crate::Store::app).
    ///
    /// # Errors
    /// As there.
    pub fn app(&self, name: &str) -> Result<Option<App>> {
        self.done(records::app(self.c, name))
    }

    /// As [`Store::create_app`](crate::Store::create_app).
    ///
    /// # Errors
    /// As there.
    pub fn create_app(&self, name: &str, settings: &AppSettings) -> Result<bool> {
        self.apps_done(records::create_app(self.c, name, settings))
    }

    /// As [`Store::set_app_settings`](crate::Store::set_app_settings).
    ///
    /// # Errors
    /// As there.
    pub fn set_app_settings(&self, name: &str, settings: &AppSettings, expected: u64) -> Result<u64> {
        self.apps_done(records::set_settings(self.c, name, settings, expected))
    }

    /// As [`Store::delete_app`](crate::Store::delete_app).
    ///
    /// # Errors
    /// As there.
    pub fn delete_app(&self, name: &str, delete_data: bool) -> Result<bool> {
        self.apps_done(records::delete_app(self.c, name, delete_data))
    }

    /// As [`Store::broadcast`](crate::Store::broadcast).
    ///
    /// # Errors
    /// As there.
    pub fn broadcast(&self, app: &str, id: &str) -> Result<Option<Broadcast>> {
        self.done(broadcasts::get(self.c, app, id))
    }

    /// As [`Store::create_broadcast`](crate::Store::create_broadcast).
    ///
    /// # Errors
    /// As there.
    pub fn create_broadcast(&self, app: &str, broadcast: &Broadcast) -> Result<()> {
        self.done(broadcasts::create(self.c, app, broadcast))
    }

    /// As [`Store::update_broadcast`](crate::Store::update_broadcast).
    ///
    /// # Errors
    /// As there.
    pub fn update_broadcast(
        &self,
        app: &str,
        id: &str,
        update: BroadcastUpdate,
    ) -> Result<Option<Broadcast>> {
        self.done(broadcasts::update(self.c, app, id, update))
    }

    /// Stores a broadcast in place of what there is; who has it as a live stream stays.
    ///
    /// # Errors
    /// As every call.
    pub fn put_broadcast(&self, app: &str, broadcast: &Broadcast) -> Result<()> {
        self.done(broadcasts::put(self.c, app, broadcast))
    }

    /// As [`Store::delete_broadcasts`](crate::Store::delete_broadcasts).
    ///
    /// # Errors
    /// As there.
    pub fn delete_broadcasts(&self, app: &str, ids: &[String]) -> Result<Vec<String>> {
        self.done(broadcasts::delete(self.c, app, ids))
    }

    /// As [`Store::end_live`](crate::Store::end_live).
    ///
    /// # Errors
    /// As there.
    pub fn end_live(
        &self,
        app: &str,
        id: &str,
        epoch: u64,
        now: i64,
        last: BroadcastUpdate,
    ) -> Result<Ended> {
        self.done(broadcasts::end_live(self.c, app, id, epoch, now, last))
    }

    /// Broadcasts of all apps with their apps, by app and id, those after `after`.
    ///
    /// # Errors
    /// As every call.
    pub fn broadcasts_after(&self, after: (&str, &str), limit: usize) -> Result<Vec<(String, Broadcast)>> {
        self.done(broadcasts::after(self.c, after, limit))
    }

    /// As [`Store::value`](crate::Store::value).
    ///
    /// # Errors
    /// As there.
    pub fn value(&self, key: &str) -> Result<Option<String>> {
        self.done(records::value(self.c, key))
    }

    /// As [`Store::set_value`](crate::Store::set_value).
    ///
    /// # Errors
    /// As there.
    pub fn set_value(&self, key: &str, value: &str) -> Result<()> {
        self.done(records::set_value(self.c, key, value))
    }

    /// The note about a record.
    ///
    /// # Errors
    /// As every call.
    pub fn note(&self, name: &str) -> Result<Option<Note>> {
        self.done(note(self.c, name))
    }

    /// Notes something about a record in place of what was noted.
    ///
    /// # Errors
    /// As every call.
    pub fn put_note(&self, name: &str, note: &Note) -> Result<()> {
        self.done(put_note(self.c, name, note))
    }

    /// Notes by name, those after `after`.
    ///
    /// # Errors
    /// As every call.
    pub fn notes_after(&self, after: &str, limit: usize) -> Result<Vec<(String, Note)>> {
        self.done(notes_after(self.c, after, limit))
    }

    /// Forgets the notes about records that were deleted before `before` (ms), and of the others the oldest when they are
    /// more than `keep`; gives their names.
    ///
    /// # Errors
    /// As every call.
    pub fn forget(&self, before: i64, keep: u32) -> Result<Vec<String>> {
        self.done(forget(self.c, before, keep))
    }
}

fn note(c: &Connection, name: &str) -> OpResult<Option<Note>> {
    Ok(c.prepare_cached("SELECT note, deleted_at FROM shared WHERE name = ?1")?
        .query_row([name], |row| Ok(Note { text: row.get(0)?, deleted_at: row.get(1)? }))
        .optional()?)
}

fn put_note(c: &Connection, name: &str, note: &Note) -> OpResult<()> {
    c.prepare_cached(
        "INSERT INTO shared (name, note, deleted_at) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET note = ?2, deleted_at = ?3",
    )?
    .execute(params![name, note.text, note.deleted_at])?;
    Ok(())
}

fn notes_after(c: &Connection, after: &str, limit: usize) -> OpResult<Vec<(String, Note)>> {
    let mut statement =
        c.prepare_cached("SELECT name, note, deleted_at FROM shared WHERE name > ?1 ORDER BY name LIMIT ?2")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![after, limit], |row| {
        Ok((row.get(0)?, Note { text: row.get(1)?, deleted_at: row.get(2)? }))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn forget(c: &Connection, before: i64, keep: u32) -> OpResult<Vec<String>> {
    let mut statement = c.prepare_cached(
        "DELETE FROM shared WHERE name IN (
            SELECT name FROM shared WHERE deleted_at < ?1
            UNION ALL
            SELECT name FROM (SELECT name FROM shared WHERE deleted_at IS NOT NULL
                              ORDER BY deleted_at DESC, name LIMIT -1 OFFSET ?2))
         RETURNING name",
    )?;
    let rows = statement.query_map(params![before, keep], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, StoreError};

    fn named(id: &str) -> Broadcast {
        Broadcast { stream_id: id.into(), ..Broadcast::default() }
    }

    fn text(text: &str, deleted_at: Option<i64>) -> Note {
        Note { text: text.into(), deleted_at }
    }

    #[tokio::test]
    async fn a_record_and_its_note_are_stored_together_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(dir.path()).unwrap();
        store
            .transact("try", |t| {
                t.create_broadcast("a", &named("s"))?;
                t.put_note("n", &text("one", None))
            })
            .await
            .unwrap();
        let failed = store
            .transact("try", |t| {
                t.put_note("n", &text("two", None))?;
                t.create_broadcast("a", &named("t"))?;
                t.create_broadcast("a", &named("s"))
            })
            .await;
        assert!(matches!(failed, Err(StoreError::Exists(_))));
        assert_eq!(store.broadcast("a", "t").await.unwrap(), None);
        drop(store);
        let store = Sqlite::open(dir.path()).unwrap();
        let note = store.transact("read", |t| t.note("n")).await.unwrap();
        assert_eq!(note, Some(text("one", None)));
        assert!(store.broadcast("a", "s").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn changes_of_apps_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(dir.path()).unwrap();
        let changes = store.changes();
        store.transact("try", |t| t.put_note("n", &text("one", None))).await.unwrap();
        assert!(!changes.has_changed().unwrap());
        store.transact("try", |t| t.create_app("a", &AppSettings::default())).await.unwrap();
        assert!(changes.has_changed().unwrap());
    }

    #[tokio::test]
    async fn notes_and_broadcasts_are_read_in_pages_and_old_notes_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(dir.path()).unwrap();
        let (notes, broadcasts, forgotten, left) = store
            .transact("try", |t| {
                for (i, name) in ["d", "b", "a", "c"].into_iter().enumerate() {
                    let deleted_at = (name != "a").then_some(i as i64);
                    t.put_note(name, &text(name, deleted_at))?;
                    t.create_broadcast(name, &named("1"))?;
                    t.put_broadcast(name, &named("2"))?;
                    t.put_broadcast(name, &Broadcast { publish: false, ..named("2") })?;
                }
                Ok((
                    t.notes_after("a", 2)?,
                    t.broadcasts_after(("b", "1"), 2)?,
                    (t.forget(1, 9)?, t.forget(1, 1)?),
                    t.notes_after("", 9)?,
                ))
            })
            .await
            .unwrap();
        assert_eq!(notes, [("b".into(), text("b", Some(1))), ("c".into(), text("c", Some(3)))]);
        let two = Broadcast { publish: false, ..named("2") };
        assert_eq!(broadcasts, [("b".into(), two), ("c".into(), named("1"))]);
        assert_eq!(forgotten, (vec!["d".to_owned()], vec!["b".to_owned()]));
        assert_eq!(left.into_iter().map(|(name, _)| name).collect::<String>(), "ac");
    }
}
