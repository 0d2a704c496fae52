//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) over HTTP.
//!
//! `POST /{app}/whip/{id}` publishes and `POST /{app}/whep/{id}` plays: an offer in, an answer out, and the URL of the
//! session, which takes candidates and ICE restarts (PATCH) and the end (DELETE). AMS's WHIP clients use the same paths.

mod open;
mod query;
mod reply;
mod sessions;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::response::Response;
use axum::routing::any;
use http::{HeaderMap, Method, StatusCode, header};
use sluice_media::StreamKey;
use sluice_media::session::{self, Protocol};

use self::open::{Opens, Role};
use self::reply::{
    FRAGMENT, SDP, bare, is_of_type, links, not_that_method, options, refused, sentence, set, with,
};
use self::sessions::{Patched, Place};
use crate::sdp::LONGEST;
use crate::sdp::fragment::Fragment;
use crate::service::Service;
use crate::signal::Distribution;

pub use self::sessions::Sessions;

/// Gives the client's address, from the headers of proxies that are trusted and the address of the connection.
pub type ClientAddress = Arc<dyn Fn(&HeaderMap, SocketAddr) -> SocketAddr + Send + Sync>;

/// Gives who hears what the players of an app say over their data channels.
pub type Distributions = Arc<dyn Fn(&str) -> Distribution + Send + Sync>;

/// The longest that reading a body may take.
const READING: Duration = Duration::from_secs(10);

const ENDPOINT: &str = "POST, OPTIONS";
const RESOURCE: &str = "PATCH, DELETE, OPTIONS";

/// The paths of WHIP and WHEP. The address of the connection is taken from [`ConnectInfo`].
pub fn router(
    service: Arc<Service>,
    sessions: Arc<Sessions>,
    client: ClientAddress,
    distributions: Distributions,
) -> Router {
    over(Door { opens: service, sessions, client, distributions })
}

fn over(door: Door) -> Router {
    Router::new()
        .route("/{app}/whip/{id}", any(publishing))
        .route("/{app}/whep/{id}", any(playing))
        .route("/{app}/whip/{id}/{session}", any(publisher))
        .route("/{app}/whep/{id}/{session}", any(player))
        .with_state(Arc::new(door))
}

struct Door {
    opens: Opens,
    sessions: Arc<Sessions>,
    client: ClientAddress,
    distributions: Distributions,
}

type Stream = Path<(String, String)>;
type Session = Path<(String, String, String)>;

async fn publishing(State(door): State<Arc<Door>>, Path((app, id)): Stream, request: Request) -> Response {
    door.endpoint(Role::Publisher, StreamKey::new(app, id), request).await
}

async fn playing(State(door): State<Arc<Door>>, Path((app, id)): Stream, request: Request) -> Response {
    door.endpoint(Role::Player, StreamKey::new(app, id), request).await
}

async fn publisher(State(door): State<Arc<Door>>, Path((app, id, session)): Session, r: Request) -> Response {
    door.resource(Place { role: Role::Publisher, key: StreamKey::new(app, id) }, &session, r).await
}

async fn player(State(door): State<Arc<Door>>, Path((app, id, session)): Session, r: Request) -> Response {
    door.resource(Place { role: Role::Player, key: StreamKey::new(app, id) }, &session, r).await
}

impl Door {
    /// Where sessions are opened.
    async fn endpoint(&self, role: Role, key: StreamKey, http: Request) -> Response {
        match *http.method() {
            Method::POST => {}
            Method::OPTIONS => {
                let mut response = options(ENDPOINT, (header::HeaderName::from_static("accept-post"), SDP));
                links(&mut response, self.opens.ice_servers());
                return response;
            }
            _ => return not_that_method(ENDPOINT),
        }
        let request = self.request(key, &http);
        let offer = match body(http, SDP).await {
            Ok(offer) => offer,
            Err(response) => return response,
        };
        let running = match self.opens.open(role, request.clone(), &offer).await {
            Ok(running) => running,
            Err(why) => {
                let (key, peer) = (&request.key, request.peer);
                tracing::info!(%key, %peer, role = role.word(), %why, "a session is refused");
                return refused(&why);
            }
        };
        let answer = running.answer.clone();
        let distribution = (self.distributions)(&request.key.app);
        let id = self.sessions.add(&request, role, distribution, running);
        let mut response = with(StatusCode::CREATED, SDP, answer);
        let StreamKey { app, id: stream } = &request.key;
        set(&mut response, header::LOCATION, &format!("/{app}/{}/{stream}/{id}", role.word()));
        set(&mut response, header::ETAG, &format!("\"{id}\""));
        set(&mut response, header::HeaderName::from_static("accept-patch"), FRAGMENT);
        links(&mut response, self.opens.ice_servers());
        response
    }

    /// A session.
    async fn resource(&self, place: Place, id: &str, http: Request) -> Response {
        let unknown = || sentence(StatusCode::NOT_FOUND, "there is no such session, or it is over");
        match *http.method() {
            Method::OPTIONS => options(RESOURCE, (header::HeaderName::from_static("accept-patch"), FRAGMENT)),
            Method::DELETE if self.sessions.close(id, &place) => bare(StatusCode::OK),
            Method::PATCH if self.sessions.has(id, &place) => self.patch(&place, id, http).await,
            Method::DELETE | Method::PATCH => unknown(),
            _ => not_that_method(RESOURCE),
        }
    }

    async fn patch(&self, place: &Place, id: &str, http: Request) -> Response {
        let if_match =
            http.headers().get(header::IF_MATCH).map(|v| v.to_str().unwrap_or_default().to_owned());
        let text = match body(http, FRAGMENT).await {
            Ok(text) => text,
            Err(response) => return response,
        };
        let fragment = match Fragment::parse(&text) {
            Ok(fragment) => fragment,
            Err(why) => return sentence(StatusCode::BAD_REQUEST, why.to_string()),
        };
        match self.sessions.patch(id, place, if_match.as_deref(), fragment.ice) {
            Patched::Unknown => sentence(StatusCode::NOT_FOUND, "there is no such session, or it is over"),
            Patched::NoTag => sentence(
                StatusCode::PRECONDITION_REQUIRED,
                "say which ICE session is meant: If-Match with the ETag, or If-Match: * for an ICE restart",
            ),
            Patched::OutOfDate => {
                sentence(StatusCode::PRECONDITION_FAILED, "this is not the ETag of the present ICE session")
            }
            Patched::Trickled => bare(StatusCode::NO_CONTENT),
            Patched::Restarted { etag, fragment } => {
                let mut response = with(StatusCode::OK, FRAGMENT, fragment);
                set(&mut response, header::ETAG, &format!("\"{etag}\""));
                response
            }
        }
    }

    /// The wish in the node's terms.
    fn request(&self, key: StreamKey, http: &Request) -> session::Request {
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let peer = http.extensions().get::<ConnectInfo<SocketAddr>>().map_or(nobody, |info| info.0);
        let agent = http.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        session::Request {
            key,
            query: query::parameters(http.uri(), http.headers()),
            peer: (self.client)(http.headers(), peer),
            user_agent: agent.unwrap_or_default().to_owned(),
            protocol: Protocol::WebRtc,
        }
    }
}

/// The body of a request, if it is of that type, not too long, and comes in time.
async fn body(http: Request, kind: &'static str) -> Result<String, Response> {
    if !is_of_type(http.headers(), kind) {
        let mut response =
            sentence(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the body has to be of the type {kind}"));
        let accept = if kind == SDP { "accept-post" } else { "accept-patch" };
        set(&mut response, header::HeaderName::from_static(accept), kind);
        return Err(response);
    }
    let bytes = match tokio::time::timeout(READING, to_bytes(http.into_body(), LONGEST)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            let text = format!("the body is longer than {LONGEST} bytes, or was cut off");
            return Err(sentence(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        Err(_) => {
            let text = format!("the body took longer than {} s", READING.as_secs());
            return Err(sentence(StatusCode::REQUEST_TIMEOUT, text));
        }
    };
    String::from_utf8(bytes.into()).map_err(|_| sentence(StatusCode::BAD_REQUEST, "the body is not UTF-8"))
}
