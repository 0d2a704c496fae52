//! From a URI to a client, without I/O where that can be.

use std::time::Duration;

use self::percent::decode;
use mongodb::event::EventHandler;
use mongodb::event::sdam::{SdamEvent, TopologyDescription};
use mongodb::options::{
    Acknowledgment, ClientOptions, ConnectionString, Credential, ReadPreference, SelectionCriteria,
    ServerAddress, WriteConcern,
};
use mongodb::{Client, ServerType, error::ErrorKind};

use super::MongoOptions;
use super::failure::{Failure, OpResult};
use crate::{Result, StoreError};

/// What must not be in an error or a log line.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    pub(super) fn of(uri: &str, options: &MongoOptions) -> Self {
        let mut all = Vec::new();
        if let Some(user_info) = user_info(uri) {
            if let Some((_, password)) = user_info.split_once(':') {
                all.extend([password.to_owned(), decode(password)]);
            }
            all.push(user_info.to_owned());
        }
        all.extend(options.password.clone());
        all.retain(|s| !s.is_empty());
        // The longest first, so that a part of it does not hide the rest.
        all.sort_by_key(|s| std::cmp::Reverse(s.len()));
        Secrets(all)
    }

    pub(super) fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

/// What stands before the last `@`. A password that is not percent-encoded may have slashes in it.
fn user_info(uri: &str) -> Option<&str> {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    rest.rsplit_once('@').map(|(user_info, _)| user_info)
}

/// Checks what can be checked without asking anybody.
///
/// # Errors
/// `Address`.
pub(super) fn check(uri: &str, options: &MongoOptions) -> Result<()> {
    let wrong = |detail: String| StoreError::Address { detail };
    let prefix = &options.prefix;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if prefix.len() > 30 || !prefix.bytes().all(plain) {
        return Err(wrong(format!(
            "the prefix of its databases is {prefix:?}, but has to be lower-case letters, digits, - and _, at most 30"
        )));
    }
    let Err(error) = ConnectionString::parse(uri) else { return Ok(()) };
    // The parser's words may quote what it takes for a host, which can be a piece of a password.
    let Some(user_info) = user_info(uri) else { return Err(wrong(words(&error.kind))) };
    match ConnectionString::parse(uri.replacen(&format!("{user_info}@"), "", 1)) {
        Err(error) => Err(wrong(Secrets::of(uri, options).redact(&words(&error.kind)))),
        Ok(_) => Err(wrong(
            "the user or the password in it has characters that must be percent-encoded, such as @ as %40; or \
             give them apart from the URI"
                .into(),
        )),
    }
}

fn words(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::InvalidArgument { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// Makes the client. `mongodb+srv` asks the name server here; nothing else is asked yet. `seen` is told whenever
/// it is known again whether there is a server that takes writes.
pub(super) async fn client(
    uri: &str,
    options: &MongoOptions,
    seen: impl Fn(bool) + Send + Sync + 'static,
) -> OpResult<Client> {
    let parsed = ClientOptions::parse(uri).await.map_err(|e| match e.kind.as_ref() {
        ErrorKind::InvalidArgument { .. } | ErrorKind::InvalidTlsConfig { .. } => {
            let detail = Secrets::of(uri, options).redact(&words(&e.kind));
            Failure::from(StoreError::Address { detail })
        }
        _ => Failure::Driver(e),
    })?;
    let mut all = completed(parsed, options);
    all.sdam_event_handler = Some(EventHandler::callback(move |event| {
        if let SdamEvent::TopologyDescriptionChanged(change) = event {
            let now = takes_writes(&change.new_description);
            if now != takes_writes(&change.previous_description) {
                seen(now);
            }
        }
    }));
    Ok(Client::with_options(all)?)
}

fn takes_writes(servers: &TopologyDescription) -> bool {
    use ServerType::{LoadBalancer, Mongos, RsPrimary, Standalone};
    let takes = |kind| matches!(kind, RsPrimary | Standalone | Mongos | LoadBalancer);
    servers.servers().iter().any(|(_, server)| takes(server.server_type()))
}

/// What this store needs, over what the URI says.
fn completed(mut o: ClientOptions, options: &MongoOptions) -> ClientOptions {
    o.app_name.get_or_insert_with(|| "sluice".into());
    o.server_selection_timeout =
        Some(options.selection.min(o.server_selection_timeout.unwrap_or(options.selection)));
    o.connect_timeout = Some(options.selection.min(o.connect_timeout.unwrap_or(options.selection)));
    o.heartbeat_freq.get_or_insert(Duration::from_secs(2));
    o.max_pool_size = Some(o.max_pool_size.unwrap_or(options.pool).clamp(1, options.pool.max(1)));
    // Everybody decides by the same copy of the data.
    o.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    o.read_concern = None;
    o.write_concern = Some(majority(options.limit));
    if let Some(user) = &options.user {
        let mut credential = o.credential.take().unwrap_or_else(|| Credential::builder().build());
        credential.username = Some(user.clone());
        credential.password.clone_from(&options.password);
        credential.source.get_or_insert_with(|| "admin".into());
        o.credential = Some(credential);
    }
    o
}

/// A write is acknowledged when it can no longer be rolled back.
pub(super) fn majority(limit: Duration) -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(limit).build()
}

/// For states that are written again in a few seconds.
pub(super) fn passing() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Nodes(1)).build()
}

/// The hosts of a URI, to be shown.
pub(super) fn hosts(uri: &str) -> String {
    match ConnectionString::parse(uri).map(|c| c.host_info) {
        Ok(mongodb::options::HostInfo::HostIdentifiers(all)) => {
            all.iter().map(ServerAddress::to_string).collect::<Vec<_>>().join(",")
        }
        Ok(mongodb::options::HostInfo::DnsRecord(name)) => name,
        _ => "unknown".into(),
    }
}

mod percent {
    /// What a percent-encoded text stands for; as it is where it is not well-formed.
    pub(super) fn decode(text: &str) -> String {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            let hex = match tail {
                [a, b, ..] if *first == b'%' => {
                    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
                    digit(*a).zip(digit(*b)).map(|(a, b)| a << 4 | b)
                }
                _ => None,
            };
            bytes.push(hex.unwrap_or(*first));
            rest = if hex.is_some() { &tail[2..] } else { tail };
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(uri: &str) -> String {
        check(uri, &MongoOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn passwords_are_in_no_error() {
        for uri in [
            "mongodb://me:pa/ss@wo:rd@host:1/",
            "mongodb://me:pass%zz@host/?w=-3",
            "mongodb://me:sec@ret@host:77777777",
            "http://me:secret@host",
        ] {
            let said = detail(uri);
            for part in ["pa/ss", "wo:rd", "pass", "sec@ret", "ret@", "secret"] {
                let innocent = said.replace("password", "");
                assert!(!innocent.contains(part), "{uri}: {said}");
            }
        }
        assert!(detail("mongodb://me:pa/ss@wo:rd@host:1/").contains("percent-encoded"));
        assert!(detail("host:1").contains("mongodb://host:27017"));
    }

    #[test]
    fn secrets_are_hidden_in_both_spellings() {
        let options = MongoOptions { password: Some("apart".into()), ..MongoOptions::default() };
        let secrets = Secrets::of("mongodb://u:p%40ss@h", &options);
        assert_eq!(secrets.redact("p%40ss p@ss u:p%40ss apart h"), "*** *** *** *** h");
        assert!(!format!("{options:?}").contains("apart"));
    }

    #[tokio::test]
    async fn options_of_the_uri_are_completed() {
        let options =
            MongoOptions { user: Some("u".into()), password: Some("p@/".into()), ..Default::default() };
        let uri = "mongodb://a:1,b:2/?replicaSet=r&tls=true&w=1&readPreference=secondary&maxPoolSize=900&serverSelectionTimeoutMS=60000";
        let o = completed(ClientOptions::parse(uri).await.unwrap(), &options);
        assert_eq!(o.server_selection_timeout, Some(options.selection));
        assert_eq!(o.max_pool_size, Some(options.pool));
        assert_eq!(o.write_concern.and_then(|w| w.w), Some(Acknowledgment::Majority));
        assert!(matches!(
            o.selection_criteria,
            Some(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        ));
        let credential = o.credential.unwrap();
        assert_eq!(
            (credential.password.as_deref(), credential.source.as_deref()),
            (Some("p@/"), Some("admin"))
        );
        assert!(o.tls.is_some());
        assert_eq!(hosts(uri), "a:1,b:2");
    }

    #[test]
    fn prefixes_are_checked() {
        for (prefix, fine) in
            [("", true), ("blue_", true), ("Blue", false), ("a/b", false), (&"x".repeat(31), false)]
        {
            let options = MongoOptions { prefix: prefix.into(), ..MongoOptions::default() };
            assert_eq!(check("mongodb://h", &options).is_ok(), fine, "{prefix}");
        }
    }
}
