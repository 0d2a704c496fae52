//! What connections may hold and how long they may take; those that an operator may want to change are in
//! [`Settings`](crate::server::Settings).

use std::time::Duration;

/// Entries of a publisher's metadata that are kept.
pub(crate) const METADATA_ENTRIES: usize = 64;
/// The longest key or text of a publisher's metadata that is kept, in bytes.
pub(crate) const METADATA_TEXT: usize = 256;

/// The first read buffer of a connection.
pub(crate) const FIRST_READ_BLOCK: usize = 4 * 1024;
/// A busy publisher is read with few system calls.
pub(crate) const LARGEST_READ_BLOCK: usize = 64 * 1024;
/// Answers that a player may leave unread while it plays.
pub(crate) const UNREAD_ANSWERS: usize = 4 * 1024;

/// Time for one answer to be taken by the client.
pub(crate) const WRITE_TIME: Duration = Duration::from_secs(10);
/// Time from the handshake until the client publishes or plays.
pub(crate) const DECIDE_TIME: Duration = Duration::from_secs(60);
/// Time for the decision whether a client may publish or play.
pub(crate) const ADMISSION_TIME: Duration = Duration::from_secs(15);
/// Time for a client to take our last words and close.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(2);
/// At the end of the server, time until the next keyframe, with which players and publishers end.
pub(crate) const KEYFRAME_TIME: Duration = Duration::from_secs(4);
/// How often a quiet connection is looked at.
pub(crate) const TICK: Duration = Duration::from_secs(5);

/// Buffers that one writev of a player takes at most.
pub(crate) const WRITE_BATCH: usize = 32;
/// Messages that come together are one buffer for each player, up to this many bytes.
pub(crate) const FEED_BATCH: usize = 64 * 1024;
/// How far behind the newest keyframe a player may be before it skips to it.
pub(crate) const PLAYER_LAG: Duration = Duration::from_secs(5);
/// How much of a stream is kept for its players as messages.
pub(crate) const FEED_TIME: Duration = Duration::from_secs(6);
/// The same in bytes; the newest two groups are kept whatever they measure.
pub(crate) const FEED_BYTES: u64 = 48 << 20;
/// Audio waits this long at most to go out together with a picture: a frame at 25 a second. It saves each
/// player more than half of its wake-ups and writes.
pub(crate) const AUDIO_WAIT: Duration = Duration::from_millis(40);
/// Players wait this long for AAC to be made of a publisher's Opus; then they get that. Media time, looked at as groups begin.
pub(crate) const WAIT_FOR_AAC: Duration = Duration::from_millis(1500);
/// The largest frame of audio, in bytes.
pub(crate) const AUDIO_FRAME: usize = 1 << 18;
