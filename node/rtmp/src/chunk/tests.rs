use super::*;
use proptest::prelude::*;

fn read_all(reader: &mut Reader, data: &[u8], cuts: &[usize]) -> Vec<Message> {
    let (mut input, mut rest, mut messages) = (BytesMut::new(), data, Vec::new());
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let n = cuts.next().map_or(rest.len(), |c| (*c).min(rest.len()));
        input.put_slice(&rest[..n]);
        rest = &rest[n..];
        while let Some(message) = reader.read(&mut input).unwrap() {
            messages.push(message);
        }
    }
    assert_eq!(reader.buffered(), 0);
    messages
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u32>(), prop_oneof![Just(8u8), Just(9), Just(18), Just(20)], 0u32..3, 0usize..5000).prop_map(
        |(timestamp, type_id, stream_id, length)| Message {
            timestamp,
            type_id,
            stream_id,
            payload: (0..length).map(|i| (i * 31 + length) as u8).collect::<Vec<_>>().into(),
        },
    )
}

fn encode(messages: &[Message], chunk_size: u32) -> BytesMut {
    let mut out = BytesMut::new();
    let control = Outgoing { timestamp: 0, type_id: kind::SET_CHUNK_SIZE, stream_id: 0 };
    write(&mut out, 2, DEFAULT_CHUNK_SIZE, control, &[&chunk_size.to_be_bytes()]);
    for m in messages {
        let header = Outgoing { timestamp: m.timestamp, type_id: m.type_id, stream_id: m.stream_id };
        let (a, b) = m.payload.split_at(m.payload.len() / 3);
        write(&mut out, m.type_id, chunk_size, header, &[a, b]);
    }
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        messages in proptest::collection::vec(message(), 0..8),
        chunk_size in 1u32..6000,
        cuts in proptest::collection::vec(1usize..3000, 1..12),
    ) {
        let data = encode(&messages, chunk_size);
        prop_assert_eq!(read_all(&mut Reader::new(Limits::default()), &data, &cuts), messages);
    }

    #[test]
    fn anything_is_survived_within_the_limit(
        data in proptest::collection::vec(any::<u8>(), 0..4000),
        cut in 1usize..500,
    ) {
        let limits = Limits { buffered: 1000, ..Limits::default() };
        let mut reader = Reader::new(limits);
        let mut input = BytesMut::new();
        'all: for piece in data.chunks(cut) {
            input.put_slice(piece);
            loop {
                match reader.read(&mut input) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
            }
            prop_assert!(input.len() < 18);
            prop_assert!(reader.buffered() <= 1000);
            let capacity: usize = reader.streams.iter().map(|s| s.body.capacity()).sum();
            prop_assert!(capacity <= reader.streams.len() * FIRST_ALLOCATION + 4000);
        }
    }
}

#[test]
fn all_header_types() {
    let mut data = BytesMut::new();
    // Type 0 at 1000 ms, then type 1 (+40, new length), type 2 (+20), type 3 (+20 again).
    data.put_slice(&[0x04, 0, 0x03, 0xe8, 0, 0, 2, 9, 1, 0, 0, 0, b'a', b'b']);
    data.put_slice(&[0x44, 0, 0, 40, 0, 0, 1, 9, b'c']);
    data.put_slice(&[0x84, 0, 0, 20, b'd']);
    data.put_slice(&[0xc4, b'e']);
    let got: Vec<_> = read_all(&mut Reader::new(Limits::default()), &data, &[3])
        .into_iter()
        .map(|m| (m.timestamp, m.stream_id, m.payload.to_vec()))
        .collect();
    let want = [(1000, b"ab".to_vec()), (1040, b"c".to_vec()), (1060, b"d".to_vec()), (1080, b"e".to_vec())];
    assert_eq!(got, want.map(|(t, p)| (t, 1, p)));
}

#[test]
fn chunk_stream_ids_of_two_and_three_bytes() {
    let mut data = BytesMut::new();
    data.put_slice(&[0x00, 10, 0, 0, 1, 0, 0, 1, 8, 1, 0, 0, 0, b'x']);
    data.put_slice(&[0x01, 2, 1, 0, 0, 1, 0, 0, 1, 8, 1, 0, 0, 0, b'y']);
    let mut reader = Reader::new(Limits::default());
    assert_eq!(read_all(&mut reader, &data, &[1]).len(), 2);
    assert_eq!(reader.streams.iter().map(|s| s.csid).collect::<Vec<_>>(), [74, 2 + 256 + 64]);
}

#[test]
fn interleaved_messages_and_an_aborted_one() {
    let mut data = BytesMut::new();
    let begin = |csid: u8, byte: u8| {
        let mut chunk = vec![csid, 0, 0, 5, 0, 0, 200, 9, 1, 0, 0, 0];
        chunk.extend_from_slice(&[byte; 128]);
        chunk
    };
    data.put_slice(&begin(4, 1));
    data.put_slice(&begin(5, 2));
    data.put_slice(&begin(6, 3));
    write(
        &mut data,
        2,
        128,
        Outgoing { timestamp: 0, type_id: kind::ABORT, stream_id: 0 },
        &[&4u32.to_be_bytes()],
    );
    data.put_u8(0xc6);
    data.put_slice(&[3; 72]);
    data.put_u8(0xc5);
    data.put_slice(&[2; 72]);
    let got = read_all(&mut Reader::new(Limits::default()), &data, &[100]);
    assert_eq!(got.iter().map(|m| m.payload[0]).collect::<Vec<_>>(), [3, 2]);
    assert!(got.iter().all(|m| m.payload.len() == 200));
}

#[test]
fn type_3_chunks_with_and_without_the_extended_timestamp() {
    for repeated in [true, false] {
        let mut data = BytesMut::new();
        data.put_slice(&[0x04, 0xff, 0xff, 0xff, 0, 0, 130, 9, 1, 0, 0, 0, 0x01, 0x02, 0x03, 0x04]);
        data.put_slice(&[7; 128]);
        data.put_u8(0xc4);
        if repeated {
            data.put_slice(&[1, 2, 3, 4]);
        }
        data.put_slice(&[7; 2]);
        // The next message shows whether the reader is still in step (and is long enough to be peeked into).
        data.put_slice(&[0x05, 0, 0, 0, 0, 0, 2, 8, 1, 0, 0, 0, 1, 1]);
        let got = read_all(&mut Reader::new(Limits::default()), &data, &[1000]);
        assert_eq!(got.len(), 2);
        assert_eq!((got[0].timestamp, got[0].payload.len()), (0x0102_0304, 130));
    }
}

#[test]
fn limits_hold() {
    let limits = Limits::default();
    let long = |type_id| [4u8, 0, 0, 0, 0xff, 0xff, 0xff, type_id, 0, 0, 0, 0];
    let read = |data: &[u8]| Reader::new(limits).read(&mut BytesMut::from(data));
    assert!(matches!(read(&long(20)), Err(Error::MessageTooLarge { type_id: 20, .. })));
    assert!(matches!(read(&long(9)), Ok(None)));
    assert!(matches!(read(&[0xc4, 1]), Err(Error::NoHeader(4))));
    assert!(matches!(read(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Error::ChunkSize(0))));
    let mut many = BytesMut::new();
    for csid in 3..40u8 {
        many.put_slice(&[csid, 0, 0, 0, 0, 0, 1, 8, 0, 0, 0, 0, 0]);
    }
    let mut reader = Reader::new(limits);
    let result = std::iter::repeat_with(|| reader.read(&mut many)).find(|r| !matches!(r, Ok(Some(_))));
    assert!(matches!(result, Some(Err(Error::ChunkStreams(32)))));
}

#[test]
fn a_whole_message_is_not_copied() {
    let payload = vec![9u8; 5000];
    let mut out = BytesMut::new();
    let header = Outgoing { timestamp: 1, type_id: kind::SET_CHUNK_SIZE, stream_id: 0 };
    write(&mut out, 2, 128, header, &[&OUR_CHUNK_SIZE.to_be_bytes()]);
    write(&mut out, 6, OUR_CHUNK_SIZE, Outgoing { type_id: kind::VIDEO, ..header }, &[&payload]);
    let place = out.as_ptr() as usize + out.len() - payload.len();
    let message = Reader::new(Limits::default()).read(&mut out).unwrap().unwrap();
    assert_eq!(message.payload.as_ptr() as usize, place);
}
