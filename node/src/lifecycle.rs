//! Keeps the store true to what is live: states every 10 s, ends at once, sequence numbers reserved ahead.
//!
//! It looks at the hub as it is and compares, rather than counting on events; so a store that was away is
//! caught up with by the next round. Nothing here is on the media path.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_store::LiveUpdate;

use crate::streams::{RESERVE, Streams, unix_ms};

/// AMS's period for `updateTime`.
const PERIOD: Duration = Duration::from_secs(10);
/// After the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until it is cancelled; [`settle`] does the rest.
pub async fn run(streams: Arc<Streams>) {
    let mut changes = streams.hub().watch();
    let mut last = Instant::now();
    loop {
        let wait = match settle(&streams).await {
            true => PERIOD.saturating_sub(last.elapsed()),
            false => RETRY,
        };
        if last.elapsed() >= PERIOD {
            last = Instant::now();
            write(&streams).await;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Writes off what has ended; `false` when the store did not take all of it.
pub async fn settle(streams: &Streams) -> bool {
    let mut all = true;
    for (key, live) in streams.list(true) {
        if let Err(error) = streams.finish(&key, &live).await {
            tracing::warn!(stream = %key, %error, "the end of the stream cannot be stored yet; trying again");
            all = false;
        }
    }
    all
}

async fn write(streams: &Streams) {
    let live = streams.list(false);
    let now = unix_ms();
    for (key, live) in &live {
        let Some(stamp) = live.stream.newest_stamp() else { continue };
        if stamp.media_sequence + RESERVE / 2 < live.reserved {
            continue;
        }
        let (media, discontinuity) = (stamp.media_sequence, stamp.discontinuity_sequence);
        match streams.reserve(key, live.epoch, media, discontinuity).await {
            Ok(reserved) => {
                if let Some(l) = streams.live().get_mut(key).filter(|l| l.epoch == live.epoch) {
                    l.reserved = reserved;
                }
            }
            Err(error) => tracing::warn!(stream = %key, %error, "sequence numbers cannot be reserved yet"),
        }
    }
    let updates: Vec<LiveUpdate> = live
        .iter()
        .map(|(key, live)| LiveUpdate {
            app: key.app.to_string(),
            stream_id: key.id.to_string(),
            epoch: live.epoch,
            update: sluice_api::live_update(&live.stream, now),
        })
        .collect();
    if updates.is_empty() {
        return;
    }
    if let Err(error) = streams.store().update_live(updates).await {
        tracing::warn!(%error, "the state of live streams cannot be stored; they go on");
    }
}
