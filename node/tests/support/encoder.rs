//! A publisher that understands a server's request to reconnect, as encoders with enhanced RTMP v2 do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sluice_rtmp::flv;
use sluice_rtmp::session::{Client, ClientEvent, Purpose, Url};

/// How it follows the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It leaves the old connection when it has a new one.
    ConnectsFirst,
    /// It leaves at once, and connects again two seconds later.
    LeavesFirst,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Told {
    /// It was asked to reconnect.
    pub asked: bool,
    /// It was let in elsewhere; how long that took.
    pub moved: Option<Duration>,
    /// What it was told over the connection that it left.
    pub farewell: Option<String>,
}

/// Publishes until it is dropped or ended.
pub struct Encoder {
    stop: Arc<AtomicBool>,
    away: Arc<AtomicBool>,
    thread: JoinHandle<Told>,
}

struct Tag {
    time: u32,
    video: bool,
    body: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    client: Client,
    input: BytesMut,
}

impl Connection {
    /// Connects, and waits to be let in.
    fn open(url: &str) -> Self {
        let url = Url::parse(url).expect("an address");
        let socket = TcpStream::connect((url.host.as_str(), url.port)).expect("a connection");
        let client = Client::new(url, Purpose::Publish, 1).can_reconnect();
        let mut connection = Connection { socket, client, input: BytesMut::new() };
        while !connection.client.is_started() {
            connection.events(Duration::from_secs(10));
        }
        connection
    }

    /// Sends what there is, and gives what was said within a time.
    fn events(&mut self, within: Duration) -> Vec<ClientEvent> {
        self.socket.write_all(&self.client.output().split()).expect("the server listens");
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).expect("a time");
        let mut block = [0; 4096];
        if let Ok(n) = self.socket.read(&mut block) {
            self.input.extend_from_slice(&block[..n]);
        }
        let mut events = Vec::new();
        while let Some(event) = self.client.input(&mut self.input).expect("it is not refused") {
            events.push(event);
        }
        self.socket.write_all(&self.client.output().split()).expect("the server listens");
        events
    }
}

impl Encoder {
    /// Publishes to the first address; over there it is told to come back, and goes to the second.
    pub fn start(dir: &Path, manner: Manner, first: String, second: String) -> Self {
        let file = dir.join("source.flv");
        let arguments = "-v error -nostdin -y -f lavfi -i testsrc2=size=320x180:rate=30 -f lavfi \
                         -i sine=frequency=440:sample_rate=48000 -t 90 -c:v libx264 -preset ultrafast -tune zerolatency \
                         -pix_fmt yuv420p -g 30 -c:a aac";
        let mut arguments: Vec<_> = arguments.split_whitespace().collect();
        let output = file.display().to_string();
        arguments.push(&output);
        assert!(super::run(Duration::from_secs(60), "ffmpeg", &arguments).status.success());
        let tags = tags(&std::fs::read(&file).expect("a file"));
        let stop = Arc::new(AtomicBool::new(false));
        let away = Arc::new(AtomicBool::new(false));
        let (over, left) = (stop.clone(), away.clone());
        let thread = std::thread::spawn(move || publish(&tags, manner, [&first, &second], &over, &left));
        Encoder { stop, away, thread }
    }

    /// Whether it has left, and is on its way to somewhere else.
    pub fn is_away(&self) -> bool {
        self.away.load(Relaxed)
    }

    pub fn end(self) -> Told {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("it was not refused")
    }
}

fn publish(
    tags: &[Tag],
    manner: Manner,
    [first, second]: [&str; 2],
    stop: &AtomicBool,
    away: &AtomicBool,
) -> Told {
    let mut told = Told::default();
    let mut connection = Connection::open(first);
    let begin = Instant::now();
    for tag in tags {
        let due = Duration::from_millis(tag.time.into());
        while let Some(left) = due.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
            for event in connection.events(left) {
                match event {
                    ClientEvent::ReconnectRequest { .. } => told.asked = true,
                    ClientEvent::Ended { code, .. } => panic!("cut: {code}"),
                    _ => {}
                }
            }
        }
        if stop.load(Relaxed) {
            break;
        }
        if told.asked && told.moved.is_none() && tag.video && flv::begins_anew(&tag.body) {
            if manner == Manner::LeavesFirst {
                connection.client.finish();
                connection.events(Duration::ZERO);
                let _ = connection.socket.shutdown(std::net::Shutdown::Both);
                away.store(true, Relaxed);
                std::thread::sleep(Duration::from_secs(2));
                away.store(false, Relaxed);
            }
            let asked = Instant::now();
            let mut old = std::mem::replace(&mut connection, Connection::open(second));
            told.moved = Some(asked.elapsed());
            // Those in front: the configurations of both tracks.
            for config in tags.iter().filter(|tag| tag.body.get(1) == Some(&0)).take(2) {
                send(&mut connection, config);
            }
            let last_words = match manner {
                Manner::ConnectsFirst => old.events(Duration::from_secs(5)),
                Manner::LeavesFirst => Vec::new(),
            };
            for event in last_words {
                if let ClientEvent::Ended { description, .. } = event {
                    told.farewell = Some(description);
                }
            }
        }
        send(&mut connection, tag);
    }
    connection.client.finish();
    connection.events(Duration::ZERO);
    told
}

fn send(connection: &mut Connection, tag: &Tag) {
    match tag.video {
        true => connection.client.send_video(tag.time, &[&tag.body]),
        false => connection.client.send_audio(tag.time, &[&tag.body]),
    }
}

/// The audio and video of an FLV file.
fn tags(mut file: &[u8]) -> Vec<Tag> {
    let mut tags = Vec::new();
    file = &file[13..];
    while let Some((head, rest)) = file.split_first_chunk::<11>() {
        let [kind, a, b, c, t1, t2, t3, t0, ..] = *head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let time = u32::from_be_bytes([t0, t1, t2, t3]);
        if matches!(kind, 8 | 9) {
            tags.push(Tag { time, video: kind == 9, body: rest[..length].to_vec() });
        }
        file = &rest[length + 4..];
    }
    tags
}
