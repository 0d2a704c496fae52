//! `sluice-node config import`: the settings of an Ant Media Server, from its `red5.properties`, as a configuration
//! of this node. What has no counterpart is named, with the reason.

mod keys;
pub mod properties;

use std::collections::BTreeMap;

use toml_edit::{DocumentMut, Item, Value};

use crate::config::{self, SETTINGS, Secret, Setting, Shape, Sources};

/// What a file of an Ant Media Server says about a node.
#[derive(Debug, Default)]
pub struct Imported {
    /// Settings by key, with the names of the keys that they come from; no secret is among them.
    pub settings: BTreeMap<&'static str, (String, String)>,
    /// Secrets by key (`store_password`; `store`, when the URI has a password in it), which belong into files.
    pub secrets: BTreeMap<&'static str, Secret>,
    /// What has been left out, or needs a look.
    pub notes: Vec<Note>,
}

/// A remark on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where the key stands, from 1.
    pub line: usize,
    /// The key.
    pub key: String,
    /// The remark, without the value when that is a secret.
    pub text: String,
}

/// Reads the text of a `red5.properties` file.
#[must_use]
pub fn import(text: &str) -> Imported {
    keys::import(properties::parse(text))
}

impl Imported {
    /// What has still to be done before a node takes it: the faults that it would be refused with.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut flags: BTreeMap<String, String> =
            self.settings.iter().map(|(key, (text, _))| ((*key).to_owned(), text.clone())).collect();
        flags
            .extend(self.secrets.iter().map(|(key, secret)| ((*key).to_owned(), secret.expose().to_owned())));
        match config::load(&Sources { flags, ..Sources::default() }) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
        }
    }

    /// The configuration file, in the order of the table of settings, each with the key that it comes from.
    /// `files` has the paths of the files that the secrets have been put into; without one, a comment says that it
    /// is needed.
    #[must_use]
    pub fn to_toml(&self, source: &str, files: &BTreeMap<&'static str, String>) -> String {
        let mut document = DocumentMut::new();
        let mut group = "";
        let mut open = String::new();
        for setting in SETTINGS {
            let key = setting.key;
            if let Some((text, from)) = self.settings.get(key) {
                insert(&mut document, key, value(setting, text), from, heading(setting, &mut group));
            }
            let file_key = format!("{key}_file");
            match (self.secrets.get(key), files.get(key)) {
                (Some(_), Some(path)) => {
                    let heading = heading(setting, &mut group);
                    insert(&mut document, &file_key, path.into(), "only the node may read it", heading);
                }
                (Some(_), None) => {
                    open.push_str(&format!("# {file_key} = \"…\"  # put it into a file, mode 0600\n"))
                }
                (None, _) => {}
            }
        }
        let title =
            format!("# From {} of Ant Media Server. All settings: docs/configuration.md\n", one_line(source));
        format!("{title}{document}{open}")
    }
}

fn heading(setting: &Setting, group: &mut &'static str) -> Option<String> {
    (setting.group != *group).then(|| {
        *group = setting.group;
        format!("\n# {}\n", setting.group)
    })
}

fn insert(document: &mut DocumentMut, key: &str, mut value: Value, from: &str, heading: Option<String>) {
    value.decor_mut().set_suffix(format!("  # {}", one_line(from)));
    document.insert(key, Item::Value(value));
    if let (Some(heading), Some(mut key)) = (heading, document.key_mut(key)) {
        key.leaf_decor_mut().set_prefix(heading);
    }
}

/// A text of the setting in its natural type.
fn value(setting: &Setting, text: &str) -> Value {
    match ((setting.shape)(), text.parse::<i64>(), text.parse::<bool>()) {
        (Shape::Number, Ok(number), _) => number.into(),
        (Shape::Truth, _, Ok(truth)) => truth.into(),
        _ => text.into(),
    }
}

/// What is safe in a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
