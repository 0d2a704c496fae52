//! One track of sound from one codec to another, frame by frame. No thread, no clock.

use std::sync::Once;

use sluice_media::{AudioCodec, AudioConfig, Frame, Timestamp};

use crate::decode::Decoding;
use crate::encode::{self, Encoding};
use crate::pile::{Pile, Placed};
use crate::{BridgeError, RATE};

/// Decodes AAC, Opus or MP3 and encodes Opus or AAC at 48 kHz. One and two channels are kept, more are mixed down to two.
///
/// What comes out goes by the count of samples from the first frame's time on; the time that an encoder looks ahead is
/// taken off, so that sound stays with the pictures.
pub struct AudioBridge {
    decoding: Decoding,
    encoding: Encoding,
    pile: Pile,
    config: AudioConfig,
    newest: Option<Timestamp>,
}

impl AudioBridge {
    /// From a track with this configuration to a codec, [`AudioCodec::Opus`] or [`AudioCodec::Aac`].
    ///
    /// # Errors
    /// [`BridgeError::NoDecoder`] and [`BridgeError::NoEncoder`] when the installed FFmpeg lacks them,
    /// [`BridgeError::Unsupported`] for sources and targets that are not bridged, [`BridgeError::Ffmpeg`] when it refuses.
    pub fn new(from: &AudioConfig, to: AudioCodec) -> Result<Self, BridgeError> {
        // It would write a line to stderr for each damaged frame; those are counted instead.
        static QUIET: Once = Once::new();
        QUIET.call_once(|| ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Fatal));
        let channels = from.channels.clamp(1, 2);
        Ok(AudioBridge {
            decoding: Decoding::new(from, channels)?,
            encoding: Encoding::new(to, channels)?,
            pile: Pile::new(channels),
            config: encode::config(to, channels)?,
            newest: None,
        })
    }

    /// The configuration of what comes out.
    pub fn config(&self) -> &AudioConfig {
        &self.config
    }

    /// Frames so far that could not be decoded.
    pub fn errors(&self) -> u64 {
        self.decoding.errors
    }

    /// Takes the next frame of the source; gives what can be encoded by now. A frame that cannot be decoded is
    /// [counted](Self::errors) and left out.
    ///
    /// # Errors
    /// [`BridgeError::Ffmpeg`] when the encoder gives up: make a new bridge.
    pub fn push(&mut self, frame: &Frame) -> Result<Vec<Frame>, BridgeError> {
        let at = frame.pts.to_ticks(RATE);
        if self.pile.place(at, self.decoding.delay()) == Placed::Anew {
            self.decoding.restart();
        }
        let pile = &mut self.pile;
        self.decoding.push(&frame.payload, |planes| pile.push(planes));
        let mut out = Vec::new();
        while let Some((at, samples)) = self.pile.take(self.encoding.samples()) {
            self.encoding.push(at, &samples, &mut out)?;
        }
        let newest = &mut self.newest;
        // Where the source's clock goes back, what lies before is left out: times only grow.
        out.retain(|f| {
            let grows = newest.is_none_or(|n| f.dts > n);
            *newest = (*newest).max(Some(f.dts));
            grows
        });
        Ok(out)
    }
}

impl std::fmt::Debug for AudioBridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AudioBridge(to {}, {} errors)", self.config.codec_string, self.errors())
    }
}
