//! WebRTC in and out: publishers and viewers over WHIP, WHEP and Ant Media Server's WebSocket signalling.
//!
//! - [`sdp`]: offers and answers: what both sides can do, and what they agreed on ([`agreed`]). Pure.
//! - [`peer`]: one connection without a socket: ICE-lite, DTLS, SRTP, data channels. Pure: time is an argument.
//! - [`ingest`]: RTP packets of a publisher to frames in the hub: loss, order, feedback, lip sync, simulcast.
//! - [`egress`]: frames of the hub to RTP packets, made once for all viewers; what differs per viewer; which rendition.
//! - [`transport`]: the sockets and the loops that drive the three above, one a core. [`Rtc`] is the way in.
//! - [`service`]: publish and play: asks [`Ingress`](sluice_media::session::Ingress) and
//!   [`Egress`](sluice_media::session::Egress), and opens the session.
//! - [`whip`]: WHIP (RFC 9725) and WHEP over HTTP. [`signal`]: AMS's WebSocket.
//! - [`client`]: the same HTTP from the other side: where we pull from a WHEP server, or push to a WHIP server.
//!
//! Standards: RFC 8829 (JSEP), 8445 (ICE), 5764 (DTLS-SRTP), 3550/3711 (RTP, SRTP), 4585/5104 (feedback), 4588 (RTX),
//! 8853 (simulcast), 8831/8832 (data channels).

pub mod agreed;
pub mod client;
mod crowd;
pub mod egress;
pub mod ingest;
pub mod peer;
mod random;
pub mod rtp;
pub mod sdp;
pub mod service;
mod settings;
pub mod signal;
pub mod transport;
pub mod whip;

pub use crowd::Exempt;
pub use settings::{IceServer, Settings};
pub use transport::{Rtc, Session, SessionEvent, SessionId};
