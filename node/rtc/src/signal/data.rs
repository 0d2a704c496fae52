//! Data channels: what a publisher sends reaches the players of its stream, and what they send reaches it, and each
//! other where the app has it so. Used by every session, however it was signalled.

use std::future::pending;
use std::sync::Arc;

use futures_util::future::select_all;
use sluice_media::Stream;
use sluice_media::aside::{self, Sender};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::directory::Distribution;
use crate::SessionEvent;
use crate::peer::Message;

/// The most channels of one session that are written to.
const CHANNELS: usize = 16;

/// What one player may say in a second, in bytes, and what it may say at once: each message reaches many.
const PLAYER: (u64, u64) = (64 << 10, 256 << 10);
/// The same of a publisher.
const PUBLISHER: (u64, u64) = (1 << 20, 1 << 20);
/// A message counts as much at least.
const SMALLEST: u64 = 1 << 10;

/// How much may be said.
struct Allowance {
    left: u64,
    rate: u64,
    most: u64,
    since: Instant,
}

impl Allowance {
    fn new(role: Sender, now: Instant) -> Self {
        let (rate, most) = if role == Sender::Player { PLAYER } else { PUBLISHER };
        Allowance { left: most, rate, most, since: now }
    }

    /// Whether a message of so many bytes may be said now.
    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let passed = u64::try_from(now.duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        let gained = passed.saturating_mul(self.rate) / 1000;
        if gained > 0 {
            (self.left, self.since) = (self.left.saturating_add(gained).min(self.most), now);
        }
        let cost = (bytes as u64).max(SMALLEST);
        let may = cost <= self.left;
        self.left -= if may { cost } else { 0 };
        may
    }
}

/// The side channels of a session's streams, as one session sees them.
pub struct Bridge {
    role: Sender,
    session: u64,
    distribution: Distribution,
    streams: Vec<Heard>,
    channels: Vec<u16>,
    lost: u64,
    allowance: Allowance,
}

struct Heard {
    stream: Arc<Stream>,
    messages: Receiver<aside::Message>,
}

impl Bridge {
    /// For the session with this number, which publishes or plays these.
    pub fn new(role: Sender, session: u64, streams: &[Arc<Stream>], distribution: Distribution) -> Self {
        let mut bridge = Bridge {
            role,
            session,
            distribution,
            streams: Vec::new(),
            channels: Vec::new(),
            lost: 0,
            allowance: Allowance::new(role, Instant::now()),
        };
        bridge.set_streams(streams);
        bridge
    }

    /// It plays these from now on. What comes on those that stay is not missed.
    pub fn set_streams(&mut self, streams: &[Arc<Stream>]) {
        self.streams.retain(|heard| streams.iter().any(|stream| Arc::ptr_eq(stream, &heard.stream)));
        for stream in streams {
            if !self.streams.iter().any(|heard| Arc::ptr_eq(stream, &heard.stream)) {
                self.streams.push(Heard { stream: stream.clone(), messages: stream.aside().listen() });
            }
        }
    }

    /// Takes what concerns data channels: one that has opened, or a message.
    pub fn take(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::Open { channel, .. }
                if self.channels.len() < CHANNELS && !self.channels.contains(channel) =>
            {
                self.channels.push(*channel);
            }
            SessionEvent::Message { message, .. } => self.pass_on(message),
            _ => {}
        }
    }

    fn pass_on(&mut self, message: &Message) {
        if self.role == Sender::Player && self.distribution == Distribution::None {
            return;
        }
        if !self.allowance.take(message.payload.len(), Instant::now()) {
            self.lost += 1;
            return;
        }
        for heard in &self.streams {
            let sent = heard.stream.aside().send(aside::Message {
                from: self.role,
                session: self.session,
                text: message.text,
                payload: message.payload.clone(),
            });
            self.lost += u64::from(!sent);
        }
    }

    /// The channels that are open: what is to be said is said on the newest of them.
    pub fn channel(&self) -> Option<u16> {
        self.channels.last().copied()
    }

    /// Messages that were too large or came too fast to be passed on.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The next message for the client. Waits for ever when its streams are over. Nothing is lost when it is cancelled.
    pub async fn next(&mut self) -> Message {
        loop {
            let (index, received) = self.receive().await;
            match received {
                Ok(message) if self.is_for_us(index, &message) => {
                    return Message { text: message.text, payload: message.payload };
                }
                Ok(_) => {}
                // It goes on with the oldest that is left.
                Err(RecvError::Lagged(missed)) => self.lost += missed,
                Err(RecvError::Closed) => {
                    self.streams.swap_remove(index);
                }
            }
        }
    }

    async fn receive(&mut self) -> (usize, Result<aside::Message, RecvError>) {
        if self.streams.is_empty() {
            return pending().await;
        }
        // A future of `recv` that is dropped has taken nothing.
        let next = self.streams.iter_mut().map(|heard| Box::pin(heard.messages.recv()));
        let (received, index, _) = select_all(next).await;
        (index, received)
    }

    fn is_for_us(&self, index: usize, message: &aside::Message) -> bool {
        let own = message.session == self.session && message.from == self.role && self.session != 0;
        if own {
            return false;
        }
        match (self.role, message.from) {
            (Sender::Publisher, from) => from == Sender::Player,
            (Sender::Player, Sender::Publisher) => true,
            // A player of several streams speaks on each of them; others hear it on one.
            (Sender::Player, Sender::Player) => {
                let id = |heard: &Heard| heard.stream.key().clone();
                let first = self.streams.iter().map(id).min();
                self.distribution == Distribution::All
                    && first.as_ref() == self.streams.get(index).map(id).as_ref()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use sluice_media::aside::LARGEST_MESSAGE;
    use sluice_media::{Hub, Origin, StreamKey, StreamSettings};

    use super::*;

    fn said(text: &'static str) -> SessionEvent {
        let message = Message { text: true, payload: Bytes::from_static(text.as_bytes()) };
        SessionEvent::Message { channel: 1, label: "cam1".into(), message }
    }

    async fn hears(bridge: &mut Bridge) -> Option<Bytes> {
        tokio::time::timeout(Duration::from_millis(20), bridge.next()).await.ok().map(|m| m.payload)
    }

    fn publisher(id: &str) -> sluice_media::Publisher {
        let hub = Hub::new(Duration::ZERO);
        hub.publish(StreamKey::new("live", id), Origin::default(), StreamSettings::default()).unwrap()
    }

    #[tokio::test]
    async fn publisher_and_players_hear_each_other_and_not_themselves() {
        let stream = [publisher("cam1").stream().clone()];
        for (distribution, to_publisher, to_players) in [
            (Distribution::All, true, true),
            (Distribution::Publisher, true, false),
            (Distribution::None, false, false),
        ] {
            let mut publisher = Bridge::new(Sender::Publisher, 1, &stream, distribution);
            let mut a = Bridge::new(Sender::Player, 2, &stream, distribution);
            let mut b = Bridge::new(Sender::Player, 3, &stream, distribution);
            publisher.take(&said("hello"));
            assert_eq!(
                (hears(&mut a).await, hears(&mut b).await),
                (Some("hello".into()), Some("hello".into()))
            );
            assert_eq!(hears(&mut publisher).await, None);
            a.take(&said("hi"));
            assert_eq!(hears(&mut publisher).await.is_some(), to_publisher, "{distribution:?}");
            assert_eq!(hears(&mut b).await.is_some(), to_players, "{distribution:?}");
            assert_eq!(hears(&mut a).await, None);
        }
    }

    #[tokio::test]
    async fn a_player_of_a_room_is_heard_once() {
        let (first, second) = (publisher("cam1"), publisher("cam2"));
        let streams = [second.stream().clone(), first.stream().clone()];
        let mut a = Bridge::new(Sender::Player, 2, &streams, Distribution::All);
        let mut b = Bridge::new(Sender::Player, 3, &streams, Distribution::All);
        a.take(&said("hi"));
        assert_eq!((hears(&mut b).await, hears(&mut b).await), (Some("hi".into()), None));
        let mut of_second = Bridge::new(Sender::Publisher, 4, &streams[..1], Distribution::All);
        b.set_streams(&streams[1..]);
        of_second.take(&said("only for those who play it"));
        assert!(hears(&mut b).await.is_none() && hears(&mut a).await.is_some());
    }

    #[tokio::test]
    async fn who_is_slow_or_says_too_much_loses_and_it_is_counted() {
        let stream = [publisher("cam1").stream().clone()];
        let mut publisher = Bridge::new(Sender::Publisher, 1, &stream, Distribution::All);
        let mut player = Bridge::new(Sender::Player, 2, &stream, Distribution::All);
        for _ in 0..300 {
            publisher.take(&said("x"));
        }
        assert!(hears(&mut player).await.is_some() && player.lost() > 0);
        let message = Message { text: false, payload: vec![0; LARGEST_MESSAGE + 1].into() };
        publisher.take(&SessionEvent::Message { channel: 1, label: String::new(), message });
        assert_eq!(publisher.lost(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_too_much_is_not_passed_on_for_a_while() {
        let stream = [publisher("cam1").stream().clone()];
        for (role, most, refills) in [(Sender::Player, 256, 64), (Sender::Publisher, 1024, 1024)] {
            let mut bridge = Bridge::new(role, 1, &stream, Distribution::All);
            (0..most).for_each(|_| bridge.take(&said("x")));
            assert_eq!(bridge.lost(), 0);
            bridge.take(&said("x"));
            assert_eq!(bridge.lost(), 1);
            tokio::time::advance(Duration::from_secs(1)).await;
            (0..refills).for_each(|_| bridge.take(&said("x")));
            assert_eq!(bridge.lost(), 1);
            bridge.take(&said("x"));
            assert_eq!(bridge.lost(), 2);
        }
    }
}
