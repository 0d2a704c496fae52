//! The RTMP handshake, both ends, without I/O.
//!
//! The server answers the simple handshake of the specification and the complex one (Flash Player 9 and later,
//! FMLE, librtmp, FFmpeg), where C1 and S1 carry an HMAC-SHA256 digest at an offset that four bytes of the
//! packet give, in one of two layouts. The client sends the simple one, which every server takes.

use bytes::{Buf, BufMut, BytesMut};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::Error;

/// Length of C1, S1, C2 and S2.
pub const PACKET: usize = 1536;

const VERSION: u8 = 3;
const DIGEST: usize = 32;
const CLIENT_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001";
/// Follows the text keys where a peer proves that it read the other's digest.
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e,
    0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];
/// The version in S1 that tells clients that the digest is there.
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];

/// Where the digest lies: behind the four offset bytes at 8 (scheme 0) or at 772 (scheme 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    First,
    Second,
}

impl Scheme {
    fn digest_at(self, packet: &[u8; PACKET]) -> usize {
        let base = match self {
            Scheme::First => 8,
            Scheme::Second => 772,
        };
        let sum: usize = packet[base..base + 4].iter().map(|b| usize::from(*b)).sum();
        sum % 728 + base + 4
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn digest_of(packet: &[u8; PACKET], at: usize, key: &[u8]) -> [u8; DIGEST] {
    hmac(key, &[&packet[..at], &packet[at + DIGEST..]])
}

fn find_digest(packet: &[u8; PACKET], key: &[u8]) -> Option<(Scheme, [u8; DIGEST])> {
    [Scheme::Second, Scheme::First].into_iter().find_map(|scheme| {
        let at = scheme.digest_at(packet);
        let digest = digest_of(packet, at, key);
        (packet[at..at + DIGEST] == digest).then_some((scheme, digest))
    })
}

/// A packet of 1536 bytes made from `seed`: only the peer's digest or echo depends on it, so it need not be
/// unguessable, only different each time.
fn noise(seed: u64) -> [u8; PACKET] {
    let mut state = seed | 1;
    let mut packet = [0; PACKET];
    for chunk in packet[8..].chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    packet
}

/// The server's side of a handshake.
#[derive(Debug)]
pub struct Server {
    seed: u64,
    answered: bool,
    complex: bool,
}

impl Server {
    /// `seed` makes the random part of S1 and S2; take a different one for each connection.
    pub fn new(seed: u64) -> Self {
        Server { seed, answered: false, complex: false }
    }

    /// Takes what it can from `input` and appends what is to be sent to `output`. True when it is done; what
    /// is left in `input` are chunks then.
    ///
    /// # Errors
    /// When the client's version is not 3. What C2 holds is not checked: real clients send anything.
    pub fn advance(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<bool, Error> {
        if !self.answered {
            let Some(packet) = first(input)? else { return Ok(false) };
            self.answer(&packet, output);
            self.answered = true;
        }
        if input.len() < PACKET {
            return Ok(false);
        }
        input.advance(PACKET);
        Ok(true)
    }

    /// Whether the client used the complex handshake. Known once C1 was read.
    pub fn is_complex(&self) -> bool {
        self.complex
    }

    fn answer(&mut self, c1: &[u8; PACKET], output: &mut BytesMut) {
        // A client that knows of digests puts its version where the simple handshake has zeros.
        let digest = if c1[4..8] == [0; 4] { None } else { find_digest(c1, CLIENT_KEY) };
        let mut s1 = noise(self.seed);
        output.reserve(1 + 2 * PACKET);
        output.put_u8(VERSION);
        match digest {
            None => {
                output.put_slice(&s1);
                output.put_slice(c1);
            }
            Some((scheme, client_digest)) => {
                self.complex = true;
                s1[4..8].copy_from_slice(&SERVER_VERSION);
                let at = scheme.digest_at(&s1);
                let digest = digest_of(&s1, at, SERVER_KEY);
                s1[at..at + DIGEST].copy_from_slice(&digest);
                output.put_slice(&s1);

                let mut s2 = noise(self.seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15);
                let key = hmac(&[SERVER_KEY, &KEY_TAIL].concat(), &[&client_digest]);
                let proof = hmac(&key, &[&s2[..PACKET - DIGEST]]);
                s2[PACKET - DIGEST..].copy_from_slice(&proof);
                output.put_slice(&s2);
            }
        }
    }
}

/// The client's side of a simple handshake.
#[derive(Debug)]
pub struct Client {
    seed: u64,
    state: ClientState,
}

#[derive(Debug, PartialEq, Eq)]
enum ClientState {
    Start,
    AwaitS1,
    AwaitS2,
}

impl Client {
    /// `seed` makes the random part of C1.
    pub fn new(seed: u64) -> Self {
        Client { seed, state: ClientState::Start }
    }

    /// As [`Server::advance`]; call it once with no input to get C0 and C1.
    ///
    /// # Errors
    /// When the server's version is not 3.
    pub fn advance(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<bool, Error> {
        if self.state == ClientState::Start {
            output.put_u8(VERSION);
            output.put_slice(&noise(self.seed));
            self.state = ClientState::AwaitS1;
        }
        if self.state == ClientState::AwaitS1 {
            let Some(packet) = first(input)? else { return Ok(false) };
            output.put_slice(&packet);
            self.state = ClientState::AwaitS2;
        }
        if input.len() < PACKET {
            return Ok(false);
        }
        input.advance(PACKET);
        Ok(true)
    }
}

/// The version byte and the packet behind it, which both sides begin with; nothing while they are not all there.
fn first(input: &mut BytesMut) -> Result<Option<[u8; PACKET]>, Error> {
    match input.first() {
        Some(&VERSION) if input.len() > PACKET => {
            input.advance(1);
            Ok(Some(take(input)))
        }
        Some(&VERSION) | None => Ok(None),
        Some(&other) => Err(Error::Version(other)),
    }
}

fn take(input: &mut BytesMut) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    input.copy_to_slice(&mut packet);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn complex_c1(scheme: Scheme) -> [u8; PACKET] {
        let mut c1 = noise(99);
        c1[4..8].copy_from_slice(&[9, 0, 124, 2]);
        let at = scheme.digest_at(&c1);
        let digest = digest_of(&c1, at, CLIENT_KEY);
        c1[at..at + DIGEST].copy_from_slice(&digest);
        c1
    }

    #[test]
    fn simple_ends_meet() {
        let (mut client, mut server) = (Client::new(1), Server::new(2));
        let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
        assert!(!client.advance(&mut BytesMut::new(), &mut to_server).unwrap());
        assert!(!server.advance(&mut to_server, &mut to_client).unwrap());
        assert!(client.advance(&mut to_client, &mut to_server).unwrap());
        to_server.put_slice(b"chunks");
        assert!(server.advance(&mut to_server, &mut to_client).unwrap());
        assert_eq!(&to_server[..], b"chunks");
        assert!(!server.is_complex());
    }

    #[test]
    fn simple_echoes_the_client() {
        let mut input = BytesMut::from(&[3u8][..]);
        input.put_slice(&noise(5));
        let mut output = BytesMut::new();
        Server::new(2).advance(&mut input, &mut output).unwrap();
        assert_eq!(&output[1 + PACKET..], &noise(5));
    }

    #[test]
    fn complex_proves_that_it_read_the_digest() {
        for scheme in [Scheme::First, Scheme::Second] {
            let c1 = complex_c1(scheme);
            let (found, client_digest) = find_digest(&c1, CLIENT_KEY).unwrap();
            assert_eq!(found, scheme);
            let mut input = BytesMut::from(&[3u8][..]);
            input.put_slice(&c1);
            let mut output = BytesMut::new();
            let mut server = Server::new(77);
            assert!(!server.advance(&mut input, &mut output).unwrap());
            assert!(server.is_complex());
            let s1: [u8; PACKET] = output[1..1 + PACKET].try_into().unwrap();
            assert_eq!(find_digest(&s1, SERVER_KEY).unwrap().0, scheme);
            let s2 = &output[1 + PACKET..];
            let key = hmac(&[SERVER_KEY, &KEY_TAIL].concat(), &[&client_digest]);
            assert_eq!(s2[PACKET - DIGEST..], hmac(&key, &[&s2[..PACKET - DIGEST]]));
        }
    }

    #[test]
    fn other_protocols_are_named() {
        let mut input = BytesMut::from(&b"GET / HTTP/1.1\r\n"[..]);
        let error = Server::new(1).advance(&mut input, &mut BytesMut::new()).unwrap_err();
        assert!(matches!(error, Error::Version(b'G')));
    }

    proptest! {
        #[test]
        fn any_split_works(cuts in proptest::collection::vec(1usize..700, 1..20)) {
            let mut all = vec![3u8];
            all.extend_from_slice(&complex_c1(Scheme::Second));
            all.extend_from_slice(&[0; PACKET]);
            let (mut server, mut input, mut output) = (Server::new(3), BytesMut::new(), BytesMut::new());
            let (mut rest, mut done) = (&all[..], false);
            for cut in cuts.iter().cycle() {
                let n = (*cut).min(rest.len());
                input.put_slice(&rest[..n]);
                rest = &rest[n..];
                done = server.advance(&mut input, &mut output).unwrap();
                if rest.is_empty() { break; }
            }
            prop_assert!(done && input.is_empty());
            prop_assert_eq!(output.len(), 1 + 2 * PACKET);
        }
    }
}
