//! One stream being packaged: started by its first viewer, stopped some time after the last one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::HeaderValue;
use sluice_media::segmentation::Segmentation;
use sluice_media::stats::ViewerGuard;
use sluice_media::{Event, GroupHead, Reader, Start, Stream, Timestamp, TrackConfig, TrackId};
use tokio::sync::watch;

use crate::muxed::Muxed;
use crate::playlist;
use crate::rendition::{Layout, Rendition};
use crate::route::{RenditionName, leaf_of};
use crate::segmenter::{Output, Segmenter};
use crate::sessions::Sessions;
use crate::settings::{HlsSettings, SegmentType};
use crate::silence::{self, Silence};
use crate::sound::Sound;
use crate::window::Window;

/// A packager without viewers and requests stops after this.
const IDLE: Duration = Duration::from_secs(30);
/// A stream that has just been fetched from another node brings its older part within this; without that, the list
/// begins later.
const BACKFILL: Duration = Duration::from_millis(1500);
/// How often sessions are looked through.
const TICK: Duration = Duration::from_secs(1);
/// Sessions are silent for this many target durations before they end.
const SILENT_TARGETS: u32 = 3;
/// An ended stream stays this many target durations, so that everybody sees its end.
const ENDED_TARGETS: u32 = 6;
/// How many events are taken in one go before other tasks get a turn.
const BATCH: usize = 128;

/// How far a packager has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There is nothing to show yet.
    Starting,
    /// There are playlists.
    Ready,
    /// This stream cannot be packaged as its settings say.
    Impossible(String),
    /// It has stopped.
    Closed,
}

/// A stream being packaged.
#[derive(Debug)]
pub(crate) struct Packager {
    pub(crate) stream: Arc<Stream>,
    pub(crate) settings: HlsSettings,
    pub(crate) sessions: Sessions<ViewerGuard>,
    cut: OnceLock<(Segmentation, HeaderValue)>,
    phase: watch::Sender<Phase>,
    renditions: RwLock<Arc<[Arc<Rendition>]>>,
    epoch: Instant,
    asked: AtomicU64,
}

enum Engine {
    /// Pictures and sound, each in a rendition.
    Apart(Box<Apart>),
    Together(Box<Muxed>, Arc<Rendition>),
}

#[derive(Default)]
struct Apart {
    video: Option<Lane>,
    audio: Option<Lane>,
}

/// What is packaged by itself: the track that has it now.
struct Lane {
    track: TrackId,
    rendition: Arc<Rendition>,
    segmenter: Segmenter,
    /// For audio: stands in when it stops.
    silence: Option<Silence>,
}

impl Packager {
    pub(crate) fn new(stream: Arc<Stream>, settings: HlsSettings) -> Self {
        Packager {
            stream,
            settings,
            sessions: Sessions::new(),
            cut: OnceLock::new(),
            phase: watch::Sender::new(Phase::Starting),
            renditions: RwLock::new(Arc::new([])),
            epoch: Instant::now(),
            asked: AtomicU64::new(0),
        }
    }

    /// Time since the packager was made: the clock of its sessions.
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Somebody asks for something.
    pub(crate) fn asked(&self) {
        self.asked.fetch_max(self.now().as_millis() as u64, Relaxed);
    }

    /// How segments are cut and what the cache header of media files is; known once the packager is ready.
    pub(crate) fn cut(&self) -> Option<&(Segmentation, HeaderValue)> {
        self.cut.get()
    }

    /// Whether it shows parts.
    pub(crate) fn low_latency(&self) -> bool {
        self.settings.low_latency && self.settings.segment_type == SegmentType::Fmp4
    }

    /// Waits until there is something to show.
    pub(crate) async fn ready(&self, limit: Duration) -> Phase {
        {
            let now = self.phase.borrow();
            if *now != Phase::Starting {
                return now.clone();
            }
        }
        let mut phase = self.phase.subscribe();
        let later = tokio::time::timeout(limit, phase.wait_for(|p| *p != Phase::Starting)).await;
        match later {
            Ok(Ok(p)) => p.clone(),
            _ => Phase::Starting,
        }
    }

    /// All renditions.
    pub(crate) fn renditions(&self) -> Arc<[Arc<Rendition>]> {
        self.renditions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The multivariant playlist; `folder` leads from it to the renditions, `query` is appended to their URIs.
    pub(crate) fn multivariant(&self, folder: &str, query: &str) -> String {
        let shown: Vec<_> = self.renditions().iter().filter_map(|r| r.window(|w| shown(r.name, w))).collect();
        playlist::multivariant(&shown, folder, query)
    }

    /// Packages until the stream is over or nobody asks any more; then `forget` must make sure that nobody
    /// finds this packager again.
    pub(crate) async fn run(self: Arc<Self>, forget: impl FnOnce(&Arc<Self>)) {
        if let Some(segmentation) = self.segmentation().await {
            let window = segmentation.target_duration * self.settings.list_size as u32;
            let cache = format!("public, max-age={}", window.as_secs().clamp(10, 3600));
            let cache =
                HeaderValue::try_from(cache).unwrap_or(HeaderValue::from_static("public, max-age=10"));
            let _ = self.cut.set((segmentation, cache));
            self.stream.wait_backfilled(BACKFILL).await;
            let sound = Sound::choose(&self.stream).await;
            match self.engine(segmentation, &sound) {
                Ok(engine) => {
                    if self.follow(engine, segmentation, sound).await {
                        self.linger(segmentation).await;
                    }
                }
                Err(e) => {
                    self.phase.send_replace(Phase::Impossible(e.to_string()));
                    self.linger(segmentation).await;
                }
            }
        }
        forget(&self);
        self.phase.send_replace(Phase::Closed);
        self.sessions.clear();
        for r in self.renditions().iter() {
            r.close();
        }
        tracing::debug!(stream = %self.stream.key(), "packaging stops");
    }

    /// Waits for the stream's segmentation; `None` when it ends before, or nobody asks for it any more.
    async fn segmentation(&self) -> Option<Segmentation> {
        let mut known = self.stream.watch_segmentation();
        loop {
            if let Some(s) = *known.borrow_and_update() {
                return Some(s);
            }
            tokio::select! {
                changed = known.changed() => changed.ok()?,
                () = self.stream.ended() => return self.stream.segmentation(),
                () = tokio::time::sleep(TICK) => if self.idle(TICK) { return None },
            }
        }
    }

    fn engine(&self, segmentation: Segmentation, sound: &Sound) -> Result<Engine, crate::ts::TsError> {
        if self.settings.segment_type == SegmentType::Fmp4 {
            return Ok(Engine::Apart(Box::default()));
        }
        let tracks = self.stream.tracks();
        let first = |id| sound.first().is_none_or(|first| first == id);
        let tracks = tracks.iter().map(|t| (t.id, t.config()));
        let tracks = tracks.filter(|(id, config)| config.is_video() || first(*id));
        let muxed = Muxed::new(segmentation, tracks)?;
        let folder = format!("{}/", leaf_of(&self.stream.key().id));
        let name = RenditionName { kind: b't', index: 0 };
        let rendition = self.add(name, folder, "ts", segmentation);
        Ok(Engine::Together(Box::new(muxed), rendition))
    }

    fn add(
        &self,
        name: RenditionName,
        folder: String,
        extension: &'static str,
        segmentation: Segmentation,
    ) -> Arc<Rendition> {
        let target = segmentation.target_duration;
        let parts = self.low_latency().then_some(segmentation.part_target);
        let layout = Layout { folder, extension, target, parts };
        let window = Window::new(self.settings.list_size, self.settings.playlist_type, target);
        let rendition = Arc::new(Rendition::new(name, layout, window));
        let mut all = self.renditions.write().unwrap_or_else(PoisonError::into_inner);
        *all = all.iter().cloned().chain([rendition.clone()]).collect();
        rendition
    }

    /// Follows the stream; true when it has ended, false when nobody asks any more.
    async fn follow(&self, mut engine: Engine, segmentation: Segmentation, mut sound: Sound) -> bool {
        let keep = self.stream.settings().retain + Duration::from_secs(10);
        let mut reader = self.stream.subscribe(Start::Oldest, keep);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ready = false;
        loop {
            let ended = self.take_what_is_there(&mut reader, &mut engine, segmentation, &mut sound).await;
            if ended {
                engine.finish(&self.renditions());
                self.phase.send_replace(Phase::Ready);
                return true;
            }
            if !ready && self.has_something() {
                ready = true;
                self.phase.send_replace(Phase::Ready);
            }
            tokio::select! {
                event = reader.next() => {
                    if self.take(event, &mut engine, segmentation, &mut sound) {
                        engine.finish(&self.renditions());
                        self.phase.send_replace(Phase::Ready);
                        return true;
                    }
                }
                _ = tick.tick() => if self.idle(segmentation.target_duration) { return false },
            }
        }
    }

    async fn take_what_is_there(
        &self,
        reader: &mut Reader,
        engine: &mut Engine,
        s: Segmentation,
        sound: &mut Sound,
    ) -> bool {
        let mut taken = 0;
        while let Some(event) = reader.try_next() {
            if self.take(event, engine, s, sound) {
                return true;
            }
            taken += 1;
            if taken % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
        false
    }

    /// Takes one event; true when it was the last.
    fn take(&self, event: Event, engine: &mut Engine, segmentation: Segmentation, sound: &mut Sound) -> bool {
        let mut out = Vec::new();
        match (event, engine) {
            (Event::End, _) => return true,
            (Event::Group { track, group }, engine) => {
                let head = &group.head;
                // Of several renditions the one that leads is packaged: segments begin with its groups.
                let leads = head.leads || !head.config.is_video();
                if !sound.takes(track, head) || !leads {
                    return false;
                }
                match engine {
                    Engine::Apart(apart) => self.group(apart, track, head, segmentation),
                    Engine::Together(muxed, _) => muxed.group(track, head),
                }
            }
            (Event::Frame { track, frame }, Engine::Apart(apart)) => {
                let Apart { video, audio } = &mut **apart;
                if let Some(lane) = video.as_mut().filter(|lane| lane.track == track) {
                    let dts = frame.dts;
                    lane.segmenter.frame(frame, &mut out);
                    deliver(&lane.rendition, out);
                    if let Some(audio) = audio {
                        audio.fill(dts);
                    }
                } else if let Some(lane) = audio.as_mut().filter(|_| sound.is(track))
                    && lane.silence.as_mut().is_none_or(|s| s.audio(&frame))
                {
                    lane.segmenter.frame(frame, &mut out);
                    deliver(&lane.rendition, out);
                }
            }
            (Event::Skipped { groups }, engine) => {
                tracing::warn!(stream = %self.stream.key(), groups, "packaging was too slow and left groups out");
                engine.skip();
            }
            (Event::Frame { track, frame }, Engine::Together(muxed, rendition)) => {
                muxed.frame(track, &frame, &mut out);
                deliver(rendition, out);
            }
        }
        false
    }

    /// A group begins, of the pictures or the sound that are packaged.
    fn group(&self, apart: &mut Apart, track: TrackId, head: &GroupHead, segmentation: Segmentation) {
        let video = head.config.is_video();
        let lane = if video { &mut apart.video } else { &mut apart.audio };
        let lane = lane.get_or_insert_with(|| {
            let name = RenditionName { kind: if video { b'v' } else { b'a' }, index: 0 };
            Lane {
                track,
                rendition: self.add(name, String::new(), "m4s", segmentation),
                segmenter: Segmenter::new(segmentation, self.low_latency()),
                silence: (!video).then(Silence::default),
            }
        });
        lane.track = track;
        if lane.silence.as_mut().is_none_or(|s| s.audio_group(head)) {
            lane.segmenter.group(head);
        }
        if let (true, Some(audio)) = (video, &mut apart.audio)
            && let Some(silence) = &mut audio.silence
        {
            silence.video_group(head);
        }
    }

    /// Whether a first viewer can be shown something: a complete segment of each track, or two of one.
    fn has_something(&self) -> bool {
        let counts: Vec<usize> = self.renditions().iter().map(|r| r.window(|w| w.listed().len())).collect();
        let tracks = match self.settings.segment_type {
            SegmentType::Fmp4 => {
                let configs = self.stream.configs();
                let has = |video: bool| configs.iter().any(|config| config.is_video() == video);
                usize::from(has(true)) + usize::from(has(false))
            }
            SegmentType::MpegTs => 1,
        };
        counts.iter().any(|n| *n >= 2) || (counts.len() >= tracks && counts.iter().all(|n| *n >= 1))
    }

    /// Ends silent sessions. Whether there is no viewer, and has been no request, for a while.
    fn idle(&self, target: Duration) -> bool {
        let now = self.now();
        let viewers = self.sessions.expire(now, target * SILENT_TARGETS);
        viewers == 0 && now.saturating_sub(Duration::from_millis(self.asked.load(Relaxed))) > IDLE
    }

    async fn linger(&self, segmentation: Segmentation) {
        let until = self.now() + segmentation.target_duration * ENDED_TARGETS;
        while self.now() < until {
            self.idle(segmentation.target_duration);
            tokio::time::sleep(TICK).await;
        }
    }
}

impl Engine {
    fn skip(&mut self) {
        match self {
            Engine::Apart(apart) => {
                let Apart { video, audio } = &mut **apart;
                for lane in [video, audio].into_iter().flatten() {
                    let mut out = Vec::new();
                    lane.segmenter.skip(&mut out);
                    deliver(&lane.rendition, out);
                    if let Some(silence) = &mut lane.silence {
                        *silence = Silence::default();
                    }
                }
            }
            Engine::Together(muxed, rendition) => {
                let mut out = Vec::new();
                muxed.finish(&mut out);
                deliver(rendition, out);
            }
        }
    }

    fn finish(&mut self, all: &[Arc<Rendition>]) {
        self.skip();
        for r in all {
            r.end();
        }
    }
}

impl Lane {
    /// Fills audio that is missing up to a picture.
    fn fill(&mut self, dts: Timestamp) {
        let Some(silence) = &mut self.silence else { return };
        let mut sounds = Vec::new();
        silence.video(dts, &mut sounds);
        let mut out = Vec::new();
        for sound in sounds {
            match sound {
                silence::Sound::Group(head) => self.segmenter.group(&head),
                silence::Sound::Frame(frame) => self.segmenter.frame(frame, &mut out),
            }
        }
        deliver(&self.rendition, out);
    }
}

fn deliver(rendition: &Rendition, out: Vec<Output>) {
    if !out.is_empty() {
        rendition.apply(out.into_iter());
    }
}

fn shown(name: RenditionName, w: &Window) -> Option<playlist::Rendition> {
    let config = &w.newest_init()?.config;
    let (video, channels) = match &**config {
        TrackConfig::Video(v) => (Some((v.width, v.height, w.frame_rate())), 0),
        TrackConfig::Audio(a) => (None, a.channels),
    };
    Some(playlist::Rendition {
        name: name.to_string(),
        codec: config.codec_string().to_owned(),
        video,
        channels,
        rates: w.bit_rates(),
    })
}
