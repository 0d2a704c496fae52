//! A publisher over RTMP.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use sluice_rtmp::flv;
use sluice_rtmp::session::{ClientEvent, Purpose};
use tokio::time::{Instant, sleep_until};

use crate::again;
use crate::cli::{Load, SourceOptions};
use crate::error::Error;
use crate::report::Report;
use crate::rtmp::{Connection, Target};
use crate::run::{self, Client, Stop};
use crate::source::{Source, VIDEO_HEADER};
use crate::stamp::{self, Stamp};
use crate::stats::{Stats, now};
use crate::target;

pub(crate) fn run(load: &Load, options: &SourceOptions) -> Result<Report, Error> {
    let mut urls = target::each(load);
    let target = |(index, url): (usize, &String)| {
        let target = Target::parse(url, load.allow_remote)?;
        let target = if options.reconnect { target.moving() } else { target };
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
            again::publish(reconnect, index, &stats, &stop, |sessions| {
                let seat = Seat { index, stats: &stats, first: sessions == 0 };
                session(seat, &source, &target, stop.clone())
            })
            .await
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
    target: &'a Target,
    connection: Connection,
    /// The server wants it to come back over another connection.
    asked: bool,
    begin: Instant,
    /// Video frames so far.
    frames: u32,
}

impl<'a> Publisher<'a> {
    async fn open(seat: Seat<'a>, source: &'a Source, target: &'a Target) -> Result<Publisher<'a>, Error> {
        let begin = Instant::now();
        let connection = begun(seat, source, target).await?;
        if seat.first {
            seat.stats.started(begin.elapsed());
        }
        Ok(Publisher { seat, source, target, connection, asked: false, begin: Instant::now(), frames: 0 })
    }

    /// Goes on over a new connection, and leaves the old one then. While there is none, it stays: the next keyframe is
    /// another chance.
    async fn change(&mut self) -> Result<(), Error> {
        self.send().await?;
        let Ok(new) = begun(self.seat, self.source, self.target).await else { return Ok(()) };
        let mut old = std::mem::replace(&mut self.connection, new);
        self.asked = false;
        self.seat.stats.asked_to_reconnect.fetch_add(1, Relaxed);
        old.client().finish();
        // The server may have closed it by now.
        let _ = old.flush().await;
        Ok(())
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
                if self.asked && m.video && flv::begins_anew(&m.body) {
                    self.change().await?;
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
                event = self.connection.event() => match event? {
                    ClientEvent::Ended { code, .. } => return Err(Error::Ended(code)),
                    ClientEvent::ReconnectRequest { .. } => self.asked = true,
                    _ => {}
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

/// A connection over which the stream's description was sent.
async fn begun(seat: Seat<'_>, source: &Source, target: &Target) -> Result<Connection, Error> {
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
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use bytes::BytesMut;
    use clap::Parser;
    use sluice_rtmp::chunk::Limits;
    use sluice_rtmp::session::{Event, Server};
    use std::io::{Read, Write};
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

    /// Takes one publisher in over a connection, asks it to reconnect after `asks` pictures, and gives the pictures and
    /// how it ended.
    fn take_in(mut socket: std::net::TcpStream, asks: Option<usize>) -> (Vec<Vec<u8>>, Option<Event>) {
        let mut server = Server::new(1, Limits::default());
        let (mut input, mut pictures) = (BytesMut::new(), Vec::new());
        loop {
            while let Some(event) = server.input(&mut input).unwrap() {
                match event {
                    Event::Connect { .. } => server.accept_connect(),
                    Event::Publish(_) => server.accept_publish(),
                    Event::Video { payload, .. } if payload.get(1) == Some(&1) => {
                        pictures.push(payload.to_vec());
                        if Some(pictures.len()) == asks {
                            assert!(server.ask_to_reconnect("moving"));
                        }
                    }
                    Event::Unpublish => return (pictures, Some(Event::Unpublish)),
                    _ => {}
                }
            }
            socket.write_all(&server.output().split()).unwrap();
            let mut block = [0; 4096];
            match socket.read(&mut block) {
                Ok(0) | Err(_) => return (pictures, None),
                Ok(n) => input.extend_from_slice(&block[..n]),
            }
        }
    }

    #[test]
    fn a_publisher_that_is_asked_to_goes_on_over_another_connection_at_a_keyframe() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rtmp://{}/LiveApp/cam1", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (first, _) = listener.accept().unwrap();
            let first = std::thread::spawn(|| take_in(first, Some(10)));
            let (second, _) = listener.accept().unwrap();
            assert!(!first.is_finished(), "the first one is left when there is another");
            (take_in(second, None), first.join().unwrap())
        });
        let line =
            ["sluice-load", "publish", "--url", &url, "--reconnect", "--duration", "5s", "--warmup", "0s"];
        let Command::Publish(options) = Cli::parse_from(line).command else { panic!("not publish") };
        let report = run(&options.load, &options.source).unwrap();
        assert_eq!((report.asked_to_reconnect, report.reconnects, report.failed), (1, 0, 0), "{report:?}");
        let ((after, _), (before, ended)) = server.join().unwrap();
        assert_eq!(ended, Some(Event::Unpublish));
        assert!(!before.is_empty() && before.len() % 30 == 0, "up to a keyframe, and not that one");
        assert!(flv::begins_anew(&after[0]), "it begins with a keyframe");
    }

    #[test]
    fn places_are_on_this_machine() {
        let target = Target::parse("rtmp://[::1]/LiveApp/cam1", false).unwrap();
        assert!(matches!(target.at_place(0), Err(Error::Places(_))));
    }
}
