//! Transport-wide feedback: when each packet came (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two reports.
const INTERVAL: Duration = Duration::from_millis(50);
/// Packets in one report.
const MOST: u64 = 200;
/// Packets that wait to be reported.
const WAITING: usize = 4096;
/// The unit of arrival times, in microseconds.
const TICK: i64 = 250;

#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Arrival in microseconds by number, beyond the wraps of 16 bits.
    waiting: BTreeMap<u64, i64>,
    highest: Option<u64>,
    reported: Option<u64>,
    count: u8,
    next: Option<Instant>,
}

impl Arrivals {
    /// A packet came; `micros` since the session began.
    pub(super) fn packet(&mut self, seq: u16, micros: i64, now: Instant) {
        let at = match self.highest {
            None => (1 << 32) + u64::from(seq),
            Some(highest) => {
                highest.saturating_add_signed(i64::from(seq.wrapping_sub(highest as u16) as i16))
            }
        };
        self.highest = Some(self.highest.map_or(at, |h| h.max(at)));
        self.waiting.entry(at).or_insert(micros);
        if self.waiting.len() > WAITING {
            self.waiting.pop_first();
        }
        self.next.get_or_insert(now + INTERVAL);
    }

    /// When a report is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The report that is due: what is behind the SSRCs of the feedback packet. Ask again until there is none.
    pub(super) fn report(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.next.is_none_or(|next| next > now) {
            return None;
        }
        let Some((&first, &time)) = self.waiting.first_key_value() else {
            self.next = None;
            return None;
        };
        let base = match self.reported {
            // Those that never came are reported, too.
            Some(reported) if (reported + 1..reported + MOST).contains(&first) => reported + 1,
            _ => first,
        };
        let reference = time.max(0) / 64_000;
        let mut at = reference * 64_000;
        let mut symbols: Vec<u8> = Vec::new();
        let mut deltas: Vec<u8> = Vec::new();
        while let Some((&seq, &time)) = self.waiting.first_key_value() {
            let delta = (time - at).div_euclid(TICK);
            if seq - base >= MOST || i16::try_from(delta).is_err() {
                break;
            }
            self.waiting.pop_first();
            at += delta * TICK;
            symbols.resize((seq - base) as usize, 0);
            if let Ok(small) = u8::try_from(delta) {
                symbols.push(1);
                deltas.push(small);
            } else {
                symbols.push(2);
                deltas.extend_from_slice(&(delta as i16).to_be_bytes());
            }
        }
        self.reported = Some(self.reported.unwrap_or(0).max(base + symbols.len() as u64 - 1));
        if self.waiting.is_empty() {
            self.next = None;
        }
        let mut body = Vec::with_capacity(16 + symbols.len() / 3 + deltas.len());
        body.extend_from_slice(&(base as u16).to_be_bytes());
        body.extend_from_slice(&(symbols.len() as u16).to_be_bytes());
        body.extend_from_slice(&(reference as u32).to_be_bytes()[1..]);
        body.push(self.count);
        self.count = self.count.wrapping_add(1);
        chunks(&symbols, &mut body);
        body.extend_from_slice(&deltas);
        Some(body)
    }
}

/// Packet status chunks (3.1.3 and 3.1.4), whichever holds more from here.
fn chunks(mut symbols: &[u8], out: &mut Vec<u8>) {
    while let Some(&first) = symbols.first() {
        let run = symbols.iter().take_while(|s| **s == first).count();
        let ones = symbols.iter().take(14).take_while(|s| **s < 2).count();
        let (chunk, count) = if run >= 14 || run == symbols.len() {
            (u16::from(first) << 13 | run as u16, run)
        } else if ones == symbols.len().min(14) {
            let bits = symbols.iter().take(14).enumerate();
            (0x8000 | bits.fold(0, |c, (i, s)| c | u16::from(*s) << (13 - i)), ones)
        } else {
            let count = symbols.len().min(7);
            let bits = symbols.iter().take(7).enumerate();
            (0xc000 | bits.fold(0, |c, (i, s)| c | u16::from(*s) << (12 - 2 * i)), count)
        };
        out.extend_from_slice(&chunk.to_be_bytes());
        symbols = &symbols[count..];
    }
}

#[cfg(test)]
#[path = "arrivals_tests.rs"]
mod tests;
