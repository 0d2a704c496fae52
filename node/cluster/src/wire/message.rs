use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use sluice_media::aside::Sender;
use sluice_media::{
    Arrived, GroupHead, MetaValue, Origin, Position, Segmentation, StreamKey, StreamSettings, TrackConfig,
    TrackId,
};

use crate::member::NodeId;

/// The version of the format: 2 since needs, wishes for key frames and messages go beside the frames.
pub const VERSION: u8 = 2;
/// The oldest version that is understood: frames only.
pub const OLDEST: u8 = 1;

/// What the asker says first.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// The version that the connection has: [`VERSION`], or an older one for a source that knows no more.
    pub version: u8,
    /// The stream that it wants.
    pub key: StreamKey,
    /// Its own name.
    pub node: NodeId,
    /// Whether it wants what is older than the newest group, too.
    pub backfill: bool,
    /// What it has of the stream: nothing when it is new to it.
    pub held: Vec<Held>,
}

/// What the asker has of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where it stands.
    pub newest: Position,
    /// Epoch and number of the oldest group that it has.
    pub oldest: (u64, u64),
}

/// The stream is there, and this is what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// Epoch and numbers.
    pub origin: Origin,
    /// How it is cut and what is kept of it.
    pub settings: StreamSettings,
    /// When it started, to the millisecond.
    pub started: SystemTime,
    /// What packagers need to know; the relay does not look into it.
    pub hls: Bytes,
    /// The nodes that the frames come through: the owner first, the sender last.
    pub path: Vec<NodeId>,
}

/// Why a node does not send a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It does not have it.
    NotFound,
    /// It has it through the asker.
    Loop,
    /// It has it through too many nodes.
    TooFar,
    /// It serves as many as it may.
    Busy,
    /// It is about to stop.
    Stopping,
    /// It did not understand the question.
    Malformed,
}

impl Refusal {
    pub(super) const ALL: [Refusal; 6] = [
        Refusal::NotFound,
        Refusal::Loop,
        Refusal::TooFar,
        Refusal::Busy,
        Refusal::Stopping,
        Refusal::Malformed,
    ];

    pub(super) fn code(self) -> u8 {
        match self {
            Refusal::NotFound => 1,
            Refusal::Loop => 2,
            Refusal::TooFar => 3,
            Refusal::Busy => 4,
            Refusal::Stopping => 5,
            Refusal::Malformed => 6,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::NotFound => "it does not have the stream",
            Refusal::Loop => "it has the stream through this node",
            Refusal::TooFar => "it has the stream through too many nodes",
            Refusal::Busy => "it serves as many relays as it may",
            Refusal::Stopping => "it is stopping",
            Refusal::Malformed => "it did not understand the question",
        })
    }
}

/// Why no more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The stream is over.
    Ended,
    /// Another node owns it now.
    Moved,
    /// This node is stopping.
    Stopping,
    /// The stream came from another node and did not come back in time: who got it here need not wait again.
    Gone,
}

impl EndReason {
    pub(super) const ALL: [EndReason; 4] =
        [EndReason::Ended, EndReason::Moved, EndReason::Stopping, EndReason::Gone];

    pub(super) fn code(self) -> u8 {
        match self {
            EndReason::Ended => 1,
            EndReason::Moved => 2,
            EndReason::Stopping => 3,
            EndReason::Gone => 4,
        }
    }
}

/// Everything that is said on a connection. The asker says [`Open`](Message::Open) and may say [`Ping`](Message::Ping), from
/// version 2 on also [`Needs`](Message::Needs), [`WantKeyframe`](Message::WantKeyframe) and [`Said`](Message::Said); all others,
/// and [`Said`](Message::Said), are for the source to say.
#[derive(Clone, Debug)]
pub enum Message {
    /// What the asker says first.
    Open(Open),
    /// The answer, when the stream comes.
    Accepted(Accepted),
    /// The answer, when it does not.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Why, in words.
        text: String,
    },
    /// The next track; they are counted from 0.
    Track(TrackConfig),
    /// The newest configuration of a track.
    Config {
        /// The track.
        track: TrackId,
        /// The configuration.
        config: TrackConfig,
    },
    /// How the stream is cut.
    Segmentation(Segmentation),
    /// What the publisher says about it.
    Metadata(Vec<(String, MetaValue)>),
    /// A group begins, or goes on where the asker has it.
    Group {
        /// The track.
        track: TrackId,
        /// Its head.
        head: GroupHead,
        /// How many of its frames the asker has; they are left out.
        from: u64,
    },
    /// The next frame of the group that began last on its track.
    Frame {
        /// The track.
        track: TrackId,
        /// The frame.
        arrived: Arrived,
    },
    /// A whole group from before the oldest one of its track; its frames follow, between others.
    Past {
        /// The track.
        track: TrackId,
        /// Its head.
        head: GroupHead,
        /// How many frames it has.
        frames: u64,
    },
    /// The next frame of that older group.
    PastFrame(Arrived),
    /// All that the source keeps has been sent.
    BackfillDone,
    /// The publisher's connection is broken, or is whole again.
    Interrupted(bool),
    /// The way of the frames has changed: the owner first, the sender last.
    Path(Vec<NodeId>),
    /// In which codecs the asker needs the sound.
    Needs {
        /// AAC.
        aac: bool,
        /// Opus.
        opus: bool,
    },
    /// Somebody at the asker cannot go on without a key frame.
    WantKeyframe,
    /// A message of a data channel.
    Said {
        /// Who sent it.
        from: Sender,
        /// Whether it is text, and then UTF-8.
        text: bool,
        /// What it says.
        payload: Bytes,
    },
    /// No more comes.
    End(EndReason),
    /// Nothing to say.
    Ping,
}

/// The first byte of each message.
pub(super) mod kind {
    pub(crate) const OPEN: u8 = 1;
    pub(crate) const ACCEPTED: u8 = 2;
    pub(crate) const REFUSED: u8 = 3;
    pub(crate) const TRACK: u8 = 4;
    pub(crate) const CONFIG: u8 = 5;
    pub(crate) const SEGMENTATION: u8 = 6;
    pub(crate) const METADATA: u8 = 7;
    pub(crate) const GROUP: u8 = 8;
    pub(crate) const FRAME: u8 = 9;
    pub(crate) const PAST: u8 = 10;
    pub(crate) const PAST_FRAME: u8 = 11;
    pub(crate) const BACKFILL_DONE: u8 = 12;
    pub(crate) const INTERRUPTED: u8 = 13;
    pub(crate) const PATH: u8 = 14;
    pub(crate) const END: u8 = 15;
    pub(crate) const PING: u8 = 16;
    pub(crate) const NEEDS: u8 = 17;
    pub(crate) const WANT_KEYFRAME: u8 = 18;
    pub(crate) const SAID: u8 = 19;
}

/// Bits of a group's flags.
pub(super) mod flag {
    pub(crate) const INDEPENDENT: u8 = 1;
    /// The configuration follows; else it is the one told last for the track.
    pub(crate) const CONFIG: u8 = 2;
    /// The stamp is that of the group before, of whichever track.
    pub(crate) const SAME_STAMP: u8 = 4;
    /// The number of frames that are left out follows.
    pub(crate) const FROM: u8 = 8;
    /// Another rendition leads, or another track has the publisher's own sound.
    pub(crate) const FOLLOWS: u8 = 16;
    /// In the first byte of a frame: it is a key frame. The lower four bits are its track.
    pub(crate) const KEYFRAME: u8 = 0x80;
}
