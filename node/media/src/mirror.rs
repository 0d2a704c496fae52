//! The writing side of a stream that another node owns.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::publisher::count;
use crate::segmentation::Segmentation;
use crate::stream::{MetaValue, StopReason, Stream, Track};
use crate::{Arrived, GroupHead, Hub, Timestamp, TrackConfig, TrackId};

/// The first frame of a mirrored stream gets this order, so that older ones fit below it.
const FIRST_ORDER: u64 = 1 << 40;

/// Where a mirror stands on one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Whether it is a video track.
    pub video: bool,
    /// Which one of its kind, from 0, in the order of the stream.
    pub index: u8,
    /// The epoch of its newest group.
    pub epoch: u64,
    /// The number of that group.
    pub group: u64,
    /// How many frames of it are here.
    pub frames: u64,
}

/// Writes a stream exactly as its owner did: stamps, times and frames are taken as they are. The only writer of
/// the stream while it lives.
///
/// Dropping it leaves the stream to whoever takes it up next, a publisher of this node or another mirror; after
/// the hub's linger without one it ends. [`finish`](Self::finish) ends it at once.
#[derive(Debug)]
pub struct Mirror {
    hub: Arc<Hub>,
    stream: Arc<Stream>,
    generation: u64,
    /// Tracks in the numbering of the source.
    lanes: Vec<Lane>,
    /// The highest epoch seen: nothing below it is taken any more.
    epoch: u64,
    /// From the source's count of frames to this stream's; unknown until the first frame of a source or an epoch.
    shift: Option<u64>,
    next_order: u64,
    newest: Timestamp,
    stop: watch::Receiver<Option<StopReason>>,
    finished: bool,
}

#[derive(Debug)]
struct Lane {
    track: Arc<Track>,
    video: bool,
    /// Whether it is the first video track.
    picture: bool,
    /// Whether what comes belongs to the newest group; not so while the source sends one that was refused.
    open: bool,
}

impl Lane {
    fn newest(&self) -> Option<(u64, u64)> {
        self.track.ring.newest(|_| true).map(|g| g.head.stamp.place())
    }
}

impl Mirror {
    pub(crate) fn new(hub: Arc<Hub>, stream: Arc<Stream>) -> Option<Self> {
        let generation = stream.attach()?;
        stream.set_relayed(true);
        let newest = stream.newest_stamp();
        let next_order = match stream.next_order() {
            0 => FIRST_ORDER,
            n => n,
        };
        let stop = stream.watch_stop();
        Some(Mirror {
            hub,
            generation,
            lanes: Vec::new(),
            epoch: newest.as_ref().map_or(0, |s| s.epoch),
            shift: None,
            next_order,
            newest: newest.map_or(Timestamp::ZERO, |s| s.start),
            stop,
            stream,
            finished: false,
        })
    }

    /// The stream that it writes.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// From here on another source, or another connection to the same one, speaks: it tells its tracks again and
    /// counts frames by itself. What is here stays, and goes on where it stands.
    pub fn resumed(&mut self) {
        self.shift = None;
        self.lanes.clear();
    }

    /// The source's next track. It is the stream's track of the same kind that was there before, or a new one.
    /// The number counts the calls since [`resumed`](Self::resumed), so it is the source's own. `None` when there
    /// are too many tracks.
    pub fn add_track(&mut self, config: TrackConfig) -> Option<TrackId> {
        let video = config.is_video();
        let nth = self.lanes.iter().filter(|l| l.video == video).count();
        let same_kind = |t: &Arc<Track>| t.config().is_video() == video;
        let config = Arc::new(config);
        let track = match self.stream.tracks().into_iter().filter(same_kind).nth(nth) {
            Some(track) => {
                track.set_config(config);
                track
            }
            None => self.stream.add_track(config)?,
        };
        let open = track.ring.newest(|_| true).is_some();
        self.lanes.push(Lane { track, video, picture: video && nth == 0, open });
        TrackId::try_from(self.lanes.len() - 1).ok()
    }

    /// The newest configuration of a track; what holds for a group stands in its head.
    pub fn set_config(&mut self, track: TrackId, config: TrackConfig) {
        if let Some(lane) = self.lanes.get(usize::from(track)) {
            lane.track.set_config(Arc::new(config));
        }
    }

    /// How the stream is cut. It stays as it was told first.
    pub fn set_segmentation(&self, known: Segmentation) {
        if self.stream.segmentation().is_none() {
            self.stream.set_segmentation(known);
        }
    }

    /// What the publisher says about the stream.
    pub fn set_metadata(&self, metadata: Vec<(String, MetaValue)>) {
        self.stream.set_metadata(metadata);
    }

    /// The publisher's connection is broken at its node, or is whole again. Only shown.
    pub fn set_interrupted(&self, interrupted: bool) {
        self.stream.set_away(interrupted);
    }

    /// A group begins on a track. False, and all until the next one is ignored, when it is fenced (its epoch is
    /// below the highest seen) or does not come after the newest one of its track.
    pub fn begin(&mut self, track: TrackId, head: GroupHead) -> bool {
        let Some(lane) = self.lanes.get_mut(usize::from(track)) else { return false };
        let place = head.stamp.place();
        lane.open = head.stamp.epoch >= self.epoch && lane.newest().is_none_or(|n| place > n);
        if !lane.open {
            return false;
        }
        if head.stamp.epoch > self.epoch {
            self.epoch = head.stamp.epoch;
            self.shift = None;
        }
        lane.track.ring.begin(head);
        true
    }

    /// The next frame of the newest group of a track.
    pub fn push(&mut self, track: TrackId, arrived: Arrived) {
        self.push_at(track, arrived, Instant::now());
    }

    /// As [`push`](Self::push), with the time given.
    pub fn push_at(&mut self, track: TrackId, arrived: Arrived, now: Instant) {
        let Some(lane) = self.lanes.get(usize::from(track)).filter(|l| l.open) else { return };
        let Arrived { order, frame } = arrived;
        let next = self.next_order;
        let shift = *self.shift.get_or_insert_with(|| next.wrapping_sub(order));
        // A source that counts wrongly puts frames out of order, and nothing worse.
        let order = order.wrapping_add(shift);
        self.next_order = next.max(order.saturating_add(1));
        let progress = frame.dts.since(self.newest);
        self.newest = self.newest.max(frame.dts);
        count(&self.stream, &frame, lane.picture, progress, now);
        lane.track.ring.push(Arrived { order, frame });
    }

    /// A whole group from before the oldest one of its track. False when it does not belong there, or is more
    /// than the stream keeps.
    pub fn backfill(&mut self, track: TrackId, head: GroupHead, frames: Vec<Arrived>) -> bool {
        let (Some(lane), Some(shift)) = (self.lanes.get(usize::from(track)), self.shift) else {
            return false;
        };
        let oldest = lane.track.ring.oldest(|_| true);
        if frames.is_empty() || oldest.is_none_or(|g| head.stamp.place() >= g.head.stamp.place()) {
            return false;
        }
        let frames =
            frames.into_iter().map(|a| Arrived { order: a.order.wrapping_add(shift), frame: a.frame });
        lane.track.ring.put_before(head, frames)
    }

    /// Everything that the source keeps is here: those who wait for it begin.
    pub fn backfilled(&self) {
        self.stream.set_whole(true);
    }

    /// Where it stands on each track of the stream, to go on there with another source.
    pub fn positions(&self) -> Vec<Position> {
        let (mut videos, mut audios) = (0, 0);
        let mut all = Vec::new();
        for track in self.stream.tracks() {
            let video = track.config().is_video();
            let nth = if video { &mut videos } else { &mut audios };
            let index = *nth;
            *nth += 1;
            if let Some(group) = track.ring.newest(|_| true) {
                let (epoch, number) = group.head.stamp.place();
                all.push(Position { video, index, epoch, group: number, frames: group.len() as u64 });
            }
        }
        all
    }

    /// The highest epoch that was taken.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Wakes the readers: once for everything that came in one piece from the network.
    pub fn flush(&self) {
        self.stream.notify().notify_waiters();
    }

    /// Waits until somebody wants this mirror to stop. [`StopReason::TakenOver`]: a publisher of this node wants
    /// to go on with the stream: drop the mirror. Anything else: [`finish`](Self::finish) it.
    pub fn stop_requested(&self) -> impl Future<Output = StopReason> + Send + 'static {
        crate::publisher::asked_to_stop(self.stop.clone())
    }

    /// The stream is over for those who watch it here.
    pub fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // Nobody waits for older parts that do not come any more.
        self.stream.set_whole(true);
        self.stream.set_away(false);
        if self.finished {
            if self.stream.end(self.generation) {
                self.hub.forget(&self.stream);
            }
        } else if self.stream.interrupt(self.generation) {
            self.hub.interrupted(self.stream.clone(), self.generation);
        }
    }
}
