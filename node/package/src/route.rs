//! What a URL under `/{app}/streams/` asks for. Nothing is allocated here: this runs for every request.

use crate::window::Place;

/// The name of a rendition: its kind (`v`ideo, `a`udio, `t`ransport stream) and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RenditionName {
    pub(crate) kind: u8,
    pub(crate) index: u8,
}

impl RenditionName {
    fn parse(s: &str) -> Option<Self> {
        let (&kind, digits) = s.as_bytes().split_first()?;
        if !matches!(kind, b'v' | b'a' | b't') || digits.is_empty() || digits.len() > 2 {
            return None;
        }
        let index = number(std::str::from_utf8(digits).ok()?)?;
        Some(RenditionName { kind, index: u8::try_from(index).ok()? })
    }
}

impl std::fmt::Display for RenditionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", char::from(self.kind), self.index)
    }
}

/// A file of a rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    /// Its media playlist.
    Playlist,
    /// An init segment, by its name.
    Init(u32),
    /// A media segment, by its number.
    Segment(u64),
    /// A part.
    Part(Place),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `{id}.m3u8`.
    Stream,
    /// `{id}_adaptive.m3u8`.
    Adaptive,
    /// `ll-hls/{id}/{id}__master.m3u8`, AMS's place for low latency.
    LowLatency,
    /// `{id}/{file}`.
    Rendition(RenditionName, File),
}

/// The stream that a path `/{app}/streams/…` is about; `None` when it is no such path.
pub fn stream_of(path: &str) -> Option<sluice_media::StreamKey> {
    parse(path).map(|r| sluice_media::StreamKey::new(r.app, r.id))
}

/// A parsed URL path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    pub(crate) app: &'a str,
    pub(crate) id: &'a str,
    pub(crate) target: Target,
}

/// Parses the path of a URL; `None` when nothing of ours can be there.
pub(crate) fn parse(path: &str) -> Option<Route<'_>> {
    let (app, rest) = path.strip_prefix('/')?.split_once('/')?;
    let rest = rest.strip_prefix("streams/")?;
    if app.is_empty() || rest.split('/').any(|c| c.is_empty() || c.starts_with('.')) {
        return None;
    }
    let route = |id, target| Some(Route { app, id, target });
    let (folder, file) = match rest.rsplit_once('/') {
        Some((folder, file)) => (Some(folder), file),
        None => (None, rest),
    };
    let Some(stem) = file.strip_suffix(".m3u8") else {
        let (name, file) = media_file(file)?;
        return route(folder?, Target::Rendition(name, file));
    };
    if let Some(id) = folder.and_then(|f| f.strip_prefix("ll-hls/")) {
        let leaf = stem.strip_suffix("__master")?;
        return if leaf_of(id) == leaf { route(id, Target::LowLatency) } else { None };
    }
    // The one playlist of a transport stream is the stream's own.
    if let (Some(folder), Some(name)) = (folder, RenditionName::parse(stem).filter(|n| n.kind != b't')) {
        return route(folder, Target::Rendition(name, File::Playlist));
    }
    let whole = &rest[..rest.len() - ".m3u8".len()];
    match whole.strip_suffix("_adaptive") {
        Some(id) if !leaf_of(id).is_empty() => route(id, Target::Adaptive),
        _ if stem.is_empty() => None,
        _ => route(whole, Target::Stream),
    }
}

/// The last component of a stream id, which may lie in sub-folders.
pub(crate) fn leaf_of(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(_, leaf)| leaf)
}

fn media_file(file: &str) -> Option<(RenditionName, File)> {
    let (name, rest) = file.split_once('_')?;
    let name = RenditionName::parse(name)?;
    if let Some(init) = rest.strip_prefix("init_") {
        let n = number(init.strip_suffix(".mp4")?)?;
        return Some((name, File::Init(u32::try_from(n).ok()?)));
    }
    let rest = rest.strip_suffix(if name.kind == b't' { ".ts" } else { ".m4s" })?;
    let file = match rest.split_once('.') {
        None => File::Segment(number(rest)?),
        Some((msn, part)) => {
            File::Part(Place { media_sequence: number(msn)?, part: u32::try_from(number(part)?).ok()? })
        }
    };
    Some((name, file))
}

/// A number of digits only; `parse` would take a sign too.
fn number(s: &str) -> Option<u64> {
    s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse().ok()).flatten()
}

/// What the query string says, as far as it matters for the answer itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    pub(crate) session: Option<&'a str>,
    pub(crate) msn: Option<u64>,
    pub(crate) part: Option<u32>,
    pub(crate) skip: bool,
    /// A delivery directive has an impossible value.
    pub(crate) wrong: bool,
}

/// Reads a query string.
pub(crate) fn query(text: &str) -> Query<'_> {
    let mut q = Query::default();
    for pair in text.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "session" if !value.is_empty() => q.session = Some(value),
            "_HLS_msn" => match number(value).filter(|_| !value.is_empty()) {
                Some(n) => q.msn = Some(n),
                None => q.wrong = true,
            },
            "_HLS_part" => match number(value).and_then(|n| u32::try_from(n).ok()) {
                Some(n) if !value.is_empty() => q.part = Some(n),
                _ => q.wrong = true,
            },
            "_HLS_skip" => match value {
                "YES" | "v2" => q.skip = true,
                _ => q.wrong = true,
            },
            _ => {}
        }
    }
    q.wrong |= q.part.is_some() && q.msn.is_none();
    q
}

/// The parameters that playlists hand on to their children: all but the session and the directives.
pub(crate) fn handed_on(text: &str) -> impl Iterator<Item = &str> {
    text.split('&').filter(|pair| {
        let key = pair.split('=').next().unwrap_or("");
        // Only what is safe inside a playlist's quoted strings and lines.
        let safe = pair.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\'));
        !key.is_empty() && key != "session" && !key.starts_with("_HLS_") && safe
    })
}

/// All parameters, percent-decoded, for those who decide whether a viewer may play.
pub(crate) fn decoded(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|p| !p.is_empty())
        .map(|p| p.split_once('=').unwrap_or((p, "")))
        .map(|(k, v)| (percent(k, true), percent(v, true)))
        .collect()
}

/// Percent-decodes; bytes that are not UTF-8 become U+FFFD, and in queries `+` is a blank.
pub(crate) fn percent(text: &str, plus: bool) -> String {
    let mut rest = text.as_bytes();
    let mut out = Vec::with_capacity(rest.len());
    let hex = |b: u8| char::from(b).to_digit(16);
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let pair = match (byte, tail) {
            (b'%', [h, l, ..]) => hex(*h).zip(hex(*l)),
            _ => None,
        };
        match (pair, byte) {
            (Some((high, low)), _) => {
                out.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            (None, b'+') if plus => out.push(b' '),
            (None, b) => out.push(*b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v0(file: File) -> Target {
        Target::Rendition(RenditionName { kind: b'v', index: 0 }, file)
    }

    #[test]
    fn paths() {
        let place = Place { media_sequence: 12, part: 3 };
        for (path, id, target) in [
            ("/LiveApp/streams/cam1.m3u8", "cam1", Target::Stream),
            ("/LiveApp/streams/v0.m3u8", "v0", Target::Stream),
            ("/LiveApp/streams/sub/cam.1_x.m3u8", "sub/cam.1_x", Target::Stream),
            ("/LiveApp/streams/cam1_adaptive.m3u8", "cam1", Target::Adaptive),
            ("/LiveApp/streams/ll-hls/cam1/cam1__master.m3u8", "cam1", Target::LowLatency),
            ("/LiveApp/streams/ll-hls/s/c/c__master.m3u8", "s/c", Target::LowLatency),
            ("/LiveApp/streams/cam1/v0.m3u8", "cam1", v0(File::Playlist)),
            ("/LiveApp/streams/cam1/t0.m3u8", "cam1/t0", Target::Stream),
            ("/LiveApp/streams/s/cam1/v0.m3u8", "s/cam1", v0(File::Playlist)),
            ("/LiveApp/streams/cam1/v0_init_77.mp4", "cam1", v0(File::Init(77))),
            ("/LiveApp/streams/cam1/v0_12.m4s", "cam1", v0(File::Segment(12))),
            ("/LiveApp/streams/cam_1/v0_12.3.m4s", "cam_1", v0(File::Part(place))),
        ] {
            assert_eq!(parse(path), Some(Route { app: "LiveApp", id, target }), "{path}");
        }
        for path in [
            "",
            "/",
            "/LiveApp/streams/",
            "/LiveApp/streams/.m3u8",
            "/LiveApp/streams/../x.m3u8",
            "/LiveApp/streams//x.m3u8",
            "//streams/x.m3u8",
            "/LiveApp/other/x.m3u8",
            "/LiveApp/streams/v0_12.m4s",
            "/LiveApp/streams/cam1/v0_+12.m4s",
            "/LiveApp/streams/cam1/t0_12.m4s",
            "/LiveApp/streams/cam1/v0_99999999999999999999.m4s",
            "/LiveApp/streams/ll-hls/cam1/cam2__master.m3u8",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    #[test]
    fn queries() {
        let q = query("session=ab&_HLS_msn=7&_HLS_part=0&_HLS_skip=YES&token=x");
        assert_eq!(q, Query { session: Some("ab"), msn: Some(7), part: Some(0), skip: true, wrong: false });
        assert!(query("_HLS_part=3").wrong && query("_HLS_msn=-1").wrong && query("_HLS_msn=").wrong);
        let kept: Vec<_> = handed_on("token=a%22&session=1&_HLS_msn=4&x=\"&&y").collect();
        assert_eq!(kept, ["token=a%22", "y"]);
        assert_eq!(decoded("a+b=%41%4&c"), [("a b".into(), "A%4".into()), ("c".into(), String::new())]);
        assert_eq!(percent("%4", true), "%4");
        assert_eq!(percent("x%2e%2E", false), "x..");
    }

    proptest! {
        #[test]
        fn nothing_panics(path in ".{0,80}", text in "[%+&=a-f0-9_HLSmsnpart]{0,40}") {
            let _ = parse(&path);
            let _ = parse(&format!("/a/streams/{path}"));
            let _ = query(&text);
            let _ = decoded(&text);
        }
    }
}
