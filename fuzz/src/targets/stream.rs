//! A publisher's messages all the way: through the ingest into the hub, and out of it as HLS.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use http::{Method, Request, Response, StatusCode};
use sluice_media::session::{self, Egress, Play, Protocol, Refusal};
use sluice_media::stats::ViewerGuard;
use sluice_media::{Event, Hub, Origin, Stamp, Start, Stream, StreamKey, StreamSettings, Timestamp};
use sluice_package::validate::{Ask, Checker, parse};
use sluice_package::{HlsSettings, SegmentType, Service};
use sluice_rtmp::ingest::Ingest;

/// Bytes before the body of each message of the input: the kind (see [`VIDEO`] and the like), the milliseconds since
/// the one before (16 bits), and the length of the body (16 bits).
const HEAD: usize = 5;
/// The message is video, else audio.
const VIDEO: u8 = 1;
/// Before the message a viewer fetches all there is.
const VIEW: u8 = 0x40;
/// Before the message the publisher's connection breaks, and it comes back on another.
const BREAK: u8 = 0x80;
/// So often a viewer comes at most, as it takes the most time.
const VIEWS: usize = 4;
/// With frames no further apart than this, a segment never lasts longer than its target.
const STEP: Duration = Duration::from_millis(500);
/// The hub dates segments by their media until that is 30 s from the wall clock.
const AHEAD: Timestamp = Timestamp::from_millis(28_000);
const APP: &str = "LiveApp";
const ID: &str = "cam1";

/// Messages, and what of them matters.
pub(crate) const MESSAGE_WORDS: &[&[u8]] = &[
    &[1, 0, 40, 0, 11, 0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 0x80],
    &[1, 0, 40, 0, 11, 0x27, 1, 0, 0, 40, 0, 0, 0, 2, 0x41, 0x80],
    &[1, 0, 0, 0, 12, 0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x1e, 0xff, 0xe0, 0],
    &[0, 0, 23, 0, 4, 0xaf, 1, 0x21, 0],
    &[0, 0, 0, 0, 4, 0xaf, 0, 0x12, 0x10],
    &[0, 0, 26, 0, 5, 0x2f, 0xff, 0xfb, 0x90, 0x64],
    &[0x41, 0, 40, 0, 11, 0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 0x80],
    &[0x80, 0, 0, 0, 4, 0xaf, 0, 0x12, 0x10],
    &[0xff, 0xff],
    &[0x07, 0xd0],
    &[0x1f, 0x40],
];

/// What requests are made of.
pub(crate) const REQUEST_WORDS: &[&[u8]] = &[
    b"GET ",
    b"HEAD ",
    b"/LiveApp/streams/",
    b"cam1.m3u8",
    b"cam1/v0.m3u8",
    b"cam1/a0.m3u8",
    b"cam1/t0.m3u8",
    b"cam1/v0_init_0.mp4",
    b"cam1/v0_101.m4s",
    b"cam1/v0_101.3.m4s",
    b"cam1/t0_101.ts",
    b"ll-hls/cam1/cam1__master.m3u8",
    b"_adaptive",
    b"?session=0123456789abcdef",
    b"&_HLS_msn=",
    b"&_HLS_part=",
    b"&_HLS_skip=YES",
    b"&token=",
    b"\nrange: bytes=0-10",
    b"\nrange: bytes=-",
    b"\naccept-encoding: gzip;q=0.5",
    b"%2e%2e/",
    b"%2F",
    b"../",
    b"102",
];

/// Lets viewers play what is in the hub.
struct Open(Arc<Hub>);

#[async_trait::async_trait]
impl Egress for Open {
    async fn play(&self, request: session::Request) -> Result<Play, Refusal> {
        let stream = self.0.get(&request.key).ok_or(Refusal::NotLive(request.key))?;
        let viewer = ViewerGuard::new(stream.stats().clone(), Protocol::Hls);
        Ok(Play { stream, viewer })
    }
}

/// Runs with a clock that jumps ahead whenever all wait, so that no waiting takes time.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O").block_on(work)
}

fn new_hub() -> (Arc<Hub>, Ingest) {
    let hub = Hub::new(Duration::from_secs(10));
    let key = StreamKey::new(APP, ID);
    let origin = Origin { epoch: 7, media_sequence: 100, discontinuity_sequence: 5, ..Origin::default() };
    let publisher = hub.publish(key, origin, StreamSettings::default()).expect("nobody else publishes");
    (hub, Ingest::new(publisher))
}

/// Audio and video messages of a publisher: the first byte chooses the HLS settings, then messages as in [`HEAD`].
pub(crate) fn stream(data: &[u8]) {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    run(async {
        let (hub, mut ingest) = new_hub();
        let stream = ingest.publisher().stream().clone();
        let settings = HlsSettings {
            low_latency: choice & 1 == 0,
            segment_type: if choice & 6 == 6 { SegmentType::MpegTs } else { SegmentType::Fmp4 },
            ..HlsSettings::default()
        };
        let site = Site { service: Service::new(Arc::new(Open(hub.clone())), Arc::new(move |_| settings)) };
        let (mut checks, mut views) = (HashMap::new(), 0);
        let mut time = 0u32;
        while let Some((&[what, d1, d2, l1, l2], tail)) = rest.split_first_chunk::<HEAD>() {
            let (body, tail) = tail.split_at(usize::from(u16::from_be_bytes([l1, l2])).min(tail.len()));
            rest = tail;
            if what & VIEW != 0 && views < VIEWS && stream.segmentation().is_some() {
                views += 1;
                site.watch(&mut checks, false).await;
            }
            if what & BREAK != 0 {
                drop(ingest);
                let again = hub.resume(stream.key()).expect("the stream waits for its publisher");
                ingest = Ingest::new(again);
            }
            time = time.wrapping_add(u32::from(u16::from_be_bytes([d1, d2])));
            // 0xffff is for clocks that jump.
            if (d1, d2) == (0xff, 0xff) {
                time = time.wrapping_mul(0x9e37_79b1);
            }
            let body = Bytes::copy_from_slice(body);
            let outcome = if what & VIDEO != 0 { ingest.video(time, body) } else { ingest.audio(time, body) };
            if outcome.is_err() {
                break;
            }
            ingest.flush();
        }
        if stream.segmentation().is_some() {
            site.watch(&mut checks, false).await;
        }
        ingest.finish();
        let (longest, newest) = read(&stream).await;
        if stream.segmentation().is_some() {
            site.watch(&mut checks, true).await;
        }
        // A picture that is shown for longer than a part or a segment may last cannot be cut, and one that is shown
        // long after its time moves the dates; how parts fit steady frame rates is for the package's own tests. And all
        // comes at once here, so dates are set anew where the media is far ahead of the wall clock.
        let odd = longest > STEP;
        let ahead = newest > AHEAD;
        let excused = |rule: &&String| {
            rule.contains("of the part target")
                || rule.contains("than the part target")
                || odd && rule.contains("than the target duration")
                || (odd || ahead) && rule.contains("the date of segment")
        };
        for (uri, checker) in checks {
            let broken: Vec<_> = checker.broken().iter().filter(|rule| !excused(rule)).collect();
            assert!(broken.is_empty(), "{uri} breaks rules: {broken:#?}");
        }
    });
}

/// Reads the stream as an egress does, and checks what the hub promises. The longest time from one frame to the next,
/// or from the decoding of one to its showing; and the newest time.
async fn read(stream: &Arc<Stream>) -> (Duration, Timestamp) {
    let mut reader = stream.subscribe(Start::Oldest, Duration::from_secs(3600));
    let mut last: HashMap<u8, (Timestamp, Option<Arc<Stamp>>)> = HashMap::new();
    let (mut longest, mut newest) = (Duration::ZERO, Timestamp::ZERO);
    loop {
        match reader.next().await {
            Event::Group { track, group } => {
                let stamp = group.head.stamp.clone();
                assert!(stamp.segment_start <= stamp.start, "a segment starts after its group");
                let (_, before) = last.entry(track).or_insert((Timestamp(i64::MIN), None));
                if let Some(b) = before.replace(stamp.clone()) {
                    assert!(b.group < stamp.group, "groups go back: {b:?}, then {stamp:?}");
                    assert!(
                        b.media_sequence <= stamp.media_sequence,
                        "segments go back: {b:?}, then {stamp:?}"
                    );
                    assert!(b.discontinuity_sequence <= stamp.discontinuity_sequence);
                    assert!(b.start <= stamp.start, "time goes back: {b:?}, then {stamp:?}");
                }
            }
            Event::Frame { track, frame } => {
                let (at, stamp) = last.get_mut(&track).expect("a group begins before its frames");
                assert!(stamp.is_some() && frame.dts > *at, "track {track} stands still at {:?}", frame.dts);
                assert!(frame.pts >= frame.dts);
                let step = if at.0 == i64::MIN { Duration::ZERO } else { frame.dts.since(*at) };
                longest = longest.max(step).max(frame.pts.since(frame.dts));
                *at = frame.dts;
                newest = newest.max(frame.dts);
            }
            Event::Skipped { groups } => panic!("{groups} groups skipped by a reader that may be behind"),
            Event::End => return (longest, newest),
        }
    }
}

struct Site {
    service: Service,
}

impl Site {
    async fn get(&self, uri: &str) -> Response<Bytes> {
        let request =
            Request::builder().uri(uri).body(()).unwrap_or_else(|e| panic!("{uri:?} is no URI: {e}"));
        let (parts, ()) = request.into_parts();
        self.service.handle(&parts, peer()).await
    }

    /// Fetches the playlists of the stream, which may have `ended`, and all that they name.
    async fn watch(&self, checks: &mut HashMap<String, Checker>, ended: bool) {
        let path = format!("/{APP}/streams/{ID}.m3u8?session=0123456789abcdef");
        let answer = self.get(&path).await;
        check_answer(&answer);
        if answer.status() != StatusCode::OK {
            // Nothing to show: no whole segment, or a codec that MPEG-TS cannot carry.
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            return;
        }
        let text = text_of(&answer);
        if !text.contains("#EXT-X-STREAM-INF") {
            return self.media(&path, &text, checks).await;
        }
        check_lines(&text);
        for uri in uris(&text) {
            let path = resolve(&path, &uri);
            let answer = self.get(&path).await;
            check_answer(&answer);
            // A track may have sent a single frame so far: its first part is waited for, and does not come.
            if answer.status() == StatusCode::SERVICE_UNAVAILABLE && !ended {
                continue;
            }
            assert_eq!(answer.status(), StatusCode::OK, "{path} is in the playlist");
            self.media(&path, &text_of(&answer), checks).await;
        }
    }

    async fn media(&self, path: &str, text: &str, checks: &mut HashMap<String, Checker>) {
        check_lines(text);
        let checker = checks.entry(path.to_owned()).or_insert_with(|| Checker::new(Duration::from_secs(1)));
        let Some(playlist) = checker.observe(Ask::default(), Duration::ZERO, text) else { return };
        for segment in playlist.segments.clone() {
            if let Some(init) = &segment.map {
                boxes(&self.file(path, init).await, init);
            }
            let mut parts = Vec::new();
            for part in &segment.parts {
                let bytes = self.file(path, &part.uri).await;
                boxes(&bytes, &part.uri);
                parts.extend_from_slice(&bytes);
            }
            let Some(uri) = segment.uri.filter(|_| !segment.gap) else { continue };
            let whole = self.file(path, &uri).await;
            assert!(parts.is_empty() || parts == whole, "{uri} is not its parts in a row");
            if uri.ends_with(".ts") {
                let packets = whole.chunks(188);
                assert!(
                    packets.clone().all(|p| p.len() == 188 && p[0] == 0x47),
                    "{uri} is not made of packets"
                );
            } else {
                boxes(&whole, &uri);
            }
        }
    }

    /// A file that the playlist at `base` names.
    async fn file(&self, base: &str, uri: &str) -> Bytes {
        let path = resolve(base, uri);
        let answer = self.get(&path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path} is in the playlist");
        check_answer(&answer);
        answer.into_body()
    }
}

fn peer() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 40_000).into()
}

fn text_of(answer: &Response<Bytes>) -> String {
    String::from_utf8(answer.body().to_vec()).expect("playlists are UTF-8")
}

/// What a playlist's lines and quoted attributes must be, whatever a publisher or a client put into them.
fn check_lines(text: &str) {
    for line in text.lines() {
        assert_eq!(line.matches('"').count() % 2, 0, "an open quotation: {line:?}");
        assert!(line.chars().all(|c| !c.is_control()), "a control character: {line:?}");
        assert!(line.starts_with('#') || !line.contains([' ', '"', '<', '>']), "no URI: {line:?}");
    }
}

/// The URIs of a multivariant playlist: of variants, and of renditions in quotation marks.
fn uris(text: &str) -> Vec<String> {
    let quoted = text.lines().filter_map(|l| Some(l.split_once("URI=\"")?.1.split('"').next()?.to_owned()));
    let plain = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(str::to_owned);
    quoted.chain(plain).collect()
}

/// A relative URI against the path of the playlist that has it.
fn resolve(base: &str, uri: &str) -> String {
    let folder = base.split('?').next().and_then(|p| p.rsplit_once('/')).map_or("", |(f, _)| f);
    let mut path = format!("{folder}/{uri}");
    while let Some((front, back)) = path.split_once("/../") {
        path = format!("{}/{back}", front.rsplit_once('/').map_or("", |(f, _)| f));
    }
    path
}

/// The boxes of a file: each ends where the next begins, down into those that hold others.
fn boxes(data: &[u8], path: &str) {
    const HOLD: [&[u8]; 9] =
        [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"mvex", b"moof", b"traf"];
    let mut rest = data;
    while !rest.is_empty() {
        let (head, body) = rest.split_first_chunk::<8>().unwrap_or_else(|| panic!("{path}: half a box"));
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        assert!(size >= 8 && size <= rest.len(), "{path}: a box of {size} bytes in {}", rest.len());
        if HOLD.contains(&&head[4..]) {
            boxes(&body[..size - 8], path);
        }
        rest = &rest[size..];
    }
}

/// The first byte chooses the HLS settings, then a request as text: method and URI, then headers, each on a line.
/// Asked of a stream with three segments.
pub(crate) fn request(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut lines = text.lines();
    let (method, uri) = lines.next().and_then(|l| l.split_once(' ')).unwrap_or(("GET", "/"));
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines.take(16) {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        request = request.header(name, value);
    }
    // What hyper refuses does not reach us.
    let Ok(request) = request.body(()) else { return };
    let (parts, ()) = request.into_parts();

    run(async {
        let (hub, mut ingest) = new_hub();
        publish(&mut ingest);
        let settings = HlsSettings {
            low_latency: choice & 1 == 0,
            segment_type: if choice & 6 == 6 { SegmentType::MpegTs } else { SegmentType::Fmp4 },
            ..HlsSettings::default()
        };
        let service = Service::new(Arc::new(Open(hub)), Arc::new(move |_| settings));
        let answer = service.handle(&parts, peer()).await;
        check_answer(&answer);
        if parts.method == Method::HEAD {
            assert!(answer.body().is_empty());
        }
        let allowed = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        assert_eq!(answer.status() == StatusCode::METHOD_NOT_ALLOWED, !allowed);
        let playlist =
            answer.headers().get(CONTENT_TYPE).is_some_and(|t| t == "application/vnd.apple.mpegurl");
        let plain = !answer.headers().contains_key(http::header::CONTENT_ENCODING);
        if playlist && plain && parts.method == Method::GET {
            let text = text_of(&answer);
            check_lines(&text);
            if !text.contains("#EXT-X-STREAM-INF") {
                parse(&text).unwrap_or_else(|e| panic!("not a media playlist: {e}\n{text}"));
            }
        }
    });
}

/// Three segments of video and audio: what they hold does not matter to requests.
fn publish(ingest: &mut Ingest) {
    let avcc = b"\x17\0\0\0\0\x01\x42\xc0\x1e\xff\xe0\0";
    ingest.video(0, Bytes::from_static(avcc)).expect("H.264 without parameter sets");
    ingest.audio(0, Bytes::from_static(b"\xaf\0\x12\x10")).expect("AAC");
    for i in 0..35 {
        let picture: &[u8] = if i % 10 == 0 {
            b"\x17\x01\0\0\0\0\0\0\x02\x65\x80"
        } else {
            b"\x27\x01\0\0\0\0\0\0\x02\x41\x80"
        };
        ingest.video(i * 200, Bytes::from_static(picture)).expect("the stream goes on");
        ingest.audio(i * 200, Bytes::from_static(b"\xaf\x01\x21\0")).expect("the stream goes on");
    }
    ingest.flush();
}

/// What holds for each answer.
fn check_answer(answer: &Response<Bytes>) {
    let status = answer.status();
    assert!(
        matches!(status.as_u16(), 200 | 204 | 206 | 302 | 400 | 404 | 405 | 416 | 503),
        "an answer of {status} was not meant"
    );
    for (name, value) in answer.headers() {
        assert!(value.as_bytes().iter().all(|b| (0x20..0x7f).contains(b)), "{name}: {value:?}");
    }
    if let Some(to) = answer.headers().get(LOCATION) {
        let to = to.to_str().expect("was checked");
        let path = to.split(['?', '#']).next().unwrap_or("");
        assert!(!path.starts_with('/') && !path.contains([':', '\\']), "sends clients to {to:?}");
    }
    if status == StatusCode::PARTIAL_CONTENT && !answer.body().is_empty() {
        let range = answer.headers()[CONTENT_RANGE].to_str().expect("was checked");
        let (from, to) =
            range["bytes ".len()..].split_once('/').and_then(|(r, _)| r.split_once('-')).expect("a range");
        let (from, to): (usize, usize) = (from.parse().expect("a number"), to.parse().expect("a number"));
        assert_eq!(to + 1 - from, answer.body().len());
    }
    if let Some(length) = answer.headers().get(CONTENT_LENGTH).filter(|_| !answer.body().is_empty()) {
        assert_eq!(length.to_str().ok().and_then(|l| l.parse().ok()), Some(answer.body().len()));
    }
}
