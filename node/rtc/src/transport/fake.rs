//! What stands in for a peer and its media in tests: it connects at the first binding request, encrypts nothing, and sends what
//! the other side asks for.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;

use crate::agreed::{IceCredentials, RemoteTransport};
use crate::egress::Sink;
use crate::peer::{Message, Output, Path, ufrag_of};

/// What a binding request is answered with, and what a goodbye is.
pub(super) const ANSWER: &[u8] = b"answer";
pub(super) const GOODBYE: &[u8] = b"goodbye";
/// A datagram that begins so ends the connection by the other side; one of the other kind by silence.
pub(super) const LEAVE: u8 = 20;
pub(super) const LOSE: u8 = 21;
/// A binding request with this in it lacks the right password.
pub(super) const FORGED: &[u8] = b"forged";
/// A datagram that begins so is more than the peer can take.
pub(super) const PANIC: u8 = 22;

#[derive(Default)]
pub(super) struct FakePeer {
    outputs: VecDeque<Output>,
    path: Option<Path>,
    goodbye: bool,
}

impl FakePeer {
    pub(super) fn set_remote(&mut self, _: RemoteTransport, _: Option<IceCredentials>, _: Instant) {}

    pub(super) fn receive(&mut self, path: Path, datagram: BytesMut, _: Instant) {
        if datagram.windows(FORGED.len()).any(|part| part == FORGED) {
            return;
        }
        if ufrag_of(&datagram).is_some() {
            self.outputs.push_back(Output::Send { path, datagram: BytesMut::from(ANSWER) });
            if self.path.replace(path) != Some(path) {
                self.outputs.push_back(Output::Selected(path));
                self.outputs.push_back(Output::Connected);
            }
            return;
        }
        match datagram.first() {
            Some(128..) => self.outputs.push_back(Output::Rtp(datagram)),
            Some(&LEAVE) => {
                self.goodbye = true;
                self.outputs.push_back(Output::Closed("the other side closed the connection".into()));
            }
            Some(&PANIC) => panic!("a datagram that nobody expected"),
            Some(&LOSE) => self.outputs.push_back(Output::Closed("no consent for 30 s".into())),
            _ => {}
        }
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        None
    }

    pub(super) fn handle_timeout(&mut self, _: Instant) {}

    pub(super) fn poll(&mut self, _: Instant) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn protect_rtp(&mut self, header: &[u8], payload: &[u8], out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(header);
        out.extend_from_slice(payload);
        true
    }

    pub(super) fn protect_rtcp(&mut self, compound: &[u8], out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(compound);
        true
    }

    pub(super) fn send(&mut self, channel: u16, message: &Message, _: Instant) -> bool {
        let Some(path) = self.path else { return false };
        let mut datagram = BytesMut::from(&channel.to_be_bytes()[..]);
        datagram.extend_from_slice(&message.payload);
        self.outputs.push_back(Output::Send { path, datagram });
        true
    }

    pub(super) fn close(&mut self, _: Instant) {
        if let Some(path) = self.path {
            self.outputs.push_back(Output::Send { path, datagram: BytesMut::from(GOODBYE) });
        }
    }

    pub(super) fn said_goodbye(&self) -> bool {
        self.goodbye
    }
}

/// Sends what a packet asks for: its bytes from the second on are pairs of how many packets, and their size in units of ten
/// bytes.
#[derive(Default)]
pub(super) struct FakeMedia {
    asked: Vec<u8>,
}

impl FakeMedia {
    pub(super) fn rtp(&mut self, packet: &[u8]) {
        self.asked.extend_from_slice(&packet[1..]);
    }

    pub(super) fn send(&mut self, sink: &mut dyn Sink) {
        for pair in std::mem::take(&mut self.asked).chunks_exact(2) {
            for n in 0..pair[0] {
                sink.rtp(&[128, n], &vec![n; 10 * usize::from(pair[1]) - 2]);
            }
        }
    }
}
