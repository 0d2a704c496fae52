//! Rules of the settings for WebRTC.

use std::net::{IpAddr, SocketAddr};

use super::{Rule, Shape};
use crate::config::types::Candidate;

/// How many candidates a client is given at most: it tries each.
const MOST_CANDIDATES: usize = 16;
/// How many servers a client is told of at most.
const MOST_SERVERS: usize = 8;

/// Addresses with ports; a port of 0 stands for that of the listener.
pub(in crate::config) struct Candidates;

impl Rule for Candidates {
    type Value = Vec<Candidate>;

    fn parse(&self, text: &str) -> Option<Vec<Candidate>> {
        let one = |text: &str| {
            let (text, udp, tcp) = match text.split_once('/') {
                None => (text, true, true),
                Some((text, "udp")) => (text, true, false),
                Some((text, "tcp")) => (text, false, true),
                Some(_) => return None,
            };
            let whole = text.parse::<SocketAddr>().ok().filter(|addr| addr.port() != 0);
            let alone =
                || text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
            let addr = whole.or_else(alone)?;
            let usable = !addr.ip().is_unspecified() && !addr.ip().is_multicast();
            usable.then_some(Candidate { addr, udp, tcp })
        };
        let all: Option<Vec<_>> = parts(text).map(one).collect();
        all.filter(|all| all.len() <= MOST_CANDIDATES)
    }

    fn expected(&self) -> String {
        format!(
            "addresses separated by commas, at most {MOST_CANDIDATES}, each with or without a port, and with `/udp` or `/tcp` where it \
             is for one of them; such as `203.0.113.7:5004`"
        )
    }

    fn shape(&self) -> Shape {
        Shape::List
    }
}

/// URLs of RFC 7064 and RFC 7065.
pub(in crate::config) struct IceServers;

impl Rule for IceServers {
    type Value = Vec<String>;

    fn parse(&self, text: &str) -> Option<Vec<String>> {
        let one = |text: &str| {
            let (scheme, rest) = text.split_once(':')?;
            let (place, query) =
                rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
            let is_turn = matches!(scheme, "turn" | "turns");
            let known = is_turn || matches!(scheme, "stun" | "stuns");
            let transport = match query {
                None => true,
                Some(query) => is_turn && matches!(query, "transport=udp" | "transport=tcp"),
            };
            let ok = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
            let is_place = !place.is_empty() && place.len() <= 261 && place.chars().all(ok);
            (known && transport && is_place).then(|| text.to_owned())
        };
        let all: Option<Vec<_>> = parts(text).map(one).collect();
        all.filter(|all| all.len() <= MOST_SERVERS)
    }

    fn expected(&self) -> String {
        format!(
            "URLs separated by commas, at most {MOST_SERVERS}, such as `stun:stun.example.com:3478` or `turn:turn.example.com:3478?transport=udp`"
        )
    }

    fn shape(&self) -> Shape {
        Shape::List
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates() {
        let parse = |text| {
            Candidates
                .parse(text)
                .map(|all| all.iter().map(|c| format!("{} {} {}", c.addr, c.udp, c.tcp)).collect::<Vec<_>>())
        };
        assert_eq!(parse(""), Some(vec![]));
        assert_eq!(
            parse("203.0.113.7:30004, 2001:db8::1,[2001:db8::2]:5004/tcp, 10.0.0.1/udp"),
            Some(vec![
                "203.0.113.7:30004 true true".into(),
                "[2001:db8::1]:0 true true".into(),
                "[2001:db8::2]:5004 false true".into(),
                "10.0.0.1:0 true false".into()
            ])
        );
        for wrong in [
            "host:5004",
            "0.0.0.0:5004",
            "10.0.0.1:0",
            "10.0.0.1:70000",
            "239.1.1.1:5",
            "x",
            "10.0.0.1/",
            "10.0.0.1/sctp",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse(&["10.0.0.1"; 17].join(",")), None);
    }

    #[test]
    fn ice_servers() {
        let right = "stun:stun.example.com:3478, turn:10.0.0.1:3478?transport=tcp,turns:[2001:db8::1]:5349";
        assert_eq!(IceServers.parse(right).map(|all| all.len()), Some(3));
        for wrong in ["http://a", "stun:", "turn:a?transport=x", "stun:a?transport=udp", "turn:a b", "turn"] {
            assert_eq!(IceServers.parse(wrong), None, "{wrong}");
        }
    }
}
