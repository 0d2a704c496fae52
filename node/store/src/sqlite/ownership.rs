//! Who owns a stream, and which of its sequence numbers are used up.

use rusqlite::{Connection, OptionalExtension, params};

use super::failure::OpResult;
use crate::{Claim, Numbers, OWNERSHIP_KEPT_MS, Owner, StoreError};

/// What is stored of a stream, and the node that had it last.
fn find(c: &Connection, app: &str, id: &str) -> OpResult<Option<(Claim, String)>> {
    Ok(c.prepare_cached(
        "SELECT epoch, media_sequence, discontinuity_sequence, timeline, node FROM ownership
         WHERE app = ?1 AND id = ?2",
    )?
    .query_row([app, id], |row| {
        let claim = Claim {
            epoch: row.get(0)?,
            media_sequence: row.get(1)?,
            discontinuity_sequence: row.get(2)?,
            timeline: row.get(3)?,
        };
        Ok((claim, row.get(4)?))
    })
    .optional()?)
}

fn save(c: &Connection, app: &str, id: &str, node: &str, now: i64, claim: Claim) -> OpResult<()> {
    let Claim { epoch, media_sequence, discontinuity_sequence, timeline } = claim;
    c.prepare_cached(
        "INSERT INTO ownership
            (app, id, epoch, node, media_sequence, discontinuity_sequence, timeline, used_at, held)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1)
         ON CONFLICT DO UPDATE SET epoch = ?3, node = ?4, media_sequence = ?5, discontinuity_sequence = ?6,
            timeline = ?7, used_at = max(used_at, ?8), held = 1",
    )?
    .execute(params![app, id, epoch, node, media_sequence, discontinuity_sequence, timeline, now])?;
    Ok(())
}

pub(super) fn claim(
    c: &Connection,
    app: &str,
    id: &str,
    node: &str,
    now: i64,
    known: Claim,
) -> OpResult<Claim> {
    drop_unused(c, now)?;
    let stored = match find(c, app, id)? {
        Some((claim, _)) => claim,
        None => Claim { epoch: floor(c)?, ..Claim::default() },
    };
    let claim = Claim::after(stored, known, app, id)?;
    save(c, app, id, node, now, claim)?;
    Ok(claim)
}

pub(super) fn adopt(c: &Connection, app: &str, id: &str, node: &str, now: i64, claim: Claim) -> OpResult<()> {
    let stored = match find(c, app, id)? {
        Some((stored, of)) if stored.epoch > claim.epoch || (stored.epoch == claim.epoch && of != node) => {
            return Err(fenced(app, id, claim.epoch, stored.epoch).into());
        }
        Some((stored, _)) => stored,
        None => Claim::default(),
    };
    let Numbers { media_sequence, discontinuity_sequence, timeline } = stored.numbers().max(claim.numbers());
    let claim = Claim { epoch: claim.epoch, media_sequence, discontinuity_sequence, timeline };
    save(c, app, id, node, now, claim)
}

pub(super) fn owner(c: &Connection, app: &str, id: &str) -> OpResult<Option<Owner>> {
    Ok(c.prepare_cached("SELECT node, epoch FROM ownership WHERE app = ?1 AND id = ?2 AND held")?
        .query_row([app, id], |row| Ok(Owner { node: row.get(0)?, epoch: row.get(1)? }))
        .optional()?)
}

/// Nobody has the stream any more, unless a later epoch does.
pub(super) fn release(c: &Connection, app: &str, id: &str, epoch: u64) -> OpResult<()> {
    c.prepare_cached("UPDATE ownership SET held = 0 WHERE app = ?1 AND id = ?2 AND epoch <= ?3")?
        .execute(params![app, id, epoch])?;
    Ok(())
}

/// Nobody has what `node` had; without a node, nobody has anything.
pub(super) fn release_all(c: &Connection, node: Option<&str>) -> OpResult<()> {
    c.prepare_cached("UPDATE ownership SET held = 0 WHERE held AND (?1 IS NULL OR node = ?1)")?
        .execute([node])?;
    Ok(())
}

pub(super) fn reserve(
    c: &Connection,
    app: &str,
    id: &str,
    epoch: u64,
    now: i64,
    numbers: Numbers,
) -> OpResult<()> {
    let Numbers { media_sequence, discontinuity_sequence, timeline } = numbers.max(Numbers::default());
    let written = c
        .prepare_cached(
            "UPDATE ownership SET media_sequence = max(media_sequence, ?4),
                discontinuity_sequence = max(discontinuity_sequence, ?5), timeline = max(timeline, ?6),
                used_at = max(used_at, ?7)
             WHERE app = ?1 AND id = ?2 AND epoch = ?3",
        )?
        .execute(params![app, id, epoch, media_sequence, discontinuity_sequence, timeline, now])?;
    if written == 1 {
        return Ok(());
    }
    let current = find(c, app, id)?.map_or(0, |(claim, _)| claim.epoch);
    Err(fenced(app, id, epoch, current).into())
}

fn fenced(app: &str, id: &str, epoch: u64, current: u64) -> StoreError {
    StoreError::Fenced { stream: format!("{app}/{id}"), epoch, current }
}

fn floor(c: &Connection) -> OpResult<u64> {
    Ok(c.prepare_cached("SELECT epoch FROM epoch_floor")?.query_row([], |row| row.get(0))?)
}

/// Drops records that nobody used for a day, keeping their highest epoch so that none is given out twice.
fn drop_unused(c: &Connection, now: i64) -> OpResult<()> {
    let before = now.saturating_sub(OWNERSHIP_KEPT_MS);
    let highest: Option<u64> = c
        .prepare_cached("SELECT max(epoch) FROM ownership WHERE used_at < ?1")?
        .query_row([before], |row| row.get(0))?;
    if let Some(highest) = highest {
        c.prepare_cached("UPDATE epoch_floor SET epoch = max(epoch, ?1)")?.execute([highest])?;
        c.prepare_cached("DELETE FROM ownership WHERE used_at < ?1")?.execute([before])?;
    }
    Ok(())
}
