//! Our certificate, and what handshakes are configured with.

use std::sync::Arc;

use rtc_crypto::{HashAlgorithm, RTCCrypto, RTCCryptoProvider, SignatureScheme};
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate as Chain;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use super::dtls::FLIGHT_INTERVAL;
use super::srtp::Profile;
use crate::agreed::Fingerprint;

/// The largest piece of a handshake message, in bytes: records and UDP headers come on top.
const HANDSHAKE_MTU: usize = 1100;

/// Our certificate. Made once and used for all sessions; renewed long before it ends.
#[derive(Clone)]
pub struct Certificate {
    fingerprint: Fingerprint,
    provider: Arc<dyn RTCCryptoProvider>,
    gcm: Arc<HandshakeConfig>,
    sha1: Arc<HandshakeConfig>,
    client: Arc<HandshakeConfig>,
}

impl Certificate {
    /// Makes one (ECDSA P-256).
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn generate() -> Result<Self, String> {
        let failed = |what: &str, why: &dyn std::fmt::Display| {
            format!("cannot make the certificate for WebRTC ({what}): {why}")
        };
        let provider = rtc_crypto::default_provider().map_err(|e| failed("cryptography", &e))?;
        let key =
            rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|e| failed("key", &e))?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "WebRTC");
        let signed = params.self_signed(&key).map_err(|e| failed("signature", &e))?;
        let fingerprint = fingerprint(provider.crypto(), signed.der());
        let fingerprint = fingerprint.ok_or_else(|| failed("fingerprint", &"no SHA-256"))?;
        let signing = provider
            .crypto()
            .import_signing_key(SignatureScheme::EcdsaP256Sha256, &key.serialize_der())
            .map_err(|e| failed("key", &e))?;
        let chain = Chain::from_signing_key(vec![signed.der().clone()], signing);

        let build = |client: bool, profiles: &[Profile]| {
            ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![chain.clone()])
                .with_cipher_suites(vec![
                    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
                    CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
                ])
                .with_srtp_protection_profiles(profiles.iter().map(|p| wire(*p)).collect())
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                // Certificates are signed by nobody (RFC 8827, 6.5): what counts is the hash in the description, which
                // is compared when the handshake is done. Signatures of the handshake are verified all the same.
                .with_insecure_skip_verify(true)
                .with_server_name("webrtc".to_owned())
                .with_flight_interval(FLIGHT_INTERVAL)
                .with_mtu(HANDSHAKE_MTU)
                .build(client, None)
                .map(Arc::new)
                .map_err(|e| failed("handshake", &e))
        };
        let gcm = build(false, &[Profile::Gcm])?;
        let sha1 = build(false, &[Profile::Sha1])?;
        let client = build(true, &[Profile::Gcm, Profile::Sha1])?;
        Ok(Certificate { fingerprint, gcm, sha1, client, provider })
    }

    /// Its hash for the SDP.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) fn crypto(&self) -> &dyn RTCCrypto {
        self.provider.crypto()
    }

    pub(super) fn client(&self) -> Arc<HandshakeConfig> {
        self.client.clone()
    }

    /// For a client that offers these profiles. The library takes what the client likes best, which in browsers is the one
    /// that costs three times as much; so it is left no choice.
    pub(super) fn server(&self, profile: Profile) -> Arc<HandshakeConfig> {
        match profile {
            Profile::Gcm => self.gcm.clone(),
            Profile::Sha1 => self.sha1.clone(),
        }
    }

    /// The same certificate as a client that knows only one profile.
    #[cfg(test)]
    pub(super) fn offering(mut self, profile: Profile) -> Result<Self, String> {
        let only = match profile {
            Profile::Gcm => &self.gcm,
            Profile::Sha1 => &self.sha1,
        };
        // A configuration is the same for both roles, apart from what certificates are asked for.
        self.client = only.clone();
        Ok(self)
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({:02x?})", self.fingerprint.0)
    }
}

/// The hash of a certificate.
pub(super) fn fingerprint(crypto: &dyn RTCCrypto, der: &[u8]) -> Option<Fingerprint> {
    let hash = crypto.hash(HashAlgorithm::Sha256, der).ok()?;
    Some(Fingerprint(hash.try_into().ok()?))
}

fn wire(profile: Profile) -> SrtpProtectionProfile {
    match profile {
        Profile::Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        Profile::Sha1 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    }
}
