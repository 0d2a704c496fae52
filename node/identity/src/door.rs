//! Who may come in at a cluster port: nodes by the cluster's CA, the operator by its own.
//!
//! The name in a certificate says which node it is, never whether it is one: that is told by the CA alone.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

use crate::cluster::node_of;
use crate::{IdentityError, NodeId, OPERATOR_NAME, der};

/// Who is at the other end of a connection that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A node of the cluster.
    Node(NodeId),
    /// The operator.
    Operator,
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// Checks the certificates of those who connect.
#[derive(Debug)]
pub(crate) struct Door {
    nodes: Verifier,
    /// Nobody is the operator without it. Replaced while the node runs.
    operator: RwLock<Option<Verifier>>,
}

fn verifier(roots: RootCertStore) -> Result<Verifier, IdentityError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
}

impl Door {
    pub(crate) fn new(nodes: RootCertStore) -> Result<Door, IdentityError> {
        Ok(Door { nodes: verifier(nodes)?, operator: RwLock::default() })
    }

    pub(crate) fn trust_operator(&self, roots: Option<RootCertStore>) -> Result<(), IdentityError> {
        let operator = roots.map(verifier).transpose()?;
        *self.operator.write().unwrap_or_else(PoisonError::into_inner) = operator;
        Ok(())
    }

    fn operator(&self) -> Option<Verifier> {
        self.operator.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whose chain this is. Nobody's when both authorities vouch for it: then one of them is not what it should be.
    pub(crate) fn peer(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Peer, Error> {
        let (leaf, intermediates) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let as_node = self.nodes.verify_client_cert(leaf, intermediates, now);
        let as_operator = self.operator().map(|v| v.verify_client_cert(leaf, intermediates, now));
        let refused = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        match (as_node, as_operator) {
            (Ok(_), Some(Ok(_))) => Err(refused),
            (Ok(_), _) => node_of(leaf).map(Peer::Node).ok_or(refused),
            (_, Some(Ok(_))) => {
                (der::common_name(leaf) == Some(OPERATOR_NAME)).then_some(Peer::Operator).ok_or(refused)
            }
            (Err(why), _) => Err(why),
        }
    }
}

impl ClientCertVerifier for Door {
    /// None: the authorities change, and those who connect have one certificate each.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(end_entity).chain(intermediates).cloned().collect();
        self.peer(&chain, now).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.nodes.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.nodes.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.nodes.supported_verify_schemes()
    }
}
