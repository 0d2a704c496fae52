//! The init segment: `ftyp` and `moov` of one track.

use bytes::Bytes;
use sluice_media::{AudioCodec, AudioConfig, TrackConfig, VideoCodec, VideoConfig};

use super::boxes::Boxes;
use super::timescale;

/// Builds the CMAF header of a track. Its bytes are a function of the configuration alone.
pub fn init_segment(config: &TrackConfig) -> Bytes {
    let mut b = Boxes::with_capacity(1024);
    b.boxed(b"ftyp", |b| {
        b.bytes(b"iso6");
        b.u32(0);
        b.bytes(b"iso6cmfcmp41");
    });
    b.boxed(b"moov", |b| {
        b.full(b"mvhd", 0, 0, |b| {
            b.zeros(8); // creation and modification time
            b.u32(1000);
            b.u32(0); // duration: unknown, it is in fragments
            b.u32(0x0001_0000); // rate
            b.u16(0x0100); // volume
            b.zeros(10);
            b.matrix();
            b.zeros(24);
            b.u32(2); // next track id
        });
        b.boxed(b"trak", |b| track(b, config));
        b.boxed(b"mvex", |b| {
            b.full(b"trex", 0, 0, |b| {
                b.u32(1); // track id
                b.u32(1); // sample description index
                b.zeros(12); // default duration, size and flags: given in each fragment
            });
        });
    });
    Bytes::from(b.0)
}

fn track(b: &mut Boxes, config: &TrackConfig) {
    b.full(b"tkhd", 0, 7, |b| {
        b.zeros(8);
        b.u32(1);
        b.zeros(4);
        b.u32(0);
        b.zeros(8);
        b.u16(0); // layer
        b.u16(u16::from(!config.is_video())); // alternate group
        b.u16(if config.is_video() { 0 } else { 0x0100 }); // volume
        b.zeros(2);
        b.matrix();
        let (width, height) = match config {
            TrackConfig::Video(v) => (v.width, v.height),
            TrackConfig::Audio(_) => (0, 0),
        };
        b.u32(width.min(0xffff) << 16);
        b.u32(height.min(0xffff) << 16);
    });
    b.boxed(b"mdia", |b| {
        b.full(b"mdhd", 0, 0, |b| {
            b.zeros(8);
            b.u32(timescale(config));
            b.u32(0);
            b.u16(0x55c4); // language "und"
            b.u16(0);
        });
        b.full(b"hdlr", 0, 0, |b| {
            b.u32(0);
            b.bytes(if config.is_video() { b"vide" } else { b"soun" });
            b.zeros(12);
            b.bytes(if config.is_video() { b"video\0" } else { b"audio\0" });
        });
        b.boxed(b"minf", |b| {
            if config.is_video() {
                b.full(b"vmhd", 0, 1, |b| b.zeros(8));
            } else {
                b.full(b"smhd", 0, 0, |b| b.zeros(4));
            }
            b.boxed(b"dinf", |b| {
                b.full(b"dref", 0, 0, |b| {
                    b.u32(1);
                    b.full(b"url ", 0, 1, |_| {}); // in this file
                });
            });
            b.boxed(b"stbl", |b| {
                b.full(b"stsd", 0, 0, |b| {
                    b.u32(1);
                    match config {
                        TrackConfig::Video(v) => video_entry(b, v),
                        TrackConfig::Audio(a) => audio_entry(b, a),
                    }
                });
                b.full(b"stts", 0, 0, |b| b.u32(0));
                b.full(b"stsc", 0, 0, |b| b.u32(0));
                b.full(b"stsz", 0, 0, |b| b.zeros(8));
                b.full(b"stco", 0, 0, |b| b.u32(0));
            });
        });
    });
}

fn video_entry(b: &mut Boxes, v: &VideoConfig) {
    let kind = match v.codec {
        VideoCodec::H264 => b"avc1",
        VideoCodec::Hevc => b"hvc1",
        VideoCodec::Av1 => b"av01",
        VideoCodec::Vp8 => b"vp08",
        VideoCodec::Vp9 => b"vp09",
    };
    b.boxed(kind, |b| {
        b.zeros(6);
        b.u16(1); // data reference index
        b.zeros(16);
        b.u16(u16::try_from(v.width).unwrap_or(u16::MAX));
        b.u16(u16::try_from(v.height).unwrap_or(u16::MAX));
        b.u32(0x0048_0000); // 72 dpi
        b.u32(0x0048_0000);
        b.u32(0);
        b.u16(1); // frames a sample
        b.zeros(32); // compressor name
        b.u16(0x0018); // depth
        b.u16(0xffff);
        match v.codec {
            VideoCodec::H264 => b.boxed(b"avcC", |b| b.bytes(&v.record)),
            VideoCodec::Hevc => b.boxed(b"hvcC", |b| b.bytes(&v.record)),
            VideoCodec::Av1 => b.boxed(b"av1C", |b| b.bytes(&v.record)),
            // The VP Codec ISO Media File Format Binding, version 1.
            VideoCodec::Vp9 => b.full(b"vpcC", 1, 0, |b| b.bytes(&v.record)),
            VideoCodec::Vp8 => b.full(b"vpcC", 1, 0, |b| {
                // Profile 0, level unknown, 8 bits, 4:2:0 colocated, BT.709 unspecified range.
                b.bytes(&[0, 0, 0x82, 1, 1, 1, 0, 0]);
            }),
        }
    });
}

fn audio_entry(b: &mut Boxes, a: &AudioConfig) {
    let kind = match a.codec {
        AudioCodec::Aac | AudioCodec::Mp3 => b"mp4a",
        AudioCodec::Opus => b"Opus",
    };
    b.boxed(kind, |b| {
        b.zeros(6);
        b.u16(1); // data reference index
        b.zeros(8);
        b.u16(u16::from(a.channels.max(1)));
        b.u16(16); // sample size
        b.zeros(4);
        // 16.16; a rate that does not fit is written as zero, the decoder record has the true one.
        b.u32(u16::try_from(a.sample_rate).map_or(0, |r| u32::from(r) << 16));
        match a.codec {
            AudioCodec::Aac => esds(b, 0x40, &a.record),
            AudioCodec::Mp3 => esds(b, 0x6b, &[]),
            AudioCodec::Opus => b.boxed(b"dOps", |b| b.bytes(&a.record)),
        }
    });
}

/// The elementary stream descriptor of ISO/IEC 14496-1 in its box (14496-14).
fn esds(b: &mut Boxes, object_type: u8, specific: &[u8]) {
    let specific = &specific[..specific.len().min(64)];
    let specific_len = if specific.is_empty() { 0 } else { 2 + specific.len() };
    let decoder_len = 13 + specific_len;
    b.full(b"esds", 0, 0, |b| {
        b.u8(3); // ES_Descriptor
        b.u8((3 + 2 + decoder_len + 3) as u8); // below 128: `specific` is cut above
        b.u16(1); // ES id
        b.u8(0);
        b.u8(4); // DecoderConfigDescriptor
        b.u8(decoder_len as u8);
        b.u8(object_type);
        b.u8(0x15); // audio stream
        b.zeros(3 + 4 + 4); // buffer size, highest and average rate: not known
        if !specific.is_empty() {
            b.u8(5); // DecoderSpecificInfo
            b.u8(specific.len() as u8);
            b.bytes(specific);
        }
        b.u8(6); // SLConfigDescriptor: as MP4 prescribes
        b.u8(1);
        b.u8(2);
    });
}
