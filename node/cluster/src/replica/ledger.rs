//! What a node does with shared records inside one transaction of its store: the record itself, the note about it (see
//! [`record`](super::record)) and the index go together.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sluice_store::{Broadcast, Note, StoreError, Transaction};
use tokio::sync::Notify;

use super::exchange::{Filling, ReadRecord, Refused, Told};
use super::index::Index;
use super::name::Name;
use super::record::{BadRecord, Changes, Conflict, Record};
use super::shape;
use super::stamp::Clock;

/// Records at most, deleted ones included; beyond that none is taken from others.
const RECORDS: usize = 1_000_000;

/// What is known of a deletion is kept for this long (ms). A node that was away for longer may bring back what was deleted.
pub(super) const DELETED_KEPT_MS: i64 = 7 * 24 * 3600 * 1000;

/// A deletion of something unknown is not taken any more when it is this old (s): else two nodes would tell each other for
/// ever, one forgetting it just before the other. An hour for the difference.
const DELETED_TAKEN_S: u64 = 7 * 24 * 3600 - 3600;

/// Deletions kept, at most.
pub(super) const DELETED_KEPT: u32 = 100_000;

/// The value under which the clock is kept where no record has its counter any more.
const CLOCK_KEY: &str = "replica_clock";

/// What all calls share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) clock: Clock,
    /// The values that all nodes have in common.
    pub(super) values: BTreeSet<String>,
    pub(super) index: Mutex<Index>,
    /// Names of records that were changed here and have not been told.
    pub(super) untold: Mutex<BTreeSet<String>>,
    pub(super) told: Notify,
    /// A change may have been noted in the index and not been stored.
    pub(super) doubtful: AtomicBool,
}

impl Core {
    pub(super) fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_untold(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What came of a record of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    BroadcastCreated(String, String),
    BroadcastDeleted(String, String),
    AppDeleted(String),
    /// Two nodes changed it at once.
    Conflict(Name, Conflict),
    /// It was deleted elsewhere, and changed here without knowing.
    LostChanges(Name),
    /// Settings that cannot be used as they are.
    Unusable(Name, Vec<&'static str>),
}

/// What came of the records of another node.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// How many told something new.
    pub(super) news: usize,
    pub(super) effects: Vec<Effect>,
    /// What the other does not know yet.
    pub(super) newer: Vec<Told>,
    pub(super) refused: Vec<Refused>,
}

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why a record of another node was not taken over.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Bad(#[from] BadRecord),
    /// Nothing can be taken over now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The shared records within one transaction.
pub(super) struct Ledger<'t> {
    t: &'t Transaction<'t>,
    core: &'t Arc<Core>,
    now: i64,
    touched: Vec<(String, Option<u64>)>,
    untold: Vec<String>,
}

impl<'t> Ledger<'t> {
    pub(super) fn new(t: &'t Transaction<'t>, core: &'t Arc<Core>, now: i64) -> Self {
        Ledger { t, core, now, touched: Vec::new(), untold: Vec::new() }
    }

    /// At the end of the transaction, on the store's thread: so the index follows in the order of the changes.
    pub(super) fn finish(self) {
        let mut index = self.core.index();
        for (name, hash) in self.touched {
            index.set(&name, hash);
        }
        drop(index);
        if !self.untold.is_empty() {
            self.core.untold.lock().unwrap_or_else(PoisonError::into_inner).extend(self.untold);
            self.core.told.notify_one();
        }
    }

    fn find(&self, name: &str) -> Result<Option<(Record, Note)>> {
        let Some(note) = self.t.note(name)? else { return Ok(None) };
        match read_note(name, &note) {
            Ok(record) => Ok(Some((record, note))),
            Err(e) => {
                // As if nothing was known: the others know.
                tracing::warn!(record = name, error = %e, "what is noted about a record cannot be read; it is made anew");
                Ok(None)
            }
        }
    }

    fn keep(&mut self, record: &Record, deleted_at: Option<i64>) -> Result<(), StoreError> {
        let text = record
            .check()
            .and_then(|()| record.to_text())
            .map_err(|e| StoreError::Engine { what: "share a record", detail: e.to_string() })?;
        let name = record.name.to_text();
        self.t.put_note(&name, &Note { text, deleted_at })?;
        self.touched.push((name, Some(record.hash())));
        Ok(())
    }

    fn keep_own(&mut self, record: &Record) -> Result<()> {
        self.untold.push(record.name.to_text());
        self.keep(record, (!record.alive).then_some(self.now))
    }

    /// The record was created here.
    pub(super) fn created(&mut self, name: Option<Name>, fields: Changes) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        let mut record = self.find(&name.to_text())?.map_or_else(|| Record::new(name), |(record, _)| record);
        if record.alive {
            record.change(fields, &self.core.clock);
        } else {
            record.create(fields, &self.core.clock);
        }
        self.keep_own(&record)
    }

    /// Some of its fields were changed here. Of a record that is not shared nothing is said.
    pub(super) fn changed(&mut self, name: Option<Name>, changes: Changes) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        let Some((mut record, _)) = self.find(&name.to_text())? else { return Ok(()) };
        if !record.alive || changes.is_empty() {
            return Ok(());
        }
        record.change(changes, &self.core.clock);
        self.keep_own(&record)
    }

    /// It was deleted here.
    pub(super) fn deleted(&mut self, name: Option<Name>) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        let Some((mut record, _)) = self.find(&name.to_text())? else { return Ok(()) };
        if !record.alive {
            return Ok(());
        }
        record.delete(&self.core.clock);
        self.keep_own(&record)
    }

    /// The live stream of a shared broadcast has ended here.
    pub(super) fn ended(&mut self, name: Option<Name>, b: &Broadcast) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        let Some((record, _)) = self.find(&name.to_text())? else { return Ok(()) };
        let mut new = shape::outcome(b);
        new.retain(|key, value| record.fields.get(key).is_none_or(|f| f.gone || f.value != *value));
        self.changed(Some(name), new.into_iter().map(|(key, value)| (key, Some(value))).collect())
    }

    /// Takes what another node knows of records.
    pub(super) fn apply(&mut self, all: Vec<ReadRecord>) -> Result<Applied> {
        let mut applied = Applied::default();
        let mut newer = Filling::default();
        for told in all {
            let told = match told {
                Ok(told) => told,
                Err(refused) => {
                    applied.refused.push(refused);
                    continue;
                }
            };
            let name = told.record.name.to_text();
            match self.apply_one(told, &mut applied, &mut newer) {
                Ok(()) => {}
                Err(NotTaken::Bad(bad)) => applied.refused.push(Refused { name, reason: bad.to_string() }),
                Err(NotTaken::Store(e)) => return Err(e),
            }
        }
        applied.newer = newer.into_records();
        Ok(applied)
    }

    fn apply_one(
        &mut self,
        Told { record: theirs, age }: Told,
        applied: &mut Applied,
        newer: &mut Filling,
    ) -> Result<(), NotTaken> {
        theirs.check()?;
        let name = theirs.name.to_text();
        if let Name::Value(key) = &theirs.name
            && (!self.core.values.contains(key) || !theirs.alive)
        {
            return Err(BadRecord::NotShared(name).into());
        }
        let before = self.find(&name)?;
        let was_alive = before.as_ref().is_some_and(|(record, _)| record.alive);
        let age = age.unwrap_or(0);
        let mut effects = Vec::new();
        let (record, note, changed) = match before {
            None => {
                if !theirs.alive && age >= DELETED_TAKEN_S {
                    return Ok(());
                }
                if self.core.index().len() >= RECORDS {
                    return Err(BadRecord::Full(name, RECORDS).into());
                }
                (theirs.clone(), None, true)
            }
            Some((mut ours, note)) => {
                let joined = ours.join(&theirs, shape::is_quiet);
                let conflicts = joined.conflicts.into_iter();
                effects.extend(conflicts.map(|c| Effect::Conflict(theirs.name.clone(), c)));
                effects.extend(joined.lost_changes.then(|| Effect::LostChanges(theirs.name.clone())));
                (ours, Some(note), joined.changed)
            }
        };
        record.check()?;
        let size = record.to_text()?.len();
        if changed {
            effects.extend(self.put(&record, was_alive)?);
            let known_for =
                i64::try_from(age.saturating_mul(1000)).unwrap_or(DELETED_KEPT_MS).min(DELETED_KEPT_MS);
            self.keep(&record, (!record.alive).then(|| self.now.saturating_sub(known_for)))?;
            applied.news += 1;
            applied.effects.append(&mut effects);
        }
        self.core.clock.saw(theirs.newest());
        if record.hash() != theirs.hash() {
            let deleted_at = note.and_then(|n| n.deleted_at).filter(|_| !changed);
            // What finds no place is found by the other's next pull.
            newer.take(Told { record, age: self.age(deleted_at) }, size);
        }
        Ok(())
    }

    fn age(&self, deleted_at: Option<i64>) -> Option<u64> {
        deleted_at.map(|at| u64::try_from(self.now.saturating_sub(at) / 1000).unwrap_or(0))
    }

    /// Makes the store say what the record says.
    fn put(&self, record: &Record, was_alive: bool) -> Result<Vec<Effect>, NotTaken> {
        let mut effects = Vec::new();
        match &record.name {
            Name::App(app) if record.alive => {
                let (settings, unusable) = shape::settings(record)?;
                match self.t.app(app)? {
                    None => {
                        self.t.create_app(app, &settings)?;
                    }
                    Some(there) if there.settings != settings => {
                        self.t.set_app_settings(app, &settings, there.version)?;
                    }
                    Some(_) => {}
                }
                if !unusable.is_empty() {
                    effects.push(Effect::Unusable(record.name.clone(), unusable));
                }
            }
            Name::App(app) => {
                if was_alive && self.t.delete_app(app, false)? {
                    effects.push(Effect::AppDeleted(app.clone()));
                }
            }
            Name::Broadcast(app, id) if record.alive => {
                let row = self.t.broadcast(app, id)?;
                let broadcast = shape::broadcast(record, id, row.as_ref())?;
                if row.as_ref() != Some(&broadcast) {
                    self.t.put_broadcast(app, &broadcast)?;
                }
                if row.is_none() {
                    effects.push(Effect::BroadcastCreated(app.clone(), id.clone()));
                }
            }
            Name::Broadcast(app, id) => {
                // A stream that was published without a record stays: it is not the one that was deleted.
                if was_alive && !self.t.delete_broadcasts(app, std::slice::from_ref(id))?.is_empty() {
                    effects.push(Effect::BroadcastDeleted(app.clone(), id.clone()));
                }
            }
            Name::Value(key) => self.t.set_value(key, shape::value(record)?)?,
        }
        Ok(effects)
    }

    /// Some records as they are to be told, up to a page, and the last that was looked at.
    pub(super) fn tell(&self, names: &[String]) -> Result<(Vec<Told>, Option<String>)> {
        let mut page = Filling::default();
        let mut last = None;
        for name in names {
            if let Some((record, note)) = self.find(name)? {
                let told = Told { record, age: self.age(note.deleted_at) };
                if !page.take(told, note.text.len()) {
                    break;
                }
            }
            last = Some(name.clone());
        }
        Ok((page.into_records(), last))
    }

    /// Forgets old deletions.
    pub(super) fn forget(&mut self) -> Result<usize> {
        let names = self.t.forget(self.now.saturating_sub(DELETED_KEPT_MS), DELETED_KEPT)?;
        if !names.is_empty() {
            self.t.set_value(CLOCK_KEY, &self.core.clock.highest().to_string())?;
        }
        let forgotten = names.len();
        self.touched.extend(names.into_iter().map(|name| (name, None)));
        Ok(forgotten)
    }

    /// What the clock has seen according to the store, beside the records.
    pub(super) fn read_clock(&self) -> Result<()> {
        if let Some(counter) = self.t.value(CLOCK_KEY)?.and_then(|text| text.parse().ok()) {
            self.core.clock.saw(counter);
        }
        Ok(())
    }

    /// Reads some of the notes into the index; gives the last name.
    pub(super) fn load(&mut self, after: &str, limit: usize) -> Result<Option<String>> {
        let notes = self.t.notes_after(after, limit)?;
        let last = notes.last().map(|(name, _)| name.clone());
        for (name, note) in notes {
            let Ok(record) = read_note(&name, &note) else { continue };
            self.core.clock.saw(record.newest());
            self.touched.push((name, Some(record.hash())));
        }
        Ok(last)
    }

    /// Notes what was created or changed while this node ran alone: apps and values, and what is gone of all.
    pub(super) fn catch_up(&mut self, after: &str, limit: usize) -> Result<Option<String>> {
        let notes = self.t.notes_after(after, limit)?;
        let last = notes.last().map(|(name, _)| name.clone());
        for (name, note) in notes {
            let Ok(record) = read_note(&name, &note) else { continue };
            let gone = record.alive
                && match &record.name {
                    Name::App(app) => self.t.app(app)?.is_none(),
                    Name::Broadcast(app, id) => self.t.broadcast(app, id)?.is_none_or(|b| b.zombi),
                    Name::Value(key) => self.t.value(key)?.is_none(),
                };
            if gone {
                self.deleted(Some(record.name))?;
            }
        }
        if last.is_none() {
            for app in self.t.apps()? {
                let new = shape::new_settings(&app.settings);
                let name = app_name(&app.name);
                self.caught_up(name, new, |record| {
                    let (said, _) = shape::settings(record).ok()?;
                    Some(shape::changes(&shape::of_settings(&said), &shape::of_settings(&app.settings)))
                })?;
            }
            for key in self.core.values.clone() {
                let Some(value) = self.t.value(&key)? else { continue };
                let fields = shape::changes(&serde_json::Map::new(), &shape::of_value(&value));
                let same = |record: &Record| shape::value(record).is_ok_and(|said| said == value);
                self.caught_up(value_name(&key), fields.clone(), |r| (!same(r)).then_some(fields))?;
            }
        }
        Ok(last)
    }

    /// The same for broadcasts.
    pub(super) fn catch_up_broadcasts(
        &mut self,
        after: (&str, &str),
        limit: usize,
    ) -> Result<Option<(String, String)>> {
        let page = self.t.broadcasts_after(after, limit)?;
        let last = page.last().map(|(app, b)| (app.clone(), b.stream_id.clone()));
        for (app, b) in page.into_iter().filter(|(_, b)| !b.zombi) {
            self.caught_up(broadcast_name(&app, &b.stream_id), shape::new_broadcast(&b), |record| {
                let said = shape::broadcast(record, &b.stream_id, Some(&b)).ok()?;
                Some(shape::changes(&shape::of_broadcast(&said), &shape::of_broadcast(&b)))
            })?;
        }
        Ok(last)
    }

    fn caught_up(
        &mut self,
        name: Option<Name>,
        new: Changes,
        changes: impl FnOnce(&Record) -> Option<Changes>,
    ) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        match self.find(&name.to_text())? {
            Some((record, _)) if record.alive => {
                let changes = changes(&record).unwrap_or_default();
                self.changed(Some(name), changes)
            }
            _ => self.created(Some(name), new),
        }
    }
}

fn read_note(name: &str, note: &Note) -> Result<Record> {
    let unreadable = |detail: String| StoreError::Unreadable { what: format!("note about {name}"), detail };
    let record: Record = serde_json::from_str(&note.text).map_err(|e| unreadable(e.to_string()))?;
    if record.name.to_text() == name {
        Ok(record)
    } else {
        Err(unreadable("it is about another record".into()))
    }
}

/// The name of an app's record; nothing for a name that other nodes would refuse.
pub(super) fn app_name(app: &str) -> Option<Name> {
    format!("app/{app}").parse().ok()
}

pub(super) fn broadcast_name(app: &str, id: &str) -> Option<Name> {
    format!("broadcast/{app}/{id}").parse().ok()
}

pub(super) fn value_name(key: &str) -> Option<Name> {
    format!("value/{key}").parse().ok()
}

/// Marks the index as doubtful when the store did not do what it was asked.
pub(super) fn doubt<T>(core: &Core, result: &Result<T>) {
    let answered = matches!(
        result,
        Ok(_)
            | Err(StoreError::Exists(_)
                | StoreError::NotFound(_)
                | StoreError::Conflict { .. }
                | StoreError::Fenced { .. }
                | StoreError::Closed)
    );
    if !answered {
        core.doubtful.store(true, Ordering::Release);
    }
}
