//! Codec configuration records: parsed once where a stream enters, trusted from there on.
//!
//! A [`TrackConfig`] is what a decoder needs before the first frame. Frames of the hub carry:
//!
//! | codec | payload of a [`Frame`](crate::Frame) | `record` |
//! |---|---|---|
//! | H.264 | NAL units, each behind a 4-byte length (ISO/IEC 14496-15) | avcC |
//! | HEVC | NAL units, each behind a 4-byte length | hvcC |
//! | AV1 | OBUs with sizes, no temporal delimiter (AV1-ISOBMFF sample) | av1C |
//! | VP9, VP8 | one frame (VP9: superframe) | vpcC without the FullBox header (VP8: empty) |
//! | AAC | one raw access unit, no ADTS | AudioSpecificConfig |
//! | Opus | one packet | dOps (the body of the box, version 0) |
//! | MP3 | one frame with its header | empty |
//!
//! An ingest makes the config with a constructor of [`VideoConfig`] or [`AudioConfig`], and brings payloads into this
//! form with [`nal::to_four_byte`], [`nal::from_annex_b`] or [`av1::normalise`]. VP8 and VP9 tell their size only in
//! keyframes: [`picture_size`], then [`VideoConfig::with_size`]. Where no record comes at all, as over RTP,
//! [`VideoConfig::in_band`] makes one of a keyframe. For MPEG-TS, [`nal::AnnexB`] and [`Adts`] lead out.

use bytes::Bytes;

mod aac;
mod audio;
pub mod av1;
mod h264;
mod hevc;
mod in_band;
mod mp3;
pub mod nal;
mod opus;
mod video;
mod vpx;

pub use aac::Adts;
pub use video::{is_keyframe, picture_size};

/// The video codecs that Sluice carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// H.264 / AVC.
    H264,
    /// H.265 / HEVC.
    Hevc,
    /// AV1.
    Av1,
    /// VP8.
    Vp8,
    /// VP9.
    Vp9,
}

/// The audio codecs that Sluice carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// MPEG-4 AAC.
    Aac,
    /// Opus.
    Opus,
    /// MPEG-1/2 layer III.
    Mp3,
}

impl VideoCodec {
    /// The name AMS's clients and our own pages show: `H264`, `H265`, `AV1`, `VP8`, `VP9`.
    pub fn name(self) -> &'static str {
        match self {
            VideoCodec::H264 => "H264",
            VideoCodec::Hevc => "H265",
            VideoCodec::Av1 => "AV1",
            VideoCodec::Vp8 => "VP8",
            VideoCodec::Vp9 => "VP9",
        }
    }
}

impl AudioCodec {
    /// The name that is shown: `AAC`, `Opus`, `MP3`.
    pub fn name(self) -> &'static str {
        match self {
            AudioCodec::Aac => "AAC",
            AudioCodec::Opus => "Opus",
            AudioCodec::Mp3 => "MP3",
        }
    }
}

/// What a video decoder needs before the first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoConfig {
    /// The codec.
    pub codec: VideoCodec,
    /// The decoder configuration record, see the module's table.
    pub record: Bytes,
    /// Coded picture width after cropping, in pixels; 0 when the record does not tell.
    pub width: u32,
    /// Coded picture height after cropping, in pixels; 0 when the record does not tell.
    pub height: u32,
    /// The codec string of RFC 6381, such as `avc1.64001f`.
    pub codec_string: String,
}

/// What an audio decoder needs before the first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioConfig {
    /// The codec.
    pub codec: AudioCodec,
    /// The decoder configuration record, see the module's table.
    pub record: Bytes,
    /// Samples per second that come out of the decoder (48000 for Opus, the SBR rate for HE-AAC).
    pub sample_rate: u32,
    /// Channels that come out of the decoder.
    pub channels: u8,
    /// The codec string of RFC 6381, such as `mp4a.40.2`, `opus`, `mp4a.6b`.
    pub codec_string: String,
}

/// What a decoder needs before the first frame of a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackConfig {
    /// A video track.
    Video(VideoConfig),
    /// An audio track.
    Audio(AudioConfig),
}

impl TrackConfig {
    /// Whether it is video.
    pub fn is_video(&self) -> bool {
        matches!(self, TrackConfig::Video(_))
    }

    /// What it says of pictures, if it is video.
    pub fn video(&self) -> Option<&VideoConfig> {
        match self {
            TrackConfig::Video(video) => Some(video),
            TrackConfig::Audio(_) => None,
        }
    }

    /// What it says of sound, if it is audio.
    pub fn audio(&self) -> Option<&AudioConfig> {
        match self {
            TrackConfig::Video(_) => None,
            TrackConfig::Audio(audio) => Some(audio),
        }
    }

    /// The codec string of RFC 6381.
    pub fn codec_string(&self) -> &str {
        match self {
            TrackConfig::Video(v) => &v.codec_string,
            TrackConfig::Audio(a) => &a.codec_string,
        }
    }
}

/// Why a configuration record or a frame header cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// It ends before it should.
    #[error("{what} is cut short: the publisher sent an incomplete codec configuration")]
    Truncated {
        /// What was being read, such as `avcC`.
        what: &'static str,
    },
    /// A field has a value that the standard forbids or that Sluice does not carry.
    #[error("{what} has an unusable {field}: {value}")]
    Invalid {
        /// What was being read.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}

/// The largest width and height that are believed; above H.264's and AV1's highest levels.
const MAX_SIDE: u64 = 16_384;

/// The largest configuration record that is read; real ones are below 4 KiB.
const MAX_RECORD: usize = 64 * 1024;

/// A picture size from a parameter set; `None` where cropping took more than there was.
fn checked_size(
    what: &'static str,
    width: Option<u64>,
    height: Option<u64>,
) -> Result<(u32, u32), CodecError> {
    let side = |field, value: Option<u64>| match value {
        Some(v @ 1..=MAX_SIDE) => Ok(v as u32),
        other => Err(CodecError::Invalid { what, field, value: other.unwrap_or(0) }),
    };
    Ok((side("width", width)?, side("height", height)?))
}

/// Refuses a record that is too large to be one, before anything is done with it.
fn bounded(what: &'static str, record: &[u8]) -> Result<(), CodecError> {
    if record.len() > MAX_RECORD {
        return Err(CodecError::Invalid { what, field: "size", value: record.len() as u64 });
    }
    Ok(())
}
