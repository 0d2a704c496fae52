//! Several replicas in one process, with a network that loses requests and answers, is cut and healed.
//!
//! `SLUICE_TEST_REPLICA_RUNS` sets how many random runs there are, `SLUICE_TEST_REPLICA_SEED` repeats one.

#![expect(clippy::unwrap_used, reason = "a test that fails has to panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sluice_cluster::member::{BootId, NodeId};
use sluice_cluster::port::PortError;
use sluice_cluster::replica::exchange::{BODY_LIMIT, PULL, PUSH};
use sluice_cluster::replica::{Hooks, Options, Peers, Replica, Spreading, routes};
use sluice_store::{
    AppSettings, BeginLive, Broadcast, BroadcastUpdate, Ended, ListQuery, Sqlite, Status, Store, StoreError,
    conformance,
};
use tokio::sync::watch;
use tower::ServiceExt;

const NOW: i64 = 1_800_000_000_000;
const DAY: i64 = 24 * 3600 * 1000;

/// The network between the nodes.
struct Net {
    up: Mutex<BTreeMap<String, Arc<Replica>>>,
    cut: Mutex<BTreeSet<(String, String)>>,
    links: watch::Sender<u64>,
    /// Of 1000 requests, and of 1000 answers, so many are lost.
    loss: AtomicU32,
    random: Mutex<StdRng>,
    largest: AtomicUsize,
    requests: AtomicUsize,
    /// The time, ms; the same for all.
    now: AtomicI64,
}

impl Net {
    fn new(seed: u64) -> Arc<Self> {
        Arc::new(Net {
            up: Mutex::default(),
            cut: Mutex::default(),
            links: watch::Sender::new(0),
            loss: AtomicU32::new(0),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            largest: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            now: AtomicI64::new(NOW),
        })
    }

    fn changed(&self) {
        self.links.send_modify(|n| *n += 1);
    }

    fn cut(&self, a: &str, b: &str) {
        self.cut.lock().unwrap().extend([(a.into(), b.into()), (b.into(), a.into())]);
        self.changed();
    }

    fn heal(&self) {
        self.cut.lock().unwrap().clear();
        self.changed();
    }

    fn loses(&self) -> bool {
        self.random.lock().unwrap().random_range(0..1000) < self.loss.load(Ordering::Relaxed)
    }
}

struct Seen {
    me: String,
    net: Arc<Net>,
}

#[async_trait]
impl Peers for Seen {
    fn up(&self) -> Vec<(NodeId, String)> {
        let cut = self.net.cut.lock().unwrap();
        let up = self.net.up.lock().unwrap();
        let others = up.keys().filter(|n| **n != self.me && !cut.contains(&(self.me.clone(), (*n).clone())));
        others.map(|n| (NodeId::new(n.as_str()), n.clone())).collect()
    }

    async fn request(&self, addr: &str, request: Request<Bytes>) -> Result<Response<Bytes>, PortError> {
        let lost = || PortError::Timeout { addr: addr.into(), doing: "request", within: Duration::ZERO };
        self.net.requests.fetch_add(1, Ordering::Relaxed);
        self.net.largest.fetch_max(request.body().len(), Ordering::Relaxed);
        let there = self.net.up.lock().unwrap().get(addr).cloned();
        if self.net.cut.lock().unwrap().contains(&(self.me.clone(), addr.into())) || self.net.loses() {
            return Err(lost());
        }
        let answer = routes(there.ok_or_else(lost)?).oneshot(request.map(Body::from)).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.net.largest.fetch_max(body.len(), Ordering::Relaxed);
        if self.net.loses() { Err(lost()) } else { Ok(Response::from_parts(head, body)) }
    }

    fn links(&self) -> watch::Receiver<u64> {
        self.net.links.subscribe()
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Hooks for Heard {
    fn broadcast_deleted(&self, app: &str, id: &str) {
        self.0.lock().unwrap().push(format!("deleted {app}/{id}"));
    }

    fn broadcast_created(&self, app: &str, id: &str) {
        self.0.lock().unwrap().push(format!("created {app}/{id}"));
    }

    fn app_deleted(&self, app: &str) {
        self.0.lock().unwrap().push(format!("deleted app {app}"));
    }
}

struct Node {
    name: String,
    net: Arc<Net>,
    dir: tempfile::TempDir,
    replica: Arc<Replica>,
    spreading: Option<Spreading>,
    heard: Arc<Heard>,
}

async fn open(net: &Arc<Net>, name: &str, dir: &Path, boot: u32) -> Arc<Replica> {
    let now = {
        let net = net.clone();
        move || net.now.load(Ordering::Relaxed)
    };
    let mut options = Options::new(vec!["token".into()], Arc::new(now));
    options.every = Duration::from_millis(300);
    let inner = Arc::new(Sqlite::open(dir).unwrap());
    Replica::open(inner, NodeId::new(name), BootId(boot), options).await.unwrap()
}

impl Node {
    async fn start(net: &Arc<Net>, name: &str) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let replica = open(net, name, dir.path(), 1).await;
        let heard = Arc::new(Heard::default());
        let mut node = Node { name: name.into(), net: net.clone(), dir, replica, spreading: None, heard };
        node.join();
        node
    }

    fn join(&mut self) {
        self.replica.set_hooks(self.heard.clone());
        self.net.up.lock().unwrap().insert(self.name.clone(), self.replica.clone());
        self.net.changed();
        let seen = Seen { me: self.name.clone(), net: self.net.clone() };
        self.spreading = Some(self.replica.spread(Arc::new(seen)));
    }

    async fn stop(&mut self) {
        self.spreading = None;
        self.net.up.lock().unwrap().remove(&self.name);
        self.net.changed();
        self.replica.close().await;
    }

    async fn restart(&mut self, boot: u32) {
        self.replica = open(&self.net, &self.name, self.dir.path(), boot).await;
        self.join();
    }

    fn heard(&self) -> Vec<String> {
        self.heard.0.lock().unwrap().clone()
    }

    /// All that is shared, as the store says.
    async fn all(&self) -> (Vec<(String, AppSettings)>, Vec<Broadcast>, Option<String>) {
        let apps: Vec<_> =
            self.replica.apps().await.unwrap().into_iter().map(|a| (a.name, a.settings)).collect();
        let mut broadcasts = Vec::new();
        for (app, _) in &apps {
            let mut offset = 0;
            loop {
                let query = ListQuery { offset, size: 250, ..ListQuery::default() };
                let some = self.replica.list_broadcasts(app, query).await.unwrap();
                offset += some.len();
                if some.is_empty() {
                    break;
                }
                broadcasts.extend(some);
            }
        }
        broadcasts.sort_by(|a, b| a.stream_id.cmp(&b.stream_id));
        (apps, broadcasts, self.replica.value("token").await.unwrap())
    }
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) -> Duration {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: not after a minute");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

async fn same(nodes: &[&Node]) {
    eventually("all know the same", || async {
        let first = nodes[0].replica.summary();
        nodes.iter().all(|n| n.replica.summary() == first)
    })
    .await;
}

fn named(id: &str) -> Broadcast {
    Broadcast { stream_id: id.into(), date: NOW, ..Broadcast::default() }
}

fn renamed(name: &str) -> BroadcastUpdate {
    BroadcastUpdate { name: Some(name.into()), ..BroadcastUpdate::default() }
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[tokio::test]
async fn it_is_a_store() {
    let node = Node::start(&Net::new(0), "n1").await;
    conformance::all(node.replica.as_ref()).await;
}

#[tokio::test]
async fn it_is_a_store_beside_another_node() {
    let net = Net::new(0);
    let (one, two) = (Node::start(&net, "n1").await, Node::start(&net, "n2").await);
    conformance::all(two.replica.as_ref()).await;
    same(&[&one, &two]).await;
    assert_eq!(one.replica.count_broadcasts("c-many", None).await.unwrap(), 260);
}

#[tokio::test]
async fn what_changes_on_one_node_is_soon_everywhere() {
    let net = Net::new(0);
    let nodes = [Node::start(&net, "n1").await, Node::start(&net, "n2").await, Node::start(&net, "n3").await];
    let [one, two, three] = &nodes;
    assert!(two.replica.caught_up(Duration::from_secs(10)).await);
    let mut changes = three.replica.changes();
    changes.mark_unchanged();

    assert!(one.replica.create_app("LiveApp", AppSettings::default()).await.unwrap());
    let mut b = named("s");
    b.name = Some("Eins".into());
    b.rtmp_url = Some("rtmp://given-out".into());
    one.replica.create_broadcast("LiveApp", b.clone()).await.unwrap();
    one.replica.set_value("token", "hash").await.unwrap();
    one.replica.set_value("own", "mine").await.unwrap();
    for node in [two, three] {
        let took = eventually("created", || async {
            node.replica.broadcast("LiveApp", "s").await.unwrap().is_some()
                && node.replica.value("token").await.unwrap().is_some()
        })
        .await;
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(node.replica.broadcast("LiveApp", "s").await.unwrap(), Some(b.clone()));
        assert_eq!(node.replica.app("LiveApp").await.unwrap().unwrap().settings, AppSettings::default());
        assert_eq!(node.replica.value("own").await.unwrap(), None, "not shared");
    }
    assert!(changes.has_changed().unwrap());

    changes.mark_unchanged();
    let version = two.replica.app("LiveApp").await.unwrap().unwrap().version;
    let settings = AppSettings { hls_time: "4".into(), ..AppSettings::default() };
    two.replica.set_app_settings("LiveApp", settings.clone(), version).await.unwrap();
    three.replica.update_broadcast("LiveApp", "s", renamed("Zwei")).await.unwrap();
    same(&[one, two, three]).await;
    for node in &nodes {
        assert_eq!(node.replica.app("LiveApp").await.unwrap().unwrap().settings, settings);
        let b = node.replica.broadcast("LiveApp", "s").await.unwrap().unwrap();
        assert_eq!(b.name.as_deref(), Some("Zwei"));
    }
    assert!(changes.has_changed().unwrap());

    one.replica.delete_broadcasts("LiveApp", &ids(&["s"])).await.unwrap();
    same(&[one, two, three]).await;
    assert!(one.replica.delete_app("LiveApp", true).await.unwrap());
    same(&[one, two, three]).await;
    assert_eq!(three.all().await, (vec![], vec![], Some("hash".into())));
    // It hears of it when it is stored, a moment after it is known.
    eventually("told of all", || async { three.heard().len() >= 3 }).await;
    assert_eq!(three.heard(), ["created LiveApp/s", "deleted LiveApp/s", "deleted app LiveApp"]);
    assert!(one.heard().is_empty(), "a node hears of others only");
}

#[tokio::test]
async fn live_streams_stay_with_their_node_and_their_outcome_is_told() {
    let net = Net::new(0);
    let (one, two) = (Node::start(&net, "n1").await, Node::start(&net, "n2").await);
    one.replica.create_broadcast("a", named("s")).await.unwrap();
    same(&[&one, &two]).await;
    let begin = |id: &str| BeginLive {
        stream_id: id.into(),
        node: "n2".into(),
        epoch: 1,
        now: NOW + 5,
        known: BroadcastUpdate { publish_type: Some("RTMP".into()), ..BroadcastUpdate::default() },
    };
    for id in ["s", "zombi"] {
        two.replica.begin_live("a", begin(id)).await.unwrap();
    }
    // A change made elsewhere leaves what is live alone.
    one.replica.update_broadcast("a", "s", renamed("Eins")).await.unwrap();
    same(&[&one, &two]).await;
    let live = two.replica.broadcast("a", "s").await.unwrap().unwrap();
    assert_eq!(
        (live.status, live.name.as_deref(), live.start_time),
        (Status::Broadcasting, Some("Eins"), NOW + 5)
    );
    let far = one.replica.broadcast("a", "s").await.unwrap().unwrap();
    assert_eq!((far.status, far.publish_type, far.start_time), (Status::Created, None, 0));
    assert_eq!(one.replica.broadcast("a", "zombi").await.unwrap(), None);

    // Somebody creates over REST what is live without a record: it becomes one.
    one.replica.create_broadcast("a", named("zombi")).await.unwrap();
    same(&[&one, &two]).await;
    let kept = two.replica.broadcast("a", "zombi").await.unwrap().unwrap();
    assert_eq!((kept.status, kept.zombi, kept.start_time), (Status::Broadcasting, false, NOW + 5));

    let last = BroadcastUpdate { duration: Some(77), ..BroadcastUpdate::default() };
    assert_eq!(two.replica.end_live("a", "s", 1, NOW + 82, last).await.unwrap(), Ended::Finished);
    same(&[&one, &two]).await;
    let far = one.replica.broadcast("a", "s").await.unwrap().unwrap();
    assert_eq!((far.status, far.duration, far.start_time), (Status::Finished, 77, NOW + 5));

    // Deleted elsewhere while it is live here.
    assert_eq!(one.replica.delete_broadcasts("a", &ids(&["zombi"])).await.unwrap(), ["zombi"]);
    same(&[&one, &two]).await;
    assert_eq!(two.replica.broadcast("a", "zombi").await.unwrap(), None);
    eventually("told that it is deleted", || async { two.heard().contains(&"deleted a/zombi".to_owned()) })
        .await;
}

#[tokio::test]
async fn settings_that_two_nodes_change_at_once_are_merged() {
    let net = Net::new(0);
    let (one, two) = (Node::start(&net, "n1").await, Node::start(&net, "n2").await);
    one.replica.create_app("a", AppSettings::default()).await.unwrap();
    same(&[&one, &two]).await;
    net.cut("n1", "n2");
    let change = async |node: &Node, set: &dyn Fn(&mut AppSettings)| {
        let app = node.replica.app("a").await.unwrap().unwrap();
        let mut settings = app.settings;
        set(&mut settings);
        node.replica.set_app_settings("a", settings.clone(), app.version).await.unwrap();
        let stale = node.replica.set_app_settings("a", settings, app.version).await;
        assert!(matches!(stale, Err(StoreError::Conflict { .. })), "compare-and-set stays");
    };
    change(&one, &|s| s.hls_time = "4".into()).await;
    change(&two, &|s| s.hls_list_size = "9".into()).await;
    change(&two, &|s| {
        s.other.insert("gopSize".into(), 30.into());
    })
    .await;
    change(&one, &|s| s.listener_hook_url = "http://one".into()).await;
    change(&two, &|s| s.listener_hook_url = "http://two".into()).await;
    net.heal();
    same(&[&one, &two]).await;
    for node in [&one, &two] {
        let s = node.replica.app("a").await.unwrap().unwrap().settings;
        assert_eq!(
            (s.hls_time.as_str(), s.hls_list_size.as_str(), &s.other["gopSize"]),
            ("4", "9", &30.into())
        );
        assert_eq!(s.listener_hook_url, "http://two", "the higher version stands");
    }
}

#[tokio::test]
async fn a_node_that_was_away_catches_up() {
    let net = Net::new(0);
    let (one, mut two) = (Node::start(&net, "n1").await, Node::start(&net, "n2").await);
    one.replica.create_app("a", AppSettings::default()).await.unwrap();
    for id in ["stays", "goes", "changes"] {
        one.replica.create_broadcast("a", named(id)).await.unwrap();
    }
    same(&[&one, &two]).await;
    two.stop().await;
    one.replica.delete_broadcasts("a", &ids(&["goes"])).await.unwrap();
    one.replica.create_broadcast("a", named("new")).await.unwrap();
    one.replica.update_broadcast("a", "changes", renamed("x")).await.unwrap();
    two.restart(2).await;
    assert!(two.replica.caught_up(Duration::from_secs(30)).await);
    same(&[&one, &two]).await;
    assert_eq!(two.all().await, one.all().await);
    assert_eq!(two.all().await.1.len(), 3);

    // One with an empty disk and its own defaults takes over what the others have set.
    let version = one.replica.app("a").await.unwrap().unwrap().version;
    let settings = AppSettings { hls_time: "6".into(), ..AppSettings::default() };
    one.replica.set_app_settings("a", settings.clone(), version).await.unwrap();
    net.cut("n1", "n3");
    net.cut("n2", "n3");
    let three = Node::start(&net, "n3").await;
    three
        .replica
        .create_app("a", AppSettings { hls_time: "3".into(), ..AppSettings::default() })
        .await
        .unwrap();
    assert!(!three.replica.caught_up(Duration::from_millis(50)).await);
    net.heal();
    same(&[&one, &two, &three]).await;
    assert_eq!(three.replica.app("a").await.unwrap().unwrap().settings, settings);
}

#[tokio::test]
async fn a_deletion_beats_a_stale_creation_until_it_is_forgotten() {
    let net = Net::new(0);
    let (one, mut two) = (Node::start(&net, "n1").await, Node::start(&net, "n2").await);
    one.replica.create_broadcast("a", named("s")).await.unwrap();
    same(&[&one, &two]).await;
    two.stop().await;
    one.replica.delete_broadcasts("a", &ids(&["s"])).await.unwrap();
    two.restart(2).await;
    same(&[&one, &two]).await;
    assert_eq!(two.replica.broadcast("a", "s").await.unwrap(), None);
    assert_eq!(two.replica.summary().0, 1, "the deletion is known");
    // It can be created again, on any node.
    two.replica.create_broadcast("a", named("s")).await.unwrap();
    same(&[&one, &two]).await;
    assert!(one.replica.broadcast("a", "s").await.unwrap().is_some());
    one.replica.delete_broadcasts("a", &ids(&["s"])).await.unwrap();
    same(&[&one, &two]).await;

    // A week later nobody knows of it, and nobody tells those who have forgotten.
    let (mut one, mut two) = (one, two);
    one.stop().await;
    net.now.fetch_add(8 * DAY, Ordering::Relaxed);
    one.restart(3).await;
    assert_eq!(one.replica.summary().0, 0);
    assert_eq!(two.replica.summary().0, 1);
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(one.replica.summary().0, 0);
    two.stop().await;
    two.restart(3).await;
    same(&[&one, &two]).await;
    assert_eq!(two.replica.summary().0, 0);
}

#[tokio::test]
async fn what_was_done_while_a_node_ran_alone_is_told() {
    let net = Net::new(0);
    let (one, mut two) = (Node::start(&net, "n1").await, Node::start(&net, "n2").await);
    one.replica.create_app("a", AppSettings::default()).await.unwrap();
    one.replica.create_app("gone", AppSettings::default()).await.unwrap();
    for id in ["stays", "goes", "changes"] {
        one.replica.create_broadcast("a", named(id)).await.unwrap();
    }
    same(&[&one, &two]).await;
    two.stop().await;
    {
        let alone = Sqlite::open(two.dir.path()).unwrap();
        let app = alone.app("a").await.unwrap().unwrap();
        let settings = AppSettings { hls_time: "5".into(), ..app.settings };
        alone.set_app_settings("a", settings, app.version).await.unwrap();
        alone.delete_app("gone", false).await.unwrap();
        alone.delete_broadcasts("a", &ids(&["goes"])).await.unwrap();
        alone.create_broadcast("a", named("new")).await.unwrap();
        alone.update_broadcast("a", "changes", renamed("x")).await.unwrap();
        alone.set_value("token", "hash").await.unwrap();
        alone.close().await;
    }
    two.restart(2).await;
    let at_two = two.all().await;
    same(&[&one, &two]).await;
    assert_eq!((one.all().await, two.all().await), (at_two.clone(), at_two.clone()));
    let (apps, broadcasts, token) = at_two;
    assert_eq!((apps.len(), apps[0].1.hls_time.as_str(), token.as_deref()), (1, "5", Some("hash")));
    let names: Vec<_> = broadcasts.iter().map(|b| (b.stream_id.as_str(), b.name.as_deref())).collect();
    assert_eq!(names, [("changes", Some("x")), ("new", None), ("stays", None)]);
}

#[tokio::test]
async fn thousands_of_broadcasts_come_over_in_bounded_messages() {
    const MANY: usize = 4000;
    let net = Net::new(0);
    let one = Node::start(&net, "n1").await;
    one.replica.create_app("a", AppSettings::default()).await.unwrap();
    let creating: Vec<_> = (0..MANY)
        .map(|i| {
            let replica = one.replica.clone();
            let meta = "x".repeat(500);
            let b = Broadcast { meta_data: Some(meta), ..named(&format!("s{i}")) };
            tokio::spawn(async move { replica.create_broadcast("a", b).await })
        })
        .collect();
    for created in creating {
        created.await.unwrap().unwrap();
    }
    let two = Node::start(&net, "n2").await;
    same(&[&one, &two]).await;
    assert_eq!(two.replica.count_broadcasts("a", None).await.unwrap(), MANY as u64);
    let largest = net.largest.load(Ordering::Relaxed);
    assert!(largest > BODY_LIMIT / 4 && largest <= BODY_LIMIT, "{largest} bytes");

    // At rest the comparison is one small request each way.
    net.largest.store(0, Ordering::Relaxed);
    net.requests.store(0, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let (largest, requests) = (net.largest.load(Ordering::Relaxed), net.requests.load(Ordering::Relaxed));
    assert!(largest < 8192 && (2..=10).contains(&requests), "{largest} bytes, {requests} requests");
    assert_eq!(two.all().await, one.all().await);
}

async fn post(node: &Node, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let request = Request::post(path).header("content-type", "application/json").body(body.into()).unwrap();
    let answer = routes(node.replica.clone()).oneshot(request).await.unwrap();
    let (head, body) = answer.into_parts();
    (head.status, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn bad_records_are_refused_with_a_reason_and_block_no_others() {
    let node = Node::start(&Net::new(0), "n1").await;
    let stamp = |n: u64| serde_json::json!([n, "n9", 1]);
    let app = |name: &str, field: &str, value: serde_json::Value| {
        let fields = serde_json::json!({ field: { "v": value, "s": stamp(1) } });
        serde_json::json!({"record": {"name": name, "alive": true, "fields": fields, "seen": {"n9": 1}}})
    };
    let body = serde_json::json!({"records": [
        app("app/good", "hlsTime", "4".into()),
        app("app/typed", "hlsMuxingEnabled", "perhaps".into()),
        app("app/../etc", "hlsTime", "4".into()),
        app("value/own", "value", "x".into()),
        app("value/token", "value", 7.into()),
        app("broadcast/a/live", "status", "broadcasting".into()),
        {"record": {"name": "app/far", "alive": true, "seen": {"n9": u64::MAX}}},
        null,
        app("app/unusable", "hlsTime", "soon".into()),
        app("broadcast/a/s", "name", "Eins".into()),
    ]});
    let (status, answer) = post(&node, PUSH, body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let refused: Vec<_> =
        answer["refused"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(
        refused,
        ["app/typed", "app/../etc", "value/own", "value/token", "broadcast/a/live", "app/far", "a record"]
    );
    assert!(answer["refused"].as_array().unwrap().iter().all(|r| r["reason"].as_str().unwrap().len() > 20));
    let apps: Vec<_> =
        node.replica.apps().await.unwrap().into_iter().map(|a| (a.name, a.settings.hls_time)).collect();
    assert_eq!(apps, [("good".into(), "4".into()), ("unusable".to_owned(), "2".to_owned())]);
    assert!(node.replica.broadcast("a", "s").await.unwrap().is_some());

    for path in [PUSH, PULL] {
        assert_eq!(post(&node, path, "nonsense").await.0, StatusCode::BAD_REQUEST);
        assert_eq!(post(&node, path, vec![b' '; BODY_LIMIT + 1]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    }
}

/// Nodes do things at random while requests are lost, links cut and nodes restarted; in the end all have the same.
async fn random_run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let net = Net::new(seed ^ 0xabcd);
    net.loss.store(random.random_range(0..300), Ordering::Relaxed);
    let mut nodes = Vec::new();
    for i in 0..random.random_range(2..5) {
        nodes.push(Node::start(&net, &format!("n{i}")).await);
    }
    let (count, mut epoch) = (nodes.len(), 0);
    for step in 0..random.random_range(20..120u32) {
        let i = random.random_range(0..count);
        let id = format!("s{}", random.random_range(0..6));
        let app = ["a", "b"][random.random_range(0..2)];
        let r = nodes[i].replica.clone();
        match random.random_range(0..18) {
            0 => drop(r.create_app(app, AppSettings::default()).await.unwrap()),
            1..4 => match r.create_broadcast(app, named(&id)).await {
                Ok(()) | Err(StoreError::Exists(_)) => {}
                Err(e) => panic!("{e}"),
            },
            4..6 => drop(r.update_broadcast(app, &id, renamed(&format!("at {step}"))).await.unwrap()),
            6 => {
                let update =
                    BroadcastUpdate { description: Some(format!("{step}")), ..BroadcastUpdate::default() };
                drop(r.update_broadcast(app, &id, update).await.unwrap());
            }
            7..9 => drop(r.delete_broadcasts(app, &[id]).await.unwrap()),
            9..11 => {
                if let Some(found) = r.app(app).await.unwrap() {
                    let mut settings = found.settings;
                    match random.random_range(0..4) {
                        0 => settings.hls_list_size = random.random_range(5..50).to_string(),
                        1 => settings.hls_time = random.random_range(1..5).to_string(),
                        2 => settings.hls_part_duration = format!("0.{}", random.random_range(2..9)),
                        _ => drop(settings.other.insert("gopSize".into(), step.into())),
                    }
                    match r.set_app_settings(app, settings, found.version).await {
                        // Another node's change came between.
                        Ok(_) | Err(StoreError::Conflict { .. } | StoreError::NotFound(_)) => {}
                        Err(e) => panic!("{e}"),
                    }
                }
            }
            11 => drop(r.delete_app(app, random.random()).await.unwrap()),
            12 => r.set_value("token", &step.to_string()).await.unwrap(),
            13 => {
                let other = (i + 1) % count;
                net.cut(&nodes[i].name, &nodes[other].name);
            }
            14 => net.heal(),
            15 => {
                epoch += 1;
                let known = BroadcastUpdate::default();
                let begin = BeginLive { stream_id: id, node: nodes[i].name.clone(), epoch, now: NOW, known };
                r.begin_live(app, begin).await.unwrap();
            }
            16 => {
                let last = BroadcastUpdate { duration: Some(step.into()), ..BroadcastUpdate::default() };
                r.end_live(app, &id, epoch, NOW + i64::from(step), last).await.unwrap();
            }
            _ => {
                nodes[i].stop().await;
                nodes[i].restart(step + 2).await;
            }
        }
        if random.random_range(0..4) == 0 {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        }
    }
    for node in &nodes {
        node.replica.recover(&node.name, NOW + 1000).await.unwrap();
    }
    net.heal();
    net.loss.store(0, Ordering::Relaxed);
    let all: Vec<&Node> = nodes.iter().collect();
    same(&all).await;
    let (first, summary) = (nodes[0].all().await, nodes[0].replica.summary());
    for node in &nodes {
        assert_eq!(node.all().await, first);
    }
    // The store says what the notes say: nothing is found to be noted at a start.
    for node in &mut nodes {
        node.stop().await;
        let again = open(&net, &node.name, node.dir.path(), 999).await;
        assert_eq!(again.summary(), summary);
        again.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_all_end_with_the_same() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seeds = match number("SLUICE_TEST_REPLICA_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = rand::random_range(0..1 << 40);
            first..first + number("SLUICE_TEST_REPLICA_RUNS").unwrap_or(12)
        }
    };
    for seed in seeds {
        let run = tokio::spawn(random_run(seed)).await;
        assert!(run.is_ok(), "repeat it with SLUICE_TEST_REPLICA_SEED={seed}");
    }
}
