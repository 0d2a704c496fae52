//! From whole frames to the tracks of a stream: configurations, the first keyframe, the order of renditions.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use sluice_media::codec::{self, nal};
use sluice_media::{AudioConfig, Frame, Publisher, TrackConfig, TrackId, VideoCodec, VideoConfig};

use super::source::Whole;
use crate::agreed::Codec;

/// With simulcast, the layers that come within this time of the first are ordered by size; others come behind them.
const LAYERS_COME: Duration = Duration::from_secs(1);
/// Frames that wait for that at most, and their bytes.
const WAITING: usize = 1024;
const WAITING_BYTES: usize = 16 << 20;

/// What was done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was written, or waits to be.
    Yes {
        /// Whether decoding can start with it.
        keyframe: bool,
    },
    /// It is of no use without a keyframe before it.
    NeedsKeyframe,
    /// It brings nothing to show: padding, parameter sets that come by themselves.
    Nothing,
}

/// Writes the frames of one publisher's layers.
#[derive(Debug)]
pub(super) struct Tracks {
    publisher: Publisher,
    lanes: Vec<Lane>,
    /// Layers that should come before video begins.
    expected: usize,
    begun: bool,
    /// Since when frames wait, and those frames.
    since: Option<Instant>,
    waiting: Vec<(usize, Frame)>,
    /// Whether something was written that readers were not woken for.
    fresh: bool,
    ended: bool,
}

/// The track of a layer.
#[derive(Debug, Default)]
struct Lane {
    id: Option<TrackId>,
    config: Option<TrackConfig>,
    /// Frames refer to something that was lost, or to nothing yet.
    broken: bool,
    started: bool,
    /// Parameter sets come in band: a keyframe without them may need those that were lost.
    own_sets: bool,
    /// They came since something was lost.
    fresh_sets: bool,
}

impl Tracks {
    pub(super) fn new(publisher: Publisher) -> Self {
        Tracks {
            publisher,
            lanes: Vec::new(),
            expected: 1,
            begun: false,
            since: None,
            waiting: Vec::new(),
            fresh: false,
            ended: false,
        }
    }

    /// Video layers that were announced.
    pub(super) fn expect(&mut self, layers: usize) {
        self.expected = layers;
        self.publisher.expect_video(layers > 0);
    }

    pub(super) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    pub(super) fn finish(mut self, wall: SystemTime) {
        self.begin(Instant::now(), wall);
        self.publisher.flush();
        self.publisher.finish();
    }

    /// Something was lost before the next frame of that layer.
    pub(super) fn lost(&mut self, layer: usize) {
        let lane = self.lane(layer);
        (lane.broken, lane.fresh_sets) = (true, false);
    }

    fn lane(&mut self, layer: usize) -> &mut Lane {
        if self.lanes.len() <= layer {
            self.lanes.resize_with(layer + 1, Lane::default);
        }
        &mut self.lanes[layer]
    }

    /// Takes a frame of a layer.
    pub(super) fn frame(&mut self, layer: usize, whole: Whole, now: Instant, wall: SystemTime) -> Taken {
        if whole.payload.is_empty() || self.ended {
            return Taken::Nothing;
        }
        let Whole { codec, dts, pts, payload } = whole;
        let keyframe = match codec {
            Codec::Video(codec) => match self.video(layer, codec, &payload) {
                Taken::Yes { keyframe } => keyframe,
                other => {
                    if other == Taken::NeedsKeyframe {
                        self.dropped();
                    }
                    return other;
                }
            },
            Codec::Audio(_) => {
                self.audio(layer);
                true
            }
        };
        let frame = Frame { dts, pts, keyframe, payload };
        if matches!(codec, Codec::Video(_)) && !self.begun {
            self.since.get_or_insert(now);
            self.waiting.push((layer, frame));
            self.begin_if_due(now, wall);
        } else {
            self.write(layer, frame, now, wall);
        }
        Taken::Yes { keyframe }
    }

    /// When those that wait are written at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.filter(|_| !self.begun).map(|since| since + LAYERS_COME)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, wall: SystemTime) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.begin(now, wall);
        }
    }

    /// Wakes readers, if something was written.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.fresh) {
            self.publisher.flush();
        }
    }

    /// Finds out whether a picture can be used, and takes the configuration that it brings along.
    fn video(&mut self, layer: usize, codec: VideoCodec, payload: &Bytes) -> Taken {
        let (keyframe, picture) = (codec::is_keyframe(codec, payload), has_picture(codec, payload));
        self.lane(layer);
        let lane = &mut self.lanes[layer];
        let before = match &lane.config {
            Some(TrackConfig::Video(v)) if v.codec == codec => Some(v),
            _ => None,
        };
        if keyframe || !picture {
            match VideoConfig::in_band(codec, payload) {
                Some(Ok(config)) => {
                    (lane.own_sets, lane.fresh_sets) = (true, true);
                    if before != Some(&config) {
                        lane.broken |= !keyframe;
                        let config = TrackConfig::Video(config);
                        lane.config = Some(config.clone());
                        if let Some(id) = lane.id {
                            self.publisher.set_config(id, config);
                        } else if self.begun {
                            lane.id = self.publisher.add_track(config);
                        } else {
                            // What waits has another configuration.
                            self.waiting.retain(|(l, _)| *l != layer);
                        }
                    }
                }
                Some(Err(e)) => {
                    tracing::debug!("a configuration in band is of no use: {e}");
                    lane.broken = true;
                    return Taken::NeedsKeyframe;
                }
                None if before.is_none() => return Taken::NeedsKeyframe,
                None if lane.broken && lane.own_sets && !lane.fresh_sets && lane.started && picture => {
                    return Taken::NeedsKeyframe;
                }
                None => {}
            }
        } else if before.is_none() {
            return Taken::NeedsKeyframe;
        }
        if !picture {
            return Taken::Nothing;
        }
        let lane = self.lane(layer);
        if keyframe {
            (lane.broken, lane.started) = (false, true);
        } else if lane.broken || !lane.started {
            return Taken::NeedsKeyframe;
        }
        Taken::Yes { keyframe }
    }

    fn audio(&mut self, layer: usize) {
        /// Two channels, which every decoder gives; 6.5 ms of pre-skip; 48 kHz.
        const DOPS: &[u8] = &[0, 2, 0x01, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0];
        if self.lane(layer).config.is_some() {
            return;
        }
        if let Ok(config) = AudioConfig::opus(Bytes::from_static(DOPS)) {
            let config = TrackConfig::Audio(config);
            let id = self.publisher.add_track(config.clone());
            let lane = self.lane(layer);
            (lane.config, lane.id) = (Some(config), id);
        }
    }

    fn begin_if_due(&mut self, now: Instant, wall: SystemTime) {
        let here = self.lanes.iter().filter(|l| l.config.as_ref().is_some_and(TrackConfig::is_video)).count();
        let bytes: usize = self.waiting.iter().map(|(_, f)| f.payload.len()).sum();
        if here >= self.expected || self.waiting.len() >= WAITING || bytes >= WAITING_BYTES {
            self.begin(now, wall);
        } else {
            self.handle_timeout(now, wall);
        }
    }

    /// Adds the layers that are known, the largest picture first, and writes what waited.
    fn begin(&mut self, now: Instant, wall: SystemTime) {
        self.begun = true;
        let mut rank: Vec<(usize, u64)> = Vec::new();
        for (layer, lane) in self.lanes.iter().enumerate().filter(|(_, l)| l.id.is_none()) {
            if let Some(TrackConfig::Video(v)) = &lane.config {
                rank.push((layer, u64::from(v.width) * u64::from(v.height)));
            }
        }
        rank.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        for (layer, _) in &rank {
            let lane = &mut self.lanes[*layer];
            lane.id = lane.config.clone().and_then(|config| self.publisher.add_track(config));
        }
        // The same picture of all layers follows each other, the largest first.
        let place = |layer: usize| rank.iter().position(|(l, _)| *l == layer);
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|(layer, frame)| (frame.dts, place(*layer)));
        for (layer, frame) in waiting {
            self.write(layer, frame, now, wall);
        }
    }

    fn write(&mut self, layer: usize, frame: Frame, now: Instant, wall: SystemTime) {
        match self.lanes.get(layer).and_then(|l| l.id) {
            Some(id) => {
                self.fresh = true;
                self.ended |= self.publisher.write_at(id, frame, now, wall).is_err();
            }
            None => self.dropped(),
        }
    }

    fn dropped(&self) {
        self.publisher.stream().stats().frames_dropped.fetch_add(1, Relaxed);
    }
}

/// Whether there is more than parameter sets and messages.
fn has_picture(codec: VideoCodec, payload: &[u8]) -> bool {
    match codec {
        VideoCodec::H264 => nal::units(payload).any(|u| (1..=5).contains(&nal::h264_type(u))),
        VideoCodec::Hevc => nal::units(payload).any(|u| nal::hevc_type(u) < nal::HEVC_VPS),
        VideoCodec::Av1 | VideoCodec::Vp8 | VideoCodec::Vp9 => true,
    }
}
