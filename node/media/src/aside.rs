//! What goes to and fro beside the media of a stream: messages of data channels, and what viewers need of the publisher.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::{broadcast, watch};

use crate::{AudioCodec, Stream};

/// Messages that wait for one reader; a slower one misses the oldest.
const WAITING: usize = 256;

/// The number of no link: sent on this node.
const HERE: u64 = 0;

/// The largest message that is carried, in bytes.
pub const LARGEST_MESSAGE: usize = 64 * 1024;

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The publisher, or the server in its name (REST): for the players.
    Publisher,
    /// A player: for the publisher, and for other players if the app says so.
    Player,
}

/// A message of a data channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub from: Sender,
    /// The session that sent it, so that it does not get it back; 0 when that is on another node.
    pub session: u64,
    /// Whether it is text (UTF-8).
    pub text: bool,
    /// What it says, at most [`LARGEST_MESSAGE`].
    pub payload: Bytes,
}

/// The side channels of a stream. On a node that fetches the stream they lead to its owner and back.
#[derive(Debug)]
pub struct Aside {
    messages: broadcast::Sender<Message>,
    // The same messages, each with the link that it came by: for other links.
    passing: broadcast::Sender<(u64, Message)>,
    keyframe: watch::Sender<u64>,
    needs: watch::Sender<Needs>,
}

/// How many need the sound in which codec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Needs {
    aac: u32,
    opus: u32,
}

impl Needs {
    fn of(&mut self, codec: AudioCodec) -> Option<&mut u32> {
        match codec {
            AudioCodec::Aac => Some(&mut self.aac),
            AudioCodec::Opus => Some(&mut self.opus),
            AudioCodec::Mp3 => None,
        }
    }
}

impl Default for Aside {
    fn default() -> Self {
        Aside {
            messages: broadcast::Sender::new(WAITING),
            passing: broadcast::Sender::new(WAITING),
            keyframe: watch::Sender::new(0),
            needs: watch::Sender::new(Needs::default()),
        }
    }
}

impl Aside {
    /// Sends a message to all who listen now; one that is too large is dropped, and false.
    pub fn send(&self, message: Message) -> bool {
        self.spread(HERE, message)
    }

    /// Sends on a message that came from another node by this link, to all but that link. It is no session's any more.
    pub fn pass(&self, link: u64, message: Message) -> bool {
        self.spread(link, Message { session: 0, ..message })
    }

    fn spread(&self, link: u64, message: Message) -> bool {
        let fits = message.payload.len() <= LARGEST_MESSAGE;
        if fits {
            // Nobody listening is no error.
            let _ = self.passing.send((link, message.clone()));
            let _ = self.messages.send(message);
        }
        fits
    }

    /// A link to another node that has the stream: gets all messages from now on but those that came by itself.
    pub fn link(&self) -> Link {
        static NEXT: AtomicU64 = AtomicU64::new(HERE + 1);
        Link { number: NEXT.fetch_add(1, Relaxed), passing: self.passing.subscribe() }
    }

    /// Messages from now on.
    pub fn listen(&self) -> broadcast::Receiver<Message> {
        self.messages.subscribe()
    }

    /// A viewer cannot go on without a keyframe.
    pub fn want_keyframe(&self) {
        self.keyframe.send_modify(|n| *n += 1);
    }

    /// Changes with every wish for a keyframe.
    pub fn keyframe_wishes(&self) -> watch::Receiver<u64> {
        self.keyframe.subscribe()
    }

    /// Whether somebody needs the sound in this codec.
    pub fn needs(&self, codec: AudioCodec) -> bool {
        self.needs.borrow().clone().of(codec).is_some_and(|n| *n > 0)
    }

    /// Waits until what is needed changes.
    pub fn watch_needs(&self) -> NeedsChanged {
        NeedsChanged(self.needs.subscribe())
    }
}

/// Where messages go to another node. Of more than [`WAITING`] that wait, the oldest are lost.
#[derive(Debug)]
pub struct Link {
    number: u64,
    passing: broadcast::Receiver<(u64, Message)>,
}

impl Link {
    /// Its number, for [`Aside::pass`].
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next message for the other node; `None` when the stream is gone. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match self.passing.recv().await {
                Ok((link, message)) if link != self.number => return Some(message),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next message for the other node, if there is one by now.
    pub fn try_next(&mut self) -> Option<Message> {
        loop {
            match self.passing.try_recv() {
                Ok((link, message)) if link != self.number => return Some(message),
                Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Tells when [`Aside::needs`] may answer otherwise.
#[derive(Debug)]
pub struct NeedsChanged(watch::Receiver<Needs>);

impl NeedsChanged {
    /// Waits for the next change; false when the stream is gone.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Needs the sound of a stream in a codec for as long as it lives. The owner of the stream adds such a track when the publisher
/// sends another codec.
#[derive(Debug)]
pub struct Need {
    stream: Arc<Stream>,
    codec: AudioCodec,
}

impl Need {
    /// Of this stream.
    pub fn new(stream: Arc<Stream>, codec: AudioCodec) -> Self {
        stream.aside().needs.send_modify(|needs| {
            if let Some(n) = needs.of(codec) {
                *n += 1;
            }
        });
        Need { stream, codec }
    }
}

impl Drop for Need {
    fn drop(&mut self) {
        self.stream.aside().needs.send_modify(|needs| {
            if let Some(n) = needs.of(self.codec) {
                *n = n.saturating_sub(1);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hub, Origin, StreamKey, StreamSettings};

    #[tokio::test]
    async fn needs_count_for_as_long_as_they_live() {
        let hub = Hub::new(std::time::Duration::ZERO);
        let publisher =
            hub.publish(StreamKey::new("live", "a"), Origin::default(), StreamSettings::default()).unwrap();
        let stream = publisher.stream().clone();
        let mut changes = stream.aside().watch_needs();
        let first = Need::new(stream.clone(), AudioCodec::Opus);
        let second = Need::new(stream.clone(), AudioCodec::Opus);
        assert!(changes.changed().await);
        drop(first);
        assert!(stream.aside().needs(AudioCodec::Opus) && !stream.aside().needs(AudioCodec::Aac));
        drop(second);
        assert!(!stream.aside().needs(AudioCodec::Opus));
    }

    #[test]
    fn a_link_gets_all_but_its_own() {
        let aside = Aside::default();
        let message = |session, text: &'static [u8]| Message {
            from: Sender::Player,
            session,
            text: true,
            payload: Bytes::from_static(text),
        };
        let (mut up, mut down, mut heard) = (aside.link(), aside.link(), aside.listen());
        aside.send(message(7, b"here"));
        aside.pass(down.number(), message(9, b"below"));
        let texts =
            |link: &mut Link| std::iter::from_fn(|| link.try_next()).map(|m| m.payload).collect::<Vec<_>>();
        assert_eq!(texts(&mut up), ["here", "below"]);
        assert_eq!(texts(&mut down), ["here"]);
        assert_eq!(heard.try_recv().map(|m| m.session), Ok(7));
        assert_eq!(heard.try_recv().map(|m| m.session), Ok(0), "it is no session of this node");
        for _ in 0..2 * WAITING {
            aside.send(message(1, b"more"));
        }
        assert_eq!(texts(&mut up).len(), WAITING, "the oldest are lost");
    }

    #[test]
    fn a_message_that_is_too_large_is_dropped() {
        let aside = Aside::default();
        let mut heard = aside.listen();
        let message = |size: usize| Message {
            from: Sender::Publisher,
            session: 1,
            text: false,
            payload: Bytes::from(vec![0; size]),
        };
        assert!(!aside.send(message(LARGEST_MESSAGE + 1)));
        assert!(aside.send(message(LARGEST_MESSAGE)));
        assert_eq!(heard.try_recv().unwrap().payload.len(), LARGEST_MESSAGE);
        assert!(heard.try_recv().is_err());
    }
}
