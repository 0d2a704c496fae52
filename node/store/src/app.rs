//! Apps and their settings. Names and defaults are AMS's; deliberate differences are said beside the default.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::HlsParameters;

/// An app: a name space of streams with settings of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Its name, the first part of every URL.
    pub name: String,
    /// Its settings.
    pub settings: AppSettings,
    /// Grows by one with each change of the settings; for compare-and-set.
    pub version: u64,
}

/// Whether `name` may be the name of an app: letters, digits, `_`, `-`, at most 100, and not `rest`.
pub fn valid_app_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && !matches!(name, "rest" | "assets" | "metrics" | "healthz" | "readyz" | "openapi")
}

/// The settings of an app. Those that Sluice knows are typed; every other key is kept as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AppSettings {
    /// Whether HLS is made at all.
    pub hls_muxing_enabled: bool,
    /// Seconds of a segment, as a string.
    #[serde(deserialize_with = "text")]
    pub hls_time: String,
    /// Segments in a playlist, as a string.
    #[serde(deserialize_with = "text")]
    pub hls_list_size: String,
    /// `fmp4` or `mpegts`. AMS's default is `mpegts`; here low latency is on, and that needs fMP4.
    pub hls_segment_type: String,
    /// Empty, `event` or `vod`.
    pub hls_play_list_type: String,
    /// Low latency. Off in AMS, on here.
    #[serde(rename = "lLHLSEnabled")]
    pub ll_hls_enabled: bool,
    /// Seconds of an LL-HLS part, as a string. Not in AMS.
    #[serde(deserialize_with = "text")]
    pub hls_part_duration: String,
    /// Whether streams may be played over RTMP. Off in AMS, on here.
    pub rtmp_playback_enabled: bool,
    /// Whether streams may be published and played over WebRTC.
    #[serde(rename = "webRTCEnabled")]
    pub webrtc_enabled: bool,
    /// WebRTC viewers that each node lets in for this app at once, -1 for any number.
    #[serde(rename = "webRTCViewerLimit")]
    pub webrtc_viewer_limit: i64,
    /// Whether publishers and players may send each other messages over data channels.
    pub data_channel_enabled: bool,
    /// Who gets the messages of a player: `all` (the publisher and the other players), `publisher`, `none`.
    pub data_channel_player_distribution: String,
    /// Whether the REST calls of this app are for some addresses only.
    pub ip_filter_enabled: bool,
    /// Those addresses: CIDR blocks, comma separated.
    #[serde(rename = "remoteAllowedCIDR")]
    pub remote_allowed_cidr: String,
    /// Addresses that may publish: CIDR blocks, comma separated; empty for any.
    #[serde(rename = "allowedPublisherCIDR")]
    pub allowed_publisher_cidr: String,
    /// Whether only streams that were created over REST may be published.
    pub accept_only_streams_in_data_store: bool,
    /// Streams that may be live at once, -1 for any number.
    pub ingesting_stream_limit: i64,
    /// Where events are posted.
    #[serde(rename = "listenerHookURL")]
    pub listener_hook_url: String,
    /// Free JSON for plugins.
    pub custom_settings: Value,
    /// Every key that is not known here.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for AppSettings {
    fn default() -> Self {
        AppSettings {
            hls_muxing_enabled: true,
            hls_time: "2".into(),
            hls_list_size: "15".into(),
            hls_segment_type: "fmp4".into(),
            hls_play_list_type: String::new(),
            ll_hls_enabled: true,
            hls_part_duration: "0.2".into(),
            rtmp_playback_enabled: true,
            webrtc_enabled: true,
            webrtc_viewer_limit: -1,
            data_channel_enabled: true,
            data_channel_player_distribution: "all".into(),
            ip_filter_enabled: true,
            remote_allowed_cidr: "127.0.0.1".into(),
            allowed_publisher_cidr: String::new(),
            accept_only_streams_in_data_store: false,
            ingesting_stream_limit: -1,
            listener_hook_url: String::new(),
            custom_settings: Value::Object(Map::new()),
            other: Map::new(),
        }
    }
}

/// AMS writes numbers as strings; people write them as numbers.
fn text<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Int(i64),
        Float(f64),
    }
    Ok(match Either::deserialize(d)? {
        Either::Text(s) => s,
        Either::Int(n) => n.to_string(),
        Either::Float(n) => n.to_string(),
    })
}

/// What a playlist keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Playlist {
    /// The newest segments.
    Live,
    /// Every segment since the start (`EXT-X-PLAYLIST-TYPE:EVENT`).
    Event,
}

/// The container of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentType {
    /// Fragmented MP4 (CMAF).
    Fmp4,
    /// MPEG transport stream.
    MpegTs,
}

/// What HLS packaging of one stream follows, read and checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HlsSettings {
    /// Whether HLS is made.
    pub enabled: bool,
    /// The wished length of a segment.
    pub segment: Duration,
    /// Segments in a playlist.
    pub list_size: u32,
    /// The container.
    pub segment_type: SegmentType,
    /// Whether parts are made and blocking reloads answered (fMP4 only).
    pub low_latency: bool,
    /// The wished length of a part.
    pub part: Duration,
    /// What the playlist keeps.
    pub playlist: Playlist,
}

/// A setting whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value:?}, but has to be {expected}")]
pub struct InvalidSetting {
    /// The name of the setting, as in JSON.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What it may be.
    pub expected: &'static str,
}

impl AppSettings {
    /// Takes over the keys of a JSON object. As in AMS, a `hlsTime` below 1 or null becomes 1 and a
    /// `hlsListSize` below 5 or null becomes 5; any other null leaves a known setting as it is. Keys that are
    /// not known are kept.
    ///
    /// # Errors
    /// A value of the wrong type, or one that cannot be used, named; nothing has changed then.
    pub fn merge_json(&mut self, body: &[u8]) -> Result<(), InvalidSettings> {
        let mut changes: Map<String, Value> = serde_json::from_slice(body)?;
        for (key, least) in [("hlsTime", "1"), ("hlsListSize", "5")] {
            if changes.get(key).is_some_and(Value::is_null) {
                changes.insert(key.into(), least.into());
            }
        }
        let Value::Object(mut all) = serde_json::to_value(&*self)? else {
            return Err(InvalidSettings::Json("settings are not a JSON object".into()));
        };
        for (key, value) in changes {
            if !(value.is_null() && all.get(&key).is_some_and(|v| !v.is_null())) {
                all.insert(key, value);
            }
        }
        let mut new: AppSettings = serde_json::from_value(Value::Object(all))?;
        if seconds(&new.hls_time).is_some_and(|s| s < 1.0) {
            new.hls_time = "1".into();
        }
        if new.hls_list_size.trim().parse::<i64>().is_ok_and(|n| n < 5) {
            new.hls_list_size = "5".into();
        }
        new.check()?;
        *self = new;
        Ok(())
    }

    /// # Errors
    /// The first setting whose value cannot be used.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        self.hls(None)?;
        for (name, list) in [
            ("remoteAllowedCIDR", &self.remote_allowed_cidr),
            ("allowedPublisherCIDR", &self.allowed_publisher_cidr),
        ] {
            if let Some(bad) = cidrs(list).find(|c| !is_cidr(c)) {
                return Err(InvalidSetting {
                    name,
                    value: bad.into(),
                    expected: "a comma separated list of addresses and CIDR blocks, such as 10.0.0.0/8",
                });
            }
        }
        Ok(())
    }

    /// The HLS settings of a stream: the app's, and over them those of the stream.
    ///
    /// # Errors
    /// The first setting whose value cannot be used.
    pub fn hls(&self, stream: Option<&HlsParameters>) -> Result<HlsSettings, InvalidSetting> {
        fn pick<'a>(app: &'a str, stream: Option<&'a Option<String>>) -> &'a str {
            stream.and_then(|s| s.as_deref()).map(str::trim).filter(|s| !s.is_empty()).unwrap_or(app).trim()
        }
        let time = pick(&self.hls_time, stream.map(|s| &s.hls_time));
        let size = pick(&self.hls_list_size, stream.map(|s| &s.hls_list_size));
        let part = pick(&self.hls_part_duration, stream.map(|s| &s.hls_part_duration));
        let kind = pick(&self.hls_play_list_type, stream.map(|s| &s.hls_play_list_type));
        let wrong = |name, value: &str, expected| InvalidSetting { name, value: value.into(), expected };

        let segment_secs = seconds(time)
            .filter(|s| (1.0..=60.0).contains(s))
            .ok_or_else(|| wrong("hlsTime", time, "seconds between 1 and 60"))?;
        let part_secs = seconds(part)
            .filter(|s| (0.1..=segment_secs).contains(s))
            .ok_or_else(|| wrong("hlsPartDuration", part, "seconds between 0.1 and hlsTime"))?;
        let list_size = size
            .parse::<u32>()
            .ok()
            .filter(|n| (3..=1000).contains(n))
            .ok_or_else(|| wrong("hlsListSize", size, "a number between 3 and 1000"))?;
        let segment_type = match self.hls_segment_type.as_str() {
            "fmp4" => SegmentType::Fmp4,
            "mpegts" | "" => SegmentType::MpegTs,
            other => return Err(wrong("hlsSegmentType", other, "fmp4 or mpegts")),
        };
        // AMS's "vod" keeps everything as well, and a live playlist may not say VOD before its end.
        let playlist = match kind {
            "" => Playlist::Live,
            "event" | "vod" => Playlist::Event,
            other => return Err(wrong("hlsPlayListType", other, "empty, event or vod")),
        };
        Ok(HlsSettings {
            enabled: self.hls_muxing_enabled,
            segment: Duration::from_secs_f64(segment_secs),
            list_size,
            segment_type,
            low_latency: self.ll_hls_enabled && segment_type == SegmentType::Fmp4,
            part: Duration::from_secs_f64(part_secs),
            playlist,
        })
    }
}

/// Why a change of settings was not taken.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// Not JSON, or a value of the wrong type.
    #[error("the settings cannot be read: {0}")]
    Json(String),
    /// A value that cannot be used.
    #[error(transparent)]
    Value(#[from] InvalidSetting),
}

impl From<serde_json::Error> for InvalidSettings {
    fn from(e: serde_json::Error) -> Self {
        InvalidSettings::Json(e.to_string())
    }
}

fn seconds(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|s| s.is_finite())
}

fn cidrs(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|s| !s.is_empty())
}

fn is_cidr(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|p| p.parse::<u8>().is_ok_and(|p| p <= most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_low_latency_fmp4() {
        let h = AppSettings::default().hls(None).unwrap();
        assert_eq!(h.segment, Duration::from_secs(2));
        assert_eq!(h.part, Duration::from_millis(200));
        assert_eq!((h.list_size, h.low_latency, h.segment_type), (15, true, SegmentType::Fmp4));
    }

    #[test]
    fn a_stream_overrides_its_app() {
        let own = HlsParameters {
            hls_time: Some("6".into()),
            hls_part_duration: Some("1".into()),
            hls_list_size: Some(" ".into()),
            ..Default::default()
        };
        let h = AppSettings::default().hls(Some(&own)).unwrap();
        assert_eq!((h.segment.as_secs(), h.part.as_secs(), h.list_size), (6, 1, 15));
    }

    #[test]
    fn unknown_keys_round_trip() {
        let mut s = AppSettings::default();
        s.merge_json(
            br#"{"gopSize":30,"encoderSettings":[{"height":360}],"customSettings":{"a":[1]},"x":null}"#,
        )
        .unwrap();
        let v = serde_json::to_value(&s).unwrap();
        assert_eq!(v["gopSize"], 30);
        assert_eq!(v["encoderSettings"][0]["height"], 360);
        assert_eq!(v["customSettings"]["a"][0], 1);
        assert!(v["x"].is_null());
        assert_eq!(v["lLHLSEnabled"], true);
        let back: AppSettings = serde_json::from_value(v).unwrap();
        assert_eq!(back, s);
    }

    #[test]
    fn merge_clamps_as_ams_does_and_keeps_the_rest() {
        let mut s = AppSettings::default();
        s.merge_json(br#"{"hlsTime":null,"hlsListSize":2,"hlsSegmentType":"mpegts","ipFilterEnabled":null}"#)
            .unwrap();
        assert_eq!((s.hls_time.as_str(), s.hls_list_size.as_str()), ("1", "5"));
        assert!(s.ip_filter_enabled && !s.hls(None).unwrap().low_latency);
        s.merge_json(br#"{"hlsTime":0.2}"#).unwrap();
        assert_eq!(s.hls_time, "1");
    }

    #[test]
    fn unusable_values_change_nothing() {
        let mut s = AppSettings::default();
        for bad in [
            r#"{"hlsTime":"soon"}"#,
            r#"{"hlsPartDuration":"3"}"#,
            r#"{"hlsSegmentType":"avi"}"#,
            r#"{"remoteAllowedCIDR":"10.0.0.0/33"}"#,
            r#"{"remoteAllowedCIDR":"everyone"}"#,
            r#"{"hlsMuxingEnabled":"yes"}"#,
            "[]",
            "",
        ] {
            assert!(s.merge_json(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(s, AppSettings::default());
    }

    #[test]
    fn app_names() {
        assert!(valid_app_name("LiveApp") && valid_app_name("a_b-1"));
        assert!(
            !valid_app_name("") && !valid_app_name("a/b") && !valid_app_name("rest") && !valid_app_name("ä")
        );
    }
}
