//! The commands beside `run`, as processes: what they write, say and end with.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn sluice(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice-node"))
        .args(args)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sluice-node starts");
    let mut stdin = child.stdin.take().expect("its standard input");
    // A command that does not read may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn ended(folder: &Path, args: &[&str], input: &str, code: i32) -> (String, String) {
    let output = sluice(folder, args, input);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
    (out.into_owned(), err.into_owned())
}

#[test]
fn a_node_joins_a_cluster_by_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("sluice.toml"), "# mine\nlog = \"warn\" # quiet\n").unwrap();
    let config = ["--config", "sluice.toml"];
    let command = |args: &[&'static str]| -> Vec<&'static str> { [args, &config].concat() };

    let join = ["mode", "cluster", "10.0.0.5,10.0.0.6:27018", "media", "-", "--advertise-host", "10.0.0.9"];
    let (out, _) = ended(folder, &command(&join), "pass word\n", 0);
    assert!(out.contains("cluster-key") && !out.contains("pass word"), "{out}");
    let text = std::fs::read_to_string(folder.join("sluice.toml")).unwrap();
    assert!(text.starts_with("# mine\nlog = \"warn\" # quiet\n"), "{text}");
    assert!(text.contains("store = \"mongodb://10.0.0.5,10.0.0.6:27018/\""), "{text}");

    let (out, _) = ended(folder, &command(&["config", "check"]), "", 0);
    assert_eq!(out, "the configuration is right\n");
    let (out, _) = ended(folder, &command(&["config", "print"]), "", 0);
    let key = std::fs::read_to_string(folder.join("cluster-key")).unwrap();
    assert!(!out.contains("pass word") && !out.contains(key.trim()) && !out.contains("10.0.0.5"), "{out}");
    let (out, _) = ended(folder, &command(&["mode"]), "", 0);
    assert!(out.contains("cluster (mongodb)") && out.contains("10.0.0.9"), "{out}");

    let (_, err) = ended(folder, &command(&["mode", "cluster", "redis://h"]), "", 2);
    assert!(err.contains("Redis"), "{err}");
    assert_eq!(std::fs::read_to_string(folder.join("sluice.toml")).unwrap(), text);
    let files = ["--cluster-cert", "none.pem", "--cluster-cert-key", "none.pem", "--cluster-ca", "none.pem"];
    let (_, err) = ended(folder, &command(&[&["config", "check"][..], &files].concat()), "", 2);
    assert!(err.contains("none.pem"), "{err}");
    ended(folder, &command(&["mode", "standalone"]), "", 0);
    let (out, _) = ended(folder, &command(&["mode"]), "", 0);
    assert!(out.starts_with("mode       standalone"), "{out}");
}

#[test]
fn settings_of_another_server_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(
        folder.join("red5.properties"),
        "server.mode=origin\ndb.type=mongodb\ndb.host=h1:27017,\\\n  h2\ndb.options=replicaSet=rs\nhls.time=3\n\
         cluster.node.id=o1\nencoder.gpu.enabled=true\nsomething.else=1\n",
    )
    .unwrap();
    let import = ["config", "import", "red5.properties", "-o", "sluice.toml"];
    let (_, err) = ended(folder, &import, "", 0);
    assert!(err.contains("red5.properties:8: encoder.gpu.enabled: this version does not transcode"), "{err}");
    assert!(err.contains("red5.properties:9: something.else: not known"), "{err}");
    let (out, _) = ended(folder, &["config", "print", "--config", "sluice.toml"], "", 0);
    assert!(out.contains("node_id = \"o1\"") && out.contains("hls_segment_time = \"3\""), "{out}");
    let (_, err) = ended(folder, &import, "", 2);
    assert!(err.contains("--force"), "{err}");
}

#[test]
fn the_options_of_another_container_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    // Without a cluster key it is refused, which shows that the options arrived.
    let (_, err) = ended(folder.path(), &["-m", "cluster", "-h", "mongo", "-u", "u", "-p", "hidden"], "", 2);
    assert!(err.contains("SLUICE_CLUSTER_KEY") && !err.contains("hidden"), "{err}");
    let (_, err) = ended(folder.path(), &["-m", "cluster"], "", 2);
    assert!(err.contains("-h HOST"), "{err}");
    let (out, _) = ended(folder.path(), &["-h"], "", 0);
    assert!(out.contains("Usage:"), "{out}");
}

#[test]
fn draining_a_node_that_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (_, err) = ended(folder.path(), &["drain", "--url", &url], "", 1);
    assert!(err.contains("cannot reach the node at 127.0.0.1:"), "{err}");
    let (_, err) = ended(folder.path(), &["drain", "--url", "https://h"], "", 2);
    assert!(err.contains("only http://"), "{err}");
}
