use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::thread;

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};
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
    for hints in [&[][..], &["--hints"]] {
        let report = played(&[&["--url", &url, "-n", "2", "--duration", "1s"], hints].concat());
        assert_eq!((report.live, report.failed, report.first_error.as_deref()), (2, 0, None));
        assert!(report.frames_s_least > 5.0, "{report}");
        assert!(report.delay_ms.is_some_and(|d| d.count >= 8), "{report}");
        assert!(report.requests >= 20 && report.server.is_some(), "{report}");
    }
}

fn played(more: &[&str]) -> Report {
    let pid = std::process::id().to_string();
    let line = ["sluice-load", "play-hls", "--warmup", "0s", "--rate", "100", "--pid", &pid];
    let Command::PlayHls(options) = Cli::parse_from([&line, more].concat()).command else {
        panic!("not play-hls")
    };
    run(&options).unwrap()
}

/// Whole segments of 200 ms. Each connection ends with its fourth answer, which says so; one that asks for segment 4
/// for the first time is cut; segment 6 does not exist.
fn serve_segments(socket: TcpStream, live: std::time::Instant, cut: &AtomicBool) -> std::io::Result<()> {
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut writer = socket;
    for answer in 1..=4 {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while reader.read_line(&mut line)? > 2 {}
        if path == "/4" && !cut.swap(true, Relaxed) {
            return Ok(());
        }
        let (status, body) = match path.as_str() {
            "/m.m3u8" => {
                let whole = 4 + live.elapsed().as_millis() / 200;
                let segments: String = (0..whole).map(|n| format!("#EXTINF:0.2,\n{n}\n")).collect();
                ("200 OK", format!("#EXTM3U\n#EXT-X-TARGETDURATION:0.2\n{segments}"))
            }
            "/6" => ("404 Not Found", String::new()),
            _ => ("200 OK", "media".to_owned()),
        };
        let close = if answer == 4 { "Connection: close\r\n" } else { "" };
        write!(writer, "HTTP/1.1 {status}\r\n{close}Content-Length: {}\r\n\r\n{body}", body.len())?;
    }
    Ok(())
}

#[test]
fn a_player_counts_what_it_notices() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/m.m3u8", listener.local_addr().unwrap());
    let live = std::time::Instant::now();
    let cut = Arc::new(AtomicBool::new(false));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let cut = cut.clone();
            thread::spawn(move || serve_segments(socket, live, &cut));
        }
    });
    let report = played(&["--url", &url, "--like-a-player", "--duration", "3s"]);
    assert_eq!((report.live, report.failed, report.failed_requests), (1, 0, 3), "{report}");
    let continuity = report.continuity.unwrap();
    let all = continuity.all;
    // The segment that does not exist was asked for three times; the connection that was cut is no error.
    assert_eq!((all.errors, all.missed, all.broken, all.restarts), (3, 1, 1, 0), "{continuity}");
    assert!(all.told >= 2 && all.idle == 0, "{continuity}");
    assert_eq!(
        (continuity.disturbed, continuity.worst.missed, continuity.problems.len()),
        (1, 1, 4),
        "{continuity}"
    );
}
