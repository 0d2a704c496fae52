//! Audio frames have a fixed number of samples, but publishers round their times (RTMP to milliseconds).
//! Within a segment the frames are laid on the grid that they were taken from, so that a player hears no
//! seams; each segment starts at its true time, so nothing adds up and any node lays the same grid.

/// Lays the frames of one audio track on their grid, in ticks of the sample rate.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    tolerance: i64,
    at: Option<i64>,
}

impl Grid {
    pub(crate) fn new(timescale: u32) -> Self {
        Grid { tolerance: i64::from(timescale) / 500, at: None }
    }

    /// A segment begins: its first frame keeps its own time.
    pub(crate) fn reset(&mut self) {
        self.at = None;
    }

    /// The place of a frame at `start` and its duration, the next one of the segment being at `next`. `samples`
    /// is how many it decodes to, if that is known.
    pub(crate) fn place(&mut self, start: i64, next: i64, samples: Option<u32>) -> (i64, i64) {
        let at = self.at.unwrap_or(start);
        let fits = |n: &i64| (at + n - next).abs() <= self.tolerance;
        let duration = samples.map(i64::from).filter(fits).unwrap_or((next - at).max(0));
        self.at = Some(at + duration);
        (at, duration)
    }

    /// The place and duration of the last frame of a segment, which lasts to `end` exactly.
    pub(crate) fn last(&mut self, start: i64, end: i64) -> (i64, i64) {
        let at = self.at.take().unwrap_or(start);
        (at, (end - at).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_times_are_laid_on_the_grid() {
        let mut g = Grid::new(44_100);
        let ms = |i: i64| (i as f64 * 1024.0 / 44.1).round() as i64 * 441 / 10;
        for i in 10..90 {
            let (_, d) = g.place(ms(i), ms(i + 1), Some(1024));
            assert_eq!(d, 1024, "frame {i}");
        }
        let (at, d) = g.last(ms(90), ms(91));
        assert_eq!(at + d, ms(91), "the segment ends where the next one starts");
    }

    #[test]
    fn a_hole_is_kept() {
        let mut g = Grid::new(48_000);
        assert_eq!(g.place(0, 1024, Some(1024)), (0, 1024));
        assert_eq!(g.place(1024, 9000, Some(1024)), (1024, 7976));
        assert_eq!(g.place(9000, 10_024, Some(1024)), (9000, 1024));
    }
}
