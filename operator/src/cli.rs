//! The command line.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::settings::{Settings, duration};
use crate::{probe, run, telemetry};

/// Keeps media clusters on Kubernetes as their MediaCluster, OriginPool and EdgePool resources say.
#[derive(Debug, Parser)]
#[command(name = "sluice-operator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator.
    Run(Box<Settings>),
    /// Ask until the answer is 200; for `helm test`.
    Probe {
        /// Such as http://sluice-operator.sluice-system:8080/readyz.
        url: String,
        /// How long to ask.
        #[arg(long, default_value = "60s", value_parser = duration)]
        within: Duration,
    },
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start threads: {error}")),
    };
    let result = match cli.command {
        Command::Run(settings) => match telemetry::start(&settings.log, settings.log_format) {
            Ok(()) => runtime.block_on(run::run(*settings)).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
        Command::Probe { url, within } => {
            runtime.block_on(probe::probe(&url, within)).map_err(|error| error.to_string())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &str) -> ExitCode {
    tracing::error!("{error}");
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
