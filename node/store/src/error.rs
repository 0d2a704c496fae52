use std::path::PathBuf;

/// The result of a call to the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database file is damaged or is not a database.
    #[error(
        "the database {} is damaged ({detail}): stop the node, move the file away together with its -wal \
         and -shm files, and restore a backup or start with an empty one", path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the check found.
        detail: String,
    },
    /// A newer release wrote the database.
    #[error(
        "the database {} has schema version {found}, and this release knows versions up to {known}: start the \
         newer release again, or restore the backup from before the upgrade", path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// Another process has the data directory.
    #[error(
        "the data directory {} is in use by another node{}: stop that one, or give this node a directory of \
         its own (SLUICE_DATA_DIR)", path.display(), pid.map(|p| format!(" (process {p})")).unwrap_or_default()
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The process that has it, when it could be read.
        pid: Option<u32>,
    },
    /// The disk is full, or a quota is reached.
    #[error("no space left for {}: free some space on that file system, nothing was stored", path.display())]
    Full {
        /// The file or directory.
        path: PathBuf,
    },
    /// The file system does not let this user read or write.
    #[error(
        "not allowed to read and write {} ({detail}): make the directory and the files in it belong to the \
         user that runs the node, on a file system that is mounted writable", path.display()
    )]
    Permission {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// Another error of the disk or of the file system.
    #[error("cannot use {} ({detail}): check the disk and the system's log", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The store did not answer in time, or has more waiting than it takes.
    #[error("the store did not answer within {seconds} s while asked to {what}: try again")]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// The store has been closed.
    #[error("the store is closed: the node is stopping")]
    Closed,
    /// There is one with this name already.
    #[error("{0} exists already: choose another name")]
    Exists(String),
    /// There is none with this name.
    #[error("{0} does not exist")]
    NotFound(String),
    /// Somebody else changed the record since it was read.
    #[error("{what} was changed by somebody else (version {found}, expected {expected}): read it again")]
    Conflict {
        /// Which record.
        what: String,
        /// The version that the caller had read.
        expected: u64,
        /// The version now.
        found: u64,
    },
    /// A later epoch owns the stream.
    #[error("{stream} is owned by epoch {current}, so epoch {epoch} may not write it any more")]
    Fenced {
        /// App and stream id.
        stream: String,
        /// The caller's epoch.
        epoch: u64,
        /// The epoch that owns it.
        current: u64,
    },
    /// A stored record cannot be read.
    #[error("the stored {what} cannot be read ({detail}): it was written by another program or is damaged")]
    Unreadable {
        /// Which record.
        what: String,
        /// The parser's words.
        detail: String,
    },
    /// Any other failure of the database engine.
    #[error("the database failed to {what}: {detail}")]
    Engine {
        /// What was asked.
        what: &'static str,
        /// The engine's words.
        detail: String,
    },
}
