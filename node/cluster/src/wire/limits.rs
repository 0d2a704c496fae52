//! What a peer may send at most.

/// Payload bytes of a frame.
pub const PAYLOAD: usize = 32 << 20;
/// Payload bytes of a group: one that is just not large enough to be split, and the frame that makes it so.
pub const GROUP_BYTES: u64 = 64 << 20;
/// Frames of a group.
pub const GROUP_FRAMES: u64 = 1 << 17;
/// Bytes of a name: an app, a stream id, a node id.
pub const NAME: usize = 255;
/// Tracks of a stream.
pub const TRACKS: usize = 16;
/// Bytes of a publisher's metadata, and of a single text in it.
pub const METADATA: usize = 64 << 10;
/// Values of a publisher's metadata.
pub const METADATA_VALUES: usize = 1024;
/// Bytes of what the nodes tell each other about the packaging of a stream.
pub const HLS: usize = 64 << 10;
/// Bytes of a decoder configuration record.
pub const RECORD: usize = 64 << 10;
/// Bytes of a data channel's message.
pub const DATA: usize = sluice_media::aside::LARGEST_MESSAGE;
/// Nodes that frames may come through.
pub const PATH: usize = 8;
/// Bytes of a reason.
pub const TEXT: usize = 1 << 10;
/// Bytes of any message without a payload.
pub const MESSAGE: usize = 256 << 10;
/// Times on the media timeline are nearer to zero than this, in microseconds (285 years).
pub const TIME: i64 = 1 << 53;
/// Seconds that a wall clock is away from 1970 at most.
pub const WALL_SECONDS: i64 = 1 << 38;
/// Sequence numbers and counts are below this.
pub const NUMBER: u64 = 1 << 62;
/// Epochs are below this.
pub const EPOCH: u64 = 1 << 63;
/// Width and height of a picture.
pub const SIDE: u64 = 16_384;
/// Seconds that a stream may be kept for those who come late.
pub const RETAIN_SECONDS: u64 = 86_400;
/// Bytes of a track that may be kept for them.
pub const RETAIN_BYTES: u64 = 64 << 30;
