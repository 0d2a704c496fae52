//! A publisher over RTMP.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use sluice_rtmp::session::{ClientEvent, Purpose};
use tokio::time::{Instant, sleep_until};

use crate::cli::{Load, SourceOptions};
use crate::error::Error;
use crate::report::Report;
use crate::rtmp::{Connection, Target};
use crate::run::{self, Client};
use crate::source::{Source, VIDEO_HEADER};
use crate::stamp::{self, Stamp};
use crate::stats::{Stats, now};
use crate::target;

pub(crate) fn run(load: &Load, options: &SourceOptions) -> Result<Report, Error> {
    let mut urls = target::each(load);
    let targets =
        urls.iter().map(|url| Target::parse(url, load.allow_remote)).collect::<Result<Vec<_>, _>>()?;
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
    run::run("publish", load, |Client { index, stats, mut stop }| {
        let (source, target) = (source.clone(), targets[index].clone());
        async move {
            let mut publisher = Publisher::open(index, &stats, &source, &target).await?;
            // Dropped halfway, a write leaves what it did not send to the next one.
            let ended = tokio::select! {
                ended = publisher.publish() => ended,
                () = stop.wait() => Ok(()),
            };
            ended?;
            publisher.finish().await
        }
    })
}

struct Publisher<'a> {
    index: usize,
    stats: &'a Stats,
    source: &'a Source,
    connection: Connection,
    begin: Instant,
    /// Video frames so far.
    frames: u32,
}

impl<'a> Publisher<'a> {
    async fn open(
        index: usize,
        stats: &'a Stats,
        source: &'a Source,
        target: &Target,
    ) -> Result<Publisher<'a>, Error> {
        let begin = Instant::now();
        let mut connection = Connection::open(target, Purpose::Publish, index as u64).await?;
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
        stats.started(begin.elapsed());
        Ok(Publisher { index, stats, source, connection, begin: Instant::now(), frames: 0 })
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
                self.stats.frame(self.index);
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
        self.stats.bytes.fetch_add(sent as u64, Relaxed);
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
