//! What the operator asks of a running node, and how a node ends: over its cluster port, configured as a pod is.

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_cluster::identity::{NodeId, OperatorAuthority, OperatorTls};
use sluice_control::{
    App, AppOutcome, Apps, Client, ControlError, Drain, DrainOrder, LiveSettings, Report, Role,
};
use support::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const KEY: &str = "a-key-for-tests-of-the-operator";
const MOMENT: Duration = Duration::from_secs(12);

/// A node as in a pod: one configuration file, secrets in files, the rest from the downward API.
struct Pod {
    node: Node,
    client: Client,
    runtime: Runtime,
    dir: TempDir,
}

fn pod(more: &str, env: &[(&str, &str)]) -> Pod {
    let authority = OperatorAuthority::generate().expect("a CA");
    let dir = TempDir::new().expect("a temporary directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let key = file("cluster-key", &format!("{KEY}\n"));
    let ca = file("operator-ca.crt", authority.certificate_pem());
    let token = file("admin-token", "0123456789abcdef\n");
    let addr = format!("127.0.0.1:{}", port());
    let config = file(
        "node.toml",
        &format!(
            "cluster_mode = \"static\"\nstatic_members = [\"{addr}\"]\ncluster_addr = \"{addr}\"\n\
             cluster_key_file = \"{key}\"\noperator_ca = \"{ca}\"\nadmin_token_file = \"{token}\"\n{more}"
        ),
    );
    let mut all =
        vec![("SLUICE_CONFIG", config.as_str()), ("POD_NAME", "demo-origin-0"), ("POD_IP", "127.0.0.1")];
    all.extend(env);
    let node = Node::start_in(dir.path(), (port(), port()), &all);
    let tls = OperatorTls::from_key(&authority, KEY.as_bytes()).expect("a key");
    let client = Client::new(&tls, NodeId::new("demo-origin-0"), addr).expect("a client");
    let runtime = Runtime::new().expect("a runtime");
    Pod { node, client, runtime, dir }
}

impl Pod {
    fn report(&self) -> Report {
        self.try_report().unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_report(&self) -> Result<Report, ControlError> {
        self.runtime.block_on(self.client.report(None, Duration::ZERO))
    }

    /// Follows the reports by long polls, from this one on, until one is so.
    fn until(&self, mut report: Report, what: &str, so: impl Fn(&Report) -> bool) -> Report {
        let end = Instant::now() + MOMENT;
        while !so(&report) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited for {what}: {report:?}");
            let next = self.runtime.block_on(self.client.report(Some(report.revision), left));
            report = next.unwrap_or_else(|error| panic!("{error}"));
        }
        report
    }

    fn drain(&self, deadline_s: Option<u64>) {
        let order = Drain { reason: "scaled in".into(), deadline_s, accept_for_s: 0 };
        self.runtime.block_on(self.client.drain(&order)).unwrap_or_else(|error| panic!("{error}"));
    }

    fn settings(&self, settings: serde_json::Value) -> sluice_control::SettingsResult {
        let settings = settings.as_object().cloned().unwrap_or_default();
        let settings = LiveSettings { hash: "h1".into(), settings };
        self.runtime.block_on(self.client.apply_settings(&settings)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `sluice-node streams`, as `kubectl exec` runs it: with the environment of the container.
    fn streams(&self, args: &[&str]) -> (i32, String) {
        let out = command(self.dir.path(), self.node.http, self.node.rtmp, &[]);
        let mut command = std::process::Command::new(out.get_program());
        command.env("SLUICE_CONFIG", self.dir.path().join("node.toml")).env("POD_NAME", "demo-origin-0");
        for (name, value) in out.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let out = command.arg("streams").args(args).output().expect("it runs");
        let text =
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        (out.status.code().unwrap_or(-1), text)
    }
}

fn plays(node: &Node, stream: &str) -> Answer {
    get(&node.url(&format!("/LiveApp/streams/{stream}.m3u8")))
}

#[test]
fn the_operator_sees_what_changes_and_drains_the_node() {
    let pod = pod("stop_delay = \"0s\"\nmax_viewers = 1\n", &[]);
    let first = pod.report();
    assert_eq!((first.node.as_str(), first.role), ("demo-origin-0", Role::Both));
    assert!(first.ready && first.accepting && first.boot != 0 && first.members == 1, "{first:?}");
    assert_eq!((first.capacity.streams, first.capacity.viewers), (Some(2000), Some(1)));
    assert!(first.load.memory_bytes > 0 && first.load.memory_limit_bytes >= first.load.memory_bytes);
    assert_eq!(pod.streams(&[]), (0, "no live streams\n".into()));

    // Nothing changes: the poll takes its time, and says the same.
    let began = Instant::now();
    let wait = Duration::from_millis(700);
    let same = pod.runtime.block_on(pod.client.report(Some(first.revision), wait)).expect("an answer");
    assert!(same.revision == first.revision && began.elapsed() >= wait);

    let _cam1 = publish(&pod.node.rtmp("/LiveApp/cam1"), &[]);
    let live = pod.until(first, "the stream", |r| (r.publishers, r.owned, r.streams) == (1, 1, 1));
    assert_eq!(live.viewers, 0);
    let (code, json) = pod.streams(&["--json"]);
    let json: serde_json::Value =
        serde_json::from_str(&json).unwrap_or_else(|e| panic!("{code} {e}: {json}"));
    assert_eq!((&json[0]["streamId"], &json[0]["state"]), (&json!("cam1"), &json!("live")));
    assert_eq!((&json[0]["origin"], &json[0]["protocol"]), (&json!("demo-origin-0"), &json!("rtmp")));
    let (code, table) = pod.streams(&["--all"]);
    assert!(code == 0 && table.starts_with("APP ") && table.contains("cam1"), "{table}");

    // One viewer is let in, as max_viewers says; the next is told to come back or to go elsewhere.
    wait_for(MOMENT, "the stream to play", || plays(&pod.node, "cam1").status == 200);
    let watched = pod.until(live, "the viewer", |r| r.viewers == 1);
    assert!(watched.problems[0].contains("max_viewers = 1") && watched.accepting, "{:?}", watched.problems);
    let full = plays(&pod.node, "cam1");
    assert!(full.status == 503 && full.head.contains("retry-after:"), "{}", full.head);
    assert!(full.text().contains("max_viewers"), "{}", full.text());

    // Draining: nobody new, ready, seen at once; taken back.
    pod.drain(Some(600));
    let draining = pod.until(watched, "the order to be told", |r| !r.accepting);
    let told = draining.draining.as_ref().expect("it drains");
    assert!(draining.ready && !draining.accepting && told.by == DrainOrder::Operator, "{draining:?}");
    assert!(told.reason == "scaled in" && told.deadline_s.is_some_and(|left| (590..=600).contains(&left)));
    assert_eq!((told.waiting_publishers, told.waiting_viewers), (1, 1));
    assert_eq!((status(&pod.node.url("/readyz")), status(&pod.node.url("/acceptz"))), (200, 503));
    assert!(get(&pod.node.url("/healthz")).head.contains("connection: close"), "viewers come back elsewhere");
    let mut late = publish(&pod.node.rtmp("/LiveApp/cam2"), &[]);
    assert!(!late.wait(MOMENT).expect("the publisher is sent away").success());
    pod.drain(Some(30));
    pod.drain(Some(900));
    let left = pod.report().draining.and_then(|d| d.deadline_s).expect("a deadline");
    assert!(left <= 30, "a second order only shortens: {left}");
    pod.runtime.block_on(pod.client.undrain()).expect("it is taken back");
    assert!(pod.report().accepting && pod.report().draining.is_none());
    assert!(!get(&pod.node.url("/healthz")).head.contains("connection: close"));
    let _cam3 = publish(&pod.node.rtmp("/LiveApp/cam3"), &[]);
    wait_for(MOMENT, "it to be let in", || pod.report().publishers == 2);
}

#[test]
fn another_admin_token_in_its_file_is_taken() {
    let pod = pod("stop_delay = \"0s\"\n", &[]);
    let with = |token: &str| {
        // Another host's name: from this machine alone it would not do.
        let header = format!("Authorization: Bearer {token}");
        http(&pod.node.url("/rest/v2/applications"), &["-H", "Host: media.example", "-H", &header]).status
    };
    assert_eq!((with("0123456789abcdef"), with("fedcba9876543210")), (200, 403));
    std::fs::write(pod.dir.path().join("admin-token"), "fedcba9876543210\n").expect("a file");
    wait_for(MOMENT, "the new one", || with("fedcba9876543210") == 200);
    assert_eq!(with("0123456789abcdef"), 403);
}

#[test]
fn apps_and_live_settings_are_what_the_operator_says() {
    let pod = pod("stop_delay = \"0s\"\n", &[]);
    let apps = |apps: &Apps| pod.runtime.block_on(pod.client.apply_apps(apps)).expect("an answer").apps;
    let of = |name: &str, settings: serde_json::Value| App {
        name: name.into(),
        settings: settings.as_object().cloned().unwrap_or_default(),
    };
    let wanted = Apps {
        hash: "a1".into(),
        apps: vec![of("news", json!({ "hlsTime": "4" })), of("LiveApp", json!({}))],
        delete: vec!["live".into(), "never".into()],
    };
    let before = pod.report();
    let became: Vec<AppOutcome> = apps(&wanted).into_iter().map(|app| app.outcome).collect();
    use AppOutcome::{Created, Deleted, Unchanged};
    assert_eq!(became, [Created, Unchanged, Deleted, Unchanged]);
    pod.until(before, "the hash", |r| r.apps_hash.as_deref() == Some("a1"));
    assert!(apps(&wanted).iter().all(|app| app.outcome == Unchanged));
    let shown = get(&pod.node.url("/rest/v2/applications/settings/news")).json();
    assert_eq!(shown["hlsTime"], "4");

    // Somebody changes it over REST: it is not as declared any more, until it is declared again.
    let body = ["-X", "POST", "-H", "Content-Type: application/json", "-d", r#"{"hlsTime":"3"}"#];
    http(&pod.node.url("/rest/v2/applications/settings/news"), &body);
    wait_for(MOMENT, "the change to be seen", || pod.report().apps_hash.is_none());
    assert_eq!(apps(&wanted)[0].outcome, AppOutcome::Updated);
    assert_eq!(pod.report().apps_hash.as_deref(), Some("a1"));
    let failed = apps(&Apps { apps: vec![of("no name", json!({}))], ..Apps::default() });
    assert!(matches!(&failed[0].outcome, AppOutcome::Failed(why) if why.contains("letters")), "{failed:?}");

    // Settings that are live, at once; one that is not refuses them all.
    let refused = pod.settings(json!({ "max_streams": 1, "http_addr": "0.0.0.0:1" }));
    assert_eq!((refused.changed.len(), refused.refused[0].key.as_str()), (0, "http_addr"));
    assert_eq!(pod.settings(json!({ "max_streams": 1, "log": "debug" })).changed, ["max_streams", "log"]);
    let report = pod.report();
    assert_eq!((report.capacity.streams, report.settings_hash.as_deref()), (Some(1), Some("h1")));
    let _cam1 = publish(&pod.node.rtmp("/LiveApp/cam1"), &[]);
    wait_for(MOMENT, "it to be full", || pod.report().problems.iter().any(|p| p.contains("max_streams = 1")));
    assert!(pod.report().accepting, "full is not out of service");
    let mut second = publish(&pod.node.rtmp("/LiveApp/cam2"), &[]);
    assert!(!second.wait(MOMENT).expect("the publisher is sent away").success());
    assert_eq!(pod.settings(json!({})).changed, ["max_streams", "log"]);
    let _second = publish(&pod.node.rtmp("/LiveApp/cam2"), &[]);
    wait_for(MOMENT, "it to be let in", || pod.report().publishers == 2);
}

#[test]
fn a_stop_waits_for_the_last_publisher_and_can_be_shortened() {
    // In a pod sessions that are on their way are let in for 5 s.
    let mut pod = pod("drain_deadline = \"1h\"\n", &[]);
    let cam1 = publish(&pod.node.rtmp("/LiveApp/cam1"), &[]);
    wait_for(MOMENT, "it to be live", || pod.report().publishers == 1);
    pod.node.signal("TERM");
    wait_for(MOMENT, "it to drain", || !pod.report().accepting);
    let told = pod.report().draining.expect("it drains");
    assert!(told.by == DrainOrder::Signal && told.deadline_s > Some(3590), "{told:?}");
    assert_eq!((status(&pod.node.url("/readyz")), status(&pod.node.url("/acceptz"))), (200, 503));
    let late = publish(&pod.node.rtmp("/LiveApp/late"), &[]);
    wait_for(Duration::from_secs(4), "one on its way to be let in", || pod.report().publishers == 2);
    std::thread::sleep(Duration::from_secs(5));
    let mut later = publish(&pod.node.rtmp("/LiveApp/later"), &[]);
    assert!(!later.wait(MOMENT).expect("the publisher is sent away").success());
    let kept = pod.runtime.block_on(pod.client.undrain()).expect_err("a stop is not taken back");
    assert!(matches!(&kept, ControlError::Denied { status: 409, .. }), "{kept}");
    drop(late);
    wait_for(Duration::from_secs(20), "one to be left", || pod.report().owned == 1);
    assert!(pod.report().publishers == 1 && pod.report().ready);

    // The operator cannot wait any longer.
    pod.drain(Some(0));
    assert!(pod.node.wait(MOMENT).success());
    drop(cam1);
    assert!(matches!(pod.try_report(), Err(error) if error.is_unreachable()));
}

#[test]
fn a_stop_ends_with_the_last_session() {
    let mut pod = pod("drain_deadline = \"1h\"\nstop_delay = \"0s\"\nstream_linger = \"1s\"\n", &[]);
    let cam1 = publish(&pod.node.rtmp("/LiveApp/cam1"), &[]);
    wait_for(MOMENT, "it to be live", || pod.report().publishers == 1);
    pod.node.signal("TERM");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(pod.report().publishers, 1);
    drop(cam1);
    assert!(pod.node.wait(MOMENT).success());
    let (code, text) = pod.streams(&[]);
    assert!(code == 1 && text.contains("cannot reach the node"), "{code} {text}");
}
