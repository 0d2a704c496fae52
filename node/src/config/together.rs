//! Settings that are right alone, but not together.

use std::net::IpAddr;

use super::error::{ConfigError, ConfigErrors};
use super::settings::Config;
use super::types::{ClusterMode, Listen, Role, StoreKind};
use super::uri;

pub(super) fn check(config: &Config) -> Result<(), ConfigErrors> {
    let mut errors = Vec::new();
    tls(config, &mut errors);
    addresses(config, &mut errors);
    hls(config, &mut errors);
    store(config, &mut errors);
    cluster(config, &mut errors);
    times(config, &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
}

fn tls(config: &Config, errors: &mut Vec<ConfigError>) {
    let mut say = |text: &str| errors.push(ConfigError::Together(text.to_owned()));
    match (&config.tls_cert, &config.tls_key) {
        (Some(_), None) => say("tls_cert is set, but tls_key is not: set both, or neither"),
        (None, Some(_)) => say("tls_key is set, but tls_cert is not: set both, or neither"),
        (None, None) if !config.rtmps_addr.is_off() => {
            say("rtmps_addr is set, but there is no certificate: set tls_cert and tls_key too");
        }
        _ => {}
    }
}

fn addresses(config: &Config, errors: &mut Vec<ConfigError>) {
    let has_tls = config.tls_cert.is_some();
    // UDP ports are apart from TCP's; those that nothing listens on yet are not looked at.
    let tcp: [(&str, &Listen, bool); 6] = [
        ("http_addr", &config.http_addr, true),
        ("https_addr", &config.https_addr, has_tls),
        ("rtmp_addr", &config.rtmp_addr, true),
        ("rtmps_addr", &config.rtmps_addr, has_tls),
        ("cluster_addr", &config.cluster_addr, config.in_cluster()),
        ("rtc_addr", &config.rtc_addr, config.rtc_tcp),
    ];
    for (i, (a, a_addr, a_used)) in tcp.iter().enumerate() {
        for (b, b_addr, b_used) in &tcp[i + 1..] {
            if *a_used && *b_used && a_addr.overlaps(b_addr) {
                errors.push(ConfigError::Together(format!(
                    "{a} ({a_addr}) and {b} ({b_addr}) want the same port: give each its own"
                )));
            }
        }
    }
    let has_turn = config.rtc_ice_servers.iter().any(|url| url.starts_with("turn"));
    if has_turn != (config.rtc_turn_user.is_some() && config.rtc_turn_password.is_some()) {
        errors.push(ConfigError::Together(
            "TURN servers need a user: set rtc_turn_user and rtc_turn_password together with a turn: or turns: URL in \
             rtc_ice_servers, or none of them"
                .into(),
        ));
    }
    let host = config.advertise_host.as_deref().and_then(|host| host.parse::<IpAddr>().ok());
    if host.or(config.pod_ip).is_some_and(|ip| ip.is_unspecified() || ip.is_multicast()) {
        errors.push(ConfigError::Together(
            "advertise_host must be an address under which others reach this node, not a wildcard: \
             name one, or set advertise_interface"
                .into(),
        ));
    }
}

fn hls(config: &Config, errors: &mut Vec<ConfigError>) {
    let (segment, part) = (config.hls_segment_time, config.hls_part_time);
    if part * 2 > segment {
        errors.push(ConfigError::Together(format!(
            "hls_part_time ({part:?}) must be at most half of hls_segment_time ({segment:?})"
        )));
    }
    let list = segment * config.hls_list_size;
    if list > config.stream_window {
        errors.push(ConfigError::Together(format!(
            "stream_window ({:?}) is shorter than the HLS list of {} segments of {segment:?}: make it at least {list:?}",
            config.stream_window, config.hls_list_size
        )));
    }
}

fn store(config: &Config, errors: &mut Vec<ConfigError>) {
    let mut say = |text: &str| errors.push(ConfigError::Together(text.to_owned()));
    if config.store_password.is_some() && config.store_user.is_none() {
        say("store_password is set, but store_user is not: set both, or name both in the URI");
    }
    match &config.store {
        StoreKind::Sqlite if config.store_user.is_some() => {
            say("store_user is set, but the embedded database has no users: set store to a MongoDB URI, \
                 or leave store_user out");
        }
        StoreKind::MongoDb(uri) if config.store_user.is_some() && uri::has_user(uri.expose()) => {
            say("store names a user, and store_user does as well: keep one of them");
        }
        _ => {}
    }
}

fn cluster(config: &Config, errors: &mut Vec<ConfigError>) {
    let mut say = |text: &str| errors.push(ConfigError::Together(text.to_owned()));
    let files = [&config.cluster_cert, &config.cluster_cert_key, &config.cluster_ca];
    let named = files.iter().filter(|file| file.is_some()).count();
    if named != 0 && named != files.len() {
        say("cluster_cert, cluster_cert_key and cluster_ca belong together: set all three, or none");
    }
    if !config.in_cluster() {
        if config.operator_ca.is_some() {
            say(
                "operator_ca is set, but the node stands alone and has no cluster port: set cluster_mode, or leave operator_ca out",
            );
        }
        if config.role == Role::Edge {
            say(
                "role = edge needs a cluster: a standalone node has no origin to fetch from, so use `both`, \
                 or set cluster_mode",
            );
        }
        return;
    }
    if config.cluster_key.is_none() && named == 0 {
        say(
            "cluster_mode is set, but nothing says who belongs to the cluster: set cluster_key (SLUICE_CLUSTER_KEY) to one secret on all \
             nodes (make it with `openssl rand -hex 32`), or cluster_cert, cluster_cert_key and cluster_ca",
        );
    }
    if config.cluster_addr.is_off() {
        say("cluster_addr is off, but the nodes of a cluster talk to each other there: give it an address");
    }
    let has_mongodb = matches!(config.store, StoreKind::MongoDb(_));
    match config.cluster_mode {
        ClusterMode::Standalone => {}
        ClusterMode::MongoDb if !has_mongodb => {
            say("cluster_mode = mongodb needs a store that all nodes share: set store to a mongodb:// URI");
        }
        ClusterMode::MongoDb => {}
        ClusterMode::Multicast | ClusterMode::Static if has_mongodb => {
            say("cluster_mode = multicast and static do without a database: set store to `sqlite`, \
                 or cluster_mode to mongodb");
        }
        ClusterMode::Multicast if config.cluster_key.is_none() => {
            say("cluster_mode = multicast signs its datagrams with the cluster key: set cluster_key too");
        }
        ClusterMode::Static if config.static_members.is_empty() => {
            say("cluster_mode = static needs static_members, the list of the cluster's nodes");
        }
        ClusterMode::Multicast | ClusterMode::Static => {}
    }
}

fn times(config: &Config, errors: &mut Vec<ConfigError>) {
    let Config { heartbeat, dead_after, lease, .. } = config;
    if *dead_after < *heartbeat * 2 {
        errors.push(ConfigError::Together(format!(
            "dead_after ({dead_after:?}) must be at least twice heartbeat ({heartbeat:?}): \
             one heartbeat that comes late is no death"
        )));
    }
    if dead_after < lease {
        errors.push(ConfigError::Together(format!(
            "dead_after ({dead_after:?}) must not be shorter than lease ({lease:?})"
        )));
    }
}
