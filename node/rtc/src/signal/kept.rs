//! Publishers whose WebSocket is lost: their media goes on for a moment, and makes room at once for the same publisher
//! when it comes again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sluice_media::StreamKey;
use sluice_media::session::Request;
use tokio::sync::oneshot;

/// For how long media goes on after the WebSocket is lost. The adaptor is back within about 1 s.
pub(super) const KEPT: Duration = Duration::from_secs(3);
/// How long making room may take.
const ROOM: Duration = Duration::from_millis(300);

/// Who publishes: told from others as the node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    address: IpAddr,
    user_agent: String,
    query: Vec<(String, String)>,
}

impl Identity {
    pub(super) fn of(request: &Request) -> Self {
        let (address, user_agent) = (request.peer.ip().to_canonical(), request.user_agent.clone());
        // What it says of its stream may have changed meanwhile.
        let matters = |(name, _): &&(String, String)| name != "metaData" && name != "streamName";
        Identity { address, user_agent, query: request.query.iter().filter(matters).cloned().collect() }
    }
}

/// Publishers without a WebSocket, by stream.
#[derive(Default)]
pub(super) struct Kept(Mutex<HashMap<StreamKey, Waiting>>);

struct Waiting {
    who: Identity,
    make_room: oneshot::Sender<oneshot::Sender<()>>,
}

impl Kept {
    /// Keeps one; what is received has to make room and then say so by dropping what it was sent.
    pub(super) fn keep(&self, key: StreamKey, who: Identity) -> oneshot::Receiver<oneshot::Sender<()>> {
        let (make_room, asked) = oneshot::channel();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, waiting| !waiting.make_room.is_closed());
        kept.insert(key, Waiting { who, make_room });
        asked
    }

    /// Makes room for one who comes again.
    pub(super) async fn make_room(&self, key: &StreamKey, who: &Identity) -> bool {
        let waiting = {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match kept.remove(key) {
                Some(waiting) if waiting.who == *who => waiting,
                Some(other) => {
                    kept.insert(key.clone(), other);
                    return false;
                }
                None => return false,
            }
        };
        let (made, is_made) = oneshot::channel();
        // Either it drops what it is sent, or it has ended by itself.
        waiting.make_room.send(made).is_ok() && tokio::time::timeout(ROOM, is_made).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use sluice_media::session::Protocol;

    use super::*;

    fn someone(port: u16, token: &str, meta_data: &str) -> Identity {
        Identity::of(&Request {
            key: StreamKey::new("live", "cam1"),
            query: vec![("token".into(), token.into()), ("metaData".into(), meta_data.into())],
            peer: ([192, 0, 2, 1], port).into(),
            user_agent: "browser".into(),
            protocol: Protocol::WebRtc,
        })
    }

    #[tokio::test]
    async fn room_is_made_for_the_same_one_only() {
        let (kept, key) = (Kept::default(), StreamKey::new("live", "cam1"));
        let asked = kept.keep(key.clone(), someone(1, "a", "x"));
        assert!(!kept.make_room(&key, &someone(2, "b", "x")).await);
        let leaves = tokio::spawn(async move { drop(asked.await) });
        assert!(kept.make_room(&key, &someone(2, "a", "y")).await, "from another port, with other words");
        leaves.await.unwrap();
        assert!(!kept.make_room(&key, &someone(2, "a", "x")).await, "once");
    }

    #[tokio::test]
    async fn who_has_ended_by_itself_needs_no_asking() {
        let (kept, key) = (Kept::default(), StreamKey::new("live", "cam1"));
        drop(kept.keep(key.clone(), someone(1, "a", "x")));
        assert!(!kept.make_room(&key, &someone(1, "a", "x")).await);
        let _one = kept.keep(StreamKey::new("live", "cam2"), someone(1, "a", "x"));
        assert_eq!(kept.0.lock().unwrap().len(), 1, "and is forgotten");
    }
}
