use proptest::prelude::*;

use super::*;

fn settings(imported: &Imported) -> Vec<(&str, &str)> {
    imported.settings.iter().map(|(key, (text, _))| (*key, text.as_str())).collect()
}

fn note<'a>(imported: &'a Imported, key: &str) -> &'a str {
    imported.notes.iter().find(|note| note.key == key).map_or("", |note| note.text.as_str())
}

/// An edge of a cluster, every key that cluster guides for Ant Media Server name.
const EDGE: &str = "
server.mode=edge
db.type=mongodb
db.host=db1.example:27017,db2.example:27017,\\
        db3.example:27017
db.options=replicaSet=media
db.name=streams
db.user=media
db.password=s3cr\\u00e9t word
cluster.enabled=true
cluster.node.id=edge-1
cluster.node.ip=10.0.0.20
cluster.origin.nodes=10.0.0.10:5080,10.0.0.11:5080
encoder.thread.count=4
encoder.gpu.enabled=true
hls.time=4
hls.list.size=12
http.max.connections=2000
cache.enabled=true
cache.ttl=60
metadata.cache.enabled=true
mystery=1
";

#[test]
fn an_edge_of_a_cluster() {
    let imported = import(EDGE);
    assert_eq!(
        settings(&imported),
        [
            ("advertise_host", "10.0.0.20"),
            ("cluster_mode", "mongodb"),
            ("hls_list_size", "12"),
            ("hls_segment_time", "4"),
            ("http_max_connections", "2000"),
            ("node_id", "edge-1"),
            ("role", "edge"),
            ("store", "mongodb://db1.example:27017,db2.example:27017,db3.example:27017/?replicaSet=media"),
            ("store_user", "media"),
            ("stream_window", "48s"),
        ]
    );
    assert_eq!(imported.secrets.get("store_password").map(Secret::expose), Some("s3crét word"));
    for (key, part) in [
        ("encoder.thread.count", "does not transcode"),
        ("encoder.gpu.enabled", "does not transcode"),
        ("cache.enabled", "not needed"),
        ("cache.ttl", "not needed"),
        ("metadata.cache.enabled", "not needed"),
        ("db.name", "not needed"),
        ("cluster.origin.nodes", "find each other in the database"),
        ("mystery", "not known"),
    ] {
        assert!(note(&imported, key).contains(part), "{key}: {}", note(&imported, key));
    }
    assert_eq!(imported.notes.len(), 8);
    assert!(imported.notes.is_sorted_by_key(|note| note.line));
    let missing = imported.missing();
    assert!(matches!(missing.as_slice(), [one] if one.contains("cluster_key")), "{missing:?}");
}

#[test]
fn what_is_written_is_a_configuration() {
    let imported = import(EDGE);
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("store-password");
    std::fs::write(&password, "s3crét word").unwrap();
    let text = imported
        .to_toml("red5.properties", &[("store_password", password.to_str().unwrap().to_owned())].into());
    assert!(!text.contains("s3cr"), "{text}");
    assert!(text.contains("role = \"edge\"  # server.mode\n"), "{text}");
    assert!(text.contains("hls_list_size = 12  # hls.list.size\n"), "{text}");
    assert!(text.contains("\n\n# Cluster\ncluster_mode = "), "{text}");
    let file = directory.path().join("sluice.toml");
    std::fs::write(&file, &text).unwrap();
    let flags = [("cluster_key".to_owned(), "0123456789abcdef".to_owned())].into();
    let loaded = config::load(&Sources { file: Some(file), flags, ..Sources::default() }).unwrap();
    assert_eq!(loaded.config.store_password.as_ref().map(Secret::expose), Some("s3crét word"));
    assert_eq!(loaded.config.id(), "edge-1");
    // Without a file the password is neither written nor lost from sight.
    let text = imported.to_toml("red5.properties", &BTreeMap::new());
    assert!(text.contains("# store_password_file = ") && !text.contains("s3cr"), "{text}");
}

#[test]
fn keys_of_ant_media_servers_own_file() {
    let imported = import(
        "server.name=live.example.org\nnodeGroup=eu\nlogLevel=WARN\nuseGlobalIp=false\nserver.licence_key=\n\
         http.host=0.0.0.0\nhttp.port=8080\nhttps.port=8443\nrtmp.host=127.0.0.1\nrtmp.port=1936\nrtmp.io_threads=16\n\
         http.max_threads=300\nserver.cpu_limit=75\njmx.rmi.port=9999\nclusterdb.host=localhost\nclusterdb.user=\n\
         clusterdb.password=\nrtmps.port=8443\n",
    );
    assert_eq!(
        settings(&imported),
        [
            ("advertise_host", "live.example.org"),
            ("http_addr", "0.0.0.0:8080"),
            ("https_addr", "0.0.0.0:8443"),
            ("log", "warn"),
            ("node_group", "eu"),
            ("rtmp_addr", "127.0.0.1:1936"),
        ]
    );
    let named: Vec<&str> = imported.notes.iter().map(|note| note.key.as_str()).collect();
    assert_eq!(
        named,
        ["rtmp.io_threads", "http.max_threads", "server.cpu_limit", "jmx.rmi.port", "rtmps.port"]
    );
    assert_eq!(imported.missing(), Vec::<String>::new());
}

#[test]
fn the_mode_follows_from_the_database() {
    let mode = |text: &str| import(text).settings.get("cluster_mode").map(|(mode, _)| mode.clone());
    assert_eq!(
        mode("clusterdb.host=10.0.0.5\nclusterdb.user=u\nclusterdb.password=p"),
        Some("mongodb".into())
    );
    assert_eq!(mode("db.type=mongodb\ndb.host=10.0.0.5"), None);
    assert_eq!(mode("db.type=mapdb\ncluster.enabled=true"), None);
    let imported = import("cluster.enabled=true\ncluster.origin.nodes=10.0.0.10:5080, [fd00::1]:5080,o3");
    assert_eq!(
        settings(&imported),
        [("cluster_mode", "static"), ("static_members", "10.0.0.10,[fd00::1],o3")]
    );
    assert!(note(&imported, "cluster.origin.nodes").contains("add the edges"));
}

#[test]
fn what_is_wrong_is_named_and_left_out() {
    let imported = import(
        "hls.list.size=2\nserver.mode=both?\ndb.type=redis\ndb.host=redis://h\ndb.password=hidden\nhttp.port=${PORT}\n\
         hls.time=4\nhls.time=5\n",
    );
    assert_eq!(settings(&imported), [("hls_segment_time", "5"), ("stream_window", "75s")]);
    assert!(note(&imported, "hls.list.size").contains("from 3 to 1000"));
    assert!(note(&imported, "server.mode").contains("expected"));
    assert!(note(&imported, "db.type").contains("left out"));
    assert!(note(&imported, "http.port").contains("${PORT}"));
    assert!(note(&imported, "hls.time").contains("that one counts"));
    assert!(!format!("{imported:?}").contains("hidden"));
}

#[test]
fn a_uri_with_a_password_is_a_secret() {
    let imported = import("db.host=mongodb://u:hidden@h/\nclusterdb.password=other\ncluster.enabled=true");
    assert_eq!(settings(&imported), [("cluster_mode", "mongodb")]);
    assert_eq!(imported.secrets.get("store").map(Secret::expose), Some("mongodb://u:hidden@h/"));
    let toml = imported.to_toml("x", &[("store", "/etc/sluice/store-uri".to_owned())].into());
    assert!(toml.contains("store_file = \"/etc/sluice/store-uri\"") && !toml.contains("hidden"), "{toml}");
    assert!(
        import("db.host=mongodb://u:hid\\u0007den@h/").notes.iter().all(|note| !note.text.contains("hid"))
    );
}

#[test]
fn options_are_joined_to_the_uri() {
    let store = |text: &str| import(text).settings.get("store").map(|(uri, _)| uri.clone());
    assert_eq!(
        store("db.host=mongodb://h\ndb.options=replicaSet=r"),
        Some("mongodb://h/?replicaSet=r".into())
    );
    assert_eq!(
        store("db.host=mongodb://h/?tls=true\ndb.options=replicaSet=r"),
        Some("mongodb://h/?tls=true&replicaSet=r".into())
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>(), value in any::<String>()) {
        let imported = import(&format!("{text}\nhls.time={value}\ndb.host={value}\nrtmp.port={value}\ncluster.origin.nodes={value}\ncluster.enabled=true"));
        let toml = imported.to_toml("x", &BTreeMap::new());
        prop_assert!(toml.parse::<DocumentMut>().is_ok(), "{}", toml);
        let _ = imported.missing();
    }
}
