//! What is said to a client waits here, bounded, until its connection takes it.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

/// Messages that wait for one client. One that does not take so many is let go.
const WAITING: usize = 512;

/// The way to a client. Clones lead to the same.
#[derive(Clone)]
pub(super) struct Outlet {
    waiting: mpsc::Sender<String>,
    hang_up: Arc<Notify>,
}

/// What waits for a client.
pub struct Inbox {
    waiting: mpsc::Receiver<String>,
    hang_up: Arc<Notify>,
}

pub(super) fn outlet() -> (Outlet, Inbox) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let hang_up = Arc::new(Notify::new());
    (Outlet { waiting: sender, hang_up: hang_up.clone() }, Inbox { waiting: receiver, hang_up })
}

impl Outlet {
    /// Says something; false when nobody takes it any more.
    pub(super) fn say(&self, text: String) -> bool {
        match self.waiting.try_send(text) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.hang_up();
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Ends the connection.
    pub(super) fn hang_up(&self) {
        self.hang_up.notify_one();
    }
}

impl Inbox {
    /// What is to be said next; `None` when the connection has to end. Nothing is lost when it is cancelled.
    pub async fn next(&mut self) -> Option<String> {
        tokio::select! {
            biased;
            () = self.hang_up.notified() => None,
            text = self.waiting.recv() => text,
        }
    }

    /// What is to be said next, if anything waits.
    pub fn try_next(&mut self) -> Option<String> {
        self.waiting.try_recv().ok()
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
}
