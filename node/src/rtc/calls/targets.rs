//! The endpoints that streams of this node are pushed to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_media::{Stream, StreamKey};
use sluice_rtc::SessionEvent;
use sluice_rtc::client::{Endpoint, Kind};
use sluice_rtc::service::Service;
use sluice_store::{Result, Status};
use tokio::sync::{Notify, watch};

use super::{Attempts, Caller, End, describe, told};
use crate::streams::Streams;

/// How often the records are looked at, besides whenever a stream begins or ends and whenever they are changed here.
const EVERY: Duration = Duration::from_secs(10);
/// And not more often than this.
const LEAST: Duration = Duration::from_millis(250);

/// A stream and the id of one of its endpoints.
type Push = (StreamKey, String);

/// What pushes.
pub(super) struct Targets {
    service: Arc<Service>,
    streams: Arc<Streams>,
    again: Notify,
    /// What each push is doing.
    statuses: Mutex<HashMap<Push, Status>>,
}

/// A push that runs, and the stream that it sends.
struct Pushing {
    caller: Caller,
    stream: Arc<Stream>,
}

impl Targets {
    pub(super) fn new(service: Arc<Service>, streams: Arc<Streams>) -> Arc<Self> {
        Arc::new(Targets { service, streams, again: Notify::new(), statuses: Mutex::default() })
    }

    pub(super) fn look_again(&self) {
        self.again.notify_one();
    }

    /// What a push is doing; none when there is none.
    pub(super) fn status(&self, key: &StreamKey, endpoint: &str) -> Option<Status> {
        self.statuses().get(&(key.clone(), endpoint.to_owned())).copied()
    }

    fn statuses(&self) -> MutexGuard<'_, HashMap<Push, Status>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pushes what is wanted until the node ends.
    pub(super) async fn run(self: Arc<Self>, mut end: watch::Receiver<bool>) {
        let mut running: HashMap<Push, Pushing> = HashMap::new();
        let mut changes = self.streams.hub().watch();
        while !*end.borrow() {
            match self.wanted().await {
                Ok(wanted) => self.compare(&mut running, wanted),
                Err(error) => tracing::debug!(%error, "the endpoints cannot be read from the store"),
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.again.notified() => {}
                _ = changes.changed() => {}
                _ = end.changed() => {}
            }
            if !*end.borrow() {
                tokio::time::sleep(LEAST).await;
            }
        }
        let ending: Vec<_> = running.into_values().map(|pushing| pushing.caller.end(End::Finish)).collect();
        for task in ending {
            let _ = task.await;
        }
    }

    /// The endpoints of the streams that are live here.
    async fn wanted(&self) -> Result<HashMap<Push, (String, Arc<Stream>)>> {
        let mut live: HashMap<Arc<str>, HashMap<String, Arc<Stream>>> = HashMap::new();
        for (key, one) in self.streams.list(false) {
            live.entry(key.app).or_default().insert(key.id.to_string(), one.stream);
        }
        let mut wanted = HashMap::new();
        for (app, streams) in live {
            let ids: Vec<String> = streams.keys().cloned().collect();
            for broadcast in self.streams.store().broadcasts(&app, &ids).await? {
                let Some(stream) = streams.get(&broadcast.stream_id) else { continue };
                for endpoint in broadcast.end_point_list.into_iter().flatten() {
                    if let (Some(id), Some(url)) = (endpoint.endpoint_service_id, endpoint.endpoint_url) {
                        wanted.insert((stream.key().clone(), id), (url, stream.clone()));
                    }
                }
            }
        }
        Ok(wanted)
    }

    fn compare(
        self: &Arc<Self>,
        running: &mut HashMap<Push, Pushing>,
        wanted: HashMap<Push, (String, Arc<Stream>)>,
    ) {
        let same = |push: &Push, pushing: &Pushing| {
            let wanted = wanted.get(push);
            wanted.is_some_and(|(url, stream)| {
                *url == pushing.caller.url && Arc::ptr_eq(stream, &pushing.stream)
            }) && !pushing.caller.is_over()
        };
        let over: Vec<Push> = running
            .iter()
            .filter(|(push, pushing)| !same(push, pushing))
            .map(|(push, _)| push.clone())
            .collect();
        for push in over {
            if let Some(pushing) = running.remove(&push) {
                drop(pushing.caller.end(End::Finish));
            }
            self.statuses().remove(&push);
        }
        for (push, (url, stream)) in wanted {
            if running.contains_key(&push) {
                continue;
            }
            // Of those that were stored by somebody else some may be of a kind that cannot be called.
            let Ok(to) = Endpoint::parse(&url, Kind::Whip) else {
                self.statuses().insert(push, Status::Failed);
                continue;
            };
            self.statuses().insert(push.clone(), Status::Preparing);
            let (end, told) = watch::channel(None);
            let task = tokio::spawn(self.clone().keep(push.clone(), stream.clone(), to, told));
            running.insert(push, Pushing { caller: Caller { url, end, task }, stream });
        }
    }

    /// Calls the target again and again, for as long as the stream lives.
    async fn keep(
        self: Arc<Self>,
        push: Push,
        stream: Arc<Stream>,
        to: Endpoint,
        mut end: watch::Receiver<Option<End>>,
    ) {
        let mut attempts = Attempts::new(format!("pushing {} to {to}", stream.key()));
        while let Err(why) = self.once(&push, &stream, &to, &mut attempts, &mut end).await {
            if stream.is_ended() {
                break;
            }
            self.set(&push, Status::Error);
            if attempts.failed(why, &mut end).await.is_none() {
                break;
            }
        }
        tracing::info!(stream = %stream.key(), %to, "the stream is not pushed any more");
    }

    fn set(&self, push: &Push, status: Status) {
        // One that is not wanted any more has none.
        if let Some(known) = self.statuses().get_mut(push) {
            *known = status;
        }
    }

    /// One call, until it is over: why, unless it was told to end or the stream has.
    async fn once(
        &self,
        push: &Push,
        stream: &Arc<Stream>,
        to: &Endpoint,
        attempts: &mut Attempts,
        end: &mut watch::Receiver<Option<End>>,
    ) -> std::result::Result<(), String> {
        let mut call = match Box::pin(self.service.push(stream, to)).await {
            Ok(call) => call,
            Err(_) if end.borrow().is_some() => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        loop {
            let event = tokio::select! {
                _ = told(end) => {
                    call.end(true).await;
                    return Ok(());
                }
                event = call.event() => event,
            };
            match event {
                Some(SessionEvent::Connected) => {
                    self.set(push, Status::Broadcasting);
                    attempts.works();
                }
                Some(SessionEvent::StreamEnded(_)) => {
                    call.end(true).await;
                    return Ok(());
                }
                Some(SessionEvent::Closed(why)) => {
                    call.end(true).await;
                    return Err(describe(&why));
                }
                Some(_) => {}
                None => return Err("the media loop has ended".into()),
            }
        }
    }
}
