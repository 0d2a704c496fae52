//! Keeps the store true to what is live: states every 10 s, ends at once, sequence numbers reserved ahead.
//!
//! It looks at the hub as it is and compares, rather than counting on events; so a store that was away is
//! caught up with by the next round. Nothing here is on the media path.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sluice_media::session::Protocol;
use sluice_media::{Stream, StreamKey, TrackConfig};
use sluice_store::{BroadcastUpdate, LiveUpdate, Store};

use crate::streams::{Live, RESERVE, Streams, unix_ms};

/// AMS's period for `updateTime`.
const PERIOD: Duration = Duration::from_secs(10);
/// After the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until it is cancelled; [`settle`] does the rest.
pub async fn run(streams: Arc<Streams>, store: Arc<dyn Store>) {
    let mut changes = streams.hub().watch();
    let mut last = Instant::now();
    loop {
        let wait = match settle(&streams).await {
            true => PERIOD.saturating_sub(last.elapsed()),
            false => RETRY,
        };
        if last.elapsed() >= PERIOD {
            last = Instant::now();
            write(&streams, store.as_ref()).await;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Writes off what has ended; `false` when the store did not take all of it.
pub async fn settle(streams: &Streams) -> bool {
    let ended: Vec<(StreamKey, Live)> = {
        let live = streams.live();
        live.iter().filter(|(_, l)| l.stream.is_ended()).map(|(k, l)| (k.clone(), l.clone())).collect()
    };
    let mut all = true;
    for (key, live) in ended {
        if let Err(error) = streams.finish(&key, &live).await {
            tracing::warn!(stream = %key, %error, "the end of the stream cannot be stored yet; trying again");
            all = false;
        }
    }
    all
}

async fn write(streams: &Streams, store: &dyn Store) {
    let live: Vec<(StreamKey, Live)> = {
        let live = streams.live();
        live.iter().filter(|(_, l)| !l.stream.is_ended()).map(|(k, l)| (k.clone(), l.clone())).collect()
    };
    let now = unix_ms();
    for (key, live) in &live {
        let Some(stamp) = live.stream.newest_stamp() else { continue };
        if stamp.media_sequence + RESERVE / 2 < live.reserved {
            continue;
        }
        let reserved = stamp.media_sequence + RESERVE;
        let discontinuities = stamp.discontinuity_sequence + RESERVE;
        match store.reserve_sequence(&key.app, &key.id, live.epoch, now, reserved, discontinuities).await {
            Ok(()) => {
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
            update: BroadcastUpdate { update_time: Some(now), ..state_of(&live.stream) },
        })
        .collect();
    if updates.is_empty() {
        return;
    }
    if let Err(error) = store.update_live(updates).await {
        tracing::warn!(%error, "the state of live streams cannot be stored; they go on");
    }
}

/// What the store is told about a stream.
pub(crate) fn state_of(stream: &Stream) -> BroadcastUpdate {
    let stats = stream.stats();
    let second = stream.second();
    let size = stream.configs().iter().find_map(|c| match &**c {
        TrackConfig::Video(v) => Some((v.width as i32, v.height as i32)),
        TrackConfig::Audio(_) => None,
    });
    let int = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
    let over = stream.is_ended();
    BroadcastUpdate {
        duration: Some(stream.started().elapsed().map_or(0, |d| d.as_millis() as i64)),
        received_bytes: i64::try_from(stats.bytes_in.load(Relaxed)).ok(),
        bitrate: Some(if over { 0 } else { stats.bitrate.per_second(second) as i64 }),
        speed: Some(if over { 0.0 } else { (stats.media_ms.per_second(second) / 10.0).round() / 100.0 }),
        width: size.map(|(w, _)| w),
        height: size.map(|(_, h)| h),
        drop_packet_count_in_ingestion: Some(int(stats.frames_dropped.load(Relaxed))),
        hls_viewer_count: Some(int(stats.viewers(Protocol::Hls))),
        rtmp_viewer_count: Some(int(stats.viewers(Protocol::Rtmp))),
        ..BroadcastUpdate::default()
    }
}
