use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::conformance;

fn open(dir: &Path) -> Sqlite {
    Sqlite::open(dir).unwrap()
}

fn named(id: &str) -> Broadcast {
    Broadcast { stream_id: id.into(), ..Default::default() }
}

#[tokio::test]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance::all(&open(dir.path())).await;
}

#[tokio::test]
async fn what_is_stored_is_there_after_closing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("deep/data"));
    store.create_broadcast("a", named("s")).await.unwrap();
    store.close().await;
    assert!(matches!(store.ping().await, Err(StoreError::Closed)));
    let store = open(&dir.path().join("deep/data"));
    assert!(store.broadcast("a", "s").await.unwrap().is_some());
}

#[test]
fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("data"));
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(store.file()), 0o600);
    assert_eq!(mode(store.file().parent().unwrap()), 0o700);
}

#[test]
fn one_process_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let second = Sqlite::open(dir.path()).unwrap_err();
    let me = std::process::id();
    assert!(matches!(second, StoreError::Locked { pid: Some(pid), .. } if pid == me), "{second}");
    drop(store);
    open(dir.path());
}

#[test]
fn damage_is_found_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sluice.db");
    std::fs::write(&file, "this is not a database, but it is long enough to look like a page".repeat(100))
        .unwrap();
    let error = Sqlite::open(dir.path()).unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { path, .. } if *path == file), "{error}");
    assert!(error.to_string().contains("restore a backup"), "{error}");
}

#[tokio::test]
async fn overwritten_pages_are_found_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for i in 0..200 {
        store.create_broadcast("a", named(&format!("s{i}"))).await.unwrap();
    }
    let file = store.file().to_path_buf();
    drop(store);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[4096 * 3..middle].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    assert!(matches!(Sqlite::open(dir.path()), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_directory_that_cannot_be_one_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Sqlite::open(&file).unwrap_err();
    assert!(matches!(&error, StoreError::Io { path, .. } if *path == file), "{error}");
}

#[tokio::test]
async fn a_full_disk_fails_the_call_and_stores_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.create_broadcast("a", named("before")).await.unwrap();
    let limit = "PRAGMA max_page_count";
    let pages: i64 =
        store.read("count pages", |c| Ok(c.query_row("PRAGMA page_count", [], |r| r.get(0))?)).await.unwrap();
    let set_limit = async |pages: i64| {
        store
            .read("limit pages", move |c| Ok(c.query_row(&format!("{limit} = {pages}"), [], |_| Ok(()))?))
            .await
            .unwrap();
    };
    set_limit(pages).await;
    let big = Broadcast { meta_data: Some("x".repeat(100_000)), ..named("big") };
    let error = store.create_broadcast("a", big.clone()).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(store.broadcast("a", "big").await.unwrap().is_none());
    assert!(store.broadcast("a", "before").await.unwrap().is_some(), "reading goes on");
    set_limit(1 << 30).await;
    store.create_broadcast("a", big).await.expect("it works again when there is space");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_a_commit_and_a_failing_one_harms_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let tasks: Vec<_> = (0..400)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move {
                // Every id comes twice: one of the two calls fails.
                store.create_broadcast("a", named(&format!("s{}", i / 2))).await.is_ok()
            })
        })
        .collect();
    let mut stored = 0;
    for task in tasks {
        stored += u64::from(task.await.unwrap());
    }
    assert_eq!(stored, 200);
    assert_eq!(store.count_broadcasts("a", None).await.unwrap(), 200);
}

/// Not a test of its own: what `kill_9_loses_nothing_acknowledged` starts as another process.
#[tokio::test]
#[ignore = "run by kill_9_loses_nothing_acknowledged"]
async fn crash_child() {
    let Some(dir) = std::env::var_os("SLUICE_TEST_CRASH_DIR") else { return };
    let store = Arc::new(open(Path::new(&dir)));
    let run = std::env::var("SLUICE_TEST_CRASH_RUN").unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, run) = (store.clone(), run.clone());
            tokio::spawn(async move {
                for i in 0u64.. {
                    let id = format!("r{run}-w{writer}-{i}");
                    store.create_broadcast("a", named(&id)).await.unwrap();
                    store
                        .begin_live(
                            "a",
                            crate::BeginLive {
                                stream_id: id.clone(),
                                node: "n".into(),
                                epoch: 1,
                                now: 1,
                                known: BroadcastUpdate {
                                    name: Some(format!("name of {id}")),
                                    ..Default::default()
                                },
                            },
                        )
                        .await
                        .unwrap();
                    let line = format!("\nstored {id} .\n");
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut stored = Vec::new();
    for run in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::tests::crash_child", "--ignored", "--nocapture"])
            .env("SLUICE_TEST_CRASH_DIR", dir.path())
            .env("SLUICE_TEST_CRASH_RUN", run.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let before = stored.len();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            if let Some(id) = line.strip_prefix("stored ").and_then(|l| l.strip_suffix(" .")) {
                stored.push(id.to_owned());
            }
            if stored.len() == before + 150 * (run + 1) {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(stored.len() >= before + 150 * (run + 1), "the child wrote");

        let store = open(dir.path());
        for id in &stored[before..] {
            let b = store.broadcast("a", id).await.unwrap().unwrap_or_else(|| panic!("{id} is lost"));
            assert_eq!(b.name, Some(format!("name of {id}")));
        }
        let recovered = store.recover("n", 2).await.unwrap();
        assert!(recovered.finished >= (stored.len() - before) as u64);
        assert_eq!(store.count_live("a", 2).await.unwrap(), 0, "nothing is left live");
    }
}
