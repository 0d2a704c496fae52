//! Reading bit fields, most significant bit first, from untrusted bytes: every read is bounds-checked.
//!
//! NAL unit payloads of H.264 and HEVC go through [`rbsp`] first, which takes the emulation prevention out.

use std::borrow::Cow;

use crate::CodecError;

/// Reads bit fields from `data`; a read past the end is [`CodecError::Truncated`] with the name given.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    data: &'a [u8],
    /// Bits read so far.
    at: usize,
    what: &'static str,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit of `data`. `what` names the structure in errors, such as `avcC`.
    pub fn new(data: &'a [u8], what: &'static str) -> Self {
        BitReader { data, at: 0, what }
    }

    /// Bits that are left.
    pub fn remaining(&self) -> usize {
        self.data.len() * 8 - self.at
    }

    /// The next `n` bits as an unsigned number, `u(n)` of the standards; `n` is at most 32.
    ///
    /// # Errors
    /// Truncated, when fewer than `n` bits are left.
    pub fn u(&mut self, n: u32) -> Result<u32, CodecError> {
        debug_assert!(n <= 32, "a field is at most 32 bits wide");
        if self.remaining() < n as usize {
            return Err(self.truncated());
        }
        let mut value = 0u64;
        let mut left = n;
        while left > 0 {
            let used = (self.at % 8) as u32;
            let take = left.min(8 - used);
            let byte = u64::from(self.data[self.at / 8]);
            let field = (byte >> (8 - used - take)) & ((1 << take) - 1);
            value = (value << take) | field;
            self.at += take as usize;
            left -= take;
        }
        Ok(value as u32)
    }

    /// The next bit as a flag.
    ///
    /// # Errors
    /// Truncated, when no bit is left.
    pub fn flag(&mut self) -> Result<bool, CodecError> {
        Ok(self.u(1)? == 1)
    }

    /// Passes over `n` bits.
    ///
    /// # Errors
    /// Truncated, when fewer than `n` bits are left.
    pub fn skip(&mut self, n: usize) -> Result<(), CodecError> {
        if self.remaining() < n {
            return Err(self.truncated());
        }
        self.at += n;
        Ok(())
    }

    /// An unsigned Exp-Golomb number, `ue(v)` of H.264 and HEVC, `uvlc()` of AV1.
    ///
    /// # Errors
    /// Truncated at the end of the data; Invalid for a number that needs more than 32 bits.
    pub fn ue(&mut self) -> Result<u32, CodecError> {
        let mut zeros = 0u32;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(CodecError::Invalid {
                    what: self.what,
                    field: "Exp-Golomb prefix length",
                    value: u64::from(zeros),
                });
            }
        }
        let rest = self.u(zeros)?;
        Ok(((1u64 << zeros) - 1 + u64::from(rest)) as u32)
    }

    /// A signed Exp-Golomb number, `se(v)`.
    ///
    /// # Errors
    /// As [`ue`](Self::ue).
    pub fn se(&mut self) -> Result<i32, CodecError> {
        let k = i64::from(self.ue()?);
        Ok((if k % 2 == 1 { (k + 1) / 2 } else { -(k / 2) }) as i32)
    }

    /// Moves to the next byte boundary, counted from the start of the data.
    pub fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    fn truncated(&self) -> CodecError {
        CodecError::Truncated { what: self.what }
    }
}

/// A NAL unit's bytes without emulation prevention: each `00 00 03` loses its `03`.
/// Borrows when there is none.
pub fn rbsp(nal: &[u8]) -> Cow<'_, [u8]> {
    if !nal.windows(3).any(|w| w == [0, 0, 3]) {
        return Cow::Borrowed(nal);
    }
    let mut out = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Result = std::result::Result<(), CodecError>;

    #[test]
    fn fields_cross_bytes() -> Result {
        let mut r = BitReader::new(&[0b1010_0101, 0b1100_0011, 0xff, 0xff, 0xff, 0x00], "test");
        assert_eq!(r.u(3)?, 0b101);
        assert_eq!(r.u(7)?, 0b001_0111);
        assert!(!r.flag()?);
        assert_eq!(r.u(32)?, (0b00011 << 27) | (0xff_ffff << 3));
        assert_eq!(r.remaining(), 5);
        assert_eq!(r.u(0)?, 0);
        r.align();
        assert_eq!(r.remaining(), 0);
        assert_eq!(r.u(1), Err(CodecError::Truncated { what: "test" }));
        Ok(())
    }

    #[test]
    fn exp_golomb_as_in_table_9_2() -> Result {
        // 1 | 010 | 011 | 00100 | 00111 = 0 1 2 3 6
        let mut r = BitReader::new(&[0b1010_0110, 0b0100_0011, 0b1000_0000], "test");
        assert_eq!([r.ue()?, r.ue()?, r.ue()?, r.ue()?, r.ue()?], [0, 1, 2, 3, 6]);
        let mut r = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000], "test");
        assert_eq!([r.se()?, r.se()?, r.se()?, r.se()?, r.se()?], [0, 1, -1, 2, -2]);
        Ok(())
    }

    #[test]
    fn endless_prefix_is_refused() {
        let zeros = [0u8; 9];
        assert!(matches!(BitReader::new(&zeros, "test").ue(), Err(CodecError::Invalid { .. })));
    }

    #[test]
    fn emulation_prevention_goes() {
        assert_eq!(rbsp(&[1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3]).as_ref(), [1, 0, 0, 1, 0, 0, 0, 0]);
        assert!(matches!(rbsp(&[0, 0, 1, 3]), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn never_panics(data: Vec<u8>, reads in proptest::collection::vec((0u8..5, 0u32..33), 0..200)) {
            let clean = rbsp(&data);
            let mut r = BitReader::new(&clean, "test");
            for (kind, n) in reads {
                let _ = match kind {
                    0 => r.u(n).map(|_| ()),
                    1 => r.ue().map(|_| ()),
                    2 => r.se().map(|_| ()),
                    3 => r.skip(n as usize),
                    _ => { r.align(); Ok(()) }
                };
            }
        }

        #[test]
        fn fields_come_back(fields in proptest::collection::vec((any::<u32>(), 1u32..33), 0..50)) {
            let mut bits = Vec::new();
            for (v, n) in &fields {
                bits.extend((0..*n).rev().map(|b| (v >> b) & 1 == 1));
            }
            let bytes: Vec<u8> =
                bits.chunks(8).map(|c| c.iter().enumerate().fold(0, |a, (i, &b)| a | (u8::from(b) << (7 - i)))).collect();
            let mut r = BitReader::new(&bytes, "test");
            for (v, n) in fields {
                prop_assert_eq!(r.u(n), Ok((u64::from(v) & ((1u64 << n) - 1)) as u32));
            }
        }
    }
}
