//! Which rendition a viewer gets, and whether only its keyframes. Pure: estimates and time in, decisions out.

use std::time::{Duration, Instant};

/// A rendition is taken when it needs no more than this share of the estimate.
const SHARE: f64 = 0.9;
/// It is left when it needs more than the whole estimate for this long, or at once when it needs far more.
const TIGHT: Duration = Duration::from_millis(400);
const FAR_MORE: f64 = 1.4;
/// Only keyframes are sent below the first share of what the lowest rendition needs, for `TIGHT`; everything again above
/// the second.
const THIN: f64 = 0.6;
const WHOLE: f64 = 0.8;
/// How long the link has to have been good before more is tried: at first, later, and at most after failures.
const FIRST_HOLD: Duration = Duration::from_secs(1);
const HOLD: Duration = Duration::from_secs(5);
const LONGEST_HOLD: Duration = Duration::from_secs(60);
/// More that lasted this long was no failure.
const PROVEN: Duration = Duration::from_secs(20);

/// What a viewer's video is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Decision {
    /// Index of the rendition.
    pub(crate) rung: usize,
    /// Only its keyframes.
    pub(crate) thinned: bool,
    /// Whether the link should be tried at this rate, in bits a second of video, to know if more is possible.
    pub(crate) probe: Option<f64>,
}

/// What is known of the link when a decision is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Bits a second that are there for the video.
    pub(crate) estimate: f64,
    /// When the link was too narrow last.
    pub(crate) congested: Option<Instant>,
}

/// The state behind the decisions for one feed.
#[derive(Debug)]
pub(crate) struct Choice {
    rung: usize,
    thinned: bool,
    tight: Option<Instant>,
    changed: Instant,
    climbed: Option<Instant>,
    hold: Duration,
}

impl Choice {
    /// Begins with the best rendition that the first estimate allows. `rungs` are bits a second, best first.
    pub(crate) fn new(rungs: &[u64], estimate: f64, now: Instant) -> Self {
        Choice {
            rung: best(rungs, estimate).unwrap_or(rungs.len().saturating_sub(1)),
            thinned: false,
            tight: None,
            changed: now,
            climbed: None,
            hold: FIRST_HOLD,
        }
    }

    /// The renditions are others now: `rung` is where the present one is.
    pub(crate) fn moved(&mut self, rung: usize) {
        self.rung = rung;
    }

    /// A probe did not get through.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.hold = (self.hold.max(HOLD) * 2).min(LONGEST_HOLD);
        self.changed = now;
    }

    /// Leaves a rendition that cannot be had any more for the best that fits, or else the lowest that is there.
    pub(crate) fn leave_gone(&mut self, rungs: &[u64], alive: &[bool], estimate: f64, now: Instant) {
        if alive.get(self.rung).is_none_or(|alive| *alive) {
            return;
        }
        let Some(rung) = best(rungs, estimate).or_else(|| alive.iter().rposition(|alive| *alive)) else {
            return;
        };
        self.rung = rung;
        (self.thinned, self.tight, self.climbed, self.changed) = (false, None, None, now);
    }

    /// Decides. `forced` is the rendition that the viewer asked for.
    pub(crate) fn decide(
        &mut self,
        rungs: &[u64],
        seen: Seen,
        forced: Option<usize>,
        now: Instant,
    ) -> Decision {
        self.rung = forced.unwrap_or(self.rung).min(rungs.len().saturating_sub(1));
        let needs = rungs.get(self.rung).copied().unwrap_or(0) as f64;
        let lowest = forced.is_some() || rungs[rungs.len().min(self.rung + 1)..].iter().all(|r| *r == 0);
        if self.climbed.is_some_and(|at| now.saturating_duration_since(at) > PROVEN) {
            self.climbed = None;
            self.hold = HOLD;
        }
        // What is sent, and may not get through.
        let least = if lowest { THIN * needs } else { needs };
        // What was never seen to be too narrow is not known, rather than narrow.
        let unknown = lowest && seen.congested.is_none();
        if !self.thinned && !unknown && seen.estimate < least {
            let since = *self.tight.get_or_insert(now);
            let long = now.saturating_duration_since(since) >= TIGHT;
            if long || (!lowest && seen.estimate * FAR_MORE < needs) {
                self.descend(rungs, seen.estimate, lowest, now);
            }
        } else {
            self.tight = None;
        }
        let probe = self.ascend(rungs, seen, forced.is_some(), now);
        Decision { rung: self.rung, thinned: self.thinned, probe }
    }

    fn descend(&mut self, rungs: &[u64], estimate: f64, lowest: bool, now: Instant) {
        let failed = self.climbed.take().is_some();
        self.hold = if failed { (self.hold.max(HOLD) * 2).min(LONGEST_HOLD) } else { self.hold.max(HOLD) };
        self.tight = None;
        self.changed = now;
        if lowest {
            self.thinned = true;
        } else {
            let below = self.rung + 1;
            let fitting = rungs.get(below..).and_then(|rungs| best(rungs, estimate)).map(|i| below + i);
            let least = rungs.iter().rposition(|r| *r > 0);
            self.rung = fitting.or(least).unwrap_or(rungs.len() - 1);
        }
    }

    /// Takes more if the link has been good for long enough; tells what has to be known for it.
    fn ascend(&mut self, rungs: &[u64], seen: Seen, forced: bool, now: Instant) -> Option<f64> {
        let bad = seen.congested.map_or(self.changed, |at| at.max(self.changed));
        if now.saturating_duration_since(bad) < self.hold {
            return None;
        }
        if self.thinned {
            let needs = rungs.get(self.rung).copied().unwrap_or(0) as f64;
            if seen.estimate < WHOLE * needs {
                return Some(needs);
            }
            self.thinned = false;
        } else {
            let next = rungs[..self.rung].iter().rposition(|r| *r > 0 && !forced)?;
            let Some(rung) = best(&rungs[..self.rung], seen.estimate) else {
                return Some(rungs[next] as f64 / SHARE * 1.02);
            };
            self.rung = rung;
        }
        self.climbed = Some(now);
        self.changed = now;
        self.hold = self.hold.max(HOLD);
        None
    }
}

/// The best that fits. A rendition whose bitrate is not known yet does not.
fn best(rungs: &[u64], estimate: f64) -> Option<usize> {
    rungs.iter().position(|r| *r > 0 && *r as f64 <= SHARE * estimate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LADDER: [u64; 3] = [2_500_000, 1_000_000, 300_000];

    struct Viewer {
        choice: Choice,
        start: Instant,
        congested: Option<Instant>,
    }

    impl Viewer {
        fn new(rungs: &[u64], estimate: f64) -> Self {
            let start = Instant::now();
            Viewer { choice: Choice::new(rungs, estimate, start), start, congested: None }
        }

        fn at(&mut self, ms: u64, rungs: &[u64], estimate: f64) -> Decision {
            let seen = Seen { estimate, congested: self.congested };
            self.choice.decide(rungs, seen, None, self.start + Duration::from_millis(ms))
        }
    }

    #[test]
    fn begins_with_what_fits() {
        assert_eq!(Viewer::new(&LADDER, 1.5e6).at(0, &LADDER, 1.5e6).rung, 1);
        assert_eq!(Viewer::new(&LADDER, 4e6).at(0, &LADDER, 4e6).rung, 0);
        assert_eq!(Viewer::new(&LADDER, 1e5).at(0, &LADDER, 1e5).rung, 2);
        assert_eq!(Viewer::new(&[], 1e6).at(0, &[], 1e6).rung, 0);
    }

    #[test]
    fn goes_down_at_once_when_far_too_much_is_sent() {
        let mut v = Viewer::new(&LADDER, 4e6);
        assert_eq!(v.at(100, &LADDER, 4.5e5).rung, 2);
    }

    #[test]
    fn a_short_dip_changes_nothing() {
        let mut v = Viewer::new(&LADDER, 4e6);
        assert_eq!(v.at(100, &LADDER, 2.3e6).rung, 0);
        assert_eq!(v.at(300, &LADDER, 3e6).rung, 0);
        assert_eq!(v.at(400, &LADDER, 2.3e6).rung, 0);
        assert_eq!(v.at(700, &LADDER, 2.3e6).rung, 0);
        assert_eq!(v.at(900, &LADDER, 2.3e6).rung, 1, "a long one does");
    }

    #[test]
    fn goes_up_after_five_good_seconds_and_later_each_time_it_was_wrong() {
        let mut v = Viewer::new(&LADDER, 4e6);
        assert_eq!(v.at(0, &LADDER, 1.2e6).rung, 1);
        v.congested = Some(v.start);
        assert_eq!(v.at(4900, &LADDER, 4e6).rung, 1);
        assert_eq!(v.at(5100, &LADDER, 4e6).rung, 0);
        assert_eq!(v.at(6000, &LADDER, 1.2e6).rung, 1);
        assert_eq!(v.at(12_000, &LADDER, 4e6).rung, 1, "ten seconds now");
        assert_eq!(v.at(16_100, &LADDER, 4e6).rung, 0);
        // It lasts: the next time is like the first.
        assert_eq!(v.at(40_000, &LADDER, 4e6).rung, 0);
        assert_eq!(v.at(41_000, &LADDER, 1.2e6).rung, 1);
        assert_eq!(v.at(46_100, &LADDER, 4e6).rung, 0);
    }

    #[test]
    fn wants_to_know_before_it_goes_up() {
        let mut v = Viewer::new(&LADDER, 1.5e6);
        assert_eq!(v.at(500, &LADDER, 1.5e6).probe, None);
        let probe = v.at(1500, &LADDER, 1.5e6).probe.expect("a second is over");
        assert!((2.7e6..3e6).contains(&probe));
        v.choice.failed(v.start + Duration::from_millis(2000));
        assert_eq!(v.at(11_900, &LADDER, 1.5e6).probe, None);
        assert!(v.at(12_100, &LADDER, 1.5e6).probe.is_some());
    }

    #[test]
    fn thins_where_there_is_nothing_lower_and_recovers() {
        let mut v = Viewer::new(&LADDER[1..2], 1.5e6);
        let ladder = &LADDER[1..2];
        assert!(!v.at(0, ladder, 1e5).thinned, "a guess takes nothing away");
        assert!(!v.at(900, ladder, 1e5).thinned);
        v = Viewer::new(ladder, 1.5e6);
        v.congested = Some(v.start);
        assert!(!v.at(0, ladder, 7e5).thinned, "squeezed, but whole");
        assert!(!v.at(100, ladder, 5e5).thinned);
        assert!(v.at(600, ladder, 5e5).thinned);
        assert_eq!(v.at(3000, ladder, 5e5).probe, None);
        assert_eq!(v.at(5700, ladder, 5e5).probe, Some(1e6));
        let back = v.at(6000, ladder, 1e6);
        assert!(!back.thinned && back.probe.is_none());
    }

    #[test]
    fn what_is_gone_is_left_for_what_fits() {
        let gone = |rungs: &[u64]| {
            let alive: Vec<bool> = rungs.iter().map(|r| *r > 0).collect();
            let mut v = Viewer::new(&LADDER, 4e6);
            v.choice.leave_gone(rungs, &alive, 4e6, v.start);
            let up = v.at(0, rungs, 4e6).rung;
            v = Viewer::new(&LADDER, 4e6);
            v.choice.leave_gone(rungs, &alive, 1e5, v.start);
            (up, v.at(0, rungs, 1e5).rung)
        };
        assert_eq!(gone(&[0, 1_000_000, 300_000]), (1, 2));
        assert_eq!(gone(&[0, 1_000_000, 0]), (1, 1), "too much, but there is nothing else");
        assert_eq!(gone(&[0, 0, 0]), (0, 0));
        let mut v = Viewer::new(&LADDER, 1.2e6);
        v.choice.leave_gone(&[0, 0, 0], &[true; 3], 1.2e6, v.start);
        assert_eq!(v.at(0, &[0; 3], 1.2e6).rung, 1, "not measured yet, but there");
        // What is gone is neither the way down nor the way up.
        assert_eq!(v.at(100, &[0, 1_000_000, 0], 3e5).rung, 1);
        assert_eq!(v.at(5000, &[0, 1_000_000, 0], 1.2e6).probe, None);
    }

    #[test]
    fn what_the_viewer_asks_for_it_gets() {
        let mut v = Viewer::new(&LADDER, 4e6);
        let seen = Seen { estimate: 4e6, congested: None };
        for (ms, forced) in [(100, 2), (20_000, 2), (21_000, 1)] {
            let d = v.choice.decide(&LADDER, seen, Some(forced), v.start + Duration::from_millis(ms));
            assert_eq!((d.rung, d.probe), (forced, None));
        }
    }
}
