//! From a publisher's audio and video messages to a stream of the hub.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use sluice_media::codec::{self, av1, nal};
use sluice_media::timeline::Unwrap;
use sluice_media::{
    AudioCodec, AudioConfig, CodecError, Frame, MetaValue, Publisher, Timestamp, TrackConfig, TrackId,
    VideoCodec, VideoConfig,
};

use crate::amf0::Value;
use crate::flv::{self, Audio, Video};
use crate::{Error, limits};

/// Writes what one publisher sends into its stream.
#[derive(Debug)]
pub struct Ingest {
    publisher: Publisher,
    /// One clock for both kinds, so that they stay together when it wraps.
    clock: Unwrap,
    video: Option<VideoTrack>,
    audio: Option<AudioTrack>,
}

#[derive(Debug)]
struct VideoTrack {
    id: TrackId,
    config: VideoConfig,
    /// Bytes of the length in front of each NAL unit, as the publisher writes them.
    nal_length: u8,
}

#[derive(Debug)]
struct AudioTrack {
    id: TrackId,
    codec: AudioCodec,
    /// The fields of an MP3 header that matter, to see a change without parsing each frame.
    mp3: u32,
}

impl Ingest {
    /// Takes the writing end of a stream.
    pub fn new(publisher: Publisher) -> Self {
        Ingest { publisher, clock: Unwrap::bits32_ms(), video: None, audio: None }
    }

    /// The writing end, to be waited on.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Whether pictures came.
    pub fn has_video(&self) -> bool {
        self.video.is_some()
    }

    /// Takes the publisher's description of the stream. What is not a plain value is left out, and so is what
    /// goes beyond a sane size.
    pub fn metadata(&mut self, properties: Vec<(String, Value)>) {
        let told = |names: [&str; 2]| properties.iter().any(|(k, _)| names.contains(&k.as_str()));
        if told(["videocodecid", "width"]) {
            self.publisher.expect_video(true);
        } else if told(["audiocodecid", "audiosamplerate"]) {
            self.publisher.expect_video(false);
        }
        let plain = properties.into_iter().filter_map(|(key, value)| {
            let value = match value {
                Value::Number(n) if n.is_finite() => MetaValue::Number(n),
                Value::String(s) if s.len() <= limits::METADATA_TEXT => MetaValue::Text(s),
                Value::Boolean(b) => MetaValue::Flag(b),
                _ => return None,
            };
            (key.len() <= limits::METADATA_TEXT).then_some((key, value))
        });
        self.publisher.set_metadata(plain.take(limits::METADATA_ENTRIES).collect());
    }

    /// Takes a video message.
    ///
    /// # Errors
    /// When the codec or its configuration cannot be used, or the stream has ended: end the publisher.
    pub fn video(&mut self, timestamp: u32, message: Bytes) -> Result<(), Error> {
        match flv::parse_video(message)? {
            Video::Config { record, .. } if record.is_empty() => Ok(()),
            Video::Config { codec, record } => {
                let nal_length = nal::source_nal_length_size(codec, &record);
                let config = match codec {
                    VideoCodec::H264 => VideoConfig::h264(record)?,
                    VideoCodec::Hevc => VideoConfig::hevc(record)?,
                    VideoCodec::Av1 => VideoConfig::av1(record)?,
                    VideoCodec::Vp9 => self.keep_size(VideoConfig::vp9(record)?),
                    // Tells nothing: the first keyframe does.
                    VideoCodec::Vp8 => return Ok(()),
                };
                self.video_config(config, nal_length)
            }
            Video::Frame { codec, keyframe, composition, payload } => {
                let dts = self.clock.unwrap(u64::from(timestamp));
                if matches!(codec, VideoCodec::Vp8 | VideoCodec::Vp9) && keyframe {
                    self.learn_size(codec, &payload)?;
                }
                let Some(track) = self.video.as_ref().filter(|t| t.config.codec == codec) else {
                    self.dropped();
                    return Ok(());
                };
                let Ok(payload) = normalise(codec, payload, track.nal_length) else {
                    self.dropped();
                    return Ok(());
                };
                let pts = Timestamp(dts.0.saturating_add(composition));
                self.write(track.id, Frame { dts, pts, keyframe, payload })
            }
            Video::End | Video::Nothing => Ok(()),
        }
    }

    /// Takes an audio message.
    ///
    /// # Errors
    /// As [`video`](Self::video).
    pub fn audio(&mut self, timestamp: u32, message: Bytes) -> Result<(), Error> {
        match flv::parse_audio(message)? {
            Audio::Config { codec: AudioCodec::Aac, record } if !record.is_empty() => {
                self.audio_config(AudioConfig::aac(record)?)
            }
            Audio::Config { codec: AudioCodec::Opus, record } if !record.is_empty() => {
                self.audio_config(AudioConfig::opus_head(&record)?)
            }
            Audio::Config { .. } | Audio::End | Audio::Nothing => Ok(()),
            // No audio codec makes frames like these: they would only fill memory.
            Audio::Frame { payload, .. } if payload.len() > limits::AUDIO_FRAME => {
                self.dropped();
                Ok(())
            }
            Audio::Frame { codec, payload } => {
                let dts = self.clock.unwrap(u64::from(timestamp));
                if codec == AudioCodec::Mp3 {
                    self.learn_mp3(&payload)?;
                }
                match self.audio.as_ref().filter(|t| t.codec == codec) {
                    Some(track) => self.write(track.id, Frame { dts, pts: dts, keyframe: true, payload }),
                    None => {
                        self.dropped();
                        Ok(())
                    }
                }
            }
        }
    }

    /// Shows readers what was written since the last time.
    pub fn flush(&self) {
        self.publisher.flush();
    }

    /// The publisher is done: the stream ends. Without this it waits for the publisher to come back.
    pub fn finish(self) {
        self.publisher.finish();
    }

    fn write(&mut self, track: TrackId, frame: Frame) -> Result<(), Error> {
        self.publisher.write(track, frame).map_err(|_| Error::Ended)
    }

    fn dropped(&self) {
        self.publisher.stream().stats().frames_dropped.fetch_add(1, Relaxed);
    }

    fn video_config(&mut self, config: VideoConfig, nal_length: u8) -> Result<(), Error> {
        let whole = TrackConfig::Video(config.clone());
        match &mut self.video {
            Some(track) => {
                self.publisher.set_config(track.id, whole);
                (track.config, track.nal_length) = (config, nal_length);
            }
            None => {
                let id = self.publisher.add_track(whole).ok_or(Error::Multitrack)?;
                self.video = Some(VideoTrack { id, config, nal_length });
            }
        }
        Ok(())
    }

    fn audio_config(&mut self, config: AudioConfig) -> Result<(), Error> {
        let codec = config.codec;
        match &mut self.audio {
            Some(track) => {
                self.publisher.set_config(track.id, TrackConfig::Audio(config));
                track.codec = codec;
            }
            None => {
                let id = self.publisher.add_track(TrackConfig::Audio(config)).ok_or(Error::Multitrack)?;
                self.audio = Some(AudioTrack { id, codec, mp3: 0 });
            }
        }
        Ok(())
    }

    /// VP8 and VP9 tell their size in keyframes only.
    fn learn_size(&mut self, codec: VideoCodec, frame: &[u8]) -> Result<(), Error> {
        let Some((width, height)) = codec::picture_size(codec, frame) else { return Ok(()) };
        let config = match &self.video {
            Some(t) if t.config.codec == codec && (t.config.width, t.config.height) == (width, height) => {
                return Ok(());
            }
            Some(track) if track.config.codec == codec => track.config.clone().with_size(width, height),
            _ if codec == VideoCodec::Vp8 => VideoConfig::vp8(width, height)?,
            _ => return Ok(()),
        };
        self.video_config(config, 4)
    }

    /// The same VP9 record again is no change: it keeps the size that a keyframe told.
    fn keep_size(&self, config: VideoConfig) -> VideoConfig {
        match &self.video {
            Some(t) if t.config.codec == VideoCodec::Vp9 && t.config.width > 0 => {
                config.with_size(t.config.width, t.config.height)
            }
            _ => config,
        }
    }

    fn learn_mp3(&mut self, frame: &[u8]) -> Result<(), Error> {
        /// Sync, version, layer, sampling rate, channel mode.
        const MATTERS: u32 = 0xfffe_0cc0;
        let Some(header) = frame.first_chunk().map(|h| u32::from_be_bytes(*h) & MATTERS) else {
            return Ok(());
        };
        if self.audio.as_ref().is_none_or(|t| t.codec != AudioCodec::Mp3 || t.mp3 != header) {
            self.audio_config(AudioConfig::mp3(frame)?)?;
            if let Some(track) = &mut self.audio {
                track.mp3 = header;
            }
        }
        Ok(())
    }
}

/// Brings a picture into the hub's form.
fn normalise(codec: VideoCodec, payload: Bytes, nal_length: u8) -> Result<Bytes, CodecError> {
    match codec {
        VideoCodec::H264 | VideoCodec::Hevc => nal::to_four_byte(payload, nal_length),
        VideoCodec::Av1 => av1::normalise(payload),
        VideoCodec::Vp8 | VideoCodec::Vp9 => Ok(payload),
    }
}

#[cfg(test)]
mod tests;
