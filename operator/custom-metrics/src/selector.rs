//! Label selectors as Kubernetes writes them in queries: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.

/// Conditions that labels have to meet, all of them; none is met by all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    /// Met by labels without the key, too.
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// A selector cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the selector {text:?} cannot be read: {why}. It is written like a=b,c!=d,e in (f,g),h notin (i),j,!k"
)]
pub struct BadSelector {
    text: String,
    why: &'static str,
}

impl BadSelector {
    pub(crate) fn new(text: &str, why: &'static str) -> BadSelector {
        BadSelector { text: text.chars().filter(|c| !c.is_control()).take(200).collect(), why }
    }
}

/// A selector has at most so many conditions, and each at most so many values.
const MOST: usize = 64;
/// Kubernetes' own bounds of a label's key and value.
const KEY_BYTES: usize = 317;
const VALUE_BYTES: usize = 63;

impl Selector {
    /// Reads it; an empty text selects everything.
    ///
    /// # Errors
    /// It is not written as Kubernetes writes selectors, or compares numbers.
    pub fn parse(text: &str) -> Result<Selector, BadSelector> {
        let wrong = |why| BadSelector::new(text, why);
        let mut rest = text.trim();
        let mut all = Vec::new();
        while !rest.is_empty() {
            if all.len() == MOST {
                return Err(wrong("it has too many conditions"));
            }
            // A comma in brackets separates values, not conditions.
            let end = end_of_condition(rest).ok_or_else(|| wrong("a bracket is not closed"))?;
            let (condition, after) = rest.split_at(end);
            all.push(requirement(condition.trim()).map_err(wrong)?);
            rest = match after.strip_prefix(',') {
                Some(more) if more.trim().is_empty() => return Err(wrong("it ends with a comma")),
                Some(more) => more.trim_start(),
                None => "",
            };
        }
        Ok(Selector(all))
    }

    /// Whether labels meet it; `label` gives the value of a key.
    pub fn fits<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|Requirement { key, test }| match (test, label(key)) {
            (Test::In(values), Some(value)) => values.iter().any(|one| one == value),
            (Test::NotIn(values), Some(value)) => values.iter().all(|one| one != value),
            (Test::Exists, found) => found.is_some(),
            (Test::Absent, found) => found.is_none(),
            (Test::In(_), None) => false,
            (Test::NotIn(_), None) => true,
        })
    }
}

fn end_of_condition(text: &str) -> Option<usize> {
    let mut open = false;
    for (at, c) in text.char_indices() {
        match c {
            '(' => open = true,
            ')' => open = false,
            ',' if !open => return Some(at),
            _ => {}
        }
    }
    (!open).then_some(text.len())
}

fn requirement(text: &str) -> Result<Requirement, &'static str> {
    if let Some(key) = text.strip_prefix('!') {
        return made(key, Test::Absent);
    }
    if text.contains(['<', '>']) {
        return Err("numbers cannot be compared here");
    }
    if let Some((key, set)) = text.split_once('(') {
        let set = set.strip_suffix(')').ok_or("something follows a closing bracket")?;
        let values = set.split(',').map(value).collect::<Result<Vec<_>, _>>()?;
        if values.len() > MOST {
            return Err("it has too many values");
        }
        let (key, operator) = key
            .trim()
            .rsplit_once([' ', '\t'])
            .ok_or("before a bracket, a key and in or notin are needed")?;
        return match operator {
            "in" => made(key, Test::In(values)),
            "notin" => made(key, Test::NotIn(values)),
            _ => Err("before a bracket, in or notin is needed"),
        };
    }
    if let Some((key, one)) = text.split_once("!=") {
        return made(key, Test::NotIn(vec![value(one)?]));
    }
    if let Some((key, one)) = text.split_once('=') {
        return made(key, Test::In(vec![value(one.strip_prefix('=').unwrap_or(one))?]));
    }
    made(text, Test::Exists)
}

fn made(key: &str, test: Test) -> Result<Requirement, &'static str> {
    let key = key.trim();
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    if !(1..=KEY_BYTES).contains(&key.len()) || !key.bytes().all(inner) {
        return Err("a key is no key of a label");
    }
    Ok(Requirement { key: key.to_owned(), test })
}

fn value(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.len() > VALUE_BYTES || !text.bytes().all(inner) {
        return Err("a value is no value of a label");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector = Selector::parse(selector).unwrap();
        selector.fits(|key| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
    }

    #[test]
    fn selects_as_kubernetes_does() {
        let labels = [("a", "1"), ("sluice.dev/pool", "edge"), ("empty", "")];
        for (selector, expected) in [
            ("", true),
            ("a=1", true),
            ("a==1", true),
            ("a = 2", false),
            ("a!=1", false),
            ("a!=2", true),
            ("missing!=2", true),
            ("a in (1, 2)", true),
            ("a in (2,3)", false),
            ("missing in (1)", false),
            ("a notin (2,3)", true),
            ("a notin (1)", false),
            ("missing notin (1)", true),
            ("a", true),
            ("!a", false),
            ("!missing", true),
            ("missing", false),
            ("empty=", true),
            ("a=", false),
            ("sluice.dev/pool=edge,a in (1),!b", true),
            ("sluice.dev/pool=edge,a in (1),b", false),
        ] {
            assert_eq!(fits(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for wrong in [
            "=",
            "a in b",
            "a in (b",
            "a in (b) c",
            "a like (b)",
            "in (b)",
            "a=b,",
            ",",
            "a>1",
            "ü=1",
            "a=b c",
            "a b",
            "!",
        ] {
            assert!(Selector::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(Selector::parse(&"a,".repeat(65)).is_err());
        assert!(Selector::parse(&["a"; 64].join(",")).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,60}", words in proptest::collection::vec("[a-c(),=! ]|in|notin", 0..12)) {
            let _ = Selector::parse(&text);
            let _ = Selector::parse(&words.concat());
        }
    }
}
