//! [`Ingress`] and [`Egress`] over the streams of a node.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use sluice_media::session::{Egress, Ingress, Play, Protocol, Refusal, Request};
use sluice_media::stats::ViewerGuard;
use sluice_media::{Publisher, Stream, StreamKey};

use super::Streams;

/// Where viewers get streams that this node does not have.
#[async_trait]
pub trait Fetch: Send + Sync + 'static {
    /// The stream, once there is something to read.
    ///
    /// # Errors
    /// [`Refusal::NotLive`], or why it cannot be had now.
    async fn fetch(&self, key: &StreamKey) -> Result<Arc<Stream>, Refusal>;

    /// A place where this stream can be played, for viewers whom this node does not serve.
    fn played_at(&self, key: &StreamKey) -> String;

    /// A place where it can be published, for publishers whom this node does not take.
    fn published_at(&self, key: &StreamKey) -> String;
}

/// Lets publishers and viewers in.
#[derive(Clone)]
pub struct Door {
    streams: Arc<Streams>,
    elsewhere: Option<Arc<dyn Fetch>>,
    takes: Takes,
}

/// Whom a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// Publishers.
    pub publishers: bool,
    /// Viewers.
    pub viewers: bool,
}

impl Streams {
    /// Counts a viewer in, if there is room for one more.
    fn seat(&self, stream: &Stream, protocol: Protocol) -> Result<ViewerGuard, Refusal> {
        // Held over counting and sitting down: of two for the last seat one gets it.
        let _one_by_one = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        match self.config.get().max_viewers {
            Some(most) if self.viewers() >= u64::from(most) => {
                Err(Refusal::Limit(format!("this node takes {most} viewers (max_viewers): try another node")))
            }
            _ => Ok(ViewerGuard::new(stream.stats().clone(), protocol)),
        }
    }
}

impl Streams {
    /// AMS's `webRTCViewerLimit`.
    fn within_webrtc_limit(&self, app: &str, most: i64) -> Result<(), Refusal> {
        let of_app = |stream: &Arc<Stream>| *stream.key().app == *app;
        let streams = self.hub.streams();
        let here: u64 =
            streams.iter().filter(|s| of_app(s)).map(|s| s.stats().viewers(Protocol::WebRtc)).sum();
        if u64::try_from(most).is_ok_and(|most| here >= most) {
            return Err(Refusal::Limit(format!(
                "{app} takes {most} WebRTC viewers on each node (webRTCViewerLimit)"
            )));
        }
        Ok(())
    }
}

impl Door {
    /// `elsewhere` has the other nodes' streams.
    pub fn new(streams: Arc<Streams>, elsewhere: Option<Arc<dyn Fetch>>, takes: Takes) -> Self {
        Door { streams, elsewhere, takes }
    }

    async fn admit(&self, request: Request) -> Result<Publisher, Refusal> {
        if let (false, Some(elsewhere)) = (self.takes.publishers, &self.elsewhere) {
            return Err(Refusal::Edge(elsewhere.published_at(&request.key)));
        }
        admit(&self.streams, request, false).await
    }
}

async fn admit(streams: &Arc<Streams>, request: Request, pulled: bool) -> Result<Publisher, Refusal> {
    let streams = streams.clone();
    // In a task of its own: a client that goes away half-way leaves no record that is live for ever.
    let admitted = tokio::spawn(async move { streams.admit(request, pulled).await }).await;
    admitted.unwrap_or_else(|e| Err(Refusal::Unavailable(format!("internal error: {e}"))))
}

/// Lets sources in that this node has called.
pub(crate) struct Pulled(pub(crate) Arc<Streams>);

#[async_trait]
impl Ingress for Pulled {
    async fn publish(&self, request: Request) -> Result<Publisher, Refusal> {
        admit(&self.0, request, true).await
    }
}

#[async_trait]
impl Ingress for Door {
    async fn publish(&self, request: Request) -> Result<Publisher, Refusal> {
        let key = request.key.clone();
        let peer = request.peer;
        let result = self.admit(request).await;
        match &result {
            Ok(_) => tracing::info!(stream = %key, %peer, "publishing"),
            Err(reason) => {
                tracing::warn!(stream = %key, %peer, %reason, "publisher refused");
                let index = Refusal::REASONS.iter().position(|r| *r == reason.reason());
                if let Some(counter) = index.and_then(|i| self.streams.refused.get(i)) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        result
    }
}

#[async_trait]
impl Egress for Door {
    async fn play(&self, request: Request) -> Result<Play, Refusal> {
        let streams = &self.streams;
        streams.open()?;
        let key = &request.key;
        let app = streams.apps.get(&key.app).ok_or_else(|| Refusal::UnknownApp(key.app.to_string()))?;
        match request.protocol {
            Protocol::Rtmp if !app.settings.rtmp_playback_enabled => {
                return Err(Refusal::Disabled("playback over RTMP (rtmpPlaybackEnabled)"));
            }
            Protocol::Hls if !app.settings.hls_muxing_enabled => {
                return Err(Refusal::Disabled("HLS (hlsMuxingEnabled)"));
            }
            Protocol::WebRtc if !app.settings.webrtc_enabled => {
                return Err(Refusal::Disabled("WebRTC (webRTCEnabled)"));
            }
            Protocol::Rtmp | Protocol::Hls | Protocol::WebRtc => {}
        }
        if let (false, Some(elsewhere)) = (self.takes.viewers, &self.elsewhere) {
            return Err(Refusal::NoViewers(elsewhere.played_at(key)));
        }
        let stream = match (streams.hub.get(key), &self.elsewhere) {
            (Some(stream), None) => stream,
            (Some(stream), _) if !stream.is_relayed() && streams.get(key).is_some() => stream,
            // A relayed stream is asked for again each time, so that it is not let go of just now; one that has just
            // been given up is somewhere else.
            (_, Some(elsewhere)) => elsewhere.fetch(key).await?,
            (None, None) => return Err(Refusal::NotLive(key.clone())),
        };
        if request.protocol == Protocol::WebRtc {
            streams.within_webrtc_limit(&key.app, app.settings.webrtc_viewer_limit)?;
        }
        let viewer = streams.seat(&stream, request.protocol)?;
        Ok(Play { stream, viewer })
    }
}
