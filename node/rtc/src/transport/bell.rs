//! What wakes a loop from other threads: feeds with new packets, sessions with commands, the end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::SessionId;
use crate::egress::{FeedId, Wake};

/// Woken for these.
#[derive(Default)]
pub(super) struct Rung {
    /// Feeds that have something new, each once.
    pub(super) feeds: HashSet<FeedId>,
    /// Sessions that have commands; a session rings once until it has been looked at.
    pub(super) sessions: Vec<SessionId>,
    /// Everything is to end.
    pub(super) end: bool,
}

/// Wakes one loop. It holds no more than one entry for each feed and session.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    notify: Notify,
}

impl Bell {
    fn ring(&self, change: impl FnOnce(&mut Rung)) {
        change(&mut self.rung.lock().unwrap_or_else(PoisonError::into_inner));
        self.notify.notify_one();
    }

    /// That session has commands.
    pub(super) fn session(&self, id: SessionId) {
        self.ring(|rung| rung.sessions.push(id));
    }

    /// Everything is to end.
    pub(super) fn end(&self) {
        self.ring(|rung| rung.end = true);
    }

    /// Waits until somebody rings, or has rung since the last time.
    pub(super) async fn rung(&self) {
        self.notify.notified().await;
    }

    /// Takes what it was rung for, and leaves the emptied `into` for the next.
    pub(super) fn take(&self, into: &mut Rung) {
        into.feeds.clear();
        into.sessions.clear();
        into.end = false;
        std::mem::swap(into, &mut self.rung.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Rings for a feed for as long as it lives: one for each loop and feed.
pub(super) struct FeedBell(pub(super) Arc<Bell>);

impl Wake for FeedBell {
    fn wake(&self, feed: FeedId) {
        self.0.ring(|rung| {
            rung.feeds.insert(feed);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_feed_rings_once_however_often_it_wakes() {
        let bell = Arc::new(Bell::default());
        let feed = FeedBell(bell.clone());
        for _ in 0..100 {
            feed.wake(FeedId(1));
            feed.wake(FeedId(2));
        }
        bell.session(SessionId(3));
        bell.rung().await;
        let mut rung = Rung::default();
        bell.take(&mut rung);
        assert_eq!((rung.feeds.len(), rung.sessions.as_slice(), rung.end), (2, &[SessionId(3)][..], false));
        bell.end();
        bell.take(&mut rung);
        assert!(rung.end && rung.feeds.is_empty() && rung.sessions.is_empty());
    }
}
