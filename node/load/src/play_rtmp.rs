//! A player over RTMP.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use sluice_rtmp::session::{ClientEvent, Purpose};
use tokio::time::{Instant, sleep};

use crate::cli::Load;
use crate::error::Error;
use crate::report::Report;
use crate::rtmp::{Connection, Target};
use crate::run::{self, Client};
use crate::stamp::{self, Seeker};
use crate::stats::{Arrivals, Stats, now};
use crate::target;

/// A stamp lies in front of the frame, at most behind an access unit delimiter: no need to look further.
const STAMP_WITHIN: usize = 64 + stamp::MAX;

/// Pauses between tries to play again: the first, doubled up to the most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(1);

pub(crate) fn run(load: &Load, reconnect: bool) -> Result<Report, Error> {
    let parse = |url: &String| Target::parse(url, load.allow_remote);
    let targets = target::each(load).iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    run::run("play-rtmp", load, |Client { index, stats, stop }| {
        let target = targets[index].clone();
        async move { stop.cut(play(index, &stats, &target, reconnect)).await }
    })
}

/// Plays until something ends it; with `reconnect`, again and again, once there was something to see.
async fn play(index: usize, stats: &Stats, target: &Target, reconnect: bool) -> Result<(), Error> {
    let begin = Instant::now();
    stats.watch(index, |watch, now| watch.begin(now));
    let mut seen = Seen { index, stats, begin, live: false };
    let mut pause = PAUSE_FIRST;
    loop {
        let mut pictures = false;
        let Err(error) = seen.session(target, &mut pictures).await else { return Ok(()) };
        stats.lost(index, &error);
        if !reconnect || !seen.live {
            return Err(error);
        }
        stats.reconnect(&error);
        pause = if pictures { PAUSE_FIRST } else { (pause * 2).min(PAUSE_MOST) };
        sleep(pause).await;
    }
}

/// Where counts go, and what this player has seen.
struct Seen<'a> {
    index: usize,
    stats: &'a Stats,
    begin: Instant,
    /// Whether there was a picture.
    live: bool,
}

impl Seen<'_> {
    /// Plays over one connection; `pictures` says whether there were any.
    async fn session(&mut self, target: &Target, pictures: &mut bool) -> Result<(), Error> {
        let Seen { index, stats, .. } = *self;
        let mut connection = Connection::open(target, Purpose::Play, index as u64).await?;
        let seeker = Seeker::new();
        let mut arrivals = Arrivals::default();
        loop {
            let event = connection.event().await?;
            stats.bytes.fetch_add(connection.take_received(), Relaxed);
            match event {
                ClientEvent::Video { payload, .. } => {
                    if is_picture(&payload) {
                        stats.watch(index, |watch, now| watch.moved(now));
                        *pictures = true;
                        if !std::mem::replace(&mut self.live, true) {
                            stats.started(self.begin.elapsed());
                        }
                    }
                    let front = &payload[..payload.len().min(STAMP_WITHIN)];
                    if let Some(stamp) = seeker.stamps(front).next() {
                        arrivals.saw(stats, index, stamp, now());
                    }
                }
                ClientEvent::Ended { code, .. } => return Err(Error::Ended(code)),
                _ => {}
            }
        }
    }
}

/// Whether a video message holds a picture and not only the codec's configuration.
fn is_picture(payload: &[u8]) -> bool {
    match payload {
        [first, ..] if first & 0x80 != 0 => matches!(first & 0x0f, 1 | 3),
        [_, kind, ..] => *kind == 1,
        _ => false,
    }
}
