//! Samples between decoder and encoder, and their times.
//!
//! Times go by the count of samples, so what is encoded has no seams, whatever the source rounds its times to. Where source
//! and count part, the count gives way: slowly for a clock that drifts, by silence for what was lost, at once for a break.

use std::collections::VecDeque;

use crate::RATE;

/// What rounding and jitter of a source make, in samples: 5 ms.
const TOLERATED: i64 = RATE as i64 / 200;
/// More than this is no drift but a loss: 10 ms.
const LOST: i64 = RATE as i64 / 100;
/// More than this is not filled up: 100 ms.
const BREAK: i64 = RATE as i64 / 10;
/// Of a drift, this part is taken back with each frame.
const SLOWLY: i64 = 16;

/// Samples that wait to be encoded.
#[derive(Debug)]
pub(crate) struct Pile {
    channels: Vec<VecDeque<f32>>,
    /// The time of the first sample, in ticks of [`RATE`]; unknown before the first frame.
    head: Option<i64>,
}

/// What became of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It goes on.
    Follows,
    /// Something new begins: what the decoder still held does not belong to it.
    Anew,
}

impl Pile {
    pub(crate) fn new(channels: u8) -> Self {
        Pile { channels: vec![VecDeque::new(); usize::from(channels)], head: None }
    }

    fn len(&self) -> usize {
        self.channels.first().map_or(0, VecDeque::len)
    }

    /// The next samples are those of a frame at `at`, behind `delay` samples that the resampler still holds.
    pub(crate) fn place(&mut self, at: i64, delay: i64) -> Placed {
        let Some(head) = self.head else {
            self.head = Some(at);
            return Placed::Anew;
        };
        let ahead = at.saturating_sub(head.saturating_add(self.len() as i64).saturating_add(delay));
        if !(-LOST..=BREAK).contains(&ahead) {
            self.channels.iter_mut().for_each(VecDeque::clear);
            self.head = Some(at);
            return Placed::Anew;
        }
        if ahead > LOST {
            self.channels.iter_mut().for_each(|c| c.extend(std::iter::repeat_n(0.0, ahead as usize)));
        } else if ahead.abs() > TOLERATED {
            let over = ahead - ahead.signum() * TOLERATED;
            let by = over / SLOWLY;
            self.head = Some(head.saturating_add(if by == 0 { over.signum() } else { by }));
        }
        Placed::Follows
    }

    /// Takes samples by channel.
    pub(crate) fn push(&mut self, planes: &[&[f32]]) {
        // What is no number would stay in an encoder's memory for ever.
        let clean = |s: &f32| if s.is_finite() { s.clamp(-1.0, 1.0) } else { 0.0 };
        for (channel, plane) in self.channels.iter_mut().zip(planes) {
            channel.extend(plane.iter().map(clean));
        }
    }

    /// The next `samples` of each channel and their time, if there are as many.
    pub(crate) fn take(&mut self, samples: usize) -> Option<(i64, Vec<Vec<f32>>)> {
        let at = self.head.filter(|_| self.len() >= samples)?;
        self.head = Some(at.saturating_add(samples as i64));
        Some((at, self.channels.iter_mut().map(|c| c.drain(..samples).collect()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The times of what is taken out, 960 samples each, when frames of 960 come at these times.
    fn through(times: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut pile = Pile::new(1);
        let mut out = Vec::new();
        for at in times {
            pile.place(at, 0);
            pile.push(&[&[0.5; 960]]);
            out.extend(std::iter::from_fn(|| pile.take(960).map(|(at, _)| at)));
        }
        out
    }

    #[test]
    fn times_that_are_rounded_to_milliseconds_come_out_exact() {
        // Frames of 1000 samples are no whole number of milliseconds.
        let mut pile = Pile::new(2);
        let mut out = Vec::new();
        for i in 0..1000i64 {
            let ms = (i * 1000 * 1000 + 24_000) / 48_000;
            assert_eq!(pile.place(ms * 48, 0), if i == 0 { Placed::Anew } else { Placed::Follows });
            pile.push(&[&[0.1; 1000], &[0.2; 1000]]);
            out.extend(std::iter::from_fn(|| pile.take(1024).map(|(at, _)| at)));
        }
        assert!(out.iter().enumerate().all(|(i, at)| *at == i as i64 * 1024), "{out:?}");
    }

    #[test]
    fn a_clock_that_drifts_is_followed_within_a_frame() {
        // Frames come 0.5 % further apart than their samples say.
        let times = (0..2000i64).map(|i| i * 965);
        let out = through(times.clone());
        for (at, wanted) in out.iter().zip(times) {
            assert!((at - wanted).abs() < 960, "{at} {wanted}");
        }
        assert!(out.is_sorted());
    }

    #[test]
    fn a_frame_that_was_lost_is_silence() {
        let out = through([0, 960, 2 * 960 + 960, 4 * 960]);
        assert_eq!(out, [0, 960, 2 * 960, 3 * 960, 4 * 960]);
    }

    #[test]
    fn a_break_is_kept() {
        let far = 48_000 * 7;
        assert_eq!(through([0, 960, far, far + 960]), [0, 960, far, far + 960]);
        assert_eq!(through([far, 0, 960]), [far, 0, 960], "back, too");
    }

    #[test]
    fn what_is_no_number_is_silence() {
        let mut pile = Pile::new(1);
        pile.place(0, 0);
        pile.push(&[&[f32::NAN, f32::INFINITY, 9.0, -0.5]]);
        assert_eq!(pile.take(4), Some((0, vec![vec![0.0, 0.0, 1.0, -0.5]])));
    }

    proptest! {
        #[test]
        fn whatever_the_times_are_little_waits(times in prop::collection::vec(any::<i64>(), 1..200)) {
            let mut pile = Pile::new(1);
            for at in times {
                pile.place(at / 4, 0);
                pile.push(&[&[0.5; 960]]);
                while pile.take(1024).is_some() {}
                prop_assert!(pile.len() < 1024);
            }
        }
    }
}
