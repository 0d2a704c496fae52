//! What nodes of a multicast cluster tell each other: where they are. Signed with a key that is derived from the cluster key.
//!
//! | bytes | |
//! |---|---|
//! | 4 | `SLMC` |
//! | 1 | version, 1 |
//! | 4 | boot |
//! | 8 | counter; grows with each datagram, over restarts too |
//! | 2 | cluster port |
//! | 1 + n | node id |
//! | 1 + n | host |
//! | 16 | the first half of HMAC-SHA256 over all before |
//!
//! Numbers are big-endian, texts UTF-8.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::identity::valid_node_id;
use crate::member::{BootId, NodeId};

/// A datagram has at most as many bytes.
pub const MAX_BYTES: usize = 512;

const MAGIC: &[u8; 4] = b"SLMC";
const VERSION: u8 = 1;
const SIGNATURE: usize = 16;

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its name.
    pub id: NodeId,
    /// This run of it.
    pub boot: BootId,
    /// Grows with each datagram, over restarts too.
    pub counter: u64,
    /// Its host name or address.
    pub host: String,
    /// Its cluster port.
    pub port: u16,
}

/// Why a datagram is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// It is not one of ours, or of another release.
    #[error("not a datagram of this release")]
    Foreign,
    /// The signature is of another key, or it was changed.
    #[error("signed with another cluster key")]
    Signature,
    /// What it says is of no use.
    #[error("damaged")]
    Damaged,
}

impl Datagram {
    /// Signed with `key`. `None` when id and host are too long for [`MAX_BYTES`] in all.
    pub fn encode(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(MAX_BYTES);
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.boot.0.to_be_bytes());
        out.extend_from_slice(&self.counter.to_be_bytes());
        out.extend_from_slice(&self.port.to_be_bytes());
        for text in [self.id.as_str(), &self.host] {
            out.push(u8::try_from(text.len()).ok()?);
            out.extend_from_slice(text.as_bytes());
        }
        let signature = mac(key, &out).finalize().into_bytes();
        out.extend_from_slice(&signature[..SIGNATURE]);
        (out.len() <= MAX_BYTES).then_some(out)
    }
}

/// Reads a datagram that is signed with `key`.
///
/// # Errors
/// Anything else; what is not of ours is found out before anything is computed.
pub fn parse(bytes: &[u8], key: &[u8; 32]) -> Result<Datagram, DatagramError> {
    if bytes.len() > MAX_BYTES || !bytes.starts_with(MAGIC) || bytes.get(MAGIC.len()) != Some(&VERSION) {
        return Err(DatagramError::Foreign);
    }
    let (signed, signature) = bytes.split_last_chunk::<SIGNATURE>().ok_or(DatagramError::Damaged)?;
    // In constant time.
    mac(key, signed).verify_truncated_left(signature).map_err(|_| DatagramError::Signature)?;
    body(&signed[MAGIC.len() + 1..]).ok_or(DatagramError::Damaged)
}

fn body(bytes: &[u8]) -> Option<Datagram> {
    let (boot, bytes) = bytes.split_first_chunk()?;
    let (counter, bytes) = bytes.split_first_chunk()?;
    let (port, bytes) = bytes.split_first_chunk()?;
    let (id, bytes) = text(bytes)?;
    let (host, rest) = text(bytes)?;
    let port = u16::from_be_bytes(*port);
    if !valid_node_id(id)
        || host.is_empty()
        || host.chars().any(char::is_control)
        || port == 0
        || !rest.is_empty()
    {
        return None;
    }
    Some(Datagram {
        id: NodeId::new(id),
        boot: BootId(u32::from_be_bytes(*boot)),
        counter: u64::from_be_bytes(*counter),
        host: host.to_owned(),
        port,
    })
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, bytes) = bytes.split_first()?;
    let (text, rest) = bytes.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

fn mac(key: &[u8; 32], bytes: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(bytes);
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn datagram() -> Datagram {
        Datagram {
            id: NodeId::new("origin-0"),
            boot: BootId(0x0012_3456),
            counter: 1_700_000_000_123,
            host: "10.0.0.7".into(),
            port: 5000,
        }
    }

    #[test]
    fn the_format_is_what_the_page_says() {
        let bytes = datagram().encode(&KEY).unwrap();
        let mut expected = b"SLMC\x01\x00\x12\x34\x56".to_vec();
        expected.extend_from_slice(&1_700_000_000_123u64.to_be_bytes());
        expected.extend_from_slice(b"\x13\x88\x08origin-0\x0810.0.0.7");
        assert_eq!(&bytes[..bytes.len() - 16], &expected[..]);
        assert_eq!(parse(&bytes, &KEY), Ok(datagram()));
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let bytes = datagram().encode(&KEY).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&changed, &KEY).is_err(), "bit {bit}");
        }
        assert_eq!(parse(&bytes, &[8; 32]), Err(DatagramError::Signature));
        assert!((0..bytes.len()).all(|cut| parse(&bytes[..cut], &KEY).is_err()));
    }

    #[test]
    fn only_what_fits() {
        let long = |id: usize, host: usize| Datagram {
            id: NodeId::new("n".repeat(id)),
            host: "h".repeat(host),
            ..datagram()
        };
        let most = long(255, 220);
        assert_eq!(parse(&most.encode(&KEY).unwrap(), &KEY), Ok(most));
        assert_eq!(long(255, 221).encode(&KEY), None);
        assert_eq!(long(256, 1).encode(&KEY), None);
    }

    #[test]
    fn a_member_that_signs_nonsense_is_ignored() {
        for bad in [
            Datagram { port: 0, ..datagram() },
            Datagram { host: String::new(), ..datagram() },
            Datagram { id: NodeId::new(""), ..datagram() },
            Datagram { id: NodeId::new("a\nb"), ..datagram() },
        ] {
            assert_eq!(parse(&bad.encode(&KEY).unwrap(), &KEY), Err(DatagramError::Damaged));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(parse(&bytes, &KEY).is_err());
        }

        #[test]
        fn signed_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut signed = b"SLMC\x01".to_vec();
            signed.extend_from_slice(&bytes);
            let signature = mac(&KEY, &signed).finalize().into_bytes();
            signed.extend_from_slice(&signature[..SIGNATURE]);
            let _ = parse(&signed, &KEY);
        }

        #[test]
        fn what_is_written_is_read(
            id in "[a-z0-9-]{1,60}", boot in any::<u32>(), counter in any::<u64>(), host in "[a-z0-9.:]{1,60}",
            port in 1u16..,
        ) {
            let datagram = Datagram { id: NodeId::new(id), boot: BootId(boot), counter, host, port };
            prop_assert_eq!(parse(&datagram.encode(&KEY).unwrap(), &KEY), Ok(datagram));
        }
    }
}
