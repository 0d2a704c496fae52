//! Adds the missing codec to live streams, for as long as somebody needs it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sluice_media::ring::{Cursor, Peek};
use sluice_media::stream::Track;
use sluice_media::{
    Arrived, AudioCodec, AudioConfig, Companion, Frame, GroupHead, Hub, Stamp, Stream, StreamKey, TrackConfig,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use crate::pool::Pool;
use crate::{AudioBridge, BridgeError};

/// A bridge goes on for this long when nobody needs it any more.
const HOLD: Duration = Duration::from_secs(10);
/// A source that is not there yet is looked for this often, and a bridge looks this often whether it is needed.
const TICK: Duration = Duration::from_millis(250);
/// After a bridge failed, it is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// Who falls behind by more goes on at the newest group.
const MAX_LAG: Duration = Duration::from_secs(8);
/// Frames of one job.
const BATCH: usize = 128;

/// What bridges have done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgeCounts {
    /// Bridges at work now.
    pub running: u64,
    /// Bridges that were started.
    pub started: u64,
    /// Bridges that could not be started, or gave up.
    pub failed: u64,
    /// Frames that were made.
    pub frames: u64,
    /// Frames of sources that could not be decoded.
    pub errors: u64,
}

#[derive(Debug, Default)]
struct Counters {
    running: AtomicU64,
    started: AtomicU64,
    failed: AtomicU64,
    frames: AtomicU64,
    errors: AtomicU64,
}

/// The bridges of this node: for each stream that it owns, AAC or Opus is added once, however many need it, and taken
/// away ten seconds after the last. Streams that come from other nodes are left to their owners.
#[derive(Debug)]
pub struct Bridges {
    hub: Arc<Hub>,
    pool: Pool,
    hold: Duration,
    counters: Counters,
}

/// Why a bridge stopped without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// Nobody needs it any more.
    Unneeded,
    /// The source has changed, or belongs to another node now.
    Changed,
}

/// What a job does with a bridge.
enum Input {
    Group(Arc<Stamp>),
    Frame(Arrived),
}

/// What comes of it.
enum Output {
    Group(Arc<Stamp>),
    Frame(u64, Frame),
}

impl Bridges {
    /// For the streams of `hub`; [`run`](Self::run) is to be spawned.
    pub fn new(hub: Arc<Hub>) -> Arc<Self> {
        Self::holding(hub, HOLD)
    }

    pub(crate) fn holding(hub: Arc<Hub>, hold: Duration) -> Arc<Self> {
        Arc::new(Bridges { hub, pool: Pool::new(), hold, counters: Counters::default() })
    }

    /// Totals.
    pub fn counts(&self) -> BridgeCounts {
        let c = &self.counters;
        BridgeCounts {
            running: c.running.load(Relaxed),
            started: c.started.load(Relaxed),
            failed: c.failed.load(Relaxed),
            frames: c.frames.load(Relaxed),
            errors: c.errors.load(Relaxed),
        }
    }

    /// Looks after all streams; never ends by itself. When it is dropped, all bridges stop.
    pub async fn run(self: Arc<Self>) {
        let mut changes = self.hub.watch();
        let mut known: HashMap<StreamKey, Weak<Stream>> = HashMap::new();
        let mut tasks = JoinSet::new();
        loop {
            changes.borrow_and_update();
            known.retain(|_, stream| stream.strong_count() > 0);
            for stream in self.hub.streams() {
                let same = |w: &Weak<Stream>| std::ptr::eq(w.as_ptr(), Arc::as_ptr(&stream));
                if !known.get(stream.key()).is_some_and(same) {
                    known.insert(stream.key().clone(), Arc::downgrade(&stream));
                    for target in [AudioCodec::Aac, AudioCodec::Opus] {
                        tasks.spawn(self.clone().look_after(stream.clone(), target));
                    }
                }
            }
            while tasks.try_join_next().is_some() {}
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Bridges one stream to one codec whenever that is needed, until the stream is over.
    async fn look_after(self: Arc<Self>, stream: Arc<Stream>, target: AudioCodec) {
        tokio::select! {
            () = stream.ended() => {}
            () = self.bridge_when_needed(&stream, target) => {}
        }
    }

    async fn bridge_when_needed(&self, stream: &Arc<Stream>, target: AudioCodec) {
        let mut needs = stream.aside().watch_needs();
        let mut changes = self.hub.watch();
        loop {
            if !stream.aside().needs(target) {
                if !needs.changed().await {
                    return;
                }
                continue;
            }
            if stream.is_relayed() {
                tokio::select! {
                    _ = needs.changed() => {}
                    _ = changes.changed() => {}
                }
                continue;
            }
            let Some((source, config)) = source(stream, target) else {
                sleep(TICK).await;
                continue;
            };
            let bridged = Box::pin(self.bridge(stream, &source, &config, target)).await;
            match bridged {
                Ok(why) => {
                    debug!(stream = %stream.key(), to = target.name(), ?why, "the sound is not bridged any longer");
                }
                Err(error) => {
                    self.counters.failed.fetch_add(1, Relaxed);
                    let (from, to) = (config.codec.name(), target.name());
                    warn!(stream = %stream.key(), from, to, %error, "the sound cannot be bridged");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn bridge(
        &self,
        stream: &Arc<Stream>,
        source: &Arc<Track>,
        config: &AudioConfig,
        target: AudioCodec,
    ) -> Result<Stopped, BridgeError> {
        let from = config.clone();
        let mut bridge = self.pool.run(move || AudioBridge::new(&from, target)).await??;
        let Some(mut companion) = Companion::new(stream.clone(), source.id, bridge.config().clone()) else {
            return Err(BridgeError::Unsupported { what: "a stream without room for another track".into() });
        };
        // Opus is for those who watch live: what is over when it starts is of no use to them. AAC is for packagers,
        // which need whole groups.
        if target == AudioCodec::Opus
            && let Some(now) = stream.newest_time()
        {
            companion.begin_at(now);
        }
        let _running = Running::new(&self.counters);
        info!(stream = %stream.key(), from = config.codec.name(), to = target.name(), "the sound is bridged");
        let mut cursor = Cursor::newest(&source.ring, MAX_LAG);
        let mut unneeded: Option<Instant> = None;
        loop {
            let changed = stream.changed().notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (work, other) = collect(&mut cursor, source, config);
            let idle = work.is_empty();
            if !idle {
                let before = bridge.errors();
                let (back, made) = self.pool.run(move || convert(bridge, work)).await?;
                bridge = back;
                self.counters.errors.fetch_add(bridge.errors() - before, Relaxed);
                let written = write(&mut companion, made?);
                self.counters.frames.fetch_add(written.unwrap_or(0), Relaxed);
                if written.is_none() {
                    return Ok(Stopped::Changed);
                }
            }
            if other || stream.is_relayed() {
                return Ok(Stopped::Changed);
            }
            if stream.aside().needs(target) {
                unneeded = None;
            } else if unneeded.get_or_insert_with(Instant::now).elapsed() >= self.hold {
                return Ok(Stopped::Unneeded);
            }
            if idle {
                tokio::select! {
                    () = changed => {}
                    () = sleep(TICK.min(self.hold)) => {}
                }
            }
        }
    }
}

/// The track that the publisher's sound is on, when it is of another codec: the first, as companions come after it.
fn source(stream: &Stream, target: AudioCodec) -> Option<(Arc<Track>, AudioConfig)> {
    stream
        .tracks()
        .into_iter()
        .find_map(|track| match &*track.config() {
            TrackConfig::Audio(a) => Some((track.clone(), a.clone())),
            TrackConfig::Video(_) => None,
        })
        .filter(|(_, config)| config.codec != target)
}

/// What has come of the source, and whether something of another configuration follows.
fn collect(
    cursor: &mut Cursor<GroupHead, Arrived>,
    source: &Track,
    config: &AudioConfig,
) -> (Vec<Input>, bool) {
    let mut work = Vec::new();
    while work.len() < BATCH {
        let next = match cursor.peek(&source.ring) {
            Peek::Group(g) if !matches!(&*g.head.config, TrackConfig::Audio(a) if a == config) => {
                return (work, true);
            }
            Peek::Group(g) => Input::Group(g.head.stamp.clone()),
            Peek::Item(arrived) => Input::Frame(arrived.clone()),
            Peek::Behind => {
                cursor.jump_to_newest(&source.ring);
                continue;
            }
            Peek::Nothing | Peek::End => break,
        };
        cursor.advance();
        work.push(next);
    }
    (work, false)
}

fn convert(mut bridge: AudioBridge, work: Vec<Input>) -> (AudioBridge, Result<Vec<Output>, BridgeError>) {
    let mut out = Vec::with_capacity(work.len() + 1);
    for input in work {
        match input {
            Input::Group(stamp) => out.push(Output::Group(stamp)),
            Input::Frame(Arrived { order, frame }) => match bridge.push(&frame) {
                Ok(made) => out.extend(made.into_iter().map(|f| Output::Frame(order, f))),
                Err(error) => return (bridge, Err(error)),
            },
        }
    }
    (bridge, Ok(out))
}

/// How many frames were written; `None` when the stream is not this node's any more.
fn write(companion: &mut Companion, made: Vec<Output>) -> Option<u64> {
    let mut frames = 0;
    for output in made {
        match output {
            Output::Group(stamp) => companion.group(stamp),
            Output::Frame(order, frame) => {
                companion.write(order, frame).ok()?;
                frames += 1;
            }
        }
    }
    if frames > 0 {
        companion.flush();
    }
    Some(frames)
}

/// Counts a bridge for as long as it works.
struct Running<'a>(&'a Counters);

impl<'a> Running<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.started.fetch_add(1, Relaxed);
        counters.running.fetch_add(1, Relaxed);
        Running(counters)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}
