use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use sluice_media::aside::Sender;
use sluice_media::segmentation::Wish;
use sluice_media::{
    Arrived, Frame, GroupHead, MetaValue, Origin, Position, Segmentation, Stamp, StreamKey, StreamSettings,
    Timestamp, TrackConfig, TrackId,
};

use super::fields::{Fields, VARINT, bound, number, time};
use super::message::{flag, kind};
use super::{Accepted, EndReason, Held, Message, OLDEST, Open, Refusal, VERSION, WireError, config, limits};

/// Read from a socket at once, at most.
const READ: usize = 64 << 10;
/// Memory is taken ahead for this much of a payload; a longer one gets more as it comes.
const AHEAD: usize = 1 << 20;
/// A longer payload is read from the socket into its own memory; a shorter one comes with what is around it.
const LARGE: usize = 4 << 10;
/// Payloads of up to a quarter of it share a block of this size.
const BLOCK: usize = 64 << 10;
const UNTOLD: WireError = WireError::Unexpected { what: "something of a track that was not told" };
/// A frame's fields.
const FRAME_FIELDS: usize = 1 + 3 * VARINT;

/// Reads messages from bytes as they come. One for each connection and direction.
#[derive(Debug, Default)]
pub struct Decoder {
    input: BytesMut,
    block: BytesMut,
    partial: Option<Partial>,
    tracks: Vec<Lane>,
    stamp: Option<Arc<Stamp>>,
    order: u64,
    past: Past,
}

/// A frame whose payload is still coming.
#[derive(Debug)]
struct Partial {
    frame: FrameHead,
    payload: BytesMut,
    missing: usize,
}

#[derive(Debug)]
struct Lane {
    config: Arc<TrackConfig>,
    last: Timestamp,
    // Of the group that began last.
    begun: bool,
    first: bool,
    frames: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Past {
    order: u64,
    last: Timestamp,
    first: bool,
    missing: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct FrameHead {
    past: bool,
    track: TrackId,
    keyframe: bool,
    order: u64,
    dts: Timestamp,
    pts: Timestamp,
}

impl Decoder {
    /// For a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where to read from the socket next: a large payload goes right where it stays.
    pub fn room(&mut self) -> Limit<&mut BytesMut> {
        match &mut self.partial {
            Some(partial) if partial.missing > LARGE => {
                if partial.payload.capacity() == partial.payload.len() {
                    partial.payload.reserve(partial.missing.min(AHEAD.max(partial.payload.len())));
                }
                let room = partial.missing;
                (&mut partial.payload).limit(room)
            }
            _ => {
                self.input.reserve(READ / 4);
                (&mut self.input).limit(READ)
            }
        }
    }

    /// After something was read into [`room`](Self::room).
    pub fn read(&mut self, n: usize) {
        if let Some(partial) = &mut self.partial
            && partial.missing > LARGE
        {
            partial.missing = partial.missing.saturating_sub(n);
        }
    }

    /// Takes a copy of bytes that were read elsewhere.
    pub fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut room = self.room();
            let n = bytes.len().min(room.remaining_mut());
            room.put_slice(&bytes[..n]);
            self.read(n);
            bytes = &bytes[n..];
        }
    }

    /// The next message, if all of it is there.
    ///
    /// # Errors
    /// When the peer does not keep to the format or its limits: give the connection up.
    pub fn message(&mut self) -> Result<Option<Message>, WireError> {
        if self.partial.is_some() {
            return Ok(self.finish_partial());
        }
        let mut head = Fields::new("head", &self.input);
        let Some((kind, length)) = opened(&mut head)? else { return Ok(None) };
        let used = self.input.len() - head.rest().len();
        if matches!(kind, kind::FRAME | kind::PAST_FRAME) {
            bound("length", length as u64, (FRAME_FIELDS + limits::PAYLOAD) as u64)?;
            let there = length.min(head.rest().len());
            if there < length.min(FRAME_FIELDS) {
                return Ok(None);
            }
            let mut fields = Fields::new("frame", &head.rest()[..there]);
            let frame = self.frame(kind == kind::PAST_FRAME, &mut fields)?;
            let fields_length = there - fields.rest().len();
            let missing = length - fields_length;
            self.count(&frame, missing)?;
            self.input.advance(used + fields_length);
            let mut payload = self.memory(missing);
            let here = missing.min(self.input.len());
            payload.extend_from_slice(&self.input[..here]);
            self.input.advance(here);
            self.partial = Some(Partial { frame, payload, missing: missing - here });
            return Ok(self.finish_partial());
        }
        bound("length", length as u64, limits::MESSAGE as u64)?;
        if head.rest().len() < length {
            return Ok(None);
        }
        self.input.advance(used);
        // Shared for as long as it is parsed, so that the rest of the buffer need not move.
        let body = self.input.split_to(length);
        self.plain(kind, &body).map(Some)
    }

    /// Room for a payload. Short ones share blocks: they come and go in order, so that a block lives little longer than
    /// its frames, and one allocation serves many.
    fn memory(&mut self, length: usize) -> BytesMut {
        if length > BLOCK / 4 {
            return BytesMut::with_capacity(length.min(AHEAD));
        }
        if self.block.capacity() < length {
            self.block = BytesMut::with_capacity(BLOCK);
        }
        let rest = self.block.split_off(length);
        std::mem::replace(&mut self.block, rest)
    }

    fn finish_partial(&mut self) -> Option<Message> {
        let partial = self.partial.as_mut()?;
        let here = partial.missing.min(self.input.len());
        if here > 0 {
            partial.payload.extend_from_slice(&self.input[..here]);
            partial.missing -= here;
            self.input.advance(here);
        }
        if partial.missing > 0 {
            return None;
        }
        let Partial { frame, payload, .. } = self.partial.take()?;
        let FrameHead { past, track, keyframe, order, dts, pts } = frame;
        let arrived = Arrived { order, frame: Frame { dts, pts, keyframe, payload: payload.freeze() } };
        Some(if past { Message::PastFrame(arrived) } else { Message::Frame { track, arrived } })
    }

    /// The fields in front of a payload.
    fn frame(&self, past: bool, fields: &mut Fields<'_>) -> Result<FrameHead, WireError> {
        let first = fields.u8()?;
        let track = first & !flag::KEYFRAME;
        let (order, last, first_of_group) = if past {
            if self.past.missing == 0 {
                return Err(WireError::Unexpected {
                    what: "a frame of an older group that has all of its frames",
                });
            }
            (self.past.order, self.past.last, self.past.first)
        } else {
            let lane = self.tracks.get(usize::from(track)).ok_or(UNTOLD)?;
            if !lane.begun {
                return Err(WireError::Unexpected { what: "a frame before the first group of its track" });
            }
            (self.order, lane.last, lane.first)
        };
        let order = number("count of frames", order.wrapping_add(fields.int()? as u64))?;
        let step = fields.int()?;
        if step <= 0 && !first_of_group {
            return Err(WireError::Unexpected { what: "a frame that is not later than the one before it" });
        }
        let dts = time("time of a frame", last.0.wrapping_add(step))?;
        let after = fields.uint()?;
        bound("time of a frame", after, limits::TIME as u64)?;
        let pts = time("time of a frame", dts.0.wrapping_add(after as i64))?;
        Ok(FrameHead { past, track, keyframe: first & flag::KEYFRAME != 0, order, dts, pts })
    }

    /// Counts a frame to its group.
    fn count(&mut self, frame: &FrameHead, size: usize) -> Result<(), WireError> {
        bound("payload", size as u64, limits::PAYLOAD as u64)?;
        let bytes = if frame.past {
            self.past.missing -= 1;
            (self.past.order, self.past.last, self.past.first) = (frame.order, frame.dts, false);
            &mut self.past.bytes
        } else {
            self.order = frame.order;
            let lane = lane(&mut self.tracks, frame.track)?;
            (lane.last, lane.first) = (frame.dts, false);
            lane.frames += 1;
            bound("number of frames in a group", lane.frames, limits::GROUP_FRAMES)?;
            &mut lane.bytes
        };
        *bytes += size as u64;
        bound("number of bytes in a group", *bytes, limits::GROUP_BYTES)
    }

    fn plain(&mut self, kind: u8, body: &[u8]) -> Result<Message, WireError> {
        let mut fields = Fields::new(name(kind), body);
        let f = &mut fields;
        let message = match kind {
            kind::OPEN => Message::Open(open(f)?),
            kind::ACCEPTED => Message::Accepted(accepted(f)?),
            kind::REFUSED => {
                let refusal = one_of("refusal", f.u8()?, &Refusal::ALL, Refusal::code)?;
                Message::Refused { refusal, text: f.text("reason", limits::TEXT)?.to_owned() }
            }
            kind::TRACK => {
                bound("number of tracks", self.tracks.len() as u64 + 1, limits::TRACKS as u64)?;
                let config = config::read(f)?;
                self.tracks.push(Lane {
                    config: Arc::new(config.clone()),
                    last: Timestamp::ZERO,
                    begun: false,
                    first: true,
                    frames: 0,
                    bytes: 0,
                });
                Message::Track(config)
            }
            kind::CONFIG => {
                let track = f.u8()?;
                let lane = lane(&mut self.tracks, track)?;
                let config = config::read(f)?;
                lane.config = Arc::new(config.clone());
                Message::Config { track, config }
            }
            kind::SEGMENTATION => Message::Segmentation(segmentation(f)?),
            kind::METADATA => Message::Metadata(metadata(f)?),
            kind::GROUP => self.group(f)?,
            kind::PAST => self.past(f)?,
            kind::BACKFILL_DONE => Message::BackfillDone,
            kind::INTERRUPTED => Message::Interrupted(f.flag("interruption")?),
            kind::PATH => Message::Path(f.path()?),
            kind::END => Message::End(one_of("end", f.u8()?, &EndReason::ALL, EndReason::code)?),
            kind::PING => Message::Ping,
            kind::NEEDS => match f.u8()? {
                bits @ 0..=3 => Message::Needs { aac: bits & 1 != 0, opus: bits & 2 != 0 },
                other => return Err(WireError::Invalid { what: "need", value: u64::from(other) }),
            },
            kind::WANT_KEYFRAME => Message::WantKeyframe,
            kind::SAID => {
                let from = match f.u8()? {
                    0 => Sender::Publisher,
                    1 => Sender::Player,
                    other => return Err(WireError::Invalid { what: "sender", value: u64::from(other) }),
                };
                let text = f.flag("kind of a message")?;
                let payload = if text {
                    Bytes::copy_from_slice(f.text("message", limits::DATA)?.as_bytes())
                } else {
                    f.own_bytes("message", limits::DATA)?
                };
                Message::Said { from, text, payload }
            }
            other => return Err(WireError::Invalid { what: "kind", value: u64::from(other) }),
        };
        fields.done()?;
        Ok(message)
    }

    fn group(&mut self, f: &mut Fields<'_>) -> Result<Message, WireError> {
        let (track, flags) = (f.u8()?, f.u8()?);
        let lane = lane(&mut self.tracks, track)?;
        let stamp = if flags & flag::SAME_STAMP == 0 {
            Arc::new(f.stamp()?)
        } else {
            self.stamp.clone().ok_or(WireError::Unexpected { what: "a group with the stamp of none" })?
        };
        let from = if flags & flag::FROM == 0 { 0 } else { f.uint()? };
        bound("number of frames in a group", from, limits::GROUP_FRAMES)?;
        if flags & flag::CONFIG != 0 {
            lane.config = Arc::new(config::read(f)?);
        }
        (lane.begun, lane.first, lane.last, lane.frames, lane.bytes) = (true, true, stamp.start, from, 0);
        self.stamp = Some(stamp.clone());
        let head = head(stamp, lane.config.clone(), flags);
        Ok(Message::Group { track, head, from })
    }

    fn past(&mut self, f: &mut Fields<'_>) -> Result<Message, WireError> {
        if self.past.missing > 0 {
            return Err(WireError::Unexpected { what: "an older group before all frames of the last one" });
        }
        let (track, flags) = (f.u8()?, f.u8()?);
        let lane = lane(&mut self.tracks, track)?;
        let stamp = Arc::new(f.stamp()?);
        let frames = f.count("number of frames in a group", limits::GROUP_FRAMES as usize)? as u64;
        // It does not count as the one told last: live groups go on with theirs.
        let config = if flags & flag::CONFIG == 0 { lane.config.clone() } else { Arc::new(config::read(f)?) };
        self.past = Past { order: 0, last: stamp.start, first: true, missing: frames, bytes: 0 };
        let head = head(stamp, config, flags);
        Ok(Message::Past { track, head, frames })
    }
}

fn head(stamp: Arc<Stamp>, config: Arc<TrackConfig>, flags: u8) -> GroupHead {
    let (independent, leads) = (flags & flag::INDEPENDENT != 0, flags & flag::FOLLOWS == 0);
    GroupHead { stamp, config, independent, leads }
}

/// Kind and length of a message, when they are there.
fn opened(head: &mut Fields<'_>) -> Result<Option<(u8, usize)>, WireError> {
    let enough = head.rest().iter().skip(1).take(VARINT).any(|b| *b < 0x80) || head.rest().len() > VARINT;
    if !enough {
        return Ok(None);
    }
    let (kind, length) = (head.u8()?, head.uint()?);
    bound("length", length, (FRAME_FIELDS + limits::PAYLOAD) as u64)?;
    Ok(Some((kind, length as usize)))
}

fn name(kind: u8) -> &'static str {
    match kind {
        kind::OPEN => "question",
        kind::ACCEPTED => "answer",
        kind::REFUSED => "refusal",
        kind::TRACK | kind::CONFIG => "track",
        kind::SEGMENTATION => "segmentation",
        kind::METADATA => "metadata",
        kind::GROUP | kind::PAST => "group",
        kind::PATH => "path",
        _ => "body",
    }
}

fn lane(tracks: &mut [Lane], track: TrackId) -> Result<&mut Lane, WireError> {
    tracks.get_mut(usize::from(track)).ok_or(UNTOLD)
}

fn one_of<T: Copy>(
    what: &'static str,
    code: u8,
    all: &[T],
    code_of: impl Fn(T) -> u8,
) -> Result<T, WireError> {
    let found = all.iter().copied().find(|t| code_of(*t) == code);
    found.ok_or(WireError::Invalid { what, value: u64::from(code) })
}

/// A length that something may be divided by.
fn some_time(what: &'static str, f: &mut Fields<'_>) -> Result<Duration, WireError> {
    let micros = f.uint()?;
    bound(what, micros, limits::RETAIN_SECONDS * 1_000_000)?;
    if micros == 0 {
        return Err(WireError::Invalid { what, value: 0 });
    }
    Ok(Duration::from_micros(micros))
}

fn segmentation(f: &mut Fields<'_>) -> Result<Segmentation, WireError> {
    let (target_duration, part_target) = (some_time("target duration", f)?, some_time("part target", f)?);
    Ok(Segmentation { target_duration, part_target })
}

fn open(f: &mut Fields<'_>) -> Result<Open, WireError> {
    let theirs = f.u8()?;
    if !(OLDEST..=VERSION).contains(&theirs) {
        return Err(WireError::Version { theirs });
    }
    let key = StreamKey::new(f.name("app")?, f.name("stream id")?);
    let node = crate::member::NodeId(f.name("node id")?);
    let backfill = f.flag("wish for older groups")?;
    let n = f.count("number of tracks", limits::TRACKS)?;
    let held = (0..n).map(|_| {
        let (video, index) = (f.flag("kind of a track")?, f.u8()?);
        let (epoch, group) = (f.epoch()?, f.number("group number")?);
        let frames = f.count("number of frames in a group", limits::GROUP_FRAMES as usize)? as u64;
        let oldest = (f.epoch()?, f.number("group number")?);
        Ok(Held { newest: Position { video, index, epoch, group, frames }, oldest })
    });
    let held = held.collect::<Result<_, WireError>>()?;
    Ok(Open { version: theirs, key, node, backfill, held })
}

fn accepted(f: &mut Fields<'_>) -> Result<Accepted, WireError> {
    let origin = Origin {
        epoch: f.epoch()?,
        media_sequence: f.number("media sequence")?,
        discontinuity_sequence: f.number("discontinuity sequence")?,
        timeline: f.time("start of the timeline")?,
        segmentation: if f.flag("known segmentation")? { Some(segmentation(f)?) } else { None },
    };
    let wish = Wish { segment: some_time("segment length", f)?, part: some_time("part length", f)? };
    let retain = f.uint()?;
    bound("time that is kept", retain, limits::RETAIN_SECONDS * 1_000_000)?;
    let retain_bytes = f.uint()?;
    bound("number of bytes that are kept", retain_bytes, limits::RETAIN_BYTES)?;
    let settings = StreamSettings { wish, retain: Duration::from_micros(retain), retain_bytes };
    let started = f.uint()?;
    bound("start of the stream", started, limits::WALL_SECONDS as u64 * 1000)?;
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(started);
    let hls: Bytes = f.own_bytes("packaging", limits::HLS)?;
    Ok(Accepted { origin, settings, started, hls, path: f.path()? })
}

fn metadata(f: &mut Fields<'_>) -> Result<Vec<(String, MetaValue)>, WireError> {
    bound("metadata", f.rest().len() as u64, 2 * limits::METADATA as u64)?;
    let n = f.count("number of metadata", limits::METADATA_VALUES)?;
    let value = |_| {
        let key = f.text("metadata", limits::METADATA)?.to_owned();
        let value = match f.u8()? {
            0 => {
                let bytes = f.take(8)?.try_into().map_err(|_| WireError::Truncated { what: "metadata" })?;
                MetaValue::Number(f64::from_le_bytes(bytes))
            }
            1 => MetaValue::Text(f.text("metadata", limits::METADATA)?.to_owned()),
            2 => MetaValue::Flag(f.flag("metadata")?),
            other => return Err(WireError::Invalid { what: "kind of metadata", value: u64::from(other) }),
        };
        Ok((key, value))
    };
    (0..n).map(value).collect()
}
