//! RTMP's layers, one by one.

use bytes::{Bytes, BytesMut};
use sluice_rtmp::amf0::{self, Value};
use sluice_rtmp::chunk::{self, Limits, Message, Outgoing, Reader};
use sluice_rtmp::handshake::{Client, PACKET, Server};
use sluice_rtmp::message::{Body, Command, Writer, aggregate, kind};
use sluice_rtmp::path::Target;
use sluice_rtmp::session::Url;
use sluice_rtmp::{Error, flv};

use super::codec;
use crate::split::pieces;

/// Chunk headers of each type, and messages that change how chunks are read.
pub(crate) const CHUNK_WORDS: &[&[u8]] = &[
    &[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 16, 0], // Set Chunk Size 4096
    &[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 1],  // Set Chunk Size 1
    &[2, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 4],  // Abort of chunk stream 4
    &[4, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0],
    &[4, 0xff, 0xff, 0xff, 0, 0, 200, 9, 1, 0, 0, 0, 1, 0, 0, 0],
    &[0x44, 0, 0, 1, 0, 0, 5, 8],
    &[0x84, 0, 0, 40],
    &[0xc4],
    &[0, 10],
    &[1, 10, 10],
];

/// What commands are made of.
pub(crate) const AMF_WORDS: &[&[u8]] = &[
    &[3],
    &[0, 0, 9],
    &[10, 0, 0, 0, 1],
    &[10, 0xff, 0xff, 0xff, 0xff],
    &[8, 0, 0, 0, 0],
    &[12, 0, 0, 1, 0],
    &[0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0],
    &[0, 0x7f, 0xf8, 0, 0, 0, 0, 0, 1],
    &[5],
    &[1, 1],
    b"\x02\0\x07connect",
    b"\x02\0\x0ccreateStream",
    b"\x02\0\x07publish",
    b"\x02\0\x04play",
    b"\x02\0\x0cdeleteStream",
    b"\x02\0\x0bcloseStream",
    b"\x02\0\x0bFCUnpublish",
    b"\x02\0\x05pause",
    b"\x02\0\x0creceiveAudio",
    b"\x02\0\x0d@setDataFrame",
    b"\x02\0\x0aonMetaData",
    b"\x02\0\x07_result",
    b"\x02\0\x08onStatus",
    b"\0\x0afourCcList",
    b"\0\x06capsEx",
    b"\0\x05tcUrl",
    b"\0\x03app",
];

/// How audio and video tags begin.
pub(crate) const TAG_WORDS: &[&[u8]] = &[
    &[9, 0x17, 0, 0, 0, 0],
    &[9, 0x27, 1, 0, 0, 40],
    &[9, 0x90, b'h', b'v', b'c', b'1'],
    &[9, 0x93, b'a', b'v', b'0', b'1'],
    &[9, 0x91, b'v', b'p', b'0', b'9'],
    &[9, 0x96, 0, b'a', b'v', b'c', b'1', 0],
    &[9, 0x97, 2, 0, 0, 1, 0],
    &[8, 0xaf, 0],
    &[8, 0xaf, 1],
    &[8, 0x90, b'O', b'p', b'u', b's'],
    &[8, 0x2f],
];

/// What stream names and URLs are made of.
pub(crate) const URL_WORDS: &[&[u8]] = &[
    b"?",
    b"&",
    b"=",
    b"/",
    b"%41",
    b"%",
    b"%+1",
    b"rtmp://",
    b"rtmps://",
    b"[::1]:",
    b":1935",
    b"token=",
    b"\n",
];

/// The handshake, from both ends: however it is cut, the result is the same, and what follows is left alone.
pub(crate) fn handshake(data: &[u8]) {
    let mut server = Server::new(7);
    let whole = shake(|i, o| server.advance(i, o), [data]);
    let complex = server.is_complex();
    let mut server = Server::new(7);
    assert_eq!(
        whole,
        shake(|i, o| server.advance(i, o), pieces(data)),
        "the server's handshake depends on cuts"
    );
    assert_eq!(complex, server.is_complex());
    match &whole {
        Shaken::Refused => assert_ne!(data[0], 3, "version 3 was refused"),
        Shaken::Done { output, rest } => {
            assert_eq!(output.len(), 1 + 2 * PACKET);
            assert_eq!(rest, &data[1 + 2 * PACKET..], "bytes behind the handshake were touched");
        }
        Shaken::Waiting { output } => {
            assert!(data.len() < 1 + 2 * PACKET);
            assert_eq!(output.len(), if data.len() > PACKET { 1 + 2 * PACKET } else { 0 });
        }
    }

    let mut client = Client::new(7);
    let whole = shake(|i, o| client.advance(i, o), [data]);
    let mut client = Client::new(7);
    assert_eq!(
        whole,
        shake(|i, o| client.advance(i, o), pieces(data)),
        "the client's handshake depends on cuts"
    );
    if let Shaken::Done { output, rest } = &whole {
        assert_eq!(output.len(), 1 + 2 * PACKET);
        assert_eq!(rest, &data[1 + 2 * PACKET..]);
    }
}

#[derive(Debug, PartialEq)]
enum Shaken {
    Refused,
    Waiting { output: BytesMut },
    Done { output: BytesMut, rest: Vec<u8> },
}

fn shake<'a>(
    mut advance: impl FnMut(&mut BytesMut, &mut BytesMut) -> Result<bool, Error>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Shaken {
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let mut done = false;
    // A client begins before anything has come.
    for piece in [&[][..]].into_iter().chain(pieces) {
        input.extend_from_slice(piece);
        if !done {
            match advance(&mut input, &mut output) {
                Ok(d) => done = d,
                Err(_) => return Shaken::Refused,
            }
        }
    }
    if done { Shaken::Done { output, rest: input.to_vec() } } else { Shaken::Waiting { output } }
}

/// Chunks: the same messages however they are cut, nothing beyond the limits, and what is written is read.
pub(crate) fn chunks(data: &[u8]) {
    let mut copy = BytesMut::new();
    let mut writer_size = chunk::DEFAULT_CHUNK_SIZE;
    let mut originals = Vec::new();
    let whole = read_chunks(Limits::default(), [data], |message| {
        // The copy is cut in chunks of another size each time; never below 4, so that the announcement of the next
        // size fits one chunk.
        writer_size = 4 + (writer_size * 7) % 300;
        Writer::default().set_chunk_size(&mut copy, writer_size);
        let Message { timestamp, type_id, stream_id, .. } = message;
        let header = Outgoing { timestamp, type_id, stream_id };
        let (front, back) = message.payload.split_at(message.payload.len() / 3);
        chunk::write(&mut copy, 4, writer_size, header, &[front, back]);
        originals.push(digest(&message));
    });
    let cut = read_chunks(Limits::default(), pieces(data), |_| {});
    assert_eq!(whole, cut, "what is read depends on how it is cut");

    let mut at = 0;
    let again = read_chunks(Limits::default(), [&copy[..]], |message| {
        assert_eq!(originals.get(at), Some(&digest(&message)), "message {at} changed on its way");
        at += 1;
    });
    assert_eq!((again.count, again.error), (originals.len(), None), "not all that was written is read");

    let small = Limits { media: 4096, command: 512, chunk_streams: 4, buffered: 6000 };
    read_chunks(small, pieces(data), |message| {
        let media = matches!(message.type_id, kind::AUDIO | kind::VIDEO | kind::AGGREGATE);
        assert!(message.payload.len() <= if media { 4096 } else { 512 }, "a message beyond its limit");
    });
}

#[derive(Debug, PartialEq)]
struct ReadChunks {
    count: usize,
    digest: u64,
    error: Option<String>,
}

fn read_chunks<'a>(
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    mut each: impl FnMut(Message),
) -> ReadChunks {
    let (mut reader, mut input) = (Reader::new(limits), BytesMut::new());
    let mut read = ReadChunks { count: 0, digest: 0, error: None };
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let message = reader.read(&mut input);
            assert!(reader.buffered() <= limits.buffered, "more is held than allowed");
            match message {
                Ok(Some(message)) => {
                    read.count += 1;
                    read.digest = read.digest.rotate_left(5) ^ digest(&message);
                    each(message);
                }
                Ok(None) => break,
                Err(error) => {
                    read.error = Some(error.to_string());
                    return read;
                }
            }
        }
        assert!(input.len() < 18, "{} bytes wait where a header is at most 18", input.len());
    }
    read
}

fn digest(message: &Message) -> u64 {
    let head =
        [message.timestamp, u32::from(message.type_id), message.stream_id, message.payload.len() as u32];
    let head = head.iter().fold(0u64, |d, n| d.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(*n));
    head ^ crate::Random::of(&message.payload).bits()
}

/// AMF0: bounded, and what was decoded comes back the same when it is encoded.
pub(crate) fn amf0(data: &[u8]) {
    if let Ok(values) = amf0::decode(data) {
        let mut count = 0;
        values.iter().for_each(|v| count += measure(v, 0));
        assert!(count <= amf0::MAX_VALUES);
        round_trip(&values);
    }
}

fn measure(value: &Value, depth: usize) -> usize {
    assert!(depth <= amf0::MAX_DEPTH, "nested deeper than the limit");
    1 + match value {
        Value::Object(p) | Value::EcmaArray(p) => p.iter().map(|(_, v)| measure(v, depth + 1)).sum(),
        Value::StrictArray(v) => v.iter().map(|v| measure(v, depth + 1)).sum(),
        _ => 0,
    }
}

fn round_trip(values: &[Value]) {
    let encoded = encode(values);
    if has_long_keys(values) {
        return; // keys beyond 65535 bytes are cut when they are written
    }
    // Compared by their encodings, since a NaN is not equal to itself.
    let again = amf0::decode(&encoded).expect("what was written is read");
    assert_eq!(encode(&again), encoded, "a value changed on its way");
}

fn encode(values: &[Value]) -> BytesMut {
    let mut out = BytesMut::new();
    values.iter().for_each(|v| v.encode(&mut out));
    out
}

fn has_long_keys(values: &[Value]) -> bool {
    values.iter().any(|v| match v {
        Value::Object(p) | Value::EcmaArray(p) => {
            p.iter().any(|(k, v)| k.len() > usize::from(u16::MAX) || has_long_keys(std::slice::from_ref(v)))
        }
        Value::StrictArray(v) => has_long_keys(v),
        _ => false,
    })
}

/// Messages by type: the first byte is the type id.
pub(crate) fn message(data: &[u8]) {
    let Some((&type_id, payload)) = data.split_first() else { return };
    let message = Message { timestamp: 5, type_id, stream_id: 1, payload: Bytes::copy_from_slice(payload) };
    match message.clone().parse() {
        Ok(Body::Command(command)) => {
            let values = command_values(&command);
            round_trip(&values);
            let mut out = BytesMut::new();
            Writer::default().command(&mut out, 1, &command);
            let mut reader = Reader::new(Limits { command: 1 << 24, ..Limits::default() });
            let read = reader.read(&mut out).expect("what was written is read").expect("as a whole");
            let Ok(Body::Command(again)) = read.parse() else { panic!("{command:?} is no command any more") };
            if !has_long_keys(&values) {
                assert_eq!(encode(&command_values(&again)), encode(&values));
            }
        }
        Ok(Body::Data(values)) => round_trip(&values),
        _ => {}
    }
}

/// Aggregate messages, which may hold others.
pub(crate) fn aggregates(data: &[u8]) {
    let payload = Bytes::copy_from_slice(data);
    unfold(&Message { timestamp: 5, type_id: kind::AGGREGATE, stream_id: 1, payload }, 0);
}

fn command_values(command: &Command) -> Vec<Value> {
    let head = [Value::from(command.name.as_str()), command.transaction.into(), command.object.clone()];
    head.into_iter().chain(command.arguments.iter().cloned()).collect()
}

fn unfold(message: &Message, depth: usize) {
    let Ok(inner) = aggregate(message) else { return };
    let total: usize = inner.iter().map(|m| m.payload.len() + 11).sum();
    assert!(total <= message.payload.len(), "an aggregate holds more than its bytes");
    if let Some(first) = inner.first() {
        assert_eq!(first.timestamp, message.timestamp, "the first message has the time of the aggregate");
    }
    for m in inner.iter().filter(|m| m.type_id == kind::AGGREGATE && depth < 8) {
        unfold(m, depth + 1);
    }
}

/// Audio and video tags (the first byte is the message's type id, 8 or 9), and what follows from them.
pub(crate) fn tag(data: &[u8]) {
    let Some((&type_id, body)) = data.split_first() else { return };
    media(type_id, Bytes::copy_from_slice(body));
}

/// What an ingest does with an audio or video message.
pub(crate) fn media(type_id: u8, body: Bytes) {
    if type_id == kind::AUDIO {
        let Ok(parsed) = flv::parse_audio(body) else { return };
        match parsed {
            flv::Audio::Config { codec, record } => codec::audio(codec, record),
            flv::Audio::Frame { codec, payload } => codec::sound(codec, &payload),
            flv::Audio::End | flv::Audio::Nothing => {}
        }
        return;
    }
    let Ok(parsed) = flv::parse_video(body) else { return };
    match parsed {
        flv::Video::Config { codec, record } => codec::video(codec, record),
        flv::Video::Frame { codec, keyframe, composition, ref payload } => {
            assert!(
                composition.abs() <= 8_400_000_000,
                "composition {composition} is more than 24 bits tell"
            );
            codec::picture(codec, payload);
            // Written again in our form it is the same picture; only what has no place in that form is lost.
            let millis = (composition / 1000) as i32;
            let has_time = matches!(codec, sluice_media::VideoCodec::H264 | sluice_media::VideoCodec::Hevc);
            let millis = millis.clamp(-0x80_0000, 0x7f_ffff);
            let written = [&flv::video_header(codec, keyframe, millis)[..], payload].concat();
            let composition = if has_time { i64::from(millis) * 1000 } else { 0 };
            let same = flv::Video::Frame { codec, keyframe, composition, payload: payload.clone() };
            assert_eq!(flv::parse_video(written.into()).ok(), Some(same));
        }
        flv::Video::End | flv::Video::Nothing => {}
    }
}

/// Stream names and URLs as clients send them: `app`, `tcUrl` and name, each on a line.
pub(crate) fn target(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(3, '\n');
    let [app, url, name] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    let target = Target::new(app, url, name);
    if !Target::app(app).is_empty() {
        assert_eq!(target.app, Target::app(app), "connect and publish disagree about the app");
    }
    let mut keys: Vec<&str> = target.query.iter().map(|(key, _)| &key[..]).collect();
    keys.sort_unstable();
    assert!(keys.windows(2).all(|w| w[0] != w[1]), "a parameter is there twice");
    // Whatever bytes are percent-encoded come back.
    let encoded: String = name.bytes().map(|b| format!("%{b:02x}")).collect();
    if !name.is_empty() {
        assert_eq!(Target::new("app", "", &encoded).stream, name);
    }
    // Percent signs that encode nothing stay.
    if !app.is_empty() && !app.contains(['/', '?', '%']) {
        for odd in ["%", "%4", "%+1", "%-1", "%zz", "% 1"] {
            let odd = format!("{odd}{}", if odd.len() < 3 { "" } else { app });
            assert_eq!(
                Target::new(&odd, "", "").app,
                odd,
                "something that is not percent-encoded was decoded"
            );
        }
    }
    if let Some(url) = Url::parse(&text) {
        assert!(!url.host.is_empty() && !url.app.is_empty() && !url.name.is_empty());
    }
}
