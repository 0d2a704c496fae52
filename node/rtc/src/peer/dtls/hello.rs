//! The SRTP profiles in a client's first message, which may come in pieces: with post-quantum keys it is longer than a datagram.

use super::screen::{HANDSHAKE, Piece, pieces, records};
use crate::peer::srtp::Profile;

const CLIENT_HELLO_FIXED: usize = 34;
const USE_SRTP: u16 = 14;
const AEAD_AES_128_GCM: [u8; 2] = [0, 7];

/// What has come of the client's first message.
#[derive(Default)]
pub(super) struct Hello {
    body: Vec<u8>,
    /// What is there, from and to.
    have: Vec<(usize, usize)>,
}

impl Hello {
    /// Takes what a datagram has of it. It has passed the [screen](super::screen).
    pub(super) fn add(&mut self, datagram: &[u8]) {
        for record in records(datagram).flatten().filter(|r| r.kind == HANDSHAKE && r.epoch == 0) {
            for (piece, bytes) in pieces(record.body).flatten().filter(|(p, _)| p.seq == 0) {
                self.add_piece(piece, bytes);
            }
        }
    }

    fn add_piece(&mut self, piece: Piece, bytes: &[u8]) {
        if self.body.is_empty() {
            self.body.resize(piece.len, 0);
        }
        if self.body.len() == piece.len {
            self.body[piece.at..piece.at + piece.part].copy_from_slice(bytes);
            self.have.push((piece.at, piece.at + piece.part));
        }
    }

    /// The profile to use, once all of it is there.
    pub(super) fn profile(&self) -> Option<Profile> {
        let mut have = self.have.clone();
        have.sort_unstable();
        let reached = have
            .iter()
            .fold(0, |reached, (from, to)| if *from <= reached { reached.max(*to) } else { reached });
        if have.is_empty() || reached < self.body.len() {
            return None;
        }
        let offered = srtp_profiles(&self.body).unwrap_or_default();
        match offered.chunks_exact(2).any(|p| p == AEAD_AES_128_GCM) {
            true => Some(Profile::Gcm),
            false => Some(Profile::Sha1),
        }
    }
}

/// The profiles that a ClientHello (RFC 6347, 4.3.2) offers (RFC 5764, 4.1.1).
fn srtp_profiles(hello: &[u8]) -> Option<&[u8]> {
    let (_session, rest) = vector(hello.get(CLIENT_HELLO_FIXED..)?, 1)?;
    let (_cookie, rest) = vector(rest, 1)?;
    let (_suites, rest) = vector(rest, 2)?;
    let (_compression, rest) = vector(rest, 1)?;
    let (mut extensions, _) = vector(rest, 2)?;
    while let Some((kind, rest)) = extensions.split_first_chunk() {
        let (body, rest) = vector(rest, 2)?;
        if u16::from_be_bytes(*kind) == USE_SRTP {
            return vector(body, 2).map(|(profiles, _)| profiles);
        }
        extensions = rest;
    }
    None
}

/// A vector with its length before it, in one or two bytes.
fn vector(bytes: &[u8], prefix: usize) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_at_checked(prefix)?;
    let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    rest.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_hello(profiles: &[u16]) -> Vec<u8> {
        let mut hello = vec![0xfe, 0xfd];
        hello.extend([5; 32]);
        hello.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
        let mut extension: Vec<u8> = vec![0, 10, 0, 2, 9, 9];
        let list: Vec<u8> = profiles.iter().flat_map(|p| p.to_be_bytes()).collect();
        extension.extend([0, 14, 0, list.len() as u8 + 3, 0, list.len() as u8]);
        extension.extend(&list);
        extension.push(0);
        hello.extend((extension.len() as u16).to_be_bytes());
        hello.extend(extension);
        hello
    }

    fn whole(body: &[u8]) -> Hello {
        let mut hello = Hello::default();
        hello.add_piece(Piece { seq: 0, len: body.len(), at: 0, part: body.len() }, body);
        hello
    }

    #[test]
    fn gcm_is_taken_wherever_it_stands() {
        assert_eq!(whole(&client_hello(&[1, 8, 7])).profile(), Some(Profile::Gcm));
        assert_eq!(whole(&client_hello(&[7])).profile(), Some(Profile::Gcm));
        assert_eq!(whole(&client_hello(&[1, 2])).profile(), Some(Profile::Sha1));
        assert_eq!(whole(&client_hello(&[])).profile(), Some(Profile::Sha1));
    }

    #[test]
    fn pieces_come_in_any_order() {
        let body = client_hello(&[1, 7]);
        let (first, second) = body.split_at(40);
        let mut hello = Hello::default();
        assert_eq!(hello.profile(), None);
        hello.add_piece(Piece { seq: 0, len: body.len(), at: 40, part: second.len() }, second);
        assert_eq!(hello.profile(), None);
        hello.add_piece(Piece { seq: 0, len: body.len(), at: 0, part: 40 }, first);
        assert_eq!(hello.profile(), Some(Profile::Gcm));
    }

    #[test]
    fn what_is_cut_short_offers_nothing() {
        let body = client_hello(&[1, 7]);
        for len in 1..body.len() {
            assert_eq!(whole(&body[..len]).profile(), Some(Profile::Sha1), "{len}");
        }
    }
}
