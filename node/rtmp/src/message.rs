//! RTMP messages as types (sections 5.4, 6 and 7 of the specification): protocol control, user control,
//! commands and data.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Error;
use crate::amf0::{self, Value};
use crate::chunk::{self, DEFAULT_CHUNK_SIZE, Message, Outgoing};

/// Message type ids.
pub mod kind {
    /// Set Chunk Size.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Abort Message.
    pub const ABORT: u8 = 2;
    /// Acknowledgement.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User Control.
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Set Peer Bandwidth.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio.
    pub const AUDIO: u8 = 8;
    /// Video.
    pub const VIDEO: u8 = 9;
    /// Data in AMF3.
    pub const DATA_AMF3: u8 = 15;
    /// A command in AMF3.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data (metadata) in AMF0.
    pub const DATA: u8 = 18;
    /// A command in AMF0.
    pub const COMMAND: u8 = 20;
    /// Several audio, video and data messages in one.
    pub const AGGREGATE: u8 = 22;
}

/// A message by its meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// So many bytes have been received by the peer.
    Acknowledgement(u32),
    /// The peer wants an acknowledgement after so many bytes.
    WindowAckSize(u32),
    /// The peer limits what may be under way, in bytes.
    SetPeerBandwidth(u32),
    /// A user control event.
    User(UserControl),
    /// A command.
    Command(Command),
    /// Data, such as metadata: a name, then values.
    Data(Vec<Value>),
    /// An audio tag body.
    Audio(Bytes),
    /// A video tag body.
    Video(Bytes),
    /// FLV tags in one message, see [`aggregate`].
    Aggregate(Bytes),
    /// Something else, to be ignored (shared objects).
    Other(u8),
}

/// User control events; those that no live session needs are `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserControl {
    /// A message stream can be used.
    StreamBegin(u32),
    /// Playback of a message stream is over.
    StreamEof(u32),
    /// How many milliseconds the client buffers.
    SetBufferLength {
        /// The message stream.
        stream_id: u32,
        /// Milliseconds.
        millis: u32,
    },
    /// Asks for a `PingResponse` with the same number.
    PingRequest(u32),
    /// The answer.
    PingResponse(u32),
    /// An event of another type.
    Other(u16),
}

/// A command, or the answer to one.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// `connect`, `_result`, `onStatus`…
    pub name: String,
    /// Answers carry the number of the command; 0 asks for none.
    pub transaction: f64,
    /// The command object; null for most.
    pub object: Value,
    /// What follows.
    pub arguments: Vec<Value>,
}

impl Command {
    /// A command with a null object.
    pub fn new(name: &str, transaction: f64, arguments: Vec<Value>) -> Self {
        Command { name: name.to_owned(), transaction, object: Value::Null, arguments }
    }

    /// The argument at `index` as text.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.arguments.get(index)?.as_str()
    }

    fn parse(data: &[u8]) -> Result<Self, Error> {
        let mut values = amf0::decode(data)?.into_iter();
        let Some(Value::String(name)) = values.next() else {
            return Err(Error::Sequence("a command without a name: the peer sent a malformed command"));
        };
        let transaction = values.next().and_then(|v| v.as_number()).unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Command { name, transaction, object, arguments: values.collect() })
    }
}

impl Message {
    /// What the message says.
    ///
    /// # Errors
    /// When it is shorter than its kind, or its AMF0 cannot be decoded.
    pub fn parse(self) -> Result<Body, Error> {
        let data = &self.payload;
        let number = |what| data.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or(Error::Truncated(what));
        Ok(match self.type_id {
            kind::ACKNOWLEDGEMENT => Body::Acknowledgement(number("an Acknowledgement")?),
            kind::WINDOW_ACK_SIZE => Body::WindowAckSize(number("a Window Acknowledgement Size")?),
            kind::SET_PEER_BANDWIDTH => Body::SetPeerBandwidth(number("a Set Peer Bandwidth")?),
            kind::USER_CONTROL => Body::User(user_control(data)?),
            kind::COMMAND => Body::Command(Command::parse(data)?),
            // The AMF3 forms hold AMF0 behind one byte that says so.
            kind::COMMAND_AMF3 => Body::Command(Command::parse(data.get(1..).unwrap_or_default())?),
            kind::DATA => Body::Data(amf0::decode(data)?),
            kind::DATA_AMF3 => Body::Data(amf0::decode(data.get(1..).unwrap_or_default())?),
            kind::AUDIO => Body::Audio(self.payload),
            kind::VIDEO => Body::Video(self.payload),
            kind::AGGREGATE => Body::Aggregate(self.payload),
            other => Body::Other(other),
        })
    }
}

fn user_control(data: &[u8]) -> Result<UserControl, Error> {
    let short = Error::Truncated("a User Control message");
    let Some((event, rest)) = data.split_first_chunk() else { return Err(short) };
    let number = |at: usize| rest.get(at..).and_then(|r| r.first_chunk()).map(|b| u32::from_be_bytes(*b));
    Ok(match (u16::from_be_bytes(*event), number(0), number(4)) {
        (0, Some(id), _) => UserControl::StreamBegin(id),
        (1, Some(id), _) => UserControl::StreamEof(id),
        (3, Some(stream_id), Some(millis)) => UserControl::SetBufferLength { stream_id, millis },
        (6, Some(time), _) => UserControl::PingRequest(time),
        (7, Some(time), _) => UserControl::PingResponse(time),
        (0 | 1 | 3 | 6 | 7, _, _) => return Err(short),
        (other, _, _) => UserControl::Other(other),
    })
}

/// Messages that one aggregate may carry: each costs memory, however short it is.
const AGGREGATE_TAGS: usize = 4096;

/// The messages inside an aggregate message. Their timestamps are moved so that the first has the
/// aggregate's own, as the specification says.
///
/// # Errors
/// When a tag is cut short, or there are too many.
pub fn aggregate(outer: &Message) -> Result<Vec<Message>, Error> {
    let short = || Error::Truncated("an aggregate message");
    let (mut data, mut messages, mut first) = (outer.payload.clone(), Vec::new(), None);
    while !data.is_empty() {
        let header: [u8; 11] = *data.first_chunk().ok_or_else(short)?;
        let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        let timestamp = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
        if data.len() < 11 + length {
            return Err(short());
        }
        let mut tag = data.split_to(11 + length);
        let offset = timestamp.wrapping_sub(*first.get_or_insert(timestamp));
        if messages.len() == AGGREGATE_TAGS {
            return Err(Error::Aggregate(AGGREGATE_TAGS));
        }
        messages.push(Message {
            timestamp: outer.timestamp.wrapping_add(offset),
            type_id: header[0] & 0x1f,
            stream_id: outer.stream_id,
            payload: tag.split_off(11),
        });
        // The back pointer; some encoders leave the last one out.
        let _ = data.split_to(data.len().min(4));
    }
    Ok(messages)
}

/// Writes control messages and commands. They go out in chunks of the size that was announced last.
#[derive(Debug)]
pub struct Writer {
    chunk_size: u32,
    scratch: BytesMut,
}

impl Default for Writer {
    fn default() -> Self {
        Writer { chunk_size: DEFAULT_CHUNK_SIZE, scratch: BytesMut::new() }
    }
}

impl Writer {
    const CONTROL: u8 = 2;
    const COMMANDS: u8 = 3;
    const STREAM: u8 = 5;

    /// The chunk size in force.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Announces a chunk size and uses it from then on.
    pub fn set_chunk_size(&mut self, out: &mut BytesMut, size: u32) {
        self.control(out, kind::SET_CHUNK_SIZE, &size.to_be_bytes());
        self.chunk_size = size;
    }

    /// Tells the peer to acknowledge after so many bytes.
    pub fn window_ack_size(&self, out: &mut BytesMut, bytes: u32) {
        self.control(out, kind::WINDOW_ACK_SIZE, &bytes.to_be_bytes());
    }

    /// Limits what the peer may have under way ("dynamic").
    pub fn peer_bandwidth(&self, out: &mut BytesMut, bytes: u32) {
        let [a, b, c, d] = bytes.to_be_bytes();
        self.control(out, kind::SET_PEER_BANDWIDTH, &[a, b, c, d, 2]);
    }

    /// Acknowledges so many bytes, modulo 2^32.
    pub fn acknowledgement(&self, out: &mut BytesMut, bytes: u32) {
        self.control(out, kind::ACKNOWLEDGEMENT, &bytes.to_be_bytes());
    }

    /// Sends a user control event.
    pub fn user(&self, out: &mut BytesMut, event: UserControl) {
        let mut body = BytesMut::with_capacity(10);
        match event {
            UserControl::StreamBegin(id) => (body.put_u16(0), body.put_u32(id)),
            UserControl::StreamEof(id) => (body.put_u16(1), body.put_u32(id)),
            UserControl::SetBufferLength { stream_id, millis } => {
                body.put_u16(3);
                (body.put_u32(stream_id), body.put_u32(millis))
            }
            UserControl::PingRequest(time) => (body.put_u16(6), body.put_u32(time)),
            UserControl::PingResponse(time) => (body.put_u16(7), body.put_u32(time)),
            UserControl::Other(event) => (body.put_u16(event), ()),
        };
        self.control(out, kind::USER_CONTROL, &body);
    }

    /// Sends a command on a message stream.
    pub fn command(&mut self, out: &mut BytesMut, stream_id: u32, command: &Command) {
        self.scratch.clear();
        Value::from(command.name.as_str()).encode(&mut self.scratch);
        Value::Number(command.transaction).encode(&mut self.scratch);
        command.object.encode(&mut self.scratch);
        command.arguments.iter().for_each(|v| v.encode(&mut self.scratch));
        let csid = if stream_id == 0 { Self::COMMANDS } else { Self::STREAM };
        let header = Outgoing { timestamp: 0, type_id: kind::COMMAND, stream_id };
        chunk::write(out, csid, self.chunk_size, header, &[&self.scratch]);
    }

    /// Sends data, such as metadata, on a message stream.
    pub fn data(&mut self, out: &mut BytesMut, stream_id: u32, timestamp: u32, values: &[Value]) {
        self.scratch.clear();
        values.iter().for_each(|v| v.encode(&mut self.scratch));
        let header = Outgoing { timestamp, type_id: kind::DATA, stream_id };
        chunk::write(out, Self::STREAM, self.chunk_size, header, &[&self.scratch]);
    }

    fn control(&self, out: &mut BytesMut, type_id: u8, body: &[u8]) {
        let header = Outgoing { timestamp: 0, type_id, stream_id: 0 };
        chunk::write(out, Self::CONTROL, self.chunk_size, header, &[body]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{Limits, Reader};
    use proptest::prelude::*;

    fn read(mut out: BytesMut) -> Vec<Body> {
        let mut reader = Reader::new(Limits::default());
        std::iter::from_fn(|| reader.read(&mut out).unwrap()).map(|m| m.parse().unwrap()).collect()
    }

    #[test]
    fn all_that_is_written_is_read() {
        let (mut w, mut out) = (Writer::default(), BytesMut::new());
        w.set_chunk_size(&mut out, 4096);
        w.window_ack_size(&mut out, 5);
        w.peer_bandwidth(&mut out, 6);
        w.acknowledgement(&mut out, 7);
        let events = [
            UserControl::StreamBegin(1),
            UserControl::StreamEof(1),
            UserControl::SetBufferLength { stream_id: 1, millis: 3000 },
            UserControl::PingRequest(9),
            UserControl::PingResponse(9),
            UserControl::Other(31),
        ];
        events.iter().for_each(|e| w.user(&mut out, *e));
        let command = Command::new("play", 4.0, vec![Value::from("cam1"), Value::Number(-2.0)]);
        w.command(&mut out, 1, &command);
        let data = vec![Value::from("onMetaData"), Value::EcmaArray(vec![("width".into(), 640.0.into())])];
        w.data(&mut out, 1, 0, &data);
        let mut want = vec![Body::WindowAckSize(5), Body::SetPeerBandwidth(6), Body::Acknowledgement(7)];
        want.extend(events.map(Body::User));
        want.extend([Body::Command(command), Body::Data(data)]);
        assert_eq!(read(out), want);
    }

    #[test]
    fn amf3_commands_are_amf0_behind_a_byte() {
        let mut payload = BytesMut::from(&[0u8][..]);
        Value::from("closeStream").encode(&mut payload);
        Value::Number(0.0).encode(&mut payload);
        let message =
            Message { timestamp: 0, type_id: kind::COMMAND_AMF3, stream_id: 1, payload: payload.freeze() };
        assert_eq!(message.parse().unwrap(), Body::Command(Command::new("closeStream", 0.0, vec![])));
    }

    #[test]
    fn an_aggregate_of_countless_empty_tags_is_refused() {
        let payload = [[9u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]; AGGREGATE_TAGS + 1].concat();
        let outer = Message { timestamp: 0, type_id: kind::AGGREGATE, stream_id: 1, payload: payload.into() };
        assert!(matches!(aggregate(&outer), Err(Error::Aggregate(_))));
    }

    #[test]
    fn aggregates_come_apart() {
        let tag = |kind: u8, time: u32, body: &[u8]| {
            let mut out = BytesMut::new();
            out.put_u8(kind);
            out.put_uint(body.len() as u64, 3);
            out.put_uint(u64::from(time & 0xff_ffff), 3);
            out.put_u8((time >> 24) as u8);
            out.put_uint(0, 3);
            out.put_slice(body);
            out.put_u32(11 + body.len() as u32);
            out
        };
        let mut payload = tag(9, 500, b"video");
        payload.unsplit(tag(8, 520, b"audio"));
        let outer =
            Message { timestamp: 9000, type_id: kind::AGGREGATE, stream_id: 1, payload: payload.freeze() };
        let inner = aggregate(&outer).unwrap();
        let got: Vec<_> = inner.iter().map(|m| (m.type_id, m.timestamp, &m.payload[..])).collect();
        assert_eq!(got, [(9, 9000, &b"video"[..]), (8, 9020, &b"audio"[..])]);
    }

    proptest! {
        #[test]
        fn anything_is_survived(type_id in 0u8..24, data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let message = Message { timestamp: 0, type_id, stream_id: 0, payload: data.into() };
            let _ = aggregate(&message);
            let _ = message.parse();
        }
    }
}
