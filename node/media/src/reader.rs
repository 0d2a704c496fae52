//! The reading side of a stream: all its tracks as one sequence, in the order of arrival.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::ring::{Cursor, Peek};
use crate::stream::{Stream, Track};
use crate::{Arrived, Frame, Group, GroupHead, TrackId};

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the newest group that can be decoded by itself.
    Newest,
    /// At the oldest group that is kept.
    Oldest,
}

/// What a reader gets.
#[derive(Clone, Debug)]
pub enum Event {
    /// A group of a track begins; its head tells the configuration in force.
    Group {
        /// The track.
        track: TrackId,
        /// The group.
        group: Arc<Group>,
    },
    /// The next frame of the group that began last on that track.
    Frame {
        /// The track.
        track: TrackId,
        /// The frame.
        frame: Frame,
    },
    /// The reader was too slow: this many groups are left out, and it goes on at the newest.
    Skipped {
        /// How many.
        groups: u64,
    },
    /// The stream is over.
    End,
}

/// One reader of a stream, with a position of its own.
#[derive(Debug)]
pub struct Reader {
    stream: Arc<Stream>,
    tracks: Vec<(Arc<Track>, Cursor<GroupHead, Arrived>)>,
    version: u64,
    start: Start,
    max_lag: Duration,
}

enum Next {
    Group(usize),
    Frame(usize),
    Behind,
    Nothing,
    End,
}

impl Reader {
    pub(crate) fn new(stream: Arc<Stream>, start: Start, max_lag: Duration) -> Self {
        stream.count_reader(1);
        let mut reader = Reader { stream, tracks: Vec::new(), version: 0, start, max_lag };
        reader.take_tracks();
        if start == Start::Newest {
            reader.jump_to_newest();
        }
        reader
    }

    /// The stream that it reads.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The next event, if there is one by now.
    pub fn try_next(&mut self) -> Option<Event> {
        if self.version != self.stream.tracks_version() {
            self.take_tracks();
        }
        match self.look() {
            Next::Group(i) => {
                let (track, cursor) = &mut self.tracks[i];
                cursor.advance();
                cursor.group().map(|g| Event::Group { track: track.id, group: g.clone() })
            }
            Next::Frame(i) => {
                let (track, cursor) = &mut self.tracks[i];
                let frame = match cursor.peek(&track.ring) {
                    Peek::Item(arrived) => arrived.frame.clone(),
                    _ => return None,
                };
                cursor.advance();
                Some(Event::Frame { track: track.id, frame })
            }
            Next::Behind => {
                let groups = self.jump_to_newest();
                self.stream.stats().groups_skipped.fetch_add(groups, Relaxed);
                Some(Event::Skipped { groups })
            }
            Next::Nothing => None,
            Next::End => Some(Event::End),
        }
    }

    /// Waits for the next event. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Event {
        let stream = self.stream.clone();
        loop {
            let changed = stream.notify().notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(event) = self.try_next() {
                return event;
            }
            changed.await;
        }
    }

    fn look(&mut self) -> Next {
        // Asked first: what is not there after the end never comes.
        let ended = self.stream.is_ended();
        let mut best: Option<(u64, Next)> = None;
        let mut over = true;
        for (i, (track, cursor)) in self.tracks.iter_mut().enumerate() {
            let (order, next) = match cursor.peek(&track.ring) {
                Peek::Group(g) => match g.get(0) {
                    Some(first) => (first.order, Next::Group(i)),
                    // A group is shown with its first frame.
                    None => {
                        over &= g.is_finished() && ended;
                        continue;
                    }
                },
                Peek::Item(arrived) => (arrived.order, Next::Frame(i)),
                Peek::Behind => return Next::Behind,
                Peek::Nothing => {
                    over = false;
                    continue;
                }
                Peek::End => continue,
            };
            if best.as_ref().is_none_or(|(o, _)| order < *o) {
                best = Some((order, next));
            }
        }
        match best {
            Some((_, next)) => next,
            None if ended && over => Next::End,
            None => Next::Nothing,
        }
    }

    fn take_tracks(&mut self) {
        self.version = self.stream.tracks_version();
        let here = self.tracks.iter().filter_map(|(_, c)| c.group()).map(|g| g.head.stamp.place()).min();
        for track in self.stream.tracks().into_iter().skip(self.tracks.len()) {
            let mut cursor = Cursor::oldest(&track.ring, self.max_lag);
            if let (Start::Newest, Some(here)) = (self.start, here)
                && let Some(g) = track.ring.oldest(|h| h.stamp.place() >= here)
            {
                cursor.jump_to(g);
            }
            self.tracks.push((track, cursor));
        }
    }

    /// Goes to the newest place where all tracks can begin together; says how many groups are left out.
    fn jump_to_newest(&mut self) -> u64 {
        let Some((reference, place)) = self.newest_beginning() else { return 0 };
        let mut skipped = 0;
        for (i, (track, cursor)) in self.tracks.iter_mut().enumerate() {
            let groups = match track.ring.oldest(|h| h.stamp.place() >= place) {
                Some(group) => cursor.jump_to(group),
                None => cursor.jump_to_end(&track.ring),
            };
            if i == reference {
                skipped = groups;
            }
        }
        skipped
    }
    /// The newest group that pictures can begin with, of the rendition that leads; without pictures that of the first track. Which of
    /// the tracks has it, and its place.
    fn newest_beginning(&self) -> Option<(usize, (u64, u64))> {
        let newest = |track: &Track, which: &dyn Fn(&GroupHead) -> bool| {
            track.ring.newest(|head| which(head)).map(|group| group.head.stamp.place())
        };
        let pictures = || self.tracks.iter().enumerate().filter(|(_, (track, _))| track.config().is_video());
        let of_pictures = |which: &dyn Fn(&GroupHead) -> bool| {
            let all = pictures().filter_map(|(i, (track, _))| Some((i, newest(track, which)?)));
            all.min_by_key(|(i, place)| (std::cmp::Reverse(*place), *i))
        };
        let leading = of_pictures(&|head| head.independent && head.leads).or_else(|| of_pictures(&|_| true));
        match pictures().next() {
            Some(_) => leading,
            None => Some((0, newest(&self.tracks.first()?.0, &|_| true)?)),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.count_reader(-1);
    }
}
