//! The task that fetches one stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Buf;
use sluice_media::{Mirror, StopReason};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tracing::{debug, info};

use super::backoff::Backoff;
use super::beside::Upwards;
use super::follow::{Entry, FetchError, Relays, State};
use super::session::{Change, RelayError, Session, check_path, has_all, held, read_some};
use super::sources::{CarriedState, Connection, Source};
use crate::wire::{Accepted, Batch, Decoder, Encoder, EndReason, Message, OLDEST, Open, Refusal, VERSION};

/// A source that says that it does not have a stream may just not have it yet.
const NOT_YET: Duration = Duration::from_secs(1);
/// A connection that held for less did not work.
const HELD: Duration = Duration::from_secs(1);

pub(super) struct Task {
    relays: Arc<Relays>,
    entry: Arc<Entry>,
    mirror: Option<Mirror>,
    /// Everything that a source kept was here once: older groups are not asked for again.
    whole: bool,
    epoch: u64,
    /// The stream ended in this epoch: only a later one is of interest.
    ended: Option<u64>,
    leave: watch::Receiver<bool>,
    stopping: watch::Receiver<bool>,
    changed: watch::Receiver<u64>,
    last_error: Option<RelayError>,
    /// What those are told who still wait for the stream when the task is over.
    why: Option<FetchError>,
}

impl Drop for Task {
    fn drop(&mut self) {
        let (relays, entry) = (&self.relays, &self.entry);
        let mirror = self.mirror.take();
        relays.remove_if(entry, || {
            if let Some(mirror) = mirror {
                mirror.finish();
            }
            true
        });
        if entry.shown().source.is_some() {
            relays.sources.carrying(&entry.key, None);
        }
        let why = self.why.take().unwrap_or_else(|| FetchError::Stopping { key: entry.key.clone() });
        entry.state.send_replace(State::Over(why));
    }
}

/// Why a task is over.
enum Over {
    /// Nobody reads the stream.
    Idle,
    /// Somebody of this node writes it now.
    Left,
    /// It was stopped here.
    Stopped,
    /// There is no source any more.
    Lost,
    /// It could never be fetched.
    Failed(FetchError),
}

/// Why a connection is over.
enum Parted {
    Over(Over),
    /// A node has a higher epoch.
    Switch,
    Ended(EndReason),
    Broken(RelayError),
}

impl Task {
    pub(super) fn new(relays: Arc<Relays>, entry: Arc<Entry>, stopping: watch::Receiver<bool>) -> Self {
        let (leave, changed) = (entry.leave.subscribe(), relays.sources.changed());
        Task {
            relays,
            entry,
            mirror: None,
            whole: false,
            epoch: 0,
            ended: None,
            leave,
            stopping,
            changed,
            last_error: None,
            why: None,
        }
    }

    pub(super) async fn run(mut self) {
        let over = loop {
            match self.drive().await {
                // Somebody may have asked for it this moment.
                Over::Idle if !self.let_go() => {}
                over => break over,
            }
        };
        let (relays, key) = (self.relays.clone(), self.entry.key.clone());
        let why = match over {
            Over::Idle => {
                relays.counters.released.fetch_add(1, Relaxed);
                info!(stream = %key, "nobody reads the stream any more: it is not fetched any longer");
                FetchError::NotFound { key: key.clone() }
            }
            Over::Left => {
                drop(self.mirror.take());
                info!(stream = %key, "the stream is written by this node now: it is not fetched any longer");
                FetchError::NotFound { key: key.clone() }
            }
            Over::Stopped => FetchError::Stopping { key: key.clone() },
            Over::Lost => {
                relays.counters.lost.fetch_add(1, Relaxed);
                let error = self.last_error.take().map(|e| e.to_string());
                info!(stream = %key, error, "the stream has not come back: it ends for those who watch it here");
                FetchError::NotFound { key: key.clone() }
            }
            Over::Failed(error) => error,
        };
        self.why = Some(why);
    }

    /// Ends the stream unless somebody reads it, or has just asked for it.
    fn let_go(&mut self) -> bool {
        let Task { relays, entry, mirror, .. } = self;
        let idle = relays.settings.idle;
        relays.remove_if(entry, || {
            let unread = mirror.as_ref().is_none_or(|m| m.stream().readers() == 0);
            let gone = unread && entry.is_unwanted(idle);
            if gone && let Some(mirror) = mirror.take() {
                mirror.finish();
            }
            gone
        })
    }

    async fn drive(&mut self) -> Over {
        let mut lost = Instant::now();
        let mut backoff = Backoff::default();
        let mut tick = tokio::time::interval(self.tick());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.changed.borrow_and_update();
            let (candidates, any) = self.candidates();
            if self.mirror.is_none() && !any {
                return Over::Failed(FetchError::NotFound { key: self.entry.key.clone() });
            }
            let mut answered = None;
            let mut stop = stop_requested(self.mirror.as_ref());
            for source in &candidates {
                let (mut leave, mut stopping) = (self.leave.clone(), self.stopping.clone());
                let attempt = tokio::select! {
                    attempt = self.connect(source) => attempt,
                    // The pause below knows what to do.
                    _ = &mut stop => break,
                    _ = leave.wait_for(|l| *l) => break,
                    _ = stopping.wait_for(|s| *s) => break,
                };
                match attempt {
                    Ok(connection) => {
                        answered = Some(connection);
                        break;
                    }
                    Err(error) => self.failed(source, error),
                }
            }
            if let Some(connection) = answered {
                let since = Instant::now();
                let mut session = Session::default();
                let parted = Box::pin(self.session(connection, &mut session, &mut tick)).await;
                self.parted(since.elapsed(), &parted);
                let held = since.elapsed() >= HELD;
                if held {
                    backoff.reset();
                }
                if held || session.frames() > 0 {
                    lost = Instant::now();
                }
                match parted {
                    Parted::Over(over) => return over,
                    Parted::Switch => continue,
                    Parted::Ended(EndReason::Ended) => self.ended = Some(self.epoch),
                    // It has waited already; unless there is somebody else, so have we.
                    Parted::Ended(EndReason::Gone) if self.has_no_other_source() => return Over::Lost,
                    Parted::Ended(_) => {}
                    Parted::Broken(error) => self.last_error = Some(error),
                }
            }
            if let Some(over) = self.patience(lost) {
                return over;
            }
            if let Some(over) = self.pause(backoff.next(rand::random()), &candidates, &mut tick).await {
                return over;
            }
        }
    }

    /// How often readers are looked for.
    fn tick(&self) -> Duration {
        (self.relays.settings.idle / 4).clamp(Duration::from_millis(10), Duration::from_millis(500))
    }

    /// Who may be asked now, and whether anybody has the stream at all.
    fn candidates(&self) -> (Vec<Source>, bool) {
        let (key, sources) = (&self.entry.key, &self.relays.sources);
        let all = sources.sources(key);
        let any = !all.is_empty();
        let floor = self.epoch.max(sources.highest_epoch(key));
        let fit = |s: &Source| {
            s.node != self.relays.me && s.epoch >= floor && self.ended.is_none_or(|ended| s.epoch > ended)
        };
        (all.into_iter().filter(fit).collect(), any)
    }

    fn has_no_other_source(&self) -> bool {
        let last = self.entry.shown().source.clone();
        self.candidates().0.iter().all(|s| Some(&s.node) == last.as_ref())
    }

    fn failed(&mut self, source: &Source, error: RelayError) {
        debug!(stream = %self.entry.key, node = %source.node, %error, "a source does not give the stream");
        self.relays.counters.failures.fetch_add(1, Relaxed);
        self.entry.shown().trouble = Some(error.to_string());
        self.last_error = Some(error);
    }

    /// Whether it is enough now without any source.
    fn patience(&self, lost: Instant) -> Option<Over> {
        let settings = &self.relays.settings;
        if self.mirror.is_some() {
            return (lost.elapsed() >= settings.return_within).then_some(Over::Lost);
        }
        let not_there =
            matches!(self.last_error, Some(RelayError::Refused { refusal: Refusal::NotFound, .. }));
        let patience = if not_there { NOT_YET.min(settings.ready) } else { settings.ready };
        let key = self.entry.key.clone();
        (lost.elapsed() >= patience).then(|| {
            Over::Failed(match &self.last_error {
                None => FetchError::NotFound { key },
                Some(_) if not_there => FetchError::NotFound { key },
                Some(error) => FetchError::Unreachable { key, reason: error.to_string() },
            })
        })
    }

    /// Waits before the next attempt, or until there is news.
    async fn pause(
        &mut self,
        pause: Duration,
        tried: &[Source],
        tick: &mut tokio::time::Interval,
    ) -> Option<Over> {
        let wake = tokio::time::sleep(pause);
        tokio::pin!(wake);
        let mut stop = stop_requested(self.mirror.as_ref());
        loop {
            if *self.leave.borrow() {
                return Some(Over::Left);
            }
            if *self.stopping.borrow() {
                return Some(Over::Stopped);
            }
            tokio::select! {
                () = &mut wake => return None,
                Ok(()) = self.changed.changed() => {
                    // Most news are about other streams.
                    if self.candidates().0 != tried {
                        return None;
                    }
                }
                reason = &mut stop => return Some(stopped(&reason)),
                Ok(()) = self.leave.changed() => {}
                Ok(()) = self.stopping.changed() => {}
                _ = tick.tick() => {
                    if self.is_idle() {
                        return Some(Over::Idle);
                    }
                }
            }
        }
    }

    fn is_idle(&self) -> bool {
        let unread = self.mirror.as_ref().is_some_and(|m| m.stream().readers() == 0);
        unread && self.entry.is_unwanted(self.relays.settings.idle)
    }

    /// Asks a source for the stream, and mirrors what it answers from now on.
    async fn connect(&mut self, source: &Source) -> Result<Connected, RelayError> {
        let relays = self.relays.clone();
        self.take_up_what_is_here()?;
        let mut open = Open {
            version: VERSION,
            key: self.entry.key.clone(),
            node: relays.me.clone(),
            backfill: !self.whole,
            held: self.mirror.as_ref().map(held).unwrap_or_default(),
        };
        let mut answered = self.ask(source, open.clone()).await;
        // A node of an older release does not understand what goes beside the frames; it can still send those.
        if matches!(answered, Err(RelayError::Refused { refusal: Refusal::Malformed, .. })) {
            open.version = OLDEST;
            answered = self.ask(source, open.clone()).await;
        }
        let (accepted, io, decoder) = answered?;
        check_path(&accepted.path, &relays.me)?;
        let known = self.epoch.max(relays.sources.highest_epoch(&self.entry.key));
        if accepted.origin.epoch < known {
            return Err(RelayError::Stale { theirs: accepted.origin.epoch, known });
        }
        let resumed = self.mirror.is_some();
        let mirror = match &mut self.mirror {
            Some(mirror) => {
                mirror.resumed();
                mirror
            }
            none => {
                let mirror = relays.hub.mirror(self.entry.key.clone(), accepted.origin, accepted.settings);
                none.insert(mirror.map_err(|_| RelayError::InUse)?)
            }
        };
        if let Some(known) = accepted.origin.segmentation {
            mirror.set_segmentation(known);
        }
        // Something was written here meanwhile, of which the source does not know.
        if !resumed && mirror.stream().newest_stamp().is_some() {
            self.whole = true;
            return Err(RelayError::Misplaced);
        }
        self.epoch = self.epoch.max(accepted.origin.epoch);
        relays.counters.connections.fetch_add(1, Relaxed);
        relays.counters.resumed.fetch_add(u64::from(resumed), Relaxed);
        {
            let mut shown = self.entry.shown();
            shown.source = Some(source.node.clone());
            shown.connected = true;
            shown.epoch = self.epoch;
            shown.path = accepted.path;
            shown.hls = accepted.hls;
            shown.started = Some(accepted.started);
        }
        self.tell();
        info!(stream = %self.entry.key, node = %source.node, epoch = self.epoch, resumed, "the stream is fetched from another node");
        Ok(Connected { io, decoder, beside: open.version > OLDEST })
    }

    async fn ask(
        &self,
        source: &Source,
        open: Open,
    ) -> Result<(Accepted, Box<dyn Connection>, Decoder), RelayError> {
        let ask = async {
            let dial = self.relays.dial.dial(&source.addr).await;
            let mut io = dial.map_err(|e| RelayError::Dial(e.to_string()))?;
            let mut encoder = Encoder::new();
            encoder.encode(Message::Open(open))?;
            let batch = encoder.batch();
            while batch.has_remaining() {
                io.write_buf(batch).await.map_err(RelayError::Io)?;
            }
            io.flush().await.map_err(RelayError::Io)?;
            answer(io).await
        };
        let limit = self.relays.settings.dial;
        timeout(limit, ask).await.map_err(|_| RelayError::Silent { for_: limit })?
    }

    /// A stream that this node wrote itself until now goes on where it stands.
    fn take_up_what_is_here(&mut self) -> Result<(), RelayError> {
        if self.mirror.is_none()
            && let Some(stream) = self.relays.hub.get(&self.entry.key)
        {
            let mirror = self.relays.hub.mirror(self.entry.key.clone(), stream.origin(), *stream.settings());
            let mirror = self.mirror.insert(mirror.map_err(|_| RelayError::InUse)?);
            self.epoch = self.epoch.max(mirror.epoch());
            self.whole = stream.newest_stamp().is_some();
        }
        Ok(())
    }

    /// Tells the others what is carried.
    fn tell(&self) {
        let state = {
            let shown = self.entry.shown();
            CarriedState { epoch: shown.epoch, path: shown.path.clone() }
        };
        self.relays.sources.carrying(&self.entry.key, Some(state));
    }

    async fn session(
        &mut self,
        connection: Connected,
        session: &mut Session,
        tick: &mut tokio::time::Interval,
    ) -> Parted {
        let Connected { io, mut decoder, beside } = connection;
        let (mut read, mut write) = tokio::io::split(io);
        let mut heard = Instant::now();
        let mut stop = stop_requested(self.mirror.as_ref());
        let stream = self.mirror.as_ref().filter(|_| beside).map(|m| m.stream().clone());
        let mut up = stream.map(Upwards::new);
        // What goes up, and whether all of it has left this process.
        let (mut encoder, mut flushed) = (Encoder::new(), true);
        if let Some(parted) = self.take(session, &mut decoder, up.as_ref()) {
            return parted;
        }
        loop {
            if let Some(up) = up.as_mut().filter(|_| encoder.batch().is_empty())
                && let Err(error) = up.fill(Instant::now(), &mut encoder)
            {
                return Parted::Broken(error.into());
            }
            let waiting = !encoder.batch().is_empty();
            if *self.leave.borrow() {
                return Parted::Over(Over::Left);
            }
            if *self.stopping.borrow() {
                return Parted::Over(Over::Stopped);
            }
            tokio::select! {
                sent = send_some(&mut write, encoder.batch()), if waiting || !flushed => {
                    match sent {
                        Ok(all) => flushed = all,
                        Err(error) => return Parted::Broken(RelayError::Io(error)),
                    }
                }
                () = news(up.as_mut()), if !waiting => {}
                read = read_some(&mut read, &mut decoder) => {
                    let n = match read {
                        Ok(0) => return Parted::Broken(RelayError::Closed),
                        Ok(n) => n,
                        Err(error) => return Parted::Broken(RelayError::Io(error)),
                    };
                    heard = Instant::now();
                    self.entry.bytes.fetch_add(n as u64, Relaxed);
                    self.relays.counters.bytes.fetch_add(n as u64, Relaxed);
                    if let Some(parted) = self.take(session, &mut decoder, up.as_ref()) {
                        return parted;
                    }
                }
                reason = &mut stop => return Parted::Over(stopped(&reason)),
                Ok(()) = self.changed.changed() => {
                    if self.candidates().0.iter().any(|s| s.epoch > self.epoch) {
                        return Parted::Switch;
                    }
                }
                Ok(()) = self.leave.changed() => {}
                Ok(()) = self.stopping.changed() => {}
                _ = tick.tick() => {
                    let silent = self.relays.settings.silent;
                    if heard.elapsed() >= silent {
                        return Parted::Broken(RelayError::Silent { for_: silent });
                    }
                    if self.is_idle() {
                        return Parted::Over(Over::Idle);
                    }
                }
            }
        }
    }

    /// Takes all messages that are there.
    fn take(&mut self, session: &mut Session, decoder: &mut Decoder, up: Option<&Upwards>) -> Option<Parted> {
        let mirror = self.mirror.as_mut()?;
        let mut parted = None;
        let mut told = false;
        while parted.is_none() {
            let change = match decoder.message() {
                Ok(Some(message)) => session.take(message, mirror, &self.relays.me),
                Ok(None) => break,
                Err(error) => Err(error.into()),
            };
            match change {
                Ok(Change::None) => {}
                Ok(Change::Epoch) => {
                    self.epoch = mirror.epoch();
                    self.entry.shown().epoch = self.epoch;
                    told = true;
                }
                Ok(Change::Path(path)) => {
                    self.entry.shown().path = path;
                    told = true;
                }
                Ok(Change::Said { from, text, payload }) => {
                    if let Some(up) = up {
                        up.messages.take(from, text, payload);
                    }
                }
                Ok(Change::End(reason)) => parted = Some(Parted::Ended(reason)),
                Err(error) => parted = Some(Parted::Broken(error)),
            }
        }
        mirror.flush();
        self.whole |= session.is_whole();
        let stream = mirror.stream();
        if matches!(*self.entry.state.borrow(), State::Starting)
            && (has_all(stream) || self.whole && stream.newest_stamp().is_some())
        {
            self.entry.state.send_replace(State::Ready(stream.clone()));
        }
        if told {
            self.tell();
        }
        parted
    }

    /// A connection is over.
    fn parted(&mut self, held_for: Duration, parted: &Parted) {
        self.entry.shown().connected = false;
        let why = match parted {
            Parted::Over(_) => return,
            Parted::Switch => "another node owns the stream now".to_owned(),
            Parted::Ended(EndReason::Ended) => "the stream has ended there".to_owned(),
            Parted::Ended(EndReason::Moved) => "the stream has moved".to_owned(),
            Parted::Ended(EndReason::Stopping) => "the node is stopping".to_owned(),
            Parted::Ended(EndReason::Gone) => "it has lost the stream".to_owned(),
            Parted::Broken(error) => {
                self.relays.counters.failures.fetch_add(1, Relaxed);
                error.to_string()
            }
        };
        if let Some(mirror) = &self.mirror {
            mirror.set_interrupted(true);
            mirror.flush();
        }
        info!(stream = %self.entry.key, why, ?held_for, "a source of the stream is gone, the next one is looked for");
    }
}

/// A source that has accepted.
struct Connected {
    io: Box<dyn Connection>,
    /// What came with the answer is in it.
    decoder: Decoder,
    /// Whether it knows of more than frames.
    beside: bool,
}

/// Writes some of what is there, or makes sure that all of it leaves this process; true when it has. Cancelling it loses
/// nothing.
async fn send_some(write: &mut (impl AsyncWrite + Unpin), batch: &mut Batch) -> io::Result<bool> {
    if !batch.has_remaining() {
        write.flush().await?;
        return Ok(true);
    }
    match write.write_buf(batch).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(false),
    }
}

/// Waits for something that goes to the source.
async fn news(up: Option<&mut Upwards>) {
    match up {
        Some(up) => up.ready().await,
        None => std::future::pending().await,
    }
}

/// Waits for a source's answer.
async fn answer(mut io: Box<dyn Connection>) -> Result<(Accepted, Box<dyn Connection>, Decoder), RelayError> {
    let mut decoder = Decoder::new();
    loop {
        match decoder.message()? {
            Some(Message::Accepted(accepted)) => return Ok((accepted, io, decoder)),
            Some(Message::Refused { refusal, text }) => return Err(RelayError::Refused { refusal, text }),
            Some(Message::Ping) | None => {}
            Some(_) => return Err(RelayError::OutOfTurn),
        }
        if read_some(&mut io, &mut decoder).await.map_err(RelayError::Io)? == 0 {
            return Err(RelayError::Closed);
        }
    }
}

/// Waits until the mirror is to stop; for ever where there is none.
fn stop_requested(mirror: Option<&Mirror>) -> Pin<Box<dyn Future<Output = StopReason> + Send>> {
    match mirror {
        Some(mirror) => Box::pin(mirror.stop_requested()),
        None => Box::pin(std::future::pending()),
    }
}

/// A publisher of this node goes on with the stream, or it is over.
fn stopped(reason: &StopReason) -> Over {
    match reason {
        StopReason::TakenOver | StopReason::Moved { .. } => Over::Left,
        _ => Over::Stopped,
    }
}
