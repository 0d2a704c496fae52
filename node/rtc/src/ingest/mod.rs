//! A publisher's RTP packets to frames in the hub.

use std::time::{Instant, SystemTime};

use sluice_media::{Publisher, stream::StopReason};

use crate::agreed::Receiving;
use crate::rtp::Packet;

/// What is known of what comes in, for `bitrateMeasurement` and the pages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IngestStats {
    /// Bits a second of video, all layers.
    pub video_bitrate: u64,
    /// Bits a second of audio.
    pub audio_bitrate: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that were asked for again.
    pub nacks: u64,
    /// Packets that came by retransmission.
    pub recovered: u64,
    /// Interarrival jitter of the video, in milliseconds.
    pub jitter_ms: f64,
}

/// One publisher's media.
pub struct Ingest;

impl Ingest {
    /// Writes to `publisher` what comes for `sections`.
    pub fn new(publisher: Publisher, sections: &[Receiving], now: Instant) -> Self {
        let _ = (publisher, sections, now);
        Ingest
    }

    /// The sections changed by a new offer: SSRCs, rids, formats.
    pub fn renegotiate(&mut self, sections: &[Receiving]) {
        let _ = sections;
    }

    /// A packet came.
    pub fn rtp(&mut self, packet: Packet, now: Instant, wall: SystemTime) {
        let _ = (packet, now, wall);
    }

    /// RTCP of the other side came: sender reports and goodbyes matter here.
    pub fn rtcp(&mut self, compound: &[u8], now: Instant) {
        let _ = (compound, now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn timeout(&self) -> Option<Instant> {
        None
    }

    /// Its time has come: frames that waited for packets, feedback that is due.
    pub fn handle_timeout(&mut self, now: Instant, wall: SystemTime) {
        let _ = (now, wall);
    }

    /// RTCP compound packets to send, if any are due.
    pub fn feedback(&mut self, now: Instant) -> Option<Vec<u8>> {
        let _ = now;
        None
    }

    /// A keyframe is wanted (a viewer asked, or a reader began).
    pub fn want_keyframe(&mut self, now: Instant) {
        let _ = now;
    }

    /// Waits until somebody wants this publisher to stop.
    pub fn stop_requested(&self) -> std::pin::Pin<Box<dyn Future<Output = StopReason> + Send>> {
        Box::pin(std::future::pending())
    }

    /// What came.
    pub fn stats(&self, now: Instant) -> IngestStats {
        let _ = now;
        IngestStats::default()
    }

    /// The publisher is done: the stream ends. Dropping it instead is a broken connection.
    pub fn finish(self) {}
}
