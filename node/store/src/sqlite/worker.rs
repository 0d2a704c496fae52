//! The one thread that has the connection.

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::failure::{Engine, Failure, OpResult};
use super::open::Opened;

/// Jobs that share one transaction at most, so that no caller waits for more than these.
const BATCH: usize = 256;

/// Tells the caller, once it is known whether the transaction was stored.
type Reply = Box<dyn FnOnce(Option<Engine>) + Send>;

/// Runs, says whether it worked, and how to tell the caller.
type Run = Box<dyn FnOnce(&Connection) -> (bool, Reply) + Send>;

/// One call to the store.
pub(super) struct Job {
    writes: bool,
    run: Run,
}

impl Job {
    pub(super) fn new<T, F>(writes: bool, f: F, answer: oneshot::Sender<OpResult<T>>) -> Self
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> OpResult<T> + Send + 'static,
    {
        let run = Box::new(move |connection: &Connection| {
            let result = f(connection);
            let worked = result.is_ok();
            let reply: Reply = Box::new(move |not_stored: Option<Engine>| {
                // The caller may have gone away; the work is done all the same.
                let _ = answer.send(match not_stored {
                    Some(e) if worked => Err(Failure::Engine(e)),
                    _ => result,
                });
            });
            (worked, reply)
        });
        Job { writes, run }
    }
}

/// Runs jobs until every sender is gone, then closes the database and gives up the directory.
pub(super) fn run(opened: Opened, mut queue: mpsc::Receiver<Job>) {
    let connection = &opened.connection;
    while let Some(first) = queue.blocking_recv() {
        let mut next = Some(first);
        let mut replies = Vec::new();
        let mut not_stored = connection.execute_batch("BEGIN").err().map(|e| Engine::from(&e));
        while let Some(job) = next.take() {
            let (worked, reply) = run_one(connection, job);
            replies.push(reply);
            if connection.is_autocommit() {
                // A full disk makes SQLite roll back the whole transaction; so nothing of it is stored.
                not_stored.get_or_insert_with(|| rolled_back(connection));
                break;
            }
            tracing::trace!(worked, "store job");
            if replies.len() < BATCH {
                next = queue.try_recv().ok();
            }
        }
        if !connection.is_autocommit()
            && let Err(e) = connection.execute_batch("COMMIT")
        {
            not_stored = Some(Engine::from(&e));
            // When this fails too there is no transaction left, which is what it is for.
            let _ = connection.execute_batch("ROLLBACK");
        }
        for reply in replies {
            reply(not_stored.clone());
        }
    }
    // Only helps later queries.
    let _ = connection.execute_batch("PRAGMA optimize");
}

/// A write that failed half-way leaves nothing behind; the others of the transaction stay.
fn run_one(connection: &Connection, job: Job) -> (bool, Reply) {
    if !job.writes {
        return (job.run)(connection);
    }
    if let Err(e) = connection.execute_batch("SAVEPOINT job") {
        tracing::warn!(error = %e, "the store cannot begin a write");
    }
    let (worked, reply) = (job.run)(connection);
    if !connection.is_autocommit() {
        let end = if worked { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
        if let Err(e) = connection.execute_batch(end) {
            tracing::warn!(error = %e, "the store cannot end a write");
            // Without its savepoint nothing of the transaction can be trusted.
            let _ = connection.execute_batch("ROLLBACK");
        }
    }
    (worked, reply)
}

fn rolled_back(connection: &Connection) -> Engine {
    // Ask for the reason by writing again: a disk that is still full says so.
    match connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
        Err(e) => Engine::from(&e),
        Ok(()) => Engine::from(&rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
            Some("the transaction was rolled back".into()),
        )),
    }
}
