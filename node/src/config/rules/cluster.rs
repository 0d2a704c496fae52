//! Rules of the settings for clusters and for the store that a cluster shares.

use std::net::{IpAddr, SocketAddr};

use sluice_cluster::membership::Entry;

use super::{Rule, Shape};
use crate::config::types::{Secret, StoreKind};

/// Which store.
pub(in crate::config) struct StoreUri;

impl Rule for StoreUri {
    type Value = StoreKind;

    fn parse(&self, text: &str) -> Option<StoreKind> {
        if text == "sqlite" {
            return Some(StoreKind::Sqlite);
        }
        let rest = text.strip_prefix("mongodb://").or_else(|| text.strip_prefix("mongodb+srv://"))?;
        let printable = rest.chars().all(|c| c.is_ascii_graphic());
        (!rest.is_empty() && printable).then(|| StoreKind::MongoDb(Secret::new(text.to_owned())))
    }

    fn expected(&self) -> String {
        "`sqlite`, or a `mongodb://` or `mongodb+srv://` URI".into()
    }
}

/// The name of a user of the store.
pub(in crate::config) struct UserName;

impl Rule for UserName {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        is_line(text).then(|| text.to_owned())
    }

    fn expected(&self) -> String {
        "a user name, at most 256 characters on one line".into()
    }
}

/// A password that was made elsewhere: it may be short, and have spaces.
pub(in crate::config) struct Password;

impl Rule for Password {
    type Value = Secret;

    fn parse(&self, text: &str) -> Option<Secret> {
        is_line(text).then(|| Secret::new(text.to_owned()))
    }

    fn expected(&self) -> String {
        "a password, at most 256 characters on one line".into()
    }
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= 256 && !text.chars().any(char::is_control)
}

/// What stands before names of databases. MongoDB allows 63 bytes in all.
pub(in crate::config) struct Prefix;

impl Rule for Prefix {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let ok = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (text.len() <= 24 && text.chars().all(ok)).then(|| text.to_owned())
    }

    fn expected(&self) -> String {
        "letters, digits, `-` and `_`, at most 24".into()
    }
}

/// The name of a group of nodes.
pub(in crate::config) struct GroupName;

impl Rule for GroupName {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let ok = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        (!text.is_empty() && text.len() <= 64 && text.chars().all(ok)).then(|| text.to_owned())
    }

    fn expected(&self) -> String {
        "letters, digits, `-`, `_` and `.`, at most 64".into()
    }
}

/// The name of a network interface.
pub(in crate::config) struct Interface;

impl Rule for Interface {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        // Linux: 15 bytes, no slash, no space.
        let ok = |c: char| c.is_ascii_graphic() && c != '/';
        (!text.is_empty() && text.len() <= 15 && text.chars().all(ok)).then(|| text.to_owned())
    }

    fn expected(&self) -> String {
        "the name of a network interface, such as `eth0`".into()
    }
}

/// A network interface, by name or by an address of it.
pub(in crate::config) struct InterfaceOrAddress;

impl Rule for InterfaceOrAddress {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let address = || text.parse::<IpAddr>().is_ok().then(|| text.to_owned());
        address().or_else(|| Interface.parse(text))
    }

    fn expected(&self) -> String {
        "the name of a network interface, such as `eth0`, or an address of it".into()
    }
}

/// A multicast address with its port.
pub(in crate::config) struct MulticastGroup;

impl Rule for MulticastGroup {
    type Value = SocketAddr;

    fn parse(&self, text: &str) -> Option<SocketAddr> {
        let group: SocketAddr = text.parse().ok()?;
        (group.ip().is_multicast() && group.port() != 0).then_some(group)
    }

    fn expected(&self) -> String {
        "a multicast address with a port, such as `239.77.77.77:5001` or `[ff15::77]:5001`".into()
    }
}

/// The nodes of a static cluster. What stands in braces is one name: such ids have commas.
pub(in crate::config) struct Members;

/// How many nodes a list may name.
const MAX_MEMBERS: usize = 1000;

impl Rule for Members {
    type Value = Vec<String>;

    fn parse(&self, text: &str) -> Option<Vec<String>> {
        let mut members: Vec<String> = Vec::new();
        for entry in entries(text).into_iter().map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry.parse::<Entry>().is_err() || members.len() == MAX_MEMBERS {
                return None;
            }
            if !members.iter().any(|known| known == entry) {
                members.push(entry.to_owned());
            }
        }
        Some(members)
    }

    fn expected(&self) -> String {
        "members as `host[:port][;id][;domain]`, such as `10.0.0.1, 10.0.0.2:5000;origin-2, [fd00::3]:5000`"
            .into()
    }

    fn shape(&self) -> Shape {
        Shape::List
    }
}

/// The parts between commas that stand outside of braces.
fn entries(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores() {
        assert_eq!(StoreUri.parse("sqlite"), Some(StoreKind::Sqlite));
        for good in
            ["mongodb+srv://h/db", "mongodb://127.0.0.1:17117/?replicaSet=secantus", "mongodb://a,b:1/"]
        {
            assert!(matches!(StoreUri.parse(good), Some(StoreKind::MongoDb(_))), "{good}");
        }
        for bad in ["postgres://h", "redis://h", "mongodb://", "mongodb://a b", "127.0.0.1"] {
            assert!(StoreUri.parse(bad).is_none(), "{bad}");
        }
        assert!(Password.parse("p@ss w/örd").is_some() && Password.parse("a\nb").is_none());
        assert!(
            Prefix.parse("").is_some() && Prefix.parse("test-1_").is_some() && Prefix.parse("a.b").is_none()
        );
    }

    #[test]
    fn members_are_places_with_an_id_and_a_domain() {
        let list =
            Members.parse("10.0.0.1, n2.example:5000;origin-2;eu , [fd00::3]:5001,fd00::4,10.0.0.1").unwrap();
        assert_eq!(list, ["10.0.0.1", "n2.example:5000;origin-2;eu", "[fd00::3]:5001", "fd00::4"]);
        assert_eq!(Members.parse("").map(|list| list.len()), Some(0));
        let list = Members.parse("10.0.10.227:4000;{10,0,10,227};ams,b").unwrap();
        assert_eq!(list, ["10.0.10.227:4000;{10,0,10,227};ams", "b"]);
        for bad in ["a b", "a:0", "a:x", "a:70000", "a;b;c;d", ";id", "[::1", "[::1]x", "http://a", "a:+1"] {
            assert!(Members.parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn groups_and_interfaces() {
        assert!(MulticastGroup.parse("239.77.77.77:5001").is_some());
        assert!(MulticastGroup.parse("[ff15::77]:5001").is_some());
        for bad in ["10.0.0.1:5001", "239.77.77.77", "239.77.77.77:0", ""] {
            assert!(MulticastGroup.parse(bad).is_none(), "{bad}");
        }
        assert!(Interface.parse("eth0").is_some() && Interface.parse("averyveryverylongname").is_none());
        assert!(InterfaceOrAddress.parse("2001:db8:1:2:3:4:5:6").is_some());
        assert!(GroupName.parse("eu-1.a").is_some() && GroupName.parse("").is_none());
    }
}
