//! VP9 (RFC 9628) with the shortest descriptor: no picture ids, no layers.

use super::{Out, fragments};

pub(super) fn write(frame: &[u8], keyframe: bool, max: usize, out: &mut Out) {
    // P: predicted from other pictures; B and E: the frame begins and ends.
    let predicted = u8::from(!keyframe) << 6;
    fragments(frame, max, out, |first, last| [predicted | u8::from(first) << 3 | u8::from(last) << 2]);
}
