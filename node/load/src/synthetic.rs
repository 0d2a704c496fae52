//! A stream that needs no file: a grey H.264 picture, 320x192 at 30 frames/s with a keyframe each second, padded to
//! a bit rate with filler data, and silence in AAC. Any decoder plays it.

use bytes::Bytes;

use crate::flv::{Kind, Tag};
use crate::source::Source;

const MACROBLOCKS: (u32, u32) = (20, 12);
const FRAMES_A_SECOND: u32 = 30;
/// In this time there is a whole number of pictures and of AAC frames.
const SECONDS: u32 = 8;
/// 1024 samples at 48 kHz.
const AUDIO_FRAMES: u32 = SECONDS * 48_000 / 1024;

/// The stream, with about so many kilobits a second.
pub(crate) fn source(kbps: u32) -> Source {
    let mut source = Source::from_tags(tags(kbps)).expect("what is written here can be read");
    let (width, height) = MACROBLOCKS;
    source.metadata = [
        ("width", f64::from(width * 16)),
        ("height", f64::from(height * 16)),
        ("framerate", f64::from(FRAMES_A_SECOND)),
        ("videocodecid", 7.0),
        ("audiocodecid", 10.0),
        ("audiosamplerate", 48_000.0),
        ("stereo", 0.0),
    ]
    .map(|(name, value)| (name.to_owned(), value.into()))
    .into();
    source
}

fn tags(kbps: u32) -> Vec<Tag> {
    let mut tags = vec![
        Tag { kind: Kind::Video, timestamp: 0, body: [&[0x17, 0, 0, 0, 0][..], &avcc()].concat().into() },
        Tag { kind: Kind::Audio, timestamp: 0, body: Bytes::from_static(&[0xaf, 0, 0x11, 0x88]) },
    ];
    let wanted = (kbps * 1000 / 8 / FRAMES_A_SECOND) as usize;
    for i in 0..SECONDS * FRAMES_A_SECOND {
        let number = i % FRAMES_A_SECOND;
        let picture = picture(number);
        let mut body = vec![if number == 0 { 0x17 } else { 0x27 }, 1, 0, 0, 0];
        push(&mut body, &picture);
        if let Some(padding) = wanted.checked_sub(body.len() + 6) {
            let filler = [&[12][..], &vec![0xff; padding], &[0x80]].concat();
            push(&mut body, &filler);
        }
        let timestamp = (i * 1000 + FRAMES_A_SECOND / 2) / FRAMES_A_SECOND;
        tags.push(Tag { kind: Kind::Video, timestamp, body: body.into() });
    }
    let silence = Bytes::from([&[0xaf, 1][..], &silence()].concat());
    let audio = |i| Tag { kind: Kind::Audio, timestamp: i * 64 / 3, body: silence.clone() };
    tags.extend((0..AUDIO_FRAMES).map(audio));
    tags
}

fn push(body: &mut Vec<u8>, nal: &[u8]) {
    body.extend_from_slice(&(nal.len() as u32).to_be_bytes());
    body.extend_from_slice(nal);
}

/// ISO/IEC 14496-15, 5.3.3.1.
fn avcc() -> Vec<u8> {
    let (sps, pps) = (sps(), pps());
    let mut out = vec![1, sps[1], sps[2], sps[3], 0xff, 0xe1];
    for (count, nal) in [(None, sps), (Some(1), pps)] {
        out.extend(count);
        out.extend_from_slice(&(nal.len() as u16).to_be_bytes());
        out.extend_from_slice(&nal);
    }
    out
}

/// H.264, 7.3.2.1: constrained baseline, level 3.1.
fn sps() -> Vec<u8> {
    let mut w = Bits::nal(&[0x67, 66, 0xc0, 31]);
    w.ue(0); // seq_parameter_set_id
    w.ue(4); // log2_max_frame_num - 4
    w.ue(2); // pic_order_cnt_type: output order is decoding order
    w.ue(1); // max_num_ref_frames
    w.put(1, 0);
    w.ue(MACROBLOCKS.0 - 1);
    w.ue(MACROBLOCKS.1 - 1);
    w.put(4, 0b1100); // frame_mbs_only, direct_8x8_inference, no cropping, no VUI
    w.end()
}

/// H.264, 7.3.2.2: CAVLC, one slice group, deblocking can be switched off.
fn pps() -> Vec<u8> {
    let mut w = Bits::nal(&[0x68]);
    w.ue(0);
    w.ue(0);
    w.put(2, 0);
    (0..3).for_each(|_| w.ue(0));
    w.put(3, 0);
    (0..3).for_each(|_| w.ue(0)); // initial QPs: signed zeros are coded the same
    w.put(3, 0b100);
    w.end()
}

/// H.264, 7.3.3: the first of a second is grey by itself, the others repeat it.
fn picture(number: u32) -> Vec<u8> {
    let key = number == 0;
    let mut w = Bits::nal(&[if key { 0x65 } else { 0x41 }]);
    w.ue(0);
    w.ue(if key { 7 } else { 5 }); // slice_type: all slices I, or P
    w.ue(0);
    w.put(8, number); // frame_num
    if key {
        w.ue(0); // idr_pic_id
    }
    // I: keep no pictures; P: references as they are. The last bit is for both: sliding window marking.
    w.put(if key { 2 } else { 3 }, 0);
    w.ue(0); // slice_qp_delta
    w.ue(1); // no deblocking
    let all = MACROBLOCKS.0 * MACROBLOCKS.1;
    if key {
        for _ in 0..all {
            w.ue(3); // I_16x16 with DC prediction and nothing coded: the neighbour's grey, or mid-grey
            w.put(3, 0b111); // chroma DC prediction, no change of QP, no coefficients
        }
    } else {
        w.ue(all); // mb_skip_run
    }
    w.end()
}

/// ISO/IEC 14496-3, 4.4.2.1: a single channel element without any scale factor band, and the end.
fn silence() -> Vec<u8> {
    let mut w = Bits::default();
    w.put(15, 0); // element, tag, global_gain
    w.put(11, 0); // long window, max_sfb 0, no prediction
    w.put(3, 0); // no pulses, no TNS, no gain control
    w.put(3, 7);
    w.bytes
}

/// Writes bits, most significant first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn nal(start: &[u8]) -> Self {
        Bits { bytes: start.to_vec(), used: 0 }
    }

    fn put(&mut self, count: u32, value: u32) {
        for i in (0..count).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= (value >> i & 1) as u8 * (0x80 >> self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }

    /// An unsigned Exp-Golomb code.
    fn ue(&mut self, value: u32) {
        let bits = (value + 1).ilog2();
        self.put(bits, 0);
        self.put(bits + 1, value + 1);
    }

    /// Ends a NAL unit: the stop bit, and emulation prevention.
    fn end(mut self) -> Vec<u8> {
        self.put(1, 1);
        let mut out = Vec::with_capacity(self.bytes.len() + 8);
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros >= 2 && byte <= 3 {
                out.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            out.push(byte);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_media::{AudioConfig, VideoConfig};

    #[test]
    fn it_has_the_rate_that_was_asked_for() {
        for kbps in [100, 2000] {
            let source = source(kbps);
            let bytes: usize = source.body.iter().map(|m| m.body.len()).sum();
            let got = bytes as f64 * 8.0 / f64::from(SECONDS) / 1000.0;
            assert!((f64::from(kbps)..f64::from(kbps) * 1.1).contains(&got), "{got} kbit/s");
            assert_eq!(source.length, 8000);
            assert_eq!(source.stampable, Some(4));
            assert_eq!(source.body.len(), 240 + 375);
        }
    }

    #[test]
    fn its_configurations_are_sound() {
        let video = VideoConfig::h264(avcc().into()).unwrap();
        assert_eq!((video.width, video.height), (320, 192));
        let audio = AudioConfig::aac(Bytes::from_static(&[0x11, 0x88])).unwrap();
        assert_eq!((audio.sample_rate, audio.channels), (48_000, 1));
        assert_eq!(silence().len(), 4);
    }

    #[test]
    fn emulation_is_prevented() {
        let mut w = Bits::nal(&[0x41]);
        w.put(24, 1);
        assert_eq!(w.end(), [0x41, 0, 0, 3, 1, 0x80]);
    }
}
