//! HEVC: the HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.2) and the sequence parameter set
//! (ITU-T H.265, 7.3.2.2) as far as the picture size.

use super::nal::{HEVC_PPS, HEVC_SPS, HEVC_VPS};
use super::{CodecError, checked_size};
use crate::bits::{BitReader, rbsp};

/// What an hvcC holds, as slices of it.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    header: &'a [u8],
    pub(crate) vps: Vec<&'a [u8]>,
    pub(crate) sps: Vec<&'a [u8]>,
    pub(crate) pps: Vec<&'a [u8]>,
}

const HVCC: &str = "hvcC";
const SPS: &str = "HEVC SPS";
const HEADER: usize = 23;
/// Where lengthSizeMinusOne is, in the two low bits.
pub(crate) const LENGTH_SIZE_AT: usize = 21;

impl<'a> Record<'a> {
    pub(crate) fn parse(record: &'a [u8]) -> Result<Self, CodecError> {
        const CUT: CodecError = CodecError::Truncated { what: HVCC };
        let (header, mut rest) = record.split_at_checked(HEADER).ok_or(CUT)?;
        // 0 was written by muxers before the standard was out; the layout is the same.
        if header[0] > 1 {
            return Err(CodecError::Invalid {
                what: HVCC,
                field: "configurationVersion",
                value: u64::from(header[0]),
            });
        }
        super::nal::length_size(HVCC, header[LENGTH_SIZE_AT])?;
        let mut found = Record { header, vps: Vec::new(), sps: Vec::new(), pps: Vec::new() };
        for _ in 0..header[HEADER - 1] {
            let [kind, count_high, count_low, tail @ ..] = rest else { return Err(CUT) };
            rest = tail;
            for _ in 0..u16::from_be_bytes([*count_high, *count_low]) {
                let unit = super::nal::take_u16_unit(&mut rest).ok_or(CUT)?;
                match kind & 0x3f {
                    HEVC_VPS => found.vps.push(unit),
                    HEVC_SPS => found.sps.push(unit),
                    HEVC_PPS => found.pps.push(unit),
                    _ => {} // SEI messages; decoders do without
                }
            }
        }
        Ok(found)
    }

    /// ISO/IEC 14496-15, Annex E.3.
    pub(crate) fn codec_string(&self) -> String {
        let h = self.header;
        let space = ["", "A", "B", "C"][usize::from(h[1] >> 6)];
        let profile = h[1] & 0x1f;
        let compatibility = u32::from_be_bytes([h[2], h[3], h[4], h[5]]).reverse_bits();
        let tier = if h[1] & 0x20 == 0 { 'L' } else { 'H' };
        let mut s = format!("hvc1.{space}{profile}.{compatibility:X}.{tier}{}", h[12]);
        let constraints = &h[6..12];
        let used = constraints.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
        for byte in &constraints[..used] {
            s.push_str(&format!(".{byte:X}"));
        }
        s
    }

    /// The average frame rate that the record states, in frames a second.
    pub(crate) fn frame_rate(&self) -> Option<f64> {
        let per_256_s = u16::from_be_bytes([self.header[19], self.header[20]]);
        (per_256_s > 0).then(|| f64::from(per_256_s) / 256.0)
    }
}

/// What a sequence parameter set tells.
#[derive(Debug, PartialEq)]
pub(crate) struct Sps {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// The general profile, tier and level, as hvcC holds them too.
    pub(crate) profile_tier_level: [u8; 12],
    /// sps_max_sub_layers_minus1
    pub(crate) sub_layers: u8,
    /// sps_temporal_id_nesting_flag
    pub(crate) nested: bool,
    /// chroma_format_idc, and the bits of a luma and of a chroma sample beyond 8.
    pub(crate) format: [u8; 3],
}

/// The cropped picture size of an SPS: a whole NAL unit, header included.
pub(crate) fn sps_size(nal: &[u8]) -> Result<(u32, u32), CodecError> {
    parse_sps(nal).map(|s| (s.width, s.height))
}

/// Parses a whole NAL unit, header included.
pub(crate) fn parse_sps(nal: &[u8]) -> Result<Sps, CodecError> {
    let bytes = rbsp(nal);
    let mut r = BitReader::new(&bytes, SPS);
    r.skip(16)?; // NAL unit header
    r.skip(4)?; // sps_video_parameter_set_id
    let sub_layers = r.u(3)?;
    let nested = r.flag()?;
    skip_profile_tier_level(&mut r, sub_layers)?;
    r.ue()?; // sps_seq_parameter_set_id
    let chroma_format = r.ue()?;
    if chroma_format > 3 {
        return Err(CodecError::Invalid {
            what: SPS,
            field: "chroma_format_idc",
            value: u64::from(chroma_format),
        });
    }
    if chroma_format == 3 {
        r.skip(1)?; // separate_colour_plane_flag
    }
    let width = u64::from(r.ue()?);
    let height = u64::from(r.ue()?);
    let mut crop = [0u64; 4]; // left, right, top, bottom, in chroma samples
    if r.flag()? {
        for side in &mut crop {
            *side = u64::from(r.ue()?);
        }
    }
    let unit_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
    let unit_y = if chroma_format == 1 { 2 } else { 1 };
    let (width, height) = checked_size(
        SPS,
        width.checked_sub((crop[0] + crop[1]) * unit_x),
        height.checked_sub((crop[2] + crop[3]) * unit_y),
    )?;
    let mut format = [chroma_format as u8, 0, 0];
    for depth in &mut format[1..] {
        let bits = r.ue()?; // bit_depth_luma_minus8, bit_depth_chroma_minus8
        if bits > 8 {
            return Err(CodecError::Invalid { what: SPS, field: "bit depth", value: u64::from(bits) });
        }
        *depth = bits as u8;
    }
    // It lies behind the NAL unit's header and one more byte.
    let profile_tier_level =
        bytes.get(3..15).and_then(|b| b.try_into().ok()).ok_or(CodecError::Truncated { what: SPS })?;
    Ok(Sps { width, height, profile_tier_level, sub_layers: sub_layers as u8, nested, format })
}

/// profile_tier_level(1, sub_layers), 7.3.3.
fn skip_profile_tier_level(r: &mut BitReader<'_>, sub_layers: u32) -> Result<(), CodecError> {
    r.skip(88 + 8)?; // general profile and level
    let mut present = 0;
    for _ in 0..sub_layers {
        present += if r.flag()? { 88 } else { 0 };
        present += if r.flag()? { 8 } else { 0 };
    }
    if sub_layers > 0 {
        r.skip(2 * (8 - sub_layers as usize))?;
    }
    r.skip(present)
}
