//! The clock in the frames: an SEI message of type user_data_unregistered (H.264, D.1.7) that says when the frame
//! was sent and which one it is. Its digits are hexadecimal text, so that no emulation prevention byte can ever
//! get into it and it can be found by its identifier in any container.

use memchr::memmem::Finder;

const IDENTIFIER: [u8; 16] =
    [0x5b, 0x1f, 0xc4, 0x8e, 0x73, 0xd0, 0x4a, 0x6b, 0x9c, 0x2e, 0x41, 0xe7, 0x96, 0xb8, 0xd3, 0x2f];
const DIGITS: usize = 24;
const PAYLOAD: usize = IDENTIFIER.len() + DIGITS;
/// Length of the NAL unit.
const NAL: usize = 3 + PAYLOAD + 1;
/// Longest form with its length field.
pub(crate) const MAX: usize = 4 + NAL;
const ACCESS_UNIT_DELIMITER: u8 = 9;

/// When a frame was sent, and which one it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Nanoseconds since the Unix epoch.
    pub(crate) nanos: u64,
    /// Counts the video frames of a publisher, modulo 2^32.
    pub(crate) number: u32,
}

impl Stamp {
    /// The NAL unit behind a length field of `length_size` bytes: the buffer, and how much of it is used.
    pub(crate) fn write(self, length_size: u8) -> ([u8; MAX], usize) {
        let size = usize::from(length_size.clamp(1, 4));
        let mut out = [0; MAX];
        out[size - 1] = NAL as u8;
        let nal = &mut out[size..size + NAL];
        nal[..3].copy_from_slice(&[6, 5, PAYLOAD as u8]);
        nal[3..19].copy_from_slice(&IDENTIFIER);
        hex(self.nanos, &mut nal[19..35]);
        hex(u64::from(self.number), &mut nal[35..43]);
        nal[43] = 0x80;
        (out, size + NAL)
    }
}

fn hex(mut value: u64, out: &mut [u8]) {
    for byte in out.iter_mut().rev() {
        *byte = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

/// Where a stamp belongs in a frame of length-prefixed NAL units: in front, but behind an access unit delimiter.
pub(crate) fn place(frame: &[u8], length_size: u8) -> usize {
    let size = usize::from(length_size);
    let Some(length) = frame.get(..size).map(|l| l.iter().fold(0, |n, b| n << 8 | usize::from(*b))) else {
        return 0;
    };
    match frame.get(size) {
        Some(first) if first & 0x1f == ACCESS_UNIT_DELIMITER => (size + length).min(frame.len()),
        _ => 0,
    }
}

/// Finds stamps in bytes.
#[derive(Debug)]
pub(crate) struct Seeker(Finder<'static>);

impl Seeker {
    pub(crate) fn new() -> Self {
        Seeker(Finder::new(&IDENTIFIER))
    }

    /// All whole stamps in `data`, in their order.
    pub(crate) fn stamps<'a>(&'a self, mut data: &'a [u8]) -> impl Iterator<Item = Stamp> + 'a {
        std::iter::from_fn(move || {
            loop {
                let at = self.0.find(data)?;
                let digits = data.get(at + IDENTIFIER.len()..at + PAYLOAD)?;
                data = &data[at + IDENTIFIER.len()..];
                if let (Some(nanos), Some(number)) = (unhex(&digits[..16]), unhex(&digits[16..])) {
                    return Some(Stamp { nanos, number: number as u32 });
                }
            }
        })
    }
}

fn unhex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, d| Some(value << 4 | u64::from(char::from(*d).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_a_well_formed_sei() {
        let (bytes, length) = Stamp { nanos: 0x1234, number: 7 }.write(4);
        assert_eq!(length, MAX);
        assert_eq!(bytes[..7], [0, 0, 0, 44, 6, 5, 40]);
        assert_eq!(bytes[length - 1], 0x80);
        assert!(!bytes[4..].windows(2).any(|w| w == [0, 0]));
        let (bytes, length) = Stamp { nanos: 0, number: 0 }.write(1);
        assert_eq!((length, bytes[0], bytes[1]), (45, 44, 6));
    }

    #[test]
    fn it_goes_behind_a_delimiter() {
        assert_eq!(place(&[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 1, 0x65], 4), 6);
        assert_eq!(place(&[0, 0, 0, 1, 0x65], 4), 0);
        assert_eq!(place(&[0, 9, 9], 2), 3);
        assert_eq!(place(&[0], 4), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_found(nanos: u64, number: u32, before: Vec<u8>, after: Vec<u8>, size in 1u8..=4) {
            let (bytes, length) = Stamp { nanos, number }.write(size);
            let data = [&before, &bytes[..length], &after[..], &bytes[..length]].concat();
            let found: Vec<_> = Seeker::new().stamps(&data).collect();
            prop_assert_eq!(found, vec![Stamp { nanos, number }; 2]);
            let cut = &data[..before.len() + 30];
            prop_assert_eq!(Seeker::new().stamps(cut).count(), 0);
        }
    }
}
