//! Viewers and publishers as they are: the real connection, and streams of a hub, over 127.0.0.1.

use bytes::BytesMut;
use sluice_media::{
    AudioCodec, AudioConfig, Frame, Hub, Origin, StreamKey, StreamSettings, Timestamp, TrackConfig,
    VideoCodec, VideoConfig,
};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::tests::place;
use super::*;
use crate::agreed::{Codec, DtlsRole, Extensions, Payload, RemoteTransport, Sending};
use crate::egress::Feeds;
use crate::peer::{Config, Output, Path, Peer};
use crate::transport::Closed;

const SOON: Duration = Duration::from_secs(10);

/// A client with a socket of its own.
struct Client {
    socket: UdpSocket,
    peer: Peer,
    path: Path,
    said: Vec<Output>,
}

impl Client {
    /// Our side of what is agreed on, and the client.
    async fn new(rtc: &Rtc, ours: &IceCredentials) -> (RemoteTransport, Self) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = SocketAddr::from(([127, 0, 0, 1], rtc.listen()[0].port()));
        socket.connect(server).await.unwrap();
        let certificate = Certificate::generate().unwrap();
        let theirs = rtc.credentials();
        let (fingerprint, remote_fingerprint) = (certificate.fingerprint(), rtc.certificate().fingerprint());
        let config = Config {
            ice: theirs.clone(),
            certificate: Arc::new(certificate),
            remote: Some(RemoteTransport {
                ice: ours.clone(),
                fingerprint: remote_fingerprint,
                role: DtlsRole::Client,
            }),
            data: Some(64 << 10),
            opens: Some("chat".into()),
            mtu: 1200,
        };
        let path = Path { local: socket.local_addr().unwrap(), remote: server, tcp: false };
        let mut peer = Peer::new(config, Instant::now());
        peer.dial(&[path], 7, Instant::now());
        let remote = RemoteTransport { ice: theirs, fingerprint, role: DtlsRole::Server };
        (remote, Client { socket, peer, path, said: Vec::new() })
    }

    async fn until(&mut self, what: impl Fn(&[Output]) -> bool) {
        let running = async {
            let mut buffer = [0; 2048];
            loop {
                while let Some(output) = self.peer.poll(Instant::now()) {
                    match output {
                        Output::Send { datagram, .. } => drop(self.socket.send(&datagram).await),
                        other => self.said.push(other),
                    }
                }
                if what(&self.said) {
                    return;
                }
                let wait =
                    self.peer.timeout().map_or(SOON, |at| at.saturating_duration_since(Instant::now()));
                match timeout(wait, self.socket.recv(&mut buffer)).await {
                    Ok(Ok(n)) => self.peer.receive(self.path, BytesMut::from(&buffer[..n]), Instant::now()),
                    _ => self.peer.handle_timeout(Instant::now()),
                }
            }
        };
        timeout(SOON, running).await.expect("it came to be");
    }
}

fn packets(said: &[Output], pt: u8) -> Vec<u16> {
    let read = |output: &Output| match output {
        Output::Rtp(packet) if packet[1] & 0x7f == pt => Some(u16::from_be_bytes([packet[2], packet[3]])),
        _ => None,
    };
    said.iter().filter_map(read).collect()
}

fn section(video: bool) -> Sending {
    let codec = if video { Codec::Video(VideoCodec::Vp8) } else { Codec::Audio(AudioCodec::Opus) };
    Sending {
        mid: if video { "0" } else { "1" }.into(),
        video,
        track: usize::from(!video),
        payload: Payload {
            pt: if video { 96 } else { 111 },
            rtx: None,
            codec,
            clock: if video { 90_000 } else { 48_000 },
            fmtp: String::new(),
        },
        extensions: Extensions::default(),
        ssrc: if video { 0x11 } else { 0x22 },
        rtx_ssrc: None,
    }
}

/// Publishes pictures and sound for as long as it is polled.
async fn publish(mut publisher: Publisher) {
    let video = TrackConfig::Video(VideoConfig {
        codec: VideoCodec::Vp8,
        record: bytes::Bytes::new(),
        width: 640,
        height: 360,
        codec_string: "vp08.00.30.08".into(),
    });
    let audio = TrackConfig::Audio(AudioConfig {
        codec: AudioCodec::Opus,
        record: bytes::Bytes::new(),
        sample_rate: 48_000,
        channels: 2,
        codec_string: "opus".into(),
    });
    let (video, audio) = (publisher.add_track(video).unwrap(), publisher.add_track(audio).unwrap());
    for n in 0_i64.. {
        let time = Timestamp::from_millis(20 * n);
        let frame = |keyframe, size| Frame { dts: time, pts: time, keyframe, payload: vec![0; size].into() };
        publisher.write(audio, frame(true, 80)).unwrap();
        if n % 2 == 0 {
            publisher.write(video, frame(n % 50 == 0, 8_000)).unwrap();
        }
        publisher.flush();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_viewer_gets_a_stream_of_the_hub() {
    let rtc =
        Rtc::start(Settings { listen: vec!["[::]:0".parse().unwrap()], shards: 2, ..Settings::default() });
    let rtc = rtc.unwrap();
    let hub = Hub::new(Duration::ZERO);
    let publisher =
        hub.publish(StreamKey::new("live", "a"), Origin::default(), StreamSettings::default()).unwrap();
    let feeds = Feeds::new(1200, Vec::new());
    let feed = feeds.join(publisher.stream());
    let publishing = tokio::spawn(publish(publisher));

    let ice = rtc.credentials();
    let (remote, mut client) = Client::new(&rtc, &ice).await;
    let agreed = Agreed {
        remote,
        receiving: Vec::new(),
        sending: vec![section(true), section(false)],
        data: Some(65536),
    };
    let carries = Carries::Out(vec![feed]);
    let (session, mut events) = rtc
        .open(Opening { place: Some(place(&rtc)), ice, agreed: Some(agreed), carries, opens: None })
        .unwrap();
    assert_eq!(rtc.sessions(), (0, 1));
    client.until(|said| packets(said, 96).len() > 100 && packets(said, 111).len() > 10).await;
    let sequence = packets(&client.said, 96);
    let gaps = sequence.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count();
    assert_eq!(gaps, 0);
    assert!(rtc.counters().gso_sends > 5, "{:?}", rtc.counters());

    client.until(|said| said.iter().any(|output| matches!(output, Output::Open { .. }))).await;
    let hello = Message { text: true, payload: bytes::Bytes::from_static(b"hello") };
    let channel = client.said.iter().find_map(|output| match output {
        Output::Open { channel, .. } => Some(*channel),
        _ => None,
    });
    assert!(client.peer.send(channel.unwrap(), &hello, Instant::now()));
    let heard = async {
        loop {
            match events.recv().await.unwrap() {
                SessionEvent::Message { label, message, .. } => return (label, message),
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let pumped = client.until(|_| false);
    let (label, message) = tokio::select! {
        heard = heard => heard,
        () = pumped => unreachable!("it goes on for ever"),
    };
    assert_eq!((label.as_str(), message), ("chat", hello.clone()));

    session.send(channel.unwrap(), hello);
    client.until(|said| said.iter().any(|output| matches!(output, Output::Message { .. }))).await;
    session.close();
    client.until(|said| said.iter().any(|output| matches!(output, Output::Closed(_)))).await;
    publishing.abort();
    rtc.shutdown().await;
}

#[tokio::test]
async fn whoever_says_goodbye_is_told_from_whoever_is_lost() {
    let rtc = Rtc::start(Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        shards: 1,
        ..Settings::default()
    })
    .unwrap();
    let ice = rtc.credentials();
    let (remote, mut client) = Client::new(&rtc, &ice).await;
    // The answer comes after the first binding requests.
    let opening =
        Opening { place: Some(place(&rtc)), ice, agreed: None, carries: Carries::Nothing, opens: None };
    let (session, mut events) = rtc.open(opening).unwrap();
    let _ = timeout(Duration::from_millis(50), client.until(|_| false)).await;
    let agreed = Agreed { remote, receiving: Vec::new(), sending: Vec::new(), data: Some(65536) };
    session.agree(agreed, None, None);
    client.until(|said| said.iter().any(|output| matches!(output, Output::Connected))).await;
    client.peer.close(Instant::now());
    client.until(|_| true).await;
    let mut last = None;
    while let Some(event) = timeout(SOON, events.recv()).await.unwrap() {
        last = Some(event);
    }
    assert!(matches!(last, Some(SessionEvent::Closed(Closed::ByPeer))), "{last:?}");
    rtc.shutdown().await;
}
