//! Servers of all kinds, good and bad.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

/// Answers each connection with the next of these texts, in which `{at}` is its own address; gives what it was asked.
async fn serve(answers: Vec<String>) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let (tell, asked) = mpsc::unbounded_channel();
    let own = at.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !whole(&request) {
                let n = stream.read(&mut buffer).await.unwrap();
                request.extend_from_slice(&buffer[..n]);
            }
            let _ = tell.send(String::from_utf8_lossy(&request).into_owned());
            let _ = stream.write_all(answer.replace("{at}", &own).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (at, asked)
}

/// Whether a request has all of its body.
fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

const CREATED: &str = "content-type: application/sdp\r\nlocation: /session/1\r\n";

async fn offer(url: &str) -> Result<Answer, CallError> {
    Http::default().offer(&Endpoint::parse(url, Kind::Whep).unwrap(), "v=0 offer").await
}

#[tokio::test]
async fn an_offer_is_answered_and_the_session_ended() {
    let created = answer("201 Created", CREATED, "v=0 answer");
    let gone = answer("200 OK", "", "");
    let (at, mut asked) = serve(vec![created, gone]).await;
    let http = Http::default();
    let endpoint = Endpoint::parse(&format!("whep://{at}/cam1?a=b&token=secret"), Kind::Whep).unwrap();
    let answer = http.offer(&endpoint, "v=0 offer").await.unwrap();
    assert_eq!(
        (answer.sdp.as_str(), answer.peer.to_string(), answer.host.as_str()),
        ("v=0 answer", at.clone(), at.as_str())
    );
    let request = asked.recv().await.unwrap().to_lowercase();
    for part in [
        "post /cam1?a=b http/1.1",
        "content-type: application/sdp",
        "authorization: bearer secret",
        &format!("host: {at}"),
        "\r\n\r\nv=0 offer",
    ] {
        assert!(request.contains(part), "no {part:?} in {request:?}");
    }
    http.end(answer.resource.expect("a session")).await.unwrap();
    let request = asked.recv().await.unwrap().to_lowercase();
    assert!(
        request.starts_with("delete /session/1 http/1.1") && request.contains("bearer secret"),
        "{request}"
    );
}

#[tokio::test]
async fn redirects_are_followed_and_not_for_ever() {
    let away = answer("307 Temporary Redirect", "location: http://{at}/there\r\n", "");
    let for_good = answer("308 Permanent Redirect", "location: elsewhere/2\r\n", "");
    let created = answer("201 Created", CREATED, "v=0");
    let (at, mut asked) = serve(vec![away.clone(), for_good, created]).await;
    assert!(offer(&format!("whep://{at}/cam1")).await.is_ok());
    let mut paths = Vec::new();
    while let Ok(request) = asked.try_recv() {
        paths.push(request.split(' ').nth(1).unwrap().to_owned());
    }
    assert_eq!(paths, ["/cam1", "/there", "/elsewhere/2"]);
    let (at, _asked) = serve(vec![away; 5]).await;
    let error = offer(&format!("whep://{at}/cam1")).await.unwrap_err();
    assert!(matches!(&error, CallError::Redirect { why, .. } if why.contains("3 times")), "{error}");
    for (headers, why) in [("", "Location"), ("location: file:///etc/passwd\r\n", "neither http")] {
        let (at, _asked) = serve(vec![answer("307 x", headers, "")]).await;
        let error = offer(&format!("whep://{at}/cam1")).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn refusals_say_what_the_server_says() {
    for (status, body, said) in [
        ("401 Unauthorized", "", "401 Unauthorized"),
        ("404 Not Found", "no such stream\nsecond line", "404 Not Found: \"no such stream\""),
        ("406 Not Acceptable", "v=0", "406"),
        ("200 OK", "v=0", "200 OK"),
        ("500 x", "\u{1b}[31mred\u{7}", "[31mred\""),
    ] {
        let (at, _asked) = serve(vec![answer(status, "", body)]).await;
        let error = offer(&format!("whep://{at}/x")).await.unwrap_err().to_string();
        assert!(error.contains(said) && error.contains(&at), "{error}");
    }
}

#[tokio::test]
async fn garbage_and_silence_are_errors() {
    let long = "x".repeat(70_000);
    for (reply, why) in [
        ("hello".to_owned(), "HTTP"),
        (String::new(), "HTTP"),
        (answer("201 Created", "content-type: text/html\r\n", "<html>"), "text/html"),
        (answer("201 Created", "", "v=0"), "application/sdp"),
        (answer("201 Created", CREATED, &long), "limit"),
        (
            "HTTP/1.1 201 Created\r\ncontent-type: application/sdp\r\ncontent-length: 50\r\n\r\nv=0".into(),
            "HTTP",
        ),
    ] {
        let (at, _asked) = serve(vec![reply]).await;
        let error = offer(&format!("whep://{at}/x")).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error} should say {why}");
    }
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = offer(&format!("whep://{free}/x")).await.unwrap_err();
    assert!(matches!(error, CallError::Connect { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let error = offer(&format!("whep://{at}/x")).await.unwrap_err();
    assert!(matches!(error, CallError::Slow { within, .. } if within == Duration::from_secs(10)), "{error}");
}
