//! The payloads of one frame, in order and without a gap, to the hub's form (see [`sluice_media::codec`]).
//!
//! Each codec's module has `assemble`, which copies every byte once and refuses what does not fit together, and, for
//! video, `starts_keyframe`, which tells where decoding can start after a loss.

use bytes::Bytes;
use sluice_media::VideoCodec;

use crate::agreed::Codec;

mod av1;
mod h264;
mod hevc;
mod opus;
mod vp8;
mod vp9;

/// The payloads of a frame do not make one: the frame is dropped and a keyframe asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the RTP payloads of a frame do not fit together: {0}")]
pub struct Broken(pub(super) &'static str);

/// Makes a frame in the hub's form of its payloads; empty ones are passed over. An empty frame is padding and the like.
///
/// # Errors
/// [`Broken`].
pub fn assemble(codec: Codec, payloads: &[Bytes]) -> Result<Bytes, Broken> {
    match codec {
        Codec::Video(VideoCodec::H264) => h264::assemble(payloads),
        Codec::Video(VideoCodec::Hevc) => hevc::assemble(payloads),
        Codec::Video(VideoCodec::Av1) => av1::assemble(payloads),
        Codec::Video(VideoCodec::Vp8) => vp8::assemble(payloads),
        Codec::Video(VideoCodec::Vp9) => vp9::assemble(payloads),
        Codec::Audio(_) => opus::assemble(payloads),
    }
}

/// Whether a keyframe, or what has to precede it, begins with this payload for certain.
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Video(VideoCodec::H264) => h264::starts_keyframe(payload),
        Codec::Video(VideoCodec::Hevc) => hevc::starts_keyframe(payload),
        Codec::Video(VideoCodec::Av1) => av1::starts_keyframe(payload),
        Codec::Video(VideoCodec::Vp8) => vp8::starts_keyframe(payload),
        Codec::Video(VideoCodec::Vp9) => vp9::starts_keyframe(payload),
        Codec::Audio(_) => true,
    }
}

/// Joins what is left of each payload behind its descriptor.
fn join(
    payloads: &[Bytes],
    strip: impl Fn(&[u8]) -> Option<&[u8]>,
    broken: &'static str,
) -> Result<Bytes, Broken> {
    let mut out = Vec::with_capacity(payloads.iter().map(Bytes::len).sum());
    for payload in payloads.iter().filter(|p| !p.is_empty()) {
        out.extend_from_slice(strip(payload).ok_or(Broken(broken))?);
    }
    Ok(out.into())
}

/// Splits off a unit behind its 2-byte length.
fn take_unit<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk()?;
    let (unit, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = tail;
    Some(unit)
}

/// Writes NAL units behind 4-byte lengths.
struct Units {
    out: Vec<u8>,
    /// Where the unit begins that is being put together of fragments.
    open: Option<usize>,
}

impl Units {
    fn for_payloads(payloads: &[Bytes]) -> Self {
        // A single NAL unit gets 4 bytes more, one out of an aggregate 2.
        let room = payloads.iter().map(|p| p.len() + 4).sum();
        Units { out: Vec::with_capacity(room), open: None }
    }

    fn whole(&mut self, unit: &[u8]) -> Result<(), Broken> {
        self.begin(&[])?;
        self.more(unit)?;
        self.end()
    }

    fn begin(&mut self, header: &[u8]) -> Result<(), Broken> {
        if self.open.is_some() {
            return Err(Broken("a NAL unit begins inside a fragmented one"));
        }
        self.open = Some(self.out.len());
        self.out.extend_from_slice(&[0; 4]);
        self.out.extend_from_slice(header);
        Ok(())
    }

    fn more(&mut self, fragment: &[u8]) -> Result<(), Broken> {
        if self.open.is_none() {
            return Err(Broken("a fragment without its beginning"));
        }
        self.out.extend_from_slice(fragment);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Broken> {
        const NO_BEGINNING: Broken = Broken("a fragment without its beginning");
        let at = self.open.take().ok_or(NO_BEGINNING)?;
        let length = u32::try_from(self.out.len() - at - 4).map_err(|_| Broken("a NAL unit of 4 GiB"))?;
        if let Some(place) = self.out.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    fn finish(self) -> Result<Bytes, Broken> {
        if self.open.is_some() {
            return Err(Broken("a fragmented NAL unit without its end"));
        }
        Ok(self.out.into())
    }
}

#[cfg(test)]
mod tests;
