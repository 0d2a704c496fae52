//! The APIServices by which the API server finds this server. The chart makes them; here they are looked at, and get the CA. One that
//! leads elsewhere is left alone: of each there is one in a cluster, and somebody else relies on it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use sluice_custom_metrics::Version;
use tokio::time::timeout;

use crate::client::{REQUEST, sentence};

/// Field manager of the CA in the APIServices.
const MANAGER: &str = "sluice-metrics-api";

/// One that was just made is not available for some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where this server is.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// The Service's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// How an APIService is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Registered {
    /// It leads here and has the CA.
    Here,
    /// It does not, or nobody gets through: a sentence.
    Not(String),
}

/// Sees that the APIService of a version, when it leads here, has this CA and no other.
pub(super) async fn register(
    client: &Client,
    version: Version,
    service: &Service,
    bundle: &str,
    now: Timestamp,
) -> Result<Registered, String> {
    let api: Api<APIService> = Api::all(client.clone());
    let name = version.api_service();
    let within = async |doing: &str, answer: Result<Result<Option<APIService>, kube::Error>, _>| match answer
    {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(format!("cannot {doing} the APIService {name}: {}", sentence(&error))),
        Err(tokio::time::error::Elapsed { .. }) => {
            Err(format!("cannot {doing} the APIService {name}: no answer within {REQUEST:?}"))
        }
    };
    let Some(found) = within("read", timeout(REQUEST, api.get_opt(name)).await).await? else {
        return Ok(Registered::Not(format!(
            "there is no APIService {name}: install the chart with metricsApi.enabled=true, or without it set SLUICE_OPERATOR_METRICS_API=false"
        )));
    };
    if let Some(owner) = other_owner(&found, service) {
        return Ok(Registered::Not(format!(
            "APIService {name} belongs to {owner}: only one server may have it in a cluster. Remove that one and install the chart again, or \
             set metricsApi.enabled=false and let that one read the pools' metrics (docs: autoscaling)"
        )));
    }
    if !has(&found, bundle) {
        // This field alone: everything else is the chart's.
        let body = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": name },
            "spec": { "caBundle": ByteString(bundle.as_bytes().to_vec()) },
        });
        let params = PatchParams::apply(MANAGER).force();
        let patched = timeout(REQUEST, api.patch(name, &params, &Patch::Apply(&body))).await;
        within("give its CA to", patched.map(|patched| patched.map(Some))).await?;
        tracing::info!(api_service = name, "the API server knows this server's CA");
        return Ok(Registered::Here);
    }
    Ok(unavailable(&found, now).map_or(Registered::Here, Registered::Not))
}

/// Who has it, when that is not this server.
fn other_owner(found: &APIService, service: &Service) -> Option<String> {
    let Some(theirs) = found.spec.as_ref().and_then(|spec| spec.service.as_ref()) else {
        return Some("the API server itself".into());
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (namespace, name) = (text(&theirs.namespace), text(&theirs.name));
    (namespace != service.namespace || name != service.name).then(|| format!("Service {namespace}/{name}"))
}

fn has(found: &APIService, bundle: &str) -> bool {
    let there = found.spec.as_ref().and_then(|spec| spec.ca_bundle.as_ref());
    there.is_some_and(|there| there.0 == bundle.as_bytes())
}

/// Why the API server does not get through, when it has not for a while.
fn unavailable(found: &APIService, now: Timestamp) -> Option<String> {
    let conditions = found.status.as_ref()?.conditions.as_ref()?;
    let available = conditions.iter().find(|condition| condition.type_ == "Available")?;
    let since = available.last_transition_time.as_ref()?.0;
    let long = Duration::try_from(now.duration_since(since)).unwrap_or_default() > PATIENCE;
    let name = found.metadata.name.as_deref().unwrap_or_default();
    (available.status == "False" && long).then(|| {
        format!(
            "the API server does not get through to the metrics API (APIService {name}): {}. Let it reach port 8443 of the operator's pods",
            available.message.as_deref().unwrap_or_default()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    /// What was patched: where, and what with.
    type Patches = Arc<Mutex<Vec<(String, Value)>>>;

    /// An API server with one APIService; gives what was patched.
    fn server(found: Option<Value>) -> (Client, Patches) {
        let patches = Patches::default();
        let seen = patches.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (found, seen) = (found.clone(), seen.clone());
            async move {
                let patch = request.method() == Method::PATCH;
                let uri = request.uri().to_string();
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                if patch {
                    let body = serde_json::from_slice(&body).expect("json");
                    seen.lock().expect("no panic").push((uri, body));
                }
                let missing = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound" });
                let code = if found.is_some() { 200 } else { 404 };
                let body = serde_json::to_vec(&found.unwrap_or(missing)).expect("json");
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = http::StatusCode::from_u16(code).expect("a status");
                Ok::<_, std::io::Error>(response)
            }
        });
        (Client::new(service, "ns"), patches)
    }

    fn api_service(service: Value, bundle: Option<&str>, available: &str) -> Value {
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": "v1beta2.custom.metrics.k8s.io" },
            "spec": {
                "group": "custom.metrics.k8s.io", "version": "v1beta2", "groupPriorityMinimum": 100, "versionPriority": 200,
                "service": service, "caBundle": bundle.map(|text| ByteString(text.as_bytes().to_vec())),
            },
            "status": { "conditions": [{
                "type": "Available", "status": available, "reason": "FailedDiscoveryCheck", "message": "no route",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        })
    }

    async fn registered(found: Option<Value>, now: &str) -> (Registered, Vec<(String, Value)>) {
        let (client, patches) = server(found);
        let service =
            Service { namespace: "sluice-system".into(), name: "sluice-operator-metrics-api".into() };
        let now = now.parse().expect("a time");
        let result = register(&client, Version::V1Beta2, &service, "CA", now).await.expect("an answer");
        let patches = patches.lock().expect("no panic").clone();
        (result, patches)
    }

    const NOW: &str = "2026-01-01T00:10:00Z";

    #[tokio::test]
    async fn only_the_ca_is_written_and_only_when_it_is_another() {
        let ours = json!({ "namespace": "sluice-system", "name": "sluice-operator-metrics-api" });
        let (result, patches) = registered(Some(api_service(ours.clone(), None, "True")), NOW).await;
        assert_eq!(result, Registered::Here);
        let [(uri, body)] = &patches[..] else { panic!("{patches:?}") };
        assert!(uri.contains("fieldManager=sluice-metrics-api") && uri.contains("force=true"), "{uri}");
        assert_eq!(body["spec"], json!({ "caBundle": "Q0E=" }));
        let (result, patches) = registered(Some(api_service(ours, Some("CA"), "True")), NOW).await;
        assert_eq!((result, patches), (Registered::Here, Vec::new()));
    }

    #[tokio::test]
    async fn what_belongs_to_others_is_left_alone_and_told() {
        let theirs = json!({ "namespace": "monitoring", "name": "prometheus-adapter" });
        for (found, says) in [
            (Some(api_service(theirs, None, "True")), "belongs to Service monitoring/prometheus-adapter"),
            (Some(api_service(Value::Null, None, "True")), "belongs to the API server itself"),
            (None, "there is no APIService v1beta2.custom.metrics.k8s.io"),
        ] {
            let (result, patches) = registered(found, NOW).await;
            let Registered::Not(said) = result else { panic!("{says}") };
            assert!(said.contains(says) && said.contains("metricsApi.enabled"), "{said}");
            assert_eq!(patches, Vec::new(), "{says}");
        }
    }

    #[tokio::test]
    async fn an_api_server_that_does_not_get_through_is_told_after_a_while() {
        let ours = json!({ "namespace": "sluice-system", "name": "sluice-operator-metrics-api" });
        let found = api_service(ours, Some("CA"), "False");
        let (result, _) = registered(Some(found.clone()), NOW).await;
        assert!(
            matches!(&result, Registered::Not(said) if said.contains("no route") && said.contains("8443")),
            "{result:?}"
        );
        assert_eq!(registered(Some(found), "2026-01-01T00:00:20Z").await.0, Registered::Here);
    }
}
