use std::sync::LazyLock;

use rtc_dtls::endpoint::{Endpoint as Library, EndpointEvent as LibraryEvent};

use super::screen::{pieces, records};
use super::*;

static CERTIFICATES: LazyLock<[Certificate; 2]> = LazyLock::new(|| {
    [Certificate::generate().expect("a certificate"), Certificate::generate().expect("a certificate")]
});

fn side(index: usize, role: DtlsRole, now: Instant) -> Dtls {
    let expected = CERTIFICATES[1 - index].fingerprint();
    Dtls::new(Arc::new(CERTIFICATES[index].clone()), expected, role, now).expect("an association")
}

fn flight(dtls: &mut Dtls) -> Vec<BytesMut> {
    std::iter::from_fn(|| dtls.poll()).collect()
}

fn deliver(to: &mut Dtls, flight: &[BytesMut], now: Instant) -> Vec<Event> {
    let mut events = Vec::new();
    for datagram in flight {
        to.receive(datagram.clone(), now, &mut events).expect("it goes on");
    }
    events
}

/// A client and a server, past the cookie: the client's second message has been answered, and the answer is what is returned.
fn until_certificate(now: Instant) -> (Dtls, Dtls, Vec<BytesMut>, Vec<BytesMut>) {
    let (mut client, mut server) = (side(0, DtlsRole::Client, now), side(1, DtlsRole::Server, now));
    deliver(&mut server, &flight(&mut client), now);
    deliver(&mut client, &flight(&mut server), now);
    let second = flight(&mut client);
    deliver(&mut server, &second, now);
    let answer = flight(&mut server);
    (client, server, second, answer)
}

#[test]
fn keys_are_the_same_on_both_sides() {
    let now = Instant::now();
    let (mut client, mut server, _, answer) = until_certificate(now);
    assert!(client.keys().is_none());
    deliver(&mut client, &answer, now);
    assert!(matches!(deliver(&mut server, &flight(&mut client), now)[..], [Event::Connected]));
    assert!(matches!(deliver(&mut client, &flight(&mut server), now)[..], [Event::Connected]));
    let (ours, theirs) = (client.keys().expect("keys"), server.keys().expect("keys"));
    assert_eq!((ours.0, ours.1.as_ref()), (theirs.0, theirs.1.as_ref()));
    assert_eq!(ours.0, Profile::Gcm);
    assert_eq!((client.timeout(), server.timeout()), (None, None));

    client.send(b"packet", now);
    let events = deliver(&mut server, &flight(&mut client), now);
    assert!(matches!(&events[..], [Event::Data(data)] if data[..] == *b"packet"));
    server.close(now);
    assert!(matches!(deliver(&mut client, &flight(&mut server), now)[..], [Event::Closed]));
}

/// A client that repeats its message because the answer was lost must not keep the server from repeating the answer.
#[test]
fn a_lost_answer_is_repeated_however_often_the_client_repeats_its_own() {
    let start = Instant::now();
    let (_, mut server, second, answer) = until_certificate(start);
    for _ in 0..5 {
        // Each repetition is another record with the same message in it.
        deliver(&mut server, &second, start + Duration::from_millis(50));
        let mut again = second[0].clone();
        again[10] += 10;
        deliver(&mut server, &[again], start + Duration::from_millis(60));
    }
    assert!(flight(&mut server).is_empty());
    let mut times = Vec::new();
    while let Some(at) = server.timeout() {
        if server.handle_timeout(at).is_err() {
            break;
        }
        times.push((at - start).as_millis());
        let repeated: usize = flight(&mut server).iter().map(BytesMut::len).sum();
        assert_eq!(repeated, answer.iter().map(BytesMut::len).sum::<usize>());
    }
    assert_eq!(times, [300, 900, 2100, 4500, 9300, 18_900, 38_100]);
}

#[test]
fn the_first_message_is_answered_again_when_it_is_repeated() {
    let now = Instant::now();
    let (mut client, mut server) = (side(0, DtlsRole::Client, now), side(1, DtlsRole::Server, now));
    deliver(&mut server, &flight(&mut client), now);
    assert_eq!(flight(&mut server).len(), 1);
    let at = client.timeout().expect("it is repeated");
    client.handle_timeout(at).expect("once more");
    deliver(&mut server, &flight(&mut client), at);
    assert_eq!(flight(&mut server).len(), 1);
}

#[test]
fn the_last_flight_is_repeated_for_a_client_that_missed_it() {
    let now = Instant::now();
    let (mut client, mut server, _, answer) = until_certificate(now);
    deliver(&mut client, &answer, now);
    deliver(&mut server, &flight(&mut client), now);
    assert!(!flight(&mut server).is_empty(), "lost");
    let at = client.timeout().expect("it is repeated");
    client.handle_timeout(at).expect("once more");
    deliver(&mut server, &flight(&mut client), at);
    assert!(matches!(deliver(&mut client, &flight(&mut server), at)[..], [Event::Connected]));
}

/// The library itself as the client, without what stands in front of it here.
#[test]
fn the_bare_library_connects() {
    let now = Instant::now();
    let mut server = side(1, DtlsRole::Server, now);
    let mut client = Library::new(PEER, TransportProtocol::UDP, None);
    client.connect(now, PEER, CERTIFICATES[0].client(), None).expect("it begins");
    let mut connected = (false, false);
    for _ in 0..5 {
        let flight: Vec<_> = std::iter::from_fn(|| client.poll_transmit()).map(|t| t.message).collect();
        connected.1 |= deliver(&mut server, &flight, now).iter().any(|e| matches!(e, Event::Connected));
        while let Some(datagram) = server.poll() {
            let events = client.read(now, PEER, None, datagram).expect("it goes on");
            connected.0 |= events.iter().any(|e| matches!(e, LibraryEvent::HandshakeComplete));
        }
    }
    assert_eq!(connected, (true, true));
}

#[test]
fn a_first_message_in_pieces_is_put_together() {
    let now = Instant::now();
    let (mut client, mut server) = (side(0, DtlsRole::Client, now), side(1, DtlsRole::Server, now));
    let whole = flight(&mut client).remove(0);
    let body = &whole[25..];
    let (first, second) = body.split_at(30);
    let part = |record: u8, at: usize, part: &[u8]| {
        let mut datagram = BytesMut::from(&whole[..25]);
        datagram[10] = record;
        datagram[11..13].copy_from_slice(&((12 + part.len()) as u16).to_be_bytes());
        datagram[20..22].copy_from_slice(&(at as u16).to_be_bytes());
        datagram[23..25].copy_from_slice(&(part.len() as u16).to_be_bytes());
        datagram.extend_from_slice(part);
        datagram
    };
    deliver(&mut server, &[part(1, 30, second)], now);
    assert!(flight(&mut server).is_empty());
    deliver(&mut server, &[part(2, 0, first)], now);
    assert_eq!(flight(&mut server).len(), 1);
}

#[test]
fn pieces_that_make_no_sense_are_dropped() {
    let good = [1, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 9, 9, 9, 9];
    let count = |bytes: &[u8]| pieces(bytes).map(|p| p.is_some()).collect::<Vec<_>>();
    assert_eq!(count(&good), [true]);
    assert_eq!(count(&[good, good].concat()), [true, true]);
    assert_eq!(count(&good[..15]), [false]);
    assert_eq!(count(&good[..11]), [false]);
    for (at, value) in [(5, 99), (8, 1), (11, 5), (11, 0), (1, 1)] {
        let mut bad = good;
        bad[at] = value;
        assert!(!count(&bad)[0], "byte {at}");
    }
    assert_eq!(
        records(&[22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]).map(|r| r.is_some()).collect::<Vec<_>>(),
        [false]
    );
}
