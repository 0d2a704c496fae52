//! The segments of one rendition that viewers can ask for, and what a playlist lists of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use sluice_media::Timestamp;

use crate::segmenter::{Init, Opening, Output, Part};
use crate::settings::{EVENT_BYTES, PlaylistType};

/// More missing numbers in a row than this are not shown as gaps: the list starts anew behind them.
const MOST_GAPS: u64 = 8;

/// Payload bytes that a rendition keeps at most; beyond that the list gets shorter, down to three segments.
const MOST_BYTES: usize = 128 << 20;
const SHORTEST_LIST: usize = 3;

/// A segment, complete or being made.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) media_sequence: u64,
    pub(crate) discontinuity_sequence: u64,
    pub(crate) start: Timestamp,
    pub(crate) wall_clock: SystemTime,
    /// Microseconds.
    pub(crate) duration: u64,
    pub(crate) frames: u32,
    pub(crate) independent: bool,
    /// Not there: the source or this node missed it.
    pub(crate) gap: bool,
    pub(crate) init: Option<Arc<Init>>,
    pub(crate) parts: Vec<Part>,
    /// All parts in one piece, once complete; the parts share its memory then.
    pub(crate) bytes: Bytes,
}

impl Segment {
    fn open(o: Opening) -> Self {
        Segment {
            media_sequence: o.media_sequence,
            discontinuity_sequence: o.discontinuity_sequence,
            start: o.start,
            wall_clock: o.wall_clock,
            duration: 0,
            frames: 0,
            independent: o.independent,
            gap: false,
            init: o.init,
            parts: Vec::new(),
            bytes: Bytes::new(),
        }
    }

    fn end(&self) -> Timestamp {
        self.start + Duration::from_micros(self.duration)
    }

    fn complete(&mut self) {
        if let [only] = &self.parts[..] {
            self.bytes = only.bytes.clone();
            return;
        }
        let mut all = BytesMut::with_capacity(self.parts.iter().map(|p| p.bytes.len()).sum());
        for p in &self.parts {
            all.extend_from_slice(&p.bytes);
        }
        self.bytes = all.freeze();
        let mut at = 0;
        for p in &mut self.parts {
            let to = at + p.bytes.len();
            p.bytes = self.bytes.slice(at..to);
            at = to;
        }
    }
}

/// A place in a rendition: `part` of segment `media_sequence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) media_sequence: u64,
    pub(crate) part: u32,
}

/// What to do with a request that names a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is there.
    Ready,
    /// It will come.
    Wait,
    /// It is too far away to wait for.
    TooFar,
}

/// The segments of one rendition.
#[derive(Debug)]
pub(crate) struct Window {
    list_size: usize,
    playlist_type: PlaylistType,
    target: Duration,
    /// Complete ones, oldest first; the last `listed` of them are in the playlist.
    segments: VecDeque<Segment>,
    open: Option<Segment>,
    listed: usize,
    bytes: usize,
    slid: bool,
    ended: bool,
    /// Bits per second of the fattest segment so far, and bits and microseconds of all of them.
    peak: u64,
    total: (u64, u64),
}

impl Window {
    pub(crate) fn new(list_size: usize, playlist_type: PlaylistType, target: Duration) -> Self {
        Window {
            list_size: list_size.max(SHORTEST_LIST),
            playlist_type,
            target,
            segments: VecDeque::new(),
            open: None,
            listed: 0,
            bytes: 0,
            slid: false,
            ended: false,
            peak: 0,
            total: (0, 0),
        }
    }

    /// Takes what a segmenter made.
    pub(crate) fn apply(&mut self, output: Output) {
        match output {
            Output::Open(opening) => {
                self.close();
                self.bridge(&opening);
                self.open = Some(Segment::open(opening));
            }
            Output::Part(part) => {
                if let Some(open) = &mut self.open {
                    open.duration += part.duration;
                    open.frames += part.frames;
                    self.bytes += part.bytes.len();
                    open.parts.push(part);
                }
            }
            Output::Close => self.close(),
        }
    }

    /// The stream is over.
    pub(crate) fn end(&mut self) {
        self.close();
        self.ended = true;
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    fn close(&mut self) {
        let Some(mut segment) = self.open.take() else { return };
        if segment.parts.is_empty() {
            return;
        }
        segment.complete();
        let bits = segment.bytes.len() as u64 * 8;
        self.peak = self.peak.max(bits.saturating_mul(1_000_000) / segment.duration.max(1));
        self.total = (self.total.0 + bits, self.total.1 + segment.duration);
        self.push(segment);
    }

    fn push(&mut self, segment: Segment) {
        self.segments.push_back(segment);
        self.listed += 1;
        let keep_all = self.playlist_type == PlaylistType::Event && !self.slid && self.bytes <= EVENT_BYTES;
        if keep_all {
            return;
        }
        while self.listed > self.list_size {
            self.listed -= 1;
            self.slid = true;
        }
        // A segment stays for as long as the longest playlist that named it, and its own time.
        let keep = self.list_size * 2 + 1;
        while self.segments.len() > keep || (self.bytes > MOST_BYTES && self.segments.len() > SHORTEST_LIST) {
            if let Some(old) = self.segments.pop_front() {
                self.bytes = self.bytes.saturating_sub(old.bytes.len());
                self.listed = self.listed.min(self.segments.len());
            }
        }
    }

    /// Numbers that nobody has are shown as gaps, or the list starts anew.
    fn bridge(&mut self, next: &Opening) {
        let Some(last) = self.segments.back() else { return };
        let expected = last.media_sequence + 1;
        let missing = next.media_sequence.checked_sub(expected);
        match missing {
            Some(0) => {}
            Some(n) if n <= MOST_GAPS => {
                let follows = last.discontinuity_sequence == next.discontinuity_sequence;
                let between = if follows { next.start.since(last.end()) } else { self.target * n as u32 };
                let each = (between / n as u32).clamp(Duration::from_millis(1), self.target);
                let (init, from, wall) = (last.init.clone(), last.end(), last.wall_clock);
                let (discontinuity_sequence, length) = (last.discontinuity_sequence, last.duration);
                for i in 0..n {
                    let after = each * i as u32;
                    self.push(Segment {
                        media_sequence: expected + i,
                        discontinuity_sequence,
                        start: from + after,
                        wall_clock: wall + Duration::from_micros(length) + after,
                        duration: each.as_micros() as u64,
                        frames: 0,
                        independent: true,
                        gap: true,
                        init: init.clone(),
                        parts: Vec::new(),
                        bytes: Bytes::new(),
                    });
                }
            }
            _ => {
                // Far ahead, or back: nothing of the old list can be said in the terms of the new one.
                self.segments.clear();
                self.listed = 0;
                self.bytes = 0;
                self.slid = true;
            }
        }
    }

    /// The complete segments that the playlist lists, oldest first.
    pub(crate) fn listed(&self) -> impl ExactSizeIterator<Item = &Segment> + DoubleEndedIterator {
        self.segments.range(self.segments.len() - self.listed..)
    }

    /// The segment that is being made, if it has a part.
    pub(crate) fn open_segment(&self) -> Option<&Segment> {
        self.open.as_ref().filter(|o| !o.parts.is_empty())
    }

    /// Whether old segments have stayed so far and will as long as possible.
    pub(crate) fn is_event(&self) -> bool {
        self.playlist_type == PlaylistType::Event && !self.slid
    }

    /// The place of the newest part.
    pub(crate) fn newest(&self) -> Option<Place> {
        self.open_segment().or(self.segments.back()).map(|s| Place {
            media_sequence: s.media_sequence,
            part: (s.parts.len() as u32).saturating_sub(1),
        })
    }

    /// The place of the part that comes next, if the segment being made goes on.
    pub(crate) fn next(&self) -> Option<Place> {
        match self.open_segment() {
            Some(o) => Some(Place { media_sequence: o.media_sequence, part: o.parts.len() as u32 }),
            None => Some(Place { media_sequence: self.segments.back()?.media_sequence + 1, part: 0 }),
        }
    }

    /// A segment by its number.
    pub(crate) fn segment(&self, media_sequence: u64) -> Option<&Segment> {
        let first = self.segments.front()?.media_sequence;
        let i = usize::try_from(media_sequence.checked_sub(first)?).ok()?;
        self.segments.get(i).filter(|s| s.media_sequence == media_sequence && !s.gap)
    }

    /// A part by its place.
    pub(crate) fn part(&self, place: Place) -> Option<&Part> {
        let open = self.open.as_ref().filter(|o| o.media_sequence == place.media_sequence);
        open.or_else(|| self.segment(place.media_sequence))?.parts.get(place.part as usize)
    }

    /// An init segment by its name.
    pub(crate) fn init(&self, name: u32) -> Option<&Arc<Init>> {
        let newest_first = self.open.iter().chain(self.segments.iter().rev());
        newest_first.filter_map(|s| s.init.as_ref()).find(|i| i.name == name)
    }

    /// The newest init segment.
    pub(crate) fn newest_init(&self) -> Option<&Arc<Init>> {
        self.open.as_ref().or(self.segments.back())?.init.as_ref()
    }

    /// Whether a blocking reload can be answered (rfc8216bis, 6.2.5.2). `part` without a value asks for
    /// the whole segment.
    pub(crate) fn reload(&self, media_sequence: u64, part: Option<u32>, part_target: Duration) -> Verdict {
        let Some(newest) = self.newest() else { return Verdict::Wait };
        if self.ended {
            return Verdict::Ready;
        }
        let complete = self.segments.back().map(|s| s.media_sequence);
        if media_sequence > newest.media_sequence.saturating_add(2) {
            return Verdict::TooFar;
        }
        let Some(part) = part else {
            return if complete.is_some_and(|c| media_sequence <= c) {
                Verdict::Ready
            } else {
                Verdict::Wait
            };
        };
        let (mut msn, mut part) = (media_sequence, part);
        if let Some(c) = complete.filter(|c| msn <= *c) {
            // The part after the last of a complete segment is the first of the next one.
            let there = if msn == c { self.segments.back() } else { self.segment(msn) };
            match there {
                Some(s) if part as usize >= s.parts.len() => (msn, part) = (msn + 1, 0),
                _ => return Verdict::Ready,
            }
            if msn <= c {
                return Verdict::Ready;
            }
        }
        let open = self.open_segment();
        let parts = open.filter(|o| o.media_sequence == msn).map_or(0, |o| o.parts.len() as u32);
        if part < parts || open.is_some_and(|o| o.media_sequence > msn) {
            return Verdict::Ready;
        }
        // The Advance Part Limit: three seconds' worth of parts, at least three.
        let advance = (3000 / part_target.as_millis().max(1)).max(3) as u32;
        if part >= parts.saturating_add(advance) { Verdict::TooFar } else { Verdict::Wait }
    }

    /// The highest and the mean bit rate, in bits per second.
    pub(crate) fn bit_rates(&self) -> (u64, u64) {
        (self.peak, self.total.0.saturating_mul(1_000_000) / self.total.1.max(1))
    }

    /// Frames per second in the newest complete segments.
    pub(crate) fn frame_rate(&self) -> Option<f64> {
        let recent = self.segments.iter().rev().filter(|s| !s.gap).take(4);
        let (n, d) = recent.fold((0u64, 0u64), |(n, d), s| (n + u64::from(s.frames), d + s.duration));
        (n > 1 && d > 0).then(|| n as f64 * 1e6 / d as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Duration = Duration::from_millis(200);

    fn opening(msn: u64, disc: u64, start: i64) -> Output {
        Output::Open(Opening {
            media_sequence: msn,
            discontinuity_sequence: disc,
            start: Timestamp::from_millis(start),
            wall_clock: SystemTime::UNIX_EPOCH,
            independent: true,
            init: None,
        })
    }

    fn part() -> Output {
        let bytes = Bytes::from_static(b"part");
        Output::Part(Part { duration: 200_000, independent: true, frames: 6, bytes })
    }

    /// Segments 10 and 11 of five parts, and two parts of 12.
    fn window() -> Window {
        let mut w = Window::new(3, PlaylistType::Sliding, Duration::from_secs(1));
        for msn in 10..13 {
            w.apply(opening(msn, 0, msn as i64 * 1000));
            (0..if msn == 12 { 2 } else { 5 }).for_each(|_| w.apply(part()));
            if msn < 12 {
                w.apply(Output::Close);
            }
        }
        w
    }

    #[test]
    fn reloads() {
        let w = window();
        for (msn, part, verdict) in [
            (3, None, Verdict::Ready),
            (11, None, Verdict::Ready),
            (12, None, Verdict::Wait),
            (13, None, Verdict::Wait),
            (14, None, Verdict::Wait),
            (15, None, Verdict::TooFar),
            (3, Some(99), Verdict::Ready),
            (10, Some(5), Verdict::Ready),
            (11, Some(4), Verdict::Ready),
            // The part after the last of 11 is 12.0, which is there.
            (11, Some(5), Verdict::Ready),
            (12, Some(1), Verdict::Ready),
            (12, Some(2), Verdict::Wait),
            (12, Some(16), Verdict::Wait),
            (12, Some(17), Verdict::TooFar),
            (13, Some(0), Verdict::Wait),
        ] {
            assert_eq!(w.reload(msn, part, PART), verdict, "{msn} {part:?}");
        }
        let mut w = window();
        w.apply(Output::Close);
        // Now it is 13.0, of which nothing is there yet.
        assert_eq!(w.reload(12, Some(1), PART), Verdict::Ready);
        assert_eq!(w.reload(12, Some(2), PART), Verdict::Wait);
        assert_eq!(w.reload(12, Some(9), PART), Verdict::Wait);
        assert_eq!(w.next(), Some(Place { media_sequence: 13, part: 0 }));
        w.apply(opening(13, 0, 13_000));
        assert_eq!(w.reload(12, Some(2), PART), Verdict::Wait);
        w.apply(part());
        assert_eq!(w.reload(12, Some(2), PART), Verdict::Ready);
        w.end();
        assert_eq!(w.reload(99, Some(2), PART), Verdict::Ready, "there is nothing to wait for");
    }

    #[test]
    fn a_list_slides_and_keeps_what_it_named() {
        let mut w = window();
        for msn in 13..40 {
            w.apply(opening(msn, 0, msn as i64 * 1000));
            w.apply(part());
            w.apply(Output::Close);
        }
        let listed: Vec<u64> = w.listed().map(|s| s.media_sequence).collect();
        assert_eq!(listed, [37, 38, 39]);
        assert!(w.segment(33).is_some() && w.segment(32).is_none());
        assert_eq!(w.part(Place { media_sequence: 39, part: 0 }).map(|p| p.bytes.len()), Some(4));
        assert_eq!(w.bytes, 7 * 4);
    }

    #[test]
    fn missing_numbers_are_gaps_and_many_of_them_a_new_list() {
        let mut w = window();
        w.apply(opening(15, 0, 16_000));
        w.apply(part());
        w.apply(Output::Close);
        let gaps: Vec<(u64, bool)> = w.listed().map(|s| (s.media_sequence, s.gap)).collect();
        assert_eq!(gaps, [(13, true), (14, true), (15, false)]);
        assert!(w.segment(13).is_none());
        for (msn, disc) in [(500, 1), (3, 2)] {
            w.apply(opening(msn, disc, 0));
            w.apply(part());
            w.apply(Output::Close);
            let listed: Vec<u64> = w.listed().map(|s| s.media_sequence).collect();
            assert_eq!(listed, [msn]);
        }
    }

    #[test]
    fn memory_is_bounded_whatever_the_list_size() {
        let mut w = Window::new(1000, PlaylistType::Sliding, Duration::from_secs(1));
        let large = Bytes::from(vec![0; 40 << 20]);
        for msn in 0..9 {
            w.apply(opening(msn, 0, msn as i64 * 1000));
            let bytes = large.clone();
            w.apply(Output::Part(Part { duration: 1_000_000, independent: true, frames: 30, bytes }));
            w.apply(Output::Close);
        }
        assert_eq!((w.segments.len(), w.listed().len(), w.bytes), (3, 3, 120 << 20));
    }

    #[test]
    fn an_event_keeps_everything() {
        let mut w = Window::new(3, PlaylistType::Event, Duration::from_secs(1));
        for msn in 0..50 {
            w.apply(opening(msn, 0, msn as i64 * 1000));
            w.apply(part());
            w.apply(Output::Close);
        }
        assert_eq!((w.listed().len(), w.is_event()), (50, true));
    }
}
