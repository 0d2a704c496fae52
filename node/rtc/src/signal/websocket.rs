//! The WebSocket of a client (RFC 6455).

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderMap, StatusCode, header};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::message::LONGEST;
use super::{Client, Connection, FAREWELL, Inbox, Signalling, outlet};

/// How often a client is pinged: those that do not ping by themselves are known to be there by their pongs.
const PING: Duration = Duration::from_secs(20);
/// The longest `User-Agent` that is kept, in letters.
const USER_AGENT: usize = 512;

/// `/{app}/websocket`, and AMS's other names for it. The server must know the client's address
/// ([`ConnectInfo`]) and let connections be upgraded.
pub fn router(signalling: Signalling) -> Router {
    Router::new()
        .route("/{app}/websocket", any(upgrade))
        .route("/{app}/websocket/signaling", any(upgrade))
        .route("/{app}/websocket/application", any(upgrade))
        .with_state(signalling)
}

async fn upgrade(
    State(signalling): State<Signalling>,
    Path(app): Path<String>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    websocket: WebSocketUpgrade,
) -> Response {
    if signalling.0.directory.app(&app).is_none() {
        let text = "there is no such app: connect to an existing one, such as /LiveApp/websocket";
        return (StatusCode::NOT_FOUND, text).into_response();
    }
    let user_agent =
        headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let user_agent = user_agent.chars().take(USER_AGENT).collect();
    match signalling.connect(Client { app: app.into(), peer, user_agent }) {
        Ok((connection, inbox)) => websocket
            .read_buffer_size(4 << 10)
            // Each message is sent at once; what waits is bounded by the inbox.
            .write_buffer_size(0)
            .max_write_buffer_size(2 * outlet::LONGEST)
            .max_message_size(LONGEST)
            .max_frame_size(LONGEST)
            .on_upgrade(async move |socket| serve(socket, connection, inbox, &signalling).await),
        Err(full) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], full.to_string()).into_response()
        }
    }
}

/// Codes of RFC 6455, 7.4.1.
const GOING_AWAY: u16 = 1001;
const UNSUPPORTED: u16 = 1003;
const POLICY: u16 = 1008;

async fn serve(mut socket: WebSocket, mut connection: Connection, mut inbox: Inbox, signalling: &Signalling) {
    let (idle, write) = (signalling.0.limits.idle, signalling.0.limits.write);
    let mut look = interval(PING.min(idle / 3).max(Duration::from_millis(10)));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let (code, reason) = loop {
        let out = tokio::select! {
            // Who asks for more than it takes is not listened to until it has taken it.
            received = socket.recv(), if inbox.has_room() => {
                heard = Instant::now();
                match received {
                    Some(Ok(Message::Text(text))) => {
                        if let Err(too_fast) = connection.handle(&text, heard.into_std()).await {
                            break (POLICY, too_fast.to_string());
                        }
                        continue;
                    }
                    Some(Ok(Message::Binary(_))) => break (UNSUPPORTED, "messages are JSON texts".into()),
                    // Pings are answered below this.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                }
            }
            text = inbox.next() => match text {
                Some(text) => Message::Text(text.into()),
                None => break (GOING_AWAY, "this node lets connections go: connect again".into()),
            },
            _ = look.tick() => {
                if heard.elapsed() >= idle {
                    break (GOING_AWAY, "nothing was heard for too long: ping every 3 s".into());
                }
                Message::Ping(Default::default())
            }
        };
        match tokio::time::timeout(write, socket.send(out)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    };
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // What waits is said before, such as that the server stops. Who does not take it knows by the end of the connection.
    let farewell = async {
        while let Some(text) = inbox.try_next() {
            socket.send(Message::Text(text.into())).await?;
        }
        socket.send(close).await
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}
