//! What one client notices of its stream going on or not: time without newer media, a player's buffer that runs empty, connections
//! that end. Pure: time is an argument.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// What was noticed, by one client or by all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Noticed {
    /// Longest time without newer media; for a publisher, without a write that was taken.
    pub(crate) longest_gap_s: f64,
    /// How often a player's buffer ran empty, for how long in all, and at most.
    pub(crate) stalls: u64,
    pub(crate) stalled_s: f64,
    pub(crate) longest_stall_s: f64,
    /// Requests that were not answered with success, an immediate second try on a new connection included.
    pub(crate) errors: u64,
    /// Segments that were never there to be played.
    pub(crate) missed: u64,
    /// Playlists that fell back by more than a segment.
    pub(crate) falls: u64,
    /// EXT-X-DISCONTINUITY in what was played.
    pub(crate) discontinuities: u64,
    /// Sessions that had to be begun anew.
    pub(crate) restarts: u64,
    /// Connections that the other end announced the end of: `Connection: close`, a status message.
    pub(crate) told: u64,
    /// Connections that were closed while nothing was under way on them.
    pub(crate) idle: u64,
    /// Connections that ended in the middle of something, without a word.
    pub(crate) broken: u64,
}

impl Noticed {
    /// Counts are added up, longest times are the longest of both.
    fn add(&mut self, other: &Noticed) {
        self.longest_gap_s = self.longest_gap_s.max(other.longest_gap_s);
        self.longest_stall_s = self.longest_stall_s.max(other.longest_stall_s);
        self.stalled_s += other.stalled_s;
        for (sum, one) in [
            (&mut self.stalls, other.stalls),
            (&mut self.errors, other.errors),
            (&mut self.missed, other.missed),
            (&mut self.falls, other.falls),
            (&mut self.discontinuities, other.discontinuities),
            (&mut self.restarts, other.restarts),
            (&mut self.told, other.told),
            (&mut self.idle, other.idle),
            (&mut self.broken, other.broken),
        ] {
            *sum += one;
        }
    }

    /// Whether there was anything that a viewer sees, or a publisher has to put right without having been told to.
    fn disturbed(&self) -> bool {
        let counts = [self.stalls, self.errors, self.missed, self.falls, self.discontinuities, self.restarts];
        counts.iter().any(|count| *count > 0) || self.broken > 0
    }

    /// What makes one client worse off than another.
    fn badness(&self) -> (f64, f64) {
        (self.stalled_s, self.longest_gap_s)
    }
}

/// What all clients noticed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Continuity {
    /// Of all clients together.
    pub(crate) all: Noticed,
    /// Clients that noticed a stall, an error, missing media, or a connection that broke.
    pub(crate) disturbed: u64,
    /// The client that fared worst, and what it noticed.
    pub(crate) worst_client: usize,
    pub(crate) worst: Noticed,
    /// The first problems, each with its time since the window began.
    pub(crate) problems: Vec<String>,
}

impl Continuity {
    /// Puts together what the clients noticed; nothing when none of them has begun.
    pub(crate) fn of(clients: impl Iterator<Item = Option<Noticed>>, problems: Vec<String>) -> Option<Self> {
        let mut sum: Option<Continuity> = None;
        for (client, noticed) in clients.enumerate() {
            let Some(noticed) = noticed else { continue };
            let first = sum.is_none();
            let sum = sum.get_or_insert_with(Continuity::default);
            sum.all.add(&noticed);
            sum.disturbed += u64::from(noticed.disturbed());
            if first || noticed.badness() > sum.worst.badness() {
                (sum.worst_client, sum.worst) = (client, noticed);
            }
        }
        sum.map(|sum| Continuity { problems, ..sum })
    }
}

impl fmt::Display for Continuity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Continuity { all, disturbed, worst_client, worst, problems } = self;
        writeln!(
            f,
            "  longest gap {:.2} s; {} stalls, {:.2} s in all, longest {:.2} s; {disturbed} clients disturbed",
            all.longest_gap_s, all.stalls, all.stalled_s, all.longest_stall_s
        )?;
        writeln!(
            f,
            "  {} errors, {} segments missed, {} falls, {} discontinuities, {} sessions begun anew",
            all.errors, all.missed, all.falls, all.discontinuities, all.restarts
        )?;
        writeln!(
            f,
            "  connections ended: {} announced, {} while idle, {} broken; worst client {worst_client}: longest gap {:.2} s, stalled {:.2} s",
            all.told, all.idle, all.broken, worst.longest_gap_s, worst.stalled_s
        )?;
        problems.iter().try_for_each(|problem| writeln!(f, "    {problem}"))
    }
}

/// Follows one client.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    noticed: Noticed,
    /// When media last came; before any came, when the client began.
    moved: Option<Instant>,
    buffer: Option<Buffer>,
    begun: bool,
}

impl Watch {
    /// The client begins: from now on media is missing.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.moved.get_or_insert(now);
    }

    /// The client is a player that shows something when each of `tracks` tracks has so much. One that was a player before lost what it
    /// had: that is a stall.
    pub(crate) fn buffer(&mut self, tracks: usize, begins_with: Duration, now: Instant) {
        let stall = self.buffer.take().map(|mut before| {
            before.advance(now, &mut self.noticed);
            before.stall(now, &mut self.noticed)
        });
        let state = State::Waiting { stall, at: Duration::ZERO, needs: begins_with };
        self.buffer = Some(Buffer { tracks: vec![Duration::ZERO; tracks], state });
    }

    /// Newer media came, or a write was taken.
    pub(crate) fn moved(&mut self, now: Instant) {
        if let Some(before) = self.moved.replace(now) {
            let gap = now.saturating_duration_since(before).as_secs_f64();
            self.noticed.longest_gap_s = self.noticed.longest_gap_s.max(gap);
        }
    }

    /// Whether the player has shown anything.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// A player has so much more media of a track. Whether it shows something for the first time by that.
    pub(crate) fn received(&mut self, track: usize, media: Duration, now: Instant) -> bool {
        self.moved(now);
        let Some(buffer) = &mut self.buffer else { return false };
        buffer.advance(now, &mut self.noticed);
        buffer.add(track, media, now, &mut self.noticed) && !std::mem::replace(&mut self.begun, true)
    }

    /// Counts something.
    pub(crate) fn count(&mut self, what: impl FnOnce(&mut Noticed)) {
        what(&mut self.noticed);
    }

    /// Starts over at the beginning of the measured window: what goes on goes on, and counts from now.
    pub(crate) fn reset(&mut self, now: Instant) {
        if let Some(moved) = &mut self.moved {
            *moved = now;
        }
        self.noticed = Noticed::default();
        let Some(buffer) = &mut self.buffer else { return };
        buffer.advance(now, &mut self.noticed);
        self.noticed = Noticed::default();
        if let State::Waiting { stall: Some(stall), .. } = &mut buffer.state {
            *stall = Stall { since: now, counted: Duration::ZERO };
            self.noticed.stalls = 1;
        }
    }

    /// What was noticed up to now, gap and stall that go on included; nothing when the client has not begun.
    pub(crate) fn noticed(&mut self, now: Instant) -> Option<Noticed> {
        let gap = now.saturating_duration_since(self.moved?).as_secs_f64();
        self.noticed.longest_gap_s = self.noticed.longest_gap_s.max(gap);
        if let Some(buffer) = &mut self.buffer {
            buffer.advance(now, &mut self.noticed);
            buffer.settle(now, &mut self.noticed);
        }
        Some(self.noticed)
    }
}

/// After a stall a player goes on with whatever there is.
const ANYTHING: Duration = Duration::from_nanos(1);

/// A player's buffer, and the clock of what it shows.
#[derive(Debug)]
struct Buffer {
    /// Media received of each track since the player began.
    tracks: Vec<Duration>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Stands at `at` until there is `needs` more than that; a stall when it has shown something before.
    Waiting { stall: Option<Stall>, at: Duration, needs: Duration },
    /// Showed what is at `at` when it was `since`.
    Playing { since: Instant, at: Duration },
}

/// How long nothing is shown, and how much of that is in the sum.
#[derive(Debug)]
struct Stall {
    since: Instant,
    counted: Duration,
}

impl Stall {
    fn settle(&mut self, now: Instant, noticed: &mut Noticed) {
        let long = now.saturating_duration_since(self.since);
        noticed.stalled_s += long.saturating_sub(self.counted).as_secs_f64();
        noticed.longest_stall_s = noticed.longest_stall_s.max(long.as_secs_f64());
        self.counted = long;
    }
}

impl Buffer {
    /// What all tracks have.
    fn end(&self) -> Duration {
        self.tracks.iter().min().copied().unwrap_or_default()
    }

    /// Lets playback go on until now.
    fn advance(&mut self, now: Instant, noticed: &mut Noticed) {
        let State::Playing { since, at } = self.state else { return };
        let empty = since + self.end().saturating_sub(at);
        if empty < now {
            noticed.stalls += 1;
            let stall = Some(Stall { since: empty, counted: Duration::ZERO });
            self.state = State::Waiting { stall, at: self.end(), needs: ANYTHING };
        }
    }

    /// Takes more media. Whether playback begins by that.
    fn add(&mut self, track: usize, media: Duration, now: Instant, noticed: &mut Noticed) -> bool {
        self.tracks[track] += media;
        self.settle(now, noticed);
        match self.state {
            State::Waiting { at, needs, .. } if self.end() >= at + needs => {
                self.state = State::Playing { since: now, at };
                true
            }
            _ => false,
        }
    }

    /// Counts a stall as far as it has come.
    fn settle(&mut self, now: Instant, noticed: &mut Noticed) {
        if let State::Waiting { stall: Some(stall), .. } = &mut self.state {
            stall.settle(now, noticed);
        }
    }

    /// The stall that goes on, or one that begins now because what was there is thrown away.
    fn stall(self, now: Instant, noticed: &mut Noticed) -> Stall {
        match self.state {
            State::Waiting { stall: Some(stall), .. } => stall,
            _ => {
                noticed.stalls += 1;
                Stall { since: now, counted: Duration::ZERO }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    /// A player of one track with a buffer of 6 s that gets segments of 2 s at these times.
    fn played(times: &[f64], until: f64) -> Noticed {
        let start = Instant::now();
        let mut watch = Watch::default();
        watch.begin(start);
        watch.buffer(1, seconds(6.0), start);
        for time in times {
            watch.received(0, seconds(2.0), start + seconds(*time));
        }
        watch.noticed(start + seconds(until)).unwrap()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn a_buffer_bridges_a_gap_that_is_shorter() {
        let noticed = played(&[0.0, 0.0, 0.0, 2.0, 7.5, 7.5, 7.6], 9.0);
        assert_eq!((noticed.stalls, noticed.stalled_s), (0, 0.0));
        assert!(near(noticed.longest_gap_s, 5.5), "{noticed:?}");
        assert!(!noticed.disturbed());
    }

    #[test]
    fn it_runs_empty_when_the_gap_is_longer() {
        // 8 s of media from 0 on: empty at 8, again at 13 until the end.
        let noticed = played(&[0.0, 0.0, 0.0, 2.0, 11.0], 15.0);
        assert_eq!(noticed.stalls, 2);
        assert!(near(noticed.stalled_s, 3.0 + 2.0) && near(noticed.longest_stall_s, 3.0), "{noticed:?}");
        assert!(near(noticed.longest_gap_s, 9.0) && noticed.disturbed());
    }

    #[test]
    fn waiting_for_the_first_media_is_no_stall() {
        let noticed = played(&[3.0, 4.0], 9.0);
        assert_eq!(noticed.stalls, 0);
        assert!(near(noticed.longest_gap_s, 5.0), "{noticed:?}");
    }

    #[test]
    fn one_track_that_is_missing_is_enough() {
        let start = Instant::now();
        let mut watch = Watch::default();
        watch.begin(start);
        watch.buffer(2, seconds(2.0), start);
        assert!(!watch.received(0, seconds(8.0), start));
        assert!(watch.received(1, seconds(2.0), start) && watch.has_begun());
        let noticed = watch.noticed(start + seconds(5.0)).unwrap();
        assert!(noticed.stalls == 1 && near(noticed.stalled_s, 3.0), "{noticed:?}");
    }

    #[test]
    fn the_window_counts_from_its_beginning() {
        let start = Instant::now();
        let mut watch = Watch::default();
        assert_eq!(watch.noticed(start), None);
        watch.begin(start);
        watch.buffer(1, seconds(2.0), start);
        watch.received(0, seconds(2.0), start);
        watch.count(|noticed| noticed.errors += 1);
        // Empty since 2 when the window opens at 5.
        watch.reset(start + seconds(5.0));
        let noticed = watch.noticed(start + seconds(6.0)).unwrap();
        assert_eq!((noticed.stalls, noticed.errors), (1, 0));
        assert!(near(noticed.stalled_s, 1.0) && near(noticed.longest_gap_s, 1.0), "{noticed:?}");
        assert!(near(noticed.longest_stall_s, 1.0), "{noticed:?}");
    }

    #[test]
    fn a_session_that_begins_anew_is_a_stall() {
        let start = Instant::now();
        let mut watch = Watch::default();
        watch.begin(start);
        watch.buffer(1, seconds(4.0), start);
        assert!(watch.received(0, seconds(4.0), start));
        // A second before its media would have ended it has to start over.
        watch.buffer(1, seconds(4.0), start + seconds(3.0));
        assert!(!watch.received(0, seconds(2.0), start + seconds(3.5)));
        assert!(!watch.received(0, seconds(2.0), start + seconds(5.0)), "it is not the first time");
        let noticed = watch.noticed(start + seconds(6.0)).unwrap();
        assert!(noticed.stalls == 1 && near(noticed.stalled_s, 2.0), "{noticed:?}");
    }

    #[test]
    fn the_worst_client_is_named() {
        let fine = Noticed { longest_gap_s: 2.0, told: 1, ..Noticed::default() };
        let bad = Noticed { longest_gap_s: 1.0, stalls: 1, stalled_s: 0.5, longest_stall_s: 0.5, ..fine };
        let sum = Continuity::of([Some(fine), None, Some(bad)].into_iter(), vec![]).unwrap();
        assert_eq!((sum.worst_client, sum.disturbed), (2, 1));
        assert_eq!((sum.all.longest_gap_s, sum.all.told, sum.all.stalls), (2.0, 2, 1));
        assert!(Continuity::of([None].into_iter(), vec![]).is_none());
    }

    proptest! {
        /// What is shown and what is waited for make up the time since the player began.
        #[test]
        fn time_is_shown_or_stalled(steps in prop::collection::vec((0u32..5000, 0u32..5000), 1..60)) {
            let start = Instant::now();
            let mut watch = Watch::default();
            watch.begin(start);
            watch.buffer(1, Duration::ZERO, start);
            let (mut now, mut media, mut shown, mut stood) = (0u64, 0u64, 0u64, 0u64);
            watch.received(0, Duration::ZERO, start);
            for (wait, more) in steps {
                let wait = u64::from(wait);
                let playable = wait.min(media - shown);
                shown += playable;
                stood += wait - playable;
                now += wait;
                media += u64::from(more);
                watch.received(0, Duration::from_millis(more.into()), start + Duration::from_millis(now));
            }
            let noticed = watch.noticed(start + Duration::from_millis(now)).unwrap();
            prop_assert!((noticed.stalled_s - stood as f64 / 1000.0).abs() < 1e-6, "{noticed:?}, {stood} ms");
        }
    }
}
