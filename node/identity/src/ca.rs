//! How certificates are made: the two authorities, and the leaves below them.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::{IdentityError, NodeId, derive};

/// PKCS #8 (RFC 5958, 8410) around the 32 bytes of an Ed25519 key.
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The CA of a cluster key: the same on every node.
pub(crate) fn of_cluster(key: &[u8]) -> Result<(CertificateParams, KeyPair), IdentityError> {
    let mut pkcs8 = ED25519_PKCS8.to_vec();
    pkcs8.extend_from_slice(&derive::secret(key, b"certificate authority ed25519"));
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)?;
    Ok((params("Sluice cluster"), pair))
}

/// The operator's CA, around its key.
pub(crate) fn of_operator() -> CertificateParams {
    params("Sluice operator")
}

fn params(common: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common);
    params.serial_number = Some(SerialNumber::from(1u64));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// The certificate of a node: it opens connections, and takes them.
pub(crate) fn node_leaf(node: &NodeId) -> Result<CertificateParams, IdentityError> {
    let usages = [ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    leaf(node.as_str(), &uri(node), &usages)
}

/// The certificate of the operator: it opens connections and takes none, so that it can never be shown as a node's.
pub(crate) fn operator_leaf(name: &str) -> Result<CertificateParams, IdentityError> {
    leaf(name, "urn:sluice:operator", &[ExtendedKeyUsagePurpose::ClientAuth])
}

fn leaf(
    common: &str,
    uri: &str,
    usages: &[ExtendedKeyUsagePurpose],
) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common);
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
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

/// The roots that trust the CA of a cluster key.
pub(crate) fn roots_of_key(key: &[u8]) -> Result<RootCertStore, IdentityError> {
    let (params, pair) = of_cluster(key)?;
    let mut roots = RootCertStore::empty();
    roots.add(params.self_signed(&pair)?.der().clone())?;
    Ok(roots)
}

/// The roots that trust every certificate in a PEM text; `what` names it in errors.
pub(crate) fn roots_of_pem(what: &'static str, pem: &[u8]) -> Result<RootCertStore, IdentityError> {
    let wrong = |source| IdentityError::Pem { what, source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(wrong)?)?;
    }
    match roots.is_empty() {
        true => Err(wrong(rustls::pki_types::pem::Error::NoItemsFound)),
        false => Ok(roots),
    }
}
