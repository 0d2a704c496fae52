//! Nodes that call: sources that are pulled over WHEP, streams that are pushed over WHIP.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use support::cluster::*;
use support::*;

const SOON: Duration = Duration::from_secs(20);
/// Somebody who is gone without a word is noticed after 10 s, and called again after a pause.
const NOTICED: Duration = Duration::from_secs(40);

fn rest(node: &Node, path: &str) -> String {
    node.url(&format!("/LiveApp/rest/v2/broadcasts/{path}"))
}

fn send(node: &Node, path: &str, body: serde_json::Value) -> serde_json::Value {
    let body = body.to_string();
    http(&rest(node, path), &["-H", "Content-Type: application/json", "-d", &body]).json()
}

fn whep(of: &Node, stream: &str) -> String {
    format!("whep://127.0.0.1:{}/LiveApp/whep/{stream}", of.http)
}

fn whip(of: &Node, stream: &str) -> String {
    format!("whip://127.0.0.1:{}/LiveApp/whip/{stream}", of.http)
}

fn source(node: &Node, id: &str, url: &str) {
    let made =
        send(node, "create", serde_json::json!({"streamId": id, "type": "streamSource", "streamUrl": url}));
    assert_eq!(made["streamId"], id, "{made}");
}

fn status_of(node: &Node, id: &str) -> String {
    broadcast(node, id).json()["status"].as_str().unwrap_or_default().to_owned()
}

fn webrtc_viewers(node: &Node, id: &str) -> Option<i64> {
    broadcast(node, id).json()["webRTCViewerCount"].as_i64()
}

fn plays(node: &Node, id: &str) -> bool {
    media_playlist(node, id).1.contains("#EXTINF")
}

#[test]
fn a_source_is_pulled_until_it_is_stopped() {
    let (there, here) = (Node::start(), Node::start());
    source(&here, "copy", &whep(&there, "cam1"));
    assert_eq!(status_of(&here, "copy"), "created");
    assert_eq!(post(&rest(&here, "copy/start")).json()["success"], true);
    assert_eq!(post(&rest(&here, "copy/start")).json()["success"], false, "it is started already");
    wait_for(SOON, "it to be seen as failed", || status_of(&here, "copy") == "failed");
    assert!(here.log().contains("refuses with 404 Not Found"), "{}", here.log());

    let publisher = publish(&there.rtmp("/LiveApp/cam1"), &[]);
    wait_for(SOON, "it to be live", || status_of(&here, "copy") == "broadcasting");
    wait_for(SOON, "it to play", || plays(&here, "copy"));
    assert_eq!(broadcast(&here, "copy").json()["publishType"], "Pull");
    assert_eq!(tracks(&here.url("/LiveApp/streams/copy.m3u8")), "aac h264");
    assert!(packets(&here.rtmp("/LiveApp/copy"), 3) >= 60);
    assert_eq!(webrtc_viewers(&there, "cam1"), Some(1));

    // The source goes away and comes back: the stream goes on.
    drop(publisher);
    post(&rest(&there, "cam1/stop"));
    let _publisher = publish(&there.rtmp("/LiveApp/cam1"), &[]);
    wait_for(SOON, "it to go on behind a discontinuity", || {
        media_playlist(&here, "copy").1.contains("#EXT-X-DISCONTINUITY\n")
    });

    // This node ends without a word and starts again.
    let (_temp, dir, ports) = here.crash();
    let here = Node::start_in(&dir, ports, &[]);
    wait_for(SOON, "it to be pulled again", || plays(&here, "copy"));

    assert_eq!(post(&rest(&here, "copy/stop")).json()["success"], true);
    wait_for(SOON, "it to be finished", || status_of(&here, "copy") == "finished");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(status_of(&here, "copy"), "finished", "and it stays so");

    assert_eq!(post(&rest(&here, "copy/start")).json()["success"], true);
    wait_for(SOON, "it to be live", || status_of(&here, "copy") == "broadcasting");
    assert_eq!(http(&rest(&here, "copy"), &["-X", "DELETE"]).json()["success"], true);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(broadcast(&here, "copy").status, 404);
    // The first one's session ended without a word, too.
    wait_for(NOTICED, "nobody to watch it any more", || webrtc_viewers(&there, "cam1") == Some(0));
}

#[test]
fn a_node_that_pulls_ends_without_waiting_for_its_sources() {
    let (there, mut here) = (Node::start(), Node::start());
    let _publisher = publish(&there.rtmp("/LiveApp/cam1"), &[]);
    let made = send(
        &here,
        "create?autoStart=true",
        serde_json::json!({"streamId": "copy", "type": "streamSource", "streamUrl": whep(&there, "cam1")}),
    );
    assert_eq!((&made["success"], &made["dataId"]), (&true.into(), &"copy".into()));
    wait_for(SOON, "it to be live", || status_of(&here, "copy") == "broadcasting");
    here.signal("TERM");
    assert!(here.wait(Duration::from_secs(15)).success(), "{}", here.log());
    wait_for(SOON, "the session to be ended there", || webrtc_viewers(&there, "cam1") == Some(0));
}

#[test]
fn a_live_stream_is_pushed_to_its_endpoints() {
    let (here, there) = (Node::start(), Node::start());
    let made = send(&here, "create", serde_json::json!({"streamId": "cam1"}));
    assert_eq!(made["streamId"], "cam1");
    let no = send(&here, "cam1/rtmp-endpoint", serde_json::json!({"endpointUrl": "rtmp://127.0.0.1/x/y"}));
    assert!(
        no["success"] == false && no["message"].as_str().is_some_and(|why| why.contains("whip://")),
        "{no}"
    );
    let url = whip(&there, "pushed");
    let added = send(&here, "cam1/rtmp-endpoint", serde_json::json!({"endpointUrl": url}));
    let endpoint = added["dataId"].as_str().expect("an id").to_owned();
    let status = |node: &Node| broadcast(node, "cam1").json()["endPointList"][0]["status"].clone();
    assert_eq!(status(&here), "created");

    let publisher = publish(&here.rtmp("/LiveApp/cam1"), &[]);
    wait_for(SOON, "it to be pushed", || status(&here) == "broadcasting");
    wait_for(SOON, "it to play there", || plays(&there, "pushed"));
    assert_eq!(tracks(&there.url("/LiveApp/streams/pushed.m3u8")), "aac h264");
    assert_eq!(webrtc_viewers(&here, "cam1"), Some(0), "a push is no viewer");

    // The other side goes away without a word and comes back.
    let (_temp, dir, ports) = there.crash();
    let there = Node::start_in(&dir, ports, &[]);
    wait_for(NOTICED, "it to be pushed again", || plays(&there, "pushed"));
    wait_for(SOON, "that to be seen", || status(&here) == "broadcasting");

    drop(publisher);
    post(&rest(&here, "cam1/stop"));
    wait_for(SOON, "it to end there", || broadcast(&there, "pushed").status == 404);
    wait_for(SOON, "that to be seen", || status(&here) == "finished");

    let _publisher = publish(&here.rtmp("/LiveApp/cam1"), &[]);
    wait_for(SOON, "it to be pushed with its stream", || broadcast(&there, "pushed").status == 200);
    let gone =
        http(&rest(&here, &format!("cam1/rtmp-endpoint?endpointServiceId={endpoint}")), &["-X", "DELETE"]);
    assert_eq!(gone.json()["success"], true);
    wait_for(SOON, "it to end there", || broadcast(&there, "pushed").status == 404);
    assert_eq!(status_of(&here, "cam1"), "broadcasting");
}

/// Answers every request so; gives its address.
fn answers(reply: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 16384];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    at.to_string()
}

#[test]
fn what_cannot_be_called_is_said_in_a_sentence() {
    let node = Node::start();
    source(&node, "rtsp", "rtsp://192.0.2.1/x");
    let no = post(&rest(&node, "rtsp/start")).json();
    assert!(
        no["success"] == false && no["message"].as_str().is_some_and(|why| why.contains("whep://")),
        "{no}"
    );
    assert_eq!(status_of(&node, "rtsp"), "created");
    let sdp =
        "HTTP/1.1 201 Created\r\ncontent-type: application/sdp\r\nlocation: /1\r\nconnection: close\r\n\r\n";
    let described: &'static str =
        Box::leak(format!("{sdp}v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n").into_boxed_str());
    let garbage: &'static str = Box::leak(format!("{sdp}<html>").into_boxed_str());
    for (id, reply, why) in [
        (
            "locked",
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 9\r\n\r\nno token\n",
            "refuses with 401 Unauthorized: \"no token\"",
        ),
        ("noise", "SSH-2.0-OpenSSH_9.2\r\n", "gave no answer that is HTTP"),
        ("page", garbage, "nothing can be agreed on"),
        ("described", described, "nothing can be agreed on"),
    ] {
        source(&node, id, &format!("whep://{}/x?token=very-secret", answers(reply)));
        assert_eq!(post(&rest(&node, &format!("{id}/start"))).json()["success"], true);
        wait_for(SOON, "it to be seen as failed", || status_of(&node, id) == "failed");
        wait_for(SOON, why, || node.log().contains(why));
        assert_eq!(post(&rest(&node, &format!("{id}/stop"))).json()["success"], true);
        assert_eq!(status_of(&node, id), "finished");
    }
    assert!(!node.log().contains("very-secret"), "tokens are not logged");
}

#[test]
fn one_node_of_a_cluster_pulls_a_source_and_another_takes_it_over() {
    let there = Node::start();
    let _publisher = publish(&there.rtmp("/LiveApp/cam1"), &[]);
    let mut cluster = Cluster::start(&["o1", "o2", "e1"]);
    source(cluster.node("e1"), "copy", &whep(&there, "cam1"));
    // Said to an edge, which pulls nothing itself.
    assert_eq!(post(&rest(cluster.node("e1"), "copy/start")).json()["success"], true);
    let first = || owner(cluster.node("e1"), "copy");
    wait_for(SOON, "an origin to have it", || first().is_some_and(|node| node.starts_with('o')));
    let first = first().expect("an owner");
    wait_for(SOON, "the edge to play it", || plays(cluster.node("e1"), "copy"));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(webrtc_viewers(&there, "cam1"), Some(1), "one node alone pulls it");

    let other = if first == "o1" { "o2" } else { "o1" };
    cluster.crash(&first);
    wait_for(SOON, "the other origin to have it", || {
        owner(cluster.node("e1"), "copy").as_deref() == Some(other)
    });
    wait_for(SOON, "the edge to go on", || {
        media_playlist(cluster.node("e1"), "copy").1.contains("#EXT-X-DISCONTINUITY\n")
    });
    // It drains, with nobody left to give the source to.
    post(&cluster.node("e1").url(&format!("/rest/v2/cluster/node/{other}/drain")));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(owner(cluster.node("e1"), "copy").as_deref(), Some(other));
    let first: &'static str = if first == "o1" { "o1" } else { "o2" };
    cluster.join(first);
    wait_for(SOON, "it to be given away", || owner(cluster.node("e1"), "copy").as_deref() == Some(first));
    assert_eq!(post(&rest(cluster.node("e1"), "copy/stop")).json()["success"], true);
    wait_for(SOON, "nobody to pull it", || owner(cluster.node("e1"), "copy").is_none());
}
