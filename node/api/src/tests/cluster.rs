//! Three nodes, of which `n1` is real: what it asks of the others, and what it answers for them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use http::Response;
use sluice_media::session::Protocol;
use sluice_media::stats::ViewerGuard;

use super::*;
use crate::cluster::{
    CarrierPlace, ClusterHealth, Counter, ForwardError, Forwarded, NodeView, RemoveError, StreamPlace,
    ViewerCounts,
};

#[derive(Default)]
struct Cluster {
    places: Mutex<Vec<StreamPlace>>,
    /// Answers by node; the others cannot be reached.
    answers: Mutex<BTreeMap<&'static str, Value>>,
    /// `node METHOD uri body`
    asked: Mutex<Vec<String>>,
    away: AtomicBool,
    /// The nodes share no database.
    apart: AtomicBool,
}

#[async_trait]
impl ClusterView for Cluster {
    fn nodes(&self) -> Vec<NodeView> {
        let node = |id: &str, role: &str, alive| NodeView {
            id: id.into(),
            host: format!("{id}.example"),
            role: role.into(),
            alive,
            reachable: alive,
            heard: Duration::from_secs(if alive { 1 } else { 60 }),
            cpu_percent: 12.4,
            memory_percent: 50.0,
            memory_total: 8 << 30,
            store_ms: 3.6,
            ..Default::default()
        };
        vec![node("n1", "both", true), node("n2", "origin", true), node("n3", "edge", false)]
    }

    fn streams(&self) -> Vec<StreamPlace> {
        self.places.lock().unwrap().clone()
    }

    fn stream(&self, app: &str, id: &str) -> Option<StreamPlace> {
        self.streams().into_iter().find(|p| p.app == app && p.id == id)
    }

    async fn forward(&self, node: &str, request: Request<Bytes>) -> Result<Response<Bytes>, ForwardError> {
        let body = String::from_utf8_lossy(request.body()).into_owned();
        let asked = format!("{node} {} {} {body}", request.method(), request.uri());
        self.asked.lock().unwrap().push(asked.trim_end().to_owned());
        match self.answers.lock().unwrap().get(node) {
            Some(answer) => Ok(Response::builder()
                .header("content-type", "application/json")
                .header("x-inner", "not for clients")
                .body(answer.to_string().into())
                .unwrap()),
            None => Err(ForwardError::Unreachable { node: node.into(), why: "no route".into() }),
        }
    }

    async fn remove_node(&self, node: &str) -> Result<bool, RemoveError> {
        match node {
            "n3" => Ok(true),
            "n1" | "n2" => Err(RemoveError::Alive(node.into())),
            _ => Ok(false),
        }
    }

    fn health(&self) -> ClusterHealth {
        let store_away = self.away.load(Relaxed).then(|| Duration::from_millis(1500));
        let mode = if self.apart.load(Relaxed) { "static" } else { "mongodb" };
        ClusterHealth { mode, store_away }
    }

    fn counters(&self) -> Vec<Counter> {
        vec![Counter { name: "relay_frames_in_total", help: "Frames from other nodes.", value: 42 }]
    }
}

fn place(id: &str, owner: Option<&str>, hls: u64, carriers: &[(&str, u64)]) -> StreamPlace {
    StreamPlace {
        app: "LiveApp".into(),
        id: id.into(),
        epoch: 1 << 32,
        owner: owner.map(Into::into),
        bitrate: 4_000_000,
        viewers: ViewerCounts { hls, rtmp: 1, webrtc: 0 },
        carriers: carriers
            .iter()
            .map(|(node, hls)| CarrierPlace {
                node: (*node).into(),
                path: owner.map(Into::into).into_iter().collect(),
                viewers: ViewerCounts { hls: *hls, rtmp: 0, webrtc: 0 },
            })
            .collect(),
        ..Default::default()
    }
}

async fn fixture(places: Vec<StreamPlace>) -> (Fixture, Arc<Cluster>) {
    let cluster = Arc::new(Cluster { places: places.into(), ..Default::default() });
    (Fixture::of(Some(cluster.clone())).await, cluster)
}

impl Cluster {
    fn answers(&self, node: &'static str, answer: Value) {
        self.answers.lock().unwrap().insert(node, answer);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[tokio::test]
async fn the_owner_answers_for_its_streams() {
    let (f, cluster) = fixture(vec![place("far", Some("n2"), 3, &[])]).await;
    f.create(json!({"streamId": "far"})).await;
    f.create(json!({"streamId": "near"})).await;
    let far = "/LiveApp/rest/v2/broadcasts/far";
    cluster.answers("n2", json!({"success": true, "message": "from n2"}));

    let read = f.get(far).await;
    assert!(!read.headers.contains_key("x-inner"));
    assert_eq!(read.ok()["message"], "from n2");
    let headers = [("authorization", TOKEN), ("content-type", "application/json")];
    f.send("PUT", far, LOCAL, &headers, Body::from(r#"{"name":"x"}"#)).await.ok();
    f.call("DELETE", far, Value::Null).await.ok();
    f.call("POST", &format!("{far}/stop?a=b"), Value::Null).await.ok();
    let asked = cluster.asked();
    let want = [
        "n2 GET /LiveApp/rest/v2/broadcasts/far",
        "n2 PUT /LiveApp/rest/v2/broadcasts/far {\"name\":\"x\"}",
        "n2 DELETE /LiveApp/rest/v2/broadcasts/far",
        "n2 POST /LiveApp/rest/v2/broadcasts/far/stop?a=b",
    ];
    assert_eq!(asked, want);
    f.get("/LiveApp/rest/v2/broadcasts/near").await.ok();
    assert!(cluster.asked().is_empty(), "it is live nowhere");

    // Strangers do not get as far as the owner.
    assert_eq!(f.send("DELETE", far, REMOTE, &[], Body::empty()).await.status, 403);
    assert!(cluster.asked().is_empty());

    let both = f.call("DELETE", "/LiveApp/rest/v2/broadcasts?ids=far,near", Value::Null).await.ok();
    assert_eq!(both["success"], true, "{both}");
    assert_eq!(cluster.asked(), ["n2 DELETE /LiveApp/rest/v2/broadcasts/far"]);
}

#[tokio::test]
async fn an_owner_that_is_away() {
    let (f, cluster) = fixture(vec![place("far", Some("n2"), 3, &[("n3", 4)])]).await;
    f.create(json!({"streamId": "far"})).await;
    let far = "/LiveApp/rest/v2/broadcasts/far";
    let read = f.get(far).await.ok();
    assert_eq!((&read["status"], &read["hlsViewerCount"]), (&json!("broadcasting"), &json!(7)));
    assert_eq!(f.call("PUT", far, json!({"name": "x"})).await.ok()["success"], true);
    assert_eq!(f.get(far).await.ok()["name"], "x");
    for (method, uri) in [("DELETE", far.to_owned()), ("POST", format!("{far}/stop"))] {
        let answer = f.call(method, &uri, Value::Null).await.ok();
        assert_eq!(answer["success"], false);
        assert!(answer["message"].as_str().unwrap().contains("n2"), "{answer}");
    }
    let many = f.call("DELETE", "/LiveApp/rest/v2/broadcasts?ids=far", Value::Null).await.ok();
    assert!(many["message"].as_str().unwrap().contains("cannot be reached"), "{many}");
    assert!(f.store.broadcast("LiveApp", "far").await.unwrap().is_some());
    assert_eq!(cluster.asked().len(), 6);
}

#[tokio::test]
async fn what_comes_over_the_cluster_port_is_let_in_and_answered_here() {
    let (f, cluster) = fixture(vec![place("far", Some("n2"), 3, &[])]).await;
    f.create(json!({"streamId": "far"})).await;
    for uri in ["/LiveApp/rest/v2/broadcasts/far", "/rest/v2/live-streams", "/rest/v2/applications"] {
        let send = |forwarded: bool| {
            let mut request = Request::builder().uri(uri).body(Body::empty()).unwrap();
            request.extensions_mut().insert(ConnectInfo(REMOTE.parse::<SocketAddr>().unwrap()));
            if forwarded {
                request.extensions_mut().insert(Forwarded);
            }
            f.router.clone().oneshot(request)
        };
        assert_eq!(send(true).await.unwrap().status(), 200, "{uri}");
        assert_eq!(send(false).await.unwrap().status(), 403, "{uri}");
    }
    assert!(cluster.asked().is_empty());
    let uri = "/rest/v2/cluster/node/n2/drain";
    let mut request = Request::builder().method("POST").uri(uri).body(Body::empty()).unwrap();
    request.extensions_mut().insert(Forwarded);
    f.router.clone().oneshot(request).await.unwrap();
    assert!(cluster.asked().is_empty() && !f.node.draining.load(Relaxed), "it is not n2");
}

#[tokio::test]
async fn lists_and_counts_are_of_the_whole_cluster() {
    let near = place("near", Some("n1"), 100, &[("n2", 5)]);
    let far = place("far", Some("n2"), 3, &[("n1", 100), ("n3", 4)]);
    let lost = place("lost", None, 0, &[("n3", 2)]);
    let (f, cluster) = fixture(vec![near, far, lost]).await;
    for id in ["far", "lost"] {
        f.create(json!({"streamId": id, "name": id.to_uppercase()})).await;
    }
    let publisher = f.publish("near").await;
    let _viewer = ViewerGuard::new(publisher.stream().stats().clone(), Protocol::Hls);

    let list = f.get("/LiveApp/rest/v2/broadcasts/list/0/9?sort_by=name").await.ok();
    let shown = |id: &str| list.as_array().unwrap().iter().find(|b| b["streamId"] == id).unwrap().clone();
    assert_eq!(
        (&shown("far")["status"], &shown("far")["bitrate"]),
        (&json!("broadcasting"), &json!(4_000_000))
    );
    assert_eq!((&shown("far")["hlsViewerCount"], &shown("far")["rtmpViewerCount"]), (&json!(7), &json!(1)));
    assert_eq!(shown("near")["hlsViewerCount"], 6, "its own count, not what it told the others of it before");
    assert_eq!(
        (&shown("lost")["status"], &shown("lost")["anyoneWatching"]),
        (&json!("created"), &json!(false))
    );

    let count = f.get("/LiveApp/rest/v2/broadcasts/active-live-stream-count").await.ok();
    assert_eq!(count, json!({"number": 2}));
    let total = f.get("/LiveApp/rest/v2/broadcasts/total-broadcast-statistics").await.ok();
    assert_eq!((&total["activeLiveStreamCount"], &total["totalHLSWatchersCount"]), (&json!(2), &json!(13)));
    let one = f.get("/LiveApp/rest/v2/broadcasts/far/broadcast-statistics").await.ok();
    assert_eq!((&one["totalHLSWatchersCount"], &one["totalRTMPWatchersCount"]), (&json!(7), &json!(1)));
    assert!(cluster.asked().is_empty(), "no node had to be asked");
    assert_eq!(f.get("/rest/v2/applications-info").await.ok()[0]["liveStreamCount"], 2);
    let resources = f.get("/rest/v2/system-resources").await.ok();
    assert_eq!((&resources["totalLiveStreamSize"], &resources["localLiveStreams"]), (&json!(2), &json!(1)));

    let ids = |list: Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|s| format!("{}@{}", s["streamId"], s["node"])).collect()
    };
    let live = f.get("/rest/v2/live-streams").await.ok();
    assert_eq!(
        (&live[0]["name"], &live[0]["hlsViewerCount"]),
        (&json!("FAR"), &json!(7)),
        "n2 does not answer"
    );
    assert_eq!(ids(live), ["\"far\"@\"n2\"", "\"near\"@\"n1\""]);
    let told = json!({"app": "LiveApp", "streamId": "far", "node": "n2", "videoCodec": "H264"});
    let other = json!({"app": "LiveApp", "streamId": "near", "node": "n2", "videoCodec": "AV1"});
    cluster
        .answers("n2", json!([told, other, 7, {"app": "LiveApp", "streamId": "unheard-of", "node": "n2"}]));
    let live = f.get("/rest/v2/live-streams").await.ok();
    assert_eq!((&live[0], &live[1]["videoCodec"]), (&told, &json!("VP8")));
    assert_eq!(ids(live), ["\"far\"@\"n2\"", "\"near\"@\"n1\""]);
    publisher.finish();
}

#[tokio::test]
async fn a_relayed_stream_is_not_this_nodes_own() {
    let (f, cluster) = fixture(vec![place("far", Some("n2"), 3, &[("n1", 0)])]).await;
    f.create(json!({"streamId": "far"})).await;
    let key = StreamKey::new("LiveApp", "far");
    let mirror = f.hub.mirror(key, Origin::default(), StreamSettings::default()).unwrap();
    let _viewer = ViewerGuard::new(mirror.stream().stats().clone(), Protocol::Hls);
    let metrics = f.get("/metrics").await;
    for line in ["sluice_streams 0", "sluice_streams_relayed 1", "sluice_streams_started_total 0"] {
        assert!(metrics.text().lines().any(|l| l == line), "{line}\n{}", metrics.text());
    }
    let live = f.get("/rest/v2/live-streams").await.ok();
    assert_eq!((&live[0]["node"], &live[0]["hlsViewerCount"]), (&json!("n2"), &json!(4)));
    assert_eq!(f.get("/rest/v2/system-resources").await.ok()["localHLSViewers"], 1);
    cluster.asked();
    cluster.answers("n2", json!({"success": true}));
    f.call("POST", "/LiveApp/rest/v2/broadcasts/far/stop", Value::Null).await.ok();
    assert_eq!(cluster.asked(), ["n2 POST /LiveApp/rest/v2/broadcasts/far/stop"]);

    // Its owner is lost: there is nobody to stop, and the relay waits for the next one.
    *cluster.places.lock().unwrap() = vec![place("far", None, 0, &[("n1", 0)])];
    let stop = f.call("POST", "/LiveApp/rest/v2/broadcasts/far/stop", Value::Null).await.ok();
    assert_eq!(stop["success"], false);
    let left = tokio::time::timeout(Duration::from_millis(50), mirror.stop_requested()).await;
    assert!(left.is_err(), "{left:?}");
    mirror.finish();
}

#[tokio::test]
async fn members_in_the_shape_of_ams() {
    let (f, _) = fixture(vec![place("far", Some("n2"), 3, &[])]).await;
    let mode = f.get("/rest/v2/cluster-mode-status").await.ok();
    assert_eq!((&mode["success"], &mode["dataId"]), (&json!(true), &json!("mongodb")));
    let nodes = f.get("/rest/v2/cluster/nodes/0/10").await.ok();
    let want = json!({"id": "n1", "ip": "n1.example", "memory": "4096/8192", "cpu": "12",
        "dbQueryAveargeTimeMs": 4, "status": "alive", "role": "both", "draining": false, "this": true});
    for (key, value) in want.as_object().unwrap() {
        assert_eq!(&nodes[0][key], value, "{key}");
    }
    assert_eq!((&nodes[2]["id"], &nodes[2]["status"]), (&json!("n3"), &json!("dead")));
    let ago =
        crate::state::millis(std::time::SystemTime::now()) - nodes[2]["lastUpdateTime"].as_i64().unwrap();
    assert!((59_000..62_000).contains(&ago), "{ago}");
    for (uri, ids) in [
        ("/rest/v2/cluster/nodes/1/1", "n2"),
        ("/rest/v2/cluster/nodes/2/9", "n3"),
        ("/rest/v2/cluster/nodes/-1/1", "n1"),
        ("/rest/v2/cluster/nodes/9/9", ""),
        ("/rest/cluster/nodes/0/2", "n1 n2"),
        ("/LiveApp/rest/v2/cluster/nodes", "n1 n2 n3"),
    ] {
        let nodes = f.get(uri).await.ok();
        let found: Vec<_> = nodes.as_array().unwrap().iter().map(|n| n["id"].as_str().unwrap()).collect();
        assert_eq!(found.join(" "), ids, "{uri}");
    }
    assert_eq!(f.get("/rest/v2/cluster/nodes/a/1").await.status, 404);
    for uri in ["/rest/v2/cluster/node-count", "/rest/cluster/node-count"] {
        assert_eq!(f.get(uri).await.ok(), json!({"number": 3}));
    }
    assert_eq!(f.get("/rest/v2/cluster/streams").await.ok()[0]["owner"], "n2");
    assert_eq!(f.send("GET", "/rest/v2/cluster/nodes/0/9", REMOTE, &[], Body::empty()).await.status, 403);
    assert_eq!(f.send("GET", "/LiveApp/rest/v2/cluster/nodes", REMOTE, &[], Body::empty()).await.status, 403);
}

#[tokio::test]
async fn nodes_are_removed_and_drained() {
    let (f, cluster) = fixture(vec![]).await;
    for (method, uri, success) in [
        ("DELETE", "/rest/v2/cluster/node/n3", true),
        ("DELETE", "/rest/v2/cluster/node/n2", false),
        ("DELETE", "/rest/v2/cluster/node/none", false),
        ("GET", "/rest/cluster/deleteNode/n3", true),
    ] {
        let answer = f.call(method, uri, Value::Null).await.ok();
        assert_eq!(answer["success"], success, "{method} {uri}: {answer}");
    }
    let elsewhere = [("sec-fetch-site", "cross-site")];
    let lured = f.send("GET", "/rest/cluster/deleteNode/n3", LOCAL, &elsewhere, Body::empty()).await;
    assert_eq!(lured.status, 403);

    let own = "/rest/v2/cluster/node/n1/drain";
    assert_eq!(f.get(own).await.ok(), json!({"draining": false}));
    let wrong = f.call("POST", own, json!({"deadline": "soon"})).await;
    assert!(wrong.status == 400 && !f.node.draining.load(Relaxed));
    let order = json!({"deadline": "30m", "acceptFor": "5s", "reason": "new disk"});
    let answer = f.call("POST", own, order.clone()).await.ok();
    assert!(answer["success"] == true && answer["message"].as_str().unwrap().contains("1800 s"), "{answer}");
    assert_eq!(
        f.get(own).await.ok(),
        json!({"draining": true, "by": "rest", "reason": "new disk", "since": 1, "refusesIn": 5, "deadlineIn": 1800,
               "waitingPublishers": 2, "waitingViewers": 3})
    );
    assert_eq!(f.get("/readyz").await.ok()["draining"], true);
    assert_eq!(f.call("DELETE", own, Value::Null).await.ok()["success"], true);
    assert!(!f.node.draining.load(Relaxed) && cluster.asked().is_empty());
    let answer = f.call("POST", "/rest/v2/cluster/node/n2/drain", Value::Null).await.ok();
    assert!(answer["message"].as_str().unwrap().contains("n2"), "{answer}");
    cluster.answers("n2", json!({"success": true}));
    let answer = f.call("DELETE", "/rest/v2/cluster/node/n2/drain", Value::Null).await.ok();
    assert_eq!(answer["success"], true);
    f.call("POST", "/rest/v2/cluster/node/n2/drain", order.clone()).await.ok();
    f.get("/rest/v2/cluster/node/n2/drain").await.ok();
    let with_body = format!("POST /rest/v2/cluster/node/n2/drain {order}");
    let [post, delete, get] =
        ["POST", "DELETE", "GET"].map(|method| format!("n2 {method} /rest/v2/cluster/node/n2/drain"));
    assert_eq!(cluster.asked(), [post, delete, format!("n2 {with_body}"), get]);
}

#[tokio::test]
async fn the_store_away_is_told_and_cuts_nothing() {
    let (f, cluster) = fixture(vec![]).await;
    cluster.away.store(true, Relaxed);
    let report = f.get("/readyz").await.ok();
    assert_eq!(report["store"], json!({"answers": false, "awayMs": 1500}));
    assert_eq!(report["cluster"], json!({"mode": "mongodb", "alive": 2, "dead": 1}));
    assert_eq!(
        f.get("/acceptz").await.status,
        200,
        "whether publishers are let in then is a setting of the node"
    );
    let metrics = f.get("/metrics").await;
    for line in [
        "sluice_cluster_members{state=\"alive\"} 2",
        "sluice_cluster_members{state=\"dead\"} 1",
        "sluice_relay_frames_in_total 42",
        "sluice_store_away_seconds 1.5",
        "sluice_accepting 1",
        "sluice_streams_relayed 0",
    ] {
        assert!(metrics.text().lines().any(|l| l == line), "{line}\n{}", metrics.text());
    }
}

#[tokio::test]
async fn what_needs_no_store_is_done_without_it() {
    let (f, cluster) = fixture(vec![place("far", Some("n2"), 3, &[])]).await;
    let publisher = f.publish("cam1").await;
    f.store.close().await;
    cluster.away.store(true, Relaxed);
    let live = f.get("/rest/v2/live-streams").await.ok();
    assert_eq!((&live[0]["streamId"], &live[1]["node"]), (&json!("cam1"), &json!("n2")));
    let count = f.get("/LiveApp/rest/v2/broadcasts/active-live-stream-count").await.ok();
    assert_eq!(count, json!({"number": 2}));
    let one = f.get("/LiveApp/rest/v2/broadcasts/far/broadcast-statistics").await.ok();
    assert_eq!(one["totalHLSWatchersCount"], 3);
    let stop = f.call("POST", "/LiveApp/rest/v2/broadcasts/cam1/stop", Value::Null).await.ok();
    assert_eq!(stop["success"], true);
    publisher.stop_requested().await;
    assert_eq!(f.get("/LiveApp/rest/v2/broadcasts/cam1").await.status, 503, "its record is needed");
    assert_eq!(
        f.send("GET", "/LiveApp/rest/v2/broadcasts/count", REMOTE, &[], Body::empty()).await.status,
        403
    );
}

#[tokio::test]
async fn without_a_database_owners_tell_of_their_streams() {
    let places = ["made", "came", "silent"]
        .map(|id| place(id, Some(if id == "silent" { "n3" } else { "n2" }), 3, &[]));
    let (f, cluster) = fixture(places.into()).await;
    cluster.apart.store(true, Relaxed);
    for id in ["made", "old"] {
        f.create(json!({"streamId": id, "name": id})).await;
    }
    cluster.answers(
        "n2",
        json!([
            {"streamId": "made", "speed": 1.0}, {"streamId": "came", "speed": 1.0}, {"streamId": "unasked"}, 7
        ]),
    );
    let list = "/LiveApp/rest/v2/broadcasts/list";
    let shown = |list: Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|b| format!("{} {}", b["streamId"], b["speed"])).collect()
    };
    let all = ["\"made\" 1.0", "\"old\" 0.0", "\"came\" 1.0", "\"silent\" 0.0"];
    assert_eq!(shown(f.get(&format!("{list}/0/50")).await.ok()), all);
    let mut asked = cluster.asked();
    asked.sort();
    assert_eq!(
        asked,
        [
            "n2 GET /LiveApp/rest/v2/broadcasts/list/0/250?ids=made,came",
            "n3 GET /LiveApp/rest/v2/broadcasts/list/0/250?ids=silent",
        ]
    );
    for (query, want) in [
        ("0/1", &all[..1]),
        ("1/2", &all[1..3]),
        ("2/1", &all[2..3]),
        ("3/9", &all[3..]),
        ("4/9", &[]),
        ("0/9?search=ame", &all[2..3]),
        ("0/9?type_by=VoD", &[]),
        ("2/9?type_by=liveStream", &all[2..]),
        ("0/9?sort_by=name&order_by=desc", &[all[1], all[0], all[2], all[3]]),
        ("0/9?ids=old,none", &all[1..2]),
    ] {
        assert_eq!(shown(f.get(&format!("{list}/{query}")).await.ok()), want, "{query}");
    }
    let number = |uri: &'static str| {
        let f = &f;
        async move { f.get(uri).await.ok()["number"].as_u64().unwrap() }
    };
    assert_eq!(number("/LiveApp/rest/v2/broadcasts/count").await, 4);
    assert_eq!(number("/LiveApp/rest/v2/broadcasts/count/M").await, 2);
    let silent = f.get("/LiveApp/rest/v2/broadcasts/silent").await.ok();
    assert_eq!((&silent["status"], &silent["hlsViewerCount"]), (&json!("broadcasting"), &json!(3)));
    // To other nodes it tells what is here.
    cluster.asked();
    let mut request = Request::builder().uri(format!("{list}/0/50")).body(Body::empty()).unwrap();
    request.extensions_mut().insert(Forwarded);
    let answer = f.router.clone().oneshot(request).await.unwrap();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap().as_array().unwrap().len(), 2);
    assert!(cluster.asked().is_empty());
}

#[tokio::test]
async fn the_others_are_told_of_a_deleted_app() {
    let (f, cluster) = fixture(vec![]).await;
    cluster.answers("n2", json!({"success": true}));
    f.call("DELETE", "/rest/v2/applications/LiveApp", Value::Null).await.ok();
    assert_eq!(cluster.asked(), ["n2 DELETE /rest/v2/applications/LiveApp"], "n3 is dead");

    // The other side: the app is deleted already, its streams here are not yet.
    let publisher = f.publish("cam1").await;
    let uri = "/rest/v2/applications/LiveApp";
    let mut request = Request::builder().method("DELETE").uri(uri).body(Body::empty()).unwrap();
    request.extensions_mut().insert(Forwarded);
    f.router.clone().oneshot(request).await.unwrap();
    let reason = tokio::time::timeout(Duration::from_secs(1), publisher.stop_requested()).await.unwrap();
    assert_eq!(reason, sluice_media::StopReason::Deleted);
    assert!(cluster.asked().is_empty());
}

#[tokio::test]
async fn a_node_alone_says_so() {
    let f = Fixture::new().await;
    assert_eq!(f.get("/rest/v2/cluster-mode-status").await.ok()["success"], false);
    assert_eq!(f.get("/rest/v2/cluster/node-count").await.ok(), json!({"number": 0}));
    for uri in ["/rest/v2/cluster/nodes/0/9", "/rest/v2/cluster/streams", "/LiveApp/rest/v2/cluster/nodes"] {
        assert_eq!(f.get(uri).await.ok(), json!([]), "{uri}");
    }
    let own = "/rest/v2/cluster/node/n1/drain";
    assert_eq!(f.call("POST", own, Value::Null).await.ok()["success"], true);
    assert_eq!(f.get("/acceptz").await.status, 503, "a node alone can be drained too");
    assert_eq!(f.call("DELETE", own, Value::Null).await.ok()["success"], true);
    assert_eq!(f.get("/acceptz").await.status, 200);
    for (method, uri) in [("DELETE", "/rest/v2/cluster/node/n1"), ("POST", "/rest/v2/cluster/node/n2/drain")]
    {
        let answer = f.call(method, uri, Value::Null).await.ok();
        assert!(answer["message"].as_str().unwrap().contains("alone"), "{answer}");
    }
    assert_eq!(f.get("/rest/v2/live-streams").await.ok(), json!([]));
}
