//! Completion: scripts for shells, and answers for kubectl, which asks `kubectl_complete-sluice` (a script of two lines, see
//! docs/kubectl-plugin.md) in the form of the library cobra.

use std::time::Duration;

use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_complete::Shell;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::config::Kubeconfig;
use sluice_crds::{EdgePool, MediaCluster, OriginPool};

use crate::args::{Cli, Global};
use crate::failure::Failure;
use crate::print;
use crate::session::Session;
use crate::snapshot;

/// Somebody waits for each key press.
const WITHIN: Duration = Duration::from_secs(2);

/// Prints the script of a shell.
pub(crate) fn script(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kubectl-sluice", &mut text);
    print::raw(&text)
}

/// What may stand in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Clusters,
    Pools,
    Pods,
    Namespaces,
    Contexts,
}

/// What a word can be completed to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    /// Words, with what they mean.
    words: Vec<(String, String)>,
    /// Names that only Kubernetes knows, and what stands before them (`--pool=`).
    names: Option<(Names, String)>,
    /// The shell completes file names.
    files: bool,
}

/// Answers kubectl: candidates, one on a line, then a directive (4: no file names, 0: file names).
pub(crate) async fn answer(words: &[String]) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    let mut answer = complete(&command, words);
    let last = words.last().map(String::as_str).unwrap_or_default();
    if let Some((names, before)) = &answer.names {
        // Without an answer in time there is nothing to complete.
        let found = tokio::time::timeout(WITHIN, fetch(*names, words)).await.unwrap_or_default();
        let found = found.into_iter().map(|name| (format!("{before}{name}"), String::new()));
        answer.words.extend(found.filter(|(word, _)| word.starts_with(last)));
    }
    let mut lines: Vec<String> = answer
        .words
        .iter()
        .map(|(word, about)| if about.is_empty() { word.clone() } else { format!("{word}\t{about}") })
        .collect();
    lines.push(if answer.files { ":0".into() } else { ":4".into() });
    print::lines(&lines)
}

/// What the last of the words can be completed to.
fn complete(command: &Command, words: &[String]) -> Answer {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    // The command that is meant, and what its last flag wants.
    let mut current = command;
    let mut flag: Option<&Arg> = None;
    let mut given = 0;
    for word in before {
        if flag.take().is_some() {
            continue;
        }
        if let Some(found) = flag_of(current, command, word) {
            flag = (takes_value(found) && !word.contains('=')).then_some(found);
        } else if !word.starts_with('-') {
            match current.find_subcommand(word) {
                Some(sub) if current.has_subcommands() => current = sub,
                _ => given += 1,
            }
        }
    }
    if let Some(flag) = flag {
        return values(flag, last, "");
    }
    if let Some((name, _)) = last.split_once('=').filter(|_| last.starts_with("--")) {
        return match flag_of(current, command, name) {
            Some(flag) => values(flag, last, &format!("{name}=")),
            None => Answer::default(),
        };
    }
    if last.starts_with('-') {
        let flags = current.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(|arg| {
            let word = format!("--{}", arg.get_long()?);
            word.starts_with(last).then(|| (word, about(arg.get_help())))
        });
        return Answer { words: flags.collect(), ..Answer::default() };
    }
    if current.has_subcommands() {
        let subs = current
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set() && sub.get_name().starts_with(last))
            .map(|sub| (sub.get_name().to_owned(), about(sub.get_about())));
        return Answer { words: subs.collect(), ..Answer::default() };
    }
    match current.get_positionals().nth(given) {
        Some(place) => values(place, last, ""),
        None => Answer::default(),
    }
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(|text| text.to_string().lines().next().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

fn flag_of<'a>(current: &'a Command, root: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    let is = |arg: &&Arg| match (name.strip_prefix("--"), name.strip_prefix('-')) {
        (Some(long), _) => arg.get_long() == Some(long),
        (None, Some(short)) => arg.get_short().is_some_and(|one| short.len() == 1 && short.starts_with(one)),
        (None, None) => false,
    };
    current.get_arguments().find(is).or_else(|| root.get_arguments().find(is))
}

/// What a flag or place can have.
fn values(arg: &Arg, last: &str, before: &str) -> Answer {
    let names = match arg.get_id().as_str() {
        "cluster" => Some(Names::Clusters),
        "pool" => Some(Names::Pools),
        "pod" => Some(Names::Pods),
        "namespace" | "operator_namespace" => Some(Names::Namespaces),
        "context" => Some(Names::Contexts),
        _ => None,
    };
    if let Some(names) = names {
        return Answer { names: Some((names, before.to_owned())), ..Answer::default() };
    }
    if matches!(arg.get_id().as_str(), "kubeconfig" | "file") {
        return Answer { files: true, ..Answer::default() };
    }
    let words = arg.get_possible_values().into_iter().filter_map(|value| {
        let word = format!("{before}{}", value.get_name());
        word.starts_with(last).then(|| (word, about(value.get_help())))
    });
    Answer { words: words.collect(), ..Answer::default() }
}

/// The value of a flag that was given, for the connection.
fn given(words: &[String], long: &str, short: Option<&str>) -> Option<String> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(value) = word.strip_prefix(long).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value.to_owned());
        }
        if word == long || Some(word.as_str()) == short {
            return words.next().filter(|value| !value.is_empty()).cloned();
        }
    }
    None
}

async fn fetch(names: Names, words: &[String]) -> Vec<String> {
    if names == Names::Contexts {
        let file = given(words, "--kubeconfig", None);
        let config = file.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
        return config
            .map(|config| config.contexts.into_iter().map(|one| one.name).collect())
            .unwrap_or_default();
    }
    let global = Global {
        namespace: given(words, "--namespace", Some("-n")),
        all_namespaces: words.iter().any(|word| word == "-A" || word == "--all-namespaces"),
        context: given(words, "--context", None),
        kubeconfig: given(words, "--kubeconfig", None).map(Into::into),
        act_as: given(words, "--as", None),
        operator_namespace: String::new(),
        request_timeout: WITHIN,
    };
    let Ok(session) = Session::open(&global).await else { return Vec::new() };
    let namespace = session.namespace.as_deref();
    match names {
        Names::Clusters => list(&session.api::<MediaCluster>(namespace), "").await,
        Names::Pods => list(&session.api::<Pod>(namespace), &snapshot::pods_selector()).await,
        Names::Pools => {
            let mut pools = list(&session.api::<OriginPool>(namespace), "").await;
            pools.extend(list(&session.api::<EdgePool>(namespace), "").await);
            pools
        }
        Names::Namespaces => list(&Api::<Namespace>::all(session.client.clone()), "").await,
        Names::Contexts => Vec::new(),
    }
}

async fn list<K>(api: &Api<K>, selector: &str) -> Vec<String>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let page = ListParams::default().limit(500).labels(selector);
    api.list_metadata(&page)
        .await
        .map(|found| found.items.iter().map(ResourceExt::name_any).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(words: &[&str]) -> Answer {
        let mut command = Cli::command();
        command.build();
        complete(&command, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    fn words(answer: &Answer) -> Vec<&str> {
        answer.words.iter().map(|(word, _)| word.as_str()).collect()
    }

    #[test]
    fn commands_and_flags_are_completed() {
        assert_eq!(words(&ask(&["st"])), ["status", "streams"]);
        assert!(words(&ask(&[""])).contains(&"report"));
        assert!(!words(&ask(&[""])).contains(&"__complete"));
        assert_eq!(words(&ask(&["status", "--str"])), ["--streams"]);
        assert_eq!(words(&ask(&["-n", "media", "logs", "--fol"])), ["--follow"]);
        assert!(words(&ask(&["status", "--name"])).contains(&"--namespace"));
    }

    #[test]
    fn values_are_completed() {
        assert_eq!(words(&ask(&["status", "-o", ""])), ["table", "wide", "json"]);
        assert_eq!(words(&ask(&["status", "--output=j"])), ["--output=json"]);
        assert!(words(&ask(&["completion", ""])).contains(&"zsh"));
        assert_eq!(ask(&["status", ""]).names, Some((Names::Clusters, String::new())));
        assert_eq!(ask(&["logs", "--pool", "d"]).names, Some((Names::Pools, String::new())));
        assert_eq!(ask(&["logs", "--pool=d"]).names, Some((Names::Pools, "--pool=".into())));
        assert_eq!(ask(&["drain", "d"]).names, Some((Names::Pods, String::new())));
        assert_eq!(ask(&["-n", ""]).names, Some((Names::Namespaces, String::new())));
        assert!(ask(&["report", "-f", ""]).files);
        assert_eq!(ask(&["drain", "pod", ""]), Answer::default());
        assert_eq!(ask(&["drain", "--deadline", ""]), Answer::default());
        assert_eq!(ask(&[]).names, None);
    }

    #[test]
    fn the_connection_is_the_one_that_was_named() {
        let words: Vec<String> = ["-n", "media", "--context=c", "status", ""].map(Into::into).to_vec();
        assert_eq!(given(&words, "--namespace", Some("-n")).as_deref(), Some("media"));
        assert_eq!(given(&words, "--context", None).as_deref(), Some("c"));
        assert_eq!(given(&words, "--kubeconfig", None), None);
    }

    #[test]
    fn there_is_a_script_for_each_shell() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kubectl-sluice", &mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("undrain"), "{shell}");
        }
    }
}
