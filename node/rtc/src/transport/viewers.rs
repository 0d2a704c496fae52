//! Which sessions of one loop play which feed.

use std::collections::HashMap;
use std::sync::Arc;

use super::SessionId;
use super::bell::{Bell, FeedBell};
use crate::egress::{Feed, FeedId, Wake};

struct Watched {
    sessions: Vec<SessionId>,
    // The feed wakes this loop for as long as this lives.
    _wake: Arc<dyn Wake>,
}

/// Sessions by feed.
pub(super) struct Viewers {
    bell: Arc<Bell>,
    by_feed: HashMap<FeedId, Watched>,
}

impl Viewers {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Viewers { bell, by_feed: HashMap::new() }
    }

    /// A session plays `feeds` from now on, no longer those `before`. What it plays, to be given back the next time.
    pub(super) fn set(&mut self, id: SessionId, before: &[FeedId], feeds: &[Arc<Feed>]) -> Vec<FeedId> {
        let mut plays = Vec::with_capacity(feeds.len());
        for feed in feeds {
            if plays.contains(&feed.id()) {
                continue;
            }
            plays.push(feed.id());
            self.add(id, feed.id(), |wake| feed.watch(wake));
        }
        for gone in before.iter().filter(|feed| !plays.contains(feed)) {
            self.remove(id, *gone);
        }
        plays
    }

    fn add(&mut self, id: SessionId, feed: FeedId, watch: impl FnOnce(&Arc<dyn Wake>)) {
        let watched = self.by_feed.entry(feed).or_insert_with(|| {
            let wake: Arc<dyn Wake> = Arc::new(FeedBell(self.bell.clone()));
            watch(&wake);
            Watched { sessions: Vec::new(), _wake: wake }
        });
        if !watched.sessions.contains(&id) {
            watched.sessions.push(id);
        }
    }

    fn remove(&mut self, id: SessionId, feed: FeedId) {
        let Some(watched) = self.by_feed.get_mut(&feed) else { return };
        watched.sessions.retain(|session| *session != id);
        if watched.sessions.is_empty() {
            self.by_feed.remove(&feed);
        }
    }

    /// Calls `f` for each session that plays a feed.
    pub(super) fn each(&self, feed: FeedId, mut f: impl FnMut(SessionId)) {
        if let Some(watched) = self.by_feed.get(&feed) {
            watched.sessions.iter().for_each(|id| f(*id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::transport::bell::Rung;

    #[test]
    fn a_feed_is_watched_once_and_for_as_long_as_it_is_played() {
        let bell = Arc::new(Bell::default());
        let mut viewers = Viewers::new(bell.clone());
        let watches = RefCell::new(Vec::new());
        for id in [1, 2, 1] {
            viewers.add(SessionId(id), FeedId(9), |wake| watches.borrow_mut().push(Arc::downgrade(wake)));
        }
        let played = |viewers: &Viewers| {
            let mut ids = Vec::new();
            viewers.each(FeedId(9), |id| ids.push(id.0));
            ids
        };
        assert_eq!(played(&viewers), [1, 2]);
        assert_eq!(watches.borrow().len(), 1);
        let wake = watches.borrow()[0].upgrade().unwrap();
        wake.wake(FeedId(9));
        drop(wake);
        let mut rung = Rung::default();
        bell.take(&mut rung);
        assert!(rung.feeds.contains(&FeedId(9)));

        assert!(viewers.set(SessionId(1), &[FeedId(9)], &[]).is_empty());
        assert_eq!(played(&viewers), [2]);
        viewers.set(SessionId(2), &[FeedId(9)], &[]);
        assert!(played(&viewers).is_empty());
        assert!(watches.borrow()[0].upgrade().is_none(), "the feed does not wake this loop any more");
    }
}
