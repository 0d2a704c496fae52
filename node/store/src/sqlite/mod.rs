//! The embedded store: one SQLite file in the data directory, written by one thread.
//!
//! Calls are sent to that thread through a bounded queue. What waits when it is free is run as one transaction,
//! so that the cost of making a commit durable is shared by all callers of that moment.

mod broadcasts;
mod failure;
mod open;
mod ownership;
mod records;
pub(crate) mod shared;
mod worker;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use self::failure::{Failure, OpResult};
use self::worker::Job;
use crate::{
    App, AppSettings, BeginLive, Broadcast, BroadcastUpdate, Claim, Ended, ListQuery, LiveUpdate, NodeRecord,
    Numbers, Owner, Recovered, Result, Store, StoreError, Timings,
};

/// Calls that may wait at once; a caller beyond that waits for a place.
const QUEUE: usize = 1024;

/// A caller that has no answer after this long is told so.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The store in one file, `sluice.db`, of a data directory that it alone has open.
pub struct Sqlite {
    file: PathBuf,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    timings: Timings,
    changes: watch::Sender<u64>,
    /// What an earlier process left live has been ended.
    recovered: AtomicBool,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the store in `dir`, making directory and file when they are missing, checking the file, and
    /// bringing an older schema up to date. Blocks; call it before serving, or from a blocking thread.
    ///
    /// # Errors
    /// `Locked` when another process has the directory, `Corrupt`, `TooNew`, `Permission`, `Full`, `Io`.
    pub fn open(dir: &Path) -> Result<Self> {
        let opened = open::open(dir)?;
        let file = opened.file.clone();
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || worker::run(opened, queue))
            .map_err(|e| StoreError::Io { path: file.clone(), detail: format!("no thread for it: {e}") })?;
        Ok(Sqlite {
            file,
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
            timings: Timings::default(),
            changes: watch::Sender::new(0),
            recovered: AtomicBool::new(false),
        })
    }

    /// The database file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    async fn read<T, F>(&self, what: &'static str, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> OpResult<T> + Send + 'static,
    {
        self.call(what, false, f).await
    }

    async fn write<T, F>(&self, what: &'static str, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> OpResult<T> + Send + 'static,
    {
        self.call(what, true, f).await
    }

    async fn call<T, F>(&self, what: &'static str, writes: bool, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> OpResult<T> + Send + 'static,
    {
        let start = Instant::now();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (answer, answered) = oneshot::channel();
        let job = Job::new(writes, f, answer);
        let outcome = tokio::time::timeout(TIMEOUT, async move {
            jobs.ok_or(StoreError::Closed)?.send(job).await.map_err(|_| StoreError::Closed)?;
            answered.await.map_err(|_| StoreError::Closed)
        })
        .await;
        let result = match outcome {
            Err(_) => Err(StoreError::Timeout { what, seconds: TIMEOUT.as_secs() }),
            Ok(Err(closed)) => Err(closed),
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(Failure::Answer(e)))) => Err(*e),
            Ok(Ok(Err(Failure::Engine(e)))) => Err(e.into_error(what, &self.file)),
        };
        self.timings.record(start.elapsed(), result.as_ref().is_err_and(|e| !e.is_answer()));
        result
    }

    /// As [`write`](Self::write), of apps or settings.
    async fn write_apps<T, F>(&self, what: &'static str, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> OpResult<T> + Send + 'static,
    {
        let result = self.write(what, f).await;
        self.changes.send_modify(|n| *n += 1);
        result
    }

    fn stop(&self) -> Option<JoinHandle<()>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Sqlite {
    /// Waits until what was sent is stored, and the directory is free for the next.
    fn drop(&mut self) {
        if let Some(thread) = self.stop() {
            // A panic in there was reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn ping(&self) -> Result<()> {
        self.read("answer", |c| Ok(c.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }

    fn timings(&self) -> &Timings {
        &self.timings
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn apps(&self) -> Result<Vec<App>> {
        self.read("list the apps", records::apps).await
    }

    async fn app(&self, name: &str) -> Result<Option<App>> {
        let name = name.to_owned();
        self.read("read an app", move |c| records::app(c, &name)).await
    }

    async fn create_app(&self, name: &str, settings: AppSettings) -> Result<bool> {
        let name = name.to_owned();
        self.write_apps("create an app", move |c| records::create_app(c, &name, &settings)).await
    }

    async fn set_app_settings(&self, name: &str, settings: AppSettings, expected: u64) -> Result<u64> {
        let name = name.to_owned();
        self.write_apps("store settings", move |c| records::set_settings(c, &name, &settings, expected)).await
    }

    async fn delete_app(&self, name: &str, delete_data: bool) -> Result<bool> {
        let name = name.to_owned();
        self.write_apps("delete an app", move |c| records::delete_app(c, &name, delete_data)).await
    }

    async fn create_broadcast(&self, app: &str, broadcast: Broadcast) -> Result<()> {
        let app = app.to_owned();
        self.write("create a broadcast", move |c| broadcasts::create(c, &app, &broadcast)).await
    }

    async fn broadcast(&self, app: &str, id: &str) -> Result<Option<Broadcast>> {
        let (app, id) = (app.to_owned(), id.to_owned());
        self.read("read a broadcast", move |c| broadcasts::get(c, &app, &id)).await
    }

    async fn broadcasts(&self, app: &str, ids: &[String]) -> Result<Vec<Broadcast>> {
        let (app, ids) = (app.to_owned(), ids.to_owned());
        self.read("read broadcasts", move |c| broadcasts::get_many(c, &app, &ids)).await
    }

    async fn update_broadcast(
        &self,
        app: &str,
        id: &str,
        update: BroadcastUpdate,
    ) -> Result<Option<Broadcast>> {
        let (app, id) = (app.to_owned(), id.to_owned());
        self.write("change a broadcast", move |c| broadcasts::update(c, &app, &id, update)).await
    }

    async fn delete_broadcasts(&self, app: &str, ids: &[String]) -> Result<Vec<String>> {
        let (app, ids) = (app.to_owned(), ids.to_owned());
        self.write("delete broadcasts", move |c| broadcasts::delete(c, &app, &ids)).await
    }

    async fn list_broadcasts(&self, app: &str, query: ListQuery) -> Result<Vec<Broadcast>> {
        let app = app.to_owned();
        self.read("list broadcasts", move |c| broadcasts::list(c, &app, &query)).await
    }

    async fn count_broadcasts(&self, app: &str, search: Option<&str>) -> Result<u64> {
        let (app, search) = (app.to_owned(), search.map(str::to_owned));
        self.read("count broadcasts", move |c| broadcasts::count(c, &app, search.as_deref())).await
    }

    async fn count_live(&self, app: &str, now: i64) -> Result<u64> {
        let app = app.to_owned();
        self.read("count live broadcasts", move |c| broadcasts::count_live(c, &app, now)).await
    }

    async fn begin_live(&self, app: &str, begin: BeginLive) -> Result<Broadcast> {
        let app = app.to_owned();
        self.write("note that a stream is live", move |c| broadcasts::begin_live(c, &app, begin)).await
    }

    async fn update_live(&self, updates: Vec<LiveUpdate>) -> Result<Vec<usize>> {
        self.write("write the state of live streams", move |c| broadcasts::update_live(c, updates)).await
    }

    async fn end_live(
        &self,
        app: &str,
        id: &str,
        epoch: u64,
        now: i64,
        last: BroadcastUpdate,
    ) -> Result<Ended> {
        let (app, id) = (app.to_owned(), id.to_owned());
        self.write("note that a stream has ended", move |c| {
            broadcasts::end_live(c, &app, &id, epoch, now, last)
        })
        .await
    }

    async fn recover(&self, node: &str, now: i64) -> Result<Recovered> {
        let first = !self.recovered.load(Ordering::Acquire);
        let node = (!first).then(|| node.to_owned());
        let recovered = self
            .write("end the streams of an earlier run", move |c| broadcasts::recover(c, node.as_deref(), now))
            .await?;
        self.recovered.store(true, Ordering::Release);
        Ok(recovered)
    }

    async fn claim_stream(&self, app: &str, id: &str, node: &str, now: i64, known: Claim) -> Result<Claim> {
        let (app, id, node) = (app.to_owned(), id.to_owned(), node.to_owned());
        self.write("claim a stream", move |c| ownership::claim(c, &app, &id, &node, now, known)).await
    }

    async fn adopt_stream(&self, app: &str, id: &str, node: &str, now: i64, claim: Claim) -> Result<()> {
        let (app, id, node) = (app.to_owned(), id.to_owned(), node.to_owned());
        self.write("adopt a stream", move |c| ownership::adopt(c, &app, &id, &node, now, claim)).await
    }

    async fn owner(&self, app: &str, id: &str) -> Result<Option<Owner>> {
        let (app, id) = (app.to_owned(), id.to_owned());
        self.read("say who owns a stream", move |c| ownership::owner(c, &app, &id)).await
    }

    async fn reserve_sequence(
        &self,
        app: &str,
        id: &str,
        epoch: u64,
        now: i64,
        numbers: Numbers,
    ) -> Result<()> {
        let (app, id) = (app.to_owned(), id.to_owned());
        self.write("reserve sequence numbers", move |c| ownership::reserve(c, &app, &id, epoch, now, numbers))
            .await
    }

    async fn put_node(&self, node: NodeRecord) -> Result<()> {
        self.write("note that a node is there", move |c| records::put_node(c, &node)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>> {
        self.read("list the nodes", records::nodes).await
    }

    async fn delete_node(&self, id: &str) -> Result<bool> {
        let id = id.to_owned();
        self.write("forget a node", move |c| records::delete_node(c, &id)).await
    }

    async fn value(&self, key: &str) -> Result<Option<String>> {
        let key = key.to_owned();
        self.read("read a value", move |c| records::value(c, &key)).await
    }

    async fn set_value(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.write("store a value", move |c| records::set_value(c, &key, &value)).await
    }

    async fn close(&self) {
        if let Some(thread) = self.stop() {
            // As in `drop`.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

#[cfg(test)]
mod tests;
