//! A viewer over WHEP. Most viewers only count packets, for decrypting would make the generator, and not the server, what is measured.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::cli::PlayWhep;
use crate::error::Error;
use crate::http::Server;
use crate::report::Report;
use crate::rtc::{Got, Received, Session, Wants};
use crate::run::{self, Client, Stop};
use crate::stamp::Seeker;
use crate::stats::{Arrivals, Stats};
use crate::target;

/// How often the server is told what came.
const FEEDBACK: Duration = Duration::from_millis(100);
/// The SSRC of those that only receive.
const OURS: u32 = 1;

pub(crate) fn run(options: &PlayWhep) -> Result<Report, Error> {
    let load = &options.load;
    let parse = |url: &String| Server::parse(url, load.allow_remote);
    let servers = target::each(load).iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let every = options.decrypt_every as usize;
    run::run("play-whep", load, |Client { index, stats, stop }| {
        let server = servers[index].clone();
        async move { play(index, &stats, &server, index % every == 0, stop).await }
    })
}

async fn play(
    index: usize,
    stats: &Stats,
    server: &Server,
    decrypts: bool,
    mut stop: Stop,
) -> Result<(), Error> {
    let begin = Instant::now();
    stats.watch(index, |watch, now| watch.begin(now));
    let session = tokio::select! {
        session = Session::open(server, &Wants::Play, decrypts, index as u64 + 1) => session?,
        () = stop.wait() => return Ok(()),
    };
    let received = Received::new(session.answer.transport_cc, begin);
    let mut viewer = Viewer {
        index,
        stats,
        session,
        received,
        begin,
        live: false,
        seeker: Seeker::new(),
        arrivals: Arrivals::default(),
        stamped: false,
    };
    tokio::select! {
        ended = viewer.watch() => ended.inspect_err(|error| stats.lost(index, error)),
        () = stop.wait() => viewer.session.close().await,
    }
}

struct Viewer<'a> {
    index: usize,
    stats: &'a Stats,
    session: Session,
    received: Received,
    begin: Instant,
    /// Whether there was a packet.
    live: bool,
    seeker: Seeker,
    arrivals: Arrivals,
    /// Whether its frames are stamped, as far as that can be seen.
    stamped: bool,
}

impl Viewer<'_> {
    async fn watch(&mut self) -> Result<(), Error> {
        let mut feedback = Instant::now() + FEEDBACK;
        loop {
            self.turn(feedback).await?;
            let now = Instant::now();
            if now >= feedback {
                feedback = now + FEEDBACK;
                self.stats.lost_packets.fetch_add(self.received.lost(), Relaxed);
                let compound = self.received.compound(OURS);
                self.session.send_rtcp(&compound)?;
            }
        }
    }

    async fn turn(&mut self, until: Instant) -> Result<(), Error> {
        let Viewer { index, stats, session, received, begin, live, seeker, arrivals, stamped } = self;
        let video = session.answer.video;
        let mut moved = false;
        let mut got = |got: Got<'_>| match got {
            Got::Sealed(packet, arrival) => {
                stats.packets.fetch_add(1, Relaxed);
                stats.bytes.fetch_add(packet.len() as u64, Relaxed);
                received.packet(packet, arrival.at);
                if !std::mem::replace(live, true) {
                    stats.started(begin.elapsed());
                }
                let picture = video.is_some_and(|pt| packet.get(1) == Some(&(pt | 0x80)));
                moved |= picture;
                if picture && !*stamped {
                    stats.frame(*index);
                }
            }
            Got::Rtp(packet, arrival) => {
                if let Some(stamp) = seeker.stamps(packet).next() {
                    *stamped = true;
                    arrivals.saw(stats, *index, stamp, arrival.wall);
                }
            }
            Got::Rtcp(_) => {}
        };
        session.turn(Some(until), &mut got).await?;
        if moved {
            stats.watch(*index, |watch, now| watch.moved(now));
        }
        Ok(())
    }
}
