use proptest::prelude::*;
use rtc_rtp::codec::{h264, opus, vp8, vp9};
use rtc_rtp::packetizer::Depacketizer;
use sluice_media::{AudioConfig, Timestamp, VideoConfig};

use super::*;

const MAX: usize = 200;
const AVCC: &[u8] = &[1, 0x64, 0, 0x28, 0xff, 0xe1, 0, 4, 0x67, 0x64, 0, 0x28, 1, 0, 2, 0x68, 0xef];

fn video(codec: VideoCodec, record: &'static [u8]) -> TrackConfig {
    TrackConfig::Video(VideoConfig {
        codec,
        record: Bytes::from_static(record),
        width: 0,
        height: 0,
        codec_string: String::new(),
    })
}

fn payloads(config: &TrackConfig, payload: Vec<u8>, keyframe: bool) -> Vec<Bytes> {
    let mut out = Out::default();
    let frame = Frame { dts: Timestamp::ZERO, pts: Timestamp::ZERO, keyframe, payload: payload.into() };
    Packetizer::new(config, MAX).unwrap().write(&frame, &mut out);
    let (bytes, ends) = out.take();
    let mut start = 0;
    let mut list = Vec::new();
    for end in ends {
        list.push(bytes.slice(start..end as usize));
        start = end as usize;
    }
    assert_eq!(start, bytes.len());
    list
}

fn hub(units: &[Vec<u8>]) -> Vec<u8> {
    units.iter().flat_map(|u| [&(u.len() as u32).to_be_bytes()[..], u].concat()).collect()
}

fn unit(kind: u8, len: usize) -> Vec<u8> {
    let mut unit: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8 | 1).collect();
    unit[0] = kind;
    unit
}

fn depacketized(depacketizer: &mut impl Depacketizer, payloads: &[Bytes]) -> Vec<u8> {
    payloads.iter().flat_map(|p| depacketizer.depacketize(p).unwrap().to_vec()).collect()
}

/// The units in HEVC payloads (the reference implementation gives no units).
fn hevc_units(payloads: &[Bytes]) -> Vec<Vec<u8>> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    for p in payloads {
        match p[0] >> 1 & 0x3f {
            48 => {
                let mut rest = &p[2..];
                while !rest.is_empty() {
                    let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    units.push(rest[2..2 + len].to_vec());
                    rest = &rest[2 + len..];
                }
            }
            49 => {
                if p[2] & 0x80 != 0 {
                    units.push(vec![p[0] & 0x81 | (p[2] & 0x3f) << 1, p[1]]);
                }
                units.last_mut().unwrap().extend(&p[3..]);
            }
            _ => units.push(p.to_vec()),
        }
    }
    units
}

fn avc() -> h264::H264Packet {
    let mut depacketizer = h264::H264Packet::default();
    depacketizer.is_avc = true;
    depacketizer
}

fn leb128(bytes: &mut &[u8]) -> usize {
    let mut value = 0;
    for i in 0.. {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// The OBUs in AV1 payloads, each with its size (the reference implementation keeps its depacketizer to itself).
fn av1_unit(payloads: &[Bytes]) -> Vec<u8> {
    let mut obus: Vec<Vec<u8>> = Vec::new();
    let mut open = false;
    for p in payloads {
        let (continues, goes_on, count) = (p[0] & 0x80 != 0, p[0] & 0x40 != 0, usize::from(p[0] >> 4 & 3));
        assert_eq!(continues, open);
        let mut rest = &p[1..];
        for i in 1.. {
            let len = if i == count { rest.len() } else { leb128(&mut rest) };
            let (element, tail) = rest.split_at(len);
            rest = tail;
            match obus.last_mut() {
                Some(last) if open => last.extend(element),
                _ => obus.push(element.to_vec()),
            }
            open = false;
            if rest.is_empty() {
                break;
            }
        }
        open = goes_on;
    }
    assert!(!open);
    let sized = |obu: &Vec<u8>| {
        let head = if obu[0] & 4 != 0 { 2 } else { 1 };
        let n = obu.len() - head;
        let size = if n < 128 { vec![n as u8] } else { vec![n as u8 | 0x80, (n >> 7) as u8] };
        [&[obu[0] | 2][..], &obu[1..head], &size, &obu[head..]].concat()
    };
    obus.iter().flat_map(sized).collect()
}

#[test]
fn h264_keyframes_bring_their_parameter_sets() {
    let config = video(VideoCodec::H264, AVCC);
    let (sps, pps) = (AVCC[8..12].to_vec(), AVCC[15..17].to_vec());
    let picture = unit(0x65, 1000);
    let sent = payloads(&config, hub(&[vec![9, 0xf0], picture.clone()]), true);
    let got = depacketized(&mut avc(), &sent);
    assert_eq!(got, hub(&[sps, pps, picture.clone()]), "without the delimiter");
    assert_eq!(sent.len(), 1 + 999usize.div_ceil(MAX - 2));
    let own = hub(&[vec![0x67, 1, 2], vec![0x68, 3, 4], picture]);
    let sent = payloads(&config, own.clone(), true);
    assert_eq!(depacketized(&mut avc(), &sent), own);
}

#[test]
fn hevc_keyframes_bring_their_parameter_sets() {
    let mut hvcc = vec![0; 22];
    hvcc[0] = 1;
    hvcc.push(3);
    let sets = [vec![32 << 1, 1, 9], vec![33 << 1, 1, 8], vec![34 << 1, 1, 7]];
    for set in &sets {
        hvcc.extend([set[0] >> 1, 0, 1, 0, set.len() as u8]);
        hvcc.extend(set);
    }
    let config = video(VideoCodec::Hevc, hvcc.leak());
    let mut picture = unit(19 << 1, 1000);
    picture[1] = 1;
    let sent = payloads(&config, hub(&[vec![35 << 1, 1, 0x50], picture.clone()]), true);
    assert_eq!(hevc_units(&sent), [sets.to_vec(), vec![picture]].concat());
    assert_eq!(sent[0][0] >> 1, 48);
}

#[test]
fn av1_keyframes_bring_their_sequence_header() {
    let config = video(VideoCodec::Av1, &[0x81, 0, 0, 0, 0x0a, 2, 5, 6]);
    let obus = [&[0x32, 0xac, 2][..], &[7; 300]].concat();
    let sent = payloads(&config, obus.clone(), true);
    assert_eq!(sent[0][0] & 0x08, 0x08, "a new sequence");
    assert_eq!(sent[1][0] & 0x08, 0);
    let got = av1_unit(&sent);
    assert_eq!(got, [&[0x0a, 2, 5, 6][..], &obus].concat());
    let sent = payloads(&config, obus.clone(), false);
    assert_eq!(av1_unit(&sent), obus);
    assert_eq!(sent[0][0] & 0x08, 0);
}

#[test]
fn opus_is_as_it_is_and_aac_is_not_carried() {
    let audio = |codec| {
        TrackConfig::Audio(AudioConfig {
            codec,
            record: Bytes::new(),
            sample_rate: 48_000,
            channels: 2,
            codec_string: String::new(),
        })
    };
    let sent = payloads(&audio(AudioCodec::Opus), vec![0xfc, 1, 2], true);
    assert_eq!(depacketized(&mut opus::OpusPacket, &sent), [0xfc, 1, 2]);
    assert!(payloads(&audio(AudioCodec::Opus), Vec::new(), true).is_empty());
    assert!(Packetizer::new(&audio(AudioCodec::Aac), MAX).is_none());
}

#[test]
fn payloads_leave_room_for_the_rest_of_the_datagram() {
    assert_eq!(largest_payload(1200), 1200 - 40 - 2 - 16);
    assert!(largest_payload(0) >= 128);
}

fn check_sizes(sent: &[Bytes]) -> Result<(), TestCaseError> {
    prop_assert!(sent.iter().all(|p| (1..=MAX).contains(&p.len())));
    Ok(())
}

/// A single frame larger than a payload: all are of the largest size but the last.
fn check_equal(sent: &[Bytes]) -> Result<(), TestCaseError> {
    let (_, all_but_last) = sent.split_last().unwrap();
    prop_assert!(all_but_last.iter().all(|p| p.len() == MAX));
    Ok(())
}

proptest! {
    #[test]
    fn h264_survives(lens in proptest::collection::vec(3usize..900, 1..8)) {
        let units: Vec<Vec<u8>> = lens.iter().map(|n| unit(0x41, *n)).collect();
        let sent = payloads(&video(VideoCodec::H264, AVCC), hub(&units), false);
        check_sizes(&sent)?;
        let got = depacketized(&mut avc(), &sent);
        prop_assert_eq!(got, hub(&units));
        if lens.len() == 1 {
            check_equal(&sent)?;
        }
    }

    #[test]
    fn hevc_survives(lens in proptest::collection::vec(4usize..900, 1..8)) {
        let units: Vec<Vec<u8>> = lens.iter().map(|n| unit(1 << 1, *n)).collect();
        let sent = payloads(&video(VideoCodec::Hevc, &[]), hub(&units), false);
        check_sizes(&sent)?;
        prop_assert_eq!(hevc_units(&sent), units);
        if lens.len() == 1 {
            check_equal(&sent)?;
        }
    }

    #[test]
    fn av1_survives(lens in proptest::collection::vec(1usize..900, 1..8)) {
        let mut bytes = Vec::new();
        for (i, n) in lens.iter().enumerate() {
            let head: &[u8] = if i % 2 == 1 { &[0x36, 0x28] } else { &[0x32] };
            bytes.extend(head);
            bytes.extend(if *n < 128 { vec![*n as u8] } else { vec![*n as u8 | 0x80, (n >> 7) as u8] });
            bytes.extend((0..*n).map(|i| i as u8));
        }
        let sent = payloads(&video(VideoCodec::Av1, &[]), bytes.clone(), false);
        check_sizes(&sent)?;
        let got = av1_unit(&sent);
        prop_assert_eq!(got, bytes);
        if lens.len() == 1 {
            check_equal(&sent)?;
        }
    }

    #[test]
    fn vp8_and_vp9_survive(len in 1usize..2000, keyframe: bool) {
        let frame: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let sent = payloads(&video(VideoCodec::Vp8, &[]), frame.clone(), keyframe);
        check_equal(&sent)?;
        // The reference implementation wants more than four bytes.
        if sent.iter().all(|p| p.len() > 4) {
            prop_assert_eq!(depacketized(&mut vp8::Vp8Packet::default(), &sent), frame.clone());
        }
        prop_assert!(sent.iter().enumerate().all(|(i, p)| (p[0] == 0x10) == (i == 0)));
        let sent = payloads(&video(VideoCodec::Vp9, &[]), frame.clone(), keyframe);
        check_equal(&sent)?;
        let mut depacketizer = vp9::Vp9Packet::default();
        prop_assert_eq!(depacketized(&mut depacketizer, &sent), frame);
        prop_assert_eq!(depacketizer.p, !keyframe);
        prop_assert!(depacketizer.e);
    }

    #[test]
    fn any_bytes(data: Vec<u8>, keyframe: bool) {
        for (codec, record) in [
            (VideoCodec::H264, AVCC),
            (VideoCodec::Hevc, &[]),
            (VideoCodec::Av1, &[0x81, 0, 0, 0, 0x0a, 9]),
            (VideoCodec::Vp8, &[]),
            (VideoCodec::Vp9, &[]),
        ] {
            check_sizes(&payloads(&video(codec, record), data.clone(), keyframe))?;
        }
    }
}
