//! All sessions of the node by user fragment: which wait for their first binding request, and which loop has the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::SessionId;
use super::session::Waiting;

/// A session without a binding request is given up after this.
pub(super) const PENDING: Duration = Duration::from_secs(30);

enum Place {
    Pending(Box<Waiting>, Instant),
    Shard(usize),
}

struct Entry {
    place: Place,
    ufrags: Vec<String>,
}

#[derive(Default)]
struct Inner {
    by_ufrag: HashMap<String, SessionId>,
    sessions: HashMap<SessionId, Entry>,
    closed: bool,
}

/// Whose a user fragment is.
pub(super) enum Found {
    /// Nobody's.
    Nobody,
    /// A session's that has waited until now; it is the asking loop's from now on.
    Adopted(Box<Waiting>),
    /// That session's, in that loop.
    In(SessionId, usize),
}

/// The sessions. Locked for short lookups only, and never for a packet of an address that is known.
#[derive(Default)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
    /// Publishers and viewers.
    counts: [Arc<AtomicUsize>; 2],
}

/// Counts a session for as long as it lives.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Registry {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more publisher or viewer.
    pub(super) fn counted(&self, publisher: bool) -> Counted {
        let counter = &self.counts[usize::from(!publisher)];
        counter.fetch_add(1, Relaxed);
        Counted(counter.clone())
    }

    /// Publishers and viewers now.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.counts[0].load(Relaxed), self.counts[1].load(Relaxed))
    }

    /// Whether a user fragment is in use.
    pub(super) fn knows(&self, ufrag: &str) -> bool {
        self.inner().by_ufrag.contains_key(ufrag)
    }

    /// Adds a session that waits; gives it back when there are `most` already, none are taken any more, or its user fragment is another's.
    pub(super) fn add(&self, waiting: Box<Waiting>, most: usize, now: Instant) -> Result<(), Box<Waiting>> {
        let mut inner = self.inner();
        let (id, ufrag) = (waiting.id, waiting.ufrag().to_owned());
        if inner.closed || inner.sessions.len() >= most || inner.by_ufrag.contains_key(&ufrag) {
            return Err(waiting);
        }
        inner.by_ufrag.insert(ufrag.clone(), id);
        inner.sessions.insert(id, Entry { place: Place::Pending(waiting, now), ufrags: vec![ufrag] });
        Ok(())
    }

    /// A session has another user fragment from now on, besides those it had.
    pub(super) fn rename(&self, id: SessionId, ufrag: &str) {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let Some(entry) = inner.sessions.get_mut(&id) else { return };
        if inner.by_ufrag.contains_key(ufrag) {
            return;
        }
        entry.ufrags.push(ufrag.to_owned());
        inner.by_ufrag.insert(ufrag.to_owned(), id);
        // After two restarts nobody uses the first one any more.
        if entry.ufrags.len() > 2 {
            let oldest = entry.ufrags.remove(0);
            inner.by_ufrag.remove(&oldest);
        }
    }

    /// Whose that user fragment is. A session that waits goes to the loop that asks.
    pub(super) fn find(&self, ufrag: &str, shard: usize) -> Found {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let Some(id) = inner.by_ufrag.get(ufrag) else { return Found::Nobody };
        let Some(entry) = inner.sessions.get_mut(id) else { return Found::Nobody };
        if let Place::Shard(shard) = entry.place {
            return Found::In(*id, shard);
        }
        match std::mem::replace(&mut entry.place, Place::Shard(shard)) {
            Place::Pending(waiting, _) => Found::Adopted(waiting),
            Place::Shard(shard) => Found::In(*id, shard),
        }
    }

    /// The loop of the session with that user fragment: `Some(None)` while it waits.
    pub(super) fn shard_of(&self, ufrag: &str) -> Option<Option<usize>> {
        let inner = self.inner();
        let entry = inner.sessions.get(inner.by_ufrag.get(ufrag)?)?;
        match entry.place {
            Place::Pending(..) => Some(None),
            Place::Shard(shard) => Some(Some(shard)),
        }
    }

    /// Takes a session out if it still waits.
    pub(super) fn take_pending(&self, id: SessionId) -> Option<Box<Waiting>> {
        let mut inner = self.inner();
        if !matches!(inner.sessions.get(&id)?.place, Place::Pending(..)) {
            return None;
        }
        match inner.take(id)?.place {
            Place::Pending(waiting, _) => Some(waiting),
            Place::Shard(_) => None,
        }
    }

    /// Takes out all that have waited too long.
    pub(super) fn expired(&self, now: Instant) -> Vec<Waiting> {
        self.take_all(|since| now.saturating_duration_since(since) >= PENDING)
    }

    /// Takes no more, and takes out all that wait.
    pub(super) fn close(&self) -> Vec<Waiting> {
        self.inner().closed = true;
        self.take_all(|_| true)
    }

    fn take_all(&self, which: impl Fn(Instant) -> bool) -> Vec<Waiting> {
        let mut inner = self.inner();
        let waits = |entry: &Entry| matches!(&entry.place, Place::Pending(_, since) if which(*since));
        let ids: Vec<SessionId> =
            inner.sessions.iter().filter(|(_, entry)| waits(entry)).map(|(id, _)| *id).collect();
        let entries = ids.into_iter().filter_map(|id| inner.take(id));
        entries
            .filter_map(|entry| match entry.place {
                Place::Pending(waiting, _) => Some(*waiting),
                Place::Shard(_) => None,
            })
            .collect()
    }

    /// A session is over.
    pub(super) fn remove(&self, id: SessionId) {
        self.inner().take(id);
    }
}

impl Inner {
    fn take(&mut self, id: SessionId) -> Option<Entry> {
        let entry = self.sessions.remove(&id)?;
        for ufrag in &entry.ufrags {
            self.by_ufrag.remove(ufrag);
        }
        Some(entry)
    }
}
