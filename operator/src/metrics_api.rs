//! Metrics for autoscalers (`custom.metrics.k8s.io`): an API that the Kubernetes API server passes on to every replica of the operator,
//! whether it leads or not, answered from what the nodes say.

mod certificate;
mod front;
mod registration;
mod secret;
mod server;
mod source;
mod standby;
mod strangers;
mod values;

use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use sluice_custom_metrics::Version;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

pub use server::ListenError;

use crate::health::{Beat, Health};
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::owned::Stores;
use crate::pool::observe;
use crate::settings::Settings;
use certificate::{Authority, Leaf};
use front::Front;
use registration::{Registered, Service, register};
use server::{Server, Shown};
use source::Source;
use strangers::Strangers;

/// How often what the API server knows of this server is compared with what it should.
const INTERVAL: Duration = Duration::from_secs(10);

/// The first reports are waited for so long.
const FIRST: Duration = Duration::from_secs(10);

/// Whether the operator serves metrics to autoscalers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was not asked to.
    Off,
    /// It does.
    Serving,
    /// It cannot: a sentence that says why, and the way out.
    Broken(String),
}

/// The API as the rest of the operator sees it.
#[derive(Debug)]
pub struct MetricsApi {
    /// Whether it serves.
    pub state: watch::Receiver<State>,
    leads: watch::Sender<bool>,
}

impl MetricsApi {
    /// Starts it, when the settings ask for it. It lives as long as the process.
    ///
    /// # Errors
    /// Its port cannot be opened.
    pub async fn start(
        client: &Client,
        settings: &Settings,
        stores: &Stores,
        nodes: &Nodes,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<MetricsApi, ListenError> {
        let (leads, follower) = watch::channel(false);
        if !settings.metrics_api {
            return Ok(MetricsApi { state: watch::channel(State::Off).1, leads });
        }
        let listener = server::listen(settings.metrics_addr).await?;
        let (shown, front) = (Shown::default(), Front::default());
        let source = Source { stores: stores.clone(), nodes: nodes.clone() };
        let server = Server {
            shown: shown.clone(),
            front: front.clone(),
            source,
            metrics: metrics.clone(),
            strangers: Strangers::default(),
            strange: server::STRANGE,
        };
        tokio::spawn(async move {
            if let Err(error) = server.serve(listener).await {
                tracing::error!(%error, "the metrics API cannot use TLS");
            }
        });
        tokio::spawn(standby::follow(
            client.clone(),
            settings.pod_namespace.clone(),
            stores.clone(),
            nodes.clone(),
            follower,
            health.watch("standby"),
        ));
        let (said, state) = watch::channel(State::Serving);
        let keeper = Keeper {
            client: client.clone(),
            service: Service {
                namespace: settings.pod_namespace.clone(),
                name: settings.metrics_service.clone(),
            },
            cluster_domain: settings.cluster_domain.clone(),
            shown,
            front,
            metrics: metrics.clone(),
            authority: None,
            leaf: None,
        };
        tokio::spawn(keeper.run(said, health.watch("metrics-api")));
        Ok(MetricsApi { state, leads })
    }

    /// From now on this replica leads: it follows the nodes itself.
    pub fn lead(&self) {
        self.leads.send_replace(true);
    }
}

/// Waits until every node that runs was heard, or is known not to answer: before that, this replica has no answers, and another one
/// should be asked. Not for long: nodes that hang keep nobody from being ready.
pub async fn first_reports(stores: &Stores, nodes: &Nodes) {
    let heard = async {
        while stores.pods.all().iter().any(|pod| {
            let seen = pod.metadata.uid.as_deref().and_then(|uid| nodes.get(uid));
            observe::is_unheard(pod, seen.as_ref())
        }) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    // What is not heard by then is told when it is asked for.
    let _ = timeout(FIRST, heard).await;
}

/// Keeps certificate, trust and registration as they should be.
struct Keeper {
    client: Client,
    service: Service,
    cluster_domain: String,
    shown: Shown,
    front: Front,
    metrics: Metrics,
    authority: Option<Authority>,
    leaf: Option<Leaf>,
}

impl Keeper {
    async fn run(mut self, said: watch::Sender<State>, beat: Beat) {
        loop {
            beat.touch();
            let now = match self.round(Timestamp::now(), &beat).await {
                Ok(()) => State::Serving,
                Err(why) => State::Broken(why),
            };
            self.metrics.metrics_api_broken.set(i64::from(now != State::Serving));
            said.send_if_modified(|before| {
                let other = *before != now;
                match &now {
                    State::Broken(why) if other => {
                        tracing::warn!(why, "autoscalers get no metrics from the operator")
                    }
                    _ if other => tracing::info!("autoscalers get metrics from the operator"),
                    _ => {}
                }
                *before = now;
                other
            });
            sleep(INTERVAL).await;
        }
    }

    /// Says what is in the way, having done what can be done without it.
    async fn round(&mut self, now: Timestamp, beat: &Beat) -> Result<(), String> {
        // What needs nobody's answer comes first: whatever fails below, no certificate ends in use.
        if let (Some(authority), Some(leaf)) = (self.authority.clone(), &self.leaf)
            && leaf.issuer == authority.certificate
            && leaf.is_old(&authority, now)
        {
            self.show(&authority, now)?;
        }
        let trusted = self.front.look(&self.client).await;
        beat.touch();
        let found = secret::keep(&self.client, &self.service.namespace, self.authority.as_ref(), now).await;
        // Where another replica was faster, the next round reads what that one made.
        let Some(authority) = found.map_err(|error| error.to_string())? else { return Ok(()) };
        self.authority = Some(authority.clone());
        if self.leaf.is_none() {
            self.show(&authority, now)?;
        }
        let bundle = authority.bundle();
        let mut registered = Vec::new();
        for version in Version::ALL {
            beat.touch();
            registered.push((version, register(&self.client, version, &self.service, &bundle, now).await));
        }
        // A certificate of another CA is shown when that is trusted, or the one before is trusted by nobody any more.
        let told = registered.iter().all(|(_, registered)| registered.is_ok());
        if self.leaf.as_ref().is_none_or(|leaf| leaf.is_old(&authority, now) && (told || leaf.expires <= now))
        {
            self.show(&authority, now)?;
        }
        trusted?;
        for (version, registered) in registered {
            match registered? {
                Registered::Here => {}
                Registered::Not(why) if version == Version::V1Beta2 => return Err(why),
                // Autoscalers ask in the newer version.
                Registered::Not(why) => {
                    tracing::debug!(why, "the older version of the metrics API is not served")
                }
            }
        }
        Ok(())
    }

    fn show(&mut self, authority: &Authority, now: Timestamp) -> Result<(), String> {
        let Service { namespace, name } = &self.service;
        let names =
            [format!("{name}.{namespace}.svc"), format!("{name}.{namespace}.svc.{}", self.cluster_domain)];
        let leaf = authority.issue(&names, now).map_err(|error| {
            format!("{error}. Delete the Secret {}, and the operator makes a new CA", secret::SECRET)
        })?;
        tracing::info!(until = %leaf.expires, "made a certificate for the metrics API");
        self.metrics.metrics_api_certificate_expires.set(leaf.expires.as_second());
        self.shown.set(leaf.shown.clone());
        self.leaf = Some(leaf);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response, StatusCode};
    use k8s_openapi::api::core::v1::Secret;
    use kube::client::Body;

    use super::*;

    fn days(at: Timestamp, days: u64) -> Timestamp {
        at.checked_add(Duration::from_secs(days * 24 * 3600)).expect("a time")
    }

    /// An API server that knows Secrets (when `secrets`), and refuses all else.
    fn refusing(secrets: bool) -> Client {
        let kept = secret::tests::server(Arc::new(Mutex::new(None::<Secret>)));
        let service = tower::service_fn(move |request: Request<Body>| {
            let kept = kept.clone();
            async move {
                if secrets && request.uri().path().contains("/secrets") {
                    let answer = kept.send(request).await.expect("an answer");
                    return Ok::<_, std::io::Error>(answer);
                }
                let status = serde_json::json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden",
                });
                let mut response = Response::new(Body::from(serde_json::to_vec(&status).expect("json")));
                *response.status_mut() = StatusCode::FORBIDDEN;
                Ok(response)
            }
        });
        Client::new(service, "ns")
    }

    fn keeper(client: Client, authority: &Authority) -> Keeper {
        Keeper {
            client,
            service: Service { namespace: "ns".into(), name: "m".into() },
            cluster_domain: "cluster.local".into(),
            shown: Shown::default(),
            front: Front::default(),
            metrics: Metrics::new(),
            authority: Some(authority.clone()),
            leaf: None,
        }
    }

    fn until(keeper: &Keeper) -> Timestamp {
        keeper.leaf.as_ref().expect("one is shown").expires
    }

    #[tokio::test]
    async fn a_certificate_is_followed_though_nobody_can_be_told() {
        let (now, health) = (Timestamp::now(), Health::new());
        let beat = health.watch("metrics-api");
        let authority = Authority::generate(now, None).expect("a CA");
        for secrets in [true, false] {
            let mut keeper = keeper(refusing(secrets), &authority);
            keeper.show(&authority, now).expect("a certificate");
            let first = until(&keeper);
            keeper.round(days(now, 59), &beat).await.expect_err("refused");
            assert_eq!(until(&keeper), first, "it has long to go");
            keeper.round(days(now, 61), &beat).await.expect_err("refused");
            assert!(until(&keeper) > days(now, 150), "{}", until(&keeper));
        }
    }

    #[tokio::test]
    async fn one_of_a_ca_that_nobody_was_told_of_waits_for_the_end_of_the_one_before() {
        let (now, health) = (Timestamp::now(), Health::new());
        let beat = health.watch("metrics-api");
        let old = Authority::generate(now, None).expect("a CA");
        let next = Authority::generate(now, Some(&old)).expect("a CA");
        let mut keeper = keeper(refusing(true), &next);
        keeper.show(&old, now).expect("a certificate");
        let first = until(&keeper);
        keeper.round(days(now, 89), &beat).await.expect_err("refused");
        assert_eq!(until(&keeper), first, "it is still trusted");
        keeper.round(days(now, 91), &beat).await.expect_err("refused");
        assert!(until(&keeper) > first);
    }
}
