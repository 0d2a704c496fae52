//! Whether a report says something new, and how soon that matters. Pure.

use sluice_control::Report;

/// How soon a change matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Only counts are others: several such changes are as good as one.
    Counts,
    /// The operator may have to do something.
    Now,
}

/// What a new report changes; `None` when nothing but load, uptime and times that pass.
pub(super) fn between(before: Option<&Report>, now: &Report, was_failing: bool) -> Option<Urgency> {
    let Some(before) = before.filter(|_| !was_failing) else { return Some(Urgency::Now) };
    let drain = |report: &Report| {
        let draining = report.draining.as_ref()?;
        let waiting = draining.waiting_publishers > 0 || draining.waiting_viewers > 0;
        Some((draining.by, draining.reason.clone(), waiting))
    };
    let matters = before.boot != now.boot
        || before.version != now.version
        || before.ready != now.ready
        || before.accepting != now.accepting
        || drain(before) != drain(now)
        || is_busy(before) != is_busy(now)
        || before.capacity != now.capacity
        || std::mem::discriminant(&before.store) != std::mem::discriminant(&now.store)
        || before.apps_hash != now.apps_hash
        || before.settings_hash != now.settings_hash
        || before.problems != now.problems;
    if matters {
        return Some(Urgency::Now);
    }
    let counts = |report: &Report| {
        (
            report.publishers,
            report.streams,
            report.owned,
            report.viewers,
            report.members,
            report.draining.clone().map(|d| (d.waiting_publishers, d.waiting_viewers)),
        )
    };
    (counts(before) != counts(now)).then_some(Urgency::Counts)
}

/// Whether somebody would notice if it went.
fn is_busy(report: &Report) -> bool {
    report.publishers > 0 || report.owned > 0 || report.viewers > 0
}

#[cfg(test)]
mod tests {
    use sluice_control::{Draining, StoreState};

    use super::*;

    #[test]
    fn what_matters_at_once_and_what_can_wait() {
        let base = Report { boot: 1, ready: true, accepting: true, viewers: 5, ..Report::default() };
        let with = |f: fn(&mut Report)| {
            let mut report = base.clone();
            f(&mut report);
            report
        };
        let drain = |deadline_s, waiting_viewers| {
            Some(Draining { deadline_s, waiting_viewers, ..Draining::default() })
        };
        assert_eq!(between(None, &base, false), Some(Urgency::Now));
        assert_eq!(between(Some(&base), &base, true), Some(Urgency::Now));
        for (now, expected) in [
            (with(|_| ()), None),
            (with(|r| (r.uptime_s, r.load.cpu_percent, r.revision) = (9, 50.0, 9)), None),
            (with(|r| r.viewers = 6), Some(Urgency::Counts)),
            (with(|r| r.members = 6), Some(Urgency::Counts)),
            (with(|r| r.viewers = 0), Some(Urgency::Now)),
            (with(|r| r.accepting = false), Some(Urgency::Now)),
            (with(|r| r.boot = 2), Some(Urgency::Now)),
            (with(|r| r.problems = vec!["full".into()]), Some(Urgency::Now)),
            (with(|r| r.store = StoreState::Away { since_s: 1 }), Some(Urgency::Now)),
        ] {
            assert_eq!(between(Some(&base), &now, false), expected, "{now:?}");
        }
        let draining = |deadline_s, waiting| Report { draining: drain(deadline_s, waiting), ..base.clone() };
        let before = draining(Some(60), 5);
        assert_eq!(between(Some(&before), &draining(Some(59), 5), false), None);
        assert_eq!(between(Some(&before), &draining(Some(59), 4), false), Some(Urgency::Counts));
        assert_eq!(between(Some(&before), &draining(Some(59), 0), false), Some(Urgency::Now));
        let (a, b) = (StoreState::Away { since_s: 1 }, StoreState::Away { since_s: 2 });
        let (a, b) = (Report { store: a, ..base.clone() }, Report { store: b, ..base.clone() });
        assert_eq!(between(Some(&a), &b, false), None);
    }
}
