//! RTCP of viewers, read, and ours, written (RFC 3550, 4585, 5104; REMB and transport-wide feedback as their drafts have it).

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

/// What a viewer says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Feedback<'a> {
    /// How one of our streams arrives.
    Report(Block),
    /// Packets that did not arrive, see [`lost`].
    Nack { ssrc: u32, items: &'a [u8] },
    /// A keyframe is needed: PLI or FIR.
    Keyframe { ssrc: u32 },
    /// What the viewer believes its link carries, in bits a second.
    Remb(u64),
    /// When each packet of the session arrived, see [`arrivals`].
    Arrivals(&'a [u8]),
}

/// A report block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) ssrc: u32,
    /// Of 256 packets since the last report.
    pub(crate) lost: u8,
    /// The middle 32 bits of the last sender report's NTP time, 0 for none; and the time since, in 1/65536 s.
    pub(crate) last_report: u32,
    pub(crate) delay: u32,
}

/// The feedback in a compound packet, told one by one; reading stops where it is broken.
pub(crate) fn read<'a>(mut compound: &'a [u8], mut tell: impl FnMut(Feedback<'a>)) {
    while let [first, kind, high, low, ..] = *compound {
        let size = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        if first >> 6 != 2 || compound.len() < size {
            return;
        }
        let (packet, rest) = compound.split_at(size);
        compound = rest;
        let (body, count) = (&packet[4..], first & 0x1f);
        match (kind, count) {
            (SENDER_REPORT, _) => blocks(body.get(24..), count, &mut tell),
            (RECEIVER_REPORT, _) => blocks(body.get(4..), count, &mut tell),
            (TRANSPORT_FEEDBACK, 1) => {
                if let (Some(ssrc), Some(items)) = (u32_at(body, 4), body.get(8..)) {
                    tell(Feedback::Nack { ssrc, items });
                }
            }
            (TRANSPORT_FEEDBACK, 15) => {
                if let Some(body) = body.get(8..) {
                    tell(Feedback::Arrivals(body));
                }
            }
            (PAYLOAD_FEEDBACK, 1) => {
                if let Some(ssrc) = u32_at(body, 4) {
                    tell(Feedback::Keyframe { ssrc });
                }
            }
            (PAYLOAD_FEEDBACK, 4) => {
                let entries = body.get(8..).unwrap_or_default().chunks_exact(8);
                entries.filter_map(|e| u32_at(e, 0)).for_each(|ssrc| tell(Feedback::Keyframe { ssrc }));
            }
            (PAYLOAD_FEEDBACK, 15) => {
                if let Some([b'R', b'E', b'M', b'B', _, a, b, c]) = body.get(8..16) {
                    let mantissa = u64::from(a & 3) << 16 | u64::from(*b) << 8 | u64::from(*c);
                    tell(Feedback::Remb(mantissa.checked_shl(u32::from(a >> 2)).unwrap_or(u64::MAX)));
                }
            }
            _ => {}
        }
    }
}

fn blocks<'a>(body: Option<&'a [u8]>, count: u8, tell: &mut impl FnMut(Feedback<'a>)) {
    for block in body.unwrap_or_default().chunks_exact(24).take(usize::from(count)) {
        if let (Some(ssrc), Some(last_report), Some(delay)) =
            (u32_at(block, 0), u32_at(block, 16), u32_at(block, 20))
        {
            tell(Feedback::Report(Block { ssrc, lost: block[4], last_report, delay }));
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// The sequence numbers in the items of a NACK, at most `most`.
pub(crate) fn lost(items: &[u8], most: usize) -> impl Iterator<Item = u16> {
    let items = items
        .chunks_exact(4)
        .map(|i| (u16::from_be_bytes([i[0], i[1]]), u32::from(u16::from_be_bytes([i[2], i[3]])) << 1 | 1));
    items
        .flat_map(|(first, mask)| {
            (0..17u16).filter(move |i| mask >> i & 1 == 1).map(move |i| first.wrapping_add(i))
        })
        .take(most)
}

/// The packets that transport-wide feedback speaks of, in order, each with its time of arrival on the viewer's clock in
/// microseconds, or nothing if it did not arrive; at most `most`. `reference` is the time that the last feedback referred to, in
/// 64 ms: 24 bits of it are told, which wrap after twelve days, and may begin anywhere.
pub(crate) fn arrivals(
    body: &[u8],
    most: usize,
    reference: &mut i64,
    mut tell: impl FnMut(u16, Option<i64>),
) {
    let [b0, b1, c0, c1, t0, t1, t2, _, chunks @ ..] = body else { return };
    let mut seq = u16::from_be_bytes([*b0, *b1]);
    let count = usize::from(u16::from_be_bytes([*c0, *c1]));
    let ahead = i32::from_be_bytes([*t0, *t1, *t2, 0]).wrapping_sub((*reference as i32) << 8) >> 8;
    *reference += i64::from(ahead);
    let mut time = *reference * 64_000;
    // The deltas lie behind as many chunks as tell all packets.
    let symbols = |chunk: [u8; 2]| match chunk[0] >> 6 {
        2 => 14,
        3 => 7,
        _ => usize::from(u16::from_be_bytes([chunk[0] & 0x1f, chunk[1]])),
    };
    let (mut told, mut length) = (0, 0);
    while told < count {
        let Some(chunk) = chunks.get(length..length + 2) else { return };
        told += symbols([chunk[0], chunk[1]]);
        length += 2;
    }
    let (chunks, mut deltas) = chunks.split_at(length);
    let mut left = count.min(most);
    for chunk in chunks.chunks_exact(2) {
        let bits = u16::from_be_bytes([chunk[0], chunk[1]]);
        for i in 0..symbols([chunk[0], chunk[1]]).min(left) {
            let symbol = match bits >> 14 {
                2 => bits >> (13 - i) & 1,
                3 => bits >> (12 - 2 * i) & 3,
                _ => bits >> 13 & 3,
            };
            let arrived = match (symbol, deltas) {
                (1, [delta, rest @ ..]) => {
                    deltas = rest;
                    time += i64::from(*delta) * 250;
                    true
                }
                (2, [high, low, rest @ ..]) => {
                    deltas = rest;
                    time += i64::from(i16::from_be_bytes([*high, *low])) * 250;
                    true
                }
                (0, _) => false,
                _ => return,
            };
            tell(seq, arrived.then_some(time));
            seq = seq.wrapping_add(1);
            left -= 1;
        }
    }
}

/// What a sender report tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderReport {
    pub(crate) ssrc: u32,
    /// NTP time: seconds since 1900 in the high 32 bits, their fraction in the low.
    pub(crate) ntp: u64,
    pub(crate) timestamp: u32,
    pub(crate) packets: u32,
    pub(crate) bytes: u32,
}

/// Writes a compound of a sender report and the CNAME.
pub(crate) fn write_report(report: &SenderReport, cname: &str, out: &mut Vec<u8>) {
    out.extend([0x80, SENDER_REPORT, 0, 6]);
    out.extend(report.ssrc.to_be_bytes());
    out.extend(report.ntp.to_be_bytes());
    for field in [report.timestamp, report.packets, report.bytes] {
        out.extend(field.to_be_bytes());
    }
    let name = &cname.as_bytes()[..cname.len().min(64)];
    // A chunk ends with at least one zero, and on a word.
    let size = (4 + 2 + name.len() + 1).next_multiple_of(4);
    out.extend([0x81, DESCRIPTION, 0, (size / 4) as u8]);
    let end = out.len() + size;
    out.extend(report.ssrc.to_be_bytes());
    out.extend([1, name.len() as u8]);
    out.extend(name);
    out.resize(end, 0);
}

/// Writes a goodbye.
pub(crate) fn write_goodbye(ssrc: u32, out: &mut Vec<u8>) {
    out.extend([0x81, GOODBYE, 0, 1]);
    out.extend(ssrc.to_be_bytes());
}

#[cfg(test)]
mod tests;
