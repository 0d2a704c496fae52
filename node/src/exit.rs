//! How the process ends: exit codes that scripts and systemd can tell apart.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// The reason of an end, as an exit code. The numbers above 64 are those of sysexits.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something that has no code of its own.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The store is damaged.
    Corrupt = 65,
    /// An address or port cannot be had.
    Address = 69,
    /// The system refused something: threads, file descriptors.
    System = 71,
    /// The disk is full.
    DiskFull = 74,
    /// Another node uses the same data directory.
    InUse = 75,
    /// A file or folder cannot be read or written.
    Permission = 77,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the node could not start, or had to end: one sentence and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What was attempted, why it failed, and the way out.
    pub message: String,
}

impl Failure {
    /// A failure with its sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A failed file operation, such as "create the data directory ./data".
    #[must_use]
    pub fn io(attempt: &str, error: &io::Error) -> Self {
        let (exit, way_out) = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (Exit::DiskFull, "free some space, or set SLUICE_DATA_DIR to a folder on another disk")
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                (Exit::Permission, "make it readable and writable for the user that runs the node")
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists => {
                (Exit::Permission, "check the path")
            }
            _ => (Exit::System, "see the system's log"),
        };
        Self::new(exit, format!("cannot {attempt}: {error}; {way_out}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_have_fitting_codes() {
        let exit = |kind: io::ErrorKind| Failure::io("write", &io::Error::from(kind)).exit;
        assert_eq!(exit(io::ErrorKind::StorageFull), Exit::DiskFull);
        assert_eq!(exit(io::ErrorKind::PermissionDenied), Exit::Permission);
        assert_eq!(exit(io::ErrorKind::Interrupted), Exit::System);
    }
}
