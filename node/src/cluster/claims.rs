//! The way of a stream to this node: drives [`Claiming`] over the cluster port and the store.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_cluster::directory::Directory;
use sluice_cluster::member::{NodeId, Owned};
use sluice_cluster::ownership::{
    Answer, Claiming, Identity, Lease, Rules, Segmented, Step, Stored, Tail, TailAnswer, View, Why, claiming,
};
use sluice_cluster::port::Client;
use sluice_media::segmentation::Segmentation;
use sluice_media::session::Refusal;
use sluice_media::{Hub, Origin, StreamKey};
use sluice_store::{Claim, EPOCH_STEP, Numbers, Store, StoreError};

use super::health::Health;
use super::requests::{TailRequest, YieldAnswer, YieldRequest, post, stream_tail};
use crate::streams::claim::{Claimed, Claims};
use crate::streams::unix_ms;

/// Claims streams for this node.
pub(super) struct ClusterClaims {
    pub(super) rules: Rules,
    /// Whether all nodes share the store.
    pub(super) shared: bool,
    pub(super) store: Arc<dyn Store>,
    pub(super) health: OnceLock<Health>,
    pub(super) hub: Arc<Hub>,
    pub(super) client: Client,
    pub(super) directory: Arc<Directory>,
}

impl fmt::Debug for ClusterClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterClaims").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl ClusterClaims {
    fn stored(&self) -> Stored {
        match (self.shared, self.health.get().is_none_or(Health::is_here)) {
            (false, _) => Stored::Nowhere,
            (true, true) => Stored::Shared,
            (true, false) => Stored::Away,
        }
    }

    async fn ask_owner(&self, key: &StreamKey) -> Answer {
        match self.store.owner(&key.app, &key.id).await {
            Ok(owner) => Answer::Owner(owner.map(|o| (NodeId::new(o.node), o.epoch))),
            Err(error) => away(key, &error),
        }
    }

    async fn ask_yield(&self, key: &StreamKey, node: &NodeId, publisher: &Identity) -> Answer {
        let body =
            YieldRequest { app: key.app.to_string(), id: key.id.to_string(), publisher: publisher.clone() };
        // An answer that does not come takes the stream: it must not be a dead connection's fault.
        if let Some(addr) = self.directory.address(node) {
            self.client.forget(&addr);
        }
        match self.ask::<YieldAnswer>(node, "/v1/yield", &body, claiming::YIELD_WITHIN).await {
            Some(YieldAnswer::Yielded(tail)) => Answer::Yielded(tail),
            Some(YieldAnswer::Kept) => Answer::Kept,
            Some(YieldAnswer::NotThere(tail)) => Answer::NotThere(tail),
            None => Answer::Unreachable,
        }
    }

    async fn ask_tails(&self, key: &StreamKey, nodes: &[NodeId]) -> Answer {
        let body = TailRequest { app: key.app.to_string(), id: key.id.to_string() };
        let asked = nodes.iter().map(async |node| {
            let answer = self.ask::<TailAnswer>(node, "/v1/tail", &body, claiming::TAILS_WITHIN).await?;
            Some((node.clone(), answer))
        });
        Answer::Tails(futures_util::future::join_all(asked).await.into_iter().flatten().collect())
    }

    /// Asks a node; nothing when it does not answer in time, or not what was asked for.
    async fn ask<T: DeserializeOwned>(
        &self,
        node: &NodeId,
        path: &'static str,
        body: &impl Serialize,
        within: Duration,
    ) -> Option<T> {
        let addr = self.directory.address(node)?;
        let answer = self.client.ask(&addr, post(path, body), within).await;
        let answer = answer.map_err(|error| tracing::debug!(%node, path, %error, "no answer")).ok()?;
        serde_json::from_slice(answer.body()).ok()
    }

    async fn claim_in_store(&self, key: &StreamKey, known: u64) -> Answer {
        let known = Claim { epoch: known, ..Claim::default() };
        let node = self.rules.node.as_str();
        match self.store.claim_stream(&key.app, &key.id, node, unix_ms(), known).await {
            Ok(claim) => Answer::Claimed { epoch: claim.epoch, reserve: claim.numbers() },
            Err(error) => away(key, &error),
        }
    }

    async fn adopt(&self, key: &StreamKey, epoch: u64, numbers: Numbers) -> Answer {
        let node = self.rules.node.as_str();
        let claim = Claim::new(epoch, numbers);
        match self.store.adopt_stream(&key.app, &key.id, node, unix_ms(), claim).await {
            Ok(()) => Answer::Adopted,
            Err(StoreError::Fenced { current, .. }) => Answer::Fenced { current },
            Err(error) => away(key, &error),
        }
    }

    /// What this node's own store remembers of a stream that the members know nothing of: all of them may have been
    /// away together.
    async fn remember(&self, key: &StreamKey, view: &mut View) -> Result<(), Refusal> {
        let node = self.rules.node.as_str();
        let nothing = Claim::default();
        let own = self.store.claim_stream(&key.app, &key.id, node, unix_ms(), nothing).await;
        let own = own.map_err(away_for_all)?;
        // The lease must be above it, also when this was the first claim ever.
        view.known = view.known.max(own.epoch);
        if own.epoch > EPOCH_STEP {
            view.told = Some(view.told.unwrap_or_default().max(own.numbers()));
        }
        Ok(())
    }

    /// The right to write, if nobody got a better one meanwhile.
    async fn granted(&self, key: &StreamKey, lease: Lease) -> Result<Claimed, Refusal> {
        if !self.shared {
            // For the next run of this node, when nobody else is left to remember.
            let (node, claim) = (self.rules.node.as_str(), Claim::new(lease.epoch, lease.numbers));
            self.store.adopt_stream(&key.app, &key.id, node, unix_ms(), claim).await.map_err(away_for_all)?;
        }
        let owned = Owned {
            app: key.app.clone(),
            id: key.id.clone(),
            epoch: lease.epoch,
            interrupted: false,
            bitrate: 0,
            viewers: Default::default(),
            numbers: lease.numbers,
            part: None,
        };
        // What the store has adopted is the newest turn of all; of two that came at once, the first gives way to it.
        let taken = match self.shared && lease.settled {
            true => self.directory.own(owned),
            false => self.directory.take(owned, lease.known),
        };
        match taken {
            Ok(()) => Ok(Claimed { origin: origin(&lease), stored: lease.settled }),
            Err(_) => Err(refusal(key, &Why::Raced)),
        }
    }
}

#[async_trait]
impl Claims for ClusterClaims {
    async fn claim(&self, key: &StreamKey, publisher: &Identity) -> Result<Claimed, Refusal> {
        self.directory.introduced().await;
        let own: Option<Tail> = self.hub.get(key).and_then(|s| stream_tail(&s));
        let mut view = self.directory.view(key);
        if !self.shared {
            self.remember(key, &mut view).await?;
        }
        let (mut claiming, mut step) = Claiming::start(self.rules.clone(), self.stored(), view, own);
        loop {
            tracing::debug!(stream = %key, ?step, "claiming");
            let answer = match &step {
                Step::AskOwner => self.ask_owner(key).await,
                Step::AskYield { node } => self.ask_yield(key, node, publisher).await,
                Step::AskTails { nodes } => self.ask_tails(key, nodes).await,
                Step::Claim { known } => self.claim_in_store(key, *known).await,
                Step::Adopt { epoch, numbers } => self.adopt(key, *epoch, *numbers).await,
                Step::Granted(lease) => return self.granted(key, *lease).await,
                Step::Refused(why) => return Err(refusal(key, why)),
            };
            step = claiming.on(answer);
        }
    }

    fn ended(&self, key: &StreamKey, epoch: u64) {
        self.directory.disown(key, epoch);
    }

    fn fenced(&self, key: &StreamKey, current: u64) {
        self.directory.know_epoch(key, current);
    }

    fn holds(&self, key: &StreamKey, epoch: u64) -> bool {
        self.directory.highest_epoch(key) <= epoch
    }

    fn shares_store(&self) -> bool {
        self.shared
    }

    fn goes_on_without_store(&self) -> bool {
        self.shared && self.rules.local_leases
    }
}

fn away(key: &StreamKey, error: &StoreError) -> Answer {
    tracing::warn!(stream = %key, %error, "the store does not answer for a new publisher");
    Answer::Away
}

fn away_for_all(error: StoreError) -> Refusal {
    Refusal::Unavailable(format!("this node cannot store what it publishes: {error}"))
}

fn refusal(key: &StreamKey, why: &Why) -> Refusal {
    match why {
        Why::InUse(_) => Refusal::InUse(key.clone()),
        other => Refusal::Unavailable(format!("{key}: {other}")),
    }
}

fn origin(lease: &Lease) -> Origin {
    let segmentation = lease.segmented.map(segmentation);
    Origin { segmentation, ..crate::streams::claim::origin(Claim::new(lease.epoch, lease.numbers)) }
}

fn segmentation(segmented: Segmented) -> Segmentation {
    Segmentation {
        target_duration: Duration::from_millis(segmented.target_ms),
        part_target: Duration::from_millis(segmented.part_ms),
    }
}
