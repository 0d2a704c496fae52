//! How many pods a pool has at least, whatever its autoscaler wants: spare slots, so that a crowd finds pods that run, and schedules.
//!
//! A floor is raised at once, and lowered like a HorizontalPodAutoscaler lowers: to the highest of what was asked for lately.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::schedule::Schedule;

/// What is remembered at most; beyond it, times are joined.
const ENTRIES: usize = 64;

/// The floors of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floors {
    /// Never more pods than this (`autoscaling.max`).
    pub max: u32,
    /// Room for sessions that there is at any time.
    pub spare: Option<Spare>,
    /// For how long spare slots that were asked for are kept: the stabilisation window of the pool's autoscaler when it scales down.
    pub window: Duration,
    /// Times with more pods.
    pub schedules: Vec<Schedule>,
}

/// Room for sessions: streams on origins, viewers on edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// How many more sessions there is room for.
    pub slots: u32,
    /// Sessions that one pod takes.
    pub capacity: u32,
}

/// What a pool does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Sessions on all its pods, those that drain too; `None` while not all of them were heard.
    pub sessions: Option<u32>,
    /// Pods that take new sessions, at most as many as were wanted the last time (`status.desiredReplicas`): the surge of a rollout is none
    /// of them, or each look would add it anew.
    pub running: u32,
}

/// What was asked for lately; one a pool, empty when the operator starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Pods, and when they were last asked for: the oldest first, and each more than those after it.
    asked: VecDeque<(Timestamp, u32)>,
    /// What was asked for at the last look; `None` before the first, and it holds until the next.
    last: Option<u32>,
}

/// How many pods there are at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Pods that take new sessions.
    pub pods: u32,
    /// What asks for them; `None` when nothing does.
    pub because: Option<Because>,
    /// It may change after so long, though nothing else does.
    pub again: Option<Duration>,
}

/// What asks for pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// So many sessions, and room for more.
    SpareSlots {
        /// Sessions there are.
        sessions: u32,
        /// What is asked for.
        spare: Spare,
    },
    /// Fewer would do by now, but not for long.
    Lately {
        /// How many pods spare slots need now.
        needed: u32,
        /// For how long more are kept.
        window: Duration,
    },
    /// How many sessions there are is not known: pods stay.
    Unheard,
    /// The autoscaler does not know what it follows: pods stay.
    Unmeasured,
    /// It is time for more.
    Schedule {
        /// Which of the schedules, from 0.
        index: usize,
        /// When it ends.
        until: Option<Timestamp>,
    },
}

impl fmt::Display for Because {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Because::SpareSlots { sessions, spare: Spare { slots, capacity } } => {
                write!(out, "{sessions} sessions and room for {slots} more, {capacity} a pod")
            }
            Because::Lately { needed, window } => {
                write!(
                    out,
                    "spare slots asked for more in the last {} s; {needed} would do now",
                    window.as_secs()
                )
            }
            Because::Unheard => out.write_str("not all nodes were heard yet, so no pod goes"),
            Because::Unmeasured => out.write_str("the autoscaler does not know the load, so no pod goes"),
            Because::Schedule { index, until: Some(until) } => {
                write!(out, "autoscaling.schedules[{index}] until {until}")
            }
            Because::Schedule { index, until: None } => write!(out, "autoscaling.schedules[{index}]"),
        }
    }
}

impl Spare {
    /// How many pods leave so much room.
    pub fn pods(self, sessions: u32) -> u32 {
        sessions.saturating_add(self.slots).div_ceil(self.capacity.max(1))
    }
}

impl Floors {
    /// How many pods there are at least now.
    pub fn at(&self, now: Timestamp, load: Load, history: &mut History) -> Floor {
        let mut floor = match self.spare {
            Some(spare) => self.spare(spare, now, load, history),
            None => {
                *history = History::default();
                Floor { pods: 0, because: None, again: None }
            }
        };
        for (index, schedule) in self.schedules.iter().enumerate() {
            if schedule.active(now) && schedule.min.min(self.max) > floor.pods {
                floor.pods = schedule.min.min(self.max);
                floor.because = Some(Because::Schedule { index, until: schedule.end(now) });
            }
            let change = schedule.next_change(now).map(|change| until(now, change));
            floor.again = [floor.again, change].into_iter().flatten().min();
        }
        floor
    }

    fn spare(&self, spare: Spare, now: Timestamp, load: Load, history: &mut History) -> Floor {
        history.forget(now, self.window);
        let Some(sessions) = load.sessions else {
            let pods = history.highest().max(load.running).min(self.max);
            return Floor { pods, because: Some(Because::Unheard), again: history.again(now, self.window) };
        };
        if history.asked.is_empty() && !self.window.is_zero() {
            // At first, what runs is kept. Later, what was asked for last was asked for until now: nobody looked since, for nothing changed.
            history.note(now, history.last.unwrap_or(load.running).min(self.max));
        }
        let needed = spare.pods(sessions).min(self.max);
        history.note(now, needed);
        history.last = Some(needed);
        let pods = history.highest().min(self.max);
        let because = if pods > needed {
            Because::Lately { needed, window: self.window }
        } else {
            Because::SpareSlots { sessions, spare }
        };
        Floor { pods, because: Some(because), again: history.again(now, self.window) }
    }
}

impl History {
    fn forget(&mut self, now: Timestamp, window: Duration) {
        for (at, _) in &mut self.asked {
            // A clock that was put back keeps nothing for longer.
            *at = (*at).min(now);
        }
        while self.asked.front().is_some_and(|(at, _)| later(*at, window) <= now) {
            self.asked.pop_front();
        }
    }

    fn note(&mut self, now: Timestamp, pods: u32) {
        while self.asked.back().is_some_and(|(_, before)| *before <= pods) {
            self.asked.pop_back();
        }
        self.asked.push_back((now, pods));
        if self.asked.len() > ENTRIES
            && let (Some((_, most)), Some(second)) = (self.asked.pop_front(), self.asked.front_mut())
        {
            second.1 = most;
        }
    }

    fn highest(&self) -> u32 {
        self.asked.front().map_or(0, |(_, pods)| *pods)
    }

    /// When the highest is forgotten, if that changes anything.
    fn again(&self, now: Timestamp, window: Duration) -> Option<Duration> {
        let (at, _) = self.asked.front().filter(|_| self.asked.len() > 1)?;
        Some(until(now, later(*at, window)))
    }
}

fn later(from: Timestamp, by: Duration) -> Timestamp {
    from.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// At least a moment, so that nobody looks without end.
fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO).max(Duration::from_millis(200))
}

#[cfg(test)]
#[path = "floor_tests.rs"]
mod tests;
