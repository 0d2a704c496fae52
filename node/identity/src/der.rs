//! Just enough DER to read the common name out of a certificate that has been verified already.

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// 2.5.4.3
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The common name of a certificate's subject. None when it has none, or more than one (then it is not clear which is meant).
pub fn common_name(certificate: &[u8]) -> Option<&str> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut body, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, rest)) = expect(body, VERSION) {
        body = rest;
    }
    // Serial number, algorithm, issuer, validity.
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE] {
        body = expect(body, tag)?.1;
    }
    let (mut names, _) = expect(body, SEQUENCE)?;
    let mut found = None;
    while !names.is_empty() {
        let (mut set, rest) = expect(names, SET)?;
        names = rest;
        while !set.is_empty() {
            let (attribute, rest) = expect(set, SEQUENCE)?;
            set = rest;
            let (kind, value) = expect(attribute, OID)?;
            if kind != COMMON_NAME {
                continue;
            }
            let (tag, value, _) = element(value)?;
            if found.is_some() || !matches!(tag, UTF8 | PRINTABLE | IA5) {
                return None;
            }
            found = Some(std::str::from_utf8(value).ok()?);
        }
    }
    found
}

/// The contents of the element at the beginning, which must have this tag, and what follows it.
fn expect(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(input)?;
    (found == tag).then_some((content, rest))
}

/// Tag and contents of the element at the beginning, and what follows it.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, short], mut rest) = input.split_first_chunk()?;
    let length = if short < 0x80 {
        usize::from(short)
    } else {
        let bytes = usize::from(short & 0x7f);
        if !(1..=3).contains(&bytes) {
            return None;
        }
        let (long, after) = rest.split_at_checked(bytes)?;
        rest = after;
        long.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte))
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn reads_the_common_name_among_others() {
        let der = certificate(&[
            (DnType::CountryName, "DE"),
            (DnType::CommonName, "origin-0.söme.example"),
            (DnType::OrganizationName, "cluster"),
        ]);
        assert_eq!(common_name(&der), Some("origin-0.söme.example"));
        let long = "n".repeat(250);
        assert_eq!(common_name(&certificate(&[(DnType::CommonName, &long)])), Some(long.as_str()));
    }

    #[test]
    fn none_without_one() {
        assert_eq!(common_name(&certificate(&[(DnType::OrganizationName, "cluster")])), None);
        assert_eq!(common_name(b""), None);
    }

    proptest! {
        #[test]
        fn never_panics(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
            let mut der = certificate(&[(DnType::CommonName, "n1")]);
            let at = at % der.len();
            der[at] = byte;
            der.truncate(der.len() - cut % der.len());
            let _ = common_name(&der);
        }

        #[test]
        fn never_panics_on_garbage(der in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = common_name(&der);
        }
    }
}
