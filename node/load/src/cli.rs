//! Commands and options.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Publishes and plays live streams against any media server, and says what the server spends.
#[derive(Parser, Debug)]
#[command(version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Publish streams over RTMP, each video frame stamped with the wall clock.
    Publish(Publish),
    /// Publish many small streams over RTMP, and count those that fail or are lost.
    Ingest(Ingest),
    /// Publish streams over WHIP, each video frame stamped with the wall clock.
    PublishWhip(PublishWhip),
    /// Play over RTMP.
    PlayRtmp(PlayRtmp),
    /// Play over WHEP: count packets and losses, and the delay of stamped frames.
    PlayWhep(PlayWhep),
    /// Play HLS: LL-HLS with blocking reloads and parts where the server offers it, else whole segments.
    PlayHls(PlayHls),
    /// Fetch HLS segments, or any other files, over connections that stay open.
    Segments(Segments),
    /// Send hostile datagrams to a WebRTC port (udp://HOST:PORT): noise, STUN, DTLS and RTP of nobody.
    GarbageUdp(GarbageUdp),
    /// Measure a Sluice node next to nginx with its RTMP module and next to MediaMTX, and print a table.
    Bench(Bench),
}

/// What all commands have in common.
#[derive(Args, Debug, Clone)]
pub(crate) struct Load {
    /// Where to: {n} is replaced by the client's number, from 0.
    #[arg(long)]
    pub(crate) url: String,
    /// How many clients.
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) clients: u32,
    /// {n} counts up to this and starts over, so that clients share streams.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) streams: Option<u32>,
    /// Clients started a second.
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// The window that is measured, such as 10s or 2m; at most a day.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Time between the start of the last client and the window.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// Processes of the server, to measure their CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
    /// Threads of the generator itself.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) threads: u8,
    /// Print the report as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Send load to addresses that are not this machine.
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

/// What is published.
#[derive(Args, Debug, Clone)]
pub(crate) struct SourceOptions {
    /// An FLV file to publish in a loop; without it a grey picture with silence is made up.
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// The bit rate of the made-up stream, in kbit/s.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(20..=50_000))]
    pub(crate) kbps: u32,
    /// Leave the frames as they are.
    #[arg(long)]
    pub(crate) no_stamp: bool,
    /// When a connection breaks or is refused, publish the same stream again after 0.1 to 1 s, as an encoder does. When
    /// the server asks for it (enhanced RTMP v2), go on over a new connection at the next keyframe.
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// Connect from so many addresses of this machine's loopback network (127.0.1.1 and up), as if from so many
    /// places: what a load balancer that hashes the source spreads.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=250))]
    pub(crate) places: Option<u8>,
}

#[derive(Args, Debug)]
pub(crate) struct Publish {
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) source: SourceOptions,
}

#[derive(Args, Debug)]
#[command(mut_arg("clients", |a| a.default_value("500")), mut_arg("duration", |a| a.default_value("60s")))]
pub(crate) struct Ingest {
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) source: SourceOptions,
}

#[derive(Args, Debug)]
pub(crate) struct PlayRtmp {
    #[command(flatten)]
    pub(crate) load: Load,
    /// When a stream ends or a connection breaks, play the same stream again after 0.1 to 1 s.
    #[arg(long)]
    pub(crate) reconnect: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PublishWhip {
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) source: SourceOptions,
    /// Simulcast layers, of a sixth, a third and all of the bit rate; a file is the same in each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub(crate) simulcast: u8,
    /// Leave out one video packet in so many the first time, as if it were lost; it is sent when the server asks for it.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) lose_every: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct PlayWhep {
    #[command(flatten)]
    pub(crate) load: Load,
    /// One viewer in so many decrypts, and looks for stamps; the others only count.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) decrypt_every: u32,
}

#[derive(Args, Debug)]
pub(crate) struct PlayHls {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Ask for the part that the preload hint names before the playlist lists it, as Apple's players do. Without
    /// it parts are asked for when they are listed, as hls.js does.
    #[arg(long)]
    pub(crate) hints: bool,
    /// Play whole segments as an ordinary player does: begin three target durations before the end, keep a buffer and a
    /// clock, begin anew when the session is lost; and count stalls, missing media, errors and connections.
    #[arg(long, conflicts_with = "hints")]
    pub(crate) like_a_player: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Segments {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Requests a second, of all clients together.
    #[arg(long, default_value_t = 500.0, value_parser = rate)]
    pub(crate) requests_per_second: f64,
}

#[derive(Args, Debug)]
pub(crate) struct GarbageUdp {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Datagrams a second, of all clients together.
    #[arg(long, default_value_t = 10_000.0, value_parser = rate)]
    pub(crate) packets_per_second: f64,
}

#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// The node's binary.
    #[arg(long, default_value = "target/release/sluice-node")]
    pub(crate) node: PathBuf,
    /// nginx.
    #[arg(long, default_value = "/usr/sbin/nginx")]
    pub(crate) nginx: PathBuf,
    /// MediaMTX, for WebRTC; without it Sluice is measured alone.
    #[arg(long)]
    pub(crate) mediamtx: Option<PathBuf>,
    /// The folder with the test media, see bench/run.
    #[arg(long)]
    pub(crate) media: PathBuf,
    /// How often each measurement is repeated; medians are shown.
    #[arg(long, default_value_t = 3, env = "BENCH_ROUNDS", value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) rounds: u32,
    /// Shorter windows and fewer viewers: for work in progress, not for the record.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only the measurements whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Write the table, as Markdown, to this file too.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a number with ms, s, m or h behind it".into()),
    };
    let seconds = number.parse::<f64>().map_err(|e| e.to_string())? * scale;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("expected at most a day".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if (0.01..=100_000.0).contains(&rate) { Ok(rate) } else { Err("expected 0.01 to 100000".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn options_are_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["sluice-load", "ingest", "--url", "rtmp://127.0.0.1/LiveApp/load{n}"]);
        let Command::Ingest(ingest) = cli.command else { panic!("not ingest") };
        assert_eq!((ingest.load.clients, ingest.load.duration), (500, Duration::from_secs(60)));
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        for bad in ["", "s", "10d", "-1s", "2000h", "nan"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(rate("0").is_err() && rate("20").is_ok());
    }
}
