//! A publisher over WHIP: H.264 with a stamp in each frame, and silence in Opus.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::again;
use crate::cli::{Load, PublishWhip};
use crate::error::Error;
use crate::http::Server;
use crate::report::Report;
use crate::rtc::{Got, Head, LAYERS, Session, Wants, asked_again, h264, rtx, sender_report};
use crate::run::{self, Client, Stop};
use crate::source::{Source, VIDEO_HEADER};
use crate::stamp::{self, Stamp};
use crate::stats::{Stats, now};
use crate::target;

/// The longest payload of a video packet.
const PAYLOAD: usize = 1100;
/// 20 ms of silence in Opus (RFC 6716), in stereo.
const SILENCE: [u8; 3] = [0xfc, 0xff, 0xfe];
const AUDIO_STEP: Duration = Duration::from_millis(20);
const REPORT: Duration = Duration::from_secs(1);
const LAYER_SHARE: [u32; 3] = [6, 3, 1];
/// Packets of a layer that can be sent again.
const KEPT: usize = 512;

pub(crate) fn run(options: &PublishWhip) -> Result<Report, Error> {
    let load: &Load = &options.load;
    if options.source.places.is_some() {
        return Err(Error::Rtc("publish-whip does not know --places: leave it out".into()));
    }
    let reconnect = options.source.reconnect;
    let mut urls = target::each(load);
    let parse = |url: &String| Server::parse(url, load.allow_remote);
    let servers = urls.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    urls.sort_unstable();
    urls.dedup();
    if urls.len() < servers.len() {
        return Err(Error::SameStream { clients: servers.len() });
    }
    let media = Arc::new(Media::open(options)?);
    run::run("publish-whip", load, |Client { index, stats, stop }| {
        let (server, media) = (servers[index].clone(), media.clone());
        async move {
            again::publish(reconnect, index, &stats, &stop, |sessions| {
                let seat = Seat { index, stats: &stats, sessions };
                publish(seat, &server, &media, stop.clone())
            })
            .await
        }
    })
}

/// Which client publishes, where its counts go, and how often it was let in before.
#[derive(Clone, Copy)]
struct Seat<'a> {
    index: usize,
    stats: &'a Stats,
    sessions: u64,
}

/// What all publishers send: a source for each layer, the smallest first.
struct Media {
    layers: Vec<Source>,
    /// The parameter sets.
    sets: Vec<Vec<u8>>,
    profile: String,
    length_size: u8,
    stamps: bool,
    /// One packet in so many is left out the first time.
    lose_every: Option<u32>,
}

impl Media {
    fn open(options: &PublishWhip) -> Result<Self, Error> {
        let full = Source::open(&options.source)?;
        let unfit = |why: &str| Error::Rtc(format!("the source cannot be published over WHIP: {why}"));
        let length_size = full.stampable.ok_or_else(|| unfit("it is not H.264 in classic FLV"))?;
        let head = full.head.iter().find(|m| m.video).ok_or_else(|| unfit("it has no configuration"))?;
        let record = head.body.get(VIDEO_HEADER..).unwrap_or_default();
        let (profile, sets) = avcc(record).ok_or_else(|| unfit("its configuration is broken"))?;
        let count = usize::from(options.simulcast.max(1));
        let mut layers = Vec::new();
        for share in LAYER_SHARE.iter().skip(LAYER_SHARE.len() - count) {
            layers.push(match (&options.source.file, share) {
                (None, 2..) => crate::synthetic::source((options.source.kbps / share).max(20)),
                _ => full.clone(),
            });
        }
        let (stamps, lose_every) = (!options.source.no_stamp, options.lose_every);
        Ok(Media { layers, sets, profile, length_size, stamps, lose_every })
    }
}

/// Profile and level in hexadecimal, and the parameter sets, of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1).
fn avcc(record: &[u8]) -> Option<(String, Vec<Vec<u8>>)> {
    let profile = record.get(1..4)?.iter().map(|b| format!("{b:02x}")).collect();
    let mut sets = Vec::new();
    let mut rest = record.get(5..)?;
    for mask in [0x1f, 0xff] {
        let (count, behind) = rest.split_first()?;
        rest = behind;
        for _ in 0..count & mask {
            let (length, behind) = rest.split_first_chunk()?;
            let (set, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            sets.push(set.to_vec());
            rest = behind;
        }
    }
    Some((profile, sets))
}

/// Publishes in one session until it ends or the run does.
async fn publish(seat: Seat<'_>, server: &Server, media: &Media, mut stop: Stop) -> Result<(), Error> {
    let begin = Instant::now();
    let (index, stats) = (seat.index, seat.stats);
    let first = 0x1000_0000 + index as u32 * 16;
    let wants = Wants::Publish {
        profile: media.profile.clone(),
        ssrcs: [first, first + 8],
        layers: media.layers.len(),
    };
    // Publishers are told from players that run beside them.
    let session = tokio::select! {
        session = Session::open(server, &wants, true, (seat.sessions + 1) << 32 | index as u64) => session?,
        () = stop.wait() => return Ok(()),
    };
    if seat.sessions == 0 {
        stats.started(begin.elapsed());
    }
    let (video, audio) = (session.answer.video.unwrap_or(0), session.answer.audio);
    let count = if session.answer.simulcast { media.layers.len() } else { 1 };
    // Where only one layer is taken, it is the best one.
    let layers =
        media.layers.iter().enumerate().skip(media.layers.len() - count).map(|(layer, source)| Layer {
            source,
            rid: (count > 1).then(|| LAYERS[layer]),
            head: Head { pt: video, ssrc: first + if count > 1 { layer as u32 } else { 0 }, seq: 1 },
            next: 0,
            round: 0,
            frames: 0,
            sent: (0, 0),
            kept: VecDeque::new(),
        });
    let layers = layers.collect();
    let again = session.answer.rtx.filter(|_| count == 1).map(|pt| Head { pt, ssrc: rtx(first), seq: 1 });
    let audio = audio.map(|pt| Head { pt, ssrc: first + 8, seq: 1 });
    let mut publisher =
        Publisher { index, stats, session, media, layers, again, audio, begin: Instant::now(), sounds: 0 };
    let ended = tokio::select! {
        ended = publisher.publish() => ended,
        () = stop.wait() => return publisher.session.close().await,
    };
    ended.map_err(|error| Error::Session(Box::new(error)))
}

struct Publisher<'a> {
    index: usize,
    stats: &'a Stats,
    session: Session,
    media: &'a Media,
    layers: Vec<Layer<'a>>,
    /// The stream of retransmissions (RFC 4588); without it packets are sent again as they were.
    again: Option<Head>,
    audio: Option<Head>,
    begin: Instant,
    sounds: u32,
}

struct Layer<'a> {
    source: &'a Source,
    rid: Option<&'static str>,
    head: Head,
    /// The next message of the source, and how often the source has been sent.
    next: usize,
    round: u64,
    frames: u32,
    /// Packets and bytes.
    sent: (u32, u32),
    /// The last packets: sequence number, header, payload.
    kept: VecDeque<(u16, Vec<u8>, Vec<u8>)>,
}

impl Layer<'_> {
    /// The next picture: its message, and its time in milliseconds since the beginning.
    fn picture(&mut self) -> Option<(usize, u64)> {
        for _ in 0..=self.source.body.len() {
            let Some(message) = self.source.body.get(self.next) else {
                (self.next, self.round) = (0, self.round + 1);
                continue;
            };
            if message.video {
                return Some((self.next, self.round * self.source.length + message.time));
            }
            self.next += 1;
        }
        None
    }
}

impl Publisher<'_> {
    /// Sends each frame at its time until something ends it.
    async fn publish(&mut self) -> Result<(), Error> {
        let mut report = self.begin;
        loop {
            let mut due = report.min(self.begin + AUDIO_STEP * self.sounds);
            for layer in 0..self.layers.len() {
                while let Some((message, time)) = self.layers[layer].picture() {
                    let at = self.begin + Duration::from_millis(time);
                    if at > Instant::now() {
                        due = due.min(at);
                        break;
                    }
                    self.send_picture(layer, message, time)?;
                }
            }
            while self.begin + AUDIO_STEP * self.sounds <= Instant::now() {
                self.send_sound()?;
            }
            if report <= Instant::now() {
                report += REPORT;
                self.send_reports()?;
            }
            let next = due.min(report).min(self.begin + AUDIO_STEP * self.sounds);
            // Keyframes that are asked for come by themselves, one a second.
            let mut asked = Vec::new();
            let mut got = |got: Got<'_>| {
                if let Got::Rtcp(compound) = got {
                    asked.extend(asked_again(compound));
                }
            };
            self.session.turn(Some(next), &mut got).await?;
            for (ssrc, seq) in asked {
                self.send_again(ssrc, seq)?;
            }
        }
    }

    /// Sends a packet that the server asks for, if it is still there.
    fn send_again(&mut self, ssrc: u32, seq: u16) -> Result<(), Error> {
        let Publisher { stats, session, layers, again, .. } = self;
        let Some(layer) = layers.iter().find(|layer| layer.head.ssrc == ssrc) else { return Ok(()) };
        let Some((_, header, payload)) = layer.kept.iter().find(|kept| kept.0 == seq) else { return Ok(()) };
        let bytes = match again {
            Some(again) => {
                let (marker, timestamp) =
                    (header[1] & 0x80 != 0, [header[4], header[5], header[6], header[7]]);
                let header = again.next(marker, u32::from_be_bytes(timestamp), &[(session.answer.mid, b"0")]);
                session.send_rtp(&header, &[&seq.to_be_bytes()[..], payload].concat())?
            }
            None => session.send_rtp(header, payload)?,
        };
        stats.bytes.fetch_add(bytes as u64, Relaxed);
        stats.packets.fetch_add(1, Relaxed);
        Ok(())
    }

    fn send_picture(&mut self, layer: usize, message: usize, time: u64) -> Result<(), Error> {
        let Publisher { index, stats, session, media, layers, .. } = self;
        let top = layer + 1 == layers.len();
        let layer = &mut layers[layer];
        layer.next = message + 1;
        let number = layer.frames;
        layer.frames = number.wrapping_add(1);
        let body = &layer.source.body[message].body;
        let (header, nals) = body.split_at(VIDEO_HEADER.min(body.len()));
        let key = header.first().is_some_and(|first| first >> 4 == 1);
        let mut frame = nals.to_vec();
        if media.stamps {
            let at = stamp::place(nals, media.length_size);
            let (stamp, length) = Stamp { nanos: now(), number }.write(media.length_size);
            frame.splice(at..at, stamp[..length].iter().copied());
        }
        let sets: Vec<&[u8]> = media.sets.iter().filter(|_| key).map(Vec::as_slice).collect();
        let payloads = h264(&sets, &frame, media.length_size, PAYLOAD);
        let timestamp = (time * 90) as u32;
        let (mid, rid) = (session.answer.mid, session.answer.rid.filter(|_| layer.rid.is_some()));
        let last = payloads.len().saturating_sub(1);
        for (at, payload) in payloads.into_iter().enumerate() {
            let name = layer.rid.unwrap_or_default().as_bytes();
            let seq = layer.head.seq;
            let header = layer.head.next(at == last, timestamp, &[(mid, b"0"), (rid, name)]);
            layer.sent = (layer.sent.0.wrapping_add(1), layer.sent.1.wrapping_add(payload.len() as u32));
            if media.lose_every.is_none_or(|every| layer.sent.0 % every != 0) {
                let bytes = session.send_rtp(&header, &payload)?;
                stats.bytes.fetch_add(bytes as u64, Relaxed);
                stats.packets.fetch_add(1, Relaxed);
            }
            layer.kept.push_back((seq, header, payload));
            if layer.kept.len() > KEPT {
                layer.kept.pop_front();
            }
        }
        if top {
            stats.frame(*index);
            stats.watch(*index, |watch, now| watch.moved(now));
        }
        Ok(())
    }

    fn send_sound(&mut self) -> Result<(), Error> {
        let timestamp = self.sounds.wrapping_mul(960);
        self.sounds += 1;
        let Some(head) = &mut self.audio else { return Ok(()) };
        let header = head.next(self.sounds == 1, timestamp, &[(self.session.answer.mid, b"1")]);
        self.session.send_rtp(&header, &SILENCE).map(|_| ())
    }

    /// Ties the clocks of the streams together.
    fn send_reports(&mut self) -> Result<(), Error> {
        let (nanos, passed) = (now(), self.begin.elapsed().as_micros() as u64);
        let mut reports = Vec::new();
        for layer in &self.layers {
            let (packets, bytes) = layer.sent;
            reports.push(sender_report(layer.head.ssrc, nanos, (passed * 9 / 100) as u32, packets, bytes));
        }
        if let Some(head) = &self.audio {
            let bytes = self.sounds.wrapping_mul(SILENCE.len() as u32);
            reports.push(sender_report(head.ssrc, nanos, (passed * 48 / 1000) as u32, self.sounds, bytes));
        }
        reports.iter().try_for_each(|report| self.session.send_rtcp(report).map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn media(more: &[&str]) -> Media {
        let line =
            [&["sluice-load", "publish-whip", "--url", "http://127.0.0.1/LiveApp/whip/cam1"][..], more]
                .concat();
        let Command::PublishWhip(options) = Cli::parse_from(line).command else { panic!("not publish-whip") };
        Media::open(&options).unwrap()
    }

    #[test]
    fn the_made_up_stream_can_be_published() {
        let media = media(&[]);
        assert_eq!((media.profile.as_str(), media.sets.len(), media.layers.len()), ("42c01f", 2, 1));
        assert_eq!((media.sets[0][0] & 0x1f, media.sets[1][0] & 0x1f), (7, 8));
    }

    #[test]
    fn layers_differ_in_their_rates() {
        let media = media(&["--simulcast", "3", "--kbps", "1200"]);
        let sizes: Vec<usize> =
            media.layers.iter().map(|l| l.body.iter().map(|m| m.body.len()).sum()).collect();
        assert_eq!(sizes.len(), 3);
        assert!(sizes[0] * 3 / 2 < sizes[1] && sizes[1] * 2 < sizes[2], "{sizes:?}");
    }

    #[test]
    fn pictures_go_on_over_the_end_of_the_source() {
        let media = media(&[]);
        let source = &media.layers[0];
        let head = Head { pt: 96, ssrc: 1, seq: 0 };
        let kept = VecDeque::new();
        let mut layer = Layer { source, rid: None, head, next: 0, round: 0, frames: 0, sent: (0, 0), kept };
        let mut times = Vec::new();
        for _ in 0..482 {
            let (at, time) = layer.picture().unwrap();
            layer.next = at + 1;
            times.push(time);
        }
        assert_eq!((times[0], times[240], times[480]), (0, 8000, 16_000));
        assert!(times.is_sorted());
    }

    #[test]
    fn broken_configurations_are_refused() {
        let record = [1, 66, 192, 31, 255, 0xe1, 0, 2, 0x67, 1, 1, 0, 1, 0x68];
        assert_eq!(avcc(&record), Some(("42c01f".into(), vec![vec![0x67, 1], vec![0x68]])));
        assert!((0..record.len()).all(|len| avcc(&record[..len]).is_none()));
    }
}
