//! The router as a client meets it: requests in, answers out, over a real store and hub.

mod calls;
mod cluster;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use sluice_media::{
    AudioConfig, Frame, Hub, Origin, StreamKey, StreamSettings, Timestamp, TrackConfig, VideoConfig,
};
use sluice_store::{App, AppSettings, BeginLive, BroadcastUpdate, Sqlite, Status, Store};
use tower::ServiceExt;

use crate::cluster::ClusterView;
use crate::{AdminToken, ApiSettings, ApiState, Calls, DrainState, DrainWish, NodeStatus, Traffic, router};

const LOCAL: &str = "127.0.0.1:4000";
const REMOTE: &str = "203.0.113.9:4000";
const TOKEN: &str = "Bearer the-token";

#[derive(Debug, Default)]
struct Node {
    stopping: AtomicBool,
    draining: AtomicBool,
    wish: Mutex<DrainWish>,
    changes: AtomicU64,
    looks: AtomicU64,
}

impl Calls for Node {
    fn check_source(&self, url: &str) -> Result<(), String> {
        if url.starts_with("whep") { Ok(()) } else { Err("only whep can be pulled".into()) }
    }

    fn check_endpoint(&self, url: &str) -> Result<(), String> {
        if url.starts_with("whip") { Ok(()) } else { Err("only whip can be pushed to".into()) }
    }

    fn look_again(&self) {
        self.looks.fetch_add(1, Relaxed);
    }

    fn push_status(&self, _: &StreamKey, _: &str) -> Option<Status> {
        Some(Status::Broadcasting)
    }
}

#[async_trait]
impl NodeStatus for Node {
    fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Relaxed) { Err("the node is stopping".into()) } else { Ok(()) }
    }

    fn accepts(&self) -> Result<(), String> {
        if self.draining.load(Relaxed) { Err("the node is draining".into()) } else { Ok(()) }
    }

    fn drains(&self) -> Option<DrainState> {
        let wish = self.wish.lock().unwrap().clone();
        self.draining.load(Relaxed).then(|| DrainState {
            by: "rest",
            reason: wish.reason,
            since: 1,
            refuses_in: wish.accept_for.map_or(0, |d| d.as_secs()),
            deadline_in: wish.deadline.map(|d| d.as_secs()),
            waiting_publishers: 2,
            waiting_viewers: 3,
        })
    }

    fn drain(&self, wish: DrainWish) {
        *self.wish.lock().unwrap() = wish;
        self.draining.store(true, Relaxed);
    }

    fn undrain(&self) -> Result<(), String> {
        self.draining.store(false, Relaxed);
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        Traffic { bytes_in: 1234, bytes_out: 5678 }
    }

    fn connections(&self) -> Vec<(&'static str, u64)> {
        vec![("http", 2), ("rtmp", 1)]
    }

    fn counters(&self) -> Vec<crate::cluster::Counter> {
        vec![crate::cluster::Counter { name: "webrtc_sessions_total", help: "Sessions.", value: 4 }]
    }

    fn refusals(&self) -> Vec<(&'static str, u64)> {
        vec![("unknown_app", 3)]
    }

    fn app(&self, name: &str) -> Option<App> {
        let settings = AppSettings::default();
        (name == "LiveApp").then(|| App { name: name.into(), settings, version: 1 })
    }

    fn calls(&self) -> &dyn Calls {
        self
    }

    async fn apps_changed(&self) {
        self.changes.fetch_add(1, Relaxed);
    }
}

/// Peer, headers, status.
type Case = (&'static str, &'static [(&'static str, &'static str)], u16);

struct Fixture {
    router: Router,
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    node: Arc<Node>,
    state: Arc<ApiState>,
    _dir: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }
}

impl Fixture {
    async fn new() -> Self {
        Self::of(None).await
    }

    /// Node `n1`, alone or in a cluster.
    async fn of(cluster: Option<Arc<dyn ClusterView>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(dir.path()).unwrap());
        for app in ["LiveApp", "WebRTCAppEE"] {
            store.create_app(app, AppSettings::default()).await.unwrap();
        }
        let (hub, node) = (Hub::new(Duration::from_secs(10)), Arc::new(Node::default()));
        let settings = ApiSettings {
            node_id: "n1".into(),
            advertise_host: Some("Media.Example".into()),
            rtmp_port: 1935,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            data_dir: dir.path().into(),
            app_defaults: AppSettings::default(),
            build: "test".into(),
        };
        let token = AdminToken::new("the-token");
        let state = ApiState::new(store.clone(), hub.clone(), node.clone(), cluster, settings, token);
        Fixture { router: router(state.clone()), store, hub, node, state, _dir: dir }
    }

    async fn send(
        &self,
        method: &str,
        uri: &str,
        peer: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1:5080");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, uri: &str) -> Answer {
        self.send("GET", uri, LOCAL, &[], Body::empty()).await
    }

    async fn call(&self, method: &str, uri: &str, body: Value) -> Answer {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(method, uri, LOCAL, &[("content-type", "application/json")], body).await
    }

    async fn create(&self, body: Value) -> Value {
        self.call("POST", "/LiveApp/rest/v2/broadcasts/create", body).await.ok()
    }

    /// Publishes as a node does: into the store and the hub.
    async fn publish(&self, id: &str) -> sluice_media::Publisher {
        let now = crate::state::millis(std::time::SystemTime::now());
        let known = BroadcastUpdate {
            publish_type: Some("RTMP".into()),
            remote_ip: Some("198.51.100.1".into()),
            user_agent: Some("OBS".into()),
            ..Default::default()
        };
        let begin = BeginLive { stream_id: id.into(), node: "n1".into(), epoch: 1, now, known };
        self.store.begin_live("LiveApp", begin).await.unwrap();
        let key = StreamKey::new("LiveApp", id);
        let mut p = self.hub.publish(key, Origin::default(), StreamSettings::default()).unwrap();
        let video = p.add_track(TrackConfig::Video(VideoConfig::vp8(1280, 720).unwrap())).unwrap();
        let asc = bytes::Bytes::from_static(&[0x12, 0x10]);
        p.add_track(TrackConfig::Audio(AudioConfig::aac(asc).unwrap())).unwrap();
        let payload = bytes::Bytes::from(vec![0u8; 1000]);
        let at = Timestamp::ZERO;
        p.write(video, Frame { dts: at, pts: at, keyframe: true, payload }).unwrap();
        p
    }
}

#[tokio::test]
async fn create_get_update_delete() {
    let f = Fixture::new().await;
    let b = f.create(json!({"name": "Eins", "streamId": "s1", "status": "broadcasting"})).await;
    assert_eq!(b["streamId"], "s1");
    assert_eq!(b["status"], "created", "a client does not decide the status");
    assert_eq!(b["type"], "liveStream");
    assert_eq!(b["rtmpURL"], "rtmp://Media.Example/LiveApp/s1");
    assert_eq!((&b["anyoneWatching"], &b["description"]), (&json!(false), &Value::Null));
    assert!(b["date"].as_i64().unwrap() > 1_600_000_000_000);
    assert!(b.get("dbId").is_none());

    let one = "/LiveApp/rest/v2/broadcasts/s1";
    assert_eq!(f.get(one).await.ok(), b);
    assert_eq!(f.get("/WebRTCAppEE/rest/v2/broadcasts/s1").await.status, 404, "another app");
    let yes =
        f.call("PUT", one, json!({"name": null, "description": "d", "webRTCViewerLimit": 5})).await.ok();
    assert_eq!(yes, json!({"success": true, "message": "", "dataId": "", "errorId": 0}));
    let changed = f.get(one).await.ok();
    assert_eq!((&changed["name"], &changed["description"]), (&json!("Eins"), &json!("d")));
    assert_eq!(changed["webRTCViewerLimit"], 5);
    let back = f.call("PUT", one, changed.clone()).await.ok();
    assert_eq!(back["success"], true, "what was read can be written back");
    assert_eq!(f.get(one).await.ok(), changed);

    let no = f.call("PUT", "/LiveApp/rest/v2/broadcasts/none", json!({"name": "x"})).await.ok();
    assert_eq!(no["success"], false);
    assert_eq!(no["message"], "Broadcast with streamId: none does not exist");
    assert_eq!(f.call("DELETE", one, Value::Null).await.ok()["success"], true);
    assert_eq!(f.call("DELETE", one, Value::Null).await.ok()["success"], false);
    let gone = f.get(one).await;
    assert_eq!((gone.status.as_u16(), gone.body.len()), (404, 0));
}

#[tokio::test]
async fn create_without_anything() {
    let f = Fixture::new().await;
    for body in [Value::Null, json!({}), json!({"streamId": ""}), json!({"streamId": null, "name": null})] {
        let b = f.create(body).await;
        assert!(b["streamId"].as_str().unwrap().len() > 16);
        assert!(b["name"].is_null());
    }
    assert_eq!(f.get("/LiveApp/rest/v2/broadcasts/count").await.ok(), json!({"number": 4}));
}

#[tokio::test]
async fn create_refuses_what_cannot_be() {
    let f = Fixture::new().await;
    f.create(json!({"streamId": "taken"})).await;
    for body in [
        json!({"streamId": "taken"}),
        json!({"streamId": "a/b"}),
        json!({"streamId": "ä"}),
        json!({"subFolder": "../x"}),
        json!({"type": "streamSource", "streamUrl": "nonsense"}),
        json!({"type": "ipCamera"}),
        json!({"type": "tv"}),
        json!({"unknownProperty": 1}),
        json!({"publish": "maybe"}),
        json!({"hlsParameters": {"hlsTime": "never"}}),
        json!([1]),
    ] {
        let answer = f.call("POST", "/LiveApp/rest/v2/broadcasts/create", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["success"], false);
        assert!(!answer.json()["message"].as_str().unwrap().is_empty());
    }
    let answer = f.send("POST", "/LiveApp/rest/v2/broadcasts/create", LOCAL, &[], Body::from("{")).await;
    assert_eq!(answer.status, 400);
    let long = Body::from(format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20)));
    let answer = f.send("POST", "/LiveApp/rest/v2/broadcasts/create", LOCAL, &[], long).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["success"]), (413, &json!(false)));

    let source = json!({"type": "streamSource", "streamUrl": "rtsp://192.0.2.1/x"});
    let auto = f.call("POST", "/LiveApp/rest/v2/broadcasts/create?autoStart=true", source.clone()).await.ok();
    assert_eq!((&auto["success"], &auto["errorId"]), (&json!(false), &json!(-4)));
    assert_eq!(f.create(source).await["type"], "streamSource");
}

#[tokio::test]
async fn lists() {
    let f = Fixture::new().await;
    for (id, name, kind) in [("b", "zwei", "liveStream"), ("a", "Eins", "liveStream"), ("c", "drei", "VoD")] {
        f.create(json!({"streamId": id, "name": name, "type": kind})).await;
    }
    for (query, want) in [
        ("0/10", "b a c"),
        ("1/1", "a"),
        ("5/10", ""),
        ("-1/10", "b a c"),
        ("0/10?type_by=VoD", "c"),
        ("0/10?type_by=", "b a c"),
        ("0/10?sort_by=name&order_by=asc", "c a b"),
        ("0/10?sort_by=name&order_by=desc", "b a c"),
        ("0/10?sort_by=nothing", "b a c"),
        ("0/10?search=EI", "b a c"),
        ("0/10?search=zw", "b"),
        ("0/10?search=%2E", ""),
    ] {
        let list = f.get(&format!("/LiveApp/rest/v2/broadcasts/list/{query}")).await.ok();
        let ids: Vec<&str> =
            list.as_array().unwrap().iter().map(|b| b["streamId"].as_str().unwrap()).collect();
        assert_eq!(ids.join(" "), want, "{query}");
    }
    assert_eq!(f.get("/LiveApp/rest/v2/broadcasts/list/a/b").await.status, 404);
    assert_eq!(f.get("/LiveApp/rest/v2/broadcasts/count/zw").await.ok(), json!({"number": 1}));
    let two = f.call("DELETE", "/LiveApp/rest/v2/broadcasts/?ids=a,b", Value::Null).await.ok();
    assert_eq!(two["success"], true);
    let one_missing = f.call("DELETE", "/LiveApp/rest/v2/broadcasts?ids=a,c", Value::Null).await.ok();
    assert_eq!(one_missing["success"], false);
    assert!(one_missing["message"].as_str().unwrap().ends_with(": a"));
    assert_eq!(f.get("/LiveApp/rest/v2/broadcasts/count").await.ok(), json!({"number": 0}));
    assert_eq!(f.call("DELETE", "/LiveApp/rest/v2/broadcasts", Value::Null).await.ok()["success"], false);
}

#[tokio::test]
async fn a_live_stream_is_shown_with_true_values() {
    let f = Fixture::new().await;
    f.create(json!({"streamId": "cam1", "name": "Camera"})).await;
    let publisher = f.publish("cam1").await;
    let _viewer = sluice_media::stats::ViewerGuard::new(
        publisher.stream().stats().clone(),
        sluice_media::session::Protocol::Hls,
    );
    let b = f.get("/LiveApp/rest/v2/broadcasts/cam1").await.ok();
    assert_eq!((&b["status"], &b["publishType"]), (&json!("broadcasting"), &json!("RTMP")));
    assert_eq!((&b["width"], &b["height"]), (&json!(1280), &json!(720)));
    assert_eq!((&b["receivedBytes"], &b["bitrate"]), (&json!(1000), &json!(8000)));
    assert_eq!((&b["hlsViewerCount"], &b["anyoneWatching"]), (&json!(1), &json!(true)));
    assert_eq!(f.get("/LiveApp/rest/v2/broadcasts/list/0/9").await.ok()[0]["hlsViewerCount"], 1);

    let live = f.get("/rest/v2/live-streams").await.ok();
    let want = json!({
        "app": "LiveApp", "streamId": "cam1", "name": "Camera", "status": "broadcasting", "publishType": "RTMP",
        "bitrate": 8000, "videoCodec": "VP8", "audioCodec": "AAC", "width": 1280, "height": 720,
        "frameRate": 1.0, "hlsViewerCount": 1, "rtmpViewerCount": 0, "webRTCViewerCount": 0,
        "remoteIp": "198.51.100.1", "userAgent": "OBS", "packetsSkipped": 0, "interrupted": false
    });
    for (key, value) in want.as_object().unwrap() {
        assert_eq!(&live[0][key], value, "{key}");
    }
    assert!(live[0]["startTime"].as_i64().unwrap() > 1_600_000_000_000);
    assert_eq!(live.as_array().unwrap().len(), 1);

    let count = f.get("/LiveApp/rest/v2/broadcasts/active-live-stream-count").await.ok();
    assert_eq!(count, json!({"number": 1}));
    let statistics = f.get("/LiveApp/rest/v2/broadcasts/cam1/broadcast-statistics").await.ok();
    let want = json!({"totalRTMPWatchersCount": 0, "totalHLSWatchersCount": 1, "totalWebRTCWatchersCount": 0,
        "totalDASHWatchersCount": 0});
    assert_eq!(statistics, want);
    let none = f.get("/LiveApp/rest/v2/broadcasts/none/broadcast-statistics").await.ok();
    assert_eq!(none["totalHLSWatchersCount"], -1);
    let total = f.get("/LiveApp/rest/v2/broadcasts/total-broadcast-statistics").await.ok();
    assert_eq!((&total["activeLiveStreamCount"], &total["totalHLSWatchersCount"]), (&json!(1), &json!(1)));
    let infos = f.get("/rest/v2/applications-info").await.ok();
    assert_eq!(infos[0], json!({"name": "LiveApp", "liveStreamCount": 1, "vodCount": 0, "storage": 0}));
    assert_eq!(infos[1]["liveStreamCount"], 0);

    let metrics = f.get("/metrics").await;
    for line in [
        "sluice_streams 1",
        "sluice_viewers{protocol=\"hls\"} 1",
        "sluice_media_in_bytes_total 1000",
        "sluice_connections{port=\"rtmp\"} 1",
        "sluice_publishers_refused_total{reason=\"unknown_app\"} 3",
        "sluice_sent_bytes_total 5678",
        "sluice_store_call_seconds_bucket{le=\"+Inf\"} ",
    ] {
        assert!(metrics.text().lines().any(|l| l.starts_with(line)), "{line}\n{}", metrics.text());
    }
    assert!(!metrics.text().contains("cam1"), "no stream ids in metrics");

    let resources = f.get("/rest/v2/system-resources").await.ok();
    assert_eq!(resources["localLiveStreams"], 1);
    assert_eq!(resources["localHLSViewers"], 1);
    assert_eq!(resources["traffic"]["bytesOut"], 5678);
    assert!(resources["systemMemoryInfo"]["totalMemory"].as_u64().unwrap() > 0);
    assert!(resources["fileSystemInfo"]["totalSpace"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn stop_and_delete_end_the_publisher() {
    let f = Fixture::new().await;
    let stop = "/LiveApp/rest/v2/broadcasts/cam1/stop";
    assert_eq!(f.call("POST", stop, Value::Null).await.ok()["success"], false, "there is none");
    f.create(json!({"streamId": "cam1"})).await;
    assert_eq!(f.call("POST", stop, Value::Null).await.ok()["success"], false, "it is not live");
    let publisher = f.publish("cam1").await;
    assert_eq!(f.call("POST", stop, Value::Null).await.ok()["success"], true);
    let reason = tokio::time::timeout(Duration::from_secs(1), publisher.stop_requested()).await.unwrap();
    assert_eq!(reason, sluice_media::StopReason::Requested);
    publisher.finish();

    let publisher = f.publish("cam2").await;
    assert_eq!(f.call("DELETE", "/LiveApp/rest/v2/broadcasts/cam2", Value::Null).await.ok()["success"], true);
    let reason = tokio::time::timeout(Duration::from_secs(1), publisher.stop_requested()).await.unwrap();
    assert_eq!(reason, sluice_media::StopReason::Deleted);
}

#[tokio::test]
async fn messages_reach_those_who_listen() {
    let f = Fixture::new().await;
    let data = "/LiveApp/rest/v2/broadcasts/cam1/data";
    assert_eq!(f.call("POST", data, json!({"a": 1})).await.ok()["success"], false, "it is not live");
    let publisher = f.publish("cam1").await;
    let mut heard = publisher.stream().aside().listen();
    assert_eq!(f.call("POST", data, json!({"a": 1})).await.ok()["success"], true);
    let message = heard.try_recv().unwrap();
    assert!(message.text && message.from == sluice_media::aside::Sender::Publisher);
    assert_eq!(serde_json::from_slice::<Value>(&message.payload).unwrap(), json!({"a": 1}));
    let large = json!("x".repeat(sluice_media::aside::LARGEST_MESSAGE));
    assert_eq!(f.call("POST", data, large).await.ok()["success"], false, "too large");
    assert!(heard.try_recv().is_err());
    let off = json!({"dataChannelEnabled": false});
    f.call("POST", "/rest/v2/applications/settings/LiveApp", off).await.ok();
    assert_eq!(f.call("POST", data, json!(1)).await.ok()["success"], false, "it is switched off");
    let info = f.call("GET", "/LiveApp/rest/v2/broadcasts/cam1/stream-info", Value::Null).await.ok();
    assert!(info.as_array().is_some_and(|all| all.len() == 1), "{info}");
    assert_eq!(f.call("GET", "/LiveApp/rest/v2/broadcasts/x/stream-info", Value::Null).await.ok(), json!([]));
}

#[tokio::test]
async fn apps_and_settings() {
    let f = Fixture::new().await;
    assert_eq!(
        f.get("/rest/v2/applications").await.ok(),
        json!({"applications": ["LiveApp", "WebRTCAppEE"]})
    );
    assert_eq!(f.call("POST", "/rest/v2/applications/Neu-1", Value::Null).await.ok()["success"], true);
    assert_eq!(f.call("POST", "/rest/v2/applications/Neu-1", Value::Null).await.ok()["success"], false);
    assert_eq!(f.call("POST", "/rest/v2/applications/N%C3%A4", Value::Null).await.ok()["success"], false);
    assert_eq!(f.get("/Neu-1/rest/v2/broadcasts/count").await.ok(), json!({"number": 0}));

    let settings = "/rest/v2/applications/settings/Neu-1";
    let before = f.get(settings).await.ok();
    assert_eq!((&before["hlsTime"], &before["lLHLSEnabled"]), (&json!("2"), &json!(true)));
    assert_eq!(f.call("POST", settings, json!({"hlsTime": "4", "gopSize": 50})).await.ok()["success"], true);
    let after = f.get(settings).await.ok();
    assert_eq!(
        (&after["hlsTime"], &after["gopSize"], &after["hlsListSize"]),
        (&json!("4"), &json!(50), &json!("15"))
    );
    let bad = f.call("POST", settings, json!({"hlsTime": "4000"})).await.ok();
    assert!(bad["message"].as_str().unwrap().contains("hlsTime"));
    assert_eq!(f.call("POST", "/rest/v2/applications/settings/none", json!({})).await.ok()["success"], false);
    assert_eq!(f.get("/rest/v2/applications/settings/none").await.status, 404);
    assert_eq!(f.node.changes.load(Relaxed), 2, "the node is told");
}

#[tokio::test]
async fn changes_of_settings_do_not_undo_each_other() {
    let f = Fixture::new().await;
    let settings = "/rest/v2/applications/settings/LiveApp";
    let read = f.get(settings).await;
    let tag = read.headers["etag"].to_str().unwrap().to_owned();
    let with = |tag: String, body: Value| {
        let f = &f;
        async move {
            let headers = [("if-match", tag.as_str())];
            f.send("POST", settings, LOCAL, &headers, Body::from(body.to_string())).await
        }
    };
    let first = with(tag.clone(), json!({"hlsTime": "3"})).await;
    let next = first.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(first.ok()["success"], true);
    assert_ne!(tag, next);
    let late = with(tag, json!({"hlsTime": "5"})).await;
    assert_eq!((late.status.as_u16(), &late.json()["success"]), (412, &json!(false)));
    assert_eq!(f.get(settings).await.ok()["hlsTime"], "3");
    assert_eq!(with(next, json!({"hlsTime": "5"})).await.ok()["success"], true);

    // Without it, changes of different settings at once are all kept.
    let changes = ["gopSize", "webRTCViewerLimit", "restartStreamFetcherPeriod"];
    let all: Vec<_> = changes.iter().map(|key| f.call("POST", settings, json!({*key: 77}))).collect();
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.ok()["success"], true);
    }
    let after = f.get(settings).await.ok();
    assert!(changes.iter().all(|key| after[*key] == 77), "{after}");
}

#[tokio::test]
async fn a_deleted_app_ends_its_streams() {
    let f = Fixture::new().await;
    let publisher = f.publish("cam1").await;
    let gone = f.call("DELETE", "/rest/v2/applications/LiveApp?deleteDB=true", Value::Null).await.ok();
    assert_eq!(gone["success"], true);
    let reason = tokio::time::timeout(Duration::from_secs(1), publisher.stop_requested()).await.unwrap();
    assert_eq!(reason, sluice_media::StopReason::Deleted);
    assert_eq!(f.get("/rest/v2/applications").await.ok(), json!({"applications": ["WebRTCAppEE"]}));
    assert_eq!(f.get("/LiveApp/rest/v2/broadcasts/count").await.status, 404);
    assert_eq!(f.node.changes.load(Relaxed), 1);
    let again = f.call("DELETE", "/rest/v2/applications/LiveApp", Value::Null).await.ok();
    assert_eq!(again["message"], "there is no app named LiveApp");
    let last = f.call("DELETE", "/rest/v2/applications/WebRTCAppEE", Value::Null).await.ok();
    assert!(last["message"].as_str().unwrap().contains("the only app"), "{last}");
}

#[tokio::test]
async fn who_may_manage() {
    let f = Fixture::new().await;
    let uri = "/rest/v2/applications";
    let cases: &[Case] = &[
        (LOCAL, &[], 200),
        ("[::1]:9", &[], 200),
        ("[::ffff:127.0.0.1]:9", &[], 200),
        (REMOTE, &[], 403),
        (REMOTE, &[("authorization", TOKEN)], 200),
        (REMOTE, &[("authorization", TOKEN), ("host", "anything.example")], 200),
        (REMOTE, &[("authorization", "bearer the-token")], 200),
        (REMOTE, &[("authorization", "Bearer wrong")], 403),
        (REMOTE, &[("authorization", "Bearer ")], 403),
        (LOCAL, &[("authorization", "Bearer wrong")], 403),
        (LOCAL, &[("x-forwarded-for", "127.0.0.1")], 403),
        (LOCAL, &[("x-real-ip", "127.0.0.1")], 403),
        (LOCAL, &[("forwarded", "for=127.0.0.1")], 403),
        (LOCAL, &[("via", "1.1 proxy")], 403),
        // The loopback of the proxy, not of this machine.
        ("10.0.0.1:9", &[("x-forwarded-for", "127.0.0.1")], 403),
        ("10.0.0.1:9", &[("x-forwarded-for", "127.0.0.1, 203.0.113.9")], 403),
        ("10.0.0.1:9", &[], 403),
        (LOCAL, &[("host", "evil.example")], 403),
        (LOCAL, &[("host", "localhost:5080")], 200),
        (LOCAL, &[("host", "[::1]:5080")], 200),
        (LOCAL, &[("host", "media.example:5080")], 200),
        (LOCAL, &[("host", "")], 403),
        (LOCAL, &[("host", "localhost:5080"), ("origin", "http://localhost:5080")], 200),
        (LOCAL, &[("host", "localhost:5080"), ("origin", "http://localhost:3000")], 403),
        (LOCAL, &[("origin", "null")], 403),
        (LOCAL, &[("origin", "http://evil.example")], 403),
    ];
    for (peer, headers, status) in cases {
        let answer = f.send("GET", uri, peer, headers, Body::empty()).await;
        assert_eq!(answer.status.as_u16(), *status, "{peer} {headers:?}");
        if *status == 403 {
            assert_eq!(answer.json()["success"], false);
        }
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    for uri in
        ["/metrics", "/rest/v2/live-streams", "/rest/v2/system-resources", "/rest/v2/applications-info"]
    {
        assert_eq!(f.send("GET", uri, REMOTE, &[], Body::empty()).await.status, 403, "{uri}");
    }
    for uri in [
        "/rest/v2/liveness",
        "/rest/v2/version",
        "/healthz",
        "/readyz",
        "/acceptz",
        "/",
        "/LiveApp/play.html",
    ] {
        assert_eq!(f.send("GET", uri, REMOTE, &[], Body::empty()).await.status, 200, "{uri}");
    }
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = uri.parse().unwrap();
    assert_eq!(f.router.clone().oneshot(request).await.unwrap().status(), 403, "no known peer");
}

#[tokio::test]
async fn who_may_use_an_app() {
    let f = Fixture::new().await;
    let uri = "/LiveApp/rest/v2/broadcasts/count";
    let cases: &[Case] = &[
        (LOCAL, &[], 200),
        ("[::1]:9", &[], 200),
        (REMOTE, &[], 403),
        (REMOTE, &[("authorization", TOKEN)], 200),
        (LOCAL, &[("authorization", "some JWT")], 200),
        (LOCAL, &[("x-forwarded-for", "127.0.0.1")], 403),
        ("10.0.0.1:9", &[("x-forwarded-for", "203.0.113.9")], 403),
        (LOCAL, &[("host", "evil.example")], 403),
        (LOCAL, &[("origin", "http://evil.example")], 403),
    ];
    for (peer, headers, status) in cases {
        let answer = f.send("GET", uri, peer, headers, Body::empty()).await;
        assert_eq!(answer.status.as_u16(), *status, "{peer} {headers:?}");
    }
    let denied = f.send("GET", uri, REMOTE, &[], Body::empty()).await;
    assert_eq!(denied.text(), "Not allowed IP");
    assert_eq!(f.send("GET", "/LiveApp/rest/v2/version", REMOTE, &[], Body::empty()).await.status, 403);

    let change = json!({"remoteAllowedCIDR": "127.0.0.1, 203.0.113.0/24"});
    f.call("POST", "/rest/v2/applications/settings/LiveApp", change).await.ok();
    let headers = [("host", "stream.example")];
    assert_eq!(f.send("GET", uri, REMOTE, &headers, Body::empty()).await.status, 200);
    assert_eq!(f.send("GET", uri, "203.0.114.1:9", &[], Body::empty()).await.status, 403);
    f.call("POST", "/rest/v2/applications/settings/LiveApp", json!({"ipFilterEnabled": false})).await.ok();
    assert_eq!(f.send("GET", uri, "203.0.114.1:9", &[], Body::empty()).await.status, 200);
}

#[tokio::test]
async fn everything_else_is_json_too() {
    let f = Fixture::new().await;
    for (method, uri, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/rest/v2/nothing", 404),
        ("GET", "/NoApp/rest/v2/broadcasts/count", 404),
        ("GET", "/LiveApp/rest/v2/nothing", 404),
        ("GET", "/LiveApp/streams/x.m3u8", 404),
        ("POST", "/LiveApp/rest/v2/broadcasts/count", 405),
        ("PATCH", "/LiveApp/rest/v2/broadcasts/x", 405),
        ("DELETE", "/rest/v2/liveness", 405),
        ("GET", "/LiveApp/rest/v2/broadcasts/%ff", 400),
    ] {
        let answer = f.call(method, uri, Value::Null).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {uri}");
        assert_eq!(answer.json()["success"], false, "{method} {uri}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
    let version = f.get("/LiveApp/rest/v2/version").await.ok();
    assert_eq!(version["buildNumber"], "test");
    assert_eq!(f.get("/rest/v2/liveness").await.ok()["status"], "ok");
    let head = f.send(Method::HEAD.as_str(), "/rest/v2/liveness", LOCAL, &[], Body::empty()).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test]
async fn ready_means_serving_and_accepting_means_letting_in() {
    let f = Fixture::new().await;
    for path in ["/readyz", "/acceptz"] {
        let report = f.get(path).await.ok();
        assert_eq!((&report["ready"], &report["accepting"]), (&json!(true), &json!(true)), "{path}");
        assert_eq!(report["cluster"], Value::Null);
    }
    f.node.draining.store(true, Relaxed);
    let ready = f.get("/readyz").await.ok();
    assert_eq!((&ready["accepting"], &ready["reason"]), (&json!(false), &json!("the node is draining")));
    let accepting = f.get("/acceptz").await;
    assert_eq!((accepting.status.as_u16(), accepting.json()), (503, ready));
    f.node.draining.store(false, Relaxed);
    f.node.stopping.store(true, Relaxed);
    let answer = f.get("/readyz").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["reason"]), (503, &json!("the node is stopping")));
    f.node.stopping.store(false, Relaxed);
    f.store.close().await;
    let ready = f.get("/readyz").await.ok();
    assert_eq!(ready["store"]["answers"], false, "running streams do not need it");
    assert_eq!(f.get("/acceptz").await.status, 503);
    assert_eq!(f.get("/healthz").await.status, 200);
    let answer = f.get("/LiveApp/rest/v2/broadcasts/count").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["success"]), (503, &json!(false)));
}

#[tokio::test]
async fn longer_json_is_compressed() {
    let f = Fixture::new().await;
    for i in 0..5 {
        f.create(json!({"streamId": format!("s{i}")})).await;
    }
    let uri = "/LiveApp/rest/v2/broadcasts/list/0/50";
    let plain = f.get(uri).await;
    let packed = f.send("GET", uri, LOCAL, &[("accept-encoding", "br, gzip")], Body::empty()).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    let short =
        f.send("GET", "/rest/v2/liveness", LOCAL, &[("accept-encoding", "gzip")], Body::empty()).await;
    assert!(!short.headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn a_token_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    let (lost, _) = AdminToken::load_or_make(&store).await.unwrap();
    let (first, shown) = AdminToken::load_or_make(&store).await.unwrap();
    let shown = shown.expect("shown");
    assert!(first.is(&shown) && !lost.is(&shown) && shown.len() == 48);
    first.keep(&store).await.unwrap();
    let (second, again) = AdminToken::load_or_make(&store).await.unwrap();
    assert!(second.is(&shown) && again.is_none());
}

#[tokio::test]
async fn declared_apps_are_made_what_they_should_be_and_no_more() {
    let f = Fixture::new().await;
    let declare = |name: &'static str, settings: Value| {
        let state = f.state.clone();
        async move { state.declare_app(name, settings.as_object().unwrap()).await }
    };
    let wanted = || json!({ "hlsTime": "4", "acceptOnlyStreamsInDataStore": true });
    assert_eq!(declare("news", wanted()).await, Ok(crate::Declared::Created));
    assert_eq!(declare("news", wanted()).await, Ok(crate::Declared::Unchanged));
    let news = f.store.app("news").await.unwrap().unwrap();
    assert_eq!(
        (news.settings.hls_time.as_str(), news.settings.accept_only_streams_in_data_store),
        ("4", true)
    );
    // What is not given stays as somebody else has set it.
    let body = Body::from(r#"{"hlsListSize":"9","hlsTime":"2"}"#);
    f.send("POST", "/rest/v2/applications/settings/news", "127.0.0.1:1", &[], body).await.ok();
    let news = f.store.app("news").await.unwrap().unwrap();
    assert!(!ApiState::is_as_declared(&news.settings, wanted().as_object().unwrap()));
    assert_eq!(declare("news", wanted()).await, Ok(crate::Declared::Updated));
    let news = f.store.app("news").await.unwrap().unwrap();
    assert_eq!((news.settings.hls_time.as_str(), news.settings.hls_list_size.as_str()), ("4", "9"));
    assert!(ApiState::is_as_declared(&news.settings, wanted().as_object().unwrap()));

    assert!(declare("no name", wanted()).await.unwrap_err().contains("letters"));
    let wrong = declare("news", json!({ "hlsTime": { "a": 1 } })).await.unwrap_err();
    assert!(!wrong.is_empty(), "{wrong}");
    assert_eq!(f.state.remove_app("news").await, Ok(true));
    assert_eq!(f.state.remove_app("news").await, Ok(false));
    assert_eq!(f.store.app("news").await.unwrap(), None);
}
