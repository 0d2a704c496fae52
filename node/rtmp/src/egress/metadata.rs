//! The `onMetaData` that players get.

use std::sync::Arc;

use sluice_media::{AudioCodec, MetaValue, TrackConfig, VideoCodec};

use crate::amf0::Value;

/// What a stream's tracks are comes from their configurations; of the publisher's own words, those that
/// contradict them are left out.
pub(super) fn on_metadata(configs: &[Arc<TrackConfig>], said: &[(String, MetaValue)]) -> [Value; 2] {
    const OURS: [&str; 10] = [
        "width",
        "height",
        "videocodecid",
        "audiocodecid",
        "audiosamplerate",
        "audiochannels",
        "stereo",
        "duration",
        "filesize",
        "server",
    ];
    let mut properties: Vec<(String, Value)> = vec![
        ("server".into(), concat!("Sluice/", env!("CARGO_PKG_VERSION")).into()),
        ("duration".into(), 0.0.into()),
    ];
    for config in configs {
        let mut add = |key: &str, value: f64| properties.push((key.to_owned(), value.into()));
        match &**config {
            TrackConfig::Video(v) => {
                add("videocodecid", video_id(v.codec));
                if v.width > 0 && v.height > 0 {
                    add("width", f64::from(v.width));
                    add("height", f64::from(v.height));
                }
            }
            TrackConfig::Audio(a) => {
                add("audiocodecid", audio_id(a.codec));
                add("audiosamplerate", f64::from(a.sample_rate));
                add("audiochannels", f64::from(a.channels));
                properties.push(("stereo".into(), Value::Boolean(a.channels > 1)));
            }
        }
    }
    for (key, value) in said.iter().filter(|(k, _)| !OURS.contains(&k.as_str())) {
        let value = match value {
            MetaValue::Number(n) => Value::Number(*n),
            MetaValue::Text(s) => Value::String(s.clone()),
            MetaValue::Flag(b) => Value::Boolean(*b),
        };
        properties.push((key.clone(), value));
    }
    ["onMetaData".into(), Value::EcmaArray(properties)]
}

/// The codec id of FLV, or the FourCC as a number where there is none (enhanced RTMP).
fn video_id(codec: VideoCodec) -> f64 {
    match codec {
        VideoCodec::H264 => 7.0,
        VideoCodec::Hevc => fourcc(b"hvc1"),
        VideoCodec::Av1 => fourcc(b"av01"),
        VideoCodec::Vp9 => fourcc(b"vp09"),
        VideoCodec::Vp8 => fourcc(b"vp08"),
    }
}

fn audio_id(codec: AudioCodec) -> f64 {
    match codec {
        AudioCodec::Aac => 10.0,
        AudioCodec::Mp3 => 2.0,
        AudioCodec::Opus => fourcc(b"Opus"),
    }
}

fn fourcc(code: &[u8; 4]) -> f64 {
    f64::from(u32::from_be_bytes(*code))
}
