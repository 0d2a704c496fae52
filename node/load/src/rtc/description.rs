//! The few lines of SDP that a session needs (RFC 8866, RFC 8829, RFC 9725).

use std::fmt::Write;
use std::net::SocketAddr;

use sluice_rtc::agreed::{DtlsRole, Fingerprint, IceCredentials, RemoteTransport};

use crate::error::Error;

/// Our id of the header extension for congestion control feedback, and that of the layer's name.
const TRANSPORT_CC: u8 = 3;
const MID: u8 = 4;
const RID: u8 = 10;
/// Our payload types.
pub(crate) const VIDEO: u8 = 96;
pub(crate) const AUDIO: u8 = 111;

/// What is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// To play whatever there is.
    Play,
    /// To publish H.264 of this profile and Opus, with these SSRCs, in so many simulcast layers. A single layer's packets are sent again
    /// with the SSRC that [`rtx`] says.
    Publish { profile: String, ssrcs: [u32; 2], layers: usize },
}

/// The SSRC of a stream's retransmissions (RFC 4588).
pub(crate) fn rtx(ssrc: u32) -> u32 {
    ssrc + 4
}

/// The names of simulcast layers, the smallest first.
pub(crate) const LAYERS: [&str; 3] = ["q", "h", "f"];

/// An offer.
pub(crate) struct Offer<'a> {
    pub(crate) ice: &'a IceCredentials,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) wants: &'a Wants,
}

impl Offer<'_> {
    /// The description.
    pub(crate) fn sdp(&self) -> String {
        let mut sdp =
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\n"
                .to_owned();
        let direction = match self.wants {
            Wants::Play => "recvonly",
            Wants::Publish { .. } => "sendonly",
        };
        let video = match self.wants {
            Wants::Play => video_formats(&[
                ("H264", Some("42e01f")),
                ("VP8", None),
                ("VP9", None),
                ("AV1", None),
                ("H265", None),
            ]),
            Wants::Publish { profile, .. } => video_formats(&[("H264", Some(profile))]),
        };
        self.section(&mut sdp, "video", 0, direction, &video);
        let audio = (
            vec![AUDIO],
            format!("a=rtpmap:{AUDIO} opus/48000/2\r\na=fmtp:{AUDIO} minptime=10;useinbandfec=1\r\n"),
        );
        self.section(&mut sdp, "audio", 1, direction, &audio);
        sdp
    }

    fn section(
        &self,
        sdp: &mut String,
        media: &str,
        mid: usize,
        direction: &str,
        formats: &(Vec<u8>, String),
    ) {
        let numbers: Vec<_> = formats.0.iter().map(u8::to_string).collect();
        let fingerprint: Vec<_> = self.fingerprint.0.iter().map(|b| format!("{b:02X}")).collect();
        // Writing to a string cannot fail.
        let _ = write!(
            sdp,
            "m={media} 9 UDP/TLS/RTP/SAVPF {}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:{mid}\r\na={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n{}\
             a=extmap:{MID} urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
             a=extmap:{TRANSPORT_CC} http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n",
            numbers.join(" "),
            self.ice.ufrag,
            self.ice.pwd,
            fingerprint.join(":"),
            formats.1,
        );
        if let Wants::Publish { ssrcs, layers, .. } = self.wants {
            let _ = write!(sdp, "a=msid:load {media}\r\n");
            if media == "video" && *layers > 1 {
                let names = &LAYERS[..LAYERS.len().min(*layers)];
                let _ = write!(sdp, "a=extmap:{RID} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n");
                names.iter().for_each(|name| sdp.push_str(&format!("a=rid:{name} send\r\n")));
                let _ = write!(sdp, "a=simulcast:send {}\r\n", names.join(";"));
            } else if let Some(ssrc) = ssrcs.get(mid) {
                let _ = write!(sdp, "a=ssrc:{ssrc} cname:load\r\n");
                if media == "video" {
                    let rtx = rtx(*ssrc);
                    let _ = write!(sdp, "a=ssrc-group:FID {ssrc} {rtx}\r\na=ssrc:{rtx} cname:load\r\n");
                }
            }
        }
    }
}

/// Payload types from [`VIDEO`] on, and their lines.
fn video_formats(codecs: &[(&str, Option<&str>)]) -> (Vec<u8>, String) {
    let mut lines = String::new();
    let mut types = Vec::new();
    for (pt, (codec, profile)) in (VIDEO..).step_by(2).zip(codecs) {
        let rtx = pt + 1;
        types.extend([pt, rtx]);
        let _ = write!(lines, "a=rtpmap:{pt} {codec}/90000\r\n");
        if let Some(profile) = profile {
            let _ = write!(
                lines,
                "a=fmtp:{pt} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile}\r\n"
            );
        }
        for feedback in ["nack", "nack pli", "ccm fir", "transport-cc"] {
            let _ = write!(lines, "a=rtcp-fb:{pt} {feedback}\r\n");
        }
        let _ = write!(lines, "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={pt}\r\n");
    }
    (types, lines)
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) remote: RemoteTransport,
    /// Where the server can be reached over UDP.
    pub(crate) candidates: Vec<SocketAddr>,
    /// The id of the header extension for congestion control feedback, if it is used.
    pub(crate) transport_cc: Option<u8>,
    /// The ids of the extensions for the section's name and the layer's.
    pub(crate) mid: Option<u8>,
    pub(crate) rid: Option<u8>,
    /// Whether the server takes more than one layer.
    pub(crate) simulcast: bool,
    /// The payload type that is used for video.
    pub(crate) video: Option<u8>,
    /// The payload type of its retransmissions, if it has one.
    pub(crate) rtx: Option<u8>,
    /// The payload type that is used for audio.
    pub(crate) audio: Option<u8>,
}

impl Answer {
    pub(crate) fn parse(sdp: &str) -> Result<Self, Error> {
        let missing = |what: &str| Error::Answer(format!("it has no {what}"));
        let value = |name: &str| sdp.lines().find_map(|line| line.trim_end().strip_prefix(name));
        let ice = IceCredentials {
            ufrag: value("a=ice-ufrag:").ok_or_else(|| missing("a=ice-ufrag"))?.into(),
            pwd: value("a=ice-pwd:").ok_or_else(|| missing("a=ice-pwd"))?.into(),
        };
        let fingerprint = value("a=fingerprint:sha-256 ").and_then(fingerprint);
        let fingerprint = fingerprint.ok_or_else(|| missing("a=fingerprint with SHA-256"))?;
        // Our role is the opposite of theirs.
        let role = match value("a=setup:") {
            Some("active") => DtlsRole::Server,
            Some("passive") => DtlsRole::Client,
            _ => return Err(missing("a=setup:active or a=setup:passive")),
        };
        let extension = |uri: &str| {
            let line =
                sdp.lines().filter_map(|line| line.strip_prefix("a=extmap:")).find(|l| l.contains(uri))?;
            line.split([' ', '/']).next()?.parse().ok()
        };
        let payload = |media: &str| {
            let line = sdp
                .lines()
                .filter_map(|line| line.strip_prefix(media))
                .find(|line| !line.starts_with("0 "))?;
            line.split_ascii_whitespace().nth(2)?.parse().ok()
        };
        let video: Option<u8> = payload("m=video ");
        let again = |line: &str| {
            let (pt, of) = line.trim_end().strip_prefix("a=fmtp:")?.split_once(" apt=")?;
            (of.parse().ok() == video).then(|| pt.parse().ok())?
        };
        let mut candidates: Vec<_> = sdp.lines().filter_map(candidate).collect();
        candidates.dedup();
        Ok(Answer {
            remote: RemoteTransport { ice, fingerprint, role },
            candidates,
            transport_cc: extension("transport-wide-cc"),
            mid: extension("sdes:mid"),
            rid: extension("sdes:rtp-stream-id"),
            simulcast: value("a=simulcast:recv").is_some(),
            video,
            rtx: sdp.lines().find_map(again),
            audio: payload("m=audio "),
        })
    }

    /// The address to call: where the signalling was answered, if the server is there too.
    pub(crate) fn address(&self, signalling: SocketAddr) -> Result<SocketAddr, Error> {
        let none = || Error::Answer("it has no candidate for UDP".into());
        let same = self.candidates.iter().find(|c| c.ip() == signalling.ip());
        let first = *same.or(self.candidates.first()).ok_or_else(none)?;
        // On this machine any address will do, and the loopback one is allowed.
        let local = signalling.ip().is_loopback();
        Ok(if local { SocketAddr::new(signalling.ip(), first.port()) } else { first })
    }
}

fn fingerprint(text: &str) -> Option<Fingerprint> {
    let bytes: Option<Vec<u8>> = text.trim().split(':').map(|b| u8::from_str_radix(b, 16).ok()).collect();
    Some(Fingerprint(bytes?.try_into().ok()?))
}

/// `a=candidate:1 1 udp 2130706431 192.0.2.1 5004 typ host`
fn candidate(line: &str) -> Option<SocketAddr> {
    let mut words = line.trim_end().strip_prefix("a=candidate:")?.split_ascii_whitespace().skip(1);
    let (component, transport) = (words.next()?, words.next()?);
    let (address, port) = (words.nth(1)?, words.next()?);
    if component != "1" || !transport.eq_ignore_ascii_case("udp") {
        return None;
    }
    Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-lite\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
        a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:FF\r\n\
        a=setup:passive\r\na=mid:0\r\na=sendonly\r\n\
        a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
        a=candidate:1 1 udp 2130706431 192.0.2.1 5004 typ host\r\n\
        a=candidate:2 1 tcp 1671430143 192.0.2.1 5004 typ host tcptype passive\r\n\
        a=candidate:3 1 UDP 2130706430 2001:db8::1 5004 typ host\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\n";

    #[test]
    fn an_answer_is_read() {
        let answer = Answer::parse(ANSWER).unwrap();
        assert_eq!(answer.remote.ice.ufrag, "abcd");
        assert_eq!(answer.remote.role, DtlsRole::Client);
        assert_eq!((answer.remote.fingerprint.0[1], answer.remote.fingerprint.0[31]), (1, 255));
        assert_eq!(
            (answer.transport_cc, answer.mid, answer.video, answer.audio),
            (Some(3), None, Some(96), Some(111))
        );
        assert_eq!(answer.candidates.len(), 2);
        assert!(!answer.simulcast && answer.rtx.is_none());
        let at = |text: &str| answer.address(text.parse().unwrap()).unwrap().to_string();
        assert_eq!(at("127.0.0.1:80"), "127.0.0.1:5004");
        assert_eq!(at("[2001:db8::1]:80"), "[2001:db8::1]:5004");
        assert_eq!(at("198.51.100.1:80"), "192.0.2.1:5004");
    }

    #[test]
    fn an_answer_that_lacks_something_is_refused() {
        for what in ["a=ice-ufrag", "a=ice-pwd", "a=fingerprint", "a=setup"] {
            let lacking: Vec<_> = ANSWER.lines().filter(|line| !line.starts_with(what)).collect();
            assert!(Answer::parse(&lacking.join("\r\n")).is_err(), "{what}");
        }
        let none: Vec<_> = ANSWER.lines().filter(|line| !line.starts_with("a=candidate")).collect();
        let answer = Answer::parse(&none.join("\r\n")).unwrap();
        assert!(answer.address("127.0.0.1:80".parse().unwrap()).is_err());
        let rejected = ANSWER.replace("m=video 9 ", "m=video 0 ");
        assert_eq!(Answer::parse(&rejected).unwrap().video, None);
    }

    #[test]
    fn offers_have_what_answers_have() {
        let ice = IceCredentials { ufrag: "u".into(), pwd: "p".into() };
        let publish = |layers| Wants::Publish { profile: "42c01f".into(), ssrcs: [1, 2], layers };
        for wants in [Wants::Play, publish(1), publish(3)] {
            let sdp = Offer { ice: &ice, fingerprint: Fingerprint([0xab; 32]), wants: &wants }.sdp();
            let read = Answer::parse(&sdp.replace("actpass", "active")).unwrap();
            assert_eq!(read.remote.fingerprint, Fingerprint([0xab; 32]));
            assert_eq!(read.remote.ice, ice);
            assert_eq!((read.transport_cc, read.mid), (Some(TRANSPORT_CC), Some(MID)));
            assert_eq!((read.video, read.rtx, read.audio), (Some(VIDEO), Some(VIDEO + 1), Some(AUDIO)));
            assert_eq!(read.rid.is_some(), wants == publish(3));
            assert!(sdp.lines().all(|line| line.is_char_boundary(2) && &line[1..2] == "="), "{sdp}");
        }
    }
}
