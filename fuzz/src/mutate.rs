//! Changes to inputs that parsers of binary protocols and of text tend to stumble over.

use crate::Random;

/// Inputs do not grow beyond this, in bytes, except by [`Mutator::input`]'s rare large ones.
const USUAL: usize = 8 << 10;
/// The largest input, in bytes.
pub const LARGEST: usize = 64 << 10;
/// How many of the newest results are mutated further.
const RECENT: usize = 64;

/// Makes inputs out of a corpus: the same ones in the same order for the same corpus and seed.
#[derive(Debug)]
pub struct Mutator {
    random: Random,
    corpus: Vec<Vec<u8>>,
    words: &'static [&'static [u8]],
    recent: Vec<Vec<u8>>,
}

impl Mutator {
    /// Starts from `corpus`; `words` are put in here and there.
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>, words: &'static [&'static [u8]]) -> Self {
        Mutator { random: Random::new(seed), corpus, words, recent: Vec::new() }
    }

    /// The next input.
    pub fn input(&mut self) -> Vec<u8> {
        let from_recent = !self.recent.is_empty() && self.random.one_in(4);
        let pool = if from_recent { &self.recent } else { &self.corpus };
        let mut data = self.random.pick(pool).cloned().unwrap_or_default();
        for _ in 0..1 + self.random.below(6) {
            self.change(&mut data);
        }
        if self.random.one_in(100) {
            self.repeat(&mut data, LARGEST);
        }
        data.truncate(LARGEST);
        if data.len() <= USUAL && self.random.one_in(8) {
            if self.recent.len() < RECENT {
                self.recent.push(data.clone());
            } else {
                let at = self.random.below(RECENT);
                self.recent[at] = data.clone();
            }
        }
        data
    }

    fn change(&mut self, data: &mut Vec<u8>) {
        let r = &mut self.random;
        let at = r.below(data.len() + 1);
        match r.below(14) {
            0 => flip(data, r),
            1 => set(data, at, &[r.bits() as u8]),
            2 => set(data, at, &[[0, 1, 0x7f, 0x80, 0xfe, 0xff][r.below(6)]]),
            3 => {
                let bytes: Vec<u8> = (0..1 + r.below(16)).map(|_| r.bits() as u8).collect();
                insert(data, at, &bytes);
            }
            4 => {
                let end = (at + 1 + r.below(32)).min(data.len());
                data.drain(at..end);
            }
            5 => data.truncate(at),
            6 => number(data, at, r),
            7 => number(data, at, r),
            8 => {
                let from = r.below(data.len() + 1);
                let piece = data[from..(from + 1 + r.below(64)).min(data.len())].to_vec();
                if r.one_in(2) { insert(data, at, &piece) } else { set(data, at, &piece) }
            }
            9 => {
                if let Some(word) = self.words.get(r.below(self.words.len())) {
                    if r.one_in(2) { insert(data, at, word) } else { set(data, at, word) }
                }
            }
            10 => {
                if let Some(other) = self.corpus.get(r.below(self.corpus.len())) {
                    let from = r.below(other.len() + 1);
                    data.truncate(at);
                    data.extend_from_slice(&other[from..]);
                }
            }
            11 => {
                if let Some(other) = self.corpus.get(r.below(self.corpus.len())) {
                    let from = r.below(other.len() + 1);
                    insert(data, at, &other[from..(from + 1 + r.below(256)).min(other.len())]);
                }
            }
            12 => text_number(data, at, r),
            _ => self.repeat(data, USUAL),
        }
        data.truncate(USUAL.max(LARGEST));
    }

    /// Repeats a stretch until the input has up to `most` bytes: what is harmless once may not be a thousand times.
    fn repeat(&mut self, data: &mut Vec<u8>, most: usize) {
        let r = &mut self.random;
        let at = r.below(data.len() + 1);
        let most_of_it = [4, 64, 1024][r.below(3)];
        let piece = data[at..(at + 1 + r.below(most_of_it)).min(data.len())].to_vec();
        if piece.is_empty() || data.len() >= most {
            return;
        }
        let room = (most - data.len()) / piece.len();
        let times = if r.one_in(4) { room } else { r.below(room.min(16) + 1) };
        insert(data, at, &piece.repeat(times));
    }
}

fn flip(data: &mut [u8], r: &mut Random) {
    let at = r.below(data.len());
    if let Some(byte) = data.get_mut(at) {
        *byte ^= 1 << r.below(8);
    }
}

fn set(data: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = (at + bytes.len()).min(data.len());
    data.splice(at..end, bytes.iter().copied());
}

fn insert(data: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    data.splice(at..at, bytes.iter().copied());
}

/// Writes a length or a count: the edges of its range, or something near what is left of the input.
fn number(data: &mut Vec<u8>, at: usize, r: &mut Random) {
    let left = (data.len() - at) as u64;
    let values =
        [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7f_ffff, 0xff_ffff, 0x7fff_ffff, 0xffff_ffff];
    let value = match r.below(4) {
        0 => left,
        1 => (left + 4).wrapping_sub(r.below(9) as u64),
        2 => r.bits() >> r.below(64),
        _ => values[r.below(values.len())],
    };
    let width = [1, 2, 3, 4, 8][r.below(5)];
    let bytes = value.to_be_bytes();
    let mut bytes = bytes[8 - width..].to_vec();
    if r.one_in(4) {
        bytes.reverse();
    }
    set(data, at, &bytes);
}

/// Replaces the digits after `at` with another number.
fn text_number(data: &mut Vec<u8>, at: usize, r: &mut Random) {
    let Some(from) = data[at..].iter().position(u8::is_ascii_digit).map(|n| at + n) else { return };
    let digits = data[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let texts = [
        "0",
        "1",
        "-1",
        "00",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "1e9",
        "",
    ];
    let text = if r.one_in(3) {
        (r.bits() >> r.below(64)).to_string()
    } else {
        texts[r.below(texts.len())].to_owned()
    };
    data.splice(from..from + digits, text.into_bytes());
}
