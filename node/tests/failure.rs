//! What goes wrong: crashes, ports, disks, garbage.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::*;

/// The exit code and what was printed when a node cannot start.
fn refused(command: &mut Command) -> (Option<i32>, String) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sluice-node starts");
    let mut p = Process(child);
    let status = p.wait(Duration::from_secs(15)).expect("it gives up at once");
    let mut text = String::new();
    p.0.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    (status.code(), text)
}

#[test]
fn after_kill_9_nothing_is_lost_or_stuck() {
    let node = Node::start();
    let create = |name: &str| {
        let url = node.url("/LiveApp/rest/v2/broadcasts/create");
        let body = format!(r#"{{"streamId":"{name}","name":"{name}"}}"#);
        http(&url, &["-H", "Content-Type: application/json", "-d", &body]).status
    };
    assert_eq!(create("kept"), 200);
    let _a = publish(&node.rtmp("/LiveApp/kept"), &[]);
    let _b = publish(&node.rtmp("/LiveApp/passing"), &[]);
    wait_for(Duration::from_secs(12), "both to play", || {
        ["kept", "passing"].iter().all(|s| media_playlist(&node, s).1.contains("EXTINF"))
    });
    assert_eq!(create("late"), 200);
    let before = tag(&media_playlist(&node, "kept").1, "#EXT-X-MEDIA-SEQUENCE").expect("a number");
    let (_temp, dir, ports) = node.crash();
    let node = Node::start_in(&dir, ports, &[]);
    assert_eq!(broadcast(&node, "kept").json()["status"], "finished");
    assert_eq!(broadcast(&node, "late").json()["status"], "created");
    assert_eq!(broadcast(&node, "passing").status, 404);
    let _again = publish(&node.rtmp("/LiveApp/kept"), &[]);
    wait_for(Duration::from_secs(12), "it to play again", || {
        media_playlist(&node, "kept").1.contains("EXTINF")
    });
    let after = tag(&media_playlist(&node, "kept").1, "#EXT-X-MEDIA-SEQUENCE").expect("a number");
    assert!(after > before, "media sequence {after} after {before}");
}

#[test]
fn a_taken_port_a_bad_config_and_a_damaged_store_are_said_clearly() {
    let temp = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let http = taken.local_addr().expect("an address").port();
    let (code, text) = refused(&mut command(temp.path(), http, port(), &[]));
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("SLUICE_HTTP_ADDR"), "{text}");

    let file = temp.path().join("sluice.toml");
    std::fs::write(&file, "http_adr = \"127.0.0.1:1\"\n").expect("written");
    let (code, text) = refused(command(temp.path(), port(), port(), &[]).arg("--config").arg(&file));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("http_adr") && text.contains("http_addr"), "{text}");
    let missing = temp.path().join("none.toml");
    let (code, text) = refused(command(temp.path(), port(), port(), &[]).arg("--config").arg(&missing));
    assert_eq!(code, Some(2), "{text}");

    let node = Node::start_in(temp.path(), (port(), port()), &[]);
    let (code, text) = refused(&mut command(temp.path(), port(), port(), &[]));
    assert_eq!(code, Some(75), "two nodes on one directory: {text}");
    node.crash();
    let data = temp.path().join("data");
    let database = std::fs::read_dir(&data)
        .expect("the data directory")
        .filter_map(|e| e.ok().map(|e| e.path()))
        .find(|p| p.extension().is_some_and(|e| e == "db" || e == "sqlite"))
        .expect("a database");
    for e in std::fs::read_dir(&data).expect("the data directory").filter_map(Result::ok) {
        let name = e.file_name().to_string_lossy().into_owned();
        if name.ends_with("-wal") || name.ends_with("-shm") {
            std::fs::remove_file(e.path()).expect("removed");
        }
    }
    std::fs::write(&database, vec![0x5a; 40_000]).expect("written");
    let (code, text) = refused(&mut command(temp.path(), port(), port(), &[]));
    assert_eq!(code, Some(65), "{text}");
    assert!(text.contains(&*database.to_string_lossy()), "{text}");
}

#[test]
fn a_full_disk_is_said_clearly_and_cuts_no_stream() {
    let temp = tempfile::tempdir().expect("a directory");
    let data = temp.path().join("data");
    std::fs::create_dir(&data).expect("made");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&data).status();
    assert!(mounted.is_ok_and(|s| s.success()), "this test needs the right to mount a small disk");
    struct Unmount(std::path::PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _unmount = Unmount(data.clone());
    let node = Node::start_in(temp.path(), (port(), port()), &[]);
    let _ffmpeg = publish(&node.rtmp("/LiveApp/cam1"), &[]);
    wait_for(Duration::from_secs(12), "it to play", || media_playlist(&node, "cam1").1.contains("EXTINF"));
    let mut ballast = std::fs::File::create(data.join("ballast")).expect("made");
    while ballast.write_all(&[0; 4096]).is_ok() {}
    let body = temp.path().join("body.json");
    std::fs::write(&body, format!(r#"{{"description":"{}"}}"#, "x".repeat(200_000))).expect("written");
    let url = node.url("/LiveApp/rest/v2/broadcasts/create");
    let body = format!("@{}", body.display());
    let answer = http(&url, &["-H", "Content-Type: application/json", "-d", &body]);
    assert!(answer.status >= 500, "{answer:?}");
    assert!(answer.text().contains("no space left"), "{}", answer.text());
    assert!(packets(&node.rtmp("/LiveApp/cam1"), 2) > 40, "the stream goes on");
    drop(node);
    let (code, text) = refused(&mut command(temp.path(), port(), port(), &[]));
    assert_eq!(code, Some(74), "{text}");
}

#[test]
fn garbage_and_slow_connections_harm_nobody() {
    let seconds =
        std::env::var("SLUICE_TEST_GARBAGE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(10);
    let node = Node::start();
    let _ffmpeg = publish(&node.rtmp("/LiveApp/cam1"), &[]);
    wait_for(Duration::from_secs(12), "it to play", || media_playlist(&node, "cam1").1.contains("EXTINF"));
    let before = node.memory();
    let end = Instant::now() + Duration::from_secs(seconds);
    let ports = [node.http, node.rtmp];
    let attackers: Vec<_> =
        (0..4u64).map(|n| std::thread::spawn(move || attack(n, ports[n as usize % 2], end))).collect();
    // The player counts every frame over the whole attack.
    let count = packets(&node.rtmp("/LiveApp/cam1"), seconds as u32);
    for a in attackers {
        a.join().expect("an attacker does not fail");
    }
    assert!(count as u64 >= 30 * seconds * 95 / 100, "{count} frames in {seconds} s");
    let grown = node.memory().saturating_sub(before);
    assert!(grown < 100 << 20, "memory grew by {grown} bytes");
    assert_eq!(status(&node.url("/rest/v2/liveness")), 200);
}

/// Connects, sends what should not be sent, and leaves some connections half open.
fn attack(seed: u64, port: u16, end: Instant) {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let mut idle = Vec::new();
    while Instant::now() < end {
        let Ok(mut s) = TcpStream::connect(("127.0.0.1", port)) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let _ = s.set_write_timeout(Some(Duration::from_millis(200)));
        let _ = s.set_read_timeout(Some(Duration::from_millis(20)));
        match next() % 5 {
            0 => {
                let junk: Vec<u8> = (0..next() % 5000).map(|_| next() as u8).collect();
                let _ = s.write_all(&junk);
                let _ = s.read(&mut [0; 4096]);
            }
            // An RTMP handshake, then noise.
            1 => {
                let mut hello = vec![3u8; 1537];
                let _ = s.write_all(&hello);
                let _ = s.read(&mut [0; 4096]);
                hello.truncate(1536);
                let _ = s.write_all(&hello);
                let junk: Vec<u8> = (0..20_000).map(|_| next() as u8).collect();
                let _ = s.write_all(&junk);
            }
            2 => {
                let _ = s.write_all(
                    b"GET /LiveApp/streams/cam1.m3u8?_HLS_msn=99999999999&_HLS_part=-1 HTTP/1.1\r\nHost:",
                );
            }
            3 => {
                let header = format!("X-{}: {}\r\n", next(), "y".repeat(3000)).repeat(60);
                let _ = s.write_all(format!("GET / HTTP/1.1\r\n{header}\r\n").as_bytes());
                let _ = s.read(&mut [0; 4096]);
            }
            // Slow: a byte now and then.
            _ => {
                let _ = s.write_all(&[3]);
            }
        }
        idle.push(s);
        if idle.len() > 300 {
            idle.remove((next() % 300) as usize);
        }
        if let Some(s) = idle.first_mut() {
            let _ = s.write_all(&[next() as u8]);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
