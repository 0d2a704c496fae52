//! What a receiver tells a sender (RFC 3550, draft-holmer-rmcat-transport-wide-cc-extensions-01), and a sender's report.

use std::time::{Duration, Instant};

/// The most SSRCs that are followed.
const MAX_STREAMS: usize = 16;
/// The most packets of one feedback message.
const MAX_PACKETS: usize = 1000;

/// What one client received.
#[derive(Debug)]
pub(crate) struct Received {
    /// The id of the header extension with the transport-wide sequence number.
    extension: Option<u8>,
    streams: Vec<Stream>,
    /// Transport-wide numbers since the last feedback, and when they came.
    arrivals: Vec<(u16, Instant)>,
    begin: Instant,
    feedbacks: u8,
    /// Lost packets that were told of already.
    told: u64,
}

#[derive(Debug)]
struct Stream {
    ssrc: u32,
    first: u64,
    highest: u64,
    received: u64,
}

impl Received {
    pub(crate) fn new(extension: Option<u8>, begin: Instant) -> Self {
        Received { extension, streams: Vec::new(), arrivals: Vec::new(), begin, feedbacks: 0, told: 0 }
    }

    /// An RTP packet came; its header is in clear.
    pub(crate) fn packet(&mut self, packet: &[u8], now: Instant) {
        let Some(head) = packet.first_chunk::<12>() else { return };
        let (seq, ssrc) = (
            u16::from_be_bytes([head[2], head[3]]),
            u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
        );
        if let Some(stream) = self.streams.iter_mut().find(|s| s.ssrc == ssrc) {
            let step = i64::from(seq.wrapping_sub(stream.highest as u16) as i16);
            stream.highest = stream.highest.max(stream.highest.saturating_add_signed(step));
            stream.received += 1;
        } else if self.streams.len() < MAX_STREAMS {
            let first = 0x1_0000 + u64::from(seq);
            self.streams.push(Stream { ssrc, first, highest: first, received: 1 });
        }
        if let Some(number) = self.extension.and_then(|id| extension(packet, id))
            && self.arrivals.len() < MAX_PACKETS
        {
            self.arrivals.push((number, now));
        }
    }

    /// Packets that are missing since the last call; those that come late are not.
    pub(crate) fn lost(&mut self) -> u64 {
        let lost: u64 = self.streams.iter().map(Stream::lost).sum();
        let new = lost.saturating_sub(self.told);
        self.told = self.told.max(lost);
        new
    }

    /// A receiver report, and the feedback for congestion control if there is any.
    pub(crate) fn compound(&mut self, ours: u32) -> Vec<u8> {
        let mut out = vec![0x80 | self.streams.len() as u8, 201];
        out.extend_from_slice(&(1 + 6 * self.streams.len() as u16).to_be_bytes());
        out.extend_from_slice(&ours.to_be_bytes());
        for stream in &self.streams {
            out.extend_from_slice(&stream.ssrc.to_be_bytes());
            out.extend_from_slice(&(stream.lost() as u32 & 0x7f_ffff).to_be_bytes());
            out.extend_from_slice(&(stream.highest as u32 - 0x1_0000).to_be_bytes());
            out.extend_from_slice(&[0; 12]);
        }
        let media = self.streams.first().map_or(0, |s| s.ssrc);
        self.transport_feedback(ours, media, &mut out);
        out
    }

    fn transport_feedback(&mut self, ours: u32, media: u32, out: &mut Vec<u8>) {
        let Some((first, _)) = self.arrivals.first().copied() else { return };
        let mut arrivals: Vec<_> =
            self.arrivals.drain(..).map(|(number, at)| (number.wrapping_sub(first) as i16, at)).collect();
        arrivals.sort_by_key(|(offset, _)| *offset);
        arrivals.dedup_by_key(|(offset, _)| *offset);
        let (lowest, earliest) = arrivals[0];
        let count = usize::from(arrivals[arrivals.len() - 1].0.wrapping_sub(lowest) as u16) + 1;
        // In units of 64 ms.
        let reference = earliest.saturating_duration_since(self.begin).as_millis() as u32 / 64;
        let mut clock = self.begin + Duration::from_millis(u64::from(reference) * 64);
        let mut symbols = vec![0_u8; count];
        let mut deltas = Vec::new();
        for (offset, at) in arrivals {
            let ticks = match at.checked_duration_since(clock) {
                Some(later) => later.as_micros() as i64 / 250,
                None => -(clock.duration_since(at).as_micros() as i64 / 250),
            };
            let ticks = ticks.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
            let passed = Duration::from_micros(u64::from(ticks.unsigned_abs()) * 250);
            clock = if ticks < 0 { clock - passed } else { clock + passed };
            let symbol = match u8::try_from(ticks) {
                Ok(small) => {
                    deltas.push(small);
                    1
                }
                Err(_) => {
                    deltas.extend_from_slice(&ticks.to_be_bytes());
                    2
                }
            };
            symbols[usize::from(offset.wrapping_sub(lowest) as u16)] = symbol;
        }
        let mut body = Vec::with_capacity(16 + count / 3 + deltas.len());
        body.extend_from_slice(&ours.to_be_bytes());
        body.extend_from_slice(&media.to_be_bytes());
        body.extend_from_slice(&first.wrapping_add_signed(lowest).to_be_bytes());
        body.extend_from_slice(&(count as u16).to_be_bytes());
        body.extend_from_slice(&reference.to_be_bytes()[1..]);
        body.push(self.feedbacks);
        self.feedbacks = self.feedbacks.wrapping_add(1);
        for seven in symbols.chunks(7) {
            let bits = seven
                .iter()
                .enumerate()
                .fold(0b11 << 14, |bits, (i, s)| bits | u16::from(*s) << (12 - 2 * i));
            body.extend_from_slice(&bits.to_be_bytes());
        }
        body.extend_from_slice(&deltas);
        let padding = body.len().next_multiple_of(4) - body.len();
        if padding > 0 {
            body.resize(body.len() + padding - 1, 0);
            body.push(padding as u8);
        }
        out.extend_from_slice(&[if padding > 0 { 0xaf } else { 0x8f }, 205]);
        out.extend_from_slice(&((body.len() / 4) as u16).to_be_bytes());
        out.extend_from_slice(&body);
    }
}

impl Stream {
    fn lost(&self) -> u64 {
        (self.highest - self.first + 1).saturating_sub(self.received)
    }
}

/// The two bytes of a one-byte header extension (RFC 8285).
fn extension(packet: &[u8], id: u8) -> Option<u16> {
    let first = *packet.first()?;
    let at = 12 + 4 * usize::from(first & 0x0f);
    let head = packet.get(at..at + 4).filter(|_| first & 0x10 != 0)?;
    let words = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let mut rest = packet.get(at + 4..at + 4 + 4 * words).filter(|_| head[..2] == [0xbe, 0xde])?;
    while let [first, tail @ ..] = rest {
        if *first == 0 {
            rest = tail;
            continue;
        }
        let len = usize::from(first & 0x0f) + 1;
        let value = tail.get(..len)?;
        if first >> 4 == id {
            return value.first_chunk().copied().map(u16::from_be_bytes);
        }
        rest = &tail[len..];
    }
    None
}

/// The most packets that one compound packet is heard on.
const MAX_ASKED: usize = 256;

/// SSRC and sequence number of the packets that a compound packet asks for again (generic NACK, RFC 4585, 6.2.1).
pub(crate) fn asked_again(compound: &[u8]) -> Vec<(u32, u16)> {
    let mut asked = Vec::new();
    let mut rest = compound;
    while let Some(([first, kind, l0, l1], _)) = rest.split_first_chunk() {
        let length = 4 * (usize::from(u16::from_be_bytes([*l0, *l1])) + 1);
        let Some((packet, behind)) = rest.split_at_checked(length) else { break };
        rest = behind;
        let (0x81, 205, Some((ssrc, items))) =
            (*first, *kind, packet.get(8..).and_then(|p| p.split_first_chunk()))
        else {
            continue;
        };
        for item in items.chunks_exact(4) {
            let (seq, mask) =
                (u16::from_be_bytes([item[0], item[1]]), u16::from_be_bytes([item[2], item[3]]));
            let more = (0..16).filter(|bit| mask >> bit & 1 == 1).map(|bit| seq.wrapping_add(bit + 1));
            asked.extend(std::iter::once(seq).chain(more).map(|seq| (u32::from_be_bytes(*ssrc), seq)));
        }
    }
    asked.truncate(MAX_ASKED);
    asked
}

/// A sender report (RFC 3550, 6.4.1) with a description of its source: the wall clock in nanoseconds since the Unix epoch, the same in
/// the stream's clock, and what was sent.
pub(crate) fn sender_report(ssrc: u32, nanos: u64, timestamp: u32, packets: u32, bytes: u32) -> Vec<u8> {
    const NTP_OFFSET: u64 = 2_208_988_800;
    let seconds = (nanos / 1_000_000_000 + NTP_OFFSET) as u32;
    let fraction = ((nanos % 1_000_000_000) << 32) / 1_000_000_000;
    let mut out = vec![0x80, 200, 0, 6];
    for word in [ssrc, seconds, fraction as u32, timestamp, packets, bytes] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&[0x81, 202, 0, 3]);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[1, 4]);
    out.extend_from_slice(b"load");
    out.extend_from_slice(&[0; 2]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(seq: u16, transport: u16) -> Vec<u8> {
        let mut packet = vec![0x90, 96];
        packet.extend_from_slice(&seq.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 5, 0xbe, 0xde, 0, 2, 0x40, b'0', 0x31]);
        packet.extend_from_slice(&transport.to_be_bytes());
        packet.extend_from_slice(&[0; 3]);
        packet
    }

    #[test]
    fn losses_are_counted_once_and_not_when_packets_are_late() {
        let now = Instant::now();
        let mut received = Received::new(None, now);
        for seq in [65_534, 65_535, 1, 0, 5] {
            received.packet(&packet(seq, 0), now);
        }
        assert_eq!(received.lost(), 3);
        assert_eq!(received.lost(), 0);
        received.packet(&packet(3, 0), now);
        received.packet(&packet(8, 0), now);
        assert_eq!(received.lost(), 1);
        let report = received.compound(9);
        assert_eq!(report[..8], [0x81, 201, 0, 7, 0, 0, 0, 9]);
        assert_eq!(report[12..16], [0, 0, 0, 4], "lost in all");
        assert_eq!(report[16..20], [0, 1, 0, 8], "wrapped once");
        assert_eq!(report.len(), 32);
    }

    #[test]
    fn feedback_names_what_came_and_what_did_not() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut received = Received::new(Some(3), begin);
        for (number, ms) in [(65_535, 130), (1, 140), (0, 135), (4, 240)] {
            received.packet(&packet(number, number), at(ms));
        }
        let report = received.compound(9);
        let feedback = &report[32..];
        assert_eq!(feedback[..4], [0xaf, 205, 0, 6]);
        assert_eq!(feedback[4..12], [0, 0, 0, 9, 0, 0, 0, 5]);
        assert_eq!(feedback[12..16], [0xff, 0xff, 0, 6], "from 65535, six of them");
        assert_eq!(feedback[16..20], [0, 0, 2, 0], "128 ms");
        assert_eq!(feedback[20..22], [0b11_01_01_01, 0b00_00_10_00], "small, small, small, no, no, large");
        assert_eq!(feedback[22..27], [8, 20, 20, 1, 144], "in quarters of a millisecond");
        assert_eq!(feedback.len(), 28);
        assert_eq!(received.compound(9).len(), 32, "nothing is told twice");
    }

    #[test]
    fn odd_packets_are_harmless() {
        let mut received = Received::new(Some(3), Instant::now());
        let whole = packet(1, 1);
        for len in 0..whole.len() {
            received.packet(&whole[..len], Instant::now());
        }
        let mut longer = whole.clone();
        longer[12 + 4] = 0x4f;
        assert_eq!(extension(&longer, 3), None);
        assert_eq!(extension(&whole, 3), Some(1));
        assert_eq!(extension(&whole, 7), None);
    }

    #[test]
    fn what_is_asked_for_again_is_heard() {
        let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
        let nack = [0x81, 205, 0, 4, 0, 0, 0, 9, 0, 0, 0, 5, 0xff, 0xff, 0x80, 1, 0, 7, 0, 0];
        let pli = [0x81, 206, 0, 2, 0, 0, 0, 9, 0, 0, 0, 5];
        let compound = [&report[..], &nack, &pli].concat();
        assert_eq!(asked_again(&compound), [(5, 65_535), (5, 0), (5, 15), (5, 7)]);
        for end in 0..report.len() + nack.len() {
            assert!(asked_again(&compound[..end]).is_empty(), "{end}");
        }
        let much =
            [&[0x81, 205, 0, 202, 0, 0, 0, 9, 0, 0, 0, 5][..], &[0, 1, 0xff, 0xff].repeat(200)].concat();
        assert_eq!(asked_again(&much).len(), MAX_ASKED);
    }

    #[test]
    fn a_sender_report_is_well_formed() {
        let report = sender_report(7, 1_500_000_000, 90, 3, 1000);
        assert_eq!(report[8..16], [0x83, 0xaa, 0x7e, 0x81, 0x80, 0, 0, 0]);
        assert_eq!(report.len(), 28 + 16);
    }
}
