//! What nodes say of themselves: datagrams and the mesh.

use sluice_cluster::member::{BootId, NodeId};
use sluice_cluster::membership::datagram::{Datagram, MAX_BYTES, parse};
use sluice_cluster::mesh::message::{Decoder, Message};

use crate::Random;
use crate::split::pieces;

/// A read from a socket is at most this long.
const READ: usize = 64 << 10;

/// Parts of the mesh's messages.
pub(crate) const MESH_WORDS: &[&[u8]] = &[
    &[0, 0, 0, 40],
    b"{\"type\":\"",
    b"\"hello\"",
    b"\"tick\"",
    b"\"update\"",
    b"\"member\":{\"id\":\"n1\",\"boot\":1,\"host\":\"h\",\"ports\":{}}",
    b"\"owned\":{\"put\":[]}",
    b"\"carried\":{\"gone\":[[\"a\",\"b\"]]}",
    b"\"epoch\":18446744073709551615",
];

/// A datagram as it comes from anybody: it is not ours. One of our own, made from the input, is read as it was
/// written, and not after any change.
pub(crate) fn datagram(data: &[u8]) {
    let key = [7; 32];
    assert!(parse(data, &key).is_err(), "a datagram without the key is taken");
    let mut random = Random::of(data);
    let name = String::from_utf8_lossy(data);
    let (id, host) = name.split_at(name.floor_char_boundary(random.below(name.len() + 1)));
    let ours = Datagram {
        id: NodeId::new(id),
        boot: BootId(1 + random.bits() as u32 % 0xff_ffff),
        counter: random.bits(),
        host: host.to_owned(),
        port: random.bits() as u16,
    };
    let Some(mut bytes) = ours.encode(&key) else { return };
    assert!(bytes.len() <= MAX_BYTES);
    if let Ok(read) = parse(&bytes, &key) {
        assert_eq!(read, ours);
    }
    let at = random.below(bytes.len());
    bytes[at] ^= 1 << random.below(8);
    assert!(parse(&bytes, &key).is_err(), "a changed datagram is taken");
}

/// Bytes of a link of the mesh: the same messages however they are cut.
pub(crate) fn mesh(data: &[u8]) {
    assert_eq!(decode(data.chunks(READ)), decode(pieces(data)), "what is read depends on how it is cut");
    let _ = Message::parse(data);
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Option<String>) {
    let (mut decoder, mut all) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.buffer.extend_from_slice(piece);
        loop {
            match decoder.next() {
                Ok(Some(message)) => all.push(format!("{message:?}")),
                Ok(None) => break,
                Err(error) => return (all, Some(error.to_string())),
            }
        }
    }
    (all, None)
}
