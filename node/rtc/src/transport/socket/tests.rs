use std::time::Duration;

use super::*;

fn outlet(address: &str) -> (Outlet, Arc<Tally>) {
    let tally = Arc::new(Tally::default());
    let socket = bind(address.parse().unwrap(), false).unwrap();
    (Outlet::new(socket, tally.clone()).unwrap(), tally)
}

fn port(outlet: &Outlet) -> u16 {
    outlet.local().port()
}

async fn receive(
    outlet: &Outlet,
    receiver: &mut Receiver,
) -> Vec<(SocketAddr, Option<IpAddr>, usize, usize)> {
    let ready = std::future::poll_fn(|cx| outlet.poll_readable(cx));
    tokio::time::timeout(Duration::from_secs(5), ready).await.unwrap();
    let n = outlet.receive(receiver).unwrap();
    receiver.received(n).map(|r| (r.from, r.to, r.stride, r.bytes.len())).collect()
}

#[tokio::test]
async fn a_run_leaves_in_one_call_and_comes_as_one() {
    for (from, to) in
        [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")]
    {
        let (mut sender, tally) = outlet(from);
        let (taker, _) = outlet(&SocketAddr::new(to.parse().unwrap(), 0).to_string());
        let target = sender.target(to.parse().unwrap(), SocketAddr::new(to.parse().unwrap(), port(&taker)));
        sender.send(target, 1000, &[7; 5_300], true);
        let mut receiver = Receiver::new();
        let got = receive(&taker, &mut receiver).await;
        let source = SocketAddr::new(to.parse().unwrap(), port(&sender));
        assert_eq!(got, [(source, Some(to.parse().unwrap()), 1000, 5_300)], "{from} to {to}");
        assert_eq!((tally.gso_sends.load(Relaxed), tally.single_sends.load(Relaxed)), (1, 0));
        assert_eq!((tally.packets_out.load(Relaxed), tally.bytes_out.load(Relaxed)), (6, 5_300));
    }
}

#[tokio::test]
async fn where_segmentation_is_refused_datagrams_go_one_by_one() {
    let (mut sender, tally) = outlet("127.0.0.1:0");
    let (taker, _) = outlet("127.0.0.1:0");
    // More segments than any kernel takes: it answers EINVAL, as a device does that cannot segment.
    sender.segments = Some(1000);
    let target = sender.target("127.0.0.1".parse().unwrap(), taker.local());
    sender.send(target, 10, &[1; 3000], true);
    assert_eq!((tally.gso_refused.load(Relaxed), tally.single_sends.load(Relaxed)), (1, 300));
    sender.segments = None;
    assert_eq!(sender.most_segments(), 1);
    sender.send(target, 10, &[1; 25], true);
    assert_eq!((tally.gso_refused.load(Relaxed), tally.single_sends.load(Relaxed)), (1, 303));
    let mut receiver = Receiver::new();
    let (mut datagrams, mut bytes) = (0, 0);
    while datagrams < 303 {
        for (_, _, stride, length) in receive(&taker, &mut receiver).await {
            datagrams += length.div_ceil(stride);
            bytes += length;
        }
    }
    assert_eq!((datagrams, bytes), (303, 3025));
}

#[tokio::test]
async fn while_the_socket_is_full_the_oldest_media_makes_room() {
    let (mut sender, tally) = outlet("127.0.0.1:0");
    let (taker, _) = outlet("127.0.0.1:0");
    let target = sender.target("127.0.0.1".parse().unwrap(), taker.local());
    sender.blocked = true;
    sender.send(target, 1000, &[1; 100], false);
    for _ in 0..30 {
        sender.send(target, 1000, &[2; 50_000], true);
    }
    assert!(sender.queued <= WAITING);
    let kept = sender.queue.len() - 1;
    assert_eq!((kept, tally.dropped.load(Relaxed)), (20, 500));
    assert!(!sender.queue[0].media, "what is not media stays");
    sender.blocked = false;
    sender.flush();
    assert_eq!((sender.queued, tally.packets_out.load(Relaxed)), (0, 1001));
}

#[tokio::test]
async fn an_unreachable_address_is_counted_and_nothing_else() {
    let (mut sender, tally) = outlet("127.0.0.1:0");
    let target = sender.target("127.0.0.1".parse().unwrap(), "192.0.2.1:9".parse().unwrap());
    sender.send(target, 1000, &[1; 100], true);
    assert_eq!((tally.send_errors.load(Relaxed), sender.queue.len()), (1, 0));
}

#[test]
fn a_port_in_use_is_noticed_though_ports_are_shared() {
    let first = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = first.local_addr().unwrap();
    assert_eq!(probe(address, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(bind(address, false).is_ok());
}

#[test]
fn addresses_are_spoken_of_in_one_way() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(canonical(at("[::ffff:10.0.0.1]:5")), at("10.0.0.1:5"));
    assert_eq!(canonical(at("10.0.0.1:5")), at("10.0.0.1:5"));
    assert_eq!(
        canonical(SocketAddrV6::new("fe80::1".parse().unwrap(), 5, 99, 3).into()),
        at("[fe80::1%3]:5")
    );
}
