//! A publisher over RTMP.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use sluice_rtmp::session::{ClientEvent, Purpose};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::{Load, SourceOptions};
use crate::error::Error;
use crate::report::Report;
use crate::rtmp::{Connection, Target};
use crate::run::{self, Client, Stop};
use crate::source::{Source, VIDEO_HEADER};
use crate::stamp::{self, Stamp};
use crate::stats::{Stats, now};
use crate::target;

/// Pauses between tries to publish again: the first, doubled up to the most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(1);

pub(crate) fn run(load: &Load, options: &SourceOptions) -> Result<Report, Error> {
    let mut urls = target::each(load);
    let target = |(index, url): (usize, &String)| {
        let target = Target::parse(url, load.allow_remote)?;
        match options.places {
            Some(places) => target.at_place((index % usize::from(places)) as u8),
            None => Ok(target),
        }
    };
    let targets = urls.iter().enumerate().map(target).collect::<Result<Vec<_>, _>>()?;
    urls.sort_unstable();
    urls.dedup();
    if urls.len() < targets.len() {
        return Err(Error::SameStream { clients: targets.len() });
    }
    let mut source = Source::open(options)?;
    if options.no_stamp {
        source.stampable = None;
    }
    let source = Arc::new(source);
    let reconnect = options.reconnect;
    run::run("publish", load, |Client { index, stats, stop }| {
        let (source, target) = (source.clone(), targets[index].clone());
        async move {
            stats.watch(index, |watch, now| watch.begin(now));
            let mut pause = PAUSE_FIRST;
            let mut first = true;
            loop {
                let session = session(Seat { index, stats: &stats, first }, &source, &target, stop.clone());
                let Err(error) = session.await else { return Ok(()) };
                match &error {
                    Error::Session(ended) => stats.lost(index, ended),
                    refused => stats.problem(index, refused, |noticed| noticed.errors += 1),
                }
                if !reconnect {
                    return Err(error);
                }
                // One that has published for a while begins with the short pause again.
                if matches!(error, Error::Session(_)) {
                    pause = PAUSE_FIRST;
                    first = false;
                }
                stats.reconnect(&error);
                let mut stop = stop.clone();
                tokio::select! {
                    () = sleep(pause) => pause = (pause * 2).min(PAUSE_MOST),
                    () = stop.wait() => return Ok(()),
                }
            }
        }
    })
}

/// Which client publishes, where its counts go, and whether it has not been let in before.
#[derive(Clone, Copy)]
struct Seat<'a> {
    index: usize,
    stats: &'a Stats,
    first: bool,
}

/// Publishes over one connection until it ends or the run does.
async fn session(seat: Seat<'_>, source: &Source, target: &Target, mut stop: Stop) -> Result<(), Error> {
    let opened = tokio::select! {
        opened = Publisher::open(seat, source, target) => opened,
        () = stop.wait() => return Ok(()),
    };
    let mut publisher = opened?;
    // Dropped halfway, a write leaves what it did not send to the next one.
    let ended = tokio::select! {
        ended = publisher.publish() => ended,
        () = stop.wait() => Ok(()),
    };
    ended.map_err(|e| Error::Session(Box::new(e)))?;
    publisher.finish().await
}

struct Publisher<'a> {
    seat: Seat<'a>,
    source: &'a Source,
    connection: Connection,
    begin: Instant,
    /// Video frames so far.
    frames: u32,
}

impl<'a> Publisher<'a> {
    async fn open(seat: Seat<'a>, source: &'a Source, target: &Target) -> Result<Publisher<'a>, Error> {
        let begin = Instant::now();
        let mut connection = Connection::open(target, Purpose::Publish, seat.index as u64).await?;
        let client = connection.client();
        client.send_metadata(source.metadata.clone());
        for m in &source.head {
            if m.video {
                client.send_video(0, &[&m.body]);
            } else {
                client.send_audio(0, &[&m.body]);
            }
        }
        connection.flush().await?;
        if seat.first {
            seat.stats.started(begin.elapsed());
        }
        Ok(Publisher { seat, source, connection, begin: Instant::now(), frames: 0 })
    }

    /// Sends each message at its time until something ends it.
    async fn publish(&mut self) -> Result<(), Error> {
        for round in 0.. {
            let offset = round * self.source.length;
            for m in &self.source.body {
                let time = offset + m.time;
                let due = self.begin + Duration::from_millis(time);
                if due > Instant::now() {
                    self.send().await?;
                    self.wait(due).await?;
                }
                // RTMP's clock wraps after 49 days.
                let timestamp = time as u32;
                if !m.video {
                    self.connection.client().send_audio(timestamp, &[&m.body]);
                    continue;
                }
                let number = self.frames;
                self.frames = number.wrapping_add(1);
                self.seat.stats.frame(self.seat.index);
                let client = self.connection.client();
                match self.source.stampable {
                    Some(size) => {
                        let (header, nals) = m.body.split_at(VIDEO_HEADER.min(m.body.len()));
                        let (front, rest) = nals.split_at(stamp::place(nals, size));
                        let (stamp, length) = Stamp { nanos: now(), number }.write(size);
                        client.send_video(timestamp, &[header, front, &stamp[..length], rest]);
                    }
                    None => client.send_video(timestamp, &[&m.body]),
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Error> {
        let sent = self.connection.flush().await?;
        self.seat.stats.watch(self.seat.index, |watch, now| watch.moved(now));
        self.seat.stats.bytes.fetch_add(sent as u64, Relaxed);
        Ok(())
    }

    /// Listens to the server until it is time.
    async fn wait(&mut self, due: Instant) -> Result<(), Error> {
        let mut due = std::pin::pin!(sleep_until(due));
        loop {
            tokio::select! {
                () = &mut due => return Ok(()),
                event = self.connection.event() => if let ClientEvent::Ended { code, .. } = event? {
                    return Err(Error::Ended(code));
                }
            }
        }
    }

    async fn finish(&mut self) -> Result<(), Error> {
        self.connection.client().finish();
        self.connection.flush().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use std::net::TcpListener;

    /// Publishes to a server that closes each connection; returns the report and who connected.
    fn refused(more: &[&str]) -> (Report, Vec<std::net::IpAddr>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rtmp://{}/LiveApp/cam{{n}}", listener.local_addr().unwrap());
        let peers = std::thread::spawn(move || {
            let mut peers = Vec::new();
            listener.set_nonblocking(true).unwrap();
            for _ in 0..150 {
                while let Ok((_, peer)) = listener.accept() {
                    peers.push(peer.ip());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            peers
        });
        let mut line =
            vec!["sluice-load", "publish", "--url", &url, "-n", "2", "--duration", "900ms", "--warmup", "0s"];
        line.extend_from_slice(more);
        let Command::Publish(options) = Cli::parse_from(line).command else { panic!("not publish") };
        let report = run(&options.load, &options.source).unwrap();
        (report, peers.join().unwrap())
    }

    #[test]
    fn a_publisher_comes_back_only_when_told_to() {
        let (report, peers) = refused(&[]);
        assert_eq!((report.failed, report.reconnects, peers.len()), (2, 0, 2));
        let (report, peers) = refused(&["--reconnect", "--places", "2"]);
        assert_eq!(report.failed, 0);
        assert!(report.reconnects >= 4, "{report:?}");
        let [one, two] = [1, 2].map(|i| std::net::IpAddr::from([127, 0, 1, i]));
        assert!(peers.contains(&one) && peers.contains(&two) && peers.len() >= 4, "{peers:?}");
    }

    #[test]
    fn places_are_on_this_machine() {
        let target = Target::parse("rtmp://[::1]/LiveApp/cam1", false).unwrap();
        assert!(matches!(target.at_place(0), Err(Error::Places(_))));
    }
}
