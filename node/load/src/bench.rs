//! Sluice next to nginx with its RTMP module, and next to MediaMTX where it is WebRTC: the same load on both in turn, medians over some rounds, one table.
//!
//! - [`servers`]: starts and stops them; [`measure`]: what is measured, on a fresh server each time;
//! - [`table`]: what comes of it.

mod measure;
mod servers;
mod table;

use std::fs;
use std::process::Command;

use crate::cli::Bench;
use crate::error::Error;
use measure::{Measurement, Plan};
use servers::{Kind, Kit};
use table::Table;

/// Runs all measurements and prints the table.
pub(crate) fn run(options: &Bench) -> Result<(), Error> {
    let kit = Kit::new(options)?;
    let plan = if options.quick { Plan::quick() } else { Plan::full() };
    let rounds = if options.quick { 1 } else { options.rounds };
    let wanted = |m: &Measurement| {
        options.only.is_empty() || options.only.iter().any(|only| m.name().contains(only.as_str()))
    };
    let heading = heading(rounds, options.quick);
    let mut table = Table::default();
    let mut failed = 0;
    for round in 1..=rounds {
        for measurement in Measurement::ALL.into_iter().filter(wanted) {
            if measurement == Measurement::Ingest500 && (round > 1 || options.quick) {
                continue;
            }
            for kind in measurement.other(&kit).into_iter().chain([Kind::Sluice]) {
                eprintln!("round {round} of {rounds}: {} on {kind:?}", measurement.name());
                // One that fails does not take with it what the others found.
                match measurement.run(&kit, kind, &plan) {
                    Ok(samples) => table.add(kind, samples),
                    Err(error) => {
                        eprintln!("  {error}");
                        failed += 1;
                    }
                }
            }
        }
    }
    let text = format!("{heading}\n{table}");
    print!("{text}");
    if let Some(path) = &options.out {
        fs::write(path, text).map_err(|e| Error::File(path.clone(), e))?;
    }
    if failed > 0 { Err(Error::Bench(format!("{failed} measurements failed, see above"))) } else { Ok(()) }
}

/// What was measured, where and how.
fn heading(rounds: u32, quick: bool) -> String {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().filter(|o| o.status.success());
        output.map_or("unknown".to_owned(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    };
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = file("/proc/cpuinfo");
    let model = info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "Commit {}, {}; {} x {}, Linux {}; {} {}{}.\n",
        said("git", &["describe", "--always", "--dirty"]),
        said("date", &["--utc", "+%Y-%m-%d %H:%M UTC"]),
        cores,
        model.trim_start_matches([' ', '\t', ':']),
        file("/proc/sys/kernel/osrelease").trim(),
        rounds,
        if rounds == 1 { "round" } else { "rounds" },
        if quick { ", quick" } else { "" },
    )
}
