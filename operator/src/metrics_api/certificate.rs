//! By what the API server knows this server: a CA of its own, kept in a Secret, and below it a certificate for each replica, made anew
//! at each start and long before its end.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A CA lives so long ...
const CA_LIFE: Duration = DAY.saturating_mul(3650);
/// ... and is followed by another one when so much is left.
const CA_LEFT: Duration = DAY.saturating_mul(365);

/// A certificate lives so long ...
const LEAF_LIFE: Duration = DAY.saturating_mul(90);
/// ... and is followed by another one when so much is left.
const LEAF_LEFT: Duration = DAY.saturating_mul(30);

/// Clocks may differ by so much.
const SKEW: Duration = Duration::from_secs(3600);

/// Neither CA nor certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    /// It could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What was made, or read, is of no use.
    #[error("the certificate is of no use: {0}")]
    Use(#[from] rustls::Error),
    /// It is no PEM.
    #[error("the CA's certificate is no PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

/// The CA with its private key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: String,
    /// When it ends.
    pub expires: Timestamp,
    /// The certificate of the one before it, PEM: certificates of that may still be shown.
    pub previous: Option<String>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority(until {})", self.expires)
    }
}

impl Authority {
    /// A new one, that may follow another.
    pub(super) fn generate(
        now: Timestamp,
        before: Option<&Authority>,
    ) -> Result<Authority, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let expires = after(now, CA_LIFE);
        let mut params = ca_params();
        set_life(&mut params, now, expires);
        params.serial_number = Some(SerialNumber::from(rand::random::<u64>() >> 1));
        Ok(Authority {
            certificate: params.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
            expires,
            previous: before.map(|before| before.certificate.clone()),
        })
    }

    /// Whether another one should follow.
    pub(super) fn ends_soon(&self, now: Timestamp) -> bool {
        left(self.expires, now) < CA_LEFT
    }

    /// What those trust who call this server, PEM.
    pub(super) fn bundle(&self) -> String {
        let mut bundle = self.certificate.clone();
        if let Some(previous) = &self.previous {
            bundle.push_str(previous);
        }
        bundle
    }

    /// A certificate for a server of these names, with a key of its own.
    pub(super) fn issue(&self, names: &[String], now: Timestamp) -> Result<Leaf, CertificateError> {
        let issuer = Issuer::new(ca_params(), KeyPair::from_pem(&self.key)?);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let expires = after(now, LEAF_LIFE).min(self.expires);
        let mut params = CertificateParams::new(names.to_vec())?;
        let mut name = DistinguishedName::new();
        // A common name has at most 64 characters; who calls compares the names above.
        name.push(DnType::CommonName, "Sluice metrics API");
        params.distinguished_name = name;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_life(&mut params, now, expires);
        let chain = vec![params.signed_by(&key, &issuer)?.der().clone()];
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let shown = CertifiedKey::from_der(chain, der, &rustls::crypto::ring::default_provider())?;
        // Whether the CA's certificate and key are a pair: what callers will find out.
        trusted(&self.certificate, &shown.cert, names, now)?;
        Ok(Leaf { shown: Arc::new(shown), issuer: self.certificate.clone(), expires })
    }
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// What is shown.
    pub shown: Arc<CertifiedKey>,
    /// The certificate of the CA that it comes from.
    pub issuer: String,
    /// When it ends.
    pub expires: Timestamp,
}

impl Leaf {
    /// Whether another one should follow: it comes from another CA, or ends.
    pub(super) fn is_old(&self, authority: &Authority, now: Timestamp) -> bool {
        self.issuer != authority.certificate || left(self.expires, now) < LEAF_LEFT
    }
}

/// All that depends on neither time nor key: the issuer of a certificate is made from it again.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Sluice metrics API CA");
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn trusted(
    ca: &str,
    chain: &[CertificateDer<'static>],
    names: &[String],
    now: Timestamp,
) -> Result<(), CertificateError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    for name in names {
        let name = ServerName::try_from(name.as_str())
            .map_err(|error| rustls::Error::General(format!("{name}: {error}")))?;
        if let Some(leaf) = chain.first() {
            verifier.verify_server_cert(leaf, &[], &name, &[], UnixTime::since_unix_epoch(unix(now)))?;
        }
    }
    Ok(())
}

fn left(expires: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(expires.duration_since(now)).unwrap_or_default()
}

fn after(now: Timestamp, life: Duration) -> Timestamp {
    now.checked_add(life).unwrap_or(Timestamp::MAX)
}

fn set_life(params: &mut CertificateParams, now: Timestamp, expires: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + unix(now).saturating_sub(SKEW);
    params.not_after = epoch + unix(expires);
}

fn unix(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["m.ns.svc".to_owned(), "m.ns.svc.cluster.local".to_owned()]
    }

    fn days(at: Timestamp, days: u64) -> Timestamp {
        after(at, DAY * u32::try_from(days).expect("few"))
    }

    #[test]
    fn a_certificate_is_trusted_by_its_names_for_ninety_days() {
        let now = Timestamp::now();
        let authority = Authority::generate(now, None).expect("a CA");
        let leaf = authority.issue(&names(), now).expect("a certificate");
        let check =
            |name: &str, at| trusted(&authority.certificate, &leaf.shown.cert, &[name.to_owned()], at);
        check("m.ns.svc.cluster.local", now).expect("its name");
        check("m.ns.svc", days(now, 89)).expect("its time");
        assert!(check("other.ns.svc", now).is_err());
        assert!(check("m.ns.svc", days(now, 91)).is_err());
        let stranger = Authority::generate(now, None).expect("another CA");
        assert!(trusted(&stranger.certificate, &leaf.shown.cert, &names(), now).is_err());
        assert!(!leaf.is_old(&authority, days(now, 59)));
        assert!(leaf.is_old(&authority, days(now, 61)));
        assert!(leaf.is_old(&stranger, now));
    }

    #[test]
    fn a_ca_is_followed_by_one_beside_which_it_stays_trusted() {
        let now = Timestamp::now();
        let first = Authority::generate(now, None).expect("a CA");
        assert!(!first.ends_soon(days(now, 3000)));
        let later = days(now, 3300);
        assert!(first.ends_soon(later));
        let second = Authority::generate(later, Some(&first)).expect("a CA");
        assert!(!second.ends_soon(later));
        let bundle = second.bundle();
        assert!(bundle.contains(&first.certificate) && bundle.contains(&second.certificate));
        assert!(!first.bundle().contains(&second.certificate));
        // What still comes from the first one is trusted by who has the bundle of the second.
        let shown = first.issue(&names(), later).expect("a certificate").shown;
        let trusting = CertificateDer::pem_slice_iter(bundle.as_bytes()).count();
        assert_eq!(trusting, 2);
        trusted(&first.certificate, &shown.cert, &names(), later).expect("trusted");
    }

    #[test]
    fn certificate_and_key_of_different_cas_are_of_no_use() {
        let now = Timestamp::now();
        let (one, other) =
            (Authority::generate(now, None).expect("a CA"), Authority::generate(now, None).expect("a CA"));
        let mixed = Authority { key: other.key, ..one };
        assert!(mixed.issue(&names(), now).is_err());
    }
}
