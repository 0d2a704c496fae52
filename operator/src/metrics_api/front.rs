//! Who may ask: the API server alone, which has asked its own rules before it passes a request on. It shows a certificate of the
//! authority that ConfigMap `extension-apiserver-authentication` names, with one of the names that this allows.

use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use tokio::time::timeout;

use crate::client::{REQUEST, sentence};

const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
const CA: &str = "requestheader-client-ca-file";
const ALLOWED: &str = "requestheader-allowed-names";

/// Who passes requests on; cheap to clone. Nobody until it is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Front(Arc<RwLock<Option<Trust>>>);

#[derive(Clone, Debug)]
struct Trust {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Common names; any when there is none.
    names: Vec<String>,
    /// What it was made from.
    source: (String, String),
}

impl Front {
    /// Reads who it is now. What was known stays when that fails.
    pub(super) async fn look(&self, client: &Client) -> Result<(), String> {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let found = match timeout(REQUEST, api.get(CONFIG_MAP)).await {
            Ok(found) => found.map_err(|error| {
                format!("cannot read ConfigMap {NAMESPACE}/{CONFIG_MAP}: {}", sentence(&error))
            })?,
            Err(_) => {
                return Err(format!(
                    "cannot read ConfigMap {NAMESPACE}/{CONFIG_MAP}: no answer within {REQUEST:?}"
                ));
            }
        };
        let text =
            |key: &str| found.data.as_ref().and_then(|data| data.get(key)).cloned().unwrap_or_default();
        self.learn(&text(CA), &text(ALLOWED))
    }

    /// `ca` is PEM, `allowed` a JSON list of names.
    fn learn(&self, ca: &str, allowed: &str) -> Result<(), String> {
        let source = (ca.to_owned(), allowed.to_owned());
        if self.trust().is_some_and(|trust| trust.source == source) {
            return Ok(());
        }
        if ca.is_empty() {
            return Err(format!(
                "ConfigMap {NAMESPACE}/{CONFIG_MAP} has no {CA}: the API server has to be started with --requestheader-client-ca-file"
            ));
        }
        let wrong = |why: String| format!("{CA} in ConfigMap {NAMESPACE}/{CONFIG_MAP} is of no use: {why}");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let names: Vec<String> = match allowed.trim() {
            "" => Vec::new(),
            list => serde_json::from_str(list).map_err(|error| {
                format!("{ALLOWED} in ConfigMap {NAMESPACE}/{CONFIG_MAP} is no list of names: {error}")
            })?,
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Trust { verifier, names, source });
        Ok(())
    }

    fn trust(&self) -> Option<Trust> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether who shows this chain passes requests on.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub(super) fn admits(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), String> {
        let trust = self.trust().ok_or("who may ask is not known yet: ask again in a moment")?;
        let (leaf, between) = chain
            .split_first()
            .ok_or("only the Kubernetes API server may ask, with its front-proxy certificate")?;
        trust.verifier.verify_client_cert(leaf, between, now).map_err(|error| {
            format!("the client's certificate is not one of the API server's front proxy: {error}")
        })?;
        let name = sluice_identity::common_name(leaf).unwrap_or_default();
        if trust.names.is_empty() || trust.names.iter().any(|allowed| allowed == name) {
            Ok(())
        } else {
            Err(format!("the client's certificate is of {name:?}, which {ALLOWED} does not have"))
        }
    }
}

/// Takes any certificate that its holder has the key of: who it is, is asked for each request, so that the answer is one of HTTP, and
/// follows the ConfigMap on connections that last.
#[derive(Debug)]
pub(super) struct AnyHolder;

impl AnyHolder {
    fn algorithms() -> rustls::crypto::WebPkiSupportedAlgorithms {
        rustls::crypto::ring::default_provider().signature_verification_algorithms
    }
}

impl ClientCertVerifier for AnyHolder {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &Self::algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &Self::algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::algorithms().supported_schemes()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };

    use super::*;

    /// A front-proxy CA.
    pub(crate) struct Proxy {
        pub(crate) pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Proxy {
        pub(crate) fn new() -> Proxy {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "front-proxy-ca");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            let pem = params.self_signed(&key).expect("a certificate").pem();
            Proxy { pem, issuer: Issuer::new(params, key) }
        }

        pub(crate) fn client(&self, name: &str) -> (CertificateDer<'static>, KeyPair) {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().expect("a key");
            (params.signed_by(&key, &self.issuer).expect("a certificate").der().clone(), key)
        }
    }

    impl Front {
        /// One that knows a proxy.
        pub(crate) fn of(proxy: &Proxy, allowed: &str) -> Front {
            let front = Front::default();
            front.learn(&proxy.pem, allowed).expect("a CA");
            front
        }
    }

    #[test]
    fn only_the_front_proxy_is_admitted_by_its_allowed_names() {
        let (proxy, stranger) = (Proxy::new(), Proxy::new());
        let admits = |front: &Front, chain: &[CertificateDer<'static>]| front.admits(chain, UnixTime::now());
        let (ours, _) = proxy.client("front-proxy-client");
        let front = Front::of(&proxy, r#"["front-proxy-client"]"#);
        admits(&front, std::slice::from_ref(&ours)).expect("the front proxy");
        assert!(admits(&front, &[]).expect_err("nobody").contains("only the Kubernetes API server"));
        assert!(admits(&front, &[proxy.client("kubelet").0]).expect_err("not allowed").contains("kubelet"));
        assert!(admits(&front, &[stranger.client("front-proxy-client").0]).is_err());
        for any in ["[]", ""] {
            admits(&Front::of(&proxy, any), &[proxy.client("anybody").0]).expect("any name is allowed");
        }
        assert!(admits(&Front::default(), &[ours]).expect_err("nobody is known").contains("not known yet"));
    }

    #[test]
    fn what_is_of_no_use_leaves_what_was_known() {
        let proxy = Proxy::new();
        let front = Front::of(&proxy, "[]");
        assert!(front.learn("", "").expect_err("none").contains("--requestheader-client-ca-file"));
        assert!(front.learn("no PEM", "[]").is_err());
        assert!(front.learn(&proxy.pem, "everybody").expect_err("no list").contains(ALLOWED));
        front.admits(&[proxy.client("x").0], UnixTime::now()).expect("as before");
        // Another authority counts at once.
        let other = Proxy::new();
        front.learn(&other.pem, "[]").expect("a CA");
        assert!(front.admits(&[proxy.client("x").0], UnixTime::now()).is_err());
    }
}
