//! The writing side of a stream.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::segmentation::{Reference, Stamper};
use crate::stream::{MetaValue, StopReason, Stream, Track};
use crate::timeline::{Timeline, gap};
use crate::{Arrived, Frame, GroupHead, Hub, Origin, Stamp, Timestamp, TrackConfig, TrackId};

/// Without video so far, and without word of it, audio waits this long before it goes alone.
const VIDEO_MAY_COME: Duration = Duration::from_secs(1);
/// When video was announced, audio waits this long for its first keyframe.
const VIDEO_MUST_COME: Duration = Duration::from_secs(5);
/// When this much audio has come since the last picture, video does not hold segments up any more.
const VIDEO_SILENT: Duration = Duration::from_millis(400);
/// A group larger than this is split.
const LARGEST_GROUP: u64 = 32 << 20;
/// Frames that wait at the start at most.
const WAITING: usize = 512;
/// And their bytes.
const WAITING_BYTES: usize = 4 << 20;
/// Groups that a track may be behind the others.
const PENDING: usize = 64;
/// A keyframe of another rendition waits this long for the picture of the first one that it belongs to.
const TOGETHER: Duration = Duration::from_millis(150);
/// Frames that wait so at most.
const HELD: usize = 256;
/// After this long without a frame a video track does not lead the others any more.
const NO_LEADER: Duration = Duration::from_millis(1500);
/// So many frames of another one have to come meanwhile: where pictures seldom change, all tracks pause.
const WITHOUT_LEADER: u32 = 8;
/// A better one leads again when it has gone on for this long: one that comes and goes would break the stream off each time.
const BACK: Duration = Duration::from_secs(5);
/// It does at once so soon after the beginning, when the layers of a publisher come one after the other. A track that was added and
/// is still to come is waited for as long: until then another one begins the groups, and is not shown.
const START: Duration = Duration::from_secs(3);
/// Between two wishes for a keyframe to lead with.
const WISH: Duration = Duration::from_secs(1);
/// The same picture in two renditions has times that differ by less.
const SAME: Duration = Duration::from_millis(8);

/// The stream has ended, or somebody else writes it now: stop sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream has ended: disconnect the publisher")]
pub struct Ended;

/// What outlives one publisher and is handed to the one that takes the stream up again.
#[derive(Debug)]
pub(crate) struct Writer {
    stamper: Stamper,
    tracks: Vec<Lane>,
    stamp: Option<Arc<Stamp>>,
    order: u64,
    newest: Option<(Timestamp, Instant)>,
    leader: Option<Leader>,
    // When a keyframe was wished for last.
    wished: Option<Timestamp>,
}

/// The video track that leads the others.
#[derive(Clone, Copy, Debug)]
struct Leader {
    lane: usize,
    // Since when the present publisher has pictures.
    start: Timestamp,
    // Until a better one comes: nobody is shown it yet.
    provisional: bool,
}

/// The writer's side of a track.
#[derive(Debug)]
struct Lane {
    track: Arc<Track>,
    config: Arc<TrackConfig>,
    // Stamps that began since this track's newest group, oldest first.
    pending: VecDeque<Arc<Stamp>>,
    // How far the stream was, on any track, when this track's last frame came.
    heard: Option<Timestamp>,
    // The time of that frame.
    last: Option<Timestamp>,
    // Since when it goes on without a pause.
    since: Option<Timestamp>,
    // Its frames since the leader's last one.
    alone: u32,
    // Whether the present publisher writes it.
    present: bool,
    group_bytes: u64,
    // Nothing can go into the present group: frames are of no use until the next one begins.
    fresh: bool,
    // A new group has to begin with the next frame (of video: with the next keyframe).
    changed: bool,
}

/// The one writer of a stream. It may have several video tracks: renditions of the same picture.
///
/// One of them leads: its keyframes begin the groups and segments of the stream, and it is what is carried where only one
/// can be ([`GroupHead::leads`]). That is the largest one that goes on; of several of one size the first. When it falls silent, the next
/// one leads, from a keyframe on, behind a discontinuity; when it has come back for some seconds, it leads again.
///
/// Another one begins its own group at its first keyframe at or after each beginning that the leader announced; its other
/// keyframes are frames like any. A keyframe that comes a little before the same picture of the leader waits for
/// it, so that both begin the same group.
///
/// [`finish`](Self::finish) ends the stream; dropping it is a broken connection,
/// after which the stream waits for the publisher to come back.
#[derive(Debug)]
pub struct Publisher {
    hub: Arc<Hub>,
    stream: Arc<Stream>,
    generation: u64,
    writer: Option<Writer>,
    timeline: Timeline,
    // Tracks of this publisher in its own numbering: its track n is the stream's track lanes[n].
    lanes: Vec<usize>,
    expects_video: Option<bool>,
    // Whether this publisher's first group has begun.
    began: bool,
    waiting: VecDeque<(usize, Frame)>,
    // Frames of renditions, from a keyframe on, that are ahead of the reference.
    held: VecDeque<(usize, Frame)>,
    stop: watch::Receiver<Option<StopReason>>,
    finished: bool,
}

impl Publisher {
    pub(crate) fn new(hub: Arc<Hub>, stream: Arc<Stream>) -> Option<Self> {
        let generation = stream.attach()?;
        let kept = stream.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let origin = stream.origin();
        let writer = kept.unwrap_or_else(|| Writer::new(&stream, origin));
        Some(Self::with(hub, stream, generation, writer, origin))
    }

    /// Goes on with a stream that was written by another node until now, from `origin`.
    pub(crate) fn succeed(hub: Arc<Hub>, stream: Arc<Stream>, origin: Origin) -> Option<Self> {
        let generation = stream.attach()?;
        *stream.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
        stream.set_relayed(false);
        stream.set_whole(true);
        let writer = Writer::new(&stream, origin);
        Some(Self::with(hub, stream, generation, writer, origin))
    }

    fn with(hub: Arc<Hub>, stream: Arc<Stream>, generation: u64, mut writer: Writer, origin: Origin) -> Self {
        writer.stamper.break_off();
        for lane in &mut writer.tracks {
            lane.fresh = true;
            lane.pending.clear();
            lane.last = None;
            (lane.since, lane.alone, lane.present) = (None, 0, false);
        }
        writer.leader = None;
        let start = writer.newest.map_or(origin.timeline, |(t, at)| t + gap(at.elapsed()));
        let stop = stream.watch_stop();
        Publisher {
            hub,
            stream,
            generation,
            writer: Some(writer),
            timeline: Timeline::new(start),
            lanes: Vec::new(),
            expects_video: None,
            began: false,
            waiting: VecDeque::new(),
            held: VecDeque::new(),
            stop,
            finished: false,
        }
    }

    /// The stream that it writes.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Adds a track, or takes up the one of the same kind that an earlier publisher of this stream wrote.
    /// The number is this publisher's own, for [`write`](Self::write). `None` when there are too many tracks.
    pub fn add_track(&mut self, config: TrackConfig) -> Option<TrackId> {
        let writer = self.writer.as_mut()?;
        let config = Arc::new(config);
        let old = writer
            .tracks
            .iter()
            .enumerate()
            .position(|(i, l)| l.config.is_video() == config.is_video() && !self.lanes.contains(&i));
        let index = match old {
            Some(i) => {
                let lane = &mut writer.tracks[i];
                lane.track.set_config(config.clone());
                (lane.config, lane.present) = (config, true);
                i
            }
            None => {
                let track = self.stream.add_track(config.clone())?;
                if self.began && config.is_video() && !writer.tracks.iter().any(|l| l.config.is_video()) {
                    writer.stamper.break_off();
                }
                writer.tracks.push(Lane {
                    track,
                    config,
                    // A track that comes later belongs to the stretch of time that is being written.
                    pending: writer.stamp.iter().cloned().collect(),
                    heard: None,
                    last: None,
                    since: None,
                    alone: 0,
                    present: true,
                    group_bytes: 0,
                    fresh: true,
                    changed: false,
                });
                writer.tracks.len() - 1
            }
        };
        self.lanes.push(index);
        TrackId::try_from(self.lanes.len() - 1).ok()
    }

    /// The codec, the resolution or the like changes with the next frame of that track. The same
    /// configuration again is no change.
    pub fn set_config(&mut self, track: TrackId, config: TrackConfig) {
        let (Some(writer), Some(&lane)) = (&mut self.writer, self.lanes.get(usize::from(track))) else {
            return;
        };
        let rendition = writer.follows(lane);
        if *writer.tracks[lane].config == config {
            return;
        }
        // What came before has the configuration that it came with.
        self.release(Some(lane), SystemTime::now());
        let Some(writer) = &mut self.writer else { return };
        let lane = &mut writer.tracks[lane];
        lane.config = Arc::new(config);
        lane.track.set_config(lane.config.clone());
        if self.began {
            lane.fresh = true;
            lane.changed = rendition || !lane.config.is_video();
            if !rendition {
                writer.stamper.break_off();
            }
        }
    }

    /// Whether the publisher announced video: without word, an audio-only start is delayed by a second.
    pub fn expect_video(&mut self, expected: bool) {
        self.expects_video = Some(expected);
    }

    /// What the publisher says about the stream.
    pub fn set_metadata(&mut self, metadata: Vec<(String, MetaValue)>) {
        self.stream.set_metadata(metadata);
    }

    /// Writes a frame. Its times are the source's own, unwrapped (see [`Unwrap`](crate::timeline::Unwrap));
    /// they are placed on the stream's timeline here, jumps included. Readers see it after the next
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`Ended`] when the stream has ended.
    pub fn write(&mut self, track: TrackId, frame: Frame) -> Result<(), Ended> {
        self.write_at(track, frame, Instant::now(), SystemTime::now())
    }

    /// As [`write`](Self::write), with the time given.
    ///
    /// # Errors
    /// [`Ended`] when the stream has ended.
    pub fn write_at(
        &mut self,
        track: TrackId,
        mut frame: Frame,
        now: Instant,
        wall: SystemTime,
    ) -> Result<(), Ended> {
        if self.stream.is_ended() {
            return Err(Ended);
        }
        let (Some(writer), Some(&lane)) = (&mut self.writer, self.lanes.get(usize::from(track))) else {
            self.stream.stats().frames_dropped.fetch_add(1, Relaxed);
            return Ok(());
        };
        let place = self.timeline.place(usize::from(track), frame.dts, frame.pts);
        (frame.dts, frame.pts) = (place.dts, place.pts);
        let before = writer.newest.map_or(frame.dts, |(t, _)| t);
        writer.newest = Some((before.max(frame.dts), now));
        let video = writer.tracks[lane].config.is_video();
        let picture = video && !writer.follows(lane);
        count(&self.stream, &frame, picture, frame.dts.since(before), now);
        let has_video = self.lanes.iter().any(|l| writer.tracks[*l].config.is_video());
        if video {
            if !frame.keyframe && writer.lacks_keyframe(lane, frame.dts) {
                self.stream.aside().want_keyframe();
            }
            let behind = self.held.iter().any(|(l, _)| *l == lane);
            if behind || (frame.keyframe && writer.is_ahead(lane, frame.dts)) {
                self.held.push_back((lane, frame));
            } else {
                self.picture(lane, frame, wall);
            }
        } else if self.began {
            let by = if has_video { Reference::StandIn } else { Reference::Audio };
            writer.put(&self.stream, lane, frame, Some(by), wall);
        } else {
            let first = self.waiting.front().map_or(frame.dts, |(_, f)| f.dts);
            let patience = match (has_video, self.expects_video) {
                (false, Some(false)) => Duration::ZERO,
                (false, None) => VIDEO_MAY_COME,
                _ => VIDEO_MUST_COME,
            };
            let bytes: usize = self.waiting.iter().map(|(_, f)| f.payload.len()).sum();
            let full = self.waiting.len() >= WAITING || bytes + frame.payload.len() > WAITING_BYTES;
            self.began = full || frame.dts.since(first) >= patience;
            self.waiting.push_back((lane, frame));
            if self.began {
                for (lane, f) in self.waiting.drain(..) {
                    writer.put(&self.stream, lane, f, Some(Reference::Audio), wall);
                }
            }
        }
        self.release(None, wall);
        if let Some(known) = self.writer.as_ref().and_then(|w| w.stamper.segmentation()) {
            self.stream.set_segmentation(known);
        }
        Ok(())
    }

    fn picture(&mut self, lane: usize, frame: Frame, wall: SystemTime) {
        let Some(writer) = &mut self.writer else { return };
        self.began |= frame.keyframe;
        let start = frame.dts;
        let by = writer.leads(lane, start, frame.keyframe).then_some(Reference::Video);
        writer.put(&self.stream, lane, frame, by, wall);
        if self.began {
            // Audio from before the first picture has nothing to go with.
            for (lane, f) in self.waiting.drain(..) {
                if f.dts >= start {
                    writer.put(&self.stream, lane, f, Some(Reference::StandIn), wall);
                } else {
                    self.stream.stats().frames_dropped.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// Puts the held frames that the reference has come up with or that have waited long enough; all, up to the last
    /// one of `lane`, where that is given.
    fn release(&mut self, lane: Option<usize>, wall: SystemTime) {
        let all = self.held.iter().rposition(|(l, _)| Some(*l) == lane).map_or(0, |i| i + 1);
        let mut put = 0;
        while let (Some((l, frame)), Some(writer)) = (self.held.front(), &self.writer) {
            let waits = writer.is_ahead(*l, frame.dts)
                && writer.newest.is_some_and(|(t, _)| t.since(frame.dts) <= TOGETHER)
                && self.held.len() <= HELD;
            if waits && put >= all {
                return;
            }
            if let Some((l, frame)) = self.held.pop_front() {
                self.picture(l, frame, wall);
                put += 1;
            }
        }
    }

    /// Wakes the readers: once for everything that came in one piece from the network.
    pub fn flush(&self) {
        self.stream.notify().notify_waiters();
    }

    /// Waits until somebody wants this publisher to stop, and says why. Then tell the client, and
    /// [`finish`](Self::finish).
    pub fn stop_requested(&self) -> impl Future<Output = StopReason> + Send + 'static {
        asked_to_stop(self.stop.clone())
    }

    /// The publisher is done: the stream ends. When it is done because another takes the stream over, the
    /// stream goes on with that one.
    pub fn finish(mut self) {
        while let Some((lane, frame)) = self.held.pop_front() {
            self.picture(lane, frame, SystemTime::now());
        }
        self.finished = true;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let over = match &*self.stop.borrow() {
            None => self.finished,
            Some(StopReason::TakenOver | StopReason::Moved { .. }) => false,
            // Even when the connection broke before it could say so: there is nothing to come back to.
            Some(_) => true,
        };
        if over {
            if self.stream.end(self.generation) {
                self.hub.forget(&self.stream);
            }
            return;
        }
        // The writer's state goes back before anybody can attach.
        *self.stream.writer.lock().unwrap_or_else(PoisonError::into_inner) = self.writer.take();
        if self.stream.interrupt(self.generation) {
            self.hub.interrupted(self.stream.clone(), self.generation);
        }
    }
}

/// Waits until the writer of a stream is told to stop.
pub(crate) async fn asked_to_stop(mut stop: watch::Receiver<Option<StopReason>>) -> StopReason {
    match stop.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or(StopReason::Requested),
        Err(_) => StopReason::Stopping,
    }
}

/// `progress` is by how much the frame takes the stream further, `picture` whether it is one of the first video track.
pub(crate) fn count(stream: &Stream, frame: &Frame, picture: bool, progress: Duration, now: Instant) {
    let (stats, second) = (stream.stats(), stream.heard(now).as_secs());
    stats.media_ms.add(second, progress.as_millis() as u64);
    stats.bytes_in.fetch_add(frame.payload.len() as u64, Relaxed);
    stats.frames_in.fetch_add(1, Relaxed);
    stats.bytes.add(second, frame.payload.len() as u64);
    if picture {
        stats.frame_rate.add(second, 1);
    }
}

impl Writer {
    /// Numbers go on from `origin`; tracks that the stream has already are taken up.
    fn new(stream: &Stream, origin: Origin) -> Self {
        let lane = |track: Arc<Track>| Lane {
            config: track.config(),
            track,
            pending: VecDeque::new(),
            heard: None,
            last: None,
            since: None,
            alone: 0,
            present: false,
            group_bytes: 0,
            fresh: true,
            changed: false,
        };
        Writer {
            stamper: Stamper::new(origin, stream.settings().wish),
            tracks: stream.tracks().into_iter().map(lane).collect(),
            stamp: None,
            order: stream.next_order(),
            newest: None,
            leader: None,
            wished: None,
        }
    }

    /// Puts a frame, whose times are on the stream's timeline already, into its group. `by` says what its track is to
    /// the segmentation: nothing, where it is a rendition that follows another.
    fn put(&mut self, stream: &Stream, lane: usize, frame: Frame, by: Option<Reference>, now: SystemTime) {
        let (video, fresh) = (self.tracks[lane].config.is_video(), self.tracks[lane].fresh);
        if fresh && video && !frame.keyframe {
            stream.stats().frames_dropped.fetch_add(1, Relaxed);
            return;
        }
        let rendition = by.is_none();
        let mut began = false;
        if let Some(by) = by
            && (by != Reference::StandIn || self.video_is_silent(frame.dts))
            && let Some(stamp) = self.stamper.next(frame.dts, frame.keyframe, by, now)
        {
            self.announce(stamp);
            began = true;
        }
        let due = |s: &Stamp| s.start <= if rendition { frame.dts + SAME } else { frame.dts };
        // Audio that changes its format cannot wait for the next keyframe of the video. Nor can a rendition; its
        // picture goes on, so that breaks nothing.
        let changed = std::mem::take(&mut self.tracks[lane].changed);
        let cut = changed && !(rendition && self.tracks[lane].pending.front().is_some_and(|s| due(s)));
        if !began && (cut || self.tracks[lane].group_bytes > LARGEST_GROUP) {
            let stamp = self.stamper.force(frame.dts, cut && !video, now);
            self.announce(stamp);
            began = true;
        }
        let newest = self.newest.map(|(t, _)| t);
        let l = &mut self.tracks[lane];
        let mut begins = None;
        // What this frame began holds for it in any case. A rendition begins with a keyframe.
        while (!rendition || frame.keyframe || began) && l.pending.front().is_some_and(|s| began || due(s)) {
            begins = l.pending.pop_front();
        }
        if let Some(stamp) = begins {
            let config = l.config.clone();
            let shown = !video || !self.leader.is_some_and(|leader| leader.provisional);
            let head = GroupHead { stamp, config, independent: frame.keyframe, leads: !rendition && shown };
            l.track.ring.begin(head);
            l.fresh = false;
            l.group_bytes = 0;
        }
        if l.fresh {
            stream.stats().frames_dropped.fetch_add(1, Relaxed);
            return;
        }
        l.heard = newest;
        if l.is_silent(frame.dts) {
            l.since = Some(frame.dts);
        }
        l.last = Some(frame.dts);
        l.alone = l.alone.saturating_add(1);
        l.group_bytes += frame.payload.len() as u64;
        l.track.ring.push(Arrived { order: self.order, frame });
        self.order += 1;
        if by == Some(Reference::Video) {
            self.tracks.iter_mut().for_each(|lane| lane.alone = 0);
        }
    }

    /// Whether it is a rendition that another one leads.
    fn follows(&self, lane: usize) -> bool {
        self.tracks[lane].config.is_video() && self.leader.is_some_and(|leader| leader.lane != lane)
    }

    /// Whether one video track is better than another: larger, or of the same size and earlier.
    fn is_better(&self, one: usize, other: usize) -> bool {
        let rank = |lane: usize| {
            let size =
                self.tracks[lane].config.video().map_or(0, |v| u64::from(v.width) * u64::from(v.height));
            (size, std::cmp::Reverse(lane))
        };
        rank(one) > rank(other)
    }

    /// The publisher's video tracks that are better than this one.
    fn better(&self, lane: usize) -> impl Iterator<Item = usize> {
        let present = |i: usize| self.tracks[i].present && self.tracks[i].config.is_video();
        (0..self.tracks.len()).filter(move |i| present(*i) && self.is_better(*i, lane))
    }

    /// Whether a better video track is still to come.
    fn is_provisional(&self, lane: usize) -> bool {
        self.better(lane).any(|better| self.tracks[better].last.is_none())
    }

    /// Whether a video track may lead from its next keyframe on.
    fn may_lead(&self, lane: usize, dts: Timestamp) -> bool {
        let Some(leader) = self.leader else { return true };
        let silent = self.tracks[leader.lane].is_silent(dts);
        if self.is_better(lane, leader.lane) {
            let since = self.tracks[lane].since.filter(|_| !self.tracks[lane].is_silent(dts));
            let goes_on = since.is_some_and(|since| dts.since(since) >= BACK);
            return silent || goes_on || leader.provisional || dts.since(leader.start) <= START;
        }
        let alone = self.tracks[lane].alone >= WITHOUT_LEADER;
        silent && alone && self.better(lane).all(|better| self.tracks[better].is_silent(dts))
    }

    /// Whether a video track leads from this frame on. Where that is news, the stream is broken off.
    fn leads(&mut self, lane: usize, dts: Timestamp, keyframe: bool) -> bool {
        match self.leader {
            Some(leader) if leader.lane == lane => {
                if keyframe && leader.provisional {
                    let provisional = dts.since(leader.start) <= START && self.is_provisional(lane);
                    self.leader = Some(Leader { provisional, ..leader });
                }
                true
            }
            Some(leader) if keyframe && self.may_lead(lane, dts) => {
                let provisional = leader.provisional && self.is_provisional(lane);
                self.leader = Some(Leader { lane, provisional, ..leader });
                if !leader.provisional {
                    self.stamper.break_off();
                }
                true
            }
            Some(_) => false,
            None => {
                if keyframe {
                    let provisional = self.is_provisional(lane);
                    self.leader = Some(Leader { lane, start: dts, provisional });
                }
                true
            }
        }
    }

    /// Whether a video track could lead if it had a keyframe, and nothing goes on without; not more often than is of use.
    fn lacks_keyframe(&mut self, lane: usize, dts: Timestamp) -> bool {
        let silent = self.leader.is_some_and(|l| l.lane != lane && self.tracks[l.lane].is_silent(dts));
        let lacks = silent
            && self.may_lead(lane, dts)
            && self.wished.is_none_or(|wished| dts < wished || dts.since(wished) >= WISH);
        if lacks {
            self.wished = Some(dts);
        }
        lacks
    }

    /// Whether the same picture of the track that leads, or is about to, is still to come.
    fn is_ahead(&self, lane: usize, dts: Timestamp) -> bool {
        let Some(leader) = self.leader else {
            // The first one leads that has a keyframe; of the same picture it is the best.
            return self.is_provisional(lane);
        };
        let goes_on = |lane: usize| !self.tracks[lane].is_silent(dts);
        let next = self.better(leader.lane).filter(|better| goes_on(*better) && self.may_lead(*better, dts));
        let reference = next.reduce(|a, b| if self.is_better(a, b) { a } else { b }).unwrap_or(leader.lane);
        let last = self.tracks[reference].last.filter(|_| reference != lane && goes_on(reference));
        last.is_some_and(|last| last + SAME < dts)
    }

    fn announce(&mut self, stamp: Stamp) {
        let stamp = Arc::new(stamp);
        for lane in &mut self.tracks {
            lane.pending.push_back(stamp.clone());
            // A track that brings nothing does not pile them up; one too many tells that it is behind.
            if lane.pending.len() > PENDING + 1 {
                lane.pending.pop_front();
            }
        }
        self.stamp = Some(stamp);
    }

    fn video_is_silent(&self, audio: Timestamp) -> bool {
        self.tracks
            .iter()
            .filter(|l| l.config.is_video())
            .all(|l| l.heard.is_none_or(|t| audio.since(t) > VIDEO_SILENT))
    }
}

impl Lane {
    /// Whether nothing came on it of late.
    fn is_silent(&self, now: Timestamp) -> bool {
        self.last.is_none_or(|last| now.since(last) > NO_LEADER)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ring::Head;
    use crate::{AudioCodec, AudioConfig, StreamKey, StreamSettings, VideoCodec, VideoConfig};

    #[tokio::test]
    async fn a_silent_track_keeps_a_bounded_number_of_stamps() {
        let key = StreamKey::new("live", "a");
        let hub = Hub::new(Duration::from_secs(10));
        let mut publisher = hub.publish(key, Origin::default(), StreamSettings::default()).expect("new");
        let (record, codec_string) = (Bytes::new(), String::new());
        let video = VideoConfig {
            codec: VideoCodec::Vp8,
            record: record.clone(),
            width: 320,
            height: 180,
            codec_string: codec_string.clone(),
        };
        let audio =
            AudioConfig { codec: AudioCodec::Opus, record, sample_rate: 48_000, channels: 2, codec_string };
        publisher.add_track(TrackConfig::Video(video)).expect("room");
        publisher.add_track(TrackConfig::Audio(audio)).expect("room");
        let frame =
            |t: Timestamp| Frame { dts: t, pts: t, keyframe: true, payload: Bytes::from_static(b"x") };
        for second in 0..300 {
            publisher.write(0, frame(Timestamp::from_millis(1000 * second))).expect("live");
        }
        let waiting = publisher.writer.as_ref().map(|w| w.tracks[1].pending.len());
        assert_eq!(waiting, Some(PENDING + 1));
        publisher.write(1, frame(Timestamp::from_millis(299_000))).expect("live");
        let ring = &publisher.stream().tracks()[1].ring;
        let newest = ring.newest(|_| true).expect("it goes on at once");
        assert_eq!(newest.head.start(), Timestamp::from_millis(299_000));
    }
}
