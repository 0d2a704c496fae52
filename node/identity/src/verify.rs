//! How a server's certificate is checked: the chain must lead to the cluster's CA, and the certificate must name a node. The
//! address that was called is not compared with it: nodes are told apart by their ids. Other nodes take any of the cluster;
//! the operator asks for one by name.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use crate::NodeId;
use crate::cluster::node_of;

/// Another node of the cluster answers where one was expected. It is inside the [`rustls::Error`] of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongNode {
    /// The node that was called.
    pub expected: NodeId,
    /// The node that answered.
    pub found: NodeId,
}

impl fmt::Display for WrongNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} answers where {} was expected", self.found, self.expected)
    }
}

impl std::error::Error for WrongNode {}

impl WrongNode {
    /// What a failed handshake says of it, if that is why it failed.
    pub fn of(error: &Error) -> Option<&WrongNode> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.downcast_ref(),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct OfTheCluster {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    /// The only one that may answer; any of the cluster without it.
    pub(crate) expected: Option<NodeId>,
}

impl ServerCertVerifier for OfTheCluster {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let found = node_of(end_entity)
            .ok_or(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))?;
        match &self.expected {
            Some(expected) if *expected != found => {
                let wrong = WrongNode { expected: expected.clone(), found };
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong)))))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
