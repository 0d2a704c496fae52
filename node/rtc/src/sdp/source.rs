//! Offers to servers that play (WHEP), and the answers to them.

use super::answer::extensions;
use super::codec::{carries, payload};
use super::media::{Direction, Kind};
use super::offer::{EXTENSIONS, formats_of};
use super::text::unusable;
use super::transport::{Remote, Wrote};
use super::write::{Rtp, Writer};
use super::{Asked, Local, SdpError, Takes};
use crate::agreed::{Agreed, Codec, Receiving};

/// The profiles of H.264 that are asked for: what is sent is passed on, so any will do.
const PROFILES: [&str; 4] = ["42e01f", "42001f", "4d001f", "64001f"];

/// See [`offer_source`](super::offer_source).
pub(super) fn ask(local: &Local, takes: &Takes) -> Asked {
    let sections = sections(takes);
    let mids: Vec<String> = (0..sections.len()).map(|mid| mid.to_string()).collect();
    let bundle: Vec<&str> = mids.iter().map(String::as_str).collect();
    let mut w = Writer::new(local, "actpass", Some(&bundle), true);
    for ((_, codecs), mid) in sections.iter().zip(&bundle) {
        w.rtp(&Rtp {
            mid: Some(mid),
            proto: "UDP/TLS/RTP/SAVPF",
            direction: Direction::RecvOnly,
            formats: codecs.iter().flat_map(|codec| formats_of(*codec, &PROFILES)).collect(),
            extensions: EXTENSIONS,
            allow_mixed: false,
            rtcp_rsize: true,
            rids: Vec::new(),
            source: None,
        });
    }
    Asked { sdp: w.finish(), takes: takes.clone() }
}

/// The sections of the offer, each with its codecs.
fn sections(takes: &Takes) -> Vec<(Kind, Vec<Codec>)> {
    let video = takes.video.iter().map(|codec| Codec::Video(*codec)).collect();
    let audio = takes.audio.iter().map(|codec| Codec::Audio(*codec)).collect();
    [(Kind::Video, video), (Kind::Audio, audio)]
        .into_iter()
        .filter(|(_, codecs): &(_, Vec<_>)| !codecs.is_empty())
        .collect()
}

/// See [`Asked::accept`](super::Asked::accept).
pub(super) fn accept(takes: &Takes, answer: &str) -> Result<Agreed, SdpError> {
    let remote = Remote::read(answer, Wrote::AnswerToCall)?;
    let offered = sections(takes);
    if remote.sections.len() > offered.len() {
        return Err(unusable("the answer has more media sections than the offer"));
    }
    let mut receiving = Vec::new();
    for (nth, ((media, on), (kind, codecs))) in
        remote.sections.iter().zip(&remote.bundled).zip(&offered).enumerate()
    {
        let mid = nth.to_string();
        if media.kind != *kind || media.mid.is_some_and(|theirs| theirs != mid) {
            return Err(unusable(format!(
                "the answer's media section {nth} is not the one that was offered"
            )));
        }
        if !on || !media.direction.sends() {
            continue;
        }
        let known = media.formats.iter().filter_map(|format| {
            let codec = codecs.iter().find(|codec| carries(format, **codec))?;
            Some((format, payload(media, format, *codec)))
        });
        let (formats, payloads): (Vec<_>, Vec<_>) = known.unzip();
        let Some(first) = formats.first() else { continue };
        receiving.push(Receiving {
            mid,
            video: *kind == Kind::Video,
            payloads,
            extensions: extensions(media, first, false),
            // Several would be layers, which nobody was asked for.
            ssrcs: media.ssrcs.iter().copied().take(1).collect(),
            rids: Vec::new(),
        });
    }
    if receiving.is_empty() {
        return Err(SdpError::NoCodec(
            "the server would send neither video nor sound that is taken here".into(),
        ));
    }
    Ok(Agreed { remote: remote.transport, receiving, sending: Vec::new(), data: None })
}
