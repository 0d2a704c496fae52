//! Where values come from: flags go before the environment, that before the file, that before the defaults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, Origin, suggestion};
use super::rules::Shape;
use super::settings::{SETTINGS, Setting};

/// What the ending of a key says that its value is the path of a file with the secret.
pub(super) const FILE_FORM: &str = "_file";

/// The names by which Kubernetes' manifests usually hand on address and name of a pod, and what they are here;
/// `SLUICE_POD_IP` and `SLUICE_NODE_ID` go before them. A host name would do for the name, but it ends after 63 characters.
const OF_THE_POD: [(&str, &str); 2] = [("POD_IP", "pod_ip"), ("POD_NAME", "node_id")];

/// The inputs of a configuration.
#[derive(Clone, Default)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Variables of the environment; others than `SLUICE_…` are passed over.
    pub env: Vec<(OsString, OsString)>,
    /// Flags by the key of their setting (`http_addr`, `store_file`).
    pub flags: BTreeMap<String, String>,
}

/// Without values: some are secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, env, flags } = self;
        let env: Vec<_> = env.iter().map(|(name, _)| name).collect();
        let flags: Vec<_> = flags.keys().collect();
        f.debug_struct("Sources").field("file", file).field("env", &env).field("flags", &flags).finish()
    }
}

/// The text of a setting, and who gave it. Not `Debug`: the text may be a secret.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) origin: Origin,
    /// The file that a secret was read from.
    pub(super) file: Option<PathBuf>,
}

impl Given {
    fn new(text: impl Into<String>, origin: Origin) -> Self {
        Given { text: text.into(), origin, file: None }
    }
}

/// One layer of precedence: what it gives, by key (`store`, `store_file`).
type Layer = BTreeMap<String, Given>;

/// The text of every setting, defaults included, in the order of the table.
pub(super) fn merge(sources: &Sources) -> Result<(Vec<Given>, Vec<String>), ConfigErrors> {
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let flags = sources.flags.iter().map(|(key, text)| {
        let origin = Origin::Flag(format!("--{}", key.replace('_', "-")));
        (key.clone(), Given::new(text, origin))
    });
    let layers: [Layer; 3] = [
        flags.collect(),
        environment(&sources.env, &mut errors, &mut warnings),
        match &sources.file {
            Some(path) => file(path, &mut errors)?,
            None => Layer::new(),
        },
    ];
    let mut merged = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        if let Some(given) = pick(setting, &layers, &mut errors) {
            check(setting, &given, &mut errors);
            merged.push(given);
        }
    }
    if errors.is_empty() { Ok((merged, warnings)) } else { Err(ConfigErrors(errors)) }
}

/// The text of the first layer that gives one.
fn pick(setting: &Setting, layers: &[Layer], errors: &mut Vec<ConfigError>) -> Option<Given> {
    let file_key = format!("{}{FILE_FORM}", setting.key);
    for layer in layers {
        let direct = layer.get(setting.key);
        let from_file = layer.get(&file_key).filter(|_| setting.secret);
        match (direct, from_file) {
            (Some(_), Some(second)) => {
                errors.push(ConfigError::Both { origin: second.origin.clone(), key: setting.key });
                return None;
            }
            (Some(given), None) => return Some(given.clone()),
            (None, Some(given)) => {
                let path = PathBuf::from(&given.text);
                let origin = given.origin.clone();
                return match std::fs::read_to_string(&path) {
                    Ok(text) => Some(Given { file: Some(path), ..Given::new(text.trim(), origin) }),
                    Err(source) => {
                        errors.push(ConfigError::SecretFile { origin, path, source });
                        None
                    }
                };
            }
            (None, None) => {}
        }
    }
    Some(Given::new(setting.default, Origin::Default))
}

fn check(setting: &Setting, given: &Given, errors: &mut Vec<ConfigError>) {
    if !(setting.accepts)(&given.text) {
        let value = if setting.secret { "the given text".into() } else { format!("{:?}", given.text) };
        errors.push(value_error(setting, given.origin.clone(), value));
    }
}

fn value_error(setting: &Setting, origin: Origin, value: String) -> ConfigError {
    ConfigError::Value { origin, key: setting.key.to_owned(), value, expected: (setting.expected)() }
}

/// The setting that a key names, and whether by its `_file` form.
pub(super) fn find(key: &str) -> Option<(&'static Setting, bool)> {
    SETTINGS.iter().find_map(|setting| {
        if setting.key == key {
            return Some((setting, false));
        }
        let is_file_form = setting.secret && key.strip_suffix(FILE_FORM) == Some(setting.key);
        is_file_form.then_some((setting, true))
    })
}

/// The key that was probably meant.
pub(super) fn similar(key: &str) -> Option<String> {
    let forms = SETTINGS.iter().flat_map(|s| {
        let file_form = s.secret.then(|| format!("{}{FILE_FORM}", s.key));
        std::iter::once(s.key.to_owned()).chain(file_form)
    });
    let key = key.replace('-', "_").to_ascii_lowercase();
    forms
        .map(|form| (strsim::damerau_levenshtein(&form, &key), form))
        .min()
        .filter(|(distance, form)| *distance <= 3 && *distance * 2 < form.len())
        .map(|(_, form)| form)
}

fn environment(
    env: &[(OsString, OsString)],
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<String>,
) -> Layer {
    let mut layer = Layer::new();
    for (variable, key) in OF_THE_POD {
        let text = env.iter().find(|(name, _)| name == variable).and_then(|(_, value)| value.to_str());
        // The names are not ours alone, so what is no value of the setting is not meant for us.
        let is_value = |text: &&str| !text.is_empty() && find(key).is_some_and(|(s, _)| (s.accepts)(text));
        if let Some(text) = text.filter(is_value) {
            let origin = Origin::Environment(variable.to_owned());
            layer.insert(key.to_owned(), Given::new(text, origin));
        }
    }
    for (name, value) in env {
        let Some((name, key)) = name.to_str().and_then(|n| Some((n, n.strip_prefix("SLUICE_")?))) else {
            continue;
        };
        let key = key.to_ascii_lowercase();
        if key == "config" || value.is_empty() {
            continue;
        }
        let origin = Origin::Environment(name.to_owned());
        match (find(&key), value.to_str()) {
            (Some(_), Some(text)) => {
                layer.insert(key, Given::new(text, origin));
            }
            (Some((setting, _)), None) => {
                errors.push(value_error(setting, origin, "text that is not UTF-8".into()));
            }
            (None, _) => {
                let meant = similar(&key).map(|key| format!("SLUICE_{}", key.to_ascii_uppercase()));
                let hint = suggestion(meant.as_deref());
                warnings.push(format!("the environment variable {name} means nothing to sluice-node{hint}"));
            }
        }
    }
    layer
}

fn file(path: &Path, errors: &mut Vec<ConfigError>) -> Result<Layer, ConfigErrors> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let line_at =
        |offset: usize| text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
    let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line_at(span.start)),
        message: error.message().to_owned(),
    })?;
    let mut layer = Layer::new();
    for (key, value) in table.get_ref() {
        let origin = Origin::File {
            path: path.to_owned(),
            line: line_at(key.span().start),
            key: key.get_ref().to_string(),
        };
        let key = key.get_ref().as_ref();
        let Some((setting, is_file_form)) = find(key) else {
            errors.push(ConfigError::UnknownKey { origin, similar: similar(key) });
            continue;
        };
        let shape = if is_file_form { Shape::Text } else { (setting.shape)() };
        match as_text(value.get_ref(), shape) {
            Some(text) => {
                layer.insert(key.to_owned(), Given::new(text, origin));
            }
            None => {
                let value = format!("a value of type {}", value.get_ref().type_str());
                errors.push(value_error(setting, origin, value));
            }
        }
    }
    Ok(layer)
}

/// The text of a JSON value that comes from the operator, when it is of the right type.
pub(super) fn json_text(value: &serde_json::Value, shape: Shape) -> Option<String> {
    use serde_json::Value;
    match (value, shape) {
        (Value::String(text), _) => Some(text.clone()),
        (Value::Number(n), Shape::Number) => Some(n.to_string()),
        (Value::Bool(truth), Shape::Truth) => Some(truth.to_string()),
        (Value::Array(items), Shape::List) => {
            let texts: Option<Vec<&str>> = items.iter().map(serde_json::Value::as_str).collect();
            Some(texts?.join(","))
        }
        _ => None,
    }
}

/// The text of a TOML value, when it is of the right type.
fn as_text(value: &DeValue<'_>, shape: Shape) -> Option<String> {
    match (value, shape) {
        (DeValue::String(text), _) => Some(text.to_string()),
        (DeValue::Integer(n), Shape::Number) if n.radix() == 10 => Some(n.as_str().to_owned()),
        (DeValue::Float(n), Shape::Number) => Some(n.as_str().to_owned()),
        (DeValue::Boolean(truth), Shape::Truth) => Some(truth.to_string()),
        (DeValue::Array(items), Shape::List) => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            Some(texts?.join(","))
        }
        _ => None,
    }
}
