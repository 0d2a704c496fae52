//! Opus (RFC 7587): a packet a payload.

use bytes::Bytes;

use super::Broken;

/// The longest packet that the codec knows: 120 ms in 48 frames of 1275 bytes, and its head.
const LONGEST: usize = 48 * 1275 + 64;

pub(super) fn assemble(payloads: &[Bytes]) -> Result<Bytes, Broken> {
    let mut packets = payloads.iter().filter(|p| !p.is_empty());
    match (packets.next(), packets.next()) {
        (Some(packet), None) if packet.len() <= LONGEST => Ok(Bytes::copy_from_slice(packet)),
        (None, _) => Ok(Bytes::new()),
        _ => Err(Broken("an Opus packet in pieces")),
    }
}
