//! `sluice-node streams`: the live streams of the node that runs with this configuration, or of its whole cluster.

use std::collections::BTreeMap;
use std::fmt::Write;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::ask::{Call, address, refused, send};
use crate::config::{Config, Loaded};
use crate::exit::{Exit, Failure};
use crate::streams::unix_ms;

/// Thousands of streams, with what each says of itself.
const MAX_ANSWER: usize = 64 << 20;

/// What `streams` is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// JSON in place of a table.
    pub json: bool,
    /// The streams of all nodes.
    pub all: bool,
}

/// A stream as REST tells it (`/rest/v2/live-streams`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Told {
    app: String,
    stream_id: String,
    node: String,
    publish_type: Option<String>,
    start_time: i64,
    bitrate: i64,
    hls_viewer_count: u64,
    rtmp_viewer_count: u64,
    #[serde(rename = "webRTCViewerCount")]
    webrtc_viewer_count: u64,
    interrupted: bool,
}

/// Where it is (`/rest/v2/cluster/streams`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Place {
    app: String,
    stream_id: String,
    owner: Option<String>,
    bitrate: u64,
    viewers: Viewers,
    carriers: Vec<Carrier>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Carrier {
    node: String,
    viewers: Viewers,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Viewers {
    hls: u64,
    rtmp: u64,
    webrtc: u64,
}

impl Viewers {
    fn all(self) -> u64 {
        self.hls.saturating_add(self.rtmp).saturating_add(self.webrtc)
    }
}

/// A line of the answer, and an object of its JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    app: String,
    stream_id: String,
    /// `live`, `relayed` or `waiting`.
    state: &'static str,
    /// How it is published: `rtmp`; empty when that is not known.
    protocol: String,
    /// The node that it is published to; none while that is lost.
    origin: Option<String>,
    viewers: u64,
    /// Bits per second from the publisher.
    bitrate: u64,
    /// When it went live, ms since the epoch; 0 when that is not known.
    start_time: i64,
    /// The nodes that fetch it from others.
    relayed_by: Vec<String>,
}

/// Asks the node; the text is the table or the JSON.
///
/// # Errors
/// The node cannot be reached, or refuses.
pub(super) fn run(wanted: Wanted, loaded: &Loaded) -> Result<String, Failure> {
    let config = &loaded.config;
    let told: Vec<Told> = get(config, "/rest/v2/live-streams")?;
    let places: Vec<Place> = match config.in_cluster() {
        true => get(config, "/rest/v2/cluster/streams")?,
        false => Vec::new(),
    };
    let lines = lines(&config.id(), wanted.all, told, places);
    if wanted.json {
        let json = serde_json::to_string_pretty(&lines);
        return json
            .map(|json| json + "\n")
            .map_err(|e| Failure::new(Exit::Failure, format!("cannot write the answer: {e}")));
    }
    Ok(table(&lines, unix_ms()))
}

fn get<T: for<'de> Deserialize<'de>>(config: &Config, path: &str) -> Result<T, Failure> {
    let place = address(config).to_string();
    let call = Call {
        method: Method::GET,
        host: place.clone(),
        place,
        path: path.to_owned(),
        token: config.admin_token.clone(),
    };
    let (status, body) = send(call, MAX_ANSWER)?;
    let not_ours =
        |what: String| Failure::new(Exit::Failure, format!("the node answers {what}; is it a sluice-node?"));
    match status {
        StatusCode::OK => {
            serde_json::from_slice(&body).map_err(|e| not_ours(format!("what is no list of streams: {e}")))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refused("")),
        other => Err(not_ours(other.to_string())),
    }
}

/// The streams to show, by app and id: those that `me` owns or fetches, or all.
fn lines(me: &str, all: bool, told: Vec<Told>, places: Vec<Place>) -> Vec<Line> {
    let mut places: BTreeMap<(String, String), Place> =
        places.into_iter().map(|p| ((p.app.clone(), p.stream_id.clone()), p)).collect();
    let mut lines = Vec::new();
    for stream in told {
        let place = places.remove(&(stream.app.clone(), stream.stream_id.clone())).unwrap_or_default();
        let origin = Some(stream.node).filter(|node| !node.is_empty()).or_else(|| place.owner.clone());
        let own = origin.as_deref() == Some(me);
        let carrier = place.carriers.iter().find(|carrier| carrier.node == me);
        if !all && !own && carrier.is_none() {
            continue;
        }
        let everywhere = [stream.hls_viewer_count, stream.rtmp_viewer_count, stream.webrtc_viewer_count]
            .into_iter()
            .fold(0, u64::saturating_add);
        let elsewhere = place.carriers.iter().filter(|c| c.node != me).map(|c| c.viewers.all()).sum();
        let viewers = match (all, own, carrier) {
            (false, true, _) => everywhere.saturating_sub(elsewhere),
            (false, _, Some(carrier)) => carrier.viewers.all(),
            _ => everywhere,
        };
        lines.push(Line {
            state: match (stream.interrupted, own || all) {
                (true, _) => "waiting",
                (false, true) => "live",
                (false, false) => "relayed",
            },
            protocol: stream.publish_type.unwrap_or_default().to_ascii_lowercase(),
            viewers,
            bitrate: u64::try_from(stream.bitrate).unwrap_or(0),
            start_time: stream.start_time,
            relayed_by: place.carriers.into_iter().map(|carrier| carrier.node).collect(),
            app: stream.app,
            stream_id: stream.stream_id,
            origin,
        });
    }
    // What is carried still, while its origin is lost.
    for place in places.into_values() {
        let here = place.carriers.iter().find(|carrier| carrier.node == me);
        if place.carriers.is_empty() || (!all && here.is_none()) {
            continue;
        }
        let everywhere = place.carriers.iter().map(|c| c.viewers.all()).sum::<u64>() + place.viewers.all();
        lines.push(Line {
            state: "waiting",
            protocol: String::new(),
            origin: place.owner,
            viewers: here.filter(|_| !all).map_or(everywhere, |carrier| carrier.viewers.all()),
            bitrate: place.bitrate,
            start_time: 0,
            relayed_by: place.carriers.into_iter().map(|carrier| carrier.node).collect(),
            app: place.app,
            stream_id: place.stream_id,
        });
    }
    lines.sort_by(|a, b| (&a.app, &a.stream_id).cmp(&(&b.app, &b.stream_id)));
    lines
}

fn table(lines: &[Line], now: i64) -> String {
    if lines.is_empty() {
        return "no live streams\n".to_owned();
    }
    let head = ["APP", "STREAM", "STATE", "PROTOCOL", "ORIGIN", "VIEWERS", "BITRATE", "STARTED"];
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(lines.iter().map(|line| {
        [
            line.app.clone(),
            line.stream_id.clone(),
            line.state.to_owned(),
            dash(&line.protocol),
            dash(line.origin.as_deref().unwrap_or_default()),
            line.viewers.to_string(),
            rate(line.bitrate),
            ago(line.start_time, now),
        ]
    }));
    let mut widths = [0; 8];
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = text.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (text, width) in row.iter().zip(widths) {
            let _ = write!(line, "{text:<width$}   ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn rate(bits: u64) -> String {
    match bits {
        0 => "-".to_owned(),
        1_000_000.. => format!("{:.1} Mbit/s", bits as f64 / 1e6),
        _ => format!("{} kbit/s", bits.div_ceil(1000)),
    }
}

/// As kubectl writes ages.
fn ago(start: i64, now: i64) -> String {
    if start <= 0 {
        return "-".to_owned();
    }
    let secs = now.saturating_sub(start).max(0) / 1000;
    match secs {
        0..60 => format!("{secs}s ago"),
        60..3600 => format!("{}m{}s ago", secs / 60, secs % 60),
        3600..86_400 => format!("{}h{}m ago", secs / 3600, secs / 60 % 60),
        _ => format!("{}d{}h ago", secs / 86_400, secs / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told() -> Vec<Told> {
        serde_json::from_value(json!([
            { "app": "live", "streamId": "b", "node": "o-0", "publishType": "RTMP", "startTime": 1000,
              "bitrate": 2_400_000, "hlsViewerCount": 5, "rtmpViewerCount": 1, "interrupted": false, "name": null },
            { "app": "live", "streamId": "a", "node": "o-1", "publishType": null, "startTime": 0,
              "bitrate": 0, "hlsViewerCount": 2, "rtmpViewerCount": 0, "interrupted": true },
        ]))
        .unwrap()
    }

    fn places() -> Vec<Place> {
        serde_json::from_value(json!([
            { "app": "live", "streamId": "b", "epoch": 1, "owner": "o-0", "viewers": { "hls": 0, "rtmp": 1 },
              "carriers": [{ "node": "e-0", "viewers": { "hls": 5, "rtmp": 0 } }] },
            { "app": "live", "streamId": "a", "owner": "o-1", "viewers": { "hls": 2, "rtmp": 0 }, "carriers": [] },
            { "app": "live", "streamId": "c", "owner": null, "bitrate": 7,
              "carriers": [{ "node": "e-0", "viewers": { "hls": 3 } }] },
        ]))
        .unwrap()
    }

    fn shown(me: &str, all: bool) -> Vec<(String, &'static str, u64)> {
        lines(me, all, told(), places()).into_iter().map(|l| (l.stream_id, l.state, l.viewers)).collect()
    }

    #[test]
    fn a_node_shows_what_it_has_and_its_own_viewers() {
        assert_eq!(shown("o-0", false), [("b".into(), "live", 1)]);
        assert_eq!(shown("e-0", false), [("b".into(), "relayed", 5), ("c".into(), "waiting", 3)]);
        assert_eq!(shown("o-1", false), [("a".into(), "waiting", 2)]);
        assert!(shown("e-1", false).is_empty());
        let all = [("a".into(), "waiting", 2), ("b".into(), "live", 6), ("c".into(), "waiting", 3)];
        assert_eq!(shown("e-1", true), all);
        // Alone there are no places.
        assert_eq!(lines("o-0", false, told(), Vec::new())[0].viewers, 6);
    }

    #[test]
    fn the_table_is_for_people() {
        let text = table(&lines("e-0", true, told(), places()), 134_000);
        let expected = "\
APP    STREAM   STATE     PROTOCOL   ORIGIN   VIEWERS   BITRATE      STARTED
live   a        waiting   -          o-1      2         -            -
live   b        live      rtmp       o-0      6         2.4 Mbit/s   2m13s ago
live   c        waiting   -          -        3         1 kbit/s     -
";
        assert_eq!(text, expected);
        assert_eq!(table(&[], 0), "no live streams\n");
        assert_eq!(ago(1000, 1000 + 90_061_000), "1d1h ago");
    }

    #[test]
    fn the_json_has_every_field() {
        let line = serde_json::to_value(&lines("o-0", false, told(), places())[0]).unwrap();
        let expected = json!({
            "app": "live", "streamId": "b", "state": "live", "protocol": "rtmp", "origin": "o-0", "viewers": 1,
            "bitrate": 2_400_000, "startTime": 1000, "relayedBy": ["e-0"],
        });
        assert_eq!(line, expected);
    }
}
