//! What can be wrong with a configuration, in sentences that name the place and the way out.

use std::fmt;
use std::path::PathBuf;

use crate::exit::{Exit, Failure};

/// One fault of a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}; name a readable file with --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{}:{line}: not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that means nothing.
    #[error("{origin}: there is no such setting{}; `sluice-node --help` lists them all", suggestion(similar.as_deref()))]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// The setting that was meant, perhaps.
        similar: Option<String>,
    },
    /// A value that the setting does not take.
    #[error("{origin}: {value} is not a value of {key}: expected {expected}")]
    Value {
        /// Where it stands.
        origin: Origin,
        /// The setting.
        key: String,
        /// The value, quoted, or what may be said of a secret one.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A secret is given in both of its forms.
    #[error("{origin}: both {key} and {key}_file are given; keep one of them")]
    Both {
        /// Where the second one stands.
        origin: Origin,
        /// The setting.
        key: &'static str,
    },
    /// The file with a secret cannot be read.
    #[error("{origin}: cannot read {}: {source}; make it readable for the user that runs the node", path.display())]
    SecretFile {
        /// Where the file is named.
        origin: Origin,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Settings that are right alone, but not together.
    #[error("{0}")]
    Together(String),
}

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Failure::new(Exit::Usage, errors.to_string())
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key as written.
        key: String,
    },
    /// An environment variable, by name.
    Environment(String),
    /// A flag of the command line, by name.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, key } => write!(f, "{}:{line}: {key}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The part of a sentence that offers what was meant.
pub(super) fn suggestion(similar: Option<&str>) -> String {
    similar.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}
