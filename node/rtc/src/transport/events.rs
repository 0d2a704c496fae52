//! What a session tells its owner: bounded, and the end always arrives.

use tokio::sync::mpsc::{self, OwnedPermit};

use super::{Closed, SessionEvent, Stats};

/// Events that wait at most, besides the end.
const WAITING: usize = 64;
/// Statistics leave that much room for what matters more.
const ROOM: usize = WAITING / 2;

/// The sending side.
pub(super) struct Events {
    sender: mpsc::Sender<SessionEvent>,
    // A place that is kept for the end.
    last: OwnedPermit<SessionEvent>,
}

impl Events {
    /// Both sides; `None` does not happen: the channel is empty.
    pub(super) fn new() -> Option<(Self, mpsc::Receiver<SessionEvent>)> {
        let (sender, receiver) = mpsc::channel(WAITING + 1);
        let last = sender.clone().try_reserve_owned().ok()?;
        Some((Events { sender, last }, receiver))
    }

    /// Tells it; false when the reader has too much waiting already.
    pub(super) fn tell(&self, event: SessionEvent) -> bool {
        !matches!(self.sender.try_send(event), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Tells statistics, if the reader reads.
    pub(super) fn stats(&self, stats: Stats) {
        if self.sender.capacity() > ROOM {
            self.tell(SessionEvent::Stats(stats));
        }
    }

    /// Tells the end.
    pub(super) fn closed(self, why: Closed) {
        self.last.send(SessionEvent::Closed(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::EgressStats;

    #[tokio::test]
    async fn a_reader_that_does_not_read_gets_the_end_all_the_same() {
        let (events, mut receiver) = Events::new().unwrap();
        for _ in 0..2 * WAITING {
            events.stats(Stats::Out(EgressStats::default()));
        }
        let told = (0..2 * WAITING).filter(|n| events.tell(SessionEvent::StreamEnded(*n))).count();
        assert_eq!(told, ROOM);
        events.closed(Closed::ByUs);
        let mut last = None;
        let mut heard = 0;
        while let Some(event) = receiver.recv().await {
            (last, heard) = (Some(event), heard + 1);
        }
        assert_eq!(heard, WAITING + 1);
        assert!(matches!(last, Some(SessionEvent::Closed(Closed::ByUs))));
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_no_loss() {
        let (events, receiver) = Events::new().unwrap();
        drop(receiver);
        assert!(events.tell(SessionEvent::Connected));
        events.closed(Closed::ByUs);
    }
}
