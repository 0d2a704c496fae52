//! Input that no honest client sends.

use proptest::prelude::*;

use super::*;

/// How many outputs a datagram makes a peer give.
fn answers(peer: &mut Peer, path: Path, datagram: &[u8], now: Instant) -> usize {
    peer.receive(path, BytesMut::from(datagram), now);
    std::iter::from_fn(|| peer.poll(now)).count()
}

fn request(username: &str, password: &str) -> Vec<u8> {
    stun::request([1; 12], (username, password), 1, true, CERTIFICATES[1].crypto()).expect("a request")
}

#[test]
fn a_wrong_password_or_name_gets_no_answer() {
    let mut net = pair(CLEAR, 20);
    let (now, path) = (net.now, net.path(Side::Server));
    let right = credentials("server").pwd;
    let server = net.peer(Side::Server);
    for (username, password) in [
        ("server:client", "wrong"),
        ("server:client", ""),
        ("server:someone", &right),
        ("someone:client", &right),
        ("server", &right),
        ("", &right),
        ("client:server", &right),
    ] {
        assert_eq!(answers(server, path, &request(username, password), now), 0, "{username} {password}");
        assert!(server.path().is_none());
    }
    // The answer, the path, and nothing of a handshake: the server waits for it.
    assert_eq!(answers(server, path, &request("server:client", &right), now), 2);
}

#[test]
fn who_takes_himself_for_controlled_is_told() {
    use rtc_stun::attributes::{ATTR_ICE_CONTROLLED, ATTR_PRIORITY, ATTR_USERNAME};
    use rtc_stun::error_code::{CODE_ROLE_CONFLICT, ErrorCodeAttribute};
    use rtc_stun::fingerprint::FINGERPRINT;
    use rtc_stun::integrity::MessageIntegrity;
    use rtc_stun::message::{BINDING_REQUEST, Getter, Message, Setter};

    let mut net = pair(CLEAR, 21);
    let (now, path) = (net.now, net.path(Side::Server));
    let mut request = Message::new();
    request.write_header();
    BINDING_REQUEST.add_to(&mut request).expect("it fits");
    request.add(ATTR_USERNAME, b"server:client");
    request.add(ATTR_PRIORITY, &[0; 4]);
    request.add(ATTR_ICE_CONTROLLED, &[0; 8]);
    let crypto = CERTIFICATES[0].crypto();
    let integrity = MessageIntegrity::new_raw_integrity_with_provider(credentials("server").pwd, crypto);
    integrity.add_to(&mut request).expect("it fits");
    FINGERPRINT.add_to(&mut request).expect("it fits");
    net.peer(Side::Server).receive(path, BytesMut::from(&request.raw[..]), now);
    let Some(Output::Send { datagram, .. }) = net.peer(Side::Server).poll(now) else { panic!("an answer") };
    let mut answer = Message::new();
    answer.unmarshal_binary(&datagram).expect("a message");
    let mut code = ErrorCodeAttribute::default();
    code.get_from(&answer).expect("a code");
    assert!(code.code == CODE_ROLE_CONFLICT);
    assert!(datagram.len() <= request.raw.len());
    assert!(net.peer(Side::Server).path().is_none());
}

#[test]
fn what_comes_from_elsewhere_is_not_heard() {
    let mut net = pair(CLEAR, 22);
    net.connect();
    let mut packet = Vec::new();
    assert!(net.peer(Side::Client).protect_rtp(&rtp(1), b"media", &mut packet));
    let (now, path) = (net.now, net.path(Side::Server));
    let elsewhere = Path { remote: SocketAddr::from(([203, 0, 113, 9], 1)), ..path };
    assert_eq!(answers(net.peer(Side::Server), elsewhere, &packet, now), 0);
    assert_eq!(answers(net.peer(Side::Server), path, &packet, now), 1);
}

#[test]
fn paths_are_forgotten_beyond_a_few_but_never_the_selected() {
    let mut net = pair(CLEAR, 23);
    net.connect();
    let (now, path) = (net.now, net.path(Side::Server));
    let server = net.peer(Side::Server);
    for port in 1..100 {
        use rtc_stun::attributes::{ATTR_PRIORITY, ATTR_USERNAME};
        use rtc_stun::message::{BINDING_REQUEST, Message, Setter};
        let mut request = Message::new();
        request.write_header();
        BINDING_REQUEST.add_to(&mut request).expect("it fits");
        request.add(ATTR_USERNAME, b"server:client");
        request.add(ATTR_PRIORITY, &[0; 4]);
        let crypto = CERTIFICATES[0].crypto();
        let pwd = credentials("server").pwd;
        rtc_stun::integrity::MessageIntegrity::new_raw_integrity_with_provider(pwd, crypto)
            .add_to(&mut request)
            .expect("it fits");
        rtc_stun::fingerprint::FINGERPRINT.add_to(&mut request).expect("it fits");
        let from = Path { remote: SocketAddr::from(([203, 0, 113, 9], port)), ..path };
        let now = now + Duration::from_millis(u64::from(port));
        server.receive(from, BytesMut::from(&request.raw[..]), now);
    }
    assert_eq!(server.path(), Some(path), "they did not nominate");
    let valid = (1..100).filter(|port| {
        server.ice.is_valid(Path { remote: SocketAddr::from(([203, 0, 113, 9], *port)), ..path })
    });
    assert_eq!(valid.count(), 7);
}

#[test]
fn early_datagrams_are_bounded() {
    let mut net = pair(CLEAR, 24);
    let (now, path) = (net.now, net.path(Side::Server));
    let server = net.peer(Side::Server);
    for n in 0..100_u8 {
        assert_eq!(answers(server, path, &[22, 0xfe, 0xfd, n], now), 0);
    }
    assert_eq!(server.early.len(), MAX_EARLY);
    assert_eq!(answers(server, path, &[22; 5000], now), 0);
}

/// A record of a handshake message's piece.
fn piece(record: u64, seq: u16, len: u32, at: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![22, 0xfe, 0xfd];
    bytes.extend_from_slice(&record.to_be_bytes());
    bytes.extend_from_slice(&((12 + body.len()) as u16).to_be_bytes());
    bytes.push(1);
    bytes.extend_from_slice(&len.to_be_bytes()[1..]);
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&at.to_be_bytes()[1..]);
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn a_message_in_thousands_of_pieces_neither_costs_nor_kills() {
    let mut net = pair(CLEAR, 25);
    let (now, path) = (net.now, net.path(Side::Server));
    let server = net.peer(Side::Server);
    answers(server, path, &request("server:client", &credentials("server").pwd), now);
    let start = Instant::now();
    for at in 0..16_000 {
        answers(server, path, &piece(at.into(), 0, 16_000, at, b"x"), now);
        answers(server, path, &piece(u64::from(at) + 100_000, 1 + (at % 31) as u16, 0, 0, b""), now);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(server.timeout().is_some());
}

/// A server that is connected, with the client's data channel.
fn connected() -> Net {
    let mut net = pair_with(DtlsRole::Client, CLEAR, 26, |_, client| client.opens = Some("x".into()));
    net.connect();
    net.run(Duration::from_secs(1), |_| false);
    net
}

#[test]
fn records_that_are_forged_do_not_end_a_session() {
    let mut net = connected();
    let (now, path) = (net.now, net.path(Side::Server));
    let alert = |epoch: u8| [21, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 9, 9, 0, 2, 2, 40];
    for datagram in [&alert(0), &alert(1), &alert(2)] {
        assert_eq!(answers(net.peer(Side::Server), path, datagram, now), 0);
    }
    // A change of keys, which carries no proof of who sent it.
    for epoch in 0..3 {
        let change = [20, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 9, 9, 0, 1, 1];
        assert_eq!(answers(net.peer(Side::Server), path, &change, now), 0);
    }
    for n in 0..1000 {
        answers(net.peer(Side::Server), path, &piece(n, (n % 40) as u16, 10, 0, b"0123456789"), now);
    }
    media_flows(&mut net);
    let message = Message { text: true, payload: Bytes::from_static(b"still here") };
    assert!(net.peer(Side::Client).send(0, &message, now));
    net.run(Duration::from_secs(1), |_| false);
    assert!(
        net.outputs(Side::Server)
            .iter()
            .any(|o| matches!(o, Output::Message { message: m, .. } if *m == message))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_it_panic_before_it_is_connected(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20),
        kind in 0_usize..6,
    ) {
        let mut net = pair(CLEAR, 27);
        let (now, path) = (net.now, net.path(Side::Server));
        let server = net.peer(Side::Server);
        answers(server, path, &request("server:client", &credentials("server").pwd), now);
        for mut datagram in datagrams {
            shape(&mut datagram, kind, 0);
            answers(server, path, &datagram, now);
        }
        server.handle_timeout(now + Duration::from_secs(1));
    }
}

#[test]
fn no_bytes_make_it_panic_once_it_is_connected() {
    let mut net = connected();
    let path = net.path(Side::Server);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (proptest::collection::vec(any::<u8>(), 0..120), 0_usize..6, 0_u8..3);
    let mut repeated = 0;
    for _ in 0..5000 {
        let tree = strategy.new_tree(&mut runner).expect("a value");
        let (mut datagram, kind, epoch) = proptest::strategy::ValueTree::current(&tree);
        shape(&mut datagram, kind, epoch);
        let now = net.now;
        repeated += answers(net.peer(Side::Server), path, &datagram, now);
        assert!(net.peer(Side::Server).timeout().is_some(), "ended by {datagram:?}");
    }
    // What looks like a client that misses the last flight gets it again, but not for ever.
    assert!(repeated <= 7, "{repeated}");
    media_flows(&mut net);
}

#[test]
fn no_sctp_packet_makes_it_panic() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (proptest::collection::vec(any::<u8>(), 0..80), any::<bool>());
    for round in 0..20 {
        let mut net = connected();
        for _ in 0..100 {
            let now = net.now;
            let tree = strategy.new_tree(&mut runner).expect("a value");
            let (packet, _) = proptest::strategy::ValueTree::current(&tree);
            let server = net.peer(Side::Server);
            server.receive_data(packet.into(), now);
            server.flush(now);
            net.run(Duration::from_millis(round % 2 * 50), |_| false);
        }
        assert!(closed(net.outputs(Side::Server)).is_none());
    }
}

/// Makes bytes look like a datagram of a kind.
fn shape(datagram: &mut [u8], kind: usize, epoch: u8) {
    let len = datagram.len();
    match (kind, datagram) {
        (0, [first, second, ..]) => (*first, *second) = (0x80, 96),
        (1, [first, second, ..]) => (*first, *second) = (0x80, 200),
        (2, [first, second, a, b, c, d, e, f, ..]) if len >= 20 => {
            (*first, *second) = (0, 1);
            [*a, *b] = ((len - 20) as u16).to_be_bytes();
            (*c, *d, *e, *f) = (0x21, 0x12, 0xa4, 0x42);
        }
        (3 | 4, record) if len > 26 => {
            record[0] = if kind == 3 { 22 } else { 20 + record[0] % 4 };
            record[1..5].copy_from_slice(&[0xfe, 0xfd, 0, epoch]);
            record[11..13].copy_from_slice(&((len - 13) as u16).to_be_bytes());
            if kind == 3 {
                record[13] = [1, 2, 3, 11, 12, 13, 14, 15, 16, 20][usize::from(record[13]) % 10];
                record[14..17].copy_from_slice(&((len - 25) as u32).to_be_bytes()[1..]);
                record[17] = 0;
                record[18] %= 3;
                record[19..22].fill(0);
                record[22..25].copy_from_slice(&((len - 25) as u32).to_be_bytes()[1..]);
            }
        }
        _ => {}
    }
}
