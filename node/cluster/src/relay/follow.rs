//! Fetches streams from other nodes: one task and one connection for each stream.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sluice_media::{Hub, Stream, StreamKey};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::serve::Offered;
use super::sources::{Dial, Sources};
use super::task::Task;
use crate::member::NodeId;

/// How streams are fetched.
#[derive(Clone, Debug)]
pub struct Follow {
    /// A stream that nobody reads for this long is let go.
    pub idle: Duration,
    /// A stream whose source is gone is kept for those who watch it for this long.
    pub return_within: Duration,
    /// Who asks for a stream waits this long at most until something of it is there.
    pub ready: Duration,
    /// Connection and answer come within this.
    pub dial: Duration,
    /// A source that says nothing for this long is given up.
    pub silent: Duration,
}

impl Default for Follow {
    fn default() -> Self {
        Follow {
            idle: Duration::from_secs(2),
            return_within: Duration::from_secs(10),
            ready: Duration::from_secs(5),
            dial: Duration::from_secs(2),
            silent: Duration::from_secs(3),
        }
    }
}

/// Why a stream is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No node has it.
    #[error("no node of the cluster has the stream {key}")]
    NotFound {
        /// The stream.
        key: StreamKey,
    },
    /// Those that should have it do not give it.
    #[error("the stream {key} cannot be fetched: {reason}")]
    Unreachable {
        /// The stream.
        key: StreamKey,
        /// What went wrong last.
        reason: String,
    },
    /// Nothing of it came in time.
    #[error("nothing of the stream {key} came within {within:?}: is its publisher sending?")]
    Timeout {
        /// The stream.
        key: StreamKey,
        /// The limit.
        within: Duration,
    },
    /// This node is stopping.
    #[error("the stream {key} is not fetched any more: this node is stopping")]
    Stopping {
        /// The stream.
        key: StreamKey,
    },
}

/// A stream that is being fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayView {
    /// The stream.
    pub key: StreamKey,
    /// The node that it is fetched from, or was last.
    pub source: Option<NodeId>,
    /// Whether there is a connection to it now.
    pub connected: bool,
    /// The epoch of what is here.
    pub epoch: u64,
    /// The nodes that the frames come through, the owner first.
    pub path: Vec<NodeId>,
    /// Bytes received.
    pub bytes: u64,
    /// When the stream started at its owner, as the source tells.
    pub started: Option<SystemTime>,
    /// Since when it is fetched.
    pub since: SystemTime,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FollowCounts {
    /// Streams that are fetched now.
    pub streams: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Attempts that failed, and connections that broke.
    pub failures: u64,
    /// Streams that went on at another connection.
    pub resumed: u64,
    /// Streams that were let go because nobody read them.
    pub released: u64,
    /// Streams whose source did not come back.
    pub lost: u64,
    /// Bytes received.
    pub bytes: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) resumed: AtomicU64,
    pub(super) released: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// All streams that this node fetches.
pub struct Relays {
    pub(super) hub: Arc<Hub>,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) sources: Arc<dyn Sources>,
    pub(super) me: NodeId,
    pub(super) settings: Follow,
    pub(super) counters: Counters,
    streams: Mutex<HashMap<StreamKey, Arc<Entry>>>,
    stopping: watch::Sender<bool>,
}

/// What is known of one stream that is fetched.
pub(super) struct Entry {
    pub(super) key: StreamKey,
    pub(super) state: watch::Sender<State>,
    /// Somebody of this node wants to write the stream itself.
    pub(super) leave: watch::Sender<bool>,
    pub(super) shown: Mutex<Shown>,
    pub(super) bytes: AtomicU64,
    asked: Mutex<Instant>,
    since: SystemTime,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) source: Option<NodeId>,
    pub(super) connected: bool,
    pub(super) epoch: u64,
    pub(super) path: Vec<NodeId>,
    pub(super) hls: Bytes,
    pub(super) started: Option<SystemTime>,
    /// Why the last attempt failed.
    pub(super) trouble: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    Starting,
    Ready(Arc<Stream>),
    /// Over: why, for those who still wait for it.
    Over(FetchError),
}

impl Entry {
    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, Instant> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody waits for it, and nobody asked for it of late.
    pub(super) fn is_unwanted(&self, idle: Duration) -> bool {
        self.state.receiver_count() == 0 && self.asked().elapsed() >= idle
    }
}

impl Relays {
    /// Fetches into `hub`, as the node `me`, over connections that `dial` opens, from where `sources` says.
    pub fn new(
        hub: Arc<Hub>,
        dial: Arc<dyn Dial>,
        sources: Arc<dyn Sources>,
        me: NodeId,
        settings: Follow,
    ) -> Arc<Self> {
        Arc::new(Relays {
            hub,
            dial,
            sources,
            me,
            settings,
            counters: Counters::default(),
            streams: Mutex::default(),
            stopping: watch::Sender::new(false),
        })
    }

    /// The stream, as soon as something of every track is there: of this hub when it is here, else fetched. All who
    /// ask for one stream share a connection.
    ///
    /// # Errors
    /// When no node has it, none gives it, or nothing of it comes in time.
    pub async fn fetch(self: &Arc<Self>, key: &StreamKey) -> Result<Arc<Stream>, FetchError> {
        if let Some(stream) = self.local(key) {
            return Ok(stream);
        }
        let within = self.settings.ready;
        let wait = async {
            // Twice: what was there may have been about to end.
            for _ in 0..2 {
                let entry = self.follow(key).ok_or_else(|| FetchError::Stopping { key: key.clone() })?;
                let mut state = entry.state.subscribe();
                let now = state.wait_for(|s| !matches!(s, State::Starting)).await.map(|s| s.clone());
                match now {
                    Ok(State::Ready(stream)) if !stream.is_ended() => {
                        *entry.asked() = Instant::now();
                        return Ok(stream);
                    }
                    Ok(State::Over(error)) => return Err(error),
                    // The task is about to go, and takes the entry with it.
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
            Err(FetchError::NotFound { key: key.clone() })
        };
        match timeout(within, wait).await {
            Ok(result) => result,
            // A track that was announced may never send anything: what is there will do.
            Err(_) => match self.hub.get(key) {
                Some(stream) if stream.newest_stamp().is_some() => Ok(stream),
                _ => Err(self.too_late(key)),
            },
        }
    }

    fn too_late(&self, key: &StreamKey) -> FetchError {
        let entry = self.streams().get(key).cloned();
        let trouble = entry.and_then(|e| e.shown().trouble.clone());
        match trouble {
            Some(reason) => FetchError::Unreachable { key: key.clone(), reason },
            None => FetchError::Timeout { key: key.clone(), within: self.settings.ready },
        }
    }

    /// A stream of this node that nobody else owns by now.
    fn local(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        let stream = self.hub.get(key).filter(|s| !s.is_relayed())?;
        let epoch = stream.newest_stamp().map_or(0, |s| s.epoch).max(stream.origin().epoch);
        let moved = self.sources.sources(key).iter().any(|s| s.epoch > epoch);
        (!moved).then_some(stream)
    }

    /// Fetches a stream for those who watch it here already, whose publisher has left it to another node.
    pub fn take_up(self: &Arc<Self>, key: &StreamKey) -> bool {
        self.follow(key).is_some()
    }

    fn follow(self: &Arc<Self>, key: &StreamKey) -> Option<Arc<Entry>> {
        if *self.stopping.borrow() {
            return None;
        }
        let mut streams = self.streams();
        if let Some(entry) = streams.get(key) {
            *entry.asked() = Instant::now();
            return Some(entry.clone());
        }
        let entry = Arc::new(Entry {
            key: key.clone(),
            state: watch::Sender::new(State::Starting),
            leave: watch::Sender::new(false),
            shown: Mutex::default(),
            bytes: AtomicU64::new(0),
            asked: Mutex::new(Instant::now()),
            since: SystemTime::now(),
        });
        streams.insert(key.clone(), entry.clone());
        drop(streams);
        tokio::spawn(Task::new(self.clone(), entry.clone(), self.stopping.subscribe()).run());
        Some(entry)
    }

    /// Lets go of a stream because this node is to write it itself, and waits until that is done. Those who watch it
    /// stay; [`Hub::succeed`] goes on with it. False when it was not fetched.
    pub async fn leave(&self, key: &StreamKey) -> bool {
        let Some(entry) = self.streams().get(key).cloned() else { return false };
        let mut state = entry.state.subscribe();
        entry.leave.send_replace(true);
        // The sender lives in the entry.
        let _ = state.wait_for(|s| matches!(s, State::Over(_))).await;
        true
    }

    /// Ends all streams that are fetched; none is fetched any more.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// What there is to say to another node that asks for a stream which this one fetches; `None` when it does not, or
    /// has no source of it right now.
    pub fn offered(&self, key: &StreamKey) -> Option<Offered> {
        let entry = self.streams().get(key).cloned()?;
        let shown = entry.shown();
        shown.connected.then(|| Offered {
            epoch: shown.epoch,
            path: shown.path.clone(),
            hls: shown.hls.clone(),
        })
    }

    /// What the source said about packaging a stream; `None` when the stream is not fetched, or nothing was said yet.
    pub fn hls(&self, key: &StreamKey) -> Option<Bytes> {
        let entry = self.streams().get(key).cloned()?;
        let shown = entry.shown();
        shown.source.as_ref().map(|_| shown.hls.clone())
    }

    /// The streams that are fetched, in no order.
    pub fn list(&self) -> Vec<RelayView> {
        let entries: Vec<_> = self.streams().values().cloned().collect();
        let view = |entry: Arc<Entry>| {
            let shown = entry.shown().clone();
            RelayView {
                key: entry.key.clone(),
                source: shown.source,
                connected: shown.connected,
                epoch: shown.epoch,
                path: shown.path,
                bytes: entry.bytes.load(Relaxed),
                started: shown.started,
                since: entry.since,
            }
        };
        entries.into_iter().map(view).collect()
    }

    /// Totals.
    pub fn counts(&self) -> FollowCounts {
        let c = &self.counters;
        FollowCounts {
            streams: self.streams().len() as u64,
            connections: c.connections.load(Relaxed),
            failures: c.failures.load(Relaxed),
            resumed: c.resumed.load(Relaxed),
            released: c.released.load(Relaxed),
            lost: c.lost.load(Relaxed),
            bytes: c.bytes.load(Relaxed),
        }
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<StreamKey, Arc<Entry>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a stream off the list when `over` says so, which is asked, and acts, while nobody can ask for the stream.
    pub(super) fn remove_if(&self, entry: &Arc<Entry>, over: impl FnOnce() -> bool) -> bool {
        let mut streams = self.streams();
        let gone = over();
        if gone && streams.get(&entry.key).is_some_and(|e| Arc::ptr_eq(e, entry)) {
            streams.remove(&entry.key);
        }
        gone
    }
}
