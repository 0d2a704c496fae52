//! VP8 and VP9: the VPCodecConfigurationRecord (VP Codec ISO Media File Format Binding) and the heads of
//! keyframes (RFC 6386, 9.1; VP9 Bitstream Specification, 6.2), which alone tell the picture size.

use super::CodecError;
use crate::bits::BitReader;

/// What a vpcC body says.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    profile: u8,
    level: u8,
    bit_depth: u8,
    chroma: u8,
    full_range: bool,
    /// Colour primaries, transfer characteristics, matrix coefficients (ISO/IEC 23001-8).
    colour: [u8; 3],
}

const VPCC: &str = "vpcC";

/// The body of a vpcC box: enhanced RTMP's senders differ in whether the FullBox header (version 1, no flags)
/// is before it. A body cannot start with these bytes: its bit depth would be 0.
pub(crate) fn body(record: &[u8]) -> &[u8] {
    record.strip_prefix(&[1, 0, 0, 0]).unwrap_or(record)
}

impl Record {
    /// Parses the body, without the FullBox header.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, CodecError> {
        let [profile, level, depth, primaries, transfer, matrix, _, _, ..] = *body else {
            return Err(CodecError::Truncated { what: VPCC });
        };
        let invalid = |field, value: u8| CodecError::Invalid { what: VPCC, field, value: u64::from(value) };
        if profile > 3 {
            return Err(invalid("profile", profile));
        }
        let bit_depth = depth >> 4;
        if !matches!(bit_depth, 8 | 10 | 12) {
            return Err(invalid("bitDepth", bit_depth));
        }
        Ok(Record {
            profile,
            level,
            bit_depth,
            chroma: (depth >> 1) & 7,
            full_range: depth & 1 == 1,
            colour: [primaries, transfer, matrix],
        })
    }

    /// `vp09.PP.LL.DD`, with the optional fields where they say more than their defaults. A level that the
    /// record leaves open is taken from the size.
    pub(crate) fn codec_string(&self, width: u32, height: u32) -> String {
        let level = if self.level == 0 { level_for(width, height) } else { self.level };
        let mut s = format!("vp09.{:02}.{level:02}.{:02}", self.profile, self.bit_depth);
        // 1 is the default, BT.709; 2, unspecified, is not worth a longer string.
        let plain = self.colour.iter().all(|c| matches!(c, 1 | 2)) && !self.full_range && self.chroma <= 1;
        if !plain {
            let [p, t, m] = self.colour;
            s.push_str(&format!(".{:02}.{p:02}.{t:02}.{m:02}.{:02}", self.chroma, u8::from(self.full_range)));
        }
        s
    }
}

/// `vp08.PP.LL.DD`: VP8 is always 8 bit 4:2:0, and players ignore its profile.
pub(crate) fn vp8_codec_string(width: u32, height: u32) -> String {
    format!("vp08.00.{:02}.08", level_for(width, height))
}

/// The lowest level of VP9's table that a picture of this size fits at 60 a second (the rate is not known).
fn level_for(width: u32, height: u32) -> u8 {
    /// Level, luma samples a second, luma samples a picture.
    const LEVELS: [(u8, u64, u64); 14] = [
        (10, 829_440, 36_864),
        (11, 2_764_800, 73_728),
        (20, 4_608_000, 122_880),
        (21, 9_216_000, 245_760),
        (30, 20_736_000, 552_960),
        (31, 36_864_000, 983_040),
        (40, 83_558_400, 2_228_224),
        (41, 160_432_128, 2_228_224),
        (50, 311_951_360, 8_912_896),
        (51, 588_251_136, 8_912_896),
        (52, 1_176_502_272, 8_912_896),
        (60, 1_176_502_272, 35_651_584),
        (61, 2_353_004_544, 35_651_584),
        (62, 4_706_009_088, 35_651_584),
    ];
    let picture = u64::from(width) * u64::from(height);
    let per_second = picture.saturating_mul(60);
    LEVELS.iter().find(|(_, rate, size)| per_second <= *rate && picture <= *size).map_or(62, |l| l.0)
}

/// The size in a VP8 keyframe; `None` for other frames.
pub(crate) fn vp8_keyframe_size(frame: &[u8]) -> Option<(u32, u32)> {
    let [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = *frame else { return None };
    // The two high bits of each are the upscaling that the player does.
    let size = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    let (width, height) = (size(w0, w1), size(h0, h1));
    (tag & 1 == 0 && width > 0 && height > 0).then_some((width, height))
}

/// What the head of a VP9 keyframe tells.
#[derive(Debug, PartialEq)]
pub(crate) struct Vp9Key {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// The body of a vpcC.
    pub(crate) record: [u8; 8],
}

/// Reads a VP9 keyframe's head (of a superframe its first frame's); `None` for other frames.
pub(crate) fn vp9_key(frame: &[u8]) -> Option<Vp9Key> {
    const CS_BT_709: u32 = 2;
    const CS_RGB: u32 = 7;
    let mut r = BitReader::new(frame, "VP9 frame");
    let profile = vp9_keyframe_profile(&mut r)?;
    r.skip(2).ok()?; // show_frame, error_resilient_mode
    if r.u(24).ok()? != 0x49_83_42 {
        return None;
    }
    let depth = match profile >= 2 {
        true if r.flag().ok()? => 12,
        true => 10,
        false => 8,
    };
    let space = r.u(3).ok()?;
    let mut full_range = true;
    // 4:2:0 is written as co-located, as libvpx does.
    let mut chroma = if profile % 2 == 1 { 3 } else { 1 };
    if space != CS_RGB {
        full_range = r.flag().ok()?;
        if profile % 2 == 1 {
            chroma = match r.u(3).ok()? >> 1 {
                0b10 => 2,
                0b00 => 3,
                _ => 1,
            };
        }
    } else if profile % 2 == 1 {
        r.skip(1).ok()?;
    }
    let (width, height) = (r.u(16).ok()? + 1, r.u(16).ok()? + 1);
    let colour = if space == CS_BT_709 { 1 } else { 2 };
    let format = depth << 4 | chroma << 1 | u8::from(full_range);
    let record = [profile as u8, level_for(width, height), format, colour, colour, colour, 0, 0];
    Some(Vp9Key { width, height, record })
}

/// The size in a VP9 keyframe (of a superframe its first frame); `None` for other frames.
pub(crate) fn vp9_keyframe_size(frame: &[u8]) -> Option<(u32, u32)> {
    vp9_key(frame).map(|k| (k.width, k.height))
}

/// Whether a VP9 frame (of a superframe the first one) is a keyframe.
pub(crate) fn vp9_is_keyframe(frame: &[u8]) -> bool {
    vp9_keyframe_profile(&mut BitReader::new(frame, "VP9 frame")).is_some()
}

/// Reads up to and with frame_type; the profile, if it is a keyframe's.
fn vp9_keyframe_profile(r: &mut BitReader<'_>) -> Option<u32> {
    if r.u(2).ok()? != 2 {
        return None;
    }
    let profile = r.u(1).ok()? | (r.u(1).ok()? << 1);
    if profile == 3 {
        r.skip(1).ok()?;
    }
    let show_existing_frame = r.flag().ok()?;
    let non_key = r.flag().ok()?;
    (!show_existing_frame && !non_key).then_some(profile)
}
