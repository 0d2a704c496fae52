//! Numbers that look random and follow from a seed (SplitMix64): nothing that must not be guessed may hang on them.

/// A row of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Row(u64);

impl Row {
    pub(crate) fn new(seed: u64) -> Self {
        Row(seed)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(STEP);
        number
    }
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number that belongs to a seed.
pub(crate) fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(STEP);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
