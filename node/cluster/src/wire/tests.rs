use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use proptest::prelude::*;
use sluice_media::aside::Sender;
use sluice_media::segmentation::Wish;
use sluice_media::{
    Arrived, AudioConfig, Frame, GroupHead, MetaValue, Origin, Position, Segmentation, Stamp, StreamKey,
    StreamSettings, Timestamp, TrackConfig, VideoConfig,
};

use super::*;
use crate::member::NodeId;

fn hex(s: &str) -> Bytes {
    let digit = |c: u8| (c as char).to_digit(16).expect("hex") as u8;
    s.as_bytes().chunks(2).map(|p| digit(p[0]) << 4 | digit(p[1])).collect()
}

/// 1080p High, made by x264.
const AVCC: &str = "01640028ffe1001867640028acb403c0113f2e022000007d20001d4c11e3065401000468ef0fcbfdf8f800";

fn configs() -> Vec<TrackConfig> {
    let video = |c: VideoConfig| TrackConfig::Video(c);
    let audio = |c: AudioConfig| TrackConfig::Audio(c);
    let vpcc = hex("0028820202020000");
    let baseline = Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0]);
    let hvcc = {
        // Main profile, level 4, without parameter sets.
        let mut record =
            vec![1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 120, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0];
        record.extend_from_slice(&[0x0f, 0]);
        Bytes::from(record)
    };
    let opus = AudioConfig::opus_head(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0").expect("an Opus head");
    vec![
        video(VideoConfig::h264(hex(AVCC)).expect("avcC")),
        video(VideoConfig::h264(baseline.clone()).expect("avcC")),
        video(VideoConfig::h264(baseline).expect("avcC").with_size(640, 360)),
        video(VideoConfig::hevc(hvcc.clone()).expect("hvcC")),
        video(VideoConfig::hevc(hvcc).expect("hvcC").with_size(1920, 1080)),
        video(VideoConfig::av1(hex("81010c000a0b0000000cc4ff6700be0010")).expect("av1C")),
        video(VideoConfig::vp8(0, 0).expect("a size")),
        video(VideoConfig::vp8(1280, 720).expect("a size")),
        video(VideoConfig::vp9(vpcc.clone()).expect("vpcC")),
        video(VideoConfig::vp9(vpcc).expect("vpcC").with_size(1920, 1080)),
        audio(AudioConfig::aac(Bytes::from_static(&[0x12, 0x10])).expect("an ASC")),
        audio(
            AudioConfig::aac(Bytes::from_static(&[0x13, 0x08, 0x56, 0xe5, 0x9d, 0x48, 0x80]))
                .expect("HE-AAC"),
        ),
        audio(opus),
    ]
    .into_iter()
    .chain(mp3())
    .collect()
}

/// Every rate, mono and stereo.
fn mp3() -> Vec<TrackConfig> {
    let mut all = Vec::new();
    for version in [0u8, 2, 3] {
        for rate in 0..3u8 {
            for mode in [0u8, 0xc0] {
                let header = [0xff, 0xe3 | version << 3, 0x40 | rate << 2, mode];
                all.push(TrackConfig::Audio(AudioConfig::mp3(&header).expect("an MP3 header")));
            }
        }
    }
    all
}

fn encoded(messages: Vec<Message>) -> Vec<u8> {
    let mut encoder = Encoder::new();
    for message in messages {
        encoder.encode(message).expect("fits");
    }
    let batch = encoder.batch();
    let n = batch.remaining();
    batch.copy_to_bytes(n).to_vec()
}

fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Message>, Option<WireError>) {
    let (mut decoder, mut all) = (Decoder::new(), Vec::new());
    for piece in pieces {
        decoder.extend(piece);
        loop {
            match decoder.message() {
                Ok(Some(message)) => all.push(message),
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
    }
    (all, None)
}

fn text(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|m| format!("{m:?}")).collect()
}

fn stamp(group: u64) -> Arc<Stamp> {
    Arc::new(Stamp {
        epoch: 3 << 32,
        group,
        media_sequence: group / 2,
        discontinuity_sequence: 1,
        segment_start: Timestamp(group as i64 / 2 * 2_000_000),
        start: Timestamp(group as i64 * 1_000_000),
        wall_clock: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000 + group, 123_456_789),
    })
}

fn frame(order: u64, dts: i64, size: usize) -> Arrived {
    let payload = (0..size).map(|i| (i as u64 ^ order) as u8).collect::<Vec<u8>>().into();
    let (dts, pts) = (Timestamp(dts), Timestamp(dts + 40_000));
    Arrived { order, frame: Frame { dts, pts, keyframe: order.is_multiple_of(7), payload } }
}

fn session() -> Vec<Message> {
    let configs = configs();
    let head = |group, config: &TrackConfig| GroupHead {
        stamp: stamp(group),
        config: Arc::new(config.clone()),
        independent: group % 3 != 0,
        leads: group % 4 != 0,
    };
    let mut all = vec![
        Message::Open(Open {
            version: 1,
            key: StreamKey::new("LiveApp", "cämera"),
            node: NodeId::new("edge-1"),
            backfill: true,
            held: vec![Held {
                newest: Position { video: true, index: 0, epoch: 7, group: 9, frames: 3 },
                oldest: (6, 1),
            }],
        }),
        Message::Accepted(Accepted {
            origin: Origin {
                epoch: 3 << 32,
                media_sequence: 70,
                discontinuity_sequence: 2,
                timeline: Timestamp(-5),
                segmentation: Some(Segmentation {
                    target_duration: Duration::from_secs(4),
                    part_target: Duration::from_millis(500),
                }),
            },
            settings: StreamSettings {
                wish: Wish { segment: Duration::from_millis(1500), part: Duration::from_millis(333) },
                retain: Duration::from_secs(34),
                retain_bytes: 99,
            },
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            hls: Bytes::from_static(b"{\"window\":5}"),
            path: vec![NodeId::new("origin"), NodeId::new("relay")],
        }),
        Message::Refused { refusal: Refusal::Loop, text: "why".into() },
        Message::Segmentation(Segmentation {
            target_duration: Duration::from_secs(2),
            part_target: Duration::from_millis(200),
        }),
        Message::Metadata(vec![
            ("encoder".into(), MetaValue::Text("obs".into())),
            ("fps".into(), MetaValue::Number(29.97)),
            ("stereo".into(), MetaValue::Flag(true)),
        ]),
    ];
    all.extend(configs.iter().take(16).cloned().map(Message::Track));
    all.push(Message::Group { track: 0, head: head(4, &configs[0]), from: 0 });
    all.push(Message::Group { track: 1, head: head(4, &configs[3]), from: 2 });
    for i in 0..20 {
        all.push(Message::Frame {
            track: (i % 2) as u8,
            arrived: frame(1000 + i, 4_000_000 + i as i64, i as usize * 700),
        });
    }
    all.push(Message::Past { track: 1, head: head(3, &configs[9]), frames: 2 });
    all.push(Message::PastFrame(frame(5, 3_000_000, 10)));
    all.push(Message::Group { track: 0, head: head(5, &configs[2]), from: 0 });
    all.push(Message::Frame { track: 0, arrived: frame(1020, 5_000_000, 100_000) });
    all.push(Message::PastFrame(frame(6, 3_000_010, 0)));
    all.push(Message::Config { track: 0, config: configs[4].clone() });
    all.push(Message::BackfillDone);
    all.push(Message::Interrupted(true));
    all.push(Message::Path(vec![NodeId::new("other")]));
    all.push(Message::Needs { aac: false, opus: true });
    all.push(Message::WantKeyframe);
    all.push(Message::Said {
        from: Sender::Publisher,
        text: true,
        payload: Bytes::from_static("grüße".as_bytes()),
    });
    all.push(Message::Said { from: Sender::Player, text: false, payload: Bytes::from_static(&[0xff; 300]) });
    all.push(Message::Ping);
    all.push(Message::End(EndReason::Moved));
    all
}

#[test]
fn configurations_are_the_same_on_both_sides() {
    for config in configs() {
        let (read, error) = decoded([&encoded(vec![Message::Track(config.clone())])[..]]);
        assert_eq!(error, None);
        let [Message::Track(there)] = &read[..] else { panic!("one message") };
        assert_eq!(*there, config);
    }
}

#[test]
fn everything_arrives_as_it_was_sent() {
    let sent = session();
    let (read, error) = decoded([&encoded(sent.clone())[..]]);
    assert_eq!(error, None);
    assert_eq!(text(&read), text(&sent));
    let (a, b) = read
        .iter()
        .filter_map(|m| if let Message::Group { head, .. } = m { Some(&head.stamp) } else { None })
        .fold((None, None), |(a, _), s| (a.or(Some(s)), Some(s)));
    assert!(!Arc::ptr_eq(a.expect("groups"), b.expect("groups")));
    // Frames cost little: kind, length, track, and three small numbers.
    let mut encoder = Encoder::new();
    let config = configs().remove(0);
    let head =
        GroupHead { stamp: stamp(1), config: Arc::new(config.clone()), independent: true, leads: true };
    encoder.encode(Message::Track(config)).expect("fits");
    encoder.encode(Message::Group { track: 0, head, from: 0 }).expect("fits");
    encoder.encode(Message::Frame { track: 0, arrived: frame(1, 1_000_000, 100) }).expect("fits");
    let before = encoder.batch().len();
    encoder.encode(Message::Frame { track: 0, arrived: frame(2, 1_033_000, 100) }).expect("fits");
    assert!(encoder.batch().len() - before <= 110, "{}", encoder.batch().len() - before);
}

#[test]
fn payloads_are_not_copied_when_they_are_sent() {
    let arrived = frame(1, 1_000_000, 5000);
    let at = arrived.frame.payload.as_ptr();
    let mut encoder = Encoder::new();
    let config = configs().remove(0);
    let head =
        GroupHead { stamp: stamp(1), config: Arc::new(config.clone()), independent: true, leads: true };
    encoder.encode(Message::Track(config)).expect("fits");
    encoder.encode(Message::Group { track: 0, head, from: 0 }).expect("fits");
    encoder.encode(Message::Frame { track: 0, arrived }).expect("fits");
    encoder.encode(Message::Ping).expect("fits");
    let batch = encoder.batch();
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    assert_eq!(batch.chunks_vectored(&mut slices), 3);
    assert_eq!(slices[1].as_ptr(), at);
}

#[test]
fn what_is_too_much_is_named() {
    let mut encoder = Encoder::new();
    let long = "x".repeat(256);
    let open = Open {
        version: VERSION,
        key: StreamKey::new("a", long),
        node: NodeId::new("n"),
        backfill: false,
        held: Vec::new(),
    };
    let error = encoder.encode(Message::Open(open)).expect_err("too long");
    assert_eq!(error, WireError::TooLarge { what: "stream id", size: 256, most: 255 });
    assert!(encoder.batch().is_empty());

    let refused = |bytes: &[u8]| decoded([bytes]).1.expect("refused");
    let mut huge = vec![9];
    fields::put_uint(&mut huge, 40 << 20);
    assert!(matches!(refused(&huge), WireError::TooLarge { what: "length", .. }));
    let mut large = vec![7];
    fields::put_uint(&mut large, 300 << 10);
    assert!(matches!(refused(&large), WireError::TooLarge { what: "length", .. }));
    assert_eq!(refused(&[1, 1, 9]), WireError::Version { theirs: 9 });
    assert_eq!(refused(&[1, 1, 0]), WireError::Version { theirs: 0 });
    assert_eq!(refused(&[17, 1, 4]), WireError::Invalid { what: "need", value: 4 });
    assert_eq!(refused(&[19, 3, 2, 0, 0]), WireError::Invalid { what: "sender", value: 2 });
    assert_eq!(refused(&[19, 4, 1, 1, 1, 0xff]), WireError::Text { what: "message" });
    let message = |size| Message::Said { from: Sender::Player, text: false, payload: vec![7; size].into() };
    assert!(matches!(encoder.encode(message(65_537)), Err(WireError::TooLarge { what: "message", .. })));
    encoder.encode(message(65_536)).expect("fits");
    assert_eq!(refused(&[99, 0]), WireError::Invalid { what: "kind", value: 99 });
    assert_eq!(refused(&[16, 1, 0]), WireError::Trailing { what: "body", bytes: 1 });
    assert!(matches!(refused(&[9, 4, 0, 0, 0, 0]), WireError::Unexpected { .. }));
    assert!(matches!(refused(&[11, 4, 0, 0, 0, 0]), WireError::Unexpected { .. }));
    assert!(matches!(
        refused(&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        WireError::TooLarge { .. }
    ));

    let mut tracks: Vec<Message> = (0..16).map(|_| Message::Track(configs().remove(0))).collect();
    encoded(tracks.clone());
    let mut encoder = Encoder::new();
    tracks.push(tracks[0].clone());
    let results: Vec<_> = tracks.into_iter().map(|t| encoder.encode(t)).collect();
    assert!(matches!(results[16], Err(WireError::TooLarge { what: "number of tracks", .. })));
}

#[test]
fn metadata_that_does_not_fit_is_left_out() {
    let value = |n: usize| (format!("key{n}"), MetaValue::Text("v".repeat(10_000)));
    let bytes = encoded(vec![Message::Metadata((0..20).map(value).collect())]);
    let (read, error) = decoded([&bytes[..]]);
    assert_eq!(error, None);
    let [Message::Metadata(kept)] = &read[..] else { panic!("metadata") };
    assert_eq!(kept.len(), 6);
}

#[test]
fn a_frame_never_goes_back_within_its_group() {
    let config = configs().remove(0);
    let head =
        GroupHead { stamp: stamp(1), config: Arc::new(config.clone()), independent: true, leads: true };
    let bytes = encoded(vec![
        Message::Track(config),
        Message::Group { track: 0, head, from: 0 },
        Message::Frame { track: 0, arrived: frame(1, 1_000_000, 1) },
        Message::Frame { track: 0, arrived: frame(2, 1_000_000, 1) },
    ]);
    let (read, error) = decoded([&bytes[..]]);
    assert_eq!(read.len(), 3);
    assert!(matches!(error, Some(WireError::Unexpected { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cuts_change_nothing(cuts in prop::collection::vec(1usize..5000, 1..200)) {
        let bytes = encoded(session());
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        let (read, error) = decoded(pieces);
        prop_assert_eq!(error, None);
        prop_assert_eq!(text(&read), text(&session()));
    }

    #[test]
    fn damage_is_refused_or_harmless(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = encoded(session());
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = decoded([&bytes[..]]);
        let cut = decoded(bytes.chunks(13));
        prop_assert_eq!(text(&whole.0), text(&cut.0));
        prop_assert_eq!(whole.1, cut.1);
    }

    #[test]
    fn any_bytes(data: Vec<u8>) {
        decoded([&data[..]]);
        decoded(data.chunks(3));
    }

    #[test]
    fn numbers_survive(n: u64, i: i64, seconds in -1_000_000_000i64..100_000_000_000, nanos in 0u32..1_000_000_000) {
        let mut out = Vec::new();
        fields::put_uint(&mut out, n);
        fields::put_int(&mut out, i);
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let base = if seconds < 0 { SystemTime::UNIX_EPOCH - whole } else { SystemTime::UNIX_EPOCH + whole };
        let at = base + Duration::from_nanos(u64::from(nanos));
        fields::put_wall(&mut out, at);
        let mut f = fields::Fields::new("test", &out);
        prop_assert_eq!(f.uint(), Ok(n));
        prop_assert_eq!(f.int(), Ok(i));
        prop_assert_eq!(f.wall(), Ok(at));
        prop_assert_eq!(f.done(), Ok(()));
    }
}
