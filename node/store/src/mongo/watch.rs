//! Follows changes of apps and settings, and the connection itself: one task as long as the store is open.

use std::sync::Weak;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::change_stream::ChangeStream;
use tokio::time::{sleep, timeout};

use super::failure::{Failure, OpResult, lacks_change_streams};
use super::{Db, records};
use crate::StoreError;

/// Name, version and time of change of every app.
pub(super) type Seen = Vec<(String, u64, i64)>;

/// How often a server without change streams is asked.
const POLL: Duration = Duration::from_secs(5);
/// How long the server waits for a change before it says that there is none.
const AWAIT: Duration = Duration::from_secs(1);
/// An answer that takes longer than this does not come any more.
const SILENCE: Duration = Duration::from_secs(5);
/// Before a broken connection is tried again: a random time up to this, which doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Runs until the store is dropped or closed.
pub(super) async fn run(db: Weak<Db>) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        let Some(db) = db.upgrade().filter(|db| !db.is_closed()) else { return };
        let error = match connect(&db).await {
            Ok(stream) => {
                if told {
                    tracing::info!(database = %db.hosts, "the database is back");
                    told = false;
                }
                pause = FIRST_PAUSE;
                // What changed while nobody looked is not known.
                db.changed();
                follow(db, stream).await
            }
            Err(error) => error,
        };
        if !matches!(error, StoreError::Closed) && !told {
            tracing::warn!(%error, "no connection to the database; it is tried again and again");
            told = true;
        }
        sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Asks until the server answers, makes what has to be there, and opens the change stream; `None` where there
/// are none.
async fn connect(db: &Db) -> crate::Result<Option<ChangeStream<Document>>> {
    db.fully("connect", async {
        db.ping().await?;
        Ok(())
    })
    .await?;
    db.fully("make indexes", db.make_indexes()).await?;
    db.fully("watch the settings of apps", open(db)).await
}

async fn open(db: &Db) -> OpResult<Option<ChangeStream<Document>>> {
    let apps = db.apps().await?;
    let short = [doc! { "$project": { "operationType": 1 } }];
    match apps.watch().pipeline(short).max_await_time(AWAIT).await {
        Ok(stream) => Ok(Some(stream.with_type())),
        Err(e) if lacks_change_streams(&e) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Tells of changes until something breaks.
async fn follow(db: std::sync::Arc<Db>, stream: Option<ChangeStream<Document>>) -> StoreError {
    let weak = std::sync::Arc::downgrade(&db);
    drop(db);
    match stream {
        Some(stream) => follow_stream(&weak, stream).await,
        None => {
            tracing::info!(every = ?POLL, "the database has no change streams: settings are looked at regularly");
            poll(&weak).await
        }
    }
}

async fn follow_stream(db: &Weak<Db>, mut stream: ChangeStream<Document>) -> StoreError {
    let what = "watch the settings of apps";
    loop {
        let asked = tokio::time::Instant::now();
        let next = timeout(SILENCE, stream.next_if_any()).await;
        let Some(db) = db.upgrade().filter(|db| !db.is_closed()) else { return StoreError::Closed };
        match next {
            Err(_) => return StoreError::Timeout { what, seconds: SILENCE.as_secs() },
            Ok(Err(e)) => return Failure::from(e).into_error(what, &db.secrets),
            Ok(Ok(Some(_))) => db.changed(),
            Ok(Ok(None)) if !stream.is_alive() => {
                return StoreError::Away { what, detail: "the collection was dropped".into() };
            }
            Ok(Ok(None)) => {}
        }
        db.heard(true);
        drop(db);
        // A server that does not wait is not asked without end.
        if asked.elapsed() < AWAIT / 4 {
            sleep(AWAIT / 4).await;
        }
    }
}

async fn poll(db: &Weak<Db>) -> StoreError {
    let mut before: Option<Seen> = None;
    loop {
        {
            let Some(db) = db.upgrade().filter(|db| !db.is_closed()) else { return StoreError::Closed };
            match db.fully("look at the settings of apps", records::state(&db)).await {
                Ok(seen) => {
                    if before.as_ref().is_some_and(|before| *before != seen) {
                        db.changed();
                    }
                    before = Some(seen);
                }
                Err(error) => return error,
            }
        }
        sleep(POLL).await;
    }
}
