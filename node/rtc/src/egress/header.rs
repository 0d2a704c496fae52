//! RTP headers (RFC 3550, RFC 8285): written once for a section, patched for each packet.

use crate::agreed::Extensions;

/// The largest header: 12 bytes, and 28 of extensions.
const LARGEST: usize = 40;

/// What differs from packet to packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields {
    pub(crate) seq: u16,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    /// The number of the packet in the session.
    pub(crate) transport_seq: u16,
    /// When it leaves, in microseconds of any clock.
    pub(crate) sent: u64,
}

/// A header to be patched.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    bytes: [u8; LARGEST],
    len: u8,
    transport_seq: u8,
    send_time: u8,
}

impl Header {
    /// `mid` is told until the viewer is known to have bound the SSRC.
    pub(crate) fn new(pt: u8, ssrc: u32, extensions: &Extensions, mid: Option<&str>) -> Self {
        let mut header = Header { bytes: [0; LARGEST], len: 12, transport_seq: 0, send_time: 0 };
        header.bytes[0] = 0x80;
        header.bytes[1] = pt & 0x7f;
        header.bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let mid = extensions.mid.zip(mid.filter(|m| (1..=16).contains(&m.len())));
        let ids = [extensions.transport_cc, extensions.abs_send_time, mid.map(|(id, _)| id)];
        if ids.iter().all(Option::is_none) {
            return header;
        }
        let two_byte = ids.iter().flatten().any(|id| *id > 14);
        let mut at = 16;
        let mut element = |id: u8, value: &[u8]| -> u8 {
            let head = if two_byte { 2 } else { 1 };
            let end = at + head + value.len();
            if end > LARGEST {
                return 0;
            }
            if two_byte {
                header.bytes[at..at + 2].copy_from_slice(&[id, value.len() as u8]);
            } else {
                header.bytes[at] = id << 4 | (value.len() as u8 - 1);
            }
            header.bytes[at + head..end].copy_from_slice(value);
            let value = at + head;
            at = end;
            value as u8
        };
        header.transport_seq = extensions.transport_cc.map_or(0, |id| element(id, &[0; 2]));
        header.send_time = extensions.abs_send_time.map_or(0, |id| element(id, &[0; 3]));
        if let Some((id, mid)) = mid {
            element(id, mid.as_bytes());
        }
        let end = at.next_multiple_of(4);
        let profile: u16 = if two_byte { 0x1000 } else { 0xbede };
        header.bytes[0] |= 0x10;
        header.bytes[12..14].copy_from_slice(&profile.to_be_bytes());
        header.bytes[15] = ((end - 16) / 4) as u8;
        header.len = end as u8;
        header
    }

    /// The header of a packet.
    pub(crate) fn patch(&mut self, f: Fields) -> &[u8] {
        self.bytes[1] = self.bytes[1] & 0x7f | u8::from(f.marker) << 7;
        self.bytes[2..4].copy_from_slice(&f.seq.to_be_bytes());
        self.bytes[4..8].copy_from_slice(&f.timestamp.to_be_bytes());
        if self.transport_seq > 0 {
            let at = usize::from(self.transport_seq);
            self.bytes[at..at + 2].copy_from_slice(&f.transport_seq.to_be_bytes());
        }
        if self.send_time > 0 {
            // Seconds in 6 bits, their fraction in 18.
            let time = (u128::from(f.sent) << 18) / 1_000_000;
            let at = usize::from(self.send_time);
            self.bytes[at..at + 3].copy_from_slice(&(time as u32).to_be_bytes()[1..]);
        }
        &self.bytes[..usize::from(self.len)]
    }

    /// Its size in bytes.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::Packet;

    const FIELDS: Fields =
        Fields { seq: 7, timestamp: 9, marker: true, transport_seq: 0x1234, sent: 1_500_000 };

    fn ids(mid: u8, twcc: u8, time: u8) -> Extensions {
        Extensions {
            mid: Some(mid),
            transport_cc: Some(twcc),
            abs_send_time: Some(time),
            ..Extensions::default()
        }
    }

    #[test]
    fn reads_as_it_was_written() {
        for (mid, twcc, time) in [(4, 3, 2), (14, 13, 1), (15, 3, 200)] {
            let mut header = Header::new(96, 0xdead_beef, &ids(mid, twcc, time), Some("audio-main"));
            assert!(header.len() <= LARGEST);
            let packet = Packet::parse([header.patch(FIELDS), b"x"].concat().into()).unwrap();
            assert_eq!((packet.pt, packet.seq, packet.timestamp, packet.marker), (96, 7, 9, true));
            assert_eq!((packet.ssrc, &packet.payload[..]), (0xdead_beef, &b"x"[..]));
            assert_eq!(packet.extension(twcc), Some(&[0x12, 0x34][..]));
            assert_eq!(packet.extension(time), Some(&[0x06, 0, 0][..]));
            assert_eq!(packet.extension(mid), Some(&b"audio-main"[..]));
        }
    }

    #[test]
    fn is_short_where_nothing_was_agreed_on() {
        let mut header = Header::new(96, 1, &Extensions::default(), Some("0"));
        assert_eq!(header.len(), 12);
        assert!(Packet::parse([header.patch(FIELDS), b"x"].concat().into()).is_ok());
        let long = "a mid of more than sixteen";
        assert!(Header::new(96, 1, &ids(1, 2, 3), Some(long)).len() <= LARGEST);
    }

    #[test]
    fn the_marker_does_not_stick() {
        let mut header = Header::new(96, 1, &ids(1, 2, 3), None);
        header.patch(FIELDS);
        assert_eq!(header.patch(Fields { marker: false, ..FIELDS })[1], 96);
    }
}
