//! `sluice-node mode`: tells whether the node is alone or in a cluster, and changes that in the configuration file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::BufRead;
use std::path::Path;

use super::file::{ConfigFile, Rights, Staged, folder_of};
use crate::config::uri::{has_user, hosts, mongodb_uri};
use crate::config::{self, ClusterMode, Loaded, Origin, SETTINGS, Secret, Sources, StoreKind};
use crate::exit::{Exit, Failure};

/// Where the system service keeps its data: it belongs to the user that the service runs as.
const SERVICE_DATA: &str = "/var/lib/sluice";

/// The file that the system service reads.
pub(super) const SERVICE_FILE: &str = "/etc/sluice/sluice.toml";

/// A password is not longer than this.
const MAX_PASSWORD: u64 = 1024;

/// What `mode` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Tell the present mode.
    Show,
    /// A cluster by a MongoDB that all share.
    Cluster {
        /// Where it is: host, `host:port`, a list of them, or a URI.
        place: Secret,
        /// Its user.
        user: Option<String>,
        /// The user's password; `-` reads it from the standard input.
        password: Option<Secret>,
    },
    /// A cluster by multicast, on this group (address and port).
    Multicast {
        /// The group; as it is, or the default, when left out.
        group: Option<String>,
    },
    /// A cluster of these members.
    Static {
        /// The list.
        members: String,
    },
    /// A node alone, with the embedded database.
    Standalone,
}

/// Does what is asked for; the text says what was done.
///
/// # Errors
/// The file cannot be read or written, or the result would not be a right configuration; then nothing has changed.
pub(super) fn run(request: Request, sources: Sources) -> Result<String, Failure> {
    let sources = with_file(sources, Path::new(SERVICE_FILE));
    let request = match request {
        Request::Show => return show(&sources),
        Request::Cluster { place, user, password: Some(password) } if password.expose() == "-" => {
            let password = Some(read_password(std::io::stdin().lock())?);
            Request::Cluster { place, user, password }
        }
        other => other,
    };
    change(&request, &sources, random_key)
}

/// The file that is meant: the one that is named, or that of the service where the service is installed.
fn with_file(mut sources: Sources, service: &Path) -> Sources {
    if sources.file.is_none() && folder_of(service).is_dir() {
        sources.file = Some(service.to_owned());
    }
    sources
}

fn read_password(input: impl BufRead) -> Result<Secret, Failure> {
    let mut line = String::new();
    let read = input.take(MAX_PASSWORD).read_line(&mut line);
    match read.map(|_| line.trim_end_matches(['\r', '\n'])) {
        Ok("") | Err(_) => Err(Failure::new(Exit::Usage, "cannot read a password from the standard input")),
        Ok(password) => Ok(Secret::new(password.to_owned())),
    }
}

/// 256 bits, as `openssl rand -hex 32` makes them.
fn random_key() -> String {
    rand::random::<[u8; 32]>().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn show(sources: &Sources) -> Result<String, Failure> {
    let mut sources = sources.clone();
    if sources.file.as_deref().is_some_and(|file| file == Path::new(SERVICE_FILE) && !file.exists()) {
        sources.file = None;
    }
    let loaded = config::load(&sources)?;
    let config = &loaded.config;
    let store = match &config.store {
        StoreKind::Sqlite => format!("the embedded database in {}", config.data_dir.display()),
        StoreKind::MongoDb(uri) => format!("MongoDB at {}", hosts(uri.expose())),
    };
    let line = |what: &str, value: &str, key: &str| format!("{what:<10} {value}  ({})\n", loaded.origin(key));
    let mut text = line("mode", mode_name(config.cluster_mode), "cluster_mode");
    text += &line("store", &store, "store");
    text += &line("role", loaded.text("role"), "role");
    if config.cluster_mode == ClusterMode::Static {
        text += &line("members", &config.static_members.join(", "), "static_members");
    }
    if config.cluster_mode == ClusterMode::Multicast {
        text += &line("group", &config.multicast_group.to_string(), "multicast_group");
    }
    if config.in_cluster() {
        let host = config.advertised().unwrap_or_else(|error| format!("unknown: {error}"));
        let _ = writeln!(text, "{:<10} {}, which others reach as {host}", "node", config.id());
    }
    Ok(text)
}

fn mode_name(mode: ClusterMode) -> &'static str {
    match mode {
        ClusterMode::Standalone => "standalone",
        ClusterMode::MongoDb => "cluster (mongodb)",
        ClusterMode::Multicast => "cluster (multicast)",
        ClusterMode::Static => "cluster (static)",
    }
}

/// What is to become of the file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Keys with their new texts.
    set: Vec<(String, String)>,
    /// Keys that go.
    remove: Vec<String>,
    /// Settings whose values get files of their own, which the file then names.
    secrets: Vec<(&'static str, Secret)>,
    /// Sentences for whoever asked.
    say: Vec<String>,
}

impl Plan {
    fn set(&mut self, key: &str, text: impl Into<String>) {
        self.set.push((key.to_owned(), text.into()));
    }

    fn remove(&mut self, keys: &[&str]) {
        self.remove.extend(keys.iter().map(|&key| key.to_owned()));
    }

    fn secret(&mut self, key: &'static str, value: &str) {
        self.remove.push(key.to_owned());
        self.secrets.push((key, Secret::new(value.to_owned())));
    }
}

const CREDENTIALS: &[&str] = &["store_user", "store_password", "store_password_file"];

fn plan(
    request: &Request,
    flags: &BTreeMap<String, String>,
    in_file: impl Fn(&str) -> Option<String>,
) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let refuse = |text: &str| Err(Failure::new(Exit::Usage, text));
    match request {
        Request::Show => {}
        Request::Cluster { place, user, password } => {
            let uri = mongodb_uri(place.expose()).map_err(|e| Failure::new(Exit::Usage, e.to_string()))?;
            plan.set("cluster_mode", "mongodb");
            plan.remove(CREDENTIALS);
            match (has_user(&uri), user) {
                (true, Some(_)) => return refuse("the URI names a user already: give the user in one place"),
                (true, None) => plan.secret("store", &uri),
                (false, user) => {
                    plan.remove(&["store_file"]);
                    plan.set("store", &uri);
                    if let Some(user) = user {
                        plan.set("store_user", user);
                    }
                    if let Some(password) = password {
                        plan.secret("store_password", password.expose());
                    }
                }
            }
            plan.say.push(format!("cluster by the MongoDB at {}", hosts(&uri)));
        }
        Request::Multicast { group } => {
            without_database(&mut plan, "multicast");
            if let Some(group) = group {
                plan.set("multicast_group", group);
            }
            plan.say.push("cluster by multicast, without a database".into());
        }
        Request::Static { members } => {
            without_database(&mut plan, "static");
            plan.set("static_members", members);
            plan.say.push("cluster of the listed members, without a database".into());
        }
        Request::Standalone => {
            without_database(&mut plan, "standalone");
            plan.say.push("standalone, with the embedded database; what is in a MongoDB stays there".into());
            if in_file("role").as_deref() == Some("edge") && !flags.contains_key("role") {
                plan.set("role", "both");
                plan.say.push("the role was `edge`, which a node alone cannot have: it is `both` now".into());
            }
        }
    }
    for (key, text) in flags {
        if plan.set.iter().any(|(set, _)| set == key) || plan.secrets.iter().any(|(set, _)| set == key) {
            let flag = key.replace('_', "-");
            return refuse(&format!("the mode already says what --{flag} would: give it in one place"));
        }
        match SETTINGS.iter().find(|setting| setting.key == key && setting.secret) {
            Some(setting) => plan.secret(setting.key, text),
            None => plan.set(key, text),
        }
    }
    Ok(plan)
}

fn without_database(plan: &mut Plan, mode: &str) {
    plan.set("cluster_mode", mode);
    plan.remove(CREDENTIALS);
    plan.remove(&["store_file"]);
    plan.set("store", "sqlite");
}

/// The name of the file for a secret, beside the configuration file.
pub(super) fn secret_file(key: &str) -> String {
    if key == "store" { "store-uri".to_owned() } else { key.replace('_', "-") }
}

fn change(request: &Request, sources: &Sources, new_key: impl FnOnce() -> String) -> Result<String, Failure> {
    let Some(named) = &sources.file else {
        let text = "there is no configuration file to change: name one with --config";
        return Err(Failure::new(Exit::Usage, text));
    };
    let mut file = ConfigFile::open(named)?;
    let path = file.path().to_owned();
    let folder = folder_of(&path).to_owned();
    let mut plan = plan(request, &sources.flags, |key| file.text_of(key).map(ToOwned::to_owned))?;
    add_key(&mut plan, &file, sources, &folder, new_key);

    // What is set anew keeps its place.
    let is_set = |key: &str| {
        let in_file = key.strip_suffix("_file");
        plan.set.iter().any(|(k, _)| k == key) || plan.secrets.iter().any(|(k, _)| Some(*k) == in_file)
    };
    for key in plan.remove.iter().filter(|key| !is_set(key)) {
        file.remove(key);
    }
    for (key, text) in &plan.set {
        file.set(key, text);
    }
    let secret_path = |key: &str| folder.join(secret_file(key));
    for (key, _) in &plan.secrets {
        let secret = secret_path(key);
        let Some(secret) = secret.to_str() else {
            let text = format!("the path of {} is not UTF-8: give it another name", secret.display());
            return Err(Failure::new(Exit::Usage, text));
        };
        file.set(&format!("{key}_file"), secret);
    }

    // All is checked as the node would read it, before any file takes its place.
    let staged = file.stage()?;
    let loaded = check(&staged, &path, &plan, sources)?;
    // The default is a folder of wherever the node is started, which is elsewhere.
    let data_dir = match loaded.origin("data_dir") {
        Origin::Default if path == Path::new(SERVICE_FILE) => Path::new(SERVICE_DATA),
        Origin::Default => &path,
        _ => &loaded.config.data_dir,
    };
    let rights = Rights::secret(&[data_dir, &path, &folder]);
    let mut secrets = Vec::new();
    for (key, value) in &plan.secrets {
        secrets.push(Staged::write(&secret_path(key), format!("{}\n", value.expose()).as_bytes(), rights)?);
    }
    let is_changed = file.is_changed();
    for secret in secrets {
        secret.place()?;
    }
    if is_changed {
        staged.place()?;
    }
    Ok(report(&plan, &path, &folder, &loaded, is_changed))
}

/// A cluster needs something that says who belongs to it. A key that an earlier call made is kept.
fn add_key(
    plan: &mut Plan,
    file: &ConfigFile,
    sources: &Sources,
    folder: &Path,
    new_key: impl FnOnce() -> String,
) {
    let is_cluster = plan.set.iter().any(|(key, text)| key == "cluster_mode" && text != "standalone");
    let names = ["cluster_key", "cluster_key_file", "cluster_cert"];
    let in_env = |key: &str| {
        let name = format!("SLUICE_{}", key.to_ascii_uppercase());
        sources.env.iter().any(|(n, value)| *n == *name && !value.is_empty())
    };
    if !is_cluster || names.iter().any(|key| file.has(key) || sources.flags.contains_key(*key) || in_env(key))
    {
        return;
    }
    let path = folder.join(secret_file("cluster_key"));
    if path.exists() {
        plan.set("cluster_key_file", path.to_string_lossy());
        plan.say.push(format!("the cluster key is the one in {}", path.display()));
        return;
    }
    plan.secret("cluster_key", &new_key());
    plan.say.push(format!(
        "a cluster key has been made, in {}: copy that file to every other node of the cluster before its mode is set",
        path.display()
    ));
}

/// Reads the configuration as it would be.
fn check(staged: &Staged, path: &Path, plan: &Plan, sources: &Sources) -> Result<Loaded, Failure> {
    let mut flags = BTreeMap::new();
    // Their files are not there yet.
    for (key, value) in &plan.secrets {
        flags.insert((*key).to_owned(), value.expose().to_owned());
    }
    let env = sources.env.clone();
    config::load(&Sources { file: Some(staged.path().to_owned()), env, flags }).map_err(|errors| {
        let reasons = errors.to_string().replace(&*staged.path().to_string_lossy(), &path.to_string_lossy());
        let text =
            format!("{} is left as it is, for the result would be refused:\n{reasons}", path.display());
        Failure::new(Exit::Usage, text)
    })
}

fn report(plan: &Plan, path: &Path, folder: &Path, loaded: &Loaded, is_changed: bool) -> String {
    let mut text = String::new();
    for sentence in &plan.say {
        let _ = writeln!(text, "{sentence}");
    }
    for (key, _) in plan.secrets.iter().filter(|(key, _)| *key != "cluster_key") {
        let _ = writeln!(text, "{key} is in {}", folder.join(secret_file(key)).display());
    }
    for (key, wanted) in &plan.set {
        if !key.ends_with("_file") && loaded.text(key) != wanted {
            let origin = loaded.origin(key);
            let _ = writeln!(text, "warning: {origin} goes before the file: there {key} is something else");
        }
    }
    let _ = if is_changed || !plan.secrets.is_empty() {
        writeln!(
            text,
            "{} is changed; restart the node for it (systemctl restart sluice-node)",
            path.display()
        )
    } else {
        writeln!(text, "{} says so already", path.display())
    };
    text
}

#[cfg(test)]
mod tests;
