//! The store on a MongoDB server: the one that `SLUICE_TEST_MONGODB_URI` names, else the stand-in that
//! `scripts/mongo.sh` runs. Each test has databases of its own and drops them at its end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has to panic")]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Document, doc};
use sluice_store::{
    AppSettings, BeginLive, Broadcast, BroadcastUpdate, Claim, EPOCH_STEP, LiveUpdate, Mongo, MongoOptions,
    Status, Store, StoreError, conformance,
};

const NOW: i64 = 1_800_000_000_000;

/// The stand-in, killed at the end of the test.
struct Server {
    port: u16,
    storage: PathBuf,
    options: Vec<&'static str>,
    child: Option<Child>,
}

impl Server {
    fn start(storage: &Path, options: &[&'static str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Server { port, storage: storage.to_owned(), options: options.to_vec(), child: None };
        server.run();
        server
    }

    fn run(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/mongo.sh");
        let child = Command::new(script)
            .arg(self.port.to_string())
            .arg(&self.storage)
            .args(&self.options)
            .stdin(Stdio::null())
            .spawn()
            .expect("scripts/mongo.sh runs");
        self.child = Some(child);
        // The first start may have to install it.
        let end = Instant::now() + Duration::from_secs(120);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "the stand-in for MongoDB does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server that is named, or the stand-in.
fn server() -> (String, Option<Server>) {
    match std::env::var("SLUICE_TEST_MONGODB_URI") {
        Ok(uri) => (uri, None),
        Err(_) => {
            let server = Server::start(Path::new(":memory:"), &[]);
            (server.uri(), Some(server))
        }
    }
}

/// The stand-in is slow, so a call may take longer than is good for a node.
fn options() -> MongoOptions {
    let prefix = format!("t{:08x}_", rand::random::<u32>());
    MongoOptions { prefix, limit: Duration::from_secs(20), ..MongoOptions::default() }
}

async fn open(uri: &str, options: &MongoOptions) -> Mongo {
    Mongo::open(uri, options.clone()).await.unwrap()
}

fn named(id: &str) -> Broadcast {
    Broadcast { stream_id: id.into(), ..Default::default() }
}

fn begin(id: &str, epoch: u64) -> BeginLive {
    BeginLive { stream_id: id.into(), node: "n1".into(), epoch, now: NOW, known: BroadcastUpdate::default() }
}

async fn within(limit: Duration, what: &str, mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + limit;
    while !done().await {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server() {
    let (uri, _server) = server();
    let options = options();
    let store = open(&uri, &options).await;
    conformance::all(&store).await;
    store.drop_everything().await.unwrap();

    epochs_are_given_once(&uri, &options).await;
    store.drop_everything().await.unwrap();
    changes_reach_other_nodes(&uri, &options).await;
    store.drop_everything().await.unwrap();
    apps_that_differ_by_case_have_databases_of_their_own(&uri, &options).await;
    store.drop_everything().await.unwrap();
    documents_have_the_names_of_ams(&uri, &options).await;
    store.drop_everything().await.unwrap();
    clusters_do_not_merge(&uri).await;
    many_streams_of_a_dead_node_are_ended(&store).await;
    store.drop_everything().await.unwrap();

    store.close().await;
    assert!(matches!(store.ping().await, Err(StoreError::Closed)));
}

/// Two nodes, each with several publishers at once, want the same streams.
async fn epochs_are_given_once(uri: &str, options: &MongoOptions) {
    let nodes = [Arc::new(open(uri, options).await), Arc::new(open(uri, options).await)];
    let claims: Vec<_> = (0..12)
        .map(|i: usize| {
            let store = nodes[i % 2].clone();
            tokio::spawn(async move {
                let mut epochs = Vec::new();
                for _ in 0..3 {
                    let node = format!("n{}", i % 2);
                    let known = Claim { media_sequence: i as u64, ..Claim::default() };
                    epochs.push(store.claim_stream("a", "s", &node, NOW, known).await.unwrap().epoch);
                }
                epochs
            })
        })
        .collect();
    let mut all = Vec::new();
    for claim in claims {
        let epochs = claim.await.unwrap();
        assert!(epochs.is_sorted(), "{epochs:?}");
        all.extend(epochs);
    }
    all.sort_unstable();
    let expected: Vec<u64> = (1..=36).map(|n| n * EPOCH_STEP).collect();
    assert_eq!(all, expected, "each once, none left out");

    // Of several leases at once the highest one stays, whoever comes first.
    let adoptions = (1..=8_u64).map(|n| {
        let store = nodes[n as usize % 2].clone();
        tokio::spawn(async move {
            let claim = Claim { epoch: 100 * EPOCH_STEP + (n << 24), ..Claim::default() };
            store.adopt_stream("a", "s", &format!("n{n}"), NOW, claim).await
        })
    });
    let adoptions: Vec<_> = adoptions.collect();
    let mut taken = 0;
    for adoption in adoptions {
        match adoption.await.unwrap() {
            Ok(()) => taken += 1,
            Err(e) => assert!(matches!(e, StoreError::Fenced { .. }), "{e}"),
        }
    }
    assert!(taken >= 1);
    let owner = nodes[0].owner("a", "s").await.unwrap().unwrap();
    assert_eq!((owner.node.as_str(), owner.epoch), ("n8", 100 * EPOCH_STEP + (8 << 24)));
}

async fn changes_reach_other_nodes(uri: &str, options: &MongoOptions) {
    let (one, two) = (open(uri, options).await, open(uri, options).await);
    let mut seen = two.changes();
    // The first is that of the connection.
    tokio::time::timeout(Duration::from_secs(20), seen.changed()).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    seen.mark_unchanged();
    one.create_app("LiveApp", AppSettings::default()).await.unwrap();
    let mut settings = AppSettings::default();
    let mut version = 1;
    for time in ["3", "4"] {
        seen.mark_unchanged();
        settings.hls_time = time.into();
        version = one.set_app_settings("LiveApp", settings.clone(), version).await.unwrap();
        let start = Instant::now();
        within(Duration::from_secs(8), "the other node sees the change", async || {
            let changed = tokio::time::timeout(Duration::from_secs(8), seen.changed()).await;
            assert!(changed.is_ok(), "the change is told");
            two.app("LiveApp").await.unwrap().is_some_and(|a| a.settings.hls_time == time)
        })
        .await;
        println!("seen by the other node after {:?}", start.elapsed());
    }
    seen.mark_unchanged();
    assert!(one.delete_app("LiveApp", true).await.unwrap());
    tokio::time::timeout(Duration::from_secs(8), seen.changed()).await.unwrap().unwrap();
}

async fn apps_that_differ_by_case_have_databases_of_their_own(uri: &str, options: &MongoOptions) {
    let store = Arc::new(open(uri, options).await);
    // At once, by two nodes: one of them gets the plain name, whichever it is.
    let other = Arc::new(open(uri, options).await);
    let tasks = ["LiveApp", "liveapp", "LIVEAPP", "LiveApp"].map(|app| {
        let (store, id) =
            (if app == "LiveApp" { store.clone() } else { other.clone() }, rand::random::<u32>());
        tokio::spawn(async move { store.create_broadcast(app, named(&format!("s{id}"))).await.unwrap() })
    });
    for task in tasks {
        task.await.unwrap();
    }
    for (app, count) in [("LiveApp", 2), ("liveapp", 1), ("LIVEAPP", 1), ("Liveapp", 0)] {
        assert_eq!(store.count_broadcasts(app, None).await.unwrap(), count, "{app}");
    }
    store.create_app("Admin", AppSettings::default()).await.unwrap();
    store.create_broadcast("Admin", named("s")).await.unwrap();
    let names = Client::with_uri_str(uri).await.unwrap().list_database_names().await.unwrap();
    assert!(!names.contains(&format!("{}admin", options.prefix)), "{names:?}");
    assert!(names.contains(&format!("{}liveapp", options.prefix)), "{names:?}");
}

async fn documents_have_the_names_of_ams(uri: &str, options: &MongoOptions) {
    let store = open(uri, options).await;
    store.create_app("LiveApp", AppSettings::default()).await.unwrap();
    store.create_broadcast("LiveApp", Broadcast { name: Some("N".into()), ..named("s") }).await.unwrap();
    let client = Client::with_uri_str(uri).await.unwrap();
    let collection = |database: &str, name: &str| {
        client.database(&format!("{}{database}", options.prefix)).collection::<Document>(name)
    };
    let b = collection("liveapp", "broadcast").find_one(doc! { "streamId": "s" }).await.unwrap().unwrap();
    assert_eq!((b.get_str("name").unwrap(), b.get_str("status").unwrap()), ("N", "created"));
    let a = collection("clusterdb", "AppSettings")
        .find_one(doc! { "appName": "LiveApp" })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(a.get_str("hlsTime").unwrap(), "2");

    // Indexes are made in the background when something is stored.
    within(Duration::from_secs(10), "the ids are unique", async || {
        let names = collection("liveapp", "broadcast").list_index_names().await.unwrap();
        names.iter().any(|name| name == "streamId_1")
    })
    .await;
    // What AMS, or somebody in a shell, writes is read.
    let theirs = doc! {
        "_t": "Broadcast", "streamId": "theirs", "status": "finished", "type": "liveStream", "date": 5.0, "dbId": "x",
    };
    collection("liveapp", "broadcast").insert_one(theirs).await.unwrap();
    let b = store.broadcast("LiveApp", "theirs").await.unwrap().unwrap();
    assert_eq!((b.status, b.date), (Status::Finished, 5));
    assert!(matches!(store.create_broadcast("LiveApp", named("theirs")).await, Err(StoreError::Exists(_))));
    store.begin_live("LiveApp", begin("theirs", 1)).await.unwrap();
    assert_eq!(store.count_live("LiveApp", NOW).await.unwrap(), 1);
    let settings = doc! { "_t": "AppSettings", "appName": "Theirs", "hlsTime": "7", "updateTime": 1_i64 };
    collection("clusterdb", "AppSettings").insert_one(settings).await.unwrap();
    let mut app = store.app("Theirs").await.unwrap().unwrap();
    assert_eq!((app.version, app.settings.hls_time.as_str()), (0, "7"));
    app.settings.hls_time = "8".into();
    assert_eq!(store.set_app_settings("Theirs", app.settings, 0).await.unwrap(), 1);
    collection("clusterdb", "clusternode").insert_one(doc! { "_id": "ams", "ip": "10.0.0.9" }).await.unwrap();
    assert!(store.nodes().await.unwrap().is_empty(), "nodes of AMS are none of ours");
}

async fn clusters_do_not_merge(uri: &str) {
    let (blue, green) = (open(uri, &options()).await, open(uri, &options()).await);
    blue.create_app("LiveApp", AppSettings::default()).await.unwrap();
    blue.create_broadcast("LiveApp", named("s")).await.unwrap();
    blue.set_value("k", "blue").await.unwrap();
    let claim = blue.claim_stream("LiveApp", "s", "n", NOW, Claim::default()).await.unwrap();
    assert_eq!(green.app("LiveApp").await.unwrap(), None);
    assert_eq!(green.broadcast("LiveApp", "s").await.unwrap(), None);
    assert_eq!(green.value("k").await.unwrap(), None);
    assert_eq!(green.claim_stream("LiveApp", "s", "n", NOW, Claim::default()).await.unwrap(), claim);
    for store in [blue, green] {
        store.drop_everything().await.unwrap();
    }
}

async fn many_streams_of_a_dead_node_are_ended(store: &Mongo) {
    let begun = (0..120).map(|i| async move {
        store.begin_live("a", begin(&format!("s{i}"), 1)).await.unwrap();
    });
    futures_util::future::join_all(begun).await;
    let update = |i| LiveUpdate {
        app: "a".into(),
        stream_id: format!("s{i}"),
        epoch: 1,
        update: BroadcastUpdate { update_time: Some(NOW + 1), bitrate: Some(7), ..Default::default() },
    };
    let start = Instant::now();
    assert_eq!(store.update_live((0..125).map(update).collect()).await.unwrap(), [120, 121, 122, 123, 124]);
    let wrote = start.elapsed();
    let recovered = store.recover("n1", NOW).await.unwrap();
    assert_eq!((recovered.deleted, recovered.finished), (120, 0));
    assert_eq!(store.count_broadcasts("a", None).await.unwrap(), 0);
    println!("120 states in {wrote:?}, ended in {:?}", start.elapsed() - wrote);
}

/// A server that is no member of a replica set: changes are found by looking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_change_streams() {
    let server = Server::start(Path::new(":memory:"), &["--standalone"]);
    let options = options();
    changes_reach_other_nodes(&server.uri(), &options).await;
    open(&server.uri(), &options).await.drop_everything().await.unwrap();
}

/// A store that cannot be reached says so soon, sooner still the second time, and is used again when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&dir.path().join("db"), &[]);
    server.stop();
    let options = MongoOptions { limit: Duration::from_secs(3), ..options() };
    let store =
        Mongo::open(&server.uri(), options.clone()).await.expect("a node starts without its database");
    let timed = async || {
        let start = Instant::now();
        let error = store.claim_stream("a", "s", "n", NOW, Claim::default()).await.unwrap_err();
        assert!(error.is_away(), "{error}");
        start.elapsed()
    };
    assert!(timed().await < Duration::from_secs(4));
    assert!(timed().await < Duration::from_secs(1), "it is known to be away");

    server.run();
    let back = Duration::from_secs(15);
    within(back, "the store works", async || store.ping().await.is_ok()).await;
    let start = Instant::now();
    let first = loop {
        match store.claim_stream("a", "s", "n", NOW, Claim::default()).await {
            Ok(claim) => break claim,
            // The first call makes indexes: on a machine under load that takes longer than a call may.
            Err(error) => assert!(error.is_away() && start.elapsed() < back, "{error}"),
        }
    };
    store.create_broadcast("a", named("s")).await.unwrap();
    let mut changes = store.changes();

    server.stop();
    assert!(timed().await < Duration::from_secs(4));
    assert!(timed().await < Duration::from_secs(1), "it is known to be away");
    changes.mark_unchanged();
    server.run();
    within(back, "the store works again", async || store.ping().await.is_ok()).await;
    tokio::time::timeout(back, changes.changed()).await.expect("settings are to be read again").unwrap();
    let second = store.claim_stream("a", "s", "n", NOW, Claim::default()).await.unwrap();
    assert_eq!(second.epoch, first.epoch + EPOCH_STEP, "it kept what it had acknowledged");

    // A database that comes back empty takes live streams in again.
    server.stop();
    std::fs::remove_dir_all(dir.path().join("db")).unwrap();
    server.run();
    within(back, "the empty store works", async || store.ping().await.is_ok()).await;
    let update = LiveUpdate {
        app: "a".into(),
        stream_id: "s".into(),
        epoch: second.epoch,
        update: BroadcastUpdate { update_time: Some(NOW), ..Default::default() },
    };
    assert_eq!(store.update_live(vec![update.clone()]).await.unwrap(), [0]);
    assert_eq!(store.owner("a", "s").await.unwrap(), None);
    store.adopt_stream("a", "s", "n", NOW, second).await.unwrap();
    store.begin_live("a", begin("s", second.epoch)).await.unwrap();
    assert_eq!(store.update_live(vec![update]).await.unwrap(), Vec::<usize>::new());
    assert_eq!(store.owner("a", "s").await.unwrap().map(|o| o.epoch), Some(second.epoch));
    store.drop_everything().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&dir.path().join("db"), &[]);
    let password = "p@ss/w:%rd";
    let client = Client::with_uri_str(server.uri()).await.unwrap();
    let roles = vec![doc! { "role": "root", "db": "admin" }];
    let user = doc! { "createUser": "sluice", "pwd": password, "roles": roles };
    client.database("admin").run_command(user).await.unwrap();
    client.shutdown().immediate(true).await;
    server.stop();
    server.options = vec!["--auth"];
    server.run();

    let with = |user: Option<&str>, password: Option<&str>| MongoOptions {
        user: user.map(Into::into),
        password: password.map(Into::into),
        ..options()
    };
    let fine = open(&server.uri(), &with(Some("sluice"), Some(password))).await;
    fine.set_value("k", "v").await.unwrap();
    assert_eq!(fine.value("k").await.unwrap().as_deref(), Some("v"));
    let encoded =
        format!("mongodb://sluice:p%40ss%2Fw%3A%25rd@127.0.0.1:{}/?authMechanism=SCRAM-SHA-256", server.port);
    open(&encoded, &with(None, None)).await.set_value("k", "v").await.unwrap();

    for (user, wrong) in
        [(Some("sluice"), Some("wr0ng-secret")), (Some("nobody"), Some("wr0ng-secret")), (None, None)]
    {
        let store = open(&server.uri(), &with(user, wrong)).await;
        let error = store.set_value("k", "v").await.unwrap_err();
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(!error.is_away() && !format!("{error} {error:?}").contains("wr0ng"), "{error}");
    }
    fine.drop_everything().await.unwrap();
}
