//! As much of STUN (RFC 8489) as it takes to find the session of a binding request: nothing is verified here.

const HEADER: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0, 1];
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: u16 = 0x0006;
/// USERNAME is among the first attributes; a request with more of them before it is none of a browser's.
const ATTRIBUTES: usize = 16;

/// Whether a datagram on a port with STUN, DTLS and RTP is STUN (RFC 7983).
pub(super) fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER && datagram[0] < 4 && datagram[4..8] == COOKIE
}

/// Our user fragment in a binding request (RFC 8445, 7.2.2: the part of USERNAME before the colon).
pub(super) fn ufrag_of(datagram: &[u8]) -> Option<&str> {
    let (head, mut rest) = datagram.split_at_checked(HEADER)?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if head[..2] != BINDING_REQUEST || head[4..8] != COOKIE || length != rest.len() {
        return None;
    }
    for _ in 0..ATTRIBUTES {
        let (&[k0, k1, l0, l1], body) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if u16::from_be_bytes([k0, k1]) == USERNAME {
            let name = body.get(..length)?;
            let colon = name.iter().position(|b| *b == b':')?;
            return std::str::from_utf8(&name[..colon]).ok();
        }
        rest = body.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A binding request with that USERNAME and nothing else but a first, odd-sized attribute.
    pub(in crate::transport) fn request(username: &str) -> Vec<u8> {
        let mut body = vec![0x80, 0x22, 0, 3, b'a', b'b', b'c', 0];
        body.extend([0, 6]);
        body.extend((username.len() as u16).to_be_bytes());
        body.extend(username.as_bytes());
        body.resize(body.len().next_multiple_of(4), 0);
        let mut datagram = vec![0, 1];
        datagram.extend((body.len() as u16).to_be_bytes());
        datagram.extend(COOKIE);
        datagram.extend([7; 12]);
        datagram.extend(body);
        datagram
    }

    #[test]
    fn finds_our_user_fragment() {
        let datagram = request("ours:theirs");
        assert!(is_stun(&datagram));
        assert_eq!(ufrag_of(&datagram), Some("ours"));
        assert_eq!(ufrag_of(&request("no colon")), None);
    }

    #[test]
    fn only_whole_binding_requests_have_one() {
        let datagram = request("ours:theirs");
        for end in 0..datagram.len() {
            assert_eq!(ufrag_of(&datagram[..end]), None, "{end}");
        }
        let mut response = datagram.clone();
        response[0] = 1;
        assert!(is_stun(&response));
        assert_eq!(ufrag_of(&response), None);
        let mut many = datagram[..HEADER].to_vec();
        many.extend([0x80, 0x22, 0, 0].repeat(ATTRIBUTES));
        many.extend(&datagram[28..]);
        let length = (many.len() - HEADER) as u16;
        many[2..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(ufrag_of(&many), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_safely(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
            if whole && bytes.len() >= HEADER {
                let length = (bytes.len() - HEADER) as u16;
                bytes[..2].copy_from_slice(&BINDING_REQUEST);
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..8].copy_from_slice(&COOKIE);
            }
            if let Some(ufrag) = ufrag_of(&bytes) {
                prop_assert!(is_stun(&bytes) && !ufrag.contains(':'));
            }
        }
    }
}
