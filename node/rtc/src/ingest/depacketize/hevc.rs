//! HEVC (RFC 7798) without decoding order numbers: single NAL units, aggregation packets, fragmentation units.

use bytes::Bytes;
use sluice_media::codec::nal::{self, HEVC_AUD, HEVC_SPS, HEVC_VPS};

use super::{Broken, Units, take_unit};

const AP: u8 = 48;
const FU: u8 = 49;
const FILLER: u8 = 38;

pub(super) fn assemble(payloads: &[Bytes]) -> Result<Bytes, Broken> {
    let mut units = Units::for_payloads(payloads);
    for payload in payloads.iter().filter(|p| !p.is_empty()) {
        let (&[first, second], mut rest) =
            payload.split_first_chunk().ok_or(Broken("a cut HEVC payload header"))?;
        match nal::hevc_type(payload) {
            AP => {
                while !rest.is_empty() {
                    let unit = take_unit(&mut rest).ok_or(Broken("a cut aggregation packet"))?;
                    if unit.len() >= 2 && is_carried(nal::hevc_type(unit)) {
                        units.whole(unit)?;
                    }
                }
            }
            FU => {
                let (&header, fragment) = rest.split_first().ok_or(Broken("a cut fragmentation unit"))?;
                if header & 0x80 != 0 {
                    units.begin(&[first & 0x81 | (header & 0x3f) << 1, second])?;
                }
                units.more(fragment)?;
                if header & 0x40 != 0 {
                    units.end()?;
                }
            }
            kind if is_carried(kind) => units.whole(payload)?,
            _ => {}
        }
    }
    units.finish()
}

fn is_carried(kind: u8) -> bool {
    kind < 48 && kind != HEVC_AUD && kind != FILLER
}

/// A video or sequence parameter set, or the first slice of a random access picture.
pub(super) fn starts_keyframe(payload: &[u8]) -> bool {
    // first_slice_segment_in_pic_flag
    let begins = |kind, slice: &[u8]| match kind {
        HEVC_VPS | HEVC_SPS => true,
        kind => nal::hevc_is_irap(kind) && slice.first().is_some_and(|b| b & 0x80 != 0),
    };
    match (nal::hevc_type(payload), payload) {
        (AP, [_, _, units @ ..]) => {
            let mut rest = units;
            std::iter::from_fn(|| take_unit(&mut rest))
                .any(|unit| begins(nal::hevc_type(unit), unit.get(2..).unwrap_or_default()))
        }
        (FU, [_, _, header, slice @ ..]) => header & 0x80 != 0 && begins(header & 0x3f, slice),
        (kind, [_, _, slice @ ..]) => begins(kind, slice),
        _ => false,
    }
}
