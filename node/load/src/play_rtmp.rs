//! A player over RTMP.

use std::sync::atomic::Ordering::Relaxed;

use sluice_rtmp::session::{ClientEvent, Purpose};
use tokio::time::Instant;

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

pub(crate) fn run(load: &Load) -> Result<Report, Error> {
    let parse = |url: &String| Target::parse(url, load.allow_remote);
    let targets = target::each(load).iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    run::run("play-rtmp", load, |Client { index, stats, stop }| {
        let target = targets[index].clone();
        async move { stop.cut(play(index, &stats, &target)).await }
    })
}

/// Plays until something ends it.
async fn play(index: usize, stats: &Stats, target: &Target) -> Result<(), Error> {
    let begin = Instant::now();
    let mut connection = Connection::open(target, Purpose::Play, index as u64).await?;
    let seeker = Seeker::new();
    let mut arrivals = Arrivals::default();
    let mut live = false;
    loop {
        let event = connection.event().await?;
        stats.bytes.fetch_add(connection.take_received(), Relaxed);
        match event {
            ClientEvent::Video { payload, .. } => {
                if !live && is_picture(&payload) {
                    live = true;
                    stats.started(begin.elapsed());
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

/// Whether a video message holds a picture and not only the codec's configuration.
fn is_picture(payload: &[u8]) -> bool {
    match payload {
        [first, ..] if first & 0x80 != 0 => matches!(first & 0x0f, 1 | 3),
        [_, kind, ..] => *kind == 1,
        _ => false,
    }
}
