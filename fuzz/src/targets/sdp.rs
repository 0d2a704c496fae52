//! Session descriptions of WebRTC clients: offers, answers and fragments.

use std::collections::HashSet;

use sluice_media::{AudioCodec, VideoCodec};
use sluice_rtc::agreed::{Codec, Fingerprint, IceCredentials};
use sluice_rtc::sdp::{
    Answered, Local, Offered, Outgoing, SdpError, Takes, answer_player, answer_publisher, candidates,
    check_player, fragment::Fragment, offer_player, offer_source, offer_target,
};

/// Lines, and what of them matters.
pub(crate) const WORDS: &[&[u8]] = &[
    b"v=0\r\n",
    b"m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n",
    b"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
    b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    b"m=video 0 RTP/AVP 96\r\n",
    b"a=group:BUNDLE 0 1 2\r\n",
    b"a=mid:0\r\n",
    b"a=mid:1\r\n",
    b"a=bundle-only\r\n",
    b"a=rtcp-mux\r\n",
    b"a=setup:actpass\r\n",
    b"a=setup:active\r\n",
    b"a=ice-ufrag:abcd\r\n",
    b"a=ice-pwd:0123456789abcdefghijkl\r\n",
    b"a=fingerprint:sha-256 ",
    b"a=sendonly\r\n",
    b"a=recvonly\r\n",
    b"a=rtpmap:96 H264/90000\r\n",
    b"a=rtpmap:97 rtx/90000\r\n",
    b"a=fmtp:97 apt=96\r\n",
    b"a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n",
    b"a=rtcp-fb:* nack pli\r\n",
    b"a=extmap:3/sendonly urn:ietf:params:rtp-hdrext:sdes:mid\r\n",
    b"a=ssrc-group:FID 1 2\r\n",
    b"a=ssrc:1 cname:x\r\n",
    b"a=rid:h send\r\n",
    b"a=simulcast:send h;~m,x;l\r\n",
    b"a=sctp-port:5000\r\n",
    b"a=max-message-size:0\r\n",
    b"a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n",
];

fn local() -> Local {
    Local {
        ice: IceCredentials { ufrag: "ours".into(), pwd: "ourpasswordourpassword".into() },
        fingerprint: Fingerprint([7; 32]),
        udp: vec![([192, 0, 2, 1], 5004).into()],
        tcp: vec![([192, 0, 2, 1], 5004).into()],
        seed: 42,
        version: 0,
        calls: false,
    }
}

/// A description from a client is answered as an offer of a publisher and of a player, taken as the answer to an offer of
/// ours, and read as a fragment.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let local = local();
    let takes = Takes {
        video: vec![VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Vp9, VideoCodec::Vp8, VideoCodec::Av1],
        audio: vec![AudioCodec::Opus],
        layers: 3,
    };
    let track = |codec| Outgoing { name: "cam1".into(), codec, profile: Some("64001f".into()) };
    let tracks = [track(Codec::Video(VideoCodec::H264)), track(Codec::Audio(AudioCodec::Opus))];

    let published = answer_publisher(text, &local, &takes);
    if let Ok(answered) = &published {
        consistent(text, answered);
        let kinds: HashSet<bool> = answered.agreed.receiving.iter().map(|r| r.video).collect();
        assert_eq!(kinds.len(), answered.agreed.receiving.len(), "one section of each kind is taken");
        assert!(
            answered.agreed.receiving.iter().all(|r| !r.payloads.is_empty() && r.rids.len() <= takes.layers)
        );
    }
    let played = answer_player(text, &local, &tracks);
    if let Ok(answered) = &played {
        consistent(text, answered);
        assert!(check_player(text).is_ok(), "what is answered passes the check that comes before");
        let sent: HashSet<usize> = answered.agreed.sending.iter().map(|s| s.track).collect();
        assert_eq!(sent.len(), answered.agreed.sending.len(), "a track is sent once");
        distinct(answered.agreed.sending.iter().flat_map(|s| [Some(s.ssrc), s.rtx_ssrc]));
    }
    let offered = offer_player(&local, &tracks, None);
    if let Ok(agreed) = offered.accept(text) {
        let mids = offered.mids();
        assert!(agreed.sending.iter().all(|s| mids.iter().any(|(mid, _)| *mid == s.mid)));
    }
    later(text, &offered, &local, &tracks);
    called(text, &local, &takes, &tracks);
    if let Ok(fragment) = Fragment::parse(text) {
        assert!(fragment.candidates <= 256);
    }
}

/// What a server that we call may answer.
fn called(text: &str, local: &Local, takes: &Takes, tracks: &[Outgoing]) {
    let local = Local { calls: true, ..local.clone() };
    if let Ok(agreed) = offer_source(&local, takes).accept(text) {
        assert!(!agreed.receiving.is_empty() && agreed.receiving.iter().all(|r| !r.payloads.is_empty()));
    }
    if let Ok(agreed) = offer_target(&local, tracks).accept(text) {
        assert!(agreed.sending.len() <= tracks.len());
    }
    assert!(candidates(text).is_ok_and(|there| there.len() <= 16) || candidates(text).is_err());
}

/// A further offer keeps the sections of the one before.
fn later(text: &str, offered: &Offered, local: &Local, tracks: &[Outgoing]) {
    let again = offer_player(local, &tracks[1..], Some(offered));
    assert_eq!(sections(&again.sdp), sections(&offered.sdp));
    if let Err(SdpError::Unusable(why)) = again.accept(text) {
        assert!(why.len() < 1024, "an error is a sentence");
    }
}

fn sections(sdp: &str) -> usize {
    sdp.lines().filter(|line| line.starts_with("m=")).count()
}

fn consistent(offer: &str, answered: &Answered) {
    assert_eq!(sections(&answered.sdp), sections(offer), "an answer has the sections of its offer");
    assert!(
        answered.sdp.lines().all(|line| line.len() > 2 && line.as_bytes()[1] == b'='),
        "each line is a line"
    );
    assert!(answered.agreed.remote.ice.pwd.len() >= 22);
}

fn distinct(ssrcs: impl Iterator<Item = Option<u32>>) {
    let all: Vec<u32> = ssrcs.flatten().collect();
    let once: HashSet<u32> = all.iter().copied().collect();
    assert_eq!(all.len(), once.len(), "no source has the number of another");
}
