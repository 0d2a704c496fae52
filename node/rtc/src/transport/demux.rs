//! Whose a remote address is: a session of this loop, or of another loop.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::SessionId;

/// Addresses of sessions of other loops that are remembered; the oldest are forgotten, and found again by the next
/// binding request.
const FOREIGN: usize = 4096;
/// An address is not another session's so long after its owner's peer was heard from there.
const KEPT: Duration = Duration::from_secs(3);

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A session of this loop.
    Here(SessionId),
    /// A session of that loop.
    There(usize),
}

/// Remote addresses of UDP. Only a session's peer puts an address here, by answering it: what anybody sends does not.
#[derive(Default)]
pub(super) struct Addresses {
    // And when the owner's peer was heard from there, by more than binding requests.
    here: HashMap<SocketAddr, (SessionId, Option<Instant>)>,
    there: HashMap<SocketAddr, usize>,
    // In the order in which they came; some may be gone from `there`.
    order: VecDeque<SocketAddr>,
}

impl Addresses {
    /// Whose it is.
    pub(super) fn owner(&self, address: &SocketAddr) -> Option<Owner> {
        if let Some((id, _)) = self.here.get(address) {
            return Some(Owner::Here(*id));
        }
        if self.there.is_empty() {
            return None;
        }
        self.there.get(address).map(|shard| Owner::There(*shard))
    }

    /// A session of this loop answers to that address from now on; not while the peer of another one is heard from there, for
    /// anybody can send a binding request of his own session in another's name.
    pub(super) fn claim(&mut self, address: SocketAddr, id: SessionId, now: Instant) {
        match self.here.get(&address) {
            Some((owner, _)) if *owner == id => return,
            Some((_, Some(heard))) if now.saturating_duration_since(*heard) < KEPT => return,
            _ => {}
        }
        self.there.remove(&address);
        self.here.insert(address, (id, None));
    }

    /// Something that only the peer of that session can have sent came from there.
    pub(super) fn heard(&mut self, address: &SocketAddr, id: SessionId, now: Instant) {
        if let Some((owner, heard)) = self.here.get_mut(address)
            && *owner == id
        {
            *heard = Some(now);
        }
    }

    /// A session of this loop does not use that address any more, if it was its own still.
    pub(super) fn release(&mut self, address: &SocketAddr, id: SessionId) {
        if self.here.get(address).is_some_and(|(owner, _)| *owner == id) {
            self.here.remove(address);
        }
    }

    /// A binding request from that address was for a session of that loop.
    pub(super) fn foreign(&mut self, address: SocketAddr, shard: usize) {
        if self.here.contains_key(&address) || self.there.insert(address, shard).is_some() {
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
        assert_eq!(addresses.owner(&address(1)), None);
        addresses.foreign(address(1), 3);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::There(3)));
        let now = Instant::now();
        addresses.claim(address(1), SessionId(7), now);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::Here(SessionId(7))));
        addresses.foreign(address(1), 3);
        addresses.claim(address(1), SessionId(8), now);
        addresses.release(&address(1), SessionId(7));
        assert_eq!(addresses.owner(&address(1)), Some(Owner::Here(SessionId(8))));
        addresses.release(&address(1), SessionId(8));
        assert_eq!(addresses.owner(&address(1)), None);
    }

    #[test]
    fn an_address_stays_with_the_session_whose_peer_is_heard_from_there() {
        let mut addresses = Addresses::default();
        let (start, victim, thief) = (Instant::now(), SessionId(1), SessionId(2));
        addresses.claim(address(1), victim, start);
        addresses.heard(&address(1), thief, start);
        addresses.heard(&address(1), victim, start);
        addresses.claim(address(1), victim, start);
        addresses.claim(address(1), thief, start + Duration::from_millis(2900));
        assert_eq!(addresses.owner(&address(1)), Some(Owner::Here(victim)));
        addresses.claim(address(1), thief, start + KEPT);
        assert_eq!(addresses.owner(&address(1)), Some(Owner::Here(thief)), "it is used for the next session");
    }

    #[test]
    fn foreign_addresses_are_bounded() {
        let mut addresses = Addresses::default();
        for n in 0..3 * FOREIGN {
            addresses.foreign(address(n), 1);
            addresses.foreign(address(n), 2);
        }
        assert_eq!((addresses.there.len(), addresses.order.len()), (FOREIGN, FOREIGN));
        assert_eq!(addresses.owner(&address(0)), None);
        assert_eq!(addresses.owner(&address(3 * FOREIGN - 1)), Some(Owner::There(2)));
    }
}
