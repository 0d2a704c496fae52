//! Makes the corpus anew, from recordings of real clients and real encoders' files, and from our own writers.
//!
//! ```text
//! seeds FOLDER
//! ```
//!
//! FOLDER has what `record` wrote, and one-frame MP4 files (`*.mp4`), from which the codecs' configuration records
//! and a sample are taken; scripts/corpus.sh makes all of it. What fuzzing has found and kept stays as it is.

mod rtc;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use sluice_cluster::member::NodeId;
use sluice_cluster::wire::{self, Accepted, EndReason, Held, Open};
use sluice_fuzz::Random;
use sluice_media::aside::Sender;
use sluice_media::codec::nal;
use sluice_media::{
    Arrived, AudioConfig, Frame, GroupHead, MetaValue, Origin, Position, Segmentation, Stamp, StreamKey,
    StreamSettings, Timestamp, TrackConfig, VideoConfig,
};
use sluice_rtmp::chunk::{Limits, Message, Reader};
use sluice_rtmp::flv;
use sluice_rtmp::message::kind;
use sluice_rtmp::session::{Client, ClientEvent, Event, Purpose, Server, Url};

/// Longer messages are left out of the corpora of single messages.
const LONGEST: usize = 1500;
/// So many messages of one kind are taken from each recording.
const EACH: usize = 4;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: seeds FOLDER");
        return ExitCode::from(2);
    };
    match make(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("making the corpus from {folder}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(folder: &Path) -> io::Result<()> {
    relay()?;
    rtc::write()?;
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?.flatten().map(|e| e.path()).collect();
    paths.sort();
    let mut sources = Sources::default();
    for path in &paths {
        let data = fs::read(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        match path.extension().and_then(|e| e.to_str()) {
            Some("handshake") => put("rtmp_handshake", &name, &data)?,
            Some("session") => {
                put("rtmp_session", &name, &data)?;
                take_apart(&name, &data)?;
            }
            Some("mp4") => sources.take(&name, &data)?,
            _ => {}
        }
    }
    enhanced(&sources)?;
    by_hand()
}

fn put(target: &str, name: &str, data: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), data)
}

/// The messages of a recorded session, into the corpora of the layers above.
fn take_apart(name: &str, session: &[u8]) -> io::Result<()> {
    let (mut reader, mut input) = (Reader::new(Limits::default()), BytesMut::from(session));
    let mut taken = [0; 256];
    // What the recorded bytes do as a stream; the settings of HLS differ from recording to recording.
    let (mut stream, mut last) = (vec![Random::of(name.as_bytes()).bits() as u8], 0);
    while let Some(message) = reader.read(&mut input).map_err(io::Error::other)? {
        if matches!(message.type_id, kind::AUDIO | kind::VIDEO) {
            stream_message(
                &mut stream,
                message.type_id,
                message.timestamp.wrapping_sub(last),
                &message.payload,
            );
            last = message.timestamp;
        }
        let n = &mut taken[usize::from(message.type_id)];
        if *n < EACH && message.payload.len() <= LONGEST {
            *n += 1;
            one_message(&format!("{name}_{}_{n}", message.type_id), &message)?;
        }
    }
    if stream.len() > 1 { put("hls_stream", name, &stream) } else { Ok(()) }
}

/// Appends a message as the target `hls_stream` takes them.
fn stream_message(stream: &mut Vec<u8>, type_id: u8, after: u32, body: &[u8]) {
    stream.push(u8::from(type_id == kind::VIDEO));
    stream.extend_from_slice(&(after as u16).to_be_bytes());
    stream.extend_from_slice(&(body.len() as u16).to_be_bytes());
    stream.extend_from_slice(body);
}

fn one_message(name: &str, message: &Message) -> io::Result<()> {
    let whole = [&[message.type_id], &message.payload[..]].concat();
    match message.type_id {
        kind::COMMAND | kind::DATA => {
            put("rtmp_amf0", name, &message.payload)?;
            put("rtmp_message", name, &whole)
        }
        kind::AUDIO => {
            match flv::parse_audio(message.payload.clone()) {
                Ok(flv::Audio::Config { record, .. }) => put("codec_asc", name, &record)?,
                Ok(flv::Audio::Frame { codec: sluice_media::AudioCodec::Mp3, payload }) => {
                    put("codec_mp3", name, &payload)?;
                }
                _ => {}
            }
            put("rtmp_tag", name, &whole)
        }
        kind::VIDEO => {
            match flv::parse_video(message.payload.clone()) {
                Ok(flv::Video::Config { record, .. }) => put("codec_avcc", name, &record)?,
                Ok(flv::Video::Frame { payload, .. }) => nal_units(name, 0, &payload)?,
                _ => {}
            }
            put("rtmp_tag", name, &whole)
        }
        _ => put("rtmp_message", name, &whole),
    }
}

/// An access unit with 4-byte lengths, and the same with start codes. `codec` is 0 for H.264 and 1 for HEVC.
fn nal_units(name: &str, codec: u8, payload: &[u8]) -> io::Result<()> {
    put("codec_nal", name, &[&[4 << 1 | codec], payload].concat())?;
    let annex_b: Vec<u8> = nal::units(payload).flat_map(|unit| [&[0, 0, 0, 1], unit].concat()).collect();
    put("codec_nal", &format!("{name}_annexb"), &[&[codec][..], &annex_b].concat())
}

/// Configuration records and a sample of each, by the name of their box.
#[derive(Default)]
struct Sources(Vec<(String, Bytes, Bytes)>);

impl Sources {
    fn take(&mut self, name: &str, file: &[u8]) -> io::Result<()> {
        let sample = boxed(file, b"mdat").unwrap_or_default();
        let sample = &sample[..sample.len().min(LONGEST)];
        let file_type =
            [b"avcC", b"hvcC", b"av1C", b"vpcC", b"dOps"].into_iter().find(|k| boxed(file, k).is_some());
        let Some(kind) = file_type else { return Ok(()) };
        let record = boxed(file, kind).unwrap_or_default();
        let kind = String::from_utf8_lossy(kind).into_owned();
        match kind.as_str() {
            "avcC" | "hvcC" => nal_units(name, u8::from(kind == "hvcC"), sample)?,
            "av1C" => put("codec_av1", name, sample)?,
            "vpcC" => put("codec_vpx", name, sample)?,
            _ => {}
        }
        let target = match kind.as_str() {
            "dOps" => "codec_opus".to_owned(),
            other => format!("codec_{}", other.to_lowercase()),
        };
        put(&target, name, record)?;
        self.0.push((kind, Bytes::copy_from_slice(record), Bytes::copy_from_slice(sample)));
        Ok(())
    }

    fn of(&self, kind: &str) -> io::Result<(Bytes, Bytes)> {
        let found = self.0.iter().find(|(k, ..)| k == kind);
        let (_, record, sample) =
            found.ok_or_else(|| io::Error::other(format!("no file has a {kind} box")))?;
        Ok((record.clone(), sample.clone()))
    }
}

/// The body of the first box of a kind, wherever it is.
fn boxed<'a>(file: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    let at = file.windows(4).position(|w| w == kind)?;
    let size = u32::from_be_bytes(file.get(at.checked_sub(4)?..at)?.try_into().ok()?) as usize;
    file.get(at + 4..at + size.checked_sub(4)?)
}

/// Our own client publishes what the recorded ones cannot: enhanced RTMP. Both directions are kept.
fn enhanced(sources: &Sources) -> io::Result<()> {
    let error = io::Error::other::<sluice_media::CodecError>;
    let (record, hevc) = sources.of("hvcC")?;
    let hvcc = VideoConfig::hevc(record).map_err(error)?;
    let (record, av1) = sources.of("av1C")?;
    let av1c = VideoConfig::av1(record).map_err(error)?;
    let (record, vp9) = sources.of("vpcC")?;
    let vpcc = VideoConfig::vp9(record).map_err(error)?;
    let (record, packet) = sources.of("dOps")?;
    let opus = AudioConfig::opus(record).map_err(error)?;
    for (name, config, picture) in [("hevc", hvcc, hevc), ("av1", av1c, av1), ("vp9", vpcc, vp9)] {
        let mut bodies = vec![(kind::VIDEO, flv::video_config(&config).to_vec())];
        bodies.extend(flv::audio_config(&opus).map(|b| (kind::AUDIO, b.to_vec())));
        for keyframe in [true, false] {
            let head = flv::video_header(config.codec, keyframe, 0);
            bodies.push((kind::VIDEO, [&head[..], &picture].concat()));
            let head = flv::audio_header(&opus);
            bodies.push((kind::AUDIO, [&head[..], &packet[..packet.len().min(200)]].concat()));
        }
        for (i, (type_id, body)) in bodies.iter().enumerate() {
            put("rtmp_tag", &format!("enhanced_{name}_{i}"), &[&[*type_id], &body[..]].concat())?;
        }
        let (up, _) = talk(Purpose::Publish, &bodies)?;
        put("rtmp_session", &format!("enhanced_{name}"), &up)?;
    }
    let (up, down) = talk(Purpose::Play, &[])?;
    put("rtmp_session", "play", &up)?;
    put("rtmp_client", "play", &down)?;
    let (_, down) = talk(Purpose::Publish, &[])?;
    put("rtmp_client", "publish", &down)
}

/// What our client and our server say to each other behind the handshake.
fn talk(purpose: Purpose, bodies: &[(u8, Vec<u8>)]) -> io::Result<(Vec<u8>, Vec<u8>)> {
    const HANDSHAKE: usize = 3073;
    let url =
        Url::parse("rtmp://127.0.0.1/LiveApp/cam1?token=t").ok_or_else(|| io::Error::other("the URL"))?;
    let (mut client, mut server) = (Client::new(url, purpose, 7), Server::new(8, Limits::default()));
    let (mut up, mut down, mut all_up, mut all_down) = (BytesMut::new(), BytesMut::new(), vec![], vec![]);
    for _ in 0..10 {
        let said = client.output().split();
        all_up.extend_from_slice(&said);
        up.extend_from_slice(&said);
        while let Some(event) = server.input(&mut up).map_err(io::Error::other)? {
            match event {
                Event::Connect { .. } => server.accept_connect(),
                Event::Publish(_) => server.accept_publish(),
                Event::Play(_) => {
                    server.accept_play();
                    server.ping(1);
                    server.end("the stream is over");
                }
                _ => {}
            }
        }
        let said = server.output().split();
        all_down.extend_from_slice(&said);
        down.extend_from_slice(&said);
        while let Some(event) = client.input(&mut down).map_err(io::Error::other)? {
            if event == ClientEvent::Started && purpose == Purpose::Publish {
                client.send_metadata(vec![("width".into(), 64.0.into()), ("encoder".into(), "ours".into())]);
                for (i, (type_id, body)) in bodies.iter().enumerate() {
                    let time = i as u32 * 20;
                    match *type_id {
                        kind::AUDIO => client.send_audio(time, &[body]),
                        _ => client.send_video(time, &[body]),
                    }
                }
                client.finish();
            }
        }
    }
    Ok((all_up.split_off(HANDSHAKE.min(all_up.len())), all_down.split_off(HANDSHAKE.min(all_down.len()))))
}

/// What no client here sends.
fn by_hand() -> io::Result<()> {
    let mut simple = vec![0; 3073];
    simple[0] = 3;
    put("rtmp_handshake", "simple", &simple)?;

    let tag = |type_id: u8, time: u8, body: &[u8]| {
        let mut tag = vec![type_id, 0, 0, body.len() as u8, 0, 0, time, 0, 0, 0, 0];
        tag.extend_from_slice(body);
        tag.extend_from_slice(&[0, 0, 0, 11 + body.len() as u8]);
        tag
    };
    let two = [tag(8, 0, b"\xaf\x01aac"), tag(9, 40, b"\x27\x01\0\0\0nal")].concat();
    put("rtmp_aggregate", "two", &two)?;
    put("rtmp_aggregate", "nested", &tag(kind::AGGREGATE, 0, &two))?;

    for (name, text) in [
        ("plain", "LiveApp\nrtmp://127.0.0.1:1935/LiveApp\ncam1?token=a%20b&x"),
        ("path", "LiveApp/cam1\nrtmp://127.0.0.1/LiveApp/cam1?a=b\ntoken/subscriber/123456"),
        ("url", "rtmps://[::1]:8443/LiveApp/sub/cam1?token=a&b=c"),
    ] {
        put("rtmp_target", name, text.as_bytes())?;
    }
    // Streams with tiny frames: many of them, so that there are segments. The last number is milliseconds a frame.
    for (name, choice, frames, group, step) in [
        ("low_latency", 0, 70, 10, 100),
        ("long_groups", 0, 40, 20, 400),
        ("plain", 1, 60, 10, 100),
        ("ts", 7, 60, 10, 100),
    ] {
        let mut stream = vec![choice];
        stream_message(&mut stream, kind::VIDEO, 0, b"\x17\0\0\0\0\x01\x42\xc0\x1e\xff\xe0\0");
        stream_message(&mut stream, kind::AUDIO, 0, b"\xaf\0\x12\x10");
        for i in 0..frames {
            let head = if i % group == 0 { [0x17, 1, 0, 0, 0] } else { [0x27, 1, 0, 0, 40] };
            let nal: [u8; 6] =
                if i % group == 0 { [0, 0, 0, 2, 0x65, 0x80] } else { [0, 0, 0, 2, 0x41, 0x80] };
            let at = stream.len();
            stream_message(&mut stream, kind::VIDEO, step / 2, &[&head[..], &nal].concat());
            // Now and then a viewer looks.
            stream[at] |= if i % 23 == 22 { 0x40 } else { 0 };
            stream_message(&mut stream, kind::AUDIO, step / 2, b"\xaf\x01\x21\0");
        }
        put("hls_stream", name, &stream)?;
        // The connection breaks in the middle; the publisher comes back and starts from its headers.
        let (at, all) = (stream.len(), stream.clone());
        stream.extend_from_slice(&all[1..]);
        stream[at] |= 0x80;
        put("hls_stream", &format!("{name}_resumed"), &stream)?;
    }
    for (i, (choice, text)) in [
        (0, "GET /LiveApp/streams/cam1.m3u8"),
        (0, "GET /LiveApp/streams/cam1.m3u8?token=a%20b\naccept-encoding: gzip"),
        (0, "GET /LiveApp/streams/cam1_adaptive.m3u8"),
        (0, "GET /LiveApp/streams/ll-hls/cam1/cam1__master.m3u8"),
        (0, "GET /LiveApp/streams/cam1/v0.m3u8"),
        (0, "GET /LiveApp/streams/cam1/v0.m3u8?session=0123456789abcdef&_HLS_msn=101&_HLS_part=2&_HLS_skip=YES"),
        (0, "GET /LiveApp/streams/cam1/a0.m3u8?session=0123456789abcdef&_HLS_msn=103"),
        (1, "HEAD /LiveApp/streams/cam1/a0.m3u8?session=0123456789abcdef"),
        (0, "GET /LiveApp/streams/cam1/v0_init_0.mp4\nrange: bytes=0-99"),
        (0, "GET /LiveApp/streams/cam1/v0_100.m4s\nrange: bytes=-20"),
        (0, "GET /LiveApp/streams/cam1/v0_100.1.m4s"),
        (7, "GET /LiveApp/streams/cam1/t0_100.ts"),
        (7, "GET /LiveApp/streams/cam1.m3u8?session=0123456789abcdef"),
        (0, "OPTIONS /LiveApp/streams/cam1.m3u8\norigin: http://example.org"),
        (0, "POST /LiveApp/streams/cam1.m3u8"),
    ]
    .iter()
    .enumerate()
    {
        put("hls_request", &format!("{i}"), &[&[*choice], text.as_bytes()].concat())?;
    }
    put("codec_opus", "head", b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0")?;
    put(
        "codec_opus",
        "surround",
        b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\0\0\x01\x04\x02\0\x04\x01\x02\x03\x05",
    )?;
    put("codec_vpx", "vp8", &[0x10, 0, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xf0, 0, 1, 2, 3])?;

    let frames = |times: &mut dyn Iterator<Item = (u8, u32)>| -> Vec<u8> {
        let record = |(track, time): (u8, u32)| [&[track, 0, 0, 40][..], &time.to_be_bytes()].concat();
        times.flat_map(record).collect()
    };
    put("timeline", "steady", &frames(&mut (0..40).map(|i| ((i % 2) as u8, i * 20))))?;
    put("timeline", "wrap", &frames(&mut (0..40u32).map(|i| (0, (i * 40).wrapping_sub(800)))))?;
    let mut random = Random::new(1);
    put("timeline", "jumps", &frames(&mut (0..40).map(|i| ((i % 3) as u8, random.bits() as u32))))
}

/// What a source and an asker of the relay say, written by our own encoder.
fn relay() -> io::Result<()> {
    let key = StreamKey::new("LiveApp", "cam1");
    let open = |held| Open {
        version: wire::VERSION,
        key: key.clone(),
        node: NodeId::new("b"),
        backfill: true,
        held,
    };
    let newest = Position { video: true, index: 0, epoch: 0, group: 1, frames: 4 };
    put("relay_asker", "new", &said(vec![wire::Message::Open(open(Vec::new()))])?)?;
    let first = Open { version: wire::OLDEST, ..open(Vec::new()) };
    put("relay_asker", "first_version", &said(vec![wire::Message::Open(first)])?)?;
    let resumed = open(vec![Held { newest, oldest: (0, 1) }]);
    put("relay_asker", "resumed", &said(vec![wire::Message::Open(resumed), wire::Message::Ping])?)?;

    let message = |from, text, payload: &'static [u8]| wire::Message::Said {
        from,
        text,
        payload: Bytes::from_static(payload),
    };
    let beside = vec![
        wire::Message::Open(open(Vec::new())),
        wire::Message::Needs { aac: true, opus: false },
        wire::Message::WantKeyframe,
        message(Sender::Player, true, b"hello"),
        wire::Message::Needs { aac: false, opus: true },
        message(Sender::Player, false, &[0, 255]),
    ];
    put("relay_asker", "beside", &said(beside)?)?;

    let avcc = Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0]);
    let video = TrackConfig::Video(VideoConfig::h264(avcc).map_err(io::Error::other)?);
    let asc = Bytes::from_static(&[0x12, 0x10]);
    let audio = TrackConfig::Audio(AudioConfig::aac(asc).map_err(io::Error::other)?);
    let head = |group: u64, epoch, config: &TrackConfig| GroupHead {
        stamp: Arc::new(Stamp {
            epoch,
            group,
            media_sequence: group,
            discontinuity_sequence: 0,
            segment_start: Timestamp(group as i64 * 1_000_000),
            start: Timestamp(group as i64 * 1_000_000),
            wall_clock: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + group),
        }),
        config: Arc::new(config.clone()),
        independent: true,
        leads: true,
    };
    let frame = |order: u64, dts: i64| Arrived {
        order,
        frame: Frame {
            dts: Timestamp(dts),
            pts: Timestamp(dts + 40_000),
            keyframe: order.is_multiple_of(5),
            payload: Bytes::from(vec![order as u8; 12]),
        },
    };
    let segmentation =
        Segmentation { target_duration: Duration::from_secs(2), part_target: Duration::from_millis(200) };
    let accepted = Accepted {
        origin: Origin { segmentation: Some(segmentation), ..Origin::default() },
        settings: StreamSettings::default(),
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        hls: Bytes::from_static(b"{}"),
        path: vec![NodeId::new("a")],
    };
    let mut all = vec![
        wire::Message::Accepted(accepted),
        wire::Message::Track(video.clone()),
        wire::Message::Track(audio.clone()),
        wire::Message::Metadata(vec![
            ("encoder".into(), MetaValue::Text("x".into())),
            ("fps".into(), MetaValue::Number(25.0)),
        ]),
        wire::Message::Interrupted(false),
        wire::Message::Group { track: 0, head: head(5, 1, &video), from: 0 },
        wire::Message::Frame { track: 0, arrived: frame(100, 5_000_000) },
        wire::Message::Group { track: 1, head: head(5, 1, &audio), from: 0 },
    ];
    all.extend((0..6).map(|i| wire::Message::Frame {
        track: (i % 2) as u8,
        arrived: frame(101 + i, 5_010_000 + i as i64 * 10_000),
    }));
    for (track, group) in [(0, 4), (1, 4), (0, 3)] {
        let config = if track == 0 { &video } else { &audio };
        all.push(wire::Message::Past { track, head: head(group, 1, config), frames: 2 });
        all.push(wire::Message::PastFrame(frame(group * 10, group as i64 * 1_000_000)));
        all.push(wire::Message::Ping);
        all.push(wire::Message::PastFrame(frame(group * 10 + 1, group as i64 * 1_000_000 + 1)));
    }
    all.push(message(Sender::Publisher, true, b"to all"));
    all.push(wire::Message::BackfillDone);
    put("relay_source", "whole", &said(all.clone())?)?;
    all.push(wire::Message::Group { track: 0, head: head(0, 2, &video), from: 0 });
    all.push(wire::Message::Frame { track: 0, arrived: frame(0, 7_000_000) });
    all.push(wire::Message::Path(vec![NodeId::new("c"), NodeId::new("a")]));
    put("relay_source", "new_owner", &said(all.clone())?)?;
    all.push(wire::Message::End(EndReason::Ended));
    put("relay_source", "ended", &said(all)?)?;
    let refused = wire::Message::Refused { refusal: wire::Refusal::NotFound, text: "it is not here".into() };
    put("relay_source", "refused", &said(vec![refused])?)?;
    put("cluster_datagram", "name", b"node-1.example.org")?;
    let tick =
        br#"{"type":"tick","counter":5,"member":{"id":"n1","boot":7,"host":"h","ports":{"cluster":5000}}}"#;
    put("cluster_mesh", "tick", &[&(tick.len() as u32).to_be_bytes()[..], tick].concat())?;
    let report = sluice_control::Report {
        node: "demo-origin-0".into(),
        boot: 7,
        draining: Some(sluice_control::Draining { deadline_s: Some(30), ..Default::default() }),
        store: sluice_control::StoreState::Away { since_s: 4 },
        problems: vec!["the database does not answer; what is live goes on".into()],
        ..Default::default()
    };
    put("control_report", "draining", &serde_json::to_vec(&report)?)?;
    let v1beta2 = "/apis/custom.metrics.k8s.io/v1beta2";
    let pool =
        format!("{v1beta2}/namespaces/media/edgepools.sluice.dev/demo-edge/viewers?metricLabelSelector=");
    put("custom_metrics_path", "pool", pool.as_bytes())?;
    let pods = "namespaces/media/pods/%2A/streams?labelSelector=a%3Db%2Cc+in+%28d%2Ce%29%2C%21f%2Cg+notin+%28h%29%2Ci%21%3Dj";
    put("custom_metrics_path", "pods", format!("{v1beta2}/{pods}").as_bytes())?;
    put("custom_metrics_path", "resources", v1beta2.as_bytes())
}

fn said(messages: Vec<wire::Message>) -> io::Result<Vec<u8>> {
    let mut encoder = wire::Encoder::new();
    for message in messages {
        encoder.encode(message).map_err(io::Error::other)?;
    }
    let n = encoder.batch().remaining();
    Ok(encoder.batch().copy_to_bytes(n).to_vec())
}
