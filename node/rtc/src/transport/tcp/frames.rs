//! Frames over a byte stream (RFC 4571): a length of 16 bits, then a datagram.

use bytes::{Buf, BufMut, BytesMut};

/// The most that one frame takes, its length included.
const LARGEST: usize = 2 + u16::MAX as usize;

/// Cuts a byte stream into datagrams.
#[derive(Default)]
pub struct Frames {
    waiting: BytesMut,
}

impl Frames {
    /// A place for the next bytes, at most as many as complete the largest frame: the caller writes there, then asks
    /// [`next`](Self::next) until there are no more.
    pub fn space(&mut self) -> &mut BytesMut {
        let room = 2048.min(LARGEST.saturating_sub(self.waiting.len()).max(1));
        self.waiting.reserve(room);
        &mut self.waiting
    }

    /// The next whole datagram. Empty ones, which RFC 4571 allows, are left out.
    #[expect(clippy::should_implement_trait, reason = "more may come after None")]
    pub fn next(&mut self) -> Option<BytesMut> {
        loop {
            let length = usize::from(u16::from_be_bytes(*self.waiting.first_chunk()?));
            if self.waiting.len() < 2 + length {
                return None;
            }
            self.waiting.advance(2);
            if length > 0 {
                // Copied, so that a small datagram that is kept does not keep what came around it.
                let datagram = BytesMut::from(&self.waiting[..length]);
                self.waiting.advance(length);
                return Some(datagram);
            }
        }
    }

    /// How long the frame is that is being received, in bytes; `None` before its length is known.
    pub fn expected(&self) -> Option<usize> {
        self.waiting.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)))
    }
}

/// Appends a datagram as a frame; one that is too long for the format is left out, and false.
pub fn write(datagram: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(length) = u16::try_from(datagram.len()) else { return false };
    out.put_u16(length);
    out.extend_from_slice(datagram);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(frames: &mut Frames, bytes: &[u8]) -> Vec<Vec<u8>> {
        frames.space().extend_from_slice(bytes);
        std::iter::from_fn(|| frames.next().map(|datagram| datagram.to_vec())).collect()
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_however_it_is_cut(
            datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            cut in 1_usize..200,
        ) {
            let mut stream = Vec::new();
            for datagram in &datagrams {
                prop_assert!(write(datagram, &mut stream));
            }
            let mut frames = Frames::default();
            let read: Vec<Vec<u8>> = stream.chunks(cut).flat_map(|piece| read(&mut frames, piece)).collect();
            let written: Vec<Vec<u8>> = datagrams.into_iter().filter(|datagram| !datagram.is_empty()).collect();
            prop_assert_eq!(read, written);
            prop_assert!(frames.waiting.is_empty());
        }
    }

    #[test]
    fn a_half_frame_waits() {
        let mut frames = Frames::default();
        assert_eq!(frames.expected(), None);
        assert!(read(&mut frames, &[0]).is_empty());
        assert!(read(&mut frames, &[2, 7]).is_empty());
        assert_eq!(frames.expected(), Some(2));
        assert_eq!(read(&mut frames, &[8, 0]), [vec![7, 8]]);
    }

    #[test]
    fn what_does_not_fit_a_frame_is_refused() {
        let mut out = Vec::new();
        assert!(!write(&[0; 65536], &mut out));
        assert!(out.is_empty());
        assert!(write(&[0; 65535], &mut out));
    }
}
