use std::io;

/// What can go wrong on an RTMP connection. All but `Io` and `Timeout` mean that the peer broke the protocol
/// or one of our limits, and the connection is closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first byte is not 3: something else than plain RTMP knocked (HTTP, TLS, RTMPE).
    #[error(
        "the first byte is {0:#04x}, not RTMP version 3: is this an RTMP client, and is TLS on the right port?"
    )]
    Version(u8),
    /// An AMF0 value ends before it should.
    #[error("an AMF0 value is cut short: the peer sent a malformed command")]
    AmfTruncated,
    /// An AMF0 type that RTMP does not use.
    #[error("AMF0 type {0:#04x} is not used in RTMP: the peer sent a malformed command")]
    AmfType(u8),
    /// AMF0 values nested or repeated beyond any sane command.
    #[error("AMF0 values are nested deeper than {depth} or more than {count}: not a sane command")]
    AmfTooLarge {
        /// The greatest depth that is accepted.
        depth: usize,
        /// The greatest number of values in one message that is accepted.
        count: usize,
    },
    /// A chunk that continues a message of a chunk stream that has none.
    #[error("chunk stream {0} goes on from a message that never began")]
    NoHeader(u32),
    /// A chunk size outside 1..=0x7fffffff.
    #[error("a chunk size of {0} is outside 1 to 2147483647")]
    ChunkSize(u32),
    /// A message longer than its kind may be.
    #[error("a message of type {type_id} announces {size} bytes, more than the limit of {limit}")]
    MessageTooLarge {
        /// The message type id.
        type_id: u8,
        /// The announced length in bytes.
        size: u32,
        /// The limit in bytes.
        limit: u32,
    },
    /// More chunk streams than one connection may use.
    #[error("more than {0} chunk streams on one connection")]
    ChunkStreams(usize),
    /// More bytes of unfinished messages than one connection may hold.
    #[error("more than {0} bytes of unfinished messages on one connection")]
    Buffered(usize),
    /// A message that is shorter than its kind.
    #[error("{0} is cut short: the peer sent a malformed message")]
    Truncated(&'static str),
    /// An aggregate message of more parts than any encoder makes.
    #[error("an aggregate message has more than {0} messages in it")]
    Aggregate(usize),
    /// A codec that Sluice does not carry.
    #[error(
        "{0} is not supported over RTMP: use H.264, HEVC, AV1, VP9 or VP8 video and AAC, Opus or MP3 audio"
    )]
    Codec(String),
    /// Several tracks of one kind in one connection (enhanced RTMP multitrack).
    #[error("multitrack packets are not supported: publish one video and one audio track")]
    Multitrack,
    /// A codec configuration that cannot be used.
    #[error(transparent)]
    Config(#[from] sluice_media::CodecError),
    /// A command at a time when it makes no sense.
    #[error("{0}")]
    Sequence(&'static str),
    /// The stream that was being written has ended.
    #[error("the stream has ended")]
    Ended,
    /// More answers owed to the peer than it takes.
    #[error("the peer does not read the answers to its commands")]
    Deaf,
    /// Our side asked for something and the peer refused.
    #[error("the server refused: {code}: {description}")]
    Refused {
        /// The status code, such as `NetStream.Publish.BadName`.
        code: String,
        /// The text that came with it.
        description: String,
    },
    /// The peer did not do something in time.
    #[error("{0} took too long")]
    Timeout(&'static str),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}
