//! What goes over a relay beside the frames: messages of data channels both ways; needs and wishes for key frames towards
//! the owner. What comes from a link never goes back over it, so nothing echoes, however many nodes stand in a row.

use std::sync::Arc;
use std::time::Duration;

use sluice_media::aside::{self, Link, Need, NeedsChanged};
use sluice_media::{AudioCodec, Stream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::wire::{Encoder, Message, WireError};

/// Bytes of messages a second over one link; frames come first.
const RATE: u64 = 1 << 20;
/// Bytes of messages in one go.
const BURST: u64 = 256 << 10;
/// Every message counts as at least this many bytes.
const SMALLEST: u64 = 1 << 10;
/// Wishes for a key frame are passed on this far apart, at least.
const KEYFRAMES: Duration = Duration::from_millis(250);

/// How many bytes may go.
#[derive(Debug)]
struct Allowance {
    left: u64,
    at: Instant,
}

impl Allowance {
    fn fill(&mut self, now: Instant) {
        let micros = now.saturating_duration_since(self.at).as_micros().min(1_000_000) as u64;
        let more = micros * RATE / 1_000_000;
        if more > 0 {
            self.at = now;
            self.left = (self.left + more).min(BURST);
        }
    }

    fn take(&mut self, cost: u64, now: Instant) -> bool {
        self.fill(now);
        let enough = self.left >= cost;
        if enough {
            self.left -= cost;
        }
        enough
    }

    /// When there will be enough.
    fn ready(&self, cost: u64) -> Instant {
        let micros = cost.saturating_sub(self.left) * 1_000_000 / RATE;
        self.at + Duration::from_micros(micros + u64::from(micros > 0))
    }
}

/// Messages on their way to the other side of one connection.
#[derive(Debug)]
pub(super) struct Messages {
    stream: Arc<Stream>,
    link: Link,
    waiting: Option<aside::Message>,
    allowance: Allowance,
}

impl Messages {
    /// Those of this stream from now on.
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        let link = stream.aside().link();
        let allowance = Allowance { left: BURST, at: Instant::now() };
        Messages { stream, link, waiting: None, allowance }
    }

    /// Takes what the other side said.
    pub(super) fn take(&self, from: aside::Sender, text: bool, payload: bytes::Bytes) {
        let message = aside::Message { from, session: 0, text, payload };
        self.stream.aside().pass(self.link.number(), message);
    }

    /// Waits until [`fill`](Self::fill) has something to write. Cancelling it loses nothing.
    pub(super) async fn ready(&mut self) {
        if self.waiting.is_none() {
            match self.link.next().await {
                Some(message) => self.waiting = Some(message),
                None => return std::future::pending().await,
            }
        }
        if let Some(message) = &self.waiting {
            sleep_until(self.allowance.ready(cost(message))).await;
        }
    }

    /// Writes the messages that may go now. Whether there was one.
    pub(super) fn fill(&mut self, now: Instant, to: &mut Encoder) -> Result<bool, WireError> {
        let mut some = false;
        while let Some(message) = self.waiting.take().or_else(|| self.link.try_next()) {
            if !self.allowance.take(cost(&message), now) {
                self.waiting = Some(message);
                break;
            }
            let aside::Message { from, text, payload, .. } = message;
            // The other side refuses text that is none.
            let text = text && std::str::from_utf8(&payload).is_ok();
            to.encode(Message::Said { from, text, payload })?;
            some = true;
        }
        Ok(some)
    }
}

fn cost(message: &aside::Message) -> u64 {
    (message.payload.len() as u64).max(SMALLEST)
}

/// What goes from an asker to its source.
#[derive(Debug)]
pub(super) struct Upwards {
    stream: Arc<Stream>,
    pub(super) messages: Messages,
    changes: NeedsChanged,
    told: (bool, bool),
    keyframes: watch::Receiver<u64>,
    wanted: bool,
    last: Option<Instant>,
}

impl Upwards {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        let aside = stream.aside();
        Upwards {
            messages: Messages::new(stream.clone()),
            changes: aside.watch_needs(),
            told: (false, false),
            keyframes: aside.keyframe_wishes(),
            wanted: false,
            last: None,
            stream,
        }
    }

    /// Waits until [`fill`](Self::fill) has something to write. Cancelling it loses nothing.
    pub(super) async fn ready(&mut self) {
        let later = self.last.filter(|_| self.wanted).map(|last| last + KEYFRAMES);
        let allowed = async {
            match later {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.messages.ready() => {}
            true = self.changes.changed() => {}
            Ok(()) = self.keyframes.changed(), if !self.wanted => self.wanted = true,
            () = allowed => {}
            else => std::future::pending().await,
        }
    }

    /// Writes what may go now.
    pub(super) fn fill(&mut self, now: Instant, to: &mut Encoder) -> Result<(), WireError> {
        let needs = |codec| self.stream.aside().needs(codec);
        let needed = (needs(AudioCodec::Aac), needs(AudioCodec::Opus));
        if needed != self.told {
            self.told = needed;
            to.encode(Message::Needs { aac: needed.0, opus: needed.1 })?;
        }
        if self.wanted && self.last.is_none_or(|last| now.saturating_duration_since(last) >= KEYFRAMES) {
            (self.wanted, self.last) = (false, Some(now));
            to.encode(Message::WantKeyframe)?;
        }
        self.messages.fill(now, to)?;
        Ok(())
    }
}

/// What one asker needs, for as long as its connection lasts.
#[derive(Debug, Default)]
pub(super) struct Needed {
    aac: Option<Need>,
    opus: Option<Need>,
}

impl Needed {
    /// It needs this now.
    pub(super) fn set(&mut self, stream: &Arc<Stream>, aac: bool, opus: bool) {
        let set = |held: &mut Option<Need>, needed: bool, codec| match (needed, held.is_some()) {
            (true, false) => *held = Some(Need::new(stream.clone(), codec)),
            (false, true) => *held = None,
            _ => {}
        };
        set(&mut self.aac, aac, AudioCodec::Aac);
        set(&mut self.opus, opus, AudioCodec::Opus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_allowance_is_used_up_and_comes_back() {
        let start = Instant::now();
        let mut allowance = Allowance { left: BURST, at: start };
        for _ in 0..4 {
            assert!(allowance.take(64 << 10, start));
        }
        assert!(!allowance.take(SMALLEST, start));
        let ready = allowance.ready(64 << 10);
        assert!((ready - start).as_millis() >= 62, "a sixteenth of a second for a sixteenth of the rate");
        assert!(allowance.take(64 << 10, ready));
        assert!(!allowance.take(SMALLEST, ready));
        let long = start + Duration::from_secs(3600);
        assert!(allowance.take(BURST, long) && !allowance.take(SMALLEST, long), "never more than a burst");
    }
}
