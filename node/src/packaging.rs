//! How a stream is packaged for HLS: as its owner decided, on every node.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sluice_package::{HlsSettings, PlaylistType, SegmentType};

/// The settings of a stream, as its app and its record say.
pub fn settings(hls: &sluice_store::HlsSettings) -> HlsSettings {
    HlsSettings {
        list_size: hls.list_size as usize,
        segment_type: match hls.segment_type {
            sluice_store::SegmentType::Fmp4 => SegmentType::Fmp4,
            sluice_store::SegmentType::MpegTs => SegmentType::MpegTs,
        },
        low_latency: hls.low_latency,
        playlist_type: match hls.playlist {
            sluice_store::Playlist::Live => PlaylistType::Sliding,
            sluice_store::Playlist::Event => PlaylistType::Event,
        },
    }
}

/// What the owner tells those who fetch the stream.
#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Told {
    list_size: usize,
    mpeg_ts: bool,
    low_latency: bool,
    event: bool,
}

impl Default for Told {
    fn default() -> Self {
        Told::from(HlsSettings::default())
    }
}

impl From<HlsSettings> for Told {
    fn from(s: HlsSettings) -> Self {
        Told {
            list_size: s.list_size,
            mpeg_ts: s.segment_type == SegmentType::MpegTs,
            low_latency: s.low_latency,
            event: s.playlist_type == PlaylistType::Event,
        }
    }
}

/// For the way to another node.
pub fn to_bytes(settings: HlsSettings) -> Bytes {
    serde_json::to_vec(&Told::from(settings)).map(Bytes::from).unwrap_or_default()
}

/// From another node; what it does not tell is as usual.
pub fn from_bytes(bytes: &[u8]) -> HlsSettings {
    let told: Told = serde_json::from_slice(bytes).unwrap_or_default();
    HlsSettings {
        list_size: told.list_size.clamp(1, 10_000),
        segment_type: if told.mpeg_ts { SegmentType::MpegTs } else { SegmentType::Fmp4 },
        low_latency: told.low_latency,
        playlist_type: if told.event { PlaylistType::Event } else { PlaylistType::Sliding },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_survive_the_way() {
        for settings in [
            HlsSettings::default(),
            HlsSettings {
                list_size: 5,
                segment_type: SegmentType::MpegTs,
                low_latency: false,
                playlist_type: PlaylistType::Event,
            },
        ] {
            assert_eq!(from_bytes(&to_bytes(settings)), settings);
        }
        assert_eq!(from_bytes(b"what?"), HlsSettings::default());
        assert_eq!(from_bytes(br#"{"mpeg_ts":true,"new":1}"#).segment_type, SegmentType::MpegTs);
    }
}
