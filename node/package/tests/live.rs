//! A live stream as low-latency players see it.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Site, av, site, text, write_paced};
use sluice_media::StreamKey;
use sluice_media::session::Protocol;
use sluice_package::HlsSettings;
use sluice_package::validate::{Ask, Checker, Playlist, parse};

const H264: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -g 30";
const AAC: &str = "-c:a aac -b:a 64k";

/// Follows a rendition as a player does, one blocking reload after the other, until the playlist ends.
async fn follow(site: Arc<Site>, name: &'static str, uri: String, part_first: bool) -> Checker {
    let mut checker = Checker::new(Duration::from_millis(80));
    let mut last: Option<Playlist> = None;
    let mut asked = 0;
    loop {
        let mut ask = Ask::default();
        if let Some((msn, part)) = last.as_ref().and_then(Playlist::next) {
            // Both ways of asking for the first part of a segment: as such, and as the one after the last.
            let p = last.as_ref().unwrap();
            let whole = p.segments.last().filter(|s| s.uri.is_some());
            let (msn, part) = match whole {
                Some(s) if part == 0 && !part_first => (s.media_sequence, s.parts.len() as u32),
                _ => (msn, part),
            };
            ask = Ask { msn: Some(msn), part: Some(part), skip: asked % 2 == 1 };
        }
        let mut full = uri.clone();
        if let (Some(msn), Some(part)) = (ask.msn, ask.part) {
            full.push_str(&format!("&_HLS_msn={msn}&_HLS_part={part}"));
            if ask.skip {
                full.push_str("&_HLS_skip=YES");
            }
        }
        let begin = Instant::now();
        let r = site.get(&full).await;
        let took = begin.elapsed();
        assert_eq!(r.status(), 200, "{name}: {}", text(&r));
        asked += 1;
        // Asked for as "the one after the last", the part belongs to the next segment: only the end is compared.
        let compare = if part_first { ask } else { Ask { msn: None, part: None, skip: ask.skip } };
        let p = checker.observe(compare, took, &text(&r)).cloned();
        if let (Some(before), Some(p)) = (&last, &p) {
            assert!(p.ended || p.newest() > before.newest(), "{name}: an answer without anything new");
            assert!(took < Duration::from_millis(350), "{name}: an answer took {took:?}");
        }
        if p.as_ref().is_none_or(|p| p.ended) {
            return checker;
        }
        last = p;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn low_latency_players_get_parts_as_they_come() {
    let media = av(18, "30", H264, AAC);
    let site = Arc::new(site(HlsSettings::default()));
    let mut publisher = site.publish("cam1", &media);
    let publishing = tokio::spawn(async move {
        write_paced(&mut publisher, &media).await;
        publisher.finish();
    });
    // The first request waits until there is something.
    let master = site.get("/LiveApp/streams/cam1.m3u8?token=t1").await;
    assert_eq!(master.status(), 200, "{}", text(&master));
    let master = text(&master);
    let uris: Vec<String> = master
        .lines()
        .filter_map(|l| {
            l.strip_prefix("#EXT-X-MEDIA")
                .and_then(|m| m.split("URI=\"").nth(1)?.split('"').next())
                .or((!l.starts_with('#')).then_some(l))
        })
        .map(|u| format!("/LiveApp/streams/{u}"))
        .collect();
    assert_eq!(uris.len(), 2, "{master}");
    assert!(uris.iter().all(|u| u.contains("?session=") && u.ends_with("&token=t1")), "{uris:?}");
    let mut players = Vec::new();
    for (uri, part_first) in [(&uris[0], true), (&uris[1], true), (&uris[1], false), (&uris[0], false)] {
        let name = if uri.contains("/v0") { "v0" } else { "a0" };
        players.push(tokio::spawn(follow(site.clone(), name, uri.clone(), part_first)));
    }

    // A hinted part is sent the moment it is there.
    let v0 = uris.iter().find(|u| u.contains("/v0")).unwrap().clone();
    let hinted = {
        let site = site.clone();
        tokio::spawn(async move {
            let hint = parse(&text(&site.get(&v0).await)).unwrap().hint.unwrap();
            let begin = Instant::now();
            let r = site.get(&format!("/LiveApp/streams/cam1/{hint}")).await;
            (r.status(), r.body().len(), begin.elapsed())
        })
    };
    let (status, length, took) = hinted.await.unwrap();
    assert!(status == 200 && length > 100 && took < Duration::from_millis(300), "{status} {length} {took:?}");

    let stream = site.hub.get(&StreamKey::new("LiveApp", "cam1")).unwrap();
    assert_eq!(stream.stats().viewers(Protocol::Hls), 1, "one session, whatever it asks for");
    for p in players {
        let checker = p.await.unwrap();
        assert!(checker.broken().is_empty(), "{:#?}", checker.broken());
        let (seen, deltas) = checker.counts();
        assert!(seen > 50 && deltas > 5, "{seen} answers, {deltas} delta updates");
    }
    publishing.await.unwrap();
}
