//! Which object is worked on when: each key at most once at a time, coalesced, tried again with growing waits.
//!
//! [`State`] decides and knows no clock; [`Queue`] adds the clock, tasks and metrics around it.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::backoff::Backoff;
use crate::health::Beat;
use crate::metrics::Metrics;

mod state;
#[cfg(test)]
mod tests;

use state::State;

/// Triggers of a key within this time are one.
pub const DEBOUNCE: Duration = Duration::from_millis(100);

/// Working on one object ends after this time, and counts as failed: whatever is awaited in there has shorter limits.
const LONGEST: Duration = Duration::from_secs(120);

/// What runs when the queue is stopped has so long to end.
const FINISH: Duration = Duration::from_secs(5);

/// The loop shows that it lives at least this often.
const ALIVE: Duration = Duration::from_secs(5);

/// What comes after an object was worked on without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until something of it changes.
    Change,
    /// The same again after this time, if nothing changes before.
    After(Duration),
}

/// Why an object could not be brought to its spec.
pub trait Failure: fmt::Display + Send + 'static {
    /// A word for metrics.
    fn reason(&self) -> &'static str;
}

/// Keys that wait to be worked on; cheap to clone.
pub struct Queue<K>(Arc<Shared<K>>);

struct Shared<K> {
    state: std::sync::Mutex<State<K>>,
    wake: Notify,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Queue(self.0.clone())
    }
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Queue(Arc::new(Shared { state: std::sync::Mutex::default(), wake: Notify::new() }))
    }
}

impl<K: Clone + Eq + Hash + fmt::Display + Send + 'static> Queue<K> {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Something of this object changed: it is worked on soon.
    pub fn trigger(&self, key: K) {
        self.trigger_within(key, DEBOUNCE);
    }

    /// The same, not later than after this time: for what is coalesced more.
    pub fn trigger_within(&self, key: K, within: Duration) {
        let sooner = self.with(|state| state.trigger(key, Instant::now(), within.max(DEBOUNCE)));
        if sooner {
            self.0.wake.notify_one();
        }
    }

    /// How many keys wait.
    pub fn len(&self) -> usize {
        self.with(|state| state.waiting())
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Works on keys, at most `concurrency` at once and never twice at once on the same, until `stop` is there. `kind`
    /// names what the keys are, in metrics and logs.
    pub async fn run<F, Fut, E>(
        &self,
        kind: &'static str,
        concurrency: usize,
        metrics: &Metrics,
        beat: &Beat,
        stop: impl Future<Output = ()>,
        reconcile: F,
    ) where
        F: Fn(K) -> Fut,
        Fut: Future<Output = Result<Next, E>> + Send + 'static,
        E: Failure,
    {
        let mut running: JoinSet<Result<Next, Problem<E>>> = JoinSet::new();
        let mut keys: Vec<(Id, K, Instant)> = Vec::new();
        let mut stop = std::pin::pin!(stop);
        let seconds = metrics.reconcile_seconds.with_label_values(&[kind]);
        let queued = metrics.queued.with_label_values(&[kind]);
        loop {
            let now = Instant::now();
            beat.touch();
            while running.len() < concurrency.max(1) {
                let Some(key) = self.with(|state| state.take(now)) else { break };
                let work = reconcile(key.clone());
                let task = running.spawn(async move {
                    match timeout(LONGEST, work).await {
                        Ok(result) => result.map_err(Problem::Failed),
                        Err(_) => Err(Problem::Stuck),
                    }
                });
                keys.push((task.id(), key, now));
            }
            queued.set(i64::try_from(self.len()).unwrap_or(i64::MAX));
            // With all places taken, what is due waits for one of them.
            let due = if running.len() < concurrency.max(1) { self.with(|state| state.next()) } else { None };
            let wake_at = due.unwrap_or(now + ALIVE).min(now + ALIVE);
            tokio::select! {
                () = &mut stop => break,
                Some(done) = running.join_next_with_id(), if !running.is_empty() => {
                    let (id, result) = match done {
                        Ok((id, result)) => (id, result),
                        Err(error) => (error.id(), Err(Problem::Panicked)),
                    };
                    let Some(place) = keys.iter().position(|(of, ..)| *of == id) else { continue };
                    let (_, key, since) = keys.swap_remove(place);
                    seconds.observe(since.elapsed().as_secs_f64());
                    self.finish(kind, key, result, metrics);
                }
                () = self.0.wake.notified() => {}
                () = sleep_until(wake_at) => {}
            }
        }
        // What was begun is safe to leave at any point; ending it well saves repeating it.
        let finish = async { while running.join_next().await.is_some() {} };
        let _ = timeout(FINISH, finish).await;
    }

    fn finish<E: Failure>(
        &self,
        kind: &'static str,
        key: K,
        result: Result<Next, Problem<E>>,
        metrics: &Metrics,
    ) {
        let now = Instant::now();
        match result {
            Ok(next) => self.with(|state| state.succeeded(key, next, now)),
            Err(problem) => {
                metrics.reconcile_failures.with_label_values(&[kind, problem.reason()]).inc();
                let wait = self.with(|state| state.failed(key.clone(), now, rand::random::<f64>()));
                tracing::warn!(object = %key, reason = problem.reason(), retry_in_ms = wait.as_millis(), "{problem}");
            }
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State<K>) -> T) -> T {
        // A panic in `State` would be a defect of this module; its tables stay usable.
        f(&mut self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

enum Problem<E> {
    Failed(E),
    Stuck,
    Panicked,
}

impl<E: Failure> Problem<E> {
    fn reason(&self) -> &'static str {
        match self {
            Problem::Failed(error) => error.reason(),
            Problem::Stuck => "stuck",
            Problem::Panicked => "panic",
        }
    }
}

impl<E: Failure> fmt::Display for Problem<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Failed(error) => error.fmt(f),
            Problem::Stuck => write!(f, "not done after {LONGEST:?}"),
            Problem::Panicked => f.write_str("panicked: please report this with the lines before"),
        }
    }
}

/// Waits between tries of the same object.
const RETRY: Backoff = Backoff::OBJECT;
