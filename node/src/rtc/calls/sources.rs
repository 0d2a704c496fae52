//! The sources that this node pulls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_cluster::directory::Directory;
use sluice_media::StreamKey;
use sluice_rtc::SessionEvent;
use sluice_rtc::client::{Endpoint, Kind};
use sluice_rtc::service::Service;
use sluice_rtc::transport::Closed;
use sluice_store::{BroadcastUpdate, LIST_LIMIT, ListQuery, Result, Status};
use tokio::sync::{Notify, watch};

use super::place::{self, Node};
use super::{Attempts, Caller, End, describe, told};
use crate::apps::Apps;
use crate::streams::Streams;
use crate::streams::door::Pulled;

/// How often the records are looked at: they may have been changed on another node.
const EVERY: Duration = Duration::from_secs(2);
/// A source that sends nothing for so long is called anew.
const SILENT: Duration = Duration::from_secs(8);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What pulls.
pub(super) struct Sources {
    service: Arc<Service>,
    streams: Arc<Streams>,
    apps: Arc<Apps>,
    nodes: Option<Arc<Directory>>,
    again: Notify,
}

impl Sources {
    pub(super) fn new(
        service: Arc<Service>,
        streams: Arc<Streams>,
        apps: Arc<Apps>,
        nodes: Option<Arc<Directory>>,
    ) -> Arc<Self> {
        Arc::new(Sources { service, streams, apps, nodes, again: Notify::new() })
    }

    pub(super) fn look_again(&self) {
        self.again.notify_one();
    }

    /// Pulls what is wanted until the node ends.
    pub(super) async fn run(self: Arc<Self>, mut end: watch::Receiver<bool>) {
        if let Some(nodes) = &self.nodes {
            // Who has just started does not know yet who pulls what.
            nodes.introduced().await;
        }
        let mut running: HashMap<StreamKey, Caller> = HashMap::new();
        let mut drains = self.streams.drains();
        while !*end.borrow() && !drains.borrow_and_update().is_stopping() {
            match self.wanted().await {
                Ok(wanted) => self.compare(&mut running, wanted),
                // What runs goes on.
                Err(error) => tracing::debug!(%error, "the sources cannot be read from the store"),
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.again.notified() => {}
                _ = drains.changed() => {}
                _ = end.changed() => {}
            }
        }
        let how = if self.nodes.is_some() { End::Move } else { End::Finish };
        let ending: Vec<_> = running.into_values().map(|caller| caller.end(how)).collect();
        for task in ending {
            let _ = task.await;
        }
    }

    /// The sources that were started, and where they are.
    async fn wanted(&self) -> Result<HashMap<StreamKey, String>> {
        let mut wanted = HashMap::new();
        for app in self.apps.names() {
            let kind = Some("streamSource".to_owned());
            let mut query = ListQuery { size: LIST_LIMIT, kind, ..ListQuery::default() };
            loop {
                let page = self.streams.store().list_broadcasts(&app, query.clone()).await?;
                query.offset += page.len();
                let is_last = page.len() < LIST_LIMIT;
                let started = page.into_iter().filter(|b| b.source_started == Some(true));
                wanted.extend(
                    started.filter_map(|b| Some((StreamKey::new(app.as_str(), b.stream_id), b.stream_url?))),
                );
                if is_last {
                    break;
                }
            }
        }
        Ok(wanted)
    }

    fn compare(
        self: &Arc<Self>,
        running: &mut HashMap<StreamKey, Caller>,
        wanted: HashMap<StreamKey, String>,
    ) {
        let nodes = self.members();
        let mine = |key: &StreamKey| match &nodes {
            None => true,
            Some(nodes) => {
                let me = self.streams.me().id.as_str();
                place::of(key, self.owner(key).as_deref(), nodes) == Some(me)
            }
        };
        for key in running.keys().cloned().collect::<Vec<_>>() {
            let same = |caller: &Caller| wanted.get(&key) == Some(&caller.url) && !caller.is_over();
            let how = match running.get(&key).is_some_and(same) {
                true if mine(&key) => continue,
                true => End::Move,
                false => End::Finish,
            };
            if let Some(caller) = running.remove(&key) {
                drop(caller.end(how));
            }
        }
        for (key, url) in wanted {
            if running.contains_key(&key) || !mine(&key) {
                continue;
            }
            match Endpoint::parse(&url, Kind::Whep) {
                Ok(from) => drop(running.insert(key.clone(), self.clone().start(key, url, from))),
                // It was changed after it was started.
                Err(why) => tracing::debug!(stream = %key, %why, "a source cannot be pulled"),
            }
        }
    }

    /// The members of the cluster; none without one.
    fn members(&self) -> Option<Vec<Node>> {
        let nodes = self.nodes.as_ref()?;
        let all = nodes.members().into_iter().filter_map(|seen| {
            let member = seen.member?;
            let me = seen.id == *nodes.id();
            Some(Node {
                reachable: me || seen.reachable,
                takes_publishers: member.role.takes_publishers(),
                draining: if me { self.streams.open().is_err() } else { member.draining },
                id: seen.id.to_string(),
            })
        });
        Some(all.collect())
    }

    fn owner(&self, key: &StreamKey) -> Option<String> {
        let (owner, _) = self.nodes.as_ref()?.stream(key)?.owner?;
        Some(owner.to_string())
    }

    fn start(self: Arc<Self>, key: StreamKey, url: String, from: Endpoint) -> Caller {
        let (end, told) = watch::channel(None);
        let task = tokio::spawn(self.keep(key, from, told));
        Caller { url, end, task }
    }

    /// Calls the source again and again.
    async fn keep(self: Arc<Self>, key: StreamKey, from: Endpoint, mut end: watch::Receiver<Option<End>>) {
        let mut attempts = Attempts::new(format!("pulling {key} from {from}"));
        while let Err(why) = self.once(&key, &from, &mut attempts, &mut end).await {
            self.note(&key).await;
            if attempts.failed(why, &mut end).await.is_none() {
                break;
            }
        }
        tracing::info!(stream = %key, "the source is not pulled here any more");
    }

    /// One call, until it is over: why, unless it was told to end.
    async fn once(
        &self,
        key: &StreamKey,
        from: &Endpoint,
        attempts: &mut Attempts,
        end: &mut watch::Receiver<Option<End>>,
    ) -> std::result::Result<(), String> {
        let ingress = Pulled(self.streams.clone());
        let pulled = Box::pin(self.service.pull(from, key.clone(), &ingress)).await;
        let mut call = match pulled {
            Ok(call) => call,
            Err(_) if end.borrow().is_some() => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                how = told(end) => {
                    if how == End::Move {
                        // It is given away, not ended: viewers wait for the node that goes on with it.
                        call.stream().set_moving();
                    }
                    call.end(how == End::Finish).await;
                    return Ok(());
                }
                event = call.event() => match event {
                    Some(SessionEvent::Connected) => attempts.works(),
                    Some(SessionEvent::Closed(why)) => {
                        call.end(false).await;
                        let was_stopped = matches!(why, Closed::Stopped(_));
                        // Who stops a stream says so in its record, too, which is just being read.
                        if was_stopped && tokio::time::timeout(LOOK, told(end)).await.is_ok() {
                            return Ok(());
                        }
                        return Err(describe(&why));
                    }
                    Some(_) => {}
                    None => return Err("the media loop has ended".into()),
                },
                _ = look.tick() => {
                    if call.stream().silent_for() >= SILENT {
                        call.end(false).await;
                        return Err(format!("nothing came for {} s", SILENT.as_secs()));
                    }
                }
            }
        }
    }

    /// Whoever looks at the record of a source that is not there sees that.
    async fn note(&self, key: &StreamKey) {
        if self.streams.get(key).is_some() {
            return;
        }
        let failed = BroadcastUpdate { status: Some(Status::Failed), ..BroadcastUpdate::default() };
        let noted = async {
            let store = self.streams.store();
            let is_new = store.broadcast(&key.app, &key.id).await?.is_some_and(|b| {
                b.source_started == Some(true) && !matches!(b.status, Status::Failed) && !b.status.is_live()
            });
            if is_new {
                store.update_broadcast(&key.app, &key.id, failed).await?;
            }
            Result::Ok(())
        };
        if let Err(error) = noted.await {
            tracing::debug!(stream = %key, %error, "that a source failed cannot be stored");
        }
    }
}
