use std::net::IpAddr;

use bytes::Bytes;
use sluice_media::{Hub, Origin, StopReason, StreamKey, StreamSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::super::fake::{ANSWER, GOODBYE, LEAVE, LOSE, PANIC};
use super::super::stun::tests::request;
use super::super::{Closed, Stats, socket};
use super::*;

const SOON: Duration = Duration::from_secs(5);

fn settings(listen: &str, shards: usize) -> Settings {
    Settings { listen: vec![listen.parse().unwrap()], shards, ..Settings::default() }
}

fn start(listen: &str, shards: usize) -> Rtc {
    Rtc::start(settings(listen, shards)).unwrap()
}

/// A client: its socket is connected to the server.
struct Client(UdpSocket);

impl Client {
    async fn new(rtc: &Rtc, ip: &str) -> Self {
        let ip: IpAddr = ip.parse().unwrap();
        let socket = UdpSocket::bind(SocketAddr::new(ip, 0)).await.unwrap();
        socket.connect(SocketAddr::new(ip, rtc.listen()[0].port())).await.unwrap();
        Client(socket)
    }

    async fn send(&self, datagram: &[u8]) {
        self.0.send(datagram).await.unwrap();
    }

    async fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let n = timeout(SOON, self.0.recv(&mut buffer)).await.unwrap().unwrap();
        buffer[..n].to_vec()
    }

    async fn connect(&self, ufrag: &str) {
        self.send(&request(&format!("{ufrag}:x"))).await;
        assert_eq!(self.receive().await, ANSWER);
    }

    async fn silent(&self) -> bool {
        timeout(Duration::from_millis(50), self.0.readable()).await.is_err()
    }
}

/// A place, however many there are.
pub(super) fn place(rtc: &Rtc) -> Place {
    Place { _member: rtc.shared().connecting.admit([192, 0, 2, 1].into()).unwrap() }
}

async fn event(events: &mut mpsc::Receiver<SessionEvent>) -> SessionEvent {
    loop {
        match timeout(SOON, events.recv()).await.unwrap().unwrap() {
            SessionEvent::Stats(_) => {}
            other => return other,
        }
    }
}

async fn closed(events: &mut mpsc::Receiver<SessionEvent>) -> Closed {
    loop {
        if let SessionEvent::Closed(why) = event(events).await {
            assert!(events.recv().await.is_none());
            return why;
        }
    }
}

/// Waits until it holds.
async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, waiting).await.expect("it came to hold");
}

#[tokio::test]
async fn a_session_connects_gets_media_and_closes() {
    for (listen, ip) in [("[::]:0", "127.0.0.1"), ("[::]:0", "::1"), ("127.0.0.1:0", "127.0.0.1")] {
        let rtc = start(listen, 2);
        let ice = rtc.credentials();
        let (session, mut events) = rtc.open_fake(ice.clone()).unwrap();
        assert_eq!(rtc.sessions(), (0, 1));
        let client = Client::new(&rtc, ip).await;
        client.connect(&ice.ufrag).await;
        assert!(matches!(event(&mut events).await, SessionEvent::Connected));

        client.send(&[128, 6, 100, 1, 50]).await;
        let mut sizes = Vec::new();
        for _ in 0..7 {
            sizes.push(client.receive().await.len());
        }
        assert_eq!(sizes, [1000, 1000, 1000, 1000, 1000, 1000, 500], "{listen} {ip}");
        // All seven in one call, and the answer.
        until(|| (rtc.counters().gso_sends, rtc.counters().single_sends) == (1, 1)).await;

        session.send(5, Message { text: true, payload: Bytes::from_static(b"hello") });
        assert_eq!(client.receive().await, b"\x00\x05hello");
        session.close();
        assert_eq!(client.receive().await, GOODBYE);
        assert_eq!(closed(&mut events).await, Closed::ByUs);
        assert_eq!(rtc.sessions(), (0, 0));
        until(|| rtc.traffic().1 == 6500 + (ANSWER.len() + 7 + GOODBYE.len()) as u64).await;
        assert_eq!(rtc.traffic().0, (request(&format!("{}:x", ice.ufrag)).len() + 5) as u64);
        rtc.shutdown().await;
    }
}

#[tokio::test]
async fn a_panic_ends_one_session_only() {
    let rtc = start("127.0.0.1:0", 1);
    let (one, other) = (rtc.credentials(), rtc.credentials());
    let (_one, mut broken) = rtc.open_fake(one.clone()).unwrap();
    let (_other, mut whole) = rtc.open_fake(other.clone()).unwrap();
    let (bad, good) = (Client::new(&rtc, "127.0.0.1").await, Client::new(&rtc, "127.0.0.1").await);
    bad.connect(&one.ufrag).await;
    good.connect(&other.ufrag).await;
    bad.send(&[PANIC]).await;
    assert!(matches!(event(&mut broken).await, SessionEvent::Connected));
    assert!(matches!(closed(&mut broken).await, Closed::Silent(why) if why.contains("inside the server")));
    assert_eq!(rtc.sessions(), (0, 1));
    assert!(matches!(event(&mut whole).await, SessionEvent::Connected));
    good.send(&[128, 1, 10]).await;
    assert_eq!(good.receive().await.len(), 100);
    rtc.shutdown().await;
}

#[tokio::test]
async fn statistics_come_once_a_second() {
    let rtc = start("127.0.0.1:0", 1);
    let ice = rtc.credentials();
    let (session, mut events) = rtc.open_fake(ice.clone()).unwrap();
    session.measure();
    Client::new(&rtc, "127.0.0.1").await.connect(&ice.ufrag).await;
    assert!(matches!(event(&mut events).await, SessionEvent::Connected));
    let stats = timeout(Duration::from_secs(3), events.recv()).await.unwrap();
    assert!(matches!(stats, Some(SessionEvent::Stats(Stats::Out(_)))));
    rtc.shutdown().await;
}

#[tokio::test]
async fn garbage_opens_nothing_and_is_not_answered() {
    let rtc = start("127.0.0.1:0", 1);
    let ice = rtc.credentials();
    let (_session, _events) = rtc.open_fake(ice).unwrap();
    let client = Client::new(&rtc, "127.0.0.1").await;
    for n in 0..2000_u32 {
        match n % 4 {
            0 => client.send(&request(&format!("u{n}:x"))).await,
            1 => client.send(&[128, 96, 0, 1, 2, 3]).await,
            2 => client.send(&n.to_be_bytes()).await,
            _ => client.send(&[22; 700]).await,
        }
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    until(|| rtc.counters().garbage == 2000).await;
    let counters = rtc.counters();
    assert_eq!((counters.packets_in, counters.packets_out, counters.opened), (2000, 0, 1));
    assert!(client.silent().await);
    rtc.shutdown().await;
}

#[tokio::test]
async fn an_address_leads_to_its_session_only_after_the_peer_has_answered() {
    let rtc = start("127.0.0.1:0", 1);
    let (first, second) = (rtc.credentials(), rtc.credentials());
    let (_a, mut a) = rtc.open_fake(first.clone()).unwrap();
    let (_b, mut b) = rtc.open_fake(second.clone()).unwrap();
    let client = Client::new(&rtc, "127.0.0.1").await;
    client.send(&[LEAVE]).await;
    client.connect(&first.ufrag).await;
    assert!(matches!(event(&mut a).await, SessionEvent::Connected));
    // The same address, used for the next session: it belongs to that one from now on.
    client.connect(&second.ufrag).await;
    assert!(matches!(event(&mut b).await, SessionEvent::Connected));
    client.send(&[LEAVE]).await;
    assert_eq!(closed(&mut b).await, Closed::ByPeer);
    assert_eq!(rtc.counters().garbage, 1);
    let other = Client::new(&rtc, "127.0.0.1").await;
    other.connect(&first.ufrag).await;
    other.send(&[LOSE]).await;
    assert_eq!(closed(&mut a).await, Closed::Silent("no consent for 30 s".into()));
    rtc.shutdown().await;
}

#[tokio::test]
async fn an_address_that_media_comes_from_is_not_taken_by_another_session() {
    let rtc = start("127.0.0.1:0", 1);
    let (first, second) = (rtc.credentials(), rtc.credentials());
    let (_a, mut a) = rtc.open_fake(first.clone()).unwrap();
    let (_b, _events) = rtc.open_fake(second.clone()).unwrap();
    let client = Client::new(&rtc, "127.0.0.1").await;
    client.connect(&first.ufrag).await;
    client.send(&[128]).await;
    // As if another had sent it in this client's name.
    client.connect(&second.ufrag).await;
    client.send(&[LEAVE]).await;
    assert!(matches!(event(&mut a).await, SessionEvent::Connected));
    assert_eq!(closed(&mut a).await, Closed::ByPeer);
    rtc.shutdown().await;
}

#[tokio::test]
async fn packets_that_come_to_another_loop_are_handed_over() {
    let rtc = start("127.0.0.1:0", 4);
    let ice = rtc.credentials();
    let (_session, _events) = rtc.open_fake(ice.clone()).unwrap();
    Client::new(&rtc, "127.0.0.1").await.connect(&ice.ufrag).await;
    // The kernel spreads addresses over the loops: some of these come to the wrong one.
    for _ in 0..24 {
        let client = Client::new(&rtc, "127.0.0.1").await;
        client.connect(&ice.ufrag).await;
        client.send(&[128, 1, 10]).await;
        assert_eq!(client.receive().await.len(), 100);
    }
    until(|| rtc.counters().handed_over >= 2).await;
    let counters = rtc.counters();
    assert_eq!((counters.garbage, counters.dropped), (0, 0));
    rtc.shutdown().await;
}

#[tokio::test]
async fn a_forged_request_takes_no_address_from_a_session_of_another_loop() {
    let rtc = start("127.0.0.1:0", 4);
    let ice = rtc.credentials();
    let (_session, _events) = rtc.open_fake(ice.clone()).unwrap();
    let mut others = Vec::new();
    for _ in 0..12 {
        let other = rtc.credentials();
        others.push((other.clone(), rtc.open_fake(other.clone()).unwrap()));
        Client::new(&rtc, "127.0.0.1").await.connect(&other.ufrag).await;
    }
    for _ in 0..8 {
        let client = Client::new(&rtc, "127.0.0.1").await;
        client.connect(&ice.ufrag).await;
        for (other, _) in &others {
            client.send(&request(&format!("{}:forged", other.ufrag))).await;
        }
        client.send(&[128, 1, 10]).await;
        assert_eq!(client.receive().await.len(), 100);
    }
    until(|| rtc.counters().handed_over > 0).await;
    assert_eq!(rtc.counters().garbage, 0);
    rtc.shutdown().await;
}

#[tokio::test]
async fn a_session_has_eight_addresses_at_most() {
    let rtc = start("127.0.0.1:0", 1);
    let ice = rtc.credentials();
    let (_session, _events) = rtc.open_fake(ice.clone()).unwrap();
    let mut clients = Vec::new();
    for _ in 0..12 {
        let client = Client::new(&rtc, "127.0.0.1").await;
        client.connect(&ice.ufrag).await;
        clients.push(client);
    }
    for client in &clients {
        client.send(&[128]).await;
    }
    until(|| rtc.counters().packets_in == 24).await;
    assert_eq!(rtc.counters().garbage, 4);
    rtc.shutdown().await;
}

#[tokio::test]
async fn tcp_carries_a_session_in_frames() {
    let rtc = start("[::]:0", 2);
    let ice = rtc.credentials();
    let (session, mut events) = rtc.open_fake(ice.clone()).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", rtc.listen()[0].port())).await.unwrap();
    let mut written = Vec::new();
    tcp::frames::write(&request(&format!("{}:x", ice.ufrag)), &mut written);
    tcp::frames::write(&[128, 3, 100, 1, 7], &mut written);
    // In pieces, as a network may cut them.
    for piece in written.chunks(11) {
        stream.write_all(piece).await.unwrap();
    }
    let mut frames = tcp::frames::Frames::default();
    let mut read = Vec::new();
    while read.len() < 5 {
        assert!(timeout(SOON, stream.read_buf(frames.space())).await.unwrap().unwrap() > 0);
        read.extend(std::iter::from_fn(|| frames.next()));
    }
    assert_eq!(read[0], ANSWER);
    assert_eq!(read[1..].iter().map(|frame| frame.len()).collect::<Vec<_>>(), [1000, 1000, 1000, 70]);
    assert!(matches!(event(&mut events).await, SessionEvent::Connected));
    assert_eq!(rtc.counters().tcp_connections, 1);

    session.close();
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    let mut goodbye = Vec::new();
    tcp::frames::write(GOODBYE, &mut goodbye);
    assert_eq!(rest, goodbye, "the goodbye is written before the connection is closed");
    assert_eq!(closed(&mut events).await, Closed::ByUs);
    rtc.shutdown().await;
}

#[tokio::test]
async fn tcp_turns_strangers_away() {
    let rtc = start("127.0.0.1:0", 1);
    let address = rtc.listen()[0];
    let mut unknown = Vec::new();
    tcp::frames::write(&request("unknown:x"), &mut unknown);
    for first in [&b"GET / HTTP/1.1\r\n\r\n"[..], &unknown, &[0, 4, 1, 2, 3, 4]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(first).await.unwrap();
        // Closed, or reset because something was left unread.
        let mut rest = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
    }
    until(|| rtc.counters().tcp_refused == 3).await;
    rtc.shutdown().await;
}

#[tokio::test]
async fn sessions_are_limited() {
    let rtc = Rtc::start(Settings { max_sessions: 2, ..settings("127.0.0.1:0", 1) }).unwrap();
    let (first, mut events) = rtc.open_fake(rtc.credentials()).unwrap();
    let (_second, _events) = rtc.open_fake(rtc.credentials()).unwrap();
    assert!(rtc.open_fake(rtc.credentials()).is_err());
    drop(first);
    assert_eq!(closed(&mut events).await, Closed::ByUs);
    let (third, _) = rtc.open_fake(rtc.credentials()).unwrap();
    assert_ne!(third.id(), SessionId(1));
    rtc.shutdown().await;
}

#[tokio::test]
async fn a_session_that_nobody_comes_to_is_given_up() {
    let rtc = start("127.0.0.1:0", 1);
    let ice = rtc.credentials();
    let (session, mut events) = rtc.open_fake(ice.clone()).unwrap();
    let shared = rtc.shared();
    let in_time = Instant::now() + Duration::from_secs(29);
    assert!(shared.registry.expired(in_time).is_empty());
    let late = shared.registry.expired(Instant::now() + Duration::from_secs(31));
    assert_eq!(late.len(), 1);
    late.into_iter().for_each(|waiting| waiting.expire(&shared.handle));
    assert!(matches!(closed(&mut events).await, Closed::Silent(why) if why.contains("30 s")));
    assert!(!shared.registry.knows(&ice.ufrag));
    assert_eq!(rtc.sessions(), (0, 0));
    session.close();
    rtc.shutdown().await;
}

#[tokio::test]
async fn a_restart_brings_a_new_user_fragment() {
    let rtc = start("127.0.0.1:0", 2);
    let (old, new) = (rtc.credentials(), rtc.credentials());
    let (session, _events) = rtc.open_fake(old.clone()).unwrap();
    let client = Client::new(&rtc, "127.0.0.1").await;
    client.connect(&old.ufrag).await;
    session.agree(agreed(), None, Some(new.clone()));
    assert!(rtc.shared().registry.knows(&new.ufrag));
    client.connect(&new.ufrag).await;
    let moved = Client::new(&rtc, "127.0.0.1").await;
    moved.connect(&new.ufrag).await;
    session.close();
    until(|| !rtc.shared().registry.knows(&old.ufrag) && !rtc.shared().registry.knows(&new.ufrag)).await;
    rtc.shutdown().await;
}

fn agreed() -> Agreed {
    use crate::agreed::{DtlsRole, Fingerprint, RemoteTransport};
    let ice = IceCredentials { ufrag: "theirs".into(), pwd: "x".repeat(24) };
    let remote = RemoteTransport { ice, fingerprint: Fingerprint([0; 32]), role: DtlsRole::Server };
    Agreed { remote, receiving: Vec::new(), sending: Vec::new(), data: None }
}

#[tokio::test]
async fn a_publisher_that_waits_is_stopped_closed_or_lost() {
    let hub = Hub::new(Duration::from_secs(60));
    let rtc = start("127.0.0.1:0", 1);
    let publish = |id: &str| {
        let publisher =
            hub.publish(StreamKey::new("live", id), Origin::default(), StreamSettings::default()).unwrap();
        let stream = publisher.stream().clone();
        let carries = Carries::In(Box::new(publisher));
        let opening =
            Opening { place: Some(place(&rtc)), ice: rtc.credentials(), agreed: None, carries, opens: None };
        let (session, events) = rtc.open(opening).unwrap();
        (stream, session, events)
    };
    let (stream, session, _events) = publish("a");
    assert_eq!(rtc.sessions(), (1, 0));
    drop(session);
    until(|| stream.is_interrupted()).await;
    assert!(!stream.is_ended(), "a broken connection: it may come back");

    let (stream, session, mut events) = publish("b");
    session.close();
    assert_eq!(closed(&mut events).await, Closed::ByUs);
    until(|| stream.is_ended()).await;

    let (stream, _session, mut events) = publish("c");
    assert!(hub.stop(&StreamKey::new("live", "c"), StopReason::Requested));
    assert_eq!(closed(&mut events).await, Closed::Stopped(StopReason::Requested));
    until(|| stream.is_ended()).await;
    assert_eq!(rtc.sessions(), (0, 0));
    rtc.shutdown().await;
}

#[tokio::test]
async fn the_stream_of_a_publisher_that_is_refused_waits_for_it() {
    let hub = Hub::new(Duration::from_secs(60));
    let rtc = Rtc::start(Settings { max_sessions: 0, ..settings("127.0.0.1:0", 1) }).unwrap();
    let key = StreamKey::new("live", "a");
    let publisher = hub.publish(key, Origin::default(), StreamSettings::default()).unwrap();
    let stream = publisher.stream().clone();
    let carries = Carries::In(Box::new(publisher));
    assert!(
        rtc.open(Opening {
            place: Some(place(&rtc)),
            ice: rtc.credentials(),
            agreed: None,
            carries,
            opens: None
        })
        .is_err()
    );
    assert!(stream.is_interrupted() && !stream.is_ended());
    rtc.shutdown().await;
}

#[tokio::test]
async fn shutdown_says_goodbye_to_all_and_frees_the_port() {
    let rtc = start("127.0.0.1:0", 2);
    let (ice, address) = (rtc.credentials(), rtc.listen()[0]);
    let (_session, mut events) = rtc.open_fake(ice.clone()).unwrap();
    let (_waiting, mut waiting) = rtc.open_fake(rtc.credentials()).unwrap();
    let client = Client::new(&rtc, "127.0.0.1").await;
    client.connect(&ice.ufrag).await;
    let taken = Rtc::start(settings(&address.to_string(), 1));
    assert_eq!(taken.err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
    rtc.shutdown().await;
    assert_eq!(client.receive().await, GOODBYE);
    assert_eq!(closed(&mut events).await, Closed::ByUs);
    assert_eq!(closed(&mut waiting).await, Closed::ByUs);
    socket::probe(address, false).unwrap();
    assert!(rtc.open_fake(ice).is_err(), "nobody would ever end it");
}

#[tokio::test]
async fn candidates_can_be_changed_while_it_runs() {
    let rtc = start("127.0.0.1:0", 1);
    let listen = rtc.listen().to_vec();
    assert_eq!(rtc.candidates(), (listen.clone(), listen.clone()));
    let public: SocketAddr = "203.0.113.7:30004".parse().unwrap();
    rtc.set_candidates(vec![public], vec![public]);
    assert_eq!(rtc.candidates(), (vec![public], vec![public]));
    rtc.shutdown().await;
}

#[tokio::test]
async fn credentials_are_long_enough_and_of_the_right_characters() {
    let rtc = start("127.0.0.1:0", 1);
    let ice = rtc.credentials();
    assert!(ice.ufrag.len() >= 8 && ice.pwd.len() >= 22);
    assert!(ice.ufrag.chars().chain(ice.pwd.chars()).all(|c| c.is_ascii_alphanumeric()));
    assert_ne!(ice, rtc.credentials());
    rtc.shutdown().await;
}
