//! The configuration of a node: one table of settings ([`settings`]), read from flags, environment, file and
//! defaults ([`sources`]), as one typed value that cannot be wrong ([`Config`]).
//!
//! Not here: the settings of apps and streams, which live in the store and change at run time.

mod cluster;
mod docs;
mod error;
mod live;
mod rules;
mod settings;
mod sources;
mod together;
mod types;
pub mod uri;

pub use docs::markdown;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use live::{LiveConfig, Refused};
pub use rules::Shape;
pub use settings::{Config, SETTINGS, Setting};
pub use sources::Sources;
pub use types::{
    Candidate, ClusterIdentity, ClusterMode, Endpoint, Listen, LogFormat, Role, Secret, StoreKind, WaitsFor,
    WithoutStore,
};

use std::fmt;
use std::path::Path;

use sources::Given;

/// A configuration, with what is to be said about how it came to be.
#[derive(Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Sentences to log as warnings: unknown variables in the environment.
    pub warnings: Vec<String>,
    given: Vec<Given>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, warnings, given: _ } = self;
        f.debug_struct("Loaded").field("config", config).field("warnings", warnings).finish_non_exhaustive()
    }
}

/// Reads the configuration and checks all of it.
///
/// # Errors
/// Everything that is wrong, in the order of the table.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let (given, warnings) = sources::merge(sources)?;
    let text = |key: &'static str| {
        let index = SETTINGS.iter().position(|setting| setting.key == key);
        index.and_then(|i| given.get(i)).map(|given| given.text.clone()).unwrap_or_default()
    };
    let config = Config::from_text(text)
        .ok_or_else(|| ConfigError::Together("the settings could not be read; please report this".into()))?;
    together::check(&config)?;
    Ok(Loaded { config, warnings, given })
}

impl Loaded {
    fn given(&self, key: &str) -> Option<&Given> {
        SETTINGS.iter().position(|setting| setting.key == key).and_then(|index| self.given.get(index))
    }

    /// Where the value of a setting came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> &Origin {
        self.given(key).map_or(&Origin::Default, |given| &given.origin)
    }

    /// The file that a secret was read from.
    #[must_use]
    pub fn secret_file(&self, key: &str) -> Option<&Path> {
        self.given(key).and_then(|given| given.file.as_deref())
    }

    /// The text of a setting, that of a secret as well; empty when it has none.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.given(key).map_or("", |given| given.text.as_str())
    }

    /// The configuration as a TOML file: every setting with its value and where that came from. Secrets are
    /// left out; settings without a value are comments.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut group = "";
        for (setting, given) in SETTINGS.iter().zip(&self.given) {
            if setting.group != group {
                group = setting.group;
                out.push_str(&format!("{}# {group}\n", if out.is_empty() { "" } else { "\n" }));
            }
            let origin = &given.origin;
            let key = setting.key;
            let is_secret = setting.secret && *origin != Origin::Default;
            let line = if is_secret {
                format!("# {key} = (secret)")
            } else if given.text.is_empty() {
                format!("# {key} =")
            } else {
                format!("{key} = {}", toml::Value::from(given.text.as_str()))
            };
            out.push_str(&match origin {
                Origin::Default => format!("{line}\n"),
                origin => format!("{line}  # {origin}\n"),
            });
        }
        out
    }
}

#[cfg(test)]
mod tests;
