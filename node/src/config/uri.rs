//! The places of MongoDB: URIs, and what Ant Media Server's tools take for one.

use std::net::Ipv6Addr;

/// Why a text is no place of a database.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// A Redis.
    #[error(
        "Redis is no store of sluice-node: give the address of a MongoDB, or use mode multicast or static without a database"
    )]
    Redis,
    /// Another scheme, or none that can be one.
    #[error("a database is given as `host`, `host:port`, a list of them, `mongodb://…` or `mongodb+srv://…`")]
    NoPlace,
}

/// The URI of a MongoDB. A bare host, `host:port` or a list of these gets `mongodb://` in front of it, as Ant
/// Media Server's scripts do it; a URI stays as it is.
///
/// # Errors
/// It is a Redis, or nothing that can be a MongoDB.
pub fn mongodb_uri(text: &str) -> Result<String, UriError> {
    let text = text.trim();
    if text.starts_with("redis://") || text.starts_with("rediss://") {
        return Err(UriError::Redis);
    }
    let is_printable = text.chars().all(|c| c.is_ascii_graphic());
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None if text.parse::<Ipv6Addr>().is_ok() => return Ok(format!("mongodb://[{text}]/")),
        None => ("mongodb", text),
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let places = authority.rsplit_once('@').map_or(authority, |(_, places)| places);
    let has_places = !places.is_empty() && places.split(',').all(|place| !place.is_empty());
    if !is_printable || !has_places || !matches!(scheme, "mongodb" | "mongodb+srv") {
        return Err(UriError::NoPlace);
    }
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    // Options need the slash before them.
    let slash = if authority.len() == rest.len() { "/" } else { "" };
    Ok(match rest.strip_prefix(authority) {
        Some(options) if options.starts_with('?') => format!("mongodb://{authority}/{options}"),
        _ => format!("mongodb://{text}{slash}"),
    })
}

/// The hosts of a URI, without user and password, to be shown.
#[must_use]
pub fn hosts(uri: &str) -> &str {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts)
}

/// True when the URI names a user.
#[must_use]
pub fn has_user(uri: &str) -> bool {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_uris() {
        for (text, uri) in [
            ("db", "mongodb://db/"),
            ("192.168.1.5:27017", "mongodb://192.168.1.5:27017/"),
            ("db1:27017,db2:27017", "mongodb://db1:27017,db2:27017/"),
            ("fd00::5", "mongodb://[fd00::5]/"),
            ("[fd00::5]:27017", "mongodb://[fd00::5]:27017/"),
            ("db/?replicaSet=rs", "mongodb://db/?replicaSet=rs"),
            ("db?replicaSet=rs", "mongodb://db/?replicaSet=rs"),
            ("mongodb://u:p@db/x?y=z", "mongodb://u:p@db/x?y=z"),
            ("mongodb+srv://cluster.example/", "mongodb+srv://cluster.example/"),
        ] {
            assert_eq!(mongodb_uri(text).as_deref(), Ok(uri), "{text}");
        }
        assert_eq!(mongodb_uri("redis://h"), Err(UriError::Redis));
        for bad in ["", " ", "a b", "postgres://h", "mongodb://", "mongodb://u:p@", "a,,b", "/"] {
            assert_eq!(mongodb_uri(bad), Err(UriError::NoPlace), "{bad}");
        }
    }

    #[test]
    fn only_hosts_are_shown() {
        assert_eq!(hosts("mongodb://u:p%40@a:1,b/x?y=z@w"), "a:1,b");
        assert_eq!(hosts("mongodb://a"), "a");
        assert!(has_user("mongodb://u@h/") && !has_user("mongodb://h/?x=a@b"));
    }
}
