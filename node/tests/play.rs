//! Publish with real ffmpeg; play with HLS, LL-HLS and RTMP; ask REST.

mod support;

use std::time::Duration;

use support::*;

#[test]
fn what_is_published_plays_everywhere_and_ends() {
    let node = Node::start();
    let list = node.url("/LiveApp/rest/v2/broadcasts/list/0/10");
    let mut ffmpeg = publish(&node.rtmp("/LiveApp/cam1"), &["-b:v", "1M"]);
    let hls = node.url("/LiveApp/streams/cam1.m3u8");
    wait_for(Duration::from_secs(12), "the playlist", || status(&hls) == 200);
    std::thread::sleep(Duration::from_secs(5));
    let (_, media) = media_playlist(&node, "cam1");
    for tag in ["EXT-X-PART-INF", "EXT-X-SERVER-CONTROL", "EXT-X-PRELOAD-HINT", "EXT-X-PROGRAM-DATE-TIME"] {
        assert!(media.contains(tag), "{tag} is missing: {media}");
    }
    assert_eq!(tracks(&hls), "aac h264");
    assert_eq!(tracks(&node.url("/LiveApp/streams/ll-hls/cam1/cam1__master.m3u8")), "aac h264");
    assert!(packets(&node.rtmp("/LiveApp/cam1"), 3) >= 60);
    assert_eq!(status(&node.url("/LiveApp/streams/cam1_adaptive.m3u8")), 404);
    assert_eq!(status(&node.url("/LiveApp/streams/nope.m3u8")), 404);

    let all = get(&list).json();
    assert_eq!(all.as_array().map(Vec::len), Some(1));
    let b = &all[0];
    assert_eq!(b["streamId"], "cam1");
    assert_eq!(b["status"], "broadcasting");
    assert_eq!(b["publishType"], "RTMP");
    assert_eq!((b["width"].as_i64(), b["height"].as_i64()), (Some(640), Some(360)));
    let bitrate = b["bitrate"].as_i64().unwrap_or(0);
    assert!((300_000..3_000_000).contains(&bitrate), "{bitrate}");
    let speed = b["speed"].as_f64().unwrap_or(0.0);
    assert!((0.8..1.3).contains(&speed), "{speed}");
    assert!(b["hlsViewerCount"].as_i64().is_some_and(|n| n >= 1));

    ffmpeg.signal("INT");
    wait_for(Duration::from_secs(5), "an auto-created stream to be gone", || {
        get(&list).json().as_array().is_some_and(Vec::is_empty)
    });
    assert_eq!(broadcast(&node, "cam1").status, 404);
    assert!(ffmpeg.wait(Duration::from_secs(5)).is_some());
}

#[test]
fn a_created_stream_says_finished() {
    let node = Node::start();
    let created = http(
        &node.url("/LiveApp/rest/v2/broadcasts/create"),
        &["-H", "Content-Type: application/json", "-d", r#"{"name":"Morning show"}"#],
    );
    assert_eq!(created.status, 200);
    let id = created.json()["streamId"].as_str().expect("an id").to_owned();
    assert_eq!(broadcast(&node, &id).json()["status"], "created");
    let ffmpeg = publish(&node.rtmp(&format!("/LiveApp/{id}")), &[]);
    wait_for(Duration::from_secs(8), "it to be live", || {
        broadcast(&node, &id).json()["status"] == "broadcasting"
    });
    let stopped = http(&node.url(&format!("/LiveApp/rest/v2/broadcasts/{id}/stop")), &["-X", "POST"]);
    assert_eq!(stopped.json()["success"], true);
    wait_for(Duration::from_secs(5), "it to be finished", || {
        broadcast(&node, &id).json()["status"] == "finished"
    });
    let b = broadcast(&node, &id).json();
    assert_eq!((b["name"].as_str(), b["bitrate"].as_i64()), (Some("Morning show"), Some(0)));
    drop(ffmpeg);
}

#[test]
fn a_second_publisher_and_an_unknown_app_are_refused() {
    let node = Node::start();
    let _first = publish(&node.rtmp("/LiveApp/cam1"), &[]);
    wait_for(Duration::from_secs(8), "it to be live", || broadcast(&node, "cam1").status == 200);
    for url in ["/LiveApp/cam1", "/Nowhere/cam1"] {
        let mut second = publish(&node.rtmp(url), &["-t", "5"]);
        let end = second.wait(Duration::from_secs(8)).expect("it is told at once");
        assert!(!end.success(), "{url}");
    }
    assert_eq!(broadcast(&node, "cam1").json()["status"], "broadcasting");
    wait_for(Duration::from_secs(5), "the first to play on", || packets(&node.rtmp("/LiveApp/cam1"), 1) > 20);
}

#[test]
fn a_hiccup_of_the_publisher_ends_nobodys_playback() {
    let node = Node::start();
    let first = publish(&node.rtmp("/LiveApp/cam1"), &[]);
    wait_for(Duration::from_secs(12), "the playlist", || media_playlist(&node, "cam1").1.contains("EXTINF"));
    let before = media_playlist(&node, "cam1").1;
    let mut player = Process(
        std::process::Command::new("ffmpeg")
            .args([
                "-v",
                "error",
                "-nostdin",
                "-i",
                &node.rtmp("/LiveApp/cam1"),
                "-c",
                "copy",
                "-f",
                "null",
                "-",
            ])
            .spawn()
            .expect("ffmpeg"),
    );
    std::thread::sleep(Duration::from_secs(1));
    first.signal("KILL");
    drop(first);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(broadcast(&node, "cam1").json()["status"], "broadcasting");
    let _second = publish(&node.rtmp("/LiveApp/cam1"), &[]);
    wait_for(Duration::from_secs(12), "the discontinuity", || {
        media_playlist(&node, "cam1").1.contains("#EXT-X-DISCONTINUITY\n")
    });
    let after = media_playlist(&node, "cam1").1;
    let (a, b) = (tag(&before, "#EXT-X-MEDIA-SEQUENCE"), tag(&after, "#EXT-X-MEDIA-SEQUENCE"));
    assert!(a.is_some() && b >= a, "{a:?} {b:?}");
    assert_eq!(tag(&before, "#EXT-X-TARGETDURATION"), tag(&after, "#EXT-X-TARGETDURATION"));
    assert!(player.wait(Duration::from_millis(10)).is_none(), "the player is still connected");
}

#[test]
fn a_publisher_that_fell_silent_gives_way() {
    let node = Node::start();
    let first = publish(&node.rtmp("/LiveApp/cam1"), &[]);
    wait_for(Duration::from_secs(12), "the playlist", || media_playlist(&node, "cam1").1.contains("EXTINF"));
    // Its connection stays open, but nothing comes any more: as when a network goes away without a word.
    first.signal("STOP");
    std::thread::sleep(Duration::from_millis(2500));
    let mut second = publish(&node.rtmp("/LiveApp/cam1"), &[]);
    wait_for(Duration::from_secs(8), "the discontinuity", || {
        media_playlist(&node, "cam1").1.contains("#EXT-X-DISCONTINUITY\n")
    });
    assert!(second.wait(Duration::from_millis(10)).is_none(), "the second publishes");
    first.signal("CONT");
    let mut first = first;
    assert!(first.wait(Duration::from_secs(8)).is_some(), "the first has been told to stop");
    assert_eq!(broadcast(&node, "cam1").json()["status"], "broadcasting");
}

#[test]
fn long_gops_audio_alone_and_video_alone_play() {
    let node = Node::start();
    let _long = publish(&node.rtmp("/LiveApp/long"), &["-g", "240", "-sc_threshold", "0"]);
    let _audio = publish_inputs(&node.rtmp("/LiveApp/audio"), false, true, &[]);
    let _video = publish_inputs(&node.rtmp("/LiveApp/video"), true, false, &[]);
    wait_for(Duration::from_secs(12), "audio", || tracks(&node.url("/LiveApp/streams/audio.m3u8")) == "aac");
    wait_for(Duration::from_secs(12), "video", || tracks(&node.url("/LiveApp/streams/video.m3u8")) == "h264");
    let mut text = String::new();
    wait_for(Duration::from_secs(30), "two segments of 8 s", || {
        text = media_playlist(&node, "long").1;
        text.matches("#EXTINF").count() >= 2
    });
    let target = tag(&text, "#EXT-X-TARGETDURATION").expect("a target duration");
    assert_eq!(target, 8.0);
    for line in text.lines().filter_map(|l| l.strip_prefix("#EXTINF:")) {
        let d: f64 = line.split(',').next().and_then(|d| d.parse().ok()).expect("a duration");
        assert!(d.round() <= target && d > 7.0, "{d}");
    }
    assert_eq!(tracks(&node.url("/LiveApp/streams/long.m3u8")), "aac h264");
}

#[test]
fn sigterm_ends_streams_cleanly() {
    let mut node = Node::start();
    let mut ffmpeg = publish(&node.rtmp("/LiveApp/cam1"), &[]);
    wait_for(Duration::from_secs(12), "the playlist", || media_playlist(&node, "cam1").1.contains("EXTINF"));
    let (url, _) = media_playlist(&node, "cam1");
    node.signal("TERM");
    wait_for(Duration::from_secs(3), "the end of the playlist", || {
        let a = get(&url);
        a.status == 0 || a.text().contains("#EXT-X-ENDLIST")
    });
    assert!(node.wait(Duration::from_secs(12)).success());
    assert!(ffmpeg.wait(Duration::from_secs(5)).is_some(), "the publisher has been told");
}
