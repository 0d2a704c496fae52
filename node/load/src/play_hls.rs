//! A player of HLS: the first variant and its audio rendition, each followed on its own over two connections, one
//! for playlists and one for media, since the next playlist is waited for while media comes.

mod player;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::PlayHls;
use crate::error::Error;
use crate::http::{Connection, Server};
use crate::playlist::{Place, Playlist};
use crate::report::Report;
use crate::run::{self, Client};
use crate::stamp::Seeker;
use crate::stats::{Arrivals, Stats, now};
use crate::target::{self, HttpUrl};

/// Requests that fail one after the other before a player gives up.
const ATTEMPTS: u32 = 5;
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// A server that answers blocking reloads with nothing new is asked again only after this.
const NOTHING_NEW: Duration = Duration::from_millis(50);
/// Without low latency a player begins so many segments before the end.
const SEGMENTS_BACK: u64 = 3;

pub(crate) fn run(options: &PlayHls) -> Result<Report, Error> {
    let (load, hints, like_a_player) = (&options.load, options.hints, options.like_a_player);
    let parse = |url: &String| Server::parse(url, load.allow_remote);
    let servers = target::each(load).iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    run::run("play-hls", load, |Client { index, stats, stop }| {
        let server = servers[index].clone();
        async move {
            if like_a_player {
                stop.cut(player::play(index, stats, server)).await
            } else {
                stop.cut(play(index, stats, server, hints)).await
            }
        }
    })
}

/// Plays until something ends it.
async fn play(index: usize, stats: Arc<Stats>, server: Server, hints: bool) -> Result<(), Error> {
    let begin = Some(Instant::now());
    let mut playlists = Playlists::new(&server, &stats);
    let master = playlists.load(&server.url.path).await?;
    let playlist = playlists.parse()?;
    let join = |uri| server.url.join(&master, uri);
    let variant = playlist.variant.map(join).transpose()?;
    let audio = playlist.audio.map(join).transpose()?;

    let media = Media::new(index, &server, &stats, begin);
    let (Some(variant), audio) = (variant, audio) else {
        return follow(playlists, media, master, hints).await;
    };
    let video = Box::pin(follow(playlists, media, variant, hints));
    match audio {
        Some(audio) => {
            let (playlists, media) =
                (Playlists::new(&server, &stats), Media::new(index, &server, &stats, None));
            let audio = Box::pin(follow(playlists, media, audio, hints));
            tokio::try_join!(video, audio).map(|_| ())
        }
        None => video.await,
    }
}

/// Follows the media playlist at `path`.
async fn follow(mut playlists: Playlists, mut media: Media, path: String, hints: bool) -> Result<(), Error> {
    let mut request = path;
    let mut position = Position { hints, next: None, map: None };
    let mut wanted = Wanted::default();
    loop {
        let asked = Instant::now();
        let (loaded, ()) = tokio::join!(playlists.load(&request), media.take(&wanted));
        let path = loaded?;
        let playlist = playlists.parse()?;
        wanted = position.advance(&playlist, &playlists.url, &path)?;
        if playlist.ended && wanted.files.is_empty() {
            return Err(Error::Ended("EXT-X-ENDLIST".into()));
        }
        let plain = without_directives(&path);
        if playlist.low_latency && !playlist.ended {
            request = blocking(&plain, playlist.next(), playlist.can_skip);
            if wanted.files.is_empty() && asked.elapsed() < NOTHING_NEW {
                sleep(NOTHING_NEW).await;
            }
        } else {
            request = plain;
            let half = Duration::try_from_secs_f64(playlist.target / 2.0).unwrap_or_default();
            media.take(&std::mem::take(&mut wanted)).await;
            sleep(half.clamp(RETRY_AFTER, Duration::from_secs(10))).await;
        }
    }
}

/// How far a player has come in a media playlist.
struct Position {
    hints: bool,
    /// What to take next; nothing before the first playlist.
    next: Option<Place>,
    map: Option<String>,
}

/// What to fetch next.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    init: Option<String>,
    files: Vec<String>,
}

impl Position {
    /// What the playlist has that is new, and goes on behind it.
    fn advance(&mut self, playlist: &Playlist<'_>, url: &HttpUrl, path: &str) -> Result<Wanted, Error> {
        let join = |uri| url.join(path, uri);
        let mut wanted = Wanted::default();
        if let Some(map) = playlist.map.map(join).transpose()?
            && self.map.as_ref() != Some(&map)
        {
            wanted.init = Some(map.clone());
            self.map = Some(map);
        }
        let behind = playlist.next();
        if !playlist.low_latency {
            let sequence = playlist.first + playlist.segments.len() as u64;
            let from = self.next.map_or(sequence.saturating_sub(SEGMENTS_BACK), |next| next.sequence);
            let files: Result<_, _> = playlist.segments_from(from).map(|(_, uri)| join(uri)).collect();
            wanted.files = files?;
            self.next = Some(Place { sequence, part: 0 });
            return Ok(wanted);
        }
        if let Some(next) = self.next {
            let files: Result<_, _> = playlist.parts_from(next).map(|(_, uri)| join(uri)).collect();
            wanted.files = files?;
        }
        // A hinted part that was taken is not listed as new again.
        self.next = Some(self.next.map_or(behind, |next| next.max(behind)));
        if let Some(hint) = playlist.hint.filter(|_| self.hints && !playlist.ended)
            && self.next == Some(behind)
        {
            wanted.files.push(join(hint)?);
            self.next = Some(Place { part: behind.part + 1, ..behind });
        }
        Ok(wanted)
    }
}

/// The playlist's address without what an earlier request asked for.
fn without_directives(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    let mut out = path.to_owned();
    for (i, pair) in query.split('&').filter(|p| !p.starts_with("_HLS_")).enumerate() {
        out.push(if i == 0 { '?' } else { '&' });
        out.push_str(pair);
    }
    out
}

/// The address that answers when the part at `next` is there.
fn blocking(path: &str, next: Place, skip: bool) -> String {
    let mark = if path.contains('?') { '&' } else { '?' };
    let skip = if skip { "&_HLS_skip=YES" } else { "" };
    format!("{path}{mark}_HLS_msn={}&_HLS_part={}{skip}", next.sequence, next.part)
}

/// Loads playlists.
struct Playlists {
    url: HttpUrl,
    connection: Connection,
    stats: Arc<Stats>,
    body: Vec<u8>,
}

impl Playlists {
    fn new(server: &Server, stats: &Arc<Stats>) -> Self {
        Playlists {
            url: server.url.clone(),
            connection: Connection::new(server.clone()),
            stats: stats.clone(),
            body: Vec::new(),
        }
    }

    /// Loads one, a few times if need be: the path that answered.
    async fn load(&mut self, path: &str) -> Result<String, Error> {
        let mut attempt = 1;
        loop {
            let answer = self.connection.get(path, &mut self.body).await;
            self.stats.requests.fetch_add(1, Relaxed);
            self.stats.bytes.fetch_add(self.body.len() as u64, Relaxed);
            match answer {
                Ok(path) => return Ok(path),
                Err(error) => {
                    self.stats.failed_requests.fetch_add(1, Relaxed);
                    if attempt == ATTEMPTS {
                        return Err(error);
                    }
                }
            }
            attempt += 1;
            sleep(RETRY_AFTER).await;
        }
    }

    fn parse(&self) -> Result<Playlist<'_>, Error> {
        let odd =
            || Error::Playlist(format!("{} answers with something else than a playlist", self.url.path));
        std::str::from_utf8(&self.body).ok().and_then(Playlist::parse).ok_or_else(odd)
    }
}

/// Fetches media and looks at the clock in it.
struct Media {
    index: usize,
    connection: Connection,
    stats: Arc<Stats>,
    seeker: Seeker,
    arrivals: Arrivals,
    body: Vec<u8>,
    /// When the player started, until it has its first media.
    begin: Option<Instant>,
}

impl Media {
    fn new(index: usize, server: &Server, stats: &Arc<Stats>, begin: Option<Instant>) -> Self {
        Media {
            index,
            connection: Connection::new(server.clone()),
            stats: stats.clone(),
            seeker: Seeker::new(),
            arrivals: Arrivals::default(),
            body: Vec::new(),
            begin,
        }
    }

    /// Fetches one after the other; what fails is counted and left out, as a player would.
    async fn take(&mut self, wanted: &Wanted) {
        if let Some(init) = &wanted.init {
            self.get(init).await;
        }
        for file in &wanted.files {
            if !self.get(file).await {
                continue;
            }
            let now = now();
            if let Some(begin) = self.begin.take() {
                self.stats.started(begin.elapsed());
            }
            for stamp in self.seeker.stamps(&self.body) {
                self.arrivals.saw(&self.stats, self.index, stamp, now);
            }
        }
    }

    async fn get(&mut self, path: &str) -> bool {
        let answer = self.connection.get(path, &mut self.body).await;
        self.stats.requests.fetch_add(1, Relaxed);
        self.stats.bytes.fetch_add(self.body.len() as u64, Relaxed);
        if answer.is_err() {
            self.stats.failed_requests.fetch_add(1, Relaxed);
        }
        answer.is_ok()
    }
}

#[cfg(test)]
mod tests;
