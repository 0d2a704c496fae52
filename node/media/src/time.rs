use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on a stream's media timeline, in microseconds.
///
/// Ticks of any clock up to 500 kHz survive the way here and back exactly (both ways round to the nearest),
/// so 90 kHz, 48 kHz and RTMP's milliseconds can all be recovered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The start of the timeline.
    pub const ZERO: Timestamp = Timestamp(0);

    /// From ticks of a clock of `timescale` hertz.
    pub fn from_ticks(ticks: i64, timescale: u32) -> Self {
        Timestamp(div_round(i128::from(ticks) * 1_000_000, i128::from(timescale.max(1))))
    }

    /// As ticks of a clock of `timescale` hertz, rounded to the nearest.
    pub fn to_ticks(self, timescale: u32) -> i64 {
        div_round(i128::from(self.0) * i128::from(timescale), 1_000_000)
    }

    /// From milliseconds, the unit of RTMP.
    pub const fn from_millis(ms: i64) -> Self {
        Timestamp(ms.saturating_mul(1000))
    }

    /// In whole milliseconds, rounded to the nearest.
    pub fn as_millis(self) -> i64 {
        self.to_ticks(1000)
    }

    /// In seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The time since `earlier`, zero when that is not earlier.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, d: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub for Timestamp {
    /// Microseconds, negative when the right side is later.
    type Output = i64;
    fn sub(self, other: Timestamp) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

fn div_round(n: i128, d: i128) -> i64 {
    let q = if n >= 0 { (n + d / 2) / d } else { (n - d / 2) / d };
    q.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ticks_survive(ticks in -(1i64 << 40)..(1i64 << 40), scale in 1u32..500_000) {
            prop_assert_eq!(Timestamp::from_ticks(ticks, scale).to_ticks(scale), ticks);
        }
    }
}
