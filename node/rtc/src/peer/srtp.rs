//! SRTP and SRTCP of a session: one set of keys each way (RFC 3711, RFC 7714, RFC 5764).
//!
//! The work on a packet is done in place: payload and tag are appended to a buffer once, and nothing is allocated. Of what comes in,
//! nothing is remembered before it has proved authentic.

mod cipher;
mod replay;
#[cfg(test)]
mod tests;

use bytes::BytesMut;
use rtc_crypto::RTCCrypto;

use crate::agreed::DtlsRole;
use cipher::Cipher;
use replay::Streams;

/// A protection profile (RFC 5764, 4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`
    Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`
    Sha1,
}

const KEY: usize = 16;
/// The fixed part of an RTP header, in bytes.
const RTP_HEADER: usize = 12;
/// What of an RTCP packet stays in clear, in bytes.
const RTCP_HEADER: usize = 8;

impl Profile {
    fn salt_len(self) -> usize {
        match self {
            Profile::Gcm => 12,
            Profile::Sha1 => 14,
        }
    }

    /// How much keying material the handshake has to give, in bytes.
    pub(super) fn material_len(self) -> usize {
        2 * (KEY + self.salt_len())
    }
}

/// A session's keys and counters.
pub(super) struct Srtp {
    out: Direction,
    inward: Direction,
    sent: Sent,
    received: Streams,
    received_rtcp: Streams,
}

struct Direction {
    rtp: Cipher,
    rtcp: Cipher,
}

#[derive(Default)]
struct Sent {
    /// The highest index of each SSRC. Never forgotten: an index that comes twice would give the key away.
    streams: Vec<(u32, u64)>,
    rtcp_index: u32,
}

/// The most SSRCs that we send.
const MAX_SENT: usize = 1024;

impl Srtp {
    /// Takes the keying material of the handshake: client's key, server's key, client's salt, server's salt.
    pub(super) fn new(
        profile: Profile,
        material: &[u8],
        role: DtlsRole,
        crypto: &dyn RTCCrypto,
    ) -> Option<Self> {
        if material.len() != profile.material_len() {
            return None;
        }
        let (keys, salts) = material.split_at(2 * KEY);
        let (client_key, server_key) = keys.split_at(KEY);
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let client = Direction::new(profile, client_key, client_salt, crypto)?;
        let server = Direction::new(profile, server_key, server_salt, crypto)?;
        let (out, inward) = match role {
            DtlsRole::Client => (client, server),
            DtlsRole::Server => (server, client),
        };
        let (received, received_rtcp) = (Streams::default(), Streams::default());
        Some(Srtp { out, inward, sent: Sent::default(), received, received_rtcp })
    }

    /// Appends the protected packet; false, and nothing appended, when that cannot be.
    pub(super) fn protect_rtp(&mut self, header: &[u8], payload: &[u8], out: &mut Vec<u8>) -> bool {
        let Some((seq, ssrc)) = numbers(header) else { return false };
        let Some(index) = self.sent.index(ssrc, seq) else { return false };
        self.out.rtp.seal_rtp(header, payload, ssrc, index, out)
    }

    /// Appends the protected compound packet; false, and nothing appended, when that cannot be.
    pub(super) fn protect_rtcp(&mut self, compound: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(ssrc) = compound.get(4..RTCP_HEADER).and_then(|s| s.try_into().ok()) else { return false };
        if self.sent.rtcp_index >= u32::MAX >> 1 {
            return false;
        }
        self.sent.rtcp_index += 1;
        self.out.rtcp.seal_rtcp(compound, u32::from_be_bytes(ssrc), self.sent.rtcp_index, out)
    }

    /// Authenticates and decrypts a packet in place; false when it is forged, broken or a replay.
    pub(super) fn unprotect_rtp(&mut self, packet: &mut BytesMut) -> bool {
        let Some((seq, ssrc)) = numbers(packet) else { return false };
        let Some(header) = header_len(packet) else { return false };
        let Some(index) = self.received.expect(ssrc, seq) else { return false };
        match self.inward.rtp.open_rtp(packet, header, ssrc, index) {
            Some(len) => {
                packet.truncate(len);
                self.received.accept(ssrc, index)
            }
            None => false,
        }
    }

    /// Authenticates and decrypts a compound packet in place; false when it is forged, broken or a replay.
    pub(super) fn unprotect_rtcp(&mut self, packet: &mut BytesMut) -> bool {
        let Some(ssrc) = packet.get(4..RTCP_HEADER).and_then(|s| s.try_into().ok()) else { return false };
        let ssrc = u32::from_be_bytes(ssrc);
        let Some(index) = self.inward.rtcp.rtcp_index(packet) else { return false };
        if !self.received_rtcp.is_new(ssrc, index.into()) {
            return false;
        }
        match self.inward.rtcp.open_rtcp(packet, ssrc, index) {
            Some(len) => {
                packet.truncate(len);
                self.received_rtcp.accept(ssrc, index.into())
            }
            None => false,
        }
    }
}

impl Direction {
    fn new(profile: Profile, key: &[u8], salt: &[u8], crypto: &dyn RTCCrypto) -> Option<Self> {
        let (rtp, rtcp) =
            (Cipher::new(profile, key, salt, 0, crypto)?, Cipher::new(profile, key, salt, 3, crypto)?);
        Some(Direction { rtp, rtcp })
    }
}

impl Sent {
    /// The index of the packet: the sequence number with the times that it has wrapped. None for one that is not above all
    /// before it.
    fn index(&mut self, ssrc: u32, seq: u16) -> Option<u64> {
        if let Some((_, highest)) = self.streams.iter_mut().find(|(known, _)| *known == ssrc) {
            let index = replay::index(*highest, seq);
            let new = index > *highest;
            *highest = index.max(*highest);
            return new.then_some(index);
        }
        if self.streams.len() >= MAX_SENT {
            return None;
        }
        self.streams.push((ssrc, seq.into()));
        Some(seq.into())
    }
}

/// Sequence number and SSRC of a packet that is long enough to have them.
fn numbers(packet: &[u8]) -> Option<(u16, u32)> {
    let head: &[u8; RTP_HEADER] = packet.first_chunk()?;
    Some((u16::from_be_bytes([head[2], head[3]]), u32::from_be_bytes([head[8], head[9], head[10], head[11]])))
}

/// How long the header is, CSRCs and extension included. It may reach beyond the packet.
fn header_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let fixed = RTP_HEADER + 4 * usize::from(first & 0x0f);
    if first & 0x10 == 0 {
        return Some(fixed);
    }
    let words = packet.get(fixed + 2..fixed + 4)?;
    Some(fixed + 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]])))
}
