//! Samples to coded frames.

use bytes::Bytes;
use ffmpeg_next::format::Sample;
use ffmpeg_next::format::sample::Type;
use ffmpeg_next::{Dictionary, Rational, codec, encoder, frame};
use sluice_media::{AudioCodec, AudioConfig, Frame, Timestamp};

use crate::decode::layout_of;
use crate::{BridgeError, RATE};

/// Samples that libopus looks ahead at 48 kHz (2.5 ms, and 4 ms for the application `audio`).
const OPUS_PRE_SKIP: u16 = 312;

/// What an encoder makes.
struct Kind {
    /// FFmpeg's name of the encoder.
    name: &'static str,
    format: Sample,
    /// Samples of a frame.
    samples: usize,
    bit_rate: usize,
    options: &'static [(&'static str, &'static str)],
}

fn kind(codec: AudioCodec, channels: u8) -> Result<Kind, BridgeError> {
    let mono = channels == 1;
    Ok(match codec {
        AudioCodec::Aac => Kind {
            name: "aac",
            format: Sample::F32(Type::Planar),
            samples: 1024,
            bit_rate: if mono { 64_000 } else { 128_000 },
            options: &[],
        },
        AudioCodec::Opus => Kind {
            name: "libopus",
            format: Sample::F32(Type::Packed),
            samples: 960,
            bit_rate: if mono { 64_000 } else { 112_000 },
            options: &[("frame_duration", "20"), ("application", "audio")],
        },
        AudioCodec::Mp3 => return Err(BridgeError::Unsupported { what: "MP3 is never made".into() }),
    })
}

/// Makes frames of one codec from planar samples of [`RATE`].
pub(crate) struct Encoding {
    encoder: encoder::audio::Encoder,
    format: Sample,
    channels: u8,
    samples: usize,
}

impl Encoding {
    /// `channels` is 1 or 2.
    pub(crate) fn new(to: AudioCodec, channels: u8) -> Result<Self, BridgeError> {
        let kind = kind(to, channels)?;
        let none = BridgeError::NoEncoder { codec: to, encoder: kind.name };
        let found = encoder::find_by_name(kind.name).ok_or(none)?;
        let opening = BridgeError::when("open the encoder");
        let mut setup = codec::Context::new_with_codec(found).encoder().audio().map_err(&opening)?;
        setup.set_rate(RATE as i32);
        setup.set_format(kind.format);
        setup.set_channel_layout(layout_of(channels));
        setup.set_bit_rate(kind.bit_rate);
        setup.set_time_base(Rational::new(1, RATE as i32));
        let mut options = Dictionary::new();
        kind.options.iter().for_each(|(name, value)| options.set(name, value));
        let encoder = setup.open_as_with(found, options).map_err(&opening)?;
        Ok(Encoding { encoder, format: kind.format, channels, samples: kind.samples })
    }

    /// Samples of a frame, per channel.
    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    /// Encodes a whole frame of samples by channel, the first of them at `at` in ticks of [`RATE`]. What an encoder puts in
    /// front of the first frame is in the times of what comes out.
    pub(crate) fn push(
        &mut self,
        at: i64,
        channels: &[Vec<f32>],
        out: &mut Vec<Frame>,
    ) -> Result<(), BridgeError> {
        let mut input = frame::Audio::new(self.format, self.samples, layout_of(self.channels));
        input.set_rate(RATE);
        input.set_pts(Some(at));
        match (self.format, channels) {
            (Sample::F32(Type::Packed), [left, right]) => {
                let both = left.iter().zip(right).map(|(l, r)| (*l, *r));
                input.plane_mut::<(f32, f32)>(0).iter_mut().zip(both).for_each(|(to, s)| *to = s);
            }
            _ => {
                for (i, samples) in channels.iter().enumerate() {
                    input.plane_mut::<f32>(i).iter_mut().zip(samples).for_each(|(to, s)| *to = *s);
                }
            }
        }
        self.encoder.send_frame(&input).map_err(BridgeError::when("encode"))?;
        let mut packet = codec::packet::Packet::empty();
        while self.encoder.receive_packet(&mut packet).is_ok() {
            let (Some(data), Some(pts)) = (packet.data(), packet.pts()) else { continue };
            let pts = Timestamp::from_ticks(pts, RATE);
            out.push(Frame { dts: pts, pts, keyframe: true, payload: Bytes::copy_from_slice(data) });
        }
        Ok(())
    }
}

/// The configuration of what is made.
pub(crate) fn config(to: AudioCodec, channels: u8) -> Result<AudioConfig, BridgeError> {
    let made = match to {
        // AAC-LC, 48 kHz (index 3), and the word that there is no SBR (ISO/IEC 14496-3, 1.6.2.1 and 1.6.5).
        AudioCodec::Aac => {
            AudioConfig::aac(Bytes::copy_from_slice(&[0x11, 0x80 | channels << 3, 0x56, 0xe5, 0x00]))
        }
        AudioCodec::Opus => {
            let mut record = vec![0, channels];
            record.extend_from_slice(&OPUS_PRE_SKIP.to_be_bytes());
            record.extend_from_slice(&RATE.to_be_bytes());
            record.extend_from_slice(&[0, 0, 0]);
            AudioConfig::opus(record.into())
        }
        AudioCodec::Mp3 => return Err(BridgeError::Unsupported { what: "MP3 is never made".into() }),
    };
    made.map_err(|e| BridgeError::Unsupported { what: e.to_string() })
}
