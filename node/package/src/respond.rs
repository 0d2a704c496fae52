//! HTTP answers: headers from constants, bodies shared.

use std::io::Write as _;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL,
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE,
    RETRY_AFTER, VARY,
};
use http::{Response, StatusCode};

/// Texts larger than this are compressed for clients that take it (as AMS does).
const COMPRESS_ABOVE: usize = 2048;

const PLAYLIST: HeaderValue = HeaderValue::from_static("application/vnd.apple.mpegurl");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// A text that may go out compressed; compressed once, when the first client asks for it.
#[derive(Debug)]
pub(crate) struct Text {
    plain: Bytes,
    gzip: OnceLock<Option<Bytes>>,
}

impl Text {
    pub(crate) fn new(text: String) -> Self {
        Text { plain: Bytes::from(text), gzip: OnceLock::new() }
    }

    fn gzip(&self) -> Option<&Bytes> {
        if self.plain.len() <= COMPRESS_ABOVE {
            return None;
        }
        let make = || {
            let mut gz = GzEncoder::new(Vec::with_capacity(self.plain.len() / 4), Compression::fast());
            gz.write_all(&self.plain).and_then(|()| gz.finish()).map(Bytes::from).ok()
        };
        self.gzip.get_or_init(make).as_ref()
    }
}

/// What a media file is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Mp4,
    TransportStream,
}

/// A playlist.
pub(crate) fn playlist(text: &Text, request: &HeaderMap, cache: &'static str) -> Response<Bytes> {
    let gzip = if takes_gzip(request) { text.gzip() } else { None };
    let mut r = Response::new(gzip.unwrap_or(&text.plain).clone());
    let h = r.headers_mut();
    h.reserve(8);
    h.insert(CONTENT_TYPE, PLAYLIST);
    h.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    h.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    h.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if gzip.is_some() {
        h.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    r
}

/// An init segment, a segment or a part, or the range of it that is asked for.
pub(crate) fn media(bytes: Bytes, kind: Kind, cache: &HeaderValue, request: &HeaderMap) -> Response<Bytes> {
    let whole = bytes.len();
    let range = request.get(RANGE).map_or(Range::Whole, |v| range(v.as_bytes(), whole));
    let mut r = Response::new(Bytes::new());
    let h = r.headers_mut();
    h.reserve(8);
    h.insert(
        CONTENT_TYPE,
        match kind {
            // Plays everywhere, also where video/iso.segment (AMS's) is not known.
            Kind::Mp4 => HeaderValue::from_static("video/mp4"),
            Kind::TransportStream => HeaderValue::from_static("video/MP2T"),
        },
    );
    h.insert(CACHE_CONTROL, cache.clone());
    h.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    h.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let (status, value, body) = match range {
        Range::Whole => (StatusCode::OK, None, bytes),
        Range::Part(from, to) => (
            StatusCode::PARTIAL_CONTENT,
            Some(format!("bytes {from}-{}/{whole}", to - 1)),
            bytes.slice(from..to),
        ),
        Range::Outside => (StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{whole}")), Bytes::new()),
    };
    if let Some(v) = value.and_then(|v| HeaderValue::try_from(v).ok()) {
        h.insert(CONTENT_RANGE, v);
        h.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("content-range"));
    }
    *r.status_mut() = status;
    *r.body_mut() = body;
    r
}

/// A plain sentence with a status. Caches may keep it for a second, so that a crowd does not come through.
pub(crate) fn sentence(status: StatusCode, text: impl Into<String>) -> Response<Bytes> {
    let mut text: String = text.into();
    text.push('\n');
    let mut r = Response::new(Bytes::from(text));
    *r.status_mut() = status;
    let h = r.headers_mut();
    h.insert(CONTENT_TYPE, PLAIN);
    h.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    let cache = if status == StatusCode::NOT_FOUND { "max-age=1" } else { "no-store" };
    h.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            h.insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            h.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    r
}

/// Sends the client elsewhere.
pub(crate) fn redirect(to: String) -> Response<Bytes> {
    let Ok(to) = HeaderValue::try_from(to) else {
        return sentence(StatusCode::BAD_REQUEST, "the query has characters that cannot stand in a URL");
    };
    let mut r = sentence(StatusCode::FOUND, "the playlist is at the location given");
    r.headers_mut().insert(LOCATION, to);
    r
}

/// The answer to a browser that asks whether it may ask.
pub(crate) fn preflight() -> Response<Bytes> {
    let mut r = Response::new(Bytes::new());
    *r.status_mut() = StatusCode::NO_CONTENT;
    let h = r.headers_mut();
    h.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    h.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    h.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("accept, authorization, content-type, origin, range, x-requested-with"),
    );
    h.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    r
}

/// The same answer without its body, as HEAD wants it.
pub(crate) fn without_body(mut r: Response<Bytes>) -> Response<Bytes> {
    let length = std::mem::take(r.body_mut()).len();
    r.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    r
}

fn takes_gzip(request: &HeaderMap) -> bool {
    request.get_all(ACCEPT_ENCODING).iter().any(|v| {
        let Ok(v) = v.to_str() else { return false };
        v.split(',').any(|coding| {
            let mut fields = coding.split(';').map(str::trim);
            let gzip = fields.next().is_some_and(|c| c.eq_ignore_ascii_case("gzip") || c == "*");
            // A weight of zero means "anything but this".
            gzip && !fields.any(|q| q.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)))
        })
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part(usize, usize),
    Outside,
}

/// A single byte range (RFC 9110, 14.2). Whatever else is asked for is answered with the whole, as is allowed.
fn range(value: &[u8], whole: usize) -> Range {
    let parse = || {
        let v = std::str::from_utf8(value).ok()?.strip_prefix("bytes=")?;
        let (from, to) = v.split_once('-')?;
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if !digits(from) || !digits(to) {
            return None;
        }
        Some(match (from, to) {
            ("", "") => return None,
            ("", n) => {
                let n = n.parse().unwrap_or(usize::MAX).min(whole);
                if n == 0 { Range::Outside } else { Range::Part(whole - n, whole) }
            }
            (from, to) => {
                let from = from.parse().unwrap_or(usize::MAX);
                let last = if to.is_empty() { usize::MAX } else { to.parse().unwrap_or(usize::MAX) };
                if last < from {
                    return None;
                }
                if from >= whole {
                    Range::Outside
                } else {
                    Range::Part(from, last.saturating_add(1).min(whole))
                }
            }
        })
    };
    parse().unwrap_or(Range::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges() {
        for (value, expected) in [
            ("bytes=0-3", Range::Part(0, 4)),
            ("bytes=4-", Range::Part(4, 10)),
            ("bytes=-3", Range::Part(7, 10)),
            ("bytes=-30", Range::Part(0, 10)),
            ("bytes=8-99", Range::Part(8, 10)),
            ("bytes=10-", Range::Outside),
            ("bytes=-0", Range::Outside),
            ("bytes=5-4", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("lines=0-1", Range::Whole),
            ("bytes=-", Range::Whole),
        ] {
            assert_eq!(range(value.as_bytes(), 10), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_range_is_inside(value in ".{0,24}", whole in 0usize..20) {
            for v in [value.clone(), format!("bytes={value}")] {
                if let Range::Part(a, b) = range(v.as_bytes(), whole) {
                    prop_assert!(a < b && b <= whole);
                }
            }
        }
    }

    #[test]
    fn only_large_texts_are_compressed_and_only_for_those_who_take_it() {
        let mut asks = HeaderMap::new();
        asks.insert(ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=0.8"));
        let mut refuses = HeaderMap::new();
        refuses.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip;q=0, br"));
        let long = Text::new("#EXTM3U\n".repeat(300));
        let short = Text::new("#EXTM3U\n".into());
        assert!(playlist(&long, &asks, "no-cache").headers().contains_key(CONTENT_ENCODING));
        assert!(!playlist(&long, &refuses, "no-cache").headers().contains_key(CONTENT_ENCODING));
        assert!(!playlist(&long, &HeaderMap::new(), "no-cache").headers().contains_key(CONTENT_ENCODING));
        assert!(!playlist(&short, &asks, "no-cache").headers().contains_key(CONTENT_ENCODING));
    }
}
