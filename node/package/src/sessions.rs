//! Viewers of one stream, told apart by the session id in their playlist URLs.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

/// Sessions of one stream at most; viewers beyond that are served, but not counted.
const MOST: usize = 100_000;

/// The sessions; each holds a `G`, which counts the viewer for as long as it is kept. Time is given as the
/// duration since any fixed moment.
#[derive(Debug)]
pub(crate) struct Sessions<G> {
    map: RwLock<HashMap<u64, Session<G>>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Session<G> {
    seen: AtomicU64,
    _guard: G,
}

impl<G> Sessions<G> {
    pub(crate) fn new() -> Self {
        Sessions { map: RwLock::default(), hasher: RandomState::new() }
    }

    /// The number of a session id. Ours are 16 hexadecimal digits; whatever else a client sends is hashed.
    pub(crate) fn number(&self, id: &str) -> u64 {
        match u64::from_str_radix(id, 16) {
            Ok(n) if id.len() == 16 => n,
            _ => self.hasher.hash_one(id),
        }
    }

    /// Notes a request of a session; false when it is not known.
    pub(crate) fn touch(&self, session: u64, now: Duration) -> bool {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let known = map.get(&session);
        if let Some(s) = known {
            s.seen.fetch_max(now.as_millis() as u64, Relaxed);
        }
        known.is_some()
    }

    /// Begins a session, unless there are too many.
    pub(crate) fn begin(&self, session: u64, guard: G, now: Duration) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if map.len() < MOST {
            let seen = AtomicU64::new(now.as_millis() as u64);
            map.entry(session).or_insert(Session { seen, _guard: guard });
        }
    }

    /// Ends the sessions that were silent for longer than `silence`; returns how many are left.
    pub(crate) fn expire(&self, now: Duration, silence: Duration) -> usize {
        let oldest = now.saturating_sub(silence).as_millis() as u64;
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        map.retain(|_, s| s.seen.load(Relaxed) >= oldest);
        map.len()
    }

    /// Ends all.
    pub(crate) fn clear(&self) {
        self.map.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_session_lives_while_it_asks() {
        let viewers = Arc::new(());
        let s = Sessions::new();
        let at = Duration::from_secs;
        let id = s.number("00000000000000ff");
        assert_eq!(id, 255);
        assert_ne!(s.number("ff"), 255);
        assert_eq!(s.number("a forged one"), s.number("a forged one"));
        assert!(!s.touch(id, at(0)));
        s.begin(id, viewers.clone(), at(0));
        s.begin(id, viewers.clone(), at(0));
        assert_eq!(Arc::strong_count(&viewers), 2, "counted once");
        assert!(s.touch(id, at(5)));
        assert_eq!(s.expire(at(11), at(6)), 1);
        assert_eq!(s.expire(at(12), at(6)), 0);
        assert_eq!(Arc::strong_count(&viewers), 1);
        assert!(!s.touch(id, at(12)));
    }
}
