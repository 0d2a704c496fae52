use bytes::BytesMut;
use proptest::prelude::*;
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

use super::*;

const PROFILES: [Profile; 2] = [Profile::Gcm, Profile::Sha1];

fn material(profile: Profile) -> Vec<u8> {
    (0..profile.material_len()).map(|i| (i * 7 + 3) as u8).collect()
}

fn pair(profile: Profile) -> (Srtp, Srtp) {
    let provider = rtc_crypto::default_provider().expect("a provider");
    let material = material(profile);
    let make = |role| Srtp::new(profile, &material, role, provider.crypto()).expect("keys");
    (make(DtlsRole::Client), make(DtlsRole::Server))
}

/// The client's contexts of the library, which was written by others.
fn library(profile: Profile, client: bool) -> Context {
    let provider = rtc_crypto::default_provider().expect("a provider");
    let material = material(profile);
    let salt_len = profile.salt_len();
    let (key, salt) = if client { (0, 32) } else { (16, 32 + salt_len) };
    let name = match profile {
        Profile::Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::Sha1 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    Context::new(
        &material[key..key + 16],
        &material[salt..salt + salt_len],
        name,
        Some(srtp_replay_protection(64)),
        Some(srtcp_replay_protection(64)),
        provider.crypto(),
    )
    .expect("a context")
}

fn header(seq: u16, ssrc: u32) -> Vec<u8> {
    let mut header = vec![0x90, 96];
    header.extend_from_slice(&seq.to_be_bytes());
    header.extend_from_slice(&[0, 0, 1, 2]);
    header.extend_from_slice(&ssrc.to_be_bytes());
    // One word of extension.
    header.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x10, 7, 0, 0]);
    header
}

fn protected(srtp: &mut Srtp, seq: u16, ssrc: u32, payload: &[u8]) -> BytesMut {
    let mut out = Vec::new();
    assert!(srtp.protect_rtp(&header(seq, ssrc), payload, &mut out));
    BytesMut::from(&out[..])
}

const RECEIVER_REPORT: &[u8] =
    &[0x80, 201, 0, 1, 0xca, 0xfe, 0xba, 0xbe, 0x81, 206, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn packets_are_what_the_library_makes_of_them() {
    for profile in PROFILES {
        let (mut client, mut server) = pair(profile);
        let mut theirs = library(profile, true);
        let mut as_server = library(profile, false);
        let mut plain = header(65_530, 7);
        for step in 0..20_u16 {
            let seq = 65_530_u16.wrapping_add(step);
            plain.truncate(20);
            plain[2..4].copy_from_slice(&seq.to_be_bytes());
            plain.extend_from_slice(b"what is said");
            let ours = protected(&mut client, seq, 7, b"what is said");
            assert_eq!(ours, theirs.encrypt_rtp(&plain).expect("encrypted"), "{profile:?} {seq}");
            let mut from_them = as_server.encrypt_rtp(&plain).expect("encrypted");
            assert!(client.unprotect_rtp(&mut from_them), "{profile:?} {seq}");
            assert_eq!(from_them, plain[..]);
        }
        let mut out = Vec::new();
        assert!(client.protect_rtcp(RECEIVER_REPORT, &mut out));
        assert_eq!(out, theirs.encrypt_rtcp(RECEIVER_REPORT).expect("encrypted")[..]);
        let mut back = BytesMut::from(&out[..]);
        assert!(server.unprotect_rtcp(&mut back));
        assert_eq!(back, RECEIVER_REPORT);
    }
}

#[test]
fn what_is_appended_leaves_what_was_there() {
    let (mut client, mut server) = pair(Profile::Gcm);
    let mut out = b"before".to_vec();
    assert!(client.protect_rtp(&header(1, 2), b"", &mut out));
    assert_eq!(&out[..6], b"before");
    let mut packet = BytesMut::from(&out[6..]);
    assert!(server.unprotect_rtp(&mut packet));
    assert_eq!(packet, header(1, 2)[..]);

    assert!(!client.protect_rtp(b"too short", b"", &mut out));
    assert!(!client.protect_rtcp(b"short", &mut out));
    assert_eq!(out.len(), 6 + 20 + 16);
}

#[test]
fn no_number_is_protected_twice() {
    for profile in PROFILES {
        let (mut client, _) = pair(profile);
        let mut out = Vec::new();
        for (seq, fine) in
            [(65_534, true), (65_534, false), (1, true), (0, false), (65_534, false), (2, true)]
        {
            let before = out.len();
            assert_eq!(client.protect_rtp(&header(seq, 1), b"x", &mut out), fine, "{profile:?} {seq}");
            assert_eq!(out.len() > before, fine);
        }
        assert!(client.protect_rtp(&header(1, 2), b"x", &mut out), "each source has its own numbers");
    }
}

#[test]
fn wraps_are_counted_over_losses_and_reordering() {
    for profile in PROFILES {
        let (mut client, mut server) = pair(profile);
        let mut late = Vec::new();
        // Four times around in steps that a burst of losses makes.
        for step in 0..800_u32 {
            let seq = (60_000 + step * 331) as u16;
            let mut packet = protected(&mut client, seq, 1, b"x");
            if step % 50 == 49 {
                late.push(packet);
                continue;
            }
            assert!(server.unprotect_rtp(&mut packet), "{step}");
            if let Some(mut packet) = late.pop() {
                assert!(server.unprotect_rtp(&mut packet), "late before {step}");
            }
        }
    }
}

#[test]
fn replays_and_what_is_too_old_are_refused() {
    for profile in PROFILES {
        let (mut client, mut server) = pair(profile);
        let packets: Vec<_> = (0..1100).map(|seq| protected(&mut client, seq, 1, b"x")).collect();
        assert!(server.unprotect_rtp(&mut packets[5].clone()));
        assert!(!server.unprotect_rtp(&mut packets[5].clone()));
        assert!(server.unprotect_rtp(&mut packets[4].clone()));
        assert!(server.unprotect_rtp(&mut packets[1099].clone()));
        assert!(!server.unprotect_rtp(&mut packets[6].clone()), "1093 behind");
        assert!(server.unprotect_rtp(&mut packets[1099 - 1023].clone()));
        assert!(!server.unprotect_rtp(&mut packets[1099 - 1023].clone()));

        let mut out = Vec::new();
        assert!(client.protect_rtcp(RECEIVER_REPORT, &mut out));
        assert!(server.unprotect_rtcp(&mut BytesMut::from(&out[..])));
        assert!(!server.unprotect_rtcp(&mut BytesMut::from(&out[..])));
    }
}

#[test]
fn forged_packets_are_refused_and_leave_no_trace() {
    for profile in PROFILES {
        let (mut client, mut server) = pair(profile);
        let genuine = protected(&mut client, 10, 1, b"payload");
        for at in 0..genuine.len() {
            let mut forged = genuine.clone();
            forged[at] ^= 1;
            assert!(!server.unprotect_rtp(&mut forged), "{profile:?}: byte {at}");
        }
        for ssrc in 100..1000 {
            let mut forged = BytesMut::from(&header(1, ssrc)[..]);
            forged.resize(60, 0);
            assert!(!server.unprotect_rtp(&mut forged));
        }
        assert!(server.unprotect_rtp(&mut genuine.clone()));

        let mut out = Vec::new();
        assert!(client.protect_rtcp(RECEIVER_REPORT, &mut out));
        for at in 0..out.len() {
            let mut forged = BytesMut::from(&out[..]);
            forged[at] ^= 0x80;
            assert!(!server.unprotect_rtcp(&mut forged), "{profile:?}: byte {at}");
        }
        assert!(server.unprotect_rtcp(&mut BytesMut::from(&out[..])));
    }
}

#[test]
fn streams_are_bounded() {
    let (mut client, mut server) = pair(Profile::Gcm);
    let heard =
        (0..200).filter(|ssrc| server.unprotect_rtp(&mut protected(&mut client, 1, *ssrc, b"x"))).count();
    assert_eq!(heard, 64);
    assert!(server.unprotect_rtp(&mut protected(&mut client, 2, 0, b"x")), "those that are known go on");
}

#[test]
fn keying_material_of_another_length_is_refused() {
    let provider = rtc_crypto::default_provider().expect("a provider");
    for profile in PROFILES {
        let material = vec![0; profile.material_len() + 1];
        assert!(Srtp::new(profile, &material, DtlsRole::Client, provider.crypto()).is_none());
        assert!(Srtp::new(profile, &material[2..], DtlsRole::Client, provider.crypto()).is_none());
    }
}

/// What a packet costs: run by hand, `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_packet() {
    let payload = vec![7; 1180];
    for profile in PROFILES {
        let (mut client, _) = pair(profile);
        let mut theirs = library(profile, true);
        let mut out = Vec::with_capacity(64 << 10);
        let header = header(0, 1);
        let mut whole = [header.clone(), payload.clone()].concat();
        let rounds = 200_000_u32;
        let start = std::time::Instant::now();
        for i in 0..rounds {
            if i % 32 == 0 {
                out.clear();
            }
            let mut header = header.clone();
            header[2..4].copy_from_slice(&(i as u16).to_be_bytes());
            assert!(client.protect_rtp(&header, &payload, &mut out));
        }
        let ours = start.elapsed() / rounds;
        let start = std::time::Instant::now();
        for i in 0..rounds {
            whole[2..4].copy_from_slice(&(i as u16).to_be_bytes());
            assert!(theirs.encrypt_rtp(&whole).is_ok());
        }
        println!("{profile:?}: {ours:?} a packet here, {:?} in the library", start.elapsed() / rounds);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_it_panic(packet in proptest::collection::vec(any::<u8>(), 0..80), first in 0x80_u8..0xc0) {
        for profile in PROFILES {
            let (_, mut server) = pair(profile);
            let mut packet = BytesMut::from(&packet[..]);
            prop_assert!(!server.unprotect_rtp(&mut packet.clone()));
            prop_assert!(!server.unprotect_rtcp(&mut packet.clone()));
            if let Some(byte) = packet.first_mut() {
                *byte = first;
            }
            prop_assert!(!server.unprotect_rtp(&mut packet.clone()));
            prop_assert!(!server.unprotect_rtcp(&mut packet));
        }
    }

    #[test]
    fn the_nearest_index_is_taken(highest in 0_u64..1 << 40, step in -0x7fff_i64..0x8000) {
        let truth = highest.saturating_add_signed(step);
        prop_assert_eq!(replay::index(highest, truth as u16), truth);
    }
}
