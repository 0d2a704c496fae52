//! Where a request comes from, through proxies or not.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// The client behind a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr {
    /// The client, as far as it is known; else the peer. IPv4 in IPv6 is unwrapped.
    pub addr: IpAddr,
    /// Whether some proxy forwarded it.
    pub forwarded: bool,
    /// Whether `addr` can be believed: it is the peer's own, or a trusted proxy says so.
    pub trusted: bool,
}

/// Headers that only a proxy sends.
const FORWARDING: [&str; 5] = ["forwarded", "x-forwarded-for", "x-real-ip", "via", "x-client-ip"];

impl ClientAddr {
    /// Finds the client. `X-Forwarded-For` is believed only as far as `trusted_proxies` wrote it: from the right,
    /// up to the first address that is none of them.
    pub fn resolve(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let is_proxy = |a: &IpAddr| trusted_proxies.iter().any(|net| net.contains(a));
        let forwarded = headers
            .keys()
            .any(|name| FORWARDING.contains(&name.as_str()) || name.as_str().starts_with("x-forwarded-"));
        if !forwarded {
            return ClientAddr { addr: peer, forwarded, trusted: true };
        }
        let unknown = ClientAddr { addr: peer, forwarded, trusted: false };
        if !is_proxy(&peer) {
            return unknown;
        }
        let hops: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .flat_map(|v| v.to_str().unwrap_or("?").split(','))
            .map(str::trim)
            .collect();
        let mut client = None;
        for hop in hops.iter().rev() {
            let Some(addr) = parse_hop(hop) else { return unknown };
            client = Some(addr);
            if !is_proxy(&addr) {
                break;
            }
        }
        match client {
            // The proxy's own machine is not this one, unless the proxy is here.
            Some(addr) if addr.is_loopback() && !peer.is_loopback() => unknown,
            Some(addr) => ClientAddr { addr, forwarded, trusted: true },
            None => unknown,
        }
    }

    /// The address, when it can be believed.
    pub fn known(&self) -> Option<IpAddr> {
        self.trusted.then_some(self.addr)
    }

    /// Whether the client is on this machine, beyond doubt.
    pub fn is_loopback(&self) -> bool {
        self.known().is_some_and(|a| a.is_loopback())
    }

    /// Whether the address is known and in a comma separated list of addresses and CIDR blocks. The IPv4
    /// loopback in the list stands for the IPv6 one too.
    pub fn is_in(&self, list: &str) -> bool {
        let Some(addr) = self.known() else { return false };
        let v6_loopback = addr.is_loopback() && addr.is_ipv6();
        is_listed(list, addr) || (v6_loopback && is_listed(list, IpAddr::from([127, 0, 0, 1])))
    }
}

/// Whether an address is in a comma separated list of addresses and CIDR blocks; an empty list has none.
pub fn is_listed(list: &str, addr: IpAddr) -> bool {
    let addr = addr.to_canonical();
    list.split(',').map(str::trim).filter_map(parse_net).any(|net| net.contains(&addr))
}

/// An address alone, with a port, or in brackets.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|a| a.to_canonical())
}

fn parse_net(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(peer: &str, headers: &[(&'static str, &str)]) -> ClientAddr {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let proxies = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        ClientAddr::resolve(peer.parse().unwrap(), &map, &proxies)
    }

    #[test]
    fn lists_of_networks() {
        let at = |s: &str| s.parse::<IpAddr>().unwrap();
        assert!(is_listed("10.0.0.0/8, 192.168.1.7", at("192.168.1.7")));
        assert!(is_listed("10.0.0.0/8", at("::ffff:10.1.2.3")));
        assert!(!is_listed("", at("127.0.0.1")));
        assert!(!is_listed("10.0.0.0/8,nonsense", at("11.0.0.1")));
    }

    #[test]
    fn loopback_behind_a_proxy_elsewhere_is_that_proxys() {
        let client = resolve("10.0.0.5", &[("x-forwarded-for", "127.0.0.1")]);
        assert!(!client.is_loopback() && !client.is_in("127.0.0.1,10.0.0.0/8"));
    }

    #[test]
    fn without_a_proxy_the_peer_is_the_client() {
        let c = resolve("::ffff:127.0.0.1", &[]);
        assert!(c.is_loopback() && c.is_in("127.0.0.1"));
        assert!(resolve("::1", &[]).is_in("127.0.0.1"));
        assert!(!resolve("192.0.2.1", &[]).is_in("127.0.0.1"));
        assert!(resolve("192.0.2.1", &[]).is_in("nonsense, 192.0.2.0/24"));
    }

    #[test]
    fn a_forwarded_request_from_anybody_is_nobodys() {
        for header in
            ["x-forwarded-for", "forwarded", "via", "x-real-ip", "x-forwarded-host", "x-forwarded-proto"]
        {
            let c = resolve("127.0.0.1", &[(header, "127.0.0.1")]);
            assert!(c.forwarded && !c.is_loopback() && !c.is_in("0.0.0.0/0"), "{header}");
        }
    }

    #[test]
    fn trusted_proxies_tell_the_client_from_the_right() {
        let xff = |v| resolve("10.0.0.1", &[("x-forwarded-for", v)]);
        assert_eq!(
            xff("127.0.0.1, 192.0.2.7").known(),
            Some("192.0.2.7".parse().unwrap()),
            "spoofed left part"
        );
        assert_eq!(xff("192.0.2.7, 10.1.1.1").known(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(xff("192.0.2.7:4711").known(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(xff("[2001:db8::1]:80").known(), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(xff("[2001:db8::1]").known(), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(xff("127.0.0.1, garbage").known(), None);
        assert_eq!(xff("").known(), None);
        assert_eq!(xff("10.2.2.2").known(), Some("10.2.2.2".parse().unwrap()), "a client among the proxies");
        assert_eq!(resolve("10.0.0.1", &[("via", "1.1 x")]).known(), None);
        let two = resolve("fd00::1", &[("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "192.0.2.9")]);
        assert_eq!(two.known(), Some("192.0.2.9".parse().unwrap()), "headers count as one list");
    }
}
