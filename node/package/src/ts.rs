//! MPEG transport streams (ISO/IEC 13818-1): H.264 or HEVC in Annex B form, AAC in ADTS or MP3, as HLS wants
//! them: tables first in each segment, one clock reference a picture.

use sluice_media::codec::nal::AnnexB;
use sluice_media::{AudioCodec, AudioConfig, Frame, Timestamp, VideoCodec, VideoConfig};

const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;
const PACKET: usize = 188;
/// How far ahead of the clock reference times are, in 90 kHz ticks: what a decoder may buffer.
const AHEAD: i64 = 63_000;
/// Audio frames are gathered into PES packets of about this size or time, to save headers.
const AUDIO_BYTES: usize = 2048;
const AUDIO_MICROS: i64 = 120_000;

/// Why a stream cannot be put into MPEG-TS segments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TsError {
    /// The codec has no place in HLS's transport streams.
    #[error("{0} cannot be carried in MPEG-TS segments: set hlsSegmentType to fmp4 for this stream")]
    Codec(&'static str),
    /// The configuration record is unusable.
    #[error("the {0} configuration of the stream cannot be read: restart the publisher")]
    Config(&'static str),
}

/// Writes one program of at most one video and one audio stream. Continuity counters run on from segment to
/// segment.
#[derive(Debug, Default)]
pub struct Muxer {
    video: Option<(u8, AnnexB)>,
    audio: Option<(u8, AudioForm)>,
    counters: [u8; 4],
    pes: Vec<u8>,
    gathered: Vec<u8>,
    gathered_from: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AudioForm {
    Adts { profile: u8, rate: u8, channels: u8 },
    Bare,
}

impl Muxer {
    /// Without streams yet.
    pub fn new() -> Self {
        Muxer::default()
    }

    /// Sets or changes the video stream.
    ///
    /// # Errors
    /// When the codec cannot be carried.
    pub fn set_video(&mut self, config: &VideoConfig) -> Result<(), TsError> {
        let kind = match config.codec {
            VideoCodec::H264 => 0x1b,
            VideoCodec::Hevc => 0x24,
            VideoCodec::Av1 | VideoCodec::Vp8 | VideoCodec::Vp9 => {
                return Err(TsError::Codec(config.codec.name()));
            }
        };
        self.video = Some((kind, AnnexB::new(config).ok_or(TsError::Config("video"))?));
        Ok(())
    }

    /// Sets or changes the audio stream.
    ///
    /// # Errors
    /// When the codec cannot be carried.
    pub fn set_audio(&mut self, config: &AudioConfig) -> Result<(), TsError> {
        self.audio = Some(match config.codec {
            AudioCodec::Aac => (0x0f, adts_form(&config.record).ok_or(TsError::Config("audio"))?),
            AudioCodec::Mp3 => (if config.sample_rate >= 32_000 { 0x03 } else { 0x04 }, AudioForm::Bare),
            AudioCodec::Opus => return Err(TsError::Codec(config.codec.name())),
        });
        Ok(())
    }

    /// Writes the program tables; they stand at the start of each segment and after a change.
    pub fn tables(&mut self, out: &mut Vec<u8>) {
        let pat = section(0x00, 1, &[0, 1, 0xe0 | (PMT_PID >> 8) as u8, PMT_PID as u8]);
        self.packets(0, 0, None, false, &pat, out, true);
        let clock = if self.video.is_some() { VIDEO_PID } else { AUDIO_PID };
        let mut body = vec![0xe0 | (clock >> 8) as u8, clock as u8, 0xf0, 0];
        let streams =
            [(self.video.as_ref().map(|v| v.0), VIDEO_PID), (self.audio.as_ref().map(|a| a.0), AUDIO_PID)];
        for (kind, pid) in streams {
            if let Some(kind) = kind {
                body.extend_from_slice(&[kind, 0xe0 | (pid >> 8) as u8, pid as u8, 0xf0, 0]);
            }
        }
        let pmt = section(0x02, 1, &body);
        self.packets(1, PMT_PID, None, false, &pmt, out, true);
    }

    /// Writes a picture.
    pub fn video(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        let Some((_, annex_b)) = &self.video else { return };
        let mut pes = std::mem::take(&mut self.pes);
        pes.clear();
        pes_header(&mut pes, 0xe0, frame.pts, Some(frame.dts), None);
        annex_b.write(&frame.payload, &mut pes);
        self.packets(2, VIDEO_PID, Some(frame.dts), frame.keyframe, &pes, out, false);
        self.pes = pes;
    }

    /// Takes an audio frame; it may be written with those that follow.
    pub fn audio(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        let Some((_, form)) = self.audio else { return };
        let from = *self.gathered_from.get_or_insert(frame.dts);
        if frame.dts - from >= AUDIO_MICROS || self.gathered.len() + frame.payload.len() > AUDIO_BYTES {
            self.flush(out);
            self.gathered_from = Some(frame.dts);
        }
        if let AudioForm::Adts { profile, rate, channels } = form {
            let Ok(length) = u16::try_from(frame.payload.len() + 7) else { return };
            if length > 0x1fff {
                return; // no AAC frame is that large
            }
            self.gathered.extend_from_slice(&[
                0xff,
                0xf1,
                profile << 6 | rate << 2 | channels >> 2,
                (channels & 3) << 6 | (length >> 11) as u8,
                (length >> 3) as u8,
                ((length & 7) as u8) << 5 | 0x1f,
                0xfc,
            ]);
        }
        self.gathered.extend_from_slice(&frame.payload);
    }

    /// Writes the audio that was gathered; to be called at the end of a segment.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        let Some(from) = self.gathered_from.take() else { return };
        if self.gathered.is_empty() {
            return;
        }
        let mut pes = std::mem::take(&mut self.pes);
        pes.clear();
        pes_header(&mut pes, 0xc0, from, None, Some(self.gathered.len()));
        pes.append(&mut self.gathered);
        let clock = self.video.is_none().then_some(from);
        self.packets(3, AUDIO_PID, clock, clock.is_some(), &pes, out, false);
        self.pes = pes;
    }

    #[allow(clippy::too_many_arguments)]
    fn packets(
        &mut self,
        counter: usize,
        pid: u16,
        clock: Option<Timestamp>,
        random_access: bool,
        data: &[u8],
        out: &mut Vec<u8>,
        table: bool,
    ) {
        out.reserve(data.len() / (PACKET - 4) * PACKET + 2 * PACKET);
        let mut rest = data;
        let mut first = true;
        while !rest.is_empty() {
            let clock = clock.filter(|_| first);
            let flagged = clock.is_some() || (first && random_access);
            let needed = if flagged { 2 + if clock.is_some() { 6 } else { 0 } } else { 0 };
            let room = PACKET - 4 - needed;
            let (now, later) = rest.split_at(room.min(rest.len()));
            // Tables are filled up behind their end, streams in the adaptation field.
            let stuffing = room - now.len();
            let field = if table { 0 } else { needed + stuffing };
            let cc = self.counters[counter];
            self.counters[counter] = (cc + 1) & 0x0f;
            let start = if first { 0x40 } else { 0 };
            out.extend_from_slice(&[
                0x47,
                start | (pid >> 8) as u8,
                pid as u8,
                if field > 0 { 0x30 } else { 0x10 } | cc,
            ]);
            if field > 0 {
                out.push((field - 1) as u8);
            }
            if field > 1 {
                let access = if first && random_access { 0x40 } else { 0 };
                out.push(access | if clock.is_some() { 0x10 } else { 0 });
                if let Some(t) = clock {
                    let base = (t.to_ticks(90_000) as u64) & 0x1_ffff_ffff;
                    out.extend_from_slice(&((base >> 1) as u32).to_be_bytes());
                    out.extend_from_slice(&[((base & 1) as u8) << 7 | 0x7e, 0]);
                }
                let written = 2 + if clock.is_some() { 6 } else { 0 };
                out.resize(out.len() + field - written, 0xff);
            }
            out.extend_from_slice(now);
            if table {
                out.resize(out.len() + stuffing, 0xff);
            }
            rest = later;
            first = false;
        }
    }
}

/// A program table in one section, with the pointer that stands before it in its packet.
fn section(table: u8, id: u16, body: &[u8]) -> Vec<u8> {
    let length = 5 + body.len() + 4;
    let mut s = vec![0, table, 0xb0 | (length >> 8) as u8, length as u8];
    s.extend_from_slice(&id.to_be_bytes());
    s.extend_from_slice(&[0xc1, 0, 0]);
    s.extend_from_slice(body);
    let crc = crc32(&s[1..]);
    s.extend_from_slice(&crc.to_be_bytes());
    s
}

/// The CRC of MPEG tables: polynomial 0x04c11db7, not reflected.
fn crc32(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, b| {
        (0..8)
            .fold(crc ^ u32::from(*b) << 24, |c, _| if c >> 31 == 1 { c << 1 ^ 0x04c1_1db7 } else { c << 1 })
    })
}

fn pes_header(out: &mut Vec<u8>, stream: u8, pts: Timestamp, dts: Option<Timestamp>, payload: Option<usize>) {
    let dts = dts.filter(|d| *d != pts);
    let times = if dts.is_some() { 10 } else { 5 };
    // Zero means "until the next start", which only video may say.
    let length = payload.and_then(|p| u16::try_from(p + 3 + times).ok()).unwrap_or(0);
    out.extend_from_slice(&[0, 0, 1, stream]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[0x84, if dts.is_some() { 0xc0 } else { 0x80 }, times as u8]);
    time(out, if dts.is_some() { 3 } else { 2 }, pts);
    if let Some(dts) = dts {
        time(out, 1, dts);
    }
}

fn time(out: &mut Vec<u8>, mark: u8, t: Timestamp) {
    let t = (t.to_ticks(90_000).wrapping_add(AHEAD) as u64) & 0x1_ffff_ffff;
    out.extend_from_slice(&[
        mark << 4 | ((t >> 29) as u8 & 0x0e) | 1,
        (t >> 22) as u8,
        (t >> 14) as u8 | 1,
        (t >> 7) as u8,
        (t << 1) as u8 | 1,
    ]);
}

/// What an ADTS header repeats of an AudioSpecificConfig (ISO/IEC 14496-3).
fn adts_form(config: &[u8]) -> Option<AudioForm> {
    let mut head = [0; 8];
    head.iter_mut().zip(config).for_each(|(h, c)| *h = *c);
    let bits = u64::from_be_bytes(head);
    let take = |at: u32, n: u32| ((bits << at) >> (64 - n)) as u8;
    let kind = take(0, 5);
    let (rate, channels) = (take(5, 4), take(9, 4));
    // Explicit SBR or PS: the core's kind stands behind the extension's rate.
    let kind = if matches!(kind, 5 | 29) { take(17, 5) } else { kind };
    let known = config.len() >= 2 && (1..=4).contains(&kind) && rate < 13 && channels < 8;
    known.then(|| AudioForm::Adts { profile: kind - 1, rate, channels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn aac() -> AudioConfig {
        AudioConfig {
            codec: AudioCodec::Aac,
            record: Bytes::from_static(&[0x11, 0x90]),
            sample_rate: 48_000,
            channels: 2,
            codec_string: "mp4a.40.2".into(),
        }
    }

    #[test]
    fn a_known_crc() {
        // The program association table of the specification's simplest program.
        assert_eq!(crc32(&[0x00, 0xb0, 0x0d, 0x00, 0x01, 0xc1, 0, 0, 0, 1, 0xf0, 0]), 0x2ab1_04b2);
    }

    #[test]
    fn adts() {
        let form = AudioForm::Adts { profile: 1, rate: 3, channels: 2 };
        assert_eq!(adts_form(&[0x11, 0x90]), Some(form), "AAC-LC, 48 kHz, stereo");
        // HE-AAC, explicit: SBR over 24 kHz, extension 48 kHz, core AAC-LC.
        let he = AudioForm::Adts { profile: 1, rate: 6, channels: 2 };
        assert_eq!(adts_form(&[0x2b, 0x11, 0x88, 0x00]), Some(he));
        assert_eq!(adts_form(&[]), None);
        assert_eq!(adts_form(&[0xff, 0xff]), None);
    }

    #[test]
    fn opus_is_refused_with_the_way_out() {
        let opus = AudioConfig { codec: AudioCodec::Opus, ..aac() };
        let error = Muxer::new().set_audio(&opus).expect_err("refused");
        assert!(error.to_string().contains("fmp4"));
    }

    proptest! {
        #[test]
        fn whole_packets_whatever_the_sizes(sizes in prop::collection::vec(0usize..3000, 1..40)) {
            let mut m = Muxer::new();
            m.set_audio(&aac()).expect("AAC");
            let mut out = Vec::new();
            m.tables(&mut out);
            for (i, n) in sizes.iter().enumerate() {
                let t = Timestamp::from_millis(i as i64 * 21);
                let frame = Frame { dts: t, pts: t, keyframe: true, payload: vec![7; *n].into() };
                m.audio(&frame, &mut out);
            }
            m.flush(&mut out);
            prop_assert_eq!(out.len() % PACKET, 0);
            let mut expected = [None; 0x2000];
            for p in out.chunks(PACKET) {
                prop_assert_eq!(p[0], 0x47);
                let pid = usize::from(p[1] & 0x1f) << 8 | usize::from(p[2]);
                if let Some(cc) = expected[pid] {
                    prop_assert_eq!(p[3] & 15, cc);
                }
                expected[pid] = Some((p[3] + 1) & 15);
            }
        }
    }
}
