//! One shared record: what is known of it, and how what two nodes know becomes one.
//!
//! A record has lives: the first, and a new one each time that it is created after a deletion. A later deletion ends every
//! life before it, whatever was changed in it. Within a life each field stands for itself, so that two nodes that change
//! different fields at once lose nothing: the field's larger [`Stamp`] stands. Joining is associative, commutative and
//! idempotent; so all nodes end with the same, in whatever order and however often they hear of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::name::Name;
use super::stamp::{COUNTER_LIMIT, Clock, Stamp};
use crate::member::NodeId;

/// Bytes of a record as JSON, at most.
pub const RECORD_LIMIT: usize = 512 * 1024;

/// Fields of a record, at most.
const FIELDS: usize = 4096;

/// Nodes of which a record remembers that their changes are in it; the ones that were heard of longest ago are
/// forgotten, and then a change may be called a conflict that was none.
const SEEN: usize = 64;

/// Conflicts that a record remembers, so that every node can tell of them: the newest.
const CONFLICTS: usize = 8;

/// The value of a field, and the change that made it so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// The value.
    #[serde(rename = "v", default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// The field was removed.
    #[serde(rename = "gone", default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// The change.
    #[serde(rename = "s")]
    pub stamp: Stamp,
}

/// Two nodes set one field to different values and did not know of each other. Sorted by the newest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Conflict {
    /// The change that stands.
    pub kept: Stamp,
    /// The change that does not.
    pub dropped: Stamp,
    /// The field.
    pub key: String,
}

/// What is known of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which record.
    pub name: Name,
    /// The newest deletion: the life is the one after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Stamp>,
    /// Whether it was created in this life. If not, this is all that is left of it.
    pub alive: bool,
    /// The fields that are not as they are by default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Field>,
    /// Of each node, up to which counter its changes in this life are known here. Tells what was changed at once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<NodeId, u64>,
    /// What was changed at once.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub conflicts: BTreeSet<Conflict>,
}

/// Why a record of another node is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Not a record at all.
    #[error("the record cannot be read ({0}): do all nodes run the same release?")]
    Unreadable(String),
    /// More of something than a record may have.
    #[error("{name} has {count} {what}, and {limit} are the most: make it smaller")]
    TooMuch {
        /// Which record.
        name: String,
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
    /// It contradicts itself.
    #[error("{name} {why}: do all nodes run the same release?")]
    Wrong {
        /// Which record.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A value that is not shared.
    #[error("{0} belongs to one node alone: only the values that this node shares as well are taken")]
    NotShared(String),
    /// There are too many records here.
    #[error("{0} is one record too many: this node keeps {1} at most, delete some")]
    Full(String, usize),
}

/// What joining has changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    /// This record is not what it was.
    pub changed: bool,
    /// A life ended in which there were changes that the deletion cannot have known of.
    pub lost_changes: bool,
    /// Conflicts that were not known here.
    pub conflicts: Vec<Conflict>,
}

/// Changes of fields: the new value, `None` for a field that is removed.
pub type Changes = Vec<(String, Option<Value>)>;

impl Record {
    /// A record that was created here, in its first life.
    pub fn new(name: Name) -> Self {
        Record {
            name,
            deleted: None,
            alive: false,
            fields: BTreeMap::new(),
            seen: BTreeMap::new(),
            conflicts: BTreeSet::new(),
        }
    }

    /// It was created here with these fields.
    pub fn create(&mut self, fields: Changes, clock: &Clock) {
        self.alive = true;
        self.set(fields, &clock.birth());
    }

    /// Some of its fields were changed here.
    pub fn change(&mut self, fields: Changes, clock: &Clock) {
        if !fields.is_empty() {
            self.set(fields, &clock.next());
        }
    }

    fn set(&mut self, fields: Changes, stamp: &Stamp) {
        for (key, value) in fields {
            let gone = value.is_none();
            let field = Field { value: value.unwrap_or_default(), gone, stamp: stamp.clone() };
            self.fields.insert(key, field);
        }
        let seen = self.seen.entry(stamp.node().clone()).or_default();
        *seen = stamp.counter().max(*seen);
        self.bound();
    }

    /// It was deleted here.
    pub fn delete(&mut self, clock: &Clock) {
        *self = Record { deleted: Some(clock.next()), ..Record::new(self.name.clone()) };
    }

    /// Takes over what another node knows of the same record. `quiet` says of which fields conflicts do not matter.
    pub fn join(&mut self, other: &Record, quiet: impl Fn(&str) -> bool) -> Joined {
        if self.deleted != other.deleted {
            if self.deleted > other.deleted {
                return Joined::default();
            }
            let deletion = other.deleted.as_ref().map_or(0, Stamp::counter);
            let lost_changes = self.alive && self.newest() > deletion;
            let conflicts = other.conflicts.iter().cloned().collect();
            *self = other.clone();
            return Joined { changed: true, lost_changes, conflicts };
        }
        let before = (self.hash(), self.conflicts.clone());
        self.alive |= other.alive;
        for (key, theirs) in &other.fields {
            let Some(ours) = self.fields.get_mut(key) else {
                self.fields.insert(key.clone(), theirs.clone());
                continue;
            };
            if ours.stamp == theirs.stamp {
                continue;
            }
            let theirs_stands = theirs.stamp > ours.stamp;
            let (kept, dropped, knew) =
                if theirs_stands { (theirs, &*ours, &other.seen) } else { (&*ours, theirs, &self.seen) };
            let knew_it = knew.get(dropped.stamp.node()).is_some_and(|c| *c >= dropped.stamp.counter());
            let was_default = dropped.stamp.counter() == 0 && kept.stamp.counter() > 0;
            if !knew_it
                && !was_default
                && (&kept.value, kept.gone) != (&dropped.value, dropped.gone)
                && !quiet(key)
            {
                self.conflicts.insert(Conflict {
                    kept: kept.stamp.clone(),
                    dropped: dropped.stamp.clone(),
                    key: key.clone(),
                });
            }
            if theirs_stands {
                *ours = theirs.clone();
            }
        }
        for (node, counter) in &other.seen {
            let seen = self.seen.entry(node.clone()).or_default();
            *seen = (*seen).max(*counter);
        }
        self.conflicts.extend(other.conflicts.iter().cloned());
        self.bound();
        Joined {
            changed: self.hash() != before.0,
            lost_changes: false,
            conflicts: self.conflicts.difference(&before.1).cloned().collect(),
        }
    }

    /// Keeps the largest of what only grows. The largest of all are the largest of the largest of each, so joining stays
    /// what it is.
    fn bound(&mut self) {
        while self.seen.len() > SEEN {
            let oldest = self.seen.iter().min_by_key(|(node, counter)| (**counter, (*node).clone()));
            let Some(oldest) = oldest.map(|(node, _)| node.clone()) else { break };
            self.seen.remove(&oldest);
        }
        while self.conflicts.len() > CONFLICTS {
            self.conflicts.pop_first();
        }
    }

    /// The largest counter in it.
    pub fn newest(&self) -> u64 {
        let fields = self.fields.values().map(|f| f.stamp.counter());
        let deleted = self.deleted.iter().map(Stamp::counter);
        fields.chain(deleted).chain(self.seen.values().copied()).max().unwrap_or(0)
    }

    /// Tells apart any two states of records. Values are not looked at: the same change has the same value.
    pub fn hash(&self) -> u64 {
        let fields: Vec<_> = self.fields.iter().map(|(key, f)| (key, &f.stamp)).collect();
        let state = (&self.name, &self.deleted, self.alive, fields, &self.seen, &self.conflicts);
        // Strings, numbers and lists of them always have a JSON text.
        let text = serde_json::to_vec(&state).unwrap_or_default();
        let digest: [u8; 32] = Sha256::digest(text).into();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_le_bytes(first)
    }

    /// As JSON.
    ///
    /// # Errors
    /// When it is larger than a record may be.
    pub fn to_text(&self) -> Result<String, BadRecord> {
        let text = serde_json::to_string(self).map_err(|e| BadRecord::Unreadable(e.to_string()))?;
        if text.len() > RECORD_LIMIT {
            return Err(self.too_much("bytes", text.len(), RECORD_LIMIT));
        }
        Ok(text)
    }

    fn too_much(&self, what: &'static str, count: usize, limit: usize) -> BadRecord {
        BadRecord::TooMuch { name: self.name.to_text(), what, count, limit }
    }

    /// Whether a record of another node keeps to what joining relies on.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), BadRecord> {
        for (what, count, limit) in [
            ("fields", self.fields.len(), FIELDS),
            ("nodes", self.seen.len(), SEEN),
            ("conflicts", self.conflicts.len(), CONFLICTS),
        ] {
            if count > limit {
                return Err(self.too_much(what, count, limit));
            }
        }
        let wrong = |why: &str| Err(BadRecord::Wrong { name: self.name.to_text(), why: why.into() });
        if !self.alive && self.deleted.is_none() {
            return wrong("neither exists nor was deleted");
        }
        if !self.alive && !self.fields.is_empty() {
            return wrong("was deleted and has fields");
        }
        if self.newest() > COUNTER_LIMIT {
            return wrong("has a counter that is too large");
        }
        let conflicts = self.conflicts.iter().flat_map(|c| [&c.kept, &c.dropped]);
        let stamps = self.fields.values().map(|f| &f.stamp).chain(&self.deleted).chain(conflicts);
        let mut nodes = stamps.map(Stamp::node).chain(self.seen.keys());
        if nodes.any(|n| n.as_str().is_empty() || n.as_str().len() > 255) {
            return wrong("has a node whose name is empty or longer than 255 bytes");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::member::BootId;

    fn clock(node: &str) -> Clock {
        Clock::new(NodeId::new(node), BootId(1))
    }

    fn app() -> Record {
        Record::new("app/a".parse().expect("a name"))
    }

    fn set(key: &str, value: impl Into<Value>) -> Changes {
        vec![(key.into(), Some(value.into()))]
    }

    fn joined(a: &Record, b: &Record) -> Record {
        let mut a = a.clone();
        a.join(b, |_| false);
        a
    }

    #[test]
    fn different_fields_at_once_are_both_kept() {
        let (c1, c2) = (clock("n1"), clock("n2"));
        let mut one = app();
        one.create(set("x", 0), &c1);
        let mut two = one.clone();
        one.change(set("x", 1), &c1);
        two.change(set("y", 2), &c2);
        let both = joined(&one, &two);
        assert_eq!((&both.fields["x"].value, &both.fields["y"].value), (&json!(1), &json!(2)));
        assert!(both.conflicts.is_empty());
        assert_eq!(both, joined(&two, &one));
    }

    #[test]
    fn one_field_at_once_is_a_conflict_that_everybody_hears_of() {
        let (c1, c2) = (clock("n1"), clock("n2"));
        let mut one = app();
        one.create(set("x", 0), &c1);
        let (mut two, mut three) = (one.clone(), one.clone());
        one.change(set("x", 1), &c1);
        two.change(set("x", 2), &c2);
        let told = one.join(&two, |_| false);
        assert_eq!((told.conflicts.len(), &one.fields["x"].value), (1, &json!(2)));
        assert_eq!(told.conflicts[0].dropped.node().as_str(), "n1");
        // A third one that hears only of the outcome.
        assert_eq!(three.join(&one, |_| false).conflicts, told.conflicts);
        assert!(two.join(&one, |_| false).changed);
        assert_eq!(one, two);
        assert!(one.join(&two, |_| false) == Joined::default());
        // Now that it is known, a change of it is none.
        c1.saw(one.newest());
        let mut next = one.clone();
        next.change(set("x", 3), &c1);
        assert!(two.join(&next, |_| false).conflicts.is_empty());
        assert_eq!(two.fields["x"].value, 3);
    }

    #[test]
    fn a_chain_of_changes_is_no_conflict() {
        let c1 = clock("n1");
        let mut one = app();
        one.create(set("x", 0), &c1);
        one.change(set("x", 1), &c1);
        let mut behind = one.clone();
        for value in 2..9 {
            one.change(set("x", value), &c1);
        }
        assert!(behind.join(&one, |_| false).conflicts.is_empty());
        assert_eq!(behind, one);
    }

    #[test]
    fn what_a_new_node_was_created_with_gives_way_to_changes() {
        let (c1, c9) = (clock("n1"), clock("n9"));
        let mut old = app();
        old.create(set("x", 0), &c1);
        old.change(set("x", 5), &c1);
        let mut fresh = app();
        for _ in 0..10 {
            c9.next();
        }
        fresh.create(set("x", 0), &c9);
        let told = fresh.join(&old, |_| false);
        assert_eq!((&fresh.fields["x"].value, told.conflicts), (&json!(5), vec![]));
    }

    #[test]
    fn a_deletion_ends_stale_creations_and_a_later_creation_lives() {
        let (c1, c2) = (clock("n1"), clock("n2"));
        let mut one = app();
        one.create(set("x", 0), &c1);
        let mut stale = one.clone();
        one.delete(&c1);
        stale.change(set("x", 7), &c2);
        stale.change(set("x", 8), &c2);
        let told = stale.join(&one, |_| false);
        assert!(told.changed && told.lost_changes && !stale.alive && stale.fields.is_empty());
        stale.create(set("x", 9), &c2);
        let told = one.join(&stale, |_| false);
        assert!(one.alive && told.changed && one.fields["x"].value == 9);
    }

    #[test]
    fn a_record_survives_json_and_a_bad_one_is_refused() {
        let c1 = clock("n1");
        let mut r = app();
        r.create(vec![("x".into(), Some(Value::Null)), ("y".into(), None)], &c1);
        r.change(set("z", "ü"), &c1);
        let back: Record = serde_json::from_str(&r.to_text().expect("small")).expect("its own text");
        assert_eq!((&back, back.hash()), (&r, r.hash()));
        assert_eq!(r.check(), Ok(()));
        assert!(app().check().is_err(), "neither alive nor deleted");
        let mut bad = r.clone();
        bad.alive = false;
        bad.deleted = Some(c1.next());
        assert!(bad.check().is_err(), "deleted, with fields");
        let mut bad = r.clone();
        bad.seen.insert(NodeId::new("n2"), u64::MAX);
        assert!(bad.check().is_err());
        let mut bad = r.clone();
        bad.seen = (0..=SEEN).map(|i| (NodeId::new(format!("m{i}")), 1)).collect();
        assert!(bad.check().is_err());
        let mut large = r;
        large.change(set("x", "x".repeat(RECORD_LIMIT)), &c1);
        assert!(matches!(large.to_text(), Err(BadRecord::TooMuch { .. })));
    }

    /// What a node does in a run of the property test.
    #[derive(Clone, Debug)]
    enum Op {
        Create(usize, u8),
        Change(usize, u8, u8),
        Delete(usize),
        Tell(usize, usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let node = 0..4usize;
        prop_oneof![
            (node.clone(), any::<u8>()).prop_map(|(n, v)| Op::Create(n, v)),
            (node.clone(), 0..3u8, any::<u8>()).prop_map(|(n, k, v)| Op::Change(n, k, v)),
            (node.clone(), 0..3u8, any::<u8>()).prop_map(|(n, k, v)| Op::Change(n, k, v)),
            node.clone().prop_map(Op::Delete),
            (node.clone(), node).prop_map(|(a, b)| Op::Tell(a, b)),
        ]
    }

    fn play(ops: &[Op]) -> Vec<Record> {
        let clocks: Vec<Clock> = (0..4).map(|n| clock(&format!("n{n}"))).collect();
        let mut all = vec![app(); 4];
        for op in ops {
            match *op {
                Op::Create(n, v) if !all[n].alive => all[n].create(set("k0", v), &clocks[n]),
                Op::Change(n, k, v) if all[n].alive => all[n].change(set(&format!("k{k}"), v), &clocks[n]),
                Op::Delete(n) if all[n].alive => all[n].delete(&clocks[n]),
                Op::Tell(a, b) if a != b => {
                    let told = all[a].clone();
                    clocks[b].saw(told.newest());
                    all[b].join(&told, |_| false);
                }
                _ => {}
            }
        }
        all
    }

    /// Without what may differ by the way on which it was heard of.
    fn bare(mut r: Record) -> Record {
        r.conflicts.clear();
        r
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn joining_is_a_join(ops in proptest::collection::vec(op(), 0..60)) {
            let all = play(&ops);
            for a in &all {
                prop_assert_eq!(&joined(a, a), a);
                for b in &all {
                    prop_assert_eq!(joined(a, b), joined(b, a));
                    for c in &all {
                        prop_assert_eq!(
                            bare(joined(&joined(a, b), c)), bare(joined(a, &joined(b, c)))
                        );
                    }
                }
            }
        }

        #[test]
        fn everybody_ends_with_the_same(ops in proptest::collection::vec(op(), 0..60)) {
            let mut all = play(&ops);
            for _ in 0..2 {
                for a in 0..4 {
                    for b in 0..4 {
                        let told = all[a].clone();
                        all[b].join(&told, |_| false);
                    }
                }
            }
            for r in &all {
                prop_assert_eq!(r, &all[0]);
                prop_assert_eq!(r.hash(), all[0].hash());
            }
        }
    }
}
