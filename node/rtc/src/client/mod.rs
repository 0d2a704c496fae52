//! The HTTP side of calls: WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) as a client.
//!
//! - [`Endpoint`]: where to call, from a URL as people write it.
//! - [`Http`]: one exchange: an offer in, the answer and the session's URL out; and its end.
//!
//! What is called decides what it answers: everything that comes is bounded in size and time, and only `http` and `https` are
//! spoken. Whether an address may be called at all is not decided here: whoever may say so may make this node connect to it.

mod endpoint;
mod http;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

pub use self::endpoint::{Endpoint, Kind, NotCallable};
pub use self::http::{Answer, Http, Resource};
use crate::sdp::SdpError;
use crate::service::Refused;

/// Why a call came to nothing. Each is a sentence for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server cannot be connected to.
    #[error("{host} cannot be connected to: {source}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate authorities of this machine cannot be read.
    #[error(
        "https needs the machine's certificate authorities, and none can be read: install ca-certificates"
    )]
    Authorities,
    /// It took too long.
    #[error("{host} took longer than {} s to answer", .within.as_secs())]
    Slow {
        /// Host and port.
        host: String,
        /// The time that it had.
        within: Duration,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("{host} gave no answer that is HTTP: {why}")]
    NotHttp {
        /// Host and port.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// It said no.
    #[error("{host} refuses with {status}{}", quoted(.text))]
    Status {
        /// Host and port.
        host: String,
        /// The status.
        status: ::http::StatusCode,
        /// The first line of what it says.
        text: String,
    },
    /// It leads elsewhere, which is no address that is called, or too often.
    #[error("{host} leads elsewhere, and that is not followed: {why}")]
    Redirect {
        /// Host and port.
        host: String,
        /// Why not.
        why: String,
    },
    /// Its answer is no session description that can be used.
    #[error("the answer of {host} cannot be used: {why}")]
    Answer {
        /// Host and port.
        host: String,
        /// Why not.
        why: String,
    },
    /// What the two descriptions agree on is nothing.
    #[error("nothing can be agreed on with {host}: {source}")]
    Sdp {
        /// Host and port.
        host: String,
        /// Why not.
        source: SdpError,
    },
    /// This node does not let it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The stream has nothing that can be sent over WebRTC yet.
    #[error("the stream has nothing that can be sent over WebRTC")]
    NothingToSend,
    /// There is no socket to be had.
    #[error("no UDP socket can be opened: {0}")]
    Socket(io::Error),
}

fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text:?}") }
}
