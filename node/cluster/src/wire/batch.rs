use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes on their way to a socket: what was encoded, and payloads between, which are not copied.
#[derive(Debug, Default)]
pub struct Batch {
    chunks: VecDeque<Bytes>,
    // Encoded since the last payload; follows all chunks.
    tail: BytesMut,
    length: usize,
}

impl Batch {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.length += bytes.len();
    }

    pub(super) fn put_payload(&mut self, payload: Bytes) {
        if payload.is_empty() {
            return;
        }
        self.seal();
        self.length += payload.len();
        self.chunks.push_back(payload);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&self.tail[..], |c| &c[..])
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let tail = Some(&self.tail[..]).filter(|t| !t.is_empty());
        let mut n = 0;
        for (slot, chunk) in into.iter_mut().zip(self.chunks.iter().map(|c| &c[..]).chain(tail)) {
            *slot = IoSlice::new(chunk);
            n += 1;
        }
        n
    }

    fn advance(&mut self, mut by: usize) {
        assert!(by <= self.length, "there is not that much to advance over");
        self.length -= by;
        while by > 0 {
            let Some(first) = self.chunks.front_mut() else {
                self.tail.advance(by);
                return;
            };
            if by < first.len() {
                first.advance(by);
                return;
            }
            by -= first.len();
            self.chunks.pop_front();
        }
    }
}
