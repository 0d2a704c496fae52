//! Times that come again, as cron writes them: five fields, and a time zone beside them.
//!
//! Fields are lists of numbers, names (`MON`, `JAN`), ranges and steps (`*/15`, `9-17/2`, `30/5`). When both the day of the month and the
//! day of the week are restricted, one of them is enough, as for a CronJob.
//!
//! Where clocks are changed, a time that is skipped comes when the clock jumps, and a time that is there twice comes the first time.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

/// How far to look: 29 February is eight years away at most.
const YEARS: i32 = 9;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// What is wrong with a line of cron.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error(
        "has {0} fields, and needs five: minute, hour, day of month, month, day of week, such as 0 18 * * FRI"
    )]
    Fields(usize),
    /// A value that its field does not have.
    #[error("{field}: '{text}' is not one of {low} to {high}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What is there.
        text: String,
        /// The first that may be.
        low: u32,
        /// The last that may be.
        high: u32,
    },
    /// A range that ends before it begins.
    #[error("{field}: the range '{text}' ends before it begins; write it as two, with a comma between them")]
    Backwards {
        /// Which field.
        field: &'static str,
        /// What is there.
        text: String,
    },
    /// A step that is no number from 1.
    #[error("{field}: the step of '{text}' is not a number from 1 to {high}")]
    Step {
        /// Which field.
        field: &'static str,
        /// What is there.
        text: String,
        /// The last that may be.
        high: u32,
    },
    /// Such as 31 April.
    #[error("never comes: no such month has such a day")]
    Never,
}

/// A time that comes again.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// Minutes of a day, in order.
    minutes: Vec<u32>,
    days: Field,
    months: Field,
    weekdays: Field,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Field {
    values: u64,
    /// All of them, by `*`.
    free: bool,
}

impl Field {
    fn has(self, value: u32) -> bool {
        self.values >> value & 1 == 1
    }
}

/// What a field may have.
struct Kind {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

impl Kind {
    fn read(&self, text: &str) -> Result<Field, CronError> {
        let mut field = Field { values: 0, free: false };
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                Some((range, step)) => (range, Some(self.step(item, step)?)),
                None => (item, None),
            };
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (self.low, self.high),
                Some((from, to)) => (self.value(from)?, self.value(to)?),
                // `30/5` goes on to the last there is.
                None => (self.value(range)?, if step.is_some() { self.high } else { self.value(range)? }),
            };
            // A week that ends on Sunday.
            let to = if self.high == 7 && to == 0 && from > 0 { 7 } else { to };
            if from > to {
                return Err(CronError::Backwards { field: self.name, text: item.into() });
            }
            field.free |= range == "*" && step.is_none_or(|step| step == 1);
            for value in (from..=to).step_by(step.unwrap_or(1) as usize) {
                // Sunday is 0 and 7.
                field.values |= 1 << if self.high == 7 { value % 7 } else { value };
            }
        }
        Ok(field)
    }

    fn value(&self, text: &str) -> Result<u32, CronError> {
        let named = self.names.iter().zip(self.low..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let value = named.map(|(_, value)| value).or_else(|| number(text));
        value.filter(|value| (self.low..=self.high).contains(value)).ok_or_else(|| CronError::Value {
            field: self.name,
            text: text.into(),
            low: self.low,
            high: self.high,
        })
    }

    fn step(&self, item: &str, text: &str) -> Result<u32, CronError> {
        number(text).filter(|step| (1..=self.high).contains(step)).ok_or_else(|| CronError::Step {
            field: self.name,
            text: item.into(),
            high: self.high,
        })
    }
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Cron, CronError> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(CronError::Fields(fields.len()));
        };
        let minute = Kind { name: "minute", low: 0, high: 59, names: &[] }.read(minute)?;
        let hour = Kind { name: "hour", low: 0, high: 23, names: &[] }.read(hour)?;
        let days = Kind { name: "day of month", low: 1, high: 31, names: &[] }.read(day)?;
        let months = Kind { name: "month", low: 1, high: 12, names: &MONTHS }.read(month)?;
        let weekdays = Kind { name: "day of week", low: 0, high: 7, names: &DAYS }.read(weekday)?;
        let minutes =
            (0..24 * 60).filter(|at| hour.has(at / 60) && minute.has(at % 60)).collect::<Vec<u32>>();
        let cron = Cron { text: fields.join(" "), minutes, days, months, weekdays };
        if weekdays.free && !days.free {
            let length = |month| match month {
                2 => 29,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let comes = |month| months.has(month) && (1..=length(month)).any(|day| days.has(day));
            if !(1..=12).any(comes) {
                return Err(CronError::Never);
            }
        }
        Ok(cron)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Cron({})", self.text)
    }
}

impl Cron {
    /// The last time that it came, `now` included.
    pub fn last(&self, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        // A clock that was put back over midnight has shown times of tomorrow.
        let mut date = zone.to_datetime(now).date().tomorrow().ok()?;
        let until = date.checked_sub(Span::new().years(YEARS)).ok()?;
        while date >= until {
            if !self.in_month(date) {
                date = date.first_of_month().yesterday().ok()?;
                continue;
            }
            if self.on(date) {
                let passed = self.passed(zone, date, now);
                if let Some(at) = passed.checked_sub(1).and_then(|index| self.at(zone, date, index)) {
                    return Some(at);
                }
            }
            date = date.yesterday().ok()?;
        }
        None
    }

    /// The next time that it comes, after `now`.
    pub fn next(&self, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        let mut date = zone.to_datetime(now).date();
        let until = date.checked_add(Span::new().years(YEARS)).ok()?;
        while date <= until {
            if !self.in_month(date) {
                date = date.last_of_month().tomorrow().ok()?;
                continue;
            }
            if self.on(date)
                && let Some(at) = self.at(zone, date, self.passed(zone, date, now))
            {
                return Some(at);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn in_month(&self, date: Date) -> bool {
        self.months.has(date.month().unsigned_abs().into())
    }

    fn on(&self, date: Date) -> bool {
        let day = self.days.has(date.day().unsigned_abs().into());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset().unsigned_abs().into());
        if self.days.free || self.weekdays.free { day && weekday } else { day || weekday }
    }

    /// How many of that day's times are not after `now`: what a clock shows first comes first, so they are in order.
    fn passed(&self, zone: &TimeZone, date: Date, now: Timestamp) -> usize {
        let minutes = &self.minutes;
        minutes.partition_point(|minute| instant(zone, date, *minute).is_some_and(|at| at <= now))
    }

    fn at(&self, zone: &TimeZone, date: Date, index: usize) -> Option<Timestamp> {
        instant(zone, date, *self.minutes.get(index)?)
    }
}

/// When a clock first shows that minute of the day, or jumps over it.
fn instant(zone: &TimeZone, date: Date, minute: u32) -> Option<Timestamp> {
    let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
    let shown = zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
    if let AmbiguousOffset::Gap { before, .. } = shown.offset() {
        let after = before.to_timestamp(shown.datetime()).ok()?.checked_add(Span::new().seconds(1)).ok()?;
        return zone.preceding(after).next().map(|jump| jump.timestamp());
    }
    shown.earlier().ok()
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;
