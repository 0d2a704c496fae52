//! Several nodes as one, without a database: any edge plays any stream, any node answers, streams outlive their origin.

mod support;

use std::time::{Duration, Instant};

use support::cluster::{Cluster, alive, is_live, owner, post};
use support::*;

const MOMENT: Duration = Duration::from_secs(12);

fn plays(node: &Node, stream: &str) -> bool {
    status(&node.url(&format!("/LiveApp/streams/{stream}.m3u8"))) == 200
}

/// Media sequence, and how many entries there are.
fn place(node: &Node, stream: &str) -> Option<(f64, usize)> {
    let (_, text) = media_playlist(node, stream);
    let sequence = tag(&text, "#EXT-X-MEDIA-SEQUENCE")?;
    Some((sequence, text.matches("#EXTINF").count()))
}

#[test]
fn any_edge_plays_and_any_node_answers() {
    let cluster = Cluster::start(&["o1", "o2", "e1"]);
    let [o1, o2, e1] = ["o1", "o2", "e1"].map(|name| cluster.node(name));
    let _first = publish(&o1.rtmp("/LiveApp/cam1"), &[]);
    let _second = publish(&o2.rtmp("/LiveApp/cam2"), &[]);
    for stream in ["cam1", "cam2"] {
        wait_for(MOMENT, "the edge to play it", || plays(e1, stream));
        wait_for(MOMENT, "the other origin to play it", || plays(o1, stream) && plays(o2, stream));
        for member in cluster.nodes() {
            wait_for(MOMENT, "REST of every node to say that it is live", || is_live(&member.node, stream));
        }
    }
    assert_eq!(owner(e1, "cam1").as_deref(), Some("o1"));
    assert_eq!(owner(o1, "cam2").as_deref(), Some("o2"));
    assert_eq!(tracks(&e1.url("/LiveApp/streams/cam1.m3u8")), "aac h264");
    assert!(packets(&e1.rtmp("/LiveApp/cam2"), 2) >= 40);
    let count = get(&e1.url("/LiveApp/rest/v2/broadcasts/active-live-stream-count")).json();
    assert_eq!(count["number"], 2);

    // A call for a stream of one node, made on another.
    assert_eq!(post(&e1.url("/LiveApp/rest/v2/broadcasts/cam2/stop")).json()["success"], true);
    wait_for(MOMENT, "it to be gone everywhere", || cluster.nodes().all(|m| !is_live(&m.node, "cam2")));
    assert!(is_live(e1, "cam1"));
}

#[test]
fn an_edge_takes_no_publisher_and_a_drained_node_nobody_new() {
    let cluster = Cluster::start(&["o1", "e1"]);
    let (o1, e1) = (cluster.node("o1"), cluster.node("e1"));
    let mut refused = publish(&e1.rtmp("/LiveApp/cam1"), &[]);
    let ended = refused.wait(MOMENT).expect("the publisher is sent away");
    assert!(!ended.success() && !is_live(o1, "cam1"));

    assert_eq!(status(&o1.url("/acceptz")), 200);
    // Said on another node.
    assert_eq!(post(&e1.url("/rest/v2/cluster/node/o1/drain")).json()["success"], true);
    wait_for(MOMENT, "it to say so", || status(&o1.url("/acceptz")) == 503);
    assert_eq!(status(&o1.url("/readyz")), 200);
    let mut late = publish(&o1.rtmp("/LiveApp/cam1"), &[]);
    assert!(!late.wait(MOMENT).expect("the publisher is sent away").success());
    http(&e1.url("/rest/v2/cluster/node/o1/drain"), &["-X", "DELETE"]);
    wait_for(MOMENT, "it to take sessions again", || status(&o1.url("/acceptz")) == 200);
    let _taken = publish(&o1.rtmp("/LiveApp/cam1"), &[]);
    wait_for(MOMENT, "the stream to play on the edge", || plays(e1, "cam1"));
}

#[test]
fn a_stream_outlives_its_origin() {
    let mut cluster = Cluster::start(&["o1", "o2", "e1"]);
    let publisher = publish(&cluster.node("o1").rtmp("/LiveApp/cam1"), &[]);
    wait_for(MOMENT, "the edge to play it", || plays(cluster.node("e1"), "cam1"));
    std::thread::sleep(Duration::from_secs(5));
    let (before, _) = place(cluster.node("e1"), "cam1").expect("a playlist");

    cluster.crash("o1");
    drop(publisher);
    let killed = Instant::now();
    let _again = publish(&cluster.node("o2").rtmp("/LiveApp/cam1"), &[]);
    let e1 = cluster.node("e1");
    wait_for(MOMENT, "the other origin to own it", || owner(e1, "cam1").as_deref() == Some("o2"));
    wait_for(MOMENT, "the edge to go on, behind a discontinuity", || {
        let (_, text) = media_playlist(e1, "cam1");
        let sequence = tag(&text, "#EXT-X-MEDIA-SEQUENCE");
        assert!(sequence.is_none_or(|s| s >= before), "the media sequence fell from {before}: {text}");
        text.contains("#EXT-X-DISCONTINUITY\n")
    });
    assert!(killed.elapsed() < Duration::from_secs(8), "{:?}", killed.elapsed());

    // The dead one comes back and says the same as the others.
    cluster.join("o1");
    wait_for(MOMENT, "all to be alive", || cluster.nodes().all(|m| alive(&m.node).len() == 3));
    wait_for(MOMENT, "all to agree on the owner", || {
        cluster.nodes().all(|m| owner(&m.node, "cam1").as_deref() == Some("o2"))
    });
}

#[test]
fn what_is_made_on_one_node_is_there_on_all() {
    let cluster = Cluster::start(&["o1", "e1"]);
    let (o1, e1) = (cluster.node("o1"), cluster.node("e1"));
    assert_eq!(post(&e1.url("/rest/v2/applications/Shows")).json()["success"], true);
    wait_for(MOMENT, "the app to be there", || {
        get(&o1.url("/rest/v2/applications")).text().contains("\"Shows\"")
    });
    let made = http(
        &o1.url("/Shows/rest/v2/broadcasts/create"),
        &["-H", "Content-Type: application/json", "-d", r#"{"streamId":"evening","name":"Evening show"}"#],
    );
    assert_eq!(made.status, 200);
    wait_for(MOMENT, "the record to be there", || {
        let answer = get(&e1.url("/Shows/rest/v2/broadcasts/evening"));
        answer.status == 200 && answer.json()["name"] == "Evening show"
    });
    let _publisher = publish(&o1.rtmp("/Shows/evening"), &[]);
    wait_for(MOMENT, "its stream to play on the edge", || {
        status(&e1.url("/Shows/streams/evening.m3u8")) == 200
    });
}
