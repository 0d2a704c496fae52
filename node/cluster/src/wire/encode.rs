use std::sync::Arc;
use std::time::SystemTime;

use sluice_media::aside::Sender;
use sluice_media::{Arrived, GroupHead, MetaValue, Segmentation, Stamp, Timestamp, TrackConfig};

use super::fields::{VARINT, bound, put_bytes, put_int, put_path, put_stamp, put_uint};
use super::message::{flag, kind};
use super::{Accepted, Batch, Message, Open, WireError, config, limits};

/// Writes messages. One for each connection and direction, as it leaves out what the other side knows already.
#[derive(Debug, Default)]
pub struct Encoder {
    batch: Batch,
    body: Vec<u8>,
    tracks: Vec<Lane>,
    stamp: Option<Arc<Stamp>>,
    order: u64,
    past: (u64, Timestamp),
}

#[derive(Debug)]
struct Lane {
    config: Arc<TrackConfig>,
    last: Timestamp,
}

impl Encoder {
    /// For a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written and is not sent yet.
    pub fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Appends a message.
    ///
    /// # Errors
    /// When it is larger than the other side takes, or is for a track that was not told. Nothing is written then.
    pub fn encode(&mut self, message: Message) -> Result<(), WireError> {
        self.body.clear();
        match message {
            Message::Frame { track, arrived } => self.frame(track, arrived),
            Message::PastFrame(arrived) => {
                let (order, last) = self.past;
                self.past = (arrived.order, arrived.frame.dts);
                self.put_frame(kind::PAST_FRAME, 0, order, last, arrived)
            }
            other => {
                let kind = self.plain(other)?;
                bound("length", self.body.len() as u64, limits::MESSAGE as u64)?;
                let mut head = [0; 1 + VARINT];
                let n = fill(&mut head, |out| {
                    bytes::BufMut::put_u8(out, kind);
                    put_uint(out, self.body.len() as u64);
                });
                self.batch.put(&head[..n]);
                self.batch.put(&self.body);
                Ok(())
            }
        }
    }

    /// Fills in the body of a message that has no payload; gives its kind.
    fn plain(&mut self, message: Message) -> Result<u8, WireError> {
        let out = &mut self.body;
        Ok(match message {
            Message::Open(open) => {
                put_open(out, &open)?;
                kind::OPEN
            }
            Message::Accepted(accepted) => {
                put_accepted(out, &accepted)?;
                kind::ACCEPTED
            }
            Message::Refused { refusal, text } => {
                out.push(refusal.code());
                let end = text.floor_char_boundary(limits::TEXT);
                put_bytes(out, "reason", &text.as_bytes()[..end], limits::TEXT)?;
                kind::REFUSED
            }
            Message::Track(config) => {
                bound("number of tracks", self.tracks.len() as u64 + 1, limits::TRACKS as u64)?;
                config::put(out, &config)?;
                self.tracks.push(Lane { config: Arc::new(config), last: Timestamp::ZERO });
                kind::TRACK
            }
            Message::Config { track, config } => {
                out.push(track);
                config::put(out, &config)?;
                lane(&mut self.tracks, track)?.config = Arc::new(config);
                kind::CONFIG
            }
            Message::Segmentation(s) => {
                put_segmentation(out, s);
                kind::SEGMENTATION
            }
            Message::Metadata(metadata) => {
                put_metadata(out, metadata)?;
                kind::METADATA
            }
            Message::Group { track, head, from } => {
                self.group(track, &head, from)?;
                kind::GROUP
            }
            Message::Needs { aac, opus } => {
                out.push(u8::from(aac) | u8::from(opus) << 1);
                kind::NEEDS
            }
            Message::WantKeyframe => kind::WANT_KEYFRAME,
            Message::Said { from, text, payload } => {
                out.push(match from {
                    Sender::Publisher => 0,
                    Sender::Player => 1,
                });
                out.push(u8::from(text));
                put_bytes(out, "message", &payload, limits::DATA)?;
                kind::SAID
            }
            Message::Past { track, head, frames } => {
                self.past(track, &head, frames)?;
                kind::PAST
            }
            Message::BackfillDone => kind::BACKFILL_DONE,
            Message::Interrupted(interrupted) => {
                out.push(u8::from(interrupted));
                kind::INTERRUPTED
            }
            Message::Path(path) => {
                put_path(out, &path)?;
                kind::PATH
            }
            Message::End(reason) => {
                out.push(reason.code());
                kind::END
            }
            // Frames have a way of their own.
            Message::Ping | Message::Frame { .. } | Message::PastFrame(_) => kind::PING,
        })
    }

    fn group(&mut self, track: u8, head: &GroupHead, from: u64) -> Result<(), WireError> {
        let lane = lane(&mut self.tracks, track)?;
        let known = same(&lane.config, &head.config);
        let stamp = self.stamp.as_ref().is_some_and(|s| Arc::ptr_eq(s, &head.stamp) || **s == *head.stamp);
        let out = &mut self.body;
        out.push(track);
        out.push(
            if head.independent { flag::INDEPENDENT } else { 0 }
                | if known { 0 } else { flag::CONFIG }
                | if stamp { flag::SAME_STAMP } else { 0 }
                | if from > 0 { flag::FROM } else { 0 }
                | if head.leads { 0 } else { flag::FOLLOWS },
        );
        if !stamp {
            put_stamp(out, &head.stamp);
        }
        if from > 0 {
            put_uint(out, from);
        }
        if !known {
            config::put(out, &head.config)?;
            lane.config = head.config.clone();
        }
        lane.last = head.stamp.start;
        self.stamp = Some(head.stamp.clone());
        Ok(())
    }

    fn past(&mut self, track: u8, head: &GroupHead, frames: u64) -> Result<(), WireError> {
        bound("number of frames", frames, limits::GROUP_FRAMES)?;
        let known = same(&lane(&mut self.tracks, track)?.config, &head.config);
        let out = &mut self.body;
        out.push(track);
        out.push(
            if head.independent { flag::INDEPENDENT } else { 0 }
                | if known { 0 } else { flag::CONFIG }
                | if head.leads { 0 } else { flag::FOLLOWS },
        );
        put_stamp(out, &head.stamp);
        put_uint(out, frames);
        if !known {
            config::put(out, &head.config)?;
        }
        self.past = (0, head.stamp.start);
        Ok(())
    }

    fn frame(&mut self, track: u8, arrived: Arrived) -> Result<(), WireError> {
        let lane = lane(&mut self.tracks, track)?;
        let (order, last) = (self.order, lane.last);
        lane.last = arrived.frame.dts;
        self.order = arrived.order;
        self.put_frame(kind::FRAME, track, order, last, arrived)
    }

    fn put_frame(
        &mut self,
        kind: u8,
        track: u8,
        order: u64,
        last: Timestamp,
        Arrived { order: now, frame }: Arrived,
    ) -> Result<(), WireError> {
        bound("payload", frame.payload.len() as u64, limits::PAYLOAD as u64)?;
        let mut fields = [0; 1 + 3 * VARINT];
        let n = fill(&mut fields, |out| {
            bytes::BufMut::put_u8(out, track | if frame.keyframe { flag::KEYFRAME } else { 0 });
            put_int(out, now.wrapping_sub(order) as i64);
            put_int(out, frame.dts.0.wrapping_sub(last.0));
            // Never before it is decoded.
            put_uint(out, u64::try_from(frame.pts - frame.dts).unwrap_or(0));
        });
        let mut head = [0; 1 + VARINT];
        let h = fill(&mut head, |out| {
            bytes::BufMut::put_u8(out, kind);
            put_uint(out, (n + frame.payload.len()) as u64);
        });
        self.batch.put(&head[..h]);
        self.batch.put(&fields[..n]);
        self.batch.put_payload(frame.payload);
        Ok(())
    }
}

/// Writes into an array that is large enough; gives how much.
fn fill(array: &mut [u8], write: impl FnOnce(&mut &mut [u8])) -> usize {
    let all = array.len();
    let mut rest = array;
    write(&mut rest);
    all - rest.len()
}

fn lane(tracks: &mut [Lane], track: u8) -> Result<&mut Lane, WireError> {
    tracks
        .get_mut(usize::from(track))
        .ok_or(WireError::Unexpected { what: "something of a track that was not told" })
}

fn same(a: &Arc<TrackConfig>, b: &Arc<TrackConfig>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

fn put_segmentation(out: &mut Vec<u8>, s: Segmentation) {
    put_uint(out, s.target_duration.as_micros() as u64);
    put_uint(out, s.part_target.as_micros() as u64);
}

fn put_open(out: &mut Vec<u8>, open: &Open) -> Result<(), WireError> {
    out.push(open.version);
    put_bytes(out, "app", open.key.app.as_bytes(), limits::NAME)?;
    put_bytes(out, "stream id", open.key.id.as_bytes(), limits::NAME)?;
    put_bytes(out, "node id", open.node.as_str().as_bytes(), limits::NAME)?;
    out.push(u8::from(open.backfill));
    bound("number of tracks", open.held.len() as u64, limits::TRACKS as u64)?;
    put_uint(out, open.held.len() as u64);
    for held in &open.held {
        out.push(u8::from(held.newest.video));
        out.push(held.newest.index);
        put_uint(out, held.newest.epoch);
        put_uint(out, held.newest.group);
        put_uint(out, held.newest.frames.min(limits::GROUP_FRAMES));
        put_uint(out, held.oldest.0);
        put_uint(out, held.oldest.1);
    }
    Ok(())
}

fn put_accepted(out: &mut Vec<u8>, accepted: &Accepted) -> Result<(), WireError> {
    let Accepted { origin, settings, started, hls, path } = accepted;
    put_uint(out, origin.epoch);
    put_uint(out, origin.media_sequence);
    put_uint(out, origin.discontinuity_sequence);
    put_int(out, origin.timeline.0);
    out.push(u8::from(origin.segmentation.is_some()));
    if let Some(known) = origin.segmentation {
        put_segmentation(out, known);
    }
    put_uint(out, settings.wish.segment.as_micros() as u64);
    put_uint(out, settings.wish.part.as_micros() as u64);
    put_uint(out, (settings.retain.as_micros() as u64).min(limits::RETAIN_SECONDS * 1_000_000));
    put_uint(out, settings.retain_bytes.min(limits::RETAIN_BYTES));
    // As it is shown, and no finer.
    let millis = started.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    put_uint(out, millis);
    put_bytes(out, "packaging", hls, limits::HLS)?;
    put_path(out, path)
}

/// What does not fit is left out: it is for show.
fn put_metadata(out: &mut Vec<u8>, metadata: Vec<(String, MetaValue)>) -> Result<(), WireError> {
    let mut room = limits::METADATA;
    let size = |key: &str, value: &MetaValue| {
        key.len() + 16 + if let MetaValue::Text(t) = value { t.len() } else { 0 }
    };
    let fitting: Vec<_> = metadata
        .into_iter()
        .take(limits::METADATA_VALUES)
        .take_while(|(k, v)| {
            let left = room.checked_sub(size(k, v));
            room = left.unwrap_or(0);
            left.is_some()
        })
        .collect();
    put_uint(out, fitting.len() as u64);
    for (key, value) in fitting {
        put_bytes(out, "metadata", key.as_bytes(), limits::METADATA)?;
        match value {
            MetaValue::Number(n) => {
                out.push(0);
                out.extend_from_slice(&n.to_le_bytes());
            }
            MetaValue::Text(text) => {
                out.push(1);
                put_bytes(out, "metadata", text.as_bytes(), limits::METADATA)?;
            }
            MetaValue::Flag(flag) => out.extend_from_slice(&[2, u8::from(flag)]),
        }
    }
    Ok(())
}
