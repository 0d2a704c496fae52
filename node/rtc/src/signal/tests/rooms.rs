//! Rooms, and peers that need only be introduced.

use super::*;

fn room_of(name: &str, stream: &str) -> serde_json::Value {
    json!({
        "command": "joinRoom", "room": name, "mainTrack": name, "streamId": stream, "mode": "multitrack",
        "streamName": "", "role": "", "metadata": "",
    })
}

fn ids(said: &serde_json::Value) -> Vec<&str> {
    said["idMapping"].as_object().unwrap().values().map(|id| id.as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn three_meet_in_a_room() {
    let node = Node::new();
    let signalling = node.signalling();
    let (mut a, mut b, mut c) = (Talk::new(&signalling), Talk::new(&signalling), Talk::new(&signalling));
    a.say(room_of("room1", "a")).await;
    let joined = a.hear().await;
    assert_eq!(
        (joined["definition"].as_str(), joined["ATTR_ROOM_NAME"].as_str()),
        (Some("joinedTheRoom"), Some("room1"))
    );
    assert_eq!(joined["streams"], json!([]));
    // The room that was joined is the main track, though the client says none.
    a.publishes("a", "").await;
    node.tell(SessionEvent::Connected).await;
    let started = a.hear().await;
    assert_eq!(
        (started["definition"].as_str(), started["room"].as_str()),
        (Some("publish_started"), Some("room1"))
    );
    let play = json!({"command": "play", "streamId": "room1", "userPublishId": "a"});
    a.say(play).await;
    assert_eq!(a.hears("definition").await, "streaming_starts_soon", "nobody else is there");

    b.say(room_of("room1", "b")).await;
    assert_eq!(b.hear().await["streamList"][0]["streamId"], "a");
    b.publishes("b", "room1").await;
    let offer = a.answers("room1").await;
    assert_eq!(ids(&offer), ["ARDAMSvb", "ARDAMSab"]);

    c.publishes("c", "room1").await;
    assert_eq!(a.hear().await["trackId"], "c");
    let offer = a.answers("room1").await;
    assert_eq!(ids(&offer), ["ARDAMSvb", "ARDAMSab", "ARDAMSvc", "ARDAMSac"]);
    c.say(json!({"command": "getRoomInfo", "room": "room1", "streamId": "c"})).await;
    let info = c.hear().await;
    assert_eq!(
        (info["command"].as_str(), info["streams"].clone()),
        (Some("roomInformation"), json!(["a", "b"]))
    );
    c.say(json!({"command": "getSubtracks", "streamId": "room1", "role": "", "offset": 1, "size": 1})).await;
    let list = c.hear().await;
    assert!(list["subtrackList"][0].as_str().unwrap().contains("\"b\""), "{list}");
    c.say(json!({"command": "getSubtracksCount", "streamId": "room1", "role": "", "status": ""})).await;
    assert_eq!(c.hear().await["count"], 3);

    node.log();
    b.say(json!({"command": "leaveFromRoom", "room": "room1", "mainTrack": "room1", "streamId": "b"})).await;
    assert_eq!(b.hears("definition").await, "leavedFromRoom");
    assert_eq!(b.hears("definition").await, "publish_finished");
    let gone = a.hear().await;
    assert_eq!((gone["definition"].as_str(), gone["trackId"].as_str()), (Some("subtrackRemoved"), Some("b")));
    let offer = a.answers("room1").await;
    assert_eq!(ids(&offer), ["ARDAMSvc", "ARDAMSac"]);
    assert!(node.log().contains(&"again c".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn no_offer_is_made_while_one_waits_for_its_answer() {
    let node = Node::new();
    let signalling = node.signalling();
    let (mut a, mut b) = (Talk::new(&signalling), Talk::new(&signalling));
    a.publishes("a", "room1").await;
    b.say(json!({"command": "play", "streamId": "room1"})).await;
    assert_eq!(b.hears("type").await, "offer");
    assert_eq!(b.hears("command").await, "takeCandidate");
    a.publishes("c", "room1").await;
    b.hears_nothing().await;
    b.say(json!({"command": "takeConfiguration", "streamId": "room1", "type": "answer", "sdp": "fine"}))
        .await;
    assert_eq!(b.hears("definition").await, "subtrackAdded");
    b.answers("room1").await;
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_while_another_offer_is_made() {
    let node = Node::new();
    let signalling = node.signalling();
    let (mut publisher, mut player) = (Talk::new(&signalling), Talk::new(&signalling));
    publisher.publishes("a", "room1").await;
    player.plays("room1").await;
    let session = node.newest();
    node.gathered.send_replace(false);
    publisher.publishes("b", "room1").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.log();
    node.tell_session(session, SessionEvent::Connected).await;
    assert_eq!(player.hears("definition").await, "play_started");
    player.say(json!({"command": "forceStreamQuality", "streamId": "room1", "streamHeight": 360})).await;
    player.hears_nothing().await;
    assert!(node.log().contains(&"quality 0 Height(360)".to_owned()));
    node.gathered.send_replace(true);
    assert_eq!(player.hears("trackId").await, "b");
    player.answers("room1").await;

    node.gathered.send_replace(false);
    publisher.publishes("c", "room1").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stopped = tokio::time::Instant::now();
    player.say(json!({"command": "stop", "streamId": "room1"})).await;
    assert_eq!(player.hears("definition").await, "play_finished");
    assert!(stopped.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn what_was_left_out_of_an_offer_is_offered_later() {
    let node = Node::new();
    let signalling = node.signalling();
    let (mut publisher, mut player) = (Talk::new(&signalling), Talk::new(&signalling));
    for id in ["a", "b"] {
        publisher.publishes(id, "room1").await;
    }
    *node.refused.lock().unwrap() = "a".into();
    let offer = player.plays("room1").await;
    assert_eq!(ids(&offer), ["ARDAMSvb", "ARDAMSab"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    player.hears_nothing().await;
    assert!(node.log().contains(&"again b,a".to_owned()));
    // Somebody else who comes does not wait for it.
    publisher.publishes("c", "room1").await;
    assert_eq!(player.hears("trackId").await, "c");
    let offer = player.answers("room1").await;
    assert_eq!(ids(&offer), ["ARDAMSvb", "ARDAMSab", "ARDAMSvc", "ARDAMSac"]);
    node.refused.lock().unwrap().clear();
    assert_eq!(player.hears("trackId").await, "a");
    let offer = player.answers("room1").await;
    assert_eq!(ids(&offer)[4..], ["ARDAMSva", "ARDAMSaa"]);
    player.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_track_is_enabled_before_the_answer() {
    let node = Node::new();
    let signalling = node.signalling();
    let (mut publisher, mut player) = (Talk::new(&signalling), Talk::new(&signalling));
    for id in ["a", "b"] {
        publisher.publishes(id, "room1").await;
    }
    node.log();
    player.say(json!({"command": "play", "streamId": "room1", "disableTracksByDefault": true})).await;
    assert_eq!(player.hears("type").await, "offer");
    player.say(json!({"command": "enableTrack", "streamId": "room1", "trackId": "b", "enabled": true})).await;
    player
        .say(json!({"command": "takeConfiguration", "streamId": "room1", "type": "answer", "sdp": "fine"}))
        .await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let log = node.log();
    assert_eq!(log[log.len() - 3..], ["accept fine", "enable v0 false", "enable a0 false"], "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_player_chooses_among_tracks() {
    let node = Node::new();
    let signalling = node.signalling();
    let (mut publisher, mut player) = (Talk::new(&signalling), Talk::new(&signalling));
    for id in ["a", "b", "c"] {
        publisher.publishes(id, "room1").await;
    }
    for (list, expected) in
        [(json!(["!b"]), ["ARDAMSva", "ARDAMSvc"]), (json!(["c", "b"]), ["ARDAMSvb", "ARDAMSvc"])]
    {
        player.say(json!({"command": "play", "streamId": "room1", "trackList": list})).await;
        let offer = player.answers("room1").await;
        let videos: Vec<&str> = ids(&offer).into_iter().filter(|id| id.starts_with("ARDAMSv")).collect();
        assert_eq!(videos, expected);
        player.say(stop("room1")).await;
        assert_eq!(player.hears("definition").await, "play_finished");
    }
    node.log();
    player.say(json!({"command": "play", "streamId": "room1", "disableTracksByDefault": true})).await;
    player.answers("room1").await;
    player.say(json!({"command": "enableTrack", "streamId": "room1", "trackId": "b", "enabled": true})).await;
    player
        .say(json!({"command": "setMaxVideoTrackCountCommand", "streamId": "room1", "maxTrackCount": 1}))
        .await;
    player.say(json!({"command": "forceStreamQuality", "streamId": "room1", "streamHeight": 240, "trackId": "c"})).await;
    player.say(json!({"command": "getTrackList", "streamId": "room1"})).await;
    assert_eq!(player.hear().await["trackList"], json!(["a", "b", "c"]));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let log = node.log();
    assert_eq!(log.iter().filter(|line| line.ends_with("false")).count(), 6 + 2, "{log:?}");
    assert_eq!(
        [&log[..1], &log[7..]].concat(),
        [
            "accept fine",
            "enable v1 true",
            "enable a1 true",
            "enable v0 true",
            "enable v1 false",
            "enable v2 false",
            "quality 2 Height(240)"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_known_may_be_waited_for() {
    let node = Node::new();
    node.make_room("room1");
    let mut talk = Talk::new(&node.signalling());
    talk.say(json!({"command": "play", "streamId": "room1"})).await;
    assert_eq!(talk.hears("definition").await, "streaming_starts_soon");
    talk.say(stop("room1")).await;
    assert_eq!(talk.hears("definition").await, "play_finished");
    talk.say(json!({"command": "joinRoom", "room": "room1"})).await;
    let joined = talk.hear().await;
    assert!(message::valid_id(joined["streamId"].as_str().unwrap()), "who has no id gets one: {joined}");
}

fn join(stream: &str, mode: &str, multi: bool) -> serde_json::Value {
    json!({"command": "join", "streamId": stream, "multiPeer": multi, "mode": mode})
}

#[tokio::test(start_paused = true)]
async fn two_peers_are_introduced() {
    let signalling = Node::new().signalling();
    let (mut a, mut b, mut c) = (Talk::new(&signalling), Talk::new(&signalling), Talk::new(&signalling));
    a.say(join("p", "play", false)).await;
    assert_eq!(a.hears("definition").await, "joined");
    a.say(offer("p", "too early")).await;
    assert_eq!(a.hears("definition").await, "no_peer_associated_before");
    b.say(join("p", "both", false)).await;
    assert_eq!(b.hears("definition").await, "joined");
    assert_eq!(b.hears("command").await, "start", "the one that sends makes the offer");
    c.say(join("p", "both", false)).await;
    assert_eq!(c.hears("definition").await, "streamIdInUse");
    c.say(offer("p", "a stranger's")).await;
    assert_eq!(c.hears("definition").await, "no_peer_associated_before");

    b.say(offer("p", "the offer")).await;
    let passed = a.hear().await;
    assert_eq!((passed["type"].as_str(), passed["sdp"].as_str()), (Some("offer"), Some("the offer")));
    let answer =
        json!({"command": "takeConfiguration", "streamId": "p", "type": "answer", "sdp": "the answer"});
    a.say(answer).await;
    assert_eq!(b.hears("sdp").await, "the answer");
    let candidate = json!({"command": "takeCandidate", "streamId": "p", "label": 1, "id": "v", "candidate": "candidate:1"});
    a.say(candidate).await;
    let passed = b.hear().await;
    assert_eq!((passed["label"].as_u64(), passed["candidate"].as_str()), (Some(1), Some("candidate:1")));
    b.say(json!({"command": "peerMessageCommand", "streamId": "p", "definition": "chat", "data": {"x": 1}}))
        .await;
    let passed = a.hear().await;
    assert_eq!(
        (passed["command"].as_str(), passed["data"]["x"].as_u64()),
        (Some("peerMessageCommand"), Some(1))
    );

    a.say(json!({"command": "leave", "streamId": "p"})).await;
    assert_eq!(a.hears("definition").await, "leaved");
    assert_eq!(b.hears("command").await, "stop");
    c.say(join("p", "both", false)).await;
    assert_eq!(c.hears("definition").await, "joined");
    assert_eq!(b.hears("command").await, "start", "who has waited longer makes the offer");
    drop(b);
    assert_eq!(c.hears("command").await, "stop", "a lost socket is leaving");
}

#[tokio::test(start_paused = true)]
async fn a_host_of_several_meets_each_under_an_id_of_its_own() {
    let signalling = Node::new().signalling();
    let (mut host, mut guest) = (Talk::new(&signalling), Talk::new(&signalling));
    host.say(join("p", "both", true)).await;
    assert_eq!(host.hears("definition").await, "joined");
    guest.say(join("p", "both", true)).await;
    let (to_host, to_guest) = (host.hear().await, guest.hear().await);
    assert_eq!(to_host, to_guest);
    assert_eq!(to_host["command"], "connectWithNewId");
    let id = to_host["streamId"].as_str().unwrap().to_owned();
    host.say(join(&id, "both", false)).await;
    guest.say(join(&id, "both", false)).await;
    assert_eq!(host.hears("definition").await, "joined");
    assert_eq!(host.hears("command").await, "start");
    assert_eq!(guest.hears("definition").await, "joined");
}

#[tokio::test]
async fn lists_of_those_who_say_a_lot_are_whole_and_short() {
    let node = Node::new();
    let signalling = node.signalling();
    let _published = node.fill_room("room1", 120, &"\"".repeat(20_000));
    let mut client = Talk::new(&signalling);
    client
        .say(json!({"command": "getSubtracks", "streamId": "room1", "role": "", "offset": 50, "size": 50}))
        .await;
    let list = client.hear().await;
    assert!(list.to_string().len() < 200_000);
    let subtracks = list["subtrackList"].as_array().unwrap();
    assert_eq!(subtracks.len(), 50, "none is left out");
    let subtracks: Vec<serde_json::Value> =
        subtracks.iter().map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap()).collect();
    assert_eq!(
        (subtracks[0]["streamId"].as_str(), subtracks[49]["streamId"].as_str()),
        (Some("room1-050"), Some("room1-099"))
    );
    assert_eq!(subtracks[0]["metaData"].as_str().map(str::len), Some(20_000));
    assert!(subtracks[49]["metaData"].is_null());

    client.say(room_of("room1", "me")).await;
    let joined = client.hear().await;
    assert_eq!(joined["definition"], "joinedTheRoom");
    assert!(joined.to_string().len() < 200_000);
    assert_eq!(joined["streamList"].as_array().map(Vec::len), Some(100));
    assert_eq!(joined["streamList"][0]["metaData"].as_str().map(str::len), Some(20_000));
    assert_eq!(joined["streamList"][99]["metaData"], "");

    let _long = node.fill_room("room2", 1, &"\"".repeat(120_000));
    client.say(json!({"command": "getBroadcastObject", "streamId": "room1-000"})).await;
    assert_eq!(client.hears("definition").await, "broadcastObject");
    client.say(json!({"command": "getBroadcastObject", "streamId": "room2-000"})).await;
    assert_eq!(client.hears("definition").await, "answer_too_long");
}
