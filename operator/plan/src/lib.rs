//! Which pods of a pool to add, drain, take back and remove, and how many there are at least: pure, from what is wanted, what is seen, and
//! the time.

mod cron;
mod floor;
mod plan;
mod schedule;

pub use cron::{Cron, CronError};
pub use floor::{Because, Floor, Floors, History, Load, Spare};
pub use plan::*;
pub use schedule::{Schedule, ScheduleError};
