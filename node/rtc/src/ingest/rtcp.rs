//! RTCP as an ingest needs it: what it reads of a publisher, and what it writes (RFC 3550, 4585, 5104).

/// What matters of a sender report (RFC 3550, 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// Of this source.
    pub ssrc: u32,
    /// The sender's wall clock, in 2^-32 s since 1900.
    pub ntp: u64,
    /// The same moment on the source's RTP clock.
    pub rtp: u32,
}

/// What a publisher says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// How its clocks stand.
    Report(SenderReport),
    /// A source is over.
    Bye(u32),
}

const SR: u8 = 200;
const RR: u8 = 201;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
/// Our SSRC in what we send; receivers have none of their own, and browsers use this one.
const OURS: u32 = 1;

/// What matters of a compound packet, in order. Stops where it is cut or no RTCP.
pub fn read(compound: &[u8]) -> impl Iterator<Item = Said> {
    let mut rest = compound;
    let packets = std::iter::from_fn(move || {
        let (&[first, kind, high, low], _) = rest.split_first_chunk()?;
        let length = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        let (packet, tail) = rest.split_at_checked(length)?;
        rest = tail;
        (first >> 6 == 2).then_some((first & 0x1f, kind, &packet[4..]))
    });
    packets.flat_map(|(count, kind, body)| {
        let words = body.as_chunks::<4>().0.iter().map(|w| u32::from_be_bytes(*w));
        let report = (kind == SR).then(|| {
            let mut w = words.clone();
            let (ssrc, high, low, rtp) = (w.next()?, w.next()?, w.next()?, w.next()?);
            let ntp = u64::from(high) << 32 | u64::from(low);
            Some(Said::Report(SenderReport { ssrc, ntp, rtp }))
        });
        let byes = if kind == BYE { usize::from(count) } else { 0 };
        report.flatten().into_iter().chain(words.take(byes).map(Said::Bye))
    })
}

/// A reception report block (RFC 3550, 6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reception {
    /// Of this source.
    pub ssrc: u32,
    /// Share of packets lost since the last report, of 256.
    pub fraction: u8,
    /// Packets lost in all; negative where more came than were sent.
    pub lost: i32,
    /// The highest sequence number, with its cycles.
    pub highest: u32,
    /// Interarrival jitter, in ticks of the RTP clock.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report.
    pub last_report: u32,
    /// How long ago that came, in 2^-16 s.
    pub since_report: u32,
}

/// Writes a compound packet. It begins with a receiver report, even an empty one: not all take less.
#[derive(Debug)]
pub struct Compound {
    bytes: Vec<u8>,
    bare: usize,
}

impl Compound {
    /// With these report blocks; what is above 31 is left out.
    pub fn new(blocks: &[Reception]) -> Self {
        let blocks = &blocks[..blocks.len().min(31)];
        let mut c = Compound { bytes: Vec::with_capacity(256), bare: 0 };
        c.packet(blocks.len() as u8, RR, |out| {
            for b in blocks {
                let lost = b.lost.clamp(-(1 << 23), (1 << 23) - 1) as u32 & 0x00ff_ffff;
                let words = [
                    b.ssrc,
                    u32::from(b.fraction) << 24 | lost,
                    b.highest,
                    b.jitter,
                    b.last_report,
                    b.since_report,
                ];
                words.iter().for_each(|w| out.extend_from_slice(&w.to_be_bytes()));
            }
        });
        if blocks.is_empty() {
            c.bare = c.bytes.len();
        }
        c
    }

    /// Generic NACK (RFC 4585, 6.2.1) for sequence numbers of a source, in order.
    pub fn nack(&mut self, ssrc: u32, missing: &[u16]) {
        let mut items: Vec<(u16, u16)> = Vec::new();
        for &seq in missing {
            match items.last_mut() {
                Some((pid, mask)) if (1..=16).contains(&seq.wrapping_sub(*pid)) => {
                    *mask |= 1 << (seq.wrapping_sub(*pid) - 1);
                }
                _ => items.push((seq, 0)),
            }
        }
        self.packet(1, TRANSPORT_FEEDBACK, |out| {
            out.extend_from_slice(&ssrc.to_be_bytes());
            for (pid, mask) in items {
                out.extend_from_slice(&pid.to_be_bytes());
                out.extend_from_slice(&mask.to_be_bytes());
            }
        });
    }

    /// Picture loss indication (RFC 4585, 6.3.1).
    pub fn pli(&mut self, ssrc: u32) {
        self.packet(1, PAYLOAD_FEEDBACK, |out| out.extend_from_slice(&ssrc.to_be_bytes()));
    }

    /// Transport-wide feedback: what is behind the two SSRCs. `media` is any source of the transport.
    pub fn transport(&mut self, media: u32, body: &[u8]) {
        self.packet(15, TRANSPORT_FEEDBACK, |out| {
            out.extend_from_slice(&media.to_be_bytes());
            out.extend_from_slice(body);
        });
    }

    /// Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03), in bits a second, for all sources.
    pub fn remb(&mut self, bitrate: u64, sources: &[u32]) {
        let sources = &sources[..sources.len().min(255)];
        let exponent = (64 - bitrate.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate >> exponent) as u32 & 0x3_ffff;
        self.packet(15, PAYLOAD_FEEDBACK, |out| {
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(b"REMB");
            let word = (sources.len() as u32) << 24 | exponent << 18 | mantissa;
            out.extend_from_slice(&word.to_be_bytes());
            sources.iter().for_each(|s| out.extend_from_slice(&s.to_be_bytes()));
        });
    }

    /// Its bytes; nothing when there is nothing in it.
    pub fn finish(self) -> Option<Vec<u8>> {
        (self.bytes.len() > self.bare).then_some(self.bytes)
    }

    /// Its size by now, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    fn packet(&mut self, count: u8, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0x80 | count, kind, 0, 0]);
        self.bytes.extend_from_slice(&OURS.to_be_bytes());
        body(&mut self.bytes);
        let words = (self.bytes.len() - at).div_ceil(4);
        self.bytes.resize(at + 4 * words, 0);
        let length = (words - 1) as u16;
        self.bytes[at + 2..at + 4].copy_from_slice(&length.to_be_bytes());
    }
}
