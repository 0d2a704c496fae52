//! Why there is no identity.

use std::path::PathBuf;

use crate::{KEY_BYTES, NODE_ID_BYTES};

/// Why there is no identity for this node, or none for the operator.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The cluster key can be guessed.
    #[error(
        "the cluster key has {0} bytes: it needs at least {KEY_BYTES}, make one with `openssl rand -hex 32`"
    )]
    ShortKey(usize),
    /// The node id is of no use as a name.
    #[error(
        "the node id has {0} bytes or contains control characters: use 1 to {NODE_ID_BYTES} printable bytes"
    )]
    NodeId(usize),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A file could not be read.
    #[error("cannot read the cluster's {what} from {}: {source}", path.display())]
    File {
        /// Which of the three files.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the parser or the system said.
        source: rustls::pki_types::pem::Error,
    },
    /// A text is not what it should be.
    #[error("the {what} is no PEM that can be read: {source}")]
    Pem {
        /// What the text should be.
        what: &'static str,
        /// What the parser said.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate does not say which node it is for.
    #[error("the cluster certificate {} names no node: its subject needs one common name (CN), the node id", .0.display())]
    Nameless(PathBuf),
    /// What was given does not fit together.
    #[error(
        "the certificates are of no use: {0}. Certificate and key must belong together, and the CA must be one"
    )]
    Tls(#[from] rustls::Error),
    /// The CA is of no use for checking peers.
    #[error("the CA is of no use: {0}")]
    Ca(#[from] rustls::server::VerifierBuilderError),
    /// Every node could pose as the operator.
    #[error(
        "the operator's CA is that of the cluster's nodes: each of them could pose as the operator. Give the operator a CA of its own"
    )]
    OperatorIsCluster,
    /// The operator's certificate and key are not a pair.
    #[error(
        "the operator's CA certificate and key do not belong together, or were not made by Sluice: {0}. Delete both, \
         and the operator makes new ones; nodes learn of them without a restart"
    )]
    Pair(rustls::Error),
}
