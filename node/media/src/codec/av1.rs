//! AV1: open bitstream units, the sequence header (AV1 Bitstream Specification, 5.3 and 5.5) and the
//! AV1CodecConfigurationRecord (AV1 Codec ISO Media File Format Binding, 2.3).

use bytes::{Bytes, BytesMut};

use super::{CodecError, checked_size};
use crate::bits::BitReader;

const AV1C: &str = "av1C";
const SEQUENCE: &str = "AV1 sequence header";

const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;
const OBU_FRAME_HEADER: u8 = 3;
const OBU_FRAME: u8 = 6;

/// What an av1C says, its sequence header included when it holds one.
#[derive(Debug)]
pub(crate) struct Record {
    profile: u8,
    level: u8,
    high_tier: bool,
    bit_depth: u8,
    monochrome: bool,
    /// subsampling_x, subsampling_y, chroma_sample_position.
    chroma: [u8; 3],
    pub(crate) sequence: Option<Sequence>,
}

/// What a sequence header says.
#[derive(Debug, PartialEq)]
pub(crate) struct Sequence {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frame_rate: Option<f64>,
    /// Colour primaries, transfer characteristics, matrix coefficients (ISO/IEC 23001-8).
    colour: [u8; 3],
    full_range: bool,
    /// Bytes 1 and 2 of an av1C.
    record: [u8; 2],
}

/// One OBU of a sample.
struct Obu<'a> {
    kind: u8,
    has_size: bool,
    header: &'a [u8],
    payload: &'a [u8],
}

/// Splits the first OBU off; one without a size takes all the rest.
fn take_obu<'a>(rest: &mut &'a [u8]) -> Option<Obu<'a>> {
    let data = *rest;
    let first = *data.first()?;
    if first & 0x80 != 0 {
        return None; // forbidden bit
    }
    let header_len = if first & 0x04 == 0 { 1 } else { 2 };
    let header = data.get(..header_len)?;
    let mut body = data.get(header_len..)?;
    let has_size = first & 0x02 != 0;
    if has_size {
        let size = take_leb128(&mut body)?;
        let (payload, tail) = body.split_at_checked(usize::try_from(size).ok()?)?;
        *rest = tail;
        body = payload;
    } else {
        *rest = &[];
    }
    Some(Obu { kind: (first >> 3) & 0x0f, has_size, header, payload: body })
}

fn take_leb128(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for i in 0..8 {
        let (byte, tail) = data.split_first()?;
        *data = tail;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_leb128(out: &mut BytesMut, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        out.extend_from_slice(&[if value == 0 { low } else { low | 0x80 }]);
        if value == 0 {
            return;
        }
    }
}

/// Brings a temporal unit into the hub's form: every OBU with its size, no temporal delimiters.
/// Copies nothing when it has that form already or has its delimiter in front.
///
/// # Errors
/// Truncated, when the OBUs' sizes do not fit the payload.
pub fn normalise(unit: Bytes) -> Result<Bytes, CodecError> {
    const CUT: CodecError = CodecError::Truncated { what: "AV1 temporal unit" };
    let mut rest = &unit[..];
    let mut leading = 0;
    let mut rewrite = false;
    let mut seen_other = false;
    while !rest.is_empty() {
        let obu = take_obu(&mut rest).ok_or(CUT)?;
        if obu.kind == OBU_TEMPORAL_DELIMITER {
            rewrite |= seen_other;
            leading = if seen_other { leading } else { unit.len() - rest.len() };
        } else {
            seen_other = true;
            rewrite |= !obu.has_size;
        }
    }
    if !rewrite {
        return Ok(unit.slice(leading..));
    }
    let mut out = BytesMut::with_capacity(unit.len() + 8);
    let mut rest = &unit[..];
    while !rest.is_empty() {
        let obu = take_obu(&mut rest).ok_or(CUT)?;
        if obu.kind != OBU_TEMPORAL_DELIMITER {
            out.extend_from_slice(&[obu.header[0] | 0x02]);
            out.extend_from_slice(&obu.header[1..]);
            put_leb128(&mut out, obu.payload.len());
            out.extend_from_slice(obu.payload);
        }
    }
    Ok(out.freeze())
}

/// The first sequence header of a list of OBUs.
pub(crate) fn find_sequence(obus: &[u8]) -> Option<Result<Sequence, CodecError>> {
    let mut rest = obus;
    while let Some(obu) = take_obu(&mut rest) {
        if obu.kind == OBU_SEQUENCE_HEADER {
            return Some(Sequence::parse(obu.payload));
        }
    }
    None
}

/// Whether the first frame of a temporal unit is a key frame that is shown: where decoding can start.
pub(crate) fn is_keyframe(unit: &[u8]) -> bool {
    let mut rest = unit;
    while let Some(obu) = take_obu(&mut rest) {
        if matches!(obu.kind, OBU_FRAME | OBU_FRAME_HEADER) {
            // show_existing_frame 0, frame_type 00 (KEY_FRAME), show_frame 1
            return obu.payload.first().is_some_and(|b| b >> 4 == 0b0001);
        }
    }
    false
}

impl Record {
    pub(crate) fn parse(record: &[u8]) -> Result<Self, CodecError> {
        let [marker, profile_level, flags, _, obus @ ..] = record else {
            return Err(CodecError::Truncated { what: AV1C });
        };
        if *marker != 0x81 {
            return Err(CodecError::Invalid {
                what: AV1C,
                field: "marker and version",
                value: u64::from(*marker),
            });
        }
        let profile = profile_level >> 5;
        if profile > 2 {
            return Err(CodecError::Invalid { what: AV1C, field: "seq_profile", value: u64::from(profile) });
        }
        let bit = |n: u8| (flags >> n) & 1;
        Ok(Record {
            profile,
            level: profile_level & 0x1f,
            high_tier: bit(7) == 1,
            bit_depth: match (bit(6), bit(5)) {
                (0, _) => 8,
                (_, 0) => 10,
                _ => 12,
            },
            monochrome: bit(4) == 1,
            chroma: [bit(3), bit(2), flags & 3],
            sequence: find_sequence(obus).transpose()?,
        })
    }

    /// `av01.P.LLT.DD`, with the optional fields where they say more than their defaults.
    pub(crate) fn codec_string(&self) -> String {
        let tier = if self.high_tier { 'H' } else { 'M' };
        let mut s = format!("av01.{}.{:02}{tier}.{:02}", self.profile, self.level, self.bit_depth);
        let (colour, full_range) =
            self.sequence.as_ref().map_or(([2; 3], false), |q| (q.colour, q.full_range));
        // 1 is the default, BT.709; 2, unspecified, is not worth a longer string.
        let plain = colour.iter().all(|c| matches!(c, 1 | 2))
            && !full_range
            && !self.monochrome
            && self.chroma[..2] == [1, 1];
        if !plain {
            let ([x, y, position], [p, t, m]) = (self.chroma, colour);
            s.push_str(&format!(
                ".{}.{x}{y}{position}.{p:02}.{t:02}.{m:02}.{}",
                u8::from(self.monochrome),
                u8::from(full_range)
            ));
        }
        s
    }
}

impl Sequence {
    /// Parses a sequence header OBU's payload (5.5.1).
    fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let r = &mut BitReader::new(payload, SEQUENCE);
        let profile = r.u(3)?;
        r.skip(1)?; // still_picture
        let reduced = r.flag()?;
        let (frame_rate, level, high_tier) =
            if reduced { (None, r.u(5)?, false) } else { operating_points(r)? };
        let width_bits = r.u(4)? + 1;
        let height_bits = r.u(4)? + 1;
        let width = u64::from(r.u(width_bits)?) + 1;
        let height = u64::from(r.u(height_bits)?) + 1;
        let (width, height) = checked_size(SEQUENCE, Some(width), Some(height))?;
        if !reduced && r.flag()? {
            r.skip(7)?; // frame id lengths
        }
        r.skip(3)?; // 128x128 superblocks, filter intra, intra edge filter
        if !reduced {
            coding_tools(r)?;
        }
        r.skip(3)?; // superres, cdef, restoration
        let (colour, full_range, sampling) = colour_config(r, profile)?;
        let record = [(profile << 5 | level) as u8, u8::from(high_tier) << 7 | sampling];
        Ok(Sequence { width, height, frame_rate, colour, full_range, record })
    }
}

/// From timing_info_present_flag to the end of the operating points; the frame rate, where it is constant, and the
/// level and tier of the first operating point, which is the whole stream.
fn operating_points(r: &mut BitReader<'_>) -> Result<(Option<f64>, u32, bool), CodecError> {
    let mut frame_rate = None;
    let mut decoder_model_delay_bits = None;
    if r.flag()? {
        let units = r.u(32)?;
        let scale = r.u(32)?;
        if r.flag()? {
            let ticks = f64::from(r.ue()?) + 1.0;
            let rate = f64::from(scale) / (f64::from(units) * ticks);
            frame_rate = (rate.is_finite() && rate > 0.0 && rate <= 1000.0).then_some(rate);
        }
        if r.flag()? {
            decoder_model_delay_bits = Some(r.u(5)? as usize + 1);
            r.skip(32 + 5 + 5)?;
        }
    }
    let initial_display_delay = r.flag()?;
    let mut first = None;
    for _ in 0..=r.u(5)? {
        r.skip(12)?; // operating_point_idc
        let level = r.u(5)?;
        let high_tier = level > 7 && r.flag()?;
        first.get_or_insert((level, high_tier));
        if let Some(bits) = decoder_model_delay_bits
            && r.flag()?
        {
            r.skip(2 * bits + 1)?;
        }
        if initial_display_delay && r.flag()? {
            r.skip(4)?;
        }
    }
    let (level, high_tier) = first.unwrap_or_default();
    Ok((frame_rate, level, high_tier))
}

/// From enable_interintra_compound to order_hint_bits_minus_1.
fn coding_tools(r: &mut BitReader<'_>) -> Result<(), CodecError> {
    r.skip(4)?; // interintra, masked compound, warped motion, dual filter
    let order_hint = r.flag()?;
    if order_hint {
        r.skip(2)?; // jnt_comp, ref_frame_mvs
    }
    let screen_content = r.flag()? || r.flag()?;
    if screen_content && !r.flag()? {
        r.skip(1)?; // seq_force_integer_mv
    }
    if order_hint {
        r.skip(3)?;
    }
    Ok(())
}

/// color_config() (5.5.2): colour, full range, and the low seven bits of byte 2 of an av1C.
fn colour_config(r: &mut BitReader<'_>, profile: u32) -> Result<([u8; 3], bool, u8), CodecError> {
    let high_bit_depth = r.flag()?;
    let twelve_bit = profile == 2 && high_bit_depth && r.flag()?;
    let monochrome = profile != 1 && r.flag()?;
    let mut colour = [2; 3];
    if r.flag()? {
        for c in &mut colour {
            *c = r.u(8)? as u8;
        }
    }
    const SRGB: [u8; 3] = [1, 13, 0];
    let srgb = !monochrome && colour == SRGB;
    let full_range = srgb || r.flag()?;
    let (x, y) = match (monochrome, srgb, profile) {
        (true, ..) => (true, true),
        (_, true, _) | (_, _, 1) => (false, false),
        (_, _, 0) => (true, true),
        _ if !twelve_bit => (true, false),
        _ => {
            let x = r.flag()?;
            (x, x && r.flag()?)
        }
    };
    let position = if x && y && !monochrome { r.u(2)? as u8 } else { 0 };
    let bit = |flag: bool, at: u8| u8::from(flag) << at;
    let sampling = bit(high_bit_depth, 6) | bit(twelve_bit, 5) | bit(monochrome, 4) | bit(x, 3) | bit(y, 2);
    Ok((colour, full_range, sampling | position))
}

/// The av1C for the first sequence header of a temporal unit in the hub's form.
pub(crate) fn record_of(unit: &[u8]) -> Option<Result<Vec<u8>, CodecError>> {
    let mut rest = unit;
    loop {
        let before = rest;
        let obu = take_obu(&mut rest)?;
        if obu.kind == OBU_SEQUENCE_HEADER && obu.has_size {
            let whole = &before[..before.len() - rest.len()];
            return Some(
                Sequence::parse(obu.payload).map(|s| [&[0x81, s.record[0], s.record[1], 0], whole].concat()),
            );
        }
    }
}
