//! What is measured. Each measurement starts a server of its own and ends it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::servers::{FILE, FILES, Kind, Kit, Published, Server};
use super::table::{Metric, Sample};
use crate::error::Error;
use crate::report::Report;

/// How much of everything.
pub(super) struct Plan {
    window: u32,
    warmup: u32,
    /// Viewers at the two ends of a slope.
    rtmp: [u32; 2],
    hls: [u32; 2],
    webrtc: [u32; 3],
    publishers: u32,
}

impl Plan {
    pub(super) fn full() -> Self {
        Plan {
            window: 10,
            warmup: 3,
            rtmp: [100, 400],
            hls: [50, 200],
            webrtc: [100, 300, 600],
            publishers: 100,
        }
    }

    pub(super) fn quick() -> Self {
        Plan {
            window: 4,
            warmup: 1,
            rtmp: [100, 400],
            hls: [50, 200],
            webrtc: [100, 300, 600],
            publishers: 100,
        }
    }
}

/// Segments of the stream that is fetched are two seconds long.
const SEGMENT_KBPS: usize = FILE * 8 / 2 / 1000;
const SEGMENT_REQUESTS_A_SECOND: u32 = 800;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measurement {
    Startup,
    Rtmp,
    Segments,
    LowLatency,
    Hints,
    Webrtc,
    Ingest,
    Ingest500,
}

impl Measurement {
    pub(super) const ALL: [Measurement; 8] = [
        Measurement::Startup,
        Measurement::Rtmp,
        Measurement::Segments,
        Measurement::LowLatency,
        Measurement::Hints,
        Measurement::Webrtc,
        Measurement::Ingest,
        Measurement::Ingest500,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Measurement::Startup => "startup",
            Measurement::Rtmp => "rtmp",
            Measurement::Segments => "segments",
            Measurement::LowLatency => "ll-hls",
            Measurement::Hints => "ll-hls-hints",
            Measurement::Webrtc => "webrtc",
            Measurement::Ingest => "ingest",
            Measurement::Ingest500 => "ingest-500",
        }
    }

    /// What it is compared with.
    pub(super) fn other(self, kit: &Kit) -> Option<Kind> {
        match self {
            Measurement::Webrtc => kit.mediamtx.is_some().then_some(Kind::MediaMtx),
            Measurement::LowLatency | Measurement::Hints | Measurement::Ingest500 => None,
            _ => Some(Kind::Nginx),
        }
    }

    pub(super) fn run(self, kit: &Kit, kind: Kind, plan: &Plan) -> Result<Vec<Sample>, Error> {
        let server = kit.start(kind)?;
        let bench = Bench { kit, server, plan };
        match self {
            Measurement::Startup => bench.startup(),
            Measurement::Rtmp => bench.rtmp(),
            Measurement::Segments => bench.segments(),
            Measurement::LowLatency => bench.low_latency(),
            Measurement::Hints => bench.hints(),
            Measurement::Webrtc => bench.webrtc(),
            Measurement::Ingest => bench.ingest(),
            Measurement::Ingest500 => bench.ingest_500(),
        }
    }
}

struct Bench<'a> {
    kit: &'a Kit,
    server: Server,
    plan: &'a Plan,
}

impl Bench<'_> {
    fn startup(&self) -> Result<Vec<Sample>, Error> {
        sleep(Duration::from_secs(1));
        let memory = self.server.usage()?.rss as f64 / f64::from(1 << 20);
        let milliseconds = self.server.startup.as_secs_f64() * 1e3;
        Ok(vec![(Metric::Startup, milliseconds), (Metric::IdleMemory, memory)])
    }

    fn rtmp(&self) -> Result<Vec<Sample>, Error> {
        let _publisher = self.publish(&Published::File(&self.kit.media), 2)?;
        let url = self.server.rtmp_url("bench");
        let play = |viewers: u32| self.load(&["play-rtmp", "--url", &url], viewers, 100, self.plan.window);
        let [few, many] = self.plan.rtmp;
        let (a, b) = (play(few)?, play(many)?);
        Ok(vec![
            (Metric::RtmpFew, percent(&a)?),
            (Metric::RtmpMany, percent(&b)?),
            (Metric::RtmpSlope, slope(&a, &b)?),
            (Metric::RtmpFewP50, delay(&a)?.0),
            (Metric::RtmpFewP99, delay(&a)?.1),
            (Metric::RtmpManyP50, delay(&b)?.0),
            (Metric::RtmpManyP99, delay(&b)?.1),
            (Metric::RtmpStart, a.start_ms.map_or(f64::NAN, |s| s.p50)),
            (Metric::RtmpMemory, memory(&b)?),
        ])
    }

    fn segments(&self) -> Result<Vec<Sample>, Error> {
        let rate = SEGMENT_REQUESTS_A_SECOND.to_string();
        let fetch = |arguments: &[&str]| {
            let arguments = [&["segments", "--requests-per-second", &rate], arguments].concat();
            self.load(&arguments, 16, 100, self.plan.window)
        };
        let (report, besides) = if self.server.kind == Kind::Nginx {
            (fetch(&["--url", &self.server.http_url("{n}.m4s"), "--streams", &FILES.to_string()])?, 0.0)
        } else {
            // Long enough for a few segments.
            let _publisher = self.publish(&Published::Synthetic { kbps: SEGMENT_KBPS }, 12)?;
            let before = self.cpu_percent(Duration::from_secs(4))?;
            (fetch(&["--url", &self.server.http_url("LiveApp/streams/bench.m3u8")])?, before)
        };
        // What ingest and packaging take is there without any request, and nginx has none of it.
        let spent = server(&report)?.cpu_s - besides / 100.0 * report.window_s;
        let requests = report.requests.max(1) as f64;
        let mean = report.mbit_s * 1e6 / 8.0 * report.window_s / requests / 1024.0;
        Ok(vec![(Metric::Segments, spent / requests * 1e4), (Metric::SegmentSize, mean)])
    }

    fn low_latency(&self) -> Result<Vec<Sample>, Error> {
        let _publisher = self.publish(&Published::File(&self.kit.media), 6)?;
        let [few, many] = self.plan.hls;
        let (a, b) = (self.play_hls(few, &[])?, self.play_hls(many, &[])?);
        Ok(vec![
            (Metric::HlsFew, percent(&a)?),
            (Metric::HlsMany, percent(&b)?),
            (Metric::HlsSlope, slope(&a, &b)?),
            (Metric::HlsRequests, b.requests as f64 / b.window_s / b.clients as f64),
            (Metric::HlsP50, delay(&a)?.0),
            (Metric::HlsP99, delay(&a)?.1),
            (Metric::HlsManyP99, delay(&b)?.1),
            (Metric::HlsMemory, memory(&b)?),
        ])
    }

    fn hints(&self) -> Result<Vec<Sample>, Error> {
        let _publisher = self.publish(&Published::File(&self.kit.media), 6)?;
        let [few, many] = self.plan.hls;
        let (a, b) = (self.play_hls(few, &["--hints"])?, self.play_hls(many, &["--hints"])?);
        Ok(vec![
            (Metric::HintsSlope, slope(&a, &b)?),
            (Metric::HintsP50, delay(&a)?.0),
            (Metric::HintsP99, delay(&a)?.1),
        ])
    }

    fn webrtc(&self) -> Result<Vec<Sample>, Error> {
        let _publisher = self.publish(&Published::Whip(&self.kit.slim), 3)?;
        let url = self.server.whep_url("bench");
        let play = |viewers: u32| self.load(&["play-whep", "--url", &url], viewers, 50, self.plan.window);
        let [few, some, many] = self.plan.webrtc;
        let (a, b, c) = (play(few)?, play(some)?, play(many)?);
        let lost = [&a, &b, &c].map(|report| report.lost_packets).iter().sum::<u64>();
        Ok(vec![
            (Metric::WebrtcFew, forwarded(&a)?),
            (Metric::WebrtcSome, forwarded(&b)?),
            (Metric::WebrtcMany, forwarded(&c)?),
            (Metric::WebrtcLost, lost as f64),
            (Metric::WebrtcP50, delay(&a)?.0),
            (Metric::WebrtcP99, delay(&a)?.1),
            (Metric::WebrtcStart, a.start_ms.map_or(f64::NAN, |s| s.p50)),
            (Metric::WebrtcMemory, memory(&c)?),
        ])
    }

    fn ingest(&self) -> Result<Vec<Sample>, Error> {
        let url = self.server.rtmp_url("load{n}");
        let report = self.load(&["ingest", "--url", &url], self.plan.publishers, 50, self.plan.window)?;
        Ok(vec![(Metric::Ingest, percent(&report)?), (Metric::IngestMemory, memory(&report)?)])
    }

    fn ingest_500(&self) -> Result<Vec<Sample>, Error> {
        let url = self.server.rtmp_url("load{n}");
        let report = self.load(&["ingest", "--url", &url], 500, 50, 60)?;
        let lost = report.failed + report.clients.saturating_sub(report.live);
        let spent = server(&report)?;
        Ok(vec![
            (Metric::Ingest500Lost, lost as f64),
            (Metric::Ingest500Cpu, spent.cpu_percent),
            (Metric::Ingest500Memory, spent.rss as f64 / f64::from(1 << 20)),
        ])
    }

    fn play_hls(&self, viewers: u32, more: &[&str]) -> Result<Report, Error> {
        let url = self.server.http_url("LiveApp/streams/bench.m3u8");
        self.load(&[&["play-hls", "--url", &url], more].concat(), viewers, 50, self.plan.window)
    }

    /// Publishes, and waits some seconds.
    fn publish(&self, stream: &Published<'_>, seconds: u64) -> Result<impl Drop + use<>, Error> {
        let publisher = self.kit.publish(&self.server, stream)?;
        sleep(Duration::from_secs(seconds));
        Ok(publisher)
    }

    fn load(&self, arguments: &[&str], clients: u32, rate: u32, window: u32) -> Result<Report, Error> {
        let pids = self.server.pids().iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let numbers = [clients, rate, self.plan.warmup, window].map(|n| n.to_string());
        let [clients, rate, warmup, window] = numbers.each_ref().map(String::as_str);
        let common =
            ["-n", clients, "--rate", rate, "--warmup", warmup, "--duration", window, "--pid", &pids];
        self.kit.load(&[arguments, &common].concat())
    }

    /// What the server takes as it is, in percent of a core.
    fn cpu_percent(&self, time: Duration) -> Result<f64, Error> {
        let (from, begin) = (self.server.usage()?, Instant::now());
        sleep(time);
        let spent = self.server.usage()?.cpu.saturating_sub(from.cpu);
        Ok(spent.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0)
    }
}

fn server(report: &Report) -> Result<crate::report::Spent, Error> {
    report.server.ok_or_else(|| Error::Bench("a report without the server's usage".into()))
}

/// Packets that viewers get for a second of CPU.
fn forwarded(report: &Report) -> Result<f64, Error> {
    Ok(report.packets_s * report.window_s / server(report)?.cpu_s)
}

/// CPU per client in percent of a core.
fn percent(report: &Report) -> Result<f64, Error> {
    Ok(server(report)?.cpu_percent / report.clients as f64)
}

/// CPU of each further client in percent of a core.
fn slope(few: &Report, many: &Report) -> Result<f64, Error> {
    let more = many.clients as f64 - few.clients as f64;
    Ok((server(many)?.cpu_percent - server(few)?.cpu_percent) / more)
}

/// Memory per client in KiB.
fn memory(report: &Report) -> Result<f64, Error> {
    Ok(server(report)?.rss_per_client / 1024.0)
}

/// p50 and p99 in milliseconds.
fn delay(report: &Report) -> Result<(f64, f64), Error> {
    let none = || Error::Bench(format!("{}: no stamped frame arrived", report.command));
    report.delay_ms.map(|d| (d.p50, d.p99)).ok_or_else(none)
}
