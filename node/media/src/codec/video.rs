//! [`VideoConfig`]'s constructors, and what a video frame's first bytes tell.

use bytes::Bytes;

use super::{CodecError, VideoCodec, VideoConfig, av1, bounded, h264, hevc, nal, vpx};

impl VideoConfig {
    /// H.264 from an AVCDecoderConfigurationRecord.
    ///
    /// The hub's payloads have 4-byte NAL lengths, and `record` is rewritten to say so; what the source's have
    /// is told by [`nal::source_nal_length_size`], and [`nal::to_four_byte`] brings them over. A record without
    /// parameter sets is taken (they come in band then), with an unknown size.
    ///
    /// # Errors
    /// Truncated or Invalid, for the record or its first SPS.
    pub fn h264(avcc: Bytes) -> Result<Self, CodecError> {
        bounded("avcC", &avcc)?;
        let record = h264::Record::parse(&avcc)?;
        let sps = record.sps.first().map(|sps| h264::Sps::parse(sps)).transpose()?;
        let [profile, constraints, level] = record.profile;
        Ok(VideoConfig {
            codec: VideoCodec::H264,
            record: rewritten(&avcc, &[(4, 0xff)]),
            width: sps.as_ref().map_or(0, |s| s.width),
            height: sps.as_ref().map_or(0, |s| s.height),
            codec_string: format!("avc1.{profile:02x}{constraints:02x}{level:02x}"),
        })
    }

    /// HEVC from an HEVCDecoderConfigurationRecord; NAL lengths as with [`h264`](Self::h264).
    ///
    /// # Errors
    /// Truncated or Invalid, for the record or its first SPS.
    pub fn hevc(hvcc: Bytes) -> Result<Self, CodecError> {
        bounded("hvcC", &hvcc)?;
        let record = hevc::Record::parse(&hvcc)?;
        let size = record.sps.first().map(|sps| hevc::sps_size(sps)).transpose()?;
        let (width, height) = size.unwrap_or((0, 0));
        let four = hvcc[hevc::LENGTH_SIZE_AT] | 3;
        Ok(VideoConfig {
            codec: VideoCodec::Hevc,
            record: rewritten(&hvcc, &[(0, 1), (hevc::LENGTH_SIZE_AT, four)]),
            width,
            height,
            codec_string: record.codec_string(),
        })
    }

    /// AV1 from an AV1CodecConfigurationRecord; the size comes from its sequence header, if it has one.
    ///
    /// # Errors
    /// Truncated or Invalid, for the record or its sequence header.
    pub fn av1(av1c: Bytes) -> Result<Self, CodecError> {
        bounded("av1C", &av1c)?;
        let record = av1::Record::parse(&av1c)?;
        Ok(VideoConfig {
            codec: VideoCodec::Av1,
            record: rewritten(&av1c, &[]),
            width: record.sequence.as_ref().map_or(0, |s| s.width),
            height: record.sequence.as_ref().map_or(0, |s| s.height),
            codec_string: record.codec_string(),
        })
    }

    /// VP9 from a VPCodecConfigurationRecord, with or without the four bytes of the FullBox header.
    /// The size is unknown until [`with_size`](Self::with_size) is given the one of a keyframe.
    ///
    /// # Errors
    /// Truncated or Invalid.
    pub fn vp9(vpcc: Bytes) -> Result<Self, CodecError> {
        bounded("vpcC", &vpcc)?;
        let body = vpx::body(&vpcc);
        let record = vpx::Record::parse(body)?;
        Ok(VideoConfig {
            codec: VideoCodec::Vp9,
            record: rewritten(body, &[]),
            width: 0,
            height: 0,
            codec_string: record.codec_string(0, 0),
        })
    }

    /// VP8, which has no record: from the size of a keyframe ([`picture_size`]), 0 and 0 if not known yet.
    ///
    /// # Errors
    /// Invalid, for a side that VP8's 14 bits cannot hold.
    pub fn vp8(width: u32, height: u32) -> Result<Self, CodecError> {
        for (field, side) in [("width", width), ("height", height)] {
            if side > 0x3fff {
                return Err(CodecError::Invalid { what: "VP8 frame", field, value: u64::from(side) });
            }
        }
        Ok(VideoConfig {
            codec: VideoCodec::Vp8,
            record: Bytes::new(),
            width,
            height,
            codec_string: vpx::vp8_codec_string(width, height),
        })
    }

    /// The same with the size that [`picture_size`] found in a frame, for records that do not tell it.
    #[must_use]
    pub fn with_size(mut self, width: u32, height: u32) -> Self {
        self.width = width;
        self.height = height;
        match self.codec {
            VideoCodec::Vp8 => self.codec_string = vpx::vp8_codec_string(width, height),
            VideoCodec::Vp9 => {
                if let Ok(record) = vpx::Record::parse(&self.record) {
                    self.codec_string = record.codec_string(width, height);
                }
            }
            VideoCodec::H264 | VideoCodec::Hevc | VideoCodec::Av1 => {}
        }
        self
    }

    /// Frames per second, where the record tells: H.264's VUI, hvcC's average, AV1's timing information.
    /// It is what the encoder said, not what arrives. Parses the record anew.
    pub fn frame_rate(&self) -> Option<f64> {
        match self.codec {
            VideoCodec::H264 => {
                let record = h264::Record::parse(&self.record).ok()?;
                h264::Sps::parse(record.sps.first()?).ok()?.frame_rate
            }
            VideoCodec::Hevc => hevc::Record::parse(&self.record).ok()?.frame_rate(),
            VideoCodec::Av1 => av1::Record::parse(&self.record).ok()?.sequence?.frame_rate,
            VideoCodec::Vp8 | VideoCodec::Vp9 => None,
        }
    }
}

/// Whether decoding can start at this payload, given in the hub's form. Says what the bytes are, whatever the
/// publisher flagged: H.264 IDR, HEVC IRAP, a VP8, VP9 or shown AV1 key frame.
pub fn is_keyframe(codec: VideoCodec, payload: &[u8]) -> bool {
    match codec {
        VideoCodec::H264 | VideoCodec::Hevc => nal::is_keyframe(codec, payload),
        VideoCodec::Av1 => av1::is_keyframe(payload),
        VideoCodec::Vp8 => vpx::vp8_keyframe_size(payload).is_some(),
        VideoCodec::Vp9 => vpx::vp9_is_keyframe(payload),
    }
}

/// The picture size that a payload in the hub's form tells, in pixels: a VP8 or VP9 keyframe, or one that
/// brings its SPS (H.264, HEVC) or sequence header (AV1) in band.
pub fn picture_size(codec: VideoCodec, payload: &[u8]) -> Option<(u32, u32)> {
    match codec {
        VideoCodec::H264 => {
            let nal = nal::units(payload).find(|n| nal::h264_type(n) == nal::H264_SPS)?;
            h264::Sps::parse(nal).ok().map(|s| (s.width, s.height))
        }
        VideoCodec::Hevc => {
            let nal = nal::units(payload).find(|n| nal::hevc_type(n) == nal::HEVC_SPS)?;
            hevc::sps_size(nal).ok()
        }
        VideoCodec::Av1 => av1::find_sequence(payload)?.ok().map(|s| (s.width, s.height)),
        VideoCodec::Vp8 => vpx::vp8_keyframe_size(payload),
        VideoCodec::Vp9 => vpx::vp9_keyframe_size(payload),
    }
}

/// The record for keeping, with some bytes replaced: a copy, as it lives as long as the stream and must not
/// hold a receive buffer.
fn rewritten(record: &[u8], bytes: &[(usize, u8)]) -> Bytes {
    let mut copy = record.to_vec();
    for &(at, byte) in bytes {
        if let Some(b) = copy.get_mut(at) {
            *b = byte;
        }
    }
    copy.into()
}

#[cfg(test)]
#[path = "video_tests.rs"]
mod tests;
