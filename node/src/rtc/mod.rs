//! WebRTC of this node: the sockets, who may use them, and how it ends.

mod calls;
mod directory;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::middleware::{Next, from_fn};
use sluice_api::cluster::Counter;
use sluice_api::{ApiState, ClientAddr};
use sluice_cluster::directory::Directory as Nodes;
use sluice_rtc::service::Service;
use sluice_rtc::signal::{self, Directory, Limits, Signalling};
use sluice_rtc::{Exempt, IceServer, Rtc, Settings, whip};
use tokio::task::AbortHandle;

use crate::apps::Apps;
use crate::config::{Candidate, Config, LiveConfig};
use crate::exit::Failure;
use crate::streams::Streams;
use crate::streams::door::Door;
pub(crate) use calls::{Calls, Tasks};
use directory::Known;

/// A session that is told to come back elsewhere does so by itself within this time; what is left is ended.
const COME_BACK: Duration = Duration::from_secs(3);

/// WebRTC, as the node sees it.
pub(crate) struct WebRtc {
    rtc: Rtc,
    service: Arc<Service>,
    sessions: Arc<whip::Sessions>,
    signalling: Signalling,
    known: Arc<Known>,
    streams: Arc<Streams>,
    /// Whether there are other nodes that a publisher could go to.
    in_cluster: bool,
    router: axum::Router,
    follows: AbortHandle,
}

impl WebRtc {
    /// Opens the sockets. `None` when it is switched off.
    ///
    /// # Errors
    /// An address cannot be opened.
    pub(crate) fn start(
        live: &Arc<LiveConfig>,
        door: &Arc<Door>,
        streams: &Arc<Streams>,
        apps: &Arc<Apps>,
        nodes: Option<Arc<Nodes>>,
    ) -> Result<Option<Self>, Failure> {
        let config = live.get();
        if config.rtc_addr.is_off() {
            return Ok(None);
        }
        let settings = settings(&config);
        let ice_servers = settings.ice_servers.clone();
        let rtc = Rtc::start(settings)
            .map_err(|e| Failure::io(&format!("listen for WebRTC at {} (rtc_addr)", config.rtc_addr), &e))?;
        let service = Service::new(rtc.clone(), door.clone(), door.clone());
        let sessions = whip::Sessions::new();
        let known = Known::new(streams.clone(), apps.clone(), nodes);
        let limits = Limits {
            connections: config.websocket_max_connections as usize,
            per_address: config.websocket_max_connections_per_ip as usize,
            exempt: exempt(&config),
            ..Limits::default()
        };
        let signalling =
            Signalling::new(Arc::new(service.clone()), known.clone(), ice_servers, limits, rand::random());
        let distributions = {
            let known = known.clone();
            move |app: &str| known.app(app).unwrap_or_default().distribution
        };
        let router = whip::router(
            service.clone(),
            sessions.clone(),
            Arc::new(|_, peer| peer),
            Arc::new(distributions),
        )
        .merge(signal::router(signalling.clone()));
        let router = behind_proxies(router, &config);
        let follows = tokio::spawn(follow(live.clone(), rtc.clone())).abort_handle();
        Ok(Some(WebRtc {
            rtc,
            service,
            sessions,
            signalling,
            known,
            streams: streams.clone(),
            in_cluster: config.in_cluster(),
            router,
            follows,
        }))
    }

    /// The paths of WHIP, WHEP and AMS's signalling.
    pub(crate) fn router(&self) -> axum::Router {
        self.router.clone()
    }

    /// Who shows records as REST does, once it is there.
    pub(crate) fn shows(&self, api: &Arc<ApiState>) {
        self.known.shows(api);
    }

    /// Opens sessions.
    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The media.
    pub(crate) fn rtc(&self) -> &Rtc {
        &self.rtc
    }

    /// Open connections by kind.
    pub(crate) fn connections(&self) -> [(&'static str, u64); 3] {
        let (publishers, viewers) = self.rtc.sessions();
        let websockets = self.signalling.connections();
        [
            ("webrtc_publishers", publishers as u64),
            ("webrtc_viewers", viewers as u64),
            ("websocket", websockets as u64),
        ]
    }

    /// What the sockets count.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        let c = self.rtc.counters();
        let counter = |name, help, value| Counter { name, help, value };
        vec![
            counter("webrtc_sessions_total", "WebRTC sessions that were opened.", c.opened),
            counter(
                "webrtc_sessions_failed_total",
                "WebRTC sessions that ended before media flowed.",
                c.failed,
            ),
            counter(
                "webrtc_sessions_crowded_total",
                "WebRTC sessions that were refused because too many from their address were not connected yet.",
                c.crowded,
            ),
            counter("webrtc_packets_in_total", "Datagrams received for WebRTC.", c.packets_in),
            counter("webrtc_packets_out_total", "Datagrams sent for WebRTC.", c.packets_out),
            counter("webrtc_bytes_in_total", "Bytes received for WebRTC.", c.bytes_in),
            counter("webrtc_bytes_out_total", "Bytes sent for WebRTC.", c.bytes_out),
            counter(
                "webrtc_batched_sends_total",
                "Calls that sent several datagrams at once (UDP GSO).",
                c.gso_sends,
            ),
            counter("webrtc_single_sends_total", "Calls that sent one datagram.", c.single_sends),
            counter("webrtc_dropped_total", "Datagrams dropped because a socket took no more.", c.dropped),
            counter("webrtc_garbage_total", "Datagrams that belong to no session.", c.garbage),
            counter(
                "webrtc_tcp_connections_total",
                "Connections over TCP that carried a session.",
                c.tcp_connections,
            ),
        ]
    }

    /// AMS's clients are told that they should come back, which leads elsewhere; then all that is left ends. How many
    /// sessions had to be cut.
    pub(crate) async fn stop(&self, within: Duration) -> usize {
        self.follows.abort();
        if self.in_cluster {
            // Whoever comes back elsewhere goes on with its stream: it is given away, not ended.
            let live = self.streams.live();
            let ours = live.values().filter(|live| live.known.publish_type.as_deref() == Some("WebRTC"));
            ours.for_each(|live| live.stream.set_moving());
        }
        // Half of the time to tell them, one after the other, so that they do not all come back at once.
        let told = self.signalling.server_will_stop((within / 2).min(Duration::from_secs(5))).await;
        let sessions = || {
            let (publishers, viewers) = self.rtc.sessions();
            publishers + viewers
        };
        if told > 0 {
            let end = tokio::time::Instant::now() + COME_BACK.min(within / 2);
            while sessions() > 0 && tokio::time::Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.signalling.close().await;
        self.sessions.close_all("the server is stopping", self.in_cluster);
        let cut = sessions();
        self.rtc.shutdown().await;
        cut
    }
}

/// The client's address, where a proxy that is trusted tells it, takes the place of the proxy's.
fn behind_proxies(router: axum::Router, config: &Config) -> axum::Router {
    let proxies: Arc<[ipnet::IpNet]> = config.trusted_proxies.clone().into();
    router.layer(from_fn(move |mut request: Request, next: Next| {
        let proxies = proxies.clone();
        async move {
            if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() {
                let client = ClientAddr::resolve(peer.ip(), request.headers(), &proxies);
                let peer = SocketAddr::new(client.known().unwrap_or(peer.ip()), peer.port());
                request.extensions_mut().insert(ConnectInfo(peer));
            }
            next.run(request).await
        }
    }))
}

/// Proxies are not counted by address: where they do not tell whom they stand for, it is for many.
fn exempt(config: &Config) -> Exempt {
    let proxies = config.trusted_proxies.clone();
    Exempt::new(move |ip| proxies.iter().any(|proxy| proxy.contains(&ip)))
}

fn settings(config: &Config) -> Settings {
    let ice_server = |url: &String| {
        let of_turn = |text: Option<&str>| text.filter(|_| url.starts_with("turn")).map(str::to_owned);
        IceServer {
            url: url.clone(),
            username: of_turn(config.rtc_turn_user.as_deref()),
            credential: of_turn(config.rtc_turn_password.as_ref().map(|p| p.expose())),
        }
    };
    let (candidates, tcp_candidates) = candidates(config);
    Settings {
        listen: config.rtc_addr.endpoints().iter().map(|endpoint| endpoint.addr).collect(),
        tcp: config.rtc_tcp,
        candidates,
        tcp_candidates,
        shards: config.rtc_threads as usize,
        max_sessions: config.rtc_max_sessions as usize,
        max_connecting: config.rtc_max_connecting_per_ip as usize,
        exempt: exempt(config),
        ice_servers: config.rtc_ice_servers.iter().map(ice_server).collect(),
        ..Settings::default()
    }
}

/// Where clients are told to send to, over UDP and over TCP; nothing where that is for the sockets to say.
fn candidates(config: &Config) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let port = config.rtc_addr.addrs().first().map_or(0, SocketAddr::port);
    let own = config.advertise_host.as_deref().and_then(|host| host.parse().ok()).or(config.pod_ip);
    let fixed =
        |addr: SocketAddr| SocketAddr::new(addr.ip(), if addr.port() == 0 { port } else { addr.port() });
    let own = own.filter(|_| port != 0).map(|ip| Candidate {
        addr: SocketAddr::new(ip, port),
        udp: true,
        tcp: true,
    });
    let all: Vec<Candidate> = match config.rtc_candidates.is_empty() {
        true => own.into_iter().collect(),
        false => config.rtc_candidates.clone(),
    };
    let of = |wanted: fn(&Candidate) -> bool| -> Vec<SocketAddr> {
        all.iter().filter(|candidate| wanted(candidate)).map(|candidate| fixed(candidate.addr)).collect()
    };
    (of(|candidate| candidate.udp), of(|candidate| candidate.tcp))
}

/// Tells clients that come from now on of other candidates, whenever they are configured.
async fn follow(live: Arc<LiveConfig>, rtc: Rtc) {
    let mut changes = live.watch();
    let mut now = candidates(&live.get());
    while changes.changed().await.is_ok() {
        let wanted = candidates(&live.get());
        if wanted != now {
            tracing::info!(udp = ?wanted.0, tcp = ?wanted.1, "WebRTC clients are told other addresses");
            rtc.set_candidates(wanted.0.clone(), wanted.1.clone());
            now = wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn config(flags: &[(&str, &str)]) -> Config {
        let flags = flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        load(&Sources { flags, ..Sources::default() }).unwrap().config
    }

    fn told(flags: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let (udp, tcp) = candidates(&config(flags));
        let text = |all: Vec<SocketAddr>| all.iter().map(ToString::to_string).collect();
        (text(udp), text(tcp))
    }

    #[test]
    fn clients_are_told_what_is_configured_first() {
        assert_eq!(told(&[]), (vec![], vec![]), "the machine's own");
        let host = ("advertise_host", "203.0.113.7");
        assert_eq!(told(&[host]).0, ["203.0.113.7:5004"]);
        assert_eq!(
            told(&[("advertise_host", "live.example.com"), ("pod_ip", "10.0.0.9")]).0,
            ["10.0.0.9:5004"]
        );
        let both = told(&[host, ("rtc_candidates", "10.1.1.1, 10.1.1.2:30000/udp,10.1.1.2:31000/tcp")]);
        assert_eq!(both.0, ["10.1.1.1:5004", "10.1.1.2:30000"]);
        assert_eq!(both.1, ["10.1.1.1:5004", "10.1.1.2:31000"]);
        assert_eq!(
            told(&[host, ("rtc_addr", "127.0.0.1:0")]).0,
            Vec::<String>::new(),
            "the port is not known yet"
        );
    }

    #[test]
    fn only_turn_servers_have_a_password() {
        let config = config(&[
            ("rtc_ice_servers", "stun:a:3478,turn:b:3478"),
            ("rtc_turn_user", "u"),
            ("rtc_turn_password", "p"),
        ]);
        let servers = settings(&config).ice_servers;
        assert_eq!((servers[0].username.as_deref(), servers[1].credential.as_deref()), (None, Some("p")));
    }
}
