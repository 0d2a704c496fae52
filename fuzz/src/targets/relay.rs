//! The relay between nodes: its format, and what either side does with what the other says.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use sluice_cluster::member::NodeId;
use sluice_cluster::relay::{
    CarriedState, Connection, Dial, DialError, Follow, Offer, Offered, RelayServer, Relays, Serve, Source,
    Sources,
};
use sluice_cluster::wire::{Decoder, Encoder, Message};
use sluice_media::{
    AudioConfig, Event, Frame, Hub, Origin, Start, StreamKey, StreamSettings, Timestamp, TrackConfig,
    VideoConfig,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use crate::split::pieces;

/// A read from a socket is at most this long.
const READ: usize = 64 << 10;
/// Longer metadata are not all sent on, so longer inputs may not come out as they went in.
const SHORT: usize = 32 << 10;

/// Beginnings of messages.
pub(crate) const WORDS: &[&[u8]] = &[
    &[4, 20, 1, 0, 0, 7, 1, 66, 0, 30, 0xff, 0xe0, 0],
    &[4, 4, 17, 2, 0x12, 0x10],
    &[8, 13, 0, 1],
    &[8, 2, 1, 5],
    &[9, 5, 0x80, 2, 2, 0],
    &[9, 5, 1, 2, 2, 0],
    &[10, 14, 0, 1],
    &[11, 5, 0x80, 2, 2, 0],
    &[12, 0],
    &[13, 1, 1],
    &[15, 1, 1],
    &[16, 0],
    &[17, 1, 3],
    &[18, 0],
    &[19, 5, 1, 1, 2, 104, 105],
];

/// The messages in `data` are the same however it is cut, and those that can be read can be written and read again.
pub(crate) fn wire(data: &[u8]) {
    let (whole, error) = decode(data.chunks(READ));
    let cut = decode(pieces(data));
    assert_eq!((text(&whole), &error), (text(&cut.0), &cut.1), "what is read depends on how it is cut");
    if data.len() > SHORT {
        return;
    }
    let mut encoder = Encoder::new();
    let before = text(&whole);
    for message in whole {
        encoder.encode(message).expect("what could be read can be written");
    }
    let n = encoder.batch().remaining();
    let again = encoder.batch().copy_to_bytes(n);
    let (read, error) = decode(again.chunks(READ));
    assert_eq!((before, None), (text(&read), error));
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<String>) {
    let (mut decoder, mut all) = (Decoder::new(), Vec::new());
    for piece in pieces {
        decoder.extend(piece);
        loop {
            match decoder.message() {
                Ok(Some(message)) => all.push(message),
                Ok(None) => break,
                Err(error) => return (all, Some(error.to_string())),
            }
        }
    }
    (all, None)
}

fn text(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|m| format!("{m:?}")).collect()
}

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work);
}

fn key() -> StreamKey {
    StreamKey::new("LiveApp", "cam1")
}

/// A stream of three groups of small frames.
fn publish(hub: &Arc<Hub>) -> sluice_media::Publisher {
    let mut publisher = hub.publish(key(), Origin::default(), StreamSettings::default()).expect("is free");
    let avcc = Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0]);
    publisher.add_track(TrackConfig::Video(VideoConfig::h264(avcc).expect("avcC")));
    publisher
        .add_track(TrackConfig::Audio(AudioConfig::aac(Bytes::from_static(&[0x12, 0x10])).expect("an ASC")));
    let now = std::time::Instant::now();
    for i in 0..30i64 {
        let (dts, payload) = (Timestamp::from_millis(i * 100), Bytes::from(vec![i as u8; 20]));
        let frame = Frame { dts, pts: dts, keyframe: i % 10 == 0, payload };
        for track in 0..2 {
            let frame = Frame { keyframe: frame.keyframe || track == 1, ..frame.clone() };
            publisher.write_at(track, frame, now, SystemTime::UNIX_EPOCH).expect("is live");
        }
    }
    publisher.flush();
    publisher
}

struct Everything;

impl Offer for Everything {
    fn describe(&self, _: &StreamKey) -> Option<Offered> {
        Some(Offered { epoch: 0, path: Vec::new(), hls: Bytes::new() })
    }
}

/// What the node `b` says that asks for a stream. The answers are in the format, and no more than the stream holds.
pub(crate) fn asker(data: &[u8]) {
    run(async {
        let hub = Hub::new(Duration::from_secs(1));
        let publisher = publish(&hub);
        let server = RelayServer::new(hub, NodeId::new("a"), Arc::new(Everything), Serve::default());
        let (mut here, there) = tokio::io::duplex(16 << 10);
        let answers = async {
            for piece in pieces(data) {
                // It may have hung up by now.
                if here.write_all(piece).await.is_err() {
                    break;
                }
            }
            let mut bytes = [0; 4096];
            let (mut decoder, mut all) = (Decoder::new(), 0);
            // Long after the last frame, nothing but pings comes.
            let until = tokio::time::Instant::now() + Duration::from_secs(20);
            while let Ok(Ok(n @ 1..)) = tokio::time::timeout_at(until, here.read(&mut bytes)).await {
                all += n;
                decoder.extend(&bytes[..n]);
                while decoder.message().expect("the answers are in the format").is_some() {}
            }
            assert!(all < 8 << 10, "{all} bytes of answers");
        };
        let served = server.serve(NodeId::new("b"), there);
        tokio::pin!(answers);
        tokio::select! {
            () = &mut answers => {}
            _ = served => answers.await,
        }
        assert!(!publisher.stream().is_ended());
    });
}

/// The one source that there is says what the input has, and hangs up; at the second time it only hangs up.
struct One {
    said: Mutex<Option<DuplexStream>>,
    changed: watch::Sender<u64>,
}

#[async_trait]
impl Dial for One {
    async fn dial(&self, _: &str) -> Result<Box<dyn Connection>, DialError> {
        match self.said.lock().ok().and_then(|mut s| s.take()) {
            Some(io) => Ok(Box::new(io)),
            None => Err("nobody is there any more".into()),
        }
    }
}

impl Sources for One {
    fn sources(&self, _: &StreamKey) -> Vec<Source> {
        vec![Source { node: NodeId::new("a"), addr: String::new(), epoch: u64::MAX }]
    }
    fn highest_epoch(&self, _: &StreamKey) -> u64 {
        0
    }
    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
    fn carrying(&self, _: &StreamKey, _: Option<CarriedState>) {}
}

/// What a node says that is asked for a stream. Readers of the mirrored stream never see an epoch go back, and it ends.
pub(crate) fn source(data: &[u8]) {
    run(async {
        let (here, mut there) = tokio::io::duplex(16 << 10);
        let one = Arc::new(One { said: Mutex::new(Some(here)), changed: watch::Sender::new(0) });
        let settings = Follow {
            return_within: Duration::from_millis(200),
            ready: Duration::from_millis(200),
            ..Follow::default()
        };
        let hub = Hub::new(Duration::from_millis(100));
        let relays = Relays::new(hub.clone(), one.clone(), one, NodeId::new("b"), settings);
        let talk = async {
            for piece in pieces(data) {
                if there.write_all(piece).await.is_err() {
                    break;
                }
            }
            drop(there);
        };
        let key = key();
        let ((), fetched) = tokio::join!(talk, relays.fetch(&key));
        if let Ok(stream) = fetched {
            let mut reader = stream.subscribe(Start::Oldest, Duration::MAX);
            let mut epoch = 0;
            let read = async {
                loop {
                    match reader.next().await {
                        Event::Group { group, .. } => epoch = epoch.max(group.head.stamp.epoch),
                        Event::End => break,
                        Event::Frame { .. } | Event::Skipped { .. } => {}
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(5), read).await.expect("a reader is not held up");
            assert!(stream.is_ended(), "the source is gone and the stream goes on");
            assert!(stream.newest_stamp().is_none_or(|s| s.epoch >= epoch), "the epoch went back");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((relays.counts().streams, hub.len()), (0, 0), "something is left");
    });
}
