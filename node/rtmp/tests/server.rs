//! The server over real sockets, with our own client.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::{Caller, Running, known_apps, start};
use sluice_media::{StopReason, StreamKey};
use sluice_rtmp::amf0::Value;
use sluice_rtmp::message::{Command, Writer};
use sluice_rtmp::server::{Farewell, Settings};
use sluice_rtmp::session::{ClientEvent, Purpose};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn a_player_starts_at_the_newest_keyframe_with_all_that_it_needs() {
    let run = start(known_apps());
    let mut publisher = Caller::started(&run.url("cam"), Purpose::Publish).await.unwrap();
    publisher.send_configs().await;
    for i in 0..25 {
        publisher.send_frame(i, 1000 + i * 40, i % 10 == 0, 3000).await;
    }
    run.until("the stream", || {
        run.hub.get(&StreamKey::new("LiveApp", "cam")).is_some_and(|s| s.tracks().len() == 2)
    })
    .await;
    sleep(Duration::from_millis(100)).await;

    let mut player = Caller::started(&run.url("cam"), Purpose::Play).await.unwrap();
    let ClientEvent::Metadata(properties) = player.next().await.unwrap() else { panic!("no metadata first") };
    assert!(properties.iter().any(|(k, v)| k == "encoder" && v.as_str() == Some("test")));
    assert!(properties.iter().any(|(k, v)| k == "videocodecid" && v.as_number() == Some(7.0)));
    let ClientEvent::Video { payload, .. } = player.next().await.unwrap() else { panic!("no video header") };
    assert_eq!(&payload[..5], b"\x17\0\0\0\0");
    let ClientEvent::Audio { payload, .. } = player.next().await.unwrap() else { panic!("no audio header") };
    assert_eq!(&payload[..], b"\xaf\0\x11\x90");
    let (first, start, key) = player.next_picture().await.unwrap();
    assert_eq!((first, key), (20, true));
    for i in 21..25 {
        assert_eq!(player.next_picture().await.unwrap(), (i, start + (i - 20) * 40, false));
    }
    // What comes live follows without a gap.
    for i in 25..60 {
        publisher.send_frame(i, 1000 + i * 40, i % 10 == 0, 3000).await;
        assert_eq!(player.next_picture().await.unwrap().0, i);
    }
    assert_eq!(run.viewers("cam"), 1);
    publisher.client.finish();
    publisher.flush().await;
    assert_eq!(player.next_picture().await, Err("NetStream.Play.UnpublishNotify".to_owned()));
    run.until("the end of the stream", || run.hub.is_empty()).await;
}

#[tokio::test]
async fn a_broken_connection_keeps_the_stream_and_its_players() {
    let run = start(known_apps());
    let mut publisher = Caller::started(&run.url("cam"), Purpose::Publish).await.unwrap();
    publisher.send_configs().await;
    publisher.send_frame(0, 0, true, 100).await;
    let mut player = Caller::started(&run.url("cam"), Purpose::Play).await.unwrap();
    assert_eq!(player.next_picture().await.unwrap().0, 0);
    drop(publisher);
    let stream = run.hub.get(&StreamKey::new("LiveApp", "cam")).unwrap();
    run.until("the interruption", || stream.is_interrupted()).await;
    let mut publisher = Caller::started(&run.url("cam"), Purpose::Publish).await.unwrap();
    publisher.send_configs().await;
    publisher.send_frame(100, 500_000, true, 100).await;
    let (number, timestamp, key) = player.next_picture().await.unwrap();
    assert_eq!((number, key), (100, true));
    assert!(timestamp < 10_000, "the timeline goes on: {timestamp}");
}

#[tokio::test]
async fn refusals_tell_why() {
    let run = start(known_apps());
    let url = format!("rtmp://127.0.0.1:{}/nowhere/cam", run.address.port());
    let error = Caller::started(&url, Purpose::Publish).await.err().unwrap();
    assert!(error.contains("NetConnection.Connect.Rejected") && error.contains("nowhere"), "{error}");

    let _first = Caller::started(&run.url("cam"), Purpose::Publish).await.unwrap();
    let error = Caller::started(&run.url("cam"), Purpose::Publish).await.err().unwrap();
    assert!(error.contains("NetStream.Publish.BadName") && error.contains("being published"), "{error}");

    let error = Caller::started(&run.url("other"), Purpose::Play).await.err().unwrap();
    assert!(error.contains("NetStream.Play.StreamNotFound"), "{error}");

    // An app that only publish can judge.
    let run = start(Settings::default());
    let url = format!("rtmp://127.0.0.1:{}/nowhere/cam", run.address.port());
    let error = Caller::started(&url, Purpose::Publish).await.err().unwrap();
    assert!(error.contains("NetStream.Publish.BadName") && error.contains("nowhere"), "{error}");
}

#[tokio::test]
async fn an_unknown_codec_is_named() {
    let run = start(known_apps());
    let mut publisher = Caller::started(&run.url("cam"), Purpose::Publish).await.unwrap();
    publisher.client.send_video(0, &[b"\x24", b"an old flash video"]);
    let error = publisher.next().await.unwrap_err();
    assert!(error.contains("NetStream.Publish.Failed") && error.contains("VP6"), "{error}");
    assert_eq!(publisher.next().await.unwrap_err(), "closed");
    run.until("the end of the stream", || run.hub.is_empty()).await;
}

#[tokio::test]
async fn a_publisher_is_stopped_and_told() {
    let run = start(known_apps());
    let mut publisher = Caller::started(&run.url("cam"), Purpose::Publish).await.unwrap();
    assert!(run.hub.stop(&StreamKey::new("LiveApp", "cam"), StopReason::Requested));
    let ClientEvent::Ended { code, description } = publisher.next().await.unwrap() else { panic!("no end") };
    assert_eq!(code, "NetStream.Unpublish.Success");
    assert!(description.contains("administrator"), "{description}");
    assert_eq!(publisher.next().await.unwrap_err(), "closed");
    assert!(run.hub.is_empty());
}

/// The server begins to end; what is sent from now on comes after that.
async fn end(run: &Running, moving: Duration) -> tokio::task::JoinHandle<u64> {
    let server = run.server.clone();
    let farewell = Farewell { moving, within: Duration::from_secs(60) };
    let drained = tokio::spawn(async move { server.drain(farewell).await });
    while TcpStream::connect(run.address).await.is_ok() {
        sleep(Duration::from_millis(10)).await;
    }
    drained
}

#[tokio::test]
async fn a_publisher_that_can_is_asked_to_reconnect_and_taken_in_until_it_has() {
    let run = start(known_apps());
    let can = |caller: Caller| Caller { client: caller.client.can_reconnect(), ..caller };
    let mut publisher = can(Caller::connect(&run.url("cam"), Purpose::Publish).await);
    assert_eq!(publisher.next().await, Ok(ClientEvent::Started));
    publisher.send_configs().await;
    publisher.send_frame(0, 0, true, 100).await;
    let stream = run.hub.get(&StreamKey::new("LiveApp", "cam")).unwrap();
    let mut old = Caller::started(&run.url("cam"), Purpose::Play).await.unwrap();
    assert_eq!(old.next_picture().await.unwrap().0, 0);
    let mut new = can(Caller::connect(&run.url("cam"), Purpose::Play).await);
    assert_eq!(new.next_picture().await.unwrap().0, 0);
    assert!(!stream.is_moving());

    let drained = end(&run, Duration::from_secs(50)).await;
    assert!(matches!(publisher.next().await, Ok(ClientEvent::ReconnectRequest { tc_url: None, .. })));
    assert!(stream.is_moving());
    let asked = async {
        loop {
            match new.next().await.unwrap() {
                ClientEvent::ReconnectRequest { description, .. } => return description,
                ClientEvent::Ended { .. } => panic!("ended before it was asked"),
                _ => {}
            }
        }
    };
    assert!(asked.await.contains("stopping"));
    for number in 1..4 {
        publisher.send_frame(number, number * 40, number == 3, 100).await;
    }
    for player in [&mut old, &mut new] {
        assert_eq!(player.next_picture().await.unwrap().0, 1);
        assert_eq!(player.next_picture().await.unwrap().0, 2);
        let end = player.next_picture().await.unwrap_err();
        assert_eq!(end, "NetStream.Play.UnpublishNotify", "all up to the keyframe, and not that one");
    }
    assert!(!stream.is_interrupted(), "the publisher goes on");

    // It has come back on another node.
    stream.displace_to("b");
    let Ok(ClientEvent::Ended { description, .. }) = publisher.next().await else { panic!("no end") };
    assert!(description.contains("the node b"), "{description}");
    run.until("it to leave", || stream.is_interrupted()).await;
    assert!(!stream.is_ended(), "those who watch here follow it");
    drop((publisher, old, new));
    assert_eq!(drained.await.unwrap(), 0);
}

#[tokio::test]
async fn a_publisher_that_leaves_when_asked_is_waited_for_and_one_that_stays_is_ended() {
    let run = start(known_apps());
    let mut callers = Vec::new();
    for name in ["leaves", "stays"] {
        let caller = Caller::connect(&run.url(name), Purpose::Publish).await;
        let mut caller = Caller { client: caller.client.can_reconnect(), ..caller };
        assert_eq!(caller.next().await, Ok(ClientEvent::Started));
        caller.send_configs().await;
        caller.send_frame(0, 0, true, 100).await;
        callers.push(caller);
    }
    let stream = |name: &str| run.hub.get(&StreamKey::new("LiveApp", name));
    let drained = end(&run, Duration::from_secs(3)).await;
    for caller in &mut callers {
        assert!(matches!(caller.next().await, Ok(ClientEvent::ReconnectRequest { .. })));
    }
    callers[0].client.finish();
    callers[0].flush().await;
    run.until("its stream to wait", || stream("leaves").is_some_and(|s| s.is_interrupted())).await;
    assert!(matches!(callers[1].next().await, Ok(ClientEvent::Ended { .. })));
    run.until("the other stream to end", || stream("stays").is_none()).await;
    assert!(stream("leaves").is_some(), "somebody else may have it by now");
    drop(callers);
    assert_eq!(drained.await.unwrap(), 0);
}

#[tokio::test]
async fn draining_ends_everybody_cleanly() {
    let run = start(known_apps());
    let mut publisher = Caller::started(&run.url("cam"), Purpose::Publish).await.unwrap();
    publisher.send_configs().await;
    publisher.send_frame(0, 0, true, 100).await;
    let mut player = Caller::started(&run.url("cam"), Purpose::Play).await.unwrap();
    player.next_picture().await.unwrap();
    let mut idle = Caller::connect(&run.url("cam"), Purpose::Play).await;
    idle.flush().await;
    run.until("three connections", || {
        run.server.stats().connections.load(std::sync::atomic::Ordering::Relaxed) == 3
    })
    .await;
    let drained = end(&run, Duration::ZERO).await;
    publisher.send_frame(1, 40, false, 100).await;
    publisher.send_frame(2, 80, true, 100).await;
    assert!(matches!(publisher.next().await, Ok(ClientEvent::Ended { .. })));
    assert_eq!(player.next_picture().await.unwrap().0, 1);
    let end = player.next_picture().await.unwrap_err();
    assert!(end.starts_with("NetStream.Play."), "the keyframe is not begun: {end}");
    drop((publisher, player, idle));
    assert_eq!(drained.await.unwrap(), 0);
    assert!(TcpStream::connect(run.address).await.is_err(), "the socket is closed");
    assert!(run.hub.is_empty());
}

#[tokio::test]
async fn a_player_that_is_too_slow_skips_and_harms_nobody() {
    let run = start(known_apps());
    let mut publisher = Caller::started(&run.url("cam"), Purpose::Publish).await.unwrap();
    publisher.send_configs().await;
    publisher.send_frame(0, 0, true, 100).await;
    let mut slow = Caller::started(&run.url("cam"), Purpose::Play).await.unwrap();
    assert_eq!(slow.next_picture().await.unwrap().0, 0);
    let mut fast = Caller::started(&run.url("cam"), Purpose::Play).await.unwrap();
    assert_eq!(fast.next_picture().await.unwrap().0, 0);
    // 60 s of media in large frames, faster than in real time, while one player does not read.
    for i in 1..1500 {
        publisher.send_frame(i, i * 40, i % 25 == 0, 20_000).await;
        assert_eq!(fast.next_picture().await.unwrap().0, i);
    }
    let stream = run.hub.get(&StreamKey::new("LiveApp", "cam")).unwrap();
    let (mut numbers, mut jump) = (vec![0], None);
    while *numbers.last().unwrap() < 1499 {
        let (number, _, key) = slow.next_picture().await.unwrap();
        if number != numbers.last().unwrap() + 1 {
            assert!(key, "goes on at a keyframe");
            jump = Some(number);
        }
        numbers.push(number);
    }
    assert!(jump.is_some());
    assert!(stream.stats().groups_skipped.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn limits_of_connections_and_of_time() {
    let settings = Settings {
        max_connections_per_ip: 2,
        handshake_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(600),
        ..known_apps()
    };
    let run = start(settings);
    let mut silent = TcpStream::connect(run.address).await.unwrap();
    let mut garbage = TcpStream::connect(run.address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let closes = async |socket: &mut TcpStream| {
        let mut rest = Vec::new();
        let _ = timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await.expect("is closed");
    };
    closes(&mut garbage).await;
    let mut second = TcpStream::connect(run.address).await.unwrap();
    let mut third = TcpStream::connect(run.address).await.unwrap();
    closes(&mut third).await;
    closes(&mut silent).await;
    closes(&mut second).await;
    // A publisher that says nothing more, not even to a ping.
    let mut publisher = Caller::started(&run.url("cam"), Purpose::Publish).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    closes(&mut publisher.socket).await;
}

#[tokio::test]
async fn pausing_and_picking_one_kind() {
    let run = start(known_apps());
    let mut publisher = Caller::started(&run.url("cam"), Purpose::Publish).await.unwrap();
    publisher.send_configs().await;
    publisher.send_frame(0, 0, true, 100).await;
    let mut player = Caller::started(&run.url("cam"), Purpose::Play).await.unwrap();
    assert_eq!(player.next_picture().await.unwrap().0, 0);
    let command = async |player: &mut Caller, name: &str, on: bool| {
        let command = Command::new(name, 0.0, vec![Value::Boolean(on)]);
        Writer::default().command(player.client.output(), 1, &command);
        player.flush().await;
        sleep(Duration::from_millis(100)).await;
    };
    command(&mut player, "pause", true).await;
    for i in 1..30 {
        publisher.send_frame(i, i * 40, i % 10 == 0, 100).await;
    }
    sleep(Duration::from_millis(200)).await;
    command(&mut player, "pause", false).await;
    // What was missed is not made up for: it goes on at the newest keyframe.
    assert_eq!(player.next_picture().await.unwrap(), (20, 800, true));
    for i in 21..30 {
        assert_eq!(player.next_picture().await.unwrap().0, i);
    }
    command(&mut player, "receiveVideo", false).await;
    for i in 30..60 {
        publisher.send_frame(i, i * 40, i % 10 == 0, 100).await;
    }
    for _ in 0..30 {
        let event = player.next().await.unwrap();
        assert!(matches!(event, ClientEvent::Audio { .. } | ClientEvent::Metadata(_)), "{event:?}");
    }
    sleep(Duration::from_millis(200)).await;
    command(&mut player, "receiveVideo", true).await;
    assert_eq!(player.next_picture().await.unwrap(), (50, 2000, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_beside_a_live_stream() {
    let run = start(known_apps());
    let mut publisher = Caller::started(&run.url("cam"), Purpose::Publish).await.unwrap();
    publisher.send_configs().await;
    publisher.send_frame(0, 0, true, 100).await;
    let mut player = Caller::started(&run.url("cam"), Purpose::Play).await.unwrap();
    assert_eq!(player.next_picture().await.unwrap().0, 0);
    let address = run.address;
    let attack = tokio::spawn(async move {
        let mut held = Vec::new();
        for i in 0..300u32 {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let noise: Vec<u8> =
                (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761 ^ i) >> 13) as u8).collect();
            // Half of them shake hands first; none of them ever reads.
            if i % 2 == 0 {
                let _ = socket.write_all(&[3; 1]).await;
                let _ = socket.write_all(&[0; 2 * 1536]).await;
            }
            let _ = socket.write_all(&noise).await;
            held.push(socket);
        }
        held
    });
    for i in 1..200 {
        publisher.send_frame(i, i * 40, i % 25 == 0, 2000).await;
        assert_eq!(player.next_picture().await.unwrap().0, i);
        sleep(Duration::from_millis(5)).await;
    }
    let _held = attack.await.unwrap();
    run.until("the end of the garbage", || {
        run.server.stats().connections.load(std::sync::atomic::Ordering::Relaxed) == 2
    })
    .await;
}
