//! The HTTP face: status codes, headers, sessions, blocking and the end of streams.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{END, Media, Site, av, site, text, write_all};
use sluice_media::session::Protocol;
use sluice_media::{Frame, Publisher, StreamKey, Timestamp, TrackConfig, VideoConfig};
use sluice_package::validate::{Ask, Checker, parse};
use sluice_package::{HlsSettings, SegmentType};

const H264: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -g 30";
const AAC: &str = "-c:a aac -b:a 64k";

fn media() -> Media {
    static MADE: std::sync::OnceLock<Media> = std::sync::OnceLock::new();
    MADE.get_or_init(|| av(40, "30", H264, AAC)).clone()
}

/// A stream of which 9.5 seconds are there.
async fn live(settings: HlsSettings) -> (Site, Publisher) {
    let site = site(settings);
    let mut publisher = site.publish("cam1", &media());
    write_all(&mut publisher, &media(), Timestamp::ZERO, Timestamp::from_millis(9500));
    assert!([200, 302].contains(&site.get("/LiveApp/streams/cam1.m3u8").await.status().as_u16()));
    (site, publisher)
}

fn header<'a>(r: &'a http::Response<bytes::Bytes>, name: &str) -> &'a str {
    r.headers().get(name).map_or("", |v| v.to_str().unwrap())
}

#[tokio::test]
async fn statuses_and_headers() {
    let (site, _publisher) = live(HlsSettings::default()).await;
    let begin = Instant::now();
    for (method, path, status) in [
        ("GET", "/LiveApp/streams/none.m3u8", 404),
        ("HEAD", "/LiveApp/streams/none.m3u8", 404),
        ("GET", "/LiveApp/streams/none/v0_1.m4s", 404),
        ("HEAD", "/LiveApp/streams/cam1_adaptive.m3u8", 404),
        ("GET", "/LiveApp/streams/cam1/x", 404),
        ("GET", "/LiveApp/streams/cam1/v7.m3u8?session=a", 404),
        ("GET", "/LiveApp/streams/cam1/v0_99.m4s", 404),
        ("GET", "/LiveApp/streams/cam1/v0_100.77.m4s", 404),
        ("GET", "/LiveApp/streams/cam1/v0_init_1.mp4", 404),
        ("POST", "/LiveApp/streams/cam1.m3u8", 405),
        ("OPTIONS", "/LiveApp/streams/cam1.m3u8", 204),
        ("HEAD", "/LiveApp/streams/cam1.m3u8", 200),
        ("HEAD", "/LiveApp/streams/cam1/v0.m3u8", 200),
        ("GET", "/LiveApp/streams/cam1/v0.m3u8", 302),
        ("GET", "/LiveApp/streams/cam1/v0.m3u8?session=a", 200),
        ("GET", "/LiveApp/streams/cam%31/v0.m3u8?session=a", 200),
        ("GET", "/LiveApp/streams/cam1/v0.m3u8?session=a&_HLS_msn=104&_HLS_part=0", 200),
        ("GET", "/LiveApp/streams/cam1/v0.m3u8?session=a&_HLS_msn=107", 400),
        ("GET", "/LiveApp/streams/cam1/v0.m3u8?session=a&_HLS_msn=104&_HLS_part=99", 400),
        ("GET", "/LiveApp/streams/cam1/v0.m3u8?session=a&_HLS_part=1", 400),
        ("GET", "/LiveApp/streams/cam1/v0.m3u8?session=a&_HLS_msn=x", 400),
        ("GET", "/LiveApp/streams/cam1/v0.m3u8?session=a&_HLS_skip=no", 400),
        ("GET", "/LiveApp/streams/ll-hls/cam1/cam1__master.m3u8", 200),
        ("GET", "/LiveApp/streams/cam1/v0_100.m4s", 200),
        ("GET", "/LiveApp/streams/cam1/v0_104.0.m4s", 200),
    ] {
        let r = site.ask(method, path, &[]).await;
        assert_eq!(r.status(), status, "{method} {path}: {}", text(&r));
        assert_eq!(header(&r, "access-control-allow-origin"), "*", "{method} {path}");
        assert!(method != "HEAD" || (r.body().is_empty() && header(&r, "content-length") != "0"), "{path}");
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "nothing of this waits");

    let r = site.get("/LiveApp/streams/cam1/v0.m3u8?session=a").await;
    assert_eq!(header(&r, "content-type"), "application/vnd.apple.mpegurl");
    assert_eq!(header(&r, "cache-control"), "no-cache");
    let p = parse(&text(&r)).unwrap();
    let init = p.segments[0].map.clone().unwrap();
    let r = site.get(&format!("/LiveApp/streams/cam1/{init}")).await;
    assert_eq!(
        (header(&r, "content-type"), header(&r, "cache-control")),
        ("video/mp4", "public, max-age=30")
    );
    assert_eq!(&r.body()[4..8], b"ftyp");

    // A segment is the concatenation of its parts.
    let whole = site.get("/LiveApp/streams/cam1/v0_103.m4s").await.into_body();
    let parts = &p.segments.iter().find(|s| s.media_sequence == 103).unwrap().parts;
    let mut joined = Vec::new();
    for part in parts {
        joined.extend_from_slice(site.get(&format!("/LiveApp/streams/cam1/{}", part.uri)).await.body());
    }
    assert_eq!(whole, joined);
    let range = [("range", "bytes=4-7")];
    let r = site.ask("GET", "/LiveApp/streams/cam1/v0_103.m4s", &range).await;
    assert_eq!((r.status().as_u16(), &r.body()[..]), (206, &b"moof"[..]));
    assert_eq!(header(&r, "content-range"), format!("bytes 4-7/{}", whole.len()));
}

#[tokio::test]
async fn large_playlists_are_compressed() {
    let (site, _publisher) = live(HlsSettings::default()).await;
    let uri = "/LiveApp/streams/cam1/v0.m3u8?session=a";
    let plain = site.get(uri).await;
    assert!(plain.body().len() > 2048);
    let r = site.ask("GET", uri, &[("accept-encoding", "gzip, deflate, br")]).await;
    assert_eq!(header(&r, "content-encoding"), "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&r.body()[..]), &mut text).unwrap();
    assert_eq!(text, common::text(&plain));
}

#[tokio::test]
async fn children_are_relative_to_where_the_master_is() {
    let (site, _publisher) = live(HlsSettings::default()).await;
    let r = text(&site.get("/LiveApp/streams/cam1.m3u8?session=00000000000000ab&token=x%2B").await);
    assert!(r.contains("\ncam1/v0.m3u8?session=00000000000000ab&token=x%2B\n"), "{r}");
    assert!(r.contains("URI=\"cam1/a0.m3u8?session=00000000000000ab&token=x%2B\""), "{r}");
    assert!(r.contains("RESOLUTION=320x180,FRAME-RATE=30.000"), "{r}");
    let r = text(&site.get("/LiveApp/streams/ll-hls/cam1/cam1__master.m3u8").await);
    assert!(r.contains("\n../../cam1/v0.m3u8?session="), "{r}");
    // What could break out of the playlist's syntax is not handed on.
    let r = text(&site.get("/LiveApp/streams/cam1.m3u8?session=a%22b&x=%22&evil=a'b").await);
    assert!(!r.contains("a%22b") && r.contains("x=%22"), "{r}");
}

#[tokio::test]
async fn viewers_are_counted_by_session() {
    let (site, _publisher) = live(HlsSettings::default()).await;
    let stream = site.hub.get(&StreamKey::new("LiveApp", "cam1")).unwrap();
    let viewers = || stream.stats().viewers(Protocol::Hls);
    let before = viewers();
    for _ in 0..5 {
        for s in ["00000000000000aa", "00000000000000bb", "a forged one"] {
            let uri = format!("/LiveApp/streams/cam1/v0.m3u8?session={}", s.replace(' ', "%20"));
            assert_eq!(site.get(&uri).await.status(), 200);
        }
        assert_eq!(site.ask("HEAD", "/LiveApp/streams/cam1.m3u8", &[]).await.status(), 200);
        assert_eq!(site.get("/LiveApp/streams/cam1/v0_101.m4s").await.status(), 200);
    }
    assert_eq!(viewers(), before + 3);
    // A session that asks stays, the others end after three target durations.
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        site.get("/LiveApp/streams/cam1/v0.m3u8?session=00000000000000aa").await;
    }
    assert_eq!(viewers(), 1);
}

#[tokio::test]
async fn a_blocked_player_is_answered_or_told_that_the_stream_has_stalled() {
    let (site, mut publisher) = live(HlsSettings::default()).await;
    let uri = "/LiveApp/streams/cam1/v0.m3u8?session=a";
    let (msn, part) = parse(&text(&site.get(uri).await)).unwrap().next().unwrap();
    let begin = Instant::now();
    let blocked = format!("{uri}&_HLS_msn={msn}&_HLS_part={part}");
    let (answer, ()) = tokio::join!(site.get(&blocked), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        write_all(&mut publisher, &media(), Timestamp::from_millis(9500), Timestamp::from_millis(9900));
    });
    assert_eq!(answer.status(), 200);
    assert!((Duration::from_millis(300)..Duration::from_millis(400)).contains(&begin.elapsed()));
    let (msn, part) = parse(&text(&answer)).unwrap().next().unwrap();
    let begin = Instant::now();
    let stalled = site.get(&format!("{uri}&_HLS_msn={msn}&_HLS_part={part}")).await;
    assert_eq!(stalled.status(), 503);
    assert!((5.9..6.5).contains(&begin.elapsed().as_secs_f64()));
}

#[tokio::test]
async fn an_ended_stream_shows_its_end_and_may_begin_anew() {
    let (site, publisher) = live(HlsSettings::default()).await;
    let uri = "/LiveApp/streams/cam1/v0.m3u8?session=a";
    let before = parse(&text(&site.get(uri).await)).unwrap();
    let (msn, part) = before.next().unwrap();
    let blocked = format!("{uri}&_HLS_msn={msn}&_HLS_part={part}");
    let (answer, ()) = tokio::join!(site.get(&blocked), async { publisher.finish() });
    let ended = parse(&text(&answer)).unwrap();
    assert!(ended.ended && ended.hint.is_none(), "{}", text(&answer));
    assert!(ended.segments.last().unwrap().uri.is_some(), "the last segment is whole");
    assert_eq!(site.get("/LiveApp/streams/cam1.m3u8").await.status(), 200, "for a while");

    let mut again = site.publish("cam1", &media());
    write_all(&mut again, &media(), Timestamp::ZERO, END);
    assert_eq!(site.get("/LiveApp/streams/cam1.m3u8").await.status(), 200);
    let fresh = parse(&text(&site.get(uri).await)).unwrap();
    assert!(!fresh.ended && fresh.segments.len() > 10);
    assert_eq!(site.service.packaging(), 1);
}

#[tokio::test]
async fn without_low_latency_and_in_ts() {
    let plain = HlsSettings { low_latency: false, ..HlsSettings::default() };
    let (site, _publisher) = live(plain).await;
    let list = site.playlist("/LiveApp/streams/cam1/v0.m3u8").await;
    assert!(
        !list.contains("PART") && !list.contains("SERVER-CONTROL") && list.contains("v0_103.m4s"),
        "{list}"
    );

    let ts = HlsSettings { segment_type: SegmentType::MpegTs, list_size: 3, ..HlsSettings::default() };
    let (site, _publisher) = live(ts).await;
    let list = site.playlist("/LiveApp/streams/cam1.m3u8").await;
    assert!(list.contains("#EXT-X-VERSION:3\n") && list.contains("#EXT-X-MEDIA-SEQUENCE:101\n"), "{list}");
    let r = site.get("/LiveApp/streams/cam1/t0_102.ts").await;
    assert_eq!((header(&r, "content-type"), r.body()[0]), ("video/MP2T", 0x47));
    let r = site.get("/LiveApp/streams/ll-hls/cam1/cam1__master.m3u8").await;
    assert_eq!((r.status().as_u16(), header(&r, "location")), (302, "../../cam1.m3u8"));
}

#[tokio::test]
async fn a_publisher_that_comes_back_goes_on_behind_a_discontinuity() {
    let (site, publisher) = live(HlsSettings::default()).await;
    let uri = "/LiveApp/streams/cam1/a0.m3u8?session=a";
    let mut checker = Checker::new(Duration::from_secs(9));
    let before = text(&site.get(uri).await);
    checker.observe(Ask::default(), Duration::ZERO, &before);
    let (msn, part) = parse(&before).unwrap().next().unwrap();
    let blocked = format!("{uri}&_HLS_msn={msn}&_HLS_part={part}");
    let again = async {
        drop(publisher);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut publisher = site.hub.resume(&StreamKey::new("LiveApp", "cam1")).unwrap();
        for t in &media().tracks {
            publisher.add_track(t.clone()).unwrap();
        }
        // A publisher that starts anew starts its clock anew.
        write_all(&mut publisher, &media(), Timestamp::ZERO, Timestamp::from_millis(6000));
        publisher
    };
    let (answer, _publisher) = tokio::join!(site.get(&blocked), again);
    assert_eq!(answer.status(), 200, "a hiccup ends nobody's playback");
    checker.observe(Ask { msn: Some(msn), part: None, skip: false }, Duration::ZERO, &text(&answer));
    checker.observe(Ask::default(), Duration::ZERO, &text(&site.get(uri).await));
    assert!(checker.broken().is_empty(), "{:#?}", checker.broken());
    let after = parse(&text(&site.get(uri).await)).unwrap();
    let breaks: u32 = after.segments.iter().map(|s| s.discontinuities).sum();
    assert_eq!((breaks, after.media_sequence), (1, 100), "{after:?}");
}

#[tokio::test]
async fn of_several_renditions_the_first_is_packaged() {
    for segment_type in [SegmentType::Fmp4, SegmentType::MpegTs] {
        let site = site(HlsSettings { segment_type, ..HlsSettings::default() });
        let mut media = media();
        let small = media.tracks.iter().position(|t| t.is_video()).unwrap();
        let TrackConfig::Video(config) = media.tracks[small].clone() else { panic!("video") };
        media.tracks.push(TrackConfig::Video(VideoConfig { width: 160, height: 90, ..config }));
        let renditions = |(track, frame): (u8, Frame)| {
            let twice = (usize::from(track) == small).then(|| (2, frame.clone()));
            twice.into_iter().chain([(track, frame)])
        };
        media.frames = media.frames.into_iter().flat_map(renditions).collect();
        let mut publisher = site.publish("cam1", &media);
        write_all(&mut publisher, &media, Timestamp::ZERO, Timestamp::from_millis(9500));
        let uri = "/LiveApp/streams/cam1.m3u8?session=a";
        let list = text(&site.get(uri).await);
        assert!(!list.contains("160x90") && !list.contains("v1"), "{list}");
        if segment_type == SegmentType::Fmp4 {
            assert!(list.contains("320x180"), "{list}");
            assert_eq!(site.get("/LiveApp/streams/cam1/v1.m3u8?session=a").await.status(), 404);
            let video = parse(&text(&site.get("/LiveApp/streams/cam1/v0.m3u8?session=a").await)).unwrap();
            let first = video.segments.iter().find(|s| s.uri.is_some()).unwrap();
            assert_eq!(first.duration, 2.0);
        }
    }
}

#[tokio::test]
async fn sound_that_stops_does_not_stop_the_audio_playlist() {
    let site = site(HlsSettings::default());
    let mut media = av(24, "30", H264, "-c:a aac -b:a 64k -ac 2");
    media
        .frames
        .retain(|(track, f)| media.tracks[usize::from(*track)].is_video() || f.dts.as_millis() < 7000);
    let mut publisher = site.publish("cam1", &media);
    write_all(&mut publisher, &media, Timestamp::ZERO, END);
    let uri = |r: &str| format!("/LiveApp/streams/cam1/{r}.m3u8?session=a");
    let video = parse(&text(&site.get(&uri("v0")).await)).unwrap();
    let audio = text(&site.get(&uri("a0")).await);
    let mut checker = Checker::new(Duration::ZERO);
    checker.observe(Ask::default(), Duration::ZERO, &audio);
    assert!(checker.broken().is_empty(), "{:#?}", checker.broken());
    let audio = parse(&audio).unwrap();
    let (v, a) = (video.newest().unwrap(), audio.newest().unwrap());
    assert!(a.0 == v.0 && a.1.unwrap() + 2 > v.1.unwrap(), "audio is at {a:?}, video at {v:?}");

    // What is filled in can be decoded, and is silent.
    let map = audio.segments[0].map.clone().unwrap();
    let last = audio.segments.iter().rfind(|s| s.uri.is_some()).and_then(|s| s.uri.clone()).unwrap();
    let mut file = Vec::new();
    for name in [map, last] {
        file.extend_from_slice(site.get(&format!("/LiveApp/streams/cam1/{name}")).await.body());
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("silent.mp4");
    std::fs::write(&path, file).unwrap();
    let pcm = common::ffmpeg(&["-xerror", "-i", path.to_str().unwrap(), "-f", "s16le"]);
    assert!(pcm.len() > 300_000 && pcm.iter().all(|b| *b == 0), "{} bytes", pcm.len());
}
