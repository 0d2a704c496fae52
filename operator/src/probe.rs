//! `sluice-operator probe URL`: whether an operator answers at its Service; what `helm test` runs.

use std::time::Duration;

use http::{Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// One attempt takes no longer than this.
const ATTEMPT: Duration = Duration::from_secs(5);
/// A Service leads to a new pod some moments after it is ready.
const PAUSE: Duration = Duration::from_millis(500);

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The URL is none that can be asked.
    #[error("{0:?} is no URL of the form http://HOST[:PORT]/PATH")]
    Url(String),
    /// It did not answer 200 in time.
    #[error("{url} did not answer 200 within {within:?}: {last}; look at the operator's logs")]
    Late {
        /// What was asked.
        url: String,
        /// For how long.
        within: Duration,
        /// What the last attempt came to.
        last: String,
    },
}

/// Asks until the answer is 200.
///
/// # Errors
/// The URL is wrong, or the answer is another one for as long as `within`.
pub async fn probe(url: &str, within: Duration) -> Result<(), ProbeError> {
    let wrong = || ProbeError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(wrong)?;
    let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    let end = Instant::now() + within;
    loop {
        let last = match timeout(ATTEMPT, ask(&address, &uri)).await {
            Ok(Ok(StatusCode::OK)) => return Ok(()),
            Ok(Ok(status)) => format!("it answers {status}"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {ATTEMPT:?}"),
        };
        if Instant::now() >= end {
            return Err(ProbeError::Late { url: url.to_owned(), within, last });
        }
        sleep(PAUSE).await;
    }
}

async fn ask(address: &str, uri: &Uri) -> Result<StatusCode, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(header::HOST, address).body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?.status())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn goes_on_asking_until_the_answer_is_200() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/readyz", listener.local_addr().expect("its address"));
        let server = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in ["503 Service Unavailable", "200 OK"] {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut buffer = [0; 1024];
                let read = stream.read(&mut buffer).await.expect("a request");
                asked.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
                let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.expect("an answer");
            }
            asked
        });
        probe(&url, Duration::from_secs(20)).await.expect("the second answer is 200");
        let asked = server.await.expect("the server ends");
        assert!(asked.iter().all(|request| request.starts_with("GET /readyz HTTP/1.1\r\n")), "{asked:?}");
    }

    #[tokio::test]
    async fn says_what_is_wrong() {
        for url in ["", "readyz", "https://127.0.0.1/", "http://"] {
            assert!(matches!(probe(url, Duration::ZERO).await, Err(ProbeError::Url(_))), "{url}");
        }
        let closed =
            TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its address");
        let error = probe(&format!("http://{closed}/"), Duration::ZERO).await.expect_err("nobody listens");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
