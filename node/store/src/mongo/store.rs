//! [`Store`] in terms of the other modules.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Mongo, broadcasts, ownership, records};
use crate::{
    App, AppSettings, BeginLive, Broadcast, BroadcastUpdate, Claim, Ended, ListQuery, LiveUpdate, NodeRecord,
    Numbers, Owner, Recovered, Result, Store, Timings,
};

/// Ending all streams of a node takes several commands.
const RECOVERY: u32 = 5;

#[async_trait]
impl Store for Mongo {
    async fn ping(&self) -> Result<()> {
        self.db.call("answer", self.db.ping()).await
    }

    fn timings(&self) -> &Timings {
        &self.db.timings
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.db.changes.subscribe()
    }

    async fn apps(&self) -> Result<Vec<App>> {
        self.db.call("list the apps", records::apps(&self.db)).await
    }

    async fn app(&self, name: &str) -> Result<Option<App>> {
        self.db.call("read an app", records::app(&self.db, name)).await
    }

    async fn create_app(&self, name: &str, settings: AppSettings) -> Result<bool> {
        let made = self.db.call("create an app", records::create_app(&self.db, name, &settings)).await;
        self.db.changed();
        made
    }

    async fn set_app_settings(&self, name: &str, settings: AppSettings, expected: u64) -> Result<u64> {
        let set = records::set_settings(&self.db, name, &settings, expected);
        let version = self.db.call("store settings", set).await;
        self.db.changed();
        version
    }

    async fn delete_app(&self, name: &str, delete_data: bool) -> Result<bool> {
        let gone = self.db.call("delete an app", records::delete_app(&self.db, name, delete_data)).await;
        self.db.changed();
        gone
    }

    async fn create_broadcast(&self, app: &str, broadcast: Broadcast) -> Result<()> {
        self.db.call("create a broadcast", broadcasts::create(&self.db, app, &broadcast)).await
    }

    async fn broadcast(&self, app: &str, id: &str) -> Result<Option<Broadcast>> {
        self.db.call("read a broadcast", broadcasts::get(&self.db, app, id)).await
    }

    async fn broadcasts(&self, app: &str, ids: &[String]) -> Result<Vec<Broadcast>> {
        self.db.call("read broadcasts", broadcasts::get_many(&self.db, app, ids)).await
    }

    async fn update_broadcast(
        &self,
        app: &str,
        id: &str,
        update: BroadcastUpdate,
    ) -> Result<Option<Broadcast>> {
        self.db.call("change a broadcast", broadcasts::update(&self.db, app, id, update)).await
    }

    async fn delete_broadcasts(&self, app: &str, ids: &[String]) -> Result<Vec<String>> {
        self.db.call("delete broadcasts", broadcasts::delete(&self.db, app, ids)).await
    }

    async fn list_broadcasts(&self, app: &str, query: ListQuery) -> Result<Vec<Broadcast>> {
        self.db.call("list broadcasts", broadcasts::list(&self.db, app, &query)).await
    }

    async fn count_broadcasts(&self, app: &str, search: Option<&str>) -> Result<u64> {
        self.db.call("count broadcasts", broadcasts::count(&self.db, app, search)).await
    }

    async fn count_live(&self, app: &str, now: i64) -> Result<u64> {
        self.db.call("count live broadcasts", broadcasts::count_live(&self.db, app, now)).await
    }

    async fn begin_live(&self, app: &str, begin: BeginLive) -> Result<Broadcast> {
        self.db.call("note that a stream is live", broadcasts::begin_live(&self.db, app, begin)).await
    }

    async fn update_live(&self, updates: Vec<LiveUpdate>) -> Result<Vec<usize>> {
        if updates.is_empty() {
            return Ok(Vec::new());
        }
        self.db.call("write the state of live streams", broadcasts::update_live(&self.db, updates)).await
    }

    async fn end_live(
        &self,
        app: &str,
        id: &str,
        epoch: u64,
        now: i64,
        last: BroadcastUpdate,
    ) -> Result<Ended> {
        let end = broadcasts::end_live(&self.db, app, id, epoch, now, last);
        self.db.call("note that a stream has ended", end).await
    }

    async fn recover(&self, node: &str, now: i64) -> Result<Recovered> {
        let limit: Duration = self.db.patience() * RECOVERY;
        let what = "end the streams of a node";
        self.db.within(what, limit, broadcasts::recover(&self.db, node, now)).await
    }

    async fn claim_stream(&self, app: &str, id: &str, node: &str, now: i64, known: Claim) -> Result<Claim> {
        self.db.call("claim a stream", ownership::claim(&self.db, app, id, node, now, known)).await
    }

    async fn adopt_stream(&self, app: &str, id: &str, node: &str, now: i64, claim: Claim) -> Result<()> {
        self.db.call("adopt a stream", ownership::adopt(&self.db, app, id, node, now, claim)).await
    }

    async fn owner(&self, app: &str, id: &str) -> Result<Option<Owner>> {
        self.db.call("say who owns a stream", ownership::owner(&self.db, app, id)).await
    }

    async fn reserve_sequence(
        &self,
        app: &str,
        id: &str,
        epoch: u64,
        now: i64,
        numbers: Numbers,
    ) -> Result<()> {
        let reserve = ownership::reserve(&self.db, app, id, epoch, now, numbers);
        self.db.call("reserve sequence numbers", reserve).await
    }

    async fn put_node(&self, node: NodeRecord) -> Result<()> {
        self.db.call("note that a node is there", records::put_node(&self.db, node)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>> {
        self.db.call("list the nodes", records::nodes(&self.db)).await
    }

    async fn delete_node(&self, id: &str) -> Result<bool> {
        self.db.call("forget a node", records::delete_node(&self.db, id)).await
    }

    async fn value(&self, key: &str) -> Result<Option<String>> {
        self.db.call("read a value", records::value(&self.db, key)).await
    }

    async fn set_value(&self, key: &str, value: &str) -> Result<()> {
        self.db.call("store a value", records::set_value(&self.db, key, value)).await
    }

    async fn close(&self) {
        self.stop();
        if let Some(client) = self.db.client.get() {
            // Connections are closed by the system at the latest when the process ends.
            let bye = client.clone().shutdown().immediate(true);
            let _ = tokio::time::timeout(Duration::from_secs(1), async { bye.await }).await;
        }
    }
}
