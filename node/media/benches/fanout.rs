//! Fan-out of one stream: frames times readers per second, and allocations per frame and reader.
//!
//! `cargo bench -p sluice-media --bench fanout`

#![allow(unsafe_code, reason = "counting allocations takes a global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use sluice_media::{
    Event, Frame, Hub, Origin, Start, StreamKey, StreamSettings, Timestamp, TrackConfig, VideoCodec,
    VideoConfig,
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

const FRAMES: u64 = 3000;

fn main() {
    println!(
        "{:>8} {:>16} {:>12} {:>30}",
        "readers", "frames/s", "ns a frame", "allocations a frame and reader"
    );
    for readers in [1, 10, 100, 1000] {
        let mut best = (f64::MAX, f64::MAX);
        for _ in 0..5 {
            let (seconds, allocations) = run(readers);
            let taken = (FRAMES * readers) as f64;
            best = (best.0.min(seconds / taken), best.1.min(allocations as f64 / taken));
        }
        println!("{readers:>8} {:>16.0} {:>12.1} {:>30.5}", 1.0 / best.0, best.0 * 1e9, best.1);
    }
}

/// Writes frames one by one; after each, every reader takes it, as a wake-up would make it do.
fn run(readers: u64) -> (f64, u64) {
    let hub = Hub::new(Duration::ZERO);
    let mut p = hub
        .publish(StreamKey::new("LiveApp", "bench"), Origin::default(), StreamSettings::default())
        .expect("the hub is empty");
    let video = VideoConfig {
        codec: VideoCodec::H264,
        record: Bytes::new(),
        width: 1280,
        height: 720,
        codec_string: String::new(),
    };
    let track = p.add_track(TrackConfig::Video(video)).expect("the first track");
    let mut all: Vec<_> = (0..readers).map(|_| p.stream().subscribe(Start::Newest, Duration::MAX)).collect();
    let payload = Bytes::from(vec![0u8; 8000]);
    let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
    let mut spent = Duration::ZERO;
    let mut allocations = 0;
    for i in 0..FRAMES {
        let t = Timestamp::from_millis(i as i64 * 33);
        let frame = Frame { dts: t, pts: t, keyframe: i % 60 == 0, payload: payload.clone() };
        p.write_at(track, frame, now, wall).expect("live");
        let (began, before) = (Instant::now(), ALLOCATIONS.load(Relaxed));
        for r in &mut all {
            let mut frames = 0;
            while let Some(e) = r.try_next() {
                if let Event::Frame { frame, .. } = e {
                    black_box(frame);
                    frames += 1;
                }
            }
            assert_eq!(frames, 1);
        }
        spent += began.elapsed();
        allocations += ALLOCATIONS.load(Relaxed) - before;
    }
    p.finish();
    (spent.as_secs_f64(), allocations)
}
