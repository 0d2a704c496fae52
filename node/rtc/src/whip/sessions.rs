//! The sessions that were opened over HTTP, by the ids in their URLs.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_media::StreamKey;
use sluice_media::aside::Sender;
use sluice_media::session::Request;
use tokio::sync::mpsc;

use super::open::{Link, Role, Running};
use crate::SessionEvent;
use crate::agreed::IceCredentials;
use crate::peer::Message;
use crate::signal::Distribution;
use crate::signal::data::Bridge;
use crate::transport::Closed;

/// The sessions of WHIP and WHEP. Each leaves by itself when it is over.
#[derive(Default)]
pub struct Sessions {
    all: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    place: Place,
    etag: String,
    link: Box<dyn Link>,
}

/// Which path a session has, but for its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) role: Role,
    pub(super) key: StreamKey,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role.word(), self.key)
    }
}

/// What became of a PATCH.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Patched {
    /// There is no such session.
    Unknown,
    /// The entity tag is not that of the present ICE session.
    OutOfDate,
    /// No entity tag was given.
    NoTag,
    /// Candidates were taken note of.
    Trickled,
    /// ICE was restarted: the new entity tag, and our side of it.
    Restarted { etag: String, fragment: String },
}

impl Sessions {
    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// Ends all with a goodbye, such that clients notice at once and come again, elsewhere if the node is going away.
    /// Publishers' streams end, unless they are `moving`: then they wait for them. Gives how many there were. `reason` is for
    /// the log.
    pub fn close_all(&self, reason: &str, moving: bool) -> usize {
        let all = std::mem::take(&mut *self.all());
        let count = all.len();
        if count > 0 {
            tracing::info!(sessions = count, reason, "WHIP and WHEP sessions are closed");
        }
        for entry in all.into_values() {
            match moving && entry.place.role == Role::Publisher {
                // The goodbye is said all the same.
                true => drop(entry.link),
                false => entry.link.close(),
            }
        }
        count
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a session until it is over. Gives its id, which is its first entity tag as well. `distribution` is that of the
    /// app, for what comes over data channels.
    pub(super) fn add(
        self: &Arc<Self>,
        request: &Request,
        role: Role,
        distribution: Distribution,
        running: Running,
    ) -> String {
        let Running { streams, events, link, answer: _ } = running;
        let sender = match role {
            Role::Publisher => Sender::Publisher,
            Role::Player => Sender::Player,
        };
        let bridge = Bridge::new(sender, link.id(), &streams, distribution);
        let place = Place { role, key: request.key.clone() };
        let id = random_id();
        let entry = Entry { place: place.clone(), etag: id.clone(), link };
        self.all().insert(id.clone(), entry);
        let story = Story { place, peer: request.peer, agent: shortened(&request.user_agent) };
        tokio::spawn(follow(self.clone(), id.clone(), story, events, bridge));
        id
    }

    /// Ends a session with a goodbye; false when there is none of that name at that place.
    pub(super) fn close(&self, id: &str, place: &Place) -> bool {
        let entry = {
            let mut all = self.all();
            if all.get(id).is_none_or(|entry| entry.place != *place) {
                return false;
            }
            all.remove(id)
        };
        if let Some(entry) = entry {
            entry.link.close();
        }
        true
    }

    fn send(&self, id: &str, channel: u16, message: Message) {
        if let Some(entry) = self.all().get(id) {
            entry.link.send(channel, message);
        }
    }

    /// Whether there is such a session at that place.
    pub(super) fn has(&self, id: &str, place: &Place) -> bool {
        self.all().get(id).is_some_and(|entry| entry.place == *place)
    }

    /// A fragment came for a session (RFC 9725, 4.3): candidates, or new credentials, which restart ICE.
    pub(super) fn patch(
        &self,
        id: &str,
        place: &Place,
        if_match: Option<&str>,
        ice: Option<IceCredentials>,
    ) -> Patched {
        let mut all = self.all();
        let Some(entry) = all.get_mut(id).filter(|entry| entry.place == *place) else {
            return Patched::Unknown;
        };
        let Some(if_match) = if_match else { return Patched::NoTag };
        let strong =
            |tag: &str| tag.trim().strip_prefix('"').and_then(|t| t.strip_suffix('"')) == Some(&entry.etag);
        if if_match.trim() != "*" && !if_match.split(',').any(strong) {
            return Patched::OutOfDate;
        }
        match ice.filter(|ice| *ice != entry.link.remote_ice()) {
            None => Patched::Trickled,
            Some(theirs) => {
                let fragment = entry.link.restart(theirs);
                entry.etag = random_id();
                Patched::Restarted { etag: entry.etag.clone(), fragment }
            }
        }
    }
}

/// 128 random bits: whoever knows the URL may end the session.
fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn shortened(agent: &str) -> String {
    agent.chars().take(80).collect()
}

/// Who it is, for the log.
struct Story {
    place: Place,
    peer: SocketAddr,
    agent: String,
}

/// Reads what a session tells and passes messages of data channels on, until it is over; takes it off the list then.
async fn follow(
    sessions: Arc<Sessions>,
    id: String,
    story: Story,
    mut events: mpsc::Receiver<SessionEvent>,
    mut bridge: Bridge,
) {
    let Story { place, peer, agent } = story;
    tracing::debug!(%place, %peer, agent, "a session is opened");
    let why = loop {
        let event = tokio::select! {
            event = events.recv() => event,
            message = bridge.next() => {
                if let Some(channel) = bridge.channel() {
                    sessions.send(&id, channel, message);
                }
                continue;
            }
        };
        match event {
            Some(SessionEvent::Connected) => tracing::info!(%place, %peer, agent, "media flows"),
            Some(SessionEvent::StreamEnded(_)) => {
                // One stream is all that it plays.
                sessions.close(&id, &place);
                break "the stream has ended".to_owned();
            }
            Some(SessionEvent::Closed(why)) => break describe(&why),
            Some(event) => bridge.take(&event),
            None => break "the media loop has ended".to_owned(),
        }
    };
    // Outside of the statement, so that a session is never dropped under the lock.
    let entry = sessions.all().remove(&id);
    drop(entry);
    tracing::info!(%place, %peer, agent, why, "a session is over");
}

fn describe(why: &Closed) -> String {
    match why {
        Closed::ByPeer => "the client said goodbye".to_owned(),
        Closed::Silent(text) => format!("the client is gone: {text}"),
        Closed::Stopped(reason) => reason.to_string(),
        Closed::ByUs => "it was closed".to_owned(),
    }
}
