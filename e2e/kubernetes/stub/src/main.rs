//! Answers the operator in place of thousands of nodes, for tests of scale.
//!
//! Pods that kwok only pretends to run have addresses that all lead to one machine. This process listens there, sees from
//! the address that was called which pod is meant, and answers as that node would that has nothing to do: with a
//! certificate of the pod's cluster, over the node's cluster port, to the operator alone. What there is it is told on its
//! standard input, a line each (see [`world`]); `e2e/kubernetes/scale.py` starts it.

mod node;
mod routes;
mod serve;
mod world;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

use crate::world::World;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// Where all pods' addresses lead to.
    #[arg(long, default_value = "0.0.0.0:5000")]
    listen: SocketAddr,
    /// The operator's CA certificate, PEM.
    #[arg(long)]
    operator_ca: PathBuf,
    /// After how many seconds the number of viewers of every pod changes; 0: never.
    #[arg(long, default_value_t = 0)]
    change_every: u64,
}

/// What stands in the way of starting.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot read the operator's CA certificate {path}: {source}")]
    Authority { path: PathBuf, source: std::io::Error },
    #[error("cannot listen at {addr}: {source}")]
    Listen { addr: SocketAddr, source: std::io::Error },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-stub: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), StartError> {
    let authority = std::fs::read(&args.operator_ca)
        .map_err(|source| StartError::Authority { path: args.operator_ca.clone(), source })?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|source| StartError::Listen { addr: args.listen, source })?;
    let world = Arc::new(World::new(authority));
    tokio::spawn(listen_to_input(world.clone()));
    if args.change_every > 0 {
        tokio::spawn(change(world.clone(), Duration::from_secs(args.change_every)));
    }
    serve::run(listener, world).await;
    Ok(())
}

/// Its end is not the end: pods that are known stay known.
async fn listen_to_input(world: Arc<World>) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        match lines.next_line().await {
            Ok(Some(line)) => {
                if let Err(problem) = world.learn(&line) {
                    eprintln!("sluice-stub: {problem}: {line:?}");
                }
            }
            Ok(None) => return,
            Err(error) => return eprintln!("sluice-stub: standard input: {error}"),
        }
    }
}

async fn change(world: Arc<World>, every: Duration) {
    let mut turn = 0;
    loop {
        tokio::time::sleep(every).await;
        turn += 1;
        world.nodes().iter().for_each(|node| node.set_viewers(10 + turn % 5));
    }
}
