//! Whether an object is what it should be. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Where two objects differ: `spec.ports[0].port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place(String);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "all of it" } else { self.0.trim_start_matches('.') })
    }
}

/// The first digits of a hash of what is wanted: the same whatever the order of keys, and whether what is empty is said or not.
pub fn hash(value: &Value) -> String {
    let mut digest = Sha256::new();
    feed(value, &mut digest);
    digest.finalize().iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

/// Each value with its type and length before it, so that no two read the same.
fn feed(value: &Value, digest: &mut Sha256) {
    let mut put = |tag: &[u8], bytes: &[u8]| {
        digest.update(tag);
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    match value {
        Value::Null => put(b"n", &[]),
        Value::Bool(true) => put(b"t", &[]),
        Value::Bool(false) => put(b"f", &[]),
        Value::Number(number) => put(b"d", number.to_string().as_bytes()),
        Value::String(text) => put(b"s", text.as_bytes()),
        Value::Array(items) => {
            put(b"a", &(items.len() as u64).to_le_bytes());
            for item in items {
                feed(item, digest);
            }
        }
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().filter(|(_, value)| !is_empty(value)).collect();
            put(b"o", &(fields.len() as u64).to_le_bytes());
            for (key, value) in fields {
                feed(&Value::String(key.clone()), digest);
                feed(value, digest);
            }
        }
    }
}

/// Brings what is wanted into the form in which the API server keeps it: `stringData` of a Secret as `data`.
pub(super) fn normalise(desired: &mut Value) {
    let Some(object) = desired.as_object_mut() else { return };
    if object.get("kind").and_then(Value::as_str) != Some("Secret") {
        return;
    }
    let Some(Value::Object(texts)) = object.remove("stringData") else { return };
    let data = object.entry("data").or_insert_with(|| Value::Object(Map::new()));
    if !data.is_object() {
        *data = Value::Object(Map::new());
    }
    for (key, text) in texts {
        let bytes = text.as_str().unwrap_or_default().as_bytes().to_vec();
        // The same encoding as for `data`.
        if let (Some(data), Ok(encoded)) =
            (data.as_object_mut(), serde_json::to_value(k8s_openapi::ByteString(bytes)))
        {
            data.insert(key, encoded);
        }
    }
}

/// Where `live` is not what is wanted. What it has besides is the API server's or somebody else's matter, but for lists: they
/// are as long as is wanted.
pub(super) fn difference(desired: &Value, live: &Value) -> Option<Place> {
    differs(desired, live, "", false).map(Place)
}

/// The same in both directions, and nothing is as good as empty.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    hash(a) == hash(b)
}

fn differs(desired: &Value, live: &Value, path: &str, quantities: bool) -> Option<String> {
    let here = || Some(path.to_owned());
    match (desired, live) {
        (Value::Object(desired), live) => {
            let none = Map::new();
            let live = match live {
                Value::Object(live) => live,
                Value::Null => &none,
                _ => return here(),
            };
            desired.iter().find_map(|(key, desired)| {
                // The type is known by where it was read from.
                if path.is_empty() && (key == "apiVersion" || key == "kind") {
                    return None;
                }
                let live = live.get(key).unwrap_or(&Value::Null);
                differs(desired, live, &format!("{path}.{key}"), quantities || is_quantity_field(key))
            })
        }
        (Value::Array(desired), Value::Array(live)) => {
            // Others may own an object besides.
            if path == ".metadata.ownerReferences" {
                let found =
                    |wanted: &Value| live.iter().any(|live| differs(wanted, live, path, false).is_none());
                return if desired.iter().all(found) { None } else { here() };
            }
            if desired.len() != live.len() {
                return here();
            }
            let pairs = desired.iter().zip(live).enumerate();
            pairs.into_iter().find_map(|(index, (desired, live))| {
                differs(desired, live, &format!("{path}[{index}]"), quantities)
            })
        }
        (desired, Value::Null) if is_zero(desired) => None,
        (desired, live) if desired == live => None,
        (desired, live) if quantities && quantity(desired).is_some_and(|d| quantity(live) == Some(d)) => None,
        _ => here(),
    }
}

/// What `live` has at the places that are wanted.
pub(super) fn projection(desired: &Value, live: &Value) -> Value {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => {
            let fields = desired.iter().filter_map(|(key, desired)| {
                live.get(key).map(|live| (key.clone(), projection(desired, live)))
            });
            Value::Object(fields.collect())
        }
        (Value::Array(desired), Value::Array(live)) if desired.len() == live.len() => {
            Value::Array(desired.iter().zip(live).map(|(desired, live)| projection(desired, live)).collect())
        }
        (_, live) => live.clone(),
    }
}

/// Those of the wanted labels or annotations that are others now, as a merge patch has them.
pub(super) fn marks(
    live: &BTreeMap<String, String>,
    wanted: &[(&str, Option<String>)],
) -> Map<String, Value> {
    let others = wanted.iter().filter(|(key, value)| live.get(*key) != value.as_ref());
    others.map(|(key, value)| ((*key).to_owned(), value.clone().map_or(Value::Null, Value::String))).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// What Go leaves out when it writes an object.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        other => is_empty(other),
    }
}

/// Under these keys, texts are amounts.
fn is_quantity_field(key: &str) -> bool {
    matches!(
        key,
        "limits"
            | "requests"
            | "capacity"
            | "sizeLimit"
            | "storage"
            | "divisor"
            | "overhead"
            | "target"
            | "tolerance"
    )
}

/// A Kubernetes quantity in thousandths of billionths, so that `0.5` and `500m` are the same number.
fn quantity(value: &Value) -> Option<i128> {
    const NANO: i128 = 1_000_000_000;
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: String = format!("{whole}{fraction}");
    let mantissa: i128 = digits.parse().ok()?;
    let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (times, over): (i128, i128) = match unit {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (NANO, 1),
        "T" => (NANO * 1000, 1),
        "P" => (NANO * 1_000_000, 1),
        "E" => (NANO * NANO, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10i128.checked_pow(power.unsigned_abs())?;
            if power >= 0 { (ten, 1) } else { (1, ten) }
        }
    };
    let amount = mantissa.checked_mul(times)?.checked_mul(NANO)?;
    let amount = amount.checked_div(over.checked_mul(scale)?)?;
    Some(if negative { -amount } else { amount })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn place(desired: Value, live: Value) -> Option<String> {
        difference(&desired, &live).map(|place| place.to_string())
    }

    #[test]
    fn differences_are_named_and_spellings_are_not() {
        let service = |port: Value| json!({"spec": {"ports": [{"port": port}]}});
        for (desired, live, expected) in [
            (json!({"spec": {"a": 1}}), json!({"spec": {"a": 1, "b": 2}}), None),
            (json!({"spec": {"a": 1}}), json!({"spec": {"a": 2}}), Some("spec.a")),
            (json!({"spec": {"a": 1}}), json!({}), Some("spec.a")),
            (service(json!(80)), service(json!(81)), Some("spec.ports[0].port")),
            // Port 80 and a port that is named "80" are two things.
            (service(json!(80)), service(json!("80")), Some("spec.ports[0].port")),
            (
                json!({"spec": {"ports": [{"port": 80}]}}),
                json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}),
                None,
            ),
            // A list that is longer than wanted: an opened network policy.
            (json!({"spec": {"from": [1]}}), json!({"spec": {"from": [1, 2]}}), Some("spec.from")),
            (json!({"spec": {"from": []}}), json!({}), None),
            (json!({"spec": {"from": []}}), json!({"spec": {"from": [1]}}), Some("spec.from")),
            (json!({"a": null, "b": {}, "c": "", "d": false, "e": 0}), json!({}), None),
            (json!({"d": false}), json!({"d": true}), Some("d")),
            (json!({"apiVersion": "v1", "kind": "A"}), json!({"apiVersion": "v2"}), None),
            (json!({"limits": {"cpu": "0.5"}}), json!({"limits": {"cpu": "500m"}}), None),
            (json!({"limits": {"memory": "1024Mi"}}), json!({"limits": {"memory": "1Gi"}}), None),
            (
                json!({"limits": {"memory": "1G"}}),
                json!({"limits": {"memory": "1Gi"}}),
                Some("limits.memory"),
            ),
            // Text elsewhere is text.
            (json!({"data": {"cpu": "0.5"}}), json!({"data": {"cpu": "500m"}}), Some("data.cpu")),
            (
                json!({"metadata": {"ownerReferences": [{"uid": "1"}]}}),
                json!({"metadata": {"ownerReferences": [{"uid": "2"}, {"uid": "1", "name": "a"}]}}),
                None,
            ),
            (
                json!({"metadata": {"ownerReferences": [{"uid": "1"}]}}),
                json!({"metadata": {}}),
                Some("metadata.ownerReferences"),
            ),
            (json!({"spec": {"a": {"b": 1}}}), json!({"spec": {"a": "text"}}), Some("spec.a")),
        ] {
            assert_eq!(place(desired.clone(), live.clone()).as_deref(), expected, "{desired} in {live}");
        }
    }

    #[test]
    fn quantities_are_compared_as_numbers() {
        for (a, b) in [
            ("1", "1000m"),
            ("1.5", "1500m"),
            ("0.1", "100m"),
            ("1e3", "1k"),
            ("2E3", "2000"),
            ("1Ki", "1024"),
            ("100u", "0.0001"),
            ("+1", "1"),
            ("-1", "-1000m"),
            (".5", "0.5"),
            ("1Ei", "1152921504606846976"),
        ] {
            assert!(quantity(&a.into()).is_some(), "{a}");
            assert_eq!(quantity(&a.into()), quantity(&b.into()), "{a} {b}");
        }
        for wrong in ["", "m", ".", "1x", "1e", "Gi", "1 G", "99999999999999999999999999999999999999999"] {
            assert_eq!(quantity(&wrong.into()), None, "{wrong}");
        }
        assert_eq!(quantity(&json!(2)), quantity(&"2".into()));
    }

    #[test]
    fn texts_of_secrets_are_data() {
        let mut secret =
            json!({"kind": "Secret", "data": {"a": "YQ=="}, "stringData": {"key": "text", "a": "b"}});
        normalise(&mut secret);
        assert_eq!(secret, json!({"kind": "Secret", "data": {"a": "Yg==", "key": "dGV4dA=="}}));
        let mut config = json!({"kind": "ConfigMap", "stringData": {"a": "b"}});
        normalise(&mut config);
        assert_eq!(config["stringData"]["a"], "b");
    }

    #[test]
    fn marks_are_what_changes() {
        let live = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "1".to_owned())]);
        let wanted = [("a", Some("1".to_owned())), ("b", None), ("c", Some("2".to_owned())), ("d", None)];
        assert_eq!(Value::Object(marks(&live, &wanted)), json!({"b": null, "c": "2"}));
    }

    #[test]
    fn hashes_tell_values_apart_and_spellings_not() {
        assert_eq!(hash(&json!({"a": 1, "b": {"c": []}})), hash(&json!({"b": null, "a": 1})));
        let all = [
            json!({"a": "1"}),
            json!({"a": 1}),
            json!({"a": ["1"]}),
            json!({"a": ["1", ""]}),
            json!({"a": {"1": "x"}}),
            json!({"a": "", "b": "1"}),
            json!(["a", "b"]),
            json!(["ab"]),
            json!(["a", ["b"]]),
        ];
        let hashes: std::collections::HashSet<_> = all.iter().map(hash).collect();
        assert_eq!(hashes.len(), all.len());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z0-9.]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("(limits|a|b|c|metadata)", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// What an API server does: fields that were not asked for, and none that are empty.
    fn add(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut fields: Map<_, _> =
                    fields.iter().filter(|(_, v)| !is_zero(v)).map(|(k, v)| (k.clone(), add(v))).collect();
                fields.insert("added".into(), 1.into());
                Value::Object(fields)
            }
            Value::Array(items) => Value::Array(items.iter().map(add).collect()),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn what_was_asked_for_is_found_again(desired in any_value()) {
            prop_assert_eq!(difference(&desired, &desired), None);
            prop_assert_eq!(difference(&desired, &add(&desired)), None);
        }

        #[test]
        fn a_projection_is_stable(desired in any_value(), live in any_value()) {
            let once = projection(&desired, &live);
            prop_assert_eq!(&projection(&desired, &once), &once);
            prop_assert_eq!(difference(&desired, &live).is_none(), difference(&desired, &once).is_none());
        }

        #[test]
        fn any_text_may_be_a_quantity(text in ".{0,40}") {
            let _ = quantity(&text.into());
        }
    }
}
