//! Offers and answers (RFC 8829, RFC 8866): what the other side wrote, what we write, and what both agreed on.

mod answer;
mod candidate;
mod codec;
pub mod fragment;
mod h264;
mod media;
mod offer;
mod source;
mod text;
mod transport;
mod write;

#[cfg(test)]
mod interop;
#[cfg(test)]
pub(crate) mod tests;

use std::net::SocketAddr;

use sluice_media::{AudioCodec, VideoCodec};

use crate::agreed::{Agreed, Fingerprint, IceCredentials};

pub(crate) use text::LONGEST;

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
    /// Of the description (`o=`): 0, and one more with each later answer of the same session.
    pub version: u64,
    /// Whether it is us who call, and check the ways to the other side (ICE as the controlling side); else we are ICE-lite.
    pub calls: bool,
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
    state: offer::State,
}

/// Answers the offer of one who publishes: one section of video and one of audio are taken, each in the first codec of
/// `takes` that the offer has. Another offer of the same session is answered the same way with the same `local`, its
/// version raised (and other ICE credentials after a restart).
///
/// # Errors
/// [`SdpError`].
pub fn answer_publisher(offer: &str, local: &Local, takes: &Takes) -> Result<Answered, SdpError> {
    answer::publisher(offer, local, takes)
}

/// Answers the offer of one who plays (WHEP): each track goes to the first fitting section, other sections stay inactive.
///
/// # Errors
/// [`SdpError`]; also when the stream has video, and the client would show video, but has no codec for this one.
pub fn answer_player(offer: &str, local: &Local, tracks: &[Outgoing]) -> Result<Answered, SdpError> {
    answer::player(offer, local, tracks)
}

/// Whether the offer of one who plays can be used at all, whatever the stream has.
///
/// # Errors
/// [`SdpError::Unusable`].
pub fn check_player(offer: &str) -> Result<(), SdpError> {
    answer::check_player(offer)
}

/// Offers tracks to one who plays (AMS), with a data channel. `before` is the offer of the same session that was made last:
/// its sections stay where they are; tracks that are gone become inactive (RFC 8829, 5.2.2), and their sections go to the
/// next new ones. Tracks beyond 63 sections are not offered.
pub fn offer_player(local: &Local, tracks: &[Outgoing], before: Option<&Offered>) -> Offered {
    let state = offer::State::next(local, tracks, before.map(|offered| &offered.state));
    Offered { sdp: state.write(local), state }
}

/// Offers to take from a server that plays (WHEP): one section of video and one of sound, in any of these codecs.
pub fn offer_source(local: &Local, takes: &Takes) -> Asked {
    source::ask(local, takes)
}

/// Offers tracks to a server that is published to (WHIP), without a data channel.
pub fn offer_target(local: &Local, tracks: &[Outgoing]) -> Offered {
    let state = offer::State::first(local, tracks);
    Offered { sdp: state.write(local), state }
}

/// The addresses over UDP that a description gives for its side (`a=candidate`, RFC 8839), the preferred first. Names are left out:
/// nobody here looks them up.
///
/// # Errors
/// [`SdpError::Unusable`].
pub fn candidates(description: &str) -> Result<Vec<SocketAddr>, SdpError> {
    candidate::addresses(description)
}

/// An offer of ours to a server that plays, which waits for its answer.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The SDP to send.
    pub sdp: String,
    takes: Takes,
}

impl Asked {
    /// What was agreed on, given the answer.
    ///
    /// # Errors
    /// [`SdpError`].
    pub fn accept(&self, answer: &str) -> Result<Agreed, SdpError> {
        source::accept(&self.takes, answer)
    }
}

impl Offered {
    /// For each mid that is sent the name of its track, such as `ARDAMSvcam1`.
    pub fn mids(&self) -> Vec<(String, String)> {
        self.state.mids()
    }

    /// What was agreed on, given the answer. The answer to an earlier offer of the session does as well: what it does not
    /// speak of is not sent.
    ///
    /// # Errors
    /// [`SdpError`].
    pub fn accept(&self, answer: &str) -> Result<Agreed, SdpError> {
        self.state.accept(answer)
    }
}
