//! [`Store`] over the node's own store: what is shared is noted, the rest is passed on.

use async_trait::async_trait;
use sluice_store::{
    App, AppSettings, BeginLive, Broadcast, BroadcastUpdate, Claim, Ended, ListQuery, LiveUpdate, NodeRecord,
    Numbers, Owner, Recovered, Result, Store, Timings,
};
use tokio::sync::watch;

use super::ledger::{app_name, broadcast_name, value_name};
use super::{BATCH, Replica, shape};

#[async_trait]
impl Store for Replica {
    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    fn timings(&self) -> &Timings {
        self.inner.timings()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes()
    }

    async fn apps(&self) -> Result<Vec<App>> {
        self.inner.apps().await
    }

    async fn app(&self, name: &str) -> Result<Option<App>> {
        self.inner.app(name).await
    }

    async fn create_app(&self, name: &str, settings: AppSettings) -> Result<bool> {
        let name = name.to_owned();
        self.transact("create an app", move |ledger, t| {
            let made = t.create_app(&name, &settings)?;
            if made {
                ledger.created(app_name(&name), shape::new_settings(&settings))?;
            }
            Ok(made)
        })
        .await
    }

    async fn set_app_settings(&self, name: &str, settings: AppSettings, expected: u64) -> Result<u64> {
        let name = name.to_owned();
        self.transact("store settings", move |ledger, t| {
            let before = t.app(&name)?.map(|app| shape::of_settings(&app.settings)).unwrap_or_default();
            let version = t.set_app_settings(&name, &settings, expected)?;
            ledger.changed(app_name(&name), shape::changes(&before, &shape::of_settings(&settings)))?;
            Ok(version)
        })
        .await
    }

    async fn delete_app(&self, name: &str, delete_data: bool) -> Result<bool> {
        let name = name.to_owned();
        self.transact("delete an app", move |ledger, t| {
            let mut after = delete_data.then(String::new);
            while let Some(from) = after {
                let page = t.broadcasts_after((&name, &from), BATCH)?;
                let of_app = page.iter().take_while(|(app, _)| *app == name).map(|(_, b)| &b.stream_id);
                for id in of_app.clone() {
                    ledger.deleted(broadcast_name(&name, id))?;
                }
                after = of_app.last().cloned();
            }
            let deleted = t.delete_app(&name, delete_data)?;
            ledger.deleted(app_name(&name))?;
            Ok(deleted)
        })
        .await
    }

    async fn create_broadcast(&self, app: &str, broadcast: Broadcast) -> Result<()> {
        let app = app.to_owned();
        self.transact("create a broadcast", move |ledger, t| {
            t.create_broadcast(&app, &broadcast)?;
            let name = broadcast_name(&app, &broadcast.stream_id).filter(|_| !broadcast.zombi);
            ledger.created(name, shape::new_broadcast(&broadcast))
        })
        .await
    }

    async fn broadcast(&self, app: &str, id: &str) -> Result<Option<Broadcast>> {
        self.inner.broadcast(app, id).await
    }

    async fn broadcasts(&self, app: &str, ids: &[String]) -> Result<Vec<Broadcast>> {
        self.inner.broadcasts(app, ids).await
    }

    async fn update_broadcast(
        &self,
        app: &str,
        id: &str,
        update: BroadcastUpdate,
    ) -> Result<Option<Broadcast>> {
        let (app, id) = (app.to_owned(), id.to_owned());
        self.transact("change a broadcast", move |ledger, t| {
            let before = t.broadcast(&app, &id)?.map(|b| shape::of_broadcast(&b)).unwrap_or_default();
            let after = t.update_broadcast(&app, &id, update)?;
            if let Some(after) = &after {
                let changes = shape::changes(&before, &shape::of_broadcast(after));
                ledger.changed(broadcast_name(&app, &id), changes)?;
            }
            Ok(after)
        })
        .await
    }

    async fn delete_broadcasts(&self, app: &str, ids: &[String]) -> Result<Vec<String>> {
        let (app, ids) = (app.to_owned(), ids.to_owned());
        self.transact("delete broadcasts", move |ledger, t| {
            let gone = t.delete_broadcasts(&app, &ids)?;
            for id in &gone {
                ledger.deleted(broadcast_name(&app, id))?;
            }
            Ok(gone)
        })
        .await
    }

    async fn list_broadcasts(&self, app: &str, query: ListQuery) -> Result<Vec<Broadcast>> {
        self.inner.list_broadcasts(app, query).await
    }

    async fn count_broadcasts(&self, app: &str, search: Option<&str>) -> Result<u64> {
        self.inner.count_broadcasts(app, search).await
    }

    async fn count_live(&self, app: &str, now: i64) -> Result<u64> {
        self.inner.count_live(app, now).await
    }

    async fn begin_live(&self, app: &str, begin: BeginLive) -> Result<Broadcast> {
        self.inner.begin_live(app, begin).await
    }

    async fn update_live(&self, updates: Vec<LiveUpdate>) -> Result<Vec<usize>> {
        self.inner.update_live(updates).await
    }

    async fn end_live(
        &self,
        app: &str,
        id: &str,
        epoch: u64,
        now: i64,
        last: BroadcastUpdate,
    ) -> Result<Ended> {
        let (app, id) = (app.to_owned(), id.to_owned());
        self.transact("note that a stream has ended", move |ledger, t| {
            let ended = t.end_live(&app, &id, epoch, now, last)?;
            if ended == Ended::Finished
                && let Some(b) = t.broadcast(&app, &id)?
            {
                ledger.ended(broadcast_name(&app, &id), &b)?;
            }
            Ok(ended)
        })
        .await
    }

    async fn recover(&self, node: &str, now: i64) -> Result<Recovered> {
        let recovered = self.inner.recover(node, now).await?;
        if recovered.finished > 0 {
            self.share_outcomes().await?;
        }
        Ok(recovered)
    }

    async fn claim_stream(&self, app: &str, id: &str, node: &str, now: i64, known: Claim) -> Result<Claim> {
        self.inner.claim_stream(app, id, node, now, known).await
    }

    async fn adopt_stream(&self, app: &str, id: &str, node: &str, now: i64, claim: Claim) -> Result<()> {
        self.inner.adopt_stream(app, id, node, now, claim).await
    }

    async fn owner(&self, app: &str, id: &str) -> Result<Option<Owner>> {
        self.inner.owner(app, id).await
    }

    async fn reserve_sequence(
        &self,
        app: &str,
        id: &str,
        epoch: u64,
        now: i64,
        numbers: Numbers,
    ) -> Result<()> {
        self.inner.reserve_sequence(app, id, epoch, now, numbers).await
    }

    async fn put_node(&self, node: NodeRecord) -> Result<()> {
        self.inner.put_node(node).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>> {
        self.inner.nodes().await
    }

    async fn delete_node(&self, id: &str) -> Result<bool> {
        self.inner.delete_node(id).await
    }

    async fn value(&self, key: &str) -> Result<Option<String>> {
        self.inner.value(key).await
    }

    async fn set_value(&self, key: &str, value: &str) -> Result<()> {
        if !self.core.values.contains(key) {
            return self.inner.set_value(key, value).await;
        }
        let (key, value) = (key.to_owned(), value.to_owned());
        self.transact("store a value", move |ledger, t| {
            let before = t.value(&key)?;
            t.set_value(&key, &value)?;
            if before.as_deref() == Some(&*value) {
                return Ok(());
            }
            let fields = shape::changes(&serde_json::Map::new(), &shape::of_value(&value));
            match before {
                None => ledger.created(value_name(&key), fields),
                Some(_) => ledger.changed(value_name(&key), fields),
            }
        })
        .await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
