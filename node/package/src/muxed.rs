//! Segments with audio and video together, in MPEG-TS. They begin where the reference track's segments begin.

use std::time::Duration;

use sluice_media::segmentation::Segmentation;
use sluice_media::{Frame, GroupHead, Timestamp, TrackConfig, TrackId};

use crate::segmenter::{Opening, Output, Part};
use crate::ts::{Muxer, TsError};

/// A segment larger than this is cut off, so that a mad source cannot take all memory.
const LARGEST: usize = 128 << 20;

/// The segmenter of a whole stream.
#[derive(Debug)]
pub(crate) struct Muxed {
    limit: Duration,
    muxer: Muxer,
    video: Option<TrackId>,
    audio: Option<TrackId>,
    head: Option<GroupHead>,
    configs: [Option<std::sync::Arc<TrackConfig>>; 2],
    open: Option<Opening>,
    newest: Timestamp,
    last_duration: i64,
    frames: u32,
    bytes: Vec<u8>,
}

impl Muxed {
    /// For the first video and the first audio track of a stream. Audio that MPEG-TS cannot carry is left out
    /// where there is video.
    pub(crate) fn new(
        segmentation: Segmentation,
        tracks: impl Iterator<Item = (TrackId, std::sync::Arc<TrackConfig>)>,
    ) -> Result<Self, TsError> {
        let (mut video, mut audio) = (None, None);
        for (id, config) in tracks {
            let slot = if config.is_video() { &mut video } else { &mut audio };
            slot.get_or_insert((id, config));
        }
        let mut m = Muxed {
            limit: segmentation.target_duration + Duration::from_millis(499),
            muxer: Muxer::new(),
            video: video.as_ref().map(|t| t.0),
            audio: audio.as_ref().map(|t| t.0),
            head: None,
            configs: [None, None],
            open: None,
            newest: Timestamp::ZERO,
            last_duration: 0,
            frames: 0,
            bytes: Vec::new(),
        };
        if let Some((_, config)) = &video {
            m.configure(config)?;
        }
        if let Some((id, config)) = &audio
            && let Err(e) = m.configure(config)
        {
            if video.is_none() {
                return Err(e);
            }
            tracing::warn!(track = id, "audio is left out: {e}");
            m.audio = None;
        }
        Ok(m)
    }

    /// The track whose groups begin the segments.
    fn is_reference(&self, track: TrackId) -> bool {
        self.video.or(self.audio) == Some(track)
    }

    /// A group begins, of the pictures or the sound that are packaged: which tracks those are may change.
    pub(crate) fn group(&mut self, track: TrackId, head: &GroupHead) {
        let video = head.config.is_video();
        match self.configure(&head.config) {
            Ok(changed) => {
                *(if video { &mut self.video } else { &mut self.audio }) = Some(track);
                if changed && self.open.is_some() && !self.is_reference(track) {
                    self.muxer.flush(&mut self.bytes);
                    self.muxer.tables(&mut self.bytes);
                }
            }
            Err(e) => {
                tracing::warn!(track, "the track is left out: {e}");
                let lane = if video { &mut self.video } else { &mut self.audio };
                if *lane == Some(track) {
                    *lane = None;
                }
            }
        }
        if self.is_reference(track) {
            self.head = Some(head.clone());
        }
    }

    pub(crate) fn frame(&mut self, track: TrackId, frame: &Frame, out: &mut Vec<Output>) {
        if self.is_reference(track) {
            if let Some(head) = self.head.take() {
                self.enter(&head, frame, out);
            }
            if self.open.is_some() {
                self.last_duration = frame.dts - self.newest;
                self.newest = frame.dts;
                self.frames += 1;
            }
        }
        if self.open.is_none() || self.bytes.len() > LARGEST {
            return;
        }
        if Some(track) == self.audio {
            self.muxer.audio(frame, &mut self.bytes);
        } else if Some(track) == self.video {
            self.muxer.video(frame, &mut self.bytes);
        }
    }

    pub(crate) fn finish(&mut self, out: &mut Vec<Output>) {
        let end = self.newest + Duration::from_micros(self.last_duration.max(1000).unsigned_abs());
        self.close(end, out);
        self.head = None;
    }

    fn enter(&mut self, head: &GroupHead, first: &Frame, out: &mut Vec<Output>) {
        let s = &head.stamp;
        match &self.open {
            Some(o) if o.media_sequence == s.media_sequence => return,
            Some(o) => {
                let follows = o.media_sequence + 1 == s.media_sequence
                    && o.discontinuity_sequence == s.discontinuity_sequence;
                if follows { self.close(first.dts, out) } else { self.finish(out) }
            }
            None if !s.starts_segment() => return,
            None => {}
        }
        self.newest = first.dts;
        self.bytes.clear();
        self.muxer.tables(&mut self.bytes);
        self.open = Some(Opening {
            media_sequence: s.media_sequence,
            discontinuity_sequence: s.discontinuity_sequence,
            start: first.dts,
            wall_clock: s.wall_clock_at(first.pts),
            independent: head.independent,
            init: None,
        });
    }

    fn close(&mut self, end: Timestamp, out: &mut Vec<Output>) {
        let Some(open) = self.open.take() else { return };
        self.muxer.flush(&mut self.bytes);
        let duration = end.since(open.start).min(self.limit);
        let part = Part {
            duration: duration.as_micros() as u64,
            independent: open.independent,
            frames: std::mem::take(&mut self.frames),
            bytes: std::mem::take(&mut self.bytes).into(),
        };
        out.extend([Output::Open(open), Output::Part(part), Output::Close]);
    }

    /// Takes a configuration over; true when it is another one than before.
    fn configure(&mut self, config: &std::sync::Arc<TrackConfig>) -> Result<bool, TsError> {
        let slot = usize::from(!config.is_video());
        if self.configs[slot].as_ref() == Some(config) {
            return Ok(false);
        }
        match &**config {
            TrackConfig::Video(v) => self.muxer.set_video(v)?,
            TrackConfig::Audio(a) => self.muxer.set_audio(a)?,
        }
        self.configs[slot] = Some(config.clone());
        Ok(true)
    }
}
