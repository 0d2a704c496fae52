//! A frame of the hub to RTP payloads, made once for all viewers.
//!
//! All payloads of a frame lie in one buffer, one after the other. Fragments are of the largest size but for the last, so
//! that the packets of a frame to one viewer are of one size and leave in one call (UDP GSO).

use bytes::{Bytes, BytesMut};
use sluice_media::codec::nal;
use sluice_media::{AudioCodec, Frame, TrackConfig, VideoCodec};

mod av1;
mod nalu;
mod opus;
mod vp8;
mod vp9;

/// Room beside the payload: header and extensions (40), a retransmission's sequence number (2), SRTP's tag (16).
const OVERHEAD: usize = 40 + 2 + 16;

/// A frame larger than this is not sent: its packets could not be counted.
const LARGEST_FRAME: usize = 16 << 20;

/// The largest payload where datagrams may have `mtu` bytes.
pub(crate) fn largest_payload(mtu: usize) -> usize {
    mtu.saturating_sub(OVERHEAD).clamp(128, 8192)
}

/// The payloads of a frame.
#[derive(Debug, Default)]
pub(crate) struct Out {
    bytes: BytesMut,
    ends: Vec<u32>,
}

impl Out {
    /// Takes all payloads out: the bytes, and where each payload ends in them.
    pub(crate) fn take(&mut self) -> (Bytes, Box<[u32]>) {
        let ends = self.ends.as_slice().into();
        self.ends.clear();
        (self.bytes.split().freeze(), ends)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The payload ends here.
    fn end(&mut self) {
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }
}

/// Turns the frames of one configuration into payloads.
#[derive(Debug)]
pub(crate) struct Packetizer {
    format: Format,
    max: usize,
}

#[derive(Debug)]
enum Format {
    Nal { hevc: bool, sets: Vec<Bytes> },
    Av1 { sequence: Bytes },
    Vp8,
    Vp9,
    Opus,
}

impl Packetizer {
    /// For payloads of at most `max` bytes; `None` for codecs that are not carried over WebRTC.
    pub(crate) fn new(config: &TrackConfig, max: usize) -> Option<Self> {
        let format = match config {
            TrackConfig::Video(v) => match v.codec {
                VideoCodec::H264 | VideoCodec::Hevc => {
                    Format::Nal { hevc: v.codec == VideoCodec::Hevc, sets: parameter_sets(v) }
                }
                VideoCodec::Av1 => Format::Av1 { sequence: v.record.slice(v.record.len().min(4)..) },
                VideoCodec::Vp8 => Format::Vp8,
                VideoCodec::Vp9 => Format::Vp9,
            },
            TrackConfig::Audio(a) if a.codec == AudioCodec::Opus => Format::Opus,
            TrackConfig::Audio(_) => return None,
        };
        Some(Packetizer { format, max })
    }

    /// Writes the payloads of a frame; none when there is nothing in it that can be sent.
    pub(crate) fn write(&self, frame: &Frame, out: &mut Out) {
        let payload = &frame.payload[..];
        if payload.len() > LARGEST_FRAME {
            return;
        }
        let fragments = payload.len() / self.max + 1;
        out.bytes.reserve(payload.len() + 16 * fragments + 512);
        match &self.format {
            Format::Nal { hevc, sets } => nalu::write(payload, *hevc, sets, frame.keyframe, self.max, out),
            Format::Av1 { sequence } => av1::write(payload, sequence, frame.keyframe, self.max, out),
            Format::Vp8 => vp8::write(payload, self.max, out),
            Format::Vp9 => vp9::write(payload, frame.keyframe, self.max, out),
            Format::Opus => opus::write(payload, out),
        }
    }
}

/// The parameter sets of a record, read by way of the Annex B form that they are written in.
fn parameter_sets(config: &sluice_media::VideoConfig) -> Vec<Bytes> {
    let Some(annex_b) = nal::AnnexB::new(config) else { return Vec::new() };
    // A random access picture is what they are written before.
    let picture: &[u8] = match config.codec {
        VideoCodec::Hevc => &[0, 0, 0, 2, 19 << 1, 1],
        _ => &[0, 0, 0, 1, 0x65],
    };
    let mut out = Vec::new();
    annex_b.write(picture, &mut out);
    let is_set = |nal: &&[u8]| match config.codec {
        VideoCodec::Hevc => matches!(nal::hevc_type(nal), nal::HEVC_VPS | nal::HEVC_SPS | nal::HEVC_PPS),
        _ => matches!(nal::h264_type(nal), nal::H264_SPS | nal::H264_PPS),
    };
    nal::annex_b_units(&out).filter(is_set).map(Bytes::copy_from_slice).collect()
}

/// Cuts `data` into payloads with `head(first, last)` before each, all of `max` bytes but the last.
fn fragments<const N: usize>(data: &[u8], max: usize, out: &mut Out, head: impl Fn(bool, bool) -> [u8; N]) {
    let room = max.saturating_sub(N).max(1);
    let count = data.len().div_ceil(room);
    for (i, part) in data.chunks(room).enumerate() {
        out.put(&head(i == 0, i + 1 == count));
        out.put(part);
        out.end();
    }
}

#[cfg(test)]
mod tests;
