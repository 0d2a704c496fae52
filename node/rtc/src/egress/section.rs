//! A media section of one viewer: which track it reads, where it is in it, and when it goes elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_media::Timestamp;
use sluice_media::ring::{Cursor, Peek};

use super::choose::Choice;
use super::feed::Feed;
use super::lane::{Head, Lane, LaneGroup, Packets};
use super::stream::{Output, Place, RtpStream};
use crate::agreed::{Codec, Sending};

/// How far behind the newest keyframe a viewer may be before it skips to it.
const LAG: Duration = Duration::from_secs(3);
/// A viewer whose packets have waited for this long goes on with a newer keyframe, if there is one.
const LATE: Duration = Duration::from_millis(400);
/// One that waits for this long needs one.
const VERY_LATE: Duration = Duration::from_secs(2);
/// Sound older than this is not sent to a newcomer.
const OLD_SOUND: Duration = Duration::from_millis(100);
/// Renditions show the same moment at slightly different times: a keyframe that is earlier by no more than this can follow.
const SAME_MOMENT: i64 = 60_000;
/// How long a keyframe of another rendition is waited for before it is asked for, and asked for again.
const ASK: Duration = Duration::from_millis(300);
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// A keyframe that was sent this lately is on its way to a viewer who asks for one.
const JUST_SENT: Duration = Duration::from_millis(300);
/// A rendition is gone when it is this far behind the others.
const GONE: Duration = Duration::from_secs(2);
/// Sound that is this far behind the other is over.
const SILENT: Duration = Duration::from_secs(1);
/// A newcomer to a group that is longer than this is better served with a new one.
const LONG: Duration = Duration::from_secs(3);

/// A place in a track.
#[derive(Debug)]
struct Reading {
    lane: Arc<Lane>,
    cursor: Cursor<Head, Packets>,
    group: u32,
    item: usize,
    /// Packets of the frame that are sent already.
    at: usize,
}

impl Reading {
    fn new(lane: &Arc<Lane>, group: Option<Arc<LaneGroup>>) -> Self {
        let mut cursor = Cursor::newest(&lane.ring, LAG);
        match group {
            Some(group) => cursor.jump_to(group),
            None => cursor.jump_to_end(&lane.ring),
        };
        Reading { lane: lane.clone(), cursor, group: 0, item: 0, at: 0 }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) sending: Sending,
    /// Index of the feed in the session.
    pub(crate) feed: usize,
    pub(crate) enabled: bool,
    pub(crate) rtp: RtpStream,
    /// The tracks that can be sent here: renditions, best first, or the sound.
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) choice: Option<Choice>,
    /// The height that the viewer asked for.
    pub(crate) forced: Option<u32>,
    /// Only keyframes are sent.
    pub(crate) thinned: bool,
    /// Asked for by the viewer or by what is below: a keyframe from the publisher.
    pub(crate) wish: bool,
    reading: Option<Reading>,
    target: Option<(Arc<Lane>, Instant)>,
    /// Nothing is sent until a keyframe comes.
    holding: bool,
    /// When the frame that was sent last is due.
    last: Option<Timestamp>,
    last_keyframe: Option<Instant>,
    blocked: Option<Instant>,
    version: u64,
    pub(crate) next_report: Instant,
}

impl Section {
    pub(crate) fn new(sending: &Sending, feed: usize, seed: u64, now: Instant) -> Self {
        Section {
            sending: sending.clone(),
            feed,
            enabled: true,
            rtp: RtpStream::new(sending, seed),
            lanes: Vec::new(),
            choice: None,
            forced: None,
            thinned: false,
            wish: false,
            reading: None,
            target: None,
            holding: true,
            last: None,
            last_keyframe: None,
            blocked: None,
            version: 0,
            next_report: now,
        }
    }

    /// The same where the session's feeds and tracks are numbered anew.
    pub(crate) fn moved(mut self, feed: usize, track: usize) -> Self {
        self.feed = feed;
        self.sending.track = track;
        self
    }

    /// Looks which tracks there are, if that changed.
    pub(crate) fn look(&mut self, feed: &Feed) {
        let version = feed.version();
        if self.version == version {
            return;
        }
        self.version = version;
        self.lanes = match self.sending.payload.codec {
            Codec::Video(codec) => feed.video(Some(codec)),
            Codec::Audio(_) => feed.audio().into_iter().collect(),
        };
        // The order may be another one now.
        let target = self.target.as_ref().map(|(lane, _)| lane);
        let lane = target.or(self.reading.as_ref().map(|r| &r.lane));
        let rung = lane.and_then(|lane| self.lanes.iter().position(|l| l.id == lane.id));
        if let (Some(choice), Some(rung)) = (&mut self.choice, rung) {
            choice.moved(rung);
        }
    }

    /// Which renditions can be had, best first.
    pub(crate) fn alive(&self) -> Vec<bool> {
        let newest = self.lanes.iter().map(|l| l.newest()).max().unwrap_or_default();
        self.lanes.iter().map(|l| newest.since(l.newest()) <= GONE).collect()
    }

    /// Goes on with other sound where this one is over: a publisher came back with another codec.
    pub(crate) fn follow_sound(&mut self, feed: &Feed) {
        let Some(best) = feed.audio() else { return };
        let Some(lane) = self.lane().filter(|lane| !Arc::ptr_eq(lane, &best)) else { return };
        if best.newest().since(lane.newest()) > SILENT || self.is_through() {
            self.reading = None;
            self.lanes = vec![best];
        }
    }

    /// Whether its track is over though the stream goes on: it has another codec now.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.sending.video && self.lanes.is_empty() && self.reading.is_some() && self.is_through()
    }

    /// The renditions in bits a second, best first; 0 for one that cannot be had, or was not measured yet.
    pub(crate) fn rungs(&self, alive: &[bool]) -> Vec<u64> {
        self.lanes.iter().zip(alive).map(|(l, alive)| if *alive { l.bitrate() } else { 0 }).collect()
    }

    /// Index of the rendition that the viewer asked for, or the nearest to it that can be had.
    pub(crate) fn forced_rung(&self, alive: &[bool]) -> Option<usize> {
        let wanted = self.forced?;
        let there = (0..self.lanes.len()).filter(|i| alive.get(*i) == Some(&true));
        there.min_by_key(|i| self.lanes[*i].height().abs_diff(wanted))
    }

    /// Wants this rendition from its next keyframe on; whether that is news.
    pub(crate) fn choose(&mut self, rung: usize, now: Instant) -> bool {
        let Some(lane) = self.lanes.get(rung) else { return false };
        let is = |l: &Arc<Lane>| Arc::ptr_eq(l, lane);
        match (&self.reading, &self.target) {
            (_, Some((target, _))) if is(target) => false,
            (Some(reading), _) if is(&reading.lane) => self.target.take().is_some(),
            _ => {
                self.target = Some((lane.clone(), now));
                true
            }
        }
    }

    /// Whether only keyframes should be sent of what needs so many bits a second, until something smaller comes.
    pub(crate) fn thinned_until(&self, estimate: f64, needs: f64) -> bool {
        const TOO_MUCH: f64 = 0.6;
        self.target.is_some() && estimate < TOO_MUCH * needs
    }

    /// The rendition that is sent.
    pub(crate) fn lane(&self) -> Option<&Arc<Lane>> {
        self.reading.as_ref().map(|r| &r.lane)
    }

    /// A keyframe came too late or not at all, says the viewer.
    pub(crate) fn keyframe_wanted(&mut self, rtt: Duration, now: Instant) {
        let recent =
            self.last_keyframe.is_some_and(|at| now.saturating_duration_since(at) < JUST_SENT.max(rtt));
        if recent {
            return;
        }
        // Time only goes forward: only one that it did not get yet is of use.
        match &mut self.reading {
            Some(r) if r.at == 0 && self.enabled => match r.lane.keyframe().filter(|g| newer(g, r.group)) {
                Some(group) => {
                    r.cursor.jump_to(group);
                }
                None => self.wish = true,
            },
            _ => self.wish = true,
        }
    }

    pub(crate) fn enable(&mut self, enabled: bool) {
        if self.enabled != enabled {
            self.enabled = enabled;
            self.reading = None;
            self.blocked = None;
            self.holding = true;
        }
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_through(&mut self) -> bool {
        match &mut self.reading {
            Some(r) => matches!(r.cursor.peek(&r.lane.ring), Peek::End),
            None => true,
        }
    }

    /// Sends what is there, video within the allowance. Gives the height of another rendition when that begins, and the bytes
    /// of the frame that has to wait.
    pub(crate) fn advance(&mut self, out: &mut Output<'_>, now: Instant) -> (Option<u32>, usize) {
        if !self.enabled {
            return (None, 0);
        }
        let switched = self.place(now);
        let Section { rtp, reading, sending, holding, thinned, last, last_keyframe, blocked, wish, .. } =
            self;
        let Some(Reading { lane, cursor, group, item, at }) = reading else { return (switched, 0) };
        let video = sending.video;
        loop {
            match cursor.peek(&lane.ring) {
                Peek::Group(g) => {
                    (*group, *item, *at) = (g.head.number, 0, 0);
                    *holding &= !g.head.independent;
                    cursor.advance();
                }
                Peek::Item(frame) => {
                    let old = !video && lane.newest().since(frame.time) > OLD_SOUND * 10;
                    if old || (*holding && !frame.keyframe) {
                        *item += 1;
                        cursor.advance();
                        continue;
                    }
                    if *at == 0 {
                        if video && *out.allowance <= 0.0 {
                            blocked.get_or_insert(now);
                            return (switched, frame.bytes.len());
                        }
                        rtp.begin(frame);
                    }
                    let place = Place { lane: lane.id, group: *group, item: *item };
                    while *at < frame.ends.len() {
                        if video && *out.allowance <= 0.0 {
                            blocked.get_or_insert(now);
                            let done = at.checked_sub(1).map_or(0, |i| frame.ends[i] as usize);
                            return (switched, frame.bytes.len() - done);
                        }
                        rtp.send(frame, *at, place, out);
                        *at += 1;
                    }
                    *last = Some(frame.time);
                    if video && frame.keyframe {
                        *last_keyframe = Some(now);
                    }
                    *holding = video && *thinned;
                    (*item, *at) = (*item + 1, 0);
                    cursor.advance();
                }
                Peek::Behind => {
                    cursor.jump_to_newest(&lane.ring);
                    *at = 0;
                    *wish |= lane.keyframe().is_none();
                }
                Peek::Nothing | Peek::End => {
                    *blocked = None;
                    return (switched, 0);
                }
            }
        }
    }

    /// Goes to where it should read: to begin, to another rendition, to a newer keyframe when it is late.
    fn place(&mut self, now: Instant) -> Option<u32> {
        if self.reading.as_ref().is_some_and(|r| r.at > 0) {
            return None;
        }
        if !self.sending.video {
            self.place_sound();
            return None;
        }
        if self.reading.is_none() {
            let first = self.target.take().map(|(lane, _)| lane);
            let lane = first.or_else(|| self.lanes.first().cloned())?;
            let group = self.next_group(&lane);
            let long = group.as_ref().is_none_or(|g| lane.newest().since(g.head.start) > LONG);
            self.wish |= long;
            self.holding = true;
            self.reading = Some(Reading::new(&lane, group));
            return None;
        }
        if let Some((lane, since)) = &mut self.target {
            let (lane, waited) = (lane.clone(), now.saturating_duration_since(*since));
            if let Some(group) = self.next_group(&lane) {
                self.target = None;
                self.holding = true;
                // Whether this one is too much as well is yet to be seen.
                self.thinned = false;
                self.reading = Some(Reading::new(&lane, Some(group)));
                return Some(lane.height());
            }
            if waited >= ASK {
                self.wish = true;
                self.target = Some((lane, now + (ASK_AGAIN - ASK)));
            }
        }
        let late = self.blocked.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if late > LATE
            && let Some(r) = &mut self.reading
        {
            if let Some(group) = r.lane.keyframe().filter(|g| newer(g, r.group)) {
                r.cursor.jump_to(group);
                self.blocked = Some(now);
            } else {
                self.wish |= late > VERY_LATE;
            }
        }
        None
    }

    fn place_sound(&mut self) {
        if self.reading.is_none()
            && let Some(lane) = self.lanes.first()
        {
            let mut reading = Reading::new(lane, lane.ring.newest(|_| true));
            loop {
                match reading.cursor.peek(&lane.ring) {
                    Peek::Group(g) => (reading.group, reading.item) = (g.head.number, 0),
                    Peek::Item(frame) => {
                        let sent = self.last.is_some_and(|last| frame.time <= last);
                        if !sent && lane.newest().since(frame.time) <= OLD_SOUND {
                            break;
                        }
                        reading.item += 1;
                    }
                    Peek::Behind | Peek::Nothing | Peek::End => break,
                }
                reading.cursor.advance();
            }
            self.holding = false;
            self.reading = Some(reading);
        }
    }

    /// The newest group of a rendition that can follow what was sent.
    fn next_group(&self, lane: &Lane) -> Option<Arc<LaneGroup>> {
        let group = lane.keyframe().filter(|g| !g.is_empty())?;
        let follows = self.last.is_none_or(|last| group.head.start - last >= -SAME_MOMENT);
        follows.then_some(group)
    }
}

fn newer(group: &LaneGroup, than: u32) -> bool {
    group.head.independent && group.head.number.wrapping_sub(than) as i32 > 0
}
