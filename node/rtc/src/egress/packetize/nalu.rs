//! H.264 (RFC 6184: single NAL units, STAP-A, FU-A) and HEVC (RFC 7798: single NAL units, aggregation packets, FU).

use bytes::Bytes;
use sluice_media::codec::nal;

use super::{Out, fragments};

const H264_FILLER: u8 = 12;
const HEVC_END_OF_SEQUENCE: u8 = 36;
const HEVC_FILLER: u8 = 38;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const HEVC_AP: u8 = 48;
const HEVC_FU: u8 = 49;

/// Writes an access unit. Before a keyframe go the parameter sets, unless it has its own: browsers take them in band only.
pub(super) fn write(unit: &[u8], hevc: bool, sets: &[Bytes], keyframe: bool, max: usize, out: &mut Out) {
    let own = || nal::units(unit).any(|n| is_sps(n, hevc));
    let sets = if keyframe && !own() { sets } else { &[] };
    let units = sets.iter().map(|s| &s[..]).chain(nal::units(unit)).filter(|n| is_sent(n, hevc));
    let mut waiting: Vec<&[u8]> = Vec::new();
    let mut size = 0;
    // The payload header of an aggregate: one byte, HEVC's has two.
    let head = if hevc { 2 } else { 1 };
    for unit in units {
        if !waiting.is_empty() && head + size + 2 + unit.len() > max {
            aggregate(&waiting, hevc, out);
            waiting.clear();
            size = 0;
        }
        if unit.len() > max {
            fragment(unit, hevc, max, out);
        } else {
            waiting.push(unit);
            size += 2 + unit.len();
        }
    }
    aggregate(&waiting, hevc, out);
}

fn is_sps(unit: &[u8], hevc: bool) -> bool {
    if hevc { nal::hevc_type(unit) == nal::HEVC_SPS } else { nal::h264_type(unit) == nal::H264_SPS }
}

/// Delimiters and filler tell a browser nothing; types that the payload formats use themselves cannot be sent.
fn is_sent(unit: &[u8], hevc: bool) -> bool {
    if hevc {
        let kind = nal::hevc_type(unit);
        let end = (HEVC_END_OF_SEQUENCE..=HEVC_FILLER).contains(&kind);
        unit.len() > 2 && kind < HEVC_AP && kind != nal::HEVC_AUD && !end
    } else {
        let kind = nal::h264_type(unit);
        unit.len() > 1 && kind != nal::H264_AUD && kind != H264_FILLER && (1..STAP_A).contains(&kind)
    }
}

/// Small units in one payload; one alone goes as it is.
fn aggregate(units: &[&[u8]], hevc: bool, out: &mut Out) {
    match units {
        [] => return,
        [one] => out.put(one),
        several => {
            if hevc {
                // The layer and the temporal id are the lowest of all.
                let layer = several.iter().map(|u| (u[0] & 1) << 5 | u[1] >> 3).min().unwrap_or(0);
                let temporal = several.iter().map(|u| u[1] & 7).min().unwrap_or(1);
                out.put(&[HEVC_AP << 1 | layer >> 5, (layer & 0x1f) << 3 | temporal]);
            } else {
                let importance = several.iter().map(|u| u[0] & 0x60).max().unwrap_or(0);
                out.put(&[importance | STAP_A]);
            }
            for unit in several {
                out.put(&u16::try_from(unit.len()).unwrap_or(u16::MAX).to_be_bytes());
                out.put(unit);
            }
        }
    }
    out.end();
}

/// A unit that is too large for one payload.
fn fragment(unit: &[u8], hevc: bool, max: usize, out: &mut Out) {
    let ends = |first: bool, last: bool| u8::from(first) << 7 | u8::from(last) << 6;
    match *unit {
        [a, b, ref rest @ ..] if hevc => {
            let head = [a & 0x81 | HEVC_FU << 1, b];
            fragments(rest, max, out, |first, last| [head[0], head[1], ends(first, last) | (a >> 1 & 0x3f)]);
        }
        [a, ref rest @ ..] => {
            fragments(rest, max, out, |first, last| [a & 0xe0 | FU_A, ends(first, last) | a & 0x1f]);
        }
        [] => {}
    }
}
