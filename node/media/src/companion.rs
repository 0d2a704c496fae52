//! A track that this node adds to a stream beside what its publisher sends: the same sound in another codec.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::stream::{Stream, Track};
use crate::{Arrived, AudioConfig, Ended, Frame, GroupHead, Stamp, Timestamp, TrackConfig, TrackId};

/// Groups that may begin at the source before the companion comes to them.
const PENDING: usize = 64;

/// Writes an audio track beside another one. Its groups carry the stamps of that one's groups, so that segments and parts
/// line up, here and on every node that fetches the stream.
///
/// There is one at a time for each codec of a stream. When it is dropped, the track stays and is silent; the next one
/// goes on with it.
#[derive(Debug)]
pub struct Companion {
    stream: Arc<Stream>,
    track: Arc<Track>,
    config: Arc<TrackConfig>,
    /// Stamps of the source's groups that are still to begin here, oldest first.
    pending: VecDeque<Arc<Stamp>>,
    /// Epoch and number of the track's newest group, and whether it can be gone on with.
    newest: Option<((u64, u64), bool)>,
    /// Whether frames belong to the newest group.
    open: bool,
    /// Frames up to here are there already, or are not wanted.
    last: Option<Timestamp>,
}

impl Companion {
    /// A track beside the audio track `source`, which a companion of the same codec may have written before. `None` when the
    /// stream has no room for one more track, or is over.
    pub fn new(stream: Arc<Stream>, source: TrackId, config: AudioConfig) -> Option<Self> {
        if stream.is_ended() {
            return None;
        }
        let codec = config.codec;
        let config = Arc::new(TrackConfig::Audio(config));
        let before = stream
            .tracks()
            .into_iter()
            .find(|t| t.id > source && matches!(&*t.config(), TrackConfig::Audio(a) if a.codec == codec));
        let track = match before {
            Some(track) => {
                if *track.config() != *config {
                    track.set_config(config.clone());
                }
                track
            }
            None => stream.add_track(config.clone())?,
        };
        let newest = track.ring.newest(|_| true);
        let last = newest.as_ref().and_then(|g| g.len().checked_sub(1).and_then(|i| g.get(i)));
        Some(Companion {
            last: last.map(|a| a.frame.dts),
            newest: newest.as_ref().map(|g| (g.head.stamp.place(), g.head.config == config)),
            stream,
            track,
            config,
            pending: VecDeque::new(),
            open: false,
        })
    }

    /// The number of the track.
    pub fn track(&self) -> TrackId {
        self.track.id
    }

    /// Leaves out what is not later than `time`.
    pub fn begin_at(&mut self, time: Timestamp) {
        self.last = self.last.max(Some(time));
    }

    /// A group of the source begins; here it does with the first frame that is not before it.
    pub fn group(&mut self, stamp: Arc<Stamp>) {
        if self.newest.is_none_or(|(place, _)| stamp.place() >= place) {
            self.pending.push_back(stamp);
        }
        if self.pending.len() > PENDING {
            self.pending.pop_front();
        }
    }

    /// Writes a frame; its times are on the stream's timeline. `order` is that of the source's frame that it was made from, so
    /// that readers get both together. What comes before the first group, or is not later than the frame before it, is
    /// left out. Readers see it after the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`Ended`] when the stream has ended, or another node writes it now.
    pub fn write(&mut self, order: u64, frame: Frame) -> Result<(), Ended> {
        if self.stream.is_ended() || self.stream.is_relayed() {
            return Err(Ended);
        }
        if self.last.is_some_and(|last| frame.dts <= last) {
            return Ok(());
        }
        let mut begins = None;
        while self.pending.front().is_some_and(|s| s.start <= frame.dts) {
            begins = self.pending.pop_front();
        }
        if let Some(stamp) = begins {
            let place = stamp.place();
            self.open = match self.newest {
                // Written in part by the companion before this one.
                Some((newest, same_config)) if newest == place => same_config,
                _ => {
                    let config = self.config.clone();
                    self.track.ring.begin(GroupHead { stamp, config, independent: true, leads: false });
                    self.newest = Some((place, true));
                    true
                }
            };
        }
        if self.open {
            self.last = Some(frame.dts);
            self.track.ring.push(Arrived { order, frame });
        }
        Ok(())
    }

    /// Wakes the readers: once for everything that was made in one go.
    pub fn flush(&self) {
        self.stream.notify().notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use bytes::Bytes;

    use super::*;
    use crate::{AudioCodec, Event, Hub, Origin, Publisher, Reader, Start, StreamKey, StreamSettings};

    fn audio(codec: AudioCodec, channels: u8) -> AudioConfig {
        AudioConfig {
            codec,
            record: Bytes::new(),
            sample_rate: 48_000,
            channels,
            codec_string: String::new(),
        }
    }

    fn video() -> TrackConfig {
        TrackConfig::Video(crate::VideoConfig {
            codec: crate::VideoCodec::Vp8,
            record: Bytes::new(),
            width: 320,
            height: 180,
            codec_string: String::new(),
        })
    }

    fn frame(ms: i64, keyframe: bool) -> Frame {
        let t = Timestamp::from_millis(ms);
        Frame { dts: t, pts: t, keyframe, payload: Bytes::from_static(b"x") }
    }

    /// Pictures each 40 ms, a key frame each second; sound each 20 ms.
    struct Source {
        publisher: Publisher,
        hub: Arc<Hub>,
        at: i64,
        now: Instant,
    }

    impl Source {
        fn new() -> Self {
            let hub = Hub::new(Duration::from_secs(10));
            let key = StreamKey::new("live", "a");
            let mut publisher = hub.publish(key, Origin::default(), StreamSettings::default()).expect("new");
            publisher.add_track(video()).expect("room");
            publisher.add_track(TrackConfig::Audio(audio(AudioCodec::Opus, 2))).expect("room");
            Source { publisher, hub, at: 0, now: Instant::now() }
        }

        fn film(&mut self, ms: i64) {
            for t in (self.at..self.at + ms).step_by(20) {
                let now = self.now + Duration::from_millis(t as u64);
                let mut put = |track, f| {
                    self.publisher.write_at(track, f, now, SystemTime::UNIX_EPOCH).expect("live");
                };
                if t % 40 == 0 {
                    put(0, frame(t, t % 1000 == 0));
                }
                put(1, frame(t, true));
            }
            self.at += ms;
        }

        fn stream(&self) -> &Arc<Stream> {
            self.publisher.stream()
        }
    }

    /// Copies what the source track has from `from` on, 10 ms later.
    fn follow(source: &Source, companion: &mut Companion, from: i64) {
        let track = source.stream().tracks()[1].clone();
        let mut cursor = crate::ring::Cursor::oldest(&track.ring, Duration::MAX);
        loop {
            match cursor.peek(&track.ring) {
                crate::ring::Peek::Group(g) => companion.group(g.head.stamp.clone()),
                crate::ring::Peek::Item(a) if a.frame.dts >= Timestamp::from_millis(from) => {
                    let later = frame(a.frame.dts.as_millis() + 10, true);
                    companion.write(a.order, later).expect("live");
                }
                crate::ring::Peek::Item(_) => {}
                _ => break,
            }
            cursor.advance();
        }
    }

    fn heads(stream: &Stream, track: usize) -> Vec<(u64, u64)> {
        let ring = &stream.tracks()[track].ring;
        let mut cursor = crate::ring::Cursor::oldest(ring, Duration::MAX);
        let mut all = Vec::new();
        loop {
            match cursor.peek(ring) {
                crate::ring::Peek::Group(g) => all.push(g.head.stamp.place()),
                crate::ring::Peek::Item(_) => {}
                _ => return all,
            }
            cursor.advance();
        }
    }

    fn times(reader: &mut Reader, track: TrackId) -> Vec<i64> {
        let mut all = Vec::new();
        while let Some(event) = reader.try_next() {
            match event {
                Event::Frame { track: t, frame } if t == track => all.push(frame.dts.as_millis()),
                Event::Skipped { .. } => panic!("nobody is behind"),
                _ => {}
            }
        }
        all
    }

    #[tokio::test]
    async fn groups_have_the_stamps_of_the_source_and_readers_get_both_together() {
        let mut source = Source::new();
        let mut reader = source.stream().subscribe(Start::Oldest, Duration::from_secs(60));
        source.film(4000);
        let config = audio(AudioCodec::Aac, 2);
        let mut companion = Companion::new(source.stream().clone(), 1, config).expect("room");
        assert_eq!(companion.track(), 2);
        follow(&source, &mut companion, 0);
        assert_eq!(heads(source.stream(), 2), heads(source.stream(), 1));
        let mut last = None;
        let mut frames = [0; 3];
        while let Some(event) = reader.try_next() {
            if let Event::Frame { track, frame } = event {
                frames[usize::from(track)] += 1;
                if track == 2 {
                    let apart = last.map_or(0, |l: Timestamp| frame.dts - l);
                    assert!((0..=20_000).contains(&apart), "beside the source's: {apart}");
                } else {
                    last = Some(frame.dts);
                }
            }
        }
        assert_eq!(frames, [100, 200, 200]);
    }

    #[tokio::test]
    async fn a_track_that_is_silent_holds_nobody_up_and_goes_on_later() {
        let mut source = Source::new();
        source.film(2500);
        let config = audio(AudioCodec::Aac, 2);
        let mut first = Companion::new(source.stream().clone(), 1, config.clone()).expect("room");
        follow(&source, &mut first, 0);
        drop(first);
        source.film(300);
        let mut reader = source.stream().subscribe(Start::Newest, Duration::from_secs(5));
        assert_eq!(times(&mut reader, 1), (2000..2800).step_by(20).collect::<Vec<_>>());
        // In the same group, then over several.
        let mut second = Companion::new(source.stream().clone(), 1, config.clone()).expect("the same");
        assert_eq!(second.track(), 2);
        follow(&source, &mut second, 2000);
        assert_eq!(heads(source.stream(), 2), heads(source.stream(), 1));
        assert_eq!(times(&mut reader, 2), (2510..2810).step_by(20).collect::<Vec<_>>(), "each once");
        drop(second);
        source.film(3200);
        let mut third = Companion::new(source.stream().clone(), 1, config).expect("the same");
        follow(&source, &mut third, 5000);
        assert_eq!(heads(source.stream(), 2).len(), 4, "what was left out stays out");
        assert_eq!(times(&mut reader, 2), (5010..6010).step_by(20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn another_configuration_begins_with_a_group_and_a_late_start_in_its_midst() {
        let mut source = Source::new();
        source.film(1500);
        let stereo = audio(AudioCodec::Opus, 2);
        let mut first = Companion::new(source.stream().clone(), 1, audio(AudioCodec::Aac, 2)).expect("room");
        follow(&source, &mut first, 0);
        let mono = audio(AudioCodec::Aac, 1);
        let mut second = Companion::new(source.stream().clone(), 1, mono.clone()).expect("the same");
        source.film(1000);
        follow(&source, &mut second, 0);
        let newest = source.stream().tracks()[2].ring.newest(|_| true).expect("a group");
        assert_eq!((*newest.head.config).clone(), TrackConfig::Audio(mono));
        assert_eq!(newest.get(0).map(|a| a.frame.dts.as_millis()), Some(2010));
        let mut live = Companion::new(source.stream().clone(), 1, stereo).expect("room");
        assert_eq!(live.track(), 3);
        live.begin_at(Timestamp::from_millis(2400));
        follow(&source, &mut live, 0);
        let newest = source.stream().tracks()[3].ring.newest(|_| true).expect("a group");
        assert_eq!(newest.get(0).map(|a| a.frame.dts.as_millis()), Some(2410));
    }

    #[tokio::test]
    async fn it_ends_with_the_stream_and_leaves_it_to_another_node() {
        let mut source = Source::new();
        source.film(1000);
        let stream = source.stream().clone();
        let mut reader = stream.subscribe(Start::Oldest, Duration::from_secs(60));
        let config = audio(AudioCodec::Aac, 2);
        let mut companion = Companion::new(stream.clone(), 1, config.clone()).expect("room");
        follow(&source, &mut companion, 0);
        drop(source.publisher);
        // A broken connection is no end.
        assert_eq!(companion.write(0, frame(1500, true)), Ok(()));
        let mirror =
            source.hub.mirror(stream.key().clone(), Origin::default(), *stream.settings()).expect("free");
        assert_eq!(companion.write(0, frame(1600, true)), Err(Ended));
        mirror.finish();
        assert!(Companion::new(stream, 1, config).is_none());
        while let Some(event) = reader.try_next() {
            if matches!(event, Event::End) {
                return;
            }
        }
        panic!("readers see the end");
    }
}
