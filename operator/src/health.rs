//! Whether the operator's loops live and its caches are filled: what `/healthz` and `/readyz` answer from.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A loop that has not shown itself for this long is dead. Loops wake every few seconds at least.
pub const DEAD_AFTER: Duration = Duration::from_secs(60);

/// The sign of life of one loop; cheap to clone.
#[derive(Clone, Debug)]
pub struct Beat(Arc<BeatInner>);

#[derive(Debug)]
struct BeatInner {
    name: &'static str,
    started: Instant,
    /// Milliseconds after `started`.
    last: AtomicU64,
}

impl Beat {
    /// For a loop of this name that begins now.
    pub fn new(name: &'static str) -> Beat {
        Beat(Arc::new(BeatInner { name, started: Instant::now(), last: AtomicU64::new(0) }))
    }

    /// The loop lives.
    pub fn touch(&self) {
        let ms = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(ms, Ordering::Relaxed);
    }

    fn silent_for(&self) -> Duration {
        self.0.started.elapsed().saturating_sub(Duration::from_millis(self.0.last.load(Ordering::Relaxed)))
    }
}

/// All loops, and whether the caches are filled; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    beats: Mutex<Vec<Beat>>,
    ready: AtomicBool,
}

impl Health {
    /// Nothing to watch over yet, and not ready.
    pub fn new() -> Health {
        Health::default()
    }

    /// From now on this loop has to show itself.
    pub fn watch(&self, name: &'static str) -> Beat {
        let beat = Beat::new(name);
        self.0.beats.lock().unwrap_or_else(PoisonError::into_inner).push(beat.clone());
        beat
    }

    /// The caches are filled.
    pub fn set_ready(&self) {
        self.0.ready.store(true, Ordering::Relaxed);
    }

    /// Whether the caches are filled.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    /// The loops that have not shown themselves for too long.
    pub fn dead(&self) -> Vec<&'static str> {
        let beats = self.0.beats.lock().unwrap_or_else(PoisonError::into_inner);
        beats.iter().filter(|beat| beat.silent_for() > DEAD_AFTER).map(|beat| beat.0.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_loop_is_dead() {
        let health = Health::new();
        let (a, _b) = (health.watch("a"), health.watch("b"));
        tokio::time::advance(Duration::from_secs(40)).await;
        a.touch();
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(health.dead(), ["b"]);
        assert!(!health.is_ready());
        health.set_ready();
        assert!(health.is_ready());
    }
}
