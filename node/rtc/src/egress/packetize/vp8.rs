//! VP8 (RFC 7741) with the shortest descriptor: no picture ids, so that another rendition can follow at any keyframe.

use super::{Out, fragments};

pub(super) fn write(frame: &[u8], max: usize, out: &mut Out) {
    // S: the start of the first partition.
    fragments(frame, max, out, |first, _| [u8::from(first) << 4]);
}
