//! `sluice-node`: the media server of a Sluice cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice_node::cli::main(sluice_node::run::run)
}
