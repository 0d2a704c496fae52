//! The operator's own CA, and what it shows to the nodes of one cluster.

use std::fmt;
use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair, PKCS_ED25519};
use rustls::client::{ClientConfig, Resumption};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::{RootCertStore, version};

use crate::cluster::check_key;
use crate::door::Door;
use crate::verify::OfTheCluster;
use crate::{Alpn, IdentityError, NodeId, ca};

/// The common name of the operator's certificates. A node may have it as its id: what counts is the CA.
pub const OPERATOR_NAME: &str = "sluice-operator";

/// The operator's CA with its private key, and the certificate that the operator shows; cheap to clone. Only the operator
/// has it; nodes are given [`certificate_pem`](Self::certificate_pem).
#[derive(Clone)]
pub struct OperatorAuthority(Arc<Authority>);

struct Authority {
    certificate: String,
    key: String,
    chain: Vec<CertificateDer<'static>>,
    leaf_key: PrivateKeyDer<'static>,
}

impl fmt::Debug for OperatorAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorAuthority(…)")
    }
}

impl OperatorAuthority {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let certificate = ca::of_operator().self_signed(&key)?.pem();
        Self::build(certificate, key)
    }

    /// From the two texts that [`certificate_pem`](Self::certificate_pem) and [`key_pem`](Self::key_pem) gave.
    ///
    /// # Errors
    /// They are no PEM, or do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::from_pem_and_sign_algo(key, &PKCS_ED25519)?;
        Self::build(certificate.to_owned(), key)
    }

    fn build(certificate: String, key: KeyPair) -> Result<Self, IdentityError> {
        let key_pem = key.serialize_pem();
        let leaf_key = KeyPair::generate_for(&PKCS_ED25519)?;
        let issuer: Issuer<'_, KeyPair> = Issuer::new(ca::of_operator(), key);
        let leaf: CertificateParams = ca::operator_leaf(OPERATOR_NAME)?;
        let chain = vec![leaf.signed_by(&leaf_key, &issuer)?.der().clone()];
        // What nodes will do with it: says whether certificate and key are a pair.
        let roots = ca::roots_of_pem("operator's CA certificate", certificate.as_bytes())?;
        Door::new(roots)?.peer(&chain, UnixTime::now()).map_err(IdentityError::Pair)?;
        let leaf_key = PrivatePkcs8KeyDer::from(leaf_key.serialize_der()).into();
        Ok(OperatorAuthority(Arc::new(Authority { certificate, key: key_pem, chain, leaf_key })))
    }

    /// The CA's certificate, PEM: what nodes have.
    pub fn certificate_pem(&self) -> &str {
        &self.0.certificate
    }

    /// The CA's private key, PEM: for a Secret that only the operator reads.
    pub fn key_pem(&self) -> &str {
        &self.0.key
    }
}

/// What the operator shows to the nodes of one cluster, and accepts of them; cheap to clone.
#[derive(Clone)]
pub struct OperatorTls {
    authority: OperatorAuthority,
    roots: Arc<RootCertStore>,
}

impl fmt::Debug for OperatorTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorTls(…)")
    }
}

impl OperatorTls {
    /// For the cluster that has this key.
    ///
    /// # Errors
    /// A key below [`KEY_BYTES`](crate::KEY_BYTES).
    pub fn from_key(authority: &OperatorAuthority, key: &[u8]) -> Result<Self, IdentityError> {
        check_key(key)?;
        Ok(OperatorTls { authority: authority.clone(), roots: Arc::new(ca::roots_of_key(key)?) })
    }

    /// For the cluster whose nodes have certificates of these authorities, PEM, one or several.
    ///
    /// # Errors
    /// It is no PEM, or has no certificate.
    pub fn from_ca(authority: &OperatorAuthority, pem: &str) -> Result<Self, IdentityError> {
        let roots = ca::roots_of_pem("cluster's CA certificate", pem.as_bytes())?;
        Ok(OperatorTls { authority: authority.clone(), roots: Arc::new(roots) })
    }

    /// For opening a connection to this node. The handshake fails when another one answers, with
    /// [`WrongNode`](crate::WrongNode) inside the error; the server's name is not compared, any will do.
    ///
    /// # Errors
    /// What rustls says to the operator's certificate.
    pub fn client(&self, node: &NodeId) -> Result<Arc<ClientConfig>, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let Authority { chain, leaf_key, .. } = &*self.authority.0;
        let verifier = OfTheCluster { roots: self.roots.clone(), algorithms, expected: Some(node.clone()) };
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain.clone(), leaf_key.clone_key())?;
        client.enable_sni = false;
        client.resumption = Resumption::disabled();
        client.alpn_protocols = vec![Alpn::Requests.as_bytes().to_vec()];
        Ok(Arc::new(client))
    }
}
