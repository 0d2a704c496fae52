//! Connections of which it is not known yet that they are the API server's: everybody can open them, so they are few, and the newest
//! one always gets a place. Who is pushed out is the oldest one of the address that holds most.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// So many in all.
pub(super) const PLACES: usize = 64;

/// So many of one address.
pub(super) const PER_ADDRESS: usize = 8;

/// All of them; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers(Arc<Mutex<There>>);

#[derive(Debug, Default)]
struct There {
    next: u64,
    /// The oldest one first.
    all: VecDeque<Stranger>,
}

#[derive(Debug)]
struct Stranger {
    id: u64,
    from: IpAddr,
    /// Dropped, it says to go.
    _stays: oneshot::Sender<Infallible>,
}

/// A place, until it is dropped or taken away.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    strangers: Strangers,
    stays: oneshot::Receiver<Infallible>,
}

impl Strangers {
    /// A place for one from this address. Where there is none left, another one loses its own.
    pub(super) fn enter(&self, from: IpAddr) -> Place {
        let from = from.to_canonical();
        let mut there = self.lock();
        if there.all.iter().filter(|one| one.from == from).count() >= PER_ADDRESS {
            there.push_out(from);
        } else if there.all.len() >= PLACES
            && let Some(most) = there.greediest()
        {
            there.push_out(most);
        }
        let (sender, stays) = oneshot::channel();
        let id = there.next;
        there.next += 1;
        there.all.push_back(Stranger { id, from, _stays: sender });
        drop(there);
        Place { id, strangers: self.clone(), stays }
    }

    fn lock(&self) -> MutexGuard<'_, There> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl There {
    fn push_out(&mut self, from: IpAddr) {
        if let Some(oldest) = self.all.iter().position(|one| one.from == from) {
            self.all.remove(oldest);
        }
    }

    /// The address that holds most places; of several that of the oldest connection.
    fn greediest(&self) -> Option<IpAddr> {
        let mut held: HashMap<IpAddr, usize> = HashMap::new();
        for one in &self.all {
            *held.entry(one.from).or_default() += 1;
        }
        let most = held.values().copied().max()?;
        self.all.iter().map(|one| one.from).find(|from| held.get(from) == Some(&most))
    }
}

impl Place {
    /// Comes back when the place is another's.
    pub(super) async fn lost(&mut self) {
        // Nothing is ever sent.
        let _ = (&mut self.stays).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.strangers.lock().all.retain(|one| one.id != self.id);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    impl Strangers {
        pub(crate) fn count(&self) -> usize {
            self.lock().all.len()
        }
    }

    fn address(last: usize) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, u8::try_from(last).expect("few")).into()
    }

    fn is_lost(place: &mut Place) -> bool {
        place.stays.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[tokio::test]
    async fn of_one_address_the_newest_stay() {
        let strangers = Strangers::default();
        let mut places: Vec<Place> = (0..PER_ADDRESS).map(|_| strangers.enter(address(1))).collect();
        let mut other = strangers.enter(address(2));
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into();
        places.push(strangers.enter(mapped));
        places[0].lost().await;
        assert!(!places.iter_mut().skip(1).any(is_lost) && !is_lost(&mut other));
        assert_eq!(strangers.count(), PER_ADDRESS + 1);
        drop((places, other));
        assert_eq!(strangers.count(), 0, "who goes leaves nothing");
    }

    #[test]
    fn whoever_holds_most_makes_room() {
        let strangers = Strangers::default();
        let mut few = strangers.enter(address(0));
        let mut most: Vec<Place> = (0..PER_ADDRESS).map(|_| strangers.enter(address(1))).collect();
        let mut others: Vec<Place> =
            (0..PLACES - PER_ADDRESS - 1).map(|n| strangers.enter(address(2 + n % 30))).collect();
        assert_eq!(strangers.count(), PLACES);
        let mut newest = strangers.enter(address(200));
        assert_eq!(strangers.count(), PLACES);
        assert!(is_lost(&mut most[0]) && !most.iter_mut().skip(1).any(is_lost));
        assert!(![&mut few, &mut newest].into_iter().any(is_lost) && !others.iter_mut().any(is_lost));
    }
}
