//! Coded frames to samples: FFmpeg's decoder, and its resampler to what comes out of a bridge.
//!
//! FFmpeg's safe interface has no way to give a decoder its configuration record. AAC goes in as ADTS, whose headers say the
//! same; Opus of one or two channels and MP3 need none.

use ffmpeg_next::format::Sample;
use ffmpeg_next::format::sample::Type;
use ffmpeg_next::software::resampling;
use ffmpeg_next::{ChannelLayout, codec, decoder, frame};
use sluice_media::codec::Adts;
use sluice_media::{AudioCodec, AudioConfig};

use crate::{BridgeError, RATE};

/// A coded frame that is larger is no audio.
const LARGEST: usize = 64 << 10;
/// Samples that come out at once and channel, at most: more than the longest frame of any codec.
const MOST: usize = 1 << 15;

/// Decodes one track to planar samples of [`RATE`].
pub(crate) struct Decoding {
    decoder: decoder::Audio,
    adts: Option<Adts>,
    channels: u8,
    resampler: Option<Resampler>,
    /// Frames that the decoder did not take.
    pub(crate) errors: u64,
}

struct Resampler {
    from: (Sample, ChannelLayout, u32),
    context: resampling::Context,
}

impl Decoding {
    /// For a track; `channels` is 1 or 2: what comes out.
    pub(crate) fn new(config: &AudioConfig, channels: u8) -> Result<Self, BridgeError> {
        let (id, adts) = match config.codec {
            AudioCodec::Aac => {
                let adts = Adts::new(&config.record).map_err(|e| BridgeError::Unsupported {
                    what: format!("{} ({e})", config.codec_string),
                })?;
                (codec::Id::AAC, Some(adts))
            }
            AudioCodec::Opus if config.channels > 2 => {
                return Err(BridgeError::Unsupported {
                    what: format!("Opus with {} channels", config.channels),
                });
            }
            AudioCodec::Opus => (codec::Id::OPUS, None),
            AudioCodec::Mp3 => (codec::Id::MP3, None),
        };
        let found = decoder::find(id).ok_or(BridgeError::NoDecoder { codec: config.codec })?;
        let decoder = codec::Context::new_with_codec(found)
            .decoder()
            .audio()
            .map_err(BridgeError::when("open the decoder"))?;
        Ok(Decoding { decoder, adts, channels, resampler: None, errors: 0 })
    }

    /// Decodes a frame; gives `each` the samples by channel. What cannot be decoded is counted and left out.
    pub(crate) fn push(&mut self, payload: &[u8], mut each: impl FnMut(&[&[f32]])) {
        let Some(packet) = self.packet(payload) else {
            self.errors += 1;
            return;
        };
        if self.decoder.send_packet(&packet).is_err() {
            self.errors += 1;
            // It must not remember what it choked on.
            self.decoder.flush();
            return;
        }
        let mut decoded = frame::Audio::empty();
        while self.decoder.receive_frame(&mut decoded).is_ok() {
            if decoded.samples() == 0 || decoded.samples() > MOST || decoded.rate() == 0 {
                self.errors += 1;
                continue;
            }
            // Damaged frames may claim channels that nobody can mix.
            let Ok(resampled) = self.resample(&mut decoded) else {
                self.errors += 1;
                continue;
            };
            let samples = resampled.samples();
            if samples > 0 {
                let planes: Vec<&[f32]> =
                    (0..usize::from(self.channels)).map(|i| &resampled.plane::<f32>(i)[..samples]).collect();
                each(&planes);
            }
        }
    }

    /// How many samples, at [`RATE`], are on their way through the resampler.
    pub(crate) fn delay(&self) -> i64 {
        self.resampler.as_ref().and_then(|r| r.context.delay()).map_or(0, |d| d.output)
    }

    /// Forgets what is on its way.
    pub(crate) fn restart(&mut self) {
        self.decoder.flush();
        self.resampler = None;
    }

    fn packet(&self, payload: &[u8]) -> Option<codec::packet::Packet> {
        if payload.is_empty() || payload.len() > LARGEST {
            return None;
        }
        Some(match &self.adts {
            Some(adts) => {
                let header = adts.header(payload.len())?;
                codec::packet::Packet::copy(&[&header[..], payload].concat())
            }
            None => codec::packet::Packet::copy(payload),
        })
    }

    fn resample(&mut self, decoded: &mut frame::Audio) -> Result<frame::Audio, ffmpeg_next::Error> {
        if decoded.channel_layout().channels() == 0 {
            decoded.set_channel_layout(ChannelLayout::default(i32::from(decoded.channels().max(1))));
        }
        let layout = decoded.channel_layout();
        let from = (decoded.format(), layout, decoded.rate());
        let to = (Sample::F32(Type::Planar), layout_of(self.channels));
        let resampler = match self.resampler.take().filter(|r| r.from == from) {
            Some(same) => same,
            None => {
                let context = resampling::Context::get(from.0, layout, from.2, to.0, to.1, RATE);
                Resampler { from, context: context? }
            }
        };
        let resampler = self.resampler.insert(resampler);
        // All that comes out has room, so that nothing piles up inside.
        let room = decoded.samples() as u64 * u64::from(RATE) / u64::from(from.2) + 64;
        let waiting = resampler.context.delay().map_or(0, |d| d.output.max(0)) as u64;
        let room = usize::try_from(room + waiting).unwrap_or(usize::MAX).min(8 * MOST);
        let mut out = frame::Audio::new(to.0, room, to.1);
        resampler.context.run(decoded, &mut out)?;
        Ok(out)
    }
}

/// The layout of one or two channels.
pub(crate) fn layout_of(channels: u8) -> ChannelLayout {
    if channels == 1 { ChannelLayout::MONO } else { ChannelLayout::STEREO }
}
