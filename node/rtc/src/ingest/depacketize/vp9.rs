//! VP9 (RFC 9628). Spatial layers of one picture stay together: they follow each other in one frame.

use bytes::Bytes;

use super::{Broken, join};

const PICTURE_ID: u8 = 0x80;
const INTER: u8 = 0x40;
const LAYERS: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGINS: u8 = 0x08;
const STRUCTURE: u8 = 0x02;

pub(super) fn assemble(payloads: &[Bytes]) -> Result<Bytes, Broken> {
    join(payloads, |p| strip(p).map(|(_, rest)| rest), "a cut VP9 descriptor")
}

/// The spatial layer, and what is behind the payload descriptor.
fn strip(payload: &[u8]) -> Option<(u8, &[u8])> {
    let (&flags, mut rest) = payload.split_first()?;
    let mut layer = 0;
    if flags & PICTURE_ID != 0 {
        rest = rest.get(if rest.first()? & 0x80 != 0 { 2 } else { 1 }..)?;
    }
    if flags & LAYERS != 0 {
        layer = (rest.first()? >> 1) & 7;
        // In the mode without flexibility, TL0PICIDX follows.
        rest = rest.get(if flags & FLEXIBLE == 0 { 2 } else { 1 }..)?;
    }
    if flags & FLEXIBLE != 0 && flags & INTER != 0 {
        for _ in 0..3 {
            let (&difference, tail) = rest.split_first()?;
            rest = tail;
            if difference & 1 == 0 {
                break;
            }
        }
    }
    if flags & STRUCTURE != 0 {
        rest = skip_structure(rest)?;
    }
    Some((layer, rest))
}

fn skip_structure(structure: &[u8]) -> Option<&[u8]> {
    let (&head, mut rest) = structure.split_first()?;
    if head & 0x10 != 0 {
        rest = rest.get(4 * (usize::from(head >> 5) + 1)..)?; // width and height of each layer
    }
    if head & 0x08 != 0 {
        let (&pictures, tail) = rest.split_first()?;
        rest = tail;
        for _ in 0..pictures {
            let (&picture, tail) = rest.split_first()?;
            rest = tail.get(usize::from((picture >> 2) & 3)..)?;
        }
    }
    Some(rest)
}

pub(super) fn starts_keyframe(payload: &[u8]) -> bool {
    payload.first().is_some_and(|flags| flags & (BEGINS | INTER) == BEGINS)
        && strip(payload).is_some_and(|(layer, _)| layer == 0)
}
