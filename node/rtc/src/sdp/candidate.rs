//! Candidates of the other side (`a=candidate`, RFC 8839).

use std::net::{IpAddr, SocketAddr};

use super::SdpError;
use super::text::Description;

/// As many are kept; each is checked for some time.
const MOST: usize = 16;

/// See [`candidates`](super::candidates).
pub(super) fn addresses(text: &str) -> Result<Vec<SocketAddr>, SdpError> {
    let description = Description::parse(text)?;
    let sections = description.sections.iter().flat_map(|section| &section.attributes);
    let lines = description.attributes.iter().chain(sections).filter(|(name, _)| *name == "candidate");
    let mut found: Vec<(u32, SocketAddr)> = Vec::new();
    for (priority, address) in lines.filter_map(|(_, value)| candidate(value)) {
        if !found.iter().any(|(_, known)| *known == address) {
            found.push((priority, address));
        }
    }
    found.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    found.truncate(MOST);
    Ok(found.into_iter().map(|(_, address)| address).collect())
}

/// `foundation component transport priority address port typ type …`, with its priority; nothing of one that cannot be called: over
/// TCP, by a name, of RTCP alone.
fn candidate(value: &str) -> Option<(u32, SocketAddr)> {
    let words: Vec<&str> = value.split_ascii_whitespace().take(8).collect();
    let [_, "1", transport, priority, address, port, "typ", _] = words[..] else { return None };
    let ip: IpAddr = address.parse().ok()?;
    let port: u16 = port.parse().ok()?;
    let usable =
        transport.eq_ignore_ascii_case("udp") && port != 0 && !ip.is_unspecified() && !ip.is_multicast();
    usable.then_some((priority.parse().ok()?, SocketAddr::new(ip.to_canonical(), port)))
}
