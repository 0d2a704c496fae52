//! Nodes that go out of service while they are used: viewers move, and so do publishers that can.

mod support;

use std::time::Duration;

use serde_json::json;
use support::cluster::{Cluster, owner};
use support::encoder::{Encoder, Manner, Told};
use support::viewer::{Balancer, Viewer};
use support::*;

const MOMENT: Duration = Duration::from_secs(15);

fn drain(node: &Node, name: &str, order: serde_json::Value) -> serde_json::Value {
    let url = node.url(&format!("/rest/v2/cluster/node/{name}/drain"));
    http(&url, &["-X", "POST", "-d", &order.to_string()]).json()
}

fn waits(node: &Node, name: &str) -> serde_json::Value {
    get(&node.url(&format!("/rest/v2/cluster/node/{name}/drain"))).json()
}

#[test]
fn a_viewer_of_a_drained_edge_goes_on_at_another_one() {
    let mut cluster = Cluster::start(&["o1", "e1", "e2"]);
    let port = |cluster: &Cluster, name: &str| cluster.node(name).http;
    let _publisher = publish(&cluster.node("o1").rtmp("/LiveApp/cam1"), &[]);
    let balancer = Balancer::start(port(&cluster, "e1"));
    let mut viewer = Viewer::start(balancer.port, "cam1");
    viewer.watch(3);
    assert_eq!(viewer.connections, 1, "one connection does");

    // Ordered on another node. The other edge has never had the stream.
    balancer.prefer(port(&cluster, "e2"));
    let (o1, e1) = (cluster.node("o1"), cluster.node("e1"));
    let answer = drain(o1, "e1", json!({"deadline": "30m", "reason": "new disk"}));
    assert!(answer["success"] == true && answer["message"].as_str().unwrap().contains("1800 s"), "{answer}");
    let told = waits(o1, "e1");
    assert_eq!(
        (&told["draining"], &told["by"], &told["reason"]),
        (&json!(true), &json!("rest"), &json!("new disk"))
    );
    assert_eq!((&told["refusesIn"], &told["waitingViewers"]), (&json!(0), &json!(1)), "{told}");
    assert_eq!((status(&e1.url("/readyz")), status(&e1.url("/acceptz"))), (200, 503));
    let new = get(&e1.url("/LiveApp/streams/cam1.m3u8"));
    assert!(new.status == 503 && new.head.contains("retry-after:"), "{}", new.head);
    viewer.watch(4);
    assert_eq!(viewer.connections, 2);
    wait_for(Duration::from_secs(40), "nobody to be waited for", || waits(o1, "e1")["waitingViewers"] == 0);

    // It is taken back, and now the other one is stopped, without a word before and with the viewer on it.
    http(&e1.url("/rest/v2/cluster/node/e1/drain"), &["-X", "DELETE"]);
    assert_eq!((waits(e1, "e1"), status(&e1.url("/acceptz"))), (json!({"draining": false}), 200));
    balancer.prefer(e1.http);
    cluster.node("e2").signal("TERM");
    viewer.watch(4);
    assert!(viewer.connections >= 3 && viewer.discontinuities == 0);
    cluster.ended("e2");
}

/// Stops the origin of a stream whose publisher understands what it is told then, while somebody watches.
fn stop_origin(manner: Manner) -> Told {
    let mut cluster = Cluster::start(&["o1", "o2", "e1"]);
    let o1 = cluster.node("o1").rtmp("/LiveApp/cam1");
    // By what it says it is another one, which would be refused while the first one sends.
    let o2 = cluster.node("o2").rtmp("/LiveApp/cam1?again=1");
    let temp = tempfile::tempdir().expect("a directory");
    let encoder = Encoder::start(temp.path(), manner, o1, o2);
    let mut viewer = Viewer::start(cluster.node("e1").http, "cam1");
    viewer.watch(3);
    assert_eq!(owner(cluster.node("e1"), "cam1").as_deref(), Some("o1"));

    let ending = cluster.node("o1");
    ending.signal("TERM");
    if manner == Manner::LeavesFirst {
        // There is time to look: the stream waits here for its publisher to be somewhere else.
        wait_for(MOMENT, "the publisher to leave", || encoder.is_away());
        wait_for(MOMENT, "it to say for whom it waits", || {
            let told = waits(ending, "o1");
            told["by"] == "signal" && told["deadlineIn"] == 0 && told["waitingPublishers"] == 1
        });
        assert_eq!((status(&ending.url("/readyz")), status(&ending.url("/acceptz"))), (200, 503));
    }
    viewer.watch(5);
    wait_for(MOMENT, "the other origin to own it", || {
        owner(cluster.node("e1"), "cam1").as_deref() == Some("o2")
    });
    assert!(viewer.discontinuities <= 1, "{}", viewer.discontinuities);
    cluster.ended("o1");
    encoder.end()
}

#[test]
fn a_publisher_that_can_is_moved_when_its_origin_stops() {
    let told = stop_origin(Manner::ConnectsFirst);
    assert!(told.asked && told.farewell.as_ref().is_some_and(|text| text.contains("o2")), "{told:?}");
    assert!(told.moved.is_some_and(|took| took < Duration::from_secs(2)), "it is let in at once: {told:?}");
}

#[test]
fn a_publisher_that_leaves_when_it_is_asked_is_waited_for() {
    assert!(stop_origin(Manner::LeavesFirst).moved.is_some());
}
