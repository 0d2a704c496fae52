//! The options of Ant Media Server's container (`-m cluster -h mongo -u user -p password`), turned into ours, so that
//! manifests written for it start a node.
//!
//! `-h` asks for help elsewhere, so these options are only looked for when no command, or `run`, is given and one of
//! the others is there.

use std::ffi::{OsStr, OsString};

use crate::config::uri::mongodb_uri;

/// Options with a meaning here, and those without: what is said about them.
const OPTIONS: &[(char, Option<&str>)] = &[
    ('m', None),
    ('h', None),
    ('u', None),
    ('p', None),
    ('g', Some("the node does not ask the internet for its address: set SLUICE_ADVERTISE_HOST")),
    ('s', Some("the node does not ask the internet for its address: set SLUICE_ADVERTISE_HOST")),
    ('r', Some("there is no WebRTC in this version")),
    ('l', Some("no licence is needed")),
    ('a', Some("there is no WebRTC in this version, so no STUN or TURN server is needed")),
    ('n', Some("there is no WebRTC in this version, so no STUN or TURN server is needed")),
    ('w', Some("there is no WebRTC in this version, so no STUN or TURN server is needed")),
    ('k', Some("there is no Kafka in this version; /metrics has the figures for Prometheus")),
    ('j', Some("there is no Java")),
    ('c', Some("this version does not refuse by load; see max_streams and http_max_connections")),
    ('e', Some("this version does not refuse by load; see stream_memory")),
];

/// Arguments in our form, and sentences about what was left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) args: Vec<OsString>,
    pub(super) notes: Vec<String>,
}

/// Translates arguments (the program's name first) when they are in that form; others stay as they are.
///
/// # Errors
/// What is wrong with them, as a sentence.
pub(super) fn translate(args: Vec<OsString>) -> Result<Translated, String> {
    if !is_theirs(&args) {
        return Ok(Translated { args, notes: Vec::new() });
    }
    let mut args = args.into_iter();
    let mut out = Translated { args: args.next().into_iter().collect(), ..Translated::default() };
    out.args.push("run".into());
    let (mut mode, mut host, mut user, mut password) = (None, None, None, None);
    let mut args = args.skip_while(|arg| arg == "run");
    while let Some(arg) = args.next() {
        let Some((option, attached)) = option(&arg) else {
            let value = if takes_value(&arg) { args.next() } else { None };
            out.args.push(arg);
            out.args.extend(value);
            continue;
        };
        let value = match attached {
            Some(value) => value,
            None => args.next().ok_or_else(|| format!("-{option} needs a value"))?,
        };
        let value = value.into_string().map_err(|_| format!("the value of -{option} is not UTF-8"))?;
        match option {
            'm' => mode = Some(value),
            'h' => host = Some(value),
            'u' => user = Some(value),
            'p' => password = Some(value),
            other => {
                let is_off = matches!(other, 'g' | 's' | 'r') && value == "false";
                let reason = OPTIONS.iter().find(|(name, _)| *name == other).and_then(|(_, reason)| *reason);
                if let Some(reason) = reason.filter(|_| !is_off && !value.is_empty()) {
                    out.notes.push(format!("the option -{other} means nothing to sluice-node: {reason}"));
                }
            }
        }
    }
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    let mut push = |flag: &str, value: String| out.args.extend([flag.into(), value.into()]);
    match mode.as_deref() {
        Some("cluster") => {
            let host = given(host).ok_or("-m cluster needs the database of the cluster: -h HOST")?;
            push("--cluster-mode", "mongodb".into());
            push("--store", mongodb_uri(&host).map_err(|e| format!("-h: {e}"))?);
            if let Some(user) = given(user) {
                push("--store-user", user);
            }
            if let Some(password) = given(password) {
                push("--store-password", password);
            }
        }
        None | Some("standalone") => {
            if mode.is_some() {
                push("--cluster-mode", "standalone".into());
            }
            for (option, value) in [('h', given(host)), ('u', given(user)), ('p', given(password))] {
                if value.is_some() {
                    out.notes.push(format!("the option -{option} is only for -m cluster: it is passed over"));
                }
            }
        }
        Some(_) => return Err("-m takes `cluster` or `standalone`".into()),
    }
    Ok(out)
}

/// True when, with no command but `run`, there is one of the options other than `-h`.
fn is_theirs(args: &[OsString]) -> bool {
    let rest = match args.get(1) {
        Some(arg) if arg == "run" => args.get(2..),
        Some(arg) if arg.as_encoded_bytes().starts_with(b"-") => args.get(1..),
        _ => None,
    };
    let mut rest = rest.unwrap_or_default().iter();
    while let Some(arg) = rest.next() {
        match option(arg) {
            Some(('h', _)) => _ = rest.next(),
            Some(_) => return true,
            // The value of a flag of ours is none of theirs, whatever it looks like.
            None if takes_value(arg) => _ = rest.next(),
            None => {}
        }
    }
    false
}

/// True for a flag of ours whose value is the next argument.
fn takes_value(arg: &OsStr) -> bool {
    let bytes = arg.as_encoded_bytes();
    bytes.starts_with(b"--") && !bytes.contains(&b'=') && arg != "--help" && arg != "--version"
}

/// The option that an argument is, with a value that is attached to it.
fn option(arg: &OsStr) -> Option<(char, Option<OsString>)> {
    let text = arg.to_str()?;
    let mut chars = text.strip_prefix('-')?.chars();
    let name = chars.next().filter(|c| OPTIONS.iter().any(|(option, _)| option == c))?;
    let attached = chars.as_str();
    Some((name, (!attached.is_empty()).then(|| attached.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(line: &str) -> Result<(String, Vec<String>), String> {
        let args =
            std::iter::once("sluice-node").chain(line.split_whitespace()).map(OsString::from).collect();
        let Translated { args, notes } = translate(args)?;
        let args: Vec<String> = args.into_iter().skip(1).map(|arg| arg.into_string().unwrap()).collect();
        Ok((args.join(" "), notes))
    }

    fn args(line: &str) -> String {
        translated(line).map(|(args, _)| args).unwrap()
    }

    #[test]
    fn a_cluster_as_in_their_manifests() {
        let ours =
            "run --cluster-mode mongodb --store mongodb://mongo/ --store-user media --store-password pa-ss";
        for line in [
            "-m cluster -h mongo -u media -p pa-ss",
            "run -g false -m cluster -h mongo -u media -p pa-ss",
            "-mcluster -hmongo -umedia -ppa-ss",
        ] {
            assert_eq!(translated(line), Ok((ours.into(), vec![])), "{line}");
        }
        assert_eq!(
            args("-m cluster -h mongodb+srv://u:p@c.example/ --http-addr 127.0.0.1:1"),
            "run --http-addr 127.0.0.1:1 --cluster-mode mongodb --store mongodb+srv://u:p@c.example/"
        );
        assert_eq!(args("-m standalone"), "run --cluster-mode standalone");
    }

    #[test]
    fn options_without_a_meaning_are_named_and_their_values_are_not() {
        let (args, notes) = translated(
            "-g true -s true -l secret1 -a turn:t -n u -w secret2 -j -Xmx4g -c 75 -e 75 -k k:1 -r true",
        )
        .unwrap();
        assert_eq!(args, "run");
        assert_eq!(notes.len(), 11);
        assert!(notes.iter().all(|note| !note.contains("secret")), "{notes:?}");
        let (_, notes) = translated("-m standalone -h localhost").unwrap();
        assert!(notes[0].contains("-h is only for -m cluster"), "{notes:?}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, part) in [
            ("-m cluster", "-h HOST"),
            ("-m both", "`cluster` or `standalone`"),
            ("-m cluster -h redis://r", "Redis"),
            ("-g false -m", "-m needs a value"),
        ] {
            let error = translated(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn our_own_form_is_left_alone() {
        for line in [
            "",
            "run",
            "-h",
            "run -h",
            "--help",
            "run --config -m",
            "--log -m run",
            "config print -m",
            "mode cluster mongo u -p",
            "drain --undrain",
        ] {
            assert_eq!(args(line), line);
        }
    }
}
