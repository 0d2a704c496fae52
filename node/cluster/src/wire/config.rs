//! A track's configuration: its codec and its record, made into the same configuration on the other side by the
//! constructors that an ingest uses.

use bytes::Bytes;
use sluice_media::{AudioCodec, AudioConfig, TrackConfig, VideoCodec, VideoConfig};

use super::fields::{Fields, put_bytes, put_uint};
use super::{WireError, limits};

const H264: u8 = 1;
const HEVC: u8 = 2;
const AV1: u8 = 3;
const VP8: u8 = 4;
const VP9: u8 = 5;
const AAC: u8 = 17;
const OPUS: u8 = 18;
const MP3: u8 = 19;

pub(super) fn put(out: &mut Vec<u8>, config: &TrackConfig) -> Result<(), WireError> {
    match config {
        TrackConfig::Video(v) => {
            out.push(match v.codec {
                VideoCodec::H264 => H264,
                VideoCodec::Hevc => HEVC,
                VideoCodec::Av1 => AV1,
                VideoCodec::Vp8 => VP8,
                VideoCodec::Vp9 => VP9,
            });
            put_uint(out, u64::from(v.width));
            put_uint(out, u64::from(v.height));
            put_bytes(out, "configuration record", &v.record, limits::RECORD)
        }
        TrackConfig::Audio(a) => {
            out.push(match a.codec {
                AudioCodec::Aac => AAC,
                AudioCodec::Opus => OPUS,
                AudioCodec::Mp3 => MP3,
            });
            // MP3 has no record: the header of a frame says the same.
            let header = mp3_header(a.sample_rate, a.channels);
            let record: &[u8] = if a.codec == AudioCodec::Mp3 { &header } else { &a.record };
            put_bytes(out, "configuration record", record, limits::RECORD)
        }
    }
}

pub(super) fn read(fields: &mut Fields<'_>) -> Result<TrackConfig, WireError> {
    let codec = fields.u8()?;
    Ok(match codec {
        H264 | HEVC | AV1 | VP8 | VP9 => {
            let (width, height) = (side(fields)?, side(fields)?);
            // The constructors copy it.
            let record = fields.own_bytes("configuration record", limits::RECORD)?;
            let config = match codec {
                H264 => VideoConfig::h264(record)?,
                HEVC => VideoConfig::hevc(record)?,
                AV1 => VideoConfig::av1(record)?,
                VP8 => VideoConfig::vp8(0, 0)?,
                _ => VideoConfig::vp9(record)?,
            };
            let known = (config.width, config.height) == (width, height);
            TrackConfig::Video(if known { config } else { config.with_size(width, height) })
        }
        AAC | OPUS | MP3 => {
            let record = fields.bytes("configuration record", limits::RECORD)?;
            TrackConfig::Audio(match codec {
                AAC => AudioConfig::aac(Bytes::copy_from_slice(record))?,
                OPUS => AudioConfig::opus(Bytes::copy_from_slice(record))?,
                _ => AudioConfig::mp3(record)?,
            })
        }
        other => return Err(WireError::Invalid { what: "codec", value: u64::from(other) }),
    })
}

fn side(fields: &mut Fields<'_>) -> Result<u32, WireError> {
    Ok(fields.count("picture size", limits::SIDE as usize)? as u32)
}

/// A header of layer III with this rate and these channels (ISO/IEC 11172-3, 2.4.1.3).
fn mp3_header(sample_rate: u32, channels: u8) -> [u8; 4] {
    let (version, index) = match sample_rate {
        11_025 => (0, 0),
        12_000 => (0, 1),
        8_000 => (0, 2),
        22_050 => (2, 0),
        24_000 => (2, 1),
        16_000 => (2, 2),
        48_000 => (3, 1),
        32_000 => (3, 2),
        _ => (3, 0),
    };
    let mode = if channels == 1 { 3 } else { 0 };
    [0xff, 0xe3 | version << 3, 9 << 4 | index << 2, mode << 6]
}
