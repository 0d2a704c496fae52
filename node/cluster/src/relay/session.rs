//! What a source says, put into a mirror: one connection's worth.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use sluice_media::aside::Sender;
use sluice_media::{Arrived, GroupHead, Mirror, Position, Stream, TrackId};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::MAX_HOPS;
use crate::member::NodeId;
use crate::wire::{Decoder, EndReason, Held, Message, Refusal, WireError};

/// Why a connection of the relay is over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The connection broke.
    #[error("the connection to the other node broke: {0}")]
    Io(#[source] io::Error),
    /// The other node closed it.
    #[error("the other node closed the connection")]
    Closed,
    /// What it says is not the format.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It said something that has no place here.
    #[error("the other node said something out of turn: do both nodes run releases that fit together?")]
    OutOfTurn,
    /// It goes on with a group at another place than where this node stands.
    #[error("the other node goes on at another place than where this one stands; it will be asked anew")]
    Misplaced,
    /// Nothing came.
    #[error("nothing came from the other node for {for_:?}: is it overloaded, or the network cut?")]
    Silent {
        /// For this long.
        for_: Duration,
    },
    /// It takes nothing.
    #[error("the other node took nothing for {for_:?}: is it overloaded, or the network cut?")]
    Stuck {
        /// For this long.
        for_: Duration,
    },
    /// It does not give the stream.
    #[error("the other node does not send the stream: {refusal} ({text})")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// Why, in its words.
        text: String,
    },
    /// Its frames come through this node.
    #[error("the frames of that node come through this one: another source is needed")]
    Loop,
    /// Its frames come through too many nodes.
    #[error(
        "the frames of that node come through {hops} nodes, allowed are {MAX_HOPS}: another source is needed"
    )]
    TooFar {
        /// How many.
        hops: usize,
    },
    /// What it has is older than what was seen already.
    #[error("that node has epoch {theirs} of the stream, and {known} is known: it lags behind or is cut off")]
    Stale {
        /// Its epoch.
        theirs: u64,
        /// The highest known.
        known: u64,
    },
    /// Something else on this node writes the stream.
    #[error("the stream is written by something else on this node right now")]
    InUse,
    /// There was no connection.
    #[error("{0}")]
    Dial(String),
}

/// What a message changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that anybody but readers would see.
    None,
    /// The epoch that is mirrored.
    Epoch,
    /// The way of the frames.
    Path(Vec<NodeId>),
    /// Nothing of the stream, but a message beside it.
    Said {
        /// Who sent it.
        from: Sender,
        /// Whether it is text.
        text: bool,
        /// What it says.
        payload: Bytes,
    },
    /// Nothing more comes.
    End(EndReason),
}

/// Takes what one source says.
#[derive(Debug, Default)]
pub(super) struct Session {
    lanes: Vec<Lane>,
    frames: u64,
    past: Option<Past>,
    /// Tracks that take no more older groups: one did not fit, and what is before it would leave a hole.
    full: u32,
    whole: bool,
}

#[derive(Debug)]
struct Lane {
    video: bool,
    index: u8,
    /// Whether a group was told since the connection was made.
    told: bool,
    /// A group that was told and begins with its first frame, so that there is never an empty one.
    begins: Option<GroupHead>,
}

#[derive(Debug)]
struct Past {
    track: TrackId,
    head: GroupHead,
    missing: u64,
    frames: Vec<Arrived>,
}

impl Session {
    /// Whether everything that the source keeps is here.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// How many frames came, of live groups.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Takes a message that came after the answer.
    ///
    /// # Errors
    /// When it has no place there: give the connection up.
    pub(super) fn take(
        &mut self,
        message: Message,
        mirror: &mut Mirror,
        me: &NodeId,
    ) -> Result<Change, RelayError> {
        match message {
            Message::Track(config) => {
                let video = config.is_video();
                let index = self.lanes.iter().filter(|l| l.video == video).count() as u8;
                mirror.add_track(config).ok_or(RelayError::OutOfTurn)?;
                self.lanes.push(Lane { video, index, told: false, begins: None });
            }
            Message::Config { track, config } => mirror.set_config(track, config),
            Message::Segmentation(known) => mirror.set_segmentation(known),
            Message::Metadata(metadata) => mirror.set_metadata(metadata),
            Message::Group { track, head, from } => self.group(track, head, from, mirror)?,
            Message::Frame { track, arrived } => return self.frame(track, arrived, mirror),
            Message::Past { track, head, frames } => {
                let room = usize::try_from(frames).unwrap_or(0).min(1024);
                self.past = Some(Past { track, head, missing: frames, frames: Vec::with_capacity(room) });
                self.past_is_there(mirror);
            }
            Message::PastFrame(arrived) => {
                let past = self.past.as_mut().ok_or(RelayError::OutOfTurn)?;
                past.missing = past.missing.saturating_sub(1);
                past.frames.push(arrived);
                self.past_is_there(mirror);
            }
            Message::BackfillDone => {
                self.whole = true;
                mirror.backfilled();
            }
            Message::Interrupted(interrupted) => mirror.set_interrupted(interrupted),
            Message::Path(path) => {
                check_path(&path, me)?;
                return Ok(Change::Path(path));
            }
            Message::End(reason) => return Ok(Change::End(reason)),
            Message::Ping => {}
            Message::Said { from, text, payload } => return Ok(Change::Said { from, text, payload }),
            Message::Open(_)
            | Message::Accepted(_)
            | Message::Refused { .. }
            | Message::Needs { .. }
            | Message::WantKeyframe => return Err(RelayError::OutOfTurn),
        }
        Ok(Change::None)
    }

    fn group(
        &mut self,
        track: TrackId,
        head: GroupHead,
        from: u64,
        mirror: &mut Mirror,
    ) -> Result<(), RelayError> {
        let lane = self.lanes.get_mut(usize::from(track)).ok_or(RelayError::OutOfTurn)?;
        let first = !std::mem::replace(&mut lane.told, true);
        if from > 0 {
            let here =
                mirror.positions().into_iter().find(|p| (p.video, p.index) == (lane.video, lane.index));
            let stands = |p: &Position| (p.epoch, p.group) == head.stamp.place() && p.frames == from;
            match here.filter(stands) {
                // It is the newest group of the mirror already.
                Some(p) if first && p.epoch >= mirror.epoch() => return Ok(()),
                // The rest of a group that has been overtaken by another owner: refused when it begins.
                Some(_) if first => {}
                _ => return Err(RelayError::Misplaced),
            }
        }
        lane.begins = Some(head);
        Ok(())
    }

    fn frame(&mut self, track: TrackId, arrived: Arrived, mirror: &mut Mirror) -> Result<Change, RelayError> {
        let lane = self.lanes.get_mut(usize::from(track)).ok_or(RelayError::OutOfTurn)?;
        let before = mirror.epoch();
        if let Some(head) = lane.begins.take() {
            mirror.begin(track, head);
        }
        mirror.push(track, arrived);
        self.frames += 1;
        Ok(if mirror.epoch() > before { Change::Epoch } else { Change::None })
    }

    fn past_is_there(&mut self, mirror: &mut Mirror) {
        let Some(past) = self.past.take_if(|p| p.missing == 0) else { return };
        let bit = 1u32 << (past.track % 32);
        if self.full & bit == 0
            && !past.frames.is_empty()
            && !mirror.backfill(past.track, past.head, past.frames)
        {
            self.full |= bit;
        }
    }
}

/// Whether frames that come this way may be taken by this node.
pub(super) fn check_path(path: &[NodeId], me: &NodeId) -> Result<(), RelayError> {
    if path.contains(me) {
        return Err(RelayError::Loop);
    }
    if path.len() > MAX_HOPS {
        return Err(RelayError::TooFar { hops: path.len() });
    }
    Ok(())
}

/// What the mirror has, to tell the next source.
pub(super) fn held(mirror: &Mirror) -> Vec<Held> {
    let tracks = mirror.stream().tracks();
    let held = |newest: Position| {
        let of_kind = tracks.iter().filter(|t| t.config().is_video() == newest.video);
        let ring = &of_kind.clone().nth(usize::from(newest.index))?.ring;
        Some(Held { newest, oldest: ring.oldest(|_| true)?.head.stamp.place() })
    };
    mirror.positions().into_iter().filter_map(held).collect()
}

/// Whether a reader finds something on every track.
pub(super) fn has_all(stream: &Stream) -> bool {
    let tracks = stream.tracks();
    !tracks.is_empty() && tracks.iter().all(|t| t.ring.newest(|_| true).is_some_and(|g| !g.is_empty()))
}

/// Reads what is there; 0 when the other side is done. Cancelling it loses nothing.
pub(super) async fn read_some(io: &mut (impl AsyncRead + Unpin), decoder: &mut Decoder) -> io::Result<usize> {
    let n = io.read_buf(&mut decoder.room()).await?;
    decoder.read(n);
    Ok(n)
}
