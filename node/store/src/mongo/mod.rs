//! The store of a cluster: a MongoDB server, replica set or Atlas cluster.
//!
//! The layout is AMS's where AMS has one (docs/mongodb.md). Nothing here waits for the database for longer than
//! a few seconds, and while it is known to be away only for a moment; the driver and one task of this module
//! find out when it is back.

mod broadcasts;
mod connect;
mod documents;
mod failure;
mod names;
mod ownership;
mod records;
mod slow;
mod store;
mod watch;

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Client, Collection, Cursor, Database, IndexModel};
use tokio::sync::{OnceCell, watch as signal};
use tokio::task::JoinHandle;

use self::connect::Secrets;
use self::failure::{Failure, OpResult, is_duplicate};
use self::names::Names;
use crate::{Result, StoreError, Timings};

/// AMS's database for what belongs to no app.
const CLUSTER: &str = "clusterdb";
/// AMS's collection of nodes in it.
const NODES: &str = "clusternode";
/// AMS's collection of apps in it.
const APPS: &str = "AppSettings";
/// Ours: who owns which stream.
const OWNERS: &str = "StreamOwner";
/// Ours: values of the cluster.
const VALUES: &str = "ClusterValue";
/// Ours: which app has which database.
const DATABASES: &str = "AppDatabase";
/// AMS's collection of broadcasts in the database of an app.
const BROADCAST: &str = "broadcast";

/// While the database is known to be away, a call waits this long for it.
const IMPATIENCE: Duration = Duration::from_millis(300);

/// How the database is used.
#[derive(Clone)]
pub struct MongoOptions {
    /// Stands before the name of every database, so that two clusters can share a server. Lower-case letters,
    /// digits, `-` and `_`, at most 30.
    pub prefix: String,
    /// The user, when it is not in the URI.
    pub user: Option<String>,
    /// Its password, not percent-encoded.
    pub password: Option<String>,
    /// How long a server that takes writes is looked for, and how long a connection may take to be made.
    pub selection: Duration,
    /// How long any call may take.
    pub limit: Duration,
    /// Connections to each server.
    pub pool: u32,
    /// A call that takes longer is warned of.
    pub slow: Duration,
}

impl Default for MongoOptions {
    fn default() -> Self {
        MongoOptions {
            prefix: String::new(),
            user: None,
            password: None,
            selection: Duration::from_secs(2),
            limit: Duration::from_secs(3),
            pool: 16,
            slow: Duration::from_millis(100),
        }
    }
}

impl fmt::Debug for MongoOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MongoOptions { prefix, user, password: _, selection, limit, pool, slow } = self;
        let mut s = f.debug_struct("MongoOptions");
        s.field("prefix", prefix).field("user", user).field("selection", selection).field("limit", limit);
        s.field("pool", pool).field("slow", slow).finish_non_exhaustive()
    }
}

/// The store in a MongoDB database.
pub struct Mongo {
    db: Arc<Db>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Mongo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mongo").field("hosts", &self.db.hosts).finish_non_exhaustive()
    }
}

impl Mongo {
    /// Opens the store at a `mongodb://` or `mongodb+srv://` URI. The server need not be there yet: calls say
    /// that it is away, and [`ping`](crate::Store::ping) when it no longer is. Has to be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// `Address` when the URI or the prefix cannot be used.
    pub async fn open(uri: &str, options: MongoOptions) -> Result<Mongo> {
        connect::check(uri, &options)?;
        let db = Arc::new_cyclic(|me| Db {
            me: me.clone(),
            secrets: Secrets::of(uri, &options),
            hosts: connect::hosts(uri),
            uri: uri.to_owned(),
            slow: Mutex::new(slow::Watch::new(options.slow)),
            options,
            client: OnceCell::new(),
            names: Names::default(),
            indexed: Mutex::default(),
            indexing: tokio::sync::Mutex::default(),
            timings: Timings::default(),
            changes: signal::Sender::new(0),
            purged: AtomicI64::new(0),
            away: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        // Options that make no sense are found now, a name server that does not answer is asked again later.
        match db.within("read the URI", db.patience(), async { db.client().await.map(|_| ()) }).await {
            Err(e) if !e.is_away() => return Err(e),
            _ => {}
        }
        let watcher = tokio::spawn(watch::run(Arc::downgrade(&db)));
        Ok(Mongo { db, watcher: Mutex::new(Some(watcher)) })
    }

    /// The servers that are asked, to be shown.
    pub fn hosts(&self) -> &str {
        &self.db.hosts
    }

    /// Deletes everything of this prefix that this store has made. For tests.
    ///
    /// # Errors
    /// As any call.
    pub async fn drop_everything(&self) -> Result<()> {
        let db = &self.db;
        let _none = db.indexing.lock().await;
        db.call("delete everything", async {
            for database in db.databases().await? {
                database.drop().await?;
            }
            db.cluster().await?.drop().await?;
            db.forget();
            Ok(())
        })
        .await
    }

    fn stop(&self) {
        self.db.closed.store(true, Ordering::Release);
        if let Some(watcher) = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take() {
            watcher.abort();
        }
    }
}

impl Drop for Mongo {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The connection, and what is known of the database.
struct Db {
    me: Weak<Db>,
    uri: String,
    options: MongoOptions,
    secrets: Secrets,
    hosts: String,
    client: OnceCell<Client>,
    names: Names,
    /// The databases of apps whose indexes are made, or are being made.
    indexed: Mutex<HashSet<String>>,
    indexing: tokio::sync::Mutex<()>,
    timings: Timings,
    slow: Mutex<slow::Watch>,
    changes: signal::Sender<u64>,
    /// When records that nobody uses were last looked for, by the callers' clock.
    purged: AtomicI64,
    /// The last call found nobody.
    away: AtomicBool,
    /// There was no server that takes writes, or a call found none, since all was well.
    lost: AtomicBool,
    closed: AtomicBool,
}

impl Db {
    /// A call to the store: bounded in time, timed, its error in our words.
    async fn call<T>(&self, what: &'static str, steps: impl Future<Output = OpResult<T>>) -> Result<T> {
        let away = self.away.load(Ordering::Acquire);
        self.within(what, if away { IMPATIENCE } else { self.patience() }, steps).await
    }

    /// As [`call`](Self::call), with all of the time even when the database is thought to be away.
    async fn fully<T>(&self, what: &'static str, steps: impl Future<Output = OpResult<T>>) -> Result<T> {
        self.within(what, self.patience(), steps).await
    }

    async fn within<T>(
        &self,
        what: &'static str,
        limit: Duration,
        steps: impl Future<Output = OpResult<T>>,
    ) -> Result<T> {
        if self.is_closed() {
            return Err(StoreError::Closed);
        }
        let start = Instant::now();
        let result = match tokio::time::timeout(limit, Box::pin(steps)).await {
            Ok(result) => result.map_err(|e| e.into_error(what, &self.secrets)),
            Err(_) if self.away.load(Ordering::Acquire) => {
                Err(StoreError::Away { what, detail: format!("{} does not answer", self.hosts) })
            }
            Err(_) => Err(StoreError::Timeout { what, seconds: limit.as_secs().max(1) }),
        };
        let took = start.elapsed();
        self.heard(!result.as_ref().is_err_and(StoreError::is_away));
        self.timings.record(took, result.as_ref().is_err_and(|e| !e.is_answer()));
        let slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner).took(took, Instant::now());
        if let Some(slow::Slow { calls, longest }) = slow {
            tracing::warn!(calls, ?longest, last = what, "the database is slow");
        }
        result
    }

    /// How long a call may take.
    fn patience(&self) -> Duration {
        self.options.limit
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Apps or settings may have changed.
    fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// The database answered, or did not.
    fn heard(&self, answered: bool) {
        self.away.store(!answered, Ordering::Release);
        if !answered {
            self.lost.store(true, Ordering::Release);
        } else if self.lost.swap(false, Ordering::AcqRel) {
            // What changed meanwhile is not known; the server may have lost all that it had.
            self.forget();
            self.changed();
        }
    }

    /// What is known of databases and indexes may no longer be true.
    fn forget(&self) {
        self.names.clear();
        self.indexed.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn client(&self) -> OpResult<&Client> {
        let me = self.me.clone();
        let seen = move |takes_writes: bool| {
            if let Some(db) = me.upgrade().filter(|_| !takes_writes) {
                db.lost.store(true, Ordering::Release);
            }
        };
        self.client.get_or_try_init(|| connect::client(&self.uri, &self.options, seen)).await
    }

    async fn ping(&self) -> OpResult<()> {
        self.cluster().await?.run_command(doc! { "ping": 1 }).await?;
        Ok(())
    }

    async fn cluster(&self) -> OpResult<Database> {
        self.named(CLUSTER).await
    }

    async fn named(&self, name: &str) -> OpResult<Database> {
        Ok(self.client().await?.database(&format!("{}{name}", self.options.prefix)))
    }

    async fn owners(&self) -> OpResult<Collection<Document>> {
        Ok(self.cluster().await?.collection(OWNERS))
    }

    async fn apps(&self) -> OpResult<Collection<Document>> {
        Ok(self.cluster().await?.collection(APPS))
    }

    async fn nodes(&self) -> OpResult<Collection<Document>> {
        Ok(self.cluster().await?.collection(NODES))
    }

    async fn values(&self) -> OpResult<Collection<Document>> {
        Ok(self.cluster().await?.collection(VALUES))
    }

    /// The broadcasts of an app, when it has a database.
    async fn broadcasts_of(&self, app: &str) -> OpResult<Option<Collection<Document>>> {
        Ok(self.database_of(app).await?.map(|d| d.collection(BROADCAST)))
    }

    /// The database of an app, when it has one.
    async fn database_of(&self, app: &str) -> OpResult<Option<Database>> {
        if let Some(name) = self.names.get(app) {
            return self.named(&name).await.map(Some);
        }
        let databases = self.cluster().await?.collection::<Document>(DATABASES);
        for name in names::candidates(&self.options.prefix, app) {
            match databases.find_one(doc! { "_id": &name }).await? {
                Some(d) if d.get_str("app").is_ok_and(|of| of == app) => {
                    self.names.put(app, &name);
                    return self.named(&name).await.map(Some);
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The database of an app, which gets one when it has none.
    async fn database_for(&self, app: &str) -> OpResult<Database> {
        if let Some(database) = self.database_of(app).await? {
            return Ok(database);
        }
        let databases = self.cluster().await?.collection::<Document>(DATABASES);
        for name in names::candidates(&self.options.prefix, app) {
            match databases.insert_one(doc! { "_id": &name, "app": app }).await {
                Ok(_) => {}
                Err(e) if is_duplicate(&e) => {}
                Err(e) => return Err(e.into()),
            }
            let of = databases.find_one(doc! { "_id": &name }).await?;
            if of.is_some_and(|d| d.get_str("app").is_ok_and(|of| of == app)) {
                self.names.put(app, &name);
                return self.named(&name).await;
            }
        }
        let detail = format!("no database is left for app {app}");
        Err(StoreError::Engine { what: "choose a database", detail }.into())
    }

    /// Those of all apps.
    async fn databases(&self) -> OpResult<Vec<Database>> {
        let databases = self.cluster().await?.collection::<Document>(DATABASES);
        let found = self.all(databases.find(doc! {}).await?).await?;
        let mut all = Vec::with_capacity(found.len());
        for d in &found {
            all.push(self.named(d.get_str("_id").unwrap_or_default()).await?);
        }
        Ok(all)
    }

    async fn all(&self, cursor: Cursor<Document>) -> OpResult<Vec<Document>> {
        Ok(pin!(cursor).try_collect().await?)
    }

    /// Makes the indexes of what was stored before.
    async fn make_indexes(&self) -> OpResult<()> {
        for database in self.databases().await? {
            if !database.list_collection_names().filter(doc! { "name": BROADCAST }).await?.is_empty() {
                self.stored_in(&database);
            }
        }
        Ok(())
    }

    /// A broadcast was stored in this database: it gets its indexes when it has none, while nobody waits.
    ///
    /// Not before: the tests' stand-in can lock up when an index makes its collection while others write.
    fn stored_in(&self, database: &Database) {
        let (me, database) = (self.me.clone(), database.clone());
        if !self.indexed.lock().unwrap_or_else(PoisonError::into_inner).insert(database.name().to_owned()) {
            return;
        }
        tokio::spawn(async move {
            let Some(db) = me.upgrade() else { return };
            let _one = db.indexing.lock().await;
            if let Err(error) = db.fully("make indexes", index_broadcasts(&database)).await {
                // They only make queries quicker. The next broadcast is the next chance.
                tracing::warn!(database = database.name(), %error, "indexes cannot be made yet");
                db.indexed.lock().unwrap_or_else(PoisonError::into_inner).remove(database.name());
            }
        });
    }
}

fn index(keys: Document, unique: bool) -> IndexModel {
    let options = unique.then(|| IndexOptions::builder().unique(true).build());
    IndexModel::builder().keys(keys).options(options).build()
}

async fn index_broadcasts(database: &Database) -> OpResult<()> {
    let indexes = [
        index(doc! { "streamId": 1 }, true),
        index(doc! { "status": 1, "updateTime": 1 }, false),
        index(doc! { "sluice.order": 1 }, false),
        index(doc! { "sluice.node": 1, "status": 1 }, false),
    ];
    database.collection::<Document>(BROADCAST).create_indexes(indexes).await.map_err(Failure::from)?;
    Ok(())
}

/// For the time of change that AMS writes beside settings.
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
