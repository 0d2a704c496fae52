use std::sync::Arc;

use rcgen::{Issuer, KeyPair, PKCS_ED25519};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

use super::*;
use crate::ca::{node_leaf as leaf_params, of_cluster as authority};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

fn node(id: &str) -> NodeId {
    NodeId::new(id)
}

fn tls(key: &[u8], id: &str) -> ClusterTls {
    ClusterTls::from_key(key, &node(id)).unwrap()
}

/// A handshake in memory: what each side says at its end.
fn shake(
    client: ClientConfig,
    server: &ClusterTls,
) -> (Result<ClientConnection, String>, Result<ServerConnection, String>) {
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("any").unwrap()).unwrap();
    let mut server = ServerConnection::new(server.server()).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() && server_error.is_none() {
            server.read_tls(&mut unread).unwrap();
            server_error = server.process_new_packets().err();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() && client_error.is_none() {
            client.read_tls(&mut unread).unwrap();
            client_error = client.process_new_packets().err();
        }
    }
    let client = match client_error {
        Some(error) => Err(error.to_string()),
        None => Ok(client),
    };
    let server = match server_error {
        Some(error) => Err(error.to_string()),
        None if server.is_handshaking() => Err("unfinished".to_owned()),
        None => Ok(server),
    };
    (client, server)
}

fn client_of(tls: &ClusterTls, alpn: Alpn) -> ClientConfig {
    (*tls.client(alpn)).clone()
}

#[test]
fn nodes_of_one_key_know_each_other_by_name() {
    let (a, b) = (tls(KEY, "origin-0"), tls(KEY, "edge é 1"));
    let (client, server) = shake(client_of(&a, Alpn::Mesh), &b);
    let (client, server) = (client.unwrap(), server.unwrap());
    assert_eq!(peer_node(&client), Some(node("edge é 1")));
    assert_eq!(peer_node(&server), Some(node("origin-0")));
    assert_eq!(server.alpn_protocol(), Some(&b"sluice-mesh/1"[..]));
    assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[test]
fn another_key_is_refused_by_both() {
    let (a, b) = (tls(KEY, "a"), tls(b"another key of 22 byte", "b"));
    let (client, _) = shake(client_of(&a, Alpn::Relay), &b);
    assert!(client.unwrap_err().contains("invalid peer certificate"));
    // A client that accepts any server still has to show a certificate of the cluster.
    let mut trusting = RootCertStore::empty();
    let (params, ca) = authority(b"another key of 22 byte").unwrap();
    trusting.add(params.self_signed(&ca).unwrap().der().clone()).unwrap();
    let mut client = client_of(&a, Alpn::Relay);
    client.dangerous().set_certificate_verifier(Arc::new(verify::OfTheCluster {
        roots: Arc::new(trusting),
        algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms,
        expected: None,
    }));
    let (_, server) = shake(client, &b);
    assert!(server.unwrap_err().contains("invalid peer certificate"));
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let b = tls(KEY, "b");
    let mut roots = RootCertStore::empty();
    let (params, ca) = authority(KEY).unwrap();
    roots.add(params.self_signed(&ca).unwrap().der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::OfTheCluster {
            roots: Arc::new(roots),
            algorithms,
            expected: None,
        }))
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let (_, server) = shake(client, &b);
    assert!(server.unwrap_err().contains("peer sent no certificates"));
}

#[test]
fn what_a_node_signs_is_not_of_the_cluster() {
    let (params, ca) = authority(KEY).unwrap();
    let certificate = params.self_signed(&ca).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    // What a leaf signs is not of the cluster.
    let issuer = Issuer::new(params, ca);
    let leaf_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let leaf = leaf_params(&node("a")).unwrap();
    let leaf_certificate = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let forged_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let forged =
        leaf_params(&node("b")).unwrap().signed_by(&forged_key, &Issuer::new(leaf, leaf_key)).unwrap();
    let chain = vec![forged.der().clone(), leaf_certificate.der().clone()];
    let key = PrivatePkcs8KeyDer::from(forged_key.serialize_der()).into();
    let forger = ClusterTls::build(node("b"), roots, chain, key).unwrap();
    let (_, server) = shake(client_of(&forger, Alpn::Mesh), &tls(KEY, "c"));
    assert!(server.is_err());
}

#[test]
fn the_ca_is_the_same_each_time_and_the_leaf_is_not() {
    let der = |key: &[u8]| {
        let (params, ca) = authority(key).unwrap();
        params.self_signed(&ca).unwrap().der().to_vec()
    };
    assert_eq!(der(KEY), der(KEY));
    assert_ne!(der(KEY), der(b"0123456789abcdef0123456789abcdeg"));
}

#[test]
fn keys_and_names_are_checked() {
    assert!(matches!(ClusterTls::from_key(b"short", &node("a")), Err(IdentityError::ShortKey(5))));
    assert!(matches!(ClusterTls::from_key(KEY, &node("")), Err(IdentityError::NodeId(0))));
    assert!(matches!(ClusterTls::from_key(KEY, &node(&"n".repeat(256))), Err(IdentityError::NodeId(256))));
    assert!(matches!(ClusterTls::from_key(KEY, &node("a\nb")), Err(IdentityError::NodeId(3))));
    assert!(matches!(multicast_key(b"short"), Err(IdentityError::ShortKey(5))));
    assert_ne!(multicast_key(KEY).unwrap(), derive::secret(KEY, b"certificate authority ed25519"));
}

#[test]
fn certificates_of_an_administrator() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (params, ca) = authority(b"stands in for any other CA").unwrap();
    std::fs::write(path("ca.pem"), params.self_signed(&ca).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, ca);
    for id in ["n1", "n2"] {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf_params(&node(id)).unwrap().signed_by(&key, &issuer).unwrap();
        std::fs::write(path(&format!("{id}.pem")), certificate.pem()).unwrap();
        std::fs::write(path(&format!("{id}.key")), key.serialize_pem()).unwrap();
    }
    let load = |id: &str| {
        ClusterTls::from_files(&path(&format!("{id}.pem")), &path(&format!("{id}.key")), &path("ca.pem"))
    };
    let (a, b) = (load("n1").unwrap(), load("n2").unwrap());
    assert_eq!(a.node(), &node("n1"));
    let (client, server) = shake(client_of(&a, Alpn::Requests), &b);
    assert_eq!(peer_node(&client.unwrap()), Some(node("n2")));
    assert_eq!(peer_node(&server.unwrap()), Some(node("n1")));
    // Certificates and a key that do not mix.
    let (client, _) = shake(client_of(&a, Alpn::Requests), &tls(KEY, "n3"));
    assert!(client.is_err());

    std::fs::copy(path("n2.key"), path("n1.key")).unwrap();
    assert!(matches!(load("n1"), Err(IdentityError::Tls(_))));
    std::fs::write(path("n1.key"), "no key").unwrap();
    let error = load("n1").err().unwrap();
    assert!(matches!(error, IdentityError::File { what: "private key", .. }), "{error}");
    assert!(matches!(load("n3"), Err(IdentityError::File { what: "certificate", .. })));
}

fn operator(authority: &OperatorAuthority, key: &[u8], node: &str) -> ClientConfig {
    let tls = OperatorTls::from_key(authority, key).unwrap();
    (*tls.client(&NodeId::new(node)).unwrap()).clone()
}

/// Who the server says that it is talking to; the error of the side that ended the handshake.
fn seen(client: ClientConfig, server: &ClusterTls) -> Result<Option<Peer>, String> {
    let (client, connection) = shake(client, server);
    client?;
    let connection = connection?;
    Ok(server.peer(&connection))
}

#[test]
fn the_authority_alone_tells_node_and_operator_apart() {
    let authority = OperatorAuthority::generate().unwrap();
    let server = tls(KEY, "origin-0");
    server.trust_operator(Some(authority.certificate_pem().as_bytes())).unwrap();

    // 1. The cluster's CA: a node, even one that calls itself the operator.
    for id in ["edge-1", OPERATOR_NAME] {
        let peer = seen(client_of(&tls(KEY, id), Alpn::Requests), &server).unwrap();
        assert_eq!(peer, Some(Peer::Node(node(id))));
    }
    // 2. The operator's CA: the operator.
    assert_eq!(seen(operator(&authority, KEY, "origin-0"), &server).unwrap(), Some(Peer::Operator));
    // 3. The CA of another operator: nobody.
    let other = OperatorAuthority::generate().unwrap();
    let refused = seen(operator(&other, KEY, "origin-0"), &server).unwrap_err();
    assert!(refused.contains("UnknownCA"), "{refused}");
    // 4. The operator's CA, before a node knows of it: nobody.
    assert!(seen(operator(&authority, KEY, "b"), &tls(KEY, "b")).is_err());
}

#[test]
fn the_operator_is_no_node_to_other_nodes() {
    // A server that shows a certificate as the operator has it: it is not for servers, whoever signed it.
    let (params, pair) = ca::of_cluster(KEY).unwrap();
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let leaf = ca::operator_leaf(OPERATOR_NAME).unwrap();
    let certificate = leaf.signed_by(&key, &Issuer::new(params, pair)).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let roots = ca::roots_of_key(KEY).unwrap();
    let posing = ClusterTls::build(node(OPERATOR_NAME), roots, vec![certificate.der().clone()], key).unwrap();
    let (client, _) = shake(client_of(&tls(KEY, "a"), Alpn::Mesh), &posing);
    assert!(client.unwrap_err().contains("invalid peer certificate"));
}

#[test]
fn the_operator_takes_only_the_node_that_it_asked_for() {
    let authority = OperatorAuthority::generate().unwrap();
    let server = tls(KEY, "origin-0");
    server.trust_operator(Some(authority.certificate_pem().as_bytes())).unwrap();
    let config = operator(&authority, KEY, "origin-1");
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from("any").unwrap()).unwrap();
    let mut connection = ServerConnection::new(server.server()).unwrap();
    let mut error = None;
    for _ in 0..4 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        connection.read_tls(&mut wire.as_slice()).unwrap();
        let _ = connection.process_new_packets();
        let mut wire = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() && error.is_none() {
            client.read_tls(&mut unread).unwrap();
            error = client.process_new_packets().err();
        }
    }
    let wrong = WrongNode { expected: node("origin-1"), found: node("origin-0") };
    assert_eq!(WrongNode::of(&error.unwrap()), Some(&wrong));
    // The same node of another cluster.
    let error = seen(operator(&authority, b"the key of another cluster", "origin-0"), &server).unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[test]
fn the_operators_authority_survives_a_restart_and_can_be_replaced() {
    let first = OperatorAuthority::generate().unwrap();
    let again = OperatorAuthority::from_pem(first.certificate_pem(), first.key_pem()).unwrap();
    let server = tls(KEY, "n");
    server.trust_operator(Some(first.certificate_pem().as_bytes())).unwrap();
    assert_eq!(seen(operator(&again, KEY, "n"), &server).unwrap(), Some(Peer::Operator));

    // Both at once while it is replaced, then the new one alone.
    let second = OperatorAuthority::generate().unwrap();
    let both = format!("{}{}", first.certificate_pem(), second.certificate_pem());
    server.trust_operator(Some(both.as_bytes())).unwrap();
    let (_, old) = shake(operator(&first, KEY, "n"), &server);
    let old = old.unwrap();
    assert_eq!(server.peer(&old), Some(Peer::Operator));
    assert_eq!(seen(operator(&second, KEY, "n"), &server).unwrap(), Some(Peer::Operator));
    server.trust_operator(Some(second.certificate_pem().as_bytes())).unwrap();
    assert_eq!(server.peer(&old), None, "what is open is not let in any more");
    assert!(seen(operator(&first, KEY, "n"), &server).is_err());

    // What is of no use changes nothing.
    assert!(matches!(server.trust_operator(Some(b"no PEM")), Err(IdentityError::Pem { .. })));
    assert_eq!(seen(operator(&second, KEY, "n"), &server).unwrap(), Some(Peer::Operator));
    server.trust_operator(None).unwrap();
    assert!(seen(operator(&second, KEY, "n"), &server).is_err());

    let mixed = OperatorAuthority::from_pem(first.certificate_pem(), second.key_pem());
    assert!(matches!(mixed, Err(IdentityError::Pair(_))));
    assert!(OperatorAuthority::from_pem("", first.key_pem()).is_err());
    assert!(OperatorAuthority::from_pem(first.certificate_pem(), "").is_err());
}

#[test]
fn an_authority_of_the_nodes_is_none_of_the_operators() {
    let (params, ca) = authority(KEY).unwrap();
    let pem = params.self_signed(&ca).unwrap().pem();
    let server = tls(KEY, "n");
    assert!(matches!(server.trust_operator(Some(pem.as_bytes())), Err(IdentityError::OperatorIsCluster)));
    let peer = seen(client_of(&tls(KEY, "m"), Alpn::Requests), &server).unwrap();
    assert_eq!(peer, Some(Peer::Node(node("m"))));
}

#[test]
fn secrets_are_not_printed() {
    let authority = OperatorAuthority::generate().unwrap();
    let tls = OperatorTls::from_key(&authority, KEY).unwrap();
    assert_eq!(format!("{authority:?} {tls:?}"), "OperatorAuthority(…) OperatorTls(…)");
}
