//! Codec configuration records, and the payloads that come with them.

use bytes::Bytes;
use sluice_media::codec::{self, Adts, av1, nal};
use sluice_media::{AudioCodec, AudioConfig, CodecError, VideoCodec, VideoConfig};
use sluice_rtmp::flv;

const VIDEO: [VideoCodec; 5] =
    [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1, VideoCodec::Vp9, VideoCodec::Vp8];

pub(crate) fn avcc(data: &[u8]) {
    video(VideoCodec::H264, Bytes::copy_from_slice(data));
}

pub(crate) fn hvcc(data: &[u8]) {
    video(VideoCodec::Hevc, Bytes::copy_from_slice(data));
}

pub(crate) fn av1c(data: &[u8]) {
    video(VideoCodec::Av1, Bytes::copy_from_slice(data));
}

pub(crate) fn vpcc(data: &[u8]) {
    video(VideoCodec::Vp9, Bytes::copy_from_slice(data));
}

pub(crate) fn asc(data: &[u8]) {
    audio(AudioCodec::Aac, Bytes::copy_from_slice(data));
}

pub(crate) fn opus(data: &[u8]) {
    let _ = AudioConfig::opus(Bytes::copy_from_slice(data)).map(|c| check_audio(&c));
    audio(AudioCodec::Opus, Bytes::copy_from_slice(data));
    sound(AudioCodec::Opus, data);
}

pub(crate) fn mp3(data: &[u8]) {
    sound(AudioCodec::Mp3, data);
}

fn video_config(codec: VideoCodec, record: Bytes) -> Result<VideoConfig, CodecError> {
    match codec {
        VideoCodec::H264 => VideoConfig::h264(record),
        VideoCodec::Hevc => VideoConfig::hevc(record),
        VideoCodec::Av1 => VideoConfig::av1(record),
        VideoCodec::Vp9 => VideoConfig::vp9(record),
        VideoCodec::Vp8 => VideoConfig::vp8(640, 360),
    }
}

/// A video track's record, as a publisher sent it.
pub(crate) fn video(codec: VideoCodec, record: Bytes) {
    assert!(matches!(nal::source_nal_length_size(codec, &record), 1 | 2 | 4));
    let Ok(config) = video_config(codec, record) else { return };
    check_video(&config);
    assert_eq!(
        video_config(codec, config.record.clone()).as_ref(),
        Ok(&config),
        "read again it says something else"
    );
    for (width, height) in [(1, 1), (1920, 1080), (u32::MAX, u32::MAX)] {
        check_string(&config.clone().with_size(width, height).codec_string);
    }
    // As players of RTMP get it.
    match flv::parse_video(flv::video_config(&config)) {
        Ok(flv::Video::Config { codec: c, record }) => {
            assert_eq!(c, codec);
            assert!(
                record == config.record || codec == VideoCodec::Vp8,
                "RTMP's sequence header has another record"
            );
        }
        other => panic!("our own sequence header is {other:?}"),
    }
    if let Some(annex_b) = nal::AnnexB::new(&config) {
        assert!(matches!(codec, VideoCodec::H264 | VideoCodec::Hevc));
        let payload = [0, 0, 0, 3, 0x65, 1, 2, 0, 0, 0, 3, 0x26, 1, 2];
        let mut out = Vec::new();
        annex_b.write(&payload, &mut out);
        assert!(out.len() <= 2 * config.record.len() + 64, "Annex B grew beyond its parameter sets");
        let kept = if codec == VideoCodec::H264 { [0x65, 1, 2] } else { [0x26, 1, 2] };
        assert!(nal::annex_b_units(&out).any(|unit| unit == kept), "a NAL unit got lost");
    }
}

fn check_video(config: &VideoConfig) {
    assert!(
        config.width <= 16_384 && config.height <= 16_384,
        "{}x{} is believed",
        config.width,
        config.height
    );
    assert_eq!(config.width == 0, config.height == 0, "half a size");
    assert!(config.record.len() <= 64 << 10);
    check_string(&config.codec_string);
    if let Some(rate) = config.frame_rate() {
        assert!(rate.is_finite() && rate > 0.0, "{rate} frames a second");
    }
}

/// Codec strings go into playlists between quotation marks.
fn check_string(text: &str) {
    assert!(text.len() <= 64, "the codec string {text:?} is too long");
    assert!(
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.'),
        "the codec string {text:?} does not belong into a playlist"
    );
}

/// An audio track's record, as a publisher sent it; an `OpusHead` for Opus.
pub(crate) fn audio(codec: AudioCodec, record: Bytes) {
    let config = match codec {
        AudioCodec::Aac => AudioConfig::aac(record),
        AudioCodec::Opus => AudioConfig::opus_head(&record),
        AudioCodec::Mp3 => AudioConfig::mp3(&record),
    };
    let Ok(config) = config else { return };
    check_audio(&config);
}

fn check_audio(config: &AudioConfig) {
    assert!((1_000..=192_000).contains(&config.sample_rate), "{} Hz", config.sample_rate);
    assert!(config.channels > 0);
    check_string(&config.codec_string);
    let again = match config.codec {
        AudioCodec::Aac => AudioConfig::aac(config.record.clone()),
        AudioCodec::Opus => AudioConfig::opus(config.record.clone()),
        AudioCodec::Mp3 => Ok(config.clone()),
    };
    assert_eq!(again.as_ref(), Ok(config), "read again it says something else");
    if config.codec == AudioCodec::Opus {
        let head = config.to_opus_head().expect("every Opus track has a head");
        let back = AudioConfig::opus_head(&head).expect("our own head is read");
        assert_eq!(
            (back.channels, back.to_opus_head()),
            (config.channels, Some(head.slice(..back.record.len() + 8)))
        );
    }
    if config.codec == AudioCodec::Aac {
        assert!(config.samples_per_frame(&[]).is_some_and(|n| n > 0));
        if let Ok(adts) = Adts::new(&config.record) {
            let header = adts.header(100).expect("100 bytes fit");
            let length = u32::from_be_bytes([0, header[3] & 3, header[4], header[5]]) >> 5;
            assert_eq!((header[0], header[1] & 0xf6, length), (0xff, 0xf0, 107), "not an ADTS header");
            assert_eq!(adts.header(8192), None);
        }
    }
    if let Some(body) = flv::audio_config(config) {
        match flv::parse_audio(body) {
            Ok(flv::Audio::Config { codec, record }) => {
                assert_eq!(codec, config.codec);
                assert!(codec == AudioCodec::Opus || record == config.record);
            }
            other => panic!("our own sequence header is {other:?}"),
        }
    }
    let written = [&flv::audio_header(config)[..], b"x"].concat();
    let x = flv::Audio::Frame { codec: config.codec, payload: Bytes::from_static(b"x") };
    assert_eq!(flv::parse_audio(written.into()).ok(), Some(x));
}

/// An access unit of audio.
pub(crate) fn sound(codec: AudioCodec, payload: &[u8]) {
    match codec {
        AudioCodec::Mp3 => {
            let Ok(config) = AudioConfig::mp3(payload) else { return };
            check_audio(&config);
            assert!(config.samples_per_frame(payload).is_some_and(|n| matches!(n, 576 | 1152)));
        }
        AudioCodec::Opus => {
            let config =
                AudioConfig::opus_head(b"OpusHead\x01\x02\0\0\x80\xbb\0\0\0\0\0").expect("a plain head");
            if let Some(samples) = config.samples_per_frame(payload) {
                assert!((120..=5760).contains(&samples), "{samples} samples in a packet");
            }
        }
        AudioCodec::Aac => {}
    }
}

/// A picture as a publisher sent it.
pub(crate) fn picture(codec: VideoCodec, payload: &Bytes) {
    match codec {
        VideoCodec::H264 | VideoCodec::Hevc => {
            for from in 1..=4 {
                length_prefixed(codec, payload, from);
            }
        }
        VideoCodec::Av1 => av1(payload),
        VideoCodec::Vp8 | VideoCodec::Vp9 => vpx(payload),
    }
}

fn length_prefixed(codec: VideoCodec, payload: &Bytes, from: u8) {
    let Ok(unit) = nal::to_four_byte(payload.clone(), from) else { return };
    assert_eq!(nal::to_four_byte(unit.clone(), 4).as_ref(), Ok(&unit), "our own form is refused");
    let total: usize = nal::units(&unit).map(<[u8]>::len).sum();
    assert!(total <= payload.len());
    peek(codec, &unit);
}

/// What is told about a picture in the hub's form.
fn peek(codec: VideoCodec, unit: &[u8]) {
    codec::is_keyframe(codec, unit);
    if let Some((width, height)) = codec::picture_size(codec, unit) {
        assert!(
            width > 0 && height > 0 && width <= 65_536 && height <= 65_536,
            "{width}x{height} is believed"
        );
    }
}

/// NAL units: the first byte chooses codec and form.
pub(crate) fn nal(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let codec = VIDEO[usize::from(choice & 1)];
    let payload = Bytes::copy_from_slice(rest);
    length_prefixed(codec, &payload, choice >> 1 & 7);
    peek(codec, rest);

    // Annex B to the hub's form: the same units.
    let unit = nal::from_annex_b(rest);
    assert!(
        nal::units(&unit).eq(nal::annex_b_units(rest)),
        "other NAL units behind lengths than behind start codes"
    );
    assert_eq!(nal::units(&unit).map(|n| n.len() + 4).sum::<usize>(), unit.len());
    peek(codec, &unit);

    // And back, for an encoder's units: these have no start code inside and do not end in zeros, so all but the
    // delimiters, which are made anew, come back.
    let avcc = Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0]);
    let config = VideoConfig::h264(avcc).expect("a record without parameter sets");
    let annex_b = nal::AnnexB::new(&config).expect("H.264 has NAL units");
    let mut out = Vec::new();
    annex_b.write(&unit, &mut out);
    let wanted = nal::units(&unit).filter(|n| nal::h264_type(n) != nal::H264_AUD);
    assert!(nal::annex_b_units(&out).skip(1).eq(wanted), "Annex B and back is another access unit");
}

/// AV1 temporal units.
pub(crate) fn av1(data: &[u8]) {
    let unit = Bytes::copy_from_slice(data);
    let Ok(normal) = av1::normalise(unit) else { return };
    assert_eq!(av1::normalise(normal.clone()).as_ref(), Ok(&normal), "the normal form is not normal");
    let about =
        |data: &[u8]| (codec::is_keyframe(VideoCodec::Av1, data), codec::picture_size(VideoCodec::Av1, data));
    assert_eq!(about(data), about(&normal), "the normal form is another picture");
    peek(VideoCodec::Av1, &normal);
}

/// VP8 and VP9 frames.
pub(crate) fn vpx(data: &[u8]) {
    for codec in [VideoCodec::Vp8, VideoCodec::Vp9] {
        peek(codec, data);
    }
}
