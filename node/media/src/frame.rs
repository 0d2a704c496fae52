use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::{Timestamp, TrackConfig, ring};

/// The number of a track inside its stream, given in the order in which tracks appear.
pub type TrackId = u8;

/// One access unit: a coded picture, or one audio frame. Cloning shares the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When it is decoded. Within a track it always grows.
    pub dts: Timestamp,
    /// When it is shown; never before `dts`. For audio, and without B-frames, equal to it.
    pub pts: Timestamp,
    /// Whether decoding can start here (always so for audio).
    pub keyframe: bool,
    /// The coded bytes, in the form that [`codec`](crate::codec)'s table gives.
    pub payload: Bytes,
}

/// What the owner of a stream decides about a stretch of it, once for all nodes: who wrote it, where it stands
/// in the stream, and which segment it belongs to. Packagers anywhere follow it, so that all build the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The ownership epoch in which it was written. Readers drop groups below the highest that they have seen.
    pub epoch: u64,
    /// Counts the groups of the epoch; all tracks use the number for the same stretch of time.
    pub group: u64,
    /// The media sequence number of the segment that it belongs to (several groups may share one).
    pub media_sequence: u64,
    /// The discontinuity sequence number of that segment: one more after each break in the source.
    pub discontinuity_sequence: u64,
    /// Where that segment starts on the media timeline; equal to `start` for its first group.
    pub segment_start: Timestamp,
    /// Where it starts on the media timeline: the `dts` of the first frame of the reference track.
    pub start: Timestamp,
    /// The wall clock of `start`, as the owner sees it.
    pub wall_clock: SystemTime,
}

impl Stamp {
    /// The wall clock of another moment on the same timeline.
    pub fn wall_clock_at(&self, t: Timestamp) -> SystemTime {
        let by = Duration::from_micros((t - self.start).unsigned_abs());
        if t >= self.start { self.wall_clock + by } else { self.wall_clock - by }
    }

    /// Its place among all groups of the stream: groups are counted anew in each epoch, and epochs only grow.
    pub fn place(&self) -> (u64, u64) {
        (self.epoch, self.group)
    }

    /// Whether a segment starts here.
    pub fn starts_segment(&self) -> bool {
        self.segment_start == self.start
    }
}

/// What is known of a group from its start.
#[derive(Clone, Debug)]
pub struct GroupHead {
    /// What the owner decided about it.
    pub stamp: Arc<Stamp>,
    /// The decoder configuration in force for all its frames.
    pub config: Arc<TrackConfig>,
    /// Whether it starts with a keyframe. It does not when a segment had to be cut inside a very long GOP.
    pub independent: bool,
    /// Whether it is of the rendition that leads the stream's pictures: the one to carry where only one can be. Of sound, whether
    /// it is the publisher's own.
    pub leads: bool,
}

impl ring::Head for GroupHead {
    fn start(&self) -> Timestamp {
        self.stamp.start
    }
    fn independent(&self) -> bool {
        self.independent
    }
}

/// A frame with its place in the arrival order of the whole stream.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Counts all frames of the stream.
    pub order: u64,
    /// The frame.
    pub frame: Frame,
}

impl ring::Item for Arrived {
    fn time(&self) -> Timestamp {
        self.frame.dts
    }
    fn size(&self) -> usize {
        self.frame.payload.len()
    }
}

/// The frames of one track from one random access point up to the next; written once, read by many.
pub type Group = ring::Group<GroupHead, Arrived>;
