//! Loss, order, repair.

use std::time::Duration;

use proptest::prelude::*;
use sluice_media::VideoCodec;

use super::kit::{Rig, VIDEO_PT, Wire, audio_section, picture, video_section};
use crate::agreed::{Codec, Extensions};

const STEP: Duration = Duration::from_millis(40);

/// Keeps what was sent, and sends it again when asked for, after a delay.
#[derive(Default)]
struct Sender {
    sent: Vec<Wire>,
    repairs: Vec<(u32, Wire)>,
    repair_seq: u16,
}

impl Sender {
    fn asked(&mut self, seq: u16, at: u32) {
        let wire = self.sent.iter().rev().find(|w| w.seq == seq).expect("it was sent");
        self.repair_seq = self.repair_seq.wrapping_add(1);
        self.repairs.push((at, wire.again(11, self.repair_seq)));
    }
}

#[test]
fn what_is_lost_comes_again() {
    let mut rig = Rig::new(&[video_section()]);
    let mut sender = Sender::default();
    for i in 0..400 {
        for (part, wire) in picture(1, i, i == 0, 640).into_iter().enumerate() {
            // Every seventh, from the second picture on; beyond the wrap of the numbers by another test.
            if i == 0 || !(i as usize * 3 + part).is_multiple_of(7) || i > 390 {
                rig.send(&wire);
            }
            sender.sent.push(wire);
        }
        for (_, wire) in sender.repairs.extract_if(.., |(at, _)| *at <= i).collect::<Vec<_>>() {
            rig.send(&wire);
        }
        let told = rig.pass(STEP);
        told.nacks.iter().for_each(|(ssrc, seq)| {
            assert_eq!(*ssrc, 1);
            sender.asked(*seq, i + 1);
        });
    }
    assert_eq!(rig.read().numbers(0), (0..400).collect::<Vec<_>>(), "in order, and all");
    let stats = rig.stats();
    assert_eq!(stats.lost, 0);
    assert!(stats.recovered > 150 && stats.nacks >= stats.recovered, "{stats:?}");
}

#[test]
fn what_does_not_come_again_takes_a_keyframe() {
    let mut rig = Rig::new(&[video_section()]);
    let (mut key, mut plis, mut asked) = (true, Vec::new(), 0);
    for i in 0..40 {
        for wire in picture(1, i, key, 640) {
            if wire.seq != 31 {
                rig.send(&wire);
            }
        }
        let told = rig.pass(STEP);
        asked += told.nacks.len();
        key = !told.plis.is_empty();
        if key {
            plis.push(i);
        }
    }
    let numbers = rig.read().numbers(0);
    assert_eq!(plis.len(), 1);
    assert!(plis[0] <= 21, "after 400 ms: {plis:?}");
    assert_eq!(numbers, (0..10).chain(plis[0] + 1..40).collect::<Vec<_>>());
    assert!((3..=10).contains(&asked), "{asked}");
    assert_eq!(rig.stats().lost, 1);
}

#[test]
fn parameter_sets_that_come_by_themselves_after_a_loss_count_for_the_keyframe_behind() {
    // Baseline, 640x368.
    const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xda, 0x02, 0x80, 0xbe, 0x40];
    const PPS: &[u8] = &[0x68, 0xce, 0x38, 0x80];
    let mut section = video_section();
    section.payloads[0].codec = Codec::Video(VideoCodec::H264);
    let mut rig = Rig::new(&[section]);
    let idr = |n: u8| vec![0x65, 0x88, 0, 0, 0, n];
    let packets = [
        (0, 0, SPS.to_vec()),
        (1, 0, PPS.to_vec()),
        (2, 0, idr(0)),
        (3, 1, vec![0x41, 0x9a, 0, 0, 0, 1]),
        // The next one is lost.
        (5, 3, SPS.to_vec()),
        (6, 3, PPS.to_vec()),
        (7, 4, idr(4)),
        // Another one is lost, and perhaps it had sets.
        (9, 6, idr(6)),
    ];
    for (seq, n, payload) in packets {
        let marker = matches!(seq, 2 | 3 | 6 | 7 | 9);
        let timestamp = n * 3600;
        let extensions = Vec::new();
        rig.send(&Wire { ssrc: 1, pt: VIDEO_PT, seq, timestamp, marker, extensions, payload });
        if marker {
            rig.pass(Duration::from_millis(400));
        }
    }
    assert_eq!(rig.read().numbers(0), [0, 1, 4]);
}

#[test]
fn sound_goes_on_without_what_is_lost() {
    let mut rig = Rig::new(&[audio_section()]);
    for i in (0..60).filter(|i| *i != 30) {
        rig.audio(2, i);
        let told = rig.pass(STEP);
        assert!(told.nacks.is_empty() && told.plis.is_empty());
    }
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.read().numbers(0), (0..60).filter(|i| *i != 30).collect::<Vec<_>>());
}

#[test]
fn numbers_and_timestamps_wrap() {
    let mut rig = Rig::new(&[video_section()]);
    let first = u32::MAX / 3600 - 20;
    for i in 0..22_000u32 / 200 {
        let n = first + i;
        for mut wire in picture(1, n, i == 0, 640) {
            wire.timestamp = (u64::from(n) * 3600) as u32;
            wire.seq = wire.seq.wrapping_sub((first * 3) as u16).wrapping_sub(100);
            rig.send(&wire);
        }
        rig.pass(STEP);
    }
    let read = rig.read();
    assert_eq!(read.numbers(0).len(), 110);
    assert_eq!(read.steps(0), [40_000]);
}

#[test]
fn reports_tell_loss_and_arrivals() {
    let mut video = video_section();
    video.extensions = Extensions { transport_cc: Some(5), ..Extensions::default() };
    let mut rig = Rig::new(&[video]);
    let (mut seq, mut arrived, mut reports, mut told_lost) = (0u16, 0, Vec::new(), 0);
    for i in 0..50 {
        for mut wire in picture(1, i, i % 10 == 0, 640) {
            wire.extensions = vec![(5, seq.to_be_bytes().to_vec())];
            seq += 1;
            if seq % 10 != 5 {
                rig.send(&wire);
                arrived += 1;
            }
        }
        let told = rig.pass(STEP);
        for feedback in &told.transport {
            told_lost += usize::from(feedback.packet_status_count) - feedback.recv_deltas.len();
            arrived -= feedback.recv_deltas.len() as i32;
        }
        assert!(told.rembs.is_empty());
        reports.extend(told.reports.into_iter().filter(|r| !r.reports.is_empty()));
    }
    assert_eq!((arrived, told_lost), (0, 15));
    assert!((3..=4).contains(&reports.len()), "each half second");
    let last = &reports[reports.len() - 1].reports[0];
    assert_eq!(last.ssrc, 1);
    assert!((20..=32).contains(&last.fraction_lost), "a tenth: {}", last.fraction_lost);
    assert!((13..=15).contains(&last.total_lost));
}

#[test]
fn without_transport_wide_feedback_a_bitrate_is_told() {
    let mut rig = Rig::new(&[video_section()]);
    let mut rembs = Vec::new();
    for i in 0..30 {
        rig.video(1, i, i == 0);
        rembs.extend(rig.pass(STEP).rembs);
    }
    assert_eq!(rembs.len(), 2);
    assert!(rembs.iter().all(|r| r.bitrate > 2e6 && r.ssrcs == [1]), "{rembs:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any order, any loss, any repetition: nothing breaks, and what comes out is in order and decodable.
    #[test]
    fn anything_may_happen_to_packets(
        fates in prop::collection::vec((0u8..20, 0u32..8), 600),
    ) {
        let mut rig = Rig::new(&[video_section()]);
        let mut late: Vec<(u32, Wire)> = Vec::new();
        let mut key = true;
        for i in 0..200u32 {
            for (part, wire) in picture(1, i, key, 640).into_iter().enumerate() {
                match fates[i as usize * 3 + part] {
                    (0, _) => {}
                    (1, by) => late.push((i + by, wire)),
                    (2, _) => {
                        rig.send(&wire);
                        rig.send(&wire);
                    }
                    _ => rig.send(&wire),
                }
            }
            for (_, wire) in late.extract_if(.., |(at, _)| *at <= i).collect::<Vec<_>>() {
                rig.send(&wire);
            }
            key = !rig.pass(STEP).plis.is_empty();
        }
        rig.pass(Duration::from_secs(1));
        let numbers = rig.read().numbers(0);
        prop_assert!(numbers.windows(2).all(|w| w[1] > w[0]), "{numbers:?}");
        prop_assert_eq!(rig.stream().stats().frames_dropped.load(std::sync::atomic::Ordering::Relaxed) < 200, true);
    }
}
