//! Where parts end: a pure function of the frames' times, so that every node cuts at the same places.

use std::time::Duration;

use sluice_media::Timestamp;

/// The least share of the part target that a part may have, in percent, unless it is the last of its segment
/// (draft-pantos-hls-rfc8216bis, 4.4.4.9).
pub(crate) const SHORTEST_PERCENT: i64 = 85;

/// Decides where the parts of one segment end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cutter {
    target: i64,
    open: Option<Timestamp>,
}

impl Cutter {
    /// Parts of at most `target`; without one a segment is a single part.
    pub(crate) fn new(target: Option<Duration>) -> Self {
        let target = target.map_or(i64::MAX, |t| i64::try_from(t.as_micros()).unwrap_or(i64::MAX));
        Cutter { target, open: None }
    }

    /// A new segment begins, and with it a part.
    pub(crate) fn reset(&mut self) {
        self.open = None;
    }

    /// Whether the part must end before a frame that lasts to `end`, because it would grow too long.
    pub(crate) fn ends_before(&mut self, end: Timestamp) -> bool {
        let over = self.open.is_some_and(|start| end - start > self.target);
        if over {
            self.open = None;
        }
        over
    }

    /// Shortens a frame whose end is only a guess to what fits into the part.
    pub(crate) fn fit(&self, start: Timestamp, end: Timestamp) -> Timestamp {
        let most = self.open.map_or(i64::MAX, |open| open.0.saturating_add(self.target));
        if most > start.0 { Timestamp(end.0.min(most)) } else { end }
    }

    /// Takes a frame into the part. Whether the part ends with it: it is long enough, and one more frame
    /// like this would make it too long, so that nobody has to wait for that frame to know.
    pub(crate) fn ends_after(&mut self, start: Timestamp, end: Timestamp) -> bool {
        let open = *self.open.get_or_insert(start);
        let (length, frame) = (end - open, end - start);
        let enough = i128::from(length) * 100 >= i128::from(self.target) * i128::from(SHORTEST_PERCENT);
        let full = enough && length.saturating_add(frame) > self.target;
        if full {
            self.open = None;
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The parts' lengths in milliseconds for frames at these times (the last one only ends the one before).
    fn parts(times: &[i64], target: u64) -> Vec<i64> {
        let mut cutter = Cutter::new(Some(Duration::from_millis(target)));
        let (mut out, mut length) = (Vec::new(), 0);
        for w in times.windows(2) {
            let (start, end) = (Timestamp::from_millis(w[0]), Timestamp::from_millis(w[1]));
            if cutter.ends_before(end) {
                out.push(std::mem::take(&mut length));
            }
            length += w[1] - w[0];
            if cutter.ends_after(start, end) {
                out.push(std::mem::take(&mut length));
            }
        }
        out
    }

    #[test]
    fn thirty_frames_a_second() {
        let times: Vec<i64> = (0..31).map(|i| (i as f64 * 1000.0 / 30.0).round() as i64).collect();
        assert_eq!(parts(&times, 200), [200, 200, 200, 200, 200]);
    }

    #[test]
    fn a_frame_that_does_not_fit_goes_into_the_next_part() {
        assert_eq!(parts(&[0, 100, 160, 260, 360], 200), [160, 200]);
        assert_eq!(parts(&[0, 50, 950, 1000], 200), [50, 900], "a hole in the source");
    }

    proptest! {
        #[test]
        fn parts_are_neither_too_long_nor_too_short(
            fps in 15.0f64..120.0,
            jitter in 0.0f64..0.04,
            seed in prop::collection::vec(-1.0f64..1.0, 400),
        ) {
            let frame = 1000.0 / fps;
            let n = (200.0 / frame).round().max(1.0);
            // What the owner of a stream does: a whole number of frames, with room for the jitter.
            let target = (n * frame * (1.0 + jitter * 2.0) + 1.0).ceil() as u64;
            let mut times: Vec<i64> = seed
                .iter()
                .enumerate()
                .map(|(i, r)| (i as f64 * frame + r * jitter * frame).round() as i64)
                .collect();
            times.sort_unstable();
            for p in parts(&times, target) {
                prop_assert!(p <= target as i64, "{} > {}", p, target);
                prop_assert!(p as f64 >= target as f64 * 0.85 - frame, "{} << {}", p, target);
            }
        }
    }
}
