//! RTCP of a WebRTC viewer that packets were sent to.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_media::{
    Frame, Hub, Origin, StreamKey, StreamSettings, Timestamp, TrackConfig, VideoCodec, VideoConfig,
};
use sluice_rtc::agreed::{Codec, Extensions, Payload, Sending};
use sluice_rtc::egress::{Egress, Feed, Feeds, Sink};

/// Each kind of feedback, for the stream that is sent.
pub(crate) const WORDS: &[&[u8]] = &[
    &[0x81, 201, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1],
    &[0x81, 205, 0, 3, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0xff, 0xff],
    &[0x8f, 205, 0, 5, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 1, 0, 0xd5, 0x55],
    &[0x8f, 205, 0, 5, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 60, 0, 0, 1, 0, 0x20, 60],
    &[0x81, 206, 0, 2, 0, 0, 0, 9, 0, 0, 0, 1],
    &[0x84, 206, 0, 4, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0],
    &[0x8f, 206, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0x0f, 0xff, 0xff],
];

/// One answer to feedback is not larger than this, in bytes.
const ANSWER: usize = 400_000;

struct Count(usize);

impl Sink for Count {
    fn rtp(&mut self, header: &[u8], payload: &[u8]) {
        assert!(header.len() <= 40 && header.len() + payload.len() <= 1200);
        self.0 += header.len() + payload.len();
    }
    fn rtcp(&mut self, compound: &[u8]) {
        assert!(compound.len() % 4 == 0);
    }
}

/// A stream of two groups.
fn feed() -> Arc<Feed> {
    static FEED: OnceLock<Arc<Feed>> = OnceLock::new();
    FEED.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let hub = Hub::new(Duration::from_secs(3600));
            let key = StreamKey::new("live", "a");
            let mut publisher =
                hub.publish(key, Origin::default(), StreamSettings::default()).expect("a new stream");
            let config = VideoConfig {
                codec: VideoCodec::Vp8,
                record: Bytes::new(),
                width: 640,
                height: 360,
                codec_string: "vp08.00.30.08".into(),
            };
            let track = publisher.add_track(TrackConfig::Video(config)).expect("the first track");
            let feed = Feeds::default().join(publisher.stream());
            for i in 0..60 {
                let at = Timestamp::from_millis(i * 40);
                let frame = Frame { dts: at, pts: at, keyframe: i % 30 == 0, payload: vec![1; 5000].into() };
                publisher.write(track, frame).expect("a live stream");
            }
            publisher.flush();
            assert_eq!(feed.tracks().await.len(), 1);
            // The stream stays live.
            std::mem::forget(publisher);
            feed
        })
    })
    .clone()
}

/// Feedback never panics, and makes no more be sent than there may be.
pub(crate) fn rtcp(data: &[u8]) {
    let now = Instant::now();
    let sending = Sending {
        mid: "0".into(),
        video: true,
        track: 0,
        payload: Payload {
            pt: 96,
            rtx: Some(97),
            codec: Codec::Video(VideoCodec::Vp8),
            clock: 90_000,
            fmtp: String::new(),
        },
        extensions: Extensions { transport_cc: Some(3), ..Extensions::default() },
        ssrc: 1,
        rtx_ssrc: Some(2),
    };
    let mut egress = Egress::new(vec![feed()], &[sending], 0, now);
    let mut sink = Count(0);
    for ms in [0, 20, 40, 60] {
        egress.send(now + Duration::from_millis(ms), &mut sink);
    }
    for (i, compound) in data.chunks(600).enumerate() {
        let now = now + Duration::from_millis(100 + 10 * i as u64);
        sink.0 = 0;
        egress.rtcp(compound, now);
        egress.send(now, &mut sink);
        assert!(sink.0 <= ANSWER, "{} bytes", sink.0);
        while egress.event().is_some() {}
        let stats = egress.stats(now);
        assert!(stats.loss <= 1.0 && stats.rtt_ms.is_finite());
    }
}
