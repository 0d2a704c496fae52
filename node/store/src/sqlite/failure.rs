use std::path::Path;

use rusqlite::ErrorCode;

use crate::StoreError;

/// What a job gives back.
pub(super) type OpResult<T> = Result<T, Failure>;

/// A "no" that is an answer, or a failure of the engine, whose words are put together with the file's name
/// where that is known.
#[derive(Debug)]
pub(super) enum Failure {
    Answer(Box<StoreError>),
    Engine(Engine),
}

/// What SQLite said. Unlike its error it can be given to every caller of a failed commit.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    code: Option<ErrorCode>,
    detail: String,
}

impl Engine {
    pub(super) fn into_error(self, what: &'static str, file: &Path) -> StoreError {
        let (path, detail) = (file.to_path_buf(), self.detail);
        match self.code {
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Corrupt { path, detail }
            }
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                StoreError::Permission { path, detail }
            }
            Some(ErrorCode::SystemIoFailure) => StoreError::Io { path, detail },
            _ => StoreError::Engine { what, detail },
        }
    }
}

impl From<&rusqlite::Error> for Engine {
    fn from(e: &rusqlite::Error) -> Self {
        Engine { code: e.sqlite_error_code(), detail: e.to_string() }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(e: rusqlite::Error) -> Self {
        Failure::Engine(Engine::from(&e))
    }
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        Failure::Answer(Box::new(e))
    }
}

/// An error of the file system about `path`.
pub(super) fn io_error(path: &Path, e: &std::io::Error) -> StoreError {
    use std::io::ErrorKind;
    let path = path.to_path_buf();
    match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { path },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreError::Permission { path, detail: e.to_string() }
        }
        _ => StoreError::Io { path, detail: e.to_string() },
    }
}
