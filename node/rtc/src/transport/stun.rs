//! As much of STUN (RFC 8489) as it takes to tell it from other datagrams; [`ufrag_of`](crate::peer::ufrag_of) finds whose it is.

const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Whether a datagram on a port with STUN, DTLS and RTP is STUN (RFC 7983).
pub(super) fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER && datagram[0] < 4 && datagram[4..8] == COOKIE
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::peer::ufrag_of;
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
    fn stun_is_known_by_its_cookie() {
        let datagram = request("ours:theirs");
        assert!(is_stun(&datagram));
        assert!(!is_stun(&datagram[..HEADER - 1]));
        for (at, with) in [(0, 4), (4, 0), (7, 0)] {
            let mut other = datagram.clone();
            other[at] = with;
            assert!(!is_stun(&other), "{at}");
        }
    }

    proptest! {
        #[test]
        fn whatever_names_a_session_is_stun(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
            if whole && bytes.len() >= HEADER {
                let length = (bytes.len() - HEADER) as u16;
                bytes[..2].copy_from_slice(&[0, 1]);
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..8].copy_from_slice(&COOKIE);
            }
            if let Some(ufrag) = ufrag_of(&bytes) {
                prop_assert!(is_stun(&bytes) && !ufrag.contains(':'));
            }
        }
    }
}
