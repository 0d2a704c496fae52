//! HTTPS, HTTP/2 and RTMPS with certificate files that change; IPv6 and the dual stack.

mod support;

use std::path::Path;
use std::time::Duration;

use support::*;

/// Writes a self-signed certificate for localhost and its key.
fn certify(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).expect("a key file");
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).expect("a certificate file");
}

#[test]
fn https_with_http2_and_rtmps_follow_the_certificate_files() {
    let temp = tempfile::tempdir().expect("a folder");
    let dir = temp.path();
    certify(dir);
    let file = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let (https, rtmps) = (port(), port());
    let node = Node::start_with(&[
        ("SLUICE_TLS_CERT", &cert),
        ("SLUICE_TLS_KEY", &key),
        ("SLUICE_HTTPS_ADDR", &format!("127.0.0.1:{https}")),
        ("SLUICE_RTMPS_ADDR", &format!("127.0.0.1:{rtmps}")),
    ]);
    let _ffmpeg = publish(&format!("rtmps://127.0.0.1:{rtmps}/LiveApp/cam1"), &[]);
    // A certificate that names no address: curl checks it for localhost and connects there.
    let url = format!("https://localhost:{https}/LiveApp/streams/cam1.m3u8");
    let fetch = |version: &str| {
        http(&url, &["--cacert", &cert, "--resolve", &format!("localhost:{https}:127.0.0.1"), version])
    };
    wait_for(Duration::from_secs(15), "the playlist over HTTPS", || fetch("--http2").status == 200);
    assert!(fetch("--http2").head.starts_with("http/2 200"));
    assert!(fetch("--http1.1").head.starts_with("http/1.1 200"));

    certify(dir);
    // curl trusts nothing but the new one now.
    wait_for(Duration::from_secs(15), "the new certificate", || fetch("--http2").status == 200);
    // The publisher was not cut.
    assert_eq!(broadcast(&node, "cam1").json()["status"], "broadcasting");
}

#[test]
fn any_address_means_ipv4_and_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let (any, dual) = (port(), port());
    let temp = tempfile::tempdir().expect("a folder");
    let rtmp = port();
    let node = Node::start_in(
        temp.path(),
        (any, rtmp),
        &[
            ("SLUICE_HTTP_ADDR", &format!("0.0.0.0:{any},[::1]:{dual}")),
            ("SLUICE_RTMP_ADDR", &format!("[::]:{rtmp}")),
        ],
    );
    for url in
        [format!("http://127.0.0.1:{any}"), format!("http://[::1]:{any}"), format!("http://[::1]:{dual}")]
    {
        assert_eq!(status(&format!("{url}/healthz")), 200, "{url}");
        // This machine over IPv6 is this machine.
        assert_eq!(status(&format!("{url}/rest/v2/system-resources")), 200, "{url}");
    }
    let _ffmpeg = publish(&format!("rtmp://[::1]:{rtmp}/LiveApp/cam6"), &[]);
    wait_for(Duration::from_secs(10), "the stream", || broadcast(&node, "cam6").status == 200);
    assert!(packets(&node.rtmp("/LiveApp/cam6"), 1) >= 20);
}
