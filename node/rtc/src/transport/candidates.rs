//! Which addresses clients are told to send to.

use std::net::{IpAddr, SocketAddr};

/// Host candidates are tried one after the other: more than this only make connecting slower.
const MOST: usize = 16;

/// The host candidates that follow from what is listened on, with the machine's addresses (`machine`) in place of an unspecified
/// one.
pub(super) fn host(listen: &[SocketAddr], machine: &[IpAddr]) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in listen {
        let ips: Vec<IpAddr> = match address.ip() {
            ip if !ip.is_unspecified() => vec![ip],
            // A socket for IPv6 takes IPv4 as well.
            IpAddr::V6(_) => usable(machine, |_| true),
            IpAddr::V4(_) => usable(machine, IpAddr::is_ipv4),
        };
        for candidate in ips.into_iter().map(|ip| SocketAddr::new(ip, address.port())) {
            if !found.contains(&candidate) {
                found.push(candidate);
            }
        }
    }
    found.truncate(MOST);
    found
}

/// Addresses that others can reach, IPv4 first; the loopback ones where there are no others.
fn usable(machine: &[IpAddr], family: impl Fn(&IpAddr) -> bool) -> Vec<IpAddr> {
    let fits = |ip: &&IpAddr| family(ip) && !is_link_local(ip);
    let mut ips: Vec<IpAddr> = machine.iter().filter(fits).filter(|ip| !ip.is_loopback()).copied().collect();
    if ips.is_empty() {
        ips = machine.iter().filter(fits).copied().collect();
    }
    ips.sort_by_key(IpAddr::is_ipv6);
    ips
}

/// Link-local addresses mean nothing without the interface, which a candidate does not name.
fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The addresses of this machine; none where they cannot be listed.
pub(super) fn machine() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().map(if_addrs::Interface::ip).collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot list this machine's addresses: set rtc candidates (SLUICE_RTC_CANDIDATES)");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_unspecified_address_stands_for_those_of_the_machine() {
        let machine = [ip("127.0.0.1"), ip("::1"), ip("fe80::1"), ip("2001:db8::1"), ip("10.0.0.1")];
        assert_eq!(host(&[at("[::]:5004")], &machine), [at("10.0.0.1:5004"), at("[2001:db8::1]:5004")]);
        assert_eq!(host(&[at("0.0.0.0:7")], &machine), [at("10.0.0.1:7")]);
        assert_eq!(host(&[at("0.0.0.0:7"), at("[::]:7")], &machine).len(), 2);
    }

    #[test]
    fn loopback_only_where_there_is_nothing_else() {
        let machine = [ip("127.0.0.1"), ip("::1"), ip("fe80::1"), ip("169.254.0.3")];
        assert_eq!(host(&[at("[::]:5004")], &machine), [at("127.0.0.1:5004"), at("[::1]:5004")]);
        assert_eq!(host(&[at("127.0.0.1:5004")], &[ip("10.0.0.1")]), [at("127.0.0.1:5004")]);
        assert!(host(&[at("[::]:5004")], &[]).is_empty());
    }

    #[test]
    fn there_are_not_too_many() {
        let machine: Vec<IpAddr> = (0..100).map(|n| ip(&format!("10.0.0.{n}"))).collect();
        assert_eq!(host(&[at("[::]:5004")], &machine).len(), MOST);
    }
}
