//! The server with other people's clients: FFmpeg and GStreamer, which have to be installed.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use common::{Running, known_apps, start};
use sluice_media::{AudioCodec, StreamKey, TrackConfig, VideoCodec};
use sluice_rtmp::server::listen;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

fn program(name: &str, arguments: &str) -> Command {
    let mut command = Command::new(name);
    command.args(arguments.split_whitespace()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ffmpeg(arguments: &str) -> Command {
    program("ffmpeg", &format!("-hide_banner -loglevel error {arguments}"))
}

const PICTURE_AND_SOUND: &str =
    "-re -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000";
const H264_AAC: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -g 25 -pix_fmt yuv420p -c:a aac";

fn publish(url: &str, seconds: u32) -> Child {
    ffmpeg(&format!("{PICTURE_AND_SOUND} {H264_AAC} -t {seconds} -f flv {url}"))
        .spawn()
        .expect("ffmpeg is installed")
}

async fn tracks(run: &Running, id: &str, count: usize) -> Vec<TrackConfig> {
    let key = StreamKey::new("LiveApp", id);
    run.until("the tracks", || run.hub.get(&key).is_some_and(|s| s.tracks().len() == count)).await;
    run.hub.get(&key).unwrap().configs().iter().map(|c| (**c).clone()).collect()
}

type Codecs = (Option<(VideoCodec, u32, u32)>, Option<(AudioCodec, u32)>);

fn codecs(tracks: &[TrackConfig]) -> Codecs {
    let video = tracks.iter().find_map(|t| match t {
        TrackConfig::Video(v) => Some((v.codec, v.width, v.height)),
        TrackConfig::Audio(_) => None,
    });
    let audio = tracks.iter().find_map(|t| match t {
        TrackConfig::Audio(a) => Some((a.codec, a.sample_rate)),
        TrackConfig::Video(_) => None,
    });
    (video, audio)
}

/// Plays `seconds` and returns how many video and audio packets came.
async fn play(url: &str, seconds: u32) -> (usize, usize) {
    let arguments =
        format!("-v error -read_intervals %+{seconds} -show_entries packet=codec_type -of csv=p=0 {url}");
    let output = timeout(Duration::from_secs(30), program("ffprobe", &arguments).output()).await;
    let output = output.expect("ffprobe ends").expect("ffprobe is installed");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    (text.matches("video").count(), text.matches("audio").count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_publishes_and_ffmpeg_plays() {
    let run = start(known_apps());
    let mut publisher = publish(&run.url("cam"), 14);
    let want = (Some((VideoCodec::H264, 320, 180)), Some((AudioCodec::Aac, 48_000)));
    assert_eq!(codecs(&tracks(&run, "cam", 2).await), want);
    let (video, audio) = play(&run.url("cam"), 3).await;
    assert!(video >= 60 && audio >= 110, "{video} pictures and {audio} sounds in 3 s");
    let show = format!("-v error -show_entries stream=codec_type -of csv=p=0 {}", run.url("cam"));
    let output = timeout(Duration::from_secs(20), program("ffprobe", &show).output()).await.unwrap().unwrap();
    let streams = String::from_utf8_lossy(&output.stdout);
    assert_eq!(streams.split_whitespace().collect::<Vec<_>>(), ["video", "audio"]);
    // Decoded as a whole: no error may be printed.
    let decode = format!("-i {} -t 2 -f null -", run.url("cam"));
    let output = timeout(Duration::from_secs(20), ffmpeg(&decode).output()).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    run.until("the player's leaving", || run.viewers("cam") == 0).await;
    let status = timeout(Duration::from_secs(20), publisher.wait()).await.unwrap().unwrap();
    assert!(status.success());
    // FFmpeg says goodbye, so nothing lingers.
    timeout(Duration::from_secs(3), run.until("the end", || run.hub.is_empty())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_is_told_of_the_end() {
    let run = start(known_apps());
    let mut publisher = publish(&run.url("cam"), 4);
    tracks(&run, "cam", 2).await;
    let player = ffmpeg(&format!("-i {} -c copy -f null -", run.url("cam"))).output();
    let output =
        timeout(Duration::from_secs(30), player).await.expect("ffmpeg ends with the stream").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    publisher.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_audio_alone_video_alone_and_mp3() {
    let run = start(known_apps());
    let sound = "-re -f lavfi -i sine=sample_rate=44100";
    let _a = ffmpeg(&format!("{sound} -c:a aac -t 20 -f flv {}", run.url("audio"))).spawn().unwrap();
    let _m = ffmpeg(&format!("{sound} -c:a libmp3lame -t 20 -f flv {}", run.url("mp3"))).spawn().unwrap();
    let picture = "-re -f lavfi -i testsrc2=size=320x180:rate=25";
    let x264 = "-c:v libx264 -preset ultrafast -bf 2 -g 25 -pix_fmt yuv420p";
    let _v = ffmpeg(&format!("{picture} {x264} -t 20 -f flv {}", run.url("video"))).spawn().unwrap();
    assert_eq!(codecs(&tracks(&run, "audio", 1).await).1, Some((AudioCodec::Aac, 44_100)));
    assert_eq!(codecs(&tracks(&run, "mp3", 1).await).1, Some((AudioCodec::Mp3, 44_100)));
    assert_eq!(codecs(&tracks(&run, "video", 1).await).0, Some((VideoCodec::H264, 320, 180)));
    let (urls, mut counts) = (["audio", "mp3", "video"].map(|id| run.url(id)), Vec::new());
    for url in &urls {
        counts.push(play(url, 2).await);
    }
    assert!(counts[0].1 >= 70 && counts[0].0 == 0, "{counts:?}");
    assert!(counts[1].1 >= 60 && counts[1].0 == 0, "{counts:?}");
    assert!(counts[2].0 >= 40 && counts[2].1 == 0, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_with_a_token_in_the_path_and_an_unknown_app() {
    let run = start(known_apps());
    let mut publisher = publish(&run.url("cam/secret/sub/123456"), 3);
    tracks(&run, "cam", 2).await;
    publisher.wait().await.unwrap();
    let url = format!("rtmp://127.0.0.1:{}/nowhere/cam", run.address.port());
    let refused = publish(&url, 3).wait_with_output().await.unwrap();
    assert!(!refused.status.success());
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(errors.contains("there is no app named nowhere"), "{errors}");
}

/// A certificate for this test alone, made by openssl.
async fn tls_acceptor() -> TlsAcceptor {
    let folder = std::env::temp_dir().join(format!("sluice-rtmps-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let line =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost";
    let mut openssl = program("openssl", line);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert);
    let output = openssl.output().await.expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let certs = CertificateDer::pem_file_iter(&cert).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&key).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_publishes_and_plays_over_tls() {
    let run = start(known_apps());
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("rtmps://127.0.0.1:{}/LiveApp/tls", listener.local_addr().unwrap().port());
    let (server, acceptor) = (run.server.clone(), tls_acceptor().await);
    tokio::spawn(async move { server.serve_tls(listener, acceptor).await });
    let _publisher = publish(&url, 20);
    tracks(&run, "tls", 2).await;
    let (video, audio) = play(&url, 3).await;
    assert!(video >= 60 && audio >= 110, "{video} pictures and {audio} sounds in 3 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gstreamer_publishes() {
    let run = start(known_apps());
    let video = "videotestsrc is-live=true num-buffers=150 ! video/x-raw,width=320,height=180,framerate=25/1 \
                 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! h264parse ! queue ! mux.";
    let audio =
        "audiotestsrc is-live=true num-buffers=260 ! audioconvert ! voaacenc ! aacparse ! queue ! mux.";
    let line =
        format!("-q {video} {audio} flvmux name=mux streamable=true ! rtmp2sink location={}", run.url("gst"));
    let mut publisher = program("gst-launch-1.0", &line).spawn().expect("GStreamer is installed");
    let want = (Some((VideoCodec::H264, 320, 180)), Some((AudioCodec::Aac, 44_100)));
    assert_eq!(codecs(&tracks(&run, "gst", 2).await), want);
    let (video, audio) = play(&run.url("gst"), 2).await;
    assert!(video >= 40 && audio >= 70, "{video} pictures and {audio} sounds in 2 s");
    let _ = timeout(Duration::from_secs(20), publisher.wait()).await;
    timeout(Duration::from_secs(15), run.until("the end", || run.hub.is_empty())).await.unwrap();
}
