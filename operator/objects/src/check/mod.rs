//! Small checks of texts, as Kubernetes makes them.

pub(crate) mod raw;

use std::time::Duration;

use sluice_crds::common::StringMap;

use crate::invalid::Problems;

fn inner(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || allowed(*b))
}

fn lower(text: &str) -> bool {
    !text.bytes().any(|b| b.is_ascii_uppercase())
}

/// A name such as containers, volumes and Services have: a DNS label.
pub(crate) fn label(text: &str) -> bool {
    text.len() <= 63 && lower(text) && inner(text, |b| b == b'-')
}

/// A name such as Secrets have: a DNS subdomain.
pub(crate) fn subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|part| lower(part) && inner(part, |b| b == b'-'))
}

/// A host name, `*.` in front allowed.
pub(crate) fn host(text: &str) -> bool {
    subdomain(text.strip_prefix("*.").unwrap_or(text))
}

/// A key of a label or an annotation, or the name of a resource: `[domain/]name`.
pub(crate) fn qualified(text: &str) -> bool {
    let name = match text.split_once('/') {
        Some((domain, name)) if subdomain(domain) => name,
        Some(_) => return false,
        None => text,
    };
    name.len() <= 63 && inner(name, |b| matches!(b, b'-' | b'_' | b'.'))
}

/// A value of a label.
pub(crate) fn label_value(text: &str) -> bool {
    text.is_empty() || (text.len() <= 63 && inner(text, |b| matches!(b, b'-' | b'_' | b'.')))
}

/// A key in a Secret; it becomes the name of a file.
pub(crate) fn data_key(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text != "."
        && !text.starts_with("..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The tag of an image.
pub(crate) fn tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// An environment variable's name.
pub(crate) fn variable(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `30s`, `10m`, `4h`: whole, from 1 on.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let canonical = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    let count: u64 = canonical.then(|| digits.parse().ok())??;
    count.checked_mul(factor).map(Duration::from_secs)
}

/// How many seconds a time is, as settings of a node spell it: `1.5s`, `200ms`, `5m`, `30`; none when it is not one.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    number.is_finite().then_some(number * factor)
}

/// How much a quantity (`500m`, `4Gi`) is; none when it is not one.
pub(crate) fn quantity(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(digits)?;
    if number.is_empty() || text.len() > 64 {
        return None;
    }
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        other => 10f64.powi(other.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let number: f64 = number.parse().ok()?;
    (number * factor).is_finite().then_some(number * factor)
}

/// Labels as Kubernetes takes them.
pub(crate) fn labels(problems: &mut Problems, field: &str, labels: &StringMap) {
    keys(problems, field, labels);
    for (key, value) in labels {
        if !label_value(value) {
            let problem = "the value of a label has at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or digit";
            problems.say(format!("{field}[{key}]"), problem);
        }
    }
}

/// Keys of labels or annotations as Kubernetes takes them.
pub(crate) fn keys(problems: &mut Problems, field: &str, map: &StringMap) {
    for key in map.keys() {
        if !qualified(key) {
            let problem = "is no key of a label or annotation: write `name` or `domain/name`, the name with at most 63 letters, digits, '-', '_' and '.'";
            problems.say(format!("{field}[{key}]"), problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_kubernetes_takes_them() {
        for good in ["a", "a-b", "0", "a1"] {
            assert!(label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(!label(bad), "{bad}");
        }
        assert!(subdomain("a.b-c.d") && !subdomain("a..b") && !subdomain(".a"));
        assert!(host("*.example.org") && host("example.org") && !host("*"));
        for good in ["nvidia.com/gpu", "app", "a/B_c.d", "nvidia.com/mig-1g.10gb"] {
            assert!(qualified(good), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a/b/c", "-a", "A.B/c"] {
            assert!(!qualified(bad), "{bad}");
        }
        assert!(label_value("") && label_value("a_B.c") && !label_value("a b") && !label_value("-"));
        assert!(data_key("tls.crt") && !data_key("..") && !data_key("a/b") && !data_key(""));
        assert!(tag("0.1.0") && tag("_x") && !tag("a:b") && !tag("-a") && !tag(""));
        assert!(variable("A_1") && !variable("1A") && !variable("") && !variable("A-B"));
    }

    #[test]
    fn durations_and_quantities_are_read() {
        assert_eq!(duration("30m"), Some(Duration::from_secs(1800)));
        assert_eq!(duration("48h"), Some(Duration::from_secs(172_800)));
        for bad in ["", "s", "0s", "01s", "5", "5d", "-5s", "5 s", "99999999999999999999h", "ä", "5ä"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(seconds("200ms"), Some(0.2));
        assert_eq!((seconds("1.5 s"), seconds("30"), seconds("2min")), (Some(1.5), Some(30.0), Some(120.0)));
        assert_eq!((seconds("soon"), seconds(""), seconds("1d")), (None, None, None));
        assert_eq!(quantity("500m"), Some(0.5));
        assert_eq!(quantity("4Gi"), Some(4_294_967_296.0));
        assert_eq!(quantity("1e3"), Some(1000.0));
        assert_eq!(quantity("1.5"), Some(1.5));
        for bad in ["", "Gi", "4GB", "1e", "--1", "1e99999999999", "ä"] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
    }
}
