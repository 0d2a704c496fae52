//! Who owns a stream, and which of its sequence numbers are used up: one document a stream in `StreamOwner`,
//! changed by compare-and-set only.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::options::ReadConcern;

use super::Db;
use super::documents::{integer, long, unsigned};
use super::failure::{OpResult, is_duplicate};
use crate::{Claim, Numbers, OWNERSHIP_KEPT_MS, Owner, StoreError};

/// The `_id` of the document with the highest epoch of the records that were dropped. Those of streams have a
/// slash.
const FLOOR: &str = "floor";

/// How often records that nobody uses are looked for, ms.
const PURGE_EVERY: i64 = 3_600_000;

fn key(app: &str, id: &str) -> String {
    format!("{app}/{id}")
}

fn read(document: &Document) -> Claim {
    Claim {
        epoch: unsigned(document, "epoch"),
        media_sequence: unsigned(document, "mediaSequence"),
        discontinuity_sequence: unsigned(document, "discontinuitySequence"),
        timeline: integer(document, "timeline").unwrap_or(0),
    }
}

fn fields(claim: &Claim) -> Document {
    doc! {
        "epoch": long(claim.epoch),
        "mediaSequence": long(claim.media_sequence),
        "discontinuitySequence": long(claim.discontinuity_sequence),
        "timeline": claim.timeline,
    }
}

/// Writes `claim` if the record is still `before`; `false` when it is not.
async fn swap(
    db: &Db,
    (app, id): (&str, &str),
    node: &str,
    now: i64,
    before: Option<&Document>,
    claim: &Claim,
) -> OpResult<bool> {
    let owners = db.owners().await?;
    let used = before.and_then(|d| integer(d, "usedAt")).unwrap_or(now).max(now);
    let mut set = fields(claim);
    set.extend(doc! { "app": app, "streamId": id, "node": node, "held": true, "usedAt": used });
    match before {
        Some(before) => {
            let mut filter = fields(&read(before));
            filter.insert("_id", key(app, id));
            Ok(owners.update_one(filter, doc! { "$set": set }).await?.matched_count == 1)
        }
        None => {
            set.insert("_id", key(app, id));
            match owners.insert_one(set).await {
                Ok(_) => Ok(true),
                Err(e) if is_duplicate(&e) => Ok(false),
                Err(e) => Err(e.into()),
            }
        }
    }
}

/// Somebody else was quicker: the longer it goes on, the longer this one waits.
async fn step_back(attempt: u32) {
    let most = 4 << attempt.min(6);
    tokio::time::sleep(Duration::from_millis(rand::random_range(1..most))).await;
}

pub(super) async fn claim(
    db: &Db,
    app: &str,
    id: &str,
    node: &str,
    now: i64,
    known: Claim,
) -> OpResult<Claim> {
    purge(db, now).await?;
    // Ends with the call's time limit at the latest.
    for attempt in 0.. {
        let owners = db.owners().await?;
        let found = owners.find_one(doc! { "_id": key(app, id) }).await?;
        let stored = match &found {
            Some(d) if integer(d, "usedAt").unwrap_or(0) >= now.saturating_sub(OWNERSHIP_KEPT_MS) => read(d),
            Some(unused) => Claim { epoch: read(unused).epoch, ..Claim::default() },
            None => {
                let floor = owners.find_one(doc! { "_id": FLOOR }).await?;
                Claim { epoch: floor.map_or(0, |d| unsigned(&d, "epoch")), ..Claim::default() }
            }
        };
        let claim = Claim::after(stored, known, app, id)?;
        if swap(db, (app, id), node, now, found.as_ref(), &claim).await? {
            return Ok(claim);
        }
        step_back(attempt).await;
    }
    Err(contended(app, id))
}

pub(super) async fn adopt(db: &Db, app: &str, id: &str, node: &str, now: i64, claim: Claim) -> OpResult<()> {
    for attempt in 0.. {
        let found = db.owners().await?.find_one(doc! { "_id": key(app, id) }).await?;
        let stored = found.as_ref().map(read).unwrap_or_default();
        let of = found.as_ref().and_then(|d| d.get_str("node").ok());
        if found.is_some()
            && (stored.epoch > claim.epoch || (stored.epoch == claim.epoch && of != Some(node)))
        {
            return Err(fenced(app, id, claim.epoch, stored.epoch).into());
        }
        let Numbers { media_sequence, discontinuity_sequence, timeline } =
            stored.numbers().max(claim.numbers());
        let claim = Claim { epoch: claim.epoch, media_sequence, discontinuity_sequence, timeline };
        if swap(db, (app, id), node, now, found.as_ref(), &claim).await? {
            return Ok(());
        }
        step_back(attempt).await;
    }
    Err(contended(app, id))
}

fn contended(app: &str, id: &str) -> super::failure::Failure {
    let detail = format!("others keep changing the owner of {app}/{id}");
    StoreError::Engine { what: "make a node the owner of a stream", detail }.into()
}

pub(super) async fn owner(db: &Db, app: &str, id: &str) -> OpResult<Option<Owner>> {
    let filter = doc! { "_id": key(app, id), "held": true };
    let found = db.owners().await?.find_one(filter).read_concern(ReadConcern::majority()).await?;
    Ok(found.map(|d| Owner {
        node: d.get_str("node").unwrap_or_default().to_owned(),
        epoch: unsigned(&d, "epoch"),
    }))
}

/// Nobody has the stream any more, unless a later epoch does.
pub(super) async fn release(db: &Db, app: &str, id: &str, epoch: u64) -> OpResult<()> {
    let filter = doc! { "_id": key(app, id), "held": true, "epoch": { "$lte": long(epoch) } };
    db.owners().await?.update_one(filter, doc! { "$set": { "held": false } }).await?;
    Ok(())
}

/// Those that `node` has, as filters that match only while it has them in the same epoch.
pub(super) async fn held_by(db: &Db, node: &str) -> OpResult<Vec<Document>> {
    let filter = doc! { "node": node, "held": true };
    let owners = db.owners().await?;
    let found = owners.find(filter).projection(doc! { "_id": 1, "epoch": 1 }).await?;
    let found = db.all(found).await?;
    Ok(found
        .into_iter()
        .filter_map(|d| {
            let epoch = long(unsigned(&d, "epoch"));
            Some(doc! { "_id": d.get("_id")?.clone(), "node": node, "held": true, "epoch": epoch })
        })
        .collect())
}

pub(super) async fn reserve(
    db: &Db,
    app: &str,
    id: &str,
    epoch: u64,
    now: i64,
    numbers: Numbers,
) -> OpResult<()> {
    let Numbers { media_sequence, discontinuity_sequence, timeline } = numbers.max(Numbers::default());
    let owners = db.owners().await?;
    let filter = doc! { "_id": key(app, id), "epoch": long(epoch) };
    let grow = doc! {
        "mediaSequence": long(media_sequence),
        "discontinuitySequence": long(discontinuity_sequence),
        "timeline": timeline,
        "usedAt": now,
    };
    if owners.update_one(filter, doc! { "$max": grow }).await?.matched_count == 1 {
        return Ok(());
    }
    let current = owners.find_one(doc! { "_id": key(app, id) }).await?;
    Err(fenced(app, id, epoch, current.map_or(0, |d| unsigned(&d, "epoch"))).into())
}

fn fenced(app: &str, id: &str, epoch: u64, current: u64) -> StoreError {
    StoreError::Fenced { stream: key(app, id), epoch, current }
}

/// Drops records that nobody used for a day, keeping their highest epoch so that none is given out twice.
async fn purge(db: &Db, now: i64) -> OpResult<()> {
    let last = db.purged.load(Ordering::Acquire);
    if now.saturating_sub(last) < PURGE_EVERY
        || db.purged.compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire).is_err()
    {
        return Ok(());
    }
    let owners = db.owners().await?;
    let unused = doc! { "usedAt": { "$lt": now.saturating_sub(OWNERSHIP_KEPT_MS) } };
    let Some(highest) = owners.find_one(unused.clone()).sort(doc! { "epoch": -1 }).await? else {
        return Ok(());
    };
    let highest = long(unsigned(&highest, "epoch"));
    let floor = doc! { "$max": { "epoch": highest } };
    owners.update_one(doc! { "_id": FLOOR }, floor).upsert(true).await?;
    let mut below = unused;
    below.insert("epoch", doc! { "$lte": highest });
    owners.delete_many(below).await?;
    Ok(())
}
