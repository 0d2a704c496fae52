//! The web pages: the dashboard at `/`, the watch page at `/{app}/play.html` and the one that publishes at
//! `/{app}/publish.html`, embedded in the binary.
//!
//! Their sources are in `dashboard/`, built by `build.rs`. This module only knows files and HTTP headers; which
//! paths belong to it is all that a router has to ask ([`respond`] answers `None` for the others).

use std::{io::Write as _, sync::OnceLock};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

/// One embedded file.
#[derive(Debug)]
pub struct Asset {
    /// Where it is served: an absolute URL path.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
    /// Its strong entity tag, quotes included.
    pub etag: &'static str,
    /// Whether its name contains a hash of its content, so that it may be cached for ever.
    pub immutable: bool,
}

static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/pages_table.rs"));

/// The scripts, styles and pictures of the pages come from the node itself and nothing runs inline. Playback uses blob
/// URLs for media. No other site shows the dashboard, or the page that is allowed the camera, in a frame.
const DASHBOARD_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     media-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// The same, but other sites may show the watch page in a frame, as they do with Ant Media Server's.
const WATCH_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     media-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; \
     form-action 'none'";

/// Below this a compressed answer saves nothing worth the header.
const GZIP_FROM: usize = 1024;

impl Asset {
    /// The content compressed with gzip, made at the first call; `None` where that would not make it smaller.
    pub fn gzip(&'static self) -> Option<&'static [u8]> {
        static COMPRESSED: OnceLock<Vec<Option<Vec<u8>>>> = OnceLock::new();
        let all = COMPRESSED.get_or_init(|| ASSETS.iter().map(|asset| compress(asset.bytes)).collect());
        let index = ASSETS.iter().position(|asset| std::ptr::eq(asset, self))?;
        all.get(index)?.as_deref()
    }

    fn is_html(&self) -> bool {
        self.content_type.starts_with("text/html")
    }
}

/// The pages that every application has.
const APP_PAGES: [&str; 2] = ["/play.html", "/publish.html"];

/// The file for a URL path (without query): `/`, `/assets/…`, and `/{app}/play.html` and `/{app}/publish.html` for any
/// application name.
pub fn page(path: &str) -> Option<&'static Asset> {
    let name = match path {
        "/" => "/index.html",
        _ if APP_PAGES.contains(&path) => return None,
        _ => app_page(path).unwrap_or(path),
    };
    ASSETS.iter().find(|asset| asset.path == name)
}

/// The whole answer for a request: `None` when no file is at `path`, so that others may answer.
///
/// Handles GET and HEAD (405 for others), `If-None-Match`, and gzip where the client takes it.
pub fn respond(method: &Method, path: &str, request: &HeaderMap) -> Option<Response<Bytes>> {
    let asset = page(path)?;
    if method != Method::GET && method != Method::HEAD {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(response);
    }

    let fresh = request.get_all(header::IF_NONE_MATCH).iter().any(|tags| names_tag(tags, asset.etag));
    let gzip = if accepts_gzip(request) { asset.gzip() } else { None };
    let body = gzip.unwrap_or(asset.bytes);

    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    let cache = if asset.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::ETAG, HeaderValue::from_static(asset.etag));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if asset.is_html() {
        let policy = if asset.path == "/play.html" { WATCH_POLICY } else { DASHBOARD_POLICY };
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    }
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some(response);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if gzip.is_some() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if method == Method::GET {
        *response.body_mut() = Bytes::from_static(body);
    }
    Some(response)
}

/// The file of a path such as `/{app}/play.html`, with a name that an application can have.
fn app_page(path: &str) -> Option<&'static str> {
    let (app, name) =
        APP_PAGES.iter().find_map(|name| Some((path.strip_suffix(name)?.strip_prefix('/')?, *name)))?;
    let named = !app.is_empty() && app.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    named.then_some(name)
}

/// Whether an `If-None-Match` value names this tag; comparison is weak, as RFC 9110 (13.1.2) asks.
fn names_tag(tags: &HeaderValue, etag: &str) -> bool {
    tags.to_str().is_ok_and(|tags| {
        tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

/// Whether `Accept-Encoding` lists gzip (or anything) without refusing it by `q=0`.
fn accepts_gzip(request: &HeaderMap) -> bool {
    request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let refused = parts.any(|part| {
                part.strip_prefix("q=").is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0))
            });
            !refused && (name.eq_ignore_ascii_case("gzip") || name == "*")
        })
    })
}

fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() < GZIP_FROM {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    let compressed = encoder.finish().ok()?;
    (compressed.len() < bytes.len()).then_some(compressed)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn get(path: &str, headers: &[(&'static str, &str)]) -> Option<Response<Bytes>> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        respond(&Method::GET, path, &map)
    }

    #[test]
    fn serves_the_dashboard_and_the_pages_of_an_application() {
        let dashboard = get("/", &[]).unwrap();
        assert_eq!(dashboard.status(), 200);
        assert_eq!(dashboard.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(dashboard.headers()["cache-control"], "no-cache");
        let policy = dashboard.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");

        let watch = get("/LiveApp/play.html", &[]).unwrap();
        assert_eq!(watch.status(), 200);
        let policy = watch.headers()["content-security-policy"].to_str().unwrap();
        assert!(!policy.contains("frame-ancestors"), "other sites embed the watch page: {policy}");

        let publish = get("/LiveApp/publish.html", &[]).unwrap();
        let policy = publish.headers()["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "no other site gets at the camera by it: {policy}"
        );
    }

    #[test]
    fn every_asset_that_a_page_names_is_there_and_cacheable() {
        for page_path in ["/", "/live/play.html", "/live/publish.html"] {
            let html = get(page_path, &[]).unwrap().into_body();
            let html = std::str::from_utf8(&html).unwrap();
            let named: Vec<&str> = html.split('"').filter(|part| part.starts_with("/assets/")).collect();
            assert!(named.len() >= 2, "a script and a style: {named:?}");
            for path in named {
                let asset = get(path, &[]).unwrap_or_else(|| panic!("{path} is missing"));
                assert_eq!(asset.headers()["cache-control"], "public, max-age=31536000, immutable");
                assert_eq!(asset.headers()["x-content-type-options"], "nosniff");
            }
            assert!(!html.contains("http://") && !html.contains("https://"), "no outside resources");
        }
    }

    #[test]
    fn leaves_other_paths_to_others() {
        for path in [
            "/play.html",
            "/publish.html",
            "//publish.html",
            "/a/b/publish.html",
            "/a/b/play.html",
            "//play.html",
            "/a%2e/play.html",
            "/LiveApp/",
            "/rest",
            "",
            "/..",
        ] {
            assert!(page(path).is_none(), "{path}");
        }
    }

    #[test]
    fn answers_not_modified() {
        let etag = page("/").unwrap().etag;
        for tags in [etag.to_owned(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            let response = get("/", &[("if-none-match", &tags)]).unwrap();
            assert_eq!(response.status(), 304, "{tags}");
            assert!(response.body().is_empty());
        }
        assert_eq!(get("/", &[("if-none-match", "\"other\"")]).unwrap().status(), 200);
    }

    #[test]
    fn compresses_when_asked() {
        let script = ASSETS.iter().find(|a| a.path.ends_with(".js") && a.bytes.len() > 4096).unwrap();
        let plain = get(script.path, &[]).unwrap();
        assert!(!plain.headers().contains_key("content-encoding"));
        assert_eq!(plain.body(), script.bytes);
        for refused in ["identity", "gzip;q=0", "br"] {
            assert!(
                !get(script.path, &[("accept-encoding", refused)])
                    .unwrap()
                    .headers()
                    .contains_key("content-encoding")
            );
        }
        let packed = get(script.path, &[("accept-encoding", "br, gzip;q=0.8")]).unwrap();
        assert_eq!(packed.headers()["content-encoding"], "gzip");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed.body()[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, script.bytes);
    }

    #[test]
    fn head_has_no_body_and_other_methods_are_refused() {
        let none = HeaderMap::new();
        let head = respond(&Method::HEAD, "/", &none).unwrap();
        assert!(head.body().is_empty());
        assert_eq!(head.headers()["content-length"], page("/").unwrap().bytes.len().to_string().as_str());
        let post = respond(&Method::POST, "/", &none).unwrap();
        assert_eq!((post.status().as_u16(), post.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD"));
    }
}
