//! The command line: `sluice-node run`, `config check`, `config print`. All flags come from the table of settings.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{self, ConfigErrors, Loaded, SETTINGS, Sources};
use crate::exit::{Exit, Failure};

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the node.
    Run,
    /// Check the configuration.
    Check,
    /// Print the configuration.
    Print,
}

const AFTER_HELP: &str = "\
Every setting can be given as a flag, as an environment variable or in the TOML file, in this order of precedence. \
Secrets can be read from a file: add -file to the flag, _FILE to the variable, _file to the key. \
All settings are described in docs/configuration.md.

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
                .about("Check or print the configuration")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(check)
                .subcommand(print),
        )
}

fn flag(key: String, group: &'static str, help: String) -> Arg {
    Arg::new(key.clone())
        .long(key.replace('_', "-"))
        .value_name("VALUE")
        .action(ArgAction::Set)
        .allow_hyphen_values(true)
        .global(true)
        .help_heading(group)
        .help(help)
}

/// Reads the command line and the environment.
///
/// # Errors
/// What clap says, `--help` and `--version` included.
pub fn parse<I>(args: I, env: Vec<(OsString, OsString)>) -> Result<(Action, Sources), clap::Error>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let matches = command().try_get_matches_from(args)?;
    // Global flags reach the innermost subcommand wherever they stand.
    let (action, matches) = match matches.subcommand() {
        Some(("config", config)) => match config.subcommand() {
            Some(("print", matches)) => (Action::Print, matches),
            Some((_, matches)) => (Action::Check, matches),
            None => (Action::Check, config),
        },
        Some((_, matches)) => (Action::Run, matches),
        None => (Action::Run, &matches),
    };
    let named = || env.iter().find(|(name, value)| name == "SLUICE_CONFIG" && !value.is_empty());
    let file = matches.get_one::<PathBuf>("config").cloned().or_else(|| named().map(|(_, path)| path.into()));
    let sources = Sources { file, flags: flags(matches), env };
    Ok((action, sources))
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
    let (action, sources) = match parse(std::env::args_os(), std::env::vars_os().collect()) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    let loaded = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(errors) => return refuse(&errors),
    };
    match action {
        Action::Run => match run(loaded) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("sluice-node: {failure}");
                failure.exit.into()
            }
        },
        Action::Check => {
            warn(&loaded);
            match tls_files(&loaded) {
                Ok(()) => print("the configuration is right\n"),
                Err(failure) => {
                    eprintln!("sluice-node: {failure}");
                    failure.exit.into()
                }
            }
        }
        Action::Print => {
            warn(&loaded);
            print(&loaded.to_toml())
        }
    }
}

/// The certificate files are read as at the start, so that `config check` says what that would say.
fn tls_files(loaded: &Loaded) -> Result<(), Failure> {
    let config = &loaded.config;
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
        parse(args, vec![("SLUICE_CONFIG".into(), "from-env.toml".into())]).unwrap()
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
        for word in
            ["run", "config", "--config <FILE>", "--admin-token-file", "Exit codes", "SLUICE_STORE_FILE"]
        {
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
}
