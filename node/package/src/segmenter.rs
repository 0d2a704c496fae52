//! Turns the groups and frames of one track into parts and segments, as their stamps say.
//!
//! A frame's duration is known when the next frame of its track is there, so everything is one frame late.
//! Output depends on stamps, configurations and frames only: any node, whenever it joined, makes the same.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sluice_media::segmentation::Segmentation;
use sluice_media::{Frame, GroupHead, Timestamp, TrackConfig};

use crate::cut::Cutter;
use crate::fmp4::{self, Sample};
use crate::grid::Grid;

/// The init segment of a configuration, under a name that is the same on every node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Init {
    pub(crate) name: u32,
    pub(crate) bytes: Bytes,
    pub(crate) config: Arc<TrackConfig>,
}

impl Init {
    pub(crate) fn new(config: Arc<TrackConfig>) -> Self {
        let bytes = fmp4::init_segment(&config);
        // FNV-1a: enough to tell the few configurations of one stream apart.
        let name = bytes.iter().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
        Init { name, bytes, config }
    }
}

/// What a segment is from its start.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) media_sequence: u64,
    pub(crate) discontinuity_sequence: u64,
    pub(crate) start: Timestamp,
    pub(crate) wall_clock: SystemTime,
    pub(crate) independent: bool,
    /// None for containers that repeat the configuration in each segment.
    pub(crate) init: Option<Arc<Init>>,
}

/// A finished part.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Microseconds.
    pub(crate) duration: u64,
    pub(crate) independent: bool,
    pub(crate) frames: u32,
    pub(crate) bytes: Bytes,
}

/// What comes out, in this order for each segment: `Open`, `Part`…, `Close`.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    Open(Opening),
    Part(Part),
    Close,
}

/// The segmenter of one track.
#[derive(Debug)]
pub(crate) struct Segmenter {
    limit: Duration,
    cutter: Cutter,
    grid: Option<Grid>,
    head: Option<GroupHead>,
    init: Option<Arc<Init>>,
    /// The stamp of the open segment's first group.
    segment: Option<(u64, u64, Timestamp)>,
    /// The frame whose end is not known yet.
    pending: Option<Pending>,
    last_duration: i64,
    parts: u32,
    part: Vec<Sample>,
    part_start: u64,
    part_from: Timestamp,
    part_to: Timestamp,
    part_independent: bool,
}

#[derive(Debug)]
struct Pending {
    frame: Frame,
    head: Option<GroupHead>,
}

impl Segmenter {
    /// Parts as `segmentation` says, or none of them when `parts` is false.
    pub(crate) fn new(segmentation: Segmentation, parts: bool) -> Self {
        Segmenter {
            // More would round to more than the target duration.
            limit: segmentation.target_duration + Duration::from_millis(499),
            cutter: Cutter::new(parts.then_some(segmentation.part_target)),
            grid: None,
            head: None,
            init: None,
            segment: None,
            pending: None,
            last_duration: 0,
            parts: 0,
            part: Vec::new(),
            part_start: 0,
            part_from: Timestamp::ZERO,
            part_to: Timestamp::ZERO,
            part_independent: false,
        }
    }

    /// A group begins; the next frames belong to it.
    pub(crate) fn group(&mut self, head: &GroupHead) {
        self.head = Some(head.clone());
    }

    /// The next frame of the track.
    pub(crate) fn frame(&mut self, frame: Frame, out: &mut Vec<Output>) {
        let head = self.head.take();
        let Some(pending) = self.pending.take() else {
            self.begin_with(frame, head);
            return;
        };
        let mut opens = false;
        let mut follows = true;
        if let (Some(h), Some((msn, discontinuity, _))) = (&head, self.open_segment(&pending)) {
            opens = h.stamp.media_sequence != msn;
            follows = h.stamp.media_sequence <= msn.saturating_add(1)
                && h.stamp.discontinuity_sequence == discontinuity;
        }
        let end = if follows { frame.dts.max(pending.frame.dts) } else { self.guess(&pending.frame) };
        self.take(pending, end, opens, out);
        self.pending = Some(Pending { frame, head });
    }

    /// The reader had to leave frames out: the open segment ends, the next one begins with a segment's start.
    pub(crate) fn skip(&mut self, out: &mut Vec<Output>) {
        self.head = None;
        self.finish(out);
    }

    /// Nothing more comes: what is there becomes the last part.
    pub(crate) fn finish(&mut self, out: &mut Vec<Output>) {
        if let Some(pending) = self.pending.take() {
            let end = self.guess(&pending.frame);
            self.take(pending, end, true, out);
        }
        self.close(out);
    }

    /// The first frame is taken only where a segment starts, because half a segment is not that segment.
    fn begin_with(&mut self, frame: Frame, head: Option<GroupHead>) {
        match (&head, &self.segment) {
            (Some(h), None) if !h.stamp.starts_segment() => {}
            (None, None) => {}
            _ => self.pending = Some(Pending { frame, head }),
        }
    }

    /// The numbers and start of the segment that a pending frame belongs to.
    fn open_segment(&self, pending: &Pending) -> Option<(u64, u64, Timestamp)> {
        pending
            .head
            .as_ref()
            .map(|h| &h.stamp)
            .map_or(self.segment, |s| Some((s.media_sequence, s.discontinuity_sequence, pending.frame.dts)))
    }

    /// When a frame without a successor ends: it is taken to be as long as the one before.
    fn guess(&self, frame: &Frame) -> Timestamp {
        let end = frame.dts + Duration::from_micros(self.last_duration.max(1000).unsigned_abs());
        self.cutter.fit(frame.dts, end)
    }

    fn take(&mut self, pending: Pending, end: Timestamp, last: bool, out: &mut Vec<Output>) {
        let Pending { frame, head } = pending;
        if let Some(head) = head {
            self.enter(&head, &frame, out);
        }
        let Some((_, _, segment_start)) = self.segment else { return };
        let Some(init) = self.init.clone() else { return };
        // A single frame can be longer than a segment may be, when the source paused; whole frames beyond that
        // have no place.
        let latest = segment_start + self.limit;
        if frame.dts > latest {
            if last {
                self.close(out);
            }
            return;
        }
        let end = end.min(latest);
        let scale = fmp4::timescale(&init.config);
        let (ticks, until) = (frame.dts.to_ticks(scale), end.to_ticks(scale));
        let (at, duration) = match &mut self.grid {
            Some(grid) if last => grid.last(ticks, until),
            Some(grid) => grid.place(ticks, until, samples(&init.config, &frame.payload)),
            None => (ticks, until - ticks),
        };
        self.last_duration = end - frame.dts;
        if self.cutter.ends_before(end) {
            self.emit(out);
        }
        if self.part.is_empty() {
            self.part_start = u64::try_from(at).unwrap_or(0);
            self.part_from = frame.dts;
            self.part_independent = false;
        }
        self.part_to = end;
        self.part_independent |= frame.keyframe;
        self.part.push(Sample {
            duration: u32::try_from(duration.max(0)).unwrap_or(u32::MAX),
            composition: i32::try_from(frame.pts.to_ticks(scale) - ticks).unwrap_or(0),
            sync: frame.keyframe,
            payload: frame.payload,
        });
        if self.cutter.ends_after(frame.dts, end) {
            self.emit(out);
        }
        if last {
            self.close(out);
        }
    }

    /// A frame begins a group: maybe a segment, maybe with another configuration.
    fn enter(&mut self, head: &GroupHead, first: &Frame, out: &mut Vec<Output>) {
        let stamp = &head.stamp;
        if self.segment.is_some_and(|(msn, ..)| msn == stamp.media_sequence) {
            return;
        }
        self.close(out);
        let init = match &self.init {
            Some(init) if init.config == head.config => init.clone(),
            _ => Arc::new(Init::new(head.config.clone())),
        };
        self.grid = (!head.config.is_video()).then(|| Grid::new(fmp4::timescale(&head.config)));
        self.init = Some(init.clone());
        self.segment = Some((stamp.media_sequence, stamp.discontinuity_sequence, first.dts));
        self.parts = 0;
        out.push(Output::Open(Opening {
            media_sequence: stamp.media_sequence,
            discontinuity_sequence: stamp.discontinuity_sequence,
            start: first.dts,
            wall_clock: stamp.wall_clock_at(first.pts),
            independent: head.independent,
            init: Some(init),
        }));
    }

    fn close(&mut self, out: &mut Vec<Output>) {
        self.emit(out);
        self.cutter.reset();
        if let Some(grid) = &mut self.grid {
            grid.reset();
        }
        if self.segment.take().is_some() {
            out.push(Output::Close);
        }
    }

    fn emit(&mut self, out: &mut Vec<Output>) {
        let (Some((msn, ..)), Some(init)) = (self.segment, &self.init) else { return };
        if self.part.is_empty() {
            return;
        }
        let sequence = fmp4::fragment_sequence(msn, self.parts);
        let bytes = fmp4::media_part(sequence, self.part_start, init.config.is_video(), &self.part);
        out.push(Output::Part(Part {
            duration: u64::try_from(self.part_to - self.part_from).unwrap_or(0),
            independent: self.part_independent,
            frames: self.part.len() as u32,
            bytes,
        }));
        self.parts += 1;
        self.part.clear();
    }
}

fn samples(config: &TrackConfig, payload: &[u8]) -> Option<u32> {
    match config {
        TrackConfig::Audio(a) => a.samples_per_frame(payload),
        TrackConfig::Video(_) => None,
    }
}
