//! FLV files (Video File Format Specification 10.1, annex E): only the tags, which are RTMP's messages.

use bytes::{Buf, Bytes};

/// A tag of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) kind: Kind,
    /// Milliseconds.
    pub(crate) timestamp: u32,
    /// The body, which is that of an RTMP message.
    pub(crate) body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    Video,
    Script,
}

/// The tags of a file; what is cut short at its end is left out.
pub(crate) fn tags(mut file: Bytes) -> Result<Vec<Tag>, String> {
    if !file.starts_with(b"FLV") {
        return Err("it is not an FLV file: make one with ffmpeg … -f flv".into());
    }
    let header = file.get(5..9).and_then(|b| b.first_chunk().copied()).map_or(0, u32::from_be_bytes) as usize;
    // Behind the header and behind each tag stand four bytes with the length of the tag before.
    if header < 9 || file.len() < header + 4 {
        return Err("its header is cut short".into());
    }
    file.advance(header + 4);
    let mut tags = Vec::new();
    while file.len() >= 11 {
        let [kind, s0, s1, s2, t0, t1, t2, t3] = file[..8] else { break };
        let length = u32::from_be_bytes([0, s0, s1, s2]) as usize;
        let timestamp = u32::from_be_bytes([t3, t0, t1, t2]);
        if file.len() < 11 + length {
            break;
        }
        file.advance(11);
        let body = file.split_to(length);
        file.advance(file.len().min(4));
        let kind = match kind & 0x1f {
            8 => Kind::Audio,
            9 => Kind::Video,
            18 => Kind::Script,
            _ => continue,
        };
        tags.push(Tag { kind, timestamp, body });
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_small_file() {
        let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        file.extend_from_slice(b"\x09\0\0\x03\x00\x00\x28\x01\0\0\0vid\0\0\0\x0e");
        file.extend_from_slice(b"\x0b\0\0\x01\0\0\0\0\0\0\0?\0\0\0\x0c");
        file.extend_from_slice(b"\x08\0\0\x02\x00\x00\x29\0\0\0\0au\0\0\0\x0d");
        let tag = |kind, timestamp, body| Tag { kind, timestamp, body: Bytes::from_static(body) };
        let want = vec![tag(Kind::Video, 0x0100_0028, b"vid"), tag(Kind::Audio, 0x29, b"au")];
        assert_eq!(tags(file.clone().into()).unwrap(), want);
        file.truncate(file.len() - 6);
        assert_eq!(tags(file.into()).unwrap(), want[..1]);
        assert!(tags(Bytes::from_static(b"RIFF")).is_err());
        assert!(tags(Bytes::from_static(b"FLV\x01\x05\0\0\0\x09")).is_err());
    }

    proptest! {
        #[test]
        fn anything_is_survived(mut data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = tags(data.clone().into());
            data.splice(..0, *b"FLV\x01\x05\0\0\0\x09\0\0\0\0");
            let _ = tags(data.into());
        }
    }
}
