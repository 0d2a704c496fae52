//! The only door to stored state: apps and their settings, broadcasts, who owns a stream, values of a node.
//!
//! - [`Store`]: the trait; every call is asynchronous and never runs on the caller's thread for long.
//! - [`Sqlite`]: the embedded implementation, one file in the node's data directory.
//! - [`Mongo`]: a MongoDB database, for a cluster.
//! - [`Broadcast`], [`AppSettings`]: the records, with the names and defaults of AMS's REST API.
//! - `conformance`: what every implementation must do, as tests (feature `conformance`).
//!
//! Times are milliseconds since the Unix epoch and come from the caller. Nothing here knows of media or HTTP.

mod app;
mod broadcast;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
mod mongo;
mod sqlite;
mod store;
mod timings;

pub use app::{
    App, AppSettings, HlsSettings, InvalidSetting, InvalidSettings, Playlist, SegmentType, valid_app_name,
};
pub use broadcast::{
    Broadcast, BroadcastUpdate, EncoderSettings, Endpoint, HlsParameters, PlayListItem, STALE_AFTER_MS,
    Status, valid_stream_id,
};
pub use error::{Result, StoreError};
pub use mongo::{Mongo, MongoOptions};
pub use sqlite::Sqlite;
pub use sqlite::shared::{Note, Transaction};
pub use store::{
    BeginLive, Claim, EPOCH_STEP, Ended, LIST_LIMIT, ListQuery, LiveUpdate, NodeRecord, Numbers,
    OWNERSHIP_KEPT_MS, Order, Owner, Recovered, SortBy, Store,
};
pub use timings::{Timings, TimingsSnapshot};
