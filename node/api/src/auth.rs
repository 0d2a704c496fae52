//! Who may call what.
//!
//! - Management (root REST, metrics): the admin token, or a client on this machine.
//! - REST of an app: the admin token, or an address that the app's settings allow (AMS's IP filter).
//! - What other nodes send over the cluster port ([`Forwarded`](crate::cluster::Forwarded)): they have asked that already,
//!   and mutual TLS says who they are.
//!
//! An address alone is what any page in a browser on that machine has as well. So a request without the token
//! must not come from another site (`Origin`), and one from this machine must name this machine (`Host`).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri, header};
use sha2::{Digest, Sha256};
use sluice_store::{App, Store, StoreError};
use subtle::ConstantTimeEq;

use crate::client::ClientAddr;
use crate::forward::is_forwarded;
use crate::reply::Failed;
use crate::state::ApiState;

/// Under this name the store keeps the hash of a token that the node made itself.
const TOKEN_KEY: &str = "admin_token_sha256";

/// The admin token, kept as its SHA-256 only. Copies are the same token: setting one sets all.
#[derive(Clone)]
pub struct AdminToken(Arc<RwLock<[u8; 32]>>);

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

impl AdminToken {
    /// From the configured token.
    pub fn new(token: &str) -> Self {
        AdminToken(Arc::new(RwLock::new(hash(token))))
    }

    /// From now on it is this one.
    pub fn set(&self, token: &str) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = hash(token);
    }

    fn hash(&self) -> [u8; 32] {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token that this node made at its first start. When none is kept yet a new one is made and given back to
    /// be shown; after that it is to be [kept](Self::keep), so that a start that fails before does not lose it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn load_or_make(store: &dyn Store) -> Result<(Self, Option<String>), StoreError> {
        if let Some(hash) = store.value(TOKEN_KEY).await?.as_deref().and_then(from_hex) {
            return Ok((AdminToken(Arc::new(RwLock::new(hash))), None));
        }
        let plain = to_hex(&rand::random::<[u8; 24]>());
        Ok((AdminToken::new(&plain), Some(plain)))
    }

    /// Keeps the hash of a token that was made here and has been shown, for later starts.
    ///
    /// # Errors
    /// What the store says.
    pub async fn keep(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.set_value(TOKEN_KEY, &to_hex(&self.hash())).await
    }

    /// Whether `presented` is the token, in constant time.
    pub fn is(&self, presented: &str) -> bool {
        !presented.is_empty() && bool::from(hash(presented).ct_eq(&self.hash()))
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.trim().as_bytes()).into()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

/// What the token in a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bearer {
    None,
    Right,
    Wrong,
}

fn bearer(state: &ApiState, headers: &HeaderMap) -> Bearer {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Bearer::None };
    let token = value.to_str().ok().and_then(|v| {
        let (scheme, token) = v.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    match token {
        Some(token) if state.admin_token.is(token) => Bearer::Right,
        _ => Bearer::Wrong,
    }
}

/// The client behind a request. Without a known peer it is nobody.
pub(crate) fn client(state: &ApiState, request: &Request) -> ClientAddr {
    match request.extensions().get::<ConnectInfo<SocketAddr>>() {
        Some(peer) => ClientAddr::resolve(peer.0.ip(), request.headers(), &state.settings.trusted_proxies),
        None => ClientAddr { addr: IpAddr::from([0, 0, 0, 0]), forwarded: false, trusted: false },
    }
}

/// Lets management calls through.
pub(crate) async fn management(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    if is_forwarded(&request) {
        return next.run(request).await;
    }
    match may_manage(&state, &request) {
        Ok(()) => next.run(request).await,
        Err(why) => Failed(StatusCode::FORBIDDEN, why.into()).into_response(),
    }
}

fn may_manage(state: &ApiState, request: &Request) -> Result<(), &'static str> {
    match bearer(state, request.headers()) {
        Bearer::Right => return Ok(()),
        Bearer::Wrong => return Err("this is not the admin token (SLUICE_ADMIN_TOKEN)"),
        Bearer::None => {}
    }
    if !client(state, request).is_loopback() {
        return Err("management from elsewhere than this machine needs the admin token: \
                    send it as 'Authorization: Bearer <token>'");
    }
    same_site(request)?;
    this_host(state, request)
}

/// Lets calls to an app through: there has to be such an app, and it has to allow the client.
pub(crate) async fn app(State(state): State<Arc<ApiState>>, mut request: Request, next: Next) -> Response {
    let name = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
    let app = match find_app(&state, &name).await {
        Ok(Some(app)) => app,
        Ok(None) => return Failed::not_found(format!("there is no app named {name}")).into_response(),
        Err(e) => return Failed::from(e).into_response(),
    };
    if !is_forwarded(&request) && bearer(&state, request.headers()) != Bearer::Right {
        let client = client(&state, &request);
        if app.settings.ip_filter_enabled && !client.is_in(&app.settings.remote_allowed_cidr) {
            return (StatusCode::FORBIDDEN, "Not allowed IP").into_response();
        }
        let host = if client.is_loopback() { this_host(&state, &request) } else { Ok(()) };
        if let Err(why) = same_site(&request).and(host) {
            return Failed(StatusCode::FORBIDDEN, why.into()).into_response();
        }
    }
    request.extensions_mut().insert(app);
    next.run(request).await
}

/// An app, from memory while the store is away: what needs no store can be done then, such as stopping a stream.
async fn find_app(state: &ApiState, name: &str) -> Result<Option<App>, StoreError> {
    if state.store_is_away()
        && let Some(app) = state.node.app(name)
    {
        return Ok(Some(app));
    }
    match state.store.app(name).await {
        Err(e) if e.is_away() => state.node.app(name).map(Some).ok_or(e),
        answer => answer,
    }
}

/// The host that a request was sent to, with the port when it has one.
pub(crate) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let named = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    named.or_else(|| uri.authority().map(|a| a.as_str()))
}

/// Without the port, and an IPv6 address without its brackets.
pub(crate) fn host_name(host: &str) -> &str {
    if let Some(v6) = host.strip_prefix('[') {
        return v6.split(']').next().unwrap_or(v6);
    }
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

/// A browser says in `Origin` which site sent a request; a page of another one is refused.
fn same_site(request: &Request) -> Result<(), &'static str> {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|o| o.split_once("://")).map(|(_, authority)| authority);
    match (origin, host(request.uri(), request.headers())) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err("the request comes from a page of another site (Origin): send the admin token instead"),
    }
}

/// A name that an attacker lets point to this machine (DNS rebinding) is refused.
fn this_host(state: &ApiState, request: &Request) -> Result<(), &'static str> {
    let name = host(request.uri(), request.headers()).map(|h| host_name(h).to_ascii_lowercase());
    let known = name.is_some_and(|name| {
        name.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || state.own_names.contains(&name)
    });
    if known {
        Ok(())
    } else {
        Err(
            "the request names a host that is not this node (Host): use localhost, an IP address, or the name \
             set as SLUICE_ADVERTISE_HOST",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let t = AdminToken::new("secret\n");
        assert!(t.is("secret") && !t.is("Secret") && !t.is(""));
        assert_eq!(from_hex(&to_hex(&t.hash())), Some(t.hash()));
        assert_eq!(from_hex("zz"), None);
        assert!(!format!("{t:?}").contains("secret"));
    }

    #[test]
    fn host_names() {
        for (host, name) in
            [("a.b:5080", "a.b"), ("a.b", "a.b"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("::1", "::1")]
        {
            assert_eq!(host_name(host), name);
        }
    }
}
