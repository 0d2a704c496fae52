//! H.264 frames to RTP payloads (RFC 6184, packetization mode 1), and RTP headers.

const FU_A: u8 = 28;

/// Cuts a frame of NAL units with lengths of `length_size` bytes before them, after `before` (parameter sets, without lengths), into
/// payloads of at most `most` bytes.
pub(crate) fn h264(before: &[&[u8]], frame: &[u8], length_size: u8, most: usize) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    before.iter().for_each(|nal| unit(nal, most, &mut payloads));
    let size = usize::from(length_size);
    let mut rest = frame;
    while let Some((length, behind)) = rest.split_at_checked(size).filter(|_| !rest.is_empty()) {
        let length = length.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        let Some((nal, behind)) = behind.split_at_checked(length) else { break };
        unit(nal, most, &mut payloads);
        rest = behind;
    }
    payloads
}

fn unit(nal: &[u8], most: usize, payloads: &mut Vec<Vec<u8>>) {
    let Some((first, body)) = nal.split_first() else { return };
    if nal.len() <= most {
        payloads.push(nal.to_vec());
        return;
    }
    let pieces = body.chunks(most.saturating_sub(2).max(1));
    let last = pieces.len() - 1;
    for (at, piece) in pieces.enumerate() {
        let start = if at == 0 { 0x80 } else { 0 };
        let end = if at == last { 0x40 } else { 0 };
        payloads.push([&[first & 0xe0 | FU_A, start | end | first & 0x1f], piece].concat());
    }
}

/// What stands in the RTP headers of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) pt: u8,
    pub(crate) ssrc: u32,
    pub(crate) seq: u16,
}

impl Head {
    /// The next packet's header, with header extensions in the one-byte form: id and value.
    pub(crate) fn next(
        &mut self,
        marker: bool,
        timestamp: u32,
        extensions: &[(Option<u8>, &[u8])],
    ) -> Vec<u8> {
        let used = || extensions.iter().filter_map(|(id, value)| Some((id.as_ref()?, *value)));
        let first = if used().next().is_some() { 0x90 } else { 0x80 };
        let mut header = vec![first, self.pt | if marker { 0x80 } else { 0 }];
        header.extend_from_slice(&self.seq.to_be_bytes());
        header.extend_from_slice(&timestamp.to_be_bytes());
        header.extend_from_slice(&self.ssrc.to_be_bytes());
        self.seq = self.seq.wrapping_add(1);
        if first == 0x90 {
            let mut body = Vec::new();
            for (id, value) in used() {
                body.push(id << 4 | (value.len() as u8).wrapping_sub(1) & 0x0f);
                body.extend_from_slice(value);
            }
            body.resize(body.len().next_multiple_of(4), 0);
            header.extend_from_slice(&[0xbe, 0xde]);
            header.extend_from_slice(&((body.len() / 4) as u16).to_be_bytes());
            header.extend_from_slice(&body);
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_go_alone_or_in_pieces() {
        let frame = [&[0, 0, 0, 3, 6, 1, 2][..], &[0, 0, 0, 10, 0x65, 1, 2, 3, 4, 5, 6, 7, 8, 9]].concat();
        let payloads = h264(&[&[0x67, 7]], &frame, 4, 6);
        assert_eq!(
            payloads,
            [
                &[0x67, 7][..],
                &[6, 1, 2],
                &[0x7c, 0x85, 1, 2, 3, 4],
                &[0x7c, 0x05, 5, 6, 7, 8],
                &[0x7c, 0x45, 9]
            ]
        );
        assert_eq!(h264(&[], &frame[..9], 4, 100).len(), 1, "what is cut short is left out");
        assert_eq!(h264(&[], &[], 4, 100).len(), 0);
    }

    #[test]
    fn headers_count_on() {
        let mut head = Head { pt: 96, ssrc: 5, seq: 65_535 };
        assert_eq!(head.next(true, 1, &[(None, b"x")]), [0x80, 0xe0, 255, 255, 0, 0, 0, 1, 0, 0, 0, 5]);
        let with = head.next(false, 2, &[(Some(4), b"0"), (Some(10), b"q"), (None, b"")]);
        assert_eq!(with[..4], [0x90, 96, 0, 0]);
        assert_eq!(with[12..], [0xbe, 0xde, 0, 1, 0x40, b'0', 0xa0, b'q']);
    }
}
