//! Opus (RFC 7587): a packet is a payload.

use super::Out;

/// A packet cannot be cut, so that a rare large one is left to IP; above this none is real.
const LARGEST: usize = 4096;

pub(super) fn write(packet: &[u8], out: &mut Out) {
    if (1..=LARGEST).contains(&packet.len()) {
        out.put(packet);
        out.end();
    }
}
