//! H.264 (RFC 6184) in packetization modes 0 and 1: single NAL units, STAP-A, FU-A.

use bytes::Bytes;
use sluice_media::codec::nal::{self, H264_AUD, H264_IDR, H264_SPS};

use super::{Broken, Units, take_unit};

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FILLER: u8 = 12;

pub(super) fn assemble(payloads: &[Bytes]) -> Result<Bytes, Broken> {
    let mut units = Units::for_payloads(payloads);
    for payload in payloads {
        let Some((&indicator, mut rest)) = payload.split_first() else { continue };
        match indicator & 0x1f {
            STAP_A => {
                while !rest.is_empty() {
                    let unit = take_unit(&mut rest).ok_or(Broken("a cut STAP-A"))?;
                    if is_carried(nal::h264_type(unit)) {
                        units.whole(unit)?;
                    }
                }
            }
            FU_A => {
                let (&header, fragment) = rest.split_first().ok_or(Broken("a cut FU-A"))?;
                if header & 0x80 != 0 {
                    units.begin(&[indicator & 0xe0 | header & 0x1f])?;
                }
                units.more(fragment)?;
                if header & 0x40 != 0 {
                    units.end()?;
                }
            }
            25..=27 | 29 => return Err(Broken("interleaved H.264, which was not agreed on")),
            kind if is_carried(kind) => units.whole(payload)?,
            _ => {}
        }
    }
    units.finish()
}

fn is_carried(kind: u8) -> bool {
    (1..24).contains(&kind) && kind != H264_AUD && kind != FILLER
}

/// A sequence parameter set, or the first slice of an IDR picture.
pub(super) fn starts_keyframe(payload: &[u8]) -> bool {
    // first_mb_in_slice is 0: one bit, which is set.
    let first = |slice: &[u8]| slice.first().is_some_and(|b| b & 0x80 != 0);
    match (nal::h264_type(payload), payload) {
        (H264_SPS, _) => true,
        (H264_IDR, [_, slice @ ..]) => first(slice),
        (FU_A, [_, header, slice @ ..]) => {
            header & 0x80 != 0 && matches!(header & 0x1f, H264_IDR) && first(slice)
        }
        (STAP_A, [_, units @ ..]) => {
            let mut rest = units;
            std::iter::from_fn(|| take_unit(&mut rest)).any(|unit| match nal::h264_type(unit) {
                H264_SPS => true,
                H264_IDR => first(unit.get(1..).unwrap_or_default()),
                _ => false,
            })
        }
        _ => false,
    }
}
