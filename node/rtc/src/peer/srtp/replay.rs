//! Packet indices of received streams (RFC 3711, 3.3.1), and which of them have been seen (3.3.2).

/// How far behind the newest a packet may come, in packets.
const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;
/// The most SSRCs of a session; those beyond are not heard.
const MAX_STREAMS: usize = 64;

/// The index that fits a sequence number best: the one nearest to the highest so far.
pub(super) fn index(highest: u64, seq: u16) -> u64 {
    let ahead = seq.wrapping_sub(highest as u16);
    if ahead < 0x8000 {
        return highest.wrapping_add(ahead.into());
    }
    // Behind; before the first wrap there is nothing to be behind of.
    highest.checked_sub((0x1_0000 - u32::from(ahead)).into()).unwrap_or(seq.into())
}

/// What has been received, by SSRC. Only what was authentic is remembered.
#[derive(Default)]
pub(super) struct Streams(Vec<Stream>);

struct Stream {
    ssrc: u32,
    highest: u64,
    /// A bit for each of the last indices, at the index modulo the window.
    seen: [u64; WORDS],
}

impl Streams {
    /// The index of a packet with this sequence number, unless it has been seen or is too old.
    pub(super) fn expect(&self, ssrc: u32, seq: u16) -> Option<u64> {
        match self.find(ssrc) {
            Some(stream) => {
                let index = index(stream.highest, seq);
                stream.is_new(index).then_some(index)
            }
            None => (self.0.len() < MAX_STREAMS).then_some(seq.into()),
        }
    }

    /// Whether an index has neither been seen nor is too old.
    pub(super) fn is_new(&self, ssrc: u32, index: u64) -> bool {
        match self.find(ssrc) {
            Some(stream) => stream.is_new(index),
            None => self.0.len() < MAX_STREAMS,
        }
    }

    /// Remembers an authentic packet. Always true.
    pub(super) fn accept(&mut self, ssrc: u32, index: u64) -> bool {
        match self.0.iter_mut().find(|s| s.ssrc == ssrc) {
            Some(stream) => stream.accept(index),
            None => {
                let mut stream = Stream { ssrc, highest: index, seen: [0; WORDS] };
                stream.accept(index);
                self.0.push(stream);
            }
        }
        true
    }

    fn find(&self, ssrc: u32) -> Option<&Stream> {
        self.0.iter().find(|s| s.ssrc == ssrc)
    }
}

impl Stream {
    fn is_new(&self, index: u64) -> bool {
        if index > self.highest {
            return true;
        }
        self.highest - index < WINDOW && self.seen[word(index)] & bit(index) == 0
    }

    fn accept(&mut self, index: u64) {
        if index > self.highest {
            if index - self.highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..=index {
                    self.seen[word(skipped)] &= !bit(skipped);
                }
            }
            self.highest = index;
        }
        self.seen[word(index)] |= bit(index);
    }
}

fn word(index: u64) -> usize {
    (index % WINDOW / 64) as usize
}

fn bit(index: u64) -> u64 {
    1 << (index % 64)
}
