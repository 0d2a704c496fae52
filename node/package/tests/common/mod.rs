//! What the tests share: real media made by ffmpeg, a hub to publish it to, and a service over HTTP.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use sluice_media::session::{Egress, Play, Protocol, Refusal, Request};
use sluice_media::stats::ViewerGuard;
use sluice_media::{
    AudioConfig, Frame, Hub, Origin, Publisher, StreamKey, StreamSettings, Timestamp, TrackConfig,
    VideoConfig,
};
use sluice_package::{HlsSettings, Service};

/// A publisher's media: tracks, and frames with the track that each belongs to, in order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Media {
    pub tracks: Vec<TrackConfig>,
    pub frames: Vec<(u8, Frame)>,
}

/// Runs ffmpeg; its last argument is the output format, written to standard output.
pub fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let out = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin"])
        .args(args)
        .arg("pipe:1")
        .stderr(Stdio::inherit())
        .output()
        .expect("ffmpeg runs (Debian package ffmpeg)");
    assert!(out.status.success(), "ffmpeg {args:?}");
    out.stdout
}

/// Reads an FLV file with H.264 and AAC or MP3.
pub fn flv(data: &[u8]) -> Media {
    let mut media = Media::default();
    let mut at = 13;
    let (mut video, mut audio) = (None, None);
    while at + 11 <= data.len() {
        let u24 = |i: usize| u32::from_be_bytes([0, data[i], data[i + 1], data[i + 2]]);
        let (kind, size) = (data[at], u24(at + 1) as usize);
        let time = i64::from(u24(at + 4) | u32::from(data[at + 7]) << 24);
        let body = Bytes::copy_from_slice(&data[at + 11..at + 11 + size]);
        at += 11 + size + 4;
        let dts = Timestamp::from_millis(time);
        match (kind, body.first()) {
            (9, Some(first)) if body[1] == 0 => {
                assert_eq!(first & 15, 7, "H.264");
                let config = TrackConfig::Video(VideoConfig::h264(body.slice(5..)).unwrap());
                video = Some(media.tracks.len() as u8);
                media.tracks.push(config);
            }
            (9, Some(first)) if body[1] == 1 => {
                let cts = (u32::from_be_bytes([0, body[2], body[3], body[4]]) << 8) as i32 >> 8;
                let frame = Frame {
                    dts,
                    pts: Timestamp::from_millis(time + i64::from(cts)),
                    keyframe: first >> 4 == 1,
                    payload: body.slice(5..),
                };
                media.frames.push((video.unwrap(), frame));
            }
            (8, Some(first)) if first >> 4 == 10 && body[1] == 0 => {
                audio = Some(media.tracks.len() as u8);
                media.tracks.push(TrackConfig::Audio(AudioConfig::aac(body.slice(2..)).unwrap()));
            }
            (8, Some(first)) => {
                let skip = if first >> 4 == 10 { 2 } else { 1 };
                if first >> 4 == 2 && audio.is_none() {
                    audio = Some(media.tracks.len() as u8);
                    media.tracks.push(TrackConfig::Audio(AudioConfig::mp3(&body[1..]).unwrap()));
                }
                let frame = Frame { dts, pts: dts, keyframe: true, payload: body.slice(skip..) };
                media.frames.push((audio.unwrap(), frame));
            }
            _ => {}
        }
    }
    media
}

/// A test picture and tone: `video` and `audio` are encoder arguments, empty for none.
pub fn av(seconds: u32, rate: &str, video: &str, audio: &str) -> Media {
    let picture = format!("testsrc2=size=320x180:rate={rate}");
    let seconds = seconds.to_string();
    let mut args = Vec::new();
    if !video.is_empty() {
        args.extend(["-f", "lavfi", "-i", &picture]);
    }
    if !audio.is_empty() {
        args.extend(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
    }
    args.extend(["-t", &seconds]);
    args.extend(video.split_whitespace());
    args.extend(audio.split_whitespace());
    args.extend(["-f", "flv"]);
    flv(&ffmpeg(&args))
}

/// Lets anybody play what the hub has.
#[derive(Debug)]
pub struct Open(pub Arc<Hub>);

#[async_trait::async_trait]
impl Egress for Open {
    async fn play(&self, request: Request) -> Result<Play, Refusal> {
        let stream = self.0.get(&request.key).ok_or(Refusal::NotLive(request.key))?;
        let viewer = ViewerGuard::new(stream.stats().clone(), Protocol::Hls);
        Ok(Play { stream, viewer })
    }
}

/// A hub with a service in front of it.
pub struct Site {
    pub hub: Arc<Hub>,
    pub service: Arc<Service>,
}

pub fn site(settings: HlsSettings) -> Site {
    let hub = Hub::new(Duration::from_secs(10));
    let service =
        Arc::new(Service::new(Arc::new(Open(hub.clone())), Arc::new(move |_: &StreamKey| settings)));
    Site { hub, service }
}

impl Site {
    pub fn publish(&self, id: &str, media: &Media) -> Publisher {
        let origin = Origin { epoch: 1, media_sequence: 100, discontinuity_sequence: 0, ..Origin::default() };
        let key = StreamKey::new("LiveApp", id);
        let mut publisher = self.hub.publish(key, origin, StreamSettings::default()).unwrap();
        publisher.expect_video(media.tracks.iter().any(TrackConfig::is_video));
        for t in &media.tracks {
            publisher.add_track(t.clone()).unwrap();
        }
        publisher
    }

    /// Asks the service, without a network in between.
    pub async fn get(&self, uri: &str) -> http::Response<Bytes> {
        self.ask("GET", uri, &[]).await
    }

    pub async fn ask(&self, method: &str, uri: &str, headers: &[(&str, &str)]) -> http::Response<Bytes> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (k, v) in headers {
            request = request.header(*k, *v);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        self.service.handle(&parts, SocketAddr::from(([127, 0, 0, 1], 9))).await
    }

    /// The media playlist of a rendition, redirect followed.
    pub async fn playlist(&self, path: &str) -> String {
        let mut r = self.get(path).await;
        if r.status() == 302 {
            let folder = path.rsplit_once('/').unwrap().0;
            let to = r.headers()["location"].to_str().unwrap().to_owned();
            r = self.get(&format!("{folder}/{to}")).await;
        }
        assert_eq!(r.status(), 200, "{path}");
        text(&r)
    }

    /// Serves over HTTP until the test ends.
    pub async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = self.service.clone();
        tokio::spawn(async move {
            loop {
                let (socket, peer) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let service = service.clone();
                let answer =
                    hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let service = service.clone();
                        async move {
                            let (parts, _) = request.into_parts();
                            let r = service.handle(&parts, peer).await;
                            Ok::<_, std::convert::Infallible>(r.map(Full::new))
                        }
                    });
                let io = hyper_util::rt::TokioIo::new(socket);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, answer));
            }
        });
        addr
    }
}

pub fn text(r: &http::Response<Bytes>) -> String {
    String::from_utf8(r.body().to_vec()).unwrap()
}

/// Writes frames as if they had come at their time, and all at once.
pub fn write_all(publisher: &mut Publisher, media: &Media, from: Timestamp, to: Timestamp) {
    let (now, wall) = (Instant::now(), SystemTime::now());
    for (track, frame) in media.frames.iter().filter(|(_, f)| (from..to).contains(&f.dts)) {
        let at = frame.dts.since(Timestamp::ZERO);
        publisher.write_at(*track, frame.clone(), now + at, wall + at).unwrap();
    }
    publisher.flush();
}

pub const END: Timestamp = Timestamp(i64::MAX);

/// Writes frames at the pace of their times.
pub async fn write_paced(publisher: &mut Publisher, media: &Media) {
    let begin = tokio::time::Instant::now();
    for (track, frame) in &media.frames {
        tokio::time::sleep_until(begin + frame.dts.since(Timestamp::ZERO)).await;
        publisher.write(*track, frame.clone()).unwrap();
        publisher.flush();
    }
}

/// What ffprobe says about a URL or file, one line a packet: stream, dts, pts, flags.
pub fn ffprobe(args: &[&str], input: &str) -> (String, String) {
    let out =
        Command::new("ffprobe").args(["-hide_banner", "-loglevel", "warning"]).args(args).arg(input).output();
    let out = out.expect("ffprobe runs (Debian package ffmpeg)");
    (String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// One track without reordering, as ffmpeg writes it with every frame a fragment of MP4: the name of the box with
/// the configuration and its body, and the frames. `step` is the time from frame to frame.
pub fn fragments(data: &[u8], record: &[u8; 4], step: Duration, every: usize) -> (Bytes, Vec<Frame>) {
    let at = data.windows(4).position(|w| w == record).unwrap();
    let size = u32::from_be_bytes(data[at - 4..at].try_into().unwrap()) as usize;
    let body = Bytes::copy_from_slice(&data[at + 4..at - 4 + size]);
    let (mut i, mut frames) = (0, Vec::new());
    while i + 8 <= data.len() {
        let size = u32::from_be_bytes(data[i..i + 4].try_into().unwrap()) as usize;
        if &data[i + 4..i + 8] == b"mdat" {
            let t = Timestamp::ZERO + step * frames.len() as u32;
            let keyframe = frames.len() % every == 0;
            let payload = Bytes::copy_from_slice(&data[i + 8..i + size]);
            frames.push(Frame { dts: t, pts: t, keyframe, payload });
        }
        i += size;
    }
    (body, frames)
}

/// One video track in an IVF file.
pub fn ivf(data: &[u8], step: Duration, every: usize) -> Vec<Frame> {
    let (mut i, mut frames) = (32, Vec::new());
    while i + 12 <= data.len() {
        let size = u32::from_le_bytes(data[i..i + 4].try_into().unwrap()) as usize;
        let t = Timestamp::ZERO + step * frames.len() as u32;
        let payload = Bytes::copy_from_slice(&data[i + 12..i + 12 + size]);
        frames.push(Frame { dts: t, pts: t, keyframe: frames.len() % every == 0, payload });
        i += 12 + size;
    }
    frames
}
