//! The operator's foundations against a real API server, that of `make cluster`. `make test-scale` runs it:
//! `scripts/kubernetes.sh run cargo test --profile ci -p sluice-operator --test kubernetes -- --ignored`.
//! Everything is made in a namespace of its own, which is deleted in the end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use sluice_crds::names::{MANAGER_POOL, standard};
use sluice_operator::apply::{Applier, ApplyError, Done, Kind};
use sluice_operator::authority;
use sluice_operator::client;
use sluice_operator::discovery;
use sluice_operator::events::{Events, Note};
use sluice_operator::metrics::Metrics;
use sluice_operator::owned::{Cache, Stores, Triggers, Watches};
use tokio::time::{Instant, sleep, timeout};

struct World {
    client: Client,
    namespace: String,
    owner: ConfigMap,
    applier: Applier,
    stores: Stores,
    metrics: Metrics,
    events: Events,
    _watches: Watches,
}

impl World {
    async fn new(name: &str) -> World {
        let client = client::connect().await.expect("KUBECONFIG names a cluster");
        let namespace = format!("operator-test-{name}-{:06x}", rand::random::<u32>() & 0xff_ffff);
        let all: Api<Namespace> = Api::all(client.clone());
        let made = serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("a Namespace");
        all.create(&PostParams::default(), &made).await.expect("a namespace");
        let owners: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
        let owner = serde_json::from_value(json!({"metadata": {"name": "owner"}})).expect("a ConfigMap");
        let owner = owners.create(&PostParams::default(), &owner).await.expect("an owner");
        let metrics = Metrics::new();
        let events = Events::start(client.clone(), "test", &metrics);
        let stores = Stores::default();
        let served = discovery::look(&client).await.expect("discovery");
        let (_, served) = tokio::sync::watch::channel(Arc::new(served));
        let namespaces = [Some(namespace.clone())];
        let watches =
            Watches::start(&client, &namespaces, &stores, &Triggers::new(), served, &events, &metrics);
        timeout(Duration::from_secs(20), stores.ready()).await.expect("all kinds are served, CRDs too");
        let applier = Applier::new(client.clone(), &metrics);
        World { client, namespace, owner, applier, stores, metrics, events, _watches: watches }
    }

    async fn end(self) {
        let all: Api<Namespace> = Api::all(self.client.clone());
        all.delete(&self.namespace, &DeleteParams::default()).await.expect("deleted");
    }

    fn object<K: Kind>(&self, name: &str, rest: Value) -> K {
        let mut object = rest;
        object["metadata"] = json!({
            "name": name, "namespace": self.namespace,
            "labels": { standard::MANAGED_BY: standard::OPERATOR },
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
                "uid": self.owner.uid(), "controller": true}],
        });
        serde_json::from_value(object).expect("of this kind")
    }

    /// Applied once it is as it should be, however often; the cache may be behind.
    async fn settles<K: Kind>(&self, desired: &K, cache: &Cache<K>) {
        let name = desired.name_any();
        let made = self.applier.apply(MANAGER_POOL, desired, cache).await.expect("applied");
        assert_eq!(made, Done::Created, "{} {name}", K::kind(&()));
        for _ in 0..3 {
            let again = self.applier.apply(MANAGER_POOL, desired, cache).await.expect("fine");
            assert_eq!(again, Done::Unchanged, "{} {name}", K::kind(&()));
            self.cached(cache, &name).await;
        }
        // A process that remembers nothing finds it as it should be, too.
        let fresh = Applier::new(self.client.clone(), &self.metrics);
        let done = fresh.apply(MANAGER_POOL, desired, cache).await.expect("fine");
        assert_eq!(done, Done::Unchanged, "{} {name} for a new process", K::kind(&()));
    }

    async fn cached<K: Kind>(&self, cache: &Cache<K>, name: &str) -> Arc<K> {
        for _ in 0..500 {
            if let Some(object) = cache.get(&self.namespace, name) {
                return object;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("{} {name} is not in the cache", K::kind(&()));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes API server: run by make test-scale"]
async fn every_kind_is_written_once() {
    let world = World::new("kinds").await;
    let stores = world.stores.clone();
    let service = |spec: Value| world.object::<Service>("s", json!({ "spec": spec }));
    let ports = json!([{"name": "http", "port": 5080, "targetPort": 5080}, {"name": "rtmp", "port": 1935, "targetPort": "rtmp"}]);
    world.settles(&service(json!({"selector": {"a": "b"}, "ports": ports})), &stores.services).await;
    let headless = json!({"clusterIP": "None", "publishNotReadyAddresses": true, "selector": {"a": "b"}, "ports": ports});
    world.settles(&world.object("headless", json!({ "spec": headless })), &stores.services).await;
    let balancer = json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/x", "externalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": ["10.0.0.0/8"], "selector": {"a": "b"},
        "ports": [{"name": "media", "port": 4200, "protocol": "UDP"}]});
    world.settles(&world.object("balancer", json!({ "spec": balancer })), &stores.services).await;
    world.settles(&world.object("c", json!({"data": {"node.toml": "a = 1\n"}})), &stores.config_maps).await;
    world
        .settles(
            &world.object("x", json!({"stringData": {"key": "text"}, "type": "Opaque", "immutable": true})),
            &stores.secrets,
        )
        .await;
    world
        .settles(
            &world.object(
                "a",
                json!({"automountServiceAccountToken": false, "imagePullSecrets": [{"name": "p"}]}),
            ),
            &stores.accounts,
        )
        .await;
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}});
    world
        .settles::<PersistentVolumeClaim>(&world.object("p", json!({ "spec": claim })), &stores.claims)
        .await;
    let budget = json!({"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}, "unhealthyPodEvictionPolicy": "AlwaysAllow"});
    world
        .settles::<PodDisruptionBudget>(&world.object("b", json!({ "spec": budget })), &stores.budgets)
        .await;
    let policy = json!({"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": 5080, "protocol": "TCP"}]}, {"from": [{"podSelector": {}}], "ports": [{"port": 5000}]}]});
    world.settles::<NetworkPolicy>(&world.object("n", json!({ "spec": policy })), &stores.policies).await;
    let ingress = json!({"ingressClassName": "x", "tls": [{"hosts": ["a.example"], "secretName": "t"}], "rules": [{"host": "a.example",
        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"name": "http"}}}}]}}]});
    world.settles::<Ingress>(&world.object("i", json!({ "spec": ingress })), &stores.ingresses).await;

    // A load balancer's address and a claim's binding are other people's matter; what they change of ours is set right.
    let api: Api<NetworkPolicy> = Api::namespaced(world.client.clone(), &world.namespace);
    let open = json!({"spec": {"ingress": [{}]}});
    api.patch("n", &PatchParams::default(), &Patch::Merge(&open)).await.expect("opened");
    let desired: NetworkPolicy = world.object("n", json!({ "spec": policy }));
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.applier.apply(MANAGER_POOL, &desired, &stores.policies).await.expect("applied")
        != Done::Changed
    {
        assert!(Instant::now() < deadline, "an opened network policy is not noticed");
        sleep(Duration::from_millis(50)).await;
    }
    let rules = api.get("n").await.expect("there").spec.and_then(|spec| spec.ingress).unwrap_or_default();
    assert_eq!(rules.len(), 2);

    // From cluster-internal to headless: that cannot be changed.
    world.cached(&stores.services, "s").await;
    let headless = service(json!({"clusterIP": "None", "selector": {"a": "b"}, "ports": ports}));
    let done = world.applier.apply(MANAGER_POOL, &headless, &stores.services).await.expect("replaced");
    assert_eq!(done, Done::Replaced);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes API server: run by make test-scale"]
async fn pods_secrets_and_strangers() {
    let world = World::new("pods").await;
    let spec = json!({"containers": [{"name": "node", "image": "example.invalid/x:1", "resources": {"limits": {"cpu": "0.5"}}}]});
    let pod: Pod = world.object("demo-0", json!({ "spec": spec }));
    let made = world.applier.create(MANAGER_POOL, &pod).await.expect("made").expect("was not there");
    assert!(world.applier.create(MANAGER_POOL, &pod).await.expect("an answer").is_none());
    let labels = [("sluice.dev/busy", Some("true".to_owned()))];
    let marked =
        world.applier.mark(MANAGER_POOL, &made, &labels, &[]).await.expect("marked").expect("was another");
    assert_eq!(marked.labels().get("sluice.dev/busy").map(String::as_str), Some("true"));
    let labels = [("sluice.dev/busy", None)];
    let marked =
        world.applier.mark(MANAGER_POOL, &marked, &labels, &[]).await.expect("marked").expect("was another");
    assert!(!marked.labels().contains_key("sluice.dev/busy"));
    let mut other = marked.clone();
    other.metadata.uid = Some("00000000-0000-0000-0000-000000000000".into());
    assert!(
        world
            .applier
            .mark(MANAGER_POOL, &other, &[("x", Some("y".into()))], &[])
            .await
            .expect("left")
            .is_none()
    );
    world.applier.delete(&other, Some(0)).await.expect("another of the same name is left alone");
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    assert!(api.get_opt("demo-0").await.expect("an answer").is_some());
    world.applier.delete(&marked, Some(0)).await.expect("deleted");

    // Somebody else's object of the same name.
    let foreign: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "taken"}, "data": {"a": "theirs"}}))
            .expect("a ConfigMap");
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    maps.create(&PostParams::default(), &foreign).await.expect("made");
    let ours: ConfigMap = world.object("taken", json!({"data": {"a": "ours"}}));
    let error = world.applier.apply(MANAGER_POOL, &ours, &world.stores.config_maps).await.expect_err("taken");
    assert!(matches!(error, ApplyError::NotOurs { .. }), "{error}");

    // An immutable Secret is never replaced.
    let secret =
        |text: &str| world.object::<Secret>("k", json!({"stringData": {"key": text}, "immutable": true}));
    world.settles(&secret("one"), &world.stores.secrets).await;
    let error = world
        .applier
        .apply(MANAGER_POOL, &secret("two"), &world.stores.secrets)
        .await
        .expect_err("immutable");
    assert!(error.refusal().is_some(), "{error}");

    // What is wrong with an object is said in the API server's words.
    let wrong: Service = world.object("wrong", json!({"spec": {"ports": []}}));
    let error = world.applier.apply(MANAGER_POOL, &wrong, &world.stores.services).await.expect_err("invalid");
    assert!(error.refusal().is_some_and(|words| words.contains("spec.ports")), "{error}");

    let orphan: ServiceAccount = world.object("orphan", json!({}));
    world.settles(&orphan, &world.stores.accounts).await;
    let (uid, none) = (world.owner.uid().expect("a uid"), HashSet::new());
    let gone = world.applier.delete_orphans(&world.stores.accounts, &world.namespace, &uid, &none, |_| true);
    assert_eq!(gone.await.expect("deleted"), 1);

    // The operator's CA, twice the same.
    let first = authority::load(&world.client, &world.namespace).await.expect("made");
    let second = authority::load(&world.client, &world.namespace).await.expect("read");
    assert_eq!(first.certificate_pem(), second.certificate_pem());

    // An event, once.
    world.events.about(&world.owner, Note::warning("Test", "said once"));
    world.events.about(&world.owner, Note::warning("Test", "said once"));
    let events: Api<k8s_openapi::api::events::v1::Event> =
        Api::namespaced(world.client.clone(), &world.namespace);
    let count = || async {
        let all = events.list(&Default::default()).await.expect("a list");
        all.iter().filter(|event| event.note.as_deref() == Some("said once")).count()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while count().await == 0 {
        assert!(Instant::now() < deadline, "no event");
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(count().await, 1);

    // A namespace that ends takes nothing new, and says so.
    let (client, namespace, applier, stores) =
        (world.client.clone(), world.namespace.clone(), world.applier.clone(), world.stores.clone());
    let late: ConfigMap = world.object("late", json!({"data": {"a": "b"}}));
    let held: ConfigMap = {
        let mut held: ConfigMap = world.object("held", json!({}));
        held.metadata.finalizers = Some(vec!["example.com/test".into()]);
        held
    };
    applier.create(MANAGER_POOL, &held).await.expect("made");
    world.end().await;
    let error = applier.apply(MANAGER_POOL, &late, &stores.config_maps).await.expect_err("ending");
    assert!(error.is_namespace_ending(), "{error}");
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let free = json!({"metadata": {"finalizers": null}});
    maps.patch("held", &PatchParams::default(), &Patch::Merge(&free)).await.expect("freed");
}
