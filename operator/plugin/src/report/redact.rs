//! Takes secrets out of what goes into a report. Rather too much than too little: a report is sent to strangers.
//!
//! Two ways, one over the other: values that are known (those of the Secrets that the cluster uses) are taken out wherever they
//! stand; and whatever looks like a secret by its name or form is, too. [`Clean`] is made here only, and an archive takes nothing
//! else.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::forms::Forms;
use super::words::looks_secret;
use crate::logs::read::Line;

/// What stands in a secret's place.
pub(super) const MARK: &str = "(redacted)";

/// Shorter values are not looked for: they would take ordinary words out. Their names and forms still are.
const SHORTEST: usize = 6;

/// How many texts in texts (JSON as a string in JSON) are looked into; deeper ones are left out.
const DEEPEST: usize = 6;

/// Text without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clean(String);

impl Clean {
    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Takes secrets out.
pub(crate) struct Redactor {
    forms: Forms,
    /// Values that are known, in every form in which they may stand; the longest first.
    known: Vec<String>,
}

impl Redactor {
    /// With the values of Secrets, by their keys.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Redactor {
        let mut known = Vec::new();
        for (key, value) in secrets {
            if !is_public(key) {
                learn(value, &mut known);
            }
        }
        known.retain(|value| value.len() >= SHORTEST);
        known.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        known.dedup();
        Redactor { forms: Forms::new(), known }
    }

    /// Text of any kind.
    pub(crate) fn text(&self, text: &str) -> Clean {
        Clean(self.string(text, 0))
    }

    /// A log: lines, with Kubernetes' stamps in front, some of them JSON.
    pub(crate) fn log(&self, text: &str) -> Clean {
        // Keys in PEM go over many lines.
        let text = self.forms.keys(text);
        let mut clean = String::with_capacity(text.len());
        for line in text.lines() {
            let line = Line::of(line);
            if let Some(stamp) = &line.stamp {
                clean.push_str(stamp);
                clean.push(' ');
            }
            clean.push_str(&self.string(&line.text, 0));
            clean.push('\n');
        }
        Clean(clean)
    }

    /// An object of Kubernetes, or anything else in JSON.
    pub(crate) fn json(&self, value: &Value) -> Clean {
        let clean = self.value(value, 0);
        // A value of serde_json can always be written.
        Clean(serde_json::to_string_pretty(&clean).unwrap_or_else(|error| error.to_string()) + "\n")
    }

    fn string(&self, text: &str, depth: usize) -> String {
        let trimmed = text.trim();
        if trimmed.starts_with(['{', '['])
            && let Ok(inner @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str::<Value>(trimmed)
        {
            if depth >= DEEPEST {
                return MARK.into();
            }
            return self.value(&inner, depth + 1).to_string();
        }
        self.known(self.forms.text(&self.known(text.to_owned())))
    }

    fn known(&self, mut text: String) -> String {
        for secret in &self.known {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MARK);
            }
        }
        text
    }

    fn value(&self, value: &Value, depth: usize) -> Value {
        match value {
            Value::String(text) => Value::String(self.string(text, depth)),
            Value::Array(items) => Value::Array(self.array(items, depth)),
            Value::Object(fields) => {
                // A Secret's manifest, such as one in an annotation of a tool.
                let is_secret = fields.get("kind").and_then(Value::as_str) == Some("Secret");
                // An environment variable, a header: the name is a value as well.
                let named = ["name", "key", "header"]
                    .iter()
                    .find_map(|field| fields.get(*field).and_then(Value::as_str))
                    .is_some_and(looks_secret);
                let clean = fields
                    .iter()
                    .filter(|(name, _)| *name != "managedFields")
                    .map(|(name, field)| {
                        let secret = looks_secret(name) || (named && name == "value");
                        let kept = match field {
                            Value::Object(data) if is_secret && (name == "data" || name == "stringData") => {
                                Value::Object(data.iter().map(|(key, _)| (key.clone(), mark())).collect())
                            }
                            Value::String(_) | Value::Number(_) if secret => mark(),
                            Value::Array(items) if secret => {
                                Value::Array(items.iter().map(|item| self.hidden(item, depth)).collect())
                            }
                            Value::Object(_) if secret => self.hidden(field, depth),
                            other => self.value(other, depth),
                        };
                        (self.known(name.clone()), kept)
                    })
                    .collect();
                Value::Object(clean)
            }
            // A number may be a password that is known.
            Value::Number(number) => {
                let text = number.to_string();
                if self.known.contains(&text) { mark() } else { value.clone() }
            }
            Value::Null | Value::Bool(_) => value.clone(),
        }
    }

    /// What stands below a name that looks secret: only references to Secrets are kept.
    fn hidden(&self, value: &Value, depth: usize) -> Value {
        match value {
            Value::Null | Value::Bool(_) => value.clone(),
            Value::String(_) | Value::Number(_) => mark(),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.hidden(item, depth)).collect()),
            Value::Object(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(name, field)| {
                        let kept = match name.as_str() {
                            "name" | "key" | "secretName" | "namespace" | "kind" | "path" | "items"
                            | "mode" | "defaultMode" | "audience" | "expirationSeconds" => {
                                self.value(field, depth)
                            }
                            _ => self.hidden(field, depth),
                        };
                        (self.known(name.clone()), kept)
                    })
                    .collect(),
            ),
        }
    }

    /// A list: of arguments, a flag's value may be the next one.
    fn array(&self, items: &[Value], depth: usize) -> Vec<Value> {
        let mut follows_flag = false;
        items
            .iter()
            .map(|item| {
                let Value::String(text) = item else {
                    follows_flag = false;
                    return self.value(item, depth);
                };
                if std::mem::take(&mut follows_flag) && !text.starts_with("--") {
                    return mark();
                }
                follows_flag = text.starts_with('-') && !text.contains('=') && looks_secret(text);
                self.value(item, depth)
            })
            .collect()
    }
}

fn mark() -> Value {
    Value::String(MARK.into())
}

/// Keys of Secrets whose values are no secrets, and would take ordinary words out.
fn is_public(key: &str) -> bool {
    matches!(
        key.to_ascii_lowercase().as_str(),
        "username"
            | "user"
            | "host"
            | "hostname"
            | "port"
            | "namespace"
            | "database"
            | "type"
            | "provider"
            | "ca.crt"
            | "tls.crt"
    )
}

/// Every form in which a value may stand somewhere.
fn learn(value: &[u8], known: &mut Vec<String>) {
    let mut plain = vec![];
    if let Ok(text) = std::str::from_utf8(value) {
        plain.push(text.to_owned());
        plain.push(text.trim().to_owned());
        // Keys in PEM, and files of settings: each line by itself.
        if text.trim().contains('\n') {
            plain.extend(text.lines().map(str::trim).filter(|line| line.len() >= 16).map(Into::into));
        }
        plain.extend(credentials(text));
        if let Ok(json) = serde_json::from_str::<Value>(text) {
            scalars(&json, &mut plain);
        }
    }
    for text in plain.iter().filter(|text| text.len() >= SHORTEST) {
        known.push(text.clone());
        known.push(escaped(text));
        known.push(percent(text));
        for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            known.push(engine.encode(text));
        }
    }
    for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        known.push(engine.encode(value));
    }
}

/// The password of a URI, as it stands there and decoded.
fn credentials(text: &str) -> Vec<String> {
    let Some((_, rest)) = text.trim().split_once("://") else { return Vec::new() };
    let Some((user_info, _)) = rest.rsplit_once('@') else { return Vec::new() };
    let Some((_, password)) = user_info.split_once(':') else { return Vec::new() };
    vec![password.to_owned(), decoded(password)]
}

/// The texts in a JSON value whose names look secret (a registry's credentials).
fn scalars(json: &Value, found: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if looks_secret(name) || name == "auth" => found.push(text.clone()),
                    other => scalars(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| scalars(item, found)),
        _ => {}
    }
}

/// As it stands in JSON, without the quotes.
fn escaped(text: &str) -> String {
    let json = Value::String(text.into()).to_string();
    json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(&json).to_owned()
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.filter(|_| first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
