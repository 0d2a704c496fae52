//! VP8 (RFC 7741).

use bytes::Bytes;

use super::{Broken, join};

pub(super) fn assemble(payloads: &[Bytes]) -> Result<Bytes, Broken> {
    join(payloads, strip, "a cut VP8 descriptor")
}

/// What is behind the payload descriptor.
fn strip(payload: &[u8]) -> Option<&[u8]> {
    let (&first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        let (&extended, tail) = rest.split_first()?;
        rest = tail;
        if extended & 0x80 != 0 {
            // A picture id of 7 or 15 bits.
            rest = rest.get(if rest.first()? & 0x80 != 0 { 2 } else { 1 }..)?;
        }
        rest = rest.get(usize::from(extended & 0x40 != 0)..)?; // TL0PICIDX
        rest = rest.get(usize::from(extended & 0x30 != 0)..)?; // TID, Y, KEYIDX
    }
    Some(rest)
}

pub(super) fn starts_keyframe(payload: &[u8]) -> bool {
    // S, and partition 0; then the frame tag's inverse key frame flag.
    payload.first().is_some_and(|b| b & 0x17 == 0x10)
        && strip(payload).and_then(<[u8]>::first).is_some_and(|tag| tag & 1 == 0)
}
