//! What two descriptions agreed on: all that the media path needs to know of SDP.

use sluice_media::{AudioCodec, VideoCodec};

/// A user fragment and password (RFC 8445, 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// The user fragment.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceCredentials({})", self.ufrag)
    }
}

/// The hash of a certificate (`a=fingerprint`, RFC 8122). Only SHA-256 is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// Which side opens the DTLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// We do (`a=setup:active`).
    Client,
    /// The other side does (`a=setup:passive`).
    Server,
}

/// The other side of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteTransport {
    /// Its ICE credentials.
    pub ice: IceCredentials,
    /// Its certificate's hash.
    pub fingerprint: Fingerprint,
    /// Our role.
    pub role: DtlsRole,
}

/// A codec of a media section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Video.
    Video(VideoCodec),
    /// Audio. Only Opus is carried over WebRTC.
    Audio(AudioCodec),
}

/// A payload format that both sides know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Its payload type.
    pub pt: u8,
    /// Its retransmissions' payload type (RFC 4588).
    pub rtx: Option<u8>,
    /// What it carries.
    pub codec: Codec,
    /// RTP clock, in Hz: 90000 for video, 48000 for Opus.
    pub clock: u32,
    /// The format parameters that the other side gave, such as `packetization-mode=1;profile-level-id=42e01f`.
    pub fmtp: String,
}

/// Ids of the header extensions that both sides know (RFC 8285); `None` where not agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    pub repaired_rid: Option<u8>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    pub transport_cc: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`
    pub abs_send_time: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`
    pub audio_level: Option<u8>,
    /// `urn:3gpp:video-orientation`
    pub orientation: Option<u8>,
}

/// A media section that the other side sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiving {
    /// Its name in the descriptions.
    pub mid: String,
    /// Whether it is video.
    pub video: bool,
    /// The formats, the preferred one first; never empty.
    pub payloads: Vec<Payload>,
    /// Header extensions.
    pub extensions: Extensions,
    /// SSRCs that were announced: media, and its retransmissions'.
    pub ssrcs: Vec<(u32, Option<u32>)>,
    /// Simulcast layers by rid, in the order of the description; empty without simulcast.
    pub rids: Vec<String>,
}

/// A media section that we send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Its name in the descriptions.
    pub mid: String,
    /// Whether it is video.
    pub video: bool,
    /// The index of the track that was asked to be sent, see [`Outgoing`](crate::sdp::Outgoing). In what a session is opened
    /// with it tells feed and kind: twice the index of the feed, and one more for sound.
    pub track: usize,
    /// The format.
    pub payload: Payload,
    /// Header extensions.
    pub extensions: Extensions,
    /// Our SSRC.
    pub ssrc: u32,
    /// Our SSRC for retransmissions.
    pub rtx_ssrc: Option<u32>,
}

/// All that was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The other side of the transport.
    pub remote: RemoteTransport,
    /// What it sends.
    pub receiving: Vec<Receiving>,
    /// What we send.
    pub sending: Vec<Sending>,
    /// Whether there is an SCTP association for data channels, and the largest message that the other side takes, in bytes.
    pub data: Option<usize>,
}
