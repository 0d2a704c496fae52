//! An ordinary player of HLS: it takes whole segments, begins three target durations before the end, keeps a clock, and asks for the
//! playlist as often as RFC 8216 (6.3.4) says. What it notices is counted; what fails is tried again, as players do.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::error::Error;
use crate::http::{Connection, Ends, Server};
use crate::playlist::Playlist;
use crate::stamp::Seeker;
use crate::stats::{Arrivals, Stats, now};
use crate::target::HttpUrl;

/// Time for a whole request, as hls.js has it.
const PATIENCE: Duration = Duration::from_secs(10);
/// What fails is tried again after this: a playlist so often before the session counts as lost, a segment before it counts as missed.
const RETRY_AFTER: Duration = Duration::from_millis(500);
const PLAYLIST_TRIES: u32 = 6;
const SEGMENT_TRIES: u32 = 3;
/// Target durations between the beginning and the end of the playlist.
const TARGETS_BACK: f64 = 3.0;
/// Sound and pictures of a segment are not equally long.
const UNEVEN: f64 = 0.1;
/// A playlist is not asked for more often, whatever its target duration.
const SHORTEST: Duration = Duration::from_millis(50);

/// Plays until the stream ends. A session that is lost after it has shown something is begun anew.
pub(super) async fn play(index: usize, stats: Arc<Stats>, server: Server) -> Result<(), Error> {
    let begin = Instant::now();
    stats.watch(index, |watch, now| watch.begin(now));
    let player = Player { index, begin, server, stats };
    loop {
        let Err(error) = Box::pin(player.session()).await else { return Ok(()) };
        if matches!(error, Error::Ended(_)) || !player.stats.watch(index, |watch, _| watch.has_begun()) {
            return Err(error);
        }
        player.stats.problem(index, &error, |noticed| noticed.restarts += 1);
        sleep(RETRY_AFTER).await;
    }
}

struct Player {
    index: usize,
    begin: Instant,
    server: Server,
    stats: Arc<Stats>,
}

impl Player {
    /// Plays from the master playlist on; ends with what makes it impossible to go on.
    async fn session(&self) -> Result<(), Error> {
        let mut fetcher = Fetcher::new(self);
        let master = fetcher.insist(&self.server.url.path, PLAYLIST_TRIES).await?;
        let playlist = fetcher.playlist()?;
        let join = |uri| self.server.url.join(&master, uri);
        let video = playlist.variant.map(join).transpose()?.unwrap_or_else(|| master.clone());
        let audio = playlist.audio.map(join).transpose()?;

        let mut video = Track::open(self, 0, video).await?;
        let playlist = video.fetcher.playlist()?;
        let back = playlist.target * TARGETS_BACK;
        let next = begins_at(&playlist, back);
        video.place.next = next;
        let enough = Duration::try_from_secs_f64(back - UNEVEN).unwrap_or_default();
        let tracks = 1 + usize::from(audio.is_some());
        self.stats.watch(self.index, |watch, now| watch.buffer(tracks, enough, now));
        let Some(audio) = audio else { return video.follow().await };
        let mut audio = Track::open(self, 1, audio).await?;
        audio.place.next = next;
        tokio::try_join!(video.follow(), audio.follow()).map(|_| ())
    }
}

/// The number of the segment with which so many seconds are left; the oldest when the playlist is shorter.
fn begins_at(playlist: &Playlist<'_>, back: f64) -> u64 {
    let mut left = 0.0;
    let whole: Vec<_> = playlist.segments_from(0).map(|(number, _)| number).zip(&playlist.segments).collect();
    for (number, segment) in whole.into_iter().rev() {
        left += segment.duration;
        if left >= back {
            return number;
        }
    }
    playlist.first
}

/// One rendition that is followed.
struct Track<'a> {
    player: &'a Player,
    number: usize,
    path: String,
    place: Place,
    fetcher: Fetcher<'a>,
    seeker: Seeker,
    arrivals: Arrivals,
}

impl<'a> Track<'a> {
    /// Loads its playlist for the first time.
    async fn open(player: &'a Player, number: usize, path: String) -> Result<Self, Error> {
        let mut fetcher = Fetcher::new(player);
        let path = fetcher.insist(&path, PLAYLIST_TRIES).await?;
        let (place, seeker, arrivals) = (Place::default(), Seeker::new(), Arrivals::default());
        Ok(Track { player, number, path, place, fetcher, seeker, arrivals })
    }

    /// Takes what is listed, and looks again when it is time.
    async fn follow(&mut self) -> Result<(), Error> {
        let mut loaded = Instant::now();
        loop {
            let step = self.place.advance(&self.fetcher.playlist()?, &self.player.server.url, &self.path)?;
            if step.fell {
                let fell =
                    Error::Playlist(format!("{} fell back behind segment {}", self.path, self.place.next));
                self.player.stats.problem(self.player.index, &fell, |noticed| noticed.falls += 1);
            }
            if step.missed > 0 {
                let missed = Error::Playlist(format!("{} left out {} segments", self.path, step.missed));
                self.player
                    .stats
                    .problem(self.player.index, &missed, |noticed| noticed.missed += step.missed);
            }
            if let Some(init) = &step.init {
                self.fetcher.insist(init, SEGMENT_TRIES).await?;
            }
            for file in &step.files {
                self.take(file).await;
            }
            if step.ended {
                return Err(Error::Ended("EXT-X-ENDLIST".into()));
            }
            let wait = if step.files.is_empty() { step.target / 2.0 } else { step.target };
            sleep_until(loaded + Duration::try_from_secs_f64(wait).unwrap_or_default().max(SHORTEST)).await;
            self.path = self.fetcher.insist(&self.path, PLAYLIST_TRIES).await?;
            loaded = Instant::now();
        }
    }

    /// Fetches a segment; one that cannot be had is left out.
    async fn take(&mut self, file: &File) {
        let (index, stats) = (self.player.index, &self.player.stats);
        if file.discontinuity {
            stats.watch(index, |watch, _| watch.count(|noticed| noticed.discontinuities += 1));
        }
        if let Err(error) = self.fetcher.insist(&file.path, SEGMENT_TRIES).await {
            stats.problem(index, &error, |noticed| noticed.missed += 1);
            return;
        }
        if stats.watch(index, |watch, now| watch.received(self.number, file.duration, now)) {
            stats.started(self.player.begin.elapsed());
        }
        let now = now();
        for stamp in self.seeker.stamps(&self.fetcher.body) {
            self.arrivals.saw(stats, index, stamp, now);
        }
    }
}

/// How far a player has come in a media playlist.
#[derive(Debug, Default)]
struct Place {
    /// The number of the segment to take next.
    next: u64,
    map: Option<String>,
}

/// What a playlist has for a player.
#[derive(Debug, PartialEq)]
struct Step {
    init: Option<String>,
    files: Vec<File>,
    /// Whether it ends before what an earlier one had. Of two edges one may be a segment behind.
    fell: bool,
    /// Segments that are gone, or were never there.
    missed: u64,
    ended: bool,
    /// Its target duration in seconds.
    target: f64,
}

#[derive(Debug, PartialEq)]
struct File {
    path: String,
    duration: Duration,
    discontinuity: bool,
}

impl Place {
    /// What the playlist has that is new, and goes on behind it.
    fn advance(&mut self, playlist: &Playlist<'_>, url: &HttpUrl, path: &str) -> Result<Step, Error> {
        let join = |uri| url.join(path, uri);
        let mut step = Step {
            init: None,
            files: Vec::new(),
            fell: false,
            missed: playlist.first.saturating_sub(self.next),
            ended: playlist.ended,
            target: playlist.target,
        };
        if let Some(map) = playlist.map.map(join).transpose()?
            && self.map.as_ref() != Some(&map)
        {
            step.init = Some(map.clone());
            self.map = Some(map);
        }
        let whole = (playlist.first..).zip(playlist.segments.iter().filter(|segment| segment.uri.is_some()));
        let mut behind = playlist.first;
        for (number, segment) in whole {
            behind = number + 1;
            if number < self.next {
                continue;
            }
            match segment.uri {
                Some(uri) if !segment.gap => step.files.push(File {
                    path: join(uri)?,
                    duration: Duration::try_from_secs_f64(segment.duration).unwrap_or_default(),
                    discontinuity: segment.discontinuity,
                }),
                _ => step.missed += 1,
            }
        }
        step.fell = behind + 1 < self.next;
        self.next = self.next.max(behind);
        Ok(step)
    }
}

/// Fetches over a connection of its own, and counts what happens to it.
struct Fetcher<'a> {
    player: &'a Player,
    connection: Connection,
    body: Vec<u8>,
}

impl<'a> Fetcher<'a> {
    fn new(player: &'a Player) -> Self {
        let connection = Connection::new(player.server.clone()).with_patience(PATIENCE);
        Fetcher { player, connection, body: Vec::new() }
    }

    fn playlist(&self) -> Result<Playlist<'_>, Error> {
        let url = &self.player.server.url.path;
        let odd = || Error::Playlist(format!("{url} answers with something else than a playlist"));
        std::str::from_utf8(&self.body).ok().and_then(Playlist::parse).ok_or_else(odd)
    }

    /// Gets it, with so many tries if need be: the path that answered.
    async fn insist(&mut self, path: &str, tries: u32) -> Result<String, Error> {
        let mut tried = 0;
        loop {
            let error = match self.get(path).await {
                Ok(path) => return Ok(path),
                Err(error) => error,
            };
            let stats = &self.player.stats;
            stats.problem(self.player.index, &error, |noticed| noticed.errors += 1);
            stats.failed_requests.fetch_add(1, Relaxed);
            tried += 1;
            if tried == tries {
                return Err(error);
            }
            sleep(RETRY_AFTER).await;
        }
    }

    /// Gets it; when the connection fails, once more at once over a new one.
    async fn get(&mut self, path: &str) -> Result<String, Error> {
        let mut answer = self.connection.get(path, &mut self.body).await;
        if matches!(answer, Err(Error::Http(_) | Error::Connect(..))) {
            answer = self.connection.get(path, &mut self.body).await;
        }
        let stats = &self.player.stats;
        stats.requests.fetch_add(1, Relaxed);
        stats.bytes.fetch_add(self.body.len() as u64, Relaxed);
        let Ends { told, idle, broken } = self.connection.take_ends();
        stats.watch(self.player.index, |watch, _| {
            watch.count(|noticed| {
                noticed.told += told;
                noticed.idle += idle;
                noticed.broken += broken;
            });
        });
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn playlist(first: u64, more: &str) -> String {
        format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-MAP:URI=\"i.mp4\"\n{more}"
        )
    }

    fn listed(first: u64, count: u64) -> String {
        playlist(first, &(first..first + count).map(|n| format!("#EXTINF:2,\n{n}.m4s\n")).collect::<String>())
    }

    fn advance(place: &mut Place, text: &str) -> Step {
        let url = HttpUrl::parse("http://h/").unwrap();
        place.advance(&Playlist::parse(text).unwrap(), &url, "/a/p.m3u8").unwrap()
    }

    fn names(step: &Step) -> Vec<&str> {
        step.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn a_player_begins_three_target_durations_before_the_end() {
        let begins = |text: &str| begins_at(&Playlist::parse(text).unwrap(), 6.0);
        assert_eq!(begins(&listed(10, 8)), 15);
        assert_eq!(begins(&listed(10, 2)), 10);
        let under_way = listed(10, 8) + "#EXT-X-PART:DURATION=0.2,URI=\"18.0.m4s\"\n";
        assert_eq!(begins(&under_way), 15);
    }

    #[test]
    fn whole_segments_are_taken_once() {
        let mut place = Place { next: 12, map: None };
        let step = advance(&mut place, &listed(10, 4));
        assert_eq!((step.init.as_deref(), names(&step)), (Some("/a/i.mp4"), vec!["/a/12.m4s", "/a/13.m4s"]));
        assert_eq!(step.files[0].duration, Duration::from_secs(2));
        // The one that is under way is not whole.
        let under_way = listed(11, 4) + "#EXT-X-PART:DURATION=0.2,URI=\"15.0.m4s\"\n";
        let step = advance(&mut place, &under_way);
        assert_eq!((step.init.as_deref(), names(&step), place.next), (None, vec!["/a/14.m4s"], 15));
    }

    #[test]
    fn another_edge_may_be_a_segment_behind() {
        let mut place = Place { next: 15, map: None };
        let behind = advance(&mut place, &listed(10, 4));
        assert!(!behind.fell && behind.files.is_empty() && place.next == 15);
        assert!(advance(&mut place, &listed(10, 3)).fell);
    }

    #[test]
    fn what_is_gone_or_marked_as_a_gap_is_missed() {
        let mut place = Place { next: 10, map: None };
        let gap = playlist(12, "#EXT-X-GAP\n#EXTINF:2,\n12.m4s\n#EXT-X-DISCONTINUITY\n#EXTINF:2,\n13.m4s\n");
        let step = advance(&mut place, &gap);
        assert_eq!((step.missed, names(&step)), (3, vec!["/a/13.m4s"]));
        assert!(step.files[0].discontinuity);
    }
}
