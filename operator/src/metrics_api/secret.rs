//! Where the CA is kept: a Secret that all replicas read. Whoever comes first makes it, and whoever sees it end soon makes the next one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use sluice_crds::names::standard;
use tokio::time::timeout;

use super::certificate::{Authority, CertificateError};
use crate::client::{REQUEST, sentence};

/// The Secret, in the operator's own namespace.
pub(super) const SECRET: &str = "sluice-operator-metrics-ca";

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const EXPIRES: &str = "expires";
const PREVIOUS: &str = "previous.crt";

/// There is no CA.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    /// The Secret could not be read or written.
    #[error("cannot {doing} the Secret {SECRET} with the CA of the metrics API: {}", sentence(source))]
    Api {
        /// What was attempted.
        doing: &'static str,
        /// What was said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("cannot {0} the Secret {SECRET} with the CA of the metrics API: no answer within {REQUEST:?}")]
    Timeout(&'static str),
    /// It is there and of no use.
    #[error("the Secret {SECRET} has no usable {0}: delete it, and the operator makes a new CA")]
    Unusable(&'static str),
    /// None could be made.
    #[error(transparent)]
    Make(#[from] CertificateError),
}

/// The CA as the Secret has it. Makes it when there is none, as it was when this replica knows that, and the next one in time. `None`
/// when another replica was faster: then it is read the next time.
pub(super) async fn keep(
    client: &Client,
    namespace: &str,
    known: Option<&Authority>,
    now: Timestamp,
) -> Result<Option<Authority>, SecretError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let params = PostParams::default();
    let Some(there) = within("read", api.get_opt(SECRET)).await? else {
        // Created, never applied: what is there is not written over.
        let authority = match known {
            Some(known) => known.clone(),
            None => Authority::generate(now, None)?,
        };
        let secret = written(namespace, &authority, ObjectMeta::default());
        let made = done(within("make", api.create(&params, &secret)).await)?;
        if made {
            tracing::info!(secret = SECRET, namespace, "made the CA of the metrics API");
        }
        return Ok(made.then_some(authority));
    };
    let authority = read(&there)?;
    if !authority.ends_soon(now) {
        return Ok(Some(authority));
    }
    let next = Authority::generate(now, Some(&authority))?;
    // With the version that was read: of two replicas one succeeds.
    let secret = written(namespace, &next, there.metadata);
    let made = done(within("renew", api.replace(SECRET, &params, &secret)).await)?;
    if made {
        tracing::info!(secret = SECRET, namespace, "the CA of the metrics API ends soon: made the next one");
    }
    Ok(made.then_some(next))
}

/// Whether it was written; false when another replica was faster.
fn done(result: Result<Secret, SecretError>) -> Result<bool, SecretError> {
    match result {
        Ok(_) => Ok(true),
        Err(SecretError::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.code == 409) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn within<T>(
    doing: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, SecretError> {
    match timeout(REQUEST, request).await {
        Ok(answer) => answer.map_err(|source| SecretError::Api { doing, source: Box::new(source) }),
        Err(_) => Err(SecretError::Timeout(doing)),
    }
}

fn written(namespace: &str, authority: &Authority, before: ObjectMeta) -> Secret {
    let labels = [(standard::NAME, standard::OPERATOR), (standard::COMPONENT, "metrics-api-ca")];
    let mut data: BTreeMap<String, ByteString> = BTreeMap::new();
    let mut put = |key: &str, text: &str| data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
    put(CERTIFICATE, &authority.certificate);
    put(KEY, &authority.key);
    put(EXPIRES, &authority.expires.to_string());
    if let Some(previous) = &authority.previous {
        put(PREVIOUS, previous);
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.into()),
            namespace: Some(namespace.into()),
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            resource_version: before.resource_version,
            ..Default::default()
        },
        type_: Some("Opaque".into()),
        data: Some(data),
        ..Default::default()
    }
}

fn read(secret: &Secret) -> Result<Authority, SecretError> {
    let text = |key: &'static str| {
        let bytes = secret.data.as_ref()?.get(key)?.0.clone();
        String::from_utf8(bytes).ok()
    };
    let needed = |key: &'static str| text(key).ok_or(SecretError::Unusable(key));
    Ok(Authority {
        certificate: needed(CERTIFICATE)?,
        key: needed(KEY)?,
        expires: needed(EXPIRES)?.trim().parse().map_err(|_| SecretError::Unusable(EXPIRES))?,
        previous: text(PREVIOUS),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use http::{Method, Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;

    use super::*;

    /// An API server with room for one Secret, that counts versions.
    pub(crate) fn server(kept: Arc<Mutex<Option<Secret>>>) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| {
            let kept = kept.clone();
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                let mut kept = kept.lock().expect("no panic");
                let version = |secret: &Secret| secret.metadata.resource_version.clone();
                let refused = |code: u16| {
                    let reason = if code == 404 { "NotFound" } else { "Conflict" };
                    let status = serde_json::json!({
                        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                    });
                    (code, serde_json::to_vec(&status).expect("json"))
                };
                let (code, body) = match (method, kept.as_ref()) {
                    (Method::GET, None) => refused(404),
                    (Method::GET, Some(secret)) => (200, serde_json::to_vec(secret).expect("json")),
                    (Method::POST, Some(_)) => refused(409),
                    (_, before) => {
                        let mut secret: Secret = serde_json::from_slice(&body).expect("a Secret");
                        if version(&secret) == before.and_then(version) {
                            let next =
                                version(&secret).and_then(|v| v.parse::<u32>().ok()).unwrap_or_default() + 1;
                            secret.metadata.resource_version = Some(next.to_string());
                            let body = serde_json::to_vec(&secret).expect("json");
                            *kept = Some(secret);
                            (200, body)
                        } else {
                            refused(409)
                        }
                    }
                };
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = http::StatusCode::from_u16(code).expect("a status");
                Ok::<_, std::io::Error>(response)
            }
        });
        Client::new(service, "ns")
    }

    async fn kept(client: &Client, known: Option<&Authority>, now: Timestamp) -> Authority {
        keep(client, "ns", known, now).await.expect("an answer").expect("nobody was faster")
    }

    #[tokio::test]
    async fn is_made_once_comes_back_as_it_was_and_is_followed_in_time() {
        let (there, now) = (Arc::new(Mutex::new(None)), Timestamp::now());
        let client = server(there.clone());
        let first = kept(&client, None, now).await;
        assert_eq!(kept(&client, None, now).await, first);
        *there.lock().expect("no panic") = None;
        assert_eq!(kept(&client, Some(&first), now).await, first);

        let later = now.checked_add(Duration::from_secs(3300 * 24 * 3600)).expect("a time");
        let second = kept(&client, Some(&first), later).await;
        assert_eq!(second.previous.as_ref(), Some(&first.certificate));
        // Another replica, that still knows the first, finds the second.
        assert_eq!(kept(&client, Some(&first), later).await, second);
    }

    #[tokio::test]
    async fn of_two_replicas_one_renews_it() {
        let there = Arc::new(Mutex::new(None));
        let client = server(there.clone());
        let now = Timestamp::now();
        let first = kept(&client, None, now).await;
        // What the slower one has read is not there any more.
        let stale =
            written("ns", &first, ObjectMeta { resource_version: Some("7".into()), ..ObjectMeta::default() });
        let api: Api<Secret> = Api::namespaced(client.clone(), "ns");
        let result = within("renew", api.replace(SECRET, &PostParams::default(), &stale)).await;
        assert!(!done(result).expect("a conflict is no error"));
    }

    #[tokio::test]
    async fn what_is_of_no_use_is_named() {
        let there = Arc::new(Mutex::new(None));
        let client = server(there.clone());
        kept(&client, None, Timestamp::now()).await;
        if let Some(data) = there.lock().expect("no panic").as_mut().and_then(|secret| secret.data.as_mut()) {
            data.insert(EXPIRES.into(), ByteString(b"soon".to_vec()));
        }
        let said = keep(&client, "ns", None, Timestamp::now()).await;
        assert!(matches!(said, Err(SecretError::Unusable(EXPIRES))), "{said:?}");
    }
}
