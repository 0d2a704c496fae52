//! Fragmented MP4 as CMAF wants it (ISO/IEC 14496-12, 23000-19): the init segment of a track, and parts that
//! are one `moof` and one `mdat` each. A media segment is the concatenation of its parts, so nothing is
//! built twice, and the bytes depend on nothing but frames and stamps, so any node builds the same.

mod boxes;
mod init;
mod part;

pub use init::init_segment;
pub use part::{Sample, fragment_sequence, media_part};

use sluice_media::TrackConfig;

/// The media clock of video tracks, in hertz.
pub const VIDEO_TIMESCALE: u32 = 90_000;

/// The clock in which a track's times are written: 90 kHz for video, the sample rate for audio.
pub fn timescale(config: &TrackConfig) -> u32 {
    match config {
        TrackConfig::Video(_) => VIDEO_TIMESCALE,
        TrackConfig::Audio(a) if a.sample_rate > 0 => a.sample_rate,
        TrackConfig::Audio(_) => 48_000,
    }
}
