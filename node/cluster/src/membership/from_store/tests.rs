use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::member::BootId;

/// A store that several nodes share, which can be away, and lose everything.
#[derive(Clone, Default)]
struct Shelf {
    records: Arc<Mutex<BTreeMap<String, NodeRecord>>>,
    away: Arc<AtomicBool>,
}

impl Shelf {
    fn open(&self) -> Result<MutexGuard<'_, BTreeMap<String, NodeRecord>>, StoreError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Timeout { what: "test", seconds: 1 });
        }
        Ok(self.records.lock().unwrap())
    }
}

#[async_trait]
impl Nodes for Shelf {
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        Ok(self.open()?.values().cloned().collect())
    }

    async fn put(&self, node: NodeRecord) -> Result<(), StoreError> {
        self.open()?.insert(node.id.clone(), node);
        Ok(())
    }

    async fn delete(&self, id: &NodeId) -> Result<bool, StoreError> {
        Ok(self.open()?.remove(id.as_str()).is_some())
    }
}

fn member(id: &str, boot: u32) -> watch::Receiver<Member> {
    let member = serde_json::json!({
        "id": id, "boot": boot, "host": format!("{id}.example"), "ports": {"cluster": 5000},
    });
    watch::channel(serde_json::from_value(member).unwrap()).1
}

fn join(shelf: &Shelf, id: &str, boot: u32) -> FromStore {
    FromStore::start_on(Box::new(shelf.clone()), member(id, boot), StoreTiming::default())
}

fn ids(node: &FromStore) -> Vec<String> {
    let mut ids: Vec<_> = node.peers().into_iter().filter_map(|peer| Some(peer.id?.to_string())).collect();
    ids.sort();
    ids
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_see_each_other_come_and_go() {
    let shelf = Shelf::default();
    let (a, b) = (join(&shelf, "a", 1), join(&shelf, "b", 1));
    seconds(3).await;
    assert_eq!((ids(&a), ids(&b)), (vec!["b".to_owned()], vec!["a".to_owned()]));
    let counter = a.peers()[0].counter;
    seconds(5).await;
    assert!(a.peers()[0].counter > counter);
    assert_eq!(a.peers()[0].addr, "b.example:5000");

    // A killed node is listed for a while, one that leaves is not.
    let c = join(&shelf, "c", 1);
    seconds(3).await;
    drop(b);
    c.leave().await.unwrap();
    seconds(3).await;
    assert_eq!(ids(&a), ["b"]);
    seconds(20).await;
    assert!(ids(&a).is_empty());
    assert!(shelf.records.lock().unwrap().contains_key("b"));
    seconds(3600).await;
    assert!(!shelf.records.lock().unwrap().contains_key("b"));
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_the_last_known_stay() {
    let shelf = Shelf::default();
    let (a, b) = (join(&shelf, "a", 1), join(&shelf, "b", 1));
    seconds(5).await;
    let health = a.health();
    assert_eq!(*health.borrow(), Health::default());
    shelf.away.store(true, Ordering::Relaxed);
    seconds(300).await;
    assert_eq!((ids(&a), ids(&b)), (vec!["b".to_owned()], vec!["a".to_owned()]));
    let away = health.borrow().away_since.unwrap().elapsed();
    assert!((295..=300).contains(&away.as_secs()), "{away:?}");
    assert!(health.borrow().why.as_deref().unwrap().contains("test"));
    assert!(!a.remove(&NodeId::new("b")).await);

    shelf.away.store(false, Ordering::Relaxed);
    seconds(10).await;
    assert_eq!(*health.borrow(), Health::default());
    assert_eq!(ids(&a), ["b"]);
    drop(b);
    seconds(25).await;
    assert!(ids(&a).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_empty_is_filled_again() {
    let shelf = Shelf::default();
    let (a, b) = (join(&shelf, "a", 1), join(&shelf, "b", 1));
    seconds(5).await;
    shelf.away.store(true, Ordering::Relaxed);
    seconds(30).await;
    shelf.records.lock().unwrap().clear();
    shelf.away.store(false, Ordering::Relaxed);
    seconds(10).await;
    assert_eq!((ids(&a), ids(&b)), (vec!["b".to_owned()], vec!["a".to_owned()]));
    assert_eq!((a.health().borrow().lost, b.health().borrow().lost), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn removed_nodes_come_back_only_alive() {
    let shelf = Shelf::default();
    let (a, b) = (join(&shelf, "a", 1), join(&shelf, "b", 1));
    seconds(3).await;
    assert!(a.remove(&NodeId::new("b")).await);
    assert!(ids(&a).is_empty());
    seconds(5).await;
    assert_eq!(ids(&a), ["b"]);
    drop(b);
    assert!(a.remove(&NodeId::new("b")).await);
    seconds(30).await;
    assert!(ids(&a).is_empty());
    assert!(!a.remove(&NodeId::new("b")).await && !a.remove(&NodeId::new("a")).await);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_takes_over_its_record() {
    let shelf = Shelf::default();
    let a = join(&shelf, "a", 1);
    let b = join(&shelf, "b", 1);
    seconds(5).await;
    drop(b);
    let b = join(&shelf, "b", 2);
    seconds(3).await;
    assert_eq!(a.peers()[0].boot, Some(BootId(2)));
    assert_eq!(b.health().borrow().lost, 0);
}

#[tokio::test]
async fn works_on_a_real_store() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(sluice_store::Sqlite::open(dir.path()).unwrap());
    let timing = StoreTiming { renew: Duration::from_millis(30), ..StoreTiming::default() };
    let a = FromStore::start(store.clone(), member("a", 1), timing.clone());
    let b = FromStore::start(store.clone(), member("b", 1), timing);
    let mut changed = a.changed();
    let found = tokio::time::timeout(Duration::from_secs(5), async {
        while ids(&a) != ["b"] {
            changed.changed().await.unwrap();
        }
    });
    found.await.expect("they find each other");
    b.leave().await.unwrap();
    let gone = tokio::time::timeout(Duration::from_secs(5), async {
        while !ids(&a).is_empty() {
            changed.changed().await.unwrap();
        }
    });
    gone.await.expect("it is gone at once");
    store.close().await;
}
