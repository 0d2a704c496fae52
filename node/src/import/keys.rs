//! What the keys of Ant Media Server mean here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::properties::Entry;
use super::{Imported, Note};
use crate::config::{SETTINGS, Secret, uri};

/// Keys that need nothing here, or have nothing behind them in this version; `*` at the end stands for any ending.
const NOT_TAKEN: &[(&str, &str)] = &[
    ("encoder.*", "this version does not transcode: nothing here uses it yet"),
    ("cache.*", "not needed: playlists and segments come from memory, and carry cache times for proxies"),
    (
        "metadata.cache.*",
        "not needed: nodes tell each other who has which stream, the database is not asked for it",
    ),
    (
        "db.name",
        "not needed: databases have the names that Ant Media Server gives them (clusterdb, one per app); \
                 store_prefix tells clusters on one server apart",
    ),
    (
        "server.cpu_limit",
        "this version does not refuse by load; max_streams and http_max_connections bound a node",
    ),
    ("server.memory_limit", "this version does not refuse by load; stream_memory bounds what a stream keeps"),
    ("server.min_free_ram", "this version does not refuse by load; stream_memory bounds what a stream keeps"),
    ("server.licence_key", "no licence is needed"),
    ("server.market_build", "no licence is needed"),
    ("server.heartbeatEnabled", "nothing is reported to anybody"),
    ("server.kafka_brokers", "this version has no Kafka; /metrics has the figures for Prometheus"),
    (
        "server.allowed_dashboard_CIDR",
        "management from elsewhere than the machine itself needs the admin token",
    ),
    ("server.cpu_measurement_*", "not needed"),
    ("nativeLogLevel", "there are no native libraries that log"),
    ("useGlobalIp", "the node does not ask the internet for its address: set advertise_host to it"),
    (
        "http.ssl_*",
        "Ant Media Server names these files even where HTTPS is off: set tls_cert and tls_key (PEM)",
    ),
    ("http.*", "the tuning of another HTTP server"),
    ("https.*", "the tuning of another HTTP server"),
    ("rtmps.*", "set rtmps_addr, tls_cert and tls_key for RTMPS"),
    ("rtmpt.*", "RTMPT is not served"),
    ("rtmp.*", "the tuning of another RTMP server"),
    ("proxy.*", "part of Red5 that has no counterpart"),
    ("policy.*", "Flash policy files are not served"),
    ("jmx.*", "there is no Java; /metrics and the REST API have the figures"),
    ("mina.*", "part of Red5 that has no counterpart"),
    ("so.*", "part of Red5 that has no counterpart"),
    ("war.*", "apps are made over REST or named in `apps`, not deployed as files"),
    ("fileconsumer.*", "this version does not record"),
    ("broadcaststream.*", "this version does not record"),
    ("broadcastream.*", "this version does not record"),
    ("subscriberstream.*", "part of Red5 that has no counterpart"),
    ("keyframe.*", "part of Red5 that has no counterpart"),
    ("settings.*", "a setting of an app: POST it to /rest/v2/applications/settings/{app}"),
];

pub(super) fn import(entries: Vec<Entry>) -> Imported {
    let mut keys = Keys::new(entries);
    node(&mut keys);
    let database = database(&mut keys);
    cluster(&mut keys, database.as_deref());
    addresses(&mut keys);
    streams(&mut keys);
    keys.rest();
    keys.out
}

/// The entries that are not dealt with yet, and what has come of the others.
struct Keys {
    left: BTreeMap<String, Entry>,
    out: Imported,
}

impl Keys {
    fn new(entries: Vec<Entry>) -> Self {
        let mut keys = Keys { left: BTreeMap::new(), out: Imported::default() };
        for entry in entries {
            // As in Java: the last one counts.
            if let Some(first) = keys.left.insert(entry.key.clone(), entry) {
                keys.note(&first, "given again further down: that one counts");
            }
        }
        keys
    }

    /// Takes an entry out; empty ones count as not given.
    fn take(&mut self, key: &str) -> Option<Entry> {
        let mut entry = self.left.remove(key)?;
        entry.value = entry.value.trim().to_owned();
        (!entry.value.is_empty()).then_some(entry)
    }

    fn first(&mut self, keys: &[&str]) -> Option<Entry> {
        let mut found: Option<Entry> = None;
        for entry in keys.iter().filter_map(|key| self.take(key)).collect::<Vec<_>>() {
            match &found {
                None => found = Some(entry),
                Some(first) if first.value == entry.value => {}
                Some(first) => {
                    let text = format!("differs from {}, which counts", first.key);
                    self.note(&entry, &text);
                }
            }
        }
        found
    }

    fn note(&mut self, entry: &Entry, text: &str) {
        self.out.notes.push(Note { line: entry.line, key: entry.key.clone(), text: text.to_owned() });
    }

    /// Sets a setting from an entry, when its text is a value of it.
    fn set(&mut self, key: &'static str, text: String, from: &Entry) -> bool {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else { return false };
        if !(setting.accepts)(&text) {
            let text = if setting.secret { "its text".to_owned() } else { format!("{text:?}") };
            let text = format!("left out: {text} is not a value of {key}, expected {}", (setting.expected)());
            self.note(from, &text);
            return false;
        }
        self.out.settings.insert(key, (text, from.key.clone()));
        true
    }

    fn copy(&mut self, to: &'static str, from: &[&str]) {
        if let Some(entry) = self.first(from) {
            self.set(to, entry.value.clone(), &entry);
        }
    }

    /// Names everything that nothing has been made of.
    fn rest(&mut self) {
        for (key, entry) in std::mem::take(&mut self.left) {
            if entry.value.trim().is_empty() {
                continue;
            }
            let matches = |pattern: &str| match pattern.strip_suffix('*') {
                Some(start) => key.starts_with(start),
                None => key == pattern,
            };
            let reason = NOT_TAKEN.iter().find(|(pattern, _)| matches(pattern)).map(|(_, reason)| *reason);
            self.note(&entry, reason.unwrap_or("not known: left out"));
        }
        self.out.notes.sort_by_key(|note| note.line);
    }
}

fn node(keys: &mut Keys) {
    if let Some(entry) = keys.take("server.mode") {
        match entry.value.to_ascii_lowercase().as_str() {
            role @ ("origin" | "edge") => _ = keys.set("role", role.to_owned(), &entry),
            "standalone" => {}
            _ => keys.note(&entry, "left out: expected `origin` or `edge`"),
        }
    }
    keys.copy("node_id", &["cluster.node.id"]);
    keys.copy("advertise_host", &["cluster.node.ip", "server.name"]);
    keys.copy("node_group", &["nodeGroup", "cluster.node.group"]);
    if let Some(entry) = keys.take("logLevel") {
        let level = entry.value.to_ascii_lowercase();
        match level.as_str() {
            "trace" | "debug" | "info" | "warn" | "error" => _ = keys.set("log", level, &entry),
            _ => keys.note(&entry, "left out: expected TRACE, DEBUG, INFO, WARN or ERROR"),
        }
    }
    if keys.left.get("useGlobalIp").is_some_and(|entry| !is_true(entry)) {
        keys.left.remove("useGlobalIp");
    }
}

fn is_true(entry: &Entry) -> bool {
    entry.value.trim().eq_ignore_ascii_case("true")
}

/// The key that names a database that all nodes share.
fn database(keys: &mut Keys) -> Option<String> {
    let kind = keys.take("db.type");
    // `localhost` is what Ant Media Server's own file comes with: alone it says nothing.
    let is_sample =
        |entry: &Entry| kind.is_none() && entry.key == "clusterdb.host" && entry.value == "localhost";
    let place = keys.first(&["db.host", "clusterdb.host"]).filter(|entry| !is_sample(entry));
    let user = keys.first(&["db.user", "clusterdb.user"]);
    let password = keys.left.remove("db.password").filter(|entry| !entry.value.is_empty());
    let password =
        password.or(keys.left.remove("clusterdb.password")).filter(|entry| !entry.value.is_empty());
    keys.left.remove("clusterdb.password");
    let options = keys.first(&["db.options", "clusterdb.options"]);

    let kind_text = kind.as_ref().map_or("mongodb", |entry| entry.value.as_str()).to_ascii_lowercase();
    match (kind_text.as_str(), &kind) {
        ("mongodb", _) => {}
        ("mapdb" | "memorydb", Some(kind)) => {
            _ = keys.set("store", "sqlite".to_owned(), kind);
            return None;
        }
        (_, Some(kind)) => {
            keys.note(kind, "left out: the stores of sluice-node are the embedded one (sqlite) and MongoDB");
            return None;
        }
        (_, None) => {}
    }
    let Some(place) = place else {
        if let Some(kind) = kind {
            keys.note(&kind, "left out: there is no db.host");
        }
        return None;
    };
    let mut uri = match uri::mongodb_uri(&place.value) {
        Ok(uri) => uri,
        Err(error) => {
            keys.note(&place, &format!("left out: {error}"));
            return None;
        }
    };
    if let Some(options) = options {
        let text = options.value.trim_start_matches('?');
        let joint = match (uri.contains('?'), uri.split("://").nth(1).is_some_and(|rest| rest.contains('/')))
        {
            (true, _) => "&",
            (false, true) => "?",
            (false, false) => "/?",
        };
        uri = format!("{uri}{joint}{text}");
    }
    if uri::has_user(&uri) {
        if keys.set("store", uri.clone(), &place) {
            keys.out.settings.remove("store");
            keys.out.secrets.insert("store", Secret::new(uri));
            return Some(place.key);
        }
        return None;
    }
    if let Some(user) = user {
        keys.set("store_user", user.value.clone(), &user);
        keys.out.secrets.extend(password.map(|entry| ("store_password", Secret::new(entry.value))));
    } else if let Some(password) = password {
        keys.note(&password, "left out: there is no db.user");
    }
    keys.set("store", uri, &place).then_some(place.key)
}

fn cluster(keys: &mut Keys, database: Option<&str>) {
    let has_database = database.is_some();
    let enabled = keys.take("cluster.enabled");
    let origins = keys.take("cluster.origin.nodes");
    match &enabled {
        Some(entry) if is_true(entry) && has_database => {
            keys.set("cluster_mode", "mongodb".into(), entry);
        }
        Some(entry) if is_true(entry) && origins.is_some() => {
            keys.set("cluster_mode", "static".into(), entry);
        }
        Some(entry) if is_true(entry) => {
            keys.note(entry, "left out: a cluster needs a MongoDB (db.host), static_members or multicast");
        }
        Some(_) => {}
        None if database == Some("clusterdb.host") => {
            let entry = Entry { line: 0, key: "clusterdb.host".into(), value: String::new() };
            keys.set("cluster_mode", "mongodb".into(), &entry);
        }
        None => {}
    }
    let Some(origins) = origins else { return };
    if has_database {
        keys.note(&origins, "not needed: nodes find each other in the database");
        return;
    }
    let hosts: Vec<&str> =
        origins.value.split(',').map(str::trim).filter(|host| !host.is_empty()).map(host_of).collect();
    if keys.set("static_members", hosts.join(","), &origins) {
        keys.note(
            &origins,
            "its ports are those of HTTP: static_members has the hosts with the cluster port (5000); \
                             add the edges to it, on every node",
        );
    }
}

/// `host` of `host:port`; of an IPv6 address with its brackets.
fn host_of(place: &str) -> &str {
    match place.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')) => {
            host
        }
        _ => place,
    }
}

fn addresses(keys: &mut Keys) {
    for (setting, host, port) in [
        ("http_addr", "http.host", "http.port"),
        ("https_addr", "https.host", "https.port"),
        ("rtmp_addr", "rtmp.host", "rtmp.port"),
        ("cluster_addr", "cluster.node.host", "server.origin_port"),
        ("srt_addr", "srt.host", "server.srt_port"),
    ] {
        let Some(port) = keys.take(port) else { continue };
        let host = match (keys.take(host), setting) {
            (Some(entry), _) => entry.value,
            // HTTPS listens where HTTP does.
            (None, "https_addr") => host_of_setting(keys, "http_addr"),
            (None, _) => "0.0.0.0".to_owned(),
        };
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => host,
        };
        keys.set(setting, format!("{host}:{}", port.value), &port);
    }
    keys.copy("http_max_connections", &["http.max.connections"]);
}

fn host_of_setting(keys: &Keys, key: &str) -> String {
    let text = keys.out.settings.get(key).map(|(text, _)| host_of(text).to_owned());
    text.unwrap_or_else(|| "0.0.0.0".to_owned())
}

fn streams(keys: &mut Keys) {
    keys.copy("hls_segment_time", &["hls.time", "settings.hlsTime"]);
    keys.copy("hls_list_size", &["hls.list.size", "settings.hlsListSize"]);
    let text = |key: &str, default: f64| {
        keys.out.settings.get(key).map_or(Some(default), |(text, _)| text.trim_end_matches('s').parse().ok())
    };
    // Frames are kept for as long as playlists list them.
    let (Some(time), Some(count)) = (text("hls_segment_time", 2.0), text("hls_list_size", 15.0)) else {
        return;
    };
    let list: f64 = time * count;
    if list > 40.0 {
        let from = Entry { line: 0, key: "hls.time and hls.list.size".into(), value: String::new() };
        keys.set("stream_window", format!("{}s", list.ceil()), &from);
    }
}
