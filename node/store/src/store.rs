use async_trait::async_trait;

use crate::{App, AppSettings, Broadcast, BroadcastUpdate, Result, Timings};

/// A list call gives at most this many records. AMS's value.
pub const LIST_LIMIT: usize = 250;

/// The ownership record of a stream that was not used for this long (ms) is dropped. Its epochs are not given
/// out again.
pub const OWNERSHIP_KEPT_MS: i64 = 24 * 3600 * 1000;

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

/// What a node may do with a stream that it owns from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Larger than any epoch of this stream before.
    pub epoch: u64,
    /// The first media sequence number that was never used for it.
    pub media_sequence: u64,
    /// The first discontinuity sequence number that was never used for it.
    pub discontinuity_sequence: u64,
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
/// Every call may fail with [`StoreError`](crate::StoreError)'s `Timeout`, `Closed`, and what the disk or the
/// database says; those below are said where a call has more.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Answers when the store can be read.
    async fn ping(&self) -> Result<()>;

    /// How long calls took.
    fn timings(&self) -> &Timings;

    /// All apps, by name.
    async fn apps(&self) -> Result<Vec<App>>;

    /// One app.
    async fn app(&self, name: &str) -> Result<Option<App>>;

    /// Makes an app; `false` when there is one of that name, which stays as it is.
    async fn create_app(&self, name: &str, settings: AppSettings) -> Result<bool>;

    /// Replaces an app's settings, if they still have the version that the caller read; gives the new version.
    /// `Conflict` when they have another, `NotFound` when there is no such app.
    async fn set_app_settings(&self, name: &str, settings: AppSettings, expected: u64) -> Result<u64>;

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

    /// Writes the state of live streams, all in one transaction. Streams that are gone, not live, or of a
    /// later epoch are left alone; gives how many were written.
    async fn update_live(&self, updates: Vec<LiveUpdate>) -> Result<u64>;

    /// A stream has ended. `last` is taken over when the broadcast stays.
    async fn end_live(
        &self,
        app: &str,
        id: &str,
        epoch: u64,
        now: i64,
        last: BroadcastUpdate,
    ) -> Result<Ended>;

    /// At start: ends every stream that `node` left live when it died. A store that one node alone can open
    /// ends those of any node, for they are its own under an earlier name.
    async fn recover(&self, node: &str, now: i64) -> Result<Recovered>;

    /// Makes `node` the owner of a stream: with an epoch above any before, and sequence numbers after all
    /// that were reserved.
    async fn claim_stream(&self, app: &str, id: &str, node: &str, now: i64) -> Result<Claim>;

    /// Says that numbers below these may be in use, so that no later owner uses them. They never go back.
    /// `Fenced` when `epoch` is not the owner's.
    async fn reserve_sequence(
        &self,
        app: &str,
        id: &str,
        epoch: u64,
        now: i64,
        media_sequence: u64,
        discontinuity_sequence: u64,
    ) -> Result<()>;

    /// A value of this node or cluster, such as the hash of a token.
    async fn value(&self, key: &str) -> Result<Option<String>>;

    /// Sets a value.
    async fn set_value(&self, key: &str, value: &str) -> Result<()>;

    /// Finishes what is waiting and closes the store; later calls give `Closed`.
    async fn close(&self);
}
