//! `sluice-load`: publishes and plays live streams against any media server, and says what the server spends.
//!
//! - [`cli`]: the commands and their options; [`target`]: addresses, and which of them are allowed;
//! - [`run`]: starts clients at a rate, waits, measures a window; [`stats`], [`continuity`], [`report`], [`process`]: what
//!   is counted, and what is said in the end;
//! - [`publish`], [`publish_whip`], [`play_rtmp`], [`play_whep`], [`play_hls`], [`segments`]: one client of each kind, on
//!   top of [`rtmp`], [`rtc`], [`http`] and [`playlist`];
//! - [`garbage_udp`]: what a WebRTC port should not mind;
//! - [`source`], [`flv`], [`synthetic`]: what is published; [`stamp`]: the clock in its frames;
//! - [`bench`]: Sluice next to nginx and MediaMTX, as a table.

mod again;
mod bench;
mod cli;
mod continuity;
mod error;
mod flv;
mod garbage_udp;
mod http;
mod play_hls;
mod play_rtmp;
mod play_whep;
mod playlist;
mod process;
mod publish;
mod publish_whip;
mod report;
mod rtc;
mod rtmp;
mod run;
mod segments;
mod source;
mod stamp;
mod stats;
mod synthetic;
mod target;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use error::Error;

fn main() -> ExitCode {
    let cli = Cli::parse();
    process::raise_file_limit();
    match execute(cli) {
        Ok(all_well) if all_well => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sluice-load: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs a command; whether every client did well.
fn execute(cli: Cli) -> Result<bool, Error> {
    let (report, json) = match cli.command {
        Command::Bench(options) => return bench::run(&options).map(|()| true),
        Command::Publish(o) => (publish::run(&o.load, &o.source)?, o.load.json),
        Command::Ingest(o) => (publish::run(&o.load, &o.source)?, o.load.json),
        Command::PlayRtmp(o) => (play_rtmp::run(&o.load, o.reconnect)?, o.load.json),
        Command::PublishWhip(o) => (publish_whip::run(&o)?, o.load.json),
        Command::PlayWhep(o) => (play_whep::run(&o)?, o.load.json),
        Command::PlayHls(o) => (play_hls::run(&o)?, o.load.json),
        Command::GarbageUdp(o) => (garbage_udp::run(&o)?, o.load.json),
        Command::Segments(o) => (segments::run(&o.load, o.requests_per_second)?, o.load.json),
    };
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(report.failed == 0)
}
