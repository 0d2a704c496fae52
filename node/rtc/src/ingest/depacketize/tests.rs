use bytes::BytesMut;
use proptest::prelude::*;
use sluice_media::AudioCodec;
use sluice_media::codec::{av1, nal};

use super::*;

const ALL: [Codec; 6] = [
    Codec::Video(VideoCodec::H264),
    Codec::Video(VideoCodec::Hevc),
    Codec::Video(VideoCodec::Av1),
    Codec::Video(VideoCodec::Vp8),
    Codec::Video(VideoCodec::Vp9),
    Codec::Audio(AudioCodec::Opus),
];

fn made(codec: Codec, payloads: &[&[u8]]) -> Result<Vec<u8>, Broken> {
    let payloads: Vec<Bytes> = payloads.iter().map(|p| Bytes::copy_from_slice(p)).collect();
    assemble(codec, &payloads).map(|b| b.to_vec())
}

fn units(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|u| [&(u.len() as u32).to_be_bytes(), *u].concat()).collect()
}

#[test]
fn h264() {
    let codec = ALL[0];
    let stap: &[u8] = &[0x78, 0, 2, 0x67, 1, 0, 2, 0x09, 0x10, 0, 3, 0x68, 2, 3];
    let fragments: [&[u8]; 3] = [&[0x7c, 0x85, 1, 2], &[0x7c, 0x05, 3], &[0x7c, 0x45, 4]];
    let frame = made(codec, &[stap, fragments[0], fragments[1], &[], fragments[2], &[0x41, 9]]);
    assert_eq!(frame.unwrap(), units(&[&[0x67, 1], &[0x68, 2, 3], &[0x65, 1, 2, 3, 4], &[0x41, 9]]));
    assert!(made(codec, &[&[0x09, 0x10], &[0x0c, 1]]).unwrap().is_empty(), "delimiter and filler");
    for broken in [
        &fragments[1..],
        &fragments[..2],
        &[fragments[0], &[0x41, 1]],
        &[&stap[..4]],
        &[&[0x7c][..]],
        &[&[0x79, 1][..]],
    ] {
        assert!(made(codec, broken).is_err(), "{broken:x?}");
    }
    for (payload, starts) in [
        (stap, true),
        (fragments[0], false),
        (&[0x7c, 0x85, 0x88], true),
        (&[0x65, 0x88], true),
        (&[0x65, 0x08], false),
        (&[0x67, 1], true),
        (&[0x41, 0x9a], false),
        (&[0x78, 0, 2, 0x65, 0x88], true),
        (&[], false),
    ] {
        assert_eq!(starts_keyframe(codec, payload), starts, "{payload:x?}");
    }
}

#[test]
fn hevc() {
    let codec = ALL[1];
    let ap: &[u8] = &[0x60, 1, 0, 3, 0x40, 1, 7, 0, 3, 0x46, 1, 0x50, 0, 3, 0x42, 1, 8];
    let fragments: [&[u8]; 2] = [&[0x62, 1, 0x93, 0x80, 2], &[0x62, 1, 0x53, 3]];
    let frame = made(codec, &[ap, fragments[0], fragments[1], &[0x02, 1, 5]]);
    assert_eq!(frame.unwrap(), units(&[&[0x40, 1, 7], &[0x42, 1, 8], &[0x26, 1, 0x80, 2, 3], &[0x02, 1, 5]]));
    for broken in [&fragments[1..], &fragments[..1], &[&ap[..6]], &[&[0x62, 1][..]], &[&[0x62][..]]] {
        assert!(made(codec, broken).is_err(), "{broken:x?}");
    }
    assert!(starts_keyframe(codec, ap) && starts_keyframe(codec, fragments[0]));
    assert!(!starts_keyframe(codec, fragments[1]) && !starts_keyframe(codec, &[0x02, 1, 0x80]));
    assert!(starts_keyframe(codec, &[0x26, 1, 0x80]) && !starts_keyframe(codec, &[0x26, 1, 0]));
}

#[test]
fn vp8() {
    let codec = ALL[3];
    // Extended, with a picture id of 15 bits, TL0PICIDX and TID.
    let first: &[u8] = &[0x90, 0xe0, 0x81, 0x02, 7, 0x20, 0x10, 0xaa];
    assert_eq!(
        made(codec, &[first, &[0x00, 0xbb], &[0x80, 0x80, 0x05, 0xcc]]).unwrap(),
        [0x10, 0xaa, 0xbb, 0xcc]
    );
    assert!(starts_keyframe(codec, first) && !starts_keyframe(codec, &[0x10, 0x11]));
    assert!(!starts_keyframe(codec, &[0x00, 0x10]) && !starts_keyframe(codec, &[0x11, 0x10]));
    assert!(made(codec, &[&first[..3]]).is_err() && made(codec, &[&[0x80]]).is_err());
}

#[test]
fn vp9() {
    let codec = ALL[4];
    // Picture id of 15 bits, layers without flexibility, scalability structure of one layer with one picture group.
    let first: &[u8] = &[0xaa, 0x81, 0x02, 0x00, 0x07, 0x18, 1, 0x40, 0, 0xb4, 1, 0x04, 9, 0x82, 0x49];
    // Flexible, with two reference differences.
    let flexible: &[u8] = &[0xd0, 0x05, 0x03, 0x04, 0x77];
    assert_eq!(made(codec, &[first, flexible]).unwrap(), [0x82, 0x49, 0x77]);
    assert!(starts_keyframe(codec, first) && !starts_keyframe(codec, flexible));
    assert!(!starts_keyframe(codec, &[0x28, 0x02, 0, 1]), "a higher layer");
    for n in 1..13 {
        assert!(made(codec, &[&first[..n]]).is_err(), "{n}");
    }
}

#[test]
fn av1() {
    let codec = ALL[2];
    // W = 2: a sequence header with its length, then a frame that goes on in the next packet; the delimiter goes.
    let packets: [&[u8]; 3] =
        [&[0x68, 0x02, 0x08, 0x55, 0x30, 0x10, 1], &[0xd0, 2, 3], &[0x80, 0x01, 4, 0x03, 0x12, 0x00, 9]];
    let whole = made(codec, &packets).unwrap();
    assert_eq!(whole, [0x0a, 1, 0x55, 0x32, 5, 0x10, 1, 2, 3, 4]);
    assert_eq!(av1::normalise(whole.clone().into()).unwrap(), whole, "the hub's form");
    assert!(starts_keyframe(codec, packets[0]) && !starts_keyframe(codec, packets[1]));
    // An extension header, and a size that need not be there.
    assert_eq!(made(codec, &[&[0x10, 0x36, 0x18, 0x01, 0x44, 0xff]]).unwrap(), [0x36, 0x18, 1, 0x44]);
    for broken in [
        &packets[1..],
        &packets[..2],
        &[&[0x00, 0x05, 1][..]],
        &[&[0x10, 0x80][..]],
        &[&[0x10, 0x32, 9, 1][..]],
    ] {
        assert!(made(codec, broken).is_err(), "{broken:x?}");
    }
}

#[test]
fn opus() {
    assert_eq!(made(ALL[5], &[&[0xfc, 1, 2]]).unwrap(), [0xfc, 1, 2]);
    assert!(made(ALL[5], &[&[1], &[2]]).is_err() && made(ALL[5], &[&vec![0; 70_000]]).is_err());
}

/// The packetisers of the library, as encoders that we did not write.
#[test]
fn what_others_packetise() {
    use rtc_rtp::codec::{av1, h264, h265, vp8, vp9};
    use rtc_rtp::packetizer::Payloader;
    let noise =
        |n: usize, seed: u8| (0..n).map(|i| (i * 7 + usize::from(seed)) as u8 | 1).collect::<Vec<_>>();
    let with = |head: &[u8], n: usize| [head.to_vec(), noise(n, 3)].concat();
    for mtu in [50, 200, 1200] {
        let split =
            |p: &mut dyn Payloader, frame: &[u8]| p.payload(mtu, &Bytes::copy_from_slice(frame)).unwrap();
        let h264_units = [with(&[0x67], 20), with(&[0x68], 4), with(&[0x65], 3000), with(&[0x41], 10)];
        let refs: Vec<&[u8]> = h264_units.iter().map(Vec::as_slice).collect();
        let annex_b: Vec<u8> = refs.iter().flat_map(|u| [&[0, 0, 0, 1], *u].concat()).collect();
        let payloads = split(&mut h264::H264Payloader::default(), &annex_b);
        assert_eq!(assemble(ALL[0], &payloads).unwrap(), units(&refs), "H.264, {mtu}");
        let hevc_units =
            [with(&[0x40, 1], 20), with(&[0x42, 1], 40), with(&[0x44, 1], 4), with(&[0x26, 1], 3000)];
        let refs: Vec<&[u8]> = hevc_units.iter().map(Vec::as_slice).collect();
        let annex_b: Vec<u8> = refs.iter().flat_map(|u| [&[0, 0, 0, 1], *u].concat()).collect();
        let payloads = split(&mut h265::HevcPayloader, &annex_b);
        assert_eq!(assemble(ALL[1], &payloads).unwrap(), units(&refs), "HEVC, {mtu}");
        let frame = with(&[0x10, 0, 0], 3000);
        let mut vp8 = vp8::Vp8Payloader::default();
        vp8.enable_picture_id = true;
        let payloads = split(&mut vp8, &frame);
        assert_eq!(assemble(ALL[3], &payloads).unwrap(), frame, "VP8, {mtu}");
        assert!(starts_keyframe(ALL[3], &payloads[0]));
        let frame = with(&[0x82, 0x49, 0x83, 0x42, 0, 0x77, 0xf0, 0x43, 0x76], 3000);
        let payloads = split(&mut vp9::Vp9Payloader::default(), &frame);
        assert_eq!(assemble(ALL[4], &payloads).unwrap(), frame, "VP9, {mtu}");
        let unit = [
            &[0x0a, 11, 0, 0, 0, 0x0c, 0xc4, 0xff, 0x67, 0, 0xbe, 0, 0x10, 0x32, 0x80, 0x10][..],
            &noise(2048, 5),
        ]
        .concat();
        let payloads = split(&mut av1::Av1Payloader::default(), &unit);
        assert_eq!(assemble(ALL[2], &payloads).unwrap(), unit, "AV1, {mtu}");
    }
}

proptest! {
    #[test]
    fn any_payloads(payloads: Vec<Vec<u8>>) {
        let payloads: Vec<Bytes> = payloads.into_iter().map(Bytes::from).collect();
        for codec in ALL {
            for payload in &payloads {
                starts_keyframe(codec, payload);
            }
            if let Ok(frame) = assemble(codec, &payloads) {
                match codec {
                    Codec::Video(VideoCodec::H264 | VideoCodec::Hevc) => prop_assert!(nal::to_four_byte(frame, 4).is_ok()),
                    Codec::Video(VideoCodec::Av1) => prop_assert_eq!(av1::normalise(frame.clone()), Ok(frame)),
                    _ => {}
                }
            }
        }
    }

    /// Fragments as senders make them, at any places, with any loss.
    #[test]
    fn fragments(unit in prop::collection::vec(any::<u8>(), 3..400), cuts in prop::collection::vec(1usize..60, 1..20), lost in prop::option::of(0usize..20)) {
        let mut payloads = Vec::new();
        let mut rest = &unit[1..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at(cut.min(&rest.len()).to_owned());
            let flags = u8::from(payloads.is_empty()) << 7 | u8::from(later.is_empty()) << 6;
            let mut payload = BytesMut::from(&[0x7c, flags | 5][..]);
            payload.extend_from_slice(now);
            payloads.push(payload.freeze());
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let expected = units(&[&[&[0x65], &unit[1..]].concat()]);
        let lost = lost.filter(|l| *l < payloads.len());
        if let Some(lost) = lost {
            payloads.remove(lost);
        }
        match assemble(ALL[0], &payloads) {
            Ok(frame) => prop_assert!(lost.is_some() || frame == expected),
            Err(_) => prop_assert!(lost.is_some()),
        }
    }
}
