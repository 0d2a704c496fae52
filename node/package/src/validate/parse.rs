//! Reading of media playlists, strict where a client could be misled.

use std::collections::HashMap;

/// Why a text is not a media playlist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Invalid {
    /// Counted from 1; 0 when the whole text is meant.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// EXT-X-SERVER-CONTROL, in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerControl {
    /// CAN-BLOCK-RELOAD.
    pub can_block_reload: bool,
    /// CAN-SKIP-UNTIL.
    pub can_skip_until: Option<f64>,
    /// HOLD-BACK.
    pub hold_back: Option<f64>,
    /// PART-HOLD-BACK.
    pub part_hold_back: Option<f64>,
}

/// EXT-X-PART.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedPart {
    /// Where it is.
    pub uri: String,
    /// Seconds.
    pub duration: f64,
    /// Whether decoding can start in it.
    pub independent: bool,
}

/// A segment, or at the end of the list the parts of the one being made.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its media sequence number.
    pub media_sequence: u64,
    /// Where it is; `None` for a segment being made.
    pub uri: Option<String>,
    /// Seconds; 0 for a segment being made.
    pub duration: f64,
    /// Its parts, when they are listed.
    pub parts: Vec<ListedPart>,
    /// Discontinuities right before it.
    pub discontinuities: u32,
    /// EXT-X-MAP in force, as far as this text tells.
    pub map: Option<String>,
    /// EXT-X-PROGRAM-DATE-TIME, in seconds since 1970.
    pub date: Option<f64>,
    /// EXT-X-GAP.
    pub gap: bool,
}

/// EXT-X-RENDITION-REPORT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The other playlist.
    pub uri: String,
    /// Its last media sequence number.
    pub last_msn: u64,
    /// The last part of that.
    pub last_part: Option<u64>,
}

/// A media playlist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Playlist {
    /// EXT-X-VERSION.
    pub version: u64,
    /// EXT-X-TARGETDURATION, in seconds.
    pub target_duration: u64,
    /// PART-TARGET, in seconds.
    pub part_target: Option<f64>,
    /// EXT-X-MEDIA-SEQUENCE.
    pub media_sequence: u64,
    /// EXT-X-DISCONTINUITY-SEQUENCE.
    pub discontinuity_sequence: u64,
    /// EXT-X-SERVER-CONTROL.
    pub control: ServerControl,
    /// EXT-X-INDEPENDENT-SEGMENTS.
    pub independent_segments: bool,
    /// SKIPPED-SEGMENTS.
    pub skipped: u64,
    /// What is listed, the segment being made last if it has parts.
    pub segments: Vec<Listed>,
    /// The URI of the part hinted at.
    pub hint: Option<String>,
    /// EXT-X-RENDITION-REPORT tags.
    pub reports: Vec<Report>,
    /// EXT-X-ENDLIST.
    pub ended: bool,
}

impl Playlist {
    /// The newest place: segment number, and index of the part when it has parts.
    pub fn newest(&self) -> Option<(u64, Option<u32>)> {
        let last = self.segments.last()?;
        Some((last.media_sequence, (last.parts.len() as u32).checked_sub(1)))
    }

    /// What a client asks for next (`_HLS_msn`, `_HLS_part`).
    pub fn next(&self) -> Option<(u64, u32)> {
        let last = self.segments.last()?;
        match last.uri {
            Some(_) => Some((last.media_sequence + 1, 0)),
            None => Some((last.media_sequence, last.parts.len() as u32)),
        }
    }
}

/// Reads a media playlist.
///
/// # Errors
/// The first line that does not make sense.
pub fn parse(text: &str) -> Result<Playlist, Invalid> {
    let mut p = Playlist::default();
    let mut now = Pending::default();
    let mut map: Option<String> = None;
    let mut number: Option<u64> = None;
    if !text.starts_with("#EXTM3U\n") {
        return Err(Invalid { line: 1, what: "#EXTM3U is missing".into() });
    }
    for (i, line) in text.lines().enumerate() {
        let wrong = |what: String| Invalid { line: i + 1, what };
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        let whole = || value.parse::<u64>().map_err(|_| wrong(format!("{value:?} is not a number")));
        let attributes =
            || attributes(value).ok_or_else(|| wrong(format!("{value:?} is not an attribute list")));
        match tag {
            "" | "#EXTM3U" => {}
            "#EXT-X-VERSION" => p.version = whole()?,
            "#EXT-X-TARGETDURATION" => p.target_duration = whole()?,
            "#EXT-X-MEDIA-SEQUENCE" => p.media_sequence = whole()?,
            "#EXT-X-DISCONTINUITY-SEQUENCE" => p.discontinuity_sequence = whole()?,
            "#EXT-X-INDEPENDENT-SEGMENTS" => p.independent_segments = true,
            "#EXT-X-PLAYLIST-TYPE" => {}
            "#EXT-X-ENDLIST" => p.ended = true,
            "#EXT-X-GAP" => now.gap = true,
            "#EXT-X-DISCONTINUITY" => now.discontinuities += 1,
            "#EXT-X-PROGRAM-DATE-TIME" => {
                now.date = Some(date(value).ok_or_else(|| wrong(format!("{value:?} is not a date")))?);
            }
            "#EXT-X-SERVER-CONTROL" => {
                let a = attributes()?;
                let seconds = |k: &str| a.get(k).map(|v| v.parse::<f64>()).transpose();
                let read = || -> Result<ServerControl, std::num::ParseFloatError> {
                    Ok(ServerControl {
                        can_block_reload: a.get("CAN-BLOCK-RELOAD").is_some_and(|v| v == "YES"),
                        can_skip_until: seconds("CAN-SKIP-UNTIL")?,
                        hold_back: seconds("HOLD-BACK")?,
                        part_hold_back: seconds("PART-HOLD-BACK")?,
                    })
                };
                p.control = read().map_err(|e| wrong(e.to_string()))?;
            }
            "#EXT-X-PART-INF" => {
                let target = attributes()?.get("PART-TARGET").and_then(|v| v.parse().ok());
                p.part_target = Some(target.ok_or_else(|| wrong("PART-TARGET is missing".into()))?);
            }
            "#EXT-X-SKIP" => {
                let n = attributes()?.get("SKIPPED-SEGMENTS").and_then(|v| v.parse().ok());
                p.skipped = n.ok_or_else(|| wrong("SKIPPED-SEGMENTS is missing".into()))?;
                if number.is_some() {
                    return Err(wrong("EXT-X-SKIP stands behind a segment".into()));
                }
            }
            "#EXT-X-MAP" => {
                let uri = attributes()?.remove("URI").ok_or_else(|| wrong("URI is missing".into()))?;
                map = Some(uri);
            }
            "#EXT-X-PART" => {
                let mut a = attributes()?;
                let duration = a.get("DURATION").and_then(|v| v.parse().ok());
                now.parts.push(ListedPart {
                    uri: a.remove("URI").ok_or_else(|| wrong("URI is missing".into()))?,
                    duration: duration.ok_or_else(|| wrong("DURATION is missing".into()))?,
                    independent: a.get("INDEPENDENT").is_some_and(|v| v == "YES"),
                });
            }
            "#EXT-X-PRELOAD-HINT" => {
                let mut a = attributes()?;
                if a.get("TYPE").is_some_and(|t| t == "PART") {
                    p.hint = Some(a.remove("URI").ok_or_else(|| wrong("URI is missing".into()))?);
                }
            }
            "#EXT-X-RENDITION-REPORT" => {
                let mut a = attributes()?;
                let msn = a.get("LAST-MSN").and_then(|v| v.parse().ok());
                p.reports.push(Report {
                    last_msn: msn.ok_or_else(|| wrong("LAST-MSN is missing".into()))?,
                    last_part: a.get("LAST-PART").and_then(|v| v.parse().ok()),
                    uri: a.remove("URI").ok_or_else(|| wrong("URI is missing".into()))?,
                });
            }
            "#EXTINF" => {
                let seconds = value.split(',').next().and_then(|v| v.parse().ok());
                now.duration = Some(seconds.ok_or_else(|| wrong(format!("{value:?} is not a duration")))?);
            }
            _ if line.starts_with("#EXT") => return Err(wrong(format!("unknown tag {tag}"))),
            _ if line.starts_with('#') => {}
            uri => {
                let Some(duration) = now.duration else {
                    return Err(wrong(format!("{uri} has no EXTINF")));
                };
                let media_sequence = number.map_or(p.media_sequence + p.skipped, |n| n + 1);
                number = Some(media_sequence);
                let done = std::mem::take(&mut now);
                p.segments.push(done.into_listed(
                    media_sequence,
                    Some(uri.to_owned()),
                    duration,
                    map.clone(),
                ));
            }
        }
    }
    if now.duration.is_some() {
        return Err(Invalid { line: 0, what: "the last EXTINF has no URI".into() });
    }
    if !now.parts.is_empty() {
        let media_sequence = number.map_or(p.media_sequence + p.skipped, |n| n + 1);
        p.segments.push(now.into_listed(media_sequence, None, 0.0, map));
    }
    if p.target_duration == 0 {
        return Err(Invalid { line: 0, what: "EXT-X-TARGETDURATION is missing".into() });
    }
    Ok(p)
}

#[derive(Default)]
struct Pending {
    parts: Vec<ListedPart>,
    duration: Option<f64>,
    discontinuities: u32,
    date: Option<f64>,
    gap: bool,
}

impl Pending {
    fn into_listed(
        self,
        media_sequence: u64,
        uri: Option<String>,
        duration: f64,
        map: Option<String>,
    ) -> Listed {
        let Pending { parts, duration: _, discontinuities, date, gap } = self;
        Listed { media_sequence, uri, duration, parts, discontinuities, map, date, gap }
    }
}

/// `NAME=value,NAME="quoted, value"`.
fn attributes(text: &str) -> Option<HashMap<String, String>> {
    let mut out = HashMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        let fresh = out.insert(name.to_owned(), value.to_owned()).is_none();
        if !fresh
            || name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
        {
            return None;
        }
        rest = match after.strip_prefix(',') {
            Some(more) if !more.is_empty() => more,
            None if after.is_empty() => "",
            _ => return None,
        };
    }
    Some(out)
}

/// Seconds since 1970 of `2026-11-21T11:42:39.250Z`.
fn date(text: &str) -> Option<f64> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut d = day.splitn(3, '-').map(|n| n.parse::<i64>().ok());
    let (y, m, d) = (d.next()??, d.next()??, d.next()??);
    let mut t = time.splitn(3, ':');
    let (h, min) = (t.next()?.parse::<f64>().ok()?, t.next()?.parse::<f64>().ok()?);
    let s = t.next()?.parse::<f64>().ok()?;
    if !(1..=12).contains(&m) || !(1..=31).contains(&d) || h >= 24.0 || min >= 60.0 || s >= 61.0 {
        return None;
    }
    let leap = |y: i64| i64::from(y % 4 == 0 && (y % 100 != 0 || y % 400 == 0));
    let years: i64 = (1970..y).map(|y| 365 + leap(y)).sum();
    let lengths = [31, 28 + leap(y), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let days = years + lengths[..m as usize - 1].iter().sum::<i64>() + d - 1;
    Some(days as f64 * 86_400.0 + h * 3600.0 + min * 60.0 + s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_specification_shows() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-VERSION:9\n\
            #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0,CAN-SKIP-UNTIL=24.0\n\
            #EXT-X-PART-INF:PART-TARGET=0.33334\n#EXT-X-MEDIA-SEQUENCE:266\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n\
            #EXT-X-PROGRAM-DATE-TIME:1970-03-01T00:00:01.5Z\n\
            #EXTINF:4.00008,\nf269.mp4\n#EXT-X-PART:DURATION=0.33334,URI=\"f270.0.mp4\",INDEPENDENT=YES\n\
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"f270.1.mp4\"\n\
            #EXT-X-RENDITION-REPORT:URI=\"../1M/x.m3u8\",LAST-MSN=270,LAST-PART=2\n";
        let p = parse(text).expect("a playlist");
        assert_eq!((p.skipped, p.segments.len(), p.next()), (3, 2, Some((270, 1))));
        assert_eq!(p.segments[0].media_sequence, 269);
        assert_eq!(p.segments[0].date, Some(59.0 * 86_400.0 + 1.5));
        assert_eq!(p.reports[0].last_part, Some(2));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(#EXTM3U\n)?(#EXT-X-(PART|SKIP|MAP|PROGRAM-DATE-TIME|SERVER-CONTROL):[A-Z=\",0-9.T:Z-]{0,40}\n|#EXTINF:[0-9.]{0,5},\n|x\n){0,8}") {
            let _ = parse(&text);
        }
    }
}
