//! Configurations where the source sends no record: made of what is in band in a keyframe.

use super::{CodecError, VideoCodec, VideoConfig, av1, h264, hevc, nal, vpx};

/// Parameter sets of a kind that are taken; avcC has no room for more.
const MOST_SETS: usize = 31;

impl VideoConfig {
    /// The configuration that a payload in the hub's form brings along: parameter sets (H.264, HEVC), a sequence
    /// header (AV1), the head of a keyframe (VP8, VP9). `None` where it brings none, or not all that is needed.
    ///
    /// # Errors
    /// Truncated or Invalid, for what it brings.
    pub fn in_band(codec: VideoCodec, payload: &[u8]) -> Option<Result<Self, CodecError>> {
        match codec {
            VideoCodec::H264 => {
                let (sps, pps) = (sets(codec, payload, nal::H264_SPS), sets(codec, payload, nal::H264_PPS));
                (!sps.is_empty() && !pps.is_empty())
                    .then(|| avcc(&sps, &pps).and_then(|record| Self::h264(record.into())))
            }
            VideoCodec::Hevc => {
                let of = |kind| (kind, sets(codec, payload, kind));
                let arrays = [of(nal::HEVC_VPS), of(nal::HEVC_SPS), of(nal::HEVC_PPS)];
                arrays
                    .iter()
                    .all(|(_, sets)| !sets.is_empty())
                    .then(|| hvcc(&arrays).and_then(|record| Self::hevc(record.into())))
            }
            VideoCodec::Av1 => Some(av1::record_of(payload)?.and_then(|record| Self::av1(record.into()))),
            VideoCodec::Vp8 => vpx::vp8_keyframe_size(payload).map(|(w, h)| Self::vp8(w, h)),
            VideoCodec::Vp9 => {
                let key = vpx::vp9_key(payload)?;
                let config = Self::vp9(key.record.to_vec().into());
                Some(config.map(|c| c.with_size(key.width, key.height)))
            }
        }
    }
}

/// The NAL units of one type, each once.
fn sets(codec: VideoCodec, payload: &[u8], kind: u8) -> Vec<&[u8]> {
    let mut found: Vec<&[u8]> = Vec::new();
    for unit in nal::units(payload) {
        let this = if codec == VideoCodec::Hevc { nal::hevc_type(unit) } else { nal::h264_type(unit) };
        let fits = unit.len() <= usize::from(u16::MAX) && found.len() < MOST_SETS;
        if this == kind && fits && !found.contains(&unit) {
            found.push(unit);
        }
    }
    found
}

fn put_set(record: &mut Vec<u8>, set: &[u8]) {
    record.extend_from_slice(&(set.len() as u16).to_be_bytes());
    record.extend_from_slice(set);
}

/// An AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1).
fn avcc(sps: &[&[u8]], pps: &[&[u8]]) -> Result<Vec<u8>, CodecError> {
    let first = sps.first().copied().unwrap_or_default();
    let parsed = h264::Sps::parse(first)?;
    let [_, profile, constraints, level, ..] = *first else {
        return Err(CodecError::Truncated { what: "H.264 SPS" });
    };
    let mut record = vec![1, profile, constraints, level, 0xff, 0xe0 | sps.len() as u8];
    sps.iter().for_each(|set| put_set(&mut record, set));
    record.push(pps.len() as u8);
    pps.iter().for_each(|set| put_set(&mut record, set));
    if h264::has_chroma_format(u32::from(profile)) {
        let [chroma, luma_bits, chroma_bits] = parsed.format;
        record.extend_from_slice(&[0xfc | chroma, 0xf8 | luma_bits, 0xf8 | chroma_bits, 0]);
    }
    Ok(record)
}

/// An HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1) that leaves open what no parameter set tells.
fn hvcc(arrays: &[(u8, Vec<&[u8]>)]) -> Result<Vec<u8>, CodecError> {
    let sps = arrays.iter().find(|(kind, _)| *kind == nal::HEVC_SPS).and_then(|(_, sets)| sets.first());
    let sps = hevc::parse_sps(sps.copied().unwrap_or_default())?;
    let [chroma, luma_bits, chroma_bits] = sps.format;
    let mut record = vec![1];
    record.extend_from_slice(&sps.profile_tier_level);
    // No spatial segmentation, parallelism unknown; no average frame rate.
    record.extend_from_slice(&[0xf0, 0, 0xfc, 0xfc | chroma, 0xf8 | luma_bits, 0xf8 | chroma_bits, 0, 0]);
    record.push((sps.sub_layers + 1) << 3 | u8::from(sps.nested) << 2 | 3);
    record.push(arrays.len() as u8);
    for (kind, sets) in arrays {
        record.push(*kind);
        record.extend_from_slice(&(sets.len() as u16).to_be_bytes());
        sets.iter().for_each(|set| put_set(&mut record, set));
    }
    Ok(record)
}
