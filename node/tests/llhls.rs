//! LL-HLS as a player records it over HTTP, checked rule by rule against the specification.

mod support;

use std::time::{Duration, Instant};

use sluice_package::validate::{Ask, Checker};
use support::*;

/// How long is recorded: longer than six target durations, so that there are delta updates. `make test-scale`
/// records a minute.
fn seconds() -> u64 {
    std::env::var("SLUICE_TEST_LLHLS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(26)
}

/// Follows a media playlist as a player does: each request asks for the part after the newest.
fn record(url: &str, end: Instant) -> Checker {
    // An answer may be late by what a busy machine takes to run curl.
    let mut checker = Checker::new(Duration::from_millis(400));
    let mut ask = Ask::default();
    let mut next = None;
    let mut n = 0;
    while Instant::now() < end {
        let mut address = url.to_owned();
        let mut add = |text: String| {
            address.push(if address.contains('?') { '&' } else { '?' });
            address.push_str(&text);
        };
        if let Some((msn, part)) = next {
            // Every other answer is a delta update, where the server has enough to leave out.
            n += 1;
            ask = Ask { msn: Some(msn), part: Some(part), skip: n % 2 == 0 };
            add(format!("_HLS_msn={msn}"));
            add(format!("_HLS_part={part}"));
            if ask.skip {
                add("_HLS_skip=YES".into());
            }
        }
        let began = Instant::now();
        let answer = get(&address);
        assert_eq!(answer.status, 200, "{address}: {}", answer.text());
        next = checker.observe(ask, began.elapsed(), &answer.text()).and_then(|p| p.next());
    }
    checker
}

#[test]
fn a_recording_keeps_every_rule() {
    let node = Node::start();
    let streams = [("gop1", "30"), ("gop3", "90"), ("fps24", "24")];
    let _publishers: Vec<_> = streams
        .iter()
        .map(|(id, gop)| {
            let rate = if *id == "fps24" { "24" } else { "30" };
            publish(&node.rtmp(&format!("/LiveApp/{id}")), &["-r", rate, "-g", gop, "-sc_threshold", "0"])
        })
        .collect();
    for (id, _) in streams {
        wait_for(Duration::from_secs(15), "the playlist", || media_playlist(&node, id).1.contains("EXTINF"));
    }
    let end = Instant::now() + Duration::from_secs(seconds());
    std::thread::scope(|scope| {
        for (id, _) in streams {
            for rendition in ["v0", "a0"] {
                let url = node.url(&format!("/LiveApp/streams/{id}/{rendition}.m3u8?session=test{id}"));
                scope.spawn(move || {
                    let checker = record(&url, end);
                    assert!(checker.broken().is_empty(), "{url}: {:#?}", checker.broken());
                    let (answers, deltas) = checker.counts();
                    assert!(answers as u64 > 3 * seconds(), "{url}: {answers} answers");
                    assert!(deltas > 0, "{url}: no delta update");
                    let mut took = checker.blocked().to_vec();
                    took.sort();
                    let median = took.get(took.len() / 2).copied().unwrap_or_default();
                    println!("{url}: {answers} answers, {deltas} deltas, median wait {median:?}");
                });
            }
        }
    });
}
