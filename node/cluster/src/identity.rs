//! Trust inside the cluster: who has the cluster key, or a certificate of the cluster's CA, is a member.
//!
//! From a key, every node derives the same Ed25519 CA and makes itself a certificate at each start; nothing is stored, and clocks
//! don't matter. In its place an administrator may give certificates. TLS 1.3 only, and both sides show a certificate.

mod der;
mod derive;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use rustls::client::{ClientConfig, Resumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, version};

use crate::member::NodeId;
use crate::port::Alpn;

/// A cluster key has at least as many bytes.
pub const KEY_BYTES: usize = 16;

/// A node id has at most as many bytes.
pub const NODE_ID_BYTES: usize = 255;

/// PKCS #8 (RFC 5958, 8410) around the 32 bytes of an Ed25519 key.
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why there is no identity for this node.
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
    #[error("cannot make a certificate from the cluster key: {0}")]
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
    /// The certificate does not say which node it is for.
    #[error("the cluster certificate {} names no node: its subject needs one common name (CN), the node id", .0.display())]
    Nameless(PathBuf),
    /// What was given does not fit together.
    #[error(
        "the cluster's certificates are of no use: {0}. Certificate and key must belong together, and the CA must be one"
    )]
    Tls(#[from] rustls::Error),
    /// The CA is of no use for checking peers.
    #[error("the cluster's CA is of no use: {0}")]
    Ca(#[from] rustls::server::VerifierBuilderError),
}

/// The certificates of this node and what it accepts of others; cheap to clone.
#[derive(Clone)]
pub struct ClusterTls(Arc<Inner>);

struct Inner {
    node: NodeId,
    server: Arc<ServerConfig>,
    clients: [(Alpn, Arc<ClientConfig>); 3],
}

impl ClusterTls {
    /// From the cluster key, which all nodes share: whoever has it can be any node.
    ///
    /// # Errors
    /// A key below [`KEY_BYTES`], a node id that is none.
    pub fn from_key(key: &[u8], node: &NodeId) -> Result<ClusterTls, IdentityError> {
        check(key, node)?;
        let issuer = authority(key)?;
        let (params, ca) = (issuer.0, issuer.1);
        let ca_certificate = params.self_signed(&ca)?;
        let issuer = Issuer::new(params, ca);
        let leaf_key = KeyPair::generate_for(&PKCS_ED25519)?;
        let leaf = leaf_params(node)?.signed_by(&leaf_key, &issuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca_certificate.der().clone())?;
        let private = PrivatePkcs8KeyDer::from(leaf_key.serialize_der()).into();
        Self::build(node.clone(), roots, vec![leaf.der().clone()], private)
    }

    /// From PEM files: this node's certificate (with intermediates, if any), its key, and the CA (one or several) whose
    /// certificates are accepted. The node's id is the common name of its certificate; certificates need the usages client
    /// and server.
    ///
    /// # Errors
    /// A file that cannot be read, certificates that do not fit together.
    pub fn from_files(certificate: &Path, key: &Path, ca: &Path) -> Result<ClusterTls, IdentityError> {
        let file = |what, path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::File { what, path, source }
        };
        let chain = certificates(certificate).map_err(file("certificate", certificate))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(file("private key", key))?;
        let mut roots = RootCertStore::empty();
        for root in certificates(ca).map_err(file("CA", ca))? {
            roots.add(root)?;
        }
        let node =
            chain.first().and_then(node_of).ok_or_else(|| IdentityError::Nameless(certificate.to_owned()))?;
        Self::build(node, roots, chain, private)
    }

    fn build(
        node: NodeId,
        roots: RootCertStore,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ClusterTls, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(roots);
        let clients_of_the_cluster =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(clients_of_the_cluster)
            .with_single_cert(chain.clone(), key.clone_key())?;
        server.alpn_protocols = Alpn::ALL.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
        // Every connection proves anew who it is.
        server.send_tls13_tickets = 0;

        let algorithms = provider.signature_verification_algorithms;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verify::OfTheCluster { roots, algorithms }))
            .with_client_auth_cert(chain, key)?;
        client.enable_sni = false;
        client.resumption = Resumption::disabled();
        let clients = Alpn::ALL.map(|alpn| {
            let mut client = client.clone();
            client.alpn_protocols = vec![alpn.as_bytes().to_vec()];
            (alpn, Arc::new(client))
        });
        Ok(ClusterTls(Arc::new(Inner { node, server: Arc::new(server), clients })))
    }

    /// The node that it speaks for.
    pub fn node(&self) -> &NodeId {
        &self.0.node
    }

    /// For accepting connections: asks for a certificate, offers every [`Alpn`].
    pub fn server(&self) -> Arc<ServerConfig> {
        self.0.server.clone()
    }

    /// For opening a connection. The name of the server is not compared; any will do.
    pub fn client(&self, alpn: Alpn) -> Arc<ClientConfig> {
        let (_, client) = self.0.clients.iter().find(|(of, _)| *of == alpn).expect("there is one for each");
        client.clone()
    }
}

/// The node at the other end of a connection, as its certificate says.
pub fn peer_node(connection: &rustls::CommonState) -> Option<NodeId> {
    node_of(connection.peer_certificates()?.first()?)
}

/// The secret that signs multicast datagrams.
///
/// # Errors
/// A key below [`KEY_BYTES`].
pub fn multicast_key(key: &[u8]) -> Result<[u8; 32], IdentityError> {
    if key.len() < KEY_BYTES {
        return Err(IdentityError::ShortKey(key.len()));
    }
    Ok(derive::secret(key, b"multicast datagrams"))
}

fn node_of(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    der::common_name(certificate).filter(|name| valid_node_id(name)).map(NodeId::new)
}

/// Whether this can be the id of a node: 1 to [`NODE_ID_BYTES`] bytes, nothing that garbles a log.
pub fn valid_node_id(id: &str) -> bool {
    (1..=NODE_ID_BYTES).contains(&id.len()) && !id.chars().any(char::is_control)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    let all = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound) } else { Ok(all) }
}

fn check(key: &[u8], node: &NodeId) -> Result<(), IdentityError> {
    if key.len() < KEY_BYTES {
        return Err(IdentityError::ShortKey(key.len()));
    }
    if !valid_node_id(node.as_str()) {
        return Err(IdentityError::NodeId(node.as_str().len()));
    }
    Ok(())
}

/// The CA of a cluster key: the same on every node.
fn authority(key: &[u8]) -> Result<(CertificateParams, KeyPair), IdentityError> {
    let mut pkcs8 = ED25519_PKCS8.to_vec();
    pkcs8.extend_from_slice(&derive::secret(key, b"certificate authority ed25519"));
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Sluice cluster");
    params.serial_number = Some(SerialNumber::from(1u64));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok((params, pair))
}

fn leaf_params(node: &NodeId) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(node.as_str());
    params.subject_alt_names = vec![SanType::URI(uri(node).as_str().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// For tools that show a certificate's alternative names; Sluice itself reads the common name.
fn uri(node: &NodeId) -> String {
    let mut uri = String::from("urn:sluice:node:");
    for byte in node.as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => uri.push(char::from(byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests;
