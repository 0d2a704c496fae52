//! Floors against tables, and against what a HorizontalPodAutoscaler would keep.

use proptest::prelude::*;
use sluice_crds::autoscaling;

use super::*;
use crate::schedule::ScheduleError;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

fn spare(slots: u32) -> Floors {
    let spare = Some(Spare { slots, capacity: 100 });
    Floors { max: 20, spare, window: Duration::from_secs(600), schedules: Vec::new() }
}

fn heard(sessions: u32) -> Load {
    Load { sessions: Some(sessions), running: 1 }
}

fn written(start: &str, end: &str, zone: &str, min: i32) -> autoscaling::Schedule {
    let time_zone = (!zone.is_empty()).then(|| zone.to_owned());
    autoscaling::Schedule { start: start.into(), end: end.into(), time_zone, min }
}

fn schedule(start: &str, end: &str, zone: &str, min: i32) -> Schedule {
    Schedule::parse(&written(start, end, zone, min)).expect("it can be read")
}

#[test]
fn there_is_always_room_for_so_many_more() {
    let floors = spare(50);
    for (sessions, pods) in [(0, 1), (50, 1), (51, 2), (150, 2), (151, 3), (9_999, 20), (u32::MAX, 20)] {
        let floor = floors.at(at(0), heard(sessions), &mut History::default());
        assert_eq!(floor.pods, pods, "for {sessions} sessions");
        assert!(matches!(floor.because, Some(Because::SpareSlots { .. })), "{floor:?}");
    }
}

#[test]
fn without_floors_there_is_none() {
    let floors = Floors { spare: None, ..spare(0) };
    let floor = floors.at(at(0), Load { sessions: None, running: 9 }, &mut History::default());
    assert_eq!(floor, Floor { pods: 0, because: None, again: None });
}

#[test]
fn a_floor_is_raised_at_once_and_lowered_after_the_window() {
    let (floors, mut history) = (spare(100), History::default());
    assert_eq!(floors.at(at(0), heard(50), &mut history).pods, 2);
    assert_eq!(floors.at(at(60), heard(600), &mut history).pods, 7);
    let held = floors.at(at(120), heard(250), &mut history);
    assert_eq!((held.pods, held.again), (7, Some(Duration::from_secs(540))));
    assert_eq!(held.because, Some(Because::Lately { needed: 4, window: floors.window }));
    assert_eq!(floors.at(at(200), heard(100), &mut history).pods, 7);
    assert_eq!(floors.at(at(659), heard(100), &mut history).pods, 7);
    assert_eq!(floors.at(at(660), heard(100), &mut history).pods, 4);
    let low = floors.at(at(720), heard(100), &mut history);
    assert_eq!((low.pods, low.again), (2, None));
}

#[test]
fn when_the_operator_starts_what_runs_stays_for_the_window() {
    let (floors, mut history) = (spare(10), History::default());
    let load = |sessions| Load { sessions, running: 8 };
    let unheard = floors.at(at(0), load(None), &mut history);
    assert_eq!((unheard.pods, unheard.because), (8, Some(Because::Unheard)));
    assert_eq!(floors.at(at(30), load(Some(20)), &mut history).pods, 8);
    assert_eq!(floors.at(at(629), load(Some(20)), &mut history).pods, 8);
    assert_eq!(floors.at(at(630), load(Some(20)), &mut history).pods, 1);
    // Much later, not everybody is heard for a moment: what runs stays, and not for longer than that.
    assert_eq!(floors.at(at(700), load(None), &mut history).pods, 8);
    assert_eq!(floors.at(at(701), load(Some(20)), &mut history).pods, 1);
}

/// What runs counts at the start alone, or it would keep itself: each look after an idle window would ask for it anew.
#[test]
fn what_runs_is_kept_once() {
    let (floors, mut history) = (spare(10), History::default());
    let load = Load { sessions: Some(250), running: 12 };
    let first = floors.at(at(0), load, &mut history);
    assert_eq!((first.pods, first.again), (12, Some(Duration::from_secs(600))));
    for second in [601, 1202] {
        let floor = floors.at(at(second), load, &mut history);
        assert_eq!((floor.pods, floor.again), (3, None), "at {second}");
    }
}

/// Nobody looks while nothing changes, and the window begins when less is asked for.
#[test]
fn what_was_asked_for_before_an_idle_time_is_kept_for_the_window() {
    let (floors, mut history) = (spare(10), History::default());
    assert_eq!(floors.at(at(0), heard(500), &mut history).pods, 6);
    let fewer = floors.at(at(5_000), heard(90), &mut history);
    assert_eq!((fewer.pods, fewer.again), (6, Some(Duration::from_secs(600))));
    let then = floors.at(at(5_600), heard(90), &mut history);
    assert_eq!((then.pods, then.again), (1, None));
}

#[test]
fn without_a_window_nothing_is_kept() {
    let (floors, mut history) = (Floors { window: Duration::ZERO, ..spare(10) }, History::default());
    for (second, sessions, pods) in [(0, 250, 3), (1, 250, 3), (2, 90, 1), (3, 900, 10), (4, 0, 1)] {
        let load = Load { sessions: Some(sessions), running: 12 };
        let floor = floors.at(at(second), load, &mut history);
        assert_eq!((floor.pods, floor.again), (pods, None), "at {second}");
    }
}

#[test]
fn a_clock_that_is_put_back_keeps_nothing_for_longer() {
    let (floors, mut history) = (spare(10), History::default());
    assert_eq!(floors.at(at(9_000), heard(500), &mut history).pods, 6);
    assert_eq!(floors.at(at(0), heard(10), &mut history).pods, 6);
    assert_eq!(floors.at(at(600), heard(10), &mut history).pods, 1);
}

#[test]
fn a_schedule_is_on_from_its_start_to_its_end() {
    let night = schedule("0 22 * * *", "0 6 * * *", "Europe/Berlin", 5);
    let floors = Floors { schedules: vec![night], ..spare(10) };
    let look = |text: &str| floors.at(text.parse().expect(text), heard(10), &mut History::default());
    let before = look("2026-11-21T20:59:59Z");
    assert_eq!((before.pods, before.again), (1, Some(Duration::from_secs(1))));
    let on = look("2026-11-21T21:00:00Z");
    assert_eq!((on.pods, on.again), (5, Some(Duration::from_secs(8 * 3600))));
    let until = "2026-11-22T05:00:00Z".parse().ok();
    assert_eq!(on.because, Some(Because::Schedule { index: 0, until }));
    assert_eq!(look("2026-11-22T04:59:59Z").pods, 5);
    assert_eq!(look("2026-11-22T05:00:00Z").pods, 1);
    // The night in which the clock is put back has an hour more.
    let night = look("2026-10-24T20:00:00Z");
    assert_eq!((night.pods, night.again), (5, Some(Duration::from_secs(9 * 3600))));
}

#[test]
fn the_highest_schedule_counts_up_to_the_maximum() {
    let weekend = schedule("0 0 * * SAT", "0 0 * * MON", "", 30);
    let saturday = schedule("0 12 * * SAT", "0 18 * * SAT", "", 15);
    let floors = Floors { schedules: vec![saturday.clone(), weekend], ..spare(10) };
    let noon = "2026-11-21T12:30:00Z".parse().expect("a time");
    let floor = floors.at(noon, heard(10), &mut History::default());
    assert_eq!(floor.pods, 20);
    assert!(matches!(floor.because, Some(Because::Schedule { index: 1, .. })), "{floor:?}");
    // What is needed anyway is not because of a schedule.
    let floors = Floors { schedules: vec![saturday], ..spare(10) };
    let floor = floors.at(noon, heard(1_600), &mut History::default());
    assert_eq!(floor.pods, 17);
    assert!(matches!(floor.because, Some(Because::SpareSlots { .. })), "{floor:?}");
}

#[test]
fn one_that_starts_when_it_ends_is_off() {
    let never = schedule("0 6 * * *", "0 6 * * *", "", 5);
    assert!(!never.active("2026-11-21T06:00:00Z".parse().expect("a time")));
    assert!(!never.active("2026-11-21T07:00:00Z".parse().expect("a time")));
}

#[test]
fn what_is_wrong_with_a_schedule_names_its_field() {
    let error = |schedule| {
        let error: ScheduleError = Schedule::parse(&schedule).expect_err("it is wrong");
        (error.field(), error.to_string())
    };
    let (field, text) = error(written("0 6 * *", "0 6 * * *", "", 1));
    assert!(field == "start" && text.starts_with("has 4 fields"), "{field}: {text}");
    let (field, text) = error(written("0 6 * * *", "0 25 * * *", "", 1));
    assert!(field == "end" && text.starts_with("hour: '25'"), "{field}: {text}");
    let (field, text) = error(written("0 6 * * *", "0 7 * * *", "Europe/Bonn", 1));
    assert!(field == "timeZone" && text.starts_with("'Europe/Bonn' is no time zone"), "{field}: {text}");
}

#[test]
fn time_zones_are_known_without_files() {
    assert!(jiff::tz::TimeZoneDatabase::bundled().get("Europe/Berlin").is_ok());
}

proptest! {
    /// Whoever looks again when told misses nothing, also when clocks are changed.
    #[test]
    fn nothing_changes_before_the_next_change(
        start in (0u32..60, 0u32..24), end in (0u32..60, 0u32..24), minutes in 0i64..2000,
        zone in prop::sample::select(vec!["", "Europe/Berlin", "America/St_Johns"]),
        from in prop::sample::select(vec!["2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z", "2010-11-06T12:00:00Z"]),
    ) {
        let cron = |(minute, hour): (u32, u32)| format!("{minute} {hour} * * *");
        let schedule = schedule(&cron(start), &cron(end), zone, 5);
        let now = from.parse::<Timestamp>().expect("a time") + Duration::from_secs(60 * minutes.unsigned_abs());
        let change = schedule.next_change(now).expect("it changes");
        prop_assert!(change > now);
        let on = schedule.active(now);
        let mut then = now;
        while then < change {
            prop_assert_eq!(schedule.active(then), on, "{} of {:?}", then, schedule);
            then += Duration::from_secs(60);
        }
    }

    /// The floor is the most that was needed within the window, however many looks there were; nothing is forgotten too early, and at
    /// most what was joined is kept longer than asked for.
    #[test]
    fn the_most_of_the_window_counts(looks in prop::collection::vec((1i64..120, 0u32..3_000), 1..300)) {
        let floors = Floors { max: 1000, ..spare(100) };
        let (mut history, mut now, mut seen) = (History::default(), 0, vec![(0, 1)]);
        let mut joined = false;
        for (wait, sessions) in looks {
            now += wait;
            let needed = Spare { slots: 100, capacity: 100 }.pods(sessions);
            if seen.len() == 1 {
                seen[0] = (now, 1);
            }
            seen.push((now, needed));
            let floor = floors.at(at(now), heard(sessions), &mut history);
            let most = seen.iter().filter(|(then, _)| now - then < 600).map(|(_, pods)| *pods).max();
            joined |= history.asked.len() >= ENTRIES;
            prop_assert!(joined || Some(floor.pods) == most, "{floor:?} is not {most:?}");
            prop_assert!(Some(floor.pods) >= most);
            prop_assert!(history.asked.len() <= ENTRIES);
            // It is told when it changes: looking then, with the same load, finds less.
            if let Some(again) = floor.again {
                let lower = floors.at(at(now) + again, heard(sessions), &mut history.clone());
                prop_assert!(lower.pods < floor.pods, "{lower:?} after {floor:?}");
            }
        }
    }
}

#[test]
fn what_is_remembered_is_bounded_and_forgets_nothing_early() {
    let (floors, mut history) = (Floors { max: 1000, ..spare(0) }, History::default());
    for second in 0..200 {
        let sessions = u32::try_from((900 - second) * 100).expect("sessions");
        assert_eq!(floors.at(at(second), heard(sessions), &mut history).pods, 900);
        assert!(history.asked.len() <= ENTRIES);
    }
}
