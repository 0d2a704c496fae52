//! The queue without a clock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use super::{Next, RETRY};

/// After a failure, a change brings the next try forward, but not nearer than this.
const BRAKE: Duration = Duration::from_secs(1);

/// When each key is due. One that is worked on is not due before that is over.
pub(super) struct State<K> {
    /// Keys in the order in which they are due; the number keeps those of one instant in the order in which they came.
    due: BTreeMap<(Instant, u64), K>,
    place: HashMap<K, (Instant, u64)>,
    running: HashSet<K>,
    /// What came in for those meanwhile.
    again: HashMap<K, Instant>,
    failures: HashMap<K, Failures>,
    came: u64,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    not_before: Instant,
}

impl<K> Default for State<K> {
    fn default() -> Self {
        State {
            due: BTreeMap::new(),
            place: HashMap::new(),
            running: HashSet::new(),
            again: HashMap::new(),
            failures: HashMap::new(),
            came: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Whether the key is due sooner now than it was.
    pub(super) fn trigger(&mut self, key: K, now: Instant, within: Duration) -> bool {
        let brake = self.failures.get(&key).map(|failures| failures.not_before);
        let at = (now + within).max(brake.unwrap_or(now));
        self.schedule(key, at)
    }

    fn schedule(&mut self, key: K, at: Instant) -> bool {
        if self.running.contains(&key) {
            let again = self.again.entry(key).or_insert(at);
            *again = (*again).min(at);
            return false;
        }
        match self.place.get(&key) {
            Some((due, _)) if *due <= at => false,
            old => {
                if let Some(old) = old {
                    self.due.remove(old);
                }
                self.came += 1;
                let place = (at, self.came);
                self.due.insert(place, key.clone());
                self.place.insert(key, place);
                true
            }
        }
    }

    /// The next key that is due; it runs from now on.
    pub(super) fn take(&mut self, now: Instant) -> Option<K> {
        let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
        let key = entry.remove();
        self.place.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// When the next key is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn waiting(&self) -> usize {
        self.due.len()
    }

    pub(super) fn succeeded(&mut self, key: K, next: Next, now: Instant) {
        self.failures.remove(&key);
        let again = self.ended(&key);
        let after = match next {
            Next::Change => None,
            Next::After(wait) => Some(now + wait),
        };
        if let Some(at) = again.into_iter().chain(after).min() {
            self.schedule(key, at);
        }
    }

    /// The wait until the next try.
    pub(super) fn failed(&mut self, key: K, now: Instant, spread: f64) -> Duration {
        let count = self.failures.get(&key).map_or(0, |failures| failures.count).saturating_add(1);
        let wait = RETRY.after(count, spread);
        let not_before = now + wait.min(BRAKE);
        self.failures.insert(key.clone(), Failures { count, not_before });
        let again = self.ended(&key).map(|at| at.max(not_before));
        let at = again.map_or(now + wait, |again| again.min(now + wait));
        self.schedule(key, at);
        at.saturating_duration_since(now)
    }

    fn ended(&mut self, key: &K) -> Option<Instant> {
        self.running.remove(key);
        self.again.remove(key)
    }
}
