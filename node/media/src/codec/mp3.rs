//! MP3: the frame header (ISO/IEC 11172-3, 2.4.1.3; ISO/IEC 13818-3 for the low sample rates).

use super::CodecError;

/// What a frame header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) sample_rate: u32,
    pub(crate) channels: u8,
    pub(crate) samples_per_frame: u32,
}

const WHAT: &str = "MP3 frame header";

impl Header {
    pub(crate) fn parse(frame: &[u8]) -> Result<Self, CodecError> {
        let [a, b, c, d, ..] = *frame else { return Err(CodecError::Truncated { what: WHAT }) };
        let invalid =
            |field, value: u8| Err(CodecError::Invalid { what: WHAT, field, value: u64::from(value) });
        if a != 0xff || b & 0xe0 != 0xe0 {
            return invalid("sync word", a);
        }
        let layer = (b >> 1) & 3;
        if layer != 1 {
            return invalid("layer", layer);
        }
        if c >> 4 == 15 {
            return invalid("bitrate_index", 15);
        }
        let rates = match (b >> 3) & 3 {
            0 => [11_025, 12_000, 8_000],
            2 => [22_050, 24_000, 16_000],
            3 => [44_100, 48_000, 32_000],
            reserved => return invalid("version", reserved),
        };
        let Some(&sample_rate) = rates.get(usize::from((c >> 2) & 3)) else {
            return invalid("sampling_frequency", 3);
        };
        Ok(Header {
            sample_rate,
            channels: if d >> 6 == 3 { 1 } else { 2 },
            samples_per_frame: if sample_rate >= 32_000 { 1152 } else { 576 },
        })
    }

    /// The object type indications of MPEG-1 and MPEG-2 audio.
    pub(crate) fn codec_string(&self) -> &'static str {
        if self.samples_per_frame == 1152 { "mp4a.6b" } else { "mp4a.69" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers() {
        // The first two written by LAME: 44.1 kHz joint stereo, 22.05 kHz mono. Then MPEG-2.5, 8 kHz mono.
        for (bytes, sample_rate, channels, samples_per_frame, string) in [
            ([0xff, 0xfb, 0x90, 0x64], 44_100, 2, 1152, "mp4a.6b"),
            ([0xff, 0xf3, 0x40, 0xc4], 22_050, 1, 576, "mp4a.69"),
            ([0xff, 0xe3, 0x18, 0xc4], 8_000, 1, 576, "mp4a.69"),
        ] {
            let h = Header::parse(&bytes).expect("valid");
            assert_eq!(h, Header { sample_rate, channels, samples_per_frame });
            assert_eq!(h.codec_string(), string);
        }
    }

    #[test]
    fn refused() {
        assert_eq!(Header::parse(&[0xff, 0xfb, 0x90]), Err(CodecError::Truncated { what: WHAT }));
        for bytes in [
            [0x49, 0x44, 0x33, 0x04], // an ID3 tag
            [0xff, 0xf1, 0x50, 0x80], // ADTS
            [0xff, 0xfb, 0xf0, 0x64],
            [0xff, 0xfb, 0x9c, 0x64],
            [0xff, 0xeb, 0x90, 0x64],
        ] {
            assert!(matches!(Header::parse(&bytes), Err(CodecError::Invalid { .. })), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) {
            let _ = Header::parse(&data);
        }
    }
}
