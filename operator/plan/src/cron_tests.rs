//! Cron against tables, against clocks that are changed, and against a walk over minutes.

use jiff::civil::DateTime;
use proptest::prelude::*;

use super::*;

fn cron(text: &str) -> Cron {
    text.parse().expect(text)
}

fn wrong(text: &str) -> String {
    text.parse::<Cron>().expect_err(text).to_string()
}

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").expect("the database is compiled in")
}

fn last(text: &str, zone: &TimeZone, now: &str) -> String {
    cron(text).last(zone, at(now)).expect("it came").to_string()
}

fn next(text: &str, zone: &TimeZone, now: &str) -> String {
    cron(text).next(zone, at(now)).expect("it comes").to_string()
}

#[test]
fn lists_ranges_steps_and_names() {
    let utc = TimeZone::UTC;
    assert_eq!(next("0 18 * * FRI", &utc, "2026-11-21T00:00:00Z"), "2026-11-27T18:00:00Z");
    assert_eq!(last("0 18 * * fri", &utc, "2026-11-21T00:00:00Z"), "2026-11-20T18:00:00Z");
    assert_eq!(next("*/20 9-17/4,23 * * *", &utc, "2026-11-21T13:40:00Z"), "2026-11-21T17:00:00Z");
    assert_eq!(next("50/5 * * * *", &utc, "2026-11-21T13:51:00Z"), "2026-11-21T13:55:00Z");
    assert_eq!(next("0 0 1 JAN,jul *", &utc, "2026-11-21T00:00:00Z"), "2027-01-01T00:00:00Z");
    // Sunday is 0 and 7, and may end a week.
    for sunday in ["0", "7", "SUN"] {
        assert_eq!(next(&format!("0 0 * * {sunday}"), &utc, "2026-11-21T00:00:00Z"), "2026-11-22T00:00:00Z");
    }
    assert_eq!(next("0 0 * * FRI-SUN", &utc, "2026-11-22T00:00:00Z"), "2026-11-27T00:00:00Z");
    assert_eq!(last("0 0 29 2 *", &utc, "2103-06-01T00:00:00Z"), "2096-02-29T00:00:00Z");
}

#[test]
fn now_is_the_last_time_and_not_the_next() {
    let now = "2026-11-21T18:00:00Z";
    assert_eq!(last("0 18 * * *", &TimeZone::UTC, now), now);
    assert_eq!(next("0 18 * * *", &TimeZone::UTC, now), "2026-11-22T18:00:00Z");
}

#[test]
fn either_day_is_enough_when_both_are_restricted() {
    // 13 November 2026 is a Friday.
    let both = "0 0 15 * FRI";
    assert_eq!(next(both, &TimeZone::UTC, "2026-11-12T00:00:00Z"), "2026-11-13T00:00:00Z");
    assert_eq!(next(both, &TimeZone::UTC, "2026-11-13T00:00:00Z"), "2026-11-15T00:00:00Z");
    assert_eq!(next("0 0 15 * *", &TimeZone::UTC, "2026-11-13T00:00:00Z"), "2026-11-15T00:00:00Z");
    assert_eq!(next("0 0 * * FRI", &TimeZone::UTC, "2026-11-13T00:00:00Z"), "2026-11-20T00:00:00Z");
}

#[test]
fn a_time_that_is_skipped_comes_when_the_clock_jumps() {
    // 29 March 2026: 02:00 is 03:00.
    let (before, after) = ("2026-03-29T00:30:00Z", "2026-03-29T02:00:00Z");
    assert_eq!(next("30 2 * * *", &berlin(), before), "2026-03-29T01:00:00Z");
    assert_eq!(last("30 2 * * *", &berlin(), after), "2026-03-29T01:00:00Z");
    assert_eq!(next("30 2 * * *", &berlin(), after), "2026-03-30T00:30:00Z");
    // Samoa had no 30 December 2011.
    let samoa = TimeZone::get("Pacific/Apia").expect("the database is compiled in");
    assert_eq!(next("0 12 * * *", &samoa, "2011-12-30T00:00:00Z"), "2011-12-30T10:00:00Z");
    assert_eq!(last("0 12 * * *", &samoa, "2011-12-30T10:30:00Z"), "2011-12-30T10:00:00Z");
}

#[test]
fn a_time_that_is_there_twice_comes_once() {
    // 25 October 2026: 03:00 is 02:00.
    let first = "2026-10-25T00:30:00Z";
    assert_eq!(next("30 2 * * *", &berlin(), "2026-10-25T00:00:00Z"), first);
    assert_eq!(next("30 2 * * *", &berlin(), first), "2026-10-26T01:30:00Z");
    assert_eq!(last("30 2 * * *", &berlin(), "2026-10-25T01:45:00Z"), first);
    assert_eq!(last("45 2 * * *", &berlin(), "2026-10-25T01:10:00Z"), "2026-10-25T00:45:00Z");
    // 7 November 2010 in Newfoundland: 00:01 is 23:01 of the day before.
    let newfoundland = TimeZone::get("America/St_Johns").expect("the database is compiled in");
    assert_eq!(last("0 0 * * *", &newfoundland, "2010-11-07T03:00:00Z"), "2010-11-07T02:30:00Z");
    assert_eq!(next("0 0 * * *", &newfoundland, "2010-11-07T03:00:00Z"), "2010-11-08T03:30:00Z");
}

#[test]
fn what_is_wrong_is_said() {
    assert!(wrong("0 18 * *").starts_with("has 4 fields, and needs five"));
    assert!(wrong("@daily").starts_with("has 1 fields"));
    assert_eq!(wrong("60 0 * * *"), "minute: '60' is not one of 0 to 59");
    assert_eq!(wrong("0 24 * * *"), "hour: '24' is not one of 0 to 23");
    assert_eq!(wrong("0 0 0 * *"), "day of month: '0' is not one of 1 to 31");
    assert_eq!(wrong("0 0 * 13 *"), "month: '13' is not one of 1 to 12");
    assert_eq!(wrong("0 0 * * FRIDAY"), "day of week: 'FRIDAY' is not one of 0 to 7");
    assert_eq!(
        wrong("0 22-6 * * *"),
        "hour: the range '22-6' ends before it begins; write it as two, with a comma between them"
    );
    assert_eq!(wrong("*/0 0 * * *"), "minute: the step of '*/0' is not a number from 1 to 59");
    assert_eq!(wrong("*/-1 0 * * *"), "minute: the step of '*/-1' is not a number from 1 to 59");
    assert_eq!(wrong("+5 0 * * *"), "minute: '+5' is not one of 0 to 59");
    assert_eq!(wrong("1,,2 0 * * *"), "minute: '' is not one of 0 to 59");
    assert_eq!(wrong("0 0 30,31 2 *"), "never comes: no such month has such a day");
    assert!("0 0 31 4 MON".parse::<Cron>().is_ok(), "a Monday will do");
}

/// Whether it comes in this minute: told minute by minute, by what a clock shows.
fn comes(cron: &Cron, zone: &TimeZone, minute: Timestamp) -> bool {
    let shown = zone.to_datetime(minute);
    let before = zone.to_datetime(minute - Span::new().seconds(1));
    let matches = |shown: DateTime| {
        let at = u32::try_from(i32::from(shown.hour()) * 60 + i32::from(shown.minute())).expect("a minute");
        cron.in_month(shown.date()) && cron.on(shown.date()) && cron.minutes.contains(&at)
    };
    // What is skipped between the second before and this one.
    let mut skipped = before.with().second(0).build().expect("a time") + Span::new().minutes(1);
    while skipped < shown {
        if matches(skipped) {
            return true;
        }
        skipped += Span::new().minutes(1);
    }
    let first = zone.to_ambiguous_timestamp(shown).earlier().expect("a time");
    first == minute && matches(shown)
}

fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    let value = low..=high;
    prop_oneof![
        4 => Just("*".to_owned()),
        2 => value.clone().prop_map(|value| value.to_string()),
        1 => (1u32..=high).prop_map(|step| format!("*/{step}")),
        1 => (value.clone(), value.clone(), 1u32..5).prop_map(|(a, b, step)| format!("{}-{}/{step}", a.min(b), a.max(b))),
        1 => prop::collection::vec(value, 1..4).prop_map(|values| values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Around the times at which clocks change, and at others.
    #[test]
    fn as_a_walk_over_minutes_finds_it(
        fields in (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns"]),
        start in prop::sample::select(vec![
            "2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z", "2026-03-08T00:00:00Z", "2026-11-01T00:00:00Z",
            "2026-04-04T06:00:00Z", "2026-10-03T06:00:00Z", "2011-12-29T20:00:00Z", "2028-02-28T12:00:00Z", "2010-11-06T12:00:00Z",
        ]),
        minutes in 0i64..2000,
    ) {
        let (a, b, c, d, e) = fields;
        let text = format!("{a} {b} {c} {d} {e}");
        let Ok(cron) = text.parse::<Cron>() else {
            prop_assert!(text.parse::<Cron>() == Err(CronError::Never), "{}", text);
            return Ok(());
        };
        let zone = TimeZone::get(zone).expect("the database is compiled in");
        let now = at(start) + Span::new().minutes(minutes);
        let walk = |step: i64, from: i64| (from..3000)
            .map(|count| now + Span::new().minutes(step * count))
            .find(|minute| comes(&cron, &zone, *minute));
        let far = |found: Option<Timestamp>| found.filter(|at| at.duration_since(now).abs() < jiff::SignedDuration::from_mins(3000));
        prop_assert_eq!(far(cron.last(&zone, now)), walk(-1, 0), "{} last before {}", text, now);
        prop_assert_eq!(far(cron.next(&zone, now)), walk(1, 1), "{} next after {}", text, now);
    }

    /// Whatever is written: an answer, and one that is stable.
    #[test]
    fn anything_is_read_or_refused(text in "[-0-9A-Z*/, ]{0,40}") {
        if let Ok(cron) = text.parse::<Cron>() {
            prop_assert_eq!(cron.to_string().parse::<Cron>(), Ok(cron));
        }
    }
}
