//! A media section, understood: formats, header extensions, sources, layers, direction.

use super::SdpError;
use super::text::{Section, unusable};
use crate::agreed::Extensions;

/// The most sources (SSRCs) of a section that are kept.
const MOST_SOURCES: usize = 64;
/// The most layers (rids) of a section that are kept.
const MOST_LAYERS: usize = 16;
/// The longest name of a section; browsers' have one or two characters.
const LONGEST_MID: usize = 255;
/// A client that does not say how large a message it takes takes this much (RFC 8841, 6.1).
const MESSAGE_IF_UNSAID: usize = 65_536;
/// No more is believed, also of a client that takes messages of any size.
const LARGEST_MESSAGE: usize = 256 * 1024;

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Audio,
    Video,
    Data,
    Other,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "sendrecv" => Direction::SendRecv,
            "sendonly" => Direction::SendOnly,
            "recvonly" => Direction::RecvOnly,
            "inactive" => Direction::Inactive,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// Whether the one who wrote it sends.
    pub(super) fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the one who wrote it receives.
    pub(super) fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// Feedback that may be sent for a format (RFC 4585, RFC 5104).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Feedback {
    pub(super) nack: bool,
    pub(super) pli: bool,
    pub(super) fir: bool,
    pub(super) transport_cc: bool,
    pub(super) remb: bool,
}

impl Feedback {
    fn add(&mut self, value: &str) {
        let mut words = value.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("nack"), None) => self.nack = true,
            (Some("nack"), Some("pli")) => self.pli = true,
            (Some("ccm"), Some("fir")) => self.fir = true,
            (Some("transport-cc"), _) => self.transport_cc = true,
            (Some("goog-remb"), _) => self.remb = true,
            _ => {}
        }
    }

    fn join(&mut self, other: Feedback) {
        self.nack |= other.nack;
        self.pli |= other.pli;
        self.fir |= other.fir;
        self.transport_cc |= other.transport_cc;
        self.remb |= other.remb;
    }
}

/// A payload format.
#[derive(Clone, Debug)]
pub(super) struct Format<'a> {
    pub(super) pt: u8,
    /// The encoding name; empty without `a=rtpmap`.
    pub(super) name: &'a str,
    pub(super) clock: u32,
    /// 1 where it is not given.
    pub(super) channels: u32,
    pub(super) fmtp: &'a str,
    pub(super) feedback: Feedback,
}

impl<'a> Format<'a> {
    /// A parameter of `a=fmtp`.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a str> {
        parameter(self.fmtp, name)
    }
}

/// A parameter of an `a=fmtp` line.
pub(super) fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// A media section.
#[derive(Debug)]
pub(super) struct Media<'a> {
    pub(super) kind: Kind,
    /// The kind as it was written.
    pub(super) word: &'a str,
    pub(super) proto: &'a str,
    /// The first format as it was written; it stands in the answer when the section is rejected.
    pub(super) first_format: &'a str,
    /// Whether it is there at all: the port is not 0, or it is bundle-only.
    pub(super) live: bool,
    pub(super) mid: Option<&'a str>,
    pub(super) direction: Direction,
    pub(super) rtcp_mux: bool,
    pub(super) rtcp_rsize: bool,
    pub(super) allow_mixed: bool,
    pub(super) formats: Vec<Format<'a>>,
    pub(super) extensions: Extensions,
    /// Media and its retransmissions.
    pub(super) ssrcs: Vec<(u32, Option<u32>)>,
    /// Layers that are sent, in the order of `a=simulcast`.
    pub(super) rids: Vec<&'a str>,
    /// For data channels: the largest message that is taken; `None` when the section cannot be used.
    pub(super) message: Option<usize>,
}

impl<'a> Media<'a> {
    /// Reads a section. `session` is the direction of those that name none.
    pub(super) fn read(section: &Section<'a>, session: Option<Direction>) -> Result<Self, SdpError> {
        let mid = section.attribute("mid").filter(|mid| !mid.is_empty());
        if mid.is_some_and(|mid| mid.len() > LONGEST_MID || mid.contains(char::is_whitespace)) {
            return Err(unusable(
                "the name of a media section (a=mid) is not a word of at most 255 characters",
            ));
        }
        let kind = match section.kind {
            "audio" if is_rtp(section.proto) => Kind::Audio,
            "video" if is_rtp(section.proto) => Kind::Video,
            "application" => Kind::Data,
            _ => Kind::Other,
        };
        let rtp = matches!(kind, Kind::Audio | Kind::Video);
        let direction = section.attributes.iter().find_map(|(name, _)| Direction::from_name(name));
        Ok(Media {
            kind,
            word: section.kind,
            proto: section.proto,
            first_format: section.formats.first().copied().unwrap_or("0"),
            live: section.port != 0 || section.has("bundle-only"),
            mid,
            direction: direction.or(session).unwrap_or(Direction::SendRecv),
            rtcp_mux: section.has("rtcp-mux"),
            rtcp_rsize: section.has("rtcp-rsize"),
            allow_mixed: section.has("extmap-allow-mixed"),
            formats: if rtp { formats(section) } else { Vec::new() },
            extensions: if rtp { extensions(section) } else { Extensions::default() },
            ssrcs: if rtp { sources(section) } else { Vec::new() },
            rids: if rtp { layers(section) } else { Vec::new() },
            message: if kind == Kind::Data { message(section) } else { None },
        })
    }

    /// The payload type of the retransmissions of a format.
    pub(super) fn rtx(&self, pt: u8) -> Option<u8> {
        let of = |f: &Format| f.parameter("apt").and_then(|apt| apt.parse::<u8>().ok()) == Some(pt);
        self.formats.iter().find(|f| f.name.eq_ignore_ascii_case("rtx") && of(f)).map(|f| f.pt)
    }

    /// The names of what it offers, for error texts.
    pub(super) fn names(&self) -> Vec<&'a str> {
        const HELPERS: [&str; 6] = ["rtx", "red", "ulpfec", "flexfec-03", "telephone-event", "CN"];
        let mut names: Vec<&str> = Vec::new();
        for format in &self.formats {
            let helper = HELPERS.iter().any(|h| h.eq_ignore_ascii_case(format.name));
            if !format.name.is_empty() && !helper && !names.contains(&format.name) && names.len() < 12 {
                names.push(format.name);
            }
        }
        names
    }
}

/// RTP, be it as browsers write it or as RFC 8829 (5.1.2) wants to be read; DTLS is demanded in any case.
fn is_rtp(proto: &str) -> bool {
    ["RTP/SAVPF", "RTP/SAVP", "RTP/AVPF", "RTP/AVP"].iter().any(|profile| proto.ends_with(profile))
}

fn formats<'a>(section: &Section<'a>) -> Vec<Format<'a>> {
    let mut at = [usize::MAX; 128];
    let mut formats: Vec<Format<'a>> = Vec::new();
    for pt in section.formats.iter().filter_map(|f| f.parse::<u8>().ok()).filter(|pt| *pt < 128) {
        if at[usize::from(pt)] == usize::MAX {
            at[usize::from(pt)] = formats.len();
            let feedback = Feedback::default();
            formats.push(Format { pt, name: "", clock: 0, channels: 1, fmtp: "", feedback });
        }
    }
    let mut all = Feedback::default();
    for (name, value) in &section.attributes {
        let Some((pt, value)) = value.split_once(' ') else { continue };
        if (*name, pt) == ("rtcp-fb", "*") {
            all.add(value);
        }
        let index = pt.parse::<usize>().ok().and_then(|pt| at.get(pt)).copied();
        let Some(format) = index.and_then(|i| formats.get_mut(i)) else { continue };
        match *name {
            "rtpmap" => {
                let mut parts = value.trim().split('/');
                format.name = parts.next().unwrap_or_default();
                format.clock = parts.next().and_then(|c| c.parse().ok()).unwrap_or(0);
                format.channels = parts.next().and_then(|c| c.parse().ok()).unwrap_or(1);
            }
            "fmtp" => format.fmtp = value.trim(),
            "rtcp-fb" => format.feedback.add(value),
            _ => {}
        }
    }
    formats.iter_mut().for_each(|f| f.feedback.join(all));
    formats
}

/// The URIs of the header extensions that are used, in the order in which they are written.
pub(super) const URIS: [&str; 7] = [
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "urn:3gpp:video-orientation",
];

/// The ids in the order of [`URIS`].
pub(super) fn slots(extensions: &mut Extensions) -> [&mut Option<u8>; 7] {
    let Extensions { mid, rid, repaired_rid, transport_cc, abs_send_time, audio_level, orientation } =
        extensions;
    [mid, rid, repaired_rid, transport_cc, abs_send_time, audio_level, orientation]
}

fn extensions(section: &Section<'_>) -> Extensions {
    let mut found = Extensions::default();
    for (_, value) in section.attributes.iter().filter(|(name, _)| *name == "extmap") {
        let mut words = value.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else { continue };
        let id = id.split('/').next().and_then(|id| id.parse::<u8>().ok());
        // 15 is reserved in the one-byte form, and above it only the two-byte form can carry it (RFC 8285).
        let Some(id) = id.filter(|id| *id != 0 && *id != 15) else { continue };
        if let Some(slot) = URIS.iter().position(|u| *u == uri)
            && let Some(place) = slots(&mut found).into_iter().nth(slot)
            && place.is_none()
        {
            *place = Some(id);
        }
    }
    found
}

/// SSRCs of media, each with that of its retransmissions (`FID`); those of error correction are left out.
fn sources(section: &Section<'_>) -> Vec<(u32, Option<u32>)> {
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    let mut helpers: Vec<u32> = Vec::new();
    for (_, value) in section.attributes.iter().filter(|(name, _)| *name == "ssrc-group").take(MOST_SOURCES) {
        let mut words = value.split_ascii_whitespace();
        let semantics = words.next();
        let mut ids = words.filter_map(|id| id.parse::<u32>().ok());
        if let (Some("FID" | "FEC" | "FEC-FR"), Some(media), Some(helper)) =
            (semantics, ids.next(), ids.next())
        {
            helpers.push(helper);
            if semantics == Some("FID") {
                pairs.push((media, helper));
            }
        }
    }
    let mut found: Vec<(u32, Option<u32>)> = Vec::new();
    for (_, value) in section.attributes.iter().filter(|(name, _)| *name == "ssrc") {
        let id = value.split_ascii_whitespace().next().and_then(|id| id.parse::<u32>().ok());
        let Some(id) = id.filter(|id| !helpers.contains(id)) else { continue };
        if found.len() < MOST_SOURCES && !found.iter().any(|(known, _)| *known == id) {
            found.push((id, pairs.iter().find(|(media, _)| *media == id).map(|(_, rtx)| *rtx)));
        }
    }
    found
}

/// The layers that are sent: those of `a=simulcast:send` that an `a=rid` line describes, one of alternatives.
fn layers<'a>(section: &Section<'a>) -> Vec<&'a str> {
    let mut words = section.attribute("simulcast").unwrap_or_default().split_ascii_whitespace();
    let list = loop {
        match (words.next(), words.next()) {
            (Some("send"), Some(list)) => break list,
            (Some(_), Some(_)) => {}
            _ => return Vec::new(),
        }
    };
    let sent: Vec<&str> = section
        .attributes
        .iter()
        .filter(|(name, _)| *name == "rid")
        .filter_map(|(_, value)| {
            let mut words = value.split_ascii_whitespace();
            let rid = words.next()?;
            (words.next() == Some("send")).then_some(rid)
        })
        .take(MOST_LAYERS)
        .collect();
    let mut layers: Vec<&str> = Vec::new();
    for layer in list.split(';').take(MOST_LAYERS) {
        let rid = layer.split(',').next().unwrap_or_default().trim_start_matches('~');
        if sent.contains(&rid) && !layers.contains(&rid) && is_rid(rid) {
            layers.push(rid);
        }
    }
    layers
}

/// A rid has letters and digits (RFC 8852; RFC 8851 allows `-` and `_` besides).
fn is_rid(rid: &str) -> bool {
    (1..=32).contains(&rid.len()) && rid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The largest message of a section for data channels (RFC 8841).
fn message(section: &Section<'_>) -> Option<usize> {
    let usable = section.proto.ends_with("DTLS/SCTP")
        && section.formats.first() == Some(&"webrtc-datachannel")
        && section.attribute("sctp-port")?.parse::<u16>().ok()? != 0;
    let size =
        section.attribute("max-message-size").map_or(Some(MESSAGE_IF_UNSAID), |size| size.parse().ok());
    match size {
        _ if !usable => None,
        Some(0) | None => Some(LARGEST_MESSAGE),
        Some(size) => Some(size.min(LARGEST_MESSAGE)),
    }
}
