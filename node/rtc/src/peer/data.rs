//! Data channels (RFC 8831, RFC 8832): an SCTP association inside of DTLS, and the channels on it.
//!
//! What the other side sends is bounded everywhere: streams, pieces that wait for the rest of their message, messages, labels.
//! Who oversteps a bound on messages loses the channel; who oversteps one on memory loses the association.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rtc_datachannel::data_channel::DataChannel;
use rtc_datachannel::message::Message as Dcep;
use rtc_datachannel::message::message_channel_ack::DataChannelAck;
use rtc_datachannel::message::message_channel_open::{ChannelType, DataChannelOpen};
use rtc_sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event as Sctp,
    Payload, PayloadProtocolIdentifier as Ppid, ServerConfig, StreamEvent, TimerConfig, TransportConfig,
    max_payload_size_for_mtu,
};
use rtc_shared::TransportProtocol;
use rtc_shared::marshal::{Marshal, Unmarshal};

use super::Message;
use crate::agreed::DtlsRole;

/// The most channels of a session.
const MAX_CHANNELS: usize = 16;
/// The longest message that is taken, in bytes.
const MAX_MESSAGE: usize = 64 << 10;
/// The longest label, in bytes.
const MAX_LABEL: usize = 1024;
/// The most that waits to be sent or acknowledged, in bytes.
const MAX_WAITING: usize = 1 << 20;
/// What the other side may have on the way to us, in bytes.
const WINDOW: u32 = 128 << 10;
/// The most streams that the other side may have touched.
const MAX_STREAMS: usize = 32;
/// The most pieces of messages that wait for the rest, by number and by bytes.
const MAX_PIECES: usize = 2048;
const MAX_PIECES_BYTES: usize = 512 << 10;
/// The header of an SCTP packet, in bytes, and the type of the chunk that acknowledges.
const COMMON_HEADER: usize = 12;
const SACK: u8 = 3;
/// What a DTLS record adds to an SCTP packet, in bytes.
const RECORD: usize = 37;
/// Associations that may be begun until one is established: each INIT that is repeated begins another.
const MAX_BEGUN: usize = 4;
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5000);

/// What came of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Open { channel: u16, label: String },
    Message { channel: u16, message: Message },
}

/// The SCTP association of a session and its channels.
pub(super) struct Data {
    endpoint: Endpoint,
    associations: Vec<(AssociationHandle, Association)>,
    established: bool,
    role: DtlsRole,
    opens: Option<String>,
    /// The longest message that the other side takes, in bytes.
    takes: usize,
    channels: Vec<Channel>,
    pieces: usize,
    pieces_bytes: usize,
    events: VecDeque<Event>,
    /// Streams that can be read as soon as the association is established.
    early: Vec<u16>,
}

struct Channel {
    id: u16,
    label: String,
    open: bool,
}

impl Data {
    /// Waits for the other side, or calls it as the DTLS client. `takes` is the longest message that the other side takes (0: any).
    pub(super) fn new(role: DtlsRole, takes: usize, opens: Option<String>, mtu: usize, now: Instant) -> Self {
        let takes = if takes == 0 { MAX_WAITING } else { takes.min(MAX_WAITING) };
        let transport = TransportConfig::default()
            .with_max_receive_buffer_size(WINDOW)
            // The library gives up for good, without a word, where the other side was silent for some repetitions. When it is gone is
            // decided by its connectivity checks.
            .with_timer_config(TimerConfig {
                max_t3_rtx_retrans: usize::MAX,
                max_reconfig_retrans: usize::MAX,
                ..TimerConfig::default()
            })
            .with_max_message_size(u32::try_from(takes).unwrap_or(u32::MAX));
        let mut config = EndpointConfig::new();
        let room = u32::try_from(mtu.saturating_sub(RECORD)).unwrap_or(u32::MAX);
        config.max_payload_size(max_payload_size_for_mtu(room));
        let server = (role == DtlsRole::Server).then(|| Arc::new(ServerConfig::new(transport.clone())));
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, Arc::new(config), server);
        let mut associations = Vec::new();
        if role == DtlsRole::Client {
            associations.extend(endpoint.connect(now, ClientConfig::new(transport), PEER).ok());
        }
        Data {
            endpoint,
            associations,
            established: false,
            role,
            opens,
            takes,
            channels: Vec::new(),
            pieces: 0,
            pieces_bytes: 0,
            events: VecDeque::new(),
            early: Vec::new(),
        }
    }

    /// An SCTP packet came.
    pub(super) fn receive(&mut self, packet: Bytes, now: Instant) {
        if self.established && self.associations.is_empty() {
            return;
        }
        let len = packet.len();
        match self.endpoint.handle(now, PEER, None, packet) {
            Some((to, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = self.associations.iter_mut().find(|(handle, _)| *handle == to)
                {
                    association.handle_event(event);
                }
            }
            Some((handle, DatagramEvent::NewAssociation(association)))
                if !self.established && self.associations.len() < MAX_BEGUN =>
            {
                self.associations.push((handle, association));
            }
            _ => return,
        }
        self.work(len, now);
    }

    /// What the associations have to say.
    fn work(&mut self, received: usize, now: Instant) {
        if let Some(at) =
            self.associations.iter().position(|(_, a)| !a.is_handshaking()).filter(|_| !self.established)
        {
            let chosen = self.associations.swap_remove(at);
            self.associations = vec![chosen];
            self.established = true;
            self.endpoint.reject_new_associations();
        }
        let early = if self.established { std::mem::take(&mut self.early) } else { Vec::new() };
        let mut events = Vec::new();
        while let Some(event) = self.next_event() {
            events.push(event);
        }
        // Counted before anything is read: one reading takes all that is complete.
        let taken = events.iter().filter(|e| matches!(e, Sctp::DatagramReceived)).count();
        if taken > 0 {
            self.pieces += taken;
            self.pieces_bytes += received;
        }
        for id in early {
            self.read(id, now);
        }
        for event in events {
            match event {
                Sctp::Connected => self.open_ours(now),
                Sctp::Stream(StreamEvent::Readable { id }) if self.established => self.read(id, now),
                // It was faster than what establishes the association.
                Sctp::Stream(StreamEvent::Readable { id }) => self.early.push(id),
                Sctp::AssociationLost { id, .. } => self.channels.retain(|c| c.id != id),
                _ => {}
            }
        }
        self.bound();
        self.drop_closed();
    }

    fn next_event(&mut self) -> Option<Sctp> {
        for (_, association) in &mut self.associations {
            // The endpoint would only be told that it may forget the association: it goes with it.
            while association.poll_endpoint_event().is_some() {}
            if let Some(event) = association.poll() {
                return Some(event);
            }
        }
        None
    }

    /// Ends what keeps too much for messages that are not complete.
    fn bound(&mut self) {
        if self.pieces == 0 {
            self.pieces_bytes = 0;
        }
        let streams = self.associations.iter().map(|(_, a)| a.stream_ids().len()).sum::<usize>();
        if self.pieces > MAX_PIECES || self.pieces_bytes > MAX_PIECES_BYTES || streams > MAX_STREAMS {
            for (_, association) in &mut self.associations {
                // It cannot fail in a way that matters: it is dropped.
                let _ = association.abort();
            }
        }
    }

    fn drop_closed(&mut self) {
        if self.established && self.associations.iter().all(|(_, a)| a.is_closed()) {
            self.channels.clear();
        }
    }

    fn association(&mut self) -> Option<&mut Association> {
        self.associations.first_mut().filter(|_| self.established).map(|(_, association)| association)
    }

    fn open_ours(&mut self, now: Instant) {
        let Some(label) = self.opens.take() else { return };
        // The DTLS client opens even streams (RFC 8832, 6).
        let id = match self.role {
            DtlsRole::Client => 0,
            DtlsRole::Server => 1,
        };
        let open = DataChannelOpen {
            channel_type: ChannelType::Reliable,
            priority: 0,
            reliability_parameter: 0,
            label: label.clone().into_bytes(),
            protocol: Vec::new(),
        };
        let Some(association) = self.association() else { return };
        if association.open_stream(id, Ppid::Binary).is_ok()
            && self.write_dcep(id, &Dcep::DataChannelOpen(open), now)
        {
            self.channels.push(Channel { id, label, open: false });
        }
    }

    fn write_dcep(&mut self, id: u16, message: &Dcep, now: Instant) -> bool {
        let Ok(bytes) = message.marshal() else { return false };
        let Some(association) = self.association() else { return false };
        association.stream(id).and_then(|mut s| s.write_sctp(now, &bytes.freeze(), Ppid::Dcep)).is_ok()
    }

    /// Reads all complete messages of a stream.
    fn read(&mut self, id: u16, now: Instant) {
        while let Some(association) = self.association() {
            let Ok(Some(chunks)) = association.stream(id).and_then(|mut s| s.read_sctp()) else { return };
            self.pieces = self.pieces.saturating_sub(chunks.chunks.len());
            self.pieces_bytes = self.pieces_bytes.saturating_sub(chunks.len());
            let taken = match chunks.to_payload(MAX_MESSAGE) {
                Ok(payload) if chunks.ppi == Ppid::Dcep => self.dcep(id, payload, now),
                Ok(payload) => self.message(id, chunks.ppi, payload),
                Err(_) => false,
            };
            if !taken {
                self.close_channel(id, now);
                return;
            }
        }
    }

    /// A message of the establishment protocol; false when the channel cannot be.
    fn dcep(&mut self, id: u16, payload: BytesMut, now: Instant) -> bool {
        let known = self.channels.iter_mut().find(|c| c.id == id);
        match (Dcep::unmarshal(&mut payload.freeze()), known) {
            (Ok(Dcep::DataChannelAck(_)), Some(channel)) => {
                if !std::mem::replace(&mut channel.open, true) {
                    self.events.push_back(Event::Open { channel: id, label: channel.label.clone() });
                }
                true
            }
            (Ok(Dcep::DataChannelOpen(open)), None) => self.accept(id, open, now),
            _ => false,
        }
    }

    fn accept(&mut self, id: u16, open: DataChannelOpen, now: Instant) -> bool {
        if self.channels.len() >= MAX_CHANNELS || open.label.len() > MAX_LABEL {
            return false;
        }
        let Ok(label) = String::from_utf8(open.label) else { return false };
        let (unordered, reliability) = DataChannel::get_reliability_params(open.channel_type);
        let Some(association) = self.association() else { return false };
        let set = association
            .stream(id)
            .and_then(|mut s| s.set_reliability_params(unordered, reliability, open.reliability_parameter));
        if set.is_err() || !self.write_dcep(id, &Dcep::DataChannelAck(DataChannelAck {}), now) {
            return false;
        }
        self.channels.push(Channel { id, label: label.clone(), open: true });
        self.events.push_back(Event::Open { channel: id, label });
        true
    }

    /// A message of the application; false when it cannot be one.
    fn message(&mut self, id: u16, ppid: Ppid, payload: BytesMut) -> bool {
        let Some(channel) = self.channels.iter_mut().find(|c| c.id == id) else { return false };
        let message = match ppid {
            Ppid::String if std::str::from_utf8(&payload).is_ok() => {
                Message { text: true, payload: payload.freeze() }
            }
            Ppid::Binary => Message { text: false, payload: payload.freeze() },
            // An SCTP message cannot be empty, so these have a byte that does not count (RFC 8831, 6.6).
            Ppid::StringEmpty => Message { text: true, payload: Bytes::new() },
            Ppid::BinaryEmpty => Message { text: false, payload: Bytes::new() },
            _ => return false,
        };
        if !std::mem::replace(&mut channel.open, true) {
            self.events.push_back(Event::Open { channel: id, label: channel.label.clone() });
        }
        self.events.push_back(Event::Message { channel: id, message });
        true
    }

    fn close_channel(&mut self, id: u16, now: Instant) {
        self.channels.retain(|c| c.id != id);
        if let Some(association) = self.association() {
            // A stream that is gone needs no closing.
            let _ = association.stream(id).and_then(|mut s| s.close(now));
        }
    }

    /// Sends a message; false when the channel is not open, the message too long or too much is waiting.
    pub(super) fn send(&mut self, channel: u16, message: &Message, now: Instant) -> bool {
        if !self.channels.iter().any(|c| c.id == channel && c.open) || message.payload.len() > self.takes {
            return false;
        }
        let Some(association) = self.association() else { return false };
        let waiting: usize = association
            .stream_ids()
            .into_iter()
            .filter_map(|id| association.stream(id).and_then(|s| s.buffered_amount()).ok())
            .sum();
        if waiting + message.payload.len() > MAX_WAITING {
            return false;
        }
        let (ppid, payload) = match (message.text, message.payload.is_empty()) {
            (true, false) => (Ppid::String, message.payload.clone()),
            (false, false) => (Ppid::Binary, message.payload.clone()),
            (true, true) => (Ppid::StringEmpty, Bytes::from_static(&[0])),
            (false, true) => (Ppid::BinaryEmpty, Bytes::from_static(&[0])),
        };
        association.stream(channel).and_then(|mut s| s.write_sctp(now, &payload, ppid)).is_ok()
    }

    /// The next thing that happened.
    pub(super) fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// SCTP packets to send, as many as may go now.
    pub(super) fn transmit(&mut self, now: Instant) -> Vec<Bytes> {
        let mut packets = Vec::new();
        for (_, association) in &mut self.associations {
            while let Some(transmit) = association.poll_transmit(now) {
                if let Payload::RawEncode(raw) = transmit.message {
                    packets.extend(raw);
                }
            }
        }
        if packets.iter().any(|packet| window_is_open(packet)) {
            // Pieces of messages that were given up never come to be read.
            (self.pieces, self.pieces_bytes) = (0, 0);
        }
        self.associations.retain(|(_, a)| !(self.established && a.is_closed()));
        packets
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.associations.iter().filter_map(|(_, a)| a.poll_timeout()).min()
    }

    /// Repeats what was not acknowledged, acknowledges what was not yet.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for (_, association) in &mut self.associations {
            association.handle_timeout(now);
        }
        self.work(0, now);
    }
}

/// Whether a packet of ours says that nothing waits at our side: a SACK (RFC 9260, 3.3.4) with the whole window.
fn window_is_open(packet: &[u8]) -> bool {
    let mut rest = packet.get(COMMON_HEADER..).unwrap_or_default();
    while let Some((&[kind, _, high, low], _)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        if kind == SACK {
            return rest.get(8..12) == Some(&WINDOW.to_be_bytes());
        }
        rest = rest.get(len.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    false
}
