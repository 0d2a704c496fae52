//! Generations of the template: what was released stays as it was, and a node is told nothing that it does not know.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::{cluster_with, edges, origins, origins_of, repository};
use crate::build::{config, generation as generations};
use crate::{
    Pool, TEMPLATE, config_toml, drain_deadline_of, generation, live_settings, pod, protection, revision,
};

/// A pool whose spec makes the operator say everything that it can say.
fn talkative() -> Pool {
    let cluster = cluster_with(json!({ "security": { "tls": { "secretName": "tls" } } })).expect("right");
    let spec = json!({
        "capacity": { "streams": 5, "viewers": 6 },
        "config": { "hls_list_size": "10", "log": "debug" },
        "drain": { "deadline": "30m", "policy": "WaitForPublishers" },
        "exposure": { "rtmp": { "mode": "HostPort" } },
        "gpu": { "mode": "ExtendedResource" },
        "storage": { "size": "1Gi" },
    });
    origins_of(&cluster, spec).expect("right")
}

fn document(number: i64) -> String {
    let mut text = String::new();
    for pool in [edges(json!({})), talkative()] {
        let live = live_settings(&pool, number, Some(Duration::from_secs(600)), "");
        let mut pod = pod(&pool, 0, number);
        // Marks on pods, which come and go while they run, are of no generation.
        for (key, _) in protection(&pool, true) {
            pod.metadata.annotations.as_mut().and_then(|all| all.remove(key)).expect(key);
        }
        let objects: [Value; 2] =
            [serde_json::to_value(&live).expect("JSON"), serde_json::to_value(pod).expect("JSON")];
        writeln!(text, "---\nrevision: {}\nfile: |", revision(&pool, number)).expect("a String takes it");
        for line in config_toml(&pool, number).lines() {
            writeln!(text, "  {line}").expect("a String takes it");
        }
        for object in objects {
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string(&object).expect("YAML"));
        }
    }
    text
}

/// `SLUICE_GOLDEN=write` writes the file of a new generation, and never that of an old one.
#[test]
fn stay_what_they_were() {
    for number in 1..=TEMPLATE {
        let path = repository(&format!("operator/objects/src/tests/golden/generation-{number}.yaml"));
        if std::env::var("SLUICE_GOLDEN").as_deref() == Ok("write") && !path.exists() {
            std::fs::write(&path, document(number)).expect("written");
        }
        let (is, was) = (document(number), std::fs::read_to_string(&path).unwrap_or_default());
        for (line, (is, was)) in is.lines().zip(was.lines()).enumerate() {
            assert_eq!(
                is,
                was,
                "line {} of {}: pods of this generation run. Raise TEMPLATE, and build differently from there on",
                line + 1,
                path.display()
            );
        }
        assert_eq!(is.lines().count(), was.lines().count(), "{}", path.display());
    }
}

#[test]
fn the_newest_writes_all_that_the_operator_says() {
    let said: Vec<&str> = config::ours(&talkative(), TEMPLATE, None).into_keys().collect();
    assert_eq!(generations::of(TEMPLATE).written, said);
    for generation in generations::all() {
        assert!(generation.written.is_sorted() && generation.live.is_sorted());
        let table: toml::Table = config_toml(&talkative(), TEMPLATE).parse().expect("TOML");
        assert!(generation.written.iter().all(|key| table.contains_key(*key)), "{table:?}");
        for (key, _) in generation.live {
            assert!(sluice_control::LIVE_SETTINGS.contains(key), "nodes of now refuse {key}");
        }
    }
    let files: BTreeSet<&str> = generations::all().iter().map(|generation| generation.file).collect();
    assert_eq!(files.len(), generations::all().len(), "each has a file of its own");
}

#[test]
fn publishers_have_ten_seconds_to_come_back_within_the_grace() {
    // Four fifths of the end are theirs (node: `Farewell`).
    let told =
        |number: i64| live_settings(&talkative(), number, None, "").settings["shutdown_timeout"].clone();
    assert_eq!((told(1), told(2)), (json!("10s"), json!("15s")));
    assert!(Duration::from_secs(15) * 4 / 5 >= Duration::from_secs(10));
    assert!(config::STOP_DELAY + Duration::from_secs(15) <= config::GRACE);
    for number in 1..=TEMPLATE {
        let file: toml::Table = config_toml(&talkative(), number).parse().expect("TOML");
        assert_eq!(file["shutdown_timeout"].as_str(), told(number).as_str(), "{number}");
    }
}

#[test]
fn a_number_that_is_not_known_is_the_nearest() {
    let pool = talkative();
    for (number, nearest) in [(i64::MIN, 1), (0, 1), (TEMPLATE + 1, TEMPLATE), (i64::MAX, TEMPLATE)] {
        assert_eq!(config_toml(&pool, number), config_toml(&pool, nearest));
        assert_eq!(live_settings(&pool, number, None, ""), live_settings(&pool, nearest, None, ""));
    }
}

#[test]
fn pods_say_which_they_were_made_by() {
    let mut made = pod(&origins(json!({})), 0, TEMPLATE);
    assert_eq!(generation(&made), TEMPLATE);
    made.metadata.annotations = Some([("sluice.dev/template".to_owned(), "7".to_owned())].into());
    assert_eq!(generation(&made), 7);
    for annotations in [None, Some([("sluice.dev/template".to_owned(), "new".to_owned())].into())] {
        made.metadata.annotations = annotations;
        assert_eq!(generation(&made), 1);
    }
    // What it mounts is the file of its generation.
    let volumes = pod(&origins(json!({})), 0, TEMPLATE).spec.and_then(|spec| spec.volumes).expect("volumes");
    let sources = volumes[0].projected.as_ref().and_then(|volume| volume.sources.as_ref()).expect("sources");
    let items =
        sources[0].config_map.as_ref().and_then(|config_map| config_map.items.as_ref()).expect("items");
    let files = config::files(&origins(json!({})));
    assert!(files.contains_key(&items[0].key), "{files:?}");
    assert_eq!(items[0].path, "node.toml");
}

#[test]
fn no_node_counts_on_time_that_its_pod_does_not_have() {
    let seconds = Duration::from_secs;
    let pool = origins(json!({ "drain": { "deadline": "1h" } }));
    for (grace, deadline) in [
        (None, 3600),
        (Some(3630), 3600),
        (Some(90_000), 3600),
        (Some(630), 600),
        (Some(30), 0),
        (Some(0), 0),
    ] {
        let grace = grace.map(seconds);
        assert_eq!(drain_deadline_of(&pool, grace), seconds(deadline), "{grace:?}");
        let live = live_settings(&pool, TEMPLATE, grace, "");
        assert_eq!(live.settings["drain_deadline"], format!("{deadline}s"));
    }
    let hash = |grace: u64| live_settings(&pool, TEMPLATE, Some(seconds(grace)), "").hash;
    assert_ne!(hash(3630), hash(630), "the node must be told");
    assert_eq!(hash(3630), hash(4000));
    let at_once = origins(json!({ "drain": { "policy": "Immediate" } }));
    assert_eq!(live_settings(&at_once, TEMPLATE, Some(seconds(630)), "").settings["drain_deadline"], "0s");
    // The pod that is made has the time that is asked for.
    let made = pod(&pool, 0, TEMPLATE).spec.and_then(|spec| spec.termination_grace_period_seconds);
    let grace = made.and_then(|grace| u64::try_from(grace).ok()).map(seconds);
    assert_eq!(drain_deadline_of(&pool, grace), pool.drain_deadline());
}
