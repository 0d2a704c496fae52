//! Playing: which tracks a player gets, at first and when others begin or end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sluice_media::Stream;
use sluice_media::session::{Refusal, Request};
use tokio::sync::watch;
use tokio::time::Instant;

use super::directory::Directory;
use super::message::Play;
use super::reply::{self, Refusing};
use super::session::{Context, Live, Orders, Role, at};
use super::{ask, media::Running};
use crate::service::Refused;

/// The most streams of one session.
pub(super) const MOST: usize = crate::service::MOST_STREAMS;
/// What begins or ends within this time is offered together.
const TOGETHER: Duration = Duration::from_millis(200);
/// When an offer failed, the next look is after this time.
const LATER: Duration = Duration::from_secs(2);
/// How often an offer is tried when one of its streams has just ended.
const TRIES: usize = 4;

/// The tracks of one player.
pub(super) struct Tracks {
    play: Play,
    /// As which it plays each of them.
    request: Request,
    /// Follows a main track; `None` for a single stream.
    changes: Option<watch::Receiver<u64>>,
    /// What was offered, by feed.
    names: Vec<String>,
    /// Those of them that have ended.
    ended: HashSet<String>,
    /// There has been an offer.
    offered: bool,
    /// An offer waits for its answer.
    waits: bool,
    look_at: Option<Instant>,
    /// How many offers in a row lacked a stream that was asked for.
    lacked: u32,
    /// Media sections that are not to be sent: they are there to be told when the answer has been taken.
    disabled: Vec<String>,
}

/// What is to be played: `None` when it is no main track, but a single stream.
pub(super) type Found = Option<Vec<String>>;

/// What a new look at a main track found.
#[derive(Default)]
pub(super) struct Change {
    /// All tracks, those that stay first and in their order.
    pub(super) names: Vec<String>,
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
    /// Those that had ended by then.
    ended: HashSet<String>,
}

/// What a player wants to play now; `offered`: it has been offered something before.
async fn wanted(directory: &dyn Directory, app: &str, play: &Play, offered: bool) -> Result<Found, Refusing> {
    let stream = &play.stream;
    let subtracks = match ask(directory.subtracks(app, stream)).await? {
        Some(subtracks) => subtracks,
        // The last one has left, and the room with it.
        None if offered => Vec::new(),
        None => return Ok(None),
    };
    let mut names = Vec::new();
    if ask(directory.renditions(app, stream)).await?.is_some() {
        names.push(stream.clone());
    }
    let without: HashSet<&str> = play.tracks.iter().filter_map(|t| t.strip_prefix('!')).collect();
    let with: HashSet<&str> =
        play.tracks.iter().filter(|t| !t.starts_with('!')).map(String::as_str).collect();
    let is_wanted = |id: &str| {
        id != play.own && id != stream && !without.contains(id) && (with.is_empty() || with.contains(id))
    };
    names.extend(subtracks.into_iter().map(|subtrack| subtrack.id).filter(|id| is_wanted(id)));
    names.truncate(MOST);
    Ok(Some(names))
}

/// A player, from its wish on.
pub(super) async fn play(ctx: Context, play: Play, request: Request, mut orders: Orders) {
    let mut tracks = Tracks {
        play,
        request,
        changes: None,
        names: Vec::new(),
        ended: HashSet::new(),
        offered: false,
        waits: false,
        look_at: None,
        lacked: 0,
        disabled: Vec::new(),
    };
    let opened = tokio::select! {
        opened = tracks.open(&ctx) => opened,
        () = orders.over() => {
            ctx.outlet.say(reply::of_stream("play_finished", &ctx.stream, &ctx.subscriber));
            return;
        }
    };
    match opened {
        Ok((running, change)) => {
            tracks.offer(&ctx, &running, change);
            Live::new(ctx, running, Role::Player(Box::new(tracks))).run(orders).await;
        }
        Err(refusing) => ctx.error(&refusing),
    }
}

impl Tracks {
    /// Makes the first offer, as soon as there is something to play: a main track that is known may wait for that.
    async fn open(&mut self, ctx: &Context) -> Result<(Running, Change), Refusing> {
        let (mut tries, mut told) = (0, false);
        loop {
            let found = self.search(ctx).await?;
            let names = self.found(found);
            if names.is_empty() {
                if !std::mem::replace(&mut told, true) {
                    let fields = json!({"streamId": ctx.stream});
                    ctx.outlet.say(reply::notification("streaming_starts_soon", fields));
                }
                self.changed().await;
                continue;
            }
            match ctx.shared.media.offer(self.requests(&names)).await {
                Ok(running) => {
                    let mut change = Change { names, ..Change::default() };
                    self.keep_offered(&mut change, &running.streams);
                    change.removed.clear();
                    return Ok((running, change));
                }
                // It has ended since it was listed.
                Err(Refused::Refusal(Refusal::NotLive(_))) if self.changes.is_some() && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(TOGETHER).await;
                }
                Err(refused) => return Err(Refusing::of(&refused, false)),
            }
        }
    }

    /// Finds out what is to be played now, while the session goes on; [`found`](Self::found) takes it.
    pub(super) fn search(
        &mut self,
        ctx: &Context,
    ) -> impl Future<Output = Result<Found, Refusing>> + Send + use<> {
        // From before the first look, so that nothing is missed.
        self.changes.get_or_insert_with(|| ctx.shared.directory.changes(&ctx.app)).mark_unchanged();
        let (shared, app) = (ctx.shared.clone(), ctx.app.clone());
        let (play, offered) = (self.play.clone(), self.offered);
        async move { wanted(&*shared.directory, &app, &play, offered).await }
    }

    fn found(&mut self, found: Found) -> Vec<String> {
        found.unwrap_or_else(|| {
            self.changes = None;
            vec![self.play.stream.clone()]
        })
    }

    /// What has changed since the last offer; `None` when nothing has.
    pub(super) fn change(&mut self, found: Found) -> Option<Change> {
        let wanted = self.found(found);
        let goes_on = |name: &String| !self.ended.contains(name);
        let removed: Vec<String> =
            self.names.iter().filter(|name| !wanted.contains(name) || !goes_on(name)).cloned().collect();
        let added: Vec<String> =
            wanted.iter().filter(|name| !self.names.contains(name) || !goes_on(name)).cloned().collect();
        if added.is_empty() && removed.is_empty() {
            return None;
        }
        let stay = self.names.iter().filter(|name| !removed.contains(name));
        let names = stay.chain(&added).cloned().collect();
        Some(Change { names, added, removed, ended: self.ended.clone() })
    }

    /// Waits until it is time to look again.
    pub(super) async fn changed(&mut self) {
        loop {
            if self.waits {
                return std::future::pending().await;
            }
            let changes = self.changes.as_mut();
            let news = async {
                match changes {
                    Some(changes) => changes.changed().await,
                    None => std::future::pending().await,
                }
            };
            let changed = tokio::select! {
                () = at(self.look_at) => {
                    self.look_at = None;
                    return;
                }
                changed = news => changed,
            };
            match changed {
                Ok(()) => {
                    let soon = Instant::now() + TOGETHER;
                    self.look_at = Some(self.look_at.map_or(soon, |time| time.min(soon)));
                }
                Err(_) => self.changes = None,
            }
        }
    }

    pub(super) fn look_later(&mut self) {
        self.look_at = Some(Instant::now() + LATER);
    }

    /// Keeps of a change only what was offered indeed: some may be refused for a moment, or have no media yet. They are
    /// tried again, ever more seldom.
    pub(super) fn keep_offered(&mut self, change: &mut Change, streams: &[Arc<Stream>]) {
        let is_offered = |name: &String| streams.iter().any(|stream| *stream.key().id == **name);
        let lacking: Vec<String> = change.names.extract_if(.., |name| !is_offered(name)).collect();
        if lacking.is_empty() {
            self.lacked = 0;
            return;
        }
        change.added.retain(is_offered);
        let gone = lacking.into_iter().filter(|name| self.names.contains(name));
        let gone: Vec<String> = gone.filter(|name| !change.removed.contains(name)).collect();
        change.removed.extend(gone);
        self.look_at = Some(Instant::now() + LATER * (1 << self.lacked.min(4)));
        self.lacked += 1;
    }

    /// Tells the client of an offer that was made.
    pub(super) fn offer(&mut self, ctx: &Context, running: &Running, change: Change) {
        self.ended.retain(|name| !change.ended.contains(name));
        let is_first = !std::mem::replace(&mut self.offered, true);
        self.waits = true;
        if self.play.disabled {
            let is_new = |track: &str| {
                let name = track.get("ARDAMSv".len()..).unwrap_or_default();
                is_first || change.added.iter().any(|added| added == name)
            };
            let new = running.mids.iter().filter(|(_, track)| is_new(track));
            self.disabled.extend(new.map(|(mid, _)| mid.clone()));
        }
        self.names = change.names;
        ctx.outlet.say(reply::description(
            &ctx.stream,
            true,
            &running.sdp,
            Some(&running.mids),
            &ctx.subscriber,
        ));
        for candidate in reply::candidates(&ctx.stream, &running.sdp, &ctx.subscriber) {
            ctx.outlet.say(candidate);
        }
    }

    /// Sends a media section or does not. Before its answer has come there is no such section yet: it is told then.
    pub(super) fn enable(&mut self, running: &mut Running, mid: &str, enabled: bool) {
        self.disabled.retain(|other| other != mid);
        if self.waits && !enabled {
            self.disabled.push(mid.to_owned());
        }
        running.link.enable(mid, enabled);
    }

    /// The answer has been taken: what is not to be sent is there now.
    pub(super) fn accepted(&mut self, running: &mut Running) {
        self.disabled.drain(..).for_each(|mid| running.link.enable(&mid, false));
    }

    /// The answer has come: the next offer may be made.
    pub(super) fn answered(&mut self) {
        self.waits = false;
    }

    /// The stream of a feed has ended; true when there is nothing more to play, now or later.
    pub(super) fn ended(&mut self, feed: usize) -> bool {
        if let Some(name) = self.names.get(feed) {
            self.ended.insert(name.clone());
        }
        if self.changes.is_some() {
            self.look_at = Some(Instant::now() + TOGETHER);
        }
        self.changes.is_none()
    }

    pub(super) fn name(&self, feed: usize) -> Option<&String> {
        self.names.get(feed).filter(|_| self.changes.is_some())
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn has(&self, track: &str) -> bool {
        self.names.iter().any(|name| name == track)
    }

    /// A request for each of these.
    pub(super) fn requests(&self, names: &[String]) -> Vec<(Request, String)> {
        let one = |name: &String| {
            let mut request = self.request.clone();
            request.key.id = name.as_str().into();
            (request, name.clone())
        };
        names.iter().map(one).collect()
    }
}
