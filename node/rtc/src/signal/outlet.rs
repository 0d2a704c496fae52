//! What is said to a client waits here, bounded, until its connection takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{Notify, mpsc};

/// Messages that wait for one client, and their bytes. One that does not take so much is let go.
const WAITING: usize = 512;
const BYTES: usize = 1 << 20;
/// The longest message that a client is sent, in bytes: much less than the 1 MiB that Apple's WebSockets take.
pub(super) const LONGEST: usize = 256 << 10;

/// The way to a client. Clones lead to the same.
#[derive(Clone)]
pub(super) struct Outlet {
    waiting: mpsc::Sender<String>,
    bytes: Arc<AtomicUsize>,
    hang_up: Arc<Notify>,
}

/// What waits for a client.
pub struct Inbox {
    waiting: mpsc::Receiver<String>,
    bytes: Arc<AtomicUsize>,
    hang_up: Arc<Notify>,
}

pub(super) fn outlet() -> (Outlet, Inbox) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (bytes, hang_up) = (Arc::<AtomicUsize>::default(), Arc::new(Notify::new()));
    let outlet = Outlet { waiting: sender, bytes: bytes.clone(), hang_up: hang_up.clone() };
    (outlet, Inbox { waiting: receiver, bytes, hang_up })
}

impl Outlet {
    /// Says something; false when nobody takes it any more.
    pub(super) fn say(&self, text: String) -> bool {
        let size = text.len();
        let fits = self.bytes.fetch_add(size, Relaxed) + size <= BYTES;
        let sent = match fits {
            true => self.waiting.try_send(text),
            false => Err(mpsc::error::TrySendError::Full(text)),
        };
        match sent {
            Ok(()) => return true,
            Err(mpsc::error::TrySendError::Full(_)) => self.hang_up(),
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
        self.bytes.fetch_sub(size, Relaxed);
        false
    }

    /// Ends the connection.
    pub(super) fn hang_up(&self) {
        self.hang_up.notify_one();
    }
}

impl Inbox {
    /// What is to be said next; `None` when the connection has to end. Nothing is lost when it is cancelled.
    pub async fn next(&mut self) -> Option<String> {
        let text = tokio::select! {
            biased;
            () = self.hang_up.notified() => None,
            text = self.waiting.recv() => text,
        };
        self.taken(text)
    }

    /// Whether so little waits that the client's next command may be answered.
    pub fn has_room(&self) -> bool {
        self.bytes.load(Relaxed) <= BYTES / 4 && self.waiting.len() <= WAITING / 4
    }

    /// What is to be said next, if anything waits.
    pub fn try_next(&mut self) -> Option<String> {
        let text = self.waiting.try_recv().ok();
        self.taken(text)
    }

    fn taken(&self, text: Option<String>) -> Option<String> {
        self.bytes.fetch_sub(text.as_ref().map_or(0, String::len), Relaxed);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_is_let_go() {
        let (outlet, mut inbox) = outlet();
        assert!((0..WAITING).all(|n| outlet.say(n.to_string())));
        assert!(!outlet.say("one too many".into()));
        assert_eq!(inbox.next().await, None, "at once, whatever waits");
        drop(inbox);
        assert!(!outlet.say("nobody there".into()));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes() {
        let (outlet, mut inbox) = outlet();
        let long = "x".repeat(LONGEST);
        for round in 0..3 {
            assert!((0..BYTES / LONGEST).all(|_| outlet.say(long.clone())), "{round}");
            assert!(!inbox.has_room());
            while inbox.try_next().is_some() {}
            assert!(inbox.has_room());
        }
        assert!((0..BYTES / LONGEST).all(|_| outlet.say(long.clone())));
        assert!(!outlet.say("x".into()));
        assert_eq!(inbox.next().await, None);
    }
}
