//! What nodes say to each other about records: bodies of requests and answers, bounded, read without trust.
//!
//! - `POST /v1/replica/push`: records that have changed. The answer has those that the asked node knows more about, and says
//!   which it did not take.
//! - `POST /v1/replica/pull`: first the hashes of all parts of the records, answered with the parts that differ; then, page by
//!   page, names and hashes of what the asking node has of these parts, answered with the records that it lacks or has otherwise,
//!   and with the names of those that the asked node lacks. The asking node pushes these, so one pull serves both.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::index::{BUCKETS, Index};
use super::record::{BadRecord, RECORD_LIMIT, Record};

/// Where changed records are pushed to.
pub const PUSH: &str = "/v1/replica/push";

/// Where records are asked for.
pub const PULL: &str = "/v1/replica/pull";

/// Bytes of a body, at most.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// Bytes of the records in a body; the rest is for what is beside them.
const PAGE: usize = BODY_LIMIT - 256 * 1024;

/// Names that an answer says are lacking, at most; the next comparison finds the others.
const LACKS: usize = 512;

/// Names that a request for records tells at most: with the longest of names they fit into a body.
const HAVE: usize = 2048;

/// Records in a page.
const RECORDS: usize = 1024;

/// Bytes of a record's name, at most.
const NAME: usize = 400;

/// A record on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// What the sender knows of it.
    pub record: Record,
    /// For how many seconds the sender has known of its deletion. A duration, because clocks differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
}

/// A record that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its name, as far as it could be read.
    pub name: String,
    /// Why.
    pub reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Records<T> {
    records: Vec<T>,
}

/// The answer to a push.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pushed {
    /// What the asked node knows more about; a page at most, the others are found by the next pull.
    pub newer: Vec<Told>,
    /// What it did not take.
    pub refused: Vec<Refused>,
}

/// What a node asks of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Ask {
    /// Which parts differ?
    Parts {
        /// The hashes of all parts here.
        hashes: Vec<u64>,
    },
    /// What of these parts is not here, or is otherwise?
    Records {
        /// The parts.
        parts: Vec<u8>,
        /// Only names after this one.
        #[serde(default)]
        after: Option<String>,
        /// Only names up to this one.
        #[serde(default)]
        until: Option<String>,
        /// Names and hashes of all that there is here in that range.
        have: Vec<(String, u64)>,
    },
}

/// The answer to [`Ask::Parts`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// Those that differ.
    pub parts: Vec<u8>,
}

/// The answer to [`Ask::Records`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The records, by name.
    pub records: Vec<Told>,
    /// Up to which name this answer goes; nothing when it goes to the end of what was asked.
    #[serde(default)]
    pub next: Option<String>,
    /// What the asking node has and the asked one lacks, up to there; not all of it when it is much.
    #[serde(default)]
    pub lacks: Vec<String>,
}

/// An answer to [`Ask::Records`], as far as it can be read.
#[derive(Debug)]
pub struct ReadPage {
    /// The records, and what is wrong with others.
    pub records: Vec<ReadRecord>,
    /// As in [`Page`].
    pub next: Option<String>,
    /// As in [`Page`].
    pub lacks: Vec<String>,
}

/// Why a body cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// Larger than any body may be.
    #[error("the body has {0} bytes, and {BODY_LIMIT} are the most: send it in parts")]
    TooLarge(usize),
    /// Not what was expected there.
    #[error("the body cannot be read ({0}): do all nodes run the same release?")]
    Unreadable(String),
}

/// A record of a body, or what is wrong with it.
pub type ReadRecord = Result<Told, Refused>;

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, BadBody> {
    if body.len() > BODY_LIMIT {
        return Err(BadBody::TooLarge(body.len()));
    }
    serde_json::from_slice(body).map_err(|e| BadBody::Unreadable(e.to_string()))
}

fn told(value: Value) -> ReadRecord {
    let name = value
        .pointer("/record/name")
        .and_then(Value::as_str)
        .unwrap_or("a record")
        .chars()
        .take(NAME)
        .collect();
    serde_json::from_value::<Told>(value)
        .map_err(|e| BadRecord::Unreadable(e.to_string()))
        .and_then(|told| told.record.check().map(|()| told))
        .map_err(|e| Refused { name, reason: e.to_string() })
}

/// Reads the body of a push: each record, or why it is not taken.
///
/// # Errors
/// When nothing of it can be read.
pub fn read_push(body: &[u8]) -> Result<Vec<ReadRecord>, BadBody> {
    let Records { records } = read::<Records<Value>>(body)?;
    if records.len() > RECORDS {
        return Err(BadBody::Unreadable(format!("{} records in one body", records.len())));
    }
    Ok(records.into_iter().map(told).collect())
}

/// Reads the body of a pull.
///
/// # Errors
/// When it cannot be read, or asks for what there is not.
pub fn read_ask(body: &[u8]) -> Result<Ask, BadBody> {
    let ask: Ask = read(body)?;
    let wrong = |what: &str| Err(BadBody::Unreadable(what.into()));
    match &ask {
        Ask::Parts { hashes } if hashes.len() != BUCKETS => wrong("there is not one hash for each part"),
        Ask::Records { parts, .. } if parts.iter().collect::<HashSet<_>>().len() != parts.len() => {
            wrong("a part is named twice")
        }
        Ask::Records { have, .. } if have.len() > HAVE => wrong("too many names"),
        Ask::Records { after, until, .. } if after.iter().chain(until).any(|n| n.len() > NAME) => {
            wrong("a name is too long")
        }
        _ => Ok(ask),
    }
}

/// Reads the answer to a push: what the other node knows more about, and what it did not take.
///
/// # Errors
/// When nothing of it can be read.
pub fn read_pushed(body: &[u8]) -> Result<(Vec<ReadRecord>, Vec<Refused>), BadBody> {
    #[derive(Deserialize)]
    struct Lenient {
        newer: Vec<Value>,
        refused: Vec<Refused>,
    }
    let Lenient { mut newer, mut refused } = read(body)?;
    newer.truncate(RECORDS);
    refused.truncate(RECORDS);
    Ok((newer.into_iter().map(told).collect(), refused))
}

/// Reads the answer to [`Ask::Parts`].
///
/// # Errors
/// When it cannot be read.
pub fn read_parts(body: &[u8]) -> Result<Parts, BadBody> {
    read(body)
}

/// Reads the answer to [`Ask::Records`].
///
/// # Errors
/// When nothing of it can be read.
pub fn read_page(body: &[u8]) -> Result<ReadPage, BadBody> {
    #[derive(Deserialize)]
    struct Lenient {
        records: Vec<Value>,
        #[serde(default)]
        next: Option<String>,
        #[serde(default)]
        lacks: Vec<String>,
    }
    let Lenient { mut records, next, mut lacks } = read(body)?;
    records.truncate(RECORDS);
    lacks.truncate(LACKS);
    Ok(ReadPage { records: records.into_iter().map(told).collect(), next, lacks })
}

/// A body that has these records.
pub fn push_body(records: &[Told]) -> Vec<u8> {
    to_body(&Records { records: records.iter().collect() })
}

/// A body that asks this.
pub fn ask_body(ask: &Ask) -> Vec<u8> {
    to_body(ask)
}

/// Any of the above as a body.
pub(super) fn to_body<T: Serialize>(message: &T) -> Vec<u8> {
    // Text keys, text, numbers: they always have a JSON text.
    serde_json::to_vec(message).unwrap_or_default()
}

/// Takes records until a page is full.
#[derive(Debug, Default)]
pub(super) struct Filling {
    records: Vec<Told>,
    bytes: usize,
}

impl Filling {
    /// Takes one of which `bytes` are the record's, or not, when the page is full. The first always fits.
    pub(super) fn take(&mut self, told: Told, bytes: usize) -> bool {
        const AROUND: usize = 48;
        debug_assert!(bytes <= RECORD_LIMIT);
        if !self.records.is_empty() && (self.bytes + bytes + AROUND > PAGE || self.records.len() >= RECORDS) {
            return false;
        }
        self.bytes += bytes + AROUND;
        self.records.push(told);
        true
    }

    pub(super) fn into_records(self) -> Vec<Told> {
        self.records
    }
}

/// The parts that differ.
pub(super) fn differing(index: &Index, hashes: &[u64]) -> Parts {
    let ours = index.hashes();
    let parts = (0..=u8::MAX).filter(|i| ours.get(usize::from(*i)) != hashes.get(usize::from(*i)));
    Parts { parts: parts.collect() }
}

/// Asks for what is not here of these parts, from a name on.
pub(super) fn ask_records(index: &Index, parts: &[u8], after: Option<&str>) -> Ask {
    let have = index.range(parts, after, None, HAVE);
    let until = (have.len() == HAVE).then(|| have.last().map(|(name, _)| name.clone())).flatten();
    Ask::Records { parts: parts.to_vec(), after: after.map(str::to_owned), until, have }
}

/// The names of the records that somebody lacks or has otherwise, by name, and up to which name these are all: nothing when
/// they are all that was asked for.
pub(super) fn wanted(
    index: &Index,
    parts: &[u8],
    after: Option<&str>,
    until: Option<&str>,
    have: &[(String, u64)],
) -> (Vec<String>, Option<String>) {
    // So many are looked at, for the case that nearly all are the same.
    const LOOKED_AT: usize = 8 * HAVE;
    let have: HashMap<&str, u64> = have.iter().map(|(name, hash)| (name.as_str(), *hash)).collect();
    let range = index.range(parts, after, until, LOOKED_AT);
    let mut end = (range.len() == LOOKED_AT).then(|| range.last().map(|(name, _)| name.clone())).flatten();
    let mut names = Vec::new();
    for (name, hash) in range {
        if have.get(name.as_str()) == Some(&hash) {
            continue;
        }
        names.push(name);
        if names.len() == RECORDS {
            end = names.last().cloned();
            break;
        }
    }
    (names, end)
}

/// Which of the names that somebody has, up to `end`, are not here.
pub(super) fn lacking(index: &Index, have: &[(String, u64)], end: Option<&str>) -> Vec<String> {
    let names = have.iter().map(|(name, _)| name);
    let lacking = names.filter(|name| end.is_none_or(|end| name.as_str() <= end) && !index.has(name));
    lacking.take(LACKS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::member::{BootId, NodeId};
    use crate::replica::stamp::Clock;

    fn record(name: &str) -> Record {
        let mut r = Record::new(name.parse().expect("a name"));
        r.create(vec![("hlsTime".into(), Some("4".into()))], &Clock::new(NodeId::new("n"), BootId(1)));
        r
    }

    fn told_of(bytes: usize) -> Told {
        let mut large = record("app/large");
        large.fields.values_mut().for_each(|f| f.value = "x".repeat(bytes).into());
        Told { record: large, age: Some(u64::MAX) }
    }

    #[test]
    fn one_bad_record_does_not_block_the_others() {
        let good = Told { record: record("app/a"), age: None };
        let body = json!({"records": [
            good, 7, {"record": {"name": "app/rest", "alive": true}}, {"record": {"name": "app/b", "alive": false}}, good,
        ]});
        let read = read_push(&to_body(&body)).expect("a body");
        assert_eq!(read.len(), 5);
        assert_eq!((&read[0], &read[4]), (&Ok(good.clone()), &Ok(good.clone())));
        for (i, name) in [(1, "a record"), (2, "app/rest"), (3, "app/b")] {
            assert_eq!(read[i].as_ref().expect_err("bad").name, name);
        }
        assert_eq!(read_push(&push_body(std::slice::from_ref(&good))).expect("a body"), [Ok(good)]);
    }

    #[test]
    fn bodies_are_bounded() {
        assert!(matches!(read_push(&vec![b' '; BODY_LIMIT + 1]), Err(BadBody::TooLarge(_))));
        assert!(read_push(&to_body(&json!({"records": vec![0; RECORDS + 1]}))).is_err());
        assert!(read_push(b"[[[").is_err() && read_push("[".repeat(100_000).as_bytes()).is_err());
        let ask = |v: Value| read_ask(&to_body(&v));
        assert!(ask(json!({"ask": "parts", "hashes": [1, 2]})).is_err());
        assert!(ask(json!({"ask": "parts", "hashes": vec![u64::MAX; BUCKETS]})).is_ok());
        assert!(ask(json!({"ask": "records", "parts": [1, 1], "have": []})).is_err());
        assert!(ask(json!({"ask": "records", "parts": [1], "have": vec![("n", 1); HAVE + 1]})).is_err());
        assert!(
            ask(json!({"ask": "records", "parts": [1], "have": [], "after": "x".repeat(NAME + 1)})).is_err()
        );
        assert!(ask(json!({"ask": "records", "parts": [1], "have": []})).is_ok());
        assert!(ask(json!({"ask": "everything"})).is_err());
        let longest = format!("broadcast/{}/{}", "a".repeat(100), "b".repeat(255));
        let mut index = Index::new();
        for i in 0..HAVE {
            index.set(&format!("{}{i:04}", &longest[..longest.len() - 4]), Some(u64::MAX - i as u64));
        }
        let parts: Vec<u8> = (0..=255).collect();
        let body = to_body(&ask_records(&index, &parts, Some(&"a".repeat(NAME))));
        assert!(read_ask(&body).is_ok(), "{} bytes", body.len());
    }

    #[test]
    fn a_page_is_never_too_large() {
        let mut filling = Filling::default();
        let told = told_of(RECORD_LIMIT - 400);
        let bytes = told.record.to_text().expect("not too large").len();
        let mut taken = 0;
        while filling.take(told.clone(), bytes) {
            taken += 1;
        }
        let body = push_body(&filling.into_records());
        assert!(taken == 1 && body.len() <= BODY_LIMIT, "{taken}, {}", body.len());
        let mut filling = Filling::default();
        let told = Told { record: record("app/small"), age: Some(u64::MAX) };
        let bytes = told.record.to_text().expect("small").len();
        while filling.take(told.clone(), bytes) {}
        let records = filling.into_records();
        assert_eq!(records.len(), RECORDS);
        let page = Page { records, next: Some("x".repeat(NAME)), lacks: vec!["x".repeat(NAME); LACKS] };
        assert_eq!(read_page(&to_body(&page)).expect("its own").records.len(), RECORDS);
        let large = Page { records: vec![told_of(RECORD_LIMIT - 400)], ..page };
        let read = read_page(&to_body(&large)).expect("its own");
        assert_eq!((read.records.len(), read.lacks.len()), (1, LACKS));
    }

    /// Two nodes compare with bounded messages until one has all that the other has.
    fn pulled(asking: &mut Index, asked: &Index) -> usize {
        let (mut requests, mut after) = (1, None::<String>);
        let Parts { parts } = differing(asked, &asking.hashes());
        if parts.is_empty() {
            return requests;
        }
        loop {
            requests += 1;
            let body = to_body(&ask_records(asking, &parts, after.as_deref()));
            let Ok(Ask::Records { parts, after: from, until, have }) = read_ask(&body) else {
                panic!("its own ask")
            };
            let (names, end) = wanted(asked, &parts, from.as_deref(), until.as_deref(), &have);
            for name in &names {
                asking.set(name, asked.get(name));
            }
            let next = end.or(until);
            assert!(next.is_none() || next > after, "it goes on");
            after = next;
            if after.is_none() {
                return requests;
            }
        }
    }

    #[test]
    fn thousands_are_compared_in_few_requests() {
        let (mut a, mut b) = (Index::new(), Index::new());
        for i in 0..20_000u64 {
            b.set(&format!("broadcast/a/{i}"), Some(i + 1));
        }
        let first = pulled(&mut a, &b);
        assert_eq!((a.hashes(), first <= 40), (b.hashes(), true), "{first} requests");
        assert_eq!(pulled(&mut a, &b), 1);
        b.set("broadcast/a/7", Some(1234));
        assert_eq!((pulled(&mut a, &b), a.hashes()), (2, b.hashes()));
    }

    #[test]
    fn what_is_lacking_is_said_and_bounded() {
        let mut index = Index::new();
        index.set("app/b", Some(7));
        let have: Vec<_> =
            ["app/a", "app/b", "app/c", "app/d"].iter().map(|n| ((*n).to_owned(), 1)).collect();
        assert_eq!(lacking(&index, &have, None), ["app/a", "app/c", "app/d"]);
        assert_eq!(lacking(&index, &have, Some("app/c")), ["app/a", "app/c"]);
        assert_eq!(lacking(&index, &vec![("app/e".to_owned(), 1); HAVE], None).len(), LACKS);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn nothing_is_left_out(
            both in proptest::collection::vec((0..5000u16, 1..9u64), 0..3000),
            only in proptest::collection::vec((0..5000u16, 1..9u64), 0..3000),
        ) {
            let (mut a, mut b) = (Index::new(), Index::new());
            for (i, hash) in &both {
                a.set(&format!("app/{i}"), Some(*hash));
                b.set(&format!("app/{i}"), Some(*hash));
            }
            for (i, hash) in &only {
                b.set(&format!("app/{i}"), Some(*hash));
            }
            pulled(&mut a, &b);
            prop_assert_eq!(a.hashes(), b.hashes());
        }

        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (read_push(&body), read_ask(&body), read_pushed(&body), read_page(&body), read_parts(&body));
        }
    }
}
