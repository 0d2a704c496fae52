//! What is said here about nodes is so: their settings, their metrics, their paths.

use std::collections::BTreeSet;

use serde_json::json;

use super::{cluster_with, origins_of, repository, served, site};
use crate::{TEMPLATE, cluster_objects, config_toml, live_settings};

fn source(path: &str) -> String {
    std::fs::read_to_string(repository(path)).expect("the node's source")
}

#[test]
fn every_setting_exists_and_live_ones_are_live() {
    let settings = source("node/src/config/settings.rs");
    let cluster = cluster_with(json!({ "security": { "tls": { "secretName": "tls" } } })).expect("right");
    let pool = origins_of(
        &cluster,
        json!({ "capacity": { "streams": 5, "viewers": 6 }, "config": { "log": "debug", "hls_list_size": "10" } }),
    )
    .expect("right");
    let text = config_toml(&pool, TEMPLATE);
    let table: toml::Table = text.parse().expect("TOML");
    assert!(table.len() > 15, "{text}");
    for (key, value) in &table {
        assert!(value.is_str(), "{key}: nodes take text for any type, and numbers only where they are meant");
        let line =
            |key: &str| settings.lines().any(|line| line.trim_start().starts_with(&format!("{key}: ")));
        let secret = key.strip_suffix("_file");
        assert!(line(key) || secret.is_some_and(line), "nodes have no setting {key}");
    }
    let live = live_settings(&pool, TEMPLATE, None, "");
    assert_eq!(
        live.settings.keys().collect::<Vec<_>>(),
        sluice_control::LIVE_SETTINGS.iter().collect::<Vec<_>>(),
        "all of them, so that what leaves the spec is taken back"
    );
    // The defaults that are pushed are the node's own, but for what the operator always says.
    let plain = origins_of(&cluster, json!({})).expect("right");
    for (key, value) in &live_settings(&plain, TEMPLATE, None, "").settings {
        let value = value.as_str().expect("text");
        if !["drain_deadline", "shutdown_timeout"].contains(&key.as_str()) {
            let line = settings
                .lines()
                .find(|line| line.trim_start().starts_with(&format!("{key}: ")))
                .expect("a line");
            assert!(line.contains(&format!("= \"{value}\",")), "{key} = {value:?}: {line}");
        }
    }
}

#[test]
fn alerts_use_metrics_that_nodes_export() {
    let exported = source("node/api/src/metrics.rs");
    let cluster = cluster_with(json!({})).expect("right");
    let rule = cluster_objects(&cluster, &site(), &served(), true).prometheus_rule.expect("wanted");
    let rules = rule.data["spec"]["groups"][0]["rules"].as_array().expect("a list").clone();
    let mut used = BTreeSet::new();
    for rule in &rules {
        let expr = rule["expr"].as_str().expect("text");
        assert!(
            expr.contains("namespace=\"media\"") && expr.contains("sluice_dev_cluster=\"demo\""),
            "{expr}"
        );
        assert_eq!(expr.matches('(').count(), expr.matches(')').count(), "{expr}");
        assert_eq!(expr.matches('{').count(), expr.matches('}').count(), "{expr}");
        for word in expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if let Some(name) = word.strip_prefix("sluice_").filter(|name| !name.starts_with("dev_")) {
                used.insert(name.trim_end_matches("_bucket").to_owned());
            }
        }
    }
    assert!(used.len() >= 7, "{used:?}");
    for name in &used {
        assert!(exported.contains(&format!("\"{name}\"")), "nodes export no sluice_{name}");
    }
    let names: BTreeSet<&str> = rules.iter().filter_map(|rule| rule["alert"].as_str()).collect();
    assert_eq!(names.len(), rules.len(), "every alert has a name of its own");
}

#[test]
fn probes_ask_paths_that_need_no_token() {
    let router = source("node/api/src/router.rs");
    let pod = crate::pod(&super::origins(json!({})), 0, TEMPLATE);
    let container = pod.spec.expect("a spec").containers.remove(0);
    for probe in [container.startup_probe, container.readiness_probe] {
        let path = probe.and_then(|probe| probe.http_get).and_then(|get| get.path).expect("a path");
        assert!(router.contains(&format!(".route(\"{path}\"")), "{path}");
    }
    let liveness = container.liveness_probe.expect("a probe");
    assert_eq!(liveness.termination_grace_period_seconds, Some(30), "not the hours that a drain may take");
    assert!(liveness.http_get.is_none(), "a node at its limits answers 503 to everybody");
}
