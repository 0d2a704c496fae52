//! Conversations as AMS's adaptor has them.

mod fake;
mod rooms;
mod socket;

use std::time::{Duration, Instant};

use bytes::Bytes;
use fake::{Node, Talk};
use serde_json::json;

use super::*;
use crate::SessionEvent;
use crate::egress::EgressStats;
use crate::ingest::IngestStats;
use crate::transport::{Closed, Stats};

fn offer(stream: &str, sdp: &str) -> serde_json::Value {
    json!({"command": "takeConfiguration", "streamId": stream, "type": "offer", "sdp": sdp})
}

fn stop(stream: &str) -> serde_json::Value {
    json!({"command": "stop", "streamId": stream})
}

#[tokio::test(start_paused = true)]
async fn a_publisher_begins_is_measured_and_stops() {
    let node = Node::new();
    let mut talk = Talk::new(&node.signalling());
    talk.publishes("cam1", "").await;
    node.tell(SessionEvent::Connected).await;
    assert_eq!(talk.hears("definition").await, "publish_started");
    for _ in 0..3 {
        let stats = IngestStats { video_bitrate: 900_000, audio_bitrate: 60_000, ..IngestStats::default() };
        node.tell(SessionEvent::Stats(Stats::In(stats))).await;
    }
    let measured = talk.hear().await;
    assert_eq!(measured["definition"], "bitrateMeasurement");
    assert_eq!(
        (measured["videoBitrate"].as_u64(), measured["audioBitrate"].as_u64()),
        (Some(900_000), Some(60_000))
    );
    talk.say(stop("cam1")).await;
    assert_eq!(talk.hears("definition").await, "publish_finished");
    assert_eq!(node.log(), ["close 1"]);
    let ended =
        node.hub.get(&sluice_media::StreamKey::new("live", "cam1")).is_none_or(|stream| stream.is_ended());
    assert!(ended, "stop ends the stream at once");
    talk.publishes("cam1", "").await;
}

#[tokio::test(start_paused = true)]
async fn another_offer_of_a_publisher_is_answered() {
    let node = Node::new();
    let mut talk = Talk::new(&node.signalling());
    talk.publishes("cam1", "").await;
    talk.say(offer("cam1", "restart")).await;
    let answer = talk.hear().await;
    assert_eq!((answer["type"].as_str(), answer["sdp"].as_str()), (Some("answer"), Some(fake::SDP)));
    assert_eq!(node.log(), ["answers restart"]);
}

#[tokio::test(start_paused = true)]
async fn stop_ends_the_stream_though_the_goodbye_was_faster() {
    let node = Node::new();
    let mut talk = Talk::new(&node.signalling());
    let live = || node.hub.get(&sluice_media::StreamKey::new("live", "cam1")).is_some();
    for known in [true, false] {
        talk.publishes("cam1", "").await;
        let session = node.newest();
        node.says_goodbye(session).await;
        if known {
            assert_eq!(talk.hears("definition").await, "publish_finished");
            assert!(live(), "it may come back");
        }
        talk.say(stop("cam1")).await;
        if !known {
            assert_eq!(talk.hears("definition").await, "publish_finished");
        }
        assert!(!live(), "known: {known}");
        assert!(node.log().contains(&"ends cam1".to_owned()));
    }
    // The id is free at once, whatever order things happen in.
    talk.publishes("cam1", "").await;
    talk.say(stop("cam1")).await;
    talk.say(json!({"command": "publish", "streamId": "cam1"})).await;
    talk.say(offer("cam1", "v=0")).await;
    let said = [talk.hear().await, talk.hear().await, talk.hear().await];
    assert!(said.iter().any(|said| said["type"] == "answer"), "{said:?}");
    assert!(live());
}

#[tokio::test(start_paused = true)]
async fn a_player_begins_changes_quality_and_sees_the_end() {
    let node = Node::new();
    let signalling = node.signalling();
    let (mut publisher, mut player) = (Talk::new(&signalling), Talk::new(&signalling));
    publisher.publishes("cam1", "").await;
    let offer = player.plays("cam1").await;
    assert_eq!(offer["idMapping"], json!({"v0": "ARDAMSvcam1", "a0": "ARDAMSacam1"}));
    node.tell(SessionEvent::Connected).await;
    assert_eq!(player.hears("definition").await, "play_started");
    for (height, track) in [(json!(480), ""), (json!("auto"), ""), (json!(0), "other")] {
        let text = json!({"command": "forceStreamQuality", "streamId": "cam1", "streamHeight": height, "trackId": track});
        player.say(text).await;
    }
    player
        .say(json!({"command": "toggleVideo", "streamId": "cam1", "trackId": "cam1", "enabled": false}))
        .await;
    player
        .say(json!({"command": "enableTrack", "streamId": "cam1", "trackId": "ARDAMSacam1", "enabled": true}))
        .await;
    node.tell(SessionEvent::Rendition(0, 480)).await;
    let changed = player.hear().await;
    assert_eq!(
        (changed["definition"].as_str(), changed["streamHeight"].as_u64()),
        (Some("resolutionChangeInfo"), Some(480))
    );
    for _ in 0..3 {
        let stats = EgressStats { estimate: 5, video_bitrate: 4, audio_bitrate: 1, ..EgressStats::default() };
        node.tell(SessionEvent::Stats(Stats::Out(stats))).await;
    }
    assert_eq!(player.hear().await["targetBitrate"], 5);
    let log = node.log();
    let expected = [
        "accept fine",
        "quality 0 Height(480)",
        "quality 0 Auto",
        "enable v0 false",
        "enable v0 true",
        "enable a0 true",
    ];
    assert_eq!(log, expected);
    node.tell(SessionEvent::StreamEnded(0)).await;
    assert_eq!(player.hears("definition").await, "play_finished");
    assert_eq!(node.log(), ["close 2"]);
}

#[tokio::test(start_paused = true)]
async fn refusals_name_the_reason() {
    let node = Node::new();
    let signalling = node.signalling();
    let mut one = Talk::new(&signalling);
    one.say(json!({"command": "play", "streamId": "nothing"})).await;
    let error = one.hear().await;
    assert_eq!(
        (error["command"].as_str(), error["definition"].as_str()),
        (Some("error"), Some("no_stream_exist"))
    );
    assert_eq!((error["error_code"].as_str(), error["streamId"].as_str()), (Some("404"), Some("nothing")));
    assert!(error["information"].as_str().unwrap().contains("not being published"));

    one.publishes("cam1", "").await;
    one.say(json!({"command": "publish", "streamId": "cam1"})).await;
    assert_eq!(one.hears("definition").await, "already_publishing");
    one.say(offer("cam1", "bad")).await;
    assert_eq!(one.hears("definition").await, "notSetRemoteDescription");

    let mut other = Talk::from(&signalling, [192, 0, 2, 2]);
    other.say(json!({"command": "publish", "streamId": "cam1"})).await;
    assert_eq!(other.hears("command").await, "start");
    other.say(offer("cam1", "v=0")).await;
    assert_eq!(other.hears("definition").await, "streamIdInUse");
    other.say(json!({"command": "publish", "streamId": "cam2"})).await;
    assert_eq!(other.hears("command").await, "start");
    other.say(offer("cam2", "bad")).await;
    let error = other.hear().await;
    assert_eq!(error["definition"], "notSetRemoteDescription");
    assert!(error["information"].as_str().unwrap().contains("fingerprint"), "{error}");

    other.plays("cam1").await;
    other.say(json!({"command": "play", "streamId": "cam1"})).await;
    assert_eq!(other.hears("definition").await, "already_playing");
    let bad = json!({"command": "takeConfiguration", "streamId": "cam1", "type": "answer", "sdp": "bad"});
    other.say(bad).await;
    assert_eq!(other.hears("definition").await, "notSetRemoteDescription");
    for (text, definition) in [
        (
            json!({"command": "forceStreamQuality", "streamId": "x", "streamHeight": 1}),
            "no_peer_associated_before",
        ),
        (offer("x", "v=0"), "no_peer_associated_before"),
        (json!({"command": "play"}), "noStreamNameSpecified"),
        (json!({"command": "publish", "streamId": "a b"}), "invalidStreamName"),
        (json!({"command": "getStreamInfo", "streamId": "x"}), "no_stream_exist"),
        (json!({"command": "getBroadcastObject", "streamId": "x"}), "no_stream_exist"),
        (json!({"command": "getTrackList", "streamId": "x"}), "no_stream_exist"),
        (
            json!({"command": "updateStreamMetaData", "streamId": "cam1", "metaData": "x"}),
            "unauthorized_access",
        ),
        (json!({"command": "dance", "streamId": "x"}), "unknown_command"),
    ] {
        other.say(text.clone()).await;
        assert_eq!(other.hears("definition").await, definition, "{text}");
    }
    other.say(json!({"command": "sing"})).await;
    other.say(json!({"command": "ping"})).await;
    assert_eq!(other.hears("command").await, "pong", "an unknown command is answered once");
}

#[tokio::test(start_paused = true)]
async fn what_a_client_asks_at_first_is_answered() {
    let mut talk = Talk::new(&Node::new().signalling());
    talk.say(json!({"command": "getIceServerConfig"})).await;
    let ice = talk.hear().await;
    assert_eq!(
        (ice["command"].as_str(), ice["stunServerUri"].as_str()),
        (Some("iceServerConfig"), Some("stun:s:3478"))
    );
    talk.say(json!({"command": "registerPushNotificationToken", "subscriberId": "s", "token": "t"})).await;
    let push = talk.hear().await;
    assert_eq!((push["command"].as_str(), push["success"].as_bool()), (Some("notification"), Some(false)));
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_stream_is_told() {
    let node = Node::new();
    let mut talk = Talk::new(&node.signalling());
    talk.publishes("cam1", "").await;
    talk.say(json!({"command": "getStreamInfo", "streamId": "cam1"})).await;
    let info = talk.hear().await;
    assert_eq!(
        (info["command"].as_str(), info["streamInfo"][0]["streamHeight"].as_u64()),
        (Some("streamInformation"), Some(720))
    );
    talk.say(json!({"command": "getTrackList", "streamId": "cam1", "token": ""})).await;
    assert_eq!(talk.hear().await, json!({"command": "trackList", "streamId": "cam1", "trackList": ["cam1"]}));
    talk.say(json!({"command": "getBroadcastObject", "streamId": "cam1"})).await;
    let broadcast = talk.hears("broadcast").await;
    let broadcast: serde_json::Value = serde_json::from_str(&broadcast).expect("a text that is JSON");
    assert_eq!(broadcast["status"], "broadcasting");
    talk.say(json!({"command": "getSubscriberCount", "streamId": "cam1"})).await;
    assert_eq!(talk.hear().await["count"], 3);
    talk.say(json!({"command": "getSubscribers", "streamId": "cam1", "offset": 0, "size": 9999})).await;
    assert_eq!(talk.hear().await["subscriberList"].as_array().unwrap().len(), 50);
    talk.say(json!({"command": "getDebugInfo", "streamId": "cam1"})).await;
    assert!(talk.hears("debugInfo").await.contains("\"publishes\":true"));
    talk.say(json!({"command": "updateStreamMetaData", "streamId": "cam1", "metaData": {"muted": true}}))
        .await;
    assert_eq!(node.log(), [r#"meta data cam1 {"muted":true}"#]);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_whose_websocket_is_lost_comes_again_without_an_end() {
    let node = Node::new();
    let signalling = node.signalling();
    let mut first = Talk::new(&signalling);
    first.publishes("cam1", "").await;
    drop(first);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(node.log().is_empty(), "media goes on");
    // Somebody else does not get it.
    let mut thief = Talk::from(&signalling, [192, 0, 2, 9]);
    thief.say(json!({"command": "publish", "streamId": "cam1"})).await;
    assert_eq!(thief.hears("command").await, "start");
    thief.say(offer("cam1", "v=0")).await;
    assert_eq!(thief.hears("definition").await, "streamIdInUse");
    let mut again = Talk::new(&signalling);
    again.publishes("cam1", "").await;
    assert_eq!(node.log(), ["breaks 1", "resumes cam1"]);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_does_not_come_again_is_a_broken_connection() {
    let node = Node::new();
    let mut talk = Talk::new(&node.signalling());
    talk.publishes("cam1", "").await;
    drop(talk);
    tokio::time::sleep(Duration::from_millis(2_900)).await;
    assert!(node.log().is_empty());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(node.log(), ["breaks 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_never_connects_is_said_to_have_failed() {
    let node = Node::new();
    let mut talk = Talk::new(&node.signalling());
    talk.publishes("cam1", "").await;
    node.tell(SessionEvent::Closed(Closed::Silent("no STUN request in 30 s: is UDP 5004 open?".into())))
        .await;
    let error = talk.hear().await;
    assert_eq!(error["definition"], "publishTimeoutError");
    assert!(error["information"].as_str().unwrap().contains("5004"));
    assert_eq!(talk.hears("definition").await, "publish_finished");
    talk.publishes("cam1", "").await;
}

#[tokio::test(start_paused = true)]
async fn data_goes_from_the_publisher_to_players_and_back() {
    let node = Node::new();
    let signalling = node.signalling();
    let (mut publisher, mut player, mut other) =
        (Talk::new(&signalling), Talk::new(&signalling), Talk::new(&signalling));
    publisher.publishes("cam1", "").await;
    player.plays("cam1").await;
    other.plays("cam1").await;
    // The client opens the channel, or the server does: it is all the same.
    for session in 1..=3 {
        node.tell_session(session, SessionEvent::Open { channel: 1, label: "cam1".into() }).await;
    }
    let message = |text: &'static str| SessionEvent::Message {
        channel: 1,
        label: "cam1".into(),
        message: crate::peer::Message { text: true, payload: Bytes::from_static(text.as_bytes()) },
    };
    tokio::time::sleep(Duration::from_millis(10)).await;
    node.log();
    node.tell_session(1, message("hello")).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut log = node.log();
    log.sort();
    assert_eq!(log, ["2 sends 1 hello", "3 sends 1 hello"]);
    node.tell_session(2, message("hi")).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut log = node.log();
    log.sort();
    assert_eq!(log, ["1 sends 1 hi", "3 sends 1 hi"]);
    player.say(json!({"command": "getVideoTrackAssignmentsCommand", "streamId": "cam1"})).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(node.log()[0].contains(r#"[{"videoLabel":"cam1","trackId":"cam1","reserved":false}]"#));
}

#[tokio::test(start_paused = true)]
async fn who_talks_too_fast_is_let_go_and_a_moment_makes_good() {
    let mut talk = Talk::new(&Node::new().signalling());
    let now = Instant::now();
    let ping = r#"{"command":"ping"}"#;
    for _ in 0..200 {
        talk.connection.handle(ping, now).await.unwrap();
        talk.inbox.try_next();
    }
    let later = now + Duration::from_secs(1);
    assert_eq!(talk.connection.handle(ping, now).await, Err(TooFast));
    for _ in 0..50 {
        talk.connection.handle(ping, later).await.unwrap();
    }
    assert_eq!(talk.connection.handle(ping, later).await, Err(TooFast));
}

#[tokio::test(start_paused = true)]
async fn one_connection_has_bounds() {
    let mut talk = Talk::new(&Node::new().signalling());
    let mut refused = 0;
    for n in 0..70 {
        talk.say(json!({"command": "publish", "streamId": format!("cam{n}")})).await;
        refused += usize::from(talk.hears("command").await == "error");
    }
    assert_eq!(refused, 70 - 64);
    for n in 0..70 {
        talk.say(json!({"command": "join", "streamId": format!("p{n}")})).await;
        refused += usize::from(talk.hears("command").await == "error");
    }
    assert_eq!(refused, 2 * (70 - 64));
}

#[tokio::test(start_paused = true)]
async fn all_are_told_that_the_server_stops_one_after_the_other() {
    let signalling = Node::new().signalling();
    let mut talks: Vec<Talk> = (0..4).map(|_| Talk::new(&signalling)).collect();
    let began = tokio::time::Instant::now();
    assert_eq!(signalling.server_will_stop(Duration::from_secs(4)).await, 4);
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    for talk in &mut talks {
        assert_eq!(talk.hears("definition").await, "server_will_stop");
    }
    signalling.close().await;
    assert!(talks[0].inbox.next().await.is_none());
    drop(talks);
    assert_eq!(signalling.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_is_sent_elsewhere_gives_its_stream_away() {
    let node = Node::new();
    let signalling = node.signalling();
    let mut talk = Talk::new(&signalling);
    talk.publishes("cam1", "").await;
    let stream = node.hub.get(&sluice_media::StreamKey::new("live", "cam1")).unwrap();
    signalling.server_will_stop(Duration::ZERO).await;
    assert_eq!(talk.hears("definition").await, "server_will_stop");
    assert!(!stream.is_moving(), "it may not heed it");
    drop(talk);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(stream.is_moving() && !stream.is_interrupted());
}
