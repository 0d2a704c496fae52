//! Against an API server that does what the real one does with these requests, as far as it matters here.

use std::collections::BTreeMap;
use std::sync::Mutex;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::client::Body;
use sluice_crds::names::MANAGER_CLUSTER;

use super::*;

/// One request, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    method: Method,
    path: String,
    query: String,
    body: String,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    asked: Vec<Asked>,
    /// Does to each object that is written what defaults and other spellings do.
    respell: Option<fn(&mut Value)>,
    /// Fields that may not change, as JSON pointers.
    immutable: Vec<&'static str>,
    /// Answers everything with this.
    refuse: Option<Value>,
    silent: bool,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match value {
                    Value::Null => drop(into.remove(key)),
                    value => merge(into.entry(key.clone()).or_insert(Value::Null), value),
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}

impl Server {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().expect("no panic"))
    }

    fn applier(&self) -> Applier {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                if server.with(|state| state.silent) {
                    std::future::pending::<()>().await;
                }
                let (code, answer) = server.with(|state| {
                    state.answer(
                        &parts.method,
                        parts.uri.path(),
                        parts.uri.query().unwrap_or_default(),
                        &body,
                    )
                });
                let mut response = Response::new(Body::from(serde_json::to_vec(&answer).expect("json")));
                *response.status_mut() = StatusCode::from_u16(code).expect("a status");
                Ok::<_, std::io::Error>(response)
            }
        });
        Applier::new(Client::new(service, "media"), &Metrics::new())
    }

    /// Those that change something, since the last time.
    fn writes(&self) -> Vec<Method> {
        let asked = self.with(|state| std::mem::take(&mut state.asked));
        asked.into_iter().map(|asked| asked.method).filter(|method| method != Method::GET).collect()
    }

    fn asked(&self) -> Vec<Asked> {
        self.with(|state| std::mem::take(&mut state.asked))
    }

    /// What a watch would have put into the cache by now.
    fn cache<K: Kind>(&self) -> Cache<K> {
        let plural = format!("/{}/", K::plural(&()));
        let all = self.with(|state| {
            let ours =
                |object: &Value| object["metadata"]["labels"][standard::MANAGED_BY] == standard::OPERATOR;
            let of_kind =
                state.objects.iter().filter(|(path, object)| path.contains(&plural) && ours(object));
            of_kind.map(|(_, object)| object.clone()).collect::<Vec<_>>()
        });
        Cache::of(all.into_iter().map(|object| serde_json::from_value(object).expect("of this kind")))
    }

    /// Somebody else changes an object.
    fn edit(&self, path: &str, patch: Value) {
        self.with(|state| {
            state.version += 1;
            let version = state.version.to_string();
            let object = state.objects.get_mut(path).expect("it is there");
            merge(object, &patch);
            object["metadata"]["resourceVersion"] = version.into();
        });
    }

    fn put(&self, path: &str, mut object: Value) {
        self.with(|state| {
            state.version += 1;
            object["metadata"]["resourceVersion"] = state.version.to_string().into();
            state.objects.insert(path.into(), object);
        });
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        let text = String::from_utf8_lossy(body).into_owned();
        self.asked.push(Asked { method: method.clone(), path: path.into(), query: query.into(), body: text });
        if let Some(refusal) = &self.refuse {
            return (u16::try_from(refusal["code"].as_u64().unwrap_or(500)).unwrap_or(500), refusal.clone());
        }
        let sent: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let target = path.trim_end_matches("/status").to_owned();
        let found = self.objects.get(&target).cloned();
        let wrong_uid = |uid: &Value| {
            let conflict = status(409, "Conflict", "Precondition failed: UID in precondition");
            let other = found.as_ref().is_none_or(|found| found["metadata"]["uid"] != *uid);
            (uid.is_string() && other).then_some((409, conflict))
        };
        match *method {
            Method::GET => found.map_or((404, status(404, "NotFound", "not found")), |found| (200, found)),
            Method::DELETE => {
                if found.is_none() {
                    return (404, status(404, "NotFound", "not found"));
                }
                if let Some(refused) = wrong_uid(&sent["preconditions"]["uid"]) {
                    return refused;
                }
                self.objects.remove(&target);
                (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            }
            Method::POST => {
                let target = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap_or_default());
                if self.objects.contains_key(&target) {
                    return (409, status(409, "AlreadyExists", "already exists"));
                }
                (201, self.write(&target, sent))
            }
            _ => {
                if path.ends_with("/status") && found.is_none() {
                    return (404, status(404, "NotFound", "not found"));
                }
                if let Some(refused) = wrong_uid(&sent["metadata"]["uid"]) {
                    return refused;
                }
                let mut next = found.clone().unwrap_or(Value::Null);
                merge(&mut next, &sent);
                if let Some(found) = &found
                    && let Some(field) =
                        self.immutable.iter().find(|field| found.pointer(field) != next.pointer(field))
                {
                    return (
                        422,
                        status(422, "Invalid", &format!("{field}: Invalid value: field is immutable")),
                    );
                }
                if found.as_ref() == Some(&next) {
                    return (200, next);
                }
                (200, self.write(&target, next))
            }
        }
    }

    fn write(&mut self, path: &str, mut object: Value) -> Value {
        if let Some(respell) = self.respell {
            respell(&mut object);
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if !object["metadata"]["uid"].is_string() {
            object["metadata"]["uid"] = format!("uid-{}", self.version).into();
        }
        self.objects.insert(path.into(), object.clone());
        object
    }
}

const SERVICE: &str = "/api/v1/namespaces/media/services/demo";

fn meta(uid_of_owner: &str) -> Value {
    json!({
        "name": "demo", "namespace": "media",
        "labels": { standard::MANAGED_BY: standard::OPERATOR },
        "ownerReferences": [{"apiVersion": "sluice.dev/v1alpha1", "kind": "EdgePool", "name": "edge", "uid": uid_of_owner, "controller": true}],
    })
}

fn service(port: i32) -> Service {
    let spec = json!({"selector": {"a": "b"}, "ports": [{"name": "http", "port": port}]});
    serde_json::from_value(json!({"metadata": meta("1"), "spec": spec})).expect("a Service")
}

async fn apply(applier: &Applier, desired: &Service, cache: &Cache<Service>) -> Result<Done, ApplyError> {
    applier.apply(MANAGER_CLUSTER, desired, cache).await
}

#[tokio::test]
async fn nothing_is_asked_when_all_is_as_it_should_be() {
    let server = Server::default();
    let applier = server.applier();
    let made = apply(&applier, &service(80), &server.cache()).await.expect("made");
    assert_eq!(made, Done::Created);
    let asked = server.asked();
    let (look, write) = (&asked[0], &asked[1]);
    assert_eq!((look.method.clone(), asked.len()), (Method::GET, 2));
    assert_eq!((write.method.clone(), write.path.as_str()), (Method::PATCH, SERVICE));
    assert!(write.query.contains("force=true") && write.query.contains(MANAGER_CLUSTER), "{}", write.query);
    // What the API server adds is nobody's concern.
    server.edit(
        SERVICE,
        json!({"spec": {"clusterIP": "10.96.0.9", "type": "ClusterIP"}, "status": {"loadBalancer": {}}}),
    );
    for _ in 0..3 {
        assert_eq!(apply(&applier, &service(80), &server.cache()).await.expect("fine"), Done::Unchanged);
    }
    // Nor does another operator process ask anything that finds it so.
    assert_eq!(apply(&server.applier(), &service(80), &server.cache()).await.expect("fine"), Done::Unchanged);
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn what_others_change_and_what_is_no_longer_wanted_is_set_right() {
    let server = Server::default();
    let applier = server.applier();
    apply(&applier, &service(80), &server.cache()).await.expect("made");
    server.edit(SERVICE, json!({"spec": {"selector": {"a": "elsewhere"}}}));
    assert_eq!(apply(&applier, &service(80), &server.cache()).await.expect("set right"), Done::Changed);
    assert_eq!(server.with(|state| state.objects[SERVICE]["spec"]["selector"]["a"].clone()), "b");

    // Less is wanted: nothing of what is wanted differs, only the hash tells.
    let mut less = service(80);
    less.spec.as_mut().expect("a spec").selector = None;
    assert_eq!(apply(&applier, &less, &server.cache()).await.expect("applied"), Done::Changed);
    assert_eq!(apply(&applier, &less, &server.cache()).await.expect("fine"), Done::Unchanged);
}

#[tokio::test]
async fn a_spelling_of_the_servers_own_is_written_once() {
    let server = Server::default();
    server.with(|state| {
        state.respell = Some(|object| object["spec"]["selector"]["a"] = "B (as the server says it)".into());
    });
    let applier = server.applier();
    apply(&applier, &service(80), &server.cache()).await.expect("made");
    server.writes();
    for n in 0..3 {
        // Its status changes meanwhile.
        server.edit(SERVICE, json!({"status": {"n": n}}));
        assert_eq!(apply(&applier, &service(80), &server.cache()).await.expect("fine"), Done::Unchanged);
    }
    assert_eq!(server.writes(), [] as [Method; 0]);
    server.edit(SERVICE, json!({"spec": {"selector": {"a": "changed by a person"}}}));
    assert_eq!(apply(&applier, &service(80), &server.cache()).await.expect("set right"), Done::Changed);
}

#[tokio::test]
async fn a_cache_that_is_behind_causes_no_second_write() {
    let server = Server::default();
    let applier = server.applier();
    apply(&applier, &service(80), &server.cache()).await.expect("made");
    let behind = server.cache();
    assert_eq!(apply(&applier, &service(81), &behind).await.expect("changed"), Done::Changed);
    server.writes();
    assert_eq!(apply(&applier, &service(81), &behind).await.expect("known"), Done::Unchanged);
    // But something else that is wanted meanwhile is written.
    assert_eq!(apply(&applier, &service(82), &behind).await.expect("changed"), Done::Changed);
}

#[tokio::test]
async fn what_is_somebody_elses_is_left_alone_and_named() {
    let foreign = |labels: Value, owners: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {
            "name": "demo", "namespace": "media", "uid": "x", "labels": labels, "ownerReferences": owners
        }})
    };
    let ours = json!({standard::MANAGED_BY: standard::OPERATOR});
    let owner = |uid: &str, kind: &str, name: &str| json!([{"apiVersion": "a/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
    let no_owner = json!([]);
    for (object, expected) in [
        (
            foreign(json!({}), no_owner.clone()),
            Err("has no label app.kubernetes.io/managed-by=sluice-operator"),
        ),
        (foreign(json!({standard::MANAGED_BY: "Helm"}), no_owner.clone()), Err("Helm manages it")),
        (foreign(ours.clone(), owner("2", "Widget", "other")), Err("Widget other controls it")),
        (foreign(ours.clone(), owner("2", "EdgePool", "edge")), Ok(Done::Leaving)),
        (foreign(ours.clone(), no_owner), Ok(Done::Changed)),
        (foreign(ours.clone(), owner("1", "EdgePool", "edge")), Ok(Done::Changed)),
    ] {
        let server = Server::default();
        server.put(SERVICE, object.clone());
        let result = apply(&server.applier(), &service(80), &server.cache()).await;
        match (result, expected) {
            (Ok(done), Ok(expected)) => assert_eq!(done, expected, "{object}"),
            (Err(error), Err(words)) => {
                assert!(matches!(error, ApplyError::NotOurs { .. }), "{error}");
                let text = error.to_string();
                assert!(text.contains(words) && text.contains("Service media/demo"), "{text}");
                assert_eq!(server.writes(), [] as [Method; 0]);
            }
            (result, expected) => panic!("{result:?} is not {expected:?} for {object}"),
        }
    }
    let server = Server::default();
    let mut leaving = foreign(ours, owner("1", "EdgePool", "edge"));
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    server.put(SERVICE, leaving);
    assert_eq!(apply(&server.applier(), &service(80), &server.cache()).await.expect("left"), Done::Leaving);
    assert_eq!(server.writes(), [] as [Method; 0]);
}

#[tokio::test]
async fn what_cannot_be_changed_is_made_anew_where_that_loses_nothing() {
    let server = Server::default();
    server.with(|state| state.immutable = vec!["/spec/ports/0/port"]);
    let applier = server.applier();
    apply(&applier, &service(80), &server.cache()).await.expect("made");
    let uid = server.with(|state| state.objects[SERVICE]["metadata"]["uid"].clone());
    server.writes();
    assert_eq!(apply(&applier, &service(81), &server.cache()).await.expect("replaced"), Done::Replaced);
    let asked = server.asked();
    let methods: Vec<_> = asked.iter().map(|asked| asked.method.clone()).collect();
    assert_eq!(methods, [Method::PATCH, Method::DELETE, Method::PATCH]);
    assert!(
        asked[1].body.contains(uid.as_str().expect("a uid")),
        "deletes this very object: {}",
        asked[1].body
    );
    assert_eq!(apply(&applier, &service(81), &server.cache()).await.expect("fine"), Done::Unchanged);

    let secret = |value: &str| -> Secret {
        serde_json::from_value(json!({"metadata": meta("1"), "stringData": {"key": value}}))
            .expect("a Secret")
    };
    server.with(|state| state.immutable = vec!["/data/key"]);
    applier.apply(MANAGER_CLUSTER, &secret("old"), &server.cache()).await.expect("made");
    server.writes();
    let error = applier.apply(MANAGER_CLUSTER, &secret("new"), &server.cache()).await.expect_err("kept");
    assert!(error.refusal().is_some_and(|words| words.contains("immutable")), "{error}");
    assert_eq!(server.writes(), [Method::PATCH]);
    assert_eq!(
        applier.apply(MANAGER_CLUSTER, &secret("old"), &server.cache()).await.expect("fine"),
        Done::Unchanged
    );
}

const CLUSTER: &str = "/apis/sluice.dev/v1alpha1/namespaces/media/mediaclusters/demo";

#[tokio::test]
async fn a_status_is_written_when_it_is_another() {
    use sluice_crds::MediaCluster;
    use sluice_crds::cluster::MediaClusterStatus;
    let server = Server::default();
    let applier = server.applier();
    let with_status = |viewers| MediaClusterStatus { viewers, ..Default::default() };
    let object = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "MediaCluster",
        "metadata": {"name": "demo", "namespace": "media", "uid": "c1"}, "spec": {"database": {}}});
    server.put(CLUSTER, object);
    let read = || -> MediaCluster {
        serde_json::from_value(server.with(|state| state.objects[CLUSTER].clone())).expect("a MediaCluster")
    };
    let first = read();
    let done = applier.apply_status(&first, None, &with_status(1)).await.expect("written");
    assert_eq!(done, Done::Changed);
    // The cache has not seen it yet.
    let done = applier.apply_status(&first, None, &with_status(1)).await.expect("known");
    assert_eq!(done, Done::Unchanged);
    let second = read();
    let before = second.status.as_ref();
    assert_eq!(applier.apply_status(&second, before, &with_status(1)).await.expect("fine"), Done::Unchanged);
    assert_eq!(applier.apply_status(&second, before, &with_status(2)).await.expect("written"), Done::Changed);
    // Back again before the cache has seen that.
    assert_eq!(applier.apply_status(&second, None, &with_status(1)).await.expect("written"), Done::Changed);
    assert_eq!(server.writes().len(), 3);

    // Deleted, and made anew under the same name.
    server.edit(CLUSTER, json!({"metadata": {"uid": "c2"}}));
    assert_eq!(applier.apply_status(&second, None, &with_status(9)).await.expect("left"), Done::Leaving);
    server.with(|state| state.objects.clear());
    assert_eq!(applier.apply_status(&second, None, &with_status(8)).await.expect("left"), Done::Leaving);
}

#[tokio::test]
async fn pods_are_created_once_marked_when_needed_and_deleted_by_uid() {
    let server = Server::default();
    let applier = server.applier();
    let mut pod: Pod = serde_json::from_value(json!({"metadata": meta("1")})).expect("a Pod");
    pod.labels_mut().insert(names::BUSY.into(), "true".into());
    let made = applier.create(MANAGER_CLUSTER, &pod).await.expect("made").expect("was not there");
    assert!(made.annotations().contains_key(names::HASH));
    assert!(applier.create(MANAGER_CLUSTER, &pod).await.expect("an answer").is_none());
    server.writes();

    let labels = [(names::BUSY, None), (names::ACCEPTING, Some("true".to_owned()))];
    let marked =
        applier.mark(MANAGER_CLUSTER, &made, &labels, &[]).await.expect("marked").expect("was another");
    assert_eq!(marked.labels().get(names::ACCEPTING).map(String::as_str), Some("true"));
    assert!(!marked.labels().contains_key(names::BUSY));
    assert!(applier.mark(MANAGER_CLUSTER, &marked, &labels, &[]).await.expect("fine").is_none());
    assert!(applier.mark(MANAGER_CLUSTER, &made, &labels, &[]).await.expect("the cache is behind").is_none());
    assert_eq!(server.writes(), [Method::PATCH]);

    let mut other = made.clone();
    other.metadata.uid = Some("another".into());
    applier.delete(&other, None).await.expect("another of the same name is left alone");
    assert_eq!(server.with(|state| state.objects.len()), 1);
    applier.delete(&made, Some(0)).await.expect("deleted");
    applier.delete(&made, Some(0)).await.expect("gone is fine");
    assert_eq!(server.with(|state| state.objects.len()), 0);
}

#[tokio::test]
async fn orphans_go_and_nothing_else() {
    let server = Server::default();
    for (name, owner, leaving) in
        [("keep", "1", false), ("orphan", "1", false), ("others", "2", false), ("leaving", "1", true)]
    {
        let mut metadata = meta(owner);
        metadata["name"] = name.into();
        metadata["uid"] = name.into();
        if leaving {
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        let path = format!("/api/v1/namespaces/media/configmaps/{name}");
        server.put(&path, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}));
    }
    let (applier, cache) = (server.applier(), server.cache::<ConfigMap>());
    let keep = HashSet::from(["keep".to_owned()]);
    let none = applier.delete_orphans(&cache, "media", "1", &keep, |_| false).await.expect("none fits");
    assert_eq!((none, server.writes()), (0, vec![]));
    assert_eq!(applier.delete_orphans(&cache, "media", "1", &keep, |_| true).await.expect("deleted"), 1);
    let left = server.with(|state| state.objects.keys().cloned().collect::<Vec<_>>());
    assert_eq!(left.len(), 3);
    assert!(!left.iter().any(|path| path.ends_with("/orphan")), "{left:?}");
}

#[tokio::test]
async fn kinds_known_by_discovery_are_the_same() {
    let server = Server::default();
    let applier = server.applier();
    let resource = ApiResource {
        group: "gateway.networking.k8s.io".into(),
        version: "v1".into(),
        api_version: "gateway.networking.k8s.io/v1".into(),
        kind: "HTTPRoute".into(),
        plural: "httproutes".into(),
    };
    let route = |host: &str| -> DynamicObject {
        serde_json::from_value(json!({"metadata": meta("1"), "spec": {"hostnames": [host]}}))
            .expect("an object")
    };
    let apply = |host: &str, cache| {
        let (applier, resource, route) = (applier.clone(), resource.clone(), route(host));
        async move { applier.apply_dynamic(MANAGER_CLUSTER, &resource, &route, cache).await.expect("applied") }
    };
    assert_eq!(apply("a", None).await, Done::Created);
    // Not watched yet: it looks, and finds it as it should be.
    assert_eq!(apply("a", None).await, Done::Unchanged);
    let path = "/apis/gateway.networking.k8s.io/v1/namespaces/media/httproutes/demo";
    let live: DynamicObject =
        serde_json::from_value(server.with(|state| state.objects[path].clone())).expect("an object");
    assert_eq!(live.types.as_ref().map(|types| types.kind.as_str()), Some("HTTPRoute"));
    let cache = Cache::of([live]);
    server.asked();
    assert_eq!(apply("a", Some(&cache)).await, Done::Unchanged);
    assert_eq!(server.asked(), []);
    assert_eq!(apply("b", Some(&cache)).await, Done::Changed);
    let gone = applier.delete_orphans_dynamic(&resource, &cache, "media", "1", &HashSet::new()).await;
    assert_eq!(gone.expect("deleted"), 1);
}

#[tokio::test(start_paused = true)]
async fn refusals_say_what_was_attempted_and_why() {
    let server = Server::default();
    let applier = server.applier();
    let ending = {
        let mut status = status(403, "Forbidden", "configmaps \"x\" is forbidden");
        status["details"] =
            json!({"causes": [{"reason": "NamespaceTerminating", "message": "being terminated"}]});
        status
    };
    for (refusal, reason, is_refusal, is_ending) in [
        (status(403, "Forbidden", "no permission"), "forbidden", false, false),
        (ending, "namespace_ending", false, true),
        (status(422, "Invalid", "spec.ports: too many"), "invalid", true, false),
        (status(429, "TooManyRequests", "later"), "too_many_requests", false, false),
        (status(500, "InternalError", "etcd is away"), "api_server", false, false),
    ] {
        let message = refusal["message"].as_str().unwrap_or_default().to_owned();
        server.with(|state| state.refuse = Some(refusal));
        let error = apply(&applier, &service(80), &server.cache()).await.expect_err("refused");
        assert_eq!(
            (error.reason(), error.refusal().is_some(), error.is_namespace_ending()),
            (reason, is_refusal, is_ending)
        );
        let text = error.to_string();
        assert_eq!(text, format!("cannot apply Service media/demo: {message}"));
    }
    server.with(|state| (state.refuse, state.silent) = (None, true));
    let error = apply(&applier, &service(80), &server.cache()).await.expect_err("silent");
    assert_eq!(error.reason(), "timeout");
}
