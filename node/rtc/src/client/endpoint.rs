//! Where a WHIP or WHEP server is, from a URL as people write it.

use std::fmt;

use url::Url;

/// Whether a server is published to or played from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It takes streams.
    Whip,
    /// It plays streams.
    Whep,
}

impl Kind {
    /// The word in URLs, of which it is the scheme or a part of the path.
    fn word(self) -> &'static str {
        match self {
            Kind::Whip => "whip",
            Kind::Whep => "whep",
        }
    }
}

/// The longest URL, in bytes.
const LONGEST: usize = 2048;
/// The parameter that is sent as a bearer token.
const TOKEN: &str = "token";

/// Why a URL is not one that can be called. A sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotCallable {
    /// Of another kind.
    #[error("only {word}://…, {word}s://…, and http:// or https:// with /{word} in the path can be called", word = .0.word())]
    Kind(Kind),
    /// No URL.
    #[error("the URL cannot be read: {0}")]
    Unreadable(String),
    /// With a name and password.
    #[error("a name and password in a URL are not sent: give a bearer token as ?token=…")]
    Password,
    /// The token cannot be sent.
    #[error("the token has characters that cannot stand in a header")]
    Token,
}

/// A server that can be called.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
    token: Option<String>,
}

impl Endpoint {
    /// Reads a URL: `whep://host[:port]/path` means `http://…`, `wheps://` means `https://` (`whip` likewise); `http` and `https`
    /// are taken when a part of their path is the word. The parameter `token` becomes the bearer token (RFC 6750) and is not
    /// sent otherwise.
    ///
    /// # Errors
    /// [`NotCallable`].
    pub fn parse(text: &str, kind: Kind) -> Result<Self, NotCallable> {
        if text.len() > LONGEST {
            return Err(NotCallable::Unreadable(format!("it is longer than {LONGEST} bytes")));
        }
        let (scheme, rest) = text.trim().split_once("://").ok_or(NotCallable::Kind(kind))?;
        let scheme = scheme.to_ascii_lowercase();
        let (http, named) = match scheme.as_str() {
            "http" | "https" => (scheme.as_str(), false),
            other if other == kind.word() => ("http", true),
            other if other.strip_suffix('s') == Some(kind.word()) => ("https", true),
            _ => return Err(NotCallable::Kind(kind)),
        };
        let mut url = Url::parse(&format!("{http}://{rest}"))
            .map_err(|error| NotCallable::Unreadable(error.to_string()))?;
        let has_word = url.path_segments().is_some_and(|mut parts| parts.any(|part| part == kind.word()));
        if !named && !has_word {
            return Err(NotCallable::Kind(kind));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NotCallable::Password);
        }
        url.set_fragment(None);
        let token = take_token(&mut url);
        let sendable = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
        if !token.as_ref().is_none_or(sendable) {
            return Err(NotCallable::Token);
        }
        Ok(Endpoint { url, token })
    }

    /// The URL that is asked.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The bearer token.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Another URL of the same server, which gets the same token.
    pub(super) fn at(&self, url: Url) -> Self {
        // Never from https to http, nor to another host: the token is this one's.
        let same = self.url.host() == url.host() && (url.scheme() == "https" || self.url.scheme() == "http");
        Endpoint { url, token: self.token.clone().filter(|_| same) }
    }
}

/// Takes the token out of the query; what is left stays as it was written.
fn take_token(url: &mut Url) -> Option<String> {
    let token = url.query_pairs().find(|(name, _)| name == TOKEN).map(|(_, value)| value.into_owned())?;
    let is_token = |pair: &&str| url::form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == TOKEN);
    let query = url.query().unwrap_or_default();
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_token(pair)).collect();
    let rest = rest.join("&");
    url.set_query(Some(rest.as_str()).filter(|rest| !rest.is_empty()));
    Some(token).filter(|token| !token.is_empty())
}

/// Without the query, which may have secrets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.url.origin().ascii_serialization(), self.url.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whep(text: &str) -> Result<(String, Option<String>), NotCallable> {
        let endpoint = Endpoint::parse(text, Kind::Whep)?;
        Ok((endpoint.url().to_string(), endpoint.token().map(str::to_owned)))
    }

    #[test]
    fn schemes_and_paths_say_what_a_url_is_for() {
        for (text, url) in [
            ("whep://h/LiveApp/whep/cam1", "http://h/LiveApp/whep/cam1"),
            ("WHEPS://h:8443/x", "https://h:8443/x"),
            (" whep://[2001:db8::1]:5080/a?b=c#d ", "http://[2001:db8::1]:5080/a?b=c"),
            ("http://h:8889/cam1/whep", "http://h:8889/cam1/whep"),
            ("https://h/whep/cam1", "https://h/whep/cam1"),
            ("whep://h", "http://h/"),
        ] {
            assert_eq!(whep(text), Ok((url.to_owned(), None)), "{text}");
        }
        for text in [
            "http://h/cam1",
            "whip://h/x",
            "whipss://h/x",
            "https://h/whip/cam1",
            "rtsp://h/whep/x",
            "file:///whep/x",
            "h/whep/x",
            "",
        ] {
            assert_eq!(whep(text), Err(NotCallable::Kind(Kind::Whep)), "{text}");
        }
        assert!(Endpoint::parse("https://h/LiveApp/whip/cam1", Kind::Whip).is_ok());
        for text in ["whep://", "whep://h:99999/x", "whep://a b/x", &format!("whep://h/{}", "x".repeat(3000))]
        {
            assert!(matches!(whep(text), Err(NotCallable::Unreadable(_))), "{text}");
        }
        assert_eq!(whep("whep://me:secret@h/x"), Err(NotCallable::Password));
    }

    #[test]
    fn the_token_is_taken_out_of_the_query() {
        for (text, url, token) in [
            ("whep://h/x?token=a%2Bb", "http://h/x", Some("a+b")),
            ("whep://h/x?a=%20&token=t&b=2", "http://h/x?a=%20&b=2", Some("t")),
            ("whep://h/x?token=", "http://h/x", None),
            ("whep://h/x?tokens=t", "http://h/x?tokens=t", None),
        ] {
            assert_eq!(whep(text), Ok((url.to_owned(), token.map(str::to_owned))), "{text}");
        }
        assert_eq!(whep("whep://h/x?token=a%0d%0ab"), Err(NotCallable::Token));
        let endpoint = Endpoint::parse("wheps://h/x?token=secret&key=other", Kind::Whep).unwrap();
        assert_eq!(format!("{endpoint} {endpoint:?}"), "https://h/x Endpoint(https://h/x)");
    }

    #[test]
    fn the_token_goes_nowhere_else() {
        let endpoint = Endpoint::parse("wheps://h/x?token=t", Kind::Whep).unwrap();
        for (url, token) in [("https://h:444/y", Some("t")), ("http://h/y", None), ("https://other/y", None)]
        {
            assert_eq!(endpoint.at(Url::parse(url).unwrap()).token(), token, "{url}");
        }
    }
}
