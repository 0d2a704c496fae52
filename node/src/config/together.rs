//! Settings that are right alone, but not together, and those that this version has nothing behind.

use super::error::{ConfigError, ConfigErrors};
use super::settings::Config;
use super::types::{ClusterMode, Listen, Role, StoreKind};

pub(super) fn check(config: &Config) -> Result<(), ConfigErrors> {
    let mut errors = Vec::new();
    tls(config, &mut errors);
    addresses(config, &mut errors);
    hls(config, &mut errors);
    available(config, &mut errors);
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
    let tcp: [(&str, &Listen, bool); 4] = [
        ("http_addr", &config.http_addr, true),
        ("https_addr", &config.https_addr, has_tls),
        ("rtmp_addr", &config.rtmp_addr, true),
        ("rtmps_addr", &config.rtmps_addr, has_tls),
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

fn available(config: &Config, errors: &mut Vec<ConfigError>) {
    let mut not = |key, value: &str, instead| {
        errors.push(ConfigError::NotAvailable { key, value: value.to_owned(), instead });
    };
    if matches!(config.store, StoreKind::MongoDb(_)) {
        not("store", "a MongoDB URI", "use `sqlite`");
    }
    match config.cluster_mode {
        ClusterMode::Standalone => {}
        ClusterMode::MongoDb => not("cluster_mode", "mongodb", "use `standalone`"),
        ClusterMode::Multicast => not("cluster_mode", "multicast", "use `standalone`"),
        ClusterMode::Static => not("cluster_mode", "static", "use `standalone`"),
    }
    if config.role == Role::Edge {
        not("role", "edge", "a standalone node has no origin to fetch from, so use `both`");
    }
}
