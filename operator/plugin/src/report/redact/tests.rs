//! A secret that is planted anywhere where secrets stand never gets into an archive.

use std::io::Read;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::report::archive::Archive;

/// All bytes of an archive: names and contents of its files.
fn archived(parts: &[Clean]) -> Vec<u8> {
    let mut archive = Archive::new(Vec::new(), "report", 0);
    for (index, part) in parts.iter().enumerate() {
        archive.add(&["things", &format!("{index}.json")], part).unwrap();
    }
    let packed = archive.finish().unwrap();
    let mut tar = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut tar).unwrap();
    let mut all = Vec::new();
    let mut files = 0;
    for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        all.extend_from_slice(entry.path().unwrap().to_string_lossy().as_bytes());
        entry.read_to_end(&mut all).unwrap();
        files += 1;
    }
    assert_eq!(files, parts.len());
    all
}

fn holds(all: &[u8], secret: &str) -> bool {
    all.windows(secret.len()).any(|window| window == secret.as_bytes())
}

/// The objects and logs of a cluster whose every secret is `secret`, in the forms that are known without knowing it.
fn cluster(secret: &str) -> Vec<Value> {
    let base64 = STANDARD.encode(secret);
    let applied = json!({
        "kind": "OriginPool",
        "spec": { "podTemplate": { "env": [{ "name": "UPLOAD_SECRET_ACCESS_KEY", "value": secret }] } },
    });
    let manifest =
        json!({ "kind": "Secret", "data": { "uri": base64 }, "stringData": { "anything": secret } });
    vec![
        json!({
            "kind": "MediaCluster",
            "metadata": {
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": applied.to_string(),
                    "tool.example/copy": json!({ "items": [manifest.to_string()] }).to_string(),
                    "example.com/api-token": secret,
                },
                "managedFields": [{ "manager": secret }],
            },
            "spec": {
                "apps": [{ "name": "live", "settings": {
                    "jwtStreamSecretKey": secret,
                    "webhookAuth": { "password": secret },
                    "subscriberTokens": { "alice": secret },
                    "listenerHookURL": format!("https://user:{secret}@hooks.example/x"),
                    "hlsHeaders": [{ "name": "X-Auth-Token", "value": secret }],
                } }],
            },
        }),
        json!({
            "kind": "Pod",
            "spec": { "containers": [{
                "command": ["side", "--admin-token", secret, "--port", "80"],
                "args": [format!("--password={secret}"), format!("-u=https://x:{secret}@y/")],
                "env": [
                    { "name": "STORE_PASSWORD", "value": secret },
                    { "name": "STORE_URI", "value": format!("mongodb://sluice:{secret}@db:27017/?tls=true") },
                    { "name": "EXTRA", "value": format!("a=1 token={secret}") },
                ],
            }] },
        }),
        json!({
            "kind": "ConfigMap",
            "data": {
                "node.toml": format!(
                    "role = \"origin\"\ncluster_key = \"{secret}\"\n[x]\nadmin_token='{secret}'\nstore = \"mongodb://a:{secret}@h/\"\n"
                ),
                "side.yaml": format!("auth:\n  user: a\n  password: {secret}\n  other: |\n    x\n  passphrase: |\n    {secret}\n    {secret}\n"),
                "side.json": json!({ "db": { "password": secret } }).to_string(),
                "key.pem": format!("-----BEGIN RSA PRIVATE KEY-----\n{secret}\n-----END RSA PRIVATE KEY-----\n"),
                "api-key": secret,
            },
        }),
        json!({
            "kind": "EventList",
            "items": [{ "message": format!("cannot reach mongodb://u:{secret}@h: timeout") }],
        }),
    ]
}

fn log(secret: &str) -> String {
    let stamp = "2026-01-01T00:00:00.123456789Z";
    [
        format!("{stamp} INFO store at mongodb+srv://u:{secret}@db.example/x"),
        format!("{stamp} DEBUG GET /live/play.m3u8?token={secret}&id=3 from 10.0.0.1"),
        format!("{stamp} DEBUG GET /live/play.m3u8?id=3&key={secret} from 10.0.0.1"),
        format!("{stamp} DEBUG headers: {{\"authorization\": \"Bearer {secret}\", \"accept\": \"*/*\"}}"),
        format!("{stamp} Authorization: Basic {secret}"),
        format!("{stamp} Cookie: a=b; c={secret}"),
        format!("{stamp} sent Bearer {secret} to the hook"),
        format!(
            "{stamp} {}",
            json!({ "level": "INFO", "fields": { "message": format!("token={secret}"), "password": secret } })
        ),
        format!(
            "{stamp} {}",
            json!({ "fields": { "message": json!({ "adminToken": secret }).to_string() } })
        ),
        format!("{stamp} ERROR refused {}", json!(format!("{{\"admin_token\":\"{secret}\"}}"))),
        format!("{stamp} Settings {{ admin_token: Some(\"{secret}\"), port: 5080 }}"),
        format!("{stamp} ran side --api-key {secret} --verbose"),
        format!("{stamp} -----BEGIN PRIVATE KEY-----"),
        format!("{stamp} {secret}"),
        format!("{stamp} -----END PRIVATE KEY-----"),
        format!("{stamp} the end"),
    ]
    .join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_planted_secret_never_gets_in(secret in "[A-Za-z0-9]{6}[A-Za-z0-9+/_.~!$*()-]{6,24}[A-Za-z0-9]{2}") {
        let redactor = Redactor::new([]);
        let mut parts: Vec<Clean> = cluster(&secret).iter().map(|object| redactor.json(object)).collect();
        parts.push(redactor.log(&log(&secret)));
        parts.push(redactor.text(&log(&secret)));
        for part in &parts {
            prop_assert!(!part.as_str().contains(&secret), "{}", part.as_str());
        }
        let all = archived(&parts);
        prop_assert!(!holds(&all, &secret));
        prop_assert!(!holds(&all, &STANDARD.encode(&secret)));
        prop_assert!(holds(&all, "the end"), "what is no secret stays");
    }

    #[test]
    fn a_secret_that_is_known_gets_in_nowhere_in_no_form(
        secret in "\\PC{8,40}",
        before in "[a-z ]{0,10}",
        after in "[a-z ]{0,10}",
    ) {
        let uri = format!("mongodb://u:{}@db/", percent(&secret));
        let redactor = Redactor::new([("password", secret.as_bytes()), ("uri", uri.as_bytes())]);
        let forms = [
            secret.clone(),
            percent(&secret),
            escaped(&secret),
            STANDARD.encode(&secret),
            URL_SAFE_NO_PAD.encode(&secret),
        ];
        for form in forms {
            let text = format!("{before}{form}{after}");
            let parts = [
                redactor.text(&text),
                redactor.log(&text),
                redactor.json(&json!({ "message": text, text.clone(): 1, "list": [text], "x": { "y": text } })),
            ];
            let all = archived(&parts);
            prop_assert!(!holds(&all, &form), "{form:?} in {:?}", String::from_utf8_lossy(&all));
        }
    }

    #[test]
    fn any_text_and_log_are_taken(text in any::<String>()) {
        let redactor = Redactor::new([("k", text.as_bytes())]);
        archived(&[redactor.text(&text), redactor.log(&text), redactor.json(&json!({ text.clone(): text }))]);
    }
}

#[test]
fn what_is_needed_for_support_stays() {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "demo-origin-0", "labels": { "sluice.dev/pool": "demo-origin", "sluice.dev/accepting": "true" } },
        "spec": {
            "automountServiceAccountToken": false,
            "imagePullSecrets": [{ "name": "registry" }],
            "containers": [{
                "image": "ghcr.io/sluice-media/sluice-node:0.1.0",
                "args": ["run", "--config", "/etc/sluice/node.toml"],
                "env": [
                    { "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                    { "name": "SLUICE_ADMIN_TOKEN_FILE", "value": "/etc/sluice/secrets/admin-token" },
                ],
                "resources": { "requests": { "cpu": "50m", "nvidia.com/gpu": 1 } },
            }],
            "topologySpreadConstraints": [{ "topologyKey": "kubernetes.io/hostname", "maxSkew": 1 }],
            "tolerations": [{ "key": "nvidia.com/gpu", "operator": "Exists" }],
            "volumes": [
                { "name": "secrets", "projected": { "sources": [
                    { "secret": { "name": "demo-cluster-key", "items": [{ "key": "key", "path": "cluster-key" }] } },
                    { "serviceAccountToken": { "audience": "x", "expirationSeconds": 3600, "path": "token" } },
                ] } },
                { "name": "cert", "secret": { "secretName": "cert", "optional": true } },
            ],
        },
        "status": { "phase": "Running", "podIP": "10.200.0.7" },
    });
    let clean: Value = serde_json::from_str(Redactor::new([]).json(&pod).as_str()).unwrap();
    assert_eq!(clean, pod);
    let cluster = json!({
        "kind": "MediaCluster",
        "spec": {
            "database": { "mode": "External", "external": { "secret": { "name": "demo-database", "key": "uri" } } },
            "security": { "clusterKey": { "name": "mine", "key": "k" }, "networkPolicy": "Enabled" },
            "image": { "pullSecrets": [{ "name": "pull" }] },
        },
    });
    let clean: Value = serde_json::from_str(Redactor::new([]).json(&cluster).as_str()).unwrap();
    assert_eq!(clean, cluster);
}

#[test]
fn names_of_users_and_certificates_are_not_looked_for() {
    let redactor =
        Redactor::new([("username", &b"sluice"[..]), ("password", b"sluice-pass"), ("short", b"abc")]);
    assert_eq!(redactor.text("user sluice of abc").as_str(), "user sluice of abc");
    assert_eq!(redactor.text("with sluice-pass").as_str(), "with (redacted)");
}

#[test]
fn a_registrys_credentials_are_known_one_by_one() {
    let config =
        json!({ "auths": { "ghcr.io": { "username": "me", "password": "gh-12345", "auth": "bWU6Z2g=" } } });
    let redactor = Redactor::new([(".dockerconfigjson", config.to_string().as_bytes())]);
    assert_eq!(
        redactor.text("pull with gh-12345 or bWU6Z2g=").as_str(),
        "pull with (redacted) or (redacted)"
    );
}

#[test]
fn texts_in_texts_end_somewhere() {
    let mut value = json!({ "deep": "x" });
    for _ in 0..DEEPEST + 2 {
        value = json!({ "in": value.to_string() });
    }
    let clean = Redactor::new([]).json(&value);
    assert!(clean.as_str().contains(MARK), "{}", clean.as_str());
}
