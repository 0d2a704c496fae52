//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::duration::{self, Deadline};

const AFTER_HELP: &str = "\
Put the program kubectl-sluice into a folder of PATH, and kubectl runs it as `kubectl sluice`.

Exit codes: 0 done, 1 another failure, or only part of it could be done, 2 command line, 3 not found (or Sluice is not \
installed there), 4 no right to do it, 5 no connection, 6 not in time.";

/// Media clusters on Kubernetes: what they do, their streams, drains, logs and reports.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-sluice",
    version,
    after_help = AFTER_HELP,
    arg_required_else_help = true,
    subcommand_required = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What kubectl's own commands take, too.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Global {
    /// The namespace; the kubeconfig's when it is missing
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// The context of the kubeconfig
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
    /// The kubeconfig file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Act as this user
    #[arg(long = "as", global = true, value_name = "USER")]
    pub(crate) act_as: Option<String>,
    /// The namespace that the operator runs in
    #[arg(long, global = true, value_name = "NAMESPACE", default_value = "sluice-system")]
    pub(crate) operator_namespace: String,
    /// How long one request may take: 500ms, 30s, 2m
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub(crate) request_timeout: std::time::Duration,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// For people, with more columns
    Wide,
    /// For programs
    Json,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OutputArg {
    /// How it is written
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// Which pods are meant: a cluster's, a pool's or one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct Target {
    /// The MediaCluster; all of the namespace when it is missing
    #[arg(value_name = "CLUSTER", conflicts_with_all = ["pool", "pod"])]
    pub(crate) cluster: Option<String>,
    /// Only this pool
    #[arg(long, value_name = "POOL", conflicts_with = "pod")]
    pub(crate) pool: Option<String>,
    /// Only this pod
    #[arg(long, value_name = "POD")]
    pub(crate) pod: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show clusters, their pools and pods as a tree
    Status {
        /// The MediaCluster; all of the namespace when it is missing
        #[arg(value_name = "CLUSTER")]
        cluster: Option<String>,
        /// The streams on each pod as well; asks the pods (needs the right to exec into them)
        #[arg(long)]
        streams: bool,
        #[command(flatten)]
        output: OutputArg,
    },
    /// List the live streams, as the nodes themselves tell them (needs the right to exec into pods)
    Streams {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        output: OutputArg,
    },
    /// Empty a pod: it takes no new sessions, and is replaced when its last session has ended
    Drain {
        #[arg(value_name = "POD")]
        pod: String,
        /// After how long it goes whatever is left (10s to 48h); the pool's deadline when it is missing
        #[arg(long, value_name = "DURATION", value_parser = Deadline::parse)]
        deadline: Option<Deadline>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Let a pod that is being drained take new sessions again
    Undrain {
        #[arg(value_name = "POD")]
        pod: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Show the logs of pods together, in the order of time
    Logs(Logs),
    /// Make an archive for support: resources, events and logs, without secrets
    Report {
        /// The MediaCluster; all of the namespace when it is missing
        #[arg(value_name = "CLUSTER")]
        cluster: Option<String>,
        /// The archive to write, .tar.gz; it may not be there yet
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Write over a file that is there
        #[arg(long)]
        force: bool,
        /// How many lines of each log
        #[arg(long, value_name = "LINES", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
        tail: u32,
    },
    /// Show the versions of this plugin, of Kubernetes, of the operator and of the nodes
    Version {
        #[command(flatten)]
        output: OutputArg,
    },
    /// Print a completion script for a shell
    Completion {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Answer kubectl's completion: what kubectl_complete-sluice runs
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
        words: Vec<String>,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Wait {
    /// Wait until it is done, and tell what is left meanwhile
    #[arg(long)]
    pub(crate) wait: bool,
    /// With --wait: give up after this long
    #[arg(long, value_name = "DURATION", requires = "wait", default_value = "49h", value_parser = duration::parse)]
    pub(crate) timeout: std::time::Duration,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The operator's logs instead
    #[arg(long, conflicts_with_all = ["cluster", "pool", "pod"])]
    pub(crate) operator: bool,
    /// Go on with new lines, and with pods that come later
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only lines of the last while: 30s, 10m, 2h
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) since: Option<std::time::Duration>,
    /// Only the last lines of each container
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u32).range(0..))]
    pub(crate) tail: Option<u32>,
    /// The logs of the containers before their last restart
    #[arg(short, long, conflicts_with = "follow")]
    pub(crate) previous: bool,
    /// Another container than the node's own
    #[arg(short, long, value_name = "CONTAINER")]
    pub(crate) container: Option<String>,
    /// Kubernetes' time in front of each line
    #[arg(long)]
    pub(crate) timestamps: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_and_after_the_command() {
        for words in [
            ["kubectl-sluice", "-n", "media", "status", "demo"],
            ["kubectl-sluice", "status", "demo", "-n", "media"],
        ] {
            let cli = Cli::try_parse_from(words).unwrap();
            assert_eq!(cli.global.namespace.as_deref(), Some("media"));
            assert!(matches!(cli.command, Command::Status { cluster: Some(name), .. } if name == "demo"));
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for words in [
            &["kubectl-sluice", "status", "-A", "-n", "media"][..],
            &["kubectl-sluice", "streams", "demo", "--pool", "edge"],
            &["kubectl-sluice", "streams", "--pod", "a", "--pool", "edge"],
            &["kubectl-sluice", "logs", "demo", "--operator"],
            &["kubectl-sluice", "logs", "-f", "-p"],
            &["kubectl-sluice", "drain", "a", "--deadline", "5s"],
            &["kubectl-sluice", "drain", "a", "--timeout", "5s"],
            &["kubectl-sluice", "drain"],
            &["kubectl-sluice", "report", "demo"],
        ] {
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn each_command_and_flag_is_in_the_documentation() {
        let page = include_str!("../../../docs/kubectl-plugin.md");
        let mut command = Cli::command();
        command.build();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            assert!(page.contains(&format!("kubectl sluice {}", sub.get_name())), "{}", sub.get_name());
            for flag in sub.get_arguments().filter_map(|arg| arg.get_long()) {
                if !matches!(flag, "help" | "version") {
                    assert!(page.contains(&format!("--{flag}")), "{} --{flag}", sub.get_name());
                }
            }
        }
    }
}
