//! The operator's own CA, by which nodes know it: kept in a Secret that only the operator reads.
//!
//! Made once by the operator that holds the lease. While that runs it also knows it by heart: a Secret that somebody deletes
//! comes back as it was, and nodes go on to trust it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use sluice_crds::names::standard;
use sluice_identity::{IdentityError, OperatorAuthority};
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::client::{REQUEST, sentence};
use crate::health::Beat;

/// The Secret, in the operator's own namespace.
pub const SECRET: &str = "sluice-operator-ca";
/// Its key for the certificate, PEM.
pub const CERTIFICATE: &str = "tls.crt";
/// Its key for the private key, PEM.
pub const KEY: &str = "tls.key";

/// How often is looked whether the Secret is still there.
const INTERVAL: Duration = Duration::from_secs(10);
/// An API server may refuse to give the CA for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// There is no CA.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The Secret could not be read or made.
    #[error("cannot {doing} the operator's CA, Secret {namespace}/{SECRET}: {}", sentence(source))]
    Api {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        namespace: String,
        /// What was said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error(
        "cannot {doing} the operator's CA, Secret {namespace}/{SECRET}: the API server did not answer within {REQUEST:?}"
    )]
    Timeout {
        /// What was attempted.
        doing: &'static str,
        /// Where.
        namespace: String,
    },
    /// The Secret is there and of no use.
    #[error(
        "the Secret {namespace}/{SECRET} has no {key}: delete it, and the operator makes a new CA; nodes learn of it without a restart"
    )]
    Missing {
        /// Where.
        namespace: String,
        /// Which key.
        key: &'static str,
    },
    /// What is in it is of no use.
    #[error(
        "the CA in Secret {namespace}/{SECRET} is of no use: {source}. Delete the Secret, and the operator makes a new CA; nodes learn of it without a restart"
    )]
    Unusable {
        /// Where.
        namespace: String,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// None could be made.
    #[error("cannot make a CA: {0}")]
    Make(#[source] IdentityError),
}

/// Reads the CA, and makes it when there is none. Only the holder of the lease calls it. An API server that was just started
/// refuses and fails for some seconds: that is waited for.
///
/// # Errors
/// The Secret cannot be read or made for long, or what is in it is of no use.
pub async fn load(client: &Client, namespace: &str) -> Result<OperatorAuthority, AuthorityError> {
    let begun = Instant::now();
    let mut failures = 0;
    loop {
        match load_once(client, namespace).await {
            Err(error @ (AuthorityError::Api { .. } | AuthorityError::Timeout { .. }))
                if begun.elapsed() < PATIENCE =>
            {
                failures += 1;
                tracing::warn!(%error, "the operator's CA is needed before anything else: trying again");
                sleep(Backoff::WATCH.draw(failures)).await;
            }
            result => return result,
        }
    }
}

/// Reads the CA; none when nobody has made it yet. For those who do not hold the lease.
///
/// # Errors
/// The Secret cannot be read, or what is in it is of no use.
pub async fn look(client: &Client, namespace: &str) -> Result<Option<OperatorAuthority>, AuthorityError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = within("read", namespace, api.get_opt(SECRET)).await?;
    secret.map(|secret| read(&secret, namespace)).transpose()
}

async fn load_once(client: &Client, namespace: &str) -> Result<OperatorAuthority, AuthorityError> {
    if let Some(there) = look(client, namespace).await? {
        return Ok(there);
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let fresh = OperatorAuthority::generate().map_err(AuthorityError::Make)?;
    if create(&api, namespace, &fresh).await? {
        tracing::info!(secret = SECRET, namespace, "made the operator's CA");
        return Ok(fresh);
    }
    // Somebody restored it meanwhile: theirs counts.
    look(client, namespace)
        .await?
        .ok_or_else(|| AuthorityError::Missing { namespace: namespace.into(), key: CERTIFICATE })
}

/// Puts the Secret back whenever it is gone, as it was. Runs for ever.
pub async fn keep(client: Client, namespace: String, authority: OperatorAuthority, beat: Beat) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    loop {
        beat.touch();
        sleep(INTERVAL).await;
        match restore(&api, &namespace, &authority).await {
            Ok(true) => tracing::warn!(
                secret = SECRET,
                namespace,
                "the operator's CA was deleted, and is back as it was"
            ),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot see whether the operator's CA is still there"),
        }
    }
}

/// Whether it had to be put back.
async fn restore(
    api: &Api<Secret>,
    namespace: &str,
    authority: &OperatorAuthority,
) -> Result<bool, AuthorityError> {
    if within("read", namespace, api.get_metadata_opt(SECRET)).await?.is_some() {
        // One that was replaced on purpose counts from the next start on.
        return Ok(false);
    }
    create(api, namespace, authority).await
}

/// Whether it was made; false when one is there.
async fn create(
    api: &Api<Secret>,
    namespace: &str,
    authority: &OperatorAuthority,
) -> Result<bool, AuthorityError> {
    // Created, never applied: what is there is not written over.
    let secret = secret(namespace, authority);
    match within("make", namespace, api.create(&PostParams::default(), &secret)).await {
        Ok(_) => Ok(true),
        Err(AuthorityError::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.code == 409) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn within<T>(
    doing: &'static str,
    namespace: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, AuthorityError> {
    match timeout(REQUEST, request).await {
        Ok(answer) => answer.map_err(|source| AuthorityError::Api {
            doing,
            namespace: namespace.into(),
            source: Box::new(source),
        }),
        Err(_) => Err(AuthorityError::Timeout { doing, namespace: namespace.into() }),
    }
}

pub(crate) fn secret(namespace: &str, authority: &OperatorAuthority) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let labels = [(standard::NAME, standard::OPERATOR), (standard::COMPONENT, "operator-ca")];
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.into()),
            namespace: Some(namespace.into()),
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            ..Default::default()
        },
        type_: Some("kubernetes.io/tls".into()),
        immutable: Some(true),
        data: Some(BTreeMap::from([
            (CERTIFICATE.to_owned(), bytes(authority.certificate_pem())),
            (KEY.to_owned(), bytes(authority.key_pem())),
        ])),
        ..Default::default()
    }
}

fn read(secret: &Secret, namespace: &str) -> Result<OperatorAuthority, AuthorityError> {
    let text = |key: &'static str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
        bytes
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .ok_or_else(|| AuthorityError::Missing { namespace: namespace.into(), key })
    };
    OperatorAuthority::from_pem(text(CERTIFICATE)?, text(KEY)?)
        .map_err(|source| AuthorityError::Unusable { namespace: namespace.into(), source })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let authority = OperatorAuthority::generate().expect("randomness");
        let secret = secret("sluice-system", &authority);
        let back = read(&secret, "sluice-system").expect("the same");
        assert_eq!(back.certificate_pem(), authority.certificate_pem());
        assert_eq!(back.key_pem(), authority.key_pem());
    }

    #[test]
    fn what_is_of_no_use_is_named() {
        let mut broken = secret("ns", &OperatorAuthority::generate().expect("randomness"));
        let data = broken.data.as_mut().expect("data");
        data.insert(KEY.into(), ByteString(b"no key".to_vec()));
        assert!(matches!(read(&broken, "ns"), Err(AuthorityError::Unusable { .. })));
        broken.data.as_mut().expect("data").remove(CERTIFICATE);
        assert!(matches!(read(&broken, "ns"), Err(AuthorityError::Missing { key: CERTIFICATE, .. })));
    }

    /// An API server with room for one Secret. `race` is put there by somebody else between a look and a creation.
    fn server(kept: Arc<Mutex<Option<Secret>>>, race: Option<Secret>) -> Client {
        let race = Arc::new(Mutex::new(race));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (kept, race) = (kept.clone(), race.clone());
            async move {
                let create = request.method() == Method::POST;
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                let mut kept = kept.lock().expect("no panic");
                let refused = |code: u16| {
                    let reason = if code == 404 { "NotFound" } else { "AlreadyExists" };
                    let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason});
                    (code, serde_json::to_vec(&status).expect("json"))
                };
                if create && let Some(theirs) = race.lock().expect("no panic").take() {
                    *kept = Some(theirs);
                }
                let (code, body) = match (create, kept.as_ref()) {
                    (true, Some(_)) => refused(409),
                    (false, None) => refused(404),
                    (false, Some(secret)) => (200, serde_json::to_vec(secret).expect("json")),
                    (true, None) => {
                        *kept = Some(serde_json::from_slice(&body).expect("a Secret"));
                        (201, body.to_vec())
                    }
                };
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = http::StatusCode::from_u16(code).expect("a status");
                Ok::<_, std::io::Error>(response)
            }
        });
        Client::new(service, "sluice-system")
    }

    #[tokio::test]
    async fn is_made_once_and_comes_back() {
        let kept = Arc::new(Mutex::new(None));
        let client = server(kept.clone(), None);
        let first = load(&client, "ns").await.expect("made");
        let second = load(&client, "ns").await.expect("read");
        assert_eq!(first.certificate_pem(), second.certificate_pem());
        let looked = look(&client, "ns").await.expect("read").expect("there");
        assert_eq!(looked.certificate_pem(), first.certificate_pem());

        *kept.lock().expect("no panic") = None;
        assert!(look(&client, "ns").await.expect("read").is_none(), "who only looks makes nothing");
        let api: Api<Secret> = Api::namespaced(client.clone(), "ns");
        assert!(restore(&api, "ns", &first).await.expect("restored"));
        assert!(!restore(&api, "ns", &first).await.expect("there"));
        let third = load(&client, "ns").await.expect("read");
        assert_eq!(third.certificate_pem(), first.certificate_pem());
    }

    #[tokio::test]
    async fn another_that_was_faster_counts() {
        let theirs = OperatorAuthority::generate().expect("randomness");
        let client = server(Arc::default(), Some(secret("ns", &theirs)));
        let ours = load(&client, "ns").await.expect("theirs");
        assert_eq!(ours.certificate_pem(), theirs.certificate_pem());
    }
}
