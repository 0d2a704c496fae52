//! Picture and sound together.

use std::time::Duration;

use super::kit::{Rig, audio_section, picture, sender_report, sound, video_section};

const STEP: Duration = Duration::from_millis(40);

/// Sends picture and sound of the same moment, the sound `late` steps later, and both clocks anywhere. Sender reports
/// come at the given steps. Gives by how much the sound lies behind the picture, in microseconds, at the end.
fn offset(late: u32, video_report: Option<u32>, audio_report: Option<u32>) -> (Rig, i64, Vec<i64>, Vec<i64>) {
    let mut rig = Rig::new(&[video_section(), audio_section()]);
    let (v0, a0) = (u32::MAX - 100_000, 12_345);
    for i in 0..250u32 {
        for mut wire in picture(1, i, i % 50 == 0, 640) {
            wire.timestamp = wire.timestamp.wrapping_add(v0);
            rig.send(&wire);
        }
        if let Some(n) = i.checked_sub(late) {
            let mut wire = sound(2, n);
            wire.timestamp = wire.timestamp.wrapping_add(a0);
            rig.send(&wire);
        }
        if Some(i) == video_report {
            rig.ingest.rtcp(&sender_report(1, STEP * i, v0.wrapping_add(3600 * i)), rig.now);
        }
        if Some(i) == audio_report {
            rig.ingest.rtcp(&sender_report(2, STEP * i, a0 + 1920 * i), rig.now);
        }
        rig.pass(STEP);
    }
    let read = rig.read();
    let (videos, audios) = (read.numbers(0), read.numbers(1));
    let at = |numbers: &[u32], times: &[i64], n: u32| {
        numbers.iter().position(|x| *x == n).map(|i| times[i]).expect("it came")
    };
    let n = 240;
    let off = at(&audios, &read.times(1), n) - at(&videos, &read.times(0), n);
    let (v, a) = (read.steps(0), read.steps(1));
    (rig, off, v, a)
}

#[test]
fn before_reports_arrival_counts() {
    let (_, off, v, a) = offset(3, None, None);
    assert_eq!(off, 120_000);
    assert_eq!((v, a), (vec![40_000], vec![40_000]));
}

#[test]
fn reports_bring_them_together() {
    for (video, audio) in [(0, 2), (60, 20), (20, 60)] {
        let (_, off, v, a) = offset(5, Some(video), Some(audio));
        assert!(off.abs() < 1000, "{video} {audio}: {off}");
        for steps in [v, a] {
            assert!(steps[0] >= 37_000 && steps[steps.len() - 1] <= 43_000, "nobody sees it: {steps:?}");
        }
    }
}

#[test]
fn one_report_alone_moves_nothing() {
    let (rig, off, v, a) = offset(3, Some(20), None);
    assert_eq!((off, v, a), (120_000, vec![40_000], vec![40_000]));
    assert_eq!(rig.stream.tracks().len(), 2);
}
