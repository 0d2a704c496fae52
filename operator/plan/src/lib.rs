//! Which pods of a pool to add, drain, take back and remove, and how many there are at least: pure, from what is wanted, what is seen, and
//! the time.

mod cron;
#[cfg(test)]
mod fixtures;
mod floor;
mod leave;
mod out;
mod plan;
#[cfg(test)]
mod properties;
mod rollout;
mod schedule;
mod sides;
mod victims;
#[cfg(test)]
mod world;

pub use cron::{Cron, CronError};
pub use floor::{Because, Floor, Floors, History, Load, Spare};
pub use plan::*;
pub use schedule::{Schedule, ScheduleError};
