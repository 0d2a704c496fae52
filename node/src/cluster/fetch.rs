//! Streams of other nodes, for those who watch here; and what this node says of those that it has fetched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use sluice_cluster::directory::Directory;
use sluice_cluster::member::{Carried, Member, NodeId, Role, Viewers, host_port};
use sluice_cluster::port::Client;
use sluice_cluster::relay::{CarriedState, FetchError, Offer, Offered, Relays, Source, Sources};
use sluice_media::session::Refusal;
use sluice_media::{Stream, StreamKey};
use sluice_package::HlsSettings;
use sluice_store::Store;
use tokio::sync::watch;

use crate::packaging;
use crate::streams::Streams;
use crate::streams::door::Fetch;

/// How long another node may take to give a media file.
const FILE_WITHIN: Duration = Duration::from_secs(3);
/// How many nodes are asked for it.
const FILE_FROM: usize = 2;

/// The streams that this node has fetched, as the others are told.
#[derive(Debug, Default)]
pub(super) struct Carries(Mutex<HashMap<StreamKey, CarriedState>>);

impl Carries {
    /// Tells the directory of all of them; `viewers` counts those of a stream.
    pub(super) fn tell(&self, directory: &Directory, viewers: impl Fn(&StreamKey) -> Viewers) {
        // Held, so that none is told of that has just been given up.
        for (key, state) in self.all().iter() {
            directory.carry(carried(key, state, viewers(key)));
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<StreamKey, CarriedState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn carried(key: &StreamKey, state: &CarriedState, viewers: Viewers) -> Carried {
    Carried {
        app: key.app.clone(),
        id: key.id.clone(),
        epoch: state.epoch,
        path: state.path.clone(),
        viewers,
    }
}

/// Where streams can be fetched: what the directory says, and what was looked up in the store.
pub(super) struct ClusterSources {
    pub(super) directory: Arc<Directory>,
    pub(super) carries: Arc<Carries>,
    pub(super) hints: Mutex<HashMap<StreamKey, Source>>,
}

impl ClusterSources {
    fn hints(&self) -> MutexGuard<'_, HashMap<StreamKey, Source>> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sources for ClusterSources {
    fn sources(&self, key: &StreamKey) -> Vec<Source> {
        let known = self.directory.sources(key).into_iter();
        let mut all: Vec<Source> =
            known.map(|s| Source { node: s.node, addr: s.addr, epoch: s.epoch }).collect();
        if all.is_empty() && self.directory.owned_epoch(key).is_none() {
            let highest = self.directory.highest_epoch(key);
            all.extend(self.hints().get(key).filter(|s| s.epoch >= highest).cloned());
        }
        all
    }

    fn highest_epoch(&self, key: &StreamKey) -> u64 {
        self.directory.highest_epoch(key)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.directory.changed()
    }

    fn carrying(&self, key: &StreamKey, state: Option<CarriedState>) {
        let mut all = self.carries.all();
        match state {
            Some(state) => {
                self.directory.carry(carried(key, &state, Viewers::default()));
                all.insert(key.clone(), state);
            }
            None => {
                all.remove(key);
                self.directory.drop_carried(key);
                self.hints().remove(key);
            }
        }
    }
}

/// What this node hands on to others.
pub(super) struct Offers {
    pub(super) streams: Arc<Streams>,
    pub(super) relays: std::sync::OnceLock<Arc<Relays>>,
}

impl Offer for Offers {
    fn describe(&self, key: &StreamKey) -> Option<Offered> {
        if let Some(live) = self.streams.get(key) {
            let hls = packaging::to_bytes(packaging::settings(&live.hls));
            return Some(Offered { epoch: live.epoch, path: Vec::new(), hls });
        }
        self.relays.get()?.offered(key)
    }
}

/// Gets streams and files from other nodes.
pub(super) struct Elsewhere {
    pub(super) relays: Arc<Relays>,
    pub(super) directory: Arc<Directory>,
    pub(super) sources: Arc<ClusterSources>,
    pub(super) client: Client,
    /// The store that all nodes share, for streams that nobody has told of yet.
    pub(super) shared: Option<Arc<dyn Store>>,
}

impl Elsewhere {
    /// A stream that the directory does not know, while a node that is alive cannot be heard: the store may know who
    /// has it.
    async fn look_up(&self, key: &StreamKey) {
        let Some(store) = &self.shared else { return };
        let owned = self.directory.find(key).is_some_and(|l| l.owner.is_some());
        let members = self.directory.members();
        if owned || members.iter().all(|m| m.reachable || !m.alive) {
            return;
        }
        match store.owner(&key.app, &key.id).await {
            Ok(Some(owner)) => {
                let node = NodeId::new(owner.node);
                if let Some(addr) = self.directory.address(&node) {
                    let source = Source { node, addr, epoch: owner.epoch };
                    self.sources.hints().insert(key.clone(), source);
                }
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(stream = %key, %error, "the store cannot say who has the stream"),
        }
    }

    /// Of the members that take new sessions, the one with the least to do.
    fn other(&self, wanted: impl Fn(&Member) -> bool) -> Option<Arc<Member>> {
        let members = self.directory.members().into_iter().filter(|m| m.reachable);
        let usable = members.filter_map(|m| m.member).filter(|m| !m.draining && wanted(m));
        usable.min_by_key(|m| (m.load.viewers, m.load.streams))
    }

    /// How the owner of a stream packages it.
    pub(super) fn hls(&self, key: &StreamKey) -> Option<HlsSettings> {
        self.relays.hls(key).map(|told| packaging::from_bytes(&told))
    }
}

#[async_trait]
impl Fetch for Elsewhere {
    async fn fetch(&self, key: &StreamKey) -> Result<Arc<Stream>, Refusal> {
        if !sluice_store::valid_stream_id(&key.id) {
            return Err(Refusal::InvalidId(key.id.to_string()));
        }
        self.look_up(key).await;
        self.relays.fetch(key).await.map_err(|error| {
            // What the store said led nowhere.
            self.sources.hints().remove(key);
            match error {
                FetchError::NotFound { .. } => Refusal::NotLive(key.clone()),
                FetchError::Stopping { .. } => Refusal::Stopping,
                other => Refusal::Unavailable(other.to_string()),
            }
        })
    }

    fn played_at(&self, key: &StreamKey) -> String {
        match self.other(|m| m.role != Role::Origin && m.ports.http != 0) {
            Some(m) => {
                format!("http://{}/{}/play.html?id={}", host_port(&m.host, m.ports.http), key.app, key.id)
            }
            None => "an edge (none is there right now)".into(),
        }
    }

    fn published_at(&self, key: &StreamKey) -> String {
        match self.other(|m| m.role.takes_publishers() && m.ports.rtmp != 0) {
            Some(m) => format!("rtmp://{}/{}/{}", host_port(&m.host, m.ports.rtmp), key.app, key.id),
            None => "an origin (none is there right now)".into(),
        }
    }
}

#[async_trait]
impl sluice_package::Elsewhere for Elsewhere {
    async fn file(&self, key: &StreamKey, path: &str) -> Option<Bytes> {
        for source in self.sources.sources(key).into_iter().take(FILE_FROM) {
            let request = Request::get(format!("/v1/media{path}")).body(Bytes::new()).ok()?;
            match self.client.ask(&source.addr, request, FILE_WITHIN).await {
                Ok(answer) => return Some(answer.into_body()),
                Err(error) => tracing::debug!(%path, node = %source.node, %error, "not there either"),
            }
        }
        None
    }
}
