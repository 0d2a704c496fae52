//! Where this node is the client: it pulls the sources that were started, and pushes live streams to their endpoints.
//!
//! - `sources`, `targets`: what the records want is compared with what runs, again and again; each source and each endpoint that is
//!   wanted has a task that calls, and calls again when that ends.
//! - `place`: which node of a cluster pulls a source.

mod place;
mod sources;
mod targets;

use std::sync::Arc;
use std::time::Duration;

use sluice_cluster::directory::Directory;
use sluice_cluster::relay::Backoff;
use sluice_media::StreamKey;
use sluice_rtc::client::{Endpoint, Kind};
use sluice_rtc::service::Service;
use sluice_rtc::transport::Closed;
use sluice_store::Status;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::sources::Sources;
use self::targets::Targets;
use crate::apps::Apps;
use crate::streams::Streams;

/// Between two calls, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long those who are called may take to be told that the node ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// All calls of this node.
pub(crate) struct Calls {
    running: Option<Running>,
    /// Why nothing can be pulled or pushed at all.
    never: Option<String>,
}

struct Running {
    sources: Arc<Sources>,
    targets: Arc<Targets>,
    end: watch::Sender<bool>,
}

impl Calls {
    /// Those of a node that takes publishers; nobody is called before [`run`](Self::run).
    pub(crate) fn new(
        service: Arc<Service>,
        streams: Arc<Streams>,
        apps: Arc<Apps>,
        nodes: Option<Arc<Directory>>,
    ) -> Self {
        let sources = Sources::new(service.clone(), streams.clone(), apps, nodes);
        let targets = Targets::new(service, streams);
        Calls { running: Some(Running { sources, targets, end: watch::Sender::new(false) }), never: None }
    }

    /// Those of a node that calls nobody: because `never`, or because other nodes do.
    pub(crate) fn none(never: Option<String>) -> Self {
        Calls { running: None, never }
    }

    /// Begins. What is given is to be [ended](Tasks::end).
    pub(crate) fn run(&self) -> Tasks {
        let Some(Running { sources, targets, end }) = &self.running else { return Tasks::default() };
        let tasks = vec![
            tokio::spawn(sources.clone().run(end.subscribe())),
            tokio::spawn(targets.clone().run(end.subscribe())),
        ];
        Tasks { tasks, end: Some(end.clone()) }
    }
}

/// What calls.
#[derive(Default)]
pub(crate) struct Tasks {
    tasks: Vec<JoinHandle<()>>,
    end: Option<watch::Sender<bool>>,
}

impl Tasks {
    /// Ends all calls with a goodbye.
    pub(crate) async fn end(self) {
        if let Some(end) = self.end {
            end.send_replace(true);
        }
        for task in self.tasks {
            // Whoever is called and does not answer notices by itself.
            let _ = tokio::time::timeout(FAREWELL, task).await;
        }
    }
}

impl sluice_api::Calls for Calls {
    fn check_source(&self, url: &str) -> Result<(), String> {
        self.check(url, Kind::Whep).map_err(|why| format!("the source cannot be pulled: {why}"))
    }

    fn check_endpoint(&self, url: &str) -> Result<(), String> {
        self.check(url, Kind::Whip).map_err(|why| format!("nothing can be pushed there: {why}"))
    }

    fn look_again(&self) {
        if let Some(Running { sources, targets, .. }) = &self.running {
            sources.look_again();
            targets.look_again();
        }
    }

    fn push_status(&self, key: &StreamKey, endpoint: &str) -> Option<Status> {
        self.running.as_ref()?.targets.status(key, endpoint)
    }
}

impl Calls {
    fn check(&self, url: &str, kind: Kind) -> Result<(), String> {
        match &self.never {
            Some(why) => Err(why.clone()),
            None => Endpoint::parse(url, kind).map(drop).map_err(|why| why.to_string()),
        }
    }
}

/// How a call is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is not wanted any more.
    Finish,
    /// Another node goes on with it.
    Move,
}

/// A task that calls. Dropping it ends it.
struct Caller {
    url: String,
    end: watch::Sender<Option<End>>,
    task: JoinHandle<()>,
}

impl Caller {
    fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Tells it to end; what is given is done when it has.
    fn end(self, how: End) -> JoinHandle<()> {
        self.end.send_replace(Some(how));
        self.task
    }
}

/// Waits until a call is told to end.
async fn told(end: &mut watch::Receiver<Option<End>>) -> End {
    match end.wait_for(Option::is_some).await {
        Ok(how) => how.unwrap_or(End::Finish),
        Err(_) => End::Finish,
    }
}

/// The pauses between calls, and what was said of them.
struct Attempts {
    what: String,
    backoff: Backoff,
    said: Option<String>,
}

impl Attempts {
    fn new(what: String) -> Self {
        Attempts { what, backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), said: None }
    }

    /// Media flows.
    fn works(&mut self) {
        self.backoff.reset();
        self.said = None;
        tracing::info!("{}: media flows", self.what);
    }

    /// Says why, once for each reason, and waits; none when it was told to end meanwhile.
    async fn failed(&mut self, why: String, end: &mut watch::Receiver<Option<End>>) -> Option<()> {
        let pause = self.backoff.next(rand::random());
        if self.said.as_ref() == Some(&why) {
            tracing::debug!(?pause, "{}: {why}", self.what);
        } else {
            tracing::warn!("{}: {why}; trying again", self.what);
            self.said = Some(why);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => Some(()),
            _ = told(end) => None,
        }
    }
}

fn describe(why: &Closed) -> String {
    match why {
        Closed::ByPeer => "the other side said goodbye".to_owned(),
        Closed::Silent(text) => text.clone(),
        Closed::Stopped(reason) => reason.to_string(),
        Closed::ByUs => "it was closed".to_owned(),
    }
}
