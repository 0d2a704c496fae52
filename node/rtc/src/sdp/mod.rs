//! Offers and answers (RFC 8829, RFC 8866): what the other side wrote, what we write, and what both agreed on.

use std::net::SocketAddr;

use sluice_media::{AudioCodec, VideoCodec};

use crate::agreed::{Agreed, Fingerprint, IceCredentials};

/// What we bring to any description.
#[derive(Clone, Debug)]
pub struct Local {
    /// Our ICE credentials.
    pub ice: IceCredentials,
    /// Our certificate's hash.
    pub fingerprint: Fingerprint,
    /// Our host candidates over UDP.
    pub udp: Vec<SocketAddr>,
    /// Our host candidates over TCP (passive).
    pub tcp: Vec<SocketAddr>,
    /// The seed for SSRCs and the like.
    pub seed: u64,
}

/// A track that we would send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What it is called: `a=msid:<stream> ARDAMSv<name>` or `ARDAMSa<name>`, as AMS's clients want it.
    pub name: String,
    /// Video or audio, in the codec that the stream has.
    pub codec: crate::agreed::Codec,
    /// H.264: the profile and level of the source, such as `42e01f`.
    pub profile: Option<String>,
}

/// What is taken from publishers, the preferred first.
#[derive(Clone, Debug)]
pub struct Takes {
    /// Video codecs.
    pub video: Vec<VideoCodec>,
    /// Audio codecs.
    pub audio: Vec<AudioCodec>,
    /// The most simulcast layers.
    pub layers: usize,
}

/// Why a description cannot be used. The text goes to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// It is no SDP, or lacks what WebRTC needs.
    #[error("the session description cannot be used: {0}")]
    Unusable(String),
    /// None of its codecs is one of ours.
    #[error("no codec in common: {0}")]
    NoCodec(String),
}

/// A description of ours together with what follows from it.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The SDP to send.
    pub sdp: String,
    /// What was agreed on.
    pub agreed: Agreed,
}

/// An offer of ours that waits for its answer. Kept for the whole session: later offers keep its mids and SSRCs.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The SDP to send.
    pub sdp: String,
}

/// Answers the offer of one who publishes.
///
/// # Errors
/// [`SdpError`].
pub fn answer_publisher(offer: &str, local: &Local, takes: &Takes) -> Result<Answered, SdpError> {
    let _ = (offer, local, takes);
    Err(SdpError::Unusable("not yet".into()))
}

/// Answers the offer of one who plays (WHEP): each track goes to the first fitting section.
///
/// # Errors
/// [`SdpError`].
pub fn answer_player(offer: &str, local: &Local, tracks: &[Outgoing]) -> Result<Answered, SdpError> {
    let _ = (offer, local, tracks);
    Err(SdpError::Unusable("not yet".into()))
}

/// Offers tracks to one who plays (AMS), with a data channel. `before` is the offer of the same session that was made last:
/// its sections stay where they are; tracks that are gone become inactive (RFC 8829, 5.2.2).
pub fn offer_player(local: &Local, tracks: &[Outgoing], before: Option<&Offered>) -> Offered {
    let _ = (local, tracks, before);
    Offered { sdp: String::new() }
}

impl Offered {
    /// What was agreed on, given the answer.
    ///
    /// # Errors
    /// [`SdpError`].
    pub fn accept(&self, answer: &str) -> Result<Agreed, SdpError> {
        Err(SdpError::Unusable(answer.into()))
    }
}
