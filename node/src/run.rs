//! config -> build -> run -> drain: the only place that sees all crates.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use sluice_api::cluster::Counter;
use sluice_api::{AdminToken, ApiSettings, ApiState, DrainState, DrainWish, NodeStatus};
use sluice_cluster::member::{BootId, NodeId};
use sluice_cluster::replica::{self, Replica};
use sluice_control::DrainOrder;
use sluice_media::session::Refusal;
use sluice_media::stream::StopReason;
use sluice_media::{Hub, StreamKey};
use sluice_rtmp::server::Farewell;
use sluice_store::{AppSettings, Mongo, MongoOptions, Sqlite, Store, StoreError};
use sluice_transcode::Bridges;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::apps::Apps;
use crate::cluster::{self, Cluster, Fetching, Joining};
use crate::config::{ClusterMode, Config, LiveConfig, Loaded, Role, SETTINGS, StoreKind};
use crate::drain::{Drains, Order};
use crate::exit::{Exit, Failure};
use crate::http::tls::Identity;
use crate::http::{Dispatch, Limits, Server, Streams as Playback};
use crate::rtc::{Calls, Tasks, WebRtc};
use crate::streams::claim::{Alone, Claims};
use crate::streams::door::{Door, Takes};
use crate::streams::{Me, Streams, unix_ms};
use crate::{lifecycle, listen, logging, packaging, process};

/// How long playlists that have ended stay up for players that are just asking.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a publisher that was asked to come back may take to be let in by another node.
const COME_BACK: Duration = Duration::from_secs(10);
/// How often files with secrets are looked at.
const LOOK_AT_SECRETS: Duration = Duration::from_secs(5);
/// How often a node that stops looks who is still here ...
const LOOK_WAITING: Duration = Duration::from_millis(200);
/// ... and says so.
const TELL_WAITING: Duration = Duration::from_secs(30);

/// Runs a node until it is told to stop.
///
/// # Errors
/// Why it could not start, or what had to be left undone at the end.
pub fn run(loaded: Loaded) -> Result<(), Failure> {
    let live = LiveConfig::new(loaded.clone());
    let Loaded { config, warnings, .. } = loaded;
    let logging = logging::start(&config.log, config.log_format)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let files = process::raise_open_files();
    tracing::debug!(files, "open files allowed");
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|e| Failure::io(&format!("make the data directory {}", config.data_dir.display()), &e))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::io("start the node's threads", &e))?;
    let result = runtime.block_on(async {
        let kept = Kept::open(&config, BootId::random()).await?;
        let store = kept.store.clone();
        tokio::spawn(follow_log(live.clone(), logging.set_filter()));
        let ran = async { Node::build(live, kept).await?.run(&config).await }.await;
        // What is waiting is stored and the file is left tidy; a disk that hangs does not keep the process.
        let _ = tokio::time::timeout(Duration::from_secs(1), store.close()).await;
        ran
    });
    // Whatever tasks are left have had their time.
    runtime.shutdown_background();
    result
}

/// Writes the lines that the configuration asks for, whenever it asks for others.
async fn follow_log(config: Arc<LiveConfig>, set: logging::SetFilter) {
    let mut changes = config.watch();
    let mut log = config.get().log.clone();
    while changes.changed().await.is_ok() {
        let now = config.get().log.clone();
        if now != log {
            set(&now);
            log = now;
        }
    }
}

/// Lets HTTP clients go whenever the node begins to turn new sessions away: behind a balancer they come back elsewhere.
async fn follow_drains(mut drains: watch::Receiver<Drains>, http: HttpServer) {
    loop {
        let from = drains.borrow_and_update().refuses_from();
        let begins = async {
            match from {
                Some(from) => tokio::time::sleep_until(from.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = begins => http.let_go(),
            changed = drains.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        }
        // Until there is another order, or none.
        if drains.changed().await.is_err() {
            return;
        }
    }
}

/// Takes another admin token when there is one in its file; what is none there changes nothing.
async fn follow_token(file: PathBuf, token: AdminToken) {
    let is_one = |text: &str| SETTINGS.iter().any(|s| s.key == "admin_token" && (s.accepts)(text));
    loop {
        tokio::time::sleep(LOOK_AT_SECRETS).await;
        let read = tokio::fs::read_to_string(&file).await;
        if let Some(text) = read.as_deref().map(str::trim).ok().filter(|text| is_one(text) && !token.is(text))
        {
            token.set(text);
            tracing::info!(file = %file.display(), "the admin token is another one now");
        }
    }
}

type HttpServer = Server<Dispatch<Hls>>;

/// What is stored, and for which run of the node.
struct Kept {
    boot: BootId,
    store: Arc<dyn Store>,
    /// The same, where every node has all of it.
    replica: Option<Arc<Replica>>,
}

impl Kept {
    async fn open(config: &Config, boot: BootId) -> Result<Self, Failure> {
        if let StoreKind::MongoDb(uri) = &config.store {
            let options = MongoOptions {
                prefix: config.store_prefix.clone(),
                user: config.store_user.clone(),
                password: config.store_password.as_ref().map(|p| p.expose().to_owned()),
                slow: config.store_slow,
                ..MongoOptions::default()
            };
            let store = Arc::new(Mongo::open(uri.expose(), options).await?);
            return Ok(Kept { boot, store, replica: None });
        }
        let sqlite = Arc::new(Sqlite::open(&config.data_dir)?);
        if !matches!(config.cluster_mode, ClusterMode::Multicast | ClusterMode::Static) {
            return Ok(Kept { boot, store: sqlite, replica: None });
        }
        let options = replica::Options::new(Vec::new(), Arc::new(unix_ms));
        let replica = Replica::open(sqlite, NodeId::new(config.id()), boot, options).await?;
        Ok(Kept { boot, store: replica.clone(), replica: Some(replica) })
    }
}

struct Node {
    streams: Arc<Streams>,
    http: HttpServer,
    rtmp: sluice_rtmp::Server,
    webrtc: Option<Arc<WebRtc>>,
    calls: Arc<Calls>,
    bridges: Arc<Bridges>,
    identity: Option<Arc<Identity>>,
    admin_token: AdminToken,
    new_token: Option<String>,
    apps: Arc<Apps>,
    config: Arc<LiveConfig>,
    join: Option<Join>,
}

/// What a member of a cluster is made from, once its sockets are open.
struct Join {
    joining: Joining,
    fetching: Fetching,
    hls: Arc<sluice_package::Service>,
    router: axum::Router,
    api: Arc<ApiState>,
    status: Arc<Status>,
    apps: Arc<Apps>,
    config: Arc<LiveConfig>,
    replica: Option<Arc<Replica>>,
}

impl Join {
    fn start(self, streams: Arc<Streams>, listeners: Vec<TcpListener>) -> Result<Cluster, Failure> {
        let Join { joining, fetching, hls, router, api, status, apps, config, replica } = self;
        let parts = cluster::Parts { streams, hls, api: router, state: api, status, apps, config, listeners };
        joining.start(fetching, parts, replica)
    }
}

/// What a crash of an earlier run left live is written off.
async fn recover(store: &dyn Store, id: &str, in_cluster: bool) -> Result<bool, Failure> {
    match store.recover(id, unix_ms()).await {
        Ok(r) if r.deleted + r.finished > 0 => tracing::warn!(
            finished = r.finished,
            deleted = r.deleted,
            "the node had ended without a word; its streams have been written off"
        ),
        Ok(_) => {}
        // Until then the records are seen to be too old.
        Err(error) if error.is_away() && in_cluster => {
            tracing::warn!(%error, "starting without the store: what an earlier run left is looked at later");
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

/// The admin token, and its text when it is new.
async fn admin_token(config: &Config, store: &dyn Store) -> Result<(AdminToken, Option<String>), Failure> {
    match &config.admin_token {
        Some(token) => Ok((AdminToken::new(token.expose()), None)),
        None => match AdminToken::load_or_make(store).await {
            Err(error) if error.is_away() && config.in_cluster() => {
                tracing::warn!(%error, "management from other machines is closed on this node until it starts again: the admin token cannot be read");
                Ok((AdminToken::new(&format!("{:032x}", rand::random::<u128>())), None))
            }
            other => Ok(other?),
        },
    }
}

impl Node {
    async fn build(live: Arc<LiveConfig>, kept: Kept) -> Result<Self, Failure> {
        let config = &*live.get();
        let Kept { boot, store, replica } = kept;
        let id = config.id();
        let host = config.advertised().map_err(Failure::from)?;
        let recovered = recover(store.as_ref(), &id, config.in_cluster()).await?;
        let defaults = app_defaults(config);
        let apps = Apps::load(store.clone(), &config.apps, &defaults).await?;
        let (admin_token, new_token) = admin_token(config, store.as_ref()).await?;
        let identity = match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => Some(Identity::load(cert, key)?),
            _ => None,
        };

        let rtmp_port = config.rtmp_addr.addrs().first().map_or(1935, SocketAddr::port);
        let me = Me { id: id.clone(), host: host.clone(), rtmp_port };
        let hub = Hub::new(config.stream_linger);
        let joining = match config.in_cluster() {
            true => Some(Joining::new(config, boot, hub.clone(), store.clone())?),
            false => None,
        };
        let claims: Arc<dyn Claims> = match &joining {
            Some(joining) => joining.claims(),
            None => Alone::new(store.clone(), id.clone()),
        };
        let streams = Streams::new(hub.clone(), store.clone(), apps.clone(), claims, me, live.clone());
        if !recovered {
            streams.recover_later();
        }
        let fetching = joining.as_ref().map(|j| j.fetching(config, &streams)).transpose()?;
        let takes = Takes {
            publishers: config.role != Role::Edge,
            viewers: config.role != Role::Origin || config.origin_serves_viewers,
        };
        let door = Arc::new(Door::new(streams.clone(), fetching.as_ref().map(|f| f.fetch()), takes));

        let nodes = joining.as_ref().map(Joining::directory);
        let webrtc = WebRtc::start(&live, &door, &streams, &apps, nodes.clone())?.map(Arc::new);
        let calls = Arc::new(match &webrtc {
            Some(webrtc) if takes.publishers => {
                Calls::new(webrtc.service().clone(), streams.clone(), apps.clone(), nodes)
            }
            // Other nodes of the cluster call.
            _ if config.in_cluster() => Calls::none(None),
            _ => Calls::none(Some("WebRTC is switched off on this node (rtc_addr)".into())),
        });
        let bridges = Bridges::new(hub.clone());

        let known = apps.clone();
        let rtmp = sluice_rtmp::Server::new(
            sluice_rtmp::Settings {
                handshake_timeout: config.rtmp_handshake_timeout,
                idle_timeout: config.rtmp_idle_timeout,
                max_connections: config.rtmp_max_connections as usize,
                max_connections_per_ip: config.rtmp_max_connections_per_ip as usize,
                knows_app: Some(Arc::new(move |app| known.get(app).is_some())),
            },
            door.clone(),
            door.clone(),
        );

        let (of, from_owner) = (streams.clone(), fetching.as_ref().map(|f| f.packaging()));
        let mut hls = sluice_package::Service::new(
            door,
            Arc::new(move |key| {
                let own = of.hls(key).map(|hls| packaging::settings(&hls));
                own.or_else(|| from_owner.as_ref().and_then(|f| f(key))).unwrap_or_default()
            }),
        );
        if let Some(fetching) = &fetching {
            hls = hls.with_elsewhere(fetching.files());
        }
        let hls = Arc::new(hls);
        let status = Arc::new(Status {
            streams: streams.clone(),
            apps: apps.clone(),
            config: live.clone(),
            rtmp: rtmp.stats(),
            http: Default::default(),
            webrtc: webrtc.clone(),
            calls: calls.clone(),
            bridges: bridges.clone(),
            relayed: fetching.as_ref().map(|f| f.traffic()),
        });
        let view = joining.as_ref().zip(fetching.as_ref()).map(|(j, f)| j.view(f));
        let api = ApiState::new(
            store.clone(),
            hub,
            status.clone(),
            view,
            ApiSettings {
                node_id: id,
                advertise_host: if config.in_cluster() { Some(host) } else { config.advertise_host.clone() },
                rtmp_port,
                trusted_proxies: config.trusted_proxies.clone(),
                data_dir: config.data_dir.clone(),
                app_defaults: defaults,
                build: option_env!("SLUICE_BUILD").unwrap_or("dev").to_owned(),
            },
            admin_token.clone(),
        );
        let router = sluice_api::router(api.clone());
        let public = match &webrtc {
            Some(webrtc) => {
                webrtc.shows(&api);
                webrtc.router().fallback_service(router.clone())
            }
            None => router.clone(),
        };
        let of = streams.clone();
        let dispatch = Dispatch::new(Hls(hls.clone()), public, config.http_request_timeout)
            .with_lets_go(Box::new(move || of.open().is_err()));
        let http = Server::new(Limits::from(config), dispatch);
        let _ = status.http.set(http.clone());
        let join = joining.zip(fetching).map(|(joining, fetching)| Join {
            joining,
            fetching,
            hls,
            router,
            api,
            status,
            apps: apps.clone(),
            config: live.clone(),
            replica,
        });
        Ok(Node {
            streams,
            http,
            rtmp,
            webrtc,
            calls,
            bridges,
            identity,
            admin_token,
            new_token,
            apps,
            config: live,
            join,
        })
    }

    async fn run(mut self, config: &Config) -> Result<(), Failure> {
        let mut signals = Signals::new()?;
        let cluster_port = match &self.join {
            Some(_) => listen::tcp("cluster_addr", &config.cluster_addr)?,
            None => Vec::new(),
        };
        self.listen(config)?;
        let join = self.join.take().map(|join| join.start(self.streams.clone(), cluster_port));
        let cluster = join.transpose()?;
        tokio::spawn(self.bridges.clone().run());
        let lifecycle = tokio::spawn(lifecycle::run(self.streams.clone()));
        let calls = self.calls.run();
        let streams = self.streams.clone();
        tokio::spawn(self.apps.clone().follow(move |app| streams.stop_app(app)));
        tokio::spawn(follow_drains(self.streams.drains(), self.http.clone()));
        if let Some(identity) = &self.identity {
            tokio::spawn(identity.clone().follow());
        }
        if let Some(file) = self.config.secret_file("admin_token") {
            tokio::spawn(follow_token(file.to_owned(), self.admin_token.clone()));
        }
        announce(config, self.new_token.as_deref());
        if self.new_token.is_some() {
            self.admin_token.keep(self.streams.store()).await?;
        }

        let name = signals.next().await;
        tokio::select! {
            () = self.wait_for_sessions(name) => {}
            name = signals.next() => tracing::warn!(signal = name, "not waiting for those who are left"),
        }
        tracing::info!("stopping: streams and connections are given a clean end");
        let within = self.config.get().shutdown_timeout;
        let drained = tokio::select! {
            left = self.drain(within, cluster.as_ref(), calls) => left,
            name = signals.next() => {
                tracing::warn!(signal = name, "stopping at once");
                return Err(Failure::new(Exit::Failure, "stopped at once, as the second signal asked"));
            }
        };
        lifecycle.abort();
        tracing::info!(connections_cut = drained, "stopped");
        Ok(())
    }

    fn listen(&self, config: &Config) -> Result<(), Failure> {
        let runtime = |e: std::io::Error| Failure::io("use a listening socket", &e);
        let tls =
            |e: tokio_rustls::rustls::Error| Failure::new(Exit::Usage, format!("cannot set TLS up: {e}"));
        // All sockets are opened before any is served: a node that cannot start takes nobody in.
        let http = listen::tcp("http_addr", &config.http_addr)?;
        let rtmp = listen::tcp("rtmp_addr", &config.rtmp_addr)?;
        let (https, rtmps) = match &self.identity {
            Some(_) => (
                listen::tcp("https_addr", &config.https_addr)?,
                listen::tcp("rtmps_addr", &config.rtmps_addr)?,
            ),
            None => Default::default(),
        };
        for socket in http {
            self.http.serve(socket, None).map_err(runtime)?;
        }
        for socket in rtmp {
            let (server, socket) =
                (self.rtmp.clone(), tokio::net::TcpListener::from_std(socket).map_err(runtime)?);
            tokio::spawn(async move { server.serve(socket).await });
        }
        if let Some(identity) = &self.identity {
            let https_tls = identity.https().map_err(tls)?;
            for socket in https {
                self.http.serve(socket, Some(https_tls.clone())).map_err(runtime)?;
            }
            let acceptor = TlsAcceptor::from(identity.plain().map_err(tls)?);
            for socket in rtmps {
                let (server, acceptor) = (self.rtmp.clone(), acceptor.clone());
                let socket = tokio::net::TcpListener::from_std(socket).map_err(runtime)?;
                tokio::spawn(async move { server.serve_tls(socket, acceptor).await });
            }
        }
        Ok(())
    }

    /// Lets nobody new in, once the balancers in front know of it, and waits until everybody has left or may be cut.
    /// Meanwhile the node serves, and is ready.
    async fn wait_for_sessions(&self, signal: &'static str) {
        let config = self.config.get();
        let (deadline, accept_for) = (config.drain_deadline, config.stop_delay());
        self.streams.drain(Order {
            by: DrainOrder::Signal,
            reason: format!("it was told to stop ({signal})"),
            deadline: Some(deadline.max(accept_for)),
            accept_for,
        });
        let drains = self.streams.drains();
        let mut told = Instant::now();
        loop {
            let (owned, viewers) = self.streams.sessions();
            let sessions = self.config.get().drain_waits_for.of(owned, viewers);
            if drains.borrow().is_over(Instant::now(), sessions) {
                return;
            }
            if told.elapsed() >= TELL_WAITING {
                told = Instant::now();
                tracing::info!(streams = owned, viewers, "stopping: waiting for those who are still here");
            }
            tokio::time::sleep(LOOK_WAITING).await;
        }
    }

    /// Gives everybody a clean end; how many connections had to be cut after `within`.
    async fn drain(&self, within: Duration, cluster: Option<&Cluster>, calls: Tasks) -> u64 {
        let end = Instant::now() + within;
        let left = || end.saturating_duration_since(Instant::now());
        self.streams.stop();
        let had_streams = !self.streams.live().is_empty();
        // Whom this node called is told first, while there are sockets to do it.
        calls.end().await;
        let moving = if cluster.is_some() { COME_BACK } else { Duration::ZERO };
        let rtmp = self.rtmp.drain(Farewell { moving, within: left() * 4 / 5 });
        let webrtc = async {
            match &self.webrtc {
                Some(webrtc) => webrtc.stop(left() * 4 / 5).await,
                None => 0,
            }
        };
        let (cut, webrtc) = tokio::join!(rtmp, webrtc);
        let mut cut = cut + webrtc as u64;
        // Who has left because it was asked to may be on its way to another node.
        let came_back = end - within / 4;
        while self.streams.is_giving_away() && Instant::now() < came_back {
            tokio::time::sleep(LOOK_WAITING).await;
        }
        // Those that nobody publishes just now. Other nodes' streams go on: who watches them here comes back elsewhere.
        let own: Vec<StreamKey> = self.streams.live().keys().cloned().collect();
        for key in &own {
            self.streams.hub().stop(key, StopReason::Stopping);
        }
        lifecycle::settle(&self.streams).await;
        if had_streams {
            tokio::time::sleep(FAREWELL.min(left())).await;
        }
        // Requests that wait for the next part of another node's stream get it: relays end last.
        if !self.http.shutdown(left()).await {
            cut += self.http.traffic().open;
        }
        if let Some(cluster) = cluster {
            cluster.leave().await;
        }
        cut
    }
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::io("listen for signals", &e));
        Ok(Signals { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// The packager behind `/{app}/streams/…`.
struct Hls(Arc<sluice_package::Service>);

impl Playback for Hls {
    async fn handle(&self, head: &Parts, peer: SocketAddr) -> Response<Bytes> {
        self.0.handle(head, peer).await
    }
}

/// What the API asks the composition.
struct Status {
    streams: Arc<Streams>,
    apps: Arc<Apps>,
    config: Arc<LiveConfig>,
    rtmp: Arc<sluice_rtmp::server::Stats>,
    http: std::sync::OnceLock<HttpServer>,
    webrtc: Option<Arc<WebRtc>>,
    calls: Arc<Calls>,
    bridges: Arc<Bridges>,
    /// Bytes of streams from and to other nodes.
    relayed: Option<Box<dyn Fn() -> (u64, u64) + Send + Sync>>,
}

#[async_trait::async_trait]
impl NodeStatus for Status {
    fn ready(&self) -> Result<(), String> {
        // While it drains and ends it serves what it has.
        self.http.get().map(|_| ()).ok_or_else(|| "the node is starting".into())
    }

    fn accepts(&self) -> Result<(), String> {
        // Whoever sends sessions here should stop at once, though those on their way are let in for a moment.
        match self.streams.drains().borrow().is_on() {
            true => Err(Refusal::Draining.to_string()),
            false => self.streams.open().map_err(|refusal| refusal.to_string()),
        }
    }

    fn drains(&self) -> Option<DrainState> {
        let (owned, viewers) = self.streams.sessions();
        self.streams.drains().borrow().shown(Instant::now(), owned, viewers)
    }

    fn drain(&self, wish: DrainWish) {
        let given = (!wish.reason.is_empty()).then_some(wish.reason);
        self.streams.drain(Order {
            by: DrainOrder::Rest,
            reason: given.unwrap_or_else(|| "somebody asked for it over REST".into()),
            deadline: wish.deadline,
            accept_for: wish.accept_for.unwrap_or_else(|| self.config.get().stop_delay()),
        });
    }

    fn undrain(&self) -> Result<(), String> {
        self.streams.undrain().map_err(|why| why.to_string())
    }

    fn traffic(&self) -> sluice_api::Traffic {
        use std::sync::atomic::Ordering::Relaxed;
        let http = self.http.get().map(Server::traffic).unwrap_or_default();
        let relayed = self.relayed.as_ref().map_or((0, 0), |relayed| relayed());
        let webrtc = self.webrtc.as_ref().map_or((0, 0), |webrtc| webrtc.rtc().traffic());
        sluice_api::Traffic {
            bytes_in: http.bytes_in + self.rtmp.bytes_in.load(Relaxed) + webrtc.0 + relayed.0,
            bytes_out: http.bytes_out + self.rtmp.bytes_out.load(Relaxed) + webrtc.1 + relayed.1,
        }
    }

    fn connections(&self) -> Vec<(&'static str, u64)> {
        let http = self.http.get().map(Server::traffic).unwrap_or_default();
        let mut all = vec![
            ("http", http.open),
            ("rtmp", self.rtmp.connections.load(std::sync::atomic::Ordering::Relaxed)),
        ];
        if let Some(webrtc) = &self.webrtc {
            all.extend(webrtc.connections());
        }
        all
    }

    fn counters(&self) -> Vec<Counter> {
        let counter = |name, help, value| Counter { name, help, value };
        let bridges = self.bridges.counts();
        let mut all = vec![
            counter(
                "audio_bridges_total",
                "Audio bridges between AAC and Opus that were started.",
                bridges.started,
            ),
            counter(
                "audio_bridges_failed_total",
                "Audio bridges that could not start, or gave up.",
                bridges.failed,
            ),
            counter("audio_bridge_frames_total", "Audio frames that bridges made.", bridges.frames),
        ];
        if let Some(webrtc) = &self.webrtc {
            all.extend(webrtc.counters());
        }
        all
    }

    fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.streams.refused()
    }

    fn calls(&self) -> &dyn sluice_api::Calls {
        self.calls.as_ref()
    }

    fn app(&self, name: &str) -> Option<sluice_store::App> {
        self.apps.get(name).map(|app| app.as_ref().clone())
    }

    async fn apps_changed(&self) {
        if let Err(error) = self.apps.refresh().await {
            tracing::warn!(%error, "the changed apps cannot be read: the change holds from the next start on");
        }
    }
}

fn app_defaults(config: &Config) -> AppSettings {
    AppSettings {
        hls_time: config.hls_segment_time.as_secs_f64().to_string(),
        hls_list_size: config.hls_list_size.to_string(),
        hls_part_duration: config.hls_part_time.as_secs_f64().to_string(),
        ..AppSettings::default()
    }
}

fn announce(config: &Config, new_token: Option<&str>) {
    let host = config.advertise_host.as_deref().unwrap_or("127.0.0.1");
    let app = config.apps.first().map_or("LiveApp", String::as_str);
    let port = |listen: &crate::config::Listen| listen.addrs().first().map(SocketAddr::port);
    let http = match port(&config.http_addr) {
        Some(80) | None => format!("http://{host}"),
        Some(port) => format!("http://{host}:{port}"),
    };
    println!("Sluice {} is running.", env!("CARGO_PKG_VERSION"));
    if let Some(rtmp) = port(&config.rtmp_addr) {
        let port = if rtmp == 1935 { String::new() } else { format!(":{rtmp}") };
        println!("  Publish:   rtmp://{host}{port}/{app}/cam1   (cam1 is yours to choose)");
    }
    println!("  Watch:     {http}/{app}/play.html?id=cam1");
    println!("  Dashboard: {http}/");
    if let Some(token) = new_token {
        println!("  Admin token, for management from other machines; it is not shown again: {token}");
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::Corrupt { .. } | StoreError::TooNew { .. } | StoreError::Unreadable { .. } => {
                Exit::Corrupt
            }
            StoreError::Locked { .. } => Exit::InUse,
            StoreError::Full { .. } => Exit::DiskFull,
            StoreError::Permission { .. } => Exit::Permission,
            StoreError::Io { .. } => Exit::System,
            _ => Exit::Failure,
        };
        Failure::new(exit, error.to_string())
    }
}
