//! Keeps the store true to what is live: states every 10 s, ends at once, numbers reserved ahead.
//!
//! It looks at the hub as it is and compares, rather than counting on events; so a store that was away, or came
//! back without what it knew, is caught up with by the next round. Nothing here is on the media path.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_media::StreamKey;
use sluice_store::{Claim, LiveUpdate, StoreError};

use crate::streams::{Live, RESERVE, RESERVE_TIME, Streams, numbers, unix_ms};

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
            // Nodes that lost their store together do not all come back to it at the same moment.
            false => RETRY + Duration::from_millis(rand::random_range(0..500)),
        };
        if last.elapsed() >= PERIOD {
            last = Instant::now();
            write(&streams).await;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = streams.again.notified() => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Writes off what has ended, and tells the store what it does not know yet; `false` when it did not take all of it.
pub async fn settle(streams: &Streams) -> bool {
    let mut all = true;
    if let Err(error) = streams.recover().await {
        tracing::debug!(%error, "what an earlier run left live is not written off yet");
        return false;
    }
    for (key, live) in streams.list(true) {
        // A record of its end needs one of its beginning.
        let told = if live.stored { Ok(()) } else { tell(streams, &key, &live).await };
        if told.as_ref().is_err_and(StoreError::is_away) {
            return false;
        }
        if let Err(error) = streams.finish(&key, &live).await {
            tracing::warn!(stream = %key, %error, "the end of the stream cannot be stored yet; trying again");
            all = false;
            if error.is_away() {
                return false;
            }
        }
    }
    if streams.is_stopping() {
        return all;
    }
    for (key, live) in streams.list(false).into_iter().filter(|(_, l)| !l.stored) {
        if let Err(error) = tell(streams, &key, &live).await {
            tracing::warn!(stream = %key, %error, "the store cannot be told of the stream yet; it goes on");
            all = false;
            if error.is_away() {
                return false;
            }
        }
    }
    all
}

/// Tells the store of a stream that went live without it, or that it has lost. When somebody else has it there, the
/// stream is theirs.
async fn tell(streams: &Streams, key: &StreamKey, live: &Live) -> Result<(), StoreError> {
    let used = numbers(&live.stream).unwrap_or(live.reserved);
    let claim = Claim::new(live.epoch, used);
    let node = &streams.me().id;
    let told = async {
        if !live.claimed {
            streams.store().adopt_stream(&key.app, &key.id, node, unix_ms(), claim).await?;
        }
        streams.register(key, live).await
    };
    match told.await {
        Ok(reserved) => {
            tracing::debug!(stream = %key, "the store knows of the stream");
            streams.change(key, live.epoch, |l| (l.claimed, l.stored, l.reserved) = (true, true, reserved));
            Ok(())
        }
        Err(StoreError::Fenced { current, .. }) => {
            let owner = streams.store().owner(&key.app, &key.id).await?;
            streams.fenced(key, live.epoch, current, owner.as_ref().map_or("another", |o| &o.node));
            Ok(())
        }
        Err(e) => Err(e),
    }
}

async fn write(streams: &Streams) {
    let live: Vec<_> = streams.list(false).into_iter().filter(|(_, l)| l.stored).collect();
    let now = unix_ms();
    for (key, live) in &live {
        let Some(used) = numbers(&live.stream) else { continue };
        let half = i64::try_from(RESERVE_TIME.as_micros() / 2).unwrap_or(i64::MAX);
        if used.media_sequence + RESERVE / 2 < live.reserved.media_sequence
            && used.timeline.saturating_add(half) < live.reserved.timeline
        {
            continue;
        }
        match streams.reserve(key, live.epoch, used).await {
            Ok(reserved) => streams.change(key, live.epoch, |l| l.reserved = reserved),
            Err(StoreError::Fenced { current, .. }) => streams.fenced(key, live.epoch, current, "another"),
            Err(error) => {
                tracing::warn!(stream = %key, %error, "sequence numbers cannot be reserved yet");
                if error.is_away() {
                    return;
                }
            }
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
    match streams.store().update_live(updates).await {
        // Those that the store does not know as they are: it lost them, or somebody else has them. The next round
        // finds out which.
        Ok(left_alone) => {
            for (key, live) in left_alone.into_iter().filter_map(|i| live.get(i)) {
                streams.change(key, live.epoch, |l| (l.claimed, l.stored) = (false, false));
            }
        }
        Err(error) => tracing::warn!(%error, "the state of live streams cannot be stored; they go on"),
    }
}
