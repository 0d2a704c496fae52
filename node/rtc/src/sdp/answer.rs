//! Answers to offers.

use super::codec::{is_video, name, payload, to_receive, to_send};
use super::media::{Direction, Format, Kind, Media};
use super::text::unusable;
use super::transport::{Remote, Wrote};
use super::write::{Rtp, Source, Ssrcs, Writer, fmtp_of_answer, track_id};
use super::{Answered, Local, Outgoing, SdpError, Takes};
use crate::agreed::{Agreed, Codec, DtlsRole, Extensions, Payload, Receiving, Sending};

/// What becomes of a section.
enum Plan<'a> {
    Reject,
    Data,
    Rtp(Rtp<'a>),
}

/// The largest header extension id of the one-byte form (RFC 8285), which is what we write.
const LARGEST_WRITTEN_ID: u8 = 14;

/// See [`answer_publisher`](super::answer_publisher).
pub(super) fn publisher(offer: &str, local: &Local, takes: &Takes) -> Result<Answered, SdpError> {
    let remote = Remote::read(offer, Wrote::Offer)?;
    let mut receiving: Vec<Receiving> = Vec::new();
    let mut channels = None;
    let mut plans = Vec::new();
    for (nth, (media, bundled)) in remote.sections.iter().zip(&remote.bundled).enumerate() {
        let video = media.kind == Kind::Video;
        let codecs: Vec<Codec> = if video {
            takes.video.iter().map(|codec| Codec::Video(*codec)).collect()
        } else {
            takes.audio.iter().map(|codec| Codec::Audio(*codec)).collect()
        };
        plans.push(match media.kind {
            _ if !bundled => Plan::Reject,
            Kind::Other => Plan::Reject,
            Kind::Data if data(media, &mut channels) => Plan::Data,
            Kind::Data => Plan::Reject,
            Kind::Audio | Kind::Video => {
                let found = codecs.iter().find_map(|c| to_receive(media, *c).map(|f| (*c, f)));
                let Some((codec, format)) = found else {
                    plans.push(Plan::Reject);
                    continue;
                };
                let payload = payload(media, format, codec);
                let extensions = extensions(media, format, false);
                let layers = if extensions.rid.is_some() && takes.layers > 1 { takes.layers } else { 0 };
                let rids: Vec<&str> = media.rids.iter().copied().take(layers).collect();
                // One of a kind makes the stream.
                let taken = media.direction.sends() && !receiving.iter().any(|r| r.video == video);
                if taken {
                    receiving.push(Receiving {
                        mid: mid(media, nth),
                        video,
                        payloads: vec![payload.clone()],
                        extensions,
                        ssrcs: media.ssrcs.clone(),
                        rids: rids.iter().map(|rid| (*rid).to_owned()).collect(),
                    });
                }
                let direction = if taken { Direction::RecvOnly } else { Direction::Inactive };
                let rids = if taken { rids } else { Vec::new() };
                Plan::Rtp(section(media, direction, payload, format, extensions, rids, None))
            }
        });
    }
    if receiving.is_empty() {
        let sent: Vec<&Media<'_>> =
            remote.sections.iter().filter(|m| m.live && m.direction.sends()).collect();
        let names: Vec<&str> = sent.iter().flat_map(|m| m.names()).collect();
        if !names.is_empty() {
            let video = takes.video.iter().map(|v| v.name());
            let taken: Vec<&str> = video.chain(takes.audio.iter().map(|a| a.name())).collect();
            return Err(SdpError::NoCodec(format!(
                "the client would send {}, and what is taken here is {}",
                list(&names),
                list(&taken)
            )));
        }
        if channels.is_none() {
            return Err(unusable("it sends neither audio nor video"));
        }
    }
    let sdp = write(&remote, local, &plans);
    Ok(Answered {
        sdp,
        agreed: Agreed { remote: remote.transport, receiving, sending: Vec::new(), data: channels },
    })
}

/// See [`answer_player`](super::answer_player).
pub(super) fn player(offer: &str, local: &Local, tracks: &[Outgoing]) -> Result<Answered, SdpError> {
    let remote = Remote::read(offer, Wrote::Offer)?;
    let mut sending: Vec<Sending> = Vec::new();
    let mut ssrcs = Ssrcs::new(local.seed);
    let mut channels = None;
    let mut plans = Vec::new();
    for (nth, (media, bundled)) in remote.sections.iter().zip(&remote.bundled).enumerate() {
        let video = media.kind == Kind::Video;
        plans.push(match media.kind {
            _ if !bundled => Plan::Reject,
            Kind::Other => Plan::Reject,
            Kind::Data if data(media, &mut channels) => Plan::Data,
            Kind::Data => Plan::Reject,
            Kind::Audio | Kind::Video => {
                let found = tracks.iter().enumerate().find_map(|(index, track)| {
                    let free = !sending.iter().any(|s| s.track == index);
                    let fits = media.direction.receives() && is_video(track.codec) == video && free;
                    let format = to_send(media, track.codec, track.profile.as_deref()).filter(|_| fits)?;
                    Some((index, track, format))
                });
                match found {
                    Some((index, track, format)) => {
                        let payload = payload(media, format, track.codec);
                        let extensions = extensions(media, format, true);
                        let ssrc = ssrcs.draw();
                        let rtx_ssrc = payload.rtx.map(|_| ssrcs.draw());
                        sending.push(Sending {
                            mid: mid(media, nth),
                            video,
                            track: index,
                            payload: payload.clone(),
                            extensions,
                            ssrc,
                            rtx_ssrc,
                        });
                        let track = Source {
                            stream: &track.name,
                            track: track_id(video, &track.name),
                            ssrc,
                            rtx_ssrc,
                        };
                        let direction = Direction::SendOnly;
                        Plan::Rtp(section(
                            media,
                            direction,
                            payload,
                            format,
                            extensions,
                            Vec::new(),
                            Some(track),
                        ))
                    }
                    None => idle(media),
                }
            }
        });
    }
    let unsent = |t: usize| !sending.iter().any(|s| s.track == t);
    let wants = |video: bool| {
        let kind = if video { Kind::Video } else { Kind::Audio };
        let sections = remote.sections.iter().zip(&remote.bundled);
        sections.filter(move |(m, on)| **on && m.kind == kind && m.direction.receives()).map(|(m, _)| m)
    };
    // A picture that cannot be shown is worth a sentence; sound without it is not what was asked for.
    let lost = tracks.iter().enumerate().find(|(i, t)| {
        let video = is_video(t.codec);
        unsent(*i) && video && wants(true).count() > 0 && !sending.iter().any(|s| s.video)
    });
    if lost.is_some() || (sending.is_empty() && !tracks.is_empty()) {
        let has: Vec<&str> = tracks.iter().map(|t| name(t.codec)).collect();
        let offered: Vec<&str> = wants(true).chain(wants(false)).flat_map(|m| m.names()).collect();
        let offered = if offered.is_empty() { "nothing".to_owned() } else { list(&offered) };
        return Err(SdpError::NoCodec(format!(
            "the stream has {}, and the client would receive {offered}",
            list(&has)
        )));
    }
    if sending.is_empty() {
        return Err(SdpError::NoCodec("the stream has no track that can be sent over WebRTC".into()));
    }
    let sdp = write(&remote, local, &plans);
    Ok(Answered {
        sdp,
        agreed: Agreed { remote: remote.transport, receiving: Vec::new(), sending, data: channels },
    })
}

/// See [`check_player`](super::check_player).
pub(super) fn check_player(offer: &str) -> Result<(), SdpError> {
    let remote = Remote::read(offer, Wrote::Offer)?;
    let mut sections = remote.sections.iter().zip(&remote.bundled);
    let receives = sections.any(|(media, on)| {
        *on && matches!(media.kind, Kind::Audio | Kind::Video) && media.direction.receives()
    });
    if receives { Ok(()) } else { Err(unusable("it would receive neither audio nor video")) }
}

/// The name of a section; where it has none, its place.
fn mid(media: &Media<'_>, nth: usize) -> String {
    media.mid.map_or_else(|| nth.to_string(), str::to_owned)
}

/// Takes the first section for data channels; false when it cannot be used.
pub(super) fn data(media: &Media<'_>, taken: &mut Option<usize>) -> bool {
    let takes = taken.is_none() && media.message.is_some();
    if takes {
        *taken = media.message;
    }
    takes
}

/// A section that is kept for later: with the first format that we know, in neither direction.
fn idle<'a>(media: &Media<'a>) -> Plan<'a> {
    use sluice_media::{AudioCodec, VideoCodec};
    let known = [
        Codec::Audio(AudioCodec::Opus),
        Codec::Video(VideoCodec::H264),
        Codec::Video(VideoCodec::Vp8),
        Codec::Video(VideoCodec::Vp9),
        Codec::Video(VideoCodec::Hevc),
        Codec::Video(VideoCodec::Av1),
    ];
    let fits = |codec: &&Codec| is_video(**codec) == (media.kind == Kind::Video);
    let found = known.iter().filter(fits).find_map(|c| to_receive(media, *c).map(|f| (*c, f)));
    let Some((codec, format)) = found else { return Plan::Reject };
    let extensions = extensions(media, format, true);
    let payload = payload(media, format, codec);
    Plan::Rtp(section(media, Direction::Inactive, payload, format, extensions, Vec::new(), None))
}

/// The header extensions that are used with a format.
pub(super) fn extensions(media: &Media<'_>, format: &Format<'_>, send: bool) -> Extensions {
    let mut ours = media.extensions;
    if !format.feedback.transport_cc {
        ours.transport_cc = None;
    }
    if send || media.rids.is_empty() {
        (ours.rid, ours.repaired_rid) = (None, None);
    }
    if send {
        // We send neither, and write the one-byte form only.
        (ours.audio_level, ours.orientation) = (None, None);
        for id in super::media::slots(&mut ours) {
            *id = id.filter(|id| *id <= LARGEST_WRITTEN_ID);
        }
    }
    ours
}

fn section<'a>(
    media: &Media<'a>,
    direction: Direction,
    payload: Payload,
    format: &Format<'_>,
    extensions: Extensions,
    rids: Vec<&'a str>,
    source: Option<Source<'a>>,
) -> Rtp<'a> {
    let fmtp = fmtp_of_answer(payload.codec, &payload.fmtp);
    let mut feedback = format.feedback;
    feedback.transport_cc &= extensions.transport_cc.is_some();
    Rtp {
        mid: media.mid,
        proto: media.proto,
        direction,
        formats: vec![(Payload { fmtp, ..payload }, feedback)],
        extensions,
        allow_mixed: media.allow_mixed,
        rtcp_rsize: media.rtcp_rsize,
        rids,
        source,
    }
}

fn write(remote: &Remote<'_>, local: &Local, plans: &[Plan<'_>]) -> String {
    let used = remote.sections.iter().zip(plans).filter(|(_, plan)| !matches!(plan, Plan::Reject));
    let mids: Vec<&str> = used.filter_map(|(media, _)| media.mid).collect();
    let setup = match remote.transport.role {
        DtlsRole::Client => "active",
        DtlsRole::Server => "passive",
    };
    let mids = remote.names_bundle.then_some(mids.as_slice());
    let mut w = Writer::new(local, setup, mids, remote.allow_mixed);
    for (media, plan) in remote.sections.iter().zip(plans) {
        match plan {
            Plan::Reject => w.rejected(media.word, media.proto, media.first_format, media.mid),
            Plan::Data => w.data(media.proto, media.mid),
            Plan::Rtp(rtp) => w.rtp(rtp),
        }
    }
    w.finish()
}

/// Names without repetition, with commas.
fn list(names: &[&str]) -> String {
    let mut once: Vec<&str> = Vec::new();
    for name in names {
        let name = if name.len() > 20 { "another" } else { name };
        if !once.contains(&name) && once.len() < 12 {
            once.push(name);
        }
    }
    once.join(", ")
}
