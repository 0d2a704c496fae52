use std::os::unix::fs::PermissionsExt;

use super::*;

const SAMPLE: &str = "# our node\nrole = \"edge\"  # behind the balancer\n\n# http_addr = \"0.0.0.0:5080\"\n";

struct Place {
    folder: tempfile::TempDir,
    sources: Sources,
}

impl Place {
    fn new(text: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluice.toml");
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        Self { folder, sources: Sources { file: Some(path), ..Sources::default() } }
    }

    fn change(&self, request: &Request) -> Result<String, String> {
        change(request, &self.sources, || "k".repeat(64)).map_err(|failure| failure.message)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode_of(&self, name: &str) -> u32 {
        std::fs::metadata(self.folder.path().join(name)).unwrap().permissions().mode() & 0o7777
    }
}

fn cluster(place: &str, user: Option<&str>, password: Option<&str>) -> Request {
    Request::Cluster {
        place: Secret::new(place.into()),
        user: user.map(Into::into),
        password: password.map(|p| Secret::new(p.into())),
    }
}

#[test]
fn a_node_joins_a_cluster_and_leaves_it() {
    let place = Place::new(Some(SAMPLE));
    let said = place.change(&cluster("10.0.0.5:27017", Some("media"), Some("s3cret word"))).unwrap();
    let folder = place.folder.path().canonicalize().unwrap();
    let folder = folder.display();
    assert_eq!(
        place.read("sluice.toml"),
        format!(
            "{SAMPLE}cluster_mode = \"mongodb\"\nstore = \"mongodb://10.0.0.5:27017/\"\nstore_user = \"media\"\n\
             store_password_file = \"{folder}/store-password\"\ncluster_key_file = \"{folder}/cluster-key\"\n"
        )
    );
    assert_eq!(place.read("store-password"), "s3cret word\n");
    assert_eq!((place.mode_of("store-password"), place.mode_of("cluster-key")), (0o600, 0o600));
    assert_eq!(place.names(), ["cluster-key", "sluice.toml", "store-password"]);
    assert!(said.contains("copy that file to every other node") && said.contains("restart"), "{said}");
    assert!(!said.contains("kkkk") && !said.contains("s3cret"), "{said}");

    // Asked again, the key stays, and nothing is written twice.
    let before = place.read("sluice.toml");
    place.change(&cluster("10.0.0.5:27017", Some("media"), Some("s3cret word"))).unwrap();
    assert_eq!(place.read("sluice.toml"), before);

    let shown = show(&place.sources).unwrap();
    assert!(shown.contains("cluster (mongodb)  (") && shown.contains("MongoDB at 10.0.0.5:27017"), "{shown}");
    assert!(shown.contains("sluice.toml:5: cluster_mode") && !shown.contains("s3cret"), "{shown}");

    let said = place.change(&Request::Standalone).unwrap();
    assert!(said.contains("it is `both` now"), "{said}");
    assert_eq!(
        place.read("sluice.toml"),
        format!(
            "{}cluster_mode = \"standalone\"\nstore = \"sqlite\"\ncluster_key_file = \"{folder}/cluster-key\"\n",
            SAMPLE.replace("\"edge\"", "\"both\"")
        )
    );
    assert!(show(&place.sources).unwrap().starts_with("mode       standalone  ("));
}

#[test]
fn a_file_is_made_and_a_uri_with_a_password_kept_apart() {
    let place = Place::new(None);
    place.change(&cluster("mongodb+srv://u:hidden@c.example/?tls=true", None, None)).unwrap();
    assert_eq!(place.read("store-uri"), "mongodb+srv://u:hidden@c.example/?tls=true\n");
    assert!(!place.read("sluice.toml").contains("hidden"));
    assert_eq!((place.mode_of("sluice.toml"), place.mode_of("store-uri")), (0o644, 0o600));
    // Another database without a user: nothing of the old one is left in the file.
    place.change(&cluster("db1,db2", None, None)).unwrap();
    let text = place.read("sluice.toml");
    assert!(text.contains("store = \"mongodb://db1,db2/\"") && !text.contains("store_file"), "{text}");
}

#[test]
fn clusters_without_a_database() {
    let place = Place::new(Some(SAMPLE));
    let error = place.change(&Request::Static { members: "a b".into() }).unwrap_err();
    assert!(error.contains("expected members") && error.contains("left as it is"), "{error}");
    place.change(&Request::Static { members: "10.0.0.1,10.0.0.2".into() }).unwrap();
    assert!(place.read("sluice.toml").contains("static_members = \"10.0.0.1,10.0.0.2\""));
    place.change(&Request::Multicast { group: Some("239.1.2.3:5001".into()) }).unwrap();
    let shown = show(&place.sources).unwrap();
    assert!(shown.contains("cluster (multicast)") && shown.contains("239.1.2.3:5001"), "{shown}");
}

#[test]
fn flags_are_written_with_it() {
    let mut place = Place::new(Some("log = \"info\"\n"));
    place.sources.flags.insert("advertise_host".into(), "10.0.0.9".into());
    place.sources.flags.insert("cluster_key".into(), "0123456789abcdef".into());
    place.change(&cluster("db", None, None)).unwrap();
    assert!(place.read("sluice.toml").contains("advertise_host = \"10.0.0.9\""));
    assert_eq!(place.read("cluster-key"), "0123456789abcdef\n");
    place.sources.flags.insert("store".into(), "sqlite".into());
    let error = place.change(&cluster("db", None, None)).unwrap_err();
    assert!(error.contains("--store"), "{error}");
}

#[test]
fn nothing_changes_when_the_result_would_be_refused() {
    for (text, request, part) in [
        (SAMPLE, cluster("redis://h", None, None), "Redis is no store"),
        (SAMPLE, cluster("a b", None, None), "`host:port`"),
        (SAMPLE, cluster("mongodb://u:p@h", Some("u"), Some("p")), "in one place"),
        (SAMPLE, cluster("h", None, Some("p")), "store_user is not"),
        ("lgo = \"info\"\n", cluster("h", None, None), "did you mean log?"),
        ("cluster_addr = \"off\"\n", cluster("h", None, None), "cluster_addr is off"),
        ("advertise_host = \"::\"\n", Request::Standalone, "not a wildcard"),
    ] {
        let place = Place::new(Some(text));
        let error = place.change(&request).unwrap_err();
        assert!(error.contains(part) && !error.contains(".new"), "{error}");
        assert_eq!(
            (place.read("sluice.toml").as_str(), place.names().as_slice()),
            (text, &["sluice.toml".to_owned()][..])
        );
    }
}

#[test]
fn what_goes_before_the_file_is_said() {
    let mut place = Place::new(Some(""));
    place.sources.env = vec![
        ("SLUICE_CLUSTER_KEY".into(), "0123456789abcdef".into()),
        ("SLUICE_STORE".into(), "mongodb://other/".into()),
    ];
    let said = place.change(&cluster("db", None, None)).unwrap();
    assert!(said.contains("warning: SLUICE_STORE goes before the file"), "{said}");
    assert_eq!(place.names(), ["sluice.toml"], "the key is in the environment");
}

#[test]
fn the_file_of_the_service_is_meant_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let service = folder.path().join("sluice.toml");
    assert_eq!(with_file(Sources::default(), &service).file, Some(service.clone()));
    assert_eq!(with_file(Sources::default(), &folder.path().join("none/sluice.toml")).file, None);
    let named = Sources { file: Some("x.toml".into()), ..Sources::default() };
    assert_eq!(with_file(named, &service).file, Some("x.toml".into()));
    let error = change(&Request::Standalone, &Sources::default(), random_key).unwrap_err();
    assert!(error.message.contains("--config"), "{error}");
}

#[test]
fn passwords_come_from_the_standard_input_and_keys_from_chance() {
    let password = read_password("pa ss\r\nmore\n".as_bytes()).unwrap();
    assert_eq!(password.expose(), "pa ss");
    assert!(read_password("\n".as_bytes()).is_err());
    let key = random_key();
    assert!(key.len() == 64 && key != random_key());
}

#[test]
fn secrets_belong_to_the_user_that_the_node_runs_as() {
    use std::os::unix::fs::MetadataExt;
    let data = tempfile::tempdir().unwrap();
    let place = Place::new(Some(&format!("data_dir = \"{}\"\n", data.path().display())));
    // Only root can give files away; anybody else keeps them.
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(data.path(), Some(12345), Some(12346)).unwrap();
    }
    place.change(&cluster("db", None, None)).unwrap();
    let owner = |path: &Path| path.metadata().map(|m| (m.uid(), m.gid())).unwrap();
    let key = place.folder.path().join("cluster-key");
    assert_eq!(owner(&key).0, owner(data.path()).0);
    assert_eq!(owner(&key).0 == 12345, is_root);
    assert_eq!(place.mode_of("cluster-key"), 0o600);
    assert_eq!(owner(&place.folder.path().join("sluice.toml")), owner(place.folder.path()));
}
