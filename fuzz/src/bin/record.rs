//! Records what real clients send, for the corpus: an RTMP server that grants every wish and keeps the bytes.
//!
//! ```text
//! record ADDRESS FOLDER [--bytes N]
//! ```
//!
//! Of each connection two files are written to FOLDER: `NAME.handshake`, and `NAME.session` with the first N bytes
//! (6000 unless given) that follow, cut behind whole messages where the client ends by itself. NAME is the name
//! of the stream that the client publishes or plays.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::BytesMut;
use sluice_rtmp::chunk::Limits;
use sluice_rtmp::handshake::PACKET;
use sluice_rtmp::session::{Event, Server};

/// How long a player is left waiting before it is told that the stream is over.
const PLAYED: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (address, folder, bytes) = match &args[..] {
        [address, folder] => (address, folder, Some(6000)),
        [address, folder, option, n] if option == "--bytes" => (address, folder, n.parse().ok()),
        _ => (&String::new(), &String::new(), None),
    };
    let Some(bytes) = bytes else {
        eprintln!("usage: record ADDRESS FOLDER [--bytes N]");
        return ExitCode::from(2);
    };
    match listen(address, Path::new(folder), bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recording at {address} to {folder}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn listen(address: &str, folder: &Path, bytes: usize) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let listener = TcpListener::bind(address)?;
    println!("recording at {}", listener.local_addr()?);
    for client in listener.incoming() {
        match record(client?, folder, bytes) {
            Ok(name) => println!("{name}"),
            Err(error) => eprintln!("a client that could not be recorded: {error}"),
        }
    }
    Ok(())
}

/// Serves one client, and writes what it sent.
fn record(mut client: TcpStream, folder: &Path, bytes: usize) -> io::Result<String> {
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut server = Server::new(1, Limits::default());
    let (mut input, mut all, mut name) = (BytesMut::new(), Vec::new(), String::new());
    let mut buffer = [0; 4096];
    'connection: while all.len() < 1 + 2 * PACKET + bytes {
        let n = match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            // A player says nothing more by itself.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => return Err(error),
        };
        all.extend_from_slice(&buffer[..n]);
        input.extend_from_slice(&buffer[..n]);
        while let Some(event) = server.input(&mut input).map_err(io::Error::other)? {
            match event {
                Event::Connect { .. } => server.accept_connect(),
                Event::Publish(target) => {
                    name = target.stream;
                    server.accept_publish();
                }
                Event::Play(target) => {
                    name = target.stream;
                    server.accept_play();
                    client.write_all(&server.output().split())?;
                    std::thread::sleep(PLAYED);
                    server.end("that was all");
                }
                Event::Unpublish | Event::Stop => {
                    client.write_all(&server.output().split())?;
                    break 'connection;
                }
                _ => {}
            }
        }
        client.write_all(&server.output().split())?;
    }
    all.truncate(1 + 2 * PACKET + bytes);
    let (handshake, session) = all.split_at(all.len().min(1 + 2 * PACKET));
    fs::write(folder.join(format!("{name}.handshake")), handshake)?;
    fs::write(folder.join(format!("{name}.session")), session)?;
    Ok(name)
}
