//! Secrets derived from the cluster key, so that one key serves several purposes and none gives away another.

use hmac::{Hmac, Mac};
use sha2::Sha256;

const SALT: &[u8] = b"sluice cluster key 1";

/// HKDF-SHA256 (RFC 5869) with one block of output.
pub(crate) fn secret(key: &[u8], purpose: &[u8]) -> [u8; 32] {
    hkdf(SALT, key, purpose)
}

fn hkdf(salt: &[u8], key: &[u8], info: &[u8]) -> [u8; 32] {
    let extracted = hmac(salt, &[key]);
    hmac(&extracted, &[info, &[1]])
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 5869, A.1 and A.3: the first 32 bytes of their output.
    #[test]
    fn vectors() {
        let key = [0x0b; 22];
        assert_eq!(
            hkdf(&hex("000102030405060708090a0b0c"), &key, &hex("f0f1f2f3f4f5f6f7f8f9")).to_vec(),
            hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")
        );
        assert_eq!(
            hkdf(&[], &key, &[]).to_vec(),
            hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d")
        );
    }

    #[test]
    fn purposes_differ() {
        assert_ne!(secret(b"k", b"a"), secret(b"k", b"b"));
        assert_ne!(secret(b"k", b"a"), secret(b"l", b"a"));
    }
}
