//! Simulcast.

use std::time::Duration;

use super::kit::{RTX_PT, Rig, audio_section, picture, video_section};
use crate::agreed::{Extensions, Receiving};

const STEP: Duration = Duration::from_millis(40);
const RIDS: [&str; 3] = ["q", "h", "f"];
const MID: u8 = 4;
const RID: u8 = 10;
const REPAIRED: u8 = 11;

fn simulcast() -> Receiving {
    let mut section = video_section();
    section.ssrcs.clear();
    section.rids = RIDS.map(String::from).to_vec();
    section.extensions =
        Extensions { mid: Some(MID), rid: Some(RID), repaired_rid: Some(REPAIRED), ..Extensions::default() };
    section
}

/// A picture of layer `l`, 0 being the smallest, from SSRC 100 + l.
fn layer(rig: &mut Rig, l: usize, n: u32, keyframe: bool) {
    for mut wire in picture(100 + l as u32, n, keyframe, 320 << l) {
        wire.extensions = vec![(MID, b"v".to_vec()), (RID, RIDS[l].into())];
        rig.send(&wire);
    }
}

#[test]
fn layers_become_renditions_the_largest_first() {
    let mut rig = Rig::new(&[simulcast(), audio_section()]);
    let mut key = true;
    for i in 0..100 {
        rig.audio(2, i);
        for l in 0..3 {
            // The largest one starts a little later.
            if l < 2 || i >= 10 {
                layer(&mut rig, l, i, key || i == 10);
            }
        }
        key = !rig.pass(STEP).plis.is_empty();
    }
    let widths: Vec<u32> = rig
        .stream()
        .configs()
        .iter()
        .map(|c| match &**c {
            sluice_media::TrackConfig::Video(v) => v.width,
            sluice_media::TrackConfig::Audio(_) => 0,
        })
        .collect();
    assert_eq!(widths, [0, 1280, 640, 320]);
    let read = rig.read();
    assert_eq!(read.numbers(1), (10..100).collect::<Vec<_>>());
    assert_eq!(read.numbers(2), (0..100).collect::<Vec<_>>());
    assert_eq!(read.numbers(3), (0..100).collect::<Vec<_>>());
    assert!(read.numbers(0).len() >= 98);
    let groups = |of| read.groups(of).iter().map(|g| g.group).collect::<Vec<_>>();
    let (large, small) = (groups(1), groups(3));
    assert!(large.len() >= 2 && small.ends_with(&large), "{large:?} {small:?}");
    assert_eq!(read.groups(1).last().map(|g| g.discontinuity), Some(0));
}

#[test]
fn a_layer_that_never_comes_holds_nothing_up_for_long() {
    let mut rig = Rig::new(&[simulcast()]);
    let mut first = None;
    for i in 0..50 {
        layer(&mut rig, 0, i, i == 0);
        rig.pass(STEP);
        if first.is_none() && !rig.stream().tracks().is_empty() {
            first = Some(i);
        }
    }
    assert_eq!(first, Some(24), "a second");
    assert_eq!(rig.read().numbers(0), (0..50).collect::<Vec<_>>());
    // It comes after all, behind the others.
    layer(&mut rig, 2, 50, true);
    layer(&mut rig, 0, 50, true);
    rig.pass(STEP);
    assert_eq!(rig.stream().tracks().len(), 2);
    assert_eq!(rig.read().numbers(1), [50]);
}

#[test]
fn layers_stop_and_start_again() {
    let mut rig = Rig::new(&[simulcast()]);
    for i in 0..200 {
        for l in 0..3 {
            // The largest one pauses, as senders do when the link gets narrow.
            if l < 2 || !(50..120).contains(&i) {
                layer(&mut rig, l, i, i % 40 == 0);
            }
        }
        rig.pass(STEP);
    }
    let read = rig.read();
    assert_eq!(read.numbers(0), (0..50).chain(120..200).collect::<Vec<_>>());
    assert_eq!(read.numbers(1), (0..200).collect::<Vec<_>>());
    assert!(read.groups(1).len() >= 4, "the next one leads meanwhile");
}

#[test]
fn repairs_find_their_layer_by_its_name() {
    let mut rig = Rig::new(&[simulcast()]);
    for i in 0..30 {
        for (l, rid) in RIDS.into_iter().enumerate() {
            for mut wire in picture(100 + l as u32, i, i == 0, 320 << l) {
                wire.extensions = vec![(MID, b"v".to_vec()), (RID, rid.into())];
                if (l, i) == (1, 20) && wire.marker {
                    let mut again = wire.again(200 + l as u32, 5);
                    assert_eq!(again.pt, RTX_PT);
                    again.extensions = vec![(MID, b"v".to_vec()), (REPAIRED, rid.into())];
                    rig.send(&again);
                } else {
                    rig.send(&wire);
                }
            }
        }
        rig.pass(STEP);
    }
    assert_eq!(rig.stats().recovered, 1);
    let read = rig.read();
    assert!((0..3).all(|track| read.numbers(track).len() == 30));
}

#[test]
fn wishes_go_to_all_layers() {
    let mut rig = Rig::new(&[simulcast()]);
    (0..3).for_each(|l| layer(&mut rig, l, 0, true));
    rig.pass(STEP);
    rig.ingest.want_keyframe(rig.now);
    let mut plis = rig.pass(STEP).plis;
    plis.sort_unstable();
    assert_eq!(plis, [100, 101, 102]);
}

#[test]
fn a_layer_that_pauses_is_asked_for_nothing_until_it_is_back() {
    let mut rig = Rig::new(&[simulcast()]);
    let (mut asked, mut key) = (Vec::new(), true);
    for i in 0..300 {
        for l in 0..3 {
            if l < 2 || !(50..250).contains(&i) {
                layer(&mut rig, l, i, key);
            }
        }
        let plis = rig.pass(STEP).plis;
        key = plis.contains(&100);
        asked.extend(plis.into_iter().map(|ssrc| (i, ssrc)));
    }
    let of = |ssrc| asked.iter().filter(move |(_, s)| *s == ssrc).map(|(i, _)| *i).collect::<Vec<_>>();
    assert!(of(100).windows(2).all(|w| w[1] - w[0] >= 47), "as if all of them came: {asked:?}");
    assert!(of(102).iter().all(|i| !(75..250).contains(i)), "{asked:?}");
    assert!(of(102).iter().any(|i| (250..253).contains(i)), "with its first packets: {asked:?}");
}

#[test]
fn a_source_that_is_silent_is_left_alone() {
    let mut rig = Rig::new(&[video_section()]);
    rig.video(1, 0, true);
    rig.pass(Duration::from_millis(900));
    rig.ingest.want_keyframe(rig.now);
    assert_eq!(rig.pass(Duration::from_secs(60)).plis.len(), 1);
    rig.ingest.want_keyframe(rig.now);
    rig.video(1, 1, false);
    assert_eq!(rig.pass(Duration::from_millis(10)).plis, [1]);
}

#[test]
fn without_rids_announced_sources_are_layers() {
    let mut section = video_section();
    section.ssrcs = vec![(1, Some(11)), (3, Some(13))];
    let mut rig = Rig::new(&[section]);
    for i in 0..10 {
        rig.video_sized(1, i, i == 0, 320);
        rig.video_sized(3, i, i == 0, 640);
        rig.pass(STEP);
    }
    let read = rig.read();
    assert_eq!(read.groups(0)[0].width, 640);
    assert_eq!((read.numbers(0).len(), read.numbers(1).len()), (10, 10));
}

#[test]
fn a_name_that_is_unknown_has_no_place() {
    let mut rig = Rig::new(&[simulcast()]);
    for mut wire in picture(500, 0, true, 640) {
        for extensions in
            [vec![(RID, b"x".to_vec())], vec![(MID, b"w".to_vec()), (RID, b"q".to_vec())], vec![]]
        {
            wire.extensions = extensions;
            rig.send(&wire);
        }
    }
    rig.pass(Duration::from_secs(2));
    assert!(rig.stream().tracks().is_empty());
}
