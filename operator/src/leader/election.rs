//! The decision, without a clock and without a network.

use std::time::Duration;

use tokio::time::Instant;

/// The times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Who was not seen to renew for this long has lost the lease.
    pub duration: Duration,
    /// The holder gives up when it could not renew for this long.
    pub deadline: Duration,
    /// How often the lease is looked at.
    pub retry: Duration,
}

/// What stands in the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; nobody when it was given up.
    pub holder: Option<String>,
    /// Changes with each write.
    pub version: String,
    /// For how long it holds without a renewal, by its holder.
    pub duration: Option<Duration>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write the lease, on condition that it is as it was seen.
    Write,
    /// Look again later.
    Wait,
}

/// One who wants the lease, or holds it.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    times: Times,
    /// What was seen last, and since when it has not changed.
    seen: Option<(Option<Record>, Instant)>,
    /// When the last write was begun that was taken.
    renewed: Option<Instant>,
}

impl Election {
    /// Nothing seen yet.
    pub fn new(identity: String, times: Times) -> Election {
        Election { identity, times, seen: None, renewed: None }
    }

    /// Who this is.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Its times.
    pub fn times(&self) -> Times {
        self.times
    }

    /// The lease was looked at; `None` when there is none.
    pub fn seen(&mut self, record: Option<Record>, now: Instant) -> Step {
        let since = match &self.seen {
            Some((before, since)) if *before == record => *since,
            _ => now,
        };
        let holder = record.as_ref().and_then(|record| record.holder.clone());
        let duration = record.as_ref().and_then(|record| record.duration).unwrap_or(self.times.duration);
        self.seen = Some((record, since));
        match holder {
            Some(holder) if holder == self.identity => Step::Write,
            // Given up, or never held.
            None => Step::Write,
            Some(_) => {
                // Held by another: what was ours is lost at once.
                self.renewed = None;
                // Its own clock starts with each change that we see, so we wait the whole of it.
                if now.duration_since(since) >= duration.max(self.times.duration) {
                    Step::Write
                } else {
                    Step::Wait
                }
            }
        }
    }

    /// A write was taken that was begun at this time.
    pub fn wrote(&mut self, begun: Instant) {
        self.renewed = Some(begun);
    }

    /// Whether it holds the lease.
    pub fn holds(&self, now: Instant) -> bool {
        !self.left(now).is_zero()
    }

    /// How long it holds the lease without another renewal.
    pub fn left(&self, now: Instant) -> Duration {
        self.renewed.map_or(Duration::ZERO, |at| (at + self.times.deadline).saturating_duration_since(now))
    }

    /// For how long it was not renewed.
    pub fn silence(&self, now: Instant) -> Duration {
        self.renewed.map_or(Duration::ZERO, |at| now.duration_since(at))
    }

    /// Who else holds it, as far as was seen.
    pub fn other_holder(&self) -> Option<&str> {
        let (record, _) = self.seen.as_ref()?;
        record.as_ref()?.holder.as_deref().filter(|holder| *holder != self.identity)
    }

    /// How long to wait for the next look; `spread` is random, of `0.0..1.0`. Those who wait for the lease do not look at the
    /// same time.
    pub fn pause(&self, spread: f64) -> Duration {
        match self.renewed {
            Some(_) => self.times.retry,
            None => self.times.retry.mul_f64(1.0 + spread.clamp(0.0, 1.0) / 2.0),
        }
    }
}
