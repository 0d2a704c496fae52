//! Whether packets take longer and longer: the delay-based half of Google congestion control.
//!
//! Packets that left together are a group. From group to group, how much more time lies between arrivals than between
//! departures is added up; the slope of a line through the last sums, multiplied, is held against a threshold that adapts.

/// What the delays say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// The queue stays as it is.
    Normal,
    /// The queue grows.
    Over,
    /// The queue drains.
    Under,
}

/// Packets that leave within this are one group, in microseconds.
const GROUP: i64 = 5_000;
/// Points of the line.
const POINTS: usize = 20;
/// How much a sum is smoothed.
const SMOOTHING: f64 = 0.9;
const GAIN: f64 = 4.0;
/// The queue has to grow for this long, in milliseconds.
const OVER_FOR: f64 = 10.0;
/// How fast the threshold follows the slope when that is above it, and below it; a millisecond.
const UP: f64 = 0.0087;
const DOWN: f64 = 0.039;
/// The threshold is held within these.
const THRESHOLD: (f64, f64) = (6.0, 600.0);
/// Arrivals further apart than this, in microseconds, say nothing of a queue: the link slept, or the clock jumped.
const PAUSE: i64 = 3_000_000;

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: i64,
    sent: i64,
    arrived: i64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Trend {
    group: Option<Group>,
    before: Option<Group>,
    points: [(f64, f64); POINTS],
    count: u32,
    sum: f64,
    smooth: f64,
    start: i64,
    threshold: f64,
    /// How long the slope has been above the threshold, in milliseconds; how often it was seen there; where it was last.
    over: (f64, u32, f64),
    usage: Usage,
}

impl Default for Trend {
    fn default() -> Self {
        Trend {
            group: None,
            before: None,
            points: [(0.0, 0.0); POINTS],
            count: 0,
            sum: 0.0,
            smooth: 0.0,
            start: 0,
            threshold: 12.5,
            over: (0.0, 0, 0.0),
            usage: Usage::Normal,
        }
    }
}

impl Trend {
    /// What was said last.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// A packet arrived; both times in microseconds, each on a clock of its own.
    pub(crate) fn add(&mut self, sent: i64, arrived: i64) -> Usage {
        let Some(group) = &mut self.group else {
            self.group = Some(Group { first_sent: sent, sent, arrived });
            return self.usage;
        };
        if sent < group.first_sent {
            return self.usage;
        }
        if sent - group.first_sent <= GROUP {
            group.sent = group.sent.max(sent);
            group.arrived = group.arrived.max(arrived);
            return self.usage;
        }
        let done = *group;
        self.group = Some(Group { first_sent: sent, sent, arrived });
        if let Some(before) = self.before.replace(done) {
            let (left, came) = (done.sent - before.sent, done.arrived - before.arrived);
            if came.abs() > PAUSE || left > PAUSE {
                *self = Trend { threshold: self.threshold, group: self.group, ..Trend::default() };
            } else {
                self.step(left as f64 / 1000.0, came as f64 / 1000.0, done.arrived);
            }
        }
        self.usage
    }

    fn step(&mut self, left: f64, came: f64, arrived: i64) {
        if self.count == 0 {
            self.start = arrived;
        }
        self.sum += came - left;
        self.smooth = SMOOTHING * self.smooth + (1.0 - SMOOTHING) * self.sum;
        let at = (arrived - self.start) as f64 / 1000.0;
        self.points[self.count as usize % POINTS] = (at, self.smooth);
        self.count = self.count.saturating_add(1);
        if (self.count as usize) < POINTS {
            return;
        }
        let slope = self.slope() * f64::from(self.count.min(60)) * GAIN;
        let (time, seen, last) = self.over;
        if slope > self.threshold {
            // The first time counts half.
            let time = if seen == 0 { left / 2.0 } else { time + left };
            self.over = (time, seen + 1, slope);
            if time > OVER_FOR && seen >= 1 && slope >= last {
                self.over = (0.0, 0, slope);
                self.usage = Usage::Over;
            }
        } else {
            self.over = (0.0, 0, slope);
            self.usage = if slope < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        let off = slope.abs() - self.threshold;
        if off < 15.0 {
            let rate = if off < 0.0 { DOWN } else { UP };
            self.threshold = (self.threshold + rate * off * left.min(100.0)).clamp(THRESHOLD.0, THRESHOLD.1);
        }
    }

    /// Of the line that fits the points best: milliseconds of delay a millisecond.
    fn slope(&self) -> f64 {
        let n = POINTS as f64;
        let (x, y) = self.points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
        let (x, y) = (x / n, y / n);
        let (over, under) = self
            .points
            .iter()
            .fold((0.0, 0.0), |(o, u), p| (o + (p.0 - x) * (p.1 - y), u + (p.0 - x) * (p.0 - x)));
        if under > 0.0 { over / under } else { 0.0 }
    }
}
