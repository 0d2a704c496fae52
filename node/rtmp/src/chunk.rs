//! RTMP's chunk stream (sections 5.3 and 5.4 of the specification): messages cut into chunks, and back.
//!
//! The writer always uses full (type 0) headers, so what it makes depends on nothing that was sent before and
//! the same bytes can go to any number of connections. The reader takes all header types.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::Error;
use crate::message::kind;

/// The chunk size that both ends start with.
pub const DEFAULT_CHUNK_SIZE: u32 = 128;
/// The chunk size that we announce and write with: nearly every frame is a single chunk then.
pub const OUR_CHUNK_SIZE: u32 = 60_000;

const EXTENDED: u32 = 0xff_ffff;
/// An assembled payload starts with at most this much memory and grows as bytes really come.
const FIRST_ALLOCATION: usize = 64 * 1024;

/// A message of the chunk stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// What it is, see [`kind`].
    pub type_id: u8,
    /// The message stream it belongs to; 0 is the connection itself.
    pub stream_id: u32,
    /// Its body.
    pub payload: Bytes,
}

/// What one connection may make us hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest audio, video or aggregate message, in bytes.
    pub media: u32,
    /// The longest message of any other kind, in bytes.
    pub command: u32,
    /// How many chunk streams may be in use.
    pub chunk_streams: usize,
    /// How many bytes of unfinished messages may be held.
    pub buffered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { media: 16 << 20, command: 64 << 10, chunk_streams: 32, buffered: 20 << 20 }
    }
}

impl Limits {
    /// For a peer that may send commands only: media as little as commands, and little of it unfinished.
    #[must_use]
    pub fn commands_only(self) -> Self {
        Limits { media: self.command, buffered: 2 * self.command as usize, ..self }
    }

    fn of(&self, type_id: u8) -> u32 {
        match type_id {
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE => self.media,
            _ => self.command,
        }
    }
}

/// Puts messages together from chunks.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    chunk_size: usize,
    streams: Vec<Incoming>,
    /// The chunk being read: which of `streams`, and how many of its bytes are still to come.
    current: Option<(usize, usize)>,
    buffered: usize,
}

/// The state of one chunk stream.
#[derive(Debug)]
struct Incoming {
    csid: u32,
    timestamp: u32,
    /// The timestamp field of the last header: what a type 3 header adds when it starts a message.
    field: u32,
    extended: bool,
    length: usize,
    type_id: u8,
    stream_id: u32,
    /// What there is of the message under way.
    body: BytesMut,
    /// Whether a message is under way.
    open: bool,
}

impl Reader {
    /// A reader at the default chunk size.
    pub fn new(limits: Limits) -> Self {
        let chunk_size = DEFAULT_CHUNK_SIZE as usize;
        Reader { limits, chunk_size, streams: Vec::new(), current: None, buffered: 0 }
    }

    /// The next whole message, if `input` completes one; takes what it can from `input` and leaves less than
    /// a chunk header there. Set Chunk Size and Abort are obeyed here and not handed out.
    ///
    /// # Errors
    /// When a chunk breaks the protocol or a limit. The connection is of no use then.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Message>, Error> {
        while let Some(message) = self.next_message(input)? {
            match message.type_id {
                kind::SET_CHUNK_SIZE => {
                    let size = be32(&message.payload, "a Set Chunk Size message")?;
                    if size == 0 || size > 0x7fff_ffff {
                        return Err(Error::ChunkSize(size));
                    }
                    self.chunk_size = size.min(EXTENDED) as usize;
                }
                kind::ABORT => {
                    let csid = be32(&message.payload, "an Abort message")?;
                    if let Some(stream) = self.streams.iter_mut().find(|s| s.csid == csid) {
                        self.buffered -= stream.body.len();
                        stream.body = BytesMut::new();
                        stream.open = false;
                    }
                }
                _ => return Ok(Some(message)),
            }
        }
        Ok(None)
    }

    /// Other limits from now on. What is held already is not looked at.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Bytes of unfinished messages that are held now.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    fn next_message(&mut self, input: &mut BytesMut) -> Result<Option<Message>, Error> {
        loop {
            let Some((index, left)) = self.current else {
                match self.header(input)? {
                    Some(index) => {
                        let stream = &self.streams[index];
                        self.current = Some((index, self.chunk_size.min(stream.length - stream.body.len())));
                        continue;
                    }
                    None => return Ok(None),
                }
            };
            let stream = &mut self.streams[index];
            let take = left.min(input.len());
            if take == stream.length {
                // The message is there in one piece: its payload shares the read buffer.
                self.current = None;
                return Ok(Some(stream.close(input.split_to(take).freeze())));
            }
            if self.buffered + take > self.limits.buffered {
                return Err(Error::Buffered(self.limits.buffered));
            }
            self.buffered += take;
            if stream.body.is_empty() {
                stream.body.reserve(stream.length.min(FIRST_ALLOCATION.max(take)));
            } else if stream.body.capacity() - stream.body.len() < take {
                let doubled = (2 * stream.body.capacity()).min(stream.length);
                stream.body.reserve(doubled.saturating_sub(stream.body.len()).max(take));
            }
            stream.body.put_slice(&input[..take]);
            input.advance(take);
            if take < left {
                self.current = Some((index, left - take));
                return Ok(None);
            }
            self.current = None;
            if stream.body.len() == stream.length {
                self.buffered -= stream.length;
                let body = std::mem::take(&mut stream.body).freeze();
                return Ok(Some(stream.close(body)));
            }
        }
    }

    /// Takes a chunk header from `input` and applies it: the index of its chunk stream, or nothing while the
    /// header is not there as a whole.
    fn header(&mut self, input: &mut BytesMut) -> Result<Option<usize>, Error> {
        let mut data = Cursor(input);
        let Some(first) = data.uint(1) else { return Ok(None) };
        let fmt = first >> 6;
        let csid = match first & 0x3f {
            0 => data.uint(1).map(|b| b + 64),
            1 => data.uint(2).map(|b| (b & 0xff) << 8 | b >> 8).map(|b| b + 64),
            n => Some(n),
        };
        let Some(csid) = csid else { return Ok(None) };
        let known = self.streams.iter().position(|s| s.csid == csid);

        let header_length = [11, 7, 3, 0][fmt as usize];
        if data.0.len() < header_length {
            return Ok(None);
        }
        let mut field = if fmt < 3 { data.uint(3).unwrap_or_default() } else { 0 };
        let length_and_type = (fmt < 2)
            .then(|| (data.uint(3).unwrap_or_default() as usize, data.uint(1).unwrap_or_default() as u8));
        // The one little-endian field of RTMP.
        let stream_id = (fmt == 0).then(|| data.uint(4).unwrap_or_default().swap_bytes());

        let mut extended = field == EXTENDED;
        if fmt < 3 && extended {
            match data.uint(4) {
                Some(value) => field = value,
                None => return Ok(None),
            }
        }
        let index = match (known, fmt) {
            (Some(index), _) => index,
            (None, 0) => {
                if self.streams.len() >= self.limits.chunk_streams {
                    return Err(Error::ChunkStreams(self.limits.chunk_streams));
                }
                self.streams.push(Incoming::new(csid));
                self.streams.len() - 1
            }
            // librtmp starts its control stream with a type 1 header.
            (None, 1) if self.streams.len() < self.limits.chunk_streams => {
                self.streams.push(Incoming::new(csid));
                self.streams.len() - 1
            }
            (None, _) => return Err(Error::NoHeader(csid)),
        };
        let stream = &mut self.streams[index];
        if fmt == 3 {
            field = stream.field;
            extended = stream.extended;
            if extended {
                // The specification repeats the extended timestamp here, some encoders leave it out: it is
                // there when it has the value that is known.
                match data.peek(4) {
                    Some(value) if value == field => {
                        data.uint(4);
                    }
                    Some(_) => {}
                    None => return Ok(None),
                }
            }
        }
        let rest = data.0.len();
        input.advance(input.len() - rest);

        if stream.open {
            // A new header in the middle of a message: only type 3 is sane. Others restart the message.
            if fmt == 3 {
                return Ok(Some(index));
            }
            self.buffered -= stream.body.len();
            stream.body = BytesMut::new();
        }
        if let Some((length, type_id)) = length_and_type {
            let limit = self.limits.of(type_id);
            if length > limit as usize {
                return Err(Error::MessageTooLarge { type_id, size: length as u32, limit });
            }
            stream.length = length;
            stream.type_id = type_id;
        }
        if let Some(stream_id) = stream_id {
            stream.stream_id = stream_id;
        }
        stream.timestamp = if fmt == 0 { field } else { stream.timestamp.wrapping_add(field) };
        stream.field = field;
        stream.extended = extended;
        stream.open = true;
        Ok(Some(index))
    }
}

impl Incoming {
    fn new(csid: u32) -> Self {
        Incoming {
            csid,
            timestamp: 0,
            field: 0,
            extended: false,
            length: 0,
            type_id: 0,
            stream_id: 0,
            body: BytesMut::new(),
            open: false,
        }
    }

    fn close(&mut self, payload: Bytes) -> Message {
        self.open = false;
        Message { timestamp: self.timestamp, type_id: self.type_id, stream_id: self.stream_id, payload }
    }
}

/// Reads big-endian numbers without taking them from the buffer beneath.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn peek(&self, n: usize) -> Option<u32> {
        Some(self.0.get(..n)?.iter().fold(0, |value, b| value << 8 | u32::from(*b)))
    }

    fn uint(&mut self, n: usize) -> Option<u32> {
        let value = self.peek(n)?;
        self.0 = &self.0[n..];
        Some(value)
    }
}

fn be32(payload: &Bytes, what: &'static str) -> Result<u32, Error> {
    payload.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or(Error::Truncated(what))
}

/// Appends a message in chunks of `chunk_size` bytes. `csid` is 2 to 63; the first header is of type 0, so
/// that the bytes stand for themselves. `parts` are written one after the other as the payload.
pub fn write(out: &mut BytesMut, csid: u8, chunk_size: u32, message: Outgoing, parts: &[&[u8]]) {
    debug_assert!((2..64).contains(&csid) && chunk_size > 0);
    let length: usize = parts.iter().map(|p| p.len()).sum();
    debug_assert!(length <= EXTENDED as usize);
    let chunk_size = chunk_size as usize;
    let extended = message.timestamp >= EXTENDED;
    let chunks = length.div_ceil(chunk_size).max(1);
    out.reserve(length + 12 + 4 * usize::from(extended) + (chunks - 1) * (1 + 4 * usize::from(extended)));
    out.put_u8(csid);
    out.put_uint(u64::from(message.timestamp.min(EXTENDED)), 3);
    out.put_uint(length as u64, 3);
    out.put_u8(message.type_id);
    out.put_u32_le(message.stream_id);
    if extended {
        out.put_u32(message.timestamp);
    }
    let mut room = chunk_size;
    for part in parts {
        let mut part = *part;
        while !part.is_empty() {
            if room == 0 {
                out.put_u8(0xc0 | csid);
                if extended {
                    out.put_u32(message.timestamp);
                }
                room = chunk_size;
            }
            let (now, later) = part.split_at(part.len().min(room));
            out.put_slice(now);
            room -= now.len();
            part = later;
        }
    }
}

/// What the header of a message to be written says; its length is that of the payload.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// What it is, see [`kind`].
    pub type_id: u8,
    /// The message stream it belongs to.
    pub stream_id: u32,
}

#[cfg(test)]
mod tests;
