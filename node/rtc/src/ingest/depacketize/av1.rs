//! AV1 (RTP Payload Format For AV1, v1.0.0): OBUs and fragments of them behind an aggregation header.

use bytes::Bytes;

use super::Broken;

const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

const CUT: Broken = Broken("a cut AV1 payload");

pub(super) fn assemble(payloads: &[Bytes]) -> Result<Bytes, Broken> {
    let room = payloads.iter().map(|p| p.len() + 8).sum();
    let mut out = Vec::with_capacity(room);
    let mut obu: Vec<&[u8]> = Vec::new();
    let mut continues = false;
    for payload in payloads {
        let Some((&header, mut rest)) = payload.split_first() else { continue };
        if (header & 0x80 != 0) != continues {
            return Err(Broken("an AV1 OBU whose fragments do not follow each other"));
        }
        let count = usize::from((header >> 4) & 3);
        let mut index: usize = 0;
        while !rest.is_empty() {
            index += 1;
            let element = if count != 0 && index == count {
                std::mem::take(&mut rest)
            } else {
                let length = take_leb128(&mut rest).ok_or(CUT)?;
                let (element, tail) = rest.split_at_checked(length).ok_or(CUT)?;
                rest = tail;
                element
            };
            obu.push(element);
            continues = rest.is_empty() && header & 0x40 != 0;
            if !continues {
                put_obu(&obu, &mut out)?;
                obu.clear();
            }
        }
    }
    if continues {
        return Err(Broken("an AV1 OBU without its end"));
    }
    Ok(out.into())
}

/// Writes an OBU, given in pieces, with its size; not those that have no place in a sample.
fn put_obu(pieces: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Broken> {
    let mut bytes = pieces.iter().copied().flatten().copied();
    let Some(first) = bytes.next() else { return Ok(()) };
    if first & 0x80 != 0 {
        return Err(Broken("an AV1 OBU with the forbidden bit"));
    }
    if matches!((first >> 3) & 0x0f, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
        return Ok(());
    }
    let mut skip = 1;
    let extension = if first & 0x04 != 0 { Some(bytes.next().ok_or(CUT)?) } else { None };
    skip += usize::from(extension.is_some());
    let mut length = pieces.iter().map(|p| p.len()).sum::<usize>() - skip;
    // Senders should leave the size away, and need not.
    if first & 0x02 != 0 {
        let mut size = 0u64;
        for i in 0.. {
            let byte = bytes.next().filter(|_| i < 8).ok_or(CUT)?;
            size |= u64::from(byte & 0x7f) << (7 * i);
            skip += 1;
            length -= 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        length = usize::try_from(size).ok().filter(|s| *s <= length).ok_or(CUT)?;
    }
    out.push(first | 0x02);
    out.extend(extension);
    put_leb128(out, length);
    for piece in pieces {
        let used = skip.min(piece.len());
        skip -= used;
        let body = &piece[used..];
        let body = &body[..body.len().min(length)];
        length -= body.len();
        out.extend_from_slice(body);
    }
    Ok(())
}

fn take_leb128(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for i in 0..8 {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

fn put_leb128(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        out.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return;
        }
    }
}

/// The first packet of a coded video sequence.
pub(super) fn starts_keyframe(payload: &[u8]) -> bool {
    payload.first().is_some_and(|header| header & 0x88 == 0x08)
}
