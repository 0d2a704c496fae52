//! A client that fetches whole segments, or any other files, at a fixed rate over a connection that stays open.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::cli::Load;
use crate::error::Error;
use crate::http::{Connection, Server};
use crate::playlist::Playlist;
use crate::report::Report;
use crate::run::{self, Client};
use crate::stats::Stats;
use crate::target;

/// How often a live playlist is looked at again; segments stay there for longer.
const RELOAD: Duration = Duration::from_secs(3);

pub(crate) fn run(load: &Load, requests_per_second: f64) -> Result<Report, Error> {
    let parse = |url: &String| Server::parse(url, load.allow_remote);
    let servers = target::each(load).iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let period = Duration::from_secs_f64(f64::from(load.clients) / requests_per_second);
    run::run("segments", load, |Client { index, stats, stop }| {
        let server = servers[index].clone();
        async move { stop.cut(fetch(index, &stats, server, period)).await }
    })
}

async fn fetch(index: usize, stats: &Stats, server: Server, period: Duration) -> Result<(), Error> {
    let begin = Instant::now();
    let mut connection = Connection::new(server.clone());
    let mut ticks = interval_at(begin, period);
    // Late answers are not made up for by a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut files = Vec::new();
    let mut loaded = None;
    for number in index.. {
        ticks.tick().await;
        if loaded.is_none_or(|at: Instant| at.elapsed() > RELOAD) {
            files = list(&mut connection, &server).await?;
            loaded = Some(Instant::now());
        }
        let length = connection.count(&files[number % files.len()]).await?;
        if number == index {
            stats.started(begin.elapsed());
        }
        stats.requests.fetch_add(1, Relaxed);
        stats.bytes.fetch_add(length as u64, Relaxed);
    }
    Ok(())
}

/// What to fetch: the segments of the first variant that the playlist leads to, or the file itself.
async fn list(connection: &mut Connection, server: &Server) -> Result<Vec<String>, Error> {
    let mut path = server.url.path.clone();
    if !path.split('?').next().is_some_and(|p| p.ends_with(".m3u8")) {
        return Ok(vec![path]);
    }
    let mut body = Vec::new();
    for _ in 0..2 {
        path = connection.get(&path, &mut body).await?;
        let odd = || Error::Playlist(format!("{path} is not an HLS playlist"));
        let playlist = std::str::from_utf8(&body).ok().and_then(Playlist::parse).ok_or_else(odd)?;
        match playlist.variant {
            Some(variant) => path = server.url.join(&path, variant)?,
            None => {
                // The oldest may be gone by the time that it is asked for.
                let oldest = playlist.first + (playlist.segments.len() as u64 / 2).min(3);
                let files = playlist.segments_from(oldest).map(|(_, uri)| server.url.join(&path, uri));
                let files = files.collect::<Result<Vec<_>, _>>()?;
                let none = || Error::Playlist(format!("{path} lists no segment to fetch"));
                return if files.is_empty() { Err(none()) } else { Ok(files) };
            }
        }
    }
    Err(Error::Playlist(format!("{} leads to a second master playlist", server.url.path)))
}
