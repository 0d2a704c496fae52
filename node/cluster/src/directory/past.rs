//! The epochs of streams that nobody has any more, bounded in time and number; the least recently used go first.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use sluice_media::StreamKey;
use sluice_store::Numbers;

/// The highest epoch of a stream, and what its owner told last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) epoch: u64,
    pub(super) told: Option<(u64, Numbers)>,
}

impl Seen {
    /// What the owner in the highest epoch told, if it was that one.
    pub(super) fn newest(&self) -> Option<Numbers> {
        self.told.filter(|(epoch, _)| *epoch == self.epoch).map(|(_, numbers)| numbers)
    }

    /// Takes over what is higher; says whether the epoch is.
    pub(super) fn merge(&mut self, other: Seen) -> bool {
        if let Some(told) = other.told
            && self.told.is_none_or(|known| told.0 >= known.0)
        {
            self.told = Some(told);
        }
        let higher = other.epoch > self.epoch;
        self.epoch = self.epoch.max(other.epoch);
        higher
    }
}

#[derive(Debug)]
pub(super) struct Past {
    keep: Duration,
    most: usize,
    seen: HashMap<StreamKey, (Seen, u64)>,
    // Oldest first; an entry that was put again later, or taken, is passed over.
    order: VecDeque<(u64, Instant, StreamKey)>,
    next: u64,
}

impl Past {
    pub(super) fn new(keep: Duration, most: usize) -> Self {
        Past { keep, most, seen: HashMap::new(), order: VecDeque::new(), next: 0 }
    }

    pub(super) fn get(&self, key: &StreamKey) -> Option<Seen> {
        self.seen.get(key).map(|(seen, _)| *seen)
    }

    pub(super) fn take(&mut self, key: &StreamKey) -> Option<Seen> {
        self.seen.remove(key).map(|(seen, _)| seen)
    }

    pub(super) fn put(&mut self, key: StreamKey, seen: Seen, now: Instant) {
        self.next += 1;
        let (known, at) = self.seen.entry(key.clone()).or_default();
        known.merge(seen);
        *at = self.next;
        self.order.push_back((self.next, now, key));
        self.trim(now);
    }

    pub(super) fn trim(&mut self, now: Instant) {
        while let Some((number, at, key)) = self.order.front() {
            let current = self.seen.get(key).is_some_and(|(_, n)| n == number);
            if current {
                if self.seen.len() <= self.most && now.saturating_duration_since(*at) < self.keep {
                    break;
                }
                self.seen.remove(key);
            }
            self.order.pop_front();
        }
        // A stream that comes and goes leaves many entries behind one that stays.
        if self.order.len() > 2 * self.seen.len() + 64 {
            let seen = &self.seen;
            self.order.retain(|(number, _, key)| seen.get(key).is_some_and(|(_, n)| n == number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: usize) -> StreamKey {
        StreamKey::new("live", id.to_string())
    }

    fn seen(epoch: u64) -> Seen {
        Seen { epoch, told: None }
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let now = Instant::now();
        let mut past = Past::new(Duration::from_secs(100), 3);
        for id in 0..3 {
            past.put(key(id), seen(id as u64 + 1), now);
        }
        past.put(key(0), seen(9), now);
        past.put(key(3), seen(4), now);
        assert_eq!(past.get(&key(0)), Some(seen(9)));
        assert_eq!(past.get(&key(1)), None);
        assert_eq!(past.get(&key(2)), Some(seen(3)));
    }

    #[test]
    fn they_are_kept_for_a_time_and_epochs_never_sink() {
        let now = Instant::now();
        let mut past = Past::new(Duration::from_secs(100), 3);
        past.put(key(0), seen(9), now);
        past.put(key(0), seen(2), now + Duration::from_secs(50));
        past.trim(now + Duration::from_secs(149));
        assert_eq!(past.get(&key(0)), Some(seen(9)));
        past.trim(now + Duration::from_secs(150));
        assert_eq!(past.get(&key(0)), None);
    }

    #[test]
    fn a_stream_that_comes_and_goes_takes_no_more_room() {
        let now = Instant::now();
        let mut past = Past::new(Duration::from_secs(100), 1000);
        past.put(key(0), seen(1), now);
        for epoch in 0..10_000 {
            past.put(key(1), seen(epoch), now);
            assert_eq!(past.take(&key(1)), Some(seen(epoch)));
        }
        assert!(past.order.len() < 100, "{}", past.order.len());
        assert_eq!(past.get(&key(0)), Some(seen(1)));
    }
}
