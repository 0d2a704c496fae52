use proptest::prelude::*;

use super::*;
use crate::member::Viewers;

fn member(id: &str) -> Member {
    let member =
        serde_json::json!({"id": id, "boot": 7, "host": "h", "group": "eu", "ports": {"cluster": 5000}});
    serde_json::from_value(member).unwrap()
}

fn owned(id: &str) -> Owned {
    let stream = serde_json::json!({
        "app": "live", "id": id, "epoch": u64::MAX >> 1, "bitrate": 5, "viewers": {"hls": 1, "rtmp": 2},
    });
    serde_json::from_value(stream).unwrap()
}

fn carried(id: &str) -> Carried {
    Carried {
        app: "live".into(),
        id: id.into(),
        epoch: 3,
        path: vec![NodeId::new("a"), NodeId::new("b")],
        viewers: Viewers::default(),
    }
}

fn read_all(bytes: &[u8], piece: usize) -> Vec<Message> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.buffer.extend_from_slice(piece);
        while let Some(message) = decoder.next().unwrap() {
            messages.push(message);
        }
    }
    assert!(decoder.buffer.is_empty());
    messages
}

#[test]
fn messages_come_back_however_they_are_cut() {
    let messages = [
        Message::Hello {
            member: member("a"),
            owned: vec![owned("x")],
            carried: vec![carried("y")],
            more: true,
        },
        Message::More { owned: vec![], carried: vec![carried("z")], more: false },
        Message::Update {
            owned: Changes { put: vec![owned("é\"\\")], gone: vec![("live".into(), "x".into())] },
            carried: Changes::default(),
        },
        Message::Tick { counter: 9, member: member("a") },
        Message::Welcome { id: NodeId::new("b"), boot: BootId(1) },
        Message::Refused { reason: Refusal::Itself },
        Message::Ack { counter: 9 },
    ];
    let bytes: Vec<u8> = messages.iter().flat_map(|message| message.encode().to_vec()).collect();
    for piece in [1, 7, 100, bytes.len()] {
        assert_eq!(read_all(&bytes, piece), messages);
    }
}

#[test]
fn what_a_later_release_adds_is_ignored() {
    assert_eq!(Message::parse(br#"{"type":"sing","song":1}"#).unwrap(), Message::Unknown);
    assert_eq!(
        Message::parse(br#"{"type":"ack","counter":1,"mood":[]}"#).unwrap(),
        Message::Ack { counter: 1 }
    );
    let refused = Message::parse(br#"{"type":"refused","reason":"rain"}"#).unwrap();
    assert_eq!(refused, Message::Refused { reason: Refusal::Other });
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let long = "n".repeat(256);
    for bad in [
        Message::Tick { counter: 1, member: member("") },
        Message::Tick { counter: 1, member: member(&long) },
        Message::Tick { counter: 1, member: Member { host: long.clone(), ..member("a") } },
        Message::Hello { member: member("a"), owned: vec![owned(&long)], carried: vec![], more: false },
        Message::More { owned: vec![owned("")], carried: vec![], more: false },
        Message::More {
            owned: vec![],
            carried: vec![Carried { path: vec![NodeId::new("a"); 17], ..carried("x") }],
            more: false,
        },
        Message::Update {
            owned: Changes { put: vec![], gone: vec![("a".into(), long.as_str().into())] },
            carried: Changes::default(),
        },
    ] {
        let bytes = bad.encode();
        assert!(matches!(Message::parse(&bytes[4..]), Err(MessageError::Bounds(_))), "{bad:?}");
    }
    let mut decoder = Decoder::default();
    decoder.buffer.extend_from_slice(&u32::try_from(MAX_BYTES + 1).unwrap().to_be_bytes());
    assert!(matches!(decoder.next(), Err(MessageError::Long(_))));
}

#[test]
fn a_large_hello_is_split() {
    let name = "\u{1}".repeat(100);
    let all: Vec<Owned> = (0..20_000).map(|n| owned(&format!("{name}{n}"))).collect();
    let messages = hello(&member("a"), all.clone(), vec![carried("y")]);
    assert!(messages.len() > 2 && messages.iter().all(|message| message.len() < MAX_BYTES));
    let read: Vec<_> = messages.iter().flat_map(|message| read_all(message, message.len())).collect();
    let (mut streams, mut fetched, mut mores) = (Vec::new(), 0, Vec::new());
    for message in read {
        let (Message::Hello { owned, carried, more, .. } | Message::More { owned, carried, more }) = message
        else {
            panic!("{message:?}");
        };
        streams.extend(owned);
        fetched += carried.len();
        mores.push(more);
    }
    assert_eq!((streams, fetched), (all, 1));
    let last = mores.pop();
    assert!(last == Some(false) && mores.iter().all(|more| *more));
    assert_eq!(hello(&member("a"), vec![], vec![]).len(), 1);
    assert!(update(Changes::default(), Changes::default()).is_empty());
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(&bytes);
        while let Ok(Some(_)) = decoder.next() {}
    }

    #[test]
    fn damaged_messages_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let message =
            Message::Hello { member: member("a"), owned: vec![owned("x")], carried: vec![carried("y")], more: true };
        let mut bytes = message.encode()[4..].to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Message::parse(&bytes);
    }
}
