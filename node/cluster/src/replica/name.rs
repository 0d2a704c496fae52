//! What a record is called between nodes.

use std::fmt;

use serde::{Deserialize, Serialize};
use sluice_store::{valid_app_name, valid_stream_id};

/// A record that all nodes have. As text `app/NAME`, `broadcast/APP/ID`, `value/KEY`, which is also its order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Name {
    /// An app with its settings.
    App(String),
    /// A broadcast that was created over REST: app and id.
    Broadcast(String, String),
    /// A value of the whole cluster.
    Value(String),
}

/// Not the name of a shared record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no record: app/NAME, broadcast/APP/ID or value/KEY were expected")]
pub struct BadName(String);

impl Name {
    /// Whether app and id are such as REST lets be created; nothing else is taken from another node.
    fn is_valid(&self) -> bool {
        match self {
            Name::App(app) => valid_app_name(app),
            Name::Broadcast(app, id) => valid_app_name(app) && valid_stream_id(id),
            Name::Value(key) => {
                (1..=100).contains(&key.len())
                    && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
            }
        }
    }

    /// Its text.
    pub fn to_text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::App(app) => write!(f, "app/{app}"),
            Name::Broadcast(app, id) => write!(f, "broadcast/{app}/{id}"),
            Name::Value(key) => write!(f, "value/{key}"),
        }
    }
}

impl std::str::FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let name = match text.split_once('/') {
            Some(("app", app)) => Some(Name::App(app.into())),
            Some(("broadcast", rest)) => {
                rest.split_once('/').map(|(app, id)| Name::Broadcast(app.into(), id.into()))
            }
            Some(("value", key)) => Some(Name::Value(key.into())),
            _ => None,
        };
        name.filter(Name::is_valid).ok_or_else(|| BadName(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for text in ["app/LiveApp", "broadcast/LiveApp/a-b_c.d", "value/admin_token_sha256"] {
            assert_eq!(text.parse::<Name>().expect(text).to_text(), text);
        }
        for text in [
            "",
            "app",
            "app/",
            "app/rest",
            "app/a/b",
            "broadcast/a",
            "broadcast/a/..",
            "value/",
            "value/a b",
            "x/y",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
        assert!(BadName("x".into()).to_string().contains("broadcast/APP/ID"));
    }
}
