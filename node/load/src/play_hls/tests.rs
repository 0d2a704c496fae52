use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;
use crate::stamp::Stamp;

const HEAD: &str = "#EXTM3U\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-PART-INF:PART-TARGET=0.2\n\
    #EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI=\"i.mp4\"\n";

/// A playlist with so many parts of the segment under way.
fn text(parts: usize) -> String {
    let part = |i| format!("#EXT-X-PART:DURATION=0.2,URI=\"7.{i}\"\n");
    let parts_text: String = (0..parts).map(part).collect();
    format!("{HEAD}{parts_text}#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"7.{parts}\"\n")
}

fn advance(position: &mut Position, parts: usize) -> (bool, Vec<String>) {
    let url = HttpUrl::parse("http://h/").unwrap();
    let text = text(parts);
    let wanted = position.advance(&Playlist::parse(&text).unwrap(), &url, "/a/p.m3u8").unwrap();
    (wanted.init.is_some(), wanted.files)
}

#[test]
fn parts_are_taken_when_they_are_listed() {
    let mut position = Position { hints: false, next: None, map: None };
    assert_eq!(advance(&mut position, 3), (true, vec![]));
    assert_eq!(advance(&mut position, 3), (false, vec![]));
    assert_eq!(advance(&mut position, 5), (false, vec!["/a/7.3".into(), "/a/7.4".into()]));
}

#[test]
fn or_when_they_are_hinted() {
    let mut position = Position { hints: true, next: None, map: None };
    assert_eq!(advance(&mut position, 3), (true, vec!["/a/7.3".into()]));
    // The playlist is not there yet when the part is.
    assert_eq!(advance(&mut position, 3), (false, vec![]));
    assert_eq!(advance(&mut position, 4), (false, vec!["/a/7.4".into()]));
    assert_eq!(advance(&mut position, 7), (false, ["5", "6", "7"].map(|n| format!("/a/7.{n}")).into()));
}

#[test]
fn addresses_of_reloads() {
    let path = blocking("/v.m3u8?s=1", Place { sequence: 7, part: 2 }, true);
    assert_eq!(path, "/v.m3u8?s=1&_HLS_msn=7&_HLS_part=2&_HLS_skip=YES");
    assert_eq!(without_directives(&path), "/v.m3u8?s=1");
    assert_eq!(without_directives("/v.m3u8?_HLS_msn=7"), "/v.m3u8");
}

/// Parts that a scripted server has, which grow by one each 20 ms.
#[derive(Clone, Copy)]
struct Live(std::time::Instant);

impl Live {
    const PART: Duration = Duration::from_millis(20);

    /// Waits until there are more than `part` parts: how many there are then.
    fn wait_for(self, part: usize) -> usize {
        loop {
            let parts = 3 + (self.0.elapsed().as_millis() / Self::PART.as_millis()) as usize;
            if parts > part {
                return parts;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn answer(self, path: &str) -> Option<Vec<u8>> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Some(match path {
            "/m.m3u8" => b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8?s=1\n".to_vec(),
            "/v.m3u8" => {
                assert!(query.starts_with("s=1"), "{query}");
                let part = query.split_once("_HLS_part=").and_then(|(_, part)| part.parse().ok());
                text(self.wait_for(part.unwrap_or(0))).into_bytes()
            }
            "/i.mp4" => b"init".to_vec(),
            "/7.5" => return None,
            part => {
                let number: usize = part.strip_prefix("/7.")?.parse().ok()?;
                self.wait_for(number);
                let (stamp, length) = Stamp { nanos: now(), number: number as u32 }.write(4);
                [b"moof", &stamp[..length]].concat()
            }
        })
    }

    fn serve(self, socket: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(socket.try_clone()?);
        let mut writer = socket;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            while reader.read_line(&mut line)? > 2 {}
            let (status, body) =
                self.answer(&path).map_or(("404 Not Found", vec![]), |body| ("200 OK", body));
            write!(writer, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len())?;
            writer.write_all(&body)?;
        }
    }
}

#[test]
fn players_follow_a_live_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/m.m3u8", listener.local_addr().unwrap());
    let live = Live(std::time::Instant::now());
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || live.serve(socket));
        }
    });
    for hints in [false, true] {
        let load = Load {
            url: url.clone(),
            clients: 2,
            streams: None,
            rate: 100.0,
            duration: Duration::from_secs(1),
            warmup: Duration::ZERO,
            pid: vec![std::process::id()],
            threads: 1,
            json: false,
            allow_remote: false,
        };
        let report = run(&load, hints).unwrap();
        assert_eq!((report.live, report.failed, report.first_error.as_deref()), (2, 0, None));
        assert!(report.frames_s_least > 5.0, "{report}");
        assert!(report.delay_ms.is_some_and(|d| d.count >= 8), "{report}");
        assert!(report.requests >= 20 && report.server.is_some(), "{report}");
    }
}
