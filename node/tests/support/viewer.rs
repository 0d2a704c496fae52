//! A viewer of HLS who waits for what comes next and keeps a connection as long as the server does, and a balancer in
//! front of nodes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Passes each new connection on to the port that is set now; those that are open stay where they are.
pub struct Balancer {
    pub port: u16,
    to: Arc<AtomicU16>,
}

impl Balancer {
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let to = Arc::new(AtomicU16::new(to));
        let target = to.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target.load(Relaxed))) else { continue };
                for (from, into) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut into) =
                        (from.try_clone().expect("a socket"), into.try_clone().expect("a socket"));
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut into);
                        let _ = into.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Balancer { port, to }
    }

    pub fn prefer(&self, port: u16) {
        self.to.store(port, Relaxed);
    }
}

/// A viewer of one stream; any answer that a player would stumble over is a panic.
pub struct Viewer {
    port: u16,
    connection: Option<TcpStream>,
    /// Connections made so far.
    pub connections: usize,
    playlist: String,
    /// Segments seen so far, by their numbers.
    pub segments: BTreeMap<u64, String>,
    pub discontinuities: usize,
}

impl Viewer {
    /// Begins to watch at a port, once the stream plays.
    pub fn start(port: u16, stream: &str) -> Self {
        let mut viewer = Viewer {
            port,
            connection: None,
            connections: 0,
            playlist: String::new(),
            segments: BTreeMap::new(),
            discontinuities: 0,
        };
        let end = Instant::now() + Duration::from_secs(15);
        let master = loop {
            match viewer.get(&format!("/LiveApp/streams/{stream}.m3u8")) {
                (200, body) => break String::from_utf8(body).expect("text"),
                (status, _) => assert!(Instant::now() < end, "it does not play: {status}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let uri = master.lines().find(|l| !l.starts_with('#') && !l.is_empty()).expect("a rendition");
        viewer.playlist = format!("/LiveApp/streams/{uri}");
        viewer
    }

    /// Watches until so many segments more were seen; each is fetched when it is listed first.
    pub fn watch(&mut self, more: usize) {
        let wanted = self.segments.len() + more;
        let end = Instant::now() + Duration::from_secs(60);
        while self.segments.len() < wanted {
            assert!(Instant::now() < end, "{} of {wanted} segments in a minute", self.segments.len());
            self.look();
        }
    }

    fn look(&mut self) {
        let path = self.playlist.clone();
        let next = self.segments.last_key_value().map(|(last, _)| format!("&_HLS_msn={}", last + 1));
        let (status, body) = self.get(&format!("{path}{}", next.unwrap_or_default()));
        let text = String::from_utf8(body).expect("text");
        assert_eq!(status, 200, "{text}");
        assert!(!text.contains("#EXT-X-ENDLIST") && !text.contains("#EXT-X-GAP"), "{text}");
        let number = |name: &str| super::tag(&text, name).expect("a number") as u64;
        let mut sequence = number("#EXT-X-MEDIA-SEQUENCE");
        self.discontinuities = self.discontinuities.max(text.matches("#EXT-X-DISCONTINUITY\n").count());
        if let Some((last, _)) = self.segments.last_key_value() {
            assert!(sequence <= last + 1, "segments were missed between {last} and {sequence}");
        }
        let folder = path.rsplit_once('/').expect("a path").0.to_owned();
        for uri in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
            match self.segments.get(&sequence) {
                Some(known) => assert_eq!(known, uri, "the same number is the same segment everywhere"),
                None => {
                    let (status, bytes) = self.get(&format!("{folder}/{uri}"));
                    assert!(status == 200 && bytes.len() > 1000, "{uri}: {status}");
                    self.segments.insert(sequence, uri.to_owned());
                }
            }
            sequence += 1;
        }
        let last = self.segments.last_key_value().map_or(0, |(last, _)| *last);
        assert!(sequence > last, "the list went back from {last} to {sequence}: {text}");
    }

    /// As HTTP clients do it: a connection that was closed since the last answer is no error.
    fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        for _ in 0..3 {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => {
                    self.connections += 1;
                    TcpStream::connect(("127.0.0.1", self.port)).expect("a connection")
                }
            };
            if let Some((status, body, stays)) = exchange(&mut connection, path) {
                self.connection = stays.then_some(connection);
                return (status, body);
            }
        }
        panic!("no answer over three connections");
    }
}

fn exchange(connection: &mut TcpStream, path: &str) -> Option<(u16, Vec<u8>, bool)> {
    connection.set_read_timeout(Some(Duration::from_secs(15))).ok()?;
    connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).ok()?.to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().ok()?];
    connection.read_exact(&mut body).ok()?;
    Some((status, body, !head.contains("connection: close")))
}
