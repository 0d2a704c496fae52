//! What can go wrong.

use sluice_media::AudioCodec;

/// Why sound cannot be bridged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The FFmpeg that is installed cannot decode the codec.
    #[error(
        "the installed FFmpeg has no decoder for {}: install a build of libavcodec that has it, such as Debian's libavcodec59",
        codec.name()
    )]
    NoDecoder {
        /// The codec.
        codec: AudioCodec,
    },
    /// The FFmpeg that is installed cannot encode the codec.
    #[error(
        "the installed FFmpeg has no encoder {encoder} for {}: install a build of libavcodec that has it, such as Debian's \
         libavcodec59 (for libopus, one that was configured with --enable-libopus)",
        codec.name()
    )]
    NoEncoder {
        /// The codec.
        codec: AudioCodec,
        /// FFmpeg's name of the encoder.
        encoder: &'static str,
    },
    /// The source is of a kind that is not bridged.
    #[error(
        "this sound cannot be bridged: {what}; publish AAC-LC or HE-AAC, Opus with one or two channels, or MP3"
    )]
    Unsupported {
        /// What it is.
        what: String,
    },
    /// FFmpeg refused something that it should do.
    #[error("FFmpeg failed to {doing}: {reason}")]
    Ffmpeg {
        /// What was attempted.
        doing: &'static str,
        /// Its reason.
        reason: String,
    },
    /// The threads that code are gone: the process is ending.
    #[error("the threads for coding have stopped: the server is stopping")]
    Stopped,
}

impl BridgeError {
    /// For `map_err`: FFmpeg's error with what was attempted.
    pub(crate) fn when(doing: &'static str) -> impl Fn(ffmpeg_next::Error) -> BridgeError {
        move |error| BridgeError::Ffmpeg { doing, reason: error.to_string() }
    }
}
