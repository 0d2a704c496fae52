use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::mirror::Mirror;
use crate::publisher::Publisher;
pub use crate::segmentation::Origin;
use crate::stream::{StopReason, Stream, StreamSettings};

/// The name of a stream: its app and its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// The app, such as `LiveApp`.
    pub app: Arc<str>,
    /// The stream id, unique within the app.
    pub id: Arc<str>,
}

impl StreamKey {
    /// From the two names.
    pub fn new(app: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> Self {
        StreamKey { app: app.into(), id: id.into() }
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.id)
    }
}

/// Why a publisher cannot have a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It has a publisher already.
    #[error("the stream has a publisher already: stop that one first, or choose another id")]
    InUse,
    /// It has not been published, or has ended, so it cannot be taken up again.
    #[error("the stream is not live any more: publish it anew")]
    NotLive,
}

/// All live streams of this process.
#[derive(Debug)]
pub struct Hub {
    streams: RwLock<HashMap<StreamKey, Arc<Stream>>>,
    linger: Duration,
    changes: watch::Sender<u64>,
}

impl Hub {
    /// `linger` is how long a stream stays when its publisher's connection breaks.
    pub fn new(linger: Duration) -> Arc<Self> {
        Arc::new(Hub { streams: RwLock::default(), linger, changes: watch::Sender::new(0) })
    }

    /// Starts a stream and gives its one writer. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`PublishError::InUse`] when it is live, be it with a broken connection: see [`resume`](Self::resume).
    pub fn publish(
        self: &Arc<Self>,
        key: StreamKey,
        origin: Origin,
        settings: StreamSettings,
    ) -> Result<Publisher, PublishError> {
        let publisher = {
            let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
            if streams.get(&key).is_some_and(|s| !s.is_ended()) {
                return Err(PublishError::InUse);
            }
            let stream = Arc::new(Stream::new(key.clone(), origin, settings));
            streams.insert(key, stream.clone());
            Publisher::new(self.clone(), stream).ok_or(PublishError::InUse)?
        };
        self.changed();
        Ok(publisher)
    }

    /// Takes up a stream whose publisher's connection broke.
    ///
    /// # Errors
    /// [`PublishError::InUse`] while it has a publisher, [`PublishError::NotLive`] when there is none to take up.
    pub fn resume(self: &Arc<Self>, key: &StreamKey) -> Result<Publisher, PublishError> {
        let stream = self.get(key).ok_or(PublishError::NotLive)?;
        let publisher = Publisher::new(self.clone(), stream.clone());
        match publisher {
            Some(p) => {
                self.changed();
                Ok(p)
            }
            None if stream.is_ended() => Err(PublishError::NotLive),
            None => Err(PublishError::InUse),
        }
    }

    /// Publishes a stream that this node fetched from another until now, for those who watch it: it goes on from
    /// `origin`, which must be above what was fetched.
    ///
    /// # Errors
    /// [`PublishError::InUse`] while something writes it, [`PublishError::NotLive`] when there is none.
    pub fn succeed(self: &Arc<Self>, key: &StreamKey, origin: Origin) -> Result<Publisher, PublishError> {
        let stream = self.get(key).ok_or(PublishError::NotLive)?;
        let publisher = Publisher::succeed(self.clone(), stream.clone(), origin);
        let none = if stream.is_ended() { PublishError::NotLive } else { PublishError::InUse };
        let publisher = publisher.ok_or(none)?;
        self.changed();
        Ok(publisher)
    }

    /// Writes a stream that another node owns. Takes up the stream of that name whose publisher or mirror has
    /// just left it, so that those who watch it stay; else starts one.
    ///
    /// # Errors
    /// [`PublishError::InUse`] while something writes it.
    pub fn mirror(
        self: &Arc<Self>,
        key: StreamKey,
        origin: Origin,
        settings: StreamSettings,
    ) -> Result<Mirror, PublishError> {
        let mirror = {
            let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
            let stream = match streams.get(&key).filter(|s| !s.is_ended()) {
                Some(stream) => stream.clone(),
                None => {
                    let stream = Arc::new(Stream::new(key.clone(), origin, settings));
                    stream.set_whole(false);
                    streams.insert(key, stream.clone());
                    stream
                }
            };
            Mirror::new(self.clone(), stream).ok_or(PublishError::InUse)?
        };
        self.changed();
        Ok(mirror)
    }

    /// The live stream of that name.
    pub fn get(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        self.streams
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .filter(|s| !s.is_ended())
            .cloned()
    }

    /// All live streams, in no order.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.streams.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How many streams are live.
    pub fn len(&self) -> usize {
        self.streams.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no stream is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes whenever a stream starts, breaks off, goes on or ends.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// The publisher's connection broke: the stream ends unless somebody takes it up in time.
    pub(crate) fn interrupted(self: &Arc<Self>, stream: Arc<Stream>, generation: u64) {
        self.changed();
        let hub = self.clone();
        let linger = self.linger;
        // Outside a runtime (a publisher dropped at process exit) there is nobody left to wait for.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    tokio::time::sleep(linger).await;
                    if stream.end_if_interrupted(generation) {
                        hub.forget(&stream);
                    }
                });
            }
            Err(_) => {
                if stream.end_if_interrupted(generation) {
                    hub.forget(&stream);
                }
            }
        }
    }

    /// An ended stream is taken off the list.
    pub(crate) fn forget(&self, stream: &Arc<Stream>) {
        {
            let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
            if streams.get(stream.key()).is_some_and(|s| Arc::ptr_eq(s, stream)) {
                streams.remove(stream.key());
            }
        }
        self.changed();
    }

    /// Asks the publisher of a stream to stop; ends the stream at once when it has none right now.
    pub fn stop(&self, key: &StreamKey, reason: StopReason) -> bool {
        let Some(stream) = self.get(key) else { return false };
        if stream.request_stop(reason) {
            self.forget(&stream);
        }
        true
    }
}
