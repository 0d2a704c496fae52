//! This node as a member of a cluster: what of sluice-cluster it uses, put together.
//!
//! A node is built in two steps, for a stream cannot be claimed without the cluster, nor the cluster answer for streams
//! that are not there yet: [`Joining`] has what claims need, [`Joining::start`] the rest.

mod claims;
mod fetch;
mod health;
mod local;
mod requests;
mod settle;
mod view;

use std::net::TcpListener;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use sluice_api::cluster::ClusterView;
use sluice_api::{ApiState, NodeStatus};
use sluice_cluster::directory::{Directory, Times};
use sluice_cluster::identity::{ClusterTls, multicast_key};
use sluice_cluster::member::{self, BootId, Load, Member, NodeId, Ports};
use sluice_cluster::membership::{
    Entry, FromStore, Listed, Membership, Multicast, MulticastSettings, StoreTiming,
};
use sluice_cluster::mesh::Mesh;
use sluice_cluster::ownership::Rules;
use sluice_cluster::port::{Client, ClusterPort, Handlers, Limits, PortError};
use sluice_cluster::relay::{Follow, RelayServer, Relays, Serve};
use sluice_cluster::replica::{self, Hooks, Peers, Replica, Spreading};
use sluice_media::stream::StopReason;
use sluice_media::{Hub, StreamKey};
use sluice_package::HlsSettings;
use sluice_store::Store;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::claims::ClusterClaims;
use self::fetch::{Carries, ClusterSources, Elsewhere, Offers};
pub(crate) use self::health::Health;
use self::local::{Myself, capacity};
use self::requests::Answers;
use self::settle::Settler;
use self::view::View;
use crate::apps::Apps;
use crate::config::{ClusterIdentity, ClusterMode, Config, Listen, LiveConfig, Role, WithoutStore};
use crate::exit::{Exit, Failure};
use crate::operator::{self, Operated, Trust};
use crate::streams::Streams;
use crate::streams::door::Fetch;

/// How long other nodes may take to be told that this one has gone.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a request for records may take.
const RECORDS_WITHIN: Duration = Duration::from_secs(10);

/// A node that is about to be a member.
pub struct Joining {
    id: NodeId,
    mode: ClusterMode,
    member: Member,
    tls: ClusterTls,
    multicast: Option<[u8; 32]>,
    client: Client,
    directory: Arc<Directory>,
    claims: Arc<ClusterClaims>,
    store: Arc<dyn Store>,
}

/// What a member needs of the rest of the node.
pub struct Parts {
    /// What it owns.
    pub streams: Arc<Streams>,
    /// Its packager.
    pub hls: Arc<sluice_package::Service>,
    /// Its REST interface, for requests that other nodes pass on.
    pub api: axum::Router,
    /// Measures the machine.
    pub state: Arc<ApiState>,
    /// Whether it is ready.
    pub status: Arc<dyn NodeStatus>,
    /// The apps as it knows them.
    pub apps: Arc<Apps>,
    /// As it is configured now.
    pub config: Arc<LiveConfig>,
    /// The sockets of the cluster port.
    pub listeners: Vec<TcpListener>,
}

/// The parts that fetch, made before the packager and the API, which use them.
pub struct Fetching {
    relays: Arc<Relays>,
    served: Arc<RelayServer>,
    carries: Arc<Carries>,
    elsewhere: Arc<Elsewhere>,
    membership: Arc<dyn Membership>,
    store_membership: Option<Arc<FromStore>>,
    health: Health,
    told: watch::Sender<Member>,
    mode: &'static str,
}

/// A member of a cluster.
pub struct Cluster {
    port: ClusterPort,
    relays: Arc<Relays>,
    served: Arc<RelayServer>,
    myself: Arc<Myself>,
    store_membership: Option<Arc<FromStore>>,
    tasks: Vec<AbortHandle>,
    _mesh: Arc<Mesh>,
    _spreading: Option<Spreading>,
}

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, error.to_string())
}

impl Joining {
    /// The identity of this node, and what it needs to claim streams.
    ///
    /// # Errors
    /// The key or the certificates cannot be used, or this node's own address is not known.
    pub fn new(config: &Config, boot: BootId, hub: Arc<Hub>, store: Arc<dyn Store>) -> Result<Self, Failure> {
        let id = NodeId::new(config.id());
        let (tls, multicast) = match config.cluster_identity() {
            Some(ClusterIdentity::Key(key)) => {
                let key = key.expose().as_bytes();
                (ClusterTls::from_key(key, &id).map_err(usage)?, Some(multicast_key(key).map_err(usage)?))
            }
            Some(ClusterIdentity::Files { cert, key, ca }) => {
                let tls = ClusterTls::from_files(&cert, &key, &ca).map_err(usage)?;
                let secret = config.cluster_key.as_ref().map(|k| multicast_key(k.expose().as_bytes()));
                (tls, secret.transpose().map_err(usage)?)
            }
            None => {
                return Err(usage("a cluster needs a key (cluster_key) or certificates (cluster_cert, …)"));
            }
        };
        let host = config.advertised()?;
        let member = Member {
            id: tls.node().clone(),
            boot,
            role: match config.role {
                Role::Both => member::Role::Both,
                Role::Origin => member::Role::Origin,
                Role::Edge => member::Role::Edge,
            },
            group: config.node_group.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host,
            ports: Ports {
                cluster: port(&config.cluster_addr),
                http: port(&config.http_addr),
                https: if config.tls_cert.is_some() { port(&config.https_addr) } else { 0 },
                rtmp: port(&config.rtmp_addr),
            },
            capacity: capacity(config),
            load: Load::default(),
            draining: false,
        };
        if member.id != id {
            return Err(usage(format!(
                "the certificate in cluster_cert is that of {}, but this node is {id}: set node_id to the common \
                 name of the certificate",
                member.id
            )));
        }
        let client = Client::new(&tls);
        let times = Times { lost: config.lease, dead: config.dead_after, ..Times::default() };
        let directory = Directory::new(member.clone(), times);
        let shared = config.cluster_mode == ClusterMode::MongoDb;
        let claims = Arc::new(ClusterClaims {
            rules: Rules {
                node: id.clone(),
                boot,
                local_leases: config.new_streams_without_store == WithoutStore::Admit,
            },
            shared,
            store: store.clone(),
            health: OnceLock::new(),
            hub,
            client: client.clone(),
            directory: directory.clone(),
        });
        let mode = config.cluster_mode;
        Ok(Joining { id, mode, member, tls, multicast, client, directory, claims, store })
    }

    /// What is known of the other nodes and their streams.
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.clone()
    }

    /// Claims streams for this node.
    pub fn claims(&self) -> Arc<dyn crate::streams::claim::Claims> {
        self.claims.clone()
    }

    /// Begins to look for other nodes, and gets ready to fetch from them.
    ///
    /// # Errors
    /// The membership cannot be used as it is configured.
    pub fn fetching(&self, config: &Config, streams: &Arc<Streams>) -> Result<Fetching, Failure> {
        let (told, me) = watch::channel(self.member.clone());
        let mut health = Health::default();
        let mut store_membership = None;
        let (mode, membership): (_, Arc<dyn Membership>) = match self.mode {
            ClusterMode::MongoDb => {
                let timing = StoreTiming {
                    heartbeat: config.heartbeat,
                    renew: config.lease_renewal(),
                    dead: config.dead_after,
                    ..StoreTiming::default()
                };
                let members = Arc::new(FromStore::start(self.store.clone(), me, timing));
                health = Health::of(members.health());
                store_membership = Some(members.clone());
                ("mongodb", members)
            }
            ClusterMode::Multicast => {
                let key =
                    self.multicast.ok_or_else(|| usage("multicast needs cluster_key: it signs with it"))?;
                let settings = MulticastSettings {
                    group: config.multicast_group,
                    interface: config.multicast_via()?,
                    gone_after: config.dead_after,
                    ..MulticastSettings::default()
                };
                ("multicast", Arc::new(Multicast::start(settings, key, me).map_err(usage)?))
            }
            ClusterMode::Static | ClusterMode::Standalone => {
                let entries = Entry::list(&config.static_members.join(",")).map_err(usage)?;
                ("static", Arc::new(Listed::new(&entries, &self.id, None)))
            }
        };
        let _ = self.claims.health.set(health.clone());
        let carries = Arc::new(Carries::default());
        let sources = Arc::new(ClusterSources {
            directory: self.directory.clone(),
            carries: carries.clone(),
            hints: Mutex::default(),
        });
        let follow =
            Follow { idle: config.relay_idle, return_within: config.relay_return, ..Follow::default() };
        let hub = streams.hub().clone();
        let dial = Arc::new(self.client.clone());
        let relays = Relays::new(hub.clone(), dial, sources.clone(), self.id.clone(), follow);
        let offers = Arc::new(Offers { streams: streams.clone(), relays: OnceLock::new() });
        let _ = offers.relays.set(relays.clone());
        let served = RelayServer::new(hub, self.id.clone(), offers, Serve::default());
        let elsewhere = Arc::new(Elsewhere {
            relays: relays.clone(),
            directory: self.directory.clone(),
            sources,
            client: self.client.clone(),
            shared: self.claims.shared.then(|| self.store.clone()),
        });
        Ok(Fetching { relays, served, carries, elsewhere, membership, store_membership, health, told, mode })
    }

    /// Joins: from here on other nodes see this one.
    ///
    /// # Errors
    /// The sockets cannot be used.
    pub fn start(
        self,
        fetching: Fetching,
        parts: Parts,
        replica: Option<Arc<Replica>>,
    ) -> Result<Cluster, Failure> {
        let Parts { streams, hls, api, state, status, apps, config, listeners } = parts;
        let settler = Settler {
            me: self.id.clone(),
            streams: streams.clone(),
            directory: self.directory.clone(),
            relays: fetching.relays.clone(),
            client: self.client.clone(),
            health: fetching.health.clone(),
            shared: self.claims.shared,
        };
        let mesh = Mesh::start(
            self.client.clone(),
            fetching.membership.clone(),
            self.directory.clone(),
            self.directory.clone(),
        );
        let records = replica.clone().map(replica::routes);
        let answers = Answers {
            streams: streams.clone(),
            directory: self.directory.clone(),
            hls,
            settler: settler.clone(),
        };
        let door = operator::Door::new(Operated {
            boot: self.member.boot,
            started: Instant::now(),
            config: config.clone(),
            streams: streams.clone(),
            apps,
            status,
            api: Arc::downgrade(&state),
            directory: self.directory.clone(),
            health: fetching.health.clone(),
            shares_store: self.claims.shared,
        });
        let handlers = Handlers {
            relay: fetching.served.clone(),
            mesh: mesh.clone(),
            requests: requests::router(answers, api, records),
            operator: operator::router(door),
            limits: Limits::default(),
        };
        let port = ClusterPort::serve(listeners, &self.tls, handlers)
            .map_err(|e| Failure::io("serve the cluster port", &e))?;
        let myself = Arc::new(Myself {
            member: self.member,
            config: config.clone(),
            streams: streams.clone(),
            directory: self.directory.clone(),
            carries: fetching.carries,
            health: fetching.health,
            api: OnceLock::new(),
            told: fetching.told,
        });
        let _ = myself.api.set(Arc::downgrade(&state));
        let spreading = replica.map(|replica| {
            replica.set_hooks(Arc::new(Deleted(streams)));
            replica.spread(Arc::new(Others { directory: self.directory.clone(), client: self.client }))
        });
        let trust = config.get().operator_ca.clone().map(|file| Trust::new(file, self.tls.clone()));
        let mut tasks = vec![
            tokio::spawn(myself.clone().run()).abort_handle(),
            tokio::spawn(settler.run()).abort_handle(),
            tokio::spawn(hear(fetching.membership, self.directory)).abort_handle(),
        ];
        tasks.extend(trust.map(|trust| tokio::spawn(trust.follow()).abort_handle()));
        Ok(Cluster {
            port,
            relays: fetching.relays,
            served: fetching.served,
            myself,
            store_membership: fetching.store_membership,
            tasks,
            _mesh: mesh,
            _spreading: spreading,
        })
    }

    /// The cluster as the API shows it.
    pub fn view(&self, fetching: &Fetching) -> Arc<dyn ClusterView> {
        Arc::new(View {
            mode: fetching.mode,
            directory: self.directory.clone(),
            membership: fetching.membership.clone(),
            client: self.client.clone(),
            relays: fetching.relays.clone(),
            served: fetching.served.clone(),
            health: fetching.health.clone(),
        })
    }
}

impl Fetching {
    /// Gets other nodes' streams.
    pub fn fetch(&self) -> Arc<dyn Fetch> {
        self.elsewhere.clone()
    }

    /// Gets other nodes' media files.
    pub fn files(&self) -> Arc<dyn sluice_package::Elsewhere> {
        self.elsewhere.clone()
    }

    /// Bytes of streams that came from other nodes, and that went there.
    pub fn traffic(&self) -> Box<dyn Fn() -> (u64, u64) + Send + Sync> {
        let (relays, served) = (self.relays.clone(), self.served.clone());
        Box::new(move || (relays.counts().bytes, served.counts().bytes))
    }

    /// How the owner of a fetched stream packages it.
    pub fn packaging(&self) -> impl Fn(&StreamKey) -> Option<HlsSettings> + Send + Sync + 'static {
        let elsewhere = self.elsewhere.clone();
        move |key| elsewhere.hls(key)
    }
}

impl Cluster {
    /// Lets go of the others' streams, and tells them that this node goes.
    pub async fn leave(&self) {
        self.myself.tell();
        self.relays.stop();
        self.served.stop();
        if let Some(members) = &self.store_membership {
            match tokio::time::timeout(FAREWELL, members.leave()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the record of this node stays in the store"),
                Err(_) => tracing::warn!("the record of this node stays in the store, which does not answer"),
            }
        }
        self.tasks.iter().for_each(AbortHandle::abort);
        self.port.close();
    }
}

/// Signs of life that do not come over the mesh.
async fn hear(membership: Arc<dyn Membership>, directory: Arc<Directory>) {
    let mut changed = membership.changed();
    loop {
        for peer in membership.peers() {
            if let (Some(id), Some(boot), Some(counter)) = (&peer.id, peer.boot, peer.counter) {
                directory.heard(id, boot, counter);
            }
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// What was deleted on another node does not go on here.
struct Deleted(Arc<Streams>);

impl Hooks for Deleted {
    fn broadcast_deleted(&self, app: &str, id: &str) {
        self.0.hub().stop(&StreamKey::new(app, id), StopReason::Deleted);
    }

    fn app_deleted(&self, app: &str) {
        self.0.stop_app(app);
    }
}

/// The other nodes, for those who exchange records with them.
struct Others {
    directory: Arc<Directory>,
    client: Client,
}

#[async_trait]
impl Peers for Others {
    fn up(&self) -> Vec<(NodeId, String)> {
        let up = self.directory.members().into_iter().filter(|m| m.reachable && m.id != *self.directory.id());
        up.filter_map(|m| Some((m.id, m.member?.cluster_addr()))).collect()
    }

    async fn request(&self, addr: &str, request: Request<Bytes>) -> Result<Response<Bytes>, PortError> {
        self.client.request(addr, request, RECORDS_WITHIN).await
    }

    fn links(&self) -> watch::Receiver<u64> {
        self.directory.changed()
    }
}

fn port(listen: &Listen) -> u16 {
    listen.addrs().first().map_or(0, std::net::SocketAddr::port)
}
