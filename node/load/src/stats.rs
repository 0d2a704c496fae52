//! What the clients of a run count, all together.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::continuity::{Continuity, Noticed, Watch};
use crate::error::Error;
use crate::stamp::Stamp;

/// Counters of all clients. Those of the measured window start over with it.
#[derive(Debug)]
pub(crate) struct Stats {
    /// Clients that got so far that media flows.
    pub(crate) live: AtomicU64,
    /// Clients that ended before the run did.
    pub(crate) failed: AtomicU64,
    /// Connections that broke, or were refused, and were tried again; in the whole run.
    pub(crate) reconnects: AtomicU64,
    /// Connections that were left for another one because the server asked for it; in the whole run.
    pub(crate) asked_to_reconnect: AtomicU64,
    first_error: Mutex<Option<String>>,
    /// Bytes of media and playlists in the window.
    pub(crate) bytes: AtomicU64,
    /// RTP packets in the window, and those that were missing.
    pub(crate) packets: AtomicU64,
    pub(crate) lost_packets: AtomicU64,
    /// Requests in the window, and those of them that failed.
    pub(crate) requests: AtomicU64,
    pub(crate) failed_requests: AtomicU64,
    /// Stamped frames that were skipped in the window.
    pub(crate) lost: AtomicU64,
    /// Stamp to arrival, in the window.
    pub(crate) delay: Histogram,
    /// From the start of a client to its first media, in the whole run.
    pub(crate) start: Histogram,
    /// Video frames of each client in the window.
    frames: Vec<AtomicU64>,
    /// What each client noticed in the window.
    watches: Vec<Mutex<Watch>>,
    /// The first problems of the window.
    problems: Mutex<Problems>,
}

#[derive(Debug)]
struct Problems {
    since: Instant,
    lines: Vec<String>,
}

/// Problems that are kept for the report.
const PROBLEMS: usize = 20;

/// What is behind a mutex of ours is counters: they are good even if somebody panicked meanwhile.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stats {
    pub(crate) fn new(clients: usize) -> Self {
        Stats {
            live: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            asked_to_reconnect: AtomicU64::new(0),
            first_error: Mutex::new(None),
            bytes: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            lost_packets: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failed_requests: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            delay: Histogram::new(),
            start: Histogram::new(),
            frames: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            watches: (0..clients).map(|_| Mutex::default()).collect(),
            problems: Mutex::new(Problems { since: Instant::now(), lines: Vec::new() }),
        }
    }

    /// Begins the window.
    pub(crate) fn reset(&self) {
        let packets = [&self.packets, &self.lost_packets];
        for counter in
            [&self.bytes, &self.requests, &self.failed_requests, &self.lost].into_iter().chain(packets)
        {
            counter.store(0, Relaxed);
        }
        self.frames.iter().for_each(|f| f.store(0, Relaxed));
        self.delay.reset();
        let now = Instant::now();
        self.watches.iter().for_each(|watch| locked(watch).reset(now));
        *locked(&self.problems) = Problems { since: now, lines: Vec::new() };
    }

    /// Notes what a client noticed.
    pub(crate) fn watch<T>(&self, client: usize, note: impl FnOnce(&mut Watch, Instant) -> T) -> T {
        note(&mut locked(&self.watches[client]), Instant::now())
    }

    /// Counts a problem of a client, and keeps its text if it is one of the first.
    pub(crate) fn problem(&self, client: usize, error: &Error, count: impl FnOnce(&mut Noticed)) {
        self.watch(client, |watch, _| watch.count(count));
        let mut problems = locked(&self.problems);
        if problems.lines.len() < PROBLEMS {
            let seconds = problems.since.elapsed().as_secs_f64();
            problems.lines.push(format!("{seconds:.1} s, client {client}: {error}"));
        }
    }

    /// A client lost its connection: the server announced it, or it broke.
    pub(crate) fn lost(&self, client: usize, error: &Error) {
        let told = matches!(error, Error::Ended(_));
        self.problem(client, error, |noticed| {
            *(if told { &mut noticed.told } else { &mut noticed.broken }) += 1
        });
    }

    /// What all clients noticed in the window; nothing when none of them is watched.
    pub(crate) fn continuity(&self) -> Option<Continuity> {
        let now = Instant::now();
        let noticed = self.watches.iter().map(|watch| locked(watch).noticed(now));
        Continuity::of(noticed, locked(&self.problems).lines.clone())
    }

    /// A client gave up.
    pub(crate) fn fail(&self, error: &Error) {
        self.failed.fetch_add(1, Relaxed);
        self.note(error);
    }

    /// A client's connection ended, and it tries again.
    pub(crate) fn reconnect(&self, error: &Error) {
        self.reconnects.fetch_add(1, Relaxed);
        self.note(error);
    }

    /// Keeps the first error of a run.
    fn note(&self, error: &Error) {
        locked(&self.first_error).get_or_insert_with(|| error.to_string());
    }

    pub(crate) fn first_error(&self) -> Option<String> {
        locked(&self.first_error).clone()
    }

    /// A client has its first media.
    pub(crate) fn started(&self, after: Duration) {
        self.live.fetch_add(1, Relaxed);
        self.start.record(after);
    }

    /// A client sent or got a video frame.
    pub(crate) fn frame(&self, client: usize) {
        self.frames[client].fetch_add(1, Relaxed);
    }

    /// All frames of the window, and those of the client that had the fewest.
    pub(crate) fn frames(&self) -> (u64, u64) {
        let all = || self.frames.iter().map(|f| f.load(Relaxed));
        (all().sum(), all().min().unwrap_or(0))
    }
}

/// What one client knows of the stamps that it saw.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    next: Option<u32>,
}

impl Arrivals {
    /// A stamped frame arrived at client number `client`.
    pub(crate) fn saw(&mut self, stats: &Stats, client: usize, stamp: Stamp, now: u64) {
        stats.frame(client);
        stats.delay.record(Duration::from_nanos(now.saturating_sub(stamp.nanos)));
        if let Some(next) = self.next {
            // Numbers that go back are those of another publisher, or of a server that starts over.
            let skipped = stamp.number.wrapping_sub(next);
            if skipped < 1 << 16 {
                stats.lost.fetch_add(u64::from(skipped), Relaxed);
            }
        }
        self.next = Some(stamp.number.wrapping_add(1));
    }
}

/// The wall clock in nanoseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Durations counted in buckets that are less than 2 % wide: a bounded size, however many are recorded.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Vec<AtomicU64>,
}

/// Values below this have a bucket for each microsecond, and so has each doubling above it.
const STEPS: u64 = 64;
/// The last doubling begins at 2^35 microseconds, some nine hours.
const DOUBLINGS: u64 = 30;

impl Histogram {
    fn new() -> Self {
        Histogram { buckets: (0..STEPS * (DOUBLINGS + 1)).map(|_| AtomicU64::new(0)).collect() }
    }

    fn reset(&self) {
        self.buckets.iter().for_each(|b| b.store(0, Relaxed));
    }

    pub(crate) fn record(&self, value: Duration) {
        let bucket = bucket(value.as_micros().min(u128::from(u64::MAX)) as u64);
        self.buckets[bucket.min(self.buckets.len() - 1)].fetch_add(1, Relaxed);
    }

    /// The quantiles that are reported, if anything was recorded.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let at = |q: f64| {
            let rank = ((count as f64 * q).ceil() as u64).clamp(1, count);
            let mut seen = 0;
            let found = counts.iter().position(|c| {
                seen += c;
                seen >= rank
            });
            lower_edge(found.unwrap_or(0)) as f64 / 1000.0
        };
        (count > 0).then(|| Quantiles { count, p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) })
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let doubling = u64::from(micros.ilog2() - STEPS.ilog2());
    ((doubling + 1) * STEPS + (micros >> doubling) - STEPS) as usize
}

fn lower_edge(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    match bucket / STEPS {
        0 => bucket,
        doubling => (STEPS + bucket % STEPS) << (doubling - 1),
    }
}

/// Of recorded durations, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    /// How many were recorded.
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Quantiles { count, p50, p95, p99, max } = self;
        write!(f, "p50 {p50:.2} ms, p95 {p95:.2}, p99 {p99:.2}, max {max:.2} ({count})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_a_ramp() {
        let h = Histogram::new();
        assert_eq!(h.quantiles(), None);
        (1..=1000).for_each(|ms| h.record(Duration::from_millis(ms)));
        let q = h.quantiles().unwrap();
        for (got, want) in [(q.p50, 500.0), (q.p95, 950.0), (q.p99, 990.0), (q.max, 1000.0)] {
            assert!((got / want - 1.0).abs() < 0.02, "{got} is not {want}");
        }
        h.record(Duration::from_secs(1 << 40));
        h.reset();
        assert_eq!(h.quantiles(), None);
    }

    #[test]
    fn gaps_are_counted() {
        let stats = Stats::new(2);
        let mut arrivals = Arrivals::default();
        for number in [u32::MAX, 0, 1, 5, 6, 0, 1] {
            arrivals.saw(&stats, 1, Stamp { nanos: 1_000_000, number }, 3_000_000);
        }
        assert_eq!((stats.lost.load(Relaxed), stats.frames()), (3, (7, 0)));
        assert!((stats.delay.quantiles().unwrap().p50 - 2.0).abs() < 0.04);
    }

    proptest! {
        #[test]
        fn buckets_are_narrow(micros in 0u64..1 << 35) {
            let low = lower_edge(bucket(micros));
            let high = lower_edge(bucket(micros) + 1);
            prop_assert!(low <= micros && micros < high);
            prop_assert!(high - low <= 1 + low / STEPS);
        }
    }
}
