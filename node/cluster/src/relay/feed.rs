//! What goes to one asker: reads a stream of the hub into messages. No I/O, no clock.

use std::sync::Arc;
use std::time::Duration;

use sluice_media::ring::{Cursor, Peek, Ring};
use sluice_media::stream::Track;
use sluice_media::{Arrived, Group, GroupHead, MetaValue, Position, Stream, Timestamp, TrackConfig, TrackId};

use crate::wire::{Encoder, Held, Message, Open, WireError};

/// Live messages are put together up to about this much.
const LIVE: usize = 256 << 10;
/// Sound does not wait for pictures when there was none for this long.
const PICTURES: Duration = Duration::from_millis(200);
/// Older groups go in pieces of about this much, with room for live frames between them.
const OLDER: usize = 64 << 10;

/// What is known after filling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more right now.
    More,
    /// Everything that there is was written.
    Done,
    /// The stream is over.
    Ended,
}

/// Epoch and number of a group.
type Place = (u64, u64);

/// Reads a stream for one asker.
#[derive(Debug)]
pub(super) struct Feed {
    stream: Arc<Stream>,
    lanes: Vec<Lane>,
    held: Vec<Held>,
    backfill: bool,
    past: Option<PastGroup>,
    /// Until the asker has what it missed, nothing is left out because it is late.
    catching_up: bool,
    sent_frame: bool,
    segmentation: bool,
    metadata: Arc<Vec<(String, MetaValue)>>,
    interrupted: Option<bool>,
    max_lag: Duration,
    skipped: u64,
    /// What was written since the asker was sent something can wait for the next picture.
    can_wait: bool,
    picture: Option<Timestamp>,
}

#[derive(Debug)]
struct Lane {
    track: Arc<Track>,
    cursor: Cursor<GroupHead, Arrived>,
    told: Arc<TrackConfig>,
    epoch: u64,
    /// What the asker has already: it is passed over.
    resume: Option<Position>,
    dropping: bool,
    /// The oldest group that was sent or is there: what is before it is still to be sent.
    oldest: Option<Place>,
}

/// An older group on its way.
#[derive(Debug)]
struct PastGroup {
    group: Arc<Group>,
    index: usize,
    frames: usize,
}

enum Seen {
    Group(Arc<Group>, usize),
    Frame,
}

impl Feed {
    /// For an asker that said `open`. It may fall behind by `max_lag` before it is taken to the newest group.
    pub(super) fn new(stream: Arc<Stream>, open: &Open, max_lag: Duration) -> Self {
        Feed {
            stream,
            lanes: Vec::new(),
            held: open.held.clone(),
            backfill: open.backfill,
            past: None,
            catching_up: !open.held.is_empty(),
            sent_frame: false,
            segmentation: false,
            metadata: Arc::default(),
            interrupted: None,
            max_lag,
            skipped: 0,
            can_wait: true,
            picture: None,
        }
    }

    /// Segmentation was told already.
    pub(super) fn knows_segmentation(&mut self) {
        self.segmentation = true;
    }

    /// How many groups were left out because the asker was too slow.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether all that was written since the last call is sound of a stream with pictures: it can go out with the next
    /// one, which saves both nodes more than half of their wake-ups.
    pub(super) fn can_wait(&mut self) -> bool {
        std::mem::replace(&mut self.can_wait, true)
    }

    /// Writes what there is, live frames first. Call again when the stream changes, and at once after [`Progress::More`].
    pub(super) fn fill(&mut self, to: &mut Encoder) -> Result<Progress, WireError> {
        // Asked first: what is not there after the end never comes.
        let ended = self.stream.is_ended();
        self.tell_state(to)?;
        if !self.catching_up && self.is_late() {
            self.jump_to_newest();
        }
        while to.batch().len() < LIVE {
            match self.next_live() {
                Some((lane, seen)) => self.send(lane, seen, to)?,
                None => break,
            }
        }
        if to.batch().len() >= LIVE {
            return Ok(Progress::More);
        }
        self.catching_up = false;
        if ended && self.lanes.iter_mut().all(Lane::is_over) {
            return Ok(Progress::Ended);
        }
        if self.backfill && self.sent_frame && (to.batch().len() >= OLDER || self.send_older(to)?) {
            return Ok(Progress::More);
        }
        Ok(Progress::Done)
    }

    fn tell_state(&mut self, to: &mut Encoder) -> Result<(), WireError> {
        let before = to.batch().len();
        self.tell_changes(to)?;
        self.can_wait &= to.batch().len() == before;
        Ok(())
    }

    fn tell_changes(&mut self, to: &mut Encoder) -> Result<(), WireError> {
        let tracks = self.stream.tracks();
        if tracks.len() > self.lanes.len() {
            self.take_tracks(tracks, to)?;
        }
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            let config = lane.track.config();
            if !Arc::ptr_eq(&config, &lane.told) {
                if config != lane.told {
                    to.encode(Message::Config { track: i as TrackId, config: (*config).clone() })?;
                }
                lane.told = config;
            }
        }
        if !self.segmentation
            && let Some(known) = self.stream.segmentation()
        {
            self.segmentation = true;
            to.encode(Message::Segmentation(known))?;
        }
        let metadata = self.stream.metadata();
        if !Arc::ptr_eq(&metadata, &self.metadata) {
            if !metadata.is_empty() || !self.metadata.is_empty() {
                to.encode(Message::Metadata(metadata.to_vec()))?;
            }
            self.metadata = metadata;
        }
        let interrupted = self.stream.is_interrupted();
        if self.interrupted != Some(interrupted) {
            self.interrupted = Some(interrupted);
            to.encode(Message::Interrupted(interrupted))?;
        }
        Ok(())
    }

    fn take_tracks(&mut self, tracks: Vec<Arc<Track>>, to: &mut Encoder) -> Result<(), WireError> {
        let first = self.lanes.is_empty();
        let told = self.lanes.len();
        for track in tracks.into_iter().skip(told) {
            let config = track.config();
            to.encode(Message::Track((*config).clone()))?;
            let video = config.is_video();
            let nth = self.lanes.iter().filter(|l| l.told.is_video() == video).count();
            let of_it = |h: &&Held| h.newest.video == video && usize::from(h.newest.index) == nth;
            let held = self.held.iter().find(of_it).copied();
            self.lanes.push(Lane {
                cursor: Cursor::oldest(&track.ring, Duration::MAX),
                track,
                told: config,
                epoch: 0,
                resume: held.map(|h| h.newest),
                dropping: false,
                oldest: held.map(|h| h.oldest),
            });
        }
        // Where those begin of which the asker has nothing: with the others.
        let here = if first && self.held.is_empty() {
            self.newest_place()
        } else {
            let held = self.held.iter().map(|h| (h.newest.epoch, h.newest.group));
            held.chain(self.lanes[..told].iter().filter_map(Lane::place)).min()
        };
        for lane in &mut self.lanes[told..] {
            let from = lane.resume.map(|p| (p.epoch, p.group)).or(here);
            lane.start(from);
            if lane.oldest.is_none() {
                lane.oldest = lane.place();
            }
        }
        Ok(())
    }

    /// The newest group where all tracks can begin together: with the pictures that lead.
    fn newest_place(&self) -> Option<Place> {
        let pictures = self.lanes.iter().filter(|lane| lane.told.is_video());
        let leading = pictures.filter_map(|lane| lane.track.ring.newest(|h| h.independent && h.leads));
        if let Some(place) = leading.map(|group| group.head.stamp.place()).max() {
            return Some(place);
        }
        let reference = self.lanes.iter().find(|l| l.told.is_video()).or(self.lanes.first())?;
        let ring = &reference.track.ring;
        let newest = ring.newest(|h| h.independent).or_else(|| ring.newest(|_| true))?;
        Some(newest.head.stamp.place())
    }

    fn is_late(&mut self) -> bool {
        let max_lag = self.max_lag;
        self.lanes.iter_mut().any(|lane| {
            let Some(newest) = lane.track.ring.newest(|h| h.independent) else { return false };
            let at = match lane.cursor.peek(&lane.track.ring) {
                Peek::Group(g) => g.head.stamp.start,
                Peek::Item(arrived) => arrived.frame.dts,
                Peek::Behind => return true,
                Peek::Nothing | Peek::End => return false,
            };
            newest.head.stamp.start.since(at) > max_lag
        })
    }

    fn jump_to_newest(&mut self) {
        let Some(place) = self.newest_place() else { return };
        let reference = self.lanes.iter().position(|l| l.told.is_video()).unwrap_or(0);
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            let ring = &lane.track.ring;
            let Some(to) = ring.oldest(|h| h.stamp.place() >= place).or_else(|| ring.newest(|_| true)) else {
                continue;
            };
            // The group that it is in goes on: it could not begin again on the other side.
            if lane.place().is_some_and(|here| to.head.stamp.place() <= here) {
                continue;
            }
            let skipped = lane.cursor.jump_to(to);
            (lane.resume, lane.dropping) = (None, false);
            if i == reference {
                self.skipped += skipped;
            }
        }
    }

    /// What comes next, in the order of arrival.
    fn next_live(&mut self) -> Option<(usize, Seen)> {
        // Twice at most: after a jump nobody is behind for a moment.
        for _ in 0..2 {
            let mut best: Option<((u64, u64), usize, Seen)> = None;
            let mut behind = false;
            for (i, lane) in self.lanes.iter_mut().enumerate() {
                match lane.look() {
                    Ok(Some((order, seen))) => {
                        if best.as_ref().is_none_or(|(o, ..)| order < *o) {
                            best = Some((order, i, seen));
                        }
                    }
                    Ok(None) => {}
                    Err(Behind) => behind = true,
                }
            }
            if !behind {
                return best.map(|(_, lane, seen)| (lane, seen));
            }
            self.catching_up = false;
            self.jump_to_newest();
        }
        None
    }

    fn send(&mut self, index: usize, seen: Seen, to: &mut Encoder) -> Result<(), WireError> {
        let lane = &mut self.lanes[index];
        let track = index as TrackId;
        match seen {
            Seen::Group(group, from) => {
                lane.cursor.advance();
                for _ in 0..from {
                    lane.cursor.advance();
                }
                (lane.resume, lane.epoch) = (None, group.head.stamp.epoch);
                to.encode(Message::Group { track, head: group.head.clone(), from: from as u64 })
            }
            Seen::Frame => {
                let arrived = match lane.cursor.peek(&lane.track.ring) {
                    Peek::Item(arrived) => arrived.clone(),
                    _ => return Ok(()),
                };
                lane.cursor.advance();
                self.sent_frame = true;
                let at = arrived.frame.dts;
                if lane.told.is_video() {
                    self.picture = Some(at);
                    self.can_wait = false;
                } else {
                    // Not where pictures have stopped.
                    self.can_wait &= self.picture.is_some_and(|p| at.since(p) < PICTURES);
                }
                to.encode(Message::Frame { track, arrived })
            }
        }
    }

    /// Older groups, the newest of them first, so that what the asker has never has a hole. Says whether there are
    /// more right now.
    fn send_older(&mut self, to: &mut Encoder) -> Result<bool, WireError> {
        // Asked first: what this node still fetches itself is put in front of what it has.
        let whole = self.stream.is_backfilled();
        let most = to.batch().len() + OLDER;
        while to.batch().len() < most {
            if let Some(past) = &mut self.past {
                match past.group.get(past.index).filter(|_| past.index < past.frames) {
                    Some(arrived) => {
                        past.index += 1;
                        to.encode(Message::PastFrame(arrived.clone()))?;
                    }
                    None => self.past = None,
                }
                continue;
            }
            let older = |lane: &Lane| {
                let before = lane.oldest?;
                lane.track.ring.newest(|h| h.stamp.place() < before)
            };
            let next = self.lanes.iter().enumerate().filter_map(|(i, l)| Some((i, older(l)?)));
            let Some((i, group)) = next.max_by_key(|(i, g)| (g.head.stamp.place(), usize::MAX - i)) else {
                if whole {
                    self.backfill = false;
                    to.encode(Message::BackfillDone)?;
                }
                return Ok(false);
            };
            self.lanes[i].oldest = Some(group.head.stamp.place());
            let frames = group.len();
            if frames > 0 {
                to.encode(Message::Past {
                    track: i as TrackId,
                    head: group.head.clone(),
                    frames: frames as u64,
                })?;
                self.past = Some(PastGroup { group, index: 0, frames });
            }
        }
        Ok(true)
    }
}

/// What comes next, and its place in the order of arrival: epoch and count of frames.
type Ahead = ((u64, u64), Seen);

/// The ring has let go of what comes next.
struct Behind;

impl Lane {
    fn place(&self) -> Option<Place> {
        self.cursor.group().map(|g| g.head.stamp.place())
    }

    /// Puts the cursor on the first group at or after `from`; where there is none, on the newest one, of which what
    /// the asker has is passed over.
    fn start(&mut self, from: Option<Place>) {
        let ring: &Ring<GroupHead, Arrived> = &self.track.ring;
        let wanted = from.and_then(|from| ring.oldest(|h| h.stamp.place() >= from));
        if let Some(group) = wanted.or_else(|| ring.newest(|_| true)) {
            self.cursor.jump_to(group);
        }
    }

    /// What comes next on this track and its place in the order of arrival: by epoch, as each owner counts anew.
    fn look(&mut self) -> Result<Option<Ahead>, Behind> {
        loop {
            match self.cursor.peek(&self.track.ring) {
                Peek::Group(group) => {
                    let (epoch, number) = group.head.stamp.place();
                    let mut from = 0;
                    if let Some(held) = self.resume {
                        let place = (held.epoch, held.group);
                        if (epoch, number) < place {
                            self.dropping = true;
                            self.cursor.advance();
                            continue;
                        }
                        if (epoch, number) == place {
                            from = usize::try_from(held.frames).unwrap_or(usize::MAX);
                        }
                    }
                    // Finished is read first: what is not there then never comes.
                    let finished = group.is_finished();
                    match group.get(from) {
                        Some(first) => {
                            self.dropping = false;
                            return Ok(Some(((epoch, first.order), Seen::Group(group.clone(), from))));
                        }
                        // A group is shown with the first frame that the asker lacks; it may have all of them.
                        None if finished => {
                            self.dropping = true;
                            self.cursor.advance();
                        }
                        None => return Ok(None),
                    }
                }
                Peek::Item(_) if self.dropping => self.cursor.advance(),
                Peek::Item(arrived) => return Ok(Some(((self.epoch, arrived.order), Seen::Frame))),
                Peek::Behind => return Err(Behind),
                Peek::Nothing | Peek::End => return Ok(None),
            }
        }
    }

    fn is_over(&mut self) -> bool {
        match self.cursor.peek(&self.track.ring) {
            Peek::End => true,
            Peek::Group(g) => g.is_finished() && g.is_empty(),
            Peek::Item(_) | Peek::Behind | Peek::Nothing => false,
        }
    }
}
