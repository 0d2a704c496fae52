//! What following a stream asks of the rest of the node.

use std::error::Error;

use async_trait::async_trait;
use sluice_media::StreamKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::member::NodeId;
use crate::port::{Alpn, Client};

/// A node that has a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub node: NodeId,
    /// `host:port` of its cluster port.
    pub addr: String,
    /// The epoch of what it has.
    pub epoch: u64,
}

/// What this node has of a stream that it fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedState {
    /// The epoch of what it has.
    pub epoch: u64,
    /// The nodes that the frames come through: the owner first, the node that it is fetched from last.
    pub path: Vec<NodeId>,
}

/// Who has which stream. Must not block.
pub trait Sources: Send + Sync {
    /// The nodes that a stream can be fetched from, the best first; this node is never one of them.
    fn sources(&self, key: &StreamKey) -> Vec<Source>;
    /// The highest epoch that is known of a stream, 0 when none is. What is below is not taken.
    fn highest_epoch(&self, key: &StreamKey) -> u64;
    /// Changes whenever one of these may have changed, for whichever stream.
    fn changed(&self) -> watch::Receiver<u64>;
    /// Told when this node begins to carry a stream, when what it says of it changes, and with `None` when it stops.
    fn carrying(&self, key: &StreamKey, state: Option<CarriedState>);
}

/// A connection to another node's relay.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Why there is no connection.
pub type DialError = Box<dyn Error + Send + Sync>;

/// Opens connections to the relay of other nodes.
#[async_trait]
pub trait Dial: Send + Sync {
    /// To the cluster port at `addr`, given as `host:port`.
    async fn dial(&self, addr: &str) -> Result<Box<dyn Connection>, DialError>;
}

#[async_trait]
impl Dial for Client {
    async fn dial(&self, addr: &str) -> Result<Box<dyn Connection>, DialError> {
        Ok(Box::new(Client::dial(self, addr, Alpn::Relay).await?))
    }
}
