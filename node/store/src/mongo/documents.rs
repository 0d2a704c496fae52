//! Records as documents. What AMS knows has AMS's names at the top; what is ours is under `sluice`.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use super::failure::OpResult;
use crate::{App, AppSettings, Broadcast, BroadcastUpdate, NodeRecord, StoreError};

/// The field for everything that AMS does not have.
pub(super) const OURS: &str = "sluice";

/// Documents of a database may not be nested deeper than 100; ours stay well below.
const DEEPEST: usize = 40;

/// JSON as BSON.
pub(super) fn to_bson(value: Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(b) => Bson::Boolean(b),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => i32::try_from(i).map_or(Bson::Int64(i), Bson::Int32),
            (None, f) => f.map_or(Bson::Null, Bson::Double),
        },
        Value::String(s) => Bson::String(s),
        Value::Array(a) => Bson::Array(a.into_iter().map(to_bson).collect()),
        Value::Object(o) => Bson::Document(to_document(o)),
    }
}

fn to_document(object: Map<String, Value>) -> Document {
    object.into_iter().map(|(key, value)| (key, to_bson(value))).collect()
}

/// BSON as JSON. Morphia's discriminators (`_t`) are left out; `whole` makes integers of doubles that are whole,
/// for records that were edited by hand in a shell whose numbers are all doubles.
pub(super) fn to_json(value: Bson, whole: bool) -> Value {
    match value {
        Bson::Boolean(b) => b.into(),
        Bson::Int32(n) => n.into(),
        Bson::Int64(n) => n.into(),
        // Up to 2^53 a double is exact.
        Bson::Double(f) if whole && f.fract() == 0.0 && f.abs() <= 9_007_199_254_740_992.0 => {
            (f as i64).into()
        }
        Bson::Double(f) => Number::from_f64(f).map_or(Value::Null, Value::Number),
        Bson::String(s) | Bson::Symbol(s) => s.into(),
        Bson::ObjectId(id) => id.to_hex().into(),
        Bson::DateTime(t) => t.timestamp_millis().into(),
        Bson::Decimal128(d) => d.to_string().into(),
        Bson::Array(a) => a.into_iter().map(|v| to_json(v, whole)).collect(),
        Bson::Document(d) => Value::Object(to_object(d, whole)),
        _ => Value::Null,
    }
}

fn to_object(document: Document, whole: bool) -> Map<String, Value> {
    document.into_iter().filter(|(key, _)| key != "_t").map(|(key, v)| (key, to_json(v, whole))).collect()
}

/// Whether every server keeps this as it is. Others are kept as text.
fn keeps(value: &Value, depth: usize) -> bool {
    depth < DEEPEST
        && match value {
            Value::Number(n) => n.is_i64() || n.is_f64(),
            Value::Array(a) => a.iter().all(|v| keeps(v, depth + 1)),
            Value::Object(o) => o.iter().all(|(key, v)| keeps_key(key) && keeps(v, depth + 1)),
            _ => true,
        }
}

fn keeps_key(key: &str) -> bool {
    !key.is_empty() && key != "_t" && !key.starts_with('$') && !key.contains(['.', '\0'])
}

fn object_of<T: serde::Serialize>(what: &str, record: &T) -> OpResult<Map<String, Value>> {
    match serde_json::to_value(record) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Ok(Map::new()),
        Err(e) => Err(StoreError::Unreadable { what: what.to_owned(), detail: e.to_string() }.into()),
    }
}

fn read<T: DeserializeOwned>(what: &str, name: &str, object: Map<String, Value>) -> OpResult<T> {
    serde_json::from_value(Value::Object(object))
        .map_err(|e| StoreError::Unreadable { what: format!("{what} {name}"), detail: e.to_string() }.into())
}

/// A number that may have come as any of BSON's.
pub(super) fn integer(document: &Document, key: &str) -> Option<i64> {
    match document.get(key)? {
        Bson::Int32(n) => Some((*n).into()),
        Bson::Int64(n) => Some(*n),
        Bson::Double(f) => Some(*f as i64),
        _ => None,
    }
}

/// As [`integer`]; 0 when it is not there or negative.
pub(super) fn unsigned(document: &Document, key: &str) -> u64 {
    integer(document, key).and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

/// Epochs and sequence numbers are below 2^63.
pub(super) fn long(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What a search looks at: the id and the name in lower case; the line break keeps a match from spanning both.
fn search_text(id: &str, name: &str) -> String {
    format!("{id}\n{name}").to_lowercase()
}

pub(super) fn from_broadcast(b: &Broadcast, node: Option<&str>, epoch: u64) -> OpResult<Document> {
    let mut object = object_of("broadcast", b)?;
    object.retain(|_, v| !v.is_null());
    let mut document = doc! { "_id": &b.stream_id };
    document.extend(to_document(object));
    let name = b.name.as_deref().unwrap_or_default();
    let ours = doc! {
        // Lists are in the order of creation.
        "order": ObjectId::new(),
        "search": search_text(&b.stream_id, name),
        "name": name.to_ascii_lowercase(),
        "node": node,
        "epoch": long(epoch),
    };
    document.insert(OURS, ours);
    Ok(document)
}

pub(super) fn to_broadcast(document: Document) -> OpResult<Broadcast> {
    let mut object = to_object(document, true);
    for key in ["_id", OURS] {
        object.shift_remove(key);
    }
    // A plain field that is null has its default.
    let nullable = object_of("broadcast", &Broadcast::default())?;
    object.retain(|key, v| !v.is_null() || nullable.get(key).is_some_and(Value::is_null));
    let id = object.get("streamId").and_then(Value::as_str).unwrap_or_default().to_owned();
    read("broadcast", &id, object)
}

/// The fields that an update sets; never empty.
pub(super) fn from_update(id: &str, update: &BroadcastUpdate) -> OpResult<Document> {
    let mut object = object_of("broadcast", update)?;
    object.shift_remove("streamId");
    let mut set = to_document(object);
    if let Some(name) = &update.name {
        set.insert("sluice.search", search_text(id, name));
        set.insert("sluice.name", name.to_ascii_lowercase());
    }
    if set.is_empty() {
        set.insert("streamId", id);
    }
    Ok(set)
}

/// Fields of a settings document that are no settings.
const NO_SETTING: [&str; 5] = ["_id", "appName", "updateTime", "appStatus", OURS];

pub(super) fn from_settings(name: &str, s: &AppSettings, version: u64, now: i64) -> OpResult<Document> {
    let mut text = Map::new();
    let mut document = doc! { "appName": name };
    for (key, value) in object_of("settings", s)? {
        if keeps_key(&key) && keeps(&value, 0) && !NO_SETTING.contains(&key.as_str()) {
            document.insert(key, to_bson(value));
        } else {
            text.insert(key, value);
        }
    }
    document.extend(doc! { "updateTime": now, "appStatus": "installed" });
    let mut ours = doc! { "version": long(version) };
    if !text.is_empty() {
        ours.insert("json", Value::Object(text).to_string());
    }
    document.insert(OURS, ours);
    Ok(document)
}

pub(super) fn to_app(mut document: Document) -> OpResult<App> {
    let ours = match document.remove(OURS) {
        Some(Bson::Document(d)) => d,
        _ => Document::new(),
    };
    let name = document.get_str("appName").unwrap_or_default().to_owned();
    let mut object = to_object(document, false);
    for key in NO_SETTING {
        object.shift_remove(key);
    }
    if let Ok(text) = ours.get_str("json") {
        let more: Map<String, Value> = serde_json::from_str(text).map_err(|e| StoreError::Unreadable {
            what: format!("settings of app {name}"),
            detail: e.to_string(),
        })?;
        object.extend(more);
    }
    // A setting of ours that is null has its default; those that are not known here may be null.
    let known = object_of("settings", &AppSettings::default())?;
    object.retain(|key, v| !v.is_null() || !known.contains_key(key));
    Ok(App { settings: read("settings of app", &name, object)?, version: unsigned(&ours, "version"), name })
}

pub(super) fn from_node(n: NodeRecord) -> Document {
    let NodeRecord { id, boot, counter, updated, ip, cpu, memory, db_query_ms, document } = n;
    let (key, value) = if keeps(&document, 1) {
        ("document", to_bson(document))
    } else {
        ("json", Bson::String(document.to_string()))
    };
    doc! {
        "_id": id,
        "ip": ip,
        "lastUpdateTime": updated,
        "memory": memory,
        "cpu": cpu,
        "dbQueryAveargeTimeMs": db_query_ms,
        OURS: { "boot": i64::from(boot), "counter": long(counter), key: value },
    }
}

/// `None` for a node that is not ours (AMS's).
pub(super) fn to_node(mut document: Document) -> Option<NodeRecord> {
    let Some(Bson::Document(mut ours)) = document.remove(OURS) else { return None };
    let text = |key: &str| document.get_str(key).unwrap_or_default().to_owned();
    let more = match (ours.remove("document"), ours.get_str("json")) {
        (Some(d), _) => to_json(d, false),
        (None, text) => text.ok().and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default(),
    };
    Some(NodeRecord {
        id: text("_id"),
        boot: u32::try_from(unsigned(&ours, "boot")).unwrap_or_default(),
        counter: unsigned(&ours, "counter"),
        updated: integer(&document, "lastUpdateTime").unwrap_or_default(),
        ip: text("ip"),
        cpu: text("cpu"),
        memory: text("memory"),
        db_query_ms: integer(&document, "dbQueryAveargeTimeMs").unwrap_or_default(),
        document: more,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, HlsParameters, Status};

    #[test]
    fn a_broadcast_is_the_same_afterwards() {
        let b = Broadcast {
            stream_id: "s".into(),
            name: Some("Ärger".into()),
            status: Status::Broadcasting,
            update_time: 1_800_000_000_000,
            speed: 1.0,
            end_point_list: Some(vec![Endpoint::default()]),
            hls_parameters: Some(HlsParameters { hls_time: Some("4".into()), ..Default::default() }),
            ..Default::default()
        };
        let d = from_broadcast(&b, Some("n"), 1 << 40).unwrap();
        assert_eq!(d.get_str("_id").unwrap(), "s");
        assert_eq!(d.get_str("status").unwrap(), "broadcasting");
        assert_eq!(d.get_i64("updateTime").unwrap(), 1_800_000_000_000);
        assert!(!d.contains_key("description"), "nulls are not written, as by AMS");
        let ours = d.get_document(OURS).unwrap();
        assert_eq!((ours.get_str("search").unwrap(), ours.get_i64("epoch").unwrap()), ("s\närger", 1 << 40));
        assert_eq!(to_broadcast(d).unwrap(), b);
    }

    #[test]
    fn records_of_others_are_read() {
        let d = doc! {
            "_id": ObjectId::new(), "_t": "Broadcast", "streamId": "s", "status": "finished", "width": 640.0,
            "date": Bson::Int32(5), "dbId": Bson::Null, "conferenceMode": "legacy", "publish": Bson::Null,
            "endPointList": [{ "_t": "Endpoint", "endpointUrl": "rtmp://x" }],
        };
        let b = to_broadcast(d).unwrap();
        assert_eq!((b.stream_id.as_str(), b.width, b.date, b.publish), ("s", 640, 5, true));
        assert_eq!(b.end_point_list.unwrap()[0].endpoint_url.as_deref(), Some("rtmp://x"));
        assert!(to_broadcast(doc! { "streamId": "s", "width": "wide" }).is_err());
        let app = to_app(doc! {
            "_id": ObjectId::new(), "_t": "AppSettings", "appName": "a", "hlsTime": "4", "listenerHookURL": Bson::Null,
            "pullWarFile": false, "updateTime": 5_i64,
        });
        let app = app.unwrap();
        assert_eq!((app.name.as_str(), app.version, app.settings.hls_time.as_str()), ("a", 0, "4"));
        assert_eq!(app.settings.other.keys().collect::<Vec<_>>(), ["pullWarFile"]);
        assert!(to_node(doc! { "_id": "theirs", "ip": "10.0.0.1" }).is_none());
    }

    #[test]
    fn settings_that_no_database_takes_are_kept_as_text() {
        let mut s = AppSettings::default();
        let mut deep = Value::Null;
        for _ in 0..100 {
            deep = serde_json::json!({ "a": deep });
        }
        for (key, value) in [
            ("a.b", 1.into()),
            ("$c", 2.into()),
            ("appName", "not the app's".into()),
            ("big", u64::MAX.into()),
            ("deep", deep),
            ("inner", serde_json::json!([{"$x": 1}])),
            ("fine", serde_json::json!({"x": [1, 2.5, 3.0, null]})),
        ] {
            s.other.insert(key.into(), value);
        }
        let d = from_settings("app", &s, 3, 9).unwrap();
        assert!(d.contains_key("fine") && !d.contains_key("inner") && !d.contains_key("a.b"));
        assert!(d.get_bool("lLHLSEnabled").unwrap());
        assert_eq!(d.get_str("appName").unwrap(), "app");
        let app = to_app(d).unwrap();
        assert_eq!((app.name.as_str(), app.version), ("app", 3));
        assert_eq!(app.settings.other.len(), s.other.len());
        assert!(s.other.iter().all(|(key, value)| app.settings.other.get(key) == Some(value)));
    }

    #[test]
    fn an_update_sets_what_it_has() {
        let update =
            BroadcastUpdate { name: Some("N".into()), stream_id: Some("x".into()), ..Default::default() };
        let expected = doc! { "name": "N", "sluice.search": "s\nn", "sluice.name": "n" };
        assert_eq!(from_update("s", &update).unwrap(), expected);
        assert_eq!(from_update("s", &BroadcastUpdate::default()).unwrap(), doc! { "streamId": "s" });
    }
}
