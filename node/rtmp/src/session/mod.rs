//! One RTMP connection as a state machine without I/O: bytes go in, events come out, and bytes to be sent
//! are fetched. [`Server`] is our end of a publisher's or a player's connection, [`Client`] publishes to or
//! plays from another server.

mod client;
mod server;

pub use client::{Client, ClientEvent, Purpose, Url};
pub(crate) use server::STREAM_ID;
pub use server::{Event, Server};

/// Enhanced RTMP v2: what a server says to clients that are to connect again, over another connection.
const RECONNECT_REQUEST: &str = "NetConnection.Connect.ReconnectRequest";
/// The bit of `capsEx` by which a client says that it knows of it.
const CAN_RECONNECT: u32 = 1;

/// Bytes that the receiving end acknowledges at once.
const WINDOW: u32 = 2_500_000;

/// Counts received bytes and tells when an acknowledgement is due.
#[derive(Debug)]
struct Window {
    size: u32,
    received: u64,
    acknowledged: u64,
}

impl Window {
    fn new() -> Self {
        Window { size: WINDOW, received: 0, acknowledged: 0 }
    }

    /// The sequence number to acknowledge, if it is time.
    fn received(&mut self, bytes: usize) -> Option<u32> {
        self.received += bytes as u64;
        if self.received - self.acknowledged < u64::from(self.size) {
            return None;
        }
        self.acknowledged = self.received;
        Some(self.received as u32)
    }

    /// Sizes below a few packets would make us answer every read.
    fn resize(&mut self, size: u32) {
        self.size = size.max(16 * 1024);
    }
}
