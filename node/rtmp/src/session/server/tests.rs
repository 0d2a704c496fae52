use proptest::prelude::*;

use super::*;
use crate::chunk::{Outgoing, write};
use crate::handshake::PACKET;
use crate::message::kind;
use crate::session::{Client, ClientEvent, Purpose, Url};

/// A client of the test: encodes what a real one sends, and reads what comes back.
struct Peer {
    server: Server,
    writer: Writer,
    reader: chunk::Reader,
    to_server: BytesMut,
    events: Vec<Event>,
}

impl Peer {
    fn new() -> Self {
        let mut peer = Peer {
            server: Server::new(1, Limits::default()),
            writer: Writer::default(),
            reader: chunk::Reader::new(Limits::default()),
            to_server: BytesMut::new(),
            events: Vec::new(),
        };
        peer.to_server.extend_from_slice(&[3]);
        peer.to_server.extend_from_slice(&[0; 2 * PACKET]);
        assert_eq!(peer.server.input(&mut peer.to_server).unwrap(), None);
        assert!(peer.server.is_open());
        assert_eq!(peer.server.output().split().len(), 1 + 2 * PACKET);
        peer
    }

    fn send(&mut self, stream_id: u32, name: &str, transaction: f64, object: Value, arguments: Vec<Value>) {
        let command = Command { name: name.into(), transaction, object, arguments };
        self.writer.command(&mut self.to_server, stream_id, &command);
    }

    fn media(&mut self, type_id: u8, timestamp: u32, body: &[u8]) {
        let header = Outgoing { timestamp, type_id, stream_id: 1 };
        write(&mut self.to_server, 4, self.writer.chunk_size(), header, &[body]);
    }

    /// Lets the server take everything and accept whatever is asked; returns its answers in short.
    fn turn(&mut self) -> Vec<String> {
        while let Some(event) = self.server.input(&mut self.to_server).unwrap() {
            match &event {
                Event::Connect { .. } => self.server.accept_connect(),
                Event::Publish(_) => self.server.accept_publish(),
                Event::Play(_) => self.server.accept_play(),
                _ => {}
            }
            self.events.push(event);
        }
        self.answers()
    }

    fn answers(&mut self) -> Vec<String> {
        let mut output = self.server.output().split();
        let mut answers = Vec::new();
        while let Some(message) = self.reader.read(&mut output).unwrap() {
            answers.push(match message.parse().unwrap() {
                Body::Command(c) => {
                    let info = c.arguments.first().cloned().unwrap_or(Value::Null);
                    match info.get("code").and_then(Value::as_str) {
                        Some(code) => format!("{} {code}", c.name),
                        None => format!("{} {}", c.name, c.transaction),
                    }
                }
                Body::User(event) => format!("{event:?}"),
                Body::Data(values) => values[0].as_str().unwrap_or_default().to_owned(),
                other => format!("{other:?}"),
            });
        }
        answers
    }

    fn connect(&mut self, app: &str, more: Vec<(&'static str, Value)>) -> Vec<String> {
        let mut object = vec![("app", app.into()), ("tcUrl", "rtmp://127.0.0.1/LiveApp".into())];
        object.extend(more);
        self.send(0, "connect", 1.0, Value::object(object), vec![]);
        self.turn()
    }
}

const CONNECTED: [&str; 4] = [
    "WindowAckSize(2500000)",
    "SetPeerBandwidth(2500000)",
    "StreamBegin(0)",
    "_result NetConnection.Connect.Success",
];

#[test]
fn obs_publishes() {
    let mut p = Peer::new();
    let obs = vec![
        ("type", "nonprivate".into()),
        ("flashVer", "FMLE/3.0 (compatible; FMSc/1.0)".into()),
        ("swfUrl", "rtmp://127.0.0.1/LiveApp".into()),
        ("fourCcList", Value::StrictArray(vec!["av01".into(), "hvc1".into()])),
    ];
    p.writer.set_chunk_size(&mut p.to_server, 4096);
    assert_eq!(p.connect("LiveApp", obs), CONNECTED);
    p.send(0, "releaseStream", 2.0, Value::Null, vec!["cam1?token=x".into()]);
    p.send(0, "FCPublish", 3.0, Value::Null, vec!["cam1?token=x".into()]);
    p.send(0, "createStream", 4.0, Value::Null, vec![]);
    assert_eq!(p.turn(), ["_result 2", "_result 3", "onFCPublish NetStream.Publish.Start", "_result 4"]);
    p.send(0, "_checkbw", 5.0, Value::Null, vec![]);
    p.send(1, "publish", 6.0, Value::Null, vec!["cam1?token=x".into(), "live".into()]);
    assert_eq!(p.turn(), ["_result 5", "StreamBegin(1)", "onStatus NetStream.Publish.Start"]);
    let properties = vec![("encoder".to_owned(), Value::from("obs-output module"))];
    let values = ["@setDataFrame".into(), "onMetaData".into(), Value::EcmaArray(properties.clone())];
    p.writer.data(&mut p.to_server, 1, 0, &values);
    p.media(kind::VIDEO, 0, b"\x17\0\0\0\0avcC");
    p.media(kind::AUDIO, 23, b"\xaf\x01aac");
    p.send(0, "FCUnpublish", 7.0, Value::Null, vec!["cam1?token=x".into()]);
    p.send(0, "deleteStream", 8.0, Value::Null, vec![1.0.into()]);
    assert_eq!(p.turn(), ["_result 7", "onFCUnpublish NetStream.Unpublish.Success"]);
    let target =
        Target { app: "LiveApp".into(), stream: "cam1".into(), query: vec![("token".into(), "x".into())] };
    let video = Event::Video { timestamp: 0, payload: Bytes::from_static(b"\x17\0\0\0\0avcC") };
    let audio = Event::Audio { timestamp: 23, payload: Bytes::from_static(b"\xaf\x01aac") };
    let want = [
        Event::Connect { app: "LiveApp".into() },
        Event::Publish(target),
        Event::Metadata(properties),
        video,
        audio,
        Event::Unpublish,
    ];
    assert_eq!(p.events, want);
    assert_eq!(p.server.user_agent(), "FMLE/3.0 (compatible; FMSc/1.0)");
}

#[test]
fn ffmpeg_plays() {
    let mut p = Peer::new();
    let ffmpeg = vec![("flashVer", "LNX 9,0,124,2".into()), ("fpad", Value::Boolean(false))];
    assert_eq!(p.connect("LiveApp", ffmpeg), CONNECTED);
    p.send(0, "createStream", 2.0, Value::Null, vec![]);
    p.send(0, "getStreamLength", 3.0, Value::Null, vec!["cam1".into()]);
    p.send(1, "play", 4.0, Value::Null, vec!["cam1".into(), (-2000.0).into()]);
    p.writer.user(&mut p.to_server, UserControl::SetBufferLength { stream_id: 1, millis: 3000 });
    let want = [
        "_result 2",
        "_result 3",
        "StreamBegin(1)",
        "onStatus NetStream.Play.Reset",
        "onStatus NetStream.Play.Start",
    ];
    assert_eq!(p.turn(), want);
    p.send(1, "pause", 0.0, Value::Null, vec![Value::Boolean(true), 0.0.into()]);
    p.send(1, "receiveAudio", 0.0, Value::Null, vec![Value::Boolean(false)]);
    p.send(1, "seek", 0.0, Value::Null, vec![5.0.into()]);
    assert_eq!(p.turn(), ["onStatus NetStream.Pause.Notify", "onStatus NetStream.Seek.Failed"]);
    assert_eq!(p.events[2..], [Event::Pause(true), Event::ReceiveAudio(false)]);
    p.server.end("the stream is over");
    let end = ["onStatus NetStream.Play.UnpublishNotify", "StreamEof(1)", "onStatus NetStream.Play.Stop"];
    assert_eq!(p.answers(), end);
}

/// GStreamer's rtmp2sink sends the same commands, with `closeStream` at the end and transactions of its own.
#[test]
fn gstreamer_publishes() {
    let mut p = Peer::new();
    let gst = vec![("flashVer", "LNX 10,0,32,18".into()), ("capabilities", 15.0.into())];
    p.connect("LiveApp", gst);
    p.writer.window_ack_size(&mut p.to_server, 5_000_000);
    p.send(0, "createStream", 2.0, Value::Null, vec![]);
    p.turn();
    p.send(0, "releaseStream", 0.0, Value::Null, vec!["cam1".into()]);
    p.send(0, "FCPublish", 0.0, Value::Null, vec!["cam1".into()]);
    p.send(1, "publish", 3.0, Value::Null, vec!["cam1".into(), "live".into()]);
    assert!(p.turn().contains(&"onStatus NetStream.Publish.Start".to_owned()));
    p.send(1, "closeStream", 0.0, Value::Null, vec![]);
    assert_eq!(p.turn(), ["onStatus NetStream.Unpublish.Success"]);
    assert_eq!(p.events.last(), Some(&Event::Unpublish));
}

#[test]
fn enhanced_clients_learn_what_is_possible() {
    let mut p = Peer::new();
    p.send(0, "connect", 1.0, Value::object([("app", "live".into()), ("capsEx", 4.0.into())]), vec![]);
    assert!(matches!(p.server.input(&mut p.to_server), Ok(Some(Event::Connect { .. }))));
    p.server.accept_connect();
    let mut output = p.server.output().split();
    let info = std::iter::from_fn(|| p.reader.read(&mut output).unwrap())
        .find_map(|m| match m.parse().unwrap() {
            Body::Command(c) => Some(c.arguments[0].clone()),
            _ => None,
        })
        .unwrap();
    assert_eq!(info.get("fourCcList"), Some(&Value::StrictArray(flv::FOURCC_LIST.map(Value::from).to_vec())));
    assert!(info.get("videoFourCcInfoMap").and_then(|m| m.get("av01")).is_some());
    assert_eq!(info.get("capsEx"), Some(&Value::Number(13.0)));
}

#[test]
fn refusals() {
    let mut p = Peer::new();
    p.send(0, "connect", 1.0, Value::object([("app", "nope/x".into())]), vec![]);
    assert_eq!(p.server.input(&mut p.to_server).unwrap(), Some(Event::Connect { app: "nope".into() }));
    p.server.reject_connect("there is no app named nope");
    assert_eq!(p.answers(), ["_error NetConnection.Connect.Rejected", "close 0"]);

    let mut p = Peer::new();
    p.connect("LiveApp", vec![]);
    p.send(1, "publish", 2.0, Value::Null, vec!["cam1".into()]);
    assert!(matches!(p.server.input(&mut p.to_server), Ok(Some(Event::Publish(_)))));
    p.server.reject_publish("NetStream.Publish.BadName", "cam1 is being published already");
    assert_eq!(p.answers(), ["onStatus NetStream.Publish.BadName"]);
    // Media of a client that was refused goes nowhere.
    p.media(kind::VIDEO, 0, b"\x17\x01\0\0\0x");
    assert_eq!(p.server.input(&mut p.to_server).unwrap(), None);
}

#[test]
fn what_makes_no_sense() {
    let mut p = Peer::new();
    p.send(1, "publish", 2.0, Value::Null, vec!["cam1".into()]);
    assert!(matches!(p.server.input(&mut p.to_server), Err(Error::Sequence(_))));

    let mut p = Peer::new();
    p.connect("LiveApp", vec![]);
    p.send(1, "publish", 2.0, Value::Null, vec!["a".into()]);
    p.send(1, "play", 3.0, Value::Null, vec!["b".into()]);
    assert_eq!(p.turn().last().unwrap(), "onStatus NetStream.Play.Failed");
    p.send(0, "nonsense", 9.0, Value::Null, vec![]);
    assert_eq!(p.turn(), ["_error NetConnection.Call.Failed"]);

    // Thousands of commands whose answers nobody takes.
    for _ in 0..3000 {
        p.send(0, "createStream", 4.0, Value::Null, vec![]);
    }
    assert!(matches!(p.server.input(&mut p.to_server), Err(Error::Deaf)));
}

#[test]
fn only_publishers_may_send_much() {
    let mut p = Peer::new();
    p.connect("LiveApp", vec![]);
    p.media(kind::VIDEO, 0, &[0x27; 100_000]);
    assert!(matches!(p.server.input(&mut p.to_server), Err(Error::MessageTooLarge { .. })));

    let mut p = Peer::new();
    p.connect("LiveApp", vec![]);
    p.send(1, "publish", 2.0, Value::Null, vec!["cam1".into()]);
    p.media(kind::VIDEO, 0, &[0x27; 100_000]);
    p.turn();
    assert!(matches!(p.events.last(), Some(Event::Video { .. })));
    p.send(1, "closeStream", 0.0, Value::Null, vec![]);
    p.turn();
    p.media(kind::VIDEO, 0, &[0x27; 100_000]);
    assert!(matches!(p.server.input(&mut p.to_server), Err(Error::MessageTooLarge { .. })));
}

#[test]
fn received_bytes_are_acknowledged() {
    let mut p = Peer::new();
    p.connect("LiveApp", vec![]);
    p.writer.window_ack_size(&mut p.to_server, 100_000);
    p.send(1, "publish", 2.0, Value::Null, vec!["cam1".into()]);
    p.turn();
    let mut acknowledgements = 0;
    for i in 0..50 {
        p.media(kind::VIDEO, i * 40, &[0x27; 10_000]);
        acknowledgements += p.turn().iter().filter(|a| a.starts_with("Acknowledgement")).count();
    }
    assert_eq!(acknowledgements, 5);
}

proptest! {
    /// Whatever comes after the handshake: no panic, and no more held than the limits say.
    #[test]
    fn anything_is_survived(data in proptest::collection::vec(any::<u8>(), 0..5000), connected: bool) {
        let mut p = Peer::new();
        if connected {
            p.connect("LiveApp", vec![]);
            p.send(1, "publish", 2.0, Value::Null, vec!["cam1".into()]);
            p.turn();
        }
        for piece in data.chunks(700) {
            p.to_server.extend_from_slice(piece);
            while let Ok(Some(event)) = p.server.input(&mut p.to_server) {
                match event {
                    Event::Connect { .. } => p.server.accept_connect(),
                    Event::Publish(_) => p.server.accept_publish(),
                    Event::Play(_) => p.server.accept_play(),
                    _ => {}
                }
            }
            prop_assert!(p.server.output().len() < 2 * MAX_OUTPUT);
        }
    }
}

/// Only who has said that it knows of the request gets it, on the connection and not on its stream.
#[test]
fn a_client_is_asked_to_reconnect_when_it_can() {
    for (caps, asked) in [(Some(1.0), true), (Some(13.0), true), (Some(12.0), false), (None, false)] {
        let mut p = Peer::new();
        assert!(!p.server.ask_to_reconnect("too early"));
        p.connect("LiveApp", caps.map(|caps| ("capsEx", Value::Number(caps))).into_iter().collect());
        assert_eq!(p.server.ask_to_reconnect("the server is stopping"), asked, "{caps:?}");
        let mut output = p.server.output().split();
        let Some(message) = p.reader.read(&mut output).unwrap() else {
            assert!(!asked);
            continue;
        };
        assert_eq!(message.stream_id, 0);
        let Body::Command(command) = message.parse().unwrap() else { panic!("no command") };
        assert_eq!((command.name.as_str(), command.transaction), ("onStatus", 0.0));
        let text = |key| command.arguments[0].get(key).and_then(Value::as_str);
        assert_eq!(text("code"), Some("NetConnection.Connect.ReconnectRequest"));
        assert_eq!((text("level"), text("description")), (Some("status"), Some("the server is stopping")));
    }
}

#[test]
fn a_request_to_reconnect_is_understood() {
    let url = Url::parse("rtmp://127.0.0.1/LiveApp/cam1").unwrap();
    let mut client = Client::new(url, Purpose::Publish, 7).can_reconnect();
    let mut server = Server::new(8, Limits::default());
    let mut down = BytesMut::new();
    let mut events = Vec::new();
    for _ in 0..10 {
        let mut up = client.output().split();
        while let Some(event) = server.input(&mut up).unwrap() {
            match event {
                Event::Connect { .. } => server.accept_connect(),
                Event::Publish(_) => {
                    server.accept_publish();
                    assert!(server.ask_to_reconnect("the server is stopping"));
                }
                _ => {}
            }
        }
        down.unsplit(server.output().split());
        while let Some(event) = client.input(&mut down).unwrap() {
            events.push(event);
        }
    }
    let asked = |tc_url: Option<&str>| ClientEvent::ReconnectRequest {
        tc_url: tc_url.map(str::to_owned),
        description: "the server is stopping".into(),
    };
    assert_eq!(events, [ClientEvent::Started, asked(None)]);
    // Another server may say where to.
    let info = Value::object([
        ("level", "status".into()),
        ("code", "NetConnection.Connect.ReconnectRequest".into()),
        ("description", "the server is stopping".into()),
        ("tcUrl", "rtmp://b/LiveApp".into()),
    ]);
    server.writer.command(&mut down, 0, &Command::new("onStatus", 0.0, vec![info]));
    assert_eq!(client.input(&mut down).unwrap(), Some(asked(Some("rtmp://b/LiveApp"))));
    assert!(client.is_started(), "all goes on");
}

/// Our client against our server, publishing and playing.
#[test]
fn both_ends_meet() {
    for purpose in [Purpose::Publish, Purpose::Play] {
        let url = Url::parse("rtmp://127.0.0.1/LiveApp/cam1?token=t").unwrap();
        let mut client = Client::new(url, purpose, 7);
        let mut server = Server::new(8, Limits::default());
        let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
        let mut seen = Vec::new();
        let mut started = false;
        for _ in 0..10 {
            up.unsplit(client.output().split());
            while let Some(event) = server.input(&mut up).unwrap() {
                match &event {
                    Event::Connect { .. } => server.accept_connect(),
                    Event::Publish(_) => server.accept_publish(),
                    Event::Play(_) => server.accept_play(),
                    _ => {}
                }
                seen.push(event);
            }
            down.unsplit(server.output().split());
            while let Some(event) = client.input(&mut down).unwrap() {
                assert_eq!(event, ClientEvent::Started);
                started = true;
                if purpose == Purpose::Publish {
                    client.send_metadata(vec![("width".into(), 640.0.into())]);
                    client.send_video(u32::MAX - 1, &[b"\x17\x01\0\0\0", b"nal"]);
                    client.send_audio(5, &[b"\xaf\x01", &[1; 100]]);
                    client.finish();
                }
            }
        }
        assert!(started);
        let token = vec![("token".to_owned(), "t".to_owned())];
        let target = Target { app: "LiveApp".into(), stream: "cam1".into(), query: token };
        match purpose {
            Purpose::Play => assert_eq!(seen[1], Event::Play(target)),
            Purpose::Publish => {
                assert_eq!(seen[1], Event::Publish(target));
                assert!(matches!(&seen[2], Event::Metadata(p) if p[0].0 == "width"));
                assert!(
                    matches!(&seen[3], Event::Video { timestamp: 0xffff_fffe, payload } if payload.ends_with(b"nal"))
                );
                assert!(matches!(&seen[4], Event::Audio { timestamp: 5, payload } if payload.len() == 102));
                assert_eq!(seen[5], Event::Unpublish);
            }
        }
    }
}
