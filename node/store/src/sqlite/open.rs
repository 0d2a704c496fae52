//! Opening the file: lock, integrity, schema.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::failure::{Engine, io_error};
use crate::{Result, StoreError};

/// Marks the file as ours ("Sluc").
const APPLICATION_ID: i64 = 0x536c_7563;

/// One step of the schema each; the position is the version that the step leads from.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE apps (
        name TEXT PRIMARY KEY,
        settings TEXT NOT NULL,
        version INTEGER NOT NULL
    ) WITHOUT ROWID;

    -- `doc` is the record; the other columns repeat what is searched, sorted and counted by, and say who has
    -- the stream (`owner`, `epoch`), which is not part of the record.
    CREATE TABLE broadcasts (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        app TEXT NOT NULL,
        id TEXT NOT NULL,
        doc TEXT NOT NULL,
        name TEXT NOT NULL,
        kind TEXT NOT NULL,
        status TEXT NOT NULL,
        date INTEGER NOT NULL,
        update_time INTEGER NOT NULL,
        search TEXT NOT NULL,
        owner TEXT,
        epoch INTEGER NOT NULL DEFAULT 0,
        UNIQUE (app, id)
    );
    CREATE INDEX broadcasts_live ON broadcasts (app, update_time) WHERE status IN ('broadcasting', 'preparing');

    CREATE TABLE ownership (
        app TEXT NOT NULL,
        id TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        node TEXT NOT NULL,
        media_sequence INTEGER NOT NULL,
        discontinuity_sequence INTEGER NOT NULL,
        used_at INTEGER NOT NULL,
        PRIMARY KEY (app, id)
    ) WITHOUT ROWID;
    CREATE INDEX ownership_used ON ownership (used_at);

    -- The highest epoch of the ownership records that were dropped.
    CREATE TABLE epoch_floor (epoch INTEGER NOT NULL);
    INSERT INTO epoch_floor VALUES (0);

    CREATE TABLE node_values (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
", "
    ALTER TABLE ownership ADD COLUMN timeline INTEGER NOT NULL DEFAULT 0;
    -- Whether `node` still has the stream.
    ALTER TABLE ownership ADD COLUMN held INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE nodes (id TEXT PRIMARY KEY, doc TEXT NOT NULL) WITHOUT ROWID;
", "
    -- What a node without a database has noted about the records that it has in common with others.
    CREATE TABLE shared (name TEXT PRIMARY KEY, note TEXT NOT NULL, deleted_at INTEGER) WITHOUT ROWID;
    CREATE INDEX shared_deleted ON shared (deleted_at) WHERE deleted_at IS NOT NULL;
"];

/// The open database. Fields are dropped in this order: the lock goes last.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) file: PathBuf,
    _lock: File,
}

pub(super) fn open(dir: &Path) -> Result<Opened> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| io_error(dir, &e))?;
    let lock = lock(dir)?;
    let file = dir.join("sluice.db");
    // Made here so that only the owner can read it: it holds settings with secrets. SQLite gives its -wal and
    // -shm files the same mode.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file)
        .map_err(|e| io_error(&file, &e))?;
    let engine = |e: rusqlite::Error| Engine::from(&e).into_error("open the database", &file);
    let mut connection = Connection::open(&file).map_err(engine)?;
    configure(&connection).map_err(engine)?;
    check(&connection, &file)?;
    migrate(&mut connection, &file, MIGRATIONS)?;
    Ok(Opened { connection, file, _lock: lock })
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| io_error(&path, &e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only makes the message better.
            let _ = lock.read_to_string(&mut pid);
            return Err(StoreError::Locked { path: dir.to_path_buf(), pid: pid.trim().parse().ok() });
        }
        Err(TryLockError::Error(e)) => return Err(io_error(&path, &e)),
    }
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(|e| io_error(&path, &e))?;
    Ok(lock)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Others may read the file meanwhile (a backup); they do not make a call fail at once.
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a commit also survives a power cut. Commits are shared, see `worker`.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    Ok(())
}

fn check(connection: &Connection, file: &Path) -> Result<()> {
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|e| Engine::from(&e).into_error("check the database", file))?;
    if found == "ok" { Ok(()) } else { Err(StoreError::Corrupt { path: file.to_path_buf(), detail: found }) }
}

fn migrate(connection: &mut Connection, file: &Path, steps: &[&str]) -> Result<()> {
    let engine = |e: rusqlite::Error| Engine::from(&e).into_error("bring the schema up to date", file);
    let pragma = |c: &Connection, name| c.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let found = pragma(connection, "user_version").map_err(engine)?;
    let application = pragma(connection, "application_id").map_err(engine)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(engine)?;
    if application != APPLICATION_ID && (application != 0 || found != 0 || tables != 0) {
        let detail = "it belongs to another program".into();
        return Err(StoreError::Corrupt { path: file.to_path_buf(), detail });
    }
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > known || found < 0 {
        return Err(StoreError::TooNew { path: file.to_path_buf(), found, known });
    }
    for (version, step) in (0..).zip(steps).filter(|(version, _)| *version >= found) {
        let change = connection.transaction().map_err(engine)?;
        change.execute_batch(step).map_err(engine)?;
        change.pragma_update(None, "application_id", APPLICATION_ID).map_err(engine)?;
        change.pragma_update(None, "user_version", version + 1).map_err(engine)?;
        change.commit().map_err(engine)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::ownership;
    use super::*;

    fn db(dir: &Path) -> (Connection, PathBuf) {
        let file = dir.join("sluice.db");
        (Connection::open(&file).unwrap(), file)
    }

    #[test]
    fn migrations_run_once_each_and_keep_the_data() {
        let dir = tempfile::tempdir().unwrap();
        let (mut c, file) = db(dir.path());
        let one = "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('kept')";
        let two = "ALTER TABLE t ADD COLUMN b TEXT NOT NULL DEFAULT 'new'";
        migrate(&mut c, &file, &[one]).unwrap();
        migrate(&mut c, &file, &[one, two]).unwrap();
        migrate(&mut c, &file, &[one, two]).unwrap();
        let row: (String, String, i64) = c
            .query_row("SELECT a, b, (SELECT count(*) FROM t) FROM t", [], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?))
            })
            .unwrap();
        assert_eq!(row, ("kept".into(), "new".into(), 1));
        assert!(matches!(migrate(&mut c, &file, &[one]), Err(StoreError::TooNew { found: 2, known: 1, .. })));
    }

    #[test]
    fn a_failed_migration_leaves_the_old_schema() {
        let dir = tempfile::tempdir().unwrap();
        let (mut c, file) = db(dir.path());
        let one = "CREATE TABLE t (a TEXT)";
        migrate(&mut c, &file, &[one]).unwrap();
        assert!(migrate(&mut c, &file, &[one, "CREATE TABLE u (a TEXT); NONSENSE"]).is_err());
        let version: i64 = c.pragma_query_value(None, "user_version", |r| r.get(0)).unwrap();
        let tables: i64 = c.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).unwrap();
        assert_eq!((version, tables), (1, 1));
    }

    #[test]
    fn ownership_of_the_first_schema_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (mut c, file) = db(dir.path());
        migrate(&mut c, &file, &MIGRATIONS[..1]).unwrap();
        c.execute_batch(
            "INSERT INTO ownership (app, id, epoch, node, media_sequence, discontinuity_sequence, used_at)
             VALUES ('a', 's', 7, 'n', 300, 4, 1000)",
        )
        .unwrap();
        migrate(&mut c, &file, MIGRATIONS).unwrap();
        let known = crate::Claim::default();
        assert_eq!(ownership::owner(&c, "a", "s").unwrap(), None, "the crash of the old release ended it");
        let claim = ownership::claim(&c, "a", "s", "n2", 2000, known).unwrap();
        let expected = crate::Claim {
            epoch: crate::EPOCH_STEP,
            media_sequence: 300,
            discontinuity_sequence: 4,
            timeline: 0,
        };
        assert_eq!(claim, expected);
    }

    #[test]
    fn the_file_of_another_program_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (c, _) = db(dir.path());
        c.execute_batch("CREATE TABLE theirs (a)").unwrap();
        drop(c);
        assert!(matches!(open(dir.path()), Err(StoreError::Corrupt { .. })));
    }
}
