//! What is measured once a second: rates of the process, and totals that outlive single streams.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sluice_media::{Stream, StreamKey};

use crate::machine::CpuTimes;
use crate::state::Traffic;

/// Rates are averages over this long.
const WINDOW: Duration = Duration::from_secs(5);

/// Rates of the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) bits_in: u64,
    pub(crate) bits_out: u64,
    /// Percent of all processors.
    pub(crate) process_cpu: u64,
    /// Percent of all processors.
    pub(crate) system_cpu: u64,
}

/// What all streams since the start add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MediaTotals {
    pub(crate) bytes_in: u64,
    pub(crate) frames_in: u64,
    pub(crate) frames_dropped: u64,
    pub(crate) groups_skipped: u64,
    pub(crate) streams: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    traffic: Traffic,
    cpu: CpuTimes,
}

#[derive(Debug, Default)]
struct State {
    samples: VecDeque<Sample>,
    totals: MediaTotals,
    seen: HashMap<(StreamKey, SystemTime), MediaTotals>,
}

/// Keeps the samples.
#[derive(Debug, Default)]
pub(crate) struct Sampler(Mutex<State>);

impl Sampler {
    pub(crate) fn sample(&self, at: Instant, traffic: Traffic, streams: &[Arc<Stream>]) {
        let cpu = CpuTimes::read();
        let mut state = self.state();
        state.samples.push_back(Sample { at, traffic, cpu });
        while state.samples.len() > 2
            && state.samples.front().is_some_and(|s| at.duration_since(s.at) > WINDOW)
        {
            state.samples.pop_front();
        }
        state.add_streams(streams);
    }

    pub(crate) fn rates(&self) -> Rates {
        let state = self.state();
        match (state.samples.front(), state.samples.back()) {
            (Some(first), Some(last)) => rates(first, last),
            _ => Rates::default(),
        }
    }

    /// Totals up to this moment.
    pub(crate) fn totals(&self, streams: &[Arc<Stream>]) -> MediaTotals {
        let mut state = self.state();
        state.add_streams(streams);
        state.totals
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A stream that ends between two samples keeps what was counted until the earlier one.
    fn add_streams(&mut self, streams: &[Arc<Stream>]) {
        let mut seen = HashMap::with_capacity(streams.len());
        for stream in streams {
            let stats = stream.stats();
            let now = MediaTotals {
                bytes_in: stats.bytes_in.load(Relaxed),
                frames_in: stats.frames_in.load(Relaxed),
                frames_dropped: stats.frames_dropped.load(Relaxed),
                groups_skipped: stats.groups_skipped.load(Relaxed),
                streams: 1,
            };
            let key = (stream.key().clone(), stream.started());
            let before = self.seen.get(&key).copied().unwrap_or_default();
            let t = &mut self.totals;
            t.groups_skipped += now.groups_skipped.saturating_sub(before.groups_skipped);
            // What comes from another node is counted there; it may come from a publisher of this one later.
            if !stream.is_relayed() {
                t.bytes_in += now.bytes_in.saturating_sub(before.bytes_in);
                t.frames_in += now.frames_in.saturating_sub(before.frames_in);
                t.frames_dropped += now.frames_dropped.saturating_sub(before.frames_dropped);
                t.streams += now.streams - before.streams;
            }
            let streams = if stream.is_relayed() { before.streams } else { now.streams };
            seen.insert(key, MediaTotals { streams, ..now });
        }
        self.seen = seen;
    }
}

fn rates(first: &Sample, last: &Sample) -> Rates {
    let secs = last.at.duration_since(first.at).as_secs_f64();
    let per_second = |from: u64, to: u64| {
        if secs > 0.0 { (to.saturating_sub(from) as f64 * 8.0 / secs).round() as u64 } else { 0 }
    };
    let all = last.cpu.all.saturating_sub(first.cpu.all);
    let percent =
        |from: u64, to: u64| (to.saturating_sub(from) * 100 + all / 2).checked_div(all).unwrap_or(0);
    Rates {
        bits_in: per_second(first.traffic.bytes_in, last.traffic.bytes_in),
        bits_out: per_second(first.traffic.bytes_out, last.traffic.bytes_out),
        process_cpu: percent(first.cpu.process, last.cpu.process).min(100),
        system_cpu: percent(first.cpu.busy, last.cpu.busy).min(100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_between_the_first_and_the_last_sample() {
        let at = Instant::now();
        let first = Sample {
            at,
            traffic: Traffic { bytes_in: 1000, bytes_out: 0 },
            cpu: CpuTimes { process: 10, busy: 50, all: 100 },
        };
        let last = Sample {
            at: at + Duration::from_secs(4),
            traffic: Traffic { bytes_in: 2000, bytes_out: 4000 },
            cpu: CpuTimes { process: 110, busy: 250, all: 500 },
        };
        let r = rates(&first, &last);
        assert_eq!(r, Rates { bits_in: 2000, bits_out: 8000, process_cpu: 25, system_cpu: 50 });
        assert_eq!(rates(&first, &first), Rates::default());
    }

    #[test]
    fn only_the_window_is_kept() {
        let sampler = Sampler::default();
        let at = Instant::now();
        for s in 0..100 {
            let traffic = Traffic { bytes_in: s * s, bytes_out: s * 1000 };
            sampler.sample(at + Duration::from_secs(s), traffic, &[]);
        }
        assert_eq!(sampler.rates().bits_out, 8000);
        assert!(sampler.state().samples.len() <= 7);
    }
}
