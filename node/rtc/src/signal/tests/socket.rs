//! Over real WebSockets.

use std::net::SocketAddr;

use axum::Router;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::*;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    addr
}

async fn connect(addr: SocketAddr, path: &str) -> Result<Socket, Error> {
    connect_async(format!("ws://{addr}{path}")).await.map(|(socket, _)| socket)
}

async fn hear(socket: &mut Socket) -> Message {
    let next = tokio::time::timeout(Duration::from_secs(5), socket.next()).await;
    next.expect("something comes").expect("the socket is open").unwrap()
}

#[tokio::test]
async fn the_adaptors_first_words_are_answered_on_every_path() {
    let addr = serve(router(Node::new().signalling())).await;
    for path in [
        "/live/websocket?target=origin",
        "/live/websocket/signaling",
        "/live/websocket/application?rtmpForward=true",
    ] {
        let mut socket = connect(addr, path).await.unwrap();
        socket.send(Message::text(r#"{"command":"getIceServerConfig"}"#)).await.unwrap();
        socket.send(Message::text(r#"{"command":"ping"}"#)).await.unwrap();
        let mut said = Vec::new();
        while said.len() < 2 {
            if let Message::Text(text) = hear(&mut socket).await {
                said.push(serde_json::from_str::<serde_json::Value>(&text).unwrap()["command"].clone());
            }
        }
        assert_eq!(said, ["iceServerConfig", "pong"]);
    }
    let Err(Error::Http(refused)) = connect(addr, "/nothing/websocket").await else { panic!("refused") };
    assert_eq!(refused.status(), 404);
}

#[tokio::test]
async fn what_is_too_long_or_no_text_ends_the_connection() {
    let addr = serve(router(Node::new().signalling())).await;
    for message in [Message::text("x".repeat(81 << 10)), Message::binary(vec![1, 2, 3])] {
        let mut socket = connect(addr, "/live/websocket").await.unwrap();
        socket.send(message).await.unwrap();
        let mut ended = false;
        for _ in 0..4 {
            match tokio::time::timeout(Duration::from_secs(5), socket.next()).await.expect("it ends") {
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => {
                    ended = true;
                    break;
                }
                Some(Ok(_)) => {}
            }
        }
        assert!(ended);
    }
}

#[tokio::test]
async fn places_are_limited_and_given_back() {
    let limits = Limits { per_address: 1, ..Limits::default() };
    let signalling = Node::new().signalling_with(limits);
    let addr = serve(router(signalling.clone())).await;
    let first = connect(addr, "/live/websocket").await.unwrap();
    let Err(Error::Http(refused)) = connect(addr, "/live/websocket").await else { panic!("refused") };
    assert_eq!(refused.status(), 503);
    drop(first);
    while signalling.connections() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(connect(addr, "/live/websocket").await.is_ok());
}

#[tokio::test]
async fn who_is_told_last_hears_it_before_the_end() {
    let signalling = Node::new().signalling();
    let addr = serve(router(signalling.clone())).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(connect(addr, "/live/websocket").await.unwrap());
    }
    assert_eq!(signalling.server_will_stop(Duration::ZERO).await, 3);
    signalling.close().await;
    assert_eq!(signalling.connections(), 0, "all have left");
    for socket in &mut sockets {
        let mut said = Vec::new();
        let code = loop {
            match hear(socket).await {
                Message::Text(text) => said.push(text),
                Message::Close(close) => break close.map(|close| u16::from(close.code)),
                _ => {}
            }
        };
        assert!(said.iter().any(|text| text.contains("server_will_stop")), "{said:?}");
        assert_eq!(code, Some(1001));
    }
}

#[tokio::test]
async fn who_is_silent_is_let_go_and_who_answers_pings_is_not() {
    let limits = Limits { idle: Duration::from_millis(150), ..Limits::default() };
    let addr = serve(router(Node::new().signalling_with(limits))).await;
    // This one is read, which answers pings; that one is not.
    let mut answers = connect(addr, "/live/websocket").await.unwrap();
    let mut silent = connect(addr, "/live/websocket").await.unwrap();
    let stays = tokio::time::timeout(Duration::from_millis(400), async {
        while let Some(Ok(Message::Ping(_))) = answers.next().await {}
    });
    assert!(stays.await.is_err(), "it is still open");
    let mut rest = Vec::new();
    let ends = silent.get_mut().read_to_end(&mut rest);
    assert!(tokio::time::timeout(Duration::from_secs(5), ends).await.is_ok(), "it was closed");
}

#[tokio::test]
async fn who_asks_and_does_not_read_is_let_go_and_who_reads_gets_all() {
    let node = Node::new();
    let limits = Limits { write: Duration::from_millis(300), ..Limits::default() };
    let signalling = node.signalling_with(limits);
    let addr = serve(router(signalling.clone())).await;
    let _published = node.fill_room("room1", 50, &"x".repeat(2500));
    let ask = r#"{"command":"getSubtracks","streamId":"room1","role":"","offset":0,"size":50}"#;

    let mut reads = connect(addr, "/live/websocket").await.unwrap();
    for _ in 0..100 {
        reads.send(Message::text(ask)).await.unwrap();
    }
    let mut heard = 0;
    while heard < 100 {
        heard += usize::from(hear(&mut reads).await.is_text());
    }

    let mut silent = connect(addr, "/live/websocket").await.unwrap();
    for _ in 0..150 {
        if silent.send(Message::text(ask)).await.is_err() {
            break;
        }
    }
    let gone = async {
        while signalling.connections() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is let go");
}
