//! Offers as clients write them, and what is answered.

use proptest::prelude::*;
use sluice_media::{AudioCodec, VideoCodec};

use super::*;
use crate::agreed::{Codec, DtlsRole};

const SHA256: &str =
    "sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF";

/// The lines of the transport, as each client has them.
fn transport(setup: &str) -> String {
    format!(
        "a=ice-ufrag:uFrG\na=ice-pwd:0123456789abcdefghijkl\na=fingerprint:{SHA256}\na=setup:{setup}\na=rtcp-mux\n"
    )
}

fn head(mids: &str) -> String {
    let mut text = "v=0\no=- 4611 2 IN IP4 127.0.0.1\ns=-\nt=0 0\n".to_owned();
    if !mids.is_empty() {
        text.push_str(&format!("a=group:BUNDLE {mids}\n"));
    }
    text
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// What Chromium's kind of client writes: many codecs, RTX, many header extensions.
fn chromium(audio: &str, video: &str, more: &str) -> String {
    let t = transport("actpass");
    crlf(&format!(
        "{}a=extmap-allow-mixed\na=msid-semantic: WMS s1\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\nc=IN IP4 0.0.0.0\na=rtcp:9 IN IP4 0.0.0.0\n{t}\
         a=ice-options:trickle\na=mid:0\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\n\
         a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\n\
         a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\n\
         a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\na={audio}\na=msid:s1 a1\n\
         a=rtpmap:111 opus/48000/2\na=rtcp-fb:111 transport-cc\na=fmtp:111 minptime=10;useinbandfec=1\n\
         a=rtpmap:63 red/48000/2\na=fmtp:63 111/111\na=rtpmap:9 G722/8000\na=rtpmap:0 PCMU/8000\na=rtpmap:8 PCMA/8000\n\
         a=rtpmap:13 CN/8000\na=rtpmap:110 telephone-event/48000\na=rtpmap:126 telephone-event/8000\n\
         a=ssrc:1001 cname:c\na=ssrc:1001 msid:s1 a1\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97 103 104 107 108 45 46 98 99 100 101\nc=IN IP4 0.0.0.0\n{t}a=mid:1\n\
         a=extmap:14 urn:ietf:params:rtp-hdrext:toffset\n\
         a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\na=extmap:13 urn:3gpp:video-orientation\n\
         a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\n\
         a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\na=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\n\
         a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\na={video}\na=msid:s1 v1\na=rtcp-rsize\n\
         a=rtpmap:96 VP8/90000\na=rtcp-fb:96 goog-remb\na=rtcp-fb:96 transport-cc\na=rtcp-fb:96 ccm fir\n\
         a=rtcp-fb:96 nack\na=rtcp-fb:96 nack pli\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n\
         a=rtpmap:103 H264/90000\na=rtcp-fb:103 nack pli\n\
         a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f\n\
         a=rtpmap:104 rtx/90000\na=fmtp:104 apt=103\n\
         a=rtpmap:107 H264/90000\na=rtcp-fb:107 goog-remb\na=rtcp-fb:107 transport-cc\na=rtcp-fb:107 ccm fir\n\
         a=rtcp-fb:107 nack\na=rtcp-fb:107 nack pli\n\
         a=fmtp:107 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\n\
         a=rtpmap:108 rtx/90000\na=fmtp:108 apt=107\n\
         a=rtpmap:45 AV1/90000\na=fmtp:45 level-idx=5;profile=0;tier=0\na=rtpmap:46 rtx/90000\na=fmtp:46 apt=45\n\
         a=rtpmap:98 VP9/90000\na=fmtp:98 profile-id=2\na=rtpmap:99 rtx/90000\na=fmtp:99 apt=98\n\
         a=rtpmap:100 H264/90000\na=rtcp-fb:100 nack\n\
         a=fmtp:100 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f\n\
         a=rtpmap:101 rtx/90000\na=fmtp:101 apt=100\n{more}",
        head("0 1"),
    ))
}

pub(crate) fn local() -> Local {
    Local {
        ice: IceCredentials { ufrag: "ours".into(), pwd: "ourpasswordourpassword".into() },
        fingerprint: Fingerprint([7; 32]),
        udp: vec!["[2001:db8::1]:5004".parse().unwrap(), "[::ffff:192.0.2.1]:5004".parse().unwrap()],
        tcp: vec!["192.0.2.1:5004".parse().unwrap()],
        seed: 42,
        version: 0,
        calls: false,
    }
}

fn caller() -> Local {
    Local { udp: vec!["192.0.2.9:40000".parse().unwrap()], tcp: Vec::new(), calls: true, ..local() }
}

pub(crate) fn takes() -> Takes {
    use VideoCodec::{Av1, H264, Hevc, Vp8, Vp9};
    Takes { video: vec![H264, Hevc, Vp9, Vp8, Av1], audio: vec![AudioCodec::Opus], layers: 3 }
}

fn h264(profile: &str) -> Outgoing {
    Outgoing { name: "cam1".into(), codec: Codec::Video(VideoCodec::H264), profile: Some(profile.into()) }
}

fn opus() -> Outgoing {
    Outgoing { name: "cam1".into(), codec: Codec::Audio(AudioCodec::Opus), profile: None }
}

fn of(name: &str, codec: VideoCodec) -> Outgoing {
    Outgoing { name: name.into(), codec: Codec::Video(codec), profile: None }
}

/// Where a line stands, or panics.
fn line(sdp: &str, wanted: &str) -> usize {
    sdp.split("\r\n").position(|l| l == wanted).unwrap_or_else(|| panic!("no line {wanted} in\n{sdp}"))
}

fn has(sdp: &str, wanted: &str) -> bool {
    sdp.split("\r\n").any(|l| l == wanted)
}

#[test]
fn a_browser_that_publishes_gets_h264_and_opus() {
    let offer =
        chromium("sendrecv", "sendonly", "a=ssrc-group:FID 7 8\na=ssrc:7 cname:c\na=ssrc:8 cname:c\n");
    let Answered { sdp, agreed } = answer_publisher(&offer, &local(), &takes()).unwrap();
    assert_eq!(agreed.remote.role, DtlsRole::Server);
    assert_eq!(agreed.remote.ice.ufrag, "uFrG");
    assert_eq!(agreed.remote.fingerprint.0[..3], [0, 0x11, 0x22]);
    let [audio, video] = &agreed.receiving[..] else { panic!("{agreed:?}") };
    assert_eq!(
        (audio.mid.as_str(), audio.video, audio.payloads[0].pt, audio.payloads[0].rtx),
        ("0", false, 111, None)
    );
    assert_eq!((audio.extensions.audio_level, audio.extensions.transport_cc), (Some(1), Some(3)));
    assert_eq!(video.payloads.len(), 1);
    assert_eq!((video.payloads[0].pt, video.payloads[0].rtx), (107, Some(108)));
    assert!(video.payloads[0].fmtp.contains("42e01f"));
    assert_eq!((video.ssrcs.as_slice(), video.rids.len()), (&[(7, Some(8))][..], 0));
    assert_eq!((video.extensions.orientation, video.extensions.rid), (Some(13), None));
    for wanted in [
        "a=group:BUNDLE 0 1",
        "a=ice-lite",
        "a=extmap-allow-mixed",
        "a=setup:passive",
        "a=recvonly",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "m=video 9 UDP/TLS/RTP/SAVPF 107 108",
        "a=fmtp:107 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        "a=fmtp:108 apt=107",
        "a=rtcp-fb:107 nack pli",
        "a=rtcp-fb:107 transport-cc",
        "a=rtcp-rsize",
        "a=end-of-candidates",
    ] {
        line(&sdp, wanted);
    }
    let first = sdp.find("a=candidate:").unwrap();
    assert!(sdp[first..].starts_with("a=candidate:2 1 udp 2130706175 192.0.2.1 5004 typ host\r\n"), "{sdp}");
    assert!(sdp.contains(" 192.0.2.1 5004 typ host tcptype passive\r\n"));
    assert_eq!(sdp.matches("a=candidate:").count(), 3, "only the first section has them");
    assert!(!sdp.contains("VP8") && !sdp.contains("m=application"));
}

#[test]
fn simulcast_layers_are_taken_up_to_the_limit() {
    let layers = "a=rid:h send\na=rid:m send\na=rid:l send\na=simulcast:send h;~m,x;l\n";
    let offer = chromium("sendonly", "sendonly", layers);
    let answered = answer_publisher(&offer, &local(), &takes()).unwrap();
    assert_eq!(answered.agreed.receiving[1].rids, ["h", "m", "l"]);
    assert_eq!(answered.agreed.receiving[1].extensions.repaired_rid, Some(11));
    assert!(line(&answered.sdp, "a=rid:l recv") < line(&answered.sdp, "a=simulcast:recv h;m;l"));
    line(&answered.sdp, "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id");
    let two = answer_publisher(&offer, &local(), &Takes { layers: 2, ..takes() }).unwrap();
    assert_eq!(two.agreed.receiving[1].rids, ["h", "m"]);
    let one = answer_publisher(&offer, &local(), &Takes { layers: 1, ..takes() }).unwrap();
    assert!(one.agreed.receiving[1].rids.is_empty() && !one.sdp.contains("simulcast"));
}

#[test]
fn firefox_and_safari_name_things_otherwise() {
    // Firefox: the fingerprint at the session, the direction of extmap, mids of its own.
    let firefox = format!(
        "v=0\no=mozilla 1 0 IN IP4 0.0.0.0\ns=-\nt=0 0\na=sendrecv\na=fingerprint:{SHA256}\na=group:BUNDLE v\n\
         a=ice-options:trickle\nm=video 9 UDP/TLS/RTP/SAVPF 120 124 126 127\nc=IN IP4 0.0.0.0\na=sendonly\n\
         a=extmap:3/sendonly urn:ietf:params:rtp-hdrext:sdes:mid\n\
         a=fmtp:126 profile-level-id=42e01f;level-asymmetry-allowed=1;packetization-mode=1\na=fmtp:124 apt=120\n\
         a=fmtp:127 apt=126\na=ice-pwd:0123456789abcdef0123456789abcdef\na=ice-ufrag:abcd1234\na=mid:v\na=rtcp-fb:* nack\n\
         a=rtcp-fb:126 nack pli\na=rtcp-mux\na=rtpmap:120 VP8/90000\na=rtpmap:124 rtx/90000\na=rtpmap:126 H264/90000\n\
         a=rtpmap:127 rtx/90000\na=setup:actpass\na=ssrc:1 cname:{{x}}\n"
    );
    let a = answer_publisher(&firefox, &local(), &takes()).unwrap();
    assert_eq!(a.agreed.receiving[0].payloads[0].rtx, Some(127));
    assert_eq!(a.agreed.receiving[0].extensions.mid, Some(3));
    line(&a.sdp, "a=rtcp-fb:126 nack");
    line(&a.sdp, "a=mid:v");
    // Safari without H.264: VP8 only, setup:active.
    let safari = format!(
        "{}m=video 9 UDP/TLS/RTP/SAVPF 96\n{}a=mid:0\na=sendrecv\na=rtpmap:96 vp8/90000\n",
        head("0"),
        transport("active")
    );
    let a = answer_publisher(&safari, &local(), &takes()).unwrap();
    assert_eq!(a.agreed.receiving[0].payloads[0].codec, Codec::Video(VideoCodec::Vp8));
    assert_eq!(a.agreed.remote.role, DtlsRole::Server);
}

#[test]
fn studios_and_command_lines_publish_too() {
    // OBS: bundle-less names, setup:actpass, stereo.
    let obs = format!(
        "{}m=audio 9 UDP/TLS/RTP/SAVPF 111\n{t}a=mid:0\na=sendonly\na=ssrc:5 cname:o\na=rtpmap:111 opus/48000/2\n\
         a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\n{t}a=mid:1\na=sendonly\na=ssrc:6 cname:o\na=rtpmap:96 H264/90000\n\
         a=rtcp-fb:96 nack\na=rtcp-fb:96 nack pli\na=fmtp:96 profile-level-id=42e01f;packetization-mode=1\n",
        head("0 1"),
        t = transport("actpass")
    );
    let a = answer_publisher(&obs, &local(), &takes()).unwrap();
    line(&a.sdp, "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1");
    assert_eq!(a.agreed.receiving[1].ssrcs, [(6, None)]);
    // ffmpeg: setup:passive, so we open the handshake.
    let ffmpeg = obs.replace("actpass", "passive");
    let a = answer_publisher(&ffmpeg, &local(), &takes()).unwrap();
    assert_eq!(a.agreed.remote.role, DtlsRole::Client);
    line(&a.sdp, "a=setup:active");
    // A single section needs neither bundle nor name.
    let plain = format!(
        "{}m=video 9 UDP/TLS/RTP/SAVPF 96\n{}a=sendonly\na=rtpmap:96 H265/90000\n",
        head(""),
        transport("actpass")
    );
    let a = answer_publisher(&plain, &local(), &takes()).unwrap();
    assert_eq!(a.agreed.receiving[0].mid, "0");
    assert!(!a.sdp.contains("a=mid") && !a.sdp.contains("BUNDLE"));
}

#[test]
fn sections_that_cannot_be_taken_are_rejected_in_their_place() {
    let t = transport("actpass");
    let offer = format!(
        "{}m=audio 9 UDP/TLS/RTP/SAVPF 0\n{t}a=mid:a\na=rtpmap:0 PCMU/8000\n\
         m=text 9 UDP/TLS/RTP/SAVPF 98\n{t}a=mid:t\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\n{t}a=mid:v\na=sendonly\na=rtpmap:96 VP8/90000\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\n{t}a=mid:w\na=sendonly\na=rtpmap:96 VP8/90000\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\n{t}a=mid:outside\na=sendonly\na=rtpmap:96 VP8/90000\n\
         m=application 0 UDP/DTLS/SCTP webrtc-datachannel\n{t}a=bundle-only\na=mid:d\na=sctp-port:5000\n",
        head("a t v w d")
    );
    let a = answer_publisher(&offer, &local(), &takes()).unwrap();
    let media: Vec<&str> = a.sdp.split("\r\n").filter(|l| l.starts_with("m=")).collect();
    assert_eq!(
        media,
        [
            "m=audio 0 UDP/TLS/RTP/SAVPF 0",
            "m=text 0 UDP/TLS/RTP/SAVPF 98",
            "m=video 9 UDP/TLS/RTP/SAVPF 96",
            "m=video 9 UDP/TLS/RTP/SAVPF 96",
            "m=video 0 UDP/TLS/RTP/SAVPF 96",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        ]
    );
    line(&a.sdp, "a=group:BUNDLE v w d");
    assert_eq!(a.agreed.receiving.len(), 1, "one video makes the stream");
    assert_eq!(a.agreed.data, Some(65_536), "the default of RFC 8841");
}

#[test]
fn a_refusal_says_what_is_missing() {
    let good = chromium("sendonly", "sendonly", "");
    for (offer, why) in [
        (good.replace("a=group:BUNDLE 0 1\r\n", ""), "BUNDLE"),
        (good.replace("a=rtcp-mux\r\n", ""), "rtcp-mux"),
        (good.replace("sha-256", "sha-1"), "SHA-256"),
        (good.replace("a=ice-pwd:0123456789abcdefghijkl", "a=ice-pwd:short"), "ICE credentials"),
        (good.replace("actpass", "holdconn"), "holdconn"),
        (good.replace("v=0\r\n", "v=0\r\na=ice-lite\r\n"), "ICE-lite"),
        (good.replace("a=mid:1", "a=mid:0"), "same name"),
        (good.replace("m=audio 9", "m=audio 0").replace("m=video 9", "m=video 0"), "port 0"),
        (good.replace("a=sendonly", "a=recvonly"), "neither audio nor video"),
    ] {
        let error = answer_publisher(&offer, &local(), &takes()).unwrap_err();
        assert!(matches!(&error, SdpError::Unusable(text) if text.contains(why)), "{error} should say {why}");
    }
    let only = Takes { video: vec![VideoCodec::Hevc], audio: vec![], layers: 1 };
    let error = answer_publisher(&good, &local(), &only).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no codec in common: the client would send opus, G722, PCMU, PCMA, VP8, H264, AV1, VP9, and what is taken here is H265"
    );
}

#[test]
fn a_later_offer_of_the_same_session_is_answered_alike() {
    let first = answer_publisher(&chromium("sendonly", "sendonly", ""), &local(), &takes()).unwrap();
    let restarted = chromium("sendonly", "sendonly", "").replace("uFrG", "uFrG2");
    let ice = IceCredentials { ufrag: "new1".into(), pwd: "newpasswordnewpassword".into() };
    let again = answer_publisher(&restarted, &Local { ice, version: 1, ..local() }, &takes()).unwrap();
    assert_eq!(again.agreed.receiving, first.agreed.receiving);
    assert_eq!(again.agreed.remote.ice.ufrag, "uFrG2");
    line(&first.sdp, "o=- 21 0 IN IP4 127.0.0.1");
    line(&again.sdp, "o=- 21 1 IN IP4 127.0.0.1");
    let back = again.sdp.replace("new1", "ours").replace("newpasswordnewpassword", "ourpasswordourpassword");
    assert_eq!(back.replace("o=- 21 1", "o=- 21 0"), first.sdp);
}

#[test]
fn a_player_gets_the_nearest_profile() {
    let offer = chromium("recvonly", "recvonly", "");
    for (profile, pt) in [("42e01f", 107), ("640028", 100), ("42c00b", 107), ("4d401f", 100), ("f4001f", 100)]
    {
        let a = answer_player(&offer, &local(), &[h264(profile), opus()]).unwrap();
        let video = a.agreed.sending.iter().find(|s| s.video).unwrap();
        assert_eq!((video.payload.pt, video.payload.rtx), (pt, Some(pt + 1)), "{profile}");
    }
    let a = answer_player(&offer, &local(), &[h264("42e01f"), opus()]).unwrap();
    let [audio, video] = &a.agreed.sending[..] else { panic!() };
    assert_eq!((audio.mid.as_str(), audio.track, audio.rtx_ssrc), ("0", 1, None));
    assert_eq!((video.mid.as_str(), video.track, video.extensions.orientation), ("1", 0, None));
    assert_eq!((video.extensions.transport_cc, video.extensions.mid), (Some(3), Some(4)));
    let rtx = video.rtx_ssrc.unwrap();
    for wanted in [
        "a=sendonly".to_owned(),
        "a=msid:cam1 ARDAMSvcam1".to_owned(),
        "a=msid:cam1 ARDAMSacam1".to_owned(),
        format!("a=ssrc-group:FID {} {rtx}", video.ssrc),
    ] {
        line(&a.sdp, &wanted);
    }
    assert!(audio.ssrc != video.ssrc && video.ssrc != rtx);
    let same = answer_player(&offer, &local(), &[h264("42e01f"), opus()]).unwrap();
    assert_eq!(same.sdp, a.sdp, "the same seed, the same answer");
}

#[test]
fn sections_without_a_track_stay_inactive() {
    let a = answer_player(&chromium("recvonly", "recvonly", ""), &local(), &[opus()]).unwrap();
    assert_eq!(a.agreed.sending.len(), 1);
    assert!(line(&a.sdp, "a=sendonly") < line(&a.sdp, "a=inactive"));
    assert!(check_player(&chromium("sendonly", "recvonly", "")).is_ok());
    assert!(check_player(&chromium("sendonly", "sendonly", "")).is_err());
}

#[test]
fn h264_is_sent_to_a_player_that_names_no_packetization_mode() {
    let offer = chromium("recvonly", "recvonly", "");
    let single = offer.replace("packetization-mode=1", "packetization-mode=0");
    let unnamed = single.replace("packetization-mode=0;", "");
    for offer in [single, unnamed] {
        let answered = answer_player(&offer, &local(), &[h264("42e01f")]).unwrap();
        let video = answered.agreed.sending.iter().find(|section| section.video).unwrap();
        assert_eq!(video.payload.pt, 107, "of the nearest profile");
        assert!(
            !answered.sdp.contains("packetization-mode=1"),
            "the answer has their mode: {}",
            answered.sdp
        );
    }
    let both = answer_player(&offer, &local(), &[h264("42001f")]).unwrap();
    let video = both.agreed.sending.iter().find(|section| section.video).unwrap();
    assert!(video.payload.fmtp.contains("packetization-mode=1"), "better another profile");
}

#[test]
fn a_player_without_the_codec_is_told_what_there_is() {
    let offer = chromium("recvonly", "recvonly", "");
    let error = answer_player(&offer, &local(), &[of("cam1", VideoCodec::Hevc), opus()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no codec in common: the stream has H265, Opus, and the client would receive VP8, H264, AV1, VP9, opus, G722, PCMU, PCMA"
    );
    let interleaved = offer.replace("packetization-mode=1", "packetization-mode=2");
    let interleaved = interleaved.replace("packetization-mode=0", "packetization-mode=2");
    assert!(answer_player(&interleaved, &local(), &[h264("42e01f")]).is_err());
    let vp9 = answer_player(&offer, &local(), &[of("a", VideoCodec::Vp9)]).unwrap_err();
    assert!(matches!(vp9, SdpError::NoCodec(_)), "profile 2 only");
    assert!(matches!(answer_player(&offer, &local(), &[]), Err(SdpError::NoCodec(_))));
    let silent = chromium("recvonly", "inactive", "");
    assert!(
        answer_player(&silent, &local(), &[of("a", VideoCodec::Hevc), opus()]).is_ok(),
        "wants no picture"
    );
}

/// An answer to an offer of ours, as a browser would write it.
fn answer(offer: &str, setup: &str) -> String {
    let mut out = String::new();
    for line in offer.lines() {
        match line {
            l if l.starts_with("a=ice-") || l.starts_with("a=candidate") || l.starts_with("a=end-of") => {}
            l if l.starts_with("a=ssrc") || l.starts_with("a=msid") || l.starts_with("a=fingerprint") => {}
            "a=setup:actpass" => out.push_str(&transport(setup).replace("a=rtcp-mux\n", "")),
            "a=sendonly" => out.push_str("a=recvonly\n"),
            l => {
                out.push_str(l);
                out.push('\n');
            }
        }
    }
    crlf(&out)
}

#[test]
fn an_offer_has_what_ams_clients_need() {
    let tracks = [h264("640028"), opus(), of("guest/../x", VideoCodec::Vp8)];
    let offered = offer_player(&local(), &tracks, None);
    let expected = [("0", "ARDAMSvcam1"), ("1", "ARDAMSacam1"), ("2", "ARDAMSvguest_.._x")];
    assert_eq!(offered.mids(), expected.map(|(mid, track)| (mid.to_owned(), track.to_owned())));
    for wanted in [
        "a=group:BUNDLE 0 1 2 3",
        "a=setup:actpass",
        "m=video 9 UDP/TLS/RTP/SAVPF 108 109 102 103",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "a=sctp-port:5000",
        "a=max-message-size:65536",
        "a=msid:cam1 ARDAMSvcam1",
        "a=msid:cam1 ARDAMSacam1",
    ] {
        line(&offered.sdp, wanted);
    }
    let agreed = offered.accept(&answer(&offered.sdp, "active")).unwrap();
    assert_eq!(agreed.remote.role, DtlsRole::Server);
    assert_eq!(agreed.data, Some(65_536));
    let sent: Vec<_> =
        agreed.sending.iter().map(|s| (s.mid.as_str(), s.track, s.payload.pt, s.payload.rtx)).collect();
    assert_eq!(sent, [("0", 0, 108, Some(109)), ("1", 1, 111, None), ("2", 2, 96, Some(97))]);
    assert_eq!(agreed.sending[0].extensions.transport_cc, Some(3));
    assert!(offered.sdp.contains(&format!("a=ssrc:{} cname:", agreed.sending[0].ssrc)));
    assert_eq!(offered.accept(&answer(&offered.sdp, "passive")).unwrap().remote.role, DtlsRole::Client);
    // A client that knows only the second format takes that.
    let second = answer(&offered.sdp, "active").replace("a=rtpmap:108 H264/90000\r\n", "");
    assert_eq!(offered.accept(&second).unwrap().sending[0].payload.pt, 102);
}

#[test]
fn later_offers_keep_sections_and_sources() {
    let (a, b, c) = (of("a", VideoCodec::Vp8), of("b", VideoCodec::Vp8), of("c", VideoCodec::Vp9));
    let first = offer_player(&local(), &[a.clone(), b.clone()], None);
    let before = first.accept(&answer(&first.sdp, "active")).unwrap();
    let second = offer_player(&local(), std::slice::from_ref(&b), Some(&first));
    let agreed = second.accept(&answer(&second.sdp, "active")).unwrap();
    assert_eq!(second.mids(), [("1".to_owned(), "ARDAMSvb".to_owned())]);
    assert_eq!((agreed.sending[0].ssrc, agreed.sending[0].track), (before.sending[1].ssrc, 0));
    assert!(has(&second.sdp, "a=inactive") && has(&second.sdp, "o=- 21 1 IN IP4 127.0.0.1"));
    // A new track takes the section that became free, with sources of its own.
    let third = offer_player(&local(), &[c, b], Some(&second));
    let agreed = third.accept(&answer(&third.sdp, "active")).unwrap();
    assert_eq!(third.sdp.matches("\r\nm=").count(), 3);
    assert_eq!((agreed.sending[0].mid.as_str(), agreed.sending[0].track), ("0", 0));
    assert!(agreed.sending[0].ssrc != before.sending[0].ssrc);
    // One that comes in addition stands behind the data channel.
    let fourth =
        offer_player(&local(), &[a, of("b", VideoCodec::Vp8), of("c", VideoCodec::Vp9)], Some(&third));
    assert_eq!(fourth.mids().iter().map(|(mid, _)| mid.as_str()).collect::<Vec<_>>(), ["0", "1", "3"]);
    // The answer to the offer before does as well.
    let late = fourth.accept(&answer(&third.sdp, "active")).unwrap();
    assert_eq!(late.sending.len(), 2);
}

#[test]
fn answers_that_do_not_fit_are_refused() {
    let offered = offer_player(&local(), &[h264("42e01f"), opus()], None);
    let good = answer(&offered.sdp, "active");
    assert!(offered.accept(&good.replace("m=audio", "m=video")).is_err());
    assert!(offered.accept(&good.replace("a=mid:0", "a=mid:7").replace("BUNDLE 0", "BUNDLE 7")).is_err());
    assert!(offered.accept(&format!("{good}m=audio 0 UDP/TLS/RTP/SAVPF 0\r\n")).is_err());
    let none = good.replace("m=audio 9", "m=audio 0").replace("m=video 9", "m=video 0");
    assert!(matches!(offered.accept(&none), Err(SdpError::NoCodec(_))));
    let quiet = offered.accept(&good.replace("a=recvonly", "a=inactive")).unwrap();
    assert!(quiet.sending.is_empty() && quiet.data.is_some());
}

#[test]
fn tracks_beyond_the_limit_are_left_out() {
    let many: Vec<Outgoing> = (0..200).map(|n| of(&format!("s{n}"), VideoCodec::Vp8)).collect();
    let offered = offer_player(&local(), &many, None);
    assert_eq!((offered.mids().len(), offered.sdp.matches("\r\nm=").count()), (63, 64));
    assert!(offered.sdp.len() < LONGEST);
    assert_eq!(offered.accept(&answer(&offered.sdp, "active")).unwrap().sending.len(), 63);
}

#[test]
fn fragments() {
    let text = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
                a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw\r\n\
                a=candidate:3471623853 1 udp 2122194687 4b9b.local 61765 typ host\r\na=end-of-candidates\r\n";
    let f = fragment::Fragment::parse(text).unwrap();
    assert_eq!((f.candidates, f.ended, f.ice.map(|i| i.ufrag)), (2, true, Some("EsAw".to_owned())));
    for bad in [
        "a=ice-ufrag:EsAw\r\n",
        "a=ice-ufrag:EsAw\r\na=ice-pwd:short\r\n",
        "a=candidate:1 1 udp\r\n",
        "a=candidate:1 1 udp x 192.0.2.1 1 typ host\r\n",
        "hello",
        &"a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n".repeat(257),
        &"a=x\r\n".repeat(20_000),
    ] {
        assert!(fragment::Fragment::parse(bad).is_err(), "{bad:.60}");
    }
    let ours = fragment::restart(&local(), true, "1");
    let back = fragment::Fragment::parse(&ours).unwrap();
    assert_eq!((back.candidates, back.ended, back.ice), (3, true, Some(local().ice)));
}

proptest! {
    #[test]
    fn anything_is_survived(text in ".{0,400}") {
        let _ = answer_publisher(&text, &local(), &takes());
        let _ = fragment::Fragment::parse(&text);
    }

    /// Offers that are cut, doubled and changed: whatever is answered has the offer's sections, and can be read.
    #[test]
    fn mangled_offers(edits in prop::collection::vec((any::<u16>(), 0u8..5, "[ -~]{0,12}"), 0..12)) {
        let layers = "a=rid:h send\na=simulcast:send h\na=ssrc-group:FID 7 8\na=ssrc:7 c:x\n";
        let offer = chromium("sendrecv", "sendrecv", layers);
        let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
        for (at, how, text) in edits {
            let at = usize::from(at) % lines.len().max(1);
            match how {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, text),
                2 => lines[at].push_str(&text),
                3 => { let line = lines[at].clone(); lines.push(line) }
                _ => lines.swap(at, 0),
            }
            if lines.is_empty() { break }
        }
        let text = lines.join("\r\n");
        let sections = lines.iter().filter(|l| l.starts_with("m=")).count();
        let tracks = [h264("42e01f"), opus()];
        let both = [answer_publisher(&text, &local(), &takes()), answer_player(&text, &local(), &tracks)];
        for answered in both.into_iter().flatten() {
            prop_assert_eq!(answered.sdp.matches("\r\nm=").count(), sections);
            prop_assert!(text::Description::parse(&answered.sdp).is_ok());
            prop_assert!(answered.agreed.receiving.iter().all(|r| r.payloads.len() == 1));
        }
        let _ = offer_player(&local(), &tracks, None).accept(&text);
    }
}

/// An agreement on these sections, for tests elsewhere.
pub(crate) fn agreed(sending: Vec<crate::agreed::Sending>) -> Agreed {
    let offer = chromium("sendonly", "sendonly", "");
    Agreed { sending, receiving: Vec::new(), ..answer_publisher(&offer, &local(), &takes()).unwrap().agreed }
}

/// An offer as a browser that publishes makes it, for tests elsewhere.
pub(crate) fn offer() -> String {
    chromium("sendonly", "sendonly", "")
}

#[test]
fn a_source_is_asked_for_any_codec_and_a_server_like_this_one_answers_with_its_own() {
    let asked = offer_source(&caller(), &takes());
    for wanted in ["a=recvonly", "a=setup:actpass", "a=group:BUNDLE 0 1", "a=rtpmap:96 VP8/90000"] {
        assert!(has(&asked.sdp, wanted), "no {wanted} in {}", asked.sdp);
    }
    assert!(!asked.sdp.contains("ice-lite") && !asked.sdp.contains("m=application"));
    assert_eq!(candidates(&asked.sdp).unwrap(), caller().udp);
    let answered = answer_player(&asked.sdp, &local(), &[h264("64001f"), opus()]).unwrap();
    let agreed = asked.accept(&answered.sdp).unwrap();
    assert_eq!(agreed.remote.role, DtlsRole::Client);
    assert_eq!(agreed.remote.ice, local().ice);
    let [video, sound] = &agreed.receiving[..] else { panic!("{agreed:?}") };
    assert_eq!((video.mid.as_str(), video.payloads[0].pt, video.payloads[0].rtx), ("0", 108, Some(109)));
    let sending = &answered.agreed.sending;
    assert_eq!(video.ssrcs, [(sending[0].ssrc, sending[0].rtx_ssrc)]);
    assert_eq!((sound.payloads[0].codec, sound.video), (Codec::Audio(AudioCodec::Opus), false));
    assert_eq!((video.extensions.transport_cc, agreed.data), (Some(3), None));
    let there: Vec<String> = candidates(&answered.sdp).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(there, ["[2001:db8::1]:5004", "192.0.2.1:5004"], "the best first, and none over TCP");
}

#[test]
fn a_source_without_sound_or_without_anything_is_taken_for_what_it_is() {
    let asked = offer_source(&caller(), &takes());
    let silent = answer_player(&asked.sdp, &local(), &[of("cam1", VideoCodec::Vp9)]).unwrap();
    let agreed = asked.accept(&silent.sdp).unwrap();
    assert_eq!(agreed.receiving.len(), 1);
    assert_eq!(agreed.receiving[0].payloads[0].codec, Codec::Video(VideoCodec::Vp9));
    let nothing = silent.sdp.replace("a=sendonly", "a=inactive");
    assert!(matches!(asked.accept(&nothing), Err(SdpError::NoCodec(_))));
    let swapped = silent.sdp.replace("a=mid:0", "a=mid:7").replace("BUNDLE 0", "BUNDLE 7");
    assert!(asked.accept(&swapped).unwrap_err().to_string().contains("section 0"));
    let more = format!("{}m=audio 0 UDP/TLS/RTP/SAVPF 0\r\n", silent.sdp);
    assert!(asked.accept(&more).unwrap_err().to_string().contains("more media sections"));
    for garbage in ["", "hello", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"] {
        assert!(asked.accept(garbage).is_err(), "{garbage}");
    }
}

#[test]
fn a_target_is_offered_the_tracks_alone() {
    let offered = offer_target(&caller(), &[h264("42e01f"), opus()]);
    assert!(!offered.sdp.contains("ice-lite") && !offered.sdp.contains("m=application"));
    let answered = answer_publisher(&offered.sdp, &local(), &takes()).unwrap();
    let agreed = offered.accept(&answered.sdp).unwrap();
    assert_eq!(agreed.sending.len(), 2);
    let ssrcs: Vec<u32> = answered.agreed.receiving.iter().map(|r| r.ssrcs[0].0).collect();
    assert_eq!(ssrcs, [agreed.sending[0].ssrc, agreed.sending[1].ssrc]);
    let refuses = answered.sdp.replace("a=recvonly", "a=inactive");
    assert_eq!(offered.accept(&refuses).unwrap().sending, []);
}

#[test]
fn candidates_that_cannot_be_called_are_left_out() {
    let with = |lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| format!("a=candidate:{line}\r\n")).collect();
        candidates(&format!("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n{}", lines.concat())).unwrap()
    };
    assert_eq!(
        with(&[
            "1 1 udp 1 192.0.2.1 1000 typ host",
            "2 1 UDP 9 2001:db8::1 1001 typ srflx raddr 0.0.0.0 rport 9",
            "1 1 udp 1 192.0.2.1 1000 typ host",
            "3 1 tcp 99 192.0.2.1 1000 typ host tcptype passive",
            "4 2 udp 99 192.0.2.1 1002 typ host",
            "5 1 udp 99 0a1b.local 1003 typ host",
            "6 1 udp 99 192.0.2.1 0 typ host",
            "7 1 udp 99 0.0.0.0 9 typ host",
            "8 1 udp 99 239.0.0.1 9 typ host",
            "9 1 udp many 192.0.2.1 9 typ host",
            "short",
        ]),
        ["[2001:db8::1]:1001", "192.0.2.1:1000"].map(|text| text.parse::<SocketAddr>().unwrap())
    );
    let many: Vec<String> = (1..100).map(|n| format!("{n} 1 udp {n} 192.0.2.1 {n} typ host")).collect();
    assert_eq!(with(&many.iter().map(String::as_str).collect::<Vec<_>>()).len(), 16);
    assert!(candidates("v=0").is_err());
}
