//! A part: `moof` and `mdat` with the frames of one track over a fraction of a second.

use bytes::Bytes;

use super::boxes::Boxes;

/// A frame as a part carries it; times are ticks of the track's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// How long it is shown.
    pub duration: u32,
    /// Presentation minus decode time.
    pub composition: i32,
    /// Whether decoding can start here.
    pub sync: bool,
    /// The coded bytes.
    pub payload: Bytes,
}

const FLAGS_SYNC: u32 = 0x0200_0000; // depends on no other
const FLAGS_DELTA: u32 = 0x0101_0000; // depends on others, not a sync sample

/// The `mfhd` sequence number of a part: the same on every node, and rising from part to part.
pub fn fragment_sequence(media_sequence: u64, part: u32) -> u32 {
    (media_sequence as u32).wrapping_mul(1024).wrapping_add(part.min(1023)).wrapping_add(1)
}

/// Builds a part from samples that follow each other, the first at `decode_time` ticks.
pub fn media_part(sequence: u32, decode_time: u64, video: bool, samples: &[Sample]) -> Bytes {
    let payload: usize = samples.iter().map(|s| s.payload.len()).sum();
    let composed = video && samples.iter().any(|s| s.composition != 0);
    let mut b = Boxes::with_capacity(128 + samples.len() * 16 + payload);
    let mut offset_at = 0;
    b.boxed(b"moof", |b| {
        b.full(b"mfhd", 0, 0, |b| b.u32(sequence));
        b.boxed(b"traf", |b| {
            // default-base-is-moof; audio samples are all alike, so their flags are given once.
            let flags = if video { 0x02_0000 } else { 0x02_0020 };
            b.full(b"tfhd", 0, flags, |b| {
                b.u32(1);
                if !video {
                    b.u32(FLAGS_SYNC);
                }
            });
            b.full(b"tfdt", 1, 0, |b| b.u64(decode_time));
            // data offset, duration, size; for video flags, and composition offsets when there are any.
            let flags = 0x301 | if video { 0x400 } else { 0 } | if composed { 0x800 } else { 0 };
            b.full(b"trun", 1, flags, |b| {
                b.u32(samples.len() as u32);
                offset_at = b.0.len();
                b.u32(0);
                for s in samples {
                    b.u32(s.duration);
                    b.u32(s.payload.len() as u32);
                    if video {
                        b.u32(if s.sync { FLAGS_SYNC } else { FLAGS_DELTA });
                    }
                    if composed {
                        b.u32(s.composition as u32);
                    }
                }
            });
        });
    });
    let data = (b.0.len() + 8) as u32;
    b.0[offset_at..offset_at + 4].copy_from_slice(&data.to_be_bytes());
    b.boxed(b"mdat", |b| {
        for s in samples {
            b.bytes(&s.payload);
        }
    });
    Bytes::from(b.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_offset_points_at_the_payload() {
        for video in [true, false] {
            let samples = [
                Sample {
                    duration: 3000,
                    composition: 6000,
                    sync: true,
                    payload: Bytes::from_static(b"first"),
                },
                Sample {
                    duration: 3000,
                    composition: -1,
                    sync: false,
                    payload: Bytes::from_static(b"second"),
                },
            ];
            let part = media_part(7, 1 << 40, video, &samples);
            let moof = u32::from_be_bytes(part[0..4].try_into().expect("four")) as usize;
            assert_eq!(&part[moof + 4..moof + 8], b"mdat");
            assert_eq!(&part[moof + 8..], b"firstsecond");
            let trun = part.windows(4).position(|w| w == b"trun").expect("a trun");
            let offset = u32::from_be_bytes(part[trun + 12..trun + 16].try_into().expect("four")) as usize;
            assert_eq!(offset, moof + 8);
        }
    }

    #[test]
    fn sequence_rises() {
        assert!(fragment_sequence(5, 3) < fragment_sequence(5, 4));
        assert!(fragment_sequence(5, 900) < fragment_sequence(6, 0));
        assert_eq!(fragment_sequence(u64::MAX, u32::MAX), fragment_sequence(u64::MAX, 1023));
    }
}
