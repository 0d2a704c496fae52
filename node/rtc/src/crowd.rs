//! How many of a kind there are, in all and of one client. Clients are told apart by their addresses.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Addresses whose clients are not counted by address, such as trusted proxies that do not tell whom they stand for. None by
/// default.
#[derive(Clone)]
pub struct Exempt(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl Exempt {
    /// Those for which `is_exempt` holds.
    pub fn new(is_exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Exempt(Arc::new(is_exempt))
    }
}

impl Default for Exempt {
    fn default() -> Self {
        Exempt::new(|_| false)
    }
}

impl fmt::Debug for Exempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exempt")
    }
}

/// Counts them.
pub(crate) struct Crowd {
    most: usize,
    most_of_client: usize,
    exempt: Exempt,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    of_client: HashMap<IpAddr, usize>,
}

/// One of them; it counts for as long as it lives.
pub(crate) struct Member {
    crowd: Arc<Crowd>,
    client: Option<IpAddr>,
}

impl Crowd {
    /// So many in all, and so many of one client unless it is exempt.
    pub(crate) fn new(most: usize, most_of_client: usize, exempt: Exempt) -> Arc<Self> {
        Arc::new(Crowd { most, most_of_client, exempt, counts: Mutex::default() })
    }

    /// Lets one more in; `None` when there are as many as there may be.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<Member> {
        let ip = ip.to_canonical();
        let client = (!self.exempt.0(ip)).then(|| owner(ip));
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let here = client.map_or(0, |client| counts.of_client.get(&client).copied().unwrap_or(0));
        if counts.all >= self.most || (client.is_some() && here >= self.most_of_client) {
            return None;
        }
        counts.all += 1;
        if let Some(client) = client {
            counts.of_client.insert(client, here + 1);
        }
        Some(Member { crowd: self.clone(), client })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(client) = self.client
            && let Some(here) = counts.of_client.get_mut(&client)
        {
            *here -= 1;
            if *here == 0 {
                counts.of_client.remove(&client);
            }
        }
    }
}

/// Whom an address belongs to: one host has a whole /64 of IPv6.
fn owner(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn there_is_a_limit_in_all_and_one_per_client() {
        let crowd = Crowd::new(4, 2, Exempt::default());
        let mut here: Vec<_> = (0..2).map(|_| crowd.admit(ip("10.0.0.1")).unwrap()).collect();
        assert!(crowd.admit(ip("10.0.0.1")).is_none());
        assert!(crowd.admit(ip("::ffff:10.0.0.1")).is_none(), "the same address");
        here.push(crowd.admit(ip("10.0.0.2")).unwrap());
        here.push(crowd.admit(ip("10.0.0.3")).unwrap());
        assert!(crowd.admit(ip("10.0.0.4")).is_none());
        here.remove(0);
        here.push(crowd.admit(ip("10.0.0.1")).unwrap());
        drop(here);
        let counts = crowd.counts.lock().unwrap();
        assert_eq!((counts.all, counts.of_client.len()), (0, 0));
    }

    #[test]
    fn a_client_has_a_network_of_ipv6() {
        let crowd = Crowd::new(10, 1, Exempt::default());
        let _here = crowd.admit(ip("2001:db8:0:1::1")).unwrap();
        assert!(crowd.admit(ip("2001:db8:0:1:ffff::2")).is_none());
        assert!(crowd.admit(ip("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn who_is_exempt_counts_in_all_only() {
        let crowd = Crowd::new(3, 1, Exempt::new(|ip| ip.is_loopback()));
        let here: Vec<_> = (0..3).map(|_| crowd.admit(ip("127.0.0.1")).unwrap()).collect();
        assert!(crowd.admit(ip("127.0.0.1")).is_none());
        drop(here);
    }
}
