//! What every [`Store`] must do, as tests that run on any implementation.
//!
//! Give [`all`] a store that is empty; it panics at the first difference, naming it. Each check uses an app of
//! its own, so they can also be run one by one, and at once.

#![expect(clippy::unwrap_used, reason = "a check that does not hold has to panic")]

use crate::{
    AppSettings, BeginLive, Broadcast, BroadcastUpdate, Claim, EPOCH_STEP, Ended, ListQuery, LiveUpdate,
    NodeRecord, Numbers, OWNERSHIP_KEPT_MS, Order, Owner, SortBy, Status, Store, StoreError,
};

const NOW: i64 = 1_800_000_000_000;

/// Runs every check.
///
/// # Panics
/// At the first one that does not hold.
pub async fn all(store: &dyn Store) {
    apps_and_settings(store).await;
    deleted_apps(store).await;
    values(store).await;
    broadcasts(store).await;
    lists(store).await;
    live_and_finished(store).await;
    fences(store).await;
    recovery(store).await;
    ownership(store).await;
    adoption(store).await;
    owners(store).await;
    nodes(store).await;
    ping_is_timed(store).await;
}

fn named(id: &str) -> Broadcast {
    Broadcast { stream_id: id.into(), ..Default::default() }
}

fn begin(id: &str, epoch: u64, now: i64) -> BeginLive {
    BeginLive { stream_id: id.into(), node: "n1".into(), epoch, now, known: BroadcastUpdate::default() }
}

/// Apps are made once; settings are changed by compare-and-set.
///
/// # Panics
/// When that does not hold.
pub async fn apps_and_settings(store: &dyn Store) {
    let mut changes = store.changes();
    let mut changed = async || {
        let limit = std::time::Duration::from_secs(10);
        tokio::time::timeout(limit, changes.changed()).await.expect("a change is told").unwrap();
    };
    let settings = AppSettings::default();
    assert!(store.create_app("c-app", settings.clone()).await.unwrap());
    changed().await;
    let mut other = settings.clone();
    other.hls_time = "4".into();
    assert!(!store.create_app("c-app", other.clone()).await.unwrap(), "an app is made once");
    let app = store.app("c-app").await.unwrap().expect("the app is there");
    assert_eq!(app.settings, settings, "the first settings stay");

    other.other.insert("gopSize".into(), 30.into());
    other.other.insert("$odd.key".into(), serde_json::json!({"$a": [1.5, null], "b.c": u64::MAX}));
    other.custom_settings = serde_json::json!({"a": {"b": [true, -1, "ü"]}});
    let version = store.set_app_settings("c-app", other.clone(), app.version).await.unwrap();
    assert!(version > app.version);
    changed().await;
    assert!(matches!(
        store.set_app_settings("c-app", settings, app.version).await,
        Err(StoreError::Conflict { expected, found, .. }) if expected == app.version && found == version
    ));
    assert!(matches!(store.set_app_settings("c-none", other.clone(), 1).await, Err(StoreError::NotFound(_))));
    let app = store.app("c-app").await.unwrap().expect("the app is there");
    assert_eq!((app.settings, app.version), (other, version), "unknown keys are kept");
    assert!(store.app("C-APP").await.unwrap().is_none(), "names differ by case");
    assert_eq!(store.apps().await.unwrap().iter().filter(|a| a.name == "c-app").count(), 1);
}

/// A deleted app is gone, with its broadcasts only when that is asked for.
///
/// # Panics
/// When that does not hold.
pub async fn deleted_apps(store: &dyn Store) {
    for (app, with_data) in [("c-del1", false), ("C-Del2", true), ("c-del2", false)] {
        assert!(store.create_app(app, AppSettings::default()).await.unwrap());
        store.create_broadcast(app, named("s")).await.unwrap();
        assert!(store.delete_app(app, with_data).await.unwrap());
        assert!(!store.delete_app(app, false).await.unwrap(), "it is gone already");
        assert!(store.app(app).await.unwrap().is_none());
        assert_eq!(store.broadcast(app, "s").await.unwrap().is_none(), with_data);
        assert!(store.apps().await.unwrap().iter().all(|a| a.name != app));
    }
    assert!(store.broadcast("c-del2", "s").await.unwrap().is_some(), "names differ by case");
    assert!(store.create_app("c-del1", AppSettings::default()).await.unwrap(), "it may be made again");
    assert!(store.broadcast("c-del1", "s").await.unwrap().is_some());
}

/// Values are kept and replaced.
///
/// # Panics
/// When that does not hold.
pub async fn values(store: &dyn Store) {
    assert_eq!(store.value("c-key").await.unwrap(), None);
    store.set_value("c-key", "one").await.unwrap();
    store.set_value("c-key", "zwei ü").await.unwrap();
    assert_eq!(store.value("c-key").await.unwrap().as_deref(), Some("zwei ü"));
}

/// Create, read, change, delete.
///
/// # Panics
/// When that does not hold.
pub async fn broadcasts(store: &dyn Store) {
    let app = "c-crud";
    let mut b = named("s1");
    b.name = Some("Eins".into());
    b.date = NOW;
    store.create_broadcast(app, b.clone()).await.unwrap();
    assert!(matches!(store.create_broadcast(app, named("s1")).await, Err(StoreError::Exists(_))));
    store.create_broadcast("c-crud2", named("s1")).await.expect("ids are per app");
    assert_eq!(store.broadcast(app, "s1").await.unwrap(), Some(b.clone()));
    assert_eq!(store.broadcast(app, "S1").await.unwrap(), None, "ids differ by case");
    let asked = ["none".to_owned(), "s1".to_owned()];
    assert_eq!(store.broadcasts(app, &asked).await.unwrap(), std::slice::from_ref(&b));

    let update = BroadcastUpdate {
        stream_id: Some("s2".into()),
        description: Some("d".into()),
        publish: Some(false),
        ..Default::default()
    };
    b.description = Some("d".into());
    b.publish = false;
    let changed = store.update_broadcast(app, "s1", update.clone()).await.unwrap();
    assert_eq!(changed, Some(b.clone()), "the id stays, null fields stay");
    assert_eq!(store.broadcast(app, "s1").await.unwrap(), Some(b));
    assert_eq!(store.update_broadcast(app, "s9", update).await.unwrap(), None);

    let ids = ["s9".to_owned(), "s1".to_owned()];
    assert_eq!(store.delete_broadcasts(app, &ids).await.unwrap(), ["s1"]);
    assert_eq!(store.delete_broadcasts(app, &ids).await.unwrap(), Vec::<String>::new());
    assert!(store.broadcast("c-crud2", "s1").await.unwrap().is_some());
}

/// Paging, sorting, searching, counting.
///
/// # Panics
/// When that does not hold.
pub async fn lists(store: &dyn Store) {
    let app = "c-list";
    for (i, (id, name, kind, status)) in [
        ("b", Some("Ärger"), "liveStream", Status::Finished),
        ("a", Some("zebra"), "VoD", Status::Created),
        ("c", Some("Alpha"), "liveStream", Status::Error),
        ("d_1", None, "liveStream", Status::Created),
    ]
    .into_iter()
    .enumerate()
    {
        let b = Broadcast {
            name: name.map(Into::into),
            kind: kind.into(),
            status,
            date: NOW - i as i64,
            ..named(id)
        };
        store.create_broadcast(app, b).await.unwrap();
    }
    let list = async |q: ListQuery| -> Vec<String> {
        let all = store.list_broadcasts(app, ListQuery { size: q.size.max(1), ..q }).await.unwrap();
        all.into_iter().map(|b| b.stream_id).collect()
    };
    let q = || ListQuery { size: 50, ..Default::default() };
    let down = Order::Descending;
    let search = |s: &str| ListQuery { search: Some(s.into()), ..q() };
    assert_eq!(list(q()).await, ["b", "a", "c", "d_1"], "in the order of creation");
    assert_eq!(list(ListQuery { offset: 1, size: 2, ..q() }).await, ["a", "c"]);
    assert_eq!(list(ListQuery { offset: 9, ..q() }).await, Vec::<String>::new());
    assert_eq!(list(ListQuery { kind: Some("VoD".into()), ..q() }).await, ["a"]);
    assert_eq!(list(ListQuery { sort_by: Some(SortBy::Date), ..q() }).await, ["d_1", "c", "a", "b"]);
    assert_eq!(
        list(ListQuery { sort_by: Some(SortBy::Date), order: down, ..q() }).await,
        ["b", "a", "c", "d_1"]
    );
    let by_name =
        list(ListQuery { sort_by: Some(SortBy::Name), kind: Some("liveStream".into()), ..q() }).await;
    assert_eq!(by_name, ["d_1", "c", "b"]);
    let by_status = list(ListQuery { sort_by: Some(SortBy::Status), ..q() }).await;
    assert_eq!(by_status, ["a", "d_1", "c", "b"], "created, created, error, finished");
    assert_eq!(list(search("ärg")).await, ["b"], "search knows letters beyond ASCII");
    assert_eq!(list(search("A")).await, ["a", "c"], "in ids and names, in any case");
    assert_eq!(list(search("D_")).await, ["d_1"], "no wildcards");
    assert_eq!(list(search("%")).await, Vec::<String>::new());
    assert_eq!(list(search("' OR 1=1 --")).await, Vec::<String>::new());
    assert_eq!(store.count_broadcasts(app, None).await.unwrap(), 4);
    assert_eq!(store.count_broadcasts(app, Some("ZEB")).await.unwrap(), 1);
    assert_eq!(store.count_broadcasts("c-nothing", None).await.unwrap(), 0);

    for i in 0..260 {
        store.create_broadcast("c-many", named(&format!("s{i}"))).await.unwrap();
    }
    let many = store.list_broadcasts("c-many", ListQuery { size: 1000, ..Default::default() }).await.unwrap();
    assert_eq!(many.len(), 250, "a list is never longer");
}

/// A stream goes live, is written, ends; with a record made before, and without.
///
/// # Panics
/// When that does not hold.
pub async fn live_and_finished(store: &dyn Store) {
    let app = "c-live";
    let made = Broadcast { rtmp_url: Some("rtmp://given-out".into()), ..named("kept") };
    store.create_broadcast(app, made).await.unwrap();
    let known = BroadcastUpdate {
        publish_type: Some("RTMP".into()),
        rtmp_url: Some("rtmp://by-node".into()),
        ..Default::default()
    };
    for id in ["kept", "auto"] {
        let b = store.begin_live(app, BeginLive { known: known.clone(), ..begin(id, 1, NOW) }).await.unwrap();
        assert_eq!((b.status, b.start_time, b.update_time), (Status::Broadcasting, NOW, NOW));
        assert_eq!((b.publish_type.as_deref(), b.zombi), (Some("RTMP"), id == "auto"));
        let url = if id == "kept" { "rtmp://given-out" } else { "rtmp://by-node" };
        assert_eq!(b.rtmp_url.as_deref(), Some(url));
    }
    assert_eq!(store.count_live(app, NOW).await.unwrap(), 2);
    assert_eq!(store.count_live(app, NOW + 20_000).await.unwrap(), 2);
    assert_eq!(store.count_live(app, NOW + 20_001).await.unwrap(), 0, "not heard of for too long");

    let update = |id: &str, epoch| LiveUpdate {
        app: app.into(),
        stream_id: id.into(),
        epoch,
        update: BroadcastUpdate {
            update_time: Some(NOW + 10_000),
            bitrate: Some(2_000_000),
            hls_viewer_count: Some(3),
            ..Default::default()
        },
    };
    let mut elsewhere = update("kept", 1);
    elsewhere.app = "c-live2".into();
    let updates = vec![update("kept", 1), update("none", 1), elsewhere, update("auto", 1)];
    assert_eq!(store.update_live(updates).await.unwrap(), [1, 2], "those that were left alone");
    assert_eq!(store.update_live(Vec::new()).await.unwrap(), Vec::<usize>::new());
    assert_eq!(store.broadcast(app, "auto").await.unwrap().unwrap().bitrate, 2_000_000);
    assert_eq!(store.count_live(app, NOW + 30_000).await.unwrap(), 2);

    let last = BroadcastUpdate { duration: Some(12_000), ..Default::default() };
    assert_eq!(store.end_live(app, "kept", 1, NOW + 12_000, last.clone()).await.unwrap(), Ended::Finished);
    assert_eq!(store.end_live(app, "auto", 1, NOW + 12_000, last.clone()).await.unwrap(), Ended::Deleted);
    assert_eq!(store.end_live(app, "auto", 1, NOW + 12_000, last).await.unwrap(), Ended::Untouched);
    assert_eq!(store.broadcast(app, "auto").await.unwrap(), None);
    let b = store.broadcast(app, "kept").await.unwrap().unwrap();
    assert_eq!((b.status, b.duration, b.bitrate, b.hls_viewer_count), (Status::Finished, 12_000, 0, 0));
    assert_eq!(store.update_live(vec![update("kept", 1)]).await.unwrap(), [0], "it has ended");
    assert_eq!(store.count_live(app, NOW).await.unwrap(), 0);
}

/// A node of an earlier epoch cannot write over a later one.
///
/// # Panics
/// When that does not hold.
pub async fn fences(store: &dyn Store) {
    let app = "c-fence";
    store.begin_live(app, begin("s", 1, NOW)).await.unwrap();
    store.begin_live(app, begin("s", 2, NOW + 1)).await.unwrap();
    assert!(matches!(
        store.begin_live(app, begin("s", 1, NOW + 2)).await,
        Err(StoreError::Fenced { epoch: 1, current: 2, .. })
    ));
    let late = LiveUpdate {
        app: app.into(),
        stream_id: "s".into(),
        epoch: 1,
        update: BroadcastUpdate { bitrate: Some(1), ..Default::default() },
    };
    assert_eq!(store.update_live(vec![late]).await.unwrap(), [0]);
    let end = store.end_live(app, "s", 1, NOW + 3, BroadcastUpdate::default()).await.unwrap();
    assert_eq!(end, Ended::Untouched);
    let b = store.broadcast(app, "s").await.unwrap().expect("still live under epoch 2");
    assert_eq!((b.status, b.bitrate, b.start_time), (Status::Broadcasting, 0, NOW + 1));
}

/// After a crash no stream is left live, and those of other nodes are not touched.
///
/// # Panics
/// When that does not hold.
pub async fn recovery(store: &dyn Store) {
    for node in ["n1", "n2"] {
        store.recover(node, NOW).await.unwrap();
    }
    let app = "c-recover";
    for id in ["kept", "idle"] {
        store.create_broadcast(app, named(id)).await.unwrap();
    }
    for id in ["kept", "auto"] {
        let claim = store.claim_stream(app, id, "n1", NOW, Claim::default()).await.unwrap();
        store.begin_live(app, begin(id, claim.epoch, NOW)).await.unwrap();
    }
    let other = store.claim_stream(app, "other", "n2", NOW, Claim::default()).await.unwrap();
    let of_n2 = BeginLive { node: "n2".into(), ..begin("other", other.epoch, NOW) };
    store.begin_live(app, of_n2).await.unwrap();
    // Taken over: n1 claimed it first, n2 has it.
    let first = store.claim_stream(app, "moved", "n1", NOW, Claim::default()).await.unwrap();
    store.begin_live(app, begin("moved", first.epoch, NOW)).await.unwrap();
    let second = store.claim_stream(app, "moved", "n2", NOW, Claim::default()).await.unwrap();
    let moved = BeginLive { node: "n2".into(), ..begin("moved", second.epoch, NOW) };
    store.begin_live(app, moved).await.unwrap();

    let recovered = store.recover("n1", NOW + 5).await.unwrap();
    assert_eq!((recovered.deleted, recovered.finished), (1, 1));
    assert_eq!(store.broadcast(app, "kept").await.unwrap().unwrap().status, Status::Finished);
    assert_eq!(store.broadcast(app, "idle").await.unwrap().unwrap().status, Status::Created);
    assert_eq!(store.broadcast(app, "auto").await.unwrap(), None);
    assert_eq!(store.owner(app, "kept").await.unwrap(), None);
    for id in ["other", "moved"] {
        assert_eq!(store.broadcast(app, id).await.unwrap().unwrap().status, Status::Broadcasting, "{id}");
        assert_eq!(store.owner(app, id).await.unwrap().map(|o| o.node).as_deref(), Some("n2"));
    }
    let again = store.recover("n1", NOW + 6).await.unwrap();
    assert_eq!((again.deleted, again.finished), (0, 0));
    assert_eq!(store.recover("n2", NOW + 7).await.unwrap().deleted, 2);
}

/// Epochs and sequence numbers only grow.
///
/// # Panics
/// When that does not hold.
pub async fn ownership(store: &dyn Store) {
    let (app, id, nothing) = ("c-own", "s", Claim::default());
    let numbers = |media_sequence, discontinuity_sequence, timeline| Numbers {
        media_sequence,
        discontinuity_sequence,
        timeline,
    };
    let one = store.claim_stream(app, id, "n1", NOW, nothing).await.unwrap();
    assert_eq!(one.numbers(), Numbers::default());
    assert!(one.epoch > 0 && one.epoch.is_multiple_of(EPOCH_STEP));
    store.reserve_sequence(app, id, one.epoch, NOW, numbers(100, 2, 5_000)).await.unwrap();
    let earlier = numbers(50, 1, -5);
    store.reserve_sequence(app, id, one.epoch, NOW, earlier).await.expect("an earlier number is no error");
    let two = store.claim_stream(app, id, "n2", NOW + 1, nothing).await.unwrap();
    assert_eq!(two.epoch, one.epoch + EPOCH_STEP);
    assert_eq!(two.numbers(), numbers(100, 2, 5_000), "numbers never go back");
    assert!(matches!(
        store.reserve_sequence(app, id, one.epoch, NOW + 2, numbers(200, 2, 0)).await,
        Err(StoreError::Fenced { epoch, current, .. }) if epoch == one.epoch && current == two.epoch
    ));
    let other = store.claim_stream(app, "t", "n1", NOW, nothing).await.unwrap();
    assert_eq!(other.media_sequence, 0);

    // What the cluster knows counts as well, each number for itself.
    let known = Claim {
        epoch: two.epoch + 5 * EPOCH_STEP + 77,
        media_sequence: 90,
        discontinuity_sequence: 9,
        timeline: 6_000,
    };
    let three = store.claim_stream(app, id, "n1", NOW + 2, known).await.unwrap();
    assert_eq!(three.epoch, two.epoch + 6 * EPOCH_STEP, "above what is known, by less than one step");
    assert_eq!(three.numbers(), numbers(100, 9, 6_000));
    let absurd = Claim { epoch: u64::MAX, ..nothing };
    assert!(store.claim_stream(app, id, "n1", NOW + 2, absurd).await.is_err());
    assert_eq!(store.owner(app, id).await.unwrap().map(|o| o.epoch), Some(three.epoch));

    // A day later the record is dropped, but no epoch comes again.
    let later = NOW + OWNERSHIP_KEPT_MS + 10;
    let four = store.claim_stream(app, id, "n1", later, nothing).await.unwrap();
    assert!(four.epoch > three.epoch && four.epoch.is_multiple_of(EPOCH_STEP));
    assert_eq!(four.numbers(), Numbers::default());
    let again = store.claim_stream(app, id, "n1", later, nothing).await.unwrap();
    assert_eq!(again.epoch, four.epoch + EPOCH_STEP);
}

/// A lease made without the store is taken over by it, unless a later one is there.
///
/// # Panics
/// When that does not hold.
pub async fn adoption(store: &dyn Store) {
    let app = "c-adopt";
    let lease = |epoch, media_sequence| Claim { epoch, media_sequence, ..Claim::default() };
    let owner = async |id: &str| store.owner(app, id).await.unwrap();
    let of = |node: &str, epoch| Some(Owner { node: node.into(), epoch });

    // A store that came back empty.
    store.adopt_stream(app, "s", "n1", NOW, lease((1 << 24) | 7, 40)).await.unwrap();
    assert_eq!(owner("s").await, of("n1", (1 << 24) | 7));
    // A later lease of another node wins; the same one again changes nothing.
    for _ in 0..2 {
        store.adopt_stream(app, "s", "n2", NOW, lease((2 << 24) | 9, 30)).await.unwrap();
        assert_eq!(owner("s").await, of("n2", (2 << 24) | 9));
    }
    for (node, epoch) in [("n1", (1 << 24) | 7), ("n1", (2 << 24) | 9)] {
        assert!(matches!(
            store.adopt_stream(app, "s", node, NOW, lease(epoch, 99)).await,
            Err(StoreError::Fenced { epoch: e, current, .. }) if e == epoch && current == (2 << 24) | 9
        ));
    }
    let granted = store.claim_stream(app, "s", "n3", NOW, Claim::default()).await.unwrap();
    assert_eq!((granted.epoch, granted.media_sequence), (EPOCH_STEP, 40), "above any lease; numbers kept");
    assert!(store.adopt_stream(app, "s", "n2", NOW, lease((3 << 24) | 9, 1)).await.is_err());
    store.adopt_stream(app, "s", "n2", NOW, lease(EPOCH_STEP + (1 << 24) + 9, 1)).await.unwrap();
    assert_eq!(owner("s").await, of("n2", EPOCH_STEP + (1 << 24) + 9));
}

/// Who claims a stream owns it until it ends.
///
/// # Panics
/// When that does not hold.
pub async fn owners(store: &dyn Store) {
    let (app, id) = ("c-owner", "s");
    let owner = async || store.owner(app, id).await.unwrap().map(|o| (o.node, o.epoch));
    let end = async |epoch| store.end_live(app, id, epoch, NOW, BroadcastUpdate::default()).await.unwrap();
    assert_eq!(owner().await, None);
    let one = store.claim_stream(app, id, "n1", NOW, Claim::default()).await.unwrap().epoch;
    assert_eq!(owner().await, Some(("n1".into(), one)));
    store.begin_live(app, begin(id, one, NOW)).await.unwrap();
    let two = store.claim_stream(app, id, "n2", NOW, Claim::default()).await.unwrap().epoch;
    assert_eq!(owner().await, Some(("n2".into(), two)));
    store.begin_live(app, begin(id, two, NOW)).await.unwrap();
    assert_eq!(end(one).await, Ended::Untouched);
    assert_eq!(owner().await, Some(("n2".into(), two)), "an earlier epoch ends nothing");
    assert_eq!(end(two).await, Ended::Deleted);
    assert_eq!(owner().await, None);
    // A record that was deleted meanwhile does not keep an owner.
    let three = store.claim_stream(app, id, "n1", NOW, Claim::default()).await.unwrap().epoch;
    assert_eq!(end(three).await, Ended::Untouched);
    assert_eq!(owner().await, None);
}

/// Nodes are written, listed, forgotten.
///
/// # Panics
/// When that does not hold.
pub async fn nodes(store: &dyn Store) {
    let node = |id: &str, counter| NodeRecord {
        id: id.into(),
        boot: 0x00ff_ffff,
        counter,
        updated: NOW,
        ip: "10.0.0.1".into(),
        cpu: "12%".into(),
        memory: "3 GB".into(),
        db_query_ms: 4,
        document: serde_json::json!({"host": "h", "ports": {"cluster": 5000}, "a.b": {"$x": 1}, "load": 0.5}),
    };
    for (id, counter) in [("c-n2", 1), ("c-n1", 1), ("c-n1", 2)] {
        store.put_node(node(id, counter)).await.unwrap();
    }
    let ours = async || -> Vec<NodeRecord> {
        store.nodes().await.unwrap().into_iter().filter(|n| n.id.starts_with("c-")).collect()
    };
    assert_eq!(ours().await, [node("c-n1", 2), node("c-n2", 1)]);
    assert!(store.delete_node("c-n2").await.unwrap());
    assert!(!store.delete_node("c-n2").await.unwrap());
    assert_eq!(ours().await, [node("c-n1", 2)]);
}

/// The store answers, and its calls are timed.
///
/// # Panics
/// When that does not hold.
pub async fn ping_is_timed(store: &dyn Store) {
    let before = store.timings().snapshot().count;
    store.ping().await.unwrap();
    assert!(store.timings().snapshot().count > before);
}
