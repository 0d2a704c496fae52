//! NAL units of H.264 and HEVC: the length-prefixed form of files and of the hub, the Annex B form of MPEG-TS,
//! and the types that matter for keyframes and parameter sets.

use bytes::{BufMut, Bytes, BytesMut};

use super::{CodecError, VideoCodec, VideoConfig, h264, hevc};

/// H.264 slice of an IDR picture.
pub const H264_IDR: u8 = 5;
/// H.264 sequence parameter set.
pub const H264_SPS: u8 = 7;
/// H.264 picture parameter set.
pub const H264_PPS: u8 = 8;
/// H.264 access unit delimiter.
pub const H264_AUD: u8 = 9;
/// HEVC video parameter set.
pub const HEVC_VPS: u8 = 32;
/// HEVC sequence parameter set.
pub const HEVC_SPS: u8 = 33;
/// HEVC picture parameter set.
pub const HEVC_PPS: u8 = 34;
/// HEVC access unit delimiter.
pub const HEVC_AUD: u8 = 35;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// `nal_unit_type` of an H.264 NAL unit; 0, unspecified, for an empty one.
pub fn h264_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |b| b & 0x1f)
}

/// `nal_unit_type` of an HEVC NAL unit; 63, unspecified, for an empty one.
pub fn hevc_type(nal: &[u8]) -> u8 {
    nal.first().map_or(63, |b| (b >> 1) & 0x3f)
}

/// Whether an HEVC NAL unit type is a slice of a random access picture (IRAP: BLA, IDR, CRA, reserved).
pub fn hevc_is_irap(kind: u8) -> bool {
    (16..=23).contains(&kind)
}

/// Whether decoding can start at this access unit: H.264 IDR, HEVC IRAP; never for other codecs.
pub(crate) fn is_keyframe(codec: VideoCodec, payload: &[u8]) -> bool {
    match codec {
        VideoCodec::H264 => units(payload).any(|nal| h264_type(nal) == H264_IDR),
        VideoCodec::Hevc => units(payload).any(|nal| hevc_is_irap(hevc_type(nal))),
        VideoCodec::Av1 | VideoCodec::Vp8 | VideoCodec::Vp9 => false,
    }
}

/// The NAL units of a payload in the hub's form, 4-byte lengths before each. Empty ones are passed over;
/// it stops where a length does not fit.
pub fn units(payload: &[u8]) -> Units<'_> {
    Units { rest: payload, size: 4 }
}

/// See [`units`].
#[derive(Clone, Debug)]
pub struct Units<'a> {
    rest: &'a [u8],
    size: usize,
}

impl<'a> Iterator for Units<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let (prefix, rest) = self.rest.split_at_checked(self.size)?;
            let len = prefix.iter().fold(0usize, |n, &b| (n << 8) | usize::from(b));
            let (unit, rest) = rest.split_at_checked(len)?;
            self.rest = rest;
            if !unit.is_empty() {
                return Some(unit);
            }
        }
    }
}

/// Bytes of the length fields that a source uses, as its record (avcC, hvcC) says; 4 for other codecs and for
/// records that [`VideoConfig`]'s constructors refuse.
pub fn source_nal_length_size(codec: VideoCodec, record: &[u8]) -> u8 {
    let at = match codec {
        VideoCodec::H264 => 4,
        VideoCodec::Hevc => hevc::LENGTH_SIZE_AT,
        VideoCodec::Av1 | VideoCodec::Vp8 | VideoCodec::Vp9 => return 4,
    };
    record.get(at).and_then(|&b| length_size("record", b).ok()).unwrap_or(4)
}

/// From a byte with lengthSizeMinusOne in its low bits; a length of 3 bytes is forbidden.
pub(crate) fn length_size(what: &'static str, byte: u8) -> Result<u8, CodecError> {
    match byte & 3 {
        2 => Err(CodecError::Invalid { what, field: "lengthSizeMinusOne", value: 2 }),
        n => Ok(n + 1),
    }
}

/// Brings an access unit with length fields of `from` bytes (1, 2 or 4) into the hub's form.
/// Copies nothing when they are 4 already.
///
/// # Errors
/// Truncated, when a length does not fit the payload; Invalid for another `from`.
pub fn to_four_byte(payload: Bytes, from: u8) -> Result<Bytes, CodecError> {
    const WHAT: &str = "video access unit";
    if !matches!(from, 1 | 2 | 4) {
        return Err(CodecError::Invalid { what: WHAT, field: "NAL length size", value: u64::from(from) });
    }
    let mut iter = Units { rest: &payload, size: usize::from(from) };
    let (count, bytes) = iter.by_ref().fold((0, 0), |(n, sum), nal| (n + 1, sum + nal.len()));
    if !iter.rest.is_empty() {
        return Err(CodecError::Truncated { what: WHAT });
    }
    if from == 4 {
        return Ok(payload);
    }
    let mut out = BytesMut::with_capacity(4 * count + bytes);
    for nal in (Units { rest: &payload, size: usize::from(from) }) {
        put_unit(&mut out, nal);
    }
    Ok(out.freeze())
}

/// Brings an access unit in Annex B form (start codes) into the hub's form.
pub fn from_annex_b(stream: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(stream.len() + 16);
    for nal in annex_b_units(stream) {
        put_unit(&mut out, nal);
    }
    out.freeze()
}

fn put_unit(out: &mut BytesMut, nal: &[u8]) {
    // A payload of 4 GiB does not get past any protocol's limits.
    out.put_u32(u32::try_from(nal.len()).unwrap_or(u32::MAX));
    out.put_slice(nal);
}

/// The NAL units of a byte stream with start codes (ITU-T H.264, Annex B), without the zeros between them.
/// What is before the first start code is passed over.
pub fn annex_b_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = stream.windows(3).position(|w| w == [0, 0, 1]).map(|at| &stream[at + 3..]);
    std::iter::from_fn(move || {
        loop {
            let data = rest?;
            let end = data.windows(3).position(|w| w == [0, 0, 1]);
            rest = end.map(|e| &data[e + 3..]);
            let unit = &data[..end.unwrap_or(data.len())];
            // A NAL unit never ends in a zero: these are the next start code's, or padding.
            let len = unit.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
            if len > 0 {
                return Some(&unit[..len]);
            }
        }
    })
}

/// Splits a unit with a 2-byte length off, as avcC and hvcC hold their parameter sets.
pub(crate) fn take_u16_unit<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [high, low, tail @ ..] = *rest else { return None };
    let (unit, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
    *rest = tail;
    Some(unit)
}

/// Writes access units of one configuration in Annex B form for MPEG-TS: an access unit delimiter first (HLS
/// asks for it), and before a random access picture the parameter sets, unless the access unit has its own.
#[derive(Clone, Debug)]
pub struct AnnexB {
    codec: VideoCodec,
    parameter_sets: Vec<u8>,
}

impl AnnexB {
    /// Takes the parameter sets from the record; `None` for codecs that have no NAL units.
    pub fn new(config: &VideoConfig) -> Option<Self> {
        let sets: Vec<&[u8]> = match config.codec {
            VideoCodec::H264 => {
                let record = h264::Record::parse(&config.record).ok()?;
                [record.sps, record.pps].concat()
            }
            VideoCodec::Hevc => {
                let record = hevc::Record::parse(&config.record).ok()?;
                [record.vps, record.sps, record.pps].concat()
            }
            VideoCodec::Av1 | VideoCodec::Vp8 | VideoCodec::Vp9 => return None,
        };
        let mut parameter_sets = Vec::new();
        for nal in sets {
            start_unit(&mut parameter_sets, nal);
        }
        Some(AnnexB { codec: config.codec, parameter_sets })
    }

    /// Appends one access unit, given in the hub's form.
    pub fn write(&self, payload: &[u8], out: &mut Vec<u8>) {
        let hevc = self.codec == VideoCodec::Hevc;
        let kind = |nal: &[u8]| if hevc { hevc_type(nal) } else { h264_type(nal) };
        let (aud, sps) = if hevc { (HEVC_AUD, HEVC_SPS) } else { (H264_AUD, H264_SPS) };
        // Any picture type may follow: primary_pic_type 7, pic_type 2.
        let delimiter: &[u8] = if hevc { &[HEVC_AUD << 1, 1, 0x50] } else { &[H264_AUD, 0xf0] };

        out.reserve(payload.len() + self.parameter_sets.len() + 16);
        start_unit(out, delimiter);
        if is_keyframe(self.codec, payload) && !units(payload).any(|nal| kind(nal) == sps) {
            out.extend_from_slice(&self.parameter_sets);
        }
        for nal in units(payload).filter(|nal| kind(nal) != aud) {
            start_unit(out, nal);
        }
    }
}

fn start_unit(out: &mut Vec<u8>, nal: &[u8]) {
    out.extend_from_slice(&START_CODE);
    out.extend_from_slice(nal);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPS: &[u8] = &[0x67, 0x64, 0, 0x28];
    const PPS: &[u8] = &[0x68, 0xef];
    const AVCC: &[u8] = &[1, 0x64, 0, 0x28, 0xff, 0xe1, 0, 4, 0x67, 0x64, 0, 0x28, 1, 0, 2, 0x68, 0xef];

    fn config(codec: VideoCodec, record: &'static [u8]) -> VideoConfig {
        VideoConfig {
            codec,
            record: Bytes::from_static(record),
            width: 0,
            height: 0,
            codec_string: String::new(),
        }
    }

    fn hub(nals: &[&[u8]]) -> Bytes {
        let mut out = BytesMut::new();
        nals.iter().for_each(|nal| put_unit(&mut out, nal));
        out.freeze()
    }

    fn written(b: &AnnexB, nals: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        b.write(&hub(nals), &mut out);
        assert_eq!(out[..4], START_CODE);
        annex_b_units(&out).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn lengths_of_each_size() {
        let one = Bytes::from_static(&[2, 0x65, 1, 0, 1, 0x06]);
        let two = Bytes::from_static(&[0, 2, 0x65, 1, 0, 0, 0, 1, 0x06]);
        let four = Bytes::from_static(&[0, 0, 0, 2, 0x65, 1, 0, 0, 0, 1, 0x06]);
        assert_eq!(to_four_byte(one, 1), Ok(four.clone()));
        assert_eq!(to_four_byte(two, 2), Ok(four.clone()));
        let same = to_four_byte(four.clone(), 4).expect("valid");
        assert_eq!(same.as_ptr(), four.as_ptr(), "not copied");
        assert!(matches!(to_four_byte(four.clone(), 3), Err(CodecError::Invalid { .. })));
        assert!(matches!(to_four_byte(four.slice(..10), 4), Err(CodecError::Truncated { .. })));
        assert!(matches!(to_four_byte(four.slice(..7), 4), Err(CodecError::Truncated { .. })));
        assert_eq!(units(&four[..10]).count(), 1);
    }

    #[test]
    fn length_size_of_records() {
        assert_eq!(source_nal_length_size(VideoCodec::H264, AVCC), 4);
        assert_eq!(source_nal_length_size(VideoCodec::H264, &[1, 0x64, 0, 0x28, 0xfd]), 2);
        assert_eq!(source_nal_length_size(VideoCodec::Hevc, &[0; 23]), 1);
        assert_eq!(source_nal_length_size(VideoCodec::Hevc, &[]), 4);
        assert_eq!(source_nal_length_size(VideoCodec::Av1, &[0; 23]), 4);
    }

    #[test]
    fn annex_b_in() {
        let stream =
            [9, 9, 0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 0, 1, 0, 0, 1, 0x65, 0, 0, 3, 1, 0, 0];
        let nals: Vec<_> = annex_b_units(&stream).collect();
        assert_eq!(nals, [&[0x67, 1][..], &[0x68, 2], &[0x65, 0, 0, 3, 1]]);
        assert_eq!(from_annex_b(&stream), hub(&nals));
        assert_eq!(from_annex_b(&[1, 2, 3]), Bytes::new());
    }

    #[test]
    fn annex_b_out_has_delimiter_and_parameter_sets() {
        let b = AnnexB::new(&config(VideoCodec::H264, AVCC)).expect("H.264");
        let aud: &[u8] = &[9, 0xf0];
        assert_eq!(written(&b, &[&[0x06, 5], &[0x65, 1]]), [aud, SPS, PPS, &[0x06, 5], &[0x65, 1]]);
        assert_eq!(written(&b, &[&[0x41, 1]]), [aud, &[0x41, 1]]);
        // Its own parameter sets win, its own delimiter is not doubled.
        assert_eq!(
            written(&b, &[&[9, 0x10], &[0x67, 7], &[0x68, 8], &[0x65, 1]]),
            [aud, &[0x67, 7], &[0x68, 8], &[0x65, 1]]
        );
        assert!(AnnexB::new(&config(VideoCodec::Vp9, &[])).is_none());
    }

    #[test]
    fn keyframes() {
        let is = |codec, nals: &[&[u8]]| is_keyframe(codec, &hub(nals));
        assert!(is(VideoCodec::H264, &[&[0x06, 5], &[0x65, 1]]));
        assert!(!is(VideoCodec::H264, &[&[0x06, 6], &[0x41, 1]]), "a recovery point is none");
        for (kind, key) in
            [(1, false), (15, false), (16, true), (19, true), (20, true), (21, true), (32, false)]
        {
            assert_eq!(is(VideoCodec::Hevc, &[&[kind << 1, 1, 0]]), key, "HEVC type {kind}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>, size in 0u8..6) {
            let _ = to_four_byte(Bytes::from(data.clone()), size);
            for codec in [VideoCodec::H264, VideoCodec::Hevc] {
                let _ = is_keyframe(codec, &data);
                let _ = source_nal_length_size(codec, &data);
            }
            AnnexB { codec: VideoCodec::H264, parameter_sets: Vec::new() }.write(&data, &mut Vec::new());
            prop_assert!(to_four_byte(from_annex_b(&data), 4).is_ok());
        }

        /// Bytes 1 to 255 cannot hold a start code, so the units survive both ways.
        #[test]
        fn both_forms(nals in proptest::collection::vec(proptest::collection::vec(1u8.., 1..40), 0..10)) {
            let mut stream = Vec::new();
            nals.iter().for_each(|nal| start_unit(&mut stream, nal));
            let payload = from_annex_b(&stream);
            prop_assert_eq!(units(&payload).map(<[u8]>::to_vec).collect::<Vec<_>>(), nals.clone());
            let short: Vec<u8> = nals.iter().flat_map(|n| std::iter::once(n.len() as u8).chain(n.iter().copied())).collect();
            prop_assert_eq!(to_four_byte(Bytes::from(short), 1), Ok(payload));
        }
    }
}
