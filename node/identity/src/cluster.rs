//! What a node shows on the cluster port, and what it accepts.

use std::path::Path;
use std::sync::Arc;

use rcgen::{Issuer, KeyPair, PKCS_ED25519};
use rustls::client::{ClientConfig, Resumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::ServerConfig;
use rustls::{RootCertStore, version};

use crate::door::{Door, Peer};
use crate::verify::OfTheCluster;
use crate::{Alpn, IdentityError, KEY_BYTES, NodeId, ca, der, derive, valid_node_id};

/// The certificates of this node and what it accepts of others; cheap to clone.
#[derive(Clone)]
pub struct ClusterTls(Arc<Inner>);

struct Inner {
    node: NodeId,
    chain: Vec<CertificateDer<'static>>,
    door: Arc<Door>,
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
        let (params, pair) = ca::of_cluster(key)?;
        let issuer = Issuer::new(params, pair);
        let leaf_key = KeyPair::generate_for(&PKCS_ED25519)?;
        let leaf = ca::node_leaf(node)?.signed_by(&leaf_key, &issuer)?;
        let roots = ca::roots_of_key(key)?;
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

    pub(crate) fn build(
        node: NodeId,
        roots: RootCertStore,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ClusterTls, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let door = Arc::new(Door::new(roots.clone())?);
        let roots = Arc::new(roots);
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(door.clone())
            .with_single_cert(chain.clone(), key.clone_key())?;
        server.alpn_protocols = Alpn::ALL.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
        // Every connection proves anew who it is.
        server.send_tls13_tickets = 0;

        let algorithms = provider.signature_verification_algorithms;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OfTheCluster { roots, algorithms, expected: None }))
            .with_client_auth_cert(chain.clone(), key)?;
        client.enable_sni = false;
        client.resumption = Resumption::disabled();
        let clients = Alpn::ALL.map(|alpn| {
            let mut client = client.clone();
            client.alpn_protocols = vec![alpn.as_bytes().to_vec()];
            (alpn, Arc::new(client))
        });
        Ok(ClusterTls(Arc::new(Inner { node, chain, door, server: Arc::new(server), clients })))
    }

    /// The node that it speaks for.
    pub fn node(&self) -> &NodeId {
        &self.0.node
    }

    /// From now on the operator is whoever has a certificate of these authorities, PEM, one or several; nobody without
    /// them. Connections that are open are not looked at again by themselves: see [`peer`](Self::peer).
    ///
    /// # Errors
    /// It is no PEM, has no certificate, or is an authority of the cluster's nodes; then all stays as it was.
    pub fn trust_operator(&self, pem: Option<&[u8]>) -> Result<(), IdentityError> {
        let roots = pem.map(|pem| ca::roots_of_pem("operator's CA certificate", pem)).transpose()?;
        if let Some(roots) = &roots
            && Door::new(roots.clone())?.peer(&self.0.chain, UnixTime::now()).is_ok()
        {
            return Err(IdentityError::OperatorIsCluster);
        }
        self.0.door.trust_operator(roots)
    }

    /// Who is at the other end of a connection that came in, by the authorities that are trusted now. `None` when that
    /// is nobody any more, or when both authorities vouch for it.
    pub fn peer(&self, connection: &rustls::CommonState) -> Option<Peer> {
        self.0.door.peer(connection.peer_certificates()?, UnixTime::now()).ok()
    }

    /// The same by the certificates that it showed.
    pub fn peer_of(&self, chain: &[CertificateDer<'_>]) -> Option<Peer> {
        self.0.door.peer(chain, UnixTime::now()).ok()
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

/// The node at the other end of a connection that this node opened, as its certificate says.
pub fn peer_node(connection: &rustls::CommonState) -> Option<NodeId> {
    node_of(connection.peer_certificates()?.first()?)
}

/// The secret that signs multicast datagrams.
///
/// # Errors
/// A key below [`KEY_BYTES`].
pub fn multicast_key(key: &[u8]) -> Result<[u8; 32], IdentityError> {
    check_key(key)?;
    Ok(derive::secret(key, b"multicast datagrams"))
}

pub(crate) fn node_of(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    der::common_name(certificate).filter(|name| valid_node_id(name)).map(NodeId::new)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    let all = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound) } else { Ok(all) }
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), IdentityError> {
    if key.len() < KEY_BYTES { Err(IdentityError::ShortKey(key.len())) } else { Ok(()) }
}

fn check(key: &[u8], node: &NodeId) -> Result<(), IdentityError> {
    check_key(key)?;
    if !valid_node_id(node.as_str()) {
        return Err(IdentityError::NodeId(node.as_str().len()));
    }
    Ok(())
}
