//! Commands to one session, from any thread: bounded, and the end always gets through.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_media::StopReason;

use super::SessionId;
use super::bell::Bell;
use crate::agreed::{Agreed, IceCredentials};
use crate::egress::{Feed, Quality};
use crate::peer::Message;

/// Commands that wait at most; the newest are dropped beyond that.
const COMMANDS: usize = 256;
/// And the bytes of their messages.
const BYTES: usize = 1 << 20;

/// What a session is told.
pub(super) enum Command {
    Agree { agreed: Box<Agreed>, feeds: Option<Vec<Arc<Feed>>>, restart: Option<IceCredentials> },
    Send { channel: u16, message: Message },
    Quality { feed: usize, quality: Quality },
    Enable { mid: String, enabled: bool },
}

/// How a session is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// By its owner; a publisher's stream ends.
    Close,
    /// Its owner is gone; a publisher's stream waits for the publisher to come back.
    Abandon,
    /// The publisher was told to stop.
    Stop(StopReason),
}

/// What waited for a session.
#[derive(Default)]
pub(super) struct Letters {
    pub(super) commands: VecDeque<Command>,
    pub(super) keyframe: bool,
    pub(super) ending: Option<Ending>,
}

#[derive(Default)]
struct State {
    letters: Letters,
    bytes: usize,
    // The loop that has the session; none while it waits for its first binding request.
    bell: Option<Arc<Bell>>,
    rung: bool,
}

/// The commands of one session.
pub(super) struct Mailbox {
    id: SessionId,
    /// Whether the other side's goodbye ends the stream that it publishes.
    pub(super) ends_by_goodbye: AtomicBool,
    /// Whether statistics are told.
    pub(super) measured: AtomicBool,
    state: Mutex<State>,
}

impl Mailbox {
    pub(super) fn new(id: SessionId) -> Self {
        Mailbox {
            id,
            ends_by_goodbye: AtomicBool::new(false),
            measured: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Whose it is.
    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what waits and rings the loop; whether some loop has the session.
    fn put(&self, change: impl FnOnce(&mut State)) -> bool {
        let mut state = self.state();
        change(&mut state);
        let Some(bell) = state.bell.clone() else { return false };
        let first = !std::mem::replace(&mut state.rung, true);
        drop(state);
        if first {
            bell.session(self.id);
        }
        true
    }

    /// Adds a command; false when it was dropped because too many wait.
    pub(super) fn command(&self, command: Command) -> bool {
        let size = match &command {
            Command::Send { message, .. } => message.payload.len(),
            _ => 0,
        };
        let mut taken = false;
        self.put(|state| {
            if state.letters.commands.len() < COMMANDS && state.bytes + size <= BYTES {
                state.bytes += size;
                state.letters.commands.push_back(command);
                taken = true;
            }
        });
        taken
    }

    /// A keyframe is wanted.
    pub(super) fn want_keyframe(&self) {
        self.put(|state| state.letters.keyframe = true);
    }

    /// Ends it. The first ending counts. False while the session waits: then the caller ends it.
    pub(super) fn end(&self, ending: Ending) -> bool {
        self.put(|state| {
            state.letters.ending.get_or_insert(ending);
        })
    }

    /// A loop has the session from now on.
    pub(super) fn settle(&self, bell: Arc<Bell>) {
        self.state().bell = Some(bell);
    }

    /// Takes what waits.
    pub(super) fn take(&self) -> Letters {
        let mut state = self.state();
        state.rung = false;
        state.bytes = 0;
        std::mem::take(&mut state.letters)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::transport::bell::Rung;

    fn message(size: usize) -> Command {
        let message = Message { text: false, payload: Bytes::from(vec![0; size]) };
        Command::Send { channel: 1, message }
    }

    #[test]
    fn commands_are_bounded_by_number_and_bytes_and_the_end_is_not() {
        let mailbox = Mailbox::new(SessionId(1));
        assert!(mailbox.command(message(BYTES)));
        assert!(!mailbox.command(message(1)));
        for _ in 0..COMMANDS - 1 {
            assert!(mailbox.command(Command::Enable { mid: "0".into(), enabled: true }));
        }
        assert!(!mailbox.command(Command::Enable { mid: "0".into(), enabled: true }));
        assert!(!mailbox.end(Ending::Close), "no loop has it");
        assert!(!mailbox.end(Ending::Abandon));
        let letters = mailbox.take();
        assert_eq!((letters.commands.len(), letters.ending), (COMMANDS, Some(Ending::Close)));
        assert!(mailbox.command(message(BYTES)), "there is room again");
    }

    #[test]
    fn a_session_rings_once_until_it_was_looked_at() {
        let (mailbox, bell) = (Mailbox::new(SessionId(5)), Arc::new(Bell::default()));
        mailbox.settle(bell.clone());
        mailbox.want_keyframe();
        mailbox.want_keyframe();
        assert!(mailbox.end(Ending::Close));
        let mut rung = Rung::default();
        bell.take(&mut rung);
        assert_eq!(rung.sessions, [SessionId(5)]);
        assert!(mailbox.take().keyframe);
        mailbox.want_keyframe();
        bell.take(&mut rung);
        assert_eq!(rung.sessions, [SessionId(5)]);
    }
}
