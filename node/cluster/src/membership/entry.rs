//! Entries of a list of members: `host[:port][;id][;domain]`.

use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::identity::valid_node_id;
use crate::member::{NodeId, host_port};

/// The cluster port where an entry names none.
pub const DEFAULT_PORT: u16 = 5000;

/// A host name has at most as many bytes.
const HOST_BYTES: usize = 253;

/// A member as a list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its host name or address, an IPv6 address without brackets.
    pub host: String,
    /// Its cluster port.
    pub port: u16,
    /// Its node id. Of AMS's lists that is a unique id such as `{10,0,10,227}`.
    pub id: Option<NodeId>,
    /// The cluster that it belongs to, where several share a list.
    pub domain: Option<String>,
}

/// A list of members has an entry that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} is no member: {wrong}. Write host[:port][;id][;domain], such as 10.0.0.2:5000;origin-2")]
pub struct EntryError {
    /// The entry, cut when it is long.
    pub entry: String,
    /// What is wrong with it.
    pub wrong: &'static str,
}

impl Entry {
    /// `host:port`.
    pub fn addr(&self) -> String {
        host_port(&self.host, self.port)
    }

    /// Entries between commas; commas in braces belong to an id.
    ///
    /// # Errors
    /// The first entry that is none.
    pub fn list(text: &str) -> Result<Vec<Entry>, EntryError> {
        let mut depth = 0usize;
        let parts = text.split(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        });
        parts.map(str::trim).filter(|part| !part.is_empty()).map(str::parse).collect()
    }
}

impl FromStr for Entry {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Entry, EntryError> {
        let wrong = |wrong| EntryError { entry: text.chars().take(100).collect(), wrong };
        let mut parts = text.split(';').map(str::trim);
        let (host, port) = place(parts.next().unwrap_or_default()).map_err(wrong)?;
        let id = parts.next().filter(|id| !id.is_empty());
        if id.is_some_and(|id| !valid_node_id(id)) {
            return Err(wrong("the id has control characters or is too long"));
        }
        let domain = parts.next().filter(|domain| !domain.is_empty());
        if parts.next().is_some() {
            return Err(wrong("it has more than three parts"));
        }
        Ok(Entry { host, port, id: id.map(NodeId::new), domain: domain.map(str::to_owned) })
    }
}

fn place(text: &str) -> Result<(String, u16), &'static str> {
    // An IPv6 address without brackets has no port.
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text.to_owned(), DEFAULT_PORT));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("a bracket is not closed")?;
        host.parse::<Ipv6Addr>().map_err(|_| "what is in brackets is no IPv6 address")?;
        let port = match port.strip_prefix(':') {
            Some(port) => number(port)?,
            None if port.is_empty() => DEFAULT_PORT,
            None => return Err("something follows the bracket that is no port"),
        };
        return Ok((host.to_owned(), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, number(port)?),
        None => (text, DEFAULT_PORT),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || host.len() > HOST_BYTES || !host.chars().all(valid) {
        return Err("the host is no name or address");
    }
    Ok((host.to_owned(), port))
}

fn number(port: &str) -> Result<u16, &'static str> {
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err("the port is no number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(host: &str, port: u16, id: Option<&str>, domain: Option<&str>) -> Entry {
        Entry { host: host.into(), port, id: id.map(NodeId::new), domain: domain.map(Into::into) }
    }

    #[test]
    fn what_entries_look_like() {
        for (text, expected) in [
            ("10.0.0.2", entry("10.0.0.2", 5000, None, None)),
            ("n2.example:5001", entry("n2.example", 5001, None, None)),
            ("10.0.0.2:4000;origin-2", entry("10.0.0.2", 4000, Some("origin-2"), None)),
            ("10.0.0.2;;eu", entry("10.0.0.2", 5000, None, Some("eu"))),
            (
                "10.0.10.227:4000; {10,0,10,227} ;ams",
                entry("10.0.10.227", 4000, Some("{10,0,10,227}"), Some("ams")),
            ),
            ("fd00::3", entry("fd00::3", 5000, None, None)),
            ("[fd00::3]", entry("fd00::3", 5000, None, None)),
            ("[fd00::3]:5001;n3", entry("fd00::3", 5001, Some("n3"), None)),
        ] {
            assert_eq!(text.parse::<Entry>(), Ok(expected), "{text}");
        }
        assert_eq!("[fd00::3]:5001".parse::<Entry>().unwrap().addr(), "[fd00::3]:5001");
    }

    #[test]
    fn what_is_no_entry() {
        for text in [
            "",
            ":5000",
            "a:",
            "a:0",
            "a:65536",
            "a:+5",
            "a b",
            "a;b;c;d",
            "[fd00::3",
            "[n1]:5",
            "[fd00::3]5",
            "a/b",
            "a;b\u{7}",
        ] {
            assert!(text.parse::<Entry>().is_err(), "{text}");
        }
    }

    #[test]
    fn lists() {
        let list = Entry::list(" a , b:1;{10,0,10,227};d,, [::1]:7 ").unwrap();
        assert_eq!(list.iter().map(Entry::addr).collect::<Vec<_>>(), ["a:5000", "b:1", "[::1]:7"]);
        assert_eq!(list[1].id, Some(NodeId::new("{10,0,10,227}")));
        assert_eq!(Entry::list("").unwrap(), []);
        let error = Entry::list("a,b:x").unwrap_err();
        assert!(error.to_string().contains("\"b:x\""), "{error}");
    }

    proptest! {
        #[test]
        fn anything_is_an_entry_or_an_error(text in "[\\[\\]{}:;,a-f0-9. é]{0,40}") {
            let _ = Entry::list(&text);
        }

        #[test]
        fn what_is_written_is_read(
            host in "[a-z][a-z0-9.-]{0,20}", port in 1u16.., id in proptest::option::of("[a-z{},0-9]{1,12}"),
        ) {
            let text = format!("{host}:{port};{}", id.as_deref().unwrap_or_default());
            let read = text.parse::<Entry>().unwrap();
            prop_assert_eq!(read, entry(&host, port, id.as_deref(), None));
        }
    }
}
