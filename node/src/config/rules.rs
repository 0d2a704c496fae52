//! What the value of a setting may be: each rule turns text into a type, and says in words what it expects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::types::{Listen, Secret};

pub(super) mod cluster;
pub(super) mod rtc;

/// How a value is written in TOML. A string is always allowed too, so that what is right in the environment
/// is right in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// A list of strings.
    List,
    /// `true` or `false`.
    Truth,
}

/// Turns the text of a setting into its value.
pub(super) trait Rule {
    /// The type of the value.
    type Value;

    /// Reads the text; `None` when it is not what [`expected`](Self::expected) says.
    fn parse(&self, text: &str) -> Option<Self::Value>;

    /// What is expected, as the end of the sentence "expected …".
    fn expected(&self) -> String;

    /// How it is written in TOML.
    fn shape(&self) -> Shape {
        Shape::Text
    }
}

/// A value that may be left out: empty text.
pub(super) struct Maybe<R>(pub(super) R);

impl<R: Rule> Rule for Maybe<R> {
    type Value = Option<R::Value>;

    fn parse(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() { Some(None) } else { self.0.parse(text).map(Some) }
    }

    fn expected(&self) -> String {
        self.0.expected()
    }

    fn shape(&self) -> Shape {
        self.0.shape()
    }
}

/// One of some words.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy> Rule for Choice<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Option<T> {
        self.0.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    }

    fn expected(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| format!("`{word}`")).collect();
        format!("one of {}", words.join(", "))
    }
}

/// Yes or no.
pub(super) struct Truth;

impl Rule for Truth {
    type Value = bool;

    fn parse(&self, text: &str) -> Option<bool> {
        text.parse().ok()
    }

    fn expected(&self) -> String {
        "`true` or `false`".into()
    }

    fn shape(&self) -> Shape {
        Shape::Truth
    }
}

/// A whole number, bounds included.
pub(super) struct Count(pub(super) u32, pub(super) u32);

impl Rule for Count {
    type Value = u32;

    fn parse(&self, text: &str) -> Option<u32> {
        text.parse().ok().filter(|n| (self.0..=self.1).contains(n))
    }

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.0, self.1)
    }

    fn shape(&self) -> Shape {
        Shape::Number
    }
}

/// A time span with its unit, bounds in milliseconds included.
pub(super) struct Span(pub(super) u64, pub(super) u64);

impl Rule for Span {
    type Value = Duration;

    fn parse(&self, text: &str) -> Option<Duration> {
        let (number, unit) = split_unit(text)?;
        let unit_ms = match unit {
            "ms" => 1.0,
            "" | "s" => 1000.0,
            "m" | "min" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        let ms = number * unit_ms;
        let whole = ms.round();
        // Not finite, negative and finer than a millisecond are all "not a time span" here.
        if !((self.0 as f64)..=(self.1 as f64)).contains(&whole) || (whole - ms).abs() > 1e-6 {
            return None;
        }
        Some(Duration::from_millis(whole as u64))
    }

    fn expected(&self) -> String {
        format!("a time span from {} to {}, such as `200ms`, `2s` or `5m`", span(self.0), span(self.1))
    }

    fn shape(&self) -> Shape {
        Shape::Number
    }
}

/// A time span the way it is written in the configuration.
fn span(ms: u64) -> String {
    match ms {
        0 => "0s".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// A number of bytes, bounds included.
pub(super) struct Size(pub(super) u64, pub(super) u64);

impl Rule for Size {
    type Value = u64;

    fn parse(&self, text: &str) -> Option<u64> {
        let (number, unit) = split_unit(text)?;
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1000,
            "k" | "kib" => 1 << 10,
            "mb" => 1_000_000,
            "m" | "mib" => 1 << 20,
            "gb" => 1_000_000_000,
            "g" | "gib" => 1 << 30,
            _ => return None,
        };
        let bytes = number * factor as f64;
        ((self.0 as f64)..=(self.1 as f64)).contains(&bytes).then_some(bytes as u64)
    }

    fn expected(&self) -> String {
        format!("a size from {} to {}, such as `32KiB` or `64MiB`", size(self.0), size(self.1))
    }

    fn shape(&self) -> Shape {
        Shape::Number
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 && b % (1 << 30) == 0 => format!("{}GiB", b >> 30),
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{}MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{}KiB", b >> 10),
        b => format!("{b}"),
    }
}

fn split_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

/// Where to listen.
pub(super) struct Address {
    /// Whether `off` is allowed.
    pub(super) may_be_off: bool,
}

impl Rule for Address {
    type Value = Listen;

    fn parse(&self, text: &str) -> Option<Listen> {
        if text == "off" {
            return self.may_be_off.then(Listen::default);
        }
        let mut addrs = Vec::new();
        for part in list(text) {
            let named = if let Some(port) = part.strip_prefix("localhost:") {
                let port: u16 = port.parse().ok()?;
                vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
            } else if let Some(port) = part.strip_prefix(':') {
                vec![(Ipv4Addr::UNSPECIFIED, port.parse().ok()?).into()]
            } else {
                vec![part.parse::<SocketAddr>().ok()?]
            };
            for addr in named {
                if !addrs.contains(&addr) {
                    addrs.push(addr);
                }
            }
        }
        (!addrs.is_empty()).then(|| Listen::new(addrs))
    }

    fn expected(&self) -> String {
        let off = if self.may_be_off { ", or `off`" } else { "" };
        format!("addresses with ports, such as `0.0.0.0:5080`, `[::]:5080` or a list of them{off}")
    }

    fn shape(&self) -> Shape {
        Shape::List
    }
}

/// A list of addresses or networks.
pub(super) struct Networks;

impl Rule for Networks {
    type Value = Vec<IpNet>;

    fn parse(&self, text: &str) -> Option<Vec<IpNet>> {
        list(text)
            .map(|part| part.parse::<IpNet>().ok().or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from)))
            .collect()
    }

    fn expected(&self) -> String {
        "IP addresses or networks, such as `10.0.0.0/8, fd00::/8, 192.0.2.7`".into()
    }

    fn shape(&self) -> Shape {
        Shape::List
    }
}

/// One IP address.
pub(super) struct Ip;

impl Rule for Ip {
    type Value = IpAddr;

    fn parse(&self, text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    fn expected(&self) -> String {
        "an IP address".into()
    }
}

/// Names of apps: what may be the first part of a URL's path.
pub(super) struct AppNames;

impl Rule for AppNames {
    type Value = Vec<String>;

    fn parse(&self, text: &str) -> Option<Vec<String>> {
        let ok = |name: &str| {
            name.len() <= 64
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
                && name != "rest"
        };
        let mut names: Vec<String> = Vec::new();
        for name in list(text) {
            if !ok(name) {
                return None;
            }
            if !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        }
        Some(names)
    }

    fn expected(&self) -> String {
        "names of apps (letters, digits, `-` and `_`, at most 64, not `rest`), such as `LiveApp, live`".into()
    }

    fn shape(&self) -> Shape {
        Shape::List
    }
}

/// A path in the file system.
pub(super) struct FilePath;

impl Rule for FilePath {
    type Value = PathBuf;

    fn parse(&self, text: &str) -> Option<PathBuf> {
        (!text.is_empty()).then(|| text.into())
    }

    fn expected(&self) -> String {
        "a path".into()
    }
}

/// A secret with at least so many characters.
pub(super) struct SecretText(pub(super) usize);

impl Rule for SecretText {
    type Value = Secret;

    fn parse(&self, text: &str) -> Option<Secret> {
        let printable = text.chars().all(|c| c.is_ascii_graphic());
        (text.len() >= self.0 && printable).then(|| Secret::new(text.to_owned()))
    }

    fn expected(&self) -> String {
        format!("at least {} printable ASCII characters without spaces", self.0)
    }
}

/// The name of a node.
pub(super) struct NodeName;

impl Rule for NodeName {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let ok = text.len() <= 253 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        (ok && !text.is_empty()).then(|| text.to_owned())
    }

    fn expected(&self) -> String {
        "letters, digits, `-`, `_` and `.`, at most 253".into()
    }
}

/// A host name or an IP address, without port.
pub(super) struct Host;

impl Rule for Host {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        let name = || {
            text.len() <= 253
                && text.split('.').all(|label| {
                    (1..=63).contains(&label.len())
                        && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
                })
        };
        (text.parse::<IpAddr>().is_ok() || name()).then(|| text.to_owned())
    }

    fn expected(&self) -> String {
        "a host name or an IP address, without a port".into()
    }
}

/// Which log lines are written.
pub(super) struct LogFilter;

impl Rule for LogFilter {
    type Value = String;

    fn parse(&self, text: &str) -> Option<String> {
        tracing_subscriber::EnvFilter::try_new(text).ok().filter(|_| !text.is_empty())?;
        Some(text.to_owned())
    }

    fn expected(&self) -> String {
        "a level (`error`, `warn`, `info`, `debug`, `trace`), or a filter such as `info,sluice_rtmp=debug`"
            .into()
    }
}

/// The parts of a comma-separated list, trimmed.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_need_a_known_unit_and_stay_in_bounds() {
        let rule = Span(100, 60_000);
        for (text, ms) in
            [("200ms", 200), ("2s", 2000), ("2", 2000), ("0.5", 500), ("1m", 60_000), ("1.5 s", 1500)]
        {
            assert_eq!(rule.parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "50ms", "2h", "-1s", "2 days", "1e3", "0.1001s", "..", "NaN"] {
            assert_eq!(rule.parse(text), None, "{text}");
        }
        assert!(rule.expected().contains("from 100ms to 1m"));
    }

    #[test]
    fn sizes_know_their_units() {
        let rule = Size(1 << 10, 1 << 30);
        for (text, bytes) in
            [("1024", 1024), ("32KiB", 32 << 10), ("64 MiB", 64 << 20), ("1GB", 1_000_000_000)]
        {
            assert_eq!(rule.parse(text), Some(bytes), "{text}");
        }
        for text in ["", "1", "2GiB", "1 TB", "MiB"] {
            assert_eq!(rule.parse(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_ip_and_port_lists() {
        let rule = Address { may_be_off: true };
        let text = |t: &str| rule.parse(t).map(|l| l.to_string());
        assert_eq!(text("0.0.0.0:5080").as_deref(), Some("0.0.0.0:5080"));
        assert_eq!(text(":5080").as_deref(), Some("0.0.0.0:5080"));
        assert_eq!(text("localhost:1").as_deref(), Some("127.0.0.1:1,[::1]:1"));
        assert_eq!(text("127.0.0.1:1, [::]:2, 127.0.0.1:1").as_deref(), Some("127.0.0.1:1,[::]:2"));
        assert_eq!(text("off").as_deref(), Some("off"));
        for bad in ["", "5080", "0.0.0.0", "host:80", "0.0.0.0:70000", "on"] {
            assert_eq!(text(bad), None, "{bad}");
        }
        assert_eq!(Address { may_be_off: false }.parse("off"), None);
    }

    #[test]
    fn networks_take_bare_addresses_too() {
        let nets = Networks.parse("10.0.0.0/8, ::1").unwrap();
        assert!(nets[1].contains(&"::1".parse::<IpAddr>().unwrap()));
        assert!(Networks.parse("10.0.0.0/40").is_none());
        assert_eq!(Networks.parse(""), Some(vec![]));
    }

    #[test]
    fn names_hosts_and_filters() {
        assert!(AppNames.parse("LiveApp,rest").is_none());
        assert!(AppNames.parse("a/b").is_none());
        assert_eq!(AppNames.parse("live, live").map(|n| n.len()), Some(1));
        assert!(Host.parse("media.example.org").is_some() && Host.parse("fd00::1").is_some());
        assert!(Host.parse("a b").is_none() && Host.parse("h:80").is_none() && Host.parse("a..b").is_none());
        assert!(LogFilter.parse("info,sluice_rtmp=debug").is_some());
        assert!(LogFilter.parse("sluice=loud").is_none());
        assert!(SecretText(8).parse("short").is_none());
    }
}
