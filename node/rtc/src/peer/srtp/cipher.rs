//! The two transforms: AES-GCM (RFC 7714), and AES in counter mode with HMAC-SHA1 (RFC 3711, section 4).

use rtc_crypto::{
    AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, HmacAlgorithm, Mac, RTCCrypto, StreamCipher,
    StreamCipherAlgorithm, constant_time_eq,
};

use super::{KEY, Profile, RTCP_HEADER, RTP_HEADER};

const GCM_TAG: usize = 16;
const SHA1_TAG: usize = 10;
const SHA1: usize = 20;
/// The trailer of an SRTCP packet: a bit that says that it is encrypted, and its index.
const TRAILER: usize = 4;
const ENCRYPTED: u32 = 1 << 31;

/// The cipher of one direction, for RTP or for RTCP.
pub(super) enum Cipher {
    Gcm { aead: Box<dyn AeadCipher>, salt: [u8; 12] },
    Sha1 { stream: Box<dyn StreamCipher>, mac: Box<dyn Mac>, salt: [u8; 14] },
}

impl Cipher {
    /// Derives the session keys; labels count from `label`: encryption, authentication, salt (RFC 3711, 4.3.1).
    pub(super) fn new(
        profile: Profile,
        key: &[u8],
        salt: &[u8],
        label: u8,
        crypto: &dyn RTCCrypto,
    ) -> Option<Self> {
        let encryption = derive::<KEY>(crypto, key, salt, label)?;
        match profile {
            Profile::Gcm => Some(Cipher::Gcm {
                aead: crypto.new_aead(AeadAlgorithm::Aes128Gcm, &encryption).ok()?,
                salt: derive(crypto, key, salt, label + 2)?,
            }),
            Profile::Sha1 => {
                let authentication = derive::<SHA1>(crypto, key, salt, label + 1)?;
                Some(Cipher::Sha1 {
                    stream: crypto.new_stream_cipher(StreamCipherAlgorithm::Aes128Ctr, &encryption).ok()?,
                    mac: crypto.new_hmac(HmacAlgorithm::Sha1, &authentication).ok()?,
                    salt: derive(crypto, key, salt, label + 2)?,
                })
            }
        }
    }

    /// Appends header, encrypted payload and tag.
    pub(super) fn seal_rtp(
        &mut self,
        header: &[u8],
        payload: &[u8],
        ssrc: u32,
        index: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        out.reserve(header.len() + payload.len() + GCM_TAG);
        out.extend_from_slice(header);
        out.extend_from_slice(payload);
        let (aad, body) = out[start..].split_at_mut(header.len());
        let mut full = [0; SHA1];
        let tag: &[u8] = match self {
            Cipher::Gcm { aead, salt } => {
                let nonce = gcm_rtp(salt, ssrc, index);
                match aead.seal_in_place(&nonce, aad, body, &mut full[..GCM_TAG]) {
                    Ok(()) => &full[..GCM_TAG],
                    Err(_) => &[],
                }
            }
            Cipher::Sha1 { stream, mac, salt } => {
                let encrypted = stream.apply_keystream(&counter(salt, ssrc, index), body);
                let signed = encrypted.and_then(|()| mac.sign(&[&out[start..], &roc(index)], &mut full));
                match signed {
                    Ok(()) => &full[..SHA1_TAG],
                    Err(_) => &[],
                }
            }
        };
        finish(out, start, tag)
    }

    /// Decrypts in place what follows the header, and says how long the packet is then.
    pub(super) fn open_rtp(
        &mut self,
        packet: &mut [u8],
        header: usize,
        ssrc: u32,
        index: u64,
    ) -> Option<usize> {
        match self {
            Cipher::Gcm { aead, salt } => {
                let end = packet.len().checked_sub(GCM_TAG).filter(|end| *end >= header)?;
                let (sealed, tag) = packet.split_at_mut(end);
                let (aad, body) = sealed.split_at_mut(header);
                aead.open_in_place(&gcm_rtp(salt, ssrc, index), aad, body, tag).ok()?;
                Some(end)
            }
            Cipher::Sha1 { stream, mac, salt } => {
                let end = packet.len().checked_sub(SHA1_TAG).filter(|end| *end >= header)?;
                let (sealed, tag) = packet.split_at_mut(end);
                verify(mac.as_mut(), &[sealed, &roc(index)], tag)?;
                stream.apply_keystream(&counter(salt, ssrc, index), &mut sealed[header..]).ok()?;
                Some(end)
            }
        }
    }

    /// Appends the compound packet, encrypted behind its first eight bytes, its index and the tag.
    pub(super) fn seal_rtcp(&mut self, compound: &[u8], ssrc: u32, index: u32, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.extend_from_slice(compound);
        let trailer = (ENCRYPTED | index).to_be_bytes();
        let (head, body) = out[start..].split_at_mut(RTCP_HEADER);
        match self {
            Cipher::Gcm { aead, salt } => {
                let mut tag = [0; GCM_TAG];
                let aad = gcm_aad(head, trailer);
                if aead.seal_in_place(&gcm_rtcp(salt, ssrc, index), &aad, body, &mut tag).is_err() {
                    return finish(out, start, &[]);
                }
                out.extend_from_slice(&tag);
                finish(out, start, &trailer)
            }
            Cipher::Sha1 { stream, mac, salt } => {
                let mut full = [0; SHA1];
                let encrypted = stream.apply_keystream(&counter(salt, ssrc, index.into()), body);
                out.extend_from_slice(&trailer);
                match encrypted.and_then(|()| mac.sign(&[&out[start..]], &mut full)) {
                    Ok(()) => finish(out, start, &full[..SHA1_TAG]),
                    Err(_) => finish(out, start, &[]),
                }
            }
        }
    }

    /// The index that a packet says it has. Packets that are not encrypted have none that counts.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Option<u32> {
        let behind = match self {
            Cipher::Gcm { .. } => 0,
            Cipher::Sha1 { .. } => SHA1_TAG,
        };
        let at = packet.len().checked_sub(behind + TRAILER)?;
        let trailer = u32::from_be_bytes(packet.get(at..at + TRAILER)?.try_into().ok()?);
        (trailer & ENCRYPTED != 0).then_some(trailer & !ENCRYPTED)
    }

    /// Decrypts a compound packet in place, and says how long it is then.
    pub(super) fn open_rtcp(&mut self, packet: &mut [u8], ssrc: u32, index: u32) -> Option<usize> {
        match self {
            Cipher::Gcm { aead, salt } => {
                let end = packet.len().checked_sub(GCM_TAG + TRAILER).filter(|end| *end >= RTCP_HEADER)?;
                let (sealed, behind) = packet.split_at_mut(end);
                let (tag, trailer) = behind.split_at_mut(GCM_TAG);
                let (head, body) = sealed.split_at_mut(RTCP_HEADER);
                let aad = gcm_aad(head, [trailer[0], trailer[1], trailer[2], trailer[3]]);
                aead.open_in_place(&gcm_rtcp(salt, ssrc, index), &aad, body, tag).ok()?;
                Some(end)
            }
            Cipher::Sha1 { stream, mac, salt } => {
                let end = packet.len().checked_sub(SHA1_TAG + TRAILER).filter(|end| *end >= RTCP_HEADER)?;
                let (signed, tag) = packet.split_at_mut(end + TRAILER);
                verify(mac.as_mut(), &[signed], tag)?;
                stream
                    .apply_keystream(&counter(salt, ssrc, index.into()), &mut signed[RTCP_HEADER..end])
                    .ok()?;
                Some(end)
            }
        }
    }
}

/// Appends what closes a packet; without it, takes back what there was.
fn finish(out: &mut Vec<u8>, start: usize, tag: &[u8]) -> bool {
    if tag.is_empty() {
        out.truncate(start);
        return false;
    }
    out.extend_from_slice(tag);
    true
}

fn verify(mac: &mut dyn Mac, parts: &[&[u8]], tag: &[u8]) -> Option<()> {
    let mut full = [0; SHA1];
    mac.sign(parts, &mut full).ok()?;
    constant_time_eq(&full[..SHA1_TAG], tag).then_some(())
}

fn roc(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// RFC 7714, 8.1.
fn gcm_rtp(salt: &[u8; 12], ssrc: u32, index: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
    nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
    xor(&mut nonce, salt);
    nonce
}

/// RFC 7714, 9.1.
fn gcm_rtcp(salt: &[u8; 12], ssrc: u32, index: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
    nonce[8..].copy_from_slice(&index.to_be_bytes());
    xor(&mut nonce, salt);
    nonce
}

fn gcm_aad(head: &[u8], trailer: [u8; TRAILER]) -> [u8; RTP_HEADER] {
    let mut aad = [0; RTP_HEADER];
    aad[..RTCP_HEADER].copy_from_slice(head);
    aad[RTCP_HEADER..].copy_from_slice(&trailer);
    aad
}

/// RFC 3711, 4.1.1.
fn counter(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut block = [0; 16];
    block[4..8].copy_from_slice(&ssrc.to_be_bytes());
    block[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
    xor(&mut block[..14], salt);
    block
}

fn xor(block: &mut [u8], with: &[u8]) {
    for (a, b) in block.iter_mut().zip(with) {
        *a ^= b;
    }
}

/// AES in counter mode over the master salt with the label in it (RFC 3711, 4.3.3). A salt of 12 bytes ends in zeros (RFC 7714, 11).
fn derive<const N: usize>(crypto: &dyn RTCCrypto, key: &[u8], salt: &[u8], label: u8) -> Option<[u8; N]> {
    let mut derived = [0; N];
    for (count, piece) in (0_u16..).zip(derived.chunks_mut(KEY)) {
        let mut block = [0; KEY];
        block.get_mut(..salt.len())?.copy_from_slice(salt);
        block[7] ^= label;
        block[14..].copy_from_slice(&count.to_be_bytes());
        crypto.block_encrypt(BlockCipherAlgorithm::Aes128, key, &mut block).ok()?;
        piece.copy_from_slice(&block[..piece.len()]);
    }
    Some(derived)
}
