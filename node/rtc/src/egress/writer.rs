//! Writes the lanes of a feed from the events of its stream.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, UNIX_EPOCH};

use sluice_media::{Event, Frame, Reader, Stamp, Timestamp, TrackConfig, TrackId};

use super::feed::Shared;
use super::lane::{Head, Lane, Packets, codec};
use super::packetize::{Out, Packetizer};

/// A group longer than this, in time or bytes, is cut, so that a stream without keyframes does not pile up.
const LONGEST_GROUP: Duration = Duration::from_secs(12);
const LARGEST_GROUP: u64 = 12 << 20;
/// The wall clock of the stream may drift off by this much before it is taken anew.
const WALL_DRIFT: i64 = 500_000;
/// Over how much media a bitrate is measured.
const MEASURED: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    max_payload: usize,
    tracks: Vec<Track>,
    out: Out,
}

/// The writer's side of a lane.
struct Track {
    lane: Arc<Lane>,
    config: Arc<TrackConfig>,
    packetizer: Packetizer,
    number: u32,
    start: Option<Timestamp>,
    bytes: u64,
    /// The highest presentation time so far.
    shown: Timestamp,
    reordered: bool,
    measured: (Timestamp, u64),
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, max_payload: usize) -> Self {
        Writer { shared, max_payload, tracks: Vec::new(), out: Out::default() }
    }

    pub(crate) async fn run(mut self, mut reader: Reader) {
        loop {
            let mut event = Some(reader.next().await);
            while let Some(next) = event {
                if !self.event(next) {
                    return self.shared.end();
                }
                event = reader.try_next();
            }
            self.shared.wake();
        }
    }

    /// Writes what an event tells; false at the end.
    pub(crate) fn event(&mut self, event: Event) -> bool {
        match event {
            Event::Group { track, group } => {
                let head = &group.head;
                self.group(track, &head.config, &head.stamp, head.independent);
            }
            Event::Frame { track, frame } => self.frame(track, &frame),
            // The next group begins with a keyframe: viewers go on with it.
            Event::Skipped { .. } => self.tracks.iter_mut().for_each(|t| t.start = None),
            Event::End => return false,
        }
        true
    }

    pub(crate) fn group(
        &mut self,
        track: TrackId,
        config: &Arc<TrackConfig>,
        stamp: &Stamp,
        independent: bool,
    ) {
        self.take_wall(stamp);
        let mut number = 0;
        if let Some(i) = self.tracks.iter().position(|t| t.lane.id == track && t.lane.codec != codec(config))
        {
            tracing::info!(
                stream = %self.shared.name(),
                "the track changed its codec: its viewers over WebRTC have to connect again"
            );
            let old = self.tracks.remove(i);
            self.shared.remove(&old.lane);
            // Numbers of groups are not used again: viewers may ask for what they had.
            number = old.number;
        }
        let i = match self.tracks.iter().position(|t| t.lane.id == track) {
            Some(i) => i,
            None => {
                let Some(packetizer) = Packetizer::new(config, self.max_payload) else { return };
                let lane = Lane::new(track, config);
                self.shared.add(lane.clone());
                self.tracks.push(Track {
                    lane,
                    config: config.clone(),
                    packetizer,
                    number,
                    start: None,
                    bytes: 0,
                    shown: Timestamp(i64::MIN),
                    reordered: false,
                    measured: (stamp.start, 0),
                });
                self.tracks.len() - 1
            }
        };
        let t = &mut self.tracks[i];
        if !Arc::ptr_eq(&t.config, config) && t.config != *config {
            if let Some(packetizer) = Packetizer::new(config, self.max_payload) {
                t.packetizer = packetizer;
            }
            t.lane.describe(config);
            self.shared.changed();
        }
        t.config = config.clone();
        // Where the stream cuts a long group, viewers just go on.
        let long = t.start.is_none_or(|s| stamp.start.since(s) > LONGEST_GROUP || t.bytes > LARGEST_GROUP);
        if independent || long {
            t.begin(stamp.start, independent);
        }
    }

    pub(crate) fn frame(&mut self, track: TrackId, frame: &Frame) {
        let Some(t) = self.tracks.iter_mut().find(|t| t.lane.id == track) else { return };
        if t.start.is_none() {
            return;
        }
        if t.lane.is_video() {
            if frame.keyframe {
                t.shown = frame.pts;
            } else if frame.pts < t.shown {
                self.shared.dropped.fetch_add(1, Relaxed);
                if !std::mem::replace(&mut t.reordered, true) {
                    tracing::warn!(
                        stream = %self.shared.name(),
                        "the publisher sends B-frames, which WebRTC cannot carry: they are left out, and the picture \
                         moves less smoothly; encode without them (x264: -bf 0 or -tune zerolatency)"
                    );
                }
                return;
            }
            t.shown = t.shown.max(frame.pts);
        }
        t.packetizer.write(frame, &mut self.out);
        let (bytes, ends) = self.out.take();
        if ends.is_empty() || ends.len() > usize::from(u16::MAX) {
            return;
        }
        if t.lane.is_video() && !frame.keyframe && t.bytes > LARGEST_GROUP {
            t.begin(frame.dts, false);
        }
        t.count(frame.dts, bytes.len() as u64);
        t.lane.ring.push(Packets { time: frame.dts, pts: frame.pts, keyframe: frame.keyframe, bytes, ends });
        t.lane.set_newest(frame.dts);
    }

    /// One line from media time to wall clock for all tracks, so that players keep sound and picture together.
    fn take_wall(&self, stamp: &Stamp) {
        let Ok(wall) = stamp.wall_clock.duration_since(UNIX_EPOCH) else { return };
        let wall = i64::try_from(wall.as_micros()).unwrap_or(i64::MAX);
        let offset = wall.saturating_sub(stamp.start.0);
        let known = self.shared.wall.load(Relaxed);
        if known == 0 || known.abs_diff(offset) > WALL_DRIFT.unsigned_abs() {
            self.shared.wall.store(offset, Relaxed);
        }
    }
}

impl Track {
    fn begin(&mut self, start: Timestamp, independent: bool) {
        self.number = self.number.wrapping_add(1);
        self.start = Some(start);
        self.bytes = 0;
        self.lane.ring.begin(Head { number: self.number, start, independent });
    }

    fn count(&mut self, time: Timestamp, bytes: u64) {
        self.bytes += bytes;
        let (from, sum) = &mut self.measured;
        let span = time.since(*from);
        let first = self.lane.bitrate() == 0;
        if span >= MEASURED || (first && span >= MEASURED / 2) {
            let now = (*sum as f64 * 8.0 / span.as_secs_f64()) as u64;
            let smooth = if first { now } else { (self.lane.bitrate() * 7 + now * 3) / 10 };
            // After a pause the media jumps ahead: that measures nothing.
            if span < 4 * MEASURED {
                self.lane.set_bitrate(smooth.max(1));
            }
            self.measured = (time, 0);
        }
        self.measured.1 += bytes;
    }
}
