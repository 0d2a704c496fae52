//! H.264: the AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3) and the sequence parameter set
//! (ITU-T H.264, 7.3.2.1.1), as far as the picture size and rate need it.

use super::{CodecError, checked_size};
use crate::bits::{BitReader, rbsp};

/// What an avcC holds, as slices of it.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// profile_idc, constraint flags, level_idc: of the first SPS, else of the record.
    pub(crate) profile: [u8; 3],
    pub(crate) sps: Vec<&'a [u8]>,
    pub(crate) pps: Vec<&'a [u8]>,
}

/// What a sequence parameter set tells.
#[derive(Debug, PartialEq)]
pub(crate) struct Sps {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Pictures per second, from the VUI's timing.
    pub(crate) frame_rate: Option<f64>,
    /// chroma_format_idc, and the bits of a luma and of a chroma sample beyond 8.
    pub(crate) format: [u8; 3],
}

const AVCC: &str = "avcC";
const SPS: &str = "H.264 SPS";

impl<'a> Record<'a> {
    pub(crate) fn parse(record: &'a [u8]) -> Result<Self, CodecError> {
        let [version, profile, compatibility, level, length_size, sps_count, rest @ ..] = record else {
            return Err(CodecError::Truncated { what: AVCC });
        };
        if *version != 1 {
            return Err(CodecError::Invalid {
                what: AVCC,
                field: "configurationVersion",
                value: u64::from(*version),
            });
        }
        super::nal::length_size(AVCC, *length_size)?;
        let mut rest = rest;
        let sps = units(&mut rest, sps_count & 0x1f)?;
        let (&pps_count, mut rest) = rest.split_first().ok_or(CodecError::Truncated { what: AVCC })?;
        let pps = units(&mut rest, pps_count)?;
        // Some encoders leave these three of the record out of step with the SPS, which is what decoders obey.
        let profile = match sps.first() {
            Some([_, profile, constraints, level, ..]) => [*profile, *constraints, *level],
            _ => [*profile, *compatibility, *level],
        };
        Ok(Record { profile, sps, pps })
    }
}

fn units<'a>(rest: &mut &'a [u8], count: u8) -> Result<Vec<&'a [u8]>, CodecError> {
    (0..count).map(|_| super::nal::take_u16_unit(rest).ok_or(CodecError::Truncated { what: AVCC })).collect()
}

impl Sps {
    /// Parses a whole NAL unit, header included.
    pub(crate) fn parse(nal: &[u8]) -> Result<Self, CodecError> {
        let bytes = rbsp(nal);
        let mut r = BitReader::new(&bytes, SPS);
        r.skip(8)?; // NAL unit header
        let profile = r.u(8)?;
        r.skip(16)?; // constraint flags, level
        r.ue()?; // seq_parameter_set_id
        let mut chroma_format = 1;
        let mut depths = [0; 2];
        let mut separate_planes = false;
        if has_chroma_format(profile) {
            chroma_format = r.ue()?;
            if chroma_format > 3 {
                return Err(invalid("chroma_format_idc", chroma_format));
            }
            if chroma_format == 3 {
                separate_planes = r.flag()?;
            }
            for depth in &mut depths {
                *depth = r.ue()?; // bit_depth_luma_minus8, bit_depth_chroma_minus8
                if *depth > 6 {
                    return Err(invalid("bit depth", *depth));
                }
            }
            r.skip(1)?; // qpprime_y_zero_transform_bypass_flag
            if r.flag()? {
                for i in 0..if chroma_format == 3 { 12 } else { 8 } {
                    if r.flag()? {
                        skip_scaling_list(&mut r, if i < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        r.ue()?; // log2_max_frame_num_minus4
        match r.ue()? {
            0 => {
                r.ue()?; // log2_max_pic_order_cnt_lsb_minus4
            }
            1 => {
                r.skip(1)?; // delta_pic_order_always_zero_flag
                r.se()?; // offset_for_non_ref_pic
                r.se()?; // offset_for_top_to_bottom_field
                let cycle = r.ue()?;
                if cycle > 255 {
                    return Err(invalid("num_ref_frames_in_pic_order_cnt_cycle", cycle));
                }
                for _ in 0..cycle {
                    r.se()?; // offset_for_ref_frame
                }
            }
            2 => {}
            other => return Err(invalid("pic_order_cnt_type", other)),
        }
        r.ue()?; // max_num_ref_frames
        r.skip(1)?; // gaps_in_frame_num_value_allowed_flag
        let width_in_mbs = u64::from(r.ue()?) + 1;
        let height_in_map_units = u64::from(r.ue()?) + 1;
        let frame_mbs_only = r.flag()?;
        if !frame_mbs_only {
            r.skip(1)?; // mb_adaptive_frame_field_flag
        }
        r.skip(1)?; // direct_8x8_inference_flag
        let mut crop = [0u64; 4]; // left, right, top, bottom
        if r.flag()? {
            for side in &mut crop {
                *side = u64::from(r.ue()?);
            }
        }
        let fields = if frame_mbs_only { 1 } else { 2 };
        // Cropping counts in chroma samples, and in field lines where there are fields (equations 7-19 to 7-22).
        let array_type = if separate_planes { 0 } else { chroma_format };
        let unit_x = if matches!(array_type, 1 | 2) { 2 } else { 1 };
        let unit_y = if array_type == 1 { 2 } else { 1 } * fields;
        let width = (width_in_mbs * 16).checked_sub((crop[0] + crop[1]) * unit_x);
        let height = (height_in_map_units * 16 * fields).checked_sub((crop[2] + crop[3]) * unit_y);
        let (width, height) = checked_size(SPS, width, height)?;
        // A broken VUI takes nothing away from the size.
        let frame_rate = if r.flag().unwrap_or(false) { vui_frame_rate(&mut r).ok().flatten() } else { None };
        let format = [chroma_format as u8, depths[0] as u8, depths[1] as u8];
        Ok(Sps { width, height, frame_rate, format })
    }
}

/// The profiles whose SPS carries the chroma format (7.3.2.1.1).
pub(crate) fn has_chroma_format(profile: u32) -> bool {
    matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

fn skip_scaling_list(r: &mut BitReader<'_>, size: u32) -> Result<(), CodecError> {
    let mut next = 8i64;
    for _ in 0..size {
        next = (next + i64::from(r.se()?)).rem_euclid(256);
        if next == 0 {
            break;
        }
    }
    Ok(())
}

/// VUI parameters (E.1.1) as far as the timing.
fn vui_frame_rate(r: &mut BitReader<'_>) -> Result<Option<f64>, CodecError> {
    const EXTENDED_SAR: u32 = 255;
    if r.flag()? && r.u(8)? == EXTENDED_SAR {
        r.skip(32)?;
    }
    if r.flag()? {
        r.skip(1)?; // overscan_appropriate_flag
    }
    if r.flag()? {
        r.skip(4)?; // video_format, video_full_range_flag
        if r.flag()? {
            r.skip(24)?; // colour description
        }
    }
    if r.flag()? {
        r.ue()?; // chroma_sample_loc_type_top_field
        r.ue()?; // chroma_sample_loc_type_bottom_field
    }
    if !r.flag()? {
        return Ok(None);
    }
    let units_in_tick = r.u(32)?;
    let time_scale = r.u(32)?;
    // A tick is a field, also in progressive video.
    let rate = f64::from(time_scale) / (2.0 * f64::from(units_in_tick));
    Ok((rate.is_finite() && rate > 0.0 && rate <= 1000.0).then_some(rate))
}

fn invalid(field: &'static str, value: u32) -> CodecError {
    CodecError::Invalid { what: SPS, field, value: u64::from(value) }
}
