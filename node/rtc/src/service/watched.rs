//! A stream that a session plays, and all that has to live as long as it does.

use std::sync::Arc;

use sluice_media::session::Play;
use sluice_media::stats::ViewerGuard;
use sluice_media::{AudioCodec, Stream};

use crate::agreed::{Agreed, Codec};
use crate::egress::{Feed, FeedTrack, Feeds};
use crate::sdp::Outgoing;

/// A stream that a session plays.
pub(super) struct Watched {
    /// What its tracks are called.
    pub(super) name: String,
    pub(super) stream: Arc<Stream>,
    pub(super) feed: Arc<Feed>,
    tracks: Vec<FeedTrack>,
    /// Counts the viewer; none where the stream is sent on and not watched.
    _viewer: Option<ViewerGuard>,
}

impl Watched {
    /// Joins the feed of a stream and waits for its tracks. The feed asks for Opus where the sound is something else, and
    /// waits a moment for it; there is none if it does not come.
    pub(super) async fn new(play: Play, name: String, feeds: &Feeds) -> Self {
        let Play { stream, viewer } = play;
        Watched { _viewer: Some(viewer), ..Self::uncounted(stream, name, feeds).await }
    }

    /// The same of a stream that is sent on: nobody is counted as its viewer.
    pub(super) async fn uncounted(stream: Arc<Stream>, name: String, feeds: &Feeds) -> Self {
        let feed = feeds.join(&stream);
        let tracks = feed.tracks().await;
        Watched { name, stream, feed, tracks, _viewer: None }
    }

    /// Whether there is nothing that could be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.outgoing(true).is_none() && self.outgoing(false).is_none()
    }

    fn outgoing(&self, video: bool) -> Option<Outgoing> {
        let track = self.tracks.iter().find(|track| match track.codec {
            Codec::Video(_) => video,
            Codec::Audio(codec) => !video && codec == AudioCodec::Opus,
        })?;
        Some(Outgoing { name: self.name.clone(), codec: track.codec, profile: track.profile.clone() })
    }
}

/// The tracks to send: of each feed the best video and the sound, with their numbers (see
/// [`Sending::track`](crate::agreed::Sending::track)).
pub(super) fn outgoing(watched: &[Arc<Watched>]) -> (Vec<Outgoing>, Vec<usize>) {
    let all = watched.iter().enumerate();
    let tracks = all.flat_map(|(feed, w)| {
        let video = w.outgoing(true).map(|track| (track, 2 * feed));
        let sound = w.outgoing(false).map(|track| (track, 2 * feed + 1));
        [video, sound].into_iter().flatten()
    });
    tracks.unzip()
}

/// The same with numbers of tracks in place of indices.
pub(super) fn numbered(mut agreed: Agreed, numbers: &[usize]) -> Agreed {
    agreed.sending.retain_mut(|section| match numbers.get(section.track) {
        Some(number) => {
            section.track = *number;
            true
        }
        None => false,
    });
    agreed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use sluice_media::session::{Protocol, Refusal, Request};
    use sluice_media::{
        AudioConfig, Frame, Hub, Origin, Publisher, StreamKey, StreamSettings, Timestamp, TrackConfig,
        VideoCodec,
    };

    use super::*;
    use crate::agreed::{Extensions, Payload, Sending};

    fn publisher(hub: &Arc<Hub>, audio: AudioCodec) -> Publisher {
        let key = StreamKey::new("live", audio.name());
        let mut publisher = hub.publish(key, Origin::default(), StreamSettings::default()).unwrap();
        publisher.add_track(TrackConfig::Audio(AudioConfig {
            codec: audio,
            record: Bytes::from_static(&[0x12, 0x10]),
            sample_rate: 44_100,
            channels: 2,
            codec_string: String::new(),
        }));
        publisher
    }

    fn play(publisher: &Publisher) -> Play {
        let stream = publisher.stream().clone();
        let viewer = ViewerGuard::new(stream.stats().clone(), Protocol::WebRtc);
        Play { stream, viewer }
    }

    fn track(codec: Codec) -> FeedTrack {
        FeedTrack { id: 0, codec, profile: None, width: 0, height: 0, bitrate: 0 }
    }

    #[tokio::test]
    async fn other_sound_is_asked_for_as_opus_while_somebody_watches() {
        let hub = Hub::new(Duration::ZERO);
        let aac = publisher(&hub, AudioCodec::Aac);
        let feeds: Feeds = Default::default();
        let watched = Watched::new(play(&aac), "a".into(), &feeds).await;
        assert!(aac.stream().aside().needs(AudioCodec::Opus));
        drop(watched);
        assert!(!aac.stream().aside().needs(AudioCodec::Opus));
    }

    /// Streams that never come, and those that are there.
    struct Slow(Arc<Hub>);

    #[async_trait::async_trait]
    impl sluice_media::session::Egress for Slow {
        async fn play(&self, request: Request) -> Result<Play, Refusal> {
            match self.0.get(&request.key) {
                Some(stream) => {
                    let viewer = ViewerGuard::new(stream.stats().clone(), Protocol::WebRtc);
                    Ok(Play { stream, viewer })
                }
                None => std::future::pending().await,
            }
        }
    }

    #[async_trait::async_trait]
    impl sluice_media::session::Ingress for Slow {
        async fn publish(&self, request: Request) -> Result<Publisher, Refusal> {
            Err(Refusal::NotLive(request.key))
        }
    }

    #[tokio::test]
    async fn a_slow_stream_holds_the_others_up_for_a_moment_only() {
        let hub = Hub::new(Duration::ZERO);
        let mut opus = publisher(&hub, AudioCodec::Opus);
        opus.expect_video(false);
        for n in 0..5 {
            let time = Timestamp::from_millis(20 * n);
            let payload = Bytes::from_static(&[0xfc, 0xff, 0xfe]);
            opus.write(0, Frame { dts: time, pts: time, keyframe: true, payload }).unwrap();
        }
        opus.flush();
        let listen = vec![([127, 0, 0, 1], 0).into()];
        let rtc = crate::Rtc::start(crate::Settings { listen, shards: 1, ..Default::default() }).unwrap();
        let node = Arc::new(Slow(hub.clone()));
        // With feeds in this runtime, whose time stands still.
        let feeds = Feeds::default();
        let service =
            crate::service::Service { rtc, ingress: node.clone(), egress: node, feeds, http: Arc::default() };
        tokio::time::pause();
        let request = |id: &str| Request {
            key: StreamKey::new("live", id),
            query: Vec::new(),
            peer: ([127, 0, 0, 1], 1).into(),
            user_agent: String::new(),
            protocol: Protocol::WebRtc,
        };
        let name = AudioCodec::Opus.name();
        let requests = vec![(request("slow"), "slow".into()), (request(name), name.into())];
        let all = tokio::time::timeout(Duration::from_secs(4), service.watch_all(requests, &[])).await;
        let names: Vec<String> = all.unwrap().unwrap().iter().map(|w| w.name.clone()).collect();
        assert_eq!(names, [name]);
    }

    #[tokio::test]
    async fn tracks_are_numbered_by_feed_and_kind() {
        let hub = Hub::new(Duration::ZERO);
        let (a, b) = (publisher(&hub, AudioCodec::Aac), publisher(&hub, AudioCodec::Opus));
        let feeds: Feeds = Default::default();
        let with = |publisher: &Publisher, name: &str, tracks: Vec<FeedTrack>| {
            let Play { stream, viewer } = play(publisher);
            let feed = feeds.join(&stream);
            Arc::new(Watched { name: name.into(), stream, feed, tracks, _viewer: Some(viewer) })
        };
        let vp8 = Codec::Video(VideoCodec::Vp8);
        let sound = Codec::Audio(AudioCodec::Opus);
        assert!(with(&a, "a", vec![track(Codec::Audio(AudioCodec::Aac))]).is_empty());
        let watched = [
            with(&a, "a", vec![track(vp8), track(vp8), track(Codec::Audio(AudioCodec::Aac))]),
            with(&b, "b", vec![track(vp8), track(sound)]),
        ];
        let (tracks, numbers) = outgoing(&watched);
        let names: Vec<_> = tracks.iter().map(|t| (t.name.as_str(), t.codec)).collect();
        assert_eq!(names, [("a", vp8), ("b", vp8), ("b", sound)]);
        assert_eq!(numbers, [0, 2, 3]);
        let sending = |track| Sending {
            mid: String::new(),
            video: true,
            track,
            payload: Payload { pt: 96, rtx: None, codec: vp8, clock: 90_000, fmtp: String::new() },
            extensions: Extensions::default(),
            ssrc: 1,
            rtx_ssrc: None,
        };
        let offered = crate::sdp::tests::agreed(vec![sending(2), sending(9), sending(0)]);
        let tracks: Vec<_> = numbered(offered, &numbers).sending.iter().map(|s| s.track).collect();
        assert_eq!(tracks, [3, 0]);
        assert_eq!(b.stream().stats().viewers(Protocol::WebRtc), 1);
        drop(watched);
        assert_eq!(b.stream().stats().viewers(Protocol::WebRtc), 0);
    }
}
