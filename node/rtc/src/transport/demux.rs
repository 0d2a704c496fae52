//! Whose a remote address is: a session of this loop, or of another loop.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::SessionId;

/// Addresses of sessions of other loops that are remembered; the oldest are forgotten, and told again with what their peers
/// send next.
const FOREIGN: usize = 4096;
/// An address is not another session's so long after its owner's peer was heard from there.
const KEPT: Duration = Duration::from_secs(3);
/// The loop that datagrams come to is told again of whose they are, and of what was heard, after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A session of this loop.
    Here(SessionId),
    /// A session of that loop.
    There(usize),
}

/// What the loop of a session tells the one to which the datagrams of its peer come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The address is its own. When its peer was heard from there, by more than binding requests.
    Held(Option<Instant>),
    /// It is not any more.
    Released,
}

/// Remote addresses of UDP. Only a session's peer puts an address here, by answering it: what anybody sends does not, whichever
/// loop it comes to.
#[derive(Default)]
pub(super) struct Addresses {
    here: HashMap<SocketAddr, Here>,
    there: HashMap<SocketAddr, There>,
    // In the order in which they came; some may be gone from `there`.
    order: VecDeque<SocketAddr>,
    // The loop that handed over what is being dealt with, and where that came from.
    handed: Option<(SocketAddr, usize)>,
    news: Vec<(usize, SocketAddr, News)>,
}

struct Here {
    session: SessionId,
    // When its peer was heard from there, by more than binding requests.
    heard: Option<Instant>,
    // The other loop to which its datagrams come, and when that was told.
    by: Option<(usize, Instant)>,
}

struct There {
    shard: usize,
    heard: Option<Instant>,
}

/// Whether a peer was heard of late, so that its address stays where it is.
fn is_kept(heard: Option<Instant>, now: Instant) -> bool {
    heard.is_some_and(|heard| now.saturating_duration_since(heard) < KEPT)
}

impl Addresses {
    /// Whose it is.
    pub(super) fn owner(&self, address: &SocketAddr) -> Option<Owner> {
        if let Some(here) = self.here.get(address) {
            return Some(Owner::Here(here.session));
        }
        if self.there.is_empty() {
            return None;
        }
        self.there.get(address).map(|there| Owner::There(there.shard))
    }

    /// A session of this loop answers to that address from now on; not while the peer of another one is heard from there, for
    /// anybody can send a binding request of his own session in another's name.
    pub(super) fn claim(&mut self, address: SocketAddr, id: SessionId, now: Instant) {
        let here = self.here.get(&address);
        if here.is_some_and(|here| here.session == id || is_kept(here.heard, now))
            || self.there.get(&address).is_some_and(|there| is_kept(there.heard, now))
        {
            return;
        }
        self.there.remove(&address);
        // Where its datagrams come to does not change with the session.
        let by = here.and_then(|here| here.by);
        self.here.insert(address, Here { session: id, heard: None, by });
        self.came_by_another(now);
    }

    /// Something that only the peer of that session can have sent came from there.
    pub(super) fn heard(&mut self, address: &SocketAddr, id: SessionId, now: Instant) {
        if let Some(here) = self.here.get_mut(address)
            && here.session == id
        {
            here.heard = Some(now);
        }
    }

    /// A session of this loop does not use that address any more, if it was its own still.
    pub(super) fn release(&mut self, address: &SocketAddr, id: SessionId) {
        if self.here.get(address).is_some_and(|here| here.session == id)
            && let Some(here) = self.here.remove(address)
        {
            self.tell_released(*address, here.by);
        }
    }

    /// What comes now is from there, and handed over by that loop (`None`: it came here). That loop is told whose such
    /// datagrams are, as soon as they are somebody's, though not at each of them.
    pub(super) fn handed_by(&mut self, handed: Option<(SocketAddr, usize)>, now: Instant) {
        self.handed = handed;
        self.came_by_another(now);
    }

    fn came_by_another(&mut self, now: Instant) {
        let Some((address, shard)) = self.handed else { return };
        let Some(here) = self.here.get_mut(&address) else { return };
        if let Some((by, told)) = here.by
            && by == shard
            && now.saturating_duration_since(told) < AGAIN
        {
            return;
        }
        here.by = Some((shard, now));
        self.news.push((shard, address, News::Held(here.heard)));
    }

    fn tell_released(&mut self, address: SocketAddr, by: Option<(usize, Instant)>) {
        if let Some((shard, _)) = by {
            self.news.push((shard, address, News::Released));
        }
    }

    /// What other loops are to be told: which, of which address, what.
    pub(super) fn news(&mut self) -> impl Iterator<Item = (usize, SocketAddr, News)> + use<'_> {
        self.news.drain(..)
    }

    /// That loop tells of an address from which datagrams come to this one.
    pub(super) fn told(&mut self, address: SocketAddr, shard: usize, news: News, now: Instant) {
        let before = self.there.get(&address);
        let theirs = before.is_some_and(|there| there.shard == shard);
        match news {
            News::Released if theirs => {
                self.there.remove(&address);
            }
            News::Released => {}
            News::Held(heard) => {
                let kept = before.is_some_and(|there| !theirs && is_kept(there.heard, now));
                if kept || self.here.get(&address).is_some_and(|here| is_kept(here.heard, now)) {
                    return;
                }
                if let Some(here) = self.here.remove(&address) {
                    self.tell_released(address, here.by);
                }
                self.remember(address, There { shard, heard });
            }
        }
    }

    fn remember(&mut self, address: SocketAddr, there: There) {
        if self.there.insert(address, there).is_some() {
            return;
        }
        self.order.push_back(address);
        while self.order.len() > FOREIGN {
            if let Some(oldest) = self.order.pop_front() {
                self.there.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 1000 + (n >> 16) as u16))
    }

    #[test]
    fn an_address_has_one_owner() {
        let mut addresses = Addresses::default();
        let now = Instant::now();
        assert_eq!(addresses.owner(&address(1)), None);
        addresses.told(address(1), 3, News::Held(None), now);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::There(3)));
        addresses.claim(address(1), SessionId(7), now);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::Here(SessionId(7))));
        addresses.claim(address(1), SessionId(8), now);
        addresses.release(&address(1), SessionId(7));
        assert_eq!(addresses.owner(&address(1)), Some(Owner::Here(SessionId(8))));
        addresses.told(address(1), 3, News::Held(None), now);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::There(3)), "its client calls another session");
        addresses.told(address(1), 2, News::Released, now);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::There(3)));
        addresses.told(address(1), 3, News::Released, now);
        assert_eq!(addresses.owner(&address(1)), None);
    }

    #[test]
    fn an_address_stays_with_the_session_whose_peer_is_heard_from_there() {
        let mut addresses = Addresses::default();
        let (start, victim, thief) = (Instant::now(), SessionId(1), SessionId(2));
        let soon = start + Duration::from_millis(2900);
        addresses.claim(address(1), victim, start);
        addresses.heard(&address(1), thief, start);
        addresses.heard(&address(1), victim, start);
        addresses.claim(address(1), victim, start);
        addresses.claim(address(1), thief, soon);
        addresses.told(address(1), 3, News::Held(Some(soon)), soon);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::Here(victim)));
        addresses.claim(address(1), thief, start + KEPT);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::Here(thief)), "it is used for the next session");
    }

    #[test]
    fn so_it_does_when_that_session_is_in_another_loop() {
        let mut addresses = Addresses::default();
        let start = Instant::now();
        let soon = start + Duration::from_millis(2900);
        addresses.told(address(1), 3, News::Held(Some(start)), start);
        addresses.told(address(1), 2, News::Held(None), soon);
        addresses.claim(address(1), SessionId(1), soon);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::There(3)));
        addresses.told(address(1), 3, News::Held(Some(soon)), soon);
        addresses.told(address(1), 2, News::Held(None), start + KEPT);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::There(3)), "it is heard still");
        addresses.told(address(1), 2, News::Held(None), soon + KEPT);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::There(2)));
    }

    #[test]
    fn the_loop_that_hands_over_is_told_whose_an_address_is() {
        let mut addresses = Addresses::default();
        let (start, id) = (Instant::now(), SessionId(1));
        let at = |ms| start + Duration::from_millis(ms);
        addresses.handed_by(Some((address(1), 3)), start);
        assert_eq!(addresses.news().count(), 0, "nobody has answered to it");
        addresses.claim(address(1), id, start);
        addresses.heard(&address(1), id, at(10));
        addresses.handed_by(Some((address(1), 3)), at(900));
        assert_eq!(addresses.news().collect::<Vec<_>>(), [(3, address(1), News::Held(None))]);
        addresses.handed_by(Some((address(1), 3)), at(1000));
        addresses.handed_by(Some((address(1), 2)), at(1001));
        let told = [(3, address(1), News::Held(Some(at(10)))), (2, address(1), News::Held(Some(at(10))))];
        assert_eq!(addresses.news().collect::<Vec<_>>(), told);
        addresses.handed_by(None, at(9000));
        addresses.release(&address(1), id);
        assert_eq!(addresses.news().collect::<Vec<_>>(), [(2, address(1), News::Released)]);
    }

    #[test]
    fn foreign_addresses_are_bounded() {
        let mut addresses = Addresses::default();
        let now = Instant::now();
        for n in 0..3 * FOREIGN {
            addresses.told(address(n), 1, News::Held(None), now);
            addresses.told(address(n), 2, News::Held(None), now);
        }
        assert_eq!((addresses.there.len(), addresses.order.len()), (FOREIGN, FOREIGN));
        assert_eq!(addresses.owner(&address(0)), None);
        assert_eq!(addresses.owner(&address(3 * FOREIGN - 1)), Some(Owner::There(2)));
    }
}
