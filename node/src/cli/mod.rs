//! The command line: `sluice-node run`, `config check`, `mode`, `drain`, `streams` and so on. All flags come from the table of
//! settings; what each command does is in a module of its own.

mod ask;
mod drain;
mod entrypoint;
mod file;
mod import;
mod mode;
mod streams;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use sluice_cluster::identity::ClusterTls;

use crate::config::{self, ClusterIdentity, ConfigErrors, Loaded, SETTINGS, Secret, Sources};
use crate::exit::{Exit, Failure};

pub use drain::Order;
pub use import::Wish;
pub use mode::Request;
pub use streams::Wanted;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the node.
    Run,
    /// Check the configuration.
    Check,
    /// Print the configuration.
    Print,
    /// Make a configuration of another server's.
    Import(Wish),
    /// Tell or change whether the node is in a cluster.
    Mode(Request),
    /// Tell a running node to take no new sessions.
    Drain(Order),
    /// Show the live streams of a running node.
    Streams(Wanted),
}

/// A command line, read.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What it asks for.
    pub action: Action,
    /// What it says about the configuration.
    pub sources: Sources,
    /// Sentences about what was passed over.
    pub notes: Vec<String>,
}

const AFTER_HELP: &str = "\
Every setting can be given as a flag, as an environment variable or in the TOML file, in this order of precedence; \
--help lists them all. \
Secrets can be read from a file: add -file to the flag, _FILE to the variable, _file to the key. \
All settings are described in docs/configuration.md.

The options of Ant Media Server's container (-m cluster -h HOST -u USER -p PASSWORD and so on) are understood by run, \
too.

Exit codes: 0 ended as asked, 1 other failure, 2 command line or configuration, 65 store damaged, 69 address or port \
cannot be had, 71 system, 74 disk full, 75 data directory in use by another node, 77 no permission.

The first SIGTERM or SIGINT stops the node gracefully, the second one at once.";

/// The whole command line, for parsing and for documentation.
#[must_use]
pub fn command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .global(true)
        .help("The configuration file, TOML [env: SLUICE_CONFIG]");
    let check = Command::new("check").about("Check the configuration and start nothing");
    let print = Command::new("print").about("Print every setting, its value and where that came from");
    Command::new("sluice-node")
        .about("Live media server: publish with RTMP, watch with HLS, LL-HLS and RTMP")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(AFTER_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(config)
        .args(SETTINGS.iter().flat_map(|setting| {
            let help = format!(
                "{} [env: {}] [default: {}]",
                setting.summary(),
                setting.env(),
                match setting.default {
                    "" => "none",
                    default => default,
                }
            );
            let flag = flag(setting.key.to_owned(), setting.group, help);
            let file_form = setting.secret.then(|| {
                let key = format!("{}_file", setting.key);
                let help =
                    format!("A file with the value of --{} [env: {}_FILE]", setting.flag(), setting.env());
                self::flag(key, setting.group, help)
            });
            std::iter::once(flag).chain(file_form)
        }))
        .subcommand(Command::new("run").about("Run the node"))
        .subcommand(
            Command::new("config")
                .about("Check or print the configuration, or make one of another server's")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(check)
                .subcommand(print)
                .subcommand(import_command()),
        )
        .subcommand(mode_command())
        .subcommand(drain_command())
        .subcommand(streams_command())
}

fn import_command() -> Command {
    let path = clap::value_parser!(PathBuf);
    Command::new("import")
        .about("Turn the red5.properties of an Ant Media Server into a configuration of this node")
        .long_about(
            "Turn the red5.properties of an Ant Media Server into a configuration of this node. Every key that has no \
             counterpart is named, with the reason.",
        )
        .arg(Arg::new("properties").value_name("FILE").required(true).value_parser(path.clone()).help("red5.properties"))
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FILE")
                .value_parser(path)
                .help("The file to write; without one it goes to the standard output. Passwords go to files beside it"),
        )
        .arg(switch("force").help("Write over a file that is there"))
}

fn mode_command() -> Command {
    let after = format!(
        "The configuration file is the one that --config or SLUICE_CONFIG names, else {} where that folder is. Its \
         comments and the order of its keys stay. Other flags that are given are written to it as well. Secrets go to \
         files beside it that only the node may read.",
        mode::SERVICE_FILE
    );
    let cluster = Command::new("cluster")
        .about("In a cluster by a MongoDB that all nodes share; makes a cluster key when there is none")
        .arg(
            text("place")
                .value_name("URI")
                .required(true)
                .help("host, host:port, a list of them, mongodb://…, mongodb+srv://…"),
        )
        .arg(text("user").value_name("USER").help("The database's user, when the URI does not name one"))
        .arg(
            text("password")
                .value_name("PASSWORD")
                .help("The user's password; - reads it from the standard input"),
        );
    let multicast = Command::new("multicast")
        .about("In a cluster that finds itself by multicast, without a database")
        .arg(text("group").value_name("GROUP").help("The multicast address with its UDP port"));
    let fixed = Command::new("static").about("In a cluster of listed members, without a database").arg(
        text("members")
            .value_name("MEMBERS")
            .required(true)
            .help("host[:port][;id][;domain], separated by commas"),
    );
    Command::new("mode")
        .about("Tell whether the node is alone or in a cluster; change that in the configuration file")
        .after_help(after)
        .subcommand(cluster)
        .subcommand(multicast)
        .subcommand(fixed)
        .subcommand(Command::new("standalone").about("Alone, with the embedded database"))
}

fn drain_command() -> Command {
    Command::new("drain")
        .about("Tell a running node to take no new sessions")
        .arg(switch("undrain").help("Take new sessions again"))
        .arg(
            text("url")
                .long("url")
                .value_name("URL")
                .help("Where a node answers [default: this node's http_addr]"),
        )
        .arg(
            text("node")
                .long("node")
                .value_name("ID")
                .help("Another node of the cluster [default: this node]"),
        )
}

fn streams_command() -> Command {
    Command::new("streams")
        .about("Show the live streams of the node that runs with this configuration")
        .after_help(
            "The states: live (published to this node), relayed (fetched from its origin), waiting (the publisher's \
             connection is broken; it may come back). VIEWERS and BITRATE (bit/s in JSON) are of this moment; with --all, \
             viewers of all nodes.",
        )
        .arg(switch("json").help("As JSON, an array of objects"))
        .arg(switch("all").help("Those of the whole cluster"))
}

fn text(name: &'static str) -> Arg {
    Arg::new(name).action(ArgAction::Set)
}

fn switch(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue)
}

fn flag(key: String, group: &'static str, help: String) -> Arg {
    Arg::new(key.clone())
        .long(key.replace('_', "-"))
        .value_name("VALUE")
        .action(ArgAction::Set)
        .allow_hyphen_values(true)
        .global(true)
        .hide_short_help(true)
        .help_heading(group)
        .help(help)
}

/// Reads the command line and the environment.
///
/// # Errors
/// What clap says, `--help` and `--version` included.
pub fn parse<I>(args: I, env: Vec<(OsString, OsString)>) -> Result<Parsed, clap::Error>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let entrypoint::Translated { args, notes } =
        entrypoint::translate(args.into_iter().map(Into::into).collect())
            .map_err(|sentence| command().error(ErrorKind::InvalidValue, sentence))?;
    let matches = command().try_get_matches_from(args)?;
    // Global flags reach the innermost subcommand wherever they stand.
    let mut inner = &matches;
    let mut path = Vec::new();
    while let Some((name, deeper)) = inner.subcommand() {
        path.push(name);
        inner = deeper;
    }
    let text = |name: &str| inner.get_one::<String>(name).cloned();
    let action = match path.as_slice() {
        ["config", "print"] => Action::Print,
        ["config", "import"] => Action::Import(Wish {
            properties: inner.get_one::<PathBuf>("properties").cloned().unwrap_or_default(),
            output: inner.get_one::<PathBuf>("output").cloned(),
            force: inner.get_flag("force"),
        }),
        ["config", ..] => Action::Check,
        ["mode", "cluster"] => Action::Mode(Request::Cluster {
            place: Secret::new(text("place").unwrap_or_default()),
            user: text("user"),
            password: text("password").map(Secret::new),
        }),
        ["mode", "multicast"] => Action::Mode(Request::Multicast { group: text("group") }),
        ["mode", "static"] => Action::Mode(Request::Static { members: text("members").unwrap_or_default() }),
        ["mode", "standalone"] => Action::Mode(Request::Standalone),
        ["mode", ..] => Action::Mode(Request::Show),
        ["drain"] => {
            Action::Drain(Order { undrain: inner.get_flag("undrain"), url: text("url"), node: text("node") })
        }
        ["streams"] => Action::Streams(Wanted { json: inner.get_flag("json"), all: inner.get_flag("all") }),
        _ => Action::Run,
    };
    let named = || env.iter().find(|(name, value)| name == "SLUICE_CONFIG" && !value.is_empty());
    let file = inner.get_one::<PathBuf>("config").cloned().or_else(|| named().map(|(_, path)| path.into()));
    let sources = Sources { file, flags: flags(inner), env };
    Ok(Parsed { action, sources, notes })
}

fn flags(matches: &ArgMatches) -> std::collections::BTreeMap<String, String> {
    let keys = SETTINGS.iter().flat_map(|setting| {
        let file_form = setting.secret.then(|| format!("{}_file", setting.key));
        std::iter::once(setting.key.to_owned()).chain(file_form)
    });
    keys.filter_map(|key| {
        let text = matches.get_one::<String>(&key)?.clone();
        Some((key, text))
    })
    .collect()
}

/// Does what the command line asks for; `run` runs the node until it is told to stop.
pub fn main(run: impl FnOnce(Loaded) -> Result<(), Failure>) -> ExitCode {
    let Parsed { action, sources, notes } = match parse(std::env::args_os(), std::env::vars_os().collect()) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    let action = match action {
        Action::Mode(request) => return outcome(mode::run(request, sources)),
        Action::Import(wish) => return outcome(import::run(&wish)),
        action => action,
    };
    let mut loaded = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(errors) => return refuse(&errors),
    };
    loaded.warnings.extend(notes);
    match action {
        Action::Run => outcome(run(loaded).map(|()| String::new())),
        Action::Drain(order) => outcome(drain::run(&order, &loaded)),
        Action::Streams(wanted) => outcome(streams::run(wanted, &loaded)),
        Action::Print => {
            warn(&loaded);
            print(&loaded.to_toml())
        }
        _ => {
            warn(&loaded);
            outcome(check(&loaded).map(|()| "the configuration is right\n".to_owned()))
        }
    }
}

fn outcome(result: Result<String, Failure>) -> ExitCode {
    match result {
        Ok(text) => print(&text),
        Err(failure) => {
            eprintln!("sluice-node: {failure}");
            failure.exit.into()
        }
    }
}

/// The certificate files are read and addresses looked up as at the start, so that `config check` says what that
/// would say.
fn check(loaded: &Loaded) -> Result<(), Failure> {
    let config = &loaded.config;
    config.advertised()?;
    config.multicast_via()?;
    if let Some(ClusterIdentity::Files { cert, key, ca }) = config.cluster_identity() {
        ClusterTls::from_files(&cert, &key, &ca).map_err(|e| Failure::new(Exit::Usage, e.to_string()))?;
    }
    match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => {
            crate::http::tls::Identity::load(cert, key).map(drop).map_err(Failure::from)
        }
        _ => Ok(()),
    }
}

fn refuse(errors: &ConfigErrors) -> ExitCode {
    for error in &errors.0 {
        eprintln!("sluice-node: {error}");
    }
    Exit::Usage.into()
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        eprintln!("sluice-node: {warning}");
    }
}

/// A reader that went away (`config print | head`) is no failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> (Action, Sources) {
        let parsed = parse(args, vec![("SLUICE_CONFIG".into(), "from-env.toml".into())]).unwrap();
        (parsed.action, parsed.sources)
    }

    fn action(line: &str) -> Action {
        parsed(&std::iter::once("sluice-node").chain(line.split(' ')).collect::<Vec<_>>()).0
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn help_is_complete() {
        let help = command().render_long_help().to_string();
        for setting in SETTINGS {
            assert!(help.contains(&format!("--{} <VALUE>", setting.flag())), "{}", setting.key);
            assert!(help.contains(&setting.env()), "{}", setting.key);
        }
        for word in [
            "run",
            "config",
            "mode",
            "drain",
            "streams",
            "--config <FILE>",
            "--admin-token-file",
            "Exit codes",
            "SLUICE_STORE_FILE",
        ] {
            assert!(help.contains(word), "{word}");
        }
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        for args in [
            ["sluice-node", "run", "--config", "a.toml", "--http-addr", "127.0.0.1:1"],
            ["sluice-node", "--http-addr", "127.0.0.1:1", "--config", "a.toml", "run"],
        ] {
            let (action, sources) = parsed(&args);
            assert_eq!(action, Action::Run);
            assert_eq!(sources.file, Some("a.toml".into()));
            assert_eq!(sources.flags.get("http_addr").map(String::as_str), Some("127.0.0.1:1"));
        }
        let (action, sources) = parsed(&["sluice-node", "config", "print", "--store-file", "f"]);
        assert_eq!((action, sources.file), (Action::Print, Some("from-env.toml".into())));
        assert_eq!(sources.flags.get("store_file").map(String::as_str), Some("f"));
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert!(parse(["sluice-node", "run", "--http-adr", "x"], vec![]).is_err());
        assert!(parse(["sluice-node"], vec![]).is_err());
    }

    #[test]
    fn commands_have_arguments_of_their_own() {
        let cluster = |user: Option<&str>, password: Option<&str>| {
            Action::Mode(Request::Cluster {
                place: Secret::new("db:27017".into()),
                user: user.map(Into::into),
                password: password.map(|p| Secret::new(p.into())),
            })
        };
        assert_eq!(action("mode"), Action::Mode(Request::Show));
        assert_eq!(action("mode cluster db:27017"), cluster(None, None));
        assert_eq!(action("mode cluster db:27017 u -"), cluster(Some("u"), Some("-")));
        assert_eq!(action("mode standalone --config x"), Action::Mode(Request::Standalone));
        assert_eq!(action("mode multicast"), Action::Mode(Request::Multicast { group: None }));
        assert_eq!(action("mode static a,b"), Action::Mode(Request::Static { members: "a,b".into() }));
        assert_eq!(action("drain"), Action::Drain(Order::default()));
        let order = Order { undrain: true, url: Some("http://h".into()), node: Some("n".into()) };
        assert_eq!(action("drain --undrain --url http://h --node n"), Action::Drain(order));
        let wish = Wish { properties: "red5.properties".into(), output: Some("o.toml".into()), force: true };
        assert_eq!(action("config import red5.properties -o o.toml --force"), Action::Import(wish));
        assert!(!format!("{:?}", action("mode cluster mongodb://u:hidden@h u hidden")).contains("hidden"));
    }

    #[test]
    fn the_options_of_another_container_run_the_node() {
        let parsed = parse(["sluice-node", "-m", "cluster", "-h", "mongo", "-j", "-Xmx1g"], vec![]).unwrap();
        assert_eq!(parsed.action, Action::Run);
        assert_eq!(parsed.sources.flags.get("store").map(String::as_str), Some("mongodb://mongo/"));
        assert!(matches!(parsed.notes.as_slice(), [note] if note.contains("-j")));
        let error = parse(["sluice-node", "-m", "cluster"], vec![]).unwrap_err();
        assert!(error.to_string().contains("-h HOST"), "{error}");
    }
}
