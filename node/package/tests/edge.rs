//! A stream on two nodes: the one that joined late answers for the other.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{END, Site, av, site, text, write_all};
use sluice_media::{
    Event, Group, Mirror, Origin, Reader, Start, Stream, StreamKey, StreamSettings, Timestamp, TrackId,
};
use sluice_package::validate::parse;
use sluice_package::{Elsewhere, HlsSettings, Service};

const H264: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -g 30";
const AAC: &str = "-c:a aac -b:a 64k";

/// Hands on what the reader sees, as a relay does.
struct Relay {
    reader: Reader,
    at: HashMap<TrackId, (Arc<Group>, usize)>,
    mirror: Mirror,
}

impl Relay {
    fn carry(&mut self) {
        while let Some(event) = self.reader.try_next() {
            match event {
                Event::Group { track, group } => {
                    self.mirror.begin(track, group.head.clone());
                    self.at.insert(track, (group, 0));
                }
                Event::Frame { track, .. } => {
                    let (group, index) = self.at.get_mut(&track).unwrap();
                    self.mirror.push(track, group.get(*index).unwrap().clone());
                    *index += 1;
                }
                Event::Skipped { .. } | Event::End => {}
            }
        }
        self.mirror.flush();
    }
}

/// The stream as another node would get it, from `start` on.
fn mirrored(from: &Arc<Stream>, here: &Site, start: Start) -> Relay {
    let settings = StreamSettings::default();
    let mut mirror = here.hub.mirror(from.key().clone(), Origin::default(), settings).unwrap();
    mirror.resumed();
    for track in from.tracks() {
        mirror.add_track((*track.config()).clone()).unwrap();
    }
    mirror.set_segmentation(from.segmentation().unwrap());
    let reader = from.subscribe(start, Duration::MAX);
    let mut relay = Relay { reader, at: HashMap::new(), mirror };
    relay.carry();
    relay.mirror.backfilled();
    relay
}

struct Other {
    stream: Arc<Stream>,
    service: Arc<Service>,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Elsewhere for Other {
    async fn file(&self, key: &StreamKey, path: &str) -> Option<Bytes> {
        assert_eq!(key, self.stream.key());
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.service.own_file(self.stream.clone(), path).await
    }
}

#[tokio::test]
async fn both_have_the_same_playlists_and_bytes() {
    let (there, here) = (site(HlsSettings::default()), site(HlsSettings::default()));
    let media = av(12, "30", H264, AAC);
    let mut publisher = there.publish("cam1", &media);
    write_all(&mut publisher, &media, Timestamp::ZERO, END);
    let _mirror = mirrored(publisher.stream(), &here, Start::Oldest);
    for name in ["v0", "a0"] {
        let path = format!("/LiveApp/streams/cam1/{name}.m3u8");
        let (a, b) = (there.playlist(&path).await, here.playlist(&path).await);
        assert_eq!(a, b);
        let parsed = parse(&a).unwrap();
        assert!(parsed.segments.len() >= 5, "{a}");
        for uri in parsed.segments.iter().filter_map(|s| s.uri.clone()) {
            let path = format!("/LiveApp/streams/cam1/{uri}");
            let (a, b) = (there.get(&path).await, here.get(&path).await);
            assert_eq!((a.status(), a.body()), (b.status(), b.body()), "{path}");
        }
    }
}

#[tokio::test]
async fn what_a_late_node_lacks_comes_from_elsewhere() {
    let (there, mut here) = (site(HlsSettings::default()), site(HlsSettings::default()));
    let media = av(12, "30", H264, AAC);
    let mut publisher = there.publish("cam1", &media);
    write_all(&mut publisher, &media, Timestamp::ZERO, Timestamp::from_millis(4_900));
    let mut relay = mirrored(publisher.stream(), &here, Start::Newest);
    write_all(&mut publisher, &media, Timestamp::from_millis(4_900), END);
    relay.carry();

    let other = Arc::new(Other {
        stream: publisher.stream().clone(),
        service: there.service.clone(),
        asked: AtomicUsize::new(0),
    });
    let service = Arc::try_unwrap(here.service).unwrap_or_else(|_| panic!("nobody else has it"));
    here.service = Arc::new(service.with_elsewhere(other.clone()));
    let full = there.playlist("/LiveApp/streams/cam1/v0.m3u8").await;
    let short = here.playlist("/LiveApp/streams/cam1/v0.m3u8").await;
    let (full, short) = (parse(&full).unwrap(), parse(&short).unwrap());
    assert!(short.segments.len() < full.segments.len());
    let oldest = full.segments[0].uri.clone().unwrap();
    let path = format!("/LiveApp/streams/cam1/{oldest}");
    let (a, b) = (there.get(&path).await, here.get(&path).await);
    assert_eq!((b.status().as_u16(), a.body()), (200, b.body()));
    assert_eq!(other.asked.load(Ordering::Relaxed), 1);

    // Names that cannot be are not asked for.
    for name in ["v0_999999.m4s", "v0_0_999999.m4s", "v9_100.m4s"] {
        let r = here.get(&format!("/LiveApp/streams/cam1/{name}")).await;
        assert_eq!(r.status(), 404, "{name}: {}", text(&r));
    }
    assert_eq!(other.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_new_owner_goes_on_behind_a_discontinuity() {
    let (there, here) = (site(HlsSettings::default()), site(HlsSettings::default()));
    let media = av(12, "30", H264, AAC);
    let mut publisher = there.publish("cam1", &media);
    write_all(&mut publisher, &media, Timestamp::ZERO, Timestamp::from_millis(8_500));
    let relay = mirrored(publisher.stream(), &here, Start::Oldest);
    let path = "/LiveApp/streams/cam1/v0.m3u8";
    let before = parse(&here.playlist(path).await).unwrap();
    let tail = relay.mirror.stream().newest_stamp().unwrap();
    let segmentation = relay.mirror.stream().segmentation();
    // The owner dies; its publisher comes to this node.
    let stream = relay.mirror.stream().clone();
    drop(relay);
    let origin = Origin {
        epoch: 2,
        media_sequence: tail.media_sequence + 1,
        discontinuity_sequence: tail.discontinuity_sequence + 1,
        timeline: Timestamp(stream.newest_time().unwrap().0 + 100_000),
        segmentation,
    };
    let mut publisher = here.hub.succeed(stream.key(), origin).unwrap();
    for t in &media.tracks {
        publisher.add_track(t.clone()).unwrap();
    }
    write_all(&mut publisher, &media, Timestamp::ZERO, Timestamp::from_millis(6_500));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let after = parse(&here.playlist(path).await).unwrap();
    let numbers = |p: &sluice_package::validate::Playlist| -> Vec<u64> {
        p.segments.iter().map(|s| s.media_sequence).collect()
    };
    assert!(numbers(&after).starts_with(&numbers(&before)), "{:?} {:?}", numbers(&before), numbers(&after));
    assert!(numbers(&after).windows(2).all(|w| w[1] == w[0] + 1), "no gap: {:?}", numbers(&after));
    assert!(after.segments.len() >= before.segments.len() + 3);
    assert_eq!(after.target_duration, before.target_duration);
}
