//! Opus: the dOps box (Opus in ISOBMFF, 4.3.2), the identification header of Ogg and enhanced RTMP (RFC 7845,
//! 5.1), and the duration of a packet (RFC 6716, 3.1).

use super::CodecError;

const DOPS: &str = "dOps";
const HEAD: &str = "OpusHead";
const MAGIC: &[u8] = b"OpusHead";
const FIXED: usize = 11;

/// Checks a dOps body and gives the number of channels.
pub(crate) fn channels(dops: &[u8]) -> Result<u8, CodecError> {
    let (fixed, mapping) = dops.split_at_checked(FIXED).ok_or(CodecError::Truncated { what: DOPS })?;
    let invalid = |field, value: u8| Err(CodecError::Invalid { what: DOPS, field, value: u64::from(value) });
    if fixed[0] != 0 {
        return invalid("Version", fixed[0]);
    }
    let channels = fixed[1];
    let family = fixed[10];
    match (family, channels) {
        (_, 0) | (0, 3..) => return invalid("OutputChannelCount", channels),
        (0, _) => {}
        _ => {
            let needed = 2 + usize::from(channels);
            let table = mapping.get(..needed).ok_or(CodecError::Truncated { what: DOPS })?;
            let (streams, coupled) = (table[0], table[1]);
            if streams == 0 {
                return invalid("StreamCount", streams);
            }
            if coupled > streams {
                return invalid("CoupledCount", coupled);
            }
        }
    }
    Ok(channels)
}

/// The dOps body for an identification header.
pub(crate) fn dops_from_head(head: &[u8]) -> Result<Vec<u8>, CodecError> {
    const CUT: CodecError = CodecError::Truncated { what: HEAD };
    let body = head.strip_prefix(MAGIC).ok_or(if head.len() < MAGIC.len() {
        CUT
    } else {
        CodecError::Invalid { what: HEAD, field: "magic", value: u64::from(head[0]) }
    })?;
    let (fixed, mapping) = body.split_at_checked(FIXED).ok_or(CUT)?;
    // The high four bits are the major version, and only 0 is known.
    if fixed[0] & 0xf0 != 0 {
        return Err(CodecError::Invalid { what: HEAD, field: "version", value: u64::from(fixed[0]) });
    }
    let mut dops = swapped(fixed, 0);
    if fixed[10] != 0 {
        let table = mapping.get(..2 + usize::from(fixed[1])).ok_or(CUT)?;
        dops.extend_from_slice(table);
    }
    Ok(dops)
}

/// The identification header for a dOps body, the inverse of [`dops_from_head`].
pub(crate) fn head_from_dops(dops: &[u8]) -> Option<Vec<u8>> {
    let (fixed, mapping) = dops.split_at_checked(FIXED)?;
    Some([MAGIC, &swapped(fixed, 1), mapping].concat())
}

/// The fixed fields are the same in both but for the version and the byte order.
fn swapped(fixed: &[u8], version: u8) -> Vec<u8> {
    let f = fixed;
    vec![version, f[1], f[3], f[2], f[7], f[6], f[5], f[4], f[9], f[8], f[10]]
}

/// Samples at 48 kHz in a packet; `None` for an empty one and for more than the 120 ms that are allowed.
pub(crate) fn samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    Some(frame * count).filter(|n| (1..=5760).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Written by ffmpeg 5.1 with libopus: stereo, the same as identification header, and 5.1.
    const STEREO: &[u8] = &[0, 2, 0x01, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0];
    const STEREO_HEAD: &[u8] = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
    const SURROUND: &[u8] = &[0, 6, 0x01, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 1, 4, 2, 0, 4, 0, 1, 2, 3, 5];

    #[test]
    fn records() {
        assert_eq!(channels(STEREO), Ok(2));
        assert_eq!(channels(SURROUND), Ok(6));
        assert_eq!(dops_from_head(STEREO_HEAD), Ok(STEREO.to_vec()));
        assert_eq!(head_from_dops(STEREO).as_deref(), Some(STEREO_HEAD));
    }

    #[test]
    fn refused() {
        assert_eq!(channels(&STEREO[..10]), Err(CodecError::Truncated { what: DOPS }));
        assert_eq!(channels(&SURROUND[..18]), Err(CodecError::Truncated { what: DOPS }));
        assert!(matches!(channels(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(CodecError::Invalid { .. })));
        assert!(matches!(channels(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(CodecError::Invalid { .. })));
        assert!(matches!(dops_from_head(b"OpusTags\x01"), Err(CodecError::Invalid { .. })));
        assert!(matches!(dops_from_head(b"Opus"), Err(CodecError::Truncated { .. })));
    }

    #[test]
    fn packet_durations() {
        for (packet, n) in [
            (&[0xfc][..], Some(960)),    // CELT fullband 20 ms stereo, as libopus sends
            (&[0xe0], Some(120)),        // CELT 2.5 ms
            (&[0x08], Some(960)),        // SILK 20 ms
            (&[0x19], Some(5760)),       // two of SILK 60 ms
            (&[0x6a], Some(1920)),       // two of hybrid 20 ms
            (&[0xfb, 0x06], Some(5760)), // six of CELT 20 ms
            (&[0xfb, 0x07], None),       // 140 ms
            (&[0xfb, 0x00], None),
            (&[0xfb], None),
            (&[], None),
        ] {
            assert_eq!(samples(packet), n, "{packet:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) {
            let _ = channels(&data);
            let _ = samples(&data);
            let _ = dops_from_head(&data);
            let _ = dops_from_head(&[MAGIC, &data].concat());
        }

        #[test]
        fn head_and_dops(fixed in proptest::collection::vec(any::<u8>(), 9), mapping in proptest::collection::vec(any::<u8>(), 10)) {
            let mut dops = [&[0, 8][..], &fixed].concat();
            if dops[10] != 0 {
                dops.extend_from_slice(&mapping);
            }
            let head = head_from_dops(&dops).expect("long enough");
            prop_assert_eq!(dops_from_head(&head), Ok(dops));
        }
    }
}
