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
    /// The database cannot be reached, or no server of it takes writes now.
    #[error("the database could not be asked to {what} ({detail}): it is tried again with the next call")]
    Away {
        /// What was asked.
        what: &'static str,
        /// What the connection said.
        detail: String,
    },
    /// The database does not know this user or this password, or does not let the user do what was asked.
    #[error("the database refused to {what} ({detail}): check the user, the password and the user's roles")]
    Denied {
        /// What was asked.
        what: &'static str,
        /// What the database said.
        detail: String,
    },
    /// The address of the database, or an option beside it, cannot be used.
    #[error(
        "the database's address cannot be used ({detail}): it looks like mongodb://host:27017 or mongodb+srv://name"
    )]
    Address {
        /// What is wrong with it, without any password.
        detail: String,
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

impl StoreError {
    /// Whether the store could not be asked at all. What it was asked may have happened all the same.
    pub fn is_away(&self) -> bool {
        matches!(self, StoreError::Away { .. } | StoreError::Timeout { .. })
    }

    /// Whether this is the store's answer to the question, not its failure.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(
            self,
            StoreError::Exists(_)
                | StoreError::NotFound(_)
                | StoreError::Conflict { .. }
                | StoreError::Fenced { .. }
        )
    }
}
