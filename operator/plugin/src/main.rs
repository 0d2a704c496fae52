//! `kubectl-sluice`: what media clusters on Kubernetes do, for people with kubectl. Run as `kubectl sluice`.
//!
//! It reads what the operator and the nodes tell and sets one annotation; it decides nothing itself. What it shows is made by
//! pure functions out of what was read, and these are tested without a cluster.

mod args;
mod complete;
mod drain;
mod duration;
mod failure;
mod logs;
mod print;
mod report;
mod session;
mod snapshot;
mod status;
mod streams;
mod table;
mod version;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use failure::Failure;
use session::Session;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::warn(&format!("error: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print::warn(&format!("error: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Completion { shell } => return complete::script(*shell),
        Command::Complete { words } => return complete::answer(words).await,
        _ => {}
    }
    let session = Session::open(&cli.global).await?;
    match &cli.command {
        Command::Status { cluster, streams, output } => {
            Box::pin(status::run(&session, cluster.as_deref(), *streams, output.output)).await
        }
        Command::Streams { target, output } => streams::run(&session, target, output.output).await,
        Command::Drain { pod, deadline, wait } => {
            named(&cli)?;
            drain::drain(&session, pod, deadline.as_ref(), wait).await
        }
        Command::Undrain { pod, wait } => {
            named(&cli)?;
            drain::undrain(&session, pod, wait).await
        }
        Command::Logs(logs) => Box::pin(logs::run(&session, logs)).await,
        Command::Report { cluster, file, force, tail } => {
            let wanted = report::Wanted { cluster: cluster.as_deref(), file, force: *force, tail: *tail };
            Box::pin(report::run(&session, wanted)).await
        }
        Command::Version { output } => version::run(&session, output.output).await,
        // Answered above, without a connection.
        Command::Completion { .. } | Command::Complete { .. } => Ok(()),
    }
}

/// One pod is in one namespace.
fn named(cli: &Cli) -> Result<(), Failure> {
    if cli.global.all_namespaces {
        return Err(Failure::Refused("a pod is named within its namespace: use -n, not -A".into()));
    }
    Ok(())
}
