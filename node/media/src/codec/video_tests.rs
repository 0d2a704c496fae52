//! Records and keyframes below were written by ffmpeg 5.1 with libx264, libx265 (SEI arrays left out), SVT-AV1,
//! libaom and libvpx from its test pattern; 322x182 needs cropping in both directions.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

fn hex(s: &str) -> Bytes {
    assert_eq!(s.len() % 2, 0);
    (0..s.len() / 2).map(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).expect("hex")).collect()
}

const AVCC_1080: &str =
    "01640028ffe1001867640028acb403c0113f2e022000007d20001d4c11e3065401000468ef0fcbfdf8f800";
const AVCC_1080I: &str =
    "01640028ffe1001a67640028acd94078044fde0220000003002000000643e2c5b2c001000668fba3cb22c0fdf8f800";
const AVCC_422: &str =
    "017a000dffe1001b677a000db6cec1519e222f0110000003001000000303c0f142938001000468ef8fcbfefafa00";
const AVCC_BASELINE: &str =
    "0142c00dffe100186742c00dd901519e226c0440000003004000000c83c50a9201000568cb83cb20";
const AVCC_444: &str =
    "01f4000dffe1001b67f4000d919b282a33c7c5e022000003000200000300641e28532c01000668ebe3c44844fff8f800";
const AVCC_SCALING_LISTS: &str =
    "0164000dffe1001a6764000dacd941519e226c0440000003004000000f03c50a658001000768ebe3cb3002c0fdf8f800";

const HVCC_1080: &str = concat!(
    "01016000000090000000000078f000fcfdf8f800000f03",
    "a00001001840010c01ffff016000000300900000030000030078959409",
    "a10001002a420101016000000300900000030000030078a003c0801107cb965654a4c2f01680800001f480003a9804",
    "a2000100064401c073c189"
);
const HVCC_422: &str = concat!(
    "0104080000009d08000000003cf000fcfefafa00000f03",
    "a00001001740010c01ffff0408000003009d0800000300003c959409",
    "a10001002b4201010408000003009d0800000300003cb00a880c1c445b6595952930bc05a020000003002000000303c1",
    "a2000100064401c073c189"
);

const AV1C_360: &str = "81010c000a0b0000000cc4ff6700be0010";
const AV1C_10_BIT: &str = "81004c000a0e000000043d06d4daf95010101040";
const VPCC_1080: &str = "0028820202020000";
const VPCC_422: &str = "030ba40101010000";

/// The first bytes of a keyframe and of the frame after it.
const VP8: [&str; 2] = ["1067009d012a4201b6000007088585", "9113001e11b4001bf1ccffc23cdffd"];
const VP9_1080: [&str; 2] = ["824983420077f043760638241c184a", "86004092f1214006013d7fbc5ffabf"];
const VP9_422: [&str; 2] = ["b124c1a11200a0805ab031c120e0c2", "b30020497890a000006a7fbc5b7540"];

/// Constructor, record, width, height, codec string, frame rate.
type Row = (Make, &'static str, u32, u32, &'static str, Option<f64>);
type Make = fn(Bytes) -> Result<VideoConfig, CodecError>;
const RECORDS: [Make; 4] = [VideoConfig::h264, VideoConfig::hevc, VideoConfig::av1, VideoConfig::vp9];

#[test]
fn records() {
    let ntsc = Some(30_000.0 / 1001.0);
    let table: &[Row] = &[
        (VideoConfig::h264, AVCC_1080, 1920, 1080, "avc1.640028", ntsc),
        (VideoConfig::h264, AVCC_1080I, 1920, 1080, "avc1.640028", Some(25.0)),
        (VideoConfig::h264, AVCC_422, 322, 182, "avc1.7a000d", Some(30.0)),
        (VideoConfig::h264, AVCC_BASELINE, 322, 182, "avc1.42c00d", Some(25.0)),
        (VideoConfig::h264, AVCC_444, 322, 182, "avc1.f4000d", Some(25.0)),
        (VideoConfig::h264, AVCC_SCALING_LISTS, 322, 182, "avc1.64000d", Some(30.0)),
        (VideoConfig::hevc, HVCC_1080, 1920, 1080, "hvc1.1.6.L120.90", None),
        (VideoConfig::hevc, HVCC_422, 322, 182, "hvc1.4.10.L60.9D.8", None),
        (VideoConfig::av1, AV1C_360, 640, 360, "av01.0.01M.08", None),
        (VideoConfig::av1, AV1C_10_BIT, 322, 182, "av01.0.00M.10", None),
        (VideoConfig::vp9, VPCC_1080, 0, 0, "vp09.00.40.08", None),
        (VideoConfig::vp9, VPCC_422, 0, 0, "vp09.03.11.10.02.01.01.01.00", None),
    ];
    for &(make, record, width, height, string, rate) in table {
        let config = make(hex(record)).unwrap_or_else(|e| panic!("{record}: {e}"));
        assert_eq!((config.width, config.height), (width, height), "{record}");
        assert_eq!(config.codec_string, string);
        assert_eq!(config.record, hex(record), "kept as it came");
        match (config.frame_rate(), rate) {
            (Some(a), Some(b)) => assert!((a - b).abs() < 1e-9, "{record}: {a} is not {b}"),
            (a, b) => assert_eq!(a, b, "{record}"),
        }
    }
}

#[test]
fn every_cut_is_refused_or_harmless() {
    for (make, record) in
        [(RECORDS[0], AVCC_1080), (RECORDS[1], HVCC_1080), (RECORDS[2], AV1C_10_BIT), (RECORDS[3], VPCC_1080)]
    {
        let whole = hex(record);
        for len in 0..whole.len() {
            let _ = make(whole.slice(..len));
        }
        assert!(matches!(make(whole.slice(..3)), Err(CodecError::Truncated { .. })), "{record}");
    }
    assert!(matches!(VideoConfig::h264(hex(AVCC_1080).slice(..20)), Err(CodecError::Truncated { .. })));
    assert!(matches!(VideoConfig::hevc(hex(HVCC_1080).slice(..40)), Err(CodecError::Truncated { .. })));
}

#[test]
fn overlong_records_are_refused() {
    let mut hvcc = BytesMut::from(&hex(HVCC_1080)[..]);
    hvcc.resize(crate::codec::MAX_RECORD + 1, 0);
    assert!(matches!(VideoConfig::hevc(hvcc.freeze()), Err(CodecError::Invalid { field: "size", .. })));
}

#[test]
fn unusable_fields_are_named() {
    let with = |record: &str, at: usize, byte: u8| {
        let mut bytes = BytesMut::from(&hex(record)[..]);
        bytes[at] = byte;
        bytes.freeze()
    };
    let field = |r: Result<VideoConfig, CodecError>| match r {
        Err(CodecError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(VideoConfig::h264(with(AVCC_1080, 0, 0))), "configurationVersion");
    assert_eq!(field(VideoConfig::h264(with(AVCC_1080, 4, 0xfe))), "lengthSizeMinusOne");
    assert_eq!(field(VideoConfig::hevc(with(HVCC_1080, 0, 2))), "configurationVersion");
    assert_eq!(field(VideoConfig::hevc(with(HVCC_1080, 21, 0x0e))), "lengthSizeMinusOne");
    assert_eq!(field(VideoConfig::av1(with(AV1C_360, 0, 1))), "marker and version");
    assert_eq!(field(VideoConfig::av1(with(AV1C_360, 1, 0xe1))), "seq_profile");
    assert_eq!(field(VideoConfig::vp9(with(VPCC_1080, 0, 4))), "profile");
    assert_eq!(field(VideoConfig::vp9(with(VPCC_1080, 2, 0x92))), "bitDepth");
    assert_eq!(field(VideoConfig::vp8(1 << 14, 1)), "width");
}

#[test]
fn short_nal_lengths_are_rewritten() {
    let mut avcc = BytesMut::from(&hex(AVCC_1080)[..]);
    avcc[4] = 0xfd;
    let avcc = avcc.freeze();
    assert_eq!(nal::source_nal_length_size(VideoCodec::H264, &avcc), 2);
    assert_eq!(VideoConfig::h264(avcc).map(|c| c.record), Ok(hex(AVCC_1080)));

    let mut hvcc = BytesMut::from(&hex(HVCC_1080)[..]);
    hvcc[21] &= !3;
    let hvcc = hvcc.freeze();
    assert_eq!(nal::source_nal_length_size(VideoCodec::Hevc, &hvcc), 1);
    assert_eq!(VideoConfig::hevc(hvcc).map(|c| c.record), Ok(hex(HVCC_1080)));
}

#[test]
fn records_without_parameter_sets_have_no_size() {
    let config = VideoConfig::h264(hex("01640028ffe000")).expect("avc3 style");
    assert_eq!((config.width, config.codec_string.as_str()), (0, "avc1.640028"));
    let config = VideoConfig::av1(hex("81010c00")).expect("no sequence header");
    assert_eq!((config.width, config.codec_string.as_str()), (0, "av01.0.01M.08"));
}

#[test]
fn vp9_record_with_full_box_header() {
    let boxed = hex(&format!("01000000{VPCC_1080}"));
    assert_eq!(VideoConfig::vp9(boxed), VideoConfig::vp9(hex(VPCC_1080)));
}

#[test]
fn vp8_and_vp9_take_the_size_from_a_keyframe() {
    for (codec, [key, inter], size) in [
        (VideoCodec::Vp8, VP8, (322, 182)),
        (VideoCodec::Vp9, VP9_1080, (1920, 1080)),
        (VideoCodec::Vp9, VP9_422, (322, 182)),
    ] {
        assert_eq!(picture_size(codec, &hex(key)), Some(size));
        assert_eq!(picture_size(codec, &hex(inter)), None);
        assert!(is_keyframe(codec, &hex(key)) && !is_keyframe(codec, &hex(inter)), "{codec:?}");
    }
    let vp8 = VideoConfig::vp8(0, 0).expect("fits").with_size(1920, 1080);
    assert_eq!((vp8.width, vp8.height, vp8.codec_string.as_str()), (1920, 1080, "vp08.00.41.08"));
    let vp9 = VideoConfig::vp9(hex("0000820202020000")).expect("level 0: unknown").with_size(1280, 720);
    assert_eq!((vp9.width, vp9.codec_string.as_str()), (1280, "vp09.00.40.08"));
}

#[test]
fn sizes_in_band() {
    let in_band = |codec, record: &str| {
        let config = match codec {
            VideoCodec::H264 => VideoConfig::h264(hex(record)),
            _ => VideoConfig::hevc(hex(record)),
        };
        let mut annex_b = Vec::new();
        let key: &[u8] = if codec == VideoCodec::H264 { &[0, 0, 0, 1, 0x65] } else { &[0, 0, 0, 1, 0x26] };
        let muxer = nal::AnnexB::new(&config.expect("valid")).expect("has NAL units");
        muxer.write(key, &mut annex_b);
        let payload = nal::from_annex_b(&annex_b);
        (is_keyframe(codec, &payload), picture_size(codec, &payload))
    };
    assert_eq!(in_band(VideoCodec::H264, AVCC_1080), (true, Some((1920, 1080))));
    assert_eq!(in_band(VideoCodec::Hevc, HVCC_422), (true, Some((322, 182))));
}

#[test]
fn records_are_made_of_what_is_in_band() {
    let payload = |config: &VideoConfig| match config.codec {
        VideoCodec::Av1 => config.record.slice(4..),
        codec => {
            let mut annex_b = Vec::new();
            let key: &[u8] =
                if codec == VideoCodec::H264 { &[0, 0, 0, 1, 0x65] } else { &[0, 0, 0, 1, 0x26] };
            nal::AnnexB::new(config).expect("has NAL units").write(key, &mut annex_b);
            nal::from_annex_b(&annex_b)
        }
    };
    for (make, record) in [
        (RECORDS[0], AVCC_1080),
        (RECORDS[0], AVCC_422),
        (RECORDS[0], AVCC_BASELINE),
        (RECORDS[0], AVCC_444),
        (RECORDS[0], AVCC_SCALING_LISTS),
        (RECORDS[1], HVCC_1080),
        (RECORDS[1], HVCC_422),
        (RECORDS[2], AV1C_360),
        (RECORDS[2], AV1C_10_BIT),
    ] {
        let whole = make(hex(record)).expect("valid");
        let made = VideoConfig::in_band(whole.codec, &payload(&whole)).expect("enough").expect("valid");
        if whole.codec == VideoCodec::Hevc {
            assert_eq!(made.record[..22], whole.record[..22], "but for the completeness of its arrays");
            let apart = |c: &VideoConfig| VideoConfig { record: Bytes::new(), ..c.clone() };
            assert_eq!(apart(&made), apart(&whole));
            assert_eq!(payload(&made), payload(&whole));
        } else {
            assert_eq!(made, whole, "{record}");
        }
        assert_eq!(VideoConfig::in_band(whole.codec, &[0, 0, 0, 2, 0x41, 1]), None);
    }
    let vp9 = VideoConfig::in_band(VideoCodec::Vp9, &hex(VP9_1080[0])).expect("a keyframe").expect("valid");
    assert_eq!((vp9.width, vp9.height, vp9.codec_string.as_str()), (1920, 1080, "vp09.00.41.08"));
    let vp9 = VideoConfig::in_band(VideoCodec::Vp9, &hex(VP9_422[0])).expect("a keyframe").expect("valid");
    assert_eq!((vp9.record[0], vp9.record[2] >> 1), (3, 0xa4 >> 1), "profile 3, 10 bits, 4:2:2");
    let vp8 = VideoConfig::in_band(VideoCodec::Vp8, &hex(VP8[0])).expect("a keyframe");
    assert_eq!(vp8, VideoConfig::vp8(322, 182));
    for (codec, inter) in [(VideoCodec::Vp8, VP8[1]), (VideoCodec::Vp9, VP9_1080[1])] {
        assert_eq!(VideoConfig::in_band(codec, &hex(inter)), None);
    }
}

#[test]
fn av1_temporal_units() -> Result<(), CodecError> {
    let delimiter = "1200";
    let sequence = "0a0e000000043d06d4daf95010101040";
    let key = "320410203040";
    let inter = "320330aabb";
    let unit = hex(&format!("{delimiter}{sequence}{key}"));
    let clean = av1::normalise(unit.clone())?;
    assert_eq!(clean.as_ptr(), unit[2..].as_ptr(), "a leading delimiter costs no copy");
    assert_eq!(clean, hex(&format!("{sequence}{key}")));
    assert_eq!(av1::normalise(clean.clone())?, clean);
    assert!(is_keyframe(VideoCodec::Av1, &clean));
    assert_eq!(picture_size(VideoCodec::Av1, &clean), Some((322, 182)));
    assert!(!is_keyframe(VideoCodec::Av1, &hex(inter)));
    assert_eq!(picture_size(VideoCodec::Av1, &hex(inter)), None);

    // A last OBU without a size gets one, with an extension header too; a later delimiter goes.
    assert_eq!(av1::normalise(hex("0a01ff1200341030"))?, hex("0a01ff36100130"));
    assert_eq!(av1::normalise(hex("3010203040"))?, hex(key));
    assert!(matches!(av1::normalise(hex("32051020")), Err(CodecError::Truncated { .. })));
    assert!(matches!(av1::normalise(hex("80")), Err(CodecError::Truncated { .. })));
    assert_eq!(av1::normalise(Bytes::new())?, Bytes::new());
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes(data: Vec<u8>) {
        for make in RECORDS {
            if let Ok(config) = make(Bytes::from(data.clone())) {
                config.frame_rate();
                let _ = nal::AnnexB::new(&config);
            }
        }
        for codec in [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1, VideoCodec::Vp8, VideoCodec::Vp9] {
            is_keyframe(codec, &data);
            picture_size(codec, &data);
            let _ = VideoConfig::in_band(codec, &data);
        }
        let _ = av1::normalise(Bytes::from(data));
    }

    /// Damage reaches deeper into the parsers than noise does.
    #[test]
    fn damaged_records(which in 0usize..4, damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = hex([AVCC_SCALING_LISTS, HVCC_422, AV1C_10_BIT, VPCC_422][which]).to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(config) = RECORDS[which](Bytes::from(bytes)) {
            config.frame_rate();
            prop_assert!(config.width <= 16_384 && config.height <= 16_384);
            // What is kept is taken again, and says the same.
            prop_assert_eq!(RECORDS[which](config.record.clone()), Ok(config));
        }
    }

    #[test]
    fn av1_normal_form_is_stable(data: Vec<u8>) {
        if let Ok(once) = av1::normalise(Bytes::from(data)) {
            prop_assert_eq!(av1::normalise(once.clone()), Ok(once));
        }
    }
}
