//! What can be chosen about a stream's HLS.

/// How segments are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SegmentType {
    /// CMAF: fragmented MP4, audio and video apart (AMS's `fmp4`).
    #[default]
    Fmp4,
    /// MPEG transport stream, audio and video together (AMS's `mpegts`).
    MpegTs,
}

/// What happens to segments that are older than the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PlaylistType {
    /// They leave the playlist.
    #[default]
    Sliding,
    /// They stay while memory allows (AMS's `event`), see [`EVENT_BYTES`]; viewers can go back to the start.
    Event,
}

/// The payload bytes that a playlist of type `event` may hold per rendition. Beyond that it slides, and says so
/// by no longer being of that type.
pub const EVENT_BYTES: usize = 256 << 20;

/// The HLS settings of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HlsSettings {
    /// Complete segments in a playlist; less than 3 is taken as 3.
    pub list_size: usize,
    /// How segments are made.
    pub segment_type: SegmentType,
    /// Whether there are parts, blocking reloads and the like (fMP4 only).
    pub low_latency: bool,
    /// What happens to old segments.
    pub playlist_type: PlaylistType,
}

impl Default for HlsSettings {
    fn default() -> Self {
        HlsSettings {
            list_size: 15,
            segment_type: SegmentType::Fmp4,
            low_latency: true,
            playlist_type: PlaylistType::Sliding,
        }
    }
}
