//! What this node has, in short: a hash for each record, kept in memory, so that two nodes find with a few kilobytes where
//! they differ.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Parts of all records; a record's name tells its part.
pub(super) const BUCKETS: usize = 256;

/// The hash of each record by its name, and of each part of them.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Vec<Bucket>,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    /// All hashes of the part, exclusive or.
    hash: u64,
    records: BTreeMap<Box<str>, u64>,
}

/// In which part a record is: FNV-1a over its name, folded.
pub(super) fn bucket_of(name: &str) -> u8 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    hash.to_le_bytes().into_iter().fold(0, |a, b| a ^ b)
}

impl Index {
    pub(super) fn new() -> Self {
        Index { buckets: vec![Bucket::default(); BUCKETS] }
    }

    /// Whether something is known of a record.
    pub(super) fn has(&self, name: &str) -> bool {
        self.buckets[usize::from(bucket_of(name))].records.contains_key(name)
    }

    /// How many records there are, deleted ones included.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|b| b.records.len()).sum()
    }

    #[cfg(test)]
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.buckets[usize::from(bucket_of(name))].records.get(name).copied()
    }

    /// Notes a record's hash, `None` for one that is forgotten.
    pub(super) fn set(&mut self, name: &str, hash: Option<u64>) {
        let bucket = &mut self.buckets[usize::from(bucket_of(name))];
        let before = match hash {
            Some(hash) => bucket.records.insert(name.into(), hash),
            None => bucket.records.remove(name),
        };
        bucket.hash ^= before.unwrap_or(0) ^ hash.unwrap_or(0);
    }

    /// The hashes of all parts.
    pub(super) fn hashes(&self) -> Vec<u64> {
        self.buckets.iter().map(|b| b.hash).collect()
    }

    /// The records of some parts that come after a name and not after another, by name, `limit` at most.
    pub(super) fn range(
        &self,
        buckets: &[u8],
        after: Option<&str>,
        until: Option<&str>,
        limit: usize,
    ) -> Vec<(String, u64)> {
        if after.zip(until).is_some_and(|(after, until)| after >= until) {
            return Vec::new();
        }
        let bounds = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            until.map_or(Bound::Unbounded, Bound::Included),
        );
        let mut some = Vec::new();
        for bucket in buckets {
            let records = self.buckets[usize::from(*bucket)].records.range::<str, _>(bounds);
            // Of each no more than could be wanted if all came first.
            some.extend(records.take(limit).map(|(name, hash)| (name.to_string(), *hash)));
        }
        some.sort_unstable();
        some.truncate(limit);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_differ_exactly_where_records_do() {
        let (mut a, mut b) = (Index::new(), Index::new());
        for i in 0..1000 {
            a.set(&format!("r{i}"), Some(i * 77 + 1));
            b.set(&format!("r{}", 999 - i), Some((999 - i) * 77 + 1));
        }
        assert_eq!((a.hashes(), a.len()), (b.hashes(), 1000));
        a.set("r5", Some(1));
        let differing: Vec<_> = (0..BUCKETS).filter(|i| a.hashes()[*i] != b.hashes()[*i]).collect();
        assert_eq!(differing, [usize::from(bucket_of("r5"))]);
        a.set("r5", None);
        b.set("r5", None);
        a.set("r5", None);
        assert_eq!((a.hashes(), a.get("r5"), a.get("r6")), (b.hashes(), None, Some(463)));
        let used = a.buckets.iter().filter(|b| !b.records.is_empty()).count();
        assert!(used > 200, "names are spread over the parts, not over {used}");
    }

    #[test]
    fn ranges_are_by_name_and_bounded() {
        let mut a = Index::new();
        for name in ["a", "b", "c", "d", "e"] {
            a.set(name, Some(1));
        }
        let all: Vec<u8> = (0..=255).collect();
        let names = |after, until, limit| {
            a.range(&all, after, until, limit).into_iter().map(|(n, _)| n).collect::<String>()
        };
        assert_eq!(names(None, None, 9), "abcde");
        assert_eq!(names(Some("b"), Some("d"), 9), "cd");
        assert_eq!(names(Some("b"), None, 2), "cd");
        assert_eq!(names(Some("b"), Some("b"), 9), "");
        assert_eq!(names(Some("d"), Some("a"), 9), "");
        assert_eq!(
            a.range(&[bucket_of("c")], None, None, 9).len(),
            1 + usize::from(bucket_of("c") == bucket_of("a"))
        );
    }
}
