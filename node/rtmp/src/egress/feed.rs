//! One stream as RTMP messages, made once for all its players.
//!
//! Each message starts with a full header, fixed ids and an absolute timestamp, and the chunk size is the same
//! for everybody, so the bytes depend on no player. What a newcomer needs first (metadata and sequence
//! headers) stands in the head of each group.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::{Bytes, BytesMut};
use sluice_media::aside::Need;
use sluice_media::ring::{self, Retention, Ring};
use sluice_media::{
    AudioCodec, Event, Frame, GroupHead, MetaValue, Reader, Start, Stream, StreamKey, Timestamp, TrackConfig,
    TrackId,
};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::metadata::on_metadata;
use crate::chunk::{self, OUR_CHUNK_SIZE, Outgoing};
use crate::message::kind;
use crate::session::STREAM_ID;
use crate::{flv, limits};

const AUDIO_CSID: u8 = 4;
const VIDEO_CSID: u8 = 6;
const DATA_CSID: u8 = 5;

/// The start of a group of messages.
#[derive(Debug)]
pub(crate) struct Head {
    start: Timestamp,
    independent: bool,
    /// Metadata and sequence headers, as messages.
    pub(crate) prologue: Bytes,
    /// Whether the prologue tells players that are there already something new.
    pub(crate) changed: bool,
}

impl ring::Head for Head {
    fn start(&self) -> Timestamp {
        self.start
    }
    fn independent(&self) -> bool {
        self.independent
    }
}

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    Video,
}

/// Messages as they go over the wire, those that players are woken for together: each player then has one
/// buffer to send.
#[derive(Debug)]
pub(crate) struct Batch {
    time: Timestamp,
    pub(crate) bytes: Bytes,
    /// The lengths of the messages in it.
    parts: Box<[(Kind, u32)]>,
}

impl Batch {
    /// The messages of the wanted kinds.
    pub(crate) fn only(&self, audio: bool, video: bool) -> impl Iterator<Item = Bytes> {
        let mut end = 0;
        self.parts.iter().filter_map(move |(kind, length)| {
            let start = end;
            end += *length as usize;
            let wanted = match kind {
                Kind::Audio => audio,
                Kind::Video => video,
            };
            wanted.then(|| self.bytes.slice(start..end))
        })
    }
}

impl ring::Item for Batch {
    fn time(&self) -> Timestamp {
        self.time
    }
    fn size(&self) -> usize {
        self.bytes.len()
    }
}

pub(crate) type FeedRing = Ring<Head, Batch>;

/// A stream as messages, for as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) stream: Arc<Stream>,
    pub(crate) ring: Arc<FeedRing>,
    task: AbortHandle,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The feeds that have players.
#[derive(Debug, Default)]
pub(crate) struct Feeds(Mutex<HashMap<StreamKey, Weak<Feed>>>);

impl Feeds {
    /// The feed of a stream; the first player starts it.
    pub(crate) fn join(&self, stream: &Arc<Stream>) -> Arc<Feed> {
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feeds.get(stream.key()).and_then(Weak::upgrade)
            && Arc::ptr_eq(&feed.stream, stream)
        {
            return feed;
        }
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let retention = Retention { time: limits::FEED_TIME, bytes: limits::FEED_BYTES };
        let ring = Arc::new(Ring::new(retention, Arc::new(Notify::new())));
        let reader = stream.subscribe(Start::Newest, limits::PLAYER_LAG);
        let task = tokio::spawn(Writer::new(stream.clone(), ring.clone()).run(reader)).abort_handle();
        let feed = Arc::new(Feed { stream: stream.clone(), ring, task });
        feeds.insert(stream.key().clone(), Arc::downgrade(&feed));
        feed
    }

    /// Wakes all players, so that they look around.
    pub(crate) fn wake(&self) {
        let feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.values().filter_map(Weak::upgrade).for_each(|feed| feed.ring.wake());
    }
}

/// Turns the events of a stream into messages.
struct Writer {
    stream: Arc<Stream>,
    ring: Arc<FeedRing>,
    video: Option<Lane>,
    audio: Option<Lane>,
    said: Arc<Vec<(String, MetaValue)>>,
    /// Since when AAC is waited for, because the publisher sends Opus, which few players take.
    waiting: Option<(Timestamp, Need)>,
    /// Sound that joins later begins here: what is before it is over.
    sound_from: Option<Timestamp>,
    /// Players have not been told all of what there is in metadata.
    renewed: bool,
    /// Where the present group started, and where the newest picture is.
    group_start: Option<Timestamp>,
    newest_picture: Option<Timestamp>,
    /// The batch being made.
    bytes: BytesMut,
    parts: Vec<(Kind, u32)>,
    time: Timestamp,
}

/// The one track of its kind that RTMP carries.
struct Lane {
    track: TrackId,
    /// The configuration that players were told last.
    config: Arc<TrackConfig>,
}

/// What was written since players were woken last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fresh {
    Nothing,
    /// Only audio of a stream with pictures: it can wait for the next one.
    CanWait,
    Urgent,
}

impl Writer {
    fn new(stream: Arc<Stream>, ring: Arc<FeedRing>) -> Self {
        Writer {
            stream,
            ring,
            video: None,
            audio: None,
            said: Arc::default(),
            waiting: None,
            sound_from: None,
            renewed: false,
            group_start: None,
            newest_picture: None,
            bytes: BytesMut::new(),
            parts: Vec::new(),
            time: Timestamp::ZERO,
        }
    }

    async fn run(mut self, mut reader: Reader) {
        let mut held_until: Option<Instant> = None;
        loop {
            let mut event = match held_until {
                None => Some(reader.next().await),
                Some(deadline) => tokio::select! {
                    biased;
                    event = reader.next() => Some(event),
                    () = sleep_until(deadline) => None,
                },
            };
            let expired = event.is_none();
            let mut fresh = Fresh::Nothing;
            while let Some(next) = event {
                match self.event(next) {
                    None => {
                        self.put();
                        return self.ring.end();
                    }
                    Some(Fresh::Urgent) => fresh = Fresh::Urgent,
                    Some(Fresh::CanWait) if fresh == Fresh::Nothing => fresh = Fresh::CanWait,
                    Some(_) => {}
                }
                event = reader.try_next();
            }
            if expired || fresh == Fresh::Urgent {
                self.put();
                self.ring.wake();
                held_until = None;
            } else if fresh == Fresh::CanWait && held_until.is_none() {
                held_until = Some(Instant::now() + limits::AUDIO_WAIT);
            }
        }
    }

    /// Writes what an event tells; nothing at the end.
    fn event(&mut self, event: Event) -> Option<Fresh> {
        match event {
            Event::Group { track, group } => {
                self.group(track, &group.head);
                Some(Fresh::Nothing)
            }
            Event::Frame { track, frame } => Some(self.frame(track, &frame)),
            // The next group is independent, so players can go on with it as if nothing had been.
            Event::Skipped { .. } => Some(Fresh::Nothing),
            Event::End => None,
        }
    }

    fn group(&mut self, track: TrackId, head: &GroupHead) {
        let (config, start, independent) = (&head.config, head.stamp.start, head.independent);
        // Of several renditions RTMP carries the one that leads.
        let carried = match config.is_video() {
            true => head.leads,
            false => self.plays(track, config, start),
        };
        if !carried {
            return;
        }
        let lane = if config.is_video() { &mut self.video } else { &mut self.audio };
        let changed = match lane {
            Some(lane) if lane.track == track => lane.config != *config,
            Some(_) if config.is_video() => true,
            // Sound in the midst of a group is new to players that are there.
            _ => self.group_start.is_some() && !config.is_video(),
        };
        if !config.is_video() && lane.as_ref().is_none_or(|l| l.track != track) {
            self.sound_from = self.newest_picture;
            self.renewed = changed;
        }
        *lane = Some(Lane { track, config: config.clone() });
        let begins = if config.is_video() {
            true
        } else {
            // Audio leads where there is no picture, or where pictures stopped coming.
            self.video.is_none() || self.newest_picture.is_none_or(|t| start - t > 1_000_000)
        };
        if begins {
            self.begin(start, independent, changed);
        } else if changed {
            // A sequence header in the middle of a group.
            let (config, at) = (config.clone(), self.sound_from.map_or(start, |from| from.max(start)));
            self.add(at, Kind::Audio, |out| sequence_header(out, &config, at));
        }
    }

    /// Whether players get this sound: AAC or MP3, the publisher's own before what is made of it; Opus when AAC was
    /// asked for and does not come.
    fn plays(&mut self, track: TrackId, config: &TrackConfig, start: Timestamp) -> bool {
        let present = self.audio.as_ref().map(|l| (l.track, is_opus(&l.config)));
        if is_opus(config) {
            match present {
                // Another codec is there.
                Some((other, false)) if other != track => return false,
                // A second track of Opus.
                Some((other, true)) if other != track => return false,
                _ => {}
            }
            let (since, _) =
                self.waiting.get_or_insert_with(|| (start, Need::new(self.stream.clone(), AudioCodec::Aac)));
            let given_up = start - *since > limits::WAIT_FOR_AAC.as_micros() as i64;
            if !given_up {
                self.audio = None;
            }
            return given_up;
        }
        match present {
            Some((other, false)) if other < track => return false,
            // The publisher's own again: nothing need be made of it.
            Some((other, false)) if other > track => self.waiting = None,
            _ => {}
        }
        true
    }

    fn begin(&mut self, start: Timestamp, independent: bool, mut changed: bool) {
        // Tracks that the reader has not come to yet.
        for video in [true, false] {
            let first = self.stream.tracks().into_iter().find(|t| t.config().is_video() == video);
            let lane = if video { &mut self.video } else { &mut self.audio };
            let Some(track) = first.filter(|_| lane.is_none()) else { continue };
            let config = track.config();
            if is_opus(&config) {
                // It need not wait for the reader to come there.
                self.waiting.get_or_insert_with(|| (start, Need::new(self.stream.clone(), AudioCodec::Aac)));
            } else {
                *lane = Some(Lane { track: track.id, config });
                changed = true;
            }
        }
        changed |= mem::take(&mut self.renewed);
        let said = self.stream.metadata();
        changed |= !Arc::ptr_eq(&said, &self.said);
        self.said = said;
        let lanes = [&self.video, &self.audio];
        let configs: Vec<_> = lanes.into_iter().flatten().map(|l| l.config.clone()).collect();
        let mut out = BytesMut::new();
        let mut body = BytesMut::new();
        on_metadata(&configs, &self.said).iter().for_each(|v| v.encode(&mut body));
        // At time 0 whenever it is: FFmpeg takes metadata at another time for subtitles.
        write(&mut out, DATA_CSID, kind::DATA, Timestamp::ZERO, &[&body]);
        configs.iter().for_each(|c| sequence_header(&mut out, c, start));
        let changed = changed && self.group_start.is_some();
        self.put();
        self.ring.begin(Head { start, independent, prologue: out.freeze(), changed });
        self.group_start = Some(start);
    }

    fn frame(&mut self, track: TrackId, frame: &Frame) -> Fresh {
        let (lane, kind) = match (&self.video, &self.audio) {
            (Some(lane), _) if lane.track == track => (lane, Kind::Video),
            (_, Some(lane)) if lane.track == track => (lane, Kind::Audio),
            _ => return Fresh::Nothing,
        };
        if kind == Kind::Audio && self.sound_from.is_some_and(|from| frame.dts < from) {
            return Fresh::Nothing;
        }
        let config = lane.config.clone();
        let (header, csid, type_id) = match &*config {
            TrackConfig::Video(v) => {
                let composition = (frame.pts.as_millis() - frame.dts.as_millis()) as i32;
                (flv::video_header(v.codec, frame.keyframe, composition), VIDEO_CSID, kind::VIDEO)
            }
            TrackConfig::Audio(a) => (flv::audio_header(a), AUDIO_CSID, kind::AUDIO),
        };
        self.add(frame.dts, kind, |out| write(out, csid, type_id, frame.dts, &[&header, &frame.payload]));
        match kind {
            Kind::Video => {
                self.newest_picture = Some(frame.dts);
                Fresh::Urgent
            }
            Kind::Audio if self.newest_picture.is_some() => Fresh::CanWait,
            Kind::Audio => Fresh::Urgent,
        }
    }

    /// Adds a message to the batch.
    fn add(&mut self, time: Timestamp, kind: Kind, write: impl FnOnce(&mut BytesMut)) {
        if self.parts.is_empty() {
            self.time = time;
        }
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.parts.push((kind, (self.bytes.len() - before) as u32));
        if self.bytes.len() >= limits::FEED_BATCH {
            self.put();
        }
    }

    /// Puts the batch where players see it.
    fn put(&mut self) {
        if !self.parts.is_empty() {
            let bytes = mem::take(&mut self.bytes).freeze();
            self.ring.push(Batch { time: self.time, bytes, parts: self.parts.as_slice().into() });
            self.parts.clear();
        }
    }
}

fn is_opus(config: &TrackConfig) -> bool {
    matches!(config, TrackConfig::Audio(a) if a.codec == AudioCodec::Opus)
}

fn sequence_header(out: &mut BytesMut, config: &TrackConfig, time: Timestamp) {
    match config {
        TrackConfig::Video(v) => write(out, VIDEO_CSID, kind::VIDEO, time, &[&flv::video_config(v)]),
        TrackConfig::Audio(a) => {
            if let Some(body) = flv::audio_config(a) {
                write(out, AUDIO_CSID, kind::AUDIO, time, &[&body]);
            }
        }
    }
}

fn write(out: &mut BytesMut, csid: u8, type_id: u8, time: Timestamp, parts: &[&[u8]]) {
    // The stream's own timeline, modulo 2^32 milliseconds.
    let timestamp = time.as_millis() as u32;
    chunk::write(out, csid, OUR_CHUNK_SIZE, Outgoing { timestamp, type_id, stream_id: STREAM_ID }, parts);
}

#[cfg(test)]
mod tests;
