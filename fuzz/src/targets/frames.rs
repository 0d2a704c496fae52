//! Frames of ICE over TCP (RFC 4571).

use sluice_rtc::transport::tcp::frames::{Frames, write};

use crate::split::pieces;

/// Lengths: of nothing, of little, and of the most there can be.
pub(crate) const WORDS: &[&[u8]] = &[&[0, 0], &[0, 1, 7], &[0, 20], &[0xff, 0xff], &[5, 0xdc]];

/// However a stream is cut, the same datagrams come out of it, none of them empty; and written again they are what was read,
/// but for the empty ones.
pub(crate) fn stream(data: &[u8]) {
    let mut whole = Frames::default();
    whole.space().extend_from_slice(data);
    let datagrams: Vec<Vec<u8>> =
        std::iter::from_fn(|| whole.next()).map(|datagram| datagram.to_vec()).collect();

    let mut cut = Frames::default();
    let mut read = datagrams.iter();
    for piece in pieces(data) {
        cut.space().extend_from_slice(piece);
        while let Some(datagram) = cut.next() {
            assert!(!datagram.is_empty());
            assert_eq!(read.next().map(Vec::as_slice), Some(&datagram[..]));
        }
    }
    assert_eq!(read.next(), None);
    assert_eq!(whole.expected(), cut.expected());

    let mut written = Vec::new();
    assert!(datagrams.iter().all(|datagram| write(datagram, &mut written)));
    let mut again = Frames::default();
    again.space().extend_from_slice(&written);
    assert!(datagrams.iter().all(|datagram| again.next().as_deref() == Some(datagram)));
    assert_eq!((again.next(), again.expected()), (None, None));
}
