//! [`AudioConfig`]'s constructors, and how long a frame of audio lasts.

use bytes::Bytes;

use super::{AudioCodec, AudioConfig, CodecError, aac, bounded, mp3, opus};

impl AudioConfig {
    /// AAC from an AudioSpecificConfig: object types 1 to 4, SBR and PS signalled either way, LD and ELD.
    ///
    /// # Errors
    /// Truncated or Invalid.
    pub fn aac(asc: Bytes) -> Result<Self, CodecError> {
        bounded("AudioSpecificConfig", &asc)?;
        let config = aac::Config::parse(&asc)?;
        Ok(AudioConfig {
            codec: AudioCodec::Aac,
            record: Bytes::copy_from_slice(&asc),
            sample_rate: config.output_rate,
            channels: config.channels,
            codec_string: config.codec_string(),
        })
    }

    /// Opus from the body of a dOps box.
    ///
    /// # Errors
    /// Truncated or Invalid.
    pub fn opus(dops: Bytes) -> Result<Self, CodecError> {
        bounded("dOps", &dops)?;
        Ok(AudioConfig {
            codec: AudioCodec::Opus,
            channels: opus::channels(&dops)?,
            record: Bytes::copy_from_slice(&dops),
            sample_rate: 48_000,
            codec_string: "opus".to_owned(),
        })
    }

    /// Opus from an identification header (RFC 7845), as enhanced RTMP and Ogg carry.
    ///
    /// # Errors
    /// Truncated or Invalid.
    pub fn opus_head(head: &[u8]) -> Result<Self, CodecError> {
        Self::opus(opus::dops_from_head(head)?.into())
    }

    /// The identification header for an Opus track, the inverse of [`opus_head`](Self::opus_head);
    /// `None` for other codecs.
    pub fn to_opus_head(&self) -> Option<Bytes> {
        match self.codec {
            AudioCodec::Opus => opus::head_from_dops(&self.record).map(Bytes::from),
            AudioCodec::Aac | AudioCodec::Mp3 => None,
        }
    }

    /// MP3, which has no record: from a frame, or the four bytes of its header.
    ///
    /// # Errors
    /// Truncated or Invalid.
    pub fn mp3(frame_header: &[u8]) -> Result<Self, CodecError> {
        let header = mp3::Header::parse(frame_header)?;
        Ok(AudioConfig {
            codec: AudioCodec::Mp3,
            record: Bytes::new(),
            sample_rate: header.sample_rate,
            channels: header.channels,
            codec_string: header.codec_string().to_owned(),
        })
    }

    /// Samples per channel that a payload decodes to, at [`sample_rate`](Self::sample_rate): AAC 1024 (2048 with
    /// SBR) or 960, LD and ELD 512 or 480; Opus by the packet; MP3 1152 or 576. `None` for a payload that its
    /// codec does not allow.
    pub fn samples_per_frame(&self, payload: &[u8]) -> Option<u32> {
        match self.codec {
            AudioCodec::Aac => aac::Config::parse(&self.record).ok().map(|c| c.samples_per_frame()),
            AudioCodec::Opus => opus::samples(payload),
            AudioCodec::Mp3 => mp3::Header::parse(payload).ok().map(|h| h.samples_per_frame),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brief(c: &AudioConfig) -> (AudioCodec, u32, u8, &str) {
        (c.codec, c.sample_rate, c.channels, &c.codec_string)
    }

    #[test]
    fn constructors() -> Result<(), CodecError> {
        let aac = AudioConfig::aac(Bytes::from_static(&[0x13, 0x08, 0x56, 0xe5, 0x9d, 0x48, 0x80]))?;
        assert_eq!(brief(&aac), (AudioCodec::Aac, 48_000, 2, "mp4a.40.29"));
        assert_eq!(aac.samples_per_frame(&[]), Some(2048));
        assert_eq!(aac.to_opus_head(), None);

        let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
        let opus = AudioConfig::opus_head(head)?;
        assert_eq!(brief(&opus), (AudioCodec::Opus, 48_000, 2, "opus"));
        assert_eq!(opus.samples_per_frame(&[0xfc, 1, 2]), Some(960));
        assert_eq!(opus.to_opus_head().as_deref(), Some(&head[..]));
        assert_eq!(AudioConfig::opus(opus.record.clone())?, opus);

        let mp3 = AudioConfig::mp3(&[0xff, 0xfb, 0x90, 0x64])?;
        assert_eq!(brief(&mp3), (AudioCodec::Mp3, 44_100, 2, "mp4a.6b"));
        assert_eq!(mp3.samples_per_frame(&[0xff, 0xfb, 0x90, 0x64]), Some(1152));
        assert_eq!(mp3.samples_per_frame(&[]), None);
        Ok(())
    }

    #[test]
    fn overlong_records_are_refused() {
        let mut asc = vec![0; super::super::MAX_RECORD + 1];
        asc[..2].copy_from_slice(&[0x12, 0x10]);
        assert!(matches!(AudioConfig::aac(asc.into()), Err(CodecError::Invalid { field: "size", .. })));
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>, payload: Vec<u8>) {
            let bytes = Bytes::from(data.clone());
            let made = [
                AudioConfig::aac(bytes.clone()),
                AudioConfig::opus(bytes),
                AudioConfig::opus_head(&data),
                AudioConfig::mp3(&data),
            ];
            for config in made.into_iter().flatten() {
                config.samples_per_frame(&payload);
            }
        }
    }
}
