//! The bodies of audio and video messages: FLV tags of the Video File Format Specification 10.1, HEVC by codec
//! id 12 as many encoders send it, and enhanced RTMP v1 and v2 (FourCC codecs).

use bytes::{Buf, BufMut, Bytes};
use sluice_media::{AudioCodec, AudioConfig, VideoCodec, VideoConfig};

use crate::Error;

/// The FourCCs of enhanced RTMP that Sluice carries, video first.
pub const FOURCC_LIST: [&str; 8] = ["avc1", "hvc1", "av01", "vp09", "vp08", "mp4a", "Opus", ".mp3"];

/// A video message, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Video {
    /// A sequence header: the codec's configuration record as it stands in MP4 files.
    Config {
        /// The codec.
        codec: VideoCodec,
        /// avcC, hvcC, av1C, or vpcC without its version and flags.
        record: Bytes,
    },
    /// One picture.
    Frame {
        /// The codec.
        codec: VideoCodec,
        /// Whether decoding can start here.
        keyframe: bool,
        /// How much later than decoded it is shown, in microseconds.
        composition: i64,
        /// The coded picture, NAL units with length prefixes for H.264 and HEVC.
        payload: Bytes,
    },
    /// The sequence ends; another configuration may follow.
    End,
    /// Nothing that matters here: a command frame, HDR metadata, an empty message.
    Nothing,
}

/// An audio message, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audio {
    /// A sequence header.
    Config {
        /// The codec.
        codec: AudioCodec,
        /// AudioSpecificConfig for AAC, the whole `OpusHead` for Opus, empty for MP3.
        record: Bytes,
    },
    /// One access unit.
    Frame {
        /// The codec.
        codec: AudioCodec,
        /// The coded sound.
        payload: Bytes,
    },
    /// The sequence ends.
    End,
    /// Nothing that matters here: a channel layout, an empty message.
    Nothing,
}

mod packet {
    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    pub(super) const SEQUENCE_END: u8 = 2;
    pub(super) const CODED_FRAMES_X: u8 = 3;
    pub(super) const METADATA: u8 = 4;
    pub(super) const VIDEO_MULTITRACK: u8 = 6;
    pub(super) const AUDIO_MULTITRACK: u8 = 5;
    pub(super) const MOD_EX: u8 = 7;
}

const EX_VIDEO: u8 = 0x80;
const EX_AUDIO: u8 = 9;
const COMMAND_FRAME: u8 = 5;

/// Whether a video message begins something that can be decoded without what came before: a keyframe, or the
/// configuration in front of one.
pub fn begins_anew(message: &[u8]) -> bool {
    message.first().is_some_and(|first| first & 0x70 == 0x10)
}

/// Takes a video message apart. The payload shares its memory.
///
/// # Errors
/// When it is cut short, of a codec that is not carried, or has several tracks.
pub fn parse_video(mut data: Bytes) -> Result<Video, Error> {
    let Some(first) = data.first().copied() else { return Ok(Video::Nothing) };
    data.advance(1);
    if first & EX_VIDEO != 0 {
        return enhanced_video(first, data);
    }
    let codec = match first & 0x0f {
        7 => VideoCodec::H264,
        12 => VideoCodec::Hevc,
        _ if first >> 4 == COMMAND_FRAME => return Ok(Video::Nothing),
        other => return Err(Error::Codec(legacy_video_name(other))),
    };
    if first >> 4 == COMMAND_FRAME {
        return Ok(Video::Nothing);
    }
    let header: [u8; 4] = *data.first_chunk().ok_or(Error::Truncated("a video message"))?;
    data.advance(4);
    Ok(match header[0] {
        0 => Video::Config { codec, record: data },
        1 if data.is_empty() => Video::Nothing,
        1 => Video::Frame {
            codec,
            keyframe: first >> 4 == 1,
            composition: i64::from(signed24([header[1], header[2], header[3]])) * 1000,
            payload: data,
        },
        2 => Video::End,
        _ => Video::Nothing,
    })
}

fn enhanced_video(first: u8, mut data: Bytes) -> Result<Video, Error> {
    let short = || Error::Truncated("an enhanced video message");
    let frame_type = first >> 4 & 7;
    let (mut kind, nanos) = modifiers(first & 0x0f, &mut data).ok_or_else(short)?;
    if frame_type == COMMAND_FRAME && kind != packet::METADATA {
        return Ok(Video::Nothing);
    }
    if kind == packet::VIDEO_MULTITRACK {
        kind = one_track(&mut data)?;
    }
    let fourcc = take_fourcc(&mut data).ok_or_else(short)?;
    if kind == packet::VIDEO_MULTITRACK {
        return Err(Error::Multitrack);
    }
    let codec = match &fourcc {
        b"avc1" => VideoCodec::H264,
        b"hvc1" => VideoCodec::Hevc,
        b"av01" => VideoCodec::Av1,
        b"vp09" => VideoCodec::Vp9,
        b"vp08" => VideoCodec::Vp8,
        other => return Err(Error::Codec(name_of(other))),
    };
    let mut composition = i64::from(nanos) / 1000;
    Ok(match kind {
        packet::SEQUENCE_START => Video::Config { codec, record: without_full_box(codec, data) },
        packet::CODED_FRAMES | packet::CODED_FRAMES_X => {
            if kind == packet::CODED_FRAMES && matches!(codec, VideoCodec::H264 | VideoCodec::Hevc) {
                let time: [u8; 3] = *data.first_chunk().ok_or_else(short)?;
                data.advance(3);
                composition += i64::from(signed24(time)) * 1000;
            }
            if data.is_empty() {
                return Ok(Video::Nothing);
            }
            Video::Frame { codec, keyframe: frame_type == 1, composition, payload: data }
        }
        packet::SEQUENCE_END => Video::End,
        _ => Video::Nothing,
    })
}

/// Takes an audio message apart. The payload shares its memory.
///
/// # Errors
/// As [`parse_video`].
pub fn parse_audio(mut data: Bytes) -> Result<Audio, Error> {
    let Some(first) = data.first().copied() else { return Ok(Audio::Nothing) };
    data.advance(1);
    match first >> 4 {
        EX_AUDIO => enhanced_audio(first, data),
        10 => {
            let Some(kind) = data.first().copied() else { return Ok(Audio::Nothing) };
            data.advance(1);
            Ok(match kind {
                0 => Audio::Config { codec: AudioCodec::Aac, record: data },
                1 if !data.is_empty() => Audio::Frame { codec: AudioCodec::Aac, payload: data },
                _ => Audio::Nothing,
            })
        }
        2 | 14 if data.is_empty() => Ok(Audio::Nothing),
        2 | 14 => Ok(Audio::Frame { codec: AudioCodec::Mp3, payload: data }),
        other => Err(Error::Codec(legacy_audio_name(other))),
    }
}

fn enhanced_audio(first: u8, mut data: Bytes) -> Result<Audio, Error> {
    let short = || Error::Truncated("an enhanced audio message");
    let (mut kind, _) = modifiers(first & 0x0f, &mut data).ok_or_else(short)?;
    if kind == packet::AUDIO_MULTITRACK {
        kind = one_track(&mut data)?;
    }
    let fourcc = take_fourcc(&mut data).ok_or_else(short)?;
    let codec = match &fourcc {
        b"mp4a" => AudioCodec::Aac,
        b"Opus" => AudioCodec::Opus,
        b".mp3" => AudioCodec::Mp3,
        other => return Err(Error::Codec(name_of(other))),
    };
    Ok(match kind {
        packet::SEQUENCE_START => Audio::Config { codec, record: data },
        packet::CODED_FRAMES if !data.is_empty() => Audio::Frame { codec, payload: data },
        packet::SEQUENCE_END => Audio::End,
        packet::AUDIO_MULTITRACK => return Err(Error::Multitrack),
        _ => Audio::Nothing,
    })
}

/// Reads over ModEx packets: the packet type that follows them and the nanoseconds that they add to the
/// presentation time. Nothing when they are cut short.
fn modifiers(mut kind: u8, data: &mut Bytes) -> Option<(u8, u32)> {
    const TIMESTAMP_OFFSET_NANO: u8 = 0;
    let mut nanos = 0;
    while kind == packet::MOD_EX {
        let mut size = usize::from(*data.first()?) + 1;
        data.advance(1);
        if size == 256 {
            size = usize::from(u16::from_be_bytes(*data.first_chunk()?)) + 1;
            data.advance(2);
        }
        if data.len() < size + 1 {
            return None;
        }
        let value = data.split_to(size);
        let next = data[0];
        data.advance(1);
        if next >> 4 == TIMESTAMP_OFFSET_NANO
            && let Some([a, b, c]) = value.first_chunk()
        {
            nanos = u32::from_be_bytes([0, *a, *b, *c]).min(999_999);
        }
        kind = next & 0x0f;
    }
    Some((kind, nanos))
}

/// Reads the header of a multitrack packet that has one track: the packet type inside. The track's number
/// stands behind the FourCC and is taken away together with it.
fn one_track(data: &mut Bytes) -> Result<u8, Error> {
    const ONE_TRACK: u8 = 0;
    let short = Error::Truncated("a multitrack message");
    let head: [u8; 6] = *data.first_chunk().ok_or(short)?;
    let (kind, track) = (head[0] & 0x0f, head[5]);
    if head[0] >> 4 != ONE_TRACK || track != 0 || kind == packet::MOD_EX {
        return Err(Error::Multitrack);
    }
    // What is left looks as without multitrack: the FourCC, then the body.
    let body = data.slice(6..);
    let mut joined = bytes::BytesMut::with_capacity(4 + body.len());
    joined.put_slice(&head[1..5]);
    joined.put_slice(&body);
    *data = joined.freeze();
    Ok(kind)
}

fn take_fourcc(data: &mut Bytes) -> Option<[u8; 4]> {
    let fourcc = *data.first_chunk()?;
    data.advance(4);
    Some(fourcc)
}

/// Some encoders put the whole `vpcC` box body, with its version and flags, where only the record belongs.
fn without_full_box(codec: VideoCodec, record: Bytes) -> Bytes {
    let vp = matches!(codec, VideoCodec::Vp8 | VideoCodec::Vp9);
    if vp && record.len() >= 12 && record.starts_with(&[1, 0, 0, 0]) { record.slice(4..) } else { record }
}

fn signed24([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

fn name_of(fourcc: &[u8; 4]) -> String {
    fourcc.escape_ascii().to_string()
}

fn legacy_video_name(id: u8) -> String {
    match id {
        2 => "Sorenson H.263".into(),
        3 | 6 => "Screen Video".into(),
        4 | 5 => "VP6".into(),
        other => format!("video codec id {other}"),
    }
}

fn legacy_audio_name(id: u8) -> String {
    match id {
        0 | 3 => "PCM".into(),
        1 => "ADPCM".into(),
        4..=6 => "Nellymoser".into(),
        7 => "G.711 A-law".into(),
        8 => "G.711 mu-law".into(),
        11 => "Speex".into(),
        other => format!("audio format {other}"),
    }
}

/// The few bytes that stand before the payload in a message body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagHeader {
    bytes: [u8; 8],
    length: u8,
}

impl TagHeader {
    fn new(parts: &[&[u8]]) -> Self {
        let mut header = TagHeader { bytes: [0; 8], length: 0 };
        for byte in parts.iter().copied().flatten() {
            header.bytes[usize::from(header.length)] = *byte;
            header.length += 1;
        }
        header
    }
}

impl std::ops::Deref for TagHeader {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

fn video_fourcc(codec: VideoCodec) -> &'static [u8; 4] {
    match codec {
        VideoCodec::H264 => b"avc1",
        VideoCodec::Hevc => b"hvc1",
        VideoCodec::Av1 => b"av01",
        VideoCodec::Vp9 => b"vp09",
        VideoCodec::Vp8 => b"vp08",
    }
}

/// What stands before the payload of a picture: the classic form for H.264, enhanced RTMP for the others.
/// `composition` is in milliseconds.
pub fn video_header(codec: VideoCodec, keyframe: bool, composition: i32) -> TagHeader {
    let frame_type: u8 = if keyframe { 1 } else { 2 };
    let [_, a, b, c] = composition.to_be_bytes();
    match codec {
        VideoCodec::H264 => TagHeader::new(&[&[frame_type << 4 | 7, 1, a, b, c]]),
        VideoCodec::Hevc if composition != 0 => TagHeader::new(&[
            &[EX_VIDEO | frame_type << 4 | packet::CODED_FRAMES],
            video_fourcc(codec),
            &[a, b, c],
        ]),
        VideoCodec::Hevc => {
            TagHeader::new(&[&[EX_VIDEO | frame_type << 4 | packet::CODED_FRAMES_X], video_fourcc(codec)])
        }
        _ => TagHeader::new(&[&[EX_VIDEO | frame_type << 4 | packet::CODED_FRAMES], video_fourcc(codec)]),
    }
}

/// The sequence header of a video track: a whole message body.
pub fn video_config(config: &VideoConfig) -> Bytes {
    let mut body = Vec::with_capacity(16 + config.record.len());
    match config.codec {
        VideoCodec::H264 => body.extend_from_slice(&[0x17, 0, 0, 0, 0]),
        codec => {
            body.push(EX_VIDEO | 1 << 4 | packet::SEQUENCE_START);
            body.extend_from_slice(video_fourcc(codec));
        }
    }
    if config.codec == VideoCodec::Vp8 {
        // VP8 tells everything in its frames: profile 0, level unknown, 8 bits 4:2:0, BT.709.
        body.extend_from_slice(&[0, 0, 0x82, 1, 1, 1, 0, 0]);
    } else {
        body.extend_from_slice(&config.record);
    }
    body.into()
}

/// What stands before the payload of an audio access unit.
pub fn audio_header(config: &AudioConfig) -> TagHeader {
    match config.codec {
        // 44 kHz, 16 bits, stereo, whatever it really is: AAC's own configuration counts.
        AudioCodec::Aac => TagHeader::new(&[&[0xaf, 1]]),
        AudioCodec::Mp3 => {
            let rate: u8 = match config.sample_rate {
                0..=5512 => 0,
                5513..=11_025 => 1,
                11_026..=22_050 => 2,
                _ => 3,
            };
            TagHeader::new(&[&[2 << 4 | rate << 2 | 2 | u8::from(config.channels > 1)]])
        }
        AudioCodec::Opus => TagHeader::new(&[&[EX_AUDIO << 4 | packet::CODED_FRAMES], b"Opus"]),
    }
}

/// The sequence header of an audio track, a whole message body; MP3 has none.
pub fn audio_config(config: &AudioConfig) -> Option<Bytes> {
    let mut body = Vec::with_capacity(32 + config.record.len());
    match config.codec {
        AudioCodec::Aac => {
            body.extend_from_slice(&[0xaf, 0]);
            body.extend_from_slice(&config.record);
        }
        AudioCodec::Mp3 => return None,
        AudioCodec::Opus => {
            body.push(EX_AUDIO << 4 | packet::SEQUENCE_START);
            body.extend_from_slice(b"Opus");
            body.extend_from_slice(&config.to_opus_head()?);
        }
    }
    Some(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn video(data: &[u8]) -> Result<Video, Error> {
        parse_video(Bytes::copy_from_slice(data))
    }

    fn audio(data: &[u8]) -> Result<Audio, Error> {
        parse_audio(Bytes::copy_from_slice(data))
    }

    fn frame(codec: VideoCodec, keyframe: bool, composition: i64, payload: &'static [u8]) -> Video {
        Video::Frame { codec, keyframe, composition, payload: Bytes::from_static(payload) }
    }

    #[test]
    fn classic_video() {
        let record = Bytes::from_static(b"avcC");
        assert_eq!(video(b"\x17\0\0\0\0avcC").unwrap(), Video::Config { codec: VideoCodec::H264, record });
        let minus_40 = b"\x27\x01\xff\xff\xd8nal";
        assert_eq!(video(minus_40).unwrap(), frame(VideoCodec::H264, false, -40_000, b"nal"));
        assert_eq!(video(b"\x1c\x01\0\0\x50nal").unwrap(), frame(VideoCodec::Hevc, true, 80_000, b"nal"));
        assert_eq!(video(b"\x17\x02\0\0\0").unwrap(), Video::End);
        assert_eq!(video(b"\x57\0").unwrap(), Video::Nothing);
        assert_eq!(video(b"").unwrap(), Video::Nothing);
        assert!(matches!(video(b"\x17\x01"), Err(Error::Truncated(_))));
        assert!(matches!(video(b"\x14abcdef"), Err(Error::Codec(name)) if name == "VP6"));
    }

    #[test]
    fn enhanced_video_messages() {
        assert_eq!(video(b"\x91hvc1\0\0\x28nal").unwrap(), frame(VideoCodec::Hevc, true, 40_000, b"nal"));
        assert_eq!(video(b"\xa3hvc1nal").unwrap(), frame(VideoCodec::Hevc, false, 0, b"nal"));
        assert_eq!(video(b"\x91av01obu").unwrap(), frame(VideoCodec::Av1, true, 0, b"obu"));
        let vpcc = b"\x90vp09\x01\0\0\0\0\x1f\x82\x01\x01\x01\0\0";
        let record = Bytes::from_static(b"\0\x1f\x82\x01\x01\x01\0\0");
        assert_eq!(video(vpcc).unwrap(), Video::Config { codec: VideoCodec::Vp9, record });
        assert_eq!(video(b"\x92avc1").unwrap(), Video::End);
        assert_eq!(video(b"\xd4hvc1meta").unwrap(), Video::Nothing);
        assert!(matches!(video(b"\x90vvc1x"), Err(Error::Codec(name)) if name == "vvc1"));
    }

    #[test]
    fn modifiers_and_multitrack() {
        // ModEx: 3 bytes of nanoseconds (500,000), then CodedFramesX.
        let nano = b"\x97\x02\x07\xa1\x20\x03hvc1nal";
        assert_eq!(video(nano).unwrap(), frame(VideoCodec::Hevc, true, 500, b"nal"));
        // An unknown ModEx of 256 bytes.
        let mut long = b"\x97\xff\x00\xff".to_vec();
        long.extend_from_slice(&[0; 256]);
        long.extend_from_slice(b"\x13hvc1nal");
        assert_eq!(video(&long).unwrap(), frame(VideoCodec::Hevc, true, 0, b"nal"));
        assert_eq!(video(b"\x96\x01avc1\0\0\0\0nal").unwrap(), frame(VideoCodec::H264, true, 0, b"nal"));
        assert!(matches!(video(b"\x96\x01avc1\x01\0\0\0nal"), Err(Error::Multitrack)));
        assert!(matches!(video(b"\x96\x11avc1\0\0\0\x04\0\0\0n"), Err(Error::Multitrack)));
        assert!(matches!(audio(b"\x95\x11Opus\0\0\0\x04\0\0\0n"), Err(Error::Multitrack)));
    }

    #[test]
    fn audio_messages() {
        let aac = |payload| Audio::Frame { codec: AudioCodec::Aac, payload: Bytes::from_static(payload) };
        assert_eq!(audio(b"\xaf\x01unit").unwrap(), aac(b"unit"));
        assert_eq!(audio(b"\x91mp4aunit").unwrap(), aac(b"unit"));
        let record = Bytes::from_static(b"\x12\x10");
        assert_eq!(audio(b"\xaf\0\x12\x10").unwrap(), Audio::Config { codec: AudioCodec::Aac, record });
        assert!(matches!(audio(b"\x2fdata").unwrap(), Audio::Frame { codec: AudioCodec::Mp3, .. }));
        assert!(matches!(audio(b"\x90OpusOpusHead").unwrap(), Audio::Config { codec: AudioCodec::Opus, .. }));
        assert!(matches!(audio(b"\x94Opus\0").unwrap(), Audio::Nothing));
        assert!(matches!(audio(b"\xb2x"), Err(Error::Codec(name)) if name == "Speex"));
        assert!(matches!(audio(b"\x90fLaCx"), Err(Error::Codec(name)) if name == "fLaC"));
    }

    #[test]
    fn what_is_written_is_read() {
        use VideoCodec::{Av1, H264, Hevc, Vp8, Vp9};
        for (codec, composition) in
            [(H264, 66), (H264, -1), (Hevc, 0), (Hevc, 33), (Av1, 0), (Vp9, 0), (Vp8, 0)]
        {
            for keyframe in [true, false] {
                let mut body = video_header(codec, keyframe, composition).to_vec();
                body.extend_from_slice(b"payload");
                assert_eq!(
                    video(&body).unwrap(),
                    frame(codec, keyframe, i64::from(composition) * 1000, b"payload")
                );
            }
        }
        let opus = AudioConfig {
            codec: AudioCodec::Opus,
            record: Bytes::from_static(&[0, 2, 0x01, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]),
            sample_rate: 48_000,
            channels: 2,
            codec_string: "opus".into(),
        };
        let Audio::Config { record, .. } = parse_audio(audio_config(&opus).unwrap()).unwrap() else {
            panic!("not a configuration")
        };
        assert_eq!(&record[..], b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0");
    }

    proptest! {
        #[test]
        fn anything_is_survived(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = video(&data);
            let _ = audio(&data);
            let mut enhanced = vec![0x80 | data.first().copied().unwrap_or(0)];
            enhanced.extend_from_slice(&data);
            let _ = video(&enhanced);
            enhanced[0] = 0x90 | (enhanced[0] & 0x0f);
            let _ = audio(&enhanced);
        }
    }
}
