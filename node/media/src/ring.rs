//! Groups of items with one writer and any number of cursors, bounded in time and bytes.
//!
//! A cursor holds on to one group at most, so a stuck reader keeps a bounded amount of memory alive. Reading
//! takes a lock once per group, not per item, and allocates nothing. Wake-ups go through one [`Notify`] that
//! may be shared by several rings.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

use crate::Timestamp;

/// The number of the first group; those below it are free for groups that are put in front of it later.
const FIRST: u64 = 1 << 32;

/// What a ring needs to know of the head of a group.
pub trait Head {
    /// When its first item starts.
    fn start(&self) -> Timestamp;
    /// Whether a reader can begin here.
    fn independent(&self) -> bool;
}

/// What a ring needs to know of an item.
pub trait Item {
    /// When it is due.
    fn time(&self) -> Timestamp;
    /// Bytes that it keeps alive.
    fn size(&self) -> usize;
}

/// Some items that belong together: a reader begins with the first of them.
#[derive(Debug)]
pub struct Group<H, T> {
    /// What is known of it from the start.
    pub head: H,
    number: u64,
    items: boxcar::Vec<T>,
    bytes: AtomicU64,
    finished: AtomicBool,
}

impl<H, T> Group<H, T> {
    /// The item at `index`, if it is there yet.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.items.get(index)
    }

    /// How many items there are by now.
    pub fn len(&self) -> usize {
        self.items.count()
    }

    /// Whether there is no item yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all items by now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether no item will be added any more.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }
}

/// How much a ring keeps for readers that come late or fall behind.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Groups that start earlier than this before the newest one are let go.
    pub time: Duration,
    /// The oldest groups are let go while all together are larger.
    pub bytes: u64,
}

/// The groups, oldest first.
#[derive(Debug)]
pub struct Ring<H, T> {
    groups: RwLock<VecDeque<Arc<Group<H, T>>>>,
    retention: Retention,
    newest_start: AtomicI64,
    ended: AtomicBool,
    changed: Arc<Notify>,
}

impl<H: Head, T: Item> Ring<H, T> {
    /// An empty ring whose changes wake those who wait on `changed`.
    pub fn new(retention: Retention, changed: Arc<Notify>) -> Self {
        Ring {
            groups: RwLock::default(),
            retention,
            newest_start: AtomicI64::new(i64::MIN),
            ended: AtomicBool::new(false),
            changed,
        }
    }

    /// Begins a group; the one before it is finished. The newest two groups are always kept.
    pub fn begin(&self, head: H) {
        if head.independent() {
            self.newest_start.store(head.start().0, Ordering::Release);
        }
        let start = head.start();
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let number = groups.back().map_or(FIRST, |g| g.number + 1);
        // One that is late for the end gets no more items that anybody waits for.
        let ended = self.is_ended();
        if let Some(last) = groups.back() {
            last.finished.store(true, Ordering::Release);
        }
        groups.push_back(Arc::new(Group {
            head,
            number,
            items: boxcar::Vec::new(),
            bytes: AtomicU64::new(0),
            finished: AtomicBool::new(ended),
        }));
        let mut bytes: u64 = groups.iter().map(|g| g.bytes()).sum();
        while groups.len() > 2 {
            // A group is old when the one after it starts before the window.
            let old = start.since(groups[1].head.start()) > self.retention.time;
            if !old && bytes <= self.retention.bytes {
                break;
            }
            if let Some(g) = groups.pop_front() {
                bytes -= g.bytes();
            }
        }
    }

    /// Puts a whole group in front of the oldest one. False, and nothing is done, when the ring is empty, or would
    /// keep more than it may.
    pub fn put_before(&self, head: H, items: impl IntoIterator<Item = T>) -> bool {
        let items: boxcar::Vec<T> = items.into_iter().collect();
        let size: u64 = items.iter().map(|(_, i)| i.size() as u64).sum();
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let (Some(first), Some(last)) = (groups.front(), groups.back()) else { return false };
        let covered = last.head.start().since(first.head.start());
        let bytes: u64 = groups.iter().map(|g| g.bytes()).sum();
        if covered > self.retention.time || bytes + size > self.retention.bytes || first.number == 0 {
            return false;
        }
        let number = first.number - 1;
        groups.push_front(Arc::new(Group {
            head,
            number,
            items,
            bytes: AtomicU64::new(size),
            finished: AtomicBool::new(true),
        }));
        true
    }

    /// Appends to the newest group. Before the first [`begin`](Self::begin) the item is dropped.
    pub fn push(&self, item: T) {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(g) = groups.back() {
            g.bytes.fetch_add(item.size() as u64, Ordering::Relaxed);
            g.items.push(item);
        }
    }

    /// Wakes everybody who waits for what was written since.
    pub fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Nothing will be written any more.
    pub fn end(&self) {
        // In this order, so that a group that begins meanwhile is finished here or by itself.
        self.ended.store(true, Ordering::Release);
        if let Some(g) = self.groups.write().unwrap_or_else(PoisonError::into_inner).back() {
            g.finished.store(true, Ordering::Release);
        }
        self.wake();
    }

    /// Whether [`end`](Self::end) was called.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// What to wait on for changes; take the future before looking, then await it.
    pub fn changed(&self) -> &Notify {
        &self.changed
    }

    /// The newest group that satisfies `wanted`.
    pub fn newest(&self, wanted: impl Fn(&H) -> bool) -> Option<Arc<Group<H, T>>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.iter().rev().find(|g| wanted(&g.head)).cloned()
    }

    /// The oldest kept group that satisfies `wanted`.
    pub fn oldest(&self, wanted: impl Fn(&H) -> bool) -> Option<Arc<Group<H, T>>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.iter().find(|g| wanted(&g.head)).cloned()
    }

    /// Bytes of everything kept.
    pub fn bytes(&self) -> u64 {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).iter().map(|g| g.bytes()).sum()
    }

    fn find(&self, number: u64) -> Found<H, T> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = groups.front().map(|g| g.number) else { return Found::NotYet };
        match number.checked_sub(first) {
            None => Found::Gone,
            Some(i) => groups.get(i as usize).cloned().map_or(Found::NotYet, Found::Here),
        }
    }

    /// The number that the next group will have.
    fn next_number(&self) -> u64 {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).back().map_or(FIRST, |g| g.number + 1)
    }
}

enum Found<H, T> {
    Here(Arc<Group<H, T>>),
    NotYet,
    Gone,
}

/// A reader's place in a ring.
#[derive(Debug)]
pub struct Cursor<H, T> {
    group: Option<Arc<Group<H, T>>>,
    announced: bool,
    index: usize,
    next: u64,
    max_lag: Duration,
}

/// What a cursor sees.
#[derive(Debug)]
pub enum Peek<'a, H, T> {
    /// A group begins.
    Group(&'a Arc<Group<H, T>>),
    /// An item of that group.
    Item(&'a T),
    /// The reader is too far behind: call [`Cursor::jump_to_newest`], or place it otherwise.
    Behind,
    /// Nothing for now.
    Nothing,
    /// Nothing any more.
    End,
}

impl<H: Head, T: Item> Cursor<H, T> {
    /// At the oldest group that the ring keeps.
    pub fn oldest(ring: &Ring<H, T>, max_lag: Duration) -> Self {
        let mut cursor = Cursor { group: None, announced: false, index: 0, next: FIRST, max_lag };
        match ring.oldest(|_| true) {
            Some(g) => cursor.jump_to(g),
            None => cursor.jump_to_end(ring),
        };
        cursor
    }

    /// At the newest group where a reader can begin; where there is none, before the next one.
    pub fn newest(ring: &Ring<H, T>, max_lag: Duration) -> Self {
        let mut cursor = Cursor { group: None, announced: false, index: 0, next: FIRST, max_lag };
        cursor.jump_to_newest(ring);
        cursor
    }

    /// Goes to the newest group where a reader can begin; returns how many groups were left out.
    pub fn jump_to_newest(&mut self, ring: &Ring<H, T>) -> u64 {
        match ring.newest(Head::independent) {
            Some(g) => self.jump_to(g),
            None => self.jump_to_end(ring),
        }
    }

    /// Goes behind everything, before the group that begins next; returns how many groups were left out.
    pub fn jump_to_end(&mut self, ring: &Ring<H, T>) -> u64 {
        let next = ring.next_number();
        let skipped = next.saturating_sub(self.next);
        self.group = None;
        self.next = next;
        skipped
    }

    /// Goes to the start of a group; returns how many groups were left out.
    pub fn jump_to(&mut self, group: Arc<Group<H, T>>) -> u64 {
        let skipped = group.number.saturating_sub(self.next);
        self.next = group.number + 1;
        self.index = 0;
        self.announced = false;
        self.group = Some(group);
        skipped
    }

    /// What comes next, without taking it.
    pub fn peek<'a>(&'a mut self, ring: &Ring<H, T>) -> Peek<'a, H, T> {
        while self.is_through() {
            // Asked first: what is not there after the end never comes.
            let ended = ring.is_ended();
            match ring.find(self.next) {
                Found::Here(g) => self.jump_to(g),
                Found::NotYet if ended => return Peek::End,
                Found::NotYet => return Peek::Nothing,
                Found::Gone => return Peek::Behind,
            };
        }
        let Some(group) = &self.group else { return Peek::Nothing };
        if !self.announced {
            return Peek::Group(group);
        }
        match group.get(self.index) {
            Some(item) => {
                let newest = Timestamp(ring.newest_start.load(Ordering::Acquire));
                if newest.since(item.time()) > self.max_lag { Peek::Behind } else { Peek::Item(item) }
            }
            None => Peek::Nothing,
        }
    }

    /// Whether there is nothing more to come from the present group.
    fn is_through(&self) -> bool {
        // Finished is read first: what is not there then never comes.
        self.group.as_ref().is_none_or(|g| self.announced && g.is_finished() && g.get(self.index).is_none())
    }

    /// Takes what [`peek`](Self::peek) showed last, a group or an item.
    pub fn advance(&mut self) {
        if self.announced { self.index += 1 } else { self.announced = true }
    }

    /// The group that the cursor is in.
    pub fn group(&self) -> Option<&Arc<Group<H, T>>> {
        self.group.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct H(i64, bool);
    impl Head for H {
        fn start(&self) -> Timestamp {
            Timestamp::from_millis(self.0)
        }
        fn independent(&self) -> bool {
            self.1
        }
    }
    #[derive(Debug, PartialEq)]
    struct I(i64);
    impl Item for I {
        fn time(&self) -> Timestamp {
            Timestamp::from_millis(self.0)
        }
        fn size(&self) -> usize {
            1000
        }
    }

    const LAG: Duration = Duration::from_secs(5);

    fn ring(time: u64, bytes: u64) -> Ring<H, I> {
        Ring::new(Retention { time: Duration::from_secs(time), bytes }, Arc::new(Notify::new()))
    }

    fn fill(ring: &Ring<H, I>, from: i64, groups: i64) {
        for g in from..from + groups {
            ring.begin(H(g * 1000, true));
            for f in 0..10 {
                ring.push(I(g * 1000 + f * 100));
            }
        }
    }

    fn take(c: &mut Cursor<H, I>, r: &Ring<H, I>) -> Option<i64> {
        loop {
            match c.peek(r) {
                Peek::Group(_) => c.advance(),
                Peek::Item(i) => {
                    let t = i.0;
                    c.advance();
                    return Some(t);
                }
                Peek::Behind => {
                    c.jump_to_newest(r);
                }
                Peek::Nothing | Peek::End => return None,
            }
        }
    }

    #[test]
    fn a_newcomer_begins_at_the_newest_independent_group() {
        let r = ring(30, u64::MAX);
        fill(&r, 0, 3);
        r.begin(H(3000, false));
        r.push(I(3000));
        let mut c = Cursor::newest(&r, LAG);
        assert_eq!(take(&mut c, &r), Some(2000));
        for _ in 0..9 {
            take(&mut c, &r);
        }
        assert_eq!(take(&mut c, &r), Some(3000), "and goes on through the ones that are not");
        assert_eq!(take(&mut c, &r), None);
    }

    #[test]
    fn old_groups_go_by_time_and_by_bytes_but_two_stay() {
        let r = ring(5, u64::MAX);
        fill(&r, 0, 20);
        assert_eq!(r.oldest(|_| true).map(|g| g.head.0), Some(13_000));
        let r = ring(1000, 25_000);
        fill(&r, 0, 20);
        assert_eq!(r.bytes(), 30_000, "two complete groups and the one being written");
        let r = ring(1000, 1);
        fill(&r, 0, 20);
        assert_eq!(r.bytes(), 20_000);
    }

    #[test]
    fn a_slow_reader_is_told_and_a_stuck_one_holds_one_group() {
        let r = ring(5, u64::MAX);
        fill(&r, 0, 2);
        let mut c = Cursor::oldest(&r, LAG);
        assert_eq!(take(&mut c, &r), Some(0));
        let held = Arc::downgrade(c.group().expect("in a group"));
        fill(&r, 2, 20);
        assert!(held.upgrade().is_some());
        assert!(matches!(c.peek(&r), Peek::Behind));
        assert_eq!(c.jump_to_newest(&r), 20, "groups 1 to 20 left out");
        assert!(held.upgrade().is_none());
        assert_eq!(take(&mut c, &r), Some(21_000));
    }

    #[test]
    fn the_end_comes_after_the_last_item() {
        let r = ring(5, u64::MAX);
        let mut c = Cursor::newest(&r, LAG);
        assert!(matches!(c.peek(&r), Peek::Nothing));
        fill(&r, 0, 1);
        r.end();
        for i in 0..10 {
            assert_eq!(take(&mut c, &r), Some(i * 100));
        }
        assert!(matches!(c.peek(&r), Peek::End));
    }

    #[test]
    fn a_group_that_begins_after_the_end_does_not_hide_it() {
        let r = ring(5, u64::MAX);
        fill(&r, 0, 1);
        let mut c = Cursor::newest(&r, LAG);
        r.end();
        r.begin(H(1000, true));
        r.push(I(1000));
        while take(&mut c, &r).is_some() {}
        assert!(matches!(c.peek(&r), Peek::End));
    }
}
