//! The table of settings. The configuration file, the environment, the command line, `--help`, `config print`,
//! docs/configuration.md and the typed [`Config`] all come from these lines.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::rules::cluster::{
    GroupName, Interface, InterfaceOrAddress, Members, MulticastGroup, Password, Prefix, StoreUri, UserName,
};
use super::rules::rtc::{Candidates, IceServers};
use super::rules::{
    Address, AppNames, Choice, Count, FilePath, Host, Ip, LogFilter, Maybe, Networks, NodeName, Rule,
    SecretText, Shape, Size, Span, Truth,
};
use super::types::{
    Candidate, ClusterMode, Listen, LogFormat, Role, Secret, StoreKind, WaitsFor, WithoutStore,
};

/// A setting, without its value.
pub struct Setting {
    /// The heading under which it is listed.
    pub group: &'static str,
    /// Its key in the TOML file. Environment variable and flag follow from it.
    pub key: &'static str,
    /// The text of its default; empty when it has none.
    pub default: &'static str,
    /// What it is for, in Markdown, one sentence or some.
    pub doc: &'static str,
    /// Whether its value is kept from logs and listings, and may come from a file of its own.
    pub secret: bool,
    /// Whether a running node takes another value of it; all others take effect at the next start.
    pub live: bool,
    /// Whether a text is a value of it.
    pub accepts: fn(&str) -> bool,
    /// What it expects, as the end of "expected …".
    pub expected: fn() -> String,
    /// How its value is written in TOML.
    pub shape: fn() -> Shape,
}

impl Setting {
    /// The environment variable: `SLUICE_HTTP_ADDR`.
    #[must_use]
    pub fn env(&self) -> String {
        format!("SLUICE_{}", self.key.to_ascii_uppercase())
    }

    /// The flag without dashes in front: `http-addr`.
    #[must_use]
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The sentence that describes it, on one line.
    #[must_use]
    pub fn summary(&self) -> String {
        self.doc.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

macro_rules! settings {
    ($( group $group:literal { $(
        $(#[doc = $doc:literal])+
        $key:ident: $type:ty = $default:literal, $rule:expr $(, $mark:ident)?;
    )+ } )+) => {
        /// The configuration of a node: every value is one that the node can work with.
        #[derive(Clone, Debug)]
        pub struct Config { $( $(
            $(#[doc = $doc])+
            pub $key: $type,
        )+ )+ }

        /// All settings, in the order in which they are listed.
        pub static SETTINGS: &[Setting] = &[ $( $( Setting {
            group: $group,
            key: stringify!($key),
            default: $default,
            doc: concat!($($doc, "\n"),+),
            secret: settings!(@is secret $($mark)?),
            live: settings!(@is live $($mark)?),
            accepts: |text| Rule::parse(&$rule, text).is_some(),
            expected: || Rule::expected(&$rule),
            shape: || Rule::shape(&$rule),
        }, )+ )+ ];

        impl Config {
            /// Reads every value from its text; `None` when one is not accepted.
            pub(super) fn from_text(text: impl Fn(&'static str) -> String) -> Option<Self> {
                Some(Self { $( $( $key: Rule::parse(&$rule, &text(stringify!($key)))?, )+ )+ })
            }
        }
    };
    (@is secret secret) => { true };
    (@is live live) => { true };
    (@is $mark:ident $($other:ident)?) => { false };
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

settings! {
    group "Node" {
        /// The folder for everything that the node keeps: the embedded database, later recordings. It is made
        /// when it is missing.
        data_dir: PathBuf = "./data", FilePath;
        /// The name of this node, unique in its cluster. Without one it is the host name of the machine.
        node_id: Option<String> = "", Maybe(NodeName);
        /// The host name or address under which others reach this node: clients, and the other nodes of its
        /// cluster. Requests that name it as their host are accepted by the management pages. Without one, the
        /// address comes from `advertise_interface`, from `pod_ip`, or is the host name of the machine.
        advertise_host: Option<String> = "", Maybe(Host);
        /// The network interface whose first global address is told to others, IPv4 before IPv6. `advertise_host`
        /// goes before it.
        advertise_interface: Option<String> = "", Maybe(Interface);
        /// The address of the pod that the node runs in, from Kubernetes' downward API (`status.podIP`). The
        /// variable `POD_IP` is read as well.
        pod_ip: Option<IpAddr> = "", Maybe(Ip);
        /// What the node does: `origin` takes publishers (and serves viewers unless `origin_serves_viewers` says
        /// no), `edge` serves viewers with streams of origins and refuses publishers, `both` does both.
        role: Role = "both",
            Choice(&[("both", Role::Both), ("origin", Role::Origin), ("edge", Role::Edge)]);
        /// The apps that exist from the first start on. More can be made later.
        apps: Vec<String> = "LiveApp, WebRTCAppEE, live", AppNames;
    }
    group "Cluster" {
        /// How nodes find each other. `standalone` is one node alone; `mongodb` by records in the store that all
        /// share; `multicast` by datagrams in one network, `static` from a list, both without a database.
        cluster_mode: ClusterMode = "standalone", Choice(&[
            ("standalone", ClusterMode::Standalone),
            ("mongodb", ClusterMode::MongoDb),
            ("multicast", ClusterMode::Multicast),
            ("static", ClusterMode::Static),
        ]);
        /// The secret that the nodes of one cluster share: who has it is a member. `openssl rand -hex 32` makes one.
        cluster_key: Option<Secret> = "", Maybe(SecretText(16)), secret;
        /// The file with this node's certificate for the cluster port, PEM; its common name is the node's id.
        /// With `cluster_cert_key` and `cluster_ca` it takes the place of the cluster key.
        cluster_cert: Option<PathBuf> = "", Maybe(FilePath);
        /// The file with the private key of `cluster_cert`, PEM.
        cluster_cert_key: Option<PathBuf> = "", Maybe(FilePath);
        /// The file with the certificate of the authority that signed the nodes' certificates, PEM. Whoever has a
        /// certificate of it is a member.
        cluster_ca: Option<PathBuf> = "", Maybe(FilePath);
        /// The file with the certificate of the operator's authority, PEM; on Kubernetes the operator provides it. Whoever has a
        /// certificate of it may ask this node how it is, drain it and set its apps, over the cluster port. It is read
        /// again when it changes; until it is there, nobody may.
        operator_ca: Option<PathBuf> = "", Maybe(FilePath);
        /// The group of nodes that fetch a stream from each other before they go further: a site, a rack, a zone.
        node_group: String = "default", GroupName;
        /// Mode `multicast`: where nodes look for each other, a multicast address with a UDP port. The datagrams are
        /// signed with the cluster key.
        multicast_group: SocketAddr = "239.77.77.77:5001", MulticastGroup;
        /// Mode `multicast`: the network interface for it, by name or address. Without one the system chooses.
        multicast_interface: Option<String> = "", Maybe(InterfaceOrAddress);
        /// Mode `static`: the nodes of the cluster, each `host[:port][;id][;domain]` with the cluster port (5000).
        /// The list may be the same on every node: a node passes over itself. Where entries have a domain, a node joins those
        /// of its own domain.
        static_members: Vec<String> = "", Members;
        /// How often a node writes what it does into the store that a cluster shares.
        heartbeat: Duration = "5s", Span(100, MINUTE);
        /// After how long without a sign of it a node is listed as dead.
        dead_after: Duration = "20s", Span(SECOND, HOUR);
        /// After how long without a sign of it a node has lost its streams: others may take them. Renewed at a
        /// third of it.
        lease: Duration = "6s", Span(SECOND, 5 * MINUTE);
        /// How long a stream that came from another node is kept after its last viewer.
        relay_idle: Duration = "2s", Span(0, HOUR);
        /// How long viewers of a stream of another node are kept when that node is gone, for the stream to come
        /// back there or elsewhere.
        relay_return: Duration = "10s", Span(0, HOUR);
        /// Whether a node with role `origin` serves viewers. When not, it answers them that edges do.
        origin_serves_viewers: bool = "true", Truth;
        /// What becomes of new publishers while the store that a cluster shares is away: `admit` lets those of known
        /// apps in, to be settled when it is back; `refuse` turns them away with that reason.
        new_streams_without_store: WithoutStore = "admit",
            Choice(&[("admit", WithoutStore::Admit), ("refuse", WithoutStore::Refuse)]);
    }
    group "Store" {
        /// Where streams, settings and users are stored: in the embedded database (`sqlite`, a file in the data
        /// directory) or in MongoDB.
        store: StoreKind = "sqlite", StoreUri, secret;
        /// The user of MongoDB, when the URI does not name one.
        store_user: Option<String> = "", Maybe(UserName);
        /// The password of `store_user`.
        store_password: Option<Secret> = "", Maybe(Password), secret;
        /// What stands before the names of MongoDB's databases, so that clusters can share a server.
        store_prefix: String = "", Prefix;
        /// From which time on a call to MongoDB is warned about.
        store_slow: Duration = "100ms", Span(1, MINUTE);
    }
    group "Addresses" {
        /// HTTP: playback, REST, dashboard, metrics. `0.0.0.0` brings `[::]` with it where the host has IPv6.
        http_addr: Listen = "0.0.0.0:5080", Address { may_be_off: false };
        /// HTTPS with HTTP/2; used when `tls_cert` and `tls_key` are set.
        https_addr: Listen = "0.0.0.0:5443", Address { may_be_off: true };
        /// RTMP: publishing and playback.
        rtmp_addr: Listen = "0.0.0.0:1935", Address { may_be_off: true };
        /// RTMP over TLS; needs `tls_cert` and `tls_key`.
        rtmps_addr: Listen = "off", Address { may_be_off: true };
        /// Node to node, with mutual TLS; nothing of it is for clients. Nothing listens here on a standalone node.
        cluster_addr: Listen = "0.0.0.0:5000", Address { may_be_off: true };
        /// SRT (UDP). Nothing listens here in this version.
        srt_addr: Listen = "0.0.0.0:4200", Address { may_be_off: true };
        /// WebRTC media: UDP, and TCP for clients behind firewalls that let no UDP through. All sessions share the port.
        rtc_addr: Listen = "0.0.0.0:5004", Address { may_be_off: true };
    }
    group "WebRTC" {
        /// The addresses with ports at which WebRTC clients reach `rtc_addr` (ICE host candidates), each `address:port`, or
        /// `address` alone with the port of `rtc_addr`; `/udp` or `/tcp` behind it makes it one for UDP or TCP alone. Without any they are `advertise_host` when that is an address, else `pod_ip`,
        /// else the addresses of this machine. On Kubernetes the operator gives those of the pod's Service.
        rtc_candidates: Vec<Candidate> = "", Candidates, live;
        /// Whether WebRTC media may come over TCP, too (ICE-TCP).
        rtc_tcp: bool = "true", Truth;
        /// How many threads carry WebRTC media; 0 is one for each core.
        rtc_threads: u32 = "0", Count(0, 256);
        /// How many WebRTC sessions are served at once, publishers and viewers together.
        rtc_max_sessions: u32 = "10000", Count(1, 1_000_000);
        /// How many WebRTC sessions from one address (of IPv6: one /64) may wait to be connected at a time. Trusted proxies are not
        /// counted.
        rtc_max_connecting_per_ip: u32 = "64", Count(1, 1_000_000);
        /// STUN and TURN servers that clients are told of, each `stun:host:port`, `turn:host:port?transport=udp` or `turns:…`.
        /// A client behind a strict firewall needs a TURN server.
        rtc_ice_servers: Vec<String> = "", IceServers;
        /// The user of the TURN servers.
        rtc_turn_user: Option<String> = "", Maybe(UserName);
        /// The password of `rtc_turn_user`. Every client gets it: let it be good for nothing else.
        rtc_turn_password: Option<Secret> = "", Maybe(Password), secret;
        /// From how many WebSockets AMS's signalling is served at once.
        websocket_max_connections: u32 = "20000", Count(1, 1_000_000);
        /// How many of them may come from one address. Trusted proxies are not counted.
        websocket_max_connections_per_ip: u32 = "5000", Count(1, 1_000_000);
    }
    group "TLS" {
        /// The file with the certificate chain, PEM. It is read again when it changes.
        tls_cert: Option<PathBuf> = "", Maybe(FilePath);
        /// The file with the private key of the certificate, PEM. It is read again when it changes.
        tls_key: Option<PathBuf> = "", Maybe(FilePath);
    }
    group "Access" {
        /// The token that lets management requests in from elsewhere than this machine
        /// (`Authorization: Bearer …`). Without one, a token is made at the first start, printed once and kept.
        admin_token: Option<Secret> = "", Maybe(SecretText(16)), secret;
        /// The proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
        trusted_proxies: Vec<IpNet> = "", Networks;
    }
    group "Streams" {
        /// How long a stream whose publisher's connection broke waits for it to return.
        stream_linger: Duration = "10s", Span(0, HOUR);
        /// How long frames are kept for viewers that join; must hold the HLS list.
        stream_window: Duration = "40s", Span(10 * SECOND, 10 * MINUTE);
        /// How much memory the kept frames of one track of a stream (its video, its audio) may take. Older ones go earlier when it is not enough.
        stream_memory: u64 = "64MiB", Size(1 << 20, 4 << 30);
        /// How many streams may be published to this node at once.
        max_streams: u32 = "2000", Count(1, 1_000_000), live;
        /// How many viewers this node lets in at once, by any protocol; without a number as many as connections allow.
        /// More are told to try another node.
        max_viewers: Option<u32> = "", Maybe(Count(1, 10_000_000)), live;
        /// The length of HLS segments of apps that are made from now on (`hlsTime`). Segments begin at key frames,
        /// so longer GOPs make longer segments.
        hls_segment_time: Duration = "2s", Span(SECOND, 30 * SECOND);
        /// How many segments a playlist lists, of apps that are made from now on (`hlsListSize`).
        hls_list_size: u32 = "15", Count(3, 1000);
        /// The length of low-latency HLS parts of apps that are made from now on (`hlsPartDuration`).
        hls_part_time: Duration = "200ms", Span(100, 2 * SECOND);
    }
    group "Limits" {
        /// How many HTTP and HTTPS connections are served at once. More are answered 503 and closed.
        http_max_connections: u32 = "20000", Count(1, 1_000_000);
        /// How many of them may come from one address (of IPv6: one /64). Trusted proxies are not counted.
        http_max_connections_per_ip: u32 = "5000", Count(1, 1_000_000);
        /// How long a request's header, or a TLS handshake, may take.
        http_header_timeout: Duration = "10s", Span(SECOND, 10 * MINUTE);
        /// How long a connection stays open without a request.
        http_idle_timeout: Duration = "75s", Span(SECOND, HOUR);
        /// How long a client may take nothing of what is sent to it before its connection is closed.
        http_write_timeout: Duration = "30s", Span(SECOND, HOUR);
        /// How long a REST request may take, its body included. Playback is not meant by this.
        http_request_timeout: Duration = "60s", Span(SECOND, HOUR);
        /// How large a request's header may be. The number of header lines is at most 100.
        http_max_header_size: u64 = "32KiB", Size(8 << 10, 1 << 20);
        /// How many requests one HTTP/2 connection may have under way.
        http2_max_requests: u32 = "128", Count(1, 10_000);
        /// How many RTMP and RTMPS connections are served at once.
        rtmp_max_connections: u32 = "20000", Count(1, 1_000_000);
        /// How many of them may come from one address.
        rtmp_max_connections_per_ip: u32 = "5000", Count(1, 1_000_000);
        /// How long an RTMP handshake may take.
        rtmp_handshake_timeout: Duration = "5s", Span(SECOND, 10 * MINUTE);
        /// How long an RTMP publisher may send nothing, or a player take nothing, before its connection is closed.
        rtmp_idle_timeout: Duration = "30s", Span(SECOND, HOUR);
        /// How long a stop (SIGTERM) waits for publishers and viewers to leave by themselves. Nobody new is let in
        /// meanwhile, and the node stays ready. With `0s` it does not wait.
        drain_deadline: Duration = "0s", Span(0, 7 * 24 * HOUR), live;
        /// For whom a stop waits: for `all`, or for `publishers` alone, whose streams are more than one viewer's.
        drain_waits_for: WaitsFor = "all",
            Choice(&[("all", WaitsFor::All), ("publishers", WaitsFor::Publishers)]), live;
        /// For how long a node that was told to stop still lets sessions in, until the balancers in front of it know.
        /// Without a time it is 5 s in a pod (where `pod_ip` is known), else 0.
        stop_delay: Option<Duration> = "", Maybe(Span(0, 10 * MINUTE)), live;
        /// How long the end itself may take, after `drain_deadline`: publishers and viewers who are left are given a clean
        /// end in this time.
        shutdown_timeout: Duration = "10s", Span(0, HOUR), live;
    }
    group "Logging" {
        /// Which log lines are written: a level, or a filter with levels for parts.
        log: String = "info", LogFilter, live;
        /// How they look: `text` for people, `json` for machines (one object a line).
        log_format: LogFormat = "text", Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    }
}
