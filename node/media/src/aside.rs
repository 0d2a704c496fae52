//! What goes to and fro beside the media of a stream: messages of data channels, and what viewers need of the publisher.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{broadcast, watch};

use crate::{AudioCodec, Stream};

/// Messages that wait for one reader; a slower one misses the oldest.
const WAITING: usize = 256;

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
            keyframe: watch::Sender::new(0),
            needs: watch::Sender::new(Needs::default()),
        }
    }
}

impl Aside {
    /// Sends a message to all who listen now; one that is too large is dropped, and false.
    pub fn send(&self, message: Message) -> bool {
        let fits = message.payload.len() <= LARGEST_MESSAGE;
        if fits {
            // Nobody listening is no error.
            let _ = self.messages.send(message);
        }
        fits
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
