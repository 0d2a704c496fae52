//! What a player needs of an HLS playlist (draft-pantos-hls-rfc8216bis). Everything else is passed over.

/// A playlist, master or media, taken apart; it borrows the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Playlist<'a> {
    /// Master: the first variant, and the audio rendition that goes with it.
    pub(crate) variant: Option<&'a str>,
    pub(crate) audio: Option<&'a str>,
    /// EXT-X-TARGETDURATION in seconds.
    pub(crate) target: f64,
    /// Whether there are parts and reloads can block.
    pub(crate) low_latency: bool,
    /// Whether delta updates can be asked for.
    pub(crate) can_skip: bool,
    /// Media sequence number of the first of `segments`; those that a delta update skipped come before.
    pub(crate) first: u64,
    /// EXT-X-MAP of the newest segment.
    pub(crate) map: Option<&'a str>,
    /// The last one may be under way.
    pub(crate) segments: Vec<Segment<'a>>,
    /// The part of EXT-X-PRELOAD-HINT.
    pub(crate) hint: Option<&'a str>,
    pub(crate) ended: bool,
}

/// A segment of a media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Segment<'a> {
    /// Nothing while it is under way.
    pub(crate) uri: Option<&'a str>,
    pub(crate) parts: Vec<&'a str>,
    /// Seconds, of EXTINF.
    pub(crate) duration: f64,
    /// Whether it follows an EXT-X-DISCONTINUITY.
    pub(crate) discontinuity: bool,
    /// Whether it is missing (EXT-X-GAP).
    pub(crate) gap: bool,
}

/// Where a part lies in a playlist. Ordered as they are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    pub(crate) part: usize,
}

impl<'a> Playlist<'a> {
    /// Takes the text apart; nothing when it is not a playlist.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim);
        if lines.next() != Some("#EXTM3U") {
            return None;
        }
        let mut p = Playlist::default();
        let mut segment = Segment::default();
        let (mut blocks, mut parts, mut variant_follows) = (false, false, false);
        for line in lines.filter(|l| !l.is_empty()) {
            let (tag, rest) = line.split_once(':').unwrap_or((line, ""));
            match tag {
                "#EXT-X-STREAM-INF" => variant_follows = true,
                "#EXT-X-MEDIA" if attribute(rest, "TYPE") == Some("AUDIO") => {
                    p.audio = p.audio.or(attribute(rest, "URI"));
                }
                "#EXT-X-TARGETDURATION" => p.target = rest.parse().unwrap_or(0.0),
                "#EXT-X-SERVER-CONTROL" => {
                    blocks = attribute(rest, "CAN-BLOCK-RELOAD") == Some("YES");
                    p.can_skip = attribute(rest, "CAN-SKIP-UNTIL").is_some();
                }
                "#EXT-X-PART-INF" => parts = true,
                "#EXT-X-MEDIA-SEQUENCE" => p.first = rest.parse().unwrap_or(0),
                "#EXT-X-SKIP" => {
                    let skipped = attribute(rest, "SKIPPED-SEGMENTS").and_then(|n| n.parse().ok());
                    p.first = p.first.saturating_add(skipped.unwrap_or(0));
                }
                "#EXT-X-MAP" => p.map = attribute(rest, "URI"),
                "#EXT-X-PART" => segment.parts.extend(attribute(rest, "URI")),
                "#EXT-X-PRELOAD-HINT" if attribute(rest, "TYPE") == Some("PART") => {
                    p.hint = attribute(rest, "URI");
                }
                "#EXTINF" => {
                    segment.duration = rest.split(',').next().and_then(|d| d.parse().ok()).unwrap_or(0.0)
                }
                "#EXT-X-DISCONTINUITY" => segment.discontinuity = true,
                "#EXT-X-GAP" => segment.gap = true,
                "#EXT-X-ENDLIST" => p.ended = true,
                _ if line.starts_with('#') => {}
                _ if variant_follows => {
                    variant_follows = false;
                    p.variant = p.variant.or(Some(line));
                }
                _ => p.segments.push(Segment { uri: Some(line), ..std::mem::take(&mut segment) }),
            }
        }
        if !segment.parts.is_empty() {
            p.segments.push(segment);
        }
        p.low_latency = blocks && parts;
        Some(p)
    }

    /// The place behind the newest part: what to wait for.
    pub(crate) fn next(&self) -> Place {
        let newest = self.segments.last();
        let sequence = self.first + self.segments.len() as u64;
        match newest {
            Some(Segment { uri: None, parts, .. }) => Place { sequence: sequence - 1, part: parts.len() },
            _ => Place { sequence, part: 0 },
        }
    }

    /// Listed parts from `place` on, with their places.
    pub(crate) fn parts_from(&self, place: Place) -> impl Iterator<Item = (Place, &'a str)> {
        let segments = (self.first..).zip(&self.segments).filter(move |(n, _)| *n >= place.sequence);
        let all = segments.flat_map(|(sequence, s)| {
            (0..).zip(&s.parts).map(move |(part, u)| (Place { sequence, part }, *u))
        });
        all.filter(move |(at, _)| *at >= place)
    }

    /// Whole segments from `sequence` on, with their numbers.
    pub(crate) fn segments_from(&self, sequence: u64) -> impl Iterator<Item = (u64, &'a str)> {
        let all = (self.first..).zip(&self.segments).filter(move |(n, _)| *n >= sequence);
        all.filter_map(|(n, s)| Some((n, s.uri?)))
    }
}

/// The value of an attribute in a list, without its quotes.
fn attribute<'a>(mut list: &'a str, name: &str) -> Option<&'a str> {
    while let Some((key, rest)) = list.split_once('=') {
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"')?;
                (value, after.strip_prefix(',').unwrap_or(after))
            }
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        if key.trim() == name {
            return Some(value);
        }
        list = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MEDIA: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n\
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0\n#EXT-X-PART-INF:PART-TARGET=0.2\n\
        #EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXTINF:2,\nv_13.m4s\n#EXT-X-MAP:URI=\"i.mp4\"\n\
        #EXT-X-PART:DURATION=0.2,URI=\"v_14.0.m4s\",INDEPENDENT=YES\n#EXT-X-PART:DURATION=0.2,URI=\"v_14.1.m4s\"\n\
        #EXTINF:0.4,\nv_14.m4s\n#EXT-X-PART:DURATION=0.2,URI=\"v_15.0.m4s\"\n\
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"v_15.1.m4s\"\n";

    #[test]
    fn a_delta_update() {
        let p = Playlist::parse(MEDIA).unwrap();
        assert!(p.low_latency && p.can_skip && !p.ended);
        assert_eq!((p.first, p.target, p.map, p.hint), (13, 2.0, Some("i.mp4"), Some("v_15.1.m4s")));
        assert_eq!(p.next(), Place { sequence: 15, part: 1 });
        let parts: Vec<_> = p.parts_from(Place { sequence: 14, part: 1 }).map(|(_, uri)| uri).collect();
        assert_eq!(parts, ["v_14.1.m4s", "v_15.0.m4s"]);
        assert_eq!(p.segments_from(14).collect::<Vec<_>>(), [(14, "v_14.m4s")]);
    }

    #[test]
    fn segments_with_all_that_is_said_of_them() {
        let text =
            "#EXTM3U\n#EXTINF:1.5,\na\n#EXT-X-DISCONTINUITY\n#EXT-X-GAP\n#EXTINF:2,title\nb\n#EXTINF:2\nc";
        let p = Playlist::parse(text).unwrap();
        let said: Vec<_> = p.segments.iter().map(|s| (s.duration, s.discontinuity, s.gap)).collect();
        assert_eq!(said, [(1.5, false, false), (2.0, true, true), (2.0, false, false)]);
    }

    #[test]
    fn a_master() {
        let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,NAME=\"a,b\",URI=\"a.m3u8?s=1\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"x,y\"\nv.m3u8?s=1\n#EXT-X-STREAM-INF:BANDWIDTH=2\nw.m3u8\n";
        let p = Playlist::parse(text).unwrap();
        assert_eq!((p.variant, p.audio), (Some("v.m3u8?s=1"), Some("a.m3u8?s=1")));
        assert_eq!(Playlist::parse("<html>"), None);
    }

    #[test]
    fn behind_a_whole_segment_comes_the_next() {
        let p = Playlist::parse("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:4\n#EXTINF:2,\na\n#EXT-X-ENDLIST").unwrap();
        assert_eq!((p.next(), p.ended), (Place { sequence: 5, part: 0 }, true));
        assert_eq!(Playlist::parse("#EXTM3U").unwrap().next(), Place { sequence: 0, part: 0 });
    }

    proptest! {
        #[test]
        fn anything_is_survived(text in "(#EXTM3U\n)?(#EXT-X-(PART|MAP|MEDIA|SKIP|MEDIA-SEQUENCE):[A-Z=\",0-9]{0,30}\n|\\PC{0,20}\n){0,9}") {
            if let Some(p) = Playlist::parse(&text) {
                let _ = (p.parts_from(p.next()).count(), p.segments_from(0).count());
            }
        }
    }
}
