//! One track of a stream as RTP payloads: what the feed writes and all viewers read.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use sluice_media::ring::{self, Retention, Ring};
use sluice_media::{Timestamp, TrackConfig, TrackId};
use tokio::sync::Notify;

use super::FeedTrack;
use crate::agreed::Codec;

/// How much is kept for viewers who join, who fall behind and who ask again; the newest two groups stay in any case.
const RETENTION: Retention = Retention { time: Duration::from_secs(2), bytes: 16 << 20 };

/// The start of a group: a keyframe, or where a very long group was cut.
#[derive(Debug)]
pub(crate) struct Head {
    /// Counts the groups of the lane.
    pub(crate) number: u32,
    pub(crate) start: Timestamp,
    pub(crate) independent: bool,
}

impl ring::Head for Head {
    fn start(&self) -> Timestamp {
        self.start
    }
    fn independent(&self) -> bool {
        self.independent
    }
}

/// A frame as payloads.
#[derive(Debug)]
pub(crate) struct Packets {
    pub(crate) time: Timestamp,
    pub(crate) pts: Timestamp,
    pub(crate) keyframe: bool,
    /// All payloads, one after the other, and where each ends.
    pub(crate) bytes: Bytes,
    pub(crate) ends: Box<[u32]>,
}

impl Packets {
    /// The payload with that number.
    pub(crate) fn payload(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |i| self.ends[i] as usize);
        self.bytes.get(start..end)
    }
}

impl ring::Item for Packets {
    fn time(&self) -> Timestamp {
        self.time
    }
    fn size(&self) -> usize {
        self.bytes.len()
    }
}

pub(crate) type LaneRing = Ring<Head, Packets>;
pub(crate) type LaneGroup = ring::Group<Head, Packets>;

/// A track that a feed sends.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) id: TrackId,
    pub(crate) codec: Codec,
    pub(crate) ring: LaneRing,
    about: RwLock<(Option<String>, u32, u32)>,
    newest: AtomicI64,
    bitrate: AtomicU64,
}

impl Lane {
    pub(crate) fn new(id: TrackId, config: &TrackConfig) -> Arc<Self> {
        let lane = Lane {
            id,
            codec: codec(config),
            ring: Ring::new(RETENTION, Arc::new(Notify::new())),
            about: RwLock::default(),
            newest: AtomicI64::new(i64::MIN),
            bitrate: AtomicU64::new(0),
        };
        lane.describe(config);
        Arc::new(lane)
    }

    /// What its configuration tells of it.
    pub(crate) fn describe(&self, config: &TrackConfig) {
        let about = match config {
            TrackConfig::Video(v) => {
                let profile = v.codec_string.strip_prefix("avc1.").map(str::to_owned);
                (profile, v.width, v.height)
            }
            TrackConfig::Audio(_) => (None, 0, 0),
        };
        *self.about.write().unwrap_or_else(PoisonError::into_inner) = about;
    }

    pub(crate) fn track(&self) -> FeedTrack {
        let (profile, width, height) = self.about.read().unwrap_or_else(PoisonError::into_inner).clone();
        FeedTrack { id: self.id, codec: self.codec, profile, width, height, bitrate: self.bitrate() }
    }

    pub(crate) fn height(&self) -> u32 {
        self.about.read().unwrap_or_else(PoisonError::into_inner).2
    }

    pub(crate) fn is_video(&self) -> bool {
        matches!(self.codec, Codec::Video(_))
    }

    /// When its newest frame is due.
    pub(crate) fn newest(&self) -> Timestamp {
        Timestamp(self.newest.load(Relaxed))
    }

    pub(crate) fn set_newest(&self, time: Timestamp) {
        self.newest.store(time.0, Relaxed);
    }

    /// Bits a second, as measured over its last seconds; 0 until then.
    pub(crate) fn bitrate(&self) -> u64 {
        self.bitrate.load(Relaxed)
    }

    pub(crate) fn set_bitrate(&self, bitrate: u64) {
        self.bitrate.store(bitrate, Relaxed);
    }

    /// The group with that number, while it is kept.
    pub(crate) fn group(&self, number: u32) -> Option<Arc<LaneGroup>> {
        self.ring.newest(|h| h.number == number)
    }

    /// The newest group that begins with a keyframe.
    pub(crate) fn keyframe(&self) -> Option<Arc<LaneGroup>> {
        self.ring.newest(|h| h.independent)
    }
}

pub(crate) fn codec(config: &TrackConfig) -> Codec {
    match config {
        TrackConfig::Video(v) => Codec::Video(v.codec),
        TrackConfig::Audio(a) => Codec::Audio(a.codec),
    }
}
