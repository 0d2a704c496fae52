//! The client's side of WHIP and WHEP: descriptions, one UDP socket a session, and what goes over it. The connection itself (ICE, DTLS,
//! SRTP) is that of `sluice-rtc`, in the calling role.

mod description;
mod feedback;
mod packetize;
mod session;

pub(crate) use description::{Answer, LAYERS, Offer, Wants, rtx};
pub(crate) use feedback::{Received, asked_again, sender_report};
pub(crate) use packetize::{Head, h264};
pub(crate) use session::{Got, Session};
