//! When a group and a segment begin, decided once by the owner of a stream.
//!
//! A group begins at each keyframe of the reference track (video where there is any). A segment takes whole
//! groups: as many as fit into the wished time, or one long one. The target duration is fixed from the first
//! GOP and never exceeded afterwards: where a later GOP is longer, it is cut at a frame that is no keyframe.

use std::time::{Duration, SystemTime};

use crate::{Stamp, Timestamp};

/// A GOP longer than this is cut even before the target duration is known.
const LONGEST_SEGMENT: Duration = Duration::from_secs(10);
/// A segment may fall short of the wished time by this much, so that clock jitter does not double it.
const TOLERANCE: Duration = Duration::from_millis(100);
/// The first measurement takes at least this long, so that a few very short GOPs do not mislead it.
const MEASURE: Duration = Duration::from_millis(900);
/// When the wall clock and the timeline have drifted apart by more, program time is anchored anew. Players place
/// the renditions of a stream by program time, so it has to go on exactly as the segments do: a jump, or steps of a
/// millisecond, tear them apart. A clock that drifts takes days to get here; the first frames of a publisher that
/// starts slowly, which are a second late, never do.
const DRIFT: Duration = Duration::from_secs(30);

/// What is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// How long a segment should be.
    pub segment: Duration,
    /// How long a part should be.
    pub part: Duration,
}

/// What a stream really gets; it holds for the stream's whole life, on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// EXT-X-TARGETDURATION, in whole seconds: no segment, rounded to the nearest second, is longer.
    pub target_duration: Duration,
    /// PART-TARGET, a multiple of the frame duration, in whole milliseconds.
    pub part_target: Duration,
}

/// Where the numbers of a stream go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The ownership epoch.
    pub epoch: u64,
    /// The media sequence number of the first segment.
    pub media_sequence: u64,
    /// The discontinuity sequence number of the first segment.
    pub discontinuity_sequence: u64,
    /// Where the first frame is placed on the stream's timeline, which never goes back.
    pub timeline: Timestamp,
    /// How the stream was cut by the owner before, so that players that stay see no other target duration.
    pub segmentation: Option<Segmentation>,
}

/// Which track a frame that drives the segmentation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The stream's video.
    Video,
    /// Audio, because there is no video.
    Audio,
    /// Audio, because video has gone silent and segments must go on.
    StandIn,
}

/// Gives out the stamps.
#[derive(Clone, Debug)]
pub struct Stamper {
    wish: Wish,
    epoch: u64,
    group: u64,
    media_sequence: u64,
    discontinuity_sequence: u64,
    segment_start: Option<Timestamp>,
    group_start: Timestamp,
    last: Timestamp,
    // The longest step between frames of late: what the next frame may take.
    step: Duration,
    // The last step.
    previous: Duration,
    anchor: Option<(Timestamp, SystemTime)>,
    broken: bool,
    measure: Measure,
    known: Option<Segmentation>,
}

#[derive(Clone, Debug, Default)]
struct Measure {
    frames: Vec<Timestamp>,
    longest: Duration,
}

impl Stamper {
    /// Numbers go on from `origin`.
    pub fn new(origin: Origin, wish: Wish) -> Self {
        Stamper {
            wish,
            epoch: origin.epoch,
            group: 0,
            media_sequence: origin.media_sequence,
            discontinuity_sequence: origin.discontinuity_sequence,
            segment_start: None,
            group_start: Timestamp::ZERO,
            last: Timestamp::ZERO,
            step: Duration::ZERO,
            previous: Duration::ZERO,
            anchor: None,
            broken: false,
            measure: Measure::default(),
            known: origin.segmentation,
        }
    }

    /// Known after the first second or the first GOP, whichever is longer.
    pub fn segmentation(&self) -> Option<Segmentation> {
        self.known
    }

    /// The source broke off or changed: the next group starts a segment behind a discontinuity.
    pub fn break_off(&mut self) {
        self.broken = self.segment_start.is_some();
        self.measure.frames.clear();
    }

    /// Looks at the next frame of the reference track; says whether a group begins with it.
    pub fn next(&mut self, dts: Timestamp, keyframe: bool, by: Reference, now: SystemTime) -> Option<Stamp> {
        let Some(start) = self.segment_start else {
            if by == Reference::Audio && self.known.is_none() {
                self.known = Some(Segmentation {
                    target_duration: whole_seconds(self.wish.segment),
                    part_target: self.wish.part,
                });
            }
            self.look(dts);
            return Some(self.begin(dts, true, now));
        };
        if by != Reference::StandIn {
            // What lies across a break is no frame's length, and one long step is a pause, not a frame rate.
            let step = if self.broken { Duration::ZERO } else { dts.since(self.last) };
            self.step = step.min(self.previous * 2).max(self.step - self.step / 64);
            self.previous = step;
            self.last = dts;
            self.look(dts);
        }
        let elapsed = dts.since(start);
        let limit = self.limit();
        let wished = elapsed + TOLERANCE.min(self.wish.segment / 10) >= self.wish.segment;
        match by {
            _ if self.broken => Some(self.begin(dts, true, now)),
            Reference::StandIn => (elapsed > limit).then(|| self.begin(dts, true, now)),
            Reference::Audio => (wished || elapsed + self.step > limit).then(|| self.begin(dts, true, now)),
            Reference::Video if keyframe => {
                let gop = dts.since(self.group_start);
                let so_far = if wished { elapsed } else { gop };
                self.measure.longest = self.measure.longest.max(so_far);
                if elapsed >= MEASURE.min(self.wish.segment) {
                    self.decide();
                }
                Some(self.begin(dts, wished || elapsed + gop > self.limit(), now))
            }
            // The frame's own duration still belongs to the segment, and is not known yet.
            Reference::Video => (elapsed + self.step > limit).then(|| {
                if self.known.is_none() {
                    self.measure.longest = LONGEST_SEGMENT;
                    self.decide();
                }
                self.begin(dts, true, now)
            }),
        }
    }

    /// Begins a group at once, whatever the frame is: behind a discontinuity when `broken`, else in the
    /// present segment.
    pub fn force(&mut self, dts: Timestamp, broken: bool, now: SystemTime) -> Stamp {
        self.broken |= broken && self.segment_start.is_some();
        let segment = self.broken || self.segment_start.is_none();
        self.begin(dts, segment, now)
    }

    fn begin(&mut self, dts: Timestamp, segment: bool, now: SystemTime) -> Stamp {
        // Tracks take turns in beginning groups, and one may be a little behind the other: stamps never go back.
        let dts = if self.segment_start.is_some() { dts.max(self.group_start) } else { dts };
        if self.segment_start.is_none() {
            self.segment_start = Some(dts);
            self.last = dts;
        } else {
            self.group += 1;
            if segment {
                // A segment that is cut short for another reason is in the list all the same.
                if self.known.is_none() {
                    let from = self.segment_start.unwrap_or(dts);
                    let lasted = self.last.since(from) + self.step;
                    self.measure.longest = self.measure.longest.max(lasted);
                }
                self.segment_start = Some(dts);
                self.media_sequence += 1;
            }
        }
        if std::mem::take(&mut self.broken) {
            self.discontinuity_sequence += 1;
            self.anchor = None;
        }
        self.group_start = dts;
        Stamp {
            epoch: self.epoch,
            group: self.group,
            media_sequence: self.media_sequence,
            discontinuity_sequence: self.discontinuity_sequence,
            segment_start: self.segment_start.unwrap_or(dts),
            start: dts,
            wall_clock: self.wall_clock(dts, now),
        }
    }

    fn wall_clock(&mut self, dts: Timestamp, now: SystemTime) -> SystemTime {
        if let Some((at, wall)) = self.anchor {
            let expected = wall + dts.since(at);
            let drift = expected.duration_since(now).unwrap_or_else(|e| e.duration());
            if drift <= DRIFT {
                return expected;
            }
        }
        // Whole milliseconds are what playlists carry; so nothing is lost on the way to another node.
        let ms = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        self.anchor = Some((dts, now));
        now
    }

    /// No segment may be longer than this: it would round to more than the target duration.
    fn limit(&self) -> Duration {
        self.known.map_or(LONGEST_SEGMENT, |k| k.target_duration) + Duration::from_millis(440)
    }

    fn look(&mut self, dts: Timestamp) {
        if self.known.is_none() && self.measure.frames.len() < 4096 {
            self.measure.frames.push(dts);
        }
    }

    fn decide(&mut self) {
        if self.known.is_some() {
            return;
        }
        let longest = self.measure.longest.max(self.wish.segment);
        // A quarter of a second above a whole one is taken for jitter.
        let target = whole_seconds(longest.saturating_sub(Duration::from_millis(250)));
        let part = part_target(&self.measure.frames, self.wish.part).min(target);
        self.known = Some(Segmentation { target_duration: target, part_target: part });
        self.measure = Measure::default();
    }
}

fn whole_seconds(d: Duration) -> Duration {
    Duration::from_secs((d.as_millis().div_ceil(1000) as u64).max(1))
}

/// The wished part time as a whole number of frames, long enough for every run of that many frames seen.
fn part_target(frames: &[Timestamp], wish: Duration) -> Duration {
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return wish };
    let steps = frames.len() as u64 - 1;
    if steps == 0 || last <= first {
        return wish;
    }
    let average = (*last - *first) as f64 / steps as f64;
    let n = (wish.as_micros() as f64 / average).round().max(1.0);
    let nominal = n * average;
    let longest = frames.windows(n as usize + 1).filter_map(|w| Some(*w.last()? - *w.first()?)).max();
    let longest = longest.map_or(nominal, |l| l as f64);
    // One hiccup in the first second is no reason for long parts for ever.
    let micros = if longest > nominal * 1.25 { nominal } else { longest };
    Duration::from_millis((micros / 1000.0 - 1e-6).ceil().max(1.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WISH: Wish = Wish { segment: Duration::from_secs(2), part: Duration::from_millis(200) };

    fn run(fps: f64, gop: f64, seconds: f64) -> (Stamper, Vec<Stamp>) {
        let mut s = Stamper::new(
            Origin { epoch: 3, media_sequence: 100, discontinuity_sequence: 7, ..Origin::default() },
            WISH,
        );
        let per_gop = (gop * fps).round() as u64;
        let stamps = (0..(seconds * fps) as u64)
            .filter_map(|i| {
                let dts = Timestamp::from_millis((i as f64 * 1000.0 / fps).round() as i64);
                let now = SystemTime::UNIX_EPOCH + Duration::from_micros(dts.0 as u64);
                s.next(dts, i % per_gop == 0, Reference::Video, now)
            })
            .collect();
        (s, stamps)
    }

    fn segments(stamps: &[Stamp]) -> Vec<f64> {
        let starts: Vec<_> = stamps.iter().filter(|s| s.starts_segment()).map(|s| s.start).collect();
        starts.windows(2).map(|w| w[1].since(w[0]).as_secs_f64()).collect()
    }

    #[test]
    fn usual_streams() {
        for (fps, gop, target, part, length) in [
            (30.0, 1.0, 2, 200, 2.0),
            (30.0, 2.0, 2, 200, 2.0),
            (25.0, 0.48, 2, 200, 1.92),
            (60.0, 2.0, 2, 200, 2.0),
            (30.0, 8.0, 8, 200, 8.0),
            (30.0, 250.0 / 30.0, 9, 200, 8.333),
            (29.97, 2.002, 2, 201, 2.002),
            (24.0, 1.5, 2, 209, 1.5),
            (1.0, 2.0, 2, 1000, 2.0),
        ] {
            let (s, stamps) = run(fps, gop, 60.0);
            let known = s.segmentation().expect("known after a minute");
            assert_eq!(known.target_duration.as_secs(), target, "{fps} fps, GOP {gop}");
            assert_eq!(known.part_target.as_millis(), part, "{fps} fps, GOP {gop}");
            for d in segments(&stamps) {
                assert!((d - length).abs() < 0.002, "{fps} fps, GOP {gop}: a segment of {d}");
            }
            assert_eq!((stamps[0].epoch, stamps[0].media_sequence, stamps[0].group), (3, 100, 0));
            assert!(stamps.iter().all(|s| s.discontinuity_sequence == 7));
        }
    }

    #[test]
    fn an_endless_gop_is_cut() {
        let (s, stamps) = run(30.0, 1000.0, 60.0);
        assert_eq!(s.segmentation().map(|k| k.target_duration.as_secs()), Some(10));
        assert!(stamps.len() >= 5);
    }

    #[test]
    fn a_break_is_a_new_segment_behind_a_discontinuity() {
        let (mut s, stamps) = run(30.0, 1.0, 2.5);
        let before = stamps.last().cloned().expect("some");
        s.break_off();
        let at = Timestamp::from_millis(9000);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(500);
        let after = s.next(at, true, Reference::Video, now).expect("a group");
        assert_eq!(after.media_sequence, before.media_sequence + 1);
        assert_eq!(after.discontinuity_sequence, before.discontinuity_sequence + 1);
        assert_eq!(after.wall_clock, now, "program time is anchored anew");
    }

    #[test]
    fn program_time_goes_on_exactly_as_the_segments_do() {
        let mut s = Stamper::new(Origin::default(), WISH);
        // The first frame comes 1.5 s late, those after it in time, by a clock that is 100 ppm slow.
        let stamps: Vec<Stamp> = (0..60_000)
            .filter_map(|i| {
                let dts = Timestamp::from_millis(i * 40);
                let late = if i == 0 { 1_500_000 } else { 0 };
                let now = SystemTime::UNIX_EPOCH + Duration::from_micros((i * 40_004) as u64 + late);
                s.next(dts, i % 50 == 0, Reference::Video, now)
            })
            .collect();
        for pair in stamps.windows(2) {
            let passed = pair[1].wall_clock.duration_since(pair[0].wall_clock).expect("goes on");
            assert_eq!(passed, pair[1].start.since(pair[0].start));
        }
    }

    #[test]
    fn a_pause_makes_no_short_segments() {
        for (pause, broken) in [(3, true), (10, true), (3, false), (15, false)] {
            let (mut s, before) = run(25.0, 1.0, 20.0);
            if broken {
                s.break_off();
            }
            let from = 20_000 + pause * 1000;
            let after: Vec<Stamp> = (0..500)
                .filter_map(|i| {
                    let dts = Timestamp::from_millis(from + i * 40);
                    s.next(dts, i % 25 == 0, Reference::Video, SystemTime::UNIX_EPOCH)
                })
                .collect();
            assert!(segments(&after).iter().all(|d| *d == 2.0), "{pause} {broken}: {:?}", segments(&after));
            let sequence = |s: &[Stamp]| s.last().map_or(0, |s| s.media_sequence);
            assert!(sequence(&after) - sequence(&before) <= 11, "{pause} {broken}");
        }
    }

    proptest! {
        #[test]
        // A frame that takes much longer than those before cannot be foreseen; the packager shortens it.
        fn no_segment_exceeds_the_target(
            steps in prop::collection::vec((1i64..60, prop::bool::weighted(0.01)), 1..3000),
            segment in 1u64..8,
        ) {
            let wish = Wish { segment: Duration::from_secs(segment), ..WISH };
            let mut s = Stamper::new(Origin::default(), wish);
            let mut dts = 0;
            let mut last: Option<Stamp> = None;
            let mut first = true;
            for (step, key) in steps {
                dts += step;
                let t = Timestamp::from_millis(dts);
                if let Some(stamp) = s.next(t, key || first, Reference::Video, SystemTime::UNIX_EPOCH) {
                    if let Some(l) = &last {
                        prop_assert!(stamp.group == l.group + 1);
                        prop_assert!(stamp.media_sequence - l.media_sequence <= 1);
                        prop_assert_eq!(stamp.media_sequence > l.media_sequence, stamp.starts_segment());
                        if stamp.starts_segment() {
                            let d = stamp.start.since(l.segment_start).as_secs_f64().round();
                            let target = s.segmentation().map_or(10, |k| k.target_duration.as_secs());
                            prop_assert!(d <= target as f64, "{} > {}", d, target);
                        }
                    }
                    last = Some(stamp);
                }
                first = false;
            }
        }
    }
}
