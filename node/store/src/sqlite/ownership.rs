//! Who owns a stream, and which of its sequence numbers are used up.

use rusqlite::{Connection, OptionalExtension, params};

use super::failure::OpResult;
use crate::{Claim, OWNERSHIP_KEPT_MS, StoreError};

pub(super) fn claim(c: &Connection, app: &str, id: &str, node: &str, now: i64) -> OpResult<Claim> {
    drop_unused(c, now)?;
    let before: Option<Claim> = c
        .prepare_cached(
            "SELECT epoch, media_sequence, discontinuity_sequence FROM ownership WHERE app = ?1 AND id = ?2",
        )?
        .query_row([app, id], |row| {
            Ok(Claim { epoch: row.get(0)?, media_sequence: row.get(1)?, discontinuity_sequence: row.get(2)? })
        })
        .optional()?;
    let mut claim = match before {
        Some(claim) => claim,
        None => Claim { epoch: floor(c)?, media_sequence: 0, discontinuity_sequence: 0 },
    };
    claim.epoch += 1;
    c.prepare_cached(
        "INSERT INTO ownership (app, id, epoch, node, media_sequence, discontinuity_sequence, used_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET epoch = ?3, node = ?4, used_at = max(used_at, ?7)",
    )?
    .execute(params![
        app,
        id,
        claim.epoch,
        node,
        claim.media_sequence,
        claim.discontinuity_sequence,
        now
    ])?;
    Ok(claim)
}

pub(super) fn reserve(
    c: &Connection,
    app: &str,
    id: &str,
    epoch: u64,
    now: i64,
    media_sequence: u64,
    discontinuity_sequence: u64,
) -> OpResult<()> {
    let written = c
        .prepare_cached(
            "UPDATE ownership SET media_sequence = max(media_sequence, ?4),
                discontinuity_sequence = max(discontinuity_sequence, ?5), used_at = max(used_at, ?6)
             WHERE app = ?1 AND id = ?2 AND epoch = ?3",
        )?
        .execute(params![app, id, epoch, media_sequence, discontinuity_sequence, now])?;
    if written == 1 {
        return Ok(());
    }
    let current: Option<u64> = c
        .prepare_cached("SELECT epoch FROM ownership WHERE app = ?1 AND id = ?2")?
        .query_row([app, id], |row| row.get(0))
        .optional()?;
    let current = current.unwrap_or(0);
    Err(StoreError::Fenced { stream: format!("{app}/{id}"), epoch, current }.into())
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
