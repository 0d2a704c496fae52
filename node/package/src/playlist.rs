//! Playlists as text (RFC 8216 and draft-pantos-hls-rfc8216bis): rendering only, no state.

use std::fmt::Write as _;
use std::time::Duration;

use crate::datetime::Iso;
use crate::window::{Place, Segment, Window};

/// How far back a delta update may leave segments out, in target durations.
const SKIP_TARGETS: u32 = 6;
/// Parts are listed as far back as this, in target durations.
const PART_TARGETS: u32 = 3;

/// What a media playlist is made from.
pub(crate) struct Media<'a> {
    pub(crate) window: &'a Window,
    /// The rendition's name, with which its files begin: `v0`.
    pub(crate) name: &'a str,
    /// What stands before it in URIs: where the files lie, seen from the playlist.
    pub(crate) folder: &'a str,
    /// `m4s` or `ts`.
    pub(crate) extension: &'a str,
    pub(crate) target: Duration,
    /// The part target when there are parts.
    pub(crate) parts: Option<Duration>,
    /// The other renditions: name and newest part.
    pub(crate) reports: &'a [(String, Place)],
}

/// Renders a media playlist; with `skip` as a delta update, if there is anything to leave out.
pub(crate) fn media(m: &Media<'_>, skip: bool) -> String {
    let w = m.window;
    let mut out = String::with_capacity(4096);
    let gaps = w.listed().any(|s| s.gap);
    let version = match (m.parts, m.extension) {
        (Some(_), _) => 9,
        _ if gaps => 8,
        (None, "ts") => 3,
        _ => 6,
    };
    let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{}", m.target.as_secs());
    if let Some(part) = m.parts {
        let _ = write!(out, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=");
        seconds(&mut out, (m.target * SKIP_TARGETS).as_micros() as u64);
        out.push_str(",PART-HOLD-BACK=");
        seconds(&mut out, (part * 3).as_micros() as u64);
        out.push_str(",HOLD-BACK=");
        seconds(&mut out, (m.target * 3).as_micros() as u64);
        out.push_str("\n#EXT-X-PART-INF:PART-TARGET=");
        seconds(&mut out, part.as_micros() as u64);
        out.push('\n');
    }
    let first = w.listed().next().or(w.open_segment());
    let (msn, disc) = first.map_or((0, 0), |s| (s.media_sequence, s.discontinuity_sequence));
    let _ = writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{msn}\n#EXT-X-DISCONTINUITY-SEQUENCE:{disc}");
    if w.is_event() {
        out.push_str("#EXT-X-PLAYLIST-TYPE:EVENT\n");
    }
    if w.listed().chain(w.open_segment()).all(|s| s.independent) {
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    let skipped = if skip && m.parts.is_some() { skippable(w, m.target * SKIP_TARGETS) } else { 0 };
    if skipped > 0 {
        let _ = writeln!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
    }

    let parts_from = match m.parts {
        Some(_) => within(w, m.target * PART_TARGETS),
        None => usize::MAX,
    };
    let mut before: Option<&Segment> = skipped.checked_sub(1).and_then(|i| w.listed().nth(i));
    for (i, s) in w.listed().enumerate().skip(skipped) {
        heading(&mut out, m, before, s);
        if i >= parts_from {
            parts(&mut out, m, s);
        }
        if s.gap {
            out.push_str("#EXT-X-GAP\n");
        }
        out.push_str("#EXTINF:");
        seconds(&mut out, s.duration);
        let _ = writeln!(out, ",\n{}{}_{}.{}", m.folder, m.name, s.media_sequence, m.extension);
        before = Some(s);
    }
    if m.parts.is_some() {
        if let Some(open) = w.open_segment() {
            heading(&mut out, m, before, open);
            parts(&mut out, m, open);
        }
        if let Some(next) = w.next().filter(|_| !w.is_ended()) {
            let _ = writeln!(
                out,
                "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{}{}_{}.{}.{}\"",
                m.folder, m.name, next.media_sequence, next.part, m.extension
            );
        }
        for (name, place) in m.reports {
            let _ = writeln!(
                out,
                "#EXT-X-RENDITION-REPORT:URI=\"{name}.m3u8\",LAST-MSN={},LAST-PART={}",
                place.media_sequence, place.part
            );
        }
    }
    if w.is_ended() {
        out.push_str("#EXT-X-ENDLIST\n");
    }
    out
}

/// The tags that stand before a segment's first part.
fn heading(out: &mut String, m: &Media<'_>, before: Option<&Segment>, s: &Segment) {
    if let Some(b) = before {
        // Each break has a tag of its own, so that clients count as we do.
        let breaks = s.discontinuity_sequence.saturating_sub(b.discontinuity_sequence).min(16);
        for _ in 0..breaks {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
    }
    if let Some(init) = &s.init
        && before.and_then(|b| b.init.as_ref()).is_none_or(|b| b.name != init.name)
    {
        let _ = writeln!(out, "#EXT-X-MAP:URI=\"{}{}_init_{}.mp4\"", m.folder, m.name, init.name);
    }
    let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", Iso(s.wall_clock));
}

fn parts(out: &mut String, m: &Media<'_>, s: &Segment) {
    for (i, p) in s.parts.iter().enumerate() {
        out.push_str("#EXT-X-PART:DURATION=");
        seconds(out, p.duration);
        let _ = write!(out, ",URI=\"{}{}_{}.{i}.{}\"", m.folder, m.name, s.media_sequence, m.extension);
        out.push_str(if p.independent { ",INDEPENDENT=YES\n" } else { "\n" });
    }
}

/// The index of the first listed segment that reaches into the last stretch of this length.
fn within(w: &Window, length: Duration) -> usize {
    let mut left = length.as_micros() as u64;
    left = left.saturating_sub(w.open_segment().map_or(0, |o| o.duration));
    let mut index = w.listed().len();
    for s in w.listed().rev() {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(s.duration);
        index -= 1;
    }
    index
}

/// How many segments lie before the skip boundary.
fn skippable(w: &Window, boundary: Duration) -> usize {
    within(w, boundary)
}

/// Microseconds as decimal seconds, as many decimals as it takes.
pub(crate) fn seconds(out: &mut String, micros: u64) {
    let _ = write!(out, "{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let cut = out.trim_end_matches('0').len();
    out.truncate(cut);
    if out.ends_with('.') {
        out.push('0');
    }
}

/// A video or audio rendition as the multivariant playlist shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendition {
    /// `v0`, `a0`.
    pub(crate) name: String,
    pub(crate) codec: String,
    pub(crate) video: Option<(u32, u32, Option<f64>)>,
    pub(crate) channels: u8,
    /// Highest and mean bits per second.
    pub(crate) rates: (u64, u64),
}

/// Renders the multivariant playlist. `folder` leads from it to the renditions; `query` is appended to each URI.
pub(crate) fn multivariant(renditions: &[Rendition], folder: &str, query: &str) -> String {
    let mut out = String::with_capacity(512);
    out.push_str("#EXTM3U\n#EXT-X-VERSION:6\n");
    let (videos, audios): (Vec<_>, Vec<_>) = renditions.iter().partition(|r| r.video.is_some());
    let apart = !videos.is_empty();
    if apart {
        for (i, a) in audios.iter().enumerate() {
            let _ = writeln!(
                out,
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"{}\",DEFAULT={},AUTOSELECT=YES,\
                 CHANNELS=\"{}\",URI=\"{folder}{}.m3u8{query}\"",
                a.name,
                if i == 0 { "YES" } else { "NO" },
                a.channels.max(1),
                a.name,
            );
        }
    }
    let loudest = audios.iter().map(|a| a.rates).max().unwrap_or_default();
    for r in if apart { &videos } else { &audios } {
        let more = if apart { loudest } else { (0, 0) };
        // A stream too young to be measured is announced with something.
        let peak = (r.rates.0 + more.0).max(1000);
        let mean = (r.rates.1 + more.1).clamp(1000, peak);
        let _ =
            write!(out, "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={mean},CODECS=\"{}", r.codec);
        if apart {
            let mut seen: Vec<&str> = Vec::new();
            for a in &audios {
                if !seen.contains(&a.codec.as_str()) {
                    let _ = write!(out, ",{}", a.codec);
                    seen.push(&a.codec);
                }
            }
        }
        out.push('"');
        if let Some((width, height, rate)) = r.video {
            if width > 0 && height > 0 {
                let _ = write!(out, ",RESOLUTION={width}x{height}");
            }
            if let Some(rate) = rate {
                let _ = write!(out, ",FRAME-RATE={rate:.3}");
            }
            if !audios.is_empty() {
                out.push_str(",AUDIO=\"audio\"");
            }
        }
        let _ = writeln!(out, "\n{folder}{}.m3u8{query}", r.name);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact_and_short() {
        for (micros, text) in [(0, "0.0"), (2_000_000, "2.0"), (200_001, "0.200001"), (21_333, "0.021333")] {
            let mut out = String::new();
            seconds(&mut out, micros);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn multivariant_playlists() {
        let v = Rendition {
            name: "v0".into(),
            codec: "avc1.64001f".into(),
            video: Some((1280, 720, Some(29.97))),
            channels: 0,
            rates: (2_500_000, 2_000_000),
        };
        let a = Rendition {
            name: "a0".into(),
            codec: "mp4a.40.2".into(),
            video: None,
            channels: 2,
            rates: (130_000, 128_000),
        };
        let both = multivariant(&[v.clone(), a.clone()], "cam1/", "?session=1");
        assert_eq!(
            both,
            "#EXTM3U\n#EXT-X-VERSION:6\n\
             #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"a0\",DEFAULT=YES,AUTOSELECT=YES,\
             CHANNELS=\"2\",URI=\"cam1/a0.m3u8?session=1\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=2630000,AVERAGE-BANDWIDTH=2128000,\
             CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO=\"audio\"\n\
             cam1/v0.m3u8?session=1\n"
        );
        let audio = multivariant(&[a], "", "");
        assert!(audio.contains("CODECS=\"mp4a.40.2\"\na0.m3u8\n") && !audio.contains("EXT-X-MEDIA"));
        let video = multivariant(&[v], "", "");
        assert!(!video.contains("AUDIO") && video.ends_with("\nv0.m3u8\n"));
    }
}
