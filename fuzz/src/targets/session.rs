//! Whole RTMP connections, from the first chunk on.

use bytes::BytesMut;
use sluice_rtmp::Error;
use sluice_rtmp::chunk::{Limits, Reader};
use sluice_rtmp::handshake::PACKET;
use sluice_rtmp::message::kind;
use sluice_rtmp::session::{Client, ClientEvent, Event, Purpose, Server, Url};

use super::rtmp;
use crate::Random;
use crate::split::pieces;

/// A read from a socket is at most this long.
const READ: usize = 64 << 10;

/// What a client sends after its handshake; every wish is granted or refused, as the input's bytes have it. The
/// events are the same however the input is cut, answers can be read, and their amount is bounded.
pub(crate) fn server(data: &[u8]) {
    let whole = serve(data.chunks(READ), data);
    let cut = serve(pieces(data), data);
    // How many answers are unread, and so whether the client is deaf, depends on cuts indeed.
    let deaf = Some(Error::Deaf.to_string());
    if whole.error != deaf && cut.error != deaf {
        assert_eq!(whole, cut, "what happens depends on how the input is cut");
    }
}

#[derive(Debug, PartialEq)]
struct Served {
    events: u64,
    error: Option<String>,
}

fn serve<'a>(pieces: impl Iterator<Item = &'a [u8]>, all: &[u8]) -> Served {
    let mut random = Random::of(all);
    let mut server = Server::new(1, Limits::default());
    let mut input = BytesMut::from(&[3][..]);
    input.resize(1 + 2 * PACKET, 0);
    assert_eq!(server.input(&mut input).expect("a simple handshake"), None);
    assert!(server.is_open() && input.is_empty());
    assert_eq!(server.output().split().len(), 1 + 2 * PACKET);

    let mut answers = Reader::new(Limits { command: 16 << 20, ..Limits::default() });
    let mut served = Served { events: 0, error: None };
    let mut role = None;
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let event = match server.input(&mut input) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    served.error = Some(error.to_string());
                    break;
                }
            };
            served.events = served.events.rotate_left(7) ^ Random::of(format!("{event:?}").as_bytes()).bits();
            answer(&mut server, event, &mut role, &mut random);
            assert!(server.output().len() <= most(all), "{} bytes of answers", server.output().len());
        }
        read_answers(&mut answers, server.output().split(), all);
        if served.error.is_some() {
            break;
        }
    }
    server.ping(7);
    server.end("the stream is over");
    read_answers(&mut answers, server.output().split(), all);
    served
}

/// Answers to one read: what may be left unread, and one more, which may repeat a name from the input a few times
/// (three bytes for one where that is not UTF-8).
fn most(all: &[u8]) -> usize {
    (64 << 10) + 2048 + 24 * all.len()
}

fn answer(server: &mut Server, event: Event, role: &mut Option<&'static str>, random: &mut Random) {
    let yes = !random.one_in(8);
    match event {
        Event::Connect { .. } if yes => server.accept_connect(),
        Event::Connect { app } => server.reject_connect(&format!("there is no app named {app}")),
        Event::Publish(_) | Event::Play(_) => {
            assert_eq!(*role, None, "a second wish before the first was done");
            match (event, yes) {
                (Event::Publish(_), true) => {
                    *role = Some("publish");
                    server.accept_publish();
                }
                (Event::Publish(_), false) => {
                    server.reject_publish("NetStream.Publish.BadName", "it is taken")
                }
                (_, true) => {
                    *role = Some("play");
                    server.accept_play();
                }
                (_, false) => server.reject_play("NetStream.Play.StreamNotFound", "it is not there"),
            }
        }
        Event::Audio { payload, .. } => {
            assert_eq!(*role, Some("publish"), "media of one who does not publish");
            rtmp::media(kind::AUDIO, payload);
        }
        Event::Video { payload, .. } => {
            assert_eq!(*role, Some("publish"), "media of one who does not publish");
            rtmp::media(kind::VIDEO, payload);
        }
        Event::Metadata(_) => assert_eq!(*role, Some("publish"), "metadata of one who does not publish"),
        Event::Unpublish => assert_eq!(role.take(), Some("publish")),
        Event::Stop => assert_eq!(role.take(), Some("play")),
        Event::Pause(_) => assert_eq!(*role, Some("play")),
        Event::ReceiveAudio(_) | Event::ReceiveVideo(_) => {}
    }
}

fn read_answers(answers: &mut Reader, mut output: BytesMut, all: &[u8]) {
    while let Some(message) = answers.read(&mut output).expect("our answers are chunks") {
        assert!(message.payload.len() <= most(all));
        // Fails only where a name from the input has more than AMF0's strings may have.
        message.parse().expect("our answers are messages");
    }
    assert!(output.is_empty(), "half an answer");
}

/// What a server sends after its handshake, to a client that plays and to one that publishes.
pub(crate) fn client(data: &[u8]) {
    for purpose in [Purpose::Play, Purpose::Publish] {
        let whole = connect(purpose, data.chunks(READ));
        let cut = connect(purpose, pieces(data));
        assert_eq!(whole, cut, "what happens depends on how the input is cut");
    }
}

fn connect<'a>(purpose: Purpose, pieces: impl Iterator<Item = &'a [u8]>) -> Served {
    let url = Url::parse("rtmp://127.0.0.1/LiveApp/cam1?token=t").expect("a fine URL");
    let mut client = Client::new(url, purpose, 1);
    let mut input = BytesMut::from(&[3][..]);
    input.resize(1 + 2 * PACKET, 0);
    assert_eq!(client.input(&mut input).expect("a simple handshake"), None);
    let mut said = client.output().split();
    let _handshake = said.split_to(1 + 2 * PACKET);
    let mut served = Served { events: 0, error: None };
    let mut reader = Reader::new(Limits::default());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let event = match client.input(&mut input) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    served.error = Some(error.to_string());
                    break;
                }
            };
            served.events = served.events.rotate_left(7) ^ Random::of(format!("{event:?}").as_bytes()).bits();
            match event {
                ClientEvent::Started => {
                    client.send_metadata(vec![("width".into(), 640.0.into())]);
                    client.send_video(u32::MAX, &[b"\x17\x01\0\0\0", b"nal"]);
                }
                ClientEvent::Audio { payload, .. } => rtmp::media(kind::AUDIO, payload),
                ClientEvent::Video { payload, .. } => rtmp::media(kind::VIDEO, payload),
                ClientEvent::Metadata(_)
                | ClientEvent::ReconnectRequest { .. }
                | ClientEvent::Ended { .. } => {}
            }
        }
        said.unsplit(client.output().split());
        while let Some(message) = reader.read(&mut said).expect("what a client says are chunks") {
            message.parse().expect("what a client says are messages");
        }
        if served.error.is_some() {
            break;
        }
    }
    client.finish();
    served
}
