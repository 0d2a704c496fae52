//! Offers to those whom we send to, players and servers, and the answers to them.

use sluice_media::VideoCodec;

use super::answer::{data, extensions};
use super::codec::{OPUS_CLOCK, VIDEO_CLOCK, is_video, name, payload, to_send};
use super::h264::Profile;
use super::media::{Direction, Feedback, Kind};
use super::text::{MOST_SECTIONS, unusable};
use super::transport::{Remote, Wrote};
use super::write::{Rtp, Source, Ssrcs, Writer, track_id};
use super::{Local, Outgoing, SdpError};
use crate::agreed::{Agreed, Codec, Extensions, Payload, Sending};

/// The header extensions that we offer.
pub(super) const EXTENSIONS: Extensions = Extensions {
    mid: Some(1),
    rid: None,
    repaired_rid: None,
    transport_cc: Some(3),
    abs_send_time: Some(2),
    audio_level: None,
    orientation: None,
};

/// The state of an offer of ours: see [`Offered`](super::Offered).
#[derive(Clone, Debug)]
pub(super) struct State {
    version: u64,
    sections: Vec<Section>,
    ssrcs: Ssrcs,
    /// Who answers.
    answers: Wrote,
}

/// A section; its mid is its place.
#[derive(Clone, Debug)]
enum Section {
    Data,
    Track(Track),
}

#[derive(Clone, Debug)]
struct Track {
    name: String,
    codec: Codec,
    profile: Option<String>,
    ssrc: u32,
    rtx_ssrc: Option<u32>,
    /// Its index among the tracks that were offered last; `None` while it is inactive.
    index: Option<usize>,
}

impl State {
    /// The state after a first offer, without a data channel.
    pub(super) fn first(local: &Local, tracks: &[Outgoing]) -> Self {
        let mut state = Self::next(local, tracks, None);
        state.sections.retain(|section| !matches!(section, Section::Data));
        state
    }

    /// The state after another offer: `before` with these tracks, and a data channel.
    pub(super) fn next(local: &Local, tracks: &[Outgoing], before: Option<&State>) -> Self {
        let mut state = before.cloned().unwrap_or_else(|| State {
            version: local.version,
            sections: Vec::new(),
            ssrcs: Ssrcs::new(local.seed),
            answers: if local.calls { Wrote::AnswerToCall } else { Wrote::Answer },
        });
        if before.is_some() {
            state.version += 1;
        }
        for section in &mut state.sections {
            if let Section::Track(track) = section {
                track.index = None;
            }
        }
        let mut unplaced = Vec::new();
        for (index, track) in tracks.iter().enumerate() {
            let mut idle = state.idle();
            match idle.find(|old| old.name == track.name && old.codec == track.codec) {
                Some(old) => (old.index, old.profile) = (Some(index), track.profile.clone()),
                None => unplaced.push((index, track)),
            }
        }
        for (index, track) in unplaced {
            let ssrc = state.ssrcs.draw();
            let new = Track {
                name: track.name.clone(),
                codec: track.codec,
                profile: track.profile.clone(),
                ssrc,
                rtx_ssrc: is_video(track.codec).then(|| state.ssrcs.draw()),
                index: Some(index),
            };
            // A section that is not used any more takes another track, or the description would grow for ever.
            // One section is for the data channel.
            let room = state.sections.len() < MOST_SECTIONS - 1;
            if let Some(old) = state.idle().find(|old| is_video(old.codec) == is_video(new.codec)) {
                *old = new;
            } else if room {
                state.sections.push(Section::Track(new));
            }
        }
        if !state.sections.iter().any(|s| matches!(s, Section::Data)) {
            state.sections.push(Section::Data);
        }
        state
    }

    fn idle(&mut self) -> impl Iterator<Item = &mut Track> {
        self.sections.iter_mut().filter_map(|section| match section {
            Section::Track(track) if track.index.is_none() => Some(track),
            _ => None,
        })
    }

    /// For each mid the name of its track.
    pub(super) fn mids(&self) -> Vec<(String, String)> {
        let active = self.sections.iter().enumerate().filter_map(|(mid, section)| match section {
            Section::Track(t) if t.index.is_some() => {
                Some((mid.to_string(), track_id(is_video(t.codec), &t.name)))
            }
            _ => None,
        });
        active.collect()
    }

    /// The offer.
    pub(super) fn write(&self, local: &Local) -> String {
        let local = Local { version: self.version, ..local.clone() };
        let mids: Vec<String> = (0..self.sections.len()).map(|mid| mid.to_string()).collect();
        let bundle: Vec<&str> = mids.iter().map(String::as_str).collect();
        let mut w = Writer::new(&local, "actpass", Some(&bundle), true);
        for (section, mid) in self.sections.iter().zip(&bundle) {
            match section {
                Section::Data => w.data("UDP/DTLS/SCTP", Some(mid)),
                Section::Track(track) => {
                    let source = track.index.map(|_| Source {
                        stream: &track.name,
                        track: track_id(is_video(track.codec), &track.name),
                        ssrc: track.ssrc,
                        rtx_ssrc: track.rtx_ssrc,
                    });
                    w.rtp(&Rtp {
                        mid: Some(mid),
                        proto: "UDP/TLS/RTP/SAVPF",
                        direction: if source.is_some() { Direction::SendOnly } else { Direction::Inactive },
                        formats: formats(track),
                        extensions: EXTENSIONS,
                        allow_mixed: false,
                        rtcp_rsize: true,
                        rids: Vec::new(),
                        source,
                    });
                }
            }
        }
        w.finish()
    }

    /// See [`Offered::accept`](super::Offered::accept).
    pub(super) fn accept(&self, answer: &str) -> Result<Agreed, SdpError> {
        let remote = Remote::read(answer, self.answers)?;
        if remote.sections.len() > self.sections.len() {
            return Err(unusable("the answer has more media sections than the offer"));
        }
        let mut sending = Vec::new();
        let mut message = None;
        let mut kept = 0;
        for (nth, ((media, on), section)) in
            remote.sections.iter().zip(&remote.bundled).zip(&self.sections).enumerate()
        {
            let kind = match section {
                Section::Data => Kind::Data,
                Section::Track(track) if is_video(track.codec) => Kind::Video,
                Section::Track(_) => Kind::Audio,
            };
            let mid = nth.to_string();
            if media.kind != kind || media.mid.is_some_and(|theirs| theirs != mid) {
                return Err(unusable(format!(
                    "the answer's media section {nth} is not the one that was offered"
                )));
            }
            let track = match section {
                _ if !on => continue,
                Section::Data => {
                    data(media, &mut message);
                    continue;
                }
                Section::Track(track) => track,
            };
            kept += usize::from(track.index.is_some());
            let format = to_send(media, track.codec, track.profile.as_deref());
            let (Some(index), Some(format), true) = (track.index, format, media.direction.receives()) else {
                continue;
            };
            let payload = payload(media, format, track.codec);
            sending.push(Sending {
                mid,
                video: kind == Kind::Video,
                track: index,
                extensions: extensions(media, format, true),
                ssrc: track.ssrc,
                rtx_ssrc: track.rtx_ssrc.filter(|_| payload.rtx.is_some()),
                payload,
            });
        }
        let offered: Vec<&str> = self
            .sections
            .iter()
            .filter_map(|s| match s {
                Section::Track(track) => track.index.map(|_| name(track.codec)),
                Section::Data => None,
            })
            .collect();
        if kept == 0 && !offered.is_empty() {
            return Err(SdpError::NoCodec(format!(
                "the stream has {}, and the other side took none",
                offered.join(", ")
            )));
        }
        Ok(Agreed { remote: remote.transport, receiving: Vec::new(), sending, data: message })
    }
}

/// The formats of a track.
fn formats(track: &Track) -> Vec<(Payload, Feedback)> {
    let profiles = match track.codec {
        Codec::Video(VideoCodec::H264) => {
            // All browsers know constrained baseline; their decoders take more than they name.
            let own = Profile::of(track.profile.as_deref()).to_offer();
            if own == "42e01f" { vec![own] } else { vec![own, "42e01f"] }
        }
        _ => Vec::new(),
    };
    formats_of(track.codec, &profiles)
}

/// The formats of a codec, H.264 in these profiles; each payload type with one meaning in all sections, as BUNDLE wants it.
pub(super) fn formats_of(codec: Codec, profiles: &[&str]) -> Vec<(Payload, Feedback)> {
    let format = |pt: u8, rtx: Option<u8>, fmtp: &str| {
        let video = rtx.is_some();
        let clock = if video { VIDEO_CLOCK } else { OPUS_CLOCK };
        let feedback = Feedback { nack: video, pli: video, fir: video, transport_cc: true, remb: video };
        (Payload { pt, rtx, codec, clock, fmtp: fmtp.to_owned() }, feedback)
    };
    match codec {
        Codec::Audio(_) => vec![format(111, None, "minptime=10;useinbandfec=1;sprop-stereo=1")],
        Codec::Video(VideoCodec::Vp8) => vec![format(96, Some(97), "")],
        Codec::Video(VideoCodec::Vp9) => vec![format(98, Some(99), "profile-id=0")],
        Codec::Video(VideoCodec::Av1) => vec![format(100, Some(101), "level-idx=13;profile=0;tier=0")],
        Codec::Video(VideoCodec::Hevc) => {
            vec![format(112, Some(113), "level-id=153;profile-id=1;tier-flag=0;tx-mode=SRST")]
        }
        Codec::Video(VideoCodec::H264) => {
            let h264 = |profile: &&str| {
                let (pt, rtx) = match *profile {
                    "42e01f" => (102, 103),
                    "42001f" => (104, 105),
                    "4d001f" => (106, 107),
                    _ => (108, 109),
                };
                let fmtp =
                    format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile}");
                format(pt, Some(rtx), &fmtp)
            };
            profiles.iter().map(h264).collect()
        }
    }
}
