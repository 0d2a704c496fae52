//! Whether the store that all nodes share answers.

use std::time::Duration;

use sluice_cluster::membership;
use tokio::sync::watch;

/// As the heartbeats see it; without a shared store it is always well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Option<watch::Receiver<membership::Health>>);

impl Health {
    /// Of the store that the membership writes to.
    pub(super) fn of(beats: watch::Receiver<membership::Health>) -> Self {
        Health(Some(beats))
    }

    /// For how long it has not answered; `None` while it does.
    pub(crate) fn away_for(&self) -> Option<Duration> {
        let since = self.0.as_ref()?.borrow().away_since?;
        Some(since.elapsed())
    }

    /// Whether it answers, as far as is known.
    pub(super) fn is_here(&self) -> bool {
        self.away_for().is_none()
    }

    /// How often it had lost this node's record.
    pub(super) fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |h| h.borrow().lost)
    }

    /// Waits until something of it changes; for ever without a shared store.
    pub(super) async fn changed(&mut self) {
        let gone = match &mut self.0 {
            Some(beats) => beats.changed().await.is_err(),
            None => true,
        };
        if gone {
            std::future::pending::<()>().await;
        }
    }
}
