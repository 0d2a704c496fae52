//! RTP packets (RFC 3550): reading a received one, and the header extensions of RFC 8285.

use bytes::Bytes;

/// A received packet. Its buffer is shared, not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The marker bit.
    pub marker: bool,
    /// The payload type.
    pub pt: u8,
    /// The sequence number.
    pub seq: u16,
    /// The timestamp, in ticks of the payload's clock.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
    extensions: Extension,
    /// What it carries, padding taken off.
    pub payload: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Extension {
    None,
    OneByte(Bytes),
    TwoByte(Bytes),
}

/// Why bytes are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RTP packet: {0}")]
pub struct NotRtp(&'static str);

impl Packet {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`NotRtp`] when it is cut short or of another version.
    pub fn parse(datagram: Bytes) -> Result<Self, NotRtp> {
        let head: &[u8; 12] = datagram.first_chunk().ok_or(NotRtp("shorter than a header"))?;
        if head[0] >> 6 != 2 {
            return Err(NotRtp("not version 2"));
        }
        let (padded, extended, csrcs) =
            (head[0] & 0x20 != 0, head[0] & 0x10 != 0, usize::from(head[0] & 0x0f));
        let (marker, pt) = (head[1] & 0x80 != 0, head[1] & 0x7f);
        let seq = u16::from_be_bytes([head[2], head[3]]);
        let timestamp = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let ssrc = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        let mut at = 12 + 4 * csrcs;
        let mut extensions = Extension::None;
        if extended {
            let head = datagram.get(at..at + 4).ok_or(NotRtp("cut off in the extension"))?;
            let (profile, words) =
                (u16::from_be_bytes([head[0], head[1]]), usize::from(u16::from_be_bytes([head[2], head[3]])));
            at += 4;
            if datagram.len() < at + 4 * words {
                return Err(NotRtp("cut off in the extension"));
            }
            let body = datagram.slice(at..at + 4 * words);
            at += 4 * words;
            extensions = match profile {
                0xbede => Extension::OneByte(body),
                p if p & 0xfff0 == 0x1000 => Extension::TwoByte(body),
                _ => Extension::None,
            };
        }
        let padding = match (padded, datagram.last()) {
            (true, Some(0)) => return Err(NotRtp("padding of no bytes")),
            (true, Some(n)) => usize::from(*n),
            _ => 0,
        };
        let end = datagram.len().checked_sub(padding).filter(|end| *end >= at).ok_or(NotRtp("cut off"))?;
        Ok(Packet { marker, pt, seq, timestamp, ssrc, extensions, payload: datagram.slice(at..end) })
    }

    /// The value of the header extension with that id.
    pub fn extension(&self, id: u8) -> Option<&[u8]> {
        let (mut rest, two) = match &self.extensions {
            Extension::None => return None,
            Extension::OneByte(body) => (&body[..], false),
            Extension::TwoByte(body) => (&body[..], true),
        };
        loop {
            let (&first, tail) = rest.split_first()?;
            if first == 0 {
                rest = tail;
                continue;
            }
            let (this, length, tail) = if two {
                let (&length, tail) = tail.split_first()?;
                (first, usize::from(length), tail)
            } else if first >> 4 == 15 {
                return None;
            } else {
                (first >> 4, usize::from(first & 0x0f) + 1, tail)
            };
            let value = tail.get(..length)?;
            if this == id {
                return Some(value);
            }
            rest = &tail[length..];
        }
    }

    /// The same with another payload, as one that is taken out of a retransmission (RFC 4588).
    #[must_use]
    pub fn with(self, pt: u8, seq: u16, ssrc: u32, payload: Bytes) -> Self {
        Packet { pt, seq, ssrc, payload, ..self }
    }
}

/// Whether a datagram on a port with STUN, DTLS and RTP is RTP or RTCP (RFC 7983).
pub fn is_rtp_or_rtcp(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|b| (128..=191).contains(b))
}

/// Whether what [`is_rtp_or_rtcp`] found is RTCP (RFC 5761).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|b| (192..=223).contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_packet_with_extensions_and_padding() {
        let mut raw = vec![0xb0, 0xe0, 0x12, 0x34, 0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef];
        raw.extend([0xbe, 0xde, 0, 2, 0x10, b'0', 0x32, 1, 2, 3, 0, 0]);
        raw.extend([7, 8, 9, 0, 0, 3]);
        let packet = Packet::parse(raw.into()).unwrap();
        assert_eq!((packet.marker, packet.pt, packet.seq, packet.timestamp), (true, 96, 0x1234, 9));
        assert_eq!(packet.ssrc, 0xdead_beef);
        assert_eq!(packet.extension(1), Some(&b"0"[..]));
        assert_eq!(packet.extension(3), Some(&[1, 2, 3][..]));
        assert_eq!(packet.extension(2), None);
        assert_eq!(&packet.payload[..], [7, 8, 9]);
    }

    #[test]
    fn refuses_what_is_cut_short() {
        let raw = [0x90, 0x60, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0xbe, 0xde, 0, 9];
        for end in 0..raw.len() {
            assert!(Packet::parse(Bytes::copy_from_slice(&raw[..end])).is_err());
        }
        assert!(Packet::parse(Bytes::copy_from_slice(&raw)).is_err());
    }
}
