//! The HTTP answers for `/{app}/streams/…`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use sluice_media::session::{Egress, Play, Protocol, Refusal, Request};
use sluice_media::{Stream, StreamKey};
use tokio::sync::Semaphore;

use crate::packager::{Packager, Phase};
use crate::rendition::{Look, Rendition};
use crate::respond::{self, Kind, Text};
use crate::route::{self, File, Query, RenditionName, Route, Target, leaf_of};
use crate::settings::{HlsSettings, SegmentType};

/// How long the first request of a stream may wait for its first segment.
const FIRST: Duration = Duration::from_secs(12);
/// Blocking requests wait this many target durations at most.
const WAIT_TARGETS: u32 = 3;
/// For playlists that name a session: they are for one viewer.
const PRIVATE: &str = "no-store";
/// For media playlists.
const FRESH: &str = "no-cache";

/// Other nodes that may have a file which this one lacks: the window of one that joined late begins later.
#[async_trait]
pub trait Elsewhere: Send + Sync + 'static {
    /// The bytes of a file; `path` is that of the request, decoded.
    async fn file(&self, key: &StreamKey, path: &str) -> Option<Bytes>;
}

/// Segments that are further back than this are not looked for elsewhere.
const RECENT: u64 = 1000;

/// Files that are asked for elsewhere at once, at most: whoever makes names up costs little.
const ASKED_ELSEWHERE: usize = 16;

/// Gives the settings of a stream.
pub type Settings = dyn Fn(&StreamKey) -> HlsSettings + Send + Sync;

type Streams = HashMap<Arc<str>, HashMap<Arc<str>, Arc<Packager>>>;

/// Answers HLS requests of all streams.
pub struct Service {
    egress: Arc<dyn Egress>,
    settings: Arc<Settings>,
    streams: Arc<Directory>,
    elsewhere: Option<Arc<dyn Elsewhere>>,
    asking: Semaphore,
}

/// The packagers at work.
#[derive(Debug, Default)]
struct Directory(RwLock<Streams>);

/// A request that is being answered.
struct Asked<'a> {
    parts: &'a Parts,
    peer: SocketAddr,
    app: &'a str,
    id: &'a str,
    query: Query<'a>,
    text: &'a str,
}

/// What to do when an answer could not be given.
enum Again {
    /// The packager stopped meanwhile: ask the next one.
    Retry,
    Answer(Response<Bytes>),
}

type Answer = Result<Response<Bytes>, Again>;

impl Service {
    /// A service that asks `egress` who may play what. Packagers run as tasks of the tokio runtime in which
    /// requests are handled.
    pub fn new(egress: Arc<dyn Egress>, settings: Arc<Settings>) -> Self {
        let asking = Semaphore::new(ASKED_ELSEWHERE);
        Service { egress, settings, streams: Arc::default(), elsewhere: None, asking }
    }

    /// Files of relayed streams that are missing here are looked for there.
    #[must_use]
    pub fn with_elsewhere(mut self, elsewhere: Arc<dyn Elsewhere>) -> Self {
        self.elsewhere = Some(elsewhere);
        self
    }

    /// A media file as this node has it, for another node that lacks it. Starts packaging when nobody asked
    /// before. `path` is `/{app}/streams/…`.
    pub async fn own_file(&self, stream: Arc<Stream>, path: &str) -> Option<Bytes> {
        let Route { app, id, target: Target::Rendition(name, file) } = route::parse(path)? else {
            return None;
        };
        if (app, id) != (&*stream.key().app, &*stream.key().id) {
            return None;
        }
        let key = stream.key().clone();
        let packager = self.streams.get_or_start(&key, &stream, &*self.settings);
        packager.asked();
        self.ready(&packager).await.ok()?;
        let rendition = packager.renditions().iter().find(|r| r.name == name)?.clone();
        match look(&rendition, file, limit(&packager)).await {
            Look::Here(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Streams that are being packaged right now.
    pub fn packaging(&self) -> usize {
        self.streams.read(|s| s.values().map(HashMap::len).sum())
    }

    /// Answers a request whose path is `/{app}/streams/…`. The body is complete; blocking reloads are answered
    /// when there is something to say.
    pub async fn handle(&self, parts: &Parts, peer: SocketAddr) -> Response<Bytes> {
        let head = match parts.method {
            Method::GET => false,
            Method::HEAD => true,
            Method::OPTIONS => return respond::preflight(),
            _ => {
                let text = "streams can only be read: use GET, HEAD or OPTIONS";
                return respond::sentence(StatusCode::METHOD_NOT_ALLOWED, text);
            }
        };
        let path = parts.uri.path();
        let answer = if path.contains('%') {
            let decoded = route::percent(path, false);
            self.answer(parts, peer, &decoded).await
        } else {
            self.answer(parts, peer, path).await
        };
        if head { respond::without_body(answer) } else { answer }
    }

    async fn answer(&self, parts: &Parts, peer: SocketAddr, path: &str) -> Response<Bytes> {
        let Some(Route { app, id, target }) = route::parse(path) else {
            return respond::sentence(StatusCode::NOT_FOUND, "there is no such file");
        };
        let text = parts.uri.query().unwrap_or("");
        let query = route::query(text);
        let asked = Asked { parts, peer, app, id, query, text };
        // A packager can stop while it is being asked; its successor does not.
        for _ in 0..3 {
            let answer = match target {
                Target::Adaptive => {
                    let text = format!("{id} has no renditions: play {id}.m3u8");
                    Ok(respond::sentence(StatusCode::NOT_FOUND, text))
                }
                Target::Stream => Box::pin(self.stream(&asked, false)).await,
                Target::LowLatency => Box::pin(self.stream(&asked, true)).await,
                Target::Rendition(name, File::Playlist) => self.playlist(&asked, name).await,
                Target::Rendition(name, file) => self.file(&asked, name, file).await,
            };
            match answer {
                Ok(r) | Err(Again::Answer(r)) => return r,
                Err(Again::Retry) => {}
            }
        }
        respond::sentence(StatusCode::SERVICE_UNAVAILABLE, "the stream is restarting: try again")
    }

    /// `{id}.m3u8`: the multivariant playlist, or with MPEG-TS the only media playlist.
    async fn stream(&self, asked: &Asked<'_>, from_ll_hls: bool) -> Answer {
        let known = self.streams.find(asked.app, asked.id).filter(|p| asked.has_session(p));
        if let Some(p) = known.filter(|p| p.settings.segment_type == SegmentType::MpegTs && !from_ll_hls) {
            return self.media(asked, &p, RenditionName { kind: b't', index: 0 }).await;
        }
        let (packager, play) = self.admit(asked).await?;
        self.ready(&packager).await?;
        let leaf = leaf_of(asked.id);
        if packager.settings.segment_type == SegmentType::MpegTs {
            if from_ll_hls {
                let up = "../".repeat(asked.id.split('/').count() + 1);
                return Ok(respond::redirect(format!("{up}{}.m3u8{}", asked.id, asked.query_with(None))));
            }
            let name = RenditionName { kind: b't', index: 0 };
            return self.media_or_redirect(asked, &packager, play, name, leaf).await;
        }
        let session = asked.query.session.map_or_else(new_session, str::to_owned);
        let query = asked.query_with(session.bytes().all(|b| b.is_ascii_alphanumeric()).then_some(&session));
        let folder = if from_ll_hls {
            format!("{}{}/", "../".repeat(asked.id.split('/').count() + 1), asked.id)
        } else {
            format!("{leaf}/")
        };
        if let (Some(play), &Method::GET) = (play, &asked.parts.method) {
            packager.sessions.begin(packager.sessions.number(&session), play.viewer, packager.now());
        }
        let text = Text::new(packager.multivariant(&folder, &query));
        Ok(respond::playlist(&text, &asked.parts.headers, PRIVATE))
    }

    /// `{id}/v0.m3u8` and the like.
    async fn playlist(&self, asked: &Asked<'_>, name: RenditionName) -> Answer {
        if let Some(p) = self.streams.find(asked.app, asked.id).filter(|p| asked.has_session(p)) {
            return self.media(asked, &p, name).await;
        }
        Box::pin(async {
            let (packager, play) = self.admit(asked).await?;
            self.ready(&packager).await?;
            self.media_or_redirect(asked, &packager, play, name, &name.to_string()).await
        })
        .await
    }

    /// Counts a viewer who comes with a session, and gives one to a viewer who has none.
    async fn media_or_redirect(
        &self,
        asked: &Asked<'_>,
        packager: &Arc<Packager>,
        play: Option<Play>,
        name: RenditionName,
        file: &str,
    ) -> Answer {
        let session = match asked.query.session {
            Some(s) => s.to_owned(),
            // A stream that has ended is shown to the end without counting anybody.
            None if play.is_none() || asked.parts.method == Method::HEAD => {
                return self.media(asked, packager, name).await;
            }
            None => new_session(),
        };
        if let Some(play) = play {
            packager.sessions.begin(packager.sessions.number(&session), play.viewer, packager.now());
        }
        if asked.query.session.is_some() {
            return self.media(asked, packager, name).await;
        }
        // Delivery directives stay: the client asked for that state of the playlist.
        let plain = |p: &str| p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'='));
        let directives = asked.text.split('&').filter(|p| p.starts_with("_HLS_") && plain(p));
        let mut to = format!("{file}.m3u8{}", asked.query_with(Some(&session)));
        for d in directives {
            let _ = write!(to, "&{d}");
        }
        Ok(respond::redirect(to))
    }

    /// A media playlist for a viewer who is known.
    async fn media(&self, asked: &Asked<'_>, packager: &Arc<Packager>, name: RenditionName) -> Answer {
        if asked.query.wrong {
            let text =
                "_HLS_msn and _HLS_part must be numbers, the latter with the former, _HLS_skip YES or v2";
            return Ok(respond::sentence(StatusCode::BAD_REQUEST, text));
        }
        self.ready(packager).await?;
        let all = packager.renditions();
        let Some(rendition) = all.iter().find(|r| r.name == name) else {
            return Ok(respond::sentence(StatusCode::NOT_FOUND, "the stream has no such rendition"));
        };
        let at = asked.query.msn.map(|msn| (msn, asked.query.part));
        match rendition.playlist(at, asked.query.skip, &all, limit(packager)).await {
            Look::Here(text) => Ok(respond::playlist(&text, &asked.parts.headers, FRESH)),
            Look::TooFar => {
                let text = "that is too far in the future: ask for what follows the end of the playlist";
                Ok(respond::sentence(StatusCode::BAD_REQUEST, text))
            }
            Look::Closed => Err(Again::Retry),
            Look::NotYet | Look::Missing => {
                let text = "the stream has stalled: there was nothing new for three target durations";
                Ok(respond::sentence(StatusCode::SERVICE_UNAVAILABLE, text))
            }
        }
    }

    /// An init segment, a segment or a part.
    async fn file(&self, asked: &Asked<'_>, name: RenditionName, file: File) -> Answer {
        let packager = match self.streams.find(asked.app, asked.id) {
            Some(p) => p,
            // Another node may have sent the viewer here.
            None => Box::pin(self.admit(asked)).await?.0,
        };
        packager.asked();
        self.ready(&packager).await?;
        let all = packager.renditions();
        let Some((rendition, (_, cache))) = all.iter().find(|r| r.name == name).zip(packager.cut()) else {
            return Ok(respond::sentence(StatusCode::NOT_FOUND, "the stream has no such rendition"));
        };
        let mut found = look(rendition, file, limit(&packager)).await;
        if matches!(found, Look::Missing) && packager.stream.is_relayed() && may_exist(rendition, file) {
            found = self.elsewhere(&packager, asked).await.into();
        }
        let kind = if name.kind == b't' { Kind::TransportStream } else { Kind::Mp4 };
        match found {
            Look::Here(bytes) => Ok(respond::media(bytes, kind, cache, &asked.parts.headers)),
            Look::Closed => Err(Again::Retry),
            Look::NotYet => {
                let text = "the stream has stalled: the part did not come";
                Ok(respond::sentence(StatusCode::SERVICE_UNAVAILABLE, text))
            }
            Look::Missing | Look::TooFar => {
                Ok(respond::sentence(StatusCode::NOT_FOUND, "the stream has no such segment (any more)"))
            }
        }
    }

    async fn elsewhere(&self, packager: &Packager, asked: &Asked<'_>) -> Option<Bytes> {
        let elsewhere = self.elsewhere.as_ref()?;
        let _one = self.asking.try_acquire().ok()?;
        let path = route::percent(asked.parts.uri.path(), false);
        elsewhere.file(packager.stream.key(), &path).await
    }

    /// Asks whether the viewer may play, and finds or starts the stream's packager. The play is missing when
    /// the stream has ended and only its end is left to show.
    async fn admit(&self, asked: &Asked<'_>) -> Result<(Arc<Packager>, Option<Play>), Again> {
        let key = StreamKey::new(asked.app, asked.id);
        let agent = asked.parts.headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
        let request = Request {
            key: key.clone(),
            query: route::decoded(asked.text),
            peer: asked.peer,
            user_agent: agent.to_owned(),
            protocol: Protocol::Hls,
        };
        match self.egress.play(request).await {
            Ok(play) => {
                let packager = self.streams.get_or_start(&key, &play.stream, &*self.settings);
                packager.asked();
                Ok((packager, Some(play)))
            }
            Err(Refusal::NotLive(_)) if self.streams.find(asked.app, asked.id).is_some() => {
                let packager = self.streams.find(asked.app, asked.id).ok_or(Again::Retry)?;
                packager.asked();
                Ok((packager, None))
            }
            Err(refusal) => Err(Again::Answer(refused(&refusal))),
        }
    }

    async fn ready(&self, packager: &Arc<Packager>) -> Result<(), Again> {
        match packager.ready(FIRST).await {
            Phase::Ready => Ok(()),
            Phase::Closed => Err(Again::Retry),
            Phase::Impossible(why) => Err(Again::Answer(respond::sentence(StatusCode::NOT_FOUND, why))),
            Phase::Starting => {
                let text = "the stream has not sent a whole segment yet: try again";
                Err(Again::Answer(respond::sentence(StatusCode::NOT_FOUND, text)))
            }
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl Asked<'_> {
    /// Whether the request's session is known to this packager; if so, it is noted as alive.
    fn has_session(&self, packager: &Packager) -> bool {
        let known = self
            .query
            .session
            .is_some_and(|s| packager.sessions.touch(packager.sessions.number(s), packager.now()));
        if known {
            packager.asked();
        }
        known
    }

    /// The query for child URIs: the session first, then what the client sent along, such as a token.
    fn query_with(&self, session: Option<&str>) -> String {
        let mut out = String::new();
        let pairs = session.map(|s| format!("session={s}"));
        for p in pairs.as_deref().into_iter().chain(route::handed_on(self.text)) {
            out.push(if out.is_empty() { '?' } else { '&' });
            out.push_str(p);
        }
        out
    }
}

impl<T> From<Option<T>> for Look<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Look::Missing, Look::Here)
    }
}

impl Directory {
    fn read<T>(&self, f: impl FnOnce(&Streams) -> T) -> T {
        f(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, app: &str, id: &str) -> Option<Arc<Packager>> {
        self.read(|s| s.get(app)?.get(id).cloned())
    }

    fn get_or_start(
        self: &Arc<Self>,
        key: &StreamKey,
        stream: &Arc<Stream>,
        settings: &Settings,
    ) -> Arc<Packager> {
        let mut streams = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let app = streams.entry(key.app.clone()).or_default();
        if let Some(p) = app.get(&key.id) {
            // The stream may have ended and begun anew under its name.
            if Arc::ptr_eq(&p.stream, stream) {
                return p.clone();
            }
        }
        let packager = Arc::new(Packager::new(stream.clone(), settings(key)));
        app.insert(key.id.clone(), packager.clone());
        let (directory, key) = (self.clone(), key.clone());
        let task = packager.clone().run(move |p| directory.forget(&key, p));
        tokio::spawn(task);
        packager
    }

    fn forget(&self, key: &StreamKey, packager: &Arc<Packager>) {
        let mut streams = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(app) = streams.get_mut(&key.app) {
            if app.get(&key.id).is_some_and(|p| Arc::ptr_eq(p, packager)) {
                app.remove(&key.id);
            }
            if app.is_empty() {
                streams.remove(&key.app);
            }
        }
    }
}

async fn look(rendition: &Rendition, file: File, limit: Duration) -> Look<Bytes> {
    match file {
        File::Part(place) => rendition.part(place, limit).await,
        File::Segment(n) => rendition.window(|w| w.segment(n).map(|s| s.bytes.clone())).into(),
        File::Init(n) => rendition.window(|w| w.init(n).map(|i| i.bytes.clone())).into(),
        File::Playlist => Look::Missing,
    }
}

/// Whether another node can have what this one lacks: a number that has been, and not long ago.
fn may_exist(rendition: &Rendition, file: File) -> bool {
    let media_sequence = match file {
        File::Part(place) => place.media_sequence,
        File::Segment(n) => n,
        File::Init(_) => return true,
        File::Playlist => return false,
    };
    let newest = rendition.newest().map_or(0, |p| p.media_sequence);
    (newest.saturating_sub(RECENT)..=newest).contains(&media_sequence)
}

fn limit(packager: &Packager) -> Duration {
    packager.cut().map_or(FIRST, |(s, _)| s.target_duration * WAIT_TARGETS)
}

fn new_session() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn refused(refusal: &Refusal) -> Response<Bytes> {
    let status = match refusal {
        Refusal::UnknownApp(_) | Refusal::InvalidId(_) | Refusal::NotLive(_) | Refusal::NotCreated(_) => {
            StatusCode::NOT_FOUND
        }
        Refusal::Disabled(_) => StatusCode::NOT_FOUND,
        Refusal::Stopping | Refusal::Draining | Refusal::Limit(_) | Refusal::Unavailable(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::FORBIDDEN,
    };
    respond::sentence(status, refusal.to_string())
}
