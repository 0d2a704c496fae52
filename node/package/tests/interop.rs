//! ffmpeg must be able to play what is packaged, frame for frame.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::{END, Media, Site, av, ffprobe, site, write_all};
use sluice_media::{AudioConfig, Frame, Timestamp, TrackConfig, VideoConfig};
use sluice_package::{HlsSettings, SegmentType};

/// Publishes the media whole, ends the stream, and has ffprobe read all packets of the playlist over HTTP:
/// codec to the presentation times in order, in seconds, and what it complained about.
async fn probe(site: &Site, media: &Media) -> (BTreeMap<String, Vec<f64>>, String) {
    let mut publisher = site.publish("cam1", media);
    write_all(&mut publisher, media, Timestamp::ZERO, END);
    let addr = site.listen().await;
    // The first request starts the packager, which must be at work before the stream ends.
    let first = site.get("/LiveApp/streams/cam1.m3u8").await;
    assert!(first.status() == 200 || first.status() == 302, "{first:?}");
    publisher.finish();
    let url = format!("http://{addr}/LiveApp/streams/cam1.m3u8");
    tokio::task::spawn_blocking(move || {
        let show = ["-show_entries", "stream=index,codec_name:packet=stream_index,pts_time", "-of", "csv"];
        let (lines, complaints) = ffprobe(&show, &url);
        let mut names = BTreeMap::new();
        let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        // Streams come after packets, and again for their program.
        for line in lines.lines().filter(|l| l.starts_with("stream,")) {
            let fields: Vec<&str> = line.split(',').collect();
            names.insert(fields[1].to_owned(), fields[2].to_owned());
        }
        for line in lines.lines().filter(|l| l.starts_with("packet,")) {
            let fields: Vec<&str> = line.split(',').collect();
            times.entry(names[fields[1]].clone()).or_default().push(fields[2].parse().unwrap());
        }
        times.values_mut().for_each(|t| t.sort_by(f64::total_cmp));
        (times, complaints)
    })
    .await
    .unwrap()
}

fn published(media: &Media, track: u8) -> Vec<f64> {
    let mut t: Vec<f64> =
        media.frames.iter().filter(|(i, _)| *i == track).map(|(_, f)| f.pts.as_secs_f64()).collect();
    t.sort_by(f64::total_cmp);
    t
}

/// All frames are there, at their times up to a constant and the rounding of RTMP.
fn same(probed: &[f64], published: &[f64], what: &str) {
    assert_eq!(probed.len(), published.len(), "{what}");
    let shift = probed[0] - published[0];
    for (a, b) in probed.iter().zip(published) {
        assert!((a - b - shift).abs() < 0.0031, "{what}: {a} is not {b} + {shift}");
    }
}

async fn plays(settings: HlsSettings, media: Media, codecs: &[&str]) {
    let site = site(settings);
    let (times, complaints) = probe(&site, &media).await;
    assert_eq!(complaints.trim(), "", "{codecs:?}");
    assert_eq!(times.len(), media.tracks.len(), "{codecs:?}");
    for (i, codec) in codecs.iter().enumerate() {
        same(&times[*codec], &published(&media, i as u8), codec);
    }
}

const H264: &str = "-c:v libx264 -preset veryfast -g 30 -bf 2";
const AAC: &str = "-c:a aac -b:a 64k";

#[tokio::test(flavor = "multi_thread")]
async fn fmp4_h264_with_b_frames_and_aac() {
    plays(HlsSettings::default(), av(7, "30", H264, AAC), &["h264", "aac"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fmp4_video_only_and_audio_only() {
    plays(HlsSettings::default(), av(5, "25", H264, ""), &["h264"]).await;
    plays(HlsSettings::default(), av(5, "25", "", AAC), &["aac"]).await;
    plays(HlsSettings::default(), av(5, "25", "", "-c:a libmp3lame -ar 44100"), &["mp3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ts_h264_with_b_frames_and_aac() {
    let ts = HlsSettings { segment_type: SegmentType::MpegTs, ..HlsSettings::default() };
    plays(ts, av(7, "30", H264, AAC), &["h264", "aac"]).await;
    plays(ts, av(5, "30", H264, "-c:a libmp3lame -ar 44100"), &["h264", "mp3"]).await;
    // ffmpeg gives the first frames of an audio-only playlist the same time, so only their number is compared.
    let media = av(5, "30", "", AAC);
    let (times, _) = probe(&site(ts), &media).await;
    assert_eq!(times["aac"].len(), media.frames.len());
}

/// Four seconds of a codec that FLV does not carry here, with keyframes each second.
fn fragmented(
    input: &str,
    encoder: &str,
    record: &[u8; 4],
    step: Duration,
    every: usize,
) -> (Bytes, Vec<Frame>) {
    let mut args = vec!["-f", "lavfi", "-i", input, "-t", "4"];
    args.extend(encoder.split_whitespace());
    args.extend(["-movflags", "frag_every_frame+delay_moov+default_base_moof", "-f", "mp4"]);
    common::fragments(&common::ffmpeg(&args), record, step, every)
}

fn one(config: TrackConfig, frames: Vec<Frame>) -> Media {
    Media { tracks: vec![config], frames: frames.into_iter().map(|f| (0, f)).collect() }
}

const PICTURE: &str = "testsrc2=size=320x180:rate=25";
const STEP: Duration = Duration::from_millis(40);

#[tokio::test(flavor = "multi_thread")]
async fn fmp4_hevc() {
    let encoder = "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params bframes=0:keyint=25:min-keyint=25:scenecut=0:log-level=none";
    let (record, frames) = fragmented(PICTURE, encoder, b"hvcC", STEP, 25);
    let media = one(TrackConfig::Video(VideoConfig::hevc(record).unwrap()), frames);
    plays(HlsSettings::default(), media.clone(), &["hevc"]).await;
    let ts = HlsSettings { segment_type: SegmentType::MpegTs, ..HlsSettings::default() };
    plays(ts, media, &["hevc"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fmp4_av1() {
    let encoder = "-c:v libaom-av1 -cpu-used 8 -usage realtime -g 25 -keyint_min 25";
    let (record, frames) = fragmented(PICTURE, encoder, b"av1C", STEP, 25);
    plays(
        HlsSettings::default(),
        one(TrackConfig::Video(VideoConfig::av1(record).unwrap()), frames),
        &["av1"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fmp4_vp9_and_vp8() {
    let encoder = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -keyint_min 25 -lag-in-frames 0";
    let (record, frames) = fragmented(PICTURE, encoder, b"vpcC", STEP, 25);
    // In the hub the record has no version and flags.
    let config = VideoConfig::vp9(record.slice(4..)).unwrap();
    plays(HlsSettings::default(), one(TrackConfig::Video(config), frames), &["vp9"]).await;
    let mut args = vec!["-f", "lavfi", "-i", PICTURE, "-t", "4"];
    args.extend("-c:v libvpx -deadline realtime -cpu-used 8 -g 25 -keyint_min 25 -f ivf".split(' '));
    let frames = common::ivf(&common::ffmpeg(&args), STEP, 25);
    let config = VideoConfig::vp8(320, 180).unwrap();
    plays(HlsSettings::default(), one(TrackConfig::Video(config), frames), &["vp8"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fmp4_opus_and_its_refusal_in_ts() {
    let tone = "sine=frequency=440:sample_rate=48000";
    let (record, frames) = fragmented(tone, "-c:a libopus -b:a 64k", b"dOps", Duration::from_millis(20), 1);
    let media = one(TrackConfig::Audio(AudioConfig::opus(record).unwrap()), frames);
    plays(HlsSettings::default(), media.clone(), &["opus"]).await;

    let site = site(HlsSettings { segment_type: SegmentType::MpegTs, ..HlsSettings::default() });
    let mut publisher = site.publish("cam1", &media);
    write_all(&mut publisher, &media, Timestamp::ZERO, END);
    let r = site.get("/LiveApp/streams/cam1.m3u8").await;
    assert_eq!(r.status(), 404);
    assert!(common::text(&r).contains("hlsSegmentType"), "{}", common::text(&r));
}
