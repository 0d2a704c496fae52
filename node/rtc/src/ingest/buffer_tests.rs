use proptest::prelude::*;
use sluice_media::{AudioCodec, VideoCodec};

use super::*;

const VP8: Codec = Codec::Video(VideoCodec::Vp8);
const WAIT: Duration = Duration::from_millis(100);
const RTT: Duration = Duration::from_millis(50);

/// A VP8 packet: frames of three, each a keyframe if its number is divisible by ten.
fn slot(n: u32) -> Slot {
    let (frame, part) = (n / 3, n % 3);
    let first: &[u8] = if frame % 10 == 0 { &[0x10, 0x00] } else { &[0x10, 0x01] };
    let payload = if part == 0 { first.to_vec() } else { vec![0x00, 0xaa] };
    let payload = [payload, n.to_be_bytes().to_vec()].concat().into();
    Slot { marker: part == 2, timestamp: frame.wrapping_mul(3000), codec: Some(VP8), payload }
}

fn frames(buffer: &mut Buffer, now: Instant) -> Vec<Option<u32>> {
    std::iter::from_fn(|| buffer.pop(now, WAIT))
        .map(|p| match p {
            Popped::Frame { timestamp, payloads, .. } => {
                assert_eq!(payloads.len(), 3);
                Some(timestamp / 3000)
            }
            Popped::Gap => None,
        })
        .collect()
}

#[test]
fn reordered_packets_make_frames_in_order_over_the_wrap() {
    let now = Instant::now();
    let mut buffer = Buffer::new(false);
    let seq = |n: u32| (65_530 + n) as u16;
    for n in [0, 2, 1, 4, 3, 8, 7, 6, 5, 5, 5] {
        let _ = buffer.put(seq(n), slot(n), now);
    }
    assert_eq!(frames(&mut buffer, now), [Some(0), Some(1), Some(2)]);
    assert_eq!(buffer.put(seq(4), slot(4), now), Put::Useless, "it has been given out");
    assert_eq!(buffer.requests(now + WAIT, RTT, 10), [] as [u16; 0], "all came");
}

#[test]
fn what_is_missing_is_asked_for_and_given_up() {
    let mut now = Instant::now();
    let mut buffer = Buffer::new(false);
    for n in (0..12).filter(|n| *n != 4) {
        assert!(matches!(buffer.put(n as u16, slot(n), now), Put::New { .. }));
    }
    assert_eq!(frames(&mut buffer, now), [Some(0)]);
    assert!(buffer.requests(now, RTT, 10).is_empty(), "it may be late");
    assert_eq!(buffer.next_request(), Some(now + LATE));
    now += LATE;
    assert_eq!(buffer.requests(now, RTT, 10), [4]);
    assert!(buffer.requests(now, RTT, 10).is_empty());
    assert_eq!(buffer.deadline(WAIT), Some(now + WAIT - LATE));
    now += WAIT - LATE;
    assert_eq!(frames(&mut buffer, now), [None, Some(2), Some(3)]);
    assert_eq!(buffer.lost(), 1);
    assert!(buffer.take_discarded(), "the rest of the broken frame");
    assert_eq!(buffer.put(4, slot(4), now), Put::Useless);
}

#[test]
fn a_repair_tells_the_round_trip() {
    let now = Instant::now();
    let mut buffer = Buffer::new(false);
    for n in [0, 1, 3] {
        let _ = buffer.put(n as u16, slot(n), now);
    }
    let asked = now + LATE;
    assert_eq!(buffer.requests(asked, RTT, 10), [2]);
    assert_eq!(buffer.put(2, slot(2), asked + RTT), Put::New { asked: Some(asked) });
    for tries in 2..=30 {
        let again = buffer.requests(now + tries * WAIT, RTT, 10);
        assert!(again.is_empty());
    }
}

#[test]
fn requests_end_some_time() {
    let mut now = Instant::now();
    let mut buffer = Buffer::new(false);
    for n in [0, 2] {
        let _ = buffer.put(n as u16, slot(n), now);
    }
    let mut asked = 0;
    while let Some(next) = buffer.next_request() {
        assert!(next >= now);
        now = next;
        asked += buffer.requests(now, RTT, 10).len();
    }
    assert_eq!(asked, usize::from(TRIES));
}

#[test]
fn padding_and_unknown_formats_only_have_numbers() {
    let now = Instant::now();
    let mut buffer = Buffer::new(false);
    let padding = Slot { marker: false, timestamp: 0, codec: Some(VP8), payload: Bytes::new() };
    let unknown = Slot { codec: None, payload: Bytes::from_static(b"fec"), ..padding.clone() };
    let slots = [slot(0), slot(1), slot(2), padding.clone(), unknown, slot(3), padding, slot(4), slot(5)];
    for (seq, slot) in slots.into_iter().enumerate() {
        let _ = buffer.put(seq as u16, slot, now);
    }
    assert_eq!(frames(&mut buffer, now), [Some(0), Some(1)]);
}

#[test]
fn frames_without_a_marker_end_with_the_next_timestamp() {
    let now = Instant::now();
    let mut buffer = Buffer::new(false);
    for n in 0..7 {
        let _ = buffer.put(n as u16, Slot { marker: false, ..slot(n) }, now);
    }
    assert_eq!(frames(&mut buffer, now), [Some(0), Some(1)]);
}

#[test]
fn a_jump_of_the_numbers_is_a_gap() {
    let now = Instant::now();
    let mut buffer = Buffer::new(false);
    for n in 0..3 {
        let _ = buffer.put(n as u16, slot(n), now);
    }
    assert_eq!(frames(&mut buffer, now), [Some(0)]);
    for n in 30..33 {
        let _ = buffer.put(n as u16 + 10_000, slot(n), now);
    }
    assert_eq!(frames(&mut buffer, now), [None, Some(10)], "ahead");
    for n in 0..90 {
        let _ = buffer.put(n as u16 + 100, slot(n), now);
    }
    let after = frames(&mut buffer, now);
    assert_eq!(after.first(), Some(&None), "back, by and by");
    assert_eq!(after.last(), Some(&Some(29)));
}

#[test]
fn audio_goes_on_after_a_gap() {
    let now = Instant::now();
    let mut buffer = Buffer::new(true);
    let opus = |n: u32| Slot {
        marker: false,
        timestamp: n * 960,
        codec: Some(Codec::Audio(AudioCodec::Opus)),
        payload: Bytes::from_static(&[0xfc, 1]),
    };
    for n in [0, 1, 3] {
        let _ = buffer.put(n as u16, opus(n), now);
    }
    let mut out = |now| std::iter::from_fn(|| buffer.pop(now, WAIT)).collect::<Vec<_>>();
    assert_eq!(out(now).len(), 2);
    let after = out(now + WAIT);
    assert!(matches!(after[..], [Popped::Gap, Popped::Frame { timestamp: 2880, .. }]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever comes, in whatever order: frames come out whole, at most once, and in order; memory is bounded.
    #[test]
    fn any_order_and_any_loss(
        start: u16,
        steps in prop::collection::vec((0u32..600, 0u64..40, 0usize..2), 1..1500),
    ) {
        let mut now = Instant::now();
        let mut buffer = Buffer::new(false);
        let mut last = None;
        for (n, pause, _) in steps {
            now += Duration::from_millis(pause);
            let _ = buffer.put(start.wrapping_add(n as u16), slot(n), now);
            for frame in frames(&mut buffer, now).into_iter().flatten() {
                // Only a sender that counts anew goes back.
                prop_assert!(last.is_none_or(|l| frame > l) || buffer.lost() > 0);
                last = Some(frame);
            }
            let _ = buffer.requests(now, RTT, 10);
            prop_assert!(buffer.slots.len() <= MOST as usize && buffer.missing.len() <= MOST as usize);
        }
    }

    /// When all that was asked for comes, everything comes out.
    #[test]
    fn repaired_losses_leave_no_trace(
        start: u16,
        lost in prop::collection::vec(prop::bool::weighted(0.2), 900),
    ) {
        let mut now = Instant::now();
        let mut buffer = Buffer::new(false);
        let mut out = Vec::new();
        let mut repairs: Vec<(Instant, u32)> = Vec::new();
        for n in 0..900u32 {
            now += Duration::from_millis(5);
            if !lost[n as usize] || !(3..=870).contains(&n) {
                let _ = buffer.put(start.wrapping_add(n as u16), slot(n), now);
            }
            for seq in buffer.requests(now, RTT, 64) {
                repairs.push((now + RTT, u32::from(seq.wrapping_sub(start))));
            }
            for (_, n) in repairs.extract_if(.., |(at, _)| *at <= now) {
                let _ = buffer.put(start.wrapping_add(n as u16), slot(n), now);
            }
            out.extend(frames(&mut buffer, now));
        }
        prop_assert_eq!(out, (0..300).map(Some).collect::<Vec<_>>());
    }
}
