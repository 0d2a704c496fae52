//! Threads for coding. FFmpeg blocks while it works, so it never runs where tokio does.
//!
//! As many threads as there are cores share one queue: a thread per stream would cost memory and switches for work of a few
//! hundred microseconds, fifty times a second. A bridge travels with its job, so at most one of its jobs is in the queue,
//! and they stay in order.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::BridgeError;

/// Jobs that wait; who comes later waits to get in.
const WAITING: usize = 256;
/// Threads at most.
const MOST: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
pub(crate) struct Pool {
    jobs: mpsc::Sender<Job>,
}

impl Pool {
    /// Its threads end with it.
    pub(crate) fn new() -> Self {
        let (jobs, queue) = mpsc::channel(WAITING);
        let queue = Arc::new(Mutex::new(queue));
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
        for i in 0..threads {
            let queue = queue.clone();
            let started = thread::Builder::new().name(format!("transcode-{i}")).spawn(move || work(&queue));
            if let Err(error) = started {
                tracing::error!(%error, "a thread for coding sound cannot be started");
            }
        }
        Pool { jobs }
    }

    /// Does something on one of the threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BridgeError> {
        let (done, answer) = oneshot::channel();
        let job = Box::new(move || {
            // Whoever asked may be gone.
            let _ = done.send(job());
        });
        self.jobs.send(job).await.map_err(|_| BridgeError::Stopped)?;
        answer.await.map_err(|_| BridgeError::Stopped)
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = next else { return };
        // Whoever waits for it sees that no answer comes; the thread is there for the others.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_takes_no_thread_with_it() {
        let pool = Pool::new();
        for i in 0..2 * MOST {
            let fails: Result<(), _> = pool.run(move || assert!(i > 1000, "on purpose")).await;
            assert_eq!(fails, Err(BridgeError::Stopped));
        }
        let name = pool.run(|| thread::current().name().map(str::to_owned)).await;
        assert!(name.is_ok_and(|n| n.is_some_and(|n| n.starts_with("transcode-"))));
    }
}
