//! The driver's errors in our words.

use mongodb::error::{Error, ErrorKind, WriteFailure};

use super::connect::Secrets;
use crate::StoreError;

/// What a step of a call gives back.
pub(super) type OpResult<T> = Result<T, Failure>;

/// A "no" that is an answer, or a failure of the driver or the server.
#[derive(Debug)]
pub(super) enum Failure {
    Answer(Box<StoreError>),
    Driver(Error),
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        Failure::Answer(Box::new(e))
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Driver(e)
    }
}

impl Failure {
    pub(super) fn into_error(self, what: &'static str, secrets: &Secrets) -> StoreError {
        match self {
            Failure::Answer(e) => *e,
            Failure::Driver(e) => {
                let detail = secrets.redact(&words(&e));
                match sort(&e) {
                    Sort::Away => StoreError::Away { what, detail },
                    Sort::Denied => StoreError::Denied { what, detail },
                    Sort::Other => StoreError::Engine { what, detail },
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Away,
    Denied,
    Other,
}

fn sort(e: &Error) -> Sort {
    match e.kind.as_ref() {
        ErrorKind::Authentication { .. } => Sort::Denied,
        ErrorKind::Io(_)
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::Shutdown => Sort::Away,
        // Neither says whether the write stays: it was not acknowledged by enough servers.
        ErrorKind::Write(WriteFailure::WriteConcernError(_)) => Sort::Away,
        _ => code(e).map_or(Sort::Other, by_code),
    }
}

fn by_code(code: i32) -> Sort {
    match code {
        // Unauthorized, AuthenticationFailed, UserNotFound
        13 | 18 | 11 => Sort::Denied,
        // HostUnreachable, HostNotFound, MaxTimeMSExpired, WriteConcernFailed, NetworkTimeout, ShutdownInProgress,
        // PrimarySteppedDown, ExceededTimeLimit, NotWritablePrimary, InterruptedAtShutdown,
        // InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary
        6 | 7 | 50 | 64 | 89 | 91 | 189 | 262 | 10107 | 11600 | 11602 | 13435 | 13436 => Sort::Away,
        _ => Sort::Other,
    }
}

/// The server's code, when it gave one.
pub(super) fn code(e: &Error) -> Option<i32> {
    match e.kind.as_ref() {
        ErrorKind::Command(c) => Some(c.code),
        ErrorKind::Write(WriteFailure::WriteError(w)) => Some(w.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(w)) => Some(w.code),
        _ => None,
    }
}

/// Whether an insert failed because there is one already.
pub(super) fn is_duplicate(e: &Error) -> bool {
    code(e) == Some(11000)
}

/// Whether the server has no change streams (it is no member of a replica set, or does not let this user).
pub(super) fn lacks_change_streams(e: &Error) -> bool {
    // Unauthorized, CommandNotFound, CommandNotSupported, FeatureNotSupported, unrecognized pipeline stage, "only
    // supported on replica sets"
    matches!(code(e), Some(13 | 59 | 115 | 303 | 40324 | 40573))
}

/// Without the codes and labels that the driver prints.
fn words(e: &Error) -> String {
    match e.kind.as_ref() {
        ErrorKind::Command(c) => format!("{} ({})", c.message, c.code_name),
        ErrorKind::Write(WriteFailure::WriteError(w)) => w.message.clone(),
        ErrorKind::Write(WriteFailure::WriteConcernError(w)) => w.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_told_from_what_refuses() {
        let io = Error::from(std::io::Error::other("reset by peer"));
        let e = Failure::Driver(io).into_error("answer", &Secrets::default());
        assert!(e.is_away(), "{e}");
        assert_eq!(by_code(10107), Sort::Away, "no primary");
        assert_eq!((by_code(13), by_code(18)), (Sort::Denied, Sort::Denied));
        assert_eq!(by_code(121), Sort::Other);
    }
}
