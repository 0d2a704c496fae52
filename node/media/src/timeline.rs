//! From a publisher's clock, which wraps, jumps and starts anywhere, to a stream's timeline, which only grows.

use std::time::Duration;

use crate::Timestamp;

/// A step back by more than this, or ahead by more than [`MAX_STEP`], is a jump of the source's clock.
const MAX_BACK: i64 = 500_000;
/// See [`MAX_BACK`]; in microseconds.
const MAX_STEP: i64 = 3_000_000;

/// Follows a counter of limited width through its wraps.
///
/// Whatever is nearer counts: a value up to half the range ahead is later, otherwise it is earlier.
#[derive(Clone, Debug)]
pub struct Unwrap {
    bits: u32,
    timescale: u32,
    last: Option<i64>,
}

impl Unwrap {
    /// RTMP's clock: 32 bits of milliseconds.
    pub fn bits32_ms() -> Self {
        Unwrap { bits: 32, timescale: 1000, last: None }
    }

    /// MPEG-TS's clock: 33 bits at 90 kHz.
    pub fn bits33_90khz() -> Self {
        Unwrap { bits: 33, timescale: 90_000, last: None }
    }

    /// The value as a time that goes on over wraps; the first is taken as it is.
    pub fn unwrap(&mut self, value: u64) -> Timestamp {
        let range = 1i64 << self.bits;
        let value = (value & (range as u64 - 1)) as i64;
        let at = match self.last {
            None => value,
            Some(last) => {
                let forward = (value - last).rem_euclid(range);
                last + if forward < range / 2 { forward } else { forward - range }
            }
        };
        self.last = Some(at);
        Timestamp::from_ticks(at, self.timescale)
    }
}

/// Places the frames of one publisher on the stream's timeline.
///
/// The first frame lands where it is told; all others keep their distance to it. A jump of the source's clock
/// is closed up: the frame after it follows the one before by a frame's usual length, and tracks that jump
/// together stay together.
#[derive(Clone, Debug)]
pub struct Timeline {
    start: Timestamp,
    offset: Option<i64>,
    tracks: Vec<TrackClock>,
}

#[derive(Clone, Debug, Default)]
struct TrackClock {
    offset: i64,
    last: Option<Placed>,
    step: i64,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    source: i64,
    at: i64,
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Decoding time on the stream's timeline; greater than the one before on the same track.
    pub dts: Timestamp,
    /// Presentation time; not before `dts`.
    pub pts: Timestamp,
    /// Whether the source's clock jumped before this frame.
    pub jumped: bool,
}

impl Timeline {
    /// The first frame, of whichever track, lands on `start`.
    pub fn new(start: Timestamp) -> Self {
        Timeline { start, offset: None, tracks: Vec::new() }
    }

    /// Places the next frame of track number `track`.
    pub fn place(&mut self, track: usize, dts: Timestamp, pts: Timestamp) -> Place {
        let offset = *self.offset.get_or_insert(self.start.0.saturating_sub(dts.0));
        while self.tracks.len() <= track {
            self.tracks.push(TrackClock { offset, last: None, step: 20_000 });
        }
        let newest = self.tracks.iter().filter_map(|t| t.last).map(|p| p.at).max();
        // How far the others are: where a track was silent for long, its clock has gone on with theirs.
        let beside = self.tracks.iter().enumerate().filter(|(i, _)| *i != track);
        let beside = beside.filter_map(|(_, t)| t.last).map(|p| p.at).max();
        let others: Vec<i64> =
            self.tracks.iter().enumerate().filter(|(i, _)| *i != track).map(|(_, t)| t.offset).collect();
        // A track that starts later keeps in sync with the one that was heard last, jumps included.
        let leader = self.tracks.iter().filter(|t| t.last.is_some()).max_by_key(|t| t.last.map(|p| p.at));
        let leader = leader.map_or(offset, |t| t.offset);
        let clock = &mut self.tracks[track];
        if clock.last.is_none() {
            clock.offset = leader;
        }
        let mut at = dts.0.saturating_add(clock.offset);
        let mut jumped = false;
        // A track's first frame is measured against the newest of the others, with room for late starters.
        let (reference, back, ahead) = match (clock.last, newest) {
            (Some(p), _) => (p.at, MAX_BACK, MAX_STEP),
            (None, Some(n)) => (n, 10 * MAX_STEP, 10 * MAX_STEP),
            (None, None) => (at, 0, 0),
        };
        let fits = |at: i64| {
            let goes_on = at > reference
                && beside.is_some_and(|b| (-MAX_BACK..=MAX_STEP).contains(&at.saturating_sub(b)));
            goes_on || (-back..=ahead).contains(&at.saturating_sub(reference))
        };
        if !fits(at) {
            jumped = true;
            // Another track may have made the same jump already; its offset keeps the two in sync.
            let known = others.into_iter().find(|o| fits(dts.0.saturating_add(*o)));
            clock.offset = known.unwrap_or_else(|| {
                let target = newest.unwrap_or(reference).max(reference.saturating_add(clock.step));
                target.saturating_sub(dts.0)
            });
            at = dts.0.saturating_add(clock.offset);
        }
        if let Some(last) = clock.last {
            if at <= last.at {
                at = last.at + 1000.min(clock.step);
            } else if !jumped && dts.0 > last.source {
                clock.step = (dts.0 - last.source).clamp(1000, MAX_STEP);
            }
        }
        at = at.max(self.start.0);
        clock.last = Some(Placed { source: dts.0, at });
        let composition = pts.0.saturating_sub(dts.0).clamp(0, 10_000_000);
        Place { dts: Timestamp(at), pts: Timestamp(at.saturating_add(composition)), jumped }
    }

    /// The newest time given so far.
    pub fn newest(&self) -> Option<Timestamp> {
        self.tracks.iter().filter_map(|t| t.last).map(|p| Timestamp(p.at)).max()
    }
}

/// The length of the silence that a publisher's break leaves on the timeline: as long as it really was,
/// but never nothing.
pub fn gap(silence: Duration) -> Duration {
    silence.max(Duration::from_millis(20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(t: i64) -> Timestamp {
        Timestamp::from_millis(t)
    }

    #[test]
    fn a_32_bit_clock_wraps() {
        let mut u = Unwrap::bits32_ms();
        assert_eq!(u.unwrap(u64::from(u32::MAX) - 10).as_millis(), 4_294_967_285);
        assert_eq!(u.unwrap(23).as_millis(), 4_294_967_319);
        assert_eq!(u.unwrap(u64::from(u32::MAX)).as_millis(), 4_294_967_295, "reordered over the wrap");
    }

    #[test]
    fn a_jump_ahead_is_closed_up_and_tracks_stay_together() {
        let mut t = Timeline::new(ms(0));
        for i in 0..30 {
            assert_eq!(t.place(0, ms(1000 + i * 40), ms(1000 + i * 40)).dts, ms(i * 40));
            assert_eq!(t.place(1, ms(1000 + i * 40), ms(1000 + i * 40)).dts, ms(i * 40));
        }
        let v = t.place(0, ms(900_000), ms(900_080));
        assert!(v.jumped);
        assert_eq!((v.dts, v.pts), (ms(1200), ms(1280)));
        let a = t.place(1, ms(900_010), ms(900_010));
        assert_eq!(a.dts, ms(1210), "with the offset that video found");
        assert!(!t.place(0, ms(900_040), ms(900_040)).jumped);
    }

    #[test]
    fn a_track_that_starts_after_a_jump_is_in_sync() {
        let mut t = Timeline::new(ms(0));
        t.place(0, ms(0), ms(0));
        assert_eq!(t.place(0, ms(8000), ms(8000)).dts, ms(20), "closed up");
        assert_eq!(t.place(1, ms(8010), ms(8010)).dts, ms(30));
    }

    #[test]
    fn a_clock_that_starts_again_goes_on() {
        let mut t = Timeline::new(ms(0));
        t.place(0, ms(50_000), ms(50_000));
        t.place(0, ms(50_040), ms(50_040));
        let p = t.place(0, ms(0), ms(0));
        assert!(p.jumped);
        assert_eq!(p.dts, ms(80));
    }

    #[test]
    fn one_track_that_jumps_alone_does_not_move_the_other() {
        let mut t = Timeline::new(ms(0));
        for i in 0..10 {
            t.place(0, ms(i * 40), ms(i * 40));
            t.place(1, ms(i * 40), ms(i * 40));
        }
        for i in 10..20 {
            assert_eq!(t.place(0, ms(i * 40), ms(i * 40)).dts, ms(i * 40));
            let a = t.place(1, ms(5_000_000 + i * 40), ms(5_000_000 + i * 40));
            assert!((a.dts - ms(i * 40)).abs() <= 40_000);
            assert_eq!(a.jumped, i == 10);
        }
    }

    #[test]
    fn a_track_that_was_silent_alone_keeps_its_distance_to_the_others() {
        let mut t = Timeline::new(ms(0));
        for i in 0..500 {
            assert_eq!(t.place(0, ms(1000 + i * 20), ms(1000 + i * 20)).dts, ms(i * 20));
            // Muted from the first to the ninth second; the pictures have jitter.
            if !(50..450).contains(&i) {
                let p = t.place(1, ms(990 + i * 20), ms(990 + i * 20));
                assert_eq!((p.dts, p.jumped), (ms((i * 20 - 10).max(0)), false), "{i}");
            }
        }
        // Both are silent, and the clock has gone on: the second follows the first.
        assert!(t.place(0, ms(50_000), ms(50_000)).jumped);
        assert_eq!(t.place(1, ms(50_010), ms(50_010)).dts - t.place(0, ms(50_020), ms(50_020)).dts, -10_000);
    }

    #[test]
    fn a_jump_that_a_track_was_silent_in_does_not_part_it_from_the_others() {
        let mut t = Timeline::new(ms(0));
        for i in 0..10 {
            t.place(0, ms(i * 40), ms(i * 40));
            t.place(1, ms(i * 40), ms(i * 40));
        }
        let mut picture = Timestamp(0);
        for i in 0..250 {
            picture = t.place(0, ms(900_000 + i * 40), ms(900_000 + i * 40)).dts;
        }
        let sound = t.place(1, ms(900_000 + 250 * 40), ms(900_000 + 250 * 40)).dts;
        assert_eq!(sound - picture, 40_000);
    }

    proptest! {
        #[test]
        fn time_always_grows_whatever_the_source_says(
            source in prop::collection::vec((0usize..3, any::<u32>(), -50_000i64..50_000), 1..300)
        ) {
            let mut t = Timeline::new(ms(7));
            let mut unwrap = [Unwrap::bits32_ms(), Unwrap::bits32_ms(), Unwrap::bits32_ms()];
            let (mut last, mut newest) = ([Timestamp(i64::MIN); 3], Timestamp(7000));
            for (track, dts, composition) in source {
                let dts = unwrap[track].unwrap(u64::from(dts));
                let p = t.place(track, dts, Timestamp(dts.0 + composition * 1000));
                prop_assert!(p.dts > last[track]);
                prop_assert!(p.pts >= p.dts);
                prop_assert!(p.dts - newest <= 35_000_000);
                newest = newest.max(p.dts);
                last[track] = p.dts;
            }
        }

        #[test]
        fn a_steady_source_keeps_its_distances(start in any::<u32>(), step in 1u32..1000, n in 2usize..200) {
            let mut t = Timeline::new(ms(0));
            let mut unwrap = Unwrap::bits32_ms();
            for i in 0..n {
                let dts = unwrap.unwrap(u64::from(start.wrapping_add(step * i as u32)));
                let p = t.place(0, dts, dts);
                prop_assert_eq!(p.dts, ms(i64::from(step) * i as i64));
                prop_assert!(!p.jumped);
            }
        }
    }
}
