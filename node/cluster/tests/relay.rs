//! Streams that go from node to node, over connections within the process; the clock is the runtime's, and jumps.

mod relay_common;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Buf;
use proptest::prelude::*;
use relay_common::*;
use sluice_cluster::member::NodeId;
use sluice_cluster::relay::{FetchError, Follow, Serve};
use sluice_cluster::wire::{Decoder, Encoder, EndReason, Message, OLDEST, Open, Refusal, VERSION};
use sluice_media::aside::{self, Need, Sender};
use sluice_media::{AudioCodec, Event, Hub, Start, StopReason, Stream, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::sleep;

fn same(a: &Stream, b: &Stream) -> bool {
    dump(a) == dump(b)
}

async fn until_same(a: &Stream, b: &Stream) {
    for _ in 0..5000 {
        if same(a, b) {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
    let (a, b) = (dump(a), dump(b));
    for (t, (a, b)) in a.iter().zip(&b).enumerate() {
        let differ = a.iter().zip(b).position(|(a, b)| a != b);
        let short = |l: Option<&String>| l.map(|l| l.chars().take(150).collect::<String>());
        eprintln!(
            "track {t}: {} and {} lines, differ at {differ:?}: {:?} and {:?}",
            a.len(),
            b.len(),
            differ.map(|i| short(a.get(i))),
            differ.map(|i| short(b.get(i)))
        );
    }
    panic!("the streams are not the same");
}

#[tokio::test(start_paused = true)]
async fn frames_and_stamps_are_the_same_after_two_hops() {
    let net = Arc::default();
    let (a, b, c) = (Node::new(&net, "a"), Node::new(&net, "b"), Node::new(&net, "c"));
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(20);
    b.known.set(&key(), &[("a", 1)]);
    c.known.set(&key(), &[("b", 1)]);
    let at_b = b.relays.fetch(&key()).await.expect("is there");
    let at_c = c.relays.fetch(&key()).await.expect("is there");
    assert!(at_b.is_relayed() && at_c.is_relayed() && !camera.stream().is_relayed());
    let _watch = at_c.subscribe(Start::Newest, Duration::from_secs(5));
    for _ in 0..40 {
        camera.film(5);
        sleep(Duration::from_millis(100)).await;
    }
    until_same(camera.stream(), &at_b).await;
    until_same(camera.stream(), &at_c).await;
    assert_eq!(arrivals(camera.stream(), 0), arrivals(&at_c, 0), "tracks are woven as they came");
    assert_eq!(*at_c.metadata(), *camera.stream().metadata());
    assert_eq!(at_c.segmentation(), camera.stream().segmentation());
    assert!(at_c.segmentation().is_some());
    assert_eq!(at_c.settings(), camera.stream().settings());
    // What is said of it.
    assert_eq!(b.known.carried().expect("carries").path, [NodeId::new("a")]);
    assert_eq!(c.known.carried().expect("carries").path, [NodeId::new("a"), NodeId::new("b")]);
    assert_eq!(c.relays.hls(&key()).as_deref(), Some(&b"{\"window\":7}"[..]));
    let view = &c.relays.list()[0];
    assert_eq!((view.source.clone(), view.connected, view.epoch), (Some(NodeId::new("b")), true, 1));
    assert!(view.bytes > 10_000 && c.relays.counts().bytes == view.bytes);
    assert_eq!(a.server.list()[0].node, NodeId::new("b"));
    assert!(a.server.counts().bytes >= b.relays.counts().bytes);
}

#[tokio::test(start_paused = true)]
async fn who_joins_late_gets_all_that_is_kept() {
    let net = Arc::default();
    let (a, b, c) = (Node::new(&net, "a"), Node::new(&net, "b"), Node::new(&net, "c"));
    let mut camera = Camera::new(&a.hub, 1).with_pictures_of(20_000);
    camera.film(50 * 20);
    b.known.set(&key(), &[("a", 1)]);
    let at_b = b.relays.fetch(&key()).await.expect("is there");
    at_b.wait_backfilled(Duration::from_secs(60)).await;
    until_same(camera.stream(), &at_b).await;
    assert_eq!(arrivals(camera.stream(), 0), arrivals(&at_b, 0));
    let _watch = at_b.subscribe(Start::Newest, Duration::from_secs(5));
    camera.film(50 * 3);
    sleep(Duration::from_millis(100)).await;
    // And who joins late at one who joined late.
    c.known.set(&key(), &[("b", 1)]);
    let at_c = c.relays.fetch(&key()).await.expect("is there");
    until_same(camera.stream(), &at_c).await;
    // Long after, all keep the same.
    let _watch_too = at_c.subscribe(Start::Newest, Duration::from_secs(5));
    for _ in 0..40 {
        camera.film(50);
        sleep(Duration::from_millis(50)).await;
    }
    until_same(camera.stream(), &at_b).await;
    until_same(camera.stream(), &at_c).await;
}

/// A connection on which the messages are looked at.
struct Raw {
    io: DuplexStream,
    decoder: Decoder,
    encoder: Encoder,
}

impl Raw {
    fn to(node: &Node, me: &str, buffer: usize) -> Raw {
        let (here, there) = tokio::io::duplex(buffer);
        let (server, me) = (node.server.clone(), NodeId::new(me));
        tokio::spawn(async move { server.serve(me, there).await });
        Raw { io: here, decoder: Decoder::new(), encoder: Encoder::new() }
    }

    async fn say(&mut self, message: Message) {
        self.encoder.encode(message).expect("fits");
        let n = self.encoder.batch().remaining();
        let bytes = self.encoder.batch().copy_to_bytes(n);
        self.io.write_all(&bytes).await.expect("listens");
    }

    async fn open(&mut self, me: &str) {
        let node = NodeId::new(me);
        self.say(Message::Open(Open {
            version: VERSION,
            key: key(),
            node,
            backfill: true,
            held: Vec::new(),
        }))
        .await;
    }

    /// `None` when the connection is closed.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.decoder.message().expect("the format") {
                return Some(message);
            }
            let mut bytes = [0; 4096];
            match self.io.read(&mut bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.decoder.extend(&bytes[..n]),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_group_comes_first_and_live_frames_before_older_ones() {
    let net = Arc::default();
    let a = Node::new(&net, "a");
    let mut camera = Camera::new(&a.hub, 1).with_pictures_of(20_000);
    camera.film(50 * 5);
    let mut raw = Raw::to(&a, "b", 4096);
    raw.open("b").await;
    let newest = camera.stream().newest_stamp().expect("frames");
    let mut older = Vec::new();
    let mut filmed = 0;
    let mut live_after_past = 0;
    loop {
        match raw.next().await.expect("goes on") {
            Message::Group { head, from, .. } => {
                assert!(head.stamp.group >= newest.group && from == 0);
                assert!(filmed > 0 || older.is_empty(), "the newest group goes first");
            }
            Message::Past { head, .. } => older.push(head.stamp.group),
            Message::PastFrame(_) if filmed < 40 => {
                filmed += 1;
                camera.film(1);
            }
            Message::Frame { .. } if filmed > 0 => live_after_past += 1,
            Message::BackfillDone => break,
            _ => {}
        }
    }
    assert!(live_after_past >= 40, "live frames come in between: {live_after_past}");
    assert!(older.is_sorted_by(|a, b| a >= b), "newest first: {older:?}");
    assert_eq!(older.len() as u64, 2 * newest.group, "{older:?}");
}

#[tokio::test(start_paused = true)]
async fn who_asks_one_that_is_still_filling_up_gets_all_too() {
    let net = Arc::default();
    let names = ["a", "b", "c", "d"];
    let nodes: Vec<_> = names.iter().map(|n| Node::new(&net, n)).collect();
    let mut camera = Camera::new(&nodes[0].hub, 1).with_pictures_of(20_000);
    camera.film(50 * 20);
    let mut readers = Vec::new();
    for i in 1..4 {
        nodes[i].known.set(&key(), &[(names[i - 1], 1)]);
        let stream = nodes[i].relays.fetch(&key()).await.expect("is there");
        assert!(!stream.is_backfilled(), "the newest group is enough to begin");
        readers.push(stream.subscribe(Start::Newest, Duration::from_secs(5)));
    }
    camera.film(1);
    for reader in &readers {
        reader.stream().wait_backfilled(Duration::from_secs(60)).await;
        until_same(camera.stream(), reader.stream()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_who_ask_share_a_connection() {
    let net: Arc<Net> = Arc::default();
    let (a, b) = (Node::new(&net, "a"), Node::new(&net, "b"));
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    b.known.set(&key(), &[("a", 1)]);
    let asked: Vec<_> = (0..100)
        .map(|_| {
            let relays = b.relays.clone();
            tokio::spawn(async move { relays.fetch(&key()).await })
        })
        .collect();
    let mut streams = Vec::new();
    for one in asked {
        streams.push(one.await.expect("runs").expect("is there"));
    }
    assert!(streams.iter().all(|s| Arc::ptr_eq(s, &streams[0])));
    assert_eq!(net.dials(), 1);
    assert_eq!(a.server.counts().accepted, 1);
    // On the node that owns it, nothing is fetched.
    assert!(Arc::ptr_eq(&a.relays.fetch(&key()).await.expect("is here"), camera.stream()));
    assert_eq!(net.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_is_let_go() {
    let net: Arc<Net> = Arc::default();
    let (a, b, c) = (Node::new(&net, "a"), Node::new(&net, "b"), Node::new(&net, "c"));
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    b.known.set(&key(), &[("a", 1)]);
    c.known.set(&key(), &[("b", 1)]);
    let at_b = b.relays.fetch(&key()).await.expect("is there");
    let reader = at_b.subscribe(Start::Newest, Duration::from_secs(5));
    sleep(Duration::from_secs(20)).await;
    assert!(!at_b.is_ended(), "it has a reader");
    // Another node that reads it here counts too.
    let at_c = c.relays.fetch(&key()).await.expect("is there");
    let reader_at_c = at_c.subscribe(Start::Newest, Duration::from_secs(5));
    drop(reader);
    sleep(Duration::from_secs(20)).await;
    assert!(!at_b.is_ended() && b.hub.get(&key()).is_some());
    drop(reader_at_c);
    sleep(Duration::from_millis(1500)).await;
    sleep(Duration::from_secs(2)).await;
    assert!(c.hub.get(&key()).is_none(), "released after two seconds");
    until("the one before it too", || b.hub.get(&key()).is_none()).await;
    assert_eq!(b.known.carried(), None);
    assert_eq!((b.relays.counts().streams, b.relays.counts().released), (0, 1));
    until("the owner is asked no more", || a.server.counts().connections == 0).await;
    assert!(!camera.stream().is_ended());
    // It can be had again.
    b.relays.fetch(&key()).await.expect("is there");
    assert_eq!(net.dials(), 3);
}

#[tokio::test(start_paused = true)]
async fn viewers_follow_to_a_new_owner_and_a_lower_epoch_is_ignored() {
    let net: Arc<Net> = Arc::default();
    let (a, b, e) = (Node::new(&net, "a"), Node::new(&net, "b"), Node::new(&net, "e"));
    let mut old = Camera::new(&a.hub, 1);
    old.film(120);
    e.known.set(&key(), &[("a", 1)]);
    let at_e = e.relays.fetch(&key()).await.expect("is there");
    let mut reader = at_e.subscribe(Start::Oldest, Duration::from_secs(60));
    until_same(old.stream(), &at_e).await;
    // The owner dies; its connections break at once.
    net.kill("a");
    until("it is noticed", || at_e.is_interrupted()).await;
    sleep(Duration::from_secs(3)).await;
    assert!(!at_e.is_ended());
    // The publisher comes back at b.
    let after = sluice_media::Origin { timeline: Timestamp::from_millis(10_000), ..origin(2) };
    let mut new = Camera::of(b.hub.publish(key(), after, SETTINGS).expect("is free"));
    new.film(120);
    e.known.set(&key(), &[("b", 2), ("a", 1)]);
    until("frames come from the new owner", || at_e.newest_stamp().is_some_and(|s| s.epoch == 2)).await;
    new.film(30);
    until("all of them", || {
        let (there, here) = (dump(new.stream()), dump(&at_e));
        there.iter().zip(&here).all(|(t, h)| h.ends_with(&t[t.len() - 20..]))
    })
    .await;
    assert!(!at_e.is_interrupted());
    assert_eq!(e.known.carried().expect("carries").epoch, 2);
    assert_eq!(e.relays.list()[0].source, Some(NodeId::new("b")));
    // The old owner was only cut off, and speaks again: nobody listens.
    net.kill("b");
    let dials = net.dials();
    e.known.set(&key(), &[("a", 1)]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(net.dials(), dials, "a lower epoch is not even asked");
    let mut last = 0;
    while let Some(event) = reader.try_next() {
        match event {
            Event::Group { group, .. } => {
                let epoch = group.head.stamp.epoch;
                assert!(epoch >= last);
                last = epoch;
            }
            Event::End => panic!("viewers stay"),
            _ => {}
        }
    }
    assert_eq!(last, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_and_returns_keeps_its_viewers_and_one_that_does_not_ends() {
    let net: Arc<Net> = Arc::default();
    let (a, b) = (Node::new(&net, "a"), Node::new(&net, "b"));
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    b.known.set(&key(), &[("a", 1)]);
    let at_b = b.relays.fetch(&key()).await.expect("is there");
    let _reader = at_b.subscribe(Start::Newest, Duration::from_secs(5));
    camera.publisher.finish();
    b.known.set(&key(), &[]);
    until("the end is noticed", || at_b.is_interrupted()).await;
    sleep(Duration::from_secs(9)).await;
    assert!(!at_b.is_ended());
    let after = sluice_media::Origin { timeline: Timestamp::from_millis(10_000), ..origin(2) };
    let mut again = Camera::of(a.hub.publish(key(), after, SETTINGS).expect("is free"));
    again.film(60);
    b.known.set(&key(), &[("a", 2)]);
    until("it is back", || at_b.newest_stamp().is_some_and(|s| s.epoch == 2)).await;
    sleep(Duration::from_secs(30)).await;
    assert!(!at_b.is_ended() && !at_b.is_interrupted(), "a source that only pings is one");
    again.publisher.finish();
    b.known.set(&key(), &[]);
    sleep(Duration::from_secs(9)).await;
    assert!(!at_b.is_ended());
    sleep(Duration::from_secs(2)).await;
    assert!(at_b.is_ended());
    assert_eq!(b.relays.counts().lost, 1);
    assert_eq!(b.relays.fetch(&key()).await.err(), Some(FetchError::NotFound { key: key() }));
}

#[tokio::test(start_paused = true)]
async fn a_node_takes_over_what_it_fetched_and_the_old_owner_fetches() {
    let net: Arc<Net> = Arc::default();
    let (a, b) = (Node::new(&net, "a"), Node::new(&net, "b"));
    let mut old = Camera::new(&a.hub, 1);
    old.film(120);
    b.known.set(&key(), &[("a", 1)]);
    let at_b = b.relays.fetch(&key()).await.expect("is there");
    until_same(old.stream(), &at_b).await;
    let at_a = old.stream().clone();
    let mut viewer_at_a = at_a.subscribe(Start::Newest, Duration::from_secs(60));
    let mut viewer_at_b = at_b.subscribe(Start::Newest, Duration::from_secs(60));
    // A publisher comes to b; a is told to leave the stream to it.
    assert!(b.relays.leave(&key()).await);
    assert!(!b.relays.leave(&key()).await);
    let after = sluice_media::Origin { timeline: Timestamp::from_millis(5000), ..origin(2) };
    let mut new = Camera::of(b.hub.succeed(&key(), after).expect("was left"));
    at_a.displace_to("b");
    drop(old);
    a.known.set(&key(), &[("b", 2)]);
    assert!(a.relays.take_up(&key()));
    for _ in 0..20 {
        new.film(10);
        sleep(Duration::from_millis(200)).await;
    }
    until_same(&at_a, &at_b).await;
    assert!(at_a.is_relayed() && !at_b.is_relayed());
    for viewer in [&mut viewer_at_a, &mut viewer_at_b] {
        let mut epochs = Vec::new();
        while let Some(event) = viewer.try_next() {
            match event {
                Event::Group { group, .. } => epochs.push(group.head.stamp.epoch),
                Event::End => panic!("viewers stay"),
                _ => {}
            }
        }
        assert!(epochs.is_sorted() && epochs.first() == Some(&1) && epochs.last() == Some(&2), "{epochs:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_fetching_from_the_old_owner_is_told_that_it_moved() {
    let net: Arc<Net> = Arc::default();
    let (a, b) = (Node::new(&net, "a"), Node::new(&net, "b"));
    let mut old = Camera::new(&a.hub, 1);
    old.film(60);
    let mut raw = Raw::to(&a, "e", 1 << 20);
    raw.open("e").await;
    assert!(matches!(raw.next().await, Some(Message::Accepted(_))));
    let mut new = Camera::new(&b.hub, 2);
    new.film(60);
    old.stream().displace_to("b");
    drop(old);
    a.known.set(&key(), &[("b", 2)]);
    a.relays.take_up(&key());
    loop {
        match raw.next().await.expect("a last word") {
            Message::End(reason) => break assert_eq!(reason, EndReason::Moved),
            _ => continue,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn loops_and_long_ways_are_refused() {
    let net: Arc<Net> = Arc::default();
    let names = ["a", "b", "c", "d", "e", "f"];
    let nodes: Vec<_> = names.iter().map(|n| Node::new(&net, n)).collect();
    let mut camera = Camera::new(&nodes[0].hub, 1);
    camera.film(60);
    let mut watches = Vec::new();
    for pair in 1..5 {
        nodes[pair].known.set(&key(), &[(names[pair - 1], 1)]);
        let stream = nodes[pair].relays.fetch(&key()).await.expect("is there");
        watches.push(stream.subscribe(Start::Newest, Duration::from_secs(5)));
    }
    nodes[5].known.set(&key(), &[("e", 1)]);
    let far = nodes[5].relays.fetch(&key()).await.expect_err("too far").to_string();
    assert!(far.contains("too many nodes"), "{far}");
    // b has lost a, and is told to fetch from d, which has it from b.
    let mut raw = Raw::to(&nodes[3], "b", 1 << 20);
    raw.open("b").await;
    assert!(matches!(raw.next().await, Some(Message::Refused { refusal: Refusal::Loop, .. })));
    nodes[1].known.set(&key(), &[("d", 1)]);
    net.kill("a");
    sleep(Duration::from_secs(12)).await;
    // They have waited together, not one after the other.
    for node in &nodes[1..5] {
        assert!(node.hub.get(&key()).is_none(), "nobody feeds on anybody who feeds on it: {}", node.id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_cut_off_itself_is_no_source() {
    let net: Arc<Net> = Arc::default();
    let (a, b, c) = (Node::new(&net, "a"), Node::new(&net, "b"), Node::new(&net, "c"));
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    for node in [&b, &c] {
        node.known.set(&key(), &[("a", 1), ("b", 1), ("c", 1)]);
        let stream = node.relays.fetch(&key()).await.expect("is there");
        std::mem::forget(stream.subscribe(Start::Newest, Duration::from_secs(5)));
    }
    // c alone loses the owner: b can help.
    let mut raw = Raw::to(&b, "c", 1 << 20);
    raw.open("c").await;
    assert!(matches!(raw.next().await, Some(Message::Accepted(accepted)) if accepted.path.len() == 2));
    net.kill("a");
    until("both notice", || [&b, &c].iter().all(|n| n.hub.get(&key()).is_some_and(|s| s.is_interrupted())))
        .await;
    let mut raw = Raw::to(&b, "d", 1 << 20);
    raw.open("d").await;
    assert!(matches!(raw.next().await, Some(Message::Refused { refusal: Refusal::NotFound, .. })));
    sleep(Duration::from_secs(11)).await;
    assert!(b.hub.get(&key()).is_none() && c.hub.get(&key()).is_none(), "they do not wait for each other");
}

#[tokio::test(start_paused = true)]
async fn what_no_node_has_is_not_found_at_once() {
    let net: Arc<Net> = Arc::default();
    let (a, b) = (Node::new(&net, "a"), Node::new(&net, "b"));
    let began = tokio::time::Instant::now();
    assert_eq!(b.relays.fetch(&key()).await.err(), Some(FetchError::NotFound { key: key() }));
    assert!(began.elapsed() < Duration::from_millis(100));
    // It was announced, but is not there yet; then it is.
    b.known.set(&key(), &[("a", 1)]);
    let (relays, asked) = (b.relays.clone(), key());
    let fetch = tokio::spawn(async move { relays.fetch(&asked).await });
    sleep(Duration::from_millis(300)).await;
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    fetch.await.expect("runs").expect("is there by now");
    // Nobody answers at all.
    let other = sluice_media::StreamKey::new("LiveApp", "other");
    b.known.set(&other, &[("nowhere", 1)]);
    let error = b.relays.fetch(&other).await.expect_err("not there");
    assert!(matches!(error, FetchError::Unreachable { .. } | FetchError::Timeout { .. }), "{error}");
    // A fetch after the stop is refused.
    b.relays.stop();
    until("all are given up", || b.relays.counts().streams == 0).await;
    assert_eq!(b.relays.fetch(&key()).await.err(), Some(FetchError::Stopping { key: key() }));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_sends_askers_elsewhere() {
    let net: Arc<Net> = Arc::default();
    let (a, b) = (Node::new(&net, "a"), Node::new(&net, "b"));
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    let mut raw = Raw::to(&a, "b", 1 << 20);
    raw.open("b").await;
    until("it is served", || a.server.counts().accepted == 1).await;
    a.server.stop();
    loop {
        match raw.next().await.expect("a last word") {
            Message::End(reason) => break assert_eq!(reason, EndReason::Stopping),
            _ => continue,
        }
    }
    let mut raw = Raw::to(&a, "b", 1 << 20);
    raw.open("b").await;
    assert!(matches!(raw.next().await, Some(Message::Refused { refusal: Refusal::Stopping, .. })));
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn a_stop_here_ends_it_here_only() {
    let net: Arc<Net> = Arc::default();
    let (a, b) = (Node::new(&net, "a"), Node::new(&net, "b"));
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    b.known.set(&key(), &[("a", 1)]);
    let at_b = b.relays.fetch(&key()).await.expect("is there");
    b.hub.stop(&key(), StopReason::Requested);
    until("it ends", || at_b.is_ended() && b.relays.counts().streams == 0).await;
    assert!(!camera.stream().is_ended());
}

#[tokio::test(start_paused = true)]
async fn a_slow_asker_skips_and_a_stuck_one_is_left() {
    let net: Arc<Net> = Arc::default();
    let a = Node::new(&net, "a");
    let mut camera = Camera::new(&a.hub, 1).with_pictures_of(10_000);
    camera.film(60);
    let mut raw = Raw::to(&a, "b", 16 << 10);
    raw.open("b").await;
    let mut groups = Vec::new();
    // It takes some of it, in ever the same time.
    for _ in 0..60 {
        camera.film(50);
        sleep(Duration::from_secs(1)).await;
        for _ in 0..20 {
            if let Some(Message::Group { track: 0, head, .. }) = raw.next().await {
                groups.push(head.stamp.group);
            }
        }
    }
    assert!(groups.is_sorted());
    assert!(groups.windows(2).any(|w| w[1] > w[0] + 3), "it skips: {groups:?}");
    assert!(a.server.list()[0].groups_skipped > 0);
    // Then it takes nothing at all.
    camera.film(50 * 5);
    sleep(Duration::from_secs(7)).await;
    assert_eq!(a.server.counts().connections, 0, "it was left after five seconds");
}

#[tokio::test(start_paused = true)]
async fn a_silent_source_is_given_up() {
    let net: Arc<Net> = Arc::default();
    let settings = Serve { ping: Duration::from_secs(3600), ..Serve::default() };
    let a = Node::with(&net, "a", Follow::default(), settings);
    let b = Node::new(&net, "b");
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    b.known.set(&key(), &[("a", 1)]);
    let at_b = b.relays.fetch(&key()).await.expect("is there");
    let _reader = at_b.subscribe(Start::Newest, Duration::from_secs(5));
    sleep(Duration::from_secs(10)).await;
    assert!(net.dials() >= 3, "asked anew after three seconds without a word: {}", net.dials());
    camera.film(60);
    until_same(camera.stream(), &at_b).await;
}

#[tokio::test(start_paused = true)]
async fn garbage_from_askers_harms_nobody() {
    let net: Arc<Net> = Arc::default();
    let a = Node::new(&net, "a");
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    let mut garbage: Vec<Vec<u8>> =
        vec![b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 100], vec![16, 0], vec![1, 1, 9], vec![]];
    garbage.extend((0..200u32).map(|seed| {
        let mut x = seed.wrapping_mul(2_654_435_761) | 1;
        let mut next = move || {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            (x >> 8) as u8
        };
        (0..50).map(|_| next()).collect()
    }));
    for bytes in garbage {
        let mut raw = Raw::to(&a, "b", 1 << 20);
        raw.io.write_all(&bytes).await.expect("listens");
        raw.io.shutdown().await.expect("listens");
        let mut answer = Vec::new();
        raw.io.read_to_end(&mut answer).await.expect("ends");
        let mut decoder = Decoder::new();
        decoder.extend(&answer);
        if let Some(message) = decoder.message().expect("the format") {
            assert!(matches!(message, Message::Refused { refusal: Refusal::Malformed, .. }), "{message:?}");
        }
    }
    // And after a good beginning.
    let mut raw = Raw::to(&a, "b", 1 << 20);
    raw.open("b").await;
    raw.io.write_all(&[0xee; 64]).await.expect("listens");
    until("it is left", || a.server.counts().connections == 0).await;
    // Who says to be another than its certificate is refused.
    let mut raw = Raw::to(&a, "b", 1 << 20);
    raw.open("c").await;
    assert!(matches!(raw.next().await, Some(Message::Refused { refusal: Refusal::Malformed, .. })));
    // Who says nothing is left.
    let mute = Raw::to(&a, "b", 1 << 20);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(a.server.counts().connections, 0);
    drop(mute);
    camera.film(10);
}

#[tokio::test(start_paused = true)]
async fn garbage_from_sources_harms_nobody() {
    struct Liar(std::sync::Mutex<u32>);
    #[async_trait::async_trait]
    impl sluice_cluster::relay::Dial for Liar {
        async fn dial(
            &self,
            _: &str,
        ) -> Result<Box<dyn sluice_cluster::relay::Connection>, sluice_cluster::relay::DialError> {
            let seed = {
                let mut n = self.0.lock().expect("nobody panicked");
                *n += 1;
                *n
            };
            let (here, mut there) = tokio::io::duplex(1 << 20);
            tokio::spawn(async move {
                // A session that is right, but for a byte.
                let hub = Hub::new(Duration::from_secs(1));
                let mut camera = Camera::new(&hub, 1);
                camera.film(40);
                let net = Arc::default();
                let honest = Node::new(&net, "a");
                let mut camera = Camera::new(&honest.hub, 1);
                camera.film(40);
                let mut raw = Raw::to(&honest, "b", 1 << 20);
                raw.open("b").await;
                let mut bytes = vec![0; 4096];
                sleep(Duration::from_millis(1)).await;
                let n = raw.io.read(&mut bytes).await.expect("answers");
                bytes.truncate(n);
                let at = (seed as usize).wrapping_mul(7919) % n;
                bytes[at] ^= 1 << (seed % 8);
                let _ = there.write_all(&bytes).await;
                sleep(Duration::from_millis(20)).await;
            });
            Ok(Box::new(here))
        }
    }
    let b =
        Node::dialling("b", Arc::new(Liar(std::sync::Mutex::new(0))), Follow::default(), Serve::default());
    b.known.set(&key(), &[("a", 1)]);
    for _ in 0..100 {
        let _ = b.relays.fetch(&key()).await;
        sleep(Duration::from_millis(300)).await;
        if let Some(stream) = b.hub.get(&key()) {
            let mut reader = stream.subscribe(Start::Oldest, Duration::from_secs(60));
            while !matches!(reader.try_next(), None | Some(Event::End)) {}
        }
    }
    assert!(b.relays.counts().failures > 20);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 40, ..ProptestConfig::default() })]

    /// However often and wherever connections break: no frame is lost, none comes twice.
    #[test]
    fn cuts_lose_and_repeat_nothing(
        cuts in prop::collection::vec(1u64..60_000, 0..9),
        before in 0u64..300,
        steps in prop::collection::vec((1u64..30, 1u64..200), 5..40),
        large in any::<bool>(),
    ) {
        runtime().block_on(async {
            let net: Arc<Net> = Arc::default();
            let (a, b) = (Node::new(&net, "a"), Node::new(&net, "b"));
            let mut camera = Camera::new(&a.hub, 1).with_pictures_of(if large { 5000 } else { 300 });
            camera.film(before.max(1));
            *net.cuts.lock().expect("nobody panicked") = cuts;
            b.known.set(&key(), &[("a", 1)]);
            let at_b = b.relays.fetch(&key()).await.expect("is there in the end");
            let _reader = at_b.subscribe(Start::Newest, Duration::from_secs(60));
            for (film, wait) in steps {
                camera.film(film);
                sleep(Duration::from_millis(wait)).await;
            }
            sleep(Duration::from_secs(5)).await;
            net.cuts.lock().expect("nobody panicked").clear();
            camera.film(3);
            until_same(camera.stream(), &at_b).await;
            assert_eq!(arrivals(camera.stream(), 0), arrivals(&at_b, 0));
        });
    }

    /// The same from one source to another that is some frames behind or ahead.
    #[test]
    fn another_source_goes_on_by_frame(
        steps in prop::collection::vec((1u64..40, 1u64..150, 0usize..3), 5..40),
    ) {
        runtime().block_on(async {
            let net: Arc<Net> = Arc::default();
            let nodes: Vec<_> = ["a", "b", "c", "e"].iter().map(|n| Node::new(&net, n)).collect();
            let mut camera = Camera::new(&nodes[0].hub, 1);
            camera.film(100);
            let mut readers = Vec::new();
            for node in &nodes[1..3] {
                node.known.set(&key(), &[("a", 1)]);
                let stream = node.relays.fetch(&key()).await.expect("is there");
                readers.push(stream.subscribe(Start::Newest, Duration::from_secs(60)));
            }
            let e = &nodes[3];
            e.known.set(&key(), &[("b", 1)]);
            let at_e = e.relays.fetch(&key()).await.expect("is there");
            readers.push(at_e.subscribe(Start::Newest, Duration::from_secs(60)));
            for (film, wait, next) in steps {
                camera.film(film);
                e.known.set(&key(), &[(["a", "b", "c"][next], 1)]);
                if film % 2 == 0 {
                    net.break_connections("a");
                }
                net.break_connections("b");
                net.break_connections("c");
                camera.film(1);
                sleep(Duration::from_millis(wait)).await;
            }
            sleep(Duration::from_secs(3)).await;
            until_same(camera.stream(), &at_e).await;
            assert_eq!(arrivals(camera.stream(), 0), arrivals(&at_e, 0));
            assert!(net.dials.load(SeqCst) > 5);
        });
    }
}

fn said(from: Sender, session: u64, text: &'static str) -> aside::Message {
    aside::Message { from, session, text: true, payload: text.as_bytes().into() }
}

fn heard(at: &mut tokio::sync::broadcast::Receiver<aside::Message>) -> Vec<(u64, String)> {
    let text = |m: aside::Message| (m.session, String::from_utf8_lossy(&m.payload).into_owned());
    std::iter::from_fn(|| at.try_recv().ok()).map(text).collect()
}

/// The stream at a, at b that fetches it from there, and at c and d that fetch it from b; and what keeps it there.
async fn row(net: &Arc<Net>) -> (Vec<Node>, Camera, Vec<Arc<Stream>>, Vec<sluice_media::Reader>) {
    let nodes: Vec<_> = ["a", "b", "c", "d"].iter().map(|n| Node::new(net, n)).collect();
    let mut camera = Camera::new(&nodes[0].hub, 1);
    camera.film(60);
    let mut streams = vec![camera.stream().clone()];
    let mut readers = Vec::new();
    for (i, from) in [(1, "a"), (2, "b"), (3, "b")] {
        nodes[i].known.set(&key(), &[(from, 1)]);
        let stream = nodes[i].relays.fetch(&key()).await.expect("is there");
        readers.push(stream.subscribe(Start::Newest, Duration::from_secs(5)));
        streams.push(stream);
    }
    (nodes, camera, streams, readers)
}

#[tokio::test(start_paused = true)]
async fn what_is_needed_anywhere_is_needed_at_the_owner() {
    let net = Arc::default();
    let (_nodes, _camera, streams, _readers) = row(&net).await;
    let needed = |codec| streams[0].aside().needs(codec);
    let far = Need::new(streams[2].clone(), AudioCodec::Opus);
    until("it is told", || needed(AudioCodec::Opus)).await;
    assert!(!needed(AudioCodec::Aac));
    let other = Need::new(streams[3].clone(), AudioCodec::Opus);
    let _aac = Need::new(streams[1].clone(), AudioCodec::Aac);
    until("that, too", || needed(AudioCodec::Aac)).await;
    drop(far);
    sleep(Duration::from_millis(100)).await;
    assert!(needed(AudioCodec::Opus), "another one needs it still");
    drop(other);
    until("nobody does", || !needed(AudioCodec::Opus)).await;
    // A connection that breaks needs nothing any more; the next one tells all of it again.
    net.break_connections("a");
    sleep(Duration::from_secs(1)).await;
    until("it is told again", || needed(AudioCodec::Aac)).await;
    net.kill("a");
    until("it is forgotten", || !needed(AudioCodec::Aac)).await;
}

#[tokio::test(start_paused = true)]
async fn wishes_for_key_frames_come_to_the_owner_not_too_often() {
    let net = Arc::default();
    let (_nodes, _camera, streams, _readers) = row(&net).await;
    let mut wishes = streams[0].aside().keyframe_wishes();
    let before = *wishes.borrow_and_update();
    streams[2].aside().want_keyframe();
    wishes.changed().await.expect("comes");
    for _ in 0..100 {
        streams[2].aside().want_keyframe();
        streams[3].aside().want_keyframe();
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_secs(1)).await;
    let came = *wishes.borrow() - before;
    assert!((3..=8).contains(&came), "{came} of 200 within a second");
}

#[tokio::test(start_paused = true)]
async fn a_message_reaches_every_node_once_and_none_twice() {
    let net = Arc::default();
    let (_nodes, mut camera, streams, _readers) = row(&net).await;
    let mut listeners: Vec<_> = streams.iter().map(|s| s.aside().listen()).collect();
    streams[0].aside().send(said(Sender::Publisher, 5, "from the publisher"));
    streams[2].aside().send(said(Sender::Player, 9, "from a player"));
    streams[1].aside().send(said(Sender::Player, 3, "from the middle"));
    for _ in 0..20 {
        camera.film(5);
        sleep(Duration::from_millis(100)).await;
    }
    let names = ["from the publisher", "from the middle", "from a player"];
    for (i, listener) in listeners.iter_mut().enumerate() {
        let mut all = heard(listener);
        all.sort_by_key(|(_, text)| names.iter().position(|n| n == text));
        let sessions: Vec<u64> = all.iter().map(|(session, _)| *session).collect();
        assert_eq!(all.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), names, "at node {i}");
        let own = [[5, 0, 0], [0, 3, 0], [0, 0, 9], [0, 0, 0]];
        assert_eq!(sessions, own[i], "sessions are those of this node");
    }
    until_same(&streams[0], &streams[3]).await;
}

#[tokio::test(start_paused = true)]
async fn many_messages_do_not_hold_frames_up() {
    let net = Arc::default();
    let (_nodes, mut camera, streams, _readers) = row(&net).await;
    let mut listener = streams[1].aside().listen();
    let large =
        aside::Message { payload: vec![7; 64 << 10].into(), text: false, ..said(Sender::Publisher, 1, "") };
    for _ in 0..200 {
        streams[0].aside().send(large.clone());
    }
    camera.film(50);
    sleep(Duration::from_millis(300)).await;
    assert!(same(&streams[0], &streams[1]), "frames are there");
    let early = heard(&mut listener).len();
    assert!((4..=10).contains(&early), "{early} messages of 64 KiB within 0.3 s");
    sleep(Duration::from_secs(20)).await;
    assert_eq!(heard(&mut listener).len() + early, 200, "the rest comes by and by");
}

#[tokio::test(start_paused = true)]
async fn nodes_of_the_release_before_get_frames_and_nothing_else() {
    let net = Arc::default();
    let a = Node::new(&net, "a");
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    let mut raw = Raw::to(&a, "old", 64 << 10);
    let open =
        Open { version: OLDEST, key: key(), node: NodeId::new("old"), backfill: true, held: Vec::new() };
    raw.say(Message::Open(open)).await;
    while !matches!(raw.next().await.expect("goes on"), Message::BackfillDone) {}
    camera.stream().aside().send(said(Sender::Publisher, 5, "not for it"));
    camera.film(5);
    sleep(Duration::from_millis(100)).await;
    for _ in 0..3 {
        assert!(!matches!(raw.next().await.expect("goes on"), Message::Said { .. }));
    }
    // What it cannot know is out of turn.
    raw.say(Message::WantKeyframe).await;
    while raw.next().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_source_of_the_release_before_is_asked_as_it_understands() {
    let net: Arc<Net> = Arc::default();
    let a = Node::new(&net, "a");
    let mut camera = Camera::new(&a.hub, 1);
    camera.film(60);
    let b = Node::dialling("b", Arc::new(Old { to: a.server.clone() }), Follow::default(), Serve::default());
    b.known.set(&key(), &[("a", 1)]);
    let at_b = b.relays.fetch(&key()).await.expect("is there");
    let _reader = at_b.subscribe(Start::Newest, Duration::from_secs(5));
    let _need = Need::new(at_b.clone(), AudioCodec::Opus);
    at_b.aside().want_keyframe();
    camera.film(60);
    until_same(camera.stream(), &at_b).await;
    sleep(Duration::from_secs(2)).await;
    assert!(!at_b.is_interrupted() && !camera.stream().aside().needs(AudioCodec::Opus));
}

/// Dials a node that refuses what is not of the oldest version.
struct Old {
    to: Arc<sluice_cluster::relay::RelayServer>,
}

#[async_trait::async_trait]
impl sluice_cluster::relay::Dial for Old {
    async fn dial(
        &self,
        _: &str,
    ) -> Result<Box<dyn sluice_cluster::relay::Connection>, sluice_cluster::relay::DialError> {
        let (here, mut there) = tokio::io::duplex(64 << 10);
        let server = self.to.clone();
        tokio::spawn(async move {
            // Kind, length and version of the question.
            let mut head = [0; 3];
            there.read_exact(&mut head).await.expect("asks");
            if head[2] != OLDEST {
                let mut encoder = Encoder::new();
                let text = "the other node speaks another version".to_owned();
                encoder.encode(Message::Refused { refusal: Refusal::Malformed, text }).expect("fits");
                let n = encoder.batch().remaining();
                let _ = there.write_all(&encoder.batch().copy_to_bytes(n)).await;
                return;
            }
            let (inner, mut outer) = tokio::io::duplex(64 << 10);
            outer.write_all(&head).await.expect("listens");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut there, &mut outer).await });
            let _ = server.serve(NodeId::new("b"), inner).await;
        });
        Ok(Box::new(here))
    }
}
