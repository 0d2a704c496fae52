//! Answers: statuses, sentences, and the headers of RFC 9725.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sluice_media::session::Refusal;

use crate::IceServer;
use crate::sdp::SdpError;
use crate::service::Refused;

pub(super) const SDP: &str = "application/sdp";
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// After so many seconds a client may ask again.
const RETRY: &str = "2";

/// What a refusal is in HTTP.
pub(super) fn status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Sdp(SdpError::NoCodec(_)) => StatusCode::NOT_ACCEPTABLE,
        Refused::Sdp(SdpError::Unusable(_)) => StatusCode::BAD_REQUEST,
        Refused::TooMany(_) => StatusCode::SERVICE_UNAVAILABLE,
        Refused::Refusal(refusal) => match refusal {
            Refusal::UnknownApp(_) | Refusal::NotLive(_) => StatusCode::NOT_FOUND,
            Refusal::InvalidId(_) => StatusCode::BAD_REQUEST,
            Refusal::InUse(_) => StatusCode::CONFLICT,
            Refusal::NotCreated(_) | Refusal::NotAllowed(_) | Refusal::Disabled(_) => StatusCode::FORBIDDEN,
            // Edge, origin without viewers, draining, stopping, a limit, the store: another node, or later.
            _ => StatusCode::SERVICE_UNAVAILABLE,
        },
    }
}

/// A plain sentence with a status.
pub(super) fn sentence(status: StatusCode, text: impl Into<String>) -> Response {
    let mut text: String = text.into();
    text.push('\n');
    let mut response = with(status, "text/plain; charset=utf-8", text);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(&mut response, header::RETRY_AFTER, RETRY);
    }
    response
}

/// A refusal.
pub(super) fn refused(why: &Refused) -> Response {
    sentence(status(why), why.to_string())
}

/// A body of some type.
pub(super) fn with(status: StatusCode, kind: &'static str, body: String) -> Response {
    let mut response = bare(status);
    set(&mut response, header::CONTENT_TYPE, kind);
    *response.body_mut() = Body::from(body);
    response
}

/// No body. Any page may ask, and may read what matters.
pub(super) fn bare(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    set(&mut response, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(
        &mut response,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        "location, etag, link, accept-patch, accept-post, retry-after",
    );
    set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

/// The path does not take the method.
pub(super) fn not_that_method(allow: &'static str) -> Response {
    let mut response = sentence(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allow} only"));
    set(&mut response, header::ALLOW, allow);
    response
}

/// The answer to OPTIONS: to a browser that asks whether it may ask, and to a client that asks what is taken here.
pub(super) fn options(allow: &'static str, accept: (HeaderName, &'static str)) -> Response {
    let mut response = bare(StatusCode::NO_CONTENT);
    set(&mut response, header::ALLOW, allow);
    set(&mut response, header::ACCESS_CONTROL_ALLOW_METHODS, allow);
    set(&mut response, header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, if-match");
    set(&mut response, header::ACCESS_CONTROL_MAX_AGE, "86400");
    set(&mut response, accept.0, accept.1);
    response
}

/// Sets a header; a value that cannot stand in one is left out.
pub(super) fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The STUN and TURN servers as `Link` headers (RFC 9725, 4.6).
pub(super) fn links(response: &mut Response, servers: &[IceServer]) {
    for server in servers {
        let mut link = format!("<{}>; rel=\"ice-server\"", server.url);
        if let (Some(user), Some(credential)) = (&server.username, &server.credential) {
            link.push_str(&format!(
                "; username={}; credential={}; credential-type=\"password\"",
                quoted(user),
                quoted(credential)
            ));
        }
        let fits = !server.url.contains(['<', '>', ' ']);
        if let (true, Ok(link)) = (fits, HeaderValue::from_str(&link)) {
            response.headers_mut().append(header::LINK, link);
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Whether a body is of that type, whatever its parameters.
pub(super) fn is_of_type(headers: &HeaderMap, kind: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::TooMany;

    #[test]
    fn links_name_servers_with_their_credentials() {
        let mut response = bare(StatusCode::CREATED);
        let server = |url: &str, user: Option<&str>| IceServer {
            url: url.into(),
            username: user.map(str::to_owned),
            credential: user.map(|_| "pass;\"word".to_owned()),
        };
        let servers = [
            server("stun:stun.example.net", None),
            server("turn:turn.example.net?transport=udp", Some("me")),
            server("turn:bad host>", None),
            server("turn:x", Some("line\nbreak")),
        ];
        links(&mut response, &servers);
        let links: Vec<_> =
            response.headers().get_all(header::LINK).iter().map(|l| l.to_str().unwrap()).collect();
        assert_eq!(
            links,
            [
                "<stun:stun.example.net>; rel=\"ice-server\"",
                "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"me\"; \
                 credential=\"pass;\\\"word\"; credential-type=\"password\"",
            ]
        );
    }

    #[test]
    fn refusals_have_their_statuses() {
        let key = sluice_media::StreamKey::new("a", "b");
        for (refused, status) in [
            (Refusal::InUse(key.clone()).into(), 409),
            (Refusal::NotLive(key.clone()).into(), 404),
            (Refusal::UnknownApp("x".into()).into(), 404),
            (Refusal::InvalidId("x".into()).into(), 400),
            (Refusal::NotCreated(key).into(), 403),
            (Refusal::NotAllowed([192, 0, 2, 1].into()).into(), 403),
            (Refusal::Disabled("WebRTC").into(), 403),
            (Refusal::Edge("origin".into()).into(), 503),
            (Refusal::NoViewers("edge".into()).into(), 503),
            (Refusal::Draining.into(), 503),
            (Refusal::Unavailable("store".into()).into(), 503),
            (TooMany::OfNode.into(), 503),
            (TooMany::OfClient.into(), 503),
            (SdpError::Unusable("x".into()).into(), 400),
            (SdpError::NoCodec("x".into()).into(), 406),
        ] {
            let response = super::refused(&refused);
            assert_eq!(response.status().as_u16(), status, "{refused}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status == 503);
        }
    }
}
