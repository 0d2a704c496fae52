//! A publisher made of thin air: packets in, feedback and frames out, without a socket or a clock.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use sluice_media::{
    AudioCodec, Event, Hub, Origin, Reader, Start, Stream, StreamKey, StreamSettings, TrackConfig, VideoCodec,
};

use crate::agreed::{Codec, Extensions, Payload, Receiving};
use crate::ingest::{Ingest, IngestStats};
use crate::rtp::Packet;

pub(super) const VIDEO_PT: u8 = 96;
pub(super) const RTX_PT: u8 = 97;
pub(super) const AUDIO_PT: u8 = 111;
/// Packets of a picture.
pub(super) const PARTS: u32 = 3;

/// VP8 with retransmissions from SSRC 1 (and 11).
pub(super) fn video_section() -> Receiving {
    Receiving {
        mid: "v".into(),
        video: true,
        payloads: vec![Payload {
            pt: VIDEO_PT,
            rtx: Some(RTX_PT),
            codec: Codec::Video(VideoCodec::Vp8),
            clock: 90_000,
            fmtp: String::new(),
        }],
        extensions: Extensions::default(),
        ssrcs: vec![(1, Some(11))],
        rids: Vec::new(),
    }
}

/// Opus from SSRC 2.
pub(super) fn audio_section() -> Receiving {
    Receiving {
        mid: "a".into(),
        video: false,
        payloads: vec![Payload {
            pt: AUDIO_PT,
            rtx: None,
            codec: Codec::Audio(AudioCodec::Opus),
            clock: 48_000,
            fmtp: "useinbandfec=1".into(),
        }],
        extensions: Extensions::default(),
        ssrcs: vec![(2, None)],
        rids: Vec::new(),
    }
}

/// A packet as it goes over the wire.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) ssrc: u32,
    pub(super) pt: u8,
    pub(super) seq: u16,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// One-byte header extensions.
    pub(super) extensions: Vec<(u8, Vec<u8>)>,
    pub(super) payload: Vec<u8>,
}

impl Wire {
    pub(super) fn packet(&self) -> Packet {
        let mut out = BytesMut::new();
        out.put_u8(if self.extensions.is_empty() { 0x80 } else { 0x90 });
        out.put_u8(u8::from(self.marker) << 7 | self.pt);
        out.put_u16(self.seq);
        out.put_u32(self.timestamp);
        out.put_u32(self.ssrc);
        if !self.extensions.is_empty() {
            let mut body = Vec::new();
            for (id, value) in &self.extensions {
                body.push(id << 4 | (value.len() as u8 - 1));
                body.extend_from_slice(value);
            }
            body.resize(body.len().next_multiple_of(4), 0);
            out.put_u16(0xbede);
            out.put_u16((body.len() / 4) as u16);
            out.put_slice(&body);
        }
        out.put_slice(&self.payload);
        Packet::parse(out.freeze()).unwrap()
    }

    /// The same as a retransmission.
    pub(super) fn again(&self, ssrc: u32, seq: u16) -> Wire {
        let payload = [&self.seq.to_be_bytes()[..], &self.payload].concat();
        Wire { ssrc, pt: RTX_PT, seq, payload, ..self.clone() }
    }
}

/// Picture number `n` of a source: VP8 in three packets, 25 a second. Its number stands at the end.
pub(super) fn picture(ssrc: u32, n: u32, keyframe: bool, width: u16) -> Vec<Wire> {
    let head: Vec<u8> = if keyframe {
        let [w, h] = [width.to_le_bytes(), (width / 16 * 9).to_le_bytes()];
        vec![0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a, w[0], w[1], h[0], h[1]]
    } else {
        vec![0x10, 0x11, 0, 0]
    };
    let bodies = [head, [&[0][..], &[7; 700]].concat(), [&[0][..], &n.to_be_bytes()].concat()];
    bodies
        .into_iter()
        .enumerate()
        .map(|(i, payload)| Wire {
            ssrc,
            pt: VIDEO_PT,
            seq: (n * PARTS + i as u32) as u16,
            timestamp: n.wrapping_mul(3600),
            marker: i == 2,
            extensions: Vec::new(),
            payload,
        })
        .collect()
}

/// Sound number `n`, 40 ms each.
pub(super) fn sound(ssrc: u32, n: u32) -> Wire {
    let payload = [&[0xf9][..], &n.to_be_bytes()].concat();
    Wire {
        ssrc,
        pt: AUDIO_PT,
        seq: n as u16,
        timestamp: n.wrapping_mul(1920),
        marker: false,
        extensions: Vec::new(),
        payload,
    }
}

/// A sender report: `at` after some time in the sender's life.
pub(super) fn sender_report(ssrc: u32, at: Duration, rtp: u32) -> Vec<u8> {
    let ntp = (3_900_000_000u64 << 32) + ((at.as_micros() << 32) / 1_000_000) as u64;
    let mut out = vec![0x80, 200, 0, 6];
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&ntp.to_be_bytes());
    out.extend_from_slice(&rtp.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out
}

pub(super) fn bye(ssrc: u32) -> Vec<u8> {
    [&[0x80, 201, 0, 1, 0, 0, 0, 1, 0x81, 203, 0, 1][..], &ssrc.to_be_bytes()].concat()
}

/// What was told the publisher.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) plis: Vec<u32>,
    pub(super) nacks: Vec<(u32, u16)>,
    pub(super) reports: Vec<ReceiverReport>,
    pub(super) transport: Vec<TransportLayerCc>,
    pub(super) rembs: Vec<ReceiverEstimatedMaximumBitrate>,
}

impl Told {
    fn read(&mut self, compound: &[u8]) {
        let packets = rtc_rtcp::packet::unmarshal(&mut Bytes::copy_from_slice(compound)).unwrap();
        assert!(packets[0].as_any().is::<ReceiverReport>(), "a compound begins with a report");
        for packet in packets {
            let any = packet.as_any();
            if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
                self.plis.push(pli.media_ssrc);
            } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
                let seqs = nack.nacks.iter().flat_map(|n| n.packet_list());
                self.nacks.extend(seqs.map(|seq| (nack.media_ssrc, seq)));
            } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
                self.reports.push(report.clone());
            } else if let Some(cc) = any.downcast_ref::<TransportLayerCc>() {
                self.transport.push(cc.clone());
            } else if let Some(remb) = any.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
                self.rembs.push(remb.clone());
            } else {
                panic!("unexpected: {packet:?}");
            }
        }
    }
}

pub(super) struct Rig {
    pub(super) hub: Arc<Hub>,
    pub(super) stream: Arc<Stream>,
    pub(super) ingest: Ingest,
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
    reader: Reader,
}

impl Rig {
    pub(super) fn new(sections: &[Receiving]) -> Self {
        let hub = Hub::new(Duration::from_secs(10));
        let key = StreamKey::new("live", "a");
        let publisher = hub.publish(key, Origin::default(), StreamSettings::default()).unwrap();
        let stream = publisher.stream().clone();
        let reader = stream.subscribe(Start::Oldest, Duration::MAX);
        let now = Instant::now();
        let ingest = Ingest::new(publisher, sections, now);
        Rig { hub, stream, ingest, now, wall: SystemTime::UNIX_EPOCH, reader }
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub(super) fn stats(&self) -> IngestStats {
        self.ingest.stats(self.now)
    }

    pub(super) fn send(&mut self, wire: &Wire) {
        self.ingest.rtp(wire.packet(), self.now, self.wall);
    }

    pub(super) fn video(&mut self, ssrc: u32, n: u32, keyframe: bool) {
        self.video_sized(ssrc, n, keyframe, 640);
    }

    pub(super) fn video_sized(&mut self, ssrc: u32, n: u32, keyframe: bool, width: u16) {
        picture(ssrc, n, keyframe, width).iter().for_each(|w| self.send(w));
    }

    pub(super) fn audio(&mut self, ssrc: u32, n: u32) {
        self.send(&sound(ssrc, n));
    }

    /// Lets time pass, and does what is due by the way.
    pub(super) fn pass(&mut self, time: Duration) -> Told {
        let until = self.now + time;
        let mut told = Told::default();
        for _ in 0..10_000 {
            while let Some(compound) = self.ingest.feedback(self.now) {
                assert!(compound.len() <= 1200, "{} bytes", compound.len());
                told.read(&compound);
            }
            match self.ingest.timeout() {
                Some(at) if at <= until => {
                    self.wall += at.saturating_duration_since(self.now);
                    self.now = self.now.max(at);
                    self.ingest.handle_timeout(self.now, self.wall);
                }
                _ => {
                    self.wall += until - self.now;
                    self.now = until;
                    return told;
                }
            }
        }
        panic!("its time comes again and again");
    }

    /// What readers see by now, since the last call.
    pub(super) fn read(&mut self) -> Read {
        Read(std::iter::from_fn(|| self.reader.try_next()).collect())
    }
}

pub(super) struct Read(Vec<Event>);

/// A group that a reader saw.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) width: u32,
    pub(super) group: u64,
    pub(super) discontinuity: u64,
}

impl Read {
    fn frames(&self, of: u8) -> impl Iterator<Item = &sluice_media::Frame> {
        self.0.iter().filter_map(move |e| match e {
            Event::Frame { track, frame } if *track == of => Some(frame),
            _ => None,
        })
    }

    /// The numbers at the end of a track's frames.
    pub(super) fn numbers(&self, of: u8) -> Vec<u32> {
        self.frames(of).map(|f| u32::from_be_bytes(*f.payload.last_chunk().unwrap())).collect()
    }

    /// When a track's frames are shown, in microseconds.
    pub(super) fn times(&self, of: u8) -> Vec<i64> {
        self.frames(of).map(|f| f.pts.0).collect()
    }

    /// The different distances between a track's frames, in microseconds.
    pub(super) fn steps(&self, of: u8) -> Vec<i64> {
        let times = self.times(of);
        let mut steps: Vec<i64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    pub(super) fn groups(&self, of: u8) -> Vec<Seen> {
        let groups = self.0.iter().filter_map(|e| match e {
            Event::Group { track, group } if *track == of => Some(Seen {
                width: match &*group.head.config {
                    TrackConfig::Video(v) => v.width,
                    TrackConfig::Audio(_) => 0,
                },
                group: group.head.stamp.group,
                discontinuity: group.head.stamp.discontinuity_sequence,
            }),
            _ => None,
        });
        groups.collect()
    }
}
