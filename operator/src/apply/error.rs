//! Why an object could not be written.

use std::fmt;

use kube::api::ApiResource;
use serde::Serialize;
use serde_json::Value;

use crate::client::{REQUEST, sentence};

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An object of that name is there and is somebody else's.
    #[error(
        "{what} is not made by this operator ({owner}), and is left alone. Delete or rename one of the two"
    )]
    NotOurs {
        /// What was attempted, with kind and name.
        what: String,
        /// Whose it is.
        owner: String,
    },
    /// The API server says no, or cannot be reached.
    #[error("cannot {what}: {}", sentence(source))]
    Api {
        /// What was attempted, with kind and name.
        what: String,
        /// What was said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("cannot {what}: the API server did not answer within {REQUEST:?}")]
    Timeout {
        /// What was attempted, with kind and name.
        what: String,
    },
    /// An object could not be written as JSON.
    #[error("cannot {what}: it cannot be written as JSON: {source}")]
    Write {
        /// What was attempted, with kind and name.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl ApplyError {
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            ApplyError::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    /// It was not there, or another of the same name is.
    pub(super) fn is_gone(&self) -> bool {
        // A precondition (the uid) that does not hold is a conflict; in a merge patch it is a field that cannot be changed.
        let other_uid = self.status().and_then(|status| status.details.as_ref()).is_some_and(|details| {
            !details.causes.is_empty() && details.causes.iter().all(|cause| cause.field == "metadata.uid")
        });
        matches!(self.code(), Some(404 | 409)) || (self.code() == Some(422) && other_uid)
    }

    /// Somebody else was faster, or one of that name is there.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The namespace is being deleted: nothing can be made in it any more, and nothing needs to.
    pub fn is_namespace_ending(&self) -> bool {
        self.status().is_some_and(|status| {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            status.code == 403
                && (causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
                    || status.message.contains("being terminated"))
        })
    }

    /// The API server finds something wrong with the object, and will again; `None` when trying again may help.
    pub fn refusal(&self) -> Option<&str> {
        let status = self.status()?;
        [400, 422].contains(&status.code).then_some(status.message.as_str())
    }

    /// A field cannot be changed.
    pub(super) fn is_immutable(&self) -> bool {
        self.status().is_some_and(|status| {
            let words = ["immutable", "may not change once set", "may not be changed"];
            status.code == 422 && words.iter().any(|word| status.message.contains(word))
        })
    }

    /// A word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            ApplyError::NotOurs { .. } => "not_ours",
            ApplyError::Timeout { .. } => "timeout",
            ApplyError::Write { .. } => "write",
            ApplyError::Api { .. } => match self.code() {
                Some(403) if self.is_namespace_ending() => "namespace_ending",
                Some(403) => "forbidden",
                Some(404) => "not_found",
                Some(409) => "conflict",
                Some(400 | 422) => "invalid",
                Some(429) => "too_many_requests",
                Some(_) => "api_server",
                None => "unreachable",
            },
        }
    }
}

/// What is attempted, for errors and logs.
#[derive(Clone, Debug)]
pub(super) struct Doing {
    verb: &'static str,
    kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Doing {
    pub(super) fn new(verb: &'static str, resource: &ApiResource, namespace: &str, name: &str) -> Doing {
        Doing { verb, kind: resource.kind.clone(), namespace: namespace.into(), name: name.into() }
    }

    fn what(&self) -> String {
        format!("{} {self}", self.verb)
    }

    pub(super) fn failed(&self, source: kube::Error) -> ApplyError {
        ApplyError::Api { what: self.what(), source: Box::new(source) }
    }

    pub(super) fn timed_out(&self) -> ApplyError {
        ApplyError::Timeout { what: self.what() }
    }

    pub(super) fn value(&self, object: &impl Serialize) -> Result<Value, ApplyError> {
        serde_json::to_value(object).map_err(|source| ApplyError::Write { what: self.what(), source })
    }
}
