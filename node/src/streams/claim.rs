//! How a node becomes the owner of a stream: alone, by its store; in a cluster, by asking around first.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use sluice_cluster::ownership::Identity;
use sluice_media::session::Refusal;
use sluice_media::{Origin, StreamKey, Timestamp};
use sluice_store::{Claim, Store};

use super::{away, unix_ms};

/// A stream that this node may write from now on.
#[derive(Clone, Copy, Debug)]
pub struct Claimed {
    /// The epoch, and the numbers to go on with.
    pub origin: Origin,
    /// Whether the store knows. Where it could not be asked, it is told as soon as it can be.
    pub stored: bool,
}

/// Makes this node the owner of streams, and says so to whom it may concern.
#[async_trait]
pub trait Claims: Send + Sync + Debug + 'static {
    /// Makes this node the owner of a stream that it does not write now.
    ///
    /// # Errors
    /// Another publisher has it, or what is needed to decide does not answer.
    async fn claim(&self, key: &StreamKey, publisher: &Identity) -> Result<Claimed, Refusal>;

    /// The stream is not written here any more.
    fn ended(&self, key: &StreamKey, epoch: u64);

    /// The store has a higher epoch of the stream.
    fn fenced(&self, key: &StreamKey, current: u64);

    /// Whether nobody has a higher epoch of the stream, as far as is known.
    fn holds(&self, key: &StreamKey, epoch: u64) -> bool;

    /// Whether the store is a database on the network, which others use as well.
    fn shares_store(&self) -> bool;

    /// Whether somebody may publish though the store does not answer.
    fn goes_on_without_store(&self) -> bool;
}

/// A node that is alone: its store gives the epochs.
#[derive(Debug)]
pub struct Alone {
    store: Arc<dyn Store>,
    node: String,
}

impl Alone {
    /// `node` is the name of this one.
    pub fn new(store: Arc<dyn Store>, node: String) -> Arc<Self> {
        Arc::new(Alone { store, node })
    }
}

#[async_trait]
impl Claims for Alone {
    async fn claim(&self, key: &StreamKey, _publisher: &Identity) -> Result<Claimed, Refusal> {
        let nothing = Claim::default();
        let claim = self.store.claim_stream(&key.app, &key.id, &self.node, unix_ms(), nothing).await;
        Ok(Claimed { origin: origin(claim.map_err(away)?), stored: true })
    }

    fn ended(&self, _key: &StreamKey, _epoch: u64) {}

    fn fenced(&self, _key: &StreamKey, _current: u64) {}

    fn holds(&self, _key: &StreamKey, _epoch: u64) -> bool {
        true
    }

    fn shares_store(&self) -> bool {
        false
    }

    fn goes_on_without_store(&self) -> bool {
        false
    }
}

/// What the hub begins with after a claim.
pub fn origin(claim: Claim) -> Origin {
    Origin {
        epoch: claim.epoch,
        media_sequence: claim.media_sequence,
        discontinuity_sequence: claim.discontinuity_sequence,
        timeline: Timestamp(claim.timeline),
        segmentation: None,
    }
}
