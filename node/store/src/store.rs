use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{App, AppSettings, Broadcast, BroadcastUpdate, Result, StoreError, Timings};

/// A list call gives at most this many records. AMS's value.
pub const LIST_LIMIT: usize = 250;

/// The ownership record of a stream that was not used for this long (ms) is dropped. Its epochs are not given
/// out again.
pub const OWNERSHIP_KEPT_MS: i64 = 24 * 3600 * 1000;

/// Epochs that a store gives out are multiples of this. Those between are for leases that a node makes while it
/// cannot ask the store: above what was known then, below what the store gives out next.
pub const EPOCH_STEP: u64 = 1 << 32;

/// By what a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// By name.
    Name,
    /// By the time of creation.
    Date,
    /// By status.
    Status,
}

/// In which direction a list is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Smallest first.
    #[default]
    Ascending,
    /// Largest first.
    Descending,
}

/// Which broadcasts a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// How many to leave out at the beginning.
    pub offset: usize,
    /// How many at most; never more than [`LIST_LIMIT`].
    pub size: usize,
    /// Only those of this type.
    pub kind: Option<String>,
    /// By what they are sorted; without it in the order of creation.
    pub sort_by: Option<SortBy>,
    /// In which direction.
    pub order: Order,
    /// Only those with this text in the id or the name, in any case.
    pub search: Option<String>,
}

/// A stream goes live.
#[derive(Clone, Debug)]
pub struct BeginLive {
    /// The stream.
    pub stream_id: String,
    /// The node that has it.
    pub node: String,
    /// The epoch in which the node owns it.
    pub epoch: u64,
    /// The time, ms.
    pub now: i64,
    /// What else is known: publish type, addresses, user agent. An `rtmp_url` that the record has already stays:
    /// it was given out when it was created.
    pub known: BroadcastUpdate,
}

/// The state of a live stream, written every few seconds.
#[derive(Clone, Debug)]
pub struct LiveUpdate {
    /// The app.
    pub app: String,
    /// The stream.
    pub stream_id: String,
    /// The epoch in which the writer owns it.
    pub epoch: u64,
    /// What is new, `update_time` included.
    pub update: BroadcastUpdate,
}

/// What became of a stream that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It had been created over REST: its status is `finished` now.
    Finished,
    /// It had come with its publisher: it is deleted.
    Deleted,
    /// There was none, or a later epoch has it: nothing was done.
    Untouched,
}

/// What a node may do with a stream that it owns from now on; also what is known of a stream before it is claimed
/// (the default: nothing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Larger than any epoch of this stream before.
    pub epoch: u64,
    /// The first media sequence number that was never used for it.
    pub media_sequence: u64,
    /// The first discontinuity sequence number that was never used for it.
    pub discontinuity_sequence: u64,
    /// The first place on its timeline that was never used, µs.
    pub timeline: i64,
}

impl Claim {
    /// An epoch, and the numbers to go on with in it.
    pub fn new(epoch: u64, numbers: Numbers) -> Self {
        let Numbers { media_sequence, discontinuity_sequence, timeline } = numbers;
        Claim { epoch, media_sequence, discontinuity_sequence, timeline }
    }

    /// Without the epoch.
    pub fn numbers(&self) -> Numbers {
        Numbers {
            media_sequence: self.media_sequence,
            discontinuity_sequence: self.discontinuity_sequence,
            timeline: self.timeline,
        }
    }

    /// The claim that a store grants when it has `stored` and the cluster knows of `known`.
    ///
    /// # Errors
    /// `Unreadable` when there is no epoch above those.
    pub(crate) fn after(stored: Claim, known: Claim, app: &str, id: &str) -> Result<Claim> {
        let highest = stored.epoch.max(known.epoch);
        let epoch = (highest / EPOCH_STEP).checked_add(1).and_then(|n| n.checked_mul(EPOCH_STEP));
        let epoch = epoch.filter(|e| i64::try_from(*e).is_ok()).ok_or_else(|| StoreError::Unreadable {
            what: format!("epoch of {app}/{id}"),
            detail: format!("{highest} is larger than any that a store gives out"),
        })?;
        Ok(Claim::new(epoch, stored.numbers().max(known.numbers())))
    }
}

/// Numbers of a stream that never go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Media sequence.
    pub media_sequence: u64,
    /// Discontinuity sequence.
    pub discontinuity_sequence: u64,
    /// The place on the stream's timeline, µs.
    pub timeline: i64,
}

impl Numbers {
    /// The larger of each, none larger than what a database keeps (`i64::MAX`).
    #[must_use]
    pub fn max(self, other: Numbers) -> Numbers {
        const MOST: u64 = i64::MAX as u64;
        Numbers {
            media_sequence: self.media_sequence.max(other.media_sequence).min(MOST),
            discontinuity_sequence: self.discontinuity_sequence.max(other.discontinuity_sequence).min(MOST),
            timeline: self.timeline.max(other.timeline),
        }
    }
}

/// Who owns a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The node.
    pub node: String,
    /// The epoch in which it owns it.
    pub epoch: u64,
}

/// What a node writes of itself every few seconds. AMS's fields, and ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub id: String,
    /// This run of it.
    pub boot: u32,
    /// Grows with each heartbeat. A node whose counter is seen to change is alive; clocks are not compared.
    pub counter: u64,
    /// The node's own time at the heartbeat, ms; to be shown.
    pub updated: i64,
    /// Its host name or address.
    pub ip: String,
    /// CPU in use, as AMS shows it.
    pub cpu: String,
    /// Memory in use, as AMS shows it.
    pub memory: String,
    /// The mean time of its calls to the store, ms; AMS's `dbQueryAveargeTimeMs`.
    pub db_query_ms: i64,
    /// Everything else: what the cluster's membership says of the node.
    pub document: serde_json::Value,
}

/// What was put in order after a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Streams that had come with their publishers: deleted.
    pub deleted: u64,
    /// Streams created over REST: finished.
    pub finished: u64,
}

/// The only door to stored state. What a call has acknowledged survives the death of the process.
///
/// # Errors
/// Every call may fail with [`StoreError`]'s `Away`, `Timeout`, `Closed`, and what the disk or the database says;
/// those below are said where a call has more. [`StoreError::is_away`] tells a store that could not be asked from
/// one that refused.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Answers when the store can be read.
    async fn ping(&self) -> Result<()>;

    /// How long calls took.
    fn timings(&self) -> &Timings;

    /// A number that changes when apps or their settings may have changed, by whomever. Somebody who looks at it
    /// has to read the apps again; it may also change without a reason, as after a broken connection.
    fn changes(&self) -> watch::Receiver<u64>;

    /// All apps, by name.
    async fn apps(&self) -> Result<Vec<App>>;

    /// One app.
    async fn app(&self, name: &str) -> Result<Option<App>>;

    /// Makes an app; `false` when there is one of that name, which stays as it is.
    async fn create_app(&self, name: &str, settings: AppSettings) -> Result<bool>;

    /// Replaces an app's settings, if they still have the version that the caller read; gives the new version.
    /// `Conflict` when they have another, `NotFound` when there is no such app.
    async fn set_app_settings(&self, name: &str, settings: AppSettings, expected: u64) -> Result<u64>;

    /// Deletes an app, with all its broadcasts when `delete_data`; `false` when there is none of that name.
    async fn delete_app(&self, name: &str, delete_data: bool) -> Result<bool>;

    /// Stores a new broadcast. `Exists` when the id is taken.
    async fn create_broadcast(&self, app: &str, broadcast: Broadcast) -> Result<()>;

    /// One broadcast.
    async fn broadcast(&self, app: &str, id: &str) -> Result<Option<Broadcast>>;

    /// Those of the broadcasts that there are, in no order.
    async fn broadcasts(&self, app: &str, ids: &[String]) -> Result<Vec<Broadcast>>;

    /// Changes a broadcast; gives what it is then, `None` when there is none. The id cannot be changed.
    async fn update_broadcast(
        &self,
        app: &str,
        id: &str,
        update: BroadcastUpdate,
    ) -> Result<Option<Broadcast>>;

    /// Deletes broadcasts; gives the ids of those that were there.
    async fn delete_broadcasts(&self, app: &str, ids: &[String]) -> Result<Vec<String>>;

    /// Some broadcasts of an app.
    async fn list_broadcasts(&self, app: &str, query: ListQuery) -> Result<Vec<Broadcast>>;

    /// How many broadcasts an app has, or has with `search` in the id or the name.
    async fn count_broadcasts(&self, app: &str, search: Option<&str>) -> Result<u64>;

    /// How many broadcasts of an app are live and were heard of lately.
    async fn count_live(&self, app: &str, now: i64) -> Result<u64>;

    /// A stream goes live: the broadcast is made (with `zombi`) when there is none. `Fenced` when a later
    /// epoch has it.
    async fn begin_live(&self, app: &str, begin: BeginLive) -> Result<Broadcast>;

    /// Writes the state of live streams. Those that are gone, not live, or of a later epoch are left alone; gives
    /// their places in `updates`, in order. Who owns such a stream still ([`owner`](Store::owner) says so, or
    /// nobody does) calls [`begin_live`](Store::begin_live) again.
    async fn update_live(&self, updates: Vec<LiveUpdate>) -> Result<Vec<usize>>;

    /// A stream has ended. `last` is taken over when the broadcast stays. Nobody owns the stream afterwards, unless
    /// a later epoch does.
    async fn end_live(
        &self,
        app: &str,
        id: &str,
        epoch: u64,
        now: i64,
        last: BroadcastUpdate,
    ) -> Result<Ended>;

    /// Ends every stream that `node` left live: at its own start, and when others see that it is lost. A stream
    /// that somebody else owns meanwhile is left alone. A store that one process alone can open ends, with the
    /// first call, those of any node: they are of an earlier run, perhaps under another name.
    async fn recover(&self, node: &str, now: i64) -> Result<Recovered>;

    /// Makes `node` the owner of a stream: with the first multiple of [`EPOCH_STEP`] above any epoch before (the
    /// stored one and that of `known`), and numbers that are neither below those reserved nor below `known`'s.
    async fn claim_stream(&self, app: &str, id: &str, node: &str, now: i64, known: Claim) -> Result<Claim>;

    /// Makes `node` the owner of a stream with exactly the epoch of `claim`, which it took while the store could
    /// not be asked. Doing it again changes nothing. `Fenced`, with the epoch that owns the stream, when that is
    /// not lower.
    async fn adopt_stream(&self, app: &str, id: &str, node: &str, now: i64, claim: Claim) -> Result<()>;

    /// Who owns a stream: who claimed or adopted it last, until it ends.
    async fn owner(&self, app: &str, id: &str) -> Result<Option<Owner>>;

    /// Says that numbers below these may be in use, so that no later owner uses them. They never go back.
    /// `Fenced` when `epoch` is not the owner's.
    async fn reserve_sequence(
        &self,
        app: &str,
        id: &str,
        epoch: u64,
        now: i64,
        numbers: Numbers,
    ) -> Result<()>;

    /// Writes what a node says of itself, in place of what it said before.
    async fn put_node(&self, node: NodeRecord) -> Result<()>;

    /// What all nodes said of themselves, by id; also those that are long gone.
    async fn nodes(&self) -> Result<Vec<NodeRecord>>;

    /// Forgets a node; `false` when there is none of that id.
    async fn delete_node(&self, id: &str) -> Result<bool>;

    /// A value of this node or cluster, such as the hash of a token.
    async fn value(&self, key: &str) -> Result<Option<String>>;

    /// Sets a value.
    async fn set_value(&self, key: &str, value: &str) -> Result<()>;

    /// Finishes what is waiting and closes the store; later calls give `Closed`.
    async fn close(&self);
}
