//! AAC: the AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1) and the ADTS header (1.A.3.2).

use super::CodecError;
use crate::bits::BitReader;

const ASC: &str = "AudioSpecificConfig";

/// Samples per second by samplingFrequencyIndex (table 1.18).
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

const SBR: u8 = 5;
const PS: u8 = 29;
const ER_AAC_LD: u8 = 23;
const ER_AAC_ELD: u8 = 39;

/// What an AudioSpecificConfig says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The audio object type of the core codec: 2 for AAC-LC, also below SBR.
    pub(crate) object_type: u8,
    /// Samples per second of the core codec.
    pub(crate) core_rate: u32,
    /// Samples per second that come out: twice the core's with SBR.
    pub(crate) output_rate: u32,
    /// channelConfiguration; 0 when a program config element lists the channels.
    pub(crate) channel_configuration: u8,
    /// Channels that come out: 2 for one with parametric stereo.
    pub(crate) channels: u8,
    sbr: bool,
    ps: bool,
    /// Samples per frame of the core codec and channel.
    core_frame: u32,
}

impl Config {
    pub(crate) fn parse(asc: &[u8]) -> Result<Self, CodecError> {
        let r = &mut BitReader::new(asc, ASC);
        let mut object_type = object_type_of(r)?;
        let core_rate = sample_rate(r)?;
        let channel_configuration = r.u(4)? as u8;
        let mut output_rate = core_rate;
        let (mut sbr, mut ps) = (false, false);
        if matches!(object_type, SBR | PS) {
            sbr = true;
            ps = object_type == PS;
            output_rate = sample_rate(r)?;
            object_type = object_type_of(r)?;
        }
        let mut listed_channels = None;
        let core_frame = match object_type {
            1..=4 | ER_AAC_LD => {
                let (core_frame, listed) = ga_specific(r, object_type, channel_configuration)?;
                listed_channels = listed;
                core_frame
            }
            ER_AAC_ELD => {
                let short = r.flag()?;
                r.skip(3)?; // resilience flags
                if r.flag()? {
                    sbr = true;
                    if r.flag()? {
                        output_rate = believable(core_rate * 2)?;
                    }
                }
                if short { 480 } else { 512 }
            }
            other => return Err(invalid("audio object type", u32::from(other))),
        };
        // Backward compatible signalling of SBR and PS, behind what older decoders read (1.6.6).
        if !sbr
            && object_type == 2
            && let Ok(extension) = sync_extension(r)
        {
            (sbr, ps) = (extension.0.is_some(), extension.1);
            output_rate = extension.0.unwrap_or(core_rate);
        }
        let mut channels = match (listed_channels, channel_configuration) {
            (Some(n), _) => n,
            (None, n @ 1..=6) => n,
            (None, 7 | 12 | 14) => 8,
            (None, 11) => 7,
            (None, 13) => 24,
            (None, other) => return Err(invalid("channelConfiguration", u32::from(other))),
        };
        if ps && channels == 1 {
            channels = 2;
        }
        Ok(Config {
            object_type,
            core_rate,
            output_rate,
            channel_configuration,
            channels,
            sbr,
            ps,
            core_frame,
        })
    }

    /// `mp4a.40.2` and its like (RFC 6381, 3.3); 5 and 29 name SBR and PS whichever way they are signalled.
    pub(crate) fn codec_string(&self) -> String {
        let object_type = match (self.sbr && self.object_type != ER_AAC_ELD, self.ps) {
            (_, true) => PS,
            (true, false) => SBR,
            (false, false) => self.object_type,
        };
        format!("mp4a.40.{object_type}")
    }

    /// Samples that one access unit gives, at the output rate.
    pub(crate) fn samples_per_frame(&self) -> u32 {
        (u64::from(self.core_frame) * u64::from(self.output_rate) / u64::from(self.core_rate)) as u32
    }
}

fn object_type_of(r: &mut BitReader<'_>) -> Result<u8, CodecError> {
    const ESCAPE: u32 = 31;
    Ok(match r.u(5)? {
        ESCAPE => 32 + r.u(6)? as u8,
        n => n as u8,
    })
}

fn sample_rate(r: &mut BitReader<'_>) -> Result<u32, CodecError> {
    const ESCAPE: u32 = 15;
    let index = r.u(4)?;
    let rate = if index == ESCAPE { Some(r.u(24)?) } else { SAMPLE_RATES.get(index as usize).copied() };
    rate.map_or(Err(invalid("samplingFrequencyIndex", index)), believable)
}

/// A sample rate, when it is one that anybody uses.
fn believable(rate: u32) -> Result<u32, CodecError> {
    match rate {
        1_000..=192_000 => Ok(rate),
        rate => Err(invalid("sampling frequency", rate)),
    }
}

/// GASpecificConfig (4.4.1): the core's frame length, and the channels of its program config element.
fn ga_specific(
    r: &mut BitReader<'_>,
    object_type: u8,
    channel_configuration: u8,
) -> Result<(u32, Option<u8>), CodecError> {
    let short = r.flag()?;
    if r.flag()? {
        r.skip(14)?; // coreCoderDelay
    }
    let extension = r.flag()?;
    let listed = if channel_configuration == 0 { Some(program_config_channels(r)?) } else { None };
    if extension && object_type == ER_AAC_LD {
        r.skip(3)?; // resilience flags
    }
    if extension {
        r.skip(1)?; // extensionFlag3
    }
    let core_frame = match (object_type == ER_AAC_LD, short) {
        (false, false) => 1024,
        (false, true) => 960,
        (true, false) => 512,
        (true, true) => 480,
    };
    Ok((core_frame, listed))
}

/// program_config_element() (4.4.1.1): how many channels it lists.
fn program_config_channels(r: &mut BitReader<'_>) -> Result<u8, CodecError> {
    r.skip(4 + 2 + 4)?; // tag, object type, sampling frequency index
    let front = r.u(4)?;
    let side = r.u(4)?;
    let back = r.u(4)?;
    let lfe = r.u(2)?;
    let data = r.u(3)?;
    let coupling = r.u(4)?;
    for bits in [4, 4, 3] {
        // mono mixdown, stereo mixdown, matrix mixdown
        if r.flag()? {
            r.skip(bits)?;
        }
    }
    let mut channels = lfe;
    for _ in 0..front + side + back {
        channels += if r.flag()? { 2 } else { 1 };
        r.skip(4)?;
    }
    r.skip(4 * (lfe + data) as usize + 5 * coupling as usize)?;
    r.align();
    let comment = r.u(8)? as usize;
    r.skip(8 * comment)?;
    match channels {
        0 => Err(invalid("number of channels", 0)),
        n => Ok(n as u8),
    }
}

/// The extension behind the core's configuration: the SBR rate, and whether there is parametric stereo.
fn sync_extension(r: &mut BitReader<'_>) -> Result<(Option<u32>, bool), CodecError> {
    const SBR_SYNC: u32 = 0x2b7;
    const PS_SYNC: u32 = 0x548;
    if r.u(11)? != SBR_SYNC || object_type_of(r)? != SBR || !r.flag()? {
        return Ok((None, false));
    }
    let rate = sample_rate(r)?;
    let ps = r.remaining() >= 12 && r.u(11)? == PS_SYNC && r.flag()?;
    Ok((Some(rate), ps))
}

fn invalid(field: &'static str, value: u32) -> CodecError {
    CodecError::Invalid { what: ASC, field, value: u64::from(value) }
}

/// Makes the ADTS headers that MPEG-TS wants before each access unit of a raw AAC track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adts {
    profile: u8,
    rate_index: u8,
    channel_configuration: u8,
}

impl Adts {
    /// Length of a header, in bytes.
    pub const HEADER: usize = 7;

    /// From an AudioSpecificConfig. SBR and PS go unsaid in ADTS: decoders find them in the access units.
    ///
    /// # Errors
    /// Truncated or Invalid, for the record, and Invalid for what ADTS has no room for: object types above 4,
    /// odd sample rates, channels by a program config element or a configuration above 7.
    pub fn new(asc: &[u8]) -> Result<Self, CodecError> {
        const WHAT: &str = "AAC in ADTS";
        let refuse = |field, value| Err(CodecError::Invalid { what: WHAT, field, value });
        let config = Config::parse(asc)?;
        if config.object_type > 4 {
            return refuse("audio object type", u64::from(config.object_type));
        }
        let Some(rate_index) = SAMPLE_RATES.iter().position(|&r| r == config.core_rate) else {
            return refuse("sample rate", u64::from(config.core_rate));
        };
        if !(1..=7).contains(&config.channel_configuration) {
            return refuse("channelConfiguration", u64::from(config.channel_configuration));
        }
        Ok(Adts {
            profile: config.object_type - 1,
            rate_index: rate_index as u8,
            channel_configuration: config.channel_configuration,
        })
    }

    /// The header for an access unit of `len` bytes; `None` when that is too long for its 13 bits.
    pub fn header(&self, len: usize) -> Option<[u8; Self::HEADER]> {
        let frame = u16::try_from(len + Self::HEADER).ok().filter(|&n| n < 1 << 13)?;
        let channels = self.channel_configuration;
        Some([
            0xff,
            0xf1, // sync word, MPEG-4, layer 0, no CRC
            (self.profile << 6) | (self.rate_index << 2) | (channels >> 2),
            ((channels & 3) << 6) | (frame >> 11) as u8,
            (frame >> 3) as u8,
            ((frame & 7) << 5) as u8 | 0x1f, // buffer fullness: variable bit rate
            0xfc,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Object type, core rate, output rate, channels, samples a frame, codec string.
    type Row = (&'static [u8], u8, u32, u32, u8, u32, &'static str);

    #[test]
    fn records() {
        let table: &[Row] = &[
            // Written by ffmpeg 5.1: 48 kHz stereo, 44.1 kHz mono, 4.0, 5.1
            (&[0x11, 0x90, 0x56, 0xe5, 0x00], 2, 48_000, 48_000, 2, 1024, "mp4a.40.2"),
            (&[0x12, 0x08, 0x56, 0xe5, 0x00], 2, 44_100, 44_100, 1, 1024, "mp4a.40.2"),
            (&[0x11, 0xa0, 0x56, 0xe5, 0x00], 2, 48_000, 48_000, 4, 1024, "mp4a.40.2"),
            (&[0x11, 0xb0, 0x56, 0xe5, 0x00], 2, 48_000, 48_000, 6, 1024, "mp4a.40.2"),
            // The same for layouts that it lists in a program config element: octagonal, 2.1
            (
                &[
                    0x11, 0x80, 0x04, 0xc8, 0x48, 0x00, 0x20, 0x08, 0xc8, 0x20, 0x0d, 0x4c, 0x61, 0x76, 0x63,
                    0x35, 0x39, 0x2e, 0x33, 0x37, 0x2e, 0x31, 0x30, 0x30, 0x56, 0xe5, 0x00,
                ],
                2,
                48_000,
                48_000,
                8,
                1024,
                "mp4a.40.2",
            ),
            (
                &[
                    0x11, 0x80, 0x04, 0xc4, 0x01, 0x00, 0x20, 0x00, 0x0d, 0x4c, 0x61, 0x76, 0x63, 0x35, 0x39,
                    0x2e, 0x33, 0x37, 0x2e, 0x31, 0x30, 0x30, 0x56, 0xe5, 0x00,
                ],
                2,
                48_000,
                48_000,
                3,
                1024,
                "mp4a.40.2",
            ),
            // Built by hand after the standard: plain; 960 samples; rate by escape
            (&[0x12, 0x10], 2, 44_100, 44_100, 2, 1024, "mp4a.40.2"),
            (&[0x12, 0x14], 2, 44_100, 44_100, 2, 960, "mp4a.40.2"),
            (&[0x17, 0x80, 0x5d, 0xc2, 0x10], 2, 48_004, 48_004, 2, 1024, "mp4a.40.2"),
            // SBR: explicit (24 kHz -> 48 kHz), backward compatible, with PS both ways
            (&[0x2b, 0x11, 0x88, 0x00], 2, 24_000, 48_000, 2, 2048, "mp4a.40.5"),
            (&[0x13, 0x10, 0x56, 0xe5, 0x98], 2, 24_000, 48_000, 2, 2048, "mp4a.40.5"),
            (&[0xeb, 0x09, 0x88, 0x00], 2, 24_000, 48_000, 2, 2048, "mp4a.40.29"),
            (&[0x13, 0x08, 0x56, 0xe5, 0x9d, 0x48, 0x80], 2, 24_000, 48_000, 2, 2048, "mp4a.40.29"),
            // Object types by escape: AAC-ELD, 512 and 480 samples; AAC-LD
            (&[0xf8, 0xe6, 0x40, 0x00], 39, 48_000, 48_000, 2, 512, "mp4a.40.39"),
            (&[0xf8, 0xe6, 0x50, 0x00], 39, 48_000, 48_000, 2, 480, "mp4a.40.39"),
            (&[0xb9, 0x90], 23, 48_000, 48_000, 2, 512, "mp4a.40.23"),
        ];
        for &(asc, object_type, core, output, channels, samples, string) in table {
            let c = Config::parse(asc).unwrap_or_else(|e| panic!("{asc:x?}: {e}"));
            let got = (c.object_type, c.core_rate, c.output_rate, c.channels, c.samples_per_frame());
            assert_eq!(got, (object_type, core, output, channels, samples), "{asc:x?}");
            assert_eq!(c.codec_string(), string, "{asc:x?}");
        }
    }

    #[test]
    fn refused() {
        let truncated = Err(CodecError::Truncated { what: ASC });
        assert_eq!(Config::parse(&[]), truncated);
        assert_eq!(Config::parse(&[0x12]), truncated);
        assert_eq!(Config::parse(&[0x11, 0x80, 0x04]), truncated);
        for (asc, field, value) in [
            (&[0x16, 0x90][..], "samplingFrequencyIndex", 13),
            (&[0x11, 0xc0 | 0x08], "channelConfiguration", 9),
            (&[0x41, 0x90, 0, 0], "audio object type", 8),
            (&[0x17, 0x80, 0x00, 0x00, 0x10], "sampling frequency", 0),
            // ELD whose core rate would do, but not the doubled one.
            (&[0xf8, 0xfe, 0x05, 0x08, 0x56, 0xe5, 0xee], "sampling frequency", 329_814),
        ] {
            assert_eq!(Config::parse(asc), Err(CodecError::Invalid { what: ASC, field, value }), "{asc:x?}");
        }
    }

    #[test]
    fn adts_header() {
        let adts = Adts::new(&[0x12, 0x10]).expect("LC");
        assert_eq!(adts.header(371 - 7), Some([0xff, 0xf1, 0x50, 0x80, 0x2e, 0x7f, 0xfc]));
        assert_eq!(adts.header(8191 - 7).map(|h| h[3] & 3), Some(3));
        assert_eq!(adts.header(8192 - 7), None);
        // HE-AAC goes out as its core.
        assert_eq!(Adts::new(&[0x2b, 0x11, 0x88, 0x00]), Adts::new(&[0x13, 0x10]));
        assert!(Adts::new(&[0xb9, 0x90]).is_err());
        // 48 kHz by escape has an index, 48,004 Hz has none.
        assert_eq!(Adts::new(&[0x17, 0x80, 0x5d, 0xc0, 0x10]), Adts::new(&[0x11, 0x90]));
        assert!(Adts::new(&[0x17, 0x80, 0x5d, 0xc2, 0x10]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(asc: Vec<u8>) {
            if let Ok(c) = Config::parse(&asc) {
                prop_assert!(c.channels > 0 && c.output_rate > 0);
                c.samples_per_frame();
                c.codec_string();
            }
            let _ = Adts::new(&asc).map(|a| a.header(asc.len()));
        }
    }
}
