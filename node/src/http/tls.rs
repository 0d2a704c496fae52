//! The server's certificate: read from two PEM files, read again when they change, used by HTTPS and RTMPS.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::exit::{Exit, Failure};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is wrong with the certificate or its key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {source}; check tls_cert and tls_key, and the rights of the file", path.display())]
    Unreadable {
        /// Certificate or key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file has not what it should.
    #[error("{} has no {what} in PEM form ({message}); it must begin with -----BEGIN", path.display())]
    NotPem {
        /// Certificate or key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// Certificate and key are none of a kind that works, or don't belong together.
    #[error("the certificate {} and the key {} do not work together: {source}", cert.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        let exit = match &error {
            TlsError::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::Permission
            }
            _ => Exit::Usage,
        };
        Failure::new(exit, error.to_string())
    }
}

/// A certificate with its key, and the files that they came from.
#[derive(Debug)]
pub struct Identity {
    cert: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
    /// A digest of the files as they were last read, right or wrong.
    seen: AtomicU64,
}

impl Identity {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// A file that cannot be read or used, or two that don't belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let files = Files::read(cert, key)?;
        let current = RwLock::new(Arc::new(files.certified(cert, key)?));
        Ok(Arc::new(Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            current,
            seen: AtomicU64::new(files.digest()),
        }))
    }

    /// Reads the files again. True when they are new and right; connections made from now on use them. What is
    /// wrong with new files is said once, and the old ones stay in use.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn reload(&self) -> Result<bool, TlsError> {
        let files = Files::read(&self.cert, &self.key)?;
        let digest = files.digest();
        if self.seen.swap(digest, Ordering::Relaxed) == digest {
            return Ok(false);
        }
        let certified = Arc::new(files.certified(&self.cert, &self.key)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(true)
    }

    /// Follows the files for ever.
    pub async fn follow(self: Arc<Self>) {
        let mut was_unreadable = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let identity = self.clone();
            let Ok(result) = tokio::task::spawn_blocking(move || identity.reload()).await else { return };
            match &result {
                Ok(true) => tracing::info!(cert = %self.cert.display(), "using the new certificate"),
                // Files are replaced one after the other: the next look sees both.
                Err(error) if !was_unreadable => tracing::warn!(%error, "keeping the old certificate"),
                _ => {}
            }
            was_unreadable = matches!(result, Err(TlsError::Unreadable { .. }));
        }
    }

    /// TLS for HTTPS: offers HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// Never in practice: the protocol versions are those that the crypto provider has.
    pub fn https(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.server(vec![b"h2".to_vec(), b"http/1.1".to_vec()])
    }

    /// TLS without an application protocol, for RTMPS.
    ///
    /// # Errors
    /// As [`https`](Self::https).
    pub fn plain(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.server(Vec::new())
    }

    fn server(self: &Arc<Self>, protocols: Vec<Vec<u8>>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = protocols;
        config.ticketer = ring::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The contents of both files.
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |what, path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Unreadable { what, path: path.to_owned(), source })
        };
        Ok(Self { cert: read("certificate", cert)?, key: read("private key", key)? })
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.cert, &self.key).hash(&mut hasher);
        hasher.finish()
    }

    fn certified(&self, cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
        let not_pem =
            |what, path: &Path, message: String| TlsError::NotPem { what, path: path.to_owned(), message };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.cert)
            .collect::<Result<_, _>>()
            .map_err(|error| not_pem("certificate", cert, error.to_string()))?;
        if chain.is_empty() {
            return Err(not_pem("certificate", cert, "no CERTIFICATE section".into()));
        }
        let private = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| not_pem("private key", key, error.to_string()))?;
        CertifiedKey::from_der(chain, private, &ring::default_provider())
            .map_err(|source| TlsError::Mismatch { cert: cert.to_owned(), key: key.to_owned(), source })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A self-signed certificate for localhost and its key, PEM.
    pub(crate) fn self_signed() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn new_files_are_taken_and_wrong_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        assert!(matches!(Identity::load(&cert, &key), Err(TlsError::Unreadable { what: "certificate", .. })));
        let write = |(c, k): &(String, String)| {
            std::fs::write(&cert, c).unwrap();
            std::fs::write(&key, k).unwrap();
        };
        let (first, second) = (self_signed(), self_signed());
        write(&first);
        let identity = Identity::load(&cert, &key).unwrap();
        let shown = || identity.current.read().unwrap().cert[0].to_vec();
        let before = shown();
        assert!(!identity.reload().unwrap());

        std::fs::write(&cert, &second.0).unwrap();
        assert!(matches!(identity.reload(), Err(TlsError::Mismatch { .. })));
        assert_eq!(shown(), before);
        assert!(!identity.reload().unwrap(), "said once");

        write(&second);
        assert!(identity.reload().unwrap());
        assert_ne!(shown(), before);

        std::fs::write(&key, "no key").unwrap();
        assert!(matches!(identity.reload(), Err(TlsError::NotPem { what: "private key", .. })));
        std::fs::write(&cert, "no certificate").unwrap();
        assert!(matches!(identity.reload(), Err(TlsError::NotPem { what: "certificate", .. })));
    }
}
