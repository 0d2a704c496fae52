//! Frames of the hub to RTP packets, made once for all viewers, and what differs per viewer.

use std::sync::Arc;
use std::time::Instant;

use sluice_media::{Stream, TrackId};

use crate::agreed::{Codec, Sending};

/// Tells one feed from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeedId(pub u64);

/// Is told when a feed has new packets: once for all that came together.
pub trait Wake: Send + Sync {
    /// That feed has something new.
    fn wake(&self, feed: FeedId);
}

/// One stream as RTP packets, for as long as somebody holds it. All viewers of a stream on this node share one.
pub struct Feed;

impl Feed {
    /// Which it is.
    pub fn id(&self) -> FeedId {
        FeedId(0)
    }

    /// The stream that it reads.
    pub fn stream(&self) -> &Arc<Stream> {
        unreachable!("no feed can be had yet")
    }

    /// Wakes `by` from now on, as long as that lives.
    pub fn watch(&self, by: &Arc<dyn Wake>) {
        let _ = by;
    }

    /// The video tracks (renditions) that can be sent now, best first, and the audio track, with their codecs: waits for the
    /// stream to have its tracks, at most some seconds.
    pub async fn tracks(&self) -> Vec<FeedTrack> {
        Vec::new()
    }
}

/// A track that a feed can send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedTrack {
    /// Its number in the stream.
    pub id: TrackId,
    /// Its codec.
    pub codec: Codec,
    /// H.264: profile, constraints and level, such as `42e01f`.
    pub profile: Option<String>,
    /// Picture size; 0 for audio.
    pub width: u32,
    /// Picture size; 0 for audio.
    pub height: u32,
    /// Bits a second, as measured.
    pub bitrate: u64,
}

/// The feeds that have viewers. Must be used inside a tokio runtime.
#[derive(Default)]
pub struct Feeds;

impl Feeds {
    /// The feed of a stream; the first viewer starts it.
    pub fn join(&self, stream: &Arc<Stream>) -> Arc<Feed> {
        let _ = stream;
        Arc::new(Feed)
    }
}

/// Where packets go: protects them and sends those that follow each other in one call.
pub trait Sink {
    /// An RTP packet.
    fn rtp(&mut self, header: &[u8], payload: &[u8]);
    /// An RTCP compound packet.
    fn rtcp(&mut self, compound: &[u8]);
}

/// Which rendition a viewer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// What its link carries.
    Auto,
    /// This height, whatever its link carries.
    Height(u32),
}

/// What a viewer's link is like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EgressStats {
    /// What the link is believed to carry, in bits a second.
    pub estimate: u64,
    /// What is sent: video, in bits a second.
    pub video_bitrate: u64,
    /// What is sent: audio, in bits a second.
    pub audio_bitrate: u64,
    /// Packets sent.
    pub packets: u64,
    /// Bytes sent, headers included.
    pub bytes: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Share of packets that are lost, 0 to 1, as the viewer reports.
    pub loss: f64,
    /// Round trip, in milliseconds; 0 while unknown.
    pub rtt_ms: f64,
    /// The height of the rendition that is sent; 0 without video.
    pub height: u32,
    /// Whether only keyframes are sent, because the link carries no more.
    pub thinned: bool,
}

/// What a viewer's session tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressEvent {
    /// Another rendition is sent: AMS's `resolutionChangeInfo`.
    Rendition {
        /// Index of the feed in the session.
        feed: usize,
        /// Its height in pixels.
        height: u32,
    },
    /// The viewer lacks a keyframe and the cache has none that is new enough: ask the publisher.
    WantKeyframe {
        /// Index of the feed in the session.
        feed: usize,
    },
    /// The stream is over.
    Ended {
        /// Index of the feed in the session.
        feed: usize,
    },
}

/// One viewer: what it gets of one feed or of several (a main track with subtracks).
pub struct Egress;

impl Egress {
    /// `sections[i].track` is an index into `tracks`, which names feed and track kind. `seed` is for initial numbers.
    pub fn new(feeds: Vec<Arc<Feed>>, sections: &[Sending], seed: u64, now: Instant) -> Self {
        let _ = (feeds, sections, seed, now);
        Egress
    }

    /// Feeds or sections changed by a new agreement; those that stay go on where they are.
    pub fn renegotiate(&mut self, feeds: Vec<Arc<Feed>>, sections: &[Sending], now: Instant) {
        let _ = (feeds, sections, now);
    }

    /// The feeds that it reads.
    pub fn feeds(&self) -> &[Arc<Feed>] {
        &[]
    }

    /// Sends what is due: called when a feed woke, when the timeout is due, and after RTCP.
    pub fn send(&mut self, now: Instant, sink: &mut dyn Sink) {
        let _ = (now, sink);
    }

    /// When [`send`](Self::send) wants to be called, besides.
    pub fn timeout(&self) -> Option<Instant> {
        None
    }

    /// RTCP of the viewer came: reports, NACK, PLI, FIR, REMB, transport-wide feedback.
    pub fn rtcp(&mut self, compound: &[u8], now: Instant) {
        let _ = (compound, now);
    }

    /// What happened.
    pub fn event(&mut self) -> Option<EgressEvent> {
        None
    }

    /// Chooses the rendition of a feed.
    pub fn set_quality(&mut self, feed: usize, quality: Quality, now: Instant) {
        let _ = (feed, quality, now);
    }

    /// Sends a section or does not (AMS's enableTrack, toggleVideo, toggleAudio).
    pub fn enable(&mut self, mid: &str, enabled: bool) {
        let _ = (mid, enabled);
    }

    /// What its link is like.
    pub fn stats(&self, now: Instant) -> EgressStats {
        let _ = now;
        EgressStats::default()
    }
}
