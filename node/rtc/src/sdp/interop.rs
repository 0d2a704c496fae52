//! Descriptions to and from the library's peer connection, which understands them on its own.

use std::sync::Arc;

use sluice_media::{AudioCodec, VideoCodec};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCSessionDescription,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

use super::tests::{local, takes};
use super::*;
use crate::agreed::{Codec, DtlsRole};

struct Quiet;

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Quiet {}

async fn client() -> impl PeerConnection {
    let mut engine = MediaEngine::default();
    engine.register_default_codecs().unwrap();
    let builder = PeerConnectionBuilder::new().with_media_engine(engine).with_handler(Arc::new(Quiet));
    Box::pin(builder.with_udp_addrs(vec!["127.0.0.1:0"]).build()).await.unwrap()
}

async fn receives(client: &impl PeerConnection) {
    let direction = RTCRtpTransceiverDirection::Recvonly;
    for kind in ["audio", "video"] {
        let init = RTCRtpTransceiverInit { direction, streams: Vec::new(), send_encodings: Vec::new() };
        client.add_transceiver_from_kind(kind.into(), Some(init)).await.unwrap();
    }
}

async fn offer(client: &impl PeerConnection) -> String {
    let offer = client.create_offer(None).await.unwrap();
    client.set_local_description(offer.clone()).await.unwrap();
    offer.sdp
}

fn tracks() -> Vec<Outgoing> {
    let track = |codec| Outgoing { name: "cam1".into(), codec, profile: Some("42e01f".into()) };
    vec![track(Codec::Video(VideoCodec::H264)), track(Codec::Audio(AudioCodec::Opus))]
}

#[tokio::test]
async fn its_offers_are_answered() {
    // It would receive; a publisher's descriptions are the same but for the direction.
    let publisher = client().await;
    receives(&publisher).await;
    publisher.create_data_channel("cam1", None).await.unwrap();
    let sends = offer(&publisher).await.replace("a=recvonly", "a=sendonly");
    let answered = answer_publisher(&sends, &local(), &takes()).unwrap();
    assert_eq!(answered.agreed.receiving.len(), 2);
    assert!(answered.agreed.data.is_some());
    let answer = answered.sdp.replace("a=recvonly", "a=sendonly");
    publisher.set_remote_description(RTCSessionDescription::answer(answer).unwrap()).await.unwrap();
    publisher.close().await.unwrap();

    let player = client().await;
    receives(&player).await;
    let answered = answer_player(&offer(&player).await, &local(), &tracks()).unwrap();
    assert_eq!(answered.agreed.sending.len(), 2);
    player.set_remote_description(RTCSessionDescription::answer(answered.sdp).unwrap()).await.unwrap();
    player.close().await.unwrap();
}

#[tokio::test]
async fn it_answers_our_offers() {
    let player = client().await;
    let mut offered = offer_player(&local(), &tracks(), None);
    // Again without sound, then with another picture: the sections stay in their places.
    let other = Outgoing { name: "b".into(), ..tracks().swap_remove(0) };
    for (tracks, sent) in
        [(tracks(), 2), (tracks()[..1].to_vec(), 1), ([&tracks()[..], &[other]].concat(), 3)]
    {
        offered = offer_player(&local(), &tracks, Some(&offered));
        let description = RTCSessionDescription::offer(offered.sdp.clone()).unwrap();
        player.set_remote_description(description).await.unwrap();
        let answer = player.create_answer(None).await.unwrap();
        player.set_local_description(answer.clone()).await.unwrap();
        let agreed = offered.accept(&answer.sdp).unwrap();
        assert_eq!(agreed.sending.len(), sent, "{}", answer.sdp);
        // To a side that is ICE-lite it leaves the handshake, unlike browsers.
        assert_eq!(agreed.remote.role, DtlsRole::Client);
        assert!(agreed.data.is_some());
    }
    player.close().await.unwrap();
}
