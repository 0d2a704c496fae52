//! Times with more pods: from each start until the next end.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sluice_crds::autoscaling;

use crate::cron::{Cron, CronError};

/// What is wrong with a schedule; the sentence goes after the name of its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// `start` cannot be read.
    #[error("{0}")]
    Start(CronError),
    /// `end` cannot be read.
    #[error("{0}")]
    End(CronError),
    /// `timeZone` is not in the database of time zones.
    #[error("'{0}' is no time zone that is known; write its IANA name, such as Europe/Berlin")]
    TimeZone(String),
}

impl ScheduleError {
    /// The field of the schedule.
    pub fn field(&self) -> &'static str {
        match self {
            ScheduleError::Start(_) => "start",
            ScheduleError::End(_) => "end",
            ScheduleError::TimeZone(_) => "timeZone",
        }
    }
}

/// A time with more pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    start: Cron,
    end: Cron,
    zone: TimeZone,
    /// Pods there are at least meanwhile.
    pub min: u32,
}

impl Schedule {
    /// From the spec.
    pub fn parse(spec: &autoscaling::Schedule) -> Result<Schedule, ScheduleError> {
        let zone = match &spec.time_zone {
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::TimeZone(name.clone()))?,
            None => TimeZone::UTC,
        };
        Ok(Schedule {
            start: spec.start.parse().map_err(ScheduleError::Start)?,
            end: spec.end.parse().map_err(ScheduleError::End)?,
            zone,
            min: spec.min.max(0).unsigned_abs(),
        })
    }

    /// Whether it is on: it started, and has not ended since.
    pub fn active(&self, now: Timestamp) -> bool {
        self.start.last(&self.zone, now) > self.end.last(&self.zone, now)
    }

    /// When it ends next.
    pub fn end(&self, now: Timestamp) -> Option<Timestamp> {
        self.end.next(&self.zone, now)
    }

    /// When to look again: nothing changes before the next start, or the next end while it is on.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        if self.active(now) { self.end(now) } else { self.start.next(&self.zone, now) }
    }
}
