use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a run cannot begin, or why one client of it gave up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0:?} is not an address for this command: {1}")]
    Url(String, &'static str),
    #[error("cannot resolve {0}: {1}")]
    Resolve(String, io::Error),
    #[error(
        "{0} is not a loopback address: load goes to this machine only, unless --allow-remote says that the other one is yours"
    )]
    Remote(std::net::IpAddr),
    #[error(
        "--places are addresses of this machine's loopback network, and {0} cannot be reached from there: use 127.0.0.1"
    )]
    Places(std::net::IpAddr),
    #[error("{clients} publishers need an address with {{n}} in it, so that each has a stream of its own")]
    SameStream { clients: usize },
    #[error("cannot read {0}: {1}")]
    File(PathBuf, io::Error),
    #[error("{0} cannot be published: {1}")]
    Source(PathBuf, String),
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    #[error(transparent)]
    Rtmp(#[from] sluice_rtmp::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server ended the stream: {0}")]
    Ended(String),
    #[error("the server did not {0} within {1:?}")]
    Timeout(&'static str, Duration),
    /// A publisher that was let in ended.
    #[error("while it published: {0}")]
    Session(Box<Error>),
    #[error("a request failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("{0} is not a path that can be asked for")]
    Path(String),
    #[error("GET {1} was answered with {0}")]
    Status(hyper::StatusCode, String),
    #[error("GET {0} was answered with more than {1} bytes")]
    TooLong(String, usize),
    #[error("{0} {2} was answered with {1}: {3}")]
    Refused(&'static str, hyper::StatusCode, String, String),
    #[error("the server's session description cannot be used: {0}")]
    Answer(String),
    #[error("{0}")]
    Rtc(String),
    #[error("{0}")]
    Playlist(String),
    #[error("process {0} cannot be measured: {1}")]
    Process(u32, io::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a report cannot be read or written: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Bench(String),
}
