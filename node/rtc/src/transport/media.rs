//! What a session carries, once both sides have agreed on it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::BytesMut;

#[cfg(test)]
use super::fake::FakeMedia;
use super::{Carries, Stats};
use crate::agreed::Agreed;
use crate::egress::{Egress, EgressEvent, Feed, Quality, Sink};
use crate::ingest::Ingest;
use crate::rtp::Packet;

/// RTCP packets that one look at an ingest sends at most.
const FEEDBACK: usize = 16;
/// The largest RTP packet that is taken, in bytes: an Ethernet frame has fewer. Packets wait for those that are missing, by number;
/// this bounds what they hold.
const LARGEST: usize = 2048;

/// The media of a session.
pub(super) enum Media {
    /// Nothing is agreed on yet.
    Waiting(Carries),
    In(Box<Ingest>),
    Out(Box<Egress>),
    /// Data channels only.
    Nothing,
    #[cfg(test)]
    Fake(FakeMedia),
}

impl Media {
    /// The two sides have agreed, for the first time or again. `feeds` replace those that it plays.
    pub(super) fn agree(&mut self, agreed: &Agreed, feeds: Option<Vec<Arc<Feed>>>, seed: u64, now: Instant) {
        match self {
            Media::Waiting(carries) => {
                *self = match std::mem::replace(carries, Carries::Nothing) {
                    Carries::In(publisher) => {
                        Media::In(Box::new(Ingest::new(*publisher, &agreed.receiving, now)))
                    }
                    Carries::Out(before) => {
                        let feeds = feeds.unwrap_or(before);
                        Media::Out(Box::new(Egress::new(feeds, &agreed.sending, seed, now)))
                    }
                    Carries::Nothing => Media::Nothing,
                };
            }
            Media::In(ingest) => ingest.renegotiate(&agreed.receiving),
            Media::Out(egress) => {
                let feeds = feeds.unwrap_or_else(|| egress.feeds().to_vec());
                egress.renegotiate(feeds, &agreed.sending, now);
            }
            Media::Nothing => {}
            #[cfg(test)]
            Media::Fake(_) => {}
        }
    }

    /// A decrypted RTP packet came; what is none is left out.
    pub(super) fn rtp(&mut self, packet: BytesMut, now: Instant, wall: SystemTime) {
        match self {
            Media::In(ingest) => {
                if packet.len() > LARGEST {
                    return;
                }
                if let Ok(packet) = Packet::parse(packet.freeze()) {
                    ingest.rtp(packet, now, wall);
                }
            }
            Media::Out(_) | Media::Nothing | Media::Waiting(_) => {}
            #[cfg(test)]
            Media::Fake(fake) => fake.rtp(&packet),
        }
    }

    /// A decrypted RTCP compound packet came.
    pub(super) fn rtcp(&mut self, compound: &[u8], now: Instant) {
        match self {
            Media::In(ingest) => ingest.rtcp(compound, now),
            Media::Out(egress) => egress.rtcp(compound, now),
            Media::Nothing | Media::Waiting(_) => {}
            #[cfg(test)]
            Media::Fake(_) => {}
        }
    }

    /// Sends what is due: media, or feedback.
    pub(super) fn send(&mut self, now: Instant, sink: &mut dyn Sink) {
        match self {
            Media::In(ingest) => {
                for compound in std::iter::from_fn(|| ingest.feedback(now)).take(FEEDBACK) {
                    sink.rtcp(&compound);
                }
            }
            Media::Out(egress) => egress.send(now, sink),
            Media::Nothing | Media::Waiting(_) => {}
            #[cfg(test)]
            Media::Fake(fake) => fake.send(sink),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(super) fn timeout(&self) -> Option<Instant> {
        match self {
            Media::In(ingest) => ingest.timeout(),
            Media::Out(egress) => egress.timeout(),
            Media::Nothing | Media::Waiting(_) => None,
            #[cfg(test)]
            Media::Fake(_) => None,
        }
    }

    /// The timeout is due. [`send`](Self::send) is to be called after it.
    pub(super) fn handle_timeout(&mut self, now: Instant, wall: SystemTime) {
        if let Media::In(ingest) = self {
            ingest.handle_timeout(now, wall);
        }
    }

    /// What happened to a viewer's media.
    pub(super) fn event(&mut self) -> Option<EgressEvent> {
        match self {
            Media::Out(egress) => egress.event(),
            _ => None,
        }
    }

    /// The feeds that it plays.
    pub(super) fn feeds(&self) -> &[Arc<Feed>] {
        match self {
            Media::Out(egress) => egress.feeds(),
            _ => &[],
        }
    }

    /// A keyframe of the publisher is wanted.
    pub(super) fn want_keyframe(&mut self, now: Instant) {
        if let Media::In(ingest) = self {
            ingest.want_keyframe(now);
        }
    }

    /// A viewer chose a rendition.
    pub(super) fn set_quality(&mut self, feed: usize, quality: Quality, now: Instant) {
        if let Media::Out(egress) = self {
            egress.set_quality(feed, quality, now);
        }
    }

    /// A viewer switched a section on or off.
    pub(super) fn enable(&mut self, mid: &str, enabled: bool) {
        if let Media::Out(egress) = self {
            egress.enable(mid, enabled);
        }
    }

    /// Statistics.
    pub(super) fn stats(&self, now: Instant) -> Option<Stats> {
        match self {
            Media::In(ingest) => Some(Stats::In(ingest.stats(now))),
            Media::Out(egress) => Some(Stats::Out(egress.stats(now))),
            Media::Nothing | Media::Waiting(_) => None,
            #[cfg(test)]
            Media::Fake(_) => Some(Stats::Out(crate::egress::EgressStats::default())),
        }
    }

    /// It is over. `finish`: a publisher is done and its stream ends; otherwise its connection broke. Inside the node's
    /// runtime, which outlives this loop: a broken publisher's stream waits there for it to come back.
    pub(super) fn end(self, finish: bool) {
        match self {
            Media::In(ingest) if finish => ingest.finish(),
            Media::Waiting(Carries::In(publisher)) if finish => publisher.finish(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sluice_media::{AudioCodec, Hub, Origin, StreamKey, StreamSettings};

    use super::*;
    use crate::agreed::{Codec, Extensions, Payload, Receiving};

    #[tokio::test]
    async fn packets_larger_than_any_frame_of_a_network_are_not_kept() {
        let hub = Hub::new(Duration::from_secs(10));
        let key = StreamKey::new("live", "a");
        let publisher = hub.publish(key, Origin::default(), StreamSettings::default()).unwrap();
        let codec = Codec::Audio(AudioCodec::Opus);
        let sound = Receiving {
            mid: "a".into(),
            video: false,
            payloads: vec![Payload { pt: 111, rtx: None, codec, clock: 48_000, fmtp: String::new() }],
            extensions: Extensions::default(),
            ssrcs: vec![(1, None)],
            rids: Vec::new(),
        };
        let now = Instant::now();
        let mut media = Media::In(Box::new(Ingest::new(publisher, &[sound], now)));
        let bitrate = |media: &Media| match media.stats(now + Duration::from_secs(1)) {
            Some(Stats::In(stats)) => stats.audio_bitrate,
            other => panic!("{other:?}"),
        };
        for (number, size) in [(1, LARGEST + 1), (2, 60_000)] {
            let mut packet = BytesMut::from(&[0x80, 111, 0, number, 0, 0, 0, 0, 0, 0, 0, 1][..]);
            packet.resize(size, 0);
            media.rtp(packet, now, SystemTime::UNIX_EPOCH);
        }
        assert_eq!(bitrate(&media), 0);
        let mut packet = BytesMut::from(&[0x80, 111, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1][..]);
        packet.resize(LARGEST, 0);
        media.rtp(packet, now, SystemTime::UNIX_EPOCH);
        assert!(bitrate(&media) > 0);
    }
}
