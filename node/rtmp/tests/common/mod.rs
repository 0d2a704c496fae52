//! A server over a hub with nothing around it, and a client on a socket.

#![allow(dead_code, unreachable_pub)] // each test binary uses a part of it

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use sluice_media::session::{Egress, Ingress, Play, Refusal, Request};
use sluice_media::stats::ViewerGuard;
use sluice_media::{Hub, Origin, PublishError, Publisher, StreamKey, StreamSettings};
use sluice_rtmp::server::{Server, Settings, listen};
use sluice_rtmp::session::{Client, ClientEvent, Purpose, Url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Lets everybody publish to and play from the app `LiveApp`.
pub struct Open(pub Arc<Hub>);

fn check(request: &Request) -> Result<(), Refusal> {
    match &*request.key.app {
        "LiveApp" => Ok(()),
        other => Err(Refusal::UnknownApp(other.to_owned())),
    }
}

#[async_trait]
impl Ingress for Open {
    async fn publish(&self, request: Request) -> Result<Publisher, Refusal> {
        check(&request)?;
        let key = request.key;
        match self.0.publish(key.clone(), Origin::default(), StreamSettings::default()) {
            Err(PublishError::InUse) => self.0.resume(&key).map_err(|_| Refusal::InUse(key)),
            other => other.map_err(|e| Refusal::Unavailable(e.to_string())),
        }
    }
}

#[async_trait]
impl Egress for Open {
    async fn play(&self, request: Request) -> Result<Play, Refusal> {
        check(&request)?;
        let stream = self.0.get(&request.key).ok_or_else(|| Refusal::NotLive(request.key.clone()))?;
        let viewer = ViewerGuard::new(stream.stats().clone(), request.protocol);
        Ok(Play { stream, viewer })
    }
}

pub struct Running {
    pub hub: Arc<Hub>,
    pub server: Server,
    pub address: SocketAddr,
}

impl Running {
    pub fn url(&self, name: &str) -> String {
        format!("rtmp://127.0.0.1:{}/LiveApp/{name}", self.address.port())
    }

    /// Waits until `ready` holds.
    pub async fn until(&self, what: &str, mut ready: impl FnMut() -> bool) {
        for _ in 0..3000 {
            if ready() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} did not come about in 60 s");
    }

    pub fn viewers(&self, id: &str) -> u64 {
        self.hub.get(&StreamKey::new("LiveApp", id)).map_or(0, |s| s.stats().all_viewers())
    }
}

pub fn start(settings: Settings) -> Running {
    let hub = Hub::new(Duration::from_secs(10));
    let open = Arc::new(Open(hub.clone()));
    let server = Server::new(settings, open.clone(), open);
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    Running { hub, server, address }
}

pub fn known_apps() -> Settings {
    Settings { knows_app: Some(Arc::new(|app| app == "LiveApp")), ..Settings::default() }
}

/// A client on a socket.
pub struct Caller {
    pub client: Client,
    pub socket: TcpStream,
    pub input: BytesMut,
}

impl Caller {
    pub async fn connect(url: &str, purpose: Purpose) -> Self {
        let url = Url::parse(url).unwrap();
        let socket = TcpStream::connect((url.host.as_str(), url.port)).await.unwrap();
        Caller { client: Client::new(url, purpose, 1), socket, input: BytesMut::new() }
    }

    pub async fn flush(&mut self) {
        let mut output = self.client.output().split();
        self.socket.write_all_buf(&mut output).await.unwrap();
    }

    /// The next event; an error text when the server refuses or closes.
    pub async fn next(&mut self) -> Result<ClientEvent, String> {
        loop {
            match self.client.input(&mut self.input) {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            self.flush().await;
            let read = timeout(Duration::from_secs(30), self.socket.read_buf(&mut self.input));
            match read.await.expect("the server says something within 30 s") {
                Ok(0) | Err(_) => return Err("closed".to_owned()),
                Ok(_) => {}
            }
        }
    }

    /// Connects and waits until it may send or will receive.
    pub async fn started(url: &str, purpose: Purpose) -> Result<Self, String> {
        let mut caller = Caller::connect(url, purpose).await;
        match caller.next().await? {
            ClientEvent::Started => Ok(caller),
            other => panic!("{other:?} before the start"),
        }
    }

    /// Sends sequence headers, H.264 without parameter sets and AAC at 48 kHz.
    pub async fn send_configs(&mut self) {
        self.client.send_metadata(vec![("width".into(), 640.0.into()), ("encoder".into(), "test".into())]);
        self.client.send_video(0, &[b"\x17\0\0\0\0", &[1, 0x42, 0xc0, 0x1f, 0xff, 0xe0, 0]]);
        self.client.send_audio(0, &[b"\xaf\0", &[0x11, 0x90]]);
        self.flush().await;
    }

    /// Sends a picture of one NAL unit that holds `number`, and a bit of sound.
    pub async fn send_frame(&mut self, number: u32, timestamp: u32, keyframe: bool, size: usize) {
        let first: &[u8] = if keyframe { b"\x17\x01\0\0\0" } else { b"\x27\x01\0\0\0" };
        let mut nal = vec![0; size.max(9)];
        nal[4] = if keyframe { 0x65 } else { 0x41 };
        nal[5..9].copy_from_slice(&number.to_be_bytes());
        let length = (nal.len() - 4) as u32;
        nal[..4].copy_from_slice(&length.to_be_bytes());
        self.client.send_video(timestamp, &[first, &nal]);
        self.client.send_audio(timestamp, &[b"\xaf\x01", &[0x21, 0x10, 4, 0x60, 0x8c, 0x1c]]);
        self.flush().await;
    }

    /// The next picture: its number, its timestamp, whether it is a keyframe.
    pub async fn next_picture(&mut self) -> Result<(u32, u32, bool), String> {
        loop {
            match self.next().await? {
                ClientEvent::Video { timestamp, payload } if payload[1] == 1 => {
                    let number = u32::from_be_bytes(payload[10..14].try_into().unwrap());
                    return Ok((number, timestamp, payload[0] == 0x17));
                }
                ClientEvent::Ended { code, .. } => return Err(code),
                _ => {}
            }
        }
    }
}
