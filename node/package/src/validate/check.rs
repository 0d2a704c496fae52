//! Follows one media playlist over its reloads and notes every broken rule.

use std::collections::BTreeMap;
use std::time::Duration;

use super::parse::{Listed, Playlist, parse};

/// Rounding of decimals in playlists, in seconds.
const EPSILON: f64 = 0.000_002;

/// What a client asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ask {
    /// `_HLS_msn`.
    pub msn: Option<u64>,
    /// `_HLS_part`.
    pub part: Option<u32>,
    /// `_HLS_skip`.
    pub skip: bool,
}

/// Follows one media playlist.
#[derive(Debug)]
pub struct Checker {
    late: Duration,
    known: BTreeMap<u64, Listed>,
    current: Option<Playlist>,
    broken: Vec<String>,
    seen: usize,
    deltas: usize,
    blocked: Vec<Duration>,
}

impl Checker {
    /// `late` is by how much an answer may come after the part that it waited for was due.
    pub fn new(late: Duration) -> Self {
        Checker {
            late,
            known: BTreeMap::new(),
            current: None,
            broken: Vec::new(),
            seen: 0,
            deltas: 0,
            blocked: Vec::new(),
        }
    }

    /// Takes an answer and the time it took. Returns the playlist, made whole if it was a delta update.
    pub fn observe(&mut self, ask: Ask, took: Duration, text: &str) -> Option<&Playlist> {
        self.seen += 1;
        let mut p = match parse(text) {
            Ok(p) => p,
            Err(e) => {
                self.note(format!("not a media playlist: {e}"));
                return None;
            }
        };
        self.header(&p);
        if p.skipped > 0 {
            self.whole(ask, &mut p);
        }
        self.segments(&p);
        self.parts(&p);
        self.follows(&p);
        self.answers(ask, took, &p);
        for s in &p.segments {
            self.known.insert(s.media_sequence, s.clone());
        }
        self.current = Some(p);
        self.current.as_ref()
    }

    /// Every broken rule, with the number of the answer that broke it.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// Answers seen, and delta updates among them.
    pub fn counts(&self) -> (usize, usize) {
        (self.seen, self.deltas)
    }

    /// How long the blocking requests took that waited for the next part, in order.
    pub fn blocked(&self) -> &[Duration] {
        &self.blocked
    }

    fn note(&mut self, what: String) {
        // The first ones tell it; a server that breaks a rule each time must not fill the memory.
        if self.broken.len() < 1000 {
            self.broken.push(format!("answer {}: {what}", self.seen));
        }
    }

    fn rule(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.note(what());
        }
    }

    fn header(&mut self, p: &Playlist) {
        let target = p.target_duration as f64;
        let before = self.current.as_ref().map(|c| (c.target_duration, c.part_target, c.ended));
        if let Some((t, part, ended)) = before {
            self.rule(t == p.target_duration, || {
                format!("TARGETDURATION went from {t} to {}", p.target_duration)
            });
            self.rule(part == p.part_target, || "PART-TARGET changed".into());
            self.rule(!ended || p.ended, || "an ended playlist goes on".into());
        }
        let c = p.control.clone();
        if let Some(part) = p.part_target {
            let hold = c.part_hold_back;
            self.rule(hold.is_some_and(|h| h >= part * 3.0 - EPSILON), || {
                format!("PART-HOLD-BACK {hold:?} is less than three part targets of {part}")
            });
            self.rule(part <= target, || "PART-TARGET exceeds TARGETDURATION".into());
            let gone = p.hint.is_none() && !p.ended;
            self.rule(!gone, || "there are parts but no EXT-X-PRELOAD-HINT".into());
            self.rule(!(p.ended && p.hint.is_some()), || "an ended playlist hints at a part".into());
        }
        self.rule(c.hold_back.is_none_or(|h| h >= target * 3.0 - EPSILON), || {
            "HOLD-BACK is too small".into()
        });
        self.rule(c.can_skip_until.is_none_or(|s| s >= target * 6.0 - EPSILON), || {
            "CAN-SKIP-UNTIL is less than six target durations".into()
        });
        self.rule(p.skipped == 0 || p.version >= 9, || "EXT-X-SKIP needs version 9".into());
        let gaps = p.segments.iter().any(|s| s.gap);
        self.rule(!gaps || p.version >= 8, || "EXT-X-GAP needs version 8".into());
        let maps = p.segments.iter().any(|s| s.map.is_some());
        self.rule(!maps || p.version >= 6, || "EXT-X-MAP needs version 6".into());
    }

    /// Puts the skipped segments back.
    fn whole(&mut self, ask: Ask, p: &mut Playlist) {
        self.deltas += 1;
        self.rule(ask.skip, || "a delta update that nobody asked for".into());
        let Some(until) = p.control.can_skip_until else {
            self.note("a delta update without CAN-SKIP-UNTIL".into());
            return;
        };
        let listed: f64 = p.segments.iter().map(length).sum();
        self.rule(listed >= until - EPSILON, || format!("skips segments within the boundary of {until} s"));
        let first = p.media_sequence;
        let mut whole: Vec<Listed> = Vec::new();
        for n in first..first + p.skipped {
            match self.known.get(&n) {
                Some(s) => whole.push(s.clone()),
                None => {
                    self.note(format!("segment {n} is skipped, but was never listed"));
                    return;
                }
            }
        }
        let map = whole.last().and_then(|s| s.map.clone());
        whole.extend(p.segments.drain(..).map(|mut s| {
            s.map = s.map.or_else(|| map.clone());
            s
        }));
        p.segments = whole;
    }

    fn segments(&mut self, p: &Playlist) {
        let target = p.target_duration;
        for s in &p.segments {
            let n = s.media_sequence;
            self.rule(s.duration.round() as u64 <= target, || {
                format!("segment {n} lasts {} s, more than the target duration of {target}", s.duration)
            });
            let Some(old) = self.known.get(&n).cloned() else { continue };
            self.rule(old.uri.is_none() || old.uri == s.uri, || format!("segment {n} changed its URI"));
            let lasts = old.uri.is_none() || (old.duration - s.duration).abs() < EPSILON;
            self.rule(lasts, || format!("segment {n} changed its duration"));
            self.rule(old.map == s.map, || format!("segment {n} changed its EXT-X-MAP"));
            self.rule(old.date == s.date, || format!("segment {n} changed its date"));
            // The tag before the first segment of a list counts as removed with the segments before it.
            let first = p.segments.first().is_some_and(|f| f.media_sequence == n);
            let same = first || old.discontinuities == s.discontinuities;
            self.rule(same, || format!("segment {n} changed its discontinuity"));
            let kept = s.parts.is_empty() || s.parts.starts_with(&old.parts);
            self.rule(kept || old.parts.is_empty(), || format!("segment {n} changed its parts"));
            self.rule(old.uri.is_none() || s.uri.is_some(), || format!("segment {n} is being made again"));
        }
        for w in p.segments.windows(2) {
            let (Some(a), Some(b)) = (w[0].date, w[1].date) else { continue };
            let follows = w[1].discontinuities > 0 || (b - a - w[0].duration).abs() < 1.1;
            self.rule(follows, || {
                format!("the date of segment {} does not follow from the one before", w[1].media_sequence)
            });
        }
    }

    fn parts(&mut self, p: &Playlist) {
        let Some(target) = p.part_target else { return };
        for s in &p.segments {
            let n = s.media_sequence;
            for (i, part) in s.parts.iter().enumerate() {
                self.rule(part.duration <= target + EPSILON, || {
                    format!("part {n}.{i} lasts {} s, more than the part target of {target}", part.duration)
                });
                let last = i + 1 == s.parts.len();
                self.rule(last || part.duration >= target * 0.85 - EPSILON, || {
                    format!(
                        "part {n}.{i} lasts {} s, less than 85 % of the part target of {target}",
                        part.duration
                    )
                });
            }
            if s.uri.is_some() && !s.parts.is_empty() {
                let sum: f64 = s.parts.iter().map(|p| p.duration).sum();
                self.rule((sum - s.duration).abs() < 0.001, || {
                    format!("the parts of segment {n} last {sum} s, the segment {} s", s.duration)
                });
            }
        }
        let all: f64 = p.segments.iter().map(length).sum();
        let mut from_end = all;
        for s in &p.segments {
            from_end -= length(s);
            let old = from_end > 3.0 * p.target_duration as f64 + EPSILON;
            self.rule(!old || s.parts.is_empty(), || {
                format!("segment {} lists parts three target durations from the end", s.media_sequence)
            });
        }
    }

    fn follows(&mut self, p: &Playlist) {
        let Some(before) = self.current.clone() else { return };
        self.rule(p.media_sequence >= before.media_sequence, || "MEDIA-SEQUENCE went back".into());
        self.rule(p.newest() >= before.newest(), || "the end of the playlist went back".into());
        let gone: u64 = before
            .segments
            .iter()
            .skip(1)
            .take_while(|s| s.media_sequence <= p.media_sequence)
            .map(|s| u64::from(s.discontinuities))
            .sum();
        let expected = before.discontinuity_sequence + gone;
        let comparable = before.segments.iter().any(|s| s.media_sequence == p.media_sequence);
        self.rule(!comparable || p.discontinuity_sequence == expected, || {
            format!("DISCONTINUITY-SEQUENCE is {}, not {expected}", p.discontinuity_sequence)
        });
        if let (Some(hint), Some((n, i))) = (&before.hint, before.next()) {
            let at = p.segments.iter().find(|s| s.media_sequence == n);
            if let Some(part) = at.and_then(|s| s.parts.get(i as usize)) {
                self.rule(&part.uri == hint, || format!("part {} came, but {hint} was hinted at", part.uri));
            }
        }
        for r in &p.reports {
            let old = before.reports.iter().find(|o| o.uri == r.uri);
            let forward = old.is_none_or(|o| (r.last_msn, r.last_part) >= (o.last_msn, o.last_part));
            self.rule(forward, || format!("the report on {} went back", r.uri));
        }
    }

    /// Whether the answer holds what was asked for, and in time.
    fn answers(&mut self, ask: Ask, took: Duration, p: &Playlist) {
        let Some(msn) = ask.msn.filter(|_| !p.ended) else { return };
        let has = match (p.segments.last(), ask.part) {
            (Some(last), Some(part)) if last.media_sequence == msn => {
                last.uri.is_some() || last.parts.len() > part as usize
            }
            (Some(last), None) if last.media_sequence == msn => last.uri.is_some(),
            (Some(last), _) => last.media_sequence > msn,
            (None, _) => false,
        };
        self.rule(has, || {
            format!("the answer does not hold {msn}, part {:?}, which it waited for", ask.part)
        });
        let next = self.current.as_ref().and_then(Playlist::next);
        if let (Some(next), Some(part), Some(target)) = (next, ask.part, p.part_target)
            && next == (msn, part)
        {
            self.blocked.push(took);
            let due = Duration::from_secs_f64(target) + self.late;
            self.rule(took <= due, || {
                format!("the next part was due within {due:?}, the answer took {took:?}")
            });
        }
    }
}

fn length(s: &Listed) -> f64 {
    if s.uri.is_some() { s.duration } else { s.parts.iter().map(|p| p.duration).sum() }
}
