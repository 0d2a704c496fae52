//! Which formats carry our codecs, and which of several is taken.

use sluice_media::{AudioCodec, VideoCodec};

use super::h264;
use super::media::{Format, Media};
use crate::agreed::{Codec, Payload};

/// The RTP clock of video, in Hz.
pub(super) const VIDEO_CLOCK: u32 = 90_000;
/// The RTP clock of Opus, in Hz.
pub(super) const OPUS_CLOCK: u32 = 48_000;

/// What a codec is called, for error texts.
pub(super) fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::Video(v) => v.name(),
        Codec::Audio(a) => a.name(),
    }
}

/// Whether a codec is video.
pub(super) fn is_video(codec: Codec) -> bool {
    matches!(codec, Codec::Video(_))
}

/// Whether a format carries a codec in a way that we can read.
pub(super) fn carries(format: &Format<'_>, codec: Codec) -> bool {
    let named = |name: &str, clock: u32| format.name.eq_ignore_ascii_case(name) && format.clock == clock;
    let zero = |key: &str| format.parameter(key).is_none_or(|value| value == "0");
    match codec {
        Codec::Audio(AudioCodec::Opus) => named("opus", OPUS_CLOCK) && format.channels == 2,
        Codec::Audio(_) => false,
        Codec::Video(VideoCodec::H264) => {
            // Mode 2 interleaves (RFC 6184, 6.4); nobody uses it.
            named("H264", VIDEO_CLOCK)
                && matches!(format.parameter("packetization-mode"), None | Some("0" | "1"))
        }
        Codec::Video(VideoCodec::Hevc) => {
            let single = |key| format.parameter(key).is_none_or(|value| value.eq_ignore_ascii_case("SRST"));
            named("H265", VIDEO_CLOCK) && single("tx-mode")
        }
        Codec::Video(VideoCodec::Vp8) => named("VP8", VIDEO_CLOCK),
        Codec::Video(VideoCodec::Vp9) => named("VP9", VIDEO_CLOCK) && zero("profile-id"),
        Codec::Video(VideoCodec::Av1) => named("AV1", VIDEO_CLOCK) && zero("profile"),
    }
}

/// The format in which we take a codec: the first one; of H.264, the first in which a NAL unit may span packets.
pub(super) fn to_receive<'m, 'a>(media: &'m Media<'a>, codec: Codec) -> Option<&'m Format<'a>> {
    media.formats.iter().filter(|f| carries(f, codec)).min_by_key(|f| {
        codec == Codec::Video(VideoCodec::H264) && f.parameter("packetization-mode") != Some("1")
    })
}

/// The format in which we send a codec. Of those of H.264 one with packetization-mode=1, and of several the one of the nearest
/// profile: decoders take what encoders make, whatever profile they name. Without such a mode we send as if there were:
/// pictures do not fit into single packets, and whoever does not name the mode takes fragments all the same.
pub(super) fn to_send<'m, 'a>(
    media: &'m Media<'a>,
    codec: Codec,
    profile: Option<&str>,
) -> Option<&'m Format<'a>> {
    let usable = media.formats.iter().filter(|f| carries(f, codec));
    if codec != Codec::Video(VideoCodec::H264) {
        return usable.into_iter().next();
    }
    let source = h264::Profile::of(profile);
    usable.min_by_key(|f| {
        let distance = source.distance(h264::Profile::of(f.parameter("profile-level-id")));
        (f.parameter("packetization-mode") != Some("1"), distance)
    })
}

/// What was agreed on about a format.
pub(super) fn payload(media: &Media<'_>, format: &Format<'_>, codec: Codec) -> Payload {
    Payload {
        pt: format.pt,
        rtx: if is_video(codec) { media.rtx(format.pt) } else { None },
        codec,
        clock: format.clock,
        fmtp: format.fmtp.to_owned(),
    }
}
