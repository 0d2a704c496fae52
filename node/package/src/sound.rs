//! Which sound of a stream is packaged. Every HLS player takes AAC; where the publisher sends something else, the owner of the
//! stream is asked to add it. All nodes choose alike, so their segments are the same.

use std::sync::Arc;
use std::time::Duration;

use sluice_media::aside::Need;
use sluice_media::stream::Track;
use sluice_media::{AudioCodec, GroupHead, Stream, Timestamp, TrackConfig, TrackId};
use tokio::time::{Instant, timeout_at};

/// AAC that has not come within this is not made; then the publisher's own sound is packaged.
const PATIENCE: Duration = Duration::from_secs(2);
/// A group whose last frame ends further before the next group breaks off, in microseconds.
const HOLE: i64 = 150_000;

/// Epoch and number of a group.
type Place = (u64, u64);

/// Epoch and discontinuity number of a group: within a stretch the sound is one track, for a playlist cannot change between
/// codecs without a break.
type Stretch = (u64, u64);

/// What was chosen. AAC goes on to be made for as long as it lives and is needed.
#[derive(Debug)]
pub(crate) struct Sound {
    stream: Arc<Stream>,
    /// The track that is packaged from the start, if there is one.
    first: Option<TrackId>,
    /// What is before it has no AAC, and is left out on all tracks.
    from: Option<Place>,
    need: Option<Need>,
    /// Up to this stretch AAC does not come.
    without: Option<Stretch>,
    now: Option<Now>,
}

/// The stretch that is being packaged.
#[derive(Clone, Copy, Debug)]
struct Now {
    stretch: Stretch,
    /// Where its sound began, which is in another codec.
    since: Option<Timestamp>,
    /// Its sound; none as long as AAC may still come.
    track: Option<TrackId>,
}

impl Sound {
    fn new(stream: &Arc<Stream>, first: Option<TrackId>) -> Self {
        Sound { stream: stream.clone(), first, from: None, need: None, without: None, now: None }
    }

    /// Chooses; waits two seconds at most.
    pub(crate) async fn choose(stream: &Arc<Stream>) -> Sound {
        let Some(source) = stream.tracks().into_iter().find(|t| codec(t).is_some()) else {
            return Sound::new(stream, None);
        };
        if codec(&source) == Some(AudioCodec::Aac) {
            return Sound { from: since_aac(&source), ..Sound::new(stream, Some(source.id)) };
        }
        let asked = place(&source);
        let need = Need::new(stream.clone(), AudioCodec::Aac);
        let until = Instant::now() + PATIENCE;
        loop {
            let changed = stream.changed().notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // A track that was written for somebody before may still be silent.
            let aac = stream.tracks().into_iter().find(|t| codec(t) == Some(AudioCodec::Aac));
            if let Some(aac) = aac.filter(|aac| place(aac).is_some_and(|p| Some(p) >= asked)) {
                let from = first_without_hole(&source, &aac);
                return Sound { from, need: Some(need), ..Sound::new(stream, Some(aac.id)) };
            }
            if stream.is_ended() || timeout_at(until, changed).await.is_err() {
                warn(stream, codec(&source));
                let without = source.ring.newest(|_| true).map(|group| stretch(&group.head));
                return Sound { without, ..Sound::new(stream, Some(source.id)) };
            }
        }
    }

    /// The track that is packaged from the start; none when there was no sound yet.
    pub(crate) fn first(&self) -> Option<TrackId> {
        self.first
    }

    /// Whether a group is packaged: of sound when it is AAC. Where the publisher's own is something else, it is only when AAC has not
    /// come in time.
    pub(crate) fn takes(&mut self, track: TrackId, head: &GroupHead) -> bool {
        if self.from.is_some_and(|from| head.stamp.place() < from) {
            return false;
        }
        let TrackConfig::Audio(audio) = &*head.config else { return true };
        let stretch = stretch(head);
        if self.now.is_none_or(|now| now.stretch < stretch) {
            self.now = Some(Now { stretch, since: None, track: None });
        }
        let Some(now) = self.now.as_mut().filter(|now| now.stretch == stretch) else { return false };
        if now.track.is_none() {
            if audio.codec == AudioCodec::Aac {
                now.track = Some(track);
                if head.leads {
                    self.need = None;
                }
            } else {
                let since = *now.since.get_or_insert(head.stamp.start);
                if self.without.is_some_and(|without| stretch <= without) {
                    now.track = Some(track);
                } else if head.stamp.start.since(since) > PATIENCE {
                    now.track = Some(track);
                    warn(&self.stream, Some(audio.codec));
                } else if self.need.is_none() {
                    self.need = Some(Need::new(self.stream.clone(), AudioCodec::Aac));
                }
            }
        }
        now.track == Some(track)
    }

    /// Whether a track is the sound that is being packaged.
    pub(crate) fn is(&self, track: TrackId) -> bool {
        self.now.is_some_and(|now| now.track == Some(track))
    }
}

fn warn(stream: &Stream, codec: Option<AudioCodec>) {
    let codec = codec.map_or("", AudioCodec::name);
    tracing::warn!(stream = %stream.key(), codec, "AAC does not come: HLS has the publisher's own sound");
}

fn stretch(head: &GroupHead) -> Stretch {
    (head.stamp.epoch, head.stamp.discontinuity_sequence)
}

/// Where the newest run of AAC begins in a track that had something else before; none when it had not.
fn since_aac(track: &Track) -> Option<Place> {
    let is_aac =
        |head: &GroupHead| matches!(&*head.config, TrackConfig::Audio(a) if a.codec == AudioCodec::Aac);
    let other = track.ring.newest(|head| !is_aac(head))?.head.stamp.place();
    Some(track.ring.oldest(|head| head.stamp.place() > other)?.head.stamp.place())
}

fn codec(track: &Arc<Track>) -> Option<AudioCodec> {
    match &*track.config() {
        TrackConfig::Audio(a) => Some(a.codec),
        TrackConfig::Video(_) => None,
    }
}

/// The place of a track's newest group that has frames.
fn place(track: &Track) -> Option<Place> {
    track.ring.newest(|_| true).filter(|g| !g.is_empty()).map(|g| g.head.stamp.place())
}

/// The first group of the newest stretch in which a track has all groups of its source.
fn first_without_hole(source: &Track, made: &Track) -> Option<Place> {
    let mut first = made.ring.newest(|_| true)?;
    loop {
        let here = first.head.stamp.place();
        let wanted = source.ring.newest(|h| h.stamp.place() < here).map(|g| g.head.stamp.place());
        let before = made.ring.newest(|h| h.stamp.place() < here);
        let Some(before) = before.filter(|g| Some(g.head.stamp.place()) == wanted) else { break };
        let last = before.len().checked_sub(1).and_then(|i| before.get(i)).map(|a| a.frame.dts);
        if last.is_none_or(|t| first.head.stamp.start - t > HOLE) {
            break;
        }
        first = before;
    }
    Some(first.head.stamp.place())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use sluice_media::ring::{Cursor, Peek};
    use sluice_media::{AudioConfig, Companion, Frame, Hub, Origin, Publisher, StreamKey, StreamSettings};

    use super::*;
    use crate::packager::Packager;
    use crate::settings::HlsSettings;

    fn audio(codec: AudioCodec) -> AudioConfig {
        match codec {
            AudioCodec::Aac => AudioConfig::aac(Bytes::from_static(&[0x11, 0x90])),
            _ => AudioConfig::opus(Bytes::from_static(&[0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0])),
        }
        .expect("a record")
    }

    /// Sound alone, 20 ms a frame.
    fn publish(codec: AudioCodec) -> Publisher {
        let hub = Hub::new(Duration::from_secs(10));
        let key = StreamKey::new("live", "a");
        let mut publisher = hub.publish(key, Origin::default(), StreamSettings::default()).expect("new");
        publisher.expect_video(false);
        publisher.add_track(TrackConfig::Audio(audio(codec))).expect("room");
        publisher
    }

    fn send(publisher: &mut Publisher, from: i64, to: i64) {
        for ms in (from..to).step_by(20) {
            let t = Timestamp::from_millis(ms);
            let frame = Frame { dts: t, pts: t, keyframe: true, payload: Bytes::from_static(&[0xfc, 1, 2]) };
            let at = Duration::from_millis(ms as u64);
            let (now, wall) = (std::time::Instant::now() + at, SystemTime::UNIX_EPOCH + at);
            publisher.write_at(0, frame, now, wall).expect("live");
        }
        publisher.flush();
    }

    /// Makes AAC, of a kind, of what there is between these times.
    fn add_aac(stream: &Arc<Stream>, from: i64, to: i64) {
        let mut companion = Companion::new(stream.clone(), 0, audio(AudioCodec::Aac)).expect("room");
        let ring = &stream.tracks()[0].ring;
        let mut cursor = Cursor::oldest(ring, Duration::MAX);
        loop {
            match cursor.peek(ring) {
                Peek::Group(g) if g.head.stamp.start >= Timestamp::from_millis(from) => {
                    companion.group(g.head.stamp.clone());
                }
                Peek::Group(_) => {}
                Peek::Item(a) => {
                    if (from..to).contains(&a.frame.dts.as_millis()) {
                        companion.write(a.order, a.frame.clone()).expect("live");
                    }
                }
                _ => break,
            }
            cursor.advance();
        }
        companion.flush();
    }

    #[tokio::test(start_paused = true)]
    async fn aac_is_taken_as_it_is_and_made_of_anything_else() {
        let mut aac = publish(AudioCodec::Aac);
        send(&mut aac, 0, 5000);
        // Somebody else needs Opus: it is not packaged.
        let stream = aac.stream().clone();
        let sound = Sound::choose(&stream).await;
        assert_eq!((sound.first, sound.from), (Some(0), None));
        assert!(!stream.aside().needs(AudioCodec::Aac));

        let mut opus = publish(AudioCodec::Opus);
        send(&mut opus, 0, 5000);
        let stream = opus.stream().clone();
        let choosing = tokio::spawn({
            let stream = stream.clone();
            async move { Sound::choose(&stream).await }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(stream.aside().needs(AudioCodec::Aac));
        // Groups begin at 0, 1.9 and 3.8 s.
        add_aac(&stream, 3700, 5000);
        let sound = choosing.await.expect("chooses");
        let newest = stream.newest_stamp().expect("a group").place();
        assert_eq!((sound.first, sound.from), (Some(1), Some(newest)));
        drop(sound);
        assert!(!stream.aside().needs(AudioCodec::Aac));
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_encoder_the_own_sound_is_packaged() {
        let mut opus = publish(AudioCodec::Opus);
        send(&mut opus, 0, 3000);
        let before = Instant::now();
        let sound = Sound::choose(opus.stream()).await;
        assert_eq!((sound.first, sound.from, before.elapsed()), (Some(0), None, PATIENCE));
        assert!(!opus.stream().aside().needs(AudioCodec::Aac));
    }

    #[tokio::test]
    async fn what_was_made_before_a_hole_is_left_out() {
        let mut opus = publish(AudioCodec::Opus);
        send(&mut opus, 0, 12_000);
        let stream = opus.stream().clone();
        let place = |ms: i64| {
            let ring = &stream.tracks()[0].ring;
            ring.newest(|h| h.stamp.start <= Timestamp::from_millis(ms)).expect("a group").head.stamp.place()
        };
        // It breaks off in the midst of a group, and goes on with the next one.
        add_aac(&stream, 0, 4500);
        add_aac(&stream, 5700, 12_000);
        let tracks = stream.tracks();
        assert_eq!(first_without_hole(&tracks[0], &tracks[1]), Some(place(5700)));
        let whole = publish(AudioCodec::Opus);
        let mut whole = whole;
        send(&mut whole, 0, 12_000);
        add_aac(whole.stream(), 0, 12_000);
        let tracks = whole.stream().tracks();
        assert_eq!(first_without_hole(&tracks[0], &tracks[1]), Some((0, 0)));
    }

    #[tokio::test]
    async fn one_rendition_of_sound_is_packaged_and_it_is_aac() {
        let mut opus = publish(AudioCodec::Opus);
        send(&mut opus, 0, 12_000);
        let stream = opus.stream().clone();
        add_aac(&stream, 3700, 12_000);
        let packager = Arc::new(Packager::new(stream.clone(), HlsSettings::default()));
        let running = tokio::spawn(packager.clone().run(|_| ()));
        packager.ready(Duration::from_secs(5)).await;
        let text = packager.multivariant("", "");
        assert!(text.contains("mp4a.40.2") && !text.contains("opus"), "{text}");
        let renditions = packager.renditions();
        assert_eq!(renditions.len(), 1);
        let first = renditions[0].window(|w| w.listed().next().map(|s| s.media_sequence));
        assert_eq!(first, Some(2), "the window begins with the first segment that has AAC");
        running.abort();
    }

    /// Number, discontinuity number and sampling rate of each segment of the one rendition of sound.
    fn packaged(packager: &Packager) -> Vec<(u64, u64, u32)> {
        let renditions = packager.renditions();
        assert_eq!(renditions.len(), 1);
        renditions[0].window(|window| {
            let all = window.listed().map(|s| {
                let init = s.init.as_ref().expect("an init segment");
                let TrackConfig::Audio(audio) = &*init.config else { panic!("sound") };
                assert_eq!(audio.codec, AudioCodec::Aac);
                (s.media_sequence, s.discontinuity_sequence, audio.sample_rate)
            });
            all.collect()
        })
    }

    async fn settled() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    #[tokio::test]
    async fn a_publisher_that_comes_back_with_another_codec_is_heard() {
        let hub = Hub::new(Duration::from_secs(10));
        let key = StreamKey::new("live", "a");
        let mut opus = hub.publish(key.clone(), Origin::default(), StreamSettings::default()).expect("new");
        opus.expect_video(false);
        opus.add_track(TrackConfig::Audio(audio(AudioCodec::Opus))).expect("room");
        send(&mut opus, 0, 12_000);
        let stream = opus.stream().clone();
        add_aac(&stream, 0, 12_000);
        let packager = Arc::new(Packager::new(stream.clone(), HlsSettings::default()));
        let running = tokio::spawn(packager.clone().run(|_| ()));
        packager.ready(Duration::from_secs(5)).await;
        assert!(stream.aside().needs(AudioCodec::Aac));

        // With AAC: no more is to be made of it.
        drop(opus);
        let mut aac = hub.resume(&key).expect("it waits");
        aac.expect_video(false);
        let cd = AudioConfig::aac(Bytes::from_static(&[0x12, 0x10])).expect("a record");
        aac.add_track(TrackConfig::Audio(cd)).expect("room");
        send(&mut aac, 0, 12_000);
        settled().await;
        assert!(!stream.aside().needs(AudioCodec::Aac));
        let segments = packaged(&packager);
        assert!(segments.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{segments:?}");
        let kinds = |segments: &[(u64, u64, u32)]| {
            let mut kinds: Vec<(u64, u32)> = segments.iter().map(|(_, d, rate)| (*d, *rate)).collect();
            kinds.dedup();
            kinds
        };
        assert_eq!(kinds(&segments), [(0, 48_000), (1, 44_100)]);

        // With Opus again: AAC is asked for, and packaged as soon as it is made.
        drop(aac);
        let mut opus = hub.resume(&key).expect("it waits");
        opus.expect_video(false);
        opus.add_track(TrackConfig::Audio(audio(AudioCodec::Opus))).expect("room");
        send(&mut opus, 0, 1000);
        settled().await;
        assert!(stream.aside().needs(AudioCodec::Aac));
        add_aac(&stream, 0, i64::MAX);
        send(&mut opus, 1000, 12_000);
        add_aac(&stream, 0, i64::MAX);
        settled().await;
        assert_eq!(kinds(&packaged(&packager)), [(0, 48_000), (1, 44_100), (2, 48_000)]);
        running.abort();
    }
}
