//! Between shared records and what the store keeps: which fields of a broadcast are shared, what changed, what a record says.
//!
//! A record has only the fields that differ from their defaults, so it is small, and a field that nobody set gives way to one
//! that somebody did.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sluice_store::{AppSettings, Broadcast};

use super::record::{BadRecord, Changes, Field, Record};

/// What the node that has a live stream measures and decides. It does not leave that node in records; the mesh tells it.
const LIVE: [&str; 31] = [
    "playListStatus",
    "publishType",
    "quality",
    "remoteIp",
    "originAdress",
    "streamId",
    "status",
    "userAgent",
    "zombi",
    "startTime",
    "absoluteStartTimeMs",
    "updateTime",
    "duration",
    "receivedBytes",
    "bitrate",
    "speed",
    "packetLostRatio",
    "width",
    "height",
    "encoderQueueSize",
    "pendingPacketSize",
    "dropPacketCountInIngestion",
    "dropFrameCountInEncoding",
    "packetsLost",
    "jitterMs",
    "rttMs",
    "hlsViewerCount",
    "dashViewerCount",
    "webRTCViewerCount",
    "rtmpViewerCount",
    "anyoneWatching",
];

/// Those of them that stay true when the stream has ended, and are shared then.
const OUTCOME: [&str; 6] =
    ["status", "startTime", "absoluteStartTimeMs", "updateTime", "duration", "receivedBytes"];

/// The field of a value's record.
const VALUE: &str = "value";

/// Whether nobody has to be told that a field was set by two nodes at once: the server sets it itself.
pub(super) fn is_quiet(key: &str) -> bool {
    key == "date" || key == "rtmpURL" || OUTCOME.contains(&key)
}

fn object(value: serde_json::Result<Value>) -> Map<String, Value> {
    match value {
        Ok(Value::Object(map)) => map,
        // Both kinds are structs with text keys.
        _ => Map::new(),
    }
}

/// The settings as fields.
pub(super) fn of_settings(settings: &AppSettings) -> Map<String, Value> {
    object(serde_json::to_value(settings))
}

/// The shared fields of a broadcast.
pub(super) fn of_broadcast(b: &Broadcast) -> Map<String, Value> {
    let mut all = object(serde_json::to_value(b));
    all.retain(|key, value| !LIVE.contains(&key.as_str()) && !value.is_null());
    all
}

/// What became of a broadcast that has ended.
pub(super) fn outcome(b: &Broadcast) -> Map<String, Value> {
    let mut all = object(serde_json::to_value(b));
    all.retain(|key, _| OUTCOME.contains(&key.as_str()));
    all
}

/// A value's only field.
pub(super) fn of_value(value: &str) -> Map<String, Value> {
    Map::from_iter([(VALUE.to_owned(), Value::from(value))])
}

/// What has to be set to come from one to the other.
pub(super) fn changes(from: &Map<String, Value>, to: &Map<String, Value>) -> Changes {
    let set = to.iter().filter(|(key, value)| from.get(*key) != Some(value));
    let gone = from.keys().filter(|key| !to.contains_key(*key));
    set.map(|(key, value)| (key.clone(), Some(value.clone())))
        .chain(gone.map(|key| (key.clone(), None)))
        .collect()
}

/// The fields of new settings.
pub(super) fn new_settings(settings: &AppSettings) -> Changes {
    changes(&of_settings(&AppSettings::default()), &of_settings(settings))
}

/// The fields of a new broadcast.
pub(super) fn new_broadcast(b: &Broadcast) -> Changes {
    changes(&of_broadcast(&Broadcast::default()), &of_broadcast(b))
}

fn over(mut base: Map<String, Value>, fields: &BTreeMap<String, Field>) -> Map<String, Value> {
    for (key, field) in fields.iter().filter(|(_, f)| !f.gone) {
        base.insert(key.clone(), field.value.clone());
    }
    base
}

fn unreadable(record: &Record) -> impl Fn(serde_json::Error) -> BadRecord {
    move |e| BadRecord::Wrong { name: record.name.to_text(), why: format!("cannot be read ({e})") }
}

/// The settings that a record says. Fields that cannot be used together (each was set by another node) or at all are as by
/// default, the same on every node; the second part names them.
pub(super) fn settings(record: &Record) -> Result<(AppSettings, Vec<&'static str>), BadRecord> {
    let defaults = of_settings(&AppSettings::default());
    let mut all = over(defaults.clone(), &record.fields);
    let mut unusable = Vec::new();
    loop {
        let settings: AppSettings =
            serde_json::from_value(Value::Object(all.clone())).map_err(unreadable(record))?;
        match settings.check() {
            Err(wrong) if !unusable.contains(&wrong.name) => {
                unusable.push(wrong.name);
                all.insert(wrong.name.to_owned(), defaults.get(wrong.name).cloned().unwrap_or_default());
            }
            _ => return Ok((settings, unusable)),
        }
    }
}

/// The broadcast that a record says, beside what the row here knows of it as a live stream.
pub(super) fn broadcast(record: &Record, id: &str, row: Option<&Broadcast>) -> Result<Broadcast, BadRecord> {
    let mut all = object(serde_json::to_value(Broadcast::default()));
    let live = row.is_some_and(|row| row.status.is_live());
    if let Some(row) = row {
        let row = object(serde_json::to_value(row));
        // Where it is published is said by the node that it was created on, or else by this one.
        let own = |key: &str| LIVE.contains(&key) || key == "rtmpURL";
        all.extend(row.into_iter().filter(|(key, _)| own(key)));
    }
    for (key, field) in &record.fields {
        let shared = !LIVE.contains(&key.as_str()) || (OUTCOME.contains(&key.as_str()) && !live);
        if shared && !field.gone {
            all.insert(key.clone(), field.value.clone());
        }
    }
    all.insert("streamId".into(), id.into());
    all.insert("zombi".into(), false.into());
    let b: Broadcast = serde_json::from_value(Value::Object(all)).map_err(unreadable(record))?;
    if !live && b.status.is_live() {
        return Err(BadRecord::Wrong {
            name: record.name.to_text(),
            why: "is live, which no record may be".into(),
        });
    }
    Ok(b)
}

/// The value that a record says.
pub(super) fn value(record: &Record) -> Result<&str, BadRecord> {
    record.fields.get(VALUE).and_then(|f| f.value.as_str()).ok_or_else(|| BadRecord::Wrong {
        name: record.name.to_text(),
        why: "has no text as its value".into(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluice_store::{BroadcastUpdate, Status};

    use super::*;
    use crate::member::{BootId, NodeId};
    use crate::replica::stamp::Clock;

    fn clock() -> Clock {
        Clock::new(NodeId::new("n1"), BootId(1))
    }

    #[test]
    fn what_the_server_measures_is_known() {
        // Each field alone, set to something, is either kept by `without_server_fields` or live here.
        for (key, default) in object(serde_json::to_value(Broadcast::default())) {
            let tried = [default, json!("x"), json!("created"), json!([]), json!({})];
            let update = tried.into_iter().filter(|v| !v.is_null()).find_map(|v| {
                let body = serde_json::to_vec(&Map::from_iter([(key.clone(), v)])).expect("JSON");
                BroadcastUpdate::from_json(&body).ok()
            });
            let update = update.expect(&key);
            let left = serde_json::to_value(update.without_server_fields()).expect("JSON");
            let given = left.as_object().expect("an object").contains_key(&key);
            let expected = given || matches!(key.as_str(), "rtmpURL" | "date");
            assert_eq!(!LIVE.contains(&key.as_str()), expected, "{key}");
        }
    }

    #[test]
    fn settings_come_back() {
        let mut s = AppSettings { hls_time: "4".into(), ..AppSettings::default() };
        s.other.insert("gopSize".into(), 30.into());
        s.other.insert("nothing".into(), Value::Null);
        let mut r = Record::new("app/a".parse().expect("a name"));
        r.create(new_settings(&s), &clock());
        assert_eq!(r.fields.len(), 3, "only what is not the default");
        assert_eq!(settings(&r).expect("good"), (s.clone(), vec![]));
        let mut changed = s.clone();
        changed.other.shift_remove("gopSize");
        changed.hls_time = "2".into();
        r.change(changes(&of_settings(&s), &of_settings(&changed)), &clock());
        assert_eq!(settings(&r).expect("good"), (changed, vec![]));
    }

    #[test]
    fn settings_that_do_not_fit_together_fall_back() {
        let mut r = Record::new("app/a".parse().expect("a name"));
        r.create(
            vec![("hlsTime".into(), Some("1".into())), ("hlsPartDuration".into(), Some("1.5".into()))],
            &clock(),
        );
        let (s, unusable) = settings(&r).expect("good");
        assert_eq!((s.hls_time.as_str(), s.hls_part_duration.as_str()), ("1", "0.2"));
        assert_eq!(unusable, ["hlsPartDuration"]);
        r.change(vec![("hlsMuxingEnabled".into(), Some("maybe".into()))], &clock());
        assert!(settings(&r).is_err());
    }

    #[test]
    fn a_broadcast_comes_back_beside_what_is_live() {
        let made = Broadcast {
            stream_id: "s".into(),
            name: Some("Eins".into()),
            date: 5,
            publish: false,
            bitrate: 9,
            ..Broadcast::default()
        };
        let mut r = Record::new("broadcast/a/s".parse().expect("a name"));
        r.create(new_broadcast(&made), &clock());
        assert_eq!(r.fields.keys().collect::<Vec<_>>(), ["date", "name", "publish"]);
        let new = broadcast(&r, "s", None).expect("good");
        assert_eq!(new, Broadcast { bitrate: 0, ..made.clone() });
        let row = Broadcast {
            stream_id: "s".into(),
            name: Some("Zwei".into()),
            description: Some("gone".into()),
            status: Status::Broadcasting,
            zombi: true,
            bitrate: 7,
            rtmp_url: Some("rtmp://here".into()),
            start_time: 3,
            ..Broadcast::default()
        };
        r.change(
            outcome(&Broadcast { status: Status::Finished, duration: 8, ..made })
                .into_iter()
                .map(|(k, v)| (k, Some(v)))
                .collect(),
            &clock(),
        );
        let kept = broadcast(&r, "s", Some(&row)).expect("good");
        assert_eq!(
            (kept.name.as_deref(), kept.description.as_deref(), kept.publish),
            (Some("Eins"), None, false)
        );
        assert_eq!(
            (kept.status, kept.bitrate, kept.zombi, kept.start_time),
            (Status::Broadcasting, 7, false, 3)
        );
        assert_eq!(kept.rtmp_url.as_deref(), Some("rtmp://here"));
        let ended = broadcast(&r, "s", None).expect("good");
        assert_eq!((ended.status, ended.duration), (Status::Finished, 8));
        r.change(vec![("status".into(), Some("broadcasting".into()))], &clock());
        assert!(broadcast(&r, "s", None).is_err());
    }
}
