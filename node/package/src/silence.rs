//! Silence for audio that stops while video goes on. Players that take audio and video apart stand still as soon
//! as one of them runs out, so a publisher that stops sending sound would end everybody's playback.
//!
//! It depends on the frames and on the order of their arrival alone, which are the same on every node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluice_media::{AudioCodec, Frame, GroupHead, Stamp, Timestamp, TrackConfig};

/// Video goes on for this long without any audio before silence is filled in.
const PATIENCE: Duration = Duration::from_secs(1);
/// Stamps that are remembered; silence never begins before the oldest of them.
const STAMPS: usize = 64;
/// Frames that are filled in at one go.
const BURST: usize = 1024;

/// What is to be packaged for the audio track.
#[derive(Debug)]
pub(crate) enum Sound {
    /// A group begins.
    Group(GroupHead),
    /// A frame, real or silent.
    Frame(Frame),
}

/// Stands between a stream and the segmenter of its audio track.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    stamps: VecDeque<Arc<Stamp>>,
    /// The video's time when audio came last.
    heard: Option<Timestamp>,
    seen: Option<Timestamp>,
    head: Option<GroupHead>,
    /// The group number of the last head that was handed on.
    group: Option<(u64, u64)>,
    newest: Option<Timestamp>,
    filling: Option<Filling>,
}

#[derive(Debug)]
struct Filling {
    from: Timestamp,
    frames: i64,
    samples: i64,
    rate: u32,
    payload: Bytes,
}

impl Filling {
    fn at(&self, frame: i64) -> Timestamp {
        self.from
            + Duration::from_micros(Timestamp::from_ticks(frame * self.samples, self.rate).0.unsigned_abs())
    }
}

impl Silence {
    /// A group of audio begins. False when silence has already been filled in up to there.
    pub(crate) fn audio_group(&mut self, head: &GroupHead) -> bool {
        self.head = Some(head.clone());
        let fresh = self.group.is_none_or(|g| head.stamp.place() > g);
        if fresh {
            self.group = Some(head.stamp.place());
        }
        fresh
    }

    /// A frame of audio comes. False when silence stands in its place.
    pub(crate) fn audio(&mut self, frame: &Frame) -> bool {
        self.heard = self.seen;
        if let Some(f) = &self.filling {
            // Half a frame of overlap is nothing, more would push what follows out of time.
            let half = Duration::from_micros(Timestamp::from_ticks(f.samples / 2, f.rate).0.unsigned_abs());
            if frame.dts + half < f.at(f.frames) {
                return false;
            }
            self.filling = None;
        }
        self.newest = Some(frame.dts);
        true
    }

    /// A group of video begins.
    pub(crate) fn video_group(&mut self, head: &GroupHead) {
        let before = self.stamps.back().map(|s| s.discontinuity_sequence);
        if before.is_some_and(|d| d != head.stamp.discontinuity_sequence) {
            // What is missing around a break of the source is not silence.
            self.stamps.clear();
            self.heard = None;
            self.filling = None;
        }
        self.stamps.push_back(head.stamp.clone());
        if self.stamps.len() > STAMPS {
            self.stamps.pop_front();
        }
    }

    /// A frame of video comes: what is missing before it is filled in.
    pub(crate) fn video(&mut self, dts: Timestamp, out: &mut Vec<Sound>) {
        if self.seen.replace(dts).is_some_and(|s| dts.since(s) >= PATIENCE) {
            // Both stood still.
            self.heard = None;
        }
        let heard = *self.heard.get_or_insert(dts);
        if self.filling.is_none() {
            if dts.since(heard) < PATIENCE {
                return;
            }
            self.filling = self.begin();
        }
        let Some(f) = &mut self.filling else { return };
        for _ in 0..BURST {
            let t = f.at(f.frames);
            if f.at(f.frames + 1) > dts {
                break;
            }
            let stamp = self.stamps.iter().rev().find(|s| s.start <= t);
            if let (Some(stamp), Some(head)) = (stamp, &self.head)
                && self.group.is_none_or(|g| stamp.place() > g)
            {
                self.group = Some(stamp.place());
                let (stamp, config) = (stamp.clone(), head.config.clone());
                out.push(Sound::Group(GroupHead { stamp, config, independent: true, leads: true }));
            }
            f.frames += 1;
            self.newest = Some(t);
            out.push(Sound::Frame(Frame { dts: t, pts: t, keyframe: true, payload: f.payload.clone() }));
        }
    }

    fn begin(&self) -> Option<Filling> {
        let TrackConfig::Audio(config) = &*self.head.as_ref()?.config else { return None };
        // A frame of digital silence, as the encoders write it.
        let payload: &'static [u8] = match (config.codec, config.channels, config.codec_string.as_str()) {
            (AudioCodec::Aac, 1, "mp4a.40.2") => &[0x01, 0x18, 0x20, 0x07],
            (AudioCodec::Aac, 2, "mp4a.40.2") => &[0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c],
            (AudioCodec::Opus, 1, _) => &[0xf8, 0xff, 0xfe],
            (AudioCodec::Opus, 2, _) => &[0xfc, 0xff, 0xfe],
            _ => return None,
        };
        let samples = i64::from(config.samples_per_frame(payload)?);
        let rate = config.sample_rate.max(1);
        let frame = Duration::from_micros(Timestamp::from_ticks(samples, rate).0.unsigned_abs());
        // Whoever joins in the midst of silence begins with the oldest segment that is known.
        let oldest = self.stamps.iter().find(|s| s.starts_segment())?.start;
        let from = (self.newest? + frame).max(oldest);
        Some(Filling { from, frames: 0, samples, rate, payload: Bytes::from_static(payload) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_media::AudioConfig;
    use std::time::SystemTime;

    fn head(group: u64, ms: i64, audio: bool) -> GroupHead {
        let record = Bytes::from_static(&[0x11, 0x90]);
        let config = if audio {
            TrackConfig::Audio(AudioConfig::aac(record).expect("AAC-LC, 48 kHz, stereo"))
        } else {
            TrackConfig::Video(sluice_media::VideoConfig::vp8(2, 2).expect("a size"))
        };
        let start = Timestamp::from_millis(ms);
        let stamp = Stamp {
            epoch: 1,
            group,
            media_sequence: group,
            discontinuity_sequence: 0,
            segment_start: start,
            start,
            wall_clock: SystemTime::UNIX_EPOCH,
        };
        GroupHead { stamp: Arc::new(stamp), config: Arc::new(config), independent: true, leads: true }
    }

    fn frame(ms: i64) -> Frame {
        let t = Timestamp::from_millis(ms);
        Frame { dts: t, pts: t, keyframe: true, payload: Bytes::from_static(b"x") }
    }

    /// Ten seconds of video at 25 frames a second with a group each second, and audio where `there` says so.
    fn run(there: impl Fn(i64) -> bool) -> (Vec<i64>, Vec<u64>, usize) {
        let mut s = Silence::default();
        let (mut times, mut groups, mut silent) = (Vec::new(), Vec::new(), 0);
        let (mut next, mut announced) = (0, None);
        for ms in (0..10_000).step_by(40) {
            if ms % 1000 == 0 {
                s.video_group(&head(ms as u64 / 1000, ms, false));
            }
            let mut out = Vec::new();
            s.video(Timestamp::from_millis(ms), &mut out);
            for sound in out {
                match sound {
                    Sound::Group(h) => groups.push(h.stamp.group),
                    Sound::Frame(f) => {
                        times.push(f.dts.0);
                        silent += 1;
                    }
                }
            }
            while next * 1024 / 48 <= ms {
                let t = next * 1024 / 48;
                next += 1;
                if !there(t) {
                    continue;
                }
                let group = t as u64 / 1000;
                if announced != Some(group) {
                    announced = Some(group);
                    if s.audio_group(&head(group, group as i64 * 1000, true)) {
                        groups.push(group);
                    }
                }
                if s.audio(&frame(t)) {
                    times.push(t * 1000);
                }
            }
        }
        (times, groups, silent)
    }

    #[test]
    fn sound_that_goes_on_is_left_alone() {
        let (times, groups, silent) = run(|_| true);
        assert_eq!((times.len(), silent), (467, 0));
        assert_eq!(groups, (0..10).collect::<Vec<_>>());
        // Half a second of nothing is the publisher's business.
        assert_eq!(run(|t| !(2000..2500).contains(&t)).2, 0);
    }

    #[test]
    fn sound_that_stops_is_followed_by_silence_until_it_comes_back() {
        for there in [(2500, 20_000), (2500, 7300)] {
            let (times, groups, silent) = run(|t| !(there.0..there.1).contains(&t));
            assert!(silent > 200, "{silent}");
            assert_eq!(groups, (0..10).collect::<Vec<_>>(), "each group once, in order");
            for w in times.windows(2) {
                let step = w[1] - w[0];
                assert!((10_000..33_000).contains(&step), "a seam of {step} µs at {}", w[0]);
            }
        }
    }

    #[test]
    fn who_joins_in_the_midst_of_silence_begins_with_a_segment() {
        let mut s = Silence::default();
        s.audio_group(&head(3, 3000, true));
        assert!(s.audio(&frame(3100)));
        let mut out = Vec::new();
        for ms in (600_000..603_000).step_by(40) {
            if ms % 1000 == 0 {
                s.video_group(&head(ms as u64 / 1000, ms, false));
            }
            s.video(Timestamp::from_millis(ms), &mut out);
        }
        assert!(matches!(&out[0], Sound::Group(h) if h.stamp.group == 600));
        assert!(matches!(&out[1], Sound::Frame(f) if f.dts == Timestamp::from_millis(600_000)));
    }
}
