//! Two peers, one of which calls, over a network that loses, repeats and reorders; time is virtual.

mod hostile;
mod net;

use std::sync::LazyLock;

use super::srtp::Profile;
use super::*;
use crate::agreed::DtlsRole;
use net::{Net, Side, Weather};

static CERTIFICATES: LazyLock<[Certificate; 2]> = LazyLock::new(|| {
    [Certificate::generate().expect("a certificate"), Certificate::generate().expect("a certificate")]
});

const CLEAR: Weather = Weather { loss: 0, twice: 0, jitter: Duration::ZERO };

fn credentials(name: &str) -> IceCredentials {
    IceCredentials { ufrag: name.into(), pwd: format!("{name}'s password, long enough") }
}

fn remote(name: &str, certificate: &Certificate, role: DtlsRole) -> RemoteTransport {
    RemoteTransport { ice: credentials(name), fingerprint: certificate.fingerprint(), role }
}

fn config(name: &str, certificate: &Certificate, remote: Option<RemoteTransport>) -> Config {
    Config {
        ice: credentials(name),
        certificate: Arc::new(certificate.clone()),
        remote,
        data: Some(64 << 10),
        opens: None,
        mtu: 1200,
    }
}

/// A server, and a client whose DTLS role is the given one, that has called it.
fn pair_with(
    role: DtlsRole,
    weather: Weather,
    seed: u64,
    change: impl FnOnce(&mut Config, &mut Config),
) -> Net {
    let [ours, theirs] = &*CERTIFICATES;
    let other = match role {
        DtlsRole::Client => DtlsRole::Server,
        DtlsRole::Server => DtlsRole::Client,
    };
    let mut server = config("server", ours, Some(remote("client", theirs, other)));
    let mut client = config("client", theirs, Some(remote("server", ours, role)));
    change(&mut server, &mut client);
    Net::new(server, client, weather, seed)
}

fn pair(weather: Weather, seed: u64) -> Net {
    pair_with(DtlsRole::Client, weather, seed, |_, _| {})
}

fn rtp(seq: u16) -> Vec<u8> {
    let mut header = vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    header[2..4].copy_from_slice(&seq.to_be_bytes());
    header
}

const REPORT: &[u8] = &[0x80, 201, 0, 1, 0, 0, 0, 9];

/// Media both ways.
fn media_flows(net: &mut Net) {
    for (from, to) in [(Side::Server, Side::Client), (Side::Client, Side::Server)] {
        let mut out = Vec::new();
        let mut report = Vec::new();
        let peer = net.peer(from);
        assert!(peer.protect_rtp(&rtp(7), b"media", &mut out));
        assert!(peer.protect_rtcp(REPORT, &mut report));
        let path = net.path(to);
        let now = net.now;
        net.peer(to).receive(path, BytesMut::from(&out[..]), now);
        net.peer(to).receive(path, BytesMut::from(&out[..]), now);
        net.peer(to).receive(path, BytesMut::from(&report[..]), now);
        net.drain();
        let got = net.take(to);
        let rtp_packets: Vec<_> = got.iter().filter(|o| matches!(o, Output::Rtp(_))).collect();
        assert_eq!(rtp_packets.len(), 1, "no replays: {got:?}");
        assert!(matches!(rtp_packets[0], Output::Rtp(p) if p[..] == [&rtp(7)[..], b"media"].concat()));
        assert!(got.iter().any(|o| matches!(o, Output::Rtcp(p) if p[..] == *REPORT)));
    }
}

fn closed(outputs: &[Output]) -> Option<&str> {
    outputs.iter().find_map(|o| match o {
        Output::Closed(why) => Some(why.as_str()),
        _ => None,
    })
}

#[test]
fn it_connects_in_both_dtls_roles_and_carries_media() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let mut net = pair_with(role, CLEAR, 1, |_, _| {});
        let took = net.connect();
        assert!(took < Duration::from_millis(200), "{role:?}: {took:?}");
        let path = net.path(Side::Server);
        assert_eq!(net.peer(Side::Server).path(), Some(path));
        assert!(net.outputs(Side::Server).iter().any(|o| matches!(o, Output::Selected(p) if *p == path)));
        media_flows(&mut net);
    }
}

#[test]
fn both_srtp_profiles_do() {
    for profile in [Profile::Gcm, Profile::Sha1] {
        let mut net = pair_with(DtlsRole::Client, CLEAR, 2, |_, client| {
            client.certificate =
                Arc::new(CERTIFICATES[1].clone().offering(profile).expect("a configuration"));
        });
        net.connect();
        let mut out = Vec::new();
        assert!(net.peer(Side::Server).protect_rtp(&rtp(1), b"x", &mut out));
        let tag = match profile {
            Profile::Gcm => 16,
            Profile::Sha1 => 10,
        };
        assert_eq!(out.len(), 12 + 1 + tag);
        media_flows(&mut net);
    }
}

#[test]
fn it_connects_over_a_bad_network() {
    let bad = Weather { loss: 25, twice: 10, jitter: Duration::from_millis(60) };
    let mut slowest = Duration::ZERO;
    for seed in 0..60 {
        for role in [DtlsRole::Client, DtlsRole::Server] {
            let mut net = pair_with(role, bad, seed, |_, _| {});
            slowest = slowest.max(net.connect());
        }
    }
    assert!(slowest < Duration::from_secs(15), "{slowest:?}");
}

#[test]
fn a_handshake_with_a_few_losses_takes_a_moment_longer() {
    let weather = Weather { loss: 5, twice: 0, jitter: Duration::from_millis(10) };
    let mut times: Vec<_> = (0..60).map(|seed| pair(weather, 1000 + seed).connect()).collect();
    times.sort_unstable();
    assert!(times[30] < Duration::from_millis(300), "{:?}", times[30]);
    assert!(times[56] < Duration::from_millis(2500), "{:?}", times[56]);
}

#[test]
fn a_handshake_that_is_faster_than_the_check_is_kept() {
    let mut net = pair(CLEAR, 3);
    net.hold_stun = true;
    net.run(Duration::from_millis(100), |_| false);
    assert!(!net.connected());
    let (now, path) = (net.now, net.path(Side::Server));
    // What a client sends that has taken the path for valid already.
    let mut dtls =
        Dtls::new(Arc::new(CERTIFICATES[1].clone()), CERTIFICATES[0].fingerprint(), DtlsRole::Client, now)
            .expect("a handshake");
    let hello = dtls.poll().expect("the first flight");
    net.peer(Side::Server).receive(path, hello, now);
    assert!(net.peer(Side::Server).poll(now).is_none());
    let request = stun::request(
        [1; 12],
        ("server:client", &credentials("server").pwd),
        1,
        true,
        CERTIFICATES[1].crypto(),
    );
    let request = BytesMut::from(&request.expect("a request")[..]);
    net.peer(Side::Server).receive(path, request, now);
    net.hold_stun = false;
    net.drain();
    let answered = net.outputs(Side::Server);
    assert!(matches!(answered, [Output::Selected(_)]), "{answered:?}");
    assert_eq!(net.on_the_way(Side::Client), 2, "an answer to the check, and one to the first flight");
}

#[test]
fn it_waits_for_the_answer_and_keeps_what_comes_before() {
    let [_, theirs] = &*CERTIFICATES;
    let mut net = pair_with(DtlsRole::Client, CLEAR, 4, |server, _| server.remote = None);
    net.run(Duration::from_millis(250), |_| false);
    assert!(!net.connected());
    let now = net.now;
    assert!(net.peer(Side::Server).path().is_some(), "checks are answered by our password alone");
    net.peer(Side::Server).set_remote(remote("client", theirs, DtlsRole::Server), None, now);
    net.connect();
    assert!(net.now - now < Duration::from_millis(120), "the kept first flight is answered at once");
}

#[test]
fn data_channels_work_both_ways() {
    let weather = Weather { loss: 5, twice: 5, jitter: Duration::from_millis(10) };
    let mut net = pair_with(DtlsRole::Client, weather, 5, |server, client| {
        server.opens = Some("from the server".into());
        client.opens = Some("from the client".into());
    });
    net.connect();
    net.run(Duration::from_secs(20), |net| {
        [Side::Server, Side::Client]
            .iter()
            .all(|side| net.outputs(*side).iter().filter(|o| matches!(o, Output::Open { .. })).count() == 2)
    });
    let now = net.now;
    let message = Message { text: true, payload: Bytes::from("grüße".repeat(500)) };
    assert!(net.peer(Side::Server).send(0, &message, now));
    assert!(net.peer(Side::Client).send(1, &message, now));
    assert!(!net.peer(Side::Client).send(2, &message, now));
    net.run(Duration::from_secs(20), |net| {
        [(Side::Server, 1), (Side::Client, 0)].iter().all(|(side, on)| {
            net.outputs(*side).iter().any(
                |o| matches!(o, Output::Message { channel, message: m } if channel == on && *m == message),
            )
        })
    });
    for (side, on) in [(Side::Server, 1), (Side::Client, 0)] {
        let came = net
            .outputs(side)
            .iter()
            .filter(|o| matches!(o, Output::Message { channel, .. } if *channel == on));
        assert_eq!(came.count(), 1, "{side:?}");
    }
}

#[test]
fn without_data_channels_there_is_no_association() {
    let mut net = pair_with(DtlsRole::Client, CLEAR, 6, |server, _| server.data = None);
    net.connect();
    net.run(Duration::from_secs(3), |_| false);
    assert!(net.peer(Side::Server).data.is_none());
    net.peer(Side::Server).set_data(Some(1000));
    net.run(Duration::from_secs(10), |_| false);
    assert!(net.peer(Side::Server).data.is_some(), "it is begun by the first packet");
}

#[test]
fn another_certificate_than_the_announced_is_refused() {
    for lies in [Side::Server, Side::Client] {
        let mut net = pair_with(DtlsRole::Client, CLEAR, 7, |server, client| {
            let (liar, _) = match lies {
                Side::Server => (server, client),
                Side::Client => (client, server),
            };
            liar.certificate = Arc::new(Certificate::generate().expect("a certificate"));
        });
        net.run(Duration::from_secs(5), |_| false);
        let believed = net.outputs(lies.other());
        assert!(closed(believed).is_some_and(|why| why.contains("fingerprint")), "{believed:?}");
        assert!(!believed.iter().any(|o| matches!(o, Output::Connected)));
        assert!(closed(net.outputs(lies)).is_some(), "it is told");
    }
}

#[test]
fn goodbye_is_said_and_heard() {
    let mut net = pair(CLEAR, 8);
    net.connect();
    let now = net.now;
    net.peer(Side::Server).close(now);
    net.drain();
    net.run(Duration::from_secs(1), |_| false);
    assert_eq!(closed(net.outputs(Side::Client)), Some("the other side closed the session"));
    assert_eq!(net.peer(Side::Server).timeout(), None);
    assert!(!net.peer(Side::Server).protect_rtp(&rtp(1), b"", &mut Vec::new()));
}

#[test]
fn silence_ends_it() {
    let mut net = pair(CLEAR, 9);
    net.connect();
    let since = net.now;
    net.run(Duration::from_secs(60), |_| false);
    assert!(closed(net.outputs(Side::Server)).is_none(), "checks keep it alive");
    net.weather.loss = 100;
    let cut = net.now;
    net.run(Duration::from_secs(60), |net| closed(net.outputs(Side::Server)).is_some());
    assert!(closed(net.outputs(Side::Server)).is_some_and(|why| why.contains("30 s")));
    let after = net.now - cut;
    assert!((27..=31).contains(&after.as_secs()), "{after:?}, connected {:?} before", cut - since);
}

#[test]
fn what_never_connects_ends() {
    let mut net = pair(Weather { loss: 100, ..CLEAR }, 10);
    net.run(Duration::from_secs(40), |_| false);
    assert!(closed(net.outputs(Side::Server)).is_some_and(|why| why.contains("candidates")));
    assert_eq!(net.peer(Side::Server).timeout(), None);
}

#[test]
fn a_restart_keeps_the_session_and_the_old_credentials_until_the_new_ones_come() {
    let [_, theirs] = &*CERTIFICATES;
    let mut net = pair(CLEAR, 11);
    net.connect();
    let now = net.now;
    net.peer(Side::Server).set_remote(
        remote("client2", theirs, DtlsRole::Server),
        Some(credentials("server2")),
        now,
    );
    net.run(Duration::from_secs(20), |_| false);
    assert!(closed(net.outputs(Side::Server)).is_none());
    assert!(net.peer(Side::Server).ice.expires().is_some_and(|at| at > now + Duration::from_secs(40)));

    let old = stun::request([1; 12], ("server:client", &credentials("server").pwd), 1, true, theirs.crypto());
    let new =
        stun::request([1; 12], ("server2:client2", &credentials("server2").pwd), 1, true, theirs.crypto());
    let mixed =
        stun::request([1; 12], ("server2:client", &credentials("server2").pwd), 1, true, theirs.crypto());
    let (now, path) = (net.now, net.path(Side::Server));
    let mut answers = |request: &Option<Vec<u8>>| {
        let request = request.as_ref().expect("a request");
        net.peer(Side::Server).receive(path, BytesMut::from(&request[..]), now);
        std::iter::from_fn(|| net.peer(Side::Server).poll(now))
            .filter(|o| matches!(o, Output::Send { .. }))
            .count()
    };
    assert_eq!(answers(&old), 1);
    assert_eq!(answers(&mixed), 0);
    assert_eq!(answers(&new), 1);
    assert_eq!(answers(&old), 0, "the new ones have come");
    media_flows(&mut net);
}

#[test]
fn the_path_changes_with_the_nomination() {
    let mut net = pair(CLEAR, 12);
    net.connect();
    net.take(Side::Server);
    net.move_client();
    let path = net.path(Side::Server);
    net.run(Duration::from_secs(1), |_| false);
    assert_eq!(net.peer(Side::Server).path(), Some(path));
    assert!(matches!(net.outputs(Side::Server), [Output::Selected(p)] if *p == path));
    media_flows(&mut net);
}

#[test]
fn datagrams_are_told_apart() {
    for (first, second, kind) in [
        (0, 1, Some(Kind::Stun)),
        (3, 0, Some(Kind::Stun)),
        (4, 0, None),
        (19, 0, None),
        (20, 0xfe, Some(Kind::Dtls)),
        (63, 0xfe, Some(Kind::Dtls)),
        (64, 0, None),
        (127, 0, None),
        (128, 96, Some(Kind::Rtp)),
        (144, 191, Some(Kind::Rtp)),
        (128, 192, Some(Kind::Rtcp)),
        (191, 223, Some(Kind::Rtcp)),
        (128, 224, Some(Kind::Rtp)),
        (192, 0, None),
    ] {
        assert_eq!(Kind::of(&[first, second, 0]), kind, "{first} {second}");
    }
    assert_eq!(Kind::of(&[]), None);
    assert_eq!(Kind::of(&[200]), None);
}

/// What a viewer costs at rest: run by hand, alone, `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn memory_of_a_peer() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
    };
    for data in [None, Some(1000)] {
        let before = resident();
        let mut kept = Vec::new();
        for seed in 0..500 {
            let mut net = pair_with(DtlsRole::Client, CLEAR, seed, |server, client| {
                (server.data, client.data) = (data, data);
            });
            net.connect();
            net.run(Duration::from_secs(3), |_| false);
            kept.push(net);
        }
        println!("data {data:?}: {} bytes a peer", (resident() - before) / kept.len() / 2);
    }
}
