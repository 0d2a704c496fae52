//! The whole way, with the real client of the `webrtc` crate over 127.0.0.1: descriptions, sockets, media.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_media::session::{Play, Protocol};
use sluice_media::stats::ViewerGuard;
use sluice_media::{
    AudioConfig, Frame, Hub, Origin, Publisher, StreamKey, StreamSettings, Timestamp, TrackConfig,
};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceConnectionState,
    RTCSessionDescription,
};

use super::*;
use crate::Settings;
use crate::client::{CallError, Endpoint, Kind};
use crate::transport::{Closed, Stats};

const SOON: Duration = Duration::from_secs(10);

/// Lets everybody in.
struct Node(Arc<Hub>);

#[async_trait]
impl Ingress for Node {
    async fn publish(&self, request: Request) -> Result<Publisher, Refusal> {
        let key = request.key;
        self.0
            .publish(key.clone(), Origin::default(), StreamSettings::default())
            .map_err(|_| Refusal::InUse(key))
    }
}

#[async_trait]
impl Egress for Node {
    async fn play(&self, request: Request) -> Result<Play, Refusal> {
        let stream = self.0.get(&request.key).ok_or(Refusal::NotLive(request.key))?;
        let viewer = ViewerGuard::new(stream.stats().clone(), Protocol::WebRtc);
        Ok(Play { stream, viewer })
    }
}

fn serve() -> (Arc<Service>, Arc<Hub>) {
    serve_with(Settings::default())
}

fn serve_with(settings: Settings) -> (Arc<Service>, Arc<Hub>) {
    // Streams whose publisher said no word of the end would stay.
    let hub = Hub::new(Duration::from_secs(60));
    let node = Arc::new(Node(hub.clone()));
    let listen = vec![([127, 0, 0, 1], 0).into()];
    let rtc = Rtc::start(Settings { listen, shards: 1, ..settings }).unwrap();
    (Service::new(rtc, node.clone(), node), hub)
}

fn request(id: &str) -> Request {
    Request {
        key: StreamKey::new("live", id),
        query: Vec::new(),
        peer: ([127, 0, 0, 1], 1).into(),
        user_agent: "test".into(),
        protocol: Protocol::WebRtc,
    }
}

/// Notes how ICE goes.
struct Told(mpsc::UnboundedSender<RTCIceConnectionState>);

#[async_trait]
impl PeerConnectionEventHandler for Told {
    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        let _ = self.0.send(state);
    }
}

struct Client<P> {
    connection: P,
    ice: mpsc::UnboundedReceiver<RTCIceConnectionState>,
}

async fn client() -> Client<impl PeerConnection> {
    let mut engine = MediaEngine::default();
    engine.register_default_codecs().unwrap();
    let (tell, ice) = mpsc::unbounded_channel();
    let builder = PeerConnectionBuilder::new().with_media_engine(engine).with_handler(Arc::new(Told(tell)));
    // The future is large.
    let connection = Box::pin(builder.with_udp_addrs(vec!["127.0.0.1:0"]).build()).await.unwrap();
    Client { connection, ice }
}

impl<P: PeerConnection> Client<P> {
    async fn offer(&self) -> String {
        let offer = self.connection.create_offer(None).await.unwrap();
        self.connection.set_local_description(offer).await.unwrap();
        self.connection.local_description().await.unwrap().sdp
    }

    async fn takes_answer(&self, sdp: &str) {
        let answer = RTCSessionDescription::answer(sdp.to_owned()).unwrap();
        self.connection.set_remote_description(answer).await.unwrap();
    }

    async fn answers(&self, offer: &str) -> String {
        let offer = RTCSessionDescription::offer(offer.to_owned()).unwrap();
        self.connection.set_remote_description(offer).await.unwrap();
        let answer = self.connection.create_answer(None).await.unwrap();
        self.connection.set_local_description(answer.clone()).await.unwrap();
        answer.sdp
    }

    async fn is_connected(&mut self) {
        let connected =
            |state| matches!(state, RTCIceConnectionState::Connected | RTCIceConnectionState::Completed);
        let waits = async { while !connected(self.ice.recv().await.expect("the client is there")) {} };
        tokio::time::timeout(SOON, waits).await.expect("ICE connects");
    }
}

async fn until(events: &mut mpsc::Receiver<SessionEvent>, wanted: impl Fn(&SessionEvent) -> bool) {
    let waits = async { while !wanted(&events.recv().await.expect("the session goes on")) {} };
    tokio::time::timeout(SOON, waits).await.expect("it is told");
}

fn ufrag(sdp: &str) -> &str {
    sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).expect("credentials")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_connects_restarts_ice_and_leaves() {
    let (service, hub) = serve();
    let key = request("cam1").key;
    let mut client = client().await;
    let channel = client.connection.create_data_channel("cam1", None).await.unwrap();
    let offer = client.offer().await;
    let Opened { sdp, session, mut events, mut negotiation, .. } =
        service.publish(request("cam1"), &offer).await.unwrap();
    client.takes_answer(&sdp).await;
    client.is_connected().await;
    until(&mut events, |event| matches!(event, SessionEvent::Open { label, .. } if label == "cam1")).await;
    assert!(hub.get(&key).is_some());
    let second = service.publish(request("cam1"), &offer).await;
    assert!(matches!(second, Err(Refused::Refusal(Refusal::InUse(_)))));

    while client.ice.try_recv().is_ok() {}
    client.connection.restart_ice().await.unwrap();
    let again = client.offer().await;
    assert_ne!(ufrag(&again), ufrag(&offer));
    let answer = negotiation.offer_again(&session, &again).unwrap();
    assert_ne!(ufrag(&answer), ufrag(&sdp), "both sides have new credentials");
    assert_eq!(negotiation.remote_ice().ufrag, ufrag(&again));
    client.takes_answer(&answer).await;
    client.is_connected().await;
    channel.send_text("still here").await.unwrap();
    let heard = |event: &SessionEvent| matches!(event, SessionEvent::Message { message, .. } if *message.payload == *b"still here");
    until(&mut events, heard).await;
    assert!(negotiation.offer_again(&session, "v=0").is_err(), "and it stays as it was");

    session.close();
    until(&mut events, |event| matches!(event, SessionEvent::Closed(Closed::ByUs))).await;
    assert!(hub.get(&key).is_none(), "a goodbye of ours ends the stream");
    assert!(service.publish(request("cam1"), &offer).await.is_ok(), "and its name is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_few_sessions_that_are_not_connected() {
    let (service, hub) = serve_with(Settings { max_connecting: 2, ..Settings::default() });
    let mut client = client().await;
    client.connection.create_data_channel("cam1", None).await.unwrap();
    let offer = client.offer().await;
    let mut first = service.publish(request("cam1"), &offer).await.unwrap();
    let second = service.publish(request("cam2"), &offer).await.unwrap();
    let third = service.publish(request("cam3"), &offer).await;
    assert!(matches!(third, Err(Refused::TooMany(TooMany::OfClient))));
    assert!(hub.get(&request("cam3").key).is_none(), "nothing was claimed for it");
    assert!(matches!(
        service.offer(vec![(request("cam1"), "cam1".into())]).await,
        Err(Refused::TooMany(TooMany::OfClient))
    ));
    let elsewhere = Request { peer: ([127, 0, 0, 2], 1).into(), ..request("cam3") };
    let _third = service.publish(elsewhere, &offer).await.unwrap();

    client.takes_answer(&first.sdp).await;
    client.is_connected().await;
    until(&mut first.events, |event| matches!(event, SessionEvent::Connected)).await;
    let _fourth = service.publish(request("cam4"), &offer).await.unwrap();
    assert!(service.publish(request("cam5"), &offer).await.is_err());
    second.session.close();
    let _fifth = service.publish(request("cam5"), &offer).await.unwrap();
    assert!(service.rtc().counters().crowded >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_leaves_the_stream_to_whoever_comes_back() {
    goodbye(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_ends_the_stream_where_it_is_meant_so() {
    goodbye(true).await;
}

async fn goodbye(ends: bool) {
    let (service, hub) = serve();
    let mut client = client().await;
    client.connection.create_data_channel("cam1", None).await.unwrap();
    let mut opened = service.publish(request("cam1"), &client.offer().await).await.unwrap();
    if ends {
        opened.session.end_by_goodbye();
    }
    client.takes_answer(&opened.sdp).await;
    client.is_connected().await;
    until(&mut opened.events, |event| matches!(event, SessionEvent::Open { .. })).await;
    client.connection.close().await.unwrap();
    until(&mut opened.events, |event| matches!(event, SessionEvent::Closed(Closed::ByPeer))).await;
    let left = hub.get(&request("cam1").key);
    match ends {
        true => assert!(left.is_none()),
        false => assert!(left.is_some_and(|stream| stream.is_interrupted())),
    }
}

/// Publishes sound for as long as it is polled.
async fn sound(mut publisher: Publisher) {
    let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00";
    let config = AudioConfig::opus_head(head).unwrap();
    let track = publisher.add_track(TrackConfig::Audio(config)).unwrap();
    for n in 0_i64.. {
        let time = Timestamp::from_millis(20 * n);
        let payload = Bytes::from_static(&[0xfc, 0xff, 0xfe]);
        publisher.write(track, Frame { dts: time, pts: time, keyframe: true, payload }).unwrap();
        publisher.flush();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_is_offered_streams_and_others_later() {
    let (service, hub) = serve();
    let unknown = service.offer(vec![(request("none"), "none".into())]).await;
    assert!(matches!(unknown, Err(Refused::Refusal(Refusal::NotLive(_)))));

    let publish = |id: &str| {
        let publisher = hub.publish(request(id).key, Origin::default(), StreamSettings::default()).unwrap();
        tokio::spawn(sound(publisher))
    };
    let (first, second) = (publish("a"), publish("b"));
    let client = client().await;
    let one = |id: &str| (request(id), id.to_owned());
    let mut offering = service.offer(vec![one("a")]).await.unwrap();
    assert_eq!(offering.mids.iter().map(|(_, track)| track.as_str()).collect::<Vec<_>>(), ["ARDAMSaa"]);
    let answer = client.answers(&offering.sdp).await;
    offering.accept(&answer).unwrap();
    let sent = |least: u64| move |event: &SessionEvent| matches!(event, SessionEvent::Stats(Stats::Out(stats)) if stats.packets > least);
    offering.session.measure();
    until(&mut offering.events, sent(10)).await;

    let both = service.gather(vec![one("a"), one("b")], offering.played()).await.unwrap();
    offering.offer_again(both);
    assert!(offering.mids.iter().any(|(_, track)| track == "ARDAMSab"));
    let answer = client.answers(&offering.sdp).await;
    offering.accept(&answer).unwrap();
    assert_eq!(offering.streams.len(), 2);
    until(&mut offering.events, sent(100)).await;
    assert!(offering.accept("v=0").is_err());

    offering.offer_again(service.gather(Vec::new(), offering.played()).await.unwrap());
    let answer = client.answers(&offering.sdp).await;
    offering.accept(&answer).unwrap();
    assert!(offering.streams.is_empty());
    offering.session.close();
    until(&mut offering.events, |event| matches!(event, SessionEvent::Closed(_))).await;
    first.abort();
    second.abort();
}

/// WHIP and WHEP of a node, at the URL that is given.
async fn over_http(service: &Arc<Service>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let distributions = Arc::new(|_: &str| crate::signal::Distribution::All);
    let router = crate::whip::router(
        service.clone(),
        crate::whip::Sessions::new(),
        Arc::new(|_, peer| peer),
        distributions,
    );
    tokio::spawn(async move { axum::serve(listener, router).await });
    at.to_string()
}

async fn told(call: &mut Call, wanted: impl Fn(&SessionEvent) -> bool) {
    let waits = async { while !wanted(&call.event().await.expect("the call goes on")) {} };
    tokio::time::timeout(SOON, waits).await.expect("it is told");
}

async fn until_so(what: impl Fn() -> bool) {
    let waits = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waits).await.expect("it comes to be so");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_are_pulled_from_one_server_and_end_at_both_sides() {
    let ((there, far), (here, near)) = (serve(), serve());
    let at = over_http(&there).await;
    let publish = |id: &str| {
        let publisher = far.publish(request(id).key, Origin::default(), StreamSettings::default()).unwrap();
        tokio::spawn(sound(publisher))
    };
    let sources = [publish("a"), publish("b")];
    let node = Node(near.clone());
    let mut calls = Vec::new();
    for id in ["a", "b"] {
        let from = Endpoint::parse(&format!("whep://{at}/live/whep/{id}"), Kind::Whep).unwrap();
        let key = StreamKey::new("live", format!("from-{id}"));
        calls.push(here.pull(&from, key, &node).await.unwrap());
    }
    for call in &mut calls {
        told(call, |event| matches!(event, SessionEvent::Connected)).await;
        let stream = call.stream().clone();
        until_so(|| stream.has_frames()).await;
    }
    assert_eq!((here.rtc().sessions(), there.rtc().sessions()), ((2, 0), (0, 2)));
    assert_eq!(here.rtc().counters().garbage, 0, "each has a socket of its own");

    let second = calls.pop().unwrap();
    second.end(true).await;
    until_so(|| near.get(&StreamKey::new("live", "from-b")).is_none()).await;
    until_so(|| there.rtc().sessions() == (0, 1)).await;
    let mut first = calls.pop().unwrap();
    assert!(!first.stream().is_ended());

    // Its server says that the stream is over.
    far.stop(&request("a").key, sluice_media::StopReason::Requested);
    sources.iter().for_each(tokio::task::JoinHandle::abort);
    told(&mut first, |event| matches!(event, SessionEvent::Closed(Closed::ByPeer))).await;
    assert!(first.stream().is_interrupted(), "who calls again goes on with it");
    first.end(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_pushed_and_counts_no_viewer() {
    let ((there, far), (here, near)) = (serve(), serve());
    let at = over_http(&there).await;
    let publisher = near.publish(request("a").key, Origin::default(), StreamSettings::default()).unwrap();
    let stream = publisher.stream().clone();
    let source = tokio::spawn(sound(publisher));
    let to = Endpoint::parse(&format!("whip://{at}/live/whip/pushed"), Kind::Whip).unwrap();
    let mut call = here.push(&stream, &to).await.unwrap();
    told(&mut call, |event| matches!(event, SessionEvent::Connected)).await;
    let key = request("pushed").key;
    until_so(|| far.get(&key).is_some_and(|stream| stream.has_frames())).await;
    assert_eq!(stream.stats().viewers(Protocol::WebRtc), 0);
    let again = here.push(&stream, &to).await.err().expect("somebody publishes it").to_string();
    assert!(again.contains("409") && again.contains("being published already"), "{again}");
    call.end(true).await;
    until_so(|| far.get(&key).is_none()).await;
    source.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_come_to_nothing_leave_nothing_behind() {
    let ((there, far), (here, near)) = (serve(), serve());
    let at = over_http(&there).await;
    let key = StreamKey::new("live", "mine");
    let from = |id: &str| Endpoint::parse(&format!("whep://{at}/live/whep/{id}"), Kind::Whep).unwrap();
    let node = Node(near.clone());
    let missing = here.pull(&from("none"), key.clone(), &node).await.err().expect("there is none");
    assert!(missing.to_string().contains("404"), "{missing}");
    let publisher = far.publish(request("a").key, Origin::default(), StreamSettings::default()).unwrap();
    let source = tokio::spawn(sound(publisher));
    // Somebody publishes it here already.
    let _own = near.publish(key.clone(), Origin::default(), StreamSettings::default()).unwrap();
    let taken = here.pull(&from("a"), key, &node).await.err().expect("it is taken");
    assert!(matches!(taken, CallError::Refused(Refused::Refusal(Refusal::InUse(_)))), "{taken}");
    until_so(|| there.rtc().sessions() == (0, 0)).await;
    assert_eq!(here.rtc().sessions(), (0, 0));
    source.abort();
}
