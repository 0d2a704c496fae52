//! One RTP stream to one viewer: its numbers, what was sent lately, and sending that again.

use std::time::Duration;

use sluice_media::{Timestamp, TrackId};

use super::Sink;
use super::header::{Fields, Header};
use super::lane::{Lane, Packets};
use super::link::Link;
use super::rtcp::{Block, SenderReport};
use crate::agreed::Sending;

/// Packets that can be sent again. Only as retransmissions (RFC 4588): the same number with another header would give SRTP's
/// key away.
const KEPT: usize = 1024;
/// How often a packet is sent again.
const TRIES: u8 = 3;
/// Not sooner than this after the last time, or a round trip.
const AGAIN: Duration = Duration::from_millis(15);
/// Sender reports that are remembered for the round trip.
const REPORTS: usize = 4;
/// From 1900 to 1970, in seconds.
const NTP_EPOCH: u64 = 2_208_988_800;
/// SRTP's tag, counted as sent.
const TAG: usize = 16;

/// Where packets of a viewer go.
pub(crate) struct Output<'a> {
    pub(crate) link: &'a mut Link,
    pub(crate) sink: &'a mut dyn Sink,
    pub(crate) scratch: &'a mut Vec<u8>,
    /// Microseconds since the link began.
    pub(crate) micros: i64,
    /// Bytes that may be sent before others have to wait; below zero when that was not waited for.
    pub(crate) allowance: &'a mut f64,
    pub(crate) totals: &'a mut Totals,
}

/// What was sent to a viewer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) retransmitted: u64,
    pub(crate) video: u64,
    pub(crate) audio: u64,
}

/// A packet that was sent: where its payload is kept.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    group: u32,
    timestamp: u32,
    /// When, in milliseconds, modulo 2^32.
    at: u32,
    seq: u16,
    item: u16,
    packet: u16,
    lane: TrackId,
    /// 0 where nothing is kept yet; else one more than how often it was sent again.
    tries: u8,
}

/// The place of a frame in its lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) lane: TrackId,
    pub(crate) group: u32,
    pub(crate) item: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RtpStream {
    ssrc: u32,
    video: bool,
    clock: u32,
    header: Header,
    rtx: Option<(Header, u16)>,
    seq: u16,
    offset: u32,
    timestamp: Option<u32>,
    kept: Vec<Kept>,
    packets: u32,
    bytes: u32,
    /// Presentation time of the frame that was sent last, and its timestamp; taken by a report.
    fresh: Option<(Timestamp, u32)>,
    reports: [(u32, i64); REPORTS],
    reported: usize,
    bound: bool,
    loss: f64,
}

impl RtpStream {
    pub(crate) fn new(sending: &Sending, seed: u64) -> Self {
        let rtx = sending.rtx_ssrc.zip(sending.payload.rtx).map(|(ssrc, pt)| {
            (Header::new(pt, ssrc, &sending.extensions, Some(&sending.mid)), (seed >> 48) as u16)
        });
        RtpStream {
            ssrc: sending.ssrc,
            video: sending.video,
            clock: sending.payload.clock,
            header: Header::new(sending.payload.pt, sending.ssrc, &sending.extensions, Some(&sending.mid)),
            rtx,
            seq: (seed >> 16) as u16,
            offset: (seed >> 32) as u32,
            timestamp: None,
            kept: Vec::new(),
            packets: 0,
            bytes: 0,
            fresh: None,
            reports: [(0, 0); REPORTS],
            reported: 0,
            bound: false,
            loss: 0.0,
        }
    }

    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Its SSRCs, each with the sequence number that is next.
    pub(crate) fn numbers(&self, sending: &Sending) -> impl Iterator<Item = (u32, u16)> + use<> {
        let rtx = sending.rtx_ssrc.zip(self.rtx.as_ref().map(|(_, next)| *next));
        std::iter::once((self.ssrc, self.seq)).chain(rtx)
    }

    /// Goes on with the sequence numbers that its SSRCs had before, where they had any.
    pub(crate) fn go_on(&mut self, sending: &Sending, before: impl Fn(u32) -> Option<u16>) {
        self.seq = before(self.ssrc).unwrap_or(self.seq);
        let rtx = sending.rtx_ssrc.and_then(before);
        if let (Some((_, next)), Some(seq)) = (&mut self.rtx, rtx) {
            *next = seq;
        }
    }

    /// The share that the viewer reports as lost.
    pub(crate) fn loss(&self) -> f64 {
        self.loss
    }

    /// Fixes the timestamp of the next frame; timestamps only grow, also where another rendition goes on.
    pub(crate) fn begin(&mut self, frame: &Packets) -> u32 {
        let ticks = (frame.pts.to_ticks(self.clock) as u32).wrapping_add(self.offset);
        let timestamp = match self.timestamp {
            Some(last) if ticks.wrapping_sub(last) as i32 <= 0 => last.wrapping_add(self.clock / 1000),
            _ => ticks,
        };
        self.timestamp = Some(timestamp);
        self.fresh = Some((frame.pts, timestamp));
        timestamp
    }

    /// Sends one packet of a frame that was [begun](Self::begin).
    pub(crate) fn send(&mut self, frame: &Packets, index: usize, place: Place, out: &mut Output<'_>) {
        let (Some(payload), Some(timestamp)) = (frame.payload(index), self.timestamp) else { return };
        if self.kept.is_empty() && self.rtx.is_some() {
            self.kept = vec![Kept::default(); KEPT];
        }
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        let slot = usize::from(seq).checked_rem(self.kept.len());
        if let Some(kept) = slot.and_then(|slot| self.kept.get_mut(slot)) {
            *kept = match (u16::try_from(place.item), u16::try_from(index)) {
                (Ok(item), Ok(packet)) => {
                    let at = (out.micros / 1000) as u32;
                    Kept { group: place.group, timestamp, at, seq, item, packet, lane: place.lane, tries: 1 }
                }
                _ => Kept::default(),
            };
        }
        let size = self.header.len() + payload.len() + TAG;
        let fields = Fields {
            seq,
            timestamp,
            marker: if self.video { index + 1 == frame.ends.len() } else { self.packets == 0 },
            transport_seq: out.link.sent(out.micros, size),
            sent: out.micros as u64,
        };
        out.sink.rtp(self.header.patch(fields), payload);
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(payload.len() as u32);
        out.count(size);
        if self.video {
            out.totals.video += size as u64;
        } else {
            out.totals.audio += size as u64;
        }
    }

    /// Sends a packet again that the viewer lacks; gives its size, 0 when it is not sent.
    pub(crate) fn resend(&mut self, seq: u16, lanes: &[std::sync::Arc<Lane>], out: &mut Output<'_>) -> usize {
        let now = (out.micros / 1000) as u32;
        let wait = out.link.rtt().max(AGAIN).as_millis() as u32;
        let Some(kept) = self.find(seq) else { return 0 };
        let first = kept.tries == 1;
        // The viewer asks when it misses a packet: the first time there is nothing to wait for but reordering.
        let since = now.wrapping_sub(kept.at);
        if kept.tries > TRIES || (!first && since < wait) {
            return 0;
        }
        kept.tries += 1;
        kept.at = now;
        let kept = *kept;
        let size = self.again(kept, lanes, out);
        out.totals.retransmitted += u64::from(size > 0);
        size
    }

    /// Sends packets again that nobody asked for, to try the link; gives how many bytes.
    pub(crate) fn pad(
        &mut self,
        bytes: usize,
        lanes: &[std::sync::Arc<Lane>],
        out: &mut Output<'_>,
    ) -> usize {
        let mut sent = 0;
        let mut back = 1;
        while self.rtx.is_some() && sent < bytes && back <= 64.min(self.kept.len() as u16) {
            if let Some(kept) = self.find(self.seq.wrapping_sub(back)).copied() {
                sent += self.again(kept, lanes, out);
            }
            back += 1;
        }
        sent
    }

    fn find(&mut self, seq: u16) -> Option<&mut Kept> {
        let slot = usize::from(seq).checked_rem(self.kept.len())?;
        self.kept.get_mut(slot).filter(|k| k.seq == seq && k.tries > 0)
    }

    fn again(&mut self, kept: Kept, lanes: &[std::sync::Arc<Lane>], out: &mut Output<'_>) -> usize {
        let lane = lanes.iter().find(|l| l.id == kept.lane);
        let Some(group) = lane.and_then(|l| l.group(kept.group)) else { return 0 };
        let Some(frame) = group.get(usize::from(kept.item)) else { return 0 };
        let index = usize::from(kept.packet);
        let Some(payload) = frame.payload(index) else { return 0 };
        let marker = self.video && index + 1 == frame.ends.len();
        let Some((header, next)) = &mut self.rtx else { return 0 };
        let seq = *next;
        *next = seq.wrapping_add(1);
        let size = header.len() + 2 + payload.len() + TAG;
        let transport_seq = out.link.sent(out.micros, size);
        let fields =
            Fields { seq, timestamp: kept.timestamp, marker, transport_seq, sent: out.micros as u64 };
        // Before the payload, the number that it had.
        out.scratch.clear();
        out.scratch.extend_from_slice(&kept.seq.to_be_bytes());
        out.scratch.extend_from_slice(payload);
        out.sink.rtp(header.patch(fields), out.scratch);
        out.count(size);
        size
    }

    /// A sender report, if something was sent since the last; `wall` is wall clock minus media time in microseconds.
    pub(crate) fn report(&mut self, wall: i64, micros: i64) -> Option<SenderReport> {
        let (pts, timestamp) = self.fresh.take()?;
        let wall = u64::try_from(wall.saturating_add(pts.0)).unwrap_or(0);
        let seconds = wall / 1_000_000 + NTP_EPOCH;
        let ntp = (seconds << 32) + ((wall % 1_000_000) << 32) / 1_000_000;
        self.reports[self.reported % REPORTS] = ((ntp >> 16) as u32, micros);
        self.reported = self.reported.wrapping_add(1);
        Some(SenderReport { ssrc: self.ssrc, ntp, timestamp, packets: self.packets, bytes: self.bytes })
    }

    /// A report came; gives the round trip if it tells one.
    pub(crate) fn reported(&mut self, block: &Block, sending: &Sending, micros: i64) -> Option<Duration> {
        self.loss = f64::from(block.lost) / 256.0;
        if !std::mem::replace(&mut self.bound, true) {
            // It knows the SSRC: headers can be shorter from now on.
            self.header = Header::new(sending.payload.pt, sending.ssrc, &sending.extensions, None);
        }
        let known = self.reports.iter().take(self.reported);
        let (_, at) =
            known.into_iter().find(|(ntp, _)| block.last_report != 0 && *ntp == block.last_report)?;
        let held = i64::from(block.delay) * 1_000_000 / 65_536;
        u64::try_from(micros - at - held).ok().map(Duration::from_micros)
    }
}

impl Output<'_> {
    fn count(&mut self, size: usize) {
        *self.allowance -= size as f64;
        self.totals.packets += 1;
        self.totals.bytes += size as u64;
    }
}
