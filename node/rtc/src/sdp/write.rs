//! Writes descriptions.

use std::net::{IpAddr, SocketAddr};

use sluice_media::{AudioCodec, VideoCodec};

use super::Local;
use super::media::{Direction, Feedback, URIS, parameter, slots};
use super::transport::write_fingerprint;
use crate::agreed::{Codec, Extensions, Payload};
use crate::random::Row;

/// The largest message that we take over a data channel, in bytes.
const LARGEST_MESSAGE: usize = sluice_media::aside::LARGEST_MESSAGE;

/// A section of RTP.
pub(super) struct Rtp<'a> {
    pub(super) mid: Option<&'a str>,
    pub(super) proto: &'a str,
    pub(super) direction: Direction,
    /// The formats, each with its feedback and with its `a=fmtp` as we write it.
    pub(super) formats: Vec<(Payload, Feedback)>,
    pub(super) extensions: Extensions,
    pub(super) allow_mixed: bool,
    pub(super) rtcp_rsize: bool,
    /// Layers that are taken.
    pub(super) rids: Vec<&'a str>,
    /// What is sent.
    pub(super) source: Option<Source<'a>>,
}

/// What is sent in a section.
pub(super) struct Source<'a> {
    /// The stream's name.
    pub(super) stream: &'a str,
    /// The track's name: see [`track_id`].
    pub(super) track: String,
    pub(super) ssrc: u32,
    pub(super) rtx_ssrc: Option<u32>,
}

/// A description as it grows.
pub(super) struct Writer<'a> {
    out: String,
    local: &'a Local,
    setup: &'static str,
    candidates: bool,
}

impl<'a> Writer<'a> {
    /// Begins with the session. `mids` are bundled; `None` where the other side does without.
    pub(super) fn new(
        local: &'a Local,
        setup: &'static str,
        mids: Option<&[&str]>,
        allow_mixed: bool,
    ) -> Self {
        let (id, version) = (local.seed >> 1, local.version);
        let mut w = Writer { out: String::with_capacity(4096), local, setup, candidates: false };
        w.line("v=0");
        w.line(&format!("o=- {id} {version} IN IP4 127.0.0.1"));
        w.line("s=-");
        w.line("t=0 0");
        if let Some(mids) = mids {
            w.line(&format!("a=group:BUNDLE {}", mids.join(" ")));
        }
        if allow_mixed {
            w.line("a=extmap-allow-mixed");
        }
        if !local.calls {
            w.line("a=ice-lite");
        }
        w.line("a=ice-options:trickle ice2");
        w.line("a=msid-semantic: WMS *");
        w
    }

    /// The description.
    pub(super) fn finish(self) -> String {
        self.out
    }

    /// A section that is not wanted.
    pub(super) fn rejected(&mut self, kind: &str, proto: &str, format: &str, mid: Option<&str>) {
        self.line(&format!("m={kind} 0 {proto} {format}"));
        self.line("c=IN IP4 0.0.0.0");
        self.mid(mid);
        self.line("a=inactive");
    }

    /// A section of audio or video.
    pub(super) fn rtp(&mut self, section: &Rtp<'_>) {
        let kind = if section.formats.iter().any(|(p, _)| matches!(p.codec, Codec::Audio(_))) {
            "audio"
        } else {
            "video"
        };
        let pts: Vec<String> = section
            .formats
            .iter()
            .flat_map(|(p, _)| [Some(p.pt), p.rtx])
            .flatten()
            .map(|pt| pt.to_string())
            .collect();
        self.line(&format!("m={kind} 9 {} {}", section.proto, pts.join(" ")));
        self.line("c=IN IP4 0.0.0.0");
        self.mid(section.mid);
        self.transport();
        self.line(&format!("a={}", section.direction.name()));
        self.line("a=rtcp-mux");
        if section.rtcp_rsize {
            self.line("a=rtcp-rsize");
        }
        if section.allow_mixed {
            self.line("a=extmap-allow-mixed");
        }
        let mut extensions = section.extensions;
        for (id, uri) in slots(&mut extensions).into_iter().zip(URIS) {
            if let Some(id) = id {
                self.line(&format!("a=extmap:{id} {uri}"));
            }
        }
        for (payload, feedback) in &section.formats {
            self.format(payload, *feedback);
        }
        for rid in &section.rids {
            self.line(&format!("a=rid:{rid} recv"));
        }
        if !section.rids.is_empty() {
            self.line(&format!("a=simulcast:recv {}", section.rids.join(";")));
        }
        if let Some(source) = &section.source {
            self.source(source);
        }
        self.candidates();
    }

    /// A section for data channels.
    pub(super) fn data(&mut self, proto: &str, mid: Option<&str>) {
        self.line(&format!("m=application 9 {proto} webrtc-datachannel"));
        self.line("c=IN IP4 0.0.0.0");
        self.mid(mid);
        self.transport();
        self.line("a=sctp-port:5000");
        self.line(&format!("a=max-message-size:{LARGEST_MESSAGE}"));
        self.candidates();
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push_str("\r\n");
    }

    fn mid(&mut self, mid: Option<&str>) {
        if let Some(mid) = mid {
            self.line(&format!("a=mid:{mid}"));
        }
    }

    fn transport(&mut self) {
        let local = self.local;
        self.line(&format!("a=ice-ufrag:{}", local.ice.ufrag));
        self.line(&format!("a=ice-pwd:{}", local.ice.pwd));
        self.line(&format!("a=fingerprint:{}", write_fingerprint(&local.fingerprint)));
        self.line(&format!("a=setup:{}", self.setup));
    }

    fn format(&mut self, payload: &Payload, feedback: Feedback) {
        let pt = payload.pt;
        let name = match payload.codec {
            Codec::Video(codec) => codec.name(),
            Codec::Audio(AudioCodec::Opus) => "opus",
            Codec::Audio(codec) => codec.name(),
        };
        let channels = if matches!(payload.codec, Codec::Audio(_)) { "/2" } else { "" };
        self.line(&format!("a=rtpmap:{pt} {name}/{}{channels}", payload.clock));
        for (wanted, feedback) in [
            (feedback.remb, "goog-remb"),
            (feedback.transport_cc, "transport-cc"),
            (feedback.fir, "ccm fir"),
            (feedback.nack, "nack"),
            (feedback.pli, "nack pli"),
        ] {
            if wanted {
                self.line(&format!("a=rtcp-fb:{pt} {feedback}"));
            }
        }
        if !payload.fmtp.is_empty() {
            self.line(&format!("a=fmtp:{pt} {}", payload.fmtp));
        }
        if let Some(rtx) = payload.rtx {
            self.line(&format!("a=rtpmap:{rtx} rtx/{}", payload.clock));
            self.line(&format!("a=fmtp:{rtx} apt={pt}"));
        }
    }

    fn source(&mut self, source: &Source<'_>) {
        let Source { track, ssrc, rtx_ssrc, .. } = source;
        let stream = token(source.stream);
        self.line(&format!("a=msid:{stream} {track}"));
        if let Some(rtx) = rtx_ssrc {
            self.line(&format!("a=ssrc-group:FID {ssrc} {rtx}"));
        }
        let cname = format!("{:016x}", self.local.seed);
        for ssrc in [Some(*ssrc), *rtx_ssrc].into_iter().flatten() {
            self.line(&format!("a=ssrc:{ssrc} cname:{cname}"));
            self.line(&format!("a=ssrc:{ssrc} msid:{stream} {track}"));
        }
    }

    /// Our candidates, once: in the first section, which speaks for the whole bundle.
    fn candidates(&mut self) {
        if !std::mem::replace(&mut self.candidates, true) {
            for line in candidates(self.local) {
                self.line(&line);
            }
        }
    }
}

/// The lines of our candidates. UDP comes first and IPv4 before IPv6: some clients look no further.
pub(super) fn candidates(local: &Local) -> Vec<String> {
    let line = |tcp: bool, nth: usize, address: &SocketAddr| {
        let preference = 65_535 - (nth.min(255) as u32);
        let ip: IpAddr = address.ip().to_canonical();
        let foundation = 1 + nth + if tcp { 1000 } else { 0 };
        let (protocol, kind, end) = if tcp {
            // Below UDP, and passive (RFC 6544, 4.2).
            ("tcp", 90, " tcptype passive")
        } else {
            ("udp", 126, "")
        };
        let preference = if tcp { (4 << 13) + (preference & 0x1fff) } else { preference };
        let priority: u32 = (kind << 24) + (preference << 8) + 255;
        let port = address.port();
        (ip.is_ipv6(), format!("a=candidate:{foundation} 1 {protocol} {priority} {ip} {port} typ host{end}"))
    };
    let mut lines = Vec::new();
    for (tcp, addresses) in [(false, &local.udp), (true, &local.tcp)] {
        let mut some: Vec<_> = addresses.iter().enumerate().map(|(nth, a)| line(tcp, nth, a)).collect();
        some.sort_by_key(|(v6, _)| *v6);
        lines.extend(some.into_iter().map(|(_, line)| line));
    }
    lines.push("a=end-of-candidates".to_owned());
    lines
}

/// What AMS's clients call a track.
pub(super) fn track_id(video: bool, name: &str) -> String {
    format!("ARDAMS{}{}", if video { 'v' } else { 'a' }, token(name))
}

/// A name as a word that may stand in a description.
pub(super) fn token(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.+!%*".contains(c);
    let word: String = name.chars().take(255).map(|c| if fits(c) { c } else { '_' }).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// The format parameters of an answer, given those of the offer.
pub(super) fn fmtp_of_answer(codec: Codec, theirs: &str) -> String {
    let echoed: &[&str] = match codec {
        Codec::Audio(_) => {
            let stereo = ["stereo", "sprop-stereo"].iter().any(|key| parameter(theirs, key) == Some("1"));
            return format!(
                "minptime=10;useinbandfec=1{}",
                if stereo { ";stereo=1;sprop-stereo=1" } else { "" }
            );
        }
        Codec::Video(VideoCodec::H264) => {
            &["level-asymmetry-allowed", "packetization-mode", "profile-level-id"]
        }
        Codec::Video(VideoCodec::Hevc) => &["level-id", "profile-id", "tier-flag", "tx-mode"],
        Codec::Video(VideoCodec::Vp9) => &["profile-id"],
        Codec::Video(VideoCodec::Av1) => &["level-idx", "profile", "tier"],
        Codec::Video(VideoCodec::Vp8) => &[],
    };
    let kept = echoed.iter().filter_map(|key| {
        let value = parameter(theirs, key)?;
        let word = value.len() <= 16 && value.bytes().all(|b| b.is_ascii_alphanumeric());
        word.then(|| format!("{key}={value}"))
    });
    kept.collect::<Vec<_>>().join(";")
}

/// SSRCs of a session, the same ones for the same seed. No two are alike.
#[derive(Clone, Debug)]
pub(super) struct Ssrcs {
    row: Row,
    drawn: Vec<u32>,
}

impl Ssrcs {
    pub(super) fn new(seed: u64) -> Self {
        Ssrcs { row: Row::new(seed), drawn: Vec::new() }
    }

    pub(super) fn draw(&mut self) -> u32 {
        loop {
            let ssrc = (self.row.draw() >> 32) as u32;
            if ssrc != 0 && !self.drawn.contains(&ssrc) {
                self.drawn.push(ssrc);
                return ssrc;
            }
        }
    }
}
