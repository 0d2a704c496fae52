//! The packets of one source in order: waits for those that are missing, and gives out whole frames.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::depacketize::starts_keyframe;
use crate::agreed::Codec;

/// Packets that are kept at most, gaps included; each has 2048 bytes at most, so that this is 4 MiB.
const MOST: u64 = 2048;
/// After this many packets from before what was given out, the sender counts anew.
const RESTART: u32 = 64;
/// A packet is asked for again this long after it was missed: it may only be late.
const LATE: Duration = Duration::from_millis(10);
/// Requests for one packet follow each other by at least this.
const SPACING: Duration = Duration::from_millis(20);
/// Requests for one packet.
const TRIES: u8 = 10;

/// What a packet brings.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) marker: bool,
    pub(super) timestamp: u32,
    /// `None` for a payload type that was not agreed on: it only has a number.
    pub(super) codec: Option<Codec>,
    pub(super) payload: Bytes,
}

impl Slot {
    /// Whether it carries anything: padding and unknown formats do not.
    pub(super) fn carries(&self) -> bool {
        self.codec.is_some() && !self.payload.is_empty()
    }
}

/// What comes out.
#[derive(Debug, PartialEq)]
pub(super) enum Popped {
    /// A frame: all its payloads, none of them empty.
    Frame { codec: Codec, timestamp: u32, payloads: Vec<Bytes> },
    /// Packets that never came: what follows may refer to what was lost.
    Gap,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It was waited for or is new. `asked` tells when it was asked for, if it was, and only once.
    New { asked: Option<Instant> },
    /// It is here already, or comes too late.
    Useless,
}

#[derive(Debug)]
struct Missing {
    seq: u64,
    /// When it was missed.
    since: Instant,
    /// When it is to be asked for next.
    next: Instant,
    asked: Option<Instant>,
    tries: u8,
}

#[derive(Debug)]
pub(super) struct Buffer {
    /// Every packet is a frame, and stands for itself: audio.
    single: bool,
    slots: VecDeque<Option<Slot>>,
    /// The number of the first slot, beyond the wraps of 16 bits.
    base: u64,
    missing: VecDeque<Missing>,
    /// Whether the first slot begins a frame for certain.
    boundary: bool,
    /// Slots that are known to belong to one frame.
    scanned: usize,
    old: u32,
    gap: bool,
    discarded: bool,
    lost: u64,
}

impl Buffer {
    pub(super) fn new(single: bool) -> Self {
        Buffer {
            single,
            slots: VecDeque::new(),
            base: 0,
            missing: VecDeque::new(),
            boundary: false,
            scanned: 0,
            old: 0,
            gap: false,
            discarded: false,
            lost: 0,
        }
    }

    /// Packets that were given up.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether packets were passed over since the last call because the beginning of their frame is not known.
    pub(super) fn take_discarded(&mut self) -> bool {
        std::mem::take(&mut self.discarded)
    }

    /// Takes a packet.
    pub(super) fn put(&mut self, seq: u16, slot: Slot, now: Instant) -> Put {
        if self.base == 0 {
            // Far enough from 0 that nothing comes before it.
            self.base = (1 << 32) + u64::from(seq);
        }
        let end = self.base + self.slots.len() as u64;
        let step = i64::from(seq.wrapping_sub(end as u16) as i16);
        let at = end.saturating_add_signed(step);
        if at < self.base {
            self.old += 1;
            if self.old > RESTART {
                self.restart(seq);
                return self.put(seq, slot, now);
            }
            return Put::Useless;
        }
        self.old = 0;
        if at - self.base >= MOST {
            self.lost += at.saturating_sub(end) + self.missing.len() as u64;
            self.restart(seq);
            return self.put(seq, slot, now);
        }
        if at < end {
            let place = &mut self.slots[(at - self.base) as usize];
            if place.is_some() {
                return Put::Useless;
            }
            *place = Some(slot);
            let missing = self.missing.binary_search_by_key(&at, |m| m.seq).ok();
            let missing = missing.and_then(|i| self.missing.remove(i));
            return Put::New { asked: missing.filter(|m| m.tries == 1).and_then(|m| m.asked) };
        }
        for seq in end..at {
            self.slots.push_back(None);
            self.missing.push_back(Missing { seq, since: now, next: now + LATE, asked: None, tries: 0 });
        }
        self.slots.push_back(Some(slot));
        Put::New { asked: None }
    }

    fn restart(&mut self, seq: u16) {
        self.slots.clear();
        self.missing.clear();
        self.base = (1 << 32) + u64::from(seq);
        (self.boundary, self.scanned, self.old, self.gap) = (false, 0, 0, true);
    }

    /// What is next. A gap is waited for until it is `wait` old.
    pub(super) fn pop(&mut self, now: Instant, wait: Duration) -> Option<Popped> {
        loop {
            if std::mem::take(&mut self.gap) {
                return Some(Popped::Gap);
            }
            let Some(first) = self.slots.front()? else {
                self.give_up(0, now, wait)?;
                continue;
            };
            let (timestamp, marker) = (first.timestamp, first.marker);
            let Some(codec) = first.codec.filter(|_| first.carries()) else {
                // Padding is not part of any frame.
                self.take(1);
                continue;
            };
            if self.single {
                return Some(self.frame(codec, timestamp, 1));
            }
            if !self.boundary {
                if starts_keyframe(codec, &first.payload) {
                    self.boundary = true;
                    continue;
                }
                // Whether the next packet belongs to the same frame is only known when it is there.
                let next = self.slots.get(1).and_then(Option::as_ref).map(|s| s.timestamp != timestamp);
                self.discarded = true;
                self.take(1);
                self.boundary = marker || next == Some(true);
                continue;
            }
            let mut end = None;
            for (i, slot) in (self.scanned..).zip(self.slots.range(self.scanned..)) {
                match slot {
                    None => {
                        end = Some(Err(i));
                        break;
                    }
                    Some(slot) if !slot.carries() => self.scanned = i + 1,
                    Some(slot) if slot.timestamp != timestamp => {
                        end = Some(Ok(i));
                        break;
                    }
                    Some(slot) if slot.marker => {
                        end = Some(Ok(i + 1));
                        break;
                    }
                    Some(_) => self.scanned = i + 1,
                }
            }
            match end? {
                Ok(count) => return Some(self.frame(codec, timestamp, count)),
                Err(gap) => self.give_up(gap, now, wait)?,
            }
        }
    }

    /// Gives the gap at `index` up if it is old enough, and all before it, which is part of a frame.
    fn give_up(&mut self, index: usize, now: Instant, wait: Duration) -> Option<()> {
        let first = self.missing.front()?;
        let full = self.slots.len() as u64 >= MOST - 1;
        if !full && now.saturating_duration_since(first.since) < wait {
            return None;
        }
        let gap = self.slots.iter().skip(index).take_while(|s| s.is_none()).count();
        self.take(index + gap);
        self.missing.drain(..gap.min(self.missing.len()));
        self.lost += gap as u64;
        (self.boundary, self.gap) = (false, true);
        Some(())
    }

    fn frame(&mut self, codec: Codec, timestamp: u32, count: usize) -> Popped {
        let slots = self.slots.drain(..count).flatten();
        let payloads = slots.filter(|s| s.carries() && s.codec == Some(codec)).map(|s| s.payload).collect();
        self.base += count as u64;
        (self.boundary, self.scanned) = (true, 0);
        Popped::Frame { codec, timestamp, payloads }
    }

    fn take(&mut self, count: usize) {
        self.slots.drain(..count);
        self.base += count as u64;
        self.scanned = 0;
    }

    /// When the oldest gap is given up.
    pub(super) fn deadline(&self, wait: Duration) -> Option<Instant> {
        self.missing.front().map(|m| m.since + wait)
    }

    /// When a packet is to be asked for again.
    pub(super) fn next_request(&self) -> Option<Instant> {
        self.missing.iter().filter(|m| m.tries < TRIES).map(|m| m.next).min()
    }

    /// The packets that are to be asked for now, at most `most`.
    pub(super) fn requests(&mut self, now: Instant, rtt: Duration, most: usize) -> Vec<u16> {
        let due = self.missing.iter_mut().filter(|m| m.tries < TRIES && m.next <= now);
        due.take(most)
            .map(|m| {
                m.tries += 1;
                m.asked = Some(now);
                // The answer takes a round trip; after the first request's time is shorter than patience.
                let pause = if m.tries == 1 { rtt + LATE } else { rtt / 2 };
                m.next = now + pause.max(SPACING);
                m.seq as u16
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
