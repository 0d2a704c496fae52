//! Stored state without a database: every node has all of it.
//!
//! [`Replica`] is a [`Store`](sluice_store::Store) over a node's own [`Sqlite`]. Apps with their settings, broadcasts that were
//! created over REST, and some values are *shared*: a change of one is noted with its version in the same transaction
//! ([`Record`]), pushed to every node that is up, and found by the others when they compare what they have. Streams that are
//! live, who owns them, and nodes stay in the node's own store: the mesh tells of these.
//!
//! - [`Stamp`], [`Record`]: versions, and how two nodes' knowledge becomes one; pure.
//! - [`exchange`]: the bodies of push and pull; pure.
//! - [`routes`]: what other nodes ask of this one.
//! - [`Peers`], [`Replica::spread`]: what this one tells and asks the others.

pub mod exchange;
mod index;
mod ledger;
mod name;
mod record;
mod routes;
mod shape;
mod stamp;
mod store;
mod sync;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use sluice_store::{Result, Sqlite, Status};
use tokio::sync::{Notify, watch};

pub use name::{BadName, Name};
pub use record::{BadRecord, Changes, Conflict, Field, Joined, RECORD_LIMIT, Record};
pub use routes::routes;
pub use stamp::{Clock, Stamp};
pub use sync::{Peers, Spreading};

use self::exchange::{Ask, Page, Parts, Pushed, ReadRecord, Told};
use self::index::Index;
use self::ledger::{Applied, Core, Effect, Ledger};
use crate::member::{BootId, NodeId};

/// Records that one transaction takes, so that nobody waits long for the store.
const BATCH: usize = 128;

/// The time, ms since the Unix epoch.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a replica works.
#[derive(Clone)]
pub struct Options {
    /// The keys of the values that all nodes have in common, such as the hash of the admin token.
    pub shared_values: Vec<String>,
    /// All is compared with each other node this often, beside when a link comes up.
    pub every: Duration,
    /// Changes are gathered for this long before they are pushed.
    pub gather: Duration,
    /// The time.
    pub now: Now,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("shared_values", &self.shared_values)
            .field("every", &self.every)
            .field("gather", &self.gather)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Compared every 30 s, gathered for 20 ms.
    pub fn new(shared_values: Vec<String>, now: Now) -> Self {
        Options { shared_values, every: Duration::from_secs(30), gather: Duration::from_millis(20), now }
    }
}

/// Hears of what other nodes did. Called after it is stored; must not block.
pub trait Hooks: Send + Sync {
    /// A broadcast was deleted elsewhere: when it is live here, it is to be stopped.
    fn broadcast_deleted(&self, app: &str, id: &str);

    /// A broadcast was created elsewhere.
    fn broadcast_created(&self, app: &str, id: &str) {
        let _ = (app, id);
    }

    /// An app was deleted elsewhere: its streams here are to be stopped.
    fn app_deleted(&self, app: &str) {
        let _ = app;
    }
}

/// The node's own store, whose shared records are those of all nodes.
pub struct Replica {
    inner: Arc<Sqlite>,
    core: Arc<Core>,
    options: Options,
    hooks: OnceLock<Arc<dyn Hooks>>,
    /// Which of the nodes that are up have been asked for all that they have since they came up.
    asked: watch::Sender<BTreeMap<NodeId, bool>>,
    /// Refusals that have been logged already.
    complained: Mutex<std::collections::BTreeSet<String>>,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("node", self.core.clock.node())
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Replica {
    /// Takes over the node's store. What was created, changed or deleted in it while the node ran alone is noted, so that the
    /// other nodes hear of it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn open(inner: Arc<Sqlite>, node: NodeId, boot: BootId, options: Options) -> Result<Arc<Self>> {
        let core = Core {
            clock: Clock::new(node, boot),
            values: options.shared_values.iter().cloned().collect(),
            index: Mutex::new(Index::new()),
            untold: Mutex::default(),
            told: Notify::new(),
            doubtful: AtomicBool::new(true),
        };
        let replica = Replica {
            inner,
            core: Arc::new(core),
            options,
            hooks: OnceLock::new(),
            asked: watch::Sender::new(BTreeMap::new()),
            complained: Mutex::default(),
        };
        replica
            .write("forget old deletions", |ledger| ledger.read_clock().and_then(|()| ledger.forget()))
            .await?;
        replica.reload().await?;
        replica.catch_up().await?;
        Ok(Arc::new(replica))
    }

    /// Says who hears of what other nodes do; only the first call counts.
    pub fn set_hooks(&self, hooks: Arc<dyn Hooks>) {
        // A second one is a mistake of the caller that harms nobody.
        let _ = self.hooks.set(hooks);
    }

    /// Waits until at least one other node is up and all that are have been asked for all that they have; `false` when that
    /// took longer than `limit`. A node that makes apps or a token of its own when there are none asks here first.
    pub async fn caught_up(&self, limit: Duration) -> bool {
        let mut asked = self.asked.subscribe();
        let all = asked.wait_for(|nodes| !nodes.is_empty() && nodes.values().all(|asked| *asked));
        tokio::time::timeout(limit, all).await.is_ok_and(|all| all.is_ok())
    }

    /// What is known here of the shared records: as many as there are, deleted ones included, and a hash that is the same on
    /// two nodes exactly when they know the same.
    pub fn summary(&self) -> (usize, u64) {
        let index = self.core.index();
        let hash = index.hashes().into_iter().fold(0u64, |all, part| all.rotate_left(1) ^ part);
        (index.len(), hash)
    }

    async fn write<T, F>(&self, what: &'static str, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger<'_>) -> Result<T> + Send + 'static,
    {
        self.transact(what, move |ledger, _| f(ledger)).await
    }

    async fn transact<T, F>(&self, what: &'static str, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger<'_>, &sluice_store::Transaction<'_>) -> Result<T> + Send + 'static,
    {
        let (core, now) = (self.core.clone(), (self.options.now)());
        let result = self
            .inner
            .transact(what, move |t| {
                let mut ledger = Ledger::new(t, &core, now);
                let done = f(&mut ledger, t)?;
                ledger.finish();
                Ok(done)
            })
            .await;
        ledger::doubt(&self.core, &result);
        result
    }

    /// Reads the index from the notes. Changes may go on meanwhile: they are noted in it in their order.
    async fn reload(&self) -> Result<()> {
        self.core.doubtful.store(false, Ordering::Release);
        let mut after = Some(String::new());
        let mut first = true;
        while let Some(from) = after {
            let core = std::mem::take(&mut first).then(|| self.core.clone());
            after = self
                .write("read the notes", move |ledger| {
                    if let Some(core) = core {
                        *core.index() = Index::new();
                    }
                    ledger.load(&from, BATCH)
                })
                .await?;
        }
        Ok(())
    }

    async fn catch_up(&self) -> Result<()> {
        let mut after = Some(String::new());
        while let Some(from) = after {
            after = self.write("note what has changed", move |l| l.catch_up(&from, BATCH)).await?;
        }
        let mut after = Some((String::new(), String::new()));
        while let Some((app, id)) = after {
            after = self
                .write("note what has changed", move |l| l.catch_up_broadcasts((&app, &id), BATCH))
                .await?;
        }
        Ok(())
    }

    /// Notes what became of broadcasts that have ended.
    async fn share_outcomes(&self) -> Result<()> {
        let mut after = Some((String::new(), String::new()));
        while let Some((app, id)) = after {
            after = self
                .transact("note what has ended", move |ledger, t| {
                    let page = t.broadcasts_after((&app, &id), BATCH)?;
                    for (app, b) in page.iter().filter(|(_, b)| b.status == Status::Finished) {
                        ledger.ended(ledger::broadcast_name(app, &b.stream_id), b)?;
                    }
                    Ok(page.last().map(|(app, b)| (app.clone(), b.stream_id.clone())))
                })
                .await?;
        }
        Ok(())
    }

    /// Takes what another node has told, in transactions of bounded size. Runs on when the caller goes away: what is stored
    /// is also told to the hooks.
    async fn apply(self: &Arc<Self>, told: Vec<ReadRecord>) -> Result<Applied> {
        let this = self.clone();
        let applying = tokio::spawn(async move {
            let mut all = Applied::default();
            let mut told = told.into_iter();
            loop {
                let some: Vec<_> = told.by_ref().take(BATCH).collect();
                if some.is_empty() {
                    return Ok(all);
                }
                let applied =
                    this.write("take over shared records", move |ledger| ledger.apply(some)).await?;
                this.report(&applied);
                all.news += applied.news;
                all.newer.extend(applied.newer);
                all.refused.extend(applied.refused);
            }
        });
        applying.await.unwrap_or(Err(sluice_store::StoreError::Closed))
    }

    fn report(&self, applied: &Applied) {
        for refused in &applied.refused {
            self.complain("another node's record is not taken", &refused.name, &refused.reason);
        }
        for effect in &applied.effects {
            match effect {
                Effect::BroadcastCreated(app, id) => {
                    self.hooks.get().inspect(|hooks| hooks.broadcast_created(app, id));
                }
                Effect::BroadcastDeleted(app, id) => {
                    self.hooks.get().inspect(|hooks| hooks.broadcast_deleted(app, id));
                }
                Effect::AppDeleted(app) => {
                    self.hooks.get().inspect(|hooks| hooks.app_deleted(app));
                }
                Effect::Conflict(name, conflict) => tracing::warn!(
                    record = %name, field = conflict.key,
                    kept_from = %conflict.kept.node(), dropped_from = %conflict.dropped.node(),
                    "two nodes changed one field at once, and one value is gone: look at it and set it again if it is not \
                     the one that you want"
                ),
                Effect::LostChanges(name) => tracing::warn!(
                    record = %name,
                    "changed here while it was deleted on another node: it is gone; create it again if it is wanted"
                ),
                Effect::Unusable(name, settings) => tracing::warn!(
                    record = %name, ?settings,
                    "settings that were changed on several nodes do not fit together; these are as by default: set them again"
                ),
            }
        }
    }

    /// Logs a refusal, each once.
    fn complain(&self, what: &str, name: &str, reason: &str) {
        const KEPT: usize = 1000;
        let mut complained = self.complained.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if complained.len() < KEPT && complained.insert(format!("{name} {reason}")) {
            tracing::warn!(record = name, reason, "{what}");
        }
    }

    /// Some records as they are to be told, up to a page, and the last that was looked at.
    async fn tell(&self, names: Vec<String>) -> Result<(Vec<Told>, Option<String>)> {
        self.write("read shared records", move |ledger| ledger.tell(&names)).await
    }

    /// Answers a push.
    async fn pushed(self: &Arc<Self>, told: Vec<ReadRecord>) -> Result<Pushed> {
        let Applied { newer, refused, .. } = self.apply(told).await?;
        Ok(Pushed { newer, refused })
    }

    /// Answers [`Ask::Parts`].
    fn parts(&self, hashes: &[u64]) -> Parts {
        exchange::differing(&self.core.index(), hashes)
    }

    /// Answers [`Ask::Records`].
    async fn page(
        &self,
        parts: &[u8],
        after: Option<&str>,
        until: Option<&str>,
        have: &[(String, u64)],
    ) -> Result<Page> {
        let (names, end) = exchange::wanted(&self.core.index(), parts, after, until, have);
        let asked = names.last().cloned();
        let (records, last) = self.tell(names).await?;
        let next = if last == asked { end } else { last };
        let lacks = exchange::lacking(&self.core.index(), have, next.as_deref());
        Ok(Page { records, next, lacks })
    }

    fn ask_parts(&self) -> Ask {
        Ask::Parts { hashes: self.core.index().hashes() }
    }
}
