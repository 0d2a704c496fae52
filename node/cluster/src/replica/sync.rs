//! What this node tells the others and asks of them: changes at once, everything when a link comes up and every while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use sluice_store::StoreError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::Replica;
use super::exchange::{
    Ask, BadBody, PULL, PUSH, ReadPage, ask_body, ask_records, push_body, read_page, read_parts, read_pushed,
};
use crate::member::NodeId;
use crate::port::PortError;

/// An answer takes no longer than this.
const WITHIN: Duration = Duration::from_secs(10);

/// The first wait after a failure, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Names that wait to be pushed to one node; beyond that it finds them when it compares.
const WAITING: usize = 10_000;

/// Old deletions are forgotten this often.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// The other nodes: who is up, and a way to ask them.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// The nodes that can be asked now, and the addresses of their cluster ports.
    fn up(&self) -> Vec<(NodeId, String)>;

    /// Asks the node at an address. Any status is an answer.
    async fn request(&self, addr: &str, request: Request<Bytes>) -> Result<Response<Bytes>, PortError>;

    /// A number that changes when [`up`](Peers::up) may have changed.
    fn links(&self) -> watch::Receiver<u64>;
}

/// Why another node could not be told or asked.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it did not answer: {0}")]
    Port(#[from] PortError),
    #[error("it did not answer within {} s", WITHIN.as_secs())]
    Late,
    #[error("it answered {0}: {1}")]
    Status(StatusCode, String),
    #[error("its answer: {0}")]
    Body(#[from] BadBody),
    #[error("its answers do not go on after {0:?}")]
    Stuck(Option<String>),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The exchange with the other nodes; it ends when this is dropped.
#[derive(Debug)]
pub struct Spreading(JoinHandle<()>);

impl Drop for Spreading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is to be done with one node.
struct Lane {
    node: NodeId,
    addr: String,
    push: Mutex<BTreeSet<String>>,
    pull: AtomicBool,
    wake: Notify,
}

/// A lane and its task, which ends with it.
struct Work {
    lane: Arc<Lane>,
    task: JoinHandle<()>,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lane {
    fn push(&self, names: &BTreeSet<String>) {
        let mut push = self.push.lock().unwrap_or_else(PoisonError::into_inner);
        if push.len() + names.len() <= WAITING {
            push.extend(names.iter().cloned());
        }
        drop(push);
        self.wake.notify_one();
    }

    fn pull(&self) {
        self.pull.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

impl Replica {
    /// Tells the others what changes here, and asks them for what changed there.
    pub fn spread(self: &Arc<Self>, peers: Arc<dyn Peers>) -> Spreading {
        Spreading(tokio::spawn(spread(self.clone(), peers)))
    }

    async fn request(
        &self,
        peers: &dyn Peers,
        addr: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, Failed> {
        let request =
            Request::post(path).header(header::CONTENT_TYPE, "application/json").body(Bytes::from(body))?;
        let answer =
            tokio::time::timeout(WITHIN, peers.request(addr, request)).await.map_err(|_| Failed::Late)??;
        if !answer.status().is_success() {
            let text = String::from_utf8_lossy(answer.body()).chars().take(200).collect();
            return Err(Failed::Status(answer.status(), text));
        }
        Ok(answer.into_body())
    }

    /// Tells one node of these records.
    async fn push_to(
        self: &Arc<Self>,
        peers: &dyn Peers,
        lane: &Lane,
        names: &mut Vec<String>,
    ) -> Result<(), Failed> {
        while !names.is_empty() {
            let (records, last) = self.tell(names.clone()).await?;
            let told = last.map_or(names.len(), |last| names.partition_point(|name| *name <= last));
            if !records.is_empty() {
                let body = self.request(peers, &lane.addr, PUSH, push_body(&records)).await?;
                let (newer, refused) = read_pushed(&body)?;
                for refused in refused {
                    let by = format!("{} does not take a record", lane.node);
                    self.complain(&by, &refused.name, &refused.reason);
                }
                self.apply(newer).await?;
            }
            names.drain(..told);
        }
        Ok(())
    }

    /// Asks one node for all that it knows more about, and notes what it is to be told: what it lacks or knows less about. (It
    /// may not know of this node yet, and so not ask.)
    async fn pull_from(self: &Arc<Self>, peers: &dyn Peers, lane: &Lane) -> Result<usize, Failed> {
        let body = self.request(peers, &lane.addr, PULL, ask_body(&self.ask_parts())).await?;
        let parts = read_parts(&body)?.parts;
        let (mut after, mut news) = (None::<String>, 0);
        while !parts.is_empty() {
            let ask = ask_records(&self.core.index(), &parts, after.as_deref());
            let body = self.request(peers, &lane.addr, PULL, ask_body(&ask)).await?;
            let Ask::Records { until, .. } = ask else { break };
            let ReadPage { records, next, lacks } = read_page(&body)?;
            let applied = self.apply(records).await?;
            news += applied.news;
            let newer = applied.newer.iter().map(|told| told.record.name.to_text());
            let tell: BTreeSet<String> = newer.chain(lacks).collect();
            if !tell.is_empty() {
                lane.push(&tell);
            }
            let next = next.or(until);
            if next.is_none() {
                break;
            }
            if next <= after {
                return Err(Failed::Stuck(after));
            }
            after = next;
        }
        Ok(news)
    }
}

async fn spread(replica: Arc<Replica>, peers: Arc<dyn Peers>) {
    let mut links = peers.links();
    let mut work = BTreeMap::<(NodeId, String), Work>::new();
    let mut forget = tokio::time::interval(FORGET_EVERY);
    forget.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut compare = std::pin::pin!(tokio::time::sleep(replica.options.every));
    loop {
        let up: BTreeSet<(NodeId, String)> = peers.up().into_iter().collect();
        if work.keys().ne(up.iter()) {
            work.retain(|node, _| up.contains(node));
            for node in up {
                work.entry(node).or_insert_with_key(|(node, addr)| start(&replica, &peers, node, addr));
            }
            replica.asked.send_modify(|asked| {
                asked.retain(|node, _| work.keys().any(|(up, _)| up == node));
                for (node, _) in work.keys() {
                    asked.entry(node.clone()).or_default();
                }
            });
        }
        let untold = replica.core.take_untold();
        if !untold.is_empty() {
            work.values().for_each(|work| work.lane.push(&untold));
        }
        tokio::select! {
            changed = links.changed() => if changed.is_err() {
                return;
            },
            () = replica.core.told.notified() => {}
            () = &mut compare => {
                if replica.core.doubtful.load(Ordering::Acquire) && let Err(e) = replica.reload().await {
                    tracing::warn!(error = %e, "the notes about shared records cannot be read");
                }
                work.values().for_each(|work| work.lane.pull());
                // Not all nodes at the same moment.
                let every = replica.options.every.mul_f64(rand::random_range(0.9..1.1));
                compare.as_mut().reset(tokio::time::Instant::now() + every);
            }
            _ = forget.tick() => {
                if let Err(e) = replica.write("forget old deletions", |ledger| ledger.forget()).await {
                    tracing::warn!(error = %e, "old deletions cannot be forgotten");
                }
            }
        }
    }
}

fn start(replica: &Arc<Replica>, peers: &Arc<dyn Peers>, node: &NodeId, addr: &str) -> Work {
    let lane = Arc::new(Lane {
        node: node.clone(),
        addr: addr.to_owned(),
        push: Mutex::default(),
        pull: AtomicBool::new(true),
        wake: Notify::new(),
    });
    let task = tokio::spawn(serve(replica.clone(), peers.clone(), lane.clone()));
    Work { lane, task }
}

/// Does what one node needs, one after the other; a slow node holds up no other.
async fn serve(replica: Arc<Replica>, peers: Arc<dyn Peers>, lane: Arc<Lane>) {
    let mut wait = BACKOFF.0;
    loop {
        match exchange(&replica, peers.as_ref(), &lane).await {
            Ok(()) => wait = BACKOFF.0,
            Err(e) => {
                tracing::debug!(node = %lane.node, error = %e, "the exchange of shared records failed; it is tried again");
                tokio::time::sleep(wait.mul_f64(rand::random_range(0.75..1.25))).await;
                wait = (wait * 2).min(BACKOFF.1);
                continue;
            }
        }
        lane.wake.notified().await;
        tokio::time::sleep(replica.options.gather).await;
    }
}

/// What is to be done now. What fails is to be done again.
async fn exchange(replica: &Arc<Replica>, peers: &dyn Peers, lane: &Lane) -> Result<(), Failed> {
    let mut names: Vec<String> =
        std::mem::take(&mut *lane.push.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect();
    let pushed = replica.push_to(peers, lane, &mut names).await;
    if !names.is_empty() {
        lane.push(&names.into_iter().collect());
    }
    pushed?;
    if lane.pull.swap(false, Ordering::AcqRel) {
        match replica.pull_from(peers, lane).await {
            Ok(news) => {
                if news > 0 {
                    tracing::info!(node = %lane.node, records = news, "took over records of another node");
                }
                replica.asked.send_modify(|asked| {
                    asked.entry(lane.node.clone()).and_modify(|asked| *asked = true);
                });
            }
            Err(e) => {
                lane.pull.store(true, Ordering::Release);
                return Err(e);
            }
        }
    }
    Ok(())
}
