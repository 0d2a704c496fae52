//! A connection as messages: read within a limit, written within a limit.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::message::{Decoder, Message, MessageError};

/// A link with nothing for so long is down.
pub(super) const SILENCE: Duration = Duration::from_secs(3);

/// Written at once; each piece has [`SILENCE`] to go.
const PIECE: usize = 64 << 10;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the connection was closed")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("nothing came for {SILENCE:?}")]
    Silent,
    #[error("the other side took nothing for {SILENCE:?}")]
    Stuck,
    #[error("the other side sent {0}")]
    Message(#[from] MessageError),
}

/// One end of a link.
pub(super) struct Link<S> {
    stream: S,
    decoder: Decoder,
    /// When something was read last.
    heard: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(super) fn new(stream: S) -> Self {
        Link { stream, decoder: Decoder::default(), heard: Instant::now() }
    }

    /// The next message. May be dropped before it is there and called again: silence counts from the last bytes.
    pub(super) async fn read(&mut self) -> Result<Message, LinkError> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(message);
            }
            let silent = self.heard + SILENCE;
            match tokio::time::timeout_at(silent, self.stream.read_buf(&mut self.decoder.buffer)).await {
                Ok(Ok(0)) => return Err(LinkError::Closed),
                Ok(Ok(_)) => self.heard = Instant::now(),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(LinkError::Silent),
            }
        }
    }

    /// The other side has reason to say something from now on.
    pub(super) fn expect(&mut self) {
        self.heard = Instant::now();
    }

    pub(super) async fn write(&mut self, messages: &[Bytes]) -> Result<(), LinkError> {
        for piece in messages.iter().flat_map(|message| message.chunks(PIECE)) {
            match tokio::time::timeout(SILENCE, self.stream.write_all(piece)).await {
                Ok(written) => written?,
                Err(_) => return Err(LinkError::Stuck),
            }
        }
        match tokio::time::timeout(SILENCE, self.stream.flush()).await {
            Ok(flushed) => Ok(flushed?),
            Err(_) => Err(LinkError::Stuck),
        }
    }
}
