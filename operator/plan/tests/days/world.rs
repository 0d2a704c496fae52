//! Pods and the sessions on them: who comes finds a pod that takes it, at random as a Service does, or is refused and comes again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::load::{BEFORE, Kind, Random, Wanted};

/// From the order to make a pod until it takes sessions, seconds: its image, and its start.
pub(crate) const START: i64 = 20;
/// Whoever is refused comes again after so long, seconds.
const AGAIN: i64 = 3;
/// Whoever is cut comes again after so long.
const RECONNECT: i64 = 2;

#[derive(Default, Clone, Copy, Debug)]
pub(crate) struct Tally {
    /// Seconds that pods were there.
    pub(crate) pods: i64,
    /// Seconds that sessions waited, because there was no room on any pod.
    pub(crate) shortfall: i64,
    /// Sessions that were refused at least once.
    pub(crate) refused: i64,
    /// Sessions that a pod took along.
    pub(crate) cut: i64,
    /// The longest time in which there was not room for all.
    pub(crate) longest: i64,
    /// The most pods there were.
    pub(crate) peak: i64,
}

pub(crate) struct Pod {
    pub(crate) made: i64,
    /// It runs, and is ready.
    pub(crate) ready: Option<i64>,
    /// New sessions find it.
    pub(crate) open: bool,
    /// Its viewers who can are asked to go.
    pub(crate) leaving: bool,
    pub(crate) sessions: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Session {
    wanted: Wanted,
    pod: Option<usize>,
    /// Since when it waits because it was refused.
    waits: Option<i64>,
    refused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    End,
    Try,
    Move,
}

pub(crate) struct World {
    pub(crate) now: i64,
    pub(crate) pods: Vec<Pod>,
    pub(crate) tally: Tally,
    /// Those that were not ended.
    there: Vec<usize>,
    capacity: usize,
    sessions: Vec<Session>,
    events: BinaryHeap<Reverse<(i64, usize, Event)>>,
    random: Random,
    waiting: i64,
    /// When there was last room for all who wait.
    enough: i64,
}

impl World {
    pub(crate) fn new(wanted: &[Wanted], capacity: usize) -> World {
        let session = |wanted: &Wanted| Session { wanted: *wanted, pod: None, waits: None, refused: false };
        let sessions: Vec<Session> = wanted.iter().map(session).collect();
        let events = wanted.iter().enumerate().map(|(id, one)| Reverse((one.from, id, Event::Try))).collect();
        let random = Random(7);
        let (pods, tally, there) = (Vec::new(), Tally::default(), Vec::new());
        World { now: 0, pods, tally, there, capacity, sessions, events, random, waiting: 0, enough: 0 }
    }

    /// A pod is made.
    pub(crate) fn make(&mut self) -> usize {
        let made = self.now;
        let sessions = Vec::new();
        self.pods.push(Pod { made, ready: None, open: false, leaving: false, sessions });
        self.there.push(self.pods.len() - 1);
        self.pods.len() - 1
    }

    /// A pod ends; what is on it is cut.
    pub(crate) fn end(&mut self, pod: usize) {
        self.there.retain(|other| *other != pod);
        for id in std::mem::take(&mut self.pods[pod].sessions) {
            self.sessions[id].pod = None;
            self.tally.cut += i64::from(self.now >= BEFORE);
            self.events.push(Reverse((self.now + RECONNECT, id, Event::Try)));
        }
    }

    /// Asks a pod's viewers to go.
    pub(crate) fn leave(&mut self, pod: usize) {
        self.pods[pod].leaving = true;
        for id in &self.pods[pod].sessions {
            if self.sessions[*id].wanted.kind == Kind::Moves {
                let at = self.now + self.random.seconds(1, 10);
                self.events.push(Reverse((at, *id, Event::Move)));
            }
        }
    }

    /// Publishers and viewers on a pod.
    pub(crate) fn on(&self, pod: usize) -> (u32, u32) {
        let sessions = &self.pods[pod].sessions;
        let publishes = |id: &&usize| self.sessions[**id].wanted.kind == Kind::Publisher;
        let publishers = sessions.iter().filter(publishes).count();
        (publishers as u32, (sessions.len() - publishers) as u32)
    }

    /// A second passes.
    pub(crate) fn tick(&mut self) {
        self.now += 1;
        for id in &self.there {
            let pod = &mut self.pods[*id];
            if pod.ready.is_none() && self.now >= pod.made + START {
                pod.ready = Some(self.now);
            }
        }
        let ready = |id: &usize| self.pods[*id].open && self.pods[*id].ready.is_some();
        let open: Vec<usize> = self.there.iter().copied().filter(ready).collect();
        while let Some(Reverse((at, id, event))) = self.events.peek().copied() {
            if at > self.now {
                break;
            }
            self.events.pop();
            match event {
                Event::Try => self.come(id, &open),
                Event::Move => self.move_on(id, &open),
                Event::End => self.go(id),
            }
        }
        let free: usize = open.iter().map(|id| self.capacity - self.pods[*id].sessions.len()).sum();
        let short = (self.waiting - free as i64).max(0);
        if short == 0 {
            self.enough = self.now;
        }
        if self.now >= BEFORE {
            let there = self.there.len() as i64;
            self.tally.pods += there;
            self.tally.peak = self.tally.peak.max(there);
            self.tally.shortfall += short;
            self.tally.longest = self.tally.longest.max(self.now - self.enough);
        }
    }

    fn room(&mut self, open: &[usize]) -> Option<usize> {
        let pod = (!open.is_empty()).then(|| open[self.random.below(open.len())])?;
        (self.pods[pod].sessions.len() < self.capacity).then_some(pod)
    }

    fn come(&mut self, id: usize, open: &[usize]) {
        let until = self.sessions[id].wanted.until;
        let pod = self.room(open);
        let session = &mut self.sessions[id];
        if until <= self.now {
            self.waiting -= i64::from(session.waits.take().is_some());
            return;
        }
        match pod {
            Some(pod) => {
                self.waiting -= i64::from(session.waits.take().is_some());
                session.pod = Some(pod);
                self.pods[pod].sessions.push(id);
                self.events.push(Reverse((until, id, Event::End)));
                if self.pods[pod].leaving && session.wanted.kind == Kind::Moves {
                    self.events.push(Reverse((self.now + 1, id, Event::Move)));
                }
            }
            None => {
                if !session.refused && self.now >= BEFORE {
                    self.tally.refused += 1;
                }
                session.refused = true;
                if session.waits.is_none() {
                    session.waits = Some(self.now);
                    self.waiting += 1;
                }
                self.events.push(Reverse(((self.now + AGAIN).min(until), id, Event::Try)));
            }
        }
    }

    /// It moves without a gap: it stays where it is until it has a place.
    fn move_on(&mut self, id: usize, open: &[usize]) {
        let Some(from) = self.sessions[id].pod.filter(|pod| self.pods[*pod].leaving) else { return };
        match self.room(open) {
            Some(to) => {
                self.pods[from].sessions.retain(|other| *other != id);
                self.pods[to].sessions.push(id);
                self.sessions[id].pod = Some(to);
            }
            None => self.events.push(Reverse((self.now + AGAIN, id, Event::Move))),
        }
    }

    fn go(&mut self, id: usize) {
        if self.sessions[id].wanted.until <= self.now
            && let Some(pod) = self.sessions[id].pod.take()
        {
            self.pods[pod].sessions.retain(|other| *other != id);
        }
    }
}
