//! WebRTC of a publisher: RTP and RTCP through the ingest into the hub.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use sluice_media::{AudioCodec, Event, Hub, Origin, Start, StreamKey, StreamSettings, Timestamp, VideoCodec};
use sluice_rtc::agreed::{Codec, Extensions, Payload, Receiving};
use sluice_rtc::ingest::depacketize::{assemble, starts_keyframe};
use sluice_rtc::ingest::{Ingest, rtcp};
use sluice_rtc::rtp::{Packet, is_rtcp};

/// Bytes before each datagram of the input: milliseconds since the one before, and its length (16 bits).
const HEAD: usize = 3;
/// Calls that an ingest may want for one moment.
const CALLS: usize = 200;

const CODECS: [Codec; 6] = [
    Codec::Video(VideoCodec::H264),
    Codec::Video(VideoCodec::Hevc),
    Codec::Video(VideoCodec::Vp8),
    Codec::Video(VideoCodec::Vp9),
    Codec::Video(VideoCodec::Av1),
    Codec::Audio(AudioCodec::Opus),
];

/// Datagrams of each codec, with names of sources, and RTCP.
pub(crate) const WORDS: &[&[u8]] = &[
    &[10, 0, 20, 0x80, 0xe0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0x78, 0, 2, 0x67, 1, 0, 1, 0x65],
    &[10, 0, 16, 0x80, 0xe0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 1, 0x7c, 0x85, 0x88, 1],
    &[10, 0, 15, 0x80, 0xe2, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0x40, 1, 7],
    &[10, 0, 22, 0x80, 0xe4, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0x10, 0, 0, 0, 0x9d, 1, 0x2a, 64, 1, 180, 0],
    &[10, 0, 15, 0x80, 0xe6, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0x08, 0x82, 0x49],
    &[10, 0, 15, 0x80, 0xe8, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0x18, 0x0a, 0x01],
    &[20, 0, 14, 0x80, 0xef, 0, 1, 0, 0, 0, 9, 0, 0, 0, 2, 0xfc, 1],
    &[0xbe, 0xde, 0, 2, 0x40, b'v', 0xa0, b'q', 0x51, 0, 1, 0],
    &[0xbe, 0xde, 0, 1, 0xb0, b'h', 0, 0],
    &[5, 0, 28, 0x80, 200, 0, 6, 0, 0, 0, 1, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
    &[5, 0, 8, 0x81, 203, 0, 1, 0, 0, 0, 1],
    &[0x80, 0xe1],
    &[0xff, 0xff],
];

fn sections() -> [Receiving; 3] {
    let payload = |(i, codec): (usize, Codec)| Payload {
        pt: 96 + 2 * i as u8,
        rtx: Some(97 + 2 * i as u8),
        codec,
        clock: 90_000,
        fmtp: String::new(),
    };
    let video: Vec<Payload> = CODECS[..5].iter().copied().enumerate().map(payload).collect();
    let opus =
        Payload { pt: 111, rtx: None, codec: CODECS[5], clock: 48_000, fmtp: "useinbandfec=1".to_owned() };
    let extensions = Extensions {
        mid: Some(4),
        rid: Some(10),
        repaired_rid: Some(11),
        transport_cc: Some(5),
        ..Extensions::default()
    };
    let section = |mid: &str, video, payloads, ssrcs, rids: &[&str]| Receiving {
        mid: mid.to_owned(),
        video,
        payloads,
        extensions,
        ssrcs,
        rids: rids.iter().map(|r| (*r).to_owned()).collect(),
    };
    [
        section("s", true, video.clone(), vec![(1, Some(3))], &[]),
        section("v", true, video, Vec::new(), &["q", "h", "f"]),
        section("a", false, vec![opus], vec![(2, None)], &[]),
    ]
}

/// Any datagrams make no frame that is out of order, no clock that runs in circles, and feedback that fits a datagram.
pub(crate) fn rtp(data: &[u8]) {
    let hub = Hub::new(Duration::ZERO);
    let key = StreamKey::new("LiveApp", "cam1");
    let publisher = hub.publish(key, Origin::default(), StreamSettings::default()).expect("it is free");
    let stream = publisher.stream().clone();
    let mut reader = stream.subscribe(Start::Oldest, Duration::MAX);
    let (mut now, mut wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
    let mut ingest = Ingest::new(publisher, &sections(), now);
    let mut payloads = Vec::new();
    let mut rest = data;
    while let Some((&[ms, high, low], tail)) = rest.split_first_chunk::<HEAD>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(tail.len());
        let (datagram, tail) = tail.split_at(length);
        rest = tail;
        let until = now + Duration::from_millis(u64::from(ms));
        let mut calls = 0;
        loop {
            assert!(calls < CALLS, "its time comes again and again");
            while let Some(compound) = ingest.feedback(now) {
                assert!(compound.len() <= 1200 && compound.len() % 4 == 0);
                assert!(rtcp::read(&compound).next().is_none(), "we send no reports of a sender");
            }
            match ingest.timeout() {
                Some(at) if at <= until => {
                    calls = if at > now { 0 } else { calls + 1 };
                    now = now.max(at);
                    ingest.handle_timeout(now, wall);
                }
                _ => break,
            }
        }
        wall += Duration::from_millis(u64::from(ms));
        now = until;
        if is_rtcp(datagram) {
            ingest.rtcp(datagram, now);
        } else if let Ok(packet) = Packet::parse(Bytes::copy_from_slice(datagram)) {
            payloads.push(packet.payload.clone());
            ingest.rtp(packet, now, wall);
        }
    }
    for codec in CODECS {
        let _ = assemble(codec, &payloads);
    }
    ingest.want_keyframe(now);
    let stats = ingest.stats(now);
    assert!(stats.jitter_ms.is_finite());
    ingest.finish();
    let mut last = [Timestamp(i64::MIN); 16];
    while let Some(event) = reader.try_next() {
        match event {
            Event::Frame { track, frame } => {
                assert!(frame.dts > last[usize::from(track)] && frame.pts >= frame.dts);
                last[usize::from(track)] = frame.dts;
            }
            Event::End => return,
            Event::Group { .. } | Event::Skipped { .. } => {}
        }
    }
    unreachable!("a stream that has ended tells so");
}

/// Any compound is read to its end, and any payload says whether it begins a keyframe.
pub(crate) fn rtcp(data: &[u8]) {
    assert!(rtcp::read(data).count() <= data.len() / 4);
    for codec in CODECS {
        starts_keyframe(codec, data);
    }
}
