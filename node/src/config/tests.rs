use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;

#[derive(Default)]
struct Given {
    file: Option<tempfile::NamedTempFile>,
    env: Vec<(OsString, OsString)>,
    flags: BTreeMap<String, String>,
}

impl Given {
    fn file(text: &str) -> Self {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Self { file: Some(file), ..Self::default() }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.flags.insert(key.into(), value.into());
        self
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        let file = self.file.as_ref().map(|file| file.path().to_owned());
        load(&Sources { file, env: self.env.clone(), flags: self.flags.clone() })
    }

    fn fails(&self) -> String {
        self.load().expect_err("should be refused").to_string()
    }
}

#[test]
fn defaults_are_those_that_tools_rely_on() {
    let config = Given::default().load().unwrap().config;
    assert_eq!(config.data_dir.to_str(), Some("./data"));
    assert_eq!(config.http_addr.to_string(), "0.0.0.0:5080");
    assert_eq!(config.https_addr.to_string(), "0.0.0.0:5443");
    assert_eq!(config.rtmp_addr.to_string(), "0.0.0.0:1935");
    assert_eq!(config.cluster_addr.to_string(), "0.0.0.0:5000");
    assert_eq!(config.srt_addr.to_string(), "0.0.0.0:4200");
    assert_eq!(config.rtc_addr.to_string(), "0.0.0.0:5004");
    assert!(config.rtmps_addr.is_off());
    assert_eq!(config.apps, ["LiveApp", "WebRTCAppEE", "live"]);
    assert_eq!(config.stream_linger, Duration::from_secs(10));
    assert_eq!((config.store, config.cluster_mode), (StoreKind::Sqlite, ClusterMode::Standalone));
}

#[test]
fn flags_go_before_the_environment_before_the_file() {
    let given = Given::file("http_addr = \"127.0.0.1:1\"\nrtmp_addr = \"127.0.0.1:2\"\nlog = \"warn\"\n")
        .env("SLUICE_HTTP_ADDR", "127.0.0.1:3")
        .env("SLUICE_RTMP_ADDR", "127.0.0.1:4")
        .flag("http_addr", "127.0.0.1:5");
    let config = given.load().unwrap().config;
    let port = |listen: &Listen| listen.addrs().first().map(SocketAddr::port);
    assert_eq!((port(&config.http_addr), port(&config.rtmp_addr)), (Some(5), Some(4)));
    assert_eq!(config.log, "warn");
}

#[test]
fn values_have_their_natural_types_in_toml() {
    let text = r#"
        trusted_proxies = ["10.0.0.0/8", "::1"]
        http_addr = ["127.0.0.1:8080", "[::1]:8080"]
        hls_list_size = 5
        stream_linger = 3
        hls_part_time = 0.5
        stream_memory = "8MiB"
    "#;
    let config = Given::file(text).load().unwrap().config;
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!(config.http_addr.addrs().len(), 2);
    assert_eq!((config.hls_list_size, config.stream_linger), (5, Duration::from_secs(3)));
    assert_eq!((config.hls_part_time, config.stream_memory), (Duration::from_millis(500), 8 << 20));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_what_was_meant() {
    let error = Given::file("# comment\nhttp_adr = \"0.0.0.0:1\"\n").fails();
    assert!(
        error.contains(".toml:2: http_adr: there is no such setting (did you mean http_addr?)"),
        "{error}"
    );
    let error = Given::file("[http]\naddr = \"0.0.0.0:1\"\n").fails();
    assert!(error.contains(".toml:1: http: there is no such setting;"), "{error}");
}

#[test]
fn a_wrong_value_is_refused_with_what_was_expected() {
    let error = Given::file("log = \"info\"\nhls_list_size = \"many\"\nrole = 5\n").fails();
    assert!(error.contains(
        ".toml:2: hls_list_size: \"many\" is not a value of hls_list_size: expected a whole number"
    ));
    assert!(
        error.contains(
            ".toml:3: role: a value of type integer is not a value of role: expected one of `both`"
        )
    );
    let error = Given::default().env("SLUICE_HTTP_ADDR", "5080").fails();
    assert!(
        error.starts_with("SLUICE_HTTP_ADDR: \"5080\" is not a value of http_addr: expected addresses"),
        "{error}"
    );
    let error = Given::default().flag("stream_linger", "soon").fails();
    assert!(error.starts_with("--stream-linger: \"soon\" is not"), "{error}");
}

#[test]
fn bad_toml_names_the_line() {
    let error = Given::file("log = \"info\"\nlog_format = \n").fails();
    assert!(error.contains(".toml:2: not valid TOML"), "{error}");
    let sources = Sources { file: Some("/nonexistent/sluice.toml".into()), ..Sources::default() };
    let error = load(&sources).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the configuration file /nonexistent/sluice.toml"), "{error}");
}

#[test]
fn an_unknown_variable_is_warned_about_and_an_empty_one_is_none() {
    let given = Given::default()
        .env("SLUICE_HTP_ADDR", "x")
        .env("SLUICE_SERVICE_HOST", "10.0.0.1")
        .env("SLUICE_CONFIG", "x")
        .env("SLUICE_ADMIN_TOKEN", "")
        .env("PATH", "/bin");
    let loaded = given.load().unwrap();
    assert_eq!(loaded.warnings.len(), 2);
    assert!(
        loaded.warnings[0]
            .contains("SLUICE_HTP_ADDR means nothing to sluice-node (did you mean SLUICE_HTTP_ADDR?)")
    );
    assert!(loaded.config.admin_token.is_none());
}

#[test]
fn secrets_come_from_files_and_stay_secret() {
    let mut token = tempfile::NamedTempFile::new().unwrap();
    token.write_all(b"0123456789abcdef\n").unwrap();
    let path = token.path().to_str().unwrap();
    let given = Given::default().env("SLUICE_ADMIN_TOKEN_FILE", path);
    let loaded = given.load().unwrap();
    assert_eq!(loaded.config.admin_token.as_ref().map(Secret::expose), Some("0123456789abcdef"));
    assert!(!loaded.to_toml().contains("0123456789abcdef"));
    assert!(!format!("{loaded:?}").contains("0123456789abcdef"));

    let error = Given::default().env("SLUICE_ADMIN_TOKEN_FILE", "/nonexistent/token").fails();
    assert!(error.starts_with("SLUICE_ADMIN_TOKEN_FILE: cannot read /nonexistent/token"), "{error}");
    let both = given.env("SLUICE_ADMIN_TOKEN", "0123456789abcdef").fails();
    assert!(both.contains("both admin_token and admin_token_file are given"), "{both}");
    let error = Given::default().env("SLUICE_ADMIN_TOKEN", "short").fails();
    assert!(
        error.contains("the given text is not a value of admin_token") && !error.contains("short"),
        "{error}"
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (text, part) in [
        ("tls_cert = \"c\"", "tls_cert is set, but tls_key is not"),
        ("rtmps_addr = \"0.0.0.0:1936\"", "there is no certificate"),
        (
            "rtmp_addr = \"127.0.0.1:5080\"",
            "http_addr (0.0.0.0:5080) and rtmp_addr (127.0.0.1:5080) want the same port",
        ),
        ("hls_part_time = \"2s\"", "must be at most half"),
        ("hls_list_size = 100", "make it at least 200s"),
    ] {
        let error = Given::file(text).fails();
        assert!(error.contains(part), "{text}: {error}");
    }
}

const KEY: &str = "cluster_key = \"0123456789abcdef\"\n";

#[test]
fn clusters_are_what_they_need_to_be() {
    let mongodb = "cluster_mode = \"mongodb\"\nstore = \"mongodb://127.0.0.1:17117/?replicaSet=s\"\n";
    let multicast = "cluster_mode = \"multicast\"\n";
    let fixed = "cluster_mode = \"static\"\nstatic_members = [\"10.0.0.1\", \"10.0.0.2:5000;o2\"]\n";
    for text in [mongodb, multicast, fixed] {
        let config = Given::file(&format!("{text}{KEY}")).load().unwrap().config;
        assert!(config.in_cluster());
        assert!(matches!(config.cluster_identity(), Some(ClusterIdentity::Key(_))));
        let error = Given::file(text).fails();
        assert!(error.contains("openssl rand -hex 32"), "{error}");
    }
    let files = "cluster_cert = \"c\"\ncluster_cert_key = \"k\"\ncluster_ca = \"a\"\n";
    let config = Given::file(&format!("{fixed}{files}{KEY}")).load().unwrap().config;
    assert!(matches!(config.cluster_identity(), Some(ClusterIdentity::Files { .. })));
    for (text, part) in [
        (
            "cluster_mode = \"mongodb\"".to_owned(),
            "cluster_mode = mongodb needs a store that all nodes share",
        ),
        (format!("{multicast}store = \"mongodb://h\""), "do without a database"),
        (format!("{multicast}{files}"), "signs its datagrams with the cluster key"),
        ("cluster_mode = \"static\"".to_owned(), "needs static_members"),
        (format!("{multicast}cluster_addr = \"off\""), "cluster_addr is off"),
        (format!("{multicast}cluster_addr = \"127.0.0.1:1935\""), "want the same port"),
        ("cluster_cert = \"c\"".to_owned(), "belong together"),
        ("role = \"edge\"".to_owned(), "a standalone node has no origin to fetch from"),
        ("advertise_host = \"0.0.0.0\"".to_owned(), "not a wildcard"),
        ("heartbeat = 20".to_owned(), "dead_after (20s) must be at least twice heartbeat (20s)"),
        ("lease = 30".to_owned(), "must not be shorter than lease (30s)"),
        ("store_password = \"p\"".to_owned(), "store_user is not"),
        ("store_user = \"u\"".to_owned(), "the embedded database has no users"),
        ("store = \"mongodb://a:b@h/\"\nstore_user = \"u\"".to_owned(), "keep one of them"),
    ] {
        let error = Given::file(&text).fails();
        assert!(error.contains(part), "{text}: {error}");
    }
    // The cluster's port does not matter to a node alone, and MongoDB is there for it, too.
    let alone = "cluster_addr = \"127.0.0.1:1935\"\nstore = \"mongodb://h/\"\nstore_user = \"u@x\"";
    assert!(!Given::file(alone).load().unwrap().config.in_cluster());
}

#[test]
fn truth_is_a_toml_boolean_or_text() {
    for text in ["origin_serves_viewers = false", "origin_serves_viewers = \"false\""] {
        assert!(!Given::file(text).load().unwrap().config.origin_serves_viewers);
    }
    let error = Given::file("origin_serves_viewers = 1").fails();
    assert!(error.contains("expected `true` or `false`"), "{error}");
    assert!(
        !Given::default()
            .env("SLUICE_ORIGIN_SERVES_VIEWERS", "false")
            .load()
            .unwrap()
            .config
            .origin_serves_viewers
    );
}

#[test]
fn the_address_that_others_are_told() {
    let told = |given: Given| given.load().unwrap().config.advertised().map_err(|e| e.to_string());
    let pod = || Given::default().env("POD_IP", "10.1.2.3");
    assert_eq!(told(pod()), Ok("10.1.2.3".into()));
    assert_eq!(told(pod().env("SLUICE_POD_IP", "fd00::7")), Ok("fd00::7".into()));
    assert_eq!(told(pod().env("SLUICE_ADVERTISE_HOST", "n1.example")), Ok("n1.example".into()));
    // The name is not ours alone.
    assert_eq!(told(Given::default().env("POD_IP", "none")), Ok(crate::process::host_name()));
    let error = told(pod().env("SLUICE_ADVERTISE_INTERFACE", "nosuch0")).unwrap_err();
    assert!(error.contains("there is no network interface nosuch0") && error.contains("lo"), "{error}");
    let error = told(pod().env("SLUICE_ADVERTISE_INTERFACE", "lo")).unwrap_err();
    assert!(error.contains("lo has no address that other machines can reach"), "{error}");
}

#[test]
fn multicast_goes_by_an_interface() {
    let via = |name: &str, group: &str| {
        let given =
            Given::default().env("SLUICE_MULTICAST_INTERFACE", name).env("SLUICE_MULTICAST_GROUP", group);
        given.load().unwrap().config.multicast_via().map_err(|e| e.to_string())
    };
    assert_eq!(via("", ""), Ok(None));
    assert_eq!(via("lo", "239.1.2.3:5001"), Ok(Some([127, 0, 0, 1].into())));
    assert_eq!(via("10.0.0.7", "239.1.2.3:5001"), Ok(Some([10, 0, 0, 7].into())));
    assert!(via("nosuch0", "").unwrap_err().contains("there is no network interface nosuch0"));
}

#[test]
fn passwords_and_uris_are_not_printed() {
    let given = Given::default()
        .env("SLUICE_STORE", "mongodb://h1,h2/?replicaSet=r")
        .env("SLUICE_STORE_USER", "media")
        .env("SLUICE_STORE_PASSWORD", "pa ss-word")
        .env("SLUICE_CLUSTER_KEY", "0123456789abcdef");
    let loaded = given.load().unwrap();
    let sources = Sources { env: given.env.clone(), ..Sources::default() };
    for text in [loaded.to_toml(), format!("{loaded:?}"), format!("{sources:?}")] {
        assert!(!text.contains("pa ss") && !text.contains("0123456789") && !text.contains("h1,h2"), "{text}");
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let printed = Given::default().flag("http_addr", "127.0.0.1:1").load().unwrap().to_toml();
    assert!(printed.contains("http_addr = \"127.0.0.1:1\"  # --http-addr"), "{printed}");
    let config = Given::file(&printed).load().unwrap().config;
    assert_eq!(config.http_addr.to_string(), "127.0.0.1:1");
}

#[test]
fn every_default_is_a_value() {
    for setting in SETTINGS {
        assert!((setting.accepts)(setting.default), "{}", setting.key);
        assert!(!setting.summary().is_empty());
    }
}
