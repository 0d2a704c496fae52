//! Addresses: what is in them, and whether load may go there.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::cli::Load;
use crate::error::Error;

/// The address of each client, `{n}` filled in.
pub(crate) fn each(load: &Load) -> Vec<String> {
    let streams = load.streams.unwrap_or(load.clients);
    (0..load.clients).map(|i| load.url.replace("{n}", &(i % streams).to_string())).collect()
}

/// Looks a host up and refuses addresses of other machines unless they are allowed.
pub(crate) fn resolve(host: &str, port: u16, allow_remote: bool) -> Result<SocketAddr, Error> {
    let failed = |e| Error::Resolve(format!("{host}:{port}"), e);
    let all: Vec<_> = (host, port).to_socket_addrs().map_err(failed)?.collect();
    if let Some(remote) = all.iter().find(|a| !a.ip().is_loopback()).filter(|_| !allow_remote) {
        return Err(Error::Remote(remote.ip()));
    }
    let none = || failed(std::io::Error::other("it has no address"));
    // Where a name has both, IPv4: every server listens there.
    all.iter().find(|a| a.is_ipv4()).or(all.first()).copied().ok_or_else(none)
}

/// An HTTP address in the parts that a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpUrl {
    /// Host and port as written.
    pub(crate) authority: String,
    /// The host, an IPv6 address without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
}

impl HttpUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why| Error::Url(text.to_owned(), why);
        let rest = text.strip_prefix("http://").ok_or(bad("it does not begin with http://"))?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let no_port = || bad("its port is not a number");
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or(bad("a bracket is missing"))?;
                (host, rest.strip_prefix(':').map_or(Ok(80), str::parse).map_err(|_| no_port())?)
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().map_err(|_| no_port())?),
                None => (authority, 80),
            },
        };
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        Ok(HttpUrl { authority: authority.into(), host: host.into(), port, path: path.into() })
    }

    /// The path and query of a reference that stands in the document at `base` (a path with query).
    pub(crate) fn join(&self, base: &str, reference: &str) -> Result<String, Error> {
        if reference.contains("://") {
            let url = HttpUrl::parse(reference)?;
            let elsewhere = Error::Url(reference.into(), "it leads to another server");
            return if url.authority == self.authority { Ok(url.path) } else { Err(elsewhere) };
        }
        if reference.starts_with('/') {
            return Ok(reference.to_owned());
        }
        let base = base.split(['?', '#']).next().unwrap_or_default();
        let mut folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut rest = reference;
        loop {
            if let Some(r) = rest.strip_prefix("./") {
                rest = r;
            } else if let Some(r) = rest.strip_prefix("../") {
                rest = r;
                folder = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
            } else {
                return Ok(format!("{folder}/{rest}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine() {
        assert!(resolve("127.0.0.1", 1, false).is_ok() && resolve("::1", 1, false).is_ok());
        assert!(matches!(resolve("192.0.2.1", 1, false), Err(Error::Remote(_))));
        assert!(resolve("192.0.2.1", 1, true).is_ok());
    }

    #[test]
    fn http_addresses() {
        let url = HttpUrl::parse("http://[::1]:5080/a/b.m3u8?x=1").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("::1", 5080, "/a/b.m3u8?x=1"));
        assert_eq!(HttpUrl::parse("http://h").unwrap().path, "/");
        for bad in ["https://h/", "http:///a", "http://h:x/", "http://[::1/"] {
            assert!(HttpUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn references() {
        let url = HttpUrl::parse("http://h:1/live/streams/cam.m3u8").unwrap();
        let join = |r| url.join("/live/streams/cam.m3u8?s=/1/", r).unwrap();
        assert_eq!(join("cam/v0.m3u8?s=1"), "/live/streams/cam/v0.m3u8?s=1");
        assert_eq!(join("../x.mp4"), "/live/x.mp4");
        assert_eq!(join("./../../../../x"), "/x");
        assert_eq!(join("/y"), "/y");
        assert_eq!(join("http://h:1/z?q"), "/z?q");
        assert!(url.join("/", "http://other/z").is_err());
    }
}
