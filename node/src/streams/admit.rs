//! May this publisher have that stream: the app, its settings, whoever has it now, the store, asked in that order.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Duration;

use sluice_cluster::ownership::Identity;
use sluice_media::segmentation::Wish;
use sluice_media::session::{Protocol, Refusal, Request};
use sluice_media::{Origin, PublishError, Publisher, StreamKey, StreamSettings};
use sluice_store::{Broadcast, BroadcastUpdate, HlsSettings, valid_stream_id};

use super::claim::Claimed;
use super::{Live, Streams, away};

/// How long a publisher that gives way may take to leave.
const TAKE_OVER: Duration = Duration::from_millis(500);

impl Streams {
    /// Lets a publisher in, or says why not. `pulled`: it is a source that this node has called.
    pub(super) async fn admit(&self, request: Request, pulled: bool) -> Result<Publisher, Refusal> {
        self.open()?;
        let Request { key, query, peer, user_agent, protocol } = request;
        let app = self.apps.get(&key.app).ok_or_else(|| Refusal::UnknownApp(key.app.to_string()))?;
        if !valid_stream_id(&key.id) {
            return Err(Refusal::InvalidId(key.id.to_string()));
        }
        let allowed = &app.settings.allowed_publisher_cidr;
        if !pulled && !allowed.trim().is_empty() && !sluice_api::is_listed(allowed, peer.ip()) {
            return Err(Refusal::NotAllowed(peer.ip()));
        }
        if protocol == Protocol::WebRtc && !app.settings.webrtc_enabled {
            return Err(Refusal::Disabled("WebRTC (webRTCEnabled)"));
        }
        let publisher = self.identity(peer.ip(), &user_agent, &query);
        let _starting = self.start(&key)?;
        if let Some(resumed) = self.own(&key, &publisher).await? {
            return Ok(resumed);
        }
        self.within_limits(&key, app.settings.ingesting_stream_limit)?;
        let created = match self.store.broadcast(&key.app, &key.id).await {
            Ok(created) => created,
            // Whether it was created cannot be known; where that does not matter, the stream comes first.
            Err(e) if e.is_away() && self.claims.goes_on_without_store() => None,
            Err(e) => return Err(away(e)),
        };
        if created.is_none() && app.settings.accept_only_streams_in_data_store {
            return Err(Refusal::NotCreated(key));
        }
        let hls = hls_settings(&key, &app.settings, created.as_ref())?;
        let Claimed { origin, stored } = self.claims.claim(&key, &publisher).await?;
        let known = BroadcastUpdate {
            publish_type: Some(if pulled { "Pull" } else { publish_type(protocol) }.into()),
            name: said(&query, "streamName"),
            meta_data: said(&query, "metaData"),
            role: said(&query, "role"),
            main_track_stream_id: said(&query, "mainTrack"),
            origin_address: Some(self.node.host.clone()),
            rtmp_url: Some(self.node.rtmp_url(&key)),
            remote_ip: Some(peer.ip().to_canonical().to_string()),
            user_agent: (!user_agent.is_empty()).then_some(user_agent),
            ..BroadcastUpdate::default()
        };
        let began = self.take_up(&key, origin, self.settings(hls)).await;
        let began = began.inspect_err(|_| self.claims.ended(&key, origin.epoch))?;
        let reserved = sluice_store::Numbers {
            media_sequence: origin.media_sequence,
            discontinuity_sequence: origin.discontinuity_sequence,
            timeline: origin.timeline.0,
        };
        let stream = began.stream().clone();
        let epoch = origin.epoch;
        let live = Live { stream, epoch, hls, reserved, claimed: stored, stored: false, known, publisher };
        self.live().insert(key.clone(), live.clone());
        if stored && !self.claims.shares_store() {
            match self.register(&key, &live).await {
                Ok(reserved) => self.change(&key, epoch, |l| (l.reserved, l.stored) = (reserved, true)),
                Err(e) => {
                    self.forget(&key, epoch);
                    // Dropping the publisher would keep the stream waiting for it.
                    began.finish();
                    return Err(away(e));
                }
            }
        }
        if !self.claims.holds(&key, epoch) {
            // Somebody else was faster, in the moment in which nobody could have been told.
            self.lose(&key, epoch, "another");
            return Err(Refusal::InUse(key));
        }
        if self.get(&key).is_some_and(|l| !l.stored) {
            // The publisher does not wait for a database on the network.
            self.again.notify_one();
        }
        Ok(began)
    }

    /// A stream that this node owns already: its publisher came back, or gives way, or stays.
    async fn own(&self, key: &StreamKey, publisher: &Identity) -> Result<Option<Publisher>, Refusal> {
        let Some(live) = self.get(key) else { return Ok(None) };
        let resumed = match self.hub.resume(key) {
            Err(PublishError::InUse) => {
                if !live.gives_way(publisher).await {
                    return Err(Refusal::InUse(key.clone()));
                }
                Some(self.take_over(key).await.ok_or_else(|| Refusal::InUse(key.clone()))?)
            }
            other => other.ok(),
        };
        if let Some(resumed) = resumed {
            let mut mine = false;
            self.change(key, live.epoch, |l| {
                (l.publisher, mine) = (publisher.clone(), true);
                // It may say something else of itself this time.
                let said = |key| said(&publisher.query, key);
                let now = [said("streamName"), said("metaData"), said("role"), said("mainTrack")];
                let known = &mut l.known;
                let texts =
                    [&mut known.name, &mut known.meta_data, &mut known.role, &mut known.main_track_stream_id];
                for (text, now) in texts.into_iter().zip(now) {
                    if now.is_some() && *text != now {
                        (*text, l.stored) = (now, false);
                    }
                }
            });
            self.again.notify_one();
            // It was given away in the meantime: whoever has it now is asked again.
            return if mine { Ok(Some(resumed)) } else { Err(Refusal::InUse(key.clone())) };
        }
        // A stream that has just ended is written off before its id starts anew.
        match self.finish(key, &live).await {
            Err(e) if e.is_away() && self.claims.goes_on_without_store() => {
                self.forget(key, live.epoch);
            }
            other => other.map_err(away)?,
        }
        Ok(None)
    }

    /// Begins to write the stream: anew, or going on with what those see who watch it here already.
    async fn take_up(
        &self,
        key: &StreamKey,
        origin: Origin,
        settings: StreamSettings,
    ) -> Result<Publisher, Refusal> {
        let mut changes = self.hub.watch();
        let begin = async {
            loop {
                let Some(stream) = self.hub.get(key) else {
                    match self.hub.publish(key.clone(), origin, settings) {
                        Ok(publisher) => return Some(publisher),
                        // It came in between.
                        Err(_) => continue,
                    }
                };
                match self.hub.succeed(key, origin) {
                    Ok(publisher) => return Some(publisher),
                    Err(PublishError::NotLive) => continue,
                    Err(_) => {
                        stream.displace();
                        changes.changed().await.ok()?;
                    }
                }
            }
        };
        let taken = tokio::time::timeout(TAKE_OVER, begin).await.ok().flatten();
        taken.ok_or_else(|| Refusal::InUse(key.clone()))
    }

    /// Takes a stream over from a publisher that gives way: most likely it is the same one, whose connection broke
    /// without a word.
    async fn take_over(&self, key: &StreamKey) -> Option<Publisher> {
        let stream = self.hub.get(key)?;
        tracing::info!(stream = %key, "taking the stream over from a publisher that has fallen silent");
        let mut changes = self.hub.watch();
        stream.displace();
        let left = async {
            loop {
                match self.hub.resume(key) {
                    Ok(publisher) => return Some(publisher),
                    Err(PublishError::InUse) => changes.changed().await.ok()?,
                    Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(TAKE_OVER, left).await.ok().flatten()
    }

    fn settings(&self, hls: HlsSettings) -> StreamSettings {
        // The list has to come out of what is kept, for whoever asks first.
        let list = hls.segment * hls.list_size.saturating_add(1);
        let config = self.config.get();
        StreamSettings {
            wish: Wish { segment: hls.segment, part: hls.part },
            retain: config.stream_window.max(list),
            retain_bytes: config.stream_memory,
        }
    }

    /// Behind a proxy all publishers have one address, so that it tells nothing.
    fn identity(&self, peer: IpAddr, user_agent: &str, query: &[(String, String)]) -> Identity {
        let peer = peer.to_canonical();
        let config = self.config.get();
        let address = (!config.trusted_proxies.iter().any(|p| p.contains(&peer))).then_some(peer);
        Identity { address, user_agent: user_agent.to_owned(), query: query.to_vec() }
    }

    /// Those who are just being let in count, too: many may start at the same moment.
    fn within_limits(&self, key: &StreamKey, of_app: i64) -> Result<(), Refusal> {
        let starting: Vec<StreamKey> = {
            let starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
            starting.iter().filter(|k| *k != key).cloned().collect()
        };
        let live = self.list(false);
        let others: std::collections::HashSet<&StreamKey> =
            starting.iter().chain(live.iter().map(|(k, _)| k)).collect();
        let most = self.config.get().max_streams;
        if others.len() >= most as usize {
            return Err(Refusal::Limit(format!("this node takes {most} streams (max_streams)")));
        }
        let in_app = others.iter().filter(|k| k.app == key.app).count();
        if of_app >= 0 && in_app as i64 >= of_app {
            let limit = format!("{} takes {of_app} streams (ingestingStreamLimit)", key.app);
            return Err(Refusal::Limit(limit));
        }
        Ok(())
    }

    /// Two publishers that want the same id at the same moment: the second waits outside.
    fn start(&self, key: &StreamKey) -> Result<Starting<'_>, Refusal> {
        let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if !starting.insert(key.clone()) {
            return Err(Refusal::InUse(key.clone()));
        }
        Ok(Starting(self, key.clone()))
    }
}

/// AMS's word for how a stream is published.
fn publish_type(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::WebRtc => "WebRTC",
        Protocol::Rtmp | Protocol::Hls => "RTMP",
    }
}

/// What the publisher says of its stream, if it says something.
fn said(query: &[(String, String)], key: &str) -> Option<String> {
    query.iter().find(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.clone())
}

fn hls_settings(
    key: &StreamKey,
    app: &sluice_store::AppSettings,
    created: Option<&Broadcast>,
) -> Result<HlsSettings, Refusal> {
    let own = created.and_then(|b| b.hls_parameters.as_ref());
    let hls = app.hls(own).or_else(|error| {
        tracing::warn!(stream = %key, %error, "the stream's HLS settings cannot be used; its app's are");
        app.hls(None)
    });
    hls.map_err(|e| Refusal::Unavailable(format!("the app's settings cannot be used: {e}")))
}

struct Starting<'a>(&'a Streams, StreamKey);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.starting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}
