//! A publisher's clock.

use sluice_media::Timestamp;
use sluice_media::timeline::{Timeline, Unwrap};

const RECORD: usize = 8;
const TRACKS: usize = 4;

/// Frames of up to four tracks with any times: 8 bytes each, the track, a 24-bit composition time and a 32-bit
/// decoding time in milliseconds, as RTMP has them. With the highest bit of the track the decoding time is one that a
/// publisher reaches after many wraps. On the stream's timeline each track's time only grows, and
/// nothing is shown before it is decoded.
pub(crate) fn timeline(data: &[u8]) {
    let mut clocks: Vec<Unwrap> = (0..TRACKS).map(|_| Unwrap::bits32_ms()).collect();
    let mut last: [Option<Timestamp>; TRACKS] = [None; TRACKS];
    let mut timeline = Timeline::new(Timestamp::ZERO);
    let (records, _) = data.as_chunks::<RECORD>();
    for &[track, a, b, c, times @ ..] in records {
        let composition = i64::from(i32::from_be_bytes([a, b, c, 0]) >> 8) * 1000;
        let far = track & 0x80 != 0;
        let track = usize::from(track) % TRACKS;
        let dts = if far {
            Timestamp(i64::from(i32::from_be_bytes(times)) << 31)
        } else {
            clocks[track].unwrap(u64::from(u32::from_be_bytes(times)))
        };
        let place = timeline.place(track, dts, Timestamp(dts.0.saturating_add(composition)));
        assert!(place.pts >= place.dts, "shown before it is decoded: {place:?}");
        assert!(
            last[track] < Some(place.dts),
            "time stands still or goes back: {place:?} after {:?}",
            last[track]
        );
        last[track] = Some(place.dts);
    }
}
