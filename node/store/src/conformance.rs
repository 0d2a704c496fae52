//! What every [`Store`] must do, as tests that run on any implementation.
//!
//! Give [`all`] a store that is empty; it panics at the first difference, naming it. Each check uses an app of
//! its own, so they can also be run one by one, and at once.

#![expect(clippy::unwrap_used, reason = "a check that does not hold has to panic")]

use crate::{
    AppSettings, BeginLive, Broadcast, BroadcastUpdate, Ended, ListQuery, LiveUpdate, OWNERSHIP_KEPT_MS,
    Order, SortBy, Status, Store, StoreError,
};

const NOW: i64 = 1_800_000_000_000;

/// Runs every check.
///
/// # Panics
/// At the first one that does not hold.
pub async fn all(store: &dyn Store) {
    apps_and_settings(store).await;
    values(store).await;
    broadcasts(store).await;
    lists(store).await;
    live_and_finished(store).await;
    fences(store).await;
    recovery(store).await;
    ownership(store).await;
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
    let settings = AppSettings::default();
    assert!(store.create_app("c-app", settings.clone()).await.unwrap());
    let mut other = settings.clone();
    other.hls_time = "4".into();
    assert!(!store.create_app("c-app", other.clone()).await.unwrap(), "an app is made once");
    let app = store.app("c-app").await.unwrap().expect("the app is there");
    assert_eq!(app.settings, settings, "the first settings stay");

    other.other.insert("gopSize".into(), 30.into());
    let version = store.set_app_settings("c-app", other.clone(), app.version).await.unwrap();
    assert!(version > app.version);
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
    let written =
        store.update_live(vec![update("kept", 1), update("none", 1), update("auto", 1)]).await.unwrap();
    assert_eq!(written, 2);
    assert_eq!(store.broadcast(app, "auto").await.unwrap().unwrap().bitrate, 2_000_000);
    assert_eq!(store.count_live(app, NOW + 30_000).await.unwrap(), 2);

    let last = BroadcastUpdate { duration: Some(12_000), ..Default::default() };
    assert_eq!(store.end_live(app, "kept", 1, NOW + 12_000, last.clone()).await.unwrap(), Ended::Finished);
    assert_eq!(store.end_live(app, "auto", 1, NOW + 12_000, last.clone()).await.unwrap(), Ended::Deleted);
    assert_eq!(store.end_live(app, "auto", 1, NOW + 12_000, last).await.unwrap(), Ended::Untouched);
    assert_eq!(store.broadcast(app, "auto").await.unwrap(), None);
    let b = store.broadcast(app, "kept").await.unwrap().unwrap();
    assert_eq!((b.status, b.duration, b.bitrate, b.hls_viewer_count), (Status::Finished, 12_000, 0, 0));
    assert_eq!(store.update_live(vec![update("kept", 1)]).await.unwrap(), 0, "it has ended");
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
    assert_eq!(store.update_live(vec![late]).await.unwrap(), 0);
    let end = store.end_live(app, "s", 1, NOW + 3, BroadcastUpdate::default()).await.unwrap();
    assert_eq!(end, Ended::Untouched);
    let b = store.broadcast(app, "s").await.unwrap().expect("still live under epoch 2");
    assert_eq!((b.status, b.bitrate, b.start_time), (Status::Broadcasting, 0, NOW + 1));
}

/// After a crash no stream is left live.
///
/// # Panics
/// When that does not hold.
pub async fn recovery(store: &dyn Store) {
    store.recover("n1", NOW).await.unwrap();
    let app = "c-recover";
    for id in ["kept", "idle"] {
        store.create_broadcast(app, named(id)).await.unwrap();
    }
    for id in ["kept", "auto"] {
        store.begin_live(app, begin(id, 1, NOW)).await.unwrap();
    }
    let recovered = store.recover("n1", NOW + 5).await.unwrap();
    assert_eq!((recovered.deleted, recovered.finished), (1, 1));
    assert_eq!(store.broadcast(app, "kept").await.unwrap().unwrap().status, Status::Finished);
    assert_eq!(store.broadcast(app, "idle").await.unwrap().unwrap().status, Status::Created);
    assert_eq!(store.broadcast(app, "auto").await.unwrap(), None);
    let again = store.recover("n1", NOW + 6).await.unwrap();
    assert_eq!((again.deleted, again.finished), (0, 0));
}

/// Epochs and sequence numbers only grow.
///
/// # Panics
/// When that does not hold.
pub async fn ownership(store: &dyn Store) {
    let (app, id) = ("c-own", "s");
    let one = store.claim_stream(app, id, "n1", NOW).await.unwrap();
    assert_eq!((one.media_sequence, one.discontinuity_sequence), (0, 0));
    store.reserve_sequence(app, id, one.epoch, NOW, 100, 2).await.unwrap();
    store.reserve_sequence(app, id, one.epoch, NOW, 50, 1).await.expect("an earlier number is no error");
    let two = store.claim_stream(app, id, "n2", NOW + 1).await.unwrap();
    assert_eq!(two.epoch, one.epoch + 1);
    assert_eq!((two.media_sequence, two.discontinuity_sequence), (100, 2), "numbers never go back");
    assert!(matches!(
        store.reserve_sequence(app, id, one.epoch, NOW + 2, 200, 2).await,
        Err(StoreError::Fenced { .. })
    ));
    let other = store.claim_stream(app, "t", "n1", NOW).await.unwrap();
    assert_eq!(other.media_sequence, 0);

    // A day later the record is dropped, but no epoch comes again.
    let later = NOW + OWNERSHIP_KEPT_MS + 10;
    let three = store.claim_stream(app, id, "n1", later).await.unwrap();
    assert!(three.epoch > two.epoch);
    assert_eq!(three.media_sequence, 0);
    let again = store.claim_stream(app, id, "n1", later).await.unwrap();
    assert_eq!(again.epoch, three.epoch + 1);
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
