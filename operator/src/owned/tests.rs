//! Watches against an API server whose answers are a script.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use kube::core::ResourceExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;

type Answered = UnsyncBoxBody<Bytes, std::io::Error>;

/// What the server says to one request.
enum Answer {
    List(Vec<Value>),
    /// After half a second these events, then the end of the connection.
    Watch(Vec<Value>),
    /// After half a second these, and then nothing, for ever.
    Hold(Vec<Value>),
    Gone,
    Forbidden,
    /// Nobody is there.
    Away,
}

#[derive(Clone, Default)]
struct Script(Arc<Mutex<(VecDeque<Answer>, Vec<String>)>>);

impl Script {
    fn of(answers: impl IntoIterator<Item = Answer>) -> Script {
        Script(Arc::new(Mutex::new((answers.into_iter().collect(), Vec::new()))))
    }

    fn client(&self) -> Client {
        let script = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let script = script.clone();
            async move { script.answer(request.uri().to_string()).await }
        });
        Client::new(service, "media")
    }

    async fn answer(&self, uri: String) -> Result<Response<Answered>, std::io::Error> {
        let next = {
            let mut script = self.0.lock().expect("no panic");
            script.1.push(uri);
            script.0.pop_front()
        };
        if matches!(next, Some(Answer::Watch(_) | Answer::Hold(_))) {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let body = |code: u16, value: Value| {
            let text = Full::from(serde_json::to_vec(&value).expect("json"));
            let mut response = Response::new(text.map_err(|never| match never {}).boxed_unsync());
            *response.status_mut() = StatusCode::from_u16(code).expect("a status");
            Ok(response)
        };
        let lines = |events: Vec<Value>, held: bool| {
            let (sender, receiver) = mpsc::unbounded_channel::<Result<Frame<Bytes>, std::io::Error>>();
            for event in events {
                let _ = sender.send(Ok(Frame::data(format!("{event}\n").into())));
            }
            let ends = if held { Some(sender) } else { None };
            let stream = futures_util::stream::unfold((receiver, ends), |(mut receiver, ends)| async move {
                receiver.recv().await.map(|frame| (frame, (receiver, ends)))
            });
            Ok(Response::new(StreamBody::new(stream).boxed_unsync()))
        };
        match next {
            Some(Answer::List(items)) => body(
                200,
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "100"}, "items": items}),
            ),
            Some(Answer::Watch(events)) => lines(events, false),
            Some(Answer::Hold(events)) => lines(events, true),
            Some(Answer::Gone) => body(
                410,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"}),
            ),
            Some(Answer::Forbidden) => body(
                403,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden"}),
            ),
            Some(Answer::Away) => Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)),
            // The script is over.
            None => std::future::pending().await,
        }
    }

    fn asked(&self) -> Vec<String> {
        self.0.lock().expect("no panic").1.clone()
    }
}

fn config_map(name: &str, version: u32) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {
        "name": name, "namespace": "media", "resourceVersion": version.to_string(),
        "managedFields": [{"manager": "x"}],
        "labels": {sluice_crds::names::CLUSTER: name}
    }})
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

type Log = Arc<Mutex<Vec<String>>>;

fn follow(script: &Script) -> (Cache<ConfigMap>, Log, tokio::task::AbortHandle, Metrics) {
    let (cache, log, metrics) = (Cache::new(), Log::default(), Metrics::new());
    let source = Source { kind: "ConfigMap".into(), part: cache.part(), metrics: metrics.clone() };
    let api = watch::api(&script.client(), Some("media"));
    let seen = log.clone();
    let changed = move |event: CacheEvent<'_, ConfigMap>| {
        let line = match event {
            CacheEvent::Applied(object, before) => {
                format!("{}{}", if before.is_some() { "changed " } else { "new " }, object.name_any())
            }
            CacheEvent::Deleted(object) => format!("gone {}", object.name_any()),
        };
        seen.lock().expect("no panic").push(line);
    };
    let config = Config::default().labels(&selector());
    let task = tokio::spawn(watch::owned(api, config, source, changed)).abort_handle();
    (cache, log, task, metrics)
}

fn take(log: &Log) -> Vec<String> {
    let mut lines = std::mem::take(&mut *log.lock().expect("no panic"));
    lines.sort();
    lines
}

#[tokio::test(start_paused = true)]
async fn a_watch_outlives_its_server() {
    let script = Script::of([
        Answer::List(vec![config_map("a", 1), config_map("b", 2)]),
        Answer::Watch(vec![event("MODIFIED", config_map("a", 101)), event("ADDED", config_map("c", 102))]),
        // It is killed, is away for a while, and has forgotten where we were.
        Answer::Away,
        Answer::Away,
        Answer::Away,
        Answer::Gone,
        // Meanwhile b was deleted and c changed.
        Answer::List(vec![config_map("a", 101), config_map("c", 103)]),
        Answer::Hold(vec![event("DELETED", config_map("a", 104))]),
    ]);
    let (cache, log, _task, metrics) = follow(&script);
    cache.ready().await;
    assert_eq!(take(&log), ["new a", "new b"]);
    assert!(cache.get("media", "a").expect("listed").managed_fields().is_empty());
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(take(&log), ["changed a", "changed c", "gone a", "gone b", "new c"]);
    assert_eq!(cache.len(), 1);
    assert!(metrics.watch_failures.with_label_values(&["ConfigMap"]).get() >= 4);
    let asked = script.asked();
    assert!(
        asked[0].contains("labelSelector=app.kubernetes.io%2Fmanaged-by%3Dsluice-operator"),
        "{}",
        asked[0]
    );
    assert_eq!(asked.len(), 8, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_listed_anew() {
    let expired = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
    let script = Script::of([
        Answer::List(vec![config_map("a", 1)]),
        Answer::Watch(vec![event("ERROR", expired)]),
        Answer::List(vec![config_map("a", 1), config_map("b", 2)]),
        Answer::Hold(vec![]),
    ]);
    let (cache, log, _task, _metrics) = follow(&script);
    cache.ready().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    // What is as it was is no change.
    assert_eq!(take(&log), ["new a", "new b"]);

    // A server that was restored from a backup refuses the version that we have, for ever.
    let away = || std::iter::repeat_with(|| Answer::Away).take(10);
    let lists = [Answer::List(vec![config_map("c", 3)]), Answer::Hold(vec![])];
    let first = [Answer::List(vec![config_map("a", 50)])];
    let script = Script::of(first.into_iter().chain(away()).chain(lists));
    let (cache, log, _task, _metrics) = follow(&script);
    cache.ready().await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(take(&log), ["gone a", "new a", "new c"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_not_asked_without_end() {
    let script = Script::of((0..1000).map(|_| Answer::Away));
    let (cache, _log, _task, _metrics) = follow(&script);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = script.asked().len();
    // Every 20 s at most, a quarter less at least.
    assert!((30..=60).contains(&asked), "{asked}");
    assert!(!cache.is_ready());
}

#[tokio::test(start_paused = true)]
async fn one_malformed_object_holds_up_no_other() {
    use sluice_crds::EdgePool;
    let pool = |name: &str, replicas: Value, version: u32| {
        json!({"kind": "EdgePool", "apiVersion": "sluice.dev/v1alpha1",
            "metadata": {"name": name, "namespace": "media", "uid": name, "resourceVersion": version.to_string()},
            "spec": {"clusterRef": {"name": "demo"}, "replicas": replicas}})
    };
    let script = Script::of([
        Answer::List(vec![pool("bad", json!("many"), 1), pool("good", json!(2), 2)]),
        Answer::Hold(vec![
            event("MODIFIED", pool("good", json!({"a": 1}), 101)),
            event("MODIFIED", pool("bad", json!(3), 102)),
        ]),
    ]);
    let cache: Cache<EdgePool> = Cache::new();
    let (metrics, triggers) = (Metrics::new(), Triggers::new());
    let source = Source { kind: "EdgePool".into(), part: cache.part(), metrics: metrics.clone() };
    let events = Events::start(Script::default().client(), "test", &metrics);
    let queues = triggers.clone();
    let api = watch::api(&script.client(), None);
    tokio::spawn(watch::custom(api, source, events, move |event| queues.pool_changed(event)));
    cache.ready().await;
    assert!(cache.get("media", "good").is_some() && cache.get("media", "bad").is_none());
    tokio::time::sleep(Duration::from_secs(1)).await;
    // What was good and is not any more keeps its last state; what was not and is now is there.
    assert_eq!(cache.get("media", "good").map(|pool| pool.spec.pool.replicas), Some(2));
    assert!(
        cache.malformed("media", "good").is_some_and(|why| why.contains("replicas") || why.contains("i32"))
    );
    assert_eq!(cache.get("media", "bad").map(|pool| pool.spec.pool.replicas), Some(3));
    assert_eq!(cache.malformed("media", "bad"), None);
    assert_eq!(triggers.pools.len(), 2);
    assert_eq!(metrics.malformed.with_label_values(&["EdgePool"]).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn kinds_that_come_and_go_are_followed() {
    use kube::api::ApiResource;
    use kube::core::GroupVersionKind;
    let route = ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"));
    let object = json!({"kind": "HTTPRoute", "apiVersion": "gateway.networking.k8s.io/v1", "metadata": {
        "name": "r", "namespace": "media", "resourceVersion": "1", "labels": {sluice_crds::names::CLUSTER: "demo"}}});
    let script = Script::of([Answer::List(vec![object]), Answer::Hold(vec![])]);
    let (stores, triggers) = (Stores::default(), Triggers::new());
    let (sender, served) = signal::channel(Arc::new(Served::default()));
    let following = dynamic::follow(
        script.client(),
        vec![None],
        stores.dynamic.clone(),
        stores.clone(),
        triggers.clone(),
        served,
        Metrics::new(),
    );
    tokio::spawn(following);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(stores.dynamic.of(&route).is_none());
    sender.send_replace(Arc::new(Served { http_route: Some(route.clone()), ..Served::default() }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cache = stores.dynamic.of(&route).expect("followed");
    assert!(cache.get("media", "r").is_some());
    assert_eq!(triggers.clusters.len(), 1, "its owner's turn");
    sender.send_replace(Arc::new(Served::default()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(stores.dynamic.of(&route).is_none());
}

/// A pod of `demo-edge` on the machine `m1`, and a node of that name.
fn pod_and_machine() -> (Pod, impl Fn(u32, Value) -> Value) {
    let pod = json!({ "metadata": { "name": "demo-edge-0", "namespace": "media", "labels": {
        sluice_crds::names::POOL: "demo-edge", sluice_crds::names::ROLE: "edge"
    } }, "spec": { "nodeName": "m1", "containers": [] } });
    let node = |version: u32, spec: Value| {
        json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": "m1", "resourceVersion": version.to_string() },
            "spec": spec, "status": { "conditions": [{ "type": "Ready", "status": "True" }] } })
    };
    (serde_json::from_value(pod).expect("a pod"), node)
}

fn follow_machines(script: &Script, pod: Pod) -> (Stores, Triggers, Metrics) {
    let stores = Stores { pods: Cache::of([pod]), ..Stores::default() };
    let (triggers, metrics) = (Triggers::new(), Metrics::new());
    let machines = stores.machines.clone();
    let source = machines.source(&metrics);
    tokio::spawn(machines::follow(script.client(), source, machines, stores.clone(), triggers.clone()));
    (stores, triggers, metrics)
}

#[tokio::test(start_paused = true)]
async fn a_cordon_is_the_turn_of_the_pools_there() {
    let (pod, node) = pod_and_machine();
    let heartbeat = node(101, json!({ "podCIDR": "10.0.0.0/24" }));
    let cordon = node(102, json!({ "unschedulable": true }));
    let script = Script::of([
        Answer::List(vec![node(1, json!({}))]),
        Answer::Watch(vec![event("MODIFIED", heartbeat)]),
        Answer::Hold(vec![event("MODIFIED", cordon)]),
    ]);
    let (stores, triggers, metrics) = follow_machines(&script, pod);
    stores.machines.ready().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(triggers.pools.len(), 0, "what does not count is nobody's turn");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(triggers.pools.len(), 1);
    assert_eq!(metrics.machines_known.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_rights_machines_are_unknown_and_asked_for_now_and_then() {
    let (pod, node) = pod_and_machine();
    let refused = |times| (0..times).map(|_| Answer::Forbidden);
    let script = Script::of(
        refused(7)
            .chain([Answer::List(vec![node(1, json!({}))]), Answer::Watch(vec![])])
            // The API server is started again, and has not read the roles.
            .chain(refused(2))
            .chain([Answer::Watch(vec![event("MODIFIED", node(2, json!({})))])])
            // The role is taken away.
            .chain(refused(100)),
    );
    let (stores, _triggers, metrics) = follow_machines(&script, pod);
    let known = || matches!(stores.machines.get("m1"), Machine::There(_));
    // Whoever waits for what is in Kubernetes does not wait for this.
    let begun = tokio::time::Instant::now();
    stores.machines.ready().await;
    assert_eq!((begun.elapsed(), known()), (Duration::ZERO, false));
    tokio::time::sleep(Duration::from_secs(65)).await;
    assert_eq!((known(), script.asked().len(), metrics.machines_known.get()), (false, 6, 0));
    tokio::time::sleep(Duration::from_secs(66)).await;
    assert_eq!((known(), metrics.machines_known.get()), (true, 1));
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(known(), "a moment's refusal takes nothing back");
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((known(), metrics.machines_known.get()), (false, 0));
}

#[tokio::test(start_paused = true)]
async fn machines_that_come_after_the_work_has_begun_are_the_turn_of_all() {
    let (pod, node) = pod_and_machine();
    let script = Script::of([Answer::Forbidden, Answer::List(vec![node(1, json!({}))])]);
    let (stores, triggers, metrics) = follow_machines(&script, pod);
    let cluster = json!({ "apiVersion": "sluice.dev/v1alpha1", "kind": "MediaCluster",
        "metadata": { "name": "demo", "namespace": "media" },
        "spec": { "database": { "external": { "secret": { "name": "database" } } } } });
    stores.clusters.part().apply(Arc::new(serde_json::from_value(cluster).expect("a cluster")));
    stores.machines.ready().await;
    assert_eq!((stores.machines.known(), triggers.clusters.len()), (false, 0));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((stores.machines.known(), metrics.machines_known.get()), (true, 1));
    assert_eq!(triggers.clusters.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_the_watch_has_not_told_of_is_asked_for() {
    let (pod, node) = pod_and_machine();
    let stores = Stores { pods: Cache::of([pod]), machines: Machines::of([]), ..Stores::default() };
    let triggers = Triggers::new();
    let script = Script::of([
        Answer::Away,
        // The watch is late ...
        Answer::List(vec![node(1, json!({}))]),
        // ... and later the machine is gone.
        Answer::List(vec![]),
    ]);
    tokio::spawn(machines::ask(script.client(), stores.machines.clone(), stores.clone(), triggers.clone()));
    let get = || stores.machines.get("m1");
    assert!(matches!(get(), Machine::Untold));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(get(), Machine::Untold), "an error is no answer");
    assert_eq!((script.asked().len(), triggers.pools.len()), (1, 0));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(matches!(get(), Machine::Untold), "it is there");
    assert_eq!((script.asked().len(), triggers.pools.len()), (2, 1));
    tokio::time::sleep(UNTOLD).await;
    assert!(matches!(get(), Machine::Untold), "nobody has said otherwise yet");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(get(), Machine::Absent { departed: false }));
    let asked = script.asked();
    assert!(asked.iter().all(|uri| uri.contains("fieldSelector=metadata.name%3Dm1")), "{asked:?}");
    assert!(asked.iter().all(|uri| !uri.contains("resourceVersion")), "{asked:?}");
}
